//! What ran, as a tree of tasks: each task stands under the last of what it waited for, a fan-out is one line with counts.

use indexmap::IndexMap;
use swarm_plans::task_in;

use super::words::{self, Style, Tone};
use crate::event::{Fate, InstanceResult};
use crate::journal::{InstanceState, RunState, Spending, Tally};

/// Lines of a tree; the rest is counted.
const LINES_MAX: usize = 40;

/// Other needs that are named behind a task.
const ALSO_MAX: usize = 3;

/// The tree, with its line feeds; empty without tasks.
pub fn tree(state: &RunState, style: Style) -> String {
    let tasks = tasks(state);
    let levels = levels(&tasks);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    let mut roots = Vec::new();
    for (at, task) in tasks.values().enumerate() {
        match task.needs.iter().copied().max_by_key(|&need| (levels[need], usize::MAX - need)) {
            Some(parent) => children[parent].push(at),
            None => roots.push(at),
        }
    }
    // A stack of what is still to print: the task, what stands before its branch, and whether a sibling follows.
    let mut open: Vec<(usize, String, Branch)> =
        roots.iter().rev().map(|&at| (at, String::new(), Branch::Root)).collect();
    let mut lines: Vec<String> = Vec::new();
    while let Some((at, before, branch)) = open.pop() {
        let (name, task) = tasks.get_index(at).expect("indices come from the map itself");
        let (corner, below) = match branch {
            Branch::Root => ("", ""),
            Branch::Middle => ("├─ ", "│  "),
            Branch::Last => ("└─ ", "   "),
        };
        lines.push(format!("{before}{corner}{}", task.line(name, &tasks, &levels, style)));
        let before = format!("{before}{below}");
        let last = children[at].len().saturating_sub(1);
        for (place, &child) in children[at].iter().enumerate().rev() {
            open.push((child, before.clone(), if place == last { Branch::Last } else { Branch::Middle }));
        }
    }
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(format!("… and {more} more tasks"));
    }
    lines.iter().map(|line| format!("    {line}\n")).collect()
}

#[derive(Debug, Clone, Copy)]
enum Branch {
    Root,
    Middle,
    Last,
}

/// A task with its instances.
#[derive(Debug, Default)]
struct Task<'a> {
    instances: Vec<&'a InstanceState>,
    /// Indices of the tasks that it waited for.
    needs: Vec<usize>,
}

fn tasks(state: &RunState) -> IndexMap<&str, Task<'_>> {
    let mut tasks: IndexMap<&str, Task<'_>> = IndexMap::new();
    for instance in state.instances.values() {
        tasks.entry(instance.task()).or_default().instances.push(instance);
    }
    let needs: Vec<Vec<usize>> = tasks
        .values()
        .enumerate()
        .map(|(at, task)| {
            let named = task.instances.iter().flat_map(|instance| instance.needs().iter());
            let mut needs: Vec<usize> =
                named.filter_map(|need| tasks.get_index_of(task_in(need))).filter(|&need| need != at).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect();
    for (task, needs) in tasks.values_mut().zip(needs) {
        task.needs = needs;
    }
    tasks
}

/// How many tasks stand above each. Bounded passes, so that a damaged journal with a cycle ends as well.
fn levels(tasks: &IndexMap<&str, Task<'_>>) -> Vec<usize> {
    let mut levels = vec![0; tasks.len()];
    for _ in 0..tasks.len() {
        let mut moved = false;
        for (at, task) in tasks.values().enumerate() {
            let level = task.needs.iter().map(|&need| levels[need] + 1).max().unwrap_or(0).min(tasks.len());
            moved |= level != levels[at];
            levels[at] = level;
        }
        if !moved {
            break;
        }
    }
    levels
}

impl Task<'_> {
    fn line(&self, name: &str, tasks: &IndexMap<&str, Task<'_>>, levels: &[usize], style: Style) -> String {
        let mut tally = Tally::default();
        for instance in &self.instances {
            tally.instances += 1;
            match instance.result() {
                Some(InstanceResult::Succeeded | InstanceResult::Flaky) => tally.passed += 1,
                Some(InstanceResult::Skipped) => tally.skipped += 1,
                Some(InstanceResult::Blocked) => tally.blocked += 1,
                Some(InstanceResult::Cancelled) => tally.cancelled += 1,
                Some(_) => tally.failed += 1,
                None => {}
            }
            match instance.fate() {
                Some(Fate::Landed { .. }) => tally.landed += 1,
                Some(Fate::Parked { .. }) => tally.parked += 1,
                Some(Fate::Dropped { .. }) => tally.dropped += 1,
                Some(Fate::Empty) | None => {}
            }
        }
        let (mark, tone) = mark(&tally);
        let mut text = format!("{} {}", style.paint(tone, mark), super::sanitize::name(name));
        let mut said: Vec<String> = Vec::new();
        if self.instances.len() == 1 {
            said.extend(self.instances[0].result().filter(|result| !result.passed()).map(|r| r.name().to_owned()));
        } else {
            text.push_str(&format!(" ×{}", self.instances.len()));
            let counts = [(tally.passed, "passed"), (tally.failed, "failed"), (tally.blocked, "blocked")];
            let more = [(tally.skipped, "skipped"), (tally.cancelled, "cancelled")];
            let counts = counts.into_iter().chain(more).filter(|(n, _)| *n > 0 && *n < tally.instances);
            said.extend(counts.map(|(n, word)| format!("{n} {word}")));
        }
        match (tally.landed, self.instances.len()) {
            (0, _) => {}
            (1, 1) => said.push("landed".to_owned()),
            (n, _) => said.push(format!("{n} landed")),
        }
        if tally.parked > 0 {
            said.push(if self.instances.len() == 1 { "parked".to_owned() } else { format!("{} parked", tally.parked) });
        }
        match (tally.dropped, self.instances.len()) {
            (0, _) => {}
            (1, 1) => said.push("dropped".to_owned()),
            (n, _) => said.push(format!("{n} dropped")),
        }
        let longest = self.instances.iter().map(|instance| instance.spent_ms()).max().unwrap_or(0);
        if self.instances.iter().any(|instance| !instance.attempts.is_empty()) {
            said.push(words::duration(longest));
        }
        let mut spent = Spending::default();
        self.instances.iter().filter_map(|instance| instance.models()).for_each(|one| spent.add(one));
        if spent.calls > 0 {
            said.push(super::money::cost(&spent));
        }
        if !said.is_empty() {
            text.push_str(&style.paint(Tone::Quiet, &format!("  {}", said.join(", "))));
        }
        text.push_str(&self.also(tasks, levels));
        text
    }

    /// The needs that the tree does not show.
    fn also(&self, tasks: &IndexMap<&str, Task<'_>>, levels: &[usize]) -> String {
        let Some(parent) = self.needs.iter().copied().max_by_key(|&need| (levels[need], usize::MAX - need)) else {
            return String::new();
        };
        let others: Vec<String> = self
            .needs
            .iter()
            .filter(|&&need| need != parent && !above(parent, need, tasks))
            .filter_map(|&need| tasks.get_index(need))
            .map(|(name, _)| super::sanitize::name(name))
            .collect();
        if others.is_empty() {
            return String::new();
        }
        format!("  (after {} too)", super::words::first_of(others, ALSO_MAX))
    }
}

/// Whether `need` is waited for by `task` already, so that naming it again says nothing.
fn above(task: usize, need: usize, tasks: &IndexMap<&str, Task<'_>>) -> bool {
    let mut seen = vec![false; tasks.len()];
    let mut open = vec![task];
    while let Some(at) = open.pop() {
        for &next in &tasks[at].needs {
            if next == need {
                return true;
            }
            if !std::mem::replace(&mut seen[next], true) {
                open.push(next);
            }
        }
    }
    false
}

fn mark(tally: &Tally) -> (&'static str, Tone) {
    let finished = tally.passed + tally.failed + tally.blocked + tally.skipped + tally.cancelled;
    let all_dropped = tally.dropped > 0 && tally.dropped == tally.passed + tally.failed;
    if tally.failed > 0 && !all_dropped {
        words::mark(InstanceResult::Failed)
    } else if tally.parked > 0 {
        (words::PARKED_MARK, Tone::Warn)
    } else if finished < tally.instances {
        ("[ ]", Tone::Quiet)
    } else if tally.cancelled > 0 {
        words::mark(InstanceResult::Cancelled)
    } else if all_dropped {
        (words::DROPPED_MARK, Tone::Quiet)
    } else if tally.passed > 0 {
        words::mark(InstanceResult::Succeeded)
    } else {
        words::mark(InstanceResult::Skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::replay;
    use crate::report::story::*;

    #[test]
    fn tasks_stand_under_the_last_of_what_they_waited_for() {
        insta::assert_snapshot!(tree(&replay(&recorded(mixed())), Style::Plain));
    }

    #[test]
    fn needs_that_the_tree_implies_are_not_named_again() {
        let events = vec![added(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"]), ("x", &[]), ("d", &["c", "x"])])];
        let text = tree(&replay(&recorded(events)), Style::Plain);
        assert_eq!(text, "    [ ] a\n    └─ [ ] b\n       └─ [ ] c\n          └─ [ ] d  (after x too)\n    [ ] x\n");
    }

    #[test]
    fn a_cycle_in_a_damaged_journal_ends() {
        let events = vec![added(&[("a", &["b"]), ("b", &["a"]), ("c", &[])])];
        assert_eq!(tree(&replay(&recorded(events)), Style::Plain), "    [ ] c\n");
    }
}
