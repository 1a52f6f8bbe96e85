//! The commands that read what a run left, after a real run.

use std::process::{Command, Stdio};

use swarm_tests::{Repository, Swarm};

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
