//! Plain lines, for logs and pipes: one when something is decided, none that is ever rewritten.

use swarm_plans::InstanceId;

use super::words::{self, Style, Tone};
use super::{AsTyped, Reporter, Sink, sanitize};
use crate::event::{
    AttemptEnd, Fate, GateVerdict, InstanceResult, ModelWait, Progress, Recorded, ReusedInstance, RunEvent,
    VerifiedTree,
};
use crate::journal::{InstanceState, RunState};
use crate::second_word::dropped_need;

/// Columns that an instance's id is padded to, so that what follows stands below itself.
const NAME_COLUMNS: usize = 32;

/// Writes a line for each thing that is decided.
pub struct Lines {
    sink: Sink,
    style: Style,
    as_typed: AsTyped,
    never_started: NeverStarted,
    waits_for_needs: WaitsForNeeds,
    /// What was said last of a model that is waited for: others that wait for the same say nothing new.
    waits: Option<ModelWait>,
    red: NewestRed,
}

impl Lines {
    /// Will write to `out`.
    pub fn new(out: Box<dyn std::io::Write + Send>, style: Style) -> Self {
        let as_typed = Box::new(str::to_owned);
        let (never_started, waits_for_needs) = (NeverStarted::default(), WaitsForNeeds::default());
        Lines {
            sink: Sink::new(out),
            style,
            as_typed,
            never_started,
            waits_for_needs,
            waits: None,
            red: NewestRed::default(),
        }
    }

    /// The same, for a person who has to type more in front of commands than a text says.
    pub fn as_typed(self, as_typed: AsTyped) -> Self {
        Lines { as_typed, ..self }
    }

    fn say(&mut self, text: &str) {
        let text = (self.as_typed)(text);
        self.sink.write(&text);
    }
}

impl Reporter for Lines {
    fn event(&mut self, recorded: &Recorded, state: &RunState) {
        let again = self.red.said_again(recorded);
        let line = event_line(again.as_ref().unwrap_or(recorded), state, self.style, Talk::All);
        if let RunEvent::ModelWaits { wait, .. } = &recorded.event
            && self.waits.replace(wait.clone()).is_some_and(|said| is_the_same(&said, wait))
        {
            return;
        }
        if self.never_started.holds(&recorded.event, state, line.as_deref()) {
            return;
        }
        let waits = self.waits_for_needs.said_at(&recorded.event);
        let line = self.waits_for_needs.unless_held(&recorded.event, line);
        for line in self.never_started.said(self.style).into_iter().chain(waits).chain(line) {
            self.say(&format!("{line}\n"));
        }
    }

    fn progress(&mut self, progress: &Progress) {
        // Phases of tasks are the live view's; a log wants to know only what delays the run as a whole.
        match progress {
            Progress::Phase { instance: None, phase } => {
                let text = format!("    {}\n", sanitize::name(phase));
                self.sink.write(&self.style.paint(Tone::Quiet, &text));
            }
            Progress::Phase { instance: Some(_), .. } | Progress::Line { .. } => {}
        }
    }

    fn tick(&mut self, _: u64, _: &RunState) {
        let waits = self.waits_for_needs.said();
        for held in self.never_started.said(self.style).into_iter().chain(waits) {
            self.say(&format!("{held}\n"));
        }
    }
}

/// Whether two calls wait for one provider, and until the same moment: what a clock at each call's own place says of it
/// differs by a little.
fn is_the_same(one: &ModelWait, other: &ModelWait) -> bool {
    let provider = |wait: &ModelWait| wait.model.split('/').next().map(str::to_owned);
    (provider(one), one.reason) == (provider(other), other.reason) && one.until_ms.abs_diff(other.until_ms) < 1_000
}

/// So many that never started are named.
const NAMED_MAX: usize = 3;

/// Instances that were cancelled before they started, one right behind the other: a run that is interrupted may have
/// thousands, and a line each would push all that did happen off the screen.
#[derive(Debug, Default)]
pub(super) struct NeverStarted {
    /// The lines of the first ones.
    lines: Vec<String>,
    count: u64,
}

impl NeverStarted {
    /// Whether the event, with its line, is kept back until [`NeverStarted::said`].
    pub(super) fn holds(&mut self, event: &RunEvent, state: &RunState, line: Option<&str>) -> bool {
        let RunEvent::InstanceFinished { instance, result: InstanceResult::Cancelled, .. } = event else {
            return false;
        };
        let Some(line) = line.filter(|_| state.instances.get(instance).is_some_and(|it| it.attempts.is_empty())) else {
            return false;
        };
        self.count += 1;
        if self.lines.len() < NAMED_MAX {
            self.lines.push(line.to_owned());
        }
        true
    }

    /// What was kept back: a few by their lines, many by their count.
    pub(super) fn said(&mut self, style: Style) -> Option<String> {
        let NeverStarted { lines, count } = std::mem::take(self);
        if count as usize <= lines.len() {
            return (count > 0).then(|| lines.join("\n"));
        }
        let (mark, tone) = words::mark(InstanceResult::Cancelled);
        let named = words::pad(&words::count(count, "task"), NAME_COLUMNS);
        Some(format!("{} {named} {:>7}  cancelled before they started", style.paint(tone, mark), ""))
    }
}

/// The line of an instance whose needs contradict each other. That it waits until they are settled is known behind its attempt's
/// end only: its result, or its next attempt, is the very next event where it does not.
#[derive(Debug, Default)]
pub(super) struct WaitsForNeeds {
    held: Option<(InstanceId, String)>,
}

impl WaitsForNeeds {
    /// What was held, as the next event lets it be said.
    pub(super) fn said_at(&mut self, event: &RunEvent) -> Option<String> {
        let (waits, line) = self.held.take()?;
        match event {
            RunEvent::InstanceFinished { instance, .. } | RunEvent::AttemptStarted { instance, .. } => {
                (*instance != waits).then_some(line)
            }
            _ => Some(line),
        }
    }

    /// What was held, where nothing more is heard for now.
    pub(super) fn said(&mut self) -> Option<String> {
        self.held.take().map(|(_, line)| line)
    }

    /// Gives the line of an event back that can be said at once.
    pub(super) fn unless_held(&mut self, event: &RunEvent, line: Option<String>) -> Option<String> {
        match event {
            RunEvent::AttemptFinished { instance, end: AttemptEnd::Needs { .. }, retry_in_ms: None, .. } => {
                self.held = line.map(|line| (instance.clone(), line));
                None
            }
            _ => line,
        }
    }
}

/// How much is said of what went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    /// Every result.
    All,
    /// Only what a person might act on.
    Trouble,
}

/// What an event is worth saying, on one line; `None` when nothing.
pub(super) fn event_line(recorded: &Recorded, state: &RunState, style: Style, talk: Talk) -> Option<String> {
    let again = style.paint(Tone::Warn, "[r]");
    match &recorded.event {
        RunEvent::RunStarted { .. } => Some(start_lines(state, style)),
        RunEvent::RunResumed { .. } => Some(resume_lines(state, style)),
        RunEvent::Noted { notes } => {
            Some(notes.iter().map(|note| note_line(note, style)).collect::<Vec<_>>().join("\n"))
        }
        RunEvent::InstancesAdded { instances } => {
            let added = || format!("    {} added", words::count(instances.len() as u64, "task"));
            (talk == Talk::All).then(|| style.paint(Tone::Quiet, &added()))
        }
        RunEvent::AttemptFinished { instance, attempt, end, duration_ms, retry_in_ms: Some(wait_ms), .. } => {
            let (why, spent) = (words::end(end), words::duration(*duration_ms));
            let when = if *wait_ms == 0 { "at once".to_owned() } else { format!("in {}", words::duration(*wait_ms)) };
            // What the machine could not do is told as that alone.
            let what = if matches!(end, AttemptEnd::Infra { .. }) { " failed:" } else { "" };
            Some(row(again, instance, &spent, &format!("attempt {attempt}{what} {why}; again {when}")))
        }
        RunEvent::AttemptFinished { instance, end: end @ AttemptEnd::Needs { .. }, retry_in_ms: None, .. } => {
            Some(row(again, instance, "", &format!("waits until its needs are settled: {}", words::end(end))))
        }
        RunEvent::Reused { instances } => Some(reused_line(instances, style)),
        RunEvent::InstanceFinished { result, .. } if talk == Talk::Trouble && is_quiet(*result) => None,
        RunEvent::InstanceFinished { instance, result, cause } => {
            let entry = state.instances.get(instance)?;
            Some(finished_line(state, &words::instance(instance), (*result, cause.as_deref()), entry, style))
        }
        RunEvent::Merged { instance, fate: Fate::Parked { reason, .. } } => {
            let mark = style.paint(Tone::Warn, words::PARKED_MARK);
            Some(row(mark, instance, "", &format!("parked: {}", sanitize::name(reason))))
        }
        RunEvent::Verified { verdict: GateVerdict::Green, .. } if talk == Talk::Trouble => None,
        RunEvent::Verified { verdict, of, duration_ms, detail, .. } => {
            Some(verified_line(*verdict, of, *duration_ms, detail.as_deref(), style))
        }
        RunEvent::Evicted { instance, reason, next, .. } => {
            let (why, next) = (sanitize::name(reason), words::remedy(*next));
            Some(row(again, instance, "", &format!("does not land yet: {why}; {next}")))
        }
        RunEvent::ModelWaits { instance, wait, .. } => {
            Some(row(style.paint(Tone::Quiet, words::WAITS_MARK), instance, "", &words::waits(wait)))
        }
        RunEvent::ModelDown { model, instead, until_ms, why } => {
            let [model, instead] = [model, instead].map(|name| sanitize::name(name));
            let (mark, until) = (style.paint(Tone::Warn, "note:"), words::time_of_day(*until_ms));
            Some(format!("{mark} {model} is down until {until}, the next is {instead}: {}", one_line(why)))
        }
        RunEvent::ItemsFound { task, items } if items.is_empty() => {
            let note = style.paint(Tone::Warn, "note:");
            Some(format!("{note} task {} has no instances: its list is empty", sanitize::name(task)))
        }
        RunEvent::Merged { .. }
        | RunEvent::Reopened { .. }
        | RunEvent::Requeued { .. }
        | RunEvent::NeedsSettled { .. }
        | RunEvent::Retried { .. }
        | RunEvent::ItemsFound { .. }
        | RunEvent::AttemptStarted { .. }
        | RunEvent::ModelAsked { .. }
        | RunEvent::ModelCalled { .. }
        | RunEvent::AttemptFinished { .. }
        | RunEvent::Landing { .. }
        | RunEvent::RunFinished { .. } => None,
    }
}

/// Whether whoever asks for trouble only is not told of such an end.
fn is_quiet(result: InstanceResult) -> bool {
    matches!(result, InstanceResult::Succeeded | InstanceResult::Skipped | InstanceResult::Blocked)
}

/// A line about an instance: a mark, its name, how long it took, and what is to be said.
fn row(mark: String, instance: &InstanceId, spent: &str, said: &str) -> String {
    format!("{mark} {} {spent:>7}  {said}", words::pad(&words::instance(instance), NAME_COLUMNS))
}

fn finished_line(
    state: &RunState,
    name: &str,
    (result, cause): (InstanceResult, Option<&str>),
    entry: &InstanceState,
    style: Style,
) -> String {
    let (mark, tone) = words::mark(result);
    let name = words::pad(name, NAME_COLUMNS);
    let spent = if entry.attempts.is_empty() { String::new() } else { words::duration(entry.spent_ms()) };
    let said = result_text(state, result, cause, entry);
    format!("{} {name} {spent:>7}  {said}", style.paint(tone, mark)).trim_end().to_owned()
}

/// One line for all that need not run again: how many, whose results, and what that saved.
fn reused_line(instances: &[ReusedInstance], style: Style) -> String {
    let saved_ms: u64 = instances.iter().map(|reused| reused.saved_ms).sum();
    let named = match instances {
        [only] => words::pad(&words::instance(&only.instance), NAME_COLUMNS),
        many => words::pad(&words::count(many.len() as u64, "task"), NAME_COLUMNS),
    };
    let mut runs: Vec<&str> = instances.iter().map(|reused| reused.from.0.as_str()).collect();
    runs.sort_unstable();
    runs.dedup();
    let from = match runs.as_slice() {
        [only] => sanitize::name(only),
        many => words::count(many.len() as u64, "run"),
    };
    let mark = style.paint(Tone::Good, words::REUSED_MARK);
    format!("{mark} {named} {:>7}  cached: results of {from}, saved {}", "", words::duration(saved_ms))
}

/// A verdict of the gate: what it is about, how long it took, and what the command said.
fn verified_line(
    verdict: GateVerdict,
    of: &VerifiedTree,
    duration_ms: u64,
    detail: Option<&str>,
    style: Style,
) -> String {
    let (verdict, mark, detail) = match verdict {
        GateVerdict::Red => ("red", style.paint(Tone::Bad, "[!]"), detail),
        GateVerdict::Broken => ("not verified", style.paint(Tone::Warn, "[?]"), detail),
        GateVerdict::Green => ("green", style.paint(Tone::Quiet, "[v]"), None),
    };
    let what = words::pad(&format!("verify: {}", words::verified_tree(of)), NAME_COLUMNS);
    let spent = if duration_ms == 0 { "known".to_owned() } else { words::duration(duration_ms) };
    let mut lines = detail.unwrap_or_default().lines().map(sanitize::name);
    let said = lines.next().map(|first| format!(": {first}")).unwrap_or_default();
    let quoted: String = lines.map(|line| format!("\n        | {}", line.trim())).collect();
    format!("{mark} {what} {spent:>7}  {verdict}{said}{quoted}")
}

/// What the newest red verdict said, by its tree: one that is found again, and says the same, is told in a word.
#[derive(Debug, Default)]
pub(super) struct NewestRed(Option<(String, Option<String>)>);

impl NewestRed {
    /// The same event with a word in place of what the one before said, where that is all it says.
    pub(super) fn said_again(&mut self, recorded: &Recorded) -> Option<Recorded> {
        let RunEvent::Verified { tree, verdict: GateVerdict::Red, detail, .. } = &recorded.event else { return None };
        let before = self.0.replace((tree.clone(), detail.clone()));
        let is_the_same = detail.as_ref().is_some_and(|detail| detail.contains('\n')) && before == self.0;
        let mut again = is_the_same.then(|| recorded.clone())?;
        if let RunEvent::Verified { detail, .. } = &mut again.event {
            *detail = Some("as before".to_owned());
        }
        Some(again)
    }
}

/// A result with what explains it: why it failed, what it changed.
pub(super) fn result_text(
    state: &RunState,
    result: InstanceResult,
    cause: Option<&str>,
    instance: &InstanceState,
) -> String {
    let end = instance.last_attempt().and_then(|attempt| attempt.end());
    let mut why = match (cause, end) {
        (Some(cause), _) => one_line(cause),
        (None, Some(end)) if *end != AttemptEnd::Succeeded => words::end(end),
        _ => String::new(),
    };
    if let Some(need) = dropped_need(state, instance) {
        let name = words::instance(need);
        why.push_str(&format!(
            "; its need `{name}` was dropped, so no retry settles that: `swarm run PLAN` starts anew"
        ));
    }
    let mut parts: Vec<String> = Vec::new();
    if let Some(from) = instance.reused_from() {
        parts.push(format!("cached from {}", sanitize::name(from)));
    }
    match result {
        InstanceResult::Succeeded => {}
        // The reason says it already.
        InstanceResult::TimedOut if why == "timed out" => {}
        InstanceResult::Cancelled if why == "was cancelled" => {}
        _ => parts.push(result.name().to_owned()),
    }
    if !why.is_empty() {
        parts.push(why);
    }
    let mut text = parts.join(": ");
    if instance.attempts.len() > 1 {
        text = join(&text, &words::count(instance.attempts.len() as u64, "attempt"));
    }
    if let Some(change) = instance.change().filter(|change| change.files > 0) {
        text = join(&text, &words::count(change.files, "file"));
    }
    text
}

/// A reason that quotes several lines, on one.
pub(super) fn one_line(cause: &str) -> String {
    sanitize::name(&cause.lines().map(str::trim).collect::<Vec<_>>().join("; "))
}

fn join(text: &str, more: &str) -> String {
    if text.is_empty() { more.to_owned() } else { format!("{text}, {more}") }
}

/// What a person should know before a run goes on.
fn resume_lines(state: &RunState, style: Style) -> String {
    let open = state.tally.instances - state.tally.finished.min(state.tally.instances);
    let done = match state.tally.finished {
        0 => "nothing was done before".to_owned(),
        finished => format!("{} done before, {open} to go", words::count(finished, "task")),
    };
    format!("{}\n    {done}", head_lines(state, " goes on", style))
}

/// What a person should know before anything runs.
pub(super) fn start_lines(state: &RunState, style: Style) -> String {
    head_lines(state, "", style)
}

fn head_lines(state: &RunState, what: &str, style: Style) -> String {
    let run = state.run.as_ref().map_or("", |run| run.0.as_str());
    let mut text = style.paint(Tone::Strong, &format!("{run}{what}"));
    let jobs = words::count(u64::from(state.jobs), "worker");
    let branch = state.branch().map(|branch| format!(" into {}", sanitize::name(branch))).unwrap_or_default();
    text.push_str(&format!(": base {}{branch}", words::short(&state.base)));
    // A run that ended before its first event has neither.
    if !state.backend.is_empty() {
        text.push_str(&format!(", {jobs} at once, {} worktrees", sanitize::name(&state.backend)));
    }
    if let Some(report) = &state.enforcement {
        text.push_str(&format!("\n    {}", style.paint(Tone::Quiet, &words::enforcement_in_short(report))));
    }
    for note in &state.notes {
        text.push_str(&format!("\n{}", note_line(note, style)));
    }
    text
}

/// A thing that a person should know.
fn note_line(note: &str, style: Style) -> String {
    format!("{} {}", style.paint(Tone::Warn, "note:"), sanitize::name(note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Live, Reports, Shared, Size, story};

    #[test]
    fn many_that_never_started_are_one_line_and_a_few_are_named() {
        let said = |count: usize| {
            let out = Shared::default();
            let mut reports = Reports::new(vec![Box::new(Lines::new(Box::new(out.clone()), Style::Plain))]);
            let names: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
            let mut events = vec![story::added(&names.iter().map(|name| (name.as_str(), &[][..])).collect::<Vec<_>>())];
            events.push(story::attempt("t0", 1));
            events.extend(names[1..].iter().map(|name| story::result(name, InstanceResult::Cancelled, None)));
            events.push(story::result("t0", InstanceResult::Cancelled, None));
            story::recorded(events).iter().for_each(|event| reports.event(event));
            out.take().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let few = said(4);
        assert_eq!(few.len(), 4, "{few:#?}");
        assert!((1..4).all(|n| few[n - 1].contains(&format!(" t{n} "))) && few[3].contains(" t0 "), "{few:#?}");
        let many = said(1000);
        assert!(many.len() == 2 && many[0].contains("999 tasks") && many[1].contains(" t0 "), "{many:#?}");
    }

    #[test]
    fn a_red_verdict_that_says_the_same_again_is_told_in_a_word() {
        let red = |tree: &str, detail: &str| RunEvent::Verified {
            number: 1,
            tree: tree.to_owned(),
            gate: String::new(),
            of: VerifiedTree::Base,
            verdict: GateVerdict::Red,
            duration_ms: 5,
            detail: Some(detail.to_owned()),
        };
        let out = Shared::default();
        let mut reports = Reports::new(vec![Box::new(Lines::new(Box::new(out.clone()), Style::Plain))]);
        let events = vec![red("t", "no\n  one"), red("t", "no\n  one"), red("t", "no\n  two"), red("u", "no\n  two")];
        story::recorded(events).iter().for_each(|event| reports.event(event));
        let said = out.take();
        let ends: Vec<&str> = said.lines().map(|line| line.rsplit("  ").next().unwrap_or_default()).collect();
        assert_eq!(ends, ["red: no", "| one", "red: as before", "red: no", "| two", "red: no", "| two"], "{said}");
    }

    #[test]
    fn who_waits_for_its_needs_says_so_unless_it_has_its_end_or_starts() {
        let said = |next: Option<RunEvent>| {
            let out = Shared::default();
            let mut reports = Reports::new(vec![Box::new(Lines::new(Box::new(out.clone()), Style::Plain))]);
            let end = AttemptEnd::Needs { detail: "they contradict each other".to_owned() };
            let events =
                vec![story::attempt("a", 1), story::ended("a", 1, end, 0, 0)].into_iter().chain(next).collect();
            story::recorded(events).iter().for_each(|event| reports.event(event));
            reports.tick(0);
            out.take().contains("waits until its needs are settled")
        };
        assert!(said(None) && said(Some(story::attempt("b", 1))));
        assert!(!said(Some(story::result("a", InstanceResult::Failed, None))) && !said(Some(story::attempt("a", 2))));
    }

    #[test]
    fn notes_name_their_commands_as_they_have_to_be_typed() {
        let typed = || -> AsTyped { Box::new(|text: &str| text.replace("swarm apply", "swarm -C x apply")) };
        let outs = [Shared::default(), Shared::default()];
        let lines = Lines::new(Box::new(outs[0].clone()), Style::Plain).as_typed(typed());
        let size = || Size { rows: 24, columns: 100 };
        let live = Live::new(Box::new(outs[1].clone()), Style::Plain, size).as_typed(typed());
        let mut reports = Reports::new(vec![Box::new(lines), Box::new(live)]);
        let notes = vec!["`swarm apply it-1` first".to_owned()];
        story::recorded(vec![RunEvent::Noted { notes }]).iter().for_each(|event| reports.event(event));
        reports.tick(0);
        outs.iter().for_each(|out| assert!(out.take().contains("note: `swarm -C x apply it-1` first")));
    }

    #[test]
    fn a_run_in_plain_lines() {
        let out = Shared::default();
        let mut reports = Reports::new(vec![Box::new(Lines::new(Box::new(out.clone()), Style::Plain))]);
        let mut events = story::mixed();
        if let RunEvent::AttemptFinished { retry_in_ms, .. } = &mut events[17] {
            *retry_in_ms = Some(5_000);
        }
        story::recorded(events).iter().for_each(|event| reports.event(event));
        insta::assert_snapshot!(out.take());
    }
}
