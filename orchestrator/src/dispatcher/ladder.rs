//! What is tried with a change that did not land, before it is parked. A pure value.
//!
//! A change that conflicts, or that turns the gate red, is put aside with all that builds on it, and the train goes on behind
//! it. When everything else has landed, the task runs once more on the new tip, or the resolver does; what comes of it takes its
//! turn again behind what has landed, in the order of the plan, and so does what waited for it. A change that has not landed and
//! that needs a task which ran once more is made once more behind it: it was made from another result. Waiting for the end of
//! the train is what makes the tip that something runs on, and so its result, independent of timing.

use std::collections::{BTreeMap, BTreeSet};

use swarm_plans::{InstanceId, InstanceIx, Rung};

use super::history::{Refusal, SecondTry, Stands};
use super::messages::Landing;
use crate::event::RefusalKind;
use crate::merge::order::Place;

/// A change that was put aside.
#[derive(Debug)]
struct Aside {
    landing: Landing,
    /// What is to be tried, and why; `None` waits for what it builds on.
    next: Option<(Rung, Refusal)>,
}

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Climb {
    /// Whose.
    pub instance: InstanceIx,
    /// What.
    pub rung: Rung,
}

/// In which order turns come again: those that came under an earlier coordinator as they came there, then all that come anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Before(u64),
    Anew,
}

/// What comes next, when everything else has landed.
#[derive(Debug)]
pub(super) enum Round {
    /// These are tried, at the same time.
    Try(Vec<Climb>),
    /// These take their turn, in order. Of `anew` nobody knows yet that they do.
    Turn { all: Vec<Landing>, anew: Vec<InstanceId> },
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
    /// What came back and waits for its turn.
    back: BTreeMap<(Turn, Place), Landing>,
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

    /// Those that changed nothing and are aside.
    pub(super) fn onlookers(&self) -> impl Iterator<Item = InstanceIx> {
        self.aside
            .values()
            .map(|aside| &aside.landing)
            .filter(|landing| !landing.changes())
            .map(|landing| landing.instance)
    }

    /// What to try next with a change that was refused; `None` when all was tried.
    pub(super) fn rung(&self, landing: &Landing, refusal: &Refusal) -> Option<Rung> {
        let tried = self.tried.get(&landing.instance).map(Vec::as_slice).unwrap_or_default();
        let fits =
            |rung: &&Rung| !tried.contains(rung) && (**rung == Rung::Rerun || refusal.kind == RefusalKind::Conflict);
        match refusal.kind {
            // Whatever the plan says of conflicts, and whatever was tried: what it was made from is no more.
            RefusalKind::Stale => Some(Rung::Rerun),
            RefusalKind::Conflict | RefusalKind::Red | RefusalKind::Hostile => landing.rungs.iter().find(fits).copied(),
        }
    }

    /// Puts a change aside, to try something.
    pub(super) fn put(&mut self, landing: Landing, rung: Rung, refusal: Refusal) {
        if refusal.kind != RefusalKind::Stale {
            self.tried.entry(landing.instance).or_default().push(rung);
        }
        self.aside.insert(landing.place, Aside { landing, next: Some((rung, refusal)) });
    }

    /// Puts a change where it stood under an earlier coordinator.
    pub(super) fn put_as_before(&mut self, landing: Landing, before: &SecondTry) {
        self.tried.insert(landing.instance, before.tried.iter().map(|remedy| (*remedy).into()).collect());
        match &before.stands {
            Stands::Aside(aside) => {
                let next = Some((aside.next.into(), aside.refusal.clone()));
                self.aside.insert(landing.place, Aside { landing, next });
            }
            Stands::Requeued(turn) => drop(self.back.insert((Turn::Before(*turn), landing.place), landing)),
        }
    }

    /// Puts a change aside that builds on one that is.
    pub(super) fn wait(&mut self, landing: Landing) {
        self.aside.insert(landing.place, Aside { landing, next: None });
    }

    /// To be called when everything else has landed.
    pub(super) fn round(&mut self) -> Round {
        // What came back lands before anything else is tried: others may build on it. So does what waited for it.
        self.call_waiters();
        if self.back.is_empty() {
            let climbs = self.climbs();
            self.climbing = climbs.iter().map(|climb| climb.instance).collect();
            return Round::Try(climbs);
        }
        let back = std::mem::take(&mut self.back);
        // What changes nothing takes no turn: it is only looked at again.
        let is_anew = |((turn, _), landing): &(&(Turn, Place), &Landing)| *turn == Turn::Anew && landing.changes();
        let anew = back.iter().filter(is_anew).map(|(_, landing)| landing.name.clone()).collect();
        Round::Turn { all: back.into_values().collect(), anew }
    }

    /// What can be tried now.
    fn climbs(&self) -> Vec<Climb> {
        let aside: BTreeSet<InstanceIx> = self.aside.values().map(|aside| aside.landing.instance).collect();
        let free = |landing: &Landing| landing.stands_on().all(|need| !aside.contains(&need));
        // Of those that conflict in the same paths, one at a time: a later one has to see what became of the earlier one.
        let mut taken: BTreeSet<&String> = BTreeSet::new();
        let mut climbs: Vec<Climb> = Vec::new();
        for Aside { landing, next } in self.aside.values() {
            let Some((rung, refusal)) = next.as_ref().filter(|_| free(landing)) else { continue };
            if refusal.paths.iter().all(|path| !taken.contains(path)) {
                taken.extend(&refusal.paths);
                climbs.push(Climb { instance: landing.instance, rung: *rung });
            }
        }
        climbs
    }

    /// The turn of those comes again that stand on nothing that is to be tried, however far below.
    fn call_waiters(&mut self) {
        let waits = |aside: &&Aside| aside.next.is_none();
        let mut blocked: BTreeSet<InstanceIx> =
            self.aside.values().filter(|aside| !waits(aside)).map(|aside| aside.landing.instance).collect();
        loop {
            let stands_on_blocked = |aside: &&Aside| aside.landing.stands_on().any(|need| blocked.contains(&need));
            let more: Vec<InstanceIx> = (self.aside.values().filter(waits).filter(stands_on_blocked))
                .map(|aside| aside.landing.instance)
                .filter(|instance| !blocked.contains(instance))
                .collect();
            if more.is_empty() {
                break;
            }
            blocked.extend(more);
        }
        let is_called = |_: &Place, aside: &mut Aside| !blocked.contains(&aside.landing.instance);
        let called = self.aside.extract_if(.., is_called);
        self.back.extend(called.map(|(place, aside)| ((Turn::Anew, place), aside.landing)));
    }

    /// Takes out what builds on an instance's change and was made before the instance ran once more, when it now has. What a
    /// resolver makes of a change is still that change, and what a person settled stays as they settled it.
    pub(super) fn outdated_by(&mut self, instance: InstanceIx, climbed: &Climbed) -> Vec<Landing> {
        let is_it = |aside: &&Aside| aside.landing.instance == instance;
        let rung = self.aside.values().find(is_it).and_then(|aside| aside.next.as_ref()).map(|(rung, _)| *rung);
        if rung != Some(Rung::Rerun) || matches!(climbed, Climbed::Failed(_)) {
            return vec![];
        }
        let builds_on = |landing: &Landing| landing.builds_on.iter().any(|(need, _)| *need == instance);
        let outdated = self
            .aside
            .extract_if(.., |_, aside| aside.next.is_none() && !aside.landing.is_by_hand && builds_on(&aside.landing));
        outdated.map(|(_, aside)| aside.landing).collect()
    }

    /// Takes out what builds on any of `away`, with the need's name. What changed nothing and is not to be made again stays: all that
    /// it stands on may be settled yet as it was.
    pub(super) fn orphans(&mut self, away: &BTreeSet<InstanceIx>) -> Vec<(Landing, InstanceId)> {
        let need = |landing: &Landing| landing.builds_on.iter().find(|(need, _)| away.contains(need)).cloned();
        let is_one = |aside: &Aside| aside.landing.changes() || aside.next.is_some();
        let orphans = self.aside.iter().filter(|(_, aside)| is_one(aside) && need(&aside.landing).is_some());
        let places: Vec<Place> = orphans.map(|(place, _)| *place).collect();
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
        let back = std::mem::take(&mut self.back).into_values().map(|landing| (landing.place, (landing, None)));
        let aside = std::mem::take(&mut self.aside).into_iter();
        let refused = |aside: Aside| (aside.landing, aside.next.map(|(_, refusal)| refusal));
        let all: BTreeMap<Place, _> = aside.map(|(place, aside)| (place, refused(aside))).chain(back).collect();
        all.into_values().collect()
    }

    /// The change that is being tried again, for the resolver.
    pub(super) fn landing(&self, instance: InstanceIx) -> Option<&Landing> {
        self.aside.values().map(|aside| &aside.landing).find(|landing| landing.instance == instance)
    }

    /// What is being tried with a change, and why it did not land.
    pub(super) fn trying(&self, instance: InstanceIx) -> Option<(Rung, &Refusal)> {
        let aside = self.aside.values().find(|aside| aside.landing.instance == instance)?;
        aside.next.as_ref().map(|(rung, refusal)| (*rung, refusal))
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
                self.back.insert((Turn::Anew, place), *change);
                None
            }
            other => Some((landing, refusal, other)),
        }
    }
}
