//! What a program prints: kept in a file up to a bound, its last bytes beyond that, and shown as head and tail. A thread reads
//! for as long as the program runs; who else holds on to its output is not waited for.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Output that is kept in a file, in bytes.
pub const SPILL_BYTES_MAX: u64 = 32 << 20;
/// Output that the model sees at once, in bytes.
pub const SHOWN_BYTES_MAX: u64 = 24 << 10;
/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes that are still read when a program has ended: what fits into a pipe.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// The output of one program.
#[derive(Debug)]
pub struct Spill {
    path: PathBuf,
    printed: Arc<Mutex<Printed>>,
    /// Its end tells the thread to take what is there and stop.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Printed {
    total: u64,
    /// The last bytes, at most as many as are shown.
    tail: Vec<u8>,
}

/// A part of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// For the model; ends with a line feed unless it is empty.
    pub text: String,
    /// Where the next part begins.
    pub end: u64,
}

impl Spill {
    /// Keeps an output in the file `path`; gives the end that a program writes to.
    ///
    /// # Errors
    /// Those of making a file, pipes and a thread.
    pub fn start(path: PathBuf) -> io::Result<(Spill, OwnedFd)> {
        let file = File::create(&path)?;
        let (output, program_end) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let printed = Arc::new(Mutex::new(Printed::default()));
        let keeper = Keeper { file, output: File::from(output), stopped, printed: printed.clone() };
        let thread = std::thread::Builder::new().name("output".to_owned()).spawn(move || keeper.keep())?;
        Ok((Spill { path, printed, stop: Some(stop), thread: Some(thread) }, program_end))
    }

    /// Takes what is there and reads no further: the program has ended.
    pub fn finish(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has kept what it could.
            let _ = thread.join();
        }
    }

    /// Output from `from` on: whole, or its head and its tail.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn show(&self, from: u64) -> io::Result<Shown> {
        let (total, tail) = {
            let printed = lock(&self.printed);
            (printed.total, printed.tail.clone())
        };
        let length = total.saturating_sub(from);
        if length <= SHOWN_BYTES_MAX && total <= SPILL_BYTES_MAX {
            return Ok(Shown { text: part(&self.path, from, length)?, end: total });
        }
        let half = SHOWN_BYTES_MAX / 2;
        let in_file = total.min(SPILL_BYTES_MAX).saturating_sub(from);
        let head = part(&self.path, from, half.min(in_file).min(length))?;
        let tail = &tail[tail.len().saturating_sub(half.min(length) as usize)..];
        let tail = ended(String::from_utf8_lossy(tail).into_owned());
        let left_out = length.saturating_sub(2 * half);
        let what = if total > SPILL_BYTES_MAX { "its beginning" } else { "all of it" };
        let text = format!("{head}[… {left_out} bytes left out; {what} is in {} …]\n{tail}", self.path.display());
        Ok(Shown { text, end: total })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.finish();
    }
}

fn lock(printed: &Mutex<Printed>) -> MutexGuard<'_, Printed> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn part(path: &Path, from: u64, length: u64) -> io::Result<String> {
    let mut bytes = vec![];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(ended(String::from_utf8_lossy(&bytes).into_owned()))
}

fn ended(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The thread's half.
struct Keeper {
    file: File,
    output: File,
    stopped: OwnedFd,
    printed: Arc<Mutex<Printed>>,
}

impl Keeper {
    fn keep(mut self) {
        loop {
            let mut wanted = [PollFd::new(&self.output, PollFlags::IN), PollFd::new(&self.stopped, PollFlags::IN)];
            match poll(&mut wanted, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            let stopped = !wanted[1].revents().is_empty();
            let most = if stopped { DRAIN_BYTES_MAX } else { PIECE_BYTES };
            if self.take(most).is_err() || stopped {
                return;
            }
        }
    }

    /// Takes what is there, up to a bound; an error is the end of the output.
    fn take(&mut self, most: usize) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut taken = 0;
        while taken < most {
            match self.output.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    taken += count;
                    self.add(&piece[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut printed = lock(&self.printed);
        let room = SPILL_BYTES_MAX.saturating_sub(printed.total).min(bytes.len() as u64) as usize;
        // A disk that is full loses the middle; the tail is kept all the same.
        let _ = self.file.write_all(&bytes[..room]);
        printed.total += bytes.len() as u64;
        printed.tail.extend_from_slice(bytes);
        let over = printed.tail.len().saturating_sub(SHOWN_BYTES_MAX as usize);
        printed.tail.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(pieces: &[&[u8]], from: u64) -> Shown {
        let folder = tempfile::tempdir().unwrap();
        let (mut spill, end) = Spill::start(folder.path().join("log")).unwrap();
        let mut end = File::from(end);
        pieces.iter().for_each(|piece| end.write_all(piece).unwrap());
        spill.finish();
        let mut shown = spill.show(from).unwrap();
        shown.text = shown.text.replace(&folder.path().display().to_string(), "");
        shown
    }

    #[test]
    fn short_output_is_shown_whole_and_from_where_it_was_left() {
        assert_eq!(printed(&[b"a\n", b"b"], 0), Shown { text: "a\nb\n".to_owned(), end: 3 });
        assert_eq!(printed(&[b"a\n", b"b"], 2), Shown { text: "b\n".to_owned(), end: 3 });
        assert_eq!(printed(&[], 0), Shown { text: String::new(), end: 0 });
    }

    #[test]
    fn long_output_keeps_its_ends() {
        let lines: String = (1..=10_000).map(|n| format!("{n:07}\n")).collect();
        let shown = printed(&[lines.as_bytes()], 0);
        assert!(shown.text.starts_with("0000001\n") && shown.text.ends_with("0010000\n"));
        assert!(shown.text.contains("[… 55424 bytes left out; all of it is in /log …]"), "{}", shown.text.len());
    }

    #[test]
    fn a_flood_is_bounded_on_disk_and_its_end_is_known() {
        let flood = vec![b'x'; SPILL_BYTES_MAX as usize + 5_000_000];
        let shown = printed(&[&flood, b"\nthe end\n"], 0);
        assert!(shown.text.ends_with("x\nthe end\n") && shown.text.contains("its beginning is in /log"));
        let rest = printed(&[&flood, b"\nthe end\n"], flood.len() as u64);
        assert!(rest.text.ends_with("\nthe end\n") && rest.text.len() < 200, "{}", rest.text);
    }
}
