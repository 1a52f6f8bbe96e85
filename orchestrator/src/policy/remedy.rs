//! What a plan would have to say to allow what a worker was refused, or why no plan can.

use std::path::{Path, PathBuf};

use swarm_plans::egress::{HostPattern, HostRule};
use swarm_plans::place::{IsWritten, list_to_paste, quoted};
use swarm_plans::{DEFAULT_SANDBOX, Network, SandboxPolicy};
use swarm_protocol::{Access, RefusedAct, SeenRefusal};

use super::on_path::{OnPath, Programs};
use super::paths::{Guard, as_written, expand_home};
use super::{Host, Places, left_out, listeners, word};
use crate::event::RefusalSeen;

/// What helps where a tool meets the checkout's own files above its worktree.
const ABOVE: &str = "have worktrees elsewhere: swarm --state-dir FOLDER, outside of the repository; settings of tools are shown as they are committed";

/// What a policy was resolved with, kept for the questions that come later.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The policy's name.
    pub policy: String,
    /// Whether the plan writes it.
    pub is_written: IsWritten,
    /// What it names already, by the key under which more may be named.
    pub names: [(&'static str, Vec<String>); 5],
    /// The caller's variables that have a value.
    pub variables: Vec<Variable>,
    /// The caller's home folder.
    pub home: PathBuf,
    /// Where workers see the worktree.
    pub worktree: PathBuf,
    /// The repository's common git folder.
    pub git: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The state folder of what belongs to no repository.
    pub own_state: PathBuf,
    /// The folders of the caller's `PATH`.
    pub path: Vec<PathBuf>,
    /// What is hidden, by who hides it.
    pub hidden: Hidden,
}

/// A variable of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Whether a plan alone gets it.
    pub given_by: GivenBy,
}

/// Who can let a variable into a cage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenBy {
    /// The plan.
    Plan,
    /// A person, beside the plan: it holds a credential.
    Person,
}

/// Paths that no worker of a policy sees, by what would show them.
#[derive(Debug, Clone, Default)]
pub struct Hidden {
    /// The policy hides them.
    pub named: Vec<PathBuf>,
    /// Nobody wrote down that what holds them is shown: who names them in `read` sees them.
    pub unasked: Vec<PathBuf>,
}

impl Origin {
    /// Of a policy of that name.
    pub fn of(name: &str, policy: &SandboxPolicy, host: &Host, places: Places<'_>) -> Origin {
        let hosts = match &policy.network {
            Network::Hosts(rules) => rules.iter().map(HostRule::to_string).collect(),
            Network::None | Network::Host => vec![],
        };
        Origin {
            policy: name.to_owned(),
            // All but the default one are written wherever they are named.
            is_written: match name == DEFAULT_SANDBOX && *policy == SandboxPolicy::default() {
                true => IsWritten::No,
                false => IsWritten::Yes,
            },
            names: [
                ("read", policy.read.clone()),
                ("write", policy.write.clone()),
                ("cow", policy.cow.clone()),
                ("network", hosts),
                ("env", policy.env.clone()),
            ],
            variables: variables(host),
            home: host.home.clone(),
            worktree: places.worktree.to_owned(),
            git: places.git.to_owned(),
            state: places.state.to_owned(),
            own_state: host.state.clone(),
            path: host.path.clone(),
            hidden: Hidden::default(),
        }
    }

    /// With what is hidden, by who hides it.
    pub fn hiding(self, hidden: Hidden) -> Origin {
        Origin { hidden, ..self }
    }

    /// What workers of the policy were refused, for people.
    pub fn seen(&self, refusals: &[SeenRefusal]) -> Vec<RefusalSeen> {
        let told = |refusal: &SeenRefusal| RefusalSeen {
            what: what(&refusal.act),
            rule: refusal.rule.clone(),
            allow_with: self.allow_with(&refusal.act),
        };
        refusals.iter().filter(|refusal| self.kept_from_the_job(&refusal.act)).map(told).collect()
    }

    /// Whether it is the cage's doing: a variable that nobody set here, or that comes along, is not kept from anybody.
    fn kept_from_the_job(&self, act: &RefusedAct) -> bool {
        match act {
            RefusedAct::Unset { name } => self.variable(name).is_some() && !self.names[4].1.contains(name),
            // Where nobody listens outside either, the job's own server was not up, or nobody's is.
            RefusedAct::Host { host: Some(host) } => loopback_port(host).is_none_or(listeners::is_heard),
            _ => true,
        }
    }

    fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    /// What is pasted into the plan to allow it, with the person's word beside it where that is needed, too; `None` where no plan
    /// can.
    pub fn allow_with(&self, act: &RefusedAct) -> Option<String> {
        let line = |key: &'static str, value: &str| Some(self.naming(key, value, None));
        let given = |key: &'static str, value: &str| Some(self.naming(key, value, Some(&word::flag(key, value))));
        match act {
            RefusedAct::Read { path } if self.lies_above(path) => Some(ABOVE.to_owned()),
            RefusedAct::Read { path } => given("read", &self.grantable(path, Access::Read)?),
            RefusedAct::Write { path } => match self.grantable(path, Access::Write) {
                Some(folder) => match self.read_in(&folder, path) {
                    None => given("write", &folder),
                    Some(read) => {
                        let take = format!("take {} out of `read` in [sandbox.{}]", quoted(read), self.policy);
                        match self.names[1].1.contains(&folder) {
                            true => Some(take),
                            false => Some(format!("{}, and {take}", given("write", &folder)?)),
                        }
                    }
                },
                None => line("cow", &self.copyable(path)?),
            },
            RefusedAct::Hidden { hidden, .. } if self.hidden.named.contains(hidden) => {
                let hidden = hidden.strip_prefix(&self.worktree).unwrap_or(hidden);
                let hidden = quoted(&as_written(hidden, &self.home));
                Some(format!("take {hidden} out of `hide` in [sandbox.{}]", self.policy))
            }
            RefusedAct::Hidden { hidden, .. } if self.hidden.unasked.contains(hidden) => {
                given("read", &self.grantable(hidden, Access::Read)?)
            }
            // State, and what tools keep in folders of the system.
            RefusedAct::Hidden { .. } => None,
            // Without a port it is both of the web's: which one it was, the output does not tell.
            RefusedAct::Host { host } => {
                let host = host.as_deref().unwrap_or("HOST");
                match HostRule::parse(host).is_ok_and(|rule| word::why_host(&rule).is_some()) {
                    true => given("network", host),
                    false => line("network", host),
                }
            }
            RefusedAct::Uncommitted { path } => Some(left_out::brought_by(&self.worktree, path)),
            RefusedAct::Unset { name } => match self.variable(name)?.given_by {
                GivenBy::Plan => line("env", name),
                GivenBy::Person => given("env", name),
            },
            RefusedAct::Limit { limit } if limit == "disk" => Some(format!("more `disk` in [sandbox.{}]", self.policy)),
            // Open files have a bound that no plan moves.
            RefusedAct::Limit { .. } | RefusedAct::Never { .. } => None,
        }
    }

    /// Whether a path is of the checkout, below which worktrees lie: those that are not where the checkout is, or none could be kept
    /// from it.
    fn lies_above(&self, path: &Path) -> bool {
        let is_of_checkout = path.starts_with(&self.worktree) && !path.starts_with(&self.git);
        is_of_checkout && !path.starts_with(&self.state) && self.state.starts_with(&self.worktree)
    }

    /// What is pasted into the plan so that its policy names one more, and what else is to be done.
    pub fn naming(&self, key: &'static str, value: &str, and: Option<&str>) -> String {
        let named = self.names.iter().find(|(known, _)| *known == key).map(|(_, named)| named.as_slice());
        let all = [named.unwrap_or_default(), &[value.to_owned()]].concat();
        list_to_paste(&format!("sandbox.{}", self.policy), self.is_written, (key, &all), and)
    }

    /// What the policy names in `read` of a folder that is to be written, and holds `path`: it stays read-only in there.
    fn read_in(&self, folder: &str, path: &Path) -> Option<&str> {
        let folder = expand_home(folder, &self.home);
        let holds = |read: &&String| {
            let read = expand_home(read, &self.home);
            read.starts_with(&folder) && path.starts_with(&read)
        };
        self.names[0].1.iter().find(holds).map(String::as_str)
    }

    /// The folder on `PATH` in which something is written that no plan may write: a copy of it may be. It is shown as it is.
    fn copyable(&self, path: &Path) -> Option<String> {
        let folder = path.ancestors().find(|folder| folder.is_dir())?;
        let is_on_path = Programs::of(&self.path).lies(&folder.canonicalize().ok()?) == OnPath::In;
        self.grantable(folder, Access::Read).filter(|_| is_on_path)
    }

    /// What would be granted: of what is read the path itself; of what is written the folder around it, because programs
    /// write beside a file what they rename onto it.
    pub fn grantable(&self, path: &Path, access: Access) -> Option<String> {
        let places = Places { worktree: &self.worktree, git: &self.git, state: &self.state };
        let programs = Programs::of(&self.path);
        let guard = Guard { home: &self.home, own_state: &self.own_state, path: &programs, places };
        let around = path.parent().filter(|_| access == Access::Write && !path.is_dir());
        let wanted = [around, Some(path)].into_iter().flatten();
        let mut fine = wanted.filter(|path| path.canonicalize().is_ok_and(|path| guard.check(&path, access).is_ok()));
        fine.next().map(|path| as_written(path, &self.home))
    }
}

/// The port of a name of this machine, as a job names who did not answer there.
fn loopback_port(host: &str) -> Option<u16> {
    let rule = HostRule::parse(host).ok()?;
    match &rule.hosts {
        HostPattern::Exactly(host) if host.is_loopback() => rule.port,
        HostPattern::Exactly(_) | HostPattern::Below(_) => None,
    }
}

fn variables(host: &Host) -> Vec<Variable> {
    let of = |(name, value): (&String, &String)| Variable {
        name: name.clone(),
        given_by: match word::why_variable(name, Some(value)) {
            Some(_) => GivenBy::Person,
            None => GivenBy::Plan,
        },
    };
    host.env.iter().filter(|(_, value)| !value.is_empty()).map(of).collect()
}

fn what(act: &RefusedAct) -> String {
    match act {
        RefusedAct::Read { path } => format!("reading {}", path.display()),
        RefusedAct::Write { path } => format!("writing to {}", path.display()),
        RefusedAct::Hidden { path, .. } => format!("touching {}", path.display()),
        RefusedAct::Limit { limit } => format!("going beyond its limit `{limit}`"),
        RefusedAct::Uncommitted { path } => format!("seeing {} of your checkout", path.display()),
        RefusedAct::Unset { name } => format!("the variable {name}, which is set here"),
        RefusedAct::Never { what } => what.clone(),
        RefusedAct::Host { host: Some(host) } => format!("reaching {host}"),
        RefusedAct::Host { host: None } => "reaching the network".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy `worker` over a small tree, in which `root` is written `@`.
    struct Scene {
        root: PathBuf,
        origin: Origin,
        _folder: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            for sub in ["home/.ssh", "home/data", "home/shims", "repo/.git/swarm", "out", "tool/.git", "tool/state"] {
                std::fs::create_dir_all(root.join(sub)).unwrap();
            }
            std::fs::write(root.join("home/data/file"), "").unwrap();
            let origin = Origin {
                policy: "worker".to_owned(),
                is_written: IsWritten::No,
                names: ["read", "write", "cow", "network", "env"].map(|key| (key, vec![])),
                variables: [("CI_URL", GivenBy::Plan), ("A_TOKEN", GivenBy::Person)]
                    .map(|(name, given_by)| Variable { name: name.to_owned(), given_by })
                    .to_vec(),
                home: root.join("home"),
                worktree: root.join("repo"),
                git: root.join("repo/.git"),
                state: root.join("repo/.git/swarm"),
                own_state: root.join("home/.cache/swarm"),
                path: vec![root.join("home/shims")],
                hidden: Hidden {
                    named: vec![root.join("repo/secrets")],
                    unasked: vec![root.join("tool/.git"), root.join("repo/.git")],
                },
            };
            Scene { root, origin, _folder: folder }
        }

        fn check(&self, act: RefusedAct, expected: Option<&str>) {
            let top = self.root.display().to_string();
            let line = self.origin.allow_with(&act).map(|line| line.replace(&top, "@"));
            assert_eq!(line.as_deref(), expected, "{act:?}");
        }

        fn read(&self, path: &str) -> RefusedAct {
            RefusedAct::Read { path: self.root.join(path) }
        }

        fn write(&self, path: &str) -> RefusedAct {
            RefusedAct::Write { path: self.root.join(path) }
        }

        /// How many of such acts people are told of: one, or none.
        fn seen(&self, act: RefusedAct) -> usize {
            self.origin.seen(&[SeenRefusal { act, rule: String::new() }]).len()
        }
    }

    fn host(host: Option<&str>) -> RefusedAct {
        RefusedAct::Host { host: host.map(str::to_owned) }
    }

    fn unset(name: &str) -> RefusedAct {
        RefusedAct::Unset { name: name.to_owned() }
    }

    #[test]
    fn the_line_that_would_allow_a_path() {
        let scene = Scene::new();
        let check = |act, expected| scene.check(act, expected);
        let (read, write) = (|path| scene.read(path), |path| scene.write(path));
        check(
            read("home/data/file"),
            Some("[sandbox.worker]\nread = [\"~/data/file\"]  # and --allow read=~/data/file"),
        );
        check(write("home/data/new"), Some("[sandbox.worker]\nwrite = [\"~/data\"]  # and --allow write=~/data"));
        check(write("out/x"), Some("[sandbox.worker]\nwrite = [\"@/out\"]  # and --allow write=@/out"));
        check(write("home/shims"), Some("[sandbox.worker]\ncow = [\"~/shims\"]"));
        check(write("home/shims/new"), Some("[sandbox.worker]\ncow = [\"~/shims\"]"));
        check(read("home/.ssh"), None);
        check(write("home/new"), None);
        check(read("repo/.git/config"), None);
        check(read("repo/Cargo.toml"), Some(ABOVE));
        let hidden = scene.root.join("repo/secrets");
        check(
            RefusedAct::Hidden { path: hidden.join("x"), hidden },
            Some("take \"secrets\" out of `hide` in [sandbox.worker]"),
        );
        // What nobody named is hidden by swarm: what could be named is shown then, and of nothing else is said that a plan could.
        for (path, expected) in [
            ("tool/.git", Some("[sandbox.worker]\nread = [\"@/tool/.git\"]  # and --allow read=@/tool/.git")),
            ("repo/.git", None),
            ("tool/state", None),
        ] {
            let hidden = scene.root.join(path);
            check(RefusedAct::Hidden { path: hidden.join("x"), hidden }, expected);
        }
        let uncommitted = RefusedAct::Uncommitted { path: "a b".into() };
        let line = "git add 'a b' && git commit, where it is not committed, and start the plan again: swarm run (a retry keeps the \
                    run's base)";
        check(uncommitted, Some(line));
    }

    #[test]
    fn the_line_that_would_allow_what_is_no_path() {
        let scene = Scene::new();
        let check = |act, expected| scene.check(act, expected);
        check(host(Some("x.org")), Some("[sandbox.worker]\nnetwork = [\"x.org\"]"));
        let own = "[sandbox.worker]\nnetwork = [\"localhost:8080\"]  # and --allow network=localhost:8080";
        check(host(Some("localhost:8080")), Some(own));
        check(unset("CI_URL"), Some("[sandbox.worker]\nenv = [\"CI_URL\"]"));
        check(unset("A_TOKEN"), Some("[sandbox.worker]\nenv = [\"A_TOKEN\"]  # and --allow env=A_TOKEN"));
        check(RefusedAct::Never { what: "mounting".to_owned() }, None);
        let limit = |limit: &str| RefusedAct::Limit { limit: limit.to_owned() };
        check(limit("disk"), Some("more `disk` in [sandbox.worker]"));
        check(limit("open-files"), None);
    }

    #[test]
    fn whoever_does_not_listen_outside_and_what_nobody_set_was_kept_from_nobody() {
        let scene = Scene::new();
        assert_eq!((scene.seen(unset("CI_URL")), scene.seen(unset("NOBODYS"))), (1, 0));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let at = |name: &str| host(Some(&format!("{name}:{port}")));
        let heard = ["localhost", "127.0.0.1", "[::1]"].map(|name| scene.seen(at(name)));
        assert_eq!(heard, [1, 1, 1]);
        drop(listener);
        assert_eq!((scene.seen(at("localhost")), scene.seen(host(Some("x.org")))), (0, 1));
    }

    #[test]
    fn a_line_that_stands_there_already_is_added_to_and_not_told_again() {
        let mut scene = Scene::new();
        scene.origin.is_written = IsWritten::Yes;
        // What is named to be read stays read-only in what may be written: the same line again would help nobody.
        scene.origin.names[0].1 = vec!["~/data/file".to_owned()];
        let take = "take \"~/data/file\" out of `read` in [sandbox.worker]";
        let write = "write = [\"~/data\"]  # in [sandbox.worker], and --allow write=~/data";
        scene.check(scene.write("home/data/file"), Some(&format!("{write}, and {take}")));
        scene.origin.names[1].1 = vec!["~/data".to_owned()];
        scene.check(scene.write("home/data/file"), Some(take));
        scene.origin.names[3].1 = vec!["y.org:443".to_owned()];
        scene.check(host(Some("x.org")), Some("network = [\"y.org:443\", \"x.org\"]  # in [sandbox.worker]"));
    }
}
