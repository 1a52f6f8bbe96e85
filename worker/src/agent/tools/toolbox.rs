//! All tools of one agent, in an order that never changes: providers cache a conversation by its beginning.

use swarm_protocol::chat::ToolSpec;

use super::tool::{Effect, Input, Purpose, Tool};
use super::{Refused, ToolResult};
use crate::agent::permission::{Decision, Mode, Rules};

/// The tools that do nothing but change files.
const FILE_TOOLS: [&str; 5] = ["write", "edit", "multi_edit", "apply_patch", "notebook_edit"];

/// The tools of one agent.
#[derive(Debug, Default)]
pub struct Toolbox {
    // Invariant: no two have the same name.
    tools: Vec<Tool>,
}

impl Toolbox {
    /// Takes tools in; one whose name is taken already is left out.
    pub fn add(&mut self, tools: impl IntoIterator<Item = Tool>) {
        for tool in tools {
            if self.find(&tool.spec.name).is_none() {
                self.tools.push(tool);
            }
        }
    }

    /// Leaves only the tools that a list names, and those without which no work ends; `*` at the end of a name stands for any
    /// rest. Returns what of the list names nothing.
    pub fn keep(&mut self, names: &[String]) -> Vec<String> {
        let idle = names.iter().filter(|name| !self.tools.iter().any(|tool| fits(name, &tool.spec.name)));
        let idle = idle.cloned().collect();
        let stays =
            |tool: &Tool| tool.purpose == Purpose::HandOver || names.iter().any(|name| fits(name, &tool.spec.name));
        self.tools.retain(stays);
        idle
    }

    /// Leaves what an agent that may only look has a use for: no tool that changes files, and none of a foreign server.
    pub fn only_look(&mut self) {
        let changes = |name: &str| FILE_TOOLS.contains(&name) || name.starts_with("mcp__");
        self.tools.retain(|tool| tool.purpose == Purpose::HandOver || !changes(&tool.spec.name));
    }

    /// What the model is told.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|tool| tool.spec.clone()).collect()
    }

    /// Their names.
    pub fn names(&self) -> Vec<String> {
        self.tools.iter().map(|tool| tool.spec.name.clone()).collect()
    }

    /// What a call of a tool does to the world; a tool that does not exist changes nothing.
    pub fn effect(&self, name: &str) -> Effect {
        self.find(name).map_or(Effect::Reads, |tool| tool.effect)
    }

    /// What a call of a tool is for.
    pub fn purpose(&self, name: &str) -> Purpose {
        self.find(name).map_or(Purpose::Work, |tool| tool.purpose)
    }

    /// The word of the rules on a call: on all that it is about to do, the strictest counts.
    pub fn decide(&self, name: &str, input: &Input, rules: &Rules, mode: Mode) -> Decision {
        let Some(tool) = self.find(name) else { return Decision::Malformed(unknown(name).0) };
        let mut strictest = None;
        let named = tool.acts(input, &mut |act| {
            let decision = rules.decide(name, &act, mode);
            if strictest.as_ref().is_none_or(|before| strictness(before) < strictness(&decision)) {
                strictest = Some(decision);
            }
        });
        match (named, strictest) {
            (Err(refused), _) => Decision::Malformed(refused.0),
            (Ok(()), Some(decision)) => decision,
            (Ok(()), None) => Decision::Malformed("nothing would be done".to_owned()),
        }
    }

    /// Does what a call asks for. Whoever calls this has asked [`Toolbox::decide`] about the same arguments.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn run(&self, name: &str, input: &Input) -> ToolResult {
        self.find(name).ok_or_else(|| unknown(name))?.run(input)
    }

    fn find(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.spec.name == name)
    }
}

fn strictness(decision: &Decision) -> u8 {
    match decision {
        Decision::Allow => 0,
        Decision::Ask(_) => 1,
        Decision::Deny(_) => 2,
        Decision::Malformed(_) => 3,
    }
}

fn unknown(name: &str) -> Refused {
    Refused(format!("there is no tool `{name}`"))
}

/// Whether a name is meant by a pattern.
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(front) => name.starts_with(front),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::permission::Rule;
    use crate::agent::setting::Setting;
    use crate::agent::tools::basic;
    use crate::agent::tools::search::Tree;

    fn toolbox() -> (tempfile::TempDir, Toolbox) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { scratch: root.clone(), root, env };
        let mut toolbox = Toolbox::default();
        toolbox.add(basic::tools(&setting, &Tree::all(&setting.root), basic::silent()).unwrap());
        (folder, toolbox)
    }

    fn input(value: serde_json::Value) -> Input {
        value.as_object().unwrap().clone()
    }

    fn denying(rule: &str) -> Rules {
        Rules { deny: vec![Rule::parse(rule).unwrap()], ..Rules::default() }
    }

    #[test]
    fn every_tool_says_what_it_wants_and_takes_nothing_else() {
        let (_folder, toolbox) = toolbox();
        for spec in toolbox.specs() {
            assert!(Rule::parse(&spec.name).is_ok(), "no rule may speak of {}", spec.name);
            assert!(spec.name.len() <= 64 && spec.description.len() > 20, "{}", spec.name);
            let properties = spec.schema["properties"].as_object().unwrap();
            let required = spec.schema["required"].as_array().unwrap();
            assert!(required.iter().all(|name| properties.contains_key(name.as_str().unwrap())), "{}", spec.name);
            let odd = toolbox.run(&spec.name, &input(json!({"frobnicate": 1}))).unwrap_err().0;
            assert!(odd.contains("frobnicate") || odd.contains("missing field"), "{}: {odd}", spec.name);
        }
    }

    #[test]
    fn the_strictest_word_on_all_files_of_a_patch_counts() {
        let (_folder, toolbox) = toolbox();
        let patch = "*** Begin Patch\n*** Add File: a\n+x\n*** Add File: ./ci//b\n+x\n*** End Patch";
        let decide = |rule: &str| {
            toolbox.decide("apply_patch", &input(json!({"patch": patch})), &denying(rule), Mode::WorkspaceWrite)
        };
        assert!(matches!(decide("apply_patch(ci/**)"), Decision::Deny(_)));
        assert_eq!(decide("apply_patch(other/**)"), Decision::Allow);
    }

    #[test]
    fn what_a_patch_changes_it_looks_at() {
        let (folder, toolbox) = toolbox();
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::write(folder.path().join("keys/a"), "x\n").unwrap();
        std::os::unix::fs::symlink("keys/a", folder.path().join("link")).unwrap();
        let decide = |body: &str| {
            let patch = format!("*** Begin Patch\n{body}\n*** End Patch");
            toolbox.decide("apply_patch", &input(json!({"patch": patch})), &denying("read(keys/**)"), Mode::Full)
        };
        for body in [
            "*** Update File: keys/a\n*** Move to: out",
            "*** Update File: ./keys//a\n@@\n-x\n+y",
            "*** Update File: link\n*** Move to: out",
            "*** Delete File: keys/a",
        ] {
            assert!(matches!(decide(body), Decision::Deny(_)), "{body}");
        }
        for body in ["*** Add File: keys/b\n+x", "*** Update File: other\n*** Move to: keys/c"] {
            assert_eq!(decide(body), Decision::Allow, "{body}");
        }
    }

    #[test]
    fn a_path_in_another_spelling_meets_the_same_rule() {
        let (folder, toolbox) = toolbox();
        let whole = folder.path().canonicalize().unwrap().join("keys/a.pem");
        for path in ["keys/a.pem", "./keys//a.pem", whole.to_str().unwrap()] {
            let decision =
                toolbox.decide("read", &input(json!({"path": path})), &denying("read(keys/**)"), Mode::ReadOnly);
            assert!(matches!(decision, Decision::Deny(_)), "{path}: {decision:?}");
        }
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::write(folder.path().join("keys/a.pem"), "x").unwrap();
        let links = [("one", "keys/a.pem"), ("folder", "keys"), ("up", "./folder")];
        links.iter().for_each(|(name, to)| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap());
        for path in ["one", "folder/a.pem", "up/a.pem"] {
            let decision = toolbox.decide("read", &input(json!({"path": path})), &denying("read(keys/**)"), Mode::Full);
            assert!(matches!(decision, Decision::Deny(_)), "{path}: {decision:?}");
        }
        let outside = toolbox.decide("read", &input(json!({"path": "../x"})), &Rules::default(), Mode::Full);
        assert!(matches!(outside, Decision::Malformed(_)));
    }

    #[test]
    fn a_list_of_names_leaves_only_these() {
        let (_folder, mut toolbox) = toolbox();
        let names = ["read", "bash*", "frob"].map(str::to_owned);
        assert_eq!(toolbox.keep(&names), ["frob"]);
        assert_eq!(toolbox.names(), ["read", "bash", "bash_output", "bash_kill"]);
        assert!(toolbox.run("edit", &Input::new()).unwrap_err().0.contains("no tool"));
    }
}
