//! Every fact that can happen in a run. The journal stores them, reporters render them, and replaying them gives the run's
//! state again; so an event is announced only after it was stored.
//!
//! Output of workers is no event: it goes to the attempt's log, and reporters hear of it as [`Progress`].

use serde::{Deserialize, Serialize};
use swarm_plans::InstanceId;
use swarm_protocol::{Ended, EnforcementReport};

use crate::ids::{Attempt, RunId};

/// The version of the event format, in every `--json` line and journal.
pub const EVENT_VERSION: u32 = 1;

/// An event with its place in the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recorded {
    /// 1, 2, 3 … without gaps within a run.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum RunEvent {
    /// The first event of a run.
    RunStarted {
        /// The run.
        run: RunId,
        /// The plan's name.
        plan: String,
        /// Full hex id of the base commit.
        base: String,
        /// Full ref name of the target branch; `None` in mode `none`.
        target: Option<String>,
        /// Workers at once.
        jobs: u32,
        /// The worktree backend that was chosen: `overlay` or `copy`.
        backend: String,
        /// What every worker of this run is held to, as probed.
        enforcement: EnforcementReport,
        /// Things a person should know before anything runs (a weaker tier than usual, a shallow clone …).
        notes: Vec<String>,
    },
    /// Instances joined the graph: at the start, and when a fan-out got its items.
    InstancesAdded {
        /// In graph order.
        instances: Vec<AddedInstance>,
    },
    /// An attempt is about to be spawned.
    AttemptStarted {
        /// Which instance.
        instance: InstanceId,
        /// Which try.
        attempt: Attempt,
    },
    /// An attempt ended, was collected and checked.
    AttemptFinished {
        /// Which instance.
        instance: InstanceId,
        /// Which try.
        attempt: Attempt,
        /// How it ended.
        end: AttemptEnd,
        /// From spawn to the end of the last check, in milliseconds.
        duration_ms: u64,
        /// What it changed; `None` when nothing was collected.
        change: Option<ChangeSummary>,
        /// The attempt's outputs by name.
        outputs: serde_json::Map<String, serde_json::Value>,
        /// Things a person should know (entries left out, processes killed …).
        notes: Vec<String>,
        /// When a retry follows: milliseconds until it may start.
        retry_in_ms: Option<u64>,
    },
    /// The instance has its final result; no attempt follows.
    InstanceFinished {
        /// Which instance.
        instance: InstanceId,
        /// The result.
        result: InstanceResult,
        /// Why, where that is not evident: the need that failed, the false condition, the template error.
        cause: Option<String>,
    },
    /// The target is about to move, by one compare-and-swap; what lands with it follows as `merged` events. A run that
    /// died behind this event finds the target at `from` or at `to`.
    Landing {
        /// Full hex commit id of the target before; `None` when it does not exist yet.
        from: Option<String>,
        /// Full hex commit id of the target after.
        to: String,
    },
    /// The merge train's word on an instance's change.
    Merged {
        /// Which instance.
        instance: InstanceId,
        /// What became of its change.
        fate: Fate,
    },
    /// The last event of a run.
    RunFinished {
        /// The exit code of the command line's table.
        exit: u8,
        /// The target's full hex commit id after the run, when there is a target.
        tip: Option<String>,
        /// Why it ended early, if it did: `interrupted`, `deadline`, `fail-fast` …
        cause: Option<String>,
    },
}

/// An instance as it joins the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddedInstance {
    /// Its id.
    pub id: InstanceId,
    /// The task it stems from.
    pub task: String,
    /// Tasks and instances that it waits for, as displayed.
    pub needs: Vec<String>,
    /// Whether its failure counts against the run.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What an instance's failure means for the run (`allow-failure` of the plan).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The run failed, and what needs the instance is blocked.
    #[default]
    Fail,
    /// The run goes on as if nothing had happened; the result still reads `failed`.
    Allow,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum AttemptEnd {
    /// The work exited with 0, its change was taken and every check passed.
    Succeeded,
    /// The work itself did not exit with 0 (this includes timeouts, limits and refusals).
    Work {
        /// How the worker reports it.
        ended: Ended,
    },
    /// A check did not behave as asked.
    Check {
        /// The check's position in the plan, from 0.
        index: usize,
        /// The command, for people.
        command: String,
        /// How it ended; `Exited { code: 0 }` when `expect-fail-before` passed before the work.
        ended: Ended,
        /// Whether it was the run before the work.
        before: bool,
    },
    /// It changed something that it may not.
    Violation {
        /// What, for people; bounded.
        detail: String,
        /// The offending paths, rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// The changes of its needs contradict each other, so there is no tree to start from.
    Needs {
        /// For people: which need, which paths.
        detail: String,
    },
    /// The work passed, but what it was to hand over is not there or not what the plan says.
    Outputs {
        /// For people: which file, and why.
        detail: String,
    },
    /// Something of ours failed, not the work: a worktree, a spawn, the object store.
    Infra {
        /// For people.
        detail: String,
    },
}

/// What an attempt changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChangeSummary {
    /// Full hex id of the tree the attempt started from.
    pub base_tree: String,
    /// Full hex id of the commit that holds the result (its parent is the attempt's base commit).
    pub commit: String,
    /// Full hex id of the resulting tree; equal to `base_tree` when nothing changed.
    pub tree: String,
    /// Files added, changed or removed.
    pub files: u64,
}

/// The final results of DESIGN §4, "What ends how".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceResult {
    /// Passed at the first try.
    Succeeded,
    /// Passed on a retry.
    Flaky,
    /// Did not pass.
    Failed,
    /// Ran out of time.
    TimedOut,
    /// Changed a path outside `writes` or broke a limit; never retried.
    Violation,
    /// Ended by a person, fail-fast or the deadline.
    Cancelled,
    /// Its `if` was false; dependents run.
    Skipped,
    /// A need failed; never started.
    Blocked,
    /// The coordinator died.
    Lost,
}

impl InstanceResult {
    /// The name in plans, messages and journals.
    pub fn name(self) -> &'static str {
        match self {
            InstanceResult::Succeeded => "succeeded",
            InstanceResult::Flaky => "flaky",
            InstanceResult::Failed => "failed",
            InstanceResult::TimedOut => "timed-out",
            InstanceResult::Violation => "violation",
            InstanceResult::Cancelled => "cancelled",
            InstanceResult::Skipped => "skipped",
            InstanceResult::Blocked => "blocked",
            InstanceResult::Lost => "lost",
        }
    }

    /// Whether the work passed.
    pub fn passed(self) -> bool {
        matches!(self, InstanceResult::Succeeded | InstanceResult::Flaky)
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Fate {
    /// It is on the target branch.
    Landed {
        /// Full hex id of its commit there.
        commit: String,
    },
    /// It is kept under its ref and not merged.
    Parked {
        /// Why, for people.
        reason: String,
        /// The conflicting paths, rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// It changed nothing.
    Empty,
}

/// What reporters hear besides events; never stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A phase of the run outside any instance began (`preparing the base`, `setup`), or a running attempt moved on (`check 1/2`).
    Phase {
        /// The instance; `None` for the run itself.
        instance: Option<InstanceId>,
        /// For people.
        phase: String,
    },
    /// Output of an attempt arrived: its last complete line, raw.
    Line {
        /// The instance.
        instance: InstanceId,
        /// The line, without its line feed, not yet stripped of control characters.
        line: Vec<u8>,
    },
}
