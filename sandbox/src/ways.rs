//! The folders on the way to what a job may do less with than with what lies around it: a hidden path, or one that may only be read,
//! inside a folder that it may write. A mount covers what stands at a path, and only there: renamed outside, or by the job itself,
//! the folder above would take the covered things to where no later job's policy looks for them. So each of these folders becomes a
//! mount as well, which the kernel lets nobody rename or remove from inside. The price: what is moved in or out of one of them is
//! copied, as between file systems.
//!
//! What a job writes into layers of its own (an overlay, its home) is gone with it, so nothing on the way needs this there.
//!
//! Source: rename(2), EBUSY and EXDEV.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::policy::{Access, CopyOnWrite, Draft, Worktree};

/// What is mounted at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The job writes there, and others find it.
    Written,
    /// Anything less.
    Kept,
}

/// The folders that have to stay where they are, in the order of their paths. Some may not exist.
pub fn ways(draft: &Draft) -> BTreeSet<PathBuf> {
    let places = places(draft);
    if !places.iter().any(|(_, place)| *place == Place::Written) {
        return BTreeSet::new();
    }
    let is_place = |path: &Path| places.iter().any(|(at, _)| *at == path);
    let is_written = |path: &Path| {
        let around = places.iter().filter(|(at, _)| path != at && path.starts_with(at));
        around.max_by_key(|(at, _)| at.components().count()).is_some_and(|(_, place)| *place == Place::Written)
    };
    let kept = places.iter().filter(|(_, place)| *place == Place::Kept);
    let above: BTreeSet<&Path> = kept.flat_map(|(at, _)| at.ancestors().skip(1)).collect();
    above.into_iter().filter(|way| !is_place(way) && is_written(way)).map(Path::to_owned).collect()
}

fn places(draft: &Draft) -> Vec<(PathBuf, Place)> {
    let worktree = match draft.worktree {
        Worktree::Directory { .. } => Place::Written,
        Worktree::Overlay { .. } => Place::Kept,
    };
    let mut places = vec![(draft.worktree.at().to_owned(), worktree), (draft.home.clone(), Place::Kept)];
    places.extend(draft.tmp.iter().map(|tmp| (tmp.clone(), Place::Kept)));
    places.extend(draft.grants.iter().map(|grant| match grant.access {
        Access::Write => (grant.at.clone(), Place::Written),
        Access::Read => (grant.at.clone(), Place::Kept),
    }));
    places.extend(draft.copies.iter().flat_map(CopyOnWrite::places).map(|at| (at, Place::Kept)));
    places.extend(draft.hide.iter().map(|path| (path.clone(), Place::Kept)));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforcement::Tier;
    use crate::policy::{Limits, Network, PathGrant};

    fn check(written: &[&str], read: &[&str], hidden: &[&str], expected: &[&str]) {
        let grant = |path: &&str, access| PathGrant { path: path.into(), at: path.into(), access };
        let layer = || "layer".to_owned();
        let draft = Draft {
            tier: Tier::Namespaces,
            worktree: Worktree::Overlay {
                at: "/r".into(),
                state: "/s".into(),
                lowers: vec![layer()],
                upper: layer(),
                work: layer(),
            },
            grants: written
                .iter()
                .map(|path| grant(path, Access::Write))
                .chain(read.iter().map(|path| grant(path, Access::Read)))
                .collect(),
            copies: Vec::new(),
            hide: hidden.iter().map(PathBuf::from).collect(),
            home: "/h".into(),
            home_files: Vec::new(),
            tmp: None,
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        };
        let found = ways(&draft);
        assert_eq!(found, expected.iter().map(PathBuf::from).collect(), "{written:?} {read:?} {hidden:?}");
    }

    #[test]
    fn what_leads_to_less_inside_of_what_is_written_stays() {
        check(&["/d"], &[], &["/d/a/b/c"], &["/d/a", "/d/a/b"]);
        check(&["/d"], &["/d/a/b"], &[], &["/d/a"]);
        check(&["/d", "/d/a/b"], &[], &["/d/a/b/c/e"], &["/d/a", "/d/a/b/c"]);
        check(&["/d"], &["/d/a/b", "/d/a/b/c/e"], &["/d/a/b/f/g"], &["/d/a"]);
    }

    #[test]
    fn where_nothing_less_is_inside_everything_may_be_renamed() {
        check(&["/d"], &["/e/a/b"], &["/d/a", "/e/a/c"], &[]);
        check(&["/d", "/d/a/b"], &[], &[], &[]);
        check(&[], &["/h/a/b"], &["/r/a/b"], &[]);
    }
}
