//! Whether a commit that cannot be found is gone, or lies where nobody can read at this moment: a pack without rights to it, an index
//! that a power cut left short, a disk that fails, a store on a network that is away. libgit2 says "not found" to all of these; whoever
//! removes the last ref of a result on that word loses it. So the stores are looked through here by hand before anything is called
//! gone.
//!
//! Sources: gitformat-pack(5), `*.idx` of both versions; gitrepository-layout(5), `objects/`.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Oid};

use super::{OBJECT_DIRS_MAX, Repository, RepositoryError};

/// Bytes of an id; repositories of another width are refused when they are opened.
const ID_BYTES: usize = 20;
/// What an index of the second version begins with; the first has no such words.
const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// Bytes of the table that says how many ids begin with no more than each byte.
const FANOUT_BYTES: u64 = 256 * 4;

/// What is said of an index that cannot be one.
const CUT_SHORT: &str = "it is damaged or cut short; git index-pack makes it again";

/// What is known of a commit.
#[derive(Debug)]
pub enum Presence {
    /// It and its tree can be read.
    Here,
    /// It, or the tree of one that is there, is in none of the stores, and each of them was read.
    Gone(Oid),
    /// It may be there; what reading it failed with.
    Hidden(RepositoryError),
}

impl Repository {
    /// Whether a commit and its tree are there. What a handle does not know is looked for once more with a new one, which
    /// knows what was packed meanwhile.
    ///
    /// # Errors
    /// [`RepositoryError`] when they cannot be read, whether or not they are there.
    pub fn has_commit(&self, commit: Oid) -> Result<bool, RepositoryError> {
        if matches!(known(&*self.handle()?, commit), Ok(None)) {
            return Ok(true);
        }
        match self.presence(&self.fresh()?, commit) {
            Presence::Here => Ok(true),
            Presence::Gone(_) => Ok(false),
            Presence::Hidden(error) => Err(error),
        }
    }

    /// What is known of a commit by a handle that was opened a moment ago.
    pub(crate) fn presence(&self, git: &git2::Repository, commit: Oid) -> Presence {
        let missing = match known(git, commit) {
            Ok(None) => return Presence::Here,
            Ok(Some(missing)) => missing,
            Err(error) => return Presence::Hidden(error.into()),
        };
        match self.lies_nowhere(missing) {
            Ok(()) => Presence::Gone(missing),
            Err(error) => Presence::Hidden(error),
        }
    }

    /// That no store holds an object, nor can hold it without our knowing.
    pub(super) fn lies_nowhere(&self, id: Oid) -> Result<(), RepositoryError> {
        let stores = self.object_dirs()?;
        if stores.len() >= OBJECT_DIRS_MAX {
            let (path, source) = (self.common_dir.join("objects/info/alternates"), io::Error::other("too many stores"));
            return Err(RepositoryError::Io { path, source });
        }
        for store in stores {
            is_not_loose(&store, id)?;
            let packs = store.join("pack");
            for index in indexes(&packs).map_err(|source| RepositoryError::Io { path: packs.clone(), source })? {
                let source = match File::open(&index).and_then(|file| lists(&file, id)) {
                    Ok(false) => continue,
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => io::Error::other(CUT_SHORT),
                    Ok(true) => io::Error::other("it lists what its pack does not yield"),
                    Err(error) => error,
                };
                return Err(RepositoryError::Io { path: index, source });
            }
        }
        Ok(())
    }
}

/// What of a commit and its tree a handle does not find; nothing where it has both.
fn known(git: &git2::Repository, commit: Oid) -> Result<Option<Oid>, git2::Error> {
    let or_missing =
        |id, error: git2::Error| if error.code() == ErrorCode::NotFound { Ok(Some(id)) } else { Err(error) };
    let found = match git.find_commit(commit) {
        Ok(found) => found,
        Err(error) => return or_missing(commit, error),
    };
    found.tree().map_or_else(|error| or_missing(found.tree_id(), error), |_| Ok(None))
}

fn is_not_loose(store: &Path, id: Oid) -> Result<(), RepositoryError> {
    let hex = id.to_string();
    let path = store.join(&hex[..2]).join(&hex[2..]);
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(RepositoryError::Io { path, source }),
        Ok(_) => {
            Err(RepositoryError::Io { path, source: io::Error::other("it is there and cannot be read as an object") })
        }
    }
}

/// The indexes of all packs in a folder, whether or not they are there. A folder that is away is an error: a store that was
/// never filled has it all the same, a mount that is away has not.
fn indexes(packs: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(packs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            found.push(path.with_extension("idx"));
        }
    }
    Ok(found)
}

/// Whether a pack's index lists an object.
fn lists(index: &File, id: Oid) -> io::Result<bool> {
    let mut head = [0; 8];
    index.read_exact_at(&mut head, 0)?;
    // Before the ids of the first version stand their places in the pack.
    let (fanout_at, stride, id_at) = if head == MAGIC { (8, ID_BYTES, 0) } else { (0, ID_BYTES + 4, 4) };
    let mut fanout = [0; FANOUT_BYTES as usize];
    index.read_exact_at(&mut fanout, fanout_at)?;
    let ends: Vec<u64> =
        fanout.chunks_exact(4).map(|n| u64::from(u32::from_be_bytes(n.try_into().expect("four bytes")))).collect();
    let bytes_per_id = if head == MAGIC { ID_BYTES + 4 + 4 } else { stride } as u64;
    let bytes_min = fanout_at + FANOUT_BYTES + ends[255] * bytes_per_id + 2 * ID_BYTES as u64;
    if !ends.is_sorted() || index.metadata()?.len() < bytes_min {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is damaged or cut short; git index-pack makes it again",
        ));
    }
    let first = usize::from(id.as_bytes()[0]);
    let (mut from, mut to) = (if first == 0 { 0 } else { ends[first - 1] }, ends[first]);
    while from < to {
        let middle = from + (to - from) / 2;
        let mut at = [0; ID_BYTES];
        index.read_exact_at(&mut at, fanout_at + FANOUT_BYTES + middle * stride as u64 + id_at)?;
        match at.as_slice().cmp(id.as_bytes()) {
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Less => from = middle + 1,
            std::cmp::Ordering::Greater => to = middle,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    /// A repository whose one commit is in a pack, its id, and the pack's index.
    fn packed(version: &str) -> (Fixture, Oid, PathBuf) {
        let fixture = Fixture::with_files(&[("a", "1"), ("d/b", "2")]);
        let id = fixture.repository().resolve("HEAD").expect("a commit");
        git(fixture.path(), &["-c", &format!("pack.indexVersion={version}"), "repack", "-adq"]);
        let index = indexes(&fixture.path().join(".git/objects/pack")).expect("a folder").remove(0);
        (fixture, id, index)
    }

    #[test]
    fn an_index_of_either_version_lists_what_it_lists() {
        for version in ["1", "2"] {
            let (fixture, id, index) = packed(version);
            let index = File::open(index).expect("an index");
            for name in ["HEAD", "HEAD:a", "HEAD:d", "HEAD:d/b", "HEAD^{tree}"] {
                let id: Oid = git(fixture.path(), &["rev-parse", name]).trim().parse().expect("an id");
                assert!(lists(&index, id).expect("legible"), "{version} {name}");
            }
            for byte in [0, 1, 127, 254, 255] {
                let mut other = [byte; ID_BYTES];
                assert!(!lists(&index, Oid::from_bytes(&other).expect("an id")).expect("legible"), "{version}");
                other.copy_from_slice(id.as_bytes());
                other[19] ^= 1;
                assert!(!lists(&index, Oid::from_bytes(&other).expect("an id")).expect("legible"), "{version}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_gone() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 4] = [
            ("no index", |index| std::fs::remove_file(index).expect("there")),
            ("cut short", |index| {
                let file = File::options().write(true).open(index).expect("there");
                file.set_len(1040).expect("space");
            }),
            ("empty", |index| std::fs::write(index, "").expect("there")),
            ("no folder of packs", |index| {
                let packs = index.parent().expect("a folder");
                std::fs::rename(packs, packs.with_extension("away")).expect("one disk");
            }),
        ];
        for (what, harm) in harms {
            let (fixture, id, index) = packed("2");
            std::fs::set_permissions(&index, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
            let repository = fixture.repository();
            harm(&index);
            let said = repository.presence(&repository.fresh().expect("opens"), id);
            assert!(matches!(said, Presence::Hidden(_)), "{what}: {said:?}");
            assert!(repository.has_commit(id).is_err(), "{what}");
        }
    }

    #[test]
    fn what_no_store_holds_is_gone() {
        let (fixture, id, _) = packed("2");
        let repository = fixture.repository();
        assert!(repository.has_commit(id).expect("legible"));
        let none = Oid::from_bytes(&[7; ID_BYTES]).expect("an id");
        assert!(!repository.has_commit(none).expect("legible"));
        let broken = repository.common_dir().join("objects/07");
        std::fs::create_dir(&broken).expect("space");
        std::fs::write(broken.join("07".repeat(19)), "").expect("space");
        assert!(repository.has_commit(none).is_err(), "an empty file is a write that was cut off");
    }
}
