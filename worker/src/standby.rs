//! What a worker that stands by has ready before it has a job: a network, and a cage without a job like the one that the last
//! worker's job got. And what it leaves to others: the kind of its own job to whoever stands by next, its network to the server.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use swarm_protocol::frame::decode;
use swarm_protocol::{
    Access, Grant, GroupSpec, Job, LimitsSpec, NetworkSpec, SandboxSpec, Start, ToWorker, VERSION, WorktreeSpec, encode,
};
use swarm_sandbox::ahead::{Ahead, Handed, NotTaken, Within, make};
use swarm_sandbox::launch::exit_now;
use swarm_sandbox::network::Private;
use swarm_sandbox::{Caged, Kind, Network, Policy, Program, Refused, Tier};

use crate::airlock;
use crate::networks::Networks;
use crate::work::program;

/// What a worker tells the server first, and the next worker never.
const TAKEN: u8 = u8::MAX;

/// What a worker has ready.
#[derive(Debug, Default)]
pub struct Standby {
    networks: Networks,
    ahead: Option<Ahead>,
    /// A pipe to who stands by next.
    successor: Option<OwnedFd>,
}

impl Standby {
    /// For a worker of a fork server; the next one will have the other end of `successor`.
    pub fn of_server(networks: Networks, successor: OwnedFd) -> Self {
        Standby { networks, ahead: None, successor: Some(successor) }
    }

    /// Tells the server, if it has one that waits for that, that this worker is taken.
    pub fn tell_taken(&self) {
        if let Some(pipe) = &self.successor {
            // The server may have ended meanwhile: this worker does not depend on it.
            let _ = rustix::io::write(pipe, &[TAKEN]);
        }
    }

    /// Makes a cage of this kind. What cannot be made ahead is made, or refused, when there is a job.
    ///
    /// # Errors
    /// The host's network cannot be reached any more.
    pub fn prepare(&mut self, kind: Kind) -> io::Result<()> {
        let entered = self.networks.enter_for(kind)?;
        self.ahead = make(kind, entered, follow_order).ok();
        if self.ahead.is_some() {
            rehearse();
        }
        Ok(())
    }

    /// Whoever stands by next, for whom this worker's job is of this kind; `None` for one that nothing can be made ahead for.
    pub fn take_successor(&mut self, kind: Option<Kind>) -> Option<Successor> {
        let code = kind.and_then(code_of)?;
        self.successor.take().map(|pipe| Successor { pipe, code })
    }

    /// Waits for a request. A cage that serves nobody any more is given up meanwhile: it would keep what the host has unmounted.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_for(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(changes) = self.ahead.as_ref().and_then(Ahead::changes) {
            let mut waiting = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&changes, PollFlags::PRI)];
            rustix::io::retry_on_intr(|| poll(&mut waiting, None))?;
            let [is_asked, is_stale] = waiting.each_ref().map(|one| !one.revents().is_empty());
            // First: of each change the kernel tells once.
            if is_stale {
                self.forget();
            }
            if is_asked {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Shows the coordinator's first frame, with its end, to the first process of the cage that is ready.
    pub fn announce(&mut self, frame: &[u8]) {
        if let Some(ahead) = &mut self.ahead {
            ahead.announce(frame);
        }
    }

    /// Launches a command in the cage that is ready for it, whose first process was shown its frame. `None` where there is none.
    ///
    /// # Errors
    /// The launch is refused.
    pub fn launch(&mut self, policy: &Policy) -> Result<Option<(Caged, [OwnedFd; 2])>, Refused> {
        let Some(ahead) = self.ahead.take_if(|ahead| ahead.kind() == Kind::of(policy.get())) else { return Ok(None) };
        let order = |handed: &Handed| {
            let groups = handed.groups.iter().cloned().map(airlock::group_spec).collect();
            encode(&Go { own_room: handed.own_room, groups })
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
        self.forget();
        self.networks.enter_for(kind)
    }

    /// Gives up the cage that is ready: there is no job for it, or none that it could tell by its frame.
    pub fn forget(&mut self) {
        self.ahead = None;
    }

    /// Passes on the network, if it was left untouched. To be called when everything of the job is dead.
    pub fn pass_on(self) {
        self.networks.pass_on();
    }
}

/// The way to the worker that stands by next.
#[derive(Debug)]
pub struct Successor {
    pipe: OwnedFd,
    code: u8,
}

impl Successor {
    /// Has it make a cage like this worker's. To be called when this one is closed: what the kernel does for either would hold up
    /// the other.
    pub fn wake(self) {
        // One that is not there yet reads it later; one that has ended needs nothing.
        let _ = rustix::io::write(&self.pipe, &[self.code]);
    }
}

/// What the worker before this one has said.
///
/// # Errors
/// The pipe failed.
pub fn kind_of_last(pipe: &OwnedFd) -> io::Result<Option<Kind>> {
    let mut code = [0];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut code))?;
    Ok(if length == 0 { None } else { KINDS.get(usize::from(code[0])).copied() })
}

/// The kinds that cages are made of ahead.
const KINDS: [Kind; 4] = [
    Kind { tier: Tier::Namespaces, network: Network::None },
    Kind { tier: Tier::Namespaces, network: Network::Host },
    Kind { tier: Tier::Landlock, network: Network::None },
    Kind { tier: Tier::Landlock, network: Network::Host },
];

fn code_of(kind: Kind) -> Option<u8> {
    (0..).zip(KINDS).find(|(_, known)| *known == kind).map(|(code, _)| code)
}

/// What the process outside tells the one inside when the job shall be run.
#[derive(Debug, Serialize, Deserialize)]
struct Go {
    own_room: Option<u64>,
    groups: Vec<GroupSpec>,
}

/// Goes once through what an order takes, with one that is for nobody. What a forked process touches for the first time costs it a
/// fault a page: a third of a launch, were it not done while there is nothing to do.
fn rehearse() {
    let frame = encode(&ToWorker::Start(Box::new(rehearsed())));
    let go = encode(&Go { own_room: None, groups: Vec::new() });
    std::hint::black_box((understand(frame.trim_ascii_end()).is_ok(), decode::<Go>(go.trim_ascii_end()).is_ok()));
}

/// An order like those that come.
fn rehearsed() -> Start {
    let place = |name: &str| PathBuf::from(format!("/srv/{name}"));
    let worktree = WorktreeSpec::Directory { at: place("tree"), path: place("tree") };
    let grants = vec![Grant { path: place("tools"), at: place("tools"), access: Access::Read }; 4];
    let env = ["PATH", "HOME", "LANG", "TERM", "TMPDIR"].map(|name| (name.to_owned(), "/usr/bin:/bin".to_owned()));
    let sandbox = SandboxSpec {
        tier: swarm_protocol::Tier::Landlock,
        worktree,
        grants,
        cow: Vec::new(),
        hide: Vec::new(),
        home: place("home"),
        home_files: Vec::new(),
        tmp: Some(place("tmp")),
        network: NetworkSpec::None,
        limits: LimitsSpec::default(),
        env: env.to_vec(),
    };
    let job = Job::Command { argv: vec!["true".to_owned()], cwd: place("tree") };
    Start { version: VERSION, job, sandbox, timeout_ms: None, grace_ms: 0, output_bytes_max: 0 }
}

/// What the first process of a cage does that is made ahead: waits for the order and follows it. It ends where there is none, and is
/// ended where the order is for another cage.
fn follow_order(mut within: Within) -> ! {
    rehearse();
    let Some(frame) = within.wait() else { exit_now(0) };
    let understood = understand(&frame);
    let Some(go) = within.wait() else { exit_now(0) };
    let refused = |reason: String| Refused::new("order", reason);
    match (understood, decode::<Go>(&go)) {
        (Ok((policy, program)), Ok(Go { own_room, groups })) => {
            let groups = groups.iter().map(airlock::group).collect();
            within.launch(&policy, &program, Handed { own_room, groups })
        }
        (Err(reason), _) => within.refuse(refused(reason)),
        (_, Err(error)) => within.refuse(refused(error.to_string())),
    }
}

/// What a frame asks for, if that is a command.
fn understand(frame: &[u8]) -> Result<(Policy, Program), String> {
    let start = match decode(frame) {
        Ok(ToWorker::Start(start)) => start,
        other => return Err(format!("it is no job: {other:?}")),
    };
    let Job::Command { argv, cwd } = &start.job else { return Err("it is for no command".to_owned()) };
    let policy = airlock::policy(&start.sandbox).map_err(|error| error.to_string())?;
    let program = program(&start, argv, cwd).map_err(|ended| format!("{ended:?}"))?;
    Ok((policy, program))
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn the_next_worker_hears_of_the_last_kind() {
        let egress = Kind { tier: Tier::Namespaces, network: Network::Egress { port: 9 } };
        for (kind, heard) in
            KINDS.map(|kind| (Some(kind), Some(kind))).into_iter().chain([(None, None), (Some(egress), None)])
        {
            let (hearing, telling) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let mut standby = Standby::of_server(Networks::default(), telling);
            if let Some(successor) = standby.take_successor(kind) {
                successor.wake();
            }
            drop(standby);
            assert_eq!(kind_of_last(&hearing).unwrap(), heard);
        }
    }

    #[test]
    fn what_is_rehearsed_goes_through() {
        let frame = encode(&ToWorker::Start(Box::new(rehearsed())));
        assert!(understand(frame.trim_ascii_end()).is_ok());
        assert!(understand(b"{}").is_err());
    }
}
