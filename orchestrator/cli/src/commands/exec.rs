//! `swarm exec -- CMD`: one command in a caged worktree of HEAD; what it changed is shown and thrown away, or kept.
//!
//! It is a run like any other, of a plan with one task that is written here. It lands on a branch of its own, named after it, so that
//! `--keep` leaves something that git knows by name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use swarm_orchestrator::commit::{attempt_ref, base_ref};
use swarm_orchestrator::event::AttemptEnd;
use swarm_orchestrator::ids::branch_of;
use swarm_orchestrator::journal::{InstanceState, RunState, log_path};
use swarm_orchestrator::report::diff::Form as DiffForm;
use swarm_orchestrator::report::{Reports, exit, sanitize, words};
use swarm_orchestrator::repository::{Repository, Swap};
use swarm_orchestrator::run::LoadedPlan;
use swarm_orchestrator::settings::{HostNetwork, IntoBranch};
use swarm_orchestrator::target::forget;
use swarm_plans::{DEFAULT_SANDBOX, InstanceId, TaskGraph};

use crate::commands::allow::Allow;
use crate::commands::diff;
use crate::commands::failure::Failure;
use crate::commands::logs::{Form, Printer};
use crate::commands::no_input;
use crate::commands::plan_file::render;
use crate::commands::run::{live, plain_settings, start};
use crate::commands::sandbox::policy_text;
use crate::commands::surroundings::{ReaderKind, Surroundings};
use crate::commands::uncommitted;

/// Runs one command in a caged worktree of HEAD and shows what it changed.
///
/// It reads nothing: its standard input is /dev/null. Exit codes as in the help of `swarm`: 1 when the command failed, whatever its own code is, which is said on stderr; `swarm
/// sandbox -- CMD` passes it on.
#[derive(Debug, clap::Args)]
pub struct Exec {
    /// Keeps the change as a branch with the run's name, swarm/exec-N; otherwise it is thrown away.
    #[arg(long)]
    keep: bool,
    /// The plan that holds the policy.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A [sandbox.NAME] of that plan [default: default].
    #[arg(long, value_name = "NAME", requires = "plan")]
    policy: Option<String>,
    /// Lets the policy use the host's network where it asks for it.
    #[arg(long)]
    allow_host_network: bool,
    #[command(flatten)]
    allow: Allow,
    /// The program and its arguments.
    #[arg(value_name = "CMD", required = true, num_args = 1.., last = true)]
    command: Vec<OsString>,
}

/// The name of the plan that is written here.
pub const PLAN: &str = "exec";

/// The task's name, and so its only instance's.
const TASK: &str = "exec";

/// What the command printed on stderr, the difference on stdout; exit code 1 when the command failed.
///
/// # Errors
/// The command cannot be caged, or something of ours failed.
pub fn run(args: &Exec, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let loaded = load(args, &repository, it)?;
    uncommitted::say(&repository, &loaded.graph.plan().base, None, it)?;
    let mut reports = Reports::new(match it.err.reader {
        ReaderKind::Terminal => vec![live(it)],
        ReaderKind::Other => Vec::new(),
    });
    let mut settings = plain_settings(it)?;
    settings.into = IntoBranch::OfRun;
    settings.host_network = if args.allow_host_network { HostNetwork::Allowed } else { HostNetwork::Refused };
    settings.allowed = args.allow.allow.clone();
    let ended = start(loaded, settings, &mut reports, it)?;
    let state = reports.state();
    let id = InstanceId(TASK.into());
    let shown = match (&state.run, state.instances.get(&id)) {
        (Some(run), Some(instance)) => show(&repository, &log_path_of(run, &id, instance, it)?, instance, it),
        _ => Ok(()),
    };
    if args.keep {
        if let Some(target) = &state.target
            && repository.find_ref(target)?.is_some()
        {
            it.err.write(&format!("kept as {}\n", branch_of(target)))?;
        }
    } else {
        forget_branch(&repository, state, it)?;
        if let (Some(run), Some(instance)) = (&state.run, state.instances.get(&id)) {
            for attempt in instance.attempts.iter() {
                repository.delete_ref(&attempt_ref(run, &id, attempt.attempt))?;
            }
            repository.delete_ref(&base_ref(run))?;
        }
    }
    shown?;
    no_input::say(&args.command, it)?;
    Ok(ended.exit)
}

/// Removes the branch that a command's change landed on, if it is as this run left it: while the command ran, and since, it is anybody's
/// who likes its name.
fn forget_branch(repository: &Repository, state: &RunState, it: &Surroundings) -> Result<(), Failure> {
    match (forget(repository, state)?, &state.target) {
        (Swap::Moved(_), Some(target)) => {
            it.err.write(&format!("note: somebody else works on {} by now: it stays\n", branch_of(target)))
        }
        _ => Ok(()),
    }
}

fn log_path_of(
    run: &swarm_orchestrator::ids::RunId,
    id: &InstanceId,
    instance: &InstanceState,
    it: &Surroundings,
) -> Result<std::path::PathBuf, Failure> {
    let attempt = instance.last_attempt().map_or(swarm_orchestrator::ids::Attempt(1), |attempt| attempt.attempt);
    Ok(log_path(&it.state()?, run, id, attempt))
}

fn show(repository: &Repository, log: &Path, instance: &InstanceState, it: &Surroundings) -> Result<(), Failure> {
    Printer::new(log, Form::Harmless, it.err.clone()).print()?;
    if let Some(attempt) = instance.last_attempt() {
        if let Some(end) = attempt.end().filter(|end| **end != AttemptEnd::Succeeded) {
            it.err.write(&format!("the command {}\n", words::end(end)))?;
        }
        it.err.write(&words::refusals(attempt.refusals(), ""))?;
        for note in attempt.notes() {
            it.err.write(&format!("note: {}\n", sanitize::name(note)))?;
        }
    }
    if let Some(change) = instance.change() {
        let to = change.commit.to_string();
        diff::show(repository, (&format!("{to}^"), &to), DiffForm::Patch, it)?;
    }
    Ok(())
}

fn load(args: &Exec, repository: &Repository, it: &Surroundings) -> Result<LoadedPlan, Failure> {
    let words: Vec<&str> = args
        .command
        .iter()
        .map(|word| word.to_str().ok_or_else(|| Failure::usage(format!("run {word:?}: it is not UTF-8"), None)))
        .collect::<Result<_, _>>()?;
    let below = repository.workdir().and_then(|root| it.folder.strip_prefix(root).ok());
    let below = below.filter(|below| !below.as_os_str().is_empty()).map(|below| below.to_string_lossy().into_owned());
    let mut text = plan_text(&words, below.as_deref());
    if let Some(plan) = &args.plan {
        let name = args.policy.as_deref().unwrap_or(DEFAULT_SANDBOX);
        // The journal keeps this text, so a run that is gone on with has the same policy.
        text.push_str(&format!("sandbox = {}\n\n{}", literal(name), policy_text(plan, name, it)?));
    }
    written(PLAN, &text, it)
}

/// A plan that this program wrote itself, by its name; it includes nothing.
///
/// # Errors
/// It has mistakes, which come from what a person asked for; they are on stderr then.
pub fn written(name: &str, text: &str, it: &Surroundings) -> Result<LoadedPlan, Failure> {
    let parsed = swarm_plans::parse(name, text, &[], &mut |_| Err("there is nothing to include".to_owned()));
    let told = |diagnostics: &[_]| -> Failure {
        let text = render(diagnostics, &parsed.sources, it.err.style, it.err.columns());
        it.err.write(&text).err().unwrap_or(Failure::Said(exit::USAGE))
    };
    let plan = parsed.plan.clone().ok_or_else(|| told(&parsed.diagnostics))?;
    let graph = TaskGraph::expand(plan).map_err(|diagnostics| told(&diagnostics))?;
    Ok(LoadedPlan { graph, sources: parsed.sources })
}

/// A plan with one task that runs `words`, in the folder `below` of the worktree's root.
fn plan_text(words: &[&str], below: Option<&str>) -> String {
    // The shell is only there to change the folder: the words stay words.
    let inside = ["sh", "-c", "cd -- \"$1\" && shift && exec \"$@\"", "sh"];
    let argv: Vec<String> = match below {
        Some(below) => inside.iter().copied().chain([below]).chain(words.iter().copied()).map(literal).collect(),
        None => words.iter().copied().map(literal).collect(),
    };
    format!("version = 1\nname = \"{PLAN}\"\n\n[tasks.{TASK}]\nargv = [{}]\n", argv.join(", "))
}

/// A word as a TOML string whose template gives the word again.
pub fn literal(word: &str) -> String {
    let template = word.replace('{', "{{ '{' }}");
    let json = serde_json::to_string(&template).expect("a string");
    // JSON leaves DEL as it is, TOML does not allow it.
    json.replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let words = ["printf", "%s", "{{ x }} {% y %} {# z", "a\"b\\c\n\t\u{7f}é", "$HOME", ""];
        let text = plan_text(&words, None);
        let parsed = swarm_plans::parse("exec", &text, &[], &mut |_| Err(String::new()));
        let graph = TaskGraph::expand(parsed.plan.expect("a plan without mistakes")).expect("one task");
        let ix = graph.instance_by_id(TASK).expect("the only one");
        let needs = serde_json::Value::Null;
        let context = swarm_plans::RenderContext {
            run_name: "exec",
            run_id: "exec-1",
            base: "",
            target: None,
            needs: &needs,
            env: &|_| None,
            seed: None,
        };
        let rendered = graph.render(ix, &context).expect("renders");
        assert_eq!(rendered.argv, words);
    }
}
