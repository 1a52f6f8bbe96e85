//! What reporters hear besides events.

use swarm_plans::InstanceId;

/// What reporters hear besides events; never stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// A phase of the run outside any instance began (`preparing the base`, `setup`), or a running attempt moved on (`check 1/2`).
    Phase {
        /// The instance; `None` for the run itself.
        instance: Option<InstanceId>,
        /// For people.
        phase: String,
    },
    /// Output of an attempt arrived: its last complete line, raw.
    Line {
        /// The instance.
        instance: InstanceId,
        /// The line, without its line feed, not yet stripped of control characters.
        line: Vec<u8>,
    },
}
