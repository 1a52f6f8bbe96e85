//! Takes back what an application wrote that did not come to its end: it was killed, or the disk was full.
//!
//! Only what is certainly its own is touched: a file that is missing, or that holds what the application was writing, all of it
//! or its beginning; with the index as it was before or was about to be, where HEAD still has what was there before. All of that is in the
//! repository's objects, so nothing is lost, whatever a person did meanwhile. Where they have committed, they have worked here since: a
//! file that is missing or empty is theirs then. Everything else stays, and the next look for local changes finds it.
//!
//! What is put back gets its name when all of it is there: a file that has the beginning of what was there before is a person's edit.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::build::CheckoutBuilder;
use git2::{Index, IndexEntry, IndexTime, ObjectType, Oid, Status, StatusOptions, Tree};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::claim::{Claim, Note, leads_through_folders};
use super::{ApplyError, TakenBack};
use crate::fault;
use crate::state::make_private_dir_all;

/// Takes back what a note tells of; the checkout's branch stays where it is. Says whether there was anything.
pub(super) fn take_back(claim: &Claim<'_>, note: &Note) -> Result<TakenBack, ApplyError> {
    let held = claim.hold_index()?;
    let (git, mut index) = held.git()?;
    let [from, to] = note.trees()?;
    let (from, to) = (git.find_tree(from)?, git.find_tree(to)?);
    let changed = changed_paths(&git, &from, &to)?;
    let root = git.workdir().ok_or(ApplyError::Bare)?.to_owned();
    let scratch = claim.scratch()?;
    let after = laid_out(claim, &to, &changed, scratch.join("after"))?;
    let sides = Sides { from: &from, to: &to, head: git.head()?.peel_to_tree()?, after, root: &root };
    let (mut ours, mut unstaged) = (Vec::new(), 0);
    for path in changed {
        match sides.is_as_before(&path) && sides.is_staged_by_us(&index, &path) {
            true if sides.is_written_by_us(&path)? => ours.push(path),
            // A person's file, staged by nobody but us.
            true => {
                stage(&mut index, &from, &path, None)?;
                unstaged += 1;
            }
            false => {}
        }
    }
    let taken = if ours.is_empty() && unstaged == 0 { TakenBack::Nothing } else { TakenBack::Something };
    for path in ours.iter().rev() {
        remove(&root, path).map_err(|source| ApplyError::Io { path: root.join(path), source })?;
    }
    // What a person put in the place of a file stays there, and the index as it is. Where no file was, none is written.
    let is_free = |path: &PathBuf| root.join(path).symlink_metadata().is_err() && may_be_made(&root, path);
    ours.retain(|path| is_free(path) || file_in(&from, path).is_none());
    let again: BTreeSet<PathBuf> = ours.iter().filter(|path| file_in(&from, path).is_some()).cloned().collect();
    let before = laid_out(claim, &from, &again, scratch.join("before"))?;
    for path in &ours {
        let at = root.join(path);
        let put = match again.contains(path) {
            true => put(&before.join(path), &at).map_err(|source| ApplyError::Io { path: at.clone(), source })?,
            false => Put::TheirsStays,
        };
        stage(&mut index, &from, path, at.symlink_metadata().ok().filter(|_| put == Put::Ours))?;
    }
    index.write()?;
    held.publish()?;
    claim.clear_scratch().map_err(|source| ApplyError::Io { path: scratch.clone(), source })?;
    claim.forget()?;
    Ok(taken)
}

/// The paths that differ between two trees and from HEAD, too, in the index or in the checkout. Submodules are none of ours.
fn changed_paths(git: &git2::Repository, from: &Tree<'_>, to: &Tree<'_>) -> Result<BTreeSet<PathBuf>, ApplyError> {
    let diff = git.diff_tree_to_tree(Some(from), Some(to), None)?;
    let mut touched = BTreeSet::new();
    let mut options = StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).include_ignored(true).recurse_ignored_dirs(true);
    options.exclude_submodules(true).disable_pathspec_match(true);
    for file in diff.deltas().flat_map(|delta| [delta.old_file(), delta.new_file()]) {
        if let Some(path) = file.path_bytes().filter(|_| file.mode() != git2::FileMode::Commit) {
            options.pathspec(path);
            touched.insert(PathBuf::from(OsStr::from_bytes(path)));
        }
    }
    if touched.is_empty() {
        return Ok(touched);
    }
    let statuses = git.statuses(Some(&mut options))?;
    let differs = statuses.iter().filter(|entry| entry.status() != Status::CURRENT);
    let differs: BTreeSet<PathBuf> =
        differs.map(|entry| PathBuf::from(OsStr::from_bytes(entry.path_bytes()))).collect();
    Ok(touched.intersection(&differs).cloned().collect())
}

/// The file or link of a tree at a path: its id and mode.
fn file_in(tree: &Tree<'_>, path: &Path) -> Option<(Oid, u32)> {
    let entry = tree.get_path(path).ok().filter(|entry| entry.kind() == Some(ObjectType::Blob))?;
    Some((entry.id(), entry.filemode() as u32))
}

/// Lays these paths of a tree out as a checkout would have them, in a folder.
fn laid_out(
    claim: &Claim<'_>,
    tree: &Tree<'_>,
    paths: &BTreeSet<PathBuf>,
    folder: PathBuf,
) -> Result<PathBuf, ApplyError> {
    make_private_dir_all(&folder).map_err(|source| ApplyError::Io { path: folder.clone(), source })?;
    let mut there = paths.iter().filter(|path| file_in(tree, path).is_some()).peekable();
    if there.peek().is_none() {
        return Ok(folder);
    }
    // Beside an index that was never written libgit2 takes everything for missing, and compares with nothing.
    let (git, mut index) = claim.git_with_index(&folder.join("no-index"))?;
    let tree = git.find_tree(tree.id())?;
    index.read_tree(&tree)?;
    let mut options = CheckoutBuilder::new();
    options.force().update_index(false).disable_pathspec_match(true).target_dir(&folder);
    for path in there {
        options.path(path);
    }
    git.checkout_tree(tree.as_object(), Some(&mut options))?;
    Ok(folder)
}

/// What a path may have been, and may have become.
struct Sides<'a> {
    from: &'a Tree<'a>,
    to: &'a Tree<'a>,
    head: Tree<'a>,
    /// The files of `to`, as a checkout has them.
    after: PathBuf,
    /// The checkout.
    root: &'a Path,
}

impl Sides<'_> {
    /// Whether HEAD has at a path what was there before; where it has something else, a person went on from there.
    fn is_as_before(&self, path: &Path) -> bool {
        file_in(&self.head, path) == file_in(self.from, path)
    }

    /// Whether nobody has committed here since.
    fn nobody_was_here(&self) -> bool {
        self.head.id() == self.from.id()
    }

    /// Whether a path in the index is as it was, or as the application was making it.
    fn is_staged_by_us(&self, index: &Index, path: &Path) -> bool {
        let is_in_conflict = (1..=3).any(|stage| index.get_path(path, stage).is_some());
        let staged = index.get_path(path, 0).map(|entry| (entry.id, entry.mode));
        !is_in_conflict && [self.from, self.to].into_iter().any(|tree| file_in(tree, path) == staged)
    }

    /// Whether a path of the checkout is on its way from one tree to the other.
    fn is_written_by_us(&self, path: &Path) -> Result<bool, ApplyError> {
        let at = self.root.join(path);
        let Ok(about) = at.symlink_metadata() else { return Ok(self.nobody_was_here()) };
        if about.is_dir() {
            // The file that it was is gone; what is in it is looked at by itself.
            return Ok(self.nobody_was_here());
        }
        if !leads_through_folders(self.root, path) {
            return Ok(false);
        }
        let may_be = !about.is_file() || about.len() > 0 || self.nobody_was_here();
        let is_part = || Ok(may_be && is_part_of(&self.after.join(path), &at)?);
        is_part().map_err(|source| ApplyError::Io { path: at.clone(), source })
    }
}

/// Puts the entry of a tree in the place of the one that the index has; `seen` is the file that lies there and is that entry's, else git
/// looks itself.
fn stage(index: &mut Index, tree: &Tree<'_>, path: &Path, seen: Option<fs::Metadata>) -> Result<(), git2::Error> {
    let Some((id, mode)) = file_in(tree, path) else { return index.remove_path(path) };
    let mut entry = IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_os_str().as_bytes().to_vec(),
    };
    if let Some(seen) = seen {
        // The lower half of each, as every git has them. Source: gitformat-index(5).
        let time = |seconds: i64, nanoseconds: i64| IndexTime::new(seconds as i32, nanoseconds as u32);
        (entry.ctime, entry.mtime) = (time(seen.ctime(), seen.ctime_nsec()), time(seen.mtime(), seen.mtime_nsec()));
        (entry.dev, entry.ino) = (seen.dev() as u32, seen.ino() as u32);
        (entry.uid, entry.gid, entry.file_size) = (seen.uid(), seen.gid(), seen.size() as u32);
    }
    index.add(&entry)
}

/// Whether a path holds what another does that was laid out: the same link, or the beginning of the same file.
fn is_part_of(made: &Path, at: &Path) -> io::Result<bool> {
    let (Ok(expected), Ok(about)) = (made.symlink_metadata(), at.symlink_metadata()) else { return Ok(false) };
    if about.is_symlink() && expected.is_symlink() {
        return Ok(fs::read_link(at)? == fs::read_link(made)?);
    }
    Ok(about.is_file() && expected.is_file() && begins_with(made, at)?)
}

/// Whether a file begins with all that another holds.
fn begins_with(whole: &Path, part: &Path) -> io::Result<bool> {
    let (mut whole, mut part) = (fs::File::open(whole)?, fs::File::open(part)?);
    let (mut expected, mut found) = ([0_u8; 1 << 14], [0_u8; 1 << 14]);
    loop {
        let length = part.read(&mut found)?;
        if length == 0 {
            return Ok(true);
        }
        match whole.read_exact(&mut expected[..length]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if expected[..length] != found[..length] {
            return Ok(false);
        }
    }
}

/// Removes a file that is ours, and the folders that are empty then.
fn remove(root: &Path, path: &Path) -> io::Result<()> {
    let at = root.join(path);
    if !leads_through_folders(root, path) {
        return Ok(());
    }
    match at.symlink_metadata() {
        Ok(about) if about.is_dir() => remove_empty(&at),
        Ok(_) => fault::point().and_then(|()| fs::remove_file(&at))?,
        Err(_) => {}
    }
    let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    for above in above {
        // One that is not empty, or is none, is not ours.
        if !leads_through_folders(root, above) || fs::remove_dir(root.join(above)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Removes a folder with the folders in it where there is nothing else: git knows nothing of those.
fn remove_empty(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(folder) = folders.get(at) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let entries: Vec<fs::DirEntry> = entries.flatten().collect();
        if entries.iter().any(|entry| !entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            return;
        }
        folders.extend(entries.into_iter().map(|entry| entry.path()));
        at += 1;
    }
    // The inner ones stand behind those that hold them. One that somebody fills meanwhile stays.
    folders.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
}

/// Whether nothing but folders, or nothing at all, is where the folders above a path belong.
fn may_be_made(root: &Path, path: &Path) -> bool {
    let mut above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    above.all(|above| root.join(above).symlink_metadata().map_or(true, |about| about.is_dir()))
}

/// What lies in a place where something was to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// What was put there.
    Ours,
    /// What somebody else put there meanwhile, or nothing.
    TheirsStays,
}

/// What a file is called in its folder for as long as it is not whole, where the checkout lies on another file system than ours.
const BESIDE: &str = ".swarm-put-back";

/// Gives a file or link that was laid out its place in the checkout, where nothing was.
fn put(made: &Path, at: &Path) -> io::Result<Put> {
    fault::point()?;
    if let Some(folder) = at.parent() {
        fs::create_dir_all(folder)?;
    }
    match named(made, at) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            // A name that nobody else has; who died over it is found by the next, who begins with the same file.
            let beside = at.with_file_name(BESIDE);
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            match made.symlink_metadata()?.is_symlink() {
                true => std::os::unix::fs::symlink(fs::read_link(made)?, &beside)?,
                false => drop(fs::copy(made, &beside)?),
            }
            named(&beside, at).inspect_err(|_| drop(fs::remove_file(&beside)))
        }
        named => named,
    }
}

/// Gives a file another name where nothing has that; else it goes.
fn named(from: &Path, to: &Path) -> io::Result<Put> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system knows no such rename.
        Err(Errno::INVAL) if to.symlink_metadata().is_err() => fs::rename(from, to).map(|()| Put::Ours),
        Err(Errno::EXIST | Errno::INVAL) => fs::remove_file(from).map(|()| Put::TheirsStays),
        named => Ok(named.map(|()| Put::Ours)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_leaves_what_somebody_put_there_meanwhile() {
        let folder = tempfile::tempdir().expect("a folder");
        let [made, at] = ["made", "d/at"].map(|name| folder.path().join(name));
        for (there, expected) in [(None, Put::Ours), (Some("theirs"), Put::TheirsStays)] {
            fs::write(&made, "before").expect("space");
            drop(fs::remove_dir_all(folder.path().join("d")));
            if let Some(there) = there {
                fs::create_dir(folder.path().join("d")).and_then(|()| fs::write(&at, there)).expect("space");
            }
            assert_eq!(put(&made, &at).expect("nothing is in the way"), expected);
            assert_eq!(fs::read_to_string(&at).expect("it is there"), there.unwrap_or("before"));
            assert!(!made.exists());
        }
    }
}
