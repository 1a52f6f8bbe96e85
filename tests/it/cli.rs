//! The commands that read what a run left, after a real run.

use std::process::{Command, Stdio};

use swarm_tests::{Ended, Repository, Swarm};

const PLAN: &str = "[tasks.good]\nrun = 'echo said; echo good > good.txt'\n[tasks.first]\nrun = 'echo 1 > a.txt'\n\
                    [tasks.later]\nrun = 'echo 2 > a.txt'\n[tasks.bad]\nrun = 'echo the reason; exit 9'\n";

fn after_a_run() -> Repository {
    let repository = Repository::with(&[("a.txt", "0\n")]);
    Swarm::run(&repository, "it", PLAN).exits(1);
    repository
}

fn out(repository: &Repository, line: &str) -> String {
    Swarm::new(repository, &line.split(' ').collect::<Vec<_>>()).exits(0).out
}

#[test]
fn a_run_can_be_read_in_every_way() {
    let repository = after_a_run();
    assert!(out(&repository, "list").contains("it-1"));
    let status = out(&repository, "status");
    for word in ["good", "bad", "parked", "landed"] {
        assert!(status.contains(word), "{word}: {status}");
    }
    assert_eq!(out(&repository, "logs good"), "said\n");
    assert_eq!(out(&repository, "logs it-1 bad"), "the reason\n");
    assert!(out(&repository, "diff good").contains("+good"));
    assert!(out(&repository, "diff it-1 later").contains("+2"));
    assert!(out(&repository, "report --format text").contains("the reason"));
    let json = out(&repository, "report --format json");
    assert!(json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{json}");
    assert!(out(&repository, "graph ../beside/it.toml").contains("good"));
    assert!(out(&repository, "doctor").contains("namespaces") || out(&repository, "doctor").contains("landlock"));
}

#[test]
fn a_result_is_opened_applied_and_cleaned() {
    let repository = after_a_run();
    let opened = repository.beside("opened");
    out(&repository, &format!("open later {}", opened.display()));
    assert_eq!(std::fs::read_to_string(opened.join("a.txt")).expect("checked out"), "2\n");
    out(&repository, "apply");
    let there = |path: &str| std::fs::read_to_string(repository.path().join(path)).expect("applied");
    assert_eq!((there("good.txt").as_str(), there("a.txt").as_str()), ("good\n", "1\n"));
    out(&repository, "clean");
    let kept = repository.refs("refs/swarm/*");
    assert!(kept.contains(&"refs/swarm/it-1/later/1".to_owned()), "what is parked stays: {kept:?}");
    assert!(!kept.contains(&"refs/swarm/it-1/good/1".to_owned()), "{kept:?}");
}

#[test]
fn what_is_in_the_way_is_put_away_as_the_hint_says_and_applied_again() {
    let repository = after_a_run();
    // Even files that are as the run left them: whose they are is not known.
    repository.write("a.txt", "1\n");
    repository.write("good.txt", "good\n");
    let refused = Swarm::new(&repository, &["apply"]).end();
    assert!(refused.code != 0 && refused.err.contains("a.txt, good.txt would be overwritten"), "{refused}");
    assert!(refused.err.contains("git stash -u, then apply again"), "{refused}");
    if repository.run_git(&["stash", "-q", "-u"]).is_none() {
        return;
    }
    out(&repository, "apply");
    assert_eq!(std::fs::read_to_string(repository.path().join("good.txt")).expect("applied"), "good\n");
    assert!(repository.run_git(&["stash", "list"]).is_some_and(|list| !list.is_empty()), "nothing is lost");
}

#[test]
fn more_words_than_a_run_and_a_task_are_refused_wherever_they_stand() {
    let repository = after_a_run();
    for words in [["retry", "it-1", "bad", "--json", "good"], ["logs", "it-1", "bad", "--raw", "good"]] {
        let refused = Swarm::new(&repository, &words).exits(2);
        assert!(!refused.err.contains("panicked"), "{refused}");
    }
    let refused = Swarm::new(&repository, &["retry", "it-1", "bad", "--json", "good"]).exits(2);
    assert!(refused.err.contains("tell what is meant by it-1 bad good"), "{refused}");
}

#[test]
fn a_dry_run_runs_nothing() {
    let repository = Repository::with(&[("a.txt", "0\n")]);
    let ended = Swarm::run(&repository, "it", PLAN).args(&["--dry-run"]).exits(0);
    assert!(ended.out.contains("later"), "{ended}");
    assert_eq!(repository.refs("refs/*"), ["refs/heads/main"]);
}

#[test]
fn a_reader_that_leaves_early_ends_a_command_in_silence() {
    let repository = after_a_run();
    for line in ["report --format json", "list", "schema"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(swarm_tests::swarm::binary());
        command
            .args(line.split(' '))
            .current_dir(repository.path())
            .env("HOME", repository.home())
            .stdin(Stdio::null());
        let output = command.stdout(writer).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{line}: {:?} {said}", output.status);
    }
}

#[test]
fn a_run_ends_as_it_did_although_nobody_reads_what_it_says() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    for (run, expected) in [("false", 1), ("echo two > a.txt", 0)] {
        let plan = repository.beside("it.toml");
        std::fs::write(&plan, format!("version = 1\n[tasks.a]\nrun = '{run}'\n")).expect("space");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(swarm_tests::swarm::binary());
        command.arg("run").arg(&plan).current_dir(repository.path()).env("HOME", repository.home());
        let status = command.stdin(Stdio::null()).stdout(writer.try_clone().expect("a copy")).stderr(writer).status();
        assert_eq!(status.expect("it starts").code(), Some(expected), "{run}");
    }
}

/// The program with its stdout on something else than the harness's file.
fn with_stdout(repository: &Repository, redirect: &str, arguments: &[&str]) -> Ended {
    Swarm::new(repository, arguments).through(&["sh", "-c", &format!("exec \"$0\" \"$@\" {redirect}")]).end()
}

#[test]
fn output_that_cannot_be_written_is_no_success_and_a_reader_that_has_enough_is_no_failure() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let plan = |name: &str, run: &str| {
        let path = repository.beside(name).display().to_string();
        std::fs::write(&path, format!("version = 1\n[tasks.a]\nrun = '{run}'\n")).expect("space");
        path
    };
    let (good, bad) = (plan("good.toml", "echo two > a.txt"), plan("bad.toml", "false"));
    for arguments in [
        &["run", &good, "--json"][..],
        &["run", &good, "--dry-run"],
        &["run", &good, "--dry-run", "--json"],
        &["list", "--json"],
        &["status", "--json"],
        &["report", "--format", "json"],
        &["--version"],
        &["run", "--help"],
    ] {
        let full = with_stdout(&repository, "> /dev/full", arguments);
        assert_eq!(full.code, 3, "{arguments:?}: {full}");
        assert!(full.err.contains("error: failed to write") && full.err.contains("No space left"), "{full}");
        let gone = with_stdout(&repository, "| true", arguments);
        assert!(!gone.err.contains("failed to write"), "{arguments:?}: {gone}");
    }
    let failed = with_stdout(&repository, "> /dev/full", &["run", &bad, "--json"]);
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.err.contains("hint: the journal has all events: swarm report bad-1 --format json"), "{failed}");
}

#[test]
fn a_dry_run_for_a_program_is_json() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let plan = "[tasks.a]\nrun = 'true'\nmatrix = { n = ['1', '2'] }\n\
        [tasks.b]\nrun = 'true'\nneeds = ['a[n=2]']\n\
        [tasks.c]\nrun = 'true'\nneeds = ['b']\nforeach.f = { glob = '*.txt' }\n";
    let told = Swarm::run(&repository, "it", plan).args(&["--dry-run"]).exits(0).events();
    let instance = |id: &str, needs: &[&str]| serde_json::json!({ "id": id, "needs": needs });
    let task = |name: &str, needs: &[&str], instances: &[serde_json::Value], waits: bool| serde_json::json!({ "version": 1, "task": name, "needs": needs, "instances": instances, "waits-for-items": waits });
    let expected = [
        task("a", &[], &[instance("a[n=1]", &[]), instance("a[n=2]", &[])], false),
        task("b", &["a"], &[instance("b", &["a[n=2]"])], false),
        task("c", &["b"], &[], true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_next_command_has_what_was_given_in_front_of_this_one() {
    let repository = Repository::with(&[("a.txt", "0\n")]);
    let state = repository.beside("a state");
    let given = ["-C", ".", "--state-dir", &state.display().to_string()];
    let plan = repository.beside("it.toml");
    std::fs::write(&plan, format!("version = 1\n{PLAN}")).expect("space");
    let swarm = |words: &[&str]| Swarm::new(&repository, &[&given[..], words].concat()).end();
    let next = |command: &str| format!("swarm -C . --state-dir '{}' {command}", state.display());
    let ran = swarm(&["run", &plan.display().to_string()]);
    for command in ["retry it-1", "apply it-1", "status it-1", "logs it-1 bad", "drop it-1 later"] {
        assert!(ran.err.contains(&next(command)), "{command}: {ran}");
    }
    assert!(ran.err.contains("git -C . diff ") && ran.err.contains("| the reason\n"), "{ran}");
    let report = swarm(&["report"]);
    assert!(report.out.contains(&next("retry it-1")), "{report}");
    let refused = swarm(&["resolve", "good"]);
    assert!(refused.code == 2 && !refused.err.contains("swarm resolve it-1"), "{refused}");
    let refused = swarm(&["resolve", "good", "--abort"]);
    assert!(refused.err.contains(&next("diff it-1 good")), "{refused}");
}

#[test]
fn a_person_whose_folder_goes_with_what_is_applied_is_told_where_to_go() {
    let repository = Repository::with(&[("a.txt", "0\n"), ("d/e/f.txt", "f\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'rm -r d'\n").exits(0);
    let applied = Swarm::new(&repository, &["apply"]).current_dir(&repository.path().join("d/e")).exits(0);
    let told = format!("note: the folder that you are in is gone with it: cd {}", repository.path().display());
    assert!(applied.err.contains(&told), "{applied}");
}

#[test]
fn what_is_moved_and_not_committed_is_told_to_be_committed_and_the_merge_follows_it() {
    let repository = Repository::with(&[("src/a.txt", "1\n2\n3\n4\n5\n"), ("src/b.txt", "b\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo 6 >> src/a.txt'\n").exits(0);
    let Some(_) = repository.run_git(&["mv", "src", "lib"]) else { return };
    let refused = Swarm::new(&repository, &["apply"]).exits(1);
    assert!(
        refused.err.contains("src/a.txt moved or removed here") && refused.err.contains("git commit it"),
        "{refused}"
    );
    repository.commit_all("moved");
    Swarm::new(&repository, &["apply"]).exits(0);
    assert_eq!(repository.text("HEAD", "lib/a.txt"), "1\n2\n3\n4\n5\n6\n");
}

#[test]
fn some_tasks_run_with_what_they_need_and_whoever_goes_on_knows_them() {
    let tasks = "[tasks.a]\nrun = 'echo a > a.txt'\n[tasks.b]\nneeds = ['a']\nrun = 'cat a.txt > b.txt; test -e ok'\n";
    let others = "[tasks.c]\nrun = 'echo c > c.txt'\n[tasks.d]\nneeds = ['b', 'c']\nrun = 'true'\n";
    let (some, whole) = (Repository::with(&[("a.txt", "0\n")]), Repository::with(&[("a.txt", "0\n")]));
    let ended = Swarm::run(&whole, "it", &format!("{tasks}{others}")).args(&["--only", "b"]).exits(1);
    assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("succeeded", "failed"), "{ended}");
    Swarm::run(&some, "it", tasks).exits(1);
    let tree = |repository: &Repository| repository.files("swarm/it");
    assert_eq!(tree(&whole), tree(&some));
    let retried = Swarm::new(&whole, &["retry", "--json"]).exits(1);
    assert_eq!(retried.result("b"), "failed", "{retried}");
    let status = out(&whole, "status");
    assert!(status.contains("2 tasks") && !status.contains(" c ") && !status.contains(" d "), "{status}");
    let plan = whole.beside("it.toml").display().to_string();
    let checked = Swarm::new(&whole, &["check", &plan, "--only", "a,c"]).exits(0);
    assert!(checked.err.contains("2 tasks, 2 instances: a, c"), "{checked}");
    let refused = Swarm::new(&whole, &["run", &plan, "--only", "a,bb"]).exits(2);
    assert!(refused.err.contains("the plan has no task `bb`") && refused.err.contains("did you mean `b`"), "{refused}");
}

#[test]
fn the_plan_in_the_root_of_the_repository_needs_no_name() {
    let repository = Repository::with(&[("d/a.txt", "0\n")]);
    let refused = Swarm::new(&repository, &["run"]).exits(2);
    assert!(refused.err.contains("no swarm.toml") && refused.err.contains("swarm run PLAN"), "{refused}");
    std::fs::write(repository.path().join("swarm.toml"), "version = 1\n[tasks.a]\nrun = 'echo 1 > d/a.txt'\n")
        .expect("space");
    for (folder, run) in [("", "swarm-1"), ("d", "swarm-2")] {
        let ended = Swarm::new(&repository, &["run"]).current_dir(&repository.path().join(folder)).exits(0);
        assert!(ended.err.contains(run) && ended.err.contains("all succeeded"), "{ended}");
    }
    assert_eq!(repository.text("swarm/swarm", "d/a.txt"), "1\n");
}
