//! A real git inside the cage, and a repository outside of it that no worker can touch. The numbers are those of the list
//! of escapes: each act is tried by a task, and what it would have done to the host is looked for afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 3] = [("a.txt", "one\n"), ("dir/b.txt", "b\n"), ("README", "read me\n")];

/// Runs a script as the only task, after which the checkout and `.git` must be as before; `$MARK` is a path outside the cage
/// that must not appear, not even when somebody uses git on the repository afterwards.
fn hostile(script: &str) -> (Repository, Ended) {
    let repository = Repository::with(&FILES);
    let mark = repository.beside("mark");
    let before = repository.freeze("swarm/it");
    let plan = format!("[tasks.a]\nenv = {{ MARK = '{}' }}\nrun = '''\n{script}\n'''\n", mark.display());
    let ended = Swarm::run(&repository, "it", &plan).end();
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
    (repository, ended)
}

/// Runs a script whose result must not be taken.
fn refused(script: &str) {
    let (repository, ended) = hostile(script);
    assert_eq!(ended.result("a"), "violation", "{ended}");
    assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
}

/// Runs a script that succeeds, in vain.
fn in_vain(script: &str) -> (Repository, Ended) {
    let (repository, ended) = hostile(script);
    assert_eq!(ended.result("a"), "succeeded", "{ended}");
    (repository, ended)
}

fn has_git() -> bool {
    Repository::with(&FILES).run_git(&["version"]).is_some()
}

#[test]
fn every_day_git_works_in_the_cage() {
    if !has_git() {
        return;
    }
    let (repository, _) = in_vain(
        "test -z \"$(git status --porcelain)\"\ngit switch -q -c side\necho two >> a.txt\ngit add a.txt\ngit commit -q -m work\n\
         echo half >> dir/b.txt\ngit stash -q\ntest -z \"$(git status --porcelain)\"\ngit stash pop -q\ngit branch other\n\
         git gc -q\ngit fsck --no-dangling\ngit log --oneline | grep -q work\ngit restore dir/b.txt",
    );
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\ntwo\n");
    assert_eq!(repository.refs("refs/heads/*"), ["refs/heads/main", "refs/heads/swarm/it"]);
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
    let (repository, ended) = hostile(script);
    if ended.fates().get("a").is_some_and(|fate| fate == "landed") {
        let files = repository.files("swarm/it");
        assert!(!files.keys().any(|path| path.to_lowercase().split('/').any(|name| name == ".git")), "{files:?}");
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
    let (repository, _) = in_vain(
        "mkdir -p .git/refs/heads\necho 0000000000000000000000000000000000000000 > .git/refs/heads/main\nrm -f .git/packed-refs\n\
         touch .git/index.lock .git/config.lock .git/HEAD.lock\n\
         test -n \"$(find \"$(cat .git/objects/info/alternates)\" -type f)\"\n\
         for file in $(find \"$(cat .git/objects/info/alternates)\" -type f | head -n 20); do echo junk > \"$file\" || true; rm -f \"$file\" || true; done\n\
         git gc --prune=now || true",
    );
    assert!(!repository.path().join(".git/index.lock").exists());
}

#[test]
fn escape_7_and_15_planted_object_stores() {
    let (repository, ended) =
        in_vain("echo /etc >> .git/objects/info/alternates\nln -s \"$HOME/.ssh\" .git/objects/planted\necho x > x.txt");
    assert_eq!(repository.text("swarm/it", "x.txt"), "x\n", "{ended}");
    let again =
        Swarm::run(&repository, "again", "[tasks.a]\nrun = 'test ! -e .git/objects/planted; echo y > y.txt'\n").end();
    assert_eq!(again.code, 0, "{again}");
}

#[test]
fn escape_8_a_repository_in_the_tree() {
    refused_or_in_vain(
        "mkdir -p sub/.git\nprintf '[core]\\n\\tfsmonitor = touch %s\\n' \"$MARK\" > sub/.git/config\necho x > sub/x.txt",
    );
}

#[test]
fn escape_9_attributes_and_modules_are_content() {
    let (repository, _) = in_vain(
        "echo '* filter=x merge=y export-subst' > .gitattributes\n\
         printf '[submodule \"../../x\"]\\n\\tpath = ok\\n\\turl = https://example.org/x\\n' > notes.gitmodules",
    );
    assert!(repository.text("swarm/it", ".gitattributes").contains("filter=x"));
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
    let (repository, _) = in_vain("ln -s a.txt ok");
    assert_eq!(repository.text("swarm/it", "ok"), "a.txt");
}

#[test]
fn escape_12_odd_modes_are_made_ordinary() {
    let (repository, _) = in_vain("echo x > odd\nchmod 4777 odd || chmod 777 odd");
    let git = repository.git();
    let tree = git.find_tree(repository.tree("swarm/it")).expect("it landed");
    assert_eq!(tree.get_name("odd").expect("it is there").filemode(), 0o100_755);
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
