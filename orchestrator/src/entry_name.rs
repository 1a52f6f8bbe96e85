//! Which names may stand in a tree: what git's own fsck and checkout refuse on any system is refused here on every system,
//! because a branch made on Linux is checked out on others.
//!
//! Source: git's `verify_path`, `is_hfs_dotgit` and `is_ntfs_dotgit`; their behaviour is described in git-config(1) under
//! `core.protectHFS` and `core.protectNTFS`.

use icu_normalizer::{DecomposingNormalizer, DecomposingNormalizerBorrowed};
pub use swarm_protocol::git_dir::is_git_dir;
use swarm_protocol::git_dir::{as_read_on_hfs, ends_on_ntfs, is_ntfs, without_ignorables};

/// Every accent as a code point of its own, in one order.
const DECOMPOSED: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizer::new_nfd();

/// Why a name is refused; a phrase for people.
pub type Refused = &'static str;

/// Files that steer git when they are checked out; a link in their place would let it read something else. Each with how the short
/// name begins that NTFS gives it where the plain ones are taken: two letters of its own, and a hash.
const STEERING_FILES: [(&str, &str); 4] =
    [MODULES_FILE, ATTRIBUTES_FILE, (".gitignore", "gi250a"), (".mailmap", "maba30")];
const MODULES_FILE: (&str, &str) = (".gitmodules", "gi7eba");
const ATTRIBUTES_FILE: (&str, &str) = (".gitattributes", "gi7d29");

/// Whether git takes a folder for a repository without a work tree, or for what a worktree has in one: whoever runs git inside of it
/// runs what its `config` says. `has` tells whether an entry of a name lies there, of whatever kind: what it is now it need not be when
/// git looks. Source: git's `is_git_directory`.
pub fn is_bare_repository(has: impl Fn(&str) -> bool) -> bool {
    has("HEAD") && (has("commondir") || has("objects") && has("refs"))
}

/// Judges one component of a path.
///
/// # Errors
/// The reason, for people. A name with a line feed is legal in git and passes: a base may hold it. What is new is judged by
/// [`crate::collect::rules::judge`], too.
pub fn check_component(name: &[u8]) -> Result<(), Refused> {
    if name.is_empty() {
        return Err("an empty name");
    }
    if name == b"." || name == b".." {
        return Err("a name that is a relative folder");
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Err("a name with a slash or a NUL in it");
    }
    if is_git_dir(name) {
        return Err("a name that some system reads as .git");
    }
    Ok(())
}

/// Judges every component of a path.
///
/// # Errors
/// As [`check_component`].
pub fn check_path(path: &[u8]) -> Result<(), Refused> {
    path.split(|&byte| byte == b'/').try_for_each(check_component)
}

/// Whether some file system takes the name for one of the files that steer git.
pub fn is_steering_file(name: &[u8]) -> bool {
    STEERING_FILES.iter().any(|&file| is_read_as(name, file))
}

/// Whether some file system takes the name for `.gitmodules`.
pub fn is_modules_file(name: &[u8]) -> bool {
    is_read_as(name, MODULES_FILE)
}

/// Whether some file system takes the name for `.gitattributes`.
pub fn is_attributes_file(name: &[u8]) -> bool {
    is_read_as(name, ATTRIBUTES_FILE)
}

/// Whether some file system takes the name for the file by which swarm knows its state folders.
pub fn is_state_marker(name: &[u8]) -> bool {
    widest(name) == folded(crate::state::MARKER.as_bytes())
}

/// Whether some file system takes the name for this one, given with the beginning of its hashed short form.
fn is_read_as(name: &[u8], (long, hashed): (&str, &str)) -> bool {
    as_read_on_hfs(name) == long.as_bytes()
        || name.split(|&byte| byte == b'\\').any(|piece| {
            is_ntfs(piece, long.as_bytes(), None)
                || is_short_name(piece, &long.as_bytes()[1..7])
                || is_hashed_short_name(piece, hashed.as_bytes())
        })
}

/// Whether NTFS may have given this short name to a file whose letters begin so: the first four that ask for one get it.
fn is_short_name(name: &[u8], start: &[u8]) -> bool {
    let Some((short, rest)) = name.split_at_checked(8) else { return false };
    short[..6].eq_ignore_ascii_case(start) && short[6] == b'~' && matches!(short[7], b'1'..=b'4') && ends_on_ntfs(rest)
}

/// Whether it is a short name with a hash in it: eight characters, of which a number behind a tilde takes the place of as many of the
/// `start` as it needs.
fn is_hashed_short_name(name: &[u8], start: &[u8]) -> bool {
    let Some((short, rest)) = name.split_at_checked(8) else { return false };
    let Some(tilde) = short.iter().position(|&byte| byte == b'~').filter(|&tilde| tilde <= 6) else { return false };
    let number = &short[tilde + 1..];
    short[..tilde].eq_ignore_ascii_case(&start[..tilde])
        && number[0] != b'0'
        && number.iter().all(u8::is_ascii_digit)
        && ends_on_ntfs(rest)
}

/// The form in which file systems without case compare names: one spelling of accents, too, as HFS+ and APFS do. Two names with
/// one form cannot live in one folder there.
pub fn folded(name: &[u8]) -> Vec<u8> {
    let folded = without_ignorables(name);
    if folded.is_ascii() {
        return folded;
    }
    match std::str::from_utf8(&folded) {
        Ok(text) => {
            // Up and down again: some letters have no capital of their own, so that `ſ` is `s` and `ß` is `ss`.
            let caseless = DECOMPOSED.normalize(text).to_uppercase().to_lowercase();
            DECOMPOSED.normalize(&caseless).into_owned().into_bytes()
        }
        Err(_) => folded,
    }
}

/// A name as the least careful of all systems reads it: without case, without what HFS+ drops, without what NTFS drops at the
/// end (dots, spaces, the name of a stream). For lists of names that are looked out for, never for what may stand in a tree.
pub fn widest(name: &[u8]) -> Vec<u8> {
    let mut name = folded(name);
    if let Some(stream) = name.iter().skip(1).position(|&byte| byte == b':') {
        name.truncate(stream + 1);
    }
    name.truncate(name.len() - name.iter().rev().take_while(|&&byte| byte == b'.' || byte == b' ').count());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_git_is_refused_in_every_spelling() {
        for name in [
            &b".git"[..],
            b".GIT",
            b".Git",
            b"git~1",
            b"GIT~1",
            b".git.",
            b".git ",
            b".git . .",
            b".git::$INDEX_ALLOCATION",
            b".git:x",
            b"git~1:x",
            b".git\\config",
            b"a\\.git",
            ".g\u{200c}it".as_bytes(),
            ".gi\u{feff}T".as_bytes(),
            b".git\xff",
        ] {
            assert!(check_component(name).is_err(), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert!(check_component(name).is_err(), "{}", name.escape_ascii());
        }
        assert!(check_path(b"a/../b").is_err() && check_path(b"a//b").is_err() && check_path(b"a/.git/x").is_err());
    }

    #[test]
    fn ordinary_and_odd_names_pass() {
        for name in
            [&b".gitignore"[..], b".github", b"git", b"git~2", b"a\nb", b"\xff\xfe", b"...", b".git-blame", b"a b "]
        {
            assert_eq!(check_component(name), Ok(()), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn the_mark_of_a_state_folder_is_known_in_every_spelling() {
        assert!(
            [&b"SWARM-STATE"[..], b"swarm-state", b"Swarm-State.", b"SWARM-STATE:x"].iter().all(|n| is_state_marker(n))
        );
        assert!(![&b"SWARM-STATE.md"[..], b"SWARM_STATE", b"swarm"].iter().any(|name| is_state_marker(name)));
    }

    #[test]
    fn files_that_steer_git_are_known_in_every_spelling() {
        for name in [&b".gitmodules"[..], b".GITMODULES", b"gitmod~1", b".gitmodules .", b".gitattributes", b".mailmap"]
        {
            assert!(is_steering_file(name), "{}", name.escape_ascii());
        }
        assert!(!is_steering_file(b"gitmodules") && !is_steering_file(b"gitmod~9"));
    }

    /// All of them are what git-fsck(1) of version 2.47 takes for these files, or not.
    #[test]
    fn short_names_of_ntfs_are_known_with_and_without_a_hash() {
        for name in [
            "gitmod~4",
            "GI7EBA~1",
            "gi7eba~9",
            "gi7eb~10",
            "gi7e~123",
            "gi~12345",
            "~1000000",
            "gi7eba~1. :x",
            "x\\gi7eba~1",
        ] {
            assert!(is_modules_file(name.as_bytes()), "{name}");
        }
        for name in
            ["gitmod~5", "gi7eba~0", "gi7eba~1x", "gi7eb~01", "gi7ebax1", "gi8~1234", "gi7eba~", "gi7d29~1", "~100000"]
        {
            assert!(!is_modules_file(name.as_bytes()), "{name}");
        }
        assert!(is_modules_file(b".gitmodules\xff") && is_modules_file(".gitmodules\u{fffe}x".as_bytes()));
        assert!(is_attributes_file(b"gi7d29~1") && is_attributes_file(b"gitatt~1") && !is_attributes_file(b"gi7eba~1"));
        assert!(is_steering_file(b"gi250a~1") && is_steering_file(b"maba30~1") && is_steering_file(b"mailma~2"));
    }

    #[test]
    fn the_widest_reading_is_what_any_system_may_open() {
        for (name, read) in [
            (".ENVRC", ".envrc"),
            ("Build.rs. .", "build.rs"),
            ("build.rs::$DATA", "build.rs"),
            (".vs\u{200d}code", ".vscode"),
            (":x", ":x"),
            ("..", ""),
        ] {
            assert_eq!(String::from_utf8(widest(name.as_bytes())).unwrap(), read, "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_fold_together() {
        assert_eq!(folded(b"ReadMe"), folded(b"README"));
        assert_eq!(folded("Ärger".as_bytes()), folded("ärger".as_bytes()));
        for (one, other) in [
            ("\u{e9}t\u{e9}", "E\u{301}te\u{301}"),
            ("me\u{17f}\u{17f}e", "MESSE"),
            ("\u{df}", "ss"),
            ("\u{fb01}", "fi"),
        ] {
            assert_eq!(folded(one.as_bytes()), folded(other.as_bytes()), "{one} {other}");
        }
        assert_ne!(folded("\u{e9}".as_bytes()), folded(b"e"));
        assert_ne!(folded(b"a"), folded(b"b"));
    }
}
