//! Agents that look at a result before it counts: behind its checks, in a worktree of the collected change, each with a fresh
//! context. What one finds ends the attempt, and is told to the next. Why a review belongs to the attempt that it reviews:
//! `swarm_plans::review`.

use std::io;
use std::sync::Arc;

use git2::Oid;
use swarm_plans::{AgentMode, RenderedAgent, RenderedReviewer};
use swarm_protocol::agent::Envelope;
use swarm_protocol::toolset::{LanguageServers, Toolset};

use super::agent::{Talk, bootstrap_failed};
use super::trees::Start;
use super::{Executor, Record, Stop, Trial, When, agent};
use crate::agent::bootstrap::{self, Beginning};
use crate::agent::conversation::OwnTools;
use crate::agent::reviewing::{self, DIFF_BYTES_MAX, Desk, Review, Reviewed};
use crate::egress::Leads;
use crate::event::AttemptEnd;
use crate::report::diff::{Form, Reader, write_diff};
use crate::report::words::{self, Style};
use crate::worktree::Worktree;

impl Executor {
    /// Has the result of an attempt that passed its checks looked at; the first findings end it.
    pub(super) async fn reviews(
        self: &Arc<Self>,
        trial: Trial<'_>,
        start: &Arc<Start>,
        result: &Arc<Start>,
        record: &mut Record,
    ) -> Result<(), Stop> {
        for (index, reviewer) in trial.job.rendered.reviewers.iter().enumerate() {
            self.jobs.phase(Some(&trial.job.name), format!("reviewed by {}", reviewer.by));
            // A log that cannot be written is noticed when it is finished.
            record.log.section(&format!("review by {}", reviewer.by));
            let worktree = self.provision(result, trial.places, When::REVIEW.name).await?;
            let beginning = self.review_beginning(trial, reviewer, start, result);
            let reviewed = match beginning {
                Ok(beginning) => {
                    let trees = (start.tree, result.tree);
                    self.asked_twice(trial, (index, reviewer), beginning, trees, &worktree, record).await
                }
                Err(stop) => Err(stop),
            };
            self.trees.let_go(worktree).await;
            match reviewed? {
                Review::Approved => {}
                Review::Findings(findings) => {
                    return Err(Stop(AttemptEnd::Findings { by: reviewer.by.clone(), findings }));
                }
            }
        }
        Ok(())
    }

    /// Has a reviewer asked once more that ended in words alone: what it forgot is not for the work to pay.
    async fn asked_twice(
        &self,
        trial: Trial<'_>,
        (index, reviewer): (usize, &RenderedReviewer),
        beginning: Beginning,
        trees: (Oid, Oid),
        worktree: &Worktree,
        record: &mut Record,
    ) -> Result<Review, Stop> {
        let again = Beginning { prompt: format!("{}{}", beginning.prompt, reviewing::AGAIN), ..beginning.clone() };
        for (beginning, name) in [(beginning, ""), (again, "-again")] {
            let name = format!("review-{}{name}.jsonl", index + 1);
            if let Some(review) = self.review(trial, (reviewer, name), beginning, trees, worktree, record).await? {
                return Ok(review);
            }
            record.notes.push(format!("review by {}: it ended without one", reviewer.by));
        }
        Ok(Review::Findings(vec!["it gave no review".to_owned()]))
    }

    /// What one says; `None` where it ended as it should and gave no review.
    async fn review(
        &self,
        trial: Trial<'_>,
        (reviewer, name): (&RenderedReviewer, String),
        beginning: Beginning,
        (began, tree): (Oid, Oid),
        worktree: &Worktree,
        record: &mut Record,
    ) -> Result<Option<Review>, Stop> {
        let desk = Arc::new(Desk::default());
        let own_tools: Arc<dyn OwnTools> = desk.clone();
        let agent = looking(&reviewer.agent);
        let talk = Talk {
            agent: &agent,
            beginning,
            tree,
            began,
            // Beside the transcript of the work. Of a coordinator that died in the midst of it, it is gone on with where the very
            // same change is looked at.
            transcript: trial.places.folder().join(name),
            toolset: Toolset {
                of_coordinator: own_tools.offered(),
                diagnostics: LanguageServers::Never,
                ..Toolset::default()
            },
            own_tools: Some(own_tools),
            when: When::REVIEW,
            sandbox: &trial.task.sandbox,
            timeout: trial.task.timeout,
            // Who only looks reaches nobody.
            leads: Leads { hosts: None, models: None },
            shown: None,
        };
        let (ran, held) = self.talk(trial, talk, worktree, &mut record.log).await?;
        let by = |note| format!("review by {}: {note}", reviewer.by);
        record.notes.extend(agent::notes(&held).into_iter().map(by));
        let spent = held.spent();
        let envelope: Option<Envelope> = held.envelope;
        match desk.given() {
            Some(review) => Ok(Some(review)),
            None => match agent::end_of(ran.outcome.ended, envelope.as_ref(), spent) {
                Ok(()) => Ok(None),
                Err(ended) => Err(Stop(not_given(&reviewer.by, ended))),
            },
        }
    }

    fn review_beginning(
        &self,
        trial: Trial<'_>,
        reviewer: &RenderedReviewer,
        start: &Start,
        result: &Start,
    ) -> Result<Beginning, Stop> {
        let rendered = &trial.job.rendered;
        let git = self.repository.handle()?;
        let odb = git.odb()?;
        // The reviewer's own words come from where the work began, as the project's rules do: no change rewrites who looks
        // at it.
        let asked = bootstrap::words_of(&odb, start.tree, &reviewer.agent).map_err(bootstrap_failed)?;
        let task = match &rendered.agent {
            Some(agent) => bootstrap::words_of(&odb, start.tree, agent).map_err(bootstrap_failed)?,
            None => words::command(&rendered.argv),
        };
        let project =
            bootstrap::project(&odb, start.tree, &reviewer.agent.settings.directory).map_err(bootstrap_failed)?;
        let diff = self.change_of(start.commit, result.commit, DIFF_BYTES_MAX)?;
        let checks = rendered.checks.iter().map(|check| words::command(&check.command.argv)).collect();
        let reviewed = Reviewed {
            instance: &trial.job.name.0,
            task: &task,
            writes: rendered.writes.as_deref(),
            checks,
            diff: &self.jobs.secrets.text(&diff),
            asked: &asked,
            project: &project,
        };
        let (system, prompt) = reviewing::told(&reviewed);
        Ok(Beginning { system, prompt })
    }

    /// What differs between two commits, as text of so many bytes at most.
    pub(super) fn change_of(&self, from: Oid, to: Oid, bytes_max: usize) -> Result<String, Stop> {
        let mut shown = Shown { bytes: vec![], left_out: 0, bytes_max };
        if from != to {
            write_diff(&self.repository, from, to, (Form::Patch, Reader::Person(Style::Plain)), &mut shown)??;
        }
        let mut text = String::from_utf8_lossy(&shown.bytes).into_owned();
        if shown.left_out > 0 {
            text.push_str(&format!("\n[{} bytes more are left out: look at the files themselves]\n", shown.left_out));
        }
        Ok(text)
    }
}

/// An agent that may only look, whatever its plan says, and gets no tool of anybody else.
fn looking(agent: &RenderedAgent) -> RenderedAgent {
    let mut agent = agent.clone();
    agent.settings.mode = AgentMode::ReadOnly;
    agent.settings.allow.clear();
    agent.settings.servers.clear();
    agent
}

/// The end of an attempt whose reviewer said nothing, because of what ended it.
fn not_given(by: &str, ended: AttemptEnd) -> AttemptEnd {
    match ended {
        AttemptEnd::Agent { status, detail, spent } => {
            AttemptEnd::Agent { status, detail: format!("its review by {by}: {detail}"), spent }
        }
        end => AttemptEnd::Infra { detail: format!("its review by {by} {}", words::end(&end)) },
    }
}

/// The beginning of a text, and how much of it is missing.
struct Shown {
    bytes: Vec<u8>,
    left_out: usize,
    bytes_max: usize,
}

impl io::Write for Shown {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let taken = piece.len().min(self.bytes_max - self.bytes.len());
        self.bytes.extend_from_slice(&piece[..taken]);
        self.left_out += piece.len() - taken;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use swarm_protocol::agent::AgentStatus;

    use super::*;

    #[test]
    fn a_long_change_is_cut_and_says_so() {
        let mut shown = Shown { bytes: vec![], left_out: 0, bytes_max: 10 };
        shown.write_all(b"seventeen letters").unwrap();
        shown.write_all(b"more").unwrap();
        assert_eq!((shown.bytes.as_slice(), shown.left_out), (b"seventeen ".as_slice(), 11));
    }

    #[test]
    fn a_review_that_is_not_given_approves_of_nothing() {
        let cut_off = AttemptEnd::Agent { status: AgentStatus::Unanswered, detail: "no key".to_owned(), spent: None };
        let AttemptEnd::Agent { status, detail, .. } = not_given("look", cut_off) else { panic!("the agent's end") };
        assert_eq!((status, detail.as_str()), (AgentStatus::Unanswered, "its review by look: no key"));
    }
}
