//! Control groups: the kernel counts a whole job together, however often it forks. Version 2 where the user may make
//! groups (delegated, or root), else version 1, whatever can really be entered: [`find`] tries it.
//!
//! Comes in: the [`GroupPlace`]s that were found once, and a job's limits. Goes out: a [`Group`] made by the supervisor,
//! outside of the cage, entered by init before anything else, and removed when everything in it is dead. A supervisor
//! that was killed leaves an empty group behind; the next [`find`] removes it, or [`sweep_all`].
//!
//! Only what a limit needs is made: a group costs some 0.05 ms, and a job without limits pays nothing. Entering is a write of
//! `0` by the process itself, which spares the kernel the lock that moving another process takes.
//!
//! Source: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/{memory,pids}.rst, cgroups(7), proc_pid_mountinfo(5).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{self, Errno};

use crate::namespaces::{Cloned, clone};
use crate::policy::Limits;

/// What groups of ours are called, before the supervisor's pid namespace and process id.
const PREFIX: &str = "swarm-";
/// How many names a supervisor tries when others of its process id are taken by the dead.
const NAMES_MAX: u32 = 64;
/// How old an empty group of another pid namespace is when it is taken for abandoned: a job enters its own within milliseconds.
const FOREIGN_AGE_MIN: Duration = Duration::from_secs(60 * 60);
/// What part of its memory a job's sockets may hold beside it, where they are counted by themselves.
const SOCKETS_PART: u64 = 4;
/// They may hold this much in any case, in bytes.
const SOCKETS_BYTES_MIN: u64 = 16 << 20;
/// The period in which processor time is shared out, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// The smallest share of it that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// The bound of a trial, whatever it counts: accepted for bytes, processes and microseconds alike.
const TRIAL_BOUND: u64 = 4_000_000;
/// The most processes that the kernel takes as a bound (`PID_MAX_LIMIT`).
const PROCESSES_MAX: u64 = 1 << 22;
/// Processes of ours in each group beside the job's: init.
const OWN_PROCESSES: u64 = 1;

/// What a kind of group bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Bytes of memory: of processes, of the kernel for them, of private file systems.
    Memory,
    /// Processes and threads.
    Processes,
    /// Processor time.
    Cpu,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Processes, Controller::Cpu];

    /// The kernel's word.
    fn word(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "pids",
            Controller::Cpu => "cpu",
        }
    }

    /// The file that sets the bound.
    fn bound_file(self, version: Version) -> &'static str {
        match (self, version) {
            (Controller::Memory, Version::V2) => "memory.max",
            (Controller::Memory, Version::V1) => "memory.limit_in_bytes",
            (Controller::Processes, _) => "pids.max",
            (Controller::Cpu, Version::V2) => "cpu.max",
            (Controller::Cpu, Version::V1) => "cpu.cfs_quota_us",
        }
    }
}

/// The two designs of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One tree a controller.
    V1,
    /// One tree for all.
    V2,
}

/// A folder of the kernel in which groups can be made, and what they bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlace {
    /// The folder; absolute.
    pub folder: PathBuf,
    /// Its design.
    pub version: Version,
    /// What a group in it bounds; never empty.
    pub controllers: Vec<Controller>,
}

/// Removes groups that dead supervisors left, wherever [`find`] would look for a place; gives how many there were.
pub fn sweep_all() -> usize {
    let (Ok(mounts), Ok(own)) = (fs::read_to_string("/proc/self/mountinfo"), fs::read_to_string("/proc/self/cgroup"))
    else {
        return 0;
    };
    candidates(&mounts, &own).iter().map(|candidate| sweep(&candidate.folder)).sum()
}

/// Finds the places for groups by making, entering and removing one in each. Takes a few milliseconds; empty where nothing
/// works. Removes groups that dead supervisors left.
pub fn find() -> Vec<GroupPlace> {
    let (Ok(mounts), Ok(own)) = (fs::read_to_string("/proc/self/mountinfo"), fs::read_to_string("/proc/self/cgroup"))
    else {
        return Vec::new();
    };
    let mut missing = Controller::ALL.to_vec();
    let mut found = Vec::new();
    for candidate in candidates(&mounts, &own) {
        sweep(&candidate.folder);
        let Some(controllers) = tried(&candidate, &missing) else { continue };
        missing.retain(|controller| !controllers.contains(controller));
        found.push(GroupPlace { controllers, ..candidate });
    }
    found
}

/// Bytes of memory that a job can have at most, by the groups in which its own would be made; `None` without such a bound.
pub fn memory_room(places: &[GroupPlace]) -> Option<u64> {
    let place = places.iter().find(|place| place.controllers.contains(&Controller::Memory))?;
    let file = Controller::Memory.bound_file(place.version);
    let bounds = place.folder.ancestors().map_while(|folder| fs::read_to_string(folder.join(file)).ok());
    // `max` of version 2 is no number and no bound.
    bounds.filter_map(|text| text.trim().parse().ok()).min()
}

/// Where groups might be made, best first: version 2 from our own group upwards, then version 1 beside our own groups.
fn candidates(mounts: &str, own: &str) -> Vec<GroupPlace> {
    let mounted: Vec<Mounted<'_>> = mounts.lines().filter_map(Mounted::parse).collect();
    let mut all = Vec::new();
    for mount in mounted.iter().filter(|mount| mount.version == Version::V2) {
        let Some(path) = own_path(own, "") else { continue };
        let (top, folder) = (Path::new(mount.point), mount.folder(path));
        let upwards = folder.ancestors().take_while(|above| above.starts_with(top));
        all.extend(upwards.map(|above| GroupPlace {
            folder: above.to_owned(),
            version: Version::V2,
            controllers: Controller::ALL.to_vec(),
        }));
    }
    for controller in Controller::ALL {
        let is = |mount: &&Mounted<'_>| {
            mount.version == Version::V1 && mount.options.split(',').any(|option| option == controller.word())
        };
        if let (Some(mount), Some(path)) = (mounted.iter().find(is), own_path(own, controller.word())) {
            let folder = mount.folder(path);
            all.push(GroupPlace { folder, version: Version::V1, controllers: vec![controller] });
        }
    }
    all
}

/// A line of mountinfo that is about groups.
struct Mounted<'a> {
    version: Version,
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Mounted<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let mut system = system.split(' ');
        let version = match system.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Mounted { version, root, point, options: system.nth(1)? })
    }

    /// The folder of a group; the mount's own where the group lies outside of what is mounted.
    fn folder(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(self.root).ok();
        let below = below.filter(|below| !below.as_os_str().is_empty() && below.components().all(is_plain));
        let folder = below.map_or_else(|| PathBuf::from(self.point), |below| Path::new(self.point).join(below));
        if folder.is_dir() { folder } else { PathBuf::from(self.point) }
    }
}

fn is_plain(part: std::path::Component<'_>) -> bool {
    matches!(part, std::path::Component::Normal(_))
}

/// Our own group in the tree of a controller; the empty word means version 2.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|word| word == controller).then_some(path)
    })
}

/// Which of the wanted controllers a group made there has, after it was really entered; `None` where it has none.
fn tried(place: &GroupPlace, wanted: &[Controller]) -> Option<Vec<Controller>> {
    let wanted: Vec<Controller> = place.controllers.iter().copied().filter(|has| wanted.contains(has)).collect();
    if wanted.is_empty() {
        return None;
    }
    let folder = Folder::make(place).ok()?;
    let has = |folder: &Folder| -> Vec<Controller> {
        let bound = |controller: &Controller| folder.path.join(controller.bound_file(place.version)).exists();
        wanted.iter().copied().filter(bound).collect()
    };
    let mut there = has(&folder);
    if there.is_empty() && place.version == Version::V2 {
        // Allowed where no process lives in the parent itself; else the kernel says `EBUSY`, and we look further up.
        for controller in &wanted {
            let switch = format!("+{}", controller.word());
            let _ = fs::write(place.folder.join("cgroup.subtree_control"), switch);
        }
        there = has(&folder);
    }
    let bounds = there.iter().all(|&controller| folder.set(controller, TRIAL_BOUND).is_ok());
    (!there.is_empty() && bounds && can_enter(&folder)).then_some(there)
}

/// Whether a process of ours gets in: files can be writable and the move refused all the same.
fn can_enter(folder: &Folder) -> bool {
    match clone(0) {
        Ok(Cloned::Child) => {
            let entered = io::write(&folder.entrance, b"0").is_ok();
            crate::launch::exit_now(i32::from(!entered));
        }
        Ok(Cloned::Parent(pid, _)) => {
            let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0))
        }
        Err(_) => false,
    }
}

/// Removes groups whose supervisor is dead, and counts them. The kernel refuses for those that still hold a process.
fn sweep(place: &Path) -> usize {
    let Ok(entries) = fs::read_dir(place) else { return 0 };
    let mut swept = 0;
    let namespace = pid_namespace();
    let lives = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
    for entry in entries.flatten() {
        // Counted from when the kernel made the inode, which it may do again later: a group is never younger than this.
        let age = || entry.metadata().and_then(|folder| folder.modified()).ok()?.elapsed().ok();
        if entry.file_name().to_str().is_some_and(|name| is_abandoned(name, namespace, lives, age)) {
            swept += usize::from(fs::remove_dir(entry.path()).is_ok());
        }
    }
    swept
}

/// Whether nobody is going to enter a group of this name, if it is empty. Whether a supervisor of another pid namespace lives
/// (another container's), nobody can know here: its group may be empty only because it is new, and is entered a moment later.
fn is_abandoned(
    name: &str,
    namespace: u64,
    lives: impl Fn(u32) -> bool,
    age: impl FnOnce() -> Option<Duration>,
) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().splitn(3, '-');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (Some(of), Some(pid), Some(_)) = (number(), number(), number()) else { return false };
    match u32::try_from(pid) {
        Ok(pid) if of == namespace => !lives(pid),
        _ => age().is_some_and(|age| age >= FOREIGN_AGE_MIN),
    }
}

/// Which pid namespace the calling process is in; 0 where the kernel does not say. Source: namespaces(7).
fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

/// One job's groups: one folder for version 2, one a controller for version 1. Dropping it removes them.
#[derive(Debug)]
pub struct Group {
    folders: Vec<Folder>,
}

/// One folder, removed when dropped.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    version: Version,
    /// What it bounds for this job.
    controllers: Vec<Controller>,
    /// Writing `0` to it moves the writing process in.
    entrance: OwnedFd,
}

impl Group {
    /// Makes the groups that `limits` need; none where no limit needs one.
    ///
    /// # Errors
    /// The kernel's: somebody else has changed what [`find`] had found.
    pub fn make(limits: &Limits) -> io::Result<Group> {
        let mut folders = Vec::new();
        for place in &limits.groups {
            let wanted = place.controllers.iter().copied().filter_map(|controller| {
                let bound = match controller {
                    Controller::Memory => limits.memory_bytes,
                    Controller::Processes => {
                        limits.processes.map(|count| count.saturating_add(OWN_PROCESSES).min(PROCESSES_MAX))
                    }
                    Controller::Cpu => limits.cpu.map(quota),
                };
                Some((controller, bound?))
            });
            let wanted: Vec<(Controller, u64)> = wanted.collect();
            if wanted.is_empty() {
                continue;
            }
            let mut folder = Folder::make(place)?;
            for (controller, bound) in wanted {
                folder.set(controller, bound)?;
                folder.controllers.push(controller);
            }
            folders.push(folder);
        }
        Ok(Group { folders })
    }

    /// Where its folders are, for [`Group::known`] in another process.
    pub fn places(&self) -> Vec<GroupPlace> {
        let place = |folder: &Folder| GroupPlace {
            folder: folder.path.clone(),
            version: folder.version,
            controllers: folder.controllers.clone(),
        };
        self.folders.iter().map(place).collect()
    }

    /// The groups at these places, which somebody else has made and bounded. Dropping it removes them all the same.
    ///
    /// # Errors
    /// The kernel's; the launch is refused.
    pub fn known(places: Vec<GroupPlace>) -> io::Result<Group> {
        let folder = |place: GroupPlace| {
            let entrance = open_entrance(&place.folder, place.version)?;
            Ok(Folder { path: place.folder, version: place.version, controllers: place.controllers, entrance })
        };
        Ok(Group { folders: places.into_iter().map(folder).collect::<io::Result<_>>()? })
    }

    /// Moves the calling process in, and with it all that it will start.
    ///
    /// # Errors
    /// The kernel's; the launch is refused.
    pub fn enter(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| io::write(&folder.entrance, b"0").map(drop))
    }

    /// From now on nothing in it can fork, where it bounds processes: the job is being ended.
    pub fn forbid_forks(&self) {
        if let Some(folder) = self.folder(Controller::Processes) {
            // Where that fails, ending it takes longer.
            let _ = folder.set(Controller::Processes, 0);
        }
    }

    /// How many processes the kernel killed because the group was out of memory.
    pub fn killed_for_memory(&self) -> u64 {
        let file = |version| if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        self.counter(Controller::Memory, file, "oom_kill")
    }

    /// How many times the kernel refused a new process or thread because the group had as many as it may. What was refused behind
    /// [`Group::forbid_forks`] breaks no limit, and cannot be told from what was refused before.
    pub fn refused_processes(&self) -> u64 {
        let Some(folder) = self.folder(Controller::Processes) else { return 0 };
        let number = |file: &str| fs::read_to_string(folder.path.join(file)).ok()?.trim().parse::<u64>().ok();
        let refused = self.counter(Controller::Processes, |_| "pids.events", "max");
        own_refusals(refused, number("pids.max"), number("pids.peak"))
    }

    /// Whether a group around the one that counts processes has as many as it may: forks in this one fail, too, and it has not
    /// reached its own limit.
    pub fn is_crowded_from_above(&self) -> bool {
        let Some(folder) = self.folder(Controller::Processes) else { return false };
        let number = |above: &Path, file: &str| fs::read_to_string(above.join(file)).ok()?.trim().parse::<u64>().ok();
        let is_full = |above: &Path| {
            number(above, "pids.max").is_some_and(|max| number(above, "pids.current").is_some_and(|now| now >= max))
        };
        folder.path.ancestors().skip(1).take_while(|above| above.join("pids.max").exists()).any(is_full)
    }

    fn folder(&self, controller: Controller) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.controllers.contains(&controller))
    }

    fn counter(&self, controller: Controller, file: impl Fn(Version) -> &'static str, key: &str) -> u64 {
        let Some(folder) = self.folder(controller) else { return 0 };
        let text = fs::read_to_string(folder.path.join(file(folder.version))).unwrap_or_default();
        field(&text, key)
    }
}

/// How many of the refused processes were refused for the sake of a group's own limit. Cgroup v1, and v2 before Linux 6.11, count at the
/// group that forks what any group around it refuses; a group that never had as many as it may has refused nothing itself. `bound` is
/// `None` for `max`, `peak` on a kernel that does not remember (before 6.1). Source: cgroup-v2.rst, `pids.events`, `pids.peak`.
fn own_refusals(refused: u64, bound: Option<u64>, peak: Option<u64>) -> u64 {
    match (bound, peak) {
        (None | Some(0), _) => 0,
        (Some(bound), Some(peak)) if peak < bound => 0,
        (Some(_), _) => refused,
    }
}

/// The number after a word at the start of a line; 0 where there is none.
fn field(text: &str, key: &str) -> u64 {
    let number = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok());
    number.unwrap_or(0)
}

/// Microseconds of processor time in each period.
fn quota(processors: f64) -> u64 {
    // Saturates: a plan's number is checked to be from 0 to 4096.
    ((processors * CPU_PERIOD_US as f64) as u64).max(CPU_QUOTA_US_MIN)
}

fn open_entrance(folder: &Path, version: Version) -> io::Result<OwnedFd> {
    let file = folder.join(if version == Version::V2 { "cgroup.procs" } else { "tasks" });
    openat(CWD, &file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

impl Folder {
    fn make(place: &GroupPlace) -> io::Result<Folder> {
        let (namespace, pid) = (pid_namespace(), std::process::id());
        for number in 0..NAMES_MAX {
            let path = place.folder.join(format!("{PREFIX}{namespace}-{pid}-{number}"));
            match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            let entrance = match open_entrance(&path, place.version) {
                Ok(entrance) => entrance,
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            };
            return Ok(Folder { path, version: place.version, controllers: Vec::new(), entrance });
        }
        Err(Errno::EXIST)
    }

    fn set(&self, controller: Controller, bound: u64) -> io::Result<()> {
        let put = |file: &str, text: String| {
            let file = openat(CWD, self.path.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            io::write(&file, text.as_bytes()).map(drop)
        };
        let file = controller.bound_file(self.version);
        match (controller, self.version) {
            (Controller::Memory, Version::V2) => {
                put(file, bound.to_string())?;
                // Missing where the machine has no swap; one out-of-memory kill ends the whole job (since 4.19).
                let _ = put("memory.swap.max", "0".to_owned());
                put("memory.oom.group", "1".to_owned())
            }
            (Controller::Memory, Version::V1) => {
                put(file, bound.to_string())?;
                // Memory and swap together; missing where swap is not counted.
                let _ = put("memory.memsw.limit_in_bytes", bound.to_string());
                // Buffers of sockets are counted by themselves, and only where they are bounded. Missing where the kernel has none.
                match put("memory.kmem.tcp.limit_in_bytes", (bound / SOCKETS_PART).max(SOCKETS_BYTES_MIN).to_string()) {
                    Err(Errno::NOENT) => Ok(()),
                    put => put,
                }
            }
            (Controller::Processes, _) => put(file, bound.to_string()),
            (Controller::Cpu, Version::V2) => put(file, format!("{bound} {CPU_PERIOD_US}")),
            (Controller::Cpu, Version::V1) => {
                put("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                put(file, bound.to_string())
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What still holds a process stays, and is swept by a later run.
        let _ = fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:22 / /sys rw - sysfs sysfs rw
29 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs ro,mode=755
30 29 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
31 29 0:28 /docker/7 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 29 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct";
    const OWN: &str = "12:memory:/docker/7/x\n4:cpu,cpuacct:/a\n1:name=systemd:/\n0::/user/app\n";

    fn folders(mounts: &str, own: &str) -> Vec<(String, Version)> {
        candidates(mounts, own).into_iter().map(|at| (at.folder.display().to_string(), at.version)).collect()
    }

    #[test]
    fn places_of_both_versions_are_read_from_the_mounts() {
        // Those folders do not exist on this machine, so the mount itself is the place.
        assert_eq!(
            folders(MOUNTS, OWN),
            [
                ("/sys/fs/cgroup/unified".to_owned(), Version::V2),
                ("/sys/fs/cgroup/memory".to_owned(), Version::V1),
                ("/sys/fs/cgroup/cpu,cpuacct".to_owned(), Version::V1),
            ]
        );
        assert_eq!(folders("", OWN), []);
        assert_eq!(folders("garbage - cgroup\n - cgroup2 x y", "0::\n::"), []);
    }

    #[test]
    fn a_delegated_tree_is_tried_from_the_own_group_upwards() {
        let dir = std::env::temp_dir().join(format!("swarm-cgroup-{}", std::process::id()));
        fs::create_dir_all(dir.join("user/app")).expect("a folder");
        let mounts = format!("30 29 0:27 / {} rw - cgroup2 cgroup2 rw", dir.display());
        let found = folders(&mounts, OWN);
        fs::remove_dir_all(&dir).expect("it was made above");
        let at = |below: &str| (format!("{}{below}", dir.display()), Version::V2);
        assert_eq!(found, [at("/user/app"), at("/user"), at("")]);
    }

    #[test]
    fn only_what_nobody_can_enter_any_more_is_abandoned() {
        let check = |name: &str, seconds: u64, expected: bool| {
            let age = || Some(Duration::from_secs(seconds));
            assert_eq!(is_abandoned(name, 7, |pid| pid == 5, age), expected, "{name} after {seconds} s");
        };
        check("swarm-7-5-0", 1_000_000, false);
        check("swarm-7-6-0", 0, true);
        // Another container's processes have numbers of their own.
        check("swarm-8-6-0", 60, false);
        check("swarm-8-6-0", 3_600, true);
        check("swarm-8-5-63", 3_600, true);
        for other in ["swarm-8", "swarm-8-6", "swarm-x-6-0", "swarm-8-6-0-x", "user.slice", ""] {
            check(other, 1_000_000, false);
        }
        assert!(!is_abandoned("swarm-8-6-0", 7, |_| false, || None));
    }

    #[test]
    fn an_old_group_of_another_namespace_is_swept() {
        let dir = std::env::temp_dir().join(format!("swarm-sweep-{}", std::process::id()));
        let (old, new) = (dir.join("swarm-1-5-0"), dir.join("swarm-1-6-0"));
        for folder in [&old, &new] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let then = std::time::SystemTime::now() - FOREIGN_AGE_MIN;
        fs::File::open(&old).and_then(|old| old.set_modified(then)).expect("it is ours");
        assert_eq!(sweep(&dir), 1);
        let left = (old.exists(), new.exists());
        fs::remove_dir_all(&dir).expect("it was made above");
        assert_eq!(left, (false, true));
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((field(text, "oom_kill"), field(text, "oom"), field(text, "none")), (2, 3, 0));
    }

    #[test]
    fn what_a_group_above_refuses_breaks_no_limit_of_ones_own() {
        assert_eq!(own_refusals(3, Some(100), Some(7)), 0, "it never had a hundred");
        assert_eq!(own_refusals(3, Some(100), Some(100)), 3);
        assert_eq!(own_refusals(3, Some(100), None), 3, "an old kernel: nobody knows");
        assert_eq!(own_refusals(3, Some(0), Some(100)), 0, "behind the end");
        assert_eq!(own_refusals(3, None, Some(100)), 0);
    }

    #[test]
    fn processors_become_a_quota_that_the_kernel_takes() {
        assert_eq!([quota(2.5), quota(0.0), quota(0.001)], [250_000, 1_000, 1_000]);
    }

    #[test]
    fn what_a_dead_supervisor_left_is_swept_and_what_a_living_one_has_is_not() {
        let Some(place) = find().into_iter().next() else {
            println!("skip: no control group can be made here");
            return;
        };
        let dead = std::process::Command::new("true").spawn().and_then(|mut child| child.wait().map(|_| child.id()));
        let of = |pid: u32| place.folder.join(format!("{PREFIX}{}-{pid}-63", pid_namespace()));
        let (dead, living) = (of(dead.expect("it ends")), of(std::process::id()));
        [&dead, &living].into_iter().for_each(|group| fs::create_dir(group).expect("a group"));
        let _ = sweep_all();
        let left = (dead.exists(), living.exists());
        [&dead, &living].into_iter().for_each(|group| drop(fs::remove_dir(group)));
        assert_eq!(left, (false, true));
    }

    #[test]
    fn what_is_found_takes_bounds_and_leaves_nothing_behind() {
        let groups = find();
        if groups.is_empty() {
            println!("skip: no control group can be made here");
            return;
        }
        let limits =
            Limits { memory_bytes: Some(64 << 20), processes: Some(9), cpu: Some(0.5), groups, ..Limits::default() };
        let group = Group::make(&limits).expect("what was found works");
        let paths: Vec<PathBuf> = group.folders.iter().map(|folder| folder.path.clone()).collect();
        assert!(paths.iter().all(|path| path.is_dir()) && !paths.is_empty());
        if let Some(folder) = group.folder(Controller::Processes) {
            assert_eq!(fs::read_to_string(folder.path.join("pids.max")).expect("a bound").trim(), "10");
        }
        assert_eq!((group.killed_for_memory(), group.refused_processes()), (0, 0));
        group.forbid_forks();
        assert_eq!(group.refused_processes(), 0);
        drop(group);
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
