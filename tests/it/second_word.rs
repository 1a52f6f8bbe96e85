//! What people do to a run's results and to its target while it runs and afterwards: nothing of theirs and nothing of the run's
//! is ever lost.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use swarm_tests::swarm::Running;
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("b.txt", "b\n")];

/// `a` and `b` contradict each other; `c` builds on `b`.
const CONFLICT: &str = "[tasks.a]\nrun = 'echo from a >> a.txt'\n[tasks.b]\nrun = 'echo from b >> a.txt'\n\
                        [tasks.c]\nneeds = ['b']\nrun = 'echo c > c.txt'\n";

fn swarm(repository: &Repository, words: &[&str], code: i32) -> Ended {
    Swarm::new(repository, words).exits(code)
}

fn conflicted() -> Repository {
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
fn a_dropped_result_is_kept_by_no_ref_and_the_run_has_no_more_to_say() {
    let repository = conflicted();
    let landed = swarm(&repository, &["drop", "a"], 2);
    assert!(landed.err.contains("git switch swarm/it && git revert"), "{landed}");
    let commit = repository.commit_of("refs/swarm/it-1/b/1").expect("it is kept");
    let dropped = swarm(&repository, &["drop", "it-1", "b"], 0);
    assert!(dropped.err.contains(&commit.to_string()[..10]), "{dropped}");
    assert_eq!(repository.refs("refs/swarm/it-1/b/*"), Vec::<String>::new());
    for command in [&["status"][..], &["report"], &["report", "--format", "md"]] {
        let told = swarm(&repository, command, 0).out;
        assert!(told.contains("which was dropped"), "{told}");
        assert!(!told.contains("which is parked"), "{told}");
    }
    swarm(&repository, &["drop", "c"], 0);
    assert!(swarm(&repository, &["drop", "c"], 0).err.contains("nothing of c is kept"));
    let again = swarm(&repository, &["retry"], 0);
    assert!(again.err.contains("nothing of that failed or is parked"), "{again}");
}

/// Three instances of `b` that contradict `a`, and one task that fails.
fn fanned_out() -> Repository {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\non-conflict = ['park']\n[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                [tasks.b]\nmatrix = { n = [1, 2, 3] }\nenv = { N = '{{ matrix.n }}' }\nrun = 'echo \"$N\" >> a.txt'\n\
                [tasks.c]\nrun = 'echo c > c.txt; false'\n";
    Swarm::run(&repository, "it", plan).exits(1);
    repository
}

#[test]
fn what_landed_on_a_branch_that_is_gone_can_be_dropped_and_what_a_branch_has_stays() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > a'\n").exits(0);
    let landed = repository.commit_of("swarm/it").expect("it landed");
    let git = repository.git();
    git.reference("refs/heads/other", landed, false, "").expect("a branch");
    git.find_reference("refs/heads/swarm/it").and_then(|mut branch| branch.delete()).expect("deleted");
    let stays = swarm(&repository, &["drop", "a"], 2);
    assert!(stays.err.contains("git branch --all --contains"), "{stays}");
    git.find_reference("refs/heads/other").and_then(|mut branch| branch.delete()).expect("deleted");
    let dropped = swarm(&repository, &["drop", "a"], 0);
    assert!(dropped.err.contains("dropped refs/swarm/it-1/a/1; until git removes it: git branch NAME"), "{dropped}");
    let cleaned = swarm(&repository, &["clean", "it-1"], 0);
    assert!(!cleaned.err.contains("kept"), "{cleaned}");
    assert_eq!(git.references_glob("refs/swarm/*").expect("refs").count(), 0);
}

#[test]
fn all_instances_of_a_task_are_dropped_or_tried_again_by_its_name() {
    for word in ["b", "b[*]"] {
        let repository = fanned_out();
        let dropped = swarm(&repository, &["drop", word], 0);
        assert_eq!(dropped.err.matches("until git removes it: git branch NAME ").count(), 3, "{dropped}");
        assert!(dropped.err.contains("3 results of 3 tasks of it-1 dropped"), "{dropped}");
        assert_eq!(repository.refs("refs/swarm/it-1/*/1").len(), 2, "those of `a` and `c` stay");
    }
    let repository = fanned_out();
    let again = swarm(&repository, &["retry", "b"], 1);
    assert_eq!(again.err.matches("    b[n=").count(), 3, "{again}");
}

#[test]
fn all_that_did_not_land_is_dropped_at_once_and_what_landed_stays() {
    let repository = fanned_out();
    let tip = repository.commit_of("swarm/it");
    let dropped = swarm(&repository, &["drop", "--all"], 0);
    assert!(dropped.err.contains("4 results of 5 tasks of it-1 dropped"), "{dropped}");
    assert_eq!(repository.refs("refs/swarm/it-1/*/1"), ["refs/swarm/it-1/a/1"]);
    assert_eq!(repository.commit_of("swarm/it"), tip);
    let both = swarm(&repository, &["drop", "--all", "it-1", "b"], 2);
    assert!(both.err.contains("one of them is enough"), "{both}");
}

#[test]
fn what_failed_and_was_dropped_says_so_everywhere_and_runs_again_by_its_name_only() {
    let repository = fanned_out();
    let dropped = swarm(&repository, &["drop", "c"], 0);
    assert!(dropped.err.contains("tried again by its name only: swarm retry it-1 c"), "{dropped}");
    let line = "[-] c";
    for command in [&["status"][..], &["report"]] {
        let told = swarm(&repository, command, 0).out;
        let told = told.lines().find(|told| told.contains(line)).unwrap_or_default();
        assert!(told.contains("failed") && told.contains("dropped"), "{told}");
    }
    for (command, said) in [
        (&["list"][..], "1 failed, 1 landed, 3 parked, 1 dropped"),
        (&["list", "--json"], "\"parked\":3,\"dropped\":1"),
        (&["status", "--json"], "\"merge\":{\"fate\":\"dropped\",\"was\":\"failed\"}"),
        (&["report", "--format", "md"], "| c | failed | "),
        (&["report", "--format", "md"], "| dropped | failed: exited with 1, 1 file |"),
        (&["report", "--format", "html"], "<td>dropped</td>"),
        (
            &["report", "--format", "junit"],
            "<failure type=\"failed\" message=\"failed: exited with 1, 1 file, dropped\"",
        ),
    ] {
        let told = swarm(&repository, command, 0).out;
        assert!(told.contains(said), "{said}: {told}");
    }
    assert!(swarm(&repository, &["drop", "c"], 0).err.contains("nothing of c is kept"));
    // What is parked is tried again, and what was dropped only when it is named.
    let note = "note: dropped, and tried again by name only: c\n      swarm retry it-1 TASK";
    let again = swarm(&repository, &["retry", "it-1", "--json"], 1);
    assert!(again.err.contains(note), "{again}");
    assert!(again.events_of("attempt-started").iter().all(|event| event["instance"] != "c"), "{again}");
    let ended = swarm(&repository, &["resume"], 1);
    assert!(ended.err.contains("nothing left to do") && ended.err.contains(note), "{ended}");
    let named = swarm(&repository, &["retry", "it-1", "c", "--json"], 1);
    assert_eq!(named.events_of("attempt-started").len(), 1, "{named}");
    let told = swarm(&repository, &["status"], 0).out;
    assert!(told.contains("[x] c") && !told.contains("dropped"), "{told}");
}

#[test]
fn what_is_published_together_lands_without_what_a_person_gave_up_of_it() {
    let merge =
        "[merge]\npublish = 'all-or-nothing'\non-conflict = ['park']\n[tasks.a]\nrun = 'echo from a >> a.txt'\n";
    let bad = "[tasks.bad]\nrun = 'false'\n[tasks.on-bad]\nneeds = ['bad']\nrun = 'true'\n";
    let conflicts = "[tasks.b]\nrun = 'echo from b >> a.txt'\n";
    for (more, code, keeping, reason) in [
        (bad, 1, "swarm drop it-1 bad && ", "and `bad` did not pass"),
        (conflicts, 5, "swarm drop it-1 b && ", "and something is parked"),
        (&format!("{bad}{conflicts}"), 1, "swarm drop it-1 bad && swarm drop it-1 b && ", "and `bad` did not pass"),
    ] {
        let repository = Repository::with(&FILES);
        let ended = Swarm::run(&repository, "it", &format!("{merge}{more}")).exits(code);
        assert!(ended.err.contains(&format!("the plan publishes all or nothing, {reason}")), "{ended}");
        assert!(ended.err.contains(&format!("without what keeps them: {keeping}swarm retry it-1\n")), "{ended}");
        for command in keeping.split(" && ").filter(|command| !command.is_empty()) {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            swarm(&repository, &words, 0);
        }
        assert!(repository.commit_of("swarm/it").is_none(), "dropping lands nothing");
        let lands = swarm(&repository, &["retry", "it-1"], if more == conflicts { 0 } else { 1 });
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\nfrom a\n", "{lands}");
        assert!(!swarm(&repository, &["report"], 0).out.contains("without what keeps them"));
    }
}

#[test]
fn a_machine_that_fails_one_task_for_ever_keeps_the_others_no_longer_than_a_person_wants() {
    let repository = Repository::with(&FILES);
    let (gate, gone) = (gate_beside(&repository), repository.beside("gone"));
    fs::create_dir(&gone).expect("a folder");
    let plan = format!(
        "[merge]\npublish = 'all-or-nothing'\n[sandbox.gate]\nread = ['{0}']\n[sandbox.gone]\nread = ['{1}']\n\
         [tasks.a]\nsandbox = 'gate'\nrun = 'cat {0}/open > y.txt'\n\
         [tasks.b]\nneeds = ['a']\nsandbox = 'gone'\nrun = 'true'\n",
        gate.display(),
        gone.display()
    );
    let [one, two] = [&gate, &gone].map(|path| format!("read={}", path.display()));
    let mut running = Swarm::run(&repository, "it", &plan).allow(&one).allow(&two).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"a\""));
    fs::remove_dir(&gone).expect("it is there");
    let ended = let_go(&repository, running);
    assert_eq!((ended.code, ended.result("b").as_str()), (3, "failed"), "{ended}");
    assert!(ended.err.contains("`swarm drop it-1 b && swarm resume it-1`"), "{ended}");
    let refused = swarm(&repository, &["resume"], 3);
    assert!(refused.err.contains("swarm drop it-1 TASK"), "{refused}");
    let dropped = swarm(&repository, &["drop", "it-1", "b"], 0);
    assert!(dropped.err.contains("what is left goes on without it: swarm resume it-1"), "{dropped}");
    let landed = swarm(&repository, &["resume"], 1);
    assert_eq!(repository.text("swarm/it", "y.txt"), "b\n", "{landed}");
    // The machine is mended, and a person wants it after all.
    fs::create_dir(&gone).expect("a folder");
    swarm(&repository, &["retry", "it-1", "b"], 0);
}

#[test]
fn what_an_interrupted_run_has_not_come_to_is_not_dropped() {
    let repository = Repository::with(&FILES);
    let gate = gate_beside(&repository);
    let plan = format!(
        "[sandbox.gate]\nread = ['{0}']\n[merge]\npublish = 'all-or-nothing'\n[tasks.a]\nrun = 'echo a > x.txt'\n\
         [tasks.b]\nneeds = ['a']\nsandbox = 'gate'\nrun = 'cat {0}/open > y.txt'\n",
        gate.display()
    );
    let word = format!("read={}", gate.display());
    let mut running = Swarm::run(&repository, "it", &plan).allow(&word).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"b\""), "`a` is done, and waits");
    running.signal(Signal::INT);
    assert_eq!(running.end().code, 130);
    let refused = swarm(&repository, &["drop", "a"], 2);
    assert!(refused.err.contains("it waits to be merged") && refused.err.contains("swarm resume it-1"), "{refused}");
    assert_eq!(repository.refs("refs/swarm/it-1/a/1").len(), 1);
    let all = swarm(&repository, &["drop", "--all"], 0);
    assert!(all.err.contains("a stays: it waits to be merged"), "{all}");
    let second = Swarm::new(&repository, &["resume", "--json"]).start();
    let ended = let_go(&repository, second);
    assert_eq!((ended.code, ended.fate("a").as_str()), (0, "landed"), "{ended}");
}

#[test]
fn results_of_a_run_whose_coordinator_died_are_all_kept() {
    let repository = Repository::with(&FILES);
    let running = waiting(&repository);
    running.signal(Signal::KILL);
    running.end();
    let refused = swarm(&repository, &["drop", "--all"], 2);
    assert!(refused.err.contains("its coordinator died") && refused.err.contains("swarm resume it-1"), "{refused}");
    assert!(!repository.refs("refs/swarm/it-1/a/*").is_empty());
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
    let applied = swarm(&repository, &["apply", "it-2"], 0);
    assert!(applied.err.contains("note: it-2 is incomplete: finished, but something is parked"), "{applied}");
}

#[test]
fn a_dropped_result_that_git_has_collected_is_called_so() {
    let repository = conflicted();
    swarm(&repository, &["drop", "--all"], 0);
    assert!(swarm(&repository, &["diff", "it-1", "b"], 0).out.contains("from b"), "git still has it");
    if repository.run_git(&["gc", "-q", "--prune=now"]).is_none() {
        return;
    }
    let gone = swarm(&repository, &["diff", "it-1", "b"], 2);
    assert!(gone.err.contains("it was dropped, and git has removed it"), "{gone}");
}

/// A folder in which whoever reads `open` waits until somebody writes there.
fn gate_beside(repository: &Repository) -> PathBuf {
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
fn waiting(repository: &Repository) -> Running {
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

fn let_go(repository: &Repository, running: Running) -> Ended {
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
    swarm(&repository, &["retry", "it-1", "lint"], 0);
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
    let Some(branch) = branch else { return eprintln!("skipped: no git on PATH") };
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
    for gone in [&["branch", "-D", "swarm/it"][..], &["branch", "-f", "swarm/it", "main"]] {
        let repository = Repository::with(&FILES);
        let mut running = Swarm::run(&repository, "it", plan).start();
        assert!(running.says("\"event\":\"merged\",\"instance\":\"a\""));
        let landed = repository.commit_of("swarm/it").expect("a landed");
        repository.run_git(gone).expect("git is here");
        let ended = running.end();
        assert_eq!(ended.code, 3, "{ended}");
        let back = match gone {
            [_, "-D", ..] => format!("git branch swarm/it {landed}"),
            _ => format!("git branch -m swarm/it swarm/it-mine && git branch swarm/it {landed}"),
        };
        let (_, summary) = ended.err.rsplit_once("it-1: branch `swarm/it` ").expect("the summary says what happened");
        assert!(summary.contains(&format!("next: {back}\n      swarm resume it-1\n")), "{ended}");
        assert!(!summary.contains("swarm apply") && !summary.contains("environment"), "{ended}");
        let listed = swarm(&repository, &["list"], 0).out;
        assert!(listed.contains("branch `swarm/it` ") && !listed.contains("environment"), "{listed}");
        let refused = swarm(&repository, &["resume"], 2);
        assert!(refused.err.contains(&format!("hint: `{back}`")), "{refused}");
        for command in back.split(" && ") {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            repository.run_git(&words).expect("git takes it");
        }
        assert_eq!(repository.commit_of("swarm/it-mine").is_some(), gone[1] == "-f", "what a person put there stays");
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
        let refused = swarm(&repository, &["retry", "b"], 2);
        assert!(refused.err.contains("git symbolic-ref --delete refs/heads/swarm/it"), "{refused}");
        repository.run_git(&["symbolic-ref", "--delete", "refs/heads/swarm/it"]).expect("git takes it");
        let refused = swarm(&repository, &["retry", "b"], 2);
        assert!(refused.err.contains(&format!("git branch swarm/it {tip}")), "{refused}");
        repository.run_git(&["branch", "swarm/it", &tip]).expect("git takes it");
        swarm(&repository, &["retry", "b"], 0);
    }
}

#[test]
fn what_builds_on_a_dropped_result_is_said_to_and_lands_when_a_person_settles_it() {
    let repository = conflicted();
    swarm(&repository, &["drop", "b"], 0);
    let retried = swarm(&repository, &["retry", "c"], 5);
    assert!(retried.err.contains("it builds on `b`, which was dropped"), "{retried}");
    let opened = swarm(&repository, &["resolve", "c"], 0);
    assert!(opened.err.contains("it is parked because it builds on `b`, which was dropped"), "{opened}");
    swarm(&repository, &["resolve", "c", "--continue"], 0);
    assert_eq!(repository.text("swarm/it", "c.txt"), "c\n");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nfrom a\n");
}

#[test]
fn what_waits_for_a_dropped_result_says_so_and_never_lands_without_it() {
    let contradict = "[merge]\non-conflict = ['park']\n[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                      [tasks.b]\nrun = 'echo from b >> a.txt'\n";
    let said = "its need `b` was dropped, so no retry settles that: `swarm run PLAN` starts anew";
    for collected in [false, true] {
        let repository = Repository::with(&FILES);
        let plan = format!("{contradict}[tasks.c]\nneeds = ['a', 'b']\nrun = 'cp a.txt c.txt'\n");
        Swarm::run(&repository, "it", &plan).exits(1);
        swarm(&repository, &["drop", "b"], 0);
        if collected {
            repository.run_git(&["gc", "-q", "--prune=now"]);
        }
        let told = [swarm(&repository, &["status"], 0).out, swarm(&repository, &["retry", "c"], 1).err];
        for told in told {
            assert!(told.contains(said) && !told.contains("next: swarm retry"), "{told}");
        }
    }
    // What was given up is made again where git has removed it, for who needs it; it does not land by that.
    let repository = Repository::with(&FILES);
    let plan = format!(
        "{contradict}[sandbox.flag]\nenv = ['FLAG']\n\
         [tasks.c]\nneeds = ['b']\nsandbox = 'flag'\nrun = 'test -n \"${{FLAG:-}}\"; cp a.txt c.txt'\n"
    );
    Swarm::run(&repository, "it", &plan).exits(1);
    swarm(&repository, &["drop", "--all"], 0);
    if repository.run_git(&["gc", "-q", "--prune=now"]).is_none() {
        return;
    }
    let ended = Swarm::new(&repository, &["retry", "c"]).env("FLAG", "1").exits(5);
    assert!(ended.err.contains("c: it builds on `b`, which was dropped"), "{ended}");
}
