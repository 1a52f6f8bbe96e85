//! System calls that no job makes: one filter for the whole cage, installed last.
//!
//! The table of answers is [`table`]; how it becomes a program for the kernel is [`program`]. A refused call answers
//! `EPERM`, like a call without the privilege. `ENOSYS` is the answer where programs know an older way: clone3(2) (its flags
//! lie in memory, which a filter cannot read), openat2(2) (its mode likewise) and every call that is newer than this table.
//! Calls of another architecture (`int 0x80` on x86-64) kill the process: their numbers would mean other calls.
//!
//! Why no crate: seccompiler knows one answer per filter and tests numbers one after the other. This needs three answers and
//! a range ("newer than the table"), and a search tree makes installing twice as quick: the kernel runs the program once
//! for each of its 460 calls to learn which ones are always allowed.

/// From a table of answers to a program of the kernel's packet filter machine.
pub mod program;
/// Which call gets which answer.
pub mod table;

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io;

use crate::enforcement::Tier;
use crate::limits::{Limit, Means, by};
use crate::mounts::last_error;
use crate::policy::{Draft, Network};
pub use program::Filter;

/// What the confined process is going to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// A program, which may start others.
    Program,
    /// Our own code around a WebAssembly guest: it never executes a program, forks or talks to sockets.
    Guest,
}

/// Who counts the memory of a job that may not have all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// The kernel, in a control group, or nobody has to.
    Kernel,
    /// The watchdog, which sees what processes have in their page tables.
    Watched,
}

/// Who changes modes, owners and times of files for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata {
    /// The job itself.
    Own,
    /// The [clerk](crate::clerk), whom the kernel asks.
    Asked,
}

/// What a filter depends on.
type Key = (Tier, Network, Occupant, Count, Metadata);

/// The filters of a job.
#[derive(Debug, Clone)]
pub struct Filters {
    /// In the landlock tier: with a clerk.
    asking: Option<Arc<Filter>>,
    /// The only one, or the one for a machine on which no clerk can be had.
    plain: Arc<Filter>,
}

/// The filters that were built in this process or in the one that it is a fork of.
static BUILT: Mutex<Vec<(Key, Arc<Filter>)>> = Mutex::new(Vec::new());

/// The filters of a policy, built when no earlier policy had the same.
pub fn filters(draft: &Draft, means: &[(Limit, Means)], occupant: Occupant) -> Filters {
    let watched = by(means, Limit::Memory) == Some(Means::Watchdog);
    let count = if watched { Count::Watched } else { Count::Kernel };
    let of = |metadata| built((draft.tier, draft.network, occupant, count, metadata));
    // Nobody can look into the process of a guest, so nobody could answer it; what it names, its runtime has opened.
    let asks = draft.tier == Tier::Landlock && occupant == Occupant::Program;
    Filters { asking: asks.then(|| of(Metadata::Asked)), plain: of(Metadata::Own) }
}

/// Builds the filters that programs usually get, for all processes that are forked from this one.
pub(crate) fn prepare() {
    for tier in [Tier::Landlock, Tier::Namespaces] {
        for network in [Network::None, Network::Host] {
            for count in [Count::Kernel, Count::Watched] {
                built((tier, network, Occupant::Program, count, Metadata::Own));
                if tier == Tier::Landlock {
                    built((tier, network, Occupant::Program, count, Metadata::Asked));
                }
            }
        }
    }
}

fn built(key: Key) -> Arc<Filter> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, filter)) = built.iter().find(|(known, _)| *known == key) {
        return Arc::clone(filter);
    }
    let (tier, network, occupant, count, metadata) = key;
    let filter = Arc::new(Filter::new(table::answers(tier, network, occupant, count, metadata)));
    built.push((key, Arc::clone(&filter)));
    filter
}

/// Installs a filter for the calling thread and all that it starts, for good. `no_new_privs` must be set. Gives where the kernel
/// asks, if it does: below another filter that asks somebody, as some containers have, the kernel lets nobody else be asked.
///
/// # Errors
/// The kernel's; the process must end.
pub fn install(filters: &Filters) -> io::Result<Option<OwnedFd>> {
    if let Some(asking) = filters.asking.as_ref().filter(|_| may_look_into_jobs()) {
        // Woken by nothing but what ends it: a runtime that signals its threads all the time would ask all the time. Since Linux 5.19.
        let patient = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        for flags in [patient, 0] {
            match enforce(asking, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags) {
                // SAFETY: with this flag the call gives a descriptor that is ours alone.
                Ok(listener) => return Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) })),
                Err(io::Errno::INVAL) => {}
                Err(io::Errno::BUSY) => break,
                Err(error) => return Err(error),
            }
        }
    }
    enforce(&filters.plain, 0).map(|_| None)
}

/// Whether the first process of a cage may read the memory of the job, where paths stand. Source: Documentation/admin-guide/LSM/Yama.rst:
/// above 1 only who may trace everybody does.
fn may_look_into_jobs() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(true, |scope| matches!(scope.trim(), "0" | "1"))
}

fn enforce(filter: &Filter, flags: libc::c_ulong) -> io::Result<RawFd> {
    let instructions = filter.instructions();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::Errno::TOOBIG)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel copies and does not change them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    RawFd::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(last_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_stay_short() {
        for tier in [Tier::Landlock, Tier::Namespaces] {
            let metadata = if tier == Tier::Landlock { Metadata::Asked } else { Metadata::Own };
            let filter = Filter::new(table::answers(tier, Network::None, Occupant::Program, Count::Watched, metadata));
            // Each instruction takes a sixth of a microsecond of every launch.
            assert!(filter.instructions().len() < 280, "{tier:?}: {}", filter.instructions().len());
        }
    }
}
