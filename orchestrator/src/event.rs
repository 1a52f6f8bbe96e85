//! Every fact that can happen in a run. The journal stores them, reporters render them, and replaying them gives the run's
//! state again; so an event is announced only after it was stored.
//!
//! Output of workers is no event: it goes to the attempt's log, and reporters hear of it as [`Progress`].

use serde::{Deserialize, Serialize};
use swarm_plans::{InstanceId, Rung};
use swarm_protocol::agent::{AgentStatus, Envelope};
use swarm_protocol::{Ended, EnforcementReport, chat::Usage};

use crate::ids::{Attempt, RunId};
use crate::journal::Tally;
use crate::tag_first::tag_first;

/// What an attempt changed.
mod change;
/// What became of a change.
mod fate;
/// What can be said of a call of a model.
mod models;
/// What reporters hear besides events.
mod progress;

pub use change::ChangeSummary;
pub use fate::{Fate, GivenUp, ParkedBy};
pub use models::{CallOutcome, Counted, ModelWait, WaitReason, Whose};
pub use progress::Progress;

/// The version of the event format, in every `--json` line: a kind of event that is new does not change it. A journal counts
/// its own format, which does.
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

tag_first! {
    "event", "RunEvent",

    /// What can happen.
    #[derive(Debug, Clone, PartialEq)]
    pub enum RunEvent as EventOutside {
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
        /// A coordinator goes on with a run whose earlier one died or was ended early. What is lost and what is open again
        /// follows as events of their own.
        RunResumed {
            /// Workers at once.
            jobs: u32,
            /// The worktree backend, as in `run-started`.
            backend: String,
            /// What every worker is held to from now on.
            enforcement: EnforcementReport,
            /// Things a person should know.
            notes: Vec<String>,
            /// Fan-outs that ended without items under their task's own name: they no longer do.
            unexpanded: Vec<InstanceId>,
            /// The counts once everything that is open again is so.
            tally: Tally,
        },
        /// Results that said nothing about the work no longer hold: it was cancelled, blocked by such a result, or failed for
        /// reasons of ours. At most a thousand an event.
        Reopened {
            /// In graph order.
            instances: Vec<InstanceId>,
        },
        /// A person asked for another try of results that failed or were parked (`swarm retry`): what was parked takes its turn on the
        /// target again, and its task may run once more there.
        Retried {
            /// In graph order.
            instances: Vec<InstanceId>,
            /// Among them, what a person settled by hand (`swarm resolve`): it lands as the attempt that follows, or not at all.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            resolved: Option<InstanceId>,
        },
        /// The items of a fan-out that a command listed. Those of other fan-outs follow from the base or from outputs.
        ItemsFound {
            /// The task's name.
            task: String,
            /// In order.
            items: Vec<serde_json::Value>,
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
            /// Full hex id of the target's commit that it starts from; `None` where that is the base with its needs' changes.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            on: Option<String>,
        },
        /// A call of a model is about to be sent. When its coordinator dies before the call's end, the most counts that it can have
        /// taken: nobody knows what it did.
        ModelAsked {
            /// The number of the call among those of this coordinator, from 1.
            call: u64,
            /// Which instance.
            instance: InstanceId,
            /// Which try.
            attempt: Attempt,
            /// The model as it was asked for.
            asked: String,
            /// The model that is asked, `provider/model`.
            model: String,
            /// Tokens that the call and its tries until now can have taken at most.
            usage: Usage,
            /// The same in billionths of a dollar; `None` when something of it has no price.
            cost_nano_usd: Option<u64>,
            /// How often a model was asked, this time included.
            tries: u32,
        },
        /// A call of a model waits longer than a moment before it is sent.
        ModelWaits {
            /// Which instance.
            instance: InstanceId,
            /// Which try.
            attempt: Attempt,
            /// For what.
            wait: ModelWait,
        },
        /// A model that has others in its place does not answer: for a while they are asked at once.
        ModelDown {
            /// The model, `provider/model`.
            model: String,
            /// The one that is asked in its place.
            instead: String,
            /// Until when, in milliseconds since the Unix epoch; then one call finds out whether it answers again.
            until_ms: u64,
            /// Why, for people; without any key.
            why: String,
        },
        /// An attempt asked a model: one call with all its tries, whatever became of it.
        ModelCalled {
            /// The number of the call, where it was sent; 0 where it was not.
            #[serde(default)]
            call: u64,
            /// Which instance.
            instance: InstanceId,
            /// Which try.
            attempt: Attempt,
            /// The model as it was asked for.
            asked: String,
            /// The model that answered or was tried last, `provider/model`; empty when none was.
            model: String,
            /// Tokens that are booked; where its provider does not count, the most that they can be.
            usage: Usage,
            /// What is booked, in billionths of a dollar; `None` when something of it has no price.
            cost_nano_usd: Option<u64>,
            /// Whether its provider said all of that.
            #[serde(default, skip_serializing_if = "Counted::is_said")]
            counted: Counted,
            /// Wall time in milliseconds, waiting and all tries included.
            duration_ms: u64,
            /// How often a model was asked.
            tries: u32,
            /// What became of it.
            outcome: CallOutcome,
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
            /// Whether files lie beside them.
            #[serde(default, skip_serializing_if = "Handed::is_unknown")]
            handed: Handed,
            /// Things a person should know (entries left out, processes killed …).
            notes: Vec<String>,
            /// What its cage seems to have kept from it.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            refusals: Vec<RefusalSeen>,
            /// What its agent said of the work.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            envelope: Option<Box<Envelope>>,
            /// When a retry follows: milliseconds until it may start.
            retry_in_ms: Option<u64>,
        },
        /// Recorded results were taken instead of running these instances again: each has succeeded with that, and one whose
        /// result changes nothing is merged (empty) with that.
        Reused {
            /// In the order in which they could have started; at most a thousand.
            instances: Vec<ReusedInstance>,
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
        /// The gate of the target (`[merge] verify`) gave its verdict on a tree. A tree that is red first and green afterwards shows
        /// a flaky gate.
        Verified {
            /// Counts from 1 within the run: the verification's log is that attempt of `[merge] verify`. 0 in a journal that does
            /// not say it.
            #[serde(default)]
            number: u64,
            /// Full hex id of the tree.
            tree: String,
            /// What a verdict depends on beside the tree: a hash of the command and its policy, hex.
            gate: String,
            /// Which tree it is.
            of: VerifiedTree,
            /// The verdict.
            verdict: GateVerdict,
            /// Wall time in milliseconds; 0 when the verdict was known from an earlier run.
            duration_ms: u64,
            /// How a verification ended that is not green, for people.
            detail: Option<String>,
        },
        /// A change does not land as it is: it contradicts what landed before, or the gate is red with it. The train goes on without
        /// it, and something else is tried before it is parked.
        Evicted {
            /// Which instance.
            instance: InstanceId,
            /// Why, for people.
            reason: String,
            /// The conflicting paths, rendered for people; at most 20.
            paths: Vec<String>,
            /// What kind of refusal it is; of a journal that does not say it, a conflict.
            #[serde(default)]
            kind: RefusalKind,
            /// The number of the verification that was red with it, where one was.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            verification: Option<u64>,
            /// What is tried next.
            next: Remedy,
        },
        /// What a person should know of the run as a whole was found once it had begun.
        Noted {
            /// For people, one line each.
            notes: Vec<String>,
        },
        /// Changes that were put aside take their turn again: what came of trying, and what waited for that. From here on they
        /// stand in this order behind everything that had its turn before.
        Requeued {
            /// Which instances, in order.
            instances: Vec<InstanceId>,
        },
        /// Instances whose needs' changes contradicted each other wait no longer: all that could land has, and nothing is tried
        /// any more. They start once more, or fail, and take their turns behind all that had ended by then.
        NeedsSettled {
            /// Which.
            instances: Vec<InstanceId>,
            /// Full hex id of the target's commit that they start from if their needs, all landed, contradict each other still.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            on: Option<String>,
        },
        /// The target is about to move, by one compare-and-swap; what lands with it follows as `merged` events. A run that
        /// died behind this event finds the target at `from` or at `to`.
        Landing {
            /// Full hex commit id of the target before; `None` when it does not exist yet.
            from: Option<String>,
            /// Full hex commit id of the target after.
            to: String,
            /// What becomes of each change once the target has moved, in landing order.
            #[serde(default)]
            merges: Vec<Merge>,
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
            /// Why it ended early, if it did, in a few words for people: `interrupted`, `fail-fast` …
            cause: Option<String>,
            /// Full hex id of the last commit that the run has landed on the target, where that no longer holds it.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            lost: Option<String>,
            /// The commands that give it back to the target, as they were at the end.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            way_back: Option<String>,
        },
    }
}

/// An instance's part in a landing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Merge {
    /// Which instance.
    pub instance: InstanceId,
    /// What becomes of its change.
    pub fate: Fate,
}

/// Which tree a verification looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum VerifiedTree {
    /// The run's base.
    Base,
    /// The target's tip, without any of the batch.
    Tip,
    /// The tip with the first results of a batch.
    Results {
        /// How many.
        count: u32,
    },
}

/// What the gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateVerdict {
    /// The command exited with 0.
    Green,
    /// It did not.
    Red,
    /// It could not be run: a failure of ours or of the machine.
    Broken,
}

/// What is tried with a change that does not land as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The task runs once more, on the new tip.
    Rerun,
    /// The resolver settles the conflict.
    Resolve,
}

/// In which way a change did not land.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// It contradicts what landed before.
    #[default]
    Conflict,
    /// With it, the gate is red.
    Red,
    /// With what landed before, it comes to a tree that no worker may leave.
    Hostile,
    /// It started from a change that is parked and that it does not need.
    Stale,
}

impl From<Remedy> for Rung {
    fn from(remedy: Remedy) -> Self {
        match remedy {
            Remedy::Rerun => Rung::Rerun,
            Remedy::Resolve => Rung::Resolve,
        }
    }
}

impl From<Rung> for Remedy {
    fn from(rung: Rung) -> Self {
        match rung {
            Rung::Rerun => Remedy::Rerun,
            Rung::Resolve => Remedy::Resolve,
        }
    }
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

impl RunEvent {
    /// The change of an instance that this event brings.
    pub fn change_of(&self, id: &InstanceId) -> Option<&ChangeSummary> {
        match self {
            RunEvent::AttemptFinished { instance, change, .. } if instance == id => change.as_ref(),
            RunEvent::Reused { instances } => instances.iter().find(|one| one.instance == *id)?.change.as_ref(),
            _ => None,
        }
    }
}

/// An instance that took the result which an earlier run recorded under the same key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReusedInstance {
    /// Which instance.
    pub instance: InstanceId,
    /// The result's key, in hex.
    pub key: String,
    /// The run that recorded it.
    pub from: RunId,
    /// How long the work took there, in milliseconds.
    pub saved_ms: u64,
    /// What it changes, on this run's start tree; `None` when it changes nothing.
    pub change: Option<ChangeSummary>,
    /// Its outputs by name.
    pub outputs: serde_json::Map<String, serde_json::Value>,
    /// Whether files lie beside them.
    #[serde(default, skip_serializing_if = "Handed::is_unknown")]
    pub handed: Handed,
    /// What people were told of it when it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Whether an attempt left files in `$SWARM_ARTIFACTS`; of one that failed, they are a person's alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handed {
    /// Nobody wrote it down, or could see it: a journal of a swarm that did not write it of those that failed, or of none.
    #[default]
    Unknown,
    /// None.
    Nothing,
    /// Some: where it passed, those who need it are given them.
    Files,
    /// What it left stands beside another change than the one that landed: those who need it are given what was handed over with that.
    Before,
}

impl Handed {
    fn is_unknown(&self) -> bool {
        *self == Handed::Unknown
    }
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

tag_first! {
    "end", "AttemptEnd",

    /// How an attempt ended.
    #[derive(Debug, Clone, PartialEq)]
    pub enum AttemptEnd as EndOutside {
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
            /// The line of the plan that would allow it, where there is one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            allow_with: Option<String>,
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
        /// The resolver exited with 0, and the conflict is not settled.
        Unresolved {
            /// For people.
            detail: String,
            /// The paths that are left, rendered for people; at most 20.
            paths: Vec<String>,
        },
        /// It was run more than once, and did not leave the same each time (`--check-determinism`).
        Differs {
            /// For people: which run, and what.
            detail: String,
            /// The differing paths or outputs, the first first, rendered for people; at most 20.
            paths: Vec<String>,
        },
        /// The agent did not end its work of its own accord.
        Agent {
            /// How its conversation ended.
            status: AgentStatus,
            /// For people.
            detail: String,
            /// Whose budget kept it from asking on, where that is why: no other try has more.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            spent: Option<Whose>,
        },
        /// An agent that looked at the result did not approve of it.
        Findings {
            /// The task with `review`, or `verifier`.
            by: String,
            /// What it found, in its words; bounded.
            findings: Vec<String>,
        },
        /// Something of ours failed, not the work: a worktree, a spawn, the object store.
        Infra {
            /// For people.
            detail: String,
        },
        /// The coordinator died while it ran: no result, and no try that `retry` counts.
        Lost,
    }
}

/// Something that a cage kept from a failed attempt: found in what it printed, confirmed by its policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusalSeen {
    /// What was tried, for people: `reading /x`.
    pub what: String,
    /// The rule that refuses it, for people.
    pub rule: String,
    /// The line of a plan that would allow it; `None` where no plan can.
    pub allow_with: Option<String>,
}

impl AttemptEnd {
    /// What it says in words of the worker's or the plan's.
    pub fn texts(&mut self) -> Vec<&mut String> {
        fn of(ended: &mut Ended) -> Vec<&mut String> {
            match ended {
                Ended::Limit { limit: _, detail } => vec![detail],
                Ended::StartFailed { reason } => vec![reason],
                Ended::Refused(refusal) => vec![&mut refusal.step, &mut refusal.reason],
                Ended::Exited { .. } | Ended::Signaled { .. } | Ended::TimedOut | Ended::Cancelled => Vec::new(),
            }
        }
        match self {
            AttemptEnd::Succeeded | AttemptEnd::Lost => Vec::new(),
            AttemptEnd::Work { ended } => of(ended),
            AttemptEnd::Check { command, ended, .. } => std::iter::once(command).chain(of(ended)).collect(),
            AttemptEnd::Violation { detail, paths, allow_with } => {
                std::iter::once(detail).chain(paths).chain(allow_with).collect()
            }
            AttemptEnd::Unresolved { detail, paths } | AttemptEnd::Differs { detail, paths } => {
                std::iter::once(detail).chain(paths).collect()
            }
            AttemptEnd::Findings { by: _, findings } => findings.iter_mut().collect(),
            AttemptEnd::Needs { detail }
            | AttemptEnd::Outputs { detail }
            | AttemptEnd::Agent { status: _, detail, spent: _ }
            | AttemptEnd::Infra { detail } => vec![detail],
        }
    }

    /// Whether somebody ended it before it could end by itself.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, AttemptEnd::Work { ended } | AttemptEnd::Check { ended, .. } if *ended == Ended::Cancelled)
    }
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
