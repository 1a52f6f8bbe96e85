//! Files that a command of the plan makes again where two changes meet in them (`[merge] regenerate`), before anything counts
//! as a conflict. The command sees the merged tree with such files as they landed, and may change them only.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use git2::{Odb, Oid};
use serde_json::Value;
use swarm_plans::{InstanceIx, RenderError, RenderedAgent, RenderedCommand, ResolvedBy, TaskGraph};
use swarm_protocol::Ended;
use swarm_protocol::causes::causes;

use super::errand::{Errand, ending, is_ours};
use super::job::Jobs;
use super::{Executor, Stop, no_start};
use crate::collect::{Collected, Refusal, Terms, collect, display_path};
use crate::commit::{self, CommitSpec};
use crate::dispatcher::core::RunFacts;
use crate::event::{AttemptEnd, ChangeSummary};
use crate::path_globs::PathGlobs;
use crate::report::{sanitize, words};
use crate::repository::{Brought, RepositoryError};
use crate::threads;
use crate::tree::{self, Edits, Entry, TreeError};

/// The instance under which the logs of commands are kept that make files again, one attempt each. No task can have this
/// name.
pub const REGENERATE: &str = "[merge] regenerate";

/// What settles the conflicts of a run.
pub struct Settler {
    makers: Vec<Maker>,
    /// Settles conflicts.
    pub(super) resolver: Option<Resolving>,
    /// Starts makers.
    pub(super) jobs: Jobs,
    /// What came of a maker (by its position) on a tree.
    known: Mutex<HashMap<(usize, Oid), Made>>,
    /// The number of the last log.
    last: AtomicU32,
    /// Held while files are made for an attempt's start: each has a thread of its own meanwhile, and the next may find them made.
    one_by_one: tokio::sync::Mutex<()>,
}

/// The plan's resolver.
pub(super) struct Resolving {
    /// Who settles a conflict.
    pub by: ResolvingBy,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: String,
}

/// Who settles a conflict.
pub(super) enum ResolvingBy {
    /// A command.
    Command(RenderedCommand),
    /// An agent, and its wall time.
    Agent(Box<RenderedAgent>, Option<Duration>),
}

/// A command that makes files.
pub(super) struct Maker {
    /// Globs of the files.
    pub paths: Vec<String>,
    /// What makes them.
    pub command: RenderedCommand,
    /// Its policy, a key of the plan's sandboxes.
    pub sandbox: String,
}

/// What came of making files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// The tree with the new files.
    Tree(Oid),
    /// The command failed or did what it may not; for people.
    Not(String),
}

/// Files in which changes met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meeting {
    /// Where, from the top of the tree; each stands as it landed.
    pub paths: Vec<Vec<u8>>,
    /// The trees of the changes.
    pub sides: Vec<Oid>,
}

impl Settler {
    /// The commands that make files again, in the plan's order.
    pub(super) fn makers(&self) -> &[Maker] {
        &self.makers
    }

    /// What the plan asks for.
    ///
    /// # Errors
    /// [`RenderError`] of a command.
    pub fn new(graph: &TaskGraph, facts: &RunFacts, jobs: Jobs) -> Result<Self, RenderError> {
        let lookup = facts.lookup();
        let context = facts.context(&Value::Null, &lookup);
        let maker = |one: &swarm_plans::Regenerate| {
            let command = graph.render_command(&one.command, &context)?;
            Ok(Maker { paths: one.paths.clone(), command, sandbox: one.sandbox.clone() })
        };
        let makers = graph.plan().merge.regenerate.iter().map(maker).collect::<Result<_, RenderError>>()?;
        let resolving = |resolver: &swarm_plans::Resolver| {
            let by = match &resolver.by {
                ResolvedBy::Command(command) => ResolvingBy::Command(graph.render_command(command, &context)?),
                ResolvedBy::Agent { agent, timeout } => {
                    ResolvingBy::Agent(Box::new(graph.render_agent(agent, &context)?), *timeout)
                }
            };
            Ok::<_, RenderError>(Resolving { by, sandbox: resolver.sandbox.clone() })
        };
        let resolver = graph.plan().merge.resolver.as_ref().map(resolving).transpose()?;
        Ok(Settler {
            makers,
            resolver,
            jobs,
            known: Mutex::default(),
            last: AtomicU32::new(0),
            one_by_one: tokio::sync::Mutex::default(),
        })
    }
}

impl Executor {
    /// A tree with those of its files made again in which two changes met; `parent` is the commit below it. Blocks for work of
    /// the pool: to be called [apart](threads::apart).
    ///
    /// # Errors
    /// Why it could not be tried, for people: a failure of ours or of the machine, or the run is ending.
    pub(super) fn made_again(self: &Arc<Self>, parent: Oid, tree: Oid, meeting: &Meeting) -> Result<Made, String> {
        let mut tree = tree;
        for (at, maker) in self.settler.makers.iter().enumerate() {
            let globs = PathGlobs::new(&maker.paths).map_err(|error| causes(&error))?;
            let met: Vec<&[u8]> = meeting.paths.iter().map(Vec::as_slice).filter(|path| globs.matches(path)).collect();
            if met.is_empty() {
                continue;
            }
            let made = match self.make_once(at, parent, tree)? {
                Made::Tree(made) => made,
                failed @ Made::Not(_) => return Ok(failed),
            };
            if let Some(failed) = self.left_as_found((at, parent), [tree, made], &met, &meeting.sides)? {
                return Ok(failed);
            }
            tree = made;
        }
        Ok(Made::Tree(tree))
    }

    /// What a maker, by its position, makes of a tree.
    fn make_once(self: &Arc<Self>, at: usize, parent: Oid, tree: Oid) -> Result<Made, String> {
        let known = || self.settler.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known().get(&(at, tree)).cloned() {
            return Ok(made);
        }
        let executor = Arc::clone(self);
        let making = async move { executor.make(&executor.settler.makers[at], parent, tree).await };
        let made = threads::wait_for(making).ok_or("the run ended meanwhile")??;
        known().insert((at, tree), made.clone());
        Ok(made)
    }

    /// Whether a maker left files as they landed because it makes nothing of them, and not because they were right: then the
    /// change of the other side would be lost. It is shown the tree with the other side's files; what it leaves then, too, it
    /// does not make.
    fn left_as_found(
        self: &Arc<Self>,
        (at, parent): (usize, Oid),
        trees: [Oid; 2],
        met: &[&[u8]],
        sides: &[Oid],
    ) -> Result<Option<Made>, String> {
        let git = self.repository.handle().map_err(|error| causes(&error))?;
        let odb = git.odb().map_err(|error| causes(&error))?;
        let Some((others, turned)) = turned(&odb, trees, met, sides).map_err(|error| causes(&error))? else {
            return Ok(None);
        };
        let made = match self.make_once(at, parent, turned)? {
            Made::Tree(made) => made,
            failed @ Made::Not(_) => return Ok(Some(failed)),
        };
        let maker = &self.settler.makers[at];
        for (path, other) in &others {
            if tree::find(&odb, made, path).map_err(|error| causes(&error))? == *other {
                return Ok(Some(Made::Not(format!(
                    "[merge] regenerate of {} made nothing: `{}` leaves {} as it finds it, so what one of two changes did there would be lost",
                    maker.paths.join(", "),
                    words::command_in_short(&maker.command.argv),
                    display_path(path)
                ))));
            }
        }
        Ok(None)
    }

    /// Makes the files in which the changes of an attempt's needs meet, so that there is a tree to start from.
    pub(super) async fn make_joined(
        self: &Arc<Self>,
        changes: &[(InstanceIx, ChangeSummary)],
        tree: Oid,
        again: Vec<Vec<u8>>,
    ) -> Result<(), Stop> {
        let _alone = self.settler.one_by_one.lock().await;
        let (executor, changes) = (Arc::clone(self), changes.to_vec());
        let sides = changes.iter().map(|(_, change)| Oid::from_str(&change.tree)).collect::<Result<_, _>>()?;
        let meeting = Meeting { paths: again, sides };
        let settled = threads::apart("make", move || match executor.made_again(executor.base, tree, &meeting) {
            Ok(Made::Tree(tree)) => executor.trees.settle(&changes, tree).map_err(no_start),
            Ok(Made::Not(detail)) => Err(Stop(AttemptEnd::Needs { detail })),
            Err(detail) => Err(Stop(AttemptEnd::Infra { detail })),
        });
        settled.await?
    }

    async fn make(self: &Arc<Self>, maker: &Maker, parent: Oid, tree: Oid) -> Result<Made, String> {
        let number = self.settler.last.fetch_add(1, Ordering::Relaxed) + 1;
        let places = self.places_of(REGENERATE, number);
        self.settler.jobs.phase(None, format!("making {} again", maker.paths.join(", ")));
        let spec = CommitSpec { parents: &[parent], tree, subject: "files to be made again", trailers: &[] };
        let commit = commit::write_commit(&self.repository, &self.signing, &spec).map_err(|error| causes(&error))?;
        on_the_disk(self.repository.bring_to_disk(commit, &[parent]))?;
        let whole = self.trees.whole();
        let errand = Errand::of_train((&whole, commit), &maker.command, &maker.sandbox, &self.settler.jobs, &places);
        let (ended, worktree) = self.lone_errand(errand).await?;
        if ended != (Ended::Exited { code: 0 }) {
            self.trees.let_go(worktree).await;
            let text = ending(&maker.command, &ended, &places);
            return if is_ours(&ended) { Err(text) } else { Ok(self.not_made(maker, number, &text)) };
        }
        let (executor, paths) = (Arc::clone(self), maker.paths.clone());
        let collected = tokio::task::spawn_blocking(move || {
            let collected =
                collect(&executor.repository, &worktree, Some(&paths), &Terms::without(&executor.jobs.secrets));
            executor.trees.discard(worktree);
            let collected = collected.map_err(|error| causes(&error))?;
            if let Collected::Change(change) = &collected {
                on_the_disk(executor.repository.bring_tree_to_disk(tree, change.tree))?;
            }
            Ok::<_, String>(collected)
        });
        let collected = collected.await.map_err(|error| causes(&error))??;
        Ok(match collected {
            Collected::Change(change) => Made::Tree(change.tree),
            Collected::Refused(refusal) => {
                let text = format!("`{}` {}", words::command_in_short(&maker.command.argv), refused(&refusal));
                self.not_made(maker, number, &text)
            }
        })
    }

    /// Files could not be made again, as the log of that number tells.
    fn not_made(&self, maker: &Maker, number: u32, why: &str) -> Made {
        let why = why.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        let (files, log) = (maker.paths.join(", "), sanitize::shell_word(REGENERATE));
        Made::Not(format!(
            "[merge] regenerate of {files} failed: {why} (all of it: swarm logs {} {log} --attempt {number})",
            self.run
        ))
    }
}

/// What is shown to a command, or comes of it, outlasts a power cut, whether or not any of it lands: git collects no garbage where one
/// object is damaged.
fn on_the_disk(brought: Result<Brought, RepositoryError>) -> Result<(), String> {
    match brought.map_err(|error| causes(&error))? {
        Brought::All(_) => Ok(()),
        Brought::Missing(missing) => Err(causes(&RepositoryError::Vanished(missing))),
    }
}

/// The files that are in `made` as they were `found` and in another version on one of the sides: those versions, and the tree
/// `found` with them. `None` where there are none.
fn turned(
    odb: &Odb<'_>,
    [found, made]: [Oid; 2],
    met: &[&[u8]],
    sides: &[Oid],
) -> Result<Option<(Edits, Oid)>, TreeError> {
    let mut others = Edits::new();
    for path in met {
        let here = tree::find(odb, found, path)?;
        if tree::find(odb, made, path)? != here {
            continue;
        }
        for side in sides {
            let other = tree::find(odb, *side, path)?;
            if other != here && !other.is_some_and(Entry::is_tree) {
                others.insert(path.to_vec(), other);
                break;
            }
        }
    }
    if others.is_empty() {
        return Ok(None);
    }
    match tree::edit(odb, Some(found), &others) {
        Ok(Some(turned)) => Ok(Some((others, turned))),
        Ok(None) => Ok(Some((others, tree::write(odb, vec![])?))),
        // There is no such tree to be shown.
        Err(TreeError::FileAndDirectory(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a command did that it may not, for people.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let first = |paths: &[Vec<u8>]| paths.first().map(|path| display_path(path)).unwrap_or_default();
    match refusal {
        Refusal::OutOfScope { paths, count: 1 } => format!("changed {}, which is none of its files", first(paths)),
        Refusal::OutOfScope { paths, count } => {
            format!("changed {count} paths that are none of its files, {} among them", first(paths))
        }
        Refusal::Hostile { path, reason } => format!("left {}: {reason}", display_path(path)),
        Refusal::Limit { limit, max, path } => {
            format!("left more than the limit `{limit}` of {max} allows, at {}", display_path(path))
        }
    }
}
