//! What an attempt changed.

use serde::{Deserialize, Serialize};

/// What an attempt changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChangeSummary {
    /// Full hex id of the tree the attempt started from.
    pub base_tree: String,
    /// Full hex id of the commit that holds the result (its parent is the attempt's base commit).
    pub commit: String,
    /// Full hex id of the resulting tree; equal to `base_tree` when nothing changed.
    pub tree: String,
    /// Files added, changed or removed.
    pub files: u64,
    /// Full hex id of the newest of the worker's own commits, told again on the attempt's base commit; `None` where the result
    /// is one commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// Globs of what it may touch wherever it is merged, from the top of the tree: its task's `writes`. `None` is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<Vec<String>>,
}

impl ChangeSummary {
    /// Whether anything is other than it was.
    pub fn changes_anything(&self) -> bool {
        self.tree != self.base_tree
    }
}
