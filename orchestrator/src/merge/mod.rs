//! In-memory merging.

/// The three-way walk.
pub mod fold;
/// The slow path.
pub mod mini_tree;
/// The order.
pub mod order;
