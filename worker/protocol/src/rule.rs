//! A rule of an agent as it is written: `tool` or `tool(pattern)`, where the tool's name may end with `*` and its letters may be
//! large. One grammar for the plan language, which says what is wrong before anything runs, and for the agent, which holds to the
//! rules. What a rule speaks of is the agent's matter; whether a path is a glob is for whoever knows globs.

use crate::glob_bounds::{self, TooLarge};

/// The tools of an agent; those of servers begin with [`OF_SERVERS`].
pub const TOOLS: &[&str] = &[
    "read",
    "write",
    "edit",
    "multi_edit",
    "apply_patch",
    "notebook_edit",
    "glob",
    "grep",
    "repo_map",
    "dependencies",
    "diagnostics",
    "bash",
    "bash_output",
    "bash_kill",
    "web_fetch",
    "todo",
    "note",
    "skill",
    "ask_person",
    "finish",
    "submit_plan",
    "submit_review",
];
/// Those of them that are called with a path.
const OF_PATHS: &[&str] =
    &["read", "write", "edit", "multi_edit", "apply_patch", "notebook_edit", "repo_map", "dependencies", "diagnostics"];
/// How names of tools of servers begin.
const OF_SERVERS: &str = "mcp__";

/// A rule that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The tool, in small letters; what ends with `*` is the beginning of a name.
    pub tool: String,
    /// What it is called with; `None` is anything.
    pub pattern: Option<Pattern>,
}

/// What a tool is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `bash`: the beginning of a command, word by word, the program without its folder. Never empty.
    Words(Vec<String>),
    /// A tool that is called with a path: what may be a glob, relative to the worktree, without `.` and what is empty.
    Path(String),
    /// `web_fetch`: a host in small letters; `*.` stands for any name in front.
    Host(String),
}

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// It opens a pattern and does not close it.
    #[error("it has no closing parenthesis")]
    Open,
    /// No agent has such a tool.
    #[error("there is no tool `{0}`")]
    NoTool(String),
    /// The name of a program with quotes, or with nothing behind its folder.
    #[error("a program is named without quotes and without its folder: `bash(git push *)`")]
    NoProgram,
    /// More than a host.
    #[error("a page is named by its host alone: `web_fetch(*.example.org)`")]
    NoHost,
    /// A pattern for a tool that takes none.
    #[error("`{0}` is called with nothing that a rule could name")]
    NoPattern(String),
    /// A path that leads out; what of it may be meant.
    #[error("its path is not below the worktree; paths are relative to that: `{0}`")]
    Outside(String),
    /// A pattern that nobody compiles.
    #[error("its pattern is no glob: {0}")]
    TooLarge(#[from] TooLarge),
}

/// Reads a rule.
///
/// # Errors
/// [`RuleFault`].
pub fn read(text: &str) -> Result<Written, RuleFault> {
    let (tool, pattern) = match text.split_once('(') {
        None => (text, None),
        Some((tool, rest)) => (tool, Some(rest.strip_suffix(')').ok_or(RuleFault::Open)?.trim())),
    };
    let tool = tool.to_ascii_lowercase();
    if !is_tool(&tool) {
        return Err(RuleFault::NoTool(tool));
    }
    glob_bounds::check(pattern.unwrap_or_default())?;
    let pattern = match (tool.as_str(), pattern) {
        (_, None | Some("")) => None,
        ("bash", Some(pattern)) => Some(Pattern::Words(words(pattern)?)),
        ("web_fetch", Some(host)) if host.contains(['/', ':']) => return Err(RuleFault::NoHost),
        ("web_fetch", Some(host)) => Some(Pattern::Host(host.to_lowercase())),
        (name, Some(_)) if !name.ends_with('*') && !OF_PATHS.contains(&name) => return Err(RuleFault::NoPattern(tool)),
        (_, Some(path)) => Some(Pattern::Path(below(path)?)),
    };
    Ok(Written { tool, pattern })
}

/// Whether a name, in small letters, is one of a tool that there may be, or the beginning of one with a `*` behind it.
pub fn is_tool(name: &str) -> bool {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match name.strip_suffix('*') {
        Some(front) if front.starts_with(OF_SERVERS) => front.chars().all(named),
        Some(front) => [OF_SERVERS].iter().chain(TOOLS).any(|tool| tool.starts_with(front)),
        None => TOOLS.contains(&name) || (name.starts_with(OF_SERVERS) && name.chars().all(named)),
    }
}

/// The beginning of a command; a `:*` at its end is any words.
fn words(pattern: &str) -> Result<Vec<String>, RuleFault> {
    let pattern = pattern.strip_suffix(":*").map_or(pattern.to_owned(), |front| format!("{front} *"));
    let mut words: Vec<String> = pattern.split_whitespace().map(str::to_owned).collect();
    // A program is the same wherever it lies.
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or(program).to_owned();
        if program.is_empty() || program.contains(['"', '\'']) {
            return Err(RuleFault::NoProgram);
        }
    }
    Ok(words)
}

/// A pattern for paths as paths are compared.
fn below(pattern: &str) -> Result<String, RuleFault> {
    let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if pattern.starts_with(['/', '~']) || parts.contains(&"..") {
        let meant = pattern.rsplit("../").next().unwrap_or(pattern).trim_start_matches(['/', '~']);
        return Err(RuleFault::Outside(meant.to_owned()));
    }
    Ok(if parts.is_empty() { "**".to_owned() } else { parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_is_compared() {
        let check = |text: &str, tool: &str, pattern: Option<Pattern>| {
            assert_eq!(read(text), Ok(Written { tool: tool.to_owned(), pattern }), "{text}");
        };
        let words = |words: &[&str]| Some(Pattern::Words(words.iter().map(|word| (*word).to_owned()).collect()));
        check("Bash", "bash", None);
        check("bash(/usr/bin/git push:*)", "bash", words(&["git", "push", "*"]));
        check("bash( git  push )", "bash", words(&["git", "push"]));
        check("edit(./src//x/)", "edit", Some(Pattern::Path("src/x".to_owned())));
        check("write(.)", "write", Some(Pattern::Path("**".to_owned())));
        check("web_fetch(*.Example.org)", "web_fetch", Some(Pattern::Host("*.example.org".to_owned())));
        check("mcp__docs__*", "mcp__docs__*", None);
    }

    #[test]
    fn what_is_none_says_why() {
        let check = |text: &str, fault: RuleFault| assert_eq!(read(text), Err(fault), "{text}");
        check("bash(git", RuleFault::Open);
        check("bsh(git)", RuleFault::NoTool("bsh".to_owned()));
        check("bash(\"git\" push)", RuleFault::NoProgram);
        check("bash(/usr/bin/ push)", RuleFault::NoProgram);
        check("todo(x)", RuleFault::NoPattern("todo".to_owned()));
        for deep in [format!("edit({}a{})", "{".repeat(60), "}".repeat(60)), format!("bash({})", "{".repeat(60))] {
            check(&deep, RuleFault::TooLarge(TooLarge::Nested));
        }
        check("read(../../x/y)", RuleFault::Outside("x/y".to_owned()));
    }
}
