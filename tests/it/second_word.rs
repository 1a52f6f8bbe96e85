//! What people do to a run's results and to its target while it runs and afterwards: nothing of theirs and nothing of the run's
//! is ever lost.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use swarm_tests::swarm::Running;
use swarm_tests::{Ended, Repository, Swarm};

pub const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("b.txt", "b\n")];

/// `a` and `b` contradict each other; `c` builds on `b`.
const CONFLICT: &str = "[tasks.a]\nrun = 'echo from a >> a.txt'\n[tasks.b]\nrun = 'echo from b >> a.txt'\n\
                        [tasks.c]\nneeds = ['b']\nrun = 'echo c > c.txt'\n";

pub fn swarm(repository: &Repository, words: &[&str], code: i32) -> Ended {
    Swarm::new(repository, words).exits(code)
}

pub fn conflicted() -> Repository {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", CONFLICT).exits(5);
    assert_eq!(["a", "b", "c"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
    repository
}

#[test]
fn another_try_of_what_is_parked_runs_its_task_on_what_landed() {
    for words in [&["retry", "--json"][..], &["retry", "it-1", "b", "--json"]] {
        let repository = conflicted();
        let ended = swarm(&repository, words, 0);
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\nfrom a\nfrom b\n", "{ended}");
        assert_eq!(repository.text("swarm/it", "c.txt"), "c\n");
        let started: Vec<_> =
            ended.events_of("attempt-started").iter().map(|event| event["instance"].clone()).collect();
        assert_eq!(
            started,
            ["b", "c"],
            "what passed is not run again, but for what was made from what ran again: {ended}"
        );
        let again = swarm(&repository, &["retry"], 0);
        assert!(again.err.contains("nothing of that failed or is parked"), "{again}");
        assert!(swarm(&repository, &["status"], 0).out.contains("landed as"));
    }
}

#[test]
fn a_good_change_that_a_later_try_took_the_place_of_is_kept_until_it_is_dropped_by_name() {
    // What the later try finds to do: nothing, or something else.
    for (left, fate) in [("one", "empty"), ("nine", "landed")] {
        let plan = format!(
            "[tasks.a]\nrun = 'sed -i s/one/{left}-a/ a.txt'\n[tasks.b]\nrun = 'sed -i \"s/one\\$/b/;s/nine/b/\" a.txt'\n"
        );
        let repository = Repository::with(&FILES);
        Swarm::run(&repository, "it", &plan).exits(5);
        let ended = swarm(&repository, &["retry", "b", "--json"], 0);
        assert_eq!(ended.fate("b"), fate, "{ended}");
        let first = repository.refs("refs/swarm/it-1/b/1");
        assert_eq!(first.len(), 1);
        let says = "the next one changed nothing; it is kept: swarm diff it-1 b";
        assert_eq!(ended.err.contains(says), fate == "empty", "{ended}");
        let cleaned = swarm(&repository, &["clean"], 0);
        assert!(cleaned.err.contains("attempt 1 was put aside, and a later one"), "{cleaned}");
        assert_eq!(repository.refs("refs/swarm/it-1/b/1"), first);
        let dropped = swarm(&repository, &["drop", "it-1", "b"], 0);
        assert!(dropped.err.contains("dropped refs/swarm/it-1/b/1"), "{dropped}");
        assert_eq!(repository.refs("refs/swarm/it-1/b/1").len(), 0);
    }
}

#[test]
fn another_try_of_what_failed_runs_it_and_what_it_blocked() {
    let repository = Repository::with(&FILES);
    let plan = "[sandbox.flag]\nenv = ['FLAG']\n[tasks.a]\nrun = 'echo a > x.txt'\n\
                [tasks.b]\nsandbox = 'flag'\nrun = 'test -n \"${FLAG:-}\"; echo b > y.txt'\n\
                [tasks.c]\nneeds = ['b']\nrun = 'cat y.txt > z.txt'\n";
    Swarm::run(&repository, "it", plan).exits(1);
    swarm(&repository, &["retry", "a"], 1);
    let ended = swarm(&repository, &["resume"], 1);
    assert!(ended.err.contains("hint: swarm retry it-1"), "{ended}");
    let ended = swarm(&repository, &["retry", "b"], 1);
    assert!(ended.err.contains("tried again\n    b: failed\n"), "{ended}");
    let ended = Swarm::new(&repository, &["retry", "b", "--json"]).env("FLAG", "1").exits(0);
    let started: Vec<_> = ended.events_of("attempt-started").iter().map(|event| event["instance"].clone()).collect();
    assert_eq!(started, ["b", "c"], "{ended}");
    assert_eq!(ended.result("b"), "succeeded", "a fresh start, no flake");
    assert_eq!(repository.text("swarm/it", "z.txt"), "b\n");
}

#[test]
fn a_run_onto_what_an_earlier_one_landed_says_so_before_it_parks() {
    let repository = Repository::with(&FILES);
    let plan = |line: &str| format!("[merge]\non-conflict = ['park']\n[tasks.a]\nrun = 'echo {line} >> a.txt'\n");
    let note = "swarm/it holds 1 commit that the base has not, it-1 was the last run that landed there";
    let first = Swarm::run(&repository, "it", &plan("mistaken")).exits(0);
    assert!(!first.out.contains("that the base has not"), "{first}");
    for _ in 0..2 {
        let second = Swarm::run(&repository, "it", &plan("corrected")).exits(5);
        assert!(second.out.contains(note) && second.out.contains("`swarm apply it-1` first"), "{second}");
    }
    let applied = swarm(&repository, &["apply", "it-1"], 0);
    assert!(!applied.err.contains("incomplete"), "{applied}");
    let third = Swarm::run(&repository, "it", &plan("corrected")).exits(0);
    assert!(!third.out.contains("that the base has not"), "{third}");
    let both = format!("{}[tasks.b]\nrun = 'echo b > b.new'\n", plan("again"));
    Swarm::run(&repository, "it", &both).exits(5);
    let applied = swarm(&repository, &["apply", "it-5"], 0);
    assert!(applied.err.contains("note: it-5 is incomplete: finished, but something is parked"), "{applied}");
}

/// A folder in which whoever reads `open` waits until somebody writes there.
pub fn gate_beside(repository: &Repository) -> PathBuf {
    let gate = repository.beside("gate");
    fs::create_dir(&gate).expect("a folder");
    assert!(std::process::Command::new("mkfifo").arg(gate.join("open")).status().expect("a program").success());
    gate
}

/// Collects garbage when `open` is read, and lets the reader go on. Returns how many refs matched `kept` then.
fn collect_garbage_at(repository: &Repository, gate: &Path, kept: &str) -> usize {
    let mut open = fs::OpenOptions::new().write(true).open(gate.join("open")).expect("somebody reads");
    let kept = repository.refs(kept).len();
    assert!(repository.run_git(&["gc", "-q", "--prune=now"]).is_some(), "git is there");
    std::io::Write::write_all(&mut open, b"go\n").expect("somebody still does");
    kept
}

/// A run whose first task has landed and whose second waits for a file.
pub fn waiting(repository: &Repository) -> Running {
    let gate = gate_beside(repository);
    let plan = format!(
        "[sandbox.gate]\nread = ['{0}']\n[tasks.a]\nrun = 'echo a > x.txt'\n\
         [tasks.b]\nsandbox = 'gate'\nrun = 'cat {0}/open > y.txt'\n",
        gate.display()
    );
    let word = format!("read={}", gate.display());
    let mut running = Swarm::run(repository, "it", &plan).allow(&word).args(&["-j2"]).start();
    assert!(running.says("\"merged\",\"instance\":\"a\""), "the first lands");
    running
}

pub fn let_go(repository: &Repository, running: Running) -> Ended {
    fs::write(repository.beside("gate/open"), "b\n").expect("somebody reads");
    running.end()
}

#[test]
fn garbage_that_a_person_collects_while_a_batch_is_verified_takes_nothing_of_it() {
    let repository = Repository::with(&FILES);
    let gate = gate_beside(&repository);
    let plan = format!(
        "[sandbox.gate]\nread = ['{0}']\n\
         [merge]\nverify = {{ run = 'test ! -e y.txt || cat {0}/open', sandbox = 'gate', retry = 0 }}\n\
         [tasks.a]\nrun = 'echo y > y.txt'\n",
        gate.display()
    );
    let running = Swarm::run(&repository, "it", &plan).allow(&format!("read={}", gate.display())).start();
    let kept = collect_garbage_at(&repository, &gate, "refs/swarm/it-1/+folded");
    let ended = running.end();
    assert_eq!((ended.code, kept), (0, 1), "{ended}");
    assert_eq!(repository.text("swarm/it", "y.txt"), "y\n", "{ended}");
    assert_eq!(repository.refs("refs/swarm/it-1/+folded").len(), 0, "it is needed no more");
}

#[test]
fn garbage_that_a_person_collects_while_a_task_runs_takes_nothing_of_what_it_started_from() {
    let repository = Repository::with(&FILES);
    let gate = gate_beside(&repository);
    let plan = format!(
        "[sandbox.gate]\nread = ['{0}']\n[tasks.a]\nrun = 'echo a > A'\n[tasks.b]\nrun = 'echo b > B'\n\
         [tasks.c]\nneeds = ['a', 'b']\nsandbox = 'gate'\nrun = 'cat {0}/open A B > C'\n",
        gate.display()
    );
    let running = Swarm::run(&repository, "it", &plan).allow(&format!("read={}", gate.display())).start();
    let kept = collect_garbage_at(&repository, &gate, "refs/swarm/it-1/+start/*");
    let ended = running.end();
    assert_eq!((ended.code, kept), (0, 1), "{ended}");
    assert_eq!(repository.text("swarm/it", "C"), "go\na\nb\n", "{ended}");
    assert_eq!(repository.refs("refs/swarm/it-1/+start/*").len(), 0, "nothing starts any more");
}

#[test]
fn a_task_whose_needs_contradict_each_other_waits_until_they_are_settled() {
    let repository = Repository::with(&FILES);
    let plan = |rungs: &str| {
        format!(
            "[merge]\non-conflict = {rungs}\n[tasks.a]\nrun = 'echo from a >> a.txt'\n\
             [tasks.b]\nrun = 'echo from b >> a.txt'\n\
             [tasks.c]\nneeds = ['a', 'b']\nrun = 'cp a.txt c.txt'\n[tasks.d]\nneeds = ['c']\nrun = 'cp c.txt d.txt'\n"
        )
    };
    let ended = Swarm::run(&repository, "it", &plan("['rerun']")).exits(0);
    assert_eq!(repository.text("swarm/it", "d.txt"), "one\nfrom a\nfrom b\n", "{ended}");
    // Where nothing is tried, it fails, until a person has something tried.
    let ended = Swarm::run(&repository, "parks", &plan("['park']")).exits(1);
    let results = ["a", "b", "c", "d"].map(|task| ended.result(task));
    assert_eq!(results, ["succeeded", "succeeded", "failed", "blocked"], "{ended}");
    swarm(&repository, &["retry", "parks-1"], 0);
    assert_eq!(repository.text("swarm/parks", "d.txt"), "one\nfrom a\nfrom b\n");
}

#[test]
fn what_needs_only_what_landed_on_top_of_others_starts_from_what_landed_when_it_is_tried_again() {
    let repository = Repository::with(&FILES);
    let gate = tempfile::tempdir().expect("a temporary folder");
    // `b` runs again behind `z`, `x` fails once, and `y` stands on what `x` makes.
    let plan = format!(
        "[merge]\non-conflict = ['rerun']\n[sandbox.default]\nread = ['{gate}']\n[tasks.z]\nrun = 'echo z >> a.txt'\n\
         [tasks.b]\nrun = 'echo b >> a.txt'\n\
         [tasks.x]\nneeds = ['b']\nrun = 'test -e {gate}/go && cp a.txt x.txt'\n\
         [tasks.y]\nneeds = ['x', 'b']\nrun = 'cp x.txt y.txt'\n",
        gate = gate.path().display()
    );
    let allow = format!("read={}", gate.path().display());
    for (jobs, name) in [("1", "one"), ("4", "four")] {
        drop(std::fs::remove_file(gate.path().join("go")));
        let ended = Swarm::run(&repository, name, &plan).args(&["-j", jobs]).allow(&allow).exits(1);
        assert_eq!(["x", "y"].map(|task| ended.result(task)), ["failed", "blocked"], "{ended}");
        std::fs::write(gate.path().join("go"), "").expect("a file");
        let again = swarm(&repository, &["retry", &format!("{name}-1"), "x"], 0);
        assert_eq!(repository.text(&format!("swarm/{name}"), "y.txt"), "one\nz\nb\n");
        assert!(again.err.contains("it started from what had landed"), "{again}");
    }
}

#[test]
fn under_fail_fast_the_first_that_waited_in_vain_ends_the_run_and_the_others_with_it() {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\non-conflict = ['park']\n[tasks.a]\nrun = 'echo a >> a.txt'\n[tasks.b]\nrun = 'echo b >> a.txt'\n\
                [tasks.c]\nneeds = ['a', 'b']\nrun = 'true'\n[tasks.d]\nneeds = ['a', 'b']\nrun = 'true'\n";
    let ended = Swarm::run(&repository, "it", plan).args(&["--fail-fast"]).exits(1);
    assert_eq!(["c", "d"].map(|task| ended.result(task)), ["failed", "cancelled"], "{ended}");
}

#[test]
fn what_a_rerun_left_nothing_of_is_given_to_nobody_who_starts_later() {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\non-conflict = ['rerun']\n[tasks.a1]\nrun = 'echo a1 >> f'\n[tasks.a2]\nrun = 'echo a2 >> f'\n\
                [tasks.z]\nrun = 'echo z > a.txt'\n[tasks.b]\nrun = 'grep -q z a.txt || echo b > a.txt'\n\
                [tasks.c]\nneeds = ['a1', 'a2']\nrun = 'echo c > c'\n\
                [tasks.x]\nneeds = ['b', 'c']\nrun = 'cp a.txt x'\n";
    Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(
        (repository.text("swarm/it", "a.txt"), repository.text("swarm/it", "x")),
        ("z\n".into(), "one\n".into())
    );
}

#[test]
fn what_landed_behind_an_allowed_failure_does_not_land_twice() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.lint]\nallow-failure = true\nwrites = []\nrun = 'false'\n\
                [tasks.t]\nneeds = ['lint']\nrun = 'echo x > try-$SWARM_ATTEMPT'\n";
    Swarm::run(&repository, "it", plan).exits(0);
    let landed = repository.git().revparse_single("swarm/it").expect("it landed").id();
    let again = Swarm::new(&repository, &["retry", "it-1", "lint", "--json"]).exits(0);
    assert_eq!(again.result("t"), "succeeded", "it passed both times: {again}");
    assert_eq!(repository.git().revparse_single("swarm/it").expect("it landed").id(), landed);
}

#[test]
fn what_waits_for_its_needs_waits_for_what_is_looked_up_too() {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\non-conflict = ['rerun']\n[tasks.a]\nrun = 'echo a >> a.txt'\n[tasks.b]\nrun = 'echo b >> a.txt'\n\
                [tasks.c]\nneeds = ['a', 'b']\nrun = 'echo c >> a.txt'\n\
                [tasks.z]\ncache = true\nrun = 'sleep 0.05; echo z >> a.txt'\n";
    for (jobs, name) in [("1", "one"), ("4", "four")] {
        Swarm::run(&repository, name, plan).args(&["-j", jobs]).exits(0);
        assert_eq!(repository.text(&format!("swarm/{name}"), "a.txt"), "one\na\nb\nz\nc\n", "-j {jobs}");
    }
}

#[test]
fn a_commit_that_a_person_makes_on_the_target_stays_and_the_rest_lands_on_it() {
    let repository = Repository::with(&FILES);
    let running = waiting(&repository);
    let git = repository.git();
    let tip = git.find_commit(repository.commit_of("swarm/it").expect("it landed")).expect("a commit");
    let mut tree = git.treebuilder(Some(&tip.tree().expect("a tree"))).expect("a builder");
    tree.insert("human.txt", git.blob(b"mine\n").expect("space"), 0o100_644).expect("a legal name");
    let tree = git.find_tree(tree.write().expect("space")).expect("just written");
    let who = git2::Signature::now("h", "h@example.org").expect("legal");
    let human = git.commit(Some("refs/heads/swarm/it"), &who, &who, "mine", &tree, &[&tip]).expect("space");
    let ended = let_go(&repository, running);
    assert_eq!(ended.code, 0, "{ended}");
    let files = repository.files("swarm/it");
    assert!(["human.txt", "x.txt", "y.txt"].iter().all(|name| files.contains_key(*name)), "{files:?}");
    assert_eq!(repository.commit_of("swarm/it~1"), Some(human), "it lands on top");
}

#[test]
fn a_target_that_is_checked_out_meanwhile_does_not_move_under_its_checkout() {
    let repository = Repository::with(&FILES);
    let branch = repository.run_git(&["symbolic-ref", "--short", "HEAD"]);
    let Some(branch) = branch else { return swarm_protocol::skipped::say("no git on PATH") };
    let running = waiting(&repository);
    let tip = repository.commit_of("swarm/it");
    repository.run_git(&["switch", "-q", "swarm/it"]);
    fs::write(repository.path().join("x.txt"), "my edit\n").expect("space");
    let ended = let_go(&repository, running);
    assert_eq!(ended.code, 3, "{ended}");
    assert!(ended.out.contains("checked out"), "{ended}");
    assert_eq!(repository.commit_of("swarm/it"), tip);
    assert_eq!(fs::read_to_string(repository.path().join("x.txt")).expect("it is there"), "my edit\n");
    repository.run_git(&["checkout", "-q", "-f", branch.trim()]);
    swarm(&repository, &["resume"], 0);
    assert_eq!(repository.text("swarm/it", "y.txt"), "b\n");
}

#[test]
fn coordinators_with_state_folders_of_their_own_never_share_a_name() {
    let repository = Repository::with(&FILES);
    for round in 0..4 {
        let start = |who: &str| {
            let (state, branch) = (repository.beside(who).display().to_string(), format!("swarm/{who}-{round}"));
            let plan = "name = 'it'\n[tasks.a]\nrun = 'echo a > x.txt'\n";
            Swarm::run(&repository, who, plan).args(&["--state-dir", &state, "--into", &branch]).start()
        };
        let names = [start("one"), start("two")].map(|running| {
            let ended = running.end();
            assert_eq!(ended.code, 0, "{ended}");
            ended.events_of("run-started")[0]["run"].clone()
        });
        assert_ne!(names[0], names[1], "round {round}");
    }
    assert_eq!(repository.refs("refs/swarm/*/+base").len(), 8);
}

#[test]
fn a_branch_that_no_longer_holds_what_landed_is_no_success() {
    let plan = "[tasks.a]\nrun = 'echo a > A'\n[tasks.b]\nneeds = ['a']\nrun = 'sleep 2; echo b > B'\n";
    let removed: &[&str] = &["branch", "-D", "swarm/it"];
    let moved: &[&str] = &["branch", "-f", "swarm/it", "main"];
    let below: &[&str] = &["branch", "swarm/it/x", "main"];
    let alias: &[&str] = &["symbolic-ref", "refs/heads/swarm/it", "refs/heads/main"];
    for (gone, way) in [
        (&[removed][..], ""),
        (&[moved], "git branch -m swarm/it swarm/it-mine && "),
        (&[removed, below], "git branch -m swarm/it/x swarm/it-old/x && "),
        (&[removed, alias], "git symbolic-ref --delete refs/heads/swarm/it && "),
    ] {
        let repository = Repository::with(&FILES);
        let mut running = Swarm::run(&repository, "it", plan).start();
        assert!(running.says("\"event\":\"merged\",\"instance\":\"a\""));
        let landed = repository.commit_of("swarm/it").expect("a landed");
        gone.iter().for_each(|words| drop(repository.run_git(words).expect("git is here")));
        let ended = running.end();
        assert_eq!(ended.code, 3, "{ended}");
        let back = format!("{way}git branch swarm/it {landed}");
        let (_, summary) = ended.err.rsplit_once("it-1: branch `swarm/it` ").expect("the summary says what happened");
        assert!(summary.contains(&format!("next: {back}\n      swarm resume it-1\n")), "{ended}");
        assert!(summary.contains("landed on swarm/it, which no longer holds it"), "{ended}");
        assert!(!summary.contains("swarm apply") && !summary.contains("environment"), "{ended}");
        let listed = swarm(&repository, &["list"], 0).out;
        assert!(listed.contains("branch `swarm/it` ") && !listed.contains("environment"), "{listed}");
        let refused = swarm(&repository, &["resume"], 3);
        assert!(refused.err.contains(&format!("hint: `{back}`")), "{refused}");
        for command in back.split(" && ") {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            repository.run_git(&words).expect("git takes it");
        }
        assert_eq!(repository.commit_of("swarm/it-mine").is_some(), gone == [moved], "what a person put there stays");
        swarm(&repository, &["resume"], 0);
        assert_eq!(["A", "B"].map(|path| repository.text("swarm/it", path)), ["a\n", "b\n"]);
    }
}

#[test]
fn a_branch_that_a_resumed_run_finds_without_what_landed_is_not_begun_anew() {
    for gone in
        [&["branch", "-D", "swarm/it"][..], &["branch", "-f", "swarm/it", "main"], &["branch", "-m", "swarm/it", "x"]]
    {
        let repository = Repository::with(&FILES);
        let first = waiting(&repository);
        let landed = repository.commit_of("swarm/it").expect("a landed");
        first.signal(Signal::INT);
        first.end();
        let mut second = Swarm::new(&repository, &["resume", "--json"]).start();
        assert!(second.says("\"attempt-started\",\"instance\":\"b\""), "it goes on");
        repository.run_git(gone).expect("git is here");
        let ended = let_go(&repository, second);
        assert_eq!(ended.code, 3, "{ended}");
        let said =
            if gone[1] == "-f" { "no longer holds what this run has landed" } else { "was removed after results" };
        assert!(ended.err.contains(said), "{ended}");
        repository.run_git(&["branch", "-f", "swarm/it", &landed.to_string()]).expect("git is here");
    }
}

#[test]
fn a_branch_where_another_one_is_in_the_way_is_refused_before_anything_starts() {
    let repository = Repository::with(&FILES);
    repository.run_git(&["branch", "team/one"]).expect("git is here");
    for into in ["team", "team/one/two"] {
        let ended = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > A'\n").args(&["--into", into]).exits(2);
        assert!(ended.err.contains("branch `team/one` is in its way"), "{ended}");
    }
    assert!(repository.refs("refs/swarm/*").is_empty());
}

#[test]
fn a_name_for_another_branch_goes_out_of_the_way_by_the_command_that_is_shown() {
    let repository = Repository::with(&FILES);
    repository.run_git(&["branch", "real"]).expect("git is here");
    for (name, stands_for, into) in
        [("alias", "real", "alias/x"), ("deep/alias", "real", "deep"), ("lost", "none", "lost/x")]
    {
        let (name, stands_for) = (format!("refs/heads/{name}"), format!("refs/heads/{stands_for}"));
        repository.run_git(&["symbolic-ref", &name, &stands_for]).expect("git is here");
        let run = || Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > A'\n").args(&["--into", into]);
        let refused = run().exits(2);
        assert!(refused.err.contains(&format!("git symbolic-ref --delete {name}")), "{refused}");
        assert!(!refused.err.contains("git branch -m"), "git does not rename one: {refused}");
        repository.run_git(&["symbolic-ref", "--delete", &name]).expect("git takes it");
        run().exits(0);
    }
    assert!(repository.commit_of("real").is_some(), "what it stood for stays");
}

#[test]
fn a_branch_that_is_another_name_for_one_is_refused_before_anything_starts() {
    let repository = Repository::with(&FILES);
    repository.run_git(&["branch", "real"]).expect("git is here");
    repository.run_git(&["symbolic-ref", "refs/heads/other", "refs/heads/real"]).expect("git is here");
    let ended = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > A'\n").args(&["--into", "other"]).exits(2);
    assert!(ended.err.contains("branch `other` is another name for `real`"), "{ended}");
    assert!(ended.err.contains("--into real"), "{ended}");
    assert!(repository.refs("refs/swarm/*").is_empty());
}

#[test]
fn a_branch_that_became_another_name_comes_back_by_the_commands_that_are_shown() {
    for stands_for in ["refs/heads/real", "refs/heads/none"] {
        let repository = conflicted();
        let tip = repository.commit_of("swarm/it").expect("`a` has landed").to_string();
        repository.run_git(&["branch", "real"]).expect("git is here");
        repository.run_git(&["symbolic-ref", "refs/heads/swarm/it", stands_for]).expect("git is here");
        let refused = swarm(&repository, &["retry", "b"], 3);
        let back = format!("git symbolic-ref --delete refs/heads/swarm/it && git branch swarm/it {tip}");
        assert!(refused.err.contains(&format!("hint: `{back}`")), "{refused}");
        repository.run_git(&["symbolic-ref", "--delete", "refs/heads/swarm/it"]).expect("git takes it");
        repository.run_git(&["branch", "swarm/it", &tip]).expect("git takes it");
        swarm(&repository, &["retry", "b"], 0);
    }
}

#[test]
fn branches_in_the_way_go_out_of_it_by_the_commands_that_are_shown() {
    let repository = Repository::with(&FILES);
    let shell = |commands: &str| {
        let mut shell = std::process::Command::new("sh");
        let ran = shell.args(["-ec", commands]).current_dir(repository.path()).env("HOME", repository.home()).status();
        assert!(ran.expect("a shell").success(), "{commands}");
    };
    let plan = "[tasks.a]\nrun = 'echo a > A'\n";
    shell("git branch team/one && git branch team/two && git branch team-old");
    let refused = Swarm::run(&repository, "it", plan).args(&["--into", "team"]).exits(2);
    let commands = "git branch -m team/one team-old-2/one && git branch -m team/two team-old-2/two";
    assert!(refused.err.contains(commands), "{refused}");
    shell(commands);
    Swarm::run(&repository, "it", plan).args(&["--into", "team"]).exits(0);
    let landed = repository.commit_of("team").expect("it landed");
    shell("git branch -D team && git branch team/new");
    let lost = Swarm::new(&repository, &["apply", "it"]).exits(3);
    let commands = format!("git branch -m team/new team-old/new && git branch team {landed}");
    // That name is taken above.
    let commands = commands.replace("team-old/", "team-old-3/");
    assert!(lost.err.contains(&commands), "{lost}");
    shell(&commands);
    Swarm::new(&repository, &["apply", "it"]).exits(0);
}
