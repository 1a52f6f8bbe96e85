//! What an attempt left becomes a commit under its ref, on the disk before anybody hears of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::Oid;
use swarm_plans::InstanceId;
use swarm_protocol::causes::causes;

use super::Executor;
use super::trees::Start;
use crate::collect::rules;
use crate::collect::self_running::runs_on_its_own;
use crate::collect::{
    Change, ChangeKind, ChangedPath, CollectError, Collected, Refusal, Terms, collect, display_path,
    has_unseen_characters, salvage,
};
use crate::commit::{self, CommitSpec};
use crate::event::ChangeSummary;
use crate::ids::Attempt;
use crate::policy::Cage;
use crate::report::words;
use crate::repository::{Obeyed, RepositoryError};
use crate::tree::TreeError;
use crate::worktree::Worktree;

/// Files that run by themselves which a note names.
const NAMED_MAX: usize = 10;

/// How often a change is collected whose objects somebody takes away meanwhile.
const TAKEN_MAX: usize = 3;

/// A change under its ref.
pub(super) struct Kept {
    pub(super) summary: ChangeSummary,
    pub(super) commit: Oid,
    pub(super) notes: Vec<String>,
    /// As [`Change::ignored`].
    pub(super) ignored: Option<Vec<u8>>,
}

/// What collecting brought: a change, a refusal, or both when the change is kept but may not be merged.
pub(super) struct Taken {
    pub(super) kept: Option<Kept>,
    pub(super) refusal: Option<Refusal>,
}

/// Why nothing could be taken: a failure of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error("keep its change: {0}")]
    Keep(#[from] RepositoryError),
}

impl Executor {
    /// Collects and keeps. Nothing is lost: what is refused is kept for a look, without what no repository should hold, and never
    /// merged. What somebody's `git gc --prune=now` takes meanwhile, or what a power cut once left of an object, is written again.
    pub(super) fn take(
        &self,
        of: (&InstanceId, Attempt),
        start: &Start,
        worktree: &Worktree,
        writes: Option<&[String]>,
        run: &[RunByPlan],
    ) -> Result<Taken, TakeError> {
        for _ in 1..TAKEN_MAX {
            match self.take_once(of, start, worktree, (writes, run)) {
                Err(error) if self.can_be_written_again(&error)? => {
                    tracing::warn!(error = %causes(&error), "an attempt's objects are written once more");
                }
                taken => return taken,
            }
        }
        self.take_once(of, start, worktree, (writes, run))
    }

    /// Whether an attempt's change may be kept when it is collected once more: objects that its files stand for were there and are
    /// not any more.
    fn can_be_written_again(&self, error: &TakeError) -> Result<bool, RepositoryError> {
        match error {
            TakeError::Keep(error) | TakeError::Collect(CollectError::Repository(error)) => {
                self.repository.may_be_written_again(error)
            }
            TakeError::Collect(CollectError::Tree(TreeError::Store(_))) => Ok(self.repository.remove_damaged()? > 0),
            TakeError::Collect(_) => Ok(false),
        }
    }

    fn take_once(
        &self,
        (name, attempt): (&InstanceId, Attempt),
        start: &Start,
        worktree: &Worktree,
        (writes, run): (Option<&[String]>, &[RunByPlan]),
    ) -> Result<Taken, TakeError> {
        let terms = Terms::without(&self.jobs.secrets);
        let (change, refusal) = match collect(&self.repository, worktree, writes, &terms)? {
            Collected::Change(change) => {
                let refusal = self.link_to_hidden(change.base_tree, change.tree)?;
                (Some(change), refusal)
            }
            Collected::Refused(refusal @ Refusal::OutOfScope { .. }) => {
                match collect(&self.repository, worktree, None, &terms)? {
                    Collected::Change(change) => (Some(change), Some(refusal)),
                    Collected::Refused(graver) => (salvage(&self.repository, worktree, &terms)?, Some(graver)),
                }
            }
            Collected::Refused(refusal) => (salvage(&self.repository, worktree, &terms)?, Some(refusal)),
        };
        let kept = change.map(|change| {
            let scope = writes.filter(|_| refusal.is_none());
            let told = self.keep_history((name, attempt), start, worktree, &change, scope)?;
            let judged = run_by_plan_note(&change.paths, run);
            let mut kept = self.keep(name, attempt, start, change, told)?;
            kept.notes.extend(judged);
            kept.summary.writes = writes.map(<[String]>::to_vec);
            Ok::<Kept, TakeError>(kept)
        });
        Ok(Taken { kept: kept.transpose()?, refusal })
    }

    /// Why a change may not be built on: it puts a link where a policy of the plan hides something in the worktree.
    pub(super) fn link_to_hidden(&self, before: Oid, after: Oid) -> Result<Option<Refusal>, TakeError> {
        let place = self.repository.place();
        let in_the_tree = |path: &PathBuf| path.strip_prefix(place).map(Path::to_owned).ok();
        let hidden: Vec<PathBuf> = self.cages.values().flat_map(Cage::hidden).filter_map(in_the_tree).collect();
        if hidden.is_empty() {
            return Ok(None);
        }
        let git = self.repository.handle()?;
        let odb = git.odb().map_err(RepositoryError::from)?;
        Ok(rules::link_to_hidden(&odb, &hidden, before, after).map_err(CollectError::from)?)
    }

    /// Commits a change and keeps it under the attempt's ref.
    fn keep(
        &self,
        name: &InstanceId,
        attempt: Attempt,
        start: &Start,
        change: Change,
        (history, told): (Option<String>, Vec<String>),
    ) -> Result<Kept, RepositoryError> {
        let mut commit = start.commit;
        if !change.is_empty() {
            let trailers = commit::trailers(&self.plan.name, name);
            let subject = format!("{}: {name}", self.plan.name);
            let spec =
                CommitSpec { parents: &[start.commit], tree: change.tree, subject: &subject, trailers: &trailers };
            commit = commit::write_commit(&self.repository, &self.signing, &spec)?;
            let reference = commit::attempt_ref(&self.run, name, attempt);
            commit::keep_new(&self.repository, &reference, commit, &[start.commit])?;
        }
        let summary = ChangeSummary {
            base_tree: change.base_tree.to_string(),
            commit: commit.to_string(),
            tree: change.tree.to_string(),
            files: change.paths.len() as u64,
            history,
            writes: None,
        };
        let mut notes = change.notes;
        notes.extend(told);
        notes.extend(self_running_note(&change.paths, &self.obeyed));
        notes.extend(unseen_note(&change.paths));
        Ok(Kept { summary, commit, notes, ignored: change.ignored })
    }
}

/// What is said of a task that was to change something and made what git ignores only.
pub(super) fn only_ignored(path: &[u8]) -> String {
    format!(
        "it changed nothing that git tracks: {} is ignored (.gitignore), and so lands nowhere; `artifacts` hand such files on",
        display_path(path)
    )
}

/// What is said of a change where not all is known that git obeys.
const BEYOND: &str = "git's configuration names more than swarm looks at, so git may obey other files that it changed: look at it before \
                      you use git there";

/// Says which of the changed files somebody's tools will execute outside of the cage, git by its configuration among them.
fn self_running_note(paths: &[ChangedPath], obeyed: &Obeyed) -> Option<String> {
    let changed = paths.iter().filter(|changed| changed.kind != ChangeKind::Deleted).map(|changed| &changed.path);
    let runs = |path: &&Vec<u8>| runs_on_its_own(path) || obeyed.covers(Path::new(OsStr::from_bytes(path)));
    let found = named(changed.filter(runs).collect());
    let told = found.map(|(_, list)| format!("it changed what runs by itself outside of the cage: {list}"));
    match (told, obeyed.is_all() || paths.is_empty()) {
        (told, true) => told,
        (Some(told), false) => Some(format!("{told}; {BEYOND}")),
        (None, false) => Some(BEYOND.to_owned()),
    }
}

/// The files that a command of the plan runs.
pub(super) struct RunByPlan {
    /// Which command, for people.
    pub(super) by: &'static str,
    /// From the root of the tree.
    pub(super) files: BTreeSet<String>,
}

/// Says which of the changed files the plan's own commands run: what judged the result then was what it had made of them.
fn run_by_plan_note(paths: &[ChangedPath], run: &[RunByPlan]) -> Option<String> {
    let by = |path: &[u8]| {
        let path = std::str::from_utf8(path).ok()?;
        let by: Vec<&str> = run.iter().filter(|run| run.files.contains(path)).map(|run| run.by).collect();
        (!by.is_empty()).then(|| by.join(", "))
    };
    let found: Vec<String> =
        paths.iter().filter_map(|it| Some(format!("{} ({})", display_path(&it.path), by(&it.path)?))).collect();
    let list = words::first_of(&found, NAMED_MAX);
    (!found.is_empty())
        .then(|| format!("it changed what commands of the plan run, which ran it as changed, or will: {list}"))
}

/// Says which new names are not what they look like.
fn unseen_note(paths: &[ChangedPath]) -> Option<String> {
    let added = paths.iter().filter(|changed| changed.kind == ChangeKind::Added).map(|changed| &changed.path);
    Some(match named(added.filter(|path| has_unseen_characters(path)).collect())? {
        (1, name) => format!("1 new name with characters that nobody sees: {name}"),
        (count, list) => format!("{count} new names with characters that nobody sees: {list}"),
    })
}

/// How many paths there are, and the first of them for people; `None` where there is none.
fn named(paths: Vec<&Vec<u8>>) -> Option<(usize, String)> {
    let list = words::first_of(paths.iter().map(|path| display_path(path)), NAMED_MAX);
    (!paths.is_empty()).then_some((paths.len(), list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_named_with_the_commands_that_run_it() {
        let files = |files: &[&str]| files.iter().map(|&file| file.to_owned()).collect();
        let run = [
            RunByPlan { by: "its check", files: files(&["ci/gate.sh", "t.sh"]) },
            RunByPlan { by: "[merge] verify", files: files(&["ci/gate.sh"]) },
        ];
        let check = |changed: &[&str], expected: Option<&str>| {
            let changed =
                changed.iter().map(|path| ChangedPath { path: path.as_bytes().to_vec(), kind: ChangeKind::Modified });
            let note = run_by_plan_note(&changed.collect::<Vec<_>>(), &run);
            assert_eq!(note.as_deref().and_then(|note| note.split_once(": ")).map(|(_, list)| list), expected);
        };
        check(&["src/a.rs", "ci/gate"], None);
        check(&["a", "ci/gate.sh"], Some("ci/gate.sh (its check, [merge] verify)"));
        check(&["t.sh", "ci/gate.sh"], Some("t.sh (its check), ci/gate.sh (its check, [merge] verify)"));
    }
}
