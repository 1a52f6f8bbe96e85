//! Where instances may start that waited until their needs contradicted each other no longer, and of whose needs all had landed
//! by then (`dispatcher/core/contradicted.rs`).

use swarm_plans::InstanceId;

use super::{History, Past};

/// Where an instance may start of whose needs all has landed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ground {
    /// Full hex id of a commit of the target.
    commit: Box<str>,
    /// How many results that had been given to others were to be made again by then.
    remade: u32,
}

impl Past {
    /// Full hex id of the commit of the target that its newest attempt started from, where it did not start from the run's base with
    /// the changes of its needs.
    pub fn started_on(&self) -> Option<&str> {
        self.ground.as_ref().filter(|_| self.stands_on_landed).map(|ground| &*ground.commit)
    }
}

impl History {
    /// An instance waits no longer.
    pub(super) fn settle(&mut self, id: &InstanceId, on: Option<&str>) {
        let ground = on.map(|commit| Box::new(Ground { commit: commit.into(), remade: self.remade }));
        let past = self.past(id);
        (past.is_contradicted, past.ground) = (false, ground);
    }

    /// Takes the places to start from that are no longer there: who waited for one waits anew.
    ///
    /// # Errors
    /// Those of whoever is asked.
    pub fn lose_grounds<E>(&mut self, is_there: impl Fn(&str) -> Result<bool, E>) -> Result<(), E> {
        for past in self.instances.values_mut() {
            if let Some(ground) = &past.ground
                && !is_there(&ground.commit)?
            {
                past.ground = None;
            }
        }
        Ok(())
    }

    /// Full hex id of the commit that an instance may start from, however the changes of its needs contradict each other on the run's
    /// base: all of them were there when it waited no longer, and none is made again since.
    pub fn ground_of<'a>(&self, past: &'a Past) -> Option<&'a str> {
        past.ground.as_ref().filter(|ground| ground.remade == self.remade).map(|ground| &*ground.commit)
    }
}
