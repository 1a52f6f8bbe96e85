//! `swarm shell [RUN] TASK`: a shell where a task worked, in its own cage.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::sync::Arc;

use swarm_orchestrator::executor::shell::{At, Ground, ShellError};
use swarm_orchestrator::policy::PolicyError;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::secrets::Secrets;
use swarm_orchestrator::state::StateDir;
use swarm_protocol::Question;

use crate::commands::allow;
use crate::commands::caged::{self, Ran};
use crate::commands::failure::Failure;
use crate::commands::passed_on::{PassedOn, Passing};
use crate::commands::probing::Probing;
use crate::commands::select;
use crate::commands::settling::Left;
use crate::commands::surroundings::{Surroundings, host};
use crate::commands::written::Written;
use crate::commands::{no_input, terminal, user_config};

/// Opens a shell in a fresh worktree of a task's result, in the task's own cage and with its variables.
///
/// What you change there is thrown away when you leave, and nothing of it is collected. `swarm open` gives the result as a
/// folder for your own tools instead.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm shell [OPTIONS] [RUN] TASK [-- CMD...]")]
pub struct Shell {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "WORD", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// The tree that the task started from, not its result.
    #[arg(long)]
    start: bool,
    /// Passes on what CMD prints as it is, also to a terminal, which obeys control sequences.
    #[arg(long)]
    raw: bool,
    /// Runs this instead of a shell; needs no terminal, and finds /dev/null on standard input.
    #[arg(value_name = "CMD", last = true)]
    command: Vec<OsString>,
}

/// What is a shell inside: the one that the cage shows.
const INTERACTIVE: [&str; 3] = ["sh", "-c", "if command -v bash >/dev/null; then exec bash -i; else exec sh -i; fi"];

/// The exit status of the shell or the command, as the command line passes it on.
///
/// # Errors
/// There is no such run or task, it cannot be caged, or there is no terminal.
pub fn run(args: &Shell, it: &Surroundings) -> Result<u8, Failure> {
    let repository = Arc::new(it.repository()?);
    let state_dir = it.state_of(&repository);
    let journal = it.journal(&state_dir)?;
    let (row, state, id) = select::instance(&journal, &args.words)?;
    let words = format!("{} {}", row.id, sanitize::shell_word(&id.0));
    let change = state.instances[&id].attempts.iter().rev().find_map(|attempt| attempt.change());
    if args.command.is_empty() && !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        let start = if args.start || change.is_none() { "--start " } else { "" };
        let hint = format!("swarm shell {start}{words} -- CMD runs one command");
        return Err(Failure::usage("open a shell: this is no terminal", hint));
    }
    let at = if args.start { At::Start } else { At::Result };
    let state = StateDir::open(&state_dir)
        .map_err(|error| Failure::environment(format!("use {}: {error}", state_dir.display()), None))?;
    let probing = Probing::begin(Question::Strongest, state.root())?;
    let (host, user) = (host()?, user_config::load(it)?);
    let machine = probing.machine()?;
    let ground =
        Ground { repository, state, journal: &journal, row: &row, machine: &machine, host: &host, user: &user };
    let place = ground.place(&id, at, change.map(|change| change.commit)).map_err(|error| match error {
        ShellError::Run(error) => (*error).into(),
        ShellError::Journal(error) => error.into(),
        ShellError::Held(error) => error.into(),
        ShellError::NoResult(_) => {
            Failure::usage(&error, format!("swarm shell --start {words} shows where it started"))
        }
        ShellError::Policy(PolicyError::Word { asks }) => allow::refused(&asks, &[]),
        ShellError::Unknown(_) => Failure::usage(&error, format!("swarm status {}", row.id)),
        error => Failure::environment(error, None),
    })?;
    for note in &place.notes {
        it.err.write(&format!("swarm: {}\n", sanitize::name(note)))?;
    }
    let (cage, mut spec, cwd) = (place.cage.clone(), place.spec.clone(), place.cwd.clone());
    let written = Written::of_run(&journal, &row, it)?;
    let ran = if args.command.is_empty() {
        let what = if args.start { "where it started" } else { "what it left" };
        it.err.write(&format!("swarm: {words}: {what}; what you change here is thrown away\n"))?;
        spec.env.extend(std::env::var("TERM").ok().map(|terminal| ("TERM".to_owned(), terminal)));
        terminal::run(INTERACTIVE.map(str::to_owned).to_vec(), cwd, spec)
    } else {
        let secrets = Secrets::new(cage.secrets());
        let argv = caged::utf8(&args.command)?;
        let mut passed_on = PassedOn::new(Passing::of(args.raw), it);
        let ran = caged::Waiting::begin()?
            .run(argv, cwd, spec, &secrets, &mut |stream, bytes| passed_on.hear(stream, &bytes));
        passed_on.finish().and(ran)
    };
    let went = place.leave();
    // Whatever became of it, and whether anybody reads what is said: what it left is looked at.
    let left = written.settle(it);
    if let Err(error) = went {
        it.err.write(&format!("swarm: its worktree is left to `swarm clean`: {error}\n"))?;
    }
    let (left, ran): (Left, Ran) = (left?, ran?);
    if !args.command.is_empty() {
        no_input::say(&args.command, it)?;
    }
    Ok(left.exit(caged::conclude(&ran, &cage, it)?))
}
