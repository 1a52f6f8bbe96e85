//! Globs over paths of a tree, compiled: `*` stays inside one folder, `**` crosses folders. The only place where the plan language
//! and those who act on it make one.

use globset::GlobBuilder;
use swarm_protocol::glob_bounds::{self, TooLarge};

/// Why a text is no glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It is larger than any glob that is compiled.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It does not parse.
    #[error("{}", .0.kind())]
    Syntax(#[from] globset::Error),
}

/// Compiles a glob over paths.
///
/// # Errors
/// [`GlobError`], which says what is wrong and not with which text.
pub fn compile(pattern: &str) -> Result<globset::Glob, GlobError> {
    glob_bounds::check(pattern)?;
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_within_braces_are_bounded_and_what_is_bounded_can_be_matched() {
        let nested = |n: usize| format!("{}a{}", "{".repeat(n), "}".repeat(n));
        assert!(compile(&nested(16)).expect("a glob").compile_matcher().is_match("a"));
        for n in [17, 200, 8000] {
            assert_eq!(compile(&nested(n)), Err(GlobError::TooLarge(TooLarge::Nested)), "{n}");
        }
        assert_eq!(compile("a[").expect_err("unclosed").to_string(), "unclosed character class; missing ']'");
    }
}
