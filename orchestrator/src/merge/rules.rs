//! Files with rules of their own (`union` and `regenerate` of `[merge]`): what would be a conflict in them is settled before
//! anything counts as one.

use swarm_plans::Merge;

use crate::path_globs::{BadGlob, PathGlobs};

/// Which files a plan settles how. By default there are none.
#[derive(Debug, Clone, Default)]
pub struct FileRules {
    union: Option<PathGlobs>,
    made_again: Option<PathGlobs>,
}

impl FileRules {
    /// The rules of a plan.
    ///
    /// # Errors
    /// [`BadGlob`].
    pub fn of(merge: &Merge) -> Result<Self, BadGlob> {
        let globs = |patterns: &[&String]| match patterns {
            [] => Ok(None),
            some => PathGlobs::new(some).map(Some),
        };
        let union: Vec<&String> = merge.union.iter().collect();
        let made_again: Vec<&String> = merge.regenerate.iter().flat_map(|one| &one.paths).collect();
        Ok(FileRules { union: globs(&union)?, made_again: globs(&made_again)? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.union.is_none() && self.made_again.is_none()
    }

    /// Whether both sides' lines are kept in this file.
    pub fn is_union(&self, path: &[u8]) -> bool {
        self.union.as_ref().is_some_and(|globs| globs.matches(path))
    }

    /// Whether a command makes this file again.
    pub fn is_made_again(&self, path: &[u8]) -> bool {
        self.made_again.as_ref().is_some_and(|globs| globs.matches(path))
    }
}
