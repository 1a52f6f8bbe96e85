//! WebAssembly guests: a second wall inside the cage.
//!
//! A guest is a WASI preview 1 module or a preview 2 component (`wasi:cli/command`). It reaches what its [`Guest`] names:
//! arguments, variables, preopened folders, two output streams. There are no sockets and no name service. The cage around
//! the process is the same as around any other job, so a fault in the runtime gives a guest no more than a command has,
//! and less: the process of a guest can neither execute programs nor fork ([`crate::seccomp`]).
//!
//! bytes → [`compile()`] → artifact → [`Loaded::new`] → [`Loaded::run`] → [`GuestEnd`]
//!
//! Compiling takes milliseconds to seconds and reads hostile input, so it has a cage of its own ([`crate::launch_compiler`])
//! that holds nothing but the module; its result is kept by the worker, by content. Loading trusts an artifact as one trusts
//! a program: it happens only in a closed cage, and an artifact is only ever used for the module it was made from. Start
//! reading at [`run`].

/// Ends a guest whose time is over, without a thread.
mod alarm;
/// A module becomes machine code.
mod compile;
/// Clocks and random numbers that are the same every time.
mod deterministic;
/// The engine's settings, all of them.
mod engine;
/// What a guest gets.
mod guest;
/// What the process of a guest does in its cage.
mod job;
/// Bounds within a guest's own store.
mod limits;
/// One guest from its entry to its end.
mod run;

pub use compile::{ARTIFACT_BYTES_MAX, CompileError, Kind, MODULE_BYTES_MAX, compile, kind};
pub use engine::{Metering, artifact_key, engine};
pub use guest::{Guest, Preopen, Stdio};
pub use job::GuestJob;
pub(crate) use job::{FAULTS, compile as compile_in_cage};
pub use limits::GuestLimits;
pub use run::{GuestEnd, LoadError, Loaded};
pub use wasmtime::Engine;
