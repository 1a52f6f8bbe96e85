//! What a caged command prints, passed on as it comes: byte by byte into files and pipes, harmless on a terminal. A terminal
//! obeys what it is sent, and the command is one that nobody trusts.

use swarm_orchestrator::report::sanitize::Lines;
use swarm_protocol::Stream as Which;

use crate::commands::failure::Failure;
use crate::commands::surroundings::{ReaderKind, Stream, Surroundings};

/// How output is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Stripped of what a terminal would obey, where there is one.
    Careful,
    /// The bytes as they are, everywhere (`--raw`).
    Raw,
}

impl Passing {
    /// From the flag.
    pub fn of(raw: bool) -> Self {
        if raw { Passing::Raw } else { Passing::Careful }
    }
}

/// Both streams of a command.
pub struct PassedOn {
    out: Side,
    err: Side,
}

/// One of them.
struct Side {
    to: Stream,
    /// `None` passes bytes on.
    lines: Option<Lines>,
}

impl PassedOn {
    /// To this program's own streams.
    pub fn new(passing: Passing, it: &Surroundings) -> Self {
        let side = |to: Stream| {
            let careful = passing == Passing::Careful && to.reader == ReaderKind::Terminal;
            Side { to, lines: careful.then(Lines::default) }
        };
        PassedOn { out: side(it.out.clone()), err: side(it.err.clone()) }
    }

    /// Passes a piece on.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn hear(&mut self, which: Which, bytes: &[u8]) -> Result<(), Failure> {
        let side = match which {
            Which::Stdout => &mut self.out,
            Which::Stderr => &mut self.err,
        };
        match &mut side.lines {
            None => side.to.write_now(bytes),
            Some(lines) => side.to.write_now(lines.take(bytes).as_bytes()),
        }
    }

    /// Passes on what never got its line feed.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn finish(mut self) -> Result<(), Failure> {
        for side in [&mut self.out, &mut self.err] {
            if let Some(lines) = &mut side.lines {
                side.to.write_now(lines.finish().as_bytes())?;
            }
        }
        Ok(())
    }
}
