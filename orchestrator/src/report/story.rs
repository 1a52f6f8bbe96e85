//! Hand-made runs for tests of the journal and the reports: no processes, fixed times.

use swarm_plans::{InstanceId, task_in};
use swarm_protocol::{Ended, EnforcementReport, Tier};

use crate::event::{
    AddedInstance, AttemptEnd, ChangeSummary, Fate, Handed, InstanceResult, OnFailure, ParkedBy, Recorded, RunEvent,
};
use crate::ids::{Attempt, RunId};

/// When all stories begin: milliseconds since the Unix epoch.
pub const START_MS: u64 = 1_700_000_000_000;

/// An instance's id.
pub fn id(name: &str) -> InstanceId {
    InstanceId(name.into())
}

/// A run that begins.
pub fn started(plan: &str) -> RunEvent {
    RunEvent::RunStarted {
        run: RunId(format!("{plan}-1")),
        plan: plan.to_owned(),
        base: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
        target: Some(format!("refs/heads/swarm/{plan}")),
        jobs: 2,
        backend: "overlay".to_owned(),
        enforcement: EnforcementReport {
            tier: Tier::Namespaces,
            landlock_abi: 7,
            enforced: ["landlock", "seccomp", "userns", "netns", "rlimits"].map(str::to_owned).to_vec(),
            not_enforced: vec!["memory limit".to_owned()],
            limits: vec![],
        },
        notes: Vec::new(),
    }
}

/// Instances that join, each with its needs.
pub fn added(instances: &[(&str, &[&str])]) -> RunEvent {
    let instances = instances
        .iter()
        .map(|(name, needs)| AddedInstance {
            id: id(name),
            task: task_in(name).to_owned(),
            needs: needs.iter().map(|&need| need.to_owned()).collect(),
            on_failure: OnFailure::Fail,
        })
        .collect();
    RunEvent::InstancesAdded { instances }
}

/// An attempt that begins.
pub fn attempt(name: &str, attempt: u32) -> RunEvent {
    RunEvent::AttemptStarted { instance: id(name), attempt: Attempt(attempt), on: None }
}

/// An attempt that ended after `duration_ms`, having changed `files` files.
pub fn ended(name: &str, attempt: u32, end: AttemptEnd, duration_ms: u64, files: u64) -> RunEvent {
    RunEvent::AttemptFinished {
        instance: id(name),
        attempt: Attempt(attempt),
        end,
        duration_ms,
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
        notes: Vec::new(),
        refusals: Vec::new(),
        envelope: None,
        retry_in_ms: None,
    }
}

/// The work exited with `code`.
pub fn exited(code: i32) -> AttemptEnd {
    AttemptEnd::Work { ended: Ended::Exited { code } }
}

/// An instance's result.
pub fn result(name: &str, result: InstanceResult, cause: Option<&str>) -> RunEvent {
    RunEvent::InstanceFinished { instance: id(name), result, cause: cause.map(str::to_owned) }
}

/// A change that landed.
pub fn landed(name: &str) -> RunEvent {
    RunEvent::Merged { instance: id(name), fate: Fate::Landed { commit: "e1".repeat(20) } }
}

/// The target is about to move to where [`landed`] says, from the run's base.
pub fn landing() -> RunEvent {
    RunEvent::Landing { from: None, to: "e1".repeat(20), merges: Vec::new() }
}

/// A change that was parked.
pub fn parked(name: &str, reason: &str, paths: &[&str]) -> RunEvent {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    let (by, reason) = (ParkedBy::Conflict, reason.to_owned());
    RunEvent::Merged { instance: id(name), fate: Fate::Parked { reason, paths, by, verification: None } }
}

/// The run's end.
pub fn finished(exit: u8, cause: Option<&str>) -> RunEvent {
    RunEvent::RunFinished {
        exit,
        tip: Some("f0".repeat(20)),
        cause: cause.map(str::to_owned),
        lost: None,
        way_back: None,
    }
}

/// Numbers and dates events, 250 ms apart.
pub fn recorded(events: Vec<RunEvent>) -> Vec<Recorded> {
    (1u64..).zip(events).map(|(seq, event)| Recorded { seq, at_ms: START_MS + 250 * (seq - 1), event }).collect()
}

/// One of everything: a success, a flaky one, a failure with what it blocked, a skip, a parked change.
pub fn mixed() -> Vec<RunEvent> {
    vec![
        started("tour"),
        added(&[
            ("survey", &[]),
            ("migrate[crate=core]", &["survey"]),
            ("migrate[crate=cli]", &["survey"]),
            ("docs", &["survey"]),
            ("lint", &[]),
            ("publish", &["migrate"]),
            ("nightly", &[]),
        ]),
        attempt("survey", 1),
        ended("survey", 1, AttemptEnd::Succeeded, 320, 0),
        result("survey", InstanceResult::Succeeded, None),
        RunEvent::Merged { instance: id("survey"), fate: Fate::Empty },
        result("nightly", InstanceResult::Skipped, Some("env.CI == 'nightly' is false")),
        attempt("migrate[crate=core]", 1),
        attempt("migrate[crate=cli]", 1),
        ended("migrate[crate=core]", 1, AttemptEnd::Succeeded, 4_100, 3),
        result("migrate[crate=core]", InstanceResult::Succeeded, None),
        attempt("docs", 1),
        landing(),
        landed("migrate[crate=core]"),
        ended(
            "migrate[crate=cli]",
            1,
            AttemptEnd::Check {
                index: 1,
                command: "cargo test -p cli".to_owned(),
                ended: Ended::Exited { code: 101 },
                before: false,
            },
            62_000,
            2,
        ),
        result("migrate[crate=cli]", InstanceResult::Failed, None),
        result("publish", InstanceResult::Blocked, Some("migrate[crate=cli] failed")),
        ended("docs", 1, AttemptEnd::Infra { detail: "spawn: no memory".to_owned() }, 12, 0),
        attempt("docs", 2),
        ended("docs", 2, AttemptEnd::Succeeded, 900, 1),
        result("docs", InstanceResult::Flaky, None),
        parked("docs", "conflicts with migrate[crate=core]", &["README.md"]),
        attempt("lint", 1),
        ended("lint", 1, AttemptEnd::Work { ended: Ended::TimedOut }, 1_800_000, 0),
        result("lint", InstanceResult::TimedOut, None),
        finished(1, None),
    ]
}
