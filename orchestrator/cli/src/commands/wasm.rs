//! `swarm wasm`: one WebAssembly guest in the cage, without a plan, a repository or a worktree.
//!
//! The guest gets what the command line gives it, and nothing of the caller's: no variables, no folders but `--dir`, no input,
//! no network. Made for trying a module before it goes into a plan, and for conformance suites.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use swarm_orchestrator::policy::{self, Looked, View};
use swarm_orchestrator::report::{exit, sanitize, words};
use swarm_orchestrator::settings::GRACE_MS;
use swarm_orchestrator::signal::interrupts;
use swarm_orchestrator::state::{StateDir, make_private_dir_all};
use swarm_orchestrator::threads;
use swarm_orchestrator::worker_process::{Permit, Said, WorkerProgram};
use swarm_protocol::{
    Access, Ended, Grant, Job, LimitsSpec, NetworkSpec, Outcome, SandboxSpec, Start, Tier, VERSION, WasmJob,
    WasmPreopen, WorktreeSpec,
};
use tokio::sync::watch;

use crate::commands::failure::Failure;
use crate::commands::hard_links;
use crate::commands::passed_on::{PassedOn, Passing};
use crate::commands::settling::Left;
use crate::commands::surroundings::{Surroundings, THIS_PROGRAM, host};
use crate::commands::written::Written;

/// The exit code of a guest that broke a limit; one that trapped ends itself with it.
const ENDED_BY_FORCE: u8 = 134;
/// Bytes of output that are passed on.
const OUTPUT_BYTES_MAX: u64 = 1 << 40;

/// Runs a WebAssembly module or component (WASI preview 1 or 2) in the cage.
///
/// It gets no variables, folders or input but those named here. Exit code: the guest's own; 134 when it trapped or broke a
/// limit, 3 when it could not be started, 128 and the number of a signal that ended it.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Wasm {
    /// A folder that the guest can read and write, of those that a plan may have written, and its name for the guest [default:
    /// the same name].
    #[arg(long = "dir", value_name = "HOST[::GUEST]")]
    dirs: Vec<String>,
    /// A variable.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Instructions that it may execute; clocks and random numbers are then the same every time.
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Seconds that it may run.
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// Passes on what it prints as it is, also to a terminal, which obeys control sequences.
    #[arg(long)]
    raw: bool,
    /// The module's file.
    module: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it has the form NAME=VALUE".to_owned()),
    }
}

/// Runs the guest to its end and gives its exit code.
///
/// # Errors
/// A folder is not there, no cage works here, or nobody reads the output.
pub fn run(wasm: &Wasm, it: &Surroundings) -> Result<u8, Failure> {
    let state = StateDir::open(&it.state_or_own()?).map_err(|error| unusable("keep compiled modules", &error))?;
    let places = Places::new(&state).map_err(|error| unusable("make folders for the guest", &error))?;
    let runtime = threads::event_loop();
    let runtime = runtime.map_err(|error| unusable("start", &error))?;
    let mut passed_on = PassedOn::new(Passing::of(wasm.raw), it);
    let (mut broken, mut written) = (None, None);
    let signal = Arc::new(AtomicU8::new(0));
    let outcome = runtime.block_on(async {
        let worker = worker().map_err(|error| unusable("start", &error))?;
        let probe = worker.probe(state.root()).await.map_err(|error| unusable("probe the cage", &error))?;
        let tier = probe.tier.ok_or_else(|| {
            Failure::environment("find a cage that works here", "`swarm doctor` says what is missing".to_owned())
        })?;
        let start = wasm.start(it, &state, &places, tier)?;
        let dirs = start.sandbox.grants.iter().filter(|grant| grant.access == Access::Write);
        written = Some(Written::of(|| dirs.map(|grant| grant.path.clone()).collect(), it)?);
        let (sender, permit) = watch::channel(Permit::Run);
        let mut heard = interrupts().map_err(|error| unusable("listen to signals", &error))?;
        let first = Arc::clone(&signal);
        tokio::spawn(async move {
            while let Some(number) = heard.recv().await {
                let insists = first.compare_exchange(0, number, Relaxed, Relaxed).is_err();
                // A guest that is gone needs no message.
                let _ = sender.send(Permit::Cancel { grace_ms: if insists { 0 } else { GRACE_MS } });
            }
        });
        let mut said = |said: Said| {
            if let Said::Output(stream, bytes) = said {
                broken = broken.take().or_else(|| passed_on.hear(stream, &bytes).err());
            }
        };
        worker.work(start, permit, &mut said, None).await.map_err(|error| unusable("run the guest", &error))
    });
    // Whatever became of the guest: what it left is looked at.
    let left = written.map_or(Ok(Left::Nothing), |written| written.settle(it))?;
    let outcome = outcome?;
    match (broken.or(passed_on.finish().err()), signal.load(Relaxed)) {
        (Some(failure), _) => Err(failure),
        (None, 0) => Ok(left.exit(exit_code(wasm, &outcome)?)),
        (None, number) => Ok(128 + number),
    }
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::environment(format!("{what}: {error}"), None)
}

fn exit_code(wasm: &Wasm, outcome: &Outcome) -> Result<u8, Failure> {
    let told = |code: u8| {
        let message = format!("run {}: {}", wasm.module.display(), words::ended(&outcome.ended));
        Err(Failure::Told { code, message, hint: None })
    };
    match &outcome.ended {
        Ended::Exited { code } => Ok(u8::try_from(*code).unwrap_or(exit::TASK_FAILED)),
        Ended::Signaled { .. } | Ended::Limit { .. } | Ended::TimedOut => told(ENDED_BY_FORCE),
        Ended::Cancelled | Ended::StartFailed { .. } | Ended::Refused(_) => told(exit::ENVIRONMENT),
    }
}

fn worker() -> std::io::Result<WorkerProgram> {
    let diagnostics = std::io::stderr().as_fd().try_clone_to_owned()?;
    Ok(WorkerProgram { program: THIS_PROGRAM.into(), diagnostics: Arc::new(diagnostics.into()), server: None })
}

/// The guest's private folders, gone with this value.
struct Places {
    folder: PathBuf,
}

impl Places {
    fn new(state: &StateDir) -> std::io::Result<Self> {
        let folder = state.path(&format!("wasm/run-{}", std::process::id()));
        for name in ["tree", "home", "tmp"] {
            make_private_dir_all(&folder.join(name))?;
        }
        Ok(Places { folder })
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        // What stays is empty and private.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Wasm {
    fn start(&self, it: &Surroundings, state: &StateDir, places: &Places, tier: Tier) -> Result<Start, Failure> {
        let module = it.folder.join(&self.module);
        let module = module
            .canonicalize()
            .map_err(|error| Failure::usage(format!("find the module {}: {error}", self.module.display()), None))?;
        let (mut grants, mut preopens) = (Vec::new(), Vec::new());
        let host = host()?;
        let view = View { host: &host, places: policy::Places::nowhere(), looked: &Looked::default() };
        let guard = view.guard();
        for dir in &self.dirs {
            let (folder, name) = dir.split_once("::").unwrap_or((dir, dir));
            let path = it.folder.join(folder).canonicalize();
            let path = path.map_err(|error| Failure::usage(format!("find the folder {folder}: {error}"), None))?;
            if !path.is_dir() {
                let message = format!("give the guest {}: it is no folder", sanitize::name(&path.to_string_lossy()));
                return Err(Failure::usage(message, "name the folder that it lies in".to_owned()));
            }
            guard.check(&path, Access::Write).map_err(|reason| {
                let message = format!("give the guest {}: {reason}", sanitize::name(&path.to_string_lossy()));
                Failure::usage(message, "name a folder in it, or another one".to_owned())
            })?;
            hard_links::say(&path, it)?;
            if !grants.iter().any(|grant: &Grant| grant.path == path) {
                grants.push(Grant { path: path.clone(), at: path.clone(), access: Access::Write });
            }
            preopens.push(WasmPreopen { path, name: name.to_owned(), access: Access::Write });
        }
        let name = Path::new(&self.module).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let job = WasmJob {
            module,
            compiled: state.path(StateDir::COMPILED),
            args: std::iter::once(name).chain(self.args.iter().cloned()).collect(),
            preopens,
            fuel: self.fuel,
            seed: 0,
        };
        let tree = places.folder.join("tree");
        let sandbox = SandboxSpec {
            tier,
            worktree: WorktreeSpec::Directory { at: tree.clone(), path: tree },
            grants,
            cow: Vec::new(),
            hide: Vec::new(),
            home: places.folder.join("home"),
            home_files: Vec::new(),
            tmp: (tier == Tier::Landlock).then(|| places.folder.join("tmp")),
            network: NetworkSpec::None,
            limits: LimitsSpec::default(),
            env: self.env.clone(),
        };
        Ok(Start {
            version: VERSION,
            job: Job::Wasm(job),
            sandbox,
            timeout_ms: self.timeout.map(|seconds| seconds.saturating_mul(1_000)),
            grace_ms: 0,
            output_bytes_max: OUTPUT_BYTES_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("=b").is_err() && variable("A").is_err());
    }
}
