//! The plan language: text in, a validated and expanded task graph out. Pure: no file, process or clock is touched here.
//!
//! [`parse`] gives a [`Plan`] or everything that is wrong with it. `TaskGraph::expand` turns a plan into instances and their
//! order, and grows while the run learns what fan-outs wait for. Start reading at [`plan`].

/// Coding agents as work.
pub mod agent;
/// What a person lets plans ask for.
pub mod allowance;
/// What of a template is code, and how much of it there may be.
mod code_spans;
/// What a template's code uses and looks at.
mod code_tree;
/// Cycles, made readable.
mod cycle;
/// What is wrong, and where.
pub mod diagnostic;
/// The graph for people.
mod display;
/// A TOML text with places.
mod document;
/// Hosts that a policy lets through, and their names.
pub mod egress;
/// What other tools call a key.
mod elsewhere;
/// Matrix combinations and items.
mod expand;
/// Tasks that other tasks add while the run goes on.
pub mod expansion;
/// From the texts of a plan to the plan.
pub mod file;
/// The filters and tests of templates, each with a bound.
mod filters;
/// Globs over paths, compiled.
pub mod glob;
/// The expanded graph.
pub mod graph;
/// What a template may not let grow.
mod growth;
/// Names that are not interchangeable with other strings.
pub mod ids;
/// One run of a task.
pub mod instance;
/// Every key of the language, once.
mod keys;
pub use keys::{NAMES, is_name};
/// What a rendering may look at.
mod looked_at;
/// From a document to the types of `plan`.
mod lower;
/// The `[merge]` table.
mod merge;
/// Items that do not fit the plan.
mod misfit;
/// Models, and what they may cost.
pub mod models;
/// Needs on single instances.
mod needs;
/// Some of a plan's tasks.
mod only;
/// The merge order.
mod order;
/// Which instances may change the same paths.
pub mod overlap;
/// Where a plan's texts say something.
pub mod place;
/// What a plan means.
pub mod plan;
/// Plans that a model wrote.
pub mod planned;
/// Durations and sizes.
mod quantity;

pub use quantity::duration;
/// An instance's texts with its values in them.
pub mod render;
/// The words that a result can be.
pub mod result_words;
/// Who looks at results before they count.
pub mod review;
/// The JSON Schema.
mod schema;
/// What instances may change, compared.
pub mod scope;
/// A document against the table of keys.
mod shape;
/// Texts with `{{ }}`.
pub mod template;
/// What agents are given beside their own tools.
pub mod tool_servers;
/// Which instances take turns, because they may change the same paths.
pub mod turns;
/// Addresses without the secrets in them.
mod unsaid;
pub use unsaid::{hosts_alone, unsaid};
/// What a plan's parts say together.
mod validate;
/// Filters and tests that a template names.
mod words;

pub use agent::{
    Agent, AgentMode, AgentSettings, CONTEXT_TOKENS_DEFAULT, LanguageServers, OUTPUT_TOKENS_DEFAULT, Submits,
};
pub use allowance::{Allowance, AllowanceError, RepositoryAllowances};
pub use diagnostic::{Diagnostic, Location, Severity, SourceFile, WrongIn};
pub use egress::{Host, HostError, HostRule};
pub use file::{Beside, Parsed, parse, parse_beside, parse_recorded};
pub use graph::{ExpandError, MergeSlot, Need, Pending, TaskGraph};
pub use ids::{InstanceId, TaskName, name_matches, task_in};
pub use instance::{Binding, BoundValue, Instance, InstanceIx, Origin};
pub use lower::INSTANCES_MAX;
pub use merge::{Batch, History, Merge, MergeMode, Overlap, Publish, Regenerate, ResolvedBy, Resolver, Rung, Verify};
pub use models::{Answers, Budget, KeySource, Model, ModelUse, Models, PriceList, Provider, TaskBudget, UserConfig};
pub use plan::*;
pub use render::{
    RenderContext, RenderError, Rendered, RenderedAgent, RenderedCheck, RenderedCommand, RenderedGuest,
    RenderedReviewer,
};
pub use review::Reviewer;
pub use schema::schema;
pub use template::Template;
pub use tool_servers::{Hook, ServerAccess, ServerReach, ServerUse, ToolServer};
pub use validate::branch_name;
