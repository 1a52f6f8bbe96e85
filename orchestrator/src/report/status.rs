//! A run's table, for `status`: a line an instance, in graph order, with where it stands and what became of its change.

use super::words::{self, Style, Tone};
use super::{lines, sanitize};
use crate::event::{Fate, InstanceResult};
use crate::journal::{Finished, Holder, InstanceState, Phase, RunState, Tally};

/// Whether a run without an end is being worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Liveness {
    /// It ended.
    Finished,
    /// This coordinator works on it.
    Running(Holder),
    /// Its coordinator is gone.
    Died,
}

impl Liveness {
    /// From the end in the journal and the holder of the lock.
    pub fn new(finished: Option<&Finished>, holder: Option<Holder>) -> Self {
        match (finished, holder) {
            (Some(_), _) => Liveness::Finished,
            (None, Some(holder)) => Liveness::Running(holder),
            (None, None) => Liveness::Died,
        }
    }
}

/// The widest column of names; longer ones are cut.
const NAME_COLUMNS_MAX: usize = 48;

/// The table, with its line feeds. `now_ms` (milliseconds since the Unix epoch) gives running attempts their age.
pub fn status(state: &RunState, liveness: &Liveness, now_ms: u64, style: Style) -> String {
    let mut text = lines::start_lines(state, style);
    text.push_str(&format!("\n    {}\n", liveness_text(state, liveness, now_ms)));
    let columns =
        state.instances.keys().map(|id| words::width(&words::instance(id))).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    for (id, instance) in &state.instances {
        let name = words::pad(&words::fit(&words::instance(id), columns), columns);
        let (mark, tone, spent, said) = row(instance, liveness, now_ms);
        let line = format!("{} {name}  {spent:>7}  {said}", style.paint(tone, mark));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str(&tally(state.tally));
    text.push('\n');
    text
}

fn liveness_text(state: &RunState, liveness: &Liveness, now_ms: u64) -> String {
    match liveness {
        Liveness::Finished => match &state.finished {
            Some(end) => {
                let spent = words::duration(end.at_ms.saturating_sub(state.started_at_ms));
                let meaning = super::exit_meaning(end.exit);
                let cause = end.cause.as_deref().filter(|&cause| cause != meaning);
                let cause = cause.map(|cause| format!(" ({})", lines::one_line(cause))).unwrap_or_default();
                format!("finished after {spent} with exit code {}: {meaning}{cause}", end.exit)
            }
            None => "finished".to_owned(),
        },
        Liveness::Running(holder) => {
            let spent = words::duration(now_ms.saturating_sub(state.started_at_ms));
            format!("running for {spent} in process {}", holder.pid)
        }
        Liveness::Died => {
            "interrupted: its coordinator is gone; what landed stays, results are kept as refs".to_owned()
        }
    }
}

fn row(instance: &InstanceState, liveness: &Liveness, now_ms: u64) -> (&'static str, Tone, String, String) {
    let alive = matches!(liveness, Liveness::Running(_));
    match instance.phase {
        Phase::Finished(result) => {
            let (mark, tone) = words::mark(result);
            let spent = if instance.attempts.is_empty() { String::new() } else { words::duration(instance.spent_ms()) };
            let said = finished_text(result, instance);
            match &instance.fate {
                Some(Fate::Parked { .. }) => (words::PARKED_MARK, Tone::Warn, spent, said),
                _ => (mark, tone, spent, said),
            }
        }
        Phase::Running if alive => {
            let since = instance.last_attempt().map_or(now_ms, |attempt| attempt.started_at_ms);
            let attempt = instance.attempts.len();
            let said = if attempt > 1 { format!("running, attempt {attempt}") } else { "running".to_owned() };
            ("[>]", Tone::Strong, words::duration(now_ms.saturating_sub(since)), said)
        }
        Phase::Retrying { at_ms } if alive => {
            ("[r]", Tone::Warn, String::new(), format!("again in {}", words::duration(at_ms.saturating_sub(now_ms))))
        }
        Phase::Waiting if alive && !instance.attempts.is_empty() => {
            ("[>]", Tone::Strong, words::duration(instance.spent_ms()), "ending".to_owned())
        }
        Phase::Waiting if alive => {
            let needs = instance.needs.iter().map(|need| sanitize::name(need)).collect::<Vec<_>>().join(", ");
            let said = if needs.is_empty() { "waiting".to_owned() } else { format!("waiting, needs {needs}") };
            ("[ ]", Tone::Quiet, String::new(), words::fit(&said, 80))
        }
        Phase::Running | Phase::Retrying { .. } => ("[?]", Tone::Warn, String::new(), "was running".to_owned()),
        Phase::Waiting => ("[ ]", Tone::Quiet, String::new(), "not reached".to_owned()),
    }
}

fn finished_text(result: InstanceResult, instance: &InstanceState) -> String {
    let said = lines::result_text(result, instance.cause.as_deref(), instance);
    let fate = match &instance.fate {
        Some(Fate::Landed { commit }) => format!("landed as {}", words::short(commit)),
        Some(Fate::Parked { reason, .. }) => format!("parked: {}", sanitize::name(reason)),
        Some(Fate::Empty) => "changed nothing".to_owned(),
        None => String::new(),
    };
    match (said.is_empty(), fate.is_empty()) {
        (_, true) => said,
        (true, false) => fate,
        (false, false) => format!("{said}, {fate}"),
    }
}

/// The counts on one line; zeros are left out.
pub fn tally(tally: Tally) -> String {
    let waiting = tally.instances.saturating_sub(tally.finished);
    let counts = [
        (tally.passed, "passed"),
        (tally.failed, "failed"),
        (tally.blocked, "blocked"),
        (tally.skipped, "skipped"),
        (tally.cancelled, "cancelled"),
        (waiting, "open"),
        (tally.landed, "landed"),
        (tally.parked, "parked"),
    ];
    let mut parts = vec![words::count(tally.instances, "task")];
    parts.extend(counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::replay;
    use crate::report::story::{START_MS, mixed, recorded};

    fn check(events: usize, liveness: &Liveness) -> String {
        let events: Vec<_> = mixed().into_iter().take(events).collect();
        status(&replay(&recorded(events)), liveness, START_MS + 9_000, Style::Plain)
    }

    #[test]
    fn a_finished_run() {
        insta::assert_snapshot!(check(usize::MAX, &Liveness::Finished));
    }

    #[test]
    fn a_run_in_the_middle_alive_and_dead() {
        let holder = Holder { pid: 4711, since_ms: START_MS, what: "run tour-1".to_owned() };
        insta::assert_snapshot!("alive", check(10, &Liveness::Running(holder)));
        insta::assert_snapshot!("dead", check(10, &Liveness::Died));
    }
}
