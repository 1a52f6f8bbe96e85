//! The agent: a model's turns, its tools and what it may do, inside the cage.
//!
//! What decides is pure: texts in, texts out; the loop ([`drive`]) and the tools that touch files stand on it. The process that
//! runs here has neither network nor keys: models and people are reached through one connection ([`outside`]).

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use swarm_protocol::agent::{AgentJob, AgentMode, AgentNote, AgentRules, AgentStatus, Envelope};

use calls::Gate;
use drive::Driver;
use outside::{Line, Outside as _};
use permission::{Mode, Rule, RuleError, Rules};
use report::words_only;
use setting::Setting;

/// A thread for what speaks over pipes and sockets.
pub mod background;
/// Opens what lies beneath a folder.
mod beneath;
/// One call, from the model's words to its result.
pub mod calls;
/// Long conversations made short.
mod compact;
/// What is too large for a conversation.
mod cut;
/// Which parts of the worktree need which.
mod dependencies;
/// What language servers say of files that were changed.
pub mod diagnostics;
/// Asks the model and runs its calls, until the end.
pub mod drive;
/// Replacing a passage of a text that the model quotes from memory.
pub mod edit;
/// Circles that a model goes round in.
pub mod guard;
/// Programs that are asked before a call and told of what happened.
pub mod hooks;
/// Where the values of a JSON text stand.
mod json_text;
/// All that one agent is given.
pub mod kit;
/// Tools of foreign servers.
pub mod mcp;
/// What was written since an agent began, and is run.
mod meanwhile;
/// Jupyter notebooks.
pub mod notebook;
/// A map of the worktree.
pub mod outline;
/// The way out of the cage.
pub mod outside;
/// Lines with their ends, and where a passage of lines occurs among them.
mod passage;
/// Patches over several files.
pub mod patch;
/// What may be done without asking.
pub mod permission;
/// Text that stands for other text: a model that is too lazy to write it out.
mod placeholder;
/// Small programs that are asked something.
mod programs;
/// What a project says of agents that work on it.
pub mod project;
/// What an agent says of its work, and what it asks people.
pub mod report;
/// What restricts a script that cannot be read to its end.
pub mod restraint;
/// Calls written as prose.
pub mod salvage;
/// Where an agent works.
pub mod setting;
/// What a shell script would run.
pub mod shell;
/// Instructions for kinds of work.
pub mod skills;
/// What an agent can do.
pub mod tools;
/// The conversation, as a pure value.
pub mod turns;
/// Pages of the web, as text.
pub mod web;

/// Runs an agent in its cage; gives the exit status of its process, which is 0 only when the model
/// ended its work of its own accord.
pub fn run(job: &AgentJob, env: &[(String, String)], channel: BorrowedFd<'_>) -> i32 {
    let line = match Line::new(channel) {
        Ok(line) => line,
        Err(error) => {
            eprintln!("agent: take the connection: {error}");
            return 1;
        }
    };
    let envelope = work(job, env, &line).unwrap_or_else(|why| Envelope {
        status: AgentStatus::Unready,
        detail: why,
        ..words_only(String::new(), 0)
    });
    let code = i32::from(!envelope.status.is_for_checks());
    match line.end(envelope) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("agent: say the last word: {error}");
            1
        }
    }
}

/// Makes everything ready and runs the conversation; the error is for people, and nothing was asked.
fn work(job: &AgentJob, env: &[(String, String)], line: &Line) -> Result<Envelope, String> {
    std::fs::create_dir_all(&job.scratch).map_err(|error| format!("make {}: {error}", job.scratch.display()))?;
    let setting = Setting { root: job.worktree.clone(), scratch: job.scratch.clone(), env: env.to_vec() };
    let rules = rules(&job.rules).map_err(|error| error.to_string())?;
    let remote = line.clone();
    let remote: mcp::Remote = Arc::new(move |server, tool, input| remote.remote(server, tool, input));
    let lacks = line.clone();
    let lacks: mcp::Lacks = Arc::new(move |text| lacks.note(AgentNote::Lacks { text }));
    let outside = kit::Outside { remote, lacks: lacks.clone(), tools: vec![report::question(line)] };
    let mut kit = kit::open(&setting, &job.toolset, rules, outside)?;
    if job.mode == AgentMode::ReadOnly {
        kit.toolbox.only_look();
    }
    // The model hears of them with its task; people read them here.
    kit.problems.iter().for_each(|problem| lacks(problem.clone()));
    let gate = Gate { toolbox: &kit.toolbox, hooks: &kit.hooks, rules: &kit.rules, mode: mode(job.mode) };
    Ok(Driver { job, outside: line, gate, reported: &kit.report, context: &kit.context }.drive())
}

fn rules(texts: &AgentRules) -> Result<Rules, RuleError> {
    let all = |texts: &[String]| texts.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>, _>>();
    Ok(Rules { allow: all(&texts.allow)?, ask: all(&texts.ask)?, deny: all(&texts.deny)? })
}

fn mode(mode: AgentMode) -> Mode {
    match mode {
        AgentMode::ReadOnly => Mode::ReadOnly,
        AgentMode::WorkspaceWrite => Mode::WorkspaceWrite,
        AgentMode::Full => Mode::Full,
    }
}
