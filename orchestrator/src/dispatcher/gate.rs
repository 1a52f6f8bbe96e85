//! The gate of the target: whether the base passes it, which trees are known to pass, and who waits for a verdict. A pure
//! value; what lands follows in [`super::landing`].

use std::collections::{BTreeMap, BTreeSet};

use swarm_plans::{Batch, Verify};

use super::messages::{Action, Verification, VerifyDone};
use crate::event::{GateVerdict as Verdict, RunEvent, VerifiedTree};
use crate::merge::train::search::{BROKEN_MAX, Look, Search, Tip};

/// Who waits for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Base,
    /// A prefix of the present batch.
    Prefix(usize),
    /// A batch whose search has ended.
    Nobody,
}

/// What is known of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// Nothing yet.
    Unknown,
    /// Its verdict is awaited.
    Asked,
    /// Work may start.
    Green,
    /// Nothing can land on it.
    Red,
    /// There is no verdict to be had.
    Unverifiable,
}

/// The verifications of one run.
#[derive(Debug)]
pub(super) struct Gate {
    batch: Batch,
    parallel: usize,
    retry: u32,
    base: Base,
    reds: u32,
    broken: u32,
    asked: BTreeMap<u64, Asked>,
    /// The number of the last verification.
    last: u64,
    /// Prefixes of the present batch that were red in a fresh worktree, with the number of the last such verification.
    red: BTreeMap<usize, u64>,
    /// Trees that passed in a fresh worktree.
    green: BTreeSet<String>,
}

impl Gate {
    pub(super) fn new(verify: &Verify) -> Self {
        Gate {
            batch: verify.batch,
            parallel: verify.parallel as usize,
            retry: verify.retry,
            base: Base::Unknown,
            reds: 0,
            broken: 0,
            asked: BTreeMap::new(),
            last: 0,
            red: BTreeMap::new(),
            green: BTreeSet::new(),
        }
    }

    /// How many of `ready` results make the next batch; `more` may still come.
    pub(super) fn batch_of(&self, ready: usize, more: bool) -> usize {
        match self.batch {
            Batch::Auto => ready,
            Batch::Exactly(exactly) if ready >= exactly as usize => exactly as usize,
            Batch::Exactly(_) if more => 0,
            Batch::Exactly(_) => ready,
        }
    }

    pub(super) fn base(&self) -> Base {
        self.base
    }

    /// Asks for the base's verdict, once.
    pub(super) fn ask_base(&mut self, commit: &str, actions: &mut Vec<Action>) {
        if self.base == Base::Unknown {
            self.base = Base::Asked;
            self.ask(Asked::Base, commit, (VerifiedTree::Base, Look::Fresh), actions);
        }
    }

    /// Says how many verifications there were before: each has a number, and a log, of its own.
    pub(super) fn behind(&mut self, verifications: u64) {
        self.last = verifications;
    }

    /// A search over `count` results on a tip with this tree.
    pub(super) fn search(&mut self, count: usize, tip_tree: &str) -> Search {
        self.forget();
        self.red.clear();
        let tip = if self.green.contains(tip_tree) { Tip::Green } else { Tip::Unknown };
        Search::new(count, self.parallel, self.retry, tip)
    }

    /// Nobody waits for the verdicts on prefixes any more.
    pub(super) fn forget(&mut self) {
        self.asked.values_mut().filter(|asked| **asked != Asked::Base).for_each(|asked| *asked = Asked::Nobody);
    }

    /// Asks for the verdict on a prefix that ends at `commit`.
    pub(super) fn ask_prefix(&mut self, (prefix, look): (usize, Look), commit: &str, actions: &mut Vec<Action>) {
        let of = if prefix == 0 { VerifiedTree::Tip } else { VerifiedTree::Results { count: prefix as u32 } };
        self.ask(Asked::Prefix(prefix), commit, (of, look), actions);
    }

    /// Takes a verdict. A prefix is returned when the present search waits for it.
    pub(super) fn verdict(
        &mut self,
        number: u64,
        done: &VerifyDone,
        base_commit: &str,
        events: &mut Vec<RunEvent>,
        actions: &mut Vec<Action>,
    ) -> Option<usize> {
        let (asked, of) = (self.asked.remove(&number)?, done.of.clone());
        events.push(RunEvent::Verified {
            number,
            tree: done.tree.clone(),
            gate: done.gate.clone(),
            of,
            verdict: done.verdict,
            duration_ms: done.duration_ms,
            detail: done.detail.clone(),
        });
        if done.verdict == Verdict::Green && done.look == Look::Fresh {
            self.green.insert(done.tree.clone());
        }
        match asked {
            Asked::Prefix(prefix) => {
                if done.verdict == Verdict::Red && done.look == Look::Fresh {
                    self.red.insert(prefix, number);
                }
                return Some(prefix);
            }
            Asked::Nobody => return None,
            Asked::Base => {}
        }
        match done.verdict {
            Verdict::Green => self.base = Base::Green,
            Verdict::Red => self.reds += 1,
            Verdict::Broken => self.broken += 1,
        }
        if self.reds > self.retry {
            self.base = Base::Red;
        } else if self.broken >= BROKEN_MAX {
            self.base = Base::Unverifiable;
        } else if self.base == Base::Asked {
            self.ask(Asked::Base, base_commit, (VerifiedTree::Base, Look::Fresh), actions);
        }
        None
    }

    /// The number of the verification by which a prefix of the present batch is known to be red.
    pub(super) fn red_by(&self, prefix: usize) -> Option<u64> {
        self.red.get(&prefix).copied()
    }

    /// Whether a verification of the base or of the present batch runs.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked.values().any(|asked| *asked != Asked::Nobody)
    }

    fn ask(&mut self, asked: Asked, commit: &str, (of, look): (VerifiedTree, Look), actions: &mut Vec<Action>) {
        self.last += 1;
        self.asked.insert(self.last, asked);
        actions.push(Action::Verify(Verification { number: self.last, commit: commit.to_owned(), of, look }));
    }
}
