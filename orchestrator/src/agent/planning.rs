//! Takes plans from an agent, or says what is wrong with them. What an agent hands over is read outside of its cage by the
//! parser that reads every plan, and held against [`swarm_plans::planned`]: all that is wrong goes back to the model, so often
//! and no more. The newest plan that passed is the one that counts.

use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};
use swarm_plans::planned::{TEXT_BYTES_MAX, parse_planned, scopes, told};
use swarm_plans::{Diagnostic, Fan, Parsed, Severity, SourceFile, TaskGraph};
use swarm_protocol::toolset::OfferedTool;

use super::conversation::OwnTools;
use crate::report::words;

/// The tool by which an agent hands a plan over.
pub const SUBMIT: &str = "submit_plan";
/// The output under which it is found.
pub const OUTPUT: &str = "plan";
/// What the plan is called in diagnostics.
pub const NAME: &str = "plan.toml";
/// Plans that one agent may hand over.
const SUBMISSIONS_MAX: u32 = 12;

/// Diagnostics that an attempt's end names.
const NAMED_MAX: usize = 3;

/// Answers a fan-out over files: globs in, the paths of the tree that match.
pub type Files = Box<dyn Fn(&[String]) -> Result<Vec<Value>, String> + Send + Sync>;

/// A plan that passed, with its fan-outs over files answered.
#[derive(Debug)]
pub struct Accepted {
    /// Its graph.
    pub graph: TaskGraph,
    /// Its text, for the journal.
    pub sources: Vec<SourceFile>,
}

/// Reads a plan that a model wrote, as far as it can be known before it runs. `models` are the names that its agents may use.
///
/// # Errors
/// All that is wrong with it.
pub fn accept(text: &str, models: &[String], files: &Files) -> Result<Accepted, Vec<Diagnostic>> {
    let Parsed { plan, diagnostics, sources } = parse_planned(NAME, text, models);
    let Some(plan) = plan else { return Err(diagnostics) };
    let mut graph = TaskGraph::expand(plan)?;
    for waiting in graph.pending() {
        let Fan::Glob(globs) = &waiting.source else { continue };
        let at = graph.plan().task(waiting.task).at;
        let wrong = |why: String| vec![Diagnostic::error(at, why)];
        let items = files(globs).map_err(wrong)?;
        if items.is_empty() {
            let diagnostic = Diagnostic::error(at, format!("no tracked file matches {}", globs.join(", ")));
            return Err(vec![diagnostic.hint("a task without items does nothing: name files that are there")]);
        }
        graph.supply(waiting.task, items).map_err(|error| wrong(error.to_string()))?;
    }
    let wrong = scopes(&graph);
    if wrong.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        Err(wrong)
    } else {
        Ok(Accepted { graph, sources })
    }
}

/// The names of models that such a plan may use: the person's own, and its writer's; sorted.
pub fn models(person: &[String], own: &str) -> Vec<String> {
    let mut all: Vec<String> = person.iter().cloned().chain([own.to_owned()]).collect();
    all.sort();
    all.dedup();
    all
}

/// What one agent has handed over.
pub struct Submissions {
    models: Vec<String>,
    files: Files,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    given: u32,
    accepted: Option<String>,
    /// What was wrong with the newest that did not pass.
    wrong: Option<String>,
}

impl Submissions {
    /// Nothing yet.
    pub fn new(models: Vec<String>, files: Files) -> Self {
        Submissions { models, files, kept: Mutex::default() }
    }

    /// The plan that counts, or why there is none; for people.
    pub fn taken(&self) -> Result<String, String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.accepted.clone().ok_or_else(|| match &kept.wrong {
            None => "it handed over no plan".to_owned(),
            Some(wrong) => format!("it handed over no plan that passes the check; of the last one: {wrong}"),
        })
    }

    fn submit(&self, text: &str) -> Result<String, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.given >= SUBMISSIONS_MAX {
            return Err(format!("{SUBMISSIONS_MAX} plans were handed over: no more are looked at. Call `finish`."));
        }
        kept.given += 1;
        match accept(text, &self.models, &self.files) {
            Ok(accepted) => {
                kept.accepted = Some(text.to_owned());
                let count = words::count(accepted.graph.instances().len() as u64, "instance");
                Ok(format!("the plan is accepted, with {count}:\n\n{}\nCall `finish`.", accepted.graph.tree()))
            }
            Err(diagnostics) => {
                let wrong = told(&diagnostics, text);
                let left = SUBMISSIONS_MAX - kept.given;
                let said = format!(
                    "the plan is not accepted:\n\n{wrong}\nMend all of it and hand it over again, whole; {left} tries are left."
                );
                kept.wrong = Some(in_short(&diagnostics));
                Err(said)
            }
        }
    }
}

/// The first few diagnostics in a line, for people.
fn in_short(diagnostics: &[Diagnostic]) -> String {
    let mut said: Vec<&str> = diagnostics.iter().take(NAMED_MAX).map(|one| one.message.as_str()).collect();
    let more = diagnostics.len().saturating_sub(NAMED_MAX).to_string() + " more";
    said.extend((diagnostics.len() > NAMED_MAX).then_some(more.as_str()));
    said.join("; ")
}

impl OwnTools for Submissions {
    fn offered(&self) -> Vec<OfferedTool> {
        let description = "Hands over the plan: the whole text of the TOML file. It is checked, and all that is wrong with it comes back: \
                           mend it and hand it over again. The last plan that was accepted counts.";
        let schema = json!({
            "type": "object", "required": ["plan"], "additionalProperties": false,
            "properties": {"plan": {"type": "string", "maxLength": TEXT_BYTES_MAX}},
        });
        vec![OfferedTool { name: SUBMIT.to_owned(), description: description.to_owned(), schema, reads_only: false }]
    }

    fn call(&self, tool: &str, arguments: &Map<String, Value>) -> Result<String, String> {
        match arguments.get("plan") {
            Some(Value::String(text)) if tool == SUBMIT => self.submit(text),
            _ if tool == SUBMIT => Err("the arguments do not fit: `plan` is the text of the plan".to_owned()),
            _ => Err(format!("there is no tool `{tool}`")),
        }
    }
}

/// What an agent is told that hands over a plan, behind its task. `models` as in [`accept`].
pub fn guide(models: &[String]) -> String {
    let models = if models.is_empty() { "none is configured".to_owned() } else { models.join(", ") };
    format!("{GUIDE}\nModels that its agents may use (agent.model): {models}.\n")
}

const GUIDE: &str = r#"You do not do this work yourself: you plan it. Explore the repository until you know what has to change, where, and in
which order, then hand a plan over with `submit_plan`. Others run it: each task works alone in a copy of the repository, sees
nothing of you but its prompt, and its change is taken only when its checks pass.

A good plan
- splits the work along real dependencies: call `dependencies`, and let what others need be done first. Tasks that do not need
  each other run at the same time.
- gives each task files of its own (`writes`): two tasks that do not wait for each other may not change the same file.
- proves each task by a command that fails before the work and passes after it (`check`), and all of it by [merge] verify.
- has as few tasks as the work needs. One is enough for a small goal.
- tells each agent all that it has to know: what, where, why, what not to touch. It does not know the goal.
- uses `run` instead of an agent wherever a command does the work.

The file is TOML:

version = 1
name = "rename-user"                       # letters, digits, - and _

[tasks.survey]                             # a task is one of run, argv, agent
run = "grep -rln User src > $SWARM_ARTIFACTS/files.txt"
outputs.files = { lines = "files.txt" }    # also { json = … }, { text = … }; others see needs.survey.outputs.files
writes = []                                # it changes nothing

[tasks.model]
agent = { prompt = "Rename the struct User to Account in src/model/. …", model = "main" }
writes = ["src/model/**"]                  # globs, relative to the repository
check = [{ run = "cargo test -p model", expect-fail-before = false }, "! grep -rn 'struct User' src/model"]

[tasks.callers]
needs = ["model"]                          # it starts with the changes of its needs, and with nothing of the others
foreach.part = ["api", "web"]              # one instance each; also { glob = "src/*/mod.rs" }
agent = { prompt = "Rename User to Account in src/{{ part }}/. …", model = "main" }
writes = ["src/{{ part }}/**"]
check = "cargo check"
retry = { max = 1, on = ["exit", "timeout"] }

[merge]
verify = { run = "cargo test --workspace", timeout = "20m" }

Templates are names in double braces, nothing else: vars.NAME, foreach names, matrix.NAME, needs.TASK.outputs.NAME (not in
commands: pass it by env). More keys of a task: env, timeout, if, matrix, artifacts, priority; of an agent: turns, tokens,
mode. A task runs in a sandbox without network. A plan that you write grants nothing: no policies, servers, models,
hooks, secrets or variables of the caller.
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 1\n[tasks.a]\nforeach.file = { glob = 'src/*' }\nrun = 'true'\nwrites = ['{{ file }}']\n\
                        check = 'true'\n";

    fn files() -> Files {
        Box::new(|globs| match globs {
            [glob] if glob == "src/*" => Ok(vec!["src/a".into(), "src/b".into()]),
            _ => Ok(vec![]),
        })
    }

    fn submit(submissions: &Submissions, text: &str) -> Result<String, String> {
        submissions.call(SUBMIT, json!({"plan": text}).as_object().unwrap())
    }

    #[test]
    fn the_newest_plan_that_passed_counts() {
        let all = Submissions::new(vec![], files());
        assert_eq!(all.taken(), Err("it handed over no plan".to_owned()));
        assert!(submit(&all, "version = 1").unwrap_err().contains("the plan has no tasks"));
        assert!(all.taken().unwrap_err().contains("the plan has no tasks"));
        assert!(submit(&all, GOOD).unwrap().contains("2 instances"));
        let newer = GOOD.replace("'true'", "'echo'");
        submit(&all, &newer).unwrap();
        assert!(submit(&all, &GOOD.replace("src/*", "none/*")).unwrap_err().contains("no tracked file matches none/*"));
        assert_eq!(all.taken(), Ok(newer));
    }

    #[test]
    fn tries_are_counted() {
        let all = Submissions::new(vec![], files());
        for _ in 0..SUBMISSIONS_MAX {
            assert!(submit(&all, "x").unwrap_err().contains("not accepted"));
        }
        assert!(submit(&all, GOOD).unwrap_err().contains("no more are looked at"));
        assert!(all.taken().is_err());
        assert!(all.call("other", &Map::new()).is_err() && all.call(SUBMIT, &Map::new()).is_err());
    }

    #[test]
    fn files_of_two_tasks_are_compared_after_globs_are_answered() {
        let twice = format!("{GOOD}[tasks.b]\nrun = 'true'\nwrites = ['src/b']\ncheck = 'true'\n");
        let wrong = accept(&twice, &[], &files()).unwrap_err();
        assert!(wrong[0].message.contains("may both change src/b"), "{wrong:?}");
    }

    #[test]
    fn what_the_guide_shows_is_a_plan_that_passes() {
        let text = GUIDE.split_once("The file is TOML:\n\n").unwrap().1.split_once("\nTemplates are").unwrap().0;
        let accepted = accept(text, &["main".to_owned()], &files());
        assert!(accepted.is_ok(), "{}", told(&accepted.err().unwrap_or_default(), text));
    }
}
