//! What has to be so before a run begins, so that nothing of it starts in vain: a person's word for what the plan asks for,
//! keys and, under a budget in dollars, prices for the models that it names, a branch that can receive its work, a machine that can close its cages. A run stops at the first
//! that is not; [`obstacles`] tells `swarm check` all of them beforehand.

use std::collections::BTreeSet;
use std::fmt;

use git2::Oid;
use swarm_plans::{Fan, KeySource, Pending, Plan, Task, TaskGraph};

use super::{RunError, answer_globs};
use crate::machine::Machine;
use crate::model::broker::catalog::{Catalog, CatalogError};
use crate::model::broker::keys::Keys;
use crate::policy::{Looked, Places, PolicyError, View, Word, refusals, resolve, word};
use crate::repository::Repository;
use crate::settings::{HostNetwork, PlanModels, Settings, TapeAt};
use crate::state::StateDir;
use crate::target;

/// A model that a plan names, and that nobody here has a key for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// As the plan names it.
    pub model: String,
    /// The variables in which a key was looked for: the model's own, then those of what is asked in its place. Never empty.
    pub variables: Vec<String>,
}

impl fmt::Display for Keyless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<String> = self.variables.iter().map(|name| format!("${name}")).collect();
        let are = if variables.len() == 1 { "is" } else { "are" };
        write!(f, "{} has no key: {} {are} not set", self.model, variables.join(" and "))
    }
}

/// All of them in one line.
pub(super) fn without_keys(models: &[Keyless]) -> String {
    models.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What a person can do about it.
pub(super) fn key_hint(models: &[Keyless]) -> String {
    let variables: BTreeSet<&String> = models.iter().filter_map(|model| model.variables.first()).collect();
    let set: Vec<String> = variables.iter().map(|name| format!("export {name}=…")).collect();
    format!(
        "{}; or say under [models.NAME] of ~/.config/swarm/config.toml where it is: key = {{ env = \"NAME\" }} or {{ command = \
         [\"pass\", \"show\", …] }}; `--replay DIR` asks nobody",
        set.join(" ")
    )
}

/// All of them, and their verb.
pub(super) fn without_prices(models: &[String]) -> String {
    format!("{} {}", models.join(" and "), if models.len() == 1 { "has" } else { "have" })
}

/// What a person can do about it.
pub(super) fn price_hint(models: &[String]) -> String {
    let name = models.first().map_or("NAME", String::as_str);
    format!(
        "say what it costs, in dollars for a million tokens, under [models.{name}]: prices = {{ input = …, output = … }}; or \
         give a budget in tokens"
    )
}

/// Whether a person allowed all that a plan asks for, as far as these tasks need it.
///
/// # Errors
/// [`PolicyError::Word`] with all that nobody allowed.
pub(crate) fn heard(
    plan: &Plan,
    counts: impl Fn(&Task) -> bool,
    settings: &Settings,
    view: View<'_>,
) -> Result<(), PolicyError> {
    let asks = settings.word(view.places.worktree).missing_of_plan(plan, counts, view);
    if asks.is_empty() { Ok(()) } else { Err(PolicyError::Word { asks }) }
}

/// Whether every path and preset that its policies name may be had.
///
/// # Errors
/// [`RunError::Policies`] names all that may not.
pub(super) fn policies_fit(plan: &Plan, view: View<'_>) -> Result<(), RunError> {
    let all = word::used_policies(plan).flat_map(|(name, policy)| refusals(name, policy, view));
    let refused: Vec<PolicyError> = all.collect();
    if refused.is_empty() { Ok(()) } else { Err(RunError::Policies(refused)) }
}

/// Every model that a run of the plan may ask.
///
/// # Errors
/// [`CatalogError`].
pub(super) fn catalog(plan: &Plan, settings: &Settings) -> Result<Catalog, CatalogError> {
    let (models, mistakes) = swarm_plans::models::link(plan, &settings.user, settings.tape.answers());
    match mistakes.into_iter().next() {
        Some(mistake) => Err(CatalogError::Mistake(mistake.message)),
        // A replay sends nothing anywhere, whatever the plan says.
        None if matches!(settings.tape, TapeAt::Replay(_)) => Catalog::new(models, PlanModels::Trusted),
        None => Catalog::new(models, settings.plan_models),
    }
}

/// Whether the fan-outs over files fit the plan. Their instances join the graph once the run has begun.
///
/// # Errors
/// As [`answer_globs`].
pub(super) fn globs_fit(graph: &TaskGraph, repository: &Repository, base: Oid) -> Result<(), RunError> {
    let is_glob = |waiting: &Pending| matches!(waiting.source, Fan::Glob(_));
    match graph.pending().iter().any(is_glob) {
        true => answer_globs(&mut graph.clone(), repository, base).map(drop),
        false => Ok(()),
    }
}

/// Whether every model that tasks name can be asked. A program that prints a key is not started for that: it may wait for its
/// owner.
///
/// # Errors
/// [`RunError::Keys`] names all that cannot.
pub(crate) fn keys_are_here(plan: &Plan, settings: &Settings) -> Result<(), RunError> {
    if matches!(settings.tape, TapeAt::Replay(_)) {
        return Ok(());
    }
    let catalog = catalog(plan, settings)?;
    let missing = |source: Option<KeySource>| match source {
        Some(KeySource::Env(name)) => Keys::variable(&settings.host.env, &name).is_none().then_some(name),
        Some(KeySource::Command(_)) | None => None,
    };
    let names: BTreeSet<&str> = plan.model_uses().map(|used| used.name.as_str()).collect();
    let keyless = names.into_iter().filter_map(|name| {
        let chain = catalog.chain(name).into_iter();
        let variables = chain.map(|endpoint| missing(endpoint.key)).collect::<Option<Vec<String>>>()?;
        (!variables.is_empty()).then(|| Keyless { model: name.to_owned(), variables })
    });
    let keyless: Vec<Keyless> = keyless.collect();
    if keyless.is_empty() { Ok(()) } else { Err(RunError::Keys(keyless)) }
}

/// Whether every model that a budget in dollars is to pay for has a price, or one of those that are asked in its place. The
/// resolver is paid for by tasks that nobody knows yet: only the run's own budget counts for it.
///
/// # Errors
/// [`RunError::Unpriced`] names all that have none.
pub(crate) fn prices_are_here(plan: &Plan, settings: &Settings) -> Result<(), RunError> {
    let catalog = catalog(plan, settings)?;
    let names: BTreeSet<&str> = if settings.budget.over(&plan.budget).usd.is_some() {
        plan.model_uses().map(|used| used.name.as_str()).collect()
    } else {
        let bounded = |task: &&Task| task.budget.task.usd.or(task.budget.attempt.usd).is_some();
        plan.tasks.iter().filter(bounded).flat_map(Task::model_uses).map(|used| used.name.as_str()).collect()
    };
    let is_unpriced = |name: &&str| {
        let chain = catalog.chain(name);
        !chain.is_empty() && chain.iter().all(|endpoint| endpoint.prices.is_none())
    };
    let unpriced: Vec<String> = names.into_iter().filter(is_unpriced).map(str::to_owned).collect();
    if unpriced.is_empty() { Ok(()) } else { Err(RunError::Unpriced(unpriced)) }
}

/// All that would stop a run of the plan here before its first task, but for what a person has to allow.
///
/// # Errors
/// The repository cannot be read.
pub fn obstacles(
    plan: &Plan,
    settings: &Settings,
    machine: &Machine,
    repository: &Repository,
    state: &StateDir,
) -> Result<Vec<RunError>, RunError> {
    let mut found: Vec<RunError> = match catalog(plan, settings) {
        // Neither keys nor prices are looked for among models that may not be asked at all.
        Err(error) => vec![error.into()],
        Ok(_) => [keys_are_here(plan, settings), prices_are_here(plan, settings)]
            .into_iter()
            .filter_map(Result::err)
            .collect(),
    };
    match target::choose(repository, plan, settings, repository.resolve(&plan.base)?) {
        Err(RunError::Target(error)) => found.push(error.into()),
        chosen => drop(chosen?),
    }
    let places = Places { worktree: repository.place(), git: repository.common_dir(), state: state.root() };
    let view = View { host: &settings.host, places, looked: &Looked::default() };
    for (name, policy) in word::used_policies(plan) {
        let refused = refusals(name, policy, view);
        if !refused.is_empty() {
            found.extend(refused.into_iter().map(|one| RunError::Policies(vec![one])));
            continue;
        }
        let offer = machine.offer(Word::everything(HostNetwork::Allowed));
        found.extend(resolve(name, policy, view, offer).err().map(RunError::from));
        found.extend(machine.check(name, policy).err().map(RunError::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_what_to_type() {
        let keyless = |model: &str, variables: &[&str]| Keyless {
            model: model.to_owned(),
            variables: variables.iter().map(|&name| name.to_owned()).collect(),
        };
        let models = [keyless("main", &["A_KEY"]), keyless("other", &["B_KEY", "C_KEY"])];
        let said = "main has no key: $A_KEY is not set; other has no key: $B_KEY and $C_KEY are not set";
        assert_eq!(without_keys(&models), said);
        let hint = key_hint(&models);
        assert!(hint.starts_with("export A_KEY=… export B_KEY=…;") && hint.contains("--replay DIR"), "{hint}");
        let unpriced = RunError::Unpriced(vec!["main".to_owned(), "other".to_owned()]);
        assert_eq!(unpriced.to_string(), "keep the budget in dollars: main and other have no price");
    }
}
