//! The program, run to its end or into its time limit: a hang is a failure that shows what was said until then. Its output goes
//! to files, never to pipes, which a leftover process could keep open.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;

use crate::Repository;

/// The longest that one run of the program may take in a test.
pub const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// Runs the command behind it where no further user namespace can be made.
pub const WITHOUT_NAMESPACES: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"",
    "sh",
];

/// A command line of the program, not started yet.
#[derive(Debug)]
pub struct Swarm {
    command: Command,
    stdout: PathBuf,
    stderr: PathBuf,
    line: String,
}

impl Swarm {
    /// `swarm ARGUMENTS` in the repository's checkout, with nothing in its environment but PATH and HOME.
    pub fn new<A: AsRef<str>>(repository: &Repository, arguments: &[A]) -> Swarm {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        let mut command = Command::new(binary());
        command.args(&arguments).current_dir(repository.path()).stdin(Stdio::null());
        command.env_clear().env("HOME", repository.home());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        let (stdout, stderr) =
            (repository.beside(&format!("{next}.stdout")), repository.beside(&format!("{next}.stderr")));
        Swarm { command, stdout, stderr, line: arguments.join(" ") }
    }

    /// `swarm run` of a plan text under a name, with `--json`. `version = 1` is put in front.
    pub fn run(repository: &Repository, name: &str, plan: &str) -> Swarm {
        let path = repository.beside(&format!("{name}.toml"));
        std::fs::write(&path, format!("version = 1\n{plan}")).expect("space");
        Swarm::new(repository, &["run", &path.display().to_string(), "--json"])
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Swarm {
        self.command.args(arguments);
        self
    }

    /// Gives a person's word: `--allow KEY=VALUE`.
    pub fn allow(self, word: &str) -> Swarm {
        self.args(&["--allow", word])
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, name: &str, value: &str) -> Swarm {
        self.command.env(name, value);
        self
    }

    /// Starts it through another program, whose arguments it follows.
    pub fn through(mut self, words: &[&str]) -> Swarm {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args()).stdin(Stdio::null());
        command.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.command.get_current_dir().expect("set at the start"));
        self.command = command;
        self
    }

    /// Starts it where no further user namespace can be made, as in many containers, so that the landlock tier is the
    /// strongest; `None`, after a word, where such a place cannot be made.
    pub fn without_namespaces(self) -> Option<Swarm> {
        static POSSIBLE: OnceLock<bool> = OnceLock::new();
        let possible = POSSIBLE.get_or_init(|| {
            let mut command = Command::new(WITHOUT_NAMESPACES[0]);
            command.args(&WITHOUT_NAMESPACES[1..]).arg("true").stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        if !possible {
            swarm_protocol::skipped::say("no place without user namespaces can be made here");
        }
        possible.then(|| self.through(WITHOUT_NAMESPACES))
    }

    /// Starts it in another folder.
    pub fn current_dir(mut self, folder: &Path) -> Swarm {
        self.command.current_dir(folder);
        self
    }

    /// Runs it to its end.
    pub fn end(self) -> Ended {
        self.start().end()
    }

    /// Runs it to its end, which must be this exit code.
    pub fn exits(self, code: i32) -> Ended {
        let ended = self.end();
        assert_eq!(ended.code, code, "{ended}");
        ended
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        self.command
            .stdout(File::create(&self.stdout).expect("a file"))
            .stderr(File::create(&self.stderr).expect("a file"));
        let child = self.command.spawn().expect("the program starts");
        Running { child, started: Instant::now(), swarm: self }
    }
}

/// The program while it runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    swarm: Swarm,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its stdout contains a text; `false` when it ended without.
    pub fn says(&mut self, text: &str) -> bool {
        self.writes(self.swarm.stdout.clone(), text)
    }

    /// The same for its stderr.
    pub fn tells(&mut self, text: &str) -> bool {
        self.writes(self.swarm.stderr.clone(), text)
    }

    fn writes(&mut self, path: PathBuf, text: &str) -> bool {
        loop {
            let ended = self.waits(Duration::from_millis(20));
            if std::fs::read_to_string(&path).is_ok_and(|said| said.contains(text)) {
                return true;
            }
            if ended {
                return false;
            }
            assert!(self.started.elapsed() < RUN_TIME_MAX, "`{text}` never came:\n{}", self.so_far());
        }
    }

    /// Waits for its end, but no longer than this; whether it ended.
    pub fn ends_within(&mut self, longest: Duration) -> bool {
        self.waits(longest)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("not 0");
        rustix::process::kill_process(pid, signal).expect("it is our child");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It takes longer than [`RUN_TIME_MAX`]; the message has what it said.
    pub fn end(mut self) -> Ended {
        let left = RUN_TIME_MAX.saturating_sub(self.started.elapsed());
        assert!(self.waits(left), "`swarm {}` hangs:\n{}", self.swarm.line, self.so_far());
        let status = self.child.wait().expect("it is our child");
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("made at the start")).into_owned();
        Ended {
            code: status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0)),
            out: read(&self.swarm.stdout),
            err: read(&self.swarm.stderr),
            took: self.started.elapsed(),
        }
    }

    /// Waits for its end, for a while; whether it ended. Source: pidfd_open(2), a descriptor that is readable after the end.
    fn waits(&mut self, longest: Duration) -> bool {
        let pid = Pid::from_child(&self.child);
        let Ok(descriptor) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return true };
        let timeout = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: i64::from(longest.subsec_nanos()) };
        let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
        matches!(poll(&mut watched, Some(&timeout)), Ok(1..))
    }

    fn so_far(&self) -> String {
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        format!("{}\n{}", read(&self.swarm.stdout), read(&self.swarm.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an ordinary end there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a finished program left.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 1000 and the number where a signal ended it.
    pub code: i32,
    /// What it printed for programs.
    pub out: String,
    /// What it said to people.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

impl Ended {
    /// The events of `--json`.
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// Events of a kind.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Instance to final result.
    pub fn results(&self) -> BTreeMap<String, String> {
        self.by_instance("instance-finished", "result")
    }

    /// Instance to `landed`, `parked` or `empty`.
    pub fn fates(&self) -> BTreeMap<String, String> {
        let merged = self.events_of("merged").into_iter();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        merged.map(|event| (text(&event["instance"]), text(&event["fate"]["fate"]))).collect()
    }

    /// The result of an instance.
    pub fn result(&self, instance: &str) -> String {
        self.results().get(instance).cloned().unwrap_or_else(|| panic!("no {instance}: {self}"))
    }

    /// What became of an instance's change.
    pub fn fate(&self, instance: &str) -> String {
        self.fates().get(instance).cloned().unwrap_or_else(|| panic!("no {instance}: {self}"))
    }

    fn by_instance(&self, kind: &str, field: &str) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.events_of(kind).iter().map(|event| (text(&event["instance"]), text(&event[field]))).collect()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {} after {:?}\n{}\n{}", self.code, self.took, self.out, self.err)
    }
}

/// The program of the same build profile as this test; built first where it is missing or older than its sources.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a running program has a path");
        let profile = test.parent().and_then(Path::parent).expect("tests lie in deps/ of their profile");
        let binary = profile.join("swarm");
        if !is_fresh(&binary) {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            // Asked for as a part of the whole workspace, with what its tests bring, dependencies have the features that
            // `cargo test --workspace` built them with, and are not built once more.
            match profile.ends_with("release") {
                true => cargo.args(["build", "--release", "-p", "swarm"]),
                false => cargo.args(["test", "--no-run", "--workspace", "--test", "reading"]),
            };
            cargo.args(["--offline", "--target-dir"]).arg(profile.parent().expect("target/"));
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(cargo.status().is_ok_and(|status| status.success()), "the program builds: {cargo:?}");
        }
        binary
    })
}

/// Whether a binary is at least as new as the sources that cargo's `.d` file beside it names.
fn is_fresh(binary: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let (Some(built), Ok(sources)) = (modified(binary), std::fs::read_to_string(binary.with_extension("d"))) else {
        return false;
    };
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    sources.split_whitespace().all(|source| modified(Path::new(source)).is_some_and(|time| time <= built))
}
