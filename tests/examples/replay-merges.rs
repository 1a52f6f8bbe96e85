//! Replays the merges of a real repository:
//! `cargo run --release -p swarm-tests --example replay-merges -- REPOSITORY [MAX] [--reverts]`.
//!
//! Every merge commit with two parents and one merge base is folded again, and compared with `git merge-tree` on the same
//! three trees. With `--reverts`, for histories without merges, every commit is reverted onto several of its descendants instead: that
//! is a three-way merge of real content too, with more conflicts than people leave behind. Folding where git reports a conflict, or to another tree, is a fault: the program prints it and exits with 1.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use git2::{Oid, Repository};
use swarm_orchestrator::merge::{Folded, fold};

/// One merge: base, ours, theirs; commits.
type Merge = [Oid; 3];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = arguments.first() else {
        eprintln!("usage: replay-merges REPOSITORY [MAX]");
        return ExitCode::from(2);
    };
    let max = arguments.get(1).and_then(|max| max.parse().ok()).unwrap_or(usize::MAX);
    let source = Repository::open(path).expect("a repository");
    let wanted = if arguments.iter().any(|word| word == "--reverts") { reverts } else { merges };
    let merges = wanted(&source, max);
    // What is written goes into a store of its own: the repository stays as it is.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let scratch = Repository::init_bare(folder.path()).expect("a new repository");
    let alternates = format!("{}\n", source.commondir().join("objects").canonicalize().expect("it is there").display());
    std::fs::write(folder.path().join("objects/info/alternates"), alternates).expect("writable");
    let scratch = Repository::open(scratch.path()).expect("it was just made");

    let (git_time, gits) = git_merges(folder.path(), &merges);
    let start = Instant::now();
    let folded: Vec<Folded> = merges.iter().map(|merge| replay(&scratch, merge)).collect();
    report(&merges, &folded, &gits, (start.elapsed(), git_time))
}

fn merges(repo: &Repository, max: usize) -> Vec<Merge> {
    let mut walk = repo.revwalk().expect("a readable repository");
    walk.push_glob("refs/*").expect("a valid pattern");
    let merges = walk.flatten().filter_map(|id| {
        let commit = repo.find_commit(id).ok()?;
        let (ours, theirs) = (commit.parent_id(0).ok()?, commit.parent_id(1).ok()?);
        let bases = (commit.parent_count() == 2).then(|| repo.merge_bases(ours, theirs).ok())??;
        (bases.len() == 1 && bases[0] != ours && bases[0] != theirs).then(|| [bases[0], ours, theirs])
    });
    merges.take(max).collect()
}

/// How many commits lie between a commit and the one onto which it is reverted.
const DISTANCES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

fn reverts(repo: &Repository, max: usize) -> Vec<Merge> {
    let mut walk = repo.revwalk().expect("a readable repository");
    walk.push_head().expect("a readable repository");
    walk.simplify_first_parent().expect("a readable repository");
    let line: Vec<Oid> = walk.flatten().collect();
    let onto = |at: usize| DISTANCES.iter().filter_map(move |distance| at.checked_sub(*distance));
    let all = (1..line.len().saturating_sub(1)).flat_map(|at| onto(at).map(move |tip| (at, tip)));
    all.map(|(at, tip)| [line[at], line[tip], line[at + 1]]).take(max).collect()
}

fn replay(repo: &Repository, merge: &Merge) -> Folded {
    let [base, ours, theirs] = merge.map(|id| repo.find_commit(id).expect("a readable repository").tree_id());
    fold(repo, base, ours, theirs).expect("a readable repository")
}

/// Git's trees; `None` for conflicts.
fn git_merges(folder: &Path, merges: &[Merge]) -> (Duration, Vec<Option<Oid>>) {
    let input: String = merges.iter().map(|[base, ours, theirs]| format!("{base} -- {ours} {theirs}\n")).collect();
    let start = Instant::now();
    let mut child = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["merge-tree", "--stdin", "--no-messages"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program needs git");
    let mut stdin = child.stdin.take().expect("it is piped");
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("git ends");
    feeder.join().expect("no panic").expect("git reads");
    let took = start.elapsed();
    // Each merge is `status NUL tree NUL (conflicted entry NUL)* NUL`.
    let mut words = output.stdout.split(|&byte| byte == 0);
    let trees = merges.iter().map(|_| {
        let clean = words.next() == Some(b"1");
        let tree = words.next().and_then(|id| std::str::from_utf8(id).ok()?.parse().ok()).expect("git prints a tree");
        while words.next().is_some_and(|word| !word.is_empty()) {}
        clean.then_some(tree)
    });
    (took, trees.collect())
}

fn report(merges: &[Merge], folded: &[Folded], gits: &[Option<Oid>], (ours, git): (Duration, Duration)) -> ExitCode {
    let [mut same, mut both_conflict, mut cautious, mut faults] = [0_usize; 4];
    for ((merge, folded), git) in merges.iter().zip(folded).zip(gits) {
        match (folded, git) {
            (Folded::Clean { tree }, Some(git)) if tree == git => same += 1,
            (Folded::Clean { tree }, git) => {
                faults += 1;
                println!("FAULT {merge:?}: folded to {tree}, git says {git:?}");
            }
            (Folded::Conflict { .. }, None) => both_conflict += 1,
            (Folded::Conflict { paths }, Some(_)) => {
                cautious += 1;
                let first = &paths[0];
                println!("cautious {merge:?}: {} at {}", first.kind, String::from_utf8_lossy(&first.path));
            }
        }
    }
    let each = |took: Duration| took.as_secs_f64() * 1e3 / merges.len().max(1) as f64;
    println!(
        "{} merges: {same} same tree, {both_conflict} both conflict, {cautious} conflict where git is clean, {faults} faults",
        merges.len()
    );
    println!("fold {:.2} ms a merge, git merge-tree {:.2}: ratio {:.2}", each(ours), each(git), each(git) / each(ours));
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
