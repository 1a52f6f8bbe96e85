//! How far the changes on a branch may reach in a checkout that has gone on. A merge follows renames: what a task changed in a
//! file that the checkout has elsewhere by now would take effect there. So each commit of the branch is folded onto the
//! checkout's tree by the rule of the merge train (its task's `writes` cover the new place, too), before git merges all of
//! them at once.

use std::collections::HashMap;

use git2::{Oid, Sort};
use swarm_plans::InstanceId;

use super::ApplyError;
use crate::collect::display_path;
use crate::commit;
use crate::event::{Fate, RunEvent};
use crate::journal::{JournalError, JournalReader};
use crate::merge::{FileRules, Folded, Step, fold_by};
use crate::report::{sanitize, words};

/// What landed changes may touch, by the commits as which they landed: globs from the top of the tree, `None` is anything.
/// A commit that is not among them is of no task.
#[derive(Debug, Clone, Default)]
pub struct Scopes(HashMap<Oid, Option<Vec<String>>>);

impl Scopes {
    /// Those of given commits.
    pub fn of(all: impl IntoIterator<Item = (Oid, Option<Vec<String>>)>) -> Self {
        Scopes(all.into_iter().collect())
    }

    /// Those of all runs that landed on a branch, given by its full name.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn on(journal: &JournalReader, target: &str) -> Result<Self, JournalError> {
        let mut scopes = HashMap::new();
        // Of one whose row is damaged nobody knows the branch; what is known of a commit holds on any.
        let on_it = journal.entries()?.into_iter().filter_map(|entry| match entry {
            Ok(row) => (row.target.as_deref() == Some(target)).then_some(row.id),
            Err(damaged) => Some(damaged.run),
        });
        for run in on_it {
            let mut writes: HashMap<InstanceId, Option<Vec<String>>> = HashMap::new();
            for recorded in journal.events(&run, 0)? {
                match recorded.event {
                    RunEvent::AttemptFinished { instance, change: Some(change), .. } => {
                        writes.insert(instance, change.writes);
                    }
                    RunEvent::Reused { instances } => {
                        let changed = instances.into_iter().filter_map(|one| Some((one.instance, one.change?.writes)));
                        writes.extend(changed);
                    }
                    RunEvent::Merged { instance, fate: Fate::Landed { commit } } => {
                        let known = writes.get(&instance).cloned().flatten();
                        scopes.extend(Oid::from_str(&commit).ok().map(|commit| (commit, known)));
                    }
                    _ => {}
                }
            }
        }
        Ok(Scopes(scopes))
    }
}

/// The first change on `theirs` that `ours` has at a place where its task may change nothing.
///
/// # Errors
/// [`ApplyError::Fold`], [`ApplyError::Repository`].
pub(super) fn carried_too_far(
    git: &git2::Repository,
    ours: Oid,
    theirs: Oid,
    scopes: &Scopes,
) -> Result<Option<ApplyError>, ApplyError> {
    let mut walk = git.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.simplify_first_parent()?;
    walk.push(theirs)?;
    walk.hide(ours)?;
    let mut scope: Option<&[String]> = None;
    let mut steps = Vec::new();
    for id in walk {
        let commit = git.find_commit(id?)?;
        match scopes.0.get(&commit.id()) {
            Some(writes) => scope = writes.as_deref(),
            // A task's own commits lie below the one as which it landed.
            None if commit::task_of(commit.message().unwrap_or_default()).is_some() => {}
            None => scope = None,
        }
        steps.push((commit, scope));
    }
    let mut tip = git.find_commit(ours)?.tree_id();
    for (commit, writes) in steps.into_iter().rev() {
        let Ok(parent) = commit.parent(0) else { continue };
        let step = Step { base: parent.tree_id(), result: commit.tree_id(), writes };
        match fold_by(git, &FileRules::default(), tip, &step)?.folded {
            Folded::Clean { tree } => tip = tree,
            Folded::Conflict { paths } => {
                let mut carried = paths.iter().filter_map(|at| Some((&at.path, at.moved_to.as_ref()?)));
                if let Some((from, to)) = carried.next() {
                    let task = commit::task_of(commit.message().unwrap_or_default()).map(sanitize::name);
                    let task = task.unwrap_or_else(|| words::short(&commit.id().to_string()).to_owned());
                    let (from, to) = (display_path(from), display_path(to));
                    return Ok(Some(ApplyError::OutOfScope { task, from, to }));
                }
                // Whatever else does not fit, the merge itself says.
            }
        }
    }
    Ok(None)
}
