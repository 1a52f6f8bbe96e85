//! Workers that a fork server made: the same conversation, and nothing shared that could tie one worker to another.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufReader, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use swarm_protocol::fork_server::{FORK, REPLY_BYTES, Reply};
use swarm_protocol::{Access, Ended, FrameReader, FromWorker, Grant, NetworkSpec, Start, Tier, ToWorker, encode};

use crate::fixture::{Cage, SECRET, is_alive, pid_of, soon};
use crate::{Case, Outcome};

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a forked worker runs its job", one_job),
        Case::new("forked workers hold none of each other's pipes", no_shared_pipes),
        Case::new("a job sees nothing of the fork server", server_out_of_sight),
        Case::new("a forked worker goes on without its server", server_killed),
        Case::new("server and workers end with the coordinator", coordinator_gone),
        Case::new("a request without pipes is refused and harms nobody", bad_request),
        Case::new("a worker that ends before anybody asks is replaced", spare_killed),
        Case::new("a network that a job left untouched is passed on", untouched_network),
        Case::new("no job finds anything in its network", always_new_network),
        Case::new("a job gets the cage that was made ahead of it", made_ahead),
        Case::new("a cage that was made ahead and is of no use harms nobody", made_in_vain),
        Case::new("a cage that was made ahead does not outlive the host's mounts", mounted_meanwhile),
    ]
}

/// A fork server of the test's own.
pub struct Server {
    process: Child,
    /// `None` once the coordinator is gone.
    socket: Option<OwnedFd>,
}

/// A worker that it made.
struct Forked {
    /// Dropping it ends the worker.
    input: Option<std::fs::File>,
    frames: FrameReader<BufReader<std::fs::File>>,
    pidfd: OwnedFd,
}

/// A server for all jobs of a tier and a network.
type OfKind = ((Tier, NetworkSpec), Rc<Server>);

thread_local! {
    static SERVERS: RefCell<Vec<OfKind>> = const { RefCell::new(Vec::new()) };
}

impl Server {
    /// Ends those for all jobs: a launch in this very process would end them, as it does with all children.
    pub fn end_all() {
        SERVERS.take();
    }

    fn start() -> Server {
        Self::start_with(&[])
    }

    /// One for all jobs of the kind of this one, with a secret in its environment, whose next worker has a cage ready.
    pub fn with_cage_for(start: &Start) -> Rc<Server> {
        let network = match start.sandbox.network {
            NetworkSpec::Host => NetworkSpec::Host,
            NetworkSpec::None | NetworkSpec::Egress { .. } => NetworkSpec::None,
        };
        let tier = start.sandbox.tier;
        let known = SERVERS.with_borrow(|all| {
            let of_kind = |(known, _): &&OfKind| *known == (tier, network.clone());
            Some(Rc::clone(&all.iter().find(of_kind)?.1))
        });
        let server = known.unwrap_or_else(|| {
            let server = Rc::new(Self::start_with(&[("COORDINATOR_TOKEN", SECRET)]));
            SERVERS.with_borrow_mut(|all| all.push(((tier, network.clone()), Rc::clone(&server))));
            server
        });
        let cage = Cage::new(tier);
        let mut first = cage.start("exit 0");
        first.sandbox.network = network;
        server.cage_ahead(&first);
        server
    }

    /// Has a job done, which says of which kind the next one will be; gives the worker that stands by then, and the first process
    /// of its cage.
    fn cage_ahead(&self, start: &Start) -> (String, String) {
        let worker = self.forked(start);
        let taken = worker.pid();
        assert_eq!(worker.end(), Some(Ended::Exited { code: 0 }));
        let spare = self.spare(&taken);
        assert!(soon(|| !children(&spare).is_empty()), "nothing was made ahead");
        let first = children(&spare).remove(0);
        (spare, first)
    }

    fn start_with(environment: &[(&str, &str)]) -> Server {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket pair");
        let process = Command::new(std::env::current_exe().expect("this program"))
            .args([swarm_worker::SUBCOMMAND, "--server"])
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server starts");
        Server { process, socket: Some(socket) }
    }

    fn ask(&self, descriptors: &[OwnedFd]) -> (Reply, Option<OwnedFd>) {
        let socket = self.socket.as_ref().expect("still open");
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        sendmsg(socket, &[IoSlice::new(&[FORK])], &mut control, SendFlags::NOSIGNAL).expect("the server listens");
        let mut bytes = [0; REPLY_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).expect("it answers");
        let rights = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        (Reply::decode(&bytes).expect("a reply"), rights)
    }

    /// The process id of the worker that stands by, once there is one; `taken` is the last that was made.
    fn spare(&self, taken: &str) -> String {
        let list = format!("/proc/{0}/task/{0}/children", self.process.id());
        let mut spare = None;
        let found = soon(|| {
            let children = std::fs::read_to_string(&list).expect("the server lives");
            // The youngest is the last; those that have ended are there until the server looks.
            spare = children.split_whitespace().last().filter(|pid| *pid != taken && lives(pid)).map(str::to_owned);
            spare.is_some()
        });
        assert!(found, "no worker stands by");
        spare.expect("found above")
    }

    fn forked(&self, start: &Start) -> Forked {
        let (input, output, pidfd) = self.fork(start);
        Forked { input: Some(input), frames: FrameReader::new(BufReader::new(output)), pidfd }
    }

    /// Has it make a worker for a job. Gives our ends of the worker's pipes, and a descriptor for its process.
    pub fn fork(&self, start: &Start) -> (File, File, OwnedFd) {
        let (their_input, input) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (output, their_output) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (reply, pidfd) = self.ask(&[their_input, their_output]);
        assert_eq!(reply, Reply::Forked);
        let mut input = File::from(input);
        input.write_all(&encode(&ToWorker::Start(Box::new(start.clone())))).expect("the worker reads");
        (input, output.into(), pidfd.expect("a descriptor for the worker"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Forked {
    fn frame(&mut self) -> Option<FromWorker> {
        loop {
            match self.frames.read().expect("the worker speaks the protocol") {
                Some(FromWorker::Heartbeat) => {}
                other => return other,
            }
        }
    }

    /// What the job printed up to its first pause.
    fn first_output(&mut self) -> String {
        loop {
            match self.frame().expect("the job prints") {
                FromWorker::Output { chunk, .. } => {
                    return String::from_utf8(chunk.into_bytes().expect("text")).expect("text");
                }
                FromWorker::Finished { outcome } => panic!("{outcome:?}"),
                _ => {}
            }
        }
    }

    /// How it ended; `None` when it ended without a word.
    fn end(mut self) -> Option<Ended> {
        let mut last = None;
        while let Some(frame) = self.frame() {
            last = Some(frame);
        }
        match last {
            Some(FromWorker::Finished { outcome }) => Some(outcome.ended),
            _ => None,
        }
    }

    fn pid(&self) -> String {
        pid_of(&self.pidfd).to_string()
    }
}

/// Whether a process is there and has not ended.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// What the descriptors of a process lead to; `None` where only root may look: workers close themselves to their own user.
fn descriptors(pid: &str) -> Option<Vec<String>> {
    let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        entries => entries.expect("it lives").flatten(),
    };
    Some(entries.filter_map(|entry| Some(entry.path().read_link().ok()?.display().to_string())).collect())
}

fn one_job(tier: Tier) {
    let (server, cage) = (Server::start(), Cage::new(tier));
    for code in 0..3 {
        assert_eq!(server.forked(&cage.start(&format!("exit {code}"))).end(), Some(Ended::Exited { code }));
    }
}

fn no_shared_pipes(tier: Tier) -> Outcome {
    let mut outcome = Outcome::Passed;
    let (server, cages) = (Server::start(), [Cage::new(tier), Cage::new(tier)]);
    let mut first = server.forked(&cages[0].start("echo up; sleep 507.25"));
    first.first_output();
    let mut second = server.forked(&cages[1].start("echo up; sleep 507.5"));
    second.first_output();
    let pids = [first.pid(), second.pid(), server.process.id().to_string()];
    let pipes = |all: &[String]| all.iter().filter(|name| name.starts_with("pipe:")).cloned().collect::<Vec<_>>();
    match pids.each_ref().map(|pid| descriptors(pid)) {
        [Some(one), Some(two), Some(servers)] => {
            assert!(pipes(&one).len() >= 4, "{one:?}");
            for other in [&two, &servers] {
                assert!(!pipes(&one).iter().any(|pipe| other.contains(pipe)), "{one:?} {other:?}");
            }
            // Not the coordinator's; but for the way of an untouched network to the server, on which workers cannot listen.
            let sockets = |all: &[String]| all.iter().filter(|name| name.starts_with("socket:")).count();
            assert!(sockets(&one) <= 1 && sockets(&two) <= 1, "{one:?} {two:?}");
        }
        hidden => {
            assert!(!rustix::process::getuid().is_root() && hidden[0].is_none(), "{hidden:?}");
            outcome = Outcome::InPart("an ordinary user cannot look into workers".to_owned());
        }
    }
    // Were one of its pipes open elsewhere, it would not hear of this, or its output would not end.
    drop(first.input.take());
    assert_eq!(first.end(), None, "nobody is there to hear it");
    assert!(!is_alive("507.25") && is_alive("507.5"));
    outcome
}

fn server_out_of_sight(tier: Tier) {
    let (server, cage) = (Server::start(), Cage::new(tier));
    let pid = server.process.id();
    let script = format!("test $(ls /proc/self/fd | wc -l) = 4; ! ls -l /proc/{pid}/fd/0; ! cat /proc/{pid}/environ");
    assert_eq!(server.forked(&cage.start(&format!("set -e; {script}"))).end(), Some(Ended::Exited { code: 0 }));
    // The control: this process, outside, sees the server.
    assert!(descriptors(&pid.to_string()).is_some_and(|all| !all.is_empty()));
}

fn server_killed(tier: Tier) {
    let (mut server, cage) = (Server::start(), Cage::new(tier));
    let mut worker = server.forked(&cage.start("echo up; sleep 508.25"));
    worker.first_output();
    server.process.kill().expect("our child");
    server.process.wait().expect("our child");
    let cancel = encode(&ToWorker::Cancel { grace_ms: 0 });
    worker.input.as_mut().expect("still open").write_all(&cancel).expect("the worker reads");
    assert_eq!(worker.end(), Some(Ended::Cancelled), "it hears, and has a last word");
    assert!(!is_alive("508.25"));
}

fn coordinator_gone(tier: Tier) {
    let (mut server, cage) = (Server::start(), Cage::new(tier));
    let mut worker = server.forked(&cage.start("echo up; sleep 507.75"));
    worker.first_output();
    let spare = server.spare(&worker.pid());
    // As the kernel does with both when the coordinator is killed.
    drop((server.socket.take(), worker.input.take()));
    assert!(server.process.wait().expect("our child").success(), "it ends in order");
    assert!(soon(|| !is_alive("507.75")));
    assert!(soon(|| !lives(&spare)), "nobody will ask it any more");
}

fn spare_killed(tier: Tier) {
    let (server, cage) = (Server::start(), Cage::new(tier));
    for code in 0..5 {
        let worker = server.forked(&cage.start(&format!("exit {code}")));
        let spare = server.spare(&worker.pid());
        kill(&spare);
        assert_eq!(worker.end(), Some(Ended::Exited { code }), "it has nothing to do with another one");
    }
    assert_eq!(server.forked(&cage.start("exit 9")).end(), Some(Ended::Exited { code: 9 }));
}

fn bad_request(tier: Tier) {
    let (server, cage) = (Server::start(), Cage::new(tier));
    assert!(matches!(server.ask(&[]), (Reply::Failed(_), None)));
    let (one, _) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    assert!(matches!(server.ask(&[one]), (Reply::Failed(_), None)));
    assert_eq!(server.forked(&cage.start("exit 0")).end(), Some(Ended::Exited { code: 0 }));
}

/// Whether one of the next jobs gets the network in which a job ran this script.
fn passes_on(tier: Tier, script: &str) -> bool {
    let (server, cage) = (Server::start(), Cage::new(tier));
    let mut first = server.forked(&cage.start(&format!("{{ {script}; }} >/tmp/log && echo up && sleep 508.5")));
    assert_eq!(first.first_output(), "up\n", "{script}");
    // Held open, so that no other one gets its number.
    let network = File::open(format!("/proc/{}/ns/net", first.pid())).expect("our own");
    let number = |network: &File| network.metadata().expect("it is open").ino();
    let cancel = encode(&ToWorker::Cancel { grace_ms: 0 });
    first.input.as_mut().expect("still open").write_all(&cancel).expect("the worker reads");
    let process = first.pidfd.try_clone().expect("a copy");
    assert_eq!(first.end(), Some(Ended::Cancelled), "{script}");
    // What it passes on, it does after its last word.
    poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("it ends");
    // The next worker was forked before that.
    let numbers = (0..3).map(|_| {
        let mut next = server.forked(&cage.start("echo up; sleep 508.5"));
        next.first_output();
        number(&File::open(format!("/proc/{}/ns/net", next.pid())).expect("our own"))
    });
    numbers.collect::<Vec<_>>().contains(&number(&network))
}

fn untouched_network(tier: Tier) -> Outcome {
    if tier == Tier::Landlock || !rustix::process::getuid().is_root() {
        return Outcome::skipped("only root with namespaces has networks to pass on");
    }
    assert!(passes_on(tier, "true"));
    assert!(passes_on(tier, "echo > /tmp/file; cat /proc/net/dev /proc/net/snmp"));
    for touched in ["tcp-loopback", "flow-label"] {
        assert!(!passes_on(tier, &format!("$SELF __attack {touched}")), "{touched}");
    }
    Outcome::Passed
}

fn always_new_network(tier: Tier) -> Outcome {
    if tier == Tier::Landlock {
        return Outcome::skipped("without namespaces there are no sockets");
    }
    let (server, cage) = (Server::start(), Cage::new(tier));
    let new = "test $(wc -l </proc/net/dev) = 3 && ! grep -q '[1-9]' /proc/net/ip6_flowlabel && grep 'lo:' /proc/net/dev | grep -qv '[1-9]'";
    for _ in 0..4 {
        let script = format!("{new} && $SELF __attack tcp-loopback && ! {{ {new}; }}");
        assert_eq!(server.forked(&cage.start(&script)).end(), Some(Ended::Exited { code: 0 }));
    }
    Outcome::Passed
}

/// The processes below one.
fn children(pid: &str) -> Vec<String> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

/// A server whose next worker has made a cage for jobs of this one's kind: the worker, and the first process of the cage.
fn with_cage_ahead(start: &Start) -> (Server, String, String) {
    let server = Server::start();
    let (spare, first) = server.cage_ahead(start);
    (server, spare, first)
}

fn made_ahead(tier: Tier) {
    let cage = Cage::new(tier);
    for network in [NetworkSpec::None, NetworkSpec::Host] {
        let mut start = cage.start("echo up; sleep 509.25");
        start.sandbox.network = network;
        let mut first = start.clone();
        first.job = cage.start("exit 0").job;
        let (server, spare, init) = with_cage_ahead(&first);
        let mut worker = server.forked(&start);
        assert_eq!((worker.first_output().as_str(), worker.pid()), ("up\n", spare.clone()));
        assert_eq!(children(&spare), std::slice::from_ref(&init), "the job is in it");
        assert!(is_alive("509.25"));
        drop(worker.input.take());
        assert_eq!(worker.end(), None);
        assert!(soon(|| !is_alive("509.25") && !lives(&init)));
    }
}

fn made_in_vain(tier: Tier) -> Outcome {
    let mut outcome = Outcome::Passed;
    let cage = Cage::new(tier);
    let (mut own, mut host) = (cage.start("exit 0"), cage.start("exit 0"));
    host.sandbox.network = NetworkSpec::Host;
    if tier == Tier::Namespaces && std::fs::read_to_string("/proc/net/dev").expect("a table").lines().count() != 3 {
        own.job = cage.start("test $(wc -l </proc/net/dev) = 3").job;
        host.job = cage.start("test $(wc -l </proc/net/dev) != 3").job;
    } else if tier == Tier::Namespaces {
        outcome = Outcome::InPart("the host's network looks like a job's own".to_owned());
    }
    // Of another kind: each job finds its own network.
    let (server, ..) = with_cage_ahead(&own);
    for start in [&host, &own, &own, &host, &host, &own] {
        server.cage_ahead(start);
    }
    // Of no kind, and with a frame that no pipe holds.
    let mut large = cage.start("exit 0");
    large.sandbox.env.push(("LARGE".to_owned(), "x".repeat(100 << 10)));
    let (server, _, init) = with_cage_ahead(&own);
    assert_eq!(server.forked(&large).end(), Some(Ended::Exited { code: 0 }));
    assert!(!lives(&init), "it was given up");
    // Ended by somebody.
    let (server, spare, init) = with_cage_ahead(&own);
    kill(&init);
    assert!(soon(|| !lives(&init)));
    let worker = server.forked(&cage.start("exit 7"));
    assert_eq!((worker.pid(), worker.end()), (spare, Some(Ended::Exited { code: 7 })));
    // Stopped by somebody: it takes its order, and the coordinator decides how long to wait.
    let (server, _, init) = with_cage_ahead(&own);
    let stopped = Pid::from_raw(init.parse().expect("a number")).expect("a process");
    kill_process(stopped, Signal::STOP).expect("ours");
    let mut worker = server.forked(&own);
    worker.input.as_mut().expect("still open").write_all(&encode(&ToWorker::Cancel { grace_ms: 0 })).expect("it reads");
    kill_process(stopped, Signal::CONT).expect("ours");
    assert_eq!(worker.end(), Some(Ended::Cancelled));
    // Nobody asks any more.
    let (mut server, spare, init) = with_cage_ahead(&own);
    drop(server.socket.take());
    assert!(soon(|| !lives(&init) && !lives(&spare)));
    // The worker is ended by somebody.
    let (_server, spare, init) = with_cage_ahead(&own);
    kill(&spare);
    assert!(soon(|| !lives(&init)));
    outcome
}

fn mounted_meanwhile(tier: Tier) -> Outcome {
    let cage = Cage::new(tier);
    let place = cage.path("host/mounted");
    std::fs::create_dir(&place).expect("a folder");
    let mut start = cage.start(&format!("cat {}/word; exit 0", place.display()));
    start.sandbox.grants.push(Grant { path: place.clone(), at: place.clone(), access: Access::Read });
    std::fs::write(place.join("word"), "below\n").expect("a file");
    let (server, _, init) = with_cage_ahead(&start);
    let mount = |program: &str, words: &[&str]| Command::new(program).args(words).arg(&place).status();
    if !mount("mount", &["-t", "tmpfs", "swarm-test"]).is_ok_and(|status| status.success()) {
        return Outcome::skipped("only root mounts");
    }
    let written = std::fs::write(place.join("word"), "mounted\n");
    let given_up = soon(|| !lives(&init));
    let seen = server.forked(&start).first_output();
    let (_, init) = server.cage_ahead(&cage.start("exit 0"));
    assert!(mount("umount", &[]).is_ok_and(|status| status.success()), "nobody holds it");
    written.expect("a file");
    assert!(given_up && soon(|| !lives(&init)));
    assert_eq!(seen, "mounted\n");
    Outcome::Passed
}

fn kill(pid: &str) {
    kill_process(Pid::from_raw(pid.parse().expect("a number")).expect("a process"), Signal::KILL).expect("ours");
}
