//! What a cage costs: `cargo bench -p swarm-worker [-- WORD]` launches `/bin/true` many times in each way (that has WORD in
//! its name) and prints medians and ratios to a bare spawn of the same run. Nothing is asserted: machines differ, and so
//! does their load. On a busy machine `chrt -r 10 target/release/deps/launch-…` gives the figures of an idle one.
//!
//! The layers lie below `target/tmp`, and mounting an overlay makes and removes some ten files there. On ext4 without a journal
//! each new file looks at all that were removed in its group within the last minutes (`recently_deleted` in fs/ext4/ialloc.c): there a
//! second run is slower than the first, and a tmpfs mounted on `target/tmp` gives the cost of the launch itself.
//!
//! The ways: a whole worker that is started, as it is behind a prefix; a whole worker that a fork server makes, as it is in a
//! run, one right after the other and with a pause before each, in which the server's next cage is made ahead; the launch alone,
//! with nothing made ahead, from a process that is there already; and `bwrap` with the same namespaces, where it is installed
//! (without overlay, Landlock or seccomp).

use std::io::{BufReader, IoSlice, IoSliceMut, Read, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use swarm_protocol::fork_server::{FORK, REPLY_BYTES};
use swarm_protocol::{
    Ended, FrameReader, FromWorker, Job, LimitsSpec, NetworkSpec, SandboxSpec, Start, Tier, ToWorker, VERSION,
    WorktreeSpec, encode,
};
use swarm_sandbox::{Draft, Limits, Network, Program, Status, Worktree};

/// Each launch gets an upper layer of its own, made before the clock starts, as the coordinator does.
const LAUNCHES: usize = 200;
const PROGRAM: &str = "/bin/true";
/// What lies between two launches that do not come one right after the other.
const PAUSE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == swarm_worker::SUBCOMMAND).is_some() {
        return swarm_worker::main(arguments);
    }
    let words: Vec<String> = arguments.filter_map(|word| word.into_string().ok()).collect();
    let wanted = |name: &str| words.iter().filter(|word| !word.starts_with('-')).all(|word| name.contains(&**word));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let state = std::fs::canonicalize(dir.path()).expect("it exists");
    let bare = median(drop, |()| {
        Command::new(PROGRAM).status().expect("/bin/true runs");
    });
    print("bare spawn", bare, bare);
    if wanted("bwrap") {
        bubblewrap(&state, bare);
    }
    let ways = [
        ("landlock tier", Tier::Landlock, NetworkSpec::None),
        ("namespaces tier, host network", Tier::Namespaces, NetworkSpec::Host),
        ("namespaces tier, own network, overlay", Tier::Namespaces, NetworkSpec::None),
    ];
    for (name, tier, network) in &ways {
        let folder = |way: &str, index| fresh(&state.join(name).join(way), index);
        let message =
            |way: &str, index| encode(&ToWorker::Start(Box::new(start(&folder(way, index), *tier, network.clone()))));
        let way = format!("{name}: whole worker, started");
        if wanted(&way) {
            print(&way, median(|index| message("b", index), |start| work(&start)), bare);
        }
        let way = format!("{name}: whole worker, forked, without a pause");
        if wanted(&way) {
            let server = Server::start();
            print(&way, median(|index| message("c", index), |start| server.work(&start)), bare);
        }
        let way = format!("{name}: whole worker, forked");
        if wanted(&way) {
            let server = Server::start();
            let paused = |index| {
                std::thread::sleep(PAUSE);
                message("d", index)
            };
            print(&way, median(paused, |start| server.work(&start)), bare);
        }
    }
    // As the fork server does, from which every worker of a run is forked. It gives up what others need, so it comes last.
    swarm_sandbox::prepare();
    for (name, tier, network) in &ways {
        let way = format!("{name}: launch in process");
        if wanted(&way) {
            let folder = |index| fresh(&state.join(name).join("a"), index);
            print(&way, median(|index| draft(&folder(index), *tier, network), launch), bare);
        }
    }
    ExitCode::SUCCESS
}

fn bubblewrap(state: &Path, bare: Duration) {
    let bwrap = || {
        let mut command = Command::new("bwrap");
        command.args(["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"]);
        for folder in ["bin", "lib", "lib64"] {
            command.args(["--symlink", &format!("usr/{folder}"), &format!("/{folder}")]);
        }
        command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind"]).arg(state).arg(state);
        command.arg("--chdir").arg(state).arg(PROGRAM);
        command.status()
    };
    match bwrap() {
        Ok(status) if status.success() => {
            let time = median(drop, |()| assert!(bwrap().is_ok_and(|status| status.success()), "bwrap runs"));
            print("bwrap, the same namespaces, no overlay, no Landlock", time, bare);
        }
        other => println!("bwrap: not measured ({other:?})"),
    }
}

/// The median time of `act`; what `prepare` does is not counted.
fn median<T>(prepare: impl Fn(usize) -> T, act: impl Fn(T)) -> Duration {
    let mut times: Vec<Duration> = (0..LAUNCHES)
        .map(|index| {
            let prepared = prepare(index);
            let started = Instant::now();
            act(prepared);
            started.elapsed()
        })
        .collect();
    times.sort();
    times[LAUNCHES / 2]
}

/// The folders of one launch.
fn fresh(state: &Path, index: usize) -> PathBuf {
    let folder = |index: usize| state.join(index.to_string());
    for name in ["lower", "upper", "work", "tree", "home", "tmp"] {
        std::fs::create_dir_all(folder(index).join(name)).expect("a folder");
    }
    folder(index)
}

fn print(name: &str, time: Duration, bare: Duration) {
    println!(
        "{name:<60} {:>7.3} ms  {:>5.2} x bare",
        time.as_secs_f64() * 1e3,
        time.as_secs_f64() / bare.as_secs_f64()
    );
}

fn draft(state: &Path, tier: Tier, network: &NetworkSpec) -> Draft {
    let is_caged = tier == Tier::Namespaces;
    Draft {
        tier: if is_caged { swarm_sandbox::Tier::Namespaces } else { swarm_sandbox::Tier::Landlock },
        worktree: if is_caged {
            Worktree::Overlay {
                at: state.join("tree"),
                state: state.to_owned(),
                lowers: vec!["lower".to_owned()],
                upper: "upper".to_owned(),
                work: "work".to_owned(),
            }
        } else {
            Worktree::Directory { at: state.join("tree"), path: state.join("tree") }
        },
        grants: Vec::new(),
        copies: Vec::new(),
        hide: Vec::new(),
        home: state.join("home"),
        home_files: Vec::new(),
        tmp: (!is_caged).then(|| state.join("tmp")),
        network: if *network == NetworkSpec::None { Network::None } else { Network::Host },
        limits: Limits::default(),
        landlock_abi_max: None,
    }
}

fn launch(draft: Draft) {
    let cwd = draft.worktree.at().to_owned();
    let policy = draft.check().expect("a policy");
    let program = Program::new(&[PROGRAM.to_owned()], &[], &cwd).expect("a program");
    let null = || open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("/dev/null");
    let output = swarm_sandbox::launch::Output { stdout: null(), stderr: null(), door: None, network: None };
    let mut caged = swarm_sandbox::launch(&policy, &program, output).expect("a first process");
    let mut ended = false;
    while let Ok(words) = caged.read() {
        for word in words {
            match word {
                Status::Ended { .. } => ended = true,
                Status::Ready { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    caged.reap().expect("our child");
    assert!(ended, "the program was run");
}

fn start(state: &Path, tier: Tier, network: NetworkSpec) -> Start {
    let tree = state.join("tree");
    let is_caged = tier == Tier::Namespaces;
    let worktree = if is_caged {
        WorktreeSpec::Overlay {
            at: tree.clone(),
            state: state.to_owned(),
            lowers: vec!["lower".to_owned()],
            upper: "upper".to_owned(),
            work: "work".to_owned(),
        }
    } else {
        WorktreeSpec::Directory { at: tree.clone(), path: tree.clone() }
    };
    let sandbox = SandboxSpec {
        tier,
        worktree,
        grants: Vec::new(),
        cow: Vec::new(),
        hide: Vec::new(),
        home: state.join("home"),
        home_files: Vec::new(),
        tmp: (!is_caged).then(|| state.join("tmp")),
        network,
        limits: LimitsSpec::default(),
        env: Vec::new(),
    };
    Start {
        version: VERSION,
        job: Job::Command { argv: vec![PROGRAM.to_owned()], cwd: tree },
        sandbox,
        timeout_ms: None,
        grace_ms: 0,
        output_bytes_max: 0,
    }
}

fn work(start: &[u8]) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([swarm_worker::SUBCOMMAND, "--stdio"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(start).expect("the worker reads");
    hear_out(child.stdout.take().expect("piped"));
    child.wait().expect("our child");
}

/// Hears a worker until its output has ended.
fn hear_out(output: impl Read) {
    let mut frames = FrameReader::new(BufReader::new(output));
    let mut last = None;
    while let Some(frame) = frames.read::<FromWorker>().expect("frames") {
        last = Some(frame);
    }
    let Some(FromWorker::Finished { outcome }) = last else { panic!("{last:?}") };
    assert_eq!(outcome.ended, Ended::Exited { code: 0 }, "the program was run");
}

/// A fork server, as the coordinator has one.
struct Server {
    process: Child,
    socket: OwnedFd,
}

impl Server {
    fn start() -> Server {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket pair");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([swarm_worker::SUBCOMMAND, "--server"]).env_clear();
        let process = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn().expect("a server starts");
        Server { process, socket }
    }

    fn work(&self, start: &[u8]) {
        let (their_input, input) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let (output, their_output) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let descriptors = [their_input.as_fd(), their_output.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "room for both");
        sendmsg(&self.socket, &[IoSlice::new(&[FORK])], &mut control, SendFlags::NOSIGNAL).expect("it listens");
        drop((their_input, their_output));
        std::fs::File::from(input.try_clone().expect("a copy")).write_all(start).expect("the worker reads");
        let mut bytes = [0; REPLY_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut bytes)];
        recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).expect("it answers");
        hear_out(std::fs::File::from(output));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
