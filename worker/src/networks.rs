//! Network namespaces on their way from one worker to the next: [`swarm_sandbox::network`] says when one may be passed on.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use swarm_protocol::{NetworkSpec, SandboxSpec, Tier};
use swarm_sandbox::network::{self, Private};

/// What a worker has to do with them.
#[derive(Debug, Default)]
pub struct Networks {
    /// One that another worker has left untouched, for this one alone.
    given: Option<OwnedFd>,
    /// Whoever passes them on; a worker without it leaves each job to a new one.
    server: Option<OwnedFd>,
    entered: Option<Private>,
}

impl Networks {
    /// For a worker of a fork server, which hears of untouched ones through `server`.
    pub fn of_server(given: Option<OwnedFd>, server: OwnedFd) -> Self {
        Networks { given, server: Some(server), entered: None }
    }

    /// Puts this worker into a network for a job of this cage, where the cage has none and that can be done.
    pub fn enter(&mut self, spec: &SandboxSpec) -> Option<Private> {
        let is_closed = spec.tier == Tier::Namespaces && spec.network == NetworkSpec::None;
        if is_closed && self.server.is_some() {
            // Where it cannot be done the job gets a new one with its cage, or is refused there.
            self.entered = network::enter(self.given.take()).ok();
        }
        self.entered
    }

    /// Passes on what was left untouched. To be called when everything of the job is dead.
    pub fn pass_on(self) {
        let untouched = self.given.or_else(|| self.entered.and_then(network::untouched));
        if let (Some(network), Some(server)) = (untouched, self.server) {
            send(&server, &network);
        }
    }
}

/// A server that has ended needs none.
fn send(server: &OwnedFd, network: &OwnedFd) {
    let networks = [network.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&networks)), "BUG: room for one descriptor");
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = sendmsg(server, &[IoSlice::new(&[0])], &mut control, flags);
}
