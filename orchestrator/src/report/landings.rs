//! What landed and how: which commit is whose, and what added nothing because the branch had it. Pure, from the order of the events.

use std::collections::HashSet;

use swarm_plans::InstanceId;

use super::words;
use crate::event::Fate;
use crate::journal::{InstanceState, RunState};

/// An instance with where it stands.
pub(super) type Entry<'a> = (&'a InstanceId, &'a InstanceState);

/// How a change came to stand on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landing<'a> {
    /// As this commit of the run.
    As(&'a str),
    /// All of it stood there already, so there is no commit of it.
    Stood,
}

/// What landed, the newest commit first, as `git log` has it.
pub(super) fn landings(state: &RunState) -> Vec<(Entry<'_>, Landing<'_>)> {
    let mut landed: Vec<(u64, &str, Entry<'_>)> = state
        .instances
        .iter()
        .filter_map(|entry| Some((entry.1.landed()?, entry)))
        .map(|((seq, commit), entry)| (seq, commit, entry))
        .collect();
    landed.sort_unstable_by_key(|(seq, ..)| *seq);
    let mut found = state.found_at.iter().peekable();
    let mut there: HashSet<&str> = HashSet::new();
    let how = |(seq, commit, entry)| {
        // Where a landing began is nobody's who lands behind it, and may be the work of one before.
        while let Some((_, commit)) = found.next_if(|(began, _)| *began < seq) {
            there.insert(commit);
        }
        // Before the run first moved the target all that stood there was somebody else's.
        let made = state.first_moved.is_some_and(|first| first < seq) && there.insert(commit);
        (entry, if made { Landing::As(commit) } else { Landing::Stood })
    };
    let mut told: Vec<_> = landed.into_iter().map(how).collect();
    told.reverse();
    told
}

/// Whether the change of this one stood on the branch already, as another's or somebody else's, when it landed.
pub fn added_nothing(state: &RunState, id: &InstanceId) -> bool {
    Fates::of(state).has_stood(id)
}

/// What became of the changes of a run's instances, in a few words.
pub(super) struct Fates<'a> {
    /// The run.
    pub state: &'a RunState,
    /// Whose changes stood on the target already.
    stood: HashSet<&'a InstanceId>,
}

impl<'a> Fates<'a> {
    /// Of this run.
    pub fn of(state: &'a RunState) -> Self {
        let all = landings(state).into_iter();
        let stood = all.filter(|(_, how)| *how == Landing::Stood).map(|((id, _), _)| id).collect();
        Fates { state, stood }
    }

    /// Whether the change of this one landed although all of it stood there already.
    pub fn has_stood(&self, id: &InstanceId) -> bool {
        self.stood.contains(id)
    }

    /// What became of the change of this one; empty as long as nobody knows.
    pub fn said(&self, id: &InstanceId, instance: &InstanceState) -> String {
        match instance.fate() {
            Some(Fate::Landed { .. }) if self.has_stood(id) => "added nothing, the branch had it".to_owned(),
            Some(Fate::Landed { commit }) => format!("landed as {}", words::short(commit)),
            Some(Fate::Parked { .. }) => format!("parked: {}", words::parked(self.state, instance).unwrap_or_default()),
            Some(Fate::Empty) => "changed nothing".to_owned(),
            Some(Fate::Dropped { .. }) => "dropped".to_owned(),
            None => String::new(),
        }
    }
}
