//! Worktrees that see folders of the user's checkout (`[workspace] cache`) see what was built there, and most build tools decide
//! by modification times: a file that looks older than the output is not built again, and a broken tree would be called green.
//!
//! A prepared base has the times that the checkout's files had when it was prepared. What the checkout has built since, of other
//! content or of files that are younger there, looks younger than these. So before each run that sees such folders, every file
//! that is younger in the checkout gets its time there, and every file that the checkout has not is made young, in a layer on top;
//! and so is whatever differs from the base.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::Timespec;

use super::checkout::WarmTimes;
use super::index_file::{IndexEntry, Presence, Stat, is_gitlink};
use super::{BaseError, Bases, read_index};
use crate::tree::{Difference, Entry};

/// What one run knows of the folders of the checkout that its worktrees see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    /// When it looked; tells its layers from those of other runs. Nanoseconds since the Unix epoch.
    pub looked_ns: u64,
    /// The files of the base that have to look younger than they are in it, as differences that differ in nothing.
    touched: Vec<Difference>,
    /// The times of those that the checkout has, too.
    pub times: BTreeMap<Vec<u8>, Timespec>,
}

impl Live {
    /// Whether the base can be used as it is.
    pub fn is_as_prepared(&self) -> bool {
        self.touched.is_empty()
    }

    /// These differences with the files that only have to be younger.
    pub fn beside(&self, mut differences: Vec<Difference>) -> Vec<Difference> {
        let known: BTreeSet<Vec<u8>> = differences.iter().map(|difference| difference.path.clone()).collect();
        differences.extend(self.touched.iter().filter(|touched| !known.contains(&touched.path)).cloned());
        differences
    }
}

impl Bases {
    /// Compares a prepared base (its folder, relative to the state folder) with the checkout as it is now.
    ///
    /// # Errors
    /// [`BaseError::Index`] and [`BaseError::Io`], when the base cannot be read.
    pub(super) fn live(&self, base: &str) -> Result<Live, BaseError> {
        let index = read_index(&self.state.path(&format!("{base}/tree/.git/index")))?;
        let checkout = WarmTimes::of(&self.repository);
        let files = index.entries().iter().filter(|entry| entry.presence == Presence::CheckedOut && !is_gitlink(entry));
        let (mut touched, mut times) = (Vec::new(), BTreeMap::new());
        for entry in files {
            let there = checkout.get(&entry.path, entry.id);
            if there.is_some_and(|there| is_as_young(entry, there)) {
                continue;
            }
            touched.push(same(entry));
            times.extend(there.map(|there| (entry.path.clone(), there)));
        }
        Ok(Live { looked_ns: super::warm::now_ns(), touched, times })
    }
}

/// Whether a file is at least as young in the base as the same file in the checkout.
fn is_as_young(entry: &IndexEntry, there: Timespec) -> bool {
    let Stat { mtime: (seconds, nanos), .. } = entry.stat;
    (i64::from(seconds), i64::from(nanos)) >= (there.tv_sec, there.tv_nsec)
}

fn same(entry: &IndexEntry) -> Difference {
    let content = Some(Entry { mode: entry.mode, id: entry.id });
    Difference { path: entry.path.clone(), old: content, new: content }
}
