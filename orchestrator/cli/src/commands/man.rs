//! `swarm man`: the manual page, for packagers.

use clap::CommandFactory as _;

use crate::commands::CommandLine;
use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Prints a manual page, for `man -l -`.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// The command it is about [default: swarm itself].
    command: Option<String>,
}

/// The page on stdout, in roff.
///
/// # Errors
/// There is no such command, or nobody reads it.
pub fn run(args: &Man, it: &Surroundings) -> Result<u8, Failure> {
    let mut whole = CommandLine::command();
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => whole
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::usage(format!("find a command {name:?}"), "swarm --help".to_owned()))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| Failure::of_output(&error))?;
    it.out.write_bytes(&page)?;
    Ok(0)
}
