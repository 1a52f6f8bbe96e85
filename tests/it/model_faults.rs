//! Models that are slow, down, chatty or not models at all, through the whole product: what people see of it, what it costs,
//! and what of a provider's words never reaches anybody.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use swarm_tests::model_server::{anthropic, chat};
use swarm_tests::{Act, Block, ModelServer, Repository, Swarm};

/// The key of every test.
const KEY: &str = "sk-very-secret-0123456789";

/// An answer that ends an agent's work.
fn done() -> Act {
    Act::events(&anthropic(&[Block::Call("finish", r#"{"status": "done", "summary": "did it"}"#)], "tool_use"))
}

/// An answer that has an agent look at a file.
fn looks() -> Act {
    Act::events(&anthropic(&[Block::Call("read", r#"{"path": "a.txt"}"#)], "tool_use"))
}

fn entry(name: &str, provider: &str, url: &str, rest: &str) -> String {
    format!(
        "[models.{name}]\nprovider = '{provider}'\nmodel = '{name}-1'\nbase-url = '{url}'\nkey = {{ env = 'MY_KEY' }}\n{rest}\n"
    )
}

/// A repository whose person has these models.
fn house(models: &str) -> Repository {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    std::fs::write(folder.join("config.toml"), models).expect("space");
    repository
}

fn run(repository: &Repository, plan: &str) -> Swarm {
    Swarm::run(repository, "it", plan).env("MY_KEY", KEY)
}

fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing: {text}"));
}

fn logs(repository: &Repository, task: &str) -> String {
    Swarm::new(repository, &["logs", task]).exits(0).out
}

const AGENT: &str = "[tasks.a]\nagent = { prompt = 'look', model = 'main' }\nwrites = []\n";

#[test]
fn whoever_waits_for_a_provider_says_until_when_and_its_time_goes_on() {
    let spent =
        |act: Act| act.header("x-ratelimit-remaining-requests", "0").header("x-ratelimit-reset-requests", "5m0s");
    let asked_too_often = Act::refusal(429, "{}").header("retry-after", "300");
    for (first, reason) in [(spent(looks()), "rate limit"), (asked_too_often, "rate limit")] {
        let server = ModelServer::acting(vec![first, done()]);
        let repository = house(&entry("main", "anthropic", &server.url(), ""));
        let mut running = run(&repository, &format!("{AGENT}budget.time = '4s'\n")).start();
        assert!(running.says("\"event\":\"model-waits\""), "it tells");
        let status = Swarm::new(&repository, &["status"]).exits(0).out;
        says(&status, &["[>] a", "running, waits for anthropic until ", &format!(" UTC ({reason})")]);
        let ended = running.end();
        assert_eq!((ended.code, ended.result("a").as_str(), server.asked().len()), (1, "failed", 1), "{ended}");
        let event = &ended.events_of("model-waits")[0];
        let left_ms = event["wait"]["until-ms"].as_u64().zip(event["at-ms"].as_u64()).map(|(until, at)| until - at);
        assert!(left_ms.is_some_and(|left| (280_000..=300_000).contains(&left)), "{event}");
        says(&ended.err, &["[w] a", "waits for anthropic until ", "the budget of 4 s of waiting for models is over"]);
        says(&logs(&repository, "a"), &["── waits for anthropic until ", &format!(" UTC ({reason}) ──")]);
        let after = Swarm::new(&repository, &["status"]).exits(0).out;
        assert!(!after.contains("waits for"), "{after}");
    }
}

#[test]
fn a_tasks_timeout_ends_it_while_it_waits() {
    let server = ModelServer::acting(vec![Act::refusal(529, "{}").header("retry-after", "300")]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let ended = run(&repository, &format!("{AGENT}timeout = '2s'\n")).exits(1);
    assert_eq!((ended.result("a").as_str(), server.asked().len()), ("timed-out", 1), "{ended}");
    says(&ended.err, &["waits for anthropic until ", " UTC (overloaded)"]);
}

#[test]
fn a_program_that_waits_for_its_model_is_told_of_beside_its_log() {
    let server = ModelServer::acting(vec![Act::refusal(429, "{}").header("retry-after", "300")]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let body = r#"{"model": "main", "max_tokens": 9, "stream": true, "messages": []}"#;
    let mut running = run(&repository, &format!("{}timeout = '4s'\n", asking(body))).start();
    assert!(running.says("\"event\":\"model-waits\""), "it tells");
    let log = Swarm::new(&repository, &["logs", "a"]).exits(0);
    says(&log.err, &["note: it waits for anthropic until ", " UTC (rate limit)"]);
    assert_eq!(running.end().result("a"), "timed-out");
    assert!(!Swarm::new(&repository, &["logs", "a"]).exits(0).err.contains("waits for"));
}

/// An answer whose words are `front`, `back`, and whose call has them, too: each in an event of its own.
fn spells(front: &str, back: &str) -> Act {
    let mut events = anthropic(&[Block::Text(front), Block::Call("read", r#"{"path": "a.txt"}"#)], "tool_use");
    let mut rest = events[2].clone();
    rest["delta"]["text"] = json!(back);
    events.insert(3, rest);
    Act::events(&events)
}

/// The files below a folder that hold the key.
fn holding_the_key(folder: &Path) -> String {
    let found = Command::new("grep").args(["-r", "-l", "-a", KEY]).arg(folder).output().expect("grep");
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn a_key_that_an_answer_repeats_reaches_nobody() {
    let (front, back) = KEY.split_at(12);
    let server = ModelServer::start(move |number, _| match number {
        0 => spells(&format!("your key is {front}"), back),
        1 => looks().header("content-type", &format!("text/event-stream; {KEY}")).and(&format!(": {KEY}\n\n")),
        2 => {
            Act::events(&anthropic(&[Block::Call("write", &json!({"path": "k", "text": KEY}).to_string())], "tool_use"))
                .dripping()
        }
        _ => done(),
    });
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let tape = repository.beside("tape");
    let plan = "[tasks.a]\nagent = { prompt = 'look', model = 'main' }\nwrites = ['k']\n";
    let ended = run(&repository, plan).args(&["--record", &tape.display().to_string()]).exits(0);
    says(&logs(&repository, "a"), &["your key is ***", "read a.txt"]);
    assert_eq!((repository.text("swarm/it", "k").as_str(), server.asked().len()), ("***", 4), "{ended}");
    let all = format!("{ended}{}", logs(&repository, "a"));
    assert!(!all.contains(KEY) && !all.contains(back), "{all}");
    let replayed = repository.beside("again");
    Swarm::new(&repository, &["run", &repository.beside("it.toml").display().to_string()])
        .args(&["--replay", &tape.display().to_string(), "--into", "again"])
        .exits(0);
    assert_eq!(repository.text("again", "k"), "***", "{}", replayed.display());
    for folder in [repository.path(), tape.clone()] {
        assert_eq!(holding_the_key(&folder), "", "{}", folder.display());
    }
    std::fs::write(tape.join("control"), KEY).expect("space");
    assert!(holding_the_key(&tape).contains("control"), "the control: what is there is found");
}

/// A task that asks `main` once by HTTP, with this body.
fn asking(body: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/${{ANTHROPIC_BASE_URL##*:}}\n\
         printf 'POST /v1/messages HTTP/1.1\\r\\nHost: x\\r\\nx-api-key: %s\\r\\nContent-Length: {}\\r\\nConnection: close\\r\\n\\r\\n%s' \
         $ANTHROPIC_API_KEY '{body}' >&3\ncat <&3 | tee k",
        body.len()
    );
    format!("[tasks.a]\nmodels = ['main']\nshell = ['bash', '-eu', '-c']\nrun = '''{script}'''\n")
}

#[test]
fn a_program_is_passed_no_key_either() {
    let (front, back) = KEY.split_at(12);
    let server = ModelServer::acting(vec![spells(&format!("your key is {front}"), back).dripping()]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let body = r#"{"model": "main", "max_tokens": 9, "stream": true, "messages": []}"#;
    let ended = run(&repository, &asking(body)).exits(0);
    let said = logs(&repository, "a");
    says(&said, &["your key is ***", "message_stop"]);
    assert!(!format!("{said}{ended}").contains(back), "{said}");
    assert_eq!(holding_the_key(&repository.path()), "");
}

#[test]
fn a_model_that_is_down_is_told_once_and_the_run_goes_on_with_another() {
    let main = ModelServer::acting(vec![Act::refusal(404, r#"{"error": {"message": "no such model"}}"#)]);
    let spare = ModelServer::acting(vec![looks(), looks(), done()]);
    let first = entry("main", "anthropic", &main.url(), "fallbacks = ['spare']");
    let repository = house(&format!("{first}{}", entry("spare", "anthropic", &spare.url(), "")));
    let ended = run(&repository, AGENT).exits(0);
    assert_eq!((main.asked().len(), spare.asked().len()), (1, 3), "{ended}");
    let down = ended.events_of("model-down");
    assert_eq!(
        (down.len(), &down[0]["model"], &down[0]["instead"]),
        (1, &json!("anthropic/main-1"), &json!("anthropic/spare-1"))
    );
    says(&ended.err, &["note: anthropic/main-1 is down until ", "the next is anthropic/spare-1: no such model"]);
    let log = logs(&repository, "a");
    assert_eq!(log.matches("anthropic/main-1 is down, the next is anthropic/spare-1").count(), 1, "{log}");
}

#[test]
fn a_model_that_nobody_can_pay_for_is_not_said_to_have_been_asked() {
    let main = ModelServer::acting(vec![Act::refusal(404, r#"{"error": {"message": "no such model"}}"#)]);
    let spare = ModelServer::acting(vec![done()]);
    let first = entry("main", "anthropic", &main.url(), "fallbacks = ['spare']\nprices = { input = 1, output = 1 }");
    let repository = house(&format!("{first}{}", entry("spare", "anthropic", &spare.url(), "")));
    let ended = run(&repository, &format!("[budget]\nusd = 5.0\n{AGENT}")).exits(1);
    assert_eq!((main.asked().len(), spare.asked().len()), (1, 0), "{ended}");
    says(&ended.err, &["no such model", "nobody was asked instead: anthropic/spare-1 has no price"]);
}

#[test]
fn a_page_in_a_models_place_is_called_one_and_what_nobody_counted_is_marked() {
    let page = Act::refusal(200, "<html>Welcome</html>").header("content-type", "text/html");
    let server = ModelServer::acting(vec![page.clone(), page]);
    let repository = house(&entry("main", "openai", &server.url(), ""));
    let ended = run(&repository, AGENT).exits(1);
    let status = Swarm::new(&repository, &["status"]).exits(0).out;
    says(&status, &["answers HTML, not OpenAI's Chat Completions: is `base-url` right; is `/v1` missing at its end?"]);
    assert_eq!(server.asked().len(), 1, "{ended}");
    let mut silent = chat(&[Block::Call("finish", r#"{"status": "done", "summary": "x"}"#)], "tool_calls");
    silent.pop();
    let server = ModelServer::acting(vec![Act::events(&silent)]);
    let repository = house(&entry("main", "openai", &server.url(), ""));
    let ended = run(&repository, AGENT).exits(0);
    says(&ended.err, &["1 call estimated"]);
    says(&Swarm::new(&repository, &["status"]).exits(0).out, &["1 call estimated"]);
    assert_eq!(ended.events_of("model-called")[0]["counted"], json!("at-most"));
}

#[test]
fn what_is_kept_for_an_hour_is_booked_at_its_price() {
    let mut events = anthropic(&[Block::Text("hi")], "end_turn");
    let usage = json!({ "input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 100,
        "cache_creation": { "ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60 } });
    let delta = events.len() - 2;
    events[delta]["usage"] = usage.clone();
    let said = Act::events(&events);
    events[delta]["usage"].as_object_mut().expect("usage").remove("cache_creation");
    let unsaid = Act::events(&events);
    let prices = "prices = { input = 1, output = 1, cache-write = 1.25 }";
    let body = |control: &str| {
        format!(
            r#"{{"model": "main", "max_tokens": 9, "stream": true, "system": [{{"type": "text", "text": "s", "cache_control": {control}}}], "messages": []}}"#
        )
    };
    let hour = r#"{"type": "ephemeral", "ttl": "1h"}"#;
    for (act, control, prices, write) in [
        (said.clone(), hour, prices.to_owned(), 40 * 1250 + 60 * 2000),
        (unsaid.clone(), hour, prices.to_owned(), 100 * 2000),
        (unsaid, r#"{"type": "ephemeral"}"#, prices.to_owned(), 100 * 1250),
        (said, hour, prices.replace(" }", ", cache-write-1h = 3 }"), 40 * 1250 + 60 * 3000),
    ] {
        let server = ModelServer::acting(vec![act]);
        let repository = house(&entry("main", "anthropic", &server.url(), &prices));
        let ended = run(&repository, &asking(&body(control))).exits(0);
        assert_eq!(ended.events_of("model-called")[0]["cost-nano-usd"], json!(11 * 1000 + write), "{prices}");
        assert!(server.asked()[0].text.contains(control.split('"').next_back().unwrap_or_default()));
    }
}

#[test]
fn a_budget_too_small_for_one_call_fails_what_asks_and_nothing_else() {
    for (whose, run_budget, task_budget, place) in [
        ("run", "[budget]\ntokens = 500\n", "", "raise `tokens` of [budget] (or --budget-tokens)"),
        ("task", "", "budget.tokens = 500\n", "raise `budget.tokens` of [tasks.a]"),
        ("attempt", "", "budget.attempt.tokens = 500\n", "raise `budget.attempt.tokens` of [tasks.a]"),
    ] {
        let server = ModelServer::acting(vec![done()]);
        let repository = house(&entry("main", "anthropic", &server.url(), ""));
        let plan = format!("{run_budget}{AGENT}{task_budget}[tasks.b]\nrun = 'echo b > b.txt'\n");
        let ended = run(&repository, &plan).exits(1);
        assert_eq!((ended.result("a").as_str(), ended.fate("b").as_str()), ("failed", "landed"), "{ended}");
        assert_eq!(server.asked().len(), 0);
        let words = [&*format!("the budget of the {whose} is too small for one call"), "16384 of its answer", place];
        let status = Swarm::new(&repository, &["status"]).exits(0).out;
        says(&ended.err, &words);
        says(&status, &words);
    }
}

#[test]
fn an_answer_that_is_packed_unasked_is_told_and_asked_for_once() {
    for (packed, code) in [("gzip", 1), ("identity", 0)] {
        let server = ModelServer::acting(vec![done().header("content-encoding", packed)]);
        let repository = house(&entry("main", "anthropic", &server.url(), ""));
        let ended = run(&repository, AGENT).exits(code);
        assert_eq!(server.asked().len(), 1, "{ended}");
        assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
        if code == 1 {
            says(&ended.err, &["`Content-Encoding: gzip`, which was not asked for", "the proxy in front of it"]);
        }
    }
    // What its status says stands, without what cannot be read.
    let refused = Act::refusal(404, "\u{1f}\u{8b}").header("content-encoding", "gzip");
    let server = ModelServer::acting(vec![refused]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    says(&run(&repository, AGENT).exits(1).err, &["404"]);
}

#[test]
fn what_a_budget_was_too_small_for_goes_on_with_a_larger_one() {
    for (run_budget, task_budget, resumes) in [
        ("[budget]\ntokens = 500\n", "", true),
        ("", "budget.tokens = 500\n", false),
        ("[budget]\ntokens = 600\n", "budget.attempt.tokens = 500\n", false),
    ] {
        let server = ModelServer::acting(vec![done(), done()]);
        let repository = house(&entry("main", "anthropic", &server.url(), ""));
        let plan = format!("{run_budget}{AGENT}{task_budget}[tasks.after]\nneeds = ['a']\nrun = 'echo b > b.txt'\n");
        let ended = run(&repository, &plan).exits(1);
        assert_eq!((ended.result("a").as_str(), ended.result("after").as_str()), ("failed", "blocked"), "{ended}");
        let swarm = |words: &[&str]| Swarm::new(&repository, words).env("MY_KEY", KEY);
        says(&swarm(&["resume"]).exits(1).err, &["nothing left to do"]);
        let resumed = swarm(&["resume", "--budget-tokens", "100000"]);
        if resumes {
            resumed.exits(0);
        } else {
            says(&resumed.exits(1).err, &["hint: swarm retry"]);
            swarm(&["retry", "--budget-tokens", "400"]).exits(1);
            swarm(&["retry", "--budget-tokens", "100000"]).exits(0);
        }
        assert_eq!(server.asked().len(), 1, "{run_budget}{task_budget}");
        assert_eq!(repository.text("swarm/it", "b.txt"), "b\n");
    }
}

#[test]
fn what_no_two_runs_have_in_common_does_not_keep_an_agent_from_its_recording() {
    let script = "date +%s%N; date; mktemp -d; echo in $SWARM_RUN; pwd; cat a.txt";
    let bash = |script: &str| {
        Act::events(&anthropic(&[Block::Call("bash", &json!({ "script": script }).to_string())], "tool_use"))
    };
    let server = ModelServer::acting(vec![bash(script), bash("date +%N"), done()]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let tape = repository.beside("tape").display().to_string();
    let plan = |prompt: &str| format!("[tasks.a]\nagent = {{ prompt = '{prompt}', model = 'main' }}\nwrites = []\n");
    let again = |prompt: &str| run(&repository, &plan(prompt)).args(&["--replay", &tape, "--into", "again"]).end();
    run(&repository, &plan("look at 12 files")).args(&["--record", &tape]).exits(0);
    assert_eq!(server.asked().len(), 3);
    for _ in 0..2 {
        let replayed = again("look at 12 files");
        assert_eq!((replayed.code, replayed.result("a").as_str()), (0, "succeeded"), "{replayed}");
        says(&replayed.err, &["3 replayed"]);
    }
    for other in ["look at 13 files", "look at 12 files, once"] {
        let refused = again(other);
        assert_eq!(refused.code, 1, "{refused}");
        says(&refused.err, &["no recording in ", "differs at /messages/0/content/0/text"]);
    }
    // What a file of the tree says is no accident: another content is another question.
    repository.write("a.txt", "another\n");
    repository.commit_all("another content");
    says(&again("look at 12 files").err, &["no recording in "]);
    assert_eq!(server.asked().len(), 3, "nobody was called");
}

#[test]
fn what_was_refused_while_it_was_recorded_is_refused_again_without_a_server() {
    let refusal = format!(r#"{{"error": {{"message": "no such shape, {KEY}"}}}}"#);
    let server = ModelServer::acting(vec![Act::refusal(422, &refusal)]);
    let repository = house(&entry("main", "anthropic", &server.url(), ""));
    let tape = repository.beside("tape").display().to_string();
    let body = r#"{"model": "main", "max_tokens": 9, "messages": []}"#;
    let plan = format!("{}[tasks.b]\nagent = {{ prompt = 'look', model = 'main' }}\nwrites = []\n", asking(body));
    let words = |ended: &swarm_tests::Ended| {
        says(&logs(&repository, "a"), &["HTTP/1.1 422 ", r#""message": "no such shape, ***"#]);
        says(&ended.err, &["main-1 does not answer: no such shape, *** (HTTP status 422)"]);
        assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("succeeded", "failed"), "{ended}");
    };
    words(&run(&repository, &plan).args(&["--record", &tape]).exits(1));
    let asked = server.asked().len();
    words(&run(&repository, &plan).args(&["--replay", &tape]).exits(1));
    assert_eq!((server.asked().len(), holding_the_key(Path::new(&tape))), (asked, String::new()));
}
