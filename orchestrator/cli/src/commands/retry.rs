//! `swarm retry [RUN] [TASK]`: another try for what failed or is parked.

use std::path::Path;
use std::time::Duration;

use swarm_orchestrator::agent::fork;
use swarm_orchestrator::commit::attempt_ref;
use swarm_orchestrator::event::Fate;
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{JournalReader, LockError, RunLock, RunState, attempt_dir};
use swarm_orchestrator::report::exit::is_resumable;
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::resume::{Wanted, retry};
use swarm_orchestrator::run::RunError;
use swarm_orchestrator::second_word::{SettledByHand, given_up, worth_another_try_of};
use swarm_orchestrator::settings::{BudgetAsked, Settings};
use swarm_plans::InstanceId;

use crate::commands::failure::Failure;
use crate::commands::resolve::{Settlement, open_ones};
use crate::commands::run::{
    BudgetFlags, DeadlineFlag, JobsFlag, JsonEvents, dollars, duration_of, on_event_loop, plain_settings, reports,
    say_end,
};
use crate::commands::select;
use crate::commands::served::remove_served;
use crate::commands::surroundings::Surroundings;
use crate::commands::written::Written;

/// Gives what failed or is parked another try; a parked change is merged again, and its task runs once more when it still does
/// not fit.
///
/// The plan is the one that the run began with. The exit code is that of the whole run: another failure that is not tried again
/// still counts.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm retry [OPTIONS] [RUN] [TASK]")]
pub struct Retry {
    /// The run (its id or its plan's name; the newest run when left out), then an instance, a task with all of its
    /// instances, or a pattern with `*` [default: all].
    #[arg(value_name = "WORD", num_args = 0..=2)]
    words: Vec<String>,
    /// Lets the agent of TASK, which failed, go on with the conversation of its newest attempt as if it had ended behind its Nth
    /// answer: that far it is given once more, which costs nothing, and from there the model is asked anew, without being told
    /// how the attempt ended. The transcript of that attempt stays as it is.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    from_turn: Option<u32>,
    #[command(flatten)]
    jobs: JobsFlag,
    #[command(flatten)]
    budget: RaisedFlags,
    #[command(flatten)]
    deadline: DeadlineFlag,
    /// Prints one JSON event a line on stdout.
    #[arg(long)]
    json: bool,
}

/// Larger budgets.
#[derive(Debug, Clone, Copy, clap::Args)]
struct RaisedFlags {
    /// Dollars that the run, and each task that is tried again and each try of it, may spend on models at least: where the plan
    /// has less for them.
    #[arg(long, value_name = "USD", value_parser = dollars)]
    budget_usd: Option<f64>,
    /// Tokens, in the same way.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    budget_tokens: Option<u64>,
    /// How long models may take, all calls together, in the same way; like `90s` or `1h 30m`.
    #[arg(long, value_name = "DURATION", value_parser = duration_of)]
    budget_time: Option<Duration>,
}

impl RaisedFlags {
    fn asked(self) -> Result<BudgetAsked, Failure> {
        let RaisedFlags { budget_usd, budget_tokens, budget_time } = self;
        BudgetFlags { budget_usd, budget_tokens, budget_time }.asked()
    }
}

/// Results that are named at the end; more are counted.
const NAMED_MAX: usize = 10;

/// Exit codes as in the help of `swarm`; those of the whole run.
///
/// # Errors
/// There is no such run or task, the run has not ended, or it cannot go on.
pub fn run(args: &Retry, it: &Surroundings) -> Result<u8, Failure> {
    let state_dir = it.state()?;
    let journal = it.journal(&state_dir)?;
    let (row, state, named) = select::run_or_instances(&journal, &args.words)?;
    it.expect_own(&it.repository()?, &row)?;
    let Some(exit) = row.exit else {
        if let Some(holder) = RunLock::holder_of_run(&state_dir, &row.id)? {
            return Err(RunError::Held(LockError::Held { holder: Some(holder) }).into());
        }
        let hint = format!("swarm resume {}", row.id);
        return Err(Failure::usage(format!("retry tasks of {}: it has not ended", row.id), hint));
    };
    remove_served(&it.repository()?, (&state_dir, &journal), &row.id, it)?;
    let instances = worth_another_try_of(&state, named.as_deref());
    let left_out = if named.is_none() { left_out(&row.id, &state) } else { String::new() };
    if instances.is_empty() {
        it.err.write(&format!("nothing of that failed or is parked in {}\n{left_out}", row.id))?;
        if is_resumable(Some(exit)) {
            it.err.write(&format!(
                "what it has not come to is not tried again but gone on with: swarm resume {}\n",
                row.id
            ))?;
        }
        return Ok(exit);
    }
    let being_settled = open_ones(&it.repository()?, &row.id, &instances, Settlement::Open);
    if !being_settled.is_empty() {
        // What is settled by hand is of the change that is parked now: it could not be taken behind another one.
        it.err.write(&being_settled)?;
        return Err(Failure::usage(format!("retry tasks of {}: settle what is open first", row.id), None));
    }
    it.err.write(&left_out)?;
    it.err.write(&changed_plan(&journal, &row.id, it)?)?;
    it.err.write(&settled_by_hand(&journal, &row.id, &state, &instances)?)?;
    let fork = args
        .from_turn
        .map(|turn| forks(turn, named.as_deref().unwrap_or_default(), (&state_dir, &row.id), &state))
        .transpose()?;
    let again = Wanted { instances: instances.clone(), fork, budget: args.budget.asked()?, ..Wanted::default() };
    let events = JsonEvents::of(args.json);
    let mut reports = reports(events, it);
    let settings = Settings { jobs: args.jobs.asked(), deadline: args.deadline.deadline, ..plain_settings(it)? };
    let written = Written::of_run(&journal, &row, it)?;
    let ended = on_event_loop(retry(&row.id, again, settings, &mut reports));
    let left = written.settle(it)?;
    let ended = ended?;
    it.err.write(&became("tried again", &instances, reports.state()))?;
    say_end(&reports, &state_dir, events, it)?;
    Ok(left.exit(ended.exit))
}

/// Says what failed and is not tried again, since a person gave it up; empty where nothing is.
pub fn left_out(run: &RunId, state: &RunState) -> String {
    let names = words::first_of(given_up(state).map(words::instance), NAMED_MAX);
    match names.is_empty() {
        true => String::new(),
        false => {
            format!("note: dropped, and tried again by name only: {names}\n      swarm retry {run} TASK\n")
        }
    }
}

/// Which conversation is to be gone on with, and behind how many answers.
///
/// # Errors
/// None is named, it did not fail, or it has no such answer.
fn forks(
    turn: u32,
    named: &[InstanceId],
    (state_dir, run): (&Path, &RunId),
    state: &RunState,
) -> Result<(InstanceId, u32), Failure> {
    let refused = |what: String, hint: &str| Failure::usage(format!("go on from turn {turn}: {what}"), hint.to_owned());
    let [id] = named else {
        let hint = "swarm retry RUN TASK --from-turn N, with an instance of a task that has several";
        return Err(refused("no single task is named".to_owned(), hint));
    };
    let name = words::instance(id);
    let instance = &state.instances[id];
    if matches!(instance.fate(), Some(Fate::Parked { .. })) {
        let hint = "without --from-turn it is merged again, and runs once more where it does not fit";
        return Err(refused(format!("{name} did not fail, its result is parked"), hint));
    }
    let newest = instance.attempts.last().map(|newest| newest.attempt);
    let folder = newest.map(|attempt| attempt_dir(state_dir, run, id, attempt));
    let answers = folder.map_or(Ok(0), |folder| fork::answers(&folder));
    let answers =
        answers.map_err(|error| refused(format!("its transcript cannot be read: {error}"), "swarm logs TASK"))?;
    if turn > answers {
        let what = format!("the newest attempt of {name} holds {answers} answers of a model");
        return Err(refused(what, "`swarm logs TASK` shows the conversation"));
    }
    Ok((id.clone(), turn))
}

/// Says of what a person settled by hand, and is parked again, when it is tried no more, and where it stays.
fn settled_by_hand(
    journal: &JournalReader,
    run: &RunId,
    state: &RunState,
    instances: &[InstanceId],
) -> Result<String, Failure> {
    let is_parked = |id: &&InstanceId| matches!(state.instances[*id].fate(), Some(Fate::Parked { .. }));
    let mut settled = SettledByHand::default();
    journal.tell(run, 0, |recorded| settled.hear(&recorded.event))?;
    let note = |id: &InstanceId| {
        let kept = attempt_ref(run, id, settled.attempt_of(id)?);
        let (name, word) = (sanitize::name(&id.0), sanitize::shell_word(&id.0));
        Some(format!(
            "note: what was settled by hand of {name} has one more turn; where it still does not land, its task runs anew and \
             that is tried no more\n      it stays at {kept}: swarm resolve {run} {word}, and there: git restore --source {kept} .\n"
        ))
    };
    Ok(instances.iter().filter(is_parked).filter_map(note).collect())
}

/// Says that the plan's file holds another text than the run's, when it does.
///
/// # Errors
/// The journal cannot be read.
pub fn changed_plan(journal: &JournalReader, run: &RunId, it: &Surroundings) -> Result<String, Failure> {
    let sources = journal.sources(run)?;
    // Where the plan was named from another folder, its file is not found, and nothing is known.
    let now = sources.first().and_then(|plan| Some((plan, std::fs::read_to_string(it.folder.join(&plan.name)).ok()?)));
    Ok(match now {
        Some((plan, text)) if text != plan.text => {
            let name = sanitize::shell_word(&plan.name);
            format!(
                "note: {name} has changed since: this runs the plan as it was; `swarm run {name}` takes the new text\n"
            )
        }
        _ => String::new(),
    })
}

/// What came of each of the results that were tried again: the summary behind it is about the whole run.
pub fn became(heading: &str, instances: &[InstanceId], state: &RunState) -> String {
    let line = |id: &InstanceId| {
        let said = state.instances.get(id).map_or("not reached", |instance| words::outcome(instance));
        format!("    {}: {said}\n", words::instance(id))
    };
    let lines: String = instances.iter().take(NAMED_MAX).map(line).collect();
    let more = instances.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!("    … and {more} more\n") } else { String::new() };
    format!("\n{heading}\n{lines}{more}")
}
