//! Who changes modes, owners and times of files for a job in the landlock tier. Landlock does not look at chmod(2), chown(2),
//! utimensat(2) and their kin: left alone, a job changes what it likes of all that its user owns, another job's worktree and what a
//! gate is about to judge among it. So the [filter](crate::seccomp) has the kernel ask the cage's first process, which makes the change itself:
//! it opens what is meant, looks where that lies, and changes what it has open. Nothing of the question is read twice.
//!
//! A question is answered like the call it stands for, and with `EACCES`, as Landlock does, where the file lies outside of what the job
//! may write. A process that nobody may look into, as it is not dumpable, is refused all of it: an agent's own, whose children are not.
//! Two things are not as without it: a path through a link of /proc, but for those to one's own descriptors, gives `ELOOP`; and a signal
//! whose handler does not restart calls ends one that was not heard yet with `EINTR`.
//!
//! Source: seccomp_unotify(2), openat2(2).

use std::cell::OnceCell;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, Uid, chmod, chownat, fstat, openat,
    openat2, readlinkat, utimensat,
};
use rustix::io::{self, Errno};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};

use crate::door::{self, CARRIER};
use crate::enforcement::Tier;
use crate::init::awaited_signals;
use crate::landlock::writable;
use crate::policy::Policy;
use crate::request::{Change, Named, Request, Times};

/// Bytes of a path with its end. Source: path_resolution(7).
const PATH_BYTES_MAX: usize = 4096;
/// Room for a question of a newer kernel, which writes as much as it knows: this one's have 80 bytes.
const QUESTION_WORDS: usize = 64;

/// Where the job sends the listener of its filter, and where init gets it.
#[derive(Debug)]
pub(crate) struct Post {
    init: OwnedFd,
    job: OwnedFd,
}

impl Post {
    /// For a cage of this tier; `None` where the kernel looks itself.
    pub(crate) fn of(tier: Tier) -> io::Result<Option<Post>> {
        if tier != Tier::Landlock {
            return Ok(None);
        }
        let (init, job) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(Some(Post { init, job }))
    }

    /// In the job: hands the listener over.
    pub(crate) fn send(&self, listener: &OwnedFd) -> io::Result<()> {
        door::send(listener, &self.job)
    }
}

/// The clerk of one cage, in its first process.
#[derive(Debug)]
pub(crate) struct Clerk<'a> {
    policy: &'a Policy,
    /// Looked up when somebody asks first.
    writable: OnceCell<Vec<PathBuf>>,
    desk: Desk,
    /// Becomes readable when a signal waits that init waits for.
    signals: OwnedFd,
}

#[derive(Debug)]
enum Desk {
    /// The job has not sent its listener yet.
    Waiting(OwnedFd),
    /// Questions come from here.
    Open(OwnedFd),
    /// Nobody asks any more.
    Closed,
}

impl<'a> Clerk<'a> {
    /// For a job of `policy` that has `post`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn new(policy: &'a Policy, post: Post) -> io::Result<Self> {
        Ok(Clerk { policy, writable: OnceCell::new(), desk: Desk::Waiting(post.init), signals: awaited_signals()? })
    }

    /// Answers questions until a signal waits.
    pub(crate) fn work(&mut self) {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let desk = match &self.desk {
                Desk::Waiting(desk) | Desk::Open(desk) => Some(desk.as_fd()),
                Desk::Closed => None,
            };
            let mut waiting = vec![PollFd::new(&self.signals, PollFlags::IN)];
            waiting.extend(desk.as_ref().map(|desk| PollFd::new(desk, PollFlags::IN)));
            let polled = io::retry_on_intr(|| poll(&mut waiting, None));
            // Whoever cannot wait for both waits for the signal, which is more.
            if polled.is_err() || !waiting[0].revents().is_empty() {
                return;
            }
            let seen = waiting.get(1).map_or(PollFlags::empty(), PollFd::revents);
            drop(waiting);
            self.attend(seen.contains(PollFlags::IN));
        }
    }

    /// Does what can be done at the desk; nobody is there any more where it has nothing to read.
    fn attend(&mut self, is_readable: bool) {
        self.desk = match std::mem::replace(&mut self.desk, Desk::Closed) {
            Desk::Waiting(post) if is_readable => receive(&post).map_or(Desk::Closed, |listener| {
                hurry(listener.as_fd());
                Desk::Open(listener)
            }),
            Desk::Open(listener) if is_readable => {
                self.answer(listener.as_fd());
                Desk::Open(listener)
            }
            _ => Desk::Closed,
        };
    }

    /// Answers one question. Who asked may be gone meanwhile.
    fn answer(&self, listener: BorrowedFd<'_>) {
        let mut words = [0_u64; QUESTION_WORDS];
        // SAFETY: the kernel fills its `seccomp_notif`, which has fewer bytes than these, all of them zero as it demands.
        let heard = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, words.as_mut_ptr()) };
        if heard != 0 {
            return;
        }
        // SAFETY: the words are larger than a `seccomp_notif`, are aligned as its largest field is, and any integers make one.
        let asked: libc::seccomp_notif = unsafe { words.as_ptr().cast::<libc::seccomp_notif>().read() };
        let done = self.serve(listener, &asked);
        let error = done.err().map_or(0, |errno| -errno.raw_os_error());
        let answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags: 0 };
        // SAFETY: the kernel reads a `seccomp_notif_resp` that outlives the call.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    }

    fn serve(&self, listener: BorrowedFd<'_>, asked: &libc::seccomp_notif) -> io::Result<()> {
        let question = Request::of(asked.data.nr, &asked.data.args).ok_or(Errno::INVAL)?;
        let asker = Asker::open(asked.pid)?;
        // Whoever has the number now is who asked, if the question still stands.
        // SAFETY: the kernel reads a number of 64 bits that outlives the call.
        let stands =
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const asked.id) };
        if stands != 0 {
            return Err(Errno::SRCH);
        }
        let change = asker.change(question.change)?;
        let file = asker.file(&question.named)?;
        if !self.may_change(&file)? {
            return Err(Errno::ACCESS);
        }
        apply(&file, change)
    }

    /// Whether a file lies in what the job may write, or can be named by nobody.
    fn may_change(&self, file: &OwnedFd) -> io::Result<bool> {
        if fstat(file)?.st_nlink == 0 {
            return Ok(true);
        }
        let place = readlinkat(CWD, own_path(file).as_c_str(), Vec::new())?;
        let place = place.to_bytes();
        // `pipe:[1]`, `socket:[1]`: what the job has open and no folder holds.
        let is_nameless = [&b"pipe:["[..], b"socket:[", b"anon_inode:"].iter().any(|kind| place.starts_with(kind));
        let place = Path::new(OsStr::from_bytes(place));
        let writable = self.writable.get_or_init(|| writable(self.policy));
        Ok(is_nameless || writable.iter().any(|folder| place.starts_with(folder)))
    }
}

/// Asks the kernel to let the clerk run as soon as somebody asks, where it knows how (Linux 6.6): until a question is heard, a signal
/// that the asker handles ends its call with `EINTR`, which programs do not expect of it.
fn hurry(listener: BorrowedFd<'_>) {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the kernel takes the flags as they are, and looks at no memory.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

fn receive(post: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; CARRIER.len()];
    recvmsg(post, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// What this process has open, as a path that leads to that and to nothing else.
fn own_path(file: &OwnedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("digits")
}

/// A change whose values are known.
#[derive(Debug)]
enum Known {
    Mode(u32),
    Owner { user: u32, group: u32 },
    Times(Timestamps),
}

fn apply(file: &OwnedFd, change: Known) -> io::Result<()> {
    // All ones leave what is there.
    let id = |id: u32| (id != u32::MAX).then_some(id);
    match change {
        Known::Mode(mode) => chmod(own_path(file).as_c_str(), Mode::from_raw_mode(mode & 0o7777)),
        Known::Owner { user, group } => {
            let (user, group) = (id(user).map(Uid::from_raw), id(group).map(Gid::from_raw));
            chownat(file, c"", user, group, AtFlags::EMPTY_PATH)
        }
        Known::Times(times) => utimensat(file, c"", &times, AtFlags::EMPTY_PATH),
    }
}

/// A thread that asks, by its folder in /proc.
struct Asker(OwnedFd);

impl Asker {
    fn open(thread: u32) -> io::Result<Self> {
        let folder = format!("/proc/{thread}");
        openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map(Asker)
    }

    /// Opens what stands in its folder, without a right to read or write it.
    fn own(&self, name: &str) -> io::Result<OwnedFd> {
        openat(&self.0, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }

    fn descriptor(&self, number: u32) -> io::Result<OwnedFd> {
        let opened = self.own(&format!("fd/{number}"));
        opened.map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
    }

    /// What a call's `dirfd` means.
    fn folder(&self, dir: u32) -> io::Result<OwnedFd> {
        if dir.cast_signed() == libc::AT_FDCWD { self.own("cwd") } else { self.descriptor(dir) }
    }

    fn memory(&self) -> io::Result<File> {
        let opened = openat(&self.0, "mem", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        opened.map(File::from).map_err(|_| Errno::ACCESS)
    }

    fn bytes<const COUNT: usize>(&self, at: u64) -> io::Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.memory()?.read_exact_at(&mut bytes, at).map_err(|_| Errno::FAULT)?;
        Ok(bytes)
    }

    fn path(&self, at: u64) -> io::Result<CString> {
        let memory = self.memory()?;
        let mut path = vec![0; PATH_BYTES_MAX];
        let mut known = 0;
        // A piece that ends with its page: what lies behind may not be there.
        while known < PATH_BYTES_MAX {
            let from = at.checked_add(known as u64).ok_or(Errno::FAULT)?;
            let piece = usize::try_from(4096 - from % 4096).expect("at most a page").min(PATH_BYTES_MAX - known);
            let read = memory.read_at(&mut path[known..known + piece], from).map_err(|_| Errno::FAULT)?;
            if read == 0 {
                return Err(Errno::FAULT);
            }
            if let Ok(text) = CStr::from_bytes_until_nul(&path[..known + read]) {
                return Ok(text.to_owned());
            }
            known += read;
        }
        Err(Errno::NAMETOOLONG)
    }

    fn file(&self, named: &Named) -> io::Result<OwnedFd> {
        let (dir, at, follows, empty) = match *named {
            Named::Descriptor(number) => return self.folder(number),
            Named::Path { dir, at, follows, empty } => (dir, at, follows, empty),
        };
        let path = self.path(at)?;
        if path.is_empty() {
            return if empty { self.folder(dir) } else { Err(Errno::NOENT) };
        }
        if let Some(number) = own_descriptor(path.to_bytes()).filter(|_| follows) {
            return self.descriptor(number);
        }
        // No job has a root of its own.
        let start = if path.to_bytes().starts_with(b"/") { self.own("cwd")? } else { self.folder(dir)? };
        let flags = OFlags::PATH | OFlags::CLOEXEC | if follows { OFlags::empty() } else { OFlags::NOFOLLOW };
        // A link in /proc would lead to what this process has open.
        openat2(start, path.as_c_str(), flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
    }

    fn change(&self, change: Change) -> io::Result<Known> {
        Ok(match change {
            // The filter has refused these; what runs with another's rights is made by nobody here.
            Change::Mode(mode) if mode & 0o6000 != 0 => return Err(Errno::PERM),
            Change::Mode(mode) => Known::Mode(mode),
            Change::Owner { user, group } => Known::Owner { user, group },
            Change::Times { at: 0, .. } => Known::Times(Timestamps { last_access: NOW, last_modification: NOW }),
            Change::Times { at, times } => {
                let [last_access, last_modification] = match times {
                    Times::Seconds => {
                        let bytes: [u8; 16] = self.bytes(at)?;
                        words(&bytes).map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 })
                    }
                    Times::Microseconds => {
                        let bytes: [u8; 32] = self.bytes(at)?;
                        pairs(&bytes, |fraction| (0..1_000_000).contains(&fraction).then(|| fraction * 1000))?
                    }
                    // The kernel judges these itself.
                    Times::Nanoseconds => pairs(&self.bytes(at)?, Some)?,
                };
                Known::Times(Timestamps { last_access, last_modification })
            }
        })
    }
}

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };

/// Integers as the machine lays them out.
fn words<const COUNT: usize>(bytes: &[u8]) -> [i64; COUNT] {
    std::array::from_fn(|index| i64::from_ne_bytes(bytes[8 * index..][..8].try_into().expect("8 bytes")))
}

fn pairs(bytes: &[u8; 32], nanoseconds: impl Fn(i64) -> Option<i64>) -> io::Result<[Timespec; 2]> {
    let [access, access_part, change, change_part] = words(bytes);
    let time = |seconds, part| Some(Timespec { tv_sec: seconds, tv_nsec: nanoseconds(part)? });
    Ok([time(access, access_part).ok_or(Errno::INVAL)?, time(change, change_part).ok_or(Errno::INVAL)?])
}

/// The number of a descriptor that a path names as a process names its own. Followed by us, it would be one of ours.
fn own_descriptor(path: &[u8]) -> Option<u32> {
    let fixed = [(&b"/dev/stdin"[..], 0), (b"/dev/stdout", 1), (b"/dev/stderr", 2)];
    if let Some((_, number)) = fixed.iter().find(|(name, _)| *name == path) {
        return Some(*number);
    }
    let folders = [&b"/proc/self/fd/"[..], b"/proc/thread-self/fd/", b"/dev/fd/"];
    let name = folders.iter().find_map(|folder| path.strip_prefix(*folder))?;
    let digits = std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}
