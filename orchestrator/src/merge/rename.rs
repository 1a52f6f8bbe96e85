//! Which deleted file became which added one on one side of a merge, where that is certain.
//!
//! Git pairs them by similarity, greedily, with several shortcuts that depend on what the other side did. Here a pair is
//! *certain* only if no choice is left: the same content on exactly one deleted and one added path, or one deleted and one
//! added path that resemble each other and nothing else. All else that could be a pair is doubt, and doubt is a conflict.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound::{Included, Unbounded};
use std::rc::Rc;

use git2::{Odb, Oid};

use super::file::{Kind, TEXT_BYTES_MAX, is_binary};
use super::fold::FoldError;
use crate::tree::Entry;

/// From which similarity, in percent, git takes two files for a rename: its default is 50. Ours lie around it, because
/// git counts with a hash of 17 bits and so may be a little off.
const POSSIBLE_PERCENT: u64 = 46;
/// From which similarity, in percent, git certainly takes them for a rename.
const CERTAIN_PERCENT: u64 = 53;
/// The longest piece of a file that is compared as a whole, in bytes; a piece ends at a line feed or here.
/// Source: git's `hash_chars` in diffcore-delta.
const PIECE_BYTES_MAX: usize = 64;
/// How many pairs of files are compared on one side of a merge. Beyond this bound or any of the next three, everything is possible
/// and nothing certain: who wrote a side chose its files, and the merge is to end all the same.
const COMPARED_PAIRS_MAX: usize = 200_000;
/// How many pieces are looked for in another file, over all that are compared.
const COMPARED_PIECES_MAX: usize = 200_000_000;
/// Bytes of files that are read to be compared.
const READ_BYTES_MAX: usize = 1 << 30;
/// Pieces of such files that are kept, each some 40 bytes in memory.
const PIECES_MAX: usize = 4_000_000;
/// How many pairs of files are looked at, most of which nobody need compare. Beyond, all that is still asked is doubt.
const PAIRS_MAX: usize = 20_000_000;

/// What became of a deleted path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Nothing that was added resembles it.
    Nowhere,
    /// It became this path, which nothing else can have become.
    To(Vec<u8>),
    /// It may have become an added path, or not.
    Perhaps,
}

/// The deleted and added paths of one side, with what they held.
pub struct Renames<'a> {
    odb: &'a Odb<'a>,
    deleted: BTreeMap<&'a [u8], Entry>,
    added: BTreeMap<&'a [u8], Entry>,
    sizes: RefCell<HashMap<Oid, usize>>,
    fingerprints: RefCell<HashMap<Oid, Rc<Fingerprint>>>,
    left: Left,
}

/// What may still be done, by the bound that says so.
struct Left {
    compared_pairs: Bound,
    compared_pieces: Bound,
    read_bytes: Bound,
    pieces: Bound,
    pairs: Bound,
}

/// How much of something is left.
struct Bound(Cell<usize>);

impl Bound {
    /// Takes so much; whether there was so much. Where there was not, nothing is left.
    fn take(&self, count: usize) -> bool {
        let left = self.0.get().checked_sub(count);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    fn is_used_up(&self) -> bool {
        self.0.get() == 0
    }
}

/// The content of a file as a bag of pieces: hash of a piece → bytes in all its occurrences.
struct Fingerprint(HashMap<u64, u64>);

/// How much two files resemble each other, in git's eyes; ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// Git never pairs them.
    Different,
    /// Git might.
    Possible,
    /// Git does, unless something else fits better.
    Similar,
    /// The same object. Git pairs these before it looks at any others.
    Exact,
}

impl<'a> Renames<'a> {
    /// Takes the deleted and the added paths of one side.
    pub fn new(odb: &'a Odb<'a>, deleted: BTreeMap<&'a [u8], Entry>, added: BTreeMap<&'a [u8], Entry>) -> Renames<'a> {
        Renames {
            odb,
            deleted,
            added,
            sizes: RefCell::default(),
            fingerprints: RefCell::default(),
            left: Left {
                compared_pairs: Bound(Cell::new(COMPARED_PAIRS_MAX)),
                compared_pieces: Bound(Cell::new(COMPARED_PIECES_MAX)),
                read_bytes: Bound(Cell::new(READ_BYTES_MAX)),
                pieces: Bound(Cell::new(PIECES_MAX)),
                pairs: Bound(Cell::new(PAIRS_MAX)),
            },
        }
    }

    /// The added paths with what they hold.
    pub fn added(&self) -> &BTreeMap<&'a [u8], Entry> {
        &self.added
    }

    /// What became of the deleted path `from`.
    ///
    /// # Errors
    /// [`FoldError`], when a version cannot be read.
    pub fn moved(&self, from: &[u8]) -> Result<Moved, FoldError> {
        let Some(&old) = self.deleted.get(from) else { return Ok(Moved::Nowhere) };
        let mut best: Option<(&[u8], Entry, Likeness)> = None;
        let mut as_good = false;
        for (&to, &new) in &self.added {
            let Some(likeness) = self.likeness(old, new)? else { return Ok(Moved::Perhaps) };
            let exact_decides = |best: Likeness| best.max(likeness) == Likeness::Exact && best != likeness;
            match best {
                _ if likeness == Likeness::Different => {}
                Some((_, _, best)) if exact_decides(best) && best > likeness => {}
                Some((_, _, best)) if !exact_decides(best) => as_good = true,
                _ => (best, as_good) = (Some((to, new, likeness)), false),
            }
        }
        match best {
            None => Ok(Moved::Nowhere),
            Some((to, new, likeness)) if !as_good && likeness > Likeness::Possible => {
                let unrivalled = !self.has_other_source(from, new, likeness)?;
                Ok(if unrivalled { Moved::To(to.to_vec()) } else { Moved::Perhaps })
            }
            Some(_) => Ok(Moved::Perhaps),
        }
    }

    /// Whether any deleted path below `folder` may have become an added one.
    ///
    /// # Errors
    /// [`FoldError`], when a version cannot be read.
    pub fn may_have_left(&self, folder: &[u8]) -> Result<bool, FoldError> {
        let inside = [folder, b"/"].concat();
        let from = (Included(&inside[..]), Unbounded);
        for (_, &old) in self.deleted.range::<[u8], _>(from).take_while(|(path, _)| path.starts_with(&inside)) {
            for &new in self.added.values() {
                if self.likeness(old, new)? != Some(Likeness::Different) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a deleted path other than `from` could be the source of `new` as well.
    fn has_other_source(&self, from: &[u8], new: Entry, likeness: Likeness) -> Result<bool, FoldError> {
        let rival = if likeness == Likeness::Exact { Likeness::Exact } else { Likeness::Possible };
        for (_, &old) in self.deleted.iter().filter(|(path, _)| **path != from) {
            if self.likeness(old, new)?.is_none_or(|likeness| likeness >= rival) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How much a pair resembles each other; `None` when no more are looked at.
    fn likeness(&self, old: Entry, new: Entry) -> Result<Option<Likeness>, FoldError> {
        if self.left.pairs.take(1) { self.likeness_of_one(old, new).map(Some) } else { Ok(None) }
    }

    fn likeness_of_one(&self, old: Entry, new: Entry) -> Result<Likeness, FoldError> {
        if Kind::of(old) != Kind::of(new) {
            return Ok(Likeness::Different);
        }
        if Kind::of(old) != Kind::File {
            // The id of an empty blob, which no link on a disk can be: git follows that no more than an empty file.
            let is_empty = Kind::of(old) == Kind::Symlink && self.bytes(old.id)? == 0;
            return Ok(if is_empty {
                Likeness::Different
            } else if old.id == new.id {
                Likeness::Exact
            } else {
                Likeness::Different
            });
        }
        let (old_bytes, new_bytes) = (self.bytes(old.id)?, self.bytes(new.id)?);
        // In a merge git takes no empty file for a rename.
        if old_bytes == 0 || new_bytes == 0 {
            return Ok(Likeness::Different);
        }
        if old.id == new.id {
            return Ok(Likeness::Exact);
        }
        let percent = |bytes: usize| bytes as u64 * 100 / old_bytes.max(new_bytes) as u64;
        if percent(old_bytes.min(new_bytes)) < POSSIBLE_PERCENT {
            return Ok(Likeness::Different);
        }
        if old_bytes.max(new_bytes) > TEXT_BYTES_MAX || !self.left.compared_pairs.take(1) {
            return Ok(Likeness::Possible);
        }
        let Some(old) = self.fingerprint(old.id, old_bytes)? else { return Ok(Likeness::Possible) };
        let Some(new) = self.fingerprint(new.id, new_bytes)? else { return Ok(Likeness::Possible) };
        let [fewer, more] = if old.0.len() < new.0.len() { [old, new] } else { [new, old] };
        if !self.left.compared_pieces.take(fewer.0.len()) {
            return Ok(Likeness::Possible);
        }
        let common = fewer.common_bytes(&more);
        Ok(match percent(common) {
            CERTAIN_PERCENT.. => Likeness::Similar,
            POSSIBLE_PERCENT..CERTAIN_PERCENT => Likeness::Possible,
            _ => Likeness::Different,
        })
    }

    fn bytes(&self, id: Oid) -> Result<usize, FoldError> {
        if let Some(&bytes) = self.sizes.borrow().get(&id) {
            return Ok(bytes);
        }
        let (bytes, _) = self.odb.read_header(id).map_err(|error| FoldError::of_read(id, error))?;
        self.sizes.borrow_mut().insert(id, bytes);
        Ok(bytes)
    }

    /// `None` where no more are made.
    fn fingerprint(&self, id: Oid, bytes: usize) -> Result<Option<Rc<Fingerprint>>, FoldError> {
        if let Some(known) = self.fingerprints.borrow().get(&id) {
            return Ok(Some(Rc::clone(known)));
        }
        if self.left.pieces.is_used_up() || !self.left.read_bytes.take(bytes) {
            return Ok(None);
        }
        let object = self.odb.read(id).map_err(|error| FoldError::of_read(id, error))?;
        let Some(fingerprint) = Fingerprint::of(object.data(), &self.left.pieces).map(Rc::new) else { return Ok(None) };
        self.fingerprints.borrow_mut().insert(id, Rc::clone(&fingerprint));
        Ok(Some(fingerprint))
    }
}

impl Fingerprint {
    /// `None` when it has more different pieces than are `left`.
    fn of(content: &[u8], left: &Bound) -> Option<Fingerprint> {
        let text = !is_binary(content);
        let mut pieces: HashMap<u64, u64> = HashMap::new();
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        let mut close = |piece: &mut Vec<u8>| {
            let mut hasher = DefaultHasher::new();
            hasher.write(piece);
            let bytes = piece.len() as u64;
            piece.clear();
            match pieces.entry(hasher.finish()) {
                Occupied(mut known) => *known.get_mut() += bytes,
                Vacant(_) if !left.take(1) => return None,
                Vacant(new) => _ = new.insert(bytes),
            }
            Some(())
        };
        for (at, &byte) in content.iter().enumerate() {
            // Line ends of both kinds count as the same in text.
            if text && byte == b'\r' && content.get(at + 1) == Some(&b'\n') {
                continue;
            }
            piece.push(byte);
            if byte == b'\n' || piece.len() == PIECE_BYTES_MAX {
                close(&mut piece)?;
            }
        }
        if !piece.is_empty() {
            close(&mut piece)?;
        }
        Some(Fingerprint(pieces))
    }

    /// How many bytes of `self` are found again in `other`.
    fn common_bytes(&self, other: &Fingerprint) -> usize {
        let common = |(piece, bytes): (&u64, &u64)| other.0.get(piece).map_or(0, |others| *bytes.min(others));
        self.0.iter().map(common).sum::<u64>() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;
    use crate::tree::FILE;

    /// What becomes of `a` with other bounds: it and `b` were deleted, and files that resemble either were added.
    fn moved(bounds: impl FnOnce(&mut Left)) -> Moved {
        let fixture = Fixture::empty();
        let repository = fixture.repository();
        let git = repository.handle().expect("a handle");
        let odb = git.odb().expect("objects");
        let lines = |name: &str, last: &str| {
            let text: String = (0..20).map(|n| format!("{name} {n}\n")).chain([last.to_owned()]).collect();
            Entry { mode: FILE, id: git.blob(text.as_bytes()).expect("space") }
        };
        let deleted = [(&b"a"[..], lines("a", "")), (b"b", lines("b", ""))];
        let added = [(&b"x/a"[..], lines("a", "more\n")), (b"x/b", lines("b", "more\n"))];
        let mut renames = Renames::new(&odb, BTreeMap::from(deleted), BTreeMap::from(added));
        bounds(&mut renames.left);
        renames.moved(b"a").expect("all is there")
    }

    #[test]
    fn beyond_every_bound_nothing_is_certain() {
        let bound = |count: usize| Bound(Cell::new(count));
        assert_eq!(moved(|_| {}), Moved::To(b"x/a".to_vec()));
        // Two added ones, and another deleted one as the source of the one that fits.
        assert_eq!(moved(|left| left.pairs = bound(3)), Moved::To(b"x/a".to_vec()));
        for used_up in 0..3 {
            assert_eq!(moved(|left| left.pairs = bound(used_up)), Moved::Perhaps, "{used_up} pairs");
            assert_eq!(moved(|left| left.compared_pairs = bound(used_up)), Moved::Perhaps, "{used_up} compared");
        }
        // Of four files, of 20 or 21 different lines each.
        assert_eq!(moved(|left| left.pieces = bound(82)), Moved::To(b"x/a".to_vec()));
        assert_eq!(moved(|left| left.pieces = bound(81)), Moved::Perhaps);
        assert_eq!(moved(|left| left.compared_pieces = bound(60)), Moved::To(b"x/a".to_vec()));
        assert_eq!(moved(|left| left.compared_pieces = bound(59)), Moved::Perhaps);
        assert_eq!(moved(|left| left.read_bytes = bound(100)), Moved::Perhaps);
    }
}
