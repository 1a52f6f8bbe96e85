//! How large a glob may be. Whoever compiles one that a model, a plan or an agent wrote asks here first: globset drops braces
//! within braces by recursion, and its matcher panics where a glob becomes too large for a regular expression.
//!
//! Braces are counted as globset reads them. Source: globset, `glob.rs`, `Parser`.

use std::io;

/// Braces within each other. globset overflows the 2 MiB of a thread's stack before 20,000 of them, and has no matcher from 200 on.
pub const NESTING_MAX: usize = 16;
/// The longest glob, in bytes; no path is longer than a fourth of it. A matcher of a glob of 1 MB is none.
pub const GLOB_BYTES_MAX: usize = 16 << 10;

/// Why a glob is not compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Of braces.
    #[error("more than {NESTING_MAX} braces lie within each other")]
    Nested,
    /// Of bytes.
    #[error("it is longer than {GLOB_BYTES_MAX} bytes")]
    Long,
}

/// Whether a glob may be compiled; that it is one is for whoever compiles it.
///
/// # Errors
/// [`TooLarge`].
pub fn check(glob: &str) -> Result<(), TooLarge> {
    if glob.len() > GLOB_BYTES_MAX {
        return Err(TooLarge::Long);
    }
    let mut open = 0_usize;
    let mut letters = glob.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '[' => {
                // The first bracket within is a letter like others.
                letters.next_if(|&letter| matches!(letter, '!' | '^'));
                letters.next();
                letters.by_ref().find(|&letter| letter == ']');
            }
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > NESTING_MAX {
            return Err(TooLarge::Nested);
        }
    }
    Ok(())
}

/// Whether globs may be made of the lists of what git ignores in a folder, by whoever walks through it. `read` gives a list by its
/// name, and `None` where no file stands there; one that cannot be read may not be used either.
pub fn are_lists_bounded(read: impl Fn(&str) -> Option<io::Result<Vec<u8>>>) -> bool {
    let mut lists = [".gitignore", ".ignore"].into_iter().filter_map(read);
    lists.all(|list| list.is_ok_and(|list| are_bounded(&list)))
}

/// All braces of a line count: here, a bracket that nothing closes is a letter like others.
fn are_bounded(file: &[u8]) -> bool {
    let braces = |line: &[u8]| line.iter().filter(|&&byte| byte == b'{').count();
    file.split(|&byte| byte == b'\n').all(|line| line.len() <= GLOB_BYTES_MAX && braces(line) <= NESTING_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_too_deep_or_is_too_long_is_refused() {
        let nested = |n: usize| format!("{}a{}", "{a,".repeat(n), "}".repeat(n));
        assert_eq!(check(&nested(NESTING_MAX)), Ok(()));
        for deep in [nested(NESTING_MAX + 1), "{".repeat(60_000 / 4), "[}]{".repeat(17), "\\}{".repeat(17)] {
            assert_eq!(check(&deep), Err(TooLarge::Nested), "{deep}");
        }
        for flat in
            ["{a,b}".repeat(1000), "[{]".repeat(100), "\\{".repeat(100), "[]{]".repeat(100), "[!]{]".repeat(100)]
        {
            assert_eq!(check(&flat), Ok(()), "{flat}");
        }
        assert!(are_lists_bounded(|_| None));
        assert!(!are_lists_bounded(|name| (name == ".ignore").then(|| Err(io::ErrorKind::PermissionDenied.into()))));
        assert!(are_bounded(b"target\n*.{a,b}\n".repeat(100).as_slice()));
        assert!(!are_bounded(format!("a\n[{}\n", nested(17)).as_bytes()));
        assert_eq!(check(&"a".repeat(GLOB_BYTES_MAX)), Ok(()));
        assert_eq!(check(&"a".repeat(GLOB_BYTES_MAX + 1)), Err(TooLarge::Long));
    }
}
