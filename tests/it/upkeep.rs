//! Git's own upkeep by a person's hand, beside a run and between its lives: nothing is lost by it.

use rustix::process::Signal;
use swarm_tests::{Repository, Swarm};

use super::second_word::{FILES, conflicted, gate_beside, let_go, swarm};

/// All that tidies a repository up, in an order in which each finds something to do.
fn tidy_up(repository: &Repository) -> Option<()> {
    for command in [
        &["pack-refs", "--all"][..],
        &["prune", "--expire=now"],
        &["repack", "-adq"],
        &[
            "maintenance",
            "run",
            "--quiet",
            "--task=gc",
            "--task=commit-graph",
            "--task=loose-objects",
            "--task=pack-refs",
        ],
        &["maintenance", "run", "--quiet", "--task=incremental-repack"],
        &["reflog", "expire", "--expire=now", "--all"],
        &["gc", "--quiet", "--prune=now", "--aggressive"],
        &["fsck", "--strict"],
    ] {
        repository.run_git(command)?;
    }
    Some(())
}

#[test]
fn upkeep_beside_a_run_and_between_its_lives_takes_nothing_of_it() {
    let repository = Repository::with(&FILES);
    let gate = gate_beside(&repository);
    // What passed before has not landed yet: refs of ours alone keep it.
    let plan = format!(
        "[sandbox.gate]\nread = ['{0}']\n[merge]\npublish = 'all-or-nothing'\nverify = 'true'\n\
         [tasks.a]\nrun = 'echo a >> a.txt'\n[tasks.b]\nrun = 'echo b >> b.txt'\n[tasks.c]\nneeds = ['a', 'b']\nsandbox = 'gate'\n\
         run = 'cat a.txt b.txt > c.txt; cat {0}/open >> c.txt; git log --oneline > /dev/null; git status --short'\n",
        gate.display()
    );
    let word = format!("read={}", gate.display());
    let mut running = Swarm::run(&repository, "it", &plan).allow(&word).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"c\""), "`a` and `b` are done, and wait");
    if tidy_up(&repository).is_none() {
        return;
    }
    running.signal(Signal::INT);
    assert_eq!(running.end().code, 130);
    tidy_up(&repository);
    let mut second = Swarm::new(&repository, &["resume", "--json"]).start();
    assert!(second.says("\"attempt-started\",\"instance\":\"c\""), "it goes on");
    tidy_up(&repository);
    second.signal(Signal::KILL);
    second.end();
    tidy_up(&repository);
    let mut third = Swarm::new(&repository, &["resume", "--json"]).start();
    assert!(third.says("\"attempt-started\",\"instance\":\"c\""), "it goes on again");
    tidy_up(&repository);
    let ended = let_go(&repository, third);
    assert_eq!(ended.code, 0, "{ended}");
    let again = ended.events_of("attempt-started").iter().any(|event| event["instance"] != "c");
    assert!(!again, "what has a result is not run again: {ended}");
    assert_eq!(repository.text("swarm/it", "c.txt"), "one\na\nb\nb\nb\n");
    tidy_up(&repository);
}

#[test]
fn a_ref_whose_commit_is_gone_is_named_and_goes_with_its_run() {
    // Nothing builds on `c`.
    let repository = conflicted();
    let lost = repository.commit_of("refs/swarm/it-1/c/1").expect("it is kept").to_string();
    std::fs::remove_file(repository.path().join(".git/objects").join(&lost[..2]).join(&lost[2..]))
        .expect("a loose object");
    let told = Swarm::new(&repository, &["doctor"]).end();
    assert!(told.out.contains("refs: what refs/swarm/it-1/c/1 kept is no longer there"), "{told}");
    assert!(told.out.contains("git update-ref -d refs/swarm/it-1/c/1"), "{told}");
    let would = swarm(&repository, &["clean", "--dry-run"], 0);
    assert!(
        would.err.contains(&format!("what refs/swarm/it-1/c/1 kept is no longer there ({lost}): the ref would go")),
        "{would}"
    );
    let cleaned = swarm(&repository, &["clean"], 0);
    assert!(cleaned.err.contains(&format!("({lost}): the ref is gone")), "{cleaned}");
    assert!(cleaned.err.contains("refs/swarm/it-1/b/1"), "what is there stays: {cleaned}");
    repository.run_git(&["gc", "--quiet", "--prune=now"]);
    assert!(!Swarm::new(&repository, &["doctor"]).end().out.contains("refs: what"));
}
