//! `swarm explain`: what a task's policy allows on this machine, or whether it allows one thing, and which rule says so. It
//! asks the evaluator that is held against the kernel by tests, about the very policy that a worker would get.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarm_orchestrator::agent::{bootstrap, planning};
use swarm_orchestrator::dispatcher::core::RunFacts;
use swarm_orchestrator::egress::decide::{self, decide};
use swarm_orchestrator::executor::above;
use swarm_orchestrator::machine::Machine;
use swarm_orchestrator::path_globs::PathGlobs;
use swarm_orchestrator::policy::{self, Ask, AttemptPlaces, Cage, Looked, Places, View, Word, paths};
use swarm_orchestrator::report::words::{self, Tone};
use swarm_orchestrator::report::{exit, sanitize};
use swarm_orchestrator::repository::{Handle, Repository};
use swarm_orchestrator::run::answer_globs;
use swarm_orchestrator::settings::HostNetwork;
use swarm_orchestrator::tree;
use swarm_orchestrator::worktree::Backend;
use swarm_plans::egress::{Host, Speech, split_port};
use swarm_plans::place::{IsWritten, TRAIN, list_to_paste};
use swarm_plans::{InstanceIx, MergeMode, Network, SandboxPolicy, TaskGraph, TaskIx};
use swarm_protocol::{NetworkSpec, Question, RefusedAct, SandboxSpec, SeenRefusal, Tier, WorktreeSpec};
use swarm_sandbox::{Access, Decision, Policy, Wish, evaluate, is_of_a_folder, reach};

use crate::commands::allow::{self, Allow};
use crate::commands::effective;
use crate::commands::failure::Failure;
use crate::commands::plan_file::{PlanFile, misfits_shown};
use crate::commands::probing::Probing;
use crate::commands::surroundings::{ReaderKind, Surroundings, host};
use crate::commands::user_config;

/// Says what a task's policy allows, or whether it allows one path or host, and why.
///
/// Exit codes: 0 allowed (or the policy was shown), 1 refused.
#[derive(Debug, clap::Args)]
pub struct Explain {
    #[command(flatten)]
    plan: PlanFile,
    /// The task, or one of its instances.
    #[arg(long, value_name = "TASK")]
    task: String,
    /// Is reading this path allowed? Absolute, ~/…, or relative to the worktree.
    #[arg(long, value_name = "PATH", conflicts_with = "host")]
    path: Option<PathBuf>,
    /// Is writing it?
    #[arg(long, requires = "path")]
    write: bool,
    /// Is reaching this host allowed?
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// What is its agent told at the beginning? Byte for byte, on the plan's base.
    #[arg(long, conflicts_with_all = ["path", "host"])]
    prompt: bool,
    /// As `swarm run` takes it.
    #[arg(long)]
    allow_host_network: bool,
    #[command(flatten)]
    allow: Allow,
}

/// Instances that a hint names.
const INSTANCES_NAMED_MAX: usize = 10;

/// The folder of an attempt that is not made, as deep in the state folder as any: a link out of a worktree may count its steps.
const ATTEMPT: &str = "runs/run/task/1";

/// The port of a host that is named without one.
const PORT_DEFAULT: u16 = 443;

/// The answer on stdout.
///
/// # Errors
/// There is no such task, or its policy cannot be had on this machine.
pub fn run(args: &Explain, it: &Surroundings) -> Result<u8, Failure> {
    let (mut graph, sources) = args.plan.load(it)?;
    let repository = it.repository()?;
    let base = repository.resolve(&graph.plan().base)?;
    answer_globs(&mut graph, &repository, base).map_err(|error| misfits_shown(error, &sources, it))?;
    let task = task_of(&graph, &args.task)?;
    if args.prompt {
        return prompt(args, &graph, it);
    }
    let plan = Arc::clone(graph.plan());
    let name = plan.task(task).sandbox.as_str();
    let policy = &plan.sandboxes[name];
    let state = it.state_of(&repository);
    let machine = Probing::begin(Question::Strongest, &state)?.machine()?;
    let places = Places { worktree: repository.place(), git: repository.common_dir(), state: &state };
    let refused = |error: &dyn std::fmt::Display| Failure::environment(error, None);
    machine.check(name, policy).map_err(|error| refused(&error))?;
    let host = host()?;
    let view = View { host: &host, places, looked: &Looked::default() };
    let asks = args.word(it)?.missing_of_policy(name, policy, view);
    // It is shown as it would be with a person's word; what that word has to be is said beside.
    let offer = machine.offer(Word::everything(HostNetwork::Allowed));
    let cage = policy::resolve(name, policy, view, offer);
    let cage = cage.map_err(|error| refused(&format!("have the policy: {error}")))?;
    if let Some(host) = &args.host {
        let code = answer(&about_host(host, policy, &cage)?, it)?;
        return asked(&asks, it).map(|()| code);
    }
    let Some(path) = &args.path else {
        let lines = effective::lines(&cage, policy, &machine, repository.place());
        it.out.write(&format!(
            "task {} has the policy [sandbox.{name}]; it sees, and nothing else:\n{lines}",
            args.task
        ))?;
        return asked(&asks, it).map(|()| 0);
    };
    let mut sandbox = spec(&cage, &machine, &repository, &state)?;
    if machine.tier() == Tier::Landlock {
        let base = repository.tree_of(base).map_err(|error| refused(&error))?;
        sandbox.grants.extend(above::readable(&repository, base, sandbox.worktree.at()));
    }
    let subject = Subject { cage: &cage, sandbox: &sandbox, repository: &repository, home: &host.home };
    let code = on_path(args, path, (&graph, task), subject, it)?;
    asked(&asks, it).map(|()| code)
}

/// Whose policy is asked.
#[derive(Clone, Copy)]
struct Subject<'a> {
    cage: &'a Cage,
    sandbox: &'a SandboxSpec,
    repository: &'a Repository,
    home: &'a Path,
}

/// The answer about a path on stdout, and its exit code.
fn on_path(
    args: &Explain,
    path: &Path,
    (graph, task): (&TaskGraph, TaskIx),
    Subject { cage, sandbox, repository, home }: Subject<'_>,
    it: &Surroundings,
) -> Result<u8, Failure> {
    let (plan, refused) = (graph.plan(), |error: &dyn std::fmt::Display| Failure::environment(error, None));
    let worktree = sandbox.worktree.at().clone();
    let policy = swarm_worker::airlock::policy(sandbox).map_err(|error| refused(&error))?;
    let access = if args.write { Access::Write } else { Access::Read };
    let named = as_named(&path.to_string_lossy(), access, &policy, home);
    let links = Links { repository, base: &plan.base, worktree: &worktree };
    let Some(path) = reach(&policy, &named, &mut |path| links.at(path)) else {
        let message = format!("follow {}: its links lead in a circle", sanitize::name(&named.to_string_lossy()));
        return Err(Failure::usage(message, None));
    };
    let mut said = about_path((&named, &path), access, &policy, cage);
    if is_of_a_folder(&named) && links.is_file(&path) {
        let rule = "a file lies there, and a path that ends with a slash is a folder's".to_owned();
        said = Answer { verdict: Verdict::Refused, rule, remedy: said_of("ask for it without the slash"), ..said };
    }
    if policy.get().tier == swarm_sandbox::Tier::Landlock && path.starts_with(repository.place()) {
        said = said.also("in this tier the worktree lies elsewhere, and a relative path names what is in it");
    }
    let tracked = |inside: &Path| is_tracked(repository, &plan.base, inside);
    if let (Ok(inside), Access::Write, Verdict::Allowed) = (path.strip_prefix(&worktree), access, said.verdict)
        && !inside.starts_with(".git")
    {
        said = collected(said, (graph, task, &args.task), inside, repository)?;
    }
    let code = answer(&said, it)?;
    if let (Ok(inside), Access::Read, Verdict::Refused) = (path.strip_prefix(&worktree), access, said.verdict)
        && tracked(inside)?
    {
        it.out.write(&format!(
            "    but git tracks it, and its objects are in every cage: `git show HEAD:{}` prints it\n",
            sanitize::name(&inside.to_string_lossy())
        ))?;
    }
    Ok(code)
}

impl Explain {
    fn word(&self, it: &Surroundings) -> Result<Word, Failure> {
        let network = if self.allow_host_network { HostNetwork::Allowed } else { HostNetwork::Refused };
        self.allow.word(network, it)
    }
}

/// Whether the plan's base holds something at a path from the root of the tree.
fn is_tracked(repository: &Repository, base: &str, path: &Path) -> Result<bool, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure::environment(error, None);
    let git = repository.handle()?;
    let odb = git.odb().map_err(|error| refused(&error))?;
    let root = repository.tree_of(repository.resolve(base)?)?;
    Ok(tree::find(&odb, root, path.as_os_str().as_bytes()).map_err(|error| refused(&error))?.is_some())
}

/// What is taken of the changes of an instance.
struct Writes {
    /// Whose.
    instance: String,
    /// Globs; `None` takes everything.
    globs: Option<Vec<String>>,
    /// The line of a plan that takes a path as well.
    with: Box<dyn Fn(&str) -> String>,
}

/// What is taken of what the named instance changes, or the first of the named task.
fn writes_of(graph: &TaskGraph, task: TaskIx, wanted: &str) -> Result<Writes, Failure> {
    let (plan, instances) = (graph.plan(), graph.task_instances(task));
    let named = plan.task(task);
    let name = named.name.to_string();
    let source: Vec<String> = named.writes.iter().flatten().map(|glob| glob.source().to_owned()).collect();
    let with = {
        let table = named.table();
        move |path: &str| {
            let globs: Vec<String> = source.iter().map(String::as_str).chain([path]).map(str::to_owned).collect();
            list_to_paste(&table, IsWritten::Yes, ("writes", &globs), None)
        }
    };
    if plan.merge.mode == MergeMode::None {
        let with = Box::new(|_: &str| TRAIN.to_owned());
        return Ok(Writes { instance: name, globs: Some(Vec::new()), with });
    }
    if named.writes.as_ref().is_none_or(Vec::is_empty) {
        let globs = named.writes.as_ref().map(|_| Vec::new());
        return Ok(Writes { instance: name, globs, with: Box::new(with) });
    }
    let known = if wanted == name { instances.first().copied() } else { graph.instance_by_id(wanted) };
    let later = || {
        let message =
            format!("say what {} may write: its `writes` are known only while the plan runs", sanitize::name(wanted));
        let hint = format!("in the plan they are {}", with(""));
        Failure::usage(message, hint.replace(", \"\"]", "]"))
    };
    let known = known.ok_or_else(later)?;
    let globs = graph.writes_before(known).map_err(|_| later())?;
    Ok(Writes { instance: graph.instance(known).id.to_string(), globs, with: Box::new(with) })
}

/// What is added to the answer about a path of the worktree that may be written: what becomes of it when the task has ended.
fn collected(
    said: Answer,
    (graph, task, wanted): (&TaskGraph, TaskIx, &str),
    inside: &Path,
    repository: &Repository,
) -> Result<Answer, Failure> {
    let tracked = is_tracked(repository, &graph.plan().base, inside)?;
    if !tracked && repository.handle()?.is_path_ignored(inside).unwrap_or(false) {
        return Ok(said.also("git ignores it, so that it goes with the worktree"));
    }
    taken(said, &writes_of(graph, task, wanted)?, inside)
}

/// The verdict on a write that the cage allows: what the task leaves there is taken, or fails it.
fn taken(said: Answer, writes: &Writes, inside: &Path) -> Result<Answer, Failure> {
    let Some(globs) = &writes.globs else { return Ok(said) };
    let matching = PathGlobs::new(globs).map_err(|error| Failure::usage(error, None))?;
    let path = inside.to_string_lossy();
    if matching.matches(inside.as_os_str().as_bytes()) {
        return Ok(said.also(&format!("`writes` of {} take it", writes.instance)));
    }
    let globs = if globs.is_empty() { "nothing".to_owned() } else { globs.join(", ") };
    let rule = format!(
        "the cage lets it happen ({}), but a change there fails the task: `writes` of {} take {globs}",
        said.rule, writes.instance
    );
    Ok(Answer { verdict: Verdict::Refused, rule, remedy: allowed_by(&(writes.with)(&path)), ..said })
}

/// Says what of a policy waits for a person's word.
fn asked(asks: &[Ask], it: &Surroundings) -> Result<(), Failure> {
    if asks.is_empty() {
        return Ok(());
    }
    it.out.write(&format!("    only when a person allows it (no run starts before):\n{}", allow::lines(asks, &[])))
}

/// A task, by its name or an instance's.
fn task_of(graph: &TaskGraph, task: &str) -> Result<TaskIx, Failure> {
    let plan = graph.plan();
    let found = plan.task_by_name(swarm_plans::task_in(task)).ok_or_else(|| {
        let names: Vec<String> = plan.tasks.iter().map(|task| task.name.to_string()).collect();
        Failure::usage(format!("find the task {}", sanitize::name(task)), format!("the plan has {}", names.join(", ")))
    })?;
    let instances = graph.task_instances(found);
    let known = !task.contains('[') || graph.is_pending(found) || graph.instance_by_id(task).is_some();
    if known {
        return Ok(found);
    }
    let names = instances.iter().take(INSTANCES_NAMED_MAX).map(|ix| words::instance(&graph.instance(*ix).id));
    let hint = format!("it has {}", names.collect::<Vec<_>>().join(", "));
    Err(Failure::usage(format!("find the instance {}", sanitize::name(task)), hint))
}

/// What an instance's agent is told: its standing instructions, then its first message.
fn prompt(args: &Explain, graph: &TaskGraph, it: &Surroundings) -> Result<u8, Failure> {
    let wanted = args.task.as_str();
    let refused = |error: &dyn std::fmt::Display| Failure::environment(error, None);
    let repository = it.repository()?;
    let (plan, host) = (graph.plan(), host()?);
    let known = graph
        .instances()
        .iter()
        .position(|instance| *instance.id.0 == *wanted || plan.task(instance.task).name.to_string() == wanted);
    let Some(at) = known else {
        let message = format!("find an instance of {} before the run", sanitize::name(wanted));
        return Err(Failure::usage(message, "its fan-out is only known once its needs have ended".to_owned()));
    };
    let (ix, instance) = (InstanceIx(at as u32), &graph.instances()[at]);
    let base = repository.resolve(&plan.base).map_err(|error| refused(&error))?;
    let facts = RunFacts {
        name: plan.name.clone(),
        id: plan.name.clone(),
        base: base.to_string(),
        target: None,
        env: args.word(it)?.readable(&host.env),
    };
    let rendered = graph.render(ix, &facts.context(&serde_json::Value::Null, &facts.lookup()));
    let rendered = rendered.map_err(|error| {
        Failure::usage(
            error,
            "what it is told depends on its needs; `swarm logs TASK` shows it after the run".to_owned(),
        )
    })?;
    let Some(agent) = &rendered.agent else {
        let message = format!("show what {} is told", sanitize::name(wanted));
        let hint = match plan.task(instance.task).is_review {
            true => {
                "it is told what the tasks that it reviews have done; `swarm logs` of each shows it, during the run and after it"
            }
            false => "it is no agent; without `--prompt` its policy is shown",
        };
        return Err(Failure::usage(message, hint.to_owned()));
    };
    let git = repository.handle().map_err(|error| refused(&error))?;
    let tree = git.find_commit(base).and_then(|commit| commit.tree()).map_err(|error| refused(&error))?.id();
    let odb = git.odb().map_err(|error| refused(&error))?;
    let network = &plan.sandboxes[&plan.task(instance.task).sandbox].network;
    let person: Vec<String> = user_config::load(it)?.models.into_keys().collect();
    let told = bootstrap::Told { feedback: None, models: planning::models(&person, &agent.settings.model) };
    let told = bootstrap::beginning(&odb, tree, &instance.id, (&rendered, agent), network, &told);
    let told = told.map_err(|error| refused(&error))?;
    let text = format!("{}\n{}", told.system, told.prompt);
    it.out.write(&match it.out.reader {
        ReaderKind::Terminal => sanitize::text(&text),
        ReaderKind::Other => text,
    })?;
    Ok(0)
}

/// The cage of an attempt that is not made: where its folders would lie decides nothing but what is said of them.
fn spec(
    cage: &Cage,
    machine: &Machine,
    repository: &Repository,
    state: &Path,
) -> Result<swarm_protocol::SandboxSpec, Failure> {
    let (place, objects) = (repository.place(), machine.objects_at().shown(repository)?);
    let folder = state.join(ATTEMPT);
    let worktree = match (machine.tier(), machine.backend) {
        (Tier::Namespaces, Backend::Overlay) => WorktreeSpec::Overlay {
            at: place.to_owned(),
            state: state.to_owned(),
            lowers: vec!["base".to_owned()],
            upper: format!("{ATTEMPT}/upper"),
            work: format!("{ATTEMPT}/work"),
        },
        (Tier::Namespaces, _) => WorktreeSpec::Directory { at: place.to_owned(), path: folder.join("tree") },
        (Tier::Landlock, _) => WorktreeSpec::Directory { at: folder.join("tree"), path: folder.join("tree") },
    };
    let places = AttemptPlaces { folder, relative: ATTEMPT.to_owned() };
    let mut spec = cage.spec(worktree, Vec::new(), objects, Vec::new(), &places);
    // Which port the proxy gets decides nothing about paths.
    if matches!(spec.network, NetworkSpec::Egress { .. }) {
        spec.network = NetworkSpec::None;
    }
    Ok(spec)
}

/// The absolute path that a job means by a text. Its `~` is its private home; of the caller's home, which a policy writes in the
/// same way, it can only read, by its whole path.
fn as_named(text: &str, access: Access, policy: &Policy, home: &Path) -> PathBuf {
    let draft = policy.get();
    let home = if access == Access::Write || text == "~" || text == "~/" { &draft.home } else { home };
    draft.worktree.at().join(paths::expand_home(text, home))
}

/// The links that a job finds: those of the plan's base in its worktree, the host's elsewhere.
struct Links<'a> {
    repository: &'a Repository,
    base: &'a str,
    worktree: &'a Path,
}

impl Links<'_> {
    /// Whether a file lies at a path that leads nowhere else.
    fn is_file(&self, path: &Path) -> bool {
        match path.strip_prefix(self.worktree) {
            Ok(inside) => self.entry(inside).is_some_and(|(_, entry)| entry.mode != tree::DIRECTORY),
            Err(_) => path.is_file(),
        }
    }

    /// What the plan's base holds at a path from the root of the tree.
    fn entry(&self, inside: &Path) -> Option<(Handle<'_>, tree::Entry)> {
        let git = self.repository.handle().ok()?;
        let root = self.repository.tree_of(self.repository.resolve(self.base).ok()?).ok()?;
        let entry = tree::find(&git.odb().ok()?, root, inside.as_os_str().as_bytes()).ok()??;
        Some((git, entry))
    }

    /// What the link at a path holds; `None` where there is none.
    fn at(&self, path: &Path) -> Option<PathBuf> {
        let Ok(inside) = path.strip_prefix(self.worktree) else { return path.read_link().ok() };
        let (git, entry) = self.entry(inside)?;
        let blob = (entry.mode == tree::SYMLINK).then(|| git.find_blob(entry.id).ok())??;
        Some(PathBuf::from(OsStr::from_bytes(blob.content())))
    }
}

/// An answer for people.
struct Answer {
    verdict: Verdict,
    what: String,
    rule: String,
    /// What would change a refusal, in lines.
    remedy: String,
}

impl Answer {
    fn allowed(what: String, rule: String) -> Self {
        Answer { verdict: Verdict::Allowed, what, rule, remedy: String::new() }
    }

    fn refused(what: String, rule: String, allow_with: Option<String>) -> Self {
        let remedy = allow_with.map_or_else(|| said_of("no plan can allow it"), |lines| allowed_by(&lines));
        Answer { verdict: Verdict::Refused, what, rule, remedy }
    }

    /// With one more thing that decides.
    fn also(self, rule: &str) -> Self {
        Answer { rule: format!("{}; {rule}", self.rule), ..self }
    }
}

/// A remedy in words.
fn said_of(words: &str) -> String {
    format!("    {words}\n")
}

/// What is pasted into a plan, as a remedy.
fn allowed_by(lines: &str) -> String {
    words::to_allow(lines, "    ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
}

/// Judges what a path that the job names leads to.
fn about_path((named, path): (&Path, &Path), access: Access, policy: &Policy, cage: &Cage) -> Answer {
    let act = if access == Access::Read { "reading" } else { "writing" };
    let named: PathBuf = named.components().collect();
    let leads = if named == path { String::new() } else { format!(", which {} leads to", named.display()) };
    let what = format!("{act} {}{leads}", path.display());
    let (rule, wish) = match evaluate(policy, path, access) {
        Decision::Refused { rule, wish } => (rule.to_string(), wish),
        Decision::Allowed { rule } if !rule.is_private() => return Answer::allowed(what, rule.to_string()),
        Decision::Allowed { rule } if access == Access::Write => {
            return Answer::allowed(what, format!("{rule}, which goes with the task"));
        }
        Decision::Allowed { rule } => {
            let rule = format!("{rule}, which is the task's own and empty at first: it is not the host's");
            if is_private_folder(path, policy) {
                return Answer::allowed(what, rule);
            }
            if path.symlink_metadata().is_err() {
                let remedy = said_of("there is no such path on this host that a plan could show");
                return Answer { verdict: Verdict::Refused, what, rule, remedy };
            }
            (rule, Some(Wish::Grant(path.to_owned(), access)))
        }
    };
    let path = path.to_owned();
    let act = match wish {
        Some(Wish::Grant(path, Access::Read)) => RefusedAct::Read { path },
        Some(Wish::Grant(path, Access::Write)) => RefusedAct::Write { path },
        Some(Wish::Unhide(hidden)) => RefusedAct::Hidden { path, hidden },
        None => RefusedAct::Never { what: what.clone() },
    };
    let seen = cage.origin.seen(&[SeenRefusal { act, rule: rule.clone() }]);
    let allow_with = seen.into_iter().next().and_then(|seen| seen.allow_with);
    Answer::refused(what, rule, allow_with)
}

/// Whether a path is a private folder itself, which is always there.
fn is_private_folder(path: &Path, policy: &Policy) -> bool {
    let draft = policy.get();
    let own = [Some(&draft.home), draft.tmp.as_ref()];
    let always = ["/tmp", "/var/tmp", "/dev/shm"].map(Path::new);
    own.into_iter().flatten().any(|own| own == path) || always.contains(&path)
}

fn about_host(text: &str, policy: &SandboxPolicy, cage: &Cage) -> Result<Answer, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("understand the host {}: {error}", sanitize::name(text)), None)
    };
    let (name, port) = split_port(text).map_err(|error| wrong(&error))?;
    let host = Host::parse(name).map_err(|error| wrong(&error))?;
    let port = port.unwrap_or(PORT_DEFAULT);
    let what = format!("reaching {name}:{port}");
    let line = || {
        let rule = decide::rule_for(&host, port, Speech::Checked).to_string();
        cage.origin.allow_with(&RefusedAct::Host { host: Some(rule) })
    };
    Ok(match &policy.network {
        Network::Host => Answer::allowed(what, "the host's whole network is open to it".to_owned()),
        Network::None => Answer::refused(what, "its policy opens no network".to_owned(), line()),
        Network::Hosts(rules) => match decide(rules, &host, port) {
            decide::Decision::Allowed { rule } => {
                Answer::allowed(what, format!("`network` names \"{rule}\"; addresses are judged when it is dialled"))
            }
            decide::Decision::Refused => Answer::refused(what, "no entry of `network` names it".to_owned(), line()),
        },
    })
}

fn answer(answer: &Answer, it: &Surroundings) -> Result<u8, Failure> {
    let (word, tone, code) = match answer.verdict {
        Verdict::Allowed => ("allowed", Tone::Good, 0),
        Verdict::Refused => ("refused", Tone::Bad, exit::TASK_FAILED),
    };
    let word = it.out.style.paint(tone, word);
    let mut text = format!("{word}: {}\n    rule: {}\n", sanitize::name(&answer.what), sanitize::name(&answer.rule));
    if answer.verdict == Verdict::Refused {
        text.push_str(&answer.remedy);
    }
    it.out.write(&text)?;
    Ok(code)
}
