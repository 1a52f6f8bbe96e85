//! People who join an agent while it works: what they say is heard, what they are asked they decide, and no program of a cage
//! can pass for one of them.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::json;
use swarm_tests::model_server::chat;
use swarm_tests::{Act, Block, ModelServer, Repository, Swarm};

/// A model whose answers wait until the test lets each of them go.
struct Stage {
    server: ModelServer,
    /// The number of a request that came.
    came: Receiver<usize>,
    go: Sender<()>,
}

impl Stage {
    /// With a call (tool and arguments) for each request; behind them it finishes.
    fn with(calls: Vec<(&'static str, serde_json::Value)>) -> Stage {
        let ((tell, came), (go, wait)) = (channel(), channel());
        let (tell, wait) = (Mutex::new(tell), Mutex::new(wait));
        let server = ModelServer::start(move |number, _| {
            // A test that is over hears nothing and lets nothing go.
            let _ = tell.lock().expect("unpoisoned").send(number);
            let _: Result<(), _> = wait.lock().expect("unpoisoned").recv();
            let finish = ("finish", json!({"status": "done", "summary": "done"}));
            let (tool, arguments) = calls.get(number).unwrap_or(&finish);
            Act::events(&chat(&[Block::Call(tool, &arguments.to_string())], "tool_calls"))
        });
        Stage { server, came, go }
    }

    fn plan(&self, more: &str) -> String {
        let url = self.server.url();
        format!(
            "[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{url}'\n[tasks.fix]\nagent = {{ prompt = 'x'{more} }}\n"
        )
    }

    /// Waits for a request.
    fn asked(&self, number: usize) {
        assert_eq!(self.came.recv_timeout(Duration::from_secs(60)), Ok(number));
    }

    fn answer(&self) {
        self.go.send(()).expect("the server waits");
    }
}

fn house() -> Repository {
    Repository::with(&[("README", "base\n")])
}

#[test]
fn a_hint_is_heard_with_the_next_request() {
    let (repository, stage) = (house(), Stage::with(vec![("read", json!({"path": "README"}))]));
    let run = Swarm::run(&repository, "it", &stage.plan("")).args(&["--trust-models"]).start();
    stage.asked(0);
    let long = "x".repeat(70_000);
    for way in ["--say", "--answer"] {
        let told = Swarm::new(&repository, &["attach", "fix", way, &long]).exits(2);
        assert!(
            told.err.contains("failed to be heard: it is too long: 700") && told.err.contains("in several parts"),
            "{told}"
        );
    }
    Swarm::new(&repository, &["attach", "fix", "--say", "mind the gap"]).exits(0);
    stage.answer();
    stage.asked(1);
    stage.answer();
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended}");
    let asked = stage.server.asked();
    assert!(!asked[0].text.contains("mind the gap") && asked[1].text.contains("mind the gap"), "{}", asked[1].text);
    let log = Swarm::new(&repository, &["logs", "fix"]).exits(0).out;
    assert!(log.contains("a person says") && log.contains("mind the gap"), "{log}");
    let late = Swarm::new(&repository, &["attach", "fix", "--say", "x"]).exits(2);
    assert!(late.err.contains("no agent of it works now"), "{late}");
}

#[test]
fn a_person_who_is_joined_decides_what_rules_leave_to_one() {
    let calls = vec![
        ("bash", json!({"script": "touch allowed"})),
        ("bash", json!({"script": "touch refused"})),
        ("ask_person", json!({"question": "which colour?"})),
        ("bash", json!({"script": "touch unheard"})),
    ];
    let (repository, stage) = (house(), Stage::with(calls));
    let run = Swarm::run(&repository, "it", &stage.plan(", ask = ['bash(touch *)']")).args(&["--trust-models"]).start();
    for (number, (answer, asks)) in
        [("yes", "touch allowed"), ("rather not", "touch refused"), ("blue", "which colour?")].into_iter().enumerate()
    {
        stage.asked(number);
        let mut person = Swarm::new(&repository, &["attach", "fix", "--answer", answer]).start();
        assert!(person.tells("joined fix"), "{answer}");
        stage.answer();
        let person = person.end();
        assert!(person.code == 0 && person.err.contains(asks), "{person}");
    }
    for number in [3, 4] {
        stage.asked(number);
        stage.answer();
    }
    let ended = run.end();
    assert_eq!(ended.code, 0, "{ended}");
    let heard: Vec<String> = stage.server.asked().into_iter().map(|asked| asked.text).collect();
    assert!(heard[2].contains("a person says no: rather not") && heard[3].contains("blue"), "{}", heard[3]);
    assert!(heard[4].contains("nobody is here"), "the person left: {}", heard[4]);
    let files = repository.files("swarm/it");
    let made = ["allowed", "refused", "unheard"].map(|name| files.contains_key(name));
    assert_eq!(made, [true, false, false]);
}

#[test]
fn a_person_is_told_of_a_coordinator_that_is_gone_and_how_its_run_goes_on() {
    let (repository, stage) = (house(), Stage::with(vec![]));
    let run = Swarm::run(&repository, "it", &stage.plan("")).args(&["--trust-models"]).start();
    stage.asked(0);
    let mut person = Swarm::new(&repository, &["attach", "fix", "--answer", "yes"]).start();
    assert!(person.tells("joined fix"));
    run.signal(rustix::process::Signal::KILL);
    let told = person.end();
    assert!(told.code == 3 && told.err.contains("swarm resume it-1 goes on"), "{told}");
}

#[test]
fn no_program_of_a_cage_can_pass_for_a_person() {
    let without = |swarm: Swarm| swarm.without_namespaces();
    let ways: [&dyn Fn(Swarm) -> Option<Swarm>; 2] = [&Some, &without];
    for way in ways {
        let repository = house();
        let token: PathBuf = repository.path().join(".git/swarm/runs/it-1/fix/1/attach.token");
        let script = format!(
            "cat {0} && echo leaked; ls {1}; echo end",
            token.display(),
            token.parent().expect("a folder").display()
        );
        let stage = Stage::with(vec![("bash", json!({"script": script}))]);
        let Some(swarm) = way(Swarm::run(&repository, "it", &stage.plan("")).args(&["--trust-models"])) else {
            continue;
        };
        let run = swarm.start();
        stage.asked(0);
        let secret = std::fs::read_to_string(&token).expect("whoever is outside of the cage can read it");
        stage.answer();
        stage.asked(1);
        stage.answer();
        let ended = run.end();
        assert_eq!(ended.code, 0, "{ended}");
        let seen = &stage.server.asked()[1].text;
        assert!(seen.contains("end") && !seen.contains("leaked\\n") && !seen.contains(&secret), "{seen}");
    }
}
