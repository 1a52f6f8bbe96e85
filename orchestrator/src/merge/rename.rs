//! Which deleted file became which added one on one side of a merge, where that is certain.
//!
//! Git pairs them by similarity, greedily, with several shortcuts that depend on what the other side did. Here a pair is
//! *certain* only if no choice is left: the same content on exactly one deleted and one added path, or one deleted and one
//! added path that resemble each other and nothing else. All else that could be a pair is doubt, and doubt is a conflict.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hasher};
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
/// How many pairs of files one merge compares. Beyond, everything is possible and nothing certain.
const COMPARED_PAIRS_MAX: usize = 200_000;

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
    pairs_left: Cell<usize>,
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
            pairs_left: Cell::new(COMPARED_PAIRS_MAX),
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
            let likeness = self.likeness(old, new)?;
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
        let below = |path: &[u8]| path.get(folder.len()) == Some(&b'/') && path.starts_with(folder);
        for (_, &old) in self.deleted.iter().filter(|(path, _)| below(path)) {
            for &new in self.added.values() {
                if self.likeness(old, new)? != Likeness::Different {
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
            if self.likeness(old, new)? >= rival {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn likeness(&self, old: Entry, new: Entry) -> Result<Likeness, FoldError> {
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
        if old_bytes.max(new_bytes) > TEXT_BYTES_MAX || self.pairs_left.get() == 0 {
            return Ok(Likeness::Possible);
        }
        self.pairs_left.set(self.pairs_left.get() - 1);
        let common = self.fingerprint(old.id)?.common_bytes(&*self.fingerprint(new.id)?);
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

    fn fingerprint(&self, id: Oid) -> Result<Rc<Fingerprint>, FoldError> {
        if let Some(known) = self.fingerprints.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let object = self.odb.read(id).map_err(|error| FoldError::of_read(id, error))?;
        let fingerprint = Rc::new(Fingerprint::of(object.data()));
        self.fingerprints.borrow_mut().insert(id, Rc::clone(&fingerprint));
        Ok(fingerprint)
    }
}

impl Fingerprint {
    fn of(content: &[u8]) -> Fingerprint {
        let text = !is_binary(content);
        let mut pieces = HashMap::new();
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        let mut close = |piece: &mut Vec<u8>| {
            let mut hasher = DefaultHasher::new();
            hasher.write(piece);
            *pieces.entry(hasher.finish()).or_default() += piece.len() as u64;
            piece.clear();
        };
        for (at, &byte) in content.iter().enumerate() {
            // Line ends of both kinds count as the same in text.
            if text && byte == b'\r' && content.get(at + 1) == Some(&b'\n') {
                continue;
            }
            piece.push(byte);
            if byte == b'\n' || piece.len() == PIECE_BYTES_MAX {
                close(&mut piece);
            }
        }
        if !piece.is_empty() {
            close(&mut piece);
        }
        Fingerprint(pieces)
    }

    /// How many bytes of `self` are found again in `other`.
    fn common_bytes(&self, other: &Fingerprint) -> usize {
        let common = |(piece, bytes): (&u64, &u64)| other.0.get(piece).map_or(0, |others| *bytes.min(others));
        self.0.iter().map(common).sum::<u64>() as usize
    }
}
