//! What a run is asked for beside its plan: flags and the caller's surroundings, captured once by the command line. Parts
//! are passed on, never the whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_plans::{Allowance, Answers, Budget, UserConfig};

use crate::clock::Clock;
use crate::dispatcher::core::{FailFast, ReuseResults};
use crate::egress::Resolver;
use crate::lent::Lent;
use crate::model::broker::accounts::Spent;
use crate::model::budget::NanoUsd;
use crate::policy::paths::expand_home;
use crate::policy::word::Given;
use crate::policy::{Host, Word};
use crate::repository::Identity;

/// Milliseconds that cancelled or timed-out work gets between SIGTERM and SIGKILL.
pub const GRACE_MS: u64 = 10_000;

/// Everything a run is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder in the repository.
    pub repository: PathBuf,
    /// The state folder; `None` is `<git common dir>/swarm`.
    pub state_dir: Option<PathBuf>,
    /// Workers at once; `None` takes the plan's, then the machine's number of cores.
    pub jobs: Option<usize>,
    /// The machine's number of cores.
    pub cores: usize,
    /// The target branch.
    pub into: IntoBranch,
    /// Whether the first failure ends the run.
    pub fail_fast: FailFast,
    /// Whether plans may use the host's network.
    pub host_network: HostNetwork,
    /// What else the person at the command line lets plans ask for.
    pub allowed: Vec<Allowance>,
    /// Whether a plan's models may reach further than their providers' own places.
    pub plan_models: PlanModels,
    /// The person's own models.
    pub user: UserConfig,
    /// Whether answers of models are kept, or come from a folder.
    pub tape: TapeAt,
    /// What the run may spend on models, in place of the plan's `[budget]`.
    pub budget: BudgetAsked,
    /// How long the run may go on from now, in place of the plan's `deadline`.
    pub deadline: Option<Duration>,
    /// Whether tasks that allow it take results of earlier runs.
    pub reuse: ReuseResults,
    /// How often a task runs whose result may be reused, to be compared with itself; 1 compares nothing.
    pub repeats: u32,
    /// The plan that a model writes in this run; `None` for any other run.
    pub writing: Option<Writing>,
    /// The caller's surroundings.
    pub host: Host,
    /// Who knows the addresses of hosts that policies let through.
    pub resolver: Resolver,
    /// Where time comes from.
    pub clock: Clock,
    /// The program that is started as `__worker`.
    pub worker: PathBuf,
}

/// The branch that receives a run's work, where its plan has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntoBranch {
    /// The plan's.
    Planned,
    /// This one, without `refs/heads/`.
    Branch(String),
    /// `swarm/` and the run's id, which is nobody else's.
    OfRun,
}

/// What decides a run beside its plan and its surroundings; kept in the journal, so that whoever resumes the run asks for
/// the same. The plan's `--set` values and the target are kept with the run itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Asked {
    /// Workers at once; `None` takes the plan's, then the machine's.
    pub jobs: Option<usize>,
    /// Whether the first failure ends the run.
    pub fail_fast: FailFast,
    /// Whether plans may use the host's network.
    pub host_network: HostNetwork,
    /// What else the person at the command line let the plan ask for, as `--allow` takes it.
    pub allowed: Vec<String>,
    /// Whether a plan's models may reach further than their providers' own places.
    pub plan_models: PlanModels,
    /// Whether answers of models are kept, or come from a folder.
    pub tape: TapeAt,
    /// What the run may spend on models, in place of the plan's `[budget]`.
    pub budget: BudgetAsked,
    /// How long each coordinator of the run may go on, in place of the plan's `deadline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Whether tasks that allow it take results of earlier runs.
    pub reuse: ReuseResults,
    /// The plan that a model writes in this run; `None` for any other run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writing: Option<Writing>,
    /// Seconds since the Unix epoch for every commit, from `SOURCE_DATE_EPOCH`; `None` takes the run's start.
    pub commit_epoch_s: Option<i64>,
    /// What the person's checkout and environment lent to the run as it began; `None` where an older swarm began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lent: Option<Lent>,
    /// Who its commits are by, whoever goes on with it; `None` where an older swarm began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<Identity>,
}

impl Settings {
    /// The part that the journal keeps.
    pub fn asked(&self) -> Asked {
        Asked {
            jobs: self.jobs,
            fail_fast: self.fail_fast,
            host_network: self.host_network,
            allowed: self.allowed.iter().map(Allowance::to_string).collect(),
            plan_models: self.plan_models,
            tape: self.tape.clone(),
            budget: self.budget,
            deadline: self.deadline,
            reuse: self.reuse,
            writing: self.writing.clone(),
            commit_epoch_s: self.clock.commit_epoch_s,
            lent: None,
            signer: None,
        }
    }

    /// Asks for what the journal kept. Workers, a budget and a deadline that are asked for now stand: the machine may be a busier one, and
    /// it is how a run goes on whose budget or time is spent.
    pub fn ask(&mut self, asked: &Asked) {
        self.jobs = self.jobs.or(asked.jobs);
        self.fail_fast = asked.fail_fast;
        self.host_network = asked.host_network;
        self.allowed = asked.allowances();
        self.plan_models = asked.plan_models;
        self.tape = asked.tape.clone();
        self.budget.usd = self.budget.usd.or(asked.budget.usd);
        self.budget.tokens = self.budget.tokens.or(asked.budget.tokens);
        self.budget.time = self.budget.time.or(asked.budget.time);
        self.deadline = self.deadline.or(asked.deadline);
        self.reuse = asked.reuse;
        self.writing.clone_from(&asked.writing);
        self.clock.commit_epoch_s = asked.commit_epoch_s;
    }
}

/// A plan that a model writes: what for, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Writing {
    /// What is to be done, in a person's words.
    pub goal: String,
    /// The model that writes it, as the person names it.
    pub model: String,
    /// The file that it goes into, absolute; `None` is stdout.
    pub file: Option<PathBuf>,
    /// What becomes of a file that is there.
    pub present: Present,
}

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Present {
    /// It stays as it is.
    #[default]
    Kept,
    /// The person said that it may be replaced.
    Replaced,
}

impl Settings {
    /// What a person lets the plans of the repository at `place` ask for: on the command line, and in the configuration.
    pub fn word(&self, place: &Path) -> Word {
        word(self.host_network, self.allowed.clone(), &self.user, &self.host.home, place)
    }
}

impl Asked {
    /// What the person who began the run let its plan ask for, and what the configuration of today does.
    pub fn word(&self, user: &UserConfig, home: &Path, place: &Path) -> Word {
        word(self.host_network, self.allowances(), user, home, place)
    }

    /// What cannot be read is not allowed.
    fn allowances(&self) -> Vec<Allowance> {
        self.allowed.iter().filter_map(|text| Allowance::parse(text).ok()).collect()
    }
}

fn word(network: HostNetwork, mut allowed: Vec<Allowance>, user: &UserConfig, home: &Path, place: &Path) -> Word {
    for entry in &user.allowed {
        let around = expand_home(&entry.repository, home).canonicalize();
        if around.is_ok_and(|around| place.starts_with(around)) {
            allowed.extend(entry.allowances.iter().cloned());
        }
    }
    Word { network, given: Given::These(allowed) }
}

/// Whether the models of a plan may reach further than their providers' own places with their providers' own keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanModels {
    /// A plan that asks for more is refused.
    #[default]
    Bounded,
    /// The person at the command line said so.
    Trusted,
}

/// What a run may spend, from the command line; `None` leaves the plan's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct BudgetAsked {
    /// Money.
    pub usd: Option<NanoUsd>,
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Time of models, all calls together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
}

impl BudgetAsked {
    /// The plan's budget with what was asked for.
    pub fn over(self, plan: &Budget) -> Budget {
        Budget {
            usd: self.usd.map(NanoUsd::usd).or(plan.usd),
            tokens: self.tokens.or(plan.tokens),
            time: self.time.or(plan.time),
        }
    }

    /// A budget with at least what was asked for; what it does not bound stays without a bound.
    pub fn raising(self, budget: &Budget) -> Budget {
        let usd = budget.usd.map(|has| self.usd.map_or(has, |asked| has.max(asked.usd())));
        let tokens = budget.tokens.map(|has| self.tokens.map_or(has, |asked| has.max(asked)));
        let time = budget.time.map(|has| self.time.map_or(has, |asked| has.max(asked)));
        Budget { usd, tokens, time }
    }

    /// What is left of it behind what was spent; nothing, where more was. What was not asked for stays so.
    pub fn less(self, spent: &Spent) -> BudgetAsked {
        BudgetAsked {
            usd: self.usd.map(|usd| NanoUsd(usd.0.saturating_sub(spent.amount.usd.0))),
            tokens: self.tokens.map(|tokens| tokens.saturating_sub(spent.amount.tokens)),
            time: self.time.map(|time| time.saturating_sub(Duration::from_millis(spent.time_ms))),
        }
    }

    /// Whether anything was asked for.
    pub fn is_any(self) -> bool {
        self != BudgetAsked::default()
    }
}

/// Whether answers of models are kept, or come from a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TapeAt {
    /// Neither.
    #[default]
    Off,
    /// Kept in this folder; absolute.
    Record(PathBuf),
    /// Taken from this folder; absolute.
    Replay(PathBuf),
}

impl TapeAt {
    /// The same in a folder below.
    pub fn below(&self, folder: &str) -> TapeAt {
        match self {
            TapeAt::Off => TapeAt::Off,
            TapeAt::Record(at) => TapeAt::Record(at.join(folder)),
            TapeAt::Replay(at) => TapeAt::Replay(at.join(folder)),
        }
    }

    /// Who answers in place of models.
    pub fn answers(&self) -> Answers {
        match self {
            TapeAt::Off | TapeAt::Record(_) => Answers::Asked,
            TapeAt::Replay(_) => Answers::Recorded,
        }
    }
}

/// Whether plans may use the host's network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostNetwork {
    /// A policy that asks for it is refused.
    #[default]
    Refused,
    /// The person at the command line said so.
    Allowed,
}
