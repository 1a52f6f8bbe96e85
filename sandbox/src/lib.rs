//! Policy in, enforcement out: closes a cage around one program with the kernel's own means.
//!
//! [`Policy`] is what may be done; [`launch`] starts the program inside it and gives back a [`Caged`] tree of processes;
//! [`Enforcement`] is what the kernel really holds it to. A step that fails refuses the launch: nothing ever runs in less
//! than was asked for. Two tiers share one sequence ([`launch`](mod@launch) is the list of its steps):
//!
//! - *namespaces*: user, mount, pid, network, ipc and uts namespaces around a minimal root, then Landlock and seccomp;
//! - *landlock*: Landlock and seccomp alone, for machines that allow no namespaces.
//!
//! The crate reads no environment, prints nothing and knows neither plans nor the worker's protocol. It must be used from
//! a process with a single thread: it clones processes that go on running Rust code. Start reading at [`launch`](mod@launch).

/// A cage that is made before its job is known.
pub mod ahead;
/// A launched tree of processes, seen from outside.
mod caged;
/// Tries what must fail, from inside, before the job may start.
mod canary;
/// Gives up every capability, for good.
mod capabilities;
/// Control groups: the kernel counts a whole job together.
pub mod cgroup;
/// Changes metadata for a job that may not do it itself.
mod clerk;
/// What a job writes to disk, measured from outside.
mod disk;
/// The port through which a job speaks to the egress proxy.
mod door;
/// What is enforced and what is not, in words.
pub mod enforcement;
/// Would this policy allow that access?
pub mod evaluate;
/// Files that a job finds in its home folder.
mod home;
/// What a cage has taken over of the host, and whether the host is still like that.
mod host_view;
/// Finds descendants, and ends all that a job left behind.
mod hunt;
/// The calling program as it lies in memory.
pub mod image;
/// The first process of a cage: it reaps, counts and ends all others.
mod init;
/// Kernel Landlock: which files, ports and processes may be touched.
pub mod landlock;
/// The launch sequence, one function a step.
pub mod launch;
/// Limits of resources, and by which means of this machine each is held.
pub mod limits;
/// The kernel's mount calls, as few small functions.
mod mounts;
/// Namespaces, id maps, loopback and host name.
mod namespaces;
/// A network namespace that serves one job after another.
pub mod network;
/// Copy-on-write mounts.
mod overlay;
/// What may be done: checked when built.
pub mod policy;
/// What this machine can do, found out by doing.
pub mod probe;
/// The program to run and its environment.
mod program;
/// Where a path leads inside.
mod reach;
/// What a job asks its clerk for.
mod request;
/// Whether there was room for a job's processes.
mod room;
/// The file tree that a job sees in the namespaces tier.
mod root;
/// System calls that no job makes.
pub mod seccomp;
/// What the kernel says of one process in a line.
mod stat;
/// What the inside tells the outside: one record a pipe write.
mod status;
/// What all processes of a job use, seen from outside.
mod tree;
/// Permissions given back to what a job has locked.
mod unlock;
/// WebAssembly guests: a second wall inside the cage.
pub mod wasm;
/// Looks after the limits of one job, from its launch to after its end.
pub mod watchdog;
/// Which folders must stay where they are, so that what a policy hides stays hidden.
mod ways;

/// Makes what does not depend on a policy once, for all processes that are forked from the calling one.
pub fn prepare() {
    seccomp::prepare();
    landlock::prepare();
    limits::prepare();
    namespaces::prepare();
    capabilities::bound_for_all();
}

pub use caged::{Caged, Left, Reaped, Remains};
pub use cgroup::{Controller, GroupPlace};
pub use enforcement::{Enforcement, Tier};
pub use evaluate::{Decision, Rule, Wish, evaluate};
pub use home::HomeFile;
pub use launch::{
    Errand, Kind, Refused, Want, launch, launch_compiler, launch_errand, launch_guest, launch_on_terminal,
};
pub use namespaces::{Cloned, fork};
pub use policy::{Access, CopyOnWrite, Draft, Limits, Network, PathGrant, Policy, PolicyError, Worktree};
pub use probe::{Probe, Question, Verdict, probe};
pub use program::{Program, ProgramError};
pub use reach::{is_of_a_folder, reach};
pub use seccomp::Metadata;
pub use status::{End, Status, Usage};
pub use watchdog::{Breach, Grade};
