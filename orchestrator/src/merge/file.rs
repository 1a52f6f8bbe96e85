//! Two versions of one entry with a common base. Modes and contents merge on their own, as git's do: one side may make a
//! script executable while the other edits it.

use git2::{ObjectType, Odb, Oid};

use super::fold::{ConflictKind, FoldError};
use super::text::{self, Labels};
use crate::tree::{DIRECTORY, Entry, FILE, GITLINK, SYMLINK};

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

/// Whether [`merge`] would go by the lines of three files.
pub fn is_by_lines(base: Entry, ours: Entry, theirs: Entry) -> bool {
    [base, ours, theirs].into_iter().all(|entry| Kind::of(entry) == Kind::File)
        && third(base.id, ours.id, theirs.id).is_none()
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
    match text::diff3([base, ours, theirs]) {
        Some(merged) => odb.write(ObjectType::Blob, &merged).map(Content::Clean).map_err(FoldError::from),
        None => Ok(Content::Conflict(ConflictKind::Content)),
    }
}

/// Whether git would take it for binary.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(BINARY_PROBE_BYTES)].contains(&0)
}

/// Merges two versions of a text so that nothing is in dispute, as [`text::union`] does; a missing base is an empty one.
/// `None` where a version is no text.
///
/// # Errors
/// As of [`merge`].
pub fn union(odb: &Odb<'_>, base: Option<Entry>, ours: Entry, theirs: Entry) -> Result<Option<Entry>, FoldError> {
    let mode = third(base.map_or(ours.mode, |base| base.mode), ours.mode, theirs.mode);
    let (Some(mode), Some(texts)) = (mode, texts(odb, [base, Some(ours), Some(theirs)])?) else { return Ok(None) };
    let joined = text::union([&texts[0], &texts[1], &texts[2]]);
    Ok(Some(Entry { mode, id: odb.write(ObjectType::Blob, &joined)? }))
}

/// The same as git's own union does it ([`text::gits_union`]); `None` where that is a conflict to git, too, or may differ.
///
/// # Errors
/// As of [`merge`].
pub fn gits_union(odb: &Odb<'_>, base: Option<Entry>, ours: Entry, theirs: Entry) -> Result<Option<Entry>, FoldError> {
    let mode = match base {
        Some(base) => third(base.mode, ours.mode, theirs.mode),
        None => (ours.mode == theirs.mode).then_some(ours.mode),
    };
    let (Some(mode), Some(texts)) = (mode, texts(odb, [base, Some(ours), Some(theirs)])?) else { return Ok(None) };
    let Some(joined) = text::gits_union([&texts[0], &texts[1], &texts[2]]) else { return Ok(None) };
    Ok(Some(Entry { mode, id: odb.write(ObjectType::Blob, &joined)? }))
}

/// The file that stands where two changes do not fit together: the merged text with conflict markers around what is in
/// dispute, or, where there is no text to show, markers around a line that says what each version is. No reader can take it
/// for settled.
///
/// # Errors
/// As of [`merge`].
pub fn marked(odb: &Odb<'_>, versions: [Option<Entry>; 3], labels: &Labels) -> Result<Entry, FoldError> {
    let [_, ours, theirs] = versions;
    let is_file = |entry: &Entry| !entry.is_tree() && Kind::of(*entry) == Kind::File;
    let mode = [ours, theirs].into_iter().flatten().find(is_file).map_or(FILE, |entry| entry.mode);
    let shown = texts(odb, versions)?.and_then(|texts| text::marked([&texts[0], &texts[1], &texts[2]], labels));
    let shown = shown.unwrap_or_else(|| text::described(versions.map(in_words), labels));
    Ok(Entry { mode, id: odb.write(ObjectType::Blob, &shown)? })
}

fn in_words(version: Option<Entry>) -> String {
    match version {
        None => "(not there: deleted, moved, or not added)\n".to_owned(),
        Some(entry) if entry.is_tree() => "(a folder)\n".to_owned(),
        Some(entry) => match Kind::of(entry) {
            Kind::File => format!("(blob {})\n", entry.id),
            Kind::Symlink => format!("(symbolic link, its target in blob {})\n", entry.id),
            Kind::Gitlink => format!("(submodule at {})\n", entry.id),
        },
    }
}

/// The versions as text, a missing one as nothing; `None` when one is no text.
fn texts(odb: &Odb<'_>, versions: [Option<Entry>; 3]) -> Result<Option<[Vec<u8>; 3]>, FoldError> {
    let mut texts = [vec![], vec![], vec![]];
    for (text, version) in texts.iter_mut().zip(versions) {
        let Some(entry) = version else { continue };
        if entry.is_tree() || Kind::of(entry) != Kind::File {
            return Ok(None);
        }
        let read = |error| FoldError::of_read(entry.id, error);
        if odb.read_header(entry.id).map_err(read)?.0 > TEXT_BYTES_MAX {
            return Ok(None);
        }
        *text = odb.read(entry.id).map_err(read)?.data().to_vec();
        if is_binary(text) {
            return Ok(None);
        }
    }
    Ok(Some(texts))
}
