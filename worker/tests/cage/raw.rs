//! Attempts that need a system call of their own: `__attack NAME ARGUMENT…` inside and outside of the cage.

use std::ffi::CString;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;

use rustix::fs::{CWD, Mode, OFlags, chmod, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socketpair};

use crate::greed;

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
    ("io-setup", io_setup),
    ("unshare-user", |_| call(libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0])),
    ("clone-user", clone_user),
    ("clone3-user", clone3_user),
    ("chroot", |_| call(libc::SYS_chroot, [c".".as_ptr() as i64, 0, 0, 0, 0])),
    ("fsopen", |_| call(libc::SYS_fsopen, [c"tmpfs".as_ptr() as i64, 0, 0, 0, 0])),
    ("open-tree", |_| call(libc::SYS_open_tree, [i64::from(libc::AT_FDCWD), c".".as_ptr() as i64, 0, 0, 0])),
    ("set-namespace", set_namespace),
    ("bpf", bpf),
    ("perf", perf),
    ("add-key", |_| {
        call(libc::SYS_add_key, [c"user".as_ptr() as i64, c"swarm".as_ptr() as i64, c"x".as_ptr() as i64, 1, -2])
    }),
    ("userfaultfd", |_| call(libc::SYS_userfaultfd, [0; 5])),
    ("keyctl", |_| call(libc::SYS_keyctl, [0, -3, 1, 0, 0])),
    ("handle", file_handle),
    ("personality", |_| call(libc::SYS_personality, [0x004_0000, 0, 0, 0, 0])),
    ("set-id", set_id),
    ("set-id-open", |_| open("set-id-file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o4755)).map(drop)),
    ("tcp-connect", |words| errno(TcpStream::connect(("127.0.0.1", words[0].parse().expect("a port"))).map(drop))),
    ("tcp-connect-to", |words| errno(TcpStream::connect(&*words[0]).map(drop))),
    ("tcp-say", |words| {
        use std::io::Write as _;
        let stream = TcpStream::connect(("127.0.0.1", words[0].parse().expect("a port")));
        errno(stream.and_then(|mut stream| stream.write_all(words[1].as_bytes())))
    }),
    ("tcp-loopback", tcp_loopback),
    ("tcp-hold", tcp_hold),
    ("flow-label", flow_label),
    ("listen-anywhere", |_| errno(std::net::TcpListener::bind("0.0.0.0:0").map(drop))),
    ("listen-unbound", |_| rustix::net::listen(tcp_socket()?, 1)),
    ("udp-send", udp_send),
    ("fast-open", fast_open),
    ("fast-open-connect", fast_open_connect),
    ("abstract-connect", |words| {
        let address = SocketAddr::from_abstract_name(&words[0]).expect("a short name");
        errno(UnixStream::connect_addr(&address).map(drop))
    }),
    ("unix-connect", |words| errno(UnixStream::connect(&words[0]).map(drop))),
    ("unix-datagram", |words| pair_to(libc::SOCK_DGRAM, &words[0])),
    ("unix-raw", |words| pair_to(libc::SOCK_RAW, &words[0])),
    ("socket", |words| call(libc::SYS_socket, [number(&words[0]), number(&words[1]), number(&words[2]), 0, 0])),
    ("int80", int80),
    ("forks", greed::forks),
    ("rabbits", greed::rabbits),
    ("threads", greed::threads),
    ("memory", greed::memory),
    ("pipes", greed::pipes),
    ("small-pipes", greed::small_pipes),
    ("watchers", greed::watchers),
    ("watches", greed::watches),
    ("terminals", greed::terminals),
    ("files-of-two", greed::files_of_two),
    ("sockets", greed::sockets),
    ("files-in-memory", greed::files_in_memory),
    ("shared", greed::shared),
    ("segments", greed::segments),
    ("unnamed", greed::unnamed),
    ("creeping", greed::creeping),
    ("memory-of-two", greed::memory_of_two),
    ("mapped", greed::mapped),
    ("sent", greed::sent),
    ("accesses", accesses),
    ("set-capability", |words| set_attribute(&words[0], c"security.capability", CAPABILITY_V2)),
    ("set-attribute", |words| set_attribute(&words[0], c"user.swarm", b"x")),
    ("chown", |words| {
        let other = Some(rustix::fs::Uid::from_raw(1));
        rustix::fs::chown(words[0].as_str(), other, None)
    }),
    ("lock", lock),
    ("truncate", truncate),
    ("fanotify", |_| call(libc::SYS_fanotify_init, [0x200, 0, 0, 0, 0])),
    ("change-open", |words| {
        let file = open(words[0].as_str(), OFlags::RDONLY, Mode::empty())?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(rustix::fs::fstat(&file)?.st_mode))
    }),
    ("change-path", |words| chmod(descriptor_path(&words[0])?, Mode::from_raw_mode(0o777))),
    ("change-all", change_all),
    ("generation", |words| {
        use std::os::fd::AsRawFd as _;
        let (file, generation) = (open(words[0].as_str(), OFlags::RDONLY, Mode::empty())?, 1_i32);
        let at = (&raw const generation) as i64;
        call(libc::SYS_ioctl, [i64::from(file.as_raw_fd()), 0x4008_7602, at, 0, 0])
    }),
    ("watch", watch),
    ("affinity", affinity),
    ("find-memory", |words| call(libc::SYS_shmget, [number(&words[0]), 0, 0, 0, 0])),
    ("find-semaphores", |words| call(libc::SYS_semget, [number(&words[0]), 0, 0, 0, 0])),
    ("open-queue", open_queue),
    ("type-ahead", type_ahead),
    ("set-discipline", set_discipline),
    ("lease", |words| {
        use std::os::fd::AsRawFd as _;
        let file = open(words[0].as_str(), OFlags::RDONLY, Mode::empty())?;
        let [fd, command, kind] = [file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK].map(i64::from);
        call(libc::SYS_fcntl, [fd, command, kind, 0, 0])
    }),
    ("undumpable-read", |words| {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
        open(words[0].as_str(), OFlags::RDONLY, Mode::empty()).map(drop)
    }),
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

/// Makes the calling thread the tracer of a process, which goes on; whether it may. Source: ptrace(2), `PTRACE_SEIZE`.
pub fn trace(pid: rustix::process::Pid) -> bool {
    // SAFETY: both pointers are unused by this request.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SEIZE,
            pid.as_raw_nonzero().get(),
            std::ptr::null_mut::<u8>(),
            std::ptr::null_mut::<u8>(),
        )
    };
    result == 0
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

/// Room for one request of asynchronous input or output; the machine has room for 65,536, whoever takes it.
fn io_setup(_: &[String]) -> Result<(), Errno> {
    let mut context = 0u64;
    call(libc::SYS_io_setup, [1, (&raw mut context) as i64, 0, 0, 0])
}

/// Enters the namespace that it is in already, which is as much of a privilege as entering another one.
fn set_namespace(_: &[String]) -> Result<(), Errno> {
    let own = open("/proc/self/ns/uts", OFlags::RDONLY, Mode::empty())?;
    call(libc::SYS_setns, [i64::from(std::os::fd::AsRawFd::as_raw_fd(&own)), i64::from(libc::CLONE_NEWUTS), 0, 0, 0])
}

fn bpf(_: &[String]) -> Result<(), Errno> {
    // BPF_MAP_CREATE with `union bpf_attr`: an array of one value of four bytes.
    let attributes = [2u32, 4, 4, 1];
    call(libc::SYS_bpf, [0, attributes.as_ptr() as i64, 16, 0, 0])
}

fn perf(_: &[String]) -> Result<(), Errno> {
    // `struct perf_event_attr` as of its first version, 64 bytes: the software event 0, of this process, on any processor.
    let mut attributes = [0u32; 16];
    attributes[..2].copy_from_slice(&[1, 64]);
    call(libc::SYS_perf_event_open, [attributes.as_ptr() as i64, 0, -1, -1, 0])
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

/// Listens, says so, and goes on listening for as long as its parent, a shell that waits for it, does not end it.
fn tcp_hold(words: &[String]) -> Result<(), Errno> {
    let port: u16 = words[0].parse().expect("a port");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port));
    let listener = listener.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    println!("HOLDS");
    // A second process keeps the socket; this one tells how it went.
    std::process::Command::new("sleep")
        .arg("60")
        .stdin(rustix::io::dup(&listener)?)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(())
}

fn tcp_loopback(_: &[String]) -> Result<(), Errno> {
    let listener = std::net::TcpListener::bind("127.0.0.1:8080");
    let listener = listener.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    errno(TcpStream::connect("127.0.0.1:8080").and_then(|_| listener.accept()).map(drop))
}

/// Has the kernel make a flow label, which outlives its socket by six seconds. Source: `struct in6_flowlabel_req` in linux/in6.h.
fn flow_label(_: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    const CREATE: u16 = 1;
    const SHARED_WITH_ALL: u8 = 255;
    let mut request = [0; 32];
    request[15] = 1;
    request[21] = SHARED_WITH_ALL;
    request[22..24].copy_from_slice(&CREATE.to_ne_bytes());
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None)?;
    let [fd, level, option] = [socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_FLOWLABEL_MGR].map(i64::from);
    call(libc::SYS_setsockopt, [fd, level, option, request.as_mut_ptr() as i64, 32])
}

fn tcp_socket() -> Result<std::os::fd::OwnedFd, Errno> {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
}

fn loopback(port: &str) -> std::net::SocketAddrV4 {
    std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port.parse().expect("a port"))
}

/// Sends from one end of a pair to somebody else's path.
fn pair_to(kind: libc::c_int, path: &str) -> Result<(), Errno> {
    let kind = SocketType::from_raw(kind as u32);
    let (end, _) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    sendto(&end, b"x", SendFlags::empty(), &SocketAddrUnix::new(path)?).map(drop)
}

fn udp_send(words: &[String]) -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    sendto(socket, b"query", SendFlags::empty(), &loopback(&words[0])).map(drop)
}

/// Connects by sending.
fn fast_open(words: &[String]) -> Result<(), Errno> {
    use rustix::net::{SendFlags, sendto};
    let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
    sendto(tcp_socket()?, b"first", flags, &loopback(&words[0])).map(drop)
}

/// Connects by writing.
fn fast_open_connect(words: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let (socket, on) = (tcp_socket()?, 1i32);
    let (fd, value) = (i64::from(socket.as_raw_fd()), &raw const on);
    let option = i64::from(libc::TCP_FASTOPEN_CONNECT);
    call(libc::SYS_setsockopt, [fd, i64::from(libc::IPPROTO_TCP), option, value as i64, 4])?;
    rustix::net::connect(&socket, &loopback(&words[0]))?;
    rustix::io::write(&socket, b"first").map(drop)
}

/// VFS_CAP_REVISION_2 with every capability permitted and effective. Source: linux/capability.h.
const CAPABILITY_V2: &[u8] = &[1, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0x01, 0, 0, 0, 0, 0, 0];

fn set_attribute(path: &str, name: &std::ffi::CStr, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty())
}

/// A path that leads to what stands at another, which is opened without a right to read it.
fn descriptor_path(path: &str) -> Result<String, Errno> {
    use std::os::fd::IntoRawFd as _;
    Ok(format!("/proc/self/fd/{}", open(path, OFlags::PATH, Mode::empty())?.into_raw_fd()))
}

/// By every call that there is; one that goes through is enough.
fn change_all(words: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let (path, here) = (CString::new(words[0].as_str()).expect("no NUL"), i64::from(libc::AT_FDCWD));
    let file = open(words[0].as_str(), OFlags::PATH, Mode::empty())?;
    let (at, open, empty) = (path.as_ptr() as i64, i64::from(file.as_raw_fd()), c"".as_ptr() as i64);
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (user, group) = (i64::from(user), i64::from(group));
    let times = [[1_i64, 0], [1, 0]];
    let then = times.as_ptr() as i64;
    let by_descriptor = i64::from(libc::AT_EMPTY_PATH);
    let mut tried = vec![
        call(libc::SYS_fchmodat, [here, at, 0o777, 0, 0]),
        call(libc::SYS_fchmodat2, [here, at, 0o777, 0, 0]),
        call(libc::SYS_fchmodat2, [open, empty, 0o777, by_descriptor, 0]),
        call(libc::SYS_fchownat, [here, at, user, group, 0]),
        call(libc::SYS_fchownat, [open, empty, user, group, by_descriptor]),
        call(libc::SYS_utimensat, [here, at, then, 0, 0]),
        call(libc::SYS_utimensat, [here, at, 0, 0, 0]),
        call(libc::SYS_utimensat, [open, empty, then, by_descriptor, 0]),
    ];
    #[cfg(target_arch = "x86_64")]
    tried.extend([
        call(libc::SYS_chmod, [at, 0o777, 0, 0, 0]),
        call(libc::SYS_chown, [at, user, group, 0, 0]),
        call(libc::SYS_lchown, [at, user, group, 0, 0]),
        call(libc::SYS_utime, [at, then, 0, 0, 0]),
        call(libc::SYS_utimes, [at, then, 0, 0, 0]),
        call(libc::SYS_futimesat, [here, at, then, 0, 0]),
    ]);
    tried.into_iter().find(Result::is_ok).unwrap_or(Err(Errno::ACCESS))
}

/// By its path, without opening it.
fn truncate(words: &[String]) -> Result<(), Errno> {
    let path = CString::new(words[0].as_str()).expect("no NUL");
    call(libc::SYS_truncate, [path.as_ptr() as i64, 3, 0, 0, 0])
}

fn lock(words: &[String]) -> Result<(), Errno> {
    let file = open(words[0].as_str(), OFlags::RDONLY, Mode::empty())?;
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
}

fn watch(words: &[String]) -> Result<(), Errno> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    add_watch(init(CreateFlags::CLOEXEC)?, words[0].as_str(), WatchFlags::ACCESS).map(drop)
}

fn affinity(words: &[String]) -> Result<(), Errno> {
    let peer = i32::try_from(number(&words[0])).ok().and_then(rustix::process::Pid::from_raw);
    let processors = rustix::thread::sched_getaffinity(None)?;
    rustix::thread::sched_setaffinity(peer, &processors)
}

fn open_queue(words: &[String]) -> Result<(), Errno> {
    let name = CString::new(words[0].as_str()).expect("no NUL");
    call(libc::SYS_mq_open, [name.as_ptr() as i64, i64::from(libc::O_RDONLY), 0, 0, 0])
}

/// Makes a terminal its own and puts a character into its input, as a program would into the terminal of the person who
/// started it; with `1` the request has bits that the kernel ignores and a careless filter does not.
fn type_ahead(words: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let main = open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    rustix::pty::unlockpt(&main)?;
    let name = rustix::pty::ptsname(&main, Vec::new())?;
    let terminal = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    // A leader of a session already has one where it matters: then the terminal is taken at once.
    let _ = rustix::process::setsid();
    let fd = i64::from(terminal.as_raw_fd());
    call(libc::SYS_ioctl, [fd, i64::try_from(libc::TIOCSCTTY).expect("small"), 0, 0, 0])?;
    let high = number(&words[0]) << 32;
    let character = b'x';
    let request = i64::try_from(libc::TIOCSTI).expect("small") | high;
    let typed = call(libc::SYS_ioctl, [fd, request, (&raw const character) as i64, 0, 0]);
    // Closing them would hang up this very process before it can say how it went.
    std::mem::forget((main, terminal));
    typed
}

/// Gives a terminal the line discipline that it has: the call by which another one would silence it.
fn set_discipline(_: &[String]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    let main = open("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    let request = i64::try_from(libc::TIOCSETD).expect("small");
    // N_TTY of linux/tty.h, which every terminal begins with.
    let discipline: i32 = 0;
    call(libc::SYS_ioctl, [i64::from(main.as_raw_fd()), request, (&raw const discipline) as i64, 0, 0])
}

/// Memory, semaphores and a queue of the host that are found by number or name; removed when dropped.
pub struct Shared {
    key: u32,
}

impl Shared {
    /// Makes them; a kernel without one of them is noticed by the control.
    pub fn new(number: u32) -> Self {
        let key = 0x5377_0000 ^ number;
        let create = i64::from(libc::IPC_CREAT | 0o600);
        let _ = call(libc::SYS_shmget, [i64::from(key), 4096, create, 0, 0]);
        let _ = call(libc::SYS_semget, [i64::from(key), 1, create, 0, 0]);
        let name = Self::queue(key);
        let flags = i64::from(libc::O_CREAT | libc::O_RDWR);
        let _ = call(libc::SYS_mq_open, [name.as_ptr() as i64, flags, 0o600, 0, 0]);
        Shared { key }
    }

    /// Their number.
    pub fn key(&self) -> u32 {
        self.key
    }

    fn queue(key: u32) -> CString {
        CString::new(format!("swarm-cage-{key}")).expect("no NUL")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let key = libc::key_t::try_from(self.key).expect("its first bit is not set");
        // SAFETY: removing by number touches no memory of ours.
        unsafe {
            libc::shmctl(libc::shmget(key, 0, 0), libc::IPC_RMID, std::ptr::null_mut());
            libc::semctl(libc::semget(key, 0, 0), 0, libc::IPC_RMID);
        }
        let name = Self::queue(self.key);
        let _ = call(libc::SYS_mq_unlink, [name.as_ptr() as i64, 0, 0, 0, 0]);
    }
}

/// Tries what the file `acts` of the working directory lists, `r PATH` or `w PATH` a line, and prints `y` or `n` for each.
fn accesses(_: &[String]) -> Result<(), Errno> {
    let acts = std::fs::read_to_string("acts").expect("the worktree is readable");
    let done = acts.lines().map(|act| {
        let (kind, path) = act.split_at(2);
        let done = match kind {
            "r " if std::path::Path::new(path).is_dir() => std::fs::read_dir(path).is_ok(),
            // Some of what the kernel makes up is opened and not read.
            "r " if path.starts_with("/proc/") => {
                std::fs::File::open(path).and_then(|mut file| file.read(&mut [0; 1])).is_ok()
            }
            "r " => std::fs::File::open(path).is_ok(),
            _ => std::fs::OpenOptions::new().append(true).create(true).open(path).is_ok(),
        };
        if done { 'y' } else { 'n' }
    });
    println!("{}", done.collect::<String>());
    Ok(())
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
