//! The plan language: text in, a validated and expanded task graph out. Pure: no file, process or clock is touched here.
//!
//! [`parse`] gives a [`Plan`] or everything that is wrong with it. `TaskGraph::expand` turns a plan into instances and their
//! order, and grows while the run learns what fan-outs wait for. Start reading at [`plan`].

/// Cycles, made readable.
mod cycle;
/// What is wrong, and where.
pub mod diagnostic;
/// The graph for people.
mod display;
/// A TOML text with places.
mod document;
/// Matrix combinations and items.
mod expand;
/// From the texts of a plan to the plan.
pub mod file;
/// The expanded graph.
pub mod graph;
/// Names that are not interchangeable with other strings.
pub mod ids;
/// One run of a task.
pub mod instance;
/// Every key of the language, once.
mod keys;
/// From a document to the types of `plan`.
mod lower;
/// Needs on single instances.
mod needs;
/// The merge order.
mod order;
/// What a plan means.
pub mod plan;
/// Durations and sizes.
mod quantity;
/// An instance's texts with its values in them.
pub mod render;
/// The JSON Schema.
mod schema;
/// A document against the table of keys.
mod shape;
/// Texts with `{{ }}`.
pub mod template;
/// What a plan's parts say together.
mod validate;
/// Filters and tests that a template names.
mod words;

pub use diagnostic::{Diagnostic, Location, Severity, SourceFile};
pub use file::{Parsed, parse};
pub use graph::{ExpandError, MergeSlot, Need, Pending, TaskGraph};
pub use ids::{InstanceId, TaskName};
pub use instance::{Binding, Instance, InstanceIx, Origin};
pub use lower::INSTANCES_MAX;
pub use plan::*;
pub use render::{RenderContext, RenderError, Rendered, RenderedCheck, RenderedCommand};
pub use schema::schema;
pub use template::Template;
pub use validate::branch_name;
