//! `swarm check PLAN`: everything that is wrong with a plan, all at once.

use std::collections::BTreeSet;

use swarm_orchestrator::machine::has_room;
use swarm_orchestrator::policy::{Word, word};
use swarm_orchestrator::report::{exit, sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::run::before::obstacles;
use swarm_orchestrator::run::filters::filtered;
use swarm_orchestrator::run::unmatched::unmatched;
use swarm_orchestrator::run::{RunError, answer_globs, hidden_in_vain};
use swarm_orchestrator::settings::{HostNetwork, PlanModels, Settings};
use swarm_orchestrator::state::StateDir;
use swarm_plans::overlap::Completeness;
use swarm_plans::scope::Meeting;
use swarm_plans::{Diagnostic, InstanceIx, MergeMode, Overlap, SourceFile, TaskGraph, TaskIx};
use swarm_protocol::Question;

use crate::commands::allow::{self, Allow};
use crate::commands::failure::{Failure, shell_path};
use crate::commands::plan_file::{PlanFile, misfits_shown, place_of, policies_at_fault, render};
use crate::commands::probing::Probing;
use crate::commands::run::{plain_settings, policy_at_fault};
use crate::commands::surroundings::{Surroundings, host};

/// Shows everything that is wrong with a plan.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    plan: PlanFile,
    /// As `swarm run` takes it.
    #[arg(long)]
    allow_host_network: bool,
    #[command(flatten)]
    allow: Allow,
    /// As `swarm run` takes it.
    #[arg(long)]
    trust_models: bool,
}

/// Overlaps that are named; more are counted.
const OVERLAPS_MAX: usize = 20;

/// Tasks that one line names; more are counted.
const NAMES_MAX: usize = 8;

/// Exit code 0 when the plan is in order. What only this machine or its person stands in the way of is said as well, and changes
/// nothing about that: plans are checked in other places than they run in.
///
/// # Errors
/// The plan cannot be read or has mistakes.
pub fn run(args: &Check, it: &Surroundings) -> Result<u8, Failure> {
    let (mut graph, sources) = args.plan.load(it)?;
    let mut notes = Vec::new();
    let (mut obstacles, mut at_fault, host) = (Vec::new(), Vec::new(), host()?);
    // Outside of a repository only the plan itself can be looked at.
    if let Ok(repository) = it.repository() {
        match repository.resolve(&graph.plan().base) {
            Ok(base) => {
                let answered = answer_globs(&mut graph, &repository, base);
                notes.extend(answered.map_err(|error| misfits_shown(error, &sources, it))?);
                notes.extend(hidden_in_vain(graph.plan(), &repository, base, &host)?);
                notes.extend(unmatched(&graph, &repository, base)?);
                notes.extend(filtered(&repository, base)?);
                (at_fault, obstacles) = obstacles_here(args, &graph, &sources, &repository, it)?;
            }
            Err(error) => obstacles = vec![warning(&error.to_string(), Some(&error.hint()))],
        }
    }
    if !at_fault.is_empty() {
        it.err.write(&render(&at_fault, &sources, it.err.style, it.err.columns()))?;
        it.err.write(&obstacles.concat())?;
        return Err(Failure::Said(exit::USAGE));
    }
    let as_a_plan = if obstacles.is_empty() { "" } else { " as a plan" };
    let left = match args.plan.only.is_empty() {
        true => String::new(),
        false => format!(": {}", names(&graph, (0..graph.plan().tasks.len()).map(|at| TaskIx(at as u32)))),
    };
    it.err.write(&format!("{} is in order{as_a_plan}: {}{left}\n", args.plan.plan.display(), size(&graph)))?;
    if graph.plan().merge.mode == MergeMode::Train {
        it.err.write(&overlap_lines(&graph))?;
    }
    notes.iter().try_for_each(|note| it.err.write(&format!("note: {}\n", sanitize::name(note))))?;
    let asks = allow::missing(graph.plan(), &args.word(it)?, &host, it);
    if !asks.is_empty() {
        let asked = allow::lines(&asks, &sources);
        it.err.write(&format!("note: it asks for what only a person can allow:\n{asked}"))?;
        it.err.write(&format!("hint: swarm run {} {}\n", shell_path(&args.plan.plan), word::flags(&asks)))?;
    }
    it.err.write(&obstacles.concat())?;
    Ok(0)
}

impl Check {
    fn network(&self) -> HostNetwork {
        if self.allow_host_network { HostNetwork::Allowed } else { HostNetwork::Refused }
    }

    fn word(&self, it: &Surroundings) -> Result<Word, Failure> {
        self.allow.word(self.network(), it)
    }
}

/// How many tasks and instances.
fn size(graph: &TaskGraph) -> String {
    let tasks = words::count(graph.plan().tasks.len() as u64, "task");
    let instances = words::count(graph.instances().len() as u64, "instance");
    let pending = match graph.pending().len() {
        0 => String::new(),
        1 => ", and 1 task that gets its instances while it runs".to_owned(),
        n => format!(", and {n} tasks that get their instances while it runs"),
    };
    format!("{tasks}, {instances}{pending}")
}

/// What a run of it would stop at here: what the plan is at fault for, where it says it, and all else with its place in the plan
/// and what to do, as warnings.
fn obstacles_here(
    args: &Check,
    graph: &TaskGraph,
    sources: &[SourceFile],
    repository: &Repository,
    it: &Surroundings,
) -> Result<(Vec<Diagnostic>, Vec<String>), Failure> {
    let settings = Settings {
        allowed: args.allow.allow.clone(),
        host_network: args.network(),
        plan_models: if args.trust_models { PlanModels::Trusted } else { PlanModels::Bounded },
        ..plain_settings(it)?
    };
    let state = it.state_of(repository);
    if let Err(error) = has_room(repository.place(), &state) {
        return Ok((Vec::new(), vec![warning(&error.to_string(), error.hint().as_deref())]));
    }
    let machine = match Probing::begin(Question::Strongest, &state).and_then(Probing::machine) {
        Ok(machine) => machine,
        Err(Failure::Told { message, .. }) => return Ok((Vec::new(), vec![warning(&message, Some("swarm doctor"))])),
        Err(other) => return Err(other),
    };
    let state = StateDir::open(&state)
        .map_err(|error| Failure::environment(format!("use {}: {error}", state.display()), None))?;
    let found = obstacles(graph.plan(), &settings, &machine, repository, &state)?;
    let at_fault: Vec<Diagnostic> = found.iter().flat_map(|error| policies_at_fault(error, sources)).collect();
    let line = |error: &RunError| {
        let place = policy_at_fault(error).and_then(|fault| place_of(sources, fault));
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        warning(&format!("{place}{error}"), error.hint().as_deref())
    };
    let found = found.iter().filter(|error| policies_at_fault(error, sources).is_empty());
    Ok((at_fault, found.map(line).collect()))
}

fn warning(what: &str, hint: Option<&str>) -> String {
    let hint = hint.map_or_else(String::new, |hint| format!("hint: {}\n", sanitize::text(hint)));
    format!("warning: a run stops here at once: {}\n{hint}", sanitize::text(what))
}

/// Which instances may change the same paths though none needs the other, and what follows from that: they take turns, or the
/// later may have to be parked.
fn overlap_lines(graph: &TaskGraph) -> String {
    let overlaps = graph.overlaps();
    let overlap_is = graph.plan().merge.overlap;
    let free = |ix: InstanceIx| graph.plan().task(graph.instance(ix).task).writes.is_none();
    let (without, among): (Vec<_>, Vec<_>) =
        overlaps.found.iter().partition(|overlap| overlap.instances.iter().any(|ix| free(*ix)));
    let unbounded = without.iter().flat_map(|overlap| overlap.instances).filter(|ix| free(*ix));
    let unbounded: BTreeSet<TaskIx> = unbounded.map(|ix| graph.instance(ix).task).collect();
    let mut text = without_writes(graph, &unbounded);
    among.iter().take(OVERLAPS_MAX).for_each(|overlap| text.push_str(&overlap_line(graph, overlap)));
    if among.len() > OVERLAPS_MAX {
        text.push_str(&format!("note: {} more pairs of tasks may change the same\n", among.len() - OVERLAPS_MAX));
    }
    if overlaps.complete == Completeness::Bounded {
        text.push_str("note: there are too many scopes to compare them all\n");
    }
    if !overlaps.later.is_empty() {
        let later = names(graph, overlaps.later.iter().copied());
        text.push_str(&format!("note: what {later} may change is known only while the plan runs\n"));
    }
    text.push_str(match overlap_is {
        _ if overlaps.found.is_empty() => "",
        Overlap::Parallel => {
            "hint: narrow `writes`, order the tasks with `needs`, or have them take turns with `overlap = \"serialize\"` of \
             [merge]; of two that conflict, the later is parked\n"
        }
        Overlap::Serialize => "hint: narrow `writes` to let them run side by side\n",
    });
    text
}

/// Tasks that may change anything, and so what any other may: one line for all of them.
fn without_writes(graph: &TaskGraph, tasks: &BTreeSet<TaskIx>) -> String {
    let turns = match graph.plan().merge.overlap {
        Overlap::Parallel => "",
        Overlap::Serialize => ", and take turns with them",
    };
    let who = names(graph, tasks.iter().copied());
    match tasks.len() {
        0 => String::new(),
        1 => format!("note: {who} has no `writes`: it may change the same files as all that runs beside it{turns}\n"),
        n => format!("note: {n} tasks have no `writes`: any two of them may change the same files{turns}: {who}\n"),
    }
}

/// Two tasks whose `writes` meet.
fn overlap_line(graph: &TaskGraph, overlap: &swarm_plans::overlap::Overlap) -> String {
    let levels = graph.levels();
    let turn = |ix: InstanceIx| (levels[graph.instance(ix).task.index()], graph.instance(ix).task, ix);
    let [one, other] = overlap.instances;
    let name = |ix: InstanceIx| words::instance(&graph.instance(ix).id);
    let more = match overlap.pairs - 1 {
        0 => String::new(),
        more => format!(", and {} more of these tasks", words::count(more, "pair")),
    };
    let Meeting { one: glob, other: other_glob, path } = &overlap.meeting;
    let globs = format!("`writes` {} and {}", sanitize::name(glob), sanitize::name(other_glob));
    let path = sanitize::name(path);
    match graph.plan().merge.overlap {
        Overlap::Parallel => {
            format!("note: {} and {} may both change {path}{more} ({globs})\n", name(one), name(other))
        }
        Overlap::Serialize => {
            let (first, second) = if turn(one) <= turn(other) { (one, other) } else { (other, one) };
            format!("note: {} first, then {}: both may change {path}{more} ({globs})\n", name(first), name(second))
        }
    }
}

/// The first of them by name; the others are counted.
fn names(graph: &TaskGraph, tasks: impl Iterator<Item = TaskIx>) -> String {
    words::first_of(tasks.map(|task| sanitize::name(&graph.plan().task(task).name.0)), NAMES_MAX)
}
