//! What is said at the end: what landed and where, what is kept and why, what failed with its last words, and the next
//! command to type. The same text for a run that just ended and for one of last week.

use std::fmt::Write as _;

use swarm_plans::InstanceId;

use super::words::{self, Style, Tone};
use super::{LogTail, exit_meaning, lines, sanitize};
use crate::commit::attempt_ref;
use crate::event::{Fate, InstanceResult, OnFailure};
use crate::journal::{InstanceState, Phase, RunState};

/// Entries of one section; more are counted and left to `swarm status`.
const ENTRIES_MAX: usize = 20;

/// Lines of a failed attempt's log that are shown.
pub const TAIL_LINES_MAX: usize = 10;

/// Columns of a line of a log; a longer one is cut.
const TAIL_COLUMNS_MAX: usize = 160;

/// Conflicting paths that are shown of one parked change.
const PATHS_MAX: usize = 5;

/// The whole summary, with its line feeds.
pub fn summary(state: &RunState, tail: LogTail<'_>, style: Style) -> String {
    let writer = Summary { state, tail, style };
    [
        writer.headline(),
        super::tree::tree(state, style),
        writer.landed(),
        writer.parked(),
        writer.failed(),
        writer.not_run(),
        writer.notes(),
        writer.facts(),
        writer.next_steps(),
    ]
    .into_iter()
    .filter(|section| !section.is_empty())
    .collect::<Vec<_>>()
    .join("\n")
}

struct Summary<'a> {
    state: &'a RunState,
    tail: LogTail<'a>,
    style: Style,
}

type Entry<'a> = (&'a InstanceId, &'a InstanceState);

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
        add(tally.failed, "failed");
        add(tally.blocked, "blocked");
        add(tally.skipped, "skipped");
        add(tally.cancelled, "cancelled");
        add(tally.landed, "landed");
        add(tally.parked, "parked");
        let counts = counts.join(", ");
        let run = self.style.paint(Tone::Strong, self.run());
        let Some(end) = &self.state.finished else {
            return format!("{run} has not finished: {counts}\n");
        };
        let spent = words::duration(end.at_ms.saturating_sub(self.state.started_at_ms));
        let tone = if end.exit == 0 { Tone::Good } else { Tone::Bad };
        let meaning = self.style.paint(tone, exit_meaning(end.exit));
        let cause = end.cause.as_deref().filter(|&cause| cause != exit_meaning(end.exit));
        let cause = cause.map(|cause| format!(" ({})", lines::one_line(cause))).unwrap_or_default();
        format!("{run}: {meaning}{cause}\n    {counts} in {spent}\n")
    }

    fn landed(&self) -> String {
        let Some(branch) = self.state.branch() else { return String::new() };
        let tip = self.state.finished.as_ref().and_then(|end| end.tip.as_deref());
        let at = tip.map(|tip| format!(" at {}", words::short(tip))).unwrap_or_default();
        let title = format!("landed on {}{at}", sanitize::name(branch));
        self.section(&title, Tone::Good, self.entries(|instance| matches!(instance.fate, Some(Fate::Landed { .. }))), {
            |(id, instance), text| {
                let Some(Fate::Landed { commit }) = &instance.fate else { return };
                let files = instance.change().map_or(0, |change| change.files);
                let files = words::count(files, "file");
                let _ = writeln!(text, "    {}  {}  {files}", words::short(commit), words::instance(id));
            }
        })
    }

    fn parked(&self) -> String {
        let entries = self.entries(|instance| matches!(instance.fate, Some(Fate::Parked { .. })));
        self.section("parked: kept, not merged", Tone::Warn, entries, |(id, instance), text| {
            let Some(Fate::Parked { reason, paths }) = &instance.fate else { return };
            let _ = writeln!(text, "    {}: {}", words::instance(id), sanitize::name(reason));
            for path in paths.iter().take(PATHS_MAX) {
                let _ = writeln!(text, "        {}", sanitize::name(path));
            }
            if paths.len() > PATHS_MAX {
                let _ = writeln!(text, "        … and {} more", paths.len() - PATHS_MAX);
            }
            let _ = writeln!(text, "        look: swarm diff {} {}", self.run(), sanitize::shell_word(&id.0));
            if let (Some(run), Some(attempt)) = (&self.state.run, instance.last_attempt()) {
                let reference = attempt_ref(run, id, attempt.attempt);
                let _ = writeln!(text, "        take: git cherry-pick {}", sanitize::shell_word(&reference));
            }
        })
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
            let said = lines::result_text(result, instance.cause.as_deref(), instance);
            let allowed = if instance.on_failure == OnFailure::Allow { " (allowed)" } else { "" };
            let spent = words::duration(instance.spent_ms());
            // The section's title says that it failed.
            let said = said.strip_prefix("failed: ").unwrap_or(&said);
            let _ = writeln!(text, "    {}: {said} after {spent}{allowed}", words::instance(id));
            let Some(attempt) = instance.last_attempt() else { return };
            let tail = (self.tail)(id, attempt.attempt);
            for line in &tail {
                let shown = words::fit(&sanitize::line(line), TAIL_COLUMNS_MAX);
                let _ = writeln!(text, "        {} {shown}", self.style.paint(Tone::Quiet, "|"));
            }
            if !tail.is_empty() {
                let _ = writeln!(text, "        more: swarm logs {} {}", self.run(), sanitize::shell_word(&id.0));
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
        self.section("not run to the end", Tone::Quiet, entries, |(id, instance), text| {
            let said = match instance.result() {
                Some(result) => lines::result_text(result, instance.cause.as_deref(), instance),
                None => "not reached".to_owned(),
            };
            let _ = writeln!(text, "    {}: {said}", words::instance(id));
        })
    }

    /// What people should know of attempts that are over.
    fn notes(&self) -> String {
        let all: Vec<String> = self
            .state
            .instances
            .iter()
            .filter_map(|(id, instance)| Some((id, instance.last_attempt()?)))
            .flat_map(|(id, attempt)| attempt.notes.iter().map(move |note| (id, note)))
            .map(|(id, note)| format!("    {}: {}\n", words::instance(id), sanitize::name(note)))
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

    fn facts(&self) -> String {
        let Some(report) = &self.state.enforcement else { return String::new() };
        format!("{}\n", self.style.paint(Tone::Quiet, &words::enforcement_in_short(report)))
    }

    /// Commands that a person may want next, each as it can be typed.
    fn next_steps(&self) -> String {
        let mut steps: Vec<String> = Vec::new();
        if self.state.tally.landed > 0
            && let Some(branch) = self.state.branch()
        {
            let branch = sanitize::shell_word(branch);
            steps.push(format!("git diff {}...{branch}", words::short(&self.state.base)));
            steps.push(format!("swarm apply {}", self.run()));
        }
        if self.state.tally.instances > self.state.tally.landed {
            steps.push(format!("swarm status {}", self.run()));
        }
        if steps.is_empty() { String::new() } else { format!("next: {}\n", steps.join("   ")) }
    }

    fn entries(&self, wanted: impl Fn(&InstanceState) -> bool) -> Vec<Entry<'_>> {
        self.state.instances.iter().filter(|(_, instance)| wanted(instance)).collect()
    }

    fn section(
        &self,
        title: &str,
        tone: Tone,
        entries: Vec<Entry<'_>>,
        mut write: impl FnMut(Entry<'_>, &mut String),
    ) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AttemptEnd, RunEvent};
    use crate::ids::Attempt;
    use crate::journal::replay;
    use crate::report::story::*;

    fn words_of_a_failed_test(id: &InstanceId, _: Attempt) -> Vec<Vec<u8>> {
        match id.0.as_str() {
            "migrate[crate=cli]" => {
                vec![b"\x1b[31mtest parse ... FAILED\x1b[0m".to_vec(), b"1 failed; 12 passed".to_vec()]
            }
            _ => Vec::new(),
        }
    }

    fn check(events: Vec<RunEvent>, style: Style) -> String {
        summary(&replay(&recorded(events)), &words_of_a_failed_test, style)
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
            landed("a"),
            finished(0, None),
        ];
        insta::assert_snapshot!(check(events, Style::Plain));
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
    fn a_thousand_failures_do_not_fill_the_screen() {
        let names: Vec<String> = (0..1000).map(|n| format!("t{n}")).collect();
        let mut events = vec![started("big")];
        events.extend(names.iter().map(|name| result(name, InstanceResult::Failed, Some("x"))));
        events.push(finished(1, None));
        let text = check(events, Style::Plain);
        assert!(text.lines().count() < 30 && text.contains("… and 980 more: swarm status big-1"), "{text}");
    }
}
