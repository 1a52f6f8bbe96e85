//! Changes onto a tip, in memory: no checkout, no process, no configuration of the machine. Comes in: trees and the order
//! of the plan. Goes out: a tree, or a conflict as a value.
//!
//! The rule that everything here keeps: *never clean where git reports a conflict, never another tree than git's where
//! both are clean.* Where git's answer depends on guesses about renames that cannot be repeated with certainty, the answer
//! is a conflict. Of attributes only the tree's own are read, and merge drivers are not run: a merge driver is a command of the
//! user's machine, and the same plan has to give the same tree everywhere.
//!
//! Start reading at [`fold`].

#[cfg(test)]
mod against_git;
/// Which files git merges as a whole, by what a tree says itself, and which it stores through a filter.
pub(crate) mod attributes;
/// A folder where the other side has a file: both stand, the file beside the folder.
mod beside;
/// Which lines a version changed.
pub mod diff;
/// Two versions of one entry with a common base: mode and content.
pub mod file;
/// One result onto a tip: the walk that answers nearly all merges.
pub mod fold;
/// Which result is folded next; pure.
pub mod order;
/// Which deleted file became which added one, where that is certain.
pub mod rename;
/// Files with rules of their own.
pub mod rules;
/// Three versions of a text as one.
pub mod text;
/// The slow path: only the paths that somebody touched. The only place that declares a conflict.
pub mod touched;
/// Green and red: which prefix of a batch lands.
pub mod train;

pub use fold::{ConflictKind, ConflictPath, FoldError, Folded, FoldedAll, Outcome, Step, fold, fold_all, fold_by};
pub use order::{End, Next, Place, TaskPlace, Train};
pub use rules::FileRules;
