//! Repositories and state folders that a caged command makes in a folder of the person's own: the person's next command of git there must
//! not run what it left, and swarm's next one must not be made to look away. Whichever command of swarm ran it, that puts them aside, says
//! so, and does not end with 0.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use swarm_tests::{Ended, Repository, Swarm};

/// A repository, and a folder in the home that tasks may write.
fn scene() -> (Repository, PathBuf) {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let data = repository.home().canonicalize().expect("it is there").join("data");
    std::fs::create_dir_all(&data).expect("a folder");
    (repository, data)
}

/// A script that makes a repository which git obeys, in a folder.
fn make(made: &Path) -> String {
    let git = made.join(".git").display().to_string();
    format!(
        "mkdir -p {git}/objects {git}/refs && echo 'ref: refs/heads/main' > {git}/HEAD && \
         printf '[core]\\n\\tfsmonitor = touch x\\n' > {git}/config"
    )
}

/// A plan with one task that may write the folder.
fn plan(script: &str) -> String {
    format!("[sandbox.default]\nwrite = [\"~/data\"]\n[tasks.a]\nrun = {script:?}\n")
}

fn is_put_aside(ended: &Ended, made: &Path) {
    for word in ["error: it made a repository here, ", "made/.git, and git obeys", "put aside"] {
        assert!(ended.err.contains(word), "`{word}` is missing: {ended}");
    }
    assert!(!made.join(".git").exists() && made.join(".git.untrusted/HEAD.untrusted").exists(), "{ended}");
}

#[test]
fn a_repository_that_a_task_makes_in_a_folder_it_may_write_is_put_aside() {
    let (repository, data) = scene();
    let (made, plan) = (data.join("made"), plan(&make(&data.join("made"))));
    let ended = Swarm::run(&repository, "it", &plan).allow("write=~/data").exits(1);
    is_put_aside(&ended, &made);
    // One that was there before is the person's, and stays: nothing runs.
    std::fs::rename(made.join(".git.untrusted"), made.join(".git")).expect("our own");
    let ended = Swarm::run(&repository, "it", &plan).allow("write=~/data").exits(3);
    assert!(ended.err.contains("it would open another repository's `.git`"), "{ended}");
    assert!(made.join(".git/config").exists());
}

#[test]
fn so_is_one_that_is_made_when_a_run_goes_on_or_a_task_is_tried_again_or_looked_at() {
    let (repository, data) = scene();
    let (made, failed, late) = (data.join("made"), data.join("failed"), data.join("late"));
    let [was_here, is_late] = [&failed, &late].map(|path| path.display().to_string());
    let script = format!("test -e {was_here} || {{ touch {was_here}; exit 1; }}; {}", make(&made));
    Swarm::run(&repository, "it", &plan(&script)).allow("write=~/data").exits(1);
    is_put_aside(&Swarm::new(&repository, &["retry"]).exits(1), &made);
    std::fs::remove_dir_all(&made).expect("our own");
    let looked = Swarm::new(&repository, &["shell", "--start", "a", "--", "sh", "-c", &make(&made)]).exits(1);
    is_put_aside(&looked, &made);
    std::fs::remove_dir_all(&made).expect("our own");
    let script = format!("test -e {is_late} || {{ touch {is_late}; sleep 300; }}; {}", make(&made));
    let run = Swarm::run(&repository, "late", &plan(&script)).allow("write=~/data").args(&["--deadline", "2s"]);
    run.exits(7);
    is_put_aside(&Swarm::new(&repository, &["resume", "late"]).exits(1), &made);
}

#[test]
fn what_a_killed_run_left_is_looked_at_by_the_next_command() {
    let (repository, data) = scene();
    let (made, late) = (data.join("made"), data.join("late"));
    let waits = format!("[tasks.b]\nneeds = ['a']\nrun = 'test -e {} || sleep 300'\n", late.display());
    let plan = plan(&make(&made)) + &waits;
    let killed = || {
        let mut running = Swarm::run(&repository, "it", &plan).allow("write=~/data").start();
        assert!(running.says("\"attempt-started\",\"instance\":\"b\""), "b starts");
        running.signal(Signal::KILL);
        running.end();
        assert!(made.join(".git/config").exists());
    };
    let is_told = |ended: &Ended| {
        let told =
            "a command that may write it was killed before it looked at what its tasks left; it is looked at now";
        assert!(ended.err.contains(told), "{ended}");
        is_put_aside(ended, &made);
        std::fs::remove_dir_all(&made).expect("our own");
    };
    killed();
    let ended = Swarm::new(&repository, &["doctor"]).exits(0);
    assert!(ended.out.contains("[!] left: nobody looked at what tasks of a killed command left in"), "{ended}");
    is_told(&Swarm::new(&repository, &["clean"]).exits(1));
    killed();
    std::fs::write(&late, "").expect("a file");
    // The run goes on instead of being refused for what it made itself.
    is_told(&Swarm::new(&repository, &["resume"]).exits(1));
    assert!(!repository.path().join(".git/swarm/unsettled").exists());
}

#[test]
fn a_file_by_which_swarm_knows_its_state_is_put_aside_and_hides_nothing() {
    let (repository, data) = scene();
    let run = |script: &str, code: i32| {
        Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).current_dir(&data).exits(code)
    };
    let forge = |at: &str| format!("mkdir -p {at}; echo > {at}/SWARM-STATE; chmod 600 {at}/SWARM-STATE; ");
    let ended = run(&format!("{} {}", forge("x"), make(Path::new("x/made"))), 1);
    is_put_aside(&ended, &data.join("x/made"));
    let back = "error: it made x/SWARM-STATE, by which swarm would take that folder for its own state and hide it: put aside; look \
                before you undo it: mv x/SWARM-STATE.untrusted x/SWARM-STATE";
    assert!(ended.err.contains(back), "{ended}");
    assert!(!run("true", 0).err.contains("SWARM-STATE"), "the next one sees all of it");
    // The folder itself.
    let ended = run(&forge("."), 1);
    assert!(ended.err.contains("put aside") && data.join("SWARM-STATE.untrusted").exists(), "{ended}");
    // One that was there before is not the command's, and the way out is said.
    std::fs::rename(data.join("SWARM-STATE.untrusted"), data.join("SWARM-STATE")).expect("our own");
    let ended = run("true", 2);
    let way =
        format!("what makes it state is {0}/SWARM-STATE: where no swarm made that, rm {0}/SWARM-STATE", data.display());
    assert!(ended.err.contains(&way), "{ended}");
}

#[test]
fn a_repository_through_which_git_writes_elsewhere_is_put_aside() {
    let (repository, data) = scene();
    let home = data.parent().expect("it lies in the home").display().to_string();
    for (more, obeyed) in [
        (format!("ln -s {home}/.bashrc logs/HEAD"), "the link `logs/HEAD`"),
        (format!("ln -s {home}/other/.git/objects/01 objects/01"), "the link `objects/01`"),
        (format!("rm -r refs/heads; ln -s {home}/other/.git/refs/heads refs/heads"), "the link `refs/heads`"),
        (format!("echo {home}/other/.git/objects > objects/info/alternates"), "`objects/info/alternates`"),
        ("git init -q --bare info/e".to_owned(), "`info/e`"),
        (format!("git config remote.x.url {home}/other"), "the line `url = {home}/other` of its config"),
        ("git config branch.x.remote ../e".to_owned(), "the line `remote = ../e` of its config"),
        ("echo /e > branches/x".to_owned(), "`branches/x`"),
    ] {
        let script = format!(
            "git init -q made && cd made/.git && git config user.name '$(id)' && mkdir -p logs branches && {more}"
        );
        let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", &script]).current_dir(&data).exits(1);
        is_put_aside(&ended, &data.join("made"));
        let obeyed = obeyed.replace("{home}", &home);
        assert!(ended.err.contains(&format!("git obeys {obeyed}: put aside")), "{ended}");
        std::fs::remove_dir_all(data.join("made")).expect("our own");
    }
    let plain = "git init -q -b main made && cd made && git config user.name a && git config user.email b && git commit -q --allow-empty -m x && \
                 git remote add x https://example.org/x.git && git branch -q --track y main 2>&1 && git gc -q && git commit -q \
                 --allow-empty -m y";
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", plain]).current_dir(&data).exits(0);
    assert!(ended.err.contains("it made a repository here, made/.git: it runs nothing by itself"), "{ended}");
}

#[test]
fn names_that_a_command_takes_beforehand_keep_no_repository_where_it_is() {
    let (repository, data) = scene();
    let take = "i=2; : > .git.untrusted; while [ $i -le 1001 ]; do : > .git.untrusted-$i; i=$((i+1)); done";
    let script =
        format!("{} && cd made && {take} && cd .git && {}", make(Path::new("made")), take.replace(".git", "HEAD"));
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", &script]).current_dir(&data).exits(1);
    assert!(ended.err.contains("made/.git, and git obeys") && ended.err.contains("put aside"), "{ended}");
    assert!(!data.join("made/.git").exists(), "{ended}");
}

#[test]
fn one_that_a_command_alone_makes_where_a_policy_lets_it_write_is_put_aside() {
    let (repository, data) = scene();
    let file = repository.beside("p.toml");
    std::fs::write(&file, "version = 1\n[sandbox.p]\nwrite = ['~/data']\n[tasks.a]\nrun = 'true'\n").expect("a file");
    for (flags, place) in [(&["--ro"][..], repository.path().to_owned()), (&[], repository.beside("empty"))] {
        std::fs::create_dir_all(&place).expect("a folder");
        let file = file.display().to_string();
        let mut words = vec!["sandbox", "--plan", &file, "--policy", "p", "--allow", "write=~/data"];
        words.extend(flags);
        let script = make(&data.join("made"));
        words.extend(["--", "sh", "-c", &script]);
        is_put_aside(&Swarm::new(&repository, &words).current_dir(&place).exits(1), &data.join("made"));
        std::fs::remove_dir_all(data.join("made")).expect("our own");
    }
}

#[test]
fn so_is_one_of_which_a_closed_terminal_or_a_quit_ends_the_command() {
    for (signal, code) in [(Signal::HUP, 129), (Signal::QUIT, 131)] {
        let (repository, data) = scene();
        let script = format!("{}; echo ready; sleep 300", make(Path::new("made")));
        let heard = &["env", "--default-signal=HUP,QUIT"];
        let swarm = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", &script]).current_dir(&data);
        let mut running = swarm.through(heard).start();
        assert!(running.says("ready"));
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, code, "{ended}");
        is_put_aside(&ended, &data.join("made"));
        std::fs::remove_dir_all(data.join("made")).expect("our own");
        let plan = format!("{}[tasks.b]\nneeds = ['a']\nrun = 'sleep 300'\n", plan(&make(&data.join("made"))));
        let mut running = Swarm::run(&repository, "it", &plan).allow("write=~/data").through(heard).start();
        assert!(running.says("\"attempt-started\",\"instance\":\"b\""), "b starts");
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, code, "{ended}");
        is_put_aside(&ended, &data.join("made"));
    }
}

#[test]
fn what_is_started_to_outlive_its_terminal_does() {
    let (repository, data) = scene();
    let script = "echo ready; while ! test -e go; do sleep 0.1; done";
    let swarm = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).current_dir(&data);
    let mut running = swarm.through(&["nohup"]).start();
    assert!(running.says("ready"));
    running.signal(Signal::HUP);
    std::fs::write(data.join("go"), "").expect("a file");
    assert_eq!(running.end().code, 0);
}

#[test]
fn files_of_the_tree_that_the_config_names_are_named_where_a_command_changed_them() {
    let (repository, _) = scene();
    let config = git2::Repository::open(repository.path()).and_then(|it| it.config()).expect("its own");
    let set = |key: &str, value: &str| config.open_level(git2::ConfigLevel::Local)?.set_str(key, value);
    set("include.path", "../cfg/gitc").and_then(|()| set("core.hooksPath", "hooks")).expect("it is ours");
    let script = "mkdir -p cfg hooks; echo > cfg/gitc; echo > hooks/pre-commit; echo > cfg/other";
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).exits(0);
    let told =
        "it changed what git obeys by the repository's config or hooks, cfg/gitc, hooks/pre-commit: look at it before";
    assert!(ended.err.contains(told), "{ended}");
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", "echo x > cfg/other"]).exits(0);
    assert!(!ended.err.contains("obeys"), "{ended}");
    let ended = Swarm::run(&repository, "it", &format!("[tasks.a]\nrun = {script:?}\n")).exits(0);
    let told = "it changed what runs by itself outside of the cage: cfg/gitc, hooks/pre-commit\"";
    assert!(ended.out.contains(told), "{ended}");
}

#[test]
fn so_are_those_of_a_repository_around_a_folder_that_a_guest_or_a_task_may_write() {
    let (repository, data) = scene();
    let made = git2::Repository::init(&data).expect("a repository");
    let config = made.config().and_then(|it| it.open_level(git2::ConfigLevel::Local)).expect("its own");
    let set = |key: &str, value: &str| config.open_level(git2::ConfigLevel::Local)?.set_str(key, value);
    set("filter.x.clean", "$(git rev-parse --show-toplevel)/tools/clean %f").expect("it is ours");
    std::fs::create_dir(data.join("tools")).expect("a folder");
    let clean = data.join("tools/clean");
    let policy = "[sandbox.default]\nwrite = [\"~/data/tools\"]\n";
    let plan = format!("{policy}[tasks.a]\nrun = 'echo x > {}'\n", clean.display());
    let ended = Swarm::run(&repository, "it", &plan).allow("write=~/data/tools").exits(0);
    let told = "data/tools: it changed what git obeys by the repository's config or hooks, clean: look at it before you use git here";
    assert!(ended.err.contains(told), "{ended}");
    let module = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "path_open" (func $open
            (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "clean")
          (func (export "_start") (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5)
            (i32.const 9) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64)))))"#,
    );
    std::fs::write(data.join("write.wasm"), module.expect("a module")).expect("a file");
    let dir = format!("{}::/", data.join("tools").display());
    let module = data.join("write.wasm").display().to_string();
    let ended = Swarm::new(&repository, &["wasm", "--dir", &dir, &module]).exits(0);
    assert!(ended.err.contains(told), "{ended}");
}
