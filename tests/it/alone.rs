//! The cage asked and used without a run: `explain`, `sandbox`, `learn`; what a failed task is told of its refusals; and
//! machines that offer less than this one.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use swarm_tests::{Ended, Repository, Swarm, WITHOUT_NAMESPACES, binary, user};

/// A repository, and a file beside it in the home folder that no task sees.
fn scene() -> Repository {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    std::fs::create_dir_all(repository.home().join("data")).expect("a folder");
    std::fs::write(repository.home().join("data/f"), "hello\n").expect("a file");
    repository
}

const READ: &str = "[tasks.a]\nrun = 'cat \"$DATA\"'\nenv = { DATA = \"{{ vars.data }}\" }\n";

fn plan(repository: &Repository, policy: &str) -> String {
    let data = repository.home().join("data/f").display().to_string();
    format!("[vars]\ndata = {data:?}\n{policy}\n{}", READ)
}

fn says(ended: &Ended, words: &[&str]) {
    let said = format!("{}{}", ended.out, ended.err);
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is missing: {ended}"));
}

#[test]
fn a_refusal_comes_with_the_line_that_would_allow_it() {
    let repository = scene();
    let lines = ["[sandbox.default]", "read = [\"~/data/f\"]  # and --allow read=~/data/f"];
    let ended = Swarm::run(&repository, "it", &plan(&repository, "")).exits(1);
    says(&ended, &["the cage refused reading", lines[0], lines[1]]);
    let finished = &ended.events_of("attempt-finished")[0];
    let pasted = lines.join("\n");
    assert_eq!(finished["refusals"][0]["allow-with"], pasted.as_str(), "{finished}");
    for command in [&["status"][..], &["logs", "a"]] {
        says(&Swarm::new(&repository, command).exits(0), &lines);
    }
    let ended = Swarm::run(&repository, "it", &plan(&repository, &pasted)).allow("read=~/data/f").exits(0);
    assert_eq!(ended.result("a"), "succeeded");
}

#[test]
fn a_failure_of_the_tasks_own_blames_no_cage() {
    let repository = scene();
    let plan = "[tasks.a]\nrun = 'cat nothing /etc/nothing; exit 4'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(1);
    assert!(!ended.err.contains("the cage refused"), "{ended}");
}

#[test]
fn explain_says_what_a_run_does() {
    let repository = scene();
    repository
        .write("p.toml", format!("version = 1\n{}", plan(&repository, "[sandbox.default]\nhide = [\"secrets/\"]")));
    let data = repository.home().join("data/f").display().to_string();
    let ask = |arguments: &[&str], code: i32, words: &[&str]| {
        let ended = Swarm::new(&repository, &["explain", "--task", "a", "p.toml"]).args(arguments).exits(code);
        says(&ended, words);
    };
    ask(&[], 0, &["[sandbox.default]", "to write", "hidden", "secrets"]);
    ask(&["--path", "a.txt", "--write"], 0, &["allowed", "it lies in the worktree"]);
    ask(&["--path", "/usr/bin/env"], 0, &["allowed", "belongs to the system"]);
    ask(&["--path", "/usr/bin/env", "--write"], 1, &["refused", "no plan can allow it"]);
    ask(&["--path", &data], 1, &["refused", "to allow it: read = [\"~/data/f\"]  # in [sandbox.default], and --allow"]);
    ask(&["--path", "secrets/key"], 1, &["refused", "is hidden"]);
    ask(&["--host", "example.org"], 1, &["refused", "network = [\"example.org:443\"]"]);
    says(&Swarm::new(&repository, &["explain", "--task", "b", "p.toml"]).exits(2), &["the plan has a"]);
}

#[test]
fn explain_knows_what_becomes_of_a_write_and_whose_a_home_is() {
    let repository = Repository::with(&[("src/a.rs", "one\n"), ("src/b.rs", "one\n"), (".gitignore", "target/\n")]);
    std::fs::create_dir_all(repository.home().join("data")).expect("a folder");
    std::fs::write(repository.home().join("data/f"), "hello\n").expect("a file");
    let plan = "version = 1\n[tasks.narrow]\nrun = 'true'\nwrites = [\"src/**\"]\n[tasks.none]\nrun = 'true'\nwrites = []\n\
                [tasks.free]\nrun = 'true'\n[tasks.fan]\nforeach.file = { glob = \"src/*.rs\" }\nrun = 'true'\n\
                writes = [\"{{ file }}\"]\n";
    repository.write("p.toml", plan);
    let ask = |task: &str, arguments: &[&str], code: i32, words: &[&str]| {
        let ended = Swarm::new(&repository, &["explain", "--task", task, "p.toml"]).args(arguments).exits(code);
        says(&ended, words);
    };
    let home = ["which is the task's own and empty at first: it is not the host's"];
    ask(
        "free",
        &["--path", "~/data/f"],
        1,
        &[home[0], "to allow it, in the plan:\n        [sandbox.default]\n        read = [\"~/data/f\"]"],
    );
    ask("free", &["--path", "~/gone"], 1, &[home[0], "there is no such path on this host"]);
    ask("free", &["--path", "~/made", "--write"], 0, &["which goes with the task"]);
    let write = |path| ["--path", path, "--write"];
    ask("free", &write("Cargo.toml"), 0, &["it lies in the worktree\n"]);
    ask("narrow", &write("src/new/x.rs"), 0, &["`writes` of narrow take it"]);
    let fails = "the cage lets it happen (it lies in the worktree), but a change there fails the task";
    ask(
        "narrow",
        &write("Cargo.toml"),
        1,
        &["refused", fails, "writes = [\"src/**\", \"Cargo.toml\"]  # in [tasks.narrow]"],
    );
    ask("none", &write("Cargo.toml"), 1, &[fails, "`writes` of none take nothing"]);
    ask("none", &write("target/x"), 0, &["git ignores it"]);
    ask("fan", &write("src/b.rs"), 1, &["`writes` of fan[file=src/a.rs] take src/a.rs", "{{ file }}"]);
    ask("fan[file=src/b.rs]", &write("src/b.rs"), 0, &["`writes` of fan[file=src/b.rs] take it"]);
    ask("fan[file=c]", &write("src/b.rs"), 2, &["it has fan[file=src/a.rs], fan[file=src/b.rs]"]);
}

#[test]
fn explain_knows_what_may_be_read_above_a_worktree_without_namespaces() {
    let repository = Repository::with(&[("Cargo.toml", "[workspace]\n"), ("secret.txt", "x\n")]);
    let path = |name: &str| repository.path().join(name).display().to_string();
    let plan = format!("version = 1\n[tasks.a]\nrun = 'cat {}; ! cat {}'\n", path("Cargo.toml"), path("secret.txt"));
    std::fs::write(repository.beside("p.toml"), plan).expect("space");
    let plan = repository.beside("p.toml").display().to_string();
    let explain = |name: &str| {
        let words = ["explain", "--task", "a", "--path", &path(name), &plan].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Some(Swarm::new(&repository, &words).without_namespaces()?.end().code)
    };
    let Some(shown) = explain("Cargo.toml") else { return };
    assert_eq!((shown, explain("secret.txt")), (0, Some(1)));
    Swarm::new(&repository, &["run", &plan]).without_namespaces().expect("it worked above").exits(0);
    repository.write("Cargo.toml", "edited\n");
    assert_eq!(explain("Cargo.toml"), Some(1));
}

#[test]
fn explain_follows_links_as_the_kernel_does() {
    use std::os::unix::fs::symlink;
    let repository = Repository::empty();
    repository.write("src/a.rs", "one\n");
    for (target, link) in
        [("/etc/shadow", "shadow"), ("src", "ln"), ("../../../../../../../../../../../../etc/passwd", "passwd")]
    {
        symlink(target, repository.path().join(link)).expect("a link");
    }
    for folder in ["read", "write"] {
        std::fs::create_dir_all(repository.beside(folder)).expect("a folder");
    }
    symlink(repository.beside("write"), repository.beside("read/link")).expect("a link");
    symlink("around", repository.beside("read/around")).expect("a link");
    let [read, write] = ["read", "write"].map(|name| repository.beside(name).display().to_string());
    let plan =
        format!("version = 1\n[sandbox.default]\nread = [{read:?}]\nwrite = [{write:?}]\n[tasks.a]\nrun = 'true'\n");
    repository.write("p.toml", plan);
    repository.commit_all("links\n");
    let root = repository.path().display().to_string();
    let everywhere: &[(&[&str], i32, &str)] = &[
        (&["."], 0, "it lies in the worktree"),
        (&["./"], 0, "it lies in the worktree"),
        (&["src/../src/a.rs"], 0, "it lies in the worktree"),
        (&["shadow"], 1, "/etc/shadow"),
        (&["shadow", "--write"], 1, "/etc/shadow"),
        (&["passwd"], 0, "/etc/passwd"),
        (&["passwd", "--write"], 1, "/etc/passwd"),
        (&["ln/a.rs", "--write"], 0, "it lies in the worktree"),
        (&["@/link/x", "--write"], 0, "may be written"),
        (&["@/x", "--write"], 1, "may be read, not written"),
        (&["@/around"], 2, "lead in a circle"),
        (&["~"], 0, "private home"),
        (&["~/x", "--write"], 0, "private home"),
        (&["/dev/stdin"], 0, "device"),
        (&["/dev/fd"], 0, "device"),
        (&["/proc/1/environ"], 1, "another process"),
        (&["/proc/kmsg"], 1, "nobody without privileges"),
    ];
    let ask = |weak: bool, (path, code, word): &(&[&str], i32, &str)| {
        let path: Vec<String> = path.iter().map(|text| text.replace('@', &read)).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let arguments = [&["explain", "--task", "a", "p.toml", "--path"], &path[..]].concat();
        let swarm = Swarm::new(&repository, &arguments);
        let Some(swarm) = (if weak { swarm.without_namespaces() } else { Some(swarm) }) else { return };
        says(&swarm.exits(*code), &[word]);
    };
    for weak in [false, true] {
        everywhere.iter().for_each(|case| ask(weak, case));
    }
    let (config, objects) = (format!("{root}/.git/config"), format!("{root}/.git/objects"));
    ask(false, &(&[&objects, "--write"], 0, "it lies in the worktree"));
    ask(true, &(&[&objects], 0, "may be read, not written"));
    ask(true, &(&[&objects, "--write"], 1, "no plan can allow it"));
    ask(false, &(&[&root], 0, "it lies in the worktree"));
    ask(false, &(&[&config, "--write"], 0, "it lies in the worktree"));
    ask(true, &(&[&config, "--write"], 1, "in this tier the worktree lies elsewhere"));
    ask(true, &(&[&root], 1, "in this tier the worktree lies elsewhere"));
}

#[test]
fn check_says_what_a_run_would_stop_at() {
    let repository = scene();
    let plan = "[models.main]\nprovider = \"anthropic\"\nmodel = \"m\"\n[sandbox.default]\nwrite = [\"/opt\"]\n\
                [sandbox.gone]\nread = [\"/no/such\", \"~/.ssh\"]\n[tasks.a]\nrun = 'true'\n\
                [tasks.b]\nrun = 'true'\nsandbox = \"gone\"\n[tasks.c]\nagent = { prompt = \"x\", model = \"main\" }\n";
    let keyless = "main has no key: $ANTHROPIC_API_KEY is not set";
    let run = |plan: &str| Swarm::run(&repository, "it", plan).allow("write=/opt");
    let path = repository.beside("it.toml").display().to_string();
    let check = || Swarm::new(&repository, &["check", &path, "--allow", "write=/opt"]);
    // What the plan is at fault for is shown where it says it, by both.
    let faults = [
        "error: sandbox.default.write names `/opt`: many owners share it",
        "error: sandbox.gone.read names `~/.ssh`: it holds credentials",
        "6 | write = [\"/opt\"]\n  |          ^^^^^^",
        "the plan has 2 errors",
        "help: take it out",
    ];
    let ended = run(plan).exits(2);
    says(&ended, &faults);
    assert!(ended.events().is_empty() && !ended.err.contains("resume"), "no run begins: {ended}");
    let here = "it.toml:8: sandbox.gone.read names `/no/such`: it does not exist";
    let ended = check().exits(2);
    says(&ended, &faults);
    says(&ended, &[keyless, here, "warning: a run stops here at once"]);
    // What only this machine lacks is none.
    let plan = &plan.replace("\"/opt\"", "").replace(", \"~/.ssh\"", "");
    let ended = run(plan).exits(3);
    says(&ended, &[here.trim_start_matches("it.toml:8: "), "take it out of the plan where this machine is to run it"]);
    assert!(ended.events().is_empty() && !ended.err.contains("resume"), "no run begins: {ended}");
    says(&check().exits(0), &["is in order as a plan", keyless, here]);
    let ended = check().env("ANTHROPIC_API_KEY", "sk-x").exits(0);
    assert!(ended.err.contains(here) && !ended.err.contains("has no key"), "{ended}");
    let ended = run(&plan.replace("\"/no/such\"", "")).exits(2);
    says(&ended, &[keyless, "export ANTHROPIC_API_KEY=", "--replay DIR"]);
    assert!(ended.events().is_empty(), "no run begins: {ended}");
}

#[test]
fn a_run_goes_on_without_a_key_only_where_nothing_is_left_to_ask() {
    let repository = scene();
    let plan = "deadline = '1s'\n[models.main]\nprovider = 'anthropic'\nmodel = 'm'\n[tasks.a]\nrun = 'sleep 30'\n\
                [tasks.c]\nneeds = ['a']\nagent = { prompt = 'x', model = 'main' }\n";
    Swarm::run(&repository, "it", plan).env("ANTHROPIC_API_KEY", "sk-x").exits(7);
    let refused = Swarm::new(&repository, &["resume", "it-1", "--json"]).exits(2);
    says(&refused, &["main has no key: $ANTHROPIC_API_KEY is not set"]);
    assert!(refused.events().is_empty(), "the run stays as it is: {refused}");
    Swarm::new(&repository, &["resume", "it-1"]).env("ANTHROPIC_API_KEY", "sk-x").exits(7);
}

#[test]
fn learn_finds_the_variables_that_a_command_needs() {
    let repository = scene();
    let learn = |script: &str| {
        let swarm = Swarm::new(&repository, &["learn", "--", "sh", "-c", script]);
        (0..12)
            .fold(swarm, |swarm, n| swarm.env(&format!("OTHER_{n}"), "x"))
            .env("FOO", "1")
            .env("NPM_TOKEN", "n")
            .end()
    };
    let ended = learn("test -n \"$FOO\"");
    assert_eq!((ended.code, ended.out.as_str()), (0, "[sandbox.learned]\nenv = [\"FOO\"]\n"), "{ended}");
    let ended = learn("test -n \"$NPM_TOKEN\"");
    assert!(ended.code == 1 && !ended.out.contains("env ="), "a credential is nothing to try out: {ended}");
}

#[test]
fn what_nobody_committed_is_named_once() {
    let repository = Repository::with(&[("a.txt", "one\n"), ("b.txt", "one\n")]);
    let plan = "[tasks.a]\nrun = 'cat a.txt'\n";
    let note = "is not in the base: a.txt; commit what it shall see";
    assert!(!Swarm::run(&repository, "it", plan).exits(0).err.contains("not in the base"), "the control");
    repository.write("a.txt", "another one\n");
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(ended.err.matches(note).count(), 1, "{ended}");
    let ended = Swarm::new(&repository, &["exec", "--", "cat", "a.txt"]).exits(0);
    assert!(ended.err.contains(note) && ended.err.contains("one\n"), "{ended}");
}

#[test]
fn what_is_hidden_and_tracked_is_not_passed_off_as_secret() {
    let repository = Repository::with(&[("secrets/key", "hunter2\n"), ("a.txt", "one\n")]);
    let plan = "[sandbox.default]\nhide = [\"secrets/\", \".env\"]\n\
                [tasks.a]\nrun = 'cat secrets/key || git show HEAD:secrets/key > a.txt'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "hunter2\n", "it is as the warning says");
    let warning = "sandbox.default.hide names `secrets/`, which git tracks";
    assert!(ended.events_of("run-started")[0]["notes"].to_string().contains(warning), "{ended}");
    assert!(!ended.out.contains(".hide names `.env`, which git tracks"), "{ended}");
    let plan = repository.beside("it.toml").display().to_string();
    says(&Swarm::new(&repository, &["check", &plan]).exits(0), &[warning]);
    let explain = |path: &str| Swarm::new(&repository, &["explain", "--task", "a", "--path", path, &plan]).exits(1);
    says(&explain("secrets/key"), &["is hidden", "but git tracks it", "`git show HEAD:secrets/key` prints it"]);
    assert!(!explain(".env").out.contains("but git tracks it"));
}

#[test]
fn the_cage_alone_passes_output_and_exit_status_on() {
    let repository = scene();
    let run = |arguments: &[&str], script: &str| {
        let command = [&["sandbox"], arguments, &["--", "sh", "-c", script]].concat();
        Swarm::new(&repository, &command).end()
    };
    let data = repository.home().join("data/f").display().to_string();
    let before = std::fs::read(repository.path().join(".git/config")).expect("a config");
    let ended = run(&[], &format!("echo out; echo x > new; echo evil >> .git/config; mv .git g; cat {data}; exit 7"));
    assert_eq!((ended.code, ended.out.as_str()), (7, "out\n"), "{ended}");
    says(&ended, &["the cage refused reading", "read = [\"~/data/f\"]"]);
    assert_eq!(std::fs::read_to_string(repository.path().join("new")).expect("it was written"), "x\n");
    assert_eq!(std::fs::read(repository.path().join(".git/config")).expect("a config"), before);
    assert_eq!(run(&[], "kill -TERM $$").code, 128 + 15);
    assert_eq!(run(&["--ro"], "cat a.txt; echo x > other").out, "one\n");
    assert!(!repository.path().join("other").exists());
    // No repository is needed, and a home folder is never opened.
    let elsewhere = repository.beside("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", "echo x > y"]).current_dir(&elsewhere).exits(0);
    assert!(elsewhere.join("y").exists(), "{ended}");
    let home = repository.home();
    says(&Swarm::new(&repository, &["sandbox", "--", "true"]).current_dir(&home).exits(2), &["home folder"]);
}

#[test]
fn a_learned_policy_is_one_under_which_the_command_passes() {
    let repository = scene();
    // Neither in the home folder nor in /tmp: of those a task has its own.
    let place = tempfile::tempdir_in("/var/tmp").expect("a temporary folder");
    let data = place.path().canonicalize().expect("it exists").display().to_string();
    std::fs::write(place.path().join("f"), "hello\n").expect("a file");
    let script = format!("cat {data}/f && echo x > {data}/new && echo y > b.txt");
    let ended = Swarm::new(&repository, &["learn", "--name", "it", "--", "sh", "-c", &script]).exits(0);
    assert_eq!(ended.out, format!("[sandbox.it]\nwrite = [{data:?}]\n"), "{ended}");
    assert!(!place.path().join("new").exists() && !repository.path().join("b.txt").exists(), "nothing is kept");
    repository.write("p.toml", format!("version = 1\n{}[tasks.x]\nrun = \"true\"\n", ended.out));
    let exec = |word: &[&str]| {
        let command = [&["exec", "--plan", "p.toml", "--policy", "it"], word, &["--", "sh", "-c", &script]].concat();
        Swarm::new(&repository, &command)
    };
    let word = format!("write={data}");
    says(&exec(&[]).exits(2), &["sandbox.it.write names", &format!("--allow {word}")]);
    exec(&["--allow", &word]).exits(0);
    assert!(place.path().join("new").exists());
    let ended = Swarm::new(&repository, &["learn", "--", "sh", "-c", "cat ~/.ssh/id_rsa; exit 3"]).exits(1);
    says(&ended, &["# the command did not pass under this"]);
}

#[test]
fn what_is_learned_shows_no_credential() {
    let repository = scene();
    let place = tempfile::tempdir_in("/var/tmp").expect("a temporary folder");
    let data = place.path().canonicalize().expect("it exists").display().to_string();
    for (name, content) in [("f", "plain\n"), (".env", "SECRET=hunter2\n"), ("deep/my-token.txt", "hunter2\n")] {
        std::fs::create_dir_all(place.path().join(name).parent().expect("a folder")).expect("a folder");
        std::fs::write(place.path().join(name), content).expect("a file");
    }
    let learn = |script: &str| Swarm::new(&repository, &["learn", "--", "sh", "-c", script]).end();
    // A folder is shown without them, one of them by its name is not shown at all.
    let ended = learn(&format!("ls {data} && cat {data}/f && cat {data}/.env {data}/deep/my-token.txt"));
    says(&ended, &["plain\n", &format!("read = [{data:?}]"), &format!("hide = [\"{data}/.env\"")]);
    assert!(ended.code == 1 && !format!("{}{}", ended.out, ended.err).contains("hunter2"), "{ended}");
    let ended = learn(&format!("cat {data}/.env"));
    says(&ended, &[&format!("# missed and not shown, it may hold credentials: \"{data}/.env\"")]);
    assert!(ended.code == 1 && !format!("{}{}", ended.out, ended.err).contains("hunter2"), "{ended}");
    // The control: a file of another name is shown.
    assert_eq!(learn(&format!("cat {data}/f")).code, 0);
}

#[test]
fn policies_that_cannot_be_had_end_the_run_before_it_begins() {
    let repository = scene();
    let check = |policy: &str, code: i32, words: &[&str]| {
        let plan = format!("[sandbox.default]\n{policy}\n[tasks.a]\nrun = 'echo x > a.txt'\n");
        let ended = Swarm::run(&repository, "it", &plan).exits(code);
        says(&ended, words);
        assert!(ended.events_of("attempt-started").is_empty(), "{ended}");
    };
    check("write = [\"/\"]", 2, &["sandbox.default.write names `/`", "root folder", "it.toml:3"]);
    check("read = [\"~/nowhere\"]", 3, &["does not exist", "it.toml:3)", "hint: take it out"]);
    check("read = [\"~\"]", 2, &["whole home folder"]);
    check("write = [\"/usr/lib\"]", 2, &["belongs to the system"]);
    check("hide = [\".\"]", 2, &["would hide the worktree"]);
    check("tools = [\"rsut\"]", 2, &["the presets are", "it.toml:3"]);
    check("require = [\"moon\"]", 3, &["requires `moon`"]);
    let git = repository.path().join(".git/swarm").display().to_string();
    check(&format!("read = [{git:?}]"), 2, &["would expose"]);
    // What lies on this machine is not the plan's fault.
    let folder = repository.beside("out");
    git2::Repository::init(folder.join("clone")).expect("a repository");
    let out = folder.display();
    let hint = format!(
        "hint: name folders in it that hold no repository, or move the repository out of it (find {out} -name .git"
    );
    check(&format!("write = ['{out}']"), 3, &["another repository's", "it.toml:3)", &hint]);
    std::fs::remove_dir_all(folder.join("clone")).expect("our own");
    let plan = format!("[sandbox.default]\nwrite = ['{out}']\n[tasks.a]\nrun = 'test -e {out}/go'\n");
    let path = repository.beside("again.toml").display().to_string();
    Swarm::run(&repository, "again", &plan).allow(&format!("write={out}")).exits(1);
    git2::Repository::init(folder.join("clone")).expect("a repository");
    says(&Swarm::new(&repository, &["retry", "again-1"]).exits(3), &["another repository's", &hint]);
    says(
        &Swarm::new(&repository, &["check", &path]).exits(0),
        &["is in order as a plan", "another repository's", &hint],
    );
}

#[test]
fn escape_14_a_git_folder_that_a_command_makes_is_put_aside() {
    let repository = scene();
    let folder = repository.beside("plain");
    std::fs::create_dir(&folder).expect("a folder");
    let make = |script: &str, code: i32| {
        Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).current_dir(&folder).exits(code)
    };
    let ended = make(
        "mkdir .git; echo ref: refs/heads/x > .git/HEAD; printf '[core]\n\tfsmonitor = touch evil\n' > .git/config",
        1,
    );
    let back = "look before you undo it: mv .git.untrusted .git && mv .git/HEAD.untrusted .git/HEAD";
    says(&ended, &["made a repository here, .git,", "`fsmonitor = touch evil`", "put aside", back]);
    assert!(!folder.join(".git").exists() && folder.join(".git.untrusted/HEAD.untrusted").exists());
    let ended = make("mkdir -p deep/er/.git; echo 'gitdir: x' > deep/.git; exit 7", 7);
    says(&ended, &["a repository here, deep/er/.git: it runs nothing", "a repository here, deep/.git, and git obeys"]);
    assert!(folder.join("deep/er/.git").exists() && !folder.join("deep/.git").exists());
    // A folder that only looks like one, and one that nobody may list.
    let ended = make(
        "mkdir -p objects refs a/b.git; echo > HEAD; echo > config; echo x > a/b.git/HEAD; \
                      echo .. > a/b.git/commondir; mkdir -p c/.git; echo > c/.git/config.worktree; chmod 311 c",
        1,
    );
    says(&ended, &["git obeys `commondir`", "git obeys `config.worktree`"]);
    for gone in ["HEAD", "a/b.git/HEAD", "c/.git"] {
        assert!(!folder.join(gone).exists(), "{gone}: {ended}");
    }
    assert!(!make("true", 0).err.contains("it made"));
    let ended = make("git init -q new && cd new && git -c user.name=a -c user.email=b commit -q --allow-empty -m x", 0);
    says(&ended, &["it made a repository here, new/.git: it runs nothing by itself"]);
    assert!(folder.join("new/.git/HEAD").exists());
}

#[test]
fn no_path_that_a_command_makes_hides_its_git_folder() {
    let repository = scene();
    let folder = repository.beside("plain");
    std::fs::create_dir(&folder).expect("a folder");
    let run = |script: &str, code: i32| {
        Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).current_dir(&folder).exits(code)
    };
    let make = "mkdir -p .git/hooks; echo x > .git/HEAD; echo > .git/hooks/post-checkout; ";
    let long = "n=$(printf %0240d 0); i=0; while [ $i -lt 18 ]; do mkdir $n; cd $n; i=$((i+1)); done";
    says(
        &run(&format!("{make} {long}"), 1),
        &["made a repository here, .git, and git obeys `hooks/post-checkout`: put aside"],
    );
    assert!(!folder.join(".git").exists());
    assert!(run("true", 0).err.len() < 1000);
    let many = "i=0; while [ $i -lt 1005 ]; do mkdir -p k/$i/.git; i=$((i+1)); done";
    says(
        &run(&format!("{make} {many}"), 1),
        &["made a repository here, .git, and git obeys `hooks/post-checkout`: put aside"],
    );
    assert!(!folder.join(".git").exists());
    says(&run("true", 2), &["it holds more than 1,000 repositories"]);
}

#[test]
fn a_repository_that_an_interrupted_command_made_is_put_aside_too() {
    let repository = scene();
    let script = "mkdir -p sub/.git; echo > sub/.git/config.worktree; trap '' INT TERM; echo ready; sleep 300";
    let mut running = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).start();
    assert!(running.says("ready"));
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, 130, "{ended}");
    assert!(!repository.path().join("sub/.git").exists(), "{ended}");
}

#[test]
fn no_folder_above_a_repository_can_be_put_out_of_the_way() {
    let repository = scene();
    let folder = repository.beside("plain");
    for path in ["vendor/lib/x/.git/refs", "sub", "other"] {
        std::fs::create_dir_all(folder.join(path)).expect("a folder");
    }
    for path in ["vendor/lib/x/.git/config", "sub/.git", "other/f"] {
        std::fs::write(folder.join(path), "mine\n").expect("a file");
    }
    let script = "mv other moved && mv sub .cache; mv vendor v; mv vendor/lib vendor/l; mv vendor/lib/x vendor/lib/y; rmdir vendor/lib/x; \
                  mkdir -p sub vendor/lib/x; echo evil > sub/.git; rm -rf vendor; echo ok > vendor/lib/x/file; echo ok > sub/file";
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", script]).current_dir(&folder).exits(0);
    let text = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_default();
    assert_eq!(["vendor/lib/x/.git/config", "sub/.git", "moved/f"].map(text), ["mine\n"; 3], "{ended}");
    assert_eq!(["vendor/lib/x/file", "sub/file"].map(text), ["ok\n"; 2], "{ended}");
    assert!(!folder.join(".cache").exists() && !folder.join("v").exists() && !ended.err.contains("it made"), "{ended}");
}

#[test]
fn no_repository_below_the_folder_is_open_to_a_command() {
    let repository = scene();
    let folder = repository.beside("plain");
    for path in ["vendor/x/.git/hooks", "bare/objects", "bare/refs", "sub"] {
        std::fs::create_dir_all(folder.join(path)).expect("a folder");
    }
    for path in ["vendor/x/.git/config", "bare/HEAD", "sub/.git"] {
        std::fs::write(folder.join(path), "mine\n").expect("a file");
    }
    let script = "echo evil > vendor/x/.git/config; echo evil > vendor/x/.git/hooks/post-checkout; rm -rf vendor/x/.git; \
                  mv vendor/x/.git vendor/x/g; echo evil > bare/config; rm -f sub/.git; echo evil > sub/.git; echo ok > sub/file";
    let here = |arguments: &[&str]| Swarm::new(&repository, arguments).current_dir(&folder);
    here(&["sandbox", "--", "sh", "-c", script]).end();
    let text = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_default();
    assert_eq!(
        ["vendor/x/.git/config", "bare/HEAD", "sub/.git", "sub/file"].map(text),
        ["mine\n", "mine\n", "mine\n", "ok\n"]
    );
    assert!(!folder.join("vendor/x/.git/hooks/post-checkout").exists() && !folder.join("bare/config").exists());
    if let Some(swarm) = here(&["sandbox", "--", "true"]).without_namespaces() {
        says(&swarm.exits(3), &["would be writable"]);
    }
    for inside in ["bare", "vendor/x/.git"] {
        let ended = Swarm::new(&repository, &["sandbox", "--", "true"]).current_dir(&folder.join(inside)).exits(2);
        says(&ended, &["git obeys what lies in it"]);
    }
    std::os::unix::fs::symlink("../bare", folder.join("vendor/.git")).expect("a link");
    says(&here(&["sandbox", "--", "true"]).exits(3), &["it is a link"]);
    here(&["sandbox", "--ro", "--", "true"]).exits(0);
}

#[test]
fn what_no_plan_may_write_is_no_folder_for_a_command() {
    let repository = scene();
    let home = repository.home();
    for folder in [".local/bin", ".config/systemd/user", ".cargo/bin", ".cache"] {
        std::fs::create_dir_all(home.join(folder)).expect("a folder");
    }
    let there = |folder: &str, arguments: &[&str]| {
        let command = [arguments, &["--", "sh", "-c", "touch git"]].concat();
        Swarm::new(&repository, &command).current_dir(&home.join(folder))
    };
    for folder in [".local/bin", ".config/systemd/user", ".cargo/bin", ".cargo"] {
        says(&there(folder, &["sandbox"]).exits(2), &["runs by itself", "or use --ro"]);
        there(folder, &["sandbox", "--ro"]).end();
        assert!(!home.join(folder).join("git").exists(), "{folder}");
    }
    says(&there(".cache", &["sandbox"]).exits(2), &["swarm's own state"]);
    assert_eq!(there("data", &["sandbox"]).exits(0).code, 0);
    assert!(home.join("data/git").exists());
}

#[test]
fn no_command_gets_a_state_folder_of_whatever_run() {
    let repository = scene();
    let state = repository.path().join("kept/st").display().to_string();
    repository.write("p.toml", "version = 1\n[tasks.a]\nrun = 'true'\n");
    Swarm::new(&repository, &["--state-dir", &state, "run", "p.toml"]).exits(0);
    let journal = repository.path().join("kept/st/journal.sqlite");
    let before = std::fs::read(&journal).expect("a journal");
    let script = "echo x >> kept/st/journal.sqlite; rm -rf kept/st/runs; mv kept k; echo fine > new";
    let sandbox = ["sandbox", "--", "sh", "-c", script];
    if let Some(swarm) = Swarm::new(&repository, &sandbox).without_namespaces() {
        says(&swarm.exits(3), &["would be writable"]);
    }
    for own in [vec![], vec!["--state-dir", &state], vec!["--state-dir", "kept/st"]] {
        Swarm::new(&repository, &[&own[..], &sandbox].concat()).exits(0);
        assert_eq!(std::fs::read(&journal).expect("it is where it was"), before);
        assert!(repository.path().join("kept/st/runs").exists());
        std::fs::remove_file(repository.path().join("new")).expect("everything else can be written");
    }
    let look = ["sandbox", "--ro", "--", "cat", "kept/st/journal.sqlite"];
    says(&Swarm::new(&repository, &look).exits(1), &["hidden from the command", "kept/st"]);
    if let Some(swarm) = Swarm::new(&repository, &look).without_namespaces() {
        says(&swarm.exits(1), &["hidden from the command", "kept/st", "cannot be listed"]);
    }
    for (inside, arguments) in [("kept/st", &["sandbox"][..]), ("kept/st/runs", &["sandbox", "--ro"])] {
        let ended = Swarm::new(&repository, &[arguments, &["--", "true"]].concat());
        says(&ended.current_dir(&repository.path().join(inside)).exits(2), &["swarm's own state"]);
    }
}

#[test]
fn a_state_folder_in_an_odd_place_is_refused_before_it_is_made() {
    let repository = scene();
    repository.write("p.toml", "version = 1\n[tasks.a]\nrun = 'true'\n");
    let listed = |folder: &str| {
        let entries = std::fs::read_dir(repository.path().join(folder)).expect("a folder");
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    for (state, found_in, word) in [
        ("/", "/", "the system"),
        ("/etc/swarm-odd", "/etc", "the system"),
        ("/usr/share/swarm-odd", "/usr/share", "the system"),
        (".git/hooks", ".git/hooks", "git keeps"),
        (".git", ".git", "git keeps"),
    ] {
        let before = listed(found_in);
        for command in [&["run", "p.toml"][..], &["check", "p.toml"], &["doctor"]] {
            let ended = Swarm::new(&repository, &[&["--state-dir", state], command].concat()).exits(2);
            says(&ended, &["keep state in", word, "--state-dir"]);
        }
        assert_eq!(listed(found_in), before, "{state}");
    }
    Swarm::new(&repository, &["--state-dir", ".git/swarm", "run", "p.toml"]).exits(0);
}

#[test]
fn learn_offers_no_line_for_what_stays_hidden_and_no_name_that_no_plan_takes() {
    let repository = scene();
    for name in ["a b", "a\"]\nx", ""] {
        let ended = Swarm::new(&repository, &["learn", "--name", name, "--", "true"]).exits(2);
        says(&ended, &["names consist of A-Z"]);
    }
    repository.write("p.toml", "version = 1\n[tasks.a]\nrun = 'true'\n");
    let state = repository.path().join("st").display().to_string();
    Swarm::new(&repository, &["--state-dir", &state, "run", "p.toml"]).exits(0);
    let command = format!("cat {state}/journal.sqlite");
    let ended = Swarm::new(&repository, &["--state-dir", &state, "learn", "--", "sh", "-c", &command]).exits(1);
    says(&ended, &["stays hidden"]);
    assert!(!ended.err.contains("to allow it"), "{ended}");
}

#[test]
fn a_terminal_gets_no_control_sequence_of_a_command() {
    let repository = scene();
    let there = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        swarm_protocol::skipped::say("no `script` that makes a terminal");
        return;
    }
    let at_terminal = |flags: &str| {
        let command =
            format!("{} sandbox --ro {flags} -- printf '\\033[31mred\\033]0;title\\007\\n'", binary().display());
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).current_dir(repository.path()).stdin(Stdio::null());
        script.env_clear().env("HOME", repository.home()).env("TERM", "xterm");
        let output = script.env("PATH", std::env::var_os("PATH").unwrap_or_default()).output().expect("it is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let careful = at_terminal("");
    assert!(careful.contains("red") && !careful.contains('\u{1b}') && !careful.contains("title"), "{careful:?}");
    assert!(at_terminal("--raw").contains("\u{1b}[31mred"), "the control");
}

#[test]
fn escape_23_a_hard_link_of_the_checkout_is_not_written_through() {
    let repository = scene();
    let outside = repository.home().join("data/f");
    let linked = |name: &str| std::fs::hard_link(&outside, repository.path().join(name)).expect("one file system");
    linked("linked.txt");
    repository.commit_all("a link\n");
    repository.write("p.toml", "version = 1\n[tasks.a]\nrun = 'echo evil >> linked.txt'\n");
    let unchanged = || assert_eq!(std::fs::read_to_string(&outside).expect("it is there"), "hello\n");
    Swarm::new(&repository, &["run", "p.toml"]).exits(0);
    unchanged();
    if let Some((code, said)) = behind(WITHOUT_NAMESPACES, &repository, &["run", "p.toml", "--into", "other"]) {
        assert_eq!(code, 0, "{said}");
        unchanged();
    }
}

#[test]
fn escape_59_a_plan_does_not_loosen_what_its_reader_did_not_allow() {
    let repository = scene();
    let bad = "[sandbox.default]\nnetwork = \"host\"\nenv = [\"CI\", \"AWS_SECRET_ACCESS_KEY\"]\nread = [\"~/data\"]\n\
               [sandbox.other]\nwrite = [\"~/data\"]\nnetwork = [\"example.org\", \"169.254.169.254\"]\n\
               [tasks.a]\nrun = 'echo \"$AWS_SECRET_ACCESS_KEY\" > a.txt'\n\
               [tasks.b]\nsandbox = \"other\"\nenv = { T = \"{{ env.NPM_TOKEN }}\" }\nrun = 'echo \"$T\" > b.txt'\n";
    let secrets = |swarm: Swarm| swarm.env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI").env("NPM_TOKEN", "npm_0123456789");
    let words = [
        "--allow-host-network",
        "--allow env=AWS_SECRET_ACCESS_KEY",
        "--allow read=~/data",
        "--allow write=~/data",
        "--allow network=169.254.169.254",
        "--allow env=NPM_TOKEN",
    ];
    let ended = secrets(Swarm::run(&repository, "it", bad)).exits(2);
    says(&ended, &words);
    says(&ended, &["it.toml:4: sandbox.default.env names `AWS_SECRET_ACCESS_KEY`", "[[allow]]"]);
    assert!(!ended.err.contains("example.org") && !ended.err.contains("`CI`"), "{ended}");
    assert_eq!(ended.events(), Vec::<serde_json::Value>::new(), "no run begins");
    let plan = repository.beside("it.toml").display().to_string();
    says(&secrets(Swarm::new(&repository, &["check", &plan])).exits(0), &words);
    let ended = Swarm::new(&repository, &["explain", "--task", "b", &plan]).exits(0);
    says(&ended, &["only when a person allows it", "--allow write=~/data"]);
    let given: Vec<&str> = words.iter().flat_map(|word| word.split(' ')).collect();
    let ended = secrets(Swarm::run(&repository, "it", bad).args(&given)).exits(0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "wJalrXUtnFEMI\n", "{ended}");
    assert_eq!(repository.text("swarm/it", "b.txt"), "npm_0123456789\n", "{ended}");
}

#[test]
fn a_persons_own_configuration_allows_for_its_repository_only() {
    let repository = scene();
    let plan = "[sandbox.default]\nread = [\"~/data\"]\n[tasks.a]\nrun = 'cat ~/data/f > a.txt'\n";
    let config = |place: &Path| {
        let folder = repository.home().join(".config/swarm");
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = format!("[[allow]]\nrepository = {:?}\nread = [\"~/data\"]\n", place.display().to_string());
        std::fs::write(folder.join("config.toml"), text).expect("space");
    };
    config(&repository.home());
    Swarm::run(&repository, "it", plan).exits(2);
    config(&repository.path());
    Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "hello\n");
}

#[test]
fn a_secret_is_there_for_the_task_and_for_nobody_who_reads_about_it() {
    const TOKEN: &str = "npm_5ecret/Val=ue";
    let repository = scene();
    let plan = "[sandbox.default]\nsecrets = [\"TOKEN\"]\n[tasks.a]\nrun = '''\ntest ${#TOKEN} = 17\necho \"plain $TOKEN\"\n\
                printf 'x:%s' \"$TOKEN\" | base64\nprintf npm_5; sleep 0.1; echo ecret/Val=ue\necho \"line $TOKEN\" >&2\n\
                echo two >> a.txt\n'''\ncheck = [\"echo check $TOKEN; cat /no/$TOKEN || exit 9\"]\n\
                [tasks.b]\nrun = 'echo \"x=$TOKEN\" >> \"$SWARM_OUTPUT\"'\n";
    let ended = Swarm::run(&repository, "it", plan).allow("env=TOKEN").env("TOKEN", TOKEN).exits(1);
    assert_eq!((ended.result("a"), ended.result("b")), ("failed".to_owned(), "failed".to_owned()), "{ended}");
    let logs = Swarm::new(&repository, &["logs", "a", "--raw"]).exits(0);
    says(&logs, &["plain ***\n", "\n***\n", "line ***\n", "check ***\n"]);
    let commands =
        [&["status"][..], &["report", "--format", "html"], &["report", "--format", "json"], &["status", "--json"]];
    let told = commands.iter().map(|command| Swarm::new(&repository, command).end());
    let told: Vec<Ended> = told.chain([ended, logs]).collect();
    says(&told[0], &["holds the secret `TOKEN`"]);
    let state = repository.path().join(".git/swarm");
    let found = Command::new("grep").args(["-rlF", "npm_5ecret/Val"]).arg(&state).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "no file of the state holds it");
    for ended in &told {
        for form in [TOKEN, "npm_5ecret", "ecret/Val", "NWVjcmV0L1Z"] {
            assert!(!ended.out.contains(form) && !ended.err.contains(form), "{form} is shown: {ended}");
        }
    }
    // The control: a variable that is no secret is shown.
    let control = plan.replace("secrets", "env");
    Swarm::run(&repository, "control", &control).allow("env=TOKEN").env("TOKEN", TOKEN).end();
    says(&Swarm::new(&repository, &["logs", "a", "--raw"]).exits(0), &[TOKEN, "NWVjcmV0L1Z"]);
    let plan = repository.beside("it.toml").display().to_string();
    let show = ["--", "sh", "-c", "echo \"$TOKEN\""];
    let command = ["sandbox", "--ro", "--plan", &plan, "--allow", "env=TOKEN"];
    let said = Swarm::new(&repository, &[&command[..], &show].concat());
    assert_eq!(said.env("TOKEN", TOKEN).exits(0).out, "***\n");
}

/// Runs the program behind a command that takes something away from it; `None` where that command cannot be had.
fn behind(wrapper: &[&str], repository: &Repository, arguments: &[&str]) -> Option<(i32, String)> {
    let possible = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        swarm_protocol::skipped::say(format_args!("{wrapper:?} does not work here"));
        return None;
    }
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(binary())
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", repository.home())
        .current_dir(repository.path())
        .stdin(Stdio::null())
        .output()
        .expect("it worked a moment ago");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.code().unwrap_or(-1), said))
}

fn edit(policy: &str) -> String {
    format!(
        "version = 1\n{policy}\n[tasks.a]\nrun = 'cat ~/data/f /etc/shadow || true; echo two >> a.txt'\n[tasks.b]\nrun = 'echo b > b'\n"
    )
}

#[test]
fn without_user_namespaces_the_weaker_tier_is_named_and_a_plan_can_refuse_it() {
    let repository = scene();
    repository.write("p.toml", edit(""));
    let Some((code, said)) = behind(WITHOUT_NAMESPACES, &repository, &["run", "p.toml"]) else { return };
    assert!(code == 0 && said.contains("cage: landlock") && said.contains("no namespaces here"), "{code} {said}");
    assert!(said.contains("not enforced"), "{said}");
    for (policy, word) in [
        ("[sandbox.default]\ntier = \"namespaces\"", "asks for tier `namespaces`"),
        ("[sandbox.default]\nrequire = [\"netns\"]", "requires `netns`"),
        ("[sandbox.default]\nhide = [\"secrets/\"]", "the landlock tier cannot hide"),
    ] {
        repository.write("p.toml", edit(policy));
        let (code, said) = behind(WITHOUT_NAMESPACES, &repository, &["run", "p.toml"]).expect("it worked above");
        assert!(code == 3 && said.contains(word), "{policy}: {code} {said}");
    }
    let (code, said) = behind(WITHOUT_NAMESPACES, &repository, &["sandbox", "--", "true"]).expect("it worked above");
    assert!(code == 3 && said.contains(".git would be writable"), "{code} {said}");
    let (code, said) =
        behind(WITHOUT_NAMESPACES, &repository, &["sandbox", "--ro", "--", "cat", "a.txt"]).expect("as above");
    assert!(code == 0 && said.contains("one\n"), "{code} {said}");
}

#[test]
fn an_ordinary_user_gets_the_same_cage() {
    let repository = scene();
    repository.write("p.toml", edit(""));
    let Some(words) = user(65534, &["--no-new-privs"], &repository) else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((code, said)) = behind(&words, &repository, &["run", "p.toml"]) else { return };
    assert!(code == 0 && said.contains("landed on swarm/p"), "{code} {said}");
}
