//! Whole-program tests on the real binary and real repositories, and the rules of the house.

/// Repositories, plans and disks that are not as they should be.
mod bad_input;
/// The commands that read what a run left.
mod cli;
/// The same plan gives the same commits.
mod determinism;
/// Real source trees, edited by many tasks at once.
mod real_input;
/// The dispatcher's decisions in random runs without processes.
mod simulation;
/// From a plan's text to a merged branch, and everything that can go wrong on the way.
mod straight_line;
/// The rules of the house.
mod tidy;
/// The git inside the cage, and the repository outside of it.
mod worktree;
