//! What an agent may do without asking. Rules name tools and arguments; a deny always wins, an ask comes next, and an ask
//! that nobody is there to answer is a deny. Files of the project may only tighten. Pure.
//!
//! A rule is `tool` or `tool(pattern)`: for `bash` the pattern is the beginning of a command (`git push`, `cargo test *`,
//! `*` for any words), for tools that touch files a glob below the worktree, for `web_fetch` a host, where `*.` stands for
//! any name in front. The tool's name may end with `*`, and its letters may be large. A glob speaks of what it names and of all
//! below that, as it is and as links lead there; what a script does to files no rule for paths knows. What asks or denies reaches further than what allows: there `edit`
//! and `write` speak of whatever changes a file, `read` of whatever looks at one, and of scripts also what cannot be read before
//! it runs ([`restraint`]).

use globset::{Glob, GlobMatcher};
use swarm_protocol::rule::{self, Written};

use super::mcp::names;
use super::restraint::{self, Hit};
use super::shell::{self, Command, Reading, Script};

/// How much an agent may do where no rule speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Look, and nothing else.
    ReadOnly,
    /// Change the worktree and run what is not dangerous.
    WorkspaceWrite,
    /// Everything; the cage alone holds it.
    Full,
}

/// What a tool is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'a> {
    /// Look at a path below the worktree.
    Read(&'a str),
    /// Change a path below the worktree.
    Write(&'a str),
    /// Run a script.
    Run(&'a str),
    /// Have a shell run a file that was written while the agent worked.
    RunFile {
        /// As it is shown.
        path: &'a str,
        /// What it holds; `None` where that cannot be read.
        text: Option<&'a str>,
    },
    /// Get something from a host.
    Fetch(&'a str),
    /// Something of its own, within the agent: a list of things to do, a note.
    Own,
    /// Something of a foreign tool.
    Foreign,
}

/// The word on an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// A person has to say; why.
    Ask(String),
    /// No; why, for the model.
    Deny(String),
    /// There is nothing to decide on: no such call can be made; why, for the model.
    Malformed(String),
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    written: String,
    tool: String,
    pattern: Option<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    Words(Vec<String>),
    Paths([GlobMatcher; 2]),
    Host(String),
}

/// Why a rule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`: {what}")]
pub struct RuleError {
    /// As written.
    pub rule: String,
    /// What is wrong.
    pub what: String,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn parse(written: &str) -> Result<Rule, RuleError> {
        let error = |what: String| RuleError { rule: written.to_owned(), what };
        let Written { tool, pattern } = rule::read(written).map_err(|fault| error(fault.to_string()))?;
        let pattern = match pattern {
            None => None,
            Some(rule::Pattern::Words(words)) => Some(Pattern::Words(words)),
            Some(rule::Pattern::Host(host)) => Some(Pattern::Host(host)),
            Some(rule::Pattern::Path(path)) => {
                let glob = |pattern: &str| Glob::new(pattern).map(|glob| glob.compile_matcher());
                let both = glob(&path).and_then(|one| Ok([one, glob(&format!("{path}/**"))?]));
                Some(Pattern::Paths(both.map_err(|problem| error(problem.kind().to_string()))?))
            }
        };
        Ok(Rule { written: written.to_owned(), tool, pattern })
    }

    /// Whether it speaks of a tool of that name.
    pub fn names(&self, tool: &str) -> bool {
        match self.tool.strip_suffix('*') {
            Some(front) => tool.to_ascii_lowercase().starts_with(front),
            None => tool.eq_ignore_ascii_case(&self.tool),
        }
    }

    /// Whether the rule allows an act that is no script.
    fn speaks_of(&self, tool: &str, act: &Act<'_>) -> bool {
        self.names(tool) && self.fits(act)
    }

    /// Whether the rule restricts an act that is no script: what may not be edited may not be patched either.
    fn restricts(&self, tool: &str, act: &Act<'_>) -> bool {
        let speaks_for_it = match act {
            Act::Write(_) => self.names("edit") || self.names("write"),
            Act::Read(_) => self.names("read"),
            Act::Run(_) | Act::RunFile { .. } | Act::Fetch(_) | Act::Own | Act::Foreign => false,
        };
        (speaks_for_it || self.names(tool) || names::means(&self.tool, tool)) && self.fits(act)
    }

    fn fits(&self, act: &Act<'_>) -> bool {
        match (&self.pattern, act) {
            (None, _) => true,
            (Some(Pattern::Paths(globs)), Act::Read(path) | Act::Write(path)) => {
                globs.iter().any(|glob| glob.is_match(path))
            }
            (Some(Pattern::Host(pattern)), Act::Fetch(host)) => is_host(pattern, &host.to_lowercase()),
            (Some(_), _) => false,
        }
    }

    /// Whether the rule allows a command.
    fn covers(&self, command: &Command) -> Match {
        match &self.pattern {
            _ if !self.names("bash") => Match::No,
            None => Match::Yes,
            Some(Pattern::Words(words)) => restraint::matches(words, &command.words),
            Some(_) => Match::No,
        }
    }

    /// As it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The beginning of the commands that it speaks of; `None` where it speaks of all.
    pub fn command(&self) -> Option<&[String]> {
        match &self.pattern {
            Some(Pattern::Words(words)) => Some(words),
            _ => None,
        }
    }
}

/// Whether a pattern fits a command whose words are not all known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// It does not.
    No,
    /// That only shows when it runs.
    Maybe,
    /// It does.
    Yes,
}

fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|front| front.len() > 1 && front.ends_with('.')),
        None => pattern == host,
    }
}

/// All rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What needs no asking.
    pub allow: Vec<Rule>,
    /// What a person has to allow each time.
    pub ask: Vec<Rule>,
    /// What never happens.
    pub deny: Vec<Rule>,
}

impl Rules {
    /// Takes the rules of a project's own file: they may only tighten. Returns what was left out.
    pub fn tighten(&mut self, project: Rules) -> Vec<String> {
        self.ask.extend(project.ask);
        self.deny.extend(project.deny);
        project.allow.into_iter().map(|rule| rule.written).collect()
    }

    /// The word on what `tool` is about to do.
    pub fn decide(&self, tool: &str, act: &Act<'_>, mode: Mode) -> Decision {
        if let Act::Run(script) = act {
            return self.script(&shell::read(script), mode);
        }
        if let Act::RunFile { path, text } = act {
            return self.file(path, *text);
        }
        let first =
            |rules: &[Rule]| rules.iter().find(|rule| rule.restricts(tool, act)).map(|rule| rule.written.clone());
        if let Some(rule) = first(&self.deny) {
            return Decision::Deny(format!("rule `{rule}` denies it"));
        }
        let changes = matches!(act, Act::Write(_) | Act::Foreign);
        if changes && mode == Mode::ReadOnly {
            return Decision::Deny("this agent may only read".to_owned());
        }
        if let Some(rule) = first(&self.ask) {
            return Decision::Ask(format!("rule `{rule}` wants it asked"));
        }
        let asks = matches!(act, Act::Fetch(_) | Act::Foreign) && mode != Mode::Full;
        match asks && !self.allow.iter().any(|rule| rule.speaks_of(tool, act)) {
            true => Decision::Ask(format!("no rule allows `{tool}`")),
            false => Decision::Allow,
        }
    }

    fn file(&self, path: &str, text: Option<&str>) -> Decision {
        let held = text.map(shell::held_in);
        match restraint::find_in_file(path, held.as_deref(), &self.deny) {
            Some(why) => Decision::Deny(why),
            None => restraint::find_in_file(path, held.as_deref(), &self.ask).map_or(Decision::Allow, Decision::Ask),
        }
    }

    fn script(&self, script: &Script, mode: Mode) -> Decision {
        match restraint::find(script, &self.deny) {
            Some(Hit::Speaks(why)) => return Decision::Deny(format!("{why}, which denies it")),
            Some(Hit::MaySpeak(why)) => return Decision::Deny(why),
            None => {}
        }
        if let Some(Hit::Speaks(why) | Hit::MaySpeak(why)) = restraint::find(script, &self.ask) {
            return Decision::Ask(why);
        }
        let named = |command: &Command| self.allow.iter().any(|rule| rule.covers(command) == Match::Yes);
        let all_allowed = !script.commands.is_empty() && script.commands.iter().all(named);
        match (shell::judge(script), mode) {
            (Reading::Reads, _) | (_, Mode::Full) => Decision::Allow,
            (Reading::Plain | Reading::Opaque(_), Mode::WorkspaceWrite) => Decision::Allow,
            (Reading::Dangerous(_) | Reading::Plain, _) if all_allowed && script.alarms.is_empty() => Decision::Allow,
            (Reading::Dangerous(why), _) => Decision::Ask(why),
            (Reading::Plain, Mode::ReadOnly) => Decision::Ask("it is not proved that it only reads".to_owned()),
            (Reading::Opaque(why), Mode::ReadOnly) => {
                Decision::Ask(format!("it is not proved that it only reads: there is {why}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str], ask: &[&str], deny: &[&str]) -> Rules {
        let all = |rules: &[&str]| rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
        Rules { allow: all(allow), ask: all(ask), deny: all(deny) }
    }

    fn run(rules: &Rules, script: &str, mode: Mode) -> &'static str {
        word(&rules.decide("bash", &Act::Run(script), mode))
    }

    fn word(decision: &Decision) -> &'static str {
        match decision {
            Decision::Allow => "allow",
            Decision::Ask(_) => "ask",
            Decision::Deny(_) => "deny",
            Decision::Malformed(_) => "malformed",
        }
    }

    #[test]
    fn a_deny_wins_however_its_command_is_wrapped() {
        let rules = rules(&["bash", "bash(git push)"], &[], &["bash(git push)"]);
        for script in [
            "git push",
            "ls && git push -f",
            "/usr/bin/git push",
            "env X=1 git push",
            "bash -c 'git push'",
            "$(git push)",
            "git -C . push",
            "git --no-pager push",
            "git -c a=b push",
            "git -c \"$X\" --git-dir=.git push",
            "git --attr-source HEAD -P push",
            "git -c alias.x=push x",
            "ls | xargs -i git push",
            "env -a x git push",
            "flock f -c 'git push'",
        ] {
            assert_eq!(run(&rules, script, Mode::Full), "deny", "{script}");
        }
        assert_eq!(run(&rules, "git pull", Mode::Full), "allow");
        assert_eq!(run(&rules, "git -C push pull", Mode::Full), "allow");
        assert_eq!(run(&rules, "git $X", Mode::Full), "deny", "it may be a push");
        assert_eq!(run(&rules, "git -C . $X", Mode::Full), "deny", "it may be a push");
    }

    #[test]
    fn what_allows_a_command_of_git_does_not_allow_its_options() {
        let rules = rules(&["bash(git fetch)"], &[], &["bash(git -C vendor *)"]);
        assert_eq!(run(&rules, "git fetch origin", Mode::ReadOnly), "allow");
        assert_eq!(run(&rules, "git -C elsewhere fetch", Mode::ReadOnly), "ask");
        assert_eq!(run(&rules, "git -C vendor fetch", Mode::ReadOnly), "deny", "as it is written");
    }

    #[test]
    fn each_command_of_a_script_must_be_allowed() {
        let rules = rules(&["bash(cargo test *)", "bash(cargo fmt)"], &[], &[]);
        let rows = [
            ("cargo test -p x", "allow"),
            ("cargo test && cargo fmt", "allow"),
            ("cargo test | head", "ask"),
            ("cargo test; curl x", "ask"),
            ("cargo test > out", "ask"),
            ("cargo publish", "ask"),
            ("cat x", "allow"),
        ];
        for (script, expected) in rows {
            assert_eq!(run(&rules, script, Mode::ReadOnly), expected, "{script}");
        }
    }

    #[test]
    fn danger_is_asked_about_unless_a_rule_names_all_of_it() {
        let named = rules(&["bash(git push origin *)"], &[], &[]);
        assert_eq!(run(&named, "git push origin main", Mode::WorkspaceWrite), "allow");
        assert_eq!(run(&named, "git push", Mode::WorkspaceWrite), "ask");
        assert_eq!(run(&named, "git push origin main; rm -rf ~", Mode::WorkspaceWrite), "ask");
        assert_eq!(run(&Rules::default(), "make && ./run > log", Mode::WorkspaceWrite), "allow");
    }

    #[test]
    fn modes_bound_what_tools_do() {
        let none = Rules::default();
        let decide = |tool: &str, act, mode| word(&none.decide(tool, &act, mode));
        assert_eq!(decide("edit", Act::Write("src/a.rs"), Mode::ReadOnly), "deny");
        assert_eq!(decide("edit", Act::Write("src/a.rs"), Mode::WorkspaceWrite), "allow");
        assert_eq!(decide("web_fetch", Act::Fetch("example.org"), Mode::WorkspaceWrite), "ask");
        assert_eq!(decide("mcp__x__y", Act::Foreign, Mode::Full), "allow");
        assert_eq!(decide("todo", Act::Own, Mode::ReadOnly), "allow");
    }

    #[test]
    fn paths_hosts_and_foreign_tools_have_rules_of_their_own() {
        let rules = rules(
            &["web_fetch(*.example.org)", "mcp__docs__*"],
            &["edit(Cargo.*)"],
            &["write(.github/**)", "read(**/*.pem)"],
        );
        let decide = |tool: &str, act| word(&rules.decide(tool, &act, Mode::WorkspaceWrite));
        assert_eq!(decide("write", Act::Write(".github/workflows/x.yml")), "deny");
        assert_eq!(decide("read", Act::Read("keys/a.pem")), "deny");
        assert_eq!(decide("edit", Act::Write("Cargo.toml")), "ask");
        assert_eq!(decide("web_fetch", Act::Fetch("api.example.org")), "allow");
        assert_eq!(decide("web_fetch", Act::Fetch("example.org")), "ask");
        assert_eq!(decide("mcp__docs__find", Act::Foreign), "allow");
        assert_eq!(decide("mcp__other__find", Act::Foreign), "ask");
    }

    #[test]
    fn what_may_not_be_edited_or_read_may_not_be_by_any_tool() {
        let rules = rules(&["mcp__x__*"], &["read(keys/**)"], &["edit(vendor/**)", "read(secret)", "glob"]);
        let decide = |tool: &str, act| word(&rules.decide(tool, &act, Mode::Full));
        for tool in ["edit", "write", "multi_edit", "apply_patch", "notebook_edit"] {
            assert_eq!(decide(tool, Act::Write("vendor/a")), "deny", "{tool}");
            assert_eq!(decide(tool, Act::Write("src/a")), "allow", "{tool}");
        }
        assert_eq!(decide("diagnostics", Act::Read("secret")), "deny");
        assert_eq!(decide("repo_map", Act::Read("keys/a")), "ask");
        assert_eq!(decide("edit", Act::Write("secret")), "allow", "what is written only is not read");
        assert_eq!((decide("glob", Act::Read(".")), decide("grep", Act::Read("."))), ("deny", "allow"));
    }

    #[test]
    fn a_project_only_tightens() {
        let mut own = rules(&[], &[], &[]);
        let left_out = own.tighten(rules(&["bash"], &["bash(make)"], &["bash(ls)"]));
        assert_eq!(
            (left_out, run(&own, "ls", Mode::Full), run(&own, "make", Mode::Full)),
            (vec!["bash".to_owned()], "deny", "ask")
        );
    }

    #[test]
    fn a_rule_holds_however_its_tool_and_its_path_are_written() {
        for rule in ["Bash(git push *)", "BASH(git push:*)", "bash( git  push * )", "bash(/usr/bin/git push)", "Ba*"] {
            assert_eq!(run(&rules(&[], &[], &[rule]), "git push x", Mode::Full), "deny", "{rule}");
        }
        for rule in [
            "write(./secrets/**)",
            "write(secrets/)",
            "write(secrets)",
            "Write(.//secrets/./*)",
            "edit(secrets)",
            "write(.)",
        ] {
            let rules = rules(&[], &[], &[rule]);
            let decide = |path| word(&rules.decide("write", &Act::Write(path), Mode::Full));
            assert_eq!((decide("secrets/k"), decide("secrets/a/b")), ("deny", "deny"), "{rule}");
            assert_eq!(decide("secretsx"), if rule == "write(.)" { "deny" } else { "allow" }, "{rule}");
        }
    }

    #[test]
    fn what_is_a_rule_is_what_the_plan_language_takes_for_one() {
        for line in include_str!("../../../plans/rules.txt").lines().filter(|line| !line.starts_with('#')) {
            let (expected, text) = line.split_once(' ').unwrap_or((line, ""));
            assert_eq!(Rule::parse(text).is_ok(), expected == "good", "{line}");
        }
    }
}
