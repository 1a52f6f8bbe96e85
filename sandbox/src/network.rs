//! A network namespace that serves one job after another, as long as nobody has done anything in it.
//!
//! The kernel needs longer to make one and to take it apart than for all other namespaces of a cage together, and most jobs
//! without network never open a socket. So the supervisor enters one itself, gives its jobs that one instead of a new one,
//! and passes it on afterwards if it is *untouched*: no packet ever went through its loopback, no counter has moved, no
//! socket and no flow label is left. Nobody can tell such a namespace from a new one. All else that a namespace holds (routes,
//! addresses, filters, settings) takes a capability over it, which no job has, and less than before: it belongs to the
//! supervisor's user namespace, not to the job's.
//!
//! Only a process that may make network namespaces without a user namespace (root) can do this; others give each job a new
//! one, as [`crate::launch`] does by itself.
//!
//! Source: network_namespaces(7), setns(2), proc_pid_net(5), Documentation/networking/snmp_counter.rst,
//! `net/ipv6/ip6_flowlabel.c` of Linux.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io;

use crate::mounts::last_error;
use crate::namespaces::loopback_up;

/// Longer than any table of an untouched network.
const TABLE_BYTES: usize = 32 << 10;

/// Says that the calling process is in a network namespace of its own, with nothing in it but a loopback.
#[derive(Debug, Clone, Copy)]
pub struct Private(());

/// A network that the calling process has entered for a job, and the way back.
#[derive(Debug)]
pub struct Entered {
    way_back: OwnedFd,
}

/// Puts the calling process into `given`, which [`Entered::untouched`] gave to another one, or into a new network namespace. `None` where
/// that cannot be done (who may not make network namespaces; more in one than an untouched loopback): jobs are to get a namespace of
/// their own then, and the process is where it was.
///
/// # Errors
/// There is no way back from a network that is of no use.
pub fn enter(given: Option<OwnedFd>) -> io::Result<Option<Entered>> {
    let Ok(way_back) = own() else { return Ok(None) };
    let moved = match &given {
        Some(given) => set_network(given),
        None => new_network(),
    };
    if moved.is_err() {
        return Ok(None);
    }
    let entered = Entered { way_back };
    let is_up = given.is_some() || loopback_up().is_ok();
    // Whatever was given: never the host's.
    if is_up && holds("dev", is_idle_loopback) {
        return Ok(Some(entered));
    }
    entered.leave().map(|()| None)
}

impl Entered {
    /// For the launch of a job.
    pub fn private(&self) -> Private {
        Private(())
    }

    /// Puts the calling process back to where it was.
    ///
    /// # Errors
    /// The system's; whatever needs the host's network must not be done.
    pub fn leave(self) -> io::Result<()> {
        set_network(self.way_back)
    }

    /// The network namespace of the calling process, if nobody has done anything in it since it was made. To be asked when the
    /// job and all that it started are dead.
    pub fn untouched(&self) -> Option<OwnedFd> {
        let is_untouched = holds("dev", is_idle_loopback)
            && holds("sockstat", has_no_sockets)
            && holds("sockstat6", has_no_sockets)
            && holds("snmp", |text| counted_nothing(text, KEPT_BY_SNMP))
            && holds("netstat", |text| counted_nothing(text, &[]))
            && holds("snmp6", |text| text.lines().all(|line| line.split_whitespace().nth(1) == Some("0")))
            && holds("ip6_flowlabel", |text| text.lines().count() <= 1);
        is_untouched.then(own)?.ok()
    }
}

/// The network of the calling process.
fn own() -> io::Result<OwnedFd> {
    open(c"/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Whether a table of the calling process's network is as it should be. One that is not there, of a protocol that the kernel
/// does not have, is; one that cannot be read is not.
fn holds(table: &str, is_so: impl Fn(&str) -> bool) -> bool {
    match read_table(table) {
        Ok(text) => is_so(&text),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && table.contains('6'),
    }
}

/// The kernel says of no table how long it is, so this asks for far more than there is: two calls instead of ten.
fn read_table(table: &str) -> std::io::Result<String> {
    let mut text = String::with_capacity(TABLE_BYTES);
    fs::File::open(format!("/proc/self/net/{table}"))?.take(TABLE_BYTES as u64).read_to_string(&mut text)?;
    if text.len() < TABLE_BYTES { Ok(text) } else { Err(std::io::ErrorKind::FileTooLarge.into()) }
}

/// Of `dev`: one interface below two lines of titles, the loopback, and all that it counted is nothing.
fn is_idle_loopback(text: &str) -> bool {
    let mut interfaces = text.lines().skip(2);
    let counts = interfaces.next().and_then(|line| line.trim_start().strip_prefix("lo:"));
    counts.is_some_and(|counts| counts.split_whitespace().all(|count| count == "0")) && interfaces.next().is_none()
}

/// Of `sockstat` and `sockstat6`: what they say of this namespace. `alloc`, `mem`, `memory` and `orphan` are the machine's.
fn has_no_sockets(text: &str) -> bool {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.all(|(_, words)| {
        let words: Vec<&str> = words.split_whitespace().collect();
        words.chunks(2).all(|pair| !matches!(pair[0], "used" | "inuse" | "tw") || pair.get(1) == Some(&"0"))
    })
}

/// What `snmp` shows beside counters: settings.
const KEPT_BY_SNMP: &[&str] = &["Forwarding", "DefaultTTL", "RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn"];

/// Of `snmp` and `netstat`, which are pairs of lines, names and numbers: whether all numbers but those of `kept` are 0.
fn counted_nothing(text: &str, kept: &[&str]) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).all(|pair| {
        let [names, numbers] = pair else { return false };
        let (names, numbers) = (names.split_whitespace().skip(1), numbers.split_whitespace().skip(1));
        names.clone().count() == numbers.clone().count()
            && names.zip(numbers).all(|(name, number)| number == "0" || kept.contains(&name))
    })
}

fn new_network() -> io::Result<()> {
    // SAFETY: unshare(2) touches no memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(last_error()) }
}

fn set_network(namespace: impl AsFd) -> io::Result<()> {
    // SAFETY: setns(2) touches no memory.
    let result = unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: &str = "Inter-|   Receive\n face |bytes    packets\n";

    #[test]
    fn only_a_loopback_that_carried_nothing_is_idle() {
        let check = |text: &str, expected| assert_eq!(is_idle_loopback(&format!("{TITLES}{text}")), expected, "{text}");
        check("    lo:       0       0    0\n", true);
        check("    lo:       0       1    0\n", false);
        check("    lo:       0       0    0\n  eth0:       0       0    0\n", false);
        check("  eth0:       0       0    0\n", false);
        check("", false);
    }

    #[test]
    fn a_socket_that_is_left_is_seen_and_the_machines_are_not() {
        let check = |text, expected| assert_eq!(has_no_sockets(text), expected, "{text}");
        check("sockets: used 0\nTCP: inuse 0 orphan 3 tw 0 alloc 7 mem 277\nFRAG: inuse 0 memory 9\n", true);
        check("sockets: used 1\n", false);
        check("sockets: used 0\nTCP: inuse 0 orphan 0 tw 1 alloc 1 mem 1\n", false);
        check("sockets: used 0\nUDP: inuse 2 mem 1\n", false);
        check("sockets: used\n", false);
    }

    #[test]
    fn a_counter_that_moved_is_seen_and_a_setting_is_none() {
        let check = |text, expected| assert_eq!(counted_nothing(text, KEPT_BY_SNMP), expected, "{text}");
        check("Ip: Forwarding DefaultTTL InReceives\nIp: 2 64 0\nTcp: MaxConn OutRsts\nTcp: -1 0\n", true);
        check("Ip: Forwarding DefaultTTL OutNoRoutes\nIp: 2 64 1\n", false);
        check("Tcp: MaxConn OutRsts\nTcp: -1\n", false);
        check("Tcp: MaxConn\n", false);
    }
}
