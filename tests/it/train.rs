//! The merge train on real repositories: green or untouched, whoever is to blame, in whichever order work ends.

use serde_json::Value;
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];

fn run(plan: &str, code: i32) -> (Repository, Ended) {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", plan).exits(code);
    (repository, ended)
}

/// The verdicts in the order in which they came, as `what verdict`.
fn verdicts(ended: &Ended) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let what = |event: &Value| match &event["of"]["count"] {
        Value::Null => text(&event["of"]["what"]),
        count => count.to_string(),
    };
    ended.events_of("verified").iter().map(|event| format!("{} {}", what(event), text(&event["verdict"]))).collect()
}

/// Tasks `0`, `1` … that each write a file of their name; those of `bad` write one that the gate refuses.
fn writers(count: usize, bad: &[usize]) -> String {
    let content = |task: &usize| if bad.contains(task) { "bad" } else { "good" };
    (0..count).map(|task| format!("[tasks.t{task}]\nrun = 'echo {} > t{task}.txt'\n", content(&task))).collect()
}

/// Fails where a file says "bad".
const GATE: &str = "verify = { run = '! grep -q bad *.txt', retry = 0 }\n";

#[test]
fn a_green_batch_lands_whole_after_one_look_at_the_base_and_one_at_all() {
    let (repository, ended) = run(&format!("[merge]\n{GATE}{}", writers(3, &[])), 0);
    assert_eq!(verdicts(&ended).first().map(String::as_str), Some("base green"), "{ended}");
    assert!(verdicts(&ended).iter().all(|verdict| verdict.ends_with("green")), "{ended}");
    assert_eq!(repository.files("swarm/it").len(), 5);
}

#[test]
fn a_culprit_is_parked_and_every_innocent_lands() {
    let (repository, ended) = run(&format!("[merge]\n{GATE}{}", writers(6, &[1, 4])), 5);
    let fates: Vec<String> = (0..6).map(|task| ended.fate(&format!("t{task}"))).collect();
    assert_eq!(fates, ["landed", "parked", "landed", "landed", "parked", "landed"], "{ended}");
    let files = repository.files("swarm/it");
    assert!(!files.contains_key("t1.txt") && !files.contains_key("t4.txt"), "{files:?}");
    assert_eq!(repository.text("refs/swarm/it-1/t1/1", "t1.txt"), "bad\n");
}

#[test]
fn every_culprit_is_shown_the_log_of_the_verification_that_was_red_with_it() {
    let gate = "verify = { run = 'grep bad *.txt && exit 1 || true', retry = 0 }\n";
    let (repository, ended) = run(&format!("[merge]\n{gate}{}", writers(6, &[1, 4])), 5);
    // Another try makes verifications of its own, and takes no log away.
    let again = Swarm::new(&repository, &["retry", "it-1", "t4", "--json"]).exits(5);
    let numbers =
        |ended: &Ended| ended.events_of("verified").iter().filter_map(|it| it["number"].as_u64()).collect::<Vec<_>>();
    let (first, second) = (numbers(&ended), numbers(&again));
    assert!(first[0] == 1 && first.iter().max() < second.iter().min(), "{first:?}, then {second:?}");
    for (task, other, ended) in [("t1", "t4", &ended), ("t4", "t1", &ended), ("t4", "t1", &again)] {
        let words = said_of(ended, task);
        let shown = Swarm::new(&repository, &words.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
        assert!(shown.out.contains(&format!("{task}.txt:bad")), "{task}: {shown}");
        assert!(!shown.out.contains(&format!("{other}.txt")), "{task}: {shown}");
    }
}

/// The words of the command that shows why the gate refused a task.
fn said_of(ended: &Ended, task: &str) -> Vec<String> {
    let merged = ended.events_of("merged");
    let fate = &merged.iter().find(|event| event["instance"] == task).expect("it was spoken of")["fate"];
    assert_eq!(fate["by"], "gate", "{ended}");
    let words = ["logs", "it-1", "[merge] verify", "--attempt", &fate["verification"].to_string()].map(str::to_owned);
    let shown = format!("swarm logs it-1 '[merge] verify' --attempt {}", words[4]);
    assert!(ended.err.contains(&shown), "{ended}");
    words.to_vec()
}

#[test]
fn a_red_base_ends_the_run_with_six_before_anything_starts() {
    let plan = format!("[merge]\nverify = {{ run = 'false', retry = 1 }}\n{}", writers(2, &[]));
    let (repository, ended) = run(&plan, 6);
    assert_eq!(verdicts(&ended), ["base red", "base red"]);
    assert_eq!(ended.events_of("attempt-started").len(), 0, "{ended}");
    assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
}

#[test]
fn a_verdict_is_remembered_and_only_a_green_one() {
    let repository = Repository::with(&FILES);
    let plan = format!("[merge]\n{GATE}{}", writers(2, &[]));
    let first = Swarm::run(&repository, "it", &plan).exits(0);
    assert!(first.events_of("verified").iter().all(|event| event["duration-ms"] != 0), "{first}");
    let second = Swarm::run(&repository, "it", &plan).exits(0);
    let known = |event: &Value| event["duration-ms"] == 0 && event["verdict"] == "green";
    assert!(second.events_of("verified").iter().all(known), "{second}");
    let other = format!("[merge]\nverify = 'test -e a.txt'\n{}", writers(2, &[]));
    let third = Swarm::run(&repository, "it", &other).exits(0);
    assert!(!known(&third.events_of("verified")[0]), "another gate: {third}");
}

#[test]
fn a_verdict_depends_on_what_setup_made_and_on_what_is_copied() {
    let repository = Repository::with(&FILES);
    repository.write(".gitignore", "local\nmade\n");
    repository.commit_all("ignored\n");
    repository.write("local", "good\n");
    let plan = |setup: &str| {
        format!(
            "[workspace]\ncopy = ['local']\nsetup = '{setup}'\n\
             [merge]\nverify = {{ run = 'grep -q good local && test -e made', retry = 0 }}\n{}",
            writers(1, &[])
        )
    };
    Swarm::run(&repository, "it", &plan("touch made")).exits(0);
    let other_setup = Swarm::run(&repository, "it", &plan("true")).exits(6);
    assert_eq!(verdicts(&other_setup), ["base red"], "{other_setup}");
    repository.write("local", "bad\n");
    let other_copy = Swarm::run(&repository, "it", &plan("touch made")).exits(6);
    assert_eq!(verdicts(&other_copy), ["base red"], "{other_copy}");
}

#[test]
fn a_flaky_gate_costs_nobody_a_place() {
    // Red in the first look at each tree that holds a result: what it saw is kept outside, in a folder it may write.
    let repository = Repository::with(&FILES);
    let seen = repository.beside("seen");
    std::fs::create_dir(&seen).expect("a folder");
    let gate = format!(
        "test ! -e t0.txt || {{ id=$(cat *.txt | cksum | tr -d \" \"); test -e {seen}/$id || {{ touch {seen}/$id; false; }}; }}",
        seen = seen.display()
    );
    let policy = format!("[sandbox.seen]\nwrite = ['{}']\n", seen.display());
    let plan =
        format!("{policy}[merge]\nverify = {{ run = '{gate}', sandbox = 'seen', batch = 2 }}\n{}", writers(2, &[]));
    let ended = Swarm::run(&repository, "it", &plan).allow(&format!("write={}", seen.display())).exits(0);
    assert_eq!(verdicts(&ended), ["base green", "2 red", "2 green"], "{ended}");
}

#[test]
fn the_search_for_a_culprit_builds_only_what_differs_from_the_base() {
    let repository = Repository::with(&[(".gitignore", "out/\n"), ("a.txt", "a\n"), ("b.txt", "b\n")]);
    let seen = repository.beside("seen");
    std::fs::create_dir(&seen).expect("a folder");
    let gate = format!(
        "mkdir -p out; for file in *.txt; do test -e out/$file && ! test $file -nt out/$file || \
         {{ cp $file out/$file; echo $file >> {seen}/built; }}; done; echo . >> {seen}/built; ! grep -q bad out/*.txt",
        seen = seen.display()
    );
    let tasks = "[tasks.t0]\nrun = 'echo more >> b.txt'\n[tasks.t1]\nrun = 'echo 1 > c.txt'\n\
                 [tasks.t2]\nrun = 'echo bad > d.txt'\n[tasks.t3]\nrun = 'echo 3 > e.txt'\n";
    let plan = format!(
        "[sandbox.seen]\nwrite = ['{}']\n[merge]\nverify = {{ run = '{gate}', sandbox = 'seen', batch = 4, retry = 0 }}\n{tasks}",
        seen.display()
    );
    let ended = Swarm::run(&repository, "it", &plan).allow(&format!("write={}", seen.display())).exits(5);
    let expected = ["base green", "4 red", "2 green", "3 red", "3 red", "2 green", "1 green"];
    assert_eq!(verdicts(&ended), expected, "{ended}");
    let built = std::fs::read_to_string(seen.join("built")).expect("the gate wrote it").replace(".txt\n", " ");
    let built: Vec<&str> = built.split(".\n").map(str::trim).collect();
    let warm = [built[2], built[3]];
    assert_eq!(warm, ["b c", "b c d"], "two guesses over what the base built: {built:?}");
    let fresh = [built[0], built[1], built[4], built[5], built[6]];
    assert_eq!(
        fresh,
        ["a b", "a b c d e", "a b c d", "a b c", "a b c e"],
        "and every word that counts is fresh: {built:?}"
    );
    assert_eq!(ended.fate("t2"), "parked");
}

#[test]
fn a_build_that_goes_wrong_over_old_output_costs_nobody_a_place() {
    let repository = Repository::with(&[(".gitignore", "out\n"), ("a.txt", "a\n")]);
    let gate = "verify = { run = 'test ! -e out && echo > out && ! grep -q bad *.txt', retry = 0, batch = 4 }\n";
    let ended = Swarm::run(&repository, "it", &format!("[merge]\n{gate}{}", writers(4, &[3]))).exits(5);
    let fates = [0, 1, 2, 3].map(|task| ended.fate(&format!("t{task}")));
    assert_eq!(fates, ["landed", "landed", "landed", "parked"], "{ended}");
    assert!(verdicts(&ended).contains(&"2 red".to_owned()), "the guess was wrong: {ended}");
}

#[test]
fn old_output_that_hides_a_failure_lands_nothing() {
    let repository = Repository::with(&[(".gitignore", "out\n"), ("a.txt", "a\n")]);
    let gate = "verify = { run = 'test -e out || { echo > out; ! grep -q bad *.txt; }', retry = 0, batch = 4 }\n";
    let ended = Swarm::run(&repository, "it", &format!("[merge]\n{gate}{}", writers(4, &[1]))).exits(5);
    let fates = [0, 1, 2, 3].map(|task| ended.fate(&format!("t{task}")));
    assert_eq!(fates, ["landed", "parked", "landed", "landed"], "{ended}");
    assert!(verdicts(&ended).contains(&"3 green".to_owned()), "the guess was wrong: {ended}");
    assert!(!repository.files("swarm/it").contains_key("t1.txt"));
}

#[test]
fn what_one_change_makes_the_gate_leave_helps_no_other() {
    let repository = Repository::with(&[(".gitignore", "out\n"), ("judge.sh", "test ! -e bad.txt\n")]);
    let gate = "verify = { run = 'test -e out/pass || { mkdir -p out && sh judge.sh; }', retry = 0, batch = 1 }\n";
    let tasks = "[tasks.forges]\nrun = 'echo \"touch out/pass; false\" > judge.sh'\n\
                 [tasks.bad]\nrun = 'touch bad.txt'\n[tasks.good]\nrun = 'touch good.txt'\n";
    let ended = Swarm::run(&repository, "it", &format!("[merge]\n{gate}{tasks}")).exits(5);
    let fates = ["forges", "bad", "good"].map(|task| ended.fate(task));
    assert_eq!(fates, ["parked", "parked", "landed"], "{ended}");
}

#[test]
fn a_rerun_on_what_landed_settles_a_conflict() {
    let plan = "[merge]\non-conflict = ['rerun', 'park']\n\
                [tasks.a]\nrun = 'echo from a >> a.txt'\n[tasks.b]\nrun = 'echo from b >> a.txt'\n\
                [tasks.c]\nneeds = ['b']\nrun = 'echo c > c.txt'\n";
    let (repository, ended) = run(plan, 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nfrom a\nfrom b\n", "{ended}");
    assert_eq!(repository.text("swarm/it", "c.txt"), "c\n");
    let evicted = ended.events_of("evicted");
    let evicted: Vec<_> = evicted.iter().map(|event| (event["instance"].clone(), event["kind"].clone())).collect();
    assert_eq!(evicted, [("b".into(), "conflict".into()), ("c".into(), "stale".into())], "{ended}");
    assert_eq!(repository.text("refs/swarm/it-1/b/1", "a.txt"), "one\nfrom b\n", "the first try is kept");
    assert_eq!(ended.result("b"), "succeeded");
}

#[test]
fn what_needs_a_task_that_ran_again_runs_again_behind_it() {
    let plan = "[merge]\non-conflict = ['rerun']\n[tasks.a]\nrun = 'echo a > a.txt'\n\
                [tasks.b]\nrun = 'echo b$SWARM_ATTEMPT >> a.txt; echo said=$SWARM_ATTEMPT >> $SWARM_OUTPUT'\n\
                [tasks.after]\nneeds = ['b']\nenv.SAID = '{{ needs.b.outputs.said }}'\n\
                run = 'cat a.txt > copy; echo $SAID >> said'\ncheck = 'cmp copy a.txt'\n\
                [tasks.last]\nneeds = ['after']\nrun = 'wc -l < copy > lines'\n";
    let (repository, ended) = run(plan, 0);
    let text = |path: &str| repository.text("swarm/it", path);
    assert_eq!(["a.txt", "copy"].map(text), ["a\nb2\n"; 2], "{ended}");
    assert_eq!((text("said").as_str(), text("lines").trim()), ("2\n", "2"), "{ended}");
}

#[test]
fn a_fan_out_keeps_the_items_that_it_had_when_their_giver_runs_again() {
    let plan = "[merge]\non-conflict = ['rerun']\n[tasks.a]\nrun = 'echo a > a.txt'\n\
                [tasks.b]\noutputs.all = { json = 'all.json' }\n\
                run = 'echo b$SWARM_ATTEMPT >> a.txt; echo \"[\\\"i$SWARM_ATTEMPT\\\"]\" > $SWARM_ARTIFACTS/all.json'\n\
                [tasks.c]\nneeds = ['b']\nforeach.item = 'needs.b.outputs.all'\nrun = 'echo $SWARM_FOREACH_ITEM > c.txt'\n\
                [tasks.d]\nrun = 'false'\n";
    let (repository, ended) = run(plan, 1);
    assert_eq!(["b", "c[item=i1]"].map(|id| ended.fate(id)), ["landed"; 2], "{ended}");
    let again = Swarm::new(&repository, &["retry", "--json"]).exits(1);
    assert!(!again.out.contains("i2]"), "{again}");
    assert_eq!(repository.text("swarm/it", "c.txt"), "i1\n", "{again}");
}

#[test]
fn a_task_may_ask_for_its_rerun_alone() {
    let plan = "[tasks.a]\nrun = 'echo from a >> a.txt'\n[tasks.b]\nretry = { max = 1, on = ['conflict'] }\n\
                run = 'echo from b >> a.txt'\n[tasks.c]\nrun = 'echo from c >> a.txt'\n";
    let (_, ended) = run(plan, 5);
    let fates = ["a", "b", "c"].map(|task| ended.fate(task));
    assert_eq!(fates, ["landed", "landed", "parked"], "{ended}");
}

#[test]
fn a_rerun_that_fails_again_is_parked_with_both_reasons() {
    let plan = "[merge]\non-conflict = ['rerun']\n[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                [tasks.b]\nrun = '! grep -q from a.txt; echo from b >> a.txt'\ncheck = '! grep -q \"from a\" a.txt'\n";
    let (repository, ended) = run(plan, 5);
    assert_eq!(ended.fate("b"), "parked", "{ended}");
    assert!(ended.out.contains("conflicts") && ended.out.contains("second try"), "{ended}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nfrom a\n");
}

#[test]
fn all_or_nothing_lands_all_at_once_or_nothing() {
    let merge = "[merge]\npublish = 'all-or-nothing'\n";
    let (repository, ended) = run(&format!("{merge}{GATE}{}", writers(4, &[])), 0);
    assert_eq!(ended.events_of("landing").len(), 1, "{ended}");
    assert_eq!(repository.files("swarm/it").len(), 6);
    for (plan, code) in [
        (format!("{merge}{GATE}{}", writers(4, &[2])), 5),
        (format!("{merge}{}[tasks.z]\nrun = 'false'\n", writers(2, &[])), 1),
    ] {
        let (repository, ended) = run(&plan, code);
        assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new(), "{ended}");
        assert!(ended.fates().values().all(|fate| fate == "parked"), "{ended}");
    }
}

#[test]
fn the_same_commits_at_any_number_of_workers() {
    let naps = |seed: usize| {
        let nap = |task: usize| (task * 7 + seed * 3) % 5;
        let task = |task: usize| {
            let word = if task % 5 == 3 { "bad" } else { "good" };
            format!("[tasks.t{task}]\nrun = 'sleep 0.0{}; echo {word} > t{task}.txt; echo {task} >> log'\n", nap(task))
        };
        (0..10).map(task).collect::<String>()
    };
    let tip = |seed: usize, jobs: &str| {
        let repository = Repository::with(&FILES);
        let merge = format!("[merge]\non-conflict = ['rerun', 'park']\n{GATE}");
        let swarm = Swarm::run(&repository, "it", &format!("{merge}{}", naps(seed)));
        let ended = swarm.args(&[jobs]).env("SOURCE_DATE_EPOCH", "1700000000").exits(5);
        (repository.tree("swarm/it"), repository.commit_of("swarm/it"), format!("{:?}", ended.fates()))
    };
    let first = tip(0, "-j1");
    for (seed, jobs) in [(1, "-j8"), (2, "-j3"), (3, "-j8")] {
        assert_eq!(tip(seed, jobs), first, "{jobs}");
    }
}

#[test]
fn a_union_file_keeps_the_lines_of_all_in_the_order_of_the_plan() {
    let task = |name: &str| format!("[tasks.{name}]\nrun = 'echo {name} >> a.txt'\n");
    let plan = format!("[merge]\nunion = ['*.txt']\n{}{}{}", task("x"), task("y"), task("z"));
    let (repository, ended) = run(&plan, 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\ny\nz\n", "{ended}");
    let (_, ended) = run(&plan.replace("*.txt", "b.txt"), 5);
    assert_eq!(["x", "y", "z"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
}

#[test]
fn a_union_file_that_one_task_moves_keeps_the_lines_of_both() {
    let lines: String = (1..=20).map(|n| format!("{n}\n")).collect();
    let (stays, moves) = ("sed -i '1i stays' LOG", "sed -i '1i moves' LOG; mkdir docs; mv LOG docs/LOG");
    for (first, second, text) in [(stays, moves, "stays\nmoves\n"), (moves, stays, "moves\nstays\n")] {
        let tasks = format!("[tasks.a]\nrun = \"\"\"{first}\"\"\"\n[tasks.b]\nrun = \"\"\"{second}\"\"\"\n");
        let repository = Repository::with(&[("LOG", &lines)]);
        Swarm::run(&repository, "it", &format!("[merge]\nunion = ['LOG']\n{tasks}")).exits(0);
        assert_eq!(repository.text("swarm/it", "docs/LOG"), format!("{text}{lines}"));
        assert!(!repository.files("swarm/it").contains_key("LOG"));
        // The control: without the rule the same is a conflict.
        Swarm::run(&repository, "control", &tasks).exits(5);
    }
}

#[test]
fn a_union_file_is_no_conflict_of_needs_either() {
    let plan = "[merge]\nunion = ['a.txt']\n[tasks.x]\nrun = 'echo x >> a.txt'\n[tasks.y]\nrun = 'echo y >> a.txt'\n\
                [tasks.z]\nneeds = ['x', 'y']\nrun = 'echo z >> a.txt'\n";
    let (repository, ended) = run(plan, 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\ny\nz\n", "{ended}");
}

/// Tasks that each add a file and write the number of all files into `count`.
fn counters(names: [&str; 3]) -> String {
    let task = |name| format!("[tasks.{name}]\nrun = 'echo {name} > {name}.txt; ls *.txt | wc -l > count'\n");
    names.map(task).concat()
}

#[test]
fn a_file_in_which_changes_meet_is_made_again_from_the_merged_tree() {
    let merge = "[merge]\nregenerate = [{ paths = ['count'], run = 'ls *.txt | wc -l > count' }]\n";
    let (repository, ended) = run(&format!("{merge}{}", counters(["x", "y", "z"])), 0);
    assert_eq!(repository.text("swarm/it", "count").trim(), "4", "{ended}");
    assert_eq!(repository.text("swarm/it~1", "count").trim(), "3", "each commit is whole");
}

#[test]
fn what_needs_two_changes_starts_from_files_that_were_made_again() {
    let merge = "[merge]\nregenerate = [{ paths = ['count'], run = 'ls *.txt | wc -l > count' }]\n";
    let last = "[tasks.last]\nneeds = ['x', 'y', 'z']\nwrites = ['seen']\nrun = 'cp count seen'\n";
    let (repository, ended) = run(&format!("{merge}{}{last}", counters(["x", "y", "z"])), 0);
    assert_eq!(repository.text("swarm/it", "seen").trim(), "4", "{ended}");
    let broken = "[merge]\nregenerate = [{ paths = ['count'], run = 'false' }]\n";
    let (_, ended) = run(&format!("{broken}{}{last}", counters(["x", "y", "z"])), 1);
    assert_eq!(ended.result("last"), "failed", "{ended}");
    assert!(ended.out.contains("[merge] regenerate of count failed: `false` exited with 1"), "{ended}");
}

#[test]
fn a_command_that_fails_or_changes_other_files_settles_nothing() {
    for (run_, reason) in [
        ("ls *.txt | wc -l > count; false", "[merge] regenerate of count failed: `ls"),
        ("echo > a.txt", "none of its files"),
    ] {
        let merge = format!("[merge]\nregenerate = [{{ paths = ['count'], run = '{run_}' }}]\n");
        let (repository, ended) = run(&format!("{merge}{}", counters(["x", "y", "z"])), 5);
        assert_eq!(["x", "y", "z"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
        assert!(ended.out.contains(reason), "{ended}");
        assert_eq!(repository.text("swarm/it", "count").trim(), "2");
    }
}

#[test]
fn a_command_that_leaves_a_file_as_it_finds_it_settles_nothing_and_one_that_need_not_change_it_does() {
    let tasks = "[tasks.x]\nrun = 'echo x > x.txt; echo x > names'\n[tasks.y]\nrun = 'echo y > names'\n";
    let with = |run_: &str, code: i32| {
        let merge = format!("[merge]\nregenerate = [{{ paths = ['names'], run = '{run_}' }}]\n");
        run(&format!("{merge}{tasks}"), code)
    };
    for nothing in ["true", "ls *.txt > /dev/null", "touch names"] {
        let (repository, ended) = with(nothing, 5);
        assert_eq!(["x", "y"].map(|task| ended.fate(task)), ["landed", "parked"], "{ended}");
        let says = format!("regenerate of names made nothing: `{nothing}` leaves names as it finds it");
        assert!(ended.out.contains(&says), "{ended}");
        assert_eq!(repository.text("swarm/it", "names"), "x\n");
    }
    // It comes to what landed, whichever side it is shown.
    let (repository, ended) = with("ls *.txt | sed -n s/.txt//p | grep x > names", 0);
    assert!(ended.fate("y") == "landed" && repository.text("swarm/it", "names") == "x\n", "{ended}");
    let joined = "[tasks.last]\nneeds = ['x', 'y']\nwrites = ['seen']\nrun = 'cp names seen'\n";
    let merge = "[merge]\nregenerate = [{ paths = ['names'], run = 'true' }]\n";
    let (_, ended) = run(&format!("{merge}{tasks}{joined}"), 1);
    assert!(ended.result("last") == "failed" && ended.out.contains("leaves names as it finds it"), "{ended}");
}

/// Takes the lines of conflict markers away, so that both sides stay.
const STRIP: &str = "sed -i -E '/^(<<<<<<<|\\|\\|\\|\\|\\|\\|\\||=======|>>>>>>>)/d' a.txt";

fn appenders(resolver: &str) -> String {
    let task = |name: &str| format!("[tasks.{name}]\nrun = 'echo {name} >> a.txt; echo {name} > {name}.txt'\n");
    format!(
        "[merge]\nresolver = \"\"\"\n{}\"\"\"\n{}{}{}",
        resolver.replace('\\', "\\\\"),
        task("x"),
        task("y"),
        task("z")
    )
}

#[test]
fn a_resolver_settles_one_conflict_after_the_other() {
    let (repository, ended) = run(&appenders(STRIP), 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\ny\nz\n", "{ended}");
    assert_eq!(repository.text("swarm/it", "z.txt"), "z\n", "what fits comes along");
    let asked: Vec<_> = ended.events_of("evicted").iter().map(|event| event["next"].clone()).collect();
    assert_eq!(asked, ["resolve", "resolve"]);
    assert_eq!(repository.text("refs/swarm/it-1/y/1", "a.txt"), "one\ny\n", "the first change is kept");
}

#[test]
fn a_resolver_sees_both_sides_and_what_they_were_to_do() {
    let look = "cd $SWARM_CONFLICT\ngrep -q one base/a.txt && grep -q x ours/a.txt && grep -q y theirs/a.txt\n\
                grep -q 'echo y >>.*\"instance\":\"y\"\\|\"instance\":\"y\".*echo y >>' conflict.json\n\
                grep -q '\"ours\":.*echo x >> a.txt' conflict.json\ngrep -q '\"kind\":\"content\"' conflict.json\ncd -\n";
    let plan = appenders(&format!("{look}{STRIP}"));
    let plan = plan.split("[tasks.z]").next().expect("a part");
    run(plan, 0);
}

#[test]
fn what_a_resolver_leaves_unsettled_is_parked() {
    for (resolver, reason) in [
        ("true", "left conflict markers: a.txt"),
        (&*format!("{STRIP}; echo > b.txt"), "none of its files"),
        ("git checkout -q HEAD~1 -- a.txt; rm -f y.txt z.txt", "none of its files"),
        ("echo one > a.txt; echo x >> a.txt; false", "exited with 1"),
    ] {
        let (repository, ended) = run(&appenders(resolver), 5);
        assert_eq!(["x", "y", "z"].map(|task| ended.fate(task)), ["landed", "parked", "parked"], "{ended}");
        assert!(ended.out.contains(reason), "{reason}: {ended}");
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\nx\n");
    }
}

#[test]
fn the_checks_of_the_task_judge_what_the_resolver_leaves() {
    let plan = appenders("echo one > a.txt; echo neither >> a.txt");
    let plan = plan.replace("[tasks.y]\n", "[tasks.y]\ncheck = 'grep -q y a.txt'\n");
    let (_, ended) = run(&plan, 5);
    assert_eq!(ended.fate("y"), "parked", "{ended}");
    assert!(ended.out.contains("check 1"), "{ended}");
}

#[test]
fn a_deletion_against_a_change_has_to_be_decided_by_hand() {
    let tasks = "[tasks.x]\nrun = 'rm a.txt'\n[tasks.y]\nrun = 'echo y >> a.txt; echo y > y.txt'\n";
    for (resolver, code, files) in [("true", 5, 1), ("rm a.txt", 0, 2)] {
        let (repository, ended) = run(&format!("[merge]\nresolver = '{resolver}'\n{tasks}"), code);
        assert_eq!(repository.files("swarm/it").len(), files, "{ended}");
    }
}

#[test]
fn a_change_whose_objects_somebody_took_away_is_parked_and_the_others_land() {
    let repository = Repository::with(&[("a.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n")]);
    let gate = repository.beside("gate");
    std::fs::create_dir(&gate).expect("space");
    let allow = format!("read={}", gate.display());
    let plan = format!(
        "[sandbox.default]\nread = ['{0}']\n\
         [tasks.x]\nrun = 'until test -e {0}/open; do sleep 0.02; done; sed -i s/1/x/ a.txt'\n\
         [tasks.y]\nrun = 'sed -i s/9/y/ a.txt'\n[tasks.z]\nrun = 'echo z > z.txt'\n",
        gate.display()
    );
    let mut running = Swarm::run(&repository, "it", &plan).allow(&allow).args(&["-j3"]).start();
    assert!(running.says("\"attempt-finished\",\"instance\":\"y\""), "it gets there");
    let git = repository.git();
    while git.find_reference("refs/swarm/it-1/y/1").is_err() {
        std::thread::yield_now();
    }
    let tree = git.find_reference("refs/swarm/it-1/y/1").and_then(|it| it.peel_to_tree()).expect("it is kept");
    let id = tree.get_name("a.txt").expect("a file").id().to_string();
    std::fs::remove_file(repository.path().join(".git/objects").join(&id[..2]).join(&id[2..])).expect("it is loose");
    std::fs::write(gate.join("open"), "").expect("space");
    let ended = running.end();
    assert_eq!(
        (ended.code, ["x", "y", "z"].map(|task| ended.fate(task))),
        (5, ["landed", "parked", "landed"].map(str::to_owned))
    );
    assert!(format!("{}{}", ended.out, ended.err).contains("the repository lacks object"), "{ended}");
}

/// Pairs of changes of which each may stand and both together may not: what it is, theirs, and the path that gives it away.
const TOGETHER: [(&str, &str, &str, &str); 4] = [
    ("a link out of the tree", "ln -sfn ../../../x d/e/f/l", "mv d/e/f/l top", "top"),
    (
        "a repository inside",
        "mkdir bare; echo ref: refs/heads/x > bare/HEAD; echo > bare/config",
        "mkdir -p bare/objects bare/refs; echo > bare/objects/k; echo > bare/refs/k",
        "bare/objects/k",
    ),
    (
        "a submodule that names a command",
        r"printf '[submodule.x]\n\tupdate = !id\n' >> m",
        "mv m .gitmodules",
        ".gitmodules",
    ),
    ("differs only in case", "echo x > Foo", "echo y > foo", "foo"),
];

/// Tasks `a` and `b` on what `zero` made, and `c` that has nothing to do with them.
fn pair(a: &str, b: &str) -> String {
    let task = |name: &str, run: &str| format!("[tasks.{name}]\nneeds = ['zero']\nrun = '''{run}'''\n");
    let zero = "mkdir -p d/e/f; ln -s nothing d/e/f/l; seq 20 | sed s,^,#, > m";
    format!("[tasks.zero]\nrun = '{zero}'\n{}{}[tasks.c]\nrun = 'echo > c.txt'\n", task("a", a), task("b", b))
}

#[test]
fn two_changes_land_nothing_together_that_neither_may_leave_alone() {
    for (what, a, b, path) in TOGETHER {
        let tip = |jobs: &str, gate: &str| {
            let repository = Repository::with(&FILES);
            let swarm = Swarm::run(&repository, "it", &format!("{gate}{}", pair(a, b))).args(&[jobs]);
            let ended = swarm.env("SOURCE_DATE_EPOCH", "1700000000").exits(5);
            assert_eq!(["zero", "a", "b", "c"].map(|task| ended.fate(task)), ["landed", "landed", "parked", "landed"]);
            assert!(ended.out.contains("with what landed before") && ended.out.contains(what), "{ended}");
            assert!(!repository.files("swarm/it").contains_key(path), "{what}: {ended}");
            assert!(repository.files("refs/swarm/it-1/b/1").contains_key(path), "alone it may stand, and is kept");
            repository.commit_of("swarm/it")
        };
        let gate = "[merge]\nverify = 'true'\n";
        assert_eq!([tip("-j8", ""), tip("-j1", gate)], [tip("-j1", ""), tip("-j8", gate)], "{what}");
        // The one without the other lands.
        run(&pair("true", b), 0);
    }
}

#[test]
fn nobody_starts_from_needs_that_may_not_stand_together() {
    for (what, a, b, _) in TOGETHER {
        let both = "[tasks.z]\nneeds = ['a', 'b']\nrun = 'echo > z.txt'\n";
        let (_, ended) = run(&format!("{}{both}", pair(a, b)), 1);
        assert_eq!(ended.result("z"), "failed", "{ended}");
        assert!(ended.out.contains("the changes of its needs, taken together") && ended.out.contains(what), "{ended}");
    }
}

#[test]
fn a_rerun_of_what_may_not_stand_is_tried_once() {
    let (_, a, b, _) = TOGETHER[3];
    let (repository, ended) =
        run(&format!("[merge]\non-conflict = ['resolve', 'rerun']\nresolver = 'true'\n{}", pair(a, b)), 5);
    let asked: Vec<_> = ended.events_of("evicted").iter().map(|event| event["next"].clone()).collect();
    assert_eq!((asked, ended.fate("b")), (vec!["rerun".into()], "parked".to_owned()), "{ended}");
    assert!(!repository.files("swarm/it").contains_key("foo"));
}

/// `a` edits a file of its folder, `b` moves that file away; whichever is named first lands first.
fn edit_and_move(first: &str) -> (Repository, String) {
    let repository = Repository::with(&[("lib/x.txt", "one\ntwo\nthree\nfour\nfive\n")]);
    let edit = "[tasks.a]\nwrites = ['lib/**']\nrun = 'sed -i s/two/2/ lib/x.txt'\n";
    let carry = "[tasks.b]\nrun = 'mkdir app && mv lib/x.txt app/x.txt'\n";
    let tasks = if first == "a" { [edit, carry] } else { [carry, edit] };
    (repository, tasks.concat())
}

const OUT_OF_SCOPE: &str = "it changed lib/x.txt, which `b` moved to app/x.txt, where its `writes` allow it no change";

#[test]
fn a_move_carries_no_edit_to_where_its_task_may_not_write() {
    let (repository, plan) = edit_and_move("b");
    let ended = Swarm::run(&repository, "it", &plan).exits(5);
    assert_eq!((ended.fate("a"), ended.fate("b")), ("parked".to_owned(), "landed".to_owned()), "{ended}");
    assert_eq!(repository.text("swarm/it", "app/x.txt"), "one\ntwo\nthree\nfour\nfive\n");
    assert!(ended.out.contains(OUT_OF_SCOPE), "{ended}");
    // A person sees what it is, and a second coordinator knows it, too.
    let shown = Swarm::new(&repository, &["resolve", "a"]).exits(0);
    assert!(shown.err.contains("1 in conflict: lib/x.txt"), "{shown}");
    Swarm::new(&repository, &["resolve", "a", "--abort"]).exits(0);
    let again = Swarm::new(&repository, &["retry", "a"]).exits(5);
    assert!(again.err.contains(OUT_OF_SCOPE), "{again}");
    assert_eq!(repository.text("swarm/it", "app/x.txt"), "one\ntwo\nthree\nfour\nfive\n");
}

#[test]
fn a_move_by_a_task_that_may_write_both_places_takes_landed_edits_along() {
    let (repository, plan) = edit_and_move("a");
    Swarm::run(&repository, "it", &plan).exits(0);
    assert_eq!(repository.text("swarm/it", "app/x.txt"), "one\n2\nthree\nfour\nfive\n");
    let (repository, plan) = edit_and_move("b");
    Swarm::run(&repository, "it", &plan.replace("'lib/**'", "'lib/**', 'app/x.txt'")).exits(0);
    assert_eq!(repository.text("swarm/it", "app/x.txt"), "one\n2\nthree\nfour\nfive\n");
}

#[test]
fn a_recorded_result_and_a_join_are_held_to_the_scope_as_well() {
    let (repository, plan) = edit_and_move("b");
    let plan = plan.replace("[tasks.a]\n", "[tasks.a]\ncache = true\n");
    Swarm::run(&repository, "it", &plan).exits(5);
    let reused = Swarm::run(&repository, "other", &plan).exits(5);
    assert_eq!((reused.events_of("reused").len(), reused.fate("a")), (1, "parked".to_owned()), "{reused}");
    assert!(reused.out.contains(OUT_OF_SCOPE), "{reused}");
    let (repository, plan) = edit_and_move("b");
    let ended = Swarm::run(&repository, "it", &format!("{plan}[tasks.z]\nneeds = ['a', 'b']\nrun = 'true'\n")).exits(1);
    assert_eq!(ended.result("z"), "failed", "{ended}");
    assert!(ended.out.contains("lib/x.txt (moved to app/x.txt, where the `writes` of the other allow"), "{ended}");
}

/// Who looks a run through wants to see just these.
#[test]
fn what_landed_only_when_a_conflict_was_settled_is_named_afterwards() {
    for (rungs, said) in [
        ("on-conflict = ['resolve']\nresolver = { run = \"printf 'one\\ntwo\\n' > f\" }", "the resolver settled that"),
        ("on-conflict = ['rerun']", "it ran again on what had landed"),
    ] {
        let repository = Repository::with(&[("f", "start\n")]);
        let plan = format!("[tasks.a]\nrun = 'echo one >> f'\n[tasks.b]\nrun = 'echo two >> f'\n[merge]\n{rungs}\n");
        let ran = Swarm::run(&repository, "it", &plan).exits(0);
        let note = "it did not land at first (it conflicts with what landed before, in f (content)): ";
        assert!(ran.err.contains(&format!("b: {note}{said}")), "{ran}");
        let status = Swarm::new(&repository, &["status"]).exits(0);
        assert!(
            status.out.contains(&format!("note: {note}{said}")) && status.out.matches(note).count() == 1,
            "{status}"
        );
        for format in ["text", "md", "html"] {
            let page = Swarm::new(&repository, &["report", "--format", format]).exits(0);
            assert!(page.out.contains(said), "{page}");
        }
    }
}
