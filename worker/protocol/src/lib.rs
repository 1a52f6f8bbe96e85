//! What coordinator and worker may say to each other: data only, versioned.
//!
//! Two streams of JSON lines. The coordinator writes [`ToWorker`] to the worker's standard input, the worker writes
//! [`FromWorker`] to its standard output; the job's own output travels inside frames. So the same worker can be started
//! behind any program that carries two pipes. A worker ends when its input ends.
//!
//! This crate knows neither the plan language nor the kernel: [`SandboxSpec`] is what the coordinator *asks for*, and
//! only the worker's airlock turns it into a policy of the sandbox crate. Start reading at [`message`].

/// What a coding agent and its coordinator say to each other.
pub mod agent;
/// An error in words.
pub mod causes;
/// A conversation with a model.
pub mod chat;
/// How a coordinator asks for workers that are forked instead of started.
pub mod fork_server;
/// One message a line: bounded, versioned, and decoding never panics.
pub mod frame;
/// Which names some system reads as `.git`.
pub mod git_dir;
/// How large a glob may be.
pub mod glob_bounds;
/// The messages, in the order in which a conversation uses them.
pub mod message;
/// How a job ended, as values.
pub mod outcome;
/// What a machine can do.
pub mod probe;
/// Rules of an agent as they are written.
pub mod rule;
/// What the coordinator asks the sandbox to allow: plain data, every path absolute.
pub mod sandbox_spec;
/// Refusals that a failed job seems to have met.
pub mod seen;
/// What a test says that skips itself.
pub mod skipped;
/// What a tool of a foreign server gave, as text.
pub mod tool_answer;
/// The call that it gave it for.
#[cfg(feature = "tool-servers")]
pub mod tool_call;
/// What became of a question to a foreign server, in words.
#[cfg(feature = "tool-servers")]
pub mod tool_fault;
/// What tools a foreign server lists.
pub mod tool_list;
/// The same asked for, page by page.
#[cfg(feature = "tool-servers")]
pub mod tool_pages;
/// What an agent is given beside its own tools.
pub mod toolset;

pub use frame::{FrameError, FrameReader, LineBuffer, encode};
pub use message::{Chunk, FromWorker, Job, Start, Stream, ToWorker, VERSION, WasmJob, WasmPreopen};
pub use outcome::{Ended, EnforcementReport, Outcome, Refusal};
pub use probe::{Probe, Question, Verdict};
pub use sandbox_spec::{
    Access, ControllerSpec, Cow, Grant, GroupSpec, HomeFile, LimitsSpec, NetworkSpec, SandboxSpec, Tier, WorktreeSpec,
};
pub use seen::{RefusedAct, SEEN_MAX, SeenRefusal};
