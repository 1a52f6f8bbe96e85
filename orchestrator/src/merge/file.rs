//! Two versions of one entry with a common base. Modes and contents merge on their own, as git's do: one side may make a
//! script executable while the other edits it.

use std::collections::HashMap;

use git2::{ObjectType, Odb, Oid};

use super::diff::{Hunk, hunks};
use super::fold::{ConflictKind, FoldError};
use crate::tree::{DIRECTORY, Entry, GITLINK, SYMLINK};

/// The largest version of a file that is merged line by line, in bytes; two changes of a larger one are a conflict.
/// Git itself would try up to 1 GiB, with memory of several times that.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// How many leading bytes decide whether a file is binary.
/// Source: git's `buffer_is_binary` looks for a NUL in the first 8000 bytes.
const BINARY_PROBE_BYTES: usize = 8_000;

/// What an entry is, beside a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, executable or not.
    File,
    /// A symbolic link.
    Symlink,
    /// A commit of another repository.
    Gitlink,
}

impl Kind {
    /// The kind of an entry that is no folder.
    pub fn of(entry: Entry) -> Kind {
        match entry.mode {
            DIRECTORY => unreachable!("BUG: folders are merged by the walk"),
            SYMLINK => Kind::Symlink,
            GITLINK => Kind::Gitlink,
            _ => Kind::File,
        }
    }
}

/// The result of [`merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// Both changes fit.
    Clean(Entry),
    /// They do not.
    Conflict(ConflictKind),
}

/// Merges two versions of an entry that is not a folder in any of them.
///
/// # Errors
/// [`FoldError`], when a version cannot be read or the result not be written.
pub fn merge(odb: &Odb<'_>, base: Entry, ours: Entry, theirs: Entry) -> Result<Merged, FoldError> {
    let kind = Kind::of(base);
    if Kind::of(ours) != kind || Kind::of(theirs) != kind {
        return Ok(match () {
            () if ours == base => Merged::Clean(theirs),
            () if theirs == base || theirs == ours => Merged::Clean(ours),
            () => Merged::Conflict(ConflictKind::TypeChange),
        });
    }
    let Some(mode) = third(base.mode, ours.mode, theirs.mode) else {
        return Ok(Merged::Conflict(ConflictKind::TypeChange));
    };
    if let Some(id) = third(base.id, ours.id, theirs.id) {
        return Ok(Merged::Clean(Entry { mode, id }));
    }
    match kind {
        Kind::File => merge_text(odb, base.id, ours.id, theirs.id).map(|content| match content {
            Content::Clean(id) => Merged::Clean(Entry { mode, id }),
            Content::Conflict(kind) => Merged::Conflict(kind),
        }),
        Kind::Symlink => Ok(Merged::Conflict(ConflictKind::Symlink)),
        Kind::Gitlink => Ok(Merged::Conflict(ConflictKind::Gitlink)),
    }
}

/// The three-way rule: an equal pair gives way to the third. `None` when all differ.
fn third<T: PartialEq>(base: T, ours: T, theirs: T) -> Option<T> {
    if ours == base || ours == theirs {
        Some(theirs)
    } else if theirs == base {
        Some(ours)
    } else {
        None
    }
}

enum Content {
    Clean(Oid),
    Conflict(ConflictKind),
}

/// A line-wise diff3 of three versions that all differ.
fn merge_text(odb: &Odb<'_>, base: Oid, ours: Oid, theirs: Oid) -> Result<Content, FoldError> {
    let read = |id| odb.read(id).map_err(|error| FoldError::of_read(id, error));
    for id in [base, ours, theirs] {
        let (bytes, _) = odb.read_header(id).map_err(|error| FoldError::of_read(id, error))?;
        if bytes > TEXT_BYTES_MAX {
            return Ok(Content::Conflict(ConflictKind::TooLarge));
        }
    }
    let versions = [read(base)?, read(ours)?, read(theirs)?];
    let [base, ours, theirs] = [0, 1, 2].map(|at| versions[at].data());
    if [base, ours, theirs].iter().any(|bytes| is_binary(bytes)) {
        return Ok(Content::Conflict(ConflictKind::Binary));
    }
    match diff3(base, ours, theirs) {
        Some(merged) => odb.write(ObjectType::Blob, &merged).map(Content::Clean).map_err(FoldError::from),
        None => Ok(Content::Conflict(ConflictKind::Content)),
    }
}

/// Whether git would take it for binary.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(BINARY_PROBE_BYTES)].contains(&0)
}

/// All three versions as one: the base with the changes of both sides. `None` where two changes overlap or have no
/// unchanged line between them.
fn diff3(base: &[u8], ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    let mut numbers = HashMap::new();
    let versions = [base, ours, theirs].map(|bytes| Lines::of(bytes, &mut numbers));
    let [base, ours, theirs] = &versions;
    let (our_hunks, their_hunks) = (hunks(&base.numbers, &ours.numbers)?, hunks(&base.numbers, &theirs.numbers)?);
    let (mut our_rest, mut their_rest) = (our_hunks.as_slice(), their_hunks.as_slice());
    let mut merged = Vec::new();
    let mut at = 0;
    loop {
        let (hunk, side) = match (our_rest.split_first(), their_rest.split_first()) {
            (None, None) => break,
            (Some((one, our_tail)), Some((two, their_tail)))
                if one.taken == two.taken && ours.equal(one, theirs, two) =>
            {
                (our_rest, their_rest) = (our_tail, their_tail);
                (one, ours)
            }
            (Some((one, _)), Some((two, _)))
                if one.taken.end >= two.taken.start && two.taken.end >= one.taken.start =>
            {
                return None;
            }
            (Some((one, tail)), two) if two.is_none_or(|(two, _)| one.taken.start < two.taken.start) => {
                our_rest = tail;
                (one, ours)
            }
            (_, Some((two, tail))) => {
                their_rest = tail;
                (two, theirs)
            }
            (Some(_), None) => unreachable!("BUG: the guard above takes it"),
        };
        merged.extend_from_slice(&base.lines[at..hunk.taken.start].concat());
        merged.extend_from_slice(&side.lines[hunk.put.clone()].concat());
        at = hunk.taken.end;
    }
    merged.extend_from_slice(&base.lines[at..].concat());
    Some(merged)
}

/// A version cut into lines, each with its line feed.
struct Lines<'a> {
    lines: Vec<&'a [u8]>,
    /// The same number for the same line in all versions.
    numbers: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8], numbers: &mut HashMap<&'a [u8], u32>) -> Lines<'a> {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        let number = |line: &&'a [u8]| {
            let fresh = numbers.len() as u32;
            *numbers.entry(line).or_insert(fresh)
        };
        let numbers = lines.iter().map(number).collect();
        Lines { lines, numbers }
    }

    /// Whether two changes put the same lines.
    fn equal(&self, hunk: &Hunk, other: &Lines<'_>, others: &Hunk) -> bool {
        self.numbers[hunk.put.clone()] == other.numbers[others.put.clone()]
    }
}
