//! Repositories, plans and disks that are not as they should be: each has a clear answer, and nothing is lost.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::Signal;
use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];
/// Runs the command behind it under a umask under which nobody can use what they make.
const KEPT_OUT: &[&str] = &["sh", "-c", "umask 0111 && exec \"$@\"", "sh"];

#[test]
fn a_umask_that_keeps_us_out_of_what_we_make_is_named_with_what_to_type() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let refused = Swarm::run(&repository, "it", EDIT).through(KEPT_OUT).exits(3);
    assert!(refused.err.contains("the umask 0111 keeps its own owner out"), "{refused}");
    assert!(
        refused.err.contains("hint: the umask of this shell is 0111") && refused.err.contains(": umask 022"),
        "{refused}"
    );
    assert!(!repository.path().join(".git/swarm").exists(), "nothing was begun");
    Swarm::run(&repository, "it", EDIT).through(&["sh", "-c", "umask 077 && exec \"$@\"", "sh"]).exits(0);
    let told = Swarm::new(&repository, &["exec", "--", "true"]).through(KEPT_OUT).exits(3);
    assert!(told.err.contains(": umask 022"), "{told}");
}

const EDIT: &str = "[tasks.a]\nrun = 'echo two >> a.txt'\n";

/// Runs the edit with a change to the command line; it must be refused with a code and these words.
fn refused(repository: &Repository, arguments: &[&str], code: i32, words: &[&str]) {
    let ended = Swarm::run(repository, "it", EDIT).args(arguments).exits(code);
    says(&ended, words);
    assert!(ended.err.contains("error:"), "{ended}");
}

fn says(ended: &Ended, words: &[&str]) {
    words.iter().for_each(|word| assert!(ended.err.contains(word), "`{word}` is missing: {ended}"));
}

/// Runs the edit in another folder, where it must land.
fn lands(repository: &Repository, folder: &Path, words: &[&str]) {
    let ended = Swarm::run(repository, "it", EDIT).current_dir(folder).exits(0);
    assert_eq!(ended.fate("a"), "landed");
    let found = words.iter().all(|word| ended.out.contains(word));
    assert!(found, "{words:?}: {ended}");
}

#[test]
fn a_repository_without_commits() {
    refused(&Repository::empty(), &[], 3, &["commit", "hint:"]);
}

/// The plan asks for it as an item, so the plan is what has to change.
#[test]
fn a_name_that_no_template_can_hold_is_refused_as_an_item_and_nothing_else() {
    let repository = Repository::with(&FILES);
    std::fs::write(repository.path().join(OsStr::from_bytes(b"\xff.txt")), "odd\n").expect("a file");
    repository.commit_all("odd\n");
    let fan = |glob: &str| {
        let plan = format!(
            "[tasks.a]\nforeach.f = {{ glob = '{glob}' }}\nenv = {{ F = '{{{{ f }}}}' }}\nrun = 'echo x >> \"$F\"'\n"
        );
        Swarm::run(&repository, "it", &plan)
    };
    let ended = fan("*.txt").exits(2);
    says(
        &ended,
        &[
            "failed to use `\\xff.txt` as an item: its name is not UTF-8",
            "hint: let the glob of `foreach` leave it out",
        ],
    );
    assert!(ended.events().is_empty(), "no run begins: {ended}");
    let plan = repository.beside("it.toml").display().to_string();
    for command in [&["check", &plan][..], &["explain", "--task", "a", &plan]] {
        let ended = Swarm::new(&repository, command).exits(2);
        says(
            &ended,
            &[
                "failed to use `\\xff.txt` as an item: its name is not UTF-8",
                "hint: let the glob of `foreach` leave it out",
            ],
        );
    }
    fan("a*.txt").exits(0);
}

#[test]
fn a_folder_without_a_repository() {
    let repository = Repository::empty();
    let ended = Swarm::run(&repository, "it", EDIT).current_dir(&repository.home()).exits(3);
    says(&ended, &["git repository"]);
}

#[test]
fn a_bare_repository_gets_its_branch() {
    let repository = Repository::with(&FILES);
    let bare = repository.beside("bare.git");
    git2::build::RepoBuilder::new().bare(true).clone(&repository.path().display().to_string(), &bare).expect("a clone");
    lands(&repository, &bare, &[]);
    assert!(git2::Repository::open(&bare).expect("bare").find_reference("refs/heads/swarm/it").is_ok());
}

#[test]
fn shallow_and_partial_clones_say_so() {
    let repository = Repository::with(&FILES);
    repository.write("a.txt", "later\n");
    repository.commit_all("second\n");
    let url = format!("file://{}", repository.path().display());
    repository.git().config().expect("it has one").set_bool("uploadpack.allowFilter", true).expect("writable");
    for (name, option) in [("shallow", "--depth=1"), ("partial", "--filter=blob:none")] {
        let clone = repository.beside(name);
        if repository.run_git(&["clone", "-q", option, &url, &clone.display().to_string()]).is_none() {
            return;
        }
        lands(&repository, &clone, &[name]);
    }
}

/// Three commits, of which a partial clone fetches the blobs of the last only.
fn partial_clone(repository: &Repository) -> Option<std::path::PathBuf> {
    for text in ["one\nlater\n", "one\nlater\nlast\n"] {
        repository.write("a.txt", text);
        repository.commit_all("more\n");
    }
    let url = format!("file://{}", repository.path().display());
    repository.git().config().expect("it has one").set_bool("uploadpack.allowFilter", true).expect("writable");
    let clone = repository.beside("partial");
    repository.run_git(&["clone", "-q", "--filter=blob:none", &url, &clone.display().to_string()])?;
    Some(clone)
}

#[test]
fn git_works_in_a_worktree_of_a_partial_clone_and_says_what_was_never_fetched() {
    let repository = Repository::with(&FILES);
    let Some(clone) = partial_clone(&repository) else { return };
    let script = "git gc -q --prune=now; git fsck; git log --oneline -3; git blame -s dir/b.txt\n\
        echo more >> a.txt; git commit -qam mine; git gc -q; git repack -adq; git show HEAD:a.txt\n\
        ! git show HEAD~3:a.txt 2> said; cat said\n\
        grep -q 'from promisor remote' said; grep -q 'not/fetched/inside/a/worktree' said; rm said\n";
    let plan = format!("[tasks.a]\nrun = \"\"\"\n{script}\"\"\"\n");
    for tier in [Some as fn(Swarm) -> Option<Swarm>, Swarm::without_namespaces] {
        let Some(swarm) = tier(Swarm::run(&repository, "it", &plan).current_dir(&clone)) else { return };
        let ended = swarm.end();
        let log = Swarm::new(&repository, &["logs", "a"]).current_dir(&clone).end();
        assert_eq!((ended.code, ended.fate("a").as_str()), (0, "landed"), "{log}");
    }
}

#[test]
fn a_detached_head_is_a_base_like_any_other() {
    let repository = Repository::with(&FILES);
    repository.git().set_head_detached(repository.commit_of("main").expect("a commit")).expect("it exists");
    lands(&repository, &repository.path(), &[]);
}

#[test]
fn no_identity_is_replaced_and_told() {
    let repository = Repository::with(&FILES);
    let mut config = repository.git().config().expect("it has one");
    for key in ["user.name", "user.email"] {
        config.remove(key).expect("it was set");
    }
    lands(&repository, &repository.path(), &["user.name"]);
    let tip = repository.commit_of("swarm/it").expect("it landed");
    assert_eq!(repository.git().find_commit(tip).expect("a commit").author().name(), Ok("swarm"));
}

#[test]
fn a_checked_out_target_is_not_moved() {
    let repository = Repository::with(&FILES);
    let before = repository.commit_of("main");
    refused(&repository, &["--into", "main"], 2, &["checked out", "--into"]);
    repository.run_git(&["switch", "-q", "-c", "swarm/it"]).expect("a branch");
    refused(&repository, &[], 2, &["checked out", "name another, --into swarm/it-2", " switch --detach leaves"]);
    repository.run_git(&["switch", "-q", "main"]).expect("a branch");
    repository.run_git(&["branch", "-q", "-D", "swarm/it"]).expect("a branch");
    assert_eq!(repository.commit_of("main"), before);
}

#[test]
fn a_target_that_went_another_way_is_not_forced() {
    let repository = Repository::with(&FILES);
    let git = repository.git();
    let first = git.find_commit(repository.commit_of("main").expect("a commit")).expect("it is there");
    git.branch("old", &first, false).expect("a branch");
    git.set_head("refs/heads/old").expect("a branch");
    repository.write("other.txt", "x");
    let theirs = repository.commit_all("theirs\n");
    git.set_head("refs/heads/main").expect("a branch");
    git.checkout_head(Some(git2::build::CheckoutBuilder::new().force())).expect("a checkout");
    repository.write("main.txt", "x");
    repository.commit_all("ours\n");
    refused(&repository, &["--into", "old"], 2, &["another way", "hint:"]);
    assert_eq!(repository.commit_of("old"), Some(theirs));
}

#[test]
fn a_shell_that_lets_few_files_be_open_is_named_as_the_cause() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", EDIT).exits(0);
    let few = ["sh", "-c", "ulimit -n 7; exec \"$0\" \"$@\""];
    let refused = Swarm::new(&repository, &["apply"]).through(&few).exits(3);
    says(&refused, &["7 files may be open at once here", "ulimit -n 4096"]);
    assert_eq!(repository.commit_of("main"), repository.commit_of("HEAD"));
    Swarm::new(&repository, &["apply"]).exits(0);
}

#[test]
fn a_missing_shell_is_named() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nshell = ['no-such-shell', '-c']\nrun = 'true'\n";
    says(&Swarm::run(&repository, "it", plan).exits(1), &["no-such-shell"]);
}

#[test]
fn a_plan_without_tasks_and_one_that_is_none() {
    let repository = Repository::with(&FILES);
    says(&Swarm::run(&repository, "it", "").exits(2), &["the plan has no tasks"]);
    says(&Swarm::run(&repository, "it", "[tasks.a\n").exits(2), &["error"]);
    says(&Swarm::new(&repository, &["run", "nowhere.toml"]).exits(2), &["nowhere.toml"]);
}

#[test]
fn ten_mistakes_are_shown_at_once() {
    let repository = Repository::with(&FILES);
    let plan = "jbos = 2\ndeadline = 'soon'\n[tasks.a]\nrun = 'true'\nneeds = ['x1']\ntimeout = 'x'\nwirtes = []\n\
                [tasks.b]\nrun = '{{ nothing }}'\nargv = ['a']\n[tasks.c]\nneeds = ['d']\nrun = 'true'\n\
                [tasks.d]\nneeds = ['c']\nrun = 'true'\npriority = 'high'\n[tasks.e]\n[budget]\nusd = 1\n";
    let ended = Swarm::run(&repository, "it", plan).exits(2);
    let count = ended.err.matches("error: ").count() + ended.err.matches("error[").count();
    assert!(count >= 10, "{count}: {ended}");
    assert!(!repository.path().join(".git/swarm").exists(), "nothing was begun");
}

#[test]
fn fan_outs_over_files_that_do_not_fit_are_shown_in_the_plan_before_anything_begins() {
    let repository = Repository::with(&[("a.txt", "a\n"), ("b.txt", "b\n"), ("c.txt", "c\n")]);
    let plan = "[tasks.a]\nrun = 'true'\nforeach.f = { glob = '*.txt' }\n\
        [tasks.b]\nrun = 'true'\nneeds = ['a[f=d.txt]']\n[tasks.c]\nrun = 'true'\nneeds = ['a[f=nothing]']\n\
        [tasks.d]\nrun = 'true'\nforeach.f = { glob = '*.txt' }\nforeach-max = 2\n";
    let run = Swarm::run(&repository, "it", plan).exits(2);
    let path = repository.beside("it.toml").display().to_string();
    let check = Swarm::new(&repository, &["check", &path]).exits(2);
    for ended in [run, check] {
        says(
            &ended,
            &[
                "`b` needs `a[f=d.txt]`, which does not exist",
                "7 | needs = ['a[f=d.txt]']",
                "did you mean `a[f=a.txt]`?",
                "10 | needs = ['a[f=nothing]']",
                "`d` got 3 items, and its foreach-max is 2",
                "13 | foreach.f",
                "error: the plan has 3 errors",
            ],
        );
    }
    says(&Swarm::new(&repository, &["list"]).exits(0), &["no runs yet"]);
}

#[test]
fn names_of_any_bytes_in_the_tree_are_kept() {
    let repository = Repository::empty();
    let names: [&[u8]; 4] = [b"new\nline.txt", b"\xff\xfe.txt", b"tab\t \"quoted\" \\.txt", "ü.txt".as_bytes()];
    names.iter().for_each(|name| repository.write(Path::new(OsStr::from_bytes(name)), "one\n"));
    repository.commit_all("first\n");
    let plan = "[tasks.a]\nrun = 'for file in ./*.txt; do echo two >> \"$file\"; done'\n";
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    let files = repository.files("swarm/it");
    assert!(files.len() == 4 && files.values().all(|content| content == b"one\ntwo\n"), "{files:?} {ended}");
    let checkout = repository.freeze("swarm/it");
    assert_eq!(checkout.differences(&repository.freeze("swarm/it")), Vec::<String>::new());
}

#[test]
fn a_worker_may_make_names_of_any_bytes() {
    let repository = Repository::with(&FILES);
    let plan = "[tasks.a]\nrun = '''printf x > \"$(printf 'new\\nline')\"; printf x > \"$(printf '\\377')\"'''\n";
    let ended = Swarm::run(&repository, "it", plan).end();
    // Landed or refused by name, but never half of it, and never raw on the screen.
    match ended.code {
        0 => assert_eq!(repository.files("swarm/it").len(), 4),
        code => assert_eq!((code, ended.result("a").as_str()), (1, "violation"), "{ended}"),
    }
}

#[test]
fn a_state_folder_that_cannot_be_made() {
    let repository = Repository::with(&FILES);
    refused(
        &repository,
        &["--state-dir", "a.txt/state"],
        3,
        &["a.txt/state", "a.txt is a file, where swarm keeps a folder"],
    );
}

#[test]
fn something_else_in_the_place_of_a_state_file_or_folder_is_said_with_how_it_is_put_aside() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", EDIT).exits(0);
    let state = repository.path().join(".git/swarm");
    for file in ["journal.sqlite", "in-use", "locks/refs+2Fheads+2Fswarm+2Fit"] {
        let at = state.join(file);
        std::fs::rename(&at, state.join("aside")).expect("it is ours");
        std::fs::create_dir(&at).expect("it is ours");
        let mend = format!("{} is a folder, where swarm keeps a file; put it aside: mv ", at.display());
        refused(&repository, &[], 3, &[&mend]);
        std::fs::remove_dir_all(&at).expect("it is ours");
        std::fs::rename(state.join("aside"), &at).expect("it is ours");
    }
    for folder in ["runs", "locks", ""] {
        let at = state.join(folder);
        std::fs::rename(&at, repository.beside("aside")).expect("it is ours");
        let at = at.components().collect::<std::path::PathBuf>();
        std::fs::write(&at, "").expect("it is ours");
        let mend = format!("{} is a file, where swarm keeps a folder; put it aside: mv ", at.display());
        refused(&repository, &[], 3, &[&mend]);
        if folder.is_empty() {
            says(&Swarm::new(&repository, &["list"]).exits(3), &[&mend]);
        }
        std::fs::remove_file(&at).expect("it is ours");
        std::fs::rename(repository.beside("aside"), &at).expect("it is ours");
    }
    Swarm::run(&repository, "it", EDIT).exits(0);
}

#[test]
fn a_second_coordinator_on_the_same_target_is_told_to_wait() {
    let repository = Repository::with(&FILES);
    let mut first = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'sleep 50'\n").start();
    assert!(first.says("attempt-started"), "it starts");
    let pid = first.pid().to_string();
    refused(&repository, &[], 8, &["another coordinator", &pid]);
    let other = Swarm::run(&repository, "it", EDIT).args(&["--into", "swarm/other"]).exits(0);
    assert_eq!(other.fate("a"), "landed");
    first.signal(Signal::TERM);
    assert_eq!(first.end().code, 143);
}

#[test]
fn a_bit_that_flipped_in_what_the_journal_says_of_a_run_is_told_and_costs_no_other_run_anything() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", EDIT).exits(0);
    Swarm::run(&repository, "other", EDIT).args(&["--into", "swarm/other"]).exits(0);
    let journal = repository.path().join(".git/swarm/journal.sqlite");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    // Its id, its plan's name, and behind a number that takes no place the hash of its plan.
    let row = b"it-1it";
    let at = bytes.windows(row.len()).position(|window| window == row).expect("its row");
    bytes[at + row.len()] ^= 1;
    std::fs::write(&journal, bytes).expect("space");
    for words in [&["status", "it-1"][..], &["status", "it"], &["resume", "it-1"], &["apply", "it-1"]] {
        let told = Swarm::new(&repository, words).exits(3);
        says(&told, &["what it says of it-1 is not as it was written", "git for-each-ref refs/swarm/it-1/"]);
    }
    let list = Swarm::new(&repository, &["list"]).exits(0).out;
    assert!(list.contains("it-1") && list.contains("is damaged") && list.contains("other-1"), "{list}");
    let list = Swarm::new(&repository, &["list", "--json"]).exits(0).out;
    assert!(list.contains(r#""run":"it-1","state":"damaged""#), "{list}");
    let clean = Swarm::new(&repository, &["clean", "--dry-run"]).exits(0);
    says(&clean, &["it-1: what the journal says of it is damaged, left alone"]);
    for words in [&["status"][..], &["apply", "other"], &["clean"]] {
        Swarm::new(&repository, words).exits(0);
    }
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\ntwo\n");
    Swarm::run(&repository, "it", "[tasks.b]\nrun = 'echo x > x'\n").args(&["--into", "swarm/new"]).exits(0);
}

#[test]
fn a_checkout_whose_index_is_damaged_is_mended_as_the_hint_says() {
    let repository = Repository::with(&FILES);
    Swarm::run(&repository, "it", EDIT).exits(0);
    let index = repository.path().join(".git/index");
    let whole = std::fs::read(&index).expect("an index");
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    for damaged in [&b"garbage"[..], b"", &whole[..40], &flipped] {
        std::fs::write(&index, damaged).expect("space");
        let told = Swarm::new(&repository, &["apply"]).exits(3);
        let aside = index.with_extension("damaged");
        let mend = format!("mv {} {} && git reset", index.display(), aside.display());
        says(&told, &[&format!("{}, where git keeps what is staged", index.display()), &mend]);
        assert_eq!(std::fs::read(&index).expect("it is there"), damaged);
    }
    std::fs::remove_file(&index).and_then(|()| std::fs::create_dir(&index)).expect("it is ours");
    says(&Swarm::new(&repository, &["apply"]).exits(3), &["is damaged", "index.damaged && git reset"]);
    std::fs::rename(&index, index.with_extension("damaged")).expect("as the hint says");
    repository.run_git(&["reset"]).expect("git is here");
    Swarm::new(&repository, &["apply"]).exits(0);
}

#[test]
fn what_commands_of_the_plan_were_refused_and_what_a_worktree_has_not_is_named() {
    let repository = Repository::with(&FILES);
    std::fs::write(repository.path().join("build.sh"), "true\n").expect("space");
    std::fs::write(repository.home().join("mine"), "x\n").expect("space");
    let refused = "the cage refused reading ";
    let setup = "[workspace]\nsetup = 'cat ~/mine'\n[tasks.a]\nrun = 'true'\n";
    says(&Swarm::run(&repository, "it", setup).exits(2), &[refused, "read = [\"~/mine\"]"]);
    let verify = format!("{EDIT}[merge]\nverify = 'cat ~/mine'\n");
    says(&Swarm::run(&repository, "it", &verify).exits(6), &[refused, "red: as before"]);
    let tasks =
        "[defaults]\nretry = { max = 0 }\n[tasks.a]\nrun = './build.sh'\n[tasks.b]\nrun = 'set -u; echo $NEEDED'\n";
    let failed = Swarm::run(&repository, "it", tasks).env("NEEDED", "x").exits(1);
    says(&failed, &["seeing build.sh of your checkout", "git add build.sh && git commit", "env = [\"NEEDED\"]"]);
    std::fs::create_dir(repository.path().join("build")).expect("space");
    std::fs::write(repository.path().join("build/app"), "x\n").expect("space");
    std::fs::write(repository.path().join(".git/info/exclude"), "build/\n").expect("space");
    let reads = "[tasks.a]\nrun = 'cat build/app'\n";
    let failed = Swarm::run(&repository, "it", &format!("{reads}retry = {{ max = 0 }}\n")).exits(1);
    says(&failed, &["seeing build/app of your checkout", "cache = [\"build\"]", "start the plan again: swarm run"]);
    Swarm::run(&repository, "it", &format!("[workspace]\ncache = [\"build\"]\n{reads}")).exits(0);
    let failed = Swarm::run(&repository, "it", tasks).exits(1);
    assert!(!failed.err.contains("env = ["), "what is not set here, either, was kept from nobody: {failed}");
}

#[test]
fn what_is_no_plan_and_where_a_learned_policy_goes_is_said() {
    let repository = Repository::with(&FILES);
    says(&Swarm::new(&repository, &["run", "plans/*"]).exits(2), &["read plans/*", "no pattern is one"]);
    says(&Swarm::new(&repository, &["check", "plan"]).exits(2), &["a file in TOML, like plan.toml"]);
    let learned = Swarm::new(&repository, &["learn", "--", "true"]).exits(0);
    says(
        &learned,
        &["paste it into a plan", "sandbox = \"learned\"", "swarm exec --plan PLAN --policy learned -- CMD"],
    );
}

/// Only root can have a repository of somebody else's.
#[test]
fn a_repository_of_another_user_is_trusted_after_what_the_hint_says_was_typed() {
    for below in ["", "dir", ".git/refs"] {
        let repository = Repository::with(&FILES);
        let chown = |path: &Path| std::process::Command::new("chown").args(["-R", "65534"]).arg(path).status();
        if !rustix::process::getuid().is_root() || !chown(&repository.path()).is_ok_and(|status| status.success()) {
            swarm_protocol::skipped::say("no repository of another user can be made here");
            return;
        }
        let list = || Swarm::new(&repository, &["list"]).current_dir(&repository.path().join(below));
        let told = list().exits(3);
        let hint = told.err.lines().find_map(|line| line.strip_prefix("hint: ")).expect("a hint");
        assert_eq!(hint, format!("git config --global --add safe.directory {}", repository.path().display()));
        let typed = std::process::Command::new("sh").args(["-c", hint]).env("HOME", repository.home()).status();
        if !typed.is_ok_and(|status| status.success()) {
            swarm_protocol::skipped::say("no git on PATH");
            return;
        }
        list().exits(0);
    }
}

#[test]
fn below_usr_it_is_said_before_anything_runs_what_else_can_be_done() {
    let repository = Repository::with(&FILES);
    let plan = repository.beside("it.toml").display().to_string();
    let below_usr = "mount -t tmpfs none /usr/src && cp -r . /usr/src/app && cd /usr/src/app && \"$@\"; code=$?; \
                     if test -e .git/swarm/journal.sqlite; then echo 'it began' >&2; fi; exit $code";
    let through = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", below_usr, "sh"];
    let mut made = std::process::Command::new(through[0]);
    made.args(&through[1..]).arg("true").current_dir(repository.path()).stderr(std::process::Stdio::null());
    if !made.status().is_ok_and(|status| status.success()) {
        swarm_protocol::skipped::say("no repository below /usr can be made here");
        return;
    }
    let told =
        ["/usr/src/app/.git/swarm: it lies below /usr, which tasks see read-only", "hint: name a folder outside"];
    let run = Swarm::run(&repository, "it", EDIT).through(&through).exits(3);
    says(&run, &told);
    assert!(run.out.is_empty() && !run.err.contains("it began"), "{run}");
    says(&Swarm::new(&repository, &["exec", "--", "true"]).through(&through).exits(3), &told);
    says(&Swarm::new(&repository, &["check", &plan]).through(&through).exits(0), &told);
    let doctor = Swarm::new(&repository, &["doctor"]).through(&through).exits(3);
    assert!(doctor.out.contains("[x] place: no task can run here") && !doctor.out.contains("[x] cage"), "{doctor}");
    let elsewhere = repository.beside("state").display().to_string();
    let run = Swarm::run(&repository, "it", EDIT).args(&["--state-dir", &elsewhere]).through(&through).exits(0);
    assert_eq!(run.fate("a"), "landed");
}

#[test]
fn whoever_has_no_home_has_a_private_one_in_the_cage() {
    let plan = "[tasks.a]\nrun = 'echo x > ~/x && cat ~/x && echo $HOME >> a.txt'\n";
    for through in [&["env", "HOME=/"][..], &["env", "HOME=/dev/null"], &["env", "-u", "HOME"]] {
        let repository = Repository::with(&FILES);
        let run = Swarm::run(&repository, "it", plan).through(through).exits(0);
        assert_eq!(run.fate("a"), "landed", "{through:?}");
    }
    let repository = Repository::with(&FILES);
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", "echo x > ~/x && cat ~/x"]);
    assert_eq!(ended.through(&["env", "HOME=/"]).exits(0).out, "x\n");
}

#[test]
fn what_was_refused_before_its_worker_had_a_job_is_all_that_is_said() {
    let repository = Repository::with(&FILES);
    let Some(sandbox) = Swarm::new(&repository, &["sandbox", "--", "true"]).without_namespaces() else { return };
    let refused = sandbox.exits(3);
    says(&refused, &["its .git would be writable, too", "hint: this machine offers the landlock tier only"]);
    assert!(!refused.err.contains("worker:"), "{refused}");
    let Some(doctor) = Swarm::new(&repository, &["doctor"]).without_namespaces() else { return };
    let told = doctor.exits(0);
    let words = [
        "no more namespaces may be made here, a limit in /proc/sys/user",
        "hint: users may make no namespaces here; root lets them: sysctl -w user.max_user_namespaces=",
    ];
    words.iter().for_each(|word| assert!(told.out.contains(word), "`{word}` is missing: {told}"));
}

#[test]
fn a_task_that_made_only_what_is_ignored_is_told_so() {
    let repository = Repository::with(&[("a.txt", "one\n"), (".gitignore", "build/\n*.log\n")]);
    let plan = "[tasks.folder]\nrun = 'mkdir build && echo x > build/out'\n[tasks.file]\nrun = 'echo x > b.log'\n\
                [tasks.both]\nrun = 'echo x > b.log && echo y >> a.txt'\n\
                [tasks.handed]\nrun = 'echo x > b.log'\nartifacts = ['b.log']\n\
                [tasks.reader]\nrun = 'echo x > b.log'\nwrites = []\n[tasks.nothing]\nrun = 'true'\n";
    let run = Swarm::run(&repository, "it", plan).exits(0);
    let ends = run.events_of("attempt-finished");
    let told = |task: &str| {
        let end = ends.iter().find(|end| end["instance"] == task).unwrap_or_else(|| panic!("no {task}: {run}"));
        end["notes"].to_string()
    };
    for (task, path) in [("folder", "build/"), ("file", "b.log")] {
        let note = format!("it changed nothing that git tracks: {path} is ignored (.gitignore)");
        assert!(told(task).contains(&note), "{task}: {}", told(task));
    }
    for task in ["both", "handed", "reader", "nothing"] {
        assert!(!told(task).contains("is ignored"), "{task}: {}", told(task));
    }
}

#[test]
fn check_names_a_module_that_is_not_there_and_a_base_that_is_no_commit() {
    let repository = Repository::with(&[("web/guest.wasm", "")]);
    let check = |name: &str, plan: &str| {
        let path = repository.beside(name);
        std::fs::write(&path, format!("version = 1\n{plan}")).expect("space");
        Swarm::new(&repository, &["check", &path.display().to_string()]).exits(0)
    };
    let modules = "[tasks.a]\nwasm = { module = 'web/gest.wasm' }\n[tasks.b]\nwasm = { module = './web/guest.wasm' }\n\
                   [tasks.c]\nneeds = ['a']\nwasm = { module = 'made.wasm' }\n";
    let told = check("modules.toml", modules);
    let note = "note: `wasm.module` of task a names `web/gest.wasm`: the base has no such file, so it cannot begin; did you mean \
                `web/guest.wasm`?";
    says(&told, &["is in order", note]);
    assert_eq!(told.err.matches("wasm.module").count(), 1, "{told}");
    let told = check("base.toml", "base = 'nonsuch'\n[tasks.a]\nrun = 'true'\n");
    let warning = "warning: a run stops here at once: find a commit named \"nonsuch\"\nhint: git rev-parse --verify";
    says(&told, &["is in order as a plan", warning]);
}

/// What a run would stop at is said once, and no more once it is allowed.
#[test]
fn a_check_hears_that_the_models_of_a_plan_are_trusted() {
    let repository = Repository::with(&[("f", "f\n")]);
    let plan = "version = 1\n[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = 'http://127.0.0.1:9/v1'\n\
                key = { env = 'MY_KEY' }\nprices = { input = 1.0, output = 1.0 }\n[budget]\nusd = 1.0\n\
                [tasks.t]\nagent = { prompt = 'p', model = 'main' }\n";
    let file = repository.beside("it.toml");
    std::fs::write(&file, plan).expect("space");
    let words = ["check", file.to_str().expect("UTF-8"), "--trust-models"];
    let said = |words: &[&str]| Swarm::new(&repository, words).env("MY_KEY", "k").exits(0);
    let stops = said(&words[..2]);
    assert_eq!(stops.err.matches("a run stops here at once").count(), 1, "{stops}");
    assert!(stops.err.contains("--trust-models"), "{stops}");
    let trusted = said(&words);
    assert!(!trusted.err.contains("a run stops here"), "{trusted}");
}
