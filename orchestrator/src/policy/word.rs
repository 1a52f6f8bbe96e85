//! What a plan may say on its own, and what needs the word of the person who runs it. A plan is a file of the project: whoever
//! can change the project can change it, and a project file may only tighten what a worker gets.
//!
//! On its own a plan may hide, limit, require and choose a tier; let variables through that hold no credential; reach hosts of
//! the internet by their names; show what the default view of a task knows anyway (the system's folders, the folders of the
//! caller's `PATH`, the homes of toolchains). All else it may *ask* for:
//!
//! | an entry of | asks where |
//! |---|---|
//! | `env`, `{{ env.NAME }}` | the variable holds a credential, by its name or its value |
//! | `secrets` | always: what is masked is a credential by the plan's own word |
//! | `read`, `cow` | the path lies outside of the default view |
//! | `write` | always: the default view has nothing of the host's that can be written |
//! | `[workspace] copy`, `cache` | what is there holds credentials, by its name or by those of its files (`.env`) |
//! | `network` | the host is the machine, a neighbour, or has an address that is not everybody's; or `"host"` |
//!
//! The word is given by `--allow KEY=VALUE`, by `--allow-host-network`, or by `[[allow]]` in the person's own configuration. A path
//! of it goes through no link that a task may have made ([`way`]). It is asked for once, for all that is missing, before anything runs; [`super::resolve`] asks again for each policy, so that no way
//! leads around it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use swarm_plans::egress::HostPattern;
use swarm_plans::{Allowance, DEFAULT_SANDBOX, Host as NetworkHost, HostRule, Network, Plan, SandboxPolicy, Task};
use swarm_protocol::{Access, Tier};

use super::credentials::Holds;
use super::named::{Named, named};
use super::paths::{as_written, expand_home};
use super::showcase::Showcase;
use super::toolchains::TOOLCHAINS;
use super::view::ByDefault;
use super::{Host, Places, SYSTEM, View, credentials, way};
use crate::egress::address;
use crate::report::sanitize;
use crate::settings::HostNetwork;

/// What a person lets the policies of a plan ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Word {
    /// Whether the host's network is among it.
    pub network: HostNetwork,
    /// What else is.
    pub given: Given,
}

/// What a person allows beside the host's network.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// These.
    These(Vec<Allowance>),
    /// All: the policy is the person's own (`swarm learn`), or only looked at.
    Everything,
}

impl Default for Given {
    fn default() -> Self {
        Given::These(Vec::new())
    }
}

/// One thing that a plan asks for and that only a person can allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The policy; `None` for what the plan says elsewhere.
    pub policy: Option<String>,
    /// The key of the policy or of `[workspace]`; `env` for a text that names a variable.
    pub key: &'static str,
    /// As written.
    pub value: String,
    /// Why it is not the plan's to say.
    pub why: String,
    /// What a person types for it: another text where a task may have turned the way to the path.
    typed: String,
    wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Variable,
    /// Canonical.
    Path(PathBuf, Access),
    Host(HostRule),
    HostNetwork,
}

impl Ask {
    /// The flag that allows it, ready for a shell.
    pub fn flag(&self) -> String {
        let key = match &self.wanted {
            Wanted::HostNetwork => return "--allow-host-network".to_owned(),
            Wanted::Variable => "env",
            Wanted::Path(_, Access::Read) => "read",
            Wanted::Path(_, Access::Write) => "write",
            Wanted::Host(_) => "network",
        };
        flag(key, &self.typed)
    }
}

/// `--allow KEY=VALUE`, ready for a shell.
pub fn flag(key: &str, value: &str) -> String {
    // A tilde behind the sign of equality is no reason to quote: it is read as one's home by shells and by swarm.
    match value.strip_prefix("~/") {
        Some(rest) if sanitize::shell_word(rest) == rest => format!("--allow {key}={value}"),
        _ => format!("--allow {}", sanitize::shell_word(&format!("{key}={value}"))),
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = sanitize::name(&self.value);
        match &self.policy {
            Some(policy) => write!(f, "sandbox.{policy}.{} names `{value}`: {}", self.key, self.why),
            None if self.key == "env" => write!(f, "a text names {{{{ env.{value} }}}}: {}", self.why),
            None => write!(f, "workspace.{} names `{value}`: {}", self.key, self.why),
        }
    }
}

/// All asks in lines, each with its flag.
pub fn lines(asks: &[Ask]) -> String {
    asks.iter().map(|ask| format!("\n  {ask}\n      {}", ask.flag())).collect()
}

/// All their flags, each once, as they follow a command.
pub fn flags(asks: &[Ask]) -> String {
    let mut seen = BTreeSet::new();
    let flags = asks.iter().map(Ask::flag).filter(|flag| seen.insert(flag.clone()));
    flags.collect::<Vec<_>>().join(" ")
}

/// What a person types, or writes down once, to allow all of it. The host's network is a word for one run: nothing writes it down.
pub fn hint(asks: &[Ask]) -> String {
    let first = format!("what the plan asks for is yours to give: read it, then add {} to the command", flags(asks));
    let (network, others): (Vec<&Ask>, Vec<&Ask>) = asks.iter().partition(|ask| ask.wanted == Wanted::HostNetwork);
    let config = "under [[allow]] in ~/.config/swarm/config.toml, with the repository that it is for";
    match (network.is_empty(), others.is_empty()) {
        (true, _) => format!("{first}, or put it {config}"),
        (false, true) => {
            format!("{first} each time; hosts by name, like network = [\"example.org\"], need no such word")
        }
        (false, false) => format!("{first}, or put all but --allow-host-network {config}"),
    }
}

impl Word {
    /// The person's own policies, and those that are only looked at.
    pub fn everything(network: HostNetwork) -> Word {
        Word { network, given: Given::Everything }
    }

    /// What a plan asks for and was not allowed; of policies those that these tasks use, or no task in particular.
    pub fn missing_of_plan(&self, plan: &Plan, counts: impl Fn(&Task) -> bool, view: View<'_>) -> Vec<Ask> {
        unseen(self.missing(asks_of_plan(plan, counts, view), &view.host.home), view)
    }

    /// What one policy asks for and was not allowed.
    pub fn missing_of_policy(&self, name: &str, policy: &SandboxPolicy, view: View<'_>) -> Vec<Ask> {
        self.missing_of_named(name, policy, &named(policy, view.guard()), view)
    }

    /// The same, with the paths that it names as they were found.
    pub(super) fn missing_of_named(
        &self,
        name: &str,
        policy: &SandboxPolicy,
        named: &[Named<'_>],
        view: View<'_>,
    ) -> Vec<Ask> {
        unseen(self.missing(asks_of_policy(name, policy, named, view.host), &view.host.home), view)
    }

    /// What of `asks` was not allowed. `home` is the caller's home folder.
    fn missing(&self, asks: Vec<Ask>, home: &Path) -> Vec<Ask> {
        asks.into_iter().filter(|ask| !self.covers(&ask.wanted, &ask.value, home)).collect()
    }

    fn covers(&self, wanted: &Wanted, value: &str, home: &Path) -> bool {
        if *wanted == Wanted::HostNetwork {
            return self.network == HostNetwork::Allowed;
        }
        let Given::These(given) = &self.given else { return true };
        // A word is about the place that the person knew.
        let around = |path: &Path, allowed: &str| {
            let allowed = way::place(&expand_home(allowed, home), home);
            allowed.turned.is_none() && allowed.is_there && path.starts_with(&allowed.path)
        };
        given.iter().any(|allowance| match (wanted, allowance) {
            (Wanted::Variable, Allowance::Env(name)) => name == value,
            (Wanted::Path(path, Access::Read), Allowance::Read(allowed) | Allowance::Write(allowed)) => {
                around(path, allowed)
            }
            (Wanted::Path(path, Access::Write), Allowance::Write(allowed)) => around(path, allowed),
            (Wanted::Host(rule), Allowance::Network(allowed)) => rule == allowed,
            _ => false,
        })
    }

    /// The caller's variables that texts of a plan may name.
    pub fn readable(&self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let may = |name: &str, value: &str| why_variable(name, Some(value)).is_none() || self.covers_variable(name);
        let kept = env.iter().filter(|(name, value)| may(name, value));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn covers_variable(&self, name: &str) -> bool {
        self.covers(&Wanted::Variable, name, Path::new("/"))
    }
}

/// The policies that tasks, the merge train or nobody in particular use.
pub fn used_policies(plan: &Plan) -> impl Iterator<Item = (&str, &SandboxPolicy)> {
    policies_of(plan, |_| true)
}

/// The same where only some of the tasks count.
pub fn policies_of(plan: &Plan, counts: impl Fn(&Task) -> bool) -> impl Iterator<Item = (&str, &SandboxPolicy)> {
    let tasks = plan.tasks.iter().filter(|task| counts(task));
    let of_tasks = tasks.map(|task| task.sandbox.as_str());
    let names: BTreeSet<&str> =
        of_tasks.chain([DEFAULT_SANDBOX]).chain(plan.merge.sandboxes().map(|(name, _)| name)).collect();
    names.into_iter().filter_map(|name| Some((name, plan.sandboxes.get(name)?)))
}

/// What a plan asks for but for paths that are seen anyway: its policies by name, then its texts, then its worktrees.
fn asks_of_plan(plan: &Plan, counts: impl Fn(&Task) -> bool, view: View<'_>) -> Vec<Ask> {
    let asks = |(name, policy)| asks_of_policy(name, policy, &named(policy, view.guard()), view.host);
    let texts = plan.variables_named().into_iter().filter_map(|name| {
        let why = why_variable(&name, view.host.env.get(&name).map(String::as_str))?;
        Some(Ask { policy: None, key: "env", typed: name.clone(), value: name, why, wanted: Wanted::Variable })
    });
    policies_of(plan, counts).flat_map(asks).chain(texts).chain(asks_of_worktrees(plan, view.places)).collect()
}

/// What every worktree would get of the person's own checkout.
fn asks_of_worktrees(plan: &Plan, places: Places<'_>) -> Vec<Ask> {
    let workspace = &plan.workspace;
    let copied = workspace.copy.iter().map(|text| ("copy", text));
    let named = copied.chain(workspace.cache.iter().map(|text| ("cache", text)));
    named.filter_map(|(key, text)| ask_of_workspace(key, text, places.worktree)).collect()
}

/// What an entry of `copy` or `cache` asks for, of the checkout at `worktree`; `None` where the plan alone may say it.
pub(super) fn ask_of_workspace(key: &'static str, text: &str, worktree: &Path) -> Option<Ask> {
    // What is not there is not copied.
    let path = worktree.join(text).canonicalize().ok()?;
    let mut such_as = String::new();
    let holds = match key {
        _ if credentials::is_path(Path::new(text)) => Holds::Credentials,
        _ if !path.is_dir() => Holds::Nothing,
        "copy" => match credentials::below(&path).as_deref() {
            None => Holds::Unknown,
            Some([]) => Holds::Nothing,
            Some([first, ..]) => {
                such_as = format!(", such as {}", first.strip_prefix(&path).unwrap_or(first).display());
                Holds::Credentials
            }
        },
        _ => credentials::in_cache(&path),
    };
    let why = match holds {
        Holds::Nothing => return None,
        Holds::Credentials => format!("it holds credentials, by the names of its files{such_as}"),
        Holds::Unknown => "it cannot be looked through for credentials".to_owned(),
    };
    Some(Ask {
        policy: None,
        key,
        value: text.to_owned(),
        why,
        // What lies in the checkout is written from its root.
        typed: path.to_string_lossy().into_owned(),
        wanted: Wanted::Path(path, Access::Read),
    })
}

/// What one policy asks for, in the order of its keys, with the paths that it names as they were found. What no policy may have at all is
/// not among it; what is seen anyway is.
fn asks_of_policy(name: &str, policy: &SandboxPolicy, named: &[Named<'_>], host: &Host) -> Vec<Ask> {
    let mut asks = asks_for_paths(name, named, host);
    let mut ask = |key, value: &str, why: String, wanted| {
        asks.push(Ask {
            policy: Some(name.to_owned()),
            key,
            value: value.to_owned(),
            why,
            typed: value.to_owned(),
            wanted,
        });
    };
    for variable in &policy.env {
        if let Some(why) = why_variable(variable, host.env.get(variable).map(String::as_str)) {
            ask("env", variable, why, Wanted::Variable);
        }
    }
    for variable in &policy.secrets {
        ask("secrets", variable, "a secret is handed to what the plan runs".to_owned(), Wanted::Variable);
    }
    match &policy.network {
        Network::None => {}
        Network::Host => ask("network", "host", "the host's whole network".to_owned(), Wanted::HostNetwork),
        Network::Hosts(rules) => {
            for rule in rules {
                if let Some(why) = why_host(rule) {
                    ask("network", &rule.to_string(), why, Wanted::Host(rule.clone()));
                }
            }
        }
    }
    asks
}

/// What the paths of a policy ask for.
fn asks_for_paths(name: &str, named: &[Named<'_>], host: &Host) -> Vec<Ask> {
    let ask = |named: &Named<'_>| {
        let place = named.found.as_ref().ok()?;
        let why = match named.access {
            Access::Read => "a task would not see it otherwise",
            Access::Write => "it is not the task's own",
        };
        let (typed, why) = match &place.turned {
            Some(link) => {
                let (typed, link) = (as_written(&place.path, &host.home), as_written(link, &host.home));
                let whose = format!("{link} is a link, which a task may have made, and leads it to {typed}");
                (typed, format!("{why}; {}", sanitize::name(&whose)))
            }
            None => (named.text.to_owned(), why.to_owned()),
        };
        let (policy, value) = (Some(name.to_owned()), named.text.to_owned());
        Some(Ask { policy, key: named.key, value, why, typed, wanted: Wanted::Path(place.path.clone(), named.access) })
    };
    named.iter().filter_map(ask).collect()
}

/// Why a variable is not a plan's to hand on; `None` where it is.
pub(super) fn why_variable(name: &str, value: Option<&str>) -> Option<String> {
    if credentials::is_variable(name) {
        return Some("it holds a credential, by its name".to_owned());
    }
    value.is_some_and(credentials::is_value).then(|| "it holds a credential, by its value".to_owned())
}

/// Ends of names that are answered inside a house or a cloud, never by the internet's servers. Source: RFC 6761, RFC 6762,
/// RFC 8375, and ICANN's SAC 113 for `internal`; the others are what name servers of companies use.
const OWN_NAMES: &[&str] =
    &["local", "localhost", "localdomain", "internal", "private", "lan", "home", "corp", "intranet", "home.arpa"];

/// Why a host is not a plan's to reach; `None` for one of the internet.
pub(super) fn why_host(rule: &HostRule) -> Option<String> {
    let name = match &rule.hosts {
        HostPattern::Exactly(NetworkHost::Address(address)) => return why_address(*address),
        HostPattern::Exactly(NetworkHost::Name(name)) | HostPattern::Below(name) => name,
    };
    if name.is_localhost() {
        return Some("it is this machine".to_owned());
    }
    let own =
        |end: &&str| name.as_str() == *end || name.as_str().strip_suffix(*end).is_some_and(|it| it.ends_with('.'));
    let single = !name.as_str().contains('.') && matches!(rule.hosts, HostPattern::Exactly(_));
    let why = match name.as_str() {
        "host" => "in a list it is a host of that name; the host's whole network is `network = \"host\"`",
        _ => "it is a name of this network, not of the internet",
    };
    (single || OWN_NAMES.iter().any(own)).then(|| why.to_owned())
}

fn why_address(address: IpAddr) -> Option<String> {
    address::special(address).map(|what| format!("the address is {what}"))
}

/// What is left of asks without the paths that tasks see anyway. Nobody looks for those who asks for none.
fn unseen(mut asks: Vec<Ask>, view: View<'_>) -> Vec<Ask> {
    asks.retain(|ask| match &ask.wanted {
        // What lies in a checkout is asked for by what it holds.
        Wanted::Path(path, Access::Read) if ask.policy.is_some() => {
            !SYSTEM.iter().any(|system| path.starts_with(system))
                && !view.looked.by_default(|| by_default(view)).shows(path)
        }
        Wanted::Path(..) | Wanted::Variable | Wanted::Host(_) | Wanted::HostNetwork => true,
    });
    asks
}

/// What tasks see, or may see by naming a toolchain, without asking.
fn by_default(view: View<'_>) -> ByDefault {
    let mut shown = Showcase::new(view, Tier::Namespaces, false);
    for dir in &view.host.path {
        shown.path_folder(dir);
    }
    for home in TOOLCHAINS.iter().flat_map(|tool| tool.shown(view.host).paths) {
        shown.home(home);
    }
    let system = SYSTEM.iter().map(PathBuf::from);
    let all = system.chain(shown.grants.into_iter().map(|grant| grant.path)).chain(shown.cows);
    ByDefault { shown: all.filter_map(|path| path.canonicalize().ok()).collect(), hidden: shown.withheld }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Looked;

    /// A home with data and a toolchain beside a repository; gives the asks of `policy`, with `@` for the scene's folder, and
    /// what is missing of them under `words`.
    fn check(policy: &SandboxPolicy, words: &[&str], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for sub in ["home/data/in", "home/private/sub", "home/.cargo/registry", "repo/.git/swarm", "home/.ssh"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        for (target, link) in [("../private", "home/data/turned"), ("private", "home/mine")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let env = [("MINE", "1"), ("DATABASE_URL", "pg://me:word@db/x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let host = Host::new(root.join("home"), vec!["/usr/bin".into()], env.into_iter().collect());
        let (worktree, git) = (root.join("repo"), root.join("repo/.git"));
        let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
        let given = words.iter().map(|word| Allowance::parse(word).expect(word)).collect();
        let word = Word { network: HostNetwork::Refused, given: Given::These(given) };
        let view = View { host: &host, places, looked: &Looked::default() };
        let missing = word.missing_of_policy("p", policy, view);
        let told: Vec<String> = missing.iter().map(Ask::flag).collect();
        assert_eq!(told, expected, "{policy:?} {words:?}");
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn hosts(texts: &[&str]) -> SandboxPolicy {
        let rules = texts.iter().map(|text| HostRule::parse(text).expect(text)).collect();
        SandboxPolicy { network: Network::Hosts(rules), ..SandboxPolicy::default() }
    }

    #[test]
    fn credentials_are_asked_for() {
        let env = |names: &[&str]| SandboxPolicy { env: list(names), ..SandboxPolicy::default() };
        check(&env(&["MINE", "CI", "UNSET"]), &[], &[]);
        check(&env(&["MINE", "AWS_SECRET_ACCESS_KEY"]), &[], &["--allow env=AWS_SECRET_ACCESS_KEY"]);
        check(&env(&["AWS_SECRET_ACCESS_KEY"]), &["env=AWS_SECRET_ACCESS_KEY"], &[]);
        check(&env(&["AWS_SECRET_ACCESS_KEY"]), &["env=AWS"], &["--allow env=AWS_SECRET_ACCESS_KEY"]);
        check(&env(&["DATABASE_URL"]), &[], &["--allow env=DATABASE_URL"]);
        let secrets = SandboxPolicy { secrets: list(&["MINE"]), ..SandboxPolicy::default() };
        check(&secrets, &[], &["--allow env=MINE"]);
        check(&secrets, &["env=MINE"], &[]);
    }

    #[test]
    fn paths_out_of_the_default_view_are_asked_for() {
        let read = |paths: &[&str]| SandboxPolicy { read: list(paths), ..SandboxPolicy::default() };
        check(&read(&["/usr/share", "~/.cargo/registry"]), &[], &[]);
        check(&read(&["~/data/in"]), &[], &["--allow read=~/data/in"]);
        for word in ["read=~/data/in", "read=~/data", "write=~/data"] {
            check(&read(&["~/data/in"]), &[word], &[]);
        }
        check(&read(&["~/data"]), &["read=~/data/in"], &["--allow read=~/data"]);
        let cow = SandboxPolicy { cow: list(&["~/data", "~/.cargo/registry"]), ..SandboxPolicy::default() };
        check(&cow, &[], &["--allow read=~/data"]);
        let write = SandboxPolicy { write: list(&["~/data"]), ..SandboxPolicy::default() };
        check(&write, &["read=~/data"], &["--allow write=~/data"]);
        check(&write, &["write=~/data"], &[]);
        // No word helps: it is refused with its own reason where the policy is resolved.
        check(&read(&["~/.ssh", "~/nowhere", "relative"]), &[], &[]);
    }

    #[test]
    fn a_word_follows_no_link_that_a_task_may_have_made() {
        let write = |path: &str| SandboxPolicy { write: list(&[path]), ..SandboxPolicy::default() };
        let read = |path: &str| SandboxPolicy { read: list(&[path]), ..SandboxPolicy::default() };
        // `~/data/turned` leads to `~/private`, and so does `~/mine`: no task ever writes right in a home.
        check(&write("~/data/turned"), &["write=~/data/turned"], &["--allow write=~/private"]);
        check(&write("~/data/turned"), &["write=~/data"], &["--allow write=~/private"]);
        check(&read("~/data/turned/sub"), &["read=~/data/turned/sub"], &["--allow read=~/private/sub"]);
        check(&write("~/data/turned"), &["write=~/private"], &[]);
        check(&write("~/private"), &["write=~/data/turned"], &["--allow write=~/private"]);
        check(&write("~/mine"), &["write=~/mine"], &[]);
        check(&write("~/mine"), &["write=~/private"], &[]);
    }

    #[test]
    fn hosts_that_are_not_everybodys_are_asked_for() {
        check(&hosts(&["example.org", "*.example.net:443", "raw:git.example.org:22", "1.1.1.1:443"]), &[], &[]);
        for host in [
            "localhost:5432",
            "127.0.0.1:80",
            "10.0.0.5",
            "169.254.169.254",
            "[::1]:80",
            "db",
            "metadata.google.internal",
        ] {
            let flag = format!("--allow network={host}");
            let flag = if host.contains('[') { format!("--allow 'network={host}'") } else { flag };
            check(&hosts(&[host]), &[], &[flag.as_str()]);
            check(&hosts(&[host]), &[&format!("network={host}")], &[]);
        }
        check(&hosts(&["*.corp"]), &["network=a.corp"], &["--allow 'network=*.corp'"]);
        let all = SandboxPolicy { network: Network::Host, ..SandboxPolicy::default() };
        check(&all, &[], &["--allow-host-network"]);
    }

    #[test]
    fn what_nobody_can_write_down_is_not_to_be_written_down() {
        let host = Host::default();
        let asks = |policy: &SandboxPolicy| asks_of_policy("p", policy, &[], &host);
        let all = asks(&SandboxPolicy { network: Network::Host, ..SandboxPolicy::default() });
        let secret = asks(&SandboxPolicy { secrets: vec!["A_TOKEN".to_owned()], ..SandboxPolicy::default() });
        assert!(
            hint(&all).contains("add --allow-host-network to") && !hint(&all).contains("[[allow]]"),
            "{}",
            hint(&all)
        );
        assert!(hint(&secret).contains("or put it under [[allow]]"), "{}", hint(&secret));
        let both = hint(&[all, secret].concat());
        assert!(both.contains("put all but --allow-host-network under [[allow]]"), "{both}");
    }

    #[test]
    fn a_host_of_the_name_host_is_told_from_the_network_of_the_host() {
        let why = |text: &str| why_host(&HostRule::parse(text).expect("a host")).unwrap_or_default();
        assert!(why("host").contains("`network = \"host\"`"), "{}", why("host"));
        assert!(!why("db").contains("`network") && why("db").contains("a name of this network"), "the control");
    }

    #[test]
    fn texts_of_a_plan_see_no_credential() {
        let env = [("A_TOKEN", "x"), ("B", "y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        let names = |word: Word| word.readable(&env).into_keys().collect::<Vec<_>>();
        assert_eq!(names(Word::default()), ["B"]);
        let given = Given::These(vec![Allowance::Env("A_TOKEN".to_owned())]);
        assert_eq!(names(Word { given, ..Word::default() }), ["A_TOKEN", "B"]);
    }

    #[test]
    fn what_holds_credentials_is_not_copied_out_of_the_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in [".env", "conf/a.toml", "keys/deep/x.pem", "target/token.d", "warm/a/id_rsa"] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), "").unwrap();
        }
        let text = "version = 1\n[workspace]\ncopy = [\".env\", \".env.missing\", \"conf\", \"keys\"]\n\
                    cache = [\"target\", \"warm\"]\n[tasks.a]\nrun = \"true\"\n";
        let plan = swarm_plans::parse("p", text, &[], &mut |_| Err(String::new())).plan.expect("a plan");
        let places = Places { worktree: &root, ..Places::nowhere() };
        let view = View { host: &Host::default(), places, looked: &Looked::default() };
        let asks = asks_of_plan(&plan, |_| true, view);
        let told: Vec<String> = asks.iter().map(|ask| format!("{ask} ({})", ask.flag())).collect();
        let line = |key: &str, name: &str, such_as: &str| {
            let why = format!("it holds credentials, by the names of its files{such_as}");
            format!("workspace.{key} names `{name}`: {why} (--allow read={})", root.join(name).display())
        };
        let keys = line("copy", "keys", ", such as deep/x.pem");
        assert_eq!(told, [line("copy", ".env", ""), keys, line("cache", "warm", "")]);
        let given = Given::These(vec![Allowance::Read(root.join(".env").display().to_string())]);
        let missing = Word { given, ..Word::default() }.missing(asks, Path::new("/"));
        assert_eq!(missing.iter().map(|ask| ask.value.as_str()).collect::<Vec<_>>(), ["keys", "warm"]);
    }

    #[test]
    fn what_a_plan_asks_for_is_said_once_for_all() {
        let text = "version = 1\n[sandbox.default]\nsecrets = [\"A_TOKEN\"]\n[sandbox.unused]\nsecrets = [\"B\"]\n\
                    [sandbox.other]\nsecrets = [\"C\"]\n[tasks.b]\nsandbox = \"other\"\nrun = \"true\"\n\
                    [tasks.a]\nrun = \"echo {{ env.A_TOKEN }} {{ env.LANG }} {{ env.NPM_TOKEN }}\"\n";
        let parsed = swarm_plans::parse("p", text, &[], &mut |_| Err(String::new()));
        let plan = parsed.plan.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
        let view = View { host: &Host::default(), places: Places::nowhere(), looked: &Looked::default() };
        assert_eq!(asks_of_plan(&plan, |_| true, view).len(), 4);
        // Of a task that does not count nothing is asked.
        let asks = asks_of_plan(&plan, |task| task.name.0 != "b", view);
        let told: Vec<String> = asks.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "sandbox.default.secrets names `A_TOKEN`: a secret is handed to what the plan runs",
                "a text names {{ env.A_TOKEN }}: it holds a credential, by its name",
                "a text names {{ env.NPM_TOKEN }}: it holds a credential, by its name"
            ]
        );
        assert_eq!(flags(&asks), "--allow env=A_TOKEN --allow env=NPM_TOKEN");
    }
}
