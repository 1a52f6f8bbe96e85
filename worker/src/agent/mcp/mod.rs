//! Tools of foreign servers (Model Context Protocol): programs inside the cage, or servers that the coordinator speaks with.
//! A server that cannot be used is told of and left out; the rest goes on.

/// What foreign tools are called.
pub mod names;
/// The first question to a server.
mod probe;
/// Servers that are programs.
mod program;
/// What of a tool's schema a provider takes.
mod schema;
/// What a server writes, held to messages.
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use swarm_protocol::chat::ToolSpec;
use swarm_protocol::toolset::{OfferedTool, Reach, ToolServer};

use super::background::Background;
use super::permission::Act;
use super::setting::Setting;
use super::tools::tool::Input;
use super::tools::toolbox::fits;
use super::tools::{Effect, Tool, ToolResult, bounded};
use program::{CallError, Program};

/// Tools of one server that a model is offered.
const TOOLS_MAX: usize = 200;
/// The longest text about a server that went, in bytes.
const LACKS_BYTES_MAX: usize = 600;
/// Texts about the tools of one server: more would leave no room for those about others.
const PROBLEMS_MAX: usize = 10;
/// The longest text about a schema, in bytes.
const WHY_BYTES_MAX: usize = 300;
/// The longest description that the model is told, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;

/// The longest schema that is told in words, in bytes.
const SCHEMA_BYTES_MAX: usize = 2 << 10;

/// Calls a tool of a server that the coordinator speaks with: server, tool, input.
pub type Remote = Arc<dyn Fn(&str, &str, &Input) -> ToolResult + Send + Sync>;

/// Hears of a server that died or does not answer any more.
pub type Lacks = Arc<dyn Fn(String) + Send + Sync>;

type Call = Arc<dyn Fn(&str, &Input) -> ToolResult + Send + Sync>;

/// What servers give.
#[derive(Debug, Default)]
pub struct Given {
    /// Their tools, in the order of the servers and of their own lists.
    pub tools: Vec<Tool>,
    /// What could not be used, and why; for people and the model.
    pub problems: Vec<String>,
}

/// Starts servers, beside each other, and takes their tools in.
pub fn connect(
    setting: &Setting,
    servers: &[ToolServer],
    background: &Arc<Background>,
    (remote, lacks): (&Remote, &Lacks),
) -> Given {
    let begin = |server: &ToolServer| -> Result<(Call, Vec<OfferedTool>, Vec<String>), String> {
        match &server.reach {
            Reach::Program { argv, env } => {
                let (running, listed, stray) = Program { setting, server, argv, env, background, lacks }.start()?;
                let stray =
                    stray.map(|line| format!("writes between its messages what is none, and passed over: {line}"));
                let left_out = listed.left_out.map(|what| format!("does not list its tools to an end: {what}"));
                let (lacks, is_told) = (lacks.clone(), AtomicBool::new(false));
                let call = move |tool: &str, input: &Input| {
                    running.call(tool, input).map_err(|failed| match failed {
                        CallError::Tool(refused) => refused,
                        CallError::Server(refused) => {
                            if !is_told.swap(true, Ordering::Relaxed) {
                                lacks(bounded(&refused.0, LACKS_BYTES_MAX));
                            }
                            refused
                        }
                    })
                };
                Ok((Arc::new(call), listed.tools, stray.into_iter().chain(left_out).collect()))
            }
            Reach::Coordinator { offered } => {
                let (remote, name) = (remote.clone(), server.name.clone());
                Ok((Arc::new(move |tool, input| remote(&name, tool, input)), offered.clone(), vec![]))
            }
        }
    };
    let begun = std::thread::scope(|scope| {
        let begin = &begin;
        let thread = |server| std::thread::Builder::new().spawn_scoped(scope, move || begin(server));
        let threads: Vec<_> = servers.iter().map(thread).collect();
        let joined = threads.into_iter().map(|thread| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err("it broke".to_owned())),
            Err(error) => Err(format!("make a thread: {error}")),
        });
        joined.collect::<Vec<_>>()
    });
    let mut given = Given::default();
    let mut taken: Vec<(&ToolServer, Call, OfferedTool)> = vec![];
    for (server, begun) in servers.iter().zip(begun) {
        match begun {
            Ok((call, offered, wrong)) => {
                let (good, problems) = choose(server, offered);
                given.problems.extend(wrong.into_iter().map(|wrong| format!("server `{}` {wrong}", server.name)));
                given.problems.extend(problems);
                taken.extend(good.into_iter().map(|tool| (server, call.clone(), tool)));
            }
            Err(why) => given.problems.push(format!("server `{}` cannot be used: {why}", server.name)),
        }
    }
    let full: Vec<(&str, &str)> =
        taken.iter().map(|(server, _, tool)| (server.name.as_str(), tool.name.as_str())).collect();
    let named = names::names(&full);
    given.tools = taken.iter().zip(named).map(|((_, call, offered), name)| tool(name, offered, call.clone())).collect();
    given
}

/// The tools of a server that its entry names, and what is wrong with the others.
fn choose(server: &ToolServer, offered: Vec<OfferedTool>) -> (Vec<OfferedTool>, Vec<String>) {
    let (mut good, mut problems, mut left_out): (Vec<OfferedTool>, Vec<String>, usize) = (vec![], vec![], 0);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let is_wanted =
        |tool: &OfferedTool| server.tools.as_ref().is_none_or(|names| names.iter().any(|name| fits(name, &tool.name)));
    let wrong = |tool: &str, what: &str| format!("tool `{}` of server `{}`: {what}", bounded(tool, 100), server.name);
    for mut tool in offered.into_iter().filter(is_wanted) {
        let offered = times.entry(tool.name.clone()).or_default();
        *offered += 1;
        if *offered > 1 {
            continue;
        }
        if good.len() == TOOLS_MAX {
            left_out += 1;
            continue;
        }
        let told = schema::told(&tool.schema);
        if let Some(why) = told.lacks {
            problems.push(wrong(&tool.name, &format!("its schema is told in words: {}", bounded(&why, WHY_BYTES_MAX))));
            tool.description = in_words(&tool.description, &tool.schema);
        }
        tool.schema = told.schema;
        good.push(tool);
    }
    problems.extend(times.iter().filter(|(_, times)| **times > 1).map(|(name, times)| match times {
        2 => wrong(name, "it is offered twice"),
        times => wrong(name, &format!("it is offered {times} times")),
    }));
    if problems.len() > PROBLEMS_MAX {
        let more = problems.split_off(PROBLEMS_MAX).len();
        problems.push(format!("server `{}`: as much is to be said of {more} more of its tools", server.name));
    }
    if left_out > 0 {
        problems.push(format!(
            "server `{}` offers too many tools: the first {TOOLS_MAX} are there, {left_out} are left out; name those that are needed in its `tools`",
            server.name
        ));
    }
    for name in server.tools.iter().flatten().filter(|name| !good.iter().any(|tool| fits(name, &tool.name))) {
        problems.push(format!("server `{}` offers no tool `{name}`", server.name));
    }
    (good, problems)
}

/// A description with a schema that no provider takes.
fn in_words(description: &str, schema: &serde_json::Value) -> String {
    let schema = bounded(&schema.to_string(), SCHEMA_BYTES_MAX);
    let description = bounded(description, DESCRIPTION_BYTES_MAX - SCHEMA_BYTES_MAX - 100);
    format!("{description}\nIts arguments, as its server says them: {schema}").trim_start().to_owned()
}

fn tool(name: String, offered: &OfferedTool, call: Call) -> Tool {
    let description = bounded(&offered.description, DESCRIPTION_BYTES_MAX);
    let spec = ToolSpec { name, description, schema: offered.schema.clone() };
    // What a server says of itself decides only what may run beside it, never whether it may run.
    let effect = if offered.reads_only { Effect::Reads } else { Effect::Changes };
    let own = offered.name.clone();
    let acts = |_: &Input, each: &mut dyn FnMut(Act<'_>)| {
        each(Act::Foreign);
        Ok(())
    };
    Tool::new(spec, effect, acts, move |input: Input| call(&own, &input))
}

#[cfg(test)]
mod tests;
