//! Tree objects as sorted entries: read, compared, edited and written a whole tree at a time.
//!
//! The bytes are parsed here instead of through `git2::Tree`, because a merge touches each tree once: one allocation a tree
//! and a merge of two sorted runs, where a tree builder hashes every entry of a folder to replace one.
//! Source: gitformat-object is `<mode in octal> <name>\0<20 bytes of id>` an entry, sorted as if folders ended in `/`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use git2::{ObjectType, Odb, Oid};

use super::fold::FoldError;

/// The kind bits of a mode.
const KIND: u32 = 0o170_000;
/// Bytes of a binary SHA-1 id; the only object format that libgit2 is built with here.
const OID_BYTES: usize = 20;

/// What a name in a folder points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Item {
    /// One of git's five modes: 040000, 100644, 100755, 120000, 160000.
    pub mode: u32,
    /// The object.
    pub id: Oid,
}

/// Git's kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file, executable or not.
    File,
    /// A symbolic link.
    Symlink,
    /// A commit of another repository.
    Gitlink,
}

impl Item {
    /// What it is.
    pub fn kind(self) -> Kind {
        match self.mode & KIND {
            0o040_000 => Kind::Folder,
            0o120_000 => Kind::Symlink,
            0o160_000 => Kind::Gitlink,
            _ => Kind::File,
        }
    }

    /// Whether it is a folder.
    pub fn is_folder(self) -> bool {
        self.kind() == Kind::Folder
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// One path component.
    pub name: Vec<u8>,
    /// What it points at.
    pub item: Item,
}

/// A tree's entries in git's order; no name occurs twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries(Vec<Entry>);

/// Old and new item of a name; never both the same.
pub type Changed = (Option<Item>, Option<Item>);

/// Old mode bits as git reads them: group-writable files of ancient repositories count as 100644.
fn canonical_mode(mode: u32) -> u32 {
    match mode & KIND {
        0o040_000 => 0o040_000,
        0o120_000 => 0o120_000,
        0o160_000 => 0o160_000,
        _ if mode & 0o100 != 0 => 0o100_755,
        _ => 0o100_644,
    }
}

/// Git's order: byte-wise, with a `/` behind the names of folders.
fn git_order(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let common = a.0.len().min(b.0.len());
    a.0[..common].cmp(&b.0[..common]).then_with(|| {
        let next = |(name, folder): (&[u8], bool)| match name.get(common) {
            Some(&byte) => Some(byte),
            None if folder => Some(b'/'),
            None => None,
        };
        next(a).cmp(&next(b)).then_with(|| a.0.len().cmp(&b.0.len()))
    })
}

impl Entry {
    fn order(&self, other: &Entry) -> Ordering {
        git_order((&self.name, self.item.is_folder()), (&other.name, other.item.is_folder()))
    }
}

impl Entries {
    /// Reads the tree `id`; an absent one is empty.
    ///
    /// # Errors
    /// [`FoldError::Missing`] when the object is not there, [`FoldError::Malformed`] when it is no tree,
    /// [`FoldError::Store`] when it cannot be read.
    pub fn read(odb: &Odb<'_>, id: Option<Oid>) -> Result<Entries, FoldError> {
        let Some(id) = id else { return Ok(Entries::default()) };
        let object = odb.read(id).map_err(|error| FoldError::of_read(id, error))?;
        if object.kind() != ObjectType::Tree {
            return Err(FoldError::Malformed { tree: id });
        }
        parse(object.data()).ok_or(FoldError::Malformed { tree: id })
    }

    /// What `name` points at.
    pub fn get(&self, name: &[u8]) -> Option<Item> {
        [false, true].iter().find_map(|&folder| {
            let found =
                self.0.binary_search_by(|entry| git_order((&entry.name, entry.item.is_folder()), (name, folder)));
            found.ok().map(|at| self.0[at].item)
        })
    }

    /// The names that differ from `self` to `new`, sorted byte-wise.
    pub fn changes<'a>(&'a self, new: &'a Entries) -> BTreeMap<&'a [u8], Changed> {
        let mut changes: BTreeMap<&[u8], Changed> = BTreeMap::new();
        let (mut before, mut after) = (self.0.iter().peekable(), new.0.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.order(new),
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            if old.map(|entry| entry.item) == new.map(|entry| entry.item) {
                continue;
            }
            // A folder that became a file sorts elsewhere: the two halves of one change meet in the map.
            if let Some(old) = old {
                changes.entry(&old.name).or_default().0 = Some(old.item);
            }
            if let Some(new) = new {
                changes.entry(&new.name).or_default().1 = Some(new.item);
            }
        }
    }

    /// Writes the tree in which the names of `edits` point elsewhere (`None` removes). Gives `None` when nothing is left,
    /// because git keeps no empty folders.
    ///
    /// # Errors
    /// [`FoldError::Store`] when the object cannot be written.
    pub fn write_edited(
        self,
        odb: &Odb<'_>,
        mut edits: HashMap<Vec<u8>, Option<Item>>,
    ) -> Result<Option<Oid>, FoldError> {
        let mut entries = Vec::with_capacity(self.0.len() + edits.len());
        let mut sorted = true;
        for entry in self.0 {
            match edits.remove(&entry.name) {
                None => entries.push(entry),
                Some(None) => {}
                Some(Some(item)) => {
                    sorted &= item.is_folder() == entry.item.is_folder();
                    entries.push(Entry { name: entry.name, item });
                }
            }
        }
        for (name, item) in edits {
            if let Some(item) = item {
                sorted = false;
                entries.push(Entry { name, item });
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if !sorted {
            entries.sort_by(Entry::order);
        }
        odb.write(ObjectType::Tree, &serialize(&entries)).map(Some).map_err(FoldError::Store)
    }
}

/// The id of the empty tree, written so that a ref may point at it.
///
/// # Errors
/// [`FoldError::Store`] when the object cannot be written.
pub fn write_empty(odb: &Odb<'_>) -> Result<Oid, FoldError> {
    odb.write(ObjectType::Tree, b"").map_err(FoldError::Store)
}

fn parse(mut bytes: &[u8]) -> Option<Entries> {
    // An entry of real repositories takes about 36 bytes.
    let mut entries = Vec::with_capacity(bytes.len() / 32);
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&byte| byte == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(&bytes[..space]).ok()?, 8).ok()?;
        bytes = &bytes[space + 1..];
        let nul = bytes.iter().position(|&byte| byte == 0)?;
        let name = bytes[..nul].to_vec();
        bytes = &bytes[nul + 1..];
        let id = Oid::from_bytes(bytes.get(..OID_BYTES)?).ok()?;
        bytes = &bytes[OID_BYTES..];
        entries.push(Entry { name, item: Item { mode: canonical_mode(mode), id } });
    }
    Some(Entries(entries))
}

fn serialize(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.iter().map(|entry| entry.name.len() + 8 + OID_BYTES).sum());
    for entry in entries {
        bytes.extend_from_slice(format!("{:o} ", entry.item.mode).as_bytes());
        bytes.extend_from_slice(&entry.name);
        bytes.push(0);
        bytes.extend_from_slice(entry.item.id.as_bytes());
    }
    bytes
}

/// Edits of whole paths: `None` removes.
pub type Edits = BTreeMap<Vec<u8>, Option<Item>>;

/// The result of [`edit_paths`].
#[derive(Debug, PartialEq, Eq)]
pub enum Edited {
    /// The tree with the edits; `None` when nothing is left.
    Tree(Option<Oid>),
    /// These paths would have to be a folder and something else at once.
    Clash(Vec<Vec<u8>>),
}

/// Applies edits of files, links and gitlinks to the tree `root`, reading and writing only the folders on their paths.
///
/// # Errors
/// As [`Entries::read`] and [`Entries::write_edited`].
pub fn edit_paths(odb: &Odb<'_>, root: Option<Oid>, edits: &Edits) -> Result<Edited, FoldError> {
    let mut clashes = Vec::new();
    let edits: Vec<(&[u8], Option<Item>)> = edits.iter().map(|(path, item)| (path.as_slice(), *item)).collect();
    let tree = edit_folder(odb, root, b"", &edits, &mut clashes)?;
    Ok(if clashes.is_empty() { Edited::Tree(tree) } else { Edited::Clash(clashes) })
}

/// The edits of one name in a folder: of the name itself, and of what lies below it.
#[derive(Default)]
struct NameEdits<'a> {
    itself: Option<Option<Item>>,
    below: Vec<(&'a [u8], Option<Item>)>,
}

fn edit_folder(
    odb: &Odb<'_>,
    folder: Option<Oid>,
    path: &[u8],
    edits: &[(&[u8], Option<Item>)],
    clashes: &mut Vec<Vec<u8>>,
) -> Result<Option<Oid>, FoldError> {
    let entries = Entries::read(odb, folder)?;
    let mut names: BTreeMap<&[u8], NameEdits<'_>> = BTreeMap::new();
    for &(rest, item) in edits {
        match rest.iter().position(|&byte| byte == b'/') {
            None => names.entry(rest).or_default().itself = Some(item),
            Some(slash) => names.entry(&rest[..slash]).or_default().below.push((&rest[slash + 1..], item)),
        }
    }
    let mut replaced = HashMap::new();
    for (name, edits) in names {
        let existing = entries.get(name);
        let folder_before = existing.filter(|item| item.is_folder());
        let path = join(path, name);
        let below = match (edits.below.is_empty(), folder_before) {
            (true, folder) => folder,
            (false, folder) => edit_folder(odb, folder.map(|item| item.id), &path, &edits.below, clashes)?
                .map(|id| Item { mode: 0o040_000, id }),
        };
        let itself = match edits.itself {
            Some(item) => item,
            None => existing.filter(|item| !item.is_folder()),
        };
        if below.is_some() && itself.is_some() {
            clashes.push(path);
        }
        replaced.insert(name.to_vec(), itself.or(below));
    }
    entries.write_edited(odb, replaced)
}

/// `folder/name`, or `name` at the top.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Item {
        Item { mode: 0o100_644, id: Oid::hash_object(ObjectType::Blob, bytes).expect("hashing needs no repository") }
    }

    fn tree_of(repo: &git2::Repository, paths: &[&str]) -> Option<Oid> {
        let edits = paths.iter().map(|path| (path.as_bytes().to_vec(), Some(file(path.as_bytes())))).collect();
        match edit_paths(&repo.odb().unwrap(), None, &edits).unwrap() {
            Edited::Tree(tree) => tree,
            Edited::Clash(paths) => panic!("clash at {paths:?}"),
        }
    }

    fn repository() -> (tempfile::TempDir, git2::Repository) {
        let folder = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(folder.path()).unwrap();
        (folder, repo)
    }

    #[test]
    fn folders_sort_as_if_they_ended_in_a_slash() {
        let (_folder, repo) = repository();
        let tree = repo.find_tree(tree_of(&repo, &["a-b", "a/x", "a.b", "a0"]).unwrap()).unwrap();
        let names: Vec<&str> = tree.iter().map(|entry| entry.name().unwrap().to_owned().leak() as &str).collect();
        assert_eq!(names, ["a-b", "a.b", "a", "a0"]);
        let entries = Entries::read(&repo.odb().unwrap(), Some(tree.id())).unwrap();
        for name in names {
            assert!(entries.get(name.as_bytes()).is_some(), "{name}");
        }
        assert_eq!(entries.get(b"a-"), None);
    }

    #[test]
    fn a_folder_that_loses_its_last_file_is_gone() {
        let (_folder, repo) = repository();
        let tree = tree_of(&repo, &["a/b/c", "d"]);
        let edits = Edits::from([(b"a/b/c".to_vec(), None)]);
        assert_eq!(edit_paths(&repo.odb().unwrap(), tree, &edits).unwrap(), Edited::Tree(tree_of(&repo, &["d"])));
    }

    #[test]
    fn a_file_where_a_folder_stays_is_a_clash() {
        let (_folder, repo) = repository();
        let (tree, odb) = (tree_of(&repo, &["a/b", "c"]), repo.odb().unwrap());
        let clash = |path: &str| Edited::Clash(vec![path.as_bytes().to_vec()]);
        let over_folder = Edits::from([(b"a".to_vec(), Some(file(b"")))]);
        assert_eq!(edit_paths(&odb, tree, &over_folder).unwrap(), clash("a"));
        let under_file = Edits::from([(b"c/d".to_vec(), Some(file(b"")))]);
        assert_eq!(edit_paths(&odb, tree, &under_file).unwrap(), clash("c"));
        let swapped = Edits::from([(b"a".to_vec(), Some(file(b"a"))), (b"a/b".to_vec(), None)]);
        assert_eq!(edit_paths(&odb, tree, &swapped).unwrap(), Edited::Tree(tree_of(&repo, &["a", "c"])));
    }
}
