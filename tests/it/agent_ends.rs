//! What an agent may bring to nothing without fault of its own: names that its provider will not hear again, a conversation that
//! is longer than its model, a budget that somebody else spent, a key that nobody waits for any more.

use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use swarm_tests::model_server::chat;
use swarm_tests::{Act, Answers, Block, ModelServer, Repository, Swarm};

/// A repository whose person has one model.
fn house(model: &str) -> Repository {
    let repository = Repository::with(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    std::fs::write(folder.join("config.toml"), format!("[models.main]\n{model}\n")).expect("space");
    repository
}

fn of_server(server: &ModelServer) -> Repository {
    house(&format!("provider = 'openai'\nmodel = 'm'\nbase-url = '{}/v1'\nkey = {{ env = 'MY_KEY' }}", server.url()))
}

fn run(repository: &Repository, plan: &str) -> Swarm {
    Swarm::run(repository, "it", plan).env("MY_KEY", "sk-very-secret-0123456789")
}

fn calls(name: &str, arguments: &str) -> Act {
    Act::events(&chat(&[Block::Call(name, arguments)], "tool_calls"))
}

fn done() -> Act {
    calls("finish", r#"{"status": "done", "summary": "did it"}"#)
}

const LOOKS: &str = "[tasks.a]\nagent = { prompt = 'look', model = 'main', mode = 'read-only' }\n";

#[test]
fn an_agent_that_may_only_look_changes_nothing_and_what_its_checks_build_is_dropped() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let finish = ("finish", json!({"status": "done", "summary": "looked", "evidence": [], "follow_ups": []}));
    let answers = Answers::beside(&repository, "replay").conversation("a", &[("", &[finish])]);
    let check = "check = 'mkdir target && echo x > target/out && echo y > a.txt && test -s target/out'\n";
    let run = |plan: &str, code| {
        let plan = format!("{}{plan}", LOOKS.replace(", model = 'main'", ""));
        Swarm::run(&repository, "it", &plan).args(&["--replay", answers.folder()]).exits(code)
    };
    let ended = run(check, 0);
    assert_eq!((ended.result("a").as_str(), ended.fate("a").as_str()), ("succeeded", "empty"), "{ended}");
    let plan = LOOKS
        .replace(", model = 'main'", "")
        .replace("'read-only' }", "'read-only', hooks = [{ event = 'SessionStart', run = 'echo x > made' }] }");
    let ended = Swarm::run(&repository, "it", &plan).args(&["--replay", answers.folder()]).exits(1);
    assert_eq!(ended.result("a"), "violation", "{ended}");
    assert!(ended.err.contains("made"), "{ended}");
}

#[test]
fn that_an_agent_changed_nothing_is_said_where_only_its_word_is_that_it_is_done() {
    let ends = |status: &str, evidence: &str| {
        let repository = Repository::with(&[("a.txt", "a\n")]);
        let finish = ("finish", json!({"status": status, "summary": "looked", "evidence": [], "follow_ups": []}));
        let answers = Answers::beside(&repository, "replay").conversation("a", &[("", &[finish])]);
        let plan = format!("[tasks.a]\nagent = {{ prompt = 'look' }}\n{evidence}");
        let ended = Swarm::run(&repository, "it", &plan).args(&["--replay", answers.folder()]).end();
        (ended.result("a"), ended.err.contains("changed nothing, and that it is done is its own word only"))
    };
    let ended = |result: &str, said| (result.to_owned(), said);
    assert_eq!(ends("done", ""), ended("succeeded", true));
    assert_eq!(ends("done", "check = 'true'\n"), ended("succeeded", false));
    assert_eq!(ends("done", "outputs.all = { json = 'none.json' }\n"), ended("failed", false));
    assert_eq!(ends("blocked", ""), ended("failed", false));
}

#[test]
fn a_prompt_file_that_tells_nothing_begins_no_agent_and_is_named_before() {
    let repository = house("provider = 'ollama'\nmodel = 'm'");
    [("how.md", "look\n"), ("empty.md", " \n")].iter().for_each(|(path, text)| repository.write(path, text));
    repository.commit_all("what agents are told");
    let finish = ("finish", json!({"status": "done", "summary": "looked", "evidence": [], "follow_ups": []}));
    let answers = Answers::beside(&repository, "replay").conversation("both", &[("", &[finish])]);
    let plan = "[tasks.lost]\nagent = { prompt-file = 'hwo.md' }\n[tasks.empty]\nagent = { prompt-file = 'empty.md' }\n\
                [tasks.both]\nagent = { prompt-file = 'empty.md', prompt = 'look' }\n\
                [tasks.later]\nneeds = ['both']\nagent = { prompt-file = 'made.md' }\n";
    let ended = Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).exits(1);
    let results = ["lost", "empty", "both", "later"].map(|task| ended.result(task));
    assert_eq!(results, ["failed", "failed", "succeeded", "failed"], "{ended}");
    assert!(ended.err.contains("empty.md: nothing is in it, and its agent has no `prompt`"), "{ended}");
    let path = repository.beside("it.toml").display().to_string();
    let checked = Swarm::new(&repository, &["check", &path]).exits(0);
    for words in [
        "note: `prompt-file` of task lost names `hwo.md`: there is no such file, so it cannot begin; did you mean `how.md`?",
        "note: `prompt-file` of task empty names `empty.md`: nothing is in it, and its agent has no `prompt`, so it cannot begin",
    ] {
        assert!(checked.err.contains(words), "{words}: {checked}");
    }
    assert_eq!(checked.err.matches("cannot begin").count(), 2, "{checked}");
}

#[test]
fn a_name_that_no_provider_hears_goes_back_as_one_and_stays_in_the_logs() {
    let odd = "functions.read file é";
    let server = ModelServer::start(move |number, asked| {
        let sent = asked.body["messages"].as_array().into_iter().flatten();
        let names = sent.flat_map(|message| message["tool_calls"].as_array().cloned().unwrap_or_default());
        let names: Vec<String> = names.map(|call| call["function"]["name"].to_string().replace('"', "")).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match (number, names.iter().all(|name| !name.is_empty() && name.len() <= 64 && name.chars().all(plain))) {
            (_, false) => {
                Act::refusal(400, r#"{"error": {"message": "invalid 'messages[2].tool_calls[0].function.name'"}}"#)
            }
            (0, _) => calls(odd, "{}"),
            (1, _) => calls(&"x".repeat(100), "{}"),
            _ => done(),
        }
    });
    let repository = of_server(&server);
    run(&repository, LOOKS).exits(0);
    let log = Swarm::new(&repository, &["logs", "a"]).exits(0).out;
    assert!(log.contains("there is no tool `functions.read file é`"), "{log}");
}

#[test]
fn a_conversation_that_its_model_refuses_as_too_long_is_summed_up_and_goes_on() {
    let refusal = r#"{"error": {"code": "context_length_exceeded", "message": "maximum context length is 9"}}"#;
    let server = ModelServer::start(move |number, asked| {
        let all = asked.body["messages"].to_string();
        match number {
            0..4 => {
                calls("read", &format!(r#"{{"path": "{}.txt", "from": {}}}"#, ["a", "b"][number % 2], 1 + number / 2))
            }
            4 => Act::refusal(400, refusal),
            5 if all.contains("sum up") => Act::events(&chat(&[Block::Text("I read both.")], "stop")),
            6 if all.contains("I read both.") => done(),
            _ => Act::refusal(500, "{}").header("x-should-retry", "false"),
        }
    });
    let repository = of_server(&server);
    run(&repository, LOOKS).exits(0);
    assert_eq!(server.asked().len(), 7);
    let log = Swarm::new(&repository, &["logs", "a"]).exits(0).out;
    assert!(log.contains("the conversation is too long"), "{log}");
}

#[test]
fn what_an_attempt_spent_before_its_coordinator_was_killed_counts_when_it_goes_on() {
    let (asks, asked) = std::sync::mpsc::channel();
    let server = ModelServer::start(move |_, _| {
        asks.send(()).expect("somebody waits for it");
        done().hangs_after(1)
    });
    let repository = of_server(&server);
    let plan = "[tasks.a]\nagent = { prompt = 'look', model = 'main', mode = 'read-only', output-tokens = 100_000 }\n\
                budget.attempt.tokens = 150_000\nretry = { max = 2, on = ['infra', 'exit'], backoff = 'none' }\n";
    let running = run(&repository, plan).start();
    asked.recv_timeout(Duration::from_secs(60)).expect("it asks");
    running.signal(Signal::KILL);
    running.end();
    let ended = Swarm::new(&repository, &["resume", "--json"]).env("MY_KEY", "sk-very-secret-0123456789").exits(1);
    assert!(ended.err.contains("the budget of the attempt"), "{ended}");
    assert_eq!(ended.events_of("attempt-started").len(), 1, "no other try has more: {ended}");
}

#[test]
fn a_program_that_prints_a_key_ends_with_the_coordinator_that_is_killed() {
    let folder = tempfile::tempdir().expect("space");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let script = format!("exec 9> {}; sleep 100 & (setsid sleep 100 &) ; wait", pipe.display());
    let repository = house(&format!(
        "provider = 'openai'\nmodel = 'm'\nbase-url = 'http://127.0.0.1:1/v1'\nkey = {{ command = ['sh', '-c', '{script}'] }}"
    ));
    let running = run(&repository, LOOKS).start();
    let mut reads = std::fs::File::open(&pipe).expect("the program has opened it");
    let began = Instant::now();
    running.signal(Signal::KILL);
    reads.read_to_end(&mut vec![]).expect("its end");
    assert!(began.elapsed() < Duration::from_secs(60), "it outlived its coordinator");
    running.end();
}

#[test]
fn a_password_in_a_base_url_is_not_shown() {
    let repository = house("provider = 'openai'\nmodel = 'm'\nbase-url = 'https://me:sk-secret@host/v1?key=sk-hidden'");
    let ended = run(&repository, LOOKS).exits(2);
    assert!(ended.err.contains("`https://************@host/v1?key=*********` is not a base URL"), "{ended}");
    assert!(!format!("{ended}").contains("sk-secret") && !format!("{ended}").contains("sk-hidden"), "{ended}");
}
