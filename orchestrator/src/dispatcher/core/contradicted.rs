//! An instance whose needs' changes contradict each other has no tree to start from. One of these changes will not land as it is:
//! it is tried again behind the others ([`crate::dispatcher::ladder`]), and from what comes of that the instance may be able to
//! start. So it waits until all that can run has ended, all that could land has, and nothing is being tried; then it starts once
//! more.
//!
//! *All that it needs may have landed and contradict itself all the same*: a change that was made again stands on others that landed
//! before it and that the instance does not need, so it does not fit onto the run's base. Then the instance starts where its
//! needs do fit: on what had landed when it waited no longer, as what is made again itself does. That commit is told with the
//! event that ends the waiting, so that it is the same for all who waited, whatever is quicker, and for whoever goes on with the run.
//!
//! Else it fails where nothing was tried meanwhile: its needs will never be other than they are.

use swarm_plans::{InstanceId, InstanceIx};

use super::reuse::Lookup;
use super::{INSTANCES_PER_EVENT_MAX, RunCore, StartAt};
use crate::dispatcher::history::{Became, History};
use crate::dispatcher::landing::Parted;
use crate::dispatcher::needs::transitive;
use crate::event::{InstanceResult, RunEvent};
use crate::report::words;

/// Whether what an instance needs may be other than it was when it was last started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// Nothing was tried since.
    None,
    /// Something was, or an earlier coordinator may have.
    Tried,
}

/// Where an instance may start of whose needs all has landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ground {
    /// Full hex id of the target's commit when it waited no longer.
    commit: String,
    /// It is known that the changes of its needs contradict each other on the run's base.
    is_only: bool,
}

impl Ground {
    /// What a person should know of an attempt that started here.
    pub(super) fn note(&self) -> Option<String> {
        let on = words::short(&self.commit);
        self.is_only.then(|| {
            format!("it started from what had landed, {on}: the changes of its needs contradict each other on the run's base")
        })
    }
}

impl RunCore {
    /// Its last attempt ended without a tree; it keeps its place, unless there is a tree for it by now.
    pub(super) fn waits_for_its_needs(&mut self, ix: InstanceIx) {
        // The attempt says nothing about the work.
        self.states[ix.index()].lost += 1;
        self.schedule.rest(self.nodes[ix.index()]);
        match self.grounds.get_mut(&ix) {
            Some(ground) => {
                ground.is_only = true;
                self.schedule.wake(self.nodes[ix.index()]);
            }
            None => drop(self.contradicted.insert(ix, Hope::None)),
        }
    }

    /// The tree that an instance starts from.
    pub(super) fn start_at(&self, ix: InstanceIx) -> StartAt {
        match self.grounds.get(&ix) {
            Some(Ground { commit, is_only: true }) => StartAt::Tip { commit: commit.clone() },
            Some(_) | None => StartAt::Needs,
        }
    }

    /// Where those that are open may start, as earlier coordinators said.
    pub(super) fn relive_grounds(&mut self, history: &History) {
        for at in 0..self.states.len() {
            let ix = InstanceIx(at as u32);
            let past_of = |ix: InstanceIx| history.instance(&self.graph.instance(ix).id);
            let is_open = |ix: InstanceIx| self.states[ix.index()].result.is_none();
            let Some(past) = past_of(ix).filter(|past| is_open(ix) && past.has_ground()) else { continue };
            let needs = self.graph.needs_of(self.graph.instance(ix).task, Some(ix));
            let needs = transitive(&self.graph, &self.before, (needs, &[]), &|_| true);
            // What is open and has not landed is about to be made again.
            let changes = |need: &InstanceIx| {
                is_open(*need) && past_of(*need).is_none_or(|need| need.fate != Some(Became::Landed))
            };
            if needs.iter().any(changes) {
                continue;
            }
            let needs = needs.iter().filter_map(|need| past_of(*need));
            let Some(commit) = History::ground_of(past, needs) else { continue };
            let is_only = past.is_contradicted || past.stands_on_landed;
            self.grounds.insert(ix, Ground { commit: commit.to_owned(), is_only });
        }
    }

    /// Whether all that an instance needs has landed, or is held to land with all others; to be asked when all is settled.
    fn stands_on_what_landed(&mut self, ix: InstanceIx) -> bool {
        let view = self.view(ix);
        view.changes.iter().all(|(need, _)| view.comes_after.contains(need) || self.landings.stands(*need))
    }

    /// The same of one that waited under an earlier coordinator.
    pub(super) fn goes_on_waiting(&mut self, ix: InstanceIx) {
        self.schedule.rest(self.nodes[ix.index()]);
        self.contradicted.insert(ix, Hope::Tried);
    }

    /// Something is tried with changes that did not land.
    pub(super) fn something_is_tried(&mut self) {
        self.contradicted.values_mut().for_each(|hope| *hope = Hope::Tried);
    }

    /// Whether only such instances, and what waits for them, are left of all that could run.
    pub(super) fn stalls(&self) -> bool {
        // Before the base is verified nothing is started that could be.
        let is_idle = self.landings.is_open() && self.schedule.running() == 0 && self.resting == 0;
        is_idle && !self.contradicted.is_empty() && self.stop.is_none()
    }

    /// Lets the target catch up when nothing else can run, and then starts or fails those that wait. Returns whether that
    /// changed anything.
    pub(super) fn settle_the_contradicted(&mut self) -> bool {
        match self.landings.goes_on() {
            Some(Parted::Now) => {
                self.start_the_contradicted();
                true
            }
            Some(Parted::Before) => true,
            None => self.stalls() && self.landings.part(),
        }
    }

    fn start_the_contradicted(&mut self) {
        let all = std::mem::take(&mut self.contradicted);
        let (landed, others): (Vec<InstanceIx>, Vec<InstanceIx>) =
            all.keys().copied().partition(|ix| self.stands_on_what_landed(*ix));
        let commit = self.landings.tip().to_owned();
        for (instances, on) in [(&others, None), (&landed, Some(&commit))] {
            let names: Vec<InstanceId> = instances.iter().map(|ix| self.name(*ix)).collect();
            let settled = |names: &[InstanceId]| RunEvent::NeedsSettled { instances: names.to_vec(), on: on.cloned() };
            self.events.extend(names.chunks(INSTANCES_PER_EVENT_MAX).map(settled));
        }
        for &ix in &landed {
            // Where nothing was tried since, they contradict each other still.
            let ground = Ground { commit: commit.clone(), is_only: all[&ix] == Hope::None };
            self.grounds.insert(ix, ground);
        }
        for (ix, hope) in all {
            // The first that fails may end the run, and the others with it.
            if self.states[ix.index()].result.is_some() {
                continue;
            }
            if hope == Hope::None && !self.grounds.contains_key(&ix) {
                self.finish(ix, InstanceResult::Failed, None);
                continue;
            }
            self.states[ix.index()].lookup = Lookup::Outdated;
            self.schedule.wake(self.nodes[ix.index()]);
        }
    }
}
