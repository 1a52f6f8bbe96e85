//! The commands, one file each. This folder is the only place that prints and reads the environment or the current folder.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use swarm_orchestrator::fault::{self, Fault};
use swarm_orchestrator::report::sanitize::Lines;
use swarm_orchestrator::secrets;

use self::failure::Failure;
use self::given::Given;
use self::surroundings::{Colour, Surroundings};

/// What a person lets a plan ask for.
mod allow;
/// A run's branch into the checkout.
mod apply;
/// A person joins an agent.
mod attach;
/// One command in a cage without a run.
mod caged;
/// The end of a run, from another terminal.
mod cancel;
/// All that is wrong with a plan.
mod check;
/// The disk of finished runs, given back.
mod clean;
/// For shells.
mod completions;
/// What a run or a task changed.
mod diff;
/// What the machine and the repository can do.
mod doctor;
/// A result that is given up.
mod drop;
/// A policy as it turns out on this machine.
mod effective;
/// One command in a caged worktree.
mod exec;
/// What a policy allows, and why not.
mod explain;
/// Why a command did not do what it was asked.
mod failure;
/// What a person gave in front of a command.
mod given;
/// A plan's graph.
mod graph;
/// Files of an opened folder that have other names elsewhere.
mod hard_links;
/// The smallest policy for a command.
mod learn;
/// All runs.
mod list;
/// A person signs in to a server of tools.
mod login;
/// What an attempt printed.
mod logs;
/// The config of a repository that a caged command made.
mod made_config;
/// The index of one.
mod made_index;
/// What its other files name.
mod made_names;
/// Repositories that a caged command made: which may stay.
mod made_repository;
/// For packagers.
mod man;
/// What a caged command does not read.
mod no_input;
/// Files of a folder that git obeys by a repository's config or hooks.
mod obeyed_files;
/// A result as a folder.
mod open;
/// A folder by its descriptor.
mod opened_folder;
/// What a caged command prints, on its way to a person or a file.
mod passed_on;
/// A goal into a plan.
mod plan;
/// A plan from its file, and what is wrong with it.
mod plan_file;
mod probing;
/// A run's summary, or its events.
mod report;
/// Repositories in a folder that a command may write.
mod repositories;
/// Keeps a coordinator small.
mod resident;
/// A parked result, settled by a person.
mod resolve;
/// The rest of an earlier run.
mod resume;
/// Another try for what did not land.
mod retry;
/// A plan, to its end.
mod run;
/// The cage alone.
mod sandbox;
/// For editors.
mod schema;
/// From words to a run and an instance.
mod select;
/// Worktrees of settled results that were left behind.
mod served;
/// What becomes of the repositories that a caged command made.
mod settling;
/// A shell where a task worked.
mod shell;
/// Where the tasks of a run stand.
mod status;
/// What in a repository that a caged command made git obeys.
mod steering;
/// The folder, the streams, the time.
mod surroundings;
/// A terminal inside of the person's.
mod terminal;
/// What a run does not see of the checkout.
mod uncommitted;
/// Folders that a killed command's tasks could write.
mod unsettled;
/// A person's own configuration.
mod user_config;
/// One WebAssembly guest in the cage.
mod wasm;
/// Folders of the person's own that tasks of a plan may write.
mod written;

/// Runs the tasks of a plan in caged worktrees and merges what they change into one branch.
///
/// Exit codes: 0 all succeeded and landed, 1 a task failed, 2 usage or plan error, 3 environment or internal error,
/// 5 finished but something is parked, 6 the base fails its verification, 7 the deadline or the budget is over, 8 another coordinator holds the target,
/// 129, 130, 131 and 143 interrupted.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(flatten)]
    offered: Offered,
    #[command(flatten)]
    for_tests: ForTests,
}

/// What of it is offered to people, as completions.
#[derive(Debug, Parser)]
#[command(name = "swarm", version)]
pub struct Offered {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct ForTests {
    /// What happens at which effect, as in `die@17`.
    #[arg(long, value_name = "ACT@NUMBER", hide = true, global = true)]
    fault: Option<Fault>,
}

/// What every command takes; it stands behind a command's own options.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Works as if started in this folder.
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub folder: Option<PathBuf>,
    /// Where journal, logs and worktrees live [default: swarm/ in the repository's .git].
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// When to colour text; NO_COLOR counts for `auto`.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Colour::Auto, global = true)]
    pub color: Colour,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Plan(plan::Plan),
    Resume(resume::Resume),
    Retry(retry::Retry),
    Resolve(resolve::Resolve),
    Drop(drop::Drop),
    Cancel(cancel::Cancel),
    Check(check::Check),
    Graph(graph::Graph),
    List(list::List),
    Status(status::Status),
    Login(login::Login),
    Logs(logs::Logs),
    Attach(attach::Attach),
    Diff(diff::Diff),
    Report(report::Report),
    Open(open::Open),
    Shell(shell::Shell),
    Apply(apply::Apply),
    Clean(clean::Clean),
    Exec(exec::Exec),
    Wasm(wasm::Wasm),
    Sandbox(sandbox::Sandbox),
    Learn(learn::Learn),
    Explain(explain::Explain),
    Schema(schema::Schema),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Runs the command that `arguments` name; the first of them is the program itself. A reader that closed its pipe ends the
/// program in silence.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let line = match parse(arguments.collect()) {
        Ok(line) => line,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let printed = error.print().and_then(|()| io::Write::flush(&mut io::stdout()));
            return match printed.map_err(|error| Failure::of_output(&error)) {
                // Help that nobody can read is no success.
                Err(failure) if code == 0 => failure.report(&surroundings::stderr(Colour::Auto, Given::default())),
                _ => ExitCode::from(code),
            };
        }
    };
    let surroundings = match Surroundings::capture(&line.offered.global) {
        Ok(surroundings) => surroundings,
        Err(failure) => {
            return failure.report(&surroundings::stderr(line.offered.global.color, Given::of(&line.offered.global)));
        }
    };
    talk_about_oneself();
    line.for_tests.fault.into_iter().for_each(fault::arm);
    match dispatch(&line.offered.command, &surroundings) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(&surroundings.err),
    }
}

/// Our own warnings go to stderr. Those of other libraries belong to nobody until `SWARM_LOG` asks, as in `SWARM_LOG=debug`: they
/// quote what they were sent.
fn talk_about_oneself() {
    let asked = std::env::var("SWARM_LOG").unwrap_or_default();
    tracing::subscriber::set_global_default(talk(&asked, || Talk(io::stderr()))).expect("nobody talked before");
}

fn talk<W>(asked: &str, writer: impl Fn() -> W + Send + Sync + 'static) -> impl tracing::Subscriber + Send + Sync
where
    W: io::Write + 'static,
{
    let own = "swarm=warn".parse().expect("a directive");
    let filter = tracing_subscriber::EnvFilter::builder().with_default_directive(own).parse_lossy(asked);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).without_time().finish()
}

/// Where events go: without any secret, and without what a terminal obeys. Each is written at once.
struct Talk<W>(W);

impl<W: io::Write> io::Write for Talk<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let told = secrets::in_all_masks(String::from_utf8_lossy(event).into_owned());
        self.0.write_all(Lines::default().take(told.as_bytes()).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn parse(arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(arguments)
}

fn dispatch(command: &Command, it: &Surroundings) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => run::run(args, it),
        Command::Plan(args) => plan::run(args, it),
        Command::Resume(args) => resume::run(args, it),
        Command::Login(args) => login::run(args, it),
        Command::Retry(args) => retry::run(args, it),
        Command::Resolve(args) => resolve::run(args, it),
        Command::Drop(args) => drop::run(args, it),
        Command::Cancel(args) => cancel::run(args, it),
        Command::Check(args) => check::run(args, it),
        Command::Graph(args) => graph::run(args, it),
        Command::List(args) => list::run(args, it),
        Command::Status(args) => status::run(args, it),
        Command::Logs(args) => logs::run(args, it),
        Command::Attach(args) => attach::run(args, it),
        Command::Diff(args) => diff::run(args, it),
        Command::Report(args) => report::run(args, it),
        Command::Open(args) => open::run(args, it),
        Command::Shell(args) => shell::run(args, it),
        Command::Apply(args) => apply::run(args, it),
        Command::Clean(args) => clean::run(args, it),
        Command::Exec(args) => exec::run(args, it),
        Command::Wasm(args) => wasm::run(args, it),
        Command::Sandbox(args) => sandbox::run(args, it),
        Command::Learn(args) => learn::run(args, it),
        Command::Explain(args) => explain::run(args, it),
        Command::Schema(args) => schema::run(args, it),
        Command::Doctor(args) => doctor::run(args, it),
        Command::Completions(args) => completions::run(args, it),
        Command::Man(args) => man::run(args, it),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[derive(Clone, Default)]
    struct Heard(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_talk_only_when_they_are_asked_to_and_never_of_a_secret() {
        let secrets = secrets::Secrets::new([("T", "tok-of-a-server")]);
        let told = |asked: &str| {
            let heard = Heard::default();
            let to = heard.clone();
            tracing::subscriber::with_default(talk(asked, move || Talk(to.clone())), || {
                tracing::error!(target: "rmcp::worker", "quit: tok-of-a-server \u{1b}[2J");
                tracing::warn!(target: "swarm_orchestrator::removal", "ours");
            });
            let bytes = heard.0.lock().unwrap().clone();
            String::from_utf8(bytes).expect("text")
        };
        let quiet = told("");
        assert!(quiet.contains("ours") && !quiet.contains("quit"), "{quiet}");
        let asked = told("debug");
        assert!(asked.contains("quit: *** ") && asked.contains("ours") && !asked.contains('\u{1b}'), "{asked}");
        drop(secrets);
    }

    #[test]
    fn the_definition_holds_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_the_documents_promise_parses() {
        for line in [
            "swarm run plan.toml",
            "swarm resume",
            "swarm cancel tour-1 --now",
            "swarm resume tour-1 --json",
            "swarm retry",
            "swarm retry tour-1 build --json",
            "swarm drop tour-1 build",
            "swarm resolve build",
            "swarm resolve tour-1 build --in /tmp/x",
            "swarm resolve tour-1 build --continue --json",
            "swarm resolve build --abort",
            "swarm run plan.toml -j 4 --set a=b --into x --fail-fast --json --dry-run --allow-host-network",
            "swarm plan goal",
            "swarm plan goal --model main -o plan.toml --force --budget-usd 1",
            "swarm run --goal goal --model main --yes",
            "swarm run plan.toml --allow env=NPM_TOKEN --allow read=~/data --allow network=localhost:80",
            "swarm check plan.toml --allow write=/x",
            "swarm check plan.toml",
            "swarm check plan.toml --set a=b --set c=d=e",
            "swarm graph plan.toml --format mermaid",
            "swarm list",
            "swarm status",
            "swarm status tour-1",
            "swarm logs build",
            "swarm logs tour-1 build --attempt 2 --follow --raw",
            "swarm attach fix",
            "swarm attach tour-1 fix --say text",
            "swarm attach fix --answer yes",
            "swarm diff",
            "swarm diff tour-1 build --stat",
            "swarm report tour-1 --format json",
            "swarm open build /tmp/x",
            "swarm open tour-1 build /tmp/x",
            "swarm shell build",
            "swarm shell tour-1 build --start -- git log",
            "swarm apply",
            "swarm clean --dry-run",
            "swarm exec -- cargo test --workspace",
            "swarm exec --keep -- sh -c true",
            "swarm exec --plan p.toml --policy x --allow env=A_KEY -- true",
            "swarm sandbox -- make test",
            "swarm sandbox --raw -- make test",
            "swarm wasm --raw x.wasm",
            "swarm sandbox --ro --network host --plan p.toml --policy x -- true",
            "swarm learn -- cargo build",
            "swarm explain --task t p.toml",
            "swarm explain --task t p.toml --path ~/x --write",
            "swarm explain --task t p.toml --host example.org:443",
            "swarm schema",
            "swarm resolve build --abort --force",
            "swarm completions zsh",
            "swarm -C /tmp list --color never --state-dir /tmp/s",
        ] {
            let parsed = parse(line.split(' ').map(OsString::from).collect());
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("checked"));
        }
    }

    #[test]
    fn what_is_wrong_exits_with_two() {
        for line in [
            "swarm bogus",
            "swarm plan",
            "swarm run p.toml --goal x",
            "swarm run p.toml --yes",
            "swarm run --goal x --set a=b",
            "swarm logs",
            "swarm graph p --format pdf",
            "swarm check p --set x",
            "swarm run p --allow NPM_TOKEN",
            "swarm run p --allow read=data",
            "swarm logs a b c",
            "swarm drop",
            "swarm resolve",
            "swarm resolve build --abort --continue",
            "swarm resolve build --force",
            "swarm open build",
            "swarm shell -- true",
            "swarm sandbox",
            "swarm sandbox --policy x -- true",
            "swarm explain p.toml",
            "swarm explain p.toml --task t --write",
        ] {
            let error = parse(line.split(' ').map(OsString::from).collect()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
