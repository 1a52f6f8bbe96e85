//! The slow path: two changes as flat lists of the paths that each side touched, merged path by path with renames
//! followed where they are certain. The only place that declares a conflict.
//!
//! libgit2's own `merge_trees` is not used: it takes attributes and configuration from the user's checkout, so the same plan
//! would give another tree elsewhere, measures similarity by another rule than git, so its renames are not git's, and knows no
//! renamed folders. Here everything comes from the three trees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use git2::{Odb, Oid};

use super::attributes::{Attributes, Way};
use super::beside::{self, folders};
use super::file::{self, Kind, Merged, TEXT_BYTES_MAX};
use super::fold::{ConflictKind, ConflictPath, FoldError, Folded, Outcome, Step};
use super::rename::{Moved, Renames};
use super::rules::FileRules;
use super::text::{Labels, Markers};
use crate::tree::{self, Changed, Edits, Entry, Listing, TreeError};

/// Merges a change into tree `ours`.
///
/// # Errors
/// [`FoldError`] when objects cannot be read or written. A conflict is a value.
pub fn merge(odb: &Odb<'_>, rules: &FileRules, ours: Oid, theirs: &Step<'_>) -> Result<Outcome, FoldError> {
    settled(odb, rules, (ours, theirs), |mut merge| {
        if merge.conflicts.is_empty()
            && let Some(tree) = merge.apply(ours)?
        {
            return Ok(Outcome { folded: Folded::Clean { tree }, again: merge.again });
        }
        merge.conflicts.sort();
        merge.conflicts.dedup();
        Ok(Outcome { folded: Folded::Conflict { paths: merge.conflicts }, again: merge.again })
    })
}

/// Two changes that do not fit together, as a tree that somebody can work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicted {
    /// Ours with all of theirs that fits; where something does not, a file with conflict markers stands, or a folder with the
    /// other side's file beside it.
    pub tree: Oid,
    /// The places, sorted by path; empty when everything fits.
    pub places: Vec<ConflictPlace>,
    /// As in [`Outcome`].
    pub again: Vec<Vec<u8>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictPlace {
    /// Where and how.
    pub at: ConflictPath,
    /// What base, ours and theirs have there.
    pub versions: [Option<Entry>; 3],
    /// Where the file stands meanwhile that contradicts a folder at the path, from the top of the tree. It is a marker as those
    /// in files are: neither side has it, and while it stands there, nothing is settled.
    pub beside: Option<Vec<u8>>,
}

/// As [`merge`], but a conflict is a tree, too.
///
/// # Errors
/// As [`merge`].
pub fn conflicted(
    odb: &Odb<'_>,
    rules: &FileRules,
    (ours, theirs): (Oid, &Step<'_>),
    labels: &Labels,
) -> Result<Conflicted, FoldError> {
    settled(odb, rules, (ours, theirs), |mut merge| {
        merge.conflicts.sort();
        merge.conflicts.dedup_by(|a, b| a.path == b.path);
        let mut places = Vec::new();
        for at in std::mem::take(&mut merge.conflicts) {
            let find = |tree| tree::find(odb, tree, &at.path);
            let versions = [find(theirs.base)?, find(ours)?, find(theirs.result)?];
            merge.edits.insert(at.path.clone(), Some(file::marked(odb, versions, labels)?));
            places.push(ConflictPlace { at, versions, beside: None });
        }
        beside::set_beside(odb, (ours, theirs), &mut merge.edits, &mut places, labels)?;
        let tree = match tree::edit(odb, Some(ours), &merge.edits)? {
            Some(tree) => tree,
            None => tree::write(odb, Listing::new())?,
        };
        Ok(Conflicted { tree, places, again: merge.again })
    })
}

/// Of a larger file than can be merged, so much is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What of a conflict is not settled; paths from the top of the tree, sorted by place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Files with more markers than any of the versions has.
    pub marked: Vec<Vec<u8>>,
    /// Files that still stand beside a folder.
    pub beside: Vec<Vec<u8>>,
}

/// The places of a conflict that are not settled in a tree.
///
/// # Errors
/// [`FoldError`] when objects cannot be read.
pub fn still_unsettled(odb: &Odb<'_>, tree: Oid, places: &[ConflictPlace]) -> Result<Unsettled, FoldError> {
    let mut left = Unsettled::default();
    for place in places {
        if let Some(beside) = &place.beside
            && tree::find(odb, tree, beside)?.is_some()
        {
            left.beside.push(beside.clone());
            continue;
        }
        let Some(entry) = tree::find(odb, tree, &place.at.path)? else { continue };
        let has_text = |entry: &&Entry| !matches!(entry.canonical().mode, tree::GITLINK | tree::DIRECTORY);
        if matches!(entry.canonical().mode, tree::SYMLINK | tree::GITLINK | tree::DIRECTORY) {
            continue;
        }
        let now = markers(odb, entry.id)?;
        if now == [0; 4] {
            continue;
        }
        let known = place.versions.iter().flatten().filter(has_text);
        let known = known.map(|entry| markers(odb, entry.id)).collect::<Result<Vec<_>, _>>()?;
        if (0..4).any(|kind| known.iter().all(|known| now[kind] > known[kind])) {
            left.marked.push(place.at.path.clone());
        }
    }
    Ok(left)
}

/// The conflict markers in a file, however large it is.
fn markers(odb: &Odb<'_>, blob: Oid) -> Result<[usize; 4], FoldError> {
    let failed = |error| FoldError::of_read(blob, error);
    let mut all = Markers::default();
    let (bytes, _) = odb.read_header(blob).map_err(failed)?;
    // Only what lies in the store by itself can be read in pieces.
    let pieces = if bytes > TEXT_BYTES_MAX { odb.reader(blob).ok() } else { None };
    match pieces {
        Some((mut reader, ..)) => {
            let (mut piece, mut left) = (vec![0; PIECE_BYTES], bytes);
            while left > 0 {
                let length =
                    reader.read(&mut piece).map_err(|error| failed(git2::Error::from_str(&error.to_string())))?;
                if length == 0 {
                    return Err(failed(git2::Error::from_str("a blob ends before its time")));
                }
                all.hear(&piece[..length]);
                left = left.saturating_sub(length);
            }
        }
        None => all.hear(odb.read(blob).map_err(failed)?.data()),
    }
    Ok(all.counts())
}

/// Settles all that can be, and hands over what came of it.
fn settled<T>(
    odb: &Odb<'_>,
    rules: &FileRules,
    (ours, step): (Oid, &Step<'_>),
    finish: impl FnOnce(Merge<'_>) -> Result<T, FoldError>,
) -> Result<T, FoldError> {
    let [ours_side, theirs_side] = [Side::of(odb, step.base, ours)?, Side::of(odb, step.base, step.result)?];
    let mut merge = Merge {
        odb,
        rules,
        attributes: Attributes::of(ours),
        step,
        renames: [ours_side.renames(odb), theirs_side.renames(odb)],
        sides: [&ours_side, &theirs_side],
        // What only theirs touched is taken as it is; what both touched is settled below.
        edits: theirs_side
            .touched
            .iter()
            .filter(|(path, _)| !ours_side.touched.contains_key(*path))
            .map(|(path, [_, new])| (path.clone(), *new))
            .collect(),
        settled: BTreeSet::new(),
        again: Vec::new(),
        conflicts: Vec::new(),
    };
    merge.both_touched()?;
    for side in [OURS, THEIRS] {
        merge.added_to_gone_folders(side)?;
    }
    merge.again.sort();
    finish(merge)
}

/// What one side touched.
struct Side {
    /// Path → what was and is there; only files, links and gitlinks.
    touched: BTreeMap<Vec<u8>, Changed>,
    /// The whole tree.
    tree: Oid,
}

impl Side {
    fn of(odb: &Odb<'_>, base: Oid, new: Oid) -> Result<Side, TreeError> {
        let touched = tree::diff(odb, Some(base), Some(new))?;
        let touched = touched.into_iter().map(|difference| (difference.path, [difference.old, difference.new]));
        Ok(Side { touched: touched.collect(), tree: new })
    }

    /// Whether it has a folder there.
    fn has_folder(&self, odb: &Odb<'_>, path: &[u8]) -> Result<bool, TreeError> {
        Ok(tree::find(odb, self.tree, path)?.is_some_and(Entry::is_tree))
    }

    fn renames<'a>(&'a self, odb: &'a Odb<'a>) -> Renames<'a> {
        let mut deleted = BTreeMap::new();
        let mut added = BTreeMap::new();
        for (path, change) in &self.touched {
            match *change {
                [Some(old), None] => deleted.insert(path.as_slice(), old),
                [None, Some(new)] => added.insert(path.as_slice(), new),
                [Some(_), Some(_)] => None,
                [None, None] => unreachable!("BUG: an untouched path is listed"),
            };
        }
        Renames::new(odb, deleted, added)
    }
}

/// Index of a side.
type Which = usize;
const OURS: Which = 0;
const THEIRS: Which = 1;

struct Merge<'a> {
    odb: &'a Odb<'a>,
    rules: &'a FileRules,
    /// Those of ours.
    attributes: Attributes,
    /// What theirs started from, left and may touch.
    step: &'a Step<'a>,
    sides: [&'a Side; 2],
    renames: [Renames<'a>; 2],
    /// What has to change in ours.
    edits: Edits,
    /// Added paths that are already merged through the path that they were renamed from.
    settled: BTreeSet<Vec<u8>>,
    /// Files that a command makes again.
    again: Vec<Vec<u8>>,
    conflicts: Vec<ConflictPath>,
}

impl Merge<'_> {
    fn conflict(&mut self, path: &[u8], kind: ConflictKind) {
        self.conflicts.push(ConflictPath { path: path.to_vec(), kind, moved_to: None });
    }

    /// Settles the paths that both sides touched. Those of the base come first, because they settle where they went to.
    fn both_touched(&mut self) -> Result<(), FoldError> {
        let [ours, theirs] = self.sides;
        let both = |in_base: bool| {
            ours.touched.iter().filter_map(move |(path, &[base, ours])| {
                let &[_, theirs] = theirs.touched.get(path)?;
                (base.is_some() == in_base).then_some((path, base, ours, theirs))
            })
        };
        for (path, base, ours, theirs) in both(true).chain(both(false)) {
            match (base, ours, theirs) {
                // Two equal versions may both be wrong: a count of files to which each side added one.
                (_, ours, theirs) if self.rules.is_made_again(path) => {
                    self.again.extend((ours.is_some() || theirs.is_some()).then(|| path.clone()));
                }
                (Some(_), None, None) => self.both_deleted(path)?,
                (Some(base), None, Some(new)) => self.changed_and_gone(path, base, new, OURS)?,
                (Some(base), Some(new), None) => self.changed_and_gone(path, base, new, THEIRS)?,
                (Some(base), Some(ours), Some(theirs)) => {
                    let merged = self.merged(path, base, ours, theirs)?;
                    let merged = self.joined(&[path], merged, (Some(base), ours, theirs))?;
                    self.take(path, merged);
                }
                (None, ours, theirs) if ours == theirs || self.settled.contains(path) => {}
                (None, Some(ours), Some(theirs)) => {
                    let merged = Merged::Conflict(ConflictKind::AddAdd);
                    let merged = self.joined(&[path], merged, (None, ours, theirs))?;
                    self.take(path, merged);
                }
                (None, _, _) => self.conflict(path, ConflictKind::AddAdd),
            }
        }
        Ok(())
    }

    /// Merges three versions of a file, which ours has at `path`; one that its tree says is merged as a whole is in dispute.
    fn merged(&self, path: &[u8], base: Entry, ours: Entry, theirs: Entry) -> Result<Merged, FoldError> {
        let has_rule = self.rules.is_union(path);
        if !has_rule && file::is_by_lines(base, ours, theirs) && self.way(path)? == Way::Whole {
            return Ok(Merged::Conflict(ConflictKind::Binary));
        }
        file::merge(self.odb, base, ours, theirs)
    }

    /// How the tree says that a file is merged.
    fn way(&self, path: &[u8]) -> Result<Way, FoldError> {
        self.attributes.way(self.odb, path)
    }

    /// Settles a conflict of contents in a file of which both sides' lines are kept, by one of the names that it has or had where
    /// the plan says so, by the one that it has where the tree does.
    fn joined(
        &self,
        names: &[&[u8]],
        merged: Merged,
        (base, ours, theirs): (Option<Entry>, Entry, Entry),
    ) -> Result<Merged, FoldError> {
        if !matches!(merged, Merged::Conflict(ConflictKind::Content | ConflictKind::AddAdd)) {
            return Ok(merged);
        }
        let name = names.last().expect("a file has a name");
        let joined = if names.iter().any(|name| self.rules.is_union(name)) {
            file::union(self.odb, base, ours, theirs)?
        } else if self.way(name)? == Way::Union {
            file::gits_union(self.odb, base, ours, theirs)?
        } else {
            None
        };
        Ok(joined.map_or(merged, Merged::Clean))
    }

    fn take(&mut self, path: &[u8], merged: Merged) {
        match merged {
            Merged::Clean(item) => {
                self.edits.insert(path.to_vec(), Some(item));
            }
            Merged::Conflict(kind) => self.conflict(path, kind),
        }
    }

    /// Both sides deleted `path`: fine, unless one of them moved it.
    fn both_deleted(&mut self, path: &[u8]) -> Result<(), FoldError> {
        let moved = [self.renames[OURS].moved(path)?, self.renames[THEIRS].moved(path)?];
        match moved {
            [Moved::Nowhere, Moved::Nowhere] => {}
            [Moved::To(to), Moved::To(theirs)] if to == theirs => {
                let [base, _] = self.sides[OURS].touched[path];
                let [ours, theirs] = self.sides.map(|side| side.touched[&to][1]);
                let present = "a renamed path was in the base and is in the side";
                let versions = [base.expect(present), ours.expect(present), theirs.expect(present)];
                let merged = self.merged(&to, versions[0], versions[1], versions[2])?;
                let merged = self.joined(&[path, &to], merged, (base, versions[1], versions[2]))?;
                self.take(&to, merged);
                self.settled.insert(to);
            }
            _ => self.conflict(path, ConflictKind::RenameDelete),
        }
        Ok(())
    }

    /// Side `gone` deleted or moved `path`, the other changed it from `base` to `new`.
    fn changed_and_gone(&mut self, path: &[u8], base: Entry, new: Entry, gone: Which) -> Result<(), FoldError> {
        match self.renames[gone].moved(path)? {
            Moved::Nowhere => self.conflict(path, ConflictKind::ModifyDelete),
            // Not even a plain move follows what became a link meanwhile.
            _ if Kind::of(new) != Kind::of(base) => self.conflict(path, ConflictKind::TypeChange),
            Moved::To(to) if gone == OURS && !self.step.may_write(&to) => {
                let kind = ConflictKind::MovedOutOfScope;
                self.conflicts.push(ConflictPath { path: path.to_vec(), kind, moved_to: Some(to) });
            }
            Moved::To(to) if !self.sides[1 - gone].touched.contains_key(&to) => {
                let moved = self.renames[gone].added()[to.as_slice()];
                let [ours, theirs] = if gone == OURS { [moved, new] } else { [new, moved] };
                let merged = self.merged(&to, base, ours, theirs)?;
                let merged = self.joined(&[path, &to], merged, (Some(base), ours, theirs))?;
                self.take(&to, merged);
                // Ours may still have it; where ours moved it, there is nothing to remove.
                if gone == THEIRS {
                    self.edits.insert(path.to_vec(), None);
                }
            }
            Moved::To(_) | Moved::Perhaps => self.conflict(path, ConflictKind::RenameUncertain),
        }
        Ok(())
    }

    /// `side` added something to folders that the other side deleted or moved. Git would ask whether it shall follow
    /// (its `merge.directoryRenames=conflict`, the default).
    fn added_to_gone_folders(&mut self, side: Which) -> Result<(), FoldError> {
        let other = 1 - side;
        let mut known: BTreeMap<&[u8], bool> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for &path in self.renames[side].added().keys() {
            for folder in folders(path) {
                let moved = match known.get(folder) {
                    Some(&moved) => moved,
                    None => self.may_have_moved(folder, other)?,
                };
                known.insert(folder, moved);
                if moved {
                    conflicts.push(path);
                }
            }
        }
        for path in conflicts {
            self.conflict(path, ConflictKind::FolderRename);
        }
        Ok(())
    }

    /// Whether a side has lost a folder of the base, and may have moved something out of it.
    fn may_have_moved(&self, folder: &[u8], side: Which) -> Result<bool, FoldError> {
        let in_base = tree::find(self.odb, self.step.base, folder)?.is_some_and(Entry::is_tree);
        let gone = in_base && !self.sides[side].has_folder(self.odb, folder)?;
        Ok(gone && self.renames[side].may_have_left(folder)?)
    }

    /// Writes `ours` with the edits; `None` where a path would have to be a folder and something else at once, which is
    /// recorded as conflicts.
    fn apply(&mut self, ours: Oid) -> Result<Option<Oid>, FoldError> {
        let tree = match tree::edit(self.odb, Some(ours), &self.edits) {
            Ok(Some(tree)) => tree,
            Ok(None) => tree::write(self.odb, Listing::new())?,
            Err(TreeError::FileAndDirectory(path)) => {
                self.conflict(&path, ConflictKind::FolderFile);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // An edit makes room for itself. Whatever had to go for it without having been deleted by a side was in its way.
        let displaced = tree::diff(self.odb, Some(ours), Some(tree))?;
        for path in displaced.into_iter().map(|difference| difference.path) {
            if !self.edits.contains_key(&path) {
                let mut above = folders(&path).filter(|folder| matches!(self.edits.get(*folder), Some(Some(_))));
                let file = above.next().unwrap_or(&path).to_vec();
                self.conflict(&file, ConflictKind::FolderFile);
            }
        }
        Ok(self.conflicts.is_empty().then_some(tree))
    }
}
