//! `swarm check PLAN`: everything that is wrong with a plan, all at once.

use crate::commands::failure::Failure;
use crate::commands::plan_file::PlanFile;
use crate::commands::surroundings::Surroundings;

/// Shows everything that is wrong with a plan.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    plan: PlanFile,
}

/// Exit code 0 when the plan can run.
///
/// # Errors
/// The plan cannot be read or has mistakes.
pub fn run(args: &Check, it: &Surroundings) -> Result<u8, Failure> {
    let (graph, _) = args.plan.load(it)?;
    let tasks = graph.plan().tasks.len();
    let instances = graph.instances().len();
    let pending = match graph.pending().len() {
        0 => String::new(),
        n => format!(", and {n} that get their instances while it runs"),
    };
    it.err
        .write(&format!("{} is in order: {tasks} tasks, {instances} instances{pending}\n", args.plan.plan.display()))?;
    Ok(0)
}
