//! Folders of the person's own that tasks of a plan may write. None holds a repository when a run begins, or the run is refused; one
//! that a task makes there is settled when the run has ended, as `swarm sandbox` does ([`settled`]).

use std::collections::BTreeSet;
use std::path::PathBuf;

use swarm_orchestrator::policy::{Host, paths, word};
use swarm_orchestrator::report::sanitize;
use swarm_plans::Plan;

use crate::commands::failure::Failure;
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::repositories::Repositories;
use crate::commands::settling::settled;
use crate::commands::surroundings::Surroundings;

/// Folders that tasks may write, outermost ones only, each with what it held before.
#[derive(Debug, Default)]
pub struct Written(Vec<(OpenedFolder, Repositories)>);

impl Written {
    /// Those of the policies that a plan uses. One that cannot be looked through is not among them: no run begins that would open it.
    pub fn before(plan: &Plan, host: &Host) -> Written {
        let texts = word::used_policies(plan).flat_map(|(_, policy)| &policy.write);
        let folders: BTreeSet<PathBuf> =
            texts.filter_map(|text| paths::expand_home(text, &host.home).canonicalize().ok()).collect();
        let outermost =
            folders.iter().filter(|folder| !folder.ancestors().skip(1).any(|above| folders.contains(above)));
        let opened = outermost.filter_map(|folder| OpenedFolder::open(folder).ok());
        Written(opened.filter_map(|folder| Repositories::below(&folder).ok().map(|before| (folder, before))).collect())
    }

    /// Settles what is new in each, and says so.
    ///
    /// # Errors
    /// Nobody reads what it says; all is settled then.
    pub fn settle(&self, it: &Surroundings) -> Result<(), Failure> {
        let all: Vec<String> = self
            .0
            .iter()
            .flat_map(|(folder, before)| {
                let place = sanitize::name(&folder.path().to_string_lossy());
                settled(folder, before).0.into_iter().map(move |line| format!("swarm: in {place}: {line}\n"))
            })
            .collect();
        all.iter().try_for_each(|line| it.err.write(line))
    }
}
