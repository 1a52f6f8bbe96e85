//! What a power cut leaves where nothing was synced in time: refs and objects whose names are there, and nothing in them. A run is
//! killed, its files are emptied by hand, and it is resumed: it comes to the commit of a run of which nothing was lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use git2::Oid;
use rustix::process::Signal;
use swarm_tests::{Ended, Repository, Swarm};

/// `a` and `b` have ended when the run is killed, and nothing has landed: `c` waits for a file in this folder.
fn plan(shown: &Path) -> String {
    format!(
        "name = 'p'\n[sandbox.default]\nread = ['{0}']\n[merge]\npublish = 'all-or-nothing'\n\
         [tasks.a]\nrun = 'mkdir -p d/e; echo a > d/e/a; echo a > a'\n\
         [tasks.b]\nneeds = ['a']\nrun = 'cat a > b'\n\
         [tasks.c]\nneeds = ['b']\nrun = 'until test -e {0}/open; do sleep 0.02; done; cat b > c'\n",
        shown.display()
    )
}

/// A run that was killed, with what is in its repository, and the commit that it comes to.
struct Killed {
    repository: Repository,
    before: Vec<PathBuf>,
    commit: Oid,
}

fn killed() -> &'static Killed {
    static KILLED: OnceLock<Killed> = OnceLock::new();
    KILLED.get_or_init(|| {
        let repository = Repository::with(&[("f", "f\n")]);
        let before = objects(&repository);
        let shown = repository.beside("shown");
        fs::create_dir(&shown).expect("a new folder");
        let run = Swarm::run(&repository, "p", &plan(&shown)).allow(&format!("read={}", shown.display()));
        let mut run = run.env("SOURCE_DATE_EPOCH", "1700000000").start();
        assert!(run.says(r#""event":"attempt-started","instance":"c""#), "{}", run.end());
        run.signal(Signal::KILL);
        drop(run.end());
        fs::write(shown.join("open"), "").expect("space");
        let whole = repository.copy();
        let commit = comes_to_its_end(&whole, "nothing").0;
        Killed { repository, before, commit }
    })
}

fn comes_to_its_end(repository: &Repository, harm: &str) -> (Oid, Ended) {
    let resumed = Swarm::new(repository, &["resume", "p-1", "--json"]).end();
    assert_eq!(resumed.code, 0, "{harm}: {resumed}");
    (repository.commit_of("swarm/p").expect("it landed"), resumed)
}

/// All objects that are files of their own.
fn objects(repository: &Repository) -> Vec<PathBuf> {
    let folders = fs::read_dir(repository.path().join(".git/objects")).expect("a store").flatten();
    let folders = folders.filter(|folder| folder.file_name().len() == 2);
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).expect("a folder").flatten());
    let mut all: Vec<PathBuf> =
        files.map(|file| file.path().strip_prefix(repository.path()).expect("below").to_owned()).collect();
    all.sort();
    all
}

/// What takes the place of a file's bytes.
fn empty(path: &Path, content: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).and_then(|()| fs::write(path, content)).expect("ours");
}

/// What is left of a file of which the last part was not written out.
fn cut(path: &Path) {
    let whole = fs::read(path).expect("ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("ours");
    fs::write(path, &whole[..whole.len() / 2]).expect("ours");
}

/// Lets the next command find the machine started anew.
fn start_anew(repository: &Repository) {
    let all = fs::read_dir(repository.path().join(".git/swarm/stores")).expect("a run looked").flatten();
    for seen in all.filter(|file| file.path().extension().is_some_and(|end| end == "json")) {
        let text = fs::read_to_string(seen.path()).expect("ours");
        let earlier = text.replacen(r#""mount":""#, r#""mount":"another "#, 1);
        assert_ne!(earlier, text);
        fs::write(seen.path(), earlier).expect("ours");
    }
}

/// Empties files of a copy of the killed run's repository, and goes on with it.
fn resumes_without(harm: &str, content: &str, which: impl Fn(&Repository) -> Vec<PathBuf>) -> Ended {
    resumes_with(harm, &|path| empty(path, content), which)
}

/// Harms files of a copy of the killed run's repository, and goes on with it.
fn resumes_with(harm: &str, file: &dyn Fn(&Path), which: impl Fn(&Repository) -> Vec<PathBuf>) -> Ended {
    let killed = killed();
    let repository = killed.repository.copy();
    let paths = which(&repository);
    assert!(!paths.is_empty(), "{harm}");
    paths.iter().for_each(|path| file(&repository.path().join(path)));
    let status = Swarm::new(&repository, &["status"]).exits(0);
    assert!(status.out.contains("swarm resume p-1"), "{harm}: {status}");
    let (commit, resumed) = comes_to_its_end(&repository, harm);
    assert_eq!(commit, killed.commit, "{harm}: {resumed}");
    let git = repository.git();
    for name in repository.refs("refs/*") {
        let commit = git.refname_to_id(&name).and_then(|id| git.find_commit(id));
        assert!(commit.and_then(|commit| commit.tree()).is_ok(), "{harm}: {name}: {resumed}");
    }
    let void = objects(&repository)
        .into_iter()
        .find(|path| fs::metadata(repository.path().join(path)).expect("it is there").len() == 0);
    assert_eq!(void, None, "{harm}");
    Swarm::new(&repository, &["apply"]).exits(0);
    assert_eq!(fs::read_to_string(repository.path().join("c")).expect("applied"), "a\n", "{harm}");
    resumed
}

fn of(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| Path::new(".git/refs/swarm/p-1").join(name)).collect()
}

/// The file of an object that a revision names.
fn object(repository: &Repository, revision: &str) -> PathBuf {
    let id = repository.git().revparse_single(revision).expect(revision).id().to_string();
    Path::new(".git/objects").join(&id[..2]).join(&id[2..])
}

#[test]
fn refs_that_hold_nothing_are_made_again_and_nothing_runs_twice() {
    for content in ["", "\0\0\0"] {
        for names in [&["+base"][..], &["a/1"], &["+base", "a/1", "b/1"]] {
            let resumed = resumes_without(&format!("{names:?}"), content, |_| of(names));
            let ran = resumed.events_of("attempt-started");
            assert!(ran.iter().all(|event| event["instance"] == "c"), "{names:?}: {resumed}");
            assert!(resumed.out.contains("a power cut"), "{resumed}");
        }
    }
}

#[test]
fn a_result_of_which_an_object_holds_nothing_runs_again() {
    let harms: [&dyn Fn(&Path); 3] = [&|path| empty(path, ""), &|path| empty(path, "\0"), &cut];
    for revision in ["", "^{tree}", ":d", ":d/e", ":d/e/a"] {
        for harm in harms {
            let name = format!("refs/swarm/p-1/a/1{revision}");
            let resumed = resumes_with(&name, harm, |repository| vec![object(repository, &name)]);
            let lost = "the change of a is no longer there: it runs again";
            assert!(resumed.out.contains(lost), "{name}: {resumed}");
            let ran = resumed.events_of("attempt-started");
            assert!(ran.iter().any(|event| event["instance"] == "a"), "{name}: {resumed}");
        }
    }
}

#[test]
fn all_that_a_run_wrote_may_hold_nothing() {
    resumes_without("everything", "", |repository| {
        let new = objects(repository).into_iter().filter(|path| !killed().before.contains(path));
        new.chain(of(&["+base", "a/1", "b/1"])).collect()
    });
}

#[test]
fn a_target_that_holds_nothing_is_named_with_what_helps() {
    let repository = killed().repository.copy();
    let target = repository.path().join(".git/refs/heads/swarm/p");
    fs::create_dir_all(target.parent().expect("a folder")).and_then(|()| fs::write(&target, "")).expect("space");
    let resumed = Swarm::new(&repository, &["resume", "p-1"]).exits(3);
    assert!(resumed.err.contains("refs/heads/swarm/p: its file is empty"), "{resumed}");
    assert!(resumed.err.contains(&format!("rm {}", target.display())), "{resumed}");
    fs::remove_file(&target).expect("as it says");
    assert_eq!(comes_to_its_end(&repository, "no target").0, killed().commit);
}

#[test]
fn clean_removes_what_a_power_cut_left_of_a_run_that_nobody_goes_on_with() {
    let repository = killed().repository.copy();
    let base = repository.path().join(&of(&["+base"])[0]);
    empty(&base, "");
    let cleaned = Swarm::new(&repository, &["clean", "p-1"]).exits(0);
    assert!(cleaned.err.contains("p-1: 1 ref that a power cut left empty"), "{cleaned}");
    assert!(!base.exists());
}

#[test]
fn clean_removes_the_empty_ref_of_a_run_that_died_before_its_first_entry() {
    let repository = killed().repository.copy();
    let base = repository.path().join(".git/refs/swarm/q-1/+base");
    fs::create_dir_all(base.parent().expect("a folder")).and_then(|()| fs::write(&base, "")).expect("space");
    Swarm::new(&repository, &["clean"]).exits(0);
    assert!(!base.exists());
}

#[test]
fn a_new_run_writes_over_what_a_power_cut_left_of_an_earlier_one() {
    let repository = killed().repository.copy();
    let plan = "name = 'q'\n[tasks.a]\nrun = 'mkdir -p d/e; echo a > d/e/a; echo a > a'\n";
    let all = objects(&repository).into_iter().filter(|path| !killed().before.contains(path));
    all.for_each(|path| empty(&repository.path().join(path), ""));
    let next = repository.path().join(".git/refs/swarm/q-1/+base");
    fs::create_dir_all(next.parent().expect("a folder")).and_then(|()| fs::write(&next, "")).expect("space");
    Swarm::run(&repository, "q", plan).exits(0);
    assert_eq!(repository.text("swarm/q", "d/e/a"), "a\n");
}

#[test]
fn an_apply_whose_merge_was_left_empty_is_made_again() {
    let repository = Repository::with(&[("f", "f\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > a'\n").exits(0);
    repository.write("g", "g\n");
    let own = repository.commit_all("more");
    let before = objects(&repository);
    let apply = || Swarm::new(&repository, &["apply"]).env("SOURCE_DATE_EPOCH", "1700000000");
    apply().exits(0);
    let merge = repository.commit_of("HEAD").expect("it was merged");
    let git = repository.git();
    git.reset(&git.find_object(own, None).expect("a commit"), git2::ResetType::Hard, None).expect("it was there");
    let new: Vec<PathBuf> = objects(&repository).into_iter().filter(|object| !before.contains(object)).collect();
    assert!(new.len() >= 2, "a commit and its tree: {new:?}");
    start_anew(&repository);
    new.iter().for_each(|object| empty(&repository.path().join(object), ""));
    let again = apply().exits(0);
    assert_eq!(repository.commit_of("HEAD"), Some(merge), "{again}");
    let git = repository.git();
    let tree = git.find_commit(merge).and_then(|merge| merge.tree());
    assert_eq!(tree.map(|tree| tree.len()), Ok(3), "{again}");
}

/// What an object's file is replaced by; `None`: it is removed.
fn harm(repository: &Repository, object: &Path, content: Option<&str>) {
    let path = repository.path().join(object);
    match content {
        Some(content) => empty(&path, content),
        None => fs::remove_file(path).expect("a file of its own"),
    }
}

/// Git finds nothing amiss.
fn is_sound(repository: &Repository) {
    repository.run_git(&["fsck", "--no-dangling"]);
}

#[test]
fn a_cached_result_of_which_an_object_is_gone_is_made_and_recorded_anew() {
    let repository = Repository::with(&[("f", "f\n")]);
    let plan = "[tasks.a]\ncache = true\nrun = 'mkdir -p d/e; echo a > d/e/a; echo a > a'\n\
                [tasks.z]\ncache = true\nrun = 'echo z > z'\n\
                [tasks.b]\ncache = true\nneeds = ['a', 'z']\nrun = 'cat a z > b'\n";
    let mut into = 0;
    let mut next = |harm: &str| {
        into += 1;
        let run = Swarm::run(&repository, "p", plan).env("SOURCE_DATE_EPOCH", "1700000000");
        let ended = run.args(&["--into", &format!("to{into}")]).end();
        assert_eq!(ended.code, 0, "{harm}: {ended}");
        let ran = ended.events_of("attempt-started");
        let ran: Vec<String> = ran.iter().map(|event| event["instance"].as_str().expect("a name").to_owned()).collect();
        (ran, ended)
    };
    let (_, first) = next("nothing");
    let done = first.events_of("attempt-finished");
    let commit = |task: &str| {
        let done = done.iter().find(|event| event["instance"] == task).expect(task);
        done["change"]["commit"].as_str().expect("a commit").to_owned()
    };
    let (a, b) = (commit("a"), commit("b"));
    let of_a = ["", "^{tree}", ":d", ":d/e", ":d/e/a"].map(|what| ("a", format!("{a}{what}")));
    let of_b = ["", "^{tree}", ":b", "^", "^^{tree}"].map(|what| ("b", format!("{b}{what}")));
    // In turn, since each case is two runs.
    let harms = [Some(""), None, Some("\0\0")].into_iter().cycle();
    for ((task, revision), content) in of_a.into_iter().chain(of_b).zip(harms) {
        let (what, object) = (format!("{revision} as {content:?}"), object(&repository, &revision));
        harm(&repository, &object, content);
        let (ran, ended) = next(&what);
        // What the needs come to is folded for the target, too, which may be before the result on it is looked up: then it is there.
        let is_folded = revision.ends_with("^^{tree}");
        assert!(is_folded || ran.contains(&task.to_owned()), "{what}: {ran:?} {ended}");
        let said = ended.err.lines().filter(|line| line.contains("recorded its result: its object")).count();
        assert_eq!(said, ran.len(), "{what}: {ended}");
        let (ran, ended) = next(&what);
        assert_eq!(ran, Vec::<String>::new(), "{what}: {ended}");
        is_sound(&repository);
    }
}

#[test]
fn the_empty_tree_of_what_keeps_cached_results_outlasts_a_power_cut() {
    let repository = Repository::with(&[("f", "f\n")]);
    let plan = "[tasks.a]\ncache = true\nrun = 'echo a > a'\n[tasks.b]\nneeds = ['a']\nrun = 'exit 1'\n";
    for round in 0..2 {
        Swarm::run(&repository, "p", plan).exits(1);
        let empty_tree = Path::new(".git/objects/4b/825dc642cb6eb9a060e54bf8d69288fbee4904");
        assert!(repository.path().join(empty_tree).metadata().is_ok_and(|file| file.len() > 0), "round {round}");
        is_sound(&repository);
        harm(&repository, empty_tree, Some(""));
    }
}

#[test]
fn a_result_is_not_taken_for_what_is_there_of_it() {
    let content: Vec<u8> = (0..400_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (gate, is_known) in [("", false), ("[merge]\nverify = 'test ! -e big -o -s big'\n", true)] {
        let repository = Repository::with(&[("f", "f\n")]);
        let shown = repository.beside("shown");
        fs::create_dir(&shown).and_then(|()| fs::write(shown.join("big"), &content)).expect("space");
        let plan = |task: &str| {
            let read = format!("[sandbox.default]\nread = ['{}']\n", shown.display());
            format!("name = 'p'\n{read}{gate}[tasks.{task}]\nrun = 'cp {}/big big'\n", shown.display())
        };
        let run =
            |task: &str| Swarm::run(&repository, "p", &plan(task)).allow(&format!("read={}", shown.display())).exits(0);
        if is_known {
            // A look was taken: what follows happens in one boot, and no look finds it.
            Swarm::run(&repository, "q", "[tasks.q]\nrun = 'echo q > q'\n").exits(0);
        }
        let blob = repository.git().blob(&content).expect("space").to_string();
        cut(&repository.path().join(".git/objects").join(&blob[..2]).join(&blob[2..]));
        run("a");
        is_sound(&repository);
        Swarm::new(&repository, &["apply"]).exits(0);
        assert!(fs::read(repository.path().join("big")).expect("applied") == content);
    }
}

#[test]
fn nobody_reads_for_ever_in_what_a_branch_has_of_an_object() {
    let repository = Repository::with(&[("f", "f\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'seq 9999 > a'\n").exits(0);
    cut(&repository.path().join(object(&repository, "swarm/it:a")));
    let refused = Swarm::new(&repository, &["apply"]).exits(3);
    assert!(refused.err.contains("find the object") && !repository.path().join("a").exists(), "{refused}");
    Swarm::run(&repository, "it", "base = 'swarm/it'\n[tasks.b]\nrun = 'cat a'\n").exits(3);
}

#[test]
fn more_empty_objects_than_there_are_tries_are_written_over() {
    let repository = Repository::with(&[("f", "f\n")]);
    let plan = "[tasks.a]\nrun = 'for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done'\n";
    let run = |into: &str| {
        let run = Swarm::run(&repository, "p", plan).env("SOURCE_DATE_EPOCH", "1700000000");
        run.args(&["--into", into]).exits(0)
    };
    run("one");
    for at in 1..=9 {
        empty(&repository.path().join(object(&repository, &format!("one:f{at}"))), "");
    }
    run("two");
    assert_eq!(repository.text("two", "f9"), "9\n");
    is_sound(&repository);
}

#[test]
fn any_command_finds_what_the_power_cut_left_of_a_run_that_has_ended() {
    let repository = Repository::with(&[("gen.lock", "0\n")]);
    let plan = "[merge]\nregenerate = [{ paths = ['gen.lock'], run = 'cat ga gb > gen.lock' }]\n\
                [tasks.a]\nrun = 'echo a > ga; echo a > gen.lock'\n[tasks.b]\nrun = 'echo b > gb; echo b > gen.lock'\n";
    let before = objects(&repository);
    Swarm::run(&repository, "p", plan).exits(0);
    let kept = repository.run_git(&["rev-list", "--objects", "--all"]);
    let Some(kept) = kept else { return };
    let is_loose_end = |path: &PathBuf| {
        let hex = path.strip_prefix(".git/objects").expect("below").to_string_lossy().replace('/', "");
        !before.contains(path) && !kept.contains(&hex)
    };
    let loose_ends: Vec<PathBuf> = objects(&repository).into_iter().filter(is_loose_end).collect();
    assert!(!loose_ends.is_empty(), "what a command makes again, it is shown first");
    for (at, command) in [["resume", "p-1"], ["status", "p-1"], ["clean", "p-1"]].into_iter().enumerate() {
        let path = repository.path().join(&loose_ends[at % loose_ends.len()]);
        fs::create_dir_all(path.parent().expect("a folder")).expect("space");
        let _ = fs::remove_file(&path);
        fs::write(&path, "").expect("space");
        let quiet = Swarm::new(&repository, &["status"]).exits(0);
        assert!(path.exists() && !quiet.err.contains("power cut"), "{quiet}");
        start_anew(&repository);
        let said = Swarm::new(&repository, &command).exits(0);
        assert!(said.err.contains("1 object file of the repository empty") && !path.exists(), "{command:?}: {said}");
    }
    repository.run_git(&["gc", "-q"]);
}

#[test]
fn what_another_command_found_of_a_killed_run_is_made_again() {
    let killed = killed();
    let repository = killed.repository.copy();
    cut(&repository.path().join(object(&repository, "refs/swarm/p-1/a/1:d/e/a")));
    start_anew(&repository);
    let list = Swarm::new(&repository, &["status"]).exits(0);
    let lost = "the change of a is no longer there: it runs again";
    let (commit, resumed) = comes_to_its_end(&repository, "a blob");
    assert!(resumed.out.contains(lost), "{list} {resumed}");
    assert_eq!(commit, killed.commit);
    is_sound(&repository);
}

/// A run that was killed once `a` had landed, and `b` is still to come; `what` says what `a` writes.
fn killed_behind_landing(what: &str) -> Repository {
    let repository = Repository::with(&[("f", "f\n")]);
    let shown = repository.beside("shown");
    fs::create_dir(&shown).expect("a new folder");
    let plan = format!(
        "name = 'p'\n[sandbox.default]\nread = ['{0}']\n[tasks.a]\nrun = '{what} > a'\n\
         [tasks.b]\nneeds = ['a']\nrun = 'until test -e {0}/open; do sleep 0.02; done; cat a > b'\n",
        shown.display()
    );
    let run = Swarm::run(&repository, "p", &plan).allow(&format!("read={}", shown.display()));
    let mut run = run.env("SOURCE_DATE_EPOCH", "1700000000").start();
    assert!(run.says(r#""event":"merged","instance":"a""#), "{}", run.end());
    run.signal(Signal::KILL);
    drop(run.end());
    fs::write(shown.join("open"), "").expect("space");
    repository
}

#[test]
fn a_landed_result_of_which_the_target_lacks_the_same_object_runs_again() {
    let repository = killed_behind_landing("echo a");
    cut(&repository.path().join(object(&repository, "swarm/p:a")));
    start_anew(&repository);
    let (_, resumed) = comes_to_its_end(&repository, "a blob of what landed");
    assert!(resumed.out.contains("the change of a is no longer there: it runs again"), "{resumed}");
    assert_eq!(repository.text("swarm/p", "b"), "a\n");
    is_sound(&repository);
}

#[test]
fn what_a_look_that_was_cut_short_has_set_aside_is_not_forgotten() {
    let killed = killed();
    let repository = killed.repository.copy();
    let blob = object(&repository, "refs/swarm/p-1/a/1:d/e/a");
    cut(&repository.path().join(&blob));
    start_anew(&repository);
    // The look fails in one folder of the store, as one that is killed there: what it found before is out of the way, and it is not done.
    let store = repository.path().join(".git/objects");
    let free = (0..=255).map(|byte| store.join(format!("{byte:02x}"))).find(|folder| !folder.exists());
    let free = free.expect("few objects");
    fs::write(&free, "").expect("space");
    let status = Swarm::new(&repository, &["status"]).exits(0);
    assert!(status.err.contains("was not looked for"), "{status}");
    fs::remove_file(&free).expect("ours");
    let (commit, resumed) = comes_to_its_end(&repository, "a blob");
    assert!(resumed.out.contains("the change of a is no longer there: it runs again"), "{resumed}");
    assert_eq!(commit, killed.commit);
    is_sound(&repository);
}
