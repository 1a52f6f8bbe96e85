//! What people do by hand with a result: they settle its conflict (`swarm resolve`), and look around where it was made
//! (`swarm shell`).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use swarm_tests::swarm::{RUN_TIME_MAX, binary};
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("b.txt", "b\n")];

/// `a` and `b` contradict each other; `c` builds on `b`.
const CONFLICT: &str = "[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                        [tasks.b]\nrun = 'echo from b >> a.txt; echo new > new.txt; rm b.txt'\n\
                        [tasks.c]\nneeds = ['b']\nrun = 'echo c > c.txt'\n";

fn swarm(repository: &Repository, words: &[&str], code: i32) -> Ended {
    Swarm::new(repository, words).exits(code)
}

fn conflicted(merge: &str) -> Repository {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &format!("{merge}{CONFLICT}")).exits(5);
    assert_eq!(["a", "b", "c"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
    repository
}

fn opened(repository: &Repository) -> PathBuf {
    PathBuf::from(swarm(repository, &["resolve", "b"], 0).out.trim())
}

/// Worktrees that the repository knows of.
fn worktrees(repository: &Repository) -> usize {
    repository.git().worktrees().expect("a list").len()
}

#[test]
fn the_summary_says_what_can_be_done_with_a_parked_result() {
    let repository = conflicted("");
    let text = swarm(&repository, &["report"], 0).out;
    assert!(
        text.contains(
            "next: swarm resolve it-1 b\n              swarm retry it-1 b\n              swarm drop it-1 b\n"
        ),
        "{text}"
    );
}

#[test]
fn a_conflict_is_opened_as_git_leaves_one() {
    let repository = conflicted("");
    let at = opened(&repository);
    let text = fs::read_to_string(at.join("a.txt")).expect("checked out");
    assert_eq!(text, "one\n<<<<<<< landed\nfrom a\n||||||| before both\n=======\nfrom b\n>>>>>>> b\n");
    assert_eq!(fs::read_to_string(at.join("new.txt")).expect("what fits is there"), "new\n");
    assert!(!at.join("b.txt").exists(), "what fits is gone");
    let git = git2::Repository::open(&at).expect("a worktree");
    assert_eq!(git.state(), git2::RepositoryState::Merge);
    let conflict = git.index().expect("an index").conflict_get(std::path::Path::new("a.txt")).expect("both sides");
    let side =
        |entry: Option<git2::IndexEntry>| git.find_blob(entry.expect("a side").id).expect("a blob").content().to_vec();
    assert_eq!([side(conflict.our), side(conflict.their)], [b"one\nfrom a\n".to_vec(), b"one\nfrom b\n".to_vec()]);
    let again = swarm(&repository, &["resolve", "b"], 2);
    assert!(again.err.contains("open already") && again.err.contains("--continue"), "{again}");
}

#[test]
fn git_gives_up_the_merge_of_an_opened_conflict_at_once() {
    let files = [("a.txt", "one\n"), ("b.txt", "b\n"), ("d/x", "x\n"), ("d/y", "y\n"), ("z", "z\n")];
    let repository = Repository::with(&files);
    let plan = "[tasks.a]\nrun = 'echo from a >> a.txt; echo d > d/new'\n\
                [tasks.b]\nrun = 'echo from b >> a.txt; echo 2 > d/x; chmod +x d/y; echo new > new; rm b.txt z; mkdir z; echo > z/q'\n";
    Swarm::run(&repository, "it", plan).exits(5);
    let at = opened(&repository);
    let git = |words: &[&str]| repository.run_git(&[&["-C", at.to_str().expect("a plain path")], words].concat());
    let Some(_) = git(&["merge", "--abort"]) else { return };
    assert_eq!(git(&["status", "--porcelain"]).as_deref(), Some(""));
    assert_eq!(fs::read_to_string(at.join("a.txt")).expect("as it landed"), "one\nfrom a\n");
    assert!(at.join("z").is_file() && !at.join("new").exists());
}

#[test]
fn what_was_edited_for_a_result_that_was_dropped_meanwhile_can_be_kept() {
    let repository = conflicted("");
    let at = opened(&repository);
    fs::write(at.join("a.txt"), "mine\n").expect("a checkout");
    swarm(&repository, &["drop", "b"], 0);
    let gone_on = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(gone_on.err.contains("it was dropped") && gone_on.err.contains("resolve it-1 b --abort"), "{gone_on}");
    let refused = swarm(&repository, &["resolve", "b", "--abort"], 2);
    let keeps = refused.err.split_once("hint: ").and_then(|(_, hint)| hint.split_once(" keeps them"));
    let (keeps, _) = keeps.unwrap_or_else(|| panic!("{refused}"));
    let script = keeps.replace("TEXT", "kept").replace("NAME", "mine");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).current_dir(repository.path()).env("HOME", repository.home());
    assert!(shell.status().is_ok_and(|status| status.success()), "{script}");
    assert_eq!(repository.text("mine", "a.txt"), "mine\n");
    swarm(&repository, &["resolve", "b", "--abort", "--force"], 0);
    assert!(!at.exists());
}

/// `a` lands first, whichever it is.
const FOLDER: &str = "run = 'mkdir x; echo inside > x/y; echo new > new.txt'\n";
const FILE: &str = "run = 'echo file > x; echo also > also.txt'\n";

fn folder_or_file(merge: &str, [a, b]: [&str; 2], code: i32) -> Repository {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &format!("{merge}[tasks.a]\n{a}[tasks.b]\n{b}")).exits(code);
    assert_eq!(ended.fate("a"), "landed", "{ended}");
    repository
}

#[test]
fn a_folder_in_the_place_of_a_file_is_opened_with_the_file_beside_it_under_the_name_of_its_side() {
    for (tasks, file, stage) in [([FILE, FOLDER], "x~landed", 2), ([FOLDER, FILE], "x~b", 3)] {
        let repository = folder_or_file("", tasks, 5);
        let open = swarm(&repository, &["resolve", "b"], 0);
        assert!(open.err.contains(&format!("x (a folder; the other side's file is {file})")), "{open}");
        let at = PathBuf::from(open.out.trim());
        let read = |path: &str| fs::read_to_string(at.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(["x/y", file, "new.txt", "also.txt"].map(read), ["inside\n", "file\n", "new\n", "also\n"]);
        let index = git2::Repository::open(&at).and_then(|git| git.index()).expect("an index");
        let staged = |stage| index.get_path(std::path::Path::new("x"), stage).is_some();
        assert_eq!((1..4).filter(|stage| staged(*stage)).collect::<Vec<_>>(), [stage]);
        let gone = swarm(&repository, &["resolve", "b", "--abort"], 0);
        assert!(!at.exists(), "nobody edited it: {gone}");

        let at = opened(&repository);
        let refused = swarm(&repository, &["resolve", "b", "--continue"], 2);
        let says = [format!("beside a folder still stands {file}\n"), "take of it what you want, remove it".to_owned()];
        assert!(says.iter().all(|says| refused.err.contains(says)), "{refused}");
        // The file takes the folder's place after all.
        fs::remove_dir_all(at.join("x")).expect("it is there");
        fs::rename(at.join(file), at.join("x")).expect("it is there");
        swarm(&repository, &["resolve", "b", "--continue"], 0);
        let files = repository.files("swarm/it");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.txt", "also.txt", "b.txt", "new.txt", "x"]);
        assert_eq!(repository.text("swarm/it", "x"), "file\n");
    }
}

#[test]
fn a_resolver_settles_a_folder_in_the_place_of_a_file() {
    for (tasks, file) in [([FILE, FOLDER], "x~landed"), ([FOLDER, FILE], "x~b")] {
        let knows = format!("grep -qF '\"beside\":\"{file}\"' $SWARM_CONFLICT/conflict.json");
        let merge = |run: &str| format!("[merge]\nresolver = {{ run = '''{knows}; {run}''' }}\n");
        let repository = folder_or_file(&merge(&format!("mv {file} x/z; echo both >> x/y")), tasks, 0);
        assert_eq!(["x/y", "x/z"].map(|path| repository.text("swarm/it", path)), ["inside\nboth\n", "file\n"]);
        assert!(!repository.files("swarm/it").contains_key(file));
        let repository = folder_or_file(&merge("true"), tasks, 5);
        let report = swarm(&repository, &["report", "--format", "json"], 0).out;
        assert!(report.contains("left a file beside the folder in its place"), "{report}");
    }
}

#[test]
fn a_merge_that_no_worker_may_leave_is_not_laid_out_and_not_taken_from_a_person() {
    let repository = Repository::with(&FILES);
    let halves = "[tasks.a]\nrun = 'mkdir bare; echo > bare/HEAD'\n\
                  [tasks.b]\nrun = 'mkdir -p bare/objects bare/refs; echo > bare/objects/k; echo > bare/refs/k'\n";
    Swarm::run(&repository, "it", halves).exits(5);
    let refused = swarm(&repository, &["resolve", "b"], 2);
    assert!(refused.err.contains("left bare: a repository inside") && refused.err.contains("swarm drop"), "{refused}");
    assert_eq!(worktrees(&repository), 0);

    let repository = conflicted("");
    let at = opened(&repository);
    fs::write(at.join("a.txt"), "both\n").expect("space");
    fs::write(at.join("New.txt"), "beside new.txt\n").expect("space");
    let refused = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(refused.err.contains("differs only in case") && refused.err.contains("take it out"), "{refused}");
    fs::remove_file(at.join("New.txt")).expect("it is there");
    swarm(&repository, &["resolve", "b", "--continue"], 0);
}

#[test]
fn what_a_person_made_lands_with_what_builds_on_it_and_no_task_runs_again() {
    let repository = conflicted("[merge]\nverify = 'test -e a.txt'\n");
    let at = opened(&repository);
    fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    fs::write(at.join("more.txt"), "more\n").expect("space");
    let ended = swarm(&repository, &["resolve", "b", "--continue", "--json"], 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nboth\n", "{ended}");
    assert_eq!([ended.fate("b"), ended.fate("c")], ["landed", "landed"], "{ended}");
    let files = repository.files("swarm/it");
    assert!(["new.txt", "more.txt", "c.txt"].iter().all(|name| files.contains_key(*name)), "{files:?}");
    assert!(!files.contains_key("b.txt"), "{files:?}");
    assert_eq!(repository.text("refs/swarm/it-1/b/2", "a.txt"), "one\nboth\n", "it is an attempt of its own");
    assert!(!ended.events_of("verified").is_empty(), "{ended}");
    assert!(!at.exists() && worktrees(&repository) == 0, "the worktree has served");
}

#[test]
fn of_two_who_settle_the_same_one_takes_what_is_there_and_the_other_is_told() {
    let repository = conflicted("[merge]\nverify = 'sleep 1; test -e a.txt'\n");
    let at = opened(&repository);
    fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    let two = [(); 2].map(|()| Swarm::new(&repository, &["resolve", "b", "--continue"]).start());
    let mut codes = two.map(|one| one.end()).map(|ended| (ended.code, ended.to_string()));
    codes.sort();
    assert_eq!(codes[0].0, 0, "{codes:?}");
    assert!(matches!(codes[1].0, 2 | 8) && !codes[1].1.contains("panicked"), "{codes:?}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nboth\n");
    assert_eq!(repository.refs("refs/swarm/it-1/b/*").len(), 2, "one attempt more, not two");
}

#[test]
fn a_resolution_survives_that_its_repository_is_moved_and_that_its_tie_is_removed() {
    let repository = conflicted("");
    let at = opened(&repository);
    fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    fs::remove_file(at.join(".git")).expect("it was there");
    let again = swarm(&repository, &["resolve", "b"], 2);
    assert!(again.err.contains("open already") && at.join(".git").exists(), "{again}");
    let moved = repository.copy();
    let open = swarm(&moved, &["resolve", "b"], 2);
    assert!(open.err.contains(&moved.path().display().to_string()), "its own, not that of the other: {open}");
    swarm(&moved, &["resolve", "b", "--continue"], 0);
    assert_eq!(moved.text("swarm/it", "a.txt"), "one\nboth\n");
    assert!(at.exists(), "the other one stays");
    swarm(&repository, &["resolve", "b", "--continue"], 0);
}

#[test]
fn a_resolution_whose_folder_is_away_waits_for_it() {
    let repository = conflicted("");
    let (here, away) = (repository.beside("here"), repository.beside("away"));
    fs::create_dir_all(repository.beside("")).expect("a folder");
    let begin = ["resolve", "b", "--in", "../beside/here"];
    swarm(&repository, &begin, 0);
    fs::write(here.join("a.txt"), "one\nboth\n").expect("space");
    fs::rename(&here, &away).expect("one disk");
    for words in [&["resolve", "b", "--continue"][..], &["resolve", "b", "--abort"], &begin] {
        let refused = swarm(&repository, words, 2);
        assert!(refused.err.contains("it is not there") && refused.err.contains("--abort --force"), "{refused}");
    }
    fs::rename(&away, &here).expect("one disk");
    swarm(&repository, &["resolve", "b", "--continue"], 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nboth\n");

    let repository = conflicted("");
    fs::create_dir_all(repository.beside("")).expect("a folder");
    swarm(&repository, &begin, 0);
    fs::rename(repository.beside("here"), repository.beside("away")).expect("one disk");
    swarm(&repository, &["resolve", "b", "--abort", "--force"], 0);
    swarm(&repository, &["resolve", "b"], 0);
}

#[test]
fn an_ignored_file_that_a_person_added_is_a_part_of_what_they_made() {
    let repository = conflicted("");
    let at = opened(&repository);
    fs::write(at.join(".gitignore"), "*.log\n").expect("space");
    for (name, text) in [("a.txt", "one\nboth\n"), ("kept.log", "kept\n"), ("loose.log", "loose\n")] {
        fs::write(at.join(name), text).expect("space");
    }
    if repository.run_git(&["-C", &at.display().to_string(), "add", "-f", "kept.log"]).is_none() {
        return;
    }
    fs::write(at.join("kept.log"), "edited since\n").expect("space");
    swarm(&repository, &["resolve", "b", "--continue"], 0);
    let files = repository.files("swarm/it");
    assert_eq!(repository.text("swarm/it", "kept.log"), "edited since\n");
    assert!(!files.contains_key("loose.log"), "{files:?}");
}

#[test]
fn a_conflict_under_all_or_nothing_is_settled_on_what_waits_for_it() {
    let repository = Repository::with(&FILES);
    let plan = "[merge]\npublish = 'all-or-nothing'\non-conflict = ['park']\n\
                [tasks.a]\nrun = 'echo from a >> a.txt; echo a > only-a'\n[tasks.b]\nrun = 'echo from b >> a.txt'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(5);
    assert_eq!(["a", "b"].map(|task| ended.fate(task)), ["parked", "parked"], "{ended}");
    let at = opened(&repository);
    let text = fs::read_to_string(at.join("a.txt")).expect("it is there");
    assert!(text.contains("<<<<<<<") && text.contains("from a") && at.join("only-a").exists(), "{text}");
    fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    let ended = swarm(&repository, &["resolve", "b", "--continue", "--json"], 0);
    assert_eq!([ended.fate("a"), ended.fate("b")], ["landed", "landed"], "{ended}");
    assert_eq!(["a.txt", "only-a"].map(|path| repository.text("swarm/it", path)), ["one\nboth\n", "a\n"], "{ended}");
    assert_eq!(ended.events_of("attempt-started").len(), 1, "what was made by hand, and no task: {ended}");
}

#[test]
fn nothing_is_opened_on_a_branch_that_lost_what_landed() {
    let repository = conflicted("");
    let landed = repository.commit_of("swarm/it").expect("one landed");
    repository.run_git(&["branch", "-f", "swarm/it", "HEAD"]).expect("git is here");
    let ended = swarm(&repository, &["resolve", "it-1", "b"], 3);
    assert!(ended.err.contains("puts it back") && worktrees(&repository) == 0, "{ended}");
    repository.run_git(&["branch", "-f", "swarm/it", &landed.to_string()]).expect("git is here");
    opened(&repository);
}

#[test]
fn a_worktree_that_was_switched_to_where_what_landed_is_not_is_not_taken() {
    let repository = conflicted("");
    let at = opened(&repository);
    let tip = repository.commit_of("swarm/it").expect("a landed").to_string();
    let there = at.display().to_string();
    let switched_to = |commit: &str| {
        repository.run_git(&["-C", &there, "reset", "-q", "--hard"]).expect("git is here");
        repository.run_git(&["-C", &there, "switch", "-q", "--detach", commit]).expect("git is here");
        fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    };
    switched_to("main");
    let refused = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(refused.err.contains(&format!("no longer stems from {tip}")), "{refused}");
    assert!(refused.err.contains(&format!("switch --detach {tip}")), "{refused}");
    assert_eq!(repository.commit_of("swarm/it").expect("it is there").to_string(), tip);
    switched_to(&tip);
    swarm(&repository, &["resolve", "b", "--continue"], 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nboth\n");
}

#[test]
fn what_is_not_settled_is_not_taken() {
    let repository = conflicted("");
    let at = opened(&repository);
    let marked = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(marked.err.contains("conflict markers are left in a.txt"), "{marked}");
    for (file, text) in [("a.txt", "one\nfrom a\n"), ("b.txt", "b\n")] {
        fs::write(at.join(file), text).expect("space");
    }
    fs::remove_file(at.join("new.txt")).expect("it is there");
    let nothing = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(nothing.err.contains("nothing of the change is left") && nothing.err.contains("swarm drop"), "{nothing}");
    let edited = swarm(&repository, &["resolve", "b", "--abort"], 2);
    assert!(edited.err.contains("were edited") && edited.err.contains("--abort --force") && at.exists(), "{edited}");
    fs::create_dir(at.join("deep")).expect("space");
    let ignores = at.join("deep/.gitignore");
    fs::write(&ignores, format!("{}a{}\n", "{".repeat(200_000), "}".repeat(200_000))).expect("space");
    let unread = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(unread.err.contains("has lines in the .gitignore of deep that nobody reads"), "{unread}");
    fs::remove_file(&ignores).expect("it is there");
    git2::Repository::init(at.join("deep/inside")).expect("space");
    let inside = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(inside.err.contains("holds a repository of its own in deep/inside"), "{inside}");
    let gone = swarm(&repository, &["resolve", "b", "--abort", "--force"], 0);
    assert!(gone.err.contains("stays parked") && !at.exists() && worktrees(&repository) == 0, "{gone}");
    let none = swarm(&repository, &["resolve", "b", "--continue"], 2);
    assert!(none.err.contains("none was begun"), "{none}");
    let landed = swarm(&repository, &["resolve", "a"], 2);
    assert!(landed.err.contains("it landed"), "{landed}");
    let landed = swarm(&repository, &["resolve", "a", "--abort"], 2);
    assert!(landed.err.contains("it landed, nothing is open; swarm diff it-1 a"), "{landed}");
}

#[test]
fn a_resolution_that_nobody_touched_goes_and_says_what_became_of_its_result() {
    let repository = conflicted("");
    let at = opened(&repository);
    let untouched = swarm(&repository, &["resolve", "b", "--abort"], 0);
    assert!(untouched.err.contains("stays parked") && !at.exists(), "{untouched}");
    let at = opened(&repository);
    let dropped = swarm(&repository, &["drop", "b"], 0);
    assert!(dropped.err.contains("note: b is being settled at"), "{dropped}");
    let gone = swarm(&repository, &["resolve", "b", "--abort"], 0);
    assert!(gone.err.contains("the result was dropped") && !at.exists(), "{gone}");
    let repository = conflicted("");
    let at = opened(&repository);
    let open = swarm(&repository, &["retry", "b"], 2);
    assert!(
        open.err.contains("note: b is being settled at") && open.err.contains("settle what is open first"),
        "{open}"
    );
    let gone = swarm(&repository, &["resolve", "b", "--abort"], 0);
    assert!(gone.err.contains("stays parked") && !at.exists(), "{gone}");
    let retried = swarm(&repository, &["retry", "b"], 0);
    assert!(retried.err.contains("    b: landed\n"), "{retried}");
}

#[test]
fn a_run_is_not_forgotten_while_somebody_settles_a_result_of_it() {
    let repository = conflicted("");
    let at = opened(&repository);
    swarm(&repository, &["drop", "--all"], 0);
    let stays = swarm(&repository, &["clean", "--history"], 0);
    assert!(stays.err.contains("it-1: stays in the history, 1 result of it being settled by hand"), "{stays}");
    assert!(stays.err.contains("swarm resolve it-1 b --abort removes it"), "{stays}");
    swarm(&repository, &["resolve", "b", "--abort"], 0);
    assert!(!at.exists());
    swarm(&repository, &["clean", "--history"], 0);
    assert!(!swarm(&repository, &["list"], 0).out.contains("it-1"), "the control");
}

#[test]
fn what_the_gate_refuses_of_a_person_is_parked_and_kept() {
    let gate = "[merge]\non-conflict = ['rerun']\nverify = { run = '! grep -q bad *.txt', retry = 0 }\n";
    let plan = "[tasks.a]\nrun = 'echo good > x.txt'\n[tasks.b]\nrun = 'echo bad > y.txt'\n";
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", &format!("{gate}{plan}")).exits(5);
    let tip = repository.commit_of("swarm/it");
    let before = swarm(&repository, &["resolve", "b", "--in", "../beside/here"], 0);
    assert!(before.err.contains("everything fits; what the gate refuses"), "{before}");
    let at = repository.beside("here");
    fs::write(at.join("y.txt"), "still bad\n").expect("space");
    let ended = swarm(&repository, &["resolve", "b", "--continue", "--json"], 5);
    assert_eq!((ended.fate("b").as_str(), ended.events_of("evicted").len()), ("parked", 0), "{ended}");
    assert_eq!(repository.commit_of("swarm/it"), tip);
    let kept = repository.refs("refs/swarm/it-1/b/*");
    swarm(&repository, &["resolve", "b", "--in", "../beside/here"], 0);
    assert_eq!(fs::read_to_string(at.join("y.txt")).expect("as it was left"), "still bad\n", "{kept:?}");
    fs::write(at.join("y.txt"), "good\n").expect("space");
    swarm(&repository, &["resolve", "b", "--continue"], 0);
    assert_eq!(repository.text("swarm/it", "y.txt"), "good\n");
}

#[test]
fn another_try_of_what_a_person_settled_says_what_is_tried_no_more_and_how_it_comes_back() {
    let gate = "[merge]\nverify = { run = '! grep -q bad *.txt', retry = 0 }\n";
    let plan = "[tasks.a]\nrun = 'echo good > x.txt'\n[tasks.b]\nrun = 'echo bad > y.txt'\n";
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", &format!("{gate}{plan}")).exits(5);
    fs::write(opened(&repository).join("mine.txt"), "mine, and bad\n").expect("space");
    swarm(&repository, &["resolve", "b", "--continue"], 5);
    let kept = "refs/swarm/it-1/b/2";
    assert_eq!(repository.text(kept, "mine.txt"), "mine, and bad\n");
    let retried = swarm(&repository, &["retry", "b", "--json"], 5);
    let back = format!("swarm resolve it-1 b, and there: git restore --source {kept} .\n");
    assert!(retried.err.contains("settled by hand of b has one more turn") && retried.err.contains(&back), "{retried}");
    assert_eq!(retried.events_of("attempt-started").len(), 1, "its task runs anew: {retried}");
    // What the note says to type.
    let at = opened(&repository);
    assert!(!at.join("mine.txt").exists());
    let git = Command::new("git").current_dir(&at).args(["restore", "--source", kept, "."]).status();
    if !git.is_ok_and(|status| status.success()) {
        return swarm_protocol::skipped::say("no git on PATH");
    }
    assert_eq!(fs::read_to_string(at.join("mine.txt")).expect("it is back"), "mine, and bad\n");
    swarm(&repository, &["resolve", "b", "--abort", "--force"], 0);
    let again = swarm(&repository, &["retry", "b"], 5);
    assert!(!again.err.contains("settled by hand"), "the newest change is the task's own: {again}");
}

/// What a program on a terminal prints until it ends, for a while at most.
fn shown(terminal: &OwnedFd) -> String {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    let longest = Timespec { tv_sec: RUN_TIME_MAX.as_secs() as i64, tv_nsec: 0 };
    loop {
        let mut watched = [PollFd::new(terminal, PollFlags::IN)];
        let ready = poll(&mut watched, Some(&longest)).expect("a terminal");
        assert!(ready > 0, "it hangs: {}", String::from_utf8_lossy(&all));
        // Who holds the other end has closed it: EIO.
        match rustix::io::read(terminal, &mut bytes) {
            Ok(count @ 1..) => all.extend_from_slice(&bytes[..count]),
            _ => return String::from_utf8_lossy(&all).into_owned(),
        }
    }
}

#[test]
fn a_shell_has_a_terminal_of_its_own_and_gives_its_exit_status() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", "[tasks.t]\nrun = 'echo from t > t.txt'\n").exits(0);
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
    let theirs = || Stdio::from(ioctl_tiocgptpeer(&ours, flags).expect("its other end"));
    let mut command = Command::new(binary());
    command.args(["shell", "t"]).current_dir(repository.path()).env_clear().env("HOME", repository.home());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    let mut child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().expect("it starts");
    drop(command);
    let typed = b"cat t.txt; test -t 0 && test -t 2 && echo terminal$((1+1)); sleep 1000 & exit 3\n";
    rustix::io::write(&ours, typed).expect("somebody reads");
    let text = shown(&ours);
    assert!(text.contains("from t") && text.contains("terminal2"), "{text}");
    assert_eq!(child.wait().expect("our child").code(), Some(3), "{text}");
}

#[test]
fn a_shell_is_where_the_task_was_and_leaves_nothing() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.n]\nwrites = ['n.txt']\nrun = 'echo n > n.txt'\n\
                [tasks.t]\nneeds = ['n']\nenv = { WORD = 'x {{ needs.n.result }}' }\nrun = 'echo t > t.txt; false'\n";
    Swarm::run(&repository, "it", plan).exits(1);
    let all = swarm(&repository, &["shell", "t", "--", "sh", "-c", "cat n.txt t.txt; echo $WORD; echo > z; pwd"], 0);
    assert_eq!(all.out, format!("n\nt\nx succeeded\n{}\n", repository.path().display()), "{all}");
    let start = swarm(&repository, &["shell", "it-1", "t", "--start", "--", "ls"], 0);
    assert_eq!(start.out, "a.txt\nb.txt\nn.txt\n", "{start}");
    let caged = swarm(&repository, &["shell", "t", "--", "sh", "-c", "echo x > /etc/x || exit 7"], 7);
    assert!(!repository.path().join("z").exists(), "{caged}");
    let terminal = swarm(&repository, &["shell", "t"], 2);
    assert!(terminal.err.contains("this is no terminal") && terminal.err.contains("-- CMD"), "{terminal}");
    let left = fs::read_dir(repository.path().join(".git/swarm/runs/it-1")).expect("the run's folder");
    let names: Vec<_> = left.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("shell")), "{names:?}");
}

#[test]
fn where_git_lies_elsewhere_the_checkout_is_the_folder_in_which_it_is_found() {
    for by_link in [false, true] {
        let repository = Repository::with(&[("f", "1\n"), ("gone", "1\n"), (".gitignore", "local\n")]);
        let (git, store) = (repository.path().join(".git"), repository.beside("store"));
        std::fs::create_dir(&store).expect("a folder");
        std::fs::rename(&git, store.join("it.git")).expect("moved");
        match by_link {
            true => std::os::unix::fs::symlink(store.join("it.git"), &git).expect("a link"),
            false => {
                std::fs::write(&git, format!("gitdir: {}\n", store.join("it.git").display())).expect("a file");
            }
        }
        repository.write("local", "right\n");
        for (name, text) in [("f", "1\n"), ("gone", "1\n"), ("local", "wrong\n"), (".gitignore", "local\n")] {
            std::fs::write(store.join(name), text).expect("a file beside the git directory");
        }
        let plan = "[workspace]\ncopy = ['local']\n\
                    [tasks.a]\nrun = 'echo 2 > f; rm gone; cat local > copied; pwd > place'\n";
        Swarm::run(&repository, "it", plan).exits(0);
        assert_eq!(repository.text("swarm/it", "copied"), "right\n");
        assert_eq!(repository.text("swarm/it", "place").trim_end(), repository.path().display().to_string());
        Swarm::new(&repository, &["apply"]).exits(0);
        let text = |path: std::path::PathBuf| std::fs::read_to_string(path).ok();
        let (here, beside) = (|name: &str| text(repository.path().join(name)), |name: &str| text(store.join(name)));
        assert_eq!((here("f"), here("gone"), here("copied")), (Some("2\n".into()), None, Some("right\n".into())));
        assert_eq!((beside("f"), beside("gone"), beside("copied")), (Some("1\n".into()), Some("1\n".into()), None));
        let alone = Swarm::new(&repository, &["apply"]).current_dir(&store.join("it.git")).exits(3);
        assert!(alone.err.contains("find the checkout of the repository") && alone.err.contains("hint: "), "{alone}");
    }
}

#[test]
fn a_run_of_another_repository_in_one_state_folder_is_refused_by_what_changes_something() {
    let (one, two) = (Repository::with(&FILES), Repository::with(&FILES));
    let state = one.beside("state").display().to_string();
    let with =
        |repository: &Repository, words: &[&str]| Swarm::new(repository, &[&["--state-dir", &state], words].concat());
    Swarm::run(&one, "it", CONFLICT).args(&["--state-dir", &state]).exits(5);
    let kept = one.refs("refs/swarm/*");
    let at = one.path().display().to_string();
    for words in
        [&["drop", "it-1", "b"][..], &["resolve", "it-1", "b"], &["retry"], &["resume"], &["apply"], &["clean", "it-1"]]
    {
        let refused = with(&two, words).exits(2);
        assert!(refused.err.contains("a run of another repository") && refused.err.contains(&at), "{refused}");
        assert!(refused.err.contains(&format!("swarm -C {at}")), "{refused}");
    }
    let cleaned = with(&two, &["clean", "--history"]).exits(0);
    assert!(cleaned.err.contains("it-1: a run of ") && cleaned.err.contains("left alone"), "{cleaned}");
    let listed = [&two, &one].map(|repository| with(repository, &["list"]).exits(0).out);
    assert!(listed[0].contains(&format!("of {at}")) && !listed[1].contains(&at), "{listed:?}");
    assert_eq!(one.refs("refs/swarm/*"), kept);
    let dropped = with(&one, &["drop", "it-1", "b"]).exits(0);
    assert!(dropped.err.contains("dropped refs/swarm/it-1/b/"), "{dropped}");
}
