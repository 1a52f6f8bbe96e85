//! What happens after a failed attempt: a pure value of the plan's `retry`, the end and a random number given by the caller.

use std::time::Duration;

use swarm_plans::{Backoff, Jitter, Retry, RetryClass, Task};
use swarm_protocol::Ended;
use swarm_protocol::agent::AgentStatus;

use crate::event::{AttemptEnd, InstanceResult};

/// The class under which `retry.on` names an end; `None` for a success and for what is never tried again.
pub fn class(end: &AttemptEnd) -> Option<RetryClass> {
    match end {
        AttemptEnd::Succeeded | AttemptEnd::Violation { .. } | AttemptEnd::Needs { .. } | AttemptEnd::Lost => None,
        AttemptEnd::Infra { .. } => Some(RetryClass::Infra),
        AttemptEnd::Outputs { .. } | AttemptEnd::Findings { .. } => Some(RetryClass::Exit),
        // Another try finds the same budget, or spends another.
        AttemptEnd::Agent { spent: Some(_), .. } => None,
        // Whatever could be tried again was tried before it came to this.
        AttemptEnd::Agent { status: AgentStatus::Unanswered, .. } => Some(RetryClass::Infra),
        AttemptEnd::Agent { .. } => Some(RetryClass::Exit),
        // Another try would only be one more that differs.
        AttemptEnd::Differs { .. } | AttemptEnd::Unresolved { .. } => None,
        AttemptEnd::Work { ended } | AttemptEnd::Check { ended, .. } => match ended {
            Ended::Exited { .. } | Ended::Signaled { .. } | Ended::StartFailed { .. } => Some(RetryClass::Exit),
            Ended::TimedOut => Some(RetryClass::Timeout),
            Ended::Refused(_) => Some(RetryClass::Infra),
            Ended::Cancelled | Ended::Limit { .. } => None,
        },
    }
}

/// How often one instance is tried again that found no room for its processes. No try of its plan is used up by that.
const ROOM_TRIES_MAX: u32 = 3;

/// How long the first of these tries waits; each next one twice as long.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// When an attempt is made once more because others left its processes no room; `before` counts how often that was done for its
/// instance. `None` where it ended otherwise, or room does not come.
pub fn when_there_is_room(end: &AttemptEnd, before: u32) -> Option<Duration> {
    let refused = match end {
        AttemptEnd::Work { ended: Ended::Refused(refusal) }
        | AttemptEnd::Check { ended: Ended::Refused(refusal), .. } => refusal,
        _ => return None,
    };
    (refused.lacks_room && before < ROOM_TRIES_MAX).then(|| ROOM_WAIT * (1 << before))
}

/// The final result when no attempt follows; `attempt` counts from 1, without lost ones.
pub fn result(end: &AttemptEnd, attempt: u32) -> InstanceResult {
    match end {
        AttemptEnd::Succeeded if attempt == 1 => InstanceResult::Succeeded,
        AttemptEnd::Succeeded => InstanceResult::Flaky,
        AttemptEnd::Violation { .. } => InstanceResult::Violation,
        AttemptEnd::Lost => InstanceResult::Lost,
        AttemptEnd::Infra { .. }
        | AttemptEnd::Needs { .. }
        | AttemptEnd::Outputs { .. }
        | AttemptEnd::Differs { .. }
        | AttemptEnd::Agent { .. }
        | AttemptEnd::Findings { .. }
        | AttemptEnd::Unresolved { .. } => InstanceResult::Failed,
        AttemptEnd::Work { ended } | AttemptEnd::Check { ended, .. } => match ended {
            Ended::TimedOut => InstanceResult::TimedOut,
            Ended::Cancelled => InstanceResult::Cancelled,
            Ended::Limit { .. } => InstanceResult::Violation,
            Ended::Exited { .. } | Ended::Signaled { .. } | Ended::StartFailed { .. } | Ended::Refused(_) => {
                InstanceResult::Failed
            }
        },
    }
}

/// Whether `until` wants another round behind an end: the work was done, and a check or somebody who looked at it said no.
fn is_another_round(rounds: Option<u32>, end: &AttemptEnd, attempt: u32) -> bool {
    let said_no = match end {
        AttemptEnd::Check { ended: Ended::Exited { .. }, before: false, .. } | AttemptEnd::Findings { .. } => true,
        // It says of itself that it is not done.
        AttemptEnd::Agent { status: AgentStatus::Blocked, .. } => true,
        _ => false,
    };
    said_no && rounds.is_some_and(|rounds| attempt < rounds)
}

/// What follows an attempt of a task: how long to wait before the next one, or `None` when there is none. `attempt` counts the
/// one that ended, from 1 and without lost ones; `spread` as in [`next_delay`].
pub fn follows(task: &Task, end: &AttemptEnd, attempt: u32, spread: f64) -> Option<Duration> {
    match is_another_round(task.rounds, end, attempt) {
        true => Some(Duration::ZERO),
        false => next_delay(&task.retry, end, attempt, spread),
    }
}

/// The final result of a task's attempt when no attempt follows: rounds of `until` are no flakes.
pub fn result_of(task: &Task, end: &AttemptEnd, attempt: u32) -> InstanceResult {
    result(end, if task.rounds.is_some() { 1 } else { attempt })
}

/// How long to wait before the next attempt, or `None` when there is none. `attempt` counts the one that ended, from 1 and
/// without lost ones; `spread` is uniformly random in `0.0..1.0` and used only with jitter.
pub fn next_delay(retry: &Retry, end: &AttemptEnd, attempt: u32, spread: f64) -> Option<Duration> {
    let class = class(end)?;
    if attempt > retry.max || !retry.on.contains(&class) {
        return None;
    }
    let factor = match retry.backoff {
        Backoff::None => return Some(Duration::ZERO),
        Backoff::Linear => attempt,
        // 2^30 seconds are 34 years: no `max-delay` is longer.
        Backoff::Exponential => 1 << (attempt - 1).min(30),
    };
    let wait = retry.delay.saturating_mul(factor).min(retry.max_delay);
    Some(match retry.jitter {
        Jitter::Exact => wait,
        Jitter::Spread => wait.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0),
    })
}

#[cfg(test)]
mod tests {
    use swarm_protocol::Refusal;

    use super::*;
    use crate::event::Whose;

    fn retry(max: u32, backoff: Backoff) -> Retry {
        let (delay, max_delay) = (Duration::from_secs(2), Duration::from_secs(10));
        Retry { max, on: vec![RetryClass::Exit], backoff, delay, max_delay, jitter: Jitter::Exact }
    }

    #[test]
    fn who_found_no_room_is_tried_again_for_nothing_and_not_for_ever() {
        let refused = |refusal| AttemptEnd::Work { ended: Ended::Refused(refusal) };
        let lacking = refused(Refusal::for_want_of_room("work", "none"));
        let waits: Vec<Option<u64>> =
            (0..4).map(|before| Some(when_there_is_room(&lacking, before)?.as_millis() as u64)).collect();
        assert_eq!(waits, [Some(500), Some(1000), Some(2000), None]);
        assert_eq!(when_there_is_room(&refused(Refusal::new("work", "none")), 0), None);
    }

    fn exit(code: i32) -> AttemptEnd {
        AttemptEnd::Work { ended: Ended::Exited { code } }
    }

    fn waits(retry: &Retry, end: &AttemptEnd) -> Vec<u64> {
        (1..20).map_while(|attempt| next_delay(retry, end, attempt, 0.0)).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        assert_eq!(waits(&retry(4, Backoff::Exponential), &exit(1)), [2, 4, 8, 10]);
        assert_eq!(waits(&retry(3, Backoff::Linear), &exit(1)), [2, 4, 6]);
        assert_eq!(waits(&retry(2, Backoff::None), &exit(1)), [0, 0]);
    }

    #[test]
    fn only_named_classes_are_tried_again_and_violations_never() {
        assert_eq!(waits(&retry(9, Backoff::None), &AttemptEnd::Infra { detail: String::new() }), [0u64; 0]);
        let violation = AttemptEnd::Violation { detail: String::new(), paths: vec![], allow_with: None };
        assert_eq!(waits(&retry(9, Backoff::None), &violation), [0u64; 0]);
        assert_eq!(result(&violation, 1), InstanceResult::Violation);
    }

    #[test]
    fn a_spent_budget_is_never_tried_again() {
        let unanswered = |spent| {
            let (status, detail) = (AgentStatus::Unanswered, String::new());
            class(&AttemptEnd::Agent { status, detail, spent })
        };
        assert_eq!((unanswered(None), unanswered(Some(Whose::Attempt))), (Some(RetryClass::Infra), None));
    }

    #[test]
    fn jitter_keeps_at_least_half_of_the_wait() {
        let retry = Retry { jitter: Jitter::Spread, ..retry(1, Backoff::Linear) };
        assert_eq!(next_delay(&retry, &exit(1), 1, 0.0), Some(Duration::from_secs(1)));
        assert_eq!(next_delay(&retry, &exit(1), 1, 1.0), Some(Duration::from_secs(2)));
    }

    #[test]
    fn rounds_are_for_work_that_somebody_said_no_to() {
        let check =
            AttemptEnd::Check { index: 0, command: String::new(), ended: Ended::Exited { code: 1 }, before: false };
        let findings = AttemptEnd::Findings { by: "r".to_owned(), findings: vec![] };
        for end in [&check, &findings] {
            let rounds = (1..20).take_while(|attempt| is_another_round(Some(3), end, *attempt)).count();
            assert_eq!((rounds, is_another_round(None, end, 1)), (2, false));
        }
        let before =
            AttemptEnd::Check { index: 0, command: String::new(), ended: Ended::Exited { code: 0 }, before: true };
        assert!(!is_another_round(Some(3), &before, 1) && !is_another_round(Some(3), &exit(1), 1));
    }

    #[test]
    fn a_pass_on_a_retry_is_flaky() {
        assert_eq!(result(&AttemptEnd::Succeeded, 1), InstanceResult::Succeeded);
        assert_eq!(result(&AttemptEnd::Succeeded, 2), InstanceResult::Flaky);
    }
}
