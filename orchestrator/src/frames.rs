//! Messages of a stream that is read without blocking, a line each.

use serde::de::DeserializeOwned;
use swarm_protocol::frame::decode;
use swarm_protocol::{FrameError, LineBuffer};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The next message; `None` at a clean end. Cancel-safe: what was read of it stays in `lines`.
///
/// # Errors
/// All of [`FrameError`]; the stream is of no use afterwards.
pub async fn next<M: DeserializeOwned>(
    input: &mut (impl AsyncBufRead + Unpin),
    lines: &mut LineBuffer,
) -> Result<Option<M>, FrameError> {
    loop {
        if let Some(line) = lines.line()? {
            return decode(line).map(Some);
        }
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return if lines.is_empty() { Ok(None) } else { Err(FrameError::Torn) };
        }
        lines.push(available);
        let taken = available.len();
        input.consume(taken);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    async fn messages(bytes: &[u8]) -> (Vec<u64>, Option<FrameError>) {
        let (mut input, mut lines) = (BufReader::with_capacity(3, bytes), LineBuffer::new(8));
        let mut all = vec![];
        loop {
            match next(&mut input, &mut lines).await {
                Ok(Some(message)) => all.push(message),
                Ok(None) => return (all, None),
                Err(error) => return (all, Some(error)),
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn messages_are_cut_at_line_feeds_only() {
        assert!(matches!(messages(b"1\n23\n45678901\n").await, (all, None) if all == [1, 23, 45_678_901]));
        assert!(matches!(messages(b"1\n2").await, (all, Some(FrameError::Torn)) if all == [1]));
        assert!(matches!(messages(b"1\n\n").await, (all, Some(FrameError::Malformed(_))) if all == [1]));
        assert!(matches!(messages(b"1\n234567890").await, (all, Some(FrameError::TooLong(_))) if all == [1]));
    }
}
