//! `swarm completions SHELL`: completions, from the one definition of the command line.

use clap::CommandFactory as _;

use crate::commands::CommandLine;
use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// The script on stdout.
///
/// # Errors
/// Nobody reads it.
pub fn run(args: &Completions, it: &Surroundings) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "swarm", &mut script);
    it.out.write_bytes(&script)?;
    Ok(0)
}
