//! A branch into a checkout, on real repositories.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use git2::{Signature, Status, Time};

use super::claim::{Claim, Note};
use super::*;
use crate::git_fixture::git;
use crate::repository::IdentitySource;

struct Fixture {
    folder: tempfile::TempDir,
    git: git2::Repository,
    base: Oid,
    scopes: Scopes,
}

const BASE: &[(&str, &str)] = &[("a.txt", "one\ntwo\nthree\n"), ("b.txt", "b\n"), (".gitignore", "ignored\nout/\n")];

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init(folder.path()).expect("a repository");
        let base = commit(&git, BASE, &[]);
        git.set_head("refs/heads/main").expect("a name");
        git.reference("refs/heads/main", base, true, "").expect("a ref");
        git.checkout_head(Some(CheckoutBuilder::new().force())).expect("a checkout");
        Fixture { folder, git, base, scopes: Scopes::default() }
    }

    fn target(&self, changes: &[(&str, &str)]) -> Oid {
        commit(&self.git, &with(changes), &[self.base])
    }

    /// The base and one more file, in folders.
    fn deep_target(&self, path: &str) -> Oid {
        let blob = self.git.blob(b"theirs\n").expect("a blob");
        let base = self.git.find_commit(self.base).expect("exists").tree().expect("exists");
        let tree = git2::build::TreeUpdateBuilder::new()
            .upsert(path, blob, git2::FileMode::Blob)
            .create_updated(&self.git, &base);
        let tree = self.git.find_tree(tree.expect("a tree")).expect("just written");
        let who = Signature::new("t", "t@example.org", &Time::new(1, 0)).expect("legal");
        let parent = self.git.find_commit(self.base).expect("exists");
        self.git.commit(None, &who, &who, "m", &tree, &[&parent]).expect("a commit")
    }

    /// A commit on the checkout's branch with other files than the base.
    fn commits(&self, changes: &[(&str, &str)]) -> Oid {
        self.moves_to(&with(changes))
    }

    /// The same, with these files only.
    fn moves_to(&self, files: &[(&str, &str)]) -> Oid {
        let commit = commit(&self.git, files, &[self.base]);
        self.git.reference("refs/heads/main", commit, true, "").expect("a ref");
        self.git.checkout_head(Some(CheckoutBuilder::new().force().remove_untracked(true))).expect("a checkout");
        commit
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn apply(&self, target: Oid) -> Result<Applied, ApplyError> {
        self.apply_at(target, 1_700_000_000)
    }

    fn apply_at(&self, target: Oid, date_s: i64) -> Result<Applied, ApplyError> {
        let repository = Repository::open(self.folder.path()).expect("a repository");
        let identity =
            Identity { name: "t".to_owned(), email: "t@example.org".to_owned(), source: IdentitySource::Configured };
        let merging = Merging { target, name: "swarm/x", scopes: &self.scopes };
        apply(&repository, merging, &identity, date_s)
    }

    /// Applying must be refused and leave everything as it was.
    fn refused(&self, target: Oid) -> ApplyError {
        let before = (self.read("a.txt"), self.read("new"), self.head());
        let error = self.apply(target).expect_err("must be refused");
        assert_eq!((self.read("a.txt"), self.read("new"), self.head()), before);
        error
    }

    fn head(&self) -> Oid {
        self.git.refname_to_id("HEAD").expect("a commit")
    }

    fn is_clean(&self) -> bool {
        self.git.statuses(None).expect("a status").iter().all(|entry| entry.status() == Status::IGNORED)
    }
}

/// The files of the base with changes.
fn with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = BASE.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes).copied().collect()
}

fn commit(git: &git2::Repository, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
    let mut tree = git.treebuilder(None).expect("a builder");
    for (name, content) in files {
        tree.insert(*name, git.blob(content.as_bytes()).expect("a blob"), 0o100_644).expect("a legal name");
    }
    let tree = git.find_tree(tree.write().expect("a tree")).expect("just written");
    let who = Signature::new("t", "t@example.org", &Time::new(1, 0)).expect("legal");
    let parents: Vec<_> = parents.iter().map(|id| git.find_commit(*id).expect("exists")).collect();
    git.commit(None, &who, &who, "m", &tree, &parents.iter().collect::<Vec<_>>()).expect("a commit")
}

#[test]
fn a_checkout_without_changes_moves_forward() {
    let it = Fixture::new();
    let target = it.target(&[("a.txt", "changed\n"), ("new", "new\n")]);
    assert_eq!(it.apply(target).expect("applies"), Applied::FastForward { to: target });
    assert_eq!((it.read("a.txt").as_str(), it.read("new").as_str()), ("changed\n", "new\n"));
    assert!(it.is_clean() && it.head() == target);
    assert_eq!(it.apply(target).expect("applies"), Applied::UpToDate);
}

#[test]
fn whatever_the_date_is_it_is_applied() {
    let fixture = Fixture::new();
    let target = fixture.target(&[("new", "x\n")]);
    assert_eq!(fixture.apply_at(target, i64::MAX).expect("a date"), Applied::FastForward { to: target });
}

#[test]
fn edits_elsewhere_survive_and_edits_in_the_way_refuse() {
    let it = Fixture::new();
    let target = it.target(&[("a.txt", "changed\n"), ("new", "new\n")]);
    fs::write(it.path("a.txt"), "mine\n").expect("a write");
    assert!(matches!(it.refused(target), ApplyError::LocalChanges { paths } if paths == ["a.txt"]));
    fs::write(it.path("a.txt"), BASE[0].1).expect("a write");
    fs::write(it.path("new"), "untracked\n").expect("a write");
    assert!(matches!(it.refused(target), ApplyError::LocalChanges { paths } if paths == ["new"]));
    fs::remove_file(it.path("new")).expect("it is there");
    fs::write(it.path("b.txt"), "mine\n").expect("a write");
    it.apply(target).expect("nothing is in the way");
    assert_eq!(it.read("b.txt"), "mine\n");
}

#[test]
fn ignored_files_are_not_overwritten() {
    let it = Fixture::new();
    let target = it.target(&[("ignored", "theirs\n")]);
    fs::write(it.path("ignored"), "mine\n").expect("a write");
    assert!(matches!(it.refused(target), ApplyError::InTheWay { .. }));
    assert_eq!(it.read("ignored"), "mine\n");
    let target = it.target(&[("out", "a file now\n")]);
    fs::create_dir(it.path("out")).expect("a folder");
    fs::write(it.path("out/built"), "mine\n").expect("a write");
    it.refused(target);
    assert_eq!(it.read("out/built"), "mine\n");
}

#[test]
fn what_git_says_nothing_of_is_named_and_stays() {
    type Put = fn(&Path);
    let puts: [(&str, &str, Put); 7] = [
        ("new", "new (a folder that git ignores, or of which it knows nothing) is in the way", |at| {
            fs::create_dir_all(at.join("empty/empty")).expect("folders");
        }),
        ("pipe", "pipe (a pipe) is in the way", |at| {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, rustix::fs::Mode::RWXU, 0).expect("a pipe");
        }),
        ("socket", "socket (a socket) is in the way", |at| drop(UnixListener::bind(at).expect("a socket"))),
        ("ignored", "ignored (a symbolic link) is in the way", |at| symlink("/etc/hostname", at).expect("a link")),
        ("out/sub/f", "out (a symbolic link) is in the way", |at| symlink("/", up(at, 2)).expect("a link")),
        ("out/sub/f", "out (a file that git ignores", |at| fs::write(up(at, 2), "mine").expect("a write")),
        ("dir/f", "dir (a pipe) is in the way", |at| {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, up(at, 1), kind, rustix::fs::Mode::RWXU, 0).expect("a pipe");
        }),
    ];
    for (name, said, put) in puts {
        let it = Fixture::new();
        let target = it.deep_target(name);
        put(&it.path(name));
        let refused = it.refused(target);
        let ApplyError::InTheWay { obstacles } = &refused else { panic!("{name}: {refused:?}") };
        assert!(refused.to_string().contains(said), "{refused}");
        assert!(obstacles[0].at.symlink_metadata().is_ok(), "{name} stays where it is");
        fs::rename(&obstacles[0].at, it.path("moved-away")).expect("as the hint says");
        it.apply(target).expect("nothing is in the way any more");
        assert_eq!(it.read(name), "theirs\n");
    }
}

#[test]
fn a_repository_of_its_own_in_a_folder_that_becomes_a_file_is_named_and_goes_where_the_hint_says() {
    for ignored in [false, true] {
        let it = Fixture::new();
        let deep = it.deep_target("d/x");
        it.apply(deep).expect("nothing is in the way");
        let target = commit(&it.git, &with(&[("d", "a file now\n")]), &[deep]);
        let own = it.path(if ignored { "d/out" } else { "d/own" });
        let nested = git2::Repository::init(&own).expect("a repository");
        commit(&nested, &[("mine", "mine\n")], &[]);
        fs::write(own.join("mine"), "mine\n").expect("a write");
        let refused = it.refused(target);
        let ApplyError::InTheWay { obstacles } = &refused else { panic!("{refused:?}") };
        assert!(refused.to_string().contains(" (a repository of its own) is in the way"), "{refused}");
        fs::rename(&obstacles[0].at, &obstacles[0].aside).expect("as the hint says");
        it.apply(target).expect("nothing is in the way any more");
        assert_eq!(it.read("d"), "a file now\n");
        assert_eq!(fs::read_to_string(obstacles[0].aside.join("mine")).expect("it stays"), "mine\n");
    }
}

#[test]
fn conflicts_that_no_merge_is_under_way_for_are_named() {
    let it = Fixture::new();
    let target = it.target(&[("new", "theirs\n")]);
    let git = |words: &[&str]| git(it.folder.path(), words);
    fs::write(it.path("a.txt"), "stashed\n").expect("a write");
    git(&["-c", "user.name=t", "-c", "user.email=t@x", "stash", "-q"]);
    it.commits(&[("a.txt", "mine\n")]);
    // It says by its exit code that there are conflicts.
    let pop = std::process::Command::new("git").args(["stash", "pop", "-q"]).current_dir(it.folder.path()).output();
    assert!(pop.is_ok_and(|pop| !pop.status.success()));
    let marked = it.read("a.txt");
    let refused = it.refused(target);
    assert!(matches!(&refused, ApplyError::Unmerged { paths } if paths == &["a.txt"]), "{refused}");
    assert!(refused.to_string().contains("a.txt in conflict here"), "{refused}");
    assert_eq!(it.read("a.txt"), marked);
    git(&["restore", "--source", "HEAD", "--staged", "--worktree", "a.txt"]);
    assert!(matches!(it.apply(target), Ok(Applied::Merged { .. })));
}

#[test]
fn an_edit_that_git_was_told_not_to_look_at_is_named_and_stays() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let it = Fixture::new();
        let target = it.target(&[("a.txt", "theirs\n")]);
        git(it.folder.path(), &["update-index", flag, "a.txt"]);
        fs::write(it.path("a.txt"), "mine\n").expect("a write");
        let refused = it.refused(target);
        assert!(matches!(&refused, ApplyError::HiddenChanges { paths } if paths == &["a.txt"]), "{refused}");
        assert_eq!(it.read("a.txt"), "mine\n");
        git(it.folder.path(), &["update-index", &flag.replace("--", "--no-"), "a.txt"]);
        assert!(matches!(it.refused(target), ApplyError::LocalChanges { .. }), "now it says more");
    }
}

#[test]
fn what_git_makes_of_a_file_that_it_does_not_look_at_is_no_edit() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let it = Fixture::new();
        let target = it.target(&[("a.txt", "theirs\n"), ("b.txt", "theirs\n")]);
        git(it.folder.path(), &["config", "core.autocrlf", "true"]);
        git(it.folder.path(), &["update-index", flag, "a.txt", "b.txt"]);
        fs::write(it.path("a.txt"), BASE[0].1.replace('\n', "\r\n")).expect("a write");
        it.apply(target).expect("it holds what git gave it, with the line ends of here");
        assert_eq!(it.read("a.txt"), "theirs\r\n");
    }
    let it = Fixture::new();
    let git = |words: &[&str]| drop(git(it.folder.path(), words));
    git(&["config", "user.name", "t"]);
    git(&["config", "user.email", "t@example.org"]);
    symlink("a.txt", it.path("link")).expect("a link");
    git(&["add", "link"]);
    git(&["commit", "-q", "-m", "a link"]);
    let before = it.head();
    fs::remove_file(it.path("link")).and_then(|()| symlink("b.txt", it.path("link"))).expect("a link");
    git(&["commit", "-q", "-a", "-m", "elsewhere"]);
    let target = it.head();
    git(&["reset", "-q", "--hard", &before.to_string()]);
    git(&["update-index", "--skip-worktree", "link"]);
    it.apply(target).expect("nobody changed it");
    assert_eq!(fs::read_link(it.path("link")).expect("a link"), Path::new("b.txt"));
}

#[test]
fn what_only_git_itself_writes_is_left_to_git() {
    let with = |attribute: &str| {
        let it = Fixture::new();
        let info = it.folder.path().join(".git/info");
        fs::create_dir_all(&info).expect("a folder");
        fs::write(info.join("attributes"), format!("a.txt {attribute}\n")).expect("space");
        git(it.folder.path(), &["config", "filter.up.smudge", "tr a-z A-Z"]);
        let target = it.target(&[("a.txt", "theirs\n")]);
        (it, target)
    };
    for attribute in ["filter=up", "working-tree-encoding=UTF-16"] {
        let (it, target) = with(attribute);
        assert!(matches!(it.refused(target), ApplyError::Filtered { paths } if paths == ["a.txt"]), "{attribute}");
    }
    let (it, target) = with("filter=nobodys");
    it.apply(target).expect("a filter that nobody configured is none");
}

#[test]
fn a_link_that_stands_here_as_a_file_is_left_to_git() {
    let it = Fixture::new();
    let git = |words: &[&str]| git(it.folder.path(), words);
    for (key, value) in [("user.name", "t"), ("user.email", "t@example.org"), ("core.symlinks", "false")] {
        git(&["config", key, value]);
    }
    let link_to = |target: &str| {
        fs::write(it.path("link"), target).expect("space");
        git(&["update-index", "--add", "--cacheinfo", "120000", git(&["hash-object", "-w", "link"]).trim(), "link"]);
        git(&["commit", "-q", "-m", target]);
        it.head()
    };
    let (before, target) = (link_to("a.txt"), link_to("b.txt"));
    git(&["reset", "-q", "--hard", &before.to_string()]);
    let refused = it.refused(target);
    assert!(matches!(&refused, ApplyError::LinksAsFiles { paths } if paths == &["link"]), "{refused}");
    assert!(refused.to_string().contains("core.symlinks is false"), "{refused}");
    git(&["merge", "-q", &target.to_string()]);
    assert_eq!(it.read("link"), "b.txt", "as it says");
    let new = it.deep_target("d/new");
    git(&["reset", "-q", "--hard", &it.base.to_string()]);
    it.apply(new).expect("it is about no link");
}

#[test]
fn a_sparse_checkout_takes_what_changes_in_it_and_names_what_is_not_there() {
    let it = Fixture::new();
    git(it.folder.path(), &["sparse-checkout", "set", "--no-cone", "/b.txt", "/.gitignore"]);
    assert!(!it.path("a.txt").exists());
    let elsewhere = it.target(&[("a.txt", "theirs\n"), ("b.txt", "theirs\n")]);
    assert!(matches!(it.refused(elsewhere), ApplyError::Sparse { paths } if paths == ["a.txt"]));
    let target = it.target(&[("b.txt", "theirs\n")]);
    it.apply(target).expect("all of it is here");
    assert_eq!((it.read("b.txt").as_str(), it.path("a.txt").exists(), it.head()), ("theirs\n", false, target));
    git(it.folder.path(), &["sparse-checkout", "disable"]);
    assert_eq!(it.read("a.txt"), BASE[0].1);
}

fn up(path: &Path, steps: usize) -> &Path {
    path.ancestors().nth(steps).expect("below the checkout")
}

#[test]
fn an_empty_folder_makes_way() {
    let it = Fixture::new();
    let target = it.target(&[("new", "theirs\n")]);
    fs::create_dir(it.path("new")).expect("a folder");
    it.apply(target).expect("git itself would take it away");
    assert_eq!(it.read("new"), "theirs\n");
}

#[test]
fn an_index_that_only_git_reads_is_named_with_what_makes_it_readable() {
    let it = Fixture::new();
    let target = it.target(&[("a.txt", "theirs\n")]);
    git(it.folder.path(), &["update-index", "--split-index"]);
    let ApplyError::Repository(error) = it.refused(target) else { panic!("libgit2 does not read it") };
    assert!(error.hint().contains("git update-index --no-split-index"), "{error}");
    git(it.folder.path(), &["update-index", "--no-split-index"]);
    it.apply(target).expect("as the hint says");
}

#[test]
fn a_staged_edit_in_the_way_refuses() {
    let it = Fixture::new();
    let target = it.target(&[("a.txt", "changed\n")]);
    fs::write(it.path("a.txt"), "staged\n").expect("a write");
    let mut index = it.git.index().expect("an index");
    index.add_path(std::path::Path::new("a.txt")).and_then(|()| index.write()).expect("staged");
    fs::write(it.path("a.txt"), BASE[0].1).expect("a write");
    assert!(matches!(it.refused(target), ApplyError::LocalChanges { .. }));
}

#[test]
fn branches_that_went_apart_are_merged_or_refused() {
    let it = Fixture::new();
    let mine = it.target(&[("a.txt", "one\ntwo\nmine\n")]);
    it.git.reference("refs/heads/main", mine, true, "").expect("a ref");
    it.git.checkout_head(Some(CheckoutBuilder::new().force())).expect("a checkout");
    let conflict = it.target(&[("a.txt", "one\ntwo\ntheirs\n")]);
    assert!(matches!(it.refused(conflict), ApplyError::Conflicts { paths } if paths == ["a.txt"]));
    // What stands where the other has a folder is nobody's to lose.
    let folder = it.deep_target("sub/new");
    let file = it.moves_to(&[("a.txt", "one\ntwo\nmine\n"), ("sub", "a file\n")]);
    assert!(
        matches!(it.refused(folder), ApplyError::Conflicts { paths } if paths.iter().any(|path| path.starts_with("sub")))
    );
    assert_eq!((it.git.head().expect("a head").target(), it.read("sub").as_str()), (Some(file), "a file\n"));
    it.git.reference("refs/heads/main", mine, true, "").expect("a ref");
    it.git.checkout_head(Some(CheckoutBuilder::new().force())).expect("a checkout");
    let clean = it.target(&[("b.txt", "theirs\n")]);
    let Ok(Applied::Merged { commit }) = it.apply(clean) else { panic!("expected a merge") };
    let parents: Vec<Oid> = it.git.find_commit(commit).expect("made").parent_ids().collect();
    assert_eq!(parents, [mine, clean]);
    assert_eq!((it.read("a.txt").as_str(), it.read("b.txt").as_str()), ("one\ntwo\nmine\n", "theirs\n"));
    assert!(it.is_clean() && it.head() == commit);
}

#[test]
fn a_merge_that_cannot_be_stored_is_an_error_and_moves_nothing() {
    // Every date is fixed, so the same files give the same merge in a checkout of their own.
    let apart = |text: &str| {
        let fixture = Fixture::new();
        let target = fixture.target(&[("new", text)]);
        fixture.commits(&[("b.txt", "ours\n")]);
        (fixture, target)
    };
    let folder_of = |fixture: &Fixture, id: Oid| fixture.git.path().join("objects").join(&id.to_string()[..2]);
    let alone = |text: String| {
        let (fixture, target) = apart(&text);
        let Applied::Merged { commit } = fixture.apply(target).expect("they fit") else { panic!("both went on") };
        let is_alone = fs::read_dir(folder_of(&fixture, commit)).is_ok_and(|entries| entries.count() == 1);
        is_alone.then_some((text, commit))
    };
    let (text, commit) = (0..).map(|n| format!("{n}\n")).find_map(alone).expect("many");
    let (fixture, target) = apart(&text);
    // A file where its folder has to be: nothing can be written there, whoever asks.
    fs::write(folder_of(&fixture, commit), "").expect("nothing is there yet");
    let error = fixture.refused(target);
    assert!(matches!(error, ApplyError::Repository(_)), "{error}");
}

#[test]
fn nothing_is_applied_in_the_middle_of_a_merge() {
    let it = Fixture::new();
    let target = it.target(&[("b.txt", "theirs\n")]);
    fs::write(it.git.path().join("MERGE_HEAD"), format!("{target}\n")).expect("a write");
    assert!(matches!(it.refused(target), ApplyError::UnderWay("merge")));
}

#[test]
fn a_merge_that_no_worker_may_leave_is_not_checked_out() {
    let it = Fixture::new();
    let mine = it.commits(&[("Foo", "mine\n"), ("a.txt", "one\ntwo\nmine\n")]);
    for theirs in [&[("foo", "theirs\n")][..], &[("foo", "theirs\n"), ("a.txt", "one\ntwo\ntheirs\n")]] {
        let target = it.target(theirs);
        let ApplyError::Hostile(what) = it.refused(target) else { panic!("both names in one folder") };
        assert!(what.contains("left foo: its name differs only in case"), "{what}");
    }
    assert_eq!(it.head(), mine);
    let innocent = it.target(&[("bar", "theirs\n")]);
    it.apply(innocent).expect("nothing is wrong with it");
}

#[test]
fn a_change_goes_only_where_its_task_may_write() {
    let edited = "one\n2\nthree\n";
    for (writes, expected) in [(Some("a.*"), None), (Some("*"), Some(edited)), (None, Some(edited))] {
        let mut it = Fixture::new();
        let target = it.target(&[("a.txt", edited)]);
        it.scopes = Scopes::of([(target, writes.map(|glob| vec![glob.to_owned()]))]);
        let moved = |name| if name == "a.txt" { "moved" } else { name };
        let moved: Vec<_> = BASE.iter().map(|(name, text)| (moved(*name), *text)).collect();
        it.moves_to(&moved);
        match (it.apply(target), expected) {
            (Ok(Applied::Merged { .. }), Some(expected)) => assert_eq!(it.read("moved"), expected),
            (Err(ApplyError::OutOfScope { from, to, .. }), None) => {
                assert_eq!((from.as_str(), to.as_str(), it.read("moved").as_str()), ("a.txt", "moved", BASE[0].1));
            }
            (other, _) => panic!("{writes:?}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_a_person_shortened_is_theirs_even_where_somebody_died_taking_it_back() {
    let fixture = Fixture::new();
    let long = "a line\n".repeat(100);
    let from = fixture.commits(&[("f", &long)]);
    let target = commit(&fixture.git, BASE, &[from]);
    let tree = |commit: Oid| fixture.git.find_commit(commit).expect("exists").tree_id();
    fs::write(fixture.path("f"), &long[..350]).expect("written");
    let note = format!(
        r#"{{"version":1,"from":"{}","to":"{}","branch":"refs/heads/main","moving":false,"putting-back":true}}"#,
        tree(from),
        tree(target)
    );
    let folder = fixture.path(".git/swarm/checkouts/main");
    fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("note"), note)).expect("space");
    fixture.apply(target).expect_err("somebody's edit is in the way");
    assert_eq!(fixture.read("f"), long[..350]);
    // What is missing is put back whole, and known to be.
    fs::remove_file(fixture.path("f")).expect("it is there");
    let repository = Repository::open(fixture.folder.path()).expect("a repository");
    let claim = Claim::take(&repository, 0).expect("nobody has it");
    claim.write(&Note::new(tree(from), tree(target), Some("refs/heads/main".to_owned()))).expect("a note");
    drop(claim);
    assert_eq!(put_in_order(&repository, 0).expect("in order"), TakenBack::Something);
    assert_eq!(fixture.read("f"), long);
    let index = git2::Index::open(&fixture.path(".git/index")).expect("an index");
    let entry = index.get_path(Path::new("f"), 0).expect("it is in it");
    assert_eq!(u64::from(entry.file_size), long.len() as u64);
    assert!(fixture.is_clean());
}

#[test]
fn a_taking_back_that_died_behind_its_files_is_completed_where_a_file_becomes_a_folder_and_back() {
    let fixture = Fixture::new();
    let git =
        |words: &[&str]| git(fixture.folder.path(), &[&["-c", "user.name=t", "-c", "user.email=t@x"], words].concat());
    let [file, folder] = ["d", "d/in"].map(|path| {
        git(&["checkout", "-q", "--detach", &fixture.base.to_string()]);
        fs::create_dir_all(fixture.path(path).parent().expect("a folder")).expect("made");
        fs::write(fixture.path(path), "text\n").expect("written");
        git(&["add", "-A"]);
        git(&["commit", "-qm", path]);
        fixture.head()
    });
    for (from, other) in [(file, folder), (folder, file)] {
        git(&["checkout", "-q", "--detach", &from.to_string()]);
        let tree = |commit: Oid| fixture.git.find_commit(commit).expect("exists").tree_id();
        let target = git(&["commit-tree", "-p", &from.to_string(), "-m", "m", &tree(other).to_string()]);
        let target: Oid = target.trim().parse().expect("an id");
        git(&["read-tree", &target.to_string()]);
        let repository = Repository::open(fixture.folder.path()).expect("a repository");
        let claim = Claim::take(&repository, 0).expect("nobody has it");
        claim.write(&Note::new(tree(from), tree(target), None)).expect("a note");
        drop(claim);
        fixture.apply(target).expect("nothing is in the way");
        assert_eq!(fixture.head(), target);
        assert!(fixture.is_clean(), "{}", git(&["status", "--short"]));
    }
}

#[test]
fn a_ref_of_an_earlier_application_that_was_never_written_is_in_nobodys_way() {
    let it = Fixture::new();
    let target = it.target(&[("new", "new\n")]);
    let repository = Repository::open(it.folder.path()).expect("a repository");
    let kept = repository.common_dir().join("refs/swarm/+apply/main");
    fs::create_dir_all(kept.parent().expect("a folder")).expect("space");
    fs::write(&kept, "").expect("space");
    assert_eq!(put_in_order(&repository, 1).expect("in order"), TakenBack::Nothing);
    assert!(!kept.exists(), "git gc would fail by it");
    fs::write(&kept, [0; 41]).expect("space");
    assert_eq!(it.apply(target).expect("applies"), Applied::FastForward { to: target });
    assert!(!kept.exists() && it.is_clean());
}
