//! Models and what they may cost: `[models.NAME]` of a plan and of a person's own configuration, `budget`, and what both say
//! together. Nothing here calls anybody.
//!
//! A model is named `main`, an entry, or `provider/model` without an entry. A person's own entry wins over a plan's of the
//! same name: whoever runs a plan decides who is asked, and who is paid.

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;

use crate::allowance::{self, RepositoryAllowances};
use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::document::{self, Entry, Node, Table};
use crate::keys;
use crate::lower::time;
use crate::plan::Plan;
use crate::shape::check_table;
use crate::tool_servers::{self, ToolServer};
use crate::unsaid::unsaid;

/// Whose API a model is asked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions, and every server that speaks it.
    Openai,
    /// OpenAI's Responses.
    OpenaiResponses,
    /// Google's Gemini.
    Gemini,
    /// Ollama's own chat.
    Ollama,
    /// OpenRouter: Chat Completions.
    Openrouter,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 6] = [
        Provider::Anthropic,
        Provider::Openai,
        Provider::OpenaiResponses,
        Provider::Gemini,
        Provider::Ollama,
        Provider::Openrouter,
    ];

    /// As plans write it.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Anthropic => "anthropic",
            Provider::Openai => "openai",
            Provider::OpenaiResponses => "openai-responses",
            Provider::Gemini => "gemini",
            Provider::Ollama => "ollama",
            Provider::Openrouter => "openrouter",
        }
    }

    /// The provider of that name.
    pub fn of_name(name: &str) -> Option<Provider> {
        Provider::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Where its API is, without a slash at the end.
    pub fn base_url(self) -> &'static str {
        match self {
            Provider::Anthropic => "https://api.anthropic.com",
            Provider::Openai | Provider::OpenaiResponses => "https://api.openai.com/v1",
            Provider::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Provider::Ollama => "http://127.0.0.1:11434",
            Provider::Openrouter => "https://openrouter.ai/api/v1",
        }
    }

    /// The variable that holds its key; `None` where it needs none.
    pub fn key_variable(self) -> Option<&'static str> {
        match self {
            Provider::Anthropic => Some("ANTHROPIC_API_KEY"),
            Provider::Openai | Provider::OpenaiResponses => Some("OPENAI_API_KEY"),
            Provider::Gemini => Some("GEMINI_API_KEY"),
            Provider::Ollama => None,
            Provider::Openrouter => Some("OPENROUTER_API_KEY"),
        }
    }
}

/// A model, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Where its header or first key is.
    pub at: Location,
    /// Who wrote it.
    pub origin: Origin,
    /// Whose API.
    pub provider: Provider,
    /// The model as its provider names it.
    pub model: String,
    /// Where the API is; `None` is the provider's own place. Without a slash at the end.
    pub base_url: Option<String>,
    /// Where the key comes from; `None` is the provider's variable, for the provider's own place.
    pub key: Option<KeySource>,
    /// What it costs; `None` is unknown, never nothing.
    pub prices: Option<PriceList>,
    /// Tokens that fit into a request and its answer.
    pub context: Option<u32>,
    /// Tokens of an answer, at most.
    pub output_max: Option<u32>,
    /// How long it may be silent within an answer.
    pub idle_timeout: Option<Duration>,
    /// Models that are asked in its place when it does not answer, in order.
    pub fallbacks: Vec<ModelUse>,
}

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A plan or a file that it includes.
    Plan,
    /// The person who runs it.
    User,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A variable of the caller.
    Env(String),
    /// What a program prints; never empty.
    Command(Vec<String>),
}

/// Dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriceList {
    /// Of the request.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
    /// Of the request, read from the provider's cache; `None` is the price of input.
    pub cache_read: Option<f64>,
    /// Of the request, written to the provider's cache; `None` is the price of input.
    pub cache_write: Option<f64>,
    /// Of the request, written to the provider's cache for an hour.
    pub cache_write_1h: Option<f64>,
}

/// A model that something names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUse {
    /// Where.
    pub at: Location,
    /// An entry, or `provider/model`.
    pub name: String,
}

/// What may be spent; `None` is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Dollars.
    pub usd: Option<f64>,
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Time that models are asked, summed over calls.
    pub time: Option<Duration>,
}

/// What a task may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TaskBudget {
    /// All its instances and attempts together.
    pub task: Budget,
    /// Each attempt of each instance.
    pub attempt: Budget,
}

/// A person's own configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserConfig {
    /// Models by name.
    pub models: IndexMap<String, Model>,
    /// Servers of tools, by name.
    pub servers: IndexMap<String, ToolServer>,
    /// What plans may ask for, by repository.
    pub allowed: Vec<RepositoryAllowances>,
}

/// Every model that a run may ask, by name; a person's own entries first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Models {
    /// The entries.
    pub entries: IndexMap<String, Model>,
}

impl Models {
    /// The model of a name: an entry, or `provider/model` as its provider has it.
    pub fn get(&self, name: &str) -> Option<Model> {
        self.entries.get(name).cloned().or_else(|| routed(name))
    }

    /// What to write for a name that nothing answers to.
    pub fn advice(&self, name: &str) -> String {
        if let Some((provider, _)) = name.split_once('/') {
            let all: Vec<&str> = Provider::ALL.into_iter().map(Provider::name).collect();
            return match nearest(provider, all.iter().copied()) {
                Some(near) => format!("did you mean the provider `{near}`?"),
                None => format!("the providers are {}", all.join(", ")),
            };
        }
        match nearest(name, self.entries.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "describe it as [models.{name}] in the plan or in ~/.config/swarm/config.toml, or write provider/model"
            ),
        }
    }
}

/// `provider/model` without an entry.
fn routed(name: &str) -> Option<Model> {
    let (provider, model) = name.split_once('/')?;
    let provider = Provider::of_name(provider).filter(|_| !model.is_empty())?;
    Some(Model {
        at: Location::new(0, 0..0),
        origin: Origin::User,
        provider,
        model: model.to_owned(),
        base_url: None,
        key: None,
        prices: None,
        context: None,
        output_max: None,
        idle_timeout: None,
        fallbacks: Vec::new(),
    })
}

/// Reads a person's configuration. Its diagnostics point to `source`, the number that its text will have among the sources.
pub fn user_config(text: &str, source: usize) -> (UserConfig, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let document = document::read(source, text, &mut diagnostics);
    let Some(table) = document.as_ref().and_then(Node::table) else { return (UserConfig::default(), diagnostics) };
    check_table(table, keys::CONFIG, "the configuration", &mut diagnostics);
    let entries = |key: &str| {
        let table = table.get(key).and_then(Node::table);
        table.map(|table| table.entries.iter().collect::<Vec<_>>()).unwrap_or_default()
    };
    let models = lower(entries("models"), Origin::User, &mut diagnostics);
    let servers = tool_servers::lower(entries("servers"), Origin::User, &mut diagnostics);
    let allowed = table.get("allow").and_then(Node::list).unwrap_or_default();
    let allowed = allowance::lower(allowed, &mut diagnostics);
    (UserConfig { models, servers, allowed }, diagnostics)
}

/// Who answers in place of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// The models themselves: each has to be known.
    Asked,
    /// A folder of recorded answers, which knows agents by their instances and needs nobody's model.
    Recorded,
}

/// The plan's models and a person's own together, and what is wrong with them: names that nothing answers to, and fallbacks
/// that lead back to where they began.
pub fn link(plan: &Plan, user: &UserConfig, answers: Answers) -> (Models, Vec<Diagnostic>) {
    let mut models = Models { entries: user.models.clone() };
    for (name, model) in &plan.models {
        models.entries.entry(name.clone()).or_insert_with(|| model.clone());
    }
    let mut diagnostics = Vec::new();
    let unknown = |used: &ModelUse, what: &str| {
        let diagnostic = Diagnostic::error(used.at, format!("{what} `{}` is not known", used.name));
        diagnostic.hint(models.advice(&used.name))
    };
    let programs = plan.tasks.iter().flat_map(|task| &task.models);
    let agents = plan.agent_models().filter(|_| answers == Answers::Asked);
    for used in programs.chain(agents).filter(|used| models.get(&used.name).is_none()) {
        diagnostics.push(unknown(used, "the model"));
    }
    // An agent that reviews several tasks names its model once.
    diagnostics.dedup();
    for model in models.entries.values() {
        for used in model.fallbacks.iter().filter(|used| models.get(&used.name).is_none()) {
            diagnostics.push(unknown(used, "the fallback"));
        }
    }
    diagnostics.extend(cycles(&models));
    diagnostics.extend(tool_servers::link(plan.server_uses(), &plan.servers, &user.servers));
    (models, diagnostics)
}

/// One diagnostic for each ring of fallbacks, at its first entry.
fn cycles(models: &Models) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    for (name, model) in &models.entries {
        if seen.contains(name.as_str()) {
            continue;
        }
        if let Some(ring) = ring(models, name, &mut vec![name]) {
            let at = model.fallbacks.first().map_or(model.at, |used| used.at);
            let diagnostic = Diagnostic::error(at, format!("the fallbacks lead back: {}", ring.join(" → ")));
            diagnostics.push(diagnostic.hint("a model that failed is not asked again; end the chain"));
            seen.extend(ring);
        }
    }
    diagnostics
}

/// The way from `name` back to where it began, if there is one.
fn ring<'a>(models: &'a Models, name: &str, way: &mut Vec<&'a str>) -> Option<Vec<&'a str>> {
    for used in &models.entries.get(name)?.fallbacks {
        if used.name == way[0] {
            let mut ring = way.clone();
            ring.push(way[0]);
            return Some(ring);
        }
        let Some((next, _)) = models.entries.get_key_value(&used.name) else { continue };
        if way.contains(&next.as_str()) {
            continue;
        }
        way.push(next);
        let found = ring(models, next, way);
        if found.is_some() {
            return found;
        }
        way.pop();
    }
    None
}

/// The entries of `[models]`.
pub(crate) fn lower(
    entries: Vec<&Entry>,
    origin: Origin,
    diagnostics: &mut Vec<Diagnostic>,
) -> IndexMap<String, Model> {
    let mut models = IndexMap::new();
    for entry in entries {
        if let Some(table) = entry.node.table()
            && let Some(model) = model(entry, table, origin, diagnostics)
        {
            models.insert(entry.key.clone(), model);
        }
    }
    models
}

fn model(entry: &Entry, table: &Table, origin: Origin, diagnostics: &mut Vec<Diagnostic>) -> Option<Model> {
    let text = |key: &str| table.get(key).and_then(Node::text);
    let count = |key: &str| table.get(key).and_then(Node::integer).and_then(|n| u32::try_from(n).ok());
    for key in ["provider", "model"] {
        if table.get(key).is_none() {
            let diagnostic = Diagnostic::error(entry.key_at, format!("the model `{}` has no `{key}`", entry.key));
            let example = format!("[models.{}]\nprovider = \"anthropic\"\nmodel = \"claude-sonnet-4-5\"", entry.key);
            diagnostics.push(diagnostic.hint(format!("write it like\n{example}")));
        }
    }
    let base_url = table.get("base-url").and_then(|node| base_url(node, diagnostics));
    let key = table.get("key").and_then(|node| key(node, diagnostics));
    let prices = table.get("prices").and_then(|node| prices(node, diagnostics));
    let fallbacks = table.get("fallbacks").map(uses).unwrap_or_default();
    Some(Model {
        at: entry.key_at,
        origin,
        provider: Provider::of_name(text("provider")?)?,
        model: text("model")?.to_owned(),
        base_url,
        key,
        prices,
        context: count("context"),
        output_max: count("output-max"),
        idle_timeout: time(table.get("idle-timeout")),
        fallbacks,
    })
}

fn base_url(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let text = node.text()?;
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |place: &str| !place.is_empty() && !place.starts_with('/') && !place.contains(['@', '?', '#', ' ']);
    if place.is_some_and(plain) {
        return Some(text.trim_end_matches('/').to_owned());
    }
    let diagnostic = Diagnostic::error(node.at, format!("`{}` is not a base URL", unsaid(text)));
    diagnostics.push(diagnostic.hint("write it like \"https://host/v1\": no user, no query"));
    None
}

pub(crate) fn key(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<KeySource> {
    let table = node.table()?;
    let env = table.get("env").and_then(Node::text);
    let command = table.get("command").and_then(Node::list);
    match (env, command) {
        (Some(env), None) => Some(KeySource::Env(env.to_owned())),
        (None, Some(command)) => {
            Some(KeySource::Command(command.iter().filter_map(Node::text).map(str::to_owned).collect()))
        }
        _ => {
            let diagnostic = Diagnostic::error(node.at, "`key` has exactly one of `env` and `command`");
            diagnostics.push(diagnostic.hint("a key itself is never written into a file"));
            None
        }
    }
}

fn prices(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<PriceList> {
    let table = node.table()?;
    let price = |key: &str| table.get(key).and_then(Node::number);
    let (Some(input), Some(output)) = (price("input"), price("output")) else {
        let diagnostic = Diagnostic::error(node.at, "`prices` lacks `input` or `output`");
        diagnostics.push(diagnostic.hint("dollars for a million tokens: { input = 3.0, output = 15.0 }"));
        return None;
    };
    let (cache_read, cache_write) = (price("cache-read"), price("cache-write"));
    Some(PriceList { input, output, cache_read, cache_write, cache_write_1h: price("cache-write-1h") })
}

/// A list of names of models.
pub(crate) fn uses(node: &Node) -> Vec<ModelUse> {
    let items = node.list().unwrap_or_default().iter();
    items.filter_map(|item| Some(ModelUse { at: item.at, name: item.text()?.to_owned() })).collect()
}

/// A table of limits.
pub(crate) fn budget(node: Option<&Node>) -> Budget {
    let Some(table) = node.and_then(Node::table) else { return Budget::default() };
    Budget {
        usd: table.get("usd").and_then(Node::number),
        tokens: table.get("tokens").and_then(Node::integer).and_then(|n| u64::try_from(n).ok()),
        time: time(table.get("time")),
    }
}

/// A task's table of limits.
pub(crate) fn task_budget(node: Option<&Node>) -> TaskBudget {
    let attempt = node.and_then(Node::table).and_then(|table| table.get("attempt"));
    TaskBudget { task: budget(node), attempt: budget(attempt) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;

    const TASK: &str = "[tasks.a]\nrun = 'true'\n";

    fn said(plan: &str, config: &str) -> Vec<String> {
        let parsed = parse("p.toml", &format!("version = 1\n{plan}\n{TASK}"), &[], &mut |_| Err(String::new()));
        let (user, more) = user_config(config, 1);
        let mut all = parsed.diagnostics;
        all.extend(more);
        all.extend(parsed.plan.map(|plan| link(&plan, &user, Answers::Asked).1).unwrap_or_default());
        let hint = |diagnostic: &Diagnostic| diagnostic.hint.clone().map(|hint| format!(" ({hint})"));
        all.iter().map(|it| format!("{}{}", it.message, hint(it).unwrap_or_default())).collect()
    }

    #[test]
    fn models_are_read_with_all_they_say() {
        let text = r#"
            [models.main]
            provider = "openai"
            model = "qwen"
            base-url = "http://127.0.0.1:8080/v1/"
            key = { command = ["pass", "show", "qwen"] }
            prices = { input = 3, output = 15.0, cache-read = 0.3 }
            context = 200_000
            output-max = 8192
            idle-timeout = "90s"
            fallbacks = ["anthropic/claude-x"]
        "#;
        let (user, diagnostics) = user_config(text, 0);
        assert_eq!(diagnostics, []);
        let model = &user.models["main"];
        assert_eq!(model.base_url.as_deref(), Some("http://127.0.0.1:8080/v1"));
        assert_eq!(model.key, Some(KeySource::Command(["pass", "show", "qwen"].map(str::to_owned).to_vec())));
        assert_eq!(model.prices.map(|prices| (prices.input, prices.cache_read)), Some((3.0, Some(0.3))));
        assert_eq!((model.context, model.output_max), (Some(200_000), Some(8192)));
        assert_eq!(model.fallbacks[0].name, "anthropic/claude-x");
    }

    #[test]
    fn mistakes_are_named() {
        let entry = |rest: &str| format!("[models.m]\nprovider = 'ollama'\nmodel = 'x'\n{rest}");
        let check = |plan: &str, expected: &str| {
            let said = said(plan, "");
            assert!(said.iter().any(|text| text.starts_with(expected)), "{plan}: {said:?}");
        };
        check("[models.m]\nprovider = 'antropic'\nmodel = 'x'", "`provider` has to be \"anthropic\"");
        check("[models.m]\nprovider = 'ollama'", "the model `m` has no `model`");
        check(&entry("base-url = 'localhost:1'"), "`localhost:1` is not a base URL");
        check(&entry("base-url = 'https://me:pw@host'"), "`https://*****@host` is not a base URL");
        check(&entry("key = 'sk-123'"), "`key` has to be a table");
        check(&entry("key = { env = 'A', command = ['b'] }"), "`key` has exactly one of `env` and `command`");
        check(&entry("prices = { input = 1 }"), "`prices` lacks `input` or `output`");
        check(&entry("prices = { input = -1, output = 1 }"), "`input` has to be at least 0");
        check(&entry("fallbacks = ['other']"), "the fallback `other` is not known (describe it as [models.other]");
        check(
            &entry("fallbacks = ['openapi/x']"),
            "the fallback `openapi/x` is not known (did you mean the provider `openai`?)",
        );
        check("[budget]\nusd = 0", "`usd` has to be above 0");
        check("[budget]\ntokens = 0", "`tokens` has to be between 1");
        check("[budget]\ntime = '0s'", "`0s` is no time at all");
    }

    #[test]
    fn fallbacks_that_lead_back_are_refused_once() {
        let entry = |name: &str, next: &str| {
            format!("[models.{name}]\nprovider = 'ollama'\nmodel = 'x'\nfallbacks = ['{next}']\n")
        };
        let plan = [entry("a", "b"), entry("b", "c"), entry("c", "b")].concat();
        let said = said(&plan, "");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("the fallbacks lead back: b → c → b"), "{said:?}");
    }

    #[test]
    fn a_task_names_models_of_the_plan_of_the_person_and_of_providers() {
        let uses = |name: &str| format!("[tasks.b]\nrun = 'true'\nmodels = ['{name}']");
        let mine = "[models.mine]\nprovider = 'ollama'\nmodel = 'x'";
        assert_eq!(said(&uses("mine"), mine), [""; 0]);
        assert_eq!(said(&uses("gemini/flash"), ""), [""; 0]);
        assert!(said(&uses("mina"), mine)[0].starts_with("the model `mina` is not known (did you mean `mine`?)"));
        assert!(
            said(&uses("gemini/"), "")[0].starts_with("`gemini/` is not a model"),
            "{:?}",
            said(&uses("gemini/"), "")
        );
    }

    #[test]
    fn a_persons_own_entry_wins() {
        let entry = |model: &str| format!("[models.main]\nprovider = 'ollama'\nmodel = '{model}'\n");
        let parsed = parse("p", &format!("version = 1\n{}{TASK}", entry("plan")), &[], &mut |_| Err(String::new()));
        let (user, _) = user_config(&entry("user"), 1);
        let (models, _) = link(&parsed.plan.unwrap(), &user, Answers::Asked);
        assert_eq!(
            models.get("main").map(|model| (model.model, model.origin)),
            Some(("user".to_owned(), Origin::User))
        );
    }

    #[test]
    fn budgets_of_run_task_and_attempt() {
        let text =
            "version = 1\n[budget]\nusd = 5\n[tasks.a]\nrun = 'x'\nbudget = { tokens = 9, attempt = { time = '2m' } }";
        let plan = parse("p", text, &[], &mut |_| Err(String::new())).plan.unwrap();
        assert_eq!(plan.budget.usd, Some(5.0));
        let budget = plan.tasks[0].budget;
        assert_eq!((budget.task.tokens, budget.attempt.time), (Some(9), Some(Duration::from_secs(120))));
    }
}
