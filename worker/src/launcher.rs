//! The fork server: one small process a run that makes each worker by fork instead of by starting the whole program again.
//!
//! Starting the program costs what it costs to map and relocate tens of megabytes; a fork of this process, which has
//! touched little, costs a tenth of that, however large the program becomes. It is in a session of its own, so a key
//! pressed at the coordinator's terminal reaches no worker, and it has no name that a job could connect to: its socket is
//! an unnamed pair, whose other end only the coordinator holds.
//!
//! One worker always *stands by*: forked before anybody asks, it waits at the socket itself, takes the two pipe ends of the
//! next request and answers with a descriptor for its own process. So nobody waits for a fork, and the server, which hears
//! that its worker has its order and forks the next one, decides nothing and holds no job's pipes. A worker that stands by has
//! seen no job, and it does one.
//!
//! A worker passes a [network namespace](swarm_sandbox::network) that its job left untouched back to the server, which gives it to
//! the next worker that it forks, and to no other. It also tells the next worker the kind of its job, as soon as
//! the job runs, and that makes a cage of that kind [ahead](swarm_sandbox::ahead), unless it is asked for first.
//!
//! Server and worker end when the coordinator closes its end. Workers that were taken do not depend on it: each ends with
//! its own input.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, WaitOptions, getpid, pidfd_open, wait};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin};
use swarm_protocol::fork_server::{FORK, REQUEST_DESCRIPTORS, Reply};
use swarm_sandbox::{Cloned, Kind};

use crate::networks::{Networks, take_returned};
use crate::standby::{Standby, kind_of_last};

/// What the calling process is when [`serve`] comes back.
#[derive(Debug)]
pub enum Role {
    /// Still the server, and nobody wants another worker.
    Done,
    /// A worker, with its pipes in place as standard input and output.
    Worker(Standby),
}

/// How many workers in a row may end while they stand by. Something on this machine ends them: the coordinator is told, by
/// the end of the server.
const DEATHS_MAX: u32 = 3;

/// The two ends of a worker's pipes.
struct Pipes {
    input: OwnedFd,
    output: OwnedFd,
}

/// Forks workers on request; the socket is standard input. Comes back in the server when the coordinator is gone, and in
/// each worker as soon as it is taken.
///
/// # Errors
/// The socket failed, workers end before they are taken, or a new worker cannot take its pipes.
pub fn serve() -> io::Result<Role> {
    swarm_sandbox::launch::close_inherited()?;
    swarm_sandbox::prepare();
    let (returned, returning) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let (mut untouched, mut last) = (Vec::new(), None);
    let mut deaths = 0;
    while deaths < DEATHS_MAX {
        take_returned(&returned, &mut untouched)?;
        let given = untouched.pop();
        let (hearing, telling) = pipe_with(PipeFlags::CLOEXEC)?;
        match swarm_sandbox::fork() {
            Ok(Cloned::Child) => {
                // What is for others is theirs alone.
                drop((hearing, returned, untouched));
                return stand_by(Standby::of_server(Networks::of_server(given, returning), telling), last);
            }
            Ok(Cloned::Parent(..)) => {
                drop((telling, given));
                deaths = match hear(&hearing)? {
                    Fate::Taken => {
                        last = Some(hearing);
                        0
                    }
                    Fate::Ended if is_hung_up(stdin())? => return Ok(Role::Done),
                    Fate::Ended => deaths + 1,
                };
            }
            // Whoever asks next is told; by then there may be room again.
            Err(_) => {
                untouched.extend(given);
                let Some(role) = fork_when_asked()? else { continue };
                return Ok(role);
            }
        }
        reap();
    }
    Err(io::Error::other("workers that stand by are ended by somebody"))
}

/// Waits for a request and becomes its worker; `Done` when there will be none. `last` is our end of the last worker's pipe.
fn stand_by(mut standby: Standby, last: Option<OwnedFd>) -> io::Result<Role> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    if let Some(kind) = last.as_ref().map(kind_unless_asked).transpose()?.flatten() {
        standby.prepare(kind)?;
    }
    drop(last);
    loop {
        standby.wait_for(stdin())?;
        let Some(request) = receive(stdin())? else { return Ok(Role::Done) };
        let Some(pipes) = request else {
            reply(stdin(), Reply::Failed(Errno::BADMSG.raw_os_error()), None)?;
            continue;
        };
        reply(stdin(), Reply::Forked, Some(own))?;
        return become_worker(&pipes, standby);
    }
}

/// The kind of the last worker's job, once that runs; `None` when there is a request before that, or there will be none.
fn kind_unless_asked(last: &OwnedFd) -> io::Result<Option<Kind>> {
    let socket = stdin();
    let mut waiting = [PollFd::new(&socket, PollFlags::IN), PollFd::new(last, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut waiting, None))?;
    if waiting[0].revents().is_empty() { kind_of_last(last) } else { Ok(None) }
}

/// Answers one request by a fork at that time; `None` where the caller is the server still and goes on.
fn fork_when_asked() -> io::Result<Option<Role>> {
    let Some(request) = receive(stdin())? else { return Ok(Some(Role::Done)) };
    let Some(pipes) = request else {
        return reply(stdin(), Reply::Failed(Errno::BADMSG.raw_os_error()), None).map(|()| None);
    };
    match swarm_sandbox::fork() {
        Ok(Cloned::Child) => become_worker(&pipes, Standby::default()).map(Some),
        Ok(Cloned::Parent(_, pidfd)) => {
            // Before the reply: when the coordinator knows of the worker, only the worker holds its ends.
            drop(pipes);
            reply(stdin(), Reply::Forked, Some(pidfd)).map(|()| None)
        }
        Err(error) => reply(stdin(), Reply::Failed(error.raw_os_error()), None).map(|()| None),
    }
}

fn become_worker(pipes: &Pipes, standby: Standby) -> io::Result<Role> {
    // The first replaces, and so closes, the socket.
    dup2_stdin(&pipes.input)?;
    dup2_stdout(&pipes.output)?;
    Ok(Role::Worker(standby))
}

/// What became of a worker that stood by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has a job.
    Taken,
    /// It ended without one.
    Ended,
}

/// Waits until the worker that holds the other end of this pipe is taken, or has ended.
fn hear(pipe: &OwnedFd) -> io::Result<Fate> {
    let mut byte = [0];
    loop {
        match rustix::io::read(pipe, &mut byte) {
            Ok(0) => return Ok(Fate::Ended),
            Ok(_) => return Ok(Fate::Taken),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the coordinator has closed its end.
fn is_hung_up(socket: impl AsFd) -> io::Result<bool> {
    let mut waiting = [PollFd::new(&socket, PollFlags::empty())];
    poll(&mut waiting, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(waiting[0].revents().contains(PollFlags::HUP))
}

/// Lets go of workers that have ended. Those that end while nobody asks for another wait until somebody does.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// The next request; the inner `None` for a message that is none. `None` when the coordinator has closed its end.
fn receive(socket: impl AsFd) -> io::Result<Option<Option<Pipes>>> {
    let mut byte = [0; 2];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::with_capacity(REQUEST_DESCRIPTORS);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    match <[OwnedFd; REQUEST_DESCRIPTORS]>::try_from(descriptors) {
        Ok([input, output]) if whole && byte[..received.bytes] == [FORK] => Ok(Some(Some(Pipes { input, output }))),
        _ => Ok(Some(None)),
    }
}

fn reply(socket: impl AsFd, reply: Reply, pidfd: Option<OwnedFd>) -> io::Result<()> {
    let descriptor = pidfd.as_ref().map(AsFd::as_fd);
    let descriptors = descriptor.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "BUG: room for one descriptor");
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(&reply.encode())], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}
