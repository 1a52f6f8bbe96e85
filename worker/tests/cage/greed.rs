//! Acts of a job that takes more than its share: `__attack NAME COUNT` inside and outside of a cage. Each tries until it
//! has all it wanted, and says so; one that is kept from it never ends by itself.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

/// How long what was taken is kept: many looks of a watchdog.
const HELD: Duration = Duration::from_millis(500);

/// Forks so many children that live for a minute.
pub fn forks(words: &[String]) -> Result<(), Errno> {
    let (mut children, mut told) = (Vec::new(), false);
    while children.len() < count(words) {
        // SAFETY: this process has a single thread; the child only sleeps and ends.
        match unsafe { libc::fork() } {
            0 => {
                std::thread::sleep(Duration::from_secs(60));
                // SAFETY: _exit(2) has no preconditions.
                unsafe { libc::_exit(0) }
            }
            // Whoever waits for that sees it by name.
            -1 if !told => told = std::fs::File::create("full").is_ok(),
            -1 => std::thread::yield_now(),
            child => children.push(child),
        }
    }
    std::thread::sleep(HELD);
    for child in children {
        // SAFETY: kill(2) touches no memory.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    Ok(())
}

/// Lets so many rabbits go and ends: each is a process that has a child and is gone, which has a child and is gone, every other one
/// in a session of its own. They end after ten seconds.
pub fn rabbits(words: &[String]) -> Result<(), Errno> {
    let until = std::time::Instant::now() + Duration::from_secs(10);
    for _ in 0..count(words) {
        // SAFETY: this process has a single thread; the child only forks and ends.
        if unsafe { libc::fork() } != 0 {
            continue;
        }
        let mut generation = 0_u32;
        while std::time::Instant::now() < until {
            generation += 1;
            // SAFETY: as above. A fork that fails is tried again.
            match unsafe { libc::fork() } {
                0 if generation.is_multiple_of(2) => drop(rustix::process::setsid()),
                0 | -1 => {}
                // SAFETY: _exit(2) has no preconditions.
                _ => unsafe { libc::_exit(0) },
            }
        }
        // SAFETY: as above.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Starts so many threads that live for a minute.
pub fn threads(words: &[String]) -> Result<(), Errno> {
    let mut started = 0;
    while started < count(words) {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        match thread.spawn(|| std::thread::sleep(Duration::from_secs(60))) {
            Ok(_) => started += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    std::thread::sleep(HELD);
    Ok(())
}

/// Takes so many MiB of memory and keeps them for a second.
pub fn memory(words: &[String]) -> Result<(), Errno> {
    let all = pieces(words);
    std::thread::sleep(HELD);
    if all.iter().all(|piece| piece[1] > 0) { Ok(()) } else { Err(Errno::IO) }
}

fn pieces(words: &[String]) -> Vec<Vec<u8>> {
    (0..count(words)).map(|index| vec![u8::try_from(index % 255).unwrap_or(0) + 1; 1 << 20]).collect()
}

/// The same, beside a second process that has the same memory, as the child of a vfork(2) has.
pub fn memory_of_two(words: &[String]) -> Result<(), Errno> {
    extern "C" fn waits(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: it takes a number and touches no memory.
        unsafe { libc::usleep(800_000) }
    }
    let all = pieces(words);
    let mut stack = vec![0_u128; 4096];
    let top = stack.as_mut_ptr_range().end.cast();
    // SAFETY: the child has a stack of its own, which lives until it is waited for, and touches no other memory.
    let child = unsafe { libc::clone(waits, top, libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut()) };
    let child = rustix::process::Pid::from_raw(child).filter(|_| child > 0).ok_or_else(last_errno)?;
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    if all.iter().all(|piece| piece[1] > 0) { Ok(()) } else { Err(Errno::IO) }
}

/// Opens so many pipes with a page of the kernel's memory in each; gives up when the kernel does.
pub fn pipes(words: &[String]) -> Result<(), Errno> {
    let mut all = Vec::new();
    for _ in 0..count(words) {
        let pipe = rustix::pipe::pipe()?;
        rustix::io::write(&pipe.1, &[0; 4096])?;
        all.push(pipe);
    }
    Ok(())
}

/// Makes large pipes until the kernel gives small ones.
pub fn small_pipes(_: &[String]) -> Result<(), Errno> {
    let mut all = Vec::new();
    for _ in 0..200 {
        let pipe = rustix::pipe::pipe()?;
        if rustix::pipe::fcntl_getpipe_size(&pipe.0)? < 64 << 10 {
            return Ok(());
        }
        // One that cannot be had any more is as good as a small one.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe.0, 1 << 20);
        all.push(pipe);
    }
    Err(Errno::NOBUFS)
}

/// Takes three eighths of the inotify instances that a user may have.
pub fn watchers(_: &[String]) -> Result<(), Errno> {
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").expect("proc");
    let wanted = (most.trim().parse::<usize>().expect("a number") * 3 / 8).min(384);
    let all: Result<Vec<OwnedFd>, Errno> =
        (0..wanted).map(|_| rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC)).collect();
    all.map(drop)
}

/// More watches than any program needs, which nobody counts for a job.
pub fn watches(_: &[String]) -> Result<(), Errno> {
    use rustix::event::epoll;
    let (ours, _theirs) = rustix::pipe::pipe()?;
    let watch = |_| {
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&all, &ours, epoll::EventData::new_u64(0), epoll::EventFlags::IN).map(|()| all)
    };
    (0..200).map(watch).collect::<Result<Vec<OwnedFd>, Errno>>().map(drop)
}

/// Opens so many terminals, of which the machine has 4,096 for all.
pub fn terminals(words: &[String]) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    (0..count(words))
        .map(|_| open("/dev/ptmx", flags, Mode::empty()))
        .collect::<Result<Vec<OwnedFd>, Errno>>()
        .map(drop)
}

/// Has more files open than a process may, in two.
pub fn files_of_two(_: &[String]) -> Result<(), Errno> {
    let wanted = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX) * 3 / 4;
    let open_all =
        || (0..wanted).map(|_| open("/dev/null", OFlags::RDONLY, Mode::empty())).collect::<Result<Vec<_>, _>>();
    // SAFETY: this process has a single thread; the child only opens files and ends.
    let child = unsafe { libc::fork() };
    let all = open_all();
    if child == 0 {
        // SAFETY: _exit(2) has no preconditions.
        unsafe { libc::_exit(i32::from(all.is_err())) }
    }
    let child = rustix::process::Pid::from_raw(child).filter(|_| child > 0).ok_or_else(last_errno)?;
    let ended = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())?;
    all.map(drop)?;
    if ended.is_some_and(|(_, status)| status.exit_status() == Some(0)) { Ok(()) } else { Err(Errno::MFILE) }
}

/// Keeps so many MiB in sockets of its own loopback, and takes them out again.
pub fn sockets(words: &[String]) -> Result<(), Errno> {
    static PIECE: [u8; 60_000] = [1; 60_000];
    const PIECES: usize = 3;
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let wanted = count(words) << 20;
    let fill = |_| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").map_err(errno)?;
        socket.connect(socket.local_addr().map_err(errno)?).map_err(errno)?;
        socket.set_nonblocking(true).map_err(errno)?;
        for _ in 0..PIECES {
            // What finds no room is missing at the end.
            let _ = socket.send(&PIECE);
        }
        Ok(socket)
    };
    let all = (0..wanted.div_ceil(PIECES * PIECE.len())).map(fill).collect::<Result<Vec<_>, Errno>>()?;
    let mut piece = PIECE;
    let held = |socket: &std::net::UdpSocket| std::iter::from_fn(|| socket.recv(&mut piece).ok()).sum::<usize>();
    if all.iter().map(held).sum::<usize>() >= wanted { Ok(()) } else { Err(Errno::NOBUFS) }
}

/// Writes so many MiB to files that lie in memory only, 1 MiB each, and maps none of them.
pub fn files_in_memory(words: &[String]) -> Result<(), Errno> {
    let mut all = Vec::new();
    for _ in 0..count(words) {
        let file = rustix::fs::memfd_create(c"x", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::io::write(&file, &vec![1; 1 << 20])?;
        all.push(file);
    }
    std::thread::sleep(HELD);
    Ok(())
}

/// Fills so many MiB of memory that forks would share, 1 MiB each, and keeps a page of each mapped.
pub fn shared(words: &[String]) -> Result<(), Errno> {
    const PIECE: usize = 1 << 20;
    const PAGE: usize = 4096;
    for _ in 0..count(words) {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which takes the place of nothing.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), PIECE, access, MapFlags::SHARED) }?;
        // SAFETY: the mapping has so many bytes, and nobody else knows of it; what is unmapped is not used again.
        unsafe {
            at.cast::<u8>().write_bytes(1, PIECE);
            munmap(at.wrapping_byte_add(PAGE), PIECE - PAGE)?;
        }
    }
    std::thread::sleep(HELD);
    Ok(())
}

/// Fills so many System V segments of so many KiB each, and detaches them.
pub fn segments(words: &[String]) -> Result<(), Errno> {
    let bytes = count(&words[1..]) << 10;
    let mut made = Vec::new();
    let mut fill = || {
        // SAFETY: shmget(2) touches no memory of ours.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, 0o600) };
        if id < 0 {
            return Err(last_errno());
        }
        made.push(id);
        // SAFETY: the kernel chooses where, and nothing of ours is there.
        let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        if at.addr() == usize::MAX {
            return Err(last_errno());
        }
        // SAFETY: the segment has so many bytes, and nobody else knows of it; it is not used behind shmdt(2).
        unsafe {
            at.cast::<u8>().write_bytes(1, bytes);
            libc::shmdt(at);
        }
        Ok(())
    };
    let filled = (0..count(words)).try_for_each(|_| fill());
    std::thread::sleep(HELD);
    for id in made {
        // SAFETY: IPC_RMID reads no third argument.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
    filled
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Writes so many MiB to files without names, 4 MiB each, and keeps them open.
pub fn unnamed(words: &[String]) -> Result<(), Errno> {
    let all = unnamed_files(words).collect::<Result<Vec<OwnedFd>, Errno>>()?;
    std::thread::sleep(Duration::from_secs(5));
    drop(all);
    Ok(())
}

/// The same, twelve MiB at a time with more than a second in between.
pub fn creeping(words: &[String]) -> Result<(), Errno> {
    let mut all = Vec::new();
    for file in unnamed_files(words) {
        all.push(file?);
        if all.len() % 3 == 0 {
            std::thread::sleep(Duration::from_millis(1_300));
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    drop(all);
    Ok(())
}

/// The same, but keeps no more than a mapping of a page of each.
pub fn mapped(words: &[String]) -> Result<(), Errno> {
    for file in unnamed_files(words) {
        // SAFETY: a new mapping, which nothing looks into.
        unsafe { mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, file?, 0) }?;
    }
    std::thread::sleep(Duration::from_secs(5));
    Ok(())
}

/// The same, but sends each to itself and does not take it.
pub fn sent(words: &[String]) -> Result<(), Errno> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for file in unnamed_files(words) {
        let file = [file?];
        let descriptors = file.each_ref().map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&ours, &[IoSlice::new(b"1")], &mut control, SendFlags::empty())?;
    }
    std::thread::sleep(HELD);
    drop(theirs);
    Ok(())
}

fn unnamed_files(words: &[String]) -> impl Iterator<Item = Result<OwnedFd, Errno>> {
    (0..count(words).div_ceil(4)).map(|_| {
        let file = open("unnamed", OFlags::CREATE | OFlags::RDWR, Mode::RWXU)?;
        std::fs::remove_file("unnamed").expect("it was just made");
        rustix::io::write(&file, &vec![1; 4 << 20])?;
        Ok(file)
    })
}

fn count(words: &[String]) -> usize {
    words[0].parse().expect("a number")
}
