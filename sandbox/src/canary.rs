//! The self-check: from inside, after all is closed, tries what must fail. A canary that goes through ends the launch.
//!
//! Each act would succeed without the cage (that is what the kernel tests show), and none leaves a trace when refused.

use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::thread::{SecureComputingMode, capabilities, no_new_privs, secure_computing_mode};

use crate::enforcement::Tier;
use crate::mounts::last_error;
use crate::policy::Policy;

/// What is tried, prepared before the filter is in place.
pub struct Canary {
    device: PathBuf,
    tier: Tier,
}

impl Canary {
    /// For a cage of `policy`.
    pub fn new(policy: &Policy) -> Self {
        let draft = policy.get();
        Canary { device: draft.worktree.at().join(".swarm-canary"), tier: draft.tier }
    }

    /// Tries everything.
    ///
    /// # Errors
    /// What was possible and must not be, for people.
    pub fn sing(&self) -> Result<(), String> {
        let held = |what: &str, holds: bool| if holds { Ok(()) } else { Err(format!("{what} is not in force")) };
        held("no_new_privs", no_new_privs() == Ok(true))?;
        held("the seccomp filter", secure_computing_mode() == Ok(SecureComputingMode::Filter))?;
        held("the loss of capabilities", capabilities(None).is_ok_and(|sets| sets.permitted.is_empty()))?;
        // SAFETY: unshare(2) without flags changes nothing; the filter refuses it nevertheless.
        let unshared = unsafe { libc::unshare(0) };
        held("the refusal of unshare", unshared == -1 && last_error() == Errno::PERM)?;
        // Device 0/0 is a whiteout, which needs no privilege to make, and Landlock is asked before the file system.
        let device = mknodat(CWD, &self.device, FileType::CharacterDevice, Mode::RUSR, 0);
        held("Landlock's refusal of a device file in the worktree", device == Err(Errno::ACCESS))?;
        let parent = rustix::process::getppid();
        held("the pid namespace", self.tier == Tier::Landlock || parent == Some(rustix::process::Pid::INIT))
    }
}
