//! Programs that speak a provider's HTTP inside a task, through the whole product: they reach the models that their task
//! names and nothing else, without any key; what they take is counted, bounded, recorded and given again.

use std::process::{Command, Stdio};

use serde_json::json;
use swarm_tests::model_server::{anthropic, chat};
use swarm_tests::{Act, Block, Ended, ModelServer, Repository, Swarm};

/// The key that no task and no file of ours may hold.
const KEY: &str = "sk-very-secret-0123456789";

/// Sends the body `$2` to the path `$1` of the endpoint, with the key `$3`, and prints the answer. Needs bash and coreutils only.
const ASK: &str = r#"
ask() {
  place=${ANTHROPIC_BASE_URL:-${OPENAI_BASE_URL%/v1}}
  exec 3<>/dev/tcp/127.0.0.1/${place##*:}
  printf 'POST %s HTTP/1.1\r\nHost: x\r\nx-api-key: %s\r\nContent-Length: %s\r\nConnection: close\r\n\r\n%s' \
    "$1" "${3:-${ANTHROPIC_API_KEY:-$OPENAI_API_KEY}}" "${#2}" "$2" >&3
  cat <&3
  exec 3>&-
  echo
}
"#;

fn hello() -> Act {
    Act::events(&anthropic(&[Block::Text("hello from a model")], "end_turn"))
}

fn body(model: &str) -> String {
    let message = json!({ "role": "user", "content": "hi" });
    json!({ "model": model, "max_tokens": 100, "stream": true, "messages": [message] }).to_string()
}

/// A repository whose person has one model, `main`, at a server.
fn scene(provider: &str, url: &str, rest: &str) -> Repository {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    let entry =
        format!("provider = '{provider}'\nmodel = 'big-1'\nbase-url = '{url}'\nkey = {{ env = 'MY_KEY' }}\n{rest}");
    std::fs::write(folder.join("config.toml"), format!("[models.main]\n{entry}\n")).expect("space");
    repository
}

/// Runs a bash script as the only task, which may ask `main`.
fn task(repository: &Repository, keys: &str, script: &str) -> Swarm {
    let plan =
        format!("{keys}\n[tasks.a]\nmodels = ['main']\nshell = ['bash', '-eu', '-c']\nrun = '''{ASK}\n{script}\n'''\n");
    Swarm::run(repository, "it", &plan).env("MY_KEY", KEY)
}

fn log(repository: &Repository) -> String {
    Swarm::new(repository, &["logs", "a", "--raw"]).end().out
}

fn says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing: {text}"));
}

/// What has to hold in each tier: the model answers, the key stays outside, and what it took is told.
fn asks_its_model(repository: &Repository, server: &ModelServer, swarm: Swarm) {
    let ended = swarm.exits(0);
    let said = log(repository);
    says(&said, &["HTTP/1.1 200 OK", "hello from a model", "message_stop", "the model is big-1"]);
    assert_eq!(said.matches("HTTP/1.1 401").count(), 1, "{said}");
    says(&said, &["the task may not ask the model `claude-other`; it may ask: main", "is not offered here"]);
    assert!(!said.contains(KEY) && !ended.out.contains(KEY) && !ended.err.contains(KEY), "{said}{ended}");
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].line.as_str(), asked[0].header("x-api-key")), ("POST /v1/messages?beta=true", Some(KEY)));
    assert_eq!((&asked[0].body["model"], &asked[0].body["max_tokens"]), (&json!("big-1"), &json!(50)));
    let called = &ended.events_of("model-called")[0];
    assert_eq!((&called["instance"], &called["asked"], &called["tries"]), (&json!("a"), &json!("main"), &json!(1)));
    assert_eq!(
        (&called["usage"]["output"], &called["cost-nano-usd"]),
        (&json!(7), &json!(11 * 3000 + 3 * 3000 + 7 * 15_000))
    );
    says(&ended.err, &["models: 1 call, 14 tokens in (21% cached), 7 out, $0.0001", "[+] a"]);
    let status = Swarm::new(repository, &["status"]).exits(0).out;
    says(&status, &["1 call, 14 tokens in", "models: 1 call"]);
}

const PRICES: &str = "prices = { input = 3, output = 15 }\noutput-max = 50";

fn script() -> String {
    let (good, other) = (body("main"), body("claude-other"));
    format!(
        "echo the model is $ANTHROPIC_MODEL\nask '/v1/messages?beta=true' '{good}'\nask /v1/messages '{good}' wrong\n\
         ask /v1/messages '{other}'\nask /v1/files '{good}'\nenv; cat /proc/self/environ | tr '\\0' '\\n'"
    )
}

#[test]
fn a_program_asks_its_model_without_its_key() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let swarm = task(&repository, "[sandbox.default]\nenv = ['MY_KEY', 'ANTHROPIC_API_KEY']", &script());
    let swarm = swarm.allow("env=MY_KEY").allow("env=ANTHROPIC_API_KEY");
    asks_its_model(&repository, &server, swarm.env("ANTHROPIC_API_KEY", KEY));
}

#[test]
fn a_request_that_breaks_its_framing_is_answered_before_its_connection_ends() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let head = "POST /v1/messages HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n";
    let script = |rest: &str| {
        format!("exec 3<>/dev/tcp/127.0.0.1/${{ANTHROPIC_BASE_URL##*:}}\nprintf '{head}{rest}' >&3\ncat <&3\n")
    };
    for (rest, what) in
        [("ffffffffffffffff1\\r\\n", "the length of a chunk"), ("1\\r\\nabc\\r\\n", "the end of a chunk")]
    {
        task(&repository, "", &script(rest)).exits(0);
        let words = format!("swarm: the request breaks its framing: {what}");
        says(&log(&repository), &["HTTP/1.1 400 Bad Request", &words]);
    }
    assert!(server.asked().is_empty());
}

#[test]
fn requests_that_were_sent_by_half_do_not_keep_a_whole_one_waiting() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let half = "printf 'POST /v1/messages HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 100\\r\\n\\r\\n{' >&$to";
    let script = format!(
        "for n in $(seq 12); do exec {{to}}<>/dev/tcp/127.0.0.1/${{ANTHROPIC_BASE_URL##*:}}\n{half}\ndone\n\
         export -f ask\ntimeout 10 bash -c \"ask /v1/messages '{}'\"",
        body("main").replace('"', "\\\"")
    );
    task(&repository, "", &script).exits(0);
    says(&log(&repository), &["hello from a model"]);
}

/// A user namespace in which no other can be made.
const LACK: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";

fn can_lack_namespaces() -> bool {
    let probe = Command::new("unshare").args(["-r", "sh", "-c", LACK, "sh", "true"]).stderr(Stdio::null()).status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        swarm_protocol::skipped::say("no user namespace can be made without others in it");
    }
    can
}

#[test]
fn a_machine_without_namespaces_asks_the_same() {
    if !can_lack_namespaces() {
        return;
    }
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let swarm = task(&repository, "[sandbox.default]\nnetwork = ['example.org']", &script());
    asks_its_model(&repository, &server, swarm.through(&["unshare", "-r", "sh", "-c", LACK, "sh"]));
}

/// What codex and gemini find in no variable.
fn finds_its_settings(through: &[&str]) {
    let repository = scene("gemini", "http://127.0.0.1:1", "");
    task(&repository, "", "cat \"$GEMINI_CLI_SYSTEM_DEFAULTS_PATH\"").through(through).exits(0);
    says(&log(&repository), &["\"selectedType\":\"gemini-api-key\""]);
    let repository = scene("openai-responses", "http://127.0.0.1:1", "");
    let script = "cat \"$CODEX_HOME/config.toml\"\ntouch \"$CODEX_HOME/mine\"\nls -a ~";
    task(&repository, "", script).through(through).exits(0);
    let said = log(&repository);
    let place = "base_url = \"http://127.0.0.1:";
    says(
        &said,
        &["model = \"big-1\"", "model_provider = \"swarm\"", place, "env_key = \"OPENAI_API_KEY\"", "\n.swarm"],
    );
}

#[test]
fn a_program_that_reads_only_a_file_finds_its_model_there() {
    finds_its_settings(&["env"]);
    if can_lack_namespaces() {
        finds_its_settings(&["unshare", "-r", "sh", "-c", LACK, "sh"]);
    }
    let repository = scene("openai-responses", "http://127.0.0.1:1", "");
    let own = "[tasks.a.env]\nCODEX_HOME = '/tmp/mine'";
    task(&repository, own, "test $CODEX_HOME = /tmp/mine && test ! -e ~/.swarm").exits(0);
}

#[test]
fn a_stream_of_chat_says_what_it_took_and_a_break_is_seen() {
    let events = chat(&[Block::Text("hello from a model")], "stop");
    let whole = Act::events(&events);
    let server =
        ModelServer::acting(vec![Act::refusal(503, ""), whole.clone(), whole, Act::events(&events).cut_after(1)]);
    let repository = scene("openai", &server.url(), "");
    let mut body = json!({ "model": "big-1", "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    let unasked = body.to_string();
    body["stream_options"] = json!({ "include_usage": true });
    let script = format!(
        "ask /v1/chat/completions '{unasked}' > unasked\ngrep -o 'hello from a mode' unasked\n! grep -e '\"choices\":\\[\\]' unasked\n\
         ask /v1/chat/completions '{body}'\nask /v1/chat/completions '{body}' > cut || true\ntail -c 5 cut | od -c"
    );
    let ended = task(&repository, "", &format!("cd $TMPDIR\n{script}")).exits(0);
    let said = log(&repository);
    says(&said, &["hello from a model", "\"prompt_tokens\":11"]);
    assert!(!said.contains("0  \\r  \\n  \\r  \\n"), "a broken answer has no end: {said}");
    assert_eq!(server.asked()[1].body["stream_options"], json!({ "include_usage": true }));
    assert_eq!(server.asked()[1].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let called = ended.events_of("model-called");
    assert_eq!((called.len(), &called[0]["tries"], &called[0]["cost-nano-usd"]), (3, &json!(2), &json!(null)));
    assert_eq!(called[0]["input-tokens"], called[1]["input-tokens"]);
    says(&ended.err, &["3 calls", "unpriced"]);
}

/// Asks without chunks, as HTTP/1.0 does, and prints the answer.
const ASK_1_0: &str =
    "ask_1_0() { eval \"$(declare -f ask | sed '1s/ask/ask_1_1/; s,HTTP/1.1,HTTP/1.0,')\"; ask_1_1 \"$@\"; }";

#[test]
fn what_its_provider_cuts_off_never_looks_whole_to_a_program() {
    let events = anthropic(&[Block::Text("hello from a model")], "end_turn");
    let whole = json!({ "type": "message", "role": "assistant", "content": [{ "type": "text", "text": "hello from a model" }],
                        "stop_reason": "end_turn", "usage": { "input_tokens": 1, "output_tokens": 2 } });
    let text = whole.to_string();
    // Between two events, inside of one, and a body in one piece: all end as a whole answer would.
    let mut torn = Act::events(&events).ends_after(3);
    torn = torn.and("data: {\"type\": \"message_st");
    let cut = vec![
        Act::events(&events).ends_after(events.len() - 1),
        torn,
        Act::json(&whole).ends_after(0).and(&text[..text.len() - 9]),
    ];
    let count = cut.len();
    let acts = cut.into_iter().flat_map(|act| [act.clone(), act]).chain([Act::events(&events), Act::events(&events)]);
    let server = ModelServer::acting(acts.collect());
    let repository = scene("anthropic", &server.url(), PRICES);
    let one = format!("/v1/messages '{}'", body("main"));
    let script = format!(
        "{ASK_1_0}\ncd $TMPDIR\nfor n in $(seq {count}); do\n\
         ask {one} > chunks\ntail -c 6 chunks | od -An -c | tr -d ' \\n'; echo \" $n of chunks\"\n\
         ask_1_0 {one} > old\necho \"$(wc -c < old) $n of old\"\ndone\n\
         ask {one} > chunks; tail -c 6 chunks | od -An -c | tr -d ' \\n'; echo\nask_1_0 {one}"
    );
    let ended = task(&repository, "", &script).exits(0);
    let said = log(&repository);
    for n in 1..=count {
        assert!(!said.contains(&format!("0\\r\\n\\r\\n\\n {n} of chunks")), "{said}");
        // The line feed is the test's own.
        says(&said, &[&format!("{n} of chunks"), &format!("\n1 {n} of old")]);
    }
    says(&said, &["\n0\\r\\n\\r\\n\\n\n", "Content-Length: ", "message_stop"]);
    assert_eq!(ended.events_of("model-called").len(), 2 * count + 2, "{ended}");
}

#[test]
fn a_model_that_is_asked_in_a_format_that_it_does_not_understand_is_asked_elsewhere() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let paths = ["/v1/chat/completions", "/v1/responses"];
    let ask = |model: &str| paths.map(|path| format!("ask {path} '{}'\n", body(model))).concat();
    task(&repository, "", &format!("{}{}", ask("main"), ask("big-1"))).exits(0);
    let said = log(&repository);
    for model in ["main", "big-1"] {
        for path in paths {
            says(
                &said,
                &[&format!(
                    "the model `{model}` is not asked at {path}, whose format it does not understand, but at /v1/messages"
                )],
            );
        }
    }
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn an_answer_of_which_only_the_connection_is_kept_open_ends() {
    let server = ModelServer::acting(vec![hello().keeps_open_after(2)]);
    let repository = scene("anthropic", &server.url(), "output-max = 50\nidle-timeout = '1s'");
    let ended = task(&repository, "", &format!("ask /v1/messages '{}'", body("main"))).exits(0);
    assert!(!log(&repository).contains("message_stop"));
    let called = &ended.events_of("model-called")[0];
    assert!(called.to_string().contains("it kept the connection open for 3 s and said nothing"), "{called}");
}

#[test]
fn a_tasks_budget_holds_and_the_rest_of_the_run_is_unharmed() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    // 50 tokens of an answer and half the bytes of a question are set aside.
    let plan = format!(
        "[tasks.a]\nmodels = ['main']\nbudget = {{ tokens = 130 }}\nshell = ['bash', '-eu', '-c']\nrun = '''{ASK}\n{0}\n{0}\n{0}\n'''\n\
         [tasks.b]\nrun = 'echo b > b.txt'\n",
        format_args!("ask /v1/messages '{}'", body("main"))
    );
    let ended = Swarm::run(&repository, "it", &plan).env("MY_KEY", KEY).exits(0);
    let said = log(&repository);
    says(&said, &["hello from a model", "HTTP/1.1 402 Payment Required", "the budget of the task is spent"]);
    assert_eq!(ended.fate("b"), "landed");
    assert!(server.asked().len() < 3, "{}", server.asked().len());
}

#[test]
fn a_program_whose_tasks_budget_is_spent_fails_and_is_not_tried_again() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let again =
        "[tasks.a]\nbudget = { tokens = 130 }\nretry = { max = 5, on = ['exit', 'infra', 'timeout'], delay = '1ms' }";
    let ask = format!("ask /v1/messages '{}'", body("main"));
    for (script, then) in [
        (format!("{ask}\n{ask}\n{ask} | grep -q 'hello from a model'"), "then it exited with 1"),
        (format!("{ask}\n{ask}\n{ask}\n"), "then check 1 `false` exited with 1"),
    ] {
        let plan = format!(
            "{again}\nmodels = ['main']\nshell = ['bash', '-eu', '-c']\ncheck = 'false'\nrun = '''{ASK}\n{script}\n'''\n"
        );
        let ended = Swarm::run(&repository, "it", &plan).args(&["--into", "x"]).env("MY_KEY", KEY).exits(1);
        let ends = ended.events_of("attempt-finished");
        assert_eq!(ends.len(), 1, "{ended}");
        let end = ends[0].to_string();
        says(&end, &["the budget of the task is spent: the budget of 130 tokens", then]);
        assert_eq!(ended.result("a"), "failed");
    }
}

#[test]
fn a_spent_budget_ends_the_run_with_7_and_a_larger_one_goes_on_with_what_was_spent() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let one = format!("ask /v1/messages '{}'", body("main"));
    let ended = task(&repository, "[budget]\ntokens = 130", &[one.as_str(); 4].join("\n")).exits(7);
    says(&ended.err, &["the run's budget is spent: the budget of 130 tokens", "swarm resume it-1"]);
    let calls = server.asked().len();
    let resume =
        |tokens: &str| Swarm::new(&repository, &["resume", "--budget-tokens", tokens, "--json"]).env("MY_KEY", KEY);
    resume("131").exits(7);
    let ended = resume("100000").exits(0);
    assert_eq!(ended.result("a"), "succeeded");
    assert!(server.asked().len() >= calls + 4, "{}", server.asked().len());
    let all = Swarm::new(&repository, &["status"]).exits(0).out;
    // The two that the budget refused are told, too.
    says(&all, &[&format!("models: {} calls, 2 failed", server.asked().len() + 2)]);
}

#[test]
fn a_budget_in_dollars_wants_prices_before_anything_runs() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = scene("anthropic", &server.url(), "");
    let words = ["keep the budget in dollars: main has no price", "under [models.main]: prices = {"];
    for keys in [
        "[budget]\nusd = 5",
        "[budget]\ntokens = 9000\n[tasks.b]\nmodels = ['main']\nbudget = { usd = 1 }\nrun = 'true'",
    ] {
        says(&task(&repository, keys, "true").exits(2).err, &words);
    }
    says(&task(&repository, "", "true").args(&["--budget-usd", "5"]).exits(2).err, &words);
    repository.write("p.toml", "version = 1\n[budget]\nusd = 5\n[tasks.a]\nmodels = ['main']\nrun = 'true'\n");
    says(&Swarm::new(&repository, &["check", "p.toml"]).env("MY_KEY", KEY).exits(0).err, &words);
    task(&repository, "[budget]\ntokens = 9000", "true").exits(0);
}

#[test]
fn an_answer_in_one_piece_that_breaks_off_costs_the_most_that_it_can() {
    let whole = Act::json(&json!({ "content": [], "stop_reason": "end_turn", "usage": {} }));
    let server = ModelServer::acting(vec![whole.clone().hangs_after(0), hello().hangs_after(0)]);
    let repository = scene("anthropic", &server.url(), PRICES);
    let ask = |body: &str| {
        let script = format!("ask /v1/messages '{body}' || true");
        let keys = "[tasks.a.budget]\ntime = '1s'";
        let called = task(&repository, keys, &script).args(&["--into", "x"]).end().events_of("model-called")[0].clone();
        (called["usage"]["output"].clone(), called["outcome"].clone())
    };
    let (output, outcome) = ask(&body("main").replace("\"stream\":true", "\"stream\":false"));
    assert_eq!(output, json!(50), "{outcome}");
    assert!(outcome.to_string().contains("the budget of the task is spent"), "{outcome}");
    let (output, outcome) = ask(&body("main"));
    assert_eq!(output, json!(0), "the control, a stream that has not begun: {outcome}");
}

#[test]
fn a_run_whose_time_is_over_in_the_midst_of_an_answer_ends_with_7() {
    let server = ModelServer::acting(vec![hello().hangs_after(2)]);
    let repository = scene("anthropic", &server.url(), "");
    let script = format!("ask /v1/messages '{}' || true", body("main"));
    let ended = task(&repository, "[budget]\ntime = '1s'", &script).exits(7);
    says(&ended.err, &["the run's budget is spent: the budget of 1 s of waiting for models is over"]);
}

#[test]
fn what_the_time_of_models_was_too_short_for_goes_on_with_more_of_it() {
    for (keys, code, again) in [("[budget]\ntime = '1s'", 7, "resume"), ("[tasks.a.budget]\ntime = '1s'", 1, "retry")] {
        let server = ModelServer::acting(vec![hello().hangs_after(2), hello()]);
        let repository = scene("anthropic", &server.url(), "");
        let script = format!("ask /v1/messages '{}' | grep -q 'hello from a model'", body("main"));
        task(&repository, keys, &script).exits(code);
        let swarm = |words: &[&str]| Swarm::new(&repository, &[&[again], words].concat()).env("MY_KEY", KEY);
        swarm(&["--budget-time", "0s"]).exits(2);
        let ended = swarm(&["--budget-time", "10m", "--json"]).exits(0);
        assert_eq!((ended.result("a").as_str(), server.asked().len()), ("succeeded", 2), "{again}");
    }
}

#[test]
fn a_recording_that_cannot_be_kept_leaves_no_second_head_in_an_answer() {
    let holder = tempfile::tempdir().expect("a folder");
    let (tape, at) = (holder.path().join("tape"), holder.path().join("tape"));
    // What is written after the run began finds a file in the folder's place.
    let server = ModelServer::start(move |_, _| {
        std::fs::remove_dir_all(&at).and_then(|()| std::fs::write(&at, "in the way")).expect("the run made it");
        hello()
    });
    let repository = scene("anthropic", &server.url(), "");
    let words = format!("ask /v1/messages '{}' || true", body("main"));
    task(&repository, "", &words).args(&["--record", &tape.display().to_string()]).end();
    let said = log(&repository);
    says(&said, &["HTTP/1.1 200 OK", "hello from a model"]);
    assert!(!said.contains("HTTP/1.1 502"), "{said}");
}

#[test]
fn a_run_is_recorded_and_replayed_without_key_and_server() {
    let server = ModelServer::acting(vec![Act::refusal(529, ""), hello()]);
    let repository = scene("anthropic", &server.url(), PRICES);
    // How an answer is cut into pieces is nobody's promise.
    let ask = |words: &str| format!("ask /v1/messages '{}'", body("main").replace("hi", words));
    let script = |words: &str| format!("{} | grep ^data > answer.txt", ask(words));
    let tape = repository.beside("tape").display().to_string();
    let tree = |ended: &Ended| ended.events_of("attempt-finished")[0]["change"]["tree"].clone();
    let recorded = task(&repository, "", &script("hi")).args(&["--record", &tape]).exits(0);
    let files: Vec<_> = std::fs::read_dir(&tape).expect("made").map(|file| file.expect("readable").path()).collect();
    assert_eq!(files.len(), 1);
    assert!(!std::fs::read_to_string(&files[0]).expect("text").contains(KEY));
    let calls = server.asked().len();
    let replay = |words: &str| {
        let swarm = task(&repository, "", &script(words)).env("MY_KEY", "");
        swarm.args(&["--replay", &tape, "--into", "again"]).end()
    };
    let replayed = replay("hi");
    assert_eq!(replayed.code, 0, "{replayed}");
    assert_eq!(tree(&replayed), tree(&recorded));
    says(&replayed.err, &["1 replayed"]);
    let plans_own = format!(
        "[models.mine]\nprovider = 'anthropic'\nmodel = 'big-1'\nbase-url = '{}'\n[tasks.b]\nmodels = ['mine']\nrun = 'true'\n",
        server.url()
    );
    task(&repository, &plans_own, &script("hi")).args(&["--into", "x"]).exits(2);
    task(&repository, &plans_own, &script("hi")).args(&["--replay", &tape, "--into", "again"]).exits(0);
    let other = replay("ho");
    assert_eq!(server.asked().len(), calls, "nobody was called: {other}");
    let again = task(&repository, "", &script("hi")).args(&["--record", &tape, "--into", "x"]).exits(2);
    says(&again.err, &["it holds recordings already"]);
    let empty = task(&repository, "", &script("hi")).args(&["--replay", "/nonexistent/x", "--into", "x"]).exits(2);
    says(&empty.err, &["use the recordings in /nonexistent/x"]);
}

#[test]
fn an_answer_that_breaks_off_is_recorded_as_it_came() {
    let server = ModelServer::acting(vec![hello().cut_after(2)]);
    let repository = scene("anthropic", &server.url(), "");
    let tape = repository.beside("tape").display().to_string();
    let script = format!("ask /v1/messages '{}' | grep -c ^data > answer.txt", body("main"));
    let heard = |more: &[&str]| {
        let ended = task(&repository, "", &script).args(more).exits(0);
        ended.events_of("attempt-finished")[0]["change"]["tree"].clone()
    };
    let recorded = heard(&["--record", &tape]);
    let calls = server.asked().len();
    assert_eq!(heard(&["--replay", &tape, "--into", "again"]), recorded);
    assert_eq!(server.asked().len(), calls);
}

#[test]
fn a_plan_of_a_stranger_sends_nothing_anywhere() {
    let server = ModelServer::acting(vec![hello()]);
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let plan = |rest: &str| {
        format!("[models.m]\nprovider = 'openai'\nmodel = 'x'\n{rest}\n[tasks.a]\nmodels = ['m']\nrun = 'true'\n")
    };
    let refused = |rest: &str, words: &[&str]| {
        let ended = Swarm::run(&repository, "it", &plan(rest)).env("OPENAI_API_KEY", KEY).exits(2);
        says(&ended.err, words);
        Swarm::run(&repository, "it", &plan(rest)).env("OPENAI_API_KEY", KEY).args(&["--trust-models"]).exits(0);
    };
    let trust = "or let this plan's with `--trust-models`";
    refused("base-url = 'https://evil.example'", &["sends what workers see to https://evil.example", trust]);
    refused("key = { command = ['touch', '/tmp/x'] }", &["runs `touch` outside of any cage, for a key", trust]);
    let url = format!("base-url = '{}'\nkey = {{ env = 'OPENAI_API_KEY' }}", server.url());
    refused(&url, &["sends what $OPENAI_API_KEY holds to http://127.0.0.1"]);
    // A worker without a network has no way to what listens on this machine.
    refused(&format!("base-url = '{}'", server.url()), &["sends what workers see to http://127.0.0.1", trust]);
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn what_is_wrong_with_models_has_its_place() {
    let repository = scene("anthropic", "http://127.0.0.1:9", "fallbacks = ['main']");
    repository.write("p.toml", "version = 1\n[tasks.a]\nmodels = ['mian']\nrun = 'true'\n");
    let ended = Swarm::new(&repository, &["check", "p.toml"]).exits(2);
    says(
        &ended.err,
        &[
            "the model `mian` is not known",
            "did you mean `main`?",
            "p.toml:3",
            "the fallbacks lead back: main → main",
            "config.toml:6",
        ],
    );
    let repository = Repository::with(&[("a.txt", "a\n")]);
    for (key, words) in [("tokens = 0", "`tokens` has to be between 1"), ("usd = 0", "`usd` has to be above 0")] {
        repository.write("p.toml", format!("version = 1\n[budget]\n{key}\n[tasks.a]\nrun = 'true'\n"));
        says(&Swarm::new(&repository, &["run", "p.toml"]).exits(2).err, &[words]);
    }
    repository.write("p.toml", "version = 1\n[tasks.a]\nrun = 'true'\n");
    says(&Swarm::new(&repository, &["run", "p.toml", "--budget-usd", "0"]).exits(2).err, &["--budget-usd is above 0"]);
}

#[test]
fn no_proxy_of_the_environment_is_asked() {
    let (server, proxy) = (ModelServer::acting(vec![hello()]), ModelServer::acting(vec![hello()]));
    let repository = scene("anthropic", &server.url(), "");
    let mut swarm = task(&repository, "", &format!("ask /v1/messages '{}'", body("main")));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        swarm = swarm.env(name, &proxy.url());
    }
    swarm.exits(0);
    assert_eq!((server.asked().len(), proxy.asked().len()), (1, 0));
}
