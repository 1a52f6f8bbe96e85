//! `history = "keep"`: a worker's own commits, told again by us. Once when its change is collected, on what it started from,
//! under a ref beside the change's; and once more when it lands, folded one by one onto what landed before. Author and
//! message are the worker's, as far as they are fit to be seen; committer and every date are the run's, so the same work
//! gives the same commit ids. Where the steps do not lead to what lands, one commit stands for all and names them.

use std::collections::BTreeSet;

use git2::{Commit, Oid};
use swarm_plans::{History as Wanted, InstanceId};

use super::Executor;
use super::land::BatchError;
use super::take::TakeError;
use super::trees::Start;
use crate::collect::history::{Author, History, Kept, Step, history};
use crate::collect::rules::judge_together;
use crate::collect::{Change, Terms};
use crate::commit::{self, CommitSpec, Retold};
use crate::dispatcher::core::Landing;
use crate::ids::Attempt;
use crate::merge::{self, Folded, fold_by};
use crate::report::{sanitize, words};
use crate::repository::{Identity, RepositoryError, fit_to_sign};
use crate::secrets::Secrets;
use crate::worktree::Worktree;

/// Bytes of a message that are kept.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// Characters of an author's name or address that are kept.
const AUTHOR_CHARS_MAX: usize = 100;

/// Authors that a note names.
const AUTHORS_NAMED_MAX: usize = 5;

/// The trailers that only we write.
const OURS: &str = "swarm-";

/// The trailer of a commit that stands for several.
const TRAILER: &str = "Swarm-History";

impl Executor {
    /// Tells a worker's commits again on what it started from, where the plan wants them and there are any: the newest, and
    /// what a person should know.
    pub(super) fn keep_history(
        &self,
        (name, attempt): (&InstanceId, Attempt),
        start: &Start,
        worktree: &Worktree,
        change: &Change,
        writes: Option<&[String]>,
    ) -> Result<(Option<String>, Vec<String>), TakeError> {
        if self.plan.merge.history == Wanted::Squash || change.is_empty() {
            return Ok((None, vec![]));
        }
        let kept = match history(
            &self.repository,
            worktree,
            start.commit,
            change,
            (writes, &Terms::without(&self.jobs.secrets)),
        )? {
            History::None => return Ok((None, vec![])),
            History::Squashed(reason) => {
                return Ok((None, vec![format!("its commits are told as one: {}", self.jobs.secrets.text(&reason))]));
            }
            History::Kept(kept) => kept,
        };
        let mut notes: Vec<String> = told_otherwise(&kept).into_iter().collect();
        if kept.steps.is_empty() {
            return Ok((None, notes));
        }
        let authors = kept.steps.iter().filter_map(|step| fit(step.author.as_ref()?, &self.jobs.secrets));
        notes.extend(other_authors(authors, &self.signing.identity));
        let mut parent = start.commit;
        for step in &kept.steps {
            parent = self.retell(name, parent, step)?;
        }
        let reference = commit::history_ref(&self.run, name, attempt);
        commit::keep_new(&self.repository, &reference, parent, &[start.commit])?;
        Ok((Some(parent.to_string()), notes))
    }

    fn retell(&self, name: &InstanceId, parent: Oid, step: &Step) -> Result<Oid, RepositoryError> {
        let subject = format!("{}: {name}", self.plan.name);
        let message = message(&step.message, &subject);
        let message = self.jobs.secrets.text(&message);
        let author = step.author.as_ref().and_then(|author| fit(author, &self.jobs.secrets));
        let trailers = commit::trailers(&self.plan.name, name);
        let retold = Retold { parent, tree: step.tree, author, message: &message, trailers: &trailers };
        commit::write_retold(&self.repository, &self.signing, &retold)
    }

    /// Lands a change that folds to `tree` onto `tip`: commit by commit where its history leads there, else as one. Files that
    /// were made `again` for it belong to the last step.
    pub(super) fn land_on(
        &self,
        landing: &Landing,
        tip: Oid,
        (tree, again): (Oid, &[Vec<u8>]),
    ) -> Result<Oid, BatchError> {
        let Some(newest) = &landing.change.history else { return Ok(self.commit_on(landing, tip, tree)?) };
        let git = self.repository.handle()?;
        let steps = told(&git, &landing.change.commit, newest)?;
        let mut trees = Vec::new();
        let mut before = git.find_commit(tip)?.tree_id();
        for step in &steps {
            let base = step.parent(0)?.tree_id();
            let step_of = merge::Step { base, result: step.tree_id(), writes: landing.change.writes.as_deref() };
            match fold_by(&git, &self.trees.rules, before, &step_of).map(|outcome| outcome.folded) {
                Ok(Folded::Clean { tree })
                    if judge_together(&git.odb()?, before, tree).is_ok_and(|refusal| refusal.is_none()) =>
                {
                    before = tree
                }
                // All of it fits and may stand, but not step by step.
                Ok(_) | Err(_) => return Ok(self.commit_on(landing, tip, tree)?),
            }
            trees.push((step, before));
        }
        match trees.last_mut() {
            Some((_, last)) if *last == tree => {}
            Some((_, last)) if !again.is_empty() => *last = tree,
            Some(_) | None => return Ok(self.commit_on(landing, tip, tree)?),
        }
        let (mut parent, mut before) = (tip, git.find_commit(tip)?.tree_id());
        for (step, tree) in trees {
            if tree != before {
                parent = commit::write_again(&self.repository, &self.signing, step, parent, tree)?;
                before = tree;
            }
        }
        Ok(parent)
    }

    /// Tells the commits of a recorded change again, as this run would have: on the commit that its instance starts from now, which
    /// has the tree that they were made on. Gives the newest, kept under a ref of this run.
    pub(super) fn tell_again(
        &self,
        name: &InstanceId,
        onto: Oid,
        (commit, newest): (&str, &str),
    ) -> Result<Oid, RepositoryError> {
        let git = self.repository.handle()?;
        let mut parent = onto;
        for step in told(&git, commit, newest)? {
            parent = commit::write_again(&self.repository, &self.signing, &step, parent, step.tree_id())?;
        }
        commit::keep_new(&self.repository, &commit::history_ref(&self.run, name, Attempt(1)), parent, &[onto])?;
        Ok(parent)
    }

    fn commit_on(&self, landing: &Landing, parent: Oid, tree: Oid) -> Result<Oid, RepositoryError> {
        let mut trailers = commit::trailers(&self.plan.name, &landing.name);
        trailers.extend(landing.change.history.clone().map(|newest| (TRAILER, newest)));
        let subject = format!("{}: {}", self.plan.name, landing.name);
        let spec = CommitSpec { parents: &[parent], tree, subject: &subject, trailers: &trailers };
        commit::write_commit(&self.repository, &self.signing, &spec)
    }
}

/// Says whom a worker's commits name as their authors beside who signs them; nobody has looked whether it is true.
fn other_authors(authors: impl Iterator<Item = (String, String)>, signer: &Identity) -> Option<String> {
    let others: BTreeSet<String> = authors
        .filter(|(name, email)| (name, email) != (&signer.name, &signer.email))
        .map(|(name, email)| format!("{} <{}>", sanitize::name(&name), sanitize::name(&email)))
        .collect();
    let list = words::first_of(&others, AUTHORS_NAMED_MAX);
    (!others.is_empty()).then(|| format!("its commits name other authors than you, which is its own word: {list}"))
}

/// What a line of commits that change something cannot say of a worker's own; `None` where it says all.
fn told_otherwise(kept: &Kept) -> Option<String> {
    let merges = (kept.merges > 0).then(|| {
        let each = if kept.merges == 1 { "a commit" } else { "a commit each" };
        format!("{} told as {each}, without what was merged", words::count(kept.merges as u64, "merge"))
    });
    let empty = (kept.empty > 0).then(|| {
        let change = if kept.empty == 1 { "changes" } else { "change" };
        format!("{} left out that {change} nothing", words::count(kept.empty as u64, "commit"))
    });
    let said: Vec<String> = [merges, empty].into_iter().flatten().collect();
    (!said.is_empty()).then(|| format!("its commits are one line: {}", said.join(", ")))
}

/// The commits that a worker's history was told in, the oldest first: from what its change `commit` started from to the `newest`.
fn told<'g>(git: &'g git2::Repository, commit: &str, newest: &str) -> Result<Vec<Commit<'g>>, git2::Error> {
    let start = git.find_commit(Oid::from_str(commit)?)?.parent_id(0)?;
    let mut steps: Vec<Commit<'_>> = Vec::new();
    let mut at = git.find_commit(Oid::from_str(newest)?)?;
    // We wrote them, one on top of the other.
    while at.id() != start {
        let parent = at.parent(0)?;
        steps.push(std::mem::replace(&mut at, parent));
    }
    steps.reverse();
    Ok(steps)
}

/// A worker's message as it can be shown anywhere: lines without control characters, bounded, and none that claims to be a
/// trailer of ours. An empty one becomes `subject`.
fn message(bytes: &[u8], subject: &str) -> String {
    let mut text = String::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let line = sanitize::line(line);
        let line = line.trim_end();
        if line.to_ascii_lowercase().trim_start().starts_with(OURS) || text.is_empty() && line.is_empty() {
            continue;
        }
        if text.len() + line.len() >= MESSAGE_BYTES_MAX {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    match text.trim_end() {
        "" => subject.to_owned(),
        text => text.to_owned(),
    }
}

/// Name and address as git takes them, without secrets: a worker sets both. `None` where nothing is left of either.
fn fit(author: &Author, secrets: &Secrets) -> Option<(String, String)> {
    let fit = |bytes: &[u8]| -> Option<String> {
        let text = sanitize::line(bytes);
        let text = fit_to_sign(&secrets.text(&text))?;
        Some(text.chars().take(AUTHOR_CHARS_MAX).collect::<String>().trim().to_owned())
    };
    let (name, email) = (fit(&author.name)?, fit(&author.email)?);
    // Older versions of git strip more from the ends of a name.
    name.chars().any(char::is_alphanumeric).then_some((name, email))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::IdentitySource;

    #[test]
    fn a_message_is_shown_without_what_a_terminal_would_obey_or_a_reader_believe() {
        let check =
            |given: &str, expected: &str| assert_eq!(message(given.as_bytes(), "plan: t"), expected, "{given:?}");
        check("title\n\nbody  \n", "title\n\nbody");
        check("\n\n", "plan: t");
        check("t\x1b[31m\nSwarm-Task: other\n swarm-run: x\nend", "t\nend");
        assert!(message(&[b'x'; 100_000], "s").len() <= MESSAGE_BYTES_MAX);
    }

    #[test]
    fn who_did_not_sign_is_named_once() {
        let signer = Identity { name: "a".into(), email: "a@b".into(), source: IdentitySource::Configured };
        let said = |authors: &[(&str, &str)]| {
            let authors = authors.iter().map(|(name, email)| ((*name).to_owned(), (*email).to_owned()));
            other_authors(authors, &signer).map(|note| note.rsplit(": ").next().unwrap_or_default().to_owned())
        };
        assert_eq!(said(&[("a", "a@b")]), None);
        let boss = said(&[("Boss", "boss@b"), ("a", "a@b"), ("Boss", "boss@b"), ("a", "x@b")]);
        assert_eq!(boss.as_deref(), Some("Boss <boss@b>, a <x@b>"));
    }

    #[test]
    fn an_author_without_a_name_is_nobody() {
        let author = |name: &str, email: &str| Author { name: name.into(), email: email.into() };
        let fit = |author: &Author| fit(author, &Secrets::default());
        assert_eq!(fit(&author("Eve\x07 <x>", "e@x")), Some(("Eve x".to_owned(), "e@x".to_owned())));
        assert_eq!(fit(&author("...", "e@x")), None);
        assert_eq!(fit(&author("Eve", "")), None);
        assert_eq!(fit(&author("Eve", "<;>")), None);
    }

    #[test]
    fn an_author_is_called_by_no_secret() {
        let secrets = Secrets::new([("KEY", "s3cr3t-of-the-run")]);
        let fit = |name: &str, email: &str| fit(&Author { name: name.into(), email: email.into() }, &secrets);
        let shown = fit("Eve s3cr3t-of-the-run", "s3cr3t-of-the-run@x").expect("a name is left");
        assert!(shown.0.starts_with("Eve ") && shown.1.ends_with("@x"), "{shown:?}");
        assert!(!shown.0.contains("s3cr3t") && !shown.1.contains("s3cr3t"), "{shown:?}");
    }
}
