//! Files that git stores through a filter: git-lfs, git-crypt and others that `filter` of `.gitattributes` names. Who commits such a file
//! has git run a program of theirs, and what that prints is stored. Here none is run, and what a worker left would be stored as it is.
//! Where that is worse than work that does not land (the filter encrypts, or the user's settings require it), the file is refused; else it
//! is named. So it is of git-lfs, which takes a whole file in a pointer's place for what it is. What git has stored before may move, and so may a pointer and what is encrypted.
//!
//! Source: gitattributes(5), "filter"; git-lfs' `docs/spec.md`; git-crypt(1).

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use git2::{Config, Odb, Oid};

use super::walk::Content;
use super::{CollectError, Refusal, display_path, read_again};
use crate::merge::attributes::Attributes;
use crate::report::words;
use crate::tree::{Difference, EXECUTABLE, Entry, FILE, TreeError};
use crate::worktree::Worktree;

/// How a file begins that a filter made: pointers of git-lfs, and what git-crypt encrypted.
const STORED_FORMS: [&[u8]; 2] = [b"version https://git-lfs.github.com/spec/", b"\0GITCRYPT\0"];

/// A filter that hands out as it is what it did not make: whoever has it, reads the file all the same.
const TAKES_ALL: &str = "lfs";

/// The limit on matching patterns, those of ignore files and these.
pub(super) const MATCHING: &str = "ignore_ms";

/// Files that a note names.
const NAMED_MAX: usize = 3;

/// What is to be said of them.
#[derive(Default)]
pub(super) struct Filtered {
    /// Files that may not stand as they are.
    pub refusals: Vec<Refusal>,
    /// That others do.
    pub note: Option<String>,
}

/// Judges the files of a tree that a worker gave another content. `git` tells which filters are required.
pub(super) fn filtered(
    (git, odb): (&git2::Repository, &Odb<'_>),
    worktree: &Worktree,
    contents: &[Content],
    (tree, differences): (Oid, &[Difference]),
    (count_max, ms_max): (usize, u64),
) -> Result<Filtered, CollectError> {
    let began = Instant::now();
    let stored: HashSet<Oid> = differences.iter().filter_map(|one| Some(one.old?.id)).collect();
    let left: HashMap<&[u8], &Content> = contents.iter().map(|content| (content.path.as_slice(), content)).collect();
    let (attributes, config) = (Attributes::of_filters(tree), OnceCell::new());
    let (mut found, mut paths, mut filters) = (Filtered::default(), Vec::new(), BTreeSet::new());
    for Difference { path, new, .. } in differences {
        let Some(new) = new.filter(|new| matches!(new.mode, FILE | EXECUTABLE) && !stored.contains(&new.id)) else {
            continue;
        };
        if is_over(began, ms_max) {
            found.refusals = vec![Refusal::Limit { limit: MATCHING, max: ms_max, path: path.clone() }];
            return Ok(found);
        }
        let Some(filter) = attributes.filter(odb, path)? else { continue };
        if is_stored_form(worktree, left.get(path.as_slice()).copied().filter(|left| left.id == new.id))? {
            continue;
        }
        let config = config.get_or_init(|| settings(git));
        if !refuses(&filter, config.as_ref()) {
            paths.push(display_path(path));
            filters.insert(filter);
            continue;
        }
        found.refusals.push(Refusal::Hostile { path: path.clone(), reason: reason(&filter) });
        if found.refusals.len() == count_max {
            break;
        }
    }
    found.note = (!paths.is_empty()).then(|| note(&paths, &filters));
    Ok(found)
}

/// The first file of one of a worker's own commits that may not stand as it is, with why. What it holds is in the repository.
pub(super) fn refused_within(
    (git, odb): (&git2::Repository, &Odb<'_>),
    (tree, differences): (Oid, &[Difference]),
    ms_max: u64,
) -> Result<Option<(Vec<u8>, String)>, CollectError> {
    let began = Instant::now();
    let stored: HashSet<Oid> = differences.iter().filter_map(|one| Some(one.old?.id)).collect();
    let (attributes, config) = (Attributes::of_filters(tree), OnceCell::new());
    for Difference { path, new, .. } in differences {
        let is_file = |new: &Entry| matches!(new.mode, FILE | EXECUTABLE) && !stored.contains(&new.id);
        let Some(new) = new.filter(is_file) else { continue };
        if is_over(began, ms_max) {
            return Ok(Some((path.clone(), "its attributes take too long to be matched".to_owned())));
        }
        let Some(filter) = attributes.filter(odb, path)? else { continue };
        let is_refused = refuses(&filter, config.get_or_init(|| settings(git)).as_ref());
        if is_refused && !begins_as_stored(odb.read(new.id).map_err(TreeError::from)?.data()) {
            return Ok(Some((path.clone(), reason(&filter))));
        }
    }
    Ok(None)
}

/// Whether a worker's patterns have been matched for too long: it writes both them and the paths.
fn is_over(began: Instant, ms_max: u64) -> bool {
    began.elapsed().as_millis() > u128::from(ms_max)
}

fn settings(git: &git2::Repository) -> Option<Config> {
    git.config().and_then(|mut config| config.snapshot()).ok()
}

/// Whether nothing may stand that this filter did not make.
fn refuses(filter: &str, config: Option<&Config>) -> bool {
    encrypts(filter) || config.is_some_and(|config| is_required(config, filter))
}

fn begins_as_stored(bytes: &[u8]) -> bool {
    // Of nothing, nothing is kept from anybody.
    bytes.is_empty() || STORED_FORMS.iter().any(|form| bytes.starts_with(form))
}

/// Why a file is not taken, and what to do.
fn reason(filter: &str) -> String {
    format!(
        "git stores it through the filter `{}`, which swarm does not run (leave it in $SWARM_ARTIFACTS and add it with git, or give it \
         `-filter` in .gitattributes)",
        display_path(filter.as_bytes())
    )
}

fn note(paths: &[String], filters: &BTreeSet<String>) -> String {
    let filters: Vec<String> = filters.iter().map(|name| format!("`{}`", display_path(name.as_bytes()))).collect();
    let (are, them) = if paths.len() == 1 { ("is", "it") } else { ("are", "them") };
    format!(
        "{} {are} stored as the task wrote {them}: swarm does not run the filter ({}) that .gitattributes names for {them}",
        words::first_of(paths, NAMED_MAX),
        filters.join(", ")
    )
}

fn is_stored_form(worktree: &Worktree, left: Option<&Content>) -> Result<bool, CollectError> {
    match left {
        Some(Content { bytes: Some(bytes), .. }) => Ok(begins_as_stored(bytes)),
        Some(Content { path, .. }) => Ok(begins_as_stored(&read_again(&worktree.written_dir(), path)?)),
        None => Ok(false),
    }
}

/// Whether a filter is known for keeping from readers of the repository what it is given, whether or not it is set up here.
fn encrypts(filter: &str) -> bool {
    filter.to_ascii_lowercase().contains("crypt")
}

/// Whether git would rather store nothing than what this filter did not make.
fn is_required(config: &Config, filter: &str) -> bool {
    let set = |key: &str| config.get_string(&format!("filter.{filter}.{key}")).is_ok_and(|value| !value.is_empty());
    let is_required = filter != TAKES_ALL && config.get_bool(&format!("filter.{filter}.required")).unwrap_or(false);
    is_required && (set("clean") || set("process"))
}
