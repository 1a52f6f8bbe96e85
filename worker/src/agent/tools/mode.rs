//! Modes of files that an agent writes: a new file gets the one of what it replaces.

use std::fs::File;

use rustix::fs::{Mode, fchmod, fstat};
use rustix::io::Errno;

/// Gives a new file what the umask took of its mode. In the landlock tier nobody does that for a process that cannot be looked into, as
/// an agent's own; a commit knows no more of a mode than whether its owner may execute the file.
///
/// # Errors
/// The system's.
pub fn give(file: &File, mode: Mode) -> std::io::Result<()> {
    if Mode::from_raw_mode(fstat(file)?.st_mode & 0o7777) == mode {
        return Ok(());
    }
    match fchmod(file, mode) {
        Err(Errno::ACCESS) => Ok(()),
        other => Ok(other?),
    }
}
