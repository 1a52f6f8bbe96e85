//! Would this policy allow that access? The same [`Policy`] that the kernel is given, answered without a kernel.
//!
//! Comes in: a policy and a path as the job would name it. Goes out: a [`Decision`] with the [`Rule`] that decides and, where
//! a policy could say otherwise, the [`Wish`] that would. Nothing is opened: a path is judged by its text, so the caller
//! follows links first ([`crate::reach()`]), and what does not exist is judged as if it did. Modes and owners of files are not looked at.
//!
//! Two tiers decide by two rules. In the namespaces tier the *innermost* mount around a path decides, hidden paths before
//! all mounts. In the landlock tier rules *add up* from the path to the root, and a hidden path is one around which nothing was
//! granted. The tests of the worker ask a real kernel and this file the same questions.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::enforcement::Tier;
use crate::policy::{Access, Draft, Network, Policy};
use crate::root::{DEVICES, ETC_ENTRIES, ETC_NETWORK_ENTRIES, KERNEL_KEYS, SYSTEM_FOLDERS};

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The job may.
    Allowed {
        /// Because of this.
        rule: Rule,
    },
    /// The job may not.
    Refused {
        /// Because of this.
        rule: Rule,
        /// What a policy would have to say; `None` where none can.
        wish: Option<Wish>,
    },
}

impl Decision {
    /// Whether the job may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

/// What decides about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// It lies in the worktree.
    Worktree,
    /// It lies in the private home folder.
    Home,
    /// It lies in a private folder for temporary files.
    Temporary,
    /// It lies in a granted path.
    Granted(PathBuf, Access),
    /// It lies in a folder that is seen copy-on-write.
    CopyOnWrite(PathBuf),
    /// It lies in what every job sees of the system, read-only.
    System(PathBuf),
    /// It is one of the harmless device files, or a terminal of the job's own.
    Device,
    /// It is a folder on the way to something that is shown: it can be listed, and holds nothing else.
    OnTheWay,
    /// It is hidden.
    Hidden(PathBuf),
    /// It is a folder that holds a hidden path, which the landlock tier cannot show without showing that.
    HoldsHidden(PathBuf),
    /// Nothing shows it.
    NotShown,
    /// It is not an absolute, plain path.
    NotPlain,
    /// It lets one look into another process.
    OtherProcess,
    /// The kernel shows it to nobody without privileges, which no job has.
    Privileged,
}

/// What a policy would have to say for a refused access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// One more grant.
    Grant(PathBuf, Access),
    /// One hidden path less.
    Unhide(PathBuf),
}

impl Rule {
    /// Whether the job has a folder of its own there. In the namespaces tier nothing of the host's is in it.
    pub fn is_private(&self) -> bool {
        matches!(self, Rule::Home | Rule::Temporary)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Worktree => f.write_str("it lies in the worktree"),
            Rule::Home => f.write_str("it lies in the private home folder"),
            Rule::Temporary => f.write_str("it lies in a private folder for temporary files"),
            Rule::Granted(at, Access::Read) => write!(f, "{} may be read, not written", at.display()),
            Rule::Granted(at, Access::Write) => write!(f, "{} may be written", at.display()),
            Rule::CopyOnWrite(at) => write!(f, "{} is seen copy-on-write", at.display()),
            Rule::System(at) => write!(f, "{} belongs to the system, which every task sees read-only", at.display()),
            Rule::Device => f.write_str("it is a device file that every task has"),
            Rule::OnTheWay => f.write_str("it is a folder on the way to what is shown, and can only be listed"),
            Rule::Hidden(at) => write!(f, "{} is hidden", at.display()),
            Rule::HoldsHidden(at) => write!(f, "it cannot be listed, because {} in it is hidden", at.display()),
            Rule::NotShown => f.write_str("nothing shows it"),
            Rule::OtherProcess => {
                f.write_str("it shows what is inside of another process, which no task may look into")
            }
            Rule::Privileged => f.write_str("the kernel shows it to nobody without privileges, which no task has"),
            Rule::NotPlain => f.write_str("it is not an absolute path without `.` and `..`"),
        }
    }
}

/// Whether a job of `policy` may access `path`: absolute, plain, without symlinks, as the job names it.
pub fn evaluate(policy: &Policy, path: &Path, access: Access) -> Decision {
    let draft = policy.get();
    if crate::policy::plain("a path", path).is_err() && path != Path::new("/") {
        return Decision::Refused { rule: Rule::NotPlain, wish: None };
    }
    if is_of_another_process(draft.tier, path) {
        return Decision::Refused { rule: Rule::OtherProcess, wish: None };
    }
    if is_privileged(draft.tier, path) {
        return Decision::Refused { rule: Rule::Privileged, wish: None };
    }
    match draft.tier {
        Tier::Namespaces => by_mounts(draft, path, access),
        Tier::Landlock => by_rules(draft, path, access),
    }
}

/// A tree that is shown, and why.
struct Place {
    at: PathBuf,
    access: Access,
    rule: Rule,
}

impl Place {
    fn new(at: impl Into<PathBuf>, access: Access, rule: Rule) -> Self {
        Place { at: at.into(), access, rule }
    }
}

/// What every job sees of the system, in both tiers.
fn system(draft: &Draft) -> Vec<Place> {
    let network = ETC_NETWORK_ENTRIES.iter().filter(|_| draft.network == Network::Host);
    let etc = ETC_ENTRIES.iter().chain(network).map(|name| Path::new("/etc").join(name));
    let folders = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let all = folders.chain(etc).chain([PathBuf::from("/proc")]);
    let mut places: Vec<Place> = all.map(|at| Place::new(at.clone(), Access::Read, Rule::System(at))).collect();
    let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    places.extend(devices.map(|at| Place::new(at, Access::Write, Rule::Device)));
    // What the job has open already is its own.
    places.extend(DESCRIPTORS.iter().map(|at| Place::new(at, Access::Write, Rule::Device)));
    places
}

/// Names for what the job has open. Landlock judged it when it was opened.
const DESCRIPTORS: &[&str] =
    &["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/self/fd", "/proc/thread-self/fd"];

/// Entries of a process in `/proc` that only those may read who may trace it. Source: proc(5).
const TRACED: &[&str] = &[
    "auxv",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "io",
    "map_files",
    "maps",
    "mem",
    "numa_maps",
    "pagemap",
    "personality",
    "root",
    "smaps",
    "smaps_rollup",
    "syscall",
    "timers",
    "timerslack_ns",
];

/// Entries of any process in `/proc`, one's own too, that cannot be read without privileges, or can only be written. Source: proc(5).
const PRIVILEGED_OF_A_PROCESS: &[&str] = &["stack", "clear_refs"];
/// Such entries of `/proc` itself.
const PRIVILEGED: &[&str] =
    &["/proc/kmsg", "/proc/kcore", "/proc/sysrq-trigger", "/proc/sys/vm/compact_memory", "/proc/sys/vm/drop_caches"];

/// The process that a path in `/proc` leads into, by its number or `self`, the entry of it or of one of its threads, and whether that is
/// all of the path.
fn of_a_process(path: &Path) -> Option<(&str, &str, bool)> {
    let mut names = path.strip_prefix("/proc").ok()?.iter().map(|name| name.to_str().unwrap_or_default());
    let (process, first) = (names.next()?, names.next()?);
    let is_process = process == "self" || process == "thread-self" || process.bytes().all(|byte| byte.is_ascii_digit());
    // Each of its threads has most of what it has.
    let entry = if first == "task" { names.nth(1)? } else { first };
    is_process.then(|| (process, entry, names.next().is_none()))
}

fn is_privileged(tier: Tier, path: &Path) -> bool {
    let hidden = if tier == Tier::Namespaces { KERNEL_KEYS } else { &[] };
    PRIVILEGED.iter().chain(hidden).any(|entry| path == Path::new(entry))
        || of_a_process(path).is_some_and(|(_, entry, _)| PRIVILEGED_OF_A_PROCESS.contains(&entry))
}

/// Whether a path leads into a process that is none of the job's: in the landlock tier numbers are the host's, and in a cage
/// with processes of its own the first is the cage's.
fn is_of_another_process(tier: Tier, path: &Path) -> bool {
    let Some((process, entry, is_all)) = of_a_process(path) else { return false };
    let is_another = match tier {
        Tier::Landlock => process.bytes().all(|byte| byte.is_ascii_digit()),
        Tier::Namespaces => process == "1",
    };
    // Which numbers are open may be listed by its owner, who is root where nobody may trace it; what they stand for is traced.
    let is_listed = entry == "fd" && is_all && rustix::process::geteuid().is_root();
    is_another && TRACED.contains(&entry) && !is_listed
}

/// What the policy itself shows, in the order in which trees of the same depth are mounted.
fn own(draft: &Draft) -> Vec<Place> {
    let mut places = vec![Place::new(&draft.home, Access::Write, Rule::Home)];
    places.extend(draft.tmp.iter().map(|tmp| Place::new(tmp, Access::Write, Rule::Temporary)));
    places.push(Place::new(draft.worktree.at(), Access::Write, Rule::Worktree));
    let granted = |at: &PathBuf, access| Place::new(at, access, Rule::Granted(at.clone(), access));
    places.extend(draft.grants.iter().map(|grant| granted(&grant.at, grant.access)));
    let copies = draft.copies.iter().flat_map(|copy| copy.places());
    places.extend(copies.map(|at| Place::new(&at, Access::Write, Rule::CopyOnWrite(at.clone()))));
    places
}

fn by_mounts(draft: &Draft, path: &Path, access: Access) -> Decision {
    if let Some(hidden) = draft.hide.iter().find(|hidden| path.starts_with(hidden)) {
        return Decision::Refused { rule: Rule::Hidden(hidden.clone()), wish: Some(Wish::Unhide(hidden.clone())) };
    }
    let mut places = system(draft);
    // A `/tmp` is always there; Landlock lets it be written where it is the job's own folder for temporary files.
    let tmp = if draft.tmp.is_none() { Access::Write } else { Access::Read };
    places.push(Place::new("/tmp", tmp, Rule::Temporary));
    places.extend(draft.tmp_beside().map(|beside| Place::new(beside, Access::Write, Rule::Temporary)));
    if !draft.network.is_host() {
        places.push(Place::new("/etc/hosts", Access::Read, Rule::System("/etc/hosts".into())));
    }
    for device in ["/dev/pts", "/dev/ptmx"] {
        places.push(Place::new(device, Access::Write, Rule::Device));
    }
    places.push(Place::new("/dev/shm", Access::Write, Rule::Temporary));
    let own = own(draft);
    // A link to `/tmp`, unless something is mounted in it.
    if !own.iter().any(|place| place.at.starts_with("/var/tmp")) {
        places.push(Place::new("/var/tmp", tmp, Rule::Temporary));
    }
    places.extend(own);
    // The last of the deepest: mounted later, it covers the others. `max_by_key` gives the last of equals.
    let around = places.iter().filter(|place| path.starts_with(&place.at));
    match around.max_by_key(|place| place.at.components().count()) {
        Some(place) => judge(place, path, access),
        None if path == Path::new("/run") || places.iter().any(|place| place.at.starts_with(path)) => match access {
            Access::Read => Decision::Allowed { rule: Rule::OnTheWay },
            Access::Write => Decision::Refused { rule: Rule::OnTheWay, wish: grant(path, access) },
        },
        None => Decision::Refused { rule: Rule::NotShown, wish: grant(path, access) },
    }
}

fn by_rules(draft: &Draft, path: &Path, access: Access) -> Decision {
    let places: Vec<Place> = system(draft).into_iter().chain(own(draft)).collect();
    let around: Vec<&Place> = places.iter().filter(|place| path.starts_with(&place.at)).collect();
    // What may be written may be read, and nothing hides it: the policy's check refuses hidden paths in writable folders.
    let depth = |place: &&&Place| place.at.components().count();
    if let Some(place) = around.iter().filter(|place| place.access == Access::Write).max_by_key(depth) {
        return Decision::Allowed { rule: place.rule.clone() };
    }
    let Some(nearest) = around.iter().max_by_key(depth) else {
        return Decision::Refused { rule: Rule::NotShown, wish: grant(path, access) };
    };
    for hidden in &draft.hide {
        let rule = match (path.starts_with(hidden), hidden.starts_with(path)) {
            (true, _) => Rule::Hidden(hidden.clone()),
            (false, true) if access == Access::Read => Rule::HoldsHidden(hidden.clone()),
            (false, _) => continue,
        };
        return Decision::Refused { rule, wish: Some(Wish::Unhide(hidden.clone())) };
    }
    judge(nearest, path, access)
}

fn judge(place: &Place, path: &Path, access: Access) -> Decision {
    let rule = place.rule.clone();
    match (place.access, access) {
        (Access::Write, _) | (Access::Read, Access::Read) => Decision::Allowed { rule },
        (Access::Read, Access::Write) => {
            let wish = if matches!(rule, Rule::System(_)) { None } else { grant(path, access) };
            Decision::Refused { rule, wish }
        }
    }
}

/// What could be asked for; what belongs to the kernel and the root folder cannot.
fn grant(path: &Path, access: Access) -> Option<Wish> {
    let granted = crate::policy::grantable(path, access);
    granted.then(|| Wish::Grant(path.to_owned(), access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CopyOnWrite, Limits, PathGrant, Worktree};

    fn policy(tier: Tier) -> Policy {
        let grant = |path: &str, access| PathGrant { path: path.into(), at: path.into(), access };
        let worktree = match tier {
            Tier::Namespaces => Worktree::Overlay {
                at: "/home/u/repo".into(),
                state: "/home/u/state".into(),
                lowers: vec!["lower".to_owned()],
                upper: "upper".to_owned(),
                work: "work".to_owned(),
            },
            Tier::Landlock => Worktree::Directory { at: "/home/u/repo".into(), path: "/home/u/repo".into() },
        };
        let copy = CopyOnWrite {
            path: "/home/u".into(),
            at: "/home/u".into(),
            shown: vec![".npm".into()],
            upper: "up".to_owned(),
            work: "wo".to_owned(),
        };
        Draft {
            tier,
            worktree,
            grants: vec![
                grant("/opt/tool", Access::Read),
                grant("/data/out", Access::Write),
                grant("/data", Access::Read),
            ],
            copies: if tier == Tier::Namespaces { vec![copy] } else { vec![] },
            hide: vec!["/opt/tool/secret".into()],
            home: "/home/u".into(),
            home_files: Vec::new(),
            tmp: (tier == Tier::Landlock).then(|| "/home/state/tmp".into()),
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        }
        .check()
        .expect("a fine policy")
    }

    fn check(tier: Tier, path: &str, access: Access, expected: &str) {
        let text = match evaluate(&policy(tier), Path::new(path), access) {
            Decision::Allowed { rule } => format!("yes: {rule}"),
            Decision::Refused { rule, wish: None } => format!("never: {rule}"),
            Decision::Refused { rule, wish: Some(Wish::Unhide(_)) } => format!("unhide: {rule}"),
            Decision::Refused { rule, wish: Some(Wish::Grant(_, access)) } => format!("{access:?}: {rule}"),
        };
        assert!(text.starts_with(expected), "{tier} {path} {access:?}: {text:?}");
    }

    #[test]
    fn both_tiers_decide_by_what_lies_around_a_path() {
        for tier in [Tier::Namespaces, Tier::Landlock] {
            for (path, access, expected) in [
                ("/home/u/repo/src/a.rs", Access::Write, "yes: it lies in the worktree"),
                ("/home/u/.ssh/id_rsa", Access::Read, "yes: it lies in the private home folder"),
                ("/opt/tool/bin/x", Access::Read, "yes: /opt/tool may be read"),
                ("/opt/tool/bin/x", Access::Write, "Write: /opt/tool may be read, not written"),
                ("/opt/tool/secret/key", Access::Read, "unhide: /opt/tool/secret is hidden"),
                ("/opt/toolbox", Access::Read, "Read: nothing shows it"),
                ("/data/in", Access::Write, "Write: /data may be read"),
                ("/data/out/x", Access::Write, "yes: /data/out may be written"),
                ("/usr/bin/env", Access::Read, "yes: /usr belongs to the system"),
                ("/usr/bin/env", Access::Write, "never: /usr belongs to the system"),
                ("/etc/passwd", Access::Read, "yes"),
                ("/etc/shadow", Access::Read, "Read: nothing shows it"),
                ("/etc/shadow", Access::Write, "never: nothing shows it"),
                ("/proc/self/oom_score_adj", Access::Write, "never"),
                ("/sys/fs/cgroup", Access::Read, "never: nothing shows it"),
                ("/dev/stdout", Access::Write, "yes"),
                ("/dev/fd", Access::Read, "yes"),
                ("/proc/1/environ", Access::Read, "never: it shows what is inside of another process"),
                ("/proc/1/status", Access::Read, "yes"),
                ("/proc/1/task/1/environ", Access::Read, "never: it shows what is inside of another process"),
                ("/proc/1/task/1/root/etc", Access::Read, "never: it shows what is inside of another process"),
                ("/proc/1/task/1/status", Access::Read, "yes"),
                ("/proc/1/task", Access::Read, "yes"),
                ("/proc/1/timers", Access::Read, "never: it shows what is inside of another process"),
                ("/proc/1/fdinfo", Access::Read, "never: it shows what is inside of another process"),
                ("/proc/self/timers", Access::Read, "yes"),
                ("/proc/self/stack", Access::Read, "never: the kernel shows it to nobody without privileges"),
                ("/proc/1/task/1/stack", Access::Read, "never: the kernel shows it to nobody without privileges"),
                ("/proc/self/clear_refs", Access::Read, "never: the kernel shows it to nobody without privileges"),
                ("/proc/kmsg", Access::Read, "never: the kernel shows it to nobody without privileges"),
                ("/dev/null", Access::Write, "yes: it is a device file"),
                ("/dev/kmsg", Access::Read, "never: nothing shows it"),
                ("../x", Access::Read, "never: it is not an absolute path"),
            ] {
                check(tier, path, access, expected);
            }
        }
    }

    #[test]
    fn where_the_tiers_differ() {
        for (path, access, mounts, rules) in [
            ("/tmp/x", Access::Write, "yes: it lies in a private folder", "Write: nothing shows it"),
            ("/var/tmp/x", Access::Write, "yes", "Write: nothing shows it"),
            ("/home", Access::Read, "yes: it is a folder on the way", "Read: nothing shows it"),
            ("/", Access::Read, "yes: it is a folder on the way", "never: nothing shows it"),
            ("/opt/tool", Access::Read, "yes", "unhide: it cannot be listed, because /opt/tool/secret in it"),
            ("/home/u/.npm/x", Access::Write, "yes: /home/u/.npm is seen copy-on-write", "yes: it lies in the private"),
        ] {
            check(Tier::Namespaces, path, access, mounts);
            check(Tier::Landlock, path, access, rules);
        }
    }
}
