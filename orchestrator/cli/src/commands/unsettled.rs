//! Which folders of the person's own a command lets tasks write, noted in the state folder until it has looked at what they left there:
//! a command that is killed looks at nothing, and what its tasks made would lie where the person's git obeys it. Whichever command of
//! swarm comes next looks in its place.
//!
//! A note is a file that its command holds locked, so nobody has to know whether that lives: the kernel lets go of the lock when it dies.
//! No task can reach the state folder, so what a note says is what its command wrote.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use swarm_orchestrator::report::sanitize;

use crate::commands::failure::Failure;
use crate::commands::opened_folder::{Identity, OpenedFolder};
use crate::commands::repositories::Repositories;
use crate::commands::settling::{Left, settled};
use crate::commands::surroundings::Surroundings;

/// The folder of all notes, in the state folder; there while one is.
const FOLDER: &str = "unsettled";
/// The end of a note's name, which it gets when it is whole and locked.
const NOTE: &str = "note";
/// How a note begins: its version.
const VERSION: &[u8] = b"1";
/// The longest note that is read, in bytes: some thousand folders.
const NOTE_BYTES_MAX: u64 = 16 << 20;

/// A note, locked.
#[derive(Debug)]
pub struct Note {
    file: File,
    path: PathBuf,
}

/// A folder that may be written, as the note has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    /// Canonical.
    path: PathBuf,
    /// Something else may lie there by now.
    identity: Identity,
}

impl Note {
    /// Notes folders that were looked through; to be done before anything can write them.
    ///
    /// # Errors
    /// The file system's: no command may begin whose end nobody could make up for.
    pub fn of<'a>(state: &Path, folders: impl Iterator<Item = &'a OpenedFolder>) -> io::Result<Note> {
        let noted = folders.map(|folder| Ok(Noted { path: folder.path().to_owned(), identity: folder.identity()? }));
        let text = encode(&noted.collect::<io::Result<Vec<_>>>()?);
        let all = state.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
        // Another container's processes may have the same ids; this key is the system's randomness.
        let unique = RandomState::new().hash_one(std::process::id());
        let path = all.join(format!("{unique:016x}.{NOTE}"));
        // Nobody looks at it before it is locked.
        let unready = path.with_extension("new");
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
        let mut file = options.open(&unready)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&unready, &path)?;
        Ok(Note { file, path })
    }

    /// Forgets it: all is looked at.
    pub fn settled(self) {
        // One that stays is looked at again, and finds nothing.
        _ = std::fs::remove_file(&self.path);
        _ = self.path.parent().map(std::fs::remove_dir);
        // A child that is about to be something else has a copy of the descriptor.
        _ = flock(&self.file, FlockOperation::Unlock);
    }

    /// Takes over the note of a command that is dead; `None` where it lives, or has just removed its note itself.
    ///
    /// # Errors
    /// The system's; whether there is something to settle is not known then.
    fn of_dead(path: PathBuf) -> io::Result<Option<Note>> {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        Ok((file.metadata()?.nlink() > 0).then_some(Note { file, path }))
    }

    /// Its folders; `None` where it cannot be read, or another swarm wrote it in another form.
    fn folders(&self) -> Option<Vec<Noted>> {
        let mut text = Vec::new();
        let bytes = (&self.file).take(NOTE_BYTES_MAX + 1).read_to_end(&mut text).ok()?;
        decode(&text).filter(|_| bytes as u64 <= NOTE_BYTES_MAX)
    }
}

/// Settles what commands left that were killed, as their end would have, and says so.
///
/// # Errors
/// Nobody reads what it says; all is settled then.
pub fn settle(state: &Path, it: &Surroundings) -> Result<Left, Failure> {
    let (mut all, mut left) = (Vec::new(), Left::Nothing);
    let Dead { notes, unread } = of_the_dead(state);
    for (path, error) in unread {
        let place = sanitize::shell_word(&sanitize::name(&path.to_string_lossy()));
        all.push(format!(
            "swarm: which folders a command could write that was killed cannot be read: {place}: {error}; use no git in what your plans \
             may write before swarm can read that\n"
        ));
    }
    for note in notes {
        let forget = sanitize::shell_word(&sanitize::name(&note.path.to_string_lossy()));
        let Some(folders) = note.folders() else {
            all.push(format!(
                "swarm: which folders a command could write that was killed cannot be read: use the swarm that noted them; where you \
                 looked at all that your plans may write: rm {forget}\n"
            ));
            continue;
        };
        let mut is_looked_at = true;
        for noted in folders {
            let place = sanitize::name(&noted.path.to_string_lossy());
            let opened = OpenedFolder::open(&noted.path).ok();
            match opened.filter(|folder| folder.identity().is_ok_and(|now| now == noted.identity)) {
                Some(folder) => {
                    let (lines, here) = settled(&folder, &Repositories::forgotten());
                    if !lines.is_empty() {
                        let told = "a command that may write it was killed before it looked at what its tasks left";
                        all.push(format!("swarm: in {place}: {told}; it is looked at now\n"));
                    }
                    all.extend(lines.into_iter().map(|line| format!("swarm: in {place}: {line}\n")));
                    left = left.and(here);
                }
                None => {
                    is_looked_at = false;
                    all.push(format!(
                        "swarm: {place} is not there: a task of a command that was killed may have made a repository in it; use no git \
                         there before you looked, then: rm {forget}\n"
                    ));
                }
            }
        }
        if is_looked_at {
            note.settled();
        }
    }
    all.iter().try_for_each(|line| it.err.write(line))?;
    Ok(left)
}

/// The folders that nobody has looked at since a command was killed that may write them, sorted; the note itself where it cannot be read.
pub fn waiting(state: &Path) -> Vec<PathBuf> {
    let paths = |note: &Note| match note.folders() {
        Some(folders) => folders.into_iter().map(|noted| noted.path).collect(),
        None => vec![note.path.clone()],
    };
    let Dead { notes, unread } = of_the_dead(state);
    let mut all: Vec<PathBuf> = notes.iter().flat_map(paths).chain(unread.into_iter().map(|(path, _)| path)).collect();
    all.sort();
    all.dedup();
    all
}

/// What commands left that are dead.
#[derive(Default)]
struct Dead {
    notes: Vec<Note>,
    /// What may be notes of theirs and cannot be read, and why.
    unread: Vec<(PathBuf, io::Error)>,
}

fn of_the_dead(state: &Path) -> Dead {
    let (folder, mut dead) = (state.join(FOLDER), Dead::default());
    let entries = match folder.read_dir() {
        // Nobody has anything to settle.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return dead,
        Err(error) => {
            dead.unread.push((folder, error));
            return dead;
        }
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())),
    };
    for path in entries {
        match path {
            Ok(path) if path.extension().is_some_and(|end| end == NOTE) => match Note::of_dead(path.clone()) {
                Ok(note) => dead.notes.extend(note),
                Err(error) => dead.unread.push((path, error)),
            },
            Ok(_) => {}
            Err(error) => dead.unread.push((folder.clone(), error)),
        }
    }
    dead
}

/// The version, then of each folder its device, its inode and its path; a NUL behind each of these.
fn encode(folders: &[Noted]) -> Vec<u8> {
    let mut text = [VERSION, b"\0"].concat();
    for Noted { path, identity } in folders {
        let (device, inode) = identity.numbers();
        text.extend(format!("{device} {inode} ").bytes());
        text.extend(path.as_os_str().as_bytes());
        text.push(0);
    }
    text
}

/// What [`encode`] wrote; `None` for anything else.
fn decode(text: &[u8]) -> Option<Vec<Noted>> {
    let mut all = text.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    if all.next() != Some(VERSION) {
        return None;
    }
    let noted = |entry: &[u8]| {
        let mut words = entry.splitn(3, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
        let identity = Identity::from_numbers((number()?, number()?));
        Some(Noted { path: PathBuf::from(OsString::from_vec(words.next()?.to_vec())), identity })
    };
    all.map(noted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_the_same_to_every_later_swarm() {
        let noted = |path: &str, numbers| Noted { path: path.into(), identity: Identity::from_numbers(numbers) };
        let (text, all) = (b"1\09 17 /a b\x000 18 /c\n\0", [noted("/a b", (9, 17)), noted("/c\n", (0, 18))]);
        assert_eq!(encode(&all), text);
        assert_eq!(decode(text), Some(all.into()));
        assert_eq!(decode(b"1\0"), Some(vec![]));
        for other in [&b""[..], b"2\09 17 /a\0", b"1\0x 17 /a\0", b"1\09 17 /a\09 18", b"1"] {
            assert_eq!(decode(other), None, "{other:?}");
        }
    }

    #[test]
    fn only_the_note_of_a_command_that_is_dead_is_taken_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = OpenedFolder::open(dir.path()).expect("it is there");
        let note = Note::of(dir.path(), [&folder].into_iter()).expect("it is written");
        assert!(waiting(dir.path()).is_empty());
        drop(note);
        assert_eq!(waiting(dir.path()), [dir.path()]);
        let [note] = <[Note; 1]>::try_from(of_the_dead(dir.path()).notes).expect("one");
        assert!(waiting(dir.path()).is_empty(), "somebody looks");
        note.settled();
        assert!(waiting(dir.path()).is_empty());
        assert!(!dir.path().join(FOLDER).exists());
    }

    #[test]
    fn a_note_that_nobody_can_read_waits() {
        let dir = tempfile::tempdir().expect("a folder");
        let note = dir.path().join(FOLDER).join("1.note");
        std::fs::create_dir(dir.path().join(FOLDER)).expect("space");
        std::fs::write(&note, "9\0").expect("space");
        assert_eq!(waiting(dir.path()), [note]);
    }

    #[test]
    fn notes_that_cannot_be_looked_at_are_not_none() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(waiting(dir.path()).is_empty(), "no command left one");
        let folder = dir.path().join(FOLDER);
        std::fs::write(&folder, "").expect("a file");
        assert_eq!(waiting(dir.path()), [folder.as_path()], "no folder of notes");
        std::fs::remove_file(&folder).and_then(|()| std::fs::create_dir(&folder)).expect("ours");
        std::os::unix::fs::symlink("loop.note", folder.join("loop.note")).expect("a link");
        assert_eq!(waiting(dir.path()), [folder.join("loop.note")], "a note that does not open");
    }
}
