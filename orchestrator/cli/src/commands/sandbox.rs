//! `swarm sandbox -- CMD`: the cage alone, around the current folder. No repository, no worktree, no journal.
//!
//! The folder is the user's own, so what the command writes is there afterwards. Every repository in it stays read-only and
//! where it is, because the user's next `git status` would run what a changed one says; where the tier cannot keep it so, it is
//! refused. A repository that the command makes can only be judged when it has ended: a program that runs git there meanwhile
//! (a prompt, an editor) is not protected from it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use swarm_orchestrator::policy::on_path::OnPath;
use swarm_orchestrator::policy::reason::Reason;
use swarm_orchestrator::policy::{self, Cage, Looked, Offer, Places, PolicyError, View};
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::secrets::Secrets;
use swarm_orchestrator::settings::HostNetwork;
use swarm_orchestrator::state;
use swarm_plans::{DEFAULT_SANDBOX, Network, SandboxPolicy};
use swarm_protocol::{Access, Grant, Question, SandboxSpec, Tier, WorktreeSpec};

use crate::commands::allow::{self, Allow};
use crate::commands::caged::{self, Scratch, Waiting};
use crate::commands::failure::Failure;
use crate::commands::hard_links;
use crate::commands::no_input;
use crate::commands::obeyed_files::ObeyedFiles;
use crate::commands::opened_folder::OpenedFolder;
use crate::commands::passed_on::{PassedOn, Passing};
use crate::commands::plan_file::PlanFile;
use crate::commands::probing::Probing;
use crate::commands::repositories::Repositories;
use crate::commands::settling::{Left, settle_new};
use crate::commands::surroundings::{Surroundings, host};
use crate::commands::written::Written;

/// Runs one command in a cage around the current folder, and passes its exit status on.
///
/// The command may write the current folder and nothing else; every .git in it stays read-only and in its place. A repository
/// that it makes is put aside when git would run something for it. Without --plan it gets the default policy.
/// It reads nothing: its standard input is /dev/null. On a terminal, what it prints is shown without control sequences.
#[derive(Debug, clap::Args)]
pub struct Sandbox {
    /// The current folder is read-only, too.
    #[arg(long)]
    ro: bool,
    /// Passes on what it prints as it is, also to a terminal, which obeys control sequences.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    pub chosen: Chosen,
    /// The program and its arguments.
    #[arg(value_name = "CMD", required = true, num_args = 1.., last = true)]
    command: Vec<OsString>,
}

/// A policy from the command line.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// The plan that holds the policy.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// A [sandbox.NAME] of that plan [default: default].
    #[arg(long, value_name = "NAME", requires = "plan")]
    policy: Option<String>,
    /// What it may reach: nothing, or the host's whole network.
    #[arg(long, value_name = "WHAT", value_enum)]
    network: Option<Reach>,
    #[command(flatten)]
    allow: Allow,
}

/// What may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Reach {
    /// Its own loopback, or nothing.
    None,
    /// The host's network.
    Host,
}

impl Chosen {
    /// The policy and its name.
    ///
    /// # Errors
    /// The plan has mistakes, or no such policy.
    pub fn policy(&self, it: &Surroundings) -> Result<(String, SandboxPolicy), Failure> {
        let name = self.policy.clone().unwrap_or_else(|| DEFAULT_SANDBOX.to_owned());
        let mut policy = match &self.plan {
            None => SandboxPolicy::default(),
            Some(plan) => of_plan(plan, &name, it)?,
        };
        match self.network {
            None => {}
            Some(Reach::None) => policy.network = Network::None,
            Some(Reach::Host) => policy.network = Network::Host,
        }
        Ok((name, policy))
    }

    /// Whether the person at the command line allows the host's network.
    pub fn host_network(&self) -> HostNetwork {
        if self.network == Some(Reach::Host) { HostNetwork::Allowed } else { HostNetwork::Refused }
    }
}

/// A policy by its name.
fn of_plan(plan: &Path, name: &str, it: &Surroundings) -> Result<SandboxPolicy, Failure> {
    let (graph, _) = PlanFile { plan: plan.to_owned(), sets: Vec::new(), only: Vec::new() }.load(it)?;
    let known = &graph.plan().sandboxes;
    known.get(name).cloned().ok_or_else(|| {
        let names = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Failure::usage(format!("find [sandbox.{name}] in {}", plan.display()), format!("it has {names}"))
    })
}

/// A policy of a plan or of what it includes, as TOML text; empty for a default policy that is written nowhere.
///
/// # Errors
/// The plan has mistakes, or no such policy.
pub fn policy_text(plan: &Path, name: &str, it: &Surroundings) -> Result<String, Failure> {
    of_plan(plan, name, it)?;
    let (_, sources) = PlanFile { plan: plan.to_owned(), sets: Vec::new(), only: Vec::new() }.load(it)?;
    let tables = sources.iter().filter_map(|source| source.text.parse::<toml::Table>().ok());
    let policy = tables.into_iter().find_map(|table| table.get("sandbox")?.get(name).cloned());
    let Some(policy) = policy else { return Ok(String::new()) };
    let inner = toml::Table::from_iter([(name.to_owned(), policy)]);
    let outer = toml::Table::from_iter([("sandbox".to_owned(), toml::Value::Table(inner))]);
    Ok(outer.to_string())
}

/// The command's output and its exit status.
///
/// # Errors
/// The command cannot be caged, or something of ours failed.
pub fn run(args: &Sandbox, it: &Surroundings) -> Result<u8, Failure> {
    let (name, policy) = args.chosen.policy(it)?;
    if matches!(policy.network, Network::Hosts(_)) {
        let hint = "swarm exec --plan FILE --policy NAME runs the proxy, or say --network none".to_owned();
        return Err(Failure::usage(format!("open the hosts of [sandbox.{name}]: the cage alone has no proxy"), hint));
    }
    let folder =
        it.folder.canonicalize().map_err(|error| Failure::environment(format!("find the folder: {error}"), None))?;
    let opened = OpenedFolder::open(&folder)
        .map_err(|error| Failure::environment(format!("open {}: {error}", folder.display()), None))?;
    let scratch = Scratch::temporary()?;
    let probing = Probing::begin(Question::Strongest, scratch.path())?;
    let word = args.chosen.allow.word(args.chosen.host_network(), it)?;
    let (host, access) = (host()?, if args.ro { Access::Read } else { Access::Write });
    let view = View { host: &host, places: Places::nowhere(), looked: &Looked::default() };
    judge(&folder, access, view)?;
    let worker = Waiting::begin()?;
    let git = folder.join(".git");
    let within = View { places: places(&folder, &git, &scratch), ..view };
    policy::look_ahead(&name, &policy, within, word.clone());
    let machine = probing.machine()?;
    machine.check(&name, &policy).map_err(|error| Failure::environment(error, None))?;
    // Without a worktree of our own nothing can be shown copy-on-write; what should be so is read-only.
    let offer = Offer { overlay: false, ..machine.offer(word) };
    let cage = resolve((&name, &policy), within, offer)?;
    for warning in machine.notes.iter().chain(&cage.warnings) {
        it.err.write(&format!("swarm: {}\n", sanitize::name(warning)))?;
    }
    let before = if args.ro { Repositories::default() } else { Repositories::below(&opened)? };
    if !args.ro {
        hard_links::say(&folder, it)?;
        say_path(&folder, view, it)?;
    }
    let obeyed = (!args.ro).then(|| ObeyedFiles::before(&folder, &before, &host));
    let elsewhere = Written::elsewhere(&policy, Some(&*folder).filter(|_| !args.ro), it)?;
    let sandbox = around(&folder, args.ro, &before, &cage, &scratch, it)?;
    let secrets = Secrets::new(cage.secrets());
    let mut passed_on = PassedOn::new(Passing::of(args.raw), it);
    let ran = worker.run(caged::utf8(&args.command)?, folder.clone(), sandbox, &secrets, &mut |stream, bytes| {
        passed_on.hear(stream, &bytes)
    });
    // Whatever became of the command, and whether anybody reads what it says: what it left is looked at.
    let finished = passed_on.finish();
    let left = if args.ro { Ok(Left::Nothing) } else { settle_new(&opened, &before, it) };
    let left_elsewhere = elsewhere.settle(it);
    let changed = obeyed.and_then(|obeyed| obeyed.changed());
    let told = changed.map_or(Ok(()), |line| it.err.write(&format!("swarm: {line}\n")));
    finished.and(told)?;
    no_input::say(&args.command, it)?;
    Ok(left?.and(left_elsewhere?).exit(caged::conclude(&ran?, &cage, it)?))
}

/// Judges the folder itself as a policy's path would be; it lies in no repository of ours.
///
/// # Errors
/// It is one that no cage may have.
pub fn judge(folder: &Path, access: Access, view: View<'_>) -> Result<(), Failure> {
    let guard = view.guard();
    guard.current_folder(folder, access).map_err(|reason| {
        let marker = folder.ancestors().map(|above| above.join(state::MARKER)).find(|marker| marker.is_file());
        let hint = match (reason, marker, guard.current_folder(folder, Access::Read)) {
            (Reason::State, Some(marker), _) => format!(
                "go to another folder; what makes it state is {0}: where no swarm made that, rm {0}",
                sanitize::shell_word(&marker.to_string_lossy())
            ),
            (_, _, Ok(())) => "go to another folder, or use --ro".to_owned(),
            (_, _, Err(_)) => "go to another folder".to_owned(),
        };
        Failure::usage(format!("open {} to the command: {reason}", folder.display()), hint)
    })
}

/// Says where the folder holds what its owner runs by typing its name: a project with its own programs is what a command is there
/// for, and what it makes of them is not looked at by anybody.
fn say_path(folder: &Path, view: View<'_>, it: &Surroundings) -> Result<(), Failure> {
    let what = match view.programs().lies(folder) {
        OnPath::Holds(on) => format!("{} is on your PATH", sanitize::name(&on.to_string_lossy())),
        OnPath::Leads(link) => format!("{}, on your PATH, leads here", sanitize::name(&link.to_string_lossy())),
        OnPath::In | OnPath::Beside => return Ok(()),
    };
    it.err.write(&format!("swarm: {what}: what the command writes there runs when you type its name\n"))
}

/// What no policy may expose of a folder that is no worktree of ours, with its `.git`, and of a scratch folder.
pub fn places<'a>(folder: &'a Path, git: &'a Path, scratch: &'a Scratch) -> Places<'a> {
    Places { worktree: folder, git, state: scratch.path() }
}

/// A policy resolved for a folder that is no worktree of ours, and that [`judge`] lets pass; the view is of its [`places`].
///
/// # Errors
/// The policy is one that no cage may have.
pub fn resolve((name, policy): (&str, &SandboxPolicy), view: View<'_>, offer: Offer) -> Result<Cage, Failure> {
    policy::resolve(name, policy, view, offer).map_err(|error| match error {
        PolicyError::Word { asks } => allow::refused(&asks, &[]),
        error => Failure::environment(error, None),
    })
}

/// The cage around a folder of the user's, in which repositories stay as they are.
fn around(
    folder: &Path,
    read_only: bool,
    repositories: &Repositories,
    cage: &Cage,
    scratch: &Scratch,
    it: &Surroundings,
) -> Result<SandboxSpec, Failure> {
    let read = |path: &Path| Grant { path: path.to_owned(), at: path.to_owned(), access: Access::Read };
    let tree = if read_only { scratch.folder("tree")? } else { folder.to_owned() };
    let mut spec = caged::spec(cage, WorktreeSpec::Directory { at: tree.clone(), path: tree }, scratch)?;
    if read_only {
        spec.grants.insert(0, read(folder));
        caged::hide_states(&mut spec, folder, it)?;
        return Ok(spec);
    }
    let open = |part: &Path, hint: &str| {
        let part = sanitize::name(&part.strip_prefix(folder).unwrap_or(part).to_string_lossy());
        let message = format!("open {} to the command: its {part} would be writable, too", folder.display());
        Err(Failure::environment(message, hint.to_owned()))
    };
    if let (Some(first), Tier::Landlock) = (repositories.parts().next(), cage.tier()) {
        return open(&first, "this machine offers the landlock tier only; use --ro, or swarm exec");
    }
    if let (Some(first), Tier::Landlock) = (repositories.states().next(), cage.tier()) {
        let marker = sanitize::shell_word(&first.join(state::MARKER).to_string_lossy());
        let hint = format!(
            "this machine offers the landlock tier only, which hides no state folder; use swarm exec, or where no swarm made it, \
             rm {marker}"
        );
        return open(&first, &hint);
    }
    // A mount covers what a link leads to, and leaves the link itself to be replaced.
    if let Some(link) = repositories.parts().find(|part| part.is_symlink()) {
        return open(&link, "it is a link, which no cage keeps as it is; use --ro, or swarm exec");
    }
    let states: Vec<PathBuf> = repositories.states().collect();
    caged::say_hidden(&states, folder, it)?;
    spec.hide.extend(states);
    caged::hide_state(&mut spec, folder, it);
    spec.grants.extend(repositories.parts().map(|part| read(&part)));
    // A mount cannot be renamed, and what is renamed would take a mount below it along. What is hidden is a mount already.
    let ways = repositories.ways().into_iter().filter(|way| !spec.hide.iter().any(|hidden| way.starts_with(hidden)));
    spec.grants.extend(ways.map(|way| Grant { path: way.clone(), at: way, access: Access::Write }).collect::<Vec<_>>());
    Ok(spec)
}
