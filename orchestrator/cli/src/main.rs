//! Worker or command? Decided here, before any runtime or thread starts: a worker clones processes and must be alone.

use std::process::ExitCode;

/// The commands of DESIGN §5, one file each.
mod commands;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next();
    let mut arguments = arguments.peekable();
    if arguments.next_if(|first| first == swarm_worker::SUBCOMMAND).is_some() {
        return swarm_worker::main(arguments);
    }
    commands::main(program.into_iter().chain(arguments))
}
