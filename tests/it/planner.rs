//! Plans that a model writes: what it hands over is checked and comes back until it is in order, grants nothing, and runs only
//! when a person says so.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::Signal;
use serde_json::{Value, json};
use swarm_tests::model_server::chat;
use swarm_tests::{Act, Answers, Block, Ended, ModelServer, Repository, Swarm};

fn house() -> Repository {
    Repository::with(&[
        ("Cargo.toml", "[workspace]\nmembers = ['low', 'top']\nresolver = '2'\n"),
        ("low/Cargo.toml", "[package]\nname = 'low'\nversion = '0.1.0'\nedition = '2021'\n"),
        ("low/src/lib.rs", "pub fn one() {}\n"),
        (
            "top/Cargo.toml",
            "[package]\nname = 'top'\nversion = '0.1.0'\nedition = '2021'\n[dependencies]\nlow = { path = '../low' }\n",
        ),
        ("top/src/lib.rs", "pub fn two() { low::one() }\n"),
        ("web/a.py", "from . import b\n"),
        ("web/b.py", "import os\n"),
    ])
}

const GOOD: &str = r#"version = 1
name = "marks"
[tasks.low]
agent = { prompt = "Put a mark into low/." }
writes = ["low/**"]
check = [{ run = "test -e low/mark", expect-fail-before = true }]
[tasks.others]
needs = ["low"]
foreach.file = { glob = "web/*.py" }
run = "echo '# mark' >> \"$SWARM_FOREACH_FILE\""
writes = ["{{ file }}"]
check = 'grep -q mark "$SWARM_FOREACH_FILE"'
"#;

fn submit(plan: &str) -> (&'static str, Value) {
    ("submit_plan", json!({"plan": plan}))
}

fn finish() -> (&'static str, Value) {
    ("finish", json!({"status": "done", "summary": "a plan"}))
}

fn planner(repository: &Repository, folder: &str, turns: &[(&str, &[(&str, Value)])]) -> Answers {
    Answers::beside(repository, folder).conversation("planner", turns)
}

fn plan(repository: &Repository, answers: &Answers, more: &[&str]) -> Ended {
    let swarm = Swarm::new(repository, &["plan", "put marks everywhere", "--replay", answers.folder()]).args(more);
    // The person's own rustup, where cargo comes from one: a test's home has none.
    let rustup = std::env::var("RUSTUP_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.rustup")));
    swarm.env("RUSTUP_HOME", &rustup.unwrap_or_default()).end()
}

/// Has the person's `main` be the server's.
fn configure(repository: &Repository, server: &ModelServer, more: &str) {
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    let model = format!("[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{}'\n{more}", server.url());
    std::fs::write(folder.join("config.toml"), model).expect("space");
}

fn log(repository: &Repository) -> String {
    Swarm::new(repository, &["logs", "planning-1", "planner"]).exits(0).out
}

#[test]
fn a_plan_comes_back_until_it_is_in_order_and_is_printed() {
    let repository = house();
    let greedy =
        GOOD.replace("[tasks.low]", "[sandbox.default]\nnetwork = \"host\"\nsecrets = [\"TOKEN\"]\n[tasks.low]");
    let vague = GOOD.replace("writes = [\"low/**\"]\n", "");
    let look = ("dependencies", json!({}));
    let answers = planner(
        &repository,
        "replay",
        &[
            ("I look around.", &[look, ("write", json!({"path": "x", "text": "x"}))]),
            ("", &[submit(&greedy)]),
            ("", &[submit(&vague)]),
            ("", &[submit(GOOD)]),
            ("", &[finish()]),
        ],
    );
    let ended = plan(&repository, &answers, &[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.out.ends_with(GOOD) && ended.out.contains("#   put marks everywhere"), "{ended}");
    for words in
        ["low", "others ×2", "estimate, without retries: unpriced", "1 agent of main, 300000 tokens each (assumed)"]
    {
        assert!(ended.err.contains(words), "{words} is not in {ended}");
    }
    let log = log(&repository);
    for words in [
        "level 1\n  │   low (low)",
        "top (top)  needs low (low)",
        "web/a.py  needs web/b.py",
        "`sandbox` is not for plans that a model writes",
        "`low` does not say what it may change",
        "the plan is accepted, with 3 instances",
    ] {
        assert!(log.contains(words), "{words} is not in\n{log}");
    }
    assert!(repository.commit_of("swarm/planning").is_none(), "looking leaves no branch");
}

#[test]
fn a_file_is_written_once() {
    let repository = house();
    let turns: &[(&str, &[(&str, Value)])] = &[("", &[submit(GOOD)]), ("", &[finish()])];
    let answers = planner(&repository, "replay", turns);
    let to = repository.beside("made.toml");
    let to = to.to_str().expect("plain names");
    assert_eq!(plan(&repository, &answers, &["-o", to]).code, 0);
    let check = Swarm::new(&repository, &["check", to]).end();
    assert!(check.err.contains("the model `main` is not known"), "its agents need a model: {check}");
    let again = plan(&repository, &answers, &["-o", to]);
    assert_eq!(again.code, 2, "{again}");
    assert!(again.err.contains("it is there already") && again.err.contains("--force"), "{again}");
    assert_eq!(plan(&repository, &answers, &["-o", to, "--force"]).code, 0);
}

#[test]
fn an_agent_that_hands_over_nothing_good_has_failed_and_nothing_is_written() {
    let repository = house();
    let evil = GOOD.replace("Put a mark", "{{ env.HOME }}");
    let answers = planner(&repository, "replay", &[("", &[submit(&evil)]), ("", &[finish()])]);
    let to = repository.beside("made.toml");
    let ended = plan(&repository, &answers, &["-o", to.to_str().expect("plain names")]);
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.err.contains("no plan that passes the check") && ended.err.contains("environment"), "{ended}");
    assert!(!to.exists() && ended.out.is_empty(), "{ended}");
    let lazy = planner(&repository, "lazy", &[("I would rather not.", &[])]);
    let ended = plan(&repository, &lazy, &[]);
    assert!(ended.code == 1 && ended.err.contains("it handed over no plan"), "{ended}");
}

#[test]
fn a_goal_is_planned_and_run_after_a_yes_only() {
    let repository = house();
    planner(&repository, "replay/plan", &[("", &[submit(GOOD)]), ("", &[finish()])]);
    let mark: &[(&str, Value)] = &[("write", json!({"path": "low/mark", "text": "x\n"})), finish()];
    Answers::beside(&repository, "replay/run").conversation("low", &[("", mark)]);
    let folder = repository.beside("replay");
    let goal = ["run", "--goal", "put marks", "--replay", folder.to_str().expect("plain names")];
    let nobody = Swarm::new(&repository, &goal).exits(2);
    assert!(nobody.err.contains("nobody is here to say yes") && nobody.err.contains("--yes"), "{nobody}");
    Swarm::new(&repository, &["status"]).exits(2);
    let shown = Swarm::new(&repository, &goal).args(&["--dry-run"]).exits(0);
    assert!(shown.err.contains("others ×2") && shown.out.contains("others ×?"), "{shown}");
    Swarm::new(&repository, &goal).args(&["--yes"]).exits(0);
    assert_eq!(repository.text("swarm/marks", "web/b.py"), "import os\n# mark\n");
    assert_eq!(repository.text("swarm/marks", "low/mark"), "x\n");
}

#[test]
fn what_the_writing_of_a_plan_takes_is_taken_from_the_budget_of_its_run() {
    let repository = house();
    let come = |budget: &str| {
        let server = ModelServer::start(|number, _| {
            let (tool, arguments) = match number {
                0 => submit(GOOD),
                2 => ("write", json!({"path": "low/mark", "text": "x\n"})),
                _ => finish(),
            };
            let mut events = chat(&[Block::Call(tool, &arguments.to_string())], "tool_calls");
            let usage = json!({ "prompt_tokens": 60_000, "completion_tokens": 7 });
            events.push(json!({ "choices": [], "usage": usage }));
            Act::events(&events)
        });
        configure(&repository, &server, "prices = { input = 1, output = 2 }\n");
        let words = ["run", "--goal", "put marks", "--yes", "--budget-tokens", "400000", "--budget-usd", budget];
        (Swarm::new(&repository, &words).end(), server.asked().len())
    };
    let (short, asked) = come("0.13");
    assert!(short.code == 1 && asked == 2, "{asked} calls: {short}");
    for words in ["took some of it; left for the run: $0.0100, 279.9k tokens", "and it has $0.0100; raise"] {
        assert!(short.err.contains(words), "{words} is not in {short}");
    }
    let (enough, asked) = come("0.40");
    assert!(enough.code == 0 && asked == 4, "{asked} calls: {enough}");
}

#[test]
fn a_planner_without_a_model_is_refused_before_anything_starts() {
    let repository = house();
    let ended = Swarm::new(&repository, &["plan", "x"]).exits(2);
    assert!(ended.err.contains("the model `main` is not known") && ended.err.contains("config.toml"), "{ended}");
    let ended = Swarm::new(&repository, &["plan", " "]).exits(2);
    assert!(ended.err.contains("say what is to be done"), "{ended}");
    Swarm::new(&repository, &["status"]).exits(2);
}

#[test]
fn a_plan_may_hold_a_task_that_writes_a_plan() {
    let repository = house();
    let answers = Answers::beside(&repository, "replay")
        .conversation("split", &[("", &[submit("version = 1\n[tasks.x]\nrun = 'true'\nwrites = []\n"), finish()])]);
    let text = "[tasks.split]\nagent = { prompt = 'x', mode = 'read-only', submits = 'plan' }\nwrites = []\n\
                [tasks.after]\nneeds = ['split']\nenv = { PLAN = '{{ needs.split.outputs.plan }}' }\n\
                run = 'echo \"$PLAN\" | grep -c tasks.x'\n";
    let ended = Swarm::run(&repository, "it", text).args(&["--replay", answers.folder()]).exits(0);
    assert_eq!(ended.result("after"), "succeeded");
}

#[test]
fn a_planner_that_is_killed_and_resumed_writes_its_plan_where_it_was_to_go() {
    let repository = house();
    let (tell, asked) = channel();
    let tell = Mutex::new(tell);
    let server = ModelServer::start(move |number, _| {
        // A test that is over hears nothing.
        let _ = tell.lock().expect("unpoisoned").send(number);
        let say = |(tool, arguments): (&str, Value)| {
            Act::events(&chat(&[Block::Call(tool, &arguments.to_string())], "tool_calls"))
        };
        match number {
            0 => say(submit(GOOD)),
            1 => say(finish()).hangs_after(0),
            _ => say(finish()),
        }
    });
    configure(&repository, &server, "");
    let to = repository.beside("made.toml");
    let words = ["plan", "put marks everywhere", "-o", to.to_str().expect("plain names")];
    let running = Swarm::new(&repository, &words).start();
    assert_eq!([asked.recv(), asked.recv()], [Ok(0), Ok(1)]);
    running.signal(Signal::KILL);
    running.end();
    assert!(!to.exists());
    let resumed = Swarm::new(&repository, &["resume", "planning-1"]).exits(0);
    assert!(resumed.err.contains("others ×2") && resumed.err.contains("next: look at"), "{resumed}");
    let made = std::fs::read_to_string(&to).expect("the plan");
    assert!(made.ends_with(GOOD) && made.contains("#   put marks everywhere"), "{made}");
    assert_eq!(server.asked().len(), 3, "what was answered is not asked again");
    // Nor is a plan lost that was finished when its coordinator died.
    std::fs::remove_file(&to).expect("it is there");
    Swarm::new(&repository, &["resume", "planning-1"]).exits(0);
    assert_eq!(std::fs::read_to_string(&to).expect("the plan"), made);
    std::fs::write(&to, "mine").expect("space");
    let refused = Swarm::new(&repository, &["resume", "planning-1"]).exits(3);
    assert!(refused.err.contains("make room there, then swarm resume"), "{refused}");
    assert_eq!(std::fs::read_to_string(&to).expect("a file"), "mine");
}
