//! Cages with a door to the egress proxy: what a job reaches besides it. The test stands where the coordinator would.

use std::io::{IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use swarm_protocol::{Ended, NetworkSpec, Start, Tier};

use crate::fixture::{Cage, Ran, Worker, run_free};
use crate::raw::{DONE, REFUSED};
use crate::{Case, Outcome};

/// All claims about doors.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("49 through a door the proxy is reached, and no other service of the host", only_the_proxy),
        Case::new("49 beside a door nothing listens on the host", no_listener),
        Case::new("49 what a door leaves open is what the report lists", list_equals_behaviour),
        Case::new("50 beside a door there is no other protocol", no_other_protocol),
        Case::new("50 fast open reaches nobody", fast_open),
        Case::new("51 no datagram leaves, so no name is asked for", no_datagram),
        Case::new("55 a door leads to one job's proxy", one_door_each),
        Case::new("a cage whose door leads nowhere is not entered", nobody_behind),
        Case::new("a kernel that cannot tell ports apart is refused", no_port_rules),
    ]
}

/// The coordinator's side of a door.
enum Door {
    /// The host's loopback.
    Host(TcpListener),
    /// A socket that comes out of the cage.
    HandedOut(UnixListener),
}

/// The port inside a network namespace.
const INSIDE: u16 = 31_280;

/// Opens a cage's door; gives the port, too.
fn open(start: &mut Start, cage: &Cage) -> (Door, u16) {
    match cage.tier {
        Tier::Landlock => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("bound").port();
            start.sandbox.network = NetworkSpec::Egress { port, door: None };
            (Door::Host(listener), port)
        }
        Tier::Namespaces => {
            let path = cage.path("door");
            let listener = UnixListener::bind(&path).expect("a path of at most 107 bytes");
            start.sandbox.network = NetworkSpec::Egress { port: INSIDE, door: Some(path) };
            (Door::HandedOut(listener), INSIDE)
        }
    }
}

impl Door {
    /// Takes the listening socket, once the worker has ended.
    fn listener(self) -> TcpListener {
        let listener = match self {
            Door::Host(listener) => listener,
            Door::HandedOut(door) => {
                door.set_nonblocking(true).expect("ours");
                let (stream, _) = door.accept().expect("the worker has connected");
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut byte = [0; 1];
                let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
                recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).expect("a message");
                let sent: Vec<OwnedFd> = control
                    .drain()
                    .filter_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                        _ => None,
                    })
                    .flatten()
                    .collect();
                TcpListener::from(sent.into_iter().next().expect("a socket"))
            }
        };
        listener.set_nonblocking(true).expect("ours");
        listener
    }
}

/// Whether somebody has connected and has been heard.
fn was_called(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("ours");
    listener.accept().is_ok()
}

/// Runs a script in a cage with a door; `PORT` is the door's.
fn run(cage: &Cage, script: &str) -> (Ran, TcpListener) {
    let mut start = cage.start(script);
    let (door, port) = open(&mut start, cage);
    start.sandbox.env.push(("PORT".to_owned(), port.to_string()));
    let ran = Worker::spawn(&start).finish();
    (ran, door.listener())
}

fn only_the_proxy(tier: Tier) {
    let cage = Cage::new(tier);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let script = format!(
        "$SELF __attack tcp-say $PORT hello; $SELF __attack tcp-connect {}",
        other.local_addr().expect("bound").port()
    );
    let free = run_free(&cage, &script.replace("$PORT", "1"), &[]);
    assert!(free.contains(DONE) && was_called(&other), "the control reaches it: {free}");
    let (ran, proxy) = run(&cage, &script);
    assert!(ran.stdout.starts_with(DONE) && ran.stdout.contains(REFUSED), "{ran:?}");
    assert!(!was_called(&other));
    let (mut call, _) = proxy.accept().expect("the job has called");
    let mut words = String::new();
    call.read_to_string(&mut words).expect("it has hung up");
    assert_eq!(words, "hello");
    let entered = ran.entered.expect("it ran");
    assert!(!entered.enforced.iter().any(|word| word == "no-sockets"), "{entered:?}");
}

fn no_listener(tier: Tier) {
    let cage = Cage::new(tier);
    let script = "$SELF __attack listen-anywhere; $SELF __attack listen-unbound";
    assert_eq!(run_free(&cage, script, &[]).matches(DONE).count(), 2, "the control listens");
    let (ran, _) = run(&cage, script);
    // With a loopback of its own a job may listen: nobody else is there.
    let expected = if tier == Tier::Landlock { REFUSED } else { DONE };
    assert_eq!(ran.stdout.matches(expected).count(), 2, "{ran:?}");
}

fn list_equals_behaviour(tier: Tier) -> Outcome {
    let cage = Cage::new(tier);
    let mut start = cage.start("$SELF __attack tcp-connect-to 127.0.0.2:$PORT");
    let (_door, port) = open(&mut start, &cage);
    let Ok(other) = TcpListener::bind(("127.0.0.2", port)) else {
        return Outcome::skipped(format!("port {port} is taken on 127.0.0.2"));
    };
    start.sandbox.env.push(("PORT".to_owned(), port.to_string()));
    let ran = Worker::spawn(&start).finish();
    let entered = ran.entered.as_ref().expect("it ran");
    let listed = entered.not_enforced.iter().any(|line| line.contains("proxy's port"));
    let enforced = entered.enforced.iter().any(|word| word == "egress");
    assert_eq!((was_called(&other), enforced), (listed, !listed), "{ran:?}");
    assert_eq!(listed, tier == Tier::Landlock);
    Outcome::Passed
}

fn no_other_protocol(tier: Tier) {
    let cage = Cage::new(tier);
    // MPTCP, SCTP, SMC, raw, ICMP by datagram, and the kernel's news about devices.
    let kinds = ["2 1 262", "2 1 132", "43 1 0", "2 3 1", "2 2 1", "16 3 15"];
    let script: String = kinds.iter().map(|kind| format!("$SELF __attack socket {kind};")).collect();
    assert!(run_free(&cage, &script, &[]).contains(DONE), "the control opens some of them");
    let (ran, _) = run(&cage, &script);
    assert_eq!(ran.stdout.matches(REFUSED).count(), kinds.len(), "{ran:?}");
    let (ran, _) = run(&Cage::new(tier), "$SELF __attack socket 2 1 0; $SELF __attack socket 2 2 0");
    let datagrams = if tier == Tier::Landlock { REFUSED } else { DONE };
    assert!(ran.stdout.starts_with(DONE) && ran.stdout.lines().nth(1).is_some_and(|line| line.contains(datagrams)));
}

fn fast_open(tier: Tier) -> Outcome {
    let cage = Cage::new(tier);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("bound").port();
    let script = format!("$SELF __attack fast-open {port}; $SELF __attack fast-open-connect {port}");
    let free = run_free(&cage, &script, &[]);
    if !was_called(&other) {
        return Outcome::skipped(format!("this machine has no fast open: {free}"));
    }
    while was_called(&other) {}
    let (ran, _) = run(&cage, &script);
    assert_eq!(ran.stdout.matches(REFUSED).count(), 2, "{ran:?}");
    assert!(!was_called(&other));
    Outcome::Passed
}

fn no_datagram(tier: Tier) {
    let cage = Cage::new(tier);
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    server.set_nonblocking(true).expect("ours");
    let port = server.local_addr().expect("bound").port();
    let script = format!("$SELF __attack udp-send {port}; getent hosts example.org");
    run_free(&cage, &script, &[]);
    let mut bytes = [0; 64];
    assert!(server.recv(&mut bytes).is_ok(), "the control sends");
    let (ran, _) = run(&cage, &script);
    assert!(server.recv(&mut bytes).is_err(), "{ran:?}");
    assert!(!matches!(ran.outcome().ended, Ended::Exited { code: 0 }), "no name has an address inside: {ran:?}");
}

fn one_door_each(tier: Tier) {
    let (mine, other) = (Cage::new(tier), Cage::new(tier));
    let mut peer = other.start("echo ready; sleep 20");
    let (peers_door, peers_port) = open(&mut peer, &other);
    let mut running = Worker::spawn(&peer);
    running.wait_for("ready");
    let peers = match &peers_door {
        Door::Host(listener) => Some(listener.try_clone().expect("a copy")),
        Door::HandedOut(_) => None,
    };
    let (ran, proxy) = run(&mine, &format!("$SELF __attack tcp-connect {peers_port}"));
    match tier {
        // The number is the same, the network is not: the call comes out of one's own door.
        Tier::Namespaces => assert!(was_called(&proxy), "{ran:?}"),
        Tier::Landlock => {
            assert!(ran.stdout.contains(REFUSED) && !was_called(&peers.expect("it listens on the host")), "{ran:?}");
        }
    }
    drop(running.input.take());
}

fn nobody_behind(tier: Tier) -> Outcome {
    if tier == Tier::Landlock {
        return Outcome::skipped("a door is a port of the host's own there");
    }
    let cage = Cage::new(tier);
    let mut start = cage.start("echo ran");
    start.sandbox.network = NetworkSpec::Egress { port: INSIDE, door: Some(cage.path("missing")) };
    let ran = Worker::spawn(&start).finish();
    assert!(matches!(&ran.outcome().ended, Ended::Refused(refusal) if refusal.step == "reach the proxy"), "{ran:?}");
    start.sandbox.network = NetworkSpec::Egress { port: INSIDE, door: None };
    let ran = Worker::spawn(&start).finish();
    assert!(matches!(&ran.outcome().ended, Ended::Refused(_)) && ran.stdout.is_empty(), "{ran:?}");
    Outcome::Passed
}

/// Without a worker: the protocol cannot ask for less than the kernel has.
fn no_port_rules(tier: Tier) -> Outcome {
    use swarm_sandbox::{Draft, Limits, Network, Worktree};
    if tier == Tier::Namespaces {
        return Outcome::skipped("ports are told apart by a network of its own there");
    }
    let cage = Cage::new(tier);
    let policy = Draft {
        tier: swarm_sandbox::Tier::Landlock,
        worktree: Worktree::Directory { at: cage.worktree(), path: cage.worktree() },
        grants: Vec::new(),
        copies: Vec::new(),
        hide: Vec::new(),
        home: cage.home(),
        home_files: Vec::new(),
        tmp: Some(cage.path("tmp")),
        network: Network::Egress { port: INSIDE },
        limits: Limits::default(),
        landlock_abi_max: Some(swarm_sandbox::landlock::ABI_PORTS - 1),
    }
    .check()
    .expect("a policy");
    let refused = crate::fixture::run_under(&policy, &cage, "echo ran").expect_err("no ports, no cage");
    assert!(refused.contains("cannot let a single port through"), "{refused}");
    Outcome::Passed
}
