//! The files that a script has a shell run and that were written while the agent worked: by any of its tools, by a script of its, by a
//! program in the background. What rules say of commands is held against what such a file holds when the call comes; what lay in the
//! worktree before is the project's own, and is not read.
//!
//! When a file was changed says its inode: nothing but the system sets that time. Source: inode(7), `ctime`.

use std::collections::HashSet;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use super::permission::Act;
use super::shell::made::By;
use super::shell::{self, files};

/// The most files that one script leads to.
const FILES_MAX: usize = 32;
/// The most bytes of one of them that are read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What was written since an agent began.
#[derive(Debug, Clone)]
pub struct Meanwhile {
    root: PathBuf,
    /// Seconds and nanoseconds of the system's clock, as files are stamped by it.
    since: (i64, i64),
}

/// What was found in a file.
enum Found {
    /// Nothing that was written meanwhile, or nothing for a shell.
    Nothing,
    /// This text.
    Text(String),
    /// It is too long, or cannot be read.
    Unread,
}

impl Meanwhile {
    /// What is written from now on, for scripts that begin in `root`.
    pub fn begin(root: &Path) -> Meanwhile {
        // The clock that stamps files, which is behind the exact one by a few milliseconds.
        let now = clock_gettime(ClockId::RealtimeCoarse);
        Meanwhile { root: root.to_owned(), since: (now.tv_sec, now.tv_nsec) }
    }

    /// Tells each such file that a script has a shell run, and those that they run in turn.
    pub fn each(&self, script: &str, told: &mut dyn FnMut(Act<'_>)) {
        let mut seen = HashSet::new();
        let mut left = places(script);
        while let Some((place, by)) = left.pop() {
            if !seen.insert((place.clone(), by)) {
                continue;
            }
            let found = if seen.len() > FILES_MAX { Found::Unread } else { self.look(&place, by) };
            match found {
                Found::Nothing => {}
                Found::Unread => told(Act::RunFile { path: &place, text: None }),
                Found::Text(text) => {
                    left.extend(places(&text));
                    told(Act::RunFile { path: &place, text: Some(&text) });
                }
            }
            if seen.len() > FILES_MAX {
                return;
            }
        }
    }

    fn look(&self, place: &str, by: By) -> Found {
        // What waits for somebody at its other end is not waited for.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let Ok(mut file) = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(self.root.join(place))
        else {
            // Nobody who may not read it runs it by a shell.
            return Found::Nothing;
        };
        let Ok(about) = file.metadata() else { return Found::Unread };
        if !about.is_file() || (about.ctime(), about.ctime_nsec()) < self.since {
            return Found::Nothing;
        }
        let mut bytes = vec![];
        match file.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
            Ok(_) if !by.has_a_shell_read(&bytes) => Found::Nothing,
            Ok(_) if bytes.len() as u64 <= FILE_BYTES_MAX => {
                // Shells pass over them.
                bytes.retain(|byte| *byte != 0);
                Found::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            Ok(_) | Err(_) => Found::Unread,
        }
    }
}

/// Where the files may lie that a script has a shell run, from where it starts, and what has each run.
fn places(script: &str) -> Vec<(String, By)> {
    let placed = |run: shell::made::Run| run.places.into_iter().map(move |place| (place, run.by));
    files::of_shells(&shell::read(script)).into_iter().flat_map(placed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::permission::{Decision, Mode, Rule, Rules};

    fn decided(root: &Path, since: (i64, i64), script: &str) -> Vec<Decision> {
        let rules = Rules { deny: vec![Rule::parse("bash(touch *)").unwrap()], ..Rules::default() };
        let mut decided = vec![];
        Meanwhile { root: root.to_owned(), since }
            .each(script, &mut |act| decided.push(rules.decide("bash", &act, Mode::Full)));
        decided
    }

    #[test]
    fn a_file_that_was_written_meanwhile_is_read_when_it_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("d")).unwrap();
        let long = format!("{}touch x\n", "echo a line that is as long as others\n".repeat(20_000));
        let files = [
            ("y.sh", "set -e\ntouch x\n"),
            ("d/y.sh", "make\n"),
            ("by.sh", "make\n. ./y.sh\n"),
            ("t.py", "#!/usr/bin/env python3\ntouch x\n"),
            ("long", long.as_str()),
            ("torn.sh", "make\nto\0uch x\n"),
            ("program", "\u{7f}ELF\u{2}\u{1}\u{1}\0\0\0\0\0\0\0\0\0\u{3}\0\ntouch x\n"),
            ("no-program", "\u{7f}ELF\ntouch x\n"),
        ];
        files.iter().for_each(|(name, text)| std::fs::write(root.join(name), text).unwrap());
        let is_denied = |script: &str| decided(root, (0, 0), script).iter().any(|one| matches!(one, Decision::Deny(_)));
        for script in ["sh y.sh", "./y.sh", ". ./y.sh", "cd d; sh ../y.sh", "bash by.sh", "sh long", "f=y; sh $f.sh"] {
            assert!(is_denied(script), "{script}");
        }
        // What a shell is given it reads, whatever it begins with.
        for script in [
            "sh t.py",
            ". ./t.py",
            "./t.py; sh ./t.py",
            "sh program",
            "./no-program",
            "sh torn.sh",
            "BASH_ENV=t.py bash d/y.sh",
        ] {
            assert!(is_denied(script), "{script}");
        }
        for script in ["sh d/y.sh", "./t.py", "python t.py", "./program", "sh none.sh", "cat y.sh"] {
            assert!(!is_denied(script), "{script}");
        }
        // What lay there before is the project's.
        assert!(decided(root, (i64::MAX, 0), "sh y.sh; sh by.sh").is_empty());
    }

    #[test]
    fn the_clock_that_stamps_files_begins_before_what_is_written_then() {
        let folder = tempfile::tempdir().unwrap();
        let meanwhile = Meanwhile::begin(folder.path());
        std::fs::write(folder.path().join("y.sh"), "touch x\n").unwrap();
        assert!(matches!(meanwhile.look("y.sh", By::Shell), Found::Text(_)));
    }

    #[test]
    fn what_cannot_be_read_is_refused_beside_a_rule() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("y.sh")).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        let decided = decided(folder.path(), (0, 0), "sh y.sh");
        let why = "`y.sh` was written meanwhile and is too long to be read, and rule `bash(touch *)` restricts what may run: \
                   run its commands by themselves";
        assert_eq!(decided, [Decision::Deny(why.to_owned())]);
    }
}
