//! What all processes of a job use, seen from outside: the supervisor adds up what proc(5) says of init's descendants.
//!
//! A process that ends while it is looked at counts nothing; one that forks meanwhile may be missed until the next look.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::hunt::descendants_of;
use crate::init::{HOLD_ALL, RELEASE_ALL};

/// No more processes are looked at: whoever has that many broke any limit that is not a mistake.
const PROCESSES_MAX: usize = 100_000;

/// A job's processes.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    init: Pid,
    pidfd: BorrowedFd<'a>,
}

/// What they use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Processes and threads.
    pub processes: u64,
    /// Bytes in memory; what processes share counts in each.
    pub memory_bytes: u64,
}

impl<'a> Tree<'a> {
    /// The descendants of init, which `pidfd` stands for.
    pub fn new(init: Pid, pidfd: BorrowedFd<'a>) -> Self {
        Tree { init, pidfd }
    }

    /// The processes themselves.
    pub fn processes(&self) -> Vec<Pid> {
        descendants_of(self.init, PROCESSES_MAX)
    }

    /// Adds up, quickly: one small file a process.
    pub fn measure(&self) -> Use {
        let page = rustix::param::page_size() as u64;
        let mut all = Use::default();
        for pid in self.processes() {
            let Some((threads, pages)) = threads_and_pages(pid) else { continue };
            all.processes += threads;
            all.memory_bytes += pages * page;
        }
        all
    }

    /// Bytes in memory, with what processes share divided among them. Costs a walk of every page table.
    pub fn memory_exactly(&self) -> u64 {
        let all = self.processes().into_iter();
        all.filter_map(|pid| proportional_bytes(pid).or_else(|| resident_bytes(pid))).sum()
    }

    /// Stops all processes where they are. Source: signal(7), SIGSTOP cannot be caught.
    pub fn hold(&self) {
        self.order(HOLD_ALL);
    }

    /// Lets them go on.
    pub fn release(&self) {
        self.order(RELEASE_ALL);
    }

    fn order(&self, signal: Signal) {
        // Nothing to be done about a process that has already ended.
        let _ = pidfd_send_signal(self.pidfd, signal);
    }
}

/// Threads, and pages in memory. Source: proc_pid_stat(5), fields 20 and 24.
fn threads_and_pages(pid: Pid) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    let fields = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = fields.split_ascii_whitespace().skip(17);
    let threads = fields.next()?.parse().ok()?;
    Some((threads, fields.nth(3)?.parse().ok()?))
}

/// Source: proc_pid_smaps(5). Not readable for a process that made itself undumpable.
fn proportional_bytes(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// All pages, for a process that lets nobody look closer: what it shares counts whole, because memory that is shared with
/// nobody looks the same. Source: proc_pid_statm(5).
fn resident_bytes(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let resident: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(resident * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_says_what_it_uses() {
        let own = rustix::process::getpid();
        let (threads, pages) = threads_and_pages(own).expect("our own");
        assert!(threads >= 1 && pages > 0);
        assert!(proportional_bytes(own).is_some_and(|bytes| bytes > 0));
        let exactly = proportional_bytes(own).expect("our own");
        assert!(resident_bytes(own).is_some_and(|bytes| bytes >= exactly / 2), "it leaves nothing out");
    }
}
