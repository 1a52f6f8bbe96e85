//! A folder is recorded into, and played again.

use std::io::Write as _;

use swarm_protocol::chat::{Message, UserPart};

use super::super::AskError;
use super::*;
use crate::model::failure::{Class, Failure};

fn question(text: &str) -> Question {
    let content = vec![UserPart::Text { text: text.to_owned() }];
    Question::of_agent(&ModelRequest {
        model: "main".to_owned(),
        system: "s".to_owned(),
        messages: vec![Message::User { content }],
        tools: vec![],
        output_tokens_max: 9,
        context_tokens: None,
    })
}

fn keep(recorder: &Recorder, by: &str, text: &str, answer: &[u8]) {
    try_keep(recorder, by, text, answer).unwrap();
}

fn try_keep(recorder: &Recorder, by: &str, text: &str, answer: &[u8]) -> Result<(), TapeError> {
    let heard = Heard {
        instance: InstanceId(by.into()),
        model: "ollama/m".to_owned(),
        dialect: Dialect::Ollama,
        content_type: "application/x-ndjson".to_owned(),
        said: Said::Answer(answer.to_vec()),
    };
    recorder.keep(&question(text), heard)
}

fn played(player: &Player, by: &str, text: &str) -> Result<Vec<u8>, String> {
    let recorded = player.play(&InstanceId(by.into()), &question(text)).map_err(|error| error.to_string())?;
    match recorded.said()? {
        Said::Answer(bytes) => Ok(bytes),
        Said::Refusal(refused) => Err(refused.again(recorded.model).0.to_string()),
    }
}

#[test]
fn the_same_question_is_answered_in_order_and_an_instance_hears_its_own_first() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(folder.path()).unwrap();
    keep(&recorder, "a", "q", b"a1");
    keep(&recorder, "b", "q", b"b1\xff");
    keep(&recorder, "a", "q", b"a2");
    let player = Player::open(folder.path()).unwrap();
    assert_eq!(played(&player, "b", "q"), Ok(b"b1\xff".to_vec()));
    assert_eq!(played(&player, "a", "q"), Ok(b"a1".to_vec()));
    assert_eq!(played(&player, "renamed", "q"), Ok(b"a2".to_vec()));
    let more = played(&player, "a", "q").unwrap_err();
    assert!(more.ends_with("it was asked more often than the 3 times that are recorded"), "{more}");
}

#[test]
fn a_refusal_is_given_again_in_its_place_among_answers() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(folder.path()).unwrap();
    let failure = Failure { class: Class::TooLong, message: "too long (HTTP status 400)".to_owned() };
    let page = Page { status: 400, body: "{}".to_owned() };
    let heard = Heard {
        instance: InstanceId("a".into()),
        model: "ollama/m".to_owned(),
        dialect: Dialect::Ollama,
        content_type: "application/json".to_owned(),
        said: Said::Refusal(Refused::new(&failure, Some(page.clone()))),
    };
    recorder.keep(&question("q"), heard).unwrap();
    keep(&recorder, "a", "q", b"2");
    let player = Player::open(folder.path()).unwrap();
    let recorded = player.play(&InstanceId("a".into()), &question("q")).unwrap();
    let Ok(Said::Refusal(refused)) = recorded.said() else { panic!("{recorded:?}") };
    assert_eq!(refused.again("m".to_owned()), (AskError::Refused { model: "m".to_owned(), failure }, Some(page)));
    assert_eq!(played(&player, "a", "q"), Ok(b"2".to_vec()));
}

#[test]
fn a_question_without_a_recording_says_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(folder.path()).unwrap();
    keep(&recorder, "a", "fix the parser", b"1");
    keep(&recorder, "a", "else", b"2");
    let error = played(&Player::open(folder.path()).unwrap(), "a", "fix the lexer").unwrap_err();
    let wanted = "differs at /messages/0/content/0/text: recorded \"fix the parser\", asked \"fix the lexer\"";
    assert!(error.ends_with(wanted), "{error}");
}

#[test]
fn a_folder_is_recorded_into_once_unless_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Player::open(folder.path()), Err(TapeError::Empty(_))));
    keep(&Recorder::create(folder.path()).unwrap(), "a", "q", b"1");
    assert!(matches!(Recorder::create(folder.path()), Err(TapeError::NotEmpty(_))));
    keep(&Recorder::go_on(folder.path()).unwrap(), "a", "q", b"2");
    let player = Player::open(folder.path()).unwrap();
    assert_eq!((played(&player, "a", "q"), played(&player, "a", "q")), (Ok(b"1".to_vec()), Ok(b"2".to_vec())));
}

#[test]
fn an_answer_that_could_not_be_kept_is_not_counted() {
    let (folder, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, gone) = (folder.path().join("tape"), aside.path().join("tape"));
    let recorder = Recorder::create(&here).unwrap();
    keep(&recorder, "a", "q", b"1");
    std::fs::rename(&here, &gone).unwrap();
    assert!(matches!(try_keep(&recorder, "a", "q", b"lost"), Err(TapeError::Io { .. })));
    std::fs::rename(&gone, &here).unwrap();
    keep(&recorder, "a", "q", b"2");
    let player = Player::open(&here).unwrap();
    assert_eq!((played(&player, "a", "q"), played(&player, "a", "q")), (Ok(b"1".to_vec()), Ok(b"2".to_vec())));
}

#[test]
fn answers_written_by_hand_are_given_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    for (file, occurrence) in [("b", 1), ("a", 2)] {
        let text = serde_json::json!({"version": 1, "instance": "x", "occurrence": occurrence, "turn": 1, "model": "ollama/m",
            "dialect": "ollama", "content-type": "application/x-ndjson", "answer": file});
        std::fs::write(folder.path().join(format!("{file}.json")), text.to_string()).unwrap();
    }
    let player = Player::open(folder.path()).unwrap();
    assert!(played(&player, "y", "q").is_err());
    assert_eq!((played(&player, "x", "q"), played(&player, "x", "r")), (Ok(b"b".to_vec()), Ok(b"a".to_vec())));
    let more = played(&player, "x", "q").unwrap_err();
    assert!(more.ends_with("it was asked more often than the 2 times that are recorded"), "{more}");
}

#[test]
fn a_run_that_goes_on_hears_the_same_once_more_and_then_what_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::create(folder.path()).unwrap();
    ["1", "2", "3"].into_iter().for_each(|answer| keep(&recorder, "a", "q", answer.as_bytes()));
    let kept = folder.path().join("given");
    let player = || Player::open(folder.path()).unwrap().go_on(&kept).unwrap();
    let first = player();
    assert_eq!((played(&first, "a", "q"), played(&first, "a", "q")), (Ok(b"1".to_vec()), Ok(b"2".to_vec())));
    std::fs::OpenOptions::new().append(true).open(&kept).unwrap().write_all(b"{\"question\":\"to").unwrap();
    let second = player();
    let all = [(); 3].map(|()| played(&second, "a", "q").unwrap());
    assert_eq!(all, [b"1", b"2", b"3"]);
    assert!(played(&second, "a", "q").is_err());
}

#[test]
fn an_answer_written_by_hand_is_not_given_to_another_conversation_after_a_death() {
    let folder = tempfile::tempdir().unwrap();
    for occurrence in 1..=2 {
        let text = serde_json::json!({"version": 1, "instance": "x", "occurrence": occurrence, "turn": 1, "model": "ollama/m",
            "dialect": "ollama", "content-type": "application/x-ndjson", "answer": occurrence.to_string()});
        std::fs::write(folder.path().join(format!("{occurrence}.json")), text.to_string()).unwrap();
    }
    let kept = folder.path().join("given");
    let player = || Player::open(folder.path()).unwrap().go_on(&kept).unwrap();
    assert_eq!(played(&player(), "x", "first"), Ok(b"1".to_vec()));
    assert_eq!(played(&player(), "x", "second"), Ok(b"2".to_vec()));
    assert_eq!(played(&player(), "x", "first"), Ok(b"1".to_vec()));
}

#[test]
fn a_program_with_another_session_hears_what_it_heard_in_order_and_another_prompt_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |session: &str, prompt: &str| {
        Question::of_program("/v1/messages", &serde_json::json!({"session": session, "prompt": prompt}))
    };
    let instance = InstanceId("a".into());
    let recorder = Recorder::create(folder.path()).unwrap();
    for (session, answer) in [("s-1", "first"), ("s-2", "second")] {
        let (model, content_type) = ("anthropic/m".to_owned(), "text/event-stream".to_owned());
        let (instance, said) = (instance.clone(), Said::Answer(answer.as_bytes().to_vec()));
        let heard = Heard { instance, model, dialect: Dialect::Anthropic, content_type, said };
        recorder.keep(&asked(session, "poll"), heard).unwrap();
    }
    let player = Player::open(folder.path()).unwrap();
    let hears = |by: &InstanceId, session, prompt| player.play(by, &asked(session, prompt)).map(|it| it.said());
    let answer = |text: &str| Ok(Ok(Said::Answer(text.as_bytes().to_vec())));
    assert!(hears(&InstanceId("b".into()), "s-3", "poll").is_err(), "another's");
    assert!(hears(&instance, "s-3", "else").is_err());
    assert_eq!(hears(&instance, "s-3", "poll"), answer("first"));
    assert_eq!(hears(&instance, "s-3", "poll"), answer("second"));
    assert!(hears(&instance, "s-3", "poll").unwrap_err().to_string().contains("more often than the 2 times"));
}

#[test]
fn a_file_that_is_no_recording_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.json"), "{}").unwrap();
    assert!(matches!(Player::open(folder.path()), Err(TapeError::Malformed { .. })));
}

#[test]
fn the_order_of_keys_does_not_matter() {
    let one = Question::of_program("/v1/messages", &serde_json::json!({"a": 1, "b": {"c": 2, "d": 3}}));
    let other = Question::of_program("/v1/messages", &serde_json::json!({"b": {"d": 3, "c": 2}, "a": 1}));
    assert_eq!(one.hash, other.hash);
}

#[test]
fn an_agent_with_other_tools_hears_what_it_heard_and_with_another_prompt_is_told_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let asked = |tools: &[&str], text: &str| {
        let tool = |name: &&str| serde_json::json!({"name": name, "description": "d", "schema": {}});
        let tools: Vec<Value> = tools.iter().map(tool).collect();
        let messages = serde_json::json!([{"role": "user", "content": [{"part": "text", "text": text}]}]);
        Question::new(serde_json::json!({"model": "main", "system": "s", "messages": messages, "tools": tools}))
    };
    let instance = InstanceId("a".into());
    let recorder = Recorder::create(folder.path()).unwrap();
    for (tools, answer) in [(&["read"][..], "first"), (&["read", "grep"], "second")] {
        let (model, content_type) = ("ollama/m".to_owned(), "application/x-ndjson".to_owned());
        let (instance, said) = (instance.clone(), Said::Answer(answer.as_bytes().to_vec()));
        let heard = Heard { instance, model, dialect: Dialect::Ollama, content_type, said };
        recorder.keep(&asked(tools, "fix"), heard).unwrap();
    }
    let player = Player::open(folder.path()).unwrap();
    let hears = |by: &InstanceId, tools, text| player.play(by, &asked(tools, text)).map(|it| it.said().unwrap());
    let answer = |text: &str| Ok(Said::Answer(text.as_bytes().to_vec()));
    assert_eq!(hears(&instance, &["read", "grep"], "fix"), answer("second"), "its own first");
    assert!(hears(&InstanceId("b".into()), &["read", "glob"], "fix").is_err(), "another's");
    assert!(hears(&instance, &[], "fix").is_err(), "none at all is another agent");
    assert_eq!(hears(&instance, &["read", "glob"], "fix"), answer("first"));
    let why = hears(&instance, &["read"], "mend").unwrap_err().to_string();
    assert!(
        why.contains("where what it is told or its tools gave is meant to be another, record the run anew"),
        "{why}"
    );
}
