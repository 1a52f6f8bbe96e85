//! `swarm plan GOAL`: an agent that may only look explores the repository and writes a plan; it is checked, shown and priced,
//! and goes to stdout or into a file. Nothing of it runs.
//!
//! The exploring is a run like any other, of a plan with one task that is written here: it is caged, its calls are booked,
//! `swarm logs` shows its conversation, and what it wrote stays in the journal.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use swarm_orchestrator::agent::estimate::{estimate, lines};
use swarm_orchestrator::agent::planning::{self, Accepted};
use swarm_orchestrator::event::RunEvent;
use swarm_orchestrator::executor::trees::files_matching;
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::Spending;
use swarm_orchestrator::model::broker::catalog::Catalog;
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::run::{LoadedPlan, RunEnd};
use swarm_orchestrator::settings::{PlanModels, Present, Settings, TapeAt, Writing};
use swarm_plans::planned::told;
use swarm_plans::{TaskGraph, models};

use crate::commands::exec::{literal, written};
use crate::commands::failure::{Failure, shell_path};
use crate::commands::run::{BudgetFlags, JsonEvents, plain_settings, reports, say_end, start};
use crate::commands::surroundings::{ReaderKind, Surroundings};

/// Has an agent that may only look write a plan for a goal; runs nothing of it.
///
/// The plan is checked while it is written: its tasks say what they may change, do not change the same files beside each
/// other, and have checks; it grants nothing. Look at it, then `swarm run` it.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// What is to be done, in your words.
    #[arg(value_name = "GOAL")]
    goal: String,
    /// The model that writes it: an entry of [models] in your configuration, or provider/model.
    #[arg(long, value_name = "MODEL", default_value = MODEL_DEFAULT)]
    model: String,
    /// The file that it goes into [default: stdout].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces the file where there is one.
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    budget: BudgetFlags,
    /// Keeps every answer of a model in DIR, to be replayed.
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Takes every answer of a model from DIR and calls nobody; needs no key.
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
}

/// The model that writes plans unless another is named.
pub const MODEL_DEFAULT: &str = "main";

/// The name of the plan that is written here.
pub const PLAN: &str = "planning";

/// The task's name, and so its only instance's.
const TASK: &str = "planner";

/// The tools of an agent that explores.
const TOOLS: [&str; 10] =
    ["read", "glob", "grep", "bash", "repo_map", "dependencies", "todo", "ask_person", planning::SUBMIT, "finish"];

/// The graph and the estimate on stderr, the plan on stdout or in its file.
///
/// # Errors
/// The file is there already, the model cannot be asked, or no plan came of it.
pub fn run(args: &Plan, it: &Surroundings) -> Result<u8, Failure> {
    let file = args.output.as_ref().map(|path| it.folder.join(path));
    if let Some(path) = file.as_ref().filter(|_| !args.force) {
        expect_free(path)?;
    }
    let tape = match (&args.record, &args.replay) {
        (Some(folder), _) => TapeAt::Record(it.folder.join(folder)),
        (None, Some(folder)) => TapeAt::Replay(it.folder.join(folder)),
        (None, None) => TapeAt::Off,
    };
    let present = if args.force { Present::Replaced } else { Present::Kept };
    let writing = Writing { goal: args.goal.clone(), model: args.model.clone(), file, present };
    match write(writing.clone(), args.budget, tape, it)? {
        Written::Plan(plan) => hand_over(&plan, &writing, it),
        Written::Nothing(code) => Ok(code),
    }
}

/// Shows a plan and puts it where it was to go.
///
/// # Errors
/// It cannot be written there.
fn hand_over(plan: &Proposal, writing: &Writing, it: &Surroundings) -> Result<u8, Failure> {
    it.err.write(&plan.shown())?;
    let Some(path) = &writing.file else {
        print(&plan.text, it)?;
        return Ok(0);
    };
    keep(path, &plan.text, writing.present)?;
    let shown = shell_path(path.strip_prefix(&it.folder).unwrap_or(path));
    it.err.write(&format!("next: look at {shown}, then swarm run {shown}\n"))?;
    Ok(0)
}

/// Hands over what a run for a plan came to whose coordinator died, behind the one that ended it.
///
/// # Errors
/// The plan is not in order any more, or cannot be written where it was to go.
pub fn go_on(run: &RunId, writing: &Writing, it: &Surroundings) -> Result<u8, Failure> {
    let asked = it.journal(&it.state()?)?.asked(run)?.unwrap_or_default();
    let settings = Settings { tape: asked.tape, ..plain_settings(it)? };
    let (_, catalog) = prepared(writing, &settings, it)?;
    match proposed(run, writing, catalog, &settings, it)? {
        Some(plan) => hand_over(&plan, writing, it),
        None => Err(Failure::environment(format!("take the plan of {run}: there is none in its journal"), None)),
    }
}

/// What came of the writing.
pub enum Written {
    /// A plan.
    Plan(Box<Proposal>),
    /// None; it was said why, and this is the exit code.
    Nothing(u8),
}

/// A plan that a model wrote and that passed.
pub struct Proposal {
    /// Its text.
    pub text: String,
    /// What writing it took of models.
    pub spending: Spending,
    accepted: Accepted,
    catalog: Catalog,
}

impl Proposal {
    /// Its graph and what it may cost, for people.
    pub fn shown(&self) -> String {
        let graph = &self.accepted.graph;
        format!("\n{}\n{}", sanitize::text(&graph.tree()), lines(&estimate(graph, &self.catalog)))
    }

    /// The plan as a run takes it: what its globs match is asked of the run's own base.
    ///
    /// # Errors
    /// Never, for a plan that passed; said as a failure of ours.
    pub fn loaded(self) -> Result<LoadedPlan, Failure> {
        let Accepted { graph, sources } = self.accepted;
        let graph = TaskGraph::expand(graph.plan().clone())
            .map_err(|_| Failure::environment("read the plan that was just accepted", None))?;
        Ok(LoadedPlan { graph, sources })
    }
}

/// Has a plan written for a goal.
///
/// # Errors
/// The model is not known, or the run of the writer could not go on.
pub fn write(writing: Writing, budget: BudgetFlags, tape: TapeAt, it: &Surroundings) -> Result<Written, Failure> {
    if writing.goal.trim().is_empty() {
        return Err(Failure::usage("plan nothing", "say what is to be done: swarm plan \"GOAL\"".to_owned()));
    }
    let settings = Settings { budget: budget.asked()?, tape, writing: Some(writing.clone()), ..plain_settings(it)? };
    let (loaded, catalog) = prepared(&writing, &settings, it)?;
    let mut reports = reports(JsonEvents::Off, it);
    let RunEnd { run, exit } = start(loaded, settings.clone(), &mut reports, it)?;
    let proposal = if exit == 0 { proposed(&run, &writing, catalog, &settings, it)? } else { None };
    let Some(proposal) = proposal else {
        say_end(&reports, &it.state()?, JsonEvents::Off, it)?;
        return Ok(Written::Nothing(exit.max(swarm_orchestrator::report::exit::TASK_FAILED)));
    };
    Ok(Written::Plan(Box::new(proposal)))
}

/// The plan of the run that writes a plan, and the models that both may name.
fn prepared(writing: &Writing, settings: &Settings, it: &Surroundings) -> Result<(LoadedPlan, Catalog), Failure> {
    let loaded = written(PLAN, &plan_text(&writing.goal, &writing.model), it)?;
    let (known, mistakes) = models::link(loaded.graph.plan(), &settings.user, settings.tape.answers());
    if let Some(mistake) = mistakes.into_iter().next() {
        return Err(Failure::usage(format!("ask a model: {}", mistake.message), mistake.hint));
    }
    let catalog = Catalog::new(known, PlanModels::Bounded).map_err(|error| Failure::usage(error, None))?;
    Ok((loaded, catalog))
}

/// The newest plan that a run handed over; `None` when there is none.
fn proposed(
    run: &RunId,
    writing: &Writing,
    catalog: Catalog,
    settings: &Settings,
    it: &Surroundings,
) -> Result<Option<Proposal>, Failure> {
    let events = it.journal(&it.state()?)?.events(run, 0)?;
    let newest = events.iter().rev().find_map(|recorded| match &recorded.event {
        RunEvent::AttemptFinished { outputs, .. } => outputs.get(planning::OUTPUT)?.as_str(),
        _ => None,
    });
    let Some(text) = newest else { return Ok(None) };
    let mut spending = Spending::default();
    events.iter().for_each(|recorded| spending.count(&recorded.event));
    let Writing { goal, model, .. } = writing;
    let text = format!("{}{text}{}", heading(goal, model), if text.ends_with('\n') { "" } else { "\n" });
    let person: Vec<String> = settings.user.models.keys().cloned().collect();
    let accepted = accept(&text, &planning::models(&person, model), it)?;
    Ok(Some(Proposal { text, spending, accepted, catalog }))
}

/// The plan once more, in the words that are handed on: what an earlier check said is not believed.
fn accept(text: &str, models: &[String], it: &Surroundings) -> Result<Accepted, Failure> {
    let repository = it.repository()?;
    let base = repository.resolve("HEAD")?;
    let files: planning::Files =
        Box::new(move |globs| files_matching(&repository, base, globs).map_err(|error| error.to_string()));
    planning::accept(text, models, &files).map_err(|diagnostics| {
        let message = format!("take the plan: it is not in order any more:\n{}", told(&diagnostics, text).trim_end());
        Failure::environment(message, "plan again: HEAD may have moved".to_owned())
    })
}

/// Says who wrote it, and what for.
fn heading(goal: &str, model: &str) -> String {
    let mut text = format!("# Written by {}. Read it before you run it. The goal:\n", sanitize::name(model));
    goal.lines().for_each(|line| text.push_str(&format!("#   {}\n", sanitize::line(line.as_bytes()))));
    text
}

/// A plan with one agent that may only look and hands a plan over.
fn plan_text(goal: &str, model: &str) -> String {
    let tools: Vec<String> = TOOLS.iter().map(|tool| format!("\"{tool}\"")).collect();
    let model = serde_json::to_string(model).expect("a string");
    let prompt = literal(&format!("The goal:\n\n{}", goal.trim()));
    format!(
        "version = 1\nname = \"{PLAN}\"\n\n[tasks.{TASK}]\nagent = {{ prompt = {prompt}, model = {model}, mode = \"read-only\", \
         submits = \"plan\", tools = [{}], language-servers = \"never\" }}\nwrites = []\n\n[merge]\nmode = \"none\"\n",
        tools.join(", ")
    )
}

fn expect_free(path: &Path) -> Result<(), Failure> {
    let message = format!("write {}", path.display());
    if path.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("{message}: it is there already"), "--force replaces it".to_owned()));
    }
    match path.parent().filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(Failure::usage(
            format!("{message}: there is no folder {}", folder.display()),
            "make it first".to_owned(),
        )),
        None => Ok(()),
    }
}

/// A file that came to be while the plan was written is not replaced either, unless it is this very plan, which a
/// coordinator wrote that died then.
fn keep(path: &Path, text: &str, present: Present) -> Result<(), Failure> {
    let mut options = std::fs::File::options();
    match present {
        Present::Replaced => options.create(true).truncate(true),
        Present::Kept if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) => return Ok(()),
        Present::Kept => options.create_new(true),
    };
    let written = options.write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    let hint = "make room there, then swarm resume RUN; swarm report --format json shows the plan, under `outputs`";
    written.map_err(|error| Failure::environment(format!("write {}: {error}", path.display()), hint.to_owned()))
}

/// The text as it is for programs; for a terminal without what it would obey.
fn print(text: &str, it: &Surroundings) -> Result<(), Failure> {
    match it.out.reader {
        ReaderKind::Other => it.out.write(text),
        ReaderKind::Terminal => {
            it.out.write(&text.lines().map(|line| sanitize::line(line.as_bytes()) + "\n").collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(goal: &str, model: &str) -> (Option<String>, Vec<String>) {
        let parsed = swarm_plans::parse(PLAN, &plan_text(goal, model), &[], &mut |_| Err(String::new()));
        let messages = parsed.diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect();
        let prompt = parsed.plan.and_then(|plan| Some(plan.tasks[0].agent()?.prompt.as_ref()?.source().to_owned()));
        (prompt, messages)
    }

    #[test]
    fn a_goal_stays_words_whatever_is_in_it() {
        let (prompt, messages) = parsed("a \"b\" \\ {{ env.HOME }} {% x %}\n'''", "ollama/q\"w");
        assert_eq!(messages, Vec::<String>::new());
        assert!(prompt.is_some_and(|prompt| !prompt.contains("{{ env") && prompt.contains("'''")));
    }

    #[test]
    fn the_heading_is_comments_only() {
        let text = heading("one\nversion = 2\r\u{1b}[31m", "main");
        assert!(
            text.lines().all(|line| line.starts_with('#')) && !text.contains('\u{1b}') && !text.contains('\r'),
            "{text}"
        );
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("plan.toml");
        assert!(expect_free(&path).is_ok() && expect_free(&folder.path().join("no/plan.toml")).is_err());
        keep(&path, "a", Present::Kept).expect("it is free");
        assert!(expect_free(&path).is_err() && keep(&path, "b", Present::Kept).is_err());
        keep(&path, "a", Present::Kept).expect("it is this very plan");
        keep(&path, "b", Present::Replaced).expect("--force");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "b");
    }
}
