//! The commits that a worker made itself (`history = "keep"`), taken from the git directory that it left.
//!
//! That directory is as hostile as everything else a worker leaves. No git ever opens it: HEAD and one ref are read as small
//! texts, objects one by one, each copied into a folder of ours first, bounded in size by its own head before it is
//! inflated, and believed only when it hashes to its name. Config, hooks, alternates, replacements and reflogs are not looked
//! at. Packs are not read: what a delta inflates to is bounded by nothing. A commit counts with its first parent, its author,
//! its message and the difference to the one before it, and every difference is judged as the whole change is: names,
//! modes, links, scope, sizes. Trees are written anew from what was judged.
//!
//! The change itself is collected from the files as always, and is what lands. Its history is told beside it where all of it
//! holds, and ends in exactly that tree; else one commit stands for all, and a note says why.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, OdbObject, Oid};
use rustix::io::Errno;

use super::filtered::refused_within;
use super::left_out::{LeftOut, Verdict};
use super::{
    Change, CollectError, CollectLimits, Refusal, Terms, display_path, out_of_scope, rules, steering, tells, walk,
};
use crate::entry_name::check_component;
use crate::path_globs::PathGlobs;
use crate::repository::{Repository, RepositoryError, is_whole_within};
use crate::secrets::Secrets;
use crate::state::make_private_dir_all;
use crate::tree::{self, Difference, EXECUTABLE, Edits, Entry, FILE, SYMLINK, TreeError};
use crate::worktree::Worktree;

/// Commits of one attempt; more are told as one.
const COMMITS_MAX: usize = 500;
/// Bytes of one commit, inflated.
const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Bytes of one commit's message that are kept, several times what is ever told of one.
const MESSAGE_BYTES_MAX: usize = 32 << 10;
/// The same of an author's name and of an address.
const AUTHOR_BYTES_MAX: usize = 4 << 10;
/// Bytes of all commits and trees that are looked at, inflated.
const READ_BYTES_MAX: u64 = 256 << 20;
/// Bytes of one folder's tree, inflated.
const TREE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one file of a commit that is not in the change itself: it is held in memory as a whole while it is judged.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Bytes in front of what is in an object: its kind and size.
const OBJECT_HEAD_BYTES_MAX: u64 = 32;
/// Bytes of HEAD and of a ref.
const REF_BYTES_MAX: u64 = 4096;
/// Bytes of `packed-refs`.
const PACKED_REFS_BYTES_MAX: u64 = 1 << 20;
/// What HEAD names in a fresh worktree.
const HEAD_DEFAULT: &str = "ref: refs/heads/work";

/// One commit of a worker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// As its author line says, not yet fit for anybody's eyes; `None` for what the worker did not commit.
    pub author: Option<Author>,
    /// Its message, as it stands there, up to [`MESSAGE_BYTES_MAX`].
    pub message: Vec<u8>,
    /// Its tree, judged and written.
    pub tree: Oid,
}

/// Who made a commit, by their own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Name.
    pub name: Vec<u8>,
    /// Address.
    pub email: Vec<u8>,
}

/// What a worker's git directory tells of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// It made no commits.
    None,
    /// What they bring to the change.
    Kept(Kept),
    /// They cannot be told; for people.
    Squashed(String),
}

/// A history that holds, as one line of commits: what git calls first parents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its commits that change something, the oldest first, and what the worker did not commit; the last has the change's tree.
    pub steps: Vec<Step>,
    /// How many of them were merges: what such a one brought in is told as the one commit.
    pub merges: usize,
    /// How many commits beside them changed nothing: nothing of those lands.
    pub empty: usize,
}

/// Why a history is not taken.
enum Stop {
    /// It does not hold.
    Unfit(String),
    /// It could not be looked at.
    Failed(CollectError),
}

impl<E: Into<CollectError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

fn missing(id: Oid) -> Stop {
    Stop::Unfit(format!("its object {id} is not there, or packed"))
}

/// An object that cannot be had: the worker's fault, unless the machine says why.
fn unreadable(id: Oid, error: git2::Error) -> Stop {
    match (error.code(), error.class()) {
        (ErrorCode::NotFound, _) => missing(id),
        (_, ErrorClass::Os | ErrorClass::Filesystem | ErrorClass::NoMemory) => RepositoryError::from(error).into(),
        _ => missing(id),
    }
}

fn unfit<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Unfit(reason.into()))
}

/// Takes the history of a collected change that started from the commit `start`. To be called as long as the worktree stands.
///
/// # Errors
/// All of [`CollectError`]; a history that does not hold is a value.
pub fn history(
    repository: &Repository,
    worktree: &Worktree,
    start: Oid,
    change: &Change,
    (writes, terms): (Option<&[String]>, &Terms),
) -> Result<History, CollectError> {
    let git = repository.handle()?;
    let trusted = git.odb().map_err(TreeError::from)?;
    let scope = writes.map(PathGlobs::new).transpose()?;
    let taken = Taking::of(repository, worktree, (&git, &trusted), terms).and_then(|taking| match taking {
        Some(taking) => taking.steps(start, change, scope.as_ref()),
        None => Ok(Kept::default()),
    });
    match taken {
        Ok(kept) if kept == Kept::default() => Ok(History::None),
        Ok(kept) => Ok(History::Kept(kept)),
        Err(Stop::Unfit(reason)) => Ok(History::Squashed(reason)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// A git directory that is read.
struct Taking<'a> {
    /// Whose settings say which filters are required.
    git: &'a git2::Repository,
    root: File,
    /// What of the worktree was written, or all of it, and the layers below that hold untracked files.
    layers: Vec<PathBuf>,
    /// The contents of the user's own ignore files.
    personal: Vec<Vec<u8>>,
    /// The repository's own objects.
    trusted: &'a Odb<'a>,
    /// Those and the copied ones.
    objects: Odb<'a>,
    /// Where objects are copied to.
    quarantine: PathBuf,
    limits: CollectLimits,
    secrets: Secrets,
    entries: u64,
    /// Of blobs.
    bytes: u64,
    /// Of commits and trees.
    read: Cell<u64>,
    /// Of the paths that the commit changes that is looked at.
    paths_bytes: u64,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        // It lies in the attempt's folder, which is removed or cleaned later.
        drop(std::fs::remove_dir_all(&self.quarantine));
    }
}

impl<'a> Taking<'a> {
    /// `None` where the worker left no git directory.
    fn of(
        repository: &Repository,
        worktree: &Worktree,
        (git, trusted): (&'a git2::Repository, &'a Odb<'a>),
        terms: &Terms,
    ) -> Result<Option<Self>, Stop> {
        let written = worktree.written_dir();
        let folder = File::open(&written).map_err(io)?;
        let untracked = worktree.layers().untracked();
        let layers =
            std::iter::once(written).chain(untracked.iter().map(|layer| worktree.state().path(layer))).collect();
        let Some(root) = open(&folder, b".git", Kind::Folder)? else { return Ok(None) };
        let quarantine = worktree.attempt_dir().join("quarantine");
        make_private_dir_all(&quarantine).map_err(io)?;
        let objects = Odb::new().map_err(TreeError::from)?;
        for folder in repository.object_dirs()?.iter().chain([&quarantine]) {
            let text = folder.to_str().ok_or_else(|| Stop::Unfit("the repository's path is not UTF-8".to_owned()))?;
            objects.add_disk_alternate(text).map_err(TreeError::from)?;
        }
        let Terms { limits, secrets } = terms.clone();
        let root = root.into();
        let personal = repository.exclude_files()?;
        Ok(Some(Taking {
            git,
            root,
            layers,
            personal,
            trusted,
            objects,
            quarantine,
            limits,
            secrets,
            entries: 0,
            bytes: 0,
            read: Cell::new(0),
            paths_bytes: 0,
        }))
    }

    fn steps(mut self, start: Oid, change: &Change, scope: Option<&PathGlobs>) -> Result<Kept, Stop> {
        let mut kept = Kept::default();
        let Some(tip) = self.head()?.filter(|tip| *tip != start) else { return Ok(kept) };
        let mut before = change.base_tree;
        let layers = std::mem::take(&mut self.layers);
        let limits = self.limits.clone();
        let mut left_out = LeftOut::of(change, self.trusted, layers, &self.personal, &limits)?;
        for commit in self.commits(start, tip)? {
            let tree = self.judged(before, commit.tree, scope, &mut left_out)?;
            match tree == before {
                true => kept.empty += 1,
                false => {
                    kept.merges += usize::from(commit.is_merge);
                    kept.steps.push(Step { author: Some(commit.author), message: commit.message, tree });
                }
            }
            before = tree;
        }
        if before != change.tree && !kept.steps.is_empty() {
            kept.steps.push(Step { author: None, message: vec![], tree: change.tree });
        }
        Ok(kept)
    }

    /// The commit that HEAD names; `None` where that is what it was.
    fn head(&self) -> Result<Option<Oid>, Stop> {
        let head = self.small(b"HEAD", REF_BYTES_MAX)?.unwrap_or_else(|| HEAD_DEFAULT.to_owned());
        let Some(name) = head.trim_end().strip_prefix("ref: ") else { return id(&head).map(Some) };
        if !name.starts_with("refs/heads/") || !git2::Reference::is_valid_name(name) {
            return unfit("its HEAD names no branch");
        }
        if let Some(text) = self.small(name.as_bytes(), REF_BYTES_MAX)? {
            return id(&text).map(Some);
        }
        let packed = self.small(b"packed-refs", PACKED_REFS_BYTES_MAX)?.unwrap_or_default();
        let named = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, known)| *known == name));
        named.map(|(text, _)| id(text)).transpose()
    }

    /// A small text of the git directory; `None` where the worker left none of that name.
    fn small(&self, path: &[u8], bytes_max: u64) -> Result<Option<String>, Stop> {
        let Some(file) = open(&self.root, path, Kind::File)? else { return Ok(None) };
        let mut bytes = Vec::new();
        File::from(file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > bytes_max {
            return unfit(format!("its {} is too large", display_path(path)));
        }
        String::from_utf8(bytes).map(Some).or_else(|_| unfit(format!("its {} is no text", display_path(path))))
    }

    /// From the start's child to the tip, along first parents.
    fn commits(&self, start: Oid, tip: Oid) -> Result<Vec<Commit>, Stop> {
        let mut all = Vec::new();
        let mut at = Some(tip);
        while at != Some(start) {
            let Some(id) = at else { return unfit("its commits do not stem from the one that it started from") };
            if all.len() == COMMITS_MAX {
                return unfit(format!("it made more than {COMMITS_MAX} commits, or they stem from elsewhere"));
            }
            let read = self.object(id, ObjectType::Commit, COMMIT_BYTES_MAX)?;
            let Some(commit) = Commit::parse(read.data()) else {
                return unfit(format!("its commit {id} cannot be read"));
            };
            at = commit.parent;
            all.push(commit);
        }
        all.reverse();
        Ok(all)
    }

    /// How large an object is, of the repository's or of the worker's, by its own head.
    fn size(&self, id: Oid, kind: ObjectType) -> Result<usize, Stop> {
        if !self.trusted.exists(id) {
            self.copy(id)?;
        }
        let (size, found) = self.objects.read_header(id).map_err(|error| unreadable(id, error))?;
        if found != kind {
            return unfit(format!("its object {id} is no {}", kind.str()));
        }
        Ok(size)
    }

    /// Reads one object.
    fn object(&self, id: Oid, kind: ObjectType, bytes_max: usize) -> Result<OdbObject<'_>, Stop> {
        let size = self.size(id, kind)?;
        if size > bytes_max {
            return unfit(format!("its object {id} is too large"));
        }
        if kind != ObjectType::Blob {
            self.read.set(self.read.get() + size as u64);
        }
        if self.read.get() > READ_BYTES_MAX {
            return unfit("its commits hold too much to look at");
        }
        // Not copied once more: it may be large.
        let read = self.objects.read(id).map_err(|error| unreadable(id, error))?;
        match Oid::hash_object(kind, read.data()) {
            Ok(real) if real == id => Ok(read),
            _ => unfit(format!("its object {id} is damaged")),
        }
    }

    /// Copies a loose object out of the worker's reach.
    fn copy(&self, id: Oid) -> Result<(), Stop> {
        let name = id.to_string();
        let (folder, rest) = name.split_at(2);
        let at = self.quarantine.join(folder);
        let copy = at.join(rest);
        if copy.exists() {
            return Ok(());
        }
        let path = format!("objects/{folder}/{rest}");
        let Some(file) = open(&self.root, path.as_bytes(), Kind::File)? else { return Ok(()) };
        make_private_dir_all(&at).map_err(io)?;
        let max = self.limits.blob_bytes;
        let mut to = File::create(&copy).map_err(io)?;
        if std::io::copy(&mut File::from(file).take(max + 1), &mut to).map_err(io)? > max {
            return unfit(format!("its object {id} is too large"));
        }
        // libgit2 goes round for ever in one that ends too early.
        match is_whole_within(&copy, id, max + OBJECT_HEAD_BYTES_MAX).map_err(io)? {
            true => Ok(()),
            false => unfit(format!("its object {id} is damaged")),
        }
    }

    /// A tree of the worker's, once the difference to one of ours is judged: written anew, its new contents with it.
    fn judged(
        &mut self,
        before: Oid,
        after: Oid,
        scope: Option<&PathGlobs>,
        left_out: &mut LeftOut<'_>,
    ) -> Result<Oid, Stop> {
        let mut differences = Vec::new();
        self.paths_bytes = 0;
        self.differences(Some(before), Some(after), &mut Vec::new(), 0, &mut differences)?;
        differences.sort_by(|a, b| a.path.cmp(&b.path));
        nothing_left_out(&differences, left_out)?;
        let mut edits = Edits::new();
        for difference in &mut differences {
            if let Some(new) = &mut difference.new {
                self.take(&difference.path, difference.old, new)?;
            }
            edits.insert(difference.path.clone(), difference.new);
        }
        let tree = match tree::edit(self.trusted, Some(before), &edits)? {
            Some(tree) => tree,
            None => tree::write(self.trusted, vec![])?,
        };
        let names = rules::judge(self.trusted, before, tree, &differences)?;
        if let Some((path, reason)) =
            refused_within((self.git, self.trusted), (tree, &differences), self.limits.ignore_ms)?
        {
            return unfit(format!("one of its commits holds {}: {reason}", display_path(&path)));
        }
        match out_of_scope(scope, &differences).or(names) {
            None => Ok(tree),
            Some(Refusal::OutOfScope { paths, .. }) => {
                let path = paths.first().map(|path| display_path(path)).unwrap_or_default();
                unfit(format!("one of its commits changes {path}, which is outside of its `writes`"))
            }
            Some(Refusal::Hostile { path, reason }) => {
                unfit(format!("one of its commits holds {}: {reason}", display_path(&path)))
            }
            Some(Refusal::Limit { limit, max, .. }) => unfit(format!("one of its commits exceeds `{limit}` of {max}")),
        }
    }

    /// Compares a tree of ours with one of the worker's; every entry that is looked at counts.
    fn differences(
        &mut self,
        old: Option<Oid>,
        new: Option<Oid>,
        path: &mut Vec<u8>,
        depth: usize,
        found: &mut Vec<Difference>,
    ) -> Result<(), Stop> {
        if depth > self.limits.depth {
            return unfit("one of its commits nests folders too deeply");
        }
        let old = old.map(|id| tree::list(self.trusted, id)).transpose()?.unwrap_or_default();
        let new = match new {
            Some(id) => {
                self.object(id, ObjectType::Tree, TREE_BYTES_MAX)?;
                tree::list(&self.objects, id).or_else(|_| unfit(format!("its tree {id} cannot be read")))?
            }
            None => vec![],
        };
        self.entries += (old.len() + new.len()) as u64;
        if self.entries > self.limits.entries || found.len() as u64 > self.limits.files {
            return unfit("its commits hold too much to look at");
        }
        for (name, [old, new]) in tree::changes(&old, &new) {
            let is_new_folder = new.is_some_and(|new| new.is_tree()) && !old.is_some_and(|old| old.is_tree());
            let as_folder = if is_new_folder { steering::check_folder(name) } else { Ok(()) };
            check_component(name)
                .and(as_folder)
                .or_else(|reason| unfit(format!("one of its commits holds {}: {reason}", display_path(name))))?;
            let length = path.len();
            path.extend((length > 0).then_some(b'/'));
            path.extend_from_slice(name);
            if path.len() > self.limits.path_bytes {
                return unfit("one of its commits holds a path that is too long");
            }
            let folder = |entry: Option<Entry>| entry.filter(|entry| entry.is_tree()).map(|entry| entry.id);
            let file = |entry: Option<Entry>| entry.filter(|entry| !entry.is_tree());
            if folder(old).is_some() || folder(new).is_some() {
                self.differences(folder(old), folder(new), path, depth + 1, found)?;
            }
            if file(old) != file(new) {
                // A few small trees make a million long ones.
                self.paths_bytes += path.len() as u64;
                if self.paths_bytes > self.limits.paths_bytes {
                    return unfit("its commits hold too much to look at");
                }
                found.push(Difference { path: path.clone(), old: file(old), new: file(new) });
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Judges what a commit puts at a path, and writes its content into the repository.
    fn take(&mut self, path: &[u8], old: Option<Entry>, new: &mut Entry) -> Result<(), Stop> {
        *new = new.canonical();
        if !matches!(new.mode, FILE | EXECUTABLE | SYMLINK) {
            return unfit(format!("one of its commits makes {} neither a file nor a link", display_path(path)));
        }
        if old.is_some_and(|old| old.canonical().mode == new.mode && old.id == new.id) {
            return Ok(());
        }
        let size = self.size(new.id, ObjectType::Blob)? as u64;
        self.bytes += size;
        if self.bytes > self.limits.bytes {
            return unfit("its commits hold too many bytes");
        }
        let known = self.trusted.exists(new.id);
        // The change holds it, or the base: it is judged.
        if known && new.mode != SYMLINK && !steering::is_judged(path) {
            return Ok(());
        }
        if size > self.limits.blob_bytes.min(FILE_BYTES_MAX) {
            return unfit(format!("one of its commits holds {}, which is larger than 32 MiB", display_path(path)));
        }
        let read = self.object(new.id, ObjectType::Blob, usize::MAX)?;
        let bytes = read.data();
        let before = || match old.filter(|old| matches!(old.canonical().mode, FILE | EXECUTABLE | SYMLINK)) {
            Some(old) => Ok(self.trusted.read(old.id)?.data().to_vec()),
            None => Ok(vec![]),
        };
        let told = if known { None } else { tells(&self.secrets, path, bytes, before)? };
        if let Some(reason) = told {
            return unfit(format!("one of its commits holds {}: {reason}", display_path(path)));
        }
        let judged = match new.mode {
            SYMLINK => rules::check_link(path, bytes),
            _ => steering::check(path, bytes),
        };
        judged.or_else(|reason| unfit(format!("one of its commits holds {}: {reason}", display_path(path))))?;
        self.trusted.write(ObjectType::Blob, bytes).map_err(TreeError::from)?;
        Ok(())
    }
}

/// What stays out of the change is not told in its history either, though `git add -f` put it there for a while.
fn nothing_left_out(differences: &[Difference], left_out: &mut LeftOut<'_>) -> Result<(), Stop> {
    for difference in differences.iter().filter(|difference| difference.old.is_none()) {
        match left_out.verdict(&difference.path)? {
            Verdict::In => {}
            Verdict::Out => {
                let path = display_path(&difference.path);
                return unfit(format!("one of its commits holds {path}, which stays out of its change"));
            }
            Verdict::TooMuch => return unfit("its commits hold too much to look at"),
        }
    }
    Ok(())
}

/// What is read of a commit.
struct Commit {
    tree: Oid,
    /// The first one.
    parent: Option<Oid>,
    /// Whether it has another one.
    is_merge: bool,
    author: Author,
    message: Vec<u8>,
}

impl Commit {
    /// `None` for what git would not have written. Source: git-mktag(1) and git-fsck(1) describe the same header lines;
    /// order: `tree`, `parent` any number of times, `author`, `committer`, others, an empty line, the message.
    fn parse(bytes: &[u8]) -> Option<Commit> {
        let (mut tree, mut parent, mut author) = (None, None, None);
        let mut is_merge = false;
        let mut rest = bytes;
        loop {
            let end = rest.iter().position(|&byte| byte == b'\n')?;
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line.is_empty() {
                break;
            }
            let value = |key: &str| line.strip_prefix(key.as_bytes())?.strip_prefix(b" ");
            if let (Some(text), None) = (value("tree"), tree) {
                tree = Some(hex(text)?);
            } else if let Some(text) = value("parent") {
                match parent {
                    None => parent = Some(hex(text)?),
                    Some(_) => is_merge = true,
                }
            } else if let (Some(text), None) = (value("author"), &author) {
                author = Some(Author::parse(text)?);
            }
        }
        Some(Commit {
            tree: tree?,
            parent,
            is_merge,
            author: author?,
            message: rest[..rest.len().min(MESSAGE_BYTES_MAX)].to_vec(),
        })
    }
}

impl Author {
    /// From `NAME <EMAIL> SECONDS ZONE`.
    fn parse(line: &[u8]) -> Option<Author> {
        let open = line.iter().position(|&byte| byte == b'<')?;
        let close = open + line[open..].iter().position(|&byte| byte == b'>')?;
        let kept = |text: &[u8]| text[..text.len().min(AUTHOR_BYTES_MAX)].trim_ascii().to_vec();
        Some(Author { name: kept(&line[..open]), email: kept(&line[open + 1..close]) })
    }
}

fn hex(text: &[u8]) -> Option<Oid> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 40)?;
    Oid::from_str(text).ok()
}

fn id(text: &str) -> Result<Oid, Stop> {
    hex(text.trim_end().as_bytes()).ok_or_else(|| Stop::Unfit("its branch is no commit".to_owned()))
}

/// What is expected at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

/// Opens something below a folder, following no link on the way; `None` where it is not there, or is a whiteout.
fn open(root: &File, path: &[u8], kind: Kind) -> Result<Option<OwnedFd>, Stop> {
    let opened = match walk::open_again(root, path) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A whiteout is a device that does not exist.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Ok(None),
        Err(_) => return unfit(format!("its {} cannot be opened", display_path(path))),
    };
    let file = File::from(opened);
    let metadata = file.metadata().map_err(io)?;
    match kind {
        _ if super::is_whiteout(&metadata) => Ok(None),
        Kind::File if metadata.is_file() => Ok(Some(file.into())),
        Kind::Folder if metadata.is_dir() => Ok(Some(file.into())),
        Kind::File | Kind::Folder => unfit(format!("its {} is something else", display_path(path))),
    }
}

fn io(source: std::io::Error) -> CollectError {
    CollectError::Io { path: b".git".to_vec(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_keeps_from_being_read_is_no_fault_of_the_worker() {
        let stop = |code, class| unreadable(Oid::ZERO_SHA1, git2::Error::new(code, class, "x"));
        let is_unfit = |code, class| matches!(stop(code, class), Stop::Unfit(_));
        assert!(!is_unfit(ErrorCode::GenericError, ErrorClass::Os), "no descriptor is free, or the disk fails");
        assert!(is_unfit(ErrorCode::NotFound, ErrorClass::Os) && is_unfit(ErrorCode::NotFound, ErrorClass::Odb));
        assert!(is_unfit(ErrorCode::GenericError, ErrorClass::Zlib), "the worker wrote it so");
    }

    #[test]
    fn a_commit_is_read_as_git_writes_it() {
        let text = "tree 0b1615a80aad5c0891c043a1f770618951d14e96\nparent 3c2895d672f550f8c3c4998d73f3ef155390d04f\n\
                    parent d1ad1b3708d1ad1b3708d1ad1b3708d1ad1b3708\nauthor A <x> B <a@b> 1 +0000\n\
                    committer C <c@d> 2 +0000\ngpgsig x\n y\n\ntitle\n\nauthor no\n";
        let commit = Commit::parse(text.as_bytes()).expect("a commit");
        assert_eq!(commit.parent.map(|id| id.to_string()).as_deref(), Some("3c2895d672f550f8c3c4998d73f3ef155390d04f"));
        assert_eq!((commit.author.name.as_slice(), commit.author.email.as_slice()), (&b"A"[..], &b"x"[..]));
        assert_eq!((commit.message.as_slice(), commit.is_merge), (&b"title\n\nauthor no\n"[..], true));
        let long = Commit::parse(&[text.as_bytes(), &vec![b'x'; 1 << 20]].concat()).expect("a commit");
        assert_eq!(long.message.len(), MESSAGE_BYTES_MAX, "500 of them are held at once");
        for broken in ["", "tree x\n\n", "tree 0b1615a80aad5c0891c043a1f770618951d14e96\n\nm", &text[..60]] {
            assert!(Commit::parse(broken.as_bytes()).is_none(), "{broken:?}");
        }
    }
}
