//! From the texts of a plan to the plan: reads the file and what it includes, applies `--set`, and gives every diagnostic
//! of every step at once. The steps: `document` (TOML), `shape` (keys and types), `lower` (types), `validate` (sense).

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Location, Severity, SourceFile, WrongIn, nearest};
use crate::document::{self, Entry, Node, Table};
use crate::egress::HostRule;
use crate::elsewhere::{self, Meant};
use crate::expansion::{Growth, Growths};
use crate::keys;
use crate::lower::{Lower, count, counts, inside_globs, insides, texts, time};
use crate::merge;
use crate::models;
use crate::only;
use crate::plan::*;
use crate::quantity;
use crate::review;
use crate::shape::check_table;
use crate::template::{Dialect, Engine};
use crate::tool_servers;
use crate::validate;

/// What became of a text.
#[derive(Debug)]
pub struct Parsed {
    /// The plan; `Some` exactly when no diagnostic is an error.
    pub plan: Option<Arc<Plan>>,
    /// Everything that is wrong, in the order of the sources.
    pub diagnostics: Vec<Diagnostic>,
    /// What diagnostics point into: first the plan, then what it includes, then each `--set`, then `--only`.
    pub sources: Vec<SourceFile>,
}

/// The most files that a plan may include.
pub const INCLUDES_MAX: usize = 64;

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 << 20;

/// The name under which the sources of a plan hold what each `--set` says.
pub const SET: &str = "--set";

/// The name under which they hold what `--only` says, with commas.
pub const ONLY: &str = "--only";

/// Who reads a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Whoever begins a run of it.
    New,
    /// Whoever goes on with one.
    Recorded,
}

/// What a person says of a plan beside it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// What overrides `[vars]`.
    pub sets: &'a [(String, String)],
    /// Of its tasks, only those that these mean are left, with all that they need; all, where it is empty.
    pub only: &'a [String],
}

/// Where the texts of other files come from: by the name in the plan, or why there is none.
type Include<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// Reads a plan. `name` is shown in diagnostics, and its stem is the plan's name unless it has one; `sets` override `[vars]`;
/// `include` gives the text of a file that the plan names, or the reason why it cannot.
pub fn parse(name: &str, text: &str, sets: &[(String, String)], include: &mut Include<'_>) -> Parsed {
    parse_beside(name, text, Beside { sets, only: &[] }, include)
}

/// As [`parse`], with all that a person says beside the plan.
pub fn parse_beside(name: &str, text: &str, beside: Beside<'_>, include: &mut Include<'_>) -> Parsed {
    read(Reading::New, (name, text), beside, include)
}

/// The same of a plan of which a run began: what was no mistake then and has a meaning all the same ([`WrongIn::NewPlans`]) is none.
pub fn parse_recorded(name: &str, text: &str, beside: Beside<'_>, include: &mut Include<'_>) -> Parsed {
    read(Reading::Recorded, (name, text), beside, include)
}

fn read(reading: Reading, (name, text): (&str, &str), beside: Beside<'_>, include: &mut Include<'_>) -> Parsed {
    let Beside { sets, only } = beside;
    let plan = SourceFile { name: name.to_owned(), text: line_feeds(text) };
    let mut texts = Texts { sources: vec![plan], diagnostics: Vec::new() };
    let documents = texts.read_all(include);
    texts
        .sources
        .extend(sets.iter().map(|(key, value)| SourceFile { name: SET.to_owned(), text: format!("{key}={value}") }));
    let first_set = texts.sources.len() - sets.len();
    if !only.is_empty() {
        texts.sources.push(SourceFile { name: ONLY.to_owned(), text: only.join(",") });
    }
    let Texts { sources, mut diagnostics } = texts;
    let mut plan = documents.map(|documents| {
        let parts = Parts::gather(&documents, &mut diagnostics);
        let vars = variables(&parts, sets, first_set, &mut diagnostics);
        lower((reading, name), &parts, &vars, &sources, &mut diagnostics)
    });
    if reading == Reading::Recorded {
        diagnostics.retain(|diagnostic| diagnostic.wrong_in == WrongIn::EveryPlan);
    }
    // What is wrong with the others is told all the same.
    if let Some(plan) = plan.as_mut().filter(|_| !only.is_empty() && !has_errors(&diagnostics)) {
        diagnostics.extend(only::keep(plan, only, sources.len() - 1).err().unwrap_or_default());
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.source, diagnostic.span.start, diagnostic.severity));
    diagnostics.dedup();
    let failed = has_errors(&diagnostics);
    if diagnostics.len() > DIAGNOSTICS_MAX {
        let more = diagnostics.len() - DIAGNOSTICS_MAX;
        diagnostics.truncate(DIAGNOSTICS_MAX);
        diagnostics.push(Diagnostic::error(Location::new(0, 0..0), format!("{more} more mistakes are not shown")));
    }
    Parsed { plan: plan.filter(|_| !failed).map(Arc::new), diagnostics, sources }
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// The text with line feeds for the line ends of Windows, which a script would take for a part of its words: TOML lets whoever reads
/// it choose. Lines keep their numbers. Source: TOML 1.0, "String", multi-line strings.
fn line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// The sources while they are read.
struct Texts {
    sources: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
}

impl Texts {
    /// The plan's document and those it includes; `None` when the plan itself is not TOML.
    fn read_all(&mut self, include: &mut Include<'_>) -> Option<Vec<Node>> {
        let plan = self.read(0, keys::PLAN, "a plan");
        let mut documents = vec![plan?];
        let names: Vec<Node> = documents[0].table()?.get("include").and_then(Node::list).unwrap_or_default().to_vec();
        for (index, node) in names.iter().enumerate() {
            let Some(name) = node.text() else { continue };
            if index >= INCLUDES_MAX {
                let message = format!("a plan may include {INCLUDES_MAX} files, this is one more");
                self.diagnostics.push(Diagnostic::error(node.at, message));
                break;
            }
            if let Some(first) = names[..index].iter().find(|earlier| earlier.text() == Some(name)) {
                let diagnostic = Diagnostic::error(node.at, format!("`{name}` is included twice"));
                self.diagnostics.push(diagnostic.related(first.at, "the first time"));
                continue;
            }
            match include(name) {
                Ok(text) => {
                    self.sources.push(SourceFile { name: name.to_owned(), text: line_feeds(&text) });
                    documents.extend(self.read(self.sources.len() - 1, keys::INCLUDED, "an included file"));
                }
                Err(reason) => {
                    self.diagnostics.push(Diagnostic::error(node.at, format!("cannot include `{name}`: {reason}")));
                }
            }
        }
        Some(documents)
    }

    fn read(&mut self, source: usize, keys: &[keys::Key], what: &str) -> Option<Node> {
        let text = &self.sources[source].text;
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("this file has {} MiB; {} are possible", text.len() >> 20, TEXT_BYTES_MAX >> 20);
            self.diagnostics.push(Diagnostic::error(Location::new(source, 0..0), message));
            return None;
        }
        let document = document::read(source, text, &mut self.diagnostics)?;
        check_table(document.table()?, keys, what, &mut self.diagnostics);
        Some(document)
    }
}

/// The named things of all documents together.
struct Parts<'a> {
    plan: &'a Table,
    vars: IndexMap<&'a str, &'a Entry>,
    templates: IndexMap<&'a str, &'a Entry>,
    sandboxes: IndexMap<&'a str, &'a Entry>,
    models: IndexMap<&'a str, &'a Entry>,
    servers: IndexMap<&'a str, &'a Entry>,
}

impl<'a> Parts<'a> {
    fn gather(documents: &'a [Node], diagnostics: &mut Vec<Diagnostic>) -> Self {
        const NONE: &Table = &Table { entries: Vec::new() };
        let mut gathered = |section: &str, what: &str| {
            let mut all: IndexMap<&'a str, &'a Entry> = IndexMap::new();
            for table in documents.iter().filter_map(Node::table).filter_map(|t| t.get(section)).filter_map(Node::table)
            {
                for entry in &table.entries {
                    if let Some(first) = all.get(entry.key.as_str()) {
                        let diagnostic =
                            Diagnostic::error(entry.key_at, format!("the {what} `{}` is given twice", entry.key));
                        diagnostics.push(
                            diagnostic.related(first.key_at, "the first time").hint("rename or remove one of them"),
                        );
                    } else {
                        all.insert(&entry.key, entry);
                    }
                }
            }
            all
        };
        Parts {
            vars: gathered("vars", "variable"),
            templates: gathered("templates", "template"),
            sandboxes: gathered("sandbox", "policy"),
            models: gathered("models", "model"),
            servers: gathered("servers", "server"),
            plan: documents.first().and_then(Node::table).unwrap_or(NONE),
        }
    }
}

/// `[vars]` after `--set`.
fn variables(
    parts: &Parts<'_>,
    sets: &[(String, String)],
    first_set: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> IndexMap<String, Json> {
    let mut vars: IndexMap<String, Json> =
        parts.vars.iter().map(|(name, entry)| ((*name).to_owned(), entry.node.to_json())).collect();
    for (index, (key, text)) in sets.iter().enumerate() {
        let source = first_set + index;
        let Some(var) = vars.get_mut(key) else {
            let at = Location::new(source, 0..key.len());
            let diagnostic = Diagnostic::error(at, format!("the plan has no variable `{key}`"));
            diagnostics.push(match nearest(key, parts.vars.keys().copied()) {
                Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
                None => diagnostic.hint("variables are declared, with a default, in [vars]"),
            });
            continue;
        };
        let wanted = match var {
            Json::String(_) => Some(Json::String(text.clone())),
            Json::Bool(_) => text.parse().ok().map(Json::Bool),
            Json::Number(_) => serde_json::from_str(text).ok().filter(Json::is_number),
            Json::Array(_) => serde_json::from_str(text).ok().filter(Json::is_array),
            Json::Object(_) => serde_json::from_str(text).ok().filter(Json::is_object),
            Json::Null => None,
        };
        match wanted {
            Some(value) => *var = value,
            None => {
                let at = Location::new(source, key.len() + 1..key.len() + 1 + text.len());
                let message = format!("`{key}` is {var} in the plan, and `{text}` is of another type");
                diagnostics.push(Diagnostic::error(at, message).hint("write lists and tables as JSON"));
            }
        }
    }
    vars
}

fn lower(
    (reading, name): (Reading, &str),
    parts: &Parts<'_>,
    vars: &IndexMap<String, Json>,
    sources: &[SourceFile],
    diagnostics: &mut Vec<Diagnostic>,
) -> Plan {
    let plan = parts.plan;
    let tasks = plan.get("tasks").and_then(Node::table);
    let task_entries = tasks.map(|table| table.entries.as_slice()).unwrap_or_default();
    refuse_without_head(plan, task_entries, diagnostics);
    let defaults = plan.get("defaults").and_then(Node::table);
    refuse_nested_use(parts, defaults, diagnostics);
    let growths = Growths::of(task_entries, &parts.templates, diagnostics);
    let names = task_entries.iter().map(|entry| entry.key.as_str());
    let names: Vec<&str> = names.chain(growths.grown.iter().map(|growth| growth.name.as_str())).collect();
    let mut lower = Lower {
        sources,
        engine: match reading {
            Reading::New => Engine::new(),
            Reading::Recorded => Engine::of_recorded(),
        },
        diagnostics: std::mem::take(diagnostics),
        vars,
        templates: parts.templates.iter().map(|(name, entry)| (*name, *entry)).collect(),
        defaults,
        task_names: names.iter().enumerate().map(|(ix, name)| (*name, TaskIx(ix as u32))).collect(),
        expands: growths.expands,
    };
    let mut tasks: Vec<Task> = Vec::with_capacity(names.len());
    for entry in task_entries {
        tasks.push(lower.task(TaskIx(tasks.len() as u32), entry));
    }
    for growth in &growths.grown {
        tasks.push(lower.grown(TaskIx(tasks.len() as u32), growth));
    }
    review::attach(&mut tasks, &mut lower.diagnostics);
    compile_unused(parts, task_entries, &growths.grown, &mut lower);
    let workspace = workspace(plan, &mut lower);
    let merge = merge::lower(plan, &mut lower);
    let Lower { mut engine, diagnostics: found, .. } = lower;
    engine.set_vars(vars);
    *diagnostics = found;
    let models = models::lower(parts.models.values().copied().collect(), models::Origin::Plan, diagnostics);
    let servers = tool_servers::lower(parts.servers.values().copied().collect(), models::Origin::Plan, diagnostics);
    tasks.iter_mut().flat_map(Task::agents_mut).for_each(|agent| agent.know(&servers));
    let plan = Plan {
        name: plan.get("name").and_then(Node::text).map_or_else(|| stem(name), str::to_owned),
        base: plan.get("base").and_then(Node::text).unwrap_or("HEAD").to_owned(),
        seed: plan.get("seed").and_then(Node::integer).and_then(|seed| u64::try_from(seed).ok()),
        jobs: count(plan.get("jobs")),
        deadline: time(plan.get("deadline")),
        vars: vars.clone(),
        resources: plan.get("resources").map(counts).unwrap_or_default(),
        workspace,
        sandboxes: sandboxes(parts),
        models,
        servers,
        budget: models::budget(plan.get("budget")),
        merge,
        tasks,
        engine,
    };
    validate::plan(&plan, sources, diagnostics);
    plan
}

/// A plan says its version and has tasks.
fn refuse_without_head(plan: &Table, tasks: &[Entry], diagnostics: &mut Vec<Diagnostic>) {
    if plan.get("version").is_none() {
        let at = Location::new(0, 0..0);
        diagnostics.push(
            Diagnostic::error(at, "the plan does not say its version").hint("write `version = 1` as its first line"),
        );
    }
    // A slip of that word is an error of its own, with the word that is meant.
    let meant = plan.entries.iter().any(|entry| is_slip_of(&entry.key, "tasks"));
    if tasks.is_empty() && !meant && plan.get("tasks").is_none_or(|node| node.table().is_some()) {
        let at = plan.entry("tasks").map_or(Location::new(0, 0..0), |entry| entry.key_at);
        let hint = "write a task, for example:\n[tasks.hello]\nrun = \"echo hello > hello.txt\"";
        diagnostics.push(Diagnostic::error(at, "the plan has no tasks").hint(hint));
    }
}

/// Whether a key that nobody knows is told to be another one.
fn is_slip_of(key: &str, word: &str) -> bool {
    let mut known = keys::PLAN.iter().map(|known| known.name);
    let is_meant = matches!(elsewhere::meant(key), Some(Meant::Keys(ours)) if ours.contains(&word));
    known.clone().all(|name| name != key) && (is_meant || nearest(key, known.by_ref()) == Some(word))
}

/// Templates take nothing from other templates: two layers are enough to follow.
fn refuse_nested_use(parts: &Parts<'_>, defaults: Option<&Table>, diagnostics: &mut Vec<Diagnostic>) {
    let templates = parts.templates.values().filter_map(|entry| entry.node.table());
    for table in templates.chain(defaults) {
        for entry in table.entries.iter().filter(|entry| entry.key == "use" || entry.key == "with") {
            let message = format!("`{}` works in tasks only", entry.key);
            diagnostics.push(
                Diagnostic::error(entry.key_at, message).hint("templates and defaults cannot build on templates"),
            );
        }
    }
}

/// Mistakes in the texts of templates that no task uses are shown, too.
fn compile_unused(parts: &Parts<'_>, tasks: &[Entry], grown: &[Growth<'_>], lower: &mut Lower<'_>) {
    let mut used: std::collections::HashSet<&str> =
        tasks.iter().filter_map(|task| task.node.table()?.get("use")?.text()).collect();
    used.extend(grown.iter().map(|growth| growth.template.key.as_str()));
    for entry in parts.templates.iter().filter(|(name, _)| !used.contains(*name)).map(|(_, entry)| entry) {
        for key in entry.node.table().map(|table| table.entries.as_slice()).unwrap_or_default() {
            match key.key.as_str() {
                "if" => drop(lower.template(&key.node, Dialect::Expression)),
                "run" | "argv" | "env" | "check" | "writes" => compile_texts(&key.node, lower),
                _ => {}
            }
        }
    }
}

fn compile_texts(node: &Node, lower: &mut Lower<'_>) {
    match &node.value {
        document::Value::Text(_) => drop(lower.template(node, Dialect::Text)),
        document::Value::List(items) => items.iter().for_each(|item| compile_texts(item, lower)),
        document::Value::Table(table) => table.entries.iter().for_each(|entry| compile_texts(&entry.node, lower)),
        _ => {}
    }
}

fn workspace(plan: &Table, lower: &mut Lower<'_>) -> Workspace {
    let Some(table) = plan.get("workspace").and_then(Node::table) else { return Workspace::default() };
    Workspace {
        copy: table.get("copy").map(insides).unwrap_or_default(),
        setup: table.get("setup").and_then(|node| lower.command(node, "setup")),
        cache: table.get("cache").map(insides).unwrap_or_default(),
        sparse: table.get("sparse").map(inside_globs),
    }
}

fn sandboxes(parts: &Parts<'_>) -> IndexMap<String, SandboxPolicy> {
    let mut all = IndexMap::from([(DEFAULT_SANDBOX.to_owned(), SandboxPolicy::default())]);
    for (name, table) in parts.sandboxes.iter().filter_map(|(name, entry)| Some((*name, entry.node.table()?))) {
        all.insert(name.to_owned(), sandbox(table));
    }
    all
}

fn sandbox(table: &Table) -> SandboxPolicy {
    let list = |key: &str| table.get(key).and_then(texts).unwrap_or_default();
    let whole = |key: &str| table.get(key).and_then(Node::integer).and_then(|n| u64::try_from(n).ok());
    let bytes = |key: &str| table.get(key).and_then(Node::text).and_then(|text| quantity::size(text).ok());
    SandboxPolicy {
        tier: match table.get("tier").and_then(Node::text) {
            Some("namespaces") => Some(Tier::Namespaces),
            Some("landlock") => Some(Tier::Landlock),
            Some("wasm") => Some(Tier::Wasm),
            _ => None,
        },
        read: list("read"),
        write: list("write"),
        cow: list("cow"),
        tools: table.get("tools").and_then(texts),
        hide: list("hide"),
        network: match table.get("network") {
            Some(node) if node.text() == Some("host") => Network::Host,
            Some(node) if node.list().is_some() => {
                let hosts = texts(node).unwrap_or_default();
                Network::Hosts(hosts.iter().filter_map(|text| HostRule::parse(text).ok()).collect())
            }
            _ => Network::None,
        },
        env: list("env"),
        secrets: list("secrets"),
        memory_bytes: bytes("memory"),
        processes: whole("processes"),
        disk_bytes: bytes("disk"),
        files: whole("files"),
        cpu: table.get("cpu").and_then(Node::number),
        require: list("require"),
    }
}

/// A plan's name from that of its file: the stem, other letters replaced by dashes.
fn stem(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.strip_suffix(".toml").unwrap_or(file);
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let mut stem: String = stem.chars().map(letter).collect();
    stem.truncate(keys::NAME_BYTES_MAX);
    match stem.trim_matches('-') {
        "" => "plan".to_owned(),
        stem => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_alone(text: &str, sets: &[(&str, &str)]) -> Parsed {
        let sets: Vec<_> = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        parse("dir/my plan.toml", text, &sets, &mut |_| Err("no such file".to_owned()))
    }

    fn messages(parsed: &Parsed) -> Vec<&str> {
        parsed.diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect()
    }

    #[test]
    fn the_smallest_plan_is_named_after_its_file() {
        let plan = parse_alone("version = 1\n[tasks.a]\nrun = 'true'\n", &[]).plan.expect("it is valid");
        assert_eq!(plan.name, "my-plan");
        assert_eq!(plan.tasks[0].sandbox, "default");
    }

    #[test]
    fn line_ends_of_windows_are_no_part_of_a_script() {
        let text = "version = 1\r\ninclude = ['i']\r\n[tasks.a]\r\nrun = \"\"\"\r\nif true; then\r\n  echo\r\nfi\r\n\"\"\"\r\nuse = 't'\r\n";
        let included = "[templates.t]\r\ncheck = '''\r\ntrue\r\ntrue'''\r\n";
        let parsed = parse("p.toml", text, &[], &mut |_| Ok(included.to_owned()));
        assert!(parsed.sources.iter().all(|source| !source.text.contains('\r')), "{:?}", parsed.sources);
        let wrong = parse_alone("version = 1\r\n[tasks.a]\r\nrnu = 'x'\r\n", &[]);
        let before = &wrong.sources[0].text[..wrong.diagnostics[0].span.start];
        assert_eq!((before.matches('\n').count(), messages(&wrong)), (2, vec!["unknown key `rnu` in [tasks.a]"]));
    }

    #[test]
    fn a_slip_is_the_only_mistake() {
        let said = |text: &str| parse_alone(text, &[]).diagnostics.into_iter().map(|it| it.message).collect::<Vec<_>>();
        assert_eq!(said("version = 1\n[task.a]\nrun = 'x'\n"), ["unknown key `task` in a plan"]);
        assert_eq!(said("version = 1\n[taks.a]\nrun = 'x'\n"), ["unknown key `taks` in a plan"]);
        assert_eq!(said("version = 1\n[tasks.a]\nneds = ['x']\n").len(), 2, "nothing says what it does");
    }

    #[test]
    fn words_in_the_wrong_form_are_turned_into_the_right_one() {
        let hint = |text: &str| {
            parse_alone(&format!("version = 1\n{text}"), &[]).diagnostics.remove(0).hint.unwrap_or_default()
        };
        assert_eq!(hint("[tasks.a]\nargv = 'ls -l'\n"), "write [\"ls\", \"-l\"]");
        assert_eq!(hint("[tasks.a]\nargv = 'ls | wc'\n"), "a line for the shell is `run`: run = \"ls | wc\"");
        assert_eq!(
            hint("[tasks.a]\nrun = ['ls', '-l']\n"),
            "a program and its arguments are `argv`: argv = [\"ls\", \"-l\"]"
        );
        assert_eq!(hint("[[tasks]]\nrun = 'ls'\n"), "each has a name of its own: [tasks.NAME] in place of [[tasks]]");
        assert!(hint("[tasks.a]\nrun = \"docker ps --format '{{.State}}'\"\n").contains("{% raw %}"));
    }

    #[test]
    fn set_keeps_the_type_of_the_variable() {
        let text = "version = 1\n[vars]\nn = 1\ns = 'x'\nl = [1]\n[tasks.a]\nrun = 'true'\n";
        let plan = parse_alone(text, &[("n", "2"), ("s", "3"), ("l", "[4, 5]")]).plan.expect("it is valid");
        assert_eq!(serde_json::to_value(&plan.vars).unwrap(), serde_json::json!({"n": 2, "s": "3", "l": [4, 5]}));
        assert_eq!(
            messages(&parse_alone(text, &[("n", "two")])),
            ["`n` is 1 in the plan, and `two` is of another type"]
        );
        assert_eq!(messages(&parse_alone(text, &[("m", "2")])), ["the plan has no variable `m`"]);
    }

    #[test]
    fn a_task_overrides_its_template_and_the_template_the_defaults() {
        let text = r#"
            version = 1
            [defaults]
            timeout = "1m"
            priority = 1
            env = { A = "1", B = "1" }
            [templates.t]
            run = "template"
            priority = 2
            env = { B = "2", C = "2" }
            [tasks.a]
            use = "t"
            argv = ["own"]
            env = { C = "3" }
        "#;
        let plan = parse_alone(text, &[]).plan.expect("it is valid");
        let task = &plan.tasks[0];
        assert!(matches!(&task.work, Work::Argv(argv) if argv[0].source() == "own"));
        assert_eq!((task.timeout.map(|t| t.as_secs()), task.priority), (Some(60), 2));
        let env: Vec<_> = task.env.iter().map(|(name, value)| format!("{name}={}", value.source())).collect();
        assert_eq!(env, ["A=1", "B=2", "C=3"]);
    }

    #[test]
    fn what_comes_later_says_so_by_name() {
        let parsed = parse_alone("version = 1\n[select.w]\nfrom = 'a'\n[tasks.a]\nrepeat = {}\nrun = 'x'\n", &[]);
        assert_eq!(messages(&parsed), ["`select` is not supported yet", "`repeat` is not supported yet"]);
    }

    #[test]
    fn what_was_no_mistake_when_a_run_began_is_none_when_it_goes_on() {
        let read = |text: &str| {
            let text = format!("version = 1\n{text}");
            let recorded = parse_recorded("p.toml", &text, Beside::default(), &mut |_| Err("no such file".to_owned()));
            (parse_alone(&text, &[]).plan.is_some(), recorded.plan, recorded.diagnostics)
        };
        for now_wrong in [
            "[tasks.a]\nrun = 'x'\n[merge]\nmode = 'none'\nverify = 'x'\npublish = 'prefix'\n",
            "[tasks.-a]\nrun = 'x'\n[sandbox.-s]\n",
            "[tasks.a]\nrun = \"{{ 'a' * 3 }}\"\n",
            "[vars]\nv = 'a'\n[tasks.a]\nrun = \"{% with x = vars.v %}{{ x }}{{ vars.v }}{% endwith %}\"\n",
            "[vars]\nv = 'a'\n[tasks.a]\nrun = \"{% set x %}{{ vars.v }}{% endset %}{{ x }}\"\n",
            "[vars]\nv = 'a'\n[tasks.a]\nrun = \"{% filter replace(vars.v, 'b') %}{{ vars.v }}{% endfilter %}\"\n",
            "[vars]\nv = 'a'\n[tasks.a]\nrun = \"{% autoescape false %}{{ vars.v }}{% endautoescape %}\"\n",
            "[tasks.a]\nrun = \"{% set x = 'a' ~ 'b' %}{{ x }}\"\nif = \"'a' * 2 == 'aa'\"\n",
            "[tasks.a]\nallow-failure = true\nrun = 'x'\n[tasks.r]\nagent = { prompt = 'r' }\nreview = ['a']\n",
        ] {
            let (new, recorded, said) = read(now_wrong);
            assert!(!new && recorded.is_some(), "{now_wrong}: {said:?}");
        }
        for wrong in ["[tasks.a]\nrum = 'x'\n", "[tasks.a]\nrun = '{{ nobody }}'\n", "[tasks.'a b']\nrun = 'x'\n"] {
            let (new, recorded, said) = read(wrong);
            assert!(!new && recorded.is_none() && !said.is_empty(), "{wrong}: {said:?}");
        }
    }

    #[test]
    fn broken_toml_shows_one_error_with_its_place() {
        let parsed = parse_alone("version = 1\n[tasks.a\nrun = 'x'\n", &[]);
        assert_eq!(parsed.diagnostics.len(), 1);
        assert!(parsed.plan.is_none());
    }
}
