//! One message a line. Lines are bounded, so a hostile peer cannot make the reader grow; decoding never panics.

use std::io::BufRead;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line that is read, in bytes. A `start` with thousands of grants is far below; output is cut into chunks of
/// at most 64 KiB before it is encoded (six times that when every byte needs escaping).
pub const LINE_BYTES_MAX: usize = 8 << 20;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The pipe failed: the peer is gone.
    #[error("reading a frame: {0}")]
    Io(#[from] std::io::Error),
    /// A line longer than [`LINE_BYTES_MAX`]: the peer is not a worker of ours.
    #[error("a frame is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a message of this protocol.
    #[error("a frame is not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The stream ended in the middle of a line.
    #[error("the stream ended in the middle of a frame")]
    Torn,
}

/// Renders one message as a line, with its line feed.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys and finite numbers only");
    line.push(b'\n');
    line
}

/// Decodes one line (without its line feed).
///
/// # Errors
/// [`FrameError::TooLong`] and [`FrameError::Malformed`]; the caller ends the conversation.
pub fn decode<M: DeserializeOwned>(line: &[u8]) -> Result<M, FrameError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(serde_json::from_slice(line)?)
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> FrameReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        FrameReader { input, line: Vec::new() }
    }

    /// The next message; `None` at a clean end.
    ///
    /// # Errors
    /// All of [`FrameError`]; the stream is of no use afterwards.
    pub fn read<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        self.line.clear();
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return if self.line.is_empty() { Ok(None) } else { Err(FrameError::Torn) };
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(available.len());
            if self.line.len() + taken > LINE_BYTES_MAX {
                return Err(FrameError::TooLong);
            }
            self.line.extend_from_slice(&available[..taken]);
            self.input.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return decode(&self.line).map(Some);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chunk, FromWorker, Stream, ToWorker};
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Vec<Result<FromWorker, String>> {
        let mut reader = FrameReader::new(bytes);
        let mut all = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(message)) => all.push(Ok(message)),
                Ok(None) => return all,
                Err(error) => {
                    all.push(Err(error.to_string()));
                    return all;
                }
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let frames = [
            FromWorker::Hello { version: 1 },
            FromWorker::Output { stream: Stream::Stderr, chunk: Chunk::new(b"a\nb\xff") },
            FromWorker::Heartbeat,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(encode).collect();
        assert_eq!(read_all(&bytes), frames.map(Ok));
    }

    /// Frames as a worker sends them, and lines that look like frames.
    fn any_line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(encode(&FromWorker::Heartbeat)),
            any::<u32>().prop_map(|version| encode(&FromWorker::Hello { version })),
            prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| {
                encode(&FromWorker::Output { stream: Stream::Stdout, chunk: Chunk::new(&bytes) })
            }),
            "\\{\"type\":\"(hello|entered|output|finished|start|cancel)\",[ -~]{0,60}\n".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn a_stream_is_read_alike_however_it_is_cut(lines in prop::collection::vec(any_line(), 0..6), room in 1..40_usize) {
            let bytes = lines.concat();
            let mut reader = FrameReader::new(std::io::BufReader::with_capacity(room, &*bytes));
            for expected in read_all(&bytes) {
                let read = reader.read::<FromWorker>().map_err(|error| error.to_string());
                prop_assert_eq!(read, expected.map(Some));
            }
        }

        #[test]
        fn a_changed_frame_is_a_frame_or_an_error(line in any_line(), at in 0..400_usize, byte: u8) {
            let mut line = line;
            let length = line.len().max(1);
            if let Some(changed) = line.get_mut(at % length) {
                *changed = byte;
            }
            for message in read_all(&line).into_iter().flatten() {
                let again = read_all(&encode(&message));
                prop_assert_eq!(again, [Ok(message)]);
            }
            let _ = decode::<ToWorker>(&line);
        }

        #[test]
        fn bytes_of_any_kind_survive_a_chunk(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let line = encode(&Chunk::new(&bytes));
            let chunk: Chunk = decode(&line).expect("our own");
            prop_assert_eq!(chunk.into_bytes(), Some(bytes));
        }
    }

    #[test]
    fn bytes_survive_a_chunk() {
        for bytes in [&b""[..], b"text", b"\x00\xff\xfe", "ü".as_bytes(), b"\xc3"] {
            assert_eq!(Chunk::new(bytes).into_bytes().as_deref(), Some(bytes));
        }
    }

    #[test]
    fn a_torn_line_is_an_error() {
        assert_eq!(
            read_all(b"{\"type\":\"heartbeat\"}"),
            [Err("the stream ended in the middle of a frame".to_owned())]
        );
    }

    #[test]
    fn an_endless_line_is_refused_before_it_fills_memory() {
        let bytes = vec![b'x'; LINE_BYTES_MAX + 2];
        assert_eq!(read_all(&bytes), [Err(FrameError::TooLong.to_string())]);
    }
}
