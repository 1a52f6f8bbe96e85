//! The `[merge]` table: what happens with the changes, and how it is read from the plan's text.

use std::time::Duration;

use crate::agent::Agent;
use crate::diagnostic::{Diagnostic, Location};
use crate::document::{Node, Table};
use crate::lower::{Lower, count, inside_globs, time};
use crate::plan::{Command, DEFAULT_SANDBOX};
use crate::template::{Dialect, Template};

/// Tries of a verification after a red one when the plan does not say.
const VERIFY_RETRY_DEFAULT: u32 = 1;

/// What happens with the changes.
#[derive(Debug)]
pub struct Merge {
    /// Whether there is a target at all.
    pub mode: MergeMode,
    /// The target branch; `None` is `swarm/{{ run.name }}`.
    pub into: Option<Template>,
    /// The gate of the target; `None` lands what folds.
    pub verify: Option<Verify>,
    /// What is tried with a change that does not land, in order, each at most once; parking is always the last.
    pub on_conflict: Vec<Rung>,
    /// Resolves conflicts.
    pub resolver: Option<Resolver>,
    /// Globs of files of which both sides' lines are kept.
    pub union: Vec<String>,
    /// Files that a command makes again.
    pub regenerate: Vec<Regenerate>,
    /// When green results land.
    pub publish: Publish,
    /// Which commits land.
    pub history: History,
    /// Whether instances that may change the same paths run side by side.
    pub overlap: Overlap,
}

/// What happens with the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeMode {
    /// They are merged into the target branch.
    Train,
    /// There must be none: any change is a failure.
    None,
}

/// The gate of the target branch.
#[derive(Debug, Clone)]
pub struct Verify {
    /// What has to exit with 0 on the merged tree; its timeout is that of one verification.
    pub command: Command,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: String,
    /// Where that is written.
    pub sandbox_at: Option<Location>,
    /// Results verified at once.
    pub batch: Batch,
    /// Verifications at once; at least 1.
    pub parallel: u32,
    /// Tries of a red one before it counts.
    pub retry: u32,
    /// A command whose output counts for how long a verdict is remembered; it runs once on the base.
    pub fingerprint: Option<Command>,
}

/// How many results are verified at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// All that wait.
    Auto,
    /// Exactly so many, but for the last batch; at least 1. What lands does not depend on timing, whatever the gate.
    Exactly(u32),
}

/// What is tried with a change that does not land.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The task runs once more, on the new tip.
    Rerun,
    /// The resolver settles the conflict.
    Resolve,
}

/// Settles conflicts.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// Who settles one, and leaves no conflict marker.
    pub by: ResolvedBy,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: String,
    /// Where that is written.
    pub sandbox_at: Option<Location>,
}

/// Who settles a conflict.
#[derive(Debug, Clone)]
pub enum ResolvedBy {
    /// A command, which exits with 0.
    Command(Command),
    /// An agent that works in the worktree of the conflict.
    Agent {
        /// What it is told beside the conflict, and how it works.
        agent: Box<Agent>,
        /// Its wall time.
        timeout: Option<Duration>,
    },
}

/// Files that a command makes again from the merged tree.
#[derive(Debug, Clone)]
pub struct Regenerate {
    /// Globs of the files, and all that the command may change.
    pub paths: Vec<String>,
    /// What makes them.
    pub command: Command,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: String,
    /// Where that is written.
    pub sandbox_at: Option<Location>,
}

/// When green results land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish {
    /// As they come.
    Prefix,
    /// Together at the end, or not at all.
    AllOrNothing,
}

/// Which commits land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// One an instance.
    Squash,
    /// The worker's own, where it made any.
    Keep,
}

/// Whether instances that may change the same paths run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// They do; of two that conflict, the later climbs `on-conflict`.
    Parallel,
    /// The later waits for the earlier and starts from its result.
    Serialize,
}

/// Reads the table of a plan.
pub(crate) fn lower(plan: &Table, lower: &mut Lower<'_>) -> Merge {
    let table = plan.get("merge").and_then(Node::table);
    let get = |key: &str| table.and_then(|table| table.get(key));
    let word = |key: &str| get(key).and_then(Node::text);
    let mode = match word("mode") {
        Some("none") => MergeMode::None,
        _ => MergeMode::Train,
    };
    if let (MergeMode::None, Some(table)) = (mode, table) {
        lower.diagnostics.extend(without_target(table));
    }
    Merge {
        mode,
        into: get("into").map(|node| lower.template(node, Dialect::Text)),
        verify: get("verify").and_then(|node| verify(node, lower)),
        on_conflict: ladder(get("on-conflict"), get("resolver"), lower),
        resolver: get("resolver").and_then(|node| resolver(node, lower)),
        union: get("union").map(inside_globs).unwrap_or_default(),
        regenerate: get("regenerate")
            .and_then(Node::list)
            .unwrap_or_default()
            .iter()
            .filter_map(|node| regenerate(node, lower))
            .collect(),
        publish: match word("publish") {
            Some("all-or-nothing") => Publish::AllOrNothing,
            _ => Publish::Prefix,
        },
        history: match word("history") {
            Some("keep") => History::Keep,
            _ => History::Squash,
        },
        overlap: match word("overlap") {
            Some("serialize") => Overlap::Serialize,
            _ => Overlap::Parallel,
        },
    }
}

/// What a table with `mode = "none"` says beside that: nothing is merged, so none of it would ever be used, and a gate that never
/// runs looks like one that is green.
fn without_target(table: &Table) -> impl Iterator<Item = Diagnostic> {
    table.entries.iter().filter(|entry| entry.key != "mode").map(|entry| {
        let key = &entry.key;
        let message = format!("`{key}` has no place beside `mode = \"none\"`: nothing is merged");
        let hint = match key.as_str() {
            "verify" => {
                "no gate would run: make it a task, [tasks.verify] with the same `run`, or write mode = \"train\""
            }
            _ => "leave it out, or write mode = \"train\"",
        };
        Diagnostic::error(entry.key_at, message).hint(hint).in_new_plans()
    })
}

fn verify(node: &Node, lower: &mut Lower<'_>) -> Option<Verify> {
    let command = lower.command(node, "verify")?;
    let get = |key: &str| node.table().and_then(|table| table.get(key));
    let batch = match get("batch") {
        None => Batch::Auto,
        Some(batch) => match (count(Some(batch)), batch.text()) {
            (Some(exactly), _) => Batch::Exactly(exactly),
            (None, Some("auto")) => Batch::Auto,
            (None, _) => {
                let message = "`batch` is \"auto\" or a number";
                lower
                    .diagnostics
                    .push(Diagnostic::error(batch.at, message).hint("without it, all that wait are verified at once"));
                Batch::Auto
            }
        },
    };
    let fingerprint = get("fingerprint").and_then(|node| lower.command(node, "fingerprint"));
    let (sandbox, sandbox_at) = sandbox(node);
    Some(Verify {
        command,
        fingerprint,
        sandbox,
        sandbox_at,
        batch,
        parallel: count(get("parallel")).unwrap_or(1),
        retry: count(get("retry")).unwrap_or(VERIFY_RETRY_DEFAULT),
    })
}

/// The policy that a command's table names, and where.
fn sandbox(node: &Node) -> (String, Option<Location>) {
    let named = node.table().and_then(|table| table.get("sandbox"));
    let name = named.and_then(Node::text).unwrap_or(DEFAULT_SANDBOX);
    (name.to_owned(), named.map(|node| node.at))
}

/// Keys of a resolver that make it an agent, and those that make it a command.
const OF_AGENTS: [&str; 3] = ["model", "prompt", "prompt-file"];
const OF_COMMANDS: [&str; 3] = ["run", "argv", "shell"];

fn resolver(node: &Node, lower: &mut Lower<'_>) -> Option<Resolver> {
    let (sandbox, sandbox_at) = sandbox(node);
    let said = |keys: &[&str]| {
        let entries = &node.table()?.entries;
        entries.iter().find(|entry| keys.contains(&entry.key.as_str())).map(|entry| (entry.key.clone(), entry.key_at))
    };
    let by = match (said(&OF_AGENTS), said(&OF_COMMANDS)) {
        (None, _) => ResolvedBy::Command(lower.command(node, "resolver")?),
        (Some(_), None) => ResolvedBy::Agent {
            agent: Box::new(lower.resolving_agent(node)?),
            timeout: time(node.table()?.get("timeout")),
        },
        (Some((agents, _)), Some((commands, at))) => {
            let error = Diagnostic::error(at, format!("the resolver has both `{agents}` and `{commands}`"));
            lower.diagnostics.push(error.hint("a command settles a conflict, or an agent does: leave one out"));
            return None;
        }
    };
    Some(Resolver { by, sandbox, sandbox_at })
}

/// Without the key a conflict goes to the resolver where there is one, and is parked where there is none: running a task again
/// on what landed may undo what another one did, so that is asked for (here, or for one task by `retry.on`).
fn ladder(written: Option<&Node>, resolver: Option<&Node>, lower: &mut Lower<'_>) -> Vec<Rung> {
    let Some(items) = written.and_then(Node::list) else {
        return resolver.map(|_| Rung::Resolve).into_iter().collect();
    };
    let mut rungs = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match item.text() {
            Some("rerun") if !rungs.contains(&Rung::Rerun) => rungs.push(Rung::Rerun),
            Some("resolve") if !rungs.contains(&Rung::Resolve) => {
                if resolver.is_none() {
                    let error = Diagnostic::error(item.at, "`resolve` needs a `resolver`");
                    lower.diagnostics.push(error.hint("write one: resolver = { run = \"./ci/resolve.sh\" }"));
                }
                rungs.push(Rung::Resolve);
            }
            Some("park") if at + 1 == items.len() => {}
            Some("park") => {
                lower
                    .diagnostics
                    .push(Diagnostic::error(item.at, "nothing can follow `park`").hint("make it the last"));
            }
            Some(word @ ("rerun" | "resolve")) => {
                let error = Diagnostic::error(item.at, format!("`{word}` stands there twice"));
                lower.diagnostics.push(error.hint("each is tried once"));
            }
            _ => {}
        }
    }
    rungs
}

fn regenerate(node: &Node, lower: &mut Lower<'_>) -> Option<Regenerate> {
    let command = lower.command(node, "regenerate")?;
    let table = node.table()?;
    let Some(paths) = table.get("paths").map(inside_globs) else {
        let error = Diagnostic::error(node.at, "`regenerate` does not say which files it makes");
        lower.diagnostics.push(error.hint("give it `paths`"));
        return None;
    };
    let (sandbox, sandbox_at) = sandbox(node);
    Some(Regenerate { paths, command, sandbox, sandbox_at })
}

impl Merge {
    /// Every command of the table, with the key that it stands under.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&'static str, &Command)> {
        let verify = self.verify.iter().map(|verify| ("verify", &verify.command));
        let fingerprint = self.verify.iter().filter_map(|verify| Some(("fingerprint", verify.fingerprint.as_ref()?)));
        let resolver = self.resolver.iter().filter_map(|resolver| match &resolver.by {
            ResolvedBy::Command(command) => Some(("resolver", command)),
            ResolvedBy::Agent { .. } => None,
        });
        verify.chain(fingerprint).chain(resolver).chain(self.regenerate.iter().map(|one| ("regenerate", &one.command)))
    }

    /// The agent that settles conflicts, where one does.
    pub fn agent(&self) -> Option<&Agent> {
        match &self.resolver.as_ref()?.by {
            ResolvedBy::Agent { agent, .. } => Some(agent),
            ResolvedBy::Command(_) => None,
        }
    }

    /// Every policy that work of the table runs under, with where it is named.
    pub fn sandboxes(&self) -> impl Iterator<Item = (&str, Option<Location>)> {
        let verify = self.verify.iter().map(|verify| (verify.sandbox.as_str(), verify.sandbox_at));
        let resolver = self.resolver.iter().map(|resolver| (resolver.sandbox.as_str(), resolver.sandbox_at));
        let regenerate = self.regenerate.iter().map(|one| (one.sandbox.as_str(), one.sandbox_at));
        verify.chain(resolver).chain(regenerate)
    }
}

#[cfg(test)]
mod tests {
    use super::ResolvedBy;
    use crate::file::{Parsed, parse};

    fn parsed(resolver: &str) -> Parsed {
        let text = format!("version = 1\n[tasks.a]\nrun = 'x'\n[merge]\nresolver = {resolver}\n");
        parse("p", &text, &[], &mut |_| Err(String::new()))
    }

    #[test]
    fn a_resolver_is_a_command_or_an_agent_with_a_model_of_the_plan() {
        for text in
            ["{ model = 'strong' }", "{ prompt = 'keep {{ vars.x }}' }", "{ prompt-file = 'how.md', timeout = '5m' }"]
        {
            let plan =
                parsed(&format!("{text}\n[vars]\nx = 'both'")).plan.unwrap_or_else(|| panic!("{text} is refused"));
            let by = plan.merge.resolver.as_ref().map(|resolver| &resolver.by);
            assert!(matches!(by, Some(ResolvedBy::Agent { .. })), "{by:?}");
            assert_eq!(plan.model_uses().count(), 1);
        }
        assert_eq!(parsed("'true'").plan.map(|plan| plan.model_uses().count()), Some(0));
    }

    #[test]
    fn without_a_target_nothing_says_how_to_merge() {
        let found = |merge: &str, writes: &str| {
            let text = format!("version = 1\n[tasks.a]\nrun = 'x'\n{writes}\n[merge]\n{merge}\n");
            let parsed = parse("p", &text, &[], &mut |_| Err(String::new()));
            parsed.diagnostics.into_iter().map(|one| one.message).collect::<Vec<_>>()
        };
        for key in [
            "verify = 'make test'",
            "verify = { run = 'make test' }",
            "union = ['a']",
            "regenerate = [{ paths = ['a'], run = 'x' }]",
            "on-conflict = ['rerun']",
            "resolver = 'x'",
            "history = 'keep'",
            "publish = 'all-or-nothing'",
            "overlap = 'serialize'",
            "into = 'x'",
        ] {
            let none = found(&format!("mode = 'none'\n{key}"), "");
            let name = key.split(' ').next().expect("it has a name");
            assert_eq!(none, [format!("`{name}` has no place beside `mode = \"none\"`: nothing is merged")]);
            assert_eq!(found(&format!("mode = 'train'\n{key}"), "writes = ['a']"), [""; 0], "{key}");
        }
        assert_eq!(found("mode = 'none'", "writes = []"), [""; 0]);
        let [writes] = &found("mode = 'none'", "writes = ['a']")[..] else { panic!("one warning") };
        assert!(writes.contains("`writes` of `a` allow nothing"), "{writes}");
    }

    #[test]
    fn a_resolver_that_says_too_much_or_nothing_is_refused() {
        for (text, expected) in [
            ("{ run = 'x', model = 'm' }", "both `model` and `run`"),
            ("{ timeout = '1m' }", "nothing to do"),
            ("{ prompt = '{{ odd }}' }", "`odd` is not defined"),
            ("{ prompt = 'x', sandbox = 'none' }", "no policy `none`"),
        ] {
            let found = parsed(text).diagnostics;
            assert!(found.iter().any(|one| one.message.contains(expected)), "{expected} is not in {found:?}");
        }
    }
}
