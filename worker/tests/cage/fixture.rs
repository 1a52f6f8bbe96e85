//! A small host to attack, and a worker to attack it from.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use swarm_protocol::{
    Access, Chunk, EnforcementReport, FrameReader, FromWorker, Grant, Job, LimitsSpec, NetworkSpec, Outcome,
    SandboxSpec, Start, Stream, Tier, ToWorker, VERSION, WorktreeSpec, encode,
};

use crate::forks::Server;

/// What must never come out of a cage.
pub const SECRET: &str = "SECRET-7f3a91";

/// A host in a folder, and the private folders of one attempt on it.
pub struct Cage {
    /// Everything below is inside.
    dir: tempfile::TempDir,
    /// The tier its jobs run in.
    pub tier: Tier,
}

impl Cage {
    /// The tiers, and why one does not work here.
    pub fn tiers() -> Vec<(Tier, Result<(), String>)> {
        let dir = temporary_folder();
        let found =
            swarm_sandbox::probe(dir.path(), swarm_sandbox::Question::Each).expect("a probe in a temporary folder");
        let verdict = |verdict: Option<swarm_sandbox::Verdict>| {
            verdict.expect("each was asked for").map(drop).map_err(|refused| refused.to_string())
        };
        vec![(Tier::Landlock, verdict(found.landlock)), (Tier::Namespaces, verdict(found.overlay))]
    }

    /// A fresh host with a repository, a home with secrets, and the folders of an attempt.
    pub fn new(tier: Tier) -> Self {
        let cage = Cage { dir: temporary_folder(), tier };
        for folder in [
            "host/repo/.git/hooks",
            "host/repo/.git/refs/heads",
            "host/repo/.git/objects/info",
            "host/repo/.git/worktrees/w1",
            "host/home/.ssh",
            "host/home/.cargo",
            "state/lower/.git/refs/heads",
            "state/upper",
            "state/work",
            "ws/.git",
            "home",
            "tmp",
        ] {
            fs::create_dir_all(cage.path(folder)).expect("fixture folders");
        }
        for (file, content) in [
            ("host/repo/.git/config", "[core]\n"),
            ("host/repo/.git/HEAD", "ref: refs/heads/main\n"),
            ("host/repo/.git/refs/heads/main", "0123456789012345678901234567890123456789\n"),
            ("host/repo/.git/packed-refs", "# pack-refs\n"),
            ("host/repo/.git/objects/blob", "object\n"),
            ("host/repo/.git/worktrees/w1/commondir", "../..\n"),
            ("host/repo/README", "host\n"),
            ("host/home/.ssh/id_rsa", SECRET),
            ("host/home/.netrc", SECRET),
            ("host/home/.cargo/credentials.toml", SECRET),
            ("host/home/.cargo/config.toml", "[net]\n"),
            ("state/lower/README", "base\n"),
            ("state/lower/.git/HEAD", "ref: refs/heads/work\n"),
            ("ws/README", "base\n"),
            ("ws/.git/HEAD", "ref: refs/heads/work\n"),
        ] {
            fs::write(cage.path(file), content).expect("fixture files");
        }
        cage
    }

    /// A path of the fixture.
    pub fn path(&self, relative: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).expect("the fixture exists").join(relative)
    }

    /// Where the job sees its worktree.
    pub fn worktree(&self) -> PathBuf {
        self.path(if self.tier == Tier::Namespaces { "host/repo" } else { "ws" })
    }

    /// Where the job's writes to its worktree lie on the host.
    pub fn written(&self, relative: &str) -> PathBuf {
        self.path(if self.tier == Tier::Namespaces { "state/upper" } else { "ws" }).join(relative)
    }

    /// The job's home folder.
    pub fn home(&self) -> PathBuf {
        self.path(if self.tier == Tier::Namespaces { "host/home" } else { "home" })
    }

    /// Everything about the host that a job must not change: type, mode, size, time and content by path.
    pub fn host(&self) -> BTreeMap<PathBuf, String> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.path("host")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of the host").flatten() {
                let (path, stat) = (entry.path(), entry.metadata().expect("metadata"));
                // The host's checkout is where controls work; the repository is what lies in its `.git`.
                if folder.ends_with("host/repo") && entry.file_name() != ".git" {
                    continue;
                }
                let content = if stat.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
                let times =
                    if stat.is_dir() { String::new() } else { format!("{}.{}", stat.mtime(), stat.mtime_nsec()) };
                all.insert(path.clone(), format!("{:o} {} {times} {content:?}", stat.mode(), stat.nlink()));
                if stat.is_dir() && !stat.is_symlink() {
                    folders.push(path);
                }
            }
        }
        all
    }

    /// A `start` for a shell script with nothing granted but this very program, readable.
    pub fn start(&self, script: &str) -> Start {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let program = std::env::current_exe().expect("this program");
        let (worktree, tmp) = match self.tier {
            Tier::Namespaces => (
                WorktreeSpec::Overlay {
                    at: self.worktree(),
                    state: self.path("state"),
                    lowers: vec!["lower".to_owned()],
                    upper: "upper".to_owned(),
                    work: "work".to_owned(),
                },
                None,
            ),
            Tier::Landlock => {
                (WorktreeSpec::Directory { at: self.worktree(), path: self.worktree() }, Some(self.path("tmp")))
            }
        };
        let sandbox = SandboxSpec {
            tier: self.tier,
            worktree,
            grants: vec![Grant { path: program.clone(), at: program, access: Access::Read }],
            cow: Vec::new(),
            hide: Vec::new(),
            home: self.home(),
            home_files: Vec::new(),
            tmp,
            network: NetworkSpec::None,
            limits: LimitsSpec::default(),
            env: self.environment(),
        };
        Start {
            version: VERSION,
            job: Job::Command { argv, cwd: self.worktree() },
            sandbox,
            timeout_ms: Some(20_000),
            grace_ms: 200,
            output_bytes_max: 1 << 20,
        }
    }

    /// The sandbox's own words for an empty policy of the tier, for what the protocol cannot ask for.
    pub fn draft(&self) -> swarm_sandbox::Draft {
        use swarm_sandbox::{Access, Draft, Limits, Network, PathGrant, Worktree};
        let program = std::env::current_exe().expect("this program");
        let (tier, worktree) = match self.tier {
            Tier::Namespaces => (
                swarm_sandbox::Tier::Namespaces,
                Worktree::Overlay {
                    at: self.worktree(),
                    state: self.path("state"),
                    lowers: vec!["lower".to_owned()],
                    upper: "upper".to_owned(),
                    work: "work".to_owned(),
                },
            ),
            Tier::Landlock => {
                (swarm_sandbox::Tier::Landlock, Worktree::Directory { at: self.worktree(), path: self.worktree() })
            }
        };
        Draft {
            tier,
            worktree,
            grants: vec![PathGrant { path: program.clone(), at: program, access: Access::Read }],
            copies: Vec::new(),
            hide: Vec::new(),
            home: self.home(),
            home_files: Vec::new(),
            tmp: (self.tier == Tier::Landlock).then(|| self.path("tmp")),
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        }
    }

    /// What scripts may rely on, inside and in controls outside.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |path: PathBuf| path.into_os_string().into_string().expect("temporary folders have plain names");
        [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", path(self.home())),
            ("HOST", path(self.path("host"))),
            ("SELF", path(std::env::current_exe().expect("this program"))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// Runs a script in the cage.
    pub fn run(&self, script: &str) -> Ran {
        Worker::spawn(&self.start(script)).finish()
    }
}

/// What a cage said when it was closed.
#[derive(Debug, Clone, Copy)]
pub struct Entered {
    pub landlock_abi: u32,
    pub metadata: swarm_sandbox::Metadata,
}

/// Runs a script under a policy of the sandbox's own, without a worker: the protocol cannot ask for everything. Gives the
/// that and what was printed.
pub fn run_under(policy: &swarm_sandbox::Policy, cage: &Cage, script: &str) -> Result<(Entered, String), String> {
    use rustix::pipe::{PipeFlags, pipe_with};
    use swarm_sandbox::{Program, Status, launch, launch::Output};
    let argv = ["sh", "-c", script].map(str::to_owned);
    let program = Program::new(&argv, &cage.environment(), policy.get().worktree.at()).expect("a plain command");
    let (out, out_end) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    let output = Output { stdout: out_end.try_clone().expect("a copy"), stderr: out_end, door: None, network: None };
    Server::end_all();
    let mut caged = launch(policy, &program, output).map_err(|refused| refused.to_string())?;
    let mut entered = Err("it ended without a word".to_owned());
    while let Ok(words) = caged.read() {
        for word in words {
            match word {
                Status::Ready { landlock_abi, metadata } => entered = Ok(Entered { landlock_abi, metadata }),
                Status::Refused(refused) => entered = Err(refused.to_string()),
                Status::StartFailed { .. }
                | Status::Limit { .. }
                | Status::NotRunnable { .. }
                | Status::Ended { .. } => {}
            }
        }
    }
    caged.reap().map_err(|error| error.to_string())?;
    let said = std::io::read_to_string(fs::File::from(out)).expect("text");
    entered.map(|entered| (entered, said))
}

/// A worker process with its conversation.
pub struct Worker {
    /// The process.
    pub process: Process,
    /// Its input; dropping it ends the worker.
    pub input: Option<fs::File>,
    frames: FrameReader<BufReader<fs::File>>,
}

/// A worker's process.
pub enum Process {
    /// Started by this one.
    Started(Child),
    /// Made by a fork server.
    Forked(OwnedFd),
}

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        match self {
            Process::Started(child) => child.id(),
            Process::Forked(pidfd) => pid_of(pidfd),
        }
    }

    /// Ends it as somebody who must not would.
    pub fn kill(&mut self) {
        match self {
            Process::Started(child) => child.kill().expect("ours"),
            Process::Forked(pidfd) => rustix::process::pidfd_send_signal(pidfd, Signal::KILL).expect("ours"),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self) {
        match self {
            Process::Started(child) => drop(child.wait().expect("our child")),
            Process::Forked(pidfd) => drop(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None).expect("it ends")),
        }
    }
}

/// The number of the process that a descriptor stands for.
pub fn pid_of(pidfd: &OwnedFd) -> u32 {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("ours");
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd").trim();
    line.parse().ok().filter(|pid| *pid > 1).unwrap_or_else(|| panic!("{text}"))
}

/// What a worker told.
#[derive(Debug)]
pub struct Ran {
    /// What was enforced, when the job was started.
    pub entered: Option<EnforcementReport>,
    /// What the job printed to standard output.
    pub stdout: String,
    /// What the job printed to standard error.
    pub stderr: String,
    /// The last word.
    pub outcome: Option<Outcome>,
}

impl Worker {
    /// Has a worker, with a secret in its environment, do a job: one of a fork server, with a cage that was made ahead of the job.
    pub fn spawn(start: &Start) -> Self {
        let (input, output, pidfd) = Server::with_cage_for(start).fork(start);
        let frames = FrameReader::new(BufReader::new(output));
        Worker { process: Process::Forked(pidfd), input: Some(input), frames }
    }

    /// Starts one and sends it its job.
    pub fn start(start: &Start) -> Self {
        Self::spawn_with(&encode(&ToWorker::Start(Box::new(start.clone()))))
    }

    /// Starts one and sends it these frames in one piece.
    pub fn spawn_with(frames: &[u8]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([swarm_worker::SUBCOMMAND, "--stdio"])
            .env("COORDINATOR_TOKEN", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a worker starts");
        let mut input = fs::File::from(OwnedFd::from(child.stdin.take().expect("piped")));
        input.write_all(frames).expect("the worker reads");
        let output = OwnedFd::from(child.stdout.take().expect("piped"));
        Worker {
            process: Process::Started(child),
            input: Some(input),
            frames: FrameReader::new(BufReader::new(output.into())),
        }
    }

    /// The next frame but heartbeats.
    pub fn frame(&mut self) -> Option<FromWorker> {
        loop {
            match self.frames.read().expect("the worker speaks the protocol") {
                Some(FromWorker::Heartbeat) => {}
                other => return other,
            }
        }
    }

    /// Reads until the job's standard output has shown `word`.
    pub fn wait_for(&mut self, word: &str) -> String {
        let mut shown = String::new();
        while !shown.contains(word) {
            match self.frame() {
                Some(FromWorker::Output { chunk, .. }) => shown.push_str(&text(chunk)),
                Some(FromWorker::Hello { .. } | FromWorker::Entered { .. }) => {}
                other => panic!("{word:?} was not shown: {other:?} after {shown:?}"),
            }
        }
        shown
    }

    /// Hears it to the end.
    pub fn finish(mut self) -> Ran {
        let mut ran = Ran { entered: None, stdout: String::new(), stderr: String::new(), outcome: None };
        while let Some(frame) = self.frame() {
            match frame {
                FromWorker::Entered { enforcement } => ran.entered = Some(enforcement),
                FromWorker::Output { stream: Stream::Stdout, chunk } => ran.stdout.push_str(&text(chunk)),
                FromWorker::Output { stream: Stream::Stderr, chunk } => ran.stderr.push_str(&text(chunk)),
                FromWorker::Finished { outcome } => ran.outcome = Some(outcome),
                FromWorker::Hello { .. } | FromWorker::Heartbeat | FromWorker::Agent { .. } => {}
            }
        }
        drop(self.input.take());
        self.process.wait();
        ran
    }
}

impl Ran {
    /// The last word.
    pub fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().unwrap_or_else(|| panic!("no last word: {self:?}"))
    }
}

/// A folder that goes with the fixture. Not in `/tmp` unless asked for: a cage has a `/tmp` of its own, and a host that lay
/// in it would be out of sight for that reason alone.
fn temporary_folder() -> tempfile::TempDir {
    let parent = std::env::var_os("TMPDIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    tempfile::tempdir_in(parent).expect("a temporary folder")
}

fn text(chunk: Chunk) -> String {
    String::from_utf8_lossy(&chunk.into_bytes().expect("valid base64")).into_owned()
}

/// Whether a process with `word` in its arguments is alive on this machine.
pub fn is_alive(word: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter(|entry| entry.path().join("exe").read_link().is_ok()).any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    })
}

/// Whether something becomes so within ten seconds.
pub fn soon(mut condition: impl FnMut() -> bool) -> bool {
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_secs(10) {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// An innocent process of the same user, with a secret in its environment.
pub struct Peer(Child);

impl Peer {
    /// Starts one, without capabilities, as a job of another worker is: root's would be out of reach for that alone.
    pub fn new() -> Self {
        let mut command = match rustix::process::getuid().is_root() {
            true => Command::new("setpriv"),
            false => Command::new("sleep"),
        };
        if rustix::process::getuid().is_root() {
            command.args(["--bounding-set=-all", "--inh-caps=-all", "sleep"]);
        }
        if let Ok(child) = command.arg("600").env("PEER_TOKEN", SECRET).spawn() {
            let name = format!("/proc/{}/comm", child.id());
            assert!(soon(|| fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")), "the peer is up");
            return Peer(child);
        }
        Peer(Command::new("sleep").arg("600").env("PEER_TOKEN", SECRET).spawn().expect("sleep starts"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it is running, neither ended nor stopped.
    pub fn is_unharmed(&mut self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
        self.0.try_wait().expect("our child").is_none() && matches!(state, Some('S' | 'R' | 'D'))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a script outside of any cage, in the host's checkout: the positive control.
pub fn run_free(cage: &Cage, script: &str, extra: &[(&str, String)]) -> String {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(cage.path("host/repo"))
        .env_clear()
        .envs(cage.environment())
        .env("HOME", Path::new(&cage.path("host/home")))
        .envs(extra.iter().map(|(key, value)| (*key, value.as_str())))
        .output()
        .expect("sh starts");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
