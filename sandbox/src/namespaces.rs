//! Namespaces, id maps, loopback and host name: what a job shares with nobody.
//!
//! Source: clone(2), user_namespaces(7), pid_namespaces(7), netdevice(7).

use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, open};
use rustix::io;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Pid;

use crate::mounts::last_error;

/// The host name inside every cage.
pub const HOST_NAME: &str = "swarm";

/// Both sides of a clone.
pub enum Cloned {
    /// The calling process: the child's id and a descriptor that stands for it.
    Parent(Pid, OwnedFd),
    /// The new process, a copy of the caller.
    Child,
}

/// Which network a job gets, beside its other namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOf {
    /// The calling process's: the host's, or one that the process has entered for the job.
    Caller,
    /// A new one.
    Job,
}

/// The clone flags of a job's namespaces.
pub fn flags(network: NetworkOf) -> libc::c_int {
    let own_network = if network == NetworkOf::Job { libc::CLONE_NEWNET } else { 0 };
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | own_network
}

/// Clones the calling process like fork(2), into new namespaces.
///
/// clone(2) and not clone3(2): container runtimes answer the latter with `ENOSYS`.
///
/// # Errors
/// `EPERM`, `ENOSPC` or `EUSERS` where namespaces are not allowed.
pub fn clone(flags: libc::c_int) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM the child gets a copy of the address space and goes on with the same stack pointer, as
    // after fork(2). The process has a single thread (the crate's contract), so no lock is held by a thread that the
    // child lacks. The kernel writes the pidfd to the third argument on every architecture, before it returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, null, &raw mut pidfd, null, null) };
    match pid {
        0 => Ok(Cloned::Child),
        1.. => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::Errno::OVERFLOW)?;
            // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
            Ok(Cloned::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
        _ => Err(last_error()),
    }
}

/// Clones the calling process like fork(2). The process must have a single thread, like all that uses this crate.
///
/// # Errors
/// `EAGAIN` at a limit of processes, `ENOMEM`.
pub fn fork() -> io::Result<Cloned> {
    clone(0)
}

/// Bytes of stack for [`borrow_memory`]; only what is touched costs anything.
const STACK_BYTES: usize = 1 << 20;

/// Makes a child process that runs `child` in the *caller's* memory, on a stack of its own, while the caller waits until the
/// child has executed a program or ended; with what `child` gives as its exit status, where it comes back. All else that a process has is its own, as after fork(2). No memory is copied, none
/// is touched anew and none is taken apart: with a large program that is most of what a fork costs.
///
/// What `child` allocates stays in the caller's memory. A child that is killed in the middle of that can leave the caller's
/// heap broken; what the caller does then has to be safe even if it crashes.
///
/// Source: clone(2), `CLONE_VFORK`.
///
/// # Errors
/// `EAGAIN` at a limit of processes, `ENOMEM`.
pub fn borrow_memory<F: FnOnce() -> libc::c_int>(child: F) -> io::Result<Pid> {
    let stack = Stack::new()?;
    let mut child = Some(child);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the process has a single thread (the crate's contract), which waits in this call until the child has left the
    // memory; so nobody else uses it, or `child`, meanwhile. The stack is as large as said, and unmapped only afterwards.
    let pid = unsafe { libc::clone(enter_child::<F>, stack.top(), flags, (&raw mut child).cast()) };
    if pid < 0 { Err(last_error()) } else { Pid::from_raw(pid).ok_or(io::Errno::OVERFLOW) }
}

extern "C" fn enter_child<F: FnOnce() -> libc::c_int>(child: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `borrow_memory` passes its own variable of this type, and waits.
    let child = unsafe { &mut *child.cast::<Option<F>>() };
    child.take().expect("entered once")()
}

/// Memory that grows downwards to a page that cannot be touched.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping takes the place of nothing.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(last_error());
        }
        let stack = Stack(start);
        // SAFETY: the first page of the mapping, which holds nothing yet.
        let guarded = unsafe { libc::mprotect(start, rustix::param::page_size(), libc::PROT_NONE) };
        if guarded == 0 { Ok(stack) } else { Err(last_error()) }
    }

    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and whoever ran on it has left it.
        unsafe { libc::munmap(self.0, STACK_BYTES) };
    }
}

/// The caller's user and group id, to be taken before [`clone`].
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    user: u32,
    group: u32,
}

impl Ids {
    /// Of the calling process.
    pub fn current() -> Self {
        Ids { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }
}

/// Maps the caller's ids to themselves and nothing else: every other id shows as the overflow id and cannot be assumed.
pub fn map_ids(ids: Ids) -> io::Result<()> {
    write_once("/proc/self/setgroups", "deny")?;
    write_once("/proc/self/uid_map", &format!("{0} {0} 1", ids.user))?;
    write_once("/proc/self/gid_map", &format!("{0} {0} 1", ids.group))
}

/// The kernel takes these files in a single write.
fn write_once(path: &str, text: &str) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let written = io::write(&file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::Errno::IO) }
}

/// A kind of watchers of files that a user namespace bounds; the kernel counts them for the namespaces above, too, so that who takes
/// all of them inside leaves some to others. Source: namespaces(7), /proc/sys/user.
struct Watchers {
    /// The file that bounds those of the calling process's user namespace.
    own: &'static str,
    /// The file that says how many a user may have.
    of_user: &'static str,
    /// How many a cage may have at least and at most.
    range: RangeInclusive<u64>,
}

const WATCHERS: [Watchers; 2] = [
    Watchers {
        own: "/proc/sys/user/max_inotify_instances",
        of_user: "/proc/sys/fs/inotify/max_user_instances",
        range: 16..=256,
    },
    Watchers {
        own: "/proc/sys/user/max_inotify_watches",
        of_user: "/proc/sys/fs/inotify/max_user_watches",
        range: 4096..=1 << 20,
    },
];
/// What part of a user's watchers a cage may have.
const WATCHERS_PART: u64 = 4;

impl Watchers {
    /// How many a cage may have; `None` where that cannot be set: /proc/sys is read-only here, or the kernel has no such bound.
    fn bound(&self) -> Option<u64> {
        let is_fixed = rustix::fs::statvfs(self.own).ok()?.f_flag.contains(StatVfsMountFlags::RDONLY);
        let of_user: u64 = std::fs::read_to_string(self.of_user).ok()?.trim().parse().ok()?;
        (!is_fixed).then(|| (of_user / WATCHERS_PART).clamp(*self.range.start(), *self.range.end()))
    }
}

/// The bounds of a cage's own watchers, by kind; `None` where not all can be set.
fn watchers() -> Option<&'static [u64]> {
    static BOUNDS: OnceLock<Option<Vec<u64>>> = OnceLock::new();
    BOUNDS.get_or_init(|| WATCHERS.iter().map(Watchers::bound).collect()).as_deref()
}

/// Looks up what bounds a cage's watchers, for all processes that are forked from this one.
pub fn prepare() {
    watchers();
}

/// Whether a cage with a user namespace has watchers of its own.
pub fn bounds_watchers() -> bool {
    watchers().is_some()
}

/// Bounds the watchers of the calling process's user namespace.
pub fn bound_watchers() -> io::Result<()> {
    let Some(bounds) = watchers() else { return Ok(()) };
    WATCHERS.iter().zip(bounds).try_for_each(|(kind, bound)| write_once(kind.own, &bound.to_string()))
}

/// Cuts the ties between our mounts and the host's, in both directions.
pub fn make_mounts_private() -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Gives the cage a name of its own and brings the loopback of a network of its own up.
pub fn name_and_loopback(network: NetworkOf) -> io::Result<()> {
    rustix::system::sethostname(HOST_NAME.as_bytes())?;
    if network == NetworkOf::Job { loopback_up() } else { Ok(()) }
}

/// Brings the loopback of the calling process's network up.
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`: integers, a pointer that may be null, and a name without characters.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::try_from(*from).expect("ASCII fits");
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("0x41 fits");
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}
