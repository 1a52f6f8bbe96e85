//! A policy as one machine grants it, and what becomes of it for one attempt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use swarm_protocol::{Cow, Grant, LimitsSpec, NetworkSpec, SandboxSpec, Tier, WorktreeSpec};

use super::SYSTEM;
use super::copies::Copies;
use super::paths::{KERNEL, MACHINE};
use super::remedy::Origin;
use crate::egress::Allowlist;

/// Where a task has its private home whose caller has none of their own: `/` (a user without a name), or a folder of the system
/// (`/bin`, `/usr/sbin`, `/dev/null`).
const HOME_OF_NOBODY: &str = "/run/swarm/home";

/// Where tasks have their private home: where the caller's is, so that what was written for that fits.
pub(super) fn private_home(of_caller: &Path) -> &Path {
    let taken = [KERNEL, SYSTEM, MACHINE].into_iter().flatten().any(|folder| of_caller.starts_with(folder));
    if taken || of_caller.parent().is_none() { Path::new(HOME_OF_NOBODY) } else { of_caller }
}

/// A policy resolved on this host; the same for every attempt that uses it.
#[derive(Debug, Clone)]
pub struct Cage {
    pub(super) tier: Tier,
    pub(super) grants: Vec<Grant>,
    /// Those among them that the policy names itself.
    pub(super) named: Vec<Grant>,
    /// Host folders to be seen copy-on-write, at their own paths.
    pub(super) cows: Vec<PathBuf>,
    /// The same, put together where one overlay serves several.
    pub(super) copies: Vec<Copies>,
    pub(super) hide: Vec<PathBuf>,
    pub(super) home: PathBuf,
    pub(super) network: NetworkSpec,
    pub(super) egress: Option<Allowlist>,
    pub(super) limits: LimitsSpec,
    /// Those among them that the policy names itself.
    pub(super) limits_named: LimitsSpec,
    pub(super) env: Vec<(String, String)>,
    /// Those among them whose values nobody is to read.
    pub(super) secrets: Vec<String>,
    /// What the policy insists on, in the words of `require`.
    pub require: Vec<String>,
    /// Things a person should know about the policy.
    pub warnings: Vec<String>,
    /// What it was resolved with.
    pub origin: Origin,
}

/// One attempt's own places, made by the executor.
#[derive(Debug, Clone)]
pub struct AttemptPlaces {
    /// The attempt's folder on the host.
    pub folder: PathBuf,
    /// The same, relative to the state folder that the worktree's layers start from.
    pub relative: String,
}

impl Cage {
    /// Host folders and files beside the worktree and the system's own, as every attempt sees them.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Host folders that every attempt sees copy-on-write.
    pub fn copy_on_write(&self) -> &[PathBuf] {
        &self.cows
    }

    /// The folders in which every attempt looks for programs, separated by colons.
    pub fn program_path(&self) -> &str {
        self.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value)
    }

    /// The names of the variables that every attempt gets.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(name, _)| name.as_str())
    }

    /// The names and values of the variables that every attempt gets and that nobody is to read.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let secret = |(name, _): &&(String, String)| self.secrets.contains(name);
        self.env.iter().filter(secret).map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What a recorded result depends on: everything but the limits that the policy does not name, and what is for people only.
    /// Those limits are shares of what the machine has free, and work that broke none gives the same result under others. A limit
    /// that somebody wrote is a claim about the work, which nobody has made under it before.
    pub fn ingredients(&self) -> String {
        let Cage { tier, grants, named, cows, copies, hide, home, network, egress, env, secrets, require, .. } = self;
        let Cage { limits: _, limits_named, warnings: _, origin: Origin { worktree, git, .. }, .. } = self;
        let places = (grants, named, cows, copies, hide, home, worktree, git);
        format!("{:?}", (tier, places, network, egress, env, secrets, require, limits_named))
    }

    /// How much every command may use.
    pub fn limits(&self) -> &LimitsSpec {
        &self.limits
    }

    /// The hosts that workers of this policy may reach through the proxy, where the policy lists any.
    pub fn egress(&self) -> Option<&Allowlist> {
        self.egress.as_ref()
    }

    /// What the policy names in `read` and `write`.
    pub fn named(&self) -> &[Grant] {
        &self.named
    }

    /// Paths that no attempt sees.
    pub fn hidden(&self) -> &[PathBuf] {
        &self.hide
    }

    /// The tier that workers of this policy enter.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    fn is_of_checkout(&self, path: &Path) -> bool {
        path.starts_with(&self.origin.worktree) && !path.starts_with(&self.origin.git)
    }

    fn hides(&self, path: &Path) -> bool {
        self.hide.iter().any(|hidden| path.starts_with(hidden))
    }

    /// One attempt's cage. `grants` are the attempt's own (the object store, its artifacts, those of its needs), `cow` the
    /// worktree's caches, `env` the task's variables, which win over the policy's.
    pub fn spec(
        &self,
        worktree: WorktreeSpec,
        mut cow: Vec<Cow>,
        mut grants: Vec<Grant>,
        env: Vec<(String, String)>,
        places: &AttemptPlaces,
    ) -> SandboxSpec {
        let namespaces = self.tier == Tier::Namespaces;
        let tmp = (!namespaces).then(|| places.folder.join("tmp"));
        let home = if namespaces { self.home.clone() } else { places.folder.join("home") };
        for (number, Copies { path, shown }) in self.copies.iter().enumerate() {
            cow.push(Cow {
                path: path.clone(),
                at: path.clone(),
                shown: shown.clone(),
                upper: format!("{}/cow/home-{number}/upper", places.relative),
                work: format!("{}/cow/home-{number}/work", places.relative),
            });
        }
        let mut all = self.grants.clone();
        // What a policy hides of the checkout is hidden, whoever else shows it.
        grants.retain(|grant| !(self.is_of_checkout(&grant.path) && self.hides(&grant.path)));
        all.append(&mut grants);
        let mut variables: BTreeMap<String, String> = self.env.iter().cloned().collect();
        variables.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
        let tmp_inside = tmp.as_deref().unwrap_or_else(|| private_tmp(worktree.at()));
        variables.insert("TMPDIR".to_owned(), tmp_inside.to_string_lossy().into_owned());
        if !namespaces {
            // The system's configuration is seen to be there and cannot be read, which older gits die of; elsewhere it is not there.
            variables.insert("GIT_CONFIG_NOSYSTEM".to_owned(), "1".to_owned());
        }
        variables.extend(env);
        SandboxSpec {
            tier: self.tier,
            worktree,
            grants: all,
            cow,
            hide: self.hide.clone(),
            home,
            home_files: Vec::new(),
            tmp,
            network: self.network.clone(),
            limits: self.limits.clone(),
            env: variables.into_iter().collect(),
        }
    }
}

/// What `$TMPDIR` names in the namespaces tier: a folder in which pipes and sockets can be made. In a `/tmp` that holds the
/// worktree they cannot, and the cage has another one.
fn private_tmp(worktree: &Path) -> &'static Path {
    Path::new(if worktree.starts_with("/tmp") { "/run/swarm/tmp" } else { "/tmp" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_no_cage_can_have_is_replaced() {
        let home = |path: &'static str| private_home(Path::new(path)).to_str().expect("text");
        for nobodys in ["/", "/bin", "/usr/sbin", "/dev/null", "/etc"] {
            assert_eq!(home(nobodys), HOME_OF_NOBODY, "{nobodys}");
        }
        for own in ["/root", "/home/u", "/nonexistent", "/var/lib/x"] {
            assert_eq!(home(own), own);
        }
    }
}
