//! Which programs a command begins with, as far as its text says so, and which files they are: what a machine runs under one name
//! today may be another program tomorrow. What they load, call or read is not seen; a `fingerprint` is for that.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files that the programs of a command are on this machine, each as one text of its path, size, time of its last change and
/// inode. `path` are the folders in which they are looked for, separated by colons. Programs of the tree are not among them.
pub fn identities(argv: &[String], path: &str) -> Vec<String> {
    let found = first_words(argv).into_iter().filter_map(|word| find(word, path));
    let described = found.filter_map(|file| {
        let seen = std::fs::metadata(&file).ok()?;
        let at = (seen.mtime(), seen.mtime_nsec());
        Some(format!("{} {} {}.{:09} {}", file.display(), seen.len(), at.0, at.1, seen.ino()))
    });
    described.collect()
}

/// The program, and the first word of the script that it is given, where that is a plain word.
fn first_words(argv: &[String]) -> Vec<&str> {
    let script = match argv {
        [_, .., flag, script] if flag.starts_with('-') && flag.ends_with('c') => Some(script.as_str()),
        _ => None,
    };
    let ends = |c: char| c.is_whitespace() || ";|&<>()".contains(c);
    let word = script.map(|script| script.trim_start().split(ends).next().unwrap_or_default());
    let plain = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-/".contains(&byte))
    };
    argv.first().map(String::as_str).into_iter().chain(word).filter(plain).collect()
}

fn find(word: &str, path: &str) -> Option<PathBuf> {
    if word.contains('/') {
        return Some(PathBuf::from(word)).filter(|path| path.is_absolute());
    }
    let runs = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|seen| seen.is_file() && seen.mode() & 0o111 != 0);
    path.split(':').map(Path::new).filter(|folder| folder.is_absolute()).map(|folder| folder.join(word)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argv: &[&str], expected: &[&str]) {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(first_words(&argv), expected, "{argv:?}");
    }

    #[test]
    fn a_command_begins_with_its_program_and_with_that_of_its_script() {
        check(&["cargo", "test"], &["cargo"]);
        check(&["sh", "-eu", "-c", "\n cargo test --workspace"], &["sh", "cargo"]);
        check(&["bash", "-euo", "pipefail", "-c", "make;true"], &["bash", "make"]);
        check(&["sh", "-eu", "-c", "A=1 make"], &["sh"]);
        check(&["sh", "-eu", "-c", "! grep x y"], &["sh"]);
        check(&["sh", "-eu", "-c", "\"$TOOL\" x"], &["sh"]);
        check(&["sh", "-eu", "-c", ""], &["sh"]);
    }

    #[test]
    fn another_file_under_the_same_name_is_another_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = format!("/nowhere:{}", folder.path().display());
        let argv = ["tool".to_owned()];
        assert_eq!(identities(&argv, &path), Vec::<String>::new());
        let make = |text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let file = folder.path().join("tool");
            std::fs::write(&file, text).expect("space");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("ours");
            identities(&argv, &path)
        };
        let (one, other) = (make("one"), make("the other"));
        assert!(one.len() == 1 && one != other, "{one:?} {other:?}");
        assert_eq!(identities(&["./tool".to_owned()], &path), Vec::<String>::new(), "it belongs to the tree");
    }
}
