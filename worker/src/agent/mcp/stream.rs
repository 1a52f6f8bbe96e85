//! What a server writes, held to messages: one JSON-RPC message a line, bounded. The library passes over what it cannot read
//! and waits on, so that a server which speaks nonsense costs its whole time limit; here it ends the conversation at once, and
//! the reason is kept for people.
//!
//! Source: Model Context Protocol 2026-07-28, transports, stdio: "the server MUST NOT write anything to its stdout that is not
//! a valid MCP message". Some print a greeting all the same, so a few such lines pass.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, ReadBuf};

use crate::agent::tools::bounded;

/// The longest message of a server, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Lines that are no messages and pass.
const STRAY_LINES_MAX: u32 = 20;
/// The longest part of such a line that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 120;

/// Why a server is not listened to any longer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    /// What is wrong, for people; `None` while nothing is.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, what: String) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, what.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
        error
    }
}

/// A server's standard output that ends where it breaks the rules.
#[derive(Debug)]
pub struct Messages<R> {
    inner: R,
    line: Vec<u8>,
    stray: u32,
    fault: Fault,
}

/// The one member that every message has.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "jsonrpc")]
    _version: IgnoredAny,
}

impl<R> Messages<R> {
    /// Listens to `inner`; what is wrong is told by `fault`.
    pub fn new(inner: R, fault: Fault) -> Messages<R> {
        Messages { inner, line: vec![], stray: 0, fault }
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MESSAGE_BYTES_MAX {
                return Err(self.fault.set(format!("it sent a message of more than {} MiB", MESSAGE_BYTES_MAX >> 20)));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.judge(line.trim_ascii())?;
            }
        }
        Ok(())
    }

    fn judge(&mut self, line: &[u8]) -> io::Result<()> {
        if line.is_empty() || serde_json::from_slice::<Message>(line).is_ok() {
            return Ok(());
        }
        self.stray += 1;
        let shown = bounded(&String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN_BYTES_MAX)]), SHOWN_BYTES_MAX);
        // A line that begins as a message was meant as one: nobody else answers.
        let is_meant = line.starts_with(b"{") || line.starts_with(b"[");
        match is_meant || self.stray > STRAY_LINES_MAX {
            true => Err(self.fault.set(format!("it wrote what is no message of the protocol: {shown}"))),
            false => Ok(()),
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Messages<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        Poll::Ready(self.hear(&buffer.filled()[before..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&[u8]]) -> Option<String> {
        let fault = Fault::default();
        let mut messages = Messages::new((), fault.clone());
        let all = pieces.iter().try_for_each(|piece| messages.hear(piece));
        assert_eq!(all.is_err(), fault.get().is_some());
        fault.get()
    }

    #[test]
    fn messages_and_a_greeting_pass_however_they_are_cut() {
        let message = br#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert_eq!(heard(&[b"server started\n\n", &message[..9], &message[9..], b"\r\n", message, b"\n"]), None);
        let long = [br#"{"jsonrpc":"2.0","x":""#.as_slice(), &vec![b'x'; 1 << 20], b"\"}\n"].concat();
        assert_eq!(heard(&[&long, &long]), None, "each has the bound for itself");
    }

    #[test]
    fn what_is_too_long_or_no_message_is_refused_at_once() {
        let said = |pieces: &[&[u8]]| heard(pieces).unwrap();
        let piece = vec![b'x'; 1 << 20];
        assert_eq!(said(&[piece.as_slice(); 9]), "it sent a message of more than 8 MiB");
        for garbage in [b"{\"jsonrpc\": \n".as_slice(), b"{\"hello\":1}\n", b"[]\n", b"{\n"] {
            let shown = String::from_utf8_lossy(garbage.trim_ascii()).into_owned();
            assert_eq!(said(&[garbage]), format!("it wrote what is no message of the protocol: {shown}"));
        }
        assert_eq!(heard(&[&b"noise\n".repeat(20)]), None);
        assert_eq!(said(&[&b"noise\n".repeat(21)]), "it wrote what is no message of the protocol: noise");
    }
}
