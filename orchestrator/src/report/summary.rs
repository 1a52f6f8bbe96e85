//! What is said at the end: what landed and where, what is kept and why, what failed with its last words, and the next
//! command to type. The same text for a run that just ended and for one of last week.

use std::fmt::Write as _;

use swarm_plans::InstanceId;
use swarm_protocol::Ended;
use swarm_protocol::agent::AgentStatus;

use super::another_plan::{allowed_with, is_done_already, limit_to_raise, more_budget, wants_another_plan};
use super::exit::{self, is_resumable};
use super::landings::{Entry, Landing, landings};
use super::words::{self, Style, Tone};
use super::{LogTail, account, handed, lines, sanitize};
use crate::dispatcher::core::OUT_OF_TIME;
use crate::event::{AttemptEnd, Fate, InstanceResult, OnFailure, ParkedBy};
use crate::executor::verify::VERIFY;
use crate::ids::Attempt;
use crate::journal::{Finished, InstanceState, Phase, RunState};
use crate::second_word::{dropped_need, keeps_others, worth_another_try};
use crate::settings::GRACE_MS;

/// Entries of one section; more are counted and left to `swarm status`.
const ENTRIES_MAX: usize = 20;

/// Lines of a failed attempt's log that are shown.
pub const TAIL_LINES_MAX: usize = 10;

/// Columns of a line of a log; a longer one is cut.
const TAIL_COLUMNS_MAX: usize = 160;

/// Tasks that are named of those that were never begun.
const NOT_BEGUN_NAMED_MAX: usize = 5;

/// Conflicting paths that are shown of one parked change.
const PATHS_MAX: usize = 5;

/// Tasks that are named in a command which gives them up.
const KEEPING_NAMED_MAX: usize = 3;

/// What a run was held to, on a line of its own: for the summary of a run whose beginning nobody saw.
pub fn facts(state: &RunState, style: Style) -> String {
    let Some(report) = &state.enforcement else { return String::new() };
    format!("{}\n", style.paint(Tone::Quiet, &words::enforcement_in_short(report)))
}

/// Commands to type, behind `label`, one a line below each other: a line is pasted whole.
fn commands(label: &str, indent: &str, commands: &[String]) -> String {
    let below = format!("\n{indent}{}", " ".repeat(words::width(label) + 1));
    format!("{indent}{label} {}\n", commands.join(&below))
}

/// Whether there is a checkout that a branch could be merged into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkout {
    /// There is.
    Here,
    /// The repository is bare.
    None,
}

/// The whole summary, with its line feeds.
pub fn summary(state: &RunState, tail: LogTail<'_>, checkout: Checkout, style: Style) -> String {
    let writer = Summary { state, tail, checkout, style };
    [
        writer.headline(),
        super::tree::tree(state, style),
        writer.landed(),
        writer.parked(),
        writer.failed(),
        writer.not_run(),
        writer.accounts(),
        writer.notes(),
        writer.handed_over(),
        writer.next_steps(),
    ]
    .into_iter()
    .filter(|section| !section.is_empty())
    .collect::<Vec<_>>()
    .join("\n")
}

/// Twice as long as a run has lived, as `--deadline` takes it.
fn longer(lived_ms: u64) -> String {
    match (2 * lived_ms).div_ceil(1000).max(1) {
        s @ ..120 => format!("{s}s"),
        s @ ..7200 => format!("{}m", s.div_ceil(60)),
        s => format!("{}h", s.div_ceil(3600)),
    }
}

struct Summary<'a> {
    state: &'a RunState,
    tail: LogTail<'a>,
    checkout: Checkout,
    style: Style,
}

impl Summary<'_> {
    fn run(&self) -> &str {
        self.state.run.as_ref().map_or("", |run| &run.0)
    }

    fn headline(&self) -> String {
        let tally = self.state.tally;
        let mut counts = vec![words::count(tally.instances, "task")];
        let mut add = |n: u64, word: &str| {
            if n > 0 {
                counts.push(format!("{n} {word}"));
            }
        };
        add(tally.passed, "passed");
        add(tally.flaky, "of them on a retry");
        add(tally.reused, "of them cached");
        add(tally.failed, "failed");
        add(tally.blocked, "blocked");
        add(tally.skipped, "skipped");
        add(tally.cancelled, "cancelled");
        add(tally.landed, "landed");
        add(tally.parked, "parked");
        add(tally.dropped, "dropped");
        add(self.waiting_to_land(), "not merged yet");
        let counts = counts.join(", ");
        let run = self.style.paint(Tone::Strong, self.run());
        let Some(end) = &self.state.finished else {
            return format!("{run} has not finished: {counts}\n");
        };
        let spent = words::duration(self.state.lived_ms);
        let tone = if end.exit == 0 { Tone::Good } else { Tone::Bad };
        let said = self.style.paint(tone, &exit::told(self.state, end));
        let models = super::money::total(self.state);
        let models = models.map(|all| format!("    models: {}\n", super::money::spending(&all))).unwrap_or_default();
        format!("{run}: {said}\n    {counts} in {spent}\n{models}")
    }

    /// Results of a run that ended early which passed, and of which nobody has said yet whether they land.
    fn waiting_to_land(&self) -> u64 {
        let waits = |instance: &&InstanceState| {
            let passed = instance.standing_result().is_some_and(InstanceResult::passed);
            passed && instance.fate().is_none() && instance.change().is_some()
        };
        let may_land = self.state.target.is_some() && self.state.finished.is_some();
        if may_land { self.state.instances.values().filter(waits).count() as u64 } else { 0 }
    }

    fn landed(&self) -> String {
        let Some(branch) = self.state.branch() else { return String::new() };
        let tip = self.state.finished.as_ref().and_then(|end| end.tip.as_deref());
        let at = tip.map(|tip| format!(" at {}", words::short(tip))).unwrap_or_default();
        let title = match self.end_without_what_landed() {
            Some(_) => format!("landed on {}, which no longer holds it", sanitize::name(branch)),
            None => format!("landed on {}{at}", sanitize::name(branch)),
        };
        let landings = landings(self.state);
        self.section(&title, Tone::Good, landings, |(instance, landing), text| {
            let files = instance.1.change().map_or(0, |change| change.files);
            let (commit, what) = match landing {
                Landing::As(commit) => (words::short(commit), words::count(files, "file")),
                Landing::Stood => ("nothing to add", "the branch has it".to_owned()),
            };
            let _ = writeln!(text, "    {commit}  {}  {what}", words::instance(instance.0));
        })
    }

    fn handed_over(&self) -> String {
        self.section("files handed over", Tone::Strong, handed::for_the_person(self.state), |(id, _), text| {
            let _ = writeln!(text, "    {}: {}", words::instance(id), handed::command(self.run(), &id.0));
        })
    }

    fn parked(&self) -> String {
        let entries = self.entries(|instance| matches!(instance.fate(), Some(Fate::Parked { .. })));
        self.section("parked: kept, not merged", Tone::Warn, entries, |(id, instance), text| {
            let Some(Fate::Parked { reason: said, paths, verification, by }) = instance.fate() else { return };
            let reason = words::parked(self.state, instance).unwrap_or_default();
            let _ = writeln!(text, "    {}: {reason}", words::instance(id));
            for path in paths.iter().take(PATHS_MAX) {
                let _ = writeln!(text, "        {}", sanitize::name(path));
            }
            if paths.len() > PATHS_MAX {
                let _ = writeln!(text, "        … and {} more", paths.len() - PATHS_MAX);
            }
            let _ = writeln!(text, "        look: swarm diff {} {}", self.run(), sanitize::shell_word(&id.0));
            if let Some(number) = verification.filter(|number| self.gate_said_something(*number)) {
                let _ = writeln!(text, "        why:  {} --attempt {number}", self.gate_log());
            }
            let words = format!("{} {}", self.run(), sanitize::shell_word(&id.0));
            let may: &[&str] = match by {
                // What waits for others has nothing that could be settled: it lands when they do.
                ParkedBy::Others => &["retry", "drop"],
                // Nor has what builds on one that is still parked: whatever is made of it here stays parked with that.
                ParkedBy::Need if reason == sanitize::name(said) => &["drop"],
                _ => &["resolve", "retry", "drop"],
            };
            let next: Vec<String> = may.iter().map(|command| format!("swarm {command} {words}")).collect();
            text.push_str(&commands("next:", "        ", &next));
        }) + &self.without_what_keeps_others()
    }

    /// How what waits to be published with all others lands without what keeps it.
    fn without_what_keeps_others(&self) -> String {
        let Some(keeping) = keeps_others(self.state).filter(|keeping| !keeping.is_empty()) else {
            return String::new();
        };
        let run = self.run();
        let drops = keeping.iter().map(|id| format!("swarm drop {run} {} && ", sanitize::shell_word(&id.0)));
        match keeping.len() {
            ..=KEEPING_NAMED_MAX => {
                let drops: String = drops.collect();
                format!("    to land the others without what keeps them: {drops}swarm retry {run}\n")
            }
            many => format!(
                "    to land the others without what keeps them: swarm drop {run} TASK for each of the {many} that failed or are parked \
                 for a reason of their own, then swarm retry {run}\n"
            ),
        }
    }

    fn failed(&self) -> String {
        let entries = self.entries(|instance| {
            matches!(
                instance.result(),
                Some(
                    InstanceResult::Failed
                        | InstanceResult::TimedOut
                        | InstanceResult::Violation
                        | InstanceResult::Lost
                )
            )
        });
        self.section("failed", Tone::Bad, entries, |(id, instance), text| {
            let result = instance.result().unwrap_or(InstanceResult::Lost);
            let said = lines::result_text(self.state, result, instance.cause(), instance);
            let allowed = if instance.on_failure == OnFailure::Allow { " (allowed)" } else { "" };
            let dropped = if matches!(instance.fate(), Some(Fate::Dropped { .. })) { " (dropped)" } else { "" };
            let spent = spent(instance);
            // The section's title says that it failed.
            let said = said.strip_prefix("failed: ").unwrap_or(&said);
            // It was asked to end before it was killed.
            let grace = match result {
                InstanceResult::TimedOut if instance.spent_ms() >= GRACE_MS => format!(", at most {} of it grace", words::duration(GRACE_MS)),
                _ => String::new(),
            };
            let _ = writeln!(text, "    {}: {said}{spent}{grace}{allowed}{dropped}", words::instance(id));
            let Some(attempt) = instance.last_attempt() else { return };
            let tail = (self.tail)(id, attempt.attempt);
            for line in &tail {
                let shown = words::fit(&sanitize::line(line), TAIL_COLUMNS_MAX);
                let _ = writeln!(text, "        {} {shown}", self.style.paint(Tone::Quiet, "|"));
            }
            text.push_str(&words::refusals(attempt.refusals(), "        "));
            if let Some(lines) = allowed_with(instance) {
                text.push_str(&words::to_allow(lines, "        "));
            }
            if wants_another_plan(instance) {
                text.push_str("        then swarm run it anew (a retry goes by plan and base as they were)\n");
            }
            if matches!(attempt.end(), Some(AttemptEnd::Needs { .. })) {
                text.push_str(
                    "        to go on: let one of these needs need the other, which starts it from that one's change, then swarm run it \
                     anew; variants to choose from are runs of their own (swarm run --into BRANCH for each)\n",
                );
            }
            if let Some(limit) = limit_to_raise(instance) {
                let _ = writeln!(
                    text,
                    "        to allow it: more `{limit}` in the [sandbox.NAME] of its task, \"default\" where it names none; then swarm \
                     run it anew"
                );
            }
            if !tail.is_empty() {
                let _ = writeln!(text, "        more: swarm logs {} {}", self.run(), sanitize::shell_word(&id.0));
            }
            if instance.left_files() {
                let _ = writeln!(text, "        files that it left: {}", handed::command(self.run(), &id.0));
            }
        })
    }

    fn not_run(&self) -> String {
        let finished = self.state.finished.is_some();
        let entries = self.entries(|instance| match instance.phase {
            Phase::Finished(result) => {
                matches!(result, InstanceResult::Blocked | InstanceResult::Skipped | InstanceResult::Cancelled)
            }
            Phase::Waiting | Phase::Running | Phase::Retrying { .. } => finished,
        });
        let not_begun = |(_, instance): &Entry<'_>| {
            instance.attempts.is_empty() && matches!(instance.result(), None | Some(InstanceResult::Cancelled))
        };
        let (not_begun, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(not_begun);
        let lines = others.into_iter().map(|(id, instance)| {
            let said = match instance.result() {
                Some(result) => lines::result_text(self.state, result, instance.cause(), instance),
                None => "not reached".to_owned(),
            };
            format!("{}: {said}", words::instance(id))
        });
        let named = words::first_of(not_begun.iter().map(|(id, _)| words::instance(id)), NOT_BEGUN_NAMED_MAX);
        let begun_never = (!named.is_empty()).then(|| format!("not begun: {named}"));
        self.section("not run to the end", Tone::Quiet, lines.chain(begun_never).collect(), |line, text| {
            let _ = writeln!(text, "    {line}");
        })
    }

    /// What agents say of work that is not all of it, or that leaves something to others.
    fn accounts(&self) -> String {
        let entries = self.entries(|instance| {
            account::of(instance).is_some_and(|said| said.status != AgentStatus::Done || !said.follow_ups.is_empty())
        });
        self.section("what agents say of their work", Tone::Strong, entries, |(id, instance), text| {
            let _ = writeln!(text, "    {}", words::instance(id));
            text.push_str(&account::lines(instance, "        "));
        })
    }

    /// What people should know of attempts that are over.
    fn notes(&self) -> String {
        let all: Vec<String> = self
            .state
            .instances
            .iter()
            .filter_map(|(id, instance)| Some((id, instance.last_attempt()?)))
            .flat_map(|(id, attempt)| attempt.notes().iter().map(move |note| (id, note)))
            .map(|(id, note)| format!("    {}: {}\n", words::instance(id), sanitize::name(note)))
            .chain(self.came_to_nothing())
            .chain(self.flaky_gate())
            .collect();
        if all.is_empty() {
            return String::new();
        }
        let mut text = format!("{}\n", self.style.paint(Tone::Warn, "notes"));
        all.iter().take(ENTRIES_MAX).for_each(|line| text.push_str(line));
        if all.len() > ENTRIES_MAX {
            text.push_str(&format!("    … and {} more\n", all.len() - ENTRIES_MAX));
        }
        text
    }

    /// A gate that says now this and now that of the same tree is worth looking at, although something landed.
    fn flaky_gate(&self) -> Option<String> {
        let times = words::count(self.state.gate.flaky, "tree");
        let logs = format!("swarm logs {} {}", self.run(), sanitize::shell_word(VERIFY));
        (self.state.gate.flaky > 0)
            .then(|| format!("    verify was red first and green on another try, of {times}: {logs}\n"))
    }

    /// What was good once, was put aside, and was not done again by the try that took its place.
    fn came_to_nothing(&self) -> impl Iterator<Item = String> {
        let empty = self.state.instances.iter().filter(|(_, instance)| instance.fate() == Some(&Fate::Empty));
        empty.filter_map(|(id, instance)| {
            let attempt = instance.put_aside().last()?.attempt;
            let (name, run, word) = (words::instance(id), self.run(), sanitize::shell_word(&id.0));
            Some(format!(
                "    {name}: the change of attempt {attempt} was put aside, and the next one changed nothing; it is kept: \
                 swarm diff {run} {word}, swarm drop {run} {word}\n"
            ))
        })
    }

    /// Commands that a person may want next, each as it can be typed.
    fn next_steps(&self) -> String {
        let mut steps: Vec<String> = Vec::new();
        // What is gone from the branch comes first: nothing else goes on without it.
        let lost = self.end_without_what_landed();
        steps.extend(lost.and_then(|end| end.way_back.clone()));
        match self.state.finished.as_ref().map(|end| end.exit) {
            Some(exit::DEADLINE) if self.is_out_of_time() => {
                steps.push(format!("swarm resume {} --deadline {}", self.run(), longer(self.state.lived_ms)));
            }
            Some(exit) if is_resumable(Some(exit)) => steps.push(format!("swarm resume {}", self.run())),
            // Another try is made on the same base.
            Some(exit::BASE_RED) => {
                let mut all = 1..=self.state.gate.verifications.max(1);
                steps.extend(all.any(|n| self.gate_said_something(n)).then(|| self.gate_log()));
            }
            Some(_) if self.is_retry_worthwhile() => {
                steps.push(format!("swarm retry {}{}", self.run(), more_budget(self.state)));
            }
            Some(_) | None => {}
        }
        if self.state.tally.landed > 0
            && lost.is_none()
            && let Some(branch) = self.state.branch()
        {
            let branch = sanitize::shell_word(branch);
            steps.push(format!("git diff {}...{branch}", words::short(&self.state.base)));
            if self.checkout == Checkout::Here {
                steps.push(format!("swarm apply {}", self.run()));
            }
        }
        if self.state.tally.instances > self.state.tally.landed {
            steps.push(format!("swarm status {}", self.run()));
        }
        if steps.is_empty() { String::new() } else { commands("next:", "", &steps) }
    }

    /// Whether another try may come to anything.
    fn is_retry_worthwhile(&self) -> bool {
        let all = worth_another_try(self.state, None);
        let all: Vec<&InstanceState> = all.iter().map(|id| &self.state.instances[id]).collect();
        // What is blocked runs when what blocked it passes: that decides, where it is tried again, too.
        let is_blocked = |instance: &&InstanceState| instance.result() == Some(InstanceResult::Blocked);
        let only_blocked = all.iter().all(is_blocked);
        all.into_iter().filter(|instance| only_blocked || !is_blocked(instance)).any(|instance| {
            // What only another plan or another base allows, the same ones forbid again.
            let forbidden = wants_another_plan(instance) || is_done_already(instance);
            dropped_need(self.state, instance).is_none() && !forbidden
        })
    }

    /// The end of the run, where the target does not hold what it has landed there.
    fn end_without_what_landed(&self) -> Option<&Finished> {
        self.state.finished.as_ref().filter(|end| end.lost.is_some())
    }

    fn is_out_of_time(&self) -> bool {
        let cause = self.state.finished.as_ref().and_then(|end| end.cause.as_deref());
        cause == Some(OUT_OF_TIME)
    }

    /// Whether there is anything to read in the log of a verification.
    fn gate_said_something(&self, number: u64) -> bool {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        !(self.tail)(&InstanceId(VERIFY.into()), Attempt(number)).is_empty()
    }

    /// What shows the log of the gate.
    fn gate_log(&self) -> String {
        format!("swarm logs {} {}", self.run(), sanitize::shell_word(VERIFY))
    }

    fn entries(&self, wanted: impl Fn(&InstanceState) -> bool) -> Vec<Entry<'_>> {
        self.state.instances.iter().filter(|(_, instance)| wanted(instance)).collect()
    }

    fn section<T>(&self, title: &str, tone: Tone, entries: Vec<T>, mut write: impl FnMut(T, &mut String)) -> String {
        if entries.is_empty() {
            return String::new();
        }
        let mut text = format!("{}\n", self.style.paint(tone, title));
        let more = entries.len().saturating_sub(ENTRIES_MAX);
        for entry in entries.into_iter().take(ENTRIES_MAX) {
            write(entry, &mut text);
        }
        if more > 0 {
            let _ = writeln!(text, "    … and {more} more: swarm status {}", self.run());
        }
        text
    }
}

/// How long it took until it was given up, behind a reason: of one attempt, or of all.
fn spent(instance: &InstanceState) -> String {
    let spent = words::duration(instance.spent_ms());
    match instance.attempts.len() {
        0 => String::new(),
        1 if ends_in_a_verb(instance) => format!(" after {spent}"),
        1 => format!(", after {spent}"),
        _ => format!(", {spent} in all"),
    }
}

/// Whether what is said of its end is what its process did, and neither a path nor anybody's words.
fn ends_in_a_verb(instance: &InstanceState) -> bool {
    let (Some(AttemptEnd::Work { ended }) | Some(AttemptEnd::Check { ended, .. })) =
        instance.last_attempt().and_then(|attempt| attempt.end())
    else {
        return false;
    };
    matches!(ended, Ended::Exited { .. } | Ended::Signaled { .. } | Ended::TimedOut | Ended::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunEvent;
    use crate::journal::replay;
    use crate::report::story::*;

    fn words_of_a_failed_test(id: &InstanceId, _: Attempt) -> Vec<Vec<u8>> {
        match &*id.0 {
            "migrate[crate=cli]" => {
                vec![b"\x1b[31mtest parse ... FAILED\x1b[0m".to_vec(), b"1 failed; 12 passed".to_vec()]
            }
            VERIFY => vec![b"1 test failed".to_vec()],
            _ => Vec::new(),
        }
    }

    fn check(events: Vec<RunEvent>, style: Style) -> String {
        summary(&replay(&recorded(events)), &words_of_a_failed_test, Checkout::Here, style)
    }

    #[test]
    fn a_mixed_run_says_everything_once() {
        insta::assert_snapshot!(check(mixed(), Style::Plain));
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let coloured = check(mixed(), Style::Coloured);
        assert_eq!(console::strip_ansi_codes(&coloured), check(mixed(), Style::Plain));
        assert_ne!(coloured, check(mixed(), Style::Plain));
    }

    #[test]
    fn a_good_run_is_short() {
        let events = vec![
            started("tidy"),
            added(&[("a", &[])]),
            attempt("a", 1),
            ended("a", 1, AttemptEnd::Succeeded, 40, 2),
            result("a", InstanceResult::Succeeded, None),
            landing(),
            landed("a"),
            finished(0, None),
        ];
        insta::assert_snapshot!(check(events, Style::Plain));
    }

    #[test]
    fn what_landed_stands_in_the_order_of_commits_and_a_commit_of_somebody_else_is_nobodys_landing() {
        let lands = |name: &str, commit: &str| RunEvent::Merged {
            instance: id(name),
            fate: Fate::Landed { commit: commit.repeat(20) },
        };
        let moves =
            |from: &str, to: &str| RunEvent::Landing { from: Some(from.repeat(20)), to: to.repeat(20), merges: vec![] };
        let names = added(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
        let alone = check(vec![started("p"), names.clone(), lands("b", "99"), finished(0, None)], Style::Plain);
        assert!(alone.contains("    nothing to add  b  the branch has it\n"), "{alone}");
        let later = vec![started("p"), names.clone(), lands("b", "99"), moves("99", "01"), lands("c", "01")];
        let later = check(later.into_iter().chain([finished(0, None)]).collect(), Style::Plain);
        assert!(later.contains("    nothing to add  b  the branch has it\n"), "{later}");
        assert!(later.contains("    0101010101  c  "), "{later}");
        let events = vec![started("p"), names, moves("99", "02"), lands("d", "99"), lands("c", "01"), lands("a", "02")];
        let again = [lands("b", "02"), finished(0, None)];
        let text = check(events.into_iter().chain(again).collect(), Style::Plain);
        let told: Vec<&str> =
            text.lines().filter(|line| line.ends_with("  0 files") || line.ends_with("has it")).collect();
        let begins = ["    nothing to add  b", "    0202020202  a", "    0101010101  c", "    nothing to add  d"];
        assert!(told.len() == 4 && told.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{text}");
    }

    #[test]
    fn an_interrupted_run_names_what_was_not_reached() {
        let events = vec![
            started("long"),
            added(&[("a", &[]), ("b", &["a"])]),
            attempt("a", 1),
            finished(130, Some("interrupted")),
        ];
        insta::assert_snapshot!(check(events, Style::Plain));
    }

    #[test]
    fn only_the_time_in_which_somebody_worked_on_it_counts() {
        let mut state = replay(&recorded(vec![started("long"), attempt("a", 1), finished(1, None)]));
        let (lived, report) = (state.lived_ms, state.enforcement.clone().expect("it began"));
        let mut at_ms = state.newest_at_ms;
        let (unexpanded, tally) = (vec![], state.tally);
        let again = RunEvent::RunResumed {
            jobs: 1,
            backend: String::new(),
            enforcement: report,
            notes: vec![],
            unexpanded,
            tally,
        };
        for (event, wait_ms) in
            [(again, 3_600_000), (attempt("a", 2), 1_000), (finished(1, None), 2_000), (parked("a", "x", &[]), 60_000)]
        {
            at_ms += wait_ms;
            state.apply(&crate::event::Recorded { seq: state.seq + 1, at_ms, event });
        }
        assert_eq!((lived, state.lived_ms), (500, 3_500));
        assert_eq!((state.lived_until(at_ms + 9), state.finished.is_some()), (3_500, true));
    }

    #[test]
    fn each_command_has_a_line_that_can_be_pasted() {
        let all = |n: usize| (0..n).map(|n| format!("swarm status run-{n}")).collect::<Vec<_>>();
        assert_eq!(commands("next:", "", &all(1)), "next: swarm status run-0\n");
        assert_eq!(commands("next:", " ", &all(2)), " next: swarm status run-0\n       swarm status run-1\n");
    }

    #[test]
    fn what_another_plan_would_allow_is_said_and_a_retry_of_this_one_is_not_offered() {
        let violation = |allow_with: Option<&str>| {
            let end = AttemptEnd::Violation {
                detail: "it changed a path outside of its `writes`".to_owned(),
                paths: vec!["src/a".to_owned()],
                allow_with: allow_with.map(str::to_owned),
            };
            let ends = ended("a", 1, end, 40, 0);
            let names = added(&[("a", &[]), ("b", &["a"])]);
            let all = vec![started("p"), names, attempt("a", 1), ends, result("a", InstanceResult::Violation, None)];
            let blocked = result("b", InstanceResult::Blocked, None);
            check(all.into_iter().chain([blocked, finished(1, None)]).collect(), Style::Plain)
        };
        let text = violation(Some("writes = [\"src/\"]  # in [tasks.a]"));
        assert!(text.contains("to allow it: writes = [\"src/\"]  # in [tasks.a]\n        then swarm run"), "{text}");
        assert!(!text.contains("swarm retry"), "{text}");
        assert!(violation(None).contains("swarm retry p-1"), "the control");
    }

    #[test]
    fn needs_that_contradict_each_other_have_a_next_step() {
        let detail = "the changes of its needs contradict each other in calc.py".to_owned();
        let ends = ended("pick", 1, AttemptEnd::Needs { detail }, 2, 0);
        let failed = result("pick", InstanceResult::Failed, None);
        let text = check(
            vec![started("p"), added(&[("pick", &[])]), attempt("pick", 1), ends, failed, finished(1, None)],
            Style::Plain,
        );
        assert!(text.contains("contradict each other in calc.py, after 2ms\n        to go on: let one"), "{text}");
    }

    #[test]
    fn a_broken_limit_is_named_as_the_plan_names_it() {
        let broken = |limit: &str| {
            let broke = Ended::Limit { limit: limit.to_owned(), detail: "too much".to_owned() };
            let ends = ended("a", 1, AttemptEnd::Work { ended: broke }, 40, 0);
            let all = vec![started("p"), added(&[("a", &[])]), attempt("a", 1), ends];
            let end = [result("a", InstanceResult::Violation, None), finished(1, None)];
            check(all.into_iter().chain(end).collect(), Style::Plain)
        };
        assert!(broken("processes").contains("to allow it: more `processes` in the [sandbox.NAME] of its task"));
        assert!(!broken("output").contains("to allow it"), "no plan says it");
    }

    #[test]
    fn a_red_base_is_said_once_and_its_log_is_named() {
        let text = check(
            vec![started("p"), added(&[("a", &[])]), finished(6, Some(crate::report::exit_meaning(6)))],
            Style::Plain,
        );
        assert_eq!(text.matches("fails its verification").count(), 1, "{text}");
        assert!(text.contains("next: swarm logs p-1 '[merge] verify'"), "{text}");
    }

    #[test]
    fn a_retry_on_a_base_that_is_red_is_not_offered() {
        let events = vec![
            started("p"),
            added(&[("a", &[])]),
            attempt("a", 1),
            ended("a", 1, exited(1), 40, 0),
            result("a", InstanceResult::Failed, None),
        ];
        let said = |exit: u8| {
            let state = replay(&recorded([events.clone(), vec![finished(exit, None)]].concat()));
            summary(&state, &|_, _| vec![], Checkout::Here, Style::Plain)
        };
        assert!(!said(exit::BASE_RED).contains("swarm retry"), "{}", said(exit::BASE_RED));
        assert!(said(exit::TASK_FAILED).contains("swarm retry p-1"), "the control");
    }

    #[test]
    fn what_the_cage_refused_for_want_of_a_line_is_not_to_be_retried() {
        let refused = |allow_with: Option<&str>| {
            let mut ends = ended("a", 1, exited(1), 40, 0);
            let RunEvent::AttemptFinished { refusals, .. } = &mut ends else { unreachable!("BUG: it ended") };
            refusals.push(crate::event::RefusalSeen {
                what: "seeing new.sh of your checkout".to_owned(),
                rule: "it is in no commit".to_owned(),
                allow_with: allow_with.map(str::to_owned),
            });
            let failed = result("a", InstanceResult::Failed, None);
            check(
                vec![started("p"), added(&[("a", &[])]), attempt("a", 1), ends, failed, finished(1, None)],
                Style::Plain,
            )
        };
        let text = refused(Some("git add new.sh && git commit"));
        let both =
            "to allow it: git add new.sh && git commit\n        then swarm run it anew (a retry goes by plan and base";
        assert!(text.contains(both) && !text.contains("swarm retry"), "{text}");
        let text = refused(None);
        assert!(text.contains("swarm retry p-1") && !text.contains("run it anew"), "the control: {text}");
    }

    #[test]
    fn a_thousand_failures_do_not_fill_the_screen() {
        let names: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
        let mut events = vec![started("big")];
        events.extend(names.iter().map(|name| result(name, InstanceResult::Failed, Some("x"))));
        events.push(finished(1, None));
        let text = check(events, Style::Plain);
        assert!(text.lines().count() < 30 && text.contains("… and 980 more: swarm status big-1"), "{text}");
    }
}
