//! What a run's end means to the caller's shell: the exit codes of the command line, as one pure function.

use swarm_protocol::Ended;

use crate::event::{AttemptEnd, Fate, GivenUp, InstanceResult, OnFailure};
use crate::journal::{Finished, InstanceState, RunState, Tally};
use crate::report::{lines, words};

/// All succeeded and landed.
pub const ALL_LANDED: u8 = 0;
/// A task failed.
pub const TASK_FAILED: u8 = 1;
/// The command line or the plan is wrong.
pub const USAGE: u8 = 2;
/// The environment or this program failed.
pub const ENVIRONMENT: u8 = 3;
/// Finished, but something is parked.
pub const PARKED: u8 = 5;
/// The base itself fails `verify`.
pub const BASE_RED: u8 = 6;
/// The deadline or the budget is spent.
pub const DEADLINE: u8 = 7;
/// Another coordinator holds this run or its target.
pub const HELD: u8 = 8;

/// Why a run stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every instance has its result (this includes `--fail-fast`).
    Complete,
    /// The base itself fails its verification.
    BaseRed,
    /// The plan's deadline, or its budget.
    Deadline,
    /// A person's signal: 2 for SIGINT, 15 for SIGTERM.
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// The disk, the journal, the repository.
    Environment,
}

/// The exit code of a run that stopped for `ending` in `state`. What stops a run as a whole comes first; then a failed
/// task, then what is only the machine's fault, then parked work.
pub fn exit_code(ending: Ending, state: &RunState) -> u8 {
    match ending {
        Ending::Environment => return ENVIRONMENT,
        Ending::Interrupted { signal } => return 128 + signal,
        Ending::BaseRed => return BASE_RED,
        Ending::Deadline => return DEADLINE,
        Ending::Complete => {}
    }
    let verdicts = || state.instances.values().map(verdict);
    if verdicts().any(|verdict| verdict == Verdict::Failed) {
        TASK_FAILED
    } else if verdicts().any(|verdict| verdict == Verdict::Environment) {
        ENVIRONMENT
    } else if state.instances.values().any(|instance| matches!(instance.fate(), Some(Fate::Parked { .. }))) {
        PARKED
    } else {
        ALL_LANDED
    }
}

/// Whether a run that ended with this exit code (`None`: its coordinator died) can be gone on with: it was interrupted, ran
/// out of time, or the machine failed it.
pub fn is_resumable(exit: Option<u8>) -> bool {
    match exit {
        None => true,
        Some(code) => code > 128 || matches!(code, DEADLINE | ENVIRONMENT),
    }
}

/// What an exit code says, for people.
pub fn exit_meaning(code: u8) -> &'static str {
    match code {
        ALL_LANDED => "all succeeded and landed",
        TASK_FAILED => "a task failed",
        USAGE => "the command line or the plan is wrong",
        ENVIRONMENT => "the environment failed, not a task",
        PARKED => "finished, but something is parked",
        BASE_RED => "the base itself fails its verification: mend it in a commit, and start the plan again",
        DEADLINE => "the deadline or the budget is spent",
        HELD => "another coordinator holds this run or its target",
        129 | 130 | 131 | 143 => "interrupted",
        _ => "unknown",
    }
}

/// What the end of a run says, for people: what its exit code says, and of a good end no more than happened. `train` is
/// whether it has a target.
pub fn meaning(tally: Tally, train: bool, exit: u8) -> String {
    let said = match (tally.instances, tally.failed, tally.landed) {
        _ if exit != ALL_LANDED => exit_meaning(exit),
        (0, ..) => "nothing was done: no task has an instance",
        (_, 0, landed) if tally.dropped > 0 => {
            let landed = if landed > 0 { ", the others landed" } else { "" };
            return format!("all succeeded; {} given up{landed}", words::count(tally.dropped, "result"));
        }
        (_, 0, 0) if train => "all succeeded, and nothing landed",
        (_, 0, 0) => "all succeeded",
        (_, 0, _) => exit_meaning(ALL_LANDED),
        (_, failed, landed) => {
            let landed = if landed > 0 { " and landed" } else { "" };
            return format!("{failed} failed, as the plan allows; all others succeeded{landed}");
        }
    };
    said.to_owned()
}

/// What the end of a run says, with why it ended early: that alone where it says all of it.
pub fn told(state: &RunState, end: &Finished) -> String {
    told_of(state.tally, state.target.is_some(), end)
}

/// The same where only the counts are known, and whether there is a target.
pub fn told_of(tally: Tally, train: bool, end: &Finished) -> String {
    let meaning = meaning(tally, train, end.exit);
    let Some(cause) = end.cause.as_deref().filter(|&cause| cause != meaning) else { return meaning };
    let cause = lines::one_line(cause);
    if end.lost.is_some() || end.exit == DEADLINE { cause } else { format!("{meaning} ({cause})") }
}

#[derive(PartialEq)]
enum Verdict {
    Fine,
    Failed,
    Environment,
}

fn verdict(instance: &InstanceState) -> Verdict {
    if instance.on_failure == OnFailure::Allow {
        return Verdict::Fine;
    }
    match instance.result() {
        // Whatever it failed for, and whatever was to come of it: nobody tries it again.
        _ if matches!(instance.fate(), Some(Fate::Dropped { was: GivenUp::Failed })) => Verdict::Failed,
        Some(InstanceResult::Succeeded | InstanceResult::Flaky | InstanceResult::Skipped) => Verdict::Fine,
        // Blocked follows from a failure that is counted itself; an allowed failure blocks nothing.
        Some(InstanceResult::Blocked | InstanceResult::Cancelled) => Verdict::Fine,
        Some(InstanceResult::Failed) => match instance.last_attempt().and_then(|attempt| attempt.end()) {
            Some(AttemptEnd::Infra { .. } | AttemptEnd::Work { ended: Ended::Refused(_) }) => Verdict::Environment,
            _ => Verdict::Failed,
        },
        Some(InstanceResult::TimedOut | InstanceResult::Violation) => Verdict::Failed,
        // A run cannot be complete with these in it, unless the coordinator lost them.
        Some(InstanceResult::Lost) | None => Verdict::Environment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunEvent;
    use crate::journal::replay;
    use crate::report::story::*;

    fn check(events: Vec<RunEvent>, ending: Ending, expected: u8) {
        assert_eq!(exit_code(ending, &replay(&recorded(events))), expected);
    }

    fn one(end: AttemptEnd, name: InstanceResult) -> Vec<RunEvent> {
        vec![added(&[("a", &[])]), attempt("a", 1), ended("a", 1, end, 1, 0), result("a", name, None)]
    }

    fn meant(events: Vec<RunEvent>, exit: u8) -> String {
        let state = replay(&recorded(events));
        meaning(state.tally, state.target.is_some(), exit)
    }

    #[test]
    fn each_code_has_its_reason() {
        let good = one(AttemptEnd::Succeeded, InstanceResult::Succeeded);
        check(vec![], Ending::Complete, 0);
        check(good.clone(), Ending::Complete, 0);
        check(one(exited(1), InstanceResult::Failed), Ending::Complete, 1);
        check(one(exited(1), InstanceResult::Violation), Ending::Complete, 1);
        check(one(AttemptEnd::Infra { detail: String::new() }, InstanceResult::Failed), Ending::Complete, 3);
        check([good.clone(), vec![parked("a", "conflict", &[])]].concat(), Ending::Complete, 5);
        check(good.clone(), Ending::Deadline, 7);
        check(good.clone(), Ending::Interrupted { signal: 2 }, 130);
        check(good.clone(), Ending::Interrupted { signal: 15 }, 143);
        check(good, Ending::Environment, 3);
        check(mixed(), Ending::Complete, 1);
    }

    #[test]
    fn an_allowed_failure_does_not_count() {
        let mut events = one(exited(1), InstanceResult::Failed);
        let RunEvent::InstancesAdded { instances } = &mut events[0] else { unreachable!("BUG: the first is added") };
        instances[0].on_failure = OnFailure::Allow;
        let said = meant(events.clone(), ALL_LANDED);
        assert_eq!(said, "1 failed, as the plan allows; all others succeeded");
        check(events, Ending::Complete, 0);
    }

    #[test]
    fn a_good_end_claims_no_more_than_happened() {
        let good = one(AttemptEnd::Succeeded, InstanceResult::Succeeded);
        let check = |events: Vec<RunEvent>, exit: u8, expected: &str| {
            assert_eq!(meant(events, exit), expected);
        };
        check(vec![started("p")], 0, "nothing was done: no task has an instance");
        check(good.clone(), 0, "all succeeded");
        check([vec![started("p")], good.clone()].concat(), 0, "all succeeded, and nothing landed");
        check([vec![started("p")], good.clone(), vec![landed("a")]].concat(), 0, "all succeeded and landed");
        check(good.clone(), 1, "a task failed");
        let dropped = RunEvent::Merged { instance: id("a"), fate: Fate::Dropped { was: GivenUp::Parked } };
        let given_up = [vec![started("p")], good, vec![parked("a", "conflict", &[]), dropped]].concat();
        check(given_up, 0, "all succeeded; 1 result given up");
    }

    #[test]
    fn a_failure_outweighs_parked_work() {
        let events = [
            vec![added(&[("a", &[]), ("b", &[])])],
            one(exited(1), InstanceResult::Failed)[1..].to_vec(),
            vec![result("b", InstanceResult::Succeeded, None), parked("b", "conflict", &[])],
        ];
        check(events.concat(), Ending::Complete, 1);
    }
}
