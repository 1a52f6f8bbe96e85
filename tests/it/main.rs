//! Whole-program tests on the real binary and real repositories, and the rules of the house.

/// The same plan gives the same commits.
mod determinism;
/// The dispatcher's decisions in random runs without processes.
mod simulation;
/// From a plan's text to a merged branch, and everything that can go wrong on the way.
mod straight_line;
/// The rules of the house.
mod tidy;
