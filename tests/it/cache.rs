//! Results of earlier runs: what is taken instead of run, what is not, and that nobody can tell the difference by the
//! branch. Work that really runs leaves a line in a folder outside, through `write`.

use serde_json::Value;
use swarm_tests::{Ended, Repository, Swarm};

/// A plan whose tasks count how often they run; `{log}` is the folder where they do.
fn plan(repository: &Repository, tasks: &str) -> String {
    let log = repository.beside("log");
    std::fs::create_dir_all(&log).expect("space");
    let log = log.display();
    let head =
        format!("[sandbox.counted]\nwrite = ['{log}']\n[defaults]\nsandbox = 'counted'\nenv = {{ LOG = '{log}' }}\n");
    format!("{head}{tasks}")
}

/// Runs a plan, and lets it write where its tasks count.
fn run(repository: &Repository, name: &str, plan: &str) -> Swarm {
    Swarm::run(repository, name, plan).allow(&format!("write={}", repository.beside("log").display()))
}

/// The lines that runs of a task left since the last call.
fn runs(repository: &Repository, task: &str) -> usize {
    let path = repository.beside("log").join(task);
    let lines = std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    drop(std::fs::remove_file(&path));
    lines
}

fn reused(ended: &Ended) -> Vec<String> {
    let events = ended.events();
    let instances = events.iter().filter(|event| event["event"] == "reused").flat_map(|event| {
        event["instances"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["instance"].as_str().expect("a name").to_owned())
    });
    instances.collect()
}

const CHAIN: &str = r#"
[tasks.list]
cache = true
run = '''echo . >> "$LOG/list"; printf '[1,2]' > "$SWARM_ARTIFACTS/l.json"; echo list > list.txt'''
outputs.all = { json = 'l.json' }
[tasks.fan]
cache = true
needs = ['list']
foreach.n = 'needs.list.outputs.all'
env = { N = '{{ n }}' }
run = '''echo . >> "$LOG/fan"; cat list.txt; test -s "$SWARM_NEEDS/list/l.json"; echo "$N" > "fan$N.txt"'''
check = 'test -e list.txt'
[tasks.look]
cache = true
needs = ['fan']
writes = []
run = '''echo . >> "$LOG/look"; cat fan1.txt fan2.txt'''
"#;

#[test]
fn a_second_run_of_an_unchanged_plan_runs_nothing_and_lands_the_same() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let plan = plan(&repository, CHAIN);
    run(&repository, "twice", &plan).exits(0);
    assert_eq!(["list", "fan", "look"].map(|task| runs(&repository, task)), [1, 2, 1]);
    let tip = repository.commit_of("refs/heads/swarm/twice");
    let second = run(&repository, "twice", &plan).exits(0);
    assert_eq!(["list", "fan", "look"].map(|task| runs(&repository, task)), [0, 0, 0]);
    assert_eq!(reused(&second), ["list", "fan[n=1]", "fan[n=2]", "look"]);
    assert_eq!(repository.commit_of("refs/heads/swarm/twice"), tip);
    assert!(second.err.contains("4 of them cached"), "{second}");
    assert_eq!(repository.refs("refs/swarm/twice-2/*"), ["refs/swarm/twice-2/+base"], "what stands there needs no ref");
    let status = Swarm::new(&repository, &["status", "twice-2"]).exits(0);
    assert!(status.out.contains("[=] look") && status.out.contains("cached from twice-1"), "{status}");
    let logs = Swarm::new(&repository, &["logs", "twice-2", "look"]).exits(0);
    assert!(logs.err.contains("its result is cached: swarm logs twice-1 look"), "{logs}");
    // A fresh branch gets the same commits, from results alone.
    run(&repository, "twice", &plan).args(&["--into", "other"]).exits(0);
    assert_eq!(runs(&repository, "fan"), 0);
    assert_eq!(repository.tree("refs/heads/other"), repository.tree("refs/heads/swarm/twice"));
    run(&repository, "twice", &plan).args(&["--no-cache"]).exits(0);
    assert_eq!(["list", "fan", "look"].map(|task| runs(&repository, task)), [1, 2, 1]);
}

#[test]
fn who_takes_a_result_is_told_what_they_were_told_who_made_it() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let plan = "[tasks.edit]\ncache = true\nrun = 'mkdir .vscode; echo {} > .vscode/tasks.json'\n";
    let note = "edit: it changed what runs by itself outside of the cage: .vscode/tasks.json";
    for (into, cached) in [("one", 0), ("other", 1)] {
        let ended = Swarm::run(&repository, "noted", plan).args(&["--into", into]).exits(0);
        assert_eq!(reused(&ended).len(), cached, "{ended}");
        assert!(ended.err.contains(note), "{ended}");
    }
}

#[test]
fn a_task_that_runs_again_sees_what_reused_needs_hand_over() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let first = plan(&repository, CHAIN);
    run(&repository, "part", &first).exits(0);
    assert_eq!(["list", "fan"].map(|task| runs(&repository, task)), [1, 2]);
    let changed = first.replace("cat list.txt;", "cat list.txt a.txt;");
    let ended = run(&repository, "part", &changed).exits(0);
    // The last one looks at the same tree again, but its needs' changes are others' only where they differ: they do not.
    assert_eq!(["list", "fan"].map(|task| runs(&repository, task)), [0, 2]);
    assert_eq!(reused(&ended)[0], "list");
}

#[test]
fn who_needs_it_sees_of_a_file_only_what_a_key_counts() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = r#"
[tasks.spoils]
run = '''cd "$SWARM_ARTIFACTS"; mkdir d; echo 1 > d/f; echo 2 > x; chmod 0611 d/f; chmod 0751 x; chmod 0711 d .'''
[tasks.looks]
needs = ['spoils']
run = '''cd "$SWARM_NEEDS/spoils"; stat -c %a . d d/f x > "$OLDPWD/modes"'''
"#;
    Swarm::run(&repository, "it", tasks).exits(0);
    assert_eq!(repository.text("swarm/it", "modes"), "755\n755\n644\n755\n");
}

#[test]
fn what_a_failed_fingerprint_printed_is_said_on_one_line() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = "[tasks.t]\ncache = { fingerprint = 'echo one; echo two >&2; exit 3' }\nrun = 'echo t > t.txt'\n";
    let ended = Swarm::run(&repository, "it", tasks).exits(0);
    assert!(ended.err.contains("exited with 3; one; two\n") && !ended.err.contains("\\n"), "{ended}");
}

#[test]
fn a_fingerprint_that_takes_its_time_holds_up_nobody_else() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let log = repository.beside("log");
    let tasks = "[tasks.slow]\ncache = { fingerprint = 'until test -e {log}/open; do sleep 0.02; done' }\nrun = 'echo s > s'\n\
                 [tasks.beside]\ncache = true\nrun = 'echo b > b'\n\
                 [tasks.behind]\nneeds = ['beside']\ncache = true\nrun = 'echo . >> \"$LOG/behind\"'\nwrites = []\n";
    let plan = plan(&repository, &tasks.replace("{log}", &log.display().to_string()));
    let mut running = run(&repository, "it", &plan).start();
    let over = running.says(r#""event":"attempt-finished","instance":"behind""#);
    std::fs::write(log.join("open"), "").expect("space");
    let ended = running.end();
    assert!(over, "{ended}");
    assert_eq!((ended.code, repository.text("swarm/it", "s")), (0, "s\n".to_owned()), "{ended}");
}

#[test]
fn a_result_is_taken_only_where_nothing_changed_that_it_depends_on() {
    let repository = Repository::with(&[("src/a.txt", "1\n"), ("doc.txt", "1\n")]);
    let tasks = r#"
[tasks.whole]
cache = true
run = 'echo . >> "$LOG/whole"; cat src/a.txt > whole.txt'
[tasks.narrow]
cache = { inputs = ["src/**"] }
run = 'echo . >> "$LOG/narrow"; cat src/a.txt > narrow.txt'
[tasks.printed]
cache = { inputs = [], fingerprint = "cat doc.txt" }
writes = []
run = 'echo . >> "$LOG/printed"'
"#;
    let plan = plan(&repository, tasks);
    let next = |into: &str| {
        run(&repository, "depends", &plan).args(&["--into", into]).exits(0);
        ["whole", "narrow", "printed"].map(|task| runs(&repository, task))
    };
    assert_eq!(next("one"), [1, 1, 1]);
    assert_eq!(next("two"), [0, 0, 0]);
    repository.write("doc.txt", "2\n");
    repository.commit_all("a file that only some look at");
    assert_eq!(next("three"), [1, 0, 1]);
    assert_eq!(repository.text("three", "narrow.txt"), "1\n");
    assert_eq!(repository.text("three", "doc.txt"), "2\n", "the change is put on the present tree");
    repository.write("src/a.txt", "2\n");
    repository.commit_all("an input");
    assert_eq!(next("four"), [1, 1, 0]);
    assert_eq!(repository.text("four", "narrow.txt"), "2\n");
    // What the task would change stands otherwise now: it is asked, nothing is blended.
    repository.write("narrow.txt", "by hand\n");
    repository.commit_all("the result's own file");
    assert_eq!(next("five"), [1, 1, 0]);
    assert_eq!(repository.text("five", "narrow.txt"), "2\n");
}

#[test]
fn a_result_is_taken_only_while_the_same_files_would_be_part_of_it() {
    let repository = Repository::with(&[("src/a.txt", "1\n")]);
    let plan = "[tasks.whole]\ncache = true\nrun = 'echo > w.log; echo > w.txt'\n\
                [tasks.narrow]\ncache = { inputs = ['src/**'] }\nrun = 'echo > n.log; echo > n.txt'\n";
    let next = |into: &str| {
        let ended = Swarm::run(&repository, "it", plan).args(&["--into", into]).exits(0);
        let mut taken = reused(&ended);
        taken.sort();
        let logs: Vec<String> = repository.files(into).into_keys().filter(|path| path.ends_with(".log")).collect();
        (taken.join(" "), logs.join(" "))
    };
    let expect = |taken: &str, logs: &str| (taken.to_owned(), logs.to_owned());
    let exclude = |rule: &str| {
        std::fs::write(repository.git().path().join("info/exclude"), rule).expect("space");
    };
    let personal = repository.beside("ignore");
    std::fs::write(&personal, "*.log\n").expect("space");
    exclude("*.log\n");
    assert_eq!(next("one"), expect("", ""));
    assert_eq!(next("two"), expect("narrow whole", ""));
    exclude("");
    assert_eq!(next("three"), expect("", "n.log w.log"));
    repository.run_git(&["config", "core.excludesFile", &personal.display().to_string()]).expect("configured");
    assert_eq!(next("four"), expect("", ""));
    repository.run_git(&["config", "--unset", "core.excludesFile"]).expect("configured");
    assert_eq!(next("five"), expect("narrow whole", "n.log w.log"), "each set of rules has its results");
    repository.write("doc/.gitignore", "*.log\n");
    repository.commit_all("rules of another folder count, too: what is a change is said by all of them");
    assert_eq!(next("six"), expect("", "n.log w.log"));
    repository.write(".gitignore", "n.log\n");
    repository.commit_all("rules of the tree");
    assert_eq!(next("seven"), expect("", "w.log"));
    repository.write("src.txt", "");
    repository.commit_all("nothing that the narrow one looks at");
    assert_eq!(next("eight"), expect("narrow", "w.log"));
}

#[test]
fn a_result_brings_its_workers_own_commits_as_a_run_would_have_told_them() {
    let repository = Repository::with(&[("src/a.txt", "1\n")]);
    let work = "echo 1 > b; git add b; git commit -qm one; echo 2 > b; git commit -qam two; echo 3 > c";
    let tasks = format!(
        "[tasks.first]\ncache = true\nrun = 'echo f > f'\n\
         [tasks.made]\nneeds = ['first']\ncache = true\nrun = '{work}'\n\
         [tasks.narrow]\ncache = {{ inputs = ['src/**'] }}\nrun = 'echo n > n; git add n; git commit -qm narrow'\n"
    );
    let next = |into: &str, history: &str, args: &[&str], at: &str| {
        let plan = format!("{tasks}[merge]\nhistory = '{history}'\n");
        let ended = Swarm::run(&repository, "it", &plan).env("SOURCE_DATE_EPOCH", at).args(&["--into", into]);
        let mut taken = reused(&ended.args(args).exits(0));
        taken.sort();
        taken.join(" ")
    };
    let told = |revision: &str| {
        let git = repository.git();
        let mut walk = git.revwalk().expect("a walk");
        walk.push(repository.commit_of(revision).expect("a branch")).expect("a start");
        let subjects = walk.map(|id| {
            let commit = git.find_commit(id.expect("a commit")).expect("it is there");
            commit.summary().ok().flatten().unwrap_or_default().to_owned()
        });
        subjects.collect::<Vec<_>>()
    };
    assert_eq!(next("one", "squash", &[], "1700000000"), "");
    let squashed = told("one");
    assert_eq!(next("two", "keep", &[], "1700000000"), "", "what was recorded as one has nothing to tell");
    assert!(told("two").len() == squashed.len() + 2 && told("two").contains(&"two".to_owned()), "{:?}", told("two"));
    repository.run_git(&["branch", "-D", "two"]).expect("deleted");
    Swarm::new(&repository, &["clean", "--history"]).exits(0);
    repository.run_git(&["reflog", "expire", "--expire=now", "--all"]).expect("expired");
    repository.run_git(&["gc", "--quiet", "--prune=now"]).expect("collected");
    // On another day, too, the commits are those of a run that takes nothing.
    assert_eq!(next("three", "keep", &[], "1800000000"), "first made narrow");
    assert_eq!(next("four", "keep", &["--no-cache"], "1800000000"), "");
    assert_eq!(repository.commit_of("three"), repository.commit_of("four"));
    repository.write("other", "2\n");
    repository.commit_all("no input of the narrow one");
    assert_eq!(next("five", "squash", &[], "1800000000"), "narrow");
    assert_eq!(next("six", "keep", &[], "1800000000"), "", "its commits were made on another tree");
    assert!(told("six").contains(&"narrow".to_owned()), "{:?}", told("six"));
}

#[test]
fn only_a_pass_at_the_first_try_is_recorded_and_only_while_its_objects_exist() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = r#"
[defaults.retry]
max = 1
delay = "1ms"
[tasks.flaky]
cache = true
run = 'echo . >> "$LOG/flaky"; test "$SWARM_ATTEMPT" = 2'
[tasks.fails]
cache = true
allow-failure = true
run = 'echo . >> "$LOG/fails"; exit 1'
[tasks.works]
cache = true
run = 'echo . >> "$LOG/works"; date +%N > works.txt'
"#;
    let plan = plan(&repository, tasks);
    let next = || {
        run(&repository, "record", &plan).exits(0);
        ["flaky", "fails", "works"].map(|task| runs(&repository, task))
    };
    assert_eq!(next(), [2, 2, 1]);
    let kept = repository.text("swarm/record", "works.txt");
    assert_eq!(next(), [2, 2, 0]);
    assert_eq!(repository.text("swarm/record", "works.txt"), kept);
    for name in repository.refs("refs/swarm/*").into_iter().chain(["refs/heads/swarm/record".to_owned()]) {
        repository.run_git(&["update-ref", "-d", &name]).expect("removed");
    }
    repository.run_git(&["reflog", "expire", "--expire=now", "--all"]).expect("expired");
    repository.run_git(&["gc", "--quiet", "--prune=now"]).expect("collected");
    assert_eq!(next(), [2, 2, 1], "what git has collected is no result any more");
}

#[test]
fn what_a_check_of_determinism_does_not_look_at_is_said() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let said = |plan: &str| Swarm::run(&repository, "it", plan).args(&["--check-determinism", "2"]).exits(0).err;
    let none = said("[tasks.a]\nrun = 'echo b > b'\n");
    assert!(none.contains("`--check-determinism 2` checks nothing") && none.contains("write `cache = true`"), "{none}");
    let one = said("[tasks.a]\nrun = 'echo b > b'\n[tasks.c]\ncache = true\nrun = 'echo c > c'\n");
    assert!(one.contains("`--check-determinism 2` does not check a: write `cache = true`"), "{one}");
    let all = said("[tasks.d]\ncache = true\nrun = 'echo d > d'\n");
    assert!(!all.contains("--check-determinism"), "{all}");
}

#[test]
fn what_does_not_give_the_same_twice_is_named_with_its_path() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = r#"
[tasks.same]
cache = true
run = 'echo . >> "$LOG/same"; cat a.txt > same.txt; echo x=1 >> "$SWARM_OUTPUT"'
[tasks.tree]
cache = true
run = 'echo 1 > first.txt; date +%N > random.txt'
[tasks.output]
cache = true
run = 'echo "x=$(date +%N)" >> "$SWARM_OUTPUT"'
[tasks.plain]
run = 'echo . >> "$LOG/plain"; date +%N > plain.txt'
"#;
    let plan = plan(&repository, tasks);
    let ended = run(&repository, "again", &plan).args(&["--check-determinism", "3"]).exits(1);
    assert_eq!(["same", "plain"].map(|task| runs(&repository, task)), [3, 1]);
    assert_eq!(
        ["same", "tree", "output", "plain"].map(|task| ended.result(task)),
        ["succeeded", "failed", "failed", "succeeded"]
    );
    assert!(ended.err.contains("run 2 of the same left another tree: random.txt"), "{ended}");
    assert!(ended.err.contains("run 2 of the same left another output: x"), "{ended}");
    run(&repository, "again", &plan).args(&["--into", "other"]).exits(0);
    assert_eq!(runs(&repository, "same"), 0, "what was found to be the same is recorded");
}

#[test]
fn what_was_found_to_differ_is_neither_reused_nor_recorded_again() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let plan = plan(&repository, "[tasks.a]\ncache = true\nrun = 'echo . >> \"$LOG/a\"; date +%N > random.txt'\n");
    let round = |into: &str| run(&repository, "again", &plan).args(&["--into", into]).exits(0);
    round("one");
    round("two");
    assert_eq!(runs(&repository, "a"), 1, "nobody knew better");
    run(&repository, "again", &plan).args(&["--check-determinism", "2", "--into", "x"]).exits(1);
    assert_eq!(runs(&repository, "a"), 2);
    for into in ["three", "four"] {
        let ended = round(into);
        assert_eq!(runs(&repository, "a"), 1, "{ended}");
        assert!(
            ended.err.contains("its result cannot be reused: `--check-determinism` found that it gives"),
            "{ended}"
        );
    }
    Swarm::new(&repository, &["clean", "--cache"]).exits(0);
    round("five");
    round("six");
    assert_eq!(runs(&repository, "a"), 1, "forgotten with all the rest");
}

#[test]
fn recorded_results_stay_as_long_as_a_run_may_wait_with_one_of_them() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = "[tasks.a]\ncache = true\nrun = 'echo a > a'\n\
                 [tasks.b]\nneeds = ['a']\nrun = 'until test -e \"$LOG/open\"; do sleep 0.02; done; cat a > b'\n";
    let plan = plan(&repository, tasks);
    let gate = repository.beside("log").join("open");
    std::fs::write(&gate, "").expect("space");
    run(&repository, "it", &plan).exits(0);
    std::fs::remove_file(&gate).expect("it was there");
    let mut waiting = run(&repository, "it", &plan).args(&["--into", "again"]).start();
    assert!(waiting.says("\"attempt-started\",\"instance\":\"b\""), "it gets there");
    let kept = || repository.git().references_glob("refs/swarm/cache/*").expect("refs").count();
    let cleaned = Swarm::new(&repository, &["clean", "--cache"]).exits(8);
    assert!(cleaned.err.contains("recorded results and green verdicts: in use, left alone"), "{cleaned}");
    assert_eq!(kept(), 1, "{cleaned}");
    std::fs::write(&gate, "").expect("space");
    waiting.end();
    Swarm::new(&repository, &["clean", "--cache"]).exits(0);
    assert_eq!((repository.text("again", "b").as_str(), kept()), ("a\n", 0));
}

#[test]
fn a_damaged_cache_costs_time_and_nothing_else() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let plan = plan(&repository, "[tasks.a]\ncache = true\nrun = 'echo . >> \"$LOG/a\"; echo 2 > a.txt'\n");
    run(&repository, "damaged", &plan).exits(0);
    for beside in ["-wal", "-shm"] {
        drop(std::fs::remove_file(repository.path().join(format!(".git/swarm/results/results.sqlite{beside}"))));
    }
    std::fs::write(repository.path().join(".git/swarm/results/results.sqlite"), "x".repeat(5000)).expect("space");
    let ended = run(&repository, "damaged", &plan).exits(0);
    assert_eq!(runs(&repository, "a"), 2);
    assert!(ended.err.contains("no result is reused or recorded"), "{ended}");
}

#[test]
fn ten_thousand_unchanged_tasks_are_said_in_few_events() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let count = 300;
    let tasks = format!(
        "[tasks.a]\ncache = true\nforeach.n = {:?}\nrun = 'echo x > f{{{{ n }}}}.txt'\n",
        (0..count).collect::<Vec<_>>()
    );
    run(&repository, "many", &tasks).exits(0);
    let ended = run(&repository, "many", &tasks).exits(0);
    let named = |name: &str| ended.events().iter().filter(|event| event["event"] == *name).count();
    assert_eq!((named("reused"), named("attempt-started"), named("instance-finished")), (1, 0, 0));
    assert_eq!(reused(&ended).len(), count);
    assert!(ended.events().iter().all(|event| event["event"] != Value::Null));
}

#[test]
fn disk_is_shown_and_cleaning_keeps_what_can_be_reused_unless_it_is_named() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let plan = plan(&repository, "[tasks.a]\ncache = true\nrun = 'echo . >> \"$LOG/a\"; echo 2 > a.txt'\n");
    run(&repository, "kept", &plan).exits(0);
    let listed = Swarm::new(&repository, &["list", "--json"]).exits(0);
    let row: Value = serde_json::from_str(&listed.out).expect("one object");
    assert!(row["disk-bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{listed}");
    assert_eq!((&row["run"], &row["state"]), (&Value::from("kept-1"), &Value::from("finished")));
    let status = Swarm::new(&repository, &["status", "--json"]).exits(0);
    let status: Value = serde_json::from_str(&status.out).expect("one object");
    assert_eq!(status["instances"][0]["merge"]["fate"], "landed");
    Swarm::new(&repository, &["clean"]).exits(0);
    repository.run_git(&["reflog", "expire", "--expire=now", "--all"]).expect("expired");
    repository.run_git(&["gc", "--quiet", "--prune=now"]).expect("collected");
    run(&repository, "kept", &plan).args(&["--into", "other"]).exits(0);
    assert_eq!(runs(&repository, "a"), 1);
    for format in ["md", "junit", "html"] {
        let report = Swarm::new(&repository, &["report", "--format", format]).exits(0);
        assert!(report.out.contains("kept-2") && report.out.contains("cached"), "{report}");
    }
    Swarm::new(&repository, &["clean", "--cache"]).exits(0);
    assert_eq!(repository.refs("refs/swarm/cache/*"), Vec::<String>::new());
    run(&repository, "kept", &plan).args(&["--into", "third"]).exits(0);
    assert_eq!(runs(&repository, "a"), 1);
}

#[test]
fn scopes_that_can_meet_are_named_before_the_start() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let path = repository.beside("meet.toml");
    let plan = "version = 1\n[tasks.a]\nrun = 'x'\nwrites = ['src/*.rs']\n[tasks.b]\nrun = 'x'\nwrites = ['src/lib.*']\n\
                [tasks.c]\nrun = 'x'\nwrites = ['doc/**']\n";
    std::fs::write(&path, plan).expect("space");
    let checked = Swarm::new(&repository, &["check", &path.display().to_string()]).exits(0);
    assert!(checked.err.contains("note: a and b may both change src/lib.rs"), "{checked}");
    assert!(!checked.err.contains("and c may"), "{checked}");
}

#[test]
fn a_result_that_may_not_stand_on_the_present_tree_is_not_taken() {
    let repository = Repository::with(&[("src/a", "1\n")]);
    let plan = "[tasks.a]\ncache = { inputs = ['src/**'] }\nrun = 'echo x > Foo'\n";
    Swarm::run(&repository, "it", plan).exits(0);
    repository.write("other", "2\n");
    repository.commit_all("harmless\n");
    let ended = Swarm::run(&repository, "it", plan).args(&["--into", "second"]).exits(0);
    assert_eq!(reused(&ended), ["a"], "{ended}");
    repository.write("foo", "3\n");
    repository.commit_all("in the way\n");
    let ended = Swarm::run(&repository, "it", plan).args(&["--into", "third"]).exits(1);
    assert_eq!((reused(&ended), ended.result("a")), (vec![], "violation".to_owned()), "{ended}");
    assert_eq!(repository.refs("refs/heads/third"), Vec::<String>::new());
}

#[test]
fn what_inputs_name_through_a_link_counts_as_it_is_where_that_leads() {
    for (inputs, read) in [("config", "config"), ("lnk/**", "lnk/x"), ("lnk/x", "lnk/x"), ("*/x", "lnk/x")] {
        let repository = Repository::with(&[("real/deep/x", "one\n"), ("other", "1\n")]);
        for (to, at) in [("real/deep", "lnk"), ("real/deep/x", "config")] {
            std::os::unix::fs::symlink(to, repository.path().join(at)).expect("a link");
        }
        repository.commit_all("links\n");
        let plan = format!("[tasks.a]\ncache = {{ inputs = ['{inputs}'] }}\nrun = 'cat {read} > out'\n");
        Swarm::run(&repository, "it", &plan).exits(0);
        let same = Swarm::run(&repository, "it", &plan).args(&["--into", "second"]).exits(0);
        assert_eq!(reused(&same), ["a"], "{inputs}: {same}");
        repository.write("real/deep/x", "two\n");
        repository.commit_all("behind the link\n");
        let ended = Swarm::run(&repository, "it", &plan).args(&["--into", "third"]).exits(0);
        assert_eq!(reused(&ended), Vec::<String>::new(), "{inputs}: {ended}");
        assert_eq!(repository.text("third", "out"), "two\n", "{inputs}");
    }
}

#[test]
fn a_result_for_whose_file_another_would_have_to_make_way_is_not_taken() {
    let check = |work: &str, stands: &dyn Fn(&Repository)| {
        let repository = Repository::with(&[("src/a", "1\n"), ("keep", "k\n")]);
        let plan =
            format!("[tasks.a]\ncache = {{ inputs = ['src/**'] }}\nwrites = ['gen', 'gen/**']\nrun = '{work}'\n");
        Swarm::run(&repository, "it", &plan).exits(0);
        repository.write("other", "2\n");
        repository.commit_all("harmless\n");
        let taken = Swarm::run(&repository, "it", &plan).args(&["--into", "second"]).exits(0);
        assert_eq!(reused(&taken), ["a"], "{taken}");
        stands(&repository);
        repository.commit_all("in the way\n");
        let ended = Swarm::run(&repository, "it", &plan).args(&["--into", "third"]).end();
        assert_eq!(reused(&ended), Vec::<String>::new(), "{work}: {ended}");
        let uncached = Swarm::run(&repository, "it", &plan).args(&["--into", "fourth", "--no-cache"]).exits(ended.code);
        assert_eq!(uncached.result("a"), ended.result("a"), "{work}: {ended}");
    };
    let deep = "mkdir -p gen && echo x > gen/x";
    check(deep, &|repository| repository.write("gen", "by hand\n"));
    check(deep, &|repository| std::os::unix::fs::symlink("src", repository.path().join("gen")).expect("a link"));
    check("echo x > gen", &|repository| repository.write("gen/y", "by hand\n"));
}

#[test]
fn what_several_needs_come_to_depends_on_the_rules_that_join_them() {
    let repository = Repository::with(&[("log", "1\n"), ("made", "0\n")]);
    let tasks = "[tasks.a]\ncache = true\nrun = 'echo a >> log; echo a > made'\n\
                 [tasks.b]\ncache = true\nrun = 'echo b >> log; echo b > made'\n\
                 [tasks.c]\ncache = true\nneeds = ['a', 'b']\nrun = 'cat log made > c'\n";
    let plan = |union: &str, make: &str| {
        format!("[merge]\nunion = [{union}]\nregenerate = [{{ paths = ['made'], run = '{make}' }}]\n{tasks}")
    };
    let next = |into: &str, plan: &str, code: i32| {
        let ended = Swarm::run(&repository, "it", plan).args(&["--into", into]).exits(code);
        let mut taken = reused(&ended);
        taken.sort();
        (taken, repository.commit_of(into).and_then(|_| repository.files(into).remove("c")))
    };
    let (first, other) = (plan("'log'", "echo one > made"), plan("'log'", "echo two > made"));
    let c = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(next("one", &first, 0), (vec![], c("1\na\nb\none\n")));
    let all = ["a", "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(next("two", &first, 0), (all, c("1\na\nb\none\n")));
    let (taken, made) = next("three", &other, 0);
    assert_eq!((taken, made), (all_but_c(), c("1\na\nb\ntwo\n")));
    let (taken, _) = next("four", &plan("", "echo one > made"), 1);
    assert_eq!(taken, all_but_c(), "without the rule they contradict each other");
}

#[test]
fn what_several_needs_come_to_depends_on_where_each_may_go() {
    let repository = Repository::with(&[("old/f", "1\n2\n3\n4\n5\n6\n7\n8\n")]);
    let plan = |writes: &str| {
        format!(
            "[tasks.mv]\nrun = 'mkdir new; mv old/f new/f'\n[tasks.ed]\nrun = 'sed -i s/^3$/three/ old/f'\n{writes}\
             [tasks.join]\nneeds = ['mv', 'ed']\ncache = true\nrun = 'cat new/f > seen'\n"
        )
    };
    let next = |into: &str, writes: &str, args: &[&str]| {
        let ended = Swarm::run(&repository, "it", &plan(writes)).args(&["--into", into]).args(args).end();
        (ended.code, reused(&ended), ended.results())
    };
    assert_eq!((next("one", "", &[]).0, next("two", "", &[]).1), (0, vec!["join".to_owned()]));
    let narrow = "writes = ['old/**']\n";
    assert_eq!(next("three", narrow, &[]), next("four", narrow, &["--no-cache"]));
}

fn all_but_c() -> Vec<String> {
    ["a", "b"].map(str::to_owned).to_vec()
}

#[test]
fn runs_of_one_plan_share_what_setup_made_and_take_results_that_stand_on_it() {
    let repository = Repository::with(&[(".gitignore", "made\n")]);
    let plan = "[workspace]\nsetup = 'date +%s%N > made'\n[tasks.a]\ncache = true\nrun = 'cat made > a'\n";
    Swarm::run(&repository, "it", plan).exits(0);
    // The free disk, a share of which is a limit, is another one now.
    let filler = std::fs::File::create(repository.beside("filler")).expect("a file");
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, 64 << 20).expect("space");
    let second = Swarm::run(&repository, "it", plan).args(&["--into", "second"]).exits(0);
    assert_eq!(reused(&second), ["a"], "{second}");
    Swarm::run(&repository, "it", plan).args(&["--into", "third", "--no-cache"]).exits(0);
    assert_eq!(repository.text("third", "a"), repository.text("swarm/it", "a"), "setup did not run again");
    let other = plan.replace("date", "env date");
    Swarm::run(&repository, "it", &other).args(&["--into", "fourth"]).exits(0);
    assert_ne!(repository.text("fourth", "a"), repository.text("swarm/it", "a"), "another setup does");
}

#[test]
fn variables_of_the_caller_that_no_worker_gets_change_no_key() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let tasks = "[tasks.a]\ncache = true\nrun = '''echo . >> \"$LOG/a\"; echo 2 > a.txt'''\n";
    let plan = plan(&repository, tasks);
    run(&repository, "it", &plan).args(&["--into", "one"]).exits(0);
    assert_eq!(runs(&repository, "a"), 1);
    let again = run(&repository, "it", &plan).args(&["--into", "two"]).env("OLDPWD", "/").env("TERM_SESSION_ID", "x");
    assert_eq!(reused(&again.exits(0)), ["a"]);
    assert_eq!(runs(&repository, "a"), 0);
}

#[test]
fn a_result_is_not_taken_under_a_limit_that_nobody_worked_under() {
    let repository = Repository::with(&[("a.txt", "1\n")]);
    let next = |files: u32, into: &str| {
        let plan = format!("[sandbox.default]\nfiles = {files}\n[tasks.a]\ncache = true\nrun = 'touch 1 2 3 4'\n");
        reused(&Swarm::run(&repository, "it", &plan).args(&["--into", into]).end())
    };
    assert_eq!(next(100, "one"), Vec::<String>::new());
    assert_eq!(next(100, "two"), ["a"]);
    assert_eq!(next(1, "three"), Vec::<String>::new());
}

#[test]
fn what_waited_for_its_needs_is_reused_when_they_come_to_the_same() {
    let tasks = r#"
[merge]
on-conflict = ['rerun']
[tasks.a]
cache = true
run = 'echo a >> a.txt'
[tasks.b]
cache = true
run = '''echo b >> a.txt'''
[tasks.c]
cache = true
needs = ['a', 'b']
run = '''echo . >> "$LOG/c"; cp a.txt c.txt; cp a.txt "$SWARM_ARTIFACTS/handed"'''
[tasks.d]
needs = ['c']
run = '''cp "$SWARM_NEEDS/c/handed" d.txt'''
"#;
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let plan = plan(&repository, tasks);
    for (round, jobs) in ["1", "4", "2"].into_iter().enumerate() {
        let name = format!("it{round}");
        let ended = run(&repository, &name, &plan).args(&["-j", jobs]).exits(0);
        let branch = format!("swarm/{name}");
        let files = ["c.txt", "d.txt"].map(|path| repository.text(&branch, path));
        assert_eq!(files, ["one\na\nb\n", "one\na\nb\n"], "{ended}");
        assert_eq!(runs(&repository, "c"), usize::from(round == 0), "{ended}");
        assert_eq!(reused(&ended).contains(&"c".to_owned()), round > 0, "{ended}");
        let status = Swarm::new(&repository, &["status"]).exits(0);
        assert!(round == 0 || status.out.contains("cached from it0-1"), "{status}");
    }
}

/// A result that an earlier run recorded, of which only the record is left; the second plan takes it and waits.
fn recorded(repository: &Repository, second: &str) -> (String, std::path::PathBuf) {
    let a = "[tasks.a]\ncache = true\nrun = 'echo . >> \"$LOG/a\"; echo a > a.txt'\n";
    let first = plan(repository, &format!("[tasks.z]\nrun = 'echo z > z.txt'\n{a}"));
    run(repository, "kept", &first).exits(0);
    assert_eq!(runs(repository, "a"), 1);
    Swarm::new(repository, &["clean", "kept-1"]).exits(0);
    let waits = "until test -e \"$LOG/open\"; do sleep 0.02; done";
    let second = plan(repository, &second.replace("{a}", a).replace("{waits}", waits));
    (second, repository.beside("log/open"))
}

/// Forgets all records, and has git take what nothing keeps.
fn forget_and_collect(repository: &Repository) {
    let cleaned = Swarm::new(repository, &["clean", "--cache"]).exits(0);
    assert_eq!(repository.refs("refs/swarm/cache/*"), Vec::<String>::new(), "{cleaned}");
    repository.run_git(&["reflog", "expire", "--expire=now", "--all"]).expect("expired");
    repository.run_git(&["gc", "--quiet", "--prune=now"]).expect("collected");
}

#[test]
fn what_a_run_took_stays_its_own_when_the_record_is_forgotten_and_git_collects() {
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::INT] {
        let repository = Repository::with(&[("f.txt", "1\n")]);
        let second = "[merge]\npublish = 'all-or-nothing'\n[tasks.z]\nrun = 'echo z > z.txt'\n{a}\
                      [tasks.b]\nneeds = ['a']\nrun = '{waits}; cp a.txt b.txt'\n";
        let (second, open) = recorded(&repository, second);
        let mut running = run(&repository, "kept", &second).args(&["--into", "other", "-j2"]).start();
        assert!(running.says("\"attempt-started\",\"instance\":\"b\""), "`a` is taken");
        running.signal(signal);
        running.end();
        forget_and_collect(&repository);
        std::fs::write(open, "").expect("space");
        let ended = Swarm::new(&repository, &["resume", "--json"]).exits(0);
        assert_eq!((runs(&repository, "a"), ended.fate("a").as_str()), (0, "landed"), "{ended}");
        assert_eq!(repository.text("other", "b.txt"), "a\n");
        assert_eq!(repository.refs("refs/swarm/kept-2/+reused/*"), Vec::<String>::new());
    }
}

#[test]
fn what_a_run_took_and_parked_is_kept_until_it_is_dropped() {
    let repository = Repository::with(&[("f.txt", "1\n")]);
    let second = "[merge]\non-conflict = ['park']\n[tasks.z]\nrun = 'echo z > a.txt'\n{a}";
    let (second, _) = recorded(&repository, second);
    let ended = run(&repository, "kept", &second).args(&["--into", "other"]).exits(5);
    assert_eq!((runs(&repository, "a"), ended.fate("a").as_str()), (0, "parked"), "{ended}");
    forget_and_collect(&repository);
    assert!(Swarm::new(&repository, &["diff", "kept-2", "a"]).exits(0).out.contains("+a"));
    let dropped = Swarm::new(&repository, &["drop", "kept-2", "a"]).exits(0);
    assert!(dropped.err.contains("dropped refs/swarm/kept-2/a/1"), "{dropped}");
    repository.run_git(&["gc", "--quiet", "--prune=now"]).expect("collected");
    assert!(Swarm::new(&repository, &["diff", "kept-2", "a"]).exits(2).err.contains("it was dropped"));
}
