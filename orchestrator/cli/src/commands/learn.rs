//! `swarm learn -- CMD`: the smallest `[sandbox.learned]` under which a command passes.
//!
//! The command runs in a throw-away overlay of the current folder, in the cage that the default policy gives. What the cage is
//! seen to refuse it is added to the policy, by the same rules by which a plan may ask for it, and the command runs again
//! in a fresh overlay, until it passes or nothing more can be allowed. A variable that is missing is refused by nobody: where
//! nothing else is left, the command runs with all variables that hold no credential, and then with fewer and fewer of those. So the policy that is printed is one under which the
//! command *did* pass, and nothing is in it that was not missed. Nothing that a run writes is kept; writes to other places
//! of the host are tried copy-on-write, never on the host. What holds credentials by its name is never shown to a run: whoever
//! wrote the command has not been trusted yet, and a person reads what it missed before giving it.

use std::ffi::OsString;
use std::path::Path;

use swarm_orchestrator::policy::remedy::Origin;
use swarm_orchestrator::policy::{Looked, Places, View, Word, credentials, paths, word};
use swarm_orchestrator::report::{exit, sanitize, words};
use swarm_orchestrator::secrets::Secrets;
use swarm_orchestrator::settings::HostNetwork;
use swarm_orchestrator::worktree::Backend;
use swarm_plans::SandboxPolicy;
use swarm_plans::egress::HostRule;
use swarm_plans::place::quoted;
use swarm_protocol::{Access, Ended, Question, RefusedAct, SeenRefusal, WorktreeSpec};

use crate::commands::caged::{self, Ran, Scratch};
use crate::commands::failure::Failure;
use crate::commands::passed_on::{PassedOn, Passing};
use crate::commands::probing::Probing;
use crate::commands::sandbox;
use crate::commands::surroundings::{Surroundings, host};

/// Finds the smallest policy under which a command passes, in throw-away overlays of the current folder.
///
/// The policy is printed on stdout, ready for a plan. Exit codes: 0 the command passes under it, 1 it fails for another reason.
#[derive(Debug, clap::Args)]
pub struct Learn {
    /// The name that the policy is printed with.
    #[arg(long, value_name = "NAME", default_value = "learned", value_parser = name)]
    name: String,
    /// The program and its arguments.
    #[arg(value_name = "CMD", required = true, num_args = 1.., last = true)]
    command: Vec<OsString>,
}

/// How often the command is run at most. Each run but the last one allows at least one thing more.
const RUNS_MAX: usize = 32;

fn name(text: &str) -> Result<String, String> {
    match swarm_plans::is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(swarm_plans::NAMES.to_owned()),
    }
}

/// The policy on stdout, the story on stderr.
///
/// # Errors
/// This machine has no overlays, or something of ours failed.
pub fn run(args: &Learn, it: &Surroundings) -> Result<u8, Failure> {
    let command = caged::utf8(&args.command)?;
    let mut learned = Learned { name: args.name.clone(), ..Learned::default() };
    let mut passed = false;
    for round in 1..=RUNS_MAX {
        let Once { ran, origin, said, variables } = once(&command, &learned, it)?;
        if matches!(ran.outcome.ended, Ended::Exited { code: 0 }) {
            passed = true;
            break;
        }
        let before = learned.clone();
        let (taken, left): (Vec<_>, Vec<_>) =
            ran.outcome.refusals.iter().partition(|refusal| learned.take(&refusal.act, &origin, &command));
        let told = |refusals: &[&SeenRefusal]| -> Vec<SeenRefusal> {
            refusals.iter().map(|&refusal| stays(refusal.clone())).collect()
        };
        it.err.write(&format!("run {round}: the command {}\n", sanitize::name(&words::ended(&ran.outcome.ended))))?;
        it.err.write(&words::refusals(&origin.seen(&told(&taken)), "    "))?;
        if learned == before {
            if round < RUNS_MAX && learned.take_variables(RUNS_MAX - round, &variables, &command, it)? {
                passed = true;
                break;
            }
            let mut passed_on = PassedOn::new(Passing::Careful, it);
            said.iter().try_for_each(|(stream, bytes)| passed_on.hear(*stream, bytes))?;
            passed_on.finish()?;
            it.err.write(&words::refusals(&origin.seen(&told(&left)), "swarm: "))?;
            it.err.write(
                "swarm: nothing more that a policy could allow was refused; what is left is the command's own\n",
            )?;
            break;
        }
    }
    if !learned.hosts.is_empty() && !passed {
        it.err.write(&format!(
            "swarm: no run of this had a network: what the command needs once it reaches {} is not in the policy; a plan with \
             that `network` tries it: swarm exec --plan FILE --policy {} -- CMD\n",
            sanitize::name(&learned.hosts.join(", ")),
            sanitize::shell_word(&args.name)
        ))?;
    }
    it.out.write(&learned.text(passed))?;
    if !passed {
        let try_it = "hint: it fails for another reason than its policy; without any cage: run it as it is";
        it.err.write(&format!("{try_it}, then swarm learn again\n"))?;
        return Ok(exit::TASK_FAILED);
    }
    let name = sanitize::shell_word(&args.name);
    it.err.write(&format!(
        "hint: paste it into a plan, below `version = 1` and beside its tasks; a task has it with sandbox = \"{name}\", a command with \
         swarm exec --plan PLAN --policy {name} -- CMD\n"
    ))?;
    let given = [("read", &learned.read), ("write", &learned.write)];
    let flags: Vec<String> =
        given.iter().flat_map(|(key, paths)| paths.iter().map(|path| word::flag(key, path))).collect();
    if !flags.is_empty() {
        it.err.write(&format!("hint: no plan may say that alone; a run with it needs {}\n", flags.join(" ")))?;
    }
    Ok(0)
}

/// What is hidden here is swarm's own or holds credentials: no line of a plan is offered that shows it.
fn stays(refusal: SeenRefusal) -> SeenRefusal {
    match refusal.act {
        RefusedAct::Hidden { path, .. } => {
            let act = RefusedAct::Never { what: format!("touching {}, which stays hidden", path.display()) };
            SeenRefusal { act, ..refusal }
        }
        _ => refusal,
    }
}

/// What a run printed, in order.
type Said = Vec<(swarm_protocol::Stream, Vec<u8>)>;

/// The most of a run's output that is kept to be shown, in bytes.
const SAID_BYTES_MAX: usize = 4 << 20;

/// What one run came to.
struct Once {
    ran: Ran,
    origin: Origin,
    said: Said,
    /// Names of the variables that it had.
    variables: Vec<String>,
}

/// One run in a fresh overlay.
fn once(command: &[String], learned: &Learned, it: &Surroundings) -> Result<Once, Failure> {
    let folder =
        it.folder.canonicalize().map_err(|error| Failure::environment(format!("find the folder: {error}"), None))?;
    let scratch = Scratch::in_state(it)?;
    let machine = Probing::begin(Question::Strongest, scratch.path())?.machine()?;
    if machine.backend != Backend::Overlay {
        let hint = "swarm doctor says why; swarm sandbox --ro runs it without writing".to_owned();
        return Err(Failure::environment("learn without overlays, which this machine does not mount", hint));
    }
    let host = host()?;
    let offer = machine.offer(Word::everything(HostNetwork::Refused));
    let policy = learned.policy();
    let view = View { host: &host, places: Places::nowhere(), looked: &Looked::default() };
    sandbox::judge(&folder, Access::Read, view)?;
    let git = folder.join(".git");
    let within = View { places: sandbox::places(&folder, &git, &scratch), ..view };
    let cage = sandbox::resolve((&learned.name, &policy), within, offer)?;
    let worktree = overlay(&folder, &scratch)?;
    let mut spec = caged::spec(&cage, worktree, &scratch)?;
    caged::hide_states(&mut spec, &folder, it)?;
    for cow in &mut spec.cow {
        // The policy counts them by its own numbers; the folders are ours to make.
        for layer in [&cow.upper, &cow.work] {
            scratch.folder(layer.trim_start_matches("./"))?;
        }
        for layer in [&mut cow.upper, &mut cow.work] {
            *layer = layer.trim_start_matches("./").to_owned();
        }
    }
    let variables = spec.env.iter().map(|(name, _)| name.clone()).collect();
    let (mut said, mut bytes_kept) = (Said::new(), 0);
    let ran =
        caged::Waiting::begin()?.run(command.to_vec(), folder, spec, &Secrets::default(), &mut |stream, bytes| {
            if bytes_kept + bytes.len() <= SAID_BYTES_MAX {
                bytes_kept += bytes.len();
                said.push((stream, bytes));
            }
            Ok(())
        })?;
    Ok(Once { ran, origin: cage.origin, said, variables })
}

/// The folder as the lower layer of an overlay that goes with the scratch folder.
fn overlay(folder: &Path, scratch: &Scratch) -> Result<WorktreeSpec, Failure> {
    // Layers are named relative to the scratch folder, in characters that mount options take as they are.
    std::os::unix::fs::symlink(folder, scratch.path().join("lower"))
        .map_err(|error| Failure::environment(format!("use {}: {error}", scratch.path().display()), None))?;
    scratch.folder("upper")?;
    scratch.folder("work")?;
    Ok(WorktreeSpec::Overlay {
        at: folder.to_owned(),
        state: scratch.path().to_owned(),
        lowers: vec!["lower".to_owned()],
        upper: "upper".to_owned(),
        work: "work".to_owned(),
    })
}

/// What was missed so far.
#[derive(Debug, Clone, Default, PartialEq)]
struct Learned {
    name: String,
    read: Vec<String>,
    /// Tried copy-on-write, printed as `write`.
    write: Vec<String>,
    hosts: Vec<String>,
    /// What holds credentials in the above, and stays hidden.
    hide: Vec<String>,
    /// What was missed and is not shown, because it holds credentials or may.
    withheld: Vec<String>,
    /// Variables that it needs.
    env: Vec<String>,
}

impl Learned {
    /// The policy of the next run.
    fn policy(&self) -> SandboxPolicy {
        let (read, cow, hide) = (self.read.clone(), self.write.clone(), self.hide.clone());
        SandboxPolicy { read, cow, hide, env: self.env.clone(), ..SandboxPolicy::default() }
    }

    /// Adds the fewest variables with which the command passes, in at most `runs` runs; whether there are any.
    fn take_variables(
        &mut self,
        mut runs: usize,
        known: &[String],
        command: &[String],
        it: &Surroundings,
    ) -> Result<bool, Failure> {
        let candidate = |(name, value): &(String, String)| {
            !known.contains(name) && !credentials::is_variable(name) && !credentials::is_value(value)
        };
        let all: Vec<String> = host()?.env.into_iter().filter(candidate).map(|(name, _)| name).collect();
        let mut passes = |env: &[String]| {
            let with = Learned { env: env.to_vec(), ..self.clone() };
            let once = once(command, &with, it)?;
            Ok::<bool, Failure>(matches!(once.ran.outcome.ended, Ended::Exited { code: 0 }))
        };
        if all.is_empty() || !passes(&all)? {
            return Ok(false);
        }
        it.err.write(&format!(
            "with all of {} it passes: which of them it needs is tried\n",
            words::count(all.len() as u64, "variable")
        ))?;
        runs -= 1;
        self.env = fewest(all, runs, &mut passes)?;
        Ok(true)
    }

    /// Adds what would allow an act; whether a policy can. Hosts are noted and not opened: that is for a person to say.
    fn take(&mut self, act: &RefusedAct, origin: &Origin, command: &[String]) -> bool {
        let (path, access) = match act {
            RefusedAct::Read { path } => (path, Access::Read),
            RefusedAct::Write { path } => (path, Access::Write),
            RefusedAct::Host { host } => {
                let entry = host_entry(host.as_deref().unwrap_or("HOST"), command);
                if !self.hosts.contains(&entry) {
                    self.hosts.push(entry);
                }
                return false;
            }
            // Which variables a command needs is tried.
            RefusedAct::Hidden { .. }
            | RefusedAct::Limit { .. }
            | RefusedAct::Never { .. }
            | RefusedAct::Unset { .. }
            | RefusedAct::Uncommitted { .. } => return false,
        };
        let Some(entry) = origin.grantable(path, access) else { return false };
        let Some(hidden) = credentials_in(&entry, origin) else {
            if !self.withheld.contains(&entry) {
                self.withheld.push(entry);
            }
            return false;
        };
        // What may be written may be read, and a grant to read in it would take writing away.
        if access == Access::Write {
            self.read.retain(|read| !Path::new(read).starts_with(&entry));
        }
        let list = if access == Access::Write { &mut self.write } else { &mut self.read };
        if list.contains(&entry) {
            return false;
        }
        list.push(entry);
        self.hide.extend(hidden);
        self.hide.sort();
        self.hide.dedup();
        true
    }

    /// The policy as a plan has it.
    fn text(&self, passed: bool) -> String {
        let mut text = String::new();
        if !passed {
            text.push_str("# the command did not pass under this\n");
        }
        text.push_str(&format!("[sandbox.{}]\n", self.name));
        for withheld in &self.withheld {
            text.push_str(&format!("# missed and not shown, it may hold credentials: {withheld:?}\n"));
        }
        let keys = [
            ("read", &self.read),
            ("write", &self.write),
            ("hide", &self.hide),
            ("network", &self.hosts),
            ("env", &self.env),
        ];
        for (key, entries) in keys {
            if !entries.is_empty() {
                let mut entries = entries.clone();
                entries.sort();
                let entries: Vec<String> = entries.iter().map(|entry| quoted(entry)).collect();
                text.push_str(&format!("{key} = [{}]\n", entries.join(", ")));
            }
        }
        if keys.iter().all(|(_, entries)| entries.is_empty()) {
            text.push_str(match passed {
                true => "# nothing: the default policy is enough\n",
                false => "# nothing was found that a policy lets through\n",
            });
        }
        text
    }
}

/// A host with its port: as it was named, or as a URL of the command has it; the one of encrypted HTTP where nothing tells.
fn host_entry(host: &str, command: &[String]) -> String {
    if HostRule::parse(host).is_ok_and(|rule| rule.port.is_some()) {
        return host.to_owned();
    }
    let of_url = |scheme: &str, default: u16| {
        let mut behind = command.iter().flat_map(|word| word.split(scheme).skip(1));
        behind.find_map(|rest| {
            let authority = rest.split(['/', '?', '#', '\'', '"', ' ']).next()?.rsplit('@').next()?;
            let port = authority.strip_prefix(host)?;
            if port.is_empty() { Some(default) } else { port.strip_prefix(':')?.parse().ok() }
        })
    };
    let port = of_url("https://", 443).or_else(|| of_url("http://", 80)).unwrap_or(443);
    format!("{host}:{port}")
}

/// As few of `all`, which pass, as still do, found in at most `runs` tries: halves are left out, then halves of what is left, down to
/// each alone.
fn fewest<E>(
    all: Vec<String>,
    mut runs: usize,
    passes: &mut dyn FnMut(&[String]) -> Result<bool, E>,
) -> Result<Vec<String>, E> {
    let mut kept = all;
    let mut size = kept.len();
    while size > 1 && runs > 0 {
        size = size.div_ceil(2);
        let mut at = 0;
        while at < kept.len() && runs > 0 {
            let end = (at + size).min(kept.len());
            let without = [&kept[..at], &kept[end..]].concat();
            runs -= 1;
            if passes(&without)? {
                kept = without;
            } else {
                at = end;
            }
        }
    }
    Ok(kept)
}

/// What holds credentials below a path of a policy, as a policy hides it; `None` where the path itself may hold them, or too much
/// lies below it to tell.
fn credentials_in(entry: &str, origin: &Origin) -> Option<Vec<String>> {
    let path = paths::expand_home(entry, &origin.home).canonicalize().ok()?;
    if credentials::is_path(path.strip_prefix(&origin.home).unwrap_or(&path)) {
        return None;
    }
    let below = if path.is_dir() { credentials::below(&path)? } else { Vec::new() };
    Some(below.iter().map(|path| paths::as_written(path, &origin.home)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_variables_those_that_are_needed_stay() {
        let all: Vec<String> = (0..40).map(|n| format!("V{n}")).collect();
        let check = |needed: &[&str], runs: usize| {
            let mut tries = 0;
            let mut passes = |env: &[String]| {
                tries += 1;
                Ok::<_, std::convert::Infallible>(needed.iter().all(|name| env.iter().any(|it| it == name)))
            };
            let Ok(kept) = fewest(all.clone(), runs, &mut passes);
            (kept, tries)
        };
        assert_eq!(check(&["V7"], 31).0, ["V7"]);
        assert_eq!(check(&["V0", "V39"], 31).0, ["V0", "V39"]);
        let (kept, tries) = check(&["V3"], 2);
        assert!(kept.contains(&"V3".to_owned()) && tries == 2, "what is not tried stays: {kept:?}");
    }

    #[test]
    fn a_host_has_the_port_that_was_tried() {
        for (host, command, expected) in [
            ("localhost:8080", "curl http://localhost:8080", "localhost:8080"),
            ("[::1]:80", "curl http://[::1]", "[::1]:80"),
            ("example.com", "curl http://example.com:8080/x", "example.com:8080"),
            ("example.com", "curl -sS https://u:p@example.com:8443", "example.com:8443"),
            ("example.com", "sh -c 'curl http://example.com/x'", "example.com:80"),
            ("example.com", "curl https://example.com.org:8443", "example.com:443"),
            ("HOST", "make", "HOST:443"),
        ] {
            let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(host_entry(host, &command), expected, "{command:?}");
        }
    }

    #[test]
    fn a_policy_is_printed_as_a_plan_has_it() {
        let learned = Learned {
            name: "x".to_owned(),
            read: vec!["~/b".to_owned(), "/a".to_owned()],
            write: vec![],
            hosts: vec!["h.org:443".to_owned()],
            ..Learned::default()
        };
        let text = learned.text(true);
        assert_eq!(text, "[sandbox.x]\nread = [\"/a\", \"~/b\"]\nnetwork = [\"h.org:443\"]\n");
        let plan = format!("version = 1\n{text}[tasks.a]\nrun = \"true\"\nsandbox = \"x\"\n");
        let parsed = swarm_plans::parse("p", &plan, &[], &mut |_| Err(String::new()));
        assert_eq!(parsed.plan.expect("a plan").sandboxes["x"].read, ["/a", "~/b"]);
        assert!(Learned::default().text(true).contains("the default policy is enough"));
    }
}
