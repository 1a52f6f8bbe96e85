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
    /// A number from 0 to this one.
    FromZero(f64),
    /// A model: the name of an entry, or `provider/model`.
    Model,
    /// `true` or `false`.
    Flag,
    /// `30m`.
    Duration,
    /// `4GiB`, of so many bytes at least.
    Size(u64),
    /// A path or glob inside the tree: relative, without `..`.
    Inside,
    /// A path outside the tree: absolute or `~/…`.
    Outside,
    /// A host that may be reached: `example.org:443`.
    Host,
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
    now(
        "include",
        Kind::List(&Kind::Line),
        "Files whose [templates], [vars], [sandbox.*] and [models.*] join this plan.",
    ),
    now("vars", Kind::Named(&Kind::Any), "Values for templates; `--set key=value` overrides."),
    now("resources", Kind::Named(&Kind::Integer(0, COUNT_MAX)), "Capacities that tasks take parts of."),
    now("budget", Kind::Table(BUDGET), "What the run may spend on models: hard, reserved before each call."),
    now("workspace", Kind::Table(WORKSPACE), "How each worktree is made."),
    now("defaults", Kind::Table(TASK), "Keys that every task has unless it says otherwise."),
    now("templates", Kind::Named(&Kind::Table(TASK)), "Named sets of task keys, taken by `use`."),
    now("sandbox", Kind::Named(&Kind::Table(SANDBOX)), "Named policies."),
    now("models", Kind::Named(&Kind::Table(MODEL)), "Models that tasks and agents ask."),
    now(
        "servers",
        Kind::Named(&Kind::Table(SERVER)),
        "Servers of tools for agents (Model Context Protocol): programs in the cage.",
    ),
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
    now("models", Kind::Named(&Kind::Table(MODEL)), "Models that tasks and agents ask."),
    now(
        "servers",
        Kind::Named(&Kind::Table(SERVER)),
        "Servers of tools for agents (Model Context Protocol): programs in the cage.",
    ),
];

/// A person's own configuration: `~/.config/swarm/config.toml`.
pub(crate) const CONFIG: &[Key] = &[
    now("models", Kind::Named(&Kind::Table(MODEL)), "Models that tasks and agents ask; they win over a plan's."),
    now("servers", Kind::Named(&Kind::Table(SERVER)), "Servers of tools for agents; they win over a plan's."),
    now("allow", Kind::List(&Kind::Table(ALLOW)), "What plans of a repository may ask for, as --allow says it."),
];

const ALLOW: &[Key] = &[
    now("repository", Kind::Outside, "The repository's folder, or one that holds several."),
    now("env", Kind::List(&Kind::Line), "Names of variables that policies may let through."),
    now("read", PATHS_OUTSIDE, "Paths, and all below them, that policies may show."),
    now("write", PATHS_OUTSIDE, "Paths, and all below them, that policies may let be written."),
    now("network", Kind::List(&Kind::Host), "Hosts that policies may reach, as `network` names them."),
];

const MODEL: &[Key] = &[
    now(
        "provider",
        Kind::Choice(&[
            ("anthropic", Since::Now),
            ("openai", Since::Now),
            ("openai-responses", Since::Now),
            ("gemini", Since::Now),
            ("ollama", Since::Now),
            ("openrouter", Since::Now),
        ]),
        "Whose API it is asked through; openai is Chat Completions, which vLLM, llama.cpp and most others speak.",
    ),
    now("model", Kind::Line, "The model as its provider names it."),
    now("base-url", Kind::Line, "Where the API is: \"http://127.0.0.1:8080/v1\"; the provider's own place by default."),
    now("key", Kind::Table(KEY), "Where its key comes from; by default the provider's variable."),
    now("prices", Kind::Table(PRICES), "Dollars for a million tokens; without them calls are unpriced."),
    now("context", Kind::Integer(1, COUNT_MAX), "Tokens that fit into a request and its answer."),
    now("output-max", Kind::Integer(1, COUNT_MAX), "Tokens of an answer."),
    now(
        "idle-timeout",
        Kind::Duration,
        "How long it may be silent within an answer; three times that where it only keeps the connection open. 5 minutes by default.",
    ),
    now("fallbacks", Kind::List(&Kind::Model), "Models that are asked in its place when it does not answer, in order."),
];

const SERVER: &[Key] = &[
    now("argv", Kind::Filled(&Kind::Text), "A program inside the cage, and its arguments."),
    now("env", Kind::Named(&Kind::Text), "Variables of the program beside the task's."),
    now("url", Kind::Line, "Where it is; the coordinator speaks with it. Only in your own configuration."),
    now("token", Kind::Table(KEY), "Where a token comes from that it wants to see."),
    now(
        "client",
        Kind::Table(CLIENT),
        "An id and a secret for which its authorization server gives a token (OAuth 2).",
    ),
    now("login", Kind::Table(LOGIN), "You sign in to it in a browser: `swarm login NAME` (OAuth 2)."),
    now("tools", Kind::Filled(&Kind::Line), "Its tools that agents see, `*` at the end for any rest; all by default."),
    now("timeout", Kind::Duration, "For its start and each of its calls; 1 minute by default."),
];

const CLIENT: &[Key] = &[
    now("id", Kind::Line, "Who asks."),
    now("secret", Kind::Table(KEY), "Where its secret comes from."),
    now("scopes", Kind::List(&Kind::Line), "What is asked for."),
];

const LOGIN: &[Key] = &[
    now("id", Kind::Line, "The client that it knows swarm by; by default swarm introduces itself."),
    now("scopes", Kind::List(&Kind::Line), "What is asked for; by default what the server names."),
];

const KEY: &[Key] = &[
    now("env", Kind::Line, "A variable of yours."),
    now("command", Kind::Filled(&Kind::Text), "A program and its arguments that print it."),
];

const PRICES: &[Key] = &[
    now("input", Kind::FromZero(1e6), "Of the request."),
    now("output", Kind::FromZero(1e6), "Of the answer."),
    now("cache-read", Kind::FromZero(1e6), "Of the request, read from the provider's cache; as `input` by default."),
    now("cache-write", Kind::FromZero(1e6), "Of the request, written to the provider's cache; as `input` by default."),
    now("cache-write-1h", Kind::FromZero(1e6), "The same for an hour (`ttl`); twice `input` by default."),
];

const BUDGET: &[Key] = &[
    now("usd", Kind::Number(0.0, 1e9), "Dollars; a model without prices is refused then."),
    now("tokens", Kind::Integer(1, i64::MAX), "Tokens in and out."),
    now("time", Kind::Duration, "Time that models are asked, summed over calls."),
];

const TASK_BUDGET: &[Key] = &[
    now("usd", Kind::Number(0.0, 1e9), "Dollars; a model without prices is refused then."),
    now("tokens", Kind::Integer(1, i64::MAX), "Tokens in and out."),
    now("time", Kind::Duration, "Time that models are asked, summed over calls."),
    now("attempt", Kind::Table(BUDGET), "The same for each attempt of each instance."),
];

const WORKSPACE: &[Key] = &[
    now("copy", PATHS_INSIDE, "Untracked files that every worktree gets; for credentials a person says --allow."),
    now("setup", COMMAND, "Runs once on the base; its result is the layer that all worktrees share."),
    now("cache", PATHS_INSIDE, "Ignored folders of the checkout that worktrees see copy-on-write."),
    now(
        "sparse",
        Kind::Filled(&Kind::Inside),
        "Globs of the files that tasks find; beside them what the run changed elsewhere. `verify` and `regenerate` see all.",
    ),
];

/// Whether a name is a key of `[sandbox.NAME]`.
pub(crate) fn is_of_a_policy(name: &str) -> bool {
    SANDBOX.iter().any(|key| key.name == name)
}

/// Bytes of memory below which the kernel ends a job before its command has begun.
const MEMORY_MIN: u64 = 1 << 20;

const SANDBOX: &[Key] = &[
    now(
        "tier",
        Kind::Choice(&[("wasm", Since::Now), ("namespaces", Since::Now), ("landlock", Since::Now)]),
        "The weakest cage that is acceptable; wasm accepts all, as no job runs without one of the others.",
    ),
    now(
        "read",
        PATHS_OUTSIDE,
        "Readable beside the system's own folders; outside of the default view a person says --allow.",
    ),
    now("write", PATHS_OUTSIDE, "Writable beside the worktree and the private tmp and home; a person says --allow."),
    now(
        "cow",
        PATHS_OUTSIDE,
        "Folders seen copy-on-write: writable inside, thrown away afterwards; --allow as for `read`.",
    ),
    now("tools", Kind::List(&Kind::Name), "Toolchain presets; by default what is on the caller's PATH."),
    now(
        "hide",
        LINES,
        "Unreadable although inside an allowed tree. What git tracks stays readable through git: its objects are in the cage.",
    ),
    now(
        "network",
        Kind::Either(&[Kind::Choice(&[("none", Since::Now), ("host", Since::Now)]), Kind::List(&Kind::Host)]),
        "none: its own loopback. A list: these hosts, through a proxy: example.org (ports 80 and 443), \
         example.org:8443, *.example.net:443 (not example.net itself), raw:example.org:22 (any protocol). \
         host: the host's network; needs --allow-host-network.",
    ),
    now(
        "env",
        Kind::List(&Kind::Line),
        "Names of variables let through; everything else is scrubbed. For a credential a person says --allow.",
    ),
    now(
        "secrets",
        Kind::List(&Kind::Line),
        "Names of variables let through and masked in every log; a person says --allow.",
    ),
    now("memory", Kind::Size(MEMORY_MIN), "Memory of the whole process tree, 1MiB at least."),
    now("processes", Kind::Integer(1, COUNT_MAX), "Processes and threads."),
    now("disk", Kind::Size(1), "What may be written."),
    now("files", Kind::Integer(1, COUNT_MAX), "Files that may be made."),
    now("cpu", Kind::Number(0.0, 4096.0), "Processors."),
    now("require", Kind::List(&Kind::Name), "What has to be enforced; missing on the machine is a refusal."),
];

/// A task, a template, or the defaults.
pub(crate) const TASK: &[Key] = &[
    now("run", Kind::Line, "A script for the shell: sh -eu."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments, without a shell."),
    now(
        "wasm",
        Kind::Either(&[Kind::Line, Kind::Table(WASM)]),
        "A WebAssembly module or component: WASI preview 1 or 2.",
    ),
    now("agent", Kind::Table(AGENT), "A coding agent: a model with tools, in the cage of any task."),
    now("use", Kind::Name, "A template whose keys this task takes."),
    now("with", Kind::Named(&Kind::Any), "Values that the template's texts see as with.NAME."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script; [\"sh\", \"-eu\", \"-c\"] by default."),
    now("needs", Kind::Either(&[LINES, Kind::Line]), "Tasks, instances like build[profile=release], or \"*\"."),
    now("foreach", Kind::Named(&FOREACH), "One instance for each item."),
    now("foreach-batch", Kind::Integer(1, COUNT_MAX), "Items that one instance gets."),
    now(
        "foreach-max",
        Kind::Integer(1, COUNT_MAX),
        "The most items of a fan-out, however many foreach-batch gives to an instance; more is an error.",
    ),
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
    now(
        "models",
        Kind::List(&Kind::Model),
        "Models that its programs may ask, the first by default: each finds ANTHROPIC_BASE_URL, OPENAI_BASE_URL … and a \
         placeholder for the key in its environment.",
    ),
    now("budget", Kind::Table(TASK_BUDGET), "What all its instances and attempts together may spend on models."),
    now(
        "cache",
        Kind::Either(&[Kind::Flag, Kind::Table(CACHE)]),
        "Takes a recorded result instead of running when nothing changed that the result depends on.",
    ),
    later("metrics", Kind::Table(METRICS), "Numbers that an experiment measures."),
    later("repeat", Kind::Table(REPEAT), "Runs it several times."),
    later("prune", Kind::Table(PRUNE), "Ends hopeless instances early."),
    later("attempts", Kind::Table(ATTEMPTS), "Takes the best of several attempts."),
    now("until", Kind::Table(UNTIL), "Repeats an agent's work until its checks pass and its verifier approves."),
    now(
        "review",
        Kind::Filled(&Kind::Line),
        "Tasks whose changes its agent reads before they count; what it finds goes back to them.",
    ),
    now("expands", Kind::Table(EXPANDS), "Its output is a list of new tasks."),
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

const CACHE: &[Key] = &[
    now("inputs", PATHS_INSIDE, "Globs of the files that the result depends on; without the key the whole tree."),
    now("fingerprint", COMMAND, "Its output belongs to what the result depends on: \"rustc -vV\"."),
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
        "train merges; none allows no change at all, and no other key of this table.",
    ),
    now("into", Kind::Line, "The target branch; swarm/{{ run.name }} by default."),
    now(
        "history",
        Kind::Choice(&[("squash", Since::Now), ("keep", Since::Now)]),
        "One commit an instance, or the worker's own as one line, by the authors and with the messages that it gave them.",
    ),
    now("verify", Kind::Either(&[Kind::Line, Kind::Table(VERIFY)]), "What has to pass on the merged tree."),
    now(
        "on-conflict",
        Kind::Filled(&Kind::Choice(&[("rerun", Since::Now), ("resolve", Since::Now), ("park", Since::Now)])),
        "What happens to a change that conflicts.",
    ),
    now("resolver", Kind::Either(&[Kind::Line, Kind::Table(RESOLVER)]), "Resolves conflicts."),
    now("union", PATHS_INSIDE, "Files of which both sides' lines are kept."),
    now(
        "regenerate",
        Kind::List(&Kind::Table(REGENERATE)),
        "Files that a command makes again from the merged tree wherever two changes meet in them.",
    ),
    now("publish", Kind::Choice(&[("prefix", Since::Now), ("all-or-nothing", Since::Now)]), "When green results land."),
    now(
        "overlap",
        Kind::Choice(&[("parallel", Since::Now), ("serialize", Since::Now)]),
        "Tasks whose `writes` overlap: side by side, or one after the other in merge order.",
    ),
];

const VERIFY: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time of one verification."),
    now("sandbox", Kind::Name, "The policy it runs under; `default` by default."),
    now(
        "batch",
        Kind::Either(&[Kind::Line, Kind::Integer(1, COUNT_MAX)]),
        "Changes verified at once: \"auto\", all that wait.",
    ),
    now("parallel", Kind::Integer(1, 64), "Verifications at once."),
    now("retry", Kind::Integer(0, 100), "Tries after a red one; 1 by default."),
    now("fingerprint", COMMAND, "What is green is asked again when its output is another: \"rustc -vV\"."),
];

const RESOLVER: &[Key] = &[
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time."),
    now("sandbox", Kind::Name, "The policy it runs under; `default` by default."),
    now("model", Kind::Model, "An agent settles it, in place of a command: its model."),
    now("prompt", Kind::Line, "What the agent is told beside the conflict and both sides' tasks."),
    now("prompt-file", Kind::Inside, "A file of the tree with what it is told."),
];

const REGENERATE: &[Key] = &[
    now("paths", Kind::Filled(&Kind::Inside), "The files, and all that the command may change."),
    now("run", Kind::Line, "A script for the shell."),
    now("argv", Kind::Filled(&Kind::Text), "A program and its arguments."),
    now("shell", Kind::Filled(&Kind::Line), "The program before a script."),
    now("timeout", Kind::Duration, "Wall time."),
    now("sandbox", Kind::Name, "The policy it runs under; `default` by default."),
];

const SELECT: &[Key] = &[
    now("from", Kind::Name, "The task whose instances compete."),
    now("goal", Kind::Line, "min or max of a metric."),
    now("require", LINES, "Expressions that a winner satisfies."),
    now("tie-break", LINES, "What decides between equals."),
    now("keep", Kind::Integer(1, COUNT_MAX), "How many win."),
];

const WASM: &[Key] = &[
    now("module", Kind::Line, "Its file: a path in the tree, or $SWARM_NEEDS/INSTANCE/FILE."),
    now("args", Kind::List(&Kind::Text), "Its arguments."),
    now(
        "fuel",
        Kind::Integer(1, i64::MAX),
        "Instructions it may execute; clocks and random numbers are then the same every time.",
    ),
];

const AGENT: &[Key] = &[
    now("prompt", Kind::Line, "What it is told; a template."),
    now(
        "prompt-file",
        Kind::Inside,
        "A file of the tree with what it is told, as it stands; `prompt` follows behind it.",
    ),
    now("model", Kind::Line, "A name of [models], or provider/model; `main` by default."),
    now(
        "directory",
        Kind::Inside,
        "The folder that its work is about: instruction files are read from the root down to it.",
    ),
    now("turns", Kind::Integer(1, 10_000), "Answers of the model; 100 by default."),
    now(
        "tokens",
        Kind::Integer(1, i64::MAX),
        "Tokens in and out, over all turns of an attempt; set aside before each request.",
    ),
    now("output-tokens", Kind::Integer(16, 1_000_000), "Tokens of one answer; by default the model's, or 16384."),
    now(
        "context-tokens",
        Kind::Integer(1024, 100_000_000),
        "Size of the model's context; by default as its entry in [models] says, or 200000.",
    ),
    now(
        "mode",
        Kind::Choice(&[("read-only", Since::Now), ("workspace-write", Since::Now), ("full", Since::Now)]),
        "What it may do where no rule speaks; workspace-write by default. The cage holds it in every mode.",
    ),
    now("allow", LINES, "Rules: what needs no asking: bash(cargo test *), web_fetch(docs.rs)."),
    now("ask", LINES, "Rules: what a person has to allow each time; without a person it is denied."),
    now("deny", LINES, "Rules: what never happens; a deny wins over everything."),
    now("tools", Kind::Filled(&Kind::Line), "The tools that it sees, `*` at the end for any rest; all by default."),
    now("servers", Kind::List(&Kind::Name), "Names of [servers] whose tools it sees."),
    now("hooks", Kind::List(&Kind::Table(HOOK)), "Programs in its cage that its calls pass, in order."),
    now(
        "language-servers",
        Kind::Choice(&[("when-installed", Since::Now), ("never", Since::Now)]),
        "Whether language servers tell it what is wrong with a file that it changed; when-installed by default.",
    ),
    now(
        "submits",
        Kind::Choice(&[("plan", Since::Now)]),
        "What it hands over through a tool that checks it: plan, a plan as its output `plan`; without one it has failed.",
    ),
    later("command", Kind::Line, "A tool of its own."),
];

const HOOK: &[Key] = &[
    now(
        "event",
        Kind::Choice(&[
            ("PreToolUse", Since::Now),
            ("PostToolUse", Since::Now),
            ("PostToolUseFailure", Since::Now),
            ("SessionStart", Since::Now),
            ("SessionEnd", Since::Now),
            ("Stop", Since::Now),
            ("PreCompact", Since::Now),
        ]),
        "When it is asked or told. A PreToolUse hook that crashes or hangs refuses the call.",
    ),
    now("tools", Kind::Line, "For which tools, `|` between several, `*` at the end for any rest; all by default."),
    now("run", Kind::Line, "A script for sh -c: JSON on standard input, exit status 2 or JSON as its answer."),
    now("timeout", Kind::Duration, "How long it may take; 1 minute by default."),
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
    now("check", Kind::Either(&[CHECKS, Kind::Line, Kind::Table(CHECK_KEYS)]), "What has to pass."),
    now("verifier", Kind::Table(AGENT), "An agent with a fresh context that looks at the change, and may only look."),
    now("max", Kind::Integer(1, 100), "Attempts, the first included; 5 by default."),
];

const EXPANDS: &[Key] = &[
    now("template", Kind::Filled(&Kind::Name), "Templates that new tasks may use."),
    now("max-tasks", Kind::Integer(1, COUNT_MAX), "How many."),
    now("max-depth", Kind::Integer(1, 16), "How deep."),
];

/// Whether `name` is `[A-Za-z0-9_-]+` and not longer than a file name may be.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// What a name is, for people.
pub const NAMES: &str = "names consist of A-Z a-z 0-9 _ - and have at most 100 letters";

/// The longest name of a task, variable or policy, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 100;
