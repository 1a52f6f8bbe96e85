//! The end of a run: what it no longer needs is let go, what is wrong with its refs and its target is said, and its exit is recorded.

use git2::Oid;

use super::{RunEnd, RunError, Stage};
use crate::event::RunEvent;
use crate::journal::{InstanceState, RunState};
use crate::report::{Ending, Reports, exit_code, is_resumable};
use crate::target::{self, TargetError};
use crate::{commit, hollow, reused};

/// Whether anything is still under way when a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Nothing is.
    Rest,
    /// A fold, a move of the target or work, which nobody waits for any more: what that leans on stays for whoever goes on.
    Work,
}

impl Stage<'_> {
    /// Records how the run ended, with what a person should know of its refs.
    pub(super) fn finish(
        &self,
        (ending, cause): (Ending, Option<&str>),
        at: At,
        reports: &mut Reports,
    ) -> Result<RunEnd, RunError> {
        let run = self.journal.run();
        let tip = match (&self.target, at) {
            (Some(target), At::Rest) => self.repository.find_ref(target)?.map(|tip| tip.to_string()),
            // It may move yet.
            (Some(_), At::Work) | (None, _) => None,
        };
        if at == At::Rest {
            commit::let_go(&self.repository, run)?;
        }
        let hollow = hollow::hollow(&self.repository, run, reports.state().started_at_ms)?;
        let notes: Vec<String> = hollow.iter().map(ToString::to_string).collect();
        let lost = self.lost_landed(reports.state())?;
        let ending = if lost.is_some() { Ending::Environment } else { ending };
        let exit = exit_code(ending, reports.state());
        let cause = lost.as_ref().map(TargetError::to_string).or_else(|| cause.map(str::to_owned));
        if at == At::Rest && !is_resumable(Some(exit)) {
            reused::settle(&self.repository, run, reports.state())?;
        }
        let (lost, way_back) = lost.map_or((None, None), |lost: TargetError| (lost.lost(), lost.way_back()));
        let event = RunEvent::RunFinished { exit, tip, cause, lost, way_back };
        let noted = (!notes.is_empty()).then_some(RunEvent::Noted { notes });
        self.tell(reports, noted.into_iter().chain([event]).collect())?;
        Ok(RunEnd { run: self.journal.run().clone(), exit })
    }

    /// What is wrong when the target no longer holds what the run has landed on it.
    fn lost_landed(&self, state: &RunState) -> Result<Option<TargetError>, RunError> {
        let newest = state.instances.values().filter_map(InstanceState::landed).max();
        let landed = newest.and_then(|(_, commit)| Oid::from_str(commit).ok());
        let (Some(target), Some(landed)) = (&self.target, landed) else { return Ok(None) };
        Ok(target::lost_landed(&self.repository, target, landed)?)
    }
}
