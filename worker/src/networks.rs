//! Network namespaces on their way from one worker to the next: [`swarm_sandbox::network`] says when one may be passed on.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use swarm_sandbox::Kind;
use swarm_sandbox::network::{self, Entered, Private};

/// How many wait for a worker at most: more than there are tasks at once, where they change often.
const NETWORKS_MAX: usize = 32;

/// What a worker has to do with them.
#[derive(Debug, Default)]
pub struct Networks {
    /// One that another worker has left untouched, for this one alone.
    given: Option<OwnedFd>,
    /// Whoever passes them on; a worker without it leaves each job to a new one.
    server: Option<OwnedFd>,
    entered: Option<Entered>,
}

impl Networks {
    /// For a worker of a fork server, which hears of untouched ones through `server`.
    pub fn of_server(given: Option<OwnedFd>, server: OwnedFd) -> Self {
        Networks { given, server: Some(server), entered: None }
    }

    /// Puts this worker into a network for jobs of this kind, where they have none and that can be done; any other job finds the
    /// host's.
    ///
    /// # Errors
    /// The host's network cannot be reached any more.
    pub fn enter_for(&mut self, kind: Kind) -> io::Result<Option<Private>> {
        if !kind.takes_entered() || self.server.is_none() {
            self.leave()?;
        } else if self.entered.is_none() {
            self.entered = network::enter(self.given.take())?;
        }
        Ok(self.entered.as_ref().map(Entered::private))
    }

    fn leave(&mut self) -> io::Result<()> {
        let Some(entered) = self.entered.take() else { return Ok(()) };
        self.given = entered.untouched();
        Ok(entered.leave()?)
    }

    /// Passes on what was left untouched. To be called when everything of the job is dead.
    pub fn pass_on(self) {
        let untouched = self.given.or_else(|| self.entered.as_ref().and_then(Entered::untouched));
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

/// Takes what workers have passed on; what nobody has room for comes to its end.
///
/// # Errors
/// The socket failed.
pub fn take_returned(socket: &OwnedFd, untouched: &mut Vec<OwnedFd>) -> io::Result<()> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut control, flags) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                untouched.extend(rights);
            }
        }
        untouched.truncate(NETWORKS_MAX);
    }
}
