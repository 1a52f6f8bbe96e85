//! What whole-program tests share: real repositories, and the real `swarm` binary run on them with a clean environment.
//! Nothing here looks into the product: a test sees what a person or a script sees.

/// What a model says, written by hand.
pub mod answers;
/// A server that speaks as models' providers do.
pub mod model_server;
/// Real repositories in a temporary folder.
pub mod repository;
/// The program, run to its end or into its time limit.
pub mod swarm;
/// Commands as a user who is not root.
pub mod user;

pub use answers::Answers;
pub use model_server::{Act, Asked, Block, ModelServer};
pub use repository::{Frozen, Repository};
pub use swarm::{Ended, Swarm, WITHOUT_NAMESPACES, binary};
pub use user::user;
