//! The coordinator's side of the fork server: asks for workers and gets their processes.
//!
//! The server is this same program, started once as `swarm __worker --server`; a worker that it forks costs a tenth of one
//! that is started, however large the program is. What is said is in [`swarm_protocol::fork_server`]. Each
//! request waits for its answer, so answers need no names. A server that died is started again by the next request, at
//! most [`STARTS_MAX`] times a run; its workers live on without it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Signal, pidfd_send_signal};
use swarm_protocol::fork_server::{FORK, REPLY_BYTES, REQUEST_DESCRIPTORS, Reply};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use crate::descriptors;
use crate::worker_process::WorkerProgram;

/// How often a server is started in one run. One that dies again and again is killed by something on this machine.
const STARTS_MAX: u32 = 3;

/// How long a request waits for its answer: a fork takes less than a millisecond, a machine out of memory far longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Makes workers by fork. A new one has started no process yet.
#[derive(Debug, Default)]
pub struct ForkServer {
    // Held over a request and its answer.
    link: Mutex<Link>,
}

#[derive(Debug, Default)]
struct Link {
    server: Option<Server>,
    starts: u32,
}

#[derive(Debug)]
struct Server {
    // Keeps messages apart, which a stream would not; sent and received on by sendmsg(2) and recvmsg(2) only.
    socket: UnixStream,
    // Dropped with the socket, whose end ends the server; killed in case that it does not listen.
    _process: Child,
}

/// Why there is no forked worker. The caller starts one directly.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The server could not be started, or died before it answered.
    #[error("the fork server does not answer: {0}")]
    Server(#[source] io::Error),
    /// It was started [`STARTS_MAX`] times and died each time.
    #[error("the fork server died {STARTS_MAX} times")]
    GivenUp,
    /// It answered that it cannot fork.
    #[error("the fork server cannot fork: {0}")]
    Fork(#[source] io::Error),
}

impl ForkServer {
    /// Starts the server, so that it is ready when the first worker is asked for. A failure shows again then.
    pub async fn warm_up(&self, program: &WorkerProgram) {
        let mut link = self.link.lock().await;
        link.server = link.take_server(program).ok();
    }

    /// Makes a worker with these standard streams.
    ///
    /// # Errors
    /// [`ForkError`].
    pub async fn fork(
        &self,
        program: &WorkerProgram,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
    ) -> Result<ForkedWorker, ForkError> {
        let mut link = self.link.lock().await;
        loop {
            // Out of the link until it has answered: were this call given up meanwhile, a late answer would be the next one's.
            let server = link.take_server(program)?;
            let answer = tokio::time::timeout(ANSWER_MAX, server.ask(input, output)).await;
            match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok((Reply::Forked, Some(pidfd))) => {
                    link.server = Some(server);
                    return Ok(ForkedWorker { pidfd: Some(pidfd) });
                }
                Ok((Reply::Failed(errno), None)) => {
                    link.server = Some(server);
                    return Err(ForkError::Fork(io::Error::from_raw_os_error(errno)));
                }
                // Dead, or no server of ours: another one is started.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Link {
    /// The server, started when there is none.
    fn take_server(&mut self, program: &WorkerProgram) -> Result<Server, ForkError> {
        if let Some(server) = self.server.take() {
            return Ok(server);
        }
        if self.starts >= STARTS_MAX {
            return Err(ForkError::GivenUp);
        }
        self.starts += 1;
        Server::start(program).map_err(ForkError::Server)
    }
}

impl Server {
    fn start(program: &WorkerProgram) -> io::Result<Server> {
        // It sends descriptors, and keeps the limit that it is started with.
        descriptors::raise();
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let ours = StdUnixStream::from(ours);
        ours.set_nonblocking(true)?;
        let process = Command::new(&program.program)
            .args(["__worker", "--server"])
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::from(program.diagnostics.try_clone()?))
            .kill_on_drop(true)
            .spawn()?;
        Ok(Server { socket: UnixStream::from_std(ours)?, _process: process })
    }

    async fn ask(&self, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<(Reply, Option<OwnedFd>)> {
        let descriptors: [BorrowedFd<'_>; REQUEST_DESCRIPTORS] = [input, output];
        self.socket.async_io(Interest::WRITABLE, || request(&self.socket, &descriptors)).await?;
        self.socket.async_io(Interest::READABLE, || answer(&self.socket)).await
    }
}

fn request(socket: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REQUEST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "BUG: room for these descriptors");
    sendmsg(socket, &[IoSlice::new(&[FORK])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn answer(socket: impl AsFd) -> io::Result<(Reply, Option<OwnedFd>)> {
    let mut bytes = [0; REPLY_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut pidfd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            pidfd = rights.next();
        }
    }
    match Reply::decode(&bytes[..received.bytes]) {
        Some(reply) => Ok((reply, pidfd)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A forked worker, held by a descriptor that no other process can take over. It ends like any worker: when its input ends.
/// That it has ended shows in its output, of which it holds the only writing end. Dropping this kills it,
/// where it was not left alone.
#[derive(Debug)]
pub struct ForkedWorker {
    /// `None` once it is left alone.
    pidfd: Option<OwnedFd>,
}

impl ForkedWorker {
    /// Ends it at once; its cage ends with it.
    pub fn kill(self) {
        drop(self);
    }

    /// Leaves a worker alone whose output has ended: nothing of its job is alive, and it may still have something to hand to
    /// its server.
    pub fn let_go(mut self) {
        self.pidfd = None;
    }
}

impl Drop for ForkedWorker {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}
