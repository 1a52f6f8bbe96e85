//! Commands other than a run that die, or whose disk fails, at each effect that they have, one after the other: whatever is the
//! user's is as it was, no lock of ours keeps their git out once another command has run, and the same command again comes to
//! what it would have come to.
//!
//! Every n-th effect is tried where there are many; `SWARM_EFFECTS=1` tries all of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use git2::Oid;
use swarm_tests::{Ended, Repository, Swarm};

/// Exit code of a program that `kill -9` ended, as the harness tells it.
const KILLED: i32 = 1009;
/// More effects than any of these commands has.
const EFFECTS_MAX: u64 = 400;

/// A command of the program, at a date of its own.
fn swarm(repository: &Repository, words: &[&str]) -> Swarm {
    Swarm::new(repository, words).env("SOURCE_DATE_EPOCH", "1700000000")
}

/// Ends a command at each of its effects, in a copy of the repository each; returns at how many.
fn dies_everywhere(template: &Repository, words: &[&str], then: impl Fn(&Repository, u64)) -> u64 {
    dies_at_every(1, template, words, |_| (), then)
}

/// The same at every n-th effect, in copies in which something was done before. `SWARM_EFFECTS=1` tries all.
fn dies_at_every(
    stride: u64,
    template: &Repository,
    words: &[&str],
    before: impl Fn(&Repository),
    then: impl Fn(&Repository, u64),
) -> u64 {
    let asked = std::env::var("SWARM_EFFECTS").ok().and_then(|text| text.parse().ok());
    for effect in (1..EFFECTS_MAX).step_by(asked.unwrap_or(stride).min(stride) as usize) {
        let repository = template.copy();
        before(&repository);
        let ended = swarm(&repository, words).args(&["--fault", &format!("die@{effect}")]).end();
        if ended.code != KILLED {
            return effect - 1;
        }
        then(&repository, effect);
    }
    panic!("{words:?} has more than {EFFECTS_MAX} effects");
}

/// The same with an error of the system from each effect on; what the command says then is looked at.
fn fails_everywhere(template: &Repository, words: &[&str], then: impl Fn(&Repository, &Ended)) {
    let code = swarm(&template.copy(), words).end().code;
    for (effect, error) in (1..EFFECTS_MAX).zip(["enospc", "eio", "erofs"].into_iter().cycle()) {
        let repository = template.copy();
        let ended = swarm(&repository, words).args(&["--fault", &format!("{error}@{effect}")]).end();
        if ended.code == code {
            return;
        }
        assert!(ended.code == 3 && !ended.err.contains("panicked"), "{error}@{effect}: {ended}");
        assert!(ended.err.contains("hint:"), "{error}@{effect}: {ended}");
        then(&repository, &ended);
    }
    panic!("{words:?} has more than {EFFECTS_MAX} effects");
}

/// Files that keep a git out, anywhere in `.git` but in our own folder.
fn locks(repository: &Repository) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![repository.path().join(".git")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, kind) = (entry.path(), entry.file_type().expect("it is there"));
            if kind.is_dir() && !path.ends_with(".git/swarm") {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "lock") {
                found.push(path);
            }
        }
    }
    found
}

/// All that a person would miss: files with their modes, what git says of them, the branches and the stash.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    status: BTreeMap<String, u32>,
    refs: BTreeMap<String, Option<Oid>>,
}

fn seen(repository: &Repository) -> Seen {
    let mut files = BTreeMap::new();
    let mut open = vec![repository.path()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, about) = (entry.path(), entry.metadata().expect("it is there"));
            if about.is_symlink() {
                let target = fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes();
                files.insert(path.strip_prefix(repository.path()).expect("below").to_owned(), (0, target));
            } else if about.is_dir() {
                if !path.ends_with(".git") {
                    open.push(path);
                }
            } else {
                let content = fs::read(&path).expect("a file");
                let mode = about.permissions().mode() & 0o111;
                files.insert(path.strip_prefix(repository.path()).expect("below").to_owned(), (mode, content));
            }
        }
    }
    let git = repository.git();
    let mut options = git2::StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true);
    let statuses = git.statuses(Some(&mut options)).expect("a status");
    let status =
        statuses.iter().map(|entry| (entry.path().expect("plain names").to_owned(), entry.status().bits())).collect();
    let names = git.references().expect("refs");
    let names: Vec<String> = names.flatten().map(|one| one.name().expect("plain names").to_owned()).collect();
    // What keeps the commit of an application that died is nothing that anybody would miss.
    let names = names.into_iter().filter(|name| !name.starts_with("refs/swarm/+apply/"));
    let refs = names.map(|name| (name.clone(), git.refname_to_id(&name).ok())).collect();
    Seen { files, status, refs }
}

/// Files of the checkout that have a second name beside it, with what they hold there.
const LINKED: [(&str, &str); 4] =
    [("a.txt", "a\n"), ("gone.txt", "gone\n"), ("mode.sh", "#!/bin/sh\n"), ("was-file", "file\n")];

/// What is beside the checkout under a second name is as it was.
fn linked_stay(repository: &Repository) {
    for (name, content) in LINKED {
        let at = repository.beside(name);
        assert_eq!(fs::read_to_string(&at).expect("it is there"), content, "{name}");
        assert_eq!(at.metadata().expect("it is there").permissions().mode() & 0o111, 0, "{name}");
    }
}

/// A run has landed files of all kinds; the person has staged, unstaged and untracked work elsewhere, a stash, and second names
/// of some files.
fn to_apply() -> Repository {
    let large = "line\n".repeat(60_000);
    let repository = Repository::with(&[
        ("a.txt", "a\n"),
        ("gone.txt", "gone\n"),
        ("mode.sh", "#!/bin/sh\n"),
        ("was-file", "file\n"),
        ("was-dir/in", "in\n"),
        ("large.txt", &*large),
        ("mine.txt", "mine\n"),
        ("staged.txt", "staged\n"),
    ]);
    let plan = "[tasks.all]\nrun = '''echo more >> a.txt; rm gone.txt; chmod +x mode.sh; rm was-file; mkdir was-file; \
                echo x > was-file/deep; rm -r was-dir; echo now > was-dir; sed -i s/line/other/ large.txt; \
                mkdir -p new/deep; echo n > new/deep/file; ln -s ../a.txt new/link'''\n";
    Swarm::run(&repository, "it", plan).exits(0);
    let mut git = repository.git();
    repository.write("mine.txt", "stashed\n");
    let who = git2::Signature::now("Eve", "eve@example.org").expect("legal");
    git.stash_save(&who, "kept", None).expect("a stash");
    repository.write("mine.txt", "mine, edited\n");
    repository.write("staged.txt", "staged, edited\n");
    let mut index = git.index().expect("an index");
    index.add_path(Path::new("staged.txt")).and_then(|()| index.write()).expect("staged");
    repository.write("loose.txt", "untracked\n");
    for (name, _) in LINKED {
        fs::hard_link(repository.path().join(name), repository.beside(name)).expect("one file system");
    }
    repository
}

/// Whatever of the person's work the run has nothing to do with.
fn theirs(seen: &Seen) -> Vec<(String, Option<Vec<u8>>, Option<u32>)> {
    let of = |name: &str| {
        let content = seen.files.get(Path::new(name)).map(|(_, content)| content.clone());
        (name.to_owned(), content, seen.status.get(name).copied())
    };
    ["mine.txt", "staged.txt", "loose.txt"].into_iter().map(of).collect()
}

/// The same repository once its checkout has gone on: applying is a merge.
fn gone_on() -> Repository {
    let repository = to_apply();
    let git = repository.git();
    let head = git.head().and_then(|head| head.peel_to_commit()).expect("a commit");
    let mut tree = git.treebuilder(Some(&head.tree().expect("a tree"))).expect("a builder");
    tree.insert("later.txt", git.blob(b"later\n").expect("space"), 0o100_644).expect("a plain name");
    let tree = git.find_tree(tree.write().expect("space")).expect("just written");
    let who = git2::Signature::new("Eve", "eve@example.org", &git2::Time::new(1, 0)).expect("legal");
    git.commit(Some("HEAD"), &who, &who, "later", &tree, &[&head]).expect("a commit");
    let mut index = git.index().expect("an index");
    repository.write("later.txt", "later\n");
    index.add_path(Path::new("later.txt")).and_then(|()| index.write()).expect("as committed");
    repository
}

fn applied(template: &Repository) -> Seen {
    let repository = template.copy();
    swarm(&repository, &["apply"]).exits(0);
    linked_stay(&repository);
    seen(&repository)
}

/// How many effects applying to it has.
fn effects_of_apply(template: &Repository) -> u64 {
    static EFFECTS: OnceLock<u64> = OnceLock::new();
    *EFFECTS.get_or_init(|| dies_everywhere(template, &["apply"], |_, _| ()))
}

#[test]
fn an_apply_that_dies_anywhere_is_completed_by_the_next() {
    for template in [to_apply(), gone_on()] {
        let (before, after) = (seen(&template), applied(&template));
        let died = dies_at_every(
            2,
            &template,
            &["apply"],
            |_| (),
            |repository, effect| {
                let midst = seen(repository);
                assert_eq!(theirs(&midst), theirs(&before), "died at {effect}");
                assert_eq!(midst.refs["refs/stash"], before.refs["refs/stash"], "died at {effect}");
                linked_stay(repository);
                swarm(repository, &["list"]).exits(0);
                let left: Vec<PathBuf> = locks(repository);
                assert!(left.iter().all(|lock| !lock.ends_with("index.lock")), "died at {effect}: {left:?}");
                swarm(repository, &["apply"]).exits(0);
                assert_eq!(seen(repository), after, "died at {effect}");
                linked_stay(repository);
                assert!(locks(repository).is_empty(), "died at {effect}: {:?}", locks(repository));
            },
        );
        assert!(died > 12, "{died}");
    }
}

#[test]
fn an_apply_whose_disk_fails_takes_back_what_it_wrote_or_the_next_does() {
    let template = to_apply();
    let (before, after) = (seen(&template), applied(&template));
    fails_everywhere(&template, &["apply"], |repository, ended| {
        let midst = seen(repository);
        assert_eq!(theirs(&midst), theirs(&before), "{ended}");
        assert!(midst == before || ended.err.contains("half written"), "{ended}");
        swarm(repository, &["apply"]).exits(0);
        assert_eq!(seen(repository), after, "{ended}");
        assert!(locks(repository).is_empty(), "{ended}: {:?}", locks(repository));
    });
}

#[test]
fn whoever_completes_an_apply_may_die_as_well() {
    let template = to_apply();
    let after = applied(&template);
    let died = effects_of_apply(&template);
    let half = template.copy();
    swarm(&half, &["apply", "--fault", &format!("die@{}", died - 6)]).exits(KILLED);
    let again = dies_at_every(
        3,
        &half,
        &["apply"],
        |_| (),
        |repository, effect| {
            swarm(repository, &["apply"]).exits(0);
            assert_eq!(seen(repository), after, "died again at {effect}");
        },
    );
    assert!(again > died, "{again} and {died}: it takes back first");
}

#[test]
fn what_a_person_does_to_a_half_applied_checkout_is_theirs() {
    let template = to_apply();
    let died = effects_of_apply(&template);
    let after = applied(&template);
    // All files are there, and the branch has not moved.
    let half = template.copy();
    swarm(&half, &["apply", "--fault", &format!("die@{}", died - 4)]).exits(KILLED);
    assert_eq!(fs::read_to_string(half.path().join("a.txt")).expect("it is there"), "a\nmore\n");

    let edited = half.copy();
    edited.write("a.txt", "a\nmore\nand mine\n");
    let refused = swarm(&edited, &["apply"]).exits(1);
    assert!(refused.err.contains("local changes to a.txt"), "{refused}");
    assert_eq!(fs::read_to_string(edited.path().join("a.txt")).expect("it is there"), "a\nmore\nand mine\n");
    edited.write("a.txt", "a\n");
    swarm(&edited, &["apply"]).exits(0);
    assert_eq!(seen(&edited), after);

    let beside = half.copy();
    beside.write("new/deep/mine", "mine\n");
    beside.write("was-file/mine", "mine\n");
    let refused = swarm(&beside, &["apply"]).exits(1);
    assert!(refused.err.contains("was-file"), "{refused}");
    for path in ["new/deep/mine", "was-file/mine"] {
        assert_eq!(fs::read_to_string(beside.path().join(path)).expect("it is there"), "mine\n");
    }

    let foreign = half.copy();
    swarm(&foreign, &["list"]).exits(0);
    fs::write(foreign.path().join(".git/index.lock"), "").expect("space");
    let refused = swarm(&foreign, &["apply"]).exits(3);
    assert!(refused.err.contains("index.lock exists") && refused.err.contains("hint: let it end"), "{refused}");
    assert!(foreign.path().join(".git/index.lock").exists(), "it is somebody else's");
}

#[test]
fn what_a_person_committed_behind_a_half_applied_checkout_stays_committed() {
    let template = to_apply();
    let half = template.copy();
    let died = effects_of_apply(&template);
    swarm(&half, &["apply", "--fault", &format!("die@{}", died - 4)]).exits(KILLED);
    swarm(&half, &["list"]).exits(0);
    let _ = fs::remove_file(half.path().join(".git/index.lock"));
    let git = half.git();
    let head = git.head().and_then(|head| head.peel_to_commit()).expect("a commit");
    git.reset(head.as_object(), git2::ResetType::Hard, None).expect("as it was");
    half.write("a.txt", "my work\n");
    half.write("gone.txt", "my work, too\n");
    half.commit_all("my work");
    half.write("a.txt", "my next work\n");
    fs::remove_file(half.path().join("gone.txt")).expect("it was there");
    half.write("large.txt", "");
    swarm(&half, &["apply"]).exits(1);
    let index = git2::Repository::open(half.path()).and_then(|git| git.index()).expect("an index");
    let git = half.git();
    let committed = git.head().and_then(|head| head.peel_to_tree()).expect("a tree");
    for name in ["a.txt", "gone.txt", "large.txt"] {
        let staged = index.get_path(Path::new(name), 0).map(|entry| entry.id);
        assert_eq!(staged, committed.get_name(name).map(|entry| entry.id()), "{name} is staged as it was committed");
    }
    assert_eq!(fs::read_to_string(half.path().join("a.txt")).expect("it is there"), "my next work\n");
    assert!(!half.path().join("gone.txt").exists(), "whoever removed it meant it");
    assert_eq!(fs::read_to_string(half.path().join("large.txt")).expect("it is there"), "");
}

/// `a` landed, `b` contradicts it, and `c` builds on `b`.
fn conflicted() -> Repository {
    let repository = Repository::with(&[("a.txt", "one\n"), ("b.txt", "b\n")]);
    let plan = "[tasks.a]\nrun = 'echo from a >> a.txt'\n\
                [tasks.b]\nrun = 'echo said; echo from b >> a.txt; echo new > new.txt; rm b.txt'\n\
                [tasks.c]\nneeds = ['b']\nrun = 'echo c > c.txt'\n";
    Swarm::run(&repository, "it", plan).env("SOURCE_DATE_EPOCH", "1700000000").exits(5);
    repository
}

fn worktrees(repository: &Repository) -> usize {
    repository.git().worktrees().expect("a list").len()
}

/// Instance to fate, and the exit code, as the journal has them.
fn fates(repository: &Repository) -> (BTreeMap<String, String>, String) {
    let report = swarm(repository, &["report", "--format", "json"]).exits(0);
    let exit = report.events_of("run-finished").last().map(|event| event["exit"].to_string());
    (report.fates(), exit.unwrap_or_default())
}

#[test]
fn a_resolution_that_dies_while_it_begins_is_begun_by_the_next() {
    let template = conflicted();
    let refs = seen(&template).refs;
    let died = dies_everywhere(&template, &["resolve", "b"], |repository, effect| {
        assert_eq!(seen(repository).refs, refs, "died at {effect}");
        // Git has nothing to complain of.
        repository.run_git(&["fsck"]);
        let at = PathBuf::from(swarm(repository, &["resolve", "b"]).exits(0).out.trim());
        let text = fs::read_to_string(at.join("a.txt")).expect("checked out");
        assert!(text.contains("<<<<<<< landed") && at.join("new.txt").exists(), "died at {effect}: {text}");
        let git = git2::Repository::open(&at).expect("a worktree");
        assert_eq!(git.state(), git2::RepositoryState::Merge, "died at {effect}");
        swarm(repository, &["resolve", "b", "--abort"]).exits(0);
        assert_eq!((worktrees(repository), seen(repository).refs), (0, refs.clone()), "died at {effect}");
        assert!(!at.exists() && locks(repository).is_empty(), "died at {effect}");
    });
    assert!(died > 10, "{died}");
}

#[test]
fn a_resolution_that_dies_while_it_is_aborted_can_be_aborted_and_begun_again() {
    let template = conflicted();
    let begin = |repository: &Repository| drop(swarm(repository, &["resolve", "b"]).exits(0));
    let died = dies_at_every(1, &template, &["resolve", "b", "--abort"], begin, |repository, effect| {
        repository.run_git(&["fsck"]);
        swarm(repository, &["resolve", "b", "--abort"]).exits(0);
        assert_eq!(worktrees(repository), 0, "died at {effect}");
        assert_eq!(fates(repository), fates(&template), "died at {effect}");
        swarm(repository, &["resolve", "b"]).exits(0);
    });
    assert!(died > 2, "{died}");
}

#[test]
fn what_a_person_settled_lands_although_the_command_that_took_it_died() {
    let template = conflicted();
    let settle = |repository: &Repository| {
        let at = PathBuf::from(swarm(repository, &["resolve", "b"]).exits(0).out.trim());
        fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    };
    let take = ["resolve", "b", "--continue"];
    let left_behind = std::cell::Cell::new(0);
    let died = dies_at_every(6, &template, &take, settle, |repository, effect| {
        let told = swarm(repository, &["status"]).exits(0).out;
        if told.contains("its worktree is still there") {
            assert!(told.contains("swarm resolve it-1 b --abort removes it"), "{told}");
            swarm(repository, &[["resume"], ["clean"]][(effect % 2) as usize]).exits(0);
            left_behind.set(left_behind.get() + 1);
        } else {
            let again = swarm(repository, &take).end();
            if again.code != 0 {
                assert!(
                    again.code == 2 && (again.err.contains("swarm resume") || again.err.contains("it landed")),
                    "{again}"
                );
                swarm(repository, &["resume"]).exits(0);
            }
        }
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\nboth\n", "died at {effect}");
        assert!(repository.files("swarm/it").contains_key("c.txt"), "died at {effect}");
        assert_eq!(worktrees(repository), 0, "died at {effect}");
        assert!(locks(repository).is_empty(), "died at {effect}: {:?}", locks(repository));
    });
    assert!(died > 12, "{died}");
    // The last of its effects, of which every sixth was tried, are those that remove the worktree.
    let next = [&take[..], &["resume"], &["clean"], &["retry"]];
    for effect in died - 7..=died {
        let repository = template.copy();
        settle(&repository);
        let ended = swarm(&repository, &take).args(&["--fault", &format!("die@{effect}")]).end();
        if ended.code == KILLED && fates(&repository).1 == "0" {
            left_behind.set(left_behind.get() + worktrees(&repository));
            let ended = swarm(&repository, next[(effect % 4) as usize]).exits(0);
            assert_eq!(worktrees(&repository), 0, "died at {effect}: {ended}");
            assert!(!repository.path().join(".git/swarm/resolve/it-1-b").exists(), "died at {effect}: {ended}");
        }
    }
    assert!(left_behind.get() > 1, "{}", left_behind.get());
}

#[test]
fn a_drop_that_dies_is_completed_by_the_next() {
    let template = conflicted();
    let dropped = template.copy();
    swarm(&dropped, &["drop", "c"]).exits(0);
    swarm(&dropped, &["drop", "b"]).exits(0);
    let after = (fates(&dropped), seen(&dropped));
    let first = |repository: &Repository| drop(swarm(repository, &["drop", "c"]).exits(0));
    let died = dies_at_every(1, &template, &["drop", "b"], first, |repository, effect| {
        swarm(repository, &["drop", "b"]).exits(0);
        assert_eq!((fates(repository), seen(repository)), after, "died at {effect}");
    });
    assert!(died > 1, "{died}");
}

#[test]
fn locks_that_a_dead_command_left_on_the_refs_of_a_run_do_not_keep_the_next_out() {
    for words in [&["drop", "b"][..], &["clean"]] {
        let repository = conflicted();
        let lock = repository.path().join(".git/refs/swarm/it-1/b/1.lock");
        fs::write(&lock, "").expect("space");
        swarm(&repository, words).exits(0);
        assert!(!lock.exists(), "{words:?}");
    }
    let repository = conflicted();
    let at = PathBuf::from(swarm(&repository, &["resolve", "b"]).exits(0).out.trim());
    fs::write(at.join("a.txt"), "one\nboth\n").expect("space");
    let lock = repository.path().join(".git/refs/swarm/it-1/b/2.lock");
    fs::write(&lock, "").expect("space");
    swarm(&repository, &["resolve", "b", "--continue"]).exits(0);
    assert!(!lock.exists());
}

#[test]
fn a_clean_that_dies_or_fails_loses_no_result_and_no_log_of_one() {
    let template = conflicted();
    let cleaned = template.copy();
    swarm(&cleaned, &["clean"]).exits(0);
    let kept = |repository: &Repository| {
        let log = swarm(repository, &["logs", "b"]).exits(0).out;
        (log, seen(repository).refs, fates(repository))
    };
    let after = kept(&cleaned);
    assert!(after.0.contains("said") && after.1.keys().any(|name| name.contains("it-1/b/1")), "{after:?}");
    let log = |repository: &Repository| {
        assert!(repository.commit_of("refs/swarm/it-1/b/1").is_some());
        assert!(swarm(repository, &["logs", "b"]).exits(0).out.contains("said"));
    };
    let died = dies_at_every(
        2,
        &template,
        &["clean"],
        |_| (),
        |repository, effect| {
            log(repository);
            swarm(repository, &["clean"]).exits(0);
            assert_eq!(kept(repository), after, "died at {effect}");
        },
    );
    assert!(died > 5, "{died}");
    for words in [&["clean"][..], &["drop", "b"], &["resolve", "b"]] {
        fails_everywhere(&template, words, |repository, _| {
            if words == ["clean"] {
                log(repository);
            }
            swarm(repository, words).exits(0);
        });
    }
}

#[test]
fn a_retry_that_dies_is_told_how_it_goes_on() {
    let template = conflicted();
    let tried = template.copy();
    let code = swarm(&tried, &["retry"]).end().code;
    let after = (fates(&tried), tried.tree("swarm/it"));
    let died = dies_at_every(
        9,
        &template,
        &["retry"],
        |_| (),
        |repository, effect| {
            let again = swarm(repository, &["retry"]).end();
            if again.code != code {
                assert!(again.code == 2 && again.err.contains("swarm resume it-1"), "{again}");
                swarm(repository, &["resume"]).exits(code);
            }
            assert_eq!((fates(repository), repository.tree("swarm/it")), after, "died at {effect}");
            assert!(locks(repository).is_empty(), "died at {effect}: {:?}", locks(repository));
        },
    );
    assert!(died > 20, "{died}");
}

#[test]
fn a_target_that_somebody_removed_is_said_with_the_way_back() {
    let repository = conflicted();
    let tip = repository.commit_of("swarm/it").expect("it landed");
    repository.git().find_reference("refs/heads/swarm/it").and_then(|mut branch| branch.delete()).expect("a branch");
    for words in [&["apply"][..], &["resolve", "b"], &["retry"]] {
        let refused = swarm(&repository, words).exits(3);
        assert!(refused.err.contains(&format!("git branch swarm/it {tip}")), "{words:?}: {refused}");
    }
    swarm(&repository, &["clean"]).exits(0);
    for result in ["a", "b"] {
        assert!(repository.commit_of(&format!("refs/swarm/it-1/{result}/1")).is_some(), "{result} is on no branch");
    }
}

#[test]
fn a_target_that_is_checked_out_is_freed_as_the_hint_says_and_the_run_goes_on() {
    let repository = conflicted();
    let Some(_) = repository.run_git(&["switch", "-q", "swarm/it"]) else { return };
    for words in [&["retry"][..], &["retry", "b"]] {
        let refused = swarm(&repository, words).exits(2);
        let frees = format!("git -C {} switch --detach", repository.path().display());
        assert!(refused.err.contains(&frees) && !refused.err.contains("--into"), "{words:?}: {refused}");
    }
    repository.run_git(&["switch", "-q", "--detach"]).expect("as the hint says");
    let retried = swarm(&repository, &["retry"]).end();
    assert!(retried.code != 2 && retried.err.contains("tried again"), "{retried}");
}

#[test]
fn a_half_applied_checkout_is_put_in_order_although_its_branch_and_all_results_are_gone() {
    let template = gone_on();
    let (before, after) = (seen(&template), applied(&template));
    let died = dies_at_every(
        3,
        &template,
        &["apply"],
        |_| (),
        |repository, effect| {
            swarm(repository, &["list"]).exits(0);
            let kept = repository.refs("refs/swarm/*").into_iter().filter(|name| !name.contains("+apply"));
            for name in kept.chain(["refs/heads/swarm/it".to_owned()]) {
                repository.git().find_reference(&name).and_then(|mut it| it.delete()).expect("a ref");
            }
            repository.run_git(&["gc", "-q", "--prune=now"]);
            let refused = swarm(repository, &["apply"]).exits(3);
            assert!(refused.err.contains("was removed after results of this run"), "died at {effect}: {refused}");
            let now = seen(repository);
            let is = |side: &Seen| now.files == side.files && now.status == side.status;
            assert!(is(&before) || is(&after), "died at {effect}: {:?} {refused}", now.status);
            assert_eq!(repository.refs("refs/swarm/*"), Vec::<String>::new(), "died at {effect}");
        },
    );
    assert!(died > 12, "{died}");
}

#[test]
fn what_a_run_left_that_died_before_it_began_is_cleaned() {
    let template = Repository::with(&[("a.txt", "a\n")]);
    let mut left = 0;
    for effect in 1.. {
        let repository = template.copy();
        let run = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'true'\n");
        let died = run.args(&["--fault", &format!("die@{effect}")]).exits(KILLED);
        let refs = repository.refs("refs/swarm/*");
        if swarm(&repository, &["list"]).exits(0).out.contains("it-1") {
            break;
        }
        left += refs.len();
        let whole = repository.copy();
        dies_everywhere(&whole, &["clean"], |repository, effect| {
            swarm(repository, &["clean"]).exits(0);
            let folders = fs::read_dir(repository.path().join(".git/swarm/runs")).map_or(0, Iterator::count);
            assert_eq!((repository.refs("refs/swarm/*"), folders), (vec![], 0), "{died}, and clean at {effect}");
        });
        swarm(&repository, &["clean"]).exits(0);
        let folders = fs::read_dir(repository.path().join(".git/swarm/runs")).map_or(0, Iterator::count);
        assert_eq!((repository.refs("refs/swarm/*"), folders), (vec![], 0), "{died}");
    }
    assert!(left > 0, "one dies between its ref and its first entry");
}

#[test]
fn a_journal_with_a_hole_in_it_is_put_aside_as_the_hint_says_and_runs_go_on() {
    let template = conflicted();
    let refs = seen(&template).refs;
    let journal = |repository: &Repository| repository.path().join(".git/swarm/journal.sqlite");
    let pages = fs::metadata(journal(&template)).expect("a journal").len() / 4096;
    let mut damaged = None;
    for page in (0..pages).step_by(2) {
        let repository = template.copy();
        let mut bytes = fs::read(journal(&repository)).expect("a journal");
        bytes[page as usize * 4096..][..4096].fill(0);
        fs::write(journal(&repository), bytes).expect("space");
        for words in [&["status"][..], &["resume"], &["list"], &["clean", "--dry-run"]] {
            let ended = swarm(&repository, words).end();
            assert!([0, 3, 5].contains(&ended.code) && !ended.err.contains("panicked"), "page {page}: {ended}");
            if ended.code == 3 {
                assert!(ended.err.contains("damaged") && ended.err.contains("mkdir"), "page {page}: {ended}");
                damaged = Some((repository.copy(), ended.err));
            }
        }
        assert_eq!(seen(&repository).refs, refs, "page {page}");
    }
    let (repository, _) = damaged.expect("some page matters");
    let state = repository.path().join(".git/swarm");
    fs::create_dir(state.join("damaged")).expect("as the hint says");
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        // Beside a journal that was closed there is only one of them.
        drop(fs::rename(state.join(name), state.join("damaged").join(name)));
    }
    Swarm::run(&repository, "it", "[tasks.d]\nrun = 'echo d > d.txt'\n").exits(0);
    let all = seen(&repository).refs;
    assert!(refs.keys().filter(|name| name.contains("refs/swarm/")).all(|name| all[name] == refs[name]), "{all:?}");
    assert!(all.keys().any(|name| name.starts_with("refs/swarm/it-2/d")), "a name of its own: {all:?}");
}

#[test]
fn what_packed_refs_that_are_locked_still_hold_is_not_called_dropped() {
    let repository = conflicted();
    if repository.run_git(&["pack-refs", "--all"]).is_none() {
        swarm_protocol::skipped::say("refs are packed by git, which is not installed");
        return;
    }
    let lock = repository.path().join(".git/packed-refs.lock");
    fs::write(&lock, "").expect("space");
    let refused = swarm(&repository, &["drop", "b"]).exits(3);
    assert!(refused.err.contains("packed-refs.lock") && refused.err.contains("rm "), "{refused}");
    fs::remove_file(&lock).expect("it is there");
    swarm(&repository, &["drop", "b"]).exits(0);
    assert_eq!(repository.commit_of("refs/swarm/it-1/b/1"), None);
}

#[test]
fn a_worktree_that_points_nowhere_yet_is_begun_anew_and_a_folder_of_somebody_else_stays() {
    let template = conflicted();
    for (inside, code) in [(&[(".git", "")][..], 0), (&[(".git", "gitdir: /")], 0), (&[(".git", ""), ("mine", "x")], 2)]
    {
        let repository = template.copy();
        let at = PathBuf::from(swarm(&repository, &["resolve", "b"]).exits(0).out.trim());
        let admin = repository.path().join(".git/worktrees").join("resolve-it-1-b");
        fs::remove_file(admin.join("SWARM_RESOLVE")).expect("it is finished");
        fs::remove_dir_all(&at).and_then(|()| fs::create_dir(&at)).expect("a folder");
        inside.iter().for_each(|(name, text)| fs::write(at.join(name), text).expect("space"));
        let again = swarm(&repository, &["resolve", "b"]).exits(code);
        assert_eq!(at.join("mine").exists(), code == 2, "{again}");
    }
}
