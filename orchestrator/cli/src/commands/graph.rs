//! `swarm graph PLAN`: the graph as a person or another program reads it.

use swarm_orchestrator::report::sanitize;

use crate::commands::failure::Failure;
use crate::commands::plan_file::PlanFile;
use crate::commands::surroundings::Surroundings;

/// Prints a plan's graph.
#[derive(Debug, clap::Args)]
pub struct Graph {
    #[command(flatten)]
    plan: PlanFile,
    /// How it is drawn.
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Indented text.
    Tree,
    /// For Graphviz.
    Dot,
    /// For Markdown pages.
    Mermaid,
}

/// Prints the graph on stdout.
///
/// # Errors
/// The plan cannot be read or has mistakes.
pub fn run(args: &Graph, it: &Surroundings) -> Result<u8, Failure> {
    let (graph, _) = args.plan.load(it)?;
    let mut text = sanitize::text(&match args.format {
        Format::Tree => graph.tree(),
        Format::Dot => graph.dot(),
        Format::Mermaid => graph.mermaid(),
    });
    if !text.ends_with('\n') {
        text.push('\n');
    }
    it.out.write(&text)?;
    Ok(0)
}
