//! The merge train's decisions about green and red, as pure values: verdicts in, verifications out.

/// The longest green prefix of a batch.
pub mod search;
