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

/// What a filter depends on.
type Key = (Tier, Network, Occupant, Count);

/// The filters that were built in this process or in the one that it is a fork of.
static BUILT: Mutex<Vec<(Key, Arc<Filter>)>> = Mutex::new(Vec::new());

/// The filter of a policy, built when no earlier policy had the same.
pub fn filter(draft: &Draft, means: &[(Limit, Means)], occupant: Occupant) -> Arc<Filter> {
    let watched = by(means, Limit::Memory) == Some(Means::Watchdog);
    built((draft.tier, draft.network, occupant, if watched { Count::Watched } else { Count::Kernel }))
}

/// Builds the filters that programs usually get, for all processes that are forked from this one.
pub(crate) fn prepare() {
    for tier in [Tier::Landlock, Tier::Namespaces] {
        for network in [Network::None, Network::Host] {
            for count in [Count::Kernel, Count::Watched] {
                built((tier, network, Occupant::Program, count));
            }
        }
    }
}

fn built(key: Key) -> Arc<Filter> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, filter)) = built.iter().find(|(known, _)| *known == key) {
        return Arc::clone(filter);
    }
    let (tier, network, occupant, count) = key;
    let filter = Arc::new(Filter::new(table::answers(tier, network, occupant, count)));
    built.push((key, Arc::clone(&filter)));
    filter
}

/// Installs a filter for the calling thread and all that it starts, for good. `no_new_privs` must be set.
///
/// # Errors
/// The kernel's; the process must end.
pub fn install(filter: &Filter) -> io::Result<()> {
    let instructions = filter.instructions();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::Errno::TOOBIG)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the program points to `len` instructions that outlive the call; the kernel copies and does not change them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_stay_short() {
        for tier in [Tier::Landlock, Tier::Namespaces] {
            let filter = Filter::new(table::answers(tier, Network::None, Occupant::Program, Count::Watched));
            // Each instruction takes a sixth of a microsecond of every launch.
            assert!(filter.instructions().len() < 240, "{tier:?}: {}", filter.instructions().len());
        }
    }
}
