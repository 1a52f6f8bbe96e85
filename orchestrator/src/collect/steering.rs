//! Files that git itself obeys in whatever clones a result, judged by their content. What is refused here is what git's own fsck
//! calls an error: a server that checks what it is sent would refuse the branch as a whole.
//!
//! Source: git-fsck(1), the messages `gitattributesLarge`, `gitattributesLineLength`, `gitattributesBlob`, `gitmodulesBlob` and
//! those of [`modules`].

use super::modules;
use crate::entry_name::{is_attributes_file, is_modules_file};

/// The largest `.gitattributes` that git reads, in bytes.
const ATTRIBUTES_BYTES_MAX: usize = 100 << 20;
/// The longest line of one, in bytes without the line feed.
const ATTRIBUTES_LINE_BYTES_MAX: usize = 2047;

/// Whether the content of a file at a path matters to git.
pub fn is_judged(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    is_modules_file(name) || is_attributes_file(name)
}

/// Judges the content of a file at a path.
///
/// # Errors
/// The reason, for people.
pub fn check(path: &[u8], content: &[u8]) -> Result<(), &'static str> {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if is_attributes_file(name) {
        check_attributes(content)?;
    }
    if is_modules_file(name) { modules::check(content) } else { Ok(()) }
}

/// Judges a new folder by its name.
///
/// # Errors
/// The reason, for people.
pub fn check_folder(name: &[u8]) -> Result<(), &'static str> {
    match is_judged(name) {
        true => Err("a folder in the place of a file that steers git"),
        false => Ok(()),
    }
}

fn check_attributes(content: &[u8]) -> Result<(), &'static str> {
    if content.len() > ATTRIBUTES_BYTES_MAX {
        return Err("a .gitattributes of more than 100 MiB");
    }
    if content.split(|&byte| byte == b'\n').any(|line| line.len() > ATTRIBUTES_LINE_BYTES_MAX) {
        return Err("a .gitattributes with a line of more than 2,047 bytes, which git reads no further than that");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_judged_by_the_length_of_their_lines() {
        let line = |bytes: usize| [b"* text\n".as_slice(), &b"x".repeat(bytes), b"\n"].concat();
        for name in ["a/.gitattributes", ".GitAttributes", "gi7d29~1"] {
            assert_eq!(check(name.as_bytes(), &line(2047)), Ok(()), "{name}");
            assert!(check(name.as_bytes(), &line(2048)).is_err(), "{name}");
        }
        assert_eq!(check(b"attributes", &line(2048)), Ok(()));
    }

    #[test]
    fn modules_are_judged_under_each_of_their_names() {
        for name in [".gitmodules", "a/gi7eba~1", "gi~12345"] {
            assert!(check(name.as_bytes(), b"[submodule \"x\"]\n\tupdate = !evil\n").is_err(), "{name}");
            assert!(check_folder(name.rsplit('/').next().unwrap().as_bytes()).is_err(), "{name}");
        }
        assert!(check_folder(b".gitignore").is_ok() && check_folder(b"gitmodules").is_ok());
    }
}
