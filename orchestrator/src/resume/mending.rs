//! What a power cut, or somebody's `git gc --prune=now`, left of a run's refs and of the repository's objects, before the run goes
//! on: refs that hold nothing are none, and are made again where the journal knows what they kept; files of the object store that
//! are not what their names say go, since git would never write over one; and refs whose commit is gone go, as [`crate::hollow`] says.
//! What was lost by it is for [`super::losses`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use git2::Oid;

use crate::commit;
use crate::event::{ChangeSummary, Recorded, RunEvent};
use crate::hollow::{self, Unreadable};
use crate::ids::RunId;
use crate::journal::{JournalReader, RunRow};
use crate::report::sanitize::shell_word;
use crate::report::words;
use crate::repository::{Inspection, Repository, RepositoryError};
use crate::reused;
use crate::run::{RunError, Stage};
use crate::state::StateDir;

/// What was found.
#[derive(Debug, Default)]
pub struct Mended {
    /// Full names of refs of the run that held nothing.
    refs: Vec<String>,
    /// Files of the object store that were not what their names say.
    objects: usize,
    /// Whether some were found since the run began, by this command or another one.
    were_found: bool,
}

impl Mended {
    /// Removes the objects that hold nothing, or something else than their names say, of all that were written since the run began.
    pub(super) fn of(repository: &Repository, state: &StateDir, row: &RunRow) -> Result<Mended, RepositoryError> {
        let objects = repository.remove_damaged_since(row.started_at_ms)?;
        let were_found = repository.lost_objects_since(state.root(), row.started_at_ms)?;
        Ok(Mended { refs: Vec::new(), objects, were_found })
    }

    /// Makes those of the run's `refs` again, which held nothing and are gone, that kept results which are all there.
    pub(super) fn make_again(
        &mut self,
        repository: &Repository,
        refs: Vec<String>,
        reader: JournalReader,
        (run, base): (&RunId, Oid),
    ) -> Result<(), RunError> {
        self.refs = refs;
        if self.refs.is_empty() {
            return Ok(());
        }
        let mut known: HashMap<String, String> = HashMap::new();
        reader.tell_ahead(run, |Recorded { event, .. }| {
            if let RunEvent::AttemptFinished { instance, attempt, change: Some(change), .. } = event {
                let history = change.history.map(|newest| (commit::history_ref(run, &instance, attempt), newest));
                known
                    .extend(history.into_iter().chain([(commit::attempt_ref(run, &instance, attempt), change.commit)]));
            }
        })?;
        for name in &self.refs {
            let Some(commit) = known.get(name).and_then(|commit| Oid::from_str(commit).ok()) else { continue };
            if commit != base && repository.first_missing(commit, &[base])?.is_none() {
                commit::keep_new(repository, name, commit, &[base])?;
            }
        }
        Ok(())
    }

    fn is_any(&self) -> bool {
        !self.refs.is_empty() || self.objects > 0 || self.were_found
    }

    /// What a person should know.
    pub(super) fn note(&self) -> Option<String> {
        let refs = (!self.refs.is_empty()).then(|| {
            let refs = words::count(self.refs.len() as u64, "ref");
            format!("{refs} of the run, made again where the journal knows of a result that is there")
        });
        let objects = (self.objects > 0).then(|| {
            format!(
                "{} of the repository, which went since git never writes over one",
                words::count(self.objects as u64, "object file")
            )
        });
        let found: Vec<String> = refs.into_iter().chain(objects).collect();
        let text = format!("a power cut seems to have left empty or cut short: {}", found.join("; "));
        (!found.is_empty()).then_some(text)
    }
}

/// What the refs of a run keep, where some of it may be gone.
#[derive(Debug, Default)]
pub(super) struct LookedThrough {
    /// Commits of which all is there that they bring.
    whole: HashSet<Oid>,
    /// Refs whose commit is in no store, with it.
    gone: Vec<(String, Oid)>,
    /// Refs whose commit is there, with an object of it that is in no store.
    lacking: Vec<(String, Oid)>,
}

impl LookedThrough {
    fn of(repository: &Repository, run: &RunId, base: Oid) -> Result<LookedThrough, RepositoryError> {
        let refs = commit::run_refs(run);
        let Unreadable { gone, .. } = hollow::unreadable(repository, &refs)?;
        let mut looked = LookedThrough { gone, ..LookedThrough::default() };
        // By these a run finds its way: none keeps what an attempt made, and each goes by itself.
        let ways = [commit::base_ref(run), commit::folded_ref(run), commit::start_refs(run), reused::reused_refs(run)];
        let git = repository.fresh()?;
        let mut inspection = Inspection::by(repository, &git);
        for (name, commit) in repository.refs_below(&refs)? {
            if ways.iter().any(|way| name.starts_with(way)) || looked.gone.iter().any(|(gone, _)| *gone == name) {
                continue;
            }
            // Of what cannot be read nobody knows that it is gone: whoever needs it says so.
            match inspection.first_missing(commit, &[base]) {
                Ok(None) => drop(looked.whole.insert(commit)),
                Ok(Some(missing)) => looked.lacking.push((name, missing)),
                Err(_) => {}
            }
        }
        Ok(looked)
    }

    /// What a person should know, by name: what is gone for good, and what is left of what is not.
    fn notes(&self) -> impl Iterator<Item = String> {
        let gone = self.gone.iter().map(|(name, commit)| {
            format!("the ref {name} went: its commit {commit} is in no store of the repository, and git gc fails on such a ref")
        });
        let lacking = self.lacking.iter().map(|(name, missing)| {
            let word = shell_word(name);
            format!(
                "the ref {name} keeps a result of which {missing} is in no store of the repository: the rest of it is there, and \
                 git gc fails until you give it up (git update-ref -d {word}) or that object comes back"
            )
        });
        gone.chain(lacking)
    }
}

impl Stage<'_> {
    /// What its refs keep, where objects may be gone that are still named: some were empty, or somebody packed since the run began. The
    /// thread that decides does not look through them.
    pub(super) async fn look_through(&self, mended: &Mended) -> Result<Option<LookedThrough>, RunError> {
        if !mended.is_any() && !hollow::is_packed_since(&self.repository, self.started_ms) {
            return Ok(None);
        }
        let (repository, run, base) = (Arc::clone(&self.repository), self.journal.run().clone(), self.base);
        let looked = tokio::task::spawn_blocking(move || LookedThrough::of(&repository, &run, base)).await;
        let looked =
            looked.map_err(|error| RunError::Io { path: self.repository.common_dir().into(), source: error.into() })?;
        Ok(Some(looked?))
    }

    /// Whether a change is there with all that it brings.
    pub(super) fn is_all_there(&self, change: &ChangeSummary, looked: &LookedThrough) -> Result<bool, RepositoryError> {
        for commit in [Some(&change.commit), change.history.as_ref()].into_iter().flatten() {
            let commit = Oid::from_str(commit)?;
            if !looked.whole.contains(&commit) && self.repository.first_missing(commit, &[self.base])?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the refs of the run that keep nothing any more, and says so of each. What keeps a part of a result stays, as what cannot
    /// be read does: nobody gave it up.
    pub(super) fn remove_hollow(&self, looked: &LookedThrough, notes: &mut Vec<String>) -> Result<(), RepositoryError> {
        for (name, _) in &looked.gone {
            self.repository.delete_ref(name)?;
        }
        notes.extend(looked.notes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_empty_is_said_and_nothing_else_is() {
        assert_eq!(Mended::default().note(), None);
        let said = Mended { refs: vec!["refs/swarm/p-1/+base".to_owned()], objects: 2, were_found: false }
            .note()
            .expect("a note");
        assert!(said.contains("1 ref of the run") && said.contains("2 object files"), "{said}");
    }

    #[test]
    fn every_ref_that_lacks_something_is_named_and_only_what_keeps_nothing_went() {
        let oid = |byte| Oid::from_bytes(&[byte; 20]).expect("an id");
        let looked = LookedThrough {
            whole: HashSet::from([oid(1)]),
            gone: vec![("refs/swarm/p-1/a/1".to_owned(), oid(2))],
            lacking: vec![("refs/swarm/p-1/b/1".to_owned(), oid(3)), ("refs/swarm/p-1/c/1".to_owned(), oid(4))],
        };
        let said: Vec<String> = looked.notes().collect();
        assert_eq!(said.len(), 3);
        assert!(said[0].contains("refs/swarm/p-1/a/1 went") && said[0].contains(&"02".repeat(20)), "{said:?}");
        for (said, (name, missing)) in said[1..].iter().zip(&looked.lacking) {
            assert!(
                said.contains(&format!("git update-ref -d {name}")) && said.contains(&missing.to_string()),
                "{said}"
            );
        }
    }
}
