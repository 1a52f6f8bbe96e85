//! What the inside tells the outside. Cage and supervisor share one pipe; each record is one write of at most
//! [`RECORD_BYTES_MAX`] bytes, which the kernel never splits or mixes (pipe(7), `PIPE_BUF`).
//!
//! A record is a length byte pair, a tag, and fields in little-endian order. The writer is our own code and gone before the
//! job's program starts: the job has no descriptor of this pipe. Only the process of a WebAssembly guest keeps it; one that
//! got out of the runtime could lie about its own end, as a program can by its exit status. The reader checks everything.

use std::os::fd::AsFd;

use rustix::io::{self, Errno};

use crate::launch::{Refused, Want};
use crate::seccomp::Metadata;

/// No record is longer. Far below `PIPE_BUF` (4096).
const RECORD_BYTES_MAX: usize = 1024;
/// Of a text that stands alone, and of two together.
const TEXT_BYTES_MAX: usize = RECORD_BYTES_MAX - 8;

/// One word from the inside.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// The cage is closed, its self-check passed, and the program is about to be executed.
    Ready {
        /// The Landlock ABI in force.
        landlock_abi: u32,
        /// Who changes metadata for the job.
        metadata: Metadata,
    },
    /// A step failed; nothing was run.
    Refused(Refused),
    /// The program could not be executed.
    StartFailed {
        /// The system's error number.
        errno: i32,
    },
    /// A WebAssembly guest broke a limit; the end of its process follows.
    Limit {
        /// The limit's name.
        limit: String,
        /// What was seen.
        detail: String,
    },
    /// A WebAssembly guest could not be run; the end of its process follows.
    NotRunnable {
        /// Why.
        reason: String,
    },
    /// The first process ended, and all others are dead or given up.
    Ended {
        /// How the first process ended.
        end: End,
        /// What all processes used.
        usage: Usage,
        /// Processes that were alive when the first one ended.
        orphans: u64,
        /// How many processes were left then at once, at the most, with those that had ended and were not reaped; 0 where nobody looked.
        crowd: u64,
        /// How many processes the job's group had refused when the first one ended: what is refused while the others are killed
        /// says nothing about it.
        refused: u64,
        /// Whether all others are dead.
        is_over: bool,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an exit status.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

/// What all processes of a job used together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time in microseconds.
    pub cpu_us: u64,
    /// Largest resident size of one process in KiB.
    pub max_rss_kib: u64,
}

/// Sends one record. Failures are ignored: a supervisor that does not read any more has ended, and so will we.
pub fn send(pipe: impl AsFd, status: &Status) {
    let _ = io::write(pipe, &encode(status));
}

fn encode(status: &Status) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    match status {
        Status::Ready { landlock_abi, metadata } => {
            body.push(b'R');
            body.push(u8::from(*metadata == Metadata::Asked));
            body.extend(landlock_abi.to_le_bytes());
        }
        Status::Refused(Refused { step, reason, want }) => {
            body.push(b'X');
            body.push(u8::from(*want == Want::Processes));
            body.extend(both(step, reason));
        }
        Status::StartFailed { errno } => {
            body.push(b'F');
            body.extend(errno.to_le_bytes());
        }
        Status::Limit { limit, detail } => {
            body.push(b'L');
            body.extend(both(limit, detail));
        }
        Status::NotRunnable { reason } => {
            body.push(b'N');
            body.extend(reason.bytes().take(TEXT_BYTES_MAX));
        }
        Status::Ended { end, usage, orphans, crowd, refused, is_over } => {
            body.push(b'E');
            body.push(u8::from(*is_over));
            let (kind, code) = match *end {
                End::Exited(code) => (0, code),
                End::Signaled(signal) => (1, signal),
            };
            body.push(kind);
            body.extend(code.to_le_bytes());
            for number in [usage.cpu_us, usage.max_rss_kib, *orphans, *crowd, *refused] {
                body.extend(number.to_le_bytes());
            }
        }
    }
    let length = u16::try_from(body.len()).expect("records are at most RECORD_BYTES_MAX long");
    [&length.to_le_bytes()[..], &body].concat()
}

/// Two texts with a NUL between them, of which the first (a step may name a path) never takes the room of the second.
fn both(first: &str, second: &str) -> Vec<u8> {
    const FIRST_BYTES_MAX: usize = TEXT_BYTES_MAX / 2;
    let first = first.bytes().filter(|byte| *byte != 0).take(FIRST_BYTES_MAX);
    first.chain([0]).chain(second.bytes()).take(TEXT_BYTES_MAX).collect()
}

/// Puts the bytes of the pipe together again.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    /// Reads what is there; an empty list means that nothing came yet.
    ///
    /// # Errors
    /// `EPIPE` when all writers are gone, `EBADMSG` for bytes that are no record, once all records before them are given.
    pub fn read(&mut self, pipe: impl AsFd) -> io::Result<Vec<Status>> {
        // Bytes that are no record stay, and nothing behind them is read.
        if let Some(Err(error)) = self.next() {
            return Err(error);
        }
        let mut bytes = [0; 4 * RECORD_BYTES_MAX];
        match io::read(pipe, &mut bytes) {
            Ok(0) => return Err(Errno::PIPE),
            Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let mut all = Vec::new();
        while let Some(record) = self.next() {
            match record {
                Ok(status) => all.push(status),
                Err(error) if all.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(all)
    }

    /// The next record, once it is whole.
    fn next(&mut self) -> Option<io::Result<Status>> {
        let (length, rest) = self.pending.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        if length > RECORD_BYTES_MAX {
            return Some(Err(Errno::BADMSG));
        }
        let Some(status) = decode(rest.get(..length)?) else { return Some(Err(Errno::BADMSG)) };
        self.pending.drain(..2 + length);
        Some(Ok(status))
    }
}

fn decode(body: &[u8]) -> Option<Status> {
    let (tag, fields) = body.split_first()?;
    match tag {
        b'R' => {
            let (asked, fields) = fields.split_first()?;
            let metadata = if *asked == 0 { Metadata::Own } else { Metadata::Asked };
            Some(Status::Ready { landlock_abi: u32::from_le_bytes(fields.try_into().ok()?), metadata })
        }
        b'X' => {
            let (want, text) = fields.split_first()?;
            let want = if *want == 0 { Want::Means } else { Want::Processes };
            let text = String::from_utf8_lossy(text);
            let (step, reason) = text.split_once('\0')?;
            Some(Status::Refused(Refused { step: step.to_owned(), reason: reason.to_owned(), want }))
        }
        b'L' => {
            let text = String::from_utf8_lossy(fields);
            let (limit, detail) = text.split_once('\0')?;
            Some(Status::Limit { limit: limit.to_owned(), detail: detail.to_owned() })
        }
        b'N' => Some(Status::NotRunnable { reason: String::from_utf8_lossy(fields).into_owned() }),
        b'F' => Some(Status::StartFailed { errno: i32::from_le_bytes(fields.try_into().ok()?) }),
        b'E' => {
            let (is_over, fields) = fields.split_first()?;
            let (kind, fields) = fields.split_first()?;
            let (code, fields) = fields.split_first_chunk::<4>()?;
            let code = i32::from_le_bytes(*code);
            let end = if *kind == 0 { End::Exited(code) } else { End::Signaled(code) };
            let numbers: [u8; 40] = fields.try_into().ok()?;
            let number = |index: usize| {
                u64::from_le_bytes(numbers[index * 8..][..8].try_into().expect("a slice of eight bytes"))
            };
            let usage = Usage { cpu_us: number(0), max_rss_kib: number(1) };
            let (orphans, crowd, refused) = (number(2), number(3), number(4));
            Some(Status::Ended { end, usage, orphans, crowd, refused, is_over: *is_over == 1 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_status() -> impl Strategy<Value = Status> {
        prop_oneof![
            (any::<u32>(), any::<bool>()).prop_map(|(landlock_abi, asked)| {
                let metadata = if asked { Metadata::Asked } else { Metadata::Own };
                Status::Ready { landlock_abi, metadata }
            }),
            ("[a-z /]{0,30}", "[a-z]{0,200}", any::<bool>()).prop_map(|(step, reason, lacks)| {
                let want = if lacks { Want::Processes } else { Want::Means };
                Status::Refused(Refused { step, reason, want })
            }),
            ("[a-z]{1,10}", "[a-z]{0,200}").prop_map(|(limit, detail)| Status::Limit { limit, detail }),
            "[a-z]{0,200}".prop_map(|reason| Status::NotRunnable { reason }),
            any::<i32>().prop_map(|errno| Status::StartFailed { errno }),
            (any::<i32>(), any::<[bool; 2]>(), any::<[u64; 5]>()).prop_map(
                |(code, [exited, is_over], [cpu_us, max_rss_kib, orphans, crowd, refused])| {
                    let end = if exited { End::Exited(code) } else { End::Signaled(code) };
                    Status::Ended { end, usage: Usage { cpu_us, max_rss_kib }, orphans, crowd, refused, is_over }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(all in proptest::collection::vec(any_status(), 1..8)) {
            let (receiver, sender) = rustix::pipe::pipe().unwrap();
            for status in &all {
                send(&sender, status);
            }
            drop(sender);
            let (mut reader, mut received) = (Reader::default(), Vec::new());
            loop {
                match reader.read(&receiver) {
                    Ok(some) => received.extend(some),
                    Err(error) => {
                        prop_assert_eq!(error, Errno::PIPE);
                        break;
                    }
                }
            }
            prop_assert_eq!(received, all);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_step_of_any_length_keeps_its_reason() {
        let (step, reason) = ("/long".repeat(1000), "no such file ".repeat(1000));
        let body = encode(&Status::Refused(Refused { step: step.clone(), reason: reason.clone(), want: Want::Means }));
        assert!(body.len() <= 2 + RECORD_BYTES_MAX);
        let Some(Status::Refused(read)) = decode(&body[2..]) else { panic!("it is no refusal") };
        assert!(!read.step.is_empty() && step.starts_with(&read.step));
        assert!(read.reason.len() > 400 && reason.starts_with(&read.reason));
        let long = Status::Limit { limit: step, detail: "d".to_owned() };
        assert!(matches!(decode(&encode(&long)[2..]), Some(Status::Limit { detail, .. }) if detail == "d"));
    }

    #[test]
    fn what_was_said_before_bytes_that_are_no_record_is_given_first() {
        let (receiver, sender) = rustix::pipe::pipe().unwrap();
        let said = Status::Ready { landlock_abi: 4, metadata: Metadata::Own };
        io::write(&sender, &[encode(&said), vec![1, 0, b'?'], encode(&said)].concat()).unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.read(&receiver), Ok(vec![said]));
        assert_eq!([reader.read(&receiver), reader.read(&receiver)], [Err(Errno::BADMSG), Err(Errno::BADMSG)]);
    }
}
