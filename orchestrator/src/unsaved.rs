//! Which tracked files of the checkout are not as the commit has them that a run starts from: a run sees commits, and whoever
//! forgot to commit should hear so. It is a courtesy, so it costs little: files are compared with git's index by what `stat`
//! says, for a bounded time, and only those that differ are read. Untracked files are not looked for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag};

use crate::repository::{Repository, RepositoryError};

/// How long is looked at most: 80,000 files that the kernel knows take half of it.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// Files whose content is compared at most; nothing is said of more.
const READ_MAX: usize = 100;

/// Files that are looked at between two looks at the time.
const STRIDE: usize = 256;

/// The type of an index entry's mode that is a submodule. Source: gitformat-index(5), "1110 (gitlink)".
const GITLINK: u32 = 0o160_000;

/// What of the checkout is not in its commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsaved {
    /// From the checkout's root, sorted.
    pub paths: BTreeSet<PathBuf>,
    /// Whether all tracked files were looked at.
    pub look: Look,
}

/// How far the look went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Look {
    /// At all files.
    #[default]
    Whole,
    /// Until the time was over, or too many files had to be read.
    Partial,
}

/// Tracked files of the checkout that differ from its commit; none where there is no checkout.
///
/// # Errors
/// The repository cannot be read.
pub fn unsaved(repository: &Repository) -> Result<Unsaved, RepositoryError> {
    let Some(root) = repository.workdir() else { return Ok(Unsaved::default()) };
    let until = Instant::now() + LOOK_MAX;
    let git = repository.handle()?;
    let index = git.index()?;
    let head = git.head()?.peel_to_tree()?;
    let staged = git.diff_tree_to_index(Some(&head), Some(&index), None)?;
    let path_of = |delta: git2::DiffDelta<'_>| Some(delta.new_file().path().or(delta.old_file().path())?.to_owned());
    let mut found = Unsaved { paths: staged.deltas().filter_map(path_of).collect(), look: Look::Whole };
    let mut read = 0;
    for (at, entry) in index.iter().enumerate() {
        if at % STRIDE == 0 && Instant::now() > until {
            found.look = Look::Partial;
            break;
        }
        let path = Path::new(OsStr::from_bytes(&entry.path));
        if is_left_out(&entry) || found.paths.contains(path) {
            continue;
        }
        let changed = match root.join(path).symlink_metadata() {
            Ok(metadata) if looks_the_same(&entry, &metadata) => false,
            Ok(_) if read < READ_MAX && Instant::now() < until => {
                read += 1;
                // Touched, or changed: git compares the content as it would for `git status`.
                git.status_file(path)?.intersects(git2::Status::WT_MODIFIED | git2::Status::WT_TYPECHANGE)
            }
            // Copied, perhaps, with all its files: whoever wants to know asks git.
            Ok(_) => {
                found.look = Look::Partial;
                false
            }
            Err(_) => true,
        };
        if changed {
            found.paths.insert(path.to_owned());
        }
    }
    Ok(found)
}

/// What its owner does not want looked at, or what is no file.
fn is_left_out(entry: &IndexEntry) -> bool {
    let assumed = entry.flags & IndexEntryFlag::VALID.bits() != 0;
    let skipped = entry.flags_extended & IndexEntryExtendedFlag::SKIP_WORKTREE.bits() != 0;
    assumed || skipped || entry.mode & GITLINK == GITLINK
}

/// Whether a file is as the index saw it last.
fn looks_the_same(entry: &IndexEntry, metadata: &Metadata) -> bool {
    let (seconds, nanoseconds) = (i64::from(entry.mtime.seconds()), i64::from(entry.mtime.nanoseconds()));
    // An index without nanoseconds was written by a git that knows none.
    let at = seconds == metadata.mtime() && (nanoseconds == 0 || nanoseconds == metadata.mtime_nsec());
    let is_link = |mode: u32| mode & 0o170_000 == 0o120_000;
    let mode = is_link(entry.mode) == is_link(metadata.mode())
        && (is_link(entry.mode) || (entry.mode & 0o100 != 0) == (metadata.mode() & 0o100 != 0));
    // The index keeps the lower 32 bits. Source: gitformat-index(5).
    at && mode && entry.file_size == (metadata.size() & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;

    #[test]
    fn what_is_not_committed_is_named_and_nothing_else() {
        let it = Fixture::with_files(&[("a.txt", "one\n"), ("b/c.txt", "two\n"), ("gone", "x\n")]);
        let at = |name: &str| it.path().join(name);
        let found = |expected: &[&str]| {
            let unsaved = unsaved(&it.repository()).expect("it can be read");
            assert_eq!(unsaved.paths, expected.iter().map(PathBuf::from).collect());
            assert_eq!(unsaved.look, Look::Whole);
        };
        found(&[]);
        std::fs::write(at("untracked"), "x").expect("space");
        std::fs::write(at("a.txt"), "one\n").expect("space");
        found(&[]);
        std::fs::write(at("a.txt"), "longer\n").expect("space");
        std::fs::remove_file(at("gone")).expect("it is there");
        found(&["a.txt", "gone"]);
    }

    #[test]
    fn of_files_that_were_only_touched_nothing_is_said() {
        let names: Vec<String> = (0..READ_MAX + 50).map(|n| format!("f{n}")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "one\n")).collect();
        let it = Fixture::with_files(&files);
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        for name in &names {
            let file = std::fs::File::options().write(true).open(it.path().join(name)).expect("it is there");
            file.set_modified(long_ago).expect("a time");
        }
        let unsaved = unsaved(&it.repository()).expect("it can be read");
        assert_eq!((unsaved.paths.len(), unsaved.look), (0, Look::Partial));
    }
}
