//! The two lists of a report against behaviour: what is listed as enforced refuses an act, what is listed as not enforced lets
//! one through, and no word stands in a list without an act here.

use std::os::unix::net::UnixListener;

use rustix::process::{Resource, getrlimit};
use swarm_protocol::{Access, EnforcementReport, Grant, NetworkSpec, Tier};

use crate::Case;
use crate::fixture::{Cage, Peer, Ran, SECRET, Worker, run_free, run_under};
use crate::raw::DONE;

/// A word of `enforced`, and a script that prints `OUT` when it does not hold.
const HELD: &[(&str, &str)] = &[
    ("landlock", "mkfifo fifo 2>/dev/null && echo OUT"),
    ("seccomp", "$SELF __attack io-uring | grep -q DONE && echo OUT"),
    ("capabilities", "grep -q '^CapEff:.*[1-9a-f]' /proc/self/status && echo OUT"),
    (
        "rlimits",
        "[ $(ulimit -c) = 0 ] && [ $(sed -n 's/^Max pending signals *//p' /proc/self/limits | cut -d' ' -f1) -lt $SIGNALS ] || echo OUT",
    ),
    ("environment", "env | grep -q COORDINATOR && echo OUT"),
    // A session whose leader is outside the process namespace reads as 0.
    ("session", "sid=$(cut -d' ' -f6 /proc/self/stat); { [ $sid = $SID ] || [ $sid = 0 ]; } && echo OUT"),
    ("userns", "[ $(readlink /proc/self/ns/user) = $USERNS ] && echo OUT"),
    ("mountns", "[ $(readlink /proc/self/ns/mnt) = $MOUNTNS ] && echo OUT"),
    ("pidns", "[ $(readlink /proc/self/ns/pid) = $PIDNS ] && echo OUT"),
    ("ipcns", "[ $(readlink /proc/self/ns/ipc) = $IPCNS ] && echo OUT"),
    ("utsns", "[ $(readlink /proc/self/ns/uts) = $UTSNS ] && echo OUT"),
    ("netns", "[ $(readlink /proc/self/ns/net) = $NETNS ] && echo OUT"),
    ("root", "ls -d /boot /etc/shadow /sys/kernel 2>/dev/null && echo OUT"),
    ("tmp", "[ -e /tmp/$TOKEN ] && echo OUT"),
    ("overlay", "echo changed > README"),
    ("no-sockets", "$SELF __attack socket 2 1 0 | grep -q DONE && echo OUT"),
    ("metadata", "chmod 600 $HOST/home/.netrc && echo OUT"),
    ("scopes", "$SELF __attack abstract-connect $ABSTRACT | grep -q DONE && echo OUT"),
];

/// Words of `enforced` that are limits: they are broken one by one in tests of their own.
const LIMITS: &[&str] = &["memory", "processes", "cpu", "open-files", "disk", "files", "output"];

/// Those whose script prints `OUT` outside of every cage, whoever runs the tests.
const WITH_CONTROL: &[&str] =
    &["landlock", "session", "userns", "mountns", "pidns", "ipcns", "utsns", "netns", "root", "no-sockets", "scopes"];

/// A phrase of `not_enforced`, and a script that prints `DONE` because nothing refuses it.
const OPEN: &[(&str, &str)] = &[
    ("metadata outside", "chmod 600 $HOST/home/.netrc && echo DONE"),
    ("names outside", "test -e $HOST/home/.netrc && echo DONE"),
    ("changes outside", "$SELF __attack watch $HOST/home/.ssh"),
    ("command lines", "$SELF __attack open-read /proc/$PEER/cmdline"),
    ("processor affinity", "$SELF __attack affinity $PEER"),
    ("unix sockets inside granted folders", "$SELF __attack unix-connect $HOST/shared/socket"),
    ("network: the host's", "$SELF __attack tcp-connect $PORT"),
    ("abstract unix sockets", "$SELF __attack abstract-connect $ABSTRACT"),
    ("truncation", "$SELF __attack truncate $HOST/home/.netrc"),
    ("signals", "kill -CONT $PEER && echo DONE"),
    ("files without a name", "$SELF __attack sent 60 && echo DONE"),
    ("files that are only shown can be locked", "flock -s -n /usr/bin/env true && echo DONE"),
    ("inotify instances", "$SELF __attack watchers"),
    ("epoll watches", "$SELF __attack watches"),
    ("open files of the machine", "$SELF __attack files-of-two"),
    ("descriptors on their way", "$SELF __attack sent 60 && echo DONE"),
    ("what the kernel tells", "cat /proc/interrupts /proc/cmdline /proc/loadavg >/dev/null && echo DONE"),
    ("room for pipes", "$SELF __attack small-pipes"),
    ("renames between folders", "mkdir a b; echo x > a/x; ln a/x b/x 2>/dev/null || echo DONE"),
];

/// Phrases whose act needs a device file in a granted folder, which only root can make.
const NEEDS_A_DEVICE: &str = "ioctl on the device files";

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("what is listed as enforced is, and what is listed as not enforced is not", lists),
        Case::new("the lists of older Landlock ABIs hold, too", lists_of_older_kernels),
    ]
}

/// What scripts find on the host.
struct Host {
    peer: Peer,
    tcp: std::net::TcpListener,
    abstract_name: String,
    _sockets: [UnixListener; 2],
}

impl Host {
    fn new(cage: &Cage) -> Self {
        use std::os::linux::net::SocketAddrExt as _;
        std::fs::create_dir(cage.path("host/shared")).expect("a folder");
        let peer = Peer::new();
        let abstract_name = format!("swarm-lists-{}", peer.id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).expect("a short name");
        let abstract_socket = UnixListener::bind_addr(&address).expect("a free name");
        let socket = UnixListener::bind(cage.path("host/shared/socket")).expect("a path short enough for a socket");
        Host {
            tcp: std::net::TcpListener::bind("127.0.0.1:0").expect("a port"),
            abstract_name,
            _sockets: [abstract_socket, socket],
            peer,
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let namespace = |name: &str| {
            let link = std::fs::read_link(format!("/proc/self/ns/{name}")).expect("proc");
            link.display().to_string()
        };
        let port = self.tcp.local_addr().expect("bound").port();
        [
            ("PEER", self.peer.id().to_string()),
            ("PORT", port.to_string()),
            ("ABSTRACT", self.abstract_name.clone()),
            ("SID", session()),
            ("SIGNALS", getrlimit(Resource::Sigpending).current.unwrap_or(u64::MAX).to_string()),
            ("USERNS", namespace("user")),
            ("MOUNTNS", namespace("mnt")),
            ("PIDNS", namespace("pid")),
            ("IPCNS", namespace("ipc")),
            ("UTSNS", namespace("uts")),
            ("NETNS", namespace("net")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// As the kernel shows it: 0 when the leader is outside this process
/// namespace, which rustix's `getsid` panics at in a debug build.
fn session() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let (_, after_name) = stat.rsplit_once(") ").expect("pid (name) state …");
    after_name.split(' ').nth(3).expect("state ppid pgrp session").to_owned()
}

fn run(cage: &Cage, host: &Host, network: &NetworkSpec, script: &str) -> Ran {
    let mut start = cage.start(script);
    start.sandbox.env.extend(host.variables());
    start.sandbox.network.clone_from(network);
    start.sandbox.limits.disk_bytes = Some(30 << 20);
    let shared = cage.path("host/shared");
    start.sandbox.grants.push(Grant { path: shared.clone(), at: shared, access: Access::Read });
    let token = format!("swarm-token-{}", std::process::id());
    start.sandbox.env.push(("TOKEN".to_owned(), token.clone()));
    let planted = std::path::Path::new("/tmp").join(token);
    std::fs::write(&planted, "").expect("the host's /tmp");
    let ran = Worker::spawn(&start).finish();
    std::fs::remove_file(planted).expect("written above");
    assert!(ran.entered.is_some(), "it was not started: {ran:?}");
    ran
}

fn report(ran: &Ran) -> &EnforcementReport {
    ran.entered.as_ref().expect("asserted when it ran")
}

fn lists(tier: Tier) {
    for network in [NetworkSpec::None, NetworkSpec::Host] {
        let cage = Cage::new(tier);
        let host = Host::new(&cage);
        let first = run(&cage, &host, &network, "true");
        for word in report(&first).enforced.iter().filter(|word| !LIMITS.contains(&word.as_str())) {
            let (_, script) =
                HELD.iter().find(|(known, _)| known == word).unwrap_or_else(|| panic!("no act shows {word:?}"));
            let ran = run(&cage, &host, &network, script);
            if WITH_CONTROL.contains(&word.as_str()) {
                let variables: Vec<(String, String)> = host.variables();
                let extra: Vec<(&str, String)> =
                    variables.iter().map(|(name, value)| (&**name, value.clone())).collect();
                assert!(run_free(&cage, script, &extra).contains("OUT"), "{word}: the control shows nothing");
            }
            assert!(!ran.stdout.contains("OUT") && !ran.stdout.contains(SECRET), "{word} does not hold: {ran:?}");
            let lower = std::fs::read_to_string(cage.path("state/lower/README")).expect("the base");
            assert_eq!(lower, "base\n", "{word}");
        }
        for phrase in &report(&first).not_enforced {
            if let Some(script) = open_act(phrase) {
                let ran = run(&cage, &host, &network, script);
                assert!(ran.stdout.contains(DONE), "{phrase:?} is enforced and must not be listed: {ran:?}");
            }
        }
    }
}

fn open_act(phrase: &str) -> Option<&'static str> {
    if phrase.starts_with(NEEDS_A_DEVICE) {
        return None;
    }
    let found = OPEN.iter().find(|(known, _)| phrase.starts_with(known));
    Some(found.unwrap_or_else(|| panic!("no act shows {phrase:?}")).1)
}

/// Runs without a worker: the protocol cannot ask for less than the kernel has.
fn lists_of_older_kernels(tier: Tier) {
    for abi in 1..=7 {
        for (phrase, script) in
            OPEN.iter().filter(|(phrase, _)| !phrase.starts_with("network") && !phrase.starts_with("files without"))
        {
            // The cage ends all children of its supervisor, which is this process: the peer, too.
            let cage = Cage::new(tier);
            let host = Host::new(&cage);
            let shared = cage.path("host/shared");
            let (path, access) = (shared.clone(), swarm_sandbox::Access::Read);
            let mut draft = cage.draft();
            draft.landlock_abi_max = Some(abi);
            draft.grants.push(swarm_sandbox::PathGrant { path, at: shared, access });
            let policy = draft.check().expect("a policy");
            let variables = host.variables();
            let variables: String = variables.iter().map(|(name, value)| format!("{name}='{value}'; ")).collect();
            let (entered, said) = run_under(&policy, &cage, &format!("{variables}{script}")).expect("a cage");
            let listed = swarm_sandbox::Enforcement::of(&policy, abi, entered.metadata).not_enforced;
            let is_listed = listed.iter().any(|line| line.starts_with(phrase));
            assert_eq!(said.contains(DONE), is_listed, "ABI {abi}: {phrase:?}: {said}");
        }
    }
}
