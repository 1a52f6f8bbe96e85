//! What keeps an agent from working: keys, models and servers that are not as they should be. Each says what it is, and the
//! rest of the run is unharmed.

use serde_json::Value;
use swarm_tests::model_server::{Act, Asked, Block, ModelServer, chat};
use swarm_tests::{Repository, Swarm};

/// Answers by the first part of the path.
fn server() -> ModelServer {
    ModelServer::start(|_, asked: &Asked| {
        let says = |message: &str| serde_json::json!({"error": {"message": message}}).to_string();
        let finish = r#"{"status": "done", "summary": "I did it"}"#;
        match asked.line.split('/').nth(1) {
            Some("wrong") => Act::refusal(401, &says("Incorrect API key provided")),
            Some("gone") => Act::refusal(404, &says("The model `m` does not exist")),
            Some("toolless") => Act::refusal(400, &says("library/m does not support tools")),
            Some("talks") => Act::events(&chat(&[Block::Text("I would now make the file.")], "stop")),
            _ => Act::events(&chat(&[Block::Call("finish", finish)], "tool_calls")),
        }
    })
}

fn configure(repository: &Repository, server: &ModelServer) {
    let one = |name: &str| {
        let url = server.url();
        format!(
            "[models.{name}]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{url}/{name}'\nkey = {{ env = 'A_KEY' }}\n"
        )
    };
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    let text: String = ["wrong", "gone", "toolless", "talks", "fine"].map(one).concat();
    std::fs::write(folder.join("config.toml"), text).expect("space");
}

const PLAN: &str = r#"
    [servers.hangs]
    argv = ["sleep", "1000"]
    timeout = "1s"
    [defaults]
    writes = []
    [tasks.wrong]
    agent = { prompt = "x", model = "wrong" }
    [tasks.gone]
    agent = { prompt = "x", model = "gone" }
    [tasks.toolless]
    agent = { prompt = "x", model = "toolless" }
    [tasks.talks]
    agent = { prompt = "x", model = "talks" }
    check = "test -e made"
    [tasks.unserved]
    agent = { prompt = "x", model = "fine", servers = ["hangs"] }
    [tasks.lost]
    agent = { prompt-file = "no/such.md", model = "fine" }
    [tasks.fine]
    run = "true"
"#;

#[test]
fn each_fault_says_what_it_is_and_the_rest_is_unharmed() {
    let repository = Repository::with(&[("README", "base\n")]);
    let server = server();
    configure(&repository, &server);
    let ended = Swarm::run(&repository, "it", PLAN).env("A_KEY", "sk-very-secret-key").exits(1);
    for task in ["wrong", "gone", "toolless", "talks", "lost"] {
        assert_eq!(ended.result(task), "failed", "{task}");
    }
    assert_eq!((ended.result("fine").as_str(), ended.result("unserved").as_str()), ("succeeded", "succeeded"));
    let status = Swarm::new(&repository, &["status"]).exits(0).out;
    for words in [
        "Incorrect API key provided",
        "The model `m` does not exist",
        "library/m does not support tools",
        "test -e made",
        "no/such.md: there is no such file",
    ] {
        assert!(status.contains(words), "{words} is not in\n{status}");
    }
    let log = Swarm::new(&repository, &["logs", "unserved"]).exits(0).out;
    assert!(log.contains("server `hangs` cannot be used"), "{log}");
    let all = format!("{ended}{status}{log}");
    assert!(!all.contains("sk-very-secret-key"), "a key is shown");
}

#[test]
fn a_model_that_nobody_configured_is_named_before_anything_starts() {
    let repository = Repository::with(&[("README", "base\n")]);
    let plan = "[tasks.a]\nagent = { prompt = 'x', model = 'mian' }\n[tasks.fine]\nrun = 'true'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(2);
    assert!(ended.err.contains("the model `mian` is not known") && ended.err.contains("it.toml:3:"), "{ended}");
    let entry = "[models.main]\nprovider = 'ollama'\nmodel = 'x'\n";
    let ended = Swarm::run(&repository, "it", &format!("{entry}{plan}")).exits(2);
    assert!(ended.err.contains("did you mean `main`?"), "{ended}");
    for (budget, said) in [("usd = 0", "`usd` has to be above 0"), ("tokens = 0", "`tokens` has to be between 1")] {
        let ended = Swarm::run(&repository, "it", &format!("[budget]\n{budget}\n{plan}")).exits(2);
        assert!(ended.err.contains(said), "{ended}");
    }
}

#[test]
fn no_call_is_executed_of_an_answer_that_was_stopped_by_its_length() {
    let repository = Repository::with(&[("README", "base\n")]);
    let server = ModelServer::start(|at, _| {
        let write = |path| Block::Call("write", path);
        let both = [write(r#"{"path": "one", "text": "1\n"}"#), write(r#"{"path": "two", "content": "2\n"}"#)];
        let finish = Block::Call("finish", r#"{"status": "done", "summary": "I did it"}"#);
        match at {
            0 => Act::events(&chat(&both, "length")),
            1 => Act::events(&chat(&[write(r#"{"path": "three", "text": "3\n"}"#)], "tool_calls")),
            _ => Act::events(&chat(&[finish], "tool_calls")),
        }
    });
    configure(&repository, &server);
    let plan = "[tasks.a]\nagent = { prompt = 'x', model = 'fine' }\n";
    Swarm::run(&repository, "it", plan).env("A_KEY", "sk-key").exits(0);
    assert!(repository.files("swarm/it").keys().eq(["README", "three"]));
    let told = server.asked()[1].body["messages"].to_string();
    assert_eq!(told.matches("none of its calls counts").count(), 2, "{told}");
}

#[test]
fn a_models_entry_says_how_long_answers_and_conversations_are() {
    let repository = Repository::with(&[("README", "base\n")]);
    let server = server();
    let entry = format!(
        "[models.fine]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{}/fine'\noutput-max = 1234\n",
        server.url()
    );
    let task = |more: &str| format!("{entry}[tasks.a]\nagent = {{ prompt = 'x', model = 'fine'{more} }}\n");
    Swarm::run(&repository, "it", &task("")).args(&["--trust-models"]).exits(0);
    Swarm::run(&repository, "it", &task(", output-tokens = 77")).args(&["--trust-models"]).exits(0);
    let asked: Vec<Value> = server.asked().into_iter().map(|asked| asked.body).collect();
    let most = |body: &Value| body["max_tokens"].as_u64().or(body["max_completion_tokens"].as_u64());
    assert_eq!(asked.iter().map(most).collect::<Vec<_>>(), [Some(1234), Some(77)]);
}

#[test]
fn no_template_and_no_policy_lets_the_key_of_an_agents_model_through() {
    let repository = Repository::with(&[("README", "base\n")]);
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    let own = "[models.own]\nprovider = 'openai'\nmodel = 'm'\nkey = { env = 'PLAIN_WORD' }\n";
    std::fs::write(folder.join("config.toml"), own).expect("space");
    let plan = |model: &str| {
        format!(
            "[sandbox.default]\nenv = ['PLAIN_WORD']\n[tasks.a]\nagent = {{ prompt = 'x', model = '{model}' }}\nif = false\n\
             [tasks.b]\nrun = 'echo got=${{PLAIN_WORD-nothing}}'\n"
        )
    };
    for (model, seen) in [("own", "got=nothing"), ("ollama/m", "got=ordinary words")] {
        Swarm::run(&repository, "it", &plan(model)).env("PLAIN_WORD", "ordinary words").exits(0);
        let log = Swarm::new(&repository, &["logs", "b"]).exits(0).out;
        assert!(log.contains(seen), "{model}: {log}");
    }
}

#[test]
fn a_server_that_nobody_has_signed_in_to_stops_a_run_before_it_starts() {
    let repository = Repository::with(&[("a", "a\n")]);
    let folder = repository.home().join(".config/swarm");
    std::fs::create_dir_all(&folder).expect("space");
    let server = server();
    let config = format!(
        "[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{}/fine'\n\
         [servers.wiki]\nurl = 'http://127.0.0.1:1/mcp'\nlogin = {{ scopes = ['read'] }}\n",
        server.url()
    );
    std::fs::write(folder.join("config.toml"), config).expect("space");
    let plan = |servers: &str| format!("[tasks.a]\nwrites = []\nagent = {{ prompt = 'x', servers = [{servers}] }}\n");
    let refused = Swarm::run(&repository, "it", &plan("'wiki'")).exits(2);
    assert!(refused.err.contains("nobody has signed in to it"), "{refused}");
    assert!(refused.err.contains("hint: swarm login wiki"), "{refused}");
    Swarm::run(&repository, "it", &plan("")).exits(0);
    let nobody = Swarm::new(&repository, &["login", "wiki"]).exits(3);
    assert!(nobody.err.contains("sign in to \"wiki\"") && nobody.out.is_empty(), "{nobody}");
    let unknown = Swarm::new(&repository, &["login", "other"]).exits(2);
    assert!(unknown.err.contains("no server of yours with `login`") && unknown.err.contains("login = {}"), "{unknown}");
}
