//! Whether a commit is there with all that it brings: this is what "whole" means wherever it is asked. Each object is looked for, and read
//! where it is a file of its own. Many results stand on the same and share most of it: what one of them showed to be there, or to lack
//! something, is not looked for again.

use std::collections::{HashMap, HashSet};

use git2::{ErrorCode, Odb, Oid};

use super::{Brought, Repository, RepositoryError};
use crate::tree::{self, TreeError};

/// Says of an object whether to go on, before it is read.
type Visit<'v> = dyn FnMut(Oid) -> Result<bool, TreeError> + 'v;

/// Commits that are looked at together.
pub(crate) struct Inspection<'a> {
    repository: &'a Repository,
    git: &'a git2::Repository,
    /// Objects that are there.
    seen: HashSet<Oid>,
    /// Back to what commits were looked at last.
    before: Vec<Oid>,
    /// What each commit lacks of what it and those behind it bring, back to there.
    known: HashMap<Oid, Option<Oid>>,
    /// Whether damaged files were looked for: where one is, there are more.
    is_swept: bool,
}

impl<'a> Inspection<'a> {
    /// One by a handle that knows what was packed meanwhile, or looks for it.
    pub(crate) fn by(repository: &'a Repository, git: &'a git2::Repository) -> Self {
        let (seen, before, known) = (HashSet::new(), Vec::new(), HashMap::new());
        Inspection { repository, git, seen, before, known, is_swept: false }
    }

    /// The first object that is in no store of those that a commit and those behind it bring, back to one of `before`. Where one is not
    /// there, all damaged files of the store get out of the way: what is made anew instead may have to write any of them.
    ///
    /// # Errors
    /// [`RepositoryError`] when something cannot be read, which says nothing about what is there.
    pub(crate) fn first_missing(&mut self, commit: Oid, before: &[Oid]) -> Result<Option<Oid>, RepositoryError> {
        self.swept(|inspection| inspection.lacking(commit, before))
    }

    /// The same of a result, with the worker's own commits where there are some, and of the commit that it stands on.
    ///
    /// # Errors
    /// As of [`Inspection::first_missing`].
    pub(crate) fn first_missing_of(
        &mut self,
        result: Oid,
        history: Option<Oid>,
    ) -> Result<Option<Oid>, RepositoryError> {
        self.swept(|inspection| inspection.lacking_of(result, history))
    }

    /// What it lacks, or brings, as far as it was looked at.
    pub(super) fn brought(self, lacking: Option<Oid>) -> Brought {
        lacking.map_or_else(|| Brought::All(self.seen.into_iter().collect()), Brought::Missing)
    }

    fn swept(
        &mut self,
        look: impl Fn(&mut Self) -> Result<Option<Oid>, RepositoryError>,
    ) -> Result<Option<Oid>, RepositoryError> {
        let found = match look(self) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) | Err(_) if !self.is_swept => {
                self.is_swept = true;
                self.repository.remove_damaged()?;
                self.known.clear();
                look(self)
            }
            again => again,
        };
        match found? {
            Some(missing) => self.repository.lies_nowhere(missing).map(|()| Some(missing)),
            None => Ok(None),
        }
    }

    fn lacking_of(&mut self, result: Oid, history: Option<Oid>) -> Result<Option<Oid>, RepositoryError> {
        if let Some(missing) = self.lacking_among(&[result])? {
            return Ok(Some(missing));
        }
        let start = self.git.find_commit(result)?.parent_ids().next();
        if let Some(start) = start {
            let missing = match self.lacking_among(&[start])? {
                None => self.lacking_among(&[self.git.find_commit(start)?.tree_id()])?,
                missing => missing,
            };
            if missing.is_some() {
                return Ok(missing);
            }
        }
        for newest in [Some(result), history].into_iter().flatten() {
            if let Some(missing) = self.lacking(newest, start.as_slice())? {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }

    /// What is missing of what a commit and those behind it bring, back to one of `before`.
    pub(super) fn lacking(&mut self, commit: Oid, before: &[Oid]) -> Result<Option<Oid>, RepositoryError> {
        if self.before != before {
            (self.before, self.known) = (before.to_vec(), HashMap::new());
        }
        let (git, mut passed, mut at) = (self.git, Vec::new(), Some(commit));
        let lacking = loop {
            let Some(commit) = at.filter(|commit| !before.contains(commit)) else { break None };
            if let Some(known) = self.known.get(&commit) {
                break *known;
            }
            passed.push(commit);
            if let Some(missing) = self.lacking_among(&[commit])? {
                break Some(missing);
            }
            let found = git.find_commit(commit)?;
            at = found.parent_ids().next();
            let before_it = at.map(|parent| git.find_commit(parent).map(|parent| parent.tree_id())).transpose();
            // The same as against a parent that is gone.
            let before_it = match before_it {
                Err(error) if error.code() == ErrorCode::NotFound => None,
                known => known?,
            };
            if let Some(missing) = self.lacking_in_tree(before_it, found.tree_id())? {
                break Some(missing);
            }
        };
        self.known.extend(passed.into_iter().map(|commit| (commit, lacking)));
        Ok(lacking)
    }

    /// What is missing of what a tree has and another one has not.
    pub(super) fn lacking_in_tree(&mut self, before: Option<Oid>, tree: Oid) -> Result<Option<Oid>, RepositoryError> {
        let odb = self.git.odb()?;
        self.walked(|visit| each_in_tree(&odb, before, tree, visit, tree::DEPTH_MAX))
    }

    /// The first of these objects that is not there.
    fn lacking_among(&mut self, objects: &[Oid]) -> Result<Option<Oid>, RepositoryError> {
        self.walked(|visit| objects.iter().try_fold(true, |goes_on, id| Ok(goes_on && visit(*id)?)))
    }

    /// The first object that is not there of those that a walk visits.
    fn walked(
        &mut self,
        walk: impl FnOnce(&mut Visit<'_>) -> Result<bool, TreeError>,
    ) -> Result<Option<Oid>, RepositoryError> {
        let Inspection { repository, git, seen, .. } = self;
        let mut lacking = None;
        let walked = walk(&mut |id| {
            if !seen.contains(&id) {
                if !repository.is_held(git, id)? {
                    lacking = Some(id);
                    return Ok(false);
                }
                seen.insert(id);
            }
            Ok(true)
        });
        match (walked, lacking) {
            (_, Some(missing)) => Ok(Some(missing)),
            (Err(error), None) => Err(repository.why_not_walked(error)),
            (Ok(_), None) => Ok(None),
        }
    }
}

/// Visits the objects that a tree has and another one has not, each before it is read, until `visit` says that it is enough; says whether
/// to go on.
fn each_in_tree(
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Oid,
    visit: &mut Visit<'_>,
    room: usize,
) -> Result<bool, TreeError> {
    if old == Some(new) {
        return Ok(true);
    }
    if !visit(new)? {
        return Ok(false);
    }
    let room = room.checked_sub(1).ok_or(TreeError::TooDeep)?;
    // As against one that is gone it brings all that it has.
    let before = match old.map(|old| tree::list(odb, old)).transpose() {
        Err(TreeError::Store(error)) if error.code() == ErrorCode::NotFound => None,
        known => known?,
    };
    let (before, after) = (before.unwrap_or_default(), tree::list(odb, new)?);
    for [old, new] in tree::changes(&before, &after).into_values() {
        let Some(new) = new.filter(|new| new.mode != tree::GITLINK) else { continue };
        let old = old.filter(|old| old.is_tree()).map(|old| old.id);
        let goes_on = match new.is_tree() {
            true => each_in_tree(odb, old, new.id, visit, room)?,
            false => visit(new.id)?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};

    /// A repository whose commits stand on one another, the newest first, and the object of a file that each of them brings.
    fn stacked(count: usize) -> (Fixture, Vec<Oid>, Vec<Oid>) {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let mut commits = vec![fixture.repository().resolve("HEAD").expect("a commit")];
        let mut files = Vec::new();
        for at in 0..count {
            commits.insert(0, fixture.commit(&[(&*format!("f{at}"), &*format!("{at}"))]));
            let id = git(fixture.path(), &["rev-parse", &format!("HEAD:f{at}")]);
            files.insert(0, id.trim().parse().expect("an id"));
        }
        (fixture, commits, files)
    }

    #[test]
    fn what_stands_on_one_another_is_looked_at_once_and_all_that_stands_on_what_lacks_something_does() {
        let (fixture, commits, files) = stacked(5);
        let (repository, base) = (fixture.repository(), [commits[5]]);
        std::fs::remove_file(repository.loose_path(files[3])).expect("loose");
        let git = repository.fresh().expect("opens");
        let mut inspection = Inspection::by(&repository, &git);
        let mut lacking = |at: usize| inspection.lacking(commits[at], &base).expect("legible");
        assert_eq!(lacking(0), Some(files[3]));
        // It is not asked again what is known: these are gone since.
        for file in [files[0], files[1], files[2]] {
            std::fs::remove_file(repository.loose_path(file)).expect("loose");
        }
        assert_eq!([1, 2, 3].map(&mut lacking), [Some(files[3]); 3]);
        assert_eq!([4, 5].map(&mut lacking), [None, None]);
        assert_eq!(
            inspection.lacking(commits[2], &[commits[3]]).expect("legible"),
            None,
            "it was there: {:?}",
            files[2]
        );
    }

    #[test]
    fn a_result_is_there_only_with_what_it_stands_on() {
        for (gone, named) in [("HEAD~1", true), ("HEAD~1^{tree}", true), ("HEAD~1:a", false)] {
            let (fixture, commits, _) = stacked(1);
            let repository = fixture.repository();
            let id: Oid = git(fixture.path(), &["rev-parse", gone]).trim().parse().expect("an id");
            let by = repository.fresh().expect("opens");
            let missing = || Inspection::by(&repository, &by).first_missing_of(commits[0], None).expect("legible");
            assert_eq!(missing(), None);
            std::fs::remove_file(repository.loose_path(id)).expect("loose");
            let by = repository.fresh().expect("opens");
            let missing = Inspection::by(&repository, &by).first_missing_of(commits[0], None).expect("legible");
            assert_eq!(missing, named.then_some(id), "{gone}");
        }
    }
}
