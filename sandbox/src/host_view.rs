//! What a cage that is made [ahead](crate::ahead) has taken over of the host, and whether the host is still like that: its
//! mounts, and the files of `/etc` that jobs see. Programs replace those by new ones of the same name.
//!
//! Source: proc_pid_mountinfo(5) and poll(2): the table says POLLPRI once for each change since it was looked at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, open, openat, statat};
use rustix::io;

use crate::policy::Network;
use crate::root::{ETC_ENTRIES, ETC_NETWORK_ENTRIES};

/// The host as it was at one moment.
#[derive(Debug)]
pub struct HostView {
    mounts: OwnedFd,
    network: Network,
    etc: Vec<Option<Entry>>,
}

/// An entry of `/etc`: which one it is, and when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    device: u64,
    number: u64,
    /// Seconds and nanoseconds.
    changed: (i64, u64),
}

impl HostView {
    /// Of this moment, as far as jobs with such a network see it.
    ///
    /// # Errors
    /// The system's: `/proc` or `/etc` cannot be opened.
    pub fn now(network: Network) -> io::Result<Self> {
        let mounts = open(c"/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(HostView { mounts, network, etc: etc(network)? })
    }

    /// Readable by priority when a mount has changed.
    pub fn mounts(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    /// Whether the host is still like that. What cannot be told is not.
    pub fn holds(&self) -> bool {
        let mut changed = [PollFd::new(&self.mounts, PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        io::retry_on_intr(|| poll(&mut changed, Some(&at_once))) == Ok(0)
            && etc(self.network).is_ok_and(|now| now == self.etc)
    }
}

fn etc(network: Network) -> io::Result<Vec<Option<Entry>>> {
    let folder = openat(CWD, c"/etc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let of_hosts = ETC_NETWORK_ENTRIES.iter().filter(|_| network == Network::Host);
    let entry = |name: &&str| {
        let stat = statat(&folder, *name, AtFlags::empty()).ok()?;
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        Some(Entry { device: stat.st_dev, number: stat.st_ino, changed })
    };
    Ok(ETC_ENTRIES.iter().chain(of_hosts).map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_host_is_as_it_was() {
        for network in [Network::None, Network::Host] {
            let view = HostView::now(network).expect("a view");
            assert!(view.holds() && view.holds());
            let other = HostView { etc: vec![None; view.etc.len()], ..view };
            assert!(!other.holds());
        }
    }
}
