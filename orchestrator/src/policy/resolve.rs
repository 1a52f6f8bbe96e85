//! From a named policy of the plan and the caller's host to a [`Cage`], or the reason why not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use swarm_plans::{Network, SandboxPolicy, Tier as PlanTier};
use swarm_protocol::{Access, Grant, NetworkSpec, Tier};

use super::cage::private_home;
use super::limits;
use super::named::{Named, named};
use super::paths::states_to_hide;
use super::reason::{BelongsTo, Reason};
use super::remedy::{Hidden, Origin};
use super::showcase::{Showcase, TOOL_CREDENTIALS, Unfit};
use super::toolchains::{self, Show, Shown, TOOLCHAINS};
use super::word::{self, Ask, Word};
use super::{Cage, Host, Offer, Places, SYSTEM, View, copies};
use crate::egress::Allowlist;
use crate::report::sanitize;
use crate::secrets::SECRET_BYTES_MIN;
use crate::state::MARKER;

/// A policy that cannot be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A path of the policy is not acceptable.
    #[error("sandbox.{policy}.{key} names `{path}`: {reason}")]
    Path {
        /// The policy.
        policy: String,
        /// `read`, `write`, `cow` or `hide`.
        key: &'static str,
        /// As written.
        path: String,
        /// Why, for people.
        reason: Reason,
    },
    /// The machine offers less than the policy accepts.
    #[error(
        "sandbox.{policy} asks for tier `namespaces`, and this machine offers `landlock` only; `swarm doctor` says why"
    )]
    Tier {
        /// The policy.
        policy: String,
    },
    /// What a plan asks for and nobody allowed.
    #[error("give the plan what only a person can allow:{}", word::lines(asks))]
    Word {
        /// All of it; never empty.
        asks: Vec<Ask>,
    },
    /// A secret is too short to be masked.
    #[error(
        "sandbox.{policy}.secrets names `{name}`, whose value is shorter than {SECRET_BYTES_MIN} bytes: a mask for it would \
         hide every other word; `env` lets it through unmasked"
    )]
    Secret {
        /// The policy.
        policy: String,
        /// The variable.
        name: String,
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

impl PolicyError {
    /// The policy and the key that are at fault, and the key's text where one of several is. `None` where several are, each
    /// with a policy and a key of its own.
    pub fn place(&self) -> Option<(&str, &str, Option<&str>)> {
        Some(match self {
            PolicyError::Path { policy, key, path, .. } => (policy, key, Some(path)),
            PolicyError::Tier { policy } => (policy, "tier", None),
            PolicyError::Word { .. } => return None,
            PolicyError::Secret { policy, name } => (policy, "secrets", Some(name)),
            PolicyError::Tool { policy, tool } => (policy, "tools", Some(tool)),
        })
    }

    /// Whether the plan has to ask for something else, on whichever machine. What is not here, or what this machine cannot do, is
    /// not its fault.
    pub fn is_the_plans(&self) -> bool {
        match self {
            PolicyError::Path { reason, .. } => reason.belongs_to() == BelongsTo::Plan,
            PolicyError::Tool { .. } | PolicyError::Word { .. } => true,
            PolicyError::Tier { .. } | PolicyError::Secret { .. } => false,
        }
    }

    /// What to type or change next.
    pub fn hint(&self) -> String {
        match self {
            PolicyError::Path { path, reason: Reason::Here { mend, .. }, .. } => {
                mend.replace("DIR", &typed(path))
            }
            PolicyError::Path { path, reason: Reason::State, .. } => {
                let path = typed(path);
                format!(
                    "name a folder in it that is needed; find {path} -name {MARKER} shows what is taken for state: one that no \
                     swarm made can be removed (rm)"
                )
            }
            PolicyError::Path { key: "hide", .. } => "hide files or folders of the worktree, or what it sees beside it".to_owned(),
            PolicyError::Path { .. } => {
                "take it out, or name a folder in it that is needed; `swarm explain --task TASK PLAN` shows what a task sees \
                 without it"
                    .to_owned()
            }
            PolicyError::Tier { .. } => "`swarm doctor` shows what this machine can enforce, and why not more".to_owned(),
            PolicyError::Word { asks } => word::hint(asks),
            PolicyError::Secret { policy, name } => {
                format!("move `{name}` to sandbox.{policy}.env, or set it to its real value")
            }
            PolicyError::Tool { .. } => "without `tools`, what is on your PATH is shown".to_owned(),
        }
    }
}

/// A path of a plan as a shell takes it for the same.
fn typed(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("~/{}", sanitize::shell_word(rest)),
        None => sanitize::shell_word(path),
    }
}

/// All that a policy names and that is refused, whatever the machine offers beside it: what can be said before anything runs.
pub fn refusals(name: &str, policy: &SandboxPolicy, view: View<'_>) -> Vec<PolicyError> {
    let guard = view.guard();
    let granted = named(policy, guard).into_iter();
    let granted = granted.filter_map(|named| Some((named.key, named.text, named.found.err()?)));
    let hidden = policy.hide.iter();
    let hidden = hidden.filter_map(|text| Some(("hide", &**text, guard.hidden(text, Tier::Namespaces).err()?)));
    let paths = granted.chain(hidden).map(|(key, text, reason)| PolicyError::Path {
        policy: name.to_owned(),
        key,
        path: text.to_owned(),
        reason,
    });
    paths.chain(chosen_tools(name, policy, view.host).err()).collect()
}

fn names() -> String {
    TOOLCHAINS.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
}

/// Variables that are let through without being named: what a shell session needs, and nothing that could be a secret.
const PLAIN_VARIABLES: &[&str] = &["LANG", "LANGUAGE", "TZ", "TERM", "USER", "LOGNAME", "COLORTERM"];

/// Looks at what a policy may show, which a later [`resolve`] finds in the same view: for who waits for the machine to be tried.
/// What it decides then is decided then.
pub fn look_ahead(name: &str, policy: &SandboxPolicy, view: View<'_>, word: Word) {
    let offer = Offer { tier: Tier::Namespaces, overlay: false, word, capacity: limits::Capacity::default() };
    drop(resolve(name, policy, view, offer));
}

/// Resolves a named policy on this host.
///
/// # Errors
/// [`PolicyError`]: the plan has to ask for something else, or the caller has to allow it.
pub fn resolve(name: &str, policy: &SandboxPolicy, view: View<'_>, offer: Offer) -> Result<Cage, PolicyError> {
    let View { host, places, .. } = view;
    if policy.tier == Some(PlanTier::Namespaces) && offer.tier < Tier::Namespaces {
        return Err(PolicyError::Tier { policy: name.to_owned() });
    }
    let named = named(policy, view.guard());
    let asks = offer.word.missing_of_named(name, policy, &named, view);
    if !asks.is_empty() {
        return Err(PolicyError::Word { asks });
    }
    let tools: Vec<Shown> = chosen_tools(name, policy, host)?.into_iter().map(|tool| tool.shown(host)).collect();
    let variables = tools.iter().flat_map(|tool| tool.variables.iter().cloned());
    let env = environment(name, policy, host, variables)?;
    let Tree { grants, named, cows, hide, hidden, warnings } = tree(name, policy, &named, tools, view, &offer)?;
    Ok(Cage {
        tier: offer.tier,
        grants,
        named,
        copies: copies::together(&cows, &|folder| copies::anchor(folder, &host.home, places.state)),
        cows,
        hide,
        origin: Origin::of(name, policy, host, places).hiding(hidden),
        warnings,
        home: private_home(&host.home).to_owned(),
        network: match &policy.network {
            // Where hosts are listed, a job gets its network with its door to the proxy; without a door it has none.
            Network::None | Network::Hosts(_) => NetworkSpec::None,
            Network::Host => NetworkSpec::Host,
        },
        egress: match &policy.network {
            Network::Hosts(rules) => Some(Allowlist { policy: name.to_owned(), rules: rules.as_slice().into() }),
            Network::None | Network::Host => None,
        },
        limits: limits::of(policy, offer.capacity),
        limits_named: limits::named(policy),
        env,
        secrets: policy.secrets.clone(),
        require: policy.require.clone(),
    })
}

/// What a cage shows of the host and what it hides there.
struct Tree {
    grants: Vec<Grant>,
    /// Those among them that the policy names itself.
    named: Vec<Grant>,
    cows: Vec<PathBuf>,
    hide: Vec<PathBuf>,
    hidden: Hidden,
    warnings: Vec<String>,
}

/// Puts together what `PATH`, tools and the policy itself want shown.
fn tree(
    name: &str,
    policy: &SandboxPolicy,
    named: &[Named<'_>],
    tools: Vec<Shown>,
    view: View<'_>,
    offer: &Offer,
) -> Result<Tree, PolicyError> {
    let host = view.host;
    let mut shown = Showcase::new(view, offer.tier, offer.overlay);
    for dir in &host.path {
        shown.path_folder(dir);
    }
    tools.into_iter().flat_map(|tool| tool.paths).for_each(|home| shown.home(home));
    let unfit = |(key, path, reason)| PolicyError::Path { policy: name.to_owned(), key, path, reason };
    let named = places_of(named).map_err(unfit)?;
    let states = states_in(&named, offer.tier).map_err(unfit)?;
    let hide = name_paths(policy, &named, offer.tier, &mut shown).map_err(unfit)?;
    let read = named.iter().filter(|(named, _)| named.access == Access::Read);
    let asked: Vec<PathBuf> = read.map(|(_, path)| (*path).to_owned()).collect();
    let (named, withheld, omissions) = (shown.named.clone(), shown.hidden(&asked), shown.omissions());
    let mut named_hide: Vec<PathBuf> = hide.iter().map(|(_, path)| path.clone()).collect();
    named_hide.extend(shown.twins(&named_hide));
    let (grants, cows) = shown.sorted();
    let mut warnings = warnings(name, policy, &hide, &grants, &cows, view.places);
    warnings.extend(omissions);
    let lists = [("env", &policy.env), ("secrets", &policy.secrets)];
    let variables = lists.into_iter().flat_map(|(key, names)| names.iter().map(move |variable| (key, variable)));
    let unset = variables.filter(|(_, variable)| !host.env.contains_key(*variable));
    warnings
        .extend(unset.map(|(key, name_of)| format!("sandbox.{name}.{key} names `{name_of}`, which is not set here")));
    let hidden = Hidden { named: named_hide.clone(), unasked: withheld.clone() };
    let unnamed = states.into_iter().chain(withheld);
    let unnamed: BTreeSet<PathBuf> =
        unnamed.filter(|path| !hide.iter().any(|(_, hidden)| path.starts_with(hidden))).collect();
    let hide = named_hide.into_iter().chain(kept_by_tools(host)).chain(unnamed).collect();
    Ok(Tree { grants, named, cows, hide, hidden, warnings })
}

/// The variables that every worker gets.
fn environment(
    name: &str,
    policy: &SandboxPolicy,
    host: &Host,
    of_tools: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, PolicyError> {
    let short = |name: &&String| host.env.get(*name).is_some_and(|value| value.len() < SECRET_BYTES_MIN);
    if let Some(secret) = policy.secrets.iter().find(short) {
        return Err(PolicyError::Secret { policy: name.to_owned(), name: secret.clone() });
    }
    let mut env = base_environment(host);
    env.extend(of_tools);
    let named = policy.env.iter().chain(&policy.secrets);
    env.extend(named.filter_map(|name| Some((name.clone(), host.env.get(name)?.clone()))));
    Ok(env)
}

/// The paths that a policy names, all of which it may have, with where they lead.
fn places_of<'a, 'p>(named: &'a [Named<'p>]) -> Result<Vec<(&'a Named<'p>, &'a Path)>, Unfit> {
    let place = |named: &'a Named<'p>| match &named.found {
        Ok(place) => Ok((named, &*place.path)),
        Err(reason) => Err((named.key, named.text.to_owned(), *reason)),
    };
    named.iter().map(place).collect()
}

/// Shows the paths that a policy names, and gives those that it hides, each with its text.
fn name_paths<'p>(
    policy: &'p SandboxPolicy,
    named: &[(&Named<'_>, &Path)],
    tier: Tier,
    shown: &mut Showcase<'_>,
) -> Result<Vec<(&'p String, PathBuf)>, Unfit> {
    for (named, path) in named {
        match named.key {
            "cow" => shown.add((*path).to_owned(), Show::Cow),
            _ => shown.named.push(Grant { at: (*path).to_owned(), path: (*path).to_owned(), access: named.access }),
        }
    }
    let guard = shown.guard;
    let hidden =
        |text: &'p String| Ok((text, guard.hidden(text, tier).map_err(|reason| ("hide", text.clone(), reason))?));
    let hide: Vec<(&String, PathBuf)> = policy.hide.iter().map(hidden).collect::<Result<_, _>>()?;
    shown.settle(&hide, tier)?;
    Ok(hide)
}

/// The state folders in what a policy lets be read: hidden without being asked for. What it lets be written holds none.
fn states_in(named: &[(&Named<'_>, &Path)], tier: Tier) -> Result<BTreeSet<PathBuf>, Unfit> {
    let mut all = BTreeSet::new();
    for (named, path) in named.iter().filter(|(named, _)| named.access == Access::Read) {
        let states = states_to_hide(path, tier);
        all.extend(states.map_err(|reason| (named.key, named.text.to_owned(), reason))?);
    }
    Ok(all)
}

/// Cargo's credentials where its home is a folder of the system (`/usr/local/cargo` in many images): hidden without being
/// asked for.
fn kept_by_tools(host: &Host) -> impl Iterator<Item = PathBuf> {
    let cargo = host.env.get("CARGO_HOME").map(PathBuf::from);
    let system = cargo.filter(|home| SYSTEM.iter().any(|dir| home.starts_with(dir))).into_iter();
    let kept = system.flat_map(|home| TOOL_CREDENTIALS.iter().map(move |name| home.join(name)));
    kept.filter(|path| path.symlink_metadata().is_ok())
}

/// What is odd about a policy and does no harm.
fn warnings(
    name: &str,
    policy: &SandboxPolicy,
    hide: &[(&String, PathBuf)],
    grants: &[Grant],
    cows: &[PathBuf],
    places: Places<'_>,
) -> Vec<String> {
    let shown = |path: &Path| {
        let own = grants.iter().map(|grant| &*grant.at).chain(cows.iter().map(|cow| &**cow)).chain([places.worktree]);
        let system = SYSTEM.iter().map(Path::new);
        own.chain(system).any(|tree| path.starts_with(tree) || tree.starts_with(path))
    };
    let unseen = hide.iter().filter(|(_, path)| !shown(path));
    let unseen = unseen
        .map(|(text, _)| format!("sandbox.{name}.hide names `{text}`, which no task of this policy would see anyway"));
    let twice = policy.read.iter().filter(|path| policy.write.contains(path));
    let twice = twice.map(|path| format!("sandbox.{name} names `{path}` in `read` and in `write`; it may be written"));
    unseen.chain(twice).collect()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::installation::may_hold_secrets;
    use crate::policy::{Looked, Word};
    use crate::settings::HostNetwork;

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
            Fixture { dir, host: Host::new(home, path, BTreeMap::new()) }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap()
        }

        fn resolve(&self, policy: &SandboxPolicy) -> Result<Cage, PolicyError> {
            let (worktree, git) = (self.root().join("repo"), self.root().join("repo/.git"));
            let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
            let view = View { host: &self.host, places, looked: &Looked::default() };
            resolve("default", policy, view, offer(Tier::Namespaces, Word::everything(HostNetwork::Refused)))
        }

        /// What a policy shows below the fixture, as `r PATH` and `w PATH`, or why not.
        fn shown(&self, policy: &SandboxPolicy, tier: Tier) -> Result<String, String> {
            let (worktree, git) = (self.root().join("repo"), self.root().join("repo/.git"));
            let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
            let offer = offer(tier, Word::everything(HostNetwork::Refused));
            let top = self.root().display().to_string();
            let view = View { host: &self.host, places, looked: &Looked::default() };
            let cage = resolve("p", policy, view, offer);
            let cage = cage.map_err(|error| error.to_string().replace(&top, "@"))?;
            let grant = |grant: &Grant| format!("{:?} {}", grant.access, grant.at.display());
            let warnings = cage.warnings.iter().map(|warning| format!("({warning})"));
            let all: Vec<String> = cage.grants.iter().map(grant).chain(warnings).collect();
            Ok(all.join(", ").replace(&top, "@"))
        }
    }

    fn offer(tier: Tier, word: Word) -> Offer {
        Offer { tier, overlay: true, word, capacity: limits::Capacity::default() }
    }

    fn policy(read: &[&str], write: &[&str], hide: &[&str]) -> SandboxPolicy {
        let all = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        SandboxPolicy { read: all(read), write: all(write), hide: all(hide), ..SandboxPolicy::default() }
    }

    #[test]
    fn what_contradicts_itself_is_settled_or_refused() {
        let fixture = Fixture::new();
        for sub in ["home/data/in", "home/data/in/deep"] {
            std::fs::create_dir_all(fixture.root().join(sub)).unwrap();
        }
        let check = |read: &[&str], write: &[&str], hide: &[&str], tier, expected: &str| {
            let found = fixture.shown(&policy(read, write, hide), tier).unwrap_or_else(|error| error);
            let found = found.replace("Read @/opt/tool/bin, Read @/opt/tool/lib", "");
            let found = found.trim_end_matches(", ").replace(", , ", ", ");
            assert_eq!(found.trim_start_matches(", "), expected, "{read:?} {write:?} {hide:?}");
        };
        let (strong, weak) = (Tier::Namespaces, Tier::Landlock);
        let d = "~/data";
        check(&[d, d, "~/data/in"], &[], &[], strong, "Read @/home/data");
        check(
            &[d],
            &[d],
            &[],
            strong,
            "Write @/home/data, (sandbox.p names `~/data` in `read` and in `write`; it may be written)",
        );
        check(&[d], &["~/data/in"], &[], weak, "Read @/home/data, Write @/home/data/in");
        check(&["~/data/in"], &[d], &[], strong, "Write @/home/data, Read @/home/data/in");
        check(
            &["~/data/in"],
            &[d],
            &[],
            weak,
            "sandbox.p.read names `@/home/data/in`: the landlock tier cannot keep it read-only inside a folder that may be written",
        );
        check(
            &[d, "~/data/in/deep"],
            &["~/data/in"],
            &[],
            strong,
            "Read @/home/data, Write @/home/data/in, Read @/home/data/in/deep",
        );
        check(
            &["~/data/in"],
            &[],
            &[d],
            strong,
            "sandbox.p.hide names `~/data`: it would hide what the same policy lets be read or written",
        );
        check(
            &[],
            &[],
            &["~/nowhere"],
            strong,
            "(sandbox.p.hide names `~/nowhere`, which no task of this policy would see anyway)",
        );
        check(&[d], &[], &["~/data/in", "secrets/"], strong, "Read @/home/data");
    }

    #[test]
    fn what_is_hidden_is_not_shown_for_the_sake_of_a_tool() {
        let fixture = Fixture::new();
        let tool = fixture.root().join("opt/tool").display().to_string();
        assert_eq!(
            fixture.shown(&policy(&[], &[], &[&tool]), Tier::Namespaces).unwrap(),
            format!("(sandbox.p.hide names `{tool}`, which no task of this policy would see anyway)")
                .replace(&fixture.root().display().to_string(), "@")
        );
    }

    #[test]
    fn what_a_task_led_astray_is_not_shown_for_the_sake_of_a_tool() {
        let mut fixture = Fixture::new();
        let home = fixture.root().join("home");
        for sub in ["work/v1/bin", "private/bin"] {
            std::fs::create_dir_all(home.join(sub)).unwrap();
        }
        std::fs::write(fixture.root().join("opt/tool/bin/python3"), "").unwrap();
        for (target, link) in [("../private", "work/venv"), ("../private/bin", "work/bin"), ("v1", "work/current")] {
            std::os::unix::fs::symlink(target, home.join(link)).unwrap();
        }
        fixture.host.path.push(home.join("work/bin"));
        fixture.host.env.insert("VIRTUAL_ENV".into(), home.join("work/venv").display().to_string());
        let shown = fixture.shown(&policy(&[], &[], &[]), Tier::Namespaces).unwrap();
        assert!(!shown.contains("Read @/home"), "{shown}");
        for named in ["PATH names `@/home/work/bin`", "a toolchain keeps `@/home/work/venv`"] {
            assert!(shown.contains(named), "{shown}");
        }
        fixture.host.path = vec![fixture.root().join("opt/tool/bin"), home.join("work/current/bin")];
        let shown = fixture.shown(&policy(&[], &[], &[]), Tier::Namespaces).unwrap();
        assert!(shown.contains("Read @/home/work/current/bin"), "{shown}");
    }

    #[test]
    fn what_is_hidden_is_hidden_by_each_of_its_names() {
        let mut fixture = Fixture::new();
        let home = fixture.root().join("home");
        for sub in ["bin", "v/v1/bin", "v/v1/lib/secret"] {
            std::fs::create_dir_all(home.join(sub)).unwrap();
        }
        for file in ["v/v1/pyvenv.cfg", "v/v1/bin/tool"] {
            std::fs::write(home.join(file), "#!/bin/sh").unwrap();
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.join("v/v1/bin/tool"), mode).unwrap();
        for (target, link) in [("v1", "v/cur"), ("../v/cur/bin/tool", "bin/tool")] {
            std::os::unix::fs::symlink(target, home.join(link)).unwrap();
        }
        fixture.host.path = vec![home.join("bin")];
        for text in ["~/v/v1/lib/secret", "~/v/cur/lib/secret"] {
            let cage = fixture.resolve(&policy(&[], &[], &[text])).unwrap();
            assert!(cage.grants.iter().any(|grant| grant.at == home.join("v/cur/lib")), "{:?}", cage.grants);
            assert_eq!(cage.hide, ["v/v1/lib/secret", "v/cur/lib/secret"].map(|name| home.join(name)), "{text}");
        }
        for text in ["~/v/v1", "~/v/cur/lib"] {
            let cage = fixture.resolve(&policy(&[], &[], &[text])).unwrap();
            let shown: Vec<_> =
                cage.grants.iter().filter(|grant| grant.path.starts_with(home.join("v/v1/lib"))).collect();
            assert!(shown.is_empty(), "{text}: {shown:?}");
        }
    }

    #[test]
    fn what_may_be_written_is_not_narrowed_for_the_sake_of_a_tool() {
        let fixture = Fixture::new();
        let lib = fixture.root().join("opt/tool/lib").display().to_string();
        assert_eq!(
            fixture.shown(&policy(&[], &[&lib], &[]), Tier::Namespaces).unwrap(),
            "Read @/opt/tool/bin, Write @/opt/tool/lib"
        );
    }

    #[test]
    fn folders_on_the_path_are_readable_with_what_tools_keep_beside_them_and_nothing_else() {
        let fixture = Fixture::new();
        let tool = fixture.root().join("opt/tool");
        for other in ["private", "src", "conf", ".git", "data"] {
            std::fs::create_dir_all(tool.join(other)).unwrap();
        }
        std::fs::write(tool.join("key.pem"), "").unwrap();
        std::os::unix::fs::symlink("lib", tool.join("lib64")).unwrap();
        std::os::unix::fs::symlink("private", tool.join("share")).unwrap();
        std::os::unix::fs::symlink("../../home/data", tool.join("include")).unwrap();
        let shown = |policy| {
            let cage = fixture.resolve(&policy).unwrap();
            let below = |path: &Path| path.strip_prefix(&tool).unwrap().display().to_string();
            let grants = cage.grants.iter().map(|grant| format!("{}={}", below(&grant.at), below(&grant.path)));
            grants.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(SandboxPolicy::default()), "bin=bin lib=lib lib64=lib");
        std::fs::write(tool.join("release"), "").unwrap();
        assert_eq!(shown(SandboxPolicy::default()), "bin=bin conf=conf lib=lib lib64=lib release=release");
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
        assert!(
            ["/tmp", "/home/somebody"].iter().all(|of_many| may_hold_secrets(Path::new(of_many), Path::new("/root")))
        );
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
    fn a_named_secret_is_let_through_and_known_as_one() {
        let mut fixture = Fixture::new();
        for (name, value) in [("NPM_TOKEN", "npm_1234"), ("PIN", "123"), ("MINE", "1")] {
            fixture.host.env.insert(name.into(), value.into());
        }
        let policy = |secrets: &[&str]| SandboxPolicy {
            env: vec!["MINE".into()],
            secrets: secrets.iter().map(|&name| name.to_owned()).collect(),
            ..SandboxPolicy::default()
        };
        let cage = fixture.resolve(&policy(&["NPM_TOKEN", "UNSET"])).unwrap();
        assert_eq!(cage.secrets().collect::<Vec<_>>(), [("NPM_TOKEN", "npm_1234")]);
        assert!(cage.env.iter().any(|(name, value)| name == "NPM_TOKEN" && value == "npm_1234"));
        assert_eq!(cage.warnings, ["sandbox.default.secrets names `UNSET`, which is not set here"]);
        let passed_on = SandboxPolicy { env: vec!["MINE".into(), "UNSET".into()], ..SandboxPolicy::default() };
        let cage = fixture.resolve(&passed_on).unwrap();
        assert_eq!(cage.warnings, ["sandbox.default.env names `UNSET`, which is not set here"]);
        let refused = fixture.resolve(&policy(&["PIN"])).unwrap_err();
        assert_eq!(refused.place(), Some(("default", "secrets", Some("PIN"))), "{refused}");
    }

    #[test]
    fn what_is_read_shows_no_state_folder() {
        let fixture = Fixture::new();
        let state = fixture.root().join("opt/data/st");
        crate::state::StateDir::open(&state).unwrap();
        let data = fixture.root().join("opt/data").display().to_string();
        let policy = policy(&[&data], &[], &[]);
        assert_eq!(fixture.resolve(&policy).map(|cage| cage.hide), Ok(vec![state]));
        let refused = fixture.shown(&policy, Tier::Landlock).expect_err("nothing can hide it there");
        assert_eq!(refused, "sandbox.p.read names `@/opt/data`: it would expose swarm's own state");
    }

    #[test]
    fn no_policy_gets_what_nobody_allowed() {
        let fixture = Fixture::new();
        let (worktree, git) = (fixture.root().join("repo"), fixture.root().join("repo/.git"));
        let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
        let policy = SandboxPolicy {
            network: Network::Host,
            env: vec!["A_KEY".into()],
            ..policy(&["~/data"], &["~/data"], &[])
        };
        let view = View { host: &fixture.host, places, looked: &Looked::default() };
        let refused = |word: Word| resolve("p", &policy, view, offer(Tier::Namespaces, word));
        let Err(PolicyError::Word { asks }) = refused(Word::default()) else { panic!("it was granted") };
        let flags = "--allow read=~/data --allow write=~/data --allow env=A_KEY --allow-host-network";
        assert_eq!(word::flags(&asks), flags);
        let Err(PolicyError::Word { asks }) = refused(Word::everything(HostNetwork::Refused)) else {
            panic!("it was granted")
        };
        assert_eq!(word::flags(&asks), "--allow-host-network");
        assert!(refused(Word::everything(HostNetwork::Allowed)).is_ok());
    }
}
