//! What agents are given beside their own tools, in whole runs: a project's rules, hooks, skills, servers of tools and notes,
//! all inside of the cage.

use serde_json::{Value, json};
use swarm_tests::{Answers, Repository, Swarm};

/// A server of tools as a shell script: one tool, which repeats a variable.
const SERVER: &[u8] = br#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"say.it","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"method":"tools/call"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"heard %s"}]}}\n' "$id" "$TOKEN" ;;
    *'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
  esac
done
"#;

const NOTEBOOK: &[u8] =
    br##"{"cells": [{"cell_type": "code", "source": ["x = 1"], "metadata": {}, "outputs": []}], "nbformat": 4}"##;

const PROJECT: &[u8] = br#"
allow = ["bash(git push)"]
deny = ["read(secret.txt)"]

[[hooks]]
event = "PreToolUse"
tools = "bash"
run = "if grep -q forbidden; then echo not in this house >&2; exit 2; fi"
"#;

fn house(more: &[(&str, &[u8])]) -> Repository {
    let mut files: Vec<(&str, &[u8])> = vec![
        ("src/lib.rs", b"pub fn two() -> u32 {\n    1\n}\n"),
        ("secret.txt", b"the password is swordfish\n"),
        ("notes.ipynb", NOTEBOOK),
        ("server.sh", SERVER),
        (".swarm/skills/testing/SKILL.md", b"---\ndescription: When tests are run.\n---\nRun them twice.\n"),
    ];
    files.extend_from_slice(more);
    Repository::with(&files)
}

/// What the calls of a task's first attempt gave: content and status, in order.
fn results(repository: &Repository, task: &str) -> Vec<(String, String)> {
    let runs = std::fs::read_dir(repository.path().join(".git/swarm/runs")).expect("runs");
    let run = runs.map(|entry| entry.expect("an entry").path()).max().expect("a run");
    let text = std::fs::read_to_string(run.join(task).join("1/transcript.jsonl")).expect("a transcript");
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an entry"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let results = entries.filter(|entry| entry["entry"] == "results");
    let all = results.flat_map(|entry| entry["results"].as_array().expect("results").clone());
    all.map(|result| (text(&result["content"]), text(&result["status"]))).collect()
}

const PLAN: &str = r#"
    [servers.house]
    argv = ["sh", "server.sh"]
    env = { TOKEN = "t1" }
    [tasks.fix]
    writes = ["src/**", "notes.ipynb"]
    [tasks.fix.agent]
    prompt = "Let two() be 2."
    servers = ["house"]
    allow = ["mcp__house__*"]
    language-servers = "never"
    hooks = [{ event = "PostToolUse", tools = "edit|write", run = "cat >> $SWARM_ARTIFACTS/edits.json" }]
    [tasks.after]
    needs = ["fix"]
    run = "cat $SWARM_NEEDS/fix/notes.md; grep -o '\"tool_name\":\"edit\"' $SWARM_NEEDS/fix/edits.json"
"#;

#[test]
fn rules_hooks_skills_servers_and_notes_work_inside_the_cage() {
    work_inside(Some);
}

#[test]
fn they_work_inside_the_weaker_cage() {
    work_inside(Swarm::without_namespaces);
}

fn work_inside(tier: fn(Swarm) -> Option<Swarm>) {
    let repository = house(&[(".swarm/agent.toml", PROJECT)]);
    let look: &[(&str, Value)] = &[
        ("repo_map", json!({})),
        ("grep", json!({"pattern": "swordfish"})),
        ("read", json!({"path": "secret.txt"})),
        ("skill", json!({"name": "testing"})),
        ("bash", json!({"script": "echo forbidden"})),
        ("bash", json!({"script": "chmod 755 src/lib.rs && touch -d 2001-01-01 src/lib.rs && echo fine"})),
        ("mcp__house__say_it", json!({})),
    ];
    let act: &[(&str, Value)] = &[
        ("read", json!({"path": "notes.ipynb"})),
        ("notebook_edit", json!({"path": "notes.ipynb", "action": "replace", "cell": 1, "source": "x = 2"})),
        ("read", json!({"path": "src/lib.rs"})),
        ("edit", json!({"path": "src/lib.rs", "old": "    1", "new": "    2"})),
        ("note", json!({"text": "two() was wrong"})),
    ];
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[("", look), ("", act), ("", &[("finish", json!({"status": "done", "summary": "two() is 2"}))])],
    );
    let Some(swarm) = tier(Swarm::run(&repository, "it", PLAN)) else { return };
    let ended = swarm.args(&["--replay", answers.folder()]).exits(0);
    let results = results(&repository, "fix");
    let given = |at: usize| results.get(at).map_or(("", ""), |(content, status)| (content.as_str(), status.as_str()));
    assert_eq!(given(0), ("src/lib.rs\n    1  pub fn two() -> u32\n", "ok"), "{ended}");
    assert_eq!(given(1), ("nothing matches `swordfish`", "ok"));
    assert_eq!(given(2), ("not allowed: rule `read(secret.txt)` denies it", "error"));
    assert!(given(3).0.ends_with("Run them twice."), "{:?}", given(3));
    assert_eq!(given(4), ("not allowed: not in this house", "error"));
    assert_eq!(given(5), ("fine\n", "ok"));
    assert_eq!(given(6), ("heard t1", "ok"));
    assert!(given(7).0.starts_with("--- cell 1 (code)\nx = 1"), "{:?}", given(7));
    assert!(results.len() == 13 && results[8..].iter().all(|(_, status)| status == "ok"), "{results:?}");
    assert!(repository.text("swarm/it", "src/lib.rs").contains("    2"));
    let git = repository.git();
    let entry = git.revparse_single("swarm/it").and_then(|tip| tip.peel_to_tree()?.get_path("src/lib.rs".as_ref()));
    assert_eq!(entry.map(|entry| entry.filemode()), Ok(0o100_755), "its mode is kept");
    assert!(repository.text("swarm/it", "notes.ipynb").contains("x = 2"));
    let after = Swarm::new(&repository, &["logs", "after"]).exits(0).out;
    assert!(after.contains("two() was wrong") && after.contains("\"tool_name\":\"edit\""), "{after}");
}

/// A project whose hook is a program of its own, and whose skill is one file.
const CHECKED: &[u8] = br#"
[[hooks]]
event = "PreToolUse"
tools = "bash"
run = "sh ./ci/check"
"#;

#[test]
fn what_an_agent_makes_of_its_projects_hooks_and_skills_is_not_the_projects_word() {
    let repository = house(&[
        (".swarm/agent.toml", CHECKED),
        ("ci/check", b"if grep -q forbidden; then echo not in this house >&2; exit 2; fi\n"),
    ]);
    let plan = "[tasks.fix]\nagent = { prompt = 'x', language-servers = 'never' }\n";
    let skill = ".swarm/skills/testing/SKILL.md";
    let calls: &[(&str, Value)] = &[
        ("bash", json!({"script": "echo forbidden"})),
        ("bash", json!({"script": "echo fine"})),
        ("read", json!({"path": skill})),
        ("write", json!({"path": skill, "text": "Never run them.\n"})),
        ("write", json!({"path": "skills/mine/SKILL.md", "text": "Mine.\n"})),
        ("skill", json!({"name": "testing"})),
        ("skill", json!({"name": "mine"})),
        ("read", json!({"path": "ci/check"})),
        ("write", json!({"path": "ci/check", "text": "exit 0\n"})),
        ("bash", json!({"script": "echo forbidden"})),
    ];
    let turns: Vec<(&str, &[(&str, Value)])> = calls.chunks(1).map(|call| ("", call)).collect();
    let end = [("finish", json!({"status": "done", "summary": "x"}))];
    let turns = [turns, vec![("", &end[..])]].concat();
    let answers = Answers::beside(&repository, "replay").conversation("fix", &turns);
    let ended = Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).exits(0);
    let results = results(&repository, "fix");
    let given = |at: usize| results.get(at).map_or("", |(content, _)| content.as_str());
    assert_eq!((given(0), given(1)), ("not allowed: not in this house", "fine\n"), "{ended}");
    assert!([3, 4, 8].iter().all(|&at| results[at].1 == "ok"), "{results:?}");
    assert!(given(5).ends_with("Run them twice."), "{}", given(5));
    assert!(given(6).contains("there is no skill `mine`") || given(6).contains("mine"), "{}", given(6));
    assert_eq!(results[6].1, "error");
    assert!(
        given(9).contains("its program ci/check is not the plain file that it was before the work"),
        "{}",
        given(9)
    );
}

#[test]
fn a_projects_hook_that_enters_a_folder_or_names_its_own_is_guarded_as_any() {
    for (run, program) in [("cd ci && sh check", "ci/check"), ("sh $PWD/ci/check", "ci/check")] {
        let text = format!("[[hooks]]\nevent = \"PreToolUse\"\ntools = \"bash\"\nrun = \"{run}\"\n");
        let files = [(".swarm/agent.toml", text.as_bytes()), ("ci/check", b"exit 0\n")];
        let repository = house(&files);
        let calls: &[(&str, Value)] = &[
            ("bash", json!({"script": "echo fine"})),
            ("read", json!({"path": program})),
            ("write", json!({"path": program, "text": "mine = 1\n"})),
            ("bash", json!({"script": "echo again"})),
        ];
        let turns: Vec<(&str, &[(&str, Value)])> = calls.chunks(1).map(|call| ("", call)).collect();
        let end = [("finish", json!({"status": "done", "summary": "x"}))];
        let answers =
            Answers::beside(&repository, "replay").conversation("fix", &[turns, vec![("", &end[..])]].concat());
        let plan = "[tasks.fix]\nagent = { prompt = 'x', language-servers = 'never' }\n";
        Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).exits(0);
        let results = results(&repository, "fix");
        assert_eq!(results[0].0, "fine\n", "{run}");
        assert!(
            results[3].0.contains(&format!("its program {program} is not the plain file")),
            "{run}: {}",
            results[3].0
        );
    }
}

#[test]
fn a_server_that_hangs_or_is_not_there_does_not_end_the_run() {
    let repository = house(&[]);
    let plan = r#"
        servers.mute = { argv = ["sleep", "100"], timeout = "1s" }
        servers.gone = { argv = ["no-such-program"] }
        [tasks.fix]
        agent = { prompt = "Do nothing.", servers = ["mute", "gone"], language-servers = "never" }
    "#;
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[("", &[("mcp__mute__x", json!({}))]), ("", &[("finish", json!({"status": "done", "summary": "nothing"}))])],
    );
    Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).exits(0);
    let results = results(&repository, "fix");
    let [(unknown, status), reported] = results.as_slice() else { panic!("{results:?}") };
    assert!(unknown.starts_with("there is no tool `mcp__mute__x`; there are: ") && status == "error", "{results:?}");
    assert_eq!(*reported, ("reported".to_owned(), "ok".to_owned()));
}

#[test]
fn a_projects_file_that_cannot_be_read_stops_the_agent_before_it_begins() {
    let repository = house(&[(".swarm/agent.toml", b"denny = []")]);
    let answers = Answers::beside(&repository, "replay").conversation("fix", &[("Done.", &[])]);
    let plan = "[tasks.fix]\nagent = { prompt = 'x', language-servers = 'never' }";
    Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).exits(1);
    let status = Swarm::new(&repository, &["status"]).exits(0);
    assert!(format!("{status}").contains(".swarm/agent.toml"), "{status}");
}

#[test]
fn servers_that_a_plan_may_not_name_or_nobody_knows_are_refused_before_anything_runs() {
    let repository = house(&[]);
    let plan = "[servers.far]\nurl = 'https://far.example/mcp'\n[tasks.fix]\nagent = { prompt = 'x' }";
    let told = format!("{}", Swarm::run(&repository, "it", plan).exits(2));
    assert!(told.contains("only you can name those") && told.contains("config.toml"), "{told}");
    let plan =
        "[servers.docs]\nargv = ['x']\n[tasks.fix]\nagent = { prompt = 'x', model = 'ollama/x', servers = ['dox'] }";
    let told = format!("{}", Swarm::run(&repository, "it", plan).exits(2));
    assert!(told.contains("the server `dox` is not known") && told.contains("describe it as [servers.dox]"), "{told}");
}
