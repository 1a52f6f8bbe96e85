//! The way of an answer back to a program, while it arrives. What was cut off never looks whole: a program that knows chunks
//! misses the last one; to one that does not nothing is written before all of it is there, with its length.
//!
//! Source: RFC 9112, section 8 (incomplete messages): the end of the connection alone does not tell a whole answer from one
//! that broke off.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::egress::request::Unmeasured;
use crate::model::ANSWER_BYTES_MAX;

/// How long a program may take to read a piece of an answer.
const TAKING_MAX: Duration = Duration::from_secs(60);
/// Behind it an answer is whole.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// An answer on its way back. Dropped before [`Back::end`], it is none.
#[derive(Debug)]
pub struct Back<'a, W> {
    to: &'a mut W,
    content_type: String,
    /// What came, for a program that is told its length first.
    kept: Option<Vec<u8>>,
}

impl<'a, W: AsyncWrite + Unpin> Back<'a, W> {
    /// Begins an answer of this kind.
    ///
    /// # Errors
    /// As of [`give`].
    pub async fn begin(to: &'a mut W, content_type: &str, unmeasured: Unmeasured) -> io::Result<Back<'a, W>> {
        let plain = |byte: u8| (0x20..0x7f).contains(&byte);
        let content_type = if content_type.bytes().all(plain) { content_type } else { "application/octet-stream" };
        let kept = match unmeasured {
            Unmeasured::InChunks => None,
            Unmeasured::AtOnce => Some(Vec::new()),
        };
        let back = Back { to, content_type: content_type.to_owned(), kept };
        if back.kept.is_none() {
            let head = back.head("Transfer-Encoding: chunked");
            give(back.to, head.as_bytes()).await?;
        }
        Ok(back)
    }

    /// Passes a piece on.
    ///
    /// # Errors
    /// As of [`give`], and `FileTooLarge` for an answer that would have to be kept whole.
    pub async fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.kept {
            // An empty chunk would be the last one.
            _ if piece.is_empty() => Ok(()),
            Some(kept) if kept.len() + piece.len() > ANSWER_BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
            Some(kept) => {
                kept.extend_from_slice(piece);
                Ok(())
            }
            None => give(self.to, &[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()).await,
        }
    }

    /// Says that this was all of it.
    ///
    /// # Errors
    /// As of [`give`].
    pub async fn end(self) -> io::Result<()> {
        match &self.kept {
            None => give(self.to, LAST_CHUNK).await,
            Some(kept) => {
                let head = self.head(&format!("Content-Length: {}", kept.len()));
                give(self.to, &[head.as_bytes(), kept].concat()).await
            }
        }
    }

    fn head(&self, length: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{length}\r\n\r\n", self.content_type)
    }
}

/// Writes to a program. One that does not read must not stand in the way of others.
///
/// # Errors
/// The program's stream, and `TimedOut`.
pub async fn give(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let taken = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    timeout(TAKING_MAX, taken).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::request::parse_direct;

    /// What a program of this version of HTTP gets of an answer, whole or broken off.
    fn answered(version: &str, whole: bool) -> String {
        let head = format!("POST /v1/messages HTTP/{version}\r\nHost: x\r\n\r\n");
        let (asked, _) = parse_direct(head.as_bytes()).expect("a request").expect("all of it");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut got = Vec::new();
        runtime.block_on(async {
            let mut back = Back::begin(&mut got, "text/plain", asked.unmeasured).await.expect("a head");
            for piece in ["abc", "", "de"] {
                back.piece(piece.as_bytes()).await.expect("a piece");
            }
            if whole {
                back.end().await.expect("an end");
            }
        });
        String::from_utf8(got).expect("text")
    }

    #[test]
    fn an_answer_says_its_end_or_its_length() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
        let pieces = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n";
        assert_eq!(answered("1.1", true), format!("{head}{pieces}0\r\n\r\n"));
        assert_eq!(answered("1.1", false), format!("{head}{pieces}"));
        assert_eq!(answered("1.0", true), format!("{head}Content-Length: 5\r\n\r\nabcde"));
        assert_eq!(answered("1.0", false), "");
    }
}
