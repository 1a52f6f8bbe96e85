//! A change becomes a commit and a ref. Author and date are the run's own, so the same results give the same commit ids,
//! whatever finished first.

use git2::{Commit, ObjectType, Oid, Signature, Time, Tree};
use swarm_plans::InstanceId;

use crate::fault;
use crate::ids::{Attempt, RunId, encode_component};
use crate::repository::{Brought, Handle, Identity, Repository, RepositoryError, Swap, single_line};

/// Bytes of a subject that are kept.
const SUBJECT_BYTES_MAX: usize = 200;

/// What all commits of a run share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// Author and committer.
    pub identity: Identity,
    /// Seconds since the Unix epoch: the run's start, or `SOURCE_DATE_EPOCH`. Rendered in +0000.
    pub date_seconds: i64,
}

/// One commit to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitSpec<'a> {
    /// Its parents; a result has one.
    pub parents: &'a [Oid],
    /// Its tree.
    pub tree: Oid,
    /// The first line; control characters become spaces.
    pub subject: &'a str,
    /// Trailers in order, for example those of [`trailers`].
    pub trailers: &'a [(&'static str, String)],
}

/// The trailers that name where a commit comes from: the plan, not the run, so that the same plan gives the same commit ids
/// however often it ran.
pub fn trailers(plan: &str, instance: &InstanceId) -> Vec<(&'static str, String)> {
    vec![("Swarm-Plan", plan.to_owned()), ("Swarm-Task", instance.to_string())]
}

/// The instance that the trailers of a commit's message name.
pub fn task_of(message: &str) -> Option<&str> {
    message.lines().find_map(|line| line.strip_prefix("Swarm-Task: "))
}

/// Writes a commit; no ref moves and no hook runs.
///
/// # Errors
/// [`RepositoryError::Git`] when a parent or the tree is missing, or the disk is full.
pub fn write_commit(repository: &Repository, signing: &Signing, spec: &CommitSpec<'_>) -> Result<Oid, RepositoryError> {
    let git = repository.handle()?;
    let time = Time::new(signing.date_seconds, 0);
    let signature = Signature::new(&signing.identity.name, &signing.identity.email, &time)?;
    let tree = git.find_tree(spec.tree)?;
    let parents = spec.parents.iter().map(|&id| git.find_commit(id)).collect::<Result<Vec<_>, _>>()?;
    let parents: Vec<_> = parents.iter().collect();
    store(&git, (&signature, &signature), &message(spec), &tree, &parents)
}

/// Writes a commit object. Not by `git_commit_create`: where the object cannot be written (no space), that says it was, with the id of
/// a commit that nobody has. Source: `git_commit__create_internal` of libgit2 1.9, which leaves `error` at 0 then.
fn store(
    git: &Handle<'_>,
    (author, committer): (&Signature<'_>, &Signature<'_>),
    message: &str,
    tree: &Tree<'_>,
    parents: &[&Commit<'_>],
) -> Result<Oid, RepositoryError> {
    let io = |source| RepositoryError::Io { path: git.commondir().to_owned(), source };
    fault::point().map_err(io)?;
    let text = git.commit_create_buffer(author, committer, message, tree, parents)?;
    Ok(git.odb()?.write(ObjectType::Commit, &text)?)
}

/// One of a worker's own commits, to be told again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retold<'a> {
    /// Its parent.
    pub parent: Oid,
    /// Its tree.
    pub tree: Oid,
    /// Name and address, fit to be seen; `None` is the committer.
    pub author: Option<(String, String)>,
    /// Its message without trailers of ours, fit to be seen.
    pub message: &'a str,
    /// Trailers of ours, in order.
    pub trailers: &'a [(&'static str, String)],
}

/// Writes a worker's commit with our committer and date.
///
/// # Errors
/// As of [`write_commit`].
pub fn write_retold(repository: &Repository, signing: &Signing, it: &Retold<'_>) -> Result<Oid, RepositoryError> {
    let git = repository.handle()?;
    let time = Time::new(signing.date_seconds, 0);
    let committer = Signature::new(&signing.identity.name, &signing.identity.email, &time)?;
    let author = match &it.author {
        Some((name, email)) => Signature::new(name, email, &time)?,
        None => committer.clone(),
    };
    let mut message = format!("{}\n\n", it.message);
    put_trailers(&mut message, it.trailers);
    let (tree, parent) = (git.find_tree(it.tree)?, git.find_commit(it.parent)?);
    store(&git, (&author, &committer), &message, &tree, &[&parent])
}

/// Writes a commit of ours once more, on another parent and with another tree; an earlier run's gets this run's date.
///
/// # Errors
/// As of [`write_commit`].
pub fn write_again(
    repository: &Repository,
    signing: &Signing,
    like: &Commit<'_>,
    parent: Oid,
    tree: Oid,
) -> Result<Oid, RepositoryError> {
    let git = repository.handle()?;
    let time = Time::new(signing.date_seconds, 0);
    let committer = Signature::new(&signing.identity.name, &signing.identity.email, &time)?;
    let (tree, parent) = (git.find_tree(tree)?, git.find_commit(parent)?);
    let author = like.author();
    let author = Signature::new(author.name()?, author.email()?, &time)?;
    store(&git, (&author, &committer), like.message()?, &tree, &[&parent])
}

/// The ref that keeps a worker's own commits alive, beside the one that keeps its result.
pub fn history_ref(run: &RunId, instance: &InstanceId, attempt: Attempt) -> String {
    format!("{}+history", attempt_ref(run, instance, attempt))
}

/// The ref that keeps an attempt's result alive until it is merged or dropped by name.
pub fn attempt_ref(run: &RunId, instance: &InstanceId, attempt: Attempt) -> String {
    format!("{}{}/{attempt}", run_refs(run), encode_component(&instance.0))
}

/// Below which name all refs of a run are: `refs/swarm/<run>/`.
pub fn run_refs(run: &RunId) -> String {
    format!("refs/swarm/{}/", encode_component(&run.0))
}

/// The ref that keeps a run's base alive. An instance may be called `base`, and no encoded name starts with `+b`, so the
/// plus sign keeps the two apart.
pub fn base_ref(run: &RunId) -> String {
    format!("{}+base", run_refs(run))
}

/// The ref that keeps alive what is folded and has not landed yet: somebody may collect garbage while it is verified.
pub fn folded_ref(run: &RunId) -> String {
    format!("{}+folded", run_refs(run))
}

/// The ref that keeps alive what attempts start from where that is no result of one task: the changes of several, joined.
pub fn start_ref(run: &RunId, commit: Oid) -> String {
    format!("{}{commit}", start_refs(run))
}

/// Below which name those of a run are; no longer needed when it ends.
pub fn start_refs(run: &RunId) -> String {
    format!("{}+start/", run_refs(run))
}

/// Writes a commit that holds others by being made of them, and says nothing else: a ref for many results. It and its empty tree are on
/// the disk then. No clock: the same results give the same commit.
///
/// # Errors
/// [`RepositoryError`].
pub fn bundle(repository: &Repository, commits: &[Oid], message: &str) -> Result<Oid, RepositoryError> {
    let empty = repository.write_durably(ObjectType::Tree, &[])?;
    let parents: String = commits.iter().map(|commit| format!("parent {commit}\n")).collect();
    let who = "swarm <swarm@localhost> 0 +0000";
    let text = format!("tree {empty}\n{parents}author {who}\ncommitter {who}\n\n{message}\n");
    repository.write_durably(ObjectType::Commit, text.as_bytes())
}

/// Lets go of what nobody starts from any more when a run ends: what was folded and what was joined.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn let_go(repository: &Repository, run: &RunId) -> Result<(), RepositoryError> {
    repository.delete_ref(&folded_ref(run))?;
    for (start, _) in repository.refs_below(&start_refs(run))? {
        repository.delete_ref(&start)?;
    }
    Ok(())
}

/// What the ref of a base keeps instead when it is about to be removed; no run has it as its base.
const NO_BASE: &[u8] = b"the base of no run\n";

/// The id of what marks the ref of a base that is about to be removed, whether or not it is there.
///
/// # Errors
/// None but a bug.
pub fn no_base() -> Result<Oid, RepositoryError> {
    Ok(Oid::hash_object(ObjectType::Blob, NO_BASE)?)
}

/// Marks the ref of a base: it is about to be removed.
///
/// # Errors
/// [`RepositoryError::Git`].
pub fn mark_base(repository: &Repository, run: &RunId) -> Result<(), RepositoryError> {
    let mark = repository.write_durably(ObjectType::Blob, NO_BASE)?;
    keep(repository, &base_ref(run), mark)
}

/// Keeps a new commit of ours under one of swarm's own refs, with all that it brings since those of `before`, which are kept
/// already. When this returns, all of it is on the disk and was there behind the ref: the journal may name it.
///
/// # Errors
/// [`RepositoryError::Vanished`] where somebody collected garbage meanwhile; whoever writes it again may try again.
/// [`RepositoryError`] else.
pub fn keep_new(repository: &Repository, name: &str, commit: Oid, before: &[Oid]) -> Result<(), RepositoryError> {
    let brought = match repository.bring_to_disk(commit, before)? {
        Brought::All(brought) => brought,
        Brought::Missing(missing) => return Err(RepositoryError::Vanished(missing)),
    };
    keep_brought(repository, (name, commit), before, &brought)
}

/// Writes a ref, which stands only where all is there behind it still.
fn keep_brought(
    repository: &Repository,
    (name, commit): (&str, Oid),
    before: &[Oid],
    brought: &[Oid],
) -> Result<(), RepositoryError> {
    write_ref(repository, name, commit)?;
    // What cannot be read at this moment may be whole: its ref stays, as everywhere.
    if repository.still_holds(commit, before, brought)? {
        return Ok(());
    }
    // A ref that leads to nothing is in the way of every git gc. It may be written anew whether or not it went.
    if let Err(error) = repository.compare_and_delete(name, commit) {
        tracing::warn!(%error, name, "a ref whose commit is gone stays");
    }
    Err(RepositoryError::Vanished(commit))
}

/// Keeps a commit under one of swarm's own refs, whatever the ref held before, where what it brings is known to be kept already.
///
/// # Errors
/// [`RepositoryError::Git`]; [`RepositoryError::Unsteady`] where it never is what it was a moment ago.
pub fn keep(repository: &Repository, name: &str, commit: Oid) -> Result<(), RepositoryError> {
    repository.sync_loose(&[commit])?;
    write_ref(repository, name, commit)
}

/// How often a ref that somebody else moves is written again. Nobody else has a reason to move one of ours: one that leads to a ref which
/// does not exist looks like one that is moved, for ever.
const WRITES_MAX: usize = 16;

fn write_ref(repository: &Repository, name: &str, commit: Oid) -> Result<(), RepositoryError> {
    let mut known = None;
    for _ in 0..WRITES_MAX {
        match repository.compare_and_swap(name, known, commit, "swarm")? {
            Swap::Done => return Ok(()),
            Swap::Moved(Some(current)) if current == commit => return Ok(()),
            Swap::Moved(current) => known = current,
        }
    }
    Err(RepositoryError::Unsteady(name.to_owned()))
}

fn message(spec: &CommitSpec<'_>) -> String {
    let subject = single_line(spec.subject);
    let mut end = subject.len().min(SUBJECT_BYTES_MAX);
    while !subject.is_char_boundary(end) {
        end -= 1;
    }
    let mut message = format!("{}\n", &subject[..end]);
    if !spec.trailers.is_empty() {
        message.push('\n');
    }
    put_trailers(&mut message, spec.trailers);
    message
}

fn put_trailers(message: &mut String, trailers: &[(&'static str, String)]) {
    for (key, value) in trailers {
        message.push_str(&format!("{key}: {}\n", single_line(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, git};
    use crate::repository::IdentitySource;

    fn signing(date_seconds: i64) -> Signing {
        let identity =
            Identity { name: "Ada".into(), email: "ada@example.org".into(), source: IdentitySource::Configured };
        Signing { identity, date_seconds }
    }

    fn commit(fixture: &Fixture, subject: &str, instance: &str) -> Oid {
        let repository = fixture.repository();
        let parent = repository.resolve("HEAD").expect("a commit");
        let tree = repository.tree_of(parent).expect("its tree");
        let trailers = trailers("plan", &InstanceId(instance.into()));
        let spec = CommitSpec { parents: &[parent], tree, subject, trailers: &trailers };
        write_commit(&repository, &signing(86_400), &spec).expect("a commit")
    }

    #[test]
    fn a_ref_stands_only_where_all_is_there_behind_it() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let before = repository.resolve("HEAD").expect("a commit");
        let commit = fixture.commit(&[("b", "2")]);
        let Brought::All(brought) = repository.bring_to_disk(commit, &[before]).expect("legible") else {
            panic!("it is there")
        };
        let kept = |name: &str| keep_brought(&repository, (name, commit), &[before], &brought);
        kept("refs/swarm/p-1/a/1").expect("it is there");
        let hex = git(fixture.path(), &["rev-parse", "HEAD:b"]);
        let blob = repository.common_dir().join("objects").join(&hex[..2]).join(hex[2..].trim());
        std::fs::remove_file(blob).expect("loose");
        assert!(matches!(kept("refs/swarm/p-1/b/1"), Err(RepositoryError::Vanished(gone)) if gone == commit));
        let refs: Vec<String> =
            repository.refs_below("refs/swarm/").expect("refs").into_iter().map(|it| it.0).collect();
        assert_eq!(refs, ["refs/swarm/p-1/a/1"]);
    }

    #[test]
    fn the_same_result_gives_the_same_commit() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        assert_eq!(commit(&fixture, "work", "t"), commit(&fixture, "work", "t"));
    }

    #[test]
    fn a_commit_that_cannot_be_stored_is_an_error() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let folder_of = |subject: &String| {
            let id = commit(&fixture, subject, "t").to_string();
            let folder = fixture.repository().common_dir().join("objects").join(&id[..2]);
            let is_alone = std::fs::read_dir(&folder).is_ok_and(|entries| entries.count() == 1);
            is_alone.then(|| (subject.clone(), folder))
        };
        let (subject, folder) = (0..).map(|n| format!("work {n}")).find_map(|it| folder_of(&it)).expect("many");
        // A file where its folder has to be: nothing can be written there, whoever asks.
        std::fs::remove_dir_all(&folder).and_then(|()| std::fs::write(&folder, "")).expect("ours");
        let repository = fixture.repository();
        let parent = repository.resolve("HEAD").expect("a commit");
        let tree = repository.tree_of(parent).expect("its tree");
        let trailers = trailers("plan", &InstanceId("t".into()));
        let spec = CommitSpec { parents: &[parent], tree, subject: &subject, trailers: &trailers };
        let written = write_commit(&repository, &signing(86_400), &spec);
        assert!(written.is_err(), "{written:?}");
    }

    #[test]
    fn a_commit_reads_as_git_shows_it() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let id = commit(&fixture, "work", "t[a=b]").to_string();
        let shown = git(fixture.path(), &["show", "-s", "--format=%an <%ae> %ad%n%B", "--date=iso", &id]);
        assert_eq!(
            shown.trim_end(),
            "Ada <ada@example.org> 1970-01-02 00:00:00 +0000\nwork\n\nSwarm-Plan: plan\nSwarm-Task: t[a=b]"
        );
    }

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let id = commit(&fixture, "work\n\nSigned-off-by: x", "t\nSwarm-Plan: other").to_string();
        let trailers = git(fixture.path(), &["show", "-s", "--format=%(trailers)", &id]);
        assert_eq!(trailers.trim_end(), "Swarm-Plan: plan\nSwarm-Task: t Swarm-Plan: other");
    }

    #[test]
    fn a_result_that_cannot_be_read_now_is_kept_and_one_that_is_gone_may_be_written_again() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let before = fixture.repository().resolve("HEAD").expect("a commit");
        let commit = fixture.commit(&[("b", "2")]);
        let repository = fixture.repository();
        let blob = git(fixture.path(), &["rev-parse", "HEAD:b"]);
        let path = repository.common_dir().join("objects").join(&blob[..2]).join(blob[2..].trim());
        let name = "refs/swarm/p-1/a/1";
        // An object that is no file of its own any more: all is looked for.
        let keep = || keep_brought(&repository, (name, commit), &[before], &[Oid::ZERO_SHA1]);
        std::fs::remove_file(&path).and_then(|()| std::fs::create_dir(&path)).expect("ours");
        assert!(!matches!(keep().expect_err("a folder is no object"), RepositoryError::Vanished(_)));
        assert_eq!(repository.find_ref(name).expect("read"), Some(commit));
        std::fs::remove_dir(&path).expect("ours");
        let lock = repository.common_dir().join("packed-refs.lock");
        std::fs::write(&lock, "").expect("space");
        assert!(matches!(keep(), Err(RepositoryError::Vanished(_))), "although its ref stays");
        std::fs::remove_file(&lock).expect("ours");
        assert!(matches!(keep(), Err(RepositoryError::Vanished(_))));
        assert_eq!(repository.find_ref(name).expect("read"), None);
    }

    #[test]
    fn a_ref_that_stands_for_none_is_not_written_for_ever() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let (repository, name) = (fixture.repository(), "refs/swarm/p-1/+base");
        let head = repository.resolve("HEAD").expect("a commit");
        git(fixture.path(), &["symbolic-ref", name, "refs/swarm/none"]);
        assert!(matches!(keep(&repository, name, head), Err(RepositoryError::Unsteady(_))));
        git(fixture.path(), &["symbolic-ref", "-d", name]);
        keep(&repository, name, head).expect("as its hint says");
    }

    #[test]
    fn an_instance_called_base_does_not_hide_the_base() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let head = repository.resolve("HEAD").expect("a commit");
        let run = RunId("r-1".into());
        keep(&repository, &base_ref(&run), head).expect("the base is kept");
        keep(&repository, &attempt_ref(&run, &InstanceId("base".into()), Attempt(1)), head)
            .expect("the result is kept");
        keep(&repository, &base_ref(&run), head).expect("keeping twice changes nothing");
        assert_eq!(repository.refs_below("refs/swarm/").expect("refs").len(), 2);
    }

    #[test]
    fn a_result_of_which_something_vanished_is_not_kept_as_one() {
        let fixture = Fixture::with_files(&[("a", "1")]);
        let repository = fixture.repository();
        let before = repository.resolve("HEAD").expect("a commit");
        let commit = fixture.commit(&[("b", "2")]);
        let blob = git(fixture.path(), &["rev-parse", "HEAD:b"]);
        let path = repository.common_dir().join("objects").join(&blob[..2]).join(blob[2..].trim());
        let name = attempt_ref(&RunId("r-1".into()), &InstanceId("t".into()), Attempt(1));
        let aside = fixture.path().join("aside");
        std::fs::rename(&path, &aside).expect("a loose object");
        let kept = keep_new(&repository, &name, commit, &[before]);
        assert!(matches!(kept, Err(RepositoryError::Vanished(_))), "{kept:?}");
        assert_eq!(repository.find_ref(&name).expect("legible"), None);
        std::fs::rename(&aside, &path).expect("the same disk");
        keep_new(&repository, &name, commit, &[before]).expect("whole again");
        assert_eq!(repository.find_ref(&name).expect("legible"), Some(commit));
    }
}
