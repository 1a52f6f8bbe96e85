//! What a project itself says of agents that work on it: `.swarm/agent.toml`. It may only tighten: rules that ask or deny,
//! and hooks, which refuse, ask and say something, and whose change of a call's input does not count. What it would allow is
//! left out and told; a file that cannot be read stops the agent before it begins, since nobody knows what it wanted to forbid.
//!
//! The coordinator sends the file as it stood before the work. It is never read from the worktree, which may hold what
//! somebody else made of it: a change that is reviewed, or two that contradict each other. The files of the worktree that it
//! names are run as its hooks only while they hold what they held there ([`super::hooks`]).
//!
//! ```toml
//! deny = ["bash(git push *)", "edit(vendor/**)"]
//! ask = ["edit(Cargo.toml)"]
//!
//! [[hooks]]
//! event = "PreToolUse"
//! tools = "edit|write"
//! run = "ci/check-edit"
//! timeout-s = 10
//! ```

use serde::Deserialize;
use swarm_protocol::toolset::{HookEvent, HookSpec, PROJECT_FILE, ProjectFile, ProjectHooks};

use super::permission::{Rule, RuleError, Rules};

/// Seconds that a hook may take where it does not say.
const HOOK_SECONDS: u64 = 60;
/// The most seconds that a hook may take.
const HOOK_SECONDS_MAX: u64 = 3600;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    allow: Vec<String>,
    ask: Vec<String>,
    deny: Vec<String>,
    hooks: Vec<Hook>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Hook {
    event: HookEvent,
    tools: Option<String>,
    run: String,
    timeout_s: Option<u64>,
}

/// What a project says.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Its rules.
    pub rules: Rules,
    /// Its hooks, in order.
    pub hooks: Vec<HookSpec>,
}

/// Reads the file; a project without one says nothing.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read(file: Option<&ProjectFile>) -> Result<Project, String> {
    let Some(file) = file else { return Ok(Project::default()) };
    let mut project = parse(&file.text).map_err(|what| format!("{PROJECT_FILE}: {what}"))?;
    match file.hooks {
        ProjectHooks::Run => {}
        ProjectHooks::LeftOut => project.hooks.clear(),
    }
    Ok(project)
}

fn parse(text: &str) -> Result<Project, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let all = |texts: &[String]| texts.iter().map(|text| Rule::parse(text)).collect::<Result<Vec<_>, RuleError>>();
    let rules = || Ok(Rules { allow: all(&file.allow)?, ask: all(&file.ask)?, deny: all(&file.deny)? });
    let rules = rules().map_err(|error: RuleError| error.to_string())?;
    let hook = |hook: Hook| HookSpec {
        event: hook.event,
        matcher: hook.tools,
        run: hook.run,
        timeout_ms: hook.timeout_s.unwrap_or(HOOK_SECONDS).clamp(1, HOOK_SECONDS_MAX) * 1000,
    };
    Ok(Project { rules, hooks: file.hooks.into_iter().map(hook).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_hooks_are_read() {
        let text = "deny = ['bash(git push *)']\nallow = ['bash']\n[[hooks]]\nevent = 'PreToolUse'\ntools = 'edit|write'\n\
                    run = 'x'\ntimeout-s = 5\n[[hooks]]\nevent = 'Stop'\nrun = 'y'";
        let project = parse(text).unwrap();
        assert_eq!((project.rules.deny.len(), project.rules.allow.len()), (1, 1));
        assert_eq!((project.hooks[0].matcher.as_deref(), project.hooks[0].timeout_ms), (Some("edit|write"), 5000));
        assert_eq!((project.hooks[1].event, project.hooks[1].timeout_ms), (HookEvent::Stop, 60_000));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_file_is_none() {
        for text in [
            "denny = []",
            "deny = ['ba sh']",
            "deny = ['shell(x)']",
            "ask = ['write(/x/**)']",
            "[[hooks]]\nevent = 'Sometimes'\nrun = 'x'",
            "deny = 1",
            "[",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(read(None).unwrap().hooks.is_empty());
        let broken = ProjectFile { text: "[".to_owned(), hooks: ProjectHooks::LeftOut, programs: vec![] };
        assert!(read(Some(&broken)).unwrap_err().starts_with(PROJECT_FILE));
    }

    #[test]
    fn who_looks_at_a_result_is_held_to_the_rules_and_runs_no_hooks() {
        let text = "deny = ['read(key)']\n[[hooks]]\nevent = 'Stop'\nrun = 'x'".to_owned();
        let kept = |hooks| read(Some(&ProjectFile { text: text.clone(), hooks, programs: vec![] })).unwrap();
        let (run, left_out) = (kept(ProjectHooks::Run), kept(ProjectHooks::LeftOut));
        assert_eq!((run.rules.deny.len(), run.hooks.len()), (1, 1));
        assert_eq!((left_out.rules.deny.len(), left_out.hooks.len()), (1, 0));
    }
}
