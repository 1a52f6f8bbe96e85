//! Events that become durable: `cargo bench -p swarm-tests --bench journal -- [EVENTS]`.
//!
//! One event after the other, each waited for; then with many on their way, as the dispatcher hands them over; beside what
//! the disk can do by itself, an append and its `fdatasync`. The journal lies in the temporary folder: `TMPDIR` names the disk.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use swarm_orchestrator::event::{AttemptEnd, Handed, RunEvent};
use swarm_orchestrator::ids::Attempt;
use swarm_orchestrator::journal::{Journal, JournalReader, NewRun, RunWriter};
use swarm_orchestrator::settings::Asked;
use swarm_plans::InstanceId;

fn main() {
    let events: usize = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let few = (events / 50).max(1);
    say("append and fdatasync of 300 bytes", few, || syncs(folder.path(), few));
    say("one event at a time", few, || in_flight(&begin(folder.path(), "one"), few, 1));
    for window in [10, 100, 1000] {
        let writer = begin(folder.path(), &format!("w{window}"));
        say(&format!("{window} on their way"), events, || in_flight(&writer, events, window));
        let stored = JournalReader::open(folder.path()).and_then(|journal| journal.events(writer.run(), 0));
        assert_eq!(stored.expect("legible").len(), events, "all of them are stored");
    }
}

fn say(what: &str, count: usize, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:36} {:9.0} a second, {:8.3} ms each", count as f64 / seconds, seconds * 1e3 / count as f64);
}

fn syncs(folder: &Path, count: usize) {
    let mut file = std::fs::File::create(folder.join("plain")).expect("writable");
    for _ in 0..count {
        file.write_all(&[b'x'; 300]).and_then(|()| file.sync_data()).expect("space");
    }
}

/// At most `window` events are handed over and not durable yet.
fn in_flight(writer: &RunWriter, count: usize, window: usize) {
    let mut waiting = VecDeque::new();
    for number in 0..count {
        if waiting.len() == window {
            durable(waiting.pop_front().expect("it is full"));
        }
        waiting.push_back(writer.append_async(number as u64, vec![event(number)]));
    }
    waiting.into_iter().for_each(durable);
}

fn durable<T, E: std::fmt::Debug>(answer: tokio::sync::oneshot::Receiver<Result<T, E>>) {
    answer.blocking_recv().expect("the writer answers").expect("space");
}

fn event(number: usize) -> RunEvent {
    RunEvent::AttemptFinished {
        instance: InstanceId(format!("task[n={number}]").into()),
        attempt: Attempt(1),
        end: AttemptEnd::Succeeded,
        duration_ms: 3,
        change: None,
        envelope: None,
        outputs: serde_json::Map::new(),
        handed: Handed::Nothing,
        notes: vec![],
        refusals: vec![],
        retry_in_ms: None,
    }
}

fn begin(state: &Path, plan: &str) -> RunWriter {
    let new = NewRun {
        plan: plan.to_owned(),
        sources: vec![],
        repository: String::new(),
        expanded_hash: String::new(),
        base: "0".repeat(40),
        target: None,
        started_at_ms: 0,
        asked: Asked::default(),
    };
    Journal::open(state).and_then(|mut journal| journal.begin_run(new, |_| false)).expect("a run")
}
