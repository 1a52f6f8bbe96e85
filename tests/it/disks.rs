//! Disks and limits that really are too small: the run ends with 3, its journal can be read, the target stands where the
//! journal says, and once there is room the run comes to the tree that it would have come to. And a disk whose power goes.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use swarm_tests::{Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];

/// Eight tasks with changes and artifacts, and one on all of them.
const PLAN: &str = "[tasks.w]\nmatrix = { n = [1, 2, 3, 4, 5, 6, 7, 8] }\nenv = { N = '{{ matrix.n }}' }\n\
    run = 'head -c 200000 /dev/urandom > \"$SWARM_ARTIFACTS/blob\"; for i in 1 2 3 4; do echo \"$N-$i\" > \"f$N-$i.txt\"; done'\n\
    [tasks.end]\nneeds = ['w']\nrun = 'cat f*.txt > all.txt'\n";

/// A file system in memory of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and said, where none can be mounted.
    fn mount(at: PathBuf, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir(&at).expect("a new folder");
        match mount("tmpfs", &at, "tmpfs", MountFlags::empty(), Some(options(size).as_c_str())) {
            Ok(()) => Some(SmallDisk(at)),
            Err(error) => {
                swarm_protocol::skipped::say(format_args!("no small disk can be mounted ({error})"));
                None
            }
        }
    }

    fn grow(&self) {
        mount_remount(&self.0, MountFlags::empty(), options("size=500m,nr_inodes=100000").as_c_str()).expect("our own");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("our own");
    }
}

fn options(text: &str) -> CString {
    CString::new(text).expect("no zero byte")
}

fn start(repository: &Repository, plan: &str, state: &Path) -> Swarm {
    let state = state.display().to_string();
    Swarm::run(repository, "it", plan).args(&["-j2", "--state-dir", &state]).env("SOURCE_DATE_EPOCH", "1700000000")
}

/// The tree that the plan comes to. Its commits may stand in another order: a task that the machine failed alone keeps nobody
/// waiting, and lands when the run goes on.
fn undisturbed() -> git2::Oid {
    static TREE: OnceLock<git2::Oid> = OnceLock::new();
    *TREE.get_or_init(|| {
        let repository = Repository::with(&FILES);
        start(&repository, PLAN, &repository.beside("state")).exits(0);
        landed_tree(&repository)
    })
}

fn landed_tree(repository: &Repository) -> git2::Oid {
    let tip = repository.commit_of("swarm/it").expect("it landed");
    repository.git().find_commit(tip).expect("a commit").tree_id()
}

/// Runs into something that is too small, has it `mend`ed and goes on.
fn fails_and_goes_on(
    repository: &Repository,
    state: &Path,
    through: impl FnOnce(Swarm) -> Swarm,
    mend: impl FnOnce(),
) -> String {
    let failed = through(start(repository, PLAN, state)).exits(3);
    assert!(!failed.err.contains("panicked"), "{failed}");
    let at = state.display().to_string();
    let look = |words: &[&str]| Swarm::new(repository, &[words, &["--state-dir", &at]].concat());
    let is_known = look(&["list"]).exits(0).out.contains(" it-");
    if is_known {
        look(&["status"]).exits(0);
        let git = repository.git();
        let tip = repository.commit_of("swarm/it");
        for event in look(&["report", "--format", "json"]).exits(0).events_of("merged") {
            let Some(commit) = event["fate"]["commit"].as_str() else { continue };
            let (commit, tip) = (commit.parse().expect("an id"), tip.expect("something landed on it"));
            assert!(commit == tip || git.graph_descendant_of(tip, commit).expect("a history"), "{failed}");
        }
    }
    mend();
    let ended = match is_known {
        true => look(&["resume"]).exits(0),
        false => start(repository, PLAN, state).exits(0),
    };
    assert_eq!(landed_tree(repository), undisturbed(), "{failed}\n{ended}");
    failed.err
}

#[test]
fn a_state_folder_without_space_or_inodes() {
    for size in ["size=100k", "size=400k", "size=900k", "size=1500k", "nr_inodes=30", "nr_inodes=90", "nr_inodes=130"] {
        let repository = Repository::with(&FILES);
        let Some(disk) = SmallDisk::mount(repository.beside("disk"), size) else { return };
        let said = fails_and_goes_on(&repository, &disk.0, |swarm| swarm, || disk.grow());
        assert!(said.contains("space"), "{size}: {said}");
    }
}

#[test]
fn a_repository_whose_own_disk_is_full() {
    for left_kib in [20, 60, 100, 140] {
        let repository = Repository::with(&FILES);
        let folder = repository.path();
        let aside = repository.beside("aside");
        std::fs::rename(&folder, &aside).expect("one file system");
        let Some(disk) = SmallDisk::mount(folder.clone(), "size=20m") else { return };
        copy_all(&aside, &folder);
        let balloon = folder.join(".git/balloon");
        let free = rustix::fs::statvfs(&folder).map(|disk| disk.f_bavail * disk.f_frsize).expect("mounted");
        std::fs::write(&balloon, vec![0; free as usize - (left_kib << 10)]).expect("it fits");
        let state = repository.beside("state");
        fails_and_goes_on(&repository, &state, |swarm| swarm, || std::fs::remove_file(&balloon).expect("ours"));
        drop(disk);
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("legible");
        if from.is_dir() {
            std::fs::create_dir(&to).expect("a new folder");
            copy_all(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("space");
        }
    }
}

/// A file with an ext4 in it, mounted; unmounted when dropped.
struct Image(PathBuf);

impl Image {
    /// `None`, and said, where none can be mounted.
    fn mount(image: &Path, at: PathBuf) -> Option<Image> {
        let [image, to] = [image, &at].map(|path| path.to_str().expect("UTF-8"));
        is_done("mount", &["-o", "loop", image, to]).then_some(Image(at))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("our own");
    }
}

/// Whether a program of the system does what it is asked for; it is said where not.
fn is_done(program: &str, arguments: &[&str]) -> bool {
    let output = std::process::Command::new(program).args(arguments).output();
    let is_done = output.as_ref().is_ok_and(|output| output.status.success());
    if !is_done {
        swarm_protocol::skipped::say(format_args!("{program} {arguments:?}: {output:?}"));
    }
    is_done
}

/// What the disk holds of a repository when `last` has ended is what is left of a machine whose power goes then. What `before` did is on
/// it. It is mounted in the repository's place; `None` where this machine cannot.
fn left_by_a_power_cut(repository: &Repository, before: &dyn Fn(), last: &dyn Fn()) -> Option<(Image, SmallDisk)> {
    let (folder, aside) = (repository.path(), repository.beside("aside"));
    let memory = SmallDisk::mount(repository.beside("memory"), "size=300m")?;
    let [image, left] = ["image", "left"].map(|name| memory.0.join(name));
    std::fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("space");
    let lazy = "lazy_itable_init=0,lazy_journal_init=0";
    if !is_done("mkfs.ext4", &["-q", "-F", "-E", lazy, image.to_str().expect("UTF-8")]) {
        return None;
    }
    std::fs::rename(&folder, &aside).and_then(|()| std::fs::create_dir(&folder)).expect("one file system");
    let disk = Image::mount(&image, folder.clone())?;
    copy_all(&aside, &folder);
    before();
    rustix::fs::syncfs(std::fs::File::open(&folder).expect("a folder")).expect("space");
    last();
    std::fs::copy(&image, &left).expect("space");
    drop(disk);
    Some((Image::mount(&left, folder).expect("it is whole"), memory))
}

#[test]
fn a_checkout_outlives_a_power_cut_right_behind_apply() {
    for merges in [false, true] {
        let repository = Repository::with(&FILES);
        let before = || {
            Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > new; mkdir s; echo s > s/new'\n").exits(0);
            if merges {
                repository.write("mine", "mine\n");
                repository.commit_all("mine\n");
            }
        };
        let apply = || drop(Swarm::new(&repository, &["apply"]).exits(0));
        let Some(_left) = left_by_a_power_cut(&repository, &before, &apply) else { return };
        if repository.run_git(&["fsck", "--full"]).is_none() {
            return;
        }
        Swarm::new(&repository, &["apply"]).exits(0);
        assert_eq!(repository.run_git(&["status", "--porcelain"]).as_deref(), Some(""));
        assert_eq!((&*repository.text("HEAD", "new"), &*repository.text("HEAD", "s/new")), ("a\n", "s\n"));
        repository.run_git(&["gc", "-q", "--prune=now"]);
    }
}

#[test]
fn what_nobody_keeps_outlives_a_power_cut_right_behind_the_run() {
    let repository = Repository::with(&[("gen", "0\n")]);
    let tasks = "[tasks.a]\nrun = 'echo a > ga; echo a > gen'\n[tasks.b]\nrun = 'echo b > gb; echo b > gen'\n";
    let plan = format!("[merge]\nregenerate = [{{ paths = ['gen'], run = 'cat ga gb > gen' }}]\n{tasks}");
    let run = || drop(Swarm::run(&repository, "it", &plan).exits(0));
    let Some(_left) = left_by_a_power_cut(&repository, &|| (), &run) else { return };
    let folders = std::fs::read_dir(repository.path().join(".git/objects")).expect("a store").flatten();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder").flatten());
    let empty: Vec<PathBuf> =
        files.filter(|file| file.metadata().is_ok_and(|it| it.len() == 0)).map(|file| file.path()).collect();
    assert_eq!(empty, Vec::<PathBuf>::new());
    repository.run_git(&["gc", "-q"]);
}

#[test]
fn too_few_open_files() {
    for files in [12, 16, 20] {
        let repository = Repository::with(&FILES);
        let script = format!("ulimit -n {files}; exec \"$@\"");
        let through = |swarm: Swarm| swarm.through(&["/bin/sh", "-c", &script, "sh"]);
        let said = fails_and_goes_on(&repository, &repository.beside("state"), through, || {});
        let is_named = said.contains("Too many open files") || said.contains("unable to open database file");
        assert!(is_named, "{files}: {said}");
    }
}

/// A task that fills its disk is begun again once there is more of it.
fn begins_again(size: &str, run: &str) {
    let repository = Repository::with(&FILES);
    let Some(disk) = SmallDisk::mount(repository.beside("disk"), size) else { return };
    start(&repository, &format!("[tasks.a]\nrun = '{run}'\n"), &disk.0).exits(3);
    assert_eq!(repository.commit_of("swarm/it"), None);
    disk.grow();
    Swarm::new(&repository, &["resume", "--state-dir", &disk.0.display().to_string()]).exits(0);
    assert_eq!(repository.text("swarm/it", "ok.txt"), "ok\n");
}

#[test]
fn a_task_that_fails_on_a_full_disk_did_not_fail_by_itself() {
    begins_again("size=8m", "dd if=/dev/zero of=big bs=64k count=200 && rm big && echo ok > ok.txt");
}

/// As compilers do: behind its end there is space again.
#[test]
fn a_task_that_took_its_half_written_file_away_did_not_fail_by_itself() {
    begins_again("size=24m", "head -c 30000000 /dev/zero > big || { rm big; exit 1; }; rm big; echo ok > ok.txt");
}

#[test]
fn a_gate_that_took_its_half_written_file_away_blames_no_result() {
    let repository = Repository::with(&FILES);
    let Some(disk) = SmallDisk::mount(repository.beside("disk"), "size=24m") else { return };
    let plan = "[tasks.a]\nrun = 'echo ok > ok.txt'\n\
        [merge]\nverify = 'test ! -e ok.txt || head -c 30000000 /dev/zero > big || { rm big; exit 1; }'\n";
    let failed = start(&repository, plan, &disk.0).exits(3);
    assert!(failed.err.contains("no space"), "{failed}");
    disk.grow();
    Swarm::new(&repository, &["resume", "--state-dir", &disk.0.display().to_string()]).exits(0);
    assert_eq!(repository.text("swarm/it", "ok.txt"), "ok\n");
}

#[test]
fn commands_whose_logs_find_no_room_end_as_they_end() {
    let repository = Repository::with(&FILES);
    let prints = "'head -c 4000000 /dev/zero | tr \"\\0\" x'";
    let plan =
        format!("[workspace]\nsetup = {prints}\n[tasks.a]\nrun = 'echo ok > ok.txt'\n[merge]\nverify = {prints}\n");
    // No file of the coordinator's may be larger than 1 MiB, and it is told so instead of killed.
    let limited = ["/bin/sh", "-c", "trap '' XFSZ; ulimit -f 2048; exec \"$@\"", "sh"];
    let ended = Swarm::run(&repository, "it", &plan).through(&limited).exits(0);
    let told = ended.err.matches("the log of a command is incomplete").count();
    assert_eq!(told, 3, "of setup, and of what verified the base and the result: {ended}");
    assert_eq!(repository.text("swarm/it", "ok.txt"), "ok\n");
}

/// The hint of every full disk is a command that has to work there.
#[test]
fn on_a_full_disk_people_see_what_there_is_and_get_it_back() {
    let repository = Repository::with(&FILES);
    let Some(disk) = SmallDisk::mount(repository.beside("disk"), "size=8m") else { return };
    start(&repository, &PLAN.replace("head -c 200000", "head -c 2000"), &disk.0).exits(0);
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let at = disk.0.display().to_string();
    let look = |words: &[&str]| Swarm::new(&repository, &[words, &["--state-dir", &at]].concat()).exits(0);
    assert!(look(&["list"]).out.contains(" it-1 "));
    assert!(look(&["status"]).out.contains("landed"));
    assert!(look(&["clean", "--dry-run"]).err.contains("would free"));
    assert!(look(&["clean"]).err.contains("freed"));
    let again = start(&repository, PLAN, &disk.0).args(&["--into", "other"]).end();
    assert!(again.code == 0 || again.err.contains("space"), "{again}");
}

#[test]
fn a_state_folder_that_is_read_only_is_named_with_the_way_out() {
    let repository = Repository::with(&FILES);
    let Some(disk) = SmallDisk::mount(repository.beside("disk"), "size=8m") else { return };
    mount_remount(&disk.0, MountFlags::RDONLY, options("size=8m").as_c_str()).expect("nobody writes there");
    let refused = start(&repository, PLAN, &disk.0).exits(3);
    assert!(refused.err.contains("mounted read-only") && refused.err.contains("--state-dir"), "{refused}");
    assert_eq!(repository.commit_of("swarm/it"), None);
}

#[test]
fn coordinators_with_different_state_folders_meet_at_the_target() {
    let repository = Repository::with(&FILES);
    let mut first = start(&repository, "[tasks.a]\nrun = 'sleep 50'\n", &repository.beside("one")).start();
    assert!(first.says("attempt-started"), "it starts");
    let refused = start(&repository, PLAN, &repository.beside("two")).exits(8);
    let holder = first.pid().to_string();
    let cancel = format!("swarm --state-dir {} cancel it-1", repository.beside("one").display());
    assert!(refused.err.contains(&holder) && refused.err.contains(&cancel), "{refused}");
    first.signal(rustix::process::Signal::KILL);
    first.end();
    start(&repository, PLAN, &repository.beside("two")).exits(0);
}
