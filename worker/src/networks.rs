//! Network namespaces on their way from one worker to the next: [`swarm_sandbox::network`] says when one may be passed on.

use std::io;
use std::os::fd::OwnedFd;

use swarm_sandbox::network::{self, Private};
use swarm_sandbox::{Kind, Network, Tier};

/// What a worker has to do with them.
#[derive(Debug, Default)]
pub struct Networks {
    /// One that another worker has left untouched, for this one alone.
    given: Option<OwnedFd>,
    /// Whether anybody passes on what is left; a worker for which nobody does leaves each job to a new one.
    are_passed_on: bool,
    entered: Option<Entered>,
}

#[derive(Debug)]
struct Entered {
    private: Private,
    /// The host's.
    way_back: OwnedFd,
}

impl Networks {
    /// For a worker of a fork server.
    pub fn of_server(given: Option<OwnedFd>) -> Self {
        Networks { given, are_passed_on: true, entered: None }
    }

    /// Puts this worker into a network for jobs of this kind, where they have none and that can be done; any other job finds the
    /// host's.
    ///
    /// # Errors
    /// The host's network cannot be reached any more.
    pub fn enter_for(&mut self, kind: Kind) -> io::Result<Option<Private>> {
        let wants = self.are_passed_on && kind.tier == Tier::Namespaces && kind.network == Network::None;
        match (&self.entered, wants) {
            (None, true) => {
                // Where it cannot be done the job gets a new one with its cage, or is refused there.
                if let Ok(way_back) = network::own() {
                    let private = network::enter(self.given.take()).ok();
                    self.entered = private.map(|private| Entered { private, way_back });
                }
            }
            (Some(Entered { private, way_back }), false) => {
                self.given = network::untouched(*private);
                network::leave(*private, way_back)?;
                self.entered = None;
            }
            (Some(_), true) | (None, false) => {}
        }
        Ok(self.entered.as_ref().map(|entered| entered.private))
    }

    /// What was left untouched, for another worker. To be called when everything of the job is dead.
    pub fn pass_on(self) -> Option<OwnedFd> {
        let entered = self.entered;
        self.given.or_else(|| entered.and_then(|entered| network::untouched(entered.private)))
    }
}
