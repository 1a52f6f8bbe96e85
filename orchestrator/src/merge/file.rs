//! Two versions of one entry with a common base. Modes and contents merge on their own, as git's do: one side may make a
//! script executable while the other edits it.

use git2::{MergeFileInput, MergeFileOptions, ObjectType, Odb, Oid};

use super::fold::{ConflictKind, FoldError};
use super::tree::{Item, Kind};

/// The largest version of a file that is merged line by line, in bytes; two changes of a larger one are a conflict.
/// Git itself would try up to 1 GiB, with memory of several times that.
pub const TEXT_BYTES_MAX: usize = 64 << 20;
/// How many leading bytes decide whether a file is binary.
/// Source: git's `buffer_is_binary` looks for a NUL in the first 8000 bytes.
const BINARY_PROBE_BYTES: usize = 8_000;

/// The result of [`merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// Both changes fit.
    Clean(Item),
    /// They do not.
    Conflict(ConflictKind),
}

/// Merges two versions of an entry that is not a folder in any of them.
///
/// # Errors
/// [`FoldError`], when a version cannot be read or the result not be written.
pub fn merge(odb: &Odb<'_>, base: Item, ours: Item, theirs: Item) -> Result<Merged, FoldError> {
    let kind = base.kind();
    if ours.kind() != kind || theirs.kind() != kind {
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
        return Ok(Merged::Clean(Item { mode, id }));
    }
    match kind {
        Kind::File => merge_text(odb, base.id, ours.id, theirs.id).map(|content| match content {
            Content::Clean(id) => Merged::Clean(Item { mode, id }),
            Content::Conflict(kind) => Merged::Conflict(kind),
        }),
        Kind::Symlink => Ok(Merged::Conflict(ConflictKind::Symlink)),
        Kind::Gitlink => Ok(Merged::Conflict(ConflictKind::Gitlink)),
        Kind::Folder => unreachable!("BUG: folders are merged by the walk"),
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
    // Git's merge uses the histogram diff, which libgit2 does not offer. Where two other diffs agree on the whole result,
    // the alignment is not a matter of taste; where they do not, no answer is certain to be git's.
    let (Some(myers), Some(patience)) =
        (diff3(base, ours, theirs, Diff::Myers)?, diff3(base, ours, theirs, Diff::Patience)?)
    else {
        return Ok(Content::Conflict(ConflictKind::Content));
    };
    if myers != patience {
        return Ok(Content::Conflict(ConflictKind::Content));
    }
    odb.write(ObjectType::Blob, &myers).map(Content::Clean).map_err(FoldError::Store)
}

/// Whether git would take it for binary.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(BINARY_PROBE_BYTES)].contains(&0)
}

#[derive(Clone, Copy, PartialEq)]
enum Diff {
    Myers,
    Patience,
}

/// The merged bytes; `None` for a conflict.
fn diff3(base: &[u8], ours: &[u8], theirs: &[u8], diff: Diff) -> Result<Option<Vec<u8>>, FoldError> {
    let input = |bytes| {
        let mut input = MergeFileInput::new();
        input.content(bytes);
        input
    };
    let mut options = MergeFileOptions::new();
    options.patience(diff == Diff::Patience);
    let merged =
        git2::merge_file(&input(base), &input(ours), &input(theirs), Some(&mut options)).map_err(FoldError::Store)?;
    Ok(merged.is_automergeable().then(|| merged.content().to_vec()))
}
