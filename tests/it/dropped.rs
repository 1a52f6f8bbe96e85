//! What people give up of a run's results (`swarm drop`): no ref keeps it any more, it is said everywhere, and nothing else of the run
//! is lost by it.

use std::fs;

use rustix::process::Signal;
use swarm_tests::{Repository, Swarm};

use super::second_word::{FILES, conflicted, gate_beside, let_go, swarm, waiting};

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

#[test]
fn a_result_of_which_a_file_is_lost_stays_until_it_is_dropped_and_what_is_lost_whole_goes() {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\non-conflict = ['park']\n[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                [tasks.b]\nrun = 'echo from b >> a.txt; echo one > one; echo two > two'\n\
                [tasks.c]\nrun = 'echo c > c; exit 1'\n[tasks.d]\nrun = 'exit 1'\n";
    Swarm::run(&repository, "it", plan).exits(1);
    let (b, c) = ("refs/swarm/it-1/b/1", "refs/swarm/it-1/c/1");
    let git = repository.git();
    let lost = [format!("{b}:one"), c.to_owned()].map(|revision| git.revparse_single(&revision).expect("kept").id());
    let packs = repository.path().join(".git/objects/pack");
    for id in lost.map(|id| id.to_string()) {
        fs::remove_file(repository.path().join(".git/objects").join(&id[..2]).join(&id[2..])).expect("loose");
    }
    // As a gc does, behind which refs are looked through.
    fs::write(packs.join("x"), "").and_then(|()| fs::remove_file(packs.join("x"))).expect("space");
    let retried = swarm(&repository, &["retry", "it-1", "d"], 1);
    assert_eq!(repository.refs("refs/swarm/it-1/[bc]/*"), [b], "{retried}");
    assert!(git.revparse_single(&format!("{b}:two")).is_ok(), "the rest of it can be read");
    let stays = format!("{b} keeps a result of which {} is in no store", lost[0]);
    assert!(retried.err.contains(&stays) && retried.err.contains(&format!("git update-ref -d {b}")), "{retried}");
    assert!(retried.err.contains(&format!("the ref {c} went: its commit {}", lost[1])), "{retried}");
    swarm(&repository, &["drop", "it-1", "b"], 0);
    assert_eq!(repository.refs("refs/swarm/it-1/b/*"), Vec::<String>::new());
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
    for (command, said) in [
        (&["list", "--json"][..], "\"landed\":0,\"parked\":0,\"dropped\":1"),
        (&["list"], "1 dropped"),
        (&["status"], "[-] a"),
        (&["status", "--json"], "\"merge\":{\"fate\":\"dropped\",\"was\":\"landed\"}"),
        (&["report"], "all succeeded; 1 result given up"),
        (&["report", "--format", "md"], "| a | succeeded | "),
        (&["report", "--format", "md"], "| dropped |"),
        (&["report", "--format", "junit"], "<skipped message=\"dropped\"/>"),
    ] {
        let told = swarm(&repository, command, 0).out;
        assert!(told.contains(said) && !told.contains("landed as"), "{said}: {told}");
    }
    assert!(swarm(&repository, &["drop", "a"], 0).err.contains("nothing of a is kept"), "it is given up once");
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
    assert_eq!(again.err.matches("]: landed\n").count(), 3, "{again}");
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
fn a_run_goes_on_without_what_landed_on_a_branch_that_is_gone_when_that_is_given_up() {
    let repository = Repository::with(&FILES);
    let gate = repository.beside("gate");
    fs::create_dir(&gate).expect("a folder");
    let waits = format!("until test -e {}/open; do sleep 0.02; done", gate.display());
    let plan = format!(
        "[sandbox.gate]\nread = ['{}']\n[tasks.a]\nrun = 'echo a > x.txt'\n\
         [tasks.b]\nneeds = ['a']\nsandbox = 'gate'\nrun = '{waits}; cp x.txt y.txt'\n\
         [tasks.c]\nsandbox = 'gate'\nrun = '{waits}; echo c > c.txt'\n",
        gate.display()
    );
    let word = format!("read={}", gate.display());
    let mut running = Swarm::run(&repository, "it", &plan).allow(&word).start();
    assert!(running.says("\"merged\",\"instance\":\"a\""), "`a` has landed");
    running.signal(Signal::INT);
    assert_eq!(running.end().code, 130);
    repository.git().find_reference("refs/heads/swarm/it").and_then(|mut it| it.delete()).expect("deleted");
    let refused = swarm(&repository, &["resume"], 3);
    assert!(refused.err.contains("was removed after results of this run had landed on it"), "{refused}");
    swarm(&repository, &["drop", "a"], 0);
    fs::write(gate.join("open"), "").expect("a file");
    let ended = swarm(&repository, &["resume", "--json"], 5);
    assert_eq!((ended.fate("b"), ended.fate("c")), ("parked".to_owned(), "landed".to_owned()), "{ended}");
    assert!(ended.err.contains("b: it builds on `a`, which was dropped"), "{ended}");
    let names: Vec<String> = repository.files("swarm/it").into_keys().collect();
    assert_eq!(names, ["a.txt", "b.txt", "c.txt"], "{ended}");
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

#[test]
fn nobody_is_asked_for_a_word_of_whose_task_they_gave_up() {
    let repository = Repository::with(&FILES);
    let config = repository.home().join(".config/swarm");
    let late = repository.beside("late");
    fs::create_dir_all(&config).expect("a folder");
    fs::create_dir(&late).expect("a folder");
    let place = repository.path().canonicalize().expect("it is there");
    let allowed = |env: &str| {
        let read = format!("read = [{:?}]", late.display().to_string());
        let text = format!("[[allow]]\nrepository = {:?}\n{read}\n{env}", place.display().to_string());
        fs::write(config.join("config.toml"), text).expect("a file");
    };
    let plan = format!(
        "[sandbox.flag]\nenv = ['A_TOKEN']\n[sandbox.late]\nread = ['{0}']\n\
         [tasks.b]\nsandbox = 'flag'\nrun = 'false'\n\
         [tasks.c]\nsandbox = 'late'\nrun = 'test -e {0}/x || sleep 300; echo c > c.txt'\n",
        late.display()
    );
    allowed("env = ['A_TOKEN']");
    Swarm::run(&repository, "it", &plan).args(&["--deadline", "2s"]).exits(7);
    // The word is taken back.
    allowed("");
    fs::write(late.join("x"), "").expect("a file");
    let refused = swarm(&repository, &["resume"], 2);
    assert!(refused.err.contains("`A_TOKEN`"), "{refused}");
    swarm(&repository, &["drop", "it-1", "b"], 0);
    swarm(&repository, &["resume"], 1);
    assert_eq!(repository.text("swarm/it", "c.txt"), "c\n");
    let refused = swarm(&repository, &["retry", "it-1", "b"], 2);
    assert!(refused.err.contains("`A_TOKEN`"), "{refused}");
}
