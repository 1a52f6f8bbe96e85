//! From a plan's text to a merged branch: what lands, what is kept, what ends how.

use std::fs;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use swarm_tests::swarm::RUN_TIME_MAX;
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 3] = [("a.txt", "one\ntwo\nthree\n"), ("dir/b.txt", "b\n"), ("dir/c.txt", "c\n")];

fn run(plan: &str, code: i32) -> (Repository, Ended) {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", plan).exits(code);
    (repository, ended)
}

/// The result of task `a` in a plan with an exit code.
fn ends(plan: &str, code: i32, result: &str) -> Ended {
    let (_, ended) = run(plan, code);
    assert_eq!(ended.result("a"), result, "{ended}");
    ended
}

/// Seconds to sleep, as no other run of these tests on this machine writes them.
fn nap(seconds: u32) -> String {
    format!("{seconds}.{}", std::process::id())
}

/// Ids of living processes whose command line holds a text.
fn alive(marker: &str) -> Vec<String> {
    let folders = fs::read_dir("/proc").expect("proc is mounted").filter_map(Result::ok);
    let is = |pid: &String| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(marker))
    };
    let own = std::process::id().to_string();
    folders.filter_map(|entry| entry.file_name().into_string().ok()).filter(|pid| *pid != own && is(pid)).collect()
}

#[test]
fn changes_land_as_one_branch_and_nothing_else_moves() {
    let repository = Repository::with(&FILES);
    let before = repository.freeze("swarm/it");
    let plan = "[tasks.x]\nrun = 'echo x > x.txt'\n[tasks.y]\nrun = 'echo y >> dir/b.txt; rm dir/c.txt'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!((ended.fate("x").as_str(), ended.fate("y").as_str()), ("landed", "landed"));
    assert_eq!(before.differences(&repository.freeze("swarm/it")), Vec::<String>::new());
    let files = repository.files("swarm/it");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a.txt", "dir/b.txt", "x.txt"]);
    assert_eq!((files["x.txt"].as_slice(), files["dir/b.txt"].as_slice()), (&b"x\n"[..], &b"b\ny\n"[..]));
    let git = repository.git();
    let tip = git.find_commit(repository.commit_of("swarm/it").expect("the branch")).expect("a commit");
    let message = tip.message().expect("text").to_owned();
    assert!(message.contains("Swarm-Task: y") && tip.author().name() == Ok("Ada"), "{message}");
    assert_eq!(tip.parent(0).expect("squashed per instance").parent_id(0).ok(), repository.commit_of("main"));
}

#[test]
fn a_need_s_change_output_and_artifact_reach_its_dependent() {
    let plan = r#"
[tasks.a]
run = '''
echo made > made.txt
echo "word=hello there" >> "$SWARM_OUTPUT"
echo kept > "$SWARM_ARTIFACTS/file"
'''
artifacts = ["file"]
[tasks.b]
needs = ["a"]
env = { WORD = "{{ needs.a.outputs.word }}" }
run = '''
test "$(cat made.txt)" = made
echo "$WORD" > word.txt
cat "$SWARM_NEEDS/a/file" > file.txt
'''
[tasks.apart]
run = 'test ! -e made.txt'
"#;
    let (repository, ended) = run(plan, 0);
    assert_eq!(repository.text("swarm/it", "word.txt"), "hello there\n", "{ended}");
    assert_eq!(repository.text("swarm/it", "file.txt"), "kept\n");
    assert_eq!(ended.fate("apart"), "empty");
}

#[test]
fn the_graph_grows_by_a_need_s_output() {
    let plan = r#"
[tasks.a]
run = '''printf '[{"n": "x"}, {"n": "y"}]' > "$SWARM_ARTIFACTS/l.json"'''
outputs.all = { json = "l.json" }
writes = []
[tasks.b]
needs = ["a"]
foreach.it = "needs.a.outputs.all"
env = { N = "{{ it.n }}" }
run = 'echo "$N" > "$N.txt"'
writes = ["{{ it.n }}.txt"]
[tasks.c]
needs = ["b"]
run = 'cat x.txt y.txt > all.txt'
"#;
    let (repository, ended) = run(plan, 0);
    assert_eq!(ended.results().len(), 4, "{ended}");
    assert_eq!(repository.text("swarm/it", "all.txt"), "x\ny\n");
}

#[test]
fn a_matrix_gives_an_instance_for_each_cell() {
    let plan = "[tasks.a]\nmatrix = { os = ['l', 'm'], v = [1, 2] }\nmatrix-exclude = [{ os = 'm', v = 2 }]\n\
                run = 'echo \"$SWARM_MATRIX_OS$SWARM_MATRIX_V\" > \"$SWARM_MATRIX_OS$SWARM_MATRIX_V.txt\"'\n";
    let (repository, ended) = run(plan, 0);
    assert_eq!(ended.results().len(), 3, "{ended}");
    assert_eq!(repository.text("swarm/it", "m1.txt"), "m1\n");
}

#[test]
fn a_failure_blocks_what_needs_it_by_name_and_nothing_else() {
    let plan = "[tasks.a]\nrun = 'echo reason >&2; exit 3'\n[tasks.b]\nneeds = ['a']\nrun = 'true'\n\
                [tasks.c]\nneeds = ['b']\nrun = 'true'\n[tasks.d]\nrun = 'echo d > d.txt'\n";
    let (repository, ended) = run(plan, 1);
    let results = ended.results();
    let of = |name: &str| results[name].as_str();
    assert_eq!((of("a"), of("b"), of("c"), of("d")), ("failed", "blocked", "blocked", "succeeded"), "{ended}");
    assert!(
        ended
            .events_of("instance-finished")
            .iter()
            .any(|e| e["instance"] == "b" && e["cause"].to_string().contains("`a`"))
    );
    assert_eq!(repository.text("swarm/it", "d.txt"), "d\n");
    assert!(ended.err.contains("reason") && ended.err.contains("swarm logs"), "{ended}");
}

#[test]
fn an_allowed_failure_lets_dependents_run_without_its_change() {
    let plan = "[tasks.a]\nallow-failure = true\nrun = 'echo half > half.txt; exit 1'\n[tasks.b]\nneeds = ['a']\n\
                if = \"needs.a.result == 'failed'\"\nrun = 'test ! -e half.txt; echo b > b.txt'\n";
    let (repository, ended) = run(plan, 0);
    assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("failed", "succeeded"), "{ended}");
    assert!(!repository.files("swarm/it").contains_key("half.txt"));
}

#[test]
fn a_skipped_task_lets_its_dependents_run() {
    let plan = "[tasks.a]\nif = 'false'\nrun = 'exit 1'\n[tasks.b]\nneeds = ['a']\nrun = 'echo b > b.txt'\n";
    let (_, ended) = run(plan, 0);
    assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("skipped", "succeeded"), "{ended}");
}

#[test]
fn what_passes_on_a_retry_is_flaky_and_starts_from_a_clean_worktree() {
    let plan = "[tasks.a]\nretry = { max = 2, on = ['exit'], delay = '1ms' }\n\
                run = 'test ! -e half.txt; echo half > half.txt; test \"$SWARM_ATTEMPT\" = 2; echo done > done.txt'\n";
    let ended = ends(plan, 0, "flaky");
    assert_eq!(ended.events_of("attempt-finished").len(), 2, "{ended}");
}

#[test]
fn a_task_that_takes_too_long_is_timed_out() {
    let ended = ends("[tasks.a]\ntimeout = '300ms'\nrun = 'sleep 50'\n", 1, "timed-out");
    assert!(ended.took.as_secs() < 20, "{ended}");
}

#[test]
fn fail_fast_cancels_the_rest() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'exit 1'\n[tasks.b]\nrun = 'sleep 50'\n[tasks.c]\nneeds = ['b']\nrun = 'true'\n";
    let ended = Swarm::run(&repository, "it", plan).args(&["--fail-fast", "-j2"]).exits(1);
    let results = ended.results();
    assert_eq!(
        (results["a"].as_str(), results["b"].as_str(), results["c"].as_str()),
        ("failed", "cancelled", "cancelled")
    );
    assert!(ended.took.as_secs() < 30, "{ended}");
}

#[test]
fn what_one_check_changes_the_next_does_not_see() {
    let files = [("a.txt", "good\n"), ("t/test.sh", "grep -q good a.txt\n"), (".gitignore", "out/\n")];
    let repository = Repository::with(&files);
    let plan = "[tasks.a]\nwrites = ['a.txt', 'build.sh']\nrun = '''\necho bad > a.txt\n\
                echo 'echo exit 0 > t/test.sh; mkdir -p out; touch out/x ~/x /tmp/x' > build.sh\n'''\n\
                check = [\"sh build.sh\", \"! ls out/x ~/x /tmp/x\", \"sh t/test.sh\"]\n";
    let ended = Swarm::run(&repository, "it", plan).exits(1);
    let end = &ended.events_of("attempt-finished")[0]["end"];
    assert_eq!(end["index"], 2, "{ended}");
}

#[test]
fn a_check_must_fail_before_and_pass_after() {
    let check = |run: &str| {
        format!("[tasks.a]\nrun = '{run}'\ncheck = [{{ run = 'grep -q new a.txt', expect-fail-before = true }}]\n")
    };
    ends(&check("echo new >> a.txt"), 0, "succeeded");
    ends(&check("echo old >> a.txt"), 1, "failed");
    let vacuous = "[tasks.a]\nrun = 'echo new >> a.txt'\ncheck = [{ run = 'true', expect-fail-before = true }]\n";
    ends(vacuous, 1, "failed");
}

#[test]
fn a_change_outside_writes_is_a_violation_that_is_kept_and_not_merged() {
    let plan =
        "[tasks.a]\nretry = { max = 3, on = ['exit'] }\nwrites = ['dir/**']\nrun = 'echo x > dir/ok; echo x > a.txt'\n";
    let (repository, ended) = run(plan, 1);
    assert_eq!(ended.result("a"), "violation", "{ended}");
    assert_eq!(ended.events_of("attempt-finished").len(), 1, "never retried");
    assert!(!ended.fates().contains_key("a"));
    assert!(ended.out.contains("a.txt"), "{ended}");
    assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
}

#[test]
fn beside_what_nobody_may_leave_the_work_of_a_task_is_kept() {
    for (end, result) in [("exit 1", "failed"), ("exit 0", "violation")] {
        let plan = format!("[tasks.a]\nrun = 'echo work > work.txt; ln -s /etc/passwd link; {end}'\n");
        let (repository, ended) = run(&plan, 1);
        assert_eq!(ended.result("a"), result, "{ended}");
        assert_eq!(repository.text("refs/swarm/it-1/a/1", "work.txt"), "work\n");
        assert!(ended.out.contains("left out: link: a link to an absolute path"), "{ended}");
        let diff = Swarm::new(&repository, &["diff", "it", "a"]).exits(0);
        assert!(diff.out.contains("+work"), "{diff}");
    }
}

#[test]
fn a_conflict_parks_the_later_and_keeps_both() {
    let plan = "[tasks.a]\nrun = 'echo first > a.txt'\n[tasks.b]\nrun = 'echo second > a.txt'\n";
    let (repository, ended) = run(plan, 5);
    assert_eq!((ended.fate("a").as_str(), ended.fate("b").as_str()), ("landed", "parked"), "{ended}");
    assert_eq!(repository.text("swarm/it", "a.txt"), "first\n");
    assert_eq!(repository.text("refs/swarm/it-1/a/1", "a.txt"), "first\n");
    assert_eq!(repository.text("refs/swarm/it-1/b/1", "a.txt"), "second\n");
}

#[test]
fn mode_none_takes_no_change() {
    let merge = "[merge]\nmode = 'none'\n";
    let (repository, ended) = run(&format!("{merge}[tasks.a]\nrun = 'true'\n"), 0);
    assert_eq!(repository.refs("refs/heads/*"), ["refs/heads/main"], "{ended}");
    let changed = run(&format!("{merge}[tasks.a]\nrun = 'echo x > x'\n"), 1).1;
    assert_ne!(changed.result("a"), "succeeded", "{changed}");
}

#[test]
fn what_a_task_hands_over_is_copied_out_and_clean_says_that_it_goes() {
    let tasks = "[merge]\nmode = 'none'\n\
                 [tasks.a]\nrun = 'cd \"$SWARM_ARTIFACTS\"; echo x > app; ln -s app link; ln -s /etc/passwd out'\n\
                 [tasks.b]\nrun = 'git init -q \"$SWARM_ARTIFACTS/r\"; git -C \"$SWARM_ARTIFACTS/r\" config core.fsmonitor evil'\n";
    let (repository, ended) = run(tasks, 0);
    let told = Swarm::new(&repository, &["report"]).exits(0);
    assert!(told.out.contains("a: swarm open --artifacts it-1 a DIR"), "{ended}{told}");
    let told = Swarm::new(&repository, &["open", "a", "got"]).exits(2);
    assert!(told.err.contains("swarm open --artifacts it-1 a got"), "{told}");
    let told = Swarm::new(&repository, &["open", "--artifacts", "a", "got"]).exits(0);
    assert_eq!(fs::read_to_string(repository.path().join("got/link")).expect("copied"), "x\n", "{told}");
    assert!(told.err.contains("left out: out") && !repository.path().join("got/out").is_symlink(), "{told}");
    // Git would run what the config of the other says.
    Swarm::new(&repository, &["open", "--artifacts", "b", "got-b"]).exits(1);
    assert!(!repository.path().join("got-b/r/.git").exists());
    let told = Swarm::new(&repository, &["status", "--json"]).exits(0);
    assert!(told.out.contains("/out/artifacts\""), "{told}");
    let told = Swarm::new(&repository, &["clean"]).exits(0);
    assert!(told.err.contains("the files that 2 tasks handed over in $SWARM_ARTIFACTS are gone"), "{told}");
    let told = Swarm::new(&repository, &["open", "--artifacts", "a", "again"]).exits(2);
    assert!(told.err.contains("`swarm clean` has removed them"), "{told}");
}

#[test]
fn what_a_failed_task_left_is_named_until_it_is_cleaned() {
    let tasks = "[merge]\nmode = 'none'\n\
                 [tasks.a]\nrun = 'echo x > \"$SWARM_ARTIFACTS/core\"; exit 3'\n[tasks.b]\nrun = 'exit 3'\n";
    let (repository, ended) = run(tasks, 1);
    let command = |task: &str| format!("files that it left: swarm open --artifacts it-1 {task} DIR");
    let told = Swarm::new(&repository, &["report"]).exits(0);
    for told in [&ended.err, &told.out] {
        assert!(told.contains(&command("a")) && !told.contains(&command("b")), "{told}");
    }
    let told = Swarm::new(&repository, &["status"]).exits(0);
    assert!(told.out.contains("1 task handed files over: swarm open --artifacts it-1 a DIR"), "{told}");
    Swarm::new(&repository, &["open", "--artifacts", "a", "got"]).exits(0);
    assert_eq!(fs::read_to_string(repository.path().join("got/core")).expect("copied"), "x\n");
    Swarm::new(&repository, &["clean"]).exits(0);
    for (task, why) in [("a", "they are no longer there"), ("b", "it handed nothing over")] {
        let told = Swarm::new(&repository, &["open", "--artifacts", task, "again"]).exits(2);
        assert!(told.err.contains(why) && told.err.contains("`swarm clean` has removed") == (task == "a"), "{told}");
    }
}

#[test]
fn a_deadline_ends_the_run_with_seven() {
    let plan = "deadline = '1s'\n[tasks.a]\nrun = 'sleep 50'\n[tasks.b]\nneeds = ['a']\nrun = 'true'\n";
    let (_, ended) = run(plan, 7);
    assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("cancelled", "cancelled"), "{ended}");
}

#[test]
fn an_interrupt_ends_everything_and_keeps_what_was_done() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'echo a > a2.txt'\n[tasks.b]\nneeds = ['a']\nargv = ['sleep', 'NAP']\n"
        .replace("NAP", &nap(4211));
    let mut running = Swarm::run(&repository, "it", &plan).start();
    assert!(running.says("\"attempt-started\",\"instance\":\"b\""), "b starts");
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, 130, "{ended}");
    assert_eq!(ended.result("b"), "cancelled");
    assert_eq!(repository.text("refs/swarm/it-1/a/1", "a2.txt"), "a\n");
    assert_eq!(alive(&format!("sleep {}", nap(4211))), Vec::<String>::new());
}

#[test]
fn an_interrupt_at_any_moment_ends_the_run() {
    let plan = "[tasks.list]\nrun = '''printf '[1,2,3]' > \"$SWARM_ARTIFACTS/l.json\"'''\noutputs.all = { json = 'l.json' }\n\
                [tasks.fan]\nneeds = ['list']\nforeach.n = 'needs.list.outputs.all'\nrun = 'echo x > \"$SWARM_TASK.txt\"'\n\
                [tasks.lines]\nforeach.n = { lines = 'ls' }\nrun = 'echo x >> a.txt'\n\
                [tasks.slow]\nneeds = ['fan']\nrun = 'sleep NAP'\n".replace("NAP", &nap(4216));
    for moment in ["run-started", "instances-added", "attempt-started", "attempt-finished", "landing", "merged"] {
        let repository = Repository::with(&FILES);
        let mut running = Swarm::run(&repository, "it", &plan).args(&["-j4"]).start();
        assert!(running.says(moment), "{moment}");
        running.signal(Signal::INT);
        let ended = running.end();
        assert_eq!(ended.code, 130, "{moment}: {ended}");
        let added = ended.events_of("instances-added");
        let added = added.iter().map(|event| event["instances"].as_array().map_or(0, Vec::len)).sum::<usize>();
        assert_eq!(ended.results().len(), added, "{moment}: each has its result: {ended}");
    }
    assert_eq!(alive(&format!("sleep {}", nap(4216))), Vec::<String>::new());
}

#[test]
fn an_interrupt_and_the_deadline_end_setup() {
    let plan = "[workspace]\nsetup = 'sleep NAP'\n[tasks.a]\nrun = 'true'\n".replace("NAP", &nap(4218));
    let repository = Repository::with(&FILES);
    let mut running = Swarm::run(&repository, "it", &plan).start();
    assert!(running.says("run-started"), "it starts");
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, 130, "{ended}");
    let ended = Swarm::run(&repository, "it", &format!("deadline = '1s'\n{plan}")).start().end();
    assert_eq!(ended.code, 7, "{ended}");
    assert_eq!(alive(&format!("sleep {}", nap(4218))), Vec::<String>::new());
}

#[test]
fn a_second_interrupt_does_not_wait_for_the_stubborn() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'trap \"\" TERM INT; while :; do sleep 0.1; done'\n";
    let mut running = Swarm::run(&repository, "it", plan).start();
    assert!(running.says("attempt-started"), "it starts");
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    let ended = running.end();
    assert!([130, 143].contains(&ended.code) && ended.took.as_secs() < 20, "{ended}");
    assert_eq!(ended.result("a"), "cancelled");
}

#[test]
fn a_killed_coordinator_takes_its_workers_along_and_holds_nothing() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nargv = ['sleep', 'NAP']\n".replace("NAP", &nap(4217));
    let mut running = Swarm::run(&repository, "it", &plan).start();
    assert!(running.says("attempt-started"), "it starts");
    let started = Instant::now();
    let worker = loop {
        assert!(started.elapsed() < RUN_TIME_MAX, "the worker never comes");
        let found = alive(&format!("sleep {}", nap(4217))).into_iter().find_map(|pid| Pid::from_raw(pid.parse().ok()?));
        if let Some(pid) = found {
            break rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it lives");
        }
    };
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, 1009);
    let timeout = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&worker, PollFlags::IN)], Some(&timeout));
    assert_eq!(ended, Ok(1), "the worker outlives its coordinator");
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo x > x.txt'\n").exits(0);
}

#[test]
fn a_daemon_dies_with_its_task() {
    let plan = "[tasks.a]\nrun = '(setsid sleep NAP </dev/null >/dev/null 2>&1 &) ; echo x > x.txt'\n";
    let ended = ends(&plan.replace("NAP", &nap(4212)), 0, "succeeded");
    assert_eq!(alive(&format!("sleep {}", nap(4212))), Vec::<String>::new(), "{ended}");
}

#[test]
fn a_task_that_prints_without_end_fills_no_disk() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'head -c 200000000 /dev/zero; echo; echo the end'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    let logs = Swarm::new(&repository, &["logs", "a", "--raw"]).exits(0);
    assert!(logs.out.len() < 100_000_000 && logs.out.contains("the end"), "{} bytes, {}", logs.out.len(), ended.err);
}

#[test]
fn a_task_that_leaves_many_processes_ends_well() {
    let plan = "[tasks.a]\nrun = 'i=0; while [ $i -lt 200 ]; do sleep NAP & i=$((i+1)); done; echo x > x.txt'\n";
    let ended = ends(&plan.replace("NAP", &nap(4213)), 0, "succeeded");
    assert_eq!(alive(&format!("sleep {}", nap(4213))), Vec::<String>::new(), "{ended}");
}

#[test]
fn the_folders_of_needs_are_found_by_the_names_of_their_instances() {
    let plan = "[tasks.a]\nmatrix = { n = ['x/y', 'plain'] }\nenv = { N = '{{ matrix.n }}' }\nrun = 'echo $N > $SWARM_ARTIFACTS/f'\n\
        [tasks.b]\nneeds = ['a']\nrun = '''\ntest -d \"$SWARM_NEEDS/a[n=plain]\"; cut -f1 $SWARM_NEEDS_INDEX > names\n\
        cut -f2 $SWARM_NEEDS_INDEX | while read -r folder; do cat \"$folder/f\"; done > found\n'''\n";
    for tier in [Some as fn(Swarm) -> Option<Swarm>, Swarm::without_namespaces] {
        let repository = Repository::with(&[("a.txt", "one\n")]);
        let Some(swarm) = tier(Swarm::run(&repository, "it", plan)) else { return };
        let ended = swarm.exits(0);
        let (names, found) = (repository.text("swarm/it", "names"), repository.text("swarm/it", "found"));
        let instances: Vec<String> = ended.results().into_keys().filter(|id| id.starts_with("a[")).collect();
        let mut listed: Vec<&str> = names.lines().collect();
        listed.sort_unstable();
        assert_eq!(listed, instances, "{ended}");
        assert!(found.contains("x/y\n") && found.contains("plain\n"), "{found}");
    }
}
