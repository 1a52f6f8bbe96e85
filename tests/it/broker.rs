//! The one door to models, against a server that misbehaves on demand: what is tried again and what is not, what is never an
//! answer, what is booked, what is kept and given again, and where nobody is ever called.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use swarm_orchestrator::event::{CallOutcome, Counted, RunEvent};
use swarm_orchestrator::ids::Attempt;
use swarm_orchestrator::model::Delta;
use swarm_orchestrator::model::broker::accounts::Accounts;
use swarm_orchestrator::model::broker::catalog::Catalog;
use swarm_orchestrator::model::broker::keys::Keys;
use swarm_orchestrator::model::broker::tape::{Player, Recorder, Tape};
use swarm_orchestrator::model::broker::told::News;
use swarm_orchestrator::model::broker::{Answer, AskError, Broker, Caller, Cost, Whose};
use swarm_orchestrator::model::budget::NanoUsd;
use swarm_orchestrator::settings::PlanModels;
use swarm_plans::models::{Models, user_config};
use swarm_plans::{Budget, InstanceId, TaskBudget, TaskIx};
use swarm_protocol::chat::{Arguments, Message, ModelRequest, ToolSpec, UserPart};
use swarm_tests::model_server::{anthropic, chat};
use swarm_tests::{Act, Block, ModelServer};
use tokio::sync::mpsc;

/// The key of every test; nothing that leaves the broker may show it.
const KEY: &str = "sk-very-secret-0123456789";

/// A broker with one model, `main`, at a server, and what it tells.
struct Scene {
    broker: Arc<Broker>,
    news: mpsc::UnboundedReceiver<News>,
}

/// One attempt that may ask `main`.
fn caller(instance: &str) -> Caller {
    let models = Arc::new(["main".to_owned(), "spare".to_owned()]);
    Caller { instance: InstanceId(instance.into()), task: TaskIx(0), attempt: Attempt(1), models }
}

fn entry(name: &str, provider: &str, url: &str, rest: &str) -> String {
    format!(
        "[models.{name}]\nprovider = '{provider}'\nmodel = 'big-1'\nbase-url = '{url}'\nkey = {{ env = 'KEY' }}\n{rest}\n"
    )
}

fn scene(config: &str) -> Scene {
    scene_with(config, Tape::Off, Budget::default())
}

fn scene_with(config: &str, tape: Tape, budget: Budget) -> Scene {
    let (user, diagnostics) = user_config(config, 0);
    assert_eq!(diagnostics, []);
    let catalog = Catalog::new(Models { entries: user.models }, PlanModels::Bounded).expect("a person's own");
    let env = [("KEY", KEY), ("PATH", "/usr/bin:/bin")];
    let env: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let accounts = Arc::new(Accounts::new(&budget, &[TaskBudget::default()]));
    let (told, news) = mpsc::unbounded_channel();
    Scene { broker: Arc::new(Broker::new(catalog, tape, Keys::new(env), accounts, told)), news }
}

fn request(text: &str) -> ModelRequest {
    let schema = json!({ "type": "object", "properties": {} });
    let tool = ToolSpec { name: "ls".to_owned(), description: "Lists.".to_owned(), schema };
    ModelRequest {
        model: "main".to_owned(),
        system: "Be short.".to_owned(),
        messages: vec![Message::User { content: vec![UserPart::Text { text: text.to_owned() }] }],
        tools: vec![tool],
        output_tokens_max: 1000,
        context_tokens: None,
    }
}

/// What came of a question: the answer, what was shown meanwhile, and what was told of the call.
struct Came {
    result: Result<Answer, AskError>,
    shown: Vec<Delta>,
    told: RunEvent,
}

impl Came {
    fn text(&self) -> String {
        self.result.as_ref().map(|answer| answer.reply.text()).unwrap_or_else(|error| format!("error: {error}"))
    }

    fn error(&self) -> String {
        self.result.as_ref().expect_err("no answer").to_string()
    }

    fn tries(&self) -> u32 {
        let RunEvent::ModelCalled { tries, .. } = &self.told else { panic!("{:?}", self.told) };
        *tries
    }

    /// Tokens of requests and of answers that were booked.
    fn booked(&self) -> (u64, u64) {
        let RunEvent::ModelCalled { usage, .. } = &self.told else { panic!("{:?}", self.told) };
        (usage.input.unwrap_or(0), usage.output.unwrap_or(0))
    }
}

impl Scene {
    /// Asks, and answers for the journal.
    async fn ask(&mut self, request: ModelRequest) -> Came {
        let mut shown = Vec::new();
        let broker = Arc::clone(&self.broker);
        let (result, told) = {
            let (who, mut hear) = (caller("a"), |delta: Delta| shown.push(delta));
            let asking = broker.ask(&who, request, &mut hear);
            let storing = async {
                match heard(&mut self.news).await {
                    Some(News::Called(event, stored)) => {
                        stored.send(()).expect("it waits for the journal");
                        *event
                    }
                    other => panic!("{other:?}"),
                }
            };
            tokio::join!(asking, storing)
        };
        Came { result, shown, told }
    }
}

/// The next of the news, but that a call is sent: the journal knows.
async fn heard(news: &mut mpsc::UnboundedReceiver<News>) -> Option<News> {
    loop {
        match news.recv().await? {
            News::Sends(_, stored) => drop(stored.send(())),
            News::Noted(_) => {}
            other => return Some(other),
        }
    }
}

/// Runs a story to its end.
fn told<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(story)
}

/// Asks an Anthropic-speaking server that answers with these acts once.
fn asked(acts: Vec<Act>) -> (Came, ModelServer) {
    let server = ModelServer::acting(acts);
    let mut scene = scene(&entry("main", "anthropic", &server.url(), ""));
    (told(scene.ask(request("hi"))), server)
}

fn hello() -> Act {
    Act::events(&anthropic(&[Block::Text("hello")], "end_turn"))
}

#[test]
fn each_provider_is_asked_as_it_wants_to_be() {
    let gemini = json!({ "candidates": [{ "content": { "parts": [{ "text": "hello" }] }, "finishReason": "STOP" }] });
    let item =
        json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "hello" }] });
    let response = json!({ "status": "completed", "output": [item.clone()], "usage": {} });
    let responses = [
        json!({ "type": "response.output_item.done", "output_index": 0, "item": item }),
        json!({ "type": "response.completed", "response": response }),
    ];
    let ollama = json!({ "message": { "role": "assistant", "content": "hello" }, "done": true, "done_reason": "stop" });
    let bearer = ("authorization", format!("Bearer {KEY}"));
    let rows = [
        ("anthropic", "POST /v1/messages", ("x-api-key", KEY.to_owned()), hello()),
        (
            "openai",
            "POST /chat/completions",
            bearer.clone(),
            Act::events(&chat(&[Block::Text("hello")], "stop")).and("data: [DONE]\n\n"),
        ),
        ("openrouter", "POST /chat/completions", bearer.clone(), Act::events(&chat(&[Block::Text("hello")], "stop"))),
        ("openai-responses", "POST /responses", bearer.clone(), Act::events(&responses)),
        (
            "gemini",
            "POST /models/big-1:streamGenerateContent?alt=sse",
            ("x-goog-api-key", KEY.to_owned()),
            Act::events(&[gemini]),
        ),
        ("ollama", "POST /api/chat", bearer, Act::json(&ollama).header("content-type", "application/x-ndjson")),
    ];
    for (provider, line, (name, value), act) in rows {
        let server = ModelServer::acting(vec![act]);
        let came = told(scene(&entry("main", provider, &server.url(), "")).ask(request("hi")));
        assert_eq!(came.text(), "hello", "{provider}");
        let asked = &server.asked()[0];
        assert_eq!((asked.line.as_str(), asked.header(name)), (line, Some(value.as_str())), "{provider}");
        assert!(asked.text.contains("Be short."), "{provider}: {}", asked.text);
        assert_eq!(came.result.map(|answer| answer.model), Ok(format!("{provider}/big-1")));
    }
}

#[test]
fn an_answer_in_one_piece_is_an_answer() {
    let body = json!({ "content": [{ "type": "text", "text": "whole" }], "stop_reason": "end_turn", "usage": { "input_tokens": 2, "output_tokens": 3 } });
    let (came, _server) = asked(vec![Act::json(&body)]);
    assert_eq!((came.text().as_str(), came.booked()), ("whole", (2, 3)));
}

#[test]
fn a_provider_that_has_too_much_to_do_is_asked_again() {
    let slow = |status: u16, kind: &str| {
        Act::refusal(status, &format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"later"}}}}"#))
    };
    for refusal in [
        slow(429, "rate_limit_error").header("retry-after", "0"),
        slow(429, "rate_limit_error"),
        slow(529, "overloaded_error"),
        slow(503, "api_error").header("retry-after", "0"),
        slow(500, "api_error"),
    ] {
        let (came, server) = asked(vec![refusal, hello()]);
        assert_eq!((came.text().as_str(), came.tries(), server.asked().len()), ("hello", 2, 2));
        assert_eq!(came.booked(), (11, 7), "a refusal costs nothing");
    }
}

#[test]
fn a_provider_that_means_no_is_asked_once() {
    let rows = [
        (
            429,
            r#"{"error":{"type":"rate_limit_error","message":"spent","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
            "spent (HTTP status 429)",
        ),
        (
            400,
            r#"{"error":{"type":"invalid_request_error","message":"tools are not supported"}}"#,
            "tools are not supported",
        ),
        (404, r#"{"error":{"type":"not_found_error","message":"model: big-1"}}"#, "model: big-1 (HTTP status 404)"),
        (413, "", "HTTP status 413"),
    ];
    for (status, body, words) in rows {
        let (came, server) = asked(vec![Act::refusal(status, body), hello()]);
        assert!(came.error().contains(words), "{status}: {}", came.error());
        assert!(came.error().starts_with("anthropic/big-1 does not answer: "), "{}", came.error());
        assert_eq!((came.tries(), server.asked().len(), came.booked()), (1, 1, (0, 0)), "{status}");
        assert!(matches!(came.told, RunEvent::ModelCalled { outcome: CallOutcome::Failed { .. }, .. }));
    }
}

#[test]
fn a_wrong_key_is_named_and_not_shown() {
    let body = format!(r#"{{"error":{{"message":"invalid x-api-key: {KEY}"}}}}"#);
    let (came, server) = asked(vec![Act::refusal(401, &body)]);
    assert!(came.error().contains("invalid x-api-key: *** (HTTP status 401)"), "{}", came.error());
    assert_eq!(server.asked().len(), 1);
    assert!(!format!("{:?}{:?}", came.result, came.told).contains(KEY));
}

#[test]
fn a_missing_key_calls_nobody() {
    let server = ModelServer::acting(vec![hello()]);
    let config = entry("main", "anthropic", &server.url(), "").replace("'KEY'", "'NO_SUCH_KEY'");
    let came = told(scene(&config).ask(request("hi")));
    assert_eq!(came.error(), "there is no key for anthropic/big-1: the variable NO_SUCH_KEY is not set");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_key_that_ran_out_is_printed_anew_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("cd {} && echo x >> n && echo key-number-$(wc -l < n)", folder.path().display());
    let server = ModelServer::start(|_, asked| match asked.header("x-api-key") {
        Some("key-number-2") => hello(),
        _ => Act::refusal(401, ""),
    });
    let config = entry("main", "anthropic", &server.url(), "")
        .replace("{ env = 'KEY' }", &format!("{{ command = ['sh', '-c', '{script}'] }}"));
    assert_eq!(told(scene(&config).ask(request("hi"))).text(), "hello");
    let refused = ModelServer::acting(vec![Act::refusal(401, "")]);
    let config = config.replace(&server.url(), &refused.url());
    assert!(told(scene(&config).ask(request("hi"))).error().contains("HTTP status 401"));
    assert_eq!(refused.asked().len(), 2);
}

#[test]
fn a_stream_that_breaks_is_never_an_answer() {
    let events = anthropic(&[Block::Text("half"), Block::Call("ls", "{\"path\": \"a\"}")], "tool_use");
    let error = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let mut failing = events[..3].to_vec();
    failing.push(error);
    let whole = Act::events(&events);
    for (name, broken) in [
        ("cut", whole.clone().cut_after(4)),
        ("cut before its end", whole.clone().cut_after(events.len() - 1)),
        ("closed", whole.clone().ends_after(4)),
        ("an error in its midst", Act::events(&failing)),
        ("no JSON", whole.clone().ends_after(3).and("data: {\"type\n\n")),
        ("silence", whole.hangs_after(4)),
    ] {
        let server = ModelServer::acting(vec![broken, hello()]);
        let mut scene = scene(&entry("main", "anthropic", &server.url(), "idle-timeout = '300ms'"));
        let came = told(scene.ask(request("hi")));
        assert_eq!((came.text().as_str(), came.tries()), ("hello", 2), "{name}");
        // What broke off may have been shown, and is void then.
        let is_hello = |delta: &Delta| *delta == Delta::Text("hello".to_owned());
        let told = match came.shown.as_slice() {
            [Delta::Again { .. }, hello] | [.., Delta::Restarted, Delta::Again { .. }, hello] => is_hello(hello),
            _ => false,
        };
        assert!(told, "{:?}", came.shown);
        assert!(came.booked().0 > 11 && came.booked().1 > 7, "what broke off is paid for: {name} {:?}", came.booked());
    }
}

#[test]
fn a_foreign_end_and_a_second_start_are_understood() {
    let one = anthropic(&[Block::Text("first")], "end_turn");
    let other = anthropic(&[Block::Text("second")], "end_turn");
    let (came, _server) = asked(vec![Act::events(&one).and("data: [DONE]\n\n")]);
    assert_eq!(came.text(), "first");
    let spliced = [&one[..3], &other[..]].concat();
    let (came, _server) = asked(vec![Act::events(&spliced)]);
    assert_eq!((came.text().as_str(), came.tries()), ("second", 1));
    assert!(came.shown.contains(&Delta::Restarted));
}

#[test]
fn arguments_are_whole_or_they_are_broken() {
    let arguments = |acts: Vec<Act>| {
        let (came, _server) = asked(acts);
        let answer = came.result.expect("an answer");
        answer.reply.calls().map(|call| call.arguments.clone()).next().expect("a call")
    };
    let call = |text: &str, stop: &str| vec![Act::events(&anthropic(&[Block::Call("ls", text)], stop))];
    assert_eq!(arguments(call("", "tool_use")), Arguments::Object(Default::default()));
    assert!(matches!(arguments(call("{\"path\": \"a", "max_tokens")), Arguments::Broken { .. }));
    let large = "x".repeat(10 << 20);
    let Arguments::Object(read) = arguments(call(&json!({ "text": large }).to_string(), "tool_use")) else {
        panic!("broken")
    };
    assert_eq!(read["text"].as_str().map(str::len), Some(10 << 20));
}

#[test]
fn an_answer_may_come_in_drops() {
    let (came, _server) = asked(vec![hello().dripping()]);
    assert_eq!(came.text(), "hello");
}

#[test]
fn a_model_that_does_not_answer_is_replaced() {
    let (server, spare) = (ModelServer::acting(vec![Act::refusal(404, "")]), ModelServer::acting(vec![hello()]));
    let config = entry("main", "anthropic", &server.url(), "fallbacks = ['spare']");
    let spare_entry = entry("spare", "anthropic", &spare.url(), "prices = { input = 1, output = 2 }");
    let came = told(scene(&format!("{config}{spare_entry}")).ask(request("hi")));
    assert_eq!(came.text(), "hello");
    assert_eq!((server.asked().len(), spare.asked().len(), came.tries()), (1, 1, 2));
    let cost = came.result.expect("an answer").cost;
    assert_eq!(cost, Cost::Usd(NanoUsd(11 * 1000 + 3 * 1000 + 7 * 2000)), "what is cached costs as input by default");
}

#[test]
fn a_model_that_wants_to_be_left_alone_for_long_is_replaced_at_once() {
    let busy = || Act::refusal(429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"later"}}"#);
    let server = ModelServer::acting(vec![busy().header("retry-after", "3600"); 2]);
    let spare = ModelServer::acting(vec![hello(), hello()]);
    let config = entry("main", "anthropic", &server.url(), "fallbacks = ['spare']");
    let mut scene = scene(&format!("{config}{}", entry("spare", "anthropic", &spare.url(), "")));
    told(async {
        for asked in 1..=2 {
            assert_eq!(scene.ask(request("hi")).await.text(), "hello");
            assert_eq!((server.asked().len(), spare.asked().len()), (1, asked));
        }
    });
}

#[test]
fn nobody_is_called_who_is_not_named() {
    let elsewhere = ModelServer::acting(vec![hello()]);
    let redirect = Act::refusal(307, "").header("location", &format!("{}/v1/messages", elsewhere.url()));
    let (came, server) = asked(vec![redirect]);
    assert!(came.error().contains("it redirects to http://127.0.0.1:"), "{}", came.error());
    assert_eq!((server.asked().len(), elsewhere.asked().len()), (1, 0));
    let mut scene = scene(&entry("main", "anthropic", &server.url(), ""));
    let other = ModelRequest { model: "anthropic/other".to_owned(), ..request("hi") };
    let who = caller("a");
    let refused = told(scene.broker.ask(&who, other, &mut |_| ())).expect_err("not named");
    assert_eq!(refused.to_string(), "the task may not ask the model `anthropic/other`; it may ask: main, spare");
    let came = told(scene.ask(ModelRequest { model: "spare".to_owned(), ..request("hi") }));
    assert!(came.error().starts_with("there is no model `spare`: describe it as [models.spare]"), "{}", came.error());
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_conversation_that_grew_begins_with_the_same_bytes() {
    let server = ModelServer::acting(vec![hello()]);
    let mut scene = scene(&entry("main", "anthropic", &server.url(), ""));
    let first = request("hi");
    let mut second = first.clone();
    told(async {
        let answer = scene.ask(first).await.result.expect("an answer");
        second.messages.push(Message::Assistant { dialect: answer.dialect, content: answer.reply.content });
        second.messages.push(Message::User { content: vec![UserPart::Text { text: "more".to_owned() }] });
        scene.ask(second).await.result.expect("an answer");
    });
    let asked = server.asked();
    let front = |text: &str| text.find("\"text\":\"hi\"").map(|at| text[..at].to_owned());
    assert_eq!(front(&asked[0].text), front(&asked[1].text));
    assert!(front(&asked[0].text).is_some_and(|front| front.contains("cache_control")), "{}", asked[0].text);
    let marks = asked[1].text.matches("cache_control").count();
    assert_eq!(marks, 2, "behind the instructions and behind the newest message");
}

#[test]
fn a_spent_budget_calls_nobody_and_stops_the_run() {
    let mut events = anthropic(&[Block::Text("hello")], "end_turn");
    let last = events.len() - 2;
    events[last]["usage"] = json!({ "input_tokens": 11, "output_tokens": 1000 });
    let server = ModelServer::acting(vec![Act::events(&events)]);
    let config = entry("main", "anthropic", &server.url(), "prices = { input = 3, output = 15 }");
    // 1,000 tokens of an answer cost a cent and a half: there is enough for one.
    let mut scene = scene_with(&config, Tape::Off, Budget { usd: Some(0.02), ..Budget::default() });
    assert_eq!(told(scene.ask(request("hi"))).text(), "hello");
    let news = told(async {
        let (who, mut deaf) = (caller("a"), |_: Delta| ());
        let mut all = Vec::new();
        let listening = async {
            while all.len() < 2 {
                match heard(&mut scene.news).await.expect("it tells") {
                    News::Called(event, stored) => {
                        let _ = stored.send(());
                        all.push(format!("{event:?}"));
                    }
                    News::RunBudgetSpent(why) => all.push(why),
                    News::Sends(..) | News::Noted(_) => unreachable!("it was answered"),
                }
            }
        };
        tokio::select! {
            answered = scene.broker.ask(&who, request("hi"), &mut deaf) => panic!("the run ends first: {answered:?}"),
            () = listening => {}
        }
        all
    });
    assert!(news[0].contains("the budget of the run is spent"), "{news:?}");
    assert!(news[1].starts_with("the budget of $0.02 has $0.0050 left"), "{news:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_budget_that_is_too_small_for_one_call_fails_that_call_alone() {
    let server = ModelServer::acting(vec![hello()]);
    let config =
        entry("main", "anthropic", &server.url(), "prices = { input = 3, output = 15 }\nfallbacks = ['spare']");
    let spare = |prices: &str| format!("{config}{}", entry("spare", "anthropic", &server.url(), prices));
    let small = || Budget { usd: Some(0.01), ..Budget::default() };
    let came = told(scene_with(&spare("prices = { input = 3, output = 15 }"), Tape::Off, small()).ask(request("hi")));
    let error = came.error();
    assert!(error.starts_with("the budget of the run is too small for one call: $0.015"), "{error}");
    for words in ["1000 of its answer", "it has $0.0100; raise `usd` of [budget] (or --budget-usd)", "`output-tokens`"]
    {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!((server.asked().len(), came.booked()), (0, (0, 0)));
    let came = told(scene_with(&spare("prices = { input = 0, output = 1 }"), Tape::Off, small()).ask(request("hi")));
    assert_eq!((came.text().as_str(), server.asked().len()), ("hello", 1), "what is cheaper in its place is asked");
}

#[test]
fn a_model_that_no_budget_could_pay_for_is_not_told_of_as_asked() {
    let (server, spare) = (ModelServer::acting(vec![Act::refusal(404, "")]), ModelServer::acting(vec![hello()]));
    let main = entry("main", "anthropic", &server.url(), "prices = { input = 0, output = 1 }\nfallbacks = ['spare']");
    let config = format!("{main}{}", entry("spare", "openrouter", &spare.url(), "prices = { input = 3, output = 15 }"));
    let small = Budget { usd: Some(0.01), ..Budget::default() };
    let came = told(scene_with(&config, Tape::Off, small).ask(request("hi")));
    assert!(came.error().starts_with("anthropic/big-1 does not answer"), "{}", came.error());
    assert_eq!((server.asked().len(), spare.asked().len(), came.tries()), (1, 0, 1));
    assert!(matches!(&came.told, RunEvent::ModelCalled { model, .. } if model == "anthropic/big-1"), "{:?}", came.told);
}

#[test]
fn a_model_that_means_no_for_itself_alone_is_replaced() {
    let no = |status: u16| Act::refusal(status, "");
    let replaced = [no(529).header("x-should-retry", "false"), no(307).header("location", "http://127.0.0.1:1/")];
    for (act, text) in replaced.into_iter().map(|act| (act, "hello")).chain([(no(400), "error: ")]) {
        let (server, spare) = (ModelServer::acting(vec![act]), ModelServer::acting(vec![hello()]));
        let main = entry("main", "anthropic", &server.url(), "fallbacks = ['spare']");
        let came = told(scene(&format!("{main}{}", entry("spare", "anthropic", &spare.url(), ""))).ask(request("hi")));
        assert!(came.text().starts_with(text), "{}", came.text());
        assert_eq!(server.asked().len(), 1, "{text}");
    }
}

#[test]
fn a_model_without_a_price_fails_a_call_and_spends_no_budget() {
    let dollars = || Budget { usd: Some(1.0), ..Budget::default() };
    let asked = |config: String| told(scene_with(&config, Tape::Off, dollars()).ask(request("hi")));
    let (server, spare) = (ModelServer::acting(vec![Act::refusal(404, "")]), ModelServer::acting(vec![hello()]));
    let spare_at = |rest: &str| entry("spare", "openrouter", &spare.url(), rest);
    let came = asked(entry("main", "anthropic", &server.url(), ""));
    assert!(came.error().starts_with("anthropic/big-1 has no price, and the budget of the run"), "{}", came.error());
    let prices = "prices = { input = 1, output = 2 }";
    let main = entry("main", "anthropic", &server.url(), &format!("{prices}\nfallbacks = ['spare']"));
    let came = asked(format!("{main}{}", spare_at("")));
    assert!(came.error().starts_with("anthropic/big-1 does not answer"), "{}", came.error());
    assert_eq!((server.asked().len(), spare.asked().len()), (1, 0));
    let main = entry("main", "anthropic", &server.url(), "fallbacks = ['spare']");
    let spare = ModelServer::acting(vec![hello()]);
    let came = asked(format!("{main}{}", entry("spare", "anthropic", &spare.url(), prices)));
    assert_eq!((came.text().as_str(), server.asked().len()), ("hello", 1), "only what has a price is asked");
}

#[test]
fn calls_at_once_never_spend_more_than_there_is() {
    let server = ModelServer::acting(vec![hello()]);
    let config = entry("main", "anthropic", &server.url(), "output-max = 100");
    // A request of some 300 bytes is booked with half as many tokens: two of them fit beside each other, many in a row.
    let budget = TaskBudget { task: Budget { tokens: Some(700), ..Budget::default() }, ..TaskBudget::default() };
    let (user, _) = user_config(&config, 0);
    let catalog = Catalog::new(Models { entries: user.models }, PlanModels::Bounded).expect("a person's own");
    let accounts = Arc::new(Accounts::new(&Budget::default(), &[budget]));
    let (news, mut hear) = mpsc::unbounded_channel();
    let env = BTreeMap::from([("KEY".to_owned(), KEY.to_owned())]);
    let broker = Arc::new(Broker::new(catalog, Tape::Off, Keys::new(env), accounts, news));
    let results = told(async {
        let asking: Vec<_> = (0..40)
            .map(|n| {
                let broker = Arc::clone(&broker);
                let who = caller(&format!("i{n}"));
                tokio::spawn(async move { broker.ask(&who, request("hi"), &mut |_| ()).await })
            })
            .collect();
        let storing = tokio::spawn(async move {
            let mut spent = 0;
            while let Some(News::Called(event, stored)) = heard(&mut hear).await {
                let RunEvent::ModelCalled { usage, .. } = *event else { panic!("{event:?}") };
                spent += swarm_orchestrator::model::budget::tokens_of(&usage);
                let _ = stored.send(());
            }
            spent
        });
        let mut results = Vec::new();
        for asking in asking {
            results.push(asking.await.expect("no panic"));
        }
        drop(broker);
        (results, storing.await.expect("no panic"))
    });
    let answered = results.0.iter().filter(|result| result.is_ok()).count();
    let refused =
        |result: &Result<Answer, AskError>| matches!(result, Err(AskError::Budget { whose: Whose::Task, .. }));
    assert_eq!(answered + results.0.iter().filter(|result| refused(result)).count(), 40);
    assert_eq!(answered, server.asked().len());
    assert!((1..40).contains(&answered) && results.1 <= 700, "{answered} answers for {} tokens", results.1);
}

#[test]
fn a_call_ends_when_its_time_is_over() {
    let server = ModelServer::acting(vec![hello().hangs_after(2)]);
    let budget = Budget { time: Some(std::time::Duration::from_millis(200)), ..Budget::default() };
    let budget = TaskBudget { attempt: budget, ..TaskBudget::default() };
    let (user, _) = user_config(&entry("main", "anthropic", &server.url(), ""), 0);
    let catalog = Catalog::new(Models { entries: user.models }, PlanModels::Bounded).expect("a person's own");
    let accounts = Arc::new(Accounts::new(&Budget::default(), &[budget]));
    let (news, hear) = mpsc::unbounded_channel();
    let env = BTreeMap::from([("KEY".to_owned(), KEY.to_owned())]);
    let broker = Arc::new(Broker::new(catalog, Tape::Off, Keys::new(env), accounts, news));
    let came = told(Scene { broker, news: hear }.ask(request("hi")));
    assert!(
        came.error().starts_with("the budget of the attempt is spent: the budget of 0 s of waiting"),
        "{}",
        came.error()
    );
    assert!(came.booked().0 > 0, "its request is paid for");
}

#[test]
fn what_was_recorded_is_given_again_without_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = || Tape::Record(Recorder::create(folder.path()).expect("an empty folder"));
    let echo = anthropic(&[Block::Text(&format!("your key is {KEY}")), Block::Call("ls", "{}")], "tool_use");
    let server = ModelServer::acting(vec![Act::refusal(529, ""), Act::events(&echo), hello()]);
    let config = entry("main", "anthropic", &server.url(), "prices = { input = 1, output = 1 }");
    let mut live = scene_with(&config, record(), Budget::default());
    let first = told(live.ask(request("hi")));
    let second = told(live.ask(request("hi")));
    assert_eq!((first.text(), second.text()), ("your key is ***".to_owned(), "hello".to_owned()));
    for file in std::fs::read_dir(folder.path()).expect("there") {
        let text = std::fs::read_to_string(file.expect("readable").path()).expect("text");
        assert!(!text.contains(KEY) && text.contains("Be short."), "{text}");
    }
    let calls = server.asked().len();
    let replay = |folder: &Path| Tape::Replay(Box::new(Player::open(folder).expect("recordings")));
    // The key is not there any more, and nobody listens at the place.
    let config = config.replace("'KEY'", "'NO_SUCH_KEY'");
    let mut again = scene_with(&config, replay(folder.path()), Budget::default());
    let (one, other) = (told(again.ask(request("hi"))), told(again.ask(request("hi"))));
    assert_eq!((one.text().as_str(), other.text().as_str()), ("your key is ***", "hello"));
    assert_eq!(one.result.as_ref().map(|answer| answer.reply.calls().count()), Ok(1));
    assert_eq!((one.booked(), other.booked()), (first.booked(), second.booked()), "the budget is spent alike");
    assert!(matches!(one.told, RunEvent::ModelCalled { outcome: CallOutcome::Replayed, .. }));
    let error = told(again.ask(request("hi there"))).error();
    assert!(error.ends_with("recorded \"hi\", asked \"hi there\""), "{error}");
    assert_eq!(server.asked().len(), calls, "nobody was called");
}

#[test]
fn what_a_budget_refused_is_refused_again_where_nobody_was_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ModelServer::acting(vec![hello()]);
    let config = entry("main", "anthropic", &server.url(), "prices = { input = 3, output = 15 }");
    let small = || Budget { usd: Some(0.01), ..Budget::default() };
    let asked = |tape: Tape| {
        let mut scene = scene_with(&config, tape, small());
        let short = ModelRequest { output_tokens_max: 100, ..request("hi") };
        (told(scene.ask(short)).text(), told(scene.ask(request("hi, at length"))).error())
    };
    let live = asked(Tape::Record(Recorder::create(folder.path()).expect("an empty folder")));
    assert!(live.1.starts_with("the budget of the run is too small for one call"), "{live:?}");
    let again = asked(Tape::Replay(Box::new(Player::open(folder.path()).expect("recordings"))));
    assert!(again.0 == live.0 && again.1.starts_with("the budget of the run is too small for one call"), "{again:?}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_worker_that_goes_away_leaves_what_it_may_have_cost() {
    let server = ModelServer::acting(vec![hello().hangs_after(2)]);
    let mut scene = scene(&entry("main", "anthropic", &server.url(), ""));
    told(async {
        let (who, broker) = (caller("a"), Arc::clone(&scene.broker));
        let (shown, mut seen) = mpsc::unbounded_channel();
        let mut hear = move |delta: Delta| drop(shown.send(delta));
        let asking = tokio::spawn(async move { broker.ask(&who, request("hi"), &mut hear).await });
        let Some(News::Sends(event, stored)) = scene.news.recv().await else { panic!("it is sent") };
        let RunEvent::ModelAsked { usage, call: 1.., .. } = *event else { panic!("{event:?}") };
        assert_eq!((usage.output, server.asked().len()), (Some(1000), 0), "before it is sent, the journal knows");
        stored.send(()).expect("it waits for the journal");
        // The server is asked as soon as its request is there: nothing of the answer has to be seen.
        while server.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        asking.abort();
        drop(asking.await);
        drop(seen.try_recv());
        let Some(News::Called(event, _)) = scene.news.recv().await else { panic!("nothing is told") };
        let RunEvent::ModelCalled { usage, outcome, .. } = *event else { panic!("{event:?}") };
        assert_eq!((outcome, usage.output), (CallOutcome::Abandoned, Some(1000)), "the most that it can be");
    });
}

#[test]
fn one_refusal_slows_everybody_down_and_ends_nobodys_work() {
    // Ten workers ask at once, and every other request is refused.
    let server = ModelServer::start(|number, _| match number % 2 {
        0 => Act::refusal(529, ""),
        _ => hello(),
    });
    let scene = scene(&entry("main", "anthropic", &server.url(), ""));
    let Scene { broker, mut news } = scene;
    let texts = told(async {
        tokio::spawn(async move {
            while let Some(News::Called(_, stored)) = heard(&mut news).await {
                let _ = stored.send(());
            }
        });
        let asking = (0..4).map(|n| {
            let (broker, who) = (Arc::clone(&broker), caller(&format!("i{n}")));
            tokio::spawn(async move { broker.ask(&who, request("hi"), &mut |_| ()).await.map(|a| a.reply.text()) })
        });
        let asking: Vec<_> = asking.collect();
        let mut texts = Vec::new();
        for asking in asking {
            texts.push(asking.await.expect("no panic"));
        }
        texts
    });
    assert_eq!(texts, vec![Ok("hello".to_owned()); 4]);
    assert!(server.asked().iter().all(|asked| asked.body["messages"][0]["content"][0]["text"] == "hi"));
}

/// A scene of `main` with `spare` in its place, each at its server.
fn row(main: &ModelServer, spare: &ModelServer) -> Scene {
    let first = entry("main", "anthropic", &main.url(), "fallbacks = ['spare']");
    scene(&format!("{first}{}", entry("spare", "anthropic", &spare.url(), "")))
}

/// How often a call said that a model is down.
fn downs(scene: &mut Scene) -> usize {
    let mut downs = 0;
    while let Ok(News::Noted(event)) = scene.news.try_recv() {
        downs += usize::from(matches!(*event, RunEvent::ModelDown { .. }));
    }
    downs
}

#[test]
fn a_model_that_is_down_is_passed_by_by_the_calls_that_follow() {
    for (no, tries) in [(Act::refusal(500, "").header("retry-after", "0"), 2), (Act::refusal(404, ""), 1)] {
        let (main, spare) = (ModelServer::acting(vec![no]), ModelServer::acting(vec![hello()]));
        let mut scene = row(&main, &spare);
        let said = |came: &Came| came.shown.iter().filter(|delta| matches!(delta, Delta::Said(_))).count();
        let first = told(scene.ask(request("hi")));
        assert_eq!((first.text().as_str(), main.asked().len(), spare.asked().len()), ("hello", tries, 1));
        let second = told(scene.ask(request("hi")));
        let third = told(scene.ask(request("hi")));
        assert_eq!((second.text().as_str(), main.asked().len(), spare.asked().len()), ("hello", tries, 3));
        assert_eq!([said(&first), said(&second), said(&third)], [1, 0, 0], "it is said once");
    }
}

#[test]
fn where_all_are_down_all_are_asked_as_ever() {
    let no = || ModelServer::acting(vec![Act::refusal(404, ""), hello()]);
    let (main, spare) = (no(), ModelServer::acting(vec![Act::refusal(404, "")]));
    let mut scene = row(&main, &spare);
    assert!(told(scene.ask(request("hi"))).error().contains("HTTP status 404"));
    assert_eq!(told(scene.ask(request("hi"))).text(), "hello");
    assert_eq!((main.asked().len(), spare.asked().len()), (2, 1));
    assert_eq!(told(scene.ask(request("hi"))).text(), "hello", "it is known to answer again");
    assert_eq!((main.asked().len(), spare.asked().len()), (3, 1));
    let question = Act::refusal(413, "");
    let (main, spare) = (ModelServer::acting(vec![question, hello()]), ModelServer::acting(vec![hello()]));
    let mut scene = row(&main, &spare);
    told(scene.ask(request("hi")));
    told(scene.ask(request("hi")));
    assert_eq!((main.asked().len(), downs(&mut scene)), (2, 0), "a question that is too long says nothing of others");
}

#[test]
fn an_answer_that_is_too_large_is_asked_for_once() {
    let piece = "x".repeat(1 << 20);
    let blocks = vec![Block::Text(&piece); 40];
    let body = json!({ "content": [{ "type": "text", "text": "x".repeat(33 << 20) }], "stop_reason": "end_turn", "usage": {} });
    for (name, act, output) in [
        ("a stream", Act::events(&anthropic(&blocks, "end_turn")), 1000),
        ("one event", Act::events(&anthropic(&[Block::Text(&"x".repeat(33 << 20))], "end_turn")), 1000),
        ("in one piece", Act::json(&body), 1000),
    ] {
        let (came, server) = asked(vec![act, hello()]);
        let error = came.error();
        assert!(
            error.contains("exceeds 32 MiB") || error.contains("exceeds 33554432 bytes in one event"),
            "{name}: {error}"
        );
        assert_eq!((server.asked().len(), came.booked().1), (1, output), "{name}");
    }
}

#[test]
fn ten_million_bytes_of_arguments_pass_in_pieces_of_any_size() {
    let arguments = json!({ "text": "\"x\n".repeat(2 << 20) }).to_string();
    assert!(arguments.len() > 10_000_000);
    let mut events = anthropic(&[Block::Call("ls", "")], "tool_use");
    let delta = events.remove(2);
    let letters: Vec<char> = arguments.chars().collect();
    for (at, piece) in letters.chunks(4000).enumerate() {
        let mut event = delta.clone();
        event["delta"]["partial_json"] = piece.iter().collect::<String>().into();
        events.insert(2 + at, event);
    }
    let (came, _server) = asked(vec![Act::events(&events)]);
    let answer = came.result.expect("an answer");
    let call = answer.reply.calls().next().expect("a call");
    assert!(matches!(&call.arguments, Arguments::Object(read) if read["text"].as_str().map(str::len) == Some(6 << 20)));
}

#[test]
fn what_is_no_provider_is_called_so_and_asked_once() {
    let page = "<!doctype html><title>Welcome</title>";
    let html = |kind: &str| Act::refusal(200, page).header("content-type", kind);
    let plain = |text: &str| Act::refusal(200, text).header("content-type", "text/plain");
    let whole = json!({ "object": "chat.completion", "choices": [{ "message": { "content": "hi" } }] });
    let rows = [
        ("page", html("text/html; charset=utf-8"), "answers HTML, not Anthropic's Messages: is `base-url` right?"),
        ("page that does not say so", html("text/event-stream"), "it answers HTML, not Anthropic's Messages"),
        ("words", plain("It works!"), "it answers \"It works!\", not Anthropic's Messages"),
        ("JSON", Act::json(&json!({ "status": "ok" })), "it answers \"{\\\"status\\\":\\\"ok\\\"}\", not Anthropic's"),
        (
            "another's stream",
            Act::events(&chat(&[Block::Text("hi")], "stop")),
            "it answers as OpenAI's Chat Completions do, not Anthropic's Messages: are `provider` and `base-url` right?",
        ),
        ("another's answer", Act::json(&whole), "it answers as OpenAI's Chat Completions do"),
    ];
    for (name, act, words) in rows {
        let (came, server) = asked(vec![act, hello()]);
        assert!(came.error().contains(words), "{name}: {}", came.error());
        assert_eq!((server.asked().len(), came.shown.len()), (1, 0), "{name}");
    }
    let (came, server) = asked(vec![html("text/html"), hello()]);
    assert_eq!((came.booked(), server.asked().len()), ((0, 0), 1), "no model was asked");
}

#[test]
fn what_nobody_counted_is_marked() {
    let counted = |came: &Came| {
        let RunEvent::ModelCalled { counted, .. } = &came.told else { panic!("{:?}", came.told) };
        *counted
    };
    let mut silent = anthropic(&[Block::Text("hello")], "end_turn");
    silent.iter_mut().for_each(|event| {
        event.as_object_mut().expect("an event").remove("usage");
        event.get_mut("message").and_then(serde_json::Value::as_object_mut).map(|message| message.remove("usage"));
    });
    let (came, _server) = asked(vec![Act::events(&silent)]);
    assert_eq!((came.text().as_str(), counted(&came), came.booked().1), ("hello", Counted::AtMost, 1000));
    let (came, _server) = asked(vec![hello()]);
    assert_eq!(counted(&came), Counted::Said);
    let (came, _server) = asked(vec![hello().cut_after(3), hello()]);
    assert_eq!((came.text().as_str(), counted(&came)), ("hello", Counted::AtMost), "what broke off is not known");
}
