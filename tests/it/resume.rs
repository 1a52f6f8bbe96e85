//! Runs that were ended early and go on: by a person at the terminal or at another one, by the machine; with what was needed
//! gone meanwhile; beside another coordinator and a person who commits.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];

/// Three tasks in a row; the one in the middle waits until a file appears in the folder that GATE names.
fn gated(repository: &Repository) -> String {
    let gate = repository.beside("gate");
    fs::create_dir_all(&gate).expect("a folder");
    format!(
        "[sandbox.default]\nread = ['{}']\n\
         [tasks.first]\nrun = '''echo first > first.txt; echo kept > \"$SWARM_ARTIFACTS/word\"'''\n\
         [tasks.gate]\nneeds = ['first']\nrun = 'until test -e {}/open; do sleep 0.02; done; cat \"$SWARM_NEEDS/first/word\" > gate.txt'\n\
         [tasks.beside]\nrun = 'echo beside > beside.txt'\n\
         [tasks.last]\nneeds = ['gate', 'beside']\nrun = 'cat first.txt gate.txt beside.txt > last.txt'\n",
        gate.display(),
        gate.display(),
    )
}

/// Runs a plan with a gate, and lets it look at the gate.
fn run(repository: &Repository, plan: &str) -> Swarm {
    Swarm::run(repository, "it", plan).allow(&format!("read={}", repository.beside("gate").display())).args(&["-j2"])
}

fn start(repository: &Repository) -> Swarm {
    run(repository, &gated(repository)).env("SOURCE_DATE_EPOCH", "1700000000")
}

fn open_gate(repository: &Repository) {
    fs::write(repository.beside("gate/open"), "").expect("space");
}

fn resume(repository: &Repository) -> Swarm {
    Swarm::new(repository, &["resume", "it", "--json"])
}

#[test]
fn other_ignore_rules_than_those_of_the_start_are_named_when_a_run_goes_on() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let plan = "deadline = '1s'\n[tasks.a]\nrun = 'sleep 30; echo a > b.txt'\n";
    Swarm::run(&repository, "it", plan).exits(7);
    let goes_on = || Swarm::new(&repository, &["resume", "--deadline", "1s"]);
    let same = goes_on().exits(7);
    assert!(!same.err.contains("not as the run began"), "the control: {same}");
    let home = repository.beside("other-home");
    std::fs::create_dir_all(&home).expect("a folder");
    std::fs::write(home.join(".gitconfig"), "[core]\n\texcludesFile = ~/rules\n").expect("space");
    std::fs::write(home.join("rules"), "*.txt\n").expect("space");
    let other = goes_on().env("HOME", &home.display().to_string()).exits(7);
    let said = "not as the run began: core.excludesFile or info/exclude (ignore rules)";
    assert!(other.err.contains(said), "{other}");
}

#[test]
fn whoever_resumes_a_run_its_commits_are_by_who_began_it() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::KILL));
    repository.git().config().and_then(|mut config| config.set_str("user.name", "Other")).expect("writable");
    open_gate(&repository);
    let ended = resume(&repository).exits(0);
    assert_eq!(repository.commit_of("swarm/it"), undisturbed(), "{ended}");
}

fn undisturbed() -> Option<git2::Oid> {
    let repository = Repository::with(&FILES);
    fs::create_dir_all(repository.beside("gate")).expect("a folder");
    open_gate(&repository);
    start(&repository).exits(0);
    repository.commit_of("swarm/it")
}

/// The file of a commit that is no part of a pack.
fn loose_commit(repository: &Repository, name: &str) -> PathBuf {
    let id = repository.commit_of(name).expect("a commit").to_string();
    repository.path().join(".git/objects").join(&id[..2]).join(&id[2..])
}

/// Takes a commit and its ref away, as `swarm clean` and then `git gc` do.
fn lose_commit(repository: &Repository, name: &str) {
    let object = loose_commit(repository, name);
    repository.git().find_reference(name).and_then(|mut it| it.delete()).expect("a ref");
    fs::remove_file(object).expect("a loose object");
}

/// A run that stands at its gate, with what came before it done.
fn at_the_gate(repository: &Repository, end: impl FnOnce(&swarm_tests::swarm::Running)) -> Ended {
    let mut running = start(repository).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    assert!(running.says("\"instance-finished\",\"instance\":\"beside\""), "it gets there");
    end(&running);
    running.end()
}

/// Whoever goes on with `repository` comes to the commits of a run that nothing happened to.
fn goes_on(repository: &Repository) -> Ended {
    open_gate(repository);
    let ended = resume(repository).exits(0);
    assert_eq!(repository.commit_of("swarm/it"), undisturbed(), "{ended}");
    ended
}

#[test]
fn an_interrupted_run_names_the_next_command_and_that_goes_on() {
    let repository = Repository::with(&FILES);
    let ended = at_the_gate(&repository, |running| running.signal(Signal::INT));
    assert_eq!(ended.code, 130, "{ended}");
    assert!(ended.err.contains("swarm resume it-1"), "{ended}");
    let resumed = goes_on(&repository);
    let started = resumed.events_of("attempt-started");
    let names: Vec<_> = started.iter().map(|event| event["instance"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["gate", "last"], "{resumed}");
    assert_eq!(resumed.result("gate"), "succeeded", "a cancelled attempt is no try: {resumed}");
    let again = resume(&repository).exits(0);
    assert!(again.out.is_empty() && again.err.contains("nothing left to do"), "{again}");
}

#[test]
fn a_lock_that_a_dead_coordinator_left_on_the_target_is_removed_and_no_other() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::KILL));
    open_gate(&repository);
    // It may have died in the midst of an earlier landing; which of both it was, the test says.
    let died_moving = |moving: bool| {
        let locks = fs::read_dir(repository.path().join(".git/swarm/locks")).expect("there").flatten();
        for ours in locks.map(|entry| entry.path()) {
            let holder = fs::read_to_string(&ours).expect("text");
            let said = holder.replace(&format!("\"moving\":{}", !moving), &format!("\"moving\":{moving}"));
            fs::write(&ours, said).expect("space");
        }
    };
    died_moving(false);
    let before = repository.commit_of("swarm/it");
    let lock = repository.path().join(".git/refs/heads/swarm/it.lock");
    fs::create_dir_all(lock.parent().expect("it has one")).expect("a folder");
    // A git that waits in a hook has written what it is about to set.
    fs::write(&lock, format!("{}\n", "1".repeat(40))).expect("space");
    let refused = resume(&repository).exits(3);
    assert!(refused.err.contains("none runs: rm /") && refused.err.contains("it.lock"), "{refused}");
    assert_eq!((lock.exists(), repository.commit_of("swarm/it")), (true, before), "{refused}");
    // An empty one as well, for all that anybody can see, unless it was us who died over it.
    fs::write(&lock, "").expect("space");
    resume(&repository).exits(3);
    died_moving(true);
    goes_on(&repository);
    assert!(!lock.exists());
}

#[test]
fn a_second_interrupt_kills_and_the_run_goes_on_all_the_same() {
    let repository = Repository::with(&FILES);
    let ended = at_the_gate(&repository, |running| {
        running.signal(Signal::INT);
        running.signal(Signal::TERM);
    });
    assert!([130, 143].contains(&ended.code), "{ended}");
    goes_on(&repository);
}

#[test]
fn cancel_ends_a_run_from_another_terminal() {
    let repository = Repository::with(&FILES);
    let ended = at_the_gate(&repository, |_| {
        let cancelled = Swarm::new(&repository, &["cancel", "it-1"]).exits(0);
        assert!(cancelled.err.contains("swarm resume it-1"), "{cancelled}");
    });
    assert_eq!(ended.code, 143, "{ended}");
    let nobody = Swarm::new(&repository, &["cancel", "it-1"]).exits(0);
    assert!(nobody.err.contains("nobody works on it-1"), "{nobody}");
    goes_on(&repository);
}

#[test]
fn cancel_now_kills_what_runs() {
    let repository = Repository::with(&FILES);
    let ended = at_the_gate(&repository, |_| drop(Swarm::new(&repository, &["cancel", "it", "--now"]).exits(0)));
    assert!([130, 143].contains(&ended.code) && ended.took.as_secs() < 30, "{ended}");
    goes_on(&repository);
}

#[test]
fn a_run_that_is_worked_on_is_not_resumed_beside_it() {
    let repository = Repository::with(&FILES);
    let mut running = start(&repository).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    let refused = resume(&repository).exits(8);
    assert!(refused.err.contains(&running.pid().to_string()), "{refused}");
    open_gate(&repository);
    assert_eq!(running.end().code, 0);
}

#[test]
fn a_signal_is_heard_while_the_base_is_prepared() {
    let repository = Repository::with(&FILES);
    let git = repository.git();
    // 300,000 files in a few kilobytes: seconds of writing.
    let mut id = git.blob(b"x").expect("space");
    for (width, mode) in [(100, 0o100_644), (100, 0o040_000), (30, 0o040_000)] {
        let mut folder = git.treebuilder(None).expect("a builder");
        (0..width).for_each(|n| drop(folder.insert(format!("{n}"), id, mode).expect("a legal name")));
        id = folder.write().expect("space");
    }
    let who = git2::Signature::now("h", "h@example.org").expect("legal");
    let tree = git.find_tree(id).expect("just written");
    git.commit(Some("refs/heads/big"), &who, &who, "big", &tree, &[]).expect("space");
    let mut running = Swarm::run(&repository, "it", "base = 'big'\n[tasks.a]\nrun = 'true'\n").start();
    assert!(running.says("run-started"), "it begins");
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, 143, "{ended}");
    let bases = repository.path().join(".git/swarm/bases");
    let whole = |folder: &fs::DirEntry| folder.path().join("ready").exists();
    assert!(!fs::read_dir(bases).expect("a folder").any(|entry| whole(&entry.expect("readable"))), "{ended}");
}

#[test]
fn a_deadline_is_no_end_for_ever() {
    let repository = Repository::with(&FILES);
    let plan = format!("deadline = '3s'\n{}", gated(&repository));
    let ended = run(&repository, &plan).exits(7);
    assert!(ended.err.contains("it-1: the deadline has passed\n"), "{ended}");
    assert!(ended.err.contains("swarm resume it-1 --deadline "), "the summary says how it goes on: {ended}");
    let again = resume(&repository).args(&["--deadline", "10ms"]).exits(7);
    assert!(again.err.contains("the deadline has passed"), "{again}");
    open_gate(&repository);
    resume(&repository).args(&["--deadline", "1h"]).exits(0);
}

#[test]
fn a_resumed_run_says_that_its_plan_is_another_one_by_now() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let path = repository.beside("it.toml");
    let text = fs::read_to_string(&path).expect("the plan is there");
    let note = "has changed since: this runs the plan as it was";
    fs::write(&path, format!("{text}\n# more\n")).expect("space");
    open_gate(&repository);
    let ended = resume(&repository).exits(0);
    assert!(ended.err.contains(note), "{ended}");
}

#[test]
fn settings_come_from_the_journal_and_not_from_the_files_of_today() {
    let repository = Repository::with(&FILES);
    let plan = format!(
        "[vars]\nword = 'plan'\n{}[tasks.word]\nneeds = ['gate']\nenv = {{ W = '{{{{ vars.word }}}}' }}\nrun = 'echo \"$W\" > word.txt'\n",
        gated(&repository)
    );
    let mut running = run(&repository, &plan).args(&["--set", "word=set", "--into", "other"]).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    running.signal(Signal::KILL);
    running.end();
    fs::write(repository.beside("it.toml"), "version = 7\n").expect("writable");
    repository.write("a.txt", "later\n");
    repository.commit_all("later\n");
    open_gate(&repository);
    resume(&repository).exits(0);
    assert_eq!(repository.text("other", "word.txt"), "set\n");
    assert_eq!(repository.text("other", "a.txt"), "one\n");
}

#[test]
fn artifacts_that_were_removed_are_made_again_and_it_is_said() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    fs::remove_dir_all(repository.path().join(".git/swarm/runs/it-1/first")).expect("it was there");
    let ended = goes_on(&repository);
    assert!(ended.err.contains("first is no longer there: it runs again"), "{ended}");
    let beside = ended.events_of("attempt-started").iter().any(|event| event["instance"] == "beside");
    assert!(!beside, "what is there is not made again: {ended}");
}

/// `a` lands, `b` fails, `c` lands; both need `a`, which hands nothing over.
const HANDS_NOTHING: &str = "[tasks.a]\ncache = true\nrun = 'echo a > a'\n\
                             [tasks.b]\nneeds = ['a']\nrun = 'exit 1'\n\
                             [tasks.c]\nneeds = ['a']\nrun = 'echo c > c'\n";

/// The instances that an ended run started, the first first.
fn started(ended: &Ended) -> Vec<String> {
    let name = |event: serde_json::Value| event["instance"].as_str().expect("a name").to_owned();
    ended.events_of("attempt-started").into_iter().map(name).collect()
}

#[test]
fn what_handed_nothing_over_is_missed_by_nobody_neither_reused_nor_cleaned() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", HANDS_NOTHING).exits(1);
    let warm = Swarm::run(&repository, "it", HANDS_NOTHING).args(&["--into", "k"]).exits(1);
    assert_eq!(started(&warm), ["b", "c"], "a is reused: {warm}");
    for run in ["it-1", "it-2", "it-2"] {
        let again = Swarm::new(&repository, &["retry", run, "b", "--json"]).exits(1);
        assert_eq!(started(&again), ["b"], "{again}");
        Swarm::new(&repository, &["clean", run]).exits(0);
    }
}

/// What a person settles in a run that was interrupted lands, whatever became of the folder of the task meanwhile.
fn settles(is_reused: bool, is_cleaned: bool) {
    let repository = Repository::with(&FILES);
    let word = "cat \"$SWARM_NEEDS/first/word\"";
    let plan =
        gated(&repository).replace("run = '''echo first > first.txt", "cache = true\nrun = '''echo first > a.txt");
    // One that hands something over, whose folder stays, and one that hands over nothing, whose folder is not missed.
    let plan = match is_reused {
        true => plan.replace("; echo kept > \"$SWARM_ARTIFACTS/word\"", "").replace(word, "echo kept"),
        false => plan,
    }
    .replace("cat first.txt gate.txt", "cat a.txt gate.txt");
    open_gate(&repository);
    if is_reused {
        run(&repository, &plan).args(&["--into", "warm"]).exits(0);
    }
    fs::remove_file(repository.beside("gate").join("open")).expect("it was there");
    let tip = repository.commit_of("HEAD").expect("a commit");
    repository.git().reference("refs/heads/tgt", tip, false, "").expect("a branch");
    commit_onto(&repository, "refs/heads/tgt", "a.txt");
    let mut running = run(&repository, &plan).args(&["--into", "tgt"]).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    running.signal(Signal::INT);
    running.end();
    let name = if is_reused { "it-2" } else { "it-1" };
    if is_cleaned {
        Swarm::new(&repository, &["clean", name]).exits(0);
    }
    let at = Swarm::new(&repository, &["resolve", name, "first"]).exits(0).out;
    fs::write(Path::new(at.trim()).join("a.txt"), "by hand\n").expect("space");
    open_gate(&repository);
    let ended = Swarm::new(&repository, &["resolve", name, "first", "--continue", "--json"]).exits(0);
    assert_eq!(repository.text("tgt", "a.txt"), "by hand\n", "{ended}");
    assert_eq!(repository.text("tgt", "gate.txt"), "kept\n", "{ended}");
    assert!(!started(&ended)[1..].contains(&"first".to_owned()), "{ended}");
}

#[test]
fn what_a_person_settled_lands_where_a_result_was_reused() {
    settles(true, false);
}

#[test]
fn what_a_person_settled_lands_where_the_run_was_cleaned() {
    settles(false, true);
    settles(true, true);
}

#[test]
fn what_runs_again_for_what_it_handed_over_leaves_what_landed_as_it_is() {
    let repository = Repository::with(&FILES);
    let plan = gated(&repository).replace("echo first >", "date +%s%N >");
    let mut running = run(&repository, &plan).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    assert!(running.says("\"instance-finished\",\"instance\":\"beside\""), "it gets there");
    running.signal(Signal::INT);
    running.end();
    let landed = repository.text("swarm/it", "first.txt");
    fs::remove_dir_all(repository.path().join(".git/swarm/runs/it-1/first")).expect("it was there");
    open_gate(&repository);
    let ended = resume(&repository).exits(0);
    let last = repository.text("swarm/it", "last.txt");
    assert_eq!(
        (repository.text("swarm/it", "first.txt"), last.lines().next()),
        (landed.clone(), landed.lines().next())
    );
    assert!(ended.out.contains("this time it changed something else: what landed stays"), "{ended}");
}

#[test]
fn what_landed_and_comes_out_otherwise_is_given_on_as_it_landed_and_the_other_is_kept_until_it_is_dropped() {
    let repository = Repository::with(&FILES);
    let plan = "[sandbox.flag]\nenv = ['FLAG']\n[tasks.a]\nallow-failure = true\nrun = 'exit 1'\n\
                [tasks.b]\nneeds = ['a']\noutputs.v = { lines = 'v' }\n\
                run = 'v=$(date +%s%N); echo $v > b; echo $v > $SWARM_ARTIFACTS/v'\n\
                [tasks.c]\nneeds = ['b']\nsandbox = 'flag'\nenv = { V = '{{ needs.b.outputs.v[0] }}' }\n\
                run = 'test -n \"$FLAG\"; cat b $SWARM_NEEDS/b/v > c; echo $V >> c'\n";
    Swarm::run(&repository, "it", plan).exits(1);
    let again = Swarm::new(&repository, &["retry", "it-1", "a", "--json"]).exits(1);
    let says =
        "what needs it starts from that and is given what was handed over with it; this change is kept and not landed";
    assert!(again.to_string().contains(says), "{again}");
    Swarm::new(&repository, &["retry", "it-1", "c"]).env("FLAG", "1").exits(0);
    let landed = repository.text("swarm/it", "b");
    assert_eq!(repository.text("swarm/it", "c"), landed.repeat(3), "all of it is of the try that landed");
    let of = |attempt: u32| repository.refs(&format!("refs/swarm/it-1/b/{attempt}"));
    let other = of(2);
    let cleaned = Swarm::new(&repository, &["clean"]).exits(0);
    assert!(cleaned.err.contains("attempt 2 changed something else when 1 had landed"), "{cleaned}");
    assert_eq!((of(1).len(), other.len(), of(2)), (0, 1, other));
    let dropped = Swarm::new(&repository, &["drop", "it-1", "b"]).exits(0);
    assert!(dropped.err.contains("dropped refs/swarm/it-1/b/2"), "{dropped}");
    assert_eq!(of(2).len(), 0);
}

#[test]
fn a_ref_whose_result_is_gone_or_cannot_be_read_is_named_at_the_end_and_stays() {
    // As `git gc --prune=now` leaves it that looked at the refs a moment before, and as a disk does that is failing.
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 2] = [
        ("git update-ref -d refs/swarm/it-1/beside/1", |object| fs::remove_file(object).expect("a loose object")),
        ("git fsck", |object| {
            fs::remove_file(object).and_then(|()| fs::write(object, "xx")).expect("a loose object");
        }),
    ];
    for (command, harm) in cases {
        let repository = Repository::with(&FILES);
        let mut running = start(&repository).start();
        assert!(running.says("\"merged\",\"instance\":\"beside\""), "it lands");
        let result = repository.commit_of("refs/swarm/it-1/beside/1").expect("a result").to_string();
        let objects = repository.path().join(".git/objects");
        harm(&objects.join(&result[..2]).join(&result[2..]));
        fs::write(objects.join("pack/tmp"), "")
            .and_then(|()| fs::remove_file(objects.join("pack/tmp")))
            .expect("space");
        open_gate(&repository);
        let ended = running.end();
        let kept = ["beside", "first", "gate", "last"].map(|name| format!("refs/swarm/it-1/{name}/1"));
        let refs = repository.refs("refs/swarm/it-1/*");
        assert!(kept.iter().all(|name| refs.contains(name)), "{refs:?} {ended}");
        let noted = ended.events_of("noted");
        let said = noted.iter().any(|event| event.to_string().contains(&format!("{command}\"")));
        assert!(said && ended.err.contains("refs/swarm/it-1/beside/1 ke"), "{ended}");
    }
}

#[test]
fn what_landed_is_taken_from_the_target_when_its_own_commit_is_gone() {
    let repository = Repository::with(&FILES);
    let plan = gated(&repository).replace("echo beside >", "echo x > $SWARM_ARTIFACTS/x; date +%s%N >");
    let mut running = run(&repository, &plan).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    assert!(running.says("\"merged\",\"instance\":\"beside\""), "it lands");
    running.signal(Signal::INT);
    running.end();
    let landed = repository.text("swarm/it", "beside.txt");
    lose_commit(&repository, "refs/swarm/it-1/beside/1");
    // As `swarm clean` and `git gc` do: the artifacts, too.
    fs::remove_dir_all(repository.path().join(".git/swarm/runs/it-1/beside")).expect("it was there");
    // A resume that is ended as well, behind `beside`, which ran again for what it handed over.
    let mut again = resume(&repository).start();
    assert!(again.says("\"instance-finished\",\"instance\":\"beside\""), "it gets there again");
    again.signal(Signal::INT);
    let said = again.end();
    assert!(said.out.contains("this time it changed something else: what landed stays"), "{said}");
    open_gate(&repository);
    let ended = resume(&repository).exits(0);
    let ran = |name: &str| ended.events_of("attempt-started").iter().any(|event| event["instance"] == name);
    assert!(!ran("beside") && ran("gate"), "nothing is made a third time: {ended}");
    let last = repository.text("swarm/it", "last.txt");
    assert_eq!(
        (repository.text("swarm/it", "beside.txt"), last.lines().last()),
        (landed.clone(), landed.lines().last())
    );
}

#[test]
fn a_commit_that_cannot_be_read_is_not_made_again() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let object = loose_commit(&repository, "refs/swarm/it-1/first/1");
    let whole = fs::read(&object).expect("a loose object");
    fs::remove_file(&object).and_then(|()| fs::write(&object, "xx")).expect("space");
    let refused = resume(&repository).exits(3);
    assert!(refused.events_of("attempt-started").is_empty(), "{refused}");
    fs::write(&object, whole).expect("space");
    goes_on(&repository);
}

#[test]
fn results_whose_objects_are_gone_are_made_again() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let tip = repository.commit_of("refs/swarm/it-1/first/1").expect("a result").to_string();
    let object = repository.path().join(".git/objects").join(&tip[..2]).join(&tip[2..]);
    fs::remove_file(object).expect("a loose object");
    let ended = resume(&repository);
    open_gate(&repository);
    let ended = ended.end();
    // `first` has landed already: its commit is on the branch, too, so nobody may go on as if nothing had happened.
    assert!(ended.code == 0 || ended.code == 3, "{ended}");
}

#[test]
fn a_target_that_was_removed_meanwhile_is_named_with_the_way_back() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let tip = repository.commit_of("swarm/it").expect("`first` has landed").to_string();
    repository.git().find_reference("refs/heads/swarm/it").expect("it is there").delete().expect("writable");
    let refused = resume(&repository).exits(3);
    assert!(
        refused.err.contains("was removed") && refused.err.contains(&format!("git branch swarm/it {tip}")),
        "{refused}"
    );
    let git = repository.git();
    let commit = git.find_commit(tip.parse().expect("an id")).expect("objects stay");
    git.branch("swarm/it", &commit, false).expect("back again");
    goes_on(&repository);
}

#[test]
fn a_target_that_somebody_moved_on_keeps_their_commits() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let theirs = commit_onto(&repository, "refs/heads/swarm/it", "theirs.txt");
    open_gate(&repository);
    resume(&repository).exits(0);
    let git = repository.git();
    let tip = repository.commit_of("swarm/it").expect("the branch");
    assert!(git.graph_descendant_of(tip, theirs).expect("a history"));
    assert_eq!(repository.text("swarm/it", "last.txt"), "first\nkept\nbeside\n");
}

#[test]
fn a_repository_that_moved_goes_on_at_its_new_place() {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let moved = repository.beside("moved");
    fs::rename(repository.path(), &moved).expect("the same file system");
    fs::create_dir(repository.path()).expect("nothing is there any more");
    open_gate(&repository);
    Swarm::new(&repository, &["-C", &moved.display().to_string(), "resume", "--json"]).exits(0);
    let tip = git2::Repository::open(&moved).expect("a repository").refname_to_id("refs/heads/swarm/it").ok();
    assert_eq!(tip, undisturbed());
}

/// Commits a new file onto a branch that is checked out nowhere, as a person in another clone would.
fn commit_onto(repository: &Repository, branch: &str, file: &str) -> git2::Oid {
    let git = repository.git();
    loop {
        let tip = git.find_reference(branch).and_then(|tip| tip.peel_to_commit()).expect("a branch");
        let tree = tip.tree().expect("its tree");
        let mut builder = git.treebuilder(Some(&tree)).expect("a tree");
        builder.insert(file, git.blob(file.as_bytes()).expect("space"), 0o100_644).expect("a plain name");
        let tree = git.find_tree(builder.write().expect("space")).expect("just written");
        let who = git2::Signature::new("Eve", "eve@example.org", &git2::Time::new(1, 0)).expect("legal");
        let commit = git.commit(None, &who, &who, file, &tree, &[&tip]).expect("a commit");
        if git.reference_matching(branch, commit, true, tip.id(), "a person").is_ok() {
            return commit;
        }
    }
}

/// Where a journal lies, and a way to spoil it.
fn spoilt(spoil: impl FnOnce(&Path)) -> Ended {
    let repository = Repository::with(&FILES);
    at_the_gate(&repository, |running| running.signal(Signal::INT));
    let tip = repository.commit_of("swarm/it");
    spoil(&repository.path().join(".git/swarm/journal.sqlite"));
    let ended = resume(&repository).end();
    assert_eq!(repository.commit_of("swarm/it"), tip, "{ended}");
    ended
}

#[test]
fn a_journal_that_cannot_be_read_is_answered_clearly() {
    let truncated = spoilt(|journal| {
        fs::remove_file(journal.with_extension("sqlite-wal")).ok();
        let bytes = fs::read(journal).expect("a journal");
        fs::write(journal, &bytes[..bytes.len() / 2]).expect("writable");
    });
    assert!(truncated.code == 3 && truncated.err.contains("damaged"), "{truncated}");
    let foreign = spoilt(|journal| fs::write(journal, "x".repeat(9000)).expect("writable"));
    assert!(foreign.code == 3 && foreign.err.contains("damaged"), "{foreign}");
    let newer = spoilt(|journal| {
        // Source: sqlite.org, "Database File Format": the user version is the big-endian number at offset 60.
        let mut bytes = fs::read(journal).expect("a journal");
        bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
        fs::write(journal, bytes).expect("writable");
    });
    assert!(newer.code == 3 && newer.err.contains("its format is 99"), "{newer}");
    let altered = spoilt(|journal| {
        let mut bytes = fs::read(journal).expect("a journal");
        let word = b"\"attempt-started\",\"instance\":\"first\"";
        let at = bytes.windows(word.len()).position(|here| here == word).expect("it has started");
        bytes[at + word.len() - 2] ^= 1;
        fs::write(journal, bytes).expect("writable");
    });
    let says = ["of it-1 is not as it was written", "put it aside", "git for-each-ref refs/swarm/"];
    assert!(altered.code == 3 && says.iter().all(|says| altered.err.contains(says)), "{altered}");
    let gone = spoilt(|journal| fs::remove_file(journal).expect("a journal"));
    let says = ["has none, though there are folders of it-1", "`-wal`", "git for-each-ref refs/swarm/"];
    assert!(gone.code == 3 && says.iter().all(|says| gone.err.contains(says)), "{gone}");
}

#[test]
fn two_coordinators_and_a_person_who_commits_lose_nothing() {
    let rounds = std::env::var("SWARM_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let repository = Repository::with(&FILES);
    let head = repository.commit_of("main").expect("a commit");
    let git = repository.git();
    git.branch("shared", &git.find_commit(head).expect("it is there"), false).expect("a branch");
    let mut theirs = Vec::new();
    for round in 0..rounds {
        let plan = |name: &str| {
            (0..4)
                .map(|n| format!("[tasks.{name}{n}]\nrun = 'sleep 0.0{n}; echo x > {name}{round}-{n}.txt'\n"))
                .collect::<String>()
        };
        let run = |name: &str| Swarm::run(&repository, name, &plan(name)).args(&["--into", "shared", "-j2"]).start();
        let mut running = [run("left"), run("right")];
        let mut person = 0;
        while running.iter_mut().any(|one| !one.ends_within(std::time::Duration::from_millis(60))) {
            theirs.push(commit_onto(&repository, "refs/heads/shared", &format!("person{round}-{person}.txt")));
            person += 1;
        }
        let ended = running.map(swarm_tests::swarm::Running::end);
        let files = repository.files("shared");
        // One of them may have been told to wait for the other, and who commits faster than anybody can merge has it parked.
        assert!(ended.iter().any(|ended| ended.code != 8), "somebody works");
        for (name, ended) in ["left", "right"].iter().zip(ended) {
            assert!([0, 5, 8].contains(&ended.code), "{ended}");
            let run = ended
                .events_of("run-started")
                .first()
                .map(|event| event["run"].as_str().unwrap_or_default().to_owned());
            let is_kept = |n: usize| {
                let reference = format!("refs/swarm/{}/{name}{n}/1", run.as_deref().unwrap_or_default());
                ended.code == 5 && repository.commit_of(&reference).is_some()
            };
            for n in 0..4 {
                let is_landed = files.contains_key(&format!("{name}{round}-{n}.txt"));
                assert!(is_landed || ended.code == 8 || is_kept(n), "{name}{n} is lost: {ended}");
            }
        }
    }
    let tip = repository.commit_of("shared").expect("the branch");
    for commit in theirs {
        assert!(tip == commit || git.graph_descendant_of(tip, commit).expect("a history"), "{commit} is lost");
    }
}

#[test]
fn what_the_checkout_and_the_environment_lend_otherwise_than_before_is_named_and_not_shown() {
    let repository = Repository::with(&[(".gitignore", "built/\nlocal\n"), ("a.txt", "one\n")]);
    let write = |name: &str, text: &str| fs::write(repository.path().join(name), text).expect("space");
    write("local", "first");
    let gate = gated(&repository).replacen("[sandbox.default]\n", "[sandbox.default]\nenv = ['WORD', 'SAME']\n", 1);
    let plan = format!("[workspace]\ncopy = ['local', 'none']\ncache = ['built']\n{gate}");
    let with_env = |swarm: Swarm, word: &str| swarm.env("WORD", word).env("SAME", "same");
    let mut running = with_env(run(&repository, &plan), "an-old-word").start();
    assert!(running.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    running.signal(Signal::KILL);
    running.end();
    // Nothing changed: nothing is said. A file that is only younger is the same.
    write("local", "first");
    let mut again = with_env(resume(&repository), "an-old-word").start();
    assert!(again.says("\"attempt-started\",\"instance\":\"gate\""), "it gets there");
    again.signal(Signal::INT);
    let again = again.end();
    assert!(!again.err.contains("not as the run began"), "{again}");
    write("local", "second");
    fs::create_dir(repository.path().join("built")).expect("a folder");
    open_gate(&repository);
    let ended = with_env(resume(&repository), "another-word").exits(0);
    let notes: Vec<&str> = ended.err.lines().filter(|line| line.contains("not as the run began")).collect();
    let [note] = notes[..] else { panic!("one note: {ended}") };
    assert!(note.contains(": local (copy), built (cache), WORD (env); results from before"), "{ended}");
    assert!(!ended.err.contains("-word"), "{ended}");
}

#[test]
fn a_state_folder_that_is_removed_under_a_run_is_said_at_its_end() {
    let repository = Repository::with(&FILES);
    let ended = at_the_gate(&repository, |_| {
        let state = repository.path().join(".git/swarm");
        fs::remove_file(state.join("journal.sqlite")).expect("a journal");
        fs::remove_dir_all(state.join("bases")).expect("bases");
        open_gate(&repository);
    });
    assert!(ended.code == 3 && ended.err.contains("somebody removed it while the run was at work"), "{ended}");
    assert!(ended.err.contains("git for-each-ref refs/swarm/it-1/"), "{ended}");
    assert!(!ended.err.contains("swarm resume"), "{ended}");
}
