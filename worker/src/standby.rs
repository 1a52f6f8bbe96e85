//! What a worker that stands by has ready before it has a job: a network, and a cage without a job like the one that the last
//! worker's job got. And what it says to its fork server: of which kind its own job is, and what network it leaves.

use std::borrow::Cow;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use swarm_protocol::frame::decode;
use swarm_protocol::{GroupSpec, Job, Start, encode};
use swarm_sandbox::ahead::{Ahead, Handed, NotTaken, Within, make};
use swarm_sandbox::launch::exit_now;
use swarm_sandbox::network::Private;
use swarm_sandbox::{Caged, Kind, Network, Policy, Refused, Tier};

use crate::airlock;
use crate::networks::Networks;
use crate::supervise::program;

/// How many network namespaces wait for a worker at most: more than there are tasks at once, where they change often.
const NETWORKS_MAX: usize = 32;

/// What a worker has ready.
#[derive(Debug, Default)]
pub struct Standby {
    networks: Networks,
    ahead: Option<Ahead>,
    server: Option<OwnedFd>,
}

impl Standby {
    /// For a worker of the fork server at the other end of `server`.
    pub fn of_server(given: Option<OwnedFd>, server: OwnedFd) -> Self {
        Standby { networks: Networks::of_server(given), ahead: None, server: Some(server) }
    }

    /// Makes a cage of this kind. What cannot be made ahead is made, or refused, when there is a job.
    ///
    /// # Errors
    /// The host's network cannot be reached any more.
    pub fn prepare(&mut self, kind: Kind) -> io::Result<()> {
        let entered = self.networks.enter_for(kind)?;
        self.ahead = make(kind, entered, follow_order).ok();
        Ok(())
    }

    /// Tells the fork server for which kind of job the next worker is to be ready; `None` for one that nothing can be made for.
    pub fn tell_kind(&self, kind: Option<Kind>) {
        self.tell(kind.map_or(NO_KIND, code_of), None);
    }

    /// Launches the command of `start` in the cage that is ready for it. `None` where there is none.
    ///
    /// # Errors
    /// The launch is refused.
    pub fn launch(&mut self, policy: &Policy, start: &Start) -> Result<Option<(Caged, [OwnedFd; 2])>, Refused> {
        let Some(ahead) = self.ahead.take_if(|ahead| ahead.kind() == Kind::of(policy.get())) else { return Ok(None) };
        let order = |handed: &Handed| {
            let groups = handed.groups.iter().cloned().map(airlock::group_spec).collect();
            encode(&Order { start: Cow::Borrowed(start), own_room: handed.own_room, groups })
        };
        match ahead.launch(policy, order) {
            Ok(launched) => Ok(Some(launched)),
            Err(NotTaken::Gone) => Ok(None),
            Err(NotTaken::Refused(refused)) => Err(refused),
        }
    }

    /// Gives up the cage that nobody wants, and puts this worker into the network for a job of this kind.
    ///
    /// # Errors
    /// The host's network cannot be reached any more.
    pub fn give_up(&mut self, kind: Kind) -> io::Result<Option<Private>> {
        self.ahead = None;
        self.networks.enter_for(kind)
    }

    /// Passes on the network, if it was left untouched. To be called when everything of the job is dead.
    pub fn pass_on(mut self) {
        self.ahead = None;
        let networks = std::mem::take(&mut self.networks);
        if let Some(network) = networks.pass_on() {
            self.tell(NETWORK, Some(&network));
        }
    }

    /// A server that has ended needs nothing.
    fn tell(&self, what: u8, network: Option<&OwnedFd>) {
        let Some(server) = &self.server else { return };
        let networks = network.map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(network) = &networks {
            let pushed = control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(network)));
            assert!(pushed, "BUG: room for one descriptor");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = sendmsg(server, &[IoSlice::new(&[what])], &mut control, flags);
    }
}

/// What a worker tells the server, beside a descriptor: that it passes on a network …
const NETWORK: u8 = 0;
/// … that its job is of a kind for which nothing can be made ahead …
const NO_KIND: u8 = 1;
/// … or which kind it is of: this and its place in [`KINDS`].
const FIRST_KIND: u8 = 2;

/// The kinds that cages are made of ahead.
const KINDS: [Kind; 4] = [
    Kind { tier: Tier::Namespaces, network: Network::None },
    Kind { tier: Tier::Namespaces, network: Network::Host },
    Kind { tier: Tier::Landlock, network: Network::None },
    Kind { tier: Tier::Landlock, network: Network::Host },
];

fn code_of(kind: Kind) -> u8 {
    let place = (FIRST_KIND..).zip(KINDS).find(|(_, known)| *known == kind);
    place.map_or(NO_KIND, |(code, _)| code)
}

/// What the fork server has heard from its workers.
#[derive(Debug, Default)]
pub struct Heard {
    /// Networks that were left untouched.
    untouched: Vec<OwnedFd>,
    /// The kind of the last job.
    kind: Option<Kind>,
}

impl Heard {
    /// Takes all that was said meanwhile; networks that nobody has room for come to their end.
    ///
    /// # Errors
    /// The socket failed.
    pub fn take(&mut self, socket: &OwnedFd) -> io::Result<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let mut what = [NETWORK];
            match recvmsg(socket, &mut [IoSliceMut::new(&mut what)], &mut control, flags) {
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    self.untouched.extend(rights);
                }
            }
            self.untouched.truncate(NETWORKS_MAX);
            if what[0] != NETWORK {
                self.kind = what[0].checked_sub(FIRST_KIND).and_then(|place| KINDS.get(usize::from(place)).copied());
            }
        }
    }

    /// The kind of cage that the next worker is to make ahead.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// A network for the next worker.
    pub fn give(&mut self) -> Option<OwnedFd> {
        self.untouched.pop()
    }
}

/// What the process outside tells the one inside.
#[derive(Debug, Serialize, Deserialize)]
struct Order<'a> {
    start: Cow<'a, Start>,
    own_room: Option<u64>,
    groups: Vec<GroupSpec>,
}

/// What the first process of a cage does that is made ahead: waits for the order and follows it. It ends where there is none.
fn follow_order(mut within: Within) -> ! {
    let Ok(Some(line)) = within.wait() else { exit_now(0) };
    let refuse = |reason: String| Refused::new("order", reason);
    let order: Order<'_> = match decode(&line) {
        Ok(order) => order,
        Err(error) => within.refuse(refuse(error.to_string())),
    };
    let start = order.start.into_owned();
    let policy = match airlock::policy(&start.sandbox) {
        Ok(policy) => policy,
        Err(error) => within.refuse(refuse(error.to_string())),
    };
    let Job::Command { argv, cwd } = &start.job else { within.refuse(refuse("it is for no command".to_owned())) };
    match program(&start, argv, cwd) {
        Ok(program) => {
            let groups = order.groups.iter().map(airlock::group).collect();
            within.launch(&policy, &program, Handed { own_room: order.own_room, groups })
        }
        Err(_) => within.refuse(refuse("its program cannot be tried".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn the_server_hears_of_the_last_kind_and_of_every_network() {
        let flags = SocketFlags::CLOEXEC;
        let (socket, server) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let worker = Standby::of_server(None, server);
        let mut heard = Heard::default();
        for kind in KINDS {
            worker.tell_kind(Some(kind));
            worker.tell(NETWORK, Some(&std::fs::File::open("/dev/null").unwrap().into()));
            heard.take(&socket).unwrap();
            assert_eq!((heard.kind(), heard.give().is_some(), heard.give().is_some()), (Some(kind), true, false));
        }
        worker.tell_kind(None);
        heard.take(&socket).unwrap();
        assert_eq!(heard.kind(), None);
        worker.tell_kind(Some(Kind { tier: Tier::Namespaces, network: Network::Egress { port: 9 } }));
        heard.take(&socket).unwrap();
        assert_eq!(heard.kind(), None);
    }
}
