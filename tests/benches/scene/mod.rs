//! What the benches share: generated repositories of any size, medians, sizes on disk, memory of a process.
#![expect(dead_code, reason = "each bench uses its own part")]

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use git2::{ObjectType, Oid, Repository, Signature, Time};
use swarm_orchestrator::tree::{self, Edits, Entry, FILE};

/// Files in a folder without folders.
const FILES_IN_FOLDER: usize = 100;
/// Folders in a folder without files.
const FOLDERS_IN_PART: usize = 50;

/// A repository of generated files in one pack, on branch `main`, with nothing checked out.
pub struct Scene {
    folder: tempfile::TempDir,
    /// Its HEAD.
    pub commit: Oid,
    /// The tree of its HEAD.
    pub tree: Oid,
    /// How many files it has.
    pub files: usize,
}

impl Scene {
    /// Generates one. Each file has 12 lines that no other file has.
    pub fn generate(files: usize) -> Scene {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repo = Repository::init(folder.path().join("repo")).expect("a new repository");
        repo.set_head("refs/heads/main").expect("a valid name");
        let mut config = repo.config().expect("a new repository has one");
        config.set_str("user.name", "Ada").expect("writable");
        config.set_str("user.email", "ada@example.org").expect("writable");
        let odb = repo.odb().expect("an object store");
        let pack = odb.add_new_mempack_backend(1000).expect("memory");
        let mut edits = Edits::new();
        for number in 0..files {
            let id = odb.write(ObjectType::Blob, content(number).as_bytes()).expect("memory");
            edits.insert(path(number).into_bytes(), Some(Entry { mode: FILE, id }));
        }
        let tree = tree::edit(&odb, None, &edits).expect("memory").expect("it has files");
        let commit = commit(&repo, tree, None);
        let mut bytes = git2::Buf::new();
        pack.dump(&repo, &mut bytes).expect("memory");
        let written = Repository::open(repo.path()).expect("it was just made");
        let written_odb = written.odb().expect("an object store");
        let mut writer = written_odb.packwriter().expect("writable");
        writer.write_all(&bytes).expect("writable");
        writer.commit().expect("writable");
        written.reference("refs/heads/main", commit, false, "generated").expect("a new ref");
        Scene { folder, commit, tree, files }
    }

    /// The checkout.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    /// A folder beside the checkout, removed with it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens it.
    pub fn open(&self) -> Repository {
        Repository::open(self.path()).expect("it was generated")
    }

    /// The tree in which some files have another first line.
    pub fn edited(&self, repo: &Repository, numbers: impl IntoIterator<Item = usize>) -> Oid {
        let odb = repo.odb().expect("an object store");
        let mut edits = Edits::new();
        for number in numbers {
            let text = format!("edited {number}\n{}", content(number));
            let id = odb.write(ObjectType::Blob, text.as_bytes()).expect("writable");
            edits.insert(path(number).into_bytes(), Some(Entry { mode: FILE, id }));
        }
        tree::edit(&odb, Some(self.tree), &edits).expect("writable").expect("it has files")
    }

    /// Starts a git command in it, without the user's configuration.
    pub fn git(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.path()).args(arguments);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    }

    /// Runs a git command to its end.
    pub fn run_git(&self, arguments: &[&str]) {
        let status = self.git(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.expect("git starts").success(), "git {arguments:?}");
    }
}

/// The path of a file, from the top of the tree.
pub fn path(number: usize) -> String {
    let folder = number / FILES_IN_FOLDER;
    format!("part_{:03}/module_{:02}/file_{number:06}.txt", folder / FOLDERS_IN_PART, folder % FOLDERS_IN_PART)
}

/// The content of a file before any edit.
pub fn content(number: usize) -> String {
    (0..12).map(|line| format!("file {number}, line {line}\n")).collect()
}

/// Commits a tree without moving a ref.
pub fn commit(repo: &Repository, tree: Oid, parent: Option<Oid>) -> Oid {
    let someone = Signature::new("Ada", "ada@example.org", &Time::new(1_700_000_000, 0)).expect("a valid name");
    let tree = repo.find_tree(tree).expect("it was written");
    let parent = parent.map(|id| repo.find_commit(id).expect("it was written"));
    let parents: Vec<_> = parent.iter().collect();
    repo.commit(None, &someone, &someone, "generated\n", &tree, &parents).expect("writable")
}

/// Whether a git binary is there; says so when not.
pub fn has_git() -> bool {
    let there = Command::new("git").arg("version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("no git on PATH: what compares with it is skipped");
    }
    there
}

/// The middle of the times that `act` takes.
pub fn median(times: usize, mut act: impl FnMut()) -> Duration {
    let mut all: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            act();
            start.elapsed()
        })
        .collect();
    all.sort();
    all[all.len() / 2]
}

/// Milliseconds, for printing.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Bytes on disk below a folder, as `du` counts them.
pub fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let below = entries.flatten().map(|entry| match entry.path().symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => metadata.blocks() * 512 + disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    below.sum()
}

/// The `swarm` binary of the same build profile as this bench.
pub fn swarm() -> Option<PathBuf> {
    let here = std::env::current_exe().ok()?;
    let binary = here.parent()?.parent()?.join("swarm");
    if !binary.is_file() {
        println!("{} is missing: build it first with `cargo build --release`", binary.display());
        return None;
    }
    Some(binary)
}

/// What a finished process took.
pub struct Finished {
    /// From start to end.
    pub wall: Duration,
    /// Processor time of it and all its children, on all cores.
    pub cpu: Duration,
    /// Its own peak of resident memory in KiB, without its children.
    pub peak_kib: u64,
    /// Whether it exited with 0.
    pub passed: bool,
}

/// Runs a process to its end and watches its memory. Source: `VmHWM` of proc_pid_status(5), read every 10 ms; it only grows, so the
/// last value misses at most what was added in the last 10 ms.
pub fn watch(mut command: Command) -> Finished {
    let (start, cpu) = (Instant::now(), children_cpu());
    let mut child = command.spawn().expect("it starts");
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak_kib = 0;
    loop {
        if let Some(ended) = child.try_wait().expect("it is our child") {
            let cpu = children_cpu() - cpu;
            return Finished { wall: start.elapsed(), cpu, peak_kib, passed: ended.success() };
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processor time of all children that ended so far. Source: fields 16 and 17 of proc_pid_stat(5), in hundredths of a
/// second on every Linux that is in use.
pub fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
