//! Finding a repository and moving its refs, on real ones.

use super::*;
use crate::git_fixture::{Fixture, git};

#[test]
fn a_folder_without_a_repository_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Repository::open(folder.path()), Err(RepositoryError::NotFound(_))));
}

#[test]
fn a_repository_without_commits_says_so() {
    let fixture = Fixture::empty();
    let repository = Repository::open(fixture.path()).expect("an empty repository opens");
    assert!(matches!(repository.resolve("HEAD"), Err(RepositoryError::NoCommits)));
    assert!(matches!(repository.head_branch(), Err(RepositoryError::NoCommits)));
    let bare = tempfile::tempdir().expect("a temporary folder");
    git2::Repository::init_bare(bare.path()).expect("a bare repository");
    let error = Repository::open(bare.path()).and_then(|it| it.resolve("HEAD")).expect_err("it has no commits");
    assert!(error.hint().contains("git push") && !error.hint().contains("git add"), "{}", error.hint());
}

#[test]
fn a_sha256_repository_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    git(folder.path(), &["init", "-q", "--object-format=sha256", "."]);
    let error = Repository::open(folder.path()).expect_err("libgit2 reads sha1 only");
    assert!(matches!(error, RepositoryError::Format { name: "objectformat", .. }), "{error}");
    assert!(error.hint().contains("git fast-export --all | git -C"), "{}", error.hint());
}

#[test]
fn a_folder_inside_a_checkout_finds_it() {
    let fixture = Fixture::with_files(&[("a/b", "1")]);
    let repository = Repository::discover(&fixture.path().join("a")).expect("searching upwards");
    assert_eq!(repository.workdir(), Some(fixture.path()));
    assert_eq!(repository.head_branch().expect("a branch").as_deref(), Some("refs/heads/main"));
}

/// Where the checkout is, in every handle: those that are borrowed at first, and those that are opened later.
fn checkout_seen_from(start: &Path) -> Result<PathBuf, RepositoryError> {
    let repository = Repository::discover(start)?;
    let (one, two) = (repository.handle()?, repository.handle()?);
    let seen = [one.workdir(), two.workdir(), repository.fresh()?.workdir()].map(|it| it.map(canonical));
    let own = repository.workdir().expect("it has a checkout").to_owned();
    assert!(seen.iter().all(|it| it.as_ref().is_some_and(|it| it.as_ref().is_ok_and(|it| *it == own))), "{seen:?}");
    Ok(own)
}

#[test]
fn the_checkout_is_the_folder_in_which_git_is_found_wherever_its_directory_lies() {
    let fixture = Fixture::with_files(&[("a/b", "1")]);
    let other = tempfile::tempdir().expect("a temporary folder");
    let store = other.path().canonicalize().expect("it exists").join("it.git");
    let (work, above) = (fixture.path(), other.path().join("above"));
    std::os::unix::fs::symlink(work, &above).expect("a link");
    let check = |how: &str| {
        for start in [work.to_owned(), work.join("a"), above.clone(), above.join("a")] {
            assert_eq!(checkout_seen_from(&start).expect("a checkout"), work, "{how}: {}", start.display());
        }
    };
    check("beside its files");
    assert_eq!(checkout_seen_from(&work.join(".git")).expect("the one beside it"), work);
    git(work, &["init", "-q", &format!("--separate-git-dir={}", store.display())]);
    assert!(work.join(".git").is_file());
    check("named by a file");
    fs::remove_file(work.join(".git")).expect("the pointer");
    std::os::unix::fs::symlink(&store, work.join(".git")).expect("a link");
    check("behind a link");
    let alone = Repository::discover(&store).expect_err("nobody can know where its files are");
    assert!(matches!(&alone, RepositoryError::NoCheckout(at) if *at == store), "{alone}");
    git(&store, &["config", "core.worktree", work.to_str().expect("a plain path")]);
    check("named by its configuration");
    assert_eq!(checkout_seen_from(&store).expect("it says where"), work);
    git(&store, &["config", "--unset", "core.worktree"]);
    git(&store, &["config", "core.bare", "true"]);
    assert_eq!(Repository::discover(&store).expect("a bare one").workdir(), None);
}

#[test]
fn a_checked_out_branch_is_found_in_every_worktree() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let repository = fixture.repository();
    let other = tempfile::tempdir().expect("a temporary folder");
    let linked = other.path().canonicalize().expect("it exists").join("w");
    git(fixture.path(), &["worktree", "add", "-q", "-b", "side", linked.to_str().expect("a plain path")]);
    let at = |branch| repository.checked_out_at(branch).expect("HEADs are read");
    assert_eq!(at("refs/heads/main").as_deref(), Some(fixture.path()));
    assert_eq!(at("refs/heads/side"), Some(linked));
    assert_eq!(at("refs/heads/none"), None);
}

#[test]
fn worktrees_that_cannot_be_listed_are_no_proof_that_a_branch_is_nowhere() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let repository = fixture.repository();
    assert_eq!(repository.checked_out_at("refs/heads/side").expect("there are none"), None);
    fs::write(repository.common_dir().join("worktrees"), "no folder").expect("ours");
    let error = repository.checked_out_at("refs/heads/side").expect_err("nobody can know");
    assert!(matches!(&error, RepositoryError::Io { path, .. } if path.ends_with("worktrees")), "{error}");
}

#[test]
fn alternates_of_alternates_are_found() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = fixture.path().to_str().expect("a plain path");
    git(folder.path(), &["clone", "-q", "--shared", source, "one"]);
    git(folder.path(), &["clone", "-q", "--shared", "one", "two"]);
    let repository = Repository::open(&folder.path().join("two")).expect("a clone");
    assert_eq!(repository.object_dirs().expect("three stores").len(), 3);
}

#[test]
fn a_shallow_clone_is_told() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    fixture.commit(&[("a", "2")]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = format!("file://{}", fixture.path().display());
    git(folder.path(), &["clone", "-q", "--depth=1", &source, "one"]);
    let repository = Repository::open(&folder.path().join("one")).expect("a clone");
    let standing = Standing { history: History::Shallow, objects: Objects::Whole };
    assert_eq!(repository.standing().expect("facts"), standing);
}

#[test]
fn an_identity_is_always_there() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let identity = fixture.repository().identity().expect("configuration");
    assert_eq!((identity.name.as_str(), identity.source), ("Ada", IdentitySource::Configured));
}

#[test]
fn an_identity_can_sign_whatever_is_configured() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let check = |name: &str, email: &str, expected: (&str, &str)| {
        git(fixture.path(), &["config", "user.name", name]);
        git(fixture.path(), &["config", "user.email", email]);
        let identity = fixture.repository().identity().expect("configuration");
        assert_eq!((identity.name.as_str(), identity.email.as_str()), expected, "{name:?} {email:?}");
        let time = git2::Time::new(1, 0);
        git2::Signature::new(&identity.name, &identity.email, &time).expect("it signs");
    };
    let nobody = ("swarm", "swarm@localhost");
    check("Ada <the first>", "<ada@example.org>", ("Ada the first", "ada@example.org"));
    check("'Ada,'", "ada@example.org", ("Ada", "ada@example.org"));
    check("<>", "ada@example.org", nobody);
    check("Ada", ";:\\", nobody);
    check(" ", " ", nobody);
}
