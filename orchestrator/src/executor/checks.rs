//! The gates of one attempt: checks that have to fail before the work, and those that have to pass after it, each in a fresh
//! worktree of what was collected; behind them those who look at the result.

use std::sync::Arc;

use git2::Oid;
use swarm_plans::{BeforeWork, RenderedCheck};
use swarm_protocol::Ended;

use super::job::CagedCommand;
use super::trees::Start;
use super::{Executor, Record, Stop, Trial, When, note};
use crate::egress::Leads;
use crate::event::AttemptEnd;
use crate::report::words;
use crate::worktree::Worktree;

impl Executor {
    /// Checks that have to fail before the work: else they would prove nothing.
    pub(super) async fn checks_before(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        let before = |check: &&(usize, &RenderedCheck)| check.1.before == BeforeWork::ExpectFail;
        let all: Vec<(usize, &RenderedCheck)> = trial.job.rendered.checks.iter().enumerate().collect();
        for &(index, check) in all.iter().filter(before) {
            let worktree = self.provision(start, trial.places, When::BEFORE.name).await?;
            let ended = self.check(trial, (index, check), &worktree, When::BEFORE, record).await;
            self.trees.let_go(worktree).await;
            let ended = ended?;
            let failed_as_asked = matches!(ended, Ended::Exited { code } if code != 0);
            if !failed_as_asked {
                let command = words::command_in_short(&check.command.argv);
                return Err(Stop(AttemptEnd::Check { index, command, ended, before: true }));
            }
        }
        Ok(())
    }

    pub(super) async fn checks_after(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        result: Option<Oid>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        if trial.job.rendered.checks.is_empty() && trial.job.rendered.reviewers.is_empty() {
            return Ok(());
        }
        let executor = Arc::clone(self);
        let result = match result {
            None => Arc::clone(start),
            Some(commit) => Arc::new(tokio::task::spawn_blocking(move || executor.trees.layered(commit)).await??),
        };
        self.checks_on(trial, &result, record).await?;
        self.reviews(trial, start, &result, record).await
    }

    async fn checks_on(
        self: &Arc<Self>,
        trial: Trial<'_>,
        result: &Arc<Start>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        for (index, check) in trial.job.rendered.checks.iter().enumerate() {
            // Each in a worktree of its own: a check that runs what the task wrote could else rewrite what the next one reads.
            let worktree = self.provision(result, trial.places, When::AFTER.name).await?;
            let ended = self.check(trial, (index, check), &worktree, When::AFTER, record).await;
            self.trees.let_go(worktree).await;
            match ended? {
                Ended::Exited { code: 0 } => {}
                ended => {
                    let command = words::command_in_short(&check.command.argv);
                    let end = AttemptEnd::Check { index, command, ended, before: false };
                    return Err(Stop(end));
                }
            }
        }
        Ok(())
    }

    async fn check(
        &self,
        trial: Trial<'_>,
        (index, check): (usize, &RenderedCheck),
        worktree: &Worktree,
        when: When,
        record: &mut Record,
    ) -> Result<Ended, Stop> {
        let job = trial.job;
        self.jobs.phase(Some(&job.name), format!("check {}/{}", index + 1, job.rendered.checks.len()));
        // A log that cannot be written is noticed when it is finished.
        let heading = format!("check {} {}: {}", index + 1, when.words, words::command_in_short(&check.command.argv));
        record.log.section(&self.jobs.secrets.text(&heading));
        let timeout = check.command.timeout.or(trial.task.timeout);
        let (argv, hosts) = (check.command.argv.clone(), self.cages[&trial.task.sandbox].egress().cloned());
        let leads = Leads { hosts, models: None };
        let command = CagedCommand { argv, cwd: worktree.spec.at().clone(), timeout, leads };
        let ran = self.caged(trial, command, worktree, when, &mut record.log).await?;
        note(&ran, &self.not_enforced, record);
        // What has to fail before the work fails for many reasons; the cage is none to ask about.
        if when.name != When::BEFORE.name {
            self.hear_refusals(trial, &ran, record);
        }
        Ok(ran.outcome.ended)
    }
}
