//! Outside the cage: the coordinator as a library. It never prints, never reads the environment or the current directory.

/// Agents as the coordinator sees them: what they are told, the way to models, what was said.
pub mod agent;
/// The target branch into the user's checkout.
pub mod apply;
/// The prepared lower layers.
pub mod base;
/// Which boot of the machine this is.
mod boot;
/// Results of earlier runs, found again.
pub mod cache;
/// Asks a run's coordinator to end it.
pub mod cancel;
/// Gives back what finished runs left.
pub mod clean;
/// Where time comes from.
pub mod clock;
/// What changed in a worktree.
pub mod collect;
/// A change becomes a commit and a ref.
pub mod commit;
/// How many files a coordinator may hold open.
mod descriptors;
/// The loop that owns all run state.
pub mod dispatcher;
/// The egress proxy: what a cage may reach of the network.
pub mod egress;
/// Which names may stand in a tree.
pub mod entry_name;
/// Every fact that can happen.
pub mod event;
/// One attempt: provision, spawn, collect, check.
pub mod executor;
/// Where a test can cut a run short.
pub mod fault;
/// Asks for workers that are forked instead of started.
pub mod fork_server;
/// Messages of a stream.
mod frames;
/// Real repositories for tests.
#[cfg(test)]
mod git_fixture;
/// Refs of ours whose commit is gone.
pub mod hollow;
/// Names of runs and attempts.
pub mod ids;
/// The durable record of runs.
pub mod journal;
/// What a person's checkout and environment lend to a run, and what of it is not as the run began.
pub mod lent;
/// What lies in a folder, or that nobody knows it.
mod listed;
/// Addresses of names, asked for beside everything else.
mod lookups;
/// What this machine can do for a run.
pub mod machine;
/// Changes onto the target, in memory.
pub mod merge;
/// Conversations with models in the wire formats of their providers.
pub mod model;
/// A result as a clean linked worktree.
pub mod open;
/// Whose a run is.
pub mod ownership;
/// Globs over paths of a tree.
pub mod path_globs;
/// What is handed over has canonical modes and no attributes.
mod plain_attributes;
/// Copies a folder onto another.
mod plain_copy;
/// Grants of a plan and a worktree become a sandbox spec.
pub mod policy;
/// The files that git locks a ref with, and whether anybody holds them.
mod ref_lock;
/// Removes what a worker left.
pub mod removal;
/// Events become text.
pub mod report;
/// The only door to git2.
pub mod repository;
/// What keeps a result from landing, settled by a person.
pub mod resolution;
/// A run goes on where its journal stops.
pub mod resume;
/// What happens after a failed attempt; pure.
pub mod retry;
/// What a run took from earlier ones is kept by refs of its own.
mod reused;
/// Names every room once, in order.
pub mod run;
/// Which instance runs next; pure.
pub mod schedule;
/// What a person decides about results that did not land: another try, or none.
pub mod second_word;
/// What nobody is to read in what workers print.
pub mod secrets;
/// Files and flags, resolved once.
pub mod settings;
/// Interrupts.
pub mod signal;
/// Who did not get to ask a model because the run's whole budget is too small for it; pure.
pub mod starved;
/// The state folder: where everything of ours lives.
pub mod state;
/// Enums with a tag among their fields, read as they come.
mod tag_first;
/// Which branch receives the work, and whether it may.
pub mod target;
/// Threads beside the one that decides.
pub mod threads;
/// Foreign tool servers that agents reach through the coordinator.
pub mod tool_servers;
/// Git trees as bytes: read, compared, edited.
pub mod tree;
/// What of a checkout no commit has.
pub mod unsaved;
/// Makes a worker and talks to it.
pub mod worker_process;
/// One attempt's worktree.
pub mod worktree;
/// Has SQLite write changes ahead.
mod write_ahead;
