//! `swarm check PLAN`: everything that is wrong with a plan, all at once.

use swarm_orchestrator::report::words;

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
    let tasks = words::count(graph.plan().tasks.len() as u64, "task");
    let instances = words::count(graph.instances().len() as u64, "instance");
    let pending = match graph.pending().len() {
        0 => String::new(),
        1 => ", and 1 task that gets its instances while it runs".to_owned(),
        n => format!(", and {n} tasks that get their instances while it runs"),
    };
    it.err.write(&format!("{} is in order: {tasks}, {instances}{pending}\n", args.plan.plan.display()))?;
    Ok(0)
}
