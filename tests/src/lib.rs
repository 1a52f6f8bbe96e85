//! What whole-program tests share: real repositories, and the real `swarm` binary run on them with a clean environment.
//! Nothing here looks into the product: a test sees what a person or a script sees.

/// Real repositories in a temporary folder.
pub mod repository;
/// The program, run to its end or into its time limit.
pub mod swarm;

pub use repository::{Frozen, Repository};
pub use swarm::{Ended, Swarm};
