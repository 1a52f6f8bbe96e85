//! Ends a guest whose time is over, without a thread: a timer of the kernel, whose signal moves the engine's epoch on. The
//! guest looks at the epoch at each loop and call. A guest that waits inside the host instead is ended by the supervisor,
//! whose own clock runs out a moment later.
//!
//! Source: setitimer(2); `Engine::increment_epoch` may be called from signal handlers.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::io;
use wasmtime::Engine;

use crate::mounts::last_error;

static ENGINE: OnceLock<Engine> = OnceLock::new();

extern "C" fn ring(_: libc::c_int) {
    if let Some(engine) = ENGINE.get() {
        engine.increment_epoch();
    }
}

/// Moves the epoch of `engine` on after `time`. For the one guest of a process.
///
/// # Errors
/// The kernel's.
pub fn set(engine: &Engine, time: Duration) -> io::Result<()> {
    ENGINE.get_or_init(|| engine.clone());
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ring as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // Waiting calls go on; a guest near the end of its own stack is interrupted on another one.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler reads an initialised static and adds to an atomic number, both of which signals may do.
    if unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(last_error());
    }
    let at_least = time.max(Duration::from_micros(1)); // Zero would switch the timer off.
    let once = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: libc::timeval {
            tv_sec: libc::time_t::try_from(at_least.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_usec: at_least.subsec_micros().into(),
        },
    };
    // SAFETY: the value is initialised and outlives the call; the old one is not asked for.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut()) } != 0 {
        return Err(last_error());
    }
    Ok(())
}
