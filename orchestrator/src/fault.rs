//! Where a run could be cut short: every effect that outlives the process has a number, and a test can say at which number
//! the process dies, or which error it gets there instead. Tests of databases call these fault points.
//!
//! Nothing happens unless [`arm`] was called; the command line does so for a flag that it does not show. A point costs one
//! relaxed load then.

use std::io;
use std::str::FromStr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

/// What happens at an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The effect's number, from 1.
    pub at: u64,
    /// What happens there.
    pub act: Act,
}

/// What happens at an effect, instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The process is killed, as by `kill -9`.
    Die,
    /// Whoever has the effect panics, as at a bug of ours.
    Panic,
    /// This one fails with an error of the system, and so do all that follow.
    Fail(Errno),
}

/// The number at which something happens; 0 while nothing is armed.
static AT: AtomicU64 = AtomicU64::new(0);
/// Effects so far; counted only while something is armed.
static DONE: AtomicU64 = AtomicU64::new(0);
/// The error's number; 0 dies, and [`PANIC`] panics.
static ERROR: AtomicI32 = AtomicI32::new(0);

/// In [`ERROR`], no error of the system.
const PANIC: i32 = -1;

/// Makes a fault happen in this process, once for `Die` and `Panic` and from there on for `Fail`.
pub fn arm(fault: Fault) {
    let error = match fault.act {
        Act::Die => 0,
        Act::Panic => PANIC,
        Act::Fail(errno) => errno.raw_os_error(),
    };
    ERROR.store(error, Ordering::Relaxed);
    AT.store(fault.at, Ordering::Release);
}

/// Stands before an effect that outlives the process.
///
/// # Errors
/// The error that a test asked for; none ever otherwise.
pub fn point() -> io::Result<()> {
    let at = AT.load(Ordering::Relaxed);
    if at == 0 { Ok(()) } else { reached(at) }
}

#[cold]
fn reached(at: u64) -> io::Result<()> {
    let now = DONE.fetch_add(1, Ordering::AcqRel) + 1;
    match ERROR.load(Ordering::Relaxed) {
        0 if now == at => {
            // It cannot fail, and nothing follows it.
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        PANIC if now == at => panic!("BUG: asked for at effect {now}"),
        error if error > 0 && now >= at => Err(io::Error::from_raw_os_error(error)),
        _ => Ok(()),
    }
}

impl FromStr for Fault {
    type Err = &'static str;

    /// `die@17`, `panic@17`, `eio@17`, `enospc@17`, `emfile@17`, `erofs@17`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (act, at) = text.split_once('@').ok_or("it has the form ACT@NUMBER")?;
        let act = match act {
            "die" => Act::Die,
            "panic" => Act::Panic,
            "eio" => Act::Fail(Errno::IO),
            "enospc" => Act::Fail(Errno::NOSPC),
            "emfile" => Act::Fail(Errno::MFILE),
            "erofs" => Act::Fail(Errno::ROFS),
            _ => return Err("the acts are die, panic, eio, enospc, emfile and erofs"),
        };
        let at = at.parse().map_err(|_| "the number is from 1")?;
        if at == 0 { Err("the number is from 1") } else { Ok(Fault { at, act }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_words() {
        assert_eq!("die@3".parse(), Ok(Fault { at: 3, act: Act::Die }));
        assert_eq!("enospc@1".parse(), Ok(Fault { at: 1, act: Act::Fail(Errno::NOSPC) }));
        for text in ["die", "die@0", "nap@3", "eio@x"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_happens_unless_asked_for() {
        assert!((0..1000).all(|_| point().is_ok()));
    }
}
