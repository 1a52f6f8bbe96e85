//! The gate of the target: one command in a cage, on the tree of a commit that is about to land.
//!
//! *What lands was green in a fresh worktree*, and who is put aside was red in one: the whole tree (`[workspace] sparse` is for
//! tasks), what every worktree of the run has, and nothing that an earlier command left. Whoever trusts old output further says `[workspace] cache`, and has it
//! everywhere.
//!
//! *In between, verifications are warm.* The search for a culprit ([`crate::merge::train::search`]) looks at many trees that
//! differ little. They find the build output of the base under their own files: the ignored files that the gate left when it
//! passed on the base, as a read-only layer ([`crate::base::warm`]), and above it what differs from the base. What such a
//! verification says is a guess. `test -d node_modules || npm ci` is green over the modules of a base that named more of them,
//! and a build may fail over output that no longer fits.
//!
//! *Why nothing but the base's output is handed on.* A gate runs what tasks wrote: tests, build scripts. Whoever can write into
//! the output that a later verification takes for its own decides what that one finds: an object file that looks fresh, a
//! stamp. In a worktree that moves from tree to tree this would reach from one task's change into the verdict on another's,
//! though the first was evicted. The base is different: a person chose it, and nothing of this run was part of it. A layer
//! that nobody can write is the same for every verification, in whatever order and however many at once they run, and there
//! is no leftover that would have to be found and put back. The price is that the way from the base grows with what lands.
//!
//! *What is remembered.* A fresh green verdict, under the key of the gate: it counts for every look. A warm one under a key
//! that names the layer, too, with the moment at which it was made: it counts for another guess over that very layer, and lets
//! nothing land. For how long: [`crate::run`], `recall.rs`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use git2::Oid;
use serde_json::Value;
use swarm_plans::{InstanceId, RenderedCommand};
use swarm_protocol::Ended;
use tokio::sync::Semaphore;

use super::Executor;
use super::errand::{Errand, ending, is_ours};
use super::job::Jobs;
use super::places::Places;
use super::setup::{self, SetupError};
use crate::base::Layers;
use crate::dispatcher::core::{Verification, VerifyDone};
use crate::event::{GateVerdict, VerifiedTree};
use crate::merge::train::search::Look;
use crate::policy::Cage;
use crate::report::words;
use crate::worktree::Worktree;

/// The instance under which the logs of verifications are kept, one attempt each. No task can have this name.
pub const VERIFY: &str = "[merge] verify";

/// The instance under which the log of the gate's fingerprint is kept.
const FINGERPRINT: &str = "[merge] verify fingerprint";

/// What every verification sees: a verdict of an older swarm, which hid what `[workspace] sparse` leaves out, is none.
const SEES: &str = "all files";

/// What verifications need.
#[derive(Debug)]
pub struct Gate {
    command: RenderedCommand,
    sandbox: String,
    /// See [`gate_key`].
    key: String,
    /// Trees that passed this gate before, each behind the key that it passed under.
    known: Mutex<HashSet<(String, String)>>,
    /// The build output of the base, once there is some.
    warm: OnceLock<Warm>,
    /// Verifications at once.
    places: Semaphore,
    jobs: Jobs,
}

/// The base with the build output that the gate left on it.
#[derive(Debug)]
struct Warm {
    layers: Layers,
    /// What verdicts on trees above it depend on, hex.
    key: String,
}

/// What a verdict depends on beside the tree: the command and the policy that it runs under, without the limits that are shares
/// of what the machine has free. Hex.
pub fn gate_key(command: &RenderedCommand, cage: &Cage) -> String {
    digest(command.argv.iter().map(String::as_str).chain([cage.ingredients().as_str(), SEES]))
}

fn digest<'p>(parts: impl Iterator<Item = &'p str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

impl Gate {
    /// A gate that `parallel` verifications may use at once, each started by `jobs`; `known` trees have passed it.
    pub fn new(command: RenderedCommand, sandbox: &str, cage: &Cage, parallel: u32, jobs: Jobs) -> Self {
        let (sandbox, key) = (sandbox.to_owned(), gate_key(&command, cage));
        let places = Semaphore::new(parallel.max(1) as usize);
        Gate { command, sandbox, key, known: Mutex::default(), warm: OnceLock::new(), places, jobs }
    }

    /// What it runs.
    pub fn command(&self) -> &RenderedCommand {
        &self.command
    }

    /// Makes verdicts depend on the untracked files under every worktree, too: what setup made, what is copied from the
    /// checkout (their layers are named by their content and by the secret of the state folder), and which caches are shown; and on what else is `known` to decide them. To
    /// be called once these are known, and before anything is remembered.
    pub fn stand_on(&mut self, layers: &Layers, known: Vec<String>) {
        let caches = layers.caches.iter().map(|cache| cache.to_string_lossy().into_owned());
        let below: Vec<String> = layers.untracked().into_iter().chain(caches).chain(known).collect();
        if !below.is_empty() {
            self.key = digest([&self.key].into_iter().chain(&below).map(String::as_str));
        }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Puts the base's build output under later verifications, and gives their key. What is there already stays.
    pub fn warm_up(&self, layers: Layers) -> &str {
        let warm = || {
            let warmth = layers.warmth().unwrap_or_default();
            Warm { key: digest([self.key.as_str(), "warm", &warmth].into_iter()), layers }
        };
        &self.warm.get_or_init(warm).key
    }

    /// Trees that passed under a key in earlier runs.
    pub fn remember(&self, key: &str, trees: impl IntoIterator<Item = String>) {
        let trees = trees.into_iter().map(|tree| (key.to_owned(), tree));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(trees);
    }

    /// The key under which a tree is known to pass, as far as that counts for this look.
    fn knows(&self, tree: &str, warm: Option<&Warm>) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = [Some(&self.key), warm.map(|warm| &warm.key)].into_iter().flatten();
        keys.into_iter().find(|key| known.contains(&((*key).clone(), tree.to_owned()))).cloned()
    }
}

impl Executor {
    /// What the fingerprint of the gate prints on the base; `None` when it has none.
    ///
    /// # Errors
    /// [`SetupError`].
    pub async fn verify_fingerprint(&self, verify: &swarm_plans::Verify) -> Result<Option<String>, SetupError> {
        let Some(command) = &verify.fingerprint else { return Ok(None) };
        let command = self.plan.render_command(command, &self.facts.context(&Value::Null, &self.facts.lookup()))?;
        setup::printed(self, &InstanceId(FINGERPRINT.into()), &verify.sandbox, &command).await.map(Some)
    }

    /// Verifies the tree of a commit. Never fails: what goes wrong is the verdict `broken`.
    pub async fn verify(self: Arc<Self>, asked: Verification) -> VerifyDone {
        let gate = self.gate.as_ref().expect("BUG: a run without a gate verifies nothing");
        let begun = Instant::now();
        let mut done = VerifyDone {
            tree: String::new(),
            gate: gate.key.clone(),
            of: asked.of.clone(),
            look: Look::Fresh,
            verdict: GateVerdict::Broken,
            duration_ms: 0,
            detail: None,
        };
        let commit = Oid::from_str(&asked.commit).ok();
        let tree = commit.and_then(|commit| Some((commit, self.repository.tree_of(commit).ok()?)));
        let Some((commit, tree)) = tree else {
            done.detail = Some(format!("there is no commit {}", asked.commit));
            return done;
        };
        done.tree = tree.to_string();
        let warm = gate.warm.get().filter(|_| asked.look == Look::Warm);
        if let Some(key) = gate.knows(&done.tree, warm) {
            (done.gate, done.verdict) = (key, GateVerdict::Green);
            return done;
        }
        if let Some(warm) = warm {
            (done.gate, done.look) = (warm.key.clone(), Look::Warm);
        }
        let _place = gate.places.acquire().await;
        let what = match &asked.of {
            VerifiedTree::Base => "verifying the base".to_owned(),
            VerifiedTree::Tip => "verifying the target".to_owned(),
            VerifiedTree::Results { count } => format!("verifying {}", words::count(u64::from(*count), "result")),
        };
        gate.jobs.phase(None, what);
        let places = self.verify_places(&asked);
        let whole = self.trees.whole();
        let errand = Errand::of_train(
            (warm.map_or(&whole, |warm| &warm.layers), commit),
            &gate.command,
            &gate.sandbox,
            &gate.jobs,
            &places,
        );
        let ran = self.lone_errand(errand).await;
        done.duration_ms = begun.elapsed().as_millis() as u64;
        match ran {
            Ok((Ended::Exited { code: 0 }, worktree)) => {
                done.verdict = GateVerdict::Green;
                gate.remember(&done.gate, [done.tree.clone()]);
                self.keep_warm(gate, &asked.of, worktree).await;
            }
            Ok((ended, worktree)) => {
                self.trees.let_go(worktree).await;
                done.verdict = if is_ours(&ended) { GateVerdict::Broken } else { GateVerdict::Red };
                done.detail = Some(ending(&gate.command, &ended, &places));
            }
            Err(reason) => done.detail = Some(reason),
        }
        done.detail.iter_mut().for_each(|detail| {
            self.jobs.secrets.mask(detail);
        });
        done
    }

    fn verify_places(&self, asked: &Verification) -> Places {
        self.places_of(VERIFY, u32::try_from(asked.number).unwrap_or(u32::MAX))
    }

    /// Keeps what a green verification left, if it was the base's; else throws it away. Where that cannot be done, later
    /// verifications find nothing built: they take longer and say the same.
    async fn keep_warm(self: &Arc<Self>, gate: &Gate, of: &VerifiedTree, worktree: Worktree) {
        if *of != VerifiedTree::Base || gate.warm.get().is_some() || !self.trees.share_a_path() {
            return self.trees.let_go(worktree).await;
        }
        let (executor, key) = (Arc::clone(self), gate.key.clone());
        let adopted = tokio::task::spawn_blocking(move || {
            executor.trees.bases.adopt_warm_layer(&executor.trees.whole(), &key, worktree)
        });
        match adopted.await {
            Ok(Ok(Some(layers))) => {
                gate.warm_up(layers);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what the gate built on the base could not be kept"),
            Err(error) => tracing::warn!(%error, "what the gate built on the base could not be kept"),
        }
    }
}
