//! What a worker may see: a named policy of the plan and the caller's host become a [`Cage`], once a run; a cage and one
//! attempt's worktree become a [`SandboxSpec`]. Grants come from the plan and the coordinator only, never from a file that
//! a worker could have written.
//!
//! What runs in the caller's shell runs in the cage: folders on `PATH` are readable, and toolchains know their homes. This
//! is the one place that decides what a policy may not ask for ([`resolve`]).

/// Toolchain presets.
pub mod toolchains;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use swarm_plans::{Network, SandboxPolicy, Tier as PlanTier};
use swarm_protocol::{Access, Cow, Grant, LimitsSpec, NetworkSpec, SandboxSpec, Tier, WorktreeSpec};

use crate::settings::HostNetwork;
use toolchains::{Show, TOOLCHAINS};

/// What the command line captured of the caller, once.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The caller's home folder; absolute.
    pub home: PathBuf,
    /// The folders of the caller's `PATH`, absolute ones only, in order.
    pub path: Vec<PathBuf>,
    /// The caller's environment, as far as it is UTF-8.
    pub env: BTreeMap<String, String>,
}

/// What the machine offers, as far as policies care.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The strongest tier.
    pub tier: Tier,
    /// Whether folders can be shown copy-on-write.
    pub overlay: bool,
    /// Whether the person at the command line allowed the host's network.
    pub network: HostNetwork,
}

/// Places of the run that no policy may expose.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Where workers see the worktree: the repository's own path.
    pub worktree: &'a Path,
    /// The repository's common git folder.
    pub git: &'a Path,
    /// The state folder.
    pub state: &'a Path,
}

/// A policy that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A path of the policy is not acceptable.
    #[error("sandbox.{policy}.{key} names `{path}`: {reason}")]
    Path {
        /// The policy.
        policy: String,
        /// `read`, `write` or `cow`.
        key: &'static str,
        /// As written.
        path: String,
        /// Why, for people.
        reason: &'static str,
    },
    /// The machine offers less than the policy accepts.
    #[error(
        "sandbox.{policy} asks for tier `namespaces`, and this machine offers `landlock` only; `swarm doctor` says why"
    )]
    Tier {
        /// The policy.
        policy: String,
    },
    /// `network = "host"` without the flag.
    #[error("sandbox.{policy} asks for the host's network, which needs `--allow-host-network`")]
    Network {
        /// The policy.
        policy: String,
    },
    /// `tools` names a preset that does not exist.
    #[error("sandbox.{policy}.tools names `{tool}`; the presets are {}", names())]
    Tool {
        /// The policy.
        policy: String,
        /// As written.
        tool: String,
    },
}

fn names() -> String {
    TOOLCHAINS.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

/// A policy resolved on this host; the same for every attempt that uses it.
#[derive(Debug, Clone)]
pub struct Cage {
    tier: Tier,
    grants: Vec<Grant>,
    /// Host folders to be seen copy-on-write, at their own paths.
    cows: Vec<PathBuf>,
    hide: Vec<PathBuf>,
    home: PathBuf,
    network: NetworkSpec,
    limits: LimitsSpec,
    env: Vec<(String, String)>,
    /// What the policy insists on, in the words of `require`.
    pub require: Vec<String>,
}

/// Folders and files of a home that hold credentials: never granted, whatever a plan asks for.
const CREDENTIALS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".config/gh",
    ".config/gcloud",
    ".config/git/credentials",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".m2/settings.xml",
    ".mozilla",
    ".config/google-chrome",
    ".config/chromium",
    ".local/share/keyrings",
    ".password-store",
];

/// Files in which a tool keeps credentials in its own home folder.
const TOOL_CREDENTIALS: &[&str] = &["credentials", "credentials.toml"];

/// Folders that many owners share: a `bin` in one of them says nothing about what lies beside it.
const SHARED: &[&str] = &["/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/tmp"];

/// Variables that are let through without being named: what a shell session needs, and nothing that could be a secret.
const PLAIN_VARIABLES: &[&str] = &["LANG", "LANGUAGE", "TZ", "TERM", "USER", "LOGNAME", "COLORTERM"];

/// Folders that the sandbox itself shows in every cage (their source is the sandbox crate's list of system folders).
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// Resolves a named policy on this host.
///
/// # Errors
/// [`PolicyError`]: the plan has to ask for something else, or the caller has to allow it.
pub fn resolve(
    name: &str,
    policy: &SandboxPolicy,
    host: &Host,
    offer: Offer,
    places: Places<'_>,
) -> Result<Cage, PolicyError> {
    if policy.tier == Some(PlanTier::Namespaces) && offer.tier < Tier::Namespaces {
        return Err(PolicyError::Tier { policy: name.to_owned() });
    }
    let network = match policy.network {
        Network::None => NetworkSpec::None,
        Network::Host if offer.network == HostNetwork::Allowed => NetworkSpec::Host,
        Network::Host => return Err(PolicyError::Network { policy: name.to_owned() }),
    };
    let mut shown = Showcase { places, overlay: offer.overlay, grants: vec![], cows: vec![] };
    let mut env = base_environment(host);
    for dir in &host.path {
        shown.path_folder(dir, &host.home);
    }
    for tool in chosen_tools(name, policy, host)? {
        let tool = tool.shown(host);
        for (path, show) in tool.paths {
            shown.add(path, show);
        }
        env.extend(tool.variables);
    }
    for (key, written, access) in [("read", &policy.read, Access::Read), ("write", &policy.write, Access::Write)] {
        for text in written {
            let path = checked(name, key, text, host, places)?;
            shown.grants.push(Grant { at: path.clone(), path, access });
        }
    }
    for text in &policy.cow {
        let path = checked(name, "cow", text, host, places)?;
        shown.add(path, Show::Cow);
    }
    env.extend(policy.env.iter().filter_map(|name| Some((name.clone(), host.env.get(name)?.clone()))));
    let (grants, cows) = shown.sorted();
    Ok(Cage {
        tier: offer.tier,
        grants,
        cows,
        hide: hidden(policy, host, places),
        home: host.home.clone(),
        network,
        limits: LimitsSpec {
            memory_bytes: policy.memory_bytes,
            processes: policy.processes,
            open_files: None,
            file_bytes: policy.disk_bytes,
            cpu: policy.cpu,
        },
        env,
        require: policy.require.clone(),
    })
}

/// What stays unreadable although it lies in something that is shown: what the policy names, and cargo's credentials where
/// its home is a folder of the system (`/usr/local/cargo` in many images).
fn hidden(policy: &SandboxPolicy, host: &Host, places: Places<'_>) -> Vec<PathBuf> {
    let named = policy.hide.iter().map(|text| places.worktree.join(expand_home(text, &host.home)));
    let cargo = host.env.get("CARGO_HOME").map(PathBuf::from);
    let system = cargo.filter(|home| SYSTEM.iter().any(|dir| home.starts_with(dir))).into_iter();
    let kept = system.flat_map(|home| TOOL_CREDENTIALS.iter().map(move |name| home.join(name)));
    named.chain(kept.filter(|path| path.symlink_metadata().is_ok())).collect()
}

fn chosen_tools<'a>(
    name: &str,
    policy: &SandboxPolicy,
    host: &Host,
) -> Result<Vec<&'a toolchains::Toolchain>, PolicyError> {
    let Some(tools) = &policy.tools else {
        return Ok(TOOLCHAINS.iter().filter(|tool| tool.is_on_path(host)).collect());
    };
    let find = |wanted: &String| {
        let unknown = || PolicyError::Tool { policy: name.to_owned(), tool: wanted.clone() };
        TOOLCHAINS.iter().find(|tool| tool.name == wanted).ok_or_else(unknown)
    };
    tools.iter().map(find).collect()
}

fn base_environment(host: &Host) -> Vec<(String, String)> {
    let path: Vec<&str> = host.path.iter().filter_map(|dir| dir.to_str()).collect();
    let mut env = vec![("PATH".to_owned(), path.join(":"))];
    let plain = |name: &str| PLAIN_VARIABLES.contains(&name) || name.starts_with("LC_");
    env.extend(host.env.iter().filter(|(name, _)| plain(name)).map(|(name, value)| (name.clone(), value.clone())));
    env
}

fn expand_home(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if text == "~" => home.to_owned(),
        None => PathBuf::from(text),
    }
}

/// The canonical path that a policy asks for, or why it may not have it. The decision is made on the canonical path, so
/// a symlink buys nothing.
fn checked(
    policy: &str,
    key: &'static str,
    text: &str,
    host: &Host,
    places: Places<'_>,
) -> Result<PathBuf, PolicyError> {
    let refuse = |reason| PolicyError::Path { policy: policy.to_owned(), key, path: text.to_owned(), reason };
    let path = expand_home(text, &host.home);
    if !path.is_absolute() {
        return Err(refuse("it has to be absolute, or start with `~/`"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("it may not hold `..`"));
    }
    let path = path.canonicalize().map_err(|_| refuse("it does not exist, or cannot be reached"))?;
    let home = host.home.canonicalize().unwrap_or_else(|_| host.home.clone());
    if path.parent().is_none() {
        return Err(refuse("the root folder is everything; name the folders that are needed"));
    }
    if home.starts_with(&path) {
        return Err(refuse(
            "it holds the whole home folder and with it every credential; name the folders that are needed",
        ));
    }
    if places.state.starts_with(&path) || path.starts_with(places.state) {
        return Err(refuse("it would expose swarm's own state"));
    }
    if places.git.starts_with(&path) || path.starts_with(places.git) {
        return Err(refuse("it would expose the repository's own `.git`"));
    }
    let credential = |name: &&str| {
        let secret = home.join(name);
        path.starts_with(&secret) || (secret.starts_with(&path) && secret.exists())
    };
    if CREDENTIALS.iter().any(credential) {
        return Err(refuse("it holds credentials"));
    }
    Ok(path)
}

/// Whether more of a folder than its programs may not be shown: many owners share it, or it is or lies in the home of
/// somebody, who need not be the caller (`sudo` keeps a `PATH`), or a tool that lives there keeps its credentials there.
fn may_hold_secrets(prefix: &Path) -> bool {
    let exists = |path: PathBuf| path.symlink_metadata().is_ok();
    let is_home = |folder: &Path| CREDENTIALS.iter().any(|name| exists(folder.join(name)));
    SHARED.iter().any(|shared| prefix == Path::new(shared))
        || prefix.parent() == Some(Path::new("/home"))
        || prefix.ancestors().filter(|folder| folder.parent().is_some()).any(is_home)
        || TOOL_CREDENTIALS.iter().any(|name| exists(prefix.join(name)))
}

/// Collects what is shown.
struct Showcase<'a> {
    places: Places<'a>,
    overlay: bool,
    grants: Vec<Grant>,
    cows: Vec<PathBuf>,
}

impl Showcase<'_> {
    /// Shows a path of the host at its own place. What lies in the worktree is there already; what would expose the
    /// repository's `.git` or the state is left out.
    fn add(&mut self, path: PathBuf, show: Show) {
        let exposes = |place: &Path| place.starts_with(&path) || path.starts_with(place);
        let system = SYSTEM.iter().any(|dir| path.starts_with(dir));
        if system || path.starts_with(self.places.worktree) || exposes(self.places.git) || exposes(self.places.state) {
            return;
        }
        match show {
            Show::Cow if self.overlay && path.is_dir() => self.cows.push(path),
            Show::Cow | Show::Read => self.grants.push(Grant { at: path.clone(), path, access: Access::Read }),
        }
    }

    /// Shows a folder of the caller's `PATH`, and what programs in it usually need beside it: the whole prefix outside of
    /// the home folder (`/opt/tool` for `/opt/tool/bin`), its `lib` inside.
    fn path_folder(&mut self, dir: &Path, home: &Path) {
        let Some(prefix) = dir.parent() else { return };
        if !dir.is_dir() || home.starts_with(dir) {
            return;
        }
        let own_prefix = dir.ends_with("bin") && prefix.parent().is_some() && !home.starts_with(prefix);
        if own_prefix && !dir.starts_with(home) && !may_hold_secrets(prefix) {
            self.add(prefix.to_owned(), Show::Read);
            return;
        }
        self.add(dir.to_owned(), Show::Read);
        let lib = prefix.join("lib");
        if own_prefix && lib.is_dir() {
            self.add(lib, Show::Read);
        }
    }

    /// Parents before children, and nothing twice: a later mount may lie in an earlier one, never under it.
    fn sorted(mut self) -> (Vec<Grant>, Vec<PathBuf>) {
        self.grants.sort_by(|a, b| a.at.cmp(&b.at).then((b.access == Access::Write).cmp(&(a.access == Access::Write))));
        self.grants.dedup_by(|later, earlier| later.at == earlier.at);
        let mut kept: Vec<Grant> = Vec::new();
        for grant in self.grants {
            let covered = kept.iter().any(|k| grant.at.starts_with(&k.at) && k.access == grant.access);
            if !covered {
                kept.push(grant);
            }
        }
        self.cows.sort();
        self.cows.dedup();
        let outer = self.cows.clone();
        self.cows.retain(|path| !outer.iter().any(|other| other != path && path.starts_with(other)));
        (kept, self.cows)
    }
}

/// One attempt's own places, made by the executor.
#[derive(Debug, Clone)]
pub struct AttemptPlaces {
    /// The attempt's folder on the host.
    pub folder: PathBuf,
    /// The same, relative to the state folder that the worktree's layers start from.
    pub relative: String,
}

impl Cage {
    /// Host folders and files beside the worktree and the system's own, as every attempt sees them.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Host folders that every attempt sees copy-on-write.
    pub fn copy_on_write(&self) -> &[PathBuf] {
        &self.cows
    }

    /// The names of the variables that every attempt gets.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(name, _)| name.as_str())
    }

    /// The tier that workers of this policy enter.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// One attempt's cage. `grants` are the attempt's own (the object store, its artifacts, those of its needs), `cow` the
    /// worktree's caches, `env` the task's variables, which win over the policy's.
    pub fn spec(
        &self,
        worktree: WorktreeSpec,
        mut cow: Vec<Cow>,
        mut grants: Vec<Grant>,
        env: Vec<(String, String)>,
        places: &AttemptPlaces,
    ) -> SandboxSpec {
        let namespaces = self.tier == Tier::Namespaces;
        let tmp = (!namespaces).then(|| places.folder.join("tmp"));
        let home = if namespaces { self.home.clone() } else { places.folder.join("home") };
        for (number, path) in self.cows.iter().enumerate() {
            cow.push(Cow {
                path: path.clone(),
                at: path.clone(),
                upper: format!("{}/cow/home-{number}/upper", places.relative),
                work: format!("{}/cow/home-{number}/work", places.relative),
            });
        }
        let mut all = self.grants.clone();
        all.append(&mut grants);
        let mut variables: BTreeMap<String, String> = self.env.iter().cloned().collect();
        variables.insert("HOME".to_owned(), home.to_string_lossy().into_owned());
        let tmp_inside = tmp.as_deref().unwrap_or(Path::new("/tmp"));
        variables.insert("TMPDIR".to_owned(), tmp_inside.to_string_lossy().into_owned());
        variables.extend(env);
        SandboxSpec {
            tier: self.tier,
            worktree,
            grants: all,
            cow,
            hide: self.hide.clone(),
            home,
            tmp,
            network: self.network,
            limits: self.limits.clone(),
            env: variables.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
        host: Host,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = dir.path().canonicalize().unwrap().join("home");
            for sub in ["home/.ssh", "home/.config/gh", "home/data", "repo/.git/swarm", "opt/tool/bin", "opt/tool/lib"]
            {
                std::fs::create_dir_all(dir.path().join(sub)).unwrap();
            }
            std::os::unix::fs::symlink(home.join(".ssh"), home.join("data/keys")).unwrap();
            let path = vec![dir.path().canonicalize().unwrap().join("opt/tool/bin")];
            Fixture { dir, host: Host { home, path, env: BTreeMap::new() } }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap()
        }

        fn resolve(&self, policy: &SandboxPolicy) -> Result<Cage, PolicyError> {
            let (worktree, git) = (self.root().join("repo"), self.root().join("repo/.git"));
            let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
            resolve(
                "default",
                policy,
                &self.host,
                Offer { tier: Tier::Namespaces, overlay: true, network: HostNetwork::Refused },
                places,
            )
        }

        fn refusal(&self, text: &str) -> Option<&'static str> {
            let policy = SandboxPolicy { read: vec![text.to_owned()], ..SandboxPolicy::default() };
            match self.resolve(&policy) {
                Err(PolicyError::Path { reason, .. }) => Some(reason),
                Err(error) => panic!("{error}"),
                Ok(_) => None,
            }
        }
    }

    #[test]
    fn what_exposes_secrets_is_refused_even_through_a_symlink() {
        let fixture = Fixture::new();
        let root = fixture.root();
        let below = |path: &str| root.join(path).to_string_lossy().into_owned();
        for refused in [
            "~",
            "~/.ssh",
            "~/.config",
            "~/data/keys",
            "/",
            "relative",
            "~/data/../.ssh",
            "~/missing",
            &below("repo/.git"),
            &below("repo"),
            &below("repo/.git/swarm"),
            &below(""),
        ] {
            assert!(fixture.refusal(refused).is_some(), "{refused} was granted");
        }
        assert_eq!(fixture.refusal("~/data"), None);
    }

    #[test]
    fn folders_on_the_path_are_readable_with_their_prefix() {
        let fixture = Fixture::new();
        let cage = fixture.resolve(&SandboxPolicy::default()).unwrap();
        let at: Vec<PathBuf> = cage.grants.iter().map(|grant| grant.at.clone()).collect();
        assert_eq!(at, [fixture.root().join("opt/tool")]);
    }

    #[test]
    fn of_a_home_on_the_path_only_programs_are_readable() {
        for (secret, bin) in [(".ssh", "bin"), (".ssh", ".local/bin"), (".cargo/credentials.toml", ".cargo/bin")] {
            let mut fixture = Fixture::new();
            let other = fixture.root().join("other");
            std::fs::create_dir_all(other.join(bin)).unwrap();
            std::fs::create_dir_all(other.join(secret)).unwrap();
            fixture.host.path = vec![other.join(bin)];
            let cage = fixture.resolve(&SandboxPolicy::default()).unwrap();
            let at: Vec<PathBuf> = cage.grants.iter().map(|grant| grant.at.clone()).collect();
            assert_eq!(at, [other.join(bin)], "{secret}");
        }
        assert!(may_hold_secrets(Path::new("/tmp")) && may_hold_secrets(Path::new("/home/somebody")));
    }

    #[test]
    fn secrets_of_the_environment_stay_outside() {
        let mut fixture = Fixture::new();
        for (name, value) in [("AWS_SECRET_ACCESS_KEY", "x"), ("LANG", "C"), ("LC_ALL", "C"), ("MINE", "1")] {
            fixture.host.env.insert(name.into(), value.into());
        }
        let cage = fixture.resolve(&SandboxPolicy { env: vec!["MINE".into()], ..SandboxPolicy::default() }).unwrap();
        let names: Vec<&str> = cage.env.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["PATH", "LANG", "LC_ALL", "MINE"]);
    }

    #[test]
    fn the_hosts_network_needs_the_callers_word() {
        let fixture = Fixture::new();
        let policy = SandboxPolicy { network: Network::Host, ..SandboxPolicy::default() };
        assert_eq!(fixture.resolve(&policy).unwrap_err(), PolicyError::Network { policy: "default".into() });
    }
}
