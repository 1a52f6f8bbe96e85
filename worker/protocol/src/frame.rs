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
    #[error("a frame is too long: {0}")]
    TooLong(#[from] TooLong),
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
        return Err(TooLong(LINE_BYTES_MAX).into());
    }
    Ok(serde_json::from_slice(line)?)
}

/// A line is longer than whoever reads it takes: the most that it may have, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {0} bytes")]
pub struct TooLong(pub usize);

/// Bytes of a stream as they come, taken out line by line. Each byte is searched once, and what is bounded is a line: how many of
/// them come with one reading is the reader's matter.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the first line begins that was not taken.
    start: usize,
    /// Between `start` and here there is no line feed.
    searched: usize,
    line_bytes_max: usize,
}

impl LineBuffer {
    /// An empty one, for lines of at most so many bytes.
    pub fn new(line_bytes_max: usize) -> Self {
        LineBuffer { bytes: Vec::new(), start: 0, searched: 0, line_bytes_max }
    }

    /// Puts in what was read.
    pub fn push(&mut self, read: &[u8]) {
        self.room(read.len()).extend_from_slice(read);
    }

    /// Where the next bytes go: behind the end of it there is room for so many, and nothing before that is to be touched.
    pub fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        // Moves no more than the line that is open, and that only where others were taken before it.
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.reserve(bytes);
        &mut self.bytes
    }

    /// The next whole line without its line feed, which is taken.
    ///
    /// # Errors
    /// [`TooLong`], also for one that is not whole yet; the stream is of no use then.
    pub fn line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let Some(end) = self.end()? else { return Ok(None) };
        let start = std::mem::replace(&mut self.start, end + 1);
        self.searched = self.start;
        Ok(Some(&self.bytes[start..end]))
    }

    /// The next whole line with its line feed, which stays.
    ///
    /// # Errors
    /// As [`LineBuffer::line`].
    pub fn peek(&mut self) -> Result<Option<&[u8]>, TooLong> {
        Ok(self.end()?.map(|end| &self.bytes[self.start..=end]))
    }

    /// Whether nothing is left, not even a line that is not whole.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// What no line feed was looked for in yet.
    fn unsearched(&self) -> &[u8] {
        &self.bytes[self.searched..]
    }

    /// Where the next line ends.
    fn end(&mut self) -> Result<Option<usize>, TooLong> {
        let found = self.unsearched().iter().position(|&byte| byte == b'\n');
        self.searched = found.map_or(self.bytes.len(), |at| self.searched + at);
        if self.searched - self.start > self.line_bytes_max {
            return Err(TooLong(self.line_bytes_max));
        }
        Ok(found.map(|_| self.searched))
    }
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    lines: LineBuffer,
}

impl<R: BufRead> FrameReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        FrameReader { input, lines: LineBuffer::new(LINE_BYTES_MAX) }
    }

    /// The next message; `None` at a clean end.
    ///
    /// # Errors
    /// All of [`FrameError`]; the stream is of no use afterwards.
    pub fn read<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        loop {
            if let Some(line) = self.lines.line()? {
                return decode(line).map(Some);
            }
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return if self.lines.is_empty() { Ok(None) } else { Err(FrameError::Torn) };
            }
            self.lines.push(available);
            let taken = available.len();
            self.input.consume(taken);
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
        assert_eq!(read_all(&bytes), [Err(FrameError::from(TooLong(LINE_BYTES_MAX)).to_string())]);
    }

    #[test]
    fn the_bound_is_for_a_line_however_much_comes_with_it() {
        let mut lines = LineBuffer::new(4);
        lines.push(b"abcd\nefgh\n\nij");
        assert_eq!(lines.peek(), Ok(Some(&b"abcd\n"[..])));
        for line in [&b"abcd"[..], b"efgh", b""] {
            assert_eq!(lines.line(), Ok(Some(line)));
        }
        assert_eq!(lines.line(), Ok(None));
        assert!(!lines.is_empty());
        lines.push(b"kl");
        assert_eq!(lines.line(), Ok(None));
        lines.push(b"\n");
        assert_eq!(lines.line(), Ok(Some(&b"ijkl"[..])));
        assert!(lines.is_empty());
        lines.push(b"12345");
        assert_eq!(lines.line(), Err(TooLong(4)));
        assert_eq!(lines.peek(), Err(TooLong(4)));
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_searched_once() {
        let mut lines = LineBuffer::new(LINE_BYTES_MAX);
        for _ in 0..LINE_BYTES_MAX / 8 {
            lines.push(b"12345678");
            assert_eq!(lines.unsearched(), b"12345678");
            assert_eq!(lines.line(), Ok(None));
        }
        lines.push(b"\n");
        assert_eq!(lines.line().map(|line| line.map(<[u8]>::len)), Ok(Some(LINE_BYTES_MAX)));
    }
}
