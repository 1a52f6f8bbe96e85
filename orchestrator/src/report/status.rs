//! A run's table, for `status`: a line an instance, in graph order, with where it stands and what became of its change.

use serde_json::json;

use super::landings::{Entry, Fates};
use super::words::{self, Style, Tone};
use super::{account, lines, money, sanitize};
use crate::event::{AttemptEnd, EVENT_VERSION, Fate, InstanceResult};
use crate::journal::{Finished, Holder, InstanceState, Phase, RunState, Spending, Tally};

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

    /// In a word, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Liveness::Finished => "finished",
            Liveness::Running(_) => "running",
            Liveness::Died => "interrupted",
        }
    }
}

/// The widest column of names; a longer one is whole, and what stands behind it further on: it may be copied.
const NAME_COLUMNS_MAX: usize = 48;

/// The table, with its line feeds. `now_ms` (milliseconds since the Unix epoch) gives running attempts their age.
pub fn status(state: &RunState, liveness: &Liveness, now_ms: u64, style: Style) -> String {
    let mut text = lines::start_lines(state, style);
    text.push_str(&format!("\n    {}\n", liveness_text(state, liveness, now_ms)));
    let columns =
        state.instances.keys().map(|id| words::width(&words::instance(id))).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    let fates = Fates::of(state);
    for (id, instance) in &state.instances {
        let name = words::pad(&words::instance(id), columns);
        let (mark, tone, spent, said) = row(&fates, (id, instance), liveness, now_ms);
        let models = instance.models().map(super::money::spending);
        let said = match (said.is_empty(), models) {
            (_, None) => said,
            (true, Some(models)) => models,
            (false, Some(models)) => format!("{said}; {models}"),
        };
        let line = format!("{} {name}  {spent:>7}  {said}", style.paint(tone, mark));
        text.push_str(line.trim_end());
        text.push('\n');
        text.push_str(&account::lines(instance, "        "));
        let notes = instance.last_attempt().map_or(&[][..], |attempt| attempt.notes());
        notes.iter().for_each(|note| text.push_str(&format!("        note: {}\n", sanitize::name(note))));
        let refusals = instance.last_attempt().map_or(&[][..], |attempt| attempt.refusals());
        text.push_str(&words::refusals(refusals, "        "));
    }
    if let Some((id, _)) = state.instances.iter().find(|(_, instance)| instance.left_files()) {
        let run = state.run.as_ref().map_or("", |run| &run.0);
        let of_all = state.instances.values().filter(|instance| instance.left_files()).count() as u64;
        let (tasks, command) = (words::count(of_all, "task"), super::handed::command(run, &id.0));
        text.push_str(&format!("{tasks} handed files over: {command}\n"));
    }
    text.push_str(&tally(state.tally));
    text.push('\n');
    if let Some(all) = super::money::total(state) {
        text.push_str(&format!("models: {}\n", super::money::spending(&all)));
    }
    text
}

/// The same as one JSON object, for programs: nothing in it is shortened or made harmless.
pub fn status_json(state: &RunState, liveness: &Liveness) -> serde_json::Value {
    let fates = Fates::of(state);
    let instances = state.instances.iter().map(|(id, instance)| {
        json!({
            "instance": id.0,
            "task": instance.task(),
            "needs": instance.needs(),
            "state": match instance.phase {
                Phase::Finished(result) => result.name(),
                Phase::Running => "running",
                Phase::Retrying { .. } => "retrying",
                Phase::Waiting => "waiting",
            },
            "attempts": instance.attempts.len(),
            "spent-ms": instance.spent_ms(),
            "models": instance.models().map(spending_json),
            "waits": instance.waits(),
            "cached-from": instance.reused_from(),
            "cause": cause(instance),
            "commit": instance.change().map(|change| change.commit.to_string()),
            "files": instance.change().map(|change| change.files),
            "merge": instance.fate(),
            "added-nothing": fates.has_stood(id),
            "agent": account::of(instance),
        })
    });
    json!({
        "version": EVENT_VERSION,
        "run": state.run.as_ref().map(|run| &run.0),
        "plan": state.plan,
        "state": liveness.name(),
        "base": state.base,
        "target": state.target,
        "tip": state.finished.as_ref().and_then(|end| end.tip.clone()).or_else(|| state.tip.clone()),
        "started-at-ms": state.started_at_ms,
        "finished-at-ms": state.finished.as_ref().map(|end| end.at_ms),
        "exit": state.finished.as_ref().map(|end| end.exit),
        "tally": state.tally,
        "models": super::money::total(state).as_ref().map(spending_json),
        "instances": instances.collect::<Vec<_>>(),
    })
}

/// Why an instance did not pass, where anybody said it.
fn cause(instance: &InstanceState) -> Option<String> {
    let said = || instance.last_attempt()?.end().map(words::end);
    let fell_short = instance.result().is_some_and(|result| !result.passed());
    instance.cause().map(str::to_owned).or_else(|| said().filter(|said| fell_short && !said.is_empty()))
}

/// What models took. `cost-usd` is of what has a price; `unpriced` calls come on top.
fn spending_json(spending: &Spending) -> serde_json::Value {
    json!({
        "calls": spending.calls,
        "failed": spending.failed,
        "replayed": spending.replayed,
        "retries": spending.retries,
        "tokens-in": spending.input,
        "tokens-cache-read": spending.cache_read,
        "tokens-cache-write": spending.cache_write,
        "tokens-out": spending.output,
        "cost-usd": if spending.calls == 0 || money::is_unpriced(spending) { None } else { Some(spending.cost.usd()) },
        "unpriced": spending.unpriced,
        "estimated": spending.estimated,
        "time-ms": spending.time_ms,
    })
}

fn liveness_text(state: &RunState, liveness: &Liveness, now_ms: u64) -> String {
    match liveness {
        Liveness::Finished => match &state.finished {
            Some(end) => {
                let spent = words::duration(state.lived_ms);
                format!("finished after {spent} with exit code {}: {}", end.exit, super::exit::told(state, end))
            }
            None => "finished".to_owned(),
        },
        Liveness::Running(holder) => {
            let spent = words::duration(state.lived_until(now_ms));
            format!("running for {spent} in process {}", holder.pid)
        }
        Liveness::Died => {
            let run = state.run.as_ref().map_or("", |run| &run.0);
            format!("interrupted: its coordinator is gone; nothing is lost, `swarm resume {run}` goes on")
        }
    }
}

fn row(
    fates: &Fates<'_>,
    (id, instance): Entry<'_>,
    liveness: &Liveness,
    now_ms: u64,
) -> (&'static str, Tone, String, String) {
    let alive = matches!(liveness, Liveness::Running(_));
    match instance.phase {
        Phase::Finished(result) => {
            let (mark, tone) = match instance.reused_from() {
                Some(_) => (words::REUSED_MARK, Tone::Good),
                None => words::mark(result),
            };
            let spent = if instance.attempts.is_empty() { String::new() } else { words::duration(instance.spent_ms()) };
            let said = finished_text(result, fates, (id, instance));
            match instance.fate() {
                Some(Fate::Parked { .. }) => (words::PARKED_MARK, Tone::Warn, spent, said),
                Some(Fate::Dropped { .. }) => (words::DROPPED_MARK, Tone::Quiet, spent, said),
                Some(Fate::Landed { .. } | Fate::Empty) | None => (mark, tone, spent, said),
            }
        }
        Phase::Running if alive => {
            let since = instance.last_attempt().map_or(now_ms, |attempt| attempt.started_at_ms);
            let attempt = instance.attempts.len();
            let mut said = if attempt > 1 { format!("running, attempt {attempt}") } else { "running".to_owned() };
            if let Some(wait) = instance.waits().filter(|wait| wait.until_ms > now_ms) {
                said.push_str(&format!(", {}", words::waits(wait)));
            }
            ("[>]", Tone::Strong, words::duration(now_ms.saturating_sub(since)), said)
        }
        Phase::Retrying { at_ms } if alive => {
            ("[r]", Tone::Warn, String::new(), format!("again in {}", words::duration(at_ms.saturating_sub(now_ms))))
        }
        Phase::Waiting if alive && !instance.attempts.is_empty() => {
            let end = instance.last_attempt().and_then(|attempt| attempt.end());
            match end.filter(|end| matches!(end, AttemptEnd::Needs { .. })) {
                Some(end) => {
                    let said = format!("waits until its needs are settled: {}", words::end(end));
                    ("[r]", Tone::Warn, String::new(), words::fit(&said, 80))
                }
                None => ("[>]", Tone::Strong, words::duration(instance.spent_ms()), "ending".to_owned()),
            }
        }
        Phase::Waiting if alive => {
            let needs = instance.needs().iter().map(|need| sanitize::name(need)).collect::<Vec<_>>().join(", ");
            let said = if needs.is_empty() { "waiting".to_owned() } else { format!("waiting, needs {needs}") };
            ("[ ]", Tone::Quiet, String::new(), words::fit(&said, 80))
        }
        Phase::Running | Phase::Retrying { .. } => ("[?]", Tone::Warn, String::new(), "was running".to_owned()),
        Phase::Waiting => ("[ ]", Tone::Quiet, String::new(), "not reached".to_owned()),
    }
}

fn finished_text(result: InstanceResult, fates: &Fates<'_>, (id, instance): Entry<'_>) -> String {
    let said = lines::result_text(fates.state, result, instance.cause(), instance);
    let fate = fates.said(id, instance);
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
        (tally.reused, "of them cached"),
        (tally.failed, "failed"),
        (tally.blocked, "blocked"),
        (tally.skipped, "skipped"),
        (tally.cancelled, "cancelled"),
        (waiting, "open"),
        (tally.landed, "landed"),
        (tally.parked, "parked"),
        (tally.dropped, "dropped"),
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
    fn what_the_branch_had_already_added_nothing() {
        use crate::report::story::{added, landed, landing, result};
        let passed = |name| result(name, InstanceResult::Succeeded, None);
        let names = added(&[("a", &[]), ("b", &[])]);
        let events = vec![names, passed("a"), passed("b"), landing(), landed("a"), landed("b")];
        let state = replay(&recorded(events));
        let text = status(&state, &Liveness::Finished, START_MS, Style::Plain);
        let line = |name: &str| text.lines().find(|line| line.contains(&format!("[+] {name} "))).unwrap_or_default();
        assert!(line("a").ends_with("landed as e1e1e1e1e1"), "{text}");
        assert!(line("b").ends_with("added nothing, the branch had it"), "{text}");
        let told = status_json(&state, &Liveness::Finished);
        let of = |at: usize| {
            (told["instances"][at]["merge"]["fate"].clone(), told["instances"][at]["added-nothing"].clone())
        };
        assert_eq!([of(0), of(1)], [("landed".into(), false.into()), ("landed".into(), true.into())], "{told}");
    }

    #[test]
    fn a_run_in_the_middle_alive_and_dead() {
        let holder = Holder {
            pid: 4711,
            since_ms: START_MS,
            what: "run tour-1".to_owned(),
            run: None,
            state: None,
            started_ticks: 0,
            moving: false,
        };
        insta::assert_snapshot!("alive", check(10, &Liveness::Running(holder)));
        insta::assert_snapshot!("dead", check(10, &Liveness::Died));
    }
}
