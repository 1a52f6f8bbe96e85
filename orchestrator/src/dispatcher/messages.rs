//! What the core hears and what it wants done: the words between [`super::core`] and the loop around it. Data only.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use swarm_plans::{InstanceId, InstanceIx, RenderContext, Rendered, RenderedCommand, Rung, TaskIx};

use swarm_protocol::agent::Envelope;

use super::NeedsView;
use crate::event::{AttemptEnd, ChangeSummary, GateVerdict, Handed, RefusalSeen, VerifiedTree};
use crate::ids::{Attempt, RunId};
use crate::merge::order::Place;
use crate::merge::train::search::Look;
use crate::report::{Ending, exit, exit_meaning};
use crate::secrets::Secrets;

/// What the core hears.
#[derive(Debug)]
pub enum Input {
    /// An attempt ended.
    Attempt(InstanceIx, Box<AttemptDone>),
    /// What earlier runs recorded for instances that were looked up together.
    Reused(Vec<(InstanceIx, Option<Reuse>)>),
    /// The items of a fan-out are there, or the reason why they cannot be.
    Items(TaskIx, Result<Vec<Value>, NoItems>),
    /// The wait before a retry is over.
    RetryDue(InstanceIx),
    /// A batch was folded onto the target's tip, or why none of it could be.
    Folded(Result<FoldedBatch, NotFolded>),
    /// A verification ended, by its number.
    Verified(u64, Box<VerifyDone>),
    /// The compare-and-swap of the target was tried.
    Moved(TargetMove),
    /// Everything should end.
    Stop(StopCause),
}

/// Why a fan-out gets no items, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoItems {
    /// The command that should have listed them failed.
    Work(String),
    /// The machine failed, or we did: whoever resumes the run asks again.
    Machine(String),
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
    /// Whether files lie beside them.
    pub handed: Handed,
    /// Things a person should know.
    pub notes: Vec<String>,
    /// What its cage seems to have kept from it.
    pub refusals: Vec<RefusalSeen>,
    /// What its agent said of the work.
    pub envelope: Option<Envelope>,
}

impl AttemptDone {
    /// An attempt that brought nothing but its end.
    pub fn bare(end: AttemptEnd) -> Self {
        AttemptDone {
            end,
            duration_ms: 0,
            change: None,
            outputs: Map::new(),
            handed: Handed::Unknown,
            notes: vec![],
            refusals: vec![],
            envelope: None,
        }
    }

    /// The same without the secrets that may stand in its texts. Outputs are not texts: one that holds a secret has ended the
    /// attempt before.
    pub fn masked(mut self, secrets: &Secrets) -> Self {
        let refused = self.refusals.iter_mut();
        let refused = refused.flat_map(|seen| [Some(&mut seen.what), Some(&mut seen.rule), seen.allow_with.as_mut()]);
        let texts = self.notes.iter_mut().chain(refused.flatten()).chain(self.end.texts());
        texts.for_each(|text| {
            secrets.mask(text);
        });
        self
    }
}

/// The result of an earlier run, as it is in this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Reuse {
    /// Its key, in hex.
    pub key: String,
    /// The run that recorded it.
    pub from: RunId,
    /// How long the work took there, in milliseconds.
    pub saved_ms: u64,
    /// What it changes; `None` when nothing.
    pub change: Option<ChangeSummary>,
    /// Its outputs by name.
    pub outputs: Map<String, Value>,
    /// Whether files lie beside them.
    pub handed: Handed,
    /// What people were told of it.
    pub notes: Vec<String>,
}

/// Why a run ended whose deadline passed, for people.
pub const OUT_OF_TIME: &str = "the deadline has passed";

/// Why a run ends early, in the order in which a later cause replaces an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopCause {
    /// A task failed under `--fail-fast`.
    FailFast,
    /// The base itself fails its verification.
    BaseRed,
    /// The base could not be verified.
    Unverifiable,
    /// The machine fails whatever is tried: a full disk, a target that cannot be written.
    Machine,
    /// A part of the coordinator panicked.
    Bug,
    /// What the run may spend on models is spent.
    Budget,
    /// The run's deadline is over.
    Deadline,
    /// A person interrupted it once, by the signal of this number: workers end with grace.
    Interrupted(u8),
    /// A person insisted: workers are killed.
    Killed(u8),
}

impl StopCause {
    /// What has to end for it: after a failure under `--fail-fast`, what passed still lands.
    pub fn reach(self) -> Reach {
        if self == StopCause::FailFast { Reach::Tasks } else { Reach::Everything }
    }

    /// What it means for the run's exit code, and in a word for people.
    pub fn ending(self) -> (Ending, &'static str) {
        match self {
            StopCause::Interrupted(signal) | StopCause::Killed(signal) => {
                (Ending::Interrupted { signal }, "interrupted")
            }
            StopCause::Budget => (Ending::Deadline, "the budget is spent"),
            StopCause::Deadline => (Ending::Deadline, OUT_OF_TIME),
            StopCause::FailFast => (Ending::Complete, "fail-fast"),
            StopCause::BaseRed => (Ending::BaseRed, exit_meaning(exit::BASE_RED)),
            StopCause::Machine => (Ending::Environment, "the machine failed"),
            StopCause::Bug => (Ending::Environment, "a part of the coordinator failed, which is a bug"),
            StopCause::Unverifiable => (Ending::Environment, "the base could not be verified"),
        }
    }

    /// Whether the run can be gone on with: then what was cancelled keeps its place in the landing order.
    pub fn is_resumable(self) -> bool {
        match self {
            StopCause::Unverifiable
            | StopCause::Machine
            | StopCause::Bug
            | StopCause::Budget
            | StopCause::Deadline
            | StopCause::Interrupted(_)
            | StopCause::Killed(_) => true,
            StopCause::FailFast | StopCause::BaseRed => false,
        }
    }

    /// Milliseconds that running work gets: none when a person insists, else `grace_ms`.
    pub fn grace_ms(self, grace_ms: u64) -> u64 {
        match self {
            StopCause::Killed(_) => 0,
            StopCause::FailFast
            | StopCause::BaseRed
            | StopCause::Unverifiable
            | StopCause::Machine
            | StopCause::Bug
            | StopCause::Budget
            | StopCause::Deadline
            | StopCause::Interrupted(_) => grace_ms,
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
    /// Look for what earlier runs recorded for these instances, and answer for all of them.
    Reuse(Vec<AttemptJob>),
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
    /// Fold changes, in this order.
    Fold {
        /// The changes.
        batch: Vec<Landing>,
        /// The commit to fold onto; `None` is the target's present tip.
        onto: Option<String>,
        /// The newest commit that was landed, which the target has to hold.
        landed: Option<String>,
    },
    /// Verify a commit.
    Verify(Verification),
    /// Move the target by compare-and-swap.
    MoveTarget {
        /// Its commit before; `None` creates it.
        from: Option<String>,
        /// Its commit after.
        to: String,
    },
    /// End running work; after the grace it is killed.
    CancelAll {
        /// Milliseconds.
        grace_ms: u64,
        /// Which work.
        reach: Reach,
    },
}

/// Which running work is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Tasks; verifications go on.
    Tasks,
    /// Whatever runs.
    Everything,
}

/// A commit to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// Counts from 1 within the run; the answer names it.
    pub number: u64,
    /// Full hex commit id.
    pub commit: String,
    /// Which tree it is, for people.
    pub of: VerifiedTree,
    /// What it may find beside the tree.
    pub look: Look,
}

/// How a verification ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyDone {
    /// Full hex id of the tree.
    pub tree: String,
    /// A hash of the command, its policy and what lies under the worktree, hex.
    pub gate: String,
    /// Which tree it is.
    pub of: VerifiedTree,
    /// What it found beside the tree; fresh where nothing warm was to be had.
    pub look: Look,
    /// The verdict.
    pub verdict: GateVerdict,
    /// Wall time in milliseconds; 0 when it was known.
    pub duration_ms: u64,
    /// How it ended, when it is not green; for people.
    pub detail: Option<String>,
}

impl VerifyDone {
    /// A verification that gave no verdict: a failure of ours; `detail` is for people.
    pub fn broken(of: VerifiedTree, detail: String) -> Self {
        VerifyDone {
            tree: String::new(),
            gate: String::new(),
            of,
            look: Look::Fresh,
            verdict: GateVerdict::Broken,
            duration_ms: 0,
            detail: Some(detail),
        }
    }
}

/// Where an attempt starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// From the run's base with the changes of its needs.
    Needs,
    /// From a commit of the target: its first change did not land, or the changes of its needs contradict each other anywhere else.
    Tip {
        /// Full hex commit id.
        commit: String,
    },
    /// At a conflict, which the resolver is to settle.
    Conflict {
        /// Full hex commit id of the target.
        commit: String,
        /// The change that contradicts it.
        change: ChangeSummary,
    },
}

impl StartAt {
    /// The commit of the target that it starts from.
    pub fn on_target(&self) -> Option<&str> {
        match self {
            StartAt::Needs => None,
            StartAt::Tip { commit } | StartAt::Conflict { commit, .. } => Some(commit),
        }
    }
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
    /// Its number, which names its folder and its ref.
    pub attempt: Attempt,
    /// Which try it is, from 1: attempts that were lost do not count.
    pub try_number: u32,
    /// What to run, rendered.
    pub rendered: Rendered,
    /// What its needs hand on.
    pub needs: Arc<NeedsView>,
    /// The tree it starts from.
    pub start: StartAt,
}

/// A change to fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// Whose.
    pub instance: InstanceIx,
    /// Its id.
    pub name: InstanceId,
    /// Its place in the order.
    pub place: Place,
    /// What may be tried when it does not land as it is, in order.
    pub rungs: Vec<Rung>,
    /// What.
    pub change: ChangeSummary,
    /// Instances whose changes the attempt started from: parked ones park this one, too.
    pub builds_on: Vec<(InstanceIx, InstanceId)>,
    /// Instances whose changes it started from because they were before it in turn: when one is parked, this one is tried
    /// again without it.
    pub comes_after: Vec<(InstanceIx, InstanceId)>,
    /// Where the change comes from.
    pub origin: Origin,
    /// A task that it needs ran again behind it, and it has not since.
    pub is_stale: bool,
    /// A person settled it: whatever runs again, this is not made anew.
    pub is_by_hand: bool,
}

impl Landing {
    /// Whether it changes anything: what only looked at others' results takes part where those are made again.
    pub fn changes(&self) -> bool {
        self.change.changes_anything()
    }

    /// All instances whose changes the attempt started from.
    pub fn stands_on(&self) -> impl Iterator<Item = InstanceIx> {
        self.builds_on.iter().chain(&self.comes_after).map(|(instance, _)| *instance)
    }
}

/// Where a change comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// An attempt of this run, whose ref keeps it.
    #[default]
    Ran,
    /// An earlier run; it gets a ref of this run only where it does not stand on the target already.
    Reused,
}

/// A folded batch.
#[derive(Debug)]
pub struct FoldedBatch {
    /// The target's commit before; `None` when it does not exist, or when something else was folded onto.
    pub from: Option<String>,
    /// The commit that it was folded onto.
    pub tip: String,
    /// That commit's tree.
    pub tip_tree: String,
    /// Each member, in the batch's order.
    pub members: Vec<FoldedMember>,
}

/// Why nothing of a batch was folded, for people: it says nothing about its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFolded {
    /// Objects were gone that it needs or made: somebody collects garbage. Folding writes them again, or finds who has them now.
    Gone(String),
    /// A failure of ours, or of the machine.
    Failed(String),
}

impl FoldedBatch {
    /// The members that fit: their places in the batch and their commits, each on top of the one before.
    pub fn clean(&self) -> impl Iterator<Item = (usize, &str)> {
        self.members.iter().enumerate().filter_map(|(at, member)| match member {
            FoldedMember::Clean { commit } => Some((at, commit.as_str())),
            _ => None,
        })
    }
}

/// A member of a folded batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoldedMember {
    /// It fits.
    Clean {
        /// Holds it and all that fit before it.
        commit: String,
    },
    /// It contradicts what is there.
    Conflict {
        /// For people.
        reason: String,
        /// The conflicting paths, rendered for people; at most 20.
        paths: Vec<String>,
    },
    /// It fits, and what it comes to with those before it is a tree that no worker may leave.
    Hostile {
        /// For people.
        reason: String,
        /// Where, rendered for people.
        paths: Vec<String>,
    },
    /// It builds on a member that does not fit.
    Waits,
    /// A failure of ours.
    Failed {
        /// For people.
        reason: String,
    },
}

/// What came of moving the target.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetMove {
    /// It moved.
    Done,
    /// Somebody else moved it first.
    Lost,
    /// Objects that it would bring are gone from the repository.
    Hollow,
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
    /// Whether tasks that allow it take results of earlier runs.
    pub reuse: ReuseResults,
}

/// Whether tasks that allow it take results of earlier runs instead of running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReuseResults {
    /// Where one is found.
    #[default]
    Yes,
    /// Everything runs.
    No,
}

/// Whether the first failure ends the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailFast {
    /// Everything not downstream of it still runs.
    #[default]
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
