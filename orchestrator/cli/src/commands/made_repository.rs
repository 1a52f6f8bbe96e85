//! Repositories that a caged command made in a folder of the person's own. `git init` and `git clone` are honest work; a config
//! or a hook that names a program is a way out, because the person's next `git status` there runs it, and in a submodule's place
//! that of the repository around it does.
//!
//! So a new repository stays where all of it is what git itself writes ([`steered_by`]), and is put aside under another name
//! otherwise ([`put_aside`]). All of it goes by descriptors, because another command may write the folder meanwhile.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{FileType, RenameFlags, fstat, renameat, renameat_with};
use rustix::io::Errno;
use swarm_orchestrator::entry_name::is_git_dir;

use crate::commands::opened_folder::{Identity, OpenedFolder, close_to_all, has, open_to_owner};
use crate::commands::repositories::Part;
use crate::commands::steering::steered_by;

/// Names with a number that are tried for what is put aside, before those that nobody can guess.
const GUESSABLE_NAMES: u32 = 9;
const UNGUESSABLE_NAMES: u32 = 4;
/// Bytes of its name that what is put aside keeps; with what is added that is less than any file system takes.
const NAME_BYTES_KEPT: usize = 100;

const HEAD: &str = "HEAD";

/// What became of a repository.
#[derive(Debug)]
pub enum Settled {
    /// It stays: all is as git writes it.
    Plain,
    /// Git obeys something in it, and finds it no more. Where each thing lay and where it lies now, below the folder: what was
    /// put aside first comes back last.
    Aside { why: String, moved: Vec<(PathBuf, PathBuf)> },
    /// Git obeys something in it, and may still find it.
    Obeyed { why: String, error: io::Error },
    /// Something else lies there than was found. That is as it was.
    Changed,
}

/// Judges a repository, and takes it out of git's sight where git would obey it. Touches nothing else, whatever is put in its
/// place meanwhile.
pub fn settle(folder: &OpenedFolder, part: &Part) -> Settled {
    let Ok(Some((above, opened))) = part.open(folder) else { return Settled::Changed };
    let Some(why) = steered_by(&opened) else { return Settled::Plain };
    match put_aside(part, above.as_ref(), &opened) {
        Ok(Some(moved)) => Settled::Aside { why, moved },
        Ok(None) => Settled::Changed,
        Err(error) => Settled::Obeyed { why, error },
    }
}

/// Puts a folder that cannot be looked through under another name, and closes it: no git goes there by itself, and who does
/// has to open it first. Where it lies now; `None` where something else lies in its place by now.
///
/// # Errors
/// The file system's: it may still be where it was.
pub fn wall_off(folder: &OpenedFolder, part: &Part) -> io::Result<Option<PathBuf>> {
    let (Some((Some(above), opened)), Some(name)) = (part.open(folder)?, part.path.file_name()) else {
        return Ok(None);
    };
    close_to_all(&opened)?;
    Ok(rename_aside(&above, name, part.identity)?.map(|free| part.path.with_file_name(free)))
}

/// Puts the file by which swarm knows its own state under another name, where a command made it. Where it lies now; `None` where
/// something else lies in its place by now.
///
/// # Errors
/// The file system's: it is still where it was.
pub fn disown(folder: &OpenedFolder, marker: &Part) -> io::Result<Option<PathBuf>> {
    let (Some((Some(above), _)), Some(name)) = (marker.open(folder)?, marker.path.file_name()) else {
        return Ok(None);
    };
    Ok(rename_aside(&above, name, marker.identity)?.map(|free| marker.path.with_file_name(free)))
}

/// Takes a repository out of git's sight, and says where it lies now; `None` where something else lies in its place by now.
/// Without its `HEAD` no folder is a repository, wherever somebody looks at it; under another name it is none for the folder
/// around it.
///
/// # Errors
/// The file system's: git may still find it.
fn put_aside(part: &Part, above: Option<&OwnedFd>, opened: &OwnedFd) -> io::Result<Option<Vec<(PathBuf, PathBuf)>>> {
    let (mut moved, mut lies) = (Vec::new(), part.path.clone());
    if let (Some(above), Some(name)) = (above, part.path.file_name())
        && is_git_dir(name.as_bytes())
    {
        let Some(free) = rename_aside(above, name, part.identity)? else { return Ok(None) };
        lies = part.path.with_file_name(free);
        moved.push((part.path.clone(), lies.clone()));
    }
    let is_folder = FileType::from_raw_mode(fstat(opened)?.st_mode).is_dir();
    if is_folder && has(opened, OsStr::new(HEAD)) {
        let renamed =
            Identity::at(opened, OsStr::new(HEAD)).and_then(|head| rename_aside(opened, OsStr::new(HEAD), head));
        match renamed {
            Ok(Some(free)) => moved.insert(0, (part.path.join(HEAD), part.path.join(free))),
            Ok(None) => return Ok(None),
            Err(error) => return Err(io::Error::other(format!("it lies at {} now: {error}", lies.display()))),
        }
    }
    Ok(Some(moved))
}

/// Renames an entry of a folder to a name that git does not know; `None` where it is another one than that.
fn rename_aside(folder: &OwnedFd, name: &OsStr, identity: Identity) -> io::Result<Option<OsString>> {
    if !Identity::at(folder, name).is_ok_and(|now| now == identity) {
        return Ok(None);
    }
    let free = free_names(name).find(|free| !has(folder, free)).ok_or(io::ErrorKind::AlreadyExists)?;
    let renamed = match rename(folder, name, &free) {
        // The command took the right to rename things away from the folder; it is the caller's to give.
        Err(Errno::ACCESS) => {
            open_to_owner(folder)?;
            rename(folder, name, &free)
        }
        renamed => renamed,
    };
    match renamed {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::EXIST) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if Identity::at(folder, &free)? == identity {
        return Ok(Some(free));
    }
    // No call renames what a descriptor stands for, so another entry may have come in between.
    rename(folder, &free, name)?;
    Ok(None)
}

/// Names under which a thing may be put aside: a few that say which it is, and then some that no command can have taken before.
fn free_names(name: &OsStr) -> impl Iterator<Item = OsString> {
    let kept = match name.len() {
        ..=NAME_BYTES_KEPT => name.to_owned(),
        _ => {
            let letters = name.to_string_lossy();
            let starts = letters.char_indices().map(|(at, letter)| at + letter.len_utf8());
            OsString::from(&letters[..starts.take_while(|end| *end <= NAME_BYTES_KEPT).last().unwrap_or(0)])
        }
    };
    (1..=GUESSABLE_NAMES + UNGUESSABLE_NAMES).map(move |number| {
        let mut free = kept.clone();
        free.push(match number {
            1 => ".untrusted".to_owned(),
            ..=GUESSABLE_NAMES => format!(".untrusted-{number}"),
            // Its key is the system's randomness.
            _ => format!(".untrusted-{:016x}", RandomState::new().hash_one(number)),
        });
        free
    })
}

/// Renames an entry of a folder; an existing one is not replaced.
fn rename(folder: impl AsFd, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it; the caller has looked.
        Err(Errno::INVAL) => renameat(&folder, from, &folder, to),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_put_aside_is_found_by_no_git() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("a/.git")).expect("a folder");
        for file in ["a/.git/HEAD", "a/.git.untrusted", "HEAD"] {
            std::fs::write(at(file), file).expect("a file");
        }
        std::fs::write(at("commondir"), "x").expect("a file");
        let folder = OpenedFolder::open(dir.path()).expect("it is there");
        let settled = |path: &str| {
            let identity =
                OpenedFolder::open(&at(path)).and_then(|it| Identity::of(it.folder(Path::new(""))?.expect("there")));
            match settle(&folder, &Part { path: path.into(), identity: identity.expect("it is there") }) {
                Settled::Aside { moved, .. } => moved,
                other => panic!("{other:?}"),
            }
        };
        let pair = |was: &str, is: &str| (PathBuf::from(was), PathBuf::from(is));
        let expected = [pair("a/.git/HEAD", "a/.git/HEAD.untrusted"), pair("a/.git", "a/.git.untrusted-2")];
        std::fs::write(at("a/.git/commondir"), "x").expect("a file");
        assert_eq!(settled("a/.git"), expected);
        assert!(at("a/.git.untrusted-2/HEAD.untrusted").exists());
        assert_eq!(settled(""), [pair("HEAD", "HEAD.untrusted")]);
    }

    #[test]
    fn no_name_that_a_command_takes_keeps_a_thing_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = OpenedFolder::open(dir.path()).expect("it is there");
        let here = folder.folder(Path::new("")).expect("it opens").expect("it is there");
        for name in [".git".to_owned(), "n".repeat(255), "é".repeat(127)] {
            let make = |name: &OsStr| std::fs::write(dir.path().join(name), "x").expect("a file");
            make(OsStr::new(&name));
            for free in free_names(OsStr::new(&name)).take(GUESSABLE_NAMES as usize) {
                make(&free);
            }
            let identity = Identity::at(&here, OsStr::new(&name)).expect("it is there");
            let free = rename_aside(&here, OsStr::new(&name), identity).expect("it is ours").expect("it is the same");
            let start = name.chars().take(4).collect::<String>();
            assert!(
                free.to_str().is_some_and(|free| free.starts_with(&start) && free.contains(".untrusted-")),
                "{free:?}"
            );
            assert!(!has(&here, OsStr::new(&name)) && has(&here, &free));
        }
    }
}
