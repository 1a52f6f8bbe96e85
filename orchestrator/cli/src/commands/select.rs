//! From the words of a command line to a run and an instance. Who mistypes is shown the nearest name; who names a task of
//! many instances is shown some of them.

use std::collections::HashSet;

use swarm_orchestrator::ids::{RunId, encode_component};
use swarm_orchestrator::journal::{DamagedRow, InstanceState, JournalError, JournalReader, RunLock, RunRow, RunState};
use swarm_orchestrator::report::{sanitize, words};
use swarm_plans::diagnostic::nearest;
use swarm_plans::{InstanceId, name_matches, task_in};

use crate::commands::exec::PLAN as EXEC_PLAN;
use crate::commands::failure::Failure;
use crate::commands::plan::PLAN as PLANNING;

/// Names that a hint lists.
const NAMES_MAX: usize = 8;

/// The run that a word means: its id, or its plan's name for the newest run of that plan; without a word the newest run of
/// a plan, or the newest `exec` where no plan ever ran.
///
/// # Errors
/// There is no such run, or none at all; or what the journal says of it is damaged.
pub fn run(journal: &JournalReader, word: Option<&str>) -> Result<RunRow, Failure> {
    let entries = journal.entries()?;
    let found = match word {
        None => newest_but(&entries, &[EXEC_PLAN]).or(entries.first()),
        Some(word) => find_entry(&entries, word),
    };
    match (found, word) {
        (Some(entry), _) => entry.clone().map_err(|damaged| JournalError::from(damaged).into()),
        (None, None) => Err(no_runs(journal)),
        (None, Some(word)) => Err(unknown_run(journal, &entries.into_iter().flatten().collect::<Vec<_>>(), word)),
    }
}

/// As [`run`], but an `exec` or the writing of a plan is never meant without a word.
///
/// # Errors
/// As [`run`].
pub fn run_of_plan(journal: &JournalReader, word: Option<&str>) -> Result<RunRow, Failure> {
    match word {
        Some(_) => run(journal, word),
        None => match newest_but(&journal.entries()?, &[EXEC_PLAN, PLANNING]) {
            Some(entry) => entry.clone().map_err(|damaged| JournalError::from(damaged).into()),
            None => Err(no_runs(journal)),
        },
    }
}

/// The run and the instance that `[RUN] TASK` mean.
///
/// # Errors
/// There is no such run or instance, or the words mean several.
pub fn instance(journal: &JournalReader, words: &[String]) -> Result<(RunRow, RunState, InstanceId), Failure> {
    let (run_word, task) = run_and_task(words)?;
    let row = run(journal, run_word)?;
    let state = journal.state(&row.id)?;
    match find_instance(&state, task) {
        Ok(id) => Ok((row, state, id)),
        Err(failure) => {
            // `swarm logs tour-1`: the word is a run, the task is missing.
            match journal.runs()?.iter().find(|row| run_word.is_none() && row.id.0 == *task) {
                Some(row) => {
                    let state = journal.state(&row.id)?;
                    let names = list(state.instances.keys().map(|id| id.0.as_ref()));
                    Err(Failure::usage(format!("choose a task of {task}"), format!("its tasks are {names}")))
                }
                None => Err(failure),
            }
        }
    }
}

/// What `[RUN] [TASK]` mean; a single word is a run if there is one of that name, else a task of the newest run.
///
/// # Errors
/// As [`instance`].
pub fn run_or_instance(
    journal: &JournalReader,
    words: &[String],
) -> Result<(RunRow, RunState, Option<InstanceId>), Failure> {
    if is_task(journal, words)? {
        return instance(journal, words).map(|(row, state, id)| (row, state, Some(id)));
    }
    let row = run(journal, words.first().map(String::as_str))?;
    let state = journal.state(&row.id)?;
    Ok((row, state, None))
}

/// The same where a task stands for all of its instances, and a pattern for whatever it matches; in graph order, at least one.
///
/// # Errors
/// There is no such run, or nothing of that name.
pub fn run_or_instances(
    journal: &JournalReader,
    words: &[String],
) -> Result<(RunRow, RunState, Option<Vec<InstanceId>>), Failure> {
    if is_task(journal, words)? {
        return instances(journal, words).map(|(row, state, ids)| (row, state, Some(ids)));
    }
    let row = run(journal, words.first().map(String::as_str))?;
    let state = journal.state(&row.id)?;
    Ok((row, state, None))
}

/// Whether the last of the words means a task.
fn is_task(journal: &JournalReader, words: &[String]) -> Result<bool, Failure> {
    Ok(match words {
        [] => false,
        [word] => find_entry(&journal.entries()?, word).is_none(),
        _ => true,
    })
}

/// Which of the words is the run, if one is, and which the task. A command line can hold more of them than it is said to take, with
/// flags in between.
fn run_and_task(words: &[String]) -> Result<(Option<&str>, &str), Failure> {
    match words {
        [task] => Ok((None, task)),
        [run, task] => Ok((Some(run), task)),
        _ => {
            let told: Vec<String> = words.iter().map(|word| sanitize::name(word)).collect();
            let message = format!("tell what is meant by {}", told.join(" "));
            Err(Failure::usage(message, "a run and a task at most: [RUN] TASK".to_owned()))
        }
    }
}

/// The run and the instances that `[RUN] TASK` mean: one, all of a task, or what a pattern matches (`*` is anything), in graph
/// order.
///
/// # Errors
/// As [`instance`], but that several are meant.
pub fn instances(journal: &JournalReader, words: &[String]) -> Result<(RunRow, RunState, Vec<InstanceId>), Failure> {
    let (run_word, task) = run_and_task(words)?;
    let row = run(journal, run_word)?;
    let state = journal.state(&row.id)?;
    let exact = InstanceId(task.into());
    let is_meant = |(id, instance): &(&InstanceId, &InstanceState)| match state.instances.contains_key(&exact) {
        true => **id == exact,
        false => *instance.task() == *task || task.contains('*') && name_matches(task, &id.0),
    };
    let meant: Vec<InstanceId> = state.instances.iter().filter(is_meant).map(|(id, _)| id.clone()).collect();
    match meant.as_slice() {
        [] => instance(journal, words).map(|(row, state, id)| (row, state, vec![id])),
        _ => Ok((row, state, meant)),
    }
}

/// A run as the journal lists it.
type Entry = Result<RunRow, DamagedRow>;

/// The newest run of none of these plans. Of which plan a damaged one is, its name says.
fn newest_but<'a>(entries: &'a [Entry], plans: &[&str]) -> Option<&'a Entry> {
    entries.iter().find(|entry| !plans.iter().any(|plan| is_of(entry, plan)))
}

fn find_entry<'a>(entries: &'a [Entry], word: &str) -> Option<&'a Entry> {
    let id = |entry: &'a Entry| entry.as_ref().map_or_else(|damaged| &damaged.run, |row| &row.id);
    entries.iter().find(|entry| id(entry).0 == word).or_else(|| entries.iter().find(|entry| is_of(entry, word)))
}

fn is_of(entry: &Entry, plan: &str) -> bool {
    match entry {
        Ok(row) => row.plan == plan,
        Err(damaged) => damaged.run.0.rsplit_once('-').is_some_and(|(stem, _)| stem == encode_component(plan)),
    }
}

/// The instance that a word means: its id, or its task's name when that has one instance only.
///
/// # Errors
/// There is none, or there are several.
pub fn find_instance(state: &RunState, word: &str) -> Result<InstanceId, Failure> {
    let exact = InstanceId(word.into());
    if state.instances.contains_key(&exact) {
        return Ok(exact);
    }
    let of_task: Vec<&InstanceId> = instances_of(state, word).collect();
    let run = state.run.as_ref().map_or("the run", |run| &run.0);
    match of_task.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            let known = state.instances.iter().flat_map(|(id, instance)| [&*id.0, instance.task()]);
            let partly = list(state.instances.keys().map(|id| id.0.as_ref()).filter(|id| holds_pairs(id, word)));
            let hint = match nearest(word, known) {
                _ if state.instances.is_empty() => "its tasks are not known yet".to_owned(),
                _ if !partly.is_empty() => format!("did you mean {partly}?"),
                Some(near) => format!("did you mean {}?", sanitize::shell_word(near)),
                None => match instances_of(state, task_in(word)).next() {
                    Some(_) => {
                        let task = task_in(word);
                        format!("its instances are {}", list(instances_of(state, task).map(|id| id.0.as_ref())))
                    }
                    None => format!("its tasks are {}", list(state.instances.values().map(|i| i.task()))),
                },
            };
            Err(Failure::usage(format!("find a task {:?} in {run}", sanitize::name(word)), hint))
        }
        several => {
            let names = list(several.iter().map(|id| id.0.as_ref()));
            let message = format!("choose one of the {} instances of {word} in {run}", several.len());
            Err(Failure::usage(message, format!("name one of {names}")))
        }
    }
}

/// Whether a word names an instance with some of its pairs left out: `build[os=a]` for `build[os=a,arch=b]`.
fn holds_pairs(id: &str, word: &str) -> bool {
    let parts = |name: &str| {
        let (task, rest) = name.split_once('[')?;
        let pairs: Vec<String> = rest.trim_end_matches(']').split(',').map(|pair| pair.trim().to_owned()).collect();
        Some((task.to_owned(), pairs))
    };
    let (Some((task, all)), Some((named, some))) = (parts(id), parts(word)) else { return false };
    task == named && some.iter().all(|pair| all.contains(pair))
}

fn instances_of<'a>(state: &'a RunState, task: &'a str) -> impl Iterator<Item = &'a InstanceId> {
    state
        .instances
        .iter()
        .filter(move |(_, instance): &(_, &InstanceState)| *instance.task() == *task)
        .map(|(id, _)| id)
}

fn no_runs(journal: &JournalReader) -> Failure {
    forgotten_runs(journal).unwrap_or_else(never_ran)
}

/// Says that the journal has lost its runs, where folders of some lie beside it.
pub fn forgotten_runs(journal: &JournalReader) -> Option<Failure> {
    let state = journal.path().parent().unwrap_or(journal.path());
    // One that begins at this moment has its folder first.
    let begins =
        |name: &String| RunLock::holder_of_run(state, &RunId(name.clone())).is_ok_and(|holder| holder.is_some());
    let folders: Vec<String> = journal.run_folders().into_iter().filter(|name| !begins(name)).collect();
    let path = sanitize::name(&journal.path().to_string_lossy());
    let message = format!(
        "find a run: {path} has none, though there are folders of {}",
        list(folders.iter().map(String::as_str))
    );
    let hint = "its `-wal` file holds what was written last: put that back beside it, where it was removed; all results are \
                still there: git for-each-ref refs/swarm/";
    (!folders.is_empty()).then(|| Failure::environment(message, hint.to_owned()))
}

fn never_ran() -> Failure {
    Failure::usage("find a run: there is none yet", "swarm run PLAN makes one".to_owned())
}

fn unknown_run(journal: &JournalReader, runs: &[RunRow], word: &str) -> Failure {
    if runs.is_empty() {
        return no_runs(journal);
    }
    let hint = match nearest(word, runs.iter().flat_map(|row| [row.id.0.as_str(), row.plan.as_str()])) {
        Some(near) => format!("did you mean {}?", sanitize::shell_word(near)),
        None => format!("the newest are {}", list(runs.iter().map(|row| row.id.0.as_str()))),
    };
    Failure::usage(format!("find a run {:?}", sanitize::name(word)), hint)
}

/// The first few different names, as words for the shell.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut seen = HashSet::new();
    words::first_of(names.filter(|name| seen.insert(*name)).map(sanitize::shell_word), NAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_orchestrator::event::{AddedInstance, OnFailure, Recorded, RunEvent};
    use swarm_orchestrator::journal::{Journal, NewRun, RunWriter};

    fn new_run(state: &std::path::Path, plan: &str, tasks: &[&str]) -> RunWriter {
        let new = NewRun {
            plan: plan.to_owned(),
            sources: Vec::new(),
            repository: String::new(),
            expanded_hash: String::new(),
            base: String::new(),
            target: None,
            started_at_ms: 1,
            asked: swarm_orchestrator::settings::Asked::default(),
        };
        let writer = Journal::open(state).and_then(|mut journal| journal.begin_run(new, |_| false)).expect("a run");
        let instances = tasks
            .iter()
            .map(|id| AddedInstance {
                id: InstanceId((*id).into()),
                task: task_in(id).to_owned(),
                needs: Vec::new(),
                on_failure: OnFailure::Fail,
            })
            .collect();
        let stored: Vec<Recorded> = writer.append(1, vec![RunEvent::InstancesAdded { instances }]).expect("space");
        assert_eq!(stored.len(), 1);
        writer
    }

    fn check(words: &[&str], expected: Result<(&str, Option<&str>), &str>) {
        let state = tempfile::tempdir().expect("a temporary folder");
        new_run(state.path(), "tour", &["survey", "migrate[crate=a]", "migrate[crate=b]", "grid[os=x,arch=y]"]);
        new_run(state.path(), "ci", &["build", "test[os=x]"]);
        let journal = JournalReader::open(state.path()).expect("a journal");
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let found = run_or_instance(&journal, &words).map(|(row, _, id)| (row.id.0, id.map(|id| id.0)));
        let found = match &found {
            Ok((run, id)) => Ok((run.as_str(), id.as_deref())),
            Err(Failure::Told { message, hint, .. }) => Err(format!("{message} ({})", hint.as_deref().unwrap_or(""))),
            Err(other) => Err(format!("{other:?}")),
        };
        assert_eq!(found, expected.map_err(str::to_owned), "{words:?}");
    }

    #[test]
    fn words_mean_what_a_person_expects() {
        check(&[], Ok(("ci-1", None)));
        check(&["tour-1"], Ok(("tour-1", None)));
        check(&["tour"], Ok(("tour-1", None)));
        check(&["build"], Ok(("ci-1", Some("build"))));
        check(&["test"], Ok(("ci-1", Some("test[os=x]"))));
        check(&["tour-1", "migrate[crate=a]"], Ok(("tour-1", Some("migrate[crate=a]"))));
    }

    #[test]
    fn a_task_means_all_of_its_instances_and_a_pattern_what_it_matches() {
        let state = tempfile::tempdir().expect("a temporary folder");
        new_run(state.path(), "tour", &["survey", "migrate[crate=a]", "migrate[crate=b]", "migrate2"]);
        let journal = JournalReader::open(state.path()).expect("a journal");
        let meant = |word: &str| match instances(&journal, &[word.to_owned()]) {
            Ok((_, _, ids)) => ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(" "),
            Err(_) => "nothing".to_owned(),
        };
        let both = "migrate[crate=a] migrate[crate=b]";
        for (word, expected) in [
            ("migrate", both),
            ("migrate[*]", both),
            ("*[crate=b]", "migrate[crate=b]"),
            ("survey", "survey"),
            ("m*2", "migrate2"),
            ("x*", "nothing"),
            ("migrat", "nothing"),
        ] {
            assert_eq!(meant(word), expected, "{word}");
        }
    }

    #[test]
    fn mistakes_are_answered_with_the_nearest_name() {
        check(&["buidl"], Err("find a task \"buidl\" in ci-1 (did you mean build?)"));
        check(&["zzz"], Err("find a task \"zzz\" in ci-1 (its tasks are build, test)"));
        check(
            &["tour-1", "migrate[crate=nothing-of-that-sort]"],
            Err(
                "find a task \"migrate[crate=nothing-of-that-sort]\" in tour-1 (its instances are 'migrate[crate=a]', 'migrate[crate=b]')",
            ),
        );
        check(
            &["tour-1", "grid[os=x]"],
            Err("find a task \"grid[os=x]\" in tour-1 (did you mean 'grid[os=x,arch=y]'?)"),
        );
        check(&["tuor-1", "survey"], Err("find a run \"tuor-1\" (did you mean tour-1?)"));
        check(
            &["tour-1", "migrate"],
            Err(
                "choose one of the 2 instances of migrate in tour-1 (name one of 'migrate[crate=a]', 'migrate[crate=b]')",
            ),
        );
    }
}
