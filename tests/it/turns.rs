//! `overlap = "serialize"` on real repositories: who may change the same paths takes turns, and nothing conflicts.

use swarm_tests::{Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];

const SERIALIZE: &str = "[merge]\noverlap = 'serialize'\n";

/// Appends its name to a file, after a nap.
fn appender(name: &str, nap: u32) -> String {
    format!("[tasks.{name}]\nwrites = ['a.txt']\nrun = 'sleep 0.0{nap}; echo {name} >> a.txt'\n")
}

#[test]
fn tasks_on_one_file_take_turns_and_all_land() {
    let tasks = format!("{}{}{}", appender("x", 3), appender("y", 0), appender("z", 1));
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &format!("{SERIALIZE}{tasks}")).args(&["-j4"]).exits(0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\ny\nz\n", "{ended}");
    let side_by_side = Repository::with(&FILES);
    let ended = Swarm::run(&side_by_side, "it", &tasks).args(&["-j4"]).exits(5);
    assert_eq!(["x", "y", "z"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
}

#[test]
fn the_same_commits_at_any_number_of_workers() {
    let tip = |seed: u32, jobs: &str| {
        let repository = Repository::with(&FILES);
        let tasks: String = (0..6).map(|n| appender(&format!("t{n}"), (n * 7 + seed * 3) % 5)).collect();
        let fan = "[tasks.list]\nwrites = []\nrun = 'printf \"n=1\\nn=2\\n\" > $SWARM_ARTIFACTS/all'\n\
                   [tasks.fan]\nneeds = ['list']\nforeach.n = { lines = 'printf \"p\\nq\\n\"' }\n\
                   writes = ['a.txt', '{{ n }}.txt']\nenv = { N = '{{ n }}' }\nrun = 'echo $N | tee -a a.txt > $N.txt'\n\
                   [tasks.last]\nneeds = ['list']\nwrites = ['*.txt']\nrun = 'wc -l < a.txt > count.txt'\n";
        let swarm = Swarm::run(&repository, "it", &format!("{SERIALIZE}{tasks}{fan}"));
        let ended = swarm.args(&[jobs]).env("SOURCE_DATE_EPOCH", "1700000000").exits(0);
        assert_eq!(repository.text("swarm/it", "count.txt").trim(), "9", "{ended}");
        repository.commit_of("swarm/it")
    };
    let first = tip(0, "-j1");
    for (seed, jobs) in [(1, "-j8"), (2, "-j3")] {
        assert_eq!(tip(seed, jobs), first, "{jobs}");
    }
}

#[test]
fn one_that_fails_lets_the_next_pass_and_hands_nothing_over() {
    let tasks = format!("{}{}", appender("x", 0), appender("z", 0));
    let bad = "[tasks.f]\nwrites = ['a.txt']\nrun = 'echo f >> a.txt; false'\n";
    let repository = Repository::with(&FILES);
    let plan = format!("{SERIALIZE}{bad}{tasks}[tasks.g]\nneeds = ['f']\nwrites = ['a.txt']\nrun = 'true'\n");
    let ended = Swarm::run(&repository, "it", &plan).exits(1);
    assert_eq!(ended.result("g"), "blocked", "{ended}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\nz\n", "{ended}");
}

#[test]
fn one_that_came_after_a_culprit_runs_once_more_without_it() {
    let gate = "verify = { run = '! grep -q x a.txt', retry = 0 }\n";
    let tasks = format!("{}{}{}", appender("x", 0), appender("y", 0), appender("z", 0));
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &format!("{SERIALIZE}{gate}{tasks}")).exits(5);
    assert_eq!(["x", "y", "z"].map(|task| ended.fate(task)), ["parked", "landed", "landed"], "{ended}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\ny\nz\n", "{ended}");
    let evicted = ended.events_of("evicted");
    let reason = evicted[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("started from the change of `x`, which is parked"), "{ended}");
}

#[test]
fn another_try_of_one_that_failed_runs_nobody_else_again() {
    let repository = Repository::with(&FILES);
    let plan = format!(
        "{SERIALIZE}[sandbox.flag]\nenv = ['FLAG']\n[tasks.f]\nwrites = ['a.txt', 'f.txt']\nsandbox = 'flag'\n\
         run = 'test -n \"${{FLAG:-}}\"; echo f > f.txt'\n{}{}",
        appender("x", 0),
        appender("y", 0)
    );
    Swarm::run(&repository, "it", &plan).exits(1);
    let ended = Swarm::new(&repository, &["retry", "--json"]).env("FLAG", "1").exits(0);
    let started: Vec<_> = ended.events_of("attempt-started").iter().map(|event| event["instance"].clone()).collect();
    assert_eq!(started, ["f"], "{ended}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\ny\n");
    assert_eq!(repository.text("swarm/it", "f.txt"), "f\n");
}

#[test]
fn check_shows_who_goes_first() {
    let repository = Repository::with(&FILES);
    let plan = |merge: &str| {
        let text = format!("version = 1\n{merge}{}{}", appender("x", 0), appender("y", 0));
        std::fs::write(repository.path().join("p.toml"), text).expect("space");
        Swarm::new(&repository, &["check", "p.toml"]).exits(0).err
    };
    let text = plan(SERIALIZE);
    assert!(text.contains("note: x first, then y: both may change a.txt"), "{text}");
    assert!(plan("").contains("x and y may both change a.txt"));
}
