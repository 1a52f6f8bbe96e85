//! Folders of the person's own that tasks of a plan may write. None holds a repository when a run begins, or the run is refused; one
//! that a task makes there is settled when the command that ran it ends, as `swarm sandbox` does ([`settled`]), and that command's exit
//! code is no 0 where something was put aside. What of them git obeys since a repository around them names it is named where it changed.
//! Where that command is killed, the next one settles it ([`unsettled`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use swarm_orchestrator::journal::{JournalReader, RunRow};
use swarm_orchestrator::policy::{Host, paths, word};
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::resume::plan_of;
use swarm_plans::{Plan, SandboxPolicy};

use crate::commands::failure::{Failure, state_hint};
use crate::commands::obeyed_files::ObeyedFiles;
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::repositories::Repositories;
use crate::commands::settling::{Left, settled};
use crate::commands::surroundings::{Surroundings, host};
use crate::commands::unsettled::{self, Note};

/// Folders that tasks may write, outermost ones only, each with what it held before. Whatever command was killed before has been
/// settled by then.
#[derive(Debug)]
pub struct Written {
    folders: Vec<(OpenedFolder, Repositories, ObeyedFiles)>,
    /// That nobody has looked at them yet; `None` where there are none.
    note: Option<Note>,
    /// What the killed ones left.
    earlier: Left,
}

impl Written {
    /// Those of the policies that a plan uses.
    ///
    /// # Errors
    /// As [`Written::of`].
    pub fn before(plan: &Plan, it: &Surroundings) -> Result<Written, Failure> {
        let host = host()?;
        Written::of(|| word::used_policies(plan).flat_map(|(_, policy)| folders(policy, &host)).collect(), it)
    }

    /// Those of a policy outside of a folder that is settled for itself, where it is.
    ///
    /// # Errors
    /// As [`Written::of`].
    pub fn elsewhere(policy: &SandboxPolicy, settled: Option<&Path>, it: &Surroundings) -> Result<Written, Failure> {
        let host = host()?;
        let outside = |folder: &PathBuf| settled.is_none_or(|settled| !folder.starts_with(settled));
        Written::of(|| folders(policy, &host).filter(outside).collect(), it)
    }

    /// Those of a run that was begun before, as its plan names them.
    ///
    /// # Errors
    /// The journal has no such plan; those of [`Written::of`].
    pub fn of_run(journal: &JournalReader, row: &RunRow, it: &Surroundings) -> Result<Written, Failure> {
        Written::before(plan_of(journal, row)?.graph.plan(), it)
    }

    /// These, canonical, as they are found behind what killed commands left. One that cannot be looked through is not among them: no
    /// command begins that would open it.
    ///
    /// # Errors
    /// The state folder cannot be written, or nobody reads what is said.
    pub fn of(folders: impl FnOnce() -> BTreeSet<PathBuf>, it: &Surroundings) -> Result<Written, Failure> {
        let state = it.state_or_own()?;
        let earlier = unsettled::settle(&state, it)?;
        let folders = folders();
        let outermost =
            folders.iter().filter(|folder| !folder.ancestors().skip(1).any(|above| folders.contains(above)));
        let opened = outermost.filter_map(|folder| OpenedFolder::open(folder).ok());
        let host = host()?;
        let looked_through = opened.filter_map(|folder| {
            let before = Repositories::below(&folder).ok()?;
            let obeyed = ObeyedFiles::before(folder.path(), &before, &host);
            Some((folder, before, obeyed))
        });
        let folders: Vec<_> = looked_through.collect();
        let unnoted = |error| {
            let message = format!("note in {} which folders tasks may write: {error}", state.display());
            Failure::environment(message, state_hint(&state))
        };
        let note = match folders.is_empty() {
            true => None,
            false => Some(Note::of(&state, folders.iter().map(|(folder, ..)| folder)).map_err(unnoted)?),
        };
        Ok(Written { folders, note, earlier })
    }

    /// Settles what is new in each, and says so.
    ///
    /// # Errors
    /// Nobody reads what it says; all is settled then.
    pub fn settle(self, it: &Surroundings) -> Result<Left, Failure> {
        let (mut all, mut left) = (Vec::new(), self.earlier);
        for (folder, before, obeyed) in &self.folders {
            let place = sanitize::name(&folder.path().to_string_lossy());
            let (lines, here) = settled(folder, before);
            let lines = lines.into_iter().chain(obeyed.changed());
            all.extend(lines.map(|line| format!("swarm: in {place}: {line}\n")));
            left = left.and(here);
        }
        if let Some(note) = self.note {
            note.settled();
        }
        all.iter().try_for_each(|line| it.err.write(line))?;
        Ok(left)
    }
}

/// The folders that a policy lets be written, canonical.
fn folders(policy: &SandboxPolicy, host: &Host) -> impl Iterator<Item = PathBuf> {
    policy.write.iter().filter_map(|text| paths::expand_home(text, &host.home).canonicalize().ok())
}
