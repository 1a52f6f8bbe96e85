//! What earlier runs found of trees that the gate would look at: which of their verdicts count, and what they stand on.
//!
//! A verdict is remembered as long as nothing changed that is known to decide it: the tree, the command and its policy, the untracked
//! files under every worktree, the programs that the command begins with, and what `fingerprint` prints. Whoever says
//! `--no-cache` asks anew, and remembers what this run itself found out.

use swarm_protocol::causes::causes;

use super::{RunError, Stage};
use crate::dispatcher::core::ReuseResults;
use crate::executor::{Executor, programs};
use crate::journal::JournalReader;

impl Stage<'_> {
    /// Lets the gate remember what counts. Gives what a person should know of it.
    pub(super) async fn recall(&self, executor: &mut Executor) -> Result<Vec<String>, RunError> {
        let (Some(verify), true) = (&self.plan.merge.verify, executor.gate.is_some()) else { return Ok(vec![]) };
        let printed = executor.verify_fingerprint(verify).await;
        let whole = executor.trees.whole();
        let Some(gate) = &mut executor.gate else { return Ok(vec![]) };
        let argv = &gate.command().argv;
        let mut stands_on = programs::identities(argv, executor.cages[&verify.sandbox].program_path());
        let mut notes = Vec::new();
        match printed {
            Ok(printed) => stands_on.extend(printed),
            Err(error) => {
                // No other run has this name: nothing is remembered from them, and they remember nothing from here.
                stands_on.push(self.journal.run().0.clone());
                let reason = causes(&error);
                let reason = reason.lines().map(str::trim).collect::<Vec<_>>().join("; ");
                notes.push(format!("no verdict of earlier runs counts: the fingerprint of `verify`: {reason}"));
            }
        }
        gate.stand_on(&whole, stands_on);
        let since_ms = match self.settings.reuse {
            ReuseResults::Yes => 0,
            ReuseResults::No => self.started_ms,
        };
        let journal = JournalReader::open(self.state.root())?;
        gate.remember(gate.key(), journal.green_trees(gate.key(), since_ms)?);
        let trees = &executor.trees;
        if let Some(layers) = trees.bases.known_warm(&whole, gate.key()).filter(|_| trees.share_a_path()) {
            let key = gate.warm_up(layers);
            gate.remember(key, journal.green_trees(key, since_ms)?);
        }
        Ok(notes)
    }
}
