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
    clap_mangen::Man::new(with_usage(command)).render(&mut page).map_err(|error| Failure::of_output(&error))?;
    it.out.write_bytes(&page)?;
    Ok(0)
}

/// A command whose synopsis names its options in one word, as its help does: written out they would stand there without the values
/// that they take. What each of them takes is said behind it.
fn with_usage(command: clap::Command) -> clap::Command {
    let usage = command.clone().render_usage().to_string();
    command.override_usage(usage.trim_start_matches("Usage: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synopsis_shows_no_option_without_its_value() {
        let mut whole = CommandLine::command();
        whole.build();
        let run = with_usage(whole.find_subcommand("run").unwrap().clone());
        let mut page = Vec::new();
        clap_mangen::Man::new(run).render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let synopsis = page.split(".SH SYNOPSIS").nth(1).unwrap().split(".SH").next().unwrap();
        assert!(synopsis.contains("[OPTIONS]") && !synopsis.contains("set"), "{synopsis}");
        assert!(page.contains("DIR"), "{page}");
    }
}
