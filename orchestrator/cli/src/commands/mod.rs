//! The commands, one file each. This folder is the only place that prints and reads the environment or the current folder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::Failure;
use self::surroundings::{Colour, Surroundings};

/// A run's branch into the checkout.
mod apply;
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
/// One command in a caged worktree.
mod exec;
/// Why a command did not do what it was asked.
mod failure;
/// A plan's graph.
mod graph;
/// All runs.
mod list;
/// What an attempt printed.
mod logs;
/// For packagers.
mod man;
/// A result as a folder.
mod open;
/// A plan from its file, and what is wrong with it.
mod plan_file;
/// A run's summary, or its events.
mod report;
/// A plan, to its end.
mod run;
/// For editors.
mod schema;
/// From words to a run and an instance.
mod select;
/// Where the tasks of a run stand.
mod status;
/// The folder, the streams, the time.
mod surroundings;

/// Runs the tasks of a plan in caged worktrees and merges what they change into one branch.
///
/// Exit codes: 0 all succeeded and landed, 1 a task failed, 2 usage or plan error, 3 environment or internal error,
/// 5 finished but something is parked, 7 the deadline is over, 8 another coordinator holds the target,
/// 130 and 143 interrupted.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
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
    Check(check::Check),
    Graph(graph::Graph),
    List(list::List),
    Status(status::Status),
    Logs(logs::Logs),
    Diff(diff::Diff),
    Report(report::Report),
    Open(open::Open),
    Apply(apply::Apply),
    Clean(clean::Clean),
    Exec(exec::Exec),
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
            let code = error.exit_code();
            // Nothing is left to say it to when this fails.
            drop(error.print());
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    let surroundings = match Surroundings::capture(&line.global) {
        Ok(surroundings) => surroundings,
        Err(failure) => return failure.report(surroundings::stderr_style(line.global.color)),
    };
    talk_about_oneself();
    match dispatch(&line.command, &surroundings) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(surroundings.err.style),
    }
}

/// Warnings of the library go to stderr; `SWARM_LOG` asks for more, as in `SWARM_LOG=debug`.
fn talk_about_oneself() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .with_env_var("SWARM_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}

fn parse(arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(arguments)
}

fn dispatch(command: &Command, it: &Surroundings) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => run::run(args, it),
        Command::Check(args) => check::run(args, it),
        Command::Graph(args) => graph::run(args, it),
        Command::List(args) => list::run(args, it),
        Command::Status(args) => status::run(args, it),
        Command::Logs(args) => logs::run(args, it),
        Command::Diff(args) => diff::run(args, it),
        Command::Report(args) => report::run(args, it),
        Command::Open(args) => open::run(args, it),
        Command::Apply(args) => apply::run(args, it),
        Command::Clean(args) => clean::run(args, it),
        Command::Exec(args) => exec::run(args, it),
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

    #[test]
    fn the_definition_holds_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_the_documents_promise_parses() {
        for line in [
            "swarm run plan.toml",
            "swarm run plan.toml -j 4 --set a=b --into x --fail-fast --json --dry-run --allow-host-network",
            "swarm check plan.toml",
            "swarm check plan.toml --set a=b --set c=d=e",
            "swarm graph plan.toml --format mermaid",
            "swarm list",
            "swarm status",
            "swarm status tour-1",
            "swarm logs build",
            "swarm logs tour-1 build --attempt 2 --follow --raw",
            "swarm diff",
            "swarm diff tour-1 build --stat",
            "swarm report tour-1 --format json",
            "swarm open build /tmp/x",
            "swarm open tour-1 build /tmp/x",
            "swarm apply",
            "swarm clean --dry-run",
            "swarm exec -- cargo test --workspace",
            "swarm exec --keep -- sh -c true",
            "swarm schema",
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
            "swarm logs",
            "swarm graph p --format pdf",
            "swarm check p --set x",
            "swarm logs a b c",
            "swarm open build",
        ] {
            let error = parse(line.split(' ').map(OsString::from).collect()).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
