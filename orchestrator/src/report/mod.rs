//! Events become text. Reporters listen, they decide nothing: each takes the events of a run, in order and after they
//! were stored, and writes to what it was given. None of them prints by itself, asks for the time or reads the environment.
//!
//! [`Reports`] holds the one [`RunState`] that all reporters of a run look at. Whatever a worker said passes through
//! [`sanitize`] before it reaches a terminal. Start reading at [`words`], where things get their names.

/// What an agent said of its work.
pub mod account;
/// What only another plan or another base would allow.
mod another_plan;
/// What changed between two commits, as text.
pub mod diff;
/// What a run's end means to the caller's shell.
pub mod exit;
/// What tasks handed over, and how a person gets it.
mod handed;
/// One versioned JSON object a line.
pub mod json;
/// What landed and how.
mod landings;
/// Plain lines, for logs and pipes.
pub mod lines;
/// The picture on a terminal that moves.
pub mod live;
/// What models took and cost.
pub mod money;
/// A run as Markdown, HTML and JUnit's XML.
pub mod pages;
/// What workers wrote, made harmless.
pub mod sanitize;
/// A run's table, for `status`.
pub mod status;
#[cfg(test)]
pub(crate) mod story;
/// What is said at the end.
pub mod summary;
/// What ran, as a tree of tasks.
pub mod tree;
/// What things are called, and how they look.
pub mod words;

use swarm_plans::InstanceId;

use crate::event::{Progress, Recorded};
use crate::ids::Attempt;
use crate::journal::RunState;

pub use exit::{Ending, exit_code, exit_meaning, is_resumable, meaning};
pub use json::Json;
pub use landings::added_nothing;
pub use lines::Lines;
pub use live::{Live, Size};
pub use summary::{Checkout, summary};
pub use words::Style;

/// Gives the last lines of an attempt's log, raw; the caller knows where logs lie.
pub type LogTail<'a> = &'a dyn Fn(&InstanceId, Attempt) -> Vec<Vec<u8>>;

/// A text as a person has to read it where they stand: commands in it become what they have to type there.
pub type AsTyped = Box<dyn Fn(&str) -> String + Send>;

/// Listens to one run.
pub trait Reporter {
    /// Something happened and is stored; `state` has it already.
    fn event(&mut self, recorded: &Recorded, state: &RunState);

    /// Something moved that is not worth storing.
    fn progress(&mut self, progress: &Progress);

    /// Time passed: `now_ms` in milliseconds since the Unix epoch. Called about ten times a second.
    fn tick(&mut self, now_ms: u64, state: &RunState);

    /// Why something that a program was to read is not written, where that is the machine's fault: a reader that has enough is
    /// nobody's.
    fn unwritten(&self) -> Option<&std::io::Error> {
        None
    }
}

/// The reporters of a run and the state they share.
#[derive(Default)]
pub struct Reports {
    state: RunState,
    reporters: Vec<Box<dyn Reporter + Send>>,
}

impl Reports {
    /// Reports to all of `reporters`, in this order.
    pub fn new(reporters: Vec<Box<dyn Reporter + Send>>) -> Self {
        Reports { state: RunState::default(), reporters }
    }

    /// Takes over the state as an earlier coordinator left it; nobody is told again.
    pub fn catch_up(&mut self, state: RunState) {
        self.state = state;
    }

    /// Tells of an event that was stored.
    pub fn event(&mut self, recorded: &Recorded) {
        self.state.apply(recorded);
        for reporter in &mut self.reporters {
            reporter.event(recorded, &self.state);
        }
    }

    /// Tells of progress.
    pub fn progress(&mut self, progress: &Progress) {
        for reporter in &mut self.reporters {
            reporter.progress(progress);
        }
    }

    /// Tells of time.
    pub fn tick(&mut self, now_ms: u64) {
        for reporter in &mut self.reporters {
            reporter.tick(now_ms, &self.state);
        }
    }

    /// Why some of what programs were to read is not written.
    pub fn unwritten(&self) -> Option<&std::io::Error> {
        self.reporters.iter().find_map(|reporter| reporter.unwritten())
    }

    /// The run so far.
    pub fn state(&self) -> &RunState {
        &self.state
    }
}

/// A stream that may go away: after the first failed write nothing more is tried. A reader that closed its pipe must not
/// end the run, and the journal has everything.
struct Sink {
    out: Result<Box<dyn std::io::Write + Send>, std::io::Error>,
}

impl Sink {
    fn new(out: Box<dyn std::io::Write + Send>) -> Self {
        Sink { out: Ok(out) }
    }

    /// Writes all of `text` at once, so that a terminal never shows half of it.
    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Ok(out) = &mut self.out
            && let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        {
            self.out = Err(error);
        }
    }

    /// Why nothing more is tried, unless the reader just went.
    fn unwritten(&self) -> Option<&std::io::Error> {
        self.out.as_ref().err().filter(|error| error.kind() != std::io::ErrorKind::BrokenPipe)
    }
}

/// A stream that a test can look into.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
impl Shared {
    pub(crate) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no test panicked while writing"));
        String::from_utf8(bytes).expect("reports are text")
    }
}

#[cfg(test)]
impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panicked while writing").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
