//! Folders of the person's own that tasks of a plan may write. None holds a repository when a run begins, or the run is refused; one
//! that a task makes there is settled when the command that ran it ends, as `swarm sandbox` does ([`settled`]), and that command's exit
//! code is no 0 where something was put aside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use swarm_orchestrator::journal::{JournalReader, RunRow};
use swarm_orchestrator::policy::{Host, paths, word};
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::resume::plan_of;
use swarm_plans::{Plan, SandboxPolicy};

use crate::commands::failure::Failure;
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::repositories::Repositories;
use crate::commands::settling::{Left, settled};
use crate::commands::surroundings::{Surroundings, host};

/// Folders that tasks may write, outermost ones only, each with what it held before.
#[derive(Debug, Default)]
pub struct Written(Vec<(OpenedFolder, Repositories)>);

impl Written {
    /// Those of the policies that a plan uses.
    pub fn before(plan: &Plan, host: &Host) -> Written {
        Written::of(word::used_policies(plan).flat_map(|(_, policy)| folders(policy, host)).collect())
    }

    /// Those of a policy outside of a folder that is settled for itself, where it is.
    pub fn elsewhere(policy: &SandboxPolicy, settled: Option<&Path>, host: &Host) -> Written {
        let outside = |folder: &PathBuf| settled.is_none_or(|settled| !folder.starts_with(settled));
        Written::of(folders(policy, host).filter(outside).collect())
    }

    /// Those of a run that was begun before, as its plan names them.
    ///
    /// # Errors
    /// The journal has no such plan.
    pub fn of_run(journal: &JournalReader, row: &RunRow) -> Result<Written, Failure> {
        Ok(Written::before(plan_of(journal, row)?.graph.plan(), &host()?))
    }

    /// These, canonical. One that cannot be looked through is not among them: no command begins that would open it.
    pub fn of(folders: BTreeSet<PathBuf>) -> Written {
        let outermost =
            folders.iter().filter(|folder| !folder.ancestors().skip(1).any(|above| folders.contains(above)));
        let opened = outermost.filter_map(|folder| OpenedFolder::open(folder).ok());
        Written(opened.filter_map(|folder| Repositories::below(&folder).ok().map(|before| (folder, before))).collect())
    }

    /// Settles what is new in each, and says so.
    ///
    /// # Errors
    /// Nobody reads what it says; all is settled then.
    pub fn settle(&self, it: &Surroundings) -> Result<Left, Failure> {
        let (mut all, mut left) = (Vec::new(), Left::Nothing);
        for (folder, before) in &self.0 {
            let place = sanitize::name(&folder.path().to_string_lossy());
            let (lines, here) = settled(folder, before);
            all.extend(lines.into_iter().map(|line| format!("swarm: in {place}: {line}\n")));
            left = left.and(here);
        }
        all.iter().try_for_each(|line| it.err.write(line))?;
        Ok(left)
    }
}

/// The folders that a policy lets be written, canonical.
fn folders(policy: &SandboxPolicy, host: &Host) -> impl Iterator<Item = PathBuf> {
    policy.write.iter().filter_map(|text| paths::expand_home(text, &host.home).canonicalize().ok())
}
