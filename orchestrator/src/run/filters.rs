//! Files of the base that git stores through a filter (git-lfs, git-crypt): tasks see them as they are stored, and a person does not.
//! Said once before a run; what a task writes to such a file is judged with its result ([`crate::collect`]).

use std::collections::{BTreeSet, VecDeque};

use git2::{ObjectType, Odb, Oid};

use super::RunError;
use crate::collect::display_path;
use crate::executor::trees::{TreeError, files_of};
use crate::merge::attributes::Attributes;
use crate::report::words;
use crate::repository::{Repository, RepositoryError};
use crate::tree::{self, EXECUTABLE, FILE};

/// Folders that are looked into for attributes, the highest first: they stand high up, and a run begins at once.
const FOLDERS_MAX: usize = 1000;

/// Bytes of a file of attributes that is searched.
const BYTES_MAX: usize = 1 << 20;

/// Files that are named; more are counted.
const NAMED_MAX: usize = 3;

/// The files of the base that have one, in words for people.
///
/// # Errors
/// Those of reading the base's trees.
pub fn filtered(repository: &Repository, base: Oid) -> Result<Option<String>, RunError> {
    let git = repository.handle()?;
    let odb = git.odb().map_err(RepositoryError::from)?;
    let root = repository.tree_of(base)?;
    if !names_filters(&odb, root)? {
        return Ok(None);
    }
    let attributes = Attributes::of_filters(root);
    let (mut paths, mut filters) = (Vec::new(), BTreeSet::new());
    for path in files_of(repository, base)? {
        if let Some(filter) = attributes.filter(&odb, &path).map_err(TreeError::from)? {
            paths.push(display_path(&path));
            filters.insert(format!("`{}`", display_path(filter.as_bytes())));
        }
    }
    let have = if paths.len() == 1 { "has" } else { "have" };
    let filters: Vec<String> = filters.into_iter().collect();
    Ok((!paths.is_empty()).then(|| {
        format!(
            "{} {have} a filter in .gitattributes ({}), which swarm does not run: tasks see what git stores of them, and what they \
             write there is stored as it is, or refused where it may not be stored so",
            words::first_of(&paths, NAMED_MAX),
            filters.join(", ")
        )
    }))
}

/// Whether the attributes of the highest folders speak of filters at all.
fn names_filters(odb: &Odb<'_>, root: Oid) -> Result<bool, RunError> {
    let failed = |error: tree::TreeError| TreeError::Base(error.into());
    let mut folders = VecDeque::from([root]);
    for _ in 0..FOLDERS_MAX {
        let Some(folder) = folders.pop_front() else { break };
        let listing = tree::list(odb, folder).map_err(failed)?;
        if let Some(file) = tree::get(&listing, b".gitattributes").filter(|it| matches!(it.mode, FILE | EXECUTABLE)) {
            let (bytes, kind) = odb.read_header(file.id).map_err(RepositoryError::from)?;
            if kind == ObjectType::Blob && bytes <= BYTES_MAX {
                let text = odb.read(file.id).map_err(RepositoryError::from)?;
                if text.data().windows(b"filter=".len()).any(|word| word == b"filter=") {
                    return Ok(true);
                }
            }
        }
        folders.extend(listing.iter().filter(|(_, entry)| entry.is_tree()).map(|(_, entry)| entry.id));
    }
    Ok(false)
}
