//! Outside the cage: the coordinator as a library. It never prints, never reads the environment or the current directory.

/// The target branch into the user's checkout.
pub mod apply;
/// The prepared lower layers.
pub mod base;
/// Gives back what finished runs left.
pub mod clean;
/// Where time comes from.
pub mod clock;
/// What changed in a worktree.
pub mod collect;
/// A change becomes a commit and a ref.
pub mod commit;
/// The loop that owns all run state.
pub mod dispatcher;
/// Which names may stand in a tree.
pub mod entry_name;
/// Every fact that can happen.
pub mod event;
/// One attempt: provision, spawn, collect, check.
pub mod executor;
/// Real repositories for tests.
#[cfg(test)]
mod git_fixture;
/// Names of runs and attempts.
pub mod ids;
/// The durable record of runs.
pub mod journal;
/// What this machine can do for a run.
pub mod machine;
/// Changes onto the target, in memory.
pub mod merge;
/// A result as a clean linked worktree.
pub mod open;
/// Globs over paths of a tree.
pub mod path_globs;
/// Copies a folder onto another.
mod plain_copy;
/// Grants of a plan and a worktree become a sandbox spec.
pub mod policy;
/// Removes what a worker left.
pub mod removal;
/// Events become text.
pub mod report;
/// The only door to git2.
pub mod repository;
/// What happens after a failed attempt; pure.
pub mod retry;
/// Names every room once, in order.
pub mod run;
/// Which instance runs next; pure.
pub mod schedule;
/// Files and flags, resolved once.
pub mod settings;
/// Interrupts.
pub mod signal;
/// The state folder: where everything of ours lives.
pub mod state;
/// Git trees as bytes: read, compared, edited.
pub mod tree;
/// Spawns a worker and talks to it.
pub mod worker_process;
/// One attempt's worktree.
pub mod worktree;
