//! Whether recorded results are there with all that they bring, many of which stand on the same and share most of it: what one of them
//! showed to be there is not looked for again.

use std::collections::{HashMap, HashSet};

use git2::Oid;

use super::durable::each_in_tree;
use super::{Handle, Repository, RepositoryError};
use crate::tree;

/// Results that are looked at together.
pub(crate) struct Inspection<'a> {
    repository: &'a Repository,
    git: Handle<'a>,
    /// Objects that are there.
    seen: HashSet<Oid>,
    /// The trees of commits that results stand on, which are there.
    trees: HashMap<Oid, Oid>,
    /// Whether damaged files were looked for: where one is, there are more.
    is_swept: bool,
}

impl<'a> Inspection<'a> {
    pub(crate) fn of(repository: &'a Repository) -> Result<Self, RepositoryError> {
        let git = repository.handle()?;
        Ok(Inspection { repository, git, seen: HashSet::new(), trees: HashMap::new(), is_swept: false })
    }

    /// The first object that is in no store of a result, with the worker's own commits where there are some, and of the commit that it
    /// stands on. Where one is not there, all damaged files of the store get out of the way: what is made anew instead may have to
    /// write any of them.
    ///
    /// # Errors
    /// [`RepositoryError`] when something cannot be read, which says nothing about what is there.
    pub(crate) fn first_missing(&mut self, commit: Oid, history: Option<Oid>) -> Result<Option<Oid>, RepositoryError> {
        let found = match self.look_at(commit, history) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) | Err(_) if !self.is_swept => {
                self.is_swept = true;
                self.repository.remove_damaged()?;
                self.look_at(commit, history)
            }
            again => again,
        };
        match found? {
            Some(missing) => self.repository.lies_nowhere(missing).map(|()| Some(missing)),
            None => Ok(None),
        }
    }

    fn look_at(&mut self, commit: Oid, history: Option<Oid>) -> Result<Option<Oid>, RepositoryError> {
        if !self.has(commit)? {
            return Ok(Some(commit));
        }
        let start = self.git.find_commit(commit)?.parent_ids().next();
        for newest in [Some(commit), history].into_iter().flatten() {
            let mut at = Some(newest);
            while at != start
                && let Some(commit) = at
            {
                if !self.has(commit)? {
                    return Ok(Some(commit));
                }
                at = self.git.find_commit(commit)?.parent_ids().next();
                if let Some(missing) = self.look_at_tree(commit, at)? {
                    return Ok(Some(missing));
                }
            }
        }
        Ok(None)
    }

    /// What is missing of what a commit, which is there, has in its tree and its parent has not, or of the parent.
    fn look_at_tree(&mut self, commit: Oid, parent: Option<Oid>) -> Result<Option<Oid>, RepositoryError> {
        let before = match parent.map(|parent| self.tree_of(parent)).transpose()? {
            Some(Err(missing)) => return Ok(Some(missing)),
            Some(Ok(tree)) => Some(tree),
            None => None,
        };
        let Inspection { repository, git, seen, .. } = self;
        let (tree, odb) = (git.find_commit(commit)?.tree_id(), git.odb()?);
        let mut lacking = None;
        let mut visit = |id| {
            if !seen.contains(&id) {
                if !repository.is_held(git, id)? {
                    lacking = Some(id);
                    return Ok(false);
                }
                seen.insert(id);
            }
            Ok(true)
        };
        let walked = each_in_tree(&odb, before, tree, &mut visit, tree::DEPTH_MAX);
        match (walked, lacking) {
            (_, Some(missing)) => Ok(Some(missing)),
            (Err(error), None) => Err(repository.why_not_walked(error)),
            (Ok(_), None) => Ok(None),
        }
    }

    /// The tree of a commit that results stand on, or what is missing of the two.
    fn tree_of(&mut self, commit: Oid) -> Result<Result<Oid, Oid>, RepositoryError> {
        if let Some(tree) = self.trees.get(&commit) {
            return Ok(Ok(*tree));
        }
        if !self.has(commit)? {
            return Ok(Err(commit));
        }
        let tree = self.git.find_commit(commit)?.tree_id();
        if !self.has(tree)? {
            return Ok(Err(tree));
        }
        self.trees.insert(commit, tree);
        Ok(Ok(tree))
    }

    fn has(&mut self, id: Oid) -> Result<bool, RepositoryError> {
        let is_there = self.seen.contains(&id)
            || self.repository.is_held(&self.git, id).map_err(|error| self.repository.why_not_walked(error))?;
        if is_there {
            self.seen.insert(id);
        }
        Ok(is_there)
    }
}
