//! What a plan may cost before it runs: its agents times the tokens that it lets them use, or that are assumed, times what
//! their models cost. A guess that says what it assumes: nobody knows how often a model is asked. Pure.

use swarm_plans::{TaskGraph, TaskIx};

use crate::model::broker::catalog::Catalog;
use crate::model::budget::{NanoUsd, Tokens};
use crate::report::{sanitize, words};

/// Tokens of an agent that no `tokens` bounds: some tens of turns over a small part of a repository.
const TOKENS_ASSUMED: u64 = 300_000;
/// The part of an agent's tokens that answers take, in percent: conversations are sent again with every turn.
const ANSWERS_PERCENT: u64 = 5;

/// What the agents of one task may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEstimate {
    /// The task.
    pub task: String,
    /// Its model, as the plan names it.
    pub model: String,
    /// Agents that are known before the run.
    pub agents: u64,
    /// Whether more may come while it runs.
    pub open: bool,
    /// Tokens of one agent.
    pub tokens: u64,
    /// Whether the plan says so.
    pub declared: bool,
    /// All of them; `None` is unpriced.
    pub cost: Option<NanoUsd>,
}

/// What all agents of a plan may cost at their first attempts, by task, in plan order.
pub fn estimate(graph: &TaskGraph, catalog: &Catalog) -> Vec<TaskEstimate> {
    let mut all = Vec::new();
    for (at, task) in graph.plan().tasks.iter().enumerate() {
        let Some(agent) = task.agent() else { continue };
        let ix = TaskIx(at as u32);
        let agents = graph.task_instances(ix).len() as u64;
        let declared = agent.settings.tokens;
        let tokens = declared.unwrap_or(TOKENS_ASSUMED);
        let output = tokens / 100 * ANSWERS_PERCENT;
        let each = Tokens { input: tokens - output, output };
        let prices = catalog.chain(&agent.settings.model).first().and_then(|endpoint| endpoint.prices);
        all.push(TaskEstimate {
            task: task.name.to_string(),
            model: agent.settings.model.clone(),
            agents,
            open: graph.is_pending(ix),
            tokens,
            declared: declared.is_some(),
            cost: prices.map(|prices| NanoUsd(prices.at_most(each).0.saturating_mul(agents))),
        });
    }
    all
}

/// An estimate in lines for people; empty where no model is asked.
pub fn lines(all: &[TaskEstimate]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let usd = |cost: Option<NanoUsd>| cost.map_or("unpriced".to_owned(), |cost| format!("${:.2}", cost.usd()));
    let mut text = String::new();
    for one in all {
        let more = if one.open { " or more" } else { "" };
        let said = if one.declared { "at most" } else { "assumed" };
        let (agents, cost) = (words::count(one.agents, "agent"), usd(one.cost));
        text.push_str(&format!(
            "    {}  {agents}{more} of {}, {} tokens each ({said}): {cost}\n",
            sanitize::name(&one.task),
            sanitize::name(&one.model),
            one.tokens,
        ));
    }
    let priced: u64 = all.iter().filter_map(|one| one.cost).map(|cost| cost.0).fold(0, u64::saturating_add);
    let unpriced = all.iter().filter(|one| one.cost.is_none()).count();
    let total = match (unpriced, all.len()) {
        (0, _) => format!("about ${:.2}", NanoUsd(priced).usd()),
        (unpriced, tasks) if unpriced == tasks => "unpriced: no model of it has prices".to_owned(),
        (unpriced, _) => {
            let tasks = words::count(unpriced as u64, "task");
            format!("about ${:.2}, and {tasks} unpriced", NanoUsd(priced).usd())
        }
    };
    format!("estimate, without retries: {total}\n{text}")
}

#[cfg(test)]
mod tests {
    use swarm_plans::{Answers, UserConfig, models};

    use super::*;
    use crate::settings::PlanModels;

    const PLAN: &str = "version = 1\n[models.main]\nprovider = 'anthropic'\nmodel = 'x'\nprices = { input = 3, output = 15 }\n\
                        [models.free]\nprovider = 'ollama'\nmodel = 'y'\n\
                        [tasks.a]\nagent = { prompt = 'x', tokens = 1000000 }\nmatrix.os = ['p', 'q']\n\
                        [tasks.b]\nagent = { prompt = 'x', model = 'free' }\n[tasks.c]\nrun = 'true'\n";

    fn said(plan: &str) -> String {
        let plan = swarm_plans::parse("p", plan, &[], &mut |_| Err(String::new())).plan.expect("a plan");
        let (models, _) = models::link(&plan, &UserConfig::default(), Answers::Asked);
        let catalog = Catalog::new(models, PlanModels::Bounded).expect("a catalog");
        lines(&estimate(&TaskGraph::expand(plan).expect("a graph"), &catalog))
    }

    #[test]
    fn agents_times_tokens_times_price() {
        // 2 agents of 950,000 tokens in at $3 and 50,000 out at $15 for a million each.
        let expected = "estimate, without retries: about $7.20, and 1 task unpriced\n    a  2 agents of main, 1000000 tokens \
                        each (at most): $7.20\n    b  1 agent of free, 300000 tokens each (assumed): unpriced\n";
        assert_eq!(said(PLAN), expected);
        assert_eq!(said("version = 1\n[tasks.c]\nrun = 'true'\n"), "");
    }
}
