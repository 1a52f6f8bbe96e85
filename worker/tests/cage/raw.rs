//! Attempts that need a system call of their own: `__attack NAME ARGUMENT…` inside and outside of the cage.

use std::ffi::CString;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;

use rustix::fs::{CWD, Mode, OFlags, chmod, open};
use rustix::io::Errno;

/// What an attacker prints when the kernel did what it asked for.
pub const DONE: &str = "DONE";
/// What it prints before the kernel's reason when it did not.
pub const REFUSED: &str = "REFUSED";

type Act = fn(&[String]) -> Result<(), Errno>;

const ATTACKS: &[(&str, Act)] = &[
    ("write-mapping", write_mapping),
    ("link-unnamed", link_unnamed),
    ("open-read", |words| open(words[0].as_str(), OFlags::RDONLY, Mode::empty()).map(drop)),
    ("open-write", |words| open(words[0].as_str(), OFlags::WRONLY, Mode::empty()).map(drop)),
    ("ptrace", |words| call(libc::SYS_ptrace, [16, number(&words[0]), 0, 0, 0])),
    ("vm-read", vm_read),
    ("pidfd-getfd", pidfd_getfd),
    ("sigio", sigio),
    ("setpriority", |words| call(libc::SYS_setpriority, [0, number(&words[0]), 5, 0, 0])),
    ("prlimit", prlimit),
    ("scheduler", scheduler),
    ("ioprio", |words| call(libc::SYS_ioprio_set, [1, number(&words[0]), (2 << 13) | 7, 0, 0])),
    ("io-uring", io_uring),
    ("unshare-user", |_| call(libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0])),
    ("clone-user", clone_user),
    ("clone3-user", clone3_user),
    ("chroot", |_| call(libc::SYS_chroot, [c".".as_ptr() as i64, 0, 0, 0, 0])),
    ("fsopen", |_| call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as i64, 0, 0, 0, 0])),
    ("userfaultfd", |_| call(libc::SYS_userfaultfd, [0; 5])),
    ("keyctl", |_| call(libc::SYS_keyctl, [0, -3, 1, 0, 0])),
    ("handle", file_handle),
    ("personality", |_| call(libc::SYS_personality, [0x004_0000, 0, 0, 0, 0])),
    ("set-id", set_id),
    ("set-id-open", |_| open("set-id-file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o4755)).map(drop)),
    ("tcp-connect", |words| errno(TcpStream::connect(("127.0.0.1", words[0].parse().expect("a port"))).map(drop))),
    ("tcp-loopback", tcp_loopback),
    ("abstract-connect", |words| {
        let address = SocketAddr::from_abstract_name(&words[0]).expect("a short name");
        errno(UnixStream::connect_addr(&address).map(drop))
    }),
    ("unix-connect", |words| errno(UnixStream::connect(&words[0]).map(drop))),
    ("socket", |words| call(libc::SYS_socket, [number(&words[0]), number(&words[1]), number(&words[2]), 0, 0])),
    ("int80", int80),
];

/// Tries one attack and says how it went.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let words: Vec<String> = arguments.collect();
    let (name, words) = words.split_first().expect("an attack has a name");
    let (_, act) = ATTACKS.iter().find(|(known, _)| known == name).expect("a known attack");
    match act(words) {
        Ok(()) => println!("{DONE}"),
        Err(error) => println!("{REFUSED}: {error}"),
    }
    ExitCode::SUCCESS
}

fn number(word: &str) -> i64 {
    word.parse().expect("a number")
}

fn errno(result: std::io::Result<()>) -> Result<(), Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn last_error() -> Errno {
    errno(Err(std::io::Error::last_os_error())).expect_err("it is an error")
}

/// Makes a system call whose arguments are numbers or pointers that outlive it.
fn call(number: libc::c_long, arguments: [i64; 5]) -> Result<(), Errno> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: callers pass numbers, or pointers to data of the size that the call reads or writes.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 { Ok(()) } else { Err(last_error()) }
}

fn write_mapping(words: &[String]) -> Result<(), Errno> {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    let file = open(words[0].as_str(), OFlags::RDWR, Mode::empty())?;
    // SAFETY: a new mapping of one page is made and written only within the file's first byte.
    unsafe {
        let memory = mmap(std::ptr::null_mut(), 1, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?;
        memory.cast::<u8>().write_volatile(b'!');
    }
    Ok(())
}

fn link_unnamed(words: &[String]) -> Result<(), Errno> {
    let parent = std::path::Path::new(&words[0]).parent().expect("a file in a folder");
    let file = open(parent, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR)?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    rustix::fs::linkat(CWD, link.as_str(), CWD, words[0].as_str(), rustix::fs::AtFlags::SYMLINK_FOLLOW)
}

fn vm_read(words: &[String]) -> Result<(), Errno> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: std::ptr::dangling_mut::<libc::c_void>(), iov_len: 1 };
    let pid = libc::pid_t::try_from(number(&words[0])).expect("a process id");
    // SAFETY: the local vector describes one byte of ours; the remote one is not memory of this process.
    let result = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    // Nothing is mapped there; to learn that, the kernel must have looked.
    if result == -1 && last_error() != Errno::FAULT { Err(last_error()) } else { Ok(()) }
}

fn pidfd_getfd(words: &[String]) -> Result<(), Errno> {
    let pid = i32::try_from(number(&words[0])).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    rustix::process::pidfd_getfd(&pidfd, 1, rustix::process::PidfdGetfdFlags::empty()).map(drop)
}

fn sigio(words: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let (reader, writer) = rustix::pipe::pipe()?;
    call(libc::SYS_fcntl, [i64::from(reader.as_raw_fd()), i64::from(libc::F_SETOWN), number(&words[0]), 0, 0])?;
    let flags = i64::from(libc::O_ASYNC | libc::O_NONBLOCK);
    call(libc::SYS_fcntl, [i64::from(reader.as_raw_fd()), i64::from(libc::F_SETFL), flags, 0, 0])?;
    rustix::io::write(&writer, b"!").map(drop)
}

fn prlimit(words: &[String]) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: 10, rlim_max: 10 };
    let limit = &raw const limit;
    call(libc::SYS_prlimit64, [number(&words[0]), i64::from(libc::RLIMIT_NOFILE), limit as i64, 0, 0])
}

fn scheduler(words: &[String]) -> Result<(), Errno> {
    let parameter = libc::sched_param { sched_priority: 0 };
    let parameter = &raw const parameter;
    call(libc::SYS_sched_setscheduler, [number(&words[0]), i64::from(libc::SCHED_BATCH), parameter as i64, 0, 0])
}

fn io_uring(_: &[String]) -> Result<(), Errno> {
    // `struct io_uring_params` has 120 bytes; all zero asks for the defaults.
    let mut parameters = [0u64; 15];
    call(libc::SYS_io_uring_setup, [1, parameters.as_mut_ptr() as i64, 0, 0, 0])
}

fn clone_user(_: &[String]) -> Result<(), Errno> {
    let flags = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    end_child(|| call_value(libc::SYS_clone, [flags, 0, 0, 0, 0]))
}

fn clone3_user(_: &[String]) -> Result<(), Errno> {
    // `struct clone_args`: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let arguments = [u64::from(libc::CLONE_NEWUSER.unsigned_abs()), 0, 0, 0, 17, 0, 0, 0];
    end_child(|| call_value(libc::SYS_clone3, [arguments.as_ptr() as i64, 64, 0, 0, 0]))
}

fn call_value(number: libc::c_long, [a, b, c, d, e]: [i64; 5]) -> i64 {
    // SAFETY: as in `call`; a new process goes on with a copy of this one, which has a single thread.
    unsafe { libc::syscall(number, a, b, c, d, e) }
}

fn end_child(clone: impl FnOnce() -> i64) -> Result<(), Errno> {
    match clone() {
        // SAFETY: _exit(2) has no preconditions.
        0 => unsafe { libc::_exit(0) },
        -1 => Err(last_error()),
        _ => Ok(()),
    }
}

fn file_handle(_: &[String]) -> Result<(), Errno> {
    // `struct file_handle`: the size of what follows, a type, and room for the handle.
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount = 0i32;
    let (path, mount) = (CString::new("/").expect("no NUL"), &raw mut mount);
    let cwd = i64::from(libc::AT_FDCWD);
    call(libc::SYS_name_to_handle_at, [cwd, path.as_ptr() as i64, handle.as_mut_ptr() as i64, mount as i64, 0])
}

fn set_id(_: &[String]) -> Result<(), Errno> {
    std::fs::write("set-id", "").expect("the worktree is writable");
    chmod("set-id", Mode::from_raw_mode(0o4755))
}

fn tcp_loopback(_: &[String]) -> Result<(), Errno> {
    let listener = std::net::TcpListener::bind("127.0.0.1:8080");
    let listener = listener.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    errno(TcpStream::connect("127.0.0.1:8080").and_then(|_| listener.accept()).map(drop))
}

#[cfg(target_arch = "x86_64")]
fn int80(_: &[String]) -> Result<(), Errno> {
    const GETPID_OF_I386: i32 = 20;
    let result: i32;
    // SAFETY: getpid has no arguments; the kernel may clobber r8 to r11 on this path.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") GETPID_OF_I386 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _, options(nostack));
    }
    if result > 0 { Ok(()) } else { Err(Errno::NOSYS) }
}

#[cfg(not(target_arch = "x86_64"))]
fn int80(_: &[String]) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}
