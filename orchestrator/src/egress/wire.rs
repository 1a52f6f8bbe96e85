//! One side of a conversation: a stream with the bytes that were read and not yet used, and bodies that are passed on piece by
//! piece. What was read behind a message stays in the buffer and is parsed as the next one; nothing is ever passed on because
//! it happened to arrive.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::request::Framing;

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;
/// The longest line before a chunk, or among the fields behind the last one, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 4 << 10;
/// The most lines behind the last chunk.
const TRAILER_LINES_MAX: usize = 64;

/// A stream with what was read ahead.
#[derive(Debug)]
pub struct Wire<S> {
    /// The stream, for writing.
    pub stream: S,
    /// How long the next bytes of a message or a body that began may keep waiting.
    pub idle_max: Option<Duration>,
    /// What was read, from the first byte that may still be needed.
    read: Vec<u8>,
    /// So much of it is used up. Invariant: not beyond its end. What is used is dropped when more is read, once for many lines and
    /// chunks: to move the rest for each of them takes far longer than they do.
    used: usize,
}

/// A body in memory, and its part of the room for bodies.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Its bytes.
    pub bytes: Vec<u8>,
    room: Option<SemaphorePermit<'a>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Nothing is read yet.
    pub fn new(stream: S) -> Self {
        Wire { stream, idle_max: None, read: Vec::new(), used: 0 }
    }

    /// What was read and not used.
    pub fn ahead(&self) -> &[u8] {
        &self.read[self.used..]
    }

    /// The first bytes were used.
    pub fn used(&mut self, count: usize) {
        assert!(count <= self.ahead().len(), "BUG: {count} bytes were used, and fewer are there");
        self.used += count;
    }

    /// Reads once; the number of new bytes, 0 at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// The stream's.
    pub async fn read_on(&mut self) -> Result<usize> {
        self.read.drain(..std::mem::take(&mut self.used));
        self.read.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.read).await
    }

    /// Reads on within something that began.
    async fn go_on(&mut self) -> Result<usize> {
        match self.idle_max {
            Some(max) => timeout(max, self.read_on()).await?,
            None => self.read_on().await,
        }
    }

    /// Reads until `parse` finds a message at the start, and uses it up. `None` when the stream ends before its first byte.
    ///
    /// # Errors
    /// The stream's, its end within a message included; the parser's is the inner result.
    pub async fn message<T, E>(
        &mut self,
        parse: impl Fn(&[u8]) -> std::result::Result<Option<(T, usize)>, E>,
    ) -> Result<Option<std::result::Result<T, E>>> {
        loop {
            match parse(self.ahead()) {
                Ok(Some((message, length))) => {
                    self.used(length);
                    return Ok(Some(Ok(message)));
                }
                Ok(None) => {}
                Err(error) => return Ok(Some(Err(error))),
            }
            if self.go_on().await? == 0 {
                return if self.ahead().is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Takes one body whole, into a room that has a place for each byte of all bodies; `None` when it is longer than
    /// `bytes_max`.
    ///
    /// # Errors
    /// The stream's, `InvalidData` for a body that breaks its framing, and `OutOfMemory` when the room is full: whoever waited
    /// there with half a body would wait for others that do.
    pub async fn take_body<'a>(
        &mut self,
        framing: Framing,
        bytes_max: usize,
        room: &'a Semaphore,
    ) -> Result<Option<Taken<'a>>> {
        let mut body = Bounded { taken: Taken { bytes: Vec::new(), room: None }, left: bytes_max, room };
        let taken = match framing {
            Framing::Length(length) => self.pass_bytes(length, &mut body).await,
            Framing::Chunked => self.take_chunks(&mut body).await,
            Framing::UntilClose => Err(broken("a request that ends with its connection")),
        };
        match taken {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(None),
            taken => taken.map(|()| Some(body.taken)),
        }
    }

    async fn take_chunks(&mut self, to: &mut Bounded<'_>) -> Result<()> {
        loop {
            let line = self.line().await?;
            let size = chunk_size(&line).ok_or_else(|| broken("the length of a chunk"))?;
            if size == 0 {
                return self.trailer().await;
            }
            self.pass_bytes(size, to).await?;
            if !self.line().await?.is_empty() {
                return Err(broken("the end of a chunk"));
            }
        }
    }

    /// Passes one body on to `to`.
    ///
    /// # Errors
    /// Either stream's, and `InvalidData` for a body that breaks its framing.
    pub async fn pass_body(&mut self, framing: Framing, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        match framing {
            Framing::Length(length) => self.pass_bytes(length, to).await,
            Framing::Chunked => self.pass_chunks(to).await,
            Framing::UntilClose => loop {
                to.write_all(self.ahead()).await?;
                self.used(self.ahead().len());
                if self.read_on().await? == 0 {
                    return Ok(());
                }
            },
        }
    }

    async fn pass_bytes(&mut self, mut left: u64, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        while left > 0 {
            if self.ahead().is_empty() && self.go_on().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead().len());
            to.write_all(&self.ahead()[..now]).await?;
            self.used(now);
            left -= now as u64;
        }
        Ok(())
    }

    /// Chunks are written anew, without extensions and without fields behind the last one.
    async fn pass_chunks(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        loop {
            let line = self.line().await?;
            let size = chunk_size(&line).ok_or_else(|| broken("the length of a chunk"))?;
            to.write_all(format!("{size:x}\r\n").as_bytes()).await?;
            if size == 0 {
                break;
            }
            self.pass_bytes(size, to).await?;
            if !self.line().await?.is_empty() {
                return Err(broken("the end of a chunk"));
            }
            to.write_all(b"\r\n").await?;
        }
        self.trailer().await?;
        to.write_all(b"\r\n").await
    }

    /// Passes over the fields behind the last chunk.
    async fn trailer(&mut self) -> Result<()> {
        for _ in 0..TRAILER_LINES_MAX {
            match &self.line().await?[..] {
                [] => return Ok(()),
                line if is_field(line) => {}
                _ => return Err(broken("a field behind the last chunk")),
            }
        }
        Err(broken("the fields behind the last chunk"))
    }

    /// A line without its CR LF.
    async fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.ahead().iter().position(|byte| *byte == b'\n') {
                let line = self.ahead()[..=end].to_vec();
                self.used(line.len());
                return match line.strip_suffix(b"\r\n") {
                    Some(text) if !text.contains(&b'\r') => Ok(text.to_vec()),
                    _ => Err(broken("the end of a line")),
                };
            }
            if self.ahead().len() > CHUNK_LINE_BYTES_MAX {
                return Err(broken("a line that does not end"));
            }
            if self.go_on().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The stream and what was read ahead of it.
    pub fn into_parts(mut self) -> (S, Vec<u8>) {
        self.read.drain(..self.used);
        (self.stream, self.read)
    }
}

/// Bytes in memory, not more than were allowed.
#[derive(Debug)]
struct Bounded<'a> {
    taken: Taken<'a>,
    left: usize,
    room: &'a Semaphore,
}

impl AsyncWrite for Bounded<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Poll::Ready(Err(ErrorKind::FileTooLarge.into()));
        };
        let places = u32::try_from(bytes.len()).ok().and_then(|count| self.room.try_acquire_many(count).ok());
        let Some(places) = places else { return Poll::Ready(Err(ErrorKind::OutOfMemory.into())) };
        match &mut self.taken.room {
            Some(room) => room.merge(places),
            None => self.taken.room = Some(places),
        }
        self.left = left;
        self.taken.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A chunk's length: hexadecimal digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let plain = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u64::from_str_radix(text, 16).ok()
}

/// Whether a line is a field: a name, a colon right behind it, and a value. Source: RFC 9112, section 5.
fn is_field(line: &[u8]) -> bool {
    let of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let of_a_value = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = line.split_at(colon);
    !name.is_empty() && name.iter().all(of_a_name) && value.iter().all(of_a_value)
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a body on; gives what arrived and what was left in the buffer.
    async fn passed(bytes: &[u8], framing: Framing) -> Result<(String, String)> {
        let (near, far) = tokio::io::duplex(7);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let mut far = far;
            drop(far.write_all(&bytes).await);
        });
        let (mut wire, mut out) = (Wire::new(near), Vec::new());
        let result = wire.pass_body(framing, &mut out).await;
        writer.abort();
        result?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Ok((text(&out), text(wire.ahead())))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_ends_where_its_framing_says() {
        let both = |body: &str, rest: &str| (body.to_owned(), rest.to_owned());
        assert_eq!(passed(b"abcNEXT", Framing::Length(3)).await.expect("whole"), both("abc", "NEXT"));
        assert_eq!(passed(b"abcdefghijk", Framing::UntilClose).await.expect("whole"), both("abcdefghijk", ""));
        let chunks = b"3;x=y\r\nabc\r\nA \r\n0123456789\r\n0\r\nX-Evil: 1\r\n\r\n";
        let anew = "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(passed(chunks, Framing::Chunked).await.expect("whole").0, anew);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_is_not_moved_for_each_chunk() {
        let chunk = b"1\r\nx\r\n";
        let (near, mut far) = tokio::io::duplex(READ_BYTES);
        far.write_all(&chunk.repeat(1000)).await.expect("room");
        let mut wire = Wire::new(near);
        let read = wire.read_on().await.expect("it is there");
        let end = wire.ahead().as_ptr_range().end;
        for _ in 0..read / chunk.len() {
            let size = chunk_size(&wire.line().await.expect("a line")).expect("a length");
            wire.pass_bytes(size, &mut tokio::io::sink()).await.expect("a chunk");
            assert!(wire.line().await.expect("a line").is_empty());
            assert_eq!(wire.ahead().as_ptr_range().end, end, "its last byte lies where it was read to");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_is_taken_whole_or_not_at_all() {
        async fn taken(bytes: &'static [u8], framing: Framing) -> Result<Option<Vec<u8>>> {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(bytes).await?;
            drop(far);
            let room = Semaphore::new(64);
            Ok(Wire::new(near).take_body(framing, 5, &room).await?.map(|taken| taken.bytes))
        }
        assert_eq!(taken(b"abcde", Framing::Length(5)).await.expect("whole").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(taken(b"abcdef", Framing::Length(6)).await.expect("too long"), None);
        let chunks = b"2\r\nab\r\n3\r\ncde\r\n0\r\nX: 1\r\n\r\n";
        assert_eq!(taken(chunks, Framing::Chunked).await.expect("whole").as_deref(), Some(&b"abcde"[..]));
        assert_eq!(taken(b"6\r\nabcdef\r\n0\r\n\r\n", Framing::Chunked).await.expect("too long"), None);
        assert!(taken(b"2\r\nab", Framing::Chunked).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_broken_body_is_not_guessed_at() {
        for body in [
            "3\nabc\r\n0\r\n\r\n",
            "-1\r\n",
            "0x3\r\nabc\r\n",
            "\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "ffffffffffffffff1\r\n",
            "3\r\nab",
        ] {
            assert!(passed(body.as_bytes(), Framing::Chunked).await.is_err(), "{body:?}");
        }
        assert!(passed(b"ab", Framing::Length(3)).await.is_err());
        assert!(passed(&vec![b'1'; CHUNK_LINE_BYTES_MAX + 100], Framing::Chunked).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_body_without_room_is_refused_and_gives_back_what_it_had() {
        let room = Semaphore::new(5);
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"abcde").await.expect("room");
        let first = Wire::new(near).take_body(Framing::Length(5), 10, &room).await.expect("whole").expect("short");
        assert_eq!(room.available_permits(), 0);
        for kind in [Some(ErrorKind::OutOfMemory), None] {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(b"1").await.expect("room");
            let came = Wire::new(near).take_body(Framing::Length(1), 10, &room).await;
            assert_eq!(came.err().map(|error| error.kind()), kind);
            room.add_permits(1);
        }
        drop(first);
        assert_eq!(room.available_permits(), 7);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_began_and_does_not_go_on_ends() {
        let room = Semaphore::new(64);
        for (bytes, framing) in [("abc", Framing::Length(9)), ("9\r\nabc", Framing::Chunked), ("9", Framing::Chunked)] {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(bytes.as_bytes()).await.expect("room");
            let mut wire = Wire::new(near);
            wire.idle_max = Some(Duration::from_millis(1));
            let error = wire.take_body(framing, 10, &room).await.expect_err("half of it");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        assert_eq!(room.available_permits(), 64);
    }

    /// What must be answered with 400, or may be and is. Source: RFC 9112, sections 2.2, 3, 3.2, 5.1, 5.2, 6.1, 6.3 and 7.1.
    const MUST_REJECT: &[(&str, &str)] = &[
        ("no host", "POST / HTTP/1.1\r\n\r\n"),
        ("two hosts", "POST / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
        ("two hosts of an old program", "POST / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n"),
        ("no host's name", "POST / HTTP/1.1\r\nHost: x y\r\n\r\n"),
        ("a user in front of the host", "POST / HTTP/1.1\r\nHost: me@x\r\n\r\n"),
        ("a space before the colon", "POST / HTTP/1.1\r\nHost : x\r\n\r\n"),
        ("a space before the first field", "POST / HTTP/1.1\r\n Host: x\r\n\r\n"),
        ("a folded field", "POST / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        ("a field without a colon", "POST / HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n"),
        ("a field without a name", "POST / HTTP/1.1\r\nHost: x\r\n: abc\r\n\r\n"),
        ("a CR alone", "POST / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n"),
        ("an LF alone", "POST / HTTP/1.1\nHost: x\n\n"),
        ("a null", "POST / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n"),
        ("no such version", "POST / HTTP/2.0\r\nHost: x\r\n\r\n"),
        ("spaces in the target", "POST /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\na"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"),
        ("no length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\na"),
        ("an endless length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na"),
        (
            "length and chunks",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("another coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("chunks within", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"),
        ("chunks of an old program", "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];

    /// Bodies in chunks that break their framing.
    const BROKEN_CHUNKS: &[&str] = &[
        "x\r\n\r\n",
        "-0\r\n\r\n",
        " 0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\na\n0\n\n",
        "fffffffffffffffff\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nA: b\0\r\n\r\n",
        "0\r\nA: b\rC: d\r\n\r\n",
    ];

    /// The status of the answer to a request as it comes; `None` where it is understood.
    async fn refused(bytes: &str) -> Option<u16> {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(bytes.as_bytes()).await.expect("room");
        drop(far);
        let (mut wire, room) = (Wire::new(near), Semaphore::new(1024));
        let direct = match wire.message(crate::egress::request::parse_direct).await.expect("a head").expect("one") {
            Ok(direct) => direct,
            Err(error) => return Some(error.status()),
        };
        match wire.take_body(direct.body, 1024, &room).await {
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::InvalidData => Some(400),
            Err(error) => panic!("{bytes:?}: {error}"),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_request_with_two_readings_is_refused() {
        for (what, bytes) in MUST_REJECT {
            assert_eq!(refused(bytes).await, Some(400), "{what}");
        }
        let head = "POST / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in BROKEN_CHUNKS {
            assert_eq!(refused(&format!("{head}{body}")).await, Some(400), "{body:?}");
        }
        let whole = "1;a=b\r\na\r\n0\r\nA: b\tc\r\nX-Y:\r\n\r\n";
        assert_eq!(refused(&format!("{head}{whole}")).await, None);
        assert_eq!(refused("POST / HTTP/1.1\r\nHost:\r\nContent-Length: 1\r\n\r\na").await, None);
        assert_eq!(refused("POST / HTTP/1.0\r\n\r\n").await, None);
    }
}
