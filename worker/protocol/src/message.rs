//! The messages. `start` → `hello` → `entered` → `output`* → `finished`, with `heartbeat` at any time after `start`; a worker is
//! not waited for to say `hello` before it is given its `start`.

use std::path::PathBuf;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentJob, AgentSays, ToAgent};
use crate::outcome::{EnforcementReport, Outcome};
use crate::sandbox_spec::{Access, SandboxSpec};

/// The protocol's version. Both sides refuse another one: coordinator and worker are the same binary.
pub const VERSION: u32 = 1;

/// Coordinator → worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToWorker {
    /// Says what to run and in which cage. Sent exactly once, first.
    Start(Box<Start>),
    /// Ends the job: SIGTERM to all of it, then, after `grace_ms`, SIGKILL. Zero kills at once.
    Cancel {
        /// Milliseconds between the polite signal and the final one.
        grace_ms: u64,
    },
    /// Something for the agent that is the job; any other job does not hear it.
    Agent {
        /// What.
        message: Box<ToAgent>,
    },
}

/// Everything a worker needs to run one job once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`VERSION`] of the sender.
    pub version: u32,
    /// What to run.
    pub job: Job,
    /// The cage.
    pub sandbox: SandboxSpec,
    /// Wall time in milliseconds after which the job ends as `timed-out`; `None` is without limit.
    pub timeout_ms: Option<u64>,
    /// Milliseconds between SIGTERM and SIGKILL when the time is over.
    pub grace_ms: u64,
    /// Bytes of output (both streams together) that are passed on. What exceeds it is read and counted, not sent; half of
    /// the bound is kept for the head and half for the tail.
    pub output_bytes_max: u64,
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Job {
    /// A program with its arguments, found through `PATH` of the sandbox's own environment.
    Command {
        /// Program and arguments; never empty.
        argv: Vec<String>,
        /// Working directory as the job sees it; absolute.
        cwd: PathBuf,
    },
    /// A program on a terminal, for a person at the command line: the terminal that the worker has as its standard error becomes
    /// the program's three streams. Nothing of it travels in frames.
    Shell {
        /// Program and arguments; never empty.
        argv: Vec<String>,
        /// Working directory as the job sees it; absolute.
        cwd: PathBuf,
    },
    /// A WebAssembly guest, run by the worker itself inside the cage: no program is executed.
    Wasm(WasmJob),
    /// A coding agent, whose loop the worker itself runs inside the cage.
    Agent(Box<AgentJob>),
}

/// A WASI preview 1 module or preview 2 component, and what it gets. Its variables are the sandbox's environment, its memory
/// is the sandbox's limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasmJob {
    /// The module's file on the host, in a place that no job can write.
    pub module: PathBuf,
    /// The folder on the host that keeps compiled modules; no job can write it.
    pub compiled: PathBuf,
    /// Arguments; the first is the guest's own name.
    pub args: Vec<String>,
    /// The folders that the guest can reach, in order.
    pub preopens: Vec<WasmPreopen>,
    /// Instructions that it may execute, roughly. With it, clocks and random numbers are the same every time.
    pub fuel: Option<u64>,
    /// What random numbers follow from, where `fuel` is set.
    pub seed: u64,
}

/// A folder that a guest can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WasmPreopen {
    /// The folder as the cage sees it; absolute.
    pub path: PathBuf,
    /// Its name for the guest.
    pub name: String,
    /// What the guest may do there; never more than the cage allows.
    pub access: Access,
}

/// Worker → coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromWorker {
    /// The first frame.
    Hello {
        /// [`VERSION`] of the worker.
        version: u32,
    },
    /// The cage is closed and the job is about to be executed inside it.
    Entered {
        /// What the kernel really enforces.
        enforcement: EnforcementReport,
    },
    /// Bytes that the job wrote.
    Output {
        /// Which of the job's streams.
        stream: Stream,
        /// The bytes.
        chunk: Chunk,
    },
    /// The agent that is the job says something; bounded, and not believed.
    Agent {
        /// What.
        says: Box<AgentSays>,
    },
    /// Sent every two seconds while nothing else is.
    Heartbeat,
    /// The last frame, sent after the job's whole process tree is dead. This, and nothing else, is the result.
    Finished {
        /// How it ended.
        outcome: Outcome,
    },
}

/// One of the job's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];
}

/// Bytes on the wire: legible text where they are UTF-8, base64 elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunk {
    /// UTF-8 text.
    Text(String),
    /// Anything else, as standard base64 with padding.
    Base64(String),
}

impl Chunk {
    /// Wraps bytes without losing any.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Chunk::Text(text.to_owned()),
            Err(_) => Chunk::Base64(base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }

    /// The bytes again; `None` when a sender wrote something that is not base64.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Chunk::Text(text) => Some(text.into_bytes()),
            Chunk::Base64(text) => base64::engine::general_purpose::STANDARD.decode(text).ok(),
        }
    }
}
