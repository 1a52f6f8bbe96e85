//! `swarm resolve [RUN] TASK`: a person settles what keeps a parked result from landing.

use std::path::PathBuf;

use swarm_orchestrator::clock::Clock;
use swarm_orchestrator::commit::{Signing, run_refs};
use swarm_orchestrator::event::{Fate, ParkedBy};
use swarm_orchestrator::ids::{Attempt, RunId, encode_component};
use swarm_orchestrator::journal::{ChangeState, InstanceState, JournalReader, RunLock, RunRow, RunState};
use swarm_orchestrator::merge::Step;
use swarm_orchestrator::open::OpenError;
use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::resolution::waiting::with_what_waits;
use swarm_orchestrator::resolution::{self, Edits, ResolutionError, Subject};
use swarm_orchestrator::resume::{Wanted, plan_of, retry_held};
use swarm_orchestrator::run::RunError;
use swarm_orchestrator::second_word::worth_another_try;
use swarm_orchestrator::target;
use swarm_plans::{InstanceId, Plan};

use crate::commands::failure::{Failure, shell_path};
use crate::commands::retry::became;
use crate::commands::run::{JsonEvents, on_event_loop, plain_settings, reports, say_end};
use crate::commands::select;
use crate::commands::served::{newest_change, remove_served};
use crate::commands::surroundings::Surroundings;
use crate::commands::written::Written;

/// Opens the conflict of a parked result as a worktree for your own tools; `--continue` verifies and lands what you made.
///
/// The worktree stands in the middle of that merge, as git leaves one: conflict markers in the files, both sides in the
/// index. It is yours: nothing in it is caged, and nothing that a worker left beside its change is in it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "swarm resolve [OPTIONS] [RUN] TASK")]
pub struct Resolve {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "WORD", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// The folder to make [default: resolve/ in the state folder].
    #[arg(long = "in", value_name = "DIR")]
    at: Option<PathBuf>,
    /// Takes what you made, verifies it and lands it; the worktree goes with that.
    #[arg(long = "continue", conflicts_with_all = ["at", "abort"])]
    go_on: bool,
    /// Removes the worktree, unless you edited files in it; the result stays what it is.
    #[arg(long, conflicts_with = "at")]
    abort: bool,
    /// With --abort: throws away what you edited there.
    #[arg(long, requires = "abort")]
    force: bool,
    /// With --continue: prints one JSON event a line on stdout.
    #[arg(long, requires = "go_on")]
    json: bool,
}

/// A parked result and all around it.
struct Parked {
    repository: Repository,
    row: RunRow,
    state: RunState,
    id: InstanceId,
    plan: std::sync::Arc<Plan>,
    /// What its change may touch; `None` is anything.
    writes: Option<Vec<String>>,
}

impl Parked {
    /// All of it as the journal has it now.
    fn read(repository: Repository, journal: &JournalReader, run: RunId, id: InstanceId) -> Result<Parked, Failure> {
        let row = select::run(journal, Some(&run.0))?;
        let state = journal.state(&run)?;
        let plan = std::sync::Arc::clone(plan_of(journal, &row)?.graph.plan());
        let newest = newest_change(&state.instances[&id]).map(|change| change.commit.to_string());
        let events = journal.events(&run, 0)?;
        let mut changes = events.iter().filter_map(|recorded| recorded.event.change_of(&id));
        let writes =
            changes.find(|change| Some(&change.commit) == newest.as_ref()).and_then(|change| change.writes.clone());
        Ok(Parked { repository, row, state, id, plan, writes })
    }

    fn instance(&self) -> &InstanceState {
        &self.state.instances[&self.id]
    }

    fn change(&self) -> Result<&ChangeState, Failure> {
        newest_change(self.instance()).ok_or_else(|| {
            let message = format!("resolve {} of {}: it changed nothing", sanitize::name(&self.id.0), self.row.id);
            Failure::usage(message, format!("swarm status {}", self.row.id))
        })
    }

    fn subject(&self) -> Result<Subject<'_>, Failure> {
        let change = self.change()?;
        let step = Step { base: change.base_tree, result: change.tree, writes: self.writes.as_deref() };
        Ok(Subject { run: &self.row.id, id: &self.id, change: step, commit: change.commit })
    }

    fn signing(&self, journal: &JournalReader) -> Result<Signing, Failure> {
        let clock = Clock { commit_epoch_s: journal.asked(&self.row.id)?.unwrap_or_default().commit_epoch_s };
        let date_seconds = clock.commit_date_s(self.row.started_at_ms);
        Ok(Signing { identity: self.repository.identity()?, date_seconds })
    }

    /// The words that name it in a command.
    fn words(&self) -> String {
        format!("{} {}", self.row.id, sanitize::shell_word(&self.id.0))
    }

    fn failed(&self, error: ResolutionError) -> Failure {
        let words = self.words();
        let hint = match &error {
            ResolutionError::UnderWay(_) => {
                format!("swarm resolve {words} --continue takes what is there, --abort removes it")
            }
            ResolutionError::None { .. } => match self.instance().fate() {
                Some(Fate::Parked { .. }) => format!("swarm resolve {words} begins one"),
                Some(Fate::Landed { .. }) => format!("it landed, nothing is open; swarm diff {words} shows what"),
                Some(Fate::Empty | Fate::Dropped { .. }) | None => {
                    format!("swarm status {} shows where it stands", self.row.id)
                }
            },
            ResolutionError::Away(at) => format!(
                "mount it, or where it was moved to: git worktree repair PATH; swarm resolve {words} --abort --force gives up what is in {}",
                at.display()
            ),
            ResolutionError::Outdated(_) => format!("swarm resolve {words} --abort, then begin anew"),
            ResolutionError::OtherBase { at, tip } => {
                let at = shell_path(at);
                format!(
                    "git -C {at} switch --detach {tip} brings it back there (commit or stash what you made first); or \
                     swarm resolve {words} --abort --force, then begin anew"
                )
            }
            ResolutionError::Edited(at) => {
                let keeps = match self.instance().fate() {
                    Some(Fate::Parked { .. }) => format!("swarm resolve {words} --continue takes them"),
                    // Nothing lands from there any more.
                    _ => {
                        let git = format!("git -C {}", shell_path(at));
                        format!("{git} add -A && {git} commit -m TEXT && {git} branch NAME keeps them on a branch")
                    }
                };
                format!("{keeps}, swarm resolve {words} --abort --force throws them away")
            }
            ResolutionError::Marked { .. } => format!("settle them, then: swarm resolve {words} --continue"),
            ResolutionError::Beside { .. } => {
                format!("take of it what you want, remove it, then: swarm resolve {words} --continue")
            }
            ResolutionError::Unfit(_) => {
                format!("swarm diff {words} shows the result; swarm retry {words}, swarm drop {words}")
            }
            ResolutionError::Hostile { .. } => format!("take it out, then: swarm resolve {words} --continue"),
            ResolutionError::Nothing(_) => format!("swarm drop {words} gives the result up"),
            ResolutionError::Open(OpenError::Exists(_)) => "name a folder that does not exist yet".to_owned(),
            ResolutionError::Open(OpenError::TooMany { .. }) => "git worktree remove PATH removes one".to_owned(),
            ResolutionError::Repository(repository) | ResolutionError::Open(OpenError::Repository(repository)) => {
                return Failure::environment(&error, repository.hint());
            }
            ResolutionError::Io { .. } => {
                let hint = "look at the space and the permissions there (df -h .), then type it again".to_owned();
                return Failure::environment(error, hint);
            }
            ResolutionError::Fold(_) => return Failure::environment(error, "git fsck".to_owned()),
            ResolutionError::Glob(_) => {
                return Failure::environment(error, format!("swarm diff {words} shows the result"));
            }
        };
        Failure::usage(error, hint)
    }
}

/// Begins, continues or aborts. The worktree's folder on stdout; exit codes of `--continue` are those of the whole run.
///
/// # Errors
/// There is no such result, it is not parked, or what was asked does not fit what there is.
pub fn run(args: &Resolve, it: &Surroundings) -> Result<u8, Failure> {
    let repository = it.repository()?;
    let state_dir = it.state_of(&repository);
    let journal = it.journal(&state_dir)?;
    let (row, _, id) = select::instance(&journal, &args.words)?;
    it.expect_own(&repository, &row)?;
    let gone = match args.abort {
        true => Vec::new(),
        false => remove_served(&repository, (&state_dir, &journal), &row.id, it)?,
    };
    let mut it_is = Parked::read(repository, &journal, row.id, id)?;
    if args.abort {
        return abort(args, &it_is, it);
    }
    let landed_with_it = args.go_on && gone.contains(&it_is.id);
    if let (Some(Fate::Landed { commit }), Some(exit), true) = (it_is.instance().fate(), it_is.row.exit, landed_with_it)
    {
        it.err.write(&format!("{} landed as {}\n", sanitize::name(&it_is.id.0), words::short(commit)))?;
        return Ok(exit);
    }
    expect_parked(&it_is)?;
    if !args.go_on {
        return begin(args, &it_is, &journal, it);
    }
    let held = RunLock::of_run(&state_dir, &it_is.row.id, it.clock.now_ms())?;
    // Read again: until the lock was ours, somebody else may have settled it.
    it_is = Parked::read(it_is.repository, &journal, it_is.row.id, it_is.id)?;
    expect_parked(&it_is)?;
    go_on(args, (&it_is, held), &journal, it)
}

fn abort(args: &Resolve, it_is: &Parked, it: &Surroundings) -> Result<u8, Failure> {
    // Whoever takes what is there has the run.
    let _held = RunLock::of_run(&it.state_of(&it_is.repository), &it_is.row.id, it.clock.now_ms())?;
    let edits = if args.force { Edits::Discard } else { Edits::Keep };
    let at = resolution::abort(&it_is.repository, it_is.subject()?, edits).map_err(|error| it_is.failed(error))?;
    let left = match it_is.instance().fate() {
        Some(Fate::Parked { .. }) => "the result stays parked",
        Some(Fate::Landed { .. }) => "the result has landed",
        Some(Fate::Dropped { .. }) => "the result was dropped",
        Some(Fate::Empty) | None => "the result stays as it is",
    };
    it.err.write(&format!("removed {}; {left}\n", at.display()))?;
    Ok(0)
}

/// What can become of a result that is being settled by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It can land.
    Open,
    /// Its result was given up.
    Dropped,
}

/// Says of each of `instances` that is being settled by hand where, and how that ends; empty when none is.
pub fn open_ones<'a>(
    repository: &Repository,
    run: &RunId,
    instances: impl IntoIterator<Item = &'a InstanceId>,
    settlement: Settlement,
) -> String {
    let note = |id: &InstanceId| {
        // A repository that cannot be read says so to whatever else is asked of it.
        let at = resolution::place_of(repository, run, id).ok().flatten()?;
        let words = format!("{run} {}", sanitize::shell_word(&id.0));
        let (lands, ends) = match settlement {
            Settlement::Open => ("", "--continue takes that, --abort removes it"),
            Settlement::Dropped => {
                (", from where nothing lands any more", "--abort removes it, with --force what was edited there, too")
            }
        };
        let (name, at) = (sanitize::name(&id.0), at.display());
        Some(format!("note: {name} is being settled at {at}{lands}\n      swarm resolve {words} {ends}\n"))
    };
    instances.into_iter().filter_map(note).collect()
}

fn expect_parked(it_is: &Parked) -> Result<(), Failure> {
    let (name, run) = (sanitize::name(&it_is.id.0), &it_is.row.id);
    if it_is.row.exit.is_none() {
        let hint = format!("swarm resume {run} goes on with it, swarm cancel {run} ends it");
        return Err(Failure::usage(format!("resolve {name} of {run}: the run has not ended"), hint));
    }
    match it_is.instance().fate() {
        Some(Fate::Parked { .. }) => Ok(()),
        fate => {
            let open = resolution::place_of(&it_is.repository, run, &it_is.id).ok().flatten();
            let hint = open.map(|_| format!("swarm resolve {} --abort removes its worktree", it_is.words()));
            let (what, hint) = match fate {
                Some(Fate::Landed { .. }) => ("it landed", hint),
                Some(Fate::Dropped { .. }) => ("it was dropped", hint),
                _ => ("it is not parked", None),
            };
            let hint = hint.or_else(|| (what != "it landed").then(|| format!("swarm status {run}")));
            Err(Failure::usage(format!("resolve {name} of {run}: {what}"), hint))
        }
    }
}

fn begin(args: &Resolve, it_is: &Parked, journal: &JournalReader, it: &Surroundings) -> Result<u8, Failure> {
    let at = match &args.at {
        Some(folder) => it.folder.join(folder),
        None => {
            let above = it.state_of(&it_is.repository).join("resolve");
            std::fs::create_dir_all(&above)
                .map_err(|error| Failure::environment(format!("use {}: {error}", above.display()), None))?;
            above.join(encode_component(&format!("{}-{}", it_is.row.id, it_is.id)))
        }
    };
    // What had landed there would be missing from the merge.
    if let Some(lost) = target::lost_newest(&it_is.repository, &it_is.state)? {
        return Err(RunError::from(lost).into());
    }
    let target = it_is.row.target.as_deref().map(|target| it_is.repository.find_ref(target)).transpose()?.flatten();
    let tip = target.map_or_else(|| it_is.repository.resolve(&it_is.row.base), Ok)?;
    let (plan, state) = (&it_is.plan.merge, (&it_is.state, &it_is.id));
    let tip = with_what_waits(&it_is.repository, plan, state, tip, &it_is.signing(journal)?);
    let tip = tip.map_err(|error| it_is.failed(error))?;
    let opened = resolution::begin(&it_is.repository, &it_is.plan.merge, it_is.subject()?, tip, &at);
    let opened = opened.map_err(|error| it_is.failed(error))?;
    let mut text = match opened.paths.len() {
        0 => match it_is.instance().fate() {
            Some(Fate::Parked { by: ParkedBy::Gate | ParkedBy::Hostile, .. }) => {
                "everything fits; what the gate refuses can be mended here\n".to_owned()
            }
            Some(Fate::Parked { by: ParkedBy::Conflict, .. }) => "everything fits by now\n".to_owned(),
            Some(Fate::Parked { .. }) => {
                let reason = words::parked(&it_is.state, it_is.instance()).unwrap_or_default();
                format!("it fits onto the target and what waits to land with it; it is parked because {reason}\n")
            }
            _ => String::new(),
        },
        n => format!("{n} in conflict: {}\n", opened.paths.join(", ")),
    };
    if !opened.again.is_empty() {
        text.push_str(&format!("as they landed, to be made again by you: {}\n", opened.again.join(", ")));
    }
    let words = it_is.words();
    text.push_str(&format!("then: swarm resolve {words} --continue   or: swarm resolve {words} --abort\n"));
    it.err.write(&text)?;
    it.out.write(&format!("{}\n", at.display()))?;
    Ok(0)
}

fn go_on(
    args: &Resolve,
    (it_is, held): (&Parked, RunLock),
    journal: &JournalReader,
    it: &Surroundings,
) -> Result<u8, Failure> {
    let signing = it_is.signing(journal)?;
    let newest = it_is.instance().attempts.iter().map(|attempt| attempt.attempt.0).max().unwrap_or(0);
    let (subject, attempt) = (it_is.subject()?, Attempt(newest + 1));
    // A process that died while it held this run's lock may have held those of its refs.
    it_is.repository.sweep_refs(&run_refs(&it_is.row.id));
    let change = resolution::finish(&it_is.repository, &it_is.plan, subject, attempt, &signing);
    let change = change.map_err(|error| it_is.failed(error))?;
    let instances = worth_another_try(&it_is.state, Some(&it_is.id));
    let again = Wanted {
        instances: instances.clone(),
        resolved: Some((it_is.id.clone(), attempt, change)),
        ..Wanted::default()
    };
    let (state_dir, events) = (it.state_of(&it_is.repository), JsonEvents::of(args.json));
    let mut reports = reports(events, it);
    let written = Written::before(&it_is.plan, it)?;
    let ended = on_event_loop(retry_held(&it_is.row.id, held, again, plain_settings(it)?, &mut reports));
    let left = written.settle(it)?;
    let ended = ended?;
    // The change is kept as an attempt of its own now, whatever became of it: the worktree has served.
    if let Err(error) = resolution::abort(&it_is.repository, subject, Edits::Discard) {
        it.err.write(&format!("note: its worktree is still there: {error}\n"))?;
    }
    if let Some(Fate::Parked { .. }) = reports.state().instances.get(&it_is.id).and_then(InstanceState::fate) {
        let words = it_is.words();
        it.err.write(&format!(
            "note: it is parked again and its worktree is gone; what you made is kept: swarm resolve {words} opens a new one with it\n"
        ))?;
    }
    it.err.write(&became("settled by hand, with what waited for it", &instances, reports.state()))?;
    say_end(&reports, &state_dir, events, it)?;
    Ok(left.exit(ended.exit))
}
