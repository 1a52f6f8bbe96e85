//! Git's index as bytes: written for exactly one folder, so that `git status` there opens no file.
//!
//! libgit2 can write an index too, but not one whose cached trees stay valid while stat data is filled in, and reading and
//! writing 80,000 entries through it costs ten times as much as here. It ends in its checksum, although a git of today could do
//! without (`index.skipHash`): `git fsck` before 2.40 takes an index without one for a damaged one.
//!
//! Source: git's `Documentation/gitformat-index.txt`, versions 2 and 3, extensions `TREE` and `UNTR`.

use std::os::unix::fs::MetadataExt as _;

use git2::Oid;
use sha1::{Digest as _, Sha1};

use crate::tree::GITLINK;

const VERSION_PLAIN: u32 = 2;
const VERSION_EXTENDED: u32 = 3;
const FIXED_BYTES: usize = 62;
const CHECKSUM_BYTES: usize = 20;
const FLAG_EXTENDED: u16 = 0x4000;
const FLAG_STAGE: u16 = 0x3000;
const FLAG_NAME: u16 = 0x0fff;
const EXTENDED_SKIP_WORKTREE: u16 = 0x4000;

/// What the index remembers of a file, cut to 32 bits as git does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Seconds and nanoseconds.
    pub ctime: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (u32, u32),
    /// Device.
    pub dev: u32,
    /// Inode.
    pub ino: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u32,
}

impl Stat {
    /// Of a file that was looked at.
    pub fn of(metadata: &std::fs::Metadata) -> Stat {
        let cut = |value: i64| value as u32;
        Stat {
            ctime: (cut(metadata.ctime()), cut(metadata.ctime_nsec())),
            mtime: (cut(metadata.mtime()), cut(metadata.mtime_nsec())),
            dev: metadata.dev() as u32,
            ino: metadata.ino() as u32,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: metadata.size() as u32,
        }
    }

    /// Whether nothing says that the file was touched: what cannot be set back by a program counts too (inode and ctime).
    pub fn is_same_file(&self, other: &Stat) -> bool {
        (self.ctime, self.mtime, self.ino, self.size) == (other.ctime, other.mtime, other.ino, other.size)
    }
}

/// Whether an entry's file is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Checked out.
    CheckedOut,
    /// Outside of the sparse globs: git takes it for unchanged without looking.
    Skipped,
}

/// One tracked path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// From the root, components separated by `/`.
    pub path: Vec<u8>,
    /// As in a tree.
    pub mode: u32,
    /// As in a tree.
    pub id: Oid,
    /// All zero for skipped entries and gitlinks.
    pub stat: Stat,
    /// Whether the file is there.
    pub presence: Presence,
}

/// A directory whose tree id is known, so that git need not compute it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedTree {
    /// One component; empty for the root.
    pub name: Vec<u8>,
    /// Number of index entries below, and the tree; `None` when something below changed.
    pub known: Option<(u32, Oid)>,
    /// Directories in it.
    pub below: Vec<CachedTree>,
}

/// An index file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    // Invariant: sorted by path, no path twice.
    entries: Vec<IndexEntry>,
    tree: Option<CachedTree>,
    /// What is remembered of folders, as it lies in the file (see [`super::untracked_cache`]). No change of entries or files
    /// has to be told here: git asks the folders themselves.
    folders: Option<Vec<u8>>,
}

/// The bytes are no index of ours or of a plain git: a damaged file, or one with extensions that change its meaning (split
/// and sparse indexes, version 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read the index: it is damaged or uses a format that is not read here")]
pub struct Unreadable;

impl Index {
    /// An index of these entries.
    pub fn new(mut entries: Vec<IndexEntry>, tree: Option<CachedTree>) -> Index {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Index { entries, tree, folders: None }
    }

    /// The same index with the extension of [`super::untracked_cache`], which holds for one folder under one path; `None`
    /// takes it out.
    pub fn with_folders(self, folders: Option<Vec<u8>>) -> Index {
        Index { folders, ..self }
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Fills in what a folder's files look like now.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut IndexEntry> {
        self.entries.iter_mut()
    }

    /// The entry at a path.
    pub fn get(&self, path: &[u8]) -> Option<&IndexEntry> {
        self.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok().map(|at| &self.entries[at])
    }

    /// The entries at a path and below it.
    pub fn below<'a>(&'a self, path: &[u8]) -> impl Iterator<Item = &'a IndexEntry> + use<'a> {
        let folder = [path, b"/"].concat();
        let first = self.entries.partition_point(|entry| entry.path < folder);
        let inside = self.entries[first..].iter().take_while(move |entry| entry.path.starts_with(&folder));
        self.get(path).into_iter().chain(inside)
    }

    /// Replaces and adds entries, removes paths, and forgets the cached trees above them.
    pub fn replace(&mut self, entries: Vec<IndexEntry>, removed: &std::collections::BTreeSet<Vec<u8>>) {
        for path in entries.iter().map(|entry| &entry.path).chain(removed) {
            if let Some(tree) = &mut self.tree {
                forget(tree, path);
            }
        }
        let fresh: std::collections::BTreeSet<&[u8]> = entries.iter().map(|entry| entry.path.as_slice()).collect();
        self.entries.retain(|entry| !removed.contains(&entry.path) && !fresh.contains(entry.path.as_slice()));
        self.entries.extend(entries);
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let extended = self.entries.iter().any(|entry| entry.presence == Presence::Skipped);
        let mut bytes =
            Vec::with_capacity(self.entries.iter().map(|entry| entry.path.len() + 72).sum::<usize>() + 4096);
        bytes.extend_from_slice(b"DIRC");
        put(&mut bytes, if extended { VERSION_EXTENDED } else { VERSION_PLAIN });
        put(&mut bytes, self.entries.len() as u32);
        for entry in &self.entries {
            put_entry(&mut bytes, entry);
        }
        if let Some(tree) = &self.tree {
            let mut extension = Vec::new();
            put_tree(&mut extension, tree);
            put_extension(&mut bytes, b"TREE", &extension);
        }
        if let Some(folders) = &self.folders {
            put_extension(&mut bytes, b"UNTR", folders);
        }
        let checksum: [u8; CHECKSUM_BYTES] = Sha1::digest(&bytes).into();
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads an index of version 2 or 3. Unmerged entries are left out.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(bytes: &[u8]) -> Result<Index, Unreadable> {
        let body = bytes.len().checked_sub(CHECKSUM_BYTES).map(|end| &bytes[..end]).ok_or(Unreadable)?;
        let mut rest = body.strip_prefix(b"DIRC").ok_or(Unreadable)?;
        let version = take_u32(&mut rest)?;
        if version != VERSION_PLAIN && version != VERSION_EXTENDED {
            return Err(Unreadable);
        }
        let count = take_u32(&mut rest)? as usize;
        let mut entries = Vec::with_capacity(count.min(rest.len() / FIXED_BYTES));
        for _ in 0..count {
            entries.extend(take_entry(&mut rest)?);
        }
        let (mut tree, mut folders) = (None, None);
        while !rest.is_empty() {
            let signature = take(&mut rest, 4)?;
            let size = take_u32(&mut rest)? as usize;
            let mut content = take(&mut rest, size)?;
            match signature {
                b"TREE" => tree = Some(take_tree(&mut content, 0)?),
                b"UNTR" => folders = Some(content.to_vec()),
                // An upper-case first letter marks what may be ignored.
                [b'A'..=b'Z', ..] => {}
                _ => return Err(Unreadable),
            }
        }
        Ok(Index { entries, tree, folders })
    }
}

/// Forgets every directory on the way to `path`; what stands there as a directory itself is gone.
fn forget(tree: &mut CachedTree, path: &[u8]) {
    tree.known = None;
    let (name, rest) = match path.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    };
    match (tree.below.iter().position(|below| below.name == name), rest) {
        (Some(at), Some(rest)) => forget(&mut tree.below[at], rest),
        (Some(at), None) => {
            tree.below.remove(at);
        }
        (None, _) => {}
    }
}

fn put(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_be_bytes());
}

fn put_extension(bytes: &mut Vec<u8>, signature: &[u8; 4], content: &[u8]) {
    bytes.extend_from_slice(signature);
    put(bytes, content.len() as u32);
    bytes.extend_from_slice(content);
}

fn put_entry(bytes: &mut Vec<u8>, entry: &IndexEntry) {
    let start = bytes.len();
    let stat = &entry.stat;
    for value in [stat.ctime.0, stat.ctime.1, stat.mtime.0, stat.mtime.1, stat.dev, stat.ino, entry.mode] {
        put(bytes, value);
    }
    for value in [stat.uid, stat.gid, stat.size] {
        put(bytes, value);
    }
    bytes.extend_from_slice(entry.id.as_bytes());
    let length = entry.path.len().min(usize::from(FLAG_NAME)) as u16;
    match entry.presence {
        Presence::CheckedOut => bytes.extend_from_slice(&length.to_be_bytes()),
        Presence::Skipped => {
            bytes.extend_from_slice(&(length | FLAG_EXTENDED).to_be_bytes());
            bytes.extend_from_slice(&EXTENDED_SKIP_WORKTREE.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&entry.path);
    // One to eight NULs, so that each entry's length is a multiple of eight.
    let padded = (bytes.len() - start + 8) / 8 * 8;
    bytes.resize(start + padded, 0);
}

fn put_tree(bytes: &mut Vec<u8>, tree: &CachedTree) {
    bytes.extend_from_slice(&tree.name);
    bytes.push(0);
    let count = tree.known.map_or(-1, |(count, _)| i64::from(count));
    bytes.extend_from_slice(format!("{count} {}\n", tree.below.len()).as_bytes());
    if let Some((_, id)) = tree.known {
        bytes.extend_from_slice(id.as_bytes());
    }
    for below in &tree.below {
        put_tree(bytes, below);
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Unreadable> {
    let (head, tail) = bytes.split_at_checked(count).ok_or(Unreadable)?;
    *bytes = tail;
    Ok(head)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, Unreadable> {
    Ok(u32::from_be_bytes(take(bytes, 4)?.try_into().map_err(|_| Unreadable)?))
}

fn take_u16(bytes: &mut &[u8]) -> Result<u16, Unreadable> {
    Ok(u16::from_be_bytes(take(bytes, 2)?.try_into().map_err(|_| Unreadable)?))
}

fn take_entry(bytes: &mut &[u8]) -> Result<Option<IndexEntry>, Unreadable> {
    let start = bytes.len();
    let mut words = [0; 10];
    for word in &mut words {
        *word = take_u32(bytes)?;
    }
    let [ctime, ctime_ns, mtime, mtime_ns, dev, ino, mode, uid, gid, size] = words;
    let id = Oid::from_bytes(take(bytes, 20)?).map_err(|_| Unreadable)?;
    let flags = take_u16(bytes)?;
    let extended = if flags & FLAG_EXTENDED == 0 { 0 } else { take_u16(bytes)? };
    let length = bytes.iter().position(|&byte| byte == 0).ok_or(Unreadable)?;
    let path = take(bytes, length)?.to_vec();
    let used = start - bytes.len();
    take(bytes, (used + 8) / 8 * 8 - used)?;
    if flags & FLAG_STAGE != 0 {
        return Ok(None);
    }
    let skipped = extended & EXTENDED_SKIP_WORKTREE != 0;
    let stat = Stat { ctime: (ctime, ctime_ns), mtime: (mtime, mtime_ns), dev, ino, uid, gid, size };
    let presence = if skipped { Presence::Skipped } else { Presence::CheckedOut };
    Ok(Some(IndexEntry { path, mode, id, stat, presence }))
}

fn take_tree(bytes: &mut &[u8], depth: usize) -> Result<CachedTree, Unreadable> {
    if depth > crate::tree::DEPTH_MAX {
        return Err(Unreadable);
    }
    let nul = bytes.iter().position(|&byte| byte == 0).ok_or(Unreadable)?;
    let name = take(bytes, nul)?.to_vec();
    take(bytes, 1)?;
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or(Unreadable)?;
    let counts = std::str::from_utf8(take(bytes, end)?).map_err(|_| Unreadable)?;
    take(bytes, 1)?;
    let (count, subtrees) = counts.split_once(' ').ok_or(Unreadable)?;
    let known = match count.parse::<i64>().map_err(|_| Unreadable)? {
        count if count < 0 => None,
        count => {
            let id = Oid::from_bytes(take(bytes, 20)?).map_err(|_| Unreadable)?;
            Some((u32::try_from(count).map_err(|_| Unreadable)?, id))
        }
    };
    let subtrees: usize = subtrees.parse().map_err(|_| Unreadable)?;
    let below = (0..subtrees).map(|_| take_tree(bytes, depth + 1)).collect::<Result<_, _>>()?;
    Ok(CachedTree { name, known, below })
}

/// An entry of a submodule, which has no file of its own.
pub fn is_gitlink(entry: &IndexEntry) -> bool {
    entry.mode == GITLINK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    fn parsed(fixture: &Fixture) -> Index {
        let bytes = std::fs::read(fixture.path().join(".git/index")).expect("git wrote it");
        Index::parse(&bytes).expect("git's own index is read")
    }

    #[test]
    fn what_git_writes_is_read_and_written_back() {
        let fixture = Fixture::with_files(&[("a/b/c", "1"), ("a/d", "2"), ("é", "3")]);
        git(fixture.path(), &["config", "core.untrackedCache", "false"]);
        let index = parsed(&fixture);
        assert_eq!(index.entries().len(), 3);
        assert!(index.tree.is_some(), "git caches trees when it commits");
        assert_eq!(Index::parse(&index.to_bytes()).expect("our own bytes"), index);
    }

    #[test]
    fn git_accepts_what_is_written() {
        let fixture = Fixture::with_files(&[("a/b/c", "1"), ("a/d", "2"), ("e/f", "3")]);
        let mut index = parsed(&fixture);
        index.replace(Vec::new(), &[b"a/b/c".to_vec()].into());
        for entry in index.entries_mut().filter(|entry| entry.path == b"a/d") {
            entry.presence = Presence::Skipped;
        }
        std::fs::write(fixture.path().join(".git/index"), index.to_bytes()).expect("replaced");
        std::fs::remove_file(fixture.path().join("a/d")).expect("skipped files may be missing");
        assert_eq!(git(fixture.path(), &["ls-files", "-t"]), "S a/d\nH e/f\n");
        assert_eq!(git(fixture.path(), &["diff", "--name-only"]), "");
        let tree = git(fixture.path(), &["write-tree"]);
        assert_eq!(git(fixture.path(), &["ls-tree", "-r", "--name-only", tree.trim()]), "a/d\ne/f\n");
    }

    #[test]
    fn damaged_bytes_are_refused_and_never_panic() {
        let fixture = Fixture::with_files(&[("a/b", "1"), ("c", "2")]);
        let bytes = parsed(&fixture).to_bytes();
        for end in 0..bytes.len() - 1 {
            let _ = Index::parse(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = Index::parse(&damaged);
        }
        assert_eq!(Index::parse(b"DIRC"), Err(Unreadable));
    }
}
