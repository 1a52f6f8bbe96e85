//! Who looks at a result before it counts: the verifier of `until`, and tasks with `review`.
//!
//! A review belongs to the attempt that it reviews. It is held after the checks and before the result is one: so a result with
//! findings neither lands nor reaches a dependent, whatever the run does meanwhile, and what goes back goes the way of every
//! failed check, into the next attempt's prompt, bounded by `until.max` or `retry`. The other way, a review as a node of
//! its own behind a finished task, would have to take results back that others may have built on. A task with `review`
//! is therefore a name for its reviews: it has nothing left to do when the tasks that it names have passed, and whoever needs
//! it waits for exactly that.

use crate::agent::Agent;
use crate::diagnostic::{Diagnostic, Location};
use crate::document::{Node, Table};
use crate::lower::{Lower, count};
use crate::plan::{AllowFailure, Check, NeedSpec, NeedTarget, Task, TaskIx, Work};
use crate::template::Template;

/// Rounds of `until`, unless the plan says otherwise.
const ROUNDS_DEFAULT: u32 = 5;

/// How the verifier of `until` is called.
const VERIFIER: &str = "verifier";

/// Keys that say nothing about a review: it sees what its tasks see, in their cages.
const NOT_OF_REVIEWS: [&str; 12] = [
    "foreach",
    "matrix",
    "matrix-include",
    "check",
    "until",
    "cache",
    "expands",
    "writes",
    "sandbox",
    "outputs",
    "models",
    "retry",
];

/// An agent that looks at a result and approves of it or says what is wrong.
#[derive(Debug, Clone)]
pub struct Reviewer {
    /// The task with `review`, or `verifier`.
    pub by: String,
    /// What it is told, and how it works. It may only look.
    pub agent: Agent,
}

/// `until`, as it is lowered.
#[derive(Debug, Default)]
pub(crate) struct Until {
    /// Attempts that it allows; `None` without `until`.
    pub rounds: Option<u32>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// Its verifier.
    pub reviewers: Vec<Reviewer>,
}

impl<'a> Lower<'a> {
    /// `until` of a task whose work is `work`.
    pub fn until(&mut self, node: Option<&'a Node>, work: Option<&Work>) -> Until {
        let Some((node, table)) = node.and_then(|node| Some((node, node.table()?))) else { return Until::default() };
        if !matches!(work, Some(Work::Agent(_)) | None) {
            let hint = "a command does the same thing each time: use `retry`, or let an agent do the work";
            self.error(node.at, "`until` works with `agent` only", hint);
        }
        if table.get("check").is_none() && table.get("verifier").is_none() {
            let hint = "write until = { check = \"cargo test\", max = 5 }, or give it a `verifier`";
            self.error(node.at, "`until` does not say when it is enough", hint);
        }
        let checks = table.get("check").map(|node| self.checks(node)).unwrap_or_default();
        let verifier = table.get("verifier").and_then(|node| self.agent(node));
        let reviewers = verifier.into_iter().map(|agent| Reviewer { by: VERIFIER.to_owned(), agent }).collect();
        Until { rounds: Some(count(table.get("max")).unwrap_or(ROUNDS_DEFAULT)), checks, reviewers }
    }

    /// The tasks that a task reviews.
    pub fn reviewed(&mut self, own: &Table, task: &str, work: Option<&Work>) -> Vec<NeedSpec> {
        let Some(entry) = own.entry("review") else { return vec![] };
        if !matches!(work, Some(Work::Agent(_)) | None) {
            let hint = "an agent reads the changes: agent = { prompt = \"Look for …\", model = \"main\" }";
            self.error(entry.key_at, "`review` works with `agent` only", hint);
        }
        for other in own.entries.iter().filter(|other| NOT_OF_REVIEWS.contains(&other.key.as_str())) {
            let message = format!("`{}` says nothing about a review", other.key);
            self.error(
                other.key_at,
                message,
                format!("`{task}` looks at what each task that it names has done, in that task's cage: leave it out"),
            );
        }
        let reviewed = self.needs(&entry.node);
        for need in reviewed.iter().filter(|need| !matches!(need.target, NeedTarget::Task(_))) {
            self.error(need.at, "`review` names whole tasks", "each of their instances is reviewed by itself");
        }
        reviewed
    }
}

/// Gives the tasks with `review` to the tasks that they name.
pub(crate) fn attach(tasks: &mut [Task], diagnostics: &mut Vec<Diagnostic>) {
    for at in 0..tasks.len() {
        if tasks[at].reviews.is_empty() {
            continue;
        }
        let stand_in = Work::Run(Template::literal_at(":", tasks[at].at));
        let Work::Agent(agent) = std::mem::replace(&mut tasks[at].work, stand_in) else { continue };
        let (by, reviews) = (tasks[at].name.0.clone(), std::mem::take(&mut tasks[at].reviews));
        for (task, place) in reviews.iter().filter_map(target) {
            if task.index() == at || tasks[task.index()].is_review {
                let hint = "a review has no change that could be looked at";
                diagnostics.push(Diagnostic::error(place, "a review cannot be reviewed").hint(hint));
                continue;
            }
            if tasks[task.index()].allow_failure == AllowFailure::Yes {
                let name = &tasks[task.index()].name.0;
                let message =
                    format!("a review of `{name}` holds nothing back: whoever waits goes on when `{name}` fails");
                let hint = format!("take `allow-failure` from `{name}`: without approval it fails");
                diagnostics.push(Diagnostic::error(place, message).hint(hint).in_new_plans());
            }
            tasks[task.index()].reviewers.push(Reviewer { by: by.clone(), agent: (*agent).clone() });
        }
        let own = &mut tasks[at];
        let missing: Vec<NeedSpec> = reviews
            .into_iter()
            .filter(|need| {
                let known =
                    |other: &NeedSpec| target(other).map(|(task, _)| task) == target(need).map(|(task, _)| task);
                !own.needs.iter().any(known)
            })
            .collect();
        own.needs.extend(missing);
        own.writes = Some(vec![]);
    }
}

fn target(need: &NeedSpec) -> Option<(TaskIx, Location)> {
    match need.target {
        NeedTarget::Task(task) => Some((task, need.at)),
        NeedTarget::Instances { .. } | NeedTarget::Every => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::file::{Parsed, parse};

    fn parsed(text: &str) -> Parsed {
        parse("p", &format!("version = 1\n{text}"), &[], &mut |_| Err(String::new()))
    }

    fn check(text: &str, expected: &str) {
        let found = parsed(text).diagnostics;
        assert!(found.iter().any(|one| one.message.contains(expected)), "{expected} is not in {found:?}");
    }

    const WORK: &str = "[tasks.work]\nagent = { prompt = 'w' }\n";

    #[test]
    fn until_adds_its_checks_and_its_verifier() {
        let plan = parsed(&format!(
            "{WORK}check = 'a'\nuntil = {{ check = ['b', 'c'], verifier = {{ prompt = 'v' }}, max = 3 }}\n"
        ));
        let plan = plan.plan.unwrap_or_else(|| panic!("{:?}", plan.diagnostics));
        let task = &plan.tasks[0];
        assert_eq!((task.checks.len(), task.rounds, task.reviewers.len()), (3, Some(3), 1));
        assert_eq!(task.reviewers[0].by, "verifier");
    }

    #[test]
    fn a_review_of_what_may_fail_is_none() {
        check(
            &format!("{WORK}allow-failure = true\n[tasks.look]\nagent = {{ prompt = 'r' }}\nreview = ['work']\n"),
            "holds nothing back",
        );
    }

    #[test]
    fn a_review_becomes_a_reviewer_of_each_task_that_it_names() {
        let plan = parsed(&format!(
            "{WORK}[tasks.more]\nrun = 'x'\n[tasks.look]\nagent = {{ prompt = 'r' }}\nreview = ['work', 'more']\n"
        ));
        let plan = plan.plan.unwrap_or_else(|| panic!("{:?}", plan.diagnostics));
        let by =
            |task: usize| plan.tasks[task].reviewers.iter().map(|reviewer| reviewer.by.as_str()).collect::<Vec<_>>();
        assert_eq!((by(0), by(1), by(2)), (vec!["look"], vec!["look"], vec![]));
        assert!(plan.tasks[2].agent().is_none() && plan.tasks[2].needs.len() == 2);
        assert_eq!(plan.model_uses().count(), 3, "models of reviewers are models of the plan");
    }

    #[test]
    fn what_says_nothing_is_refused() {
        check("[tasks.a]\nrun = 'x'\nuntil = { check = 'x' }", "`until` works with `agent` only");
        check(&format!("{WORK}until = {{ max = 2 }}"), "does not say when it is enough");
        check(&format!("{WORK}until = {{ verifier = {{ }} }}"), "is told nothing");
        check(&format!("{WORK}[tasks.r]\nrun = 'x'\nreview = ['work']"), "`review` works with `agent` only");
        check(&format!("{WORK}[tasks.r]\nagent = {{ prompt = 'r' }}\nreview = ['wrok']"), "there is no task `wrok`");
        check(
            &format!("{WORK}[tasks.r]\nagent = {{ prompt = 'r' }}\nreview = ['work']\nsandbox = 'default'"),
            "`sandbox` says nothing",
        );
        let second = "[tasks.r]\nagent = { prompt = 'r' }\nreview = ['work']\n[tasks.s]\nagent = { prompt = 's' }\nreview = ['r']\n";
        check(&format!("{WORK}{second}"), "a review cannot be reviewed");
        let ring = "[tasks.work]\nneeds = ['r']\nagent = { prompt = 'w' }\n[tasks.r]\nagent = { prompt = 'r' }\nreview = ['work']\n";
        check(ring, "wait for each other");
        check(&format!("{WORK}[tasks.r]\nagent = {{ prompt = '{{{{ odd }}}}' }}\nreview = ['work']"), "odd");
    }
}
