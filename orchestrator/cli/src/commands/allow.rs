//! A person's word on the command line: what a plan asks for and may not say on its own, allowed or shown.

use swarm_orchestrator::policy::{Ask, Host, Looked, Places, View, Word, word};
use swarm_orchestrator::report::exit;
use swarm_orchestrator::settings::{HostNetwork, Settings};
use swarm_plans::{Allowance, Plan, SourceFile};

use crate::commands::failure::Failure;
use crate::commands::plan_file::place_of;
use crate::commands::run::plain_settings;
use crate::commands::surroundings::Surroundings;

/// What a person lets a plan ask for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Allow {
    /// Lets the plan have what is not its own to say: env=NAME, read=PATH, write=PATH or network=HOST; may be given several
    /// times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = Allowance::parse)]
    pub allow: Vec<Allowance>,
}

impl Allow {
    /// With what the configuration allows for the repository around, or for the folder where there is none.
    ///
    /// # Errors
    /// The configuration has mistakes, or the caller has no home folder.
    pub fn word(&self, network: HostNetwork, it: &Surroundings) -> Result<Word, Failure> {
        let settings = Settings { allowed: self.allow.clone(), host_network: network, ..plain_settings(it)? };
        let place = it.repository().map_or_else(|_| it.folder.clone(), |repository| repository.place().to_owned());
        Ok(settings.word(&place))
    }
}

/// What nobody allowed of all that a plan asks for.
///
/// # Errors
/// As of [`Allow::word`].
pub fn missing(plan: &Plan, word: &Word, host: &Host, it: &Surroundings) -> Vec<Ask> {
    let repository = it.repository().ok();
    let state = repository.as_ref().map(|repository| it.state_of(repository));
    let places = match (&repository, &state) {
        (Some(repository), Some(state)) => Places { worktree: repository.place(), git: repository.common_dir(), state },
        _ => Places::nowhere(),
    };
    word.missing_of_plan(plan, |_| true, View { host, places, looked: &Looked::default() })
}

/// Asks in lines, each with its place in the plan and its flag.
pub fn lines(asks: &[Ask], sources: &[SourceFile]) -> String {
    let line = |ask: &Ask| {
        let place = ask.policy.as_deref().and_then(|policy| place_of(sources, (policy, ask.key, Some(&ask.value))));
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        format!("    {place}{ask}\n        {}\n", ask.flag())
    };
    asks.iter().map(line).collect()
}

/// The failure of a command whose plan asks for what nobody allowed.
pub fn refused(asks: &[Ask], sources: &[SourceFile]) -> Failure {
    let message = format!("give the plan what only a person can allow:\n{}", lines(asks, sources).trim_end());
    Failure::Told { code: exit::USAGE, message, hint: Some(word::hint(asks)) }
}
