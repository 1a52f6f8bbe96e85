//! Plain lines, for logs and pipes: one when something is decided, none that is ever rewritten.

use super::words::{self, Style, Tone};
use super::{Reporter, Sink, sanitize};
use crate::event::{AttemptEnd, Fate, InstanceResult, Progress, Recorded, RunEvent};
use crate::journal::{InstanceState, RunState};

/// Columns that an instance's id is padded to, so that what follows stands below itself.
const NAME_COLUMNS: usize = 32;

/// Writes a line for each thing that is decided.
pub struct Lines {
    sink: Sink,
    style: Style,
}

impl Lines {
    /// Will write to `out`.
    pub fn new(out: Box<dyn std::io::Write + Send>, style: Style) -> Self {
        Lines { sink: Sink::new(out), style }
    }
}

impl Reporter for Lines {
    fn event(&mut self, recorded: &Recorded, state: &RunState) {
        if let Some(line) = event_line(recorded, state, self.style, Talk::All) {
            self.sink.write(&format!("{line}\n"));
        }
    }

    fn progress(&mut self, progress: &Progress) {
        // Phases of tasks are the live view's; a log wants to know only what delays the run as a whole.
        if let Progress::Phase { instance: None, phase } = progress {
            let text = format!("    {}\n", sanitize::name(phase));
            self.sink.write(&self.style.paint(Tone::Quiet, &text));
        }
    }

    fn tick(&mut self, _: u64, _: &RunState) {}
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
    match &recorded.event {
        RunEvent::RunStarted { .. } => Some(start_lines(state, style)),
        RunEvent::InstancesAdded { instances } => {
            let text = words::count(instances.len() as u64, "task");
            (talk == Talk::All).then(|| style.paint(Tone::Quiet, &format!("    {text} added")))
        }
        RunEvent::AttemptFinished { instance, attempt, end, duration_ms, retry_in_ms: Some(wait_ms), .. } => {
            let name = words::pad(&words::instance(instance), NAME_COLUMNS);
            let mark = style.paint(Tone::Warn, "[r]");
            let (why, spent, wait) = (words::end(end), words::duration(*duration_ms), words::duration(*wait_ms));
            Some(format!("{mark} {name} {spent:>7}  attempt {attempt} {why}; again in {wait}"))
        }
        RunEvent::InstanceFinished { instance, result, cause } => {
            let quiet = matches!(result, InstanceResult::Succeeded | InstanceResult::Skipped | InstanceResult::Blocked);
            if talk == Talk::Trouble && quiet {
                return None;
            }
            let entry = state.instances.get(instance)?;
            let (mark, tone) = words::mark(*result);
            let name = words::pad(&words::instance(instance), NAME_COLUMNS);
            let spent = if entry.attempts.is_empty() { String::new() } else { words::duration(entry.spent_ms()) };
            let said = result_text(*result, cause.as_deref(), entry);
            Some(format!("{} {name} {spent:>7}  {said}", style.paint(tone, mark)).trim_end().to_owned())
        }
        RunEvent::Merged { instance, fate: Fate::Parked { reason, .. } } => {
            let name = words::pad(&words::instance(instance), NAME_COLUMNS);
            let mark = style.paint(Tone::Warn, words::PARKED_MARK);
            Some(format!("{mark} {name} {:>7}  parked: {}", "", sanitize::name(reason)))
        }
        RunEvent::Merged { .. }
        | RunEvent::AttemptStarted { .. }
        | RunEvent::AttemptFinished { .. }
        | RunEvent::Landing { .. }
        | RunEvent::RunFinished { .. } => None,
    }
}

/// A result with what explains it: why it failed, what it changed.
pub(super) fn result_text(result: InstanceResult, cause: Option<&str>, instance: &InstanceState) -> String {
    let end = instance.last_attempt().and_then(|attempt| attempt.end.as_ref());
    let why = match (cause, end) {
        (Some(cause), _) => one_line(cause),
        (None, Some(end)) if *end != AttemptEnd::Succeeded => words::end(end),
        _ => String::new(),
    };
    let mut parts: Vec<String> = Vec::new();
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

/// What a person should know before anything runs.
pub(super) fn start_lines(state: &RunState, style: Style) -> String {
    let run = state.run.as_ref().map_or("", |run| run.0.as_str());
    let mut text = style.paint(Tone::Strong, &format!("swarm run {run}"));
    let jobs = words::count(u64::from(state.jobs), "worker");
    let branch = state.branch().map(|branch| format!(" into {}", sanitize::name(branch))).unwrap_or_default();
    text.push_str(&format!(
        ": base {}{branch}, {jobs} at once, {} worktrees",
        words::short(&state.base),
        sanitize::name(&state.backend)
    ));
    if let Some(report) = &state.enforcement {
        text.push_str(&format!("\n    {}", style.paint(Tone::Quiet, &words::enforcement_in_short(report))));
    }
    for note in &state.notes {
        text.push_str(&format!("\n{} {}", style.paint(Tone::Warn, "note:"), sanitize::name(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reports, Shared, story};

    #[test]
    fn a_run_in_plain_lines() {
        let out = Shared::default();
        let mut reports = Reports::new(vec![Box::new(Lines::new(Box::new(out.clone()), Style::Plain))]);
        let mut events = story::mixed();
        if let RunEvent::AttemptFinished { retry_in_ms, .. } = &mut events[16] {
            *retry_in_ms = Some(5_000);
        }
        story::recorded(events).iter().for_each(|event| reports.event(event));
        insta::assert_snapshot!(out.take());
    }
}
