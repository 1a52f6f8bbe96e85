//! What all processes of a job use, seen from outside: the supervisor adds up what proc(5) says of init's descendants.
//!
//! A process that ends while it is looked at counts nothing; one that forks meanwhile may be missed until the next look.

use std::cmp::Ordering;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::hunt::{count_children, descendants_of};
use crate::init::{HOLD_ALL, RELEASE_ALL};
use crate::stat::Stat;

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

    /// How many children init has at this moment, as one list tells: all that lost their parents, with those of them that have ended
    /// and that it has not reaped yet.
    pub fn children(&self) -> u64 {
        count_children(self.init)
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
        let threads = self.processes().into_iter().filter_map(living_thread);
        let all = each_memory_once(threads).into_iter().map(folder_of);
        all.filter_map(|folder| proportional_bytes(&folder).or_else(|| resident_bytes(&folder))).sum()
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

/// Threads, and pages in memory.
fn threads_and_pages(pid: Pid) -> Option<(u64, u64)> {
    let stat = Stat::of(pid)?;
    let pages = match stat.pages {
        0 => living_thread(pid).and_then(Stat::of).map_or(0, |thread| thread.pages),
        pages => pages,
    };
    Some((stat.threads, pages))
}

/// A thread that tells of its process's memory: the first one, whose number is the process's, and another when that has ended.
fn living_thread(pid: Pid) -> Option<Pid> {
    let has_memory = |thread: &Pid| Stat::of(*thread).is_some_and(|stat| stat.pages > 0);
    if has_memory(&pid) {
        return Some(pid);
    }
    let threads = fs::read_dir(folder_of(pid).join("task")).ok()?.flatten();
    threads.filter_map(|thread| Pid::from_raw(thread.file_name().to_str()?.parse().ok()?)).find(has_memory)
}

/// Where the kernel tells of a process; of any other thread only who knows its number finds it there.
fn folder_of(thread: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{thread}"))
}

/// One of all that have the same memory: the child of a vfork(2) uses its parent's until it starts a program, and each page would be
/// seen in both. Those that cannot be compared count each.
fn each_memory_once(threads: impl Iterator<Item = Pid>) -> Vec<Pid> {
    let mut once: Vec<Pid> = Vec::new();
    for thread in threads {
        if let Err(place) = once.binary_search_by(|known| order_of_memories(*known, thread)) {
            once.insert(place, thread);
        }
    }
    once
}

/// Compares the memories of two living threads. Source: kcmp(2).
fn order_of_memories(one: Pid, other: Pid) -> Ordering {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: the call takes numbers only and touches no memory of ours.
    let order = unsafe {
        libc::syscall(libc::SYS_kcmp, one.as_raw_nonzero().get(), other.as_raw_nonzero().get(), KCMP_VM, 0_u64, 0_u64)
    };
    match order {
        0 => Ordering::Equal,
        2 => Ordering::Greater,
        _ => Ordering::Less,
    }
}

/// Source: proc_pid_smaps(5). Not readable for a process that made itself undumpable.
fn proportional_bytes(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// All pages, for a process that lets nobody look closer: what it shares counts whole, because memory that is shared with
/// nobody looks the same. Source: proc_pid_statm(5).
fn resident_bytes(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("statm")).ok()?;
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
        let folder = folder_of(living_thread(own).expect("our own"));
        let exactly = proportional_bytes(&folder).expect("our own");
        assert!(
            exactly > 0 && resident_bytes(&folder).is_some_and(|bytes| bytes >= exactly / 2),
            "it leaves nothing out"
        );
    }

    #[test]
    fn a_memory_counts_once_however_many_use_it() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep starts");
        let (own, other) = (rustix::process::getpid(), Pid::from_child(&child));
        // Threads of one process share its memory, as a process and the child of its vfork do.
        let all = [own, rustix::thread::gettid(), other, own, other];
        assert_eq!(each_memory_once(all.into_iter()).len(), 2);
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
}
