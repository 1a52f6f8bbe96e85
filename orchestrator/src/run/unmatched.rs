//! Paths and globs of a plan that match nothing here: a mistyped one must not look like work that was done. None of them stops a
//! run. A cache may not have been built yet, and a file of `copy` may be optional; so they are named, with what was meant where a
//! name is near.

use std::collections::BTreeMap;

use git2::{Odb, Oid};
use swarm_plans::diagnostic::nearest;
use swarm_plans::scope::is_literal;
use swarm_plans::{InstanceIx, Plan, TaskGraph, Work};

use super::RunError;
use crate::agent::bootstrap::{BootstrapError, why_not_told};
use crate::executor::trees::{TreeError, files_of};
use crate::path_globs::PathGlobs;
use crate::policy::word::used_policies;
use crate::repository::{Repository, RepositoryError};
use crate::tree;

/// Instances of one task whose `writes` are looked at: those of a fan-out differ in what they are about, seldom in their form.
const INSTANCES_MAX: usize = 16;

/// Texts that are named; more are counted.
const NAMED_MAX: usize = 10;

/// One text of the plan that matches nothing.
struct Unmatched {
    /// Where it stands, for people.
    key: String,
    text: String,
    /// What it does not match, or what it does not allow.
    why: String,
    /// What may have been meant.
    near: Option<String>,
}

/// All of them, in words for people.
///
/// # Errors
/// Those of reading the base's trees.
pub fn unmatched(graph: &TaskGraph, repository: &Repository, base: Oid) -> Result<Vec<String>, RunError> {
    let plan = graph.plan();
    let git = repository.handle()?;
    let odb = git.odb().map_err(RepositoryError::from)?;
    let root = repository.tree_of(base)?;
    let mut found = of_the_base(plan, repository, base, &|folder| in_the_tree(&odb, root, folder))?;
    found.extend(of_the_checkout(plan, repository));
    found.extend(of_hide(plan, repository, &odb, root)?);
    found.extend(of_prompts(plan, &odb, root)?);
    found.extend(of_modules(plan, &odb, root)?);
    found.extend(folders_in_writes(graph, &odb, root)?);
    let more = found.len().saturating_sub(NAMED_MAX);
    let mut notes: Vec<String> = found.iter().take(NAMED_MAX).map(Unmatched::told).collect();
    notes.extend((more > 0).then(|| format!("{more} more paths and globs of the plan match nothing")));
    Ok(notes)
}

/// What fan-out over files nothing of the base answers, with what may have been meant.
///
/// # Errors
/// Those of reading the base's trees.
pub(super) fn of_a_fan_out(repository: &Repository, base: Oid, globs: &[String]) -> Result<String, RunError> {
    let git = repository.handle()?;
    let odb = git.odb().map_err(RepositoryError::from)?;
    let root = repository.tree_of(base)?;
    let near = |glob: &String| meant(glob, &|folder| in_the_tree(&odb, root, folder));
    let near = globs.iter().find_map(near).map(|near| format!("; did you mean `{near}`?"));
    let globs: Vec<String> = globs.iter().map(|glob| format!("`{glob}`")).collect();
    Ok(format!("{}{}", globs.join(" or "), near.unwrap_or_default()))
}

impl Unmatched {
    fn told(&self) -> String {
        let Unmatched { key, text, why, near } = self;
        let near = near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("{key} names `{text}`: {why}{near}")
    }
}

/// Globs over files of the base: `sparse`, `union` and `regenerate` of [merge], and the `inputs` of cached tasks that start from it.
fn of_the_base(
    plan: &Plan,
    repository: &Repository,
    base: Oid,
    names: &dyn Fn(&str) -> Vec<String>,
) -> Result<Vec<Unmatched>, RunError> {
    let sparse = plan.workspace.sparse.iter().flatten().map(|glob| ("`sparse` of [workspace]".to_owned(), glob));
    let cached =
        plan.tasks.iter().filter(|task| task.needs.is_empty()).filter_map(|task| Some((task, task.cache.as_ref()?)));
    let inputs = cached.flat_map(|(task, caching)| {
        caching.inputs.iter().flatten().map(|glob| (format!("`cache.inputs` of task {}", task.name.0), glob))
    });
    let made = plan.merge.regenerate.iter().flat_map(|one| &one.paths);
    let made = made.map(|glob| ("`regenerate.paths` of [merge]".to_owned(), glob));
    let union = plan.merge.union.iter().map(|glob| ("`union` of [merge]".to_owned(), glob));
    let globs: Vec<(String, &String)> = sparse.chain(inputs).chain(union).chain(made).collect();
    if globs.is_empty() {
        return Ok(Vec::new());
    }
    let files = files_of(repository, base)?;
    let mut found = Vec::new();
    for (key, text) in globs {
        let glob = PathGlobs::new(&[text]).map_err(|error| TreeError::Base(error.into()))?;
        if !files.iter().any(|path| glob.matches(path)) {
            let near = meant(text, names);
            found.push(Unmatched { key, text: text.clone(), why: "no file of the base matches that".to_owned(), near });
        }
    }
    Ok(found)
}

/// Paths of the checkout: `copy` and `cache`.
fn of_the_checkout(plan: &Plan, repository: &Repository) -> Vec<Unmatched> {
    let Some(checkout) = repository.workdir() else { return Vec::new() };
    let names = |folder: &str| {
        let entries = std::fs::read_dir(checkout.join(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != ".git").collect()
    };
    let workspace = &plan.workspace;
    let copy = workspace.copy.iter().map(|path| ("`copy` of [workspace]", path));
    let cache = workspace.cache.iter().map(|path| ("`cache` of [workspace]", path));
    let missing = copy.chain(cache).filter(|(_, path)| checkout.join(path).symlink_metadata().is_err());
    let why = || "the checkout has no such path, so worktrees have none either".to_owned();
    let told = missing.map(|(key, path)| {
        let near = meant(path, &names).filter(|near| checkout.join(near).exists());
        Unmatched { key: key.to_owned(), text: path.clone(), why: why(), near }
    });
    told.collect()
}

/// `hide` of used policies, where it names a path of the worktree that neither the base nor the checkout has: what was meant is in
/// plain sight then.
fn of_hide(plan: &Plan, repository: &Repository, odb: &Odb<'_>, root: Oid) -> Result<Vec<Unmatched>, RunError> {
    let checkout = repository.workdir();
    let names = |folder: &str| {
        let there = checkout.and_then(|checkout| std::fs::read_dir(checkout.join(folder)).ok());
        let there = there.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        in_the_tree(odb, root, folder).into_iter().chain(there.filter(|name| name != ".git")).collect()
    };
    let mut found = Vec::new();
    for (name, policy) in used_policies(plan) {
        for text in policy.hide.iter().filter(|text| !text.starts_with(['/', '~'])) {
            let path = text.trim_start_matches("./").trim_end_matches('/');
            let is_checked_out = checkout.is_some_and(|checkout| checkout.join(path).symlink_metadata().is_ok());
            let in_the_base = || tree::find(odb, root, path.as_bytes()).map_err(|error| TreeError::Base(error.into()));
            if !is_checked_out && in_the_base()?.is_none() {
                let (key, near) = (format!("`hide` of [sandbox.{name}]"), meant(path, &names));
                let why = "neither the base nor the checkout has that, so it hides nothing".to_owned();
                found.push(Unmatched { key, text: text.clone(), why, near });
            }
        }
    }
    Ok(found)
}

/// `prompt-file` of tasks that start from the base, where their agent cannot begin; what tasks before others make, nobody knows yet.
fn of_prompts(plan: &Plan, odb: &Odb<'_>, root: Oid) -> Result<Vec<Unmatched>, RunError> {
    let mut found = Vec::new();
    for task in plan.tasks.iter().filter(|task| task.needs.is_empty()) {
        let Some(agent) = task.agent() else { continue };
        let Some(text) = &agent.prompt_file else { continue };
        let why = why_not_told(odb, root, text, agent.prompt.is_none()).map_err(|error| -> RunError {
            match error {
                BootstrapError::Git(error) => RepositoryError::from(error).into(),
                BootstrapError::Tree(error) => TreeError::Base(error.into()).into(),
                error @ BootstrapError::NotThere { .. } => unreachable!("BUG: {error} is why"),
            }
        });
        if let Some(why) = why? {
            let near = meant(text, &|folder| in_the_tree(odb, root, folder)).filter(|near| !near.ends_with('/'));
            let (key, why) = (format!("`prompt-file` of task {}", task.name.0), format!("{why}, so it cannot begin"));
            found.push(Unmatched { key, text: text.clone(), why, near });
        }
    }
    Ok(found)
}

/// `wasm.module` of tasks that start from the base, as far as its text says which file that is.
fn of_modules(plan: &Plan, odb: &Odb<'_>, root: Oid) -> Result<Vec<Unmatched>, RunError> {
    let mut found = Vec::new();
    for task in plan.tasks.iter().filter(|task| task.needs.is_empty()) {
        let Work::Wasm(guest) = &task.work else { continue };
        let text = guest.module.source();
        if text.contains('{') {
            continue;
        }
        let path = text.strip_prefix("./").unwrap_or(text);
        let entry = tree::find(odb, root, path.as_bytes()).map_err(|error| TreeError::Base(error.into()))?;
        if !entry.is_some_and(|entry| entry.mode == tree::FILE || entry.mode == tree::EXECUTABLE) {
            let near = meant(text, &|folder| in_the_tree(odb, root, folder)).filter(|near| !near.ends_with('/'));
            let why = "the base has no such file, so it cannot begin".to_owned();
            found.push(Unmatched {
                key: format!("`wasm.module` of task {}", task.name.0),
                text: text.to_owned(),
                why,
                near,
            });
        }
    }
    Ok(found)
}

/// Entries of `writes` that name a folder as if it were a file, or one that is not there beside one of nearly the same name. What else
/// is not there, a task may make.
fn folders_in_writes(graph: &TaskGraph, odb: &Odb<'_>, root: Oid) -> Result<Vec<Unmatched>, RunError> {
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (at, instance) in (0..).zip(graph.instances()) {
        let count = seen.entry(instance.task.index()).or_default();
        *count += 1;
        if *count > INSTANCES_MAX {
            continue;
        }
        // What only the run knows is judged by the collector.
        let writes = graph.writes_before(InstanceIx(at)).ok().flatten().unwrap_or_default();
        let task = &graph.plan().task(instance.task).name.0;
        for text in writes {
            texts.entry(text).or_insert_with(|| task.clone());
        }
    }
    let mut found = Vec::new();
    for (text, task) in texts {
        let key = format!("`writes` of task {task}");
        if let Some(near) =
            meant(&text, &|folder| in_the_tree(odb, root, folder)).filter(|near| is_of_a_folder(&text, near))
        {
            let why = "the base has no such folder".to_owned();
            found.push(Unmatched { key, text, why, near: Some(near) });
            continue;
        }
        if !is_literal(&text) || text.ends_with('/') {
            continue;
        }
        let path = text.strip_prefix("./").unwrap_or(&text);
        let entry = tree::find(odb, root, path.as_bytes()).map_err(|error| TreeError::Base(error.into()))?;
        if entry.is_some_and(|entry| entry.is_tree()) {
            let why = "that is a folder, and allows no change of what lies in it".to_owned();
            let near = Some(format!("{text}/"));
            found.push(Unmatched { key, text, why, near });
        }
    }
    Ok(found)
}

/// Whether `near` differs from `text` in the name of a folder, and not in that of what is in it: new files are often called like old
/// ones.
fn is_of_a_folder(text: &str, near: &str) -> bool {
    let text = text.strip_prefix("./").unwrap_or(text);
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    text.contains('/') && near.trim_end_matches('/') != text.trim_end_matches('/') && last(text) == last(near)
}

/// The names in a folder of a tree; none where it cannot be read.
fn in_the_tree(odb: &Odb<'_>, root: Oid, folder: &str) -> Vec<String> {
    let listed = tree::find(odb, root, folder.as_bytes()).ok().flatten().filter(|entry| entry.is_tree());
    let listed = listed.and_then(|entry| tree::list(odb, entry.id).ok()).unwrap_or_default();
    listed.into_iter().filter_map(|(name, _)| String::from_utf8(name).ok()).collect()
}

/// A path or glob with the first component that leads nowhere replaced by the nearest name there; a folder that was written
/// like a file gets its slash. `names` lists a folder, `""` the topmost.
fn meant(text: &str, names: &dyn Fn(&str) -> Vec<String>) -> Option<String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let mut before = String::new();
    let mut rest = path.trim_end_matches('/');
    loop {
        let (name, behind) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_literal(name) {
            return None;
        }
        let there = names(&before);
        if !there.iter().any(|known| known == name) {
            let near = nearest(name, there.iter().map(String::as_str))?;
            return Some(format!("{before}{near}{}", &path[before.len() + name.len()..]));
        }
        before.push_str(name);
        if behind.is_empty() {
            return (!path.ends_with('/')).then(|| format!("{before}/"));
        }
        before.push('/');
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let names = |folder: &str| match folder {
            "" => vec!["crates".to_owned(), "README.md".to_owned()],
            "crates/" => vec!["core".to_owned(), "cli".to_owned()],
            _ => Vec::new(),
        };
        assert_eq!(meant(text, &names).as_deref(), expected, "{text}");
    }

    #[test]
    fn the_first_name_that_leads_nowhere_is_replaced() {
        check("crate/**", Some("crates/**"));
        check("./crates/cor/src/*.rs", Some("crates/core/src/*.rs"));
        check("crates/cor/", Some("crates/core/"));
        check("crates/frontend/**", None);
        check("**/*.py", None);
    }

    #[test]
    fn a_new_file_may_be_called_like_an_old_one_and_a_folder_is_asked_about() {
        let check = |text: &str, near: &str, expected: bool| assert_eq!(is_of_a_folder(text, near), expected, "{text}");
        check("scr/**", "src/**", true);
        check("./scr/", "src/", true);
        check("src/test_b.py", "src/test_a.py", false);
        check("crates", "crates/", false);
        check("READMA.md", "README.md", false);
    }

    #[test]
    fn a_folder_that_was_written_like_a_file_gets_its_slash() {
        check("crates", Some("crates/"));
        check("crates/", None);
        check("crates/*.py", None);
    }
}
