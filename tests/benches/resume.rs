//! Going on with a run that has nothing left to do: `cargo build --release && cargo bench -p swarm-tests --bench resume -- [TASKS]`.
//!
//! The journal says that all 100,000 tasks of a run have ended and landed, and that its coordinator died before the last
//! event. Printed is what `swarm resume` takes, and what the commands take that read such a journal.

/// Generated repositories and clocks.
mod scene;

use std::process::{Command, Stdio};

use scene::{Scene, ms};
use serde_json::json;
use swarm_orchestrator::event::RunEvent;
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{Journal, NewRun, NewTarget, RunWriter};
use swarm_orchestrator::run::{LoadedPlan, expanded_hash};
use swarm_orchestrator::settings::Asked;
use swarm_plans::{SourceFile, TaskGraph};

/// Events that one batch holds.
const BATCH: usize = 1000;
/// The run's start, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_700_000_000_000;

fn main() {
    let tasks: usize = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(100_000);
    let Some(swarm) = scene::swarm() else { return };
    let scene = Scene::generate(100);
    let git = scene.open();
    git.reference("refs/heads/swarm/many", scene.commit, false, "landed").expect("a new ref");
    let run = write_journal(&scene, tasks);
    let bytes = std::fs::metadata(git.path().join("swarm/journal.sqlite")).map_or(0, |file| file.len());
    println!("a run of {tasks} finished tasks, {:.0} MiB of journal:", bytes as f64 / (1 << 20) as f64);
    for words in [&["resume", &run.0][..], &["status", &run.0], &["report", &run.0], &["list"]] {
        let mut command = Command::new(&swarm);
        command.current_dir(scene.path()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let finished = scene::watch(command);
        assert!(finished.passed, "swarm {} passes", words.join(" "));
        let (wall, cpu, peak) = (ms(finished.wall), ms(finished.cpu), finished.peak_kib as f64 / 1024.0);
        println!("  {:16} {wall:8.0} ms, {cpu:8.0} ms of processor time, {peak:6.0} MiB at its peak", words[0]);
    }
}

/// Everything but the end.
fn write_journal(scene: &Scene, tasks: usize) -> RunId {
    let text = format!(
        "version = 1\nname = \"many\"\n[tasks.t]\nforeach.n = {{ lines = \"seq 1 {tasks}\" }}\nforeach-max = {tasks}\nrun = \"true\"\n"
    );
    let plan = swarm_plans::parse("many.toml", &text, &[], &mut |_| Err("no other file".to_owned())).plan;
    let graph = TaskGraph::expand(plan.expect("a valid plan")).expect("an expandable plan");
    let loaded = LoadedPlan { graph, sources: vec![SourceFile { name: "many.toml".to_owned(), text }] };
    let new = NewRun {
        plan: "many".to_owned(),
        sources: loaded.sources.iter().map(|source| (source.name.clone(), source.text.clone())).collect(),
        repository: String::new(),
        expanded_hash: expanded_hash(&loaded),
        base: scene.commit.to_string(),
        target: Some(NewTarget::Ref("refs/heads/swarm/many".to_owned())),
        started_at_ms: START_MS,
        asked: Asked::default(),
    };
    let state = scene.path().join(".git/swarm");
    let writer = Journal::open(&state).and_then(|mut journal| journal.begin_run(new, |_| false)).expect("a run");
    let run = writer.run().clone();
    let enforcement =
        json!({ "tier": "namespaces", "landlock_abi": 7, "enforced": [], "not_enforced": [], "limits": [] });
    let commit = scene.commit.to_string();
    let started = json!({
        "event": "run-started", "run": run.0, "plan": "many", "base": commit, "target": "refs/heads/swarm/many",
        "jobs": 2, "backend": "overlay", "enforcement": enforcement, "notes": [],
    });
    let items: Vec<String> = (1..=tasks).map(|n| n.to_string()).collect();
    append(&writer, vec![started, json!({ "event": "items-found", "task": "t", "items": items })]);
    let name = |n: &usize| format!("t[n={n}]");
    let all: Vec<usize> = (1..=tasks).collect();
    for chunk in all.chunks(BATCH) {
        let added = |n| json!({ "id": name(n), "task": "t", "needs": [], "on-failure": "fail" });
        append(
            &writer,
            vec![json!({ "event": "instances-added", "instances": chunk.iter().map(added).collect::<Vec<_>>() })],
        );
    }
    let change = json!({ "base-tree": scene.tree.to_string(), "commit": commit, "tree": "0".repeat(40), "files": 1 });
    for chunk in all.chunks(BATCH / 4) {
        append(&writer, chunk.iter().flat_map(|n| life(&name(n), &change, &commit)).collect());
    }
    run
}

/// What an instance leaves in the journal that passed at its first try and landed.
fn life(instance: &str, change: &serde_json::Value, commit: &str) -> [serde_json::Value; 4] {
    [
        json!({ "event": "attempt-started", "instance": instance, "attempt": 1 }),
        json!({
            "event": "attempt-finished", "instance": instance, "attempt": 1, "end": { "end": "succeeded" },
            "duration-ms": 3, "change": change, "outputs": {}, "notes": [], "retry-in-ms": null,
        }),
        json!({ "event": "instance-finished", "instance": instance, "result": "succeeded", "cause": null }),
        json!({ "event": "merged", "instance": instance, "fate": { "fate": "landed", "commit": commit } }),
    ]
}

fn append(writer: &RunWriter, events: Vec<serde_json::Value>) {
    let read = |event| serde_json::from_value::<RunEvent>(event).expect("an event as the journal has it");
    writer.append(START_MS, events.into_iter().map(read).collect()).expect("space");
}
