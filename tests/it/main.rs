//! Whole-program tests on the real binary and real repositories, and the rules of the house.

/// From a plan's text to a merged branch, and everything that can go wrong on the way.
mod straight_line;
