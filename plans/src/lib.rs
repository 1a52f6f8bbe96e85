//! The plan language: text in, a validated and expanded task graph out. Pure: no file, process or clock is touched here.

/// Names that are not interchangeable with other strings.
pub mod ids;

pub use ids::{InstanceId, TaskName};
