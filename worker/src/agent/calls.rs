//! One call from the model's words to its result: rules, hooks, rules again, the tool, hooks. Whoever drives the
//! conversation asks a person in between, where a rule wants that.

use super::hooks::{Hooks, Verdict};
use super::permission::{Decision, Mode, Rules};
use super::tools::tool::Input;
use super::tools::{Refused, ToolResult, Toolbox, bounded};

/// All that decides on a call.
#[derive(Debug, Clone, Copy)]
pub struct Gate<'a> {
    /// The tools.
    pub toolbox: &'a Toolbox,
    /// The hooks.
    pub hooks: &'a Hooks,
    /// The rules.
    pub rules: &'a Rules,
    /// The mode.
    pub mode: Mode,
}

/// A call that was decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// What would be run: the model's input, or a hook's.
    pub input: Input,
    /// Whose it is.
    pub source: Source,
    /// Whether it may be.
    pub decision: Decision,
    /// What hooks said besides.
    pub verdict: Verdict,
}

/// Who said what a call is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The model.
    Model,
    /// A hook, in the place of what the model said.
    Hook,
}

/// Bytes of a hook's own input that are shown behind what it came to.
const SHOWN_BYTES_MAX: usize = 2000;

/// Decides on a call. Hooks are asked about what rules would let pass, and what they change is decided on anew: a hook allows
/// nothing. What the model says of its work at the end (a report, a plan, a review) reaches its reader as the model said it.
pub fn decide(gate: &Gate<'_>, tool: &str, input: &Input) -> Decided {
    let first = gate.toolbox.decide(tool, input, gate.rules, gate.mode);
    if let Decision::Deny(_) | Decision::Malformed(_) = first {
        return Decided { input: input.clone(), source: Source::Model, decision: first, verdict: Verdict::default() };
    }
    let mut verdict = gate.hooks.before_call(tool, gate.toolbox.purpose(tool), input);
    let changed = verdict.input.take();
    let again = changed.as_ref().map(|input| gate.toolbox.decide(tool, input, gate.rules, gate.mode));
    let decision = match (&verdict.refused, again.unwrap_or(first), &verdict.asks) {
        (Some(why), _, _) => Decision::Deny(why.clone()),
        (None, Decision::Allow, Some(why)) => Decision::Ask(why.clone()),
        (None, decision, _) => decision,
    };
    let source = if changed.as_ref().is_some_and(|changed| changed != input) { Source::Hook } else { Source::Model };
    Decided { input: changed.unwrap_or_else(|| input.clone()), source, decision, verdict }
}

/// Runs a call that was allowed and tells hooks of it. What they put in the call's place, object to or add stands behind the result,
/// where the model, the transcript and people see it; the verdict says whether all of it is to end.
pub fn run(gate: &Gate<'_>, tool: &str, decided: &Decided) -> (ToolResult, Verdict) {
    let result = gate.toolbox.run(tool, &decided.input);
    let verdict = gate.hooks.after_call(tool, &decided.input, &result);
    let instead = (decided.source == Source::Hook).then(|| {
        let ran = serde_json::to_string(&decided.input).expect("plain data");
        format!("what ran instead of this call is {}", bounded(&ran, SHOWN_BYTES_MAX))
    });
    let said = instead.iter().chain(&decided.verdict.context).chain(&verdict.context);
    let mut words: Vec<&str> = said.map(String::as_str).collect();
    words.extend(verdict.refused.as_deref());
    let behind: String = words.iter().map(|words| format!("\n[hook: {words}]")).collect();
    let result = match result {
        Ok(text) => Ok(text + &behind),
        Err(Refused(text)) => Err(Refused(text + &behind)),
    };
    (result, verdict)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use swarm_protocol::toolset::{HookEvent, HookSpec};

    use super::*;
    use crate::agent::permission::Rule;
    use crate::agent::setting::Setting;
    use crate::agent::tools::basic;
    use crate::agent::tools::search::Tree;
    use crate::agent::tools::tool::{Effect, Tool, spec};

    const CHANGE: &str =
        r#"echo '{"hookSpecificOutput":{"permissionDecision":"allow","updatedInput":{"path":"key"}}}'"#;

    struct Scene {
        folder: tempfile::TempDir,
        toolbox: Toolbox,
        hooks: Hooks,
        rules: Rules,
    }

    fn scene(hooks: &[(HookEvent, &str)], deny: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "text\n").unwrap();
        std::fs::write(folder.path().join("key"), "secret\n").unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
        let mut toolbox = Toolbox::default();
        toolbox.add(basic::tools(&setting, &Tree::all(&setting.root), basic::silent()).unwrap());
        let spec = |(event, run): &(HookEvent, &str)| HookSpec {
            event: *event,
            matcher: None,
            run: (*run).to_owned(),
            timeout_ms: 20_000,
        };
        let hooks = Hooks::new(setting, hooks.iter().map(spec).collect(), vec![]);
        let rules = Rules { deny: vec![Rule::parse(deny).unwrap()], ..Rules::default() };
        Scene { folder, toolbox, hooks, rules }
    }

    impl Scene {
        fn gate(&self) -> Gate<'_> {
            Gate { toolbox: &self.toolbox, hooks: &self.hooks, rules: &self.rules, mode: Mode::WorkspaceWrite }
        }

        fn decide(&self, path: &str) -> Decided {
            decide(&self.gate(), "read", json!({"path": path}).as_object().unwrap())
        }
    }

    #[test]
    fn no_hook_rewrites_what_is_handed_over() {
        let mut scene = scene(&[(HookEvent::PreToolUse, CHANGE)], "read(key)");
        let hand_over = Tool::own(spec("submit", "", json!({}), &[]), Effect::Changes, |_: Input| Ok(String::new()));
        scene.toolbox.add([hand_over.to_hand_over()]);
        let input = json!({"path": "mine"}).as_object().unwrap().clone();
        let decided = decide(&scene.gate(), "submit", &input);
        assert_eq!((decided.decision, decided.input), (Decision::Allow, input));
        assert_eq!(decided.verdict.messages.len(), 1, "and people hear of it");
    }

    #[test]
    fn what_a_hook_makes_of_a_call_is_decided_on_again() {
        let scene = scene(&[(HookEvent::PreToolUse, CHANGE)], "read(key)");
        assert_eq!(scene.decide("a").decision, Decision::Deny("rule `read(key)` denies it".to_owned()));
        let free = super::tests::scene(&[(HookEvent::PreToolUse, CHANGE)], "read(other)");
        let decided = free.decide("a");
        assert_eq!((&decided.decision, &decided.input["path"]), (&Decision::Allow, &json!("key")));
        let result = run(&free.gate(), "read", &decided).0.unwrap();
        assert!(result.contains("secret"));
        assert!(result.ends_with(r#"[hook: what ran instead of this call is {"path":"key"}]"#), "{result}");
        let own = run(&free.gate(), "read", &free.decide("key")).0.unwrap();
        assert!(!own.contains("instead"), "{own}");
    }

    #[test]
    fn a_call_that_cannot_be_read_is_no_matter_of_permission() {
        let scene = scene(&[(HookEvent::PreToolUse, "touch asked")], "read(key)");
        let decision = |tool: &str| decide(&scene.gate(), tool, json!({"odd": 1}).as_object().unwrap()).decision;
        assert!(matches!(decision("read"), Decision::Malformed(why) if why.starts_with("the arguments do not fit")));
        assert_eq!(decision("frob"), Decision::Malformed("there is no tool `frob`".to_owned()));
        assert!(!scene.folder.path().join("asked").exists(), "nobody is asked about it");
    }

    #[test]
    fn a_rule_that_denies_is_not_even_told_to_a_hook() {
        let scene = scene(&[(HookEvent::PreToolUse, "touch asked")], "read(key)");
        assert!(matches!(scene.decide("key").decision, Decision::Deny(_)));
        assert!(!scene.folder.path().join("asked").exists());
        assert_eq!(scene.decide("a").decision, Decision::Allow);
        assert!(scene.folder.path().join("asked").exists());
    }

    #[test]
    fn what_hooks_object_to_stands_behind_the_result() {
        let scene = scene(&[(HookEvent::PostToolUse, "echo wrong >&2; exit 2")], "read(key)");
        let (result, verdict) = run(&scene.gate(), "read", &scene.decide("a"));
        assert!(result.unwrap().ends_with("\n[hook: wrong]"));
        assert_eq!(verdict.stop, None);
    }
}
