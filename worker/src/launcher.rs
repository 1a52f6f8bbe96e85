//! The fork server: one small process a run that makes each worker by fork instead of by starting the whole program again.
//!
//! Starting the program costs what it costs to map and relocate tens of megabytes; a fork of this process, which has
//! touched little, costs a tenth of that, however large the program becomes. The server decides nothing and reads no job:
//! it gets two pipe ends, forks, and gives back a descriptor for the new process. It is in a session of its own, so a key
//! pressed at the coordinator's terminal reaches no worker, and it has no name that a job could connect to: its socket is
//! an unnamed pair, whose other end only the coordinator holds.
//!
//! It ends when the coordinator closes that end. Its workers do not depend on it: each ends with its own input.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{WaitOptions, wait};
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin};
use swarm_protocol::fork_server::{FORK, REQUEST_DESCRIPTORS, Reply};
use swarm_sandbox::Cloned;

/// What the calling process is when [`serve`] comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Still the server, and nobody wants another worker.
    Done,
    /// A worker, with its pipes in place as standard input and output.
    Worker,
}

/// The two ends of a worker's pipes.
struct Pipes {
    input: OwnedFd,
    output: OwnedFd,
}

/// Forks workers on request; the socket is standard input. Comes back in the server when the coordinator is gone, and in
/// each worker at once.
///
/// # Errors
/// The socket failed, or a new worker cannot take its pipes.
pub fn serve() -> io::Result<Role> {
    swarm_sandbox::launch::close_inherited()?;
    swarm_sandbox::prepare();
    loop {
        let Some(request) = receive(stdin())? else { return Ok(Role::Done) };
        reap();
        let Some(pipes) = request else {
            reply(stdin(), Reply::Failed(Errno::BADMSG.raw_os_error()), None)?;
            continue;
        };
        match swarm_sandbox::fork() {
            Ok(Cloned::Child) => {
                // The first replaces, and so closes, the socket.
                dup2_stdin(&pipes.input)?;
                dup2_stdout(&pipes.output)?;
                return Ok(Role::Worker);
            }
            Ok(Cloned::Parent(_, pidfd)) => {
                // Before the reply: when the coordinator knows of the worker, only the worker holds its ends.
                drop(pipes);
                reply(stdin(), Reply::Forked, Some(pidfd))?;
            }
            Err(error) => reply(stdin(), Reply::Failed(error.raw_os_error()), None)?,
        }
    }
}

/// Lets go of workers that have ended. Those that end while nobody asks for another wait for the next request.
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
