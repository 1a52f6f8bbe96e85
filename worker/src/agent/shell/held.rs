//! Tables of scripts against one rule, `bash(git push*)`: each that pushes in the end is denied, and ordinary work is not stopped by it.

use crate::agent::permission::{Act, Decision, Mode, Rule, Rules};

/// What that rule comes to for a script.
pub fn decide(script: &str, mode: Mode) -> Decision {
    let deny = vec![Rule::parse("bash(git push*)").unwrap()];
    Rules { deny, ..Rules::default() }.decide("bash", &Act::Run(script), mode)
}

/// Every script of the first table is denied even where all is allowed, none of the second where the worktree may be written.
pub fn check<'s>(pushes: impl IntoIterator<Item = &'s &'s str>, ordinary: &[&str]) {
    let is_denied = |script: &&&str| matches!(decide(script, Mode::Full), Decision::Deny(_));
    let passed: Vec<_> = pushes.into_iter().filter(|script| !is_denied(script)).collect();
    assert!(passed.is_empty(), "{passed:#?}");
    let stopped = ordinary.iter().map(|script| (script, decide(script, Mode::WorkspaceWrite)));
    let stopped: Vec<_> = stopped.filter(|(_, decision)| *decision != Decision::Allow).collect();
    assert!(stopped.is_empty(), "{stopped:#?}");
}
