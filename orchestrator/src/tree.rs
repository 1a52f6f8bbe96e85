//! Git trees as bytes: reading, comparing and editing them without touching what did not change.
//!
//! libgit2 edits trees through an index of the whole repository, which costs time in proportion to it. Here an edit reads
//! and writes only the directories on the way to a changed path, and a comparison descends only where ids differ. No name
//! is judged here: what may become an entry is decided by who calls.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use git2::{ObjectType, Odb, Oid};

/// Mode of a plain file.
pub const FILE: u32 = 0o100_644;
/// Mode of an executable file.
pub const EXECUTABLE: u32 = 0o100_755;
/// Mode of a symbolic link; its blob holds the target.
pub const SYMLINK: u32 = 0o120_000;
/// Mode of a submodule's commit.
pub const GITLINK: u32 = 0o160_000;
/// Mode of a directory.
pub const DIRECTORY: u32 = 0o040_000;

/// The deepest directory that is entered, in components from the root.
pub const DEPTH_MAX: usize = 4096;

/// Why a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The object is not a tree, or is damaged: `git fsck` says more.
    #[error("tree {0} is malformed")]
    Malformed(Oid),
    /// Deeper than is allowed, and nowhere more than [`DEPTH_MAX`] directories.
    #[error("directories are nested too deep")]
    TooDeep,
    /// Whoever asked does not want to know any more.
    #[error("it was stopped")]
    Stopped,
    /// Two edits contradict each other: one makes a file where the other makes a directory.
    #[error("{} would be a file and a directory", String::from_utf8_lossy(.0).escape_debug())]
    FileAndDirectory(Vec<u8>),
    /// The object store failed or lacks the object.
    #[error("the object store: {0}")]
    Store(#[from] git2::Error),
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// One of the mode constants of this module.
    pub mode: u32,
    /// Blob, tree, or (for a gitlink) a commit elsewhere.
    pub id: Oid,
}

impl Entry {
    /// Whether the entry is a directory.
    pub fn is_tree(self) -> bool {
        self.mode == DIRECTORY
    }

    /// The entry with its mode spelled as git writes it today: ancient repositories hold 100664.
    pub fn canonical(self) -> Entry {
        let mode = match self.mode & 0o170_000 {
            0o100_000 if self.mode & 0o100 != 0 => EXECUTABLE,
            0o100_000 => FILE,
            other => other,
        };
        Entry { mode, id: self.id }
    }
}

/// One directory: names in git's order.
pub type Listing = Vec<(Vec<u8>, Entry)>;

/// What a name stood for and what it stands for; never both the same.
pub type Changed = [Option<Entry>; 2];

/// One difference between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// From the root, components separated by `/`.
    pub path: Vec<u8>,
    /// Never a directory.
    pub old: Option<Entry>,
    /// Never a directory.
    pub new: Option<Entry>,
}

/// What to put at each path: an entry that is no directory, or `None` to remove what is there (a whole directory too).
pub type Edits = BTreeMap<Vec<u8>, Option<Entry>>;

/// Reads one directory, in git's order. Modes are those that git writes today.
///
/// # Errors
/// [`TreeError::Malformed`] and [`TreeError::Store`].
pub fn list(odb: &Odb<'_>, id: Oid) -> Result<Listing, TreeError> {
    let object = odb.read(id)?;
    if object.kind() != ObjectType::Tree {
        return Err(TreeError::Malformed(id));
    }
    parse(object.data()).ok_or(TreeError::Malformed(id))
}

/// What a name of a directory stands for.
pub fn get(listing: &Listing, name: &[u8]) -> Option<Entry> {
    // A file and a directory of one name stand at different places of the order.
    let at = |is_tree| listing.binary_search_by(|(known, entry)| git_order((known, entry.is_tree()), (name, is_tree)));
    at(false).or_else(|_| at(true)).ok().map(|found| listing[found].1)
}

/// The names of one directory that stand for something else in `new`, sorted.
pub fn changes<'a>(old: &'a Listing, new: &'a Listing) -> BTreeMap<&'a [u8], Changed> {
    let mut changes: BTreeMap<&[u8], Changed> = BTreeMap::new();
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => name_order(old, new),
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        if old.map(|(_, entry)| entry) == new.map(|(_, entry)| entry) {
            continue;
        }
        // A directory that became a file stands elsewhere: the two halves of one change meet in the map.
        for (side, half) in [old, new].into_iter().enumerate() {
            if let Some((name, entry)) = half {
                changes.entry(name).or_default()[side] = Some(*entry);
            }
        }
    }
}

/// Writes one directory in which the names of `edits` stand for something else (`None` removes them). Returns `None` when
/// nothing is left.
///
/// # Errors
/// [`TreeError::Store`].
pub fn replace(
    odb: &Odb<'_>,
    mut listing: Listing,
    mut edits: HashMap<Vec<u8>, Option<Entry>>,
) -> Result<Option<Oid>, TreeError> {
    listing.retain_mut(|(name, entry)| match edits.remove(name) {
        None => true,
        Some(None) => false,
        Some(Some(new)) => {
            *entry = new;
            true
        }
    });
    listing.extend(edits.into_iter().filter_map(|(name, entry)| Some((name, entry?))));
    if listing.is_empty() { Ok(None) } else { write(odb, listing).map(Some) }
}

/// What stands at a path; `None` when nothing does. The empty path is the root itself.
///
/// # Errors
/// [`TreeError::Malformed`] and [`TreeError::Store`].
pub fn find(odb: &Odb<'_>, root: Oid, path: &[u8]) -> Result<Option<Entry>, TreeError> {
    let mut at = Entry { mode: DIRECTORY, id: root };
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if !at.is_tree() {
            return Ok(None);
        }
        match get(&list(odb, at.id)?, name) {
            Some(entry) => at = entry,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// How much a tree holds when it is written out, each directory as often as it stands somewhere. Saturating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Files, links, submodules and directories.
    pub entries: u64,
    /// Bytes of all their paths from the root, each with a separator.
    pub path_bytes: u64,
    /// Directories on the longest way down, the root not counted.
    pub depth: usize,
}

/// Measures a tree. Each directory is read once however often it stands somewhere, so that a tree of a few kilobytes that would
/// be written out as billions of files is known for what it is. `go_on` is asked before each directory.
///
/// # Errors
/// All of [`TreeError`] but [`TreeError::FileAndDirectory`]; [`TreeError::TooDeep`] below `depth_max`, and
/// [`TreeError::Stopped`].
pub fn extent(odb: &Odb<'_>, root: Oid, depth_max: usize, go_on: &dyn Fn() -> bool) -> Result<Extent, TreeError> {
    let mut measured = HashMap::new();
    extent_below(odb, root, depth_max, go_on, &mut measured)
}

fn extent_below(
    odb: &Odb<'_>,
    id: Oid,
    room: usize,
    go_on: &dyn Fn() -> bool,
    measured: &mut HashMap<Oid, Extent>,
) -> Result<Extent, TreeError> {
    if let Some(known) = measured.get(&id) {
        return if known.depth > room { Err(TreeError::TooDeep) } else { Ok(*known) };
    }
    if !go_on() {
        return Err(TreeError::Stopped);
    }
    let mut all = Extent::default();
    for (name, entry) in list(odb, id)? {
        let name_bytes = name.len() as u64 + 1;
        let below = match entry.is_tree() {
            true if room == 0 => return Err(TreeError::TooDeep),
            true => extent_below(odb, entry.id, room - 1, go_on, measured)?,
            false => Extent::default(),
        };
        let entries = below.entries.saturating_add(1);
        all.entries = all.entries.saturating_add(entries);
        let path_bytes = below.path_bytes.saturating_add(name_bytes.saturating_mul(entries));
        all.path_bytes = all.path_bytes.saturating_add(path_bytes);
        all.depth = all.depth.max(below.depth + usize::from(entry.is_tree()));
    }
    measured.insert(id, all);
    Ok(all)
}

/// Compares two trees, descending only where they differ. `None` stands for the empty tree. Sorted by path.
///
/// # Errors
/// All of [`TreeError`] but [`TreeError::FileAndDirectory`].
pub fn diff(odb: &Odb<'_>, old: Option<Oid>, new: Option<Oid>) -> Result<Vec<Difference>, TreeError> {
    let mut found = Vec::new();
    diff_below(odb, old, new, &mut Vec::new(), 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Writes the tree that results from `edits`; directories that become empty disappear. Returns `None` for the empty tree.
///
/// # Errors
/// All of [`TreeError`].
pub fn edit(odb: &Odb<'_>, root: Option<Oid>, edits: &Edits) -> Result<Option<Oid>, TreeError> {
    let edits: Vec<(&[u8], Option<Entry>)> = edits.iter().map(|(path, entry)| (path.as_slice(), *entry)).collect();
    edit_directory(odb, root, &edits, 0)
}

/// Writes one directory from its entries in any order.
///
/// # Errors
/// [`TreeError::Store`].
pub fn write(odb: &Odb<'_>, mut listing: Listing) -> Result<Oid, TreeError> {
    // Nearly always it is sorted already, which the sort notices in one pass.
    listing.sort_by(name_order);
    let mut bytes = Vec::with_capacity(listing.iter().map(|(name, _)| name.len() + 28).sum());
    for (name, entry) in &listing {
        bytes.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_bytes());
    }
    Ok(odb.write(ObjectType::Tree, &bytes)?)
}

fn parse(mut bytes: &[u8]) -> Option<Listing> {
    let mut listing = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(8).position(|&byte| byte == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(&bytes[..space]).ok()?, 8).ok()?;
        let rest = &bytes[space + 1..];
        let nul = rest.iter().position(|&byte| byte == 0)?;
        let id = rest.get(nul + 1..nul + 21)?;
        let entry = Entry { mode, id: Oid::from_bytes(id).ok()? };
        listing.push((rest[..nul].to_vec(), entry.canonical()));
        bytes = &rest[nul + 21..];
    }
    Some(listing)
}

fn name_order((a, entry): &(Vec<u8>, Entry), (b, other): &(Vec<u8>, Entry)) -> Ordering {
    git_order((a, entry.is_tree()), (b, other.is_tree()))
}

/// Git sorts a directory as if its name ended in a slash.
fn git_order((a, a_is_tree): (&[u8], bool), (b, b_is_tree): (&[u8], bool)) -> Ordering {
    let common = a.len().min(b.len());
    let next = |name: &[u8], is_tree: bool| match name.get(common) {
        Some(&byte) => Some(byte),
        None if is_tree => Some(b'/'),
        None => None,
    };
    let rest = || next(a, a_is_tree).cmp(&next(b, b_is_tree)).then_with(|| a.len().cmp(&b.len()));
    a[..common].cmp(&b[..common]).then_with(rest)
}

/// Appends a component, calls, and takes it away again.
fn below<R>(path: &mut Vec<u8>, name: &[u8], then: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let result = then(path);
    path.truncate(length);
    result
}

fn diff_below(
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Option<Oid>,
    path: &mut Vec<u8>,
    depth: usize,
    found: &mut Vec<Difference>,
) -> Result<(), TreeError> {
    if old == new {
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(TreeError::TooDeep);
    }
    let [before, after] = [old, new].map(|id| id.map(|id| list(odb, id)).transpose().map(Option::unwrap_or_default));
    for (name, [old, new]) in changes(&before?, &after?) {
        below(path, name, |path| {
            let tree = |side: Option<Entry>| side.filter(|entry| entry.is_tree()).map(|entry| entry.id);
            let leaf = |side: Option<Entry>| side.filter(|entry| !entry.is_tree());
            if tree(old).is_some() || tree(new).is_some() {
                diff_below(odb, tree(old), tree(new), path, depth + 1, found)?;
            }
            let (old, new) = (leaf(old), leaf(new));
            if old != new {
                found.push(Difference { path: path.clone(), old, new });
            }
            Ok::<(), TreeError>(())
        })?;
    }
    Ok(())
}

/// `edits` are sorted by path, which is relative to this directory.
fn edit_directory(
    odb: &Odb<'_>,
    root: Option<Oid>,
    edits: &[(&[u8], Option<Entry>)],
    depth: usize,
) -> Result<Option<Oid>, TreeError> {
    if depth > DEPTH_MAX {
        return Err(TreeError::TooDeep);
    }
    let original = root.map(|id| list(odb, id)).transpose()?.unwrap_or_default();
    let mut groups: BTreeMap<&[u8], Group<'_>> = BTreeMap::new();
    for &(path, entry) in edits {
        match path.iter().position(|&byte| byte == b'/') {
            None => groups.entry(path).or_default().direct = Some(entry),
            Some(slash) => groups.entry(&path[..slash]).or_default().below.push((&path[slash + 1..], entry)),
        }
    }
    let mut listing: Listing = Vec::with_capacity(original.len() + groups.len());
    for (name, entry) in original {
        match groups.remove(name.as_slice()) {
            None => listing.push((name, entry)),
            Some(group) => {
                if let Some(entry) = group.settle(odb, &name, Some(entry), depth)? {
                    listing.push((name, entry));
                }
            }
        }
    }
    for (name, group) in groups {
        if let Some(entry) = group.settle(odb, name, None, depth)? {
            listing.push((name.to_vec(), entry));
        }
    }
    if listing.is_empty() { Ok(None) } else { write(odb, listing).map(Some) }
}

/// The edits that concern one name of a directory.
#[derive(Default)]
struct Group<'a> {
    /// The edit of the name itself.
    direct: Option<Option<Entry>>,
    /// Edits below it, relative to it.
    below: Vec<(&'a [u8], Option<Entry>)>,
}

impl Group<'_> {
    fn settle(
        self,
        odb: &Odb<'_>,
        name: &[u8],
        original: Option<Entry>,
        depth: usize,
    ) -> Result<Option<Entry>, TreeError> {
        let makes_directory = self.below.iter().any(|(_, entry)| entry.is_some());
        match self.direct {
            Some(Some(_)) if makes_directory => Err(TreeError::FileAndDirectory(name.to_vec())),
            Some(Some(entry)) => Ok(Some(entry)),
            Some(None) if !makes_directory => Ok(None),
            // Removals below something that is no directory remove nothing.
            None if !makes_directory && original.is_none_or(|entry| !entry.is_tree()) => Ok(original),
            direct => {
                let tree = original.filter(|entry| direct.is_none() && entry.is_tree()).map(|entry| entry.id);
                let tree = edit_directory(odb, tree, &self.below, depth + 1)?;
                Ok(tree.map(|id| Entry { mode: DIRECTORY, id }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    struct Store {
        _folder: tempfile::TempDir,
        repository: git2::Repository,
    }

    fn store() -> Store {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repository = git2::Repository::init_bare(folder.path()).expect("an empty repository");
        Store { _folder: folder, repository }
    }

    fn edits(odb: &Odb<'_>, list: &[(&str, Option<&str>)]) -> Edits {
        let blob = |text: &str| odb.write(ObjectType::Blob, text.as_bytes()).expect("a blob is written");
        list.iter()
            .map(|(path, text)| (path.as_bytes().to_vec(), text.map(|text| Entry { mode: FILE, id: blob(text) })))
            .collect()
    }

    /// Applies `edits` on a tree made of `start` and names the paths of the result.
    fn check(start: &[(&str, &str)], changes: &[(&str, Option<&str>)], expected: &[&str]) {
        let store = store();
        let odb = store.repository.odb().expect("its object store");
        let start: Vec<(&str, Option<&str>)> = start.iter().map(|&(path, text)| (path, Some(text))).collect();
        let root = edit(&odb, None, &edits(&odb, &start)).expect("the start");
        let result = edit(&odb, root, &edits(&odb, changes)).expect("the result");
        let paths: Vec<String> = diff(&odb, None, result)
            .expect("the listing")
            .into_iter()
            .map(|difference| String::from_utf8(difference.path).expect("names of the test"))
            .collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn a_new_file_makes_its_directories() {
        check(&[], &[("a/b/c", Some("1"))], &["a/b/c"]);
    }

    #[test]
    fn an_emptied_directory_disappears_with_its_parents() {
        check(&[("a/b/c", "1"), ("d", "2")], &[("a/b/c", None)], &["d"]);
    }

    #[test]
    fn a_directory_replaces_a_file() {
        check(&[("a", "1")], &[("a", None), ("a/b", Some("2"))], &["a/b"]);
        check(&[("a", "1")], &[("a/b", Some("2"))], &["a/b"]);
    }

    #[test]
    fn a_file_replaces_a_directory() {
        check(&[("a/b", "1"), ("a/c/d", "2")], &[("a", Some("3")), ("a/b", None)], &["a"]);
    }

    #[test]
    fn removing_a_directory_removes_all_below() {
        check(&[("a/b", "1"), ("a/c/d", "2"), ("e", "3")], &[("a", None)], &["e"]);
    }

    #[test]
    fn removing_what_is_not_there_changes_nothing() {
        check(&[("a", "1")], &[("b", None), ("a/x", None), ("c/d", None)], &["a"]);
    }

    #[test]
    fn a_file_and_a_directory_of_one_name_are_refused() {
        let store = store();
        let odb = store.repository.odb().expect("its object store");
        let result = edit(&odb, None, &edits(&odb, &[("a", Some("1")), ("a/b", Some("2"))]));
        assert!(matches!(result, Err(TreeError::FileAndDirectory(path)) if path == b"a"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// `diff` and `edit` are each other's inverse, and git finds nothing wrong with what is written.
        #[test]
        fn applying_a_difference_gives_the_other_tree(
            old in proptest::collection::btree_map("[ab.]{1,2}(/[ab-]{1,2}){0,2}", "[xy]", 0..9),
            new in proptest::collection::btree_map("[ab.]{1,2}(/[ab-]{1,2}){0,2}", "[xy]", 1..9),
        ) {
            let store = store();
            let odb = store.repository.odb().expect("its object store");
            let build = |files: &BTreeMap<String, String>| {
                // A name that is also a directory of another one gives way.
                let files: Vec<(&str, Option<&str>)> = files.iter()
                    .filter(|(path, _)| !files.keys().any(|other| other.starts_with(&format!("{path}/"))))
                    .filter(|(path, _)| !path.split('/').any(|name| name == "." || name == ".."))
                    .map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
                edit(&odb, None, &edits(&odb, &files)).expect("a tree")
            };
            let (old, new) = (build(&old), build(&new));
            let changes: Edits = diff(&odb, old, new).expect("a difference").into_iter()
                .fold(Edits::new(), |mut edits, difference| {
                    edits.insert(difference.path, difference.new);
                    edits
                });
            prop_assert_eq!(edit(&odb, old, &changes).expect("the result"), new);
            if let (Some(new), Ok(fsck)) = (new, Command::new("git").arg("-C").arg(store.repository.path())
                .args(["fsck", "--strict", "--no-dangling"]).output()) {
                prop_assert!(fsck.status.success(), "{}: {}", new, String::from_utf8_lossy(&fsck.stderr));
            }
        }
    }
}
