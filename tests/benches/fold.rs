//! Merges per second: `cargo bench -p swarm-tests --bench fold -- [FILES…]`. Every result edits three files in three folders.
//! The tip that they are folded onto holds as many other results. Compared with `git merge-tree --stdin` doing the same
//! merges into an empty object store, and with a chain of folds, which is what a merge train does.

/// Generated repositories and clocks.
mod scene;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use git2::{Oid, Repository};
use scene::{Scene, ms};
use swarm_orchestrator::merge::{Folded, fold};

/// How many results are folded.
const RESULTS: usize = 500;

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    for files in if sizes.is_empty() { vec![10_000, 100_000] } else { sizes } {
        bench(files);
    }
}

fn bench(files: usize) {
    let scene = Scene::generate(files);
    let repo = scene.open();
    // Scattered, and no file is edited twice: a stride that shares no factor with the sizes above.
    let three = |result: usize| (0..3).map(move |edit| (result * 3 + edit) * 7_919 % files);
    let results: Vec<Oid> = (0..RESULTS).map(|result| scene.edited(&repo, three(result))).collect();
    let tip = scene.edited(&repo, (RESULTS..2 * RESULTS).flat_map(three));
    let git = scene::has_git().then(|| git_merges(&scene, &repo, tip, &results));

    let start = Instant::now();
    let folded: Vec<Oid> = results.iter().map(|&result| clean(&repo, scene.tree, tip, result)).collect();
    let ours = start.elapsed() / RESULTS as u32;
    let start = Instant::now();
    let chained = results.iter().fold(tip, |tip, &result| clean(&repo, scene.tree, tip, result));
    let chain = start.elapsed() / RESULTS as u32;
    assert_eq!(chained, scene.edited(&repo, (0..2 * RESULTS).flat_map(three)), "the chain is one sequential edit");

    let in_memory = in_memory(&scene, tip, &results, chained);

    println!("{files} files, {RESULTS} results of 3 files:");
    println!("  fold onto a tip      {:8.3} ms a merge, {:7.0} a second", ms(ours), 1e3 / ms(ours));
    println!("  fold in a chain      {:8.3} ms a merge, {:7.0} a second", ms(chain), 1e3 / ms(chain));
    println!("  the same in memory   {:8.3} ms a merge, {:7.0} a second", ms(in_memory), 1e3 / ms(in_memory));
    if let Some((git, trees)) = git {
        assert_eq!(folded, trees, "git merges to the same trees");
        println!("  git merge-tree       {:8.3} ms a merge, {:7.0} a second", ms(git), 1e3 / ms(git));
        println!("  git / fold           {:8.2}", ms(git) / ms(ours));
    }
}

fn clean(repo: &Repository, base: Oid, tip: Oid, result: Oid) -> Oid {
    match fold(repo, base, tip, result).expect("the objects are there") {
        Folded::Clean { tree } => tree,
        Folded::Conflict { paths } => panic!("conflict at {paths:?}"),
    }
}

/// The time for one fold of the chain when new objects stay in memory: what is left without one file a tree.
fn in_memory(scene: &Scene, tip: Oid, results: &[Oid], want: Oid) -> Duration {
    let repo = scene.open();
    let odb = repo.odb().expect("an object store");
    let _memory = odb.add_new_mempack_backend(1000).expect("memory");
    let start = Instant::now();
    let chained = results.iter().fold(tip, |tip, &result| clean(&repo, scene.tree, tip, result));
    let each = start.elapsed() / results.len() as u32;
    assert_eq!(chained, want);
    each
}

/// Git's time for one merge and its trees. What it writes goes into an object store of its own.
fn git_merges(scene: &Scene, repo: &Repository, tip: Oid, results: &[Oid]) -> (Duration, Vec<Oid>) {
    let tip = scene::commit(repo, tip, Some(scene.commit));
    let mut input = String::new();
    for &result in results {
        let result = scene::commit(repo, result, Some(scene.commit));
        let _ = writeln!(input, "{} -- {tip} {result}", scene.commit);
    }
    let objects = scene.beside("objects-of-git");
    std::fs::create_dir(&objects).expect("a new folder");
    let mut command = scene.git(&["merge-tree", "--stdin", "--no-messages"]);
    command.env("GIT_OBJECT_DIRECTORY", &objects);
    command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", scene.path().join(".git/objects"));
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("git ends");
    feeder.join().expect("no panic").expect("git reads");
    let each = start.elapsed() / results.len() as u32;
    let text = String::from_utf8_lossy(&output.stdout);
    let trees = text.split('\0').filter(|word| word.len() == 40).map(|id| id.parse().expect("an id")).collect();
    (each, trees)
}
