//! The supervisor's end of the connection with an agent in its cage. Lines are bounded in both directions, nothing that
//! comes in is believed, and neither side can hold the supervisor up: an agent that does not listen is ended as one that
//! talks nonsense.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use swarm_protocol::agent::{AGENT_LINE_BYTES_MAX, AgentSays, ToAgent};
use swarm_protocol::frame::{LINE_BYTES_MAX, decode};
use swarm_protocol::{FromWorker, LineBuffer, encode};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that wait to be heard by an agent; answers come one at a time, so this is one of them and many hints.
const WAITING_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;

/// What an agent's end did that no agent of ours does; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Nonsense(String);

/// The supervisor's end.
#[derive(Debug)]
pub struct Channel {
    /// `None` once the other end is closed.
    socket: Option<OwnedFd>,
    incoming: LineBuffer,
    outgoing: Vec<u8>,
}

impl Channel {
    /// A connection: the supervisor's end, and the end for the cage.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let incoming = LineBuffer::new(AGENT_LINE_BYTES_MAX);
        let channel = Channel { socket: Some(ours), incoming, outgoing: Vec::new() };
        Ok((channel, theirs))
    }

    /// What to wait for: `None` once the other end is closed.
    pub fn awaits(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let wanted = if self.outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        Some((self.socket.as_ref()?.as_fd(), wanted))
    }

    /// Sends a message, or keeps it until the agent reads on.
    ///
    /// # Errors
    /// [`Nonsense`] when it does not.
    pub fn tell(&mut self, message: &ToAgent) -> Result<(), Nonsense> {
        self.outgoing.extend(encode(message));
        if self.outgoing.len() > WAITING_BYTES_MAX {
            return Err(Nonsense("it does not listen to its answers".to_owned()));
        }
        self.flush();
        Ok(())
    }

    /// Sends on what waits.
    pub fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match send(socket, &self.outgoing[sent..], SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // It has ended: its last words can still be read.
                Err(_) => {
                    self.outgoing.clear();
                    return;
                }
            }
        }
        self.outgoing.drain(..sent);
    }

    /// Reads once and gives the frames that are whole; [`Heard::Closed`] when nothing more will come.
    ///
    /// # Errors
    /// [`Nonsense`]: the agent is to be ended.
    pub fn read(&mut self) -> Result<Heard, Nonsense> {
        let Some(socket) = &self.socket else { return Ok(Heard::Closed) };
        match rustix::io::read(socket, spare_capacity(self.incoming.room(READ_BYTES))) {
            // Closed, perhaps with words of ours unread.
            Ok(0) => self.socket = None,
            Ok(_) => return self.frames().map(Heard::Frames),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Heard::Frames(Vec::new())),
            Err(_) => self.socket = None,
        }
        Ok(Heard::Closed)
    }

    fn frames(&mut self) -> Result<Vec<FromWorker>, Nonsense> {
        let mut frames = Vec::new();
        while let Some(line) = self.incoming.line().map_err(|error| Nonsense(format!("it sent no message: {error}")))? {
            frames.push(frame(line)?);
        }
        Ok(frames)
    }
}

/// What one reading gave.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Frames for the coordinator.
    Frames(Vec<FromWorker>),
    /// The other end is closed.
    Closed,
}

/// A line as a frame for the coordinator, which is never longer than the coordinator reads.
fn frame(line: &[u8]) -> Result<FromWorker, Nonsense> {
    let says: AgentSays = decode(line).map_err(|_| Nonsense("it sent a line that is no message".to_owned()))?;
    let frame = FromWorker::Agent { says: Box::new(says) };
    // Numbers can become longer when they are written again.
    if encode(&frame).len() > LINE_BYTES_MAX {
        return Err(Nonsense(format!("what it sent is longer than {LINE_BYTES_MAX} bytes")));
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends bytes in pieces and gives what is heard until something is wrong or all is read.
    fn heard(pieces: &[&[u8]]) -> (Vec<FromWorker>, Option<Nonsense>) {
        let (mut channel, theirs) = Channel::pair().unwrap();
        let mut all = Vec::new();
        for piece in pieces {
            let mut sent = 0;
            while sent < piece.len() {
                sent += rustix::io::write(&theirs, &piece[sent..piece.len().min(sent + READ_BYTES)]).unwrap();
                match channel.read() {
                    Ok(Heard::Frames(frames)) => all.extend(frames),
                    Ok(Heard::Closed) => panic!("it is open"),
                    Err(nonsense) => return (all, Some(nonsense)),
                }
            }
        }
        drop(theirs);
        loop {
            match channel.read() {
                Ok(Heard::Frames(frames)) => all.extend(frames),
                Ok(Heard::Closed) => return (all, None),
                Err(nonsense) => return (all, Some(nonsense)),
            }
        }
    }

    fn question(text: &str) -> AgentSays {
        AgentSays::Question { id: 1, text: text.to_owned() }
    }

    #[test]
    fn lines_are_put_together_and_a_torn_one_is_dropped() {
        let line = encode(&question("ü"));
        let (first, second) = line.split_at(9);
        let (frames, wrong) = heard(&[first, second, &line, b"{\"says\":"]);
        assert_eq!(frames, vec![FromWorker::Agent { says: Box::new(question("ü")) }; 2]);
        assert_eq!(wrong, None);
    }

    #[test]
    fn garbage_and_endless_lines_are_nonsense() {
        for garbage in [&b"hello\n"[..], b"\0\xff\n", b"{\"type\":\"finished\"}\n", b"\n"] {
            assert!(heard(&[garbage]).1.is_some(), "{garbage:?}");
        }
        let endless = vec![b' '; AGENT_LINE_BYTES_MAX + READ_BYTES];
        assert!(heard(&[&endless]).1.unwrap().0.contains("longer"));
    }

    #[test]
    fn what_grows_when_it_is_written_again_never_reaches_the_coordinator() {
        let numbers = "1e15,".repeat(AGENT_LINE_BYTES_MAX / 5 - 100);
        let line = format!(
            "{{\"says\":\"permission\",\"id\":1,\"tool\":\"t\",\"reason\":\"\",\"arguments\":{{\"a\":[{numbers}1]}}}}\n"
        );
        assert!(line.len() < AGENT_LINE_BYTES_MAX);
        assert!(heard(&[line.as_bytes()]).1.is_some());
    }

    #[test]
    fn an_agent_that_does_not_listen_is_nonsense_and_holds_nobody_up() {
        let (mut channel, _theirs) = Channel::pair().unwrap();
        let hint = ToAgent::Hint { text: "x".repeat(1 << 20) };
        let refused = (0..100).find(|_| channel.tell(&hint).is_err());
        assert!(refused.is_some_and(|n| n >= WAITING_BYTES_MAX >> 20));
    }
}
