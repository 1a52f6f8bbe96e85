//! Attempts to get out. The numbers are those of the list of escapes that the design names. Each is tried twice: outside,
//! where it must do its harm (else a broken script would read as "refused"), and in the cage, where it must do none; the
//! harm is looked for on the host and not in what the script says.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use swarm_protocol::{Start, Tier};

use crate::fixture::{Cage, Peer, SECRET, Worker, run_free, run_under, soon};
use crate::raw::{DONE, REFUSED, Shared};
use crate::{Case, Outcome};

/// How the harm of an attempt shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// The host's repository or home is not what it was.
    Changed,
    /// The secret was printed.
    Told,
    /// The attacker reports success of a system call.
    Done,
    /// The peer was stopped or ended.
    PeerHurt,
}

/// Which tiers can refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Both.
    Always,
    /// Namespaces only; the landlock tier lists it as not enforced, with this word.
    NotByLandlock(&'static str),
}

const SCRIPTS: &[(&str, Harm, &str)] = &[
    ("1 pointer file", Harm::Changed, "rm -rf $HOST/repo/.git; mkdir -p evil; echo 'gitdir: ./evil' > $HOST/repo/.git"),
    ("2 moved git folder", Harm::Changed, "mv $HOST/repo/.git $HOST/repo/.git.bak; mkdir -p $HOST/repo/.git/hooks"),
    ("3 config", Harm::Changed, "printf '[core]\\nfsmonitor=evil\\n' >> $HOST/repo/.git/config"),
    ("4 hooks", Harm::Changed, "echo evil > $HOST/repo/.git/hooks/post-checkout"),
    ("5 linked worktrees", Harm::Changed, "echo /evil > $HOST/repo/.git/worktrees/w1/commondir"),
    ("6 refs", Harm::Changed, "echo 0000 > $HOST/repo/.git/refs/heads/main"),
    ("6 packed refs", Harm::Changed, "rm -f $HOST/repo/.git/packed-refs"),
    ("6 objects", Harm::Changed, "echo x > $HOST/repo/.git/objects/blob"),
    ("7 alternates", Harm::Changed, "echo /else > $HOST/repo/.git/objects/info/alternates"),
    ("13 shared stash", Harm::Changed, "echo 1 > $HOST/repo/.git/refs/stash"),
    ("16 stale lock", Harm::Changed, ": > $HOST/repo/.git/index.lock"),
    ("21 mode outside", Harm::Changed, "chmod 777 $HOST/home/.netrc"),
    ("21 mode outside by a link", Harm::Changed, "ln -s $HOST/home/.netrc l; chmod 777 l"),
    ("21 mode outside by a way back", Harm::Changed, "cd $HOST/repo; chmod 777 ./../home/.netrc"),
    ("21 mode of what is only shown", Harm::Done, "$SELF __attack change-open $SELF"),
    ("21 mode of a device", Harm::Done, "$SELF __attack change-open /dev/full"),
    ("21 mode outside by a descriptor's path", Harm::Changed, "$SELF __attack change-path $HOST/home/.netrc"),
    ("21 every call that changes metadata", Harm::Changed, "$SELF __attack change-all $HOST/home/.netrc"),
    ("21 time outside", Harm::Changed, "touch -d 2001-01-01 $HOST/home/.netrc"),
    ("21 generation of what is only shown", Harm::Done, "$SELF __attack generation $SELF"),
    ("21 attribute outside", Harm::Done, "$SELF __attack set-attribute $HOST/home/.netrc"),
    ("18 ssh key", Harm::Told, "cat ~/.ssh/id_rsa $HOST/home/.ssh/id_rsa"),
    ("18 netrc, cargo", Harm::Told, "cat $HOST/home/.netrc; cat $HOST/home/.cargo/credentials.toml"),
    (
        "19 around through proc",
        Harm::Told,
        "for d in self/root self/cwd/../.. 1/root $$/root; do cat /proc/$d$HOST/home/.netrc /proc/$d/home/.netrc; done",
    ),
    (
        "19 around through a descriptor",
        Harm::Told,
        "exec 9</ ; cat /dev/fd/9$HOST/home/.netrc /proc/self/fd/9/..$HOST/home/.netrc",
    ),
    ("20 write outside", Harm::Changed, "echo x > $HOST/home/new; echo x > $HOST/home/.netrc"),
    ("20 write by dots", Harm::Changed, "echo x > ../home/new; echo x > ../host/home/new"),
    ("20 write by symlink", Harm::Changed, "ln -s $HOST/home out; echo x > out/new"),
    ("20 truncate", Harm::Changed, "truncate -s 0 $HOST/home/.netrc"),
    ("20 rename out", Harm::Changed, "echo x > y; mv y $HOST/home/y"),
    ("20 rename in", Harm::Changed, "mv $HOST/home/.netrc ."),
    ("20 remove", Harm::Changed, "rm -rf $HOST/home/.ssh"),
    ("20 mapping", Harm::Changed, "$SELF __attack write-mapping $HOST/home/.netrc"),
    ("20 unnamed file linked", Harm::Changed, "$SELF __attack link-unnamed $HOST/home/new"),
    ("21 owner outside", Harm::Done, "$SELF __attack chown $HOST/home/.netrc"),
    ("22 hard link of a secret", Harm::Told, "ln $HOST/home/.netrc stolen; cat stolen"),
    ("22 hard link to write", Harm::Changed, "ln $HOST/repo/.git/config c; echo evil >> c"),
    ("25 file capability", Harm::Done, "echo x > c; $SELF __attack set-capability c"),
    ("29 lock of the host", Harm::Done, "$SELF __attack lock $HOST/repo/.git/config"),
    ("29 watch over files", Harm::Done, "$SELF __attack fanotify"),
    ("32 ptrace", Harm::Done, "$SELF __attack ptrace $PEER"),
    ("32 memory of a peer", Harm::Done, "$SELF __attack vm-read $PEER"),
    ("32 descriptor of a peer", Harm::Done, "$SELF __attack pidfd-getfd $PEER"),
    ("32 memory file", Harm::Done, "$SELF __attack open-write /proc/$PEER/mem"),
    ("33 environment of all", Harm::Told, "cat /proc/[0-9]*/environ"),
    ("33 descriptors of a peer", Harm::Done, "$SELF __attack open-read /proc/$PEER/fd/0"),
    ("34 kill", Harm::PeerHurt, "kill -9 $PEER"),
    ("34 stop", Harm::PeerHurt, "kill -STOP $PEER"),
    ("34 signal by descriptor", Harm::PeerHurt, "$SELF __attack sigio $PEER"),
    ("35 priority", Harm::Done, "$SELF __attack setpriority $PEER"),
    ("35 limits", Harm::Done, "$SELF __attack prlimit $PEER"),
    ("35 scheduler", Harm::Done, "$SELF __attack scheduler $PEER"),
    ("35 input-output priority", Harm::Done, "$SELF __attack ioprio $PEER"),
    ("29 a lease that holds up who opens the file", Harm::Done, "touch leased; $SELF __attack lease leased"),
    ("38 most terminals of the machine", Harm::Done, "$SELF __attack terminals 100"),
    ("38 asynchronous requests of the machine", Harm::Done, "$SELF __attack io-setup"),
    ("39 io_uring", Harm::Done, "$SELF __attack io-uring"),
    ("40 user namespace", Harm::Done, "$SELF __attack unshare-user"),
    ("40 user namespace by clone", Harm::Done, "$SELF __attack clone-user"),
    ("40 user namespace by clone3", Harm::Done, "$SELF __attack clone3-user"),
    ("40 chroot", Harm::Done, "$SELF __attack chroot"),
    ("40 fsopen", Harm::Done, "$SELF __attack fsopen"),
    ("40 a tree of mounts", Harm::Done, "$SELF __attack open-tree"),
    ("40 another namespace", Harm::Done, "$SELF __attack set-namespace"),
    ("41 bpf", Harm::Done, "$SELF __attack bpf"),
    ("41 performance events", Harm::Done, "$SELF __attack perf"),
    ("41 new key", Harm::Done, "$SELF __attack add-key"),
    ("41 userfaultfd", Harm::Done, "$SELF __attack userfaultfd"),
    ("41 keyring", Harm::Done, "$SELF __attack keyctl"),
    ("41 file handles", Harm::Done, "$SELF __attack handle"),
    ("41 personality", Harm::Done, "$SELF __attack personality"),
    ("42 shared memory of the host", Harm::Done, "$SELF __attack find-memory $KEY"),
    ("42 semaphores of the host", Harm::Done, "$SELF __attack find-semaphores $KEY"),
    ("42 queue of the host", Harm::Done, "$SELF __attack open-queue swarm-cage-$KEY"),
    ("44 typing into a terminal", Harm::Done, "$SELF __attack type-ahead 0"),
    ("44 typing with odd high bits", Harm::Done, "$SELF __attack type-ahead 1"),
    ("44 another line discipline", Harm::Done, "$SELF __attack set-discipline"),
    ("45 set-id bit", Harm::Done, "$SELF __attack set-id"),
    ("45 set-id file", Harm::Done, "$SELF __attack set-id-open"),
    ("47 unseen by the supervisor", Harm::Done, "$SELF __attack undumpable-read $HOST/home/.netrc"),
    ("49 host loopback", Harm::Done, "$SELF __attack tcp-connect $PORT"),
    ("50 MPTCP", Harm::Done, "$SELF __attack socket 2 1 262"),
    ("56 a socket of the host", Harm::Done, "$SELF __attack unix-connect $HOST/home/agent.sock"),
    ("56 a datagram to a socket of the host", Harm::Done, "$SELF __attack unix-datagram $HOST/home/log.sock"),
    ("56 a raw pair's datagram to it", Harm::Done, "$SELF __attack unix-raw $HOST/home/log.sock"),
    ("57 abstract socket", Harm::Done, "$SELF __attack abstract-connect $ABSTRACT"),
    ("57 vsock", Harm::Done, "$SELF __attack socket 40 1 0"),
    ("57 audit netlink", Harm::Done, "$SELF __attack socket 16 3 9"),
    ("57 packet socket", Harm::Done, "$SELF __attack socket 17 3 0"),
    ("57 algorithm socket", Harm::Done, "$SELF __attack socket 38 5 0"),
];

const SCRIPTS_OF_NAMESPACES: &[(&str, Harm, &str, Held)] = &[
    ("29 watch over a folder", Harm::Done, "$SELF __attack watch $HOST/home/.ssh", Held::NotByLandlock("watched")),
    ("35 affinity", Harm::Done, "$SELF __attack affinity $PEER", Held::NotByLandlock("affinity")),
    ("38 most watchers of the user", Harm::Done, "$SELF __attack watchers", Held::NotByLandlock("inotify")),
    ("41 names of keys", Harm::Done, "$SELF __attack open-read /proc/keys", Held::NotByLandlock("keys")),
    ("41 whose keys there are", Harm::Done, "$SELF __attack open-read /proc/key-users", Held::NotByLandlock("keys")),
    (
        "33 arguments of a peer",
        Harm::Done,
        "$SELF __attack open-read /proc/$PEER/cmdline",
        Held::NotByLandlock("command lines"),
    ),
];

/// All attempts.
pub fn cases() -> Vec<Case> {
    let always = SCRIPTS.iter().map(|&(name, harm, script)| (name, harm, script, Held::Always));
    let all = always.chain(SCRIPTS_OF_NAMESPACES.iter().copied());
    let mut cases: Vec<Case> =
        all.map(|(name, harm, script, held)| Case::new(name, move |tier| attempt(tier, harm, script, held))).collect();
    cases.push(Case::new("30 nothing is left in the host's /tmp and /dev/shm", drop_box));
    cases.push(Case::new("43 another architecture's calls kill", other_architecture));
    cases.push(Case::new("46 inherited descriptors are closed", inherited_descriptors));
    cases.push(Case::new("35 init cannot be steered", init_is_not_the_jobs));
    cases.push(Case::new("26 what a job wrote runs, and stays inside", own_program));
    cases.push(Case::new("48 without Landlock nothing runs", no_landlock));
    cases.push(Case::new("58 the coordinator's environment is not seen", coordinators_environment));
    cases
}

/// What the host offers to be attacked while one attempt runs.
struct Targets {
    peer: Peer,
    tcp: TcpListener,
    shared: Shared,
    abstract_name: String,
    _abstract_socket: UnixListener,
}

impl Targets {
    fn new() -> Self {
        let peer = Peer::new();
        let abstract_name = format!("swarm-cage-{}", peer.id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a short name");
        Targets {
            tcp: TcpListener::bind("127.0.0.1:0").expect("a port"),
            _abstract_socket: UnixListener::bind_addr(&address).expect("a free name"),
            abstract_name,
            shared: Shared::new(peer.id()),
            peer,
        }
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let port = self.tcp.local_addr().expect("bound").port();
        vec![
            ("PEER", self.peer.id().to_string()),
            ("PORT", port.to_string()),
            ("ABSTRACT", self.abstract_name.clone()),
            ("KEY", self.shared.key().to_string()),
        ]
    }
}

/// How long harm may take to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It is expected, and a signal that was sent may still be on its way.
    UntilHarm,
    /// It is not expected; the worker has ended, which takes longer than the delivery of a signal.
    None,
}

/// Runs an attempt and looks for its harm; gives what was said as well.
fn look(cage: &Cage, harm: Harm, patience: Patience, run: impl FnOnce(&[(&str, String)]) -> String) -> (bool, String) {
    let mut targets = Targets::new();
    // Fails where the path is longer than socket addresses may be; the control says so then.
    let _agent = UnixListener::bind(cage.path("host/home/agent.sock")).ok();
    let _log = UnixDatagram::bind(cage.path("host/home/log.sock")).ok();
    let before = cage.host();
    let said = run(&targets.variables());
    let harmed = match harm {
        Harm::Changed => cage.host() != before,
        Harm::Told => said.contains(SECRET),
        Harm::Done => said.contains(DONE),
        Harm::PeerHurt if patience == Patience::UntilHarm => soon(|| !targets.peer.is_unharmed()),
        Harm::PeerHurt => !targets.peer.is_unharmed(),
    };
    (harmed, said)
}

fn attempt(tier: Tier, harm: Harm, script: &str, held: Held) -> Outcome {
    let cage = Cage::new(tier);
    let (harmed, said) = look(&cage, harm, Patience::UntilHarm, |extra| run_free(&cage, script, extra));
    if harm == Harm::Done && !harmed && said.contains(REFUSED) {
        return Outcome::skipped(format!("this machine refuses it outside, too: {}", said.trim_end()));
    }
    assert!(harmed, "the control did no harm: {script}\n{said}");

    // In a cage that was made ahead, and in a new one.
    for have_done in [Worker::spawn, Worker::start] {
        attempt_inside(tier, harm, script, held, have_done);
    }
    Outcome::Passed
}

fn attempt_inside(tier: Tier, harm: Harm, script: &str, held: Held, have_done: fn(&Start) -> Worker) {
    let cage = Cage::new(tier);
    let mut not_enforced = Vec::new();
    let (harmed, said) = look(&cage, harm, Patience::None, |extra| {
        let mut start = cage.start(script);
        start.sandbox.env.extend(extra.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let ran = have_done(&start).finish();
        not_enforced = ran.entered.as_ref().unwrap_or_else(|| panic!("it was not tried: {ran:?}")).not_enforced.clone();
        format!("{}{}", ran.stdout, ran.stderr)
    });
    let tried = !script.contains("__attack") || said.contains(REFUSED) || said.contains(DONE);
    assert!(tried, "the attacker itself did not run, which proves nothing: {script}\n{said}");
    match held {
        Held::NotByLandlock(word) if tier == Tier::Landlock => {
            assert!(harmed, "the landlock tier holds this now: it must not be listed");
            assert!(not_enforced.iter().any(|line| line.contains(word)), "{word:?} is not listed in {not_enforced:?}");
        }
        _ => assert!(!harmed, "the cage was left: {script}\n{said}"),
    }
}

fn drop_box(tier: Tier) {
    let cage = Cage::new(tier);
    let name = format!("swarm-drop-{}", std::process::id());
    let places = ["/tmp", "/var/tmp", "/dev/shm"].map(|folder| std::path::Path::new(folder).join(&name));
    let script = places.iter().map(|place| format!("echo x > {};", place.display())).collect::<String>();
    let left = || {
        let left = places.iter().filter(|place| std::fs::remove_file(place).is_ok()).count();
        assert!(places.iter().all(|place| !place.exists()));
        left
    };
    run_free(&cage, &script, &[]);
    assert!(left() > 0, "the control left nothing");
    cage.run(&script);
    assert_eq!(left(), 0);
}

fn other_architecture(tier: Tier) -> Outcome {
    let cage = Cage::new(tier);
    let free = run_free(&cage, "$SELF __attack int80", &[]);
    if !free.contains(DONE) {
        return Outcome::skipped("no 32-bit calls on this machine");
    }
    let ran = cage.run("$SELF __attack int80; echo ended $?");
    assert!(ran.stdout.contains("ended 159"), "killed by SIGSYS: {ran:?}");
    Outcome::Passed
}

fn init_is_not_the_jobs(tier: Tier) {
    let cage = Cage::new(tier);
    if tier == Tier::Namespaces {
        let ran =
            cage.run("for a in prlimit setpriority scheduler ioprio; do sleep 9 & $SELF __attack $a $!; kill $!; done");
        assert_eq!(ran.stdout.matches(DONE).count(), 4, "the control steers its own children: {ran:?}");
    }
    let ran = cage.run("for a in prlimit setpriority scheduler ioprio; do $SELF __attack $a 1; done");
    assert_eq!(ran.stdout.matches(REFUSED).count(), 4, "{ran:?}");
}

fn inherited_descriptors(tier: Tier) {
    let cage = Cage::new(tier);
    // A descriptor that survives every exec until somebody closes it.
    let secret = std::fs::File::open(cage.path("host/home/.netrc")).expect("the fixture's secret");
    let leaked = rustix::io::dup(&secret).expect("a copy without close-on-exec");
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    let script = format!("cat <&{number}; cat /proc/self/fd/{number}");
    let free = run_free(&cage, &script, &[]);
    assert!(free.contains(SECRET), "the control did no harm: {free}");
    let ran = cage.run(&script);
    assert!(!ran.stdout.contains(SECRET), "{ran:?}");
}

fn coordinators_environment(tier: Tier) {
    let cage = Cage::new(tier);
    let ran = cage.run("env; cat /proc/1/environ /proc/$PPID/environ /proc/self/environ");
    assert!(ran.stdout.contains("HOST="), "{ran:?}");
    assert!(!ran.stdout.contains(SECRET), "{ran:?}");
}

/// Builds and tests run what they have just written; it gains nothing by that.
fn own_program(tier: Tier) {
    let cage = Cage::new(tier);
    let before = cage.host();
    let ran =
        cage.run("cp $SELF own; ./own __attack open-read README; ./own __attack unshare-user; echo x > $HOST/home/new");
    assert!(ran.stdout.contains(DONE), "it runs: {ran:?}");
    assert_eq!(ran.stdout.matches(REFUSED).count(), 1, "{ran:?}");
    assert_eq!(cage.host(), before);
}

fn no_landlock(tier: Tier) {
    let cage = Cage::new(tier);
    for (abi, closes) in [(1, true), (0, false)] {
        let policy = swarm_sandbox::Draft { landlock_abi_max: Some(abi), ..cage.draft() }.check().expect("a policy");
        let ran = run_under(&policy, &cage, "echo ran > ran");
        assert_eq!(cage.written("ran").exists(), closes, "{ran:?}");
        assert!(closes || ran.clone().is_err_and(|error| error.contains("no Landlock")), "{ran:?}");
        let _ = std::fs::remove_file(cage.written("ran"));
    }
}
