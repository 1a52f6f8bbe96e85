//! What isolation costs at different sizes: `cargo bench -p swarm-tests --bench worktree -- [FILES…]`.
//!
//! A worktree is provisioned, mounted, read from, unmounted and removed, against `git worktree add` and `remove`; ten changed
//! files are collected and committed, against `git add -A && git write-tree`. Mounting needs a user and mount namespace of
//! its own, so the bench starts itself again behind `unshare`.

/// Generated repositories and clocks.
mod scene;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use scene::{Scene, median, ms};
use swarm_orchestrator::base::git_dir::ObjectsAt;
use swarm_orchestrator::base::{BaseSettings, Bases, Layers};
use swarm_orchestrator::collect::{Collected, Terms, collect};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::state::StateDir;
use swarm_orchestrator::worktree::{Backend, Worktree};
use swarm_protocol::WorktreeSpec;

/// Set in the namespaces.
const INSIDE: &str = "SWARM_BENCH_INSIDE";
/// How many changed files are committed.
const CHANGED: usize = 10;

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let here = std::env::current_exe().expect("/proc is mounted");
        let error = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(here)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec();
        println!("skipped: no unshare to mount with ({error})");
        return;
    }
    let sizes: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    for files in if sizes.is_empty() { vec![100, 5_000, 80_000] } else { sizes } {
        bench(files);
    }
}

fn bench(files: usize) {
    let scene = Scene::generate(files);
    let repository = Arc::new(Repository::open(&scene.path()).expect("it was generated"));
    let state = StateDir::open(&scene.beside("state")).expect("a writable folder");
    let settings = BaseSettings {
        backend: Backend::Overlay,
        objects: ObjectsAt::Host,
        sparse: vec![],
        copy: vec![],
        cache: vec![],
    };
    let bases = Bases::new(Arc::clone(&repository), state.clone(), settings).expect("no patterns");
    let mut layers = None;
    let prepared = median(1, || layers = Some(bases.prepare(scene.commit).expect("a full disk?")));
    let layers = layers.expect("prepared above");

    println!("{files} files: base prepared once in {:.0} ms", ms(prepared));
    let mut number = 0;
    let at = scene.beside("mounted");
    std::fs::create_dir(&at).expect("a new folder");
    let made = median(50, || {
        number += 1;
        let worktree = mounted(&state, &layers, number, &at);
        assert_eq!(std::fs::read_to_string(at.join(scene::path(0))).expect("it is mounted"), scene::content(0));
        unmount(&at, UnmountFlags::empty()).expect("it is mounted");
        drop(worktree.remove().expect("removable"));
    });
    println!("  worktree made and removed      {:9.2} ms", ms(made));
    let committed = collected(&scene, &repository, &state, &layers, &at);
    println!("  {CHANGED} files collected             {:9.2} ms", ms(committed));
    if scene::has_git() {
        compare_with_git(&scene, made, committed);
    }
}

fn mounted(state: &StateDir, layers: &Layers, number: usize, at: &Path) -> Worktree {
    let attempt = format!("runs/bench/{number}/1");
    let worktree = Worktree::provision(state, layers, &attempt, at, Backend::Overlay, None).expect("a full disk?");
    let WorktreeSpec::Overlay { state, lowers, upper, work, .. } = &worktree.spec else {
        unreachable!("BUG: asked for an overlay")
    };
    let inside = |name: &String| state.join(name).display().to_string();
    let lowers: Vec<String> = lowers.iter().map(inside).collect();
    let options = format!("lowerdir={},upperdir={},workdir={}", lowers.join(":"), inside(upper), inside(work));
    let options = std::ffi::CString::new(options).expect("no NUL in paths");
    mount("overlay", at, "overlay", MountFlags::empty(), options.as_c_str()).expect("overlays can be mounted");
    worktree
}

/// Time from "the worker is dead" to "its tree is in the object store".
fn collected(scene: &Scene, repository: &Repository, state: &StateDir, layers: &Layers, at: &Path) -> Duration {
    let mut all = Vec::new();
    for round in 0..20 {
        let worktree = mounted(state, layers, 1_000 + round, at);
        for file in changed(scene) {
            std::fs::write(at.join(scene::path(file)), format!("round {round}\n")).expect("it is mounted");
        }
        unmount(at, UnmountFlags::empty()).expect("it is mounted");
        all.push(median(1, || {
            worktree.strip_git_dir().expect("removable");
            match collect(repository, &worktree, None, &Terms::default()).expect("a full disk?") {
                Collected::Change(change) => assert_eq!(change.paths.len(), CHANGED),
                Collected::Refused(refusal) => panic!("{refusal:?}"),
            }
        }));
        drop(worktree.remove().expect("removable"));
    }
    all.sort();
    all[all.len() / 2]
}

/// Spread over the whole repository.
fn changed(scene: &Scene) -> impl Iterator<Item = usize> {
    let step = scene.files / CHANGED;
    (0..CHANGED).map(move |n| n * step)
}

fn compare_with_git(scene: &Scene, made: Duration, committed: Duration) {
    let times = if scene.files > 20_000 { 1 } else { 5 };
    let folder = scene.beside("worktree-of-git");
    let name = folder.display().to_string();
    let add = median(times, || {
        scene.run_git(&["worktree", "add", "--detach", &name, "main"]);
        scene.run_git(&["worktree", "remove", "--force", &name]);
    });
    println!("  git worktree add and remove    {:9.2} ms, {:.0} times ours", ms(add), ms(add) / ms(made));
    scene.run_git(&["worktree", "add", "--detach", &name, "main"]);
    let mut round = 0;
    let mut all = Vec::new();
    for _ in 0..5 {
        round += 1;
        for file in changed(scene) {
            std::fs::write(folder.join(scene::path(file)), format!("git {round}\n")).expect("a checkout");
        }
        all.push(median(1, || {
            scene.run_git(&["-C", &name, "add", "-A"]);
            scene.run_git(&["-C", &name, "write-tree"]);
        }));
    }
    all.sort();
    let tree = all[all.len() / 2];
    println!("  git add -A && git write-tree   {:9.2} ms, {:.0} times ours", ms(tree), ms(tree) / ms(committed));
}
