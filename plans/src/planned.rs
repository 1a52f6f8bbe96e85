//! Plans that a model wrote. Such a text is hostile until a person has read it: it may order work, and it may grant nothing. So
//! it is read like every plan, and held against a list of what it may say; what is not on the list is refused, also what the
//! language learns later. It names no policy, no model, no server and no variable of the caller that nobody configured; its
//! tasks say what they change, prove it by checks, and do not change the same files beside each other.
//!
//! What is refused is a diagnostic like any other, and goes back to the model. A person who wants more edits the file.

use crate::diagnostic::{Diagnostic, Location, Severity, SourceFile};
use crate::document::{self, Node, Table, Value};
use crate::file::{Parsed, parse};
use crate::graph::TaskGraph;
use crate::overlap::Completeness;
use crate::plan::{Plan, Task};
use crate::template::{Dialect, root};

/// The longest plan that is taken from a model, in bytes.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

/// The most instances of such a plan: more than a person would look through.
pub const INSTANCES_MAX: usize = 10_000;

/// Diagnostics that the model is told at once.
const TOLD_MAX: usize = 30;
/// The longest quoted line, in characters.
const QUOTED_CHARS_MAX: usize = 160;

/// What may stand at a place.
enum May {
    /// Whatever the language allows there.
    Anything,
    /// A table with these keys; what is no table is left to the language.
    Table(&'static [(&'static str, May)]),
    /// A table with these keys, or a list of such.
    Tables(&'static [(&'static str, May)]),
    /// A table with free keys.
    Named(&'static May),
    /// One of these words.
    Word(&'static [&'static str]),
}

use May::{Anything, Named, Tables, Word};

const PLAN: &[(&str, May)] = &[
    ("version", Anything),
    ("name", Anything),
    ("seed", Anything),
    ("jobs", Anything),
    ("deadline", Anything),
    ("vars", Anything),
    ("resources", Anything),
    ("budget", Anything),
    ("defaults", May::Table(TASK)),
    ("templates", Named(&May::Table(TASK))),
    ("tasks", Named(&May::Table(TASK))),
    ("merge", May::Table(MERGE)),
];

const TASK: &[(&str, May)] = &[
    ("run", Anything),
    ("argv", Anything),
    ("agent", May::Table(AGENT)),
    ("use", Anything),
    ("with", Anything),
    ("shell", Anything),
    ("needs", Anything),
    ("foreach", Named(&May::Table(FOREACH))),
    ("foreach-batch", Anything),
    ("foreach-max", Anything),
    ("matrix", Anything),
    ("matrix-exclude", Anything),
    ("matrix-include", Anything),
    ("if", Anything),
    ("env", Anything),
    ("outputs", Anything),
    ("artifacts", Anything),
    ("writes", Anything),
    ("check", Tables(COMMAND)),
    ("until", May::Table(UNTIL)),
    ("review", Anything),
    ("retry", Anything),
    ("timeout", Anything),
    ("resources", Anything),
    ("priority", Anything),
    ("budget", Anything),
];

const AGENT: &[(&str, May)] = &[
    ("prompt", Anything),
    ("prompt-file", Anything),
    ("model", Anything),
    ("directory", Anything),
    ("turns", Anything),
    ("tokens", Anything),
    ("output-tokens", Anything),
    ("context-tokens", Anything),
    ("mode", Word(&["read-only", "workspace-write"])),
    ("ask", Anything),
    ("deny", Anything),
    ("tools", Anything),
    ("language-servers", Anything),
];

const UNTIL: &[(&str, May)] = &[("check", Tables(COMMAND)), ("verifier", May::Table(AGENT)), ("max", Anything)];

const FOREACH: &[(&str, May)] = &[("glob", Anything), ("lines", Tables(COMMAND))];

const COMMAND: &[(&str, May)] = &[
    ("run", Anything),
    ("argv", Anything),
    ("shell", Anything),
    ("timeout", Anything),
    ("expect-fail-before", Anything),
];

const MERGE: &[(&str, May)] = &[
    ("verify", Tables(VERIFY)),
    ("on-conflict", Anything),
    ("union", Anything),
    ("regenerate", Tables(REGENERATE)),
    ("publish", Anything),
];

const VERIFY: &[(&str, May)] = &[
    ("run", Anything),
    ("argv", Anything),
    ("shell", Anything),
    ("timeout", Anything),
    ("batch", Anything),
    ("parallel", Anything),
    ("retry", Anything),
    ("fingerprint", Tables(COMMAND)),
];

const REGENERATE: &[(&str, May)] =
    &[("paths", Anything), ("run", Anything), ("argv", Anything), ("shell", Anything), ("timeout", Anything)];

/// Reads a plan that a model wrote. `models` are the names that its agents may use, in the order in which they are told. What
/// only the expanded graph shows is found by [`scopes`].
pub fn parse_planned(name: &str, text: &str, models: &[String]) -> Parsed {
    let source = || SourceFile { name: name.to_owned(), text: text.to_owned() };
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the plan has {} bytes, and {TEXT_BYTES_MAX} are possible", text.len());
        let diagnostics = vec![Diagnostic::error(Location::new(0, 0..0), message)];
        return Parsed { plan: None, diagnostics, sources: vec![source()] };
    }
    let mut refused = Vec::new();
    // What is no TOML is told by the parser below.
    let document = document::read(0, text, &mut Vec::new());
    let mut computes = Vec::new();
    if let Some(document) = &document {
        walk(document, &May::Table(PLAN), "a plan", &mut refused);
        lookups(document, &mut computes);
    }
    if let Some((at, c)) = text.char_indices().find(|(_, c)| does_not_show(*c)) {
        let message = format!("the plan holds a character that does not show: U+{:04X}", u32::from(c));
        refused.push(Diagnostic::error(Location::new(0, at..at + c.len_utf8()), message).hint("leave it out"));
    }
    if !computes.is_empty() {
        // No template that was refused is compiled.
        refused.append(&mut computes);
        refused.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
        return Parsed { plan: None, diagnostics: refused, sources: vec![source()] };
    }
    let mut parsed = parse(name, text, &[], &mut |_| Err("a plan that a model wrote includes nothing".to_owned()));
    if let (Some(plan), Some(document)) = (&parsed.plan, &document) {
        surroundings(plan, document, &mut refused);
        plan.tasks.iter().for_each(|task| complete(task, models, &mut refused));
    }
    refused.retain(|one| !parsed.diagnostics.iter().any(|known| known.span == one.span));
    parsed.diagnostics.extend(refused);
    parsed.diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.severity));
    parsed.diagnostics.dedup();
    if parsed.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        parsed.plan = None;
    }
    parsed
}

/// What is wrong with the scopes of such a plan, once its fan-outs over files are answered: tasks that may change the same
/// files beside each other, and tasks of which nobody knows it before the run.
pub fn scopes(graph: &TaskGraph) -> Vec<Diagnostic> {
    let plan = graph.plan();
    if graph.instances().len() > INSTANCES_MAX {
        let message = format!("the plan has {} instances, and {INSTANCES_MAX} are possible", graph.instances().len());
        return vec![Diagnostic::error(Location::new(0, 0..0), message).hint("use foreach-batch")];
    }
    let overlaps = graph.overlaps();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for overlap in &overlaps.found {
        let [one, other] = overlap.instances.map(|ix| graph.instance(ix));
        let message = format!("`{}` and `{}` may both change {}", one.id, other.id, overlap.meeting.path);
        let hint = "narrow their `writes` until no file is in both, or let one need the other";
        diagnostics.push(Diagnostic::error(plan.task(other.task).at, message).hint(hint));
    }
    for task in overlaps.later.iter().map(|&task| plan.task(task)) {
        let message = format!("what `{}` may change is known only while the plan runs", task.name);
        let hint = "let it fan out over a list or { glob = … }, with `writes` that use nothing else";
        diagnostics.push(Diagnostic::error(task.at, message).hint(hint));
    }
    if overlaps.complete == Completeness::Bounded {
        let message = "there are too many scopes to compare them all";
        diagnostics.push(Diagnostic::error(Location::new(0, 0..0), message).hint("use fewer, larger tasks"));
    }
    diagnostics
}

/// Diagnostics as a model reads them: each with its line, its place and its advice, the first of them where there are many.
pub fn told(diagnostics: &[Diagnostic], text: &str) -> String {
    let one = |diagnostic: &Diagnostic| {
        let word = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let at = text.floor_char_boundary(diagnostic.span.start.min(text.len()));
        let begin = text[..at].rfind('\n').map_or(0, |feed| feed + 1);
        let line = text[..at].matches('\n').count() + 1;
        let quoted: String = text[begin..].lines().next().unwrap_or_default().chars().take(QUOTED_CHARS_MAX).collect();
        let hint = diagnostic.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        let column = text[begin..at].chars().count() + 1;
        format!("{word} at line {line}, column {column}: {}\n  {quoted}{hint}\n", diagnostic.message)
    };
    let mut all: String = diagnostics.iter().take(TOLD_MAX).map(one).collect();
    if diagnostics.len() > TOLD_MAX {
        all.push_str(&format!("and {} more\n", diagnostics.len() - TOLD_MAX));
    }
    all
}

/// Whether a character would hide something from a person who reads the plan. Source: Unicode UAX #9, ECMA-48.
fn does_not_show(c: char) -> bool {
    let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e0fff}');
    hidden || c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// Refuses every key that is not on the list.
fn walk(node: &Node, may: &May, what: &str, refused: &mut Vec<Diagnostic>) {
    match (may, &node.value) {
        (May::Table(keys) | Tables(keys), Value::Table(table)) => keys_of(table, keys, what, refused),
        (Tables(_), Value::List(items)) => items.iter().for_each(|item| walk(item, may, what, refused)),
        (Named(may), Value::Table(table)) => {
            table.entries.iter().for_each(|entry| walk(&entry.node, may, &format!("`{}`", entry.key), refused));
        }
        (Word(words), Value::Text(text)) if !words.contains(&text.as_str()) => {
            let message = format!("`{text}` is more than a plan that a model writes may grant");
            refused.push(Diagnostic::error(node.at, message).hint(format!("write {}", words.join(" or "))));
        }
        _ => {}
    }
}

fn keys_of(table: &Table, keys: &[(&str, May)], what: &str, refused: &mut Vec<Diagnostic>) {
    for entry in &table.entries {
        match keys.iter().find(|(key, _)| *key == entry.key) {
            Some((_, may)) => walk(&entry.node, may, &format!("`{}`", entry.key), refused),
            None => {
                let message = format!("`{}` is not for plans that a model writes", entry.key);
                let all: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                let hint =
                    format!("leave it out: only a person may grant more. The keys of {what}: {}", all.join(", "));
                refused.push(Diagnostic::error(entry.key_at, message).hint(hint));
            }
        }
    }
}

/// Refuses templates that are more than a name: a loop or a product would be computed outside of any cage.
fn lookups(node: &Node, refused: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Text(text) if !is_plain(text) => {
            let message = "a template in a plan that a model writes is a name and nothing else";
            refused
                .push(Diagnostic::error(node.at, message).hint("write {{ crate.name }}: no filter, call or statement"));
        }
        Value::List(items) => items.iter().for_each(|item| lookups(item, refused)),
        Value::Table(table) => {
            for entry in &table.entries {
                match entry.node.text().filter(|_| entry.key == "if") {
                    Some(text) if !is_comparison(text) => {
                        let message = "an `if` in a plan that a model writes compares names, texts and numbers";
                        let hint = "write it like: needs.survey.result == 'succeeded' and vars.deploy";
                        refused.push(Diagnostic::error(entry.node.at, message).hint(hint));
                    }
                    Some(_) => {}
                    None => lookups(&entry.node, refused),
                }
            }
        }
        _ => {}
    }
}

/// Whether all between braces are dotted names.
fn is_plain(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let Some(end) = rest[at..].find("}}") else { return false };
        let name = rest[at + 2..at + end].trim();
        let name = name.strip_prefix('-').unwrap_or(name);
        let name = name.strip_suffix('-').unwrap_or(name).trim();
        let parts = || name.split('.');
        if !parts().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
            return false;
        }
        rest = &rest[at + end + 2..];
    }
    !text.contains("{%")
}

/// Whether an expression holds nothing that computes: no call, product, filter or list.
fn is_comparison(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || " ._-='\"!<>\n".contains(c))
}

/// Refuses templates that look at the caller's environment. Every compiled text is found by its source; one that is not found
/// is refused, too.
fn surroundings(plan: &Plan, document: &Node, refused: &mut Vec<Diagnostic>) {
    let is_env = |names: &[String]| names.iter().any(|name| root(name) == "env");
    let mut wanted: Vec<&str> =
        plan.engine.compiled().filter(|(_, names)| is_env(names)).map(|(text, _)| text).collect();
    let message = "a plan that a model writes sees nothing of your environment";
    let hint = "`env` in templates is for plans that a person wrote";
    texts(document, &mut |node, text| {
        let dialects = [Dialect::Text, Dialect::Glob, Dialect::Expression];
        if dialects.into_iter().filter_map(|dialect| plan.engine.names_of(dialect, text)).any(is_env) {
            refused.push(Diagnostic::error(node.at, message).hint(hint));
            wanted.retain(|known| *known != text);
        }
    });
    if !wanted.is_empty() {
        refused.push(Diagnostic::error(Location::new(0, 0..0), message).hint(hint));
    }
}

fn texts(node: &Node, each: &mut dyn FnMut(&Node, &str)) {
    match &node.value {
        Value::Text(text) => each(node, text),
        Value::List(items) => items.iter().for_each(|item| texts(item, each)),
        Value::Table(table) => table.entries.iter().for_each(|entry| texts(&entry.node, each)),
        _ => {}
    }
}

/// What a task has to say before anybody lets it work alone.
fn complete(task: &Task, models: &[String], refused: &mut Vec<Diagnostic>) {
    let agents = task.agent().into_iter().chain(task.reviewers.iter().map(|reviewer| &reviewer.agent));
    for agent in agents.filter(|agent| !models.contains(&agent.settings.model)) {
        let message = format!("`{}` names the model `{}`, which is not configured", task.name, agent.settings.model);
        let hint = format!("write agent.model as one of: {}", models.join(", "));
        refused.push(Diagnostic::error(agent.model_use.at, message).hint(hint));
    }
    match task.writes.as_deref() {
        None => {
            let message = format!("`{}` does not say what it may change", task.name);
            let hint = "give it `writes`: globs of its own files, or [] when it changes nothing";
            refused.push(Diagnostic::error(task.at, message).hint(hint));
        }
        Some([]) => {}
        Some(_) if task.checks.is_empty() => {
            let message = format!("`{}` has no `check`: nothing would show that its work is done", task.name);
            let hint = "give it a command that passes only when it is: check = [\"cargo test -p x\"]";
            refused.push(Diagnostic::error(task.at, message).hint(hint));
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
[tasks.survey]
run = "ls > $SWARM_ARTIFACTS/list"
writes = []
[tasks.core]
agent = { prompt = "Rewrite it.", model = "main" }
needs = ["survey"]
writes = ["core/**"]
check = "cargo test -p core"
[tasks.ui]
agent = { prompt = "Rewrite {{ part }}.", model = "main" }
foreach.part = ["a", "b"]
if = "needs.survey.result == 'succeeded'"
needs = ["survey"]
writes = ["ui/{{ part }}/**"]
check = [{ run = "cargo test -p ui", expect-fail-before = true }]
[merge]
verify = "cargo test"
"#;

    fn messages(text: &str) -> Vec<String> {
        let parsed = parse_planned("plan.toml", text, &["main".to_owned()]);
        assert_eq!(parsed.plan.is_some(), parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics);
        let mut all = parsed.diagnostics;
        all.extend(parsed.plan.map(|plan| scopes(&TaskGraph::expand(plan).expect("it expands"))).unwrap_or_default());
        all.into_iter().map(|diagnostic| diagnostic.message).collect()
    }

    fn check(old: &str, new: &str, expected: &str) {
        assert!(GOOD.contains(old), "{old}");
        let found = messages(&GOOD.replacen(old, new, 1));
        assert!(found.iter().any(|message| message.contains(expected)), "{expected} is not in {found:?}");
    }

    #[test]
    fn a_plan_that_grants_nothing_passes() {
        assert_eq!(messages(GOOD), Vec::<String>::new());
    }

    #[test]
    fn what_would_grant_something_is_refused() {
        for (line, key) in [
            ("base = 'other'", "base"),
            ("include = ['x.toml']", "include"),
            ("workspace.copy = ['.env']", "workspace"),
            ("models.x = { provider = 'ollama', model = 'x' }", "models"),
            ("servers.x = { argv = ['x'] }", "servers"),
            ("sandbox.default = { read = ['/etc'] }", "sandbox"),
            ("sandbox.x = { network = 'host', secrets = ['X'], env = ['Y'], write = ['~/z'] }", "sandbox"),
        ] {
            check("version = 1", &format!("version = 1\n{line}"), &format!("`{key}` is not for plans"));
        }
        let task = "writes = []";
        for (line, key) in
            [("sandbox = 'default'", "sandbox"), ("models = ['main']", "models"), ("cache = true", "cache")]
        {
            check(task, &format!("{task}\n{line}"), &format!("`{key}` is not for plans"));
        }
        check("verify = \"cargo test\"", "verify = { run = 'x', sandbox = 'default' }", "`sandbox` is not for plans");
        check("verify = \"cargo test\"", "into = 'main'", "`into` is not for plans");
        check(
            "verify = \"cargo test\"",
            "regenerate = [{ paths = ['x'], run = 'x', sandbox = 'default' }]",
            "`sandbox`",
        );
        check("[merge]", "[templates.t]\nsandbox = 'default'\n[merge]", "`sandbox` is not for plans");
        check("[merge]", "[defaults]\nsandbox = 'default'\n[merge]", "`sandbox` is not for plans");
    }

    #[test]
    fn an_agent_of_such_a_plan_gets_no_more_than_any() {
        let agent = |more: &str| format!("model = \"main\", {more} }}");
        for (more, expected) in [
            ("allow = ['bash']", "`allow` is not for plans"),
            ("servers = ['x']", "`servers` is not for plans"),
            ("hooks = [{ event = 'Stop', run = 'x' }]", "`hooks` is not for plans"),
            ("submits = 'plan'", "`submits` is not for plans"),
            ("mode = 'full'", "`full` is more than"),
        ] {
            check("model = \"main\" }", &agent(more), expected);
        }
        check("model = \"main\"", "model = 'openrouter/dear'", "`openrouter/dear`, which is not configured");
    }

    #[test]
    fn templates_are_names_and_see_nothing_of_the_caller() {
        check("Rewrite it.", "{{ env.HOME }}", "sees nothing of your environment");
        check("Rewrite it.", "{% for i in range(9) %}x{% endfor %}", "a name and nothing else");
        check("Rewrite it.", "{{ 'a' * 999999999 }}", "a name and nothing else");
        check("needs.survey.result == 'succeeded'", "env.HOME == 'x'", "sees nothing of your environment");
        check("needs.survey.result == 'succeeded'", "range(10)", "compares names");
    }

    #[test]
    fn no_template_of_such_a_plan_overflows_the_stack() {
        let names = format!("{{{{ {}a }}}}", "a.".repeat(60_000));
        check("Rewrite it.", &names, "words and signs, and 500 are possible");
        check("Rewrite it.", &format!("{{{{ {}a }}}}", "-".repeat(120_000)), "a name and nothing else");
        let compared = format!("{}a", "a==".repeat(40_000));
        check("needs.survey.result == 'succeeded'", &compared, "words and signs, and 500 are possible");
    }

    #[test]
    fn a_person_sees_all_of_it() {
        for c in ['\u{202e}', '\u{200b}', '\u{9b}', '\u{e0041}'] {
            check("Rewrite it.", &format!("Rewrite{c} it."), "a character that does not show");
        }
    }

    #[test]
    fn tasks_say_what_they_change_and_prove_it() {
        check("writes = [\"core/**\"]", "", "does not say what it may change");
        check("check = \"cargo test -p core\"", "", "`core` has no `check`");
        check("core/**", "ui/a/**", "`core` and `ui[part=a]` may both change");
        check("foreach.part = [\"a\", \"b\"]", "foreach.part = { lines = 'ls' }", "known only while the plan runs");
        let ordered = GOOD.replace("core/**", "ui/a/**");
        let ordered = ordered
            .replace("needs = [\"survey\"]\nwrites = [\"ui/{{", "needs = [\"core\", \"survey\"]\nwrites = [\"ui/{{");
        assert_eq!(messages(&ordered), Vec::<String>::new(), "one waits for the other");
    }

    #[test]
    fn the_model_is_told_the_line_and_what_to_write() {
        let text = "version = 1\n[tasks.ä]\nrun = 'x'\n";
        let parsed = parse_planned("plan.toml", "version = 1\n[tasks.a]\nrn = 'x'\nwrites = []\n", &[]);
        let said = told(&parsed.diagnostics, "version = 1\n[tasks.a]\nrn = 'x'\nwrites = []\n");
        assert!(
            said.contains("line 3, column 1: unknown key `rn`")
                && said.contains("\n  rn = 'x'\n  hint: did you mean `run`?"),
            "{said}"
        );
        let odd = Diagnostic::error(Location::new(0, 20..21), "odd");
        assert!(told(&[odd], text).contains("line 2"), "a place within a letter is no panic");
        let long = parse_planned("plan.toml", &"#".repeat(TEXT_BYTES_MAX + 1), &[]);
        assert!(long.plan.is_none() && long.diagnostics[0].message.contains("bytes"));
    }
}
