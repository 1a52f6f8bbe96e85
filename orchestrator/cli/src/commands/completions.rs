//! `swarm completions SHELL`: completions, from the one definition of the command line.

use clap::CommandFactory as _;

use crate::commands::Offered;
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
    clap_complete::generate(args.shell, &mut Offered::command(), "swarm", &mut script);
    it.out.write_bytes(&script)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_offered() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Offered::command(), "swarm", &mut script);
            let script = String::from_utf8(script).unwrap();
            let offers = |words: &str| script.contains(words);
            assert!(offers("state-dir") && offers("budget-usd") && offers("resolve"), "{shell}");
            assert!(!offers("--fault") && !offers("-l fault"), "{shell}");
        }
    }
}
