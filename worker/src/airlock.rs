//! The airlock: what the coordinator asks for becomes a policy of the sandbox, and what the sandbox found becomes a report.
//! The only place that knows both vocabularies. It translates and decides nothing; the checks are the sandbox's.

use swarm_protocol as protocol;
use swarm_sandbox as sandbox;

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
        tmp: spec.tmp.clone(),
        network: match spec.network {
            protocol::NetworkSpec::None => sandbox::Network::None,
            protocol::NetworkSpec::Host => sandbox::Network::Host,
        },
        limits: sandbox::Limits {
            memory_bytes: spec.limits.memory_bytes,
            processes: spec.limits.processes,
            open_files: spec.limits.open_files,
            file_bytes: spec.limits.file_bytes,
            cpu: spec.limits.cpu,
        },
        landlock_abi_max: None,
    }
    .check()
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
    let access = match grant.access {
        protocol::Access::Read => sandbox::Access::Read,
        protocol::Access::Write => sandbox::Access::Write,
    };
    sandbox::PathGrant { path: grant.path.clone(), at: grant.at.clone(), access }
}

fn copy(cow: &protocol::Cow) -> sandbox::CopyOnWrite {
    let protocol::Cow { path, at, upper, work } = cow.clone();
    sandbox::CopyOnWrite { path, at, upper, work }
}

/// What was enforced, in the protocol's words.
pub fn report(enforcement: sandbox::Enforcement) -> protocol::EnforcementReport {
    let sandbox::Enforcement { tier, landlock_abi, enforced, not_enforced } = enforcement;
    let tier = match tier {
        sandbox::Tier::Landlock => protocol::Tier::Landlock,
        sandbox::Tier::Namespaces => protocol::Tier::Namespaces,
    };
    protocol::EnforcementReport { tier, landlock_abi, enforced, not_enforced }
}

/// Why nothing was run, in the protocol's words.
pub fn refusal(refused: sandbox::Refused) -> protocol::Refusal {
    protocol::Refusal { step: refused.step, reason: refused.reason }
}

/// What a probe found, in the protocol's words.
pub fn verdict(verdict: sandbox::Verdict) -> protocol::Verdict {
    match verdict {
        Ok(enforcement) => protocol::Verdict::Works(report(enforcement)),
        Err(refused) => protocol::Verdict::Fails(refusal(refused)),
    }
}
