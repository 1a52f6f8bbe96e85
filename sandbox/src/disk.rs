//! What a job writes to disk, measured from outside while it runs.
//!
//! A quota of the file system would need privileges or a mount option, and a file system of the job's own would not
//! survive it for collect. So the supervisor looks: at each look it asks how much the file systems have lost since the
//! last walk ([`Disk::is_suspect`]), which costs two microseconds and bounds what the job can have written; only when that
//! could be too much, or after a while, it walks what the job wrote ([`Disk::walk`]). An inode counts when it was changed after the
//! launch, by its ctime, which nothing but the kernel sets: so a plain copy of a big tree costs nothing until it is touched,
//! and an overlay's upper layer counts whole. Bytes count once, however many names a file has; each name counts as a file,
//! because whoever walks the folder afterwards has to look at each.
//!
//! Source: stat(2), statvfs(3), inode(7).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, MemfdFlags, Mode, OFlags, Stat, StatVfs, fstat, fstatvfs, makedev, memfd_create, open,
    openat, statat, statfs,
};
use rustix::io::{self, Errno};
use rustix::process::Pid;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::enforcement::Tier;
use crate::policy::{Access, Draft, Worktree};
use crate::unlock::unlock;

/// Folders nested deeper than this are not walked: they are a breach themselves. A descriptor is held for each level.
const DEPTH_MAX: usize = 256;
/// The first walk without a suspicion, after the launch.
const WALK_AFTER: Duration = Duration::from_secs(1);
/// A walk without a suspicion takes at most one part in this many of the time.
const WALK_SHARE: u32 = 50;
/// Hard links of one file that are told apart from many files.
const LINKED_MAX: usize = 1 << 20;

/// What a job has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files and folders, a file once for each of its names.
    pub files: u64,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// Everything was seen.
    Whole(Written),
    /// Folders lie deeper in each other than [`DEPTH_MAX`].
    TooDeep,
}

/// The folders that a job may write, and what was known of them at the last walk.
#[derive(Debug)]
pub struct Disk {
    roots: Vec<OwnedFd>,
    /// One of the roots on each file system, and what was free there at the last walk.
    systems: Vec<(usize, Written)>,
    /// What changed since is the job's.
    since: Timespec,
    last: Written,
    last_walk: Instant,
    next_walk: Instant,
}

impl Disk {
    /// Opens everything that a job of `draft` may write and takes the measure of what is free. To be called before the job
    /// exists.
    ///
    /// # Errors
    /// The system's, for a folder that can be written and not read.
    pub fn new(draft: &Draft) -> io::Result<Disk> {
        let now = Instant::now();
        let mut disk = Disk {
            roots: Vec::new(),
            systems: Vec::new(),
            since: clock_gettime(ClockId::RealtimeCoarse),
            last: Written::default(),
            last_walk: now,
            next_walk: now + WALK_AFTER,
        };
        let mut devices = HashSet::new();
        for path in writable(draft) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let root = match open(&path, flags, Mode::empty()) {
                Ok(root) => root,
                // A file that may be written is bounded by the size of a single file; what is missing or a symlink refuses
                // the launch when it is mounted or granted.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => continue,
                Err(error) => return Err(error),
            };
            let device = rustix::fs::fstat(&root)?.st_dev;
            let free = free(&root)?;
            disk.roots.push(root);
            if devices.insert(device) {
                disk.systems.push((disk.roots.len() - 1, free));
            }
        }
        Ok(disk)
    }

    /// Whether the job could have written more than `bound` since it started, by what the file systems have lost.
    pub fn is_suspect(&self, bound: Written) -> bool {
        let mut most = self.last;
        for (root, before) in &self.systems {
            let Ok(now) = free(&self.roots[*root]) else { continue };
            most.bytes = most.bytes.saturating_add(before.bytes.saturating_sub(now.bytes));
            most.files = most.files.saturating_add(before.files.saturating_sub(now.files));
        }
        most.bytes > bound.bytes || most.files > bound.files
    }

    /// Whether it is time for a walk without a suspicion: others who free space hide what the job takes.
    pub fn is_walk_due(&self, now: Instant) -> bool {
        now >= self.next_walk
    }

    /// Whether a job that has ended needs a last walk without a suspicion: names of one file take next to nothing from the
    /// file system, so a job that made them since the last walk raised none.
    pub fn is_last_walk_due(&self, now: Instant) -> bool {
        now >= self.last_walk + WALK_AFTER
    }

    /// Walks everything, adds what the job's processes hold of files without a name, and remembers what is free now. Ends early when
    /// `bound` is passed. Exact where the processes are held still; else a file that loses its name meanwhile may count twice.
    pub fn walk(&mut self, bound: Written, processes: &[Pid]) -> Walked {
        let started = Instant::now();
        let free_now: Vec<Option<Written>> =
            self.systems.iter().map(|(root, _)| free(&self.roots[*root]).ok()).collect();
        let mut walk = Walk { since: self.since, bound, found: Written::default(), linked: HashSet::new() };
        for root in &self.roots {
            if walk.folder_tree(root) == Walked::TooDeep {
                return Walked::TooDeep;
            }
        }
        walk.found.bytes = walk.found.bytes.saturating_add(unnamed_bytes(processes));
        self.last = walk.found;
        for ((_, free), now) in self.systems.iter_mut().zip(free_now) {
            *free = now.unwrap_or(*free);
        }
        self.last_walk = Instant::now();
        self.next_walk = self.last_walk + WALK_AFTER.max(started.elapsed() * WALK_SHARE);
        Walked::Whole(walk.found)
    }
}

/// Bytes on disk of files that have no name any more and are held open, or mapped, by these processes.
fn unnamed_bytes(processes: &[Pid]) -> u64 {
    let (mut open, mut mapped) = (HashMap::new(), HashMap::new());
    for pid in processes {
        // A thread may have a table of files of its own, and outlive the first one.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads.map(|thread| thread.path()) {
            open.extend(open_unnamed(&thread));
        }
        for (file, end) in mapped_unnamed(*pid) {
            let known = mapped.entry(file).or_insert(0);
            *known = end.max(*known);
        }
    }
    each_once(open, &mapped)
}

/// The files without a name that a thread holds open: their devices and inodes, and the bytes that they take.
fn open_unnamed(thread: &Path) -> Vec<((u64, u64), u64)> {
    let held = fs::read_dir(thread.join("fd")).into_iter().flatten().flatten();
    let unnamed = held.filter_map(|file| {
        let file = file.path();
        let stat = fs::metadata(&file).ok()?;
        // What lies in memory is counted there.
        let in_memory = || statfs(&file).is_ok_and(|system| system.f_type == TMPFS_MAGIC);
        let counts = stat.is_file() && stat.nlink() == 0 && !in_memory();
        counts.then(|| ((stat.dev(), stat.ino()), stat.blocks() * BLOCK_BYTES))
    });
    unnamed.collect()
}

/// Adds up files that are open and files that are mapped, by device and inode, each once. Of a file system of layers, the two name
/// the device of a file differently and its inode alike: what is mapped is taken for an open file of that inode. Source:
/// `ovl_map_ino` in the kernel's fs/overlayfs/inode.c.
fn each_once(open: HashMap<(u64, u64), u64>, mapped: &HashMap<(u64, u64), u64>) -> u64 {
    let by_inode: HashMap<u64, (u64, u64)> = open.keys().map(|file| (file.1, *file)).collect();
    let mut all = open;
    for (file, bytes) in mapped {
        let known = if all.contains_key(file) { None } else { by_inode.get(&file.1) };
        let held = all.entry(*known.unwrap_or(file)).or_insert(0);
        *held = (*bytes).max(*held);
    }
    all.values().sum()
}

/// The files without a name that a process maps: their devices and inodes, and the bytes that they take, or how far into them
/// the mappings reach. Source: proc_pid_maps(5).
fn mapped_unnamed(pid: Pid) -> HashMap<(u64, u64), u64> {
    let maps = lines_of(pid, "maps");
    let unnamed: Vec<_> = maps.lines().filter(|line| line.ends_with(" (deleted)")).filter_map(mapping).collect();
    let mut reach = HashMap::new();
    if unnamed.is_empty() {
        return reach;
    }
    let in_memory = memory_devices(pid);
    for (range, file, end) in unnamed.into_iter().filter(|(_, (device, _), _)| !in_memory.contains(device)) {
        // Only root may ask; everybody else sees how far the mapping reaches.
        let stat = fs::metadata(format!("/proc/{pid}/map_files/{range}"));
        let held = stat.map_or(end, |stat| stat.blocks() * BLOCK_BYTES);
        let known = reach.entry(file).or_insert(0);
        *known = held.max(*known);
    }
    reach
}

/// The devices of what a process sees that lies in memory: its tmpfs mounts, and the kernel's own, on which memfds and shared
/// anonymous memory lie. Source: proc_pid_mountinfo(5).
fn memory_devices(pid: Pid) -> HashSet<u64> {
    let mounts = lines_of(pid, "mountinfo");
    let of_mount = |line: &str| device(line.split_ascii_whitespace().nth(2)?, 10);
    let kernels = memfd_create("device", MemfdFlags::CLOEXEC).and_then(fstat).map(|stat| stat.st_dev);
    mounts.lines().filter(|line| line.contains(" - tmpfs ")).filter_map(of_mount).chain(kernels).collect()
}

/// What the kernel lists of a process, by whichever of its threads still tells. Names of files may be no text; nobody asks for them.
fn lines_of(pid: Pid, list: &str) -> String {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read(thread.path().join(list)).ok());
    let whole = lists.into_iter().find(|bytes| !bytes.is_empty()).unwrap_or_default();
    String::from_utf8_lossy(&whole).into_owned()
}

/// `major:minor` as one number.
fn device(text: &str, radix: u32) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(makedev(u32::from_str_radix(major, radix).ok()?, u32::from_str_radix(minor, radix).ok()?))
}

/// Where a line of maps lies in memory, its file, and the offset in it at which the mapping ends; `None` where there is no
/// file.
fn mapping(line: &str) -> Option<(&str, (u64, u64), u64)> {
    let mut fields = line.split_ascii_whitespace();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let range = fields.next()?;
    let (from, to) = range.split_once('-')?;
    let offset = hex(fields.nth(1)?)?;
    let device = device(fields.next()?, 16)?;
    let inode = fields.next()?.parse().ok()?;
    let is_huge_page = fields.next()?.starts_with("/anon_hugepage");
    (!is_huge_page).then_some((range, (device, inode), offset + hex(to)?.checked_sub(hex(from)?)?))
}

/// Source: statfs(2).
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// Host folders that a job may write.
fn writable(draft: &Draft) -> Vec<PathBuf> {
    let mut all = Vec::new();
    match &draft.worktree {
        Worktree::Overlay { state, upper, .. } => {
            all.push(state.join(upper));
            all.extend(draft.copies.iter().map(|copy| state.join(&copy.upper)));
        }
        Worktree::Directory { path, .. } => all.push(path.clone()),
    }
    all.extend(draft.grants.iter().filter(|grant| grant.access == Access::Write).map(|grant| grant.path.clone()));
    all.extend(draft.tmp.clone());
    if draft.tier == Tier::Landlock {
        all.push(draft.home.clone());
    }
    all
}

fn free(root: &OwnedFd) -> io::Result<Written> {
    let StatVfs { f_bfree, f_ffree, f_frsize, .. } = fstatvfs(root)?;
    Ok(Written { bytes: f_bfree.saturating_mul(f_frsize), files: f_ffree })
}

/// One walk.
struct Walk {
    since: Timespec,
    bound: Written,
    found: Written,
    /// Files with several names, counted once.
    linked: HashSet<(u64, u64)>,
}

impl Walk {
    fn folder_tree(&mut self, root: &OwnedFd) -> Walked {
        // A descriptor of its own: reading moves the position.
        let own = openat(root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let mut open: Vec<Dir> = own.and_then(Dir::new).into_iter().collect();
        loop {
            let depth = open.len();
            let Some(folder) = open.last_mut() else { break };
            let Some(entry) = folder.next() else {
                open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            let name = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(parent) = folder.fd() else { continue };
            let Ok(stat) = statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.count(&stat);
            if self.found.bytes > self.bound.bytes || self.found.files > self.bound.files {
                break;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if depth == DEPTH_MAX {
                    return Walked::TooDeep;
                }
                if let Ok(below) = enter(parent, &name) {
                    open.push(below);
                }
            }
        }
        Walked::Whole(self.found)
    }

    fn count(&mut self, stat: &Stat) {
        let changed = (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
        if changed < (self.since.tv_sec, self.since.tv_nsec) {
            return;
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        let several = kind != FileType::Directory && stat.st_nlink > 1 && self.linked.len() < LINKED_MAX;
        let is_known = several && !self.linked.insert((stat.st_dev, stat.st_ino));
        // Overlay shares one inode among the marks of what is gone; there are no more of them than there were files.
        if !is_known || kind != FileType::CharacterDevice {
            self.found.files += 1;
        }
        if is_known {
            return;
        }
        self.found.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES;
    }
}

/// Opens a folder below another. One that its owner made unreadable is made readable first: it would hide what is in it.
fn enter(parent: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            unlock(parent, name, FileType::Directory, Mode::RWXU)?;
            Dir::new(openat(parent, name, flags, Mode::empty())?)
        }
        folder => Dir::new(folder?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_of_a_file_without_a_name_says_which_and_how_far() {
        let line = "7f0000000000-7f0000003000 rw-s 00001000 08:01 42                 /repo/x y (deleted)";
        assert_eq!(mapping(line), Some(("7f0000000000-7f0000003000", (makedev(8, 1), 42), 0x4000)));
        assert_eq!(mapping("7f00-7f10 rw-s 00000000 00:0f 7   /anon_hugepage (deleted)"), None);
        assert_eq!(mapping("7f10-7f00 rw-s 00000000 00:0f 7   /x (deleted)"), None);
    }

    #[test]
    fn each_file_without_a_name_counts_once_open_or_mapped() {
        let (disk, layers) = (makedev(8, 1), makedev(0, 40));
        let sum = |open: &[((u64, u64), u64)], mapped: &[((u64, u64), u64)]| {
            each_once(open.iter().copied().collect(), &mapped.iter().copied().collect())
        };
        assert_eq!(sum(&[((disk, 1), 10)], &[((disk, 2), 10)]), 20, "one held open, one only mapped");
        assert_eq!(sum(&[((disk, 1), 10)], &[((disk, 1), 10)]), 10);
        assert_eq!(sum(&[((disk, 1), 10)], &[((layers, 1), 12)]), 12, "one file under two names");
        assert_eq!(sum(&[((disk, 1), 10), ((layers, 1), 5)], &[((layers, 1), 5), ((disk, 3), 1)]), 16);
        assert_eq!(sum(&[], &[((disk, 1), 3), ((layers, 1), 4)]), 7);
    }

    const UNBOUNDED: Written = Written { bytes: u64::MAX, files: u64::MAX };

    struct Fixture {
        folder: PathBuf,
        disk: Disk,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("swarm-disk-{name}-{}", std::process::id()));
            fs::create_dir_all(folder.join("old")).expect("a folder");
            let draft = Draft {
                tier: Tier::Namespaces,
                worktree: Worktree::Directory { at: folder.clone(), path: folder.clone() },
                grants: Vec::new(),
                copies: Vec::new(),
                hide: Vec::new(),
                home: "/home/nobody".into(),
                home_files: Vec::new(),
                tmp: None,
                network: crate::policy::Network::None,
                limits: crate::policy::Limits::default(),
                landlock_abi_max: None,
            };
            Fixture { disk: Disk::new(&draft).expect("it is there"), folder }
        }

        fn written(&mut self) -> Written {
            match self.disk.walk(UNBOUNDED, &[]) {
                Walked::Whole(written) => written,
                Walked::TooDeep => panic!("too deep"),
            }
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn bytes_and_files_are_counted_and_a_hole_is_none() {
        let mut it = Fixture::new("count");
        let before = it.written();
        fs::write(it.folder.join("a"), vec![1; 100_000]).expect("space");
        fs::hard_link(it.folder.join("a"), it.folder.join("b")).expect("links");
        let sparse = fs::File::create(it.folder.join("sparse")).expect("a file");
        sparse.set_len(1 << 40).expect("holes");
        let after = it.written();
        assert_eq!(after.files - before.files, 3, "one file of two names, and one of holes");
        assert!((100_000..2_000_000).contains(&(after.bytes - before.bytes)), "{after:?}");
    }

    #[test]
    fn each_name_of_a_file_counts_and_its_bytes_once() {
        let mut it = Fixture::new("names");
        fs::write(it.folder.join("a"), vec![1; 100_000]).expect("space");
        let one = it.written();
        (0..500).for_each(|n| fs::hard_link(it.folder.join("a"), it.folder.join(n.to_string())).expect("links"));
        let many = it.written();
        assert_eq!(many.files - one.files, 500);
        assert!(many.bytes - one.bytes < 100_000, "no more than the folder's own: {many:?}");
    }

    #[test]
    fn a_job_of_more_than_a_moment_is_walked_at_its_end() {
        let mut it = Fixture::new("last");
        let now = Instant::now();
        assert!(!it.disk.is_last_walk_due(now) && it.disk.is_last_walk_due(now + WALK_AFTER));
        it.disk.next_walk = now + 100 * WALK_AFTER;
        it.written();
        assert!(!it.disk.is_last_walk_due(Instant::now()), "it was walked just now");
    }

    #[test]
    fn what_was_there_before_counts_only_when_it_is_touched() {
        let mut it = Fixture::new("old");
        fs::write(it.folder.join("old/file"), vec![1; 100_000]).expect("space");
        it.disk.since = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        assert_eq!(it.written(), Written::default());
    }

    #[test]
    fn a_folder_without_permissions_hides_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let mut it = Fixture::new("hide");
        fs::create_dir(it.folder.join("dark")).expect("a folder");
        fs::write(it.folder.join("dark/file"), vec![1; 100_000]).expect("space");
        fs::set_permissions(it.folder.join("dark"), fs::Permissions::from_mode(0o0)).expect("ours");
        assert!(it.written().bytes >= 100_000);
    }

    #[test]
    fn folders_without_end_are_a_breach() {
        let mut it = Fixture::new("deep");
        let mut folder = it.folder.clone();
        for _ in 0..=DEPTH_MAX {
            folder.push("d");
        }
        fs::create_dir_all(&folder).expect("short names");
        assert_eq!(it.disk.walk(UNBOUNDED, &[]), Walked::TooDeep);
    }

    #[test]
    fn a_file_without_a_name_is_found_in_the_hands_of_its_process() {
        let it = Fixture::new("unnamed");
        let before = unnamed_bytes(&[rustix::process::getpid()]);
        let path = it.folder.join("gone");
        let mut file = fs::File::create(&path).expect("a file");
        std::io::Write::write_all(&mut file, &vec![1; 300_000]).expect("space");
        file.sync_all().expect("a disk");
        fs::remove_file(&path).expect("it is there");
        let in_memory = statfs(&it.folder).expect("it is there").f_type == TMPFS_MAGIC;
        assert!(in_memory || unnamed_bytes(&[rustix::process::getpid()]) >= before + 300_000);
    }
}
