//! What a server writes, held to messages: one JSON-RPC message a line, bounded. Lines that are none are kept from the library
//! (logs, greetings, an empty list) as long as they are few between two messages; a server that speaks nothing but nonsense, or
//! half a message, ends the conversation at once, where the library would wait for its whole time limit. The reason is kept for
//! people.
//!
//! Source: Model Context Protocol 2026-07-28, transports, stdio: "the server MUST NOT write anything to its stdout that is not
//! a valid MCP message".

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};

use crate::agent::tools::bounded;

/// The longest message of a server, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Lines that are no messages and pass, between two messages.
const STRAY_LINES_MAX: u32 = 20;
/// Lists and objects of a message within each other.
///
/// Source: `serde_json`, its limit of recursion.
const DEPTH_MAX: u32 = 127;
/// Bytes that are read at a time.
const READ_BYTES: usize = 8 << 10;
/// The longest part of such a line that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 120;

/// Why a server is not listened to any longer; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fault(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    fault: Option<String>,
    stray: Option<String>,
}

impl Fault {
    /// What is wrong, for people; `None` while nothing is.
    pub fn get(&self) -> Option<String> {
        self.heard().fault.clone()
    }

    /// The first line that is no message and passed; `None` while there is none.
    pub fn stray(&self) -> Option<String> {
        self.heard().stray.clone()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, what: String) -> io::Error {
        let error = io::Error::new(io::ErrorKind::InvalidData, what.clone());
        self.heard().fault.get_or_insert(what);
        error
    }
}

/// Of a server's standard output the messages; it ends where that breaks the rules.
#[derive(Debug)]
pub struct Messages<R> {
    inner: R,
    /// The beginning of a line.
    line: Vec<u8>,
    /// Whole messages, and how much of them was read already, in bytes.
    ready: (Vec<u8>, usize),
    /// Lines that are none, since the last message.
    stray: u32,
    fault: Fault,
}

/// The one member that every message has.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "jsonrpc")]
    version: Value,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

impl<R> Messages<R> {
    /// Listens to `inner`; what is wrong is told by `fault`.
    pub fn new(inner: R, fault: Fault) -> Messages<R> {
        Messages { inner, line: vec![], ready: (vec![], 0), stray: 0, fault }
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MESSAGE_BYTES_MAX {
                return Err(self.fault.set(format!("it sent a message of more than {} MiB", MESSAGE_BYTES_MAX >> 20)));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                // A mark of the bytes' order, which some write before anything, is no part of it.
                let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
                if self.judge(line.trim_ascii())? == Line::Message {
                    self.ready.0.extend_from_slice(line);
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self, line: &[u8]) -> io::Result<Line> {
        if line.is_empty() {
            return Ok(Line::Stray);
        }
        // A list with one member would be taken for one, too.
        if line.starts_with(b"{")
            && let Ok(message) = serde_json::from_slice::<Message>(line)
        {
            self.stray = 0;
            return unheard(&message, line).map_or(Ok(Line::Message), |what| Err(self.fault.set(what)));
        }
        self.stray += 1;
        let shown = bounded(&String::from_utf8_lossy(&line[..line.len().min(4 * SHOWN_BYTES_MAX)]), SHOWN_BYTES_MAX);
        // What begins as a message and is none, or holds several, was meant as an answer: nobody else gives it.
        let is_half = line.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(line).is_err();
        let is_batch = serde_json::from_slice::<Vec<Message>>(line).is_ok_and(|batch| !batch.is_empty());
        if is_half || is_batch || self.stray > STRAY_LINES_MAX {
            return Err(self.fault.set(format!("it wrote what is no message of the protocol: {shown}")));
        }
        self.fault.heard().stray.get_or_insert(shown);
        Ok(Line::Stray)
    }
}

/// Why the library would pass a message by without a word, and wait on.
fn unheard(message: &Message, line: &[u8]) -> Option<String> {
    if message.version != "2.0" {
        let version = bounded(&message.version.to_string(), SHOWN_BYTES_MAX);
        return Some(format!("it speaks version {version} of JSON-RPC, and not \"2.0\""));
    }
    if message.result.is_some() && message.error.is_some() {
        return Some("it answers with a result and an error at once".to_owned());
    }
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0u32, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = depth.max(deepest);
    }
    (deepest > DEPTH_MAX).then(|| format!("it sent a message of more than {DEPTH_MAX} levels within each other"))
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Message,
    Stray,
}

impl<R: AsyncRead + Unpin> AsyncRead for Messages<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready.1 == self.ready.0.len() {
            self.ready = (vec![], 0);
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.hear(read.filled())?;
        }
        let (messages, from) = &self.ready;
        let most = buffer.remaining().min(messages.len() - from);
        buffer.put_slice(&messages[*from..from + most]);
        self.ready.1 += most;
        Poll::Ready(Ok(()))
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
    fn what_stands_between_messages_is_kept_from_the_library_and_noted_once() {
        let message = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n".as_slice();
        let stray = [b"[]\n".as_slice(), b"\n", b" \r\n", b"[INFO] up\n", b"{\"level\":1}\n", b"7\n", b"null\n"];
        let between = [stray.concat(), message.to_vec()].concat().repeat(30);
        let fault = Fault::default();
        let mut messages = Messages::new(between.as_slice(), fault.clone());
        let mut heard = vec![];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tokio::io::AsyncReadExt::read_to_end(&mut messages, &mut heard)).unwrap();
        assert_eq!((heard, fault.get(), fault.stray().as_deref()), (message.repeat(30), None, Some("[]")));
    }

    #[test]
    fn what_the_library_would_not_hear_is_refused_at_once() {
        let said = |line: &str| heard(&[line.as_bytes(), b"\n"]);
        let wrapped = |inner: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{inner}}}"#);
        assert_eq!(said(&format!("\u{feff}{}", wrapped("{}"))), None);
        let nested = |depth: usize| wrapped(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(said(&nested(126)), None);
        assert_eq!(said(&wrapped(&format!("\"\\\"{}\"", "[".repeat(500)))), None, "a text is none");
        let deep = "it sent a message of more than 127 levels within each other";
        assert_eq!(said(&nested(127)).as_deref(), Some(deep));
        let both = r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}"#;
        assert_eq!(said(both).as_deref(), Some("it answers with a result and an error at once"));
        assert_eq!(said(&both.replace(r#""result":{}"#, r#""result":null"#)), None, "one of them is none");
        let old = r#"{"jsonrpc":"1.0","id":1,"result":{}}"#;
        assert_eq!(said(old).as_deref(), Some("it speaks version \"1.0\" of JSON-RPC, and not \"2.0\""));
    }

    #[test]
    fn what_is_too_long_or_no_message_is_refused_at_once() {
        let said = |pieces: &[&[u8]]| heard(pieces).unwrap();
        let piece = vec![b'x'; 1 << 20];
        assert_eq!(said(&[piece.as_slice(); 9]), "it sent a message of more than 8 MiB");
        for garbage in [b"{\"jsonrpc\": \n".as_slice(), b"{\"hello\":1\n", b"[{\"jsonrpc\":\"2.0\"}]\n", b"{\n"] {
            let shown = String::from_utf8_lossy(garbage.trim_ascii()).into_owned();
            assert_eq!(said(&[garbage]), format!("it wrote what is no message of the protocol: {shown}"));
        }
        assert_eq!(heard(&[&b"noise\n".repeat(20)]), None);
        assert_eq!(said(&[&b"noise\n".repeat(21)]), "it wrote what is no message of the protocol: noise");
    }
}
