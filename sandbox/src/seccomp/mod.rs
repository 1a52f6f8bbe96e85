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

use rustix::io;

use crate::mounts::last_error;
use crate::policy::Policy;
pub use program::Filter;

/// Builds the filter of a policy.
pub fn filter(policy: &Policy) -> Filter {
    Filter::new(table::answers(policy.get().tier, policy.get().network))
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
