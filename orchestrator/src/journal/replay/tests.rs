//! Events that fit and events that do not become a state.

use super::*;
use crate::event::Handed;
use crate::report::story::{START_MS, added, recorded};

fn finished_attempt(id: &str, attempt: u32, retry_in_ms: Option<u64>) -> RunEvent {
    RunEvent::AttemptFinished {
        instance: InstanceId(id.into()),
        attempt: Attempt(attempt),
        end: AttemptEnd::Infra { detail: "x".to_owned() },
        duration_ms: 10,
        change: None,
        outputs: serde_json::Map::new(),
        handed: Handed::Unknown,
        notes: Vec::new(),
        refusals: Vec::new(),
        envelope: None,
        retry_in_ms,
    }
}

/// A run of 100,000 tasks has as many of these: who adds to them adds to every coordinator. What few instances have belongs
/// into [`Rare`].
#[test]
fn an_instance_and_its_only_try_take_96_bytes() {
    assert!(size_of::<AttemptState>() <= 40, "{}", size_of::<AttemptState>());
    assert!(size_of::<InstanceState>() <= 96, "{}", size_of::<InstanceState>());
}

#[test]
fn tries_keep_their_order_and_their_text_as_they_grow() {
    let mut state = InstanceState::unknown();
    for n in 1..=3 {
        assert_eq!(state.start(Attempt(n), u64::from(n)).attempt, Attempt(n));
        assert_eq!(state.attempts.iter().map(|it| it.attempt.0).collect::<Vec<_>>(), (1..=n).collect::<Vec<_>>());
    }
}

#[test]
fn a_retry_waits_until_its_time_and_ends_flaky() {
    let id = InstanceId("a".into());
    let started = |n| RunEvent::AttemptStarted { instance: id.clone(), attempt: Attempt(n), on: None };
    let mut events = vec![added(&[("a", &[])]), started(1), finished_attempt("a", 1, Some(500))];
    let state = replay(&recorded(events.clone()));
    assert_eq!(state.instances[&id].phase, Phase::Retrying { at_ms: START_MS + 1000 });
    events.extend([
        started(2),
        finished_attempt("a", 2, None),
        RunEvent::InstanceFinished { instance: id.clone(), result: InstanceResult::Flaky, cause: None },
    ]);
    let state = replay(&recorded(events));
    assert_eq!(state.instances[&id].result(), Some(InstanceResult::Flaky));
    assert_eq!(state.instances[&id].attempts.len(), 2);
    assert_eq!((state.tally.passed, state.tally.flaky, state.tally.finished), (1, 1, 1));
}

#[test]
fn a_reused_result_is_an_end_and_one_without_a_change_is_merged_with_it() {
    let reused = |name: &str, files: u64| ReusedInstance {
        instance: InstanceId(name.into()),
        key: "k".to_owned(),
        from: RunId("x-1".to_owned()),
        saved_ms: 5,
        change: (files > 0).then(|| ChangeSummary {
            base_tree: "b".repeat(40),
            commit: "c".repeat(40),
            tree: "d".repeat(40),
            files,
            history: None,
            writes: None,
        }),
        outputs: serde_json::Map::new(),
        handed: Handed::Unknown,
        notes: vec![format!("{files} files")],
    };
    let events =
        vec![added(&[("a", &[]), ("b", &[])]), RunEvent::Reused { instances: vec![reused("a", 1), reused("b", 0)] }];
    let state = replay(&recorded(events));
    let fates: Vec<_> = state.instances.values().map(InstanceState::fate).collect();
    assert_eq!(fates, [None, Some(&Fate::Empty)]);
    assert_eq!(state.instances[0].change().map(|change| change.files), Some(1));
    assert_eq!((state.tally.finished, state.tally.passed, state.tally.reused), (2, 2, 2));
    assert_eq!(state.instances[1].reused_from(), Some("x-1"));
    let notes = state.instances[1].last_attempt().map(AttemptState::notes);
    assert_eq!(notes, Some(&["0 files".to_owned()][..]), "who takes it is told what they were told who made it");
}

#[test]
fn an_event_of_an_unknown_instance_is_kept_and_nothing_panics() {
    let state = replay(&recorded(vec![finished_attempt("ghost", 3, None)]));
    assert_eq!(state.instances[0].attempts[0].attempt, Attempt(3));
}

#[test]
fn what_is_on_no_branch_is_known_whether_it_was_made_before_or_after_what_landed() {
    use crate::report::story;
    let ended = |attempt: u32, tree: &str| {
        let mut event = story::ended("a", attempt, AttemptEnd::Succeeded, 1, 1);
        if let RunEvent::AttemptFinished { change: Some(change), .. } = &mut event {
            change.tree = tree.repeat(40);
        }
        event
    };
    let check = |events: Vec<RunEvent>, expected: &[u32]| {
        let state = replay(&recorded(events));
        let aside: Vec<u32> = state.instances[0].put_aside().map(|attempt| attempt.attempt.0).collect();
        assert_eq!(aside, expected);
    };
    check(vec![ended(1, "1"), ended(2, "2"), story::landed("a")], &[1]);
    check(vec![ended(1, "1"), story::landed("a"), ended(2, "2"), ended(3, "1")], &[2]);
    check(vec![ended(1, "1"), ended(2, "b"), RunEvent::Merged { instance: story::id("a"), fate: Fate::Empty }], &[1]);
    check(vec![ended(1, "b"), RunEvent::Merged { instance: story::id("a"), fate: Fate::Empty }, ended(2, "2")], &[2]);
    check(vec![ended(1, "1"), ended(2, "2")], &[]);
}
