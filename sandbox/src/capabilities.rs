//! Gives up every capability, for good: effective, permitted, inheritable, ambient and bounding sets become empty, and
//! user id 0 no longer means anything at an exec. Source: capabilities(7).

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_capabilities_secure_bits,
};

/// Capabilities of the running kernel are numbered without gaps; asking for a higher one fails, which ends the loop.
const CAPABILITY_MAX: u32 = 63;

/// Makes sure that no exec gives a capability to the calling process or to what it forks: the bounding set becomes empty. What
/// the process holds itself stays until [`give_up`]. A process without any capability to begin with (an ordinary user outside
/// a namespace) has nothing to drop, and cannot regain any because `no_new_privs` is set before its exec.
///
/// Forty calls, so it is done once, before the job is forked, and not in the job and in init.
pub fn bound() -> io::Result<()> {
    if capabilities(None)?.permitted.is_empty() {
        return Ok(());
    }
    for capability in 0..=CAPABILITY_MAX {
        // SAFETY: PR_CAPBSET_DROP takes a number and touches no memory.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        if result != 0 {
            match crate::mounts::last_error() {
                io::Errno::INVAL => break,
                error => return Err(error),
            }
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )
}

/// Whether [`bound_for_all`] has done it for this process.
static BOUND_FOR_ALL: AtomicBool = AtomicBool::new(false);

/// Does for all processes that are forked from the calling one what [`bound`] does for one, where it may. A new user namespace
/// begins with a full set again, so it counts for those that enter none.
pub fn bound_for_all() {
    if bound().is_ok() {
        BOUND_FOR_ALL.store(true, Ordering::Relaxed);
    }
}

/// Whether the calling process is bound because the one that it was forked from is.
pub fn is_bound_for_all() -> bool {
    BOUND_FOR_ALL.load(Ordering::Relaxed)
}

/// Gives up every capability of the calling process, which must have been [`bound`] before.
pub fn give_up() -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}
