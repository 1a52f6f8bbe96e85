//! Every key of the language, once: its type, its meaning, and whether it works already. The parser checks a plan against
//! this table and the JSON Schema is printed from it, so they cannot differ. To add a key, add a line here and read it in
//! `lower`.

/// One key of a table.
pub(crate) struct Key {
    /// As written.
    pub name: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// Whether it works already.
    pub since: Since,
    /// One sentence, for editors.
    pub about: &'static str,
}

/// Whether a key or word works already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// It does.
    Now,
    /// It is known, its shape is checked, and it answers "not supported yet".
    Later,
}

/// What may stand at a place.
pub(crate) enum Kind {
    /// Any string.
    Text,
    /// A string that is not empty and has no NUL.
    Line,
    /// `[A-Za-z0-9_-]+`.
    Name,
    /// An integer in a range, both ends included.
    Integer(i64, i64),
    /// A number above the first and up to the second.
    Number(f64, f64),
    /// `true` or `false`.
    Flag,
    /// `30m`.
    Duration,
    /// `4GiB`.
    Size,
    /// A path or glob inside the tree: relative, without `..`.
    Inside,
    /// A path outside the tree: absolute or `~/…`.
    Outside,
    /// One of some words.
    Choice(&'static [(&'static str, Since)]),
    /// An array.
    List(&'static Kind),
    /// An array with at least one item.
    Filled(&'static Kind),
    /// A table with free keys that are names.
    Named(&'static Kind),
    /// A table with these keys.
    Table(&'static [Key]),
    /// The first whose TOML type fits.
    Either(&'static [Kind]),
    /// Known, not yet working: what a message calls it, and its shape.
    NotYet(&'static str, &'static Kind),
    /// Any value.
    Any,
}

const fn now(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, since: Since::Now, about }
}

const fn later(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, since: Since::Later, about }
}

const LINES: Kind = Kind::List(&Kind::Line);
const COMMAND: Kind = Kind::Either(&[Kind::Line, Kind::Table(COMMAND_KEYS)]);
const PATHS_INSIDE: Kind = Kind::List(&Kind::Inside);
const PATHS_OUTSIDE: Kind = Kind::List(&Kind::Outside);

/// The largest number of anything that a plan may ask for.
const COUNT_MAX: i64 = u32::MAX as i64;

/// The plan itself.
pub(crate) const PLAN: &[Key] = &[
    now("version", Kind::Integer(1, 1), "The version of the language: 1."),
    now("name", Kind::Name, "The plan's name; the file's stem by default."),
    now("base", Kind::Line, "The revision that the run starts from; HEAD by default."),
    now("seed", Kind::Integer(0, i64::MAX), "Reaches workers as $SWARM_SEED."),
    now("jobs", Kind::Integer(1, 4096), "Workers at once; the number of cores by default."),
    now("deadline", Kind::Duration, "For the whole run."),
    now("include", Kind::List(&Kind::Line), "Files whose [templates], [vars] and [sandbox.*] join this plan."),
    now("vars", Kind::Named(&Kind::Any), "Values for templates; `--set key=value` overrides."),
    now("resources", Kind::Named(&Kind::Integer(0, COUNT_MAX)), "Capacities that tasks take parts of."),
    later("budget", Kind::Table(BUDGET), "What the run may spend."),
    now("workspace", Kind::Table(WORKSPACE), "How each worktree is made."),
    now("defaults", Kind::Table(TASK), "Keys that every task has unless it says otherwise."),
    now("templates", Kind::Named(&Kind::Table(TASK)), "Named sets of task keys, taken by `use`."),
    now("sandbox", Kind::Named(&Kind::Table(SANDBOX)), "Named policies."),
    later("models", Kind::Named(&Kind::Any), "Models that agents use."),
    now("tasks", Kind::Named(&Kind::Table(TASK)), "The work."),
    now("merge", Kind::Table(MERGE), "What happens with the changes."),
    later("select", Kind::Named(&Kind::Table(SELECT)), "Picks the best of an experiment's instances."),
];

/// A file that a plan includes.
pub(crate) const INCLUDED: &[Key] = &[
    now("version", Kind::Integer(1, 1), "The version of the language: 1."),
    now("vars", Kind::Named(&Kind::Any), "Values for templates; `--set key=value` overrides."),
    now("templates", Kind::Named(&Kind::Table(TASK)), "Named sets of task keys, taken by `use`."),
    now("sandbox", Kind::Named(&Kind::Table(SANDBOX)), "Named policies."),
    later("models", Kind::Named(&Kind::Any), "Models that agents use."),
];

const BUDGET: &[Key] =
    &[now("usd", Kind::Number(0.0, 1e9), "Dollars."), now("tokens", Kind::Integer(1, i64::MAX), "Tokens.")];

const WORKSPACE: &[Key] = &[
    now("copy", PATHS_INSIDE, "Untracked files that every worktree gets."),
    now("setup", COMMAND, "Runs once on the base; its result is the layer that all worktrees share."),
    now("cache", PATHS_INSIDE, "Ignored folders of the checkout that worktrees see copy-on-write."),
    now("sparse", Kind::Filled(&Kind::Inside), "Globs of the files that are checked out."),
];

const SANDBOX: &[Key] = &[
    now(
        "tier",
        Kind::Choice(&[("wasm", Since::Later), ("namespaces", Since::Now), ("landlock", Since::Now)]),
        "The weakest cage that is acceptable.",
    ),
    now("read", PATHS_OUTSIDE, "Readable beside the system's own folders."),
    now("write", PATHS_OUTSIDE, "Writable beside the worktree and the private tmp and home."),
    now("cow", PATHS_OUTSIDE, "Folders seen copy-on-write: writable inside, thrown away afterwards."),
    now("tools", Kind::List(&Kind::Name), "Toolchain presets; by default what is on the caller's PATH."),
    now("hide", LINES, "Unreadable although inside an allowed tree."),
    now(
        "network",
        Kind::Either(&[
            Kind::Choice(&[("none", Since::Now), ("host", Since::Now)]),
            Kind::NotYet("a list of hosts in `network`", &LINES),
        ]),
        "none: its own loopback. host: the host's network; needs --allow-host-network.",
    ),
    now("env", Kind::List(&Kind::Line), "Names of variables let through; everything else is scrubbed."),
    later("secrets", Kind::List(&Kind::Line), "Names of variables let through and masked in every log."),
    now("memory", Kind::Size, "Memory of the whole process tree."),
    now("processes", Kind::Integer(1, COUNT_MAX), "Processes and threads."),
    now("disk", Kind::Size, "What may be written."),
    now("files", Kind::Integer(1, COUNT_MAX), "Files that may be made."),
    now("cpu", Kind::Number(0.0, 4096.0), "Processors."),
    now("require", Kind::List(&Kind::Name), "What has to be enforced; missing on the machine is a refusal."),
];

/// A task, a template, or the defaults.
pub(crate) const TASK: &[Key] = &[
    now("run", Kind::Line, "A script for the shell: sh -eu."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments, without a shell."),
    later("wasm", Kind::Either(&[Kind::Line, Kind::Table(WASM)]), "A WASM component."),
    later("agent", Kind::Table(AGENT), "A coding agent."),
    now("use", Kind::Name, "A template whose keys this task takes."),
    now("with", Kind::Named(&Kind::Any), "Values that the template's texts see as with.NAME."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script; [\"sh\", \"-eu\", \"-c\"] by default."),
    now("needs", Kind::Either(&[LINES, Kind::Line]), "Tasks, instances like build[profile=release], or \"*\"."),
    now("foreach", Kind::Named(&FOREACH), "One instance for each item."),
    now("foreach-batch", Kind::Integer(1, COUNT_MAX), "Items that one instance gets."),
    now("foreach-max", Kind::Integer(1, COUNT_MAX), "The most items of a fan-out; more is an error."),
    now("matrix", Kind::Named(&Kind::Filled(&Kind::Any)), "One instance for each combination."),
    now("matrix-exclude", Kind::List(&Kind::Named(&Kind::Any)), "Combinations to leave out."),
    now(
        "matrix-include",
        Kind::List(&Kind::Named(&Kind::Any)),
        "Pairs to add to combinations, or combinations to add.",
    ),
    now("if", Kind::Either(&[Kind::Flag, Kind::Line]), "An expression; false skips the instance."),
    now("env", Kind::Named(&ENV_VALUE), "Variables for the work and its checks."),
    now("outputs", Kind::Named(&Kind::Table(OUTPUT)), "Values that dependents see."),
    now("artifacts", PATHS_INSIDE, "Globs of files to keep beside the change."),
    now("writes", PATHS_INSIDE, "Globs of what it may change; [] is nothing, without the key anything."),
    now(
        "check",
        Kind::Either(&[CHECKS, Kind::Line, Kind::Table(CHECK_KEYS)]),
        "Commands that have to pass after the work.",
    ),
    now("retry", Kind::Either(&[Kind::Integer(0, 100), Kind::Table(RETRY)]), "What happens after a failed attempt."),
    now("timeout", Kind::Duration, "Wall time of one attempt."),
    now(
        "resources",
        Kind::Named(&Kind::Integer(0, COUNT_MAX)),
        "Parts of the plan's capacities that an instance takes.",
    ),
    now("priority", Kind::Integer(i32::MIN as i64, i32::MAX as i64), "Larger starts earlier."),
    now("allow-failure", Kind::Flag, "Dependents run although it failed, without its change."),
    now("sandbox", Kind::Name, "The policy it runs under."),
    later("cache", Kind::Flag, "Reuses a recorded result with the same key."),
    later("metrics", Kind::Table(METRICS), "Numbers that an experiment measures."),
    later("repeat", Kind::Table(REPEAT), "Runs it several times."),
    later("prune", Kind::Table(PRUNE), "Ends hopeless instances early."),
    later("attempts", Kind::Table(ATTEMPTS), "Takes the best of several attempts."),
    later("until", Kind::Table(UNTIL), "Repeats work and verification."),
    later("review", Kind::List(&Kind::Line), "Tasks whose diff it reads."),
    later("expands", Kind::Table(EXPANDS), "Its output is a list of new tasks."),
];

const ENV_VALUE: Kind = Kind::Either(&[Kind::Text, Kind::Integer(i64::MIN, i64::MAX), Kind::Flag]);

const FOREACH: Kind = Kind::Either(&[Kind::List(&Kind::Any), Kind::Line, Kind::Table(FOREACH_KEYS)]);

const FOREACH_KEYS: &[Key] = &[
    now("glob", Kind::Either(&[Kind::Inside, Kind::Filled(&Kind::Inside)]), "Files of the base tree."),
    now("lines", COMMAND, "The lines that a command prints."),
];

const COMMAND_KEYS: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments, without a shell."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time."),
];

const CHECKS: Kind = Kind::List(&Kind::Either(&[Kind::Line, Kind::Table(CHECK_KEYS)]));

const CHECK_KEYS: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments, without a shell."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time."),
    now("expect-fail-before", Kind::Flag, "It has to fail before the work."),
];

const OUTPUT: &[Key] = &[
    now("json", Kind::Inside, "A JSON file in $SWARM_ARTIFACTS."),
    now("text", Kind::Inside, "A text file in $SWARM_ARTIFACTS."),
    now("lines", Kind::Inside, "A file in $SWARM_ARTIFACTS, a list of its lines."),
];

const RETRY: &[Key] = &[
    now("max", Kind::Integer(0, 100), "Attempts after the first."),
    now(
        "on",
        Kind::List(&Kind::Choice(&[
            ("infra", Since::Now),
            ("timeout", Since::Now),
            ("exit", Since::Now),
            ("conflict", Since::Now),
        ])),
        "The ends that are tried again.",
    ),
    now(
        "backoff",
        Kind::Choice(&[("none", Since::Now), ("linear", Since::Now), ("exponential", Since::Now)]),
        "How the wait grows.",
    ),
    now("delay", Kind::Duration, "The first wait."),
    now("max-delay", Kind::Duration, "The longest wait."),
    now("jitter", Kind::Flag, "Whether waits are spread."),
];

const MERGE: &[Key] = &[
    now(
        "mode",
        Kind::Choice(&[("train", Since::Now), ("none", Since::Now)]),
        "train merges; none allows no change at all.",
    ),
    now("into", Kind::Line, "The target branch; swarm/{{ run.name }} by default."),
    now(
        "history",
        Kind::Choice(&[("squash", Since::Now), ("keep", Since::Later)]),
        "One commit an instance, or the worker's own.",
    ),
    later("verify", Kind::Either(&[Kind::Line, Kind::Table(VERIFY)]), "What has to pass on the merged tree."),
    now(
        "on-conflict",
        Kind::Filled(&Kind::Choice(&[("rerun", Since::Later), ("resolve", Since::Later), ("park", Since::Now)])),
        "What happens to a change that conflicts.",
    ),
    later("resolver", Kind::Table(RESOLVER), "Resolves conflicts."),
    later("union", PATHS_INSIDE, "Files of which both sides' lines are kept."),
    later("regenerate", Kind::List(&Kind::Table(REGENERATE)), "Files that a command makes again."),
    now(
        "publish",
        Kind::Choice(&[("prefix", Since::Now), ("all-or-nothing", Since::Later)]),
        "When green results land.",
    ),
];

const VERIFY: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time."),
    now("batch", Kind::Either(&[Kind::Line, Kind::Integer(1, COUNT_MAX)]), "Changes verified at once."),
    now("parallel", Kind::Integer(1, 4096), "Verifications at once."),
    now("retry", Kind::Integer(0, 100), "Tries after a red one."),
];

const RESOLVER: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
    now("model", Kind::Name, "A model."),
    now("prompt", Kind::Line, "What it is told."),
    now("prompt-file", Kind::Inside, "A file with what it is told."),
];

const REGENERATE: &[Key] = &[
    now("paths", Kind::Filled(&Kind::Inside), "The files."),
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
];

const SELECT: &[Key] = &[
    now("from", Kind::Name, "The task whose instances compete."),
    now("goal", Kind::Line, "min or max of a metric."),
    now("require", LINES, "Expressions that a winner satisfies."),
    now("tie-break", LINES, "What decides between equals."),
    now("keep", Kind::Integer(1, COUNT_MAX), "How many win."),
];

const WASM: &[Key] = &[
    now("module", Kind::Line, "The component's file."),
    now("args", Kind::List(&Kind::Text), "Its arguments."),
    now("fuel", Kind::Integer(1, i64::MAX), "Instructions it may execute."),
];

const AGENT: &[Key] = &[
    now("prompt", Kind::Line, "What it is told."),
    now("prompt-file", Kind::Inside, "A file with what it is told."),
    now("model", Kind::Name, "A model."),
    now("command", Kind::Line, "A tool of its own."),
];

const METRICS: &[Key] =
    &[now("file", Kind::Inside, "A JSON file."), now("keys", Kind::Filled(&Kind::Line), "What to take from it.")];

const REPEAT: &[Key] =
    &[now("times", Kind::Integer(1, COUNT_MAX), "How often."), now("reduce", Kind::Line, "How results become one.")];

const PRUNE: &[Key] = &[
    now("after", Kind::Integer(1, COUNT_MAX), "Results to wait for."),
    now("keep-top", Kind::Number(0.0, 1.0), "The part that goes on."),
];

const ATTEMPTS: &[Key] =
    &[now("best-of", Kind::Integer(1, COUNT_MAX), "How many."), now("goal", Kind::Line, "min or max of a metric.")];

const UNTIL: &[Key] = &[
    now("check", Kind::Either(&[CHECKS, Kind::Line]), "What has to pass."),
    now("verifier", Kind::Table(AGENT), "Who looks at it."),
    now("max", Kind::Integer(1, 100), "Rounds."),
];

const EXPANDS: &[Key] = &[
    now("template", Kind::Filled(&Kind::Name), "Templates that new tasks may use."),
    now("max-tasks", Kind::Integer(1, COUNT_MAX), "How many."),
    now("max-depth", Kind::Integer(1, 16), "How deep."),
];

/// Whether `name` is `[A-Za-z0-9_-]+` and not longer than a file name may be.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// The longest name of a task, variable or policy, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 100;
