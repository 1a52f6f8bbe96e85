//! The cage against a real kernel: what a job may do, what it may not, and how it ends.
//!
//! This binary is its own worker (`__worker`) and its own attacker (`__attack NAME`), so that nothing else needs to be
//! built, and it has a single thread, as the sandbox asks. Every test runs in each tier that this machine has; a tier that
//! it lacks, and what a test cannot try on it, is skipped with the reason, and counted. `cargo test -p swarm-worker --test cage --
//! WORD` runs the tests with WORD in them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use swarm_protocol::Tier;

/// Attempts to get out, each with its positive control.
mod attacks;
/// Doors to the egress proxy.
mod doors;
/// A small host to attack, and a worker to attack it from.
mod fixture;
/// Workers that a fork server made.
mod forks;
/// Acts of a job that takes more than its share.
mod greed;
/// WebAssembly guests.
mod guests;
/// Limits hold, and are named.
mod limits;
/// The lists of a report against behaviour.
mod lists;
/// How jobs end, and what is told about it.
mod lives;
/// The guests' programs, shared with the tests of the sandbox.
#[path = "../../../sandbox/tests/guests/mod.rs"]
#[expect(dead_code, reason = "some are for the sandbox's tests only")]
mod programs;
/// What the evaluator answers, asked of the kernel.
mod questions;
/// Attempts that need a system call of their own.
mod raw;
/// What a job sees and may write.
mod views;

use fixture::Cage;

/// One claim about the cage.
pub struct Case {
    /// The claim.
    pub name: String,
    /// Shows it in a tier; a claim that does not hold panics.
    pub run: Box<dyn Fn(Tier) -> Outcome>,
}

/// What became of a case that did not fail.
pub enum Outcome {
    /// The claim holds.
    Passed,
    /// It holds as far as it could be tried; what was not, and why.
    InPart(String),
    /// It could not be tried; why.
    Skipped(String),
}

impl Outcome {
    /// A case that could not be tried.
    pub fn skipped(why: impl Into<String>) -> Outcome {
        Outcome::Skipped(why.into())
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Passed
    }
}

impl Case {
    /// A case from a claim and its proof, which gives nothing or an [`Outcome`].
    pub fn new<O: Into<Outcome>>(name: impl Into<String>, run: impl Fn(Tier) -> O + 'static) -> Self {
        Case { name: name.into(), run: Box::new(move |tier| run(tier).into()) }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == swarm_worker::SUBCOMMAND).is_some() {
        return swarm_worker::main(arguments);
    }
    if arguments.next_if(|first| first == "__attack").is_some() {
        return raw::main(arguments.map(|argument| argument.into_string().expect("attacks have ASCII names")));
    }
    let words: Vec<String> = arguments.filter_map(|word| word.into_string().ok()).collect();
    let wanted: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let rooms = [
        attacks::cases(),
        views::cases(),
        questions::cases(),
        lists::cases(),
        lives::cases(),
        forks::cases(),
        guests::cases(),
        doors::cases(),
        limits::cases(),
    ];
    let cases: Vec<Case> = rooms.into_iter().flatten().collect();
    if words.iter().any(|word| word == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    run_all(cases.into_iter().filter(|case| wanted.is_empty() || wanted.iter().any(|word| case.name.contains(*word))))
}

fn run_all(cases: impl Iterator<Item = Case>) -> ExitCode {
    let tiers = Cage::tiers();
    let (mut passed, mut in_part, mut failed, mut skipped) = (0, 0, Vec::new(), 0);
    for case in cases {
        for (tier, works) in &tiers {
            let name = format!("{tier:?} {}", case.name);
            let run = || match works {
                Ok(()) => (case.run)(*tier),
                Err(reason) => Outcome::skipped(reason.to_string()),
            };
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Outcome::Passed) => passed += 1,
                Ok(Outcome::InPart(why)) => {
                    println!("skip a part of {name}: {why}");
                    in_part += 1;
                }
                Ok(Outcome::Skipped(why)) => {
                    println!("skip {name}: {why}");
                    skipped += 1;
                }
                Err(_) => failed.push(name),
            }
        }
    }
    // What counts all tests reads the figures by their places.
    println!("cage: {passed} passed, {} failed, {skipped} skipped, {in_part} passed in part", failed.len());
    failed.iter().for_each(|name| println!("FAILED {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
