//! A real git inside the cage, and a repository outside of it that no worker can touch. The numbers are those of the list
//! of escapes: each act is tried by a task, and what it would have done to the host is looked for afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 4] =
    [("a.txt", "one\n"), ("dir/b.txt", "b\n"), ("README", "read me\n"), ("tox.ini", "[tox]\n")];

/// Runs a script as the only task, in each tier that can be had, after which the checkout and `.git` must be as before; `$MARK`
/// is a path outside the cage that must not appear, not even when somebody uses git on the repository afterwards.
fn hostile(script: &str) -> Vec<(Repository, Ended)> {
    let with = |run: &dyn Fn(Swarm) -> Option<Swarm>| {
        let repository = Repository::with(&FILES);
        let mark = repository.beside("mark");
        let before = repository.freeze("swarm/it");
        let plan = format!("[tasks.a]\nenv = {{ MARK = '{}' }}\nrun = '''\n{script}\n'''\n", mark.display());
        let ended = run(Swarm::run(&repository, "it", &plan))?.end();
        assert!([0, 1].contains(&ended.code), "{ended}");
        assert_eq!(before.differences(&repository.freeze("swarm/it")), Vec::<String>::new(), "{ended}");
        for look in [
            &["status", "--short"][..],
            &["fsck", "--full", "--no-dangling"],
            &["log", "--all", "--oneline"],
            &["stash", "list"],
        ] {
            repository.run_git(look);
        }
        assert!(!mark.exists(), "the act reached the host: {ended}");
        Some((repository, ended))
    };
    let tier = |(_, ended): &(Repository, Ended)| ended.events_of("run-started")[0]["enforcement"]["tier"].clone();
    let strongest = with(&Some).expect("it runs here");
    if tier(&strongest) == "landlock" {
        return vec![strongest];
    }
    let weakest = with(&Swarm::without_namespaces);
    weakest.iter().for_each(|ran| assert_eq!(tier(ran), "landlock", "{}", ran.1));
    std::iter::once(strongest).chain(weakest).collect()
}

/// Runs a script whose result must not be taken.
fn refused(script: &str) {
    for (repository, ended) in hostile(script) {
        assert_eq!(ended.result("a"), "violation", "{ended}");
        assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
    }
}

/// Runs a script that succeeds, in vain.
fn in_vain(script: &str) -> Vec<(Repository, Ended)> {
    let all = hostile(script);
    all.iter().for_each(|(_, ended)| assert_eq!(ended.result("a"), "succeeded", "{ended}"));
    all
}

fn has_git() -> bool {
    Repository::with(&FILES).run_git(&["version"]).is_some()
}

#[test]
fn every_day_git_works_in_the_cage() {
    if !has_git() {
        return;
    }
    let all = in_vain(
        "test -z \"$(git status --porcelain)\"\ngit switch -q -c side\necho two >> a.txt\ngit add a.txt\ngit commit -q -m work\n\
         echo half >> dir/b.txt\ngit stash -q\ntest -z \"$(git status --porcelain)\"\ngit stash pop -q\ngit branch other\n\
         git gc -q\ngit fsck --no-dangling\ngit log --oneline | grep -q work\ngit restore dir/b.txt",
    );
    for (repository, _) in all {
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\ntwo\n");
        assert_eq!(repository.refs("refs/heads/*"), ["refs/heads/main", "refs/heads/swarm/it"]);
    }
}

#[test]
fn configuration_that_runs_programs_does_run_them_outside() {
    // The control of all that follows: the same act on an ordinary repository leaves the mark.
    let repository = Repository::with(&FILES);
    let mark = repository.beside("mark");
    let program = repository.beside("program");
    fs::write(&program, format!("#!/bin/sh\ntouch '{}'\n", mark.display())).expect("a file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("our own");
    repository
        .git()
        .config()
        .expect("it has one")
        .set_str("core.fsmonitor", &program.display().to_string())
        .expect("writable");
    if repository.run_git(&["status", "--short"]).is_some() {
        assert!(mark.exists(), "the attack works where nothing hinders it");
    }
}

#[test]
fn escape_1_a_pointer_to_an_evil_git_folder() {
    refused_or_in_vain(
        "rm -rf .git || true\nmkdir -p evil/.git && printf '[core]\\n\\tfsmonitor = touch %s\\n' \"$MARK\" > evil/.git/config || true\n\
         echo 'gitdir: ./evil/.git' > .git || true",
    );
}

/// Either the collector refuses the result or it takes what is harmless in it; the host is untouched in both cases.
fn refused_or_in_vain(script: &str) {
    for (repository, ended) in hostile(script) {
        if ended.fates().get("a").is_some_and(|fate| fate == "landed") {
            let files = repository.files("swarm/it");
            assert!(!files.keys().any(|path| path.to_lowercase().split('/').any(|name| name == ".git")), "{files:?}");
        }
    }
}

#[test]
fn escape_2_to_5_another_configuration_hooks_and_worktrees() {
    in_vain(
        "printf '[core]\\n\\tfsmonitor = touch %s\\n\\tpager = touch %s\\n[alias]\\n\\tstatus = !touch %s\\n' \"$MARK\" \"$MARK\" \"$MARK\" >> .git/config\n\
         mkdir -p .git/hooks\nfor hook in post-checkout pre-commit post-merge reference-transaction; do\n\
         printf '#!/bin/sh\\ntouch %s\\n' \"$MARK\" > .git/hooks/$hook; chmod +x .git/hooks/$hook\ndone\n\
         mkdir -p .git/worktrees/x\necho ../../evil > .git/worktrees/x/commondir\necho x > .git/worktrees/x/gitdir\n\
         mv .git .git.bak || true\nmv .git.bak .git || true",
    );
}

#[test]
fn escape_6_and_16_refs_objects_and_locks() {
    let all = in_vain(
        "mkdir -p .git/refs/heads\necho 0000000000000000000000000000000000000000 > .git/refs/heads/main\nrm -f .git/packed-refs\n\
         touch .git/index.lock .git/config.lock .git/HEAD.lock\n\
         test -n \"$(find \"$(cat .git/objects/info/alternates)\" -type f)\"\n\
         for file in $(find \"$(cat .git/objects/info/alternates)\" -type f | head -n 20); do echo junk > \"$file\" || true; rm -f \"$file\" || true; done\n\
         git gc --prune=now || true",
    );
    assert!(all.iter().all(|(repository, _)| !repository.path().join(".git/index.lock").exists()));
}

#[test]
fn escape_7_and_15_planted_object_stores() {
    for (repository, ended) in
        in_vain("echo /etc >> .git/objects/info/alternates\nln -s \"$HOME/.ssh\" .git/objects/planted\necho x > x.txt")
    {
        assert_eq!(repository.text("swarm/it", "x.txt"), "x\n", "{ended}");
        let again = "[tasks.a]\nrun = 'test ! -L .git/objects/planted; echo y > y.txt'\n";
        Swarm::run(&repository, "again", again).exits(0);
    }
}

#[test]
fn escape_8_a_repository_in_the_tree() {
    refused_or_in_vain(
        "mkdir -p sub/.git\nprintf '[core]\\n\\tfsmonitor = touch %s\\n' \"$MARK\" > sub/.git/config\necho x > sub/x.txt",
    );
}

#[test]
fn escape_9_attributes_and_modules_are_content() {
    let all = in_vain(
        "echo '* filter=x merge=y export-subst' > .gitattributes\n\
         printf '[submodule \"x\"]\\n\\tpath = ok\\n\\turl = https://example.org/x\\n' > .gitmodules",
    );
    refused("printf '[submodule \"../../x\"]\\n\\tpath = ok\\n\\turl = https://example.org/x\\n' > .gitmodules");
    refused("printf '[submodule \"x\"]\\n\\tpath = ../../x\\n\\turl = ext::sh -c evil\\n' > .gitmodules");
    all.iter().for_each(|(repository, _)| assert!(repository.text("swarm/it", ".gitattributes").contains("filter=x")));
}

#[test]
fn escape_10_names_that_other_systems_read_as_git() {
    for name in [".GIT", "GIT~1", "$(printf '.g\\342\\200\\214it')"] {
        refused(&format!("mkdir \"{name}\"\necho x > \"{name}/config\""));
    }
    refused("echo x > readme");
}

#[test]
fn escape_11_links_out_of_the_tree() {
    refused("ln -s /etc d");
    refused("ln -s ../../outside dir/d");
    let all = in_vain("ln -s a.txt ok");
    all.iter().for_each(|(repository, _)| assert_eq!(repository.text("swarm/it", "ok"), "a.txt"));
}

#[test]
fn escape_12_odd_modes_are_made_ordinary() {
    for (repository, _) in in_vain("echo x > odd\nchmod 4777 odd || chmod 777 odd") {
        let git = repository.git();
        let tree = git.find_tree(repository.tree("swarm/it")).expect("it landed");
        assert_eq!(tree.get_name("odd").expect("it is there").filemode(), 0o100_755);
    }
}

#[test]
fn escape_13_a_stash_stays_with_its_worker() {
    if !has_git() {
        return;
    }
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = 'echo x >> a.txt; git stash -q; test -n \"$(git stash list)\"'\n\
                [tasks.b]\nneeds = ['a']\nrun = 'test -z \"$(git stash list)\"'\n";
    Swarm::run(&repository, "it", plan).exits(0);
}

#[test]
fn escape_17_what_a_task_wrote_is_checked_in_the_cage_too() {
    let repository = Repository::with(&FILES);
    let mark = repository.beside("mark");
    let plan = format!(
        "[tasks.a]\nrun = 'printf \"#!/bin/sh\\ntouch {}\\n\" > check.sh; chmod +x check.sh'\ncheck = ['./check.sh || true']\n",
        mark.display()
    );
    Swarm::run(&repository, "it", &plan).exits(0);
    assert!(!mark.exists());
    let control = std::process::Command::new("touch").arg(&mark).status();
    assert!(control.is_ok_and(|status| status.success()) && mark.exists(), "outside the cage the same act works");
}

#[test]
fn a_link_in_the_way_of_a_cache_is_not_followed_to_the_host() {
    let files = [("a.txt", "one\n"), ("x/keep", "k\n"), (".gitignore", "node/\n")];
    let cached = |repository: &Repository| repository.write("node/.cache/ours", "ours\n");
    let cache = "[workspace]\ncache = ['node/.cache']\n";

    let repository = Repository::with(&files);
    cached(&repository);
    let host = repository.beside("host");
    fs::create_dir_all(host.join(".cache")).expect("folders");
    fs::write(host.join(".cache/kept"), "kept").expect("a file");
    let setup = format!("{cache}setup = 'rm -rf node; ln -s {} node'\n[tasks.a]\nrun = 'true'\n", host.display());
    let Some(swarm) = Swarm::run(&repository, "it", &setup).without_namespaces() else { return };
    let ended = swarm.end();
    assert_eq!(ended.code, 2, "{ended}");
    assert!(
        ended.err.contains("it left node, which no worktree can be given: it is a link or a file in the way of"),
        "{ended}"
    );
    assert!(ended.err.contains("hint: mend `setup` in the plan") && !ended.err.contains("swarm resume"), "{ended}");
    let names: Vec<_> = fs::read_dir(host.join(".cache")).expect("it is there").collect();
    assert_eq!((names.len(), fs::read(host.join(".cache/kept")).ok()), (1, Some(b"kept".to_vec())), "{ended}");

    let repository = Repository::with(&files);
    cached(&repository);
    let chain =
        |act: &str| format!("{cache}[tasks.a]\nrun = '{act}'\n[tasks.b]\nneeds = ['a']\nrun = 'ls -aR > list'\n");
    for act in ["rm -rf node; ln -s x node", "rm -rf node; echo > node"] {
        let swarm = Swarm::run(&repository, "it", &chain(act)).without_namespaces().expect("as before");
        let ended = swarm.exits(1);
        assert_eq!((ended.result("a"), ended.result("b")), ("violation".to_owned(), "blocked".to_owned()), "{ended}");
        assert!(ended.out.contains("[workspace] cache") && ended.out.contains("node"), "{ended}");
        assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
    }
    let control = Swarm::run(&repository, "it", &chain("echo > node/.cache/mine; echo > b.txt")).without_namespaces();
    let ended = control.expect("as before").exits(0);
    assert!(repository.text("swarm/it", "list").contains("ours"), "{ended}");
    assert!(!repository.files("swarm/it").keys().any(|path| path.contains(".cache")), "{ended}");
}

#[test]
fn pipes_and_sockets_can_be_made_in_tmpdir_wherever_the_repository_lies() {
    for parent in ["/tmp", "/var/tmp"] {
        let repository = Repository::with(&FILES);
        let folder = tempfile::tempdir_in(parent).expect("a folder");
        let clone = folder.path().join("clone");
        git2::Repository::clone(&repository.path().display().to_string(), &clone).expect("a clone");
        let plan = "[tasks.a]\nrun = 'mkfifo $TMPDIR/p; test -p $TMPDIR/p; echo x > $TMPDIR/f; test -n \"$(mktemp)\"; echo x > /tmp/f'\n\
            [tasks.b]\nrun = 'mkfifo pipe'\n[tasks.c]\nrun = 'mkfifo /tmp/p'\n";
        let ended = Swarm::run(&repository, "it", plan).current_dir(&clone).exits(1);
        assert_eq!((ended.result("a"), ended.result("b")), ("succeeded".to_owned(), "failed".to_owned()), "{ended}");
        let namespaces = ended.events_of("run-started")[0]["enforcement"]["tier"] == "namespaces";
        if namespaces && parent == "/tmp" {
            let said = "or in /tmp, which holds it\",\"rule\":\"no cage allows it there; in $TMPDIR it is allowed";
            assert_eq!(ended.out.matches(said).count(), 2, "{ended}");
        } else if namespaces {
            assert_eq!(ended.result("c"), "succeeded", "{ended}");
        }
    }
}

#[test]
fn what_setup_writes_to_a_cache_is_left_out_and_said_in_every_run() {
    let repository = Repository::with(&[("a.txt", "one\n"), (".gitignore", "out/\nquiet/\nmade\n")]);
    ["out/ours", "quiet/ours"].iter().for_each(|path| repository.write(path, "ours\n"));
    let plan = "[workspace]\ncache = ['out', 'quiet']\nsetup = 'echo theirs > out/theirs; cat quiet/ours > made'\n\
        [tasks.a]\nrun = 'ls out > list; cat made >> list'\n";
    let harmless = plan.replace("echo theirs > out/theirs;", "");
    let swarm = |plan: &str| {
        let path = repository.beside("it.toml");
        fs::write(&path, format!("version = 1\n{plan}")).expect("space");
        Swarm::new(&repository, &["run", &path.display().to_string()])
    };
    let says = |swarm: Swarm, times: usize| {
        let ended = swarm.exits(0);
        assert_eq!(repository.text("swarm/it", "list"), "ours\nours\n", "{ended}");
        let told = ended.err.matches("note: what `[workspace] setup` wrote to out is left out").count();
        assert_eq!((told, ended.err.matches("is left out").count()), (times, times), "{ended}");
    };
    says(swarm(plan), 1);
    says(swarm(plan), 1);
    let status = Swarm::new(&repository, &["status"]).exits(0);
    assert_eq!(status.out.matches("note: what `[workspace] setup` wrote to out is left out").count(), 1, "{status}");
    says(swarm(&harmless), 0);
    for (plan, times) in [(plan, 1), (&harmless, 0)] {
        let Some(copied) = swarm(plan).without_namespaces() else { return };
        says(copied, times);
    }
}

/// What a worker tells its own git decides nothing; its files and the ignore rules do.
#[test]
fn what_an_ignore_rule_covers_stays_out_also_when_it_was_added_by_force() {
    let repository = Repository::with(&[(".gitignore", "*.log\n"), ("a.txt", "one\n")]);
    let script = "echo x > x.log; git add -f x.log; git commit -qm work; echo 2 > a.txt";
    Swarm::run(&repository, "it", &format!("[tasks.a]\nrun = '{script}'\n")).exits(0);
    assert_eq!(repository.files("swarm/it").keys().collect::<Vec<_>>(), [".gitignore", "a.txt"]);
    let control = format!("[tasks.a]\nrun = 'echo \"!x.log\" >> .gitignore; {script}'\n");
    Swarm::run(&repository, "it", &control).args(&["--into", "other"]).exits(0);
    assert_eq!(repository.files("other").keys().collect::<Vec<_>>(), [".gitignore", "a.txt", "x.log"]);
    // Nor does a history that is kept tell it: one commit stands for all.
    let kept = |script: &str| format!("[tasks.a]\nrun = '{script}'\n[merge]\nhistory = 'keep'\n");
    let ended = Swarm::run(&repository, "it", &kept(script)).args(&["--into", "kept"]).exits(0);
    assert!(ended.out.contains("one of its commits holds x.log, which stays out of its change"), "{ended}");
    let commits = |branch: &str| {
        let git = repository.git();
        let mut walk = git.revwalk().expect("a repository");
        walk.push_ref(&format!("refs/heads/{branch}")).expect("a branch");
        walk.count()
    };
    assert_eq!(commits("kept"), 2);
    repository.write("copied.log", "mine\n");
    let copied = format!(
        "[workspace]\ncopy = ['copied.log']\n{}",
        kept("git add -f copied.log; git commit -qm all; echo 2 > a.txt")
    );
    Swarm::run(&repository, "it", &copied).args(&["--into", "copied"]).exits(0);
    assert_eq!((commits("copied"), repository.files("copied").contains_key("copied.log")), (2, false));
    // Not even where a later commit takes it back, with the file or without.
    repository.write("mine.log", "mine\n");
    let undone = |name: &str, file: &str, rm: &str| {
        let script = format!(
            "mkdir -p $(dirname {file}); echo x >> {file}; git add -f {file}; git commit -qm work; git rm -qf {rm} {file}; git commit -qm undo; echo {name} > a.txt; \
             git commit -qam two; echo 3 > b.txt"
        );
        let plan = format!("[workspace]\ncopy = ['mine.log']\n{}", kept(&script));
        let ended = Swarm::run(&repository, "it", &plan).args(&["--into", name]).exits(0);
        (commits(name), ended.out.contains("which stays out of its change"))
    };
    assert_eq!(undone("u1", "x.log", "--cached"), (2, true));
    assert_eq!(undone("u2", "x.log", "--"), (2, true));
    assert_eq!(undone("u3", "mine.log", "--cached"), (2, true));
    assert_eq!(undone("u4", "in.log/deep/x", "--"), (2, true));
    assert_eq!(undone("u5", "x.tmp", "--"), (5, false), "the control");
    let plain = "git commit -q --allow-empty -m none; echo 2 > a.txt; git commit -qam two; echo 3 > a.txt; git commit -qam three";
    Swarm::run(&repository, "it", &kept(plain)).args(&["--into", "plain"]).exits(0);
    assert_eq!(commits("plain"), 3, "the control");
}

/// Build tools decide by times; here it is `test -nt`.
#[test]
fn what_the_checkout_built_is_older_than_what_differs_from_it_in_every_run() {
    let repository = Repository::with(&[("src.txt", "one\n"), (".gitignore", "out/\n")]);
    repository.write("src.txt", "two, and longer\n");
    repository.commit_all("two");
    let build = || repository.write("out/built", "of what the checkout holds\n");
    let plan = |base: &str| {
        format!(
            "base = '{base}'\nworkspace.cache = ['out']\n\
             tasks.same = {{ run = 'test ! src.txt -nt out/built || test {base} != HEAD' }}\n\
             tasks.edits = {{ run = 'echo three > src.txt', check = 'test src.txt -nt out/built' }}\n\
             tasks.looks = {{ run = 'test src.txt -nt out/built', needs = ['edits'] }}\n"
        )
    };
    for base in ["HEAD", "HEAD~1"] {
        for round in ["first", "second"] {
            build();
            let branch = format!("it-{round}-{}", base.len());
            Swarm::run(&repository, "it", &plan(base)).args(&["--into", &branch]).exits(0);
        }
    }
    // The base is prepared already, and of what the checkout holds now nothing was built.
    repository.write("src.txt", "one, and longest of all\n");
    repository.commit_all("one again");
    build();
    let other = "base = 'HEAD~1'\nworkspace.cache = ['out']\ntasks.looks = { run = 'test src.txt -nt out/built' }\n";
    Swarm::run(&repository, "it", other).args(&["--into", "it-other"]).exits(0);
}

#[test]
fn what_tools_look_for_above_a_worktree_is_there_to_be_read_or_not_there() {
    // As cargo looks for a workspace: a file above that is there and cannot be read ends it.
    let script =
        "d=$PWD; while d=${d%/*} && [ -n \"$d\" ]; do\n  [ ! -e \"$d/tox.ini\" ] || cat \"$d/tox.ini\" || exit 1\ndone";
    for (_, ended) in in_vain(script) {
        assert!(ended.events_of("attempt-finished").len() == 1, "{ended}");
    }
}
