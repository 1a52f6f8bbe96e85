//! What workers printed: one file an attempt, `<state>/runs/<run>/<instance>/<attempt>/log`, raw bytes, bounded.
//!
//! A log has sections, one for the work and one for each check, each under a line that names it. The worker already cuts
//! what a job prints in the middle; the bound here is the second lock on that door, and holds per section so that a
//! talkative task never takes away the words of the check that failed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use swarm_plans::InstanceId;

use crate::ids::{Attempt, RunId};
use crate::state::StateDir;

/// Bytes of one section when nothing else is asked for: what the worker passes on (16 MiB) and room for its marker.
pub const SECTION_BYTES_MAX: u64 = (16 << 20) + 4096;

/// Bytes that [`tail`] reads at most, from the end.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// The folder of one attempt.
pub fn attempt_dir(state: &Path, run: &RunId, instance: &InstanceId, attempt: Attempt) -> PathBuf {
    state.join(StateDir::attempt(run, instance, attempt))
}

/// The log of one attempt. Missing when it printed nothing.
pub fn log_path(state: &Path, run: &RunId, instance: &InstanceId, attempt: Attempt) -> PathBuf {
    attempt_dir(state, run, instance, attempt).join("log")
}

/// Writes one attempt's log. The file appears with the first byte: thousands of silent tasks make no files. What cannot be written
/// is told once, by [`LogWriter::finish`]: the log is incomplete then, and the attempt goes on meanwhile.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    file: Option<File>,
    section: Option<String>,
    section_bytes: u64,
    section_bytes_max: u64,
    dropped_bytes: u64,
    ended_line: LineEnd,
    failed: Option<std::io::Error>,
}

/// Whether the log's last byte is a line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Complete,
    Open,
}

impl LogWriter {
    /// Will write to `path`, at most `section_bytes_max` bytes a section.
    pub fn new(path: PathBuf, section_bytes_max: u64) -> Self {
        LogWriter {
            path,
            file: None,
            section: None,
            section_bytes: 0,
            section_bytes_max,
            dropped_bytes: 0,
            ended_line: LineEnd::Complete,
            failed: None,
        }
    }

    /// Begins the next section. Its heading is written only when the section prints something.
    pub fn section(&mut self, heading: &str) {
        self.finish_section();
        self.section = Some(heading.to_owned());
    }

    /// Appends what the job printed, as it is.
    pub fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Some(heading) = self.section.take() {
            let heading: String = heading.chars().filter(|c| !c.is_control()).collect();
            self.put(format!("── {heading} ──\n").as_bytes());
        }
        let room = usize::try_from(self.section_bytes_max - self.section_bytes).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        self.section_bytes += kept.len() as u64;
        self.dropped_bytes += dropped.len() as u64;
        self.put(kept);
    }

    /// Ends the log; says how much the bound cost.
    ///
    /// # Errors
    /// The disk's word, the first one, whichever piece could not be written.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.finish_section();
        self.failed.map_or(Ok(()), Err)
    }

    /// The same for a command that has no attempt to say it of: what its log lacks changes nothing of how it ended, and stands among our
    /// own warnings.
    pub fn finish_of_command(self) {
        let path = self.path.clone();
        if let Err(error) = self.finish() {
            tracing::warn!(log = %path.display(), %error, "the log of a command is incomplete");
        }
    }

    fn finish_section(&mut self) {
        if self.ended_line == LineEnd::Open {
            self.put(b"\n");
        }
        if self.dropped_bytes > 0 {
            let text =
                format!("── {} bytes left out: the limit is {} ──\n", self.dropped_bytes, self.section_bytes_max);
            self.put(text.as_bytes());
        }
        self.section_bytes = 0;
        self.dropped_bytes = 0;
    }

    fn put(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        match self.append(bytes) {
            Ok(()) => self.ended_line = if *last == b'\n' { LineEnd::Complete } else { LineEnd::Open },
            // What follows is tried all the same: the words of a check are worth more than a log without a gap.
            Err(error) => drop(self.failed.get_or_insert(error)),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            self.file = Some(File::options().append(true).create(true).open(&self.path)?);
        }
        self.file.as_mut().expect("opened above").write_all(bytes)
    }
}

/// The last `lines_max` lines of a log, without their line feeds; empty when there is no log. Reads no more than 64 KiB.
///
/// # Errors
/// The disk's word, other than that the log is missing.
pub fn tail(path: &Path, lines_max: usize) -> std::io::Result<Vec<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines: Vec<Vec<u8>> = bytes.rsplit(|&byte| byte == b'\n').take(lines_max).map(<[u8]>::to_vec).collect();
    lines.reverse();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bound: u64, write: impl FnOnce(&mut LogWriter)) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/1/log");
        let mut log = LogWriter::new(path.clone(), bound);
        write(&mut log);
        log.finish().expect("a writable folder");
        (folder, path)
    }

    #[test]
    fn a_silent_attempt_leaves_no_file() {
        let (_folder, path) = written(100, |log| log.section("work"));
        assert!(!path.exists());
        assert_eq!(tail(&path, 5).expect("no log is no error"), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn the_bound_holds_per_section_and_says_what_it_cost() {
        let (_folder, path) = written(10, |log| {
            log.section("work");
            log.write(&[b'x'; 25]);
            log.section("check 1/1: test");
            log.write(b"red\n");
        });
        assert_eq!(
            std::fs::read_to_string(path).expect("text"),
            "── work ──\nxxxxxxxxxx\n── 15 bytes left out: the limit is 10 ──\n── check 1/1: test ──\nred\n"
        );
    }

    #[test]
    fn a_piece_that_could_not_be_written_is_told_at_the_end_whatever_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/1/log");
        // A file where its folder has to be.
        std::fs::write(folder.path().join("a"), "").expect("space");
        let mut log = LogWriter::new(path.clone(), 100);
        log.write(b"lost\n");
        std::fs::remove_file(folder.path().join("a")).expect("ours");
        log.write(b"kept\n");
        let error = log.finish().expect_err("half of it is missing");
        assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
        assert_eq!(std::fs::read_to_string(path).expect("text"), "kept\n");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        let (_folder, path) = written(u64::MAX, |log| log.write(text.as_bytes()));
        assert_eq!(tail(&path, 2).expect("a log"), [b"line 49998".to_vec(), b"line 49999".to_vec()]);
    }
}
