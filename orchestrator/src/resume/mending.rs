//! What a power cut, or somebody's `git gc --prune=now`, left of a run's refs and of the repository's objects, before the run goes
//! on: refs that hold nothing are none, and are made again where the journal knows what they kept; files of the object store that
//! hold nothing go, since git would never write over one; and refs of which something is gone go, since every `git gc` fails on one.
//! What was lost by it is for [`super::losses`].

use std::collections::HashMap;

use git2::Oid;

use crate::commit;
use crate::event::{ChangeSummary, Recorded, RunEvent};
use crate::hollow;
use crate::ids::RunId;
use crate::journal::JournalReader;
use crate::report::words;
use crate::repository::{Repository, RepositoryError};
use crate::reused;
use crate::run::{RunError, Stage};

/// What was found.
#[derive(Debug, Default)]
pub struct Mended {
    /// Full names of refs of the run that held nothing.
    refs: Vec<String>,
    /// Files of the object store that held nothing.
    objects: usize,
}

impl Mended {
    /// Removes the objects that hold nothing.
    pub(super) fn of(repository: &Repository) -> Result<Mended, RepositoryError> {
        Ok(Mended { refs: Vec::new(), objects: repository.remove_void_objects()? })
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
        !self.refs.is_empty() || self.objects > 0
    }

    /// What a person should know.
    fn note(&self) -> Option<String> {
        let refs = (!self.refs.is_empty()).then(|| {
            let refs = words::count(self.refs.len() as u64, "ref");
            format!("{refs} of the run, made again where the journal knows of a result that is there")
        });
        let objects = (self.objects > 0).then(|| {
            format!(
                "{} of the repository, removed since git never writes over one",
                words::count(self.objects as u64, "object file")
            )
        });
        let found: Vec<String> = refs.into_iter().chain(objects).collect();
        self.is_any().then(|| format!("a power cut seems to have left empty: {}", found.join("; ")))
    }
}

impl Stage<'_> {
    /// Whether objects may be gone that are still named: what was empty, or somebody packed since the run began.
    pub(super) fn may_lack_objects(&self, mended: &Mended, notes: &mut Vec<String>) -> bool {
        notes.extend(mended.note());
        mended.is_any() || hollow::is_packed_since(&self.repository, self.started_ms)
    }

    /// Whether a change is there with all that it brings.
    pub(super) fn is_all_there(&self, change: &ChangeSummary) -> Result<bool, RepositoryError> {
        for commit in [Some(&change.commit), change.history.as_ref()].into_iter().flatten() {
            if self.repository.first_missing(Oid::from_str(commit)?, &[self.base])?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the refs of the run of which something is in no store. What cannot be read stays: nobody knows that it is gone.
    pub(super) fn remove_hollow(&self, notes: &mut Vec<String>) -> Result<(), RepositoryError> {
        let run = self.journal.run();
        let (base, reused) = (commit::base_ref(run), reused::reused_refs(run));
        let mut removed = Vec::new();
        for (name, commit) in self.repository.refs_below(&commit::run_refs(run))? {
            // Those that keep results of other runs together stand on other commits than this run does.
            let stands_on_base = name != base && !name.starts_with(&reused);
            if stands_on_base && matches!(self.repository.first_missing(commit, &[self.base]), Ok(Some(_))) {
                self.repository.delete_ref(&name)?;
                removed.push(name);
            }
        }
        if let Some(first) = removed.first() {
            let all = words::count(removed.len() as u64, "ref");
            notes.push(format!(
                "{all} of the run went of which something was gone, {first} among them: git gc fails on one"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_empty_is_said_and_nothing_else_is() {
        assert_eq!(Mended::default().note(), None);
        let said = Mended { refs: vec!["refs/swarm/p-1/+base".to_owned()], objects: 2 }.note().expect("a note");
        assert!(said.contains("1 ref of the run") && said.contains("2 object files"), "{said}");
    }
}
