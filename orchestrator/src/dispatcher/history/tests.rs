//! Histories of a few events.

use super::*;
use crate::event::ParkedBy;
use crate::report::story;

fn evicted(name: &str, next: Remedy) -> RunEvent {
    let (kind, reason) = (RefusalKind::Conflict, String::new());
    RunEvent::Evicted { instance: story::id(name), reason, paths: vec![], kind, verification: None, next }
}

#[test]
fn a_journal_of_before_these_were_written_down_is_read() {
    let read = |text: &str| serde_json::from_str::<RunEvent>(text).expect("an old event");
    let events = [
        r#"{"event":"verified","tree":"1","gate":"2","of":{"what":"base"},"verdict":"red","duration-ms":1,"detail":null}"#,
        r#"{"event":"evicted","instance":"a","reason":"red","paths":[],"kind":"red","next":"rerun"}"#,
        r#"{"event":"merged","instance":"b","fate":{"fate":"parked","reason":"red","paths":[]}}"#,
    ]
    .map(read);
    let RunEvent::Merged { fate: Fate::Parked { by, verification, .. }, .. } = &events[2] else { panic!("{events:?}") };
    assert_eq!((*by, *verification), (ParkedBy::Unsaid, None));
    let history = History::of(&events);
    assert_eq!(
        (history.verifications(), history.instance(&story::id("b")).and_then(|past| past.fate)),
        (0, Some(Became::Parked))
    );
}

#[test]
fn a_call_whose_coordinator_died_is_booked_at_its_most() {
    let text = r#"{"event":"model-asked","call":3,"instance":"a","attempt":1,"asked":"main","model":"x/y","usage":{"input":5,
        "output":7},"cost-nano-usd":12,"tries":2}"#;
    let mut history = History::of(&[serde_json::from_str(text).expect("an event")]);
    let abandoned = history.abandoned_calls();
    abandoned.iter().for_each(|event| history.hear(event));
    let spent: Vec<_> =
        history.spending().map(|(_, spending)| (spending.calls, spending.output, spending.cost.0)).collect();
    assert_eq!((spent, history.abandoned_calls().len()), (vec![(1, 7, 12)], 0), "{abandoned:?}");
}

#[test]
fn what_an_attempt_spent_that_was_cut_short_is_known_until_one_ends() {
    let called = |attempt: u32| {
        let text = format!(
            r#"{{"event":"model-called","call":1,"instance":"b","attempt":{attempt},"asked":"main","model":"x/y",
            "usage":{{"input":5,"output":7}},"cost-nano-usd":12,"duration-ms":1,"tries":1,"outcome":{{"is":"answered"}}}}"#
        );
        serde_json::from_str(&text).expect("an event")
    };
    let spent = |events: &[RunEvent]| {
        let history = History::of(events);
        history.spending_cut_short().map(|(_, spending)| spending.calls).sum::<u64>()
    };
    let lost = story::ended("b", 1, AttemptEnd::Lost, 0, 0);
    assert_eq!(spent(&[called(1), lost.clone(), called(2)]), 2);
    let ended = story::ended("b", 2, AttemptEnd::Infra { detail: String::new() }, 0, 0);
    let all = [called(1), lost, called(2), ended, called(2)];
    assert_eq!((spent(&all), spent(&[all.as_slice(), &[called(3)]].concat())), (0, 1), "another try begins anew");
}

#[test]
fn what_comes_of_a_second_try_takes_the_place_of_the_first_when_its_turn_comes() {
    let came = story::ended("b", 2, AttemptEnd::Succeeded, 1, 1);
    let mut history = History::of(&[evicted("b", Remedy::Rerun), came]);
    let past = |history: &History, name: &str| history.instance(&story::id(name)).cloned().expect("it is named");
    assert_eq!(past(&history, "b").change, None, "until then the first one stands");
    let instances = vec![story::id("b"), story::id("a")];
    history.hear(&RunEvent::Requeued { instances });
    let (a, b) = (past(&history, "a"), past(&history, "b"));
    let second = |tried, turn| Some(Box::new(SecondTry { tried, stands: Stands::Requeued(turn) }));
    assert!(b.change.is_some() && b.second == second(vec![Remedy::Rerun], 1) && a.second == second(vec![], 2));
    history.hear(&evicted("b", Remedy::Resolve));
    let tried = past(&history, "b").second.map(|second| second.tried);
    assert_eq!(tried, Some(vec![Remedy::Rerun, Remedy::Resolve]), "nothing is tried twice");
}

#[test]
fn what_landed_and_was_given_up_is_waited_for_by_nobody() {
    let mut history = History::of(&[story::landed("a"), story::landed("b")]);
    let tip = |history: &History| history.tip().map(str::to_owned);
    let (last, dropped) = (tip(&history), Fate::Dropped { was: GivenUp::Landed });
    history.hear(&RunEvent::Merged { instance: story::id("b"), fate: dropped.clone() });
    assert!(last.is_some() && tip(&history).is_some(), "the one before it has landed still");
    assert_eq!(history.instance(&story::id("b")).and_then(|past| past.fate), Some(Became::Dropped));
    history.hear(&RunEvent::Merged { instance: story::id("a"), fate: dropped });
    assert_eq!(tip(&history), None);
}
