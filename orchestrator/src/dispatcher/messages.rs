//! What the core hears and what it wants done: the words between [`super::core`] and the loop around it. Data only.

use std::sync::Arc;

use serde_json::{Map, Value};
use swarm_plans::{InstanceId, InstanceIx, RenderContext, Rendered, RenderedCommand, TaskIx};

use super::NeedsView;
use crate::event::{AttemptEnd, ChangeSummary, Fate};
use crate::ids::Attempt;
use crate::report::Ending;

/// What the core hears.
#[derive(Debug)]
pub enum Input {
    /// An attempt ended.
    Attempt(InstanceIx, Box<AttemptDone>),
    /// The items of a fan-out are there, or the reason why they cannot be.
    Items(TaskIx, Result<Vec<Value>, String>),
    /// The wait before a retry is over.
    RetryDue(InstanceIx),
    /// A batch was folded onto the target's tip.
    Folded(FoldedBatch),
    /// The compare-and-swap of the target was tried.
    Moved(TargetMove),
    /// Everything should end.
    Stop(StopCause),
}

/// How an attempt ended, from the executor.
#[derive(Debug, Clone)]
pub struct AttemptDone {
    /// How it ended.
    pub end: AttemptEnd,
    /// From spawn to the end of the last check, in milliseconds.
    pub duration_ms: u64,
    /// What it changed.
    pub change: Option<ChangeSummary>,
    /// Its outputs by name.
    pub outputs: Map<String, Value>,
    /// Things a person should know.
    pub notes: Vec<String>,
}

/// Why a run ends early, in the order in which a later cause replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopCause {
    /// A task failed under `--fail-fast`.
    FailFast,
    /// The run's deadline is over.
    Deadline,
    /// A person interrupted it once, by the signal of this number: workers end with grace.
    Interrupted(u8),
    /// A person insisted: workers are killed.
    Killed(u8),
}

impl StopCause {
    /// What it means for the run's exit code, and in a word for people.
    pub fn ending(self) -> (Ending, &'static str) {
        match self {
            StopCause::Interrupted(signal) | StopCause::Killed(signal) => {
                (Ending::Interrupted { signal }, "interrupted")
            }
            StopCause::Deadline => (Ending::Deadline, "deadline"),
            StopCause::FailFast => (Ending::Complete, "fail-fast"),
        }
    }

    /// Milliseconds that running work gets: none when a person insists, else `grace_ms`.
    pub fn grace_ms(self, grace_ms: u64) -> u64 {
        match self {
            StopCause::Killed(_) => 0,
            StopCause::FailFast | StopCause::Deadline | StopCause::Interrupted(_) => grace_ms,
        }
    }

    /// What a signal asks for, by how many came before it: the first an orderly end, each later one a quick one.
    pub fn of_signal(signal: u8, before: u32) -> StopCause {
        match before {
            0 => StopCause::Interrupted(signal),
            _ => StopCause::Killed(signal),
        }
    }
}

/// What the core wants done.
#[derive(Debug)]
pub enum Action {
    /// Run one attempt of an instance.
    Attempt(Box<AttemptJob>),
    /// Find the items of a fan-out.
    Items {
        /// Whose fan-out.
        task: TaskIx,
        /// What prints them, a line each.
        command: RenderedCommand,
    },
    /// Send [`Input::RetryDue`] after so many milliseconds.
    RetryIn {
        /// The instance.
        instance: InstanceIx,
        /// The wait.
        delay_ms: u64,
    },
    /// Fold changes onto the target's present tip, in this order.
    Fold(Vec<Landing>),
    /// Move the target by compare-and-swap.
    MoveTarget {
        /// Its commit before; `None` creates it.
        from: Option<String>,
        /// Its commit after.
        to: String,
    },
    /// End all running work; after the grace it is killed.
    CancelAll {
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// One attempt to run.
#[derive(Debug)]
pub struct AttemptJob {
    /// Which instance.
    pub instance: InstanceIx,
    /// Its id.
    pub name: InstanceId,
    /// Its task.
    pub task: TaskIx,
    /// Which try.
    pub attempt: Attempt,
    /// What to run, rendered.
    pub rendered: Rendered,
    /// What its needs hand on.
    pub needs: Arc<NeedsView>,
}

/// A change to fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// Whose.
    pub instance: InstanceIx,
    /// Its id.
    pub name: InstanceId,
    /// What.
    pub change: ChangeSummary,
    /// Instances whose changes the attempt started from: parked ones park this one, too.
    pub builds_on: Vec<InstanceIx>,
}

/// A folded batch: the target's commit before and after, and each member's fate, in the batch's order.
#[derive(Debug)]
pub struct FoldedBatch {
    /// The target's commit before.
    pub from: Option<String>,
    /// The target's commit after; equal to `from` when nothing is to be moved.
    pub to: Option<String>,
    /// What becomes of each member once the target has moved.
    pub fates: Vec<(InstanceIx, Fate)>,
}

/// What came of moving the target.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetMove {
    /// It moved.
    Done,
    /// Somebody else moved it first.
    Lost,
    /// It could not be written; for people.
    Refused(String),
}

/// What a run is held to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Workers at once.
    pub jobs: usize,
    /// Stop at the first failure.
    pub fail_fast: FailFast,
    /// What templates may see of the run.
    pub facts: RunFacts,
    /// Milliseconds that cancelled work gets.
    pub grace_ms: u64,
}

/// Whether the first failure ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailFast {
    /// Everything not downstream of it still runs.
    No,
    /// Nothing starts any more and running work is cancelled.
    Yes,
}

/// What templates may see of the run.
#[derive(Debug, Clone, Default)]
pub struct RunFacts {
    /// The plan's name.
    pub name: String,
    /// The run's id.
    pub id: String,
    /// Full hex id of the base commit.
    pub base: String,
    /// Name of the target branch, without `refs/heads/`.
    pub target: Option<String>,
    /// The caller's environment, for `env` in templates.
    pub env: std::collections::BTreeMap<String, String>,
}

impl RunFacts {
    /// Looks a variable of the caller up.
    pub fn lookup(&self) -> impl Fn(&str) -> Option<String> + '_ {
        |name| self.env.get(name).cloned()
    }

    /// What templates see.
    pub fn context<'a>(&'a self, needs: &'a Value, env: &'a dyn Fn(&str) -> Option<String>) -> RenderContext<'a> {
        RenderContext {
            run_name: &self.name,
            run_id: &self.id,
            base: &self.base,
            target: self.target.as_deref(),
            needs,
            env,
            seed: None,
        }
    }
}
