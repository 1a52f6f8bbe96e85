//! What only another plan, or another base, would allow that an instance failed without. A retry goes by both as they were, so it is
//! not offered then.

use swarm_protocol::Ended;

use crate::event::AttemptEnd;
use crate::journal::{InstanceState, RunState};

/// What another plan or another base would allow that an instance failed without: the line of what it changed, or those of what its
/// cage refused.
pub(super) fn wants_another_plan(instance: &InstanceState) -> bool {
    let refused =
        || instance.last_attempt().is_some_and(|attempt| attempt.refusals().iter().any(|it| it.allow_with.is_some()));
    allowed_with(instance).is_some() || refused()
}

/// Whether another try on the same base would come to the same: the work is done there, or something else has to fail before it.
pub(super) fn is_done_already(instance: &InstanceState) -> bool {
    let end = instance.last_attempt().and_then(|attempt| attempt.end());
    matches!(end, Some(AttemptEnd::Check { before: true, ended: Ended::Exited { code: 0 }, .. }))
}

/// The line of another plan that would allow what an instance was refused for.
pub(super) fn allowed_with(instance: &InstanceState) -> Option<&str> {
    match instance.last_attempt()?.end()? {
        AttemptEnd::Violation { allow_with, .. } => allow_with.as_deref(),
        _ => None,
    }
}

/// The limit of its policy that an instance broke, as the plan names it. Another try may have more where nothing is written: then
/// limits are shares of what the machine has free.
pub(super) fn limit_to_raise(instance: &InstanceState) -> Option<&str> {
    let (AttemptEnd::Work { ended } | AttemptEnd::Check { ended, .. }) = instance.last_attempt()?.end()? else {
        return None;
    };
    match ended {
        Ended::Limit { limit, .. } => ["memory", "processes", "disk", "files"].into_iter().find(|key| limit == key),
        _ => None,
    }
}

/// The words of a retry without which agents come to the same: a budget was spent, or is too small for one call.
pub(super) fn more_budget(state: &RunState) -> &'static str {
    let is_spent = |instance: &InstanceState| {
        let end = instance.last_attempt().and_then(|attempt| attempt.end());
        matches!(end, Some(AttemptEnd::Agent { spent: Some(_), .. }))
    };
    if state.instances.values().any(is_spent) {
        " --budget-usd N (or --budget-tokens N, --budget-time DURATION)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use swarm_protocol::agent::AgentStatus;

    use super::*;
    use crate::event::Whose;
    use crate::journal::replay;
    use crate::report::story::{added, ended, recorded};

    #[test]
    fn a_retry_behind_a_spent_budget_is_given_more() {
        let said = |spent: Option<Whose>| {
            let end = AttemptEnd::Agent { status: AgentStatus::Unanswered, detail: String::new(), spent };
            more_budget(&replay(&recorded(vec![added(&[("a", &[])]), ended("a", 1, end, 1, 0)])))
        };
        assert_eq!(
            [said(Some(Whose::Run)), said(None)],
            [" --budget-usd N (or --budget-tokens N, --budget-time DURATION)", ""]
        );
    }

    #[test]
    fn a_check_that_passes_before_the_work_does_so_again() {
        let check = |before: bool, code: i32| {
            let end = AttemptEnd::Check { index: 0, command: "x".to_owned(), ended: Ended::Exited { code }, before };
            let state = replay(&recorded(vec![added(&[("a", &[])]), ended("a", 1, end, 1, 0)]));
            is_done_already(&state.instances[0])
        };
        assert_eq!([check(true, 0), check(true, 2), check(false, 1)], [true, false, false]);
    }
}
