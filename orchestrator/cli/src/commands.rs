//! The commands of DESIGN §5, one file each.

use std::ffi::OsString;
use std::process::ExitCode;

/// The exit status of a usage error.
const EXIT_USAGE: u8 = 2;

/// Runs the command that `arguments` name; the first of them is the program itself.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = arguments.nth(1).unwrap_or_default();
    eprintln!("error: {:?} is not a command of this version", command.to_string_lossy());
    ExitCode::from(EXIT_USAGE)
}
