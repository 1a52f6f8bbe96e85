//! Globs over paths of a tree, as plans write them: `*` stays inside one folder, `**` crosses folders, and a pattern that
//! ends in a slash means everything below.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use globset::{GlobSet, GlobSetBuilder};
use swarm_plans::glob::{self, GlobError};

/// A pattern that is no glob.
#[derive(Debug, thiserror::Error)]
#[error("read the glob {pattern:?}: {source}")]
pub struct BadGlob {
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub source: GlobError,
}

/// A compiled list of globs; matches when any of them does.
#[derive(Debug, Clone)]
pub struct PathGlobs {
    set: GlobSet,
}

impl PathGlobs {
    /// Compiles patterns; an empty list matches nothing.
    ///
    /// # Errors
    /// [`BadGlob`] names the first pattern that is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadGlob> {
        let mut builder = GlobSetBuilder::new();
        let bad = |pattern: &str, source: GlobError| BadGlob { pattern: pattern.to_owned(), source };
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let whole = swarm_plans::scope::whole_glob(pattern);
            builder.add(glob::compile(&whole).map_err(|error| bad(pattern, error))?);
        }
        Ok(PathGlobs { set: builder.build().map_err(|error| bad("all of them together", error.into()))? })
    }

    /// Whether a path (components separated by `/`, any bytes) matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.set.is_match(Path::new(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &[u8], expected: bool) {
        let globs = PathGlobs::new(&[pattern]).expect("a glob of the test");
        assert_eq!(globs.matches(path), expected, "{pattern} on {}", path.escape_ascii());
    }

    #[test]
    fn a_star_stays_inside_a_folder() {
        check("src/*.rs", b"src/a.rs", true);
        check("src/*.rs", b"src/a/b.rs", false);
    }

    #[test]
    fn two_stars_cross_folders_and_bytes_need_no_encoding() {
        check("crates/x/**", b"crates/x/a/\xff.rs", true);
        check("crates/x/**", b"crates/xy/a", false);
        check("crates/x/", b"crates/x/a/b", true);
        check("**", b"a\nb", true);
    }

    #[test]
    fn what_is_no_glob_is_named() {
        assert_eq!(PathGlobs::new(&["a", "b["]).expect_err("unclosed").pattern, "b[");
        let deep = format!("{}a{}", "{".repeat(8000), "}".repeat(8000));
        let why = PathGlobs::new(&[&deep]).expect_err("too deep").source.to_string();
        assert_eq!(why, "more than 16 braces lie within each other");
    }
}
