//! The airlock: what the coordinator asks for becomes a policy of the sandbox, and what the sandbox found becomes a report.
//! The only place that knows both vocabularies. It translates and decides nothing; the checks are the sandbox's.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox::wasm::{Guest, GuestLimits, Preopen};
use swarm_protocol as protocol;
use swarm_sandbox as sandbox;

/// Memory of a compiler, in bytes, where its task may have no more: what a module costs to compile is not what it costs to
/// run.
const COMPILER_MEMORY_BYTES: u64 = 2 << 30;

/// The policy of a spec.
///
/// # Errors
/// [`sandbox::PolicyError`] when the spec asks for something that is never granted; the job is refused.
pub fn policy(spec: &protocol::SandboxSpec) -> Result<sandbox::Policy, sandbox::PolicyError> {
    sandbox::Draft {
        tier: tier(spec.tier),
        worktree: worktree(&spec.worktree),
        grants: spec.grants.iter().map(grant).collect(),
        copies: spec.cow.iter().map(copy).collect(),
        hide: spec.hide.clone(),
        home: spec.home.clone(),
        home_files: spec.home_files.iter().map(home_file).collect(),
        tmp: spec.tmp.clone(),
        network: match &spec.network {
            protocol::NetworkSpec::None => sandbox::Network::None,
            protocol::NetworkSpec::Egress { port, .. } => sandbox::Network::Egress { port: *port },
            protocol::NetworkSpec::Host => sandbox::Network::Host,
        },
        limits: sandbox::Limits {
            memory_bytes: spec.limits.memory_bytes,
            processes: spec.limits.processes,
            open_files: spec.limits.open_files,
            open_files_at_first: spec.limits.open_files_at_first,
            disk_bytes: spec.limits.disk_bytes,
            files: spec.limits.files,
            cpu: spec.limits.cpu,
            groups: spec.limits.groups.iter().map(group).collect(),
            data_bytes: None,
        },
        landlock_abi_max: None,
    }
    .check()
}

/// A connection to the coordinator's end of a cage's door, where the spec names one.
///
/// # Errors
/// The system's: nobody listens there. The job is refused.
pub fn door(spec: &protocol::SandboxSpec) -> std::io::Result<Option<OwnedFd>> {
    let protocol::NetworkSpec::Egress { door: Some(path), .. } = &spec.network else { return Ok(None) };
    // A socket's address has room for 107 bytes, so a long path is reached through its folder's descriptor.
    let name = path.file_name().ok_or(rustix::io::Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, path.parent().ok_or(rustix::io::Errno::INVAL)?, flags, Mode::empty())?;
    let address = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(Some(UnixStream::connect(address)?.into()))
}

fn tier(tier: protocol::Tier) -> sandbox::Tier {
    match tier {
        protocol::Tier::Landlock => sandbox::Tier::Landlock,
        protocol::Tier::Namespaces => sandbox::Tier::Namespaces,
    }
}

fn worktree(spec: &protocol::WorktreeSpec) -> sandbox::Worktree {
    match spec.clone() {
        protocol::WorktreeSpec::Overlay { at, state, lowers, upper, work } => {
            sandbox::Worktree::Overlay { at, state, lowers, upper, work }
        }
        protocol::WorktreeSpec::Directory { at, path } => sandbox::Worktree::Directory { at, path },
    }
}

fn grant(grant: &protocol::Grant) -> sandbox::PathGrant {
    sandbox::PathGrant { path: grant.path.clone(), at: grant.at.clone(), access: access(grant.access) }
}

fn home_file(file: &protocol::HomeFile) -> sandbox::HomeFile {
    sandbox::HomeFile { path: file.path.clone(), text: file.text.clone() }
}

fn access(access: protocol::Access) -> sandbox::Access {
    match access {
        protocol::Access::Read => sandbox::Access::Read,
        protocol::Access::Write => sandbox::Access::Write,
    }
}

/// What a WebAssembly guest of a job gets.
pub fn guest(start: &protocol::Start, job: &protocol::WasmJob) -> Guest {
    let spec = &start.sandbox;
    let preopen = |preopen: &protocol::WasmPreopen| Preopen {
        path: preopen.path.clone(),
        name: preopen.name.clone(),
        access: access(preopen.access),
    };
    Guest {
        args: job.args.clone(),
        env: spec.env.clone(),
        preopens: job.preopens.iter().map(preopen).collect(),
        limits: GuestLimits {
            memory_bytes: spec.limits.memory_bytes.unwrap_or(GuestLimits::MEMORY_BYTES_DEFAULT),
            time: start.timeout_ms.map(Duration::from_millis),
            fuel: job.fuel,
            ..GuestLimits::default()
        },
        seed: job.seed,
        date: source_date(&spec.env).unwrap_or(0),
    }
}

/// The date that tools take for "now" where they are to be reproducible, in seconds since 1970.
fn source_date(env: &[(String, String)]) -> Option<u64> {
    env.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH")?.1.parse().ok()
}

/// The cage of a compiler: it reads nothing but the system's own folders and writes nothing but `scratch`, an empty folder.
///
/// # Errors
/// [`sandbox::PolicyError`] when `scratch` lies where nothing may be written.
pub fn compiler_policy(spec: &protocol::SandboxSpec, scratch: &Path) -> Result<sandbox::Policy, sandbox::PolicyError> {
    let tier = tier(spec.tier);
    let (home, tmp) = match tier {
        sandbox::Tier::Namespaces => (spec.home.clone(), None),
        sandbox::Tier::Landlock => (scratch.to_owned(), Some(scratch.to_owned())),
    };
    sandbox::Draft {
        tier,
        worktree: sandbox::Worktree::Directory { at: scratch.to_owned(), path: scratch.to_owned() },
        grants: Vec::new(),
        copies: Vec::new(),
        hide: Vec::new(),
        home,
        home_files: Vec::new(),
        tmp,
        network: sandbox::Network::None,
        limits: sandbox::Limits {
            data_bytes: Some(spec.limits.memory_bytes.unwrap_or(0).max(COMPILER_MEMORY_BYTES)),
            disk_bytes: Some(0),
            ..sandbox::Limits::default()
        },
        landlock_abi_max: None,
    }
    .check()
}

fn copy(cow: &protocol::Cow) -> sandbox::CopyOnWrite {
    let protocol::Cow { path, at, shown, upper, work } = cow.clone();
    sandbox::CopyOnWrite { path, at, shown, upper, work }
}

/// Where groups can be made, or one was made.
pub fn group(spec: &protocol::GroupSpec) -> sandbox::GroupPlace {
    let controller = |controller: &protocol::ControllerSpec| match controller {
        protocol::ControllerSpec::Memory => sandbox::Controller::Memory,
        protocol::ControllerSpec::Processes => sandbox::Controller::Processes,
        protocol::ControllerSpec::Cpu => sandbox::Controller::Cpu,
    };
    sandbox::GroupPlace {
        folder: spec.folder.clone(),
        version: if spec.version == 2 { sandbox::cgroup::Version::V2 } else { sandbox::cgroup::Version::V1 },
        controllers: spec.controllers.iter().map(controller).collect(),
    }
}

/// Where groups can be made, in the protocol's words.
pub fn group_spec(place: sandbox::GroupPlace) -> protocol::GroupSpec {
    let controller = |controller: sandbox::Controller| match controller {
        sandbox::Controller::Memory => protocol::ControllerSpec::Memory,
        sandbox::Controller::Processes => protocol::ControllerSpec::Processes,
        sandbox::Controller::Cpu => protocol::ControllerSpec::Cpu,
    };
    protocol::GroupSpec {
        version: if place.version == sandbox::cgroup::Version::V2 { 2 } else { 1 },
        controllers: place.controllers.into_iter().map(controller).collect(),
        folder: place.folder,
    }
}

/// What was enforced, in the protocol's words.
pub fn report(enforcement: sandbox::Enforcement) -> protocol::EnforcementReport {
    let sandbox::Enforcement { tier, landlock_abi, mut enforced, not_enforced, mut limits } = enforcement;
    // What a job prints passes through this very worker.
    enforced.push("output".to_owned());
    limits.push("output: worker".to_owned());
    let tier = match tier {
        sandbox::Tier::Landlock => protocol::Tier::Landlock,
        sandbox::Tier::Namespaces => protocol::Tier::Namespaces,
    };
    protocol::EnforcementReport { tier, landlock_abi, enforced, not_enforced, limits }
}

/// Why nothing was run, in the protocol's words.
pub fn refusal(refused: sandbox::Refused) -> protocol::Refusal {
    let lacks_room = refused.lacks_processes();
    protocol::Refusal { step: refused.step, reason: refused.reason, lacks_room }
}

/// What a probe is asked, in the sandbox's words.
pub fn question(question: swarm_protocol::Question) -> swarm_sandbox::Question {
    match question {
        swarm_protocol::Question::Strongest => swarm_sandbox::Question::Strongest,
        swarm_protocol::Question::Each => swarm_sandbox::Question::Each,
    }
}

/// What a probe found, in the protocol's words.
pub fn verdict(verdict: sandbox::Verdict) -> protocol::Verdict {
    match verdict {
        Ok(enforcement) => protocol::Verdict::Works(report(enforcement)),
        Err(refused) => protocol::Verdict::Fails(refusal(refused)),
    }
}
