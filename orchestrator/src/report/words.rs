//! What things are called, and how they look. One place, so that the live view, the lines, the summary and `status` say
//! the same word for the same thing. Colour only repeats what a mark or a word says already.

use std::fmt::Display;

use swarm_plans::{InstanceId, Rung};
use swarm_protocol::agent::AgentStatus;
use swarm_protocol::{Ended, EnforcementReport, Tier};

use super::sanitize;
use crate::event::{AttemptEnd, Fate, InstanceResult, ModelWait, ParkedBy, RefusalSeen, Remedy, VerifiedTree};
use crate::journal::{InstanceState, RunState};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// The mark of work that waits for a model.
pub const WAITS_MARK: &str = "[w]";

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// Somebody should look.
    Warn,
    /// It can be skipped while reading.
    Quiet,
    /// It is what the eye should find first.
    Strong,
}

impl Style {
    /// `text` in the colour of its meaning.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self == Style::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31;1",
            Tone::Warn => "33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The mark in front of a result and its tone.
pub fn mark(result: InstanceResult) -> (&'static str, Tone) {
    match result {
        InstanceResult::Succeeded => ("[+]", Tone::Good),
        InstanceResult::Flaky => ("[~]", Tone::Warn),
        InstanceResult::Failed | InstanceResult::TimedOut | InstanceResult::Violation | InstanceResult::Lost => {
            ("[x]", Tone::Bad)
        }
        InstanceResult::Cancelled => ("[/]", Tone::Warn),
        InstanceResult::Skipped | InstanceResult::Blocked => ("[-]", Tone::Quiet),
    }
}

/// The mark of results that were taken from an earlier run.
pub const REUSED_MARK: &str = "[=]";

/// The mark of a parked change.
pub const PARKED_MARK: &str = "[!]";

/// The mark of what a person gave up.
pub const DROPPED_MARK: &str = "[-]";

/// Which tree a verification looked at.
pub fn verified_tree(of: &VerifiedTree) -> String {
    match of {
        VerifiedTree::Base => "the base".to_owned(),
        VerifiedTree::Tip => "the target".to_owned(),
        VerifiedTree::Results { count: n } => count(u64::from(*n), "result"),
    }
}

/// What is tried next with a change that does not land as it is.
pub fn remedy(next: Remedy) -> &'static str {
    match next {
        Remedy::Rerun => "it runs again on what landed",
        Remedy::Resolve => "the resolver gets it",
    }
}

/// What was tried with a change that did not land as it was, and came to one that may.
pub fn settled_by(rung: Rung, why: &str) -> String {
    match rung {
        Rung::Rerun => format!("it did not land at first ({why}): it ran again on what had landed"),
        Rung::Resolve => format!("it did not land at first ({why}): the resolver settled that, so look at it"),
    }
}

/// What became of an instance, in a few words: of its change where there is one, else of its work.
pub fn outcome(instance: &InstanceState) -> &'static str {
    match (instance.fate(), instance.result()) {
        (Some(Fate::Landed { .. }), _) => "landed",
        (Some(Fate::Parked { .. }), _) => "parked",
        (Some(Fate::Dropped { .. }), _) => "dropped",
        (_, Some(result)) => result.name(),
        (_, None) => "not reached",
    }
}

/// An instance's id for the screen.
pub fn instance(id: &InstanceId) -> String {
    sanitize::name(&id.0)
}

/// A command line for people and models: the script of a shell, in its lines, else the words; without what acts on a screen.
pub fn command(argv: &[String]) -> String {
    let text = match argv {
        [.., flag, script] if flag == "-c" => script.clone(),
        words => words.join(" "),
    };
    let lines: Vec<String> = text.trim().lines().map(|line| sanitize::line(line.as_bytes())).collect();
    lines.join("\n")
}

/// The same in a sentence: of several lines the first.
pub fn command_in_short(argv: &[String]) -> String {
    let all = command(argv);
    match all.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => all,
    }
}

/// The first ten digits of an object id.
pub fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// The first of some names, and how many more there are: `a, b and 3 more`. Empty where there are none.
pub fn first_of<N: Display>(names: impl IntoIterator<Item = N>, max: usize) -> String {
    let mut names = names.into_iter();
    let named: Vec<String> = names.by_ref().take(max).map(|name| name.to_string()).collect();
    match names.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// `1 file`, `3 files`.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A length of time in at most seven characters up to 100 hours: `320ms`, `4.1s`, `1m 02s`, `2h 05m`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// The time of day of a moment in milliseconds since the Unix epoch: `14:03:07 UTC`.
pub fn time_of_day(at_ms: u64) -> String {
    let of_day = at_ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", of_day / 3_600, of_day % 3_600 / 60, of_day % 60)
}

/// What a call of a model waits for: `waits for anthropic until 14:03:07 UTC (rate limit)`.
pub fn waits(wait: &ModelWait) -> String {
    let provider = wait.model.split('/').next().unwrap_or_default();
    format!("waits for {} until {} ({})", sanitize::name(provider), time_of_day(wait.until_ms), wait.reason.name())
}

/// How a conversation ended that the model did not end of its own accord.
fn agent_end(status: AgentStatus, detail: &str) -> String {
    let detail = sanitize::name(detail.trim());
    match status {
        AgentStatus::Limit => format!("used up its {detail}"),
        AgentStatus::Circles => format!("went round in circles: {detail}"),
        AgentStatus::Unanswered => format!("could not go on: {detail}"),
        AgentStatus::Unready => format!("could not begin: {detail}"),
        AgentStatus::Stopped => format!("was ended by a hook: {detail}"),
        AgentStatus::Refused => format!("refused: {detail}"),
        AgentStatus::Blocked => format!("gave up: {detail}"),
        AgentStatus::Done | AgentStatus::Partial => format!("ended as {}: {detail}", status.name()),
    }
}

/// Why an attempt did not succeed; empty when it did.
pub fn end(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Succeeded => String::new(),
        AttemptEnd::Lost => "was lost: its coordinator died".to_owned(),
        AttemptEnd::Work { ended: how } => ended(how),
        AttemptEnd::Check { index, command, ended: how, before } => {
            let command = sanitize::name(command);
            match (before, how) {
                (true, Ended::Exited { code: 0 }) => {
                    format!(
                        "check {} `{command}` passed before the work, where it must fail: the work may be done already",
                        index + 1
                    )
                }
                (true, how) => format!("check {} `{command}` before the work {}", index + 1, ended(how)),
                (false, how) => format!("check {} `{command}` {}", index + 1, ended(how)),
            }
        }
        AttemptEnd::Violation { detail, paths, allow_with: _ } => {
            let paths: Vec<String> = paths.iter().take(3).map(|path| sanitize::name(path)).collect();
            let detail = sanitize::name(detail);
            if paths.is_empty() { detail } else { format!("{detail}: {}", paths.join(", ")) }
        }
        AttemptEnd::Needs { detail } | AttemptEnd::Infra { detail } => sanitize::name(detail),
        AttemptEnd::Differs { detail, paths } | AttemptEnd::Unresolved { detail, paths } => {
            let paths: Vec<String> = paths.iter().take(3).map(|path| sanitize::name(path)).collect();
            let detail = sanitize::name(detail);
            if paths.is_empty() { detail } else { format!("{detail}: {}", paths.join(", ")) }
        }
        AttemptEnd::Agent { status, detail, .. } => agent_end(*status, detail),
        AttemptEnd::Findings { by, findings } => {
            let findings: Vec<String> = findings.iter().map(|finding| sanitize::name(finding.trim())).collect();
            format!("was not approved by {}: {}", sanitize::name(by), findings.join("; "))
        }
        AttemptEnd::Outputs { detail } => format!("did not hand over its outputs: {}", sanitize::name(detail)),
    }
}

/// How a process ended, as what it did.
pub fn ended(how: &Ended) -> String {
    match how {
        Ended::Exited { code } => format!("exited with {code}"),
        Ended::Signaled { signal } => format!("was killed by {}", signal_name(*signal)),
        Ended::TimedOut => "timed out".to_owned(),
        Ended::Cancelled => "was cancelled".to_owned(),
        Ended::Limit { limit, detail } => format!("broke its limit `{limit}`: {}", sanitize::name(detail)),
        Ended::StartFailed { reason } => format!("could not be started: {}", sanitize::name(reason)),
        Ended::Refused(refusal) if refusal.lacks_room => {
            let (step, reason) = (sanitize::name(&refusal.step), sanitize::name(&refusal.reason));
            format!("found no room for its processes ({step}: {reason})")
        }
        Ended::Refused(refusal) => {
            format!("was refused by the cage at {}: {}", sanitize::name(&refusal.step), sanitize::name(&refusal.reason))
        }
    }
}

/// Source: signal(7), the numbers that Linux has on every architecture this runs on.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

/// What the workers of a run are held to, in a few words; [`enforcement`] has them all.
pub fn enforcement_in_short(report: &EnforcementReport) -> String {
    let tier = match report.tier {
        Tier::Landlock => "landlock tier",
        Tier::Namespaces => "namespaces",
    };
    let weaker = match report.not_enforced.len() as u64 {
        0 => String::new(),
        n => format!("; {} not enforced", count(n, "thing")),
    };
    format!(
        "cage: {tier}, landlock abi {}, {} kinds of confinement{weaker} (swarm doctor names them)",
        report.landlock_abi,
        report.enforced.len()
    )
}

/// What the workers of a run are held to, on one line.
pub fn enforcement(report: &EnforcementReport) -> String {
    let tier = match report.tier {
        Tier::Landlock => "landlock",
        Tier::Namespaces => "namespaces",
    };
    let mut parts: Vec<String> = vec![format!("cage: {tier}")];
    let enforced: Vec<String> = report
        .enforced
        .iter()
        .map(|name| if name == "landlock" { format!("landlock abi {}", report.landlock_abi) } else { name.clone() })
        .collect();
    if !enforced.is_empty() {
        parts.push(format!(" ({})", enforced.join(", ")));
    }
    if !report.not_enforced.is_empty() {
        parts.push(format!("; not enforced: {}", report.not_enforced.join(", ")));
    }
    sanitize::name(&parts.concat())
}

/// What the workers of a run are held to, in lines: all that is enforced, then each thing that is not.
pub fn held_by(report: &EnforcementReport) -> Vec<String> {
    let all = enforcement(&EnforcementReport { not_enforced: vec![], ..report.clone() });
    let not = report.not_enforced.iter().map(|thing| format!("not enforced: {}", sanitize::name(thing)));
    [all].into_iter().chain(not).collect()
}

/// What the cage kept from an attempt, two lines each, every line behind `indent`; empty when it kept nothing.
pub fn refusals(refusals: &[RefusalSeen], indent: &str) -> String {
    let mut text = String::new();
    for refusal in refusals {
        let (what, rule) = (sanitize::name(&refusal.what), sanitize::name(&refusal.rule));
        text.push_str(&format!("{indent}the cage refused {what}: {rule}\n"));
        match &refusal.allow_with {
            Some(lines) => text.push_str(&to_allow(lines, &format!("{indent}    "))),
            None => text.push_str(&format!("{indent}    no plan can allow it\n")),
        }
    }
    text
}

/// What a plan would have to say, behind `indent`: as it is pasted, so that each line has one of its own.
pub fn to_allow(lines: &str, indent: &str) -> String {
    let lines: Vec<String> = lines.lines().map(sanitize::name).collect();
    match lines.as_slice() {
        [line] => format!("{indent}to allow it: {line}\n"),
        lines => {
            let lines: String = lines.iter().map(|line| format!("{indent}    {line}\n")).collect();
            format!("{indent}to allow it, in the plan:\n{lines}")
        }
    }
}

/// The width of text on a screen, in columns; escape sequences have none.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// `text` in at most `columns` columns, with an ellipsis where something is left out.
pub fn fit(text: &str, columns: usize) -> String {
    console::truncate_str(text, columns, "…").into_owned()
}

/// A name in at most `columns` columns: what is left out is its middle, since names that stand below each other begin alike and end
/// differently. It has no escape sequences.
pub fn elide(name: &str, columns: usize) -> String {
    if width(name) <= columns {
        return name.to_owned();
    }
    let head = fit(name, columns.div_ceil(2));
    let room = columns - width(&head).min(columns);
    let mut tail = name;
    while width(tail) > room {
        tail = &tail[tail.chars().next().map_or(tail.len(), char::len_utf8)..];
    }
    format!("{head}{tail}")
}

/// `text` with its lines broken between words at `columns` columns, the rest of a line below its beginning and further in. What
/// stands alone to be typed or is quoted stays whole, and so does a word that is longer.
pub fn wrap(text: &str, columns: usize) -> String {
    let mut wrapped = String::new();
    for line in text.split_inclusive('\n') {
        let begins = |with: &&str| console::strip_ansi_codes(line).trim_start().starts_with(with);
        if width(line.trim_end()) <= columns || WHOLE_LINES.iter().any(begins) {
            wrapped.push_str(line);
        } else {
            // Columns are worth less than a line that stays one.
            let close = without_columns(line.trim_end());
            match width(&close) <= columns {
                true => wrapped.push_str(&close),
                false => wrap_line(line.trim_end(), columns, &mut wrapped),
            }
            wrapped.push_str(if line.ends_with('\n') { "\n" } else { "" });
        }
    }
    wrapped
}

/// How lines begin that are not broken: commands, a log's own lines, and the source of a plan.
const WHOLE_LINES: &[&str] = &["swarm ", "git ", "export ", "look: ", "more: ", "next: ", "| "];

/// A line in which no more than two blanks stand between words, its indent aside. Those within quotes or brackets stay: they are part of
/// a name.
fn without_columns(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let mut close = line[..indent].to_owned();
    let (mut blanks, mut named_until) = (0, indent);
    for (at, c) in line[indent..].char_indices().map(|(at, c)| (at + indent, c)) {
        if at >= named_until {
            named_until = end_of_name(line, at, c).unwrap_or(named_until);
        }
        blanks = if c == ' ' { blanks + 1 } else { 0 };
        if blanks <= 2 || at < named_until {
            close.push(c);
        }
    }
    close
}

/// Where the quotes or brackets end that begin at a place of a line with this character; `None` where none do.
fn end_of_name(line: &str, at: usize, c: char) -> Option<usize> {
    let end = match c {
        '[' => ']',
        // An apostrophe is none.
        '\'' | '"' | '`' if !line[..at].ends_with(char::is_alphanumeric) => c,
        _ => return None,
    };
    let behind = at + c.len_utf8();
    line[behind..].find(end).map(|length| behind + length + end.len_utf8())
}

/// Columns by which the rest of a broken line stands further in.
const HANGING: usize = 4;

fn wrap_line(line: &str, columns: usize, to: &mut String) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let hanging = " ".repeat((indent + HANGING).min(columns / 2));
    let (mut used, mut is_first) = (0, true);
    for word in line.trim_start_matches(' ').split(' ') {
        let wide = width(word);
        if is_first {
            to.push_str(&line[..indent]);
            used = indent + wide;
        } else if used + 1 + wide > columns {
            to.push('\n');
            to.push_str(&hanging);
            used = hanging.len() + wide;
        } else {
            to.push(' ');
            used += 1 + wide;
        }
        to.push_str(word);
        is_first = false;
    }
}

/// `text` with spaces behind it up to `columns` columns.
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Why a result is parked: what was said of it then, unless what it builds on has become something else since. `None` where it
/// is not parked.
pub fn parked(state: &RunState, instance: &InstanceState) -> Option<String> {
    let Some(Fate::Parked { reason, by, .. }) = instance.fate() else { return None };
    let said = sanitize::name(reason);
    if *by != ParkedBy::Need {
        return Some(said);
    }
    let (mut dropped, mut landed) = (None, None);
    for need in instance.needs() {
        let id = InstanceId(need.as_str().into());
        // A need is an instance, or a task with all that it has.
        let one = state.instances.get_key_value(&id);
        let all = state.instances.iter().filter(|(_, it)| one.is_none() && *it.task() == **need);
        for (id, it) in one.into_iter().chain(all) {
            match it.fate() {
                Some(Fate::Parked { .. }) => return Some(said),
                Some(Fate::Dropped { .. }) => dropped = Some(id),
                Some(Fate::Landed { .. }) => landed = Some(id),
                Some(Fate::Empty) | None => {}
            }
        }
    }
    let name = |id: &InstanceId| sanitize::name(&id.0);
    Some(match (dropped, landed) {
        (Some(id), _) => format!("it builds on `{}`, which was dropped", name(id)),
        (None, Some(id)) => format!("it waited for `{}`, which has landed since", name(id)),
        (None, None) => said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_are_named_and_the_others_counted() {
        let check = |names: &[&str], expected: &str| assert_eq!(first_of(names, 2), expected);
        check(&[], "");
        check(&["a"], "a");
        check(&["a", "b"], "a, b");
        check(&["a", "b", "c", "d"], "a, b and 2 more");
    }

    #[test]
    fn times_are_as_exact_as_a_person_needs() {
        for (ms, text) in
            [(0, "0ms"), (999, "999ms"), (1_000, "1.0s"), (59_999, "59.9s"), (62_000, "1m 02s"), (7_500_000, "2h 05m")]
        {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn blanks_of_a_name_are_no_columns() {
        assert_eq!(without_columns("  a    b      c"), "  a  b  c");
        assert_eq!(without_columns("it's     'a    b'     c"), "it's  'a    b'  c");
        assert_eq!(without_columns("build[x=a    b]     done"), "build[x=a    b]  done");
        assert_eq!(without_columns("`a    b`     \"c     d\"     'e    f"), "`a    b`  \"c     d\"  'e  f");
    }

    #[test]
    fn of_a_script_of_several_lines_none_is_glued_to_the_next() {
        let argv = |script: &str| ["sh", "-eu", "-c", script].map(str::to_owned);
        let script = argv("if true; then\n  false\u{9b}2J\nfi\n");
        assert_eq!(
            (command(&script).as_str(), &*command_in_short(&script)),
            ("if true; then\n  false\nfi", "if true; then …")
        );
        let one = argv("\nmake test\n");
        assert_eq!((command(&one).as_str(), &*command_in_short(&one)), ("make test", "make test"));
    }

    #[test]
    fn a_check_that_passed_too_early_says_so() {
        let early = AttemptEnd::Check {
            index: 0,
            command: "grep x".to_owned(),
            ended: Ended::Exited { code: 0 },
            before: true,
        };
        assert_eq!(
            end(&early),
            "check 1 `grep x` passed before the work, where it must fail: the work may be done already"
        );
    }

    #[test]
    fn lines_break_between_words_and_commands_stay_whole() {
        let check = |text: &str, expected: &str| assert_eq!(wrap(text, 20), expected);
        check("short\n", "short\n");
        check("[+] c1                32ms\n", "[+] c1  32ms\n");
        check("note: one two three four five\nx\n", "note: one two three\n    four five\nx\n");
        check("  a-word-that-is-longer-than-a-line b", "  a-word-that-is-longer-than-a-line\n      b");
        check("    swarm resolve a-run a-task --continue\n", "    swarm resolve a-run a-task --continue\n");
        check("\u{1b}[1mnote:\u{1b}[0m one two three\n", "\u{1b}[1mnote:\u{1b}[0m one two three\n");
    }

    #[test]
    fn hostile_names_in_reasons_are_spelled_out() {
        let end = end(&AttemptEnd::Violation {
            detail: "outside writes".to_owned(),
            paths: vec!["a\u{1b}[2J".to_owned()],
            allow_with: None,
        });
        assert_eq!(end, "outside writes: a\\u{1b}[2J");
    }
}
