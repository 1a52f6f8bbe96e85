//! One side of a conversation: a stream with the bytes that were read and not yet used, and bodies that are passed on piece by
//! piece. What was read behind a message stays in the buffer and is parsed as the next one; nothing is ever passed on because
//! it happened to arrive.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

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
    ahead: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Nothing is read yet.
    pub fn new(stream: S) -> Self {
        Wire { stream, ahead: Vec::new() }
    }

    /// What was read and not used.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Drops the first bytes: they were used.
    pub fn used(&mut self, count: usize) {
        self.ahead.drain(..count);
    }

    /// Reads once; the number of new bytes, 0 at the end of the stream. Cancel-safe.
    ///
    /// # Errors
    /// The stream's.
    pub async fn read_on(&mut self) -> Result<usize> {
        self.ahead.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.ahead).await
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
            match parse(&self.ahead) {
                Ok(Some((message, length))) => {
                    self.used(length);
                    return Ok(Some(Ok(message)));
                }
                Ok(None) => {}
                Err(error) => return Ok(Some(Err(error))),
            }
            if self.read_on().await? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Takes one body whole; `None` when it is longer than `bytes_max`.
    ///
    /// # Errors
    /// The stream's, and `InvalidData` for a body that breaks its framing.
    pub async fn take_body(&mut self, framing: Framing, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let mut body = Bounded { bytes: Vec::new(), left: bytes_max };
        let taken = match framing {
            Framing::Length(length) => self.pass_bytes(length, &mut body).await,
            Framing::Chunked => self.take_chunks(&mut body).await,
            Framing::UntilClose => Err(broken("a request that ends with its connection")),
        };
        match taken {
            Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(None),
            taken => taken.map(|()| Some(body.bytes)),
        }
    }

    async fn take_chunks(&mut self, to: &mut Bounded) -> Result<()> {
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
                to.write_all(&self.ahead).await?;
                self.ahead.clear();
                if self.read_on().await? == 0 {
                    return Ok(());
                }
            },
        }
    }

    async fn pass_bytes(&mut self, mut left: u64, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        while left > 0 {
            if self.ahead.is_empty() && self.read_on().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead.len());
            to.write_all(&self.ahead[..now]).await?;
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
            if self.line().await?.is_empty() {
                return Ok(());
            }
        }
        Err(broken("the fields behind the last chunk"))
    }

    /// A line without its CR LF.
    async fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                return match line.strip_suffix(b"\r\n") {
                    Some(text) if !text.contains(&b'\r') => Ok(text.to_vec()),
                    _ => Err(broken("the end of a line")),
                };
            }
            if self.ahead.len() > CHUNK_LINE_BYTES_MAX {
                return Err(broken("a line that does not end"));
            }
            if self.read_on().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The stream and what was read ahead of it.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead)
    }
}

/// Bytes in memory, not more than were allowed.
#[derive(Debug)]
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Poll::Ready(Err(ErrorKind::FileTooLarge.into()));
        };
        self.left = left;
        self.bytes.extend_from_slice(bytes);
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
    async fn a_body_is_taken_whole_or_not_at_all() {
        async fn taken(bytes: &'static [u8], framing: Framing) -> Result<Option<Vec<u8>>> {
            let (near, mut far) = tokio::io::duplex(64);
            far.write_all(bytes).await?;
            drop(far);
            Wire::new(near).take_body(framing, 5).await
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
}
