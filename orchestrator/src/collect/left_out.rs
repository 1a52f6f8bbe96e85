//! What stays out of a change, asked path by path: what still stands in the worktree though the change does not have it, what came
//! with `[workspace] copy` or `setup`, and what an ignore rule of the result covers. The walk asks this of files that are there; a
//! history tells of files that are gone again, too.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use git2::{Odb, Oid};

use super::ignore_rules::{IGNORE_FILE_BYTES_MAX, IgnoreRules, Kind};
use super::{Change, CollectLimits, walk};
use crate::tree::{self, EXECUTABLE, FILE, TreeError};

/// Whether a file stays out of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be told.
    In,
    /// It stays out.
    Out,
    /// Finding out exceeds a bound.
    TooMuch,
}

/// Decides about the paths of one collected change.
pub(super) struct LeftOut<'a> {
    objects: &'a Odb<'a>,
    base: Oid,
    result: Oid,
    /// What the change puts somewhere.
    changed: HashSet<Vec<u8>>,
    /// What of the worktree was written, or all of it, and the layers below that hold untracked files.
    layers: Vec<PathBuf>,
    rules: IgnoreRules,
    limits: &'a CollectLimits,
    /// The folders whose rules are in force, from the root down, each with whether it is excluded as a whole.
    entered: Vec<(Vec<u8>, bool)>,
}

impl<'a> LeftOut<'a> {
    /// Of a change, with the contents of the user's own ignore files in rising precedence.
    pub fn of(
        change: &Change,
        objects: &'a Odb<'a>,
        layers: Vec<PathBuf>,
        personal: &[Vec<u8>],
        limits: &'a CollectLimits,
    ) -> Result<Self, TreeError> {
        let (base, result) = (change.base_tree, change.tree);
        let changed = tree::diff(objects, Some(base), Some(result))?.into_iter();
        let changed = changed.filter(|difference| difference.new.is_some()).map(|difference| difference.path).collect();
        Ok(LeftOut {
            objects,
            base,
            result,
            changed,
            layers,
            rules: IgnoreRules::new(personal),
            limits,
            entered: Vec::new(),
        })
    }

    /// Whether a file stays out of the change. Quickest for sorted paths.
    pub fn verdict(&mut self, path: &[u8]) -> Result<Verdict, TreeError> {
        if self.changed.contains(path) {
            return Ok(Verdict::In);
        }
        if tree::find(self.objects, self.base, path)?.is_some_and(|entry| !entry.is_tree()) {
            return Ok(Verdict::In);
        }
        let at = |folder: &PathBuf| folder.join(OsStr::from_bytes(path)).symlink_metadata();
        let stands = self
            .layers
            .iter()
            .any(|folder| at(folder).is_ok_and(|found| !found.is_dir() && !super::is_whiteout(&found)));
        if stands { Ok(Verdict::Out) } else { self.by_the_rules(path) }
    }

    fn by_the_rules(&mut self, path: &[u8]) -> Result<Verdict, TreeError> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let folders: Vec<&[u8]> = std::iter::once(0).chain(slashes.map(|(at, _)| at)).map(|at| &path[..at]).collect();
        let shared = self.entered.iter().zip(&folders).take_while(|((known, _), folder)| known == *folder).count();
        self.entered.drain(shared..).for_each(|_| self.rules.leave());
        for folder in &folders[shared..] {
            let around = self.entered.last().is_some_and(|(_, excluded)| *excluded);
            let excluded = around || !folder.is_empty() && self.rules.excludes(folder, Kind::Folder);
            let content = self.rules_in(folder)?;
            if content.as_deref().is_some_and(|content| self.rules.weight_with(content) > self.limits.ignore_bytes) {
                return Ok(Verdict::TooMuch);
            }
            self.rules.enter(folder, content.as_deref());
            self.entered.push((folder.to_vec(), excluded));
        }
        let excluded = self.entered.last().is_some_and(|(_, excluded)| *excluded);
        let excluded = excluded || self.rules.excludes(path, Kind::File);
        match excluded {
            _ if self.rules.spent().as_millis() > u128::from(self.limits.ignore_ms) => Ok(Verdict::TooMuch),
            true => Ok(Verdict::Out),
            false => Ok(Verdict::In),
        }
    }

    /// The `.gitignore` of a folder: the result's, or one that stays out itself.
    fn rules_in(&self, folder: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        let path = if folder.is_empty() { b".gitignore".to_vec() } else { [folder, b"/.gitignore"].concat() };
        let tracked = tree::find(self.objects, self.result, &path)?;
        if let Some(entry) = tracked.filter(|entry| matches!(entry.canonical().mode, FILE | EXECUTABLE)) {
            let mut content = self.objects.read(entry.id)?.data().to_vec();
            content.truncate(usize::try_from(IGNORE_FILE_BYTES_MAX).unwrap_or(usize::MAX));
            return Ok(Some(content));
        }
        let read = |layer: &PathBuf| {
            let file = File::from(walk::open_again(&File::open(layer).ok()?, &path).ok()?);
            let mut content = Vec::new();
            let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
            (is_file && file.take(IGNORE_FILE_BYTES_MAX).read_to_end(&mut content).is_ok()).then_some(content)
        };
        Ok(self.layers.iter().find_map(read))
    }
}
