//! What this machine can do, found out by doing: every answer comes from a cage that was really closed, by the same code
//! that closes it around jobs. Versions, configuration files and sysctls are not asked; they lie in containers.

use std::fs;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, statvfs};

use crate::caged::{Caged, Left};
use crate::cgroup::{self, GroupPlace};
use crate::enforcement::{Enforcement, Tier};
use crate::landlock::kernel_abi;
use crate::launch::{Last, Output, Refused, launch_until};
use crate::policy::{Draft, Limits, Network, Policy, Worktree};
use crate::status::Status;

/// Whether something works here: what it enforces, or the step that failed.
pub type Verdict = Result<Enforcement, Refused>;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The strongest cage that can be closed here: weaker ones are tried where it cannot be.
    Strongest,
    /// Which cages can be closed here, each of them.
    Each,
}

/// What this machine can do. A cage that was not asked for has no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The kernel's Landlock ABI; 0 without Landlock.
    pub landlock_abi: u32,
    /// The landlock tier.
    pub landlock: Option<Verdict>,
    /// The namespaces tier with a plain folder as worktree.
    pub namespaces: Option<Verdict>,
    /// The namespaces tier with an overlay whose layers lie in the given state folder.
    pub overlay: Option<Verdict>,
    /// Where control groups can be made; empty where nowhere.
    pub groups: Vec<GroupPlace>,
    /// Bytes of memory that all jobs together can have.
    pub memory_bytes: u64,
    /// Bytes that are free on the file system of the state folder.
    pub disk_bytes: u64,
}

/// Tries cages, in a new folder below `state` that is removed afterwards.
///
/// # Errors
/// The system's, when no folder can be made in `state`.
pub fn probe(state: &Path, question: Question) -> std::io::Result<Probe> {
    let folder = state.join(format!("probe-{}", std::process::id()));
    for name in ["lower", "upper", "work", "tree", "home", "tmp"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let folder = fs::canonicalize(folder)?;
    let groups = cgroup::find();
    let tries = [
        (Tier::Namespaces, overlay(&folder)),
        (Tier::Namespaces, directory(&folder)),
        // Heard last: with it ends every child that the calling process has then.
        (Tier::Landlock, directory(&folder)),
    ];
    let begin = |(tier, worktree)| begin(&folder, tier, worktree, &groups);
    let [overlay, namespaces, landlock] = all_or_none(match question {
        // All of them are closed at the same time.
        Question::Each => tries.map(begin).map(|attempt| Some(attempt.and_then(Attempt::hear))),
        Question::Strongest => until_one_works(tries.map(|try_| move || begin(try_).and_then(Attempt::hear))),
    });
    let probe = Probe {
        landlock_abi: kernel_abi(),
        landlock,
        namespaces,
        overlay,
        memory_bytes: memory_bytes(&groups),
        disk_bytes: statvfs(&folder).map_or(0, |system| system.f_bavail.saturating_mul(system.f_frsize)),
        groups,
    };
    remove(&folder)?;
    Ok(probe)
}

/// One after the other, the strongest first.
fn until_one_works(tries: [impl FnOnce() -> Verdict; 3]) -> [Option<Verdict>; 3] {
    let mut works = false;
    tries.map(|attempt| {
        let verdict = (!works).then(attempt);
        works = works || matches!(verdict, Some(Ok(_)));
        verdict
    })
}

/// A cage that could not be tried for want of processes is not one that this machine does not have: then nothing is known of
/// it, and nobody takes a weaker one instead.
fn all_or_none(tried: [Option<Verdict>; 3]) -> [Option<Verdict>; 3] {
    let lacks = |verdict: &&Verdict| verdict.as_ref().is_err_and(Refused::lacks_processes);
    match tried.iter().flatten().find(lacks).cloned() {
        Some(untried) => [(); 3].map(|()| Some(untried.clone())),
        None => tried,
    }
}

fn directory(folder: &Path) -> Worktree {
    Worktree::Directory { at: folder.join("tree"), path: folder.join("tree") }
}

fn overlay(folder: &Path) -> Worktree {
    Worktree::Overlay {
        at: folder.join("tree"),
        state: folder.to_owned(),
        lowers: vec!["lower".to_owned()],
        upper: "upper".to_owned(),
        work: "work".to_owned(),
    }
}

/// A cage that is being closed.
struct Attempt {
    policy: Policy,
    caged: Caged,
}

fn begin(folder: &Path, tier: Tier, worktree: Worktree, groups: &[GroupPlace]) -> Result<Attempt, Refused> {
    let draft = Draft {
        tier,
        worktree,
        grants: Vec::new(),
        copies: Vec::new(),
        hide: Vec::new(),
        home: folder.join("home"),
        home_files: Vec::new(),
        tmp: (tier == Tier::Landlock).then(|| folder.join("tmp")),
        network: Network::None,
        limits: generous(groups),
        landlock_abi_max: None,
    };
    let policy = draft.check().map_err(|error| refused("policy", error))?;
    let null = || open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let output = null().and_then(|stdout| Ok(Output { stdout, stderr: null()?, door: None, network: None }));
    let output = output.map_err(|error| refused("open /dev/null", error))?;
    let caged = launch_until(&policy, Last::Exit, output)?;
    Ok(Attempt { policy, caged })
}

impl Attempt {
    /// What became of it.
    fn hear(mut self) -> Verdict {
        let mut verdict = Err(refused("launch", "the first process ended without a word"));
        while let Ok(words) = self.caged.read() {
            for word in words {
                match word {
                    Status::Ready { landlock_abi, metadata } => {
                        verdict = Ok(Enforcement::of(&self.policy, landlock_abi, metadata));
                    }
                    Status::Refused(refused) => verdict = Err(refused),
                    Status::StartFailed { .. }
                    | Status::Limit { .. }
                    | Status::NotRunnable { .. }
                    | Status::Ended { .. } => {}
                }
            }
        }
        match self.caged.reap().map_err(|error| refused("reap", error))?.left {
            Left::Nothing => verdict,
            Left::MayRun => Err(refused("reap", "the first process could not be ended")),
        }
    }
}

/// The machine's memory, or what our own control group leaves of it.
fn memory_bytes(groups: &[GroupPlace]) -> u64 {
    let system = rustix::system::sysinfo();
    let machine = u64::from(system.mem_unit).saturating_mul(system.totalram as u64);
    cgroup::memory_room(groups).map_or(machine, |room| room.min(machine))
}

/// Every limit there is, so that the means of each is tried; none is reached.
fn generous(groups: &[GroupPlace]) -> Limits {
    Limits {
        memory_bytes: Some(1 << 30),
        processes: Some(1 << 10),
        open_files: Some(1 << 10),
        open_files_at_first: None,
        disk_bytes: Some(1 << 30),
        files: Some(1 << 20),
        cpu: Some(1.0),
        data_bytes: None,
        groups: groups.to_vec(),
    }
}

fn refused(step: &str, reason: impl ToString) -> Refused {
    Refused::new(step, reason)
}

/// An overlay leaves folders without permissions in its scratch folder, which their owner may change and remove.
fn remove(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for scratch in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
        match fs::set_permissions(folder.join(scratch), fs::Permissions::from_mode(0o700)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            other => other?,
        }
    }
    fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cage_that_could_not_be_tried_is_not_replaced_by_a_weaker_one() {
        let lacking = Refused::by_kernel("fork", rustix::io::Errno::AGAIN);
        let forbidden = Refused::by_kernel("fork", rustix::io::Errno::PERM);
        let check = |tried: [Option<Verdict>; 3], known: [Option<Verdict>; 3]| assert_eq!(all_or_none(tried), known);
        let [lacking, forbidden] = [Some(Err(lacking)), Some(Err(forbidden))];
        let weaker = [forbidden.clone(), forbidden, works()];
        check(weaker.clone(), weaker);
        check([works(), lacking.clone(), works()], [(); 3].map(|()| lacking.clone()));
        check([lacking.clone(), works(), None], [(); 3].map(|()| lacking.clone()));
    }

    #[test]
    fn what_is_weaker_than_one_that_works_is_not_tried() {
        let tried = std::cell::RefCell::new(Vec::new());
        let attempt = |name: &'static str, verdict: Verdict| {
            let tried = &tried;
            move || {
                tried.borrow_mut().push(name);
                verdict
            }
        };
        let forbidden = || Err(Refused::by_kernel("clone", rustix::io::Errno::PERM));
        let works = works().expect("it has a verdict");
        let verdicts =
            until_one_works([attempt("a", forbidden()), attempt("b", works.clone()), attempt("c", works.clone())]);
        assert_eq!(verdicts, [Some(forbidden()), Some(works), None]);
        assert_eq!(*tried.borrow(), ["a", "b"]);
    }

    fn works() -> Option<Verdict> {
        Some(Ok(Enforcement {
            tier: Tier::Landlock,
            landlock_abi: 1,
            enforced: vec![],
            not_enforced: vec![],
            limits: vec![],
        }))
    }
}
