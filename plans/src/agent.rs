//! Coding agents as work: what the plan says of them.

use indexmap::IndexMap;
use swarm_protocol::rule::{self, Pattern, RuleFault, TOOLS, Written, is_tool};

use crate::diagnostic::{Location, nearest};
use crate::document::{Node, Table};
use crate::glob;
use crate::lower::{Lower, count, texts};
use crate::models::ModelUse;
use crate::shape::path_inside;
use crate::template::{Dialect, Template};
use crate::tool_servers::{self, Hook, ServerUse, ToolServer};

/// Answers of the model, unless the plan says otherwise.
const TURNS_DEFAULT: u32 = 100;
/// Tokens of one answer, unless the plan or the model's entry says otherwise.
pub const OUTPUT_TOKENS_DEFAULT: u32 = 16_384;
/// Size of a model's context in tokens, unless the plan or the model's entry says otherwise.
pub const CONTEXT_TOKENS_DEFAULT: u64 = 200_000;
/// The model, unless the plan says otherwise.
const MODEL_DEFAULT: &str = "main";

/// A coding agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What it is told; behind the text of `prompt_file` where there is one.
    pub prompt: Option<Template>,
    /// A file with what it is told, relative to the tree.
    pub prompt_file: Option<String>,
    /// Its model, with the place that names it.
    pub model_use: ModelUse,
    /// The servers that it names.
    pub server_uses: Vec<ServerUse>,
    /// The rest.
    pub settings: AgentSettings,
}

/// How an agent works, the same for all instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// A name of [models], or `provider/model`.
    pub model: String,
    /// The folder that its work is about, relative to the tree; empty is all of it.
    pub directory: String,
    /// Answers of the model.
    pub turns: u32,
    /// Tokens in and out, over all turns of an attempt.
    pub tokens: Option<u64>,
    /// Tokens of one answer; `None` is what the model's entry says, or [`OUTPUT_TOKENS_DEFAULT`].
    pub output_tokens: Option<u32>,
    /// Size of the model's context, in tokens; `None` is what the model's entry says, or [`CONTEXT_TOKENS_DEFAULT`].
    pub context_tokens: Option<u64>,
    /// What it may do where no rule speaks.
    pub mode: AgentMode,
    /// What needs no asking.
    pub allow: Vec<String>,
    /// What a person has to allow each time.
    pub ask: Vec<String>,
    /// What never happens.
    pub deny: Vec<String>,
    /// The tools that it sees; `None` is all.
    pub tools: Option<Vec<String>>,
    /// Programs that its calls pass, in order.
    pub hooks: Vec<Hook>,
    /// Servers of tools by name, with what the plan says of each; a person's own entry of the name wins.
    pub servers: Vec<(String, Option<ToolServer>)>,
    /// Whether language servers are started.
    pub language_servers: LanguageServers,
    /// What it hands over beside its change; without it the attempt has failed.
    pub submits: Option<Submits>,
}

/// What an agent hands over through a tool of the coordinator, which looks at it before it takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submits {
    /// A plan, as its output `plan`.
    Plan,
}

/// Whether language servers are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanguageServers {
    /// Where one is installed, when a file of its language is changed.
    WhenInstalled,
    /// They are not.
    Never,
}

/// What an agent may do where no rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentMode {
    /// Look, and nothing else.
    ReadOnly,
    /// Change the worktree and run what is not dangerous.
    WorkspaceWrite,
    /// Everything; the cage alone holds it.
    Full,
}

impl Agent {
    /// Takes in what the plan says of the servers that it names.
    pub(crate) fn know(&mut self, servers: &IndexMap<String, ToolServer>) {
        for (name, known) in &mut self.settings.servers {
            *known = servers.get(name).cloned();
        }
    }
}

impl Lower<'_> {
    /// An agent; `None` when it is told nothing, which is reported.
    pub fn agent(&mut self, node: &Node) -> Option<Agent> {
        let table = node.table()?;
        for key in ["allow", "ask", "deny"] {
            self.rules(table, key);
        }
        self.tools(table);
        if table.get("prompt").is_none() && table.get("prompt-file").is_none() {
            self.error(node.at, "`agent` is told nothing", "give it `prompt`, `prompt-file`, or both");
            return None;
        }
        Some(self.agent_of(node, table))
    }

    /// The agent of a resolver, which is told something in any case.
    pub fn resolving_agent(&mut self, node: &Node) -> Option<Agent> {
        Some(self.agent_of(node, node.table()?))
    }

    fn agent_of(&mut self, node: &Node, table: &Table) -> Agent {
        let inside = |key: &str| table.get(key).and_then(Node::text).and_then(|text| path_inside(text).ok());
        let prompt = table.get("prompt").map(|node| self.template(node, Dialect::Text));
        let prompt_file = inside("prompt-file");
        let list = |key: &str| table.get(key).and_then(texts).unwrap_or_default();
        let whole = |key: &str| table.get(key).and_then(Node::integer).and_then(|n| u64::try_from(n).ok());
        let model = table.get("model").and_then(Node::text).unwrap_or(MODEL_DEFAULT).to_owned();
        let model_at = table.get("model").map_or(node.at, |node| node.at);
        let settings = AgentSettings {
            model: model.clone(),
            directory: inside("directory").unwrap_or_default(),
            turns: count(table.get("turns")).unwrap_or(TURNS_DEFAULT),
            tokens: whole("tokens"),
            output_tokens: count(table.get("output-tokens")),
            context_tokens: whole("context-tokens"),
            mode: match table.get("mode").and_then(Node::text) {
                Some("read-only") => AgentMode::ReadOnly,
                Some("full") => AgentMode::Full,
                _ => AgentMode::WorkspaceWrite,
            },
            allow: list("allow"),
            ask: list("ask"),
            deny: list("deny"),
            tools: table.get("tools").and_then(texts),
            hooks: table.get("hooks").map(tool_servers::hooks).unwrap_or_default(),
            // What the plan says of them is known when all of it is read.
            servers: list("servers").into_iter().map(|name| (name, None)).collect(),
            language_servers: match table.get("language-servers").and_then(Node::text) {
                Some("never") => LanguageServers::Never,
                _ => LanguageServers::WhenInstalled,
            },
            submits: match table.get("submits").and_then(Node::text) {
                Some("plan") => Some(Submits::Plan),
                _ => None,
            },
        };
        let server_uses = table.get("servers").map(tool_servers::uses).unwrap_or_default();
        let model_use = ModelUse { at: model_at, name: model };
        Agent { prompt, prompt_file, model_use, server_uses, settings }
    }

    /// Names of tools that no agent has, in its list and in what its hooks are for; they are compared letter by letter.
    fn tools(&mut self, table: &Table) {
        for item in table.get("tools").and_then(Node::list).unwrap_or_default() {
            if let Some(name) = item.text() {
                self.tool(item.at, name);
            }
        }
        let hooks = table.get("hooks").and_then(Node::list).unwrap_or_default();
        for tools in hooks.iter().filter_map(|hook| hook.table()?.get("tools")) {
            for name in tools.text().into_iter().flat_map(|names| names.split('|')) {
                self.tool(tools.at, name.trim());
            }
        }
    }

    fn tool(&mut self, at: Location, name: &str) {
        if is_tool(name) {
            return;
        }
        let lower = name.to_ascii_lowercase();
        let near = nearest(&lower, TOOLS.iter().copied());
        let near = TOOLS.iter().copied().find(|tool| **tool == lower).or(near);
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the tools are {}, and `mcp__SERVER__TOOL`", TOOLS.join(", ")),
        };
        self.error(at, format!("there is no tool `{name}`"), hint);
    }

    /// Rules that no agent could read.
    fn rules(&mut self, table: &Table, key: &str) {
        for item in table.get(key).and_then(Node::list).unwrap_or_default() {
            if let Some(Err(what)) = item.text().map(self::rule) {
                let hint = "write a tool, or a tool with what it is called with: bash(git push *), edit(src/**)";
                self.error(item.at, format!("this is no rule: {what}"), hint);
            }
        }
    }
}

/// Whether a text is a rule: what of it is wrong is told with what may have been meant.
///
/// # Errors
/// What is wrong with it, for people.
pub fn rule(text: &str) -> Result<(), String> {
    match rule::read(text) {
        Ok(Written { pattern: Some(Pattern::Path(path)), .. }) => {
            glob::compile(&path).map(drop).map_err(|error| error.to_string())
        }
        Ok(_) => Ok(()),
        Err(RuleFault::NoTool(tool)) => {
            let near = nearest(&tool, TOOLS.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            Err(format!("{}{}", RuleFault::NoTool(tool), near.unwrap_or_default()))
        }
        Err(fault) => Err(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_a_tool_and_what_it_is_called_with() {
        for line in include_str!("../rules.txt").lines().filter(|line| !line.starts_with('#')) {
            let (expected, text) = line.split_once(' ').unwrap_or((line, ""));
            assert_eq!(rule(text).is_ok(), expected == "good", "{line}");
        }
    }

    #[test]
    fn a_rule_that_speaks_of_nothing_says_what_was_meant() {
        let check = |text: &str, expected: &str| {
            let what = rule(text).unwrap_err();
            assert!(what.contains(expected), "{what}");
        };
        check("bsh(git push)", "did you mean `bash`?");
        check("write(/secrets/**)", "`secrets/**`");
        check("read(../x)", "relative");
        check("web_fetch(https://x.org/*)", "host");
    }

    #[test]
    fn an_agent_that_may_only_look_changes_nothing_unless_its_task_says_what() {
        let writes = |mode: &str, writes: &str| {
            let task = format!("[tasks.t]\nagent = {{ prompt = 'x', model = 'ollama/m', mode = '{mode}' }}\n{writes}");
            let parsed =
                crate::file::parse("p.toml", &format!("version = 1\n{task}"), &[], &mut |_| Err("no".to_owned()));
            let plan = parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
            plan.tasks[0].writes.as_ref().map(Vec::len)
        };
        assert_eq!(writes("read-only", ""), Some(0));
        assert_eq!(writes("read-only", "writes = ['notes/**']"), Some(1));
        assert_eq!(writes("full", ""), None);
    }

    #[test]
    fn tools_that_no_agent_has_are_told_at_the_check() {
        let told = |tools: &str| {
            let agent = format!("agent = {{ prompt = 'x', tools = [{tools}] }}");
            let plan = format!(
                "version = 1
[models.main]
provider = 'anthropic'
model = 'm'
[tasks.t]
{agent}"
            );
            let parsed = crate::file::parse("p.toml", &plan, &[], &mut |_| Err("no".to_owned()));
            format!("{:?}", parsed.diagnostics)
        };
        assert!(told("'Bash', 'read'").contains("did you mean `bash`?"), "{}", told("'Bash'"));
        assert!(!told("'bash', 'mcp__docs__*', 'web_*', 'read'").contains("no tool"));
        let hook = |tools: &str| told(&format!("'read'], hooks = [{{ event = 'Stop', run = 'x', tools = '{tools}' }}"));
        assert!(hook("bash|Edit").contains("did you mean `edit`?"), "{}", hook("bash|Edit"));
        assert!(!hook("bash | mcp__docs__*|*").contains("no tool"), "{}", hook("*"));
    }
}
