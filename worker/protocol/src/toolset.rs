//! What an agent is given beside its own tools: hooks, foreign servers, and which tools it sees at all. Data only.

use serde::{Deserialize, Serialize};

/// What tools of the coordinator itself are called at. No server of a plan can have this name.
pub const COORDINATOR: &str = "[coordinator]";

/// Where a project's own file for agents lies, relative to its root.
pub const PROJECT_FILE: &str = ".swarm/agent.toml";

/// What an agent is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Toolset {
    /// Names of tools that it sees, `*` at the end for any rest; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Programs that are asked or told along the way, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookSpec>,
    /// Servers of the Model Context Protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ToolServer>,
    /// Tools that the coordinator itself runs, as the server [`COORDINATOR`]; they are seen under their own names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of_coordinator: Vec<OfferedTool>,
    /// Whether language servers are started.
    #[serde(default)]
    pub diagnostics: LanguageServers,
    /// The project's own file, [`PROJECT_FILE`]; `None` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectFile>,
    /// The project's skills, of the same tree as its file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<SkillFile>,
    /// What the coordinator could not have for it, and why; for people and for the model's first message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// Where skills lie in a project, first to last; a name in an earlier folder hides it in a later one.
pub const SKILL_FOLDERS: [&str; 2] = [".swarm/skills", "skills"];

/// A `SKILL.md` of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SkillFile {
    /// Relative to the tree.
    pub path: String,
    /// Its text; `None` where it is too long, or no text.
    pub text: Option<String>,
}

/// The project's own file, of a tree that was there before the work: what the agent's worktree holds by that name may be
/// somebody's change, and no change says what is allowed to whoever works on it, looks at it or merges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProjectFile {
    /// Its text.
    pub text: String,
    /// What becomes of its hooks.
    pub hooks: ProjectHooks,
    /// The files of that tree which it names, and what they hold: the programs of its hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProjectProgram>,
}

/// A file that a project's own file names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProjectProgram {
    /// Relative to the tree.
    pub path: String,
    /// BLAKE3 of what it holds, in hex.
    pub digest: String,
}

/// What an interpreter may look for behind the name that it is given for a file.
pub const FILE_ENDS: &[&str] = &["", ".js", ".cjs", ".mjs", ".ts", "/index.js", "/__main__.py"];
/// The files that a module of Python may be, behind its name with slashes for dots.
pub const MODULE_ENDS: &[&str] = &[".py", "/__main__.py", "/__init__.py"];

/// What of a text may be paths below a folder, without a leading `./`: a script names its programs so, and a file of settings
/// its scripts.
pub fn paths_named(text: &str) -> impl Iterator<Item = &str> {
    let is_edge = |c: char| c.is_whitespace() || c.is_control() || "\"'`$(){}[]<>;&|=,#".contains(c);
    let bare = |word: &'_ str| word.trim_start_matches("./").len();
    text.split(is_edge).map(move |word| &word[word.len() - bare(word)..]).filter(|word| !word.is_empty())
}

/// What becomes of the hooks that a project's own file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProjectHooks {
    /// They run.
    Run,
    /// They do not: the worktree is a result that is looked at, and their programs, which may lie in it, would be what the
    /// change made of them. The rules hold all the same.
    LeftOut,
}

/// Whether language servers are started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LanguageServers {
    /// Where one is installed, when a file of its language is changed first.
    #[default]
    WhenInstalled,
    /// They are not; some take more memory than a job may have.
    Never,
}

/// A program that is asked or told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HookSpec {
    /// When.
    pub event: HookEvent,
    /// For which tools, `*` at the end for any rest, `|` between several; `None` is all. Events without a tool ignore it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matcher: Option<String>,
    /// A script for `sh -c`, started in the worktree.
    pub run: String,
    /// Milliseconds that it may take.
    pub timeout_ms: u64,
}

/// When a hook is asked or told. Written as in the field's other tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookEvent {
    /// Before a call; can refuse it and change its input.
    PreToolUse,
    /// After a call that worked.
    PostToolUse,
    /// After a call that did not.
    PostToolUseFailure,
    /// Before the first turn.
    SessionStart,
    /// After the last.
    SessionEnd,
    /// When the model says that it is done; can send it on.
    Stop,
    /// Before a long conversation is summed up.
    PreCompact,
}

impl HookEvent {
    /// All of them.
    pub const ALL: [HookEvent; 7] = [
        HookEvent::PreToolUse,
        HookEvent::PostToolUse,
        HookEvent::PostToolUseFailure,
        HookEvent::SessionStart,
        HookEvent::SessionEnd,
        HookEvent::Stop,
        HookEvent::PreCompact,
    ];

    /// The event of that name.
    pub fn of_name(name: &str) -> Option<HookEvent> {
        HookEvent::ALL.into_iter().find(|event| event.name() == name)
    }

    /// As hooks are told.
    pub fn name(self) -> &'static str {
        match self {
            HookEvent::PreToolUse => "PreToolUse",
            HookEvent::PostToolUse => "PostToolUse",
            HookEvent::PostToolUseFailure => "PostToolUseFailure",
            HookEvent::SessionStart => "SessionStart",
            HookEvent::SessionEnd => "SessionEnd",
            HookEvent::Stop => "Stop",
            HookEvent::PreCompact => "PreCompact",
        }
    }
}

/// A server of the Model Context Protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ToolServer {
    /// As plans name it.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
    /// Its tools that the agent sees, by the server's own names, `*` at the end for any rest; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// Milliseconds that its start and each of its calls may take.
    pub timeout_ms: u64,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Reach {
    /// It is a program inside the cage.
    Program {
        /// Program and arguments; never empty.
        argv: Vec<String>,
        /// Variables beside the agent's own.
        env: Vec<(String, String)>,
    },
    /// The coordinator speaks with it; address and secrets are its own, and it has listed these tools.
    Coordinator {
        /// What the server offers.
        offered: Vec<OfferedTool>,
    },
}

/// A tool as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OfferedTool {
    /// The server's own name of it.
    pub name: String,
    /// When to use it.
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: serde_json::Value,
    /// Whether the server says that it changes nothing.
    pub reads_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_programs() {
        let named: Vec<_> = paths_named("run = './ci/check \"$x\" && sh ci/b.sh>log'").collect();
        assert_eq!(named, ["run", "ci/check", "x", "sh", "ci/b.sh", "log"]);
    }

    #[test]
    fn a_toolset_survives_the_wire() {
        let hook =
            HookSpec { event: HookEvent::PreToolUse, matcher: Some("bash".into()), run: "x".into(), timeout_ms: 1 };
        let server = ToolServer {
            name: "docs".into(),
            reach: Reach::Program { argv: vec!["x".into()], env: vec![] },
            tools: None,
            timeout_ms: 1,
        };
        let set = Toolset {
            tools: Some(vec!["read".into()]),
            hooks: vec![hook],
            servers: vec![server],
            ..Toolset::default()
        };
        let text = serde_json::to_string(&set).unwrap();
        assert!(text.contains("\"event\":\"PreToolUse\""), "{text}");
        assert_eq!(serde_json::from_str::<Toolset>(&text).unwrap(), set);
    }
}
