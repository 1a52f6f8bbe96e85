//! A program whose questions to models were refused for a budget: what fails of its work behind that is the budget's, and another
//! try would find the same one. Pure.

use swarm_protocol::Ended;
use swarm_protocol::agent::AgentStatus;

use crate::event::{AttemptEnd, Whose};
use crate::report::words;

/// How an attempt ends whose program's newest question was refused: whose budget that was, and why.
pub(super) fn told(end: AttemptEnd, spent: Option<(Whose, String)>) -> AttemptEnd {
    let Some((whose, why)) = spent else { return end };
    let is_of_the_work = match &end {
        AttemptEnd::Work { ended } | AttemptEnd::Check { ended, before: false, .. } => {
            matches!(ended, Ended::Exited { .. } | Ended::Signaled { .. } | Ended::TimedOut)
        }
        AttemptEnd::Outputs { .. } => true,
        _ => false,
    };
    if !is_of_the_work {
        return end;
    }
    let subject = if matches!(end, AttemptEnd::Check { .. }) { "" } else { "it " };
    let detail = format!("{why}; then {subject}{}", words::end(&end));
    AttemptEnd::Agent { status: AgentStatus::Unanswered, detail, spent: Some(whose) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_behind_a_spent_budget_is_the_budgets() {
        let spent = || Some((Whose::Task, "the budget of the task is spent".to_owned()));
        let exited = AttemptEnd::Work { ended: Ended::Exited { code: 1 } };
        assert_eq!(told(exited.clone(), None), exited);
        let end = told(exited, spent());
        assert_eq!(words::end(&end), "could not go on: the budget of the task is spent; then it exited with 1");
        assert_eq!(crate::retry::class(&end), None, "no other try has more");
        let cancelled = AttemptEnd::Work { ended: Ended::Cancelled };
        assert_eq!(told(cancelled.clone(), spent()), cancelled);
    }
}
