//! WebAssembly guests: a module is compiled once, its machine code is kept, and every job loads it inside its own cage.
//!
//! The compiler reads hostile bytes, so it runs in a cage that holds the module and nothing else: what it makes depends on
//! the module alone, and can harm nobody but those who run that module, each in a cage of its own. Machine code is kept
//! under a digest of the module and of everything that decides whether it fits; only this process writes there, never a
//! job, and it never loads what it keeps.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use swarm_protocol::{Ended, FromWorker, Refusal, Start, ToWorker, WasmJob};
use swarm_sandbox::wasm::{ARTIFACT_BYTES_MAX, Engine, GuestJob, MODULE_BYTES_MAX, Metering, artifact_key, engine};
use swarm_sandbox::{Caged, End, Left, Status};

use crate::airlock;
use crate::conversation::{Heard, Input, send};

/// How long a module may take to compile, where its task may take so long. The largest in use take some tens of seconds on one processor.
const COMPILE_MAX: Duration = Duration::from_secs(600);
/// How often a worker that waits for another's compiler looks again, and how often it beats meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// A heartbeat follows this much silence.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Bytes read from a pipe at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes of a compiler's complaint that are kept.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;

/// Why there is nothing to run.
enum Stop {
    /// The outcome of the job.
    Ended(Ended),
    /// The coordinator is gone, or the machine failed.
    Broken(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Broken(error)
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Stop::Broken(error.into())
    }
}

/// Makes a guest ready to be launched: compiles its module unless that has been done. The inner error is the outcome of a
/// job that cannot be run.
///
/// # Errors
/// The coordinator is gone, or the machine failed.
pub fn prepare(start: &Start, job: &WasmJob, input: &mut Input) -> io::Result<Result<GuestJob, Ended>> {
    match guest_job(start, job, input) {
        Ok(guest) => Ok(Ok(guest)),
        Err(Stop::Ended(ended)) => Ok(Err(ended)),
        Err(Stop::Broken(error)) => Err(error),
    }
}

/// The outcome of a guest that broke a limit.
pub fn limit(limit: String, detail: String) -> Ended {
    // Two clocks measure a guest, its own and the supervisor's: whichever rings first, it is the same end.
    if limit == "time" { Ended::TimedOut } else { Ended::Limit { limit, detail } }
}

fn guest_job(start: &Start, job: &WasmJob, input: &mut Input) -> Result<GuestJob, Stop> {
    let metering = if job.fuel.is_some() { Metering::Fuel } else { Metering::Time };
    let engine = engine(metering).map_err(|error| refused("wasm engine", format!("{error:#}")))?;
    let module = read_module(job)?;
    let kept = job.compiled.join(artifact_key(&engine, &blake3::hash(&module)));
    let artifact = match read_bounded(&kept, ARTIFACT_BYTES_MAX) {
        Ok(artifact) => artifact,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut compilation = Compilation { start, job, input, engine: &engine, last_frame: Instant::now() };
            compilation.make(&kept, &module)?
        }
        Err(error) => return Err(refused("read the compiled module", error)),
    };
    Ok(GuestJob { engine, artifact, guest: airlock::guest(start, job) })
}

fn read_module(job: &WasmJob) -> Result<Vec<u8>, Stop> {
    read_bounded(&job.module, MODULE_BYTES_MAX).map_err(|error| not_runnable(job, error))
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    bytes.reserve(usize::try_from(file.metadata()?.len().min(bytes_max)).unwrap_or(0));
    if file.take(bytes_max + 1).read_to_end(&mut bytes)? as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn refused(step: &str, reason: impl ToString) -> Stop {
    Stop::Ended(Ended::Refused(Refusal::new(step, reason.to_string())))
}

fn not_runnable(job: &WasmJob, reason: impl std::fmt::Display) -> Stop {
    let name = job.args.first().map_or("", String::as_str);
    Stop::Ended(Ended::StartFailed { reason: format!("{name}: {reason}") })
}

fn broken(detail: impl Into<String>) -> Stop {
    Stop::Ended(Ended::Limit { limit: "compile".to_owned(), detail: detail.into() })
}

/// A module on its way into the cache.
struct Compilation<'a> {
    start: &'a Start,
    job: &'a WasmJob,
    input: &'a mut Input,
    engine: &'a Engine,
    last_frame: Instant,
}

impl Compilation<'_> {
    /// Gives the machine code that is kept as `kept`, made here unless another worker was quicker.
    fn make(&mut self, kept: &Path, module: &[u8]) -> Result<Vec<u8>, Stop> {
        std::fs::create_dir_all(&self.job.compiled)?;
        // Never removed: who waited for a removed file would hold the lock of nobody.
        let lock_path = kept.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock_path)?;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => self.wait(&[])?,
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever held the lock before has kept what it made, unless the module is at fault.
        match read_bounded(kept, ARTIFACT_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map_err(|error| refused("read the compiled module", error)),
        }
        let artifact = self.compile(kept, module)?;
        keep(kept, &artifact)?;
        Ok(artifact)
    }

    /// Runs the compiler in its cage.
    fn compile(&mut self, kept: &Path, module: &[u8]) -> Result<Vec<u8>, Stop> {
        let scratch = Scratch::new(kept.with_extension("scratch"))?;
        let policy = airlock::compiler_policy(&self.start.sandbox, &scratch.0)
            .map_err(|error| refused("policy of the compiler", error))?;
        let (stdout, stdout_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_end) = pipe_with(PipeFlags::CLOEXEC)?;
        for pipe in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        let output =
            swarm_sandbox::launch::Output { stdout: stdout_end, stderr: stderr_end, door: None, network: None };
        let caged = swarm_sandbox::launch_compiler(&policy, self.engine, module, output)
            .map_err(|error| refused(&error.step, error.reason))?;
        let mut running = Running {
            caged,
            artifact: Collected { pipe: Some(stdout), bytes: Vec::new(), bytes_max: ARTIFACT_BYTES_MAX as usize },
            complaint: Collected { pipe: Some(stderr), bytes: Vec::new(), bytes_max: COMPLAINT_BYTES_MAX },
            end: None,
        };
        let most = self.start.timeout_ms.map_or(COMPILE_MAX, |own| COMPILE_MAX.min(Duration::from_millis(own)));
        let deadline = Instant::now() + most;
        while running.listen()? == Life::Lives {
            if Instant::now() >= deadline {
                return Err(broken(format!("the module was not compiled within {} s", most.as_secs_f32())));
            }
            let fds = running.fds();
            self.wait(&fds)?;
        }
        if running.caged.reap()?.left == Left::MayRun {
            return Err(refused("compile the module", "the compiler could not be ended"));
        }
        let complaint = String::from_utf8_lossy(&running.complaint.bytes).into_owned();
        match running.end {
            Some(Ok(End::Exited(0))) => Ok(running.artifact.bytes),
            Some(Ok(End::Exited(_))) => Err(not_runnable(self.job, complaint)),
            Some(Ok(End::Signaled(signal))) => {
                Err(broken(format!("the compiler of the module was ended by signal {signal}: {complaint}")))
            }
            Some(Err(refusal)) => Err(Stop::Ended(Ended::Refused(refusal))),
            None => Err(refused("compile the module", "the compiler's cage ended without a word")),
        }
    }

    /// Waits until something of `fds` happens, or for a moment; listens to the coordinator and beats.
    fn wait(&mut self, fds: &[BorrowedFd<'_>]) -> Result<(), Stop> {
        let mut all = vec![PollFd::from_borrowed_fd(self.input.fd(), PollFlags::IN)];
        all.extend(fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = if fds.is_empty() { LOOK } else { HEARTBEAT };
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match poll(&mut all, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let spoken = !all[0].revents().is_empty();
        drop(all);
        if spoken {
            match self.input.read()? {
                Heard::Nothing | Heard::Message(ToWorker::Start(_) | ToWorker::Agent { .. }) => {}
                Heard::Message(ToWorker::Cancel { .. }) => return Err(Stop::Ended(Ended::Cancelled)),
                Heard::End => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the coordinator is gone").into());
                }
            }
        }
        if self.last_frame.elapsed() >= HEARTBEAT {
            self.last_frame = Instant::now();
            send(&FromWorker::Heartbeat)?;
        }
        Ok(())
    }
}

/// Writes a file whole or not at all, and lets nobody change it afterwards.
fn keep(kept: &Path, artifact: &[u8]) -> io::Result<()> {
    let draft = kept.with_extension("new");
    // Left by a worker that was killed; its lock is ours now.
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o400).open(&draft)?;
    file.write_all(artifact)?;
    // Else a crash could leave a name without its bytes, which would be damaged for ever.
    file.sync_all()?;
    std::fs::rename(&draft, kept)
}

/// An empty folder, gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> io::Result<Self> {
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Lives,
    Over,
}

/// A compiler in its cage.
struct Running {
    caged: Caged,
    artifact: Collected,
    complaint: Collected,
    /// How it ended, or why it never began.
    end: Option<Result<End, Refusal>>,
}

impl Running {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let pipes = [&self.artifact.pipe, &self.complaint.pipe];
        pipes.into_iter().flatten().map(OwnedFd::as_fd).chain([self.caged.status()]).collect()
    }

    /// Takes all that is there.
    fn listen(&mut self) -> Result<Life, Stop> {
        let mut status = [PollFd::from_borrowed_fd(self.caged.status(), PollFlags::IN)];
        poll(&mut status, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        let spoken = !status[0].revents().is_empty();
        let words = if spoken { self.caged.read() } else { Ok(Vec::new()) };
        // After its last word nothing of it writes any more: what is in the pipes now is all.
        self.artifact.take()?;
        self.complaint.take()?;
        for word in match words {
            Ok(words) => words,
            Err(_) => return Ok(Life::Over),
        } {
            match word {
                Status::Ended { end, .. } => self.end.get_or_insert(Ok(end)),
                Status::Refused(refused) => self.end.get_or_insert(Err(airlock::refusal(refused))),
                Status::Ready { .. }
                | Status::StartFailed { .. }
                | Status::Limit { .. }
                | Status::NotRunnable { .. } => continue,
            };
        }
        Ok(Life::Lives)
    }
}

/// What comes through a pipe.
struct Collected {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Collected {
    fn take(&mut self) -> Result<(), Stop> {
        let mut piece = [0; READ_BYTES];
        while let Some(pipe) = &self.pipe {
            match rustix::io::read(pipe.as_fd(), &mut piece) {
                Ok(0) => self.pipe = None,
                Ok(count) if self.bytes.len() + count > self.bytes_max => {
                    return Err(broken(format!("the compiler made more than {} bytes", self.bytes_max)));
                }
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
