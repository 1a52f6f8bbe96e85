//! How many files a coordinator may hold open, and how many of them the connections of its jobs may take.
//!
//! The usual soft limit is 1024, for programs that use select(2). A coordinator does not, and jobs decide how many connections
//! it serves: at that limit a few of them that open all they may would leave it unable to start or to collect anybody else's
//! work. So it takes what the hard limit allows, and gives the connections of all jobs together a part of it. So do its workers, and their
//! jobs get the limit that the coordinator was started with: the kernel counts descriptors that a user's programs send each
//! other, and refuses to send more where the sender's own limit is reached. Whoever has the lower one stops first.
//!
//! Source: getrlimit(2), prlimit(2).

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::egress::door::CONNECTIONS_MAX;

/// What is asked for where the hard limit is higher: more than any machine runs jobs for.
const WANTED: u64 = 1 << 20;
/// Connections of jobs take one part in this many of all descriptors.
const DOORS_SHARE: u64 = 4;
/// A connection of a job, and the one to the server behind it.
const PER_CONNECTION: u64 = 2;
/// What a job gets in any case: programs that fetch packages open so many at once.
const CONNECTIONS_MIN: usize = 8;

/// The limit that this process was started with, once it has another.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Takes as many as the machine lets this process have. Where that fails, fewer connections are served.
pub fn raise() {
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.unwrap_or(WANTED).min(WANTED);
    if before.current.is_none_or(|now| now >= most) {
        return;
    }
    if setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).is_ok() {
        let _ = BEFORE.set(before);
    }
}

/// How many files a process may have open: what a job starts with, and what it can raise that to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfJob {
    /// The limit that this process was started with.
    pub at_first: u64,
    /// Less than what its workers have.
    pub at_most: u64,
}

/// What a job may have open that wants no more than this.
pub fn of_job(wanted: u64) -> OfJob {
    of_one_under(BEFORE.get().copied().unwrap_or_else(|| getrlimit(Resource::Nofile)), wanted)
}

fn of_one_under(before: Rlimit, wanted: u64) -> OfJob {
    let at_most = before.maximum.map_or(wanted, |machine| wanted.min(machine / 2));
    OfJob { at_first: before.current.map_or(at_most, |now| now.min(at_most)), at_most }
}

/// How many connections each of so many jobs may hold at once.
pub fn connections_for(jobs: usize) -> usize {
    connections(getrlimit(Resource::Nofile).current.unwrap_or(WANTED), jobs)
}

fn connections(descriptors: u64, jobs: usize) -> usize {
    let all = usize::try_from(descriptors / DOORS_SHARE / PER_CONNECTION).unwrap_or(usize::MAX);
    (all / jobs.max(1)).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reaches_its_limit_before_its_worker_does() {
        let check = |current, maximum, at_first, at_most| {
            let before = Rlimit { current: Some(current), maximum };
            assert_eq!(of_one_under(before, 16_384), OfJob { at_first, at_most }, "{before:?}");
        };
        check(1024, Some(1 << 20), 1024, 16_384);
        check(1024, None, 1024, 16_384);
        check(1 << 20, Some(1 << 20), 16_384, 16_384);
        check(1024, Some(4096), 1024, 2048);
        check(4096, Some(4096), 2048, 2048);
    }

    #[test]
    fn jobs_share_a_part_of_what_there_is() {
        for (descriptors, jobs, each) in
            [(1 << 20, 2, 256), (1 << 20, 1000, 131), (1024, 1, 128), (1024, 8, 16), (1024, 0, 128), (64, 8, 8)]
        {
            assert_eq!(connections(descriptors, jobs), each, "{jobs} of {descriptors}");
        }
    }
}
