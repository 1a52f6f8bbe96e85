//! A conversation that a person wants gone on with behind one of its answers (`swarm retry TASK --from-turn N`). A mark beside its
//! transcript says so; the attempt that held it then counts as one that was cut short there: the next one is given its first
//! answers once more, is told nothing of its failure, and keeps a transcript of its own.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::transcript::{self, Entry};
use crate::ids::Attempt;

/// The name of the mark within the attempt's folder.
const FILE: &str = "fork.json";
/// Its version.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mark {
    version: u32,
    answers: u32,
}

/// Where a conversation forks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The attempt that held it.
    pub attempt: Attempt,
    /// How many of its answers are given once more.
    pub answers: u32,
}

/// How many answers a model gave in the attempt of a folder; none where it held no conversation.
///
/// # Errors
/// Those of the file system.
pub fn answers(folder: &Path) -> io::Result<u32> {
    let kept = transcript::read(&folder.join(transcript::FILE))?.unwrap_or_default();
    let answers = kept.entries.iter().filter(|entry| matches!(entry, Entry::Answer { .. })).count();
    Ok(u32::try_from(answers).unwrap_or(u32::MAX))
}

/// Marks the attempt of a folder.
///
/// # Errors
/// Those of the file system.
pub fn mark(folder: &Path, answers: u32) -> io::Result<()> {
    std::fs::write(folder.join(FILE), serde_json::to_vec(&Mark { version: VERSION, answers })?)
}

/// Takes the mark away, where there is one.
///
/// # Errors
/// Those of the file system.
pub fn unmark(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Behind how many answers the conversation of a folder's attempt forks; `None` where it does not.
pub fn marked(folder: &Path) -> Option<usize> {
    let mark: Mark = serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()?;
    (mark.version == VERSION).then_some(mark.answers as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_until_it_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!((marked(folder.path()), answers(folder.path()).unwrap()), (None, 0));
        mark(folder.path(), 3).unwrap();
        assert_eq!(marked(folder.path()), Some(3));
        unmark(folder.path()).unwrap();
        unmark(folder.path()).unwrap();
        assert_eq!(marked(folder.path()), None);
        std::fs::write(folder.path().join(FILE), "{\"version\":9,\"answers\":1}").unwrap();
        assert_eq!(marked(folder.path()), None, "of another version");
    }
}
