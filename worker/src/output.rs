//! Bounded capture of what a job prints: its head is passed on at once, of the rest only the newest bytes are kept for the
//! end. A job that prints a gigabyte costs this process as much memory as the bound's second half, and the coordinator
//! never sees more than the bound.

use std::collections::VecDeque;

use swarm_protocol::Stream;

/// The largest piece of output in one frame, in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// What a job printed, both streams together in the order in which they were read.
#[derive(Debug)]
pub struct Output {
    head_left: u64,
    tail_max: u64,
    tail: VecDeque<(Stream, Vec<u8>)>,
    // Invariant: the sum of the lengths in `tail`, at most `tail_max`.
    tail_bytes: u64,
    total: u64,
    dropped: u64,
}

impl Output {
    /// Passes on `bytes_max` bytes at most: half of them from the start, half from the end.
    pub fn new(bytes_max: u64) -> Self {
        let tail_max = bytes_max / 2;
        Output { head_left: bytes_max - tail_max, tail_max, tail: VecDeque::new(), tail_bytes: 0, total: 0, dropped: 0 }
    }

    /// Takes bytes that the job has printed and gives those that are to be passed on now.
    pub fn take<'a>(&mut self, stream: Stream, bytes: &'a [u8]) -> &'a [u8] {
        self.total += length(bytes);
        let now = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(now);
        self.head_left -= length(head);
        if !rest.is_empty() {
            self.keep(stream, rest);
        }
        head
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        self.tail_bytes += length(bytes);
        match self.tail.back_mut() {
            Some((last, kept)) if *last == stream && kept.len() + bytes.len() <= CHUNK_BYTES_MAX => {
                kept.extend_from_slice(bytes);
            }
            _ => self.tail.push_back((stream, bytes.to_vec())),
        }
        while self.tail_bytes > self.tail_max {
            let excess = self.tail_bytes - self.tail_max;
            let (_, oldest) = self.tail.front_mut().expect("bytes are kept in chunks");
            let cut = usize::try_from(excess).unwrap_or(usize::MAX).min(oldest.len());
            oldest.drain(..cut);
            if oldest.is_empty() {
                self.tail.pop_front();
            }
            self.tail_bytes -= cut as u64;
            self.dropped += cut as u64;
        }
    }

    /// Bytes that the job printed, and how many of them are not passed on.
    pub fn counts(&self) -> (u64, u64) {
        (self.total, self.dropped)
    }

    /// A line that stands where the middle was left out; `None` where nothing was.
    pub fn mark(&self) -> Option<String> {
        (self.dropped > 0).then(|| format!("\n[swarm: {} bytes left out here]\n", self.dropped))
    }

    /// The kept end, oldest first; to be passed on after the job.
    pub fn into_tail(self) -> impl Iterator<Item = (Stream, Vec<u8>)> {
        self.tail.into_iter()
    }
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(bytes_max: u64, pieces: &[&[u8]]) -> (Vec<u8>, u64, u64) {
        let mut output = Output::new(bytes_max);
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(output.take(Stream::Stdout, piece));
        }
        let (total, dropped) = output.counts();
        passed.extend(output.into_tail().flat_map(|(_, bytes)| bytes));
        (passed, total, dropped)
    }

    #[test]
    fn head_and_tail_are_kept_and_the_middle_is_counted() {
        assert_eq!(pass(4, &[b"abcdefgh"]), (b"abgh".to_vec(), 8, 4));
        assert_eq!(pass(8, &[b"abc", b"defgh"]), (b"abcdefgh".to_vec(), 8, 0));
        assert_eq!(pass(0, &[b"abc"]), (Vec::new(), 3, 3));
    }

    #[test]
    fn a_cut_is_marked() {
        let mut output = Output::new(4);
        output.take(Stream::Stdout, b"abcd");
        assert_eq!(output.mark(), None);
        output.take(Stream::Stdout, b"efgh");
        assert_eq!(output.mark().as_deref(), Some("\n[swarm: 4 bytes left out here]\n"));
    }

    #[test]
    fn streams_keep_their_order_in_the_tail() {
        let mut output = Output::new(10);
        output.take(Stream::Stdout, b"12345");
        output.take(Stream::Stderr, b"e");
        output.take(Stream::Stdout, b"o");
        let tail: Vec<_> = output.into_tail().collect();
        assert_eq!(tail, [(Stream::Stderr, b"e".to_vec()), (Stream::Stdout, b"o".to_vec())]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_bound(bytes_max in 0u64..64, pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let all = pieces.concat();
            let (passed, total, dropped) = pass(bytes_max, &pieces.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(total, all.len() as u64);
            prop_assert_eq!(passed.len() as u64 + dropped, total);
            prop_assert_eq!(passed.len() as u64, bytes_max.min(total));
            let head = passed.len().div_ceil(2).min(passed.len());
            prop_assert_eq!(&passed[..head], &all[..head]);
            prop_assert_eq!(&passed[head..], &all[all.len() - (passed.len() - head)..]);
        }
    }
}
