//! Which branch receives the work, and whether it may: a run never moves a branch under a checkout, and never one that went
//! another way than its base.

use std::path::Path;
use std::sync::Arc;

use git2::Oid;
use swarm_plans::Plan;

use crate::dispatcher::core::RunFacts;
use crate::ids::{RunId, branch_of};
use crate::journal::{InstanceState, JournalReader, LockError, NewTarget, RunLock, RunRow, RunState};
use crate::report::sanitize::shell_word;
use crate::report::words::{self, short};
use crate::repository::{Repository, RepositoryError, Swap};
use crate::run::RunError;
use crate::settings::{IntoBranch, Settings};

/// Why a branch cannot be the target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is checked out somewhere, and its checkout would no longer fit.
    #[error("branch `{branch}` is checked out at {}; to move it would leave the files there behind, and they would look like edits that take the work back", at.display())]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        at: std::path::PathBuf,
    },
    /// It went another way than the base.
    #[error("branch `{branch}` exists and has gone another way than the base commit")]
    Diverged {
        /// The branch.
        branch: String,
        /// How it is put aside.
        aside: Aside,
    },
    /// Something of the run had landed on it, and it is gone.
    #[error("branch `{branch}` was removed after results of this run had landed on it, the last as {}", short(tip))]
    Removed {
        /// The branch.
        branch: String,
        /// Full hex id of the last of their commits.
        tip: String,
        /// What keeps it from being made again.
        in_the_way: Vec<Aside>,
    },
    /// Something of the run had landed on it, and it was moved to where that is not.
    #[error("branch `{branch}` no longer holds what this run has landed on it, the last as {}", short(tip))]
    LostLanded {
        /// The branch.
        branch: String,
        /// Full hex id of the last of the run's commits on it.
        tip: String,
    },
    /// It is another name for a ref; git itself would move that one.
    #[error("branch `{branch}` is another name for `{stands_for}` (a symbolic ref)")]
    Symbolic {
        /// The branch.
        branch: String,
        /// The branch, or the full name of the ref, that it stands for.
        stands_for: String,
        /// Full hex id of the last of a run's commits on it, where that ref does not hold it.
        lost: Option<String>,
    },
    /// Git keeps branches as files: none can be where another one needs a folder.
    #[error("branch `{branch}` cannot be made: branch `{}` is in its way", in_the_way.first().map_or("", |first| &first.branch))]
    InTheWay {
        /// The branch.
        branch: String,
        /// Those that are there; at least one.
        in_the_way: Vec<Aside>,
    },
    /// Not a name for a branch.
    #[error("`{branch}` cannot be a branch: {reason}")]
    Name {
        /// As given.
        branch: String,
        /// The rule.
        reason: &'static str,
    },
}

/// How a branch leaves its name to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The branch.
    pub branch: String,
    /// The name that it gets, which git takes; `None` where it is only another name for one, which git does not rename.
    pub to: Option<String>,
}

impl Aside {
    /// The command.
    pub fn command(&self) -> String {
        match &self.to {
            Some(to) => format!("git branch -m {} {}", shell_word(&self.branch), shell_word(to)),
            None => format!("git symbolic-ref --delete {}", shell_word(&format!("refs/heads/{}", self.branch))),
        }
    }
}

impl TargetError {
    /// The commands that give the branch back what the run has landed on it, and lose nothing of what anybody else did there;
    /// `None` where nothing of a run is gone.
    pub fn way_back(&self) -> Option<String> {
        match self {
            TargetError::Removed { branch, tip, in_the_way } => {
                let asides = in_the_way.iter().map(Aside::command);
                let all: Vec<String> = asides.chain([format!("git branch {} {tip}", shell_word(branch))]).collect();
                Some(all.join(" && "))
            }
            TargetError::LostLanded { branch, tip } => {
                let (name, aside) = (shell_word(branch), shell_word(&format!("{branch}-mine")));
                Some(format!("git branch -m {name} {aside} && git branch {name} {tip}"))
            }
            // Git refuses to rename one: first it has to be none any more.
            TargetError::Symbolic { branch, lost: Some(tip), .. } => {
                let alias = Aside { branch: branch.clone(), to: None };
                Some(format!("{} && git branch {} {tip}", alias.command(), shell_word(branch)))
            }
            _ => None,
        }
    }

    /// What lets a run that is to go on have its branch again, which can be no other; `None` where it lost something.
    pub fn freed(&self) -> Option<String> {
        let again = "then type it again";
        match self {
            TargetError::CheckedOut { at, .. } => {
                let at = shell_word(&at.to_string_lossy());
                Some(format!("git -C {at} switch --detach frees it, and leaves the files there as they are; {again}"))
            }
            TargetError::Diverged { aside, .. } => Some(format!("put that one aside: {}; {again}", aside.command())),
            TargetError::InTheWay { in_the_way, .. } => Some(format!("{}; {again}", out_of_the_way(in_the_way))),
            TargetError::Symbolic { branch, lost: None, .. } => {
                let alias = Aside { branch: branch.clone(), to: None };
                Some(format!("{} takes that name from it; {again}", alias.command()))
            }
            TargetError::Symbolic { .. }
            | TargetError::Name { .. }
            | TargetError::Removed { .. }
            | TargetError::LostLanded { .. } => None,
        }
    }

    /// Full hex id of the last of the run's commits that the branch lost; `None` where nothing of a run is gone.
    pub fn lost(&self) -> Option<String> {
        match self {
            TargetError::Removed { tip, .. } | TargetError::LostLanded { tip, .. } => Some(tip.clone()),
            TargetError::Symbolic { lost, .. } => lost.clone(),
            _ => None,
        }
    }
}

/// The commands that take branches out of the way of another, with what they do.
pub fn out_of_the_way(in_the_way: &[Aside]) -> String {
    let commands: Vec<String> = in_the_way.iter().map(Aside::command).collect();
    let commands = commands.join(" && ");
    match in_the_way {
        [Aside { to: None, .. }] => format!("it only stands for another one, which stays: {commands}"),
        [_] => format!("put that one aside: {commands}"),
        _ => format!("put those aside: {commands}"),
    }
}

/// The first of `WANTED`, `WANTED-2`, … that git takes as the name of one more branch: it is none of `known`, all full names, and
/// neither a folder of one nor below one.
fn free_name(wanted: &str, known: &[String]) -> String {
    let is_free = |name: &String| {
        let full = format!("refs/heads/{name}");
        let below = |name: &str, above: &str| name.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
        !known.iter().any(|other| *other == full || below(other, &full) || below(&full, other))
    };
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    [wanted.to_owned()].into_iter().chain(numbered).find(is_free).expect("there are more numbers than branches")
}

/// The name that a branch gets which is in the way of the one of the name `target`, which may be itself.
fn aside_name(branch: &str, target: &str, known: &[String]) -> String {
    match branch.strip_prefix(target).and_then(|rest| rest.strip_prefix('/')) {
        // Below it any name is still in its way.
        Some(rest) => format!("{}/{rest}", free_name(&format!("{target}-old"), known)),
        None => free_name(&format!("{branch}-old"), known),
    }
}

/// The full names of all branches.
fn in_use(repository: &Repository) -> Result<Vec<String>, RepositoryError> {
    let git = repository.handle()?;
    let mut all = git.references_glob("refs/heads/*")?;
    Ok(all.names().map(|name| name.map(str::to_owned)).collect::<Result<_, _>>()?)
}

/// How those branches leave the name `target`, a branch's, to it.
fn asides(repository: &Repository, target: &str, branches: &[String]) -> Result<Vec<Aside>, RepositoryError> {
    let known = in_use(repository)?;
    let aside = |name: &String| {
        let branch = branch_of(name).to_owned();
        let to = repository.stands_for(name)?.is_none().then(|| aside_name(&branch, target, &known));
        Ok(Aside { branch, to })
    };
    branches.iter().map(aside).collect()
}

/// That something of a run had landed on a branch, given by its full name, which is gone.
///
/// # Errors
/// The repository cannot be read.
pub fn removed(repository: &Repository, name: &str, tip: String) -> Result<TargetError, RepositoryError> {
    let branch = branch_of(name).to_owned();
    let in_the_way = asides(repository, &branch, &in_the_way_of(repository, name)?)?;
    Ok(TargetError::Removed { branch, tip, in_the_way })
}

/// The target that a plan and its caller ask for, when it may be used; `None` in mode `none`.
///
/// # Errors
/// [`RunError::Target`]: the branch may not be moved. [`RunError::Render`] and [`RunError::Repository`].
pub fn choose(
    repository: &Repository,
    plan: &Plan,
    settings: &Settings,
    base: Oid,
) -> Result<Option<NewTarget>, RunError> {
    let facts = RunFacts {
        name: plan.name.clone(),
        base: base.to_string(),
        env: settings.word(repository.place()).readable(&settings.host.env),
        ..RunFacts::default()
    };
    let Some(planned) = plan.target(&facts.context(&serde_json::Value::Null, &facts.lookup()))? else {
        return Ok(None);
    };
    let branch = match &settings.into {
        IntoBranch::Planned => planned,
        IntoBranch::Branch(branch) => branch.clone(),
        IntoBranch::OfRun => return of_run(repository).map(Some),
    };
    if let Err(reason) = swarm_plans::branch_name(&branch) {
        return Err(TargetError::Name { branch, reason }.into());
    }
    let name = format!("refs/heads/{branch}");
    may_move(repository, &name, base)?;
    Ok(Some(NewTarget::Ref(name)))
}

/// A branch of the run's own, where one can be.
fn of_run(repository: &Repository) -> Result<NewTarget, RunError> {
    let branch = "swarm/RUN".to_owned();
    match above(repository, &format!("refs/heads/{branch}"))? {
        Some(above) => {
            let in_the_way = asides(repository, &branch, &[above])?;
            Err(TargetError::InTheWay { branch, in_the_way }.into())
        }
        None => Ok(NewTarget::OfRun),
    }
}

/// Whether no branch of that full ref name is there, and none keeps it from being made.
///
/// # Errors
/// The repository cannot be read.
pub fn is_free(repository: &Repository, name: &str) -> Result<bool, RepositoryError> {
    let is_there = repository.find_ref(name)?.is_some() || repository.stands_for(name)?.is_some();
    Ok(!is_there && in_the_way_of(repository, name)?.is_empty())
}

/// Whether the branch of that full ref name is at a commit, or has it in its history.
///
/// # Errors
/// The repository cannot be read.
pub fn holds(repository: &Repository, name: &str, commit: Oid) -> Result<bool, RepositoryError> {
    let Some(tip) = repository.find_ref(name)? else { return Ok(false) };
    Ok(repository.has_commit(commit)? && (tip == commit || repository.handle()?.graph_descendant_of(tip, commit)?))
}

/// Whether the branch of a run that did not come to its end holds what it had announced: the branch moves before any change is said to
/// have landed.
///
/// # Errors
/// The repository cannot be read.
pub fn holds_announced(repository: &Repository, state: &RunState) -> Result<bool, RepositoryError> {
    match (&state.target, &state.tip, &state.finished) {
        (Some(name), Some(to), None) => holds(repository, name, Oid::from_str(to)?),
        _ => Ok(false),
    }
}

/// What is wrong when the branch of that full ref name does not hold `landed`, the last commit that a run has landed on it.
///
/// # Errors
/// The repository cannot be read.
pub fn lost_landed(repository: &Repository, name: &str, landed: Oid) -> Result<Option<TargetError>, RepositoryError> {
    let (branch, tip) = (branch_of(name).to_owned(), landed.to_string());
    let found = repository.find_ref(name)?;
    if let Some(found) = found
        && (found == landed || repository.handle()?.graph_descendant_of(found, landed)?)
    {
        return Ok(None);
    }
    if let Some(stands_for) = repository.stands_for(name)? {
        let stands_for = branch_of(&stands_for).to_owned();
        return Ok(Some(TargetError::Symbolic { branch, stands_for, lost: Some(tip) }));
    }
    Ok(Some(match found {
        Some(_) => TargetError::LostLanded { branch, tip },
        None => removed(repository, name, tip)?,
    }))
}

/// The same of the newest that a run has landed.
///
/// # Errors
/// The repository cannot be read.
pub fn lost_newest(repository: &Repository, state: &RunState) -> Result<Option<TargetError>, RepositoryError> {
    let Some((name, landed)) = newest_landed(state)? else { return Ok(None) };
    lost_landed(repository, name, landed)
}

/// The same where a branch that is there may lack what the checkout holds.
///
/// # Errors
/// The repository cannot be read.
pub fn lost_from_both(repository: &Repository, state: &RunState) -> Result<Option<TargetError>, RepositoryError> {
    let Some((name, landed)) = newest_landed(state)? else { return Ok(None) };
    let lost = lost_landed(repository, name, landed)?;
    let head = repository.resolve("HEAD")?;
    let git = repository.handle()?;
    // Git may have collected it since.
    let is_there = git.odb()?.exists(landed);
    let has_it = head == landed || is_there && git.graph_descendant_of(head, landed)?;
    Ok(lost.filter(|lost| !has_it || matches!(lost, TargetError::Removed { .. })))
}

/// Removes the branch of a run if it is where the run's newest landing left it: what somebody else made, before or since, stays.
///
/// # Errors
/// As of [`Repository::compare_and_delete`].
pub fn forget(repository: &Repository, state: &RunState) -> Result<Swap, RepositoryError> {
    match newest_landed(state)? {
        Some((name, landed)) => repository.compare_and_delete(name, landed),
        None => Ok(Swap::Done),
    }
}

/// The branch of a run by its full ref name, and the newest commit that landed on it; `None` where none did.
fn newest_landed(state: &RunState) -> Result<Option<(&String, Oid)>, RepositoryError> {
    let newest = state.instances.values().filter_map(InstanceState::landed).max();
    let (Some(name), Some((_, landed))) = (&state.target, newest) else { return Ok(None) };
    Ok(Some((name, Oid::from_str(landed)?)))
}

/// What a person should know of a target that holds what the base has not: whatever contradicts it is parked, and nothing else says
/// where it comes from. `None` where it holds no more than the base.
///
/// # Errors
/// The repository or the journal cannot be read.
pub fn ahead_note(
    repository: &Repository,
    journal: &JournalReader,
    (run, name): (&RunId, &str),
    base: Oid,
) -> Result<Option<String>, RunError> {
    let Some(tip) = repository.find_ref(name)? else { return Ok(None) };
    let (ahead, _) = repository.handle()?.graph_ahead_behind(tip, base).map_err(RepositoryError::from)?;
    if ahead == 0 {
        return Ok(None);
    }
    let is_earlier = |row: &&RunRow| row.id != *run && row.target.as_deref() == Some(name) && row.tally.landed > 0;
    let runs = journal.runs()?;
    let (of, apply) = match runs.iter().find(is_earlier) {
        Some(row) => (format!(", {} was the last run that landed there", row.id), format!("`swarm apply {}`", row.id)),
        None => (String::new(), format!("`git merge {}`", shell_word(branch_of(name)))),
    };
    let commits = words::count(ahead as u64, "commit");
    Ok(Some(format!(
        "{} holds {commits} that the base has not{of}: what contradicts that is parked ({apply} first to build on it, `--into` \
         another branch to keep clear of it)",
        branch_of(name)
    )))
}

/// Takes the lock of a target for a run of that state folder. What a coordinator that died while it moved the target left of a lock on the ref is removed.
///
/// # Errors
/// Those of [`RunLock::of_target`].
pub fn lock(repository: &Repository, state: &Path, target: &str, now_ms: u64) -> Result<Arc<RunLock>, LockError> {
    let lock = RunLock::of_target(repository.common_dir(), target, now_ms).map_err(|error| error.seen_from(state))?;
    if lock.was_moving() {
        repository.sweep_refs(target);
        lock.set_moving(false)?;
    }
    Ok(Arc::new(lock))
}

/// Whether a run from `base` may move the branch of that full ref name.
///
/// # Errors
/// [`RunError::Target`] when it may not, and [`RunError::Repository`].
pub fn may_move(repository: &Repository, name: &str, base: Oid) -> Result<(), RunError> {
    let branch = branch_of(name).to_owned();
    if let Some(stands_for) = repository.stands_for(name)? {
        let stands_for = branch_of(&stands_for).to_owned();
        return Err(TargetError::Symbolic { branch, stands_for, lost: None }.into());
    }
    if let Some(at) = repository.checked_out_at(name)? {
        return Err(TargetError::CheckedOut { branch, at }.into());
    }
    let in_the_way = in_the_way_of(repository, name)?;
    if !in_the_way.is_empty() {
        let in_the_way = asides(repository, &branch, &in_the_way)?;
        return Err(TargetError::InTheWay { branch, in_the_way }.into());
    }
    if let Some(tip) = repository.find_ref(name)? {
        let git = repository.handle()?;
        let holds = |a: Oid, b: Oid| Ok::<bool, git2::Error>(a == b || git.graph_descendant_of(a, b)?);
        let related = holds(tip, base).and_then(|held| Ok(held || holds(base, tip)?));
        if !related.map_err(RepositoryError::from)? {
            let to = aside_name(&branch, &branch, &in_use(repository)?);
            return Err(TargetError::Diverged { aside: Aside { branch: branch.clone(), to: Some(to) }, branch }.into());
        }
    }
    Ok(())
}

/// The refs that keep another one of that full name from being made: one above it, or those below.
fn in_the_way_of(repository: &Repository, name: &str) -> Result<Vec<String>, RepositoryError> {
    if let Some(above) = above(repository, name)? {
        return Ok(vec![above]);
    }
    let git = repository.handle()?;
    let mut below = git.references_glob(&format!("{name}/*"))?;
    Ok(below.names().map(|name| name.map(str::to_owned)).collect::<Result<_, _>>()?)
}

/// The ref above one of that full name, where git needs a folder.
fn above(repository: &Repository, name: &str) -> Result<Option<String>, RepositoryError> {
    let above = name.match_indices('/').map(|(at, _)| &name[..at]).filter(|above| above.starts_with("refs/heads/"));
    for above in above {
        if repository.find_ref(above)?.is_some() || repository.stands_for(above)?.is_some() {
            return Ok(Some(above.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;

    #[test]
    fn of_a_run_that_landed_nothing_no_branch_is_forgotten() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let head = repository.resolve("HEAD").expect("a commit");
        let name = "refs/heads/swarm/exec-1";
        repository.compare_and_swap(name, None, head, "somebody's").expect("made");
        let mut state = RunState::default();
        state.target = Some(name.to_owned());
        assert_eq!(forget(&repository, &state).expect("nothing to do"), Swap::Done);
        assert_eq!(repository.find_ref(name).expect("read"), Some(head));
    }

    #[test]
    fn what_is_in_the_way_gets_a_name_that_is_not() {
        let check = |branch: &str, target: &str, known: &[&str], expected: &str| {
            let known: Vec<String> = known.iter().map(|name| format!("refs/heads/{name}")).collect();
            assert_eq!(aside_name(branch, target, &known), expected, "{branch} for {target} among {known:?}");
        };
        check("s/p", "s/p", &["s/p"], "s/p-old");
        check("s/p", "s/p", &["s/p", "s/p-old", "s/p-old-2/x"], "s/p-old-3");
        check("s/p", "s/p/q", &["s/p"], "s/p-old");
        check("s/p/q", "s/p", &["s/p/q"], "s/p-old/q");
        check("s/p/q/r", "s/p", &["s/p/q/r", "s/p-old"], "s/p-old-2/q/r");
        check("s/p/q", "s/p", &["s/p/q", "s/p-old/q"], "s/p-old-2/q");
        check("s/pq", "s/p", &["s/pq"], "s/pq-old");
    }

    #[test]
    fn what_is_put_back_finds_its_place_free() {
        let aside = Aside { branch: "s/p/q".to_owned(), to: Some("s/p-old/q".to_owned()) };
        let removed = |in_the_way| TargetError::Removed { branch: "s/p".to_owned(), tip: "abc".to_owned(), in_the_way };
        assert_eq!(removed(vec![]).way_back().as_deref(), Some("git branch s/p abc"));
        let both = "git branch -m s/p/q s/p-old/q && git branch s/p abc";
        assert_eq!(removed(vec![aside]).way_back().as_deref(), Some(both));
    }
}
