//! The state folder: where everything of ours lives (DESIGN §6). Nothing of swarm is ever written outside of it and of
//! `refs/swarm/`.
//!
//! ```text
//! bases/<key>/           a checked-out tree, the lowest overlay layer; immutable once it has its name
//! layers/<key>/          small layers on top of one: heads, deltas, copied files, results of `setup`
//! runs/<run>/<instance>/<attempt>/   what one attempt writes
//! wasm/modules/<digest>.wasm, wasm/compiled/<key>   modules of guests, and the machine code made of them
//! stores/<repository>.json   when the objects of a repository were looked at after the machine started, and when some were damaged
//! trash/                 what is being removed off the critical path
//! secret                 what the names of bases and layers are made with, so that no job can guess one
//! SWARM-STATE            tells every swarm what this folder is, wherever it lies
//! ```

/// The umask of whoever started us.
mod umask;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, access, fchmod, fstat, open, statat};
use rustix::io::Errno;
use swarm_plans::InstanceId;

use crate::ids::{Attempt, RunId, encode_component};
use crate::listed::listed;
use crate::report::sanitize;

/// Folders of the state folder that exist from the start.
const FOLDERS: [&str; 4] = ["bases", "layers", "runs", "trash"];

/// The file by which a state folder is known, whoever made it and wherever it lies.
pub const MARKER: &str = "SWARM-STATE";

/// What it says to a person who finds it.
const MARKER_TEXT: &str = "This folder belongs to swarm, which keeps its runs here and shows it to no command.\n";

/// The length of [`StateDir::secret`].
const SECRET_BYTES: usize = 32;

/// The state folder of one repository. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    // Invariant: absolute, canonical, exists.
    root: PathBuf,
}

impl StateDir {
    /// The modules of WebAssembly guests, relative to the state folder; made when the first one is kept.
    pub const MODULES: &str = "wasm/modules";
    /// What workers made of them, relative to the state folder; no job can write it.
    pub const COMPILED: &str = "wasm/compiled";

    /// Opens the folder, making it (mode 0700) and its first floor where they are missing.
    ///
    /// # Errors
    /// The file system's; a full or read-only disk is the usual cause. A umask under which nobody could use what they make.
    pub fn open(root: &Path) -> io::Result<Self> {
        umask::expect_usable()?;
        make_private_dir_all(root)?;
        let root = root.canonicalize()?;
        for folder in FOLDERS {
            make_private_dir_all(&root.join(folder))?;
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(root.join(MARKER)) {
            Ok(mut marker) => marker.write_all(MARKER_TEXT.as_bytes())?,
            // A `chmod -R` opened it to others.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => make_private(&root.join(MARKER)),
            Err(error) => return Err(error),
        }
        Ok(StateDir { root })
    }

    /// What no job can read, and no name that is made with it can be guessed: the same as long as the folder is there. Made when it
    /// is first asked for.
    ///
    /// # Errors
    /// The file system's.
    pub fn secret(&self) -> io::Result<[u8; SECRET_BYTES]> {
        let path = self.root.join("secret");
        let known = || match std::fs::read(&path) {
            // One that a power failure cut short is as good as none.
            Ok(bytes) => Ok(<[u8; SECRET_BYTES]>::try_from(bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(secret) = known()? {
            return Ok(secret);
        }
        let _lock = self.lock("secret")?;
        if let Some(secret) = known()? {
            return Ok(secret);
        }
        let mut secret = [0; SECRET_BYTES];
        if rustix::rand::getrandom(&mut secret, rustix::rand::GetRandomFlags::empty())? < SECRET_BYTES {
            return Err(io::Error::other("the kernel gave too few random bytes"));
        }
        write_whole(&path, &self.root.join("secret.new"), 0o600, &secret)?;
        Ok(secret)
    }

    /// As [`obstacle`], of the folder and its first floor.
    pub fn obstacle(root: &Path) -> Option<String> {
        if let Some(hint) = umask::hint() {
            return Some(hint);
        }
        let floor = FOLDERS.iter().map(|folder| root.join(folder));
        [root.to_owned()].into_iter().chain(floor).find_map(|folder| obstacle(&folder, Expected::Folder))
    }

    /// The folder itself; absolute and canonical.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The absolute path of something named relative to the folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder of one attempt, relative to the state folder; not made yet. It consists of what the worker accepts in a
    /// layer's path: `[A-Za-z0-9._/-]`. No encoded name has a dot behind a hyphen, so different names stay different.
    pub fn attempt(run: &RunId, instance: &InstanceId, attempt: Attempt) -> String {
        let name = folder_name(&instance.0);
        let beside = if is_of_the_run(&name) { "-.task" } else { "" };
        format!("{}/{name}{beside}/{attempt}", StateDir::run(run))
    }

    /// The folder of all attempts of a run, relative to the state folder; not made yet.
    pub fn run(run: &RunId) -> String {
        format!("runs/{}", folder_name(&run.0))
    }

    /// A name in `trash/` that was never given before, as an absolute path.
    pub fn fresh_trash(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("trash/{}-{now}-{next}", std::process::id()))
    }

    /// What a worktree could not do without and has not any more, for people: the folder itself, when somebody removed it, or what the
    /// disk below has run out of. `None` while there is some of it, and where the system does not tell.
    pub fn lacks(&self) -> Option<&'static str> {
        if !self.path("bases").is_dir() {
            return Some("its state folder was gone");
        }
        self.left()?.lack()
    }

    /// What the disk below has left; `None` where the system does not tell.
    pub fn left(&self) -> Option<Left> {
        let disk = rustix::fs::statvfs(&self.root).ok()?;
        let bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        Some(Left { bytes, inodes: (disk.f_files > 0).then_some(disk.f_favail) })
    }

    /// Waits until no other process or thread holds the lock of that name, and holds it until the value is dropped. The
    /// kernel releases it when the holder dies, however it dies.
    ///
    /// # Errors
    /// The file system's.
    pub fn lock(&self, relative: &str) -> io::Result<Lock> {
        let path = self.path(&format!("{relative}.lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
        Ok(Lock { _file: file })
    }
}

/// Whatever stops for want of space stops a little before the last byte: a write is refused whole, or by the block.
const SPACE_BYTES_MIN: u64 = 1 << 20;

/// The same for inodes: what failed for want of one is asked about when others' worktrees have gone already.
const INODES_MIN: u64 = 64;

/// What a disk has left for who is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Free bytes.
    pub bytes: u64,
    /// Free inodes; a file system without a fixed number of them names none.
    pub inodes: Option<u64>,
}

impl Left {
    /// What a worktree there lacks, for people.
    pub fn lack(self) -> Option<&'static str> {
        match self.inodes {
            _ if self.bytes < SPACE_BYTES_MIN => Some("no space was left for its worktree"),
            Some(left) if left < INODES_MIN => Some("no inodes were left for its worktree"),
            _ => None,
        }
    }

    /// The smaller of each.
    pub fn least(self, other: Left) -> Left {
        let inodes = [self.inodes, other.inodes].into_iter().flatten().min();
        Left { bytes: self.bytes.min(other.bytes), inodes }
    }
}

/// What swarm keeps at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// What can be seen that keeps us from a file or a folder of ours, and what to do about it, for people: something else in its
/// place, or no right to write there. `None` where nothing can.
pub fn obstacle(path: &Path, expected: Expected) -> Option<String> {
    let word = |path: &Path| sanitize::shell_word(&sanitize::name(&path.to_string_lossy()));
    let is_there = |path: &&Path| path.symlink_metadata().is_ok();
    let no_folder = path.ancestors().skip(usize::from(expected == Expected::File)).find(is_there);
    let in_place = match no_folder.filter(|there| !there.is_dir()) {
        Some(file) => Some((file, "a file", "a folder")),
        None if expected == Expected::File && path.is_dir() => Some((path, "a folder", "a file")),
        None => None,
    };
    if let Some((at, there, wanted)) = in_place {
        let (at, aside) = (word(at), word(&at.with_added_extension("aside")));
        return Some(format!("{at} is {there}, where swarm keeps {wanted}; put it aside: mv {at} {aside}"));
    }
    // A file that is made anew or has others beside it needs its folder, too.
    let count = if expected == Expected::File && path.exists() { 2 } else { 1 };
    let mut written = path.ancestors().filter(is_there).take(count);
    let (at, errno) = written.find_map(|at| Some((at, access(at, Access::WRITE_OK).err()?)))?;
    let at = word(at);
    match errno {
        Errno::ROFS => Some(format!("{at} is on a file system that is mounted read-only; findmnt -T {at} shows which")),
        Errno::ACCESS | Errno::PERM => {
            Some(format!("you may not write {at}: ls -ld {at} shows whose it is, chmod u+w {at} lets its owner"))
        }
        _ => None,
    }
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Whether a folder is a state folder, of whatever repository.
pub fn is_state(folder: &Path) -> bool {
    let opened = open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.is_ok_and(is_state_at)
}

/// As [`is_state`], of a folder that is open. A marker as [`StateDir::open`] makes it says so: a file of the folder's owner, in which
/// nobody else has any right. One that came with a checkout, an archive or a download usually is not, and hides nothing; but one among
/// the folders that lie in every state folder is one, whatever somebody did to its rights.
pub fn is_state_at(folder: impl AsFd) -> bool {
    let Ok(marker) = statat(&folder, MARKER, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let is_file = FileType::from_raw_mode(marker.st_mode) == FileType::RegularFile;
    let is_private =
        || marker.st_mode & 0o077 == 0 && fstat(&folder).is_ok_and(|folder| folder.st_uid == marker.st_uid);
    let is_folder = |name: &&str| {
        let entry = statat(&folder, *name, AtFlags::SYMLINK_NOFOLLOW);
        entry.is_ok_and(|entry| FileType::from_raw_mode(entry.st_mode) == FileType::Directory)
    };
    is_file && (is_private() || FOLDERS.iter().all(is_folder))
}

/// Takes others' rights from a file of the caller's own; what cannot be changed stays as it is.
fn make_private(file: &Path) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open(file, flags, Mode::empty());
    if let Ok(opened) = opened
        && fstat(&opened).is_ok_and(|stat| stat.st_mode & 0o077 != 0)
    {
        // Another's file is known by what lies beside it.
        _ = fchmod(&opened, Mode::RUSR | Mode::WUSR);
    }
}

/// Why nobody knows what a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsearched {
    /// It holds more entries than are looked through, or deeper ones.
    TooMany,
    /// A folder in it cannot be listed, for no lack of rights: see [`listed`].
    Unreadable,
}

/// The state folders below a folder, or the folder itself, sorted: at most so deep, among at most so many entries; no link is
/// followed.
///
/// # Errors
/// There are more entries, or folders at the last level, or the system lists one of them not: nobody knows what they hold.
pub fn below(folder: &Path, depth_max: usize, entries_max: usize) -> Result<Vec<PathBuf>, Unsearched> {
    folders_below(folder, &is_state, depth_max, entries_max)
}

/// The folders of a kind below a folder, or the folder itself, sorted; none that lies in another is among them. What the caller
/// may not list is not looked into: `is` sees it.
///
/// # Errors
/// As [`below`].
pub fn folders_below(
    folder: &Path,
    is: &dyn Fn(&Path) -> bool,
    depth_max: usize,
    entries_max: usize,
) -> Result<Vec<PathBuf>, Unsearched> {
    let (mut level, mut left, mut found) = (vec![folder.to_owned()], entries_max, Vec::new());
    for depth in 0..=depth_max {
        let (these, others): (Vec<PathBuf>, Vec<PathBuf>) = level.into_iter().partition(|folder| is(folder));
        found.extend(these);
        level = Vec::new();
        if others.is_empty() {
            break;
        }
        if depth == depth_max {
            return Err(Unsearched::TooMany);
        }
        for folder in others {
            let entries = listed(&folder, left + 1).map_err(|_| Unsearched::Unreadable)?;
            left = left.checked_sub(entries.len()).ok_or(Unsearched::TooMany)?;
            level.extend(entries.iter().filter(|(_, kind)| kind.is_dir()).map(|(entry, _)| entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a folder that does not exist yet, with mode 0700.
///
/// # Errors
/// The file system's.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a folder and its missing parents, all with mode 0700.
///
/// # Errors
/// The file system's.
pub fn make_private_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts bytes into the place of the file at `path`, so that they stay whatever ends the process or the machine: who reads it finds what
/// was there before or all of these, and they are on the disk when this returns. `draft` is a name in the same folder that nobody
/// else writes; what a predecessor that died left there goes.
///
/// # Errors
/// The file system's; what was there before is there still, and no draft, unless it is only whether the new name is on the disk that
/// nobody knows.
pub fn write_whole(path: &Path, draft: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let write = || {
        match std::fs::remove_file(draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(draft, path)
    };
    write().inspect_err(|_| drop(std::fs::remove_file(draft)))?;
    sync_folder_of(path)
}

/// Waits until the name of a file is on the disk. Where folders cannot be waited for, that is up to the file system.
///
/// Source: fsync(2), EINVAL; 9p and the shared folders of virtual machines are such.
///
/// # Errors
/// The file system's.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::fsync(File::open(folder)?) {
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        synced => Ok(synced?),
    }
}

/// Whether a run keeps something of its own under this name, beside the folders of its tasks: its lock, what it wrote of all
/// of them, and the sockets of its proxy.
fn is_of_the_run(name: &str) -> bool {
    matches!(name, "lock" | "workers.log" | "enforcement.json" | "replayed.jsonl") || name.starts_with("door-")
}

fn folder_name(name: &str) -> String {
    encode_component(name).replace('+', "-.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_that_cannot_be_waited_for_is_no_error_and_one_that_is_not_there_is() {
        rustix::fs::fsync(File::open("/proc/self").expect("it is there")).expect_err("the kernel knows no such thing");
        sync_folder_of(Path::new("/proc/self/name")).expect("as good as done");
        sync_folder_of(Path::new("/none/such/name")).expect_err("it is not there");
    }

    #[test]
    fn the_state_folder_is_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(&folder.path().join("a/swarm")).expect("a state folder");
        for relative in ["", "bases", "trash"] {
            let mode = state.path(relative).metadata().expect("made by open").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{relative:?}");
        }
    }

    #[test]
    fn a_state_folder_keeps_its_secret_to_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [one, other] = ["a", "b"].map(|name| StateDir::open(&folder.path().join(name)).expect("a state folder"));
        let secret = one.secret().expect("space");
        assert_eq!(one.secret().expect("it is there"), secret);
        assert_ne!(other.secret().expect("space"), secret);
        let mode = one.path("secret").metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(one.path("secret"), b"half").expect("space");
        let renewed = one.secret().expect("space");
        assert_ne!(renewed, secret);
        assert_eq!(one.secret().expect("it is there"), renewed);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_or_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [path, draft] = ["file", "file.new"].map(|name| folder.path().join(name));
        std::fs::write(&draft, "of one that died").expect("space");
        write_whole(&path, &draft, 0o600, b"1").expect("space");
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        let nowhere = folder.path().join("none/file");
        assert!(write_whole(&nowhere, &draft, 0o600, b"2").is_err() && !draft.exists());
        assert_eq!(std::fs::read(&path).expect("it is there"), b"1");
    }

    #[test]
    fn no_task_takes_the_place_of_what_its_run_keeps() {
        let check = |name: &str, expected| {
            let found = StateDir::attempt(&RunId("r-1".to_owned()), &InstanceId(name.into()), Attempt(1));
            assert_eq!(found, expected);
        };
        check("lock", "runs/r-1/lock-.task/1");
        check("door-0", "runs/r-1/door-0-.task/1");
        check("workers.log", "runs/r-1/workers.log-.task/1");
        check("lock-task", "runs/r-1/lock-task/1");
        check("doors", "runs/r-1/doors/1");
    }

    #[test]
    fn a_state_folder_is_known_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(below(folder.path(), 4, 100), Ok(vec![]));
        let state = StateDir::open(&folder.path().canonicalize().expect("it is there").join("a/b/swarm"))
            .expect("a state folder");
        StateDir::open(state.root()).expect("and again");
        assert!(is_state(state.root()) && !is_state(folder.path()));
        let root = state.root().to_owned();
        let too_many = Unsearched::TooMany;
        let top = root.ancestors().nth(3).expect("it lies so deep");
        assert_eq!((below(top, 3, 100), below(top, 2, 100)), (Ok(vec![root.clone()]), Err(too_many)));
        assert_eq!((below(&root, 0, 0), below(top, 3, 2)), (Ok(vec![root.clone()]), Err(too_many)));
    }

    #[test]
    fn what_cannot_be_listed_may_hold_a_state_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        crate::listed::too_long_to_list(folder.path());
        assert_eq!(below(folder.path(), 64, 1000), Err(Unsearched::Unreadable));
    }

    #[test]
    fn a_file_of_that_name_makes_no_state_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        let marker = folder.path().join(MARKER);
        std::fs::write(&marker, MARKER_TEXT).expect("a file");
        for (bits, expected) in [(0o644, false), (0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&marker, mode(bits)).expect("it is ours");
            assert_eq!(is_state(folder.path()), expected, "{bits:o}");
        }
        std::fs::set_permissions(&marker, mode(0o644)).expect("it is ours");
        FOLDERS.iter().for_each(|name| std::fs::create_dir(folder.path().join(name)).expect("a folder"));
        assert!(is_state(folder.path()), "all that a state folder has lies beside it");
        StateDir::open(folder.path()).expect("a state folder");
        assert_eq!(marker.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&marker).expect("it is ours");
        std::fs::create_dir(&marker).expect("a folder");
        assert!(!is_state(folder.path()));
    }

    #[test]
    fn the_folder_of_an_attempt_has_no_byte_that_a_mount_option_would_need_escaped() {
        let attempt = |name: &str| StateDir::attempt(&RunId("r-1".into()), &InstanceId(name.into()), Attempt(2));
        assert_eq!(attempt("t[os=a,b]"), "runs/r-1/t-.5Bos-.3Da-.2Cb-.5D/2");
        assert_eq!(attempt("a-.5B"), "runs/r-1/a--.2E5B/2");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
        assert!(["é\n", ":", "\\,", "../x", "a..b"].iter().all(|name| attempt(name).bytes().all(plain)));
    }

    #[test]
    fn what_stands_in_the_place_of_a_file_or_a_folder_of_ours_is_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let says = |path: &str, expected| {
            obstacle(&at(path), expected).map(|text| text.replace(&at("").display().to_string(), ""))
        };
        std::fs::create_dir(at("folder")).expect("it is ours");
        std::fs::write(at("file"), "").expect("it is ours");
        let file = Some("file is a file, where swarm keeps a folder; put it aside: mv file file.aside".to_owned());
        assert_eq!(says("file", Expected::Folder), file);
        assert_eq!([says("file/a/b", Expected::Folder), says("file/a", Expected::File)], [file.clone(), file]);
        let text = "folder is a folder, where swarm keeps a file; put it aside: mv folder folder.aside";
        assert_eq!(says("folder", Expected::File).as_deref(), Some(text));
        let fine = [("file", Expected::File), ("folder", Expected::Folder), ("folder/new", Expected::File)];
        assert_eq!(fine.map(|(path, expected)| says(path, expected)), [None, None, None]);
        let mode =
            |mode| std::fs::set_permissions(at("folder"), std::fs::Permissions::from_mode(mode)).expect("it is ours");
        mode(0o500);
        let locked = says("folder/new", Expected::File);
        mode(0o700);
        match rustix::process::geteuid().is_root() {
            true => swarm_protocol::skipped::say("root may write any folder"),
            false => assert!(locked.is_some_and(|text| text.starts_with("you may not write folder: ls -ld folder"))),
        }
    }

    #[test]
    fn a_disk_is_full_when_either_is_gone() {
        let lack = |bytes, inodes| Left { bytes, inodes }.lack();
        assert!(lack(4096, Some(7)).is_some_and(|words| words.starts_with("no space")));
        assert!(lack(1 << 30, Some(0)).is_some_and(|words| words.starts_with("no inodes")));
        assert_eq!((lack(1 << 30, Some(INODES_MIN)), lack(1 << 30, None)), (None, None));
        let least = Left { bytes: 1, inodes: Some(9) }.least(Left { bytes: 5, inodes: Some(2) });
        assert_eq!(least, Left { bytes: 1, inodes: Some(2) });
    }

    #[test]
    fn a_state_folder_that_is_gone_is_said_in_its_own_words() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(&folder.path().join("st")).expect("a state folder");
        std::fs::remove_dir_all(state.root()).expect("it is ours");
        assert_eq!(state.lacks(), Some("its state folder was gone"));
    }

    #[test]
    fn a_lock_is_free_again_when_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(folder.path()).expect("a state folder");
        drop(state.lock("bases/x").expect("the first"));
        drop(state.lock("bases/x").expect("the second"));
    }
}
