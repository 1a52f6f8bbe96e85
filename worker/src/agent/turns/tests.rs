//! Conversations by hand and at random.

use proptest::prelude::*;
use serde_json::Map;

use super::*;

const LIMITS: Limits = Limits { turns: 40, tokens: None, fixed_tokens: 0, context_tokens: 1000 };

fn named(names: &[&str]) -> Vec<ToolSpec> {
    let spec =
        |name: &&str| ToolSpec { name: (*name).to_owned(), description: String::new(), schema: Map::new().into() };
    names.iter().map(spec).collect()
}

fn turns() -> Turns {
    Turns::new("task".to_owned(), named(&["read", "bash"]), LIMITS)
}

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: Arguments::Object(Map::new()), proof: None }
}

fn reply(content: Vec<AssistantPart>, stop: Stop) -> Input {
    Input::Reply { dialect: Dialect::Anthropic, reply: Reply { content, stop, usage: Usage::default() } }
}

fn says(text: &str) -> AssistantPart {
    AssistantPart::Text { text: text.to_owned(), proof: None }
}

fn ok(call: &str) -> Outcome {
    Outcome { call: call.to_owned(), content: "x".to_owned(), status: ToolStatus::Ok }
}

#[test]
fn calls_are_run_and_answered_until_the_model_is_done() {
    let mut turns = turns();
    assert_eq!(turns.begin(), Next::Ask);
    let read = call("1", "read");
    let next = turns.hear(reply(vec![says("hm"), AssistantPart::Call(read.clone())], Stop::Calls));
    assert_eq!(next, Some(Next::Act(vec![read])));
    assert_eq!(turns.hear(Input::Results(vec![ok("1")])), Some(Next::Ask));
    let next = turns.hear(reply(vec![says("done")], Stop::End));
    assert_eq!(next, Some(Next::End(Ending::Done("done".to_owned()))));
    assert_eq!(turns.hear(Input::Broke("late".to_owned())), None);
}

#[test]
fn what_is_broken_or_unknown_is_answered_and_never_run() {
    let mut turns = turns();
    turns.begin();
    let mut broken = call("1", "read");
    broken.arguments = Arguments::Broken { text: "{".to_owned(), reason: "cut off".to_owned() };
    let parts = vec![AssistantPart::Call(broken), AssistantPart::Call(call("2", "frobnicate"))];
    assert_eq!(turns.hear(reply(parts, Stop::OutputMax)), Some(Next::Ask));
    let Some(Message::User { content }) = turns.messages().last() else { panic!("no answer") };
    assert!(content.iter().all(|part| matches!(part, UserPart::ToolResult { status: ToolStatus::Error, .. })));
    assert_eq!(content.len(), 2);
}

#[test]
fn counts_that_no_provider_can_mean_use_up_the_tokens() {
    let mut turns = Turns::new("task".to_owned(), named(&["read"]), Limits { tokens: Some(1000), ..LIMITS });
    turns.begin();
    let usage = Usage { input: Some(u64::MAX), cache_read: Some(7), output: Some(u64::MAX), ..Usage::default() };
    let content = vec![AssistantPart::Call(call("1", "read"))];
    turns.hear(Input::Reply { dialect: Dialect::Ollama, reply: Reply { content, stop: Stop::Calls, usage } });
    assert!(matches!(turns.hear(Input::Results(vec![ok("1")])), Some(Next::End(_))));
}

#[test]
fn no_request_is_sent_for_which_no_tokens_are_left() {
    let limited = |tokens| Limits { tokens: Some(tokens), fixed_tokens: 100, ..LIMITS };
    let begun = |tokens| Turns::new("task".to_owned(), named(&["read"]), limited(tokens)).begin();
    assert_eq!(begun(1), Next::End(Ending::Limit("tokens")));
    assert_eq!(begun(120), Next::End(Ending::Limit("tokens")), "the request alone would take them");
    assert_eq!(begun(300), Next::Ask);
    // What was counted so far and what is sent again leaves so much for the next answer.
    let mut turns = Turns::new("task".to_owned(), named(&["read"]), limited(1000));
    turns.begin();
    let usage = Usage { input: Some(300), output: Some(100), ..Usage::default() };
    let content = vec![AssistantPart::Call(call("1", "read"))];
    turns.hear(Input::Reply { dialect: Dialect::Ollama, reply: Reply { content, stop: Stop::Calls, usage } });
    assert_eq!(turns.hear(Input::Results(vec![ok("1")])), Some(Next::Ask));
    let left = turns.answer_tokens_max().unwrap();
    assert!((100..200).contains(&left), "{left}");
}

#[test]
fn a_call_written_as_prose_is_a_call() {
    let mut turns = turns();
    turns.begin();
    let prose = says("```json\n{\"name\": \"bash\", \"arguments\": {}}\n```");
    assert!(matches!(turns.hear(reply(vec![prose], Stop::End)), Some(Next::Act(calls)) if calls[0].name == "bash"));
}

#[test]
fn a_call_that_cannot_be_read_is_asked_for_again_and_not_for_ever() {
    let mut turns = turns();
    turns.begin();
    let half = || reply(vec![says("<tool_call>{\"name\": \"bash\", \"arguments\": {")], Stop::End);
    for round in 0..2 {
        for n in 0..UNHEARD_MAX {
            assert_eq!(turns.hear(half()), Some(Next::Ask), "{round} {n}");
            let Some(Message::User { content }) = turns.messages().last() else { panic!("it is not told") };
            assert!(matches!(&content[..], [UserPart::Text { text }] if text.contains("of these tools: read, bash")));
        }
        if round == 0 {
            let whole = says("{\"name\": \"bash\", \"arguments\": {}}");
            assert!(matches!(turns.hear(reply(vec![whole], Stop::End)), Some(Next::Act(_))));
            assert_eq!(turns.hear(Input::Results(vec![])), Some(Next::Ask));
        }
    }
    let end = "it wrote calls as text that cannot be read, 4 times in a row".to_owned();
    assert_eq!(turns.hear(half()), Some(Next::End(Ending::Circles(end))));
}

#[test]
fn limits_and_empty_answers_end_it() {
    let mut turns = turns();
    turns.begin();
    assert_eq!(turns.hear(reply(vec![], Stop::End)), Some(Next::Ask));
    assert_eq!(turns.hear(reply(vec![], Stop::OutputMax)), Some(Next::Ask));
    assert_eq!(turns.hear(reply(vec![], Stop::OutputMax)), Some(Next::End(Ending::Limit("output tokens"))));
}

#[test]
fn a_full_context_is_summed_up_and_the_task_stays() {
    let mut turns = turns();
    turns.begin();
    for n in 0..6 {
        let id = n.to_string();
        let used = Usage { input: Some(100), output: Some(10), ..Usage::default() };
        let content = vec![AssistantPart::Call(call(&id, "read"))];
        let input = Input::Reply { dialect: Dialect::Ollama, reply: Reply { content, stop: Stop::Calls, usage: used } };
        turns.hear(input);
        turns.hear(Input::Results(vec![Outcome { content: id.clone(), ..ok(&id) }]));
    }
    turns.context = 990;
    assert_eq!(turns.ask(), Next::SumUp);
    assert!(turns.to_sum_up().len() > 2);
    let before = turns.messages().len();
    assert_eq!(turns.hear(reply(vec![says("so far so good")], Stop::End)), Some(Next::Ask));
    assert!(turns.messages().len() < before);
    let Message::User { content } = &turns.messages()[0] else { panic!("no task") };
    assert_eq!(content[0], UserPart::Text { text: "task".to_owned() });
}

#[test]
fn a_provider_that_counts_nothing_does_not_fill_the_context() {
    let is_full = |calls: &usize| {
        let limits = Limits { turns: 100, ..LIMITS };
        let mut turns = Turns::new("task".to_owned(), named(&["read"]), limits);
        with_results(&mut turns, *calls, 800) == Some(Next::SumUp)
    };
    assert!((1..30).find(is_full).is_some_and(|calls| calls > 3));
}

/// A conversation of so many calls, each answered by a text of `bytes`, of which the provider counts nothing but the first.
fn with_results(turns: &mut Turns, calls: usize, bytes: usize) -> Option<Next> {
    let mut next = None;
    for n in 0..calls {
        let id = n.to_string();
        let usage = Usage { input: Some(10), output: Some(1), ..Usage::default() };
        let content = vec![AssistantPart::Call(call(&id, "read"))];
        turns.hear(Input::Reply { dialect: Dialect::Ollama, reply: Reply { content, stop: Stop::Calls, usage } });
        let content = format!("{n}{}", "x".repeat(bytes));
        next = turns.hear(Input::Results(vec![Outcome { content, ..ok(&id) }]));
    }
    next
}

#[test]
fn results_count_before_the_model_has_seen_them() {
    let mut turns = Turns::new("task".to_owned(), named(&["read"]), LIMITS);
    assert_eq!(with_results(&mut turns, 6, 100), Some(Next::Ask));
    let ids = ["a", "b", "c"];
    turns.hear(reply(ids.map(|id| AssistantPart::Call(call(id, "read"))).to_vec(), Stop::Calls));
    turns.context = 600;
    let large = |id: &&str| Outcome { content: format!("{id}{}", "y".repeat(4000)), ..ok(id) };
    assert_eq!(turns.hear(Input::Results(ids.iter().map(large).collect())), Some(Next::SumUp));
    let newest = compact::estimate(&turns.messages()[turns.messages().len() - 1..]);
    assert!((200..400).contains(&newest), "a quarter of the context at most: {newest}");
    assert_eq!(turns.hear(reply(vec![says("so far")], Stop::End)), Some(Next::Ask));
    assert_eq!(turns.context, compact::estimate(turns.messages()), "what is kept counts");
}

#[test]
fn a_model_that_calls_a_tool_instead_of_summing_up_is_asked_once_more_and_then_told_what_it_did() {
    let ready = || {
        let mut turns = turns();
        turns.begin();
        assert_eq!(with_results(&mut turns, 6, 1), Some(Next::Ask));
        turns.context = 990;
        assert_eq!(turns.ask(), Next::SumUp);
        turns
    };
    let told = |turns: &Turns| match &turns.messages()[0] {
        Message::User { content } => content
            .iter()
            .map(|part| match part {
                UserPart::Text { text } => text.clone(),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    for no_summary in [vec![says("let me look"), AssistantPart::Call(call("x", "bash"))], vec![]] {
        let mut turns = ready();
        let before = turns.to_sum_up();
        assert_eq!(turns.hear(reply(no_summary.clone(), Stop::Calls)), Some(Next::SumUp));
        assert_eq!(turns.to_sum_up().len(), before.len());
        assert_ne!(turns.to_sum_up(), before, "it is told what was wrong");
        let mut heard = ready();
        heard.hear(reply(no_summary.clone(), Stop::Calls));
        assert_eq!(heard.hear(reply(vec![says("so far")], Stop::End)), Some(Next::Ask));
        assert_eq!(told(&heard), ["task", "What was done so far, summed up by you:\n\nso far"]);
        assert_eq!(turns.hear(reply(no_summary, Stop::Calls)), Some(Next::Ask), "it goes on");
        let told = told(&turns);
        assert_eq!((told.len(), told[0].as_str()), (2, "task"), "the task stays as it is");
        assert!(told[1].contains("- `read` {}\n  gave: 0x") && !told[1].contains("let me look"), "{}", told[1]);
    }
}

#[test]
fn a_conversation_that_is_too_long_is_summed_up_once() {
    let mut turns = turns();
    turns.begin();
    assert_eq!(with_results(&mut turns, 6, 1), Some(Next::Ask));
    let too_long = || Input::TooLong("9 > 8".to_owned());
    assert_eq!(turns.hear(too_long()), Some(Next::SumUp));
    assert_eq!(turns.hear(reply(vec![says("so far")], Stop::End)), Some(Next::Ask));
    assert_eq!(turns.hear(too_long()), Some(Next::End(Ending::Broke("9 > 8".to_owned()))));
    let mut short = self::turns();
    short.begin();
    assert!(matches!(short.hear(too_long()), Some(Next::End(Ending::Broke(_)))), "there is nothing to sum up");
}

#[test]
fn a_conversation_that_is_too_long_to_be_summed_up_goes_on_with_a_list_of_its_calls() {
    let mut turns = turns();
    turns.begin();
    assert_eq!(with_results(&mut turns, 6, 1), Some(Next::Ask));
    let too_long = || Input::TooLong("9 > 8".to_owned());
    assert_eq!((turns.hear(too_long()), turns.hear(too_long())), (Some(Next::SumUp), Some(Next::Ask)));
    let Message::User { content } = &turns.messages()[0] else { panic!("no task") };
    assert!(matches!(&content[1], UserPart::Text { text } if text.contains("- `read` {}\n  gave: 0x")));
    assert_eq!(turns.hear(too_long()), Some(Next::End(Ending::Broke("9 > 8".to_owned()))), "once");
}

#[test]
fn what_is_too_large_for_the_context_is_cut_and_the_work_goes_on() {
    let limits = Limits { context_tokens: 10_000, ..LIMITS };
    let mut turns = Turns::new("task".to_owned(), named(&["read"]), limits);
    turns.begin();
    let mut large = call("1", "read");
    large.arguments = Arguments::Object(Map::from_iter([("path".to_owned(), "x".repeat(10 << 20).into())]));
    let parts = vec![says(&"y".repeat(10 << 20)), AssistantPart::Call(large.clone())];
    assert_eq!(turns.hear(reply(parts, Stop::Calls)), Some(Next::Act(vec![large])), "what is run is whole");
    assert_eq!(turns.hear(Input::Hint("z".repeat(10 << 20))), None);
    let result = Outcome { content: "r".repeat(10 << 20), ..ok("1") };
    assert_eq!(turns.hear(Input::Results(vec![result])), Some(Next::Ask));
    assert!(compact::estimate(turns.messages()) < limits.context_tokens, "{}", compact::estimate(turns.messages()));
    assert!(turns.told()[0].starts_with("an answer of the model is too large for its context: 209"));
    // A model that takes less than was thought.
    let too_long = || Input::TooLong("9 > 8".to_owned());
    let before = compact::estimate(turns.messages());
    assert_eq!(turns.hear(too_long()), Some(Next::Ask));
    assert!(compact::estimate(turns.messages()) < before);
    assert_eq!(turns.hear(too_long()), Some(Next::End(Ending::Broke("9 > 8".to_owned()))), "once");
}

/// Whatever comes in: messages alternate, and each call has one result right behind it.
fn is_sound(messages: &[Message], open: bool) -> bool {
    let alternate = messages.windows(2).all(|pair| {
        matches!(pair[0], Message::User { .. }) != matches!(pair[1], Message::User { .. })
            || matches!((&pair[0], &pair[1]), (Message::Assistant { content, .. }, Message::Assistant { .. }) if calls(content).next().is_none())
    });
    let answered = messages.iter().enumerate().all(|(at, message)| {
        let Message::Assistant { content, .. } = message else { return true };
        let asked: Vec<&str> = calls(content).map(|call| call.id.as_str()).collect();
        match messages.get(at + 1) {
            None => asked.is_empty() || open,
            Some(Message::User { content }) => {
                let given: Vec<&str> = content
                    .iter()
                    .filter_map(|part| match part {
                        UserPart::ToolResult { call, .. } => Some(call.as_str()),
                        UserPart::Text { .. } => None,
                    })
                    .collect();
                asked == given
            }
            Some(Message::Assistant { .. }) => asked.is_empty(),
        }
    });
    alternate && answered
}

proptest! {
    #[test]
    fn every_call_has_one_result_whatever_comes_in(inputs in proptest::collection::vec((0u8..9, 0u8..4), 1..60)) {
        let mut turns = turns();
        turns.begin();
        for (n, (kind, many)) in inputs.into_iter().enumerate() {
            let ids: Vec<String> = (0..many).map(|k| format!("{n}-{k}")).collect();
            let parts = |name: &str| ids.iter().map(|id| AssistantPart::Call(call(id, name))).collect::<Vec<_>>();
            let open = match &turns.state {
                State::Acting { calls, .. } => calls.iter().map(|call| call.id.clone()).collect(),
                _ => vec![],
            };
            let input = match kind {
                0 | 1 => reply(parts("read"), Stop::Calls),
                2 => reply(parts("unknown"), Stop::Calls),
                3 => reply(vec![says("x")], Stop::OutputMax),
                4 => reply(vec![says("x")], Stop::Pause),
                5 | 6 => Input::Results(open.iter().map(|id| ok(id)).collect()),
                7 => Input::Results(vec![ok("nobody")]),
                _ => Input::Hint("hint".to_owned()),
            };
            turns.hear(input);
            let open = matches!(turns.state, State::Acting { .. });
            prop_assert!(is_sound(turns.messages(), open), "{:?}", turns.messages());
        }
        turns.hear(Input::Broke("gone".to_owned()));
        prop_assert!(is_sound(turns.messages(), false), "{:?}", turns.messages());
    }
}
