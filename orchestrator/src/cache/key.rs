//! What a result is known by; pure. Two attempts have one key exactly when they were given the same things: the same text
//! to run, the same files to start from, the same view of their needs, the same cage.
//!
//! What is *not* part of a key although a worker can see it: `$SWARM_RUN` and `$SWARM_ATTEMPT`, the commit message and
//! history behind the start tree, times, the warm folders of `[workspace] cache`, and what lies outside of the tree where a
//! policy shows it (toolchains, registries): a `fingerprint` is for those.

use std::fmt;

use swarm_plans::{
    BeforeWork, InstanceId, MergeMode, OutputSource, Rendered, RenderedAgent, RenderedCheck, RenderedCommand,
    RenderedGuest, RenderedReviewer, Task,
};

/// Part of every key: raised whenever a cage shows work something else, or a recorded result means something else.
const FORMAT: &str = "swarm result 2";

/// A BLAKE3 digest of some of the ingredients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What one result is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Digest);

#[cfg(test)]
impl Key {
    /// A key of whatever a test likes.
    pub fn for_test(digest: Digest) -> Self {
        Key(digest)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Builds a digest field by field. Every field carries its name and length, so no two lists of fields give one text.
#[derive(Debug, Clone)]
pub struct Mix(blake3::Hasher);

impl Mix {
    /// A digest of its own kind: digests of different kinds are never equal.
    pub fn new(kind: &str) -> Self {
        let mut mix = Mix(blake3::Hasher::new());
        mix.add("kind", kind.as_bytes());
        mix
    }

    /// Adds a field.
    pub fn add(&mut self, name: &str, value: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        self
    }

    /// Adds a field of many values, in their order.
    pub fn list<'v>(&mut self, name: &str, values: impl IntoIterator<Item = &'v [u8]>) -> &mut Self {
        let mut inner = Mix::new(name);
        for value in values {
            inner.add("item", value);
        }
        self.digest(name, inner.done())
    }

    /// Adds a digest.
    pub fn digest(&mut self, name: &str, digest: Digest) -> &mut Self {
        self.add(name, &digest.0)
    }

    /// The digest of all that was added.
    pub fn done(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// Everything that a result may depend on.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// Visible as `$SWARM_TASK`.
    pub name: &'a InstanceId,
    /// What to run, with which variables, behind which gates, allowed to change what.
    pub rendered: &'a Rendered,
    /// Which files become outputs and artifacts.
    pub task: &'a Task,
    /// Whether it may change anything at all.
    pub mode: MergeMode,
    /// The policy as resolved on this host.
    pub policy: Digest,
    /// Where the worktree stands and what it holds beside tracked files.
    pub workspace: Digest,
    /// The files of the start tree that count.
    pub inputs: Digest,
    /// What the needs hand over by value.
    pub needs: Digest,
    /// How its own commits are told; `None` where they are not.
    pub told: Option<Digest>,
    /// The output of the fingerprint command.
    pub fingerprint: Option<Digest>,
}

impl Ingredients<'_> {
    /// The key.
    pub fn key(&self) -> Key {
        // Whoever gives work something new to depend on is stopped by the compiler here.
        let Rendered { argv, guest, agent, env, checks, reviewers, writes } = self.rendered;
        let mut mix = Mix::new(FORMAT);
        mix.add("version", env!("CARGO_PKG_VERSION").as_bytes());
        mix.add("name", self.name.0.as_bytes());
        mix.list("argv", argv.iter().map(String::as_bytes));
        if let Some(RenderedGuest { fuel }) = guest {
            mix.add("guest", &fuel.unwrap_or(0).to_le_bytes());
        }
        for agent in agent.iter().chain(reviewers.iter().map(|RenderedReviewer { by: _, agent }| agent)) {
            mix.digest("agent", of_agent(agent));
        }
        mix.list("env", env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
        for check in checks {
            mix.digest("check", of_check(check));
        }
        match writes {
            None => mix.add("writes", b"anything"),
            Some(globs) => mix.list("writes", globs.iter().map(String::as_bytes)),
        };
        mix.add(
            "mode",
            match self.mode {
                MergeMode::Train => b"train",
                MergeMode::None => b"none",
            },
        );
        for (name, source) in &self.task.outputs {
            let (kind, file) = match source {
                OutputSource::Json(file) => ("json", file),
                OutputSource::Text(file) => ("text", file),
                OutputSource::Lines(file) => ("lines", file),
            };
            mix.list("output", [name.as_bytes(), kind.as_bytes(), file.as_bytes()]);
        }
        mix.list("artifacts", self.task.artifacts.iter().map(String::as_bytes));
        mix.digest("policy", self.policy).digest("workspace", self.workspace);
        mix.digest("inputs", self.inputs).digest("needs", self.needs);
        if let Some(told) = self.told {
            mix.digest("told", told);
        }
        if let Some(fingerprint) = self.fingerprint {
            mix.digest("fingerprint", fingerprint);
        }
        Key(mix.done())
    }
}

fn of_agent(agent: &RenderedAgent) -> Digest {
    let RenderedAgent { prompt, prompt_file, settings } = agent;
    let mut mix = Mix::new("agent");
    mix.add("prompt", prompt.as_bytes()).add("prompt-file", prompt_file.as_deref().unwrap_or("").as_bytes());
    mix.add("settings", format!("{settings:?}").as_bytes());
    mix.done()
}

fn of_check(check: &RenderedCheck) -> Digest {
    let RenderedCheck { command: RenderedCommand { argv, timeout: _ }, before } = check;
    let mut mix = Mix::new("check");
    mix.list("argv", argv.iter().map(String::as_bytes));
    mix.add(
        "before",
        match before {
            BeforeWork::NotRun => b"not run",
            BeforeWork::ExpectFail => b"fails",
        },
    );
    mix.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str) -> swarm_plans::TaskGraph {
        let text = format!("version = 1\n[tasks.a]\n{text}");
        let plan = swarm_plans::parse("p.toml", &text, &[], &mut |_| Err(String::new())).plan.expect("a plan");
        swarm_plans::TaskGraph::expand(plan).expect("it expands")
    }

    fn key(text: &str, change: impl FnOnce(&mut Ingredients<'_>)) -> Key {
        let graph = task(text);
        let ix = graph.instance_by_id("a").expect("it is there");
        let facts = crate::dispatcher::core::RunFacts::default();
        let rendered = graph.render(ix, &facts.context(&serde_json::Value::Null, &|_| None)).expect("it renders");
        let nothing = Mix::new("nothing").done();
        let mut ingredients = Ingredients {
            name: &graph.instance(ix).id,
            rendered: &rendered,
            task: graph.plan().task(swarm_plans::TaskIx(0)),
            mode: MergeMode::Train,
            policy: nothing,
            workspace: nothing,
            inputs: nothing,
            needs: nothing,
            told: None,
            fingerprint: None,
        };
        change(&mut ingredients);
        ingredients.key()
    }

    #[test]
    fn everything_that_work_is_given_is_part_of_its_key() {
        let plain = key("run = 'x'", |_| {});
        assert_eq!(plain, key("run = 'x'\npriority = 3\ntimeout = '1m'\nretry = 2", |_| {}), "how it is run is not");
        let texts = [
            "run = 'y'",
            "argv = ['x']",
            "run = 'x'\nenv.A = '1'",
            "run = 'x'\nwrites = []",
            "run = 'x'\nwrites = ['**']",
            "run = 'x'\ncheck = 'true'",
            "run = 'x'\ncheck = { run = 'true', expect-fail-before = true }",
            "run = 'x'\noutputs.o = { json = 'o.json' }",
            "run = 'x'\nartifacts = ['o']",
        ];
        let other = Mix::new("other").done();
        let mut keys: Vec<Key> = texts.iter().map(|text| key(text, |_| {})).collect();
        keys.extend([
            plain,
            key("run = 'x'", |it| it.mode = MergeMode::None),
            key("run = 'x'", |it| it.policy = other),
            key("run = 'x'", |it| it.workspace = other),
            key("run = 'x'", |it| it.inputs = other),
            key("run = 'x'", |it| it.needs = other),
            key("run = 'x'", |it| it.told = Some(other)),
            key("run = 'x'", |it| it.fingerprint = Some(other)),
        ]);
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let pair = |a: &str, b: &str| Mix::new("x").add(a, b.as_bytes()).done();
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
        let list = |values: &[&str]| Mix::new("x").list("l", values.iter().map(|v| v.as_bytes())).done();
        assert_ne!(list(&["a", "b"]), list(&["ab"]));
        assert_ne!(list(&[]), list(&[""]));
    }
}
