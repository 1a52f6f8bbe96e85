//! A run as a page: Markdown for a pull request, HTML for a browser (one file, nothing is fetched), JUnit's XML for a CI
//! server. All three show what `status` shows, for the run's instances in graph order.

use std::fmt::Write as _;

use swarm_plans::InstanceId;

use super::exit::{self, told};
use super::landings::Fates;
use super::words;
use super::{LogTail, account, lines, sanitize, status};
use crate::event::{Fate, GivenUp, InstanceResult, OnFailure};
use crate::executor::verify::VERIFY;
use crate::ids::Attempt;
use crate::journal::{InstanceState, RunState};

/// One instance, in words.
struct Row {
    name: String,
    result: &'static str,
    spent: String,
    fate: String,
    said: String,
}

fn rows(state: &RunState) -> impl Iterator<Item = Row> + '_ {
    let fates = Fates::of(state);
    state.instances.iter().map(move |(id, instance)| Row {
        name: words::instance(id),
        result: match (instance.reused_from(), instance.result()) {
            (Some(_), _) => "cached",
            (None, Some(result)) => result.name(),
            (None, None) => "open",
        },
        spent: if instance.attempts.is_empty() { String::new() } else { words::duration(instance.spent_ms()) },
        fate: fates.said(id, instance),
        said: {
            let text = |result| lines::result_text(state, result, instance.cause(), instance);
            let said = instance.result().map(text).filter(|text| !text.is_empty());
            let models = instance.models().map(super::money::spending);
            let notes = instance.last_attempt().map_or(&[][..], |attempt| attempt.notes());
            let notes = notes.iter().map(|note| sanitize::name(note));
            let said = said.into_iter().chain(account::line(instance)).chain(models).chain(notes);
            said.chain(left_files(state, id, instance)).collect::<Vec<_>>().join("; ")
        },
    })
}

/// The command that copies what a task that did not pass left in `$SWARM_ARTIFACTS`.
fn left_files(state: &RunState, id: &InstanceId, instance: &InstanceState) -> Option<String> {
    let run = state.run.as_ref().map_or("", |run| &run.0);
    let is_left = instance.left_files() && instance.result().is_some_and(fell_short);
    is_left.then(|| format!("files that it left: {}", super::handed::command(run, &id.0)))
}

/// Whether a result is a failure of the task itself.
fn fell_short(result: InstanceResult) -> bool {
    use InstanceResult::{Failed, Lost, TimedOut, Violation};
    matches!(result, Failed | TimedOut | Violation | Lost)
}

/// A failure that the plan allows: it is told, and makes nothing red.
fn is_allowed(instance: &InstanceState) -> bool {
    let is_parked = matches!(instance.fate(), Some(Fate::Parked { .. }));
    instance.on_failure == OnFailure::Allow && !is_parked && instance.result().is_some_and(fell_short)
}

fn title(state: &RunState) -> String {
    state.run.as_ref().map_or_else(String::new, |run| sanitize::name(&run.0))
}

/// What came of the run, in a sentence.
fn verdict(state: &RunState) -> String {
    let mut counts = status::tally(state.tally);
    if let Some(all) = super::money::total(state) {
        counts.push_str(&format!("; models: {}", super::money::spending(&all)));
    }
    match &state.finished {
        None => format!("has not finished: {counts}"),
        Some(end) => {
            let (said, spent) = (sanitize::name(&told(state, end)), words::duration(state.lived_ms));
            format!("{said} (exit code {}) after {spent}: {counts}", end.exit)
        }
    }
}

/// Where the work went, in a sentence.
fn landing(state: &RunState) -> Option<String> {
    let tip = state.finished.as_ref().and_then(|end| end.tip.as_deref()).or(state.tip.as_deref())?;
    let branch = sanitize::name(state.branch()?);
    Some(format!("base {}, {branch} at {}", words::short(&state.base), words::short(tip)))
}

/// Text that is no markup in a cell of a Markdown table: no link whose address somebody else chose, no picture that tells a
/// server who reads, no tag, no emphasis. Source: CommonMark 0.31, "backslash escapes".
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '\\' | '|' | '`' | '[' | ']' | '!' | '*' | '_' | '~' => cell.extend(['\\', letter]),
            letter => cell.push(letter),
        }
    }
    // A bare address becomes a link by itself.
    cell.replace("://", ":\\//").replace("www.", "www\\.").replace('@', "&#64;")
}

/// The run in Markdown, with its line feeds.
pub fn markdown(state: &RunState) -> String {
    let mut text = format!("## swarm run {}\n\n{}\n", cell(&title(state)), cell(&verdict(state)));
    if let Some(landing) = landing(state) {
        let _ = writeln!(text, "\n{}", cell(&landing));
    }
    text.push_str("\n| task | result | time | change | |\n|---|---|---:|---|---|\n");
    for row in rows(state) {
        let Row { name, result, spent, fate, said } = row;
        let _ = writeln!(text, "| {} | {result} | {spent} | {} | {} |", cell(&name), cell(&fate), cell(&said));
    }
    text
}

/// Text that is neither a tag nor a reference in HTML and XML. Control characters, which XML cannot even name, are gone
/// before.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            // Source: XML 1.0, production 2 (Char).
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color-scheme:light dark}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884;vertical-align:top}\
td.n{text-align:right;white-space:nowrap}.failed,.timed-out,.violation,.lost{color:#c22}.succeeded,.cached{color:#282}\
.flaky,.cancelled{color:#a60}pre{overflow:auto;background:#8881;padding:.6rem}";

/// The run as one page of HTML; `tail` gives the last lines of failed attempts.
pub fn html(state: &RunState, tail: LogTail<'_>) -> String {
    let title = escaped(&title(state));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><h1>swarm run {title}</h1>\n<p>{}</p>\n",
        escaped(&verdict(state))
    );
    if let Some(landing) = landing(state) {
        let _ = writeln!(text, "<p>{}</p>", escaped(&landing));
    }
    text.push_str("<table><tr><th>task</th><th>result</th><th>time</th><th>change</th><th></th></tr>\n");
    for (row, (id, instance)) in rows(state).zip(&state.instances) {
        let Row { name, result, spent, fate, said } = row;
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td class=\"{result}\">{result}</td><td class=\"n\">{spent}</td><td>{}</td><td>{}{}</td></tr>",
            escaped(&name),
            escaped(&fate),
            escaped(&said),
            last_words(id, instance, tail).map_or_else(String::new, |words| format!("<pre>{}</pre>", escaped(&words))),
        );
    }
    text.push_str("</table></body></html>\n");
    text
}

/// The exit code of a run that came to its end as a whole for a reason that is no task's: its gate refused the base, its time was
/// spent, a person or the machine ended it.
fn cut_short(state: &RunState) -> Option<u8> {
    let exit = state.finished.as_ref()?.exit;
    (!matches!(exit, exit::ALL_LANDED | exit::TASK_FAILED | exit::PARKED)).then_some(exit)
}

/// What ended a run as a whole, as a test case of its own that did not come to a verdict: without it a run of which nothing ran would
/// look like one in which nothing failed.
fn junit_error(state: &RunState, tail: LogTail<'_>) -> Option<String> {
    let (exit, end) = (cut_short(state)?, state.finished.as_ref()?);
    let (name, said) = match exit {
        exit::BASE_RED => (VERIFY, gate_words(state, tail)),
        _ => ("run", String::new()),
    };
    let message = escaped(&sanitize::name(&told(state, end)));
    let said = escaped(&said);
    Some(format!(
        "    <testcase name=\"{name}\" classname=\"swarm\" time=\"0.000\"><error type=\"exit {exit}\" message=\"{message}\">{said}\
         </error></testcase>\n"
    ))
}

/// The last lines of the newest verification that said something, harmless.
fn gate_words(state: &RunState, tail: LogTail<'_>) -> String {
    let numbers = (1..=state.gate.verifications.max(1)).rev().filter_map(|number| u32::try_from(number).ok());
    let mut said =
        numbers.map(|number| tail(&InstanceId(VERIFY.into()), Attempt(number))).filter(|lines| !lines.is_empty());
    let lines: Vec<String> = said.next().unwrap_or_default().iter().map(|line| sanitize::line(line)).collect();
    lines.join("\n")
}

/// The run for a CI server that reads JUnit's XML. Times are seconds.
pub fn junit(state: &RunState, tail: LogTail<'_>) -> String {
    let tally = state.tally;
    let error = junit_error(state, tail);
    let errors = u64::from(error.is_some());
    let had_passed = |instance: &&InstanceState| {
        matches!(instance.fate(), Some(Fate::Dropped { was: GivenUp::Parked | GivenUp::Landed }))
    };
    let dropped = state.instances.values().filter(had_passed).count() as u64;
    let allowed = state.instances.values().filter(|instance| is_allowed(instance)).count() as u64;
    let left_out = tally.skipped + tally.blocked + tally.cancelled + dropped + allowed;
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{errors}\" skipped=\"{left_out}\" time=\"{}\"",
        tally.instances + errors,
        tally.failed + tally.parked - allowed,
        seconds(state.lived_ms)
    );
    let name = escaped(&title(state));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{name}\" {counts}>\n  <testsuite name=\"{name}\" {counts}>\n"
    );
    for (row, (id, instance)) in rows(state).zip(&state.instances) {
        junit_case(&row, id, instance, tail, &mut text);
    }
    text.push_str(&error.unwrap_or_default());
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// One instance.
fn junit_case(row: &Row, id: &InstanceId, instance: &InstanceState, tail: LogTail<'_>, text: &mut String) {
    let (name, task) = (escaped(&row.name), escaped(&sanitize::name(instance.task())));
    let time = seconds(instance.spent_ms());
    let _ = write!(text, "    <testcase name=\"{name}\" classname=\"{task}\" time=\"{time}\"");
    let said = escaped(if row.said.is_empty() { row.result } else { &row.said });
    let inner = match (instance.result(), instance.fate()) {
        (_, Some(Fate::Parked { .. })) => {
            Some(format!("<failure type=\"parked\" message=\"{}\"/>", escaped(&row.fate)))
        }
        (_, Some(Fate::Dropped { was: GivenUp::Parked | GivenUp::Landed })) => {
            Some("<skipped message=\"dropped\"/>".to_owned())
        }
        (Some(InstanceResult::Succeeded), _) if instance.reused_from().is_some() => {
            Some(format!("<system-out>{said}</system-out>"))
        }
        (Some(InstanceResult::Succeeded), _) => None,
        (Some(InstanceResult::Flaky), _) => Some(format!("<system-out>{said}</system-out>")),
        (Some(InstanceResult::Skipped | InstanceResult::Blocked | InstanceResult::Cancelled) | None, _) => {
            Some(format!("<skipped message=\"{said}\"/>"))
        }
        (Some(_), _) if is_allowed(instance) => Some(format!("<skipped message=\"the plan allows that: {said}\"/>")),
        (Some(result), _) => {
            let words = escaped(&last_words(id, instance, tail).unwrap_or_default());
            let fate = if row.fate.is_empty() { String::new() } else { format!(", {}", escaped(&row.fate)) };
            Some(format!("<failure type=\"{}\" message=\"{said}{fate}\">{words}</failure>", result.name()))
        }
    };
    match inner {
        None => text.push_str("/>\n"),
        Some(inner) => drop(writeln!(text, ">{inner}</testcase>")),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The last lines of an attempt that did not pass, harmless.
fn last_words(id: &InstanceId, instance: &InstanceState, tail: LogTail<'_>) -> Option<String> {
    let attempt = instance.last_attempt()?.attempt;
    instance.result().is_some_and(fell_short).then_some(())?;
    let lines: Vec<String> = tail(id, attempt).iter().map(|line| sanitize::line(line)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Handed, RunEvent};
    use crate::journal::replay;
    use crate::report::story::{added, attempt, ended, exited, finished, landed, mixed, recorded, result, started};

    fn tail(_: &InstanceId, _: Attempt) -> Vec<Vec<u8>> {
        vec![b"<b>last</b> \x1b[31mwords & more".to_vec()]
    }

    #[test]
    fn a_run_as_markdown() {
        insta::assert_snapshot!(markdown(&replay(&recorded(mixed()))));
    }

    #[test]
    fn a_cell_of_markdown_holds_no_markup() {
        let check = |text: &str, expected: &str| assert_eq!(cell(text), expected, "{text}");
        check("build[os=a]", "build\\[os=a\\]");
        check("[x](javascript:alert(1))", "\\[x\\](javascript:alert(1))");
        check("![x](https://host/p.png)", "\\!\\[x\\](https:\\//host/p.png)");
        check("<javascript:x> a|b `c` \\d", "&lt;javascript:x> a\\|b \\`c\\` \\\\d");
        check("www.x.org @all &lbrack; a_b", "www\\.x.org &#64;all &amp;lbrack; a\\_b");
    }

    #[test]
    fn a_run_as_junit() {
        insta::assert_snapshot!(junit(&replay(&recorded(mixed())), &tail));
    }

    #[test]
    fn a_run_that_no_task_ended_is_no_green_page() {
        let gate = |id: &InstanceId, _: Attempt| match &*id.0 == VERIFY {
            true => vec![b"no <such> file".to_vec()],
            false => vec![],
        };
        let ended = |exit: u8, cause: Option<&str>| {
            let skipped = result("a", InstanceResult::Cancelled, None);
            junit(&replay(&recorded(vec![started("p"), added(&[("a", &[])]), skipped, finished(exit, cause)])), &gate)
        };
        let red = ended(exit::BASE_RED, None);
        assert!(red.contains("tests=\"2\" failures=\"0\" errors=\"1\" skipped=\"1\""), "{red}");
        assert!(
            red.contains("<testcase name=\"[merge] verify\"") && red.contains(">no &lt;such&gt; file</error>"),
            "{red}"
        );
        let late = ended(exit::DEADLINE, Some("the deadline is over"));
        assert!(late.contains("errors=\"1\"") && late.contains("message=\"the deadline is over\""), "{late}");
        let good = vec![started("p"), added(&[("a", &[])]), result("a", InstanceResult::Succeeded, None), landed("a")];
        let good = junit(&replay(&recorded(good.into_iter().chain([finished(0, None)]).collect())), &gate);
        assert!(good.contains("tests=\"1\" failures=\"0\" errors=\"0\"") && !good.contains("<error"), "{good}");
    }

    #[test]
    fn an_allowed_failure_makes_no_page_red_and_what_failed_tasks_left_and_notes_are_named() {
        let mut instances = added(&[("may", &[]), ("must", &[]), ("shaky", &[])]);
        let RunEvent::InstancesAdded { instances: all } = &mut instances else { panic!("{instances:?}") };
        all[0].on_failure = OnFailure::Allow;
        let left = |name: &str| {
            let mut event = ended(name, 1, exited(3), 1, 0);
            let RunEvent::AttemptFinished { handed, notes, .. } = &mut event else { panic!("{event:?}") };
            (*handed, *notes) = (Handed::Files, vec![format!("of {name}")]);
            vec![attempt(name, 1), event, result(name, InstanceResult::Failed, None)]
        };
        let events = [
            vec![started("p"), instances],
            left("may"),
            left("must"),
            vec![result("shaky", InstanceResult::Flaky, None), finished(1, None)],
        ];
        let state = replay(&recorded(events.concat()));
        let page = junit(&state, &tail);
        assert!(page.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{page}");
        assert!(page.contains("<skipped message=\"the plan allows that: failed: exited with 3;"), "{page}");
        assert!(page.contains("<system-out>flaky</system-out>"), "{page}");
        for page in [page, markdown(&state), html(&state, &tail)] {
            for name in ["may", "must"] {
                let files = format!("files that it left: swarm open --artifacts p-1 {name} DIR");
                assert!(page.contains(&files) && page.contains(&format!("; of {name}; ")), "{page}");
            }
        }
    }

    #[test]
    fn a_page_fetches_nothing_and_holds_no_tag_of_a_worker() {
        let page = html(&replay(&recorded(mixed())), &tail);
        assert!(page.contains("&lt;b&gt;last") && !page.contains("<b>") && !page.contains('\u{1b}'), "{page}");
        assert!(!page.contains("http") && !page.contains("src=") && !page.contains("<script"), "{page}");
    }
}
