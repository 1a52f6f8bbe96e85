//! What a cage costs: `cargo bench -p swarm-worker` launches `/bin/true` many times in each way and prints medians and
//! ratios to a bare spawn of the same run. Nothing is asserted: machines differ, and so does their load.

use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use swarm_protocol::{
    FrameReader, FromWorker, Job, LimitsSpec, NetworkSpec, SandboxSpec, Start, Tier, ToWorker, VERSION, WorktreeSpec,
    encode,
};
use swarm_sandbox::{Draft, Limits, Network, Program, Status, Worktree};

/// Each launch gets an upper layer of its own, made before the clock starts, as the coordinator does.
const LAUNCHES: usize = 200;
const PROGRAM: &str = "/bin/true";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == swarm_worker::SUBCOMMAND).is_some() {
        return swarm_worker::main(arguments);
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let state = std::fs::canonicalize(dir.path()).expect("it exists");
    let bare = median(drop, |()| {
        Command::new(PROGRAM).status().expect("/bin/true runs");
    });
    print("bare spawn", bare, bare);
    for (name, tier, network) in [
        ("landlock tier", Tier::Landlock, NetworkSpec::None),
        ("namespaces tier, host network", Tier::Namespaces, NetworkSpec::Host),
        ("namespaces tier, own network, overlay", Tier::Namespaces, NetworkSpec::None),
    ] {
        let in_process = median(|index| draft(&fresh(&state.join(name).join("a"), index), tier, network), launch);
        print(&format!("{name}: launch in process"), in_process, bare);
        let message = |index| {
            encode(&ToWorker::Start(Box::new(start(&fresh(&state.join(name).join("b"), index), tier, network))))
        };
        print(&format!("{name}: whole worker"), median(message, |start| work(&start)), bare);
    }
    ExitCode::SUCCESS
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

fn draft(state: &Path, tier: Tier, network: NetworkSpec) -> Draft {
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
        tmp: (!is_caged).then(|| state.join("tmp")),
        network: if network == NetworkSpec::None { Network::None } else { Network::Host },
        limits: Limits::default(),
        landlock_abi_max: None,
    }
}

fn launch(draft: Draft) {
    let cwd = draft.worktree.at().to_owned();
    let policy = draft.check().expect("a policy");
    let program = Program::new(&[PROGRAM.to_owned()], &[], &cwd).expect("a program");
    let null = || open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).expect("/dev/null");
    let output = swarm_sandbox::launch::Output { stdout: null(), stderr: null() };
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
    let mut frames = FrameReader::new(BufReader::new(child.stdout.take().expect("piped")));
    let mut last = None;
    while let Some(frame) = frames.read::<FromWorker>().expect("frames") {
        last = Some(frame);
    }
    child.wait().expect("our child");
    assert!(matches!(last, Some(FromWorker::Finished { .. })), "{last:?}");
}
