//! One command in a cage without a run: the worker's conversation held on the spot, what the command prints passed on.

use std::io::{BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use swarm_orchestrator::policy::{AttemptPlaces, Cage};
use swarm_orchestrator::report::{exit, sanitize, words};
use swarm_orchestrator::secrets::Secrets;
use swarm_orchestrator::settings::GRACE_MS;
use swarm_orchestrator::signal;
use swarm_orchestrator::state::{self, Unsearched, make_private_dir_all};
use swarm_orchestrator::threads;
use swarm_protocol::{
    Ended, FrameReader, FromWorker, Job, Outcome, SandboxSpec, Start, Stream, Tier, ToWorker, VERSION, WorktreeSpec,
    encode,
};

use crate::commands::failure::Failure;
use crate::commands::repositories::ENTRIES_MAX;
use crate::commands::surroundings::{Surroundings, THIS_PROGRAM};

/// A folder of this process's own that goes with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one where temporary files go.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn temporary() -> Result<Self, Failure> {
        Self::below(&std::env::temp_dir())
    }

    /// Makes one in the state folder of the repository around, which can hold overlays where that is possible at all.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn in_state(it: &Surroundings) -> Result<Self, Failure> {
        Self::below(&it.state().unwrap_or_else(|_| std::env::temp_dir()))
    }

    fn below(parent: &Path) -> Result<Self, Failure> {
        let path = parent.join(format!("alone-{}", std::process::id()));
        let failed = |error: std::io::Error| Failure::environment(format!("use {}: {error}", path.display()), None);
        std::fs::create_dir_all(parent).map_err(failed)?;
        // Whoever was here before is gone or no friend.
        std::fs::create_dir(&path).map_err(failed)?;
        make_private_dir_all(&path).map_err(failed)?;
        Ok(Scratch(path.canonicalize().map_err(failed)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A private folder in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        let failed = |error: std::io::Error| Failure::environment(format!("use {}: {error}", path.display()), None);
        make_private_dir_all(&path).map_err(failed)?;
        Ok(path)
    }

    /// For [`Cage::spec`].
    pub fn places(&self) -> AttemptPlaces {
        AttemptPlaces { folder: self.0.clone(), relative: ".".to_owned() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An overlay leaves a folder without permissions behind.
        for scratch in ["work/work", "work/work/incompat", "work/work/incompat/volatile"] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            drop(std::fs::set_permissions(self.0.join(scratch), open));
        }
        // What cannot be removed is in a folder that `swarm clean` and reboots look after.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The spec of a cage around `worktree`, and the folders that it names made.
///
/// # Errors
/// A folder cannot be made.
pub fn spec(cage: &Cage, worktree: WorktreeSpec, scratch: &Scratch) -> Result<SandboxSpec, Failure> {
    let spec = cage.spec(worktree, Vec::new(), Vec::new(), Vec::new(), &scratch.places());
    if spec.tmp.is_some() {
        scratch.folder("tmp")?;
        scratch.folder("home")?;
    }
    Ok(spec)
}

/// Hides the state of the repository around, with other runs' logs and layers, where it would be seen.
pub fn hide_state(spec: &mut SandboxSpec, folder: &Path, it: &Surroundings) {
    let state = it.state().ok().and_then(|state| state.canonicalize().ok());
    let hidden = |state: &PathBuf| spec.hide.iter().any(|hidden| state.starts_with(hidden));
    let state = state.filter(|state| state.starts_with(folder) && spec.tier > Tier::Landlock && !hidden(state));
    spec.hide.extend(state);
}

/// Hides every state folder in a folder that a command may read and not write, and says which. That of the repository around goes
/// without saying, where it costs nothing: in the landlock tier no folder can be listed that holds what is hidden.
///
/// # Errors
/// The folder holds too much to know, or nobody reads what is said.
pub fn hide_states(spec: &mut SandboxSpec, folder: &Path, it: &Surroundings) -> Result<(), Failure> {
    let states = state::below(folder, usize::MAX, ENTRIES_MAX).map_err(|error| {
        let place = sanitize::name(&folder.to_string_lossy());
        let why = match error {
            Unsearched::TooMany => "it holds more than 2,000,000 entries, and swarm's state may be among them",
            Unsearched::Unreadable => "a folder in it cannot be read to its end, and may hold swarm's state",
        };
        Failure::usage(
            format!("show {place} to the command: {why}"),
            "go to a smaller folder, or use swarm exec".to_owned(),
        )
    })?;
    let own = it.state().ok().and_then(|state| state.canonicalize().ok());
    let is_told = |state: &&PathBuf| spec.tier == Tier::Landlock || Some(*state) != own.as_ref();
    let told: Vec<PathBuf> = states.iter().filter(is_told).cloned().collect();
    say_hidden(&told, folder, it)?;
    if spec.tier == Tier::Landlock && !told.is_empty() {
        it.err.write("swarm: in the landlock tier the folders around what is hidden cannot be listed\n")?;
    }
    spec.hide.extend(states);
    hide_state(spec, folder, it);
    Ok(())
}

/// State folders that are named; of more, their number is.
const NAMED_MAX: usize = 5;

/// Says which folders a command does not see although they are there.
///
/// # Errors
/// Nobody reads it.
pub fn say_hidden(states: &[PathBuf], folder: &Path, it: &Surroundings) -> Result<(), Failure> {
    if states.is_empty() {
        return Ok(());
    }
    let name = |state: &PathBuf| sanitize::name(&state.strip_prefix(folder).unwrap_or(state).to_string_lossy());
    let mut names: Vec<String> = states.iter().take(NAMED_MAX).map(name).collect();
    if states.len() > NAMED_MAX {
        names.push(format!("{} more", states.len() - NAMED_MAX));
    }
    it.err.write(&format!("swarm: hidden from the command, as swarm keeps its state there: {}\n", names.join(", ")))
}

/// What is left of a command.
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// The signal by which a person ended it.
    pub interrupted: Option<u8>,
}

/// What a person's Ctrl-C does while a command runs, or their terminal's end: the first ends it in order, the next at once. Without it
/// this program would be gone before it has looked at what the command left.
struct Interrupts {
    /// To the worker; taken when it is to end.
    input: Mutex<Option<ChildStdin>>,
    /// The first signal; 0 is none.
    signal: AtomicU8,
}

impl Interrupts {
    /// Sends a message, as long as anybody hears it.
    fn send(&self, message: &ToWorker) -> std::io::Result<()> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.as_mut().map_or(Ok(()), |input| input.write_all(&encode(message)))
    }

    /// Listens until the program ends.
    fn listen(self: Arc<Self>) -> std::io::Result<()> {
        let runtime = threads::event_loop()?;
        // Set before the worker has its job: from now on no signal ends this program by itself.
        let mut heard = runtime.block_on(async { signal::interrupts() })?;
        let hear = move || {
            runtime.block_on(async {
                while let Some(number) = heard.recv().await {
                    let first = self.signal.compare_exchange(0, number, Relaxed, Relaxed).is_ok();
                    // A worker that is gone needs no message.
                    drop(self.send(&ToWorker::Cancel { grace_ms: if first { GRACE_MS } else { 0 } }));
                }
            });
        };
        std::thread::Builder::new().name("interrupts".to_owned()).spawn(hear).map(drop)
    }
}

/// A worker that was started and has no job yet. Without one it ends when this is dropped, or this program is gone.
pub struct Waiting(Child);

impl Waiting {
    /// Starts one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin() -> Result<Self, Failure> {
        let child = Command::new(THIS_PROGRAM)
            .args([swarm_worker::SUBCOMMAND, "--stdio"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A terminal's Ctrl-C is for this program, which passes it on.
            .process_group(0)
            .spawn();
        child.map(Waiting).map_err(|error| failed(&error))
    }

    /// Runs `argv` in a cage to its end; `hear` gets what it prints, without the cage's secrets.
    ///
    /// # Errors
    /// There is no result: a failure of ours or of the machine.
    pub fn run(
        mut self,
        argv: Vec<String>,
        cwd: PathBuf,
        sandbox: SandboxSpec,
        secrets: &Secrets,
        hear: &mut dyn FnMut(Stream, Vec<u8>) -> Result<(), Failure>,
    ) -> Result<Ran, Failure> {
        let Waiting(child) = &mut self;
        let interrupts = Arc::new(Interrupts { input: Mutex::new(child.stdin.take()), signal: AtomicU8::new(0) });
        Arc::clone(&interrupts).listen().map_err(|error| failed(&error))?;
        let mut frames = FrameReader::new(BufReader::new(child.stdout.take().expect("piped, and taken here only")));
        let start = Start {
            version: VERSION,
            job: Job::Command { argv, cwd },
            sandbox,
            timeout_ms: None,
            grace_ms: GRACE_MS,
            // All of it is passed on at once.
            output_bytes_max: u64::MAX,
        };
        let outcome = converse(&interrupts, start, &mut frames, secrets, hear);
        // Where nobody reads what it prints, or it cannot be understood: without its input it ends, and all of its cage with it, and
        // only then somebody looks at what it left.
        drop(interrupts.input.lock().unwrap_or_else(PoisonError::into_inner).take());
        while let Ok(Some(_)) = frames.read::<FromWorker>() {}
        drop(frames);
        child.wait().map_err(|error| failed(&error))?;
        let signal = interrupts.signal.load(Relaxed);
        Ok(Ran { outcome: outcome?, interrupted: (signal != 0).then_some(signal) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Which closes its input first. One that has run was waited for already.
        drop(self.0.wait());
    }
}

/// Has a worker do its work, and passes on what it prints until it has its result.
fn converse(
    interrupts: &Interrupts,
    start: Start,
    frames: &mut FrameReader<impl std::io::BufRead>,
    secrets: &Secrets,
    hear: &mut dyn FnMut(Stream, Vec<u8>) -> Result<(), Failure>,
) -> Result<Outcome, Failure> {
    interrupts.send(&ToWorker::Start(Box::new(start))).map_err(|error| failed(&error))?;
    if interrupts.signal.load(Relaxed) != 0 {
        // It came before anybody could have been told.
        interrupts.send(&ToWorker::Cancel { grace_ms: 0 }).map_err(|error| failed(&error))?;
    }
    let mut masked = Stream::ALL.map(|stream| (stream, secrets.stream()));
    loop {
        match frames.read().map_err(|error| failed(&error))? {
            Some(FromWorker::Output { stream, chunk }) => {
                let bytes = chunk.into_bytes().unwrap_or_default();
                for (_, mask) in masked.iter_mut().filter(|(of, _)| *of == stream) {
                    hear(stream, mask.take(&bytes))?;
                }
            }
            Some(FromWorker::Finished { outcome }) => {
                for (stream, mask) in &mut masked {
                    hear(*stream, mask.finish())?;
                }
                return Ok(outcome);
            }
            Some(_) => {}
            None => return Err(failed(&"it ended without a result")),
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::environment(format!("talk to the worker: {error}"), None)
}

/// Says what kept a command from its end, with what the cage refused, and gives the exit status to pass on: the command's
/// own, 128 and the number of the signal that ended it or that a person sent, 127 when it could not be started, 3 when the cage could not be closed.
///
/// # Errors
/// Nobody reads it.
pub fn conclude(ran: &Ran, cage: &Cage, it: &Surroundings) -> Result<u8, Failure> {
    let (ended, secrets) = (&ran.outcome.ended, Secrets::new(cage.secrets()));
    let code = match ended {
        Ended::Exited { code } => u8::try_from(*code).unwrap_or(exit::TASK_FAILED),
        Ended::Signaled { signal } => u8::try_from(128 + signal).unwrap_or(exit::TASK_FAILED),
        Ended::StartFailed { .. } => 127,
        Ended::Refused(_) => exit::ENVIRONMENT,
        _ => exit::TASK_FAILED,
    };
    if !matches!(ended, Ended::Exited { .. }) {
        it.err.write(&format!("swarm: the command {}\n", sanitize::name(&secrets.text(&words::ended(ended)))))?;
    }
    if let Some(left) = ran.outcome.left_running.as_ref().filter(|_| !matches!(ended, Ended::Refused(_))) {
        it.err.write(&format!("swarm: {}\n", sanitize::name(left)))?;
    }
    it.err.write(&secrets.text(&words::refusals(&cage.origin.seen(&ran.outcome.refusals), "swarm: ")))?;
    Ok(ran.interrupted.map_or(code, |signal| 128 + signal))
}

/// The words of a command line.
///
/// # Errors
/// One is not UTF-8.
pub fn utf8(words: &[std::ffi::OsString]) -> Result<Vec<String>, Failure> {
    let text = |word: &std::ffi::OsString| {
        word.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::usage(format!("run {}: it is not UTF-8", word.display()), None))
    };
    words.iter().map(text).collect()
}
