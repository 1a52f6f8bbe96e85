//! A word about files that a run does not see because nobody committed them.

use std::path::Path;

use swarm_orchestrator::report::{sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::unsaved::{Look, unsaved};

use crate::commands::failure::Failure;
use crate::commands::surroundings::Surroundings;

/// Files that are named; more are counted.
const NAMED_MAX: usize = 3;

/// Says on stderr which files of the checkout are not as `base` has them, where that is the checkout's own commit. `plan` is read
/// from the checkout itself and does not count.
///
/// # Errors
/// Nobody reads it.
pub fn say(repository: &Repository, base: &str, plan: Option<&Path>, it: &Surroundings) -> Result<(), Failure> {
    let same = |one: &str, other: &str| Some(repository.resolve(one).ok()? == repository.resolve(other).ok()?);
    if same(base, "HEAD") != Some(true) {
        return Ok(());
    }
    // A courtesy: what cannot be read here says so where it is needed.
    let Ok(mut found) = unsaved(repository) else { return Ok(()) };
    let plan = plan.and_then(|plan| it.folder.join(plan).canonicalize().ok());
    if let Some(plan) = plan.as_deref().and_then(|plan| plan.strip_prefix(repository.workdir()?).ok()) {
        found.paths.remove(plan);
    }
    let count = found.paths.len();
    let named = words::first_of(found.paths.iter().map(|path| sanitize::name(&path.to_string_lossy())), NAMED_MAX);
    let at_least = if found.look == Look::Partial { "at least " } else { "" };
    let are = if count == 1 { "is" } else { "are" };
    match count {
        0 => Ok(()),
        _ => it.err.write(&format!(
            "note: {at_least}{} {are} not in the base: {named}; commit what it shall see\n",
            words::count(count as u64, "changed file")
        )),
    }
}
