//! What is tried with a change that did not land, before it is parked. A pure value.
//!
//! A change that conflicts, or that turns the gate red, is put aside with all that builds on it, and the train goes on behind
//! it. When everything else has landed, the task runs once more on the new tip, or the resolver does; what comes of it takes
//! its old place in the order. Waiting for the end of the train is what makes the tip that it runs on, and so its result,
//! independent of timing.

use std::collections::{BTreeMap, BTreeSet};

use swarm_plans::{InstanceId, InstanceIx, Rung};

use super::history::{PutAside, Refusal};
use super::messages::Landing;
use crate::event::RefusalKind;
use crate::merge::order::Place;

/// A change that was put aside.
#[derive(Debug)]
struct Aside {
    landing: Landing,
    /// What is to be tried, and why; `None` waits for what it builds on.
    next: Option<(Rung, Refusal)>,
    /// It was tried in a round that an earlier coordinator saw the end of.
    is_round_over: bool,
}

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Climb {
    /// Whose.
    pub instance: InstanceIx,
    /// What.
    pub rung: Rung,
}

/// What came of trying.
#[derive(Debug)]
pub(super) enum Climbed {
    /// A new change.
    Change(Box<Landing>),
    /// There is nothing left to change.
    Unchanged,
    /// It failed; for people.
    Failed(String),
}

/// The changes that were put aside.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    aside: BTreeMap<Place, Aside>,
    tried: BTreeMap<InstanceIx, Vec<Rung>>,
    climbing: BTreeSet<InstanceIx>,
    /// What came back while others still climb.
    back: BTreeMap<Place, Landing>,
}

impl Ladder {
    /// Whether nothing is aside.
    pub(super) fn is_empty(&self) -> bool {
        self.aside.is_empty() && self.climbing.is_empty() && self.back.is_empty()
    }

    /// Whether something is being tried.
    pub(super) fn is_climbing(&self) -> bool {
        !self.climbing.is_empty()
    }

    /// Whether an instance's change is aside or being tried again.
    pub(super) fn holds(&self, instance: InstanceIx) -> bool {
        let is = |landing: &Landing| landing.instance == instance;
        self.climbing.contains(&instance)
            || self.aside.values().any(|aside| is(&aside.landing))
            || self.back.values().any(is)
    }

    /// What to try next with a change that was refused; `None` when all was tried.
    pub(super) fn rung(&self, landing: &Landing, refusal: &Refusal) -> Option<Rung> {
        let tried = self.tried.get(&landing.instance).map(Vec::as_slice).unwrap_or_default();
        let fits =
            |rung: &&Rung| !tried.contains(rung) && (**rung == Rung::Rerun || refusal.kind == RefusalKind::Conflict);
        let rungs = match refusal.kind {
            // Whatever the plan says of conflicts: it asked for turns, and this one had no fair one.
            RefusalKind::Stale => &[Rung::Rerun][..],
            RefusalKind::Conflict | RefusalKind::Red | RefusalKind::Hostile => &landing.rungs,
        };
        rungs.iter().find(fits).copied()
    }

    /// Puts a change aside, to try something.
    pub(super) fn put(&mut self, landing: Landing, rung: Rung, refusal: Refusal) {
        let mut tried = self.tried.remove(&landing.instance).unwrap_or_default();
        tried.push(rung);
        self.tried.insert(landing.instance, tried);
        self.aside.insert(landing.place, Aside { landing, next: Some((rung, refusal)), is_round_over: false });
    }

    /// Puts a change aside as an earlier coordinator did.
    pub(super) fn put_as_before(&mut self, landing: Landing, before: &PutAside) {
        self.tried.insert(landing.instance, before.tried.iter().map(|remedy| (*remedy).into()).collect());
        let (next, is_round_over) = (Some((before.next.into(), before.refusal.clone())), before.is_round_over);
        self.aside.insert(landing.place, Aside { landing, next, is_round_over });
    }

    /// Puts a change aside that builds on one that is.
    pub(super) fn wait(&mut self, landing: Landing) {
        self.aside.insert(landing.place, Aside { landing, next: None, is_round_over: false });
    }

    /// To be called when everything else has landed: what to try now, or, when there is nothing, the changes that take part
    /// in the next round, in order.
    pub(super) fn round(&mut self) -> Result<Vec<Landing>, Vec<Climb>> {
        let aside: BTreeSet<InstanceIx> = self.aside.values().map(|aside| aside.landing.instance).collect();
        let free = |landing: &Landing| landing.stands_on().all(|need| !aside.contains(&need));
        let climb = |aside: &Aside| {
            let (rung, _) = aside.next.as_ref().filter(|_| free(&aside.landing))?;
            Some(Climb { instance: aside.landing.instance, rung: *rung })
        };
        // Of those that conflict in the same paths, one at a time: a later one has to see what became of the earlier one.
        let mut taken: BTreeSet<&String> = BTreeSet::new();
        let mut climbs: Vec<Climb> = Vec::new();
        // A round that is over is completed before another begins: the next one starts from what came of it.
        let over = self.aside.values().any(|aside| aside.is_round_over);
        for aside in self.aside.values().filter(|aside| aside.is_round_over == over) {
            let (Some(climb), Some((_, refusal))) = (climb(aside), &aside.next) else { continue };
            if refusal.paths.iter().all(|path| !taken.contains(path)) {
                taken.extend(&refusal.paths);
                climbs.push(climb);
            }
        }
        // What came back lands first: others may build on it.
        if !climbs.is_empty() && self.back.is_empty() {
            self.climbing = climbs.iter().map(|climb| climb.instance).collect();
            return Err(climbs);
        }
        // What waits for others takes its turn again; whether those landed is seen there.
        let waiting: Vec<Place> =
            self.aside.iter().filter(|(_, aside)| aside.next.is_none()).map(|(place, _)| *place).collect();
        for place in waiting {
            if let Some(aside) = self.aside.remove(&place) {
                self.back.insert(place, aside.landing);
            }
        }
        Ok(std::mem::take(&mut self.back).into_values().collect())
    }

    /// Takes out what builds on any of `parked`, with the need's name.
    pub(super) fn orphans(&mut self, parked: &BTreeSet<InstanceIx>) -> Vec<(Landing, InstanceId)> {
        let need = |landing: &Landing| landing.builds_on.iter().find(|(need, _)| parked.contains(need)).cloned();
        let places: Vec<Place> =
            self.aside.iter().filter(|(_, aside)| need(&aside.landing).is_some()).map(|(place, _)| *place).collect();
        let take = |place| {
            let aside = self.aside.remove(&place)?;
            let (_, name) = need(&aside.landing)?;
            Some((aside.landing, name))
        };
        places.into_iter().filter_map(take).collect()
    }

    /// Takes everything out in order, with why it is aside: nothing can be tried any more.
    pub(super) fn give_up(&mut self) -> Vec<(Landing, Option<Refusal>)> {
        self.climbing.clear();
        let back = std::mem::take(&mut self.back).into_iter().map(|(place, landing)| (place, (landing, None)));
        let aside = std::mem::take(&mut self.aside).into_iter();
        let refused = |aside: Aside| (aside.landing, aside.next.map(|(_, refusal)| refusal));
        let all: BTreeMap<Place, _> = aside.map(|(place, aside)| (place, refused(aside))).chain(back).collect();
        all.into_values().collect()
    }

    /// The change that is being tried again, for the resolver.
    pub(super) fn landing(&self, instance: InstanceIx) -> Option<&Landing> {
        self.aside.values().map(|aside| &aside.landing).find(|landing| landing.instance == instance)
    }

    /// Nothing came of trying, and nothing more is tried.
    pub(super) fn stay(&mut self, instance: InstanceIx) {
        self.climbing.remove(&instance);
    }

    /// Takes what came of trying. Returns the change as it was and why it was refused, when it has to go on from there.
    pub(super) fn climbed(&mut self, instance: InstanceIx, climbed: Climbed) -> Option<(Landing, Refusal, Climbed)> {
        self.climbing.remove(&instance);
        let place = *self.aside.iter().find(|(_, aside)| aside.landing.instance == instance)?.0;
        let Aside { landing, next, .. } = self.aside.remove(&place)?;
        let (_, refusal) = next?;
        match climbed {
            Climbed::Change(change) => {
                self.back.insert(place, *change);
                None
            }
            other => Some((landing, refusal, other)),
        }
    }
}
