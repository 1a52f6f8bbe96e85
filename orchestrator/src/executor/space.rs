//! Whether the disk below a command ran full while it ran, so that what it failed with says nothing about the work.
//!
//! The kernel tells of a full disk only who met it, and what meets it often removes what it had half written, as compilers do: when
//! it has ended, there is space again. So the disk is looked at while a command runs, the more often the less there is, and the
//! least of it is kept. Between two looks a disk can be filled and emptied all the same; then what the command printed is the other
//! witness. It may print what it likes, so its word counts only where the disk was [scarce](SCARCE_BYTES) anyhow, and buys nothing
//! that filling the disk would not. Who fails there without a word keeps its failure, with a note beside it.

use std::pin::pin;
use std::time::Duration;

use bytesize::ByteSize;
use swarm_protocol::Ended;

use crate::report::words;
use crate::state::{Left, StateDir};

/// Bytes that a second takes from a disk at most; a guess, above what disks of today write.
const BYTES_A_SECOND_MAX: u64 = 4 << 30;
/// Inodes that a second takes at most.
const INODES_A_SECOND_MAX: u64 = 1 << 20;
/// Looks are not nearer to each other, however little there is: that is how long what is [scarce](SCARCE_BYTES) lasts, and where it is,
/// what the command printed is a witness, too. Each look wakes two threads, for each command that runs.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(32);
/// Nor farther apart: others write there, too.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// With fewer free bytes a disk may have been full between two looks.
const SCARCE_BYTES: u64 = 128 << 20;
/// The same for inodes.
const SCARCE_INODES: u64 = 4096;

/// What strerror(3) says of `ENOSPC`, and Go, Node and Rust with it, without its first letter, which some write small.
const PHRASE: &[u8] = b"o space left on device";

/// How much space a command had.
#[derive(Debug)]
pub struct Space<'s> {
    state: &'s StateDir,
    now: Option<Left>,
    least: Option<Left>,
}

/// What its space says of a command's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Enough,
    /// It may have met a full disk; a note for people.
    Scarce(String),
    /// It failed, and for want of space or of its folder; what it lacked, for people.
    Lacked(String),
}

impl<'s> Space<'s> {
    /// Of the disk on which `state` lies, with all worktrees and logs.
    pub async fn of(state: &'s StateDir) -> Self {
        let now = seen(Duration::ZERO, state).await;
        Space { state, now, least: now }
    }

    /// Waits for what runs, and looks at the disk meanwhile.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                now = seen(next_look(self.now), self.state) => self.saw(now),
            }
        }
    }

    /// What it says of a command that ended so; `told` is whether the command spoke of it.
    pub async fn verdict(mut self, ended: &Ended, told: bool) -> Verdict {
        let failed = match ended {
            Ended::Exited { code } => *code != 0,
            Ended::Signaled { .. } => true,
            _ => false,
        };
        if !failed {
            return Verdict::Enough;
        }
        let state = self.state.clone();
        if let Some(Some(lacking)) = beside(Duration::ZERO, move || state.lacks()).await {
            return Verdict::Lacked(lacking.to_owned());
        }
        let now = seen(Duration::ZERO, self.state).await;
        self.saw(now);
        self.least.map_or(Verdict::Enough, |least| judged(least, told))
    }

    fn saw(&mut self, now: Option<Left>) {
        self.now = now;
        self.least = match (self.least, now) {
            (Some(least), Some(now)) => Some(least.least(now)),
            (known, now) => known.or(now),
        };
    }
}

/// What is left after a while.
async fn seen(wait: Duration, state: &StateDir) -> Option<Left> {
    let state = state.clone();
    beside(wait, move || state.left()).await.flatten()
}

/// Looks at the disk after a while, and not on the thread that decides for all: a mount may hang. `None` where nobody could look.
async fn beside<T: Send + 'static>(wait: Duration, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    tokio::task::spawn_blocking(look).await.ok()
}

/// Finds what a command says of a full disk, wherever its output is cut.
#[derive(Debug, Default)]
pub struct Told {
    found: bool,
    // Invariant: shorter than `PHRASE`.
    open: Vec<u8>,
}

impl Told {
    /// Hears what it prints.
    pub fn hear(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        self.open.extend_from_slice(bytes);
        self.found = self.open.windows(PHRASE.len()).any(|window| window == PHRASE);
        self.open.drain(..self.open.len().saturating_sub(PHRASE.len() - 1));
    }

    /// Whether it spoke of one.
    pub fn is_found(&self) -> bool {
        self.found
    }
}

/// How long what is left lasts, whoever takes it.
fn next_look(left: Option<Left>) -> Duration {
    let lasts = |count: u64, a_second: u64| Duration::from_millis(count.saturating_mul(1000) / a_second);
    let lasts = left.map_or(LOOK_EVERY_MAX, |left| {
        let inodes = left.inodes.map_or(LOOK_EVERY_MAX, |inodes| lasts(inodes, INODES_A_SECOND_MAX));
        lasts(left.bytes, BYTES_A_SECOND_MAX).min(inodes)
    });
    lasts.clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
}

fn judged(least: Left, told: bool) -> Verdict {
    if let Some(lacking) = least.lack() {
        return Verdict::Lacked(lacking.to_owned());
    }
    let had = match least.inodes {
        _ if least.bytes < SCARCE_BYTES => format!("{} free", ByteSize(least.bytes)),
        Some(inodes) if inodes < SCARCE_INODES => words::count(inodes, "free inode"),
        _ => return Verdict::Enough,
    };
    match told {
        true => Verdict::Lacked(format!("it found no space left, on a disk that had {had} at another moment,")),
        false => Verdict::Scarce(format!(
            "its disk had only {had} at some moment while it ran, and may have been full at another"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Left = Left { bytes: 1 << 40, inodes: Some(1 << 30) };

    #[test]
    fn the_least_that_was_seen_judges_and_the_commands_word_only_where_it_was_scarce() {
        let lacked = |least, told| matches!(judged(least, told), Verdict::Lacked(_));
        let bytes = |bytes| Left { bytes, ..PLENTY };
        let inodes = |inodes| Left { inodes: Some(inodes), ..PLENTY };
        for (least, alone, with_its_word) in [
            (bytes(0), true, true),
            (inodes(0), true, true),
            (bytes(18 << 20), false, true),
            (inodes(1000), false, true),
            (bytes(1 << 30), false, false),
            (Left { inodes: None, ..PLENTY }, false, false),
        ] {
            assert_eq!((lacked(least, false), lacked(least, true)), (alone, with_its_word), "{least:?}");
        }
        assert_eq!(judged(PLENTY, true), Verdict::Enough);
        let Verdict::Scarce(note) = judged(bytes(18 << 20), false) else { panic!("a note") };
        assert_eq!(
            note,
            "its disk had only 18.0 MiB free at some moment while it ran, and may have been full at another"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_keeps_nobody_else_waiting() {
        let (go_on, hangs) = std::sync::mpsc::channel();
        let look = beside(Duration::ZERO, move || hangs.recv().expect("others go on"));
        // The look is begun first, and ends only because what comes after it is reached on the same thread.
        let (seen, sent) = tokio::join!(biased; look, async { go_on.send(7) });
        assert_eq!((seen, sent), (Some(7), Ok(())));
    }

    #[tokio::test]
    async fn only_a_failure_is_judged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = StateDir::open(&folder.path().join("st")).expect("a state folder");
        let least = Some(Left { bytes: 0, ..PLENTY });
        let space = || Space { state: &state, now: least, least };
        for ended in [Ended::Exited { code: 0 }, Ended::TimedOut, Ended::Cancelled] {
            assert_eq!(space().verdict(&ended, false).await, Verdict::Enough);
        }
        for ended in [Ended::Exited { code: 1 }, Ended::Signaled { signal: 7 }] {
            assert_eq!(
                space().verdict(&ended, false).await,
                Verdict::Lacked("no space was left for its worktree".to_owned())
            );
        }
        std::fs::remove_dir_all(state.root()).expect("it is ours");
        let gone = Space::of(&state).await.verdict(&Ended::Exited { code: 1 }, false).await;
        assert_eq!(gone, Verdict::Lacked("its state folder was gone".to_owned()));
    }

    #[test]
    fn what_it_prints_is_heard_however_it_is_cut() {
        let heard = |pieces: &[&str]| {
            let mut told = Told::default();
            pieces.iter().for_each(|piece| told.hear(piece.as_bytes()));
            told.is_found()
        };
        assert!(heard(&["cp: error writing 'x': No space left on device\n"]));
        assert!(heard(&["ENOSPC: n", "o space ", "left on dev", "ice, write", &"x".repeat(100)]));
        assert!(!heard(&["No space left", " on this page", &"x".repeat(100)]));
    }

    #[test]
    fn the_less_there_is_the_sooner_it_is_looked_at_again() {
        let of = |bytes, inodes| next_look(Some(Left { bytes, inodes }));
        assert_eq!((of(0, None), of(1 << 40, None), next_look(None)), (LOOK_EVERY_MIN, LOOK_EVERY_MAX, LOOK_EVERY_MAX));
        assert_eq!(of(1 << 30, None), Duration::from_millis(250));
        assert_eq!(of(1 << 40, Some(1 << 18)), Duration::from_millis(250));
        assert_eq!(of(SCARCE_BYTES, None), LOOK_EVERY_MIN);
    }
}
