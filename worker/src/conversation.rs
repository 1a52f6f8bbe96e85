//! One conversation: `start`, `hello`, the job, `finished`.
//!
//! Input is read by poll(2) and not through a buffered reader, because while the job runs the same descriptor says two
//! more things: `cancel`, and, by its end, that the coordinator is gone.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::buffer::spare_capacity;
use rustix::stdio::{stdin, stdout};
use swarm_protocol::frame::{FrameError, LINE_BYTES_MAX, decode};
use swarm_protocol::{Ended, FromWorker, LineBuffer, Outcome, Refusal, ToWorker, VERSION, encode};
use swarm_sandbox::Remains;

use crate::standby::Standby;
use crate::supervise::supervise;

/// Bytes read from the coordinator at once.
const READ_BYTES: usize = 64 << 10;

/// Holds the conversation on standard input and output. Gives what is still to be waited for when all is said; a coordinator that
/// goes without a word wanted nothing.
///
/// # Errors
/// The coordinator is gone, or does not speak the protocol.
pub fn run(standby: &mut Standby) -> io::Result<Option<Remains>> {
    let mut input = Input::default();
    let frame = input.first_frame();
    // Before anything is made of it here, and before anybody else has something to do: the cage that is ready makes the same of it
    // at the same time.
    if let Ok(Some(frame)) = frame {
        standby.announce(frame);
    }
    standby.tell_taken();
    frame?;
    let start = loop {
        match input.read()? {
            Heard::Nothing => {}
            // The frame that was shown is none that a cage can be told by.
            Heard::Message(ToWorker::Agent { .. }) => standby.forget(),
            Heard::End if input.pending.is_empty() => return Ok(None),
            Heard::End => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no start frame")),
            Heard::Message(ToWorker::Start(start)) => break start,
            // Cancelled before it began: nothing was started, nothing is to be ended.
            Heard::Message(ToWorker::Cancel { .. }) => return send(&finished(Ended::Cancelled)).map(|()| None),
        }
    };
    let (outcome, remains) = if start.version == VERSION {
        supervise(&start, &mut input, standby)?
    } else {
        let reason = format!("the coordinator speaks protocol {}, this worker {VERSION}", start.version);
        (Outcome::of_nothing(Ended::Refused(Refusal::new("protocol", reason))), None)
    };
    send(&FromWorker::Finished { outcome })?;
    Ok(remains)
}

fn finished(ended: Ended) -> FromWorker {
    FromWorker::Finished { outcome: Outcome::of_nothing(ended) }
}

/// Whether this worker has said who it is.
static HAS_GREETED: AtomicBool = AtomicBool::new(false);

/// Writes one frame whole; the first together with a greeting, since waking the coordinator for that alone holds up the job.
///
/// # Errors
/// The coordinator is gone.
pub fn send(message: &FromWorker) -> io::Result<()> {
    let has_greeted = HAS_GREETED.swap(true, Ordering::Relaxed);
    let greeting = (!has_greeted).then(|| encode(&FromWorker::Hello { version: VERSION }));
    let bytes = [greeting.unwrap_or_default(), encode(message)].concat();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match rustix::io::write(stdout(), rest) {
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What one look at the input gave.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// Part of a message.
    Nothing,
    /// A message.
    Message(ToWorker),
    /// The coordinator has closed its end, or does not speak the protocol any more; both end the job.
    End,
}

/// What one read gave.
#[derive(Debug, PartialEq, Eq)]
enum Filled {
    More,
    End,
}

/// The coordinator's frames.
#[derive(Debug)]
pub struct Input {
    pending: LineBuffer,
}

impl Default for Input {
    fn default() -> Self {
        Input { pending: LineBuffer::new(LINE_BYTES_MAX) }
    }
}

impl Input {
    /// Becomes readable when [`Input::read`] does not have to wait, unless a whole message was read already together with
    /// an earlier one: ask [`Input::next_message`] before waiting.
    pub fn fd(&self) -> BorrowedFd<'static> {
        stdin()
    }

    /// Reads until there is a whole frame, and shows it with its end; `None` when the input ends before that.
    ///
    /// # Errors
    /// The pipe itself failed, or sent what is no frame.
    pub fn first_frame(&mut self) -> io::Result<Option<&[u8]>> {
        while self.pending.peek().map_err(no_frame)?.is_none() {
            if self.fill()? == Filled::End {
                return Ok(None);
            }
        }
        self.pending.peek().map_err(no_frame)
    }

    /// Reads once and gives the first whole message.
    ///
    /// # Errors
    /// The pipe itself failed, or sent what is no frame before the job was started.
    pub fn read(&mut self) -> io::Result<Heard> {
        if let Some(message) = self.next_message()? {
            return Ok(Heard::Message(message));
        }
        if self.fill()? == Filled::End {
            return Ok(Heard::End);
        }
        Ok(self.next_message()?.map_or(Heard::Nothing, Heard::Message))
    }

    fn fill(&mut self) -> io::Result<Filled> {
        // Left as it is and not filled with zeros: a page that nothing is read into costs nothing.
        match rustix::io::read(self.fd().as_fd(), spare_capacity(self.pending.room(READ_BYTES))) {
            Ok(0) => Ok(Filled::End),
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(Filled::More),
            Err(error) => Err(error.into()),
        }
    }

    /// A whole message that has been read, without reading on.
    ///
    /// # Errors
    /// What was read is no frame.
    pub fn next_message(&mut self) -> io::Result<Option<ToWorker>> {
        let Some(line) = self.pending.line().map_err(no_frame)? else { return Ok(None) };
        decode(line).map(Some).map_err(no_frame)
    }
}

fn no_frame(error: impl Into<FrameError>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.into())
}
