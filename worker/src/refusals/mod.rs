//! What the cage kept from a job that failed: suspicions from its output, each held against its own policy, so that the cage
//! is never blamed for a missing file or for the mode of one.
//!
//! The kernel tells nobody about a refusal but the program that met it (Landlock's audit records go to root's log), so what it
//! printed is the only witness. A job can print what it likes: what is found here is a hint for people and decides nothing.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};

use swarm_protocol::{RefusedAct, SEEN_MAX, SeenRefusal};
use swarm_sandbox::limits::Limit;
use swarm_sandbox::watchdog::bytes as people_bytes;
use swarm_sandbox::{Access, Decision, Network, Policy, Tier, Wish, Worktree, evaluate};

use self::phrases::{AskedBy, Intent, PIPE, Reason, Suspicion, suspicions};

/// Who does not answer at this machine itself.
mod loopback;
/// Reasons and paths in what programs print.
mod phrases;

/// How much of the end of a job's output is looked at, in bytes. What made it fail stands near the end.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// Folders of a home in which people's own programs lie. Source: XDG Base Directory Specification, `$HOME/.local/bin`; `~/.profile` of
/// Debian.
const OWN_PROGRAMS: [&str; 2] = [".local/bin", "bin"];

/// Folders that a command names which are looked at, and as many that its output names.
const FOLDERS_MAX: usize = 16;

/// Where packages of node have their programs, from the folder of the project. Source: npm-folders(5).
const MODULE_PROGRAMS: &str = "node_modules/.bin";

/// The newest bytes that a job printed, both streams together.
#[derive(Debug, Default)]
pub struct Tail {
    // Invariant: at most `TAIL_BYTES_MAX`.
    bytes: VecDeque<u8>,
}

impl Tail {
    /// Takes what was printed.
    pub fn take(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let excess = (self.bytes.len() + newest.len()).saturating_sub(TAIL_BYTES_MAX);
        self.bytes.drain(..excess);
        self.bytes.extend(newest);
    }

    /// Takes that a program was not found which no shell was there to name: in the words of one.
    pub fn lacks(&mut self, program: &str) {
        self.take(format!("\nsh: {program}: not found\n").as_bytes());
    }

    /// What a job of `policy` that printed this was refused; it began in `cwd` as `argv`, with `path` as its `PATH`.
    pub fn refusals(mut self, policy: &Policy, (cwd, argv): (&Path, &[String]), path: &str) -> Vec<SeenRefusal> {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        let judge = Judge { policy, cwd, went_to: went_to(policy.get().worktree.at(), argv, &text), path };
        let mut seen: Vec<SeenRefusal> = Vec::new();
        for refusal in suspicions(&text).iter().filter_map(|suspicion| judge.confirm(suspicion)) {
            if !seen.contains(&refusal) {
                seen.push(refusal);
            }
            if seen.len() == SEEN_MAX {
                break;
            }
        }
        seen
    }
}

/// What is needed to tell a refusal from an accident.
struct Judge<'a> {
    policy: &'a Policy,
    cwd: &'a Path,
    /// Other folders of the worktree that it may have gone to.
    went_to: Vec<PathBuf>,
    path: &'a str,
}

/// The folders of a worktree that a job's command names (`cd web && npm test`, `make -C web`), one behind another that it names before,
/// too, or that it printed from the root on (`make: Entering directory`).
fn went_to(worktree: &Path, argv: &[String], printed: &str) -> Vec<PathBuf> {
    let is_word = |letter: char| letter.is_alphanumeric() || "._/-@+,%~".contains(letter);
    let words = |text| str::split(text, move |letter| !is_word(letter)).filter(|word| !word.is_empty());
    let mut found: Vec<PathBuf> = Vec::new();
    let take = |found: &mut Vec<PathBuf>, folder: Option<PathBuf>| {
        let folder = folder.filter(|folder| folder != worktree && folder.starts_with(worktree) && folder.is_dir())?;
        if !found.contains(&folder) {
            found.push(folder.clone());
        }
        Some(folder)
    };
    let mut last: Option<PathBuf> = None;
    for word in argv.iter().flat_map(|text| words(text)).filter(|word| !word.starts_with('/')) {
        let from = [Some(worktree.to_owned()), last.clone()].into_iter().flatten();
        last = from.filter_map(|from| plain(&from.join(word))).find_map(|at| take(&mut found, Some(at))).or(last);
        if found.len() >= FOLDERS_MAX {
            break;
        }
    }
    for word in words(printed).filter(|word| word.starts_with('/')) {
        take(&mut found, plain(Path::new(word)));
        if found.len() >= 2 * FOLDERS_MAX {
            break;
        }
    }
    found
}

impl Judge<'_> {
    fn confirm(&self, suspicion: &Suspicion) -> Option<SeenRefusal> {
        match suspicion {
            Suspicion::Path { path, reason, intent } => {
                let here = plain(&self.cwd.join(path))?;
                self.path_refused(&here, *reason, *intent).or_else(|| {
                    let missing = *reason == Reason::Missing;
                    missing.then(|| self.elsewhere(path, |path| self.left_out(path, *intent))).flatten()
                })
            }
            Suspicion::Program(name) => self.program_refused(name),
            Suspicion::Host { host, asked_by } => self.host_refused(host.as_deref(), *asked_by),
            Suspicion::Loopback(host) => self.has_own_loopback().then(|| SeenRefusal {
                act: RefusedAct::Host { host: Some(host.clone()) },
                rule: "a cage has a loopback of its own, on which the host's programs do not listen".to_owned(),
            }),
            Suspicion::Variable(name) => Some(SeenRefusal {
                act: RefusedAct::Unset { name: name.clone() },
                rule: "a cage has the variables that its policy names, and no others".to_owned(),
            }),
            Suspicion::CrossDevice(names) => names.iter().find_map(|name| self.not_renamed(name)),
            Suspicion::Call(call) => Some(self.call_refused(call)),
            Suspicion::Limit(limit) => self.limit_reached(*limit),
        }
    }

    /// A host that was looked up. Where there is a proxy, whoever uses it looks nothing up; ssh never does.
    fn host_refused(&self, host: Option<&str>, asked_by: AskedBy) -> Option<SeenRefusal> {
        match (self.policy.get().network, asked_by) {
            (Network::Host, _) => None,
            (Network::None, AskedBy::Anyone) => Some(SeenRefusal {
                act: RefusedAct::Host { host: host.map(str::to_owned) },
                rule: "its policy opens no network".to_owned(),
            }),
            (Network::None | Network::Egress { .. }, _) => Some(SeenRefusal {
                act: RefusedAct::Never { what: format!("reaching {} without the proxy", host.unwrap_or("a host")) },
                rule: "hosts of `network` are reached by HTTP(S) or SOCKS5 through the proxy that HTTP_PROXY and ALL_PROXY name; \
                       what ignores these, as ssh does, needs an https:// remote or a ProxyCommand"
                    .to_owned(),
            }),
        }
    }

    fn has_own_loopback(&self) -> bool {
        let draft = self.policy.get();
        draft.tier == Tier::Namespaces && !draft.network.is_host()
    }

    fn limit_reached(&self, limit: Limit) -> Option<SeenRefusal> {
        let limits = &self.policy.get().limits;
        let rule = match limit {
            Limit::Disk => format!("a file may have at most {}", people_bytes(Some(limits.disk_bytes?))),
            Limit::OpenFiles => format!("a process may have at most {}", limits.open_files?),
            Limit::Memory | Limit::Processes | Limit::Cpu | Limit::Files => return None,
        };
        Some(SeenRefusal { act: RefusedAct::Limit { limit: limit.to_string() }, rule })
    }

    fn call_refused(&self, call: &str) -> SeenRefusal {
        let draft = self.policy.get();
        let folders = [Path::new("/tmp"), &*draft.home].into_iter();
        let around: Vec<_> = folders.filter(|folder| draft.worktree.at().starts_with(folder)).collect();
        if call != PIPE || draft.tier != Tier::Namespaces || around.is_empty() {
            let act = RefusedAct::Never { what: call.to_owned() };
            return SeenRefusal { act, rule: "no cage allows it".to_owned() };
        }
        let around: Vec<String> = around.into_iter().map(|folder| folder.display().to_string()).collect();
        SeenRefusal {
            act: RefusedAct::Never { what: format!("{PIPE}, or in {}, which holds it", around.join(" or ")) },
            rule: "no cage allows it there; in $TMPDIR it is allowed".to_owned(),
        }
    }

    fn path_refused(&self, path: &Path, reason: Reason, intent: Intent) -> Option<SeenRefusal> {
        let read = || self.refused(path, Access::Read);
        let write = || self.refused(path, Access::Write);
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        match (reason, intent) {
            (Reason::Denied | Reason::ReadOnly, Intent::Above) => read(),
            (Reason::ReadOnly, _) => write(),
            (Reason::Denied, Intent::Write) => write(),
            (Reason::Denied, Intent::Unknown) => read().or_else(write),
            // What is not there outside either was not kept from anybody.
            (Reason::Missing, Intent::Write) if path.parent().is_some_and(exists) => {
                write().or_else(|| self.covered_folder(path)).or_else(|| self.left_out(path, intent))
            }
            (Reason::Missing, _) if exists(path) => self.kept(path),
            (Reason::Missing, _) => self.left_out(path, intent),
        }
    }

    /// A file of the checkout that its worktree lacks, or the folder in which it was to be written.
    fn left_out(&self, path: &Path, intent: Intent) -> Option<SeenRefusal> {
        let around = || path.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
        self.uncommitted(path).or_else(|| (intent == Intent::Write).then(|| self.uncommitted(around()?)).flatten())
    }

    /// What `look` finds of a relative path in the folders that the job may have gone to.
    fn elsewhere(&self, path: &str, look: impl Fn(&Path) -> Option<SeenRefusal>) -> Option<SeenRefusal> {
        let relative = Path::new(path).is_relative();
        self.went_to.iter().filter(|_| relative).find_map(|folder| look(&plain(&folder.join(path))?))
    }

    /// A file of the host where the job has a private folder.
    fn covered(&self, path: &Path) -> Option<SeenRefusal> {
        let Decision::Allowed { rule } = evaluate(self.policy, path, Access::Read) else { return None };
        let own = self.policy.get().tier == Tier::Namespaces && rule.is_private();
        own.then(|| SeenRefusal {
            act: RefusedAct::Read { path: path.to_owned() },
            rule: format!("{rule}, and the host's is not seen"),
        })
    }

    /// What was to be written into a folder of the host, below a private one of the job's: there is no such folder.
    fn covered_folder(&self, path: &Path) -> Option<SeenRefusal> {
        let draft = self.policy.get();
        let Decision::Allowed { rule } = evaluate(self.policy, path, Access::Write) else { return None };
        let around = path.parent().filter(|folder| **folder != *draft.home && **folder != *Path::new("/tmp"))?;
        let own = draft.tier == Tier::Namespaces && rule.is_private() && around.is_dir();
        own.then(|| SeenRefusal {
            act: RefusedAct::Write { path: path.to_owned() },
            rule: format!("{rule}, and the host's {} is not seen", around.display()),
        })
    }

    /// A folder of a lower layer, which its overlay renames for nobody. Source: overlayfs.rst of the kernel, "redirect_dir".
    fn not_renamed(&self, name: &str) -> Option<SeenRefusal> {
        let draft = self.policy.get();
        let Worktree::Overlay { at, state, lowers, .. } = &draft.worktree else { return None };
        // git names from the root of the worktree on, wherever it stands.
        let from = [self.cwd, at].into_iter().chain(self.went_to.iter().map(PathBuf::as_path));
        let mut own = from.filter_map(|from| plain(&from.join(name))?.strip_prefix(at).ok().map(Path::to_owned));
        let is_of_base = |own: &Path| lowers.iter().any(|lower| state.join(lower).join(own).is_dir());
        let own = own.find(|own| !own.as_os_str().is_empty() && is_of_base(own))?;
        Some(SeenRefusal {
            act: RefusedAct::Never { what: format!("renaming the folder {}", own.display()) },
            rule: "a folder of the base cannot be renamed in place, but copied: mv OLD NEW && git add -A".to_owned(),
        })
    }

    /// Judges a path and, where it leads elsewhere, what it leads to.
    fn refused(&self, path: &Path, access: Access) -> Option<SeenRefusal> {
        let target = path.canonicalize().ok().filter(|target| target != path);
        [Some(path.to_owned()), target].into_iter().flatten().find_map(|path| self.judge(path, access))
    }

    fn judge(&self, path: PathBuf, access: Access) -> Option<SeenRefusal> {
        let Decision::Refused { rule, wish } = evaluate(self.policy, &path, access) else { return None };
        let act = match (wish, access) {
            (Some(Wish::Grant(path, Access::Read)), _) => RefusedAct::Read { path },
            (Some(Wish::Grant(path, Access::Write)), _) => RefusedAct::Write { path },
            (Some(Wish::Unhide(hidden)), _) => RefusedAct::Hidden { path, hidden },
            (None, Access::Read) => RefusedAct::Never { what: format!("reading {}", path.display()) },
            (None, Access::Write) => RefusedAct::Never { what: format!("writing to {}", path.display()) },
        };
        Some(SeenRefusal { act, rule: rule.to_string() })
    }

    /// A program that the host finds and the job does not: its folder, or what its link leads to, is not shown. One that lies where
    /// people install programs for themselves is named although no `PATH` leads there.
    fn program_refused(&self, name: &str) -> Option<SeenRefusal> {
        let is_there = |path: &PathBuf| path.is_file();
        if name.contains('/') {
            let here = plain(&self.cwd.join(name)).filter(is_there).and_then(|path| self.kept(&path));
            return here.or_else(|| self.elsewhere(name, |path| self.uncommitted(path)));
        }
        if let Some(found) = std::env::split_paths(self.path).map(|folder| folder.join(name)).find(is_there) {
            return self.kept(&found);
        }
        // What `npm` and its like run by name, first of all.
        let of_modules = format!("{MODULE_PROGRAMS}/{name}");
        let own = plain(&self.cwd.join(&of_modules)).and_then(|path| self.uncommitted(&path));
        if let Some(refusal) = own.or_else(|| self.elsewhere(&of_modules, |path| self.uncommitted(path))) {
            return Some(refusal);
        }
        let home = &self.policy.get().home;
        let found = OWN_PROGRAMS.iter().map(|folder| home.join(folder).join(name)).find(is_there)?;
        let SeenRefusal { act, rule } = self.kept(&found)?;
        let folder = found.parent().unwrap_or(&found).display().to_string();
        Some(SeenRefusal { act, rule: format!("{rule}; by its name it is found where {folder} is on your PATH") })
    }

    /// A file that is there on the host: one that the worktree lacks, refused, or covered by a folder of the job's own.
    fn kept(&self, path: &Path) -> Option<SeenRefusal> {
        // Wherever it leads: in the worktree there is not even the link.
        self.uncommitted(path).or_else(|| self.refused(path, Access::Read)).or_else(|| self.covered(path))
    }

    /// A file of the checkout, in whose place the job had its worktree, which has it not.
    fn uncommitted(&self, path: &Path) -> Option<SeenRefusal> {
        let draft = self.policy.get();
        path.symlink_metadata().ok()?;
        let own = path.strip_prefix(draft.worktree.at()).ok().filter(|own| !own.as_os_str().is_empty())?;
        let is_in = |folder: PathBuf| folder.join(own).symlink_metadata().is_ok();
        let is_left_out = match &draft.worktree {
            Worktree::Overlay { state, lowers, upper, .. } => {
                let mut layers = lowers.iter().chain([upper]).map(|layer| state.join(layer));
                draft.tier == Tier::Namespaces && !layers.any(is_in)
            }
            Worktree::Directory { at, path } => at != path && !is_in(path.clone()),
        };
        let is_shown = matches!(evaluate(self.policy, path, Access::Read), Decision::Allowed { .. });
        (is_left_out && is_shown).then(|| SeenRefusal {
            act: RefusedAct::Uncommitted { path: own.to_owned() },
            rule: "a worktree has what is committed".to_owned(),
        })
    }
}

/// The path without `.` and `..`, by its text.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use swarm_sandbox::{Draft, Limits, PathGrant};

    use super::*;

    /// A policy that shows nothing but a worktree, and a home below `root`.
    fn policy(root: &Path, worktree: Worktree) -> Policy {
        let draft = Draft {
            tier: Tier::Namespaces,
            worktree,
            grants: vec![],
            copies: vec![],
            hide: vec![],
            home: root.join("home"),
            home_files: Vec::new(),
            tmp: None,
            network: Network::None,
            limits: Limits::default(),
            landlock_abi_max: None,
        };
        draft.check().expect("a fine policy")
    }

    /// A tool that is granted, a secret in it that is hidden, and a folder that is not granted.
    fn refusals(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder that no private one covers");
        let root = dir.path().canonicalize().expect("it exists");
        for folder in ["repo", "tool", "other", "home"] {
            std::fs::create_dir(root.join(folder)).expect("a folder");
            std::fs::write(root.join(folder).join("file"), "").expect("a file");
        }
        std::os::unix::fs::symlink("../other/file", root.join("tool/link")).expect("a link");
        std::fs::create_dir_all(root.join("home/.local/bin")).expect("a folder");
        std::fs::write(root.join("home/.local/bin/own"), "").expect("a file");
        let grant = |name: &str| PathGrant { path: root.join(name), at: root.join(name), access: Access::Read };
        let policy = Draft {
            tier: Tier::Namespaces,
            worktree: Worktree::Directory { at: root.join("repo"), path: root.join("repo") },
            grants: vec![grant("tool")],
            copies: vec![],
            hide: vec![root.join("tool/file")],
            home: root.join("home"),
            home_files: Vec::new(),
            tmp: None,
            network: Network::None,
            limits: Limits { disk_bytes: Some(50 << 20), open_files: Some(100), ..Limits::default() },
            landlock_abi_max: None,
        };
        let policy = policy.check().expect("a fine policy");
        let mut tail = Tail::default();
        let top = root.display().to_string();
        tail.take(text.replace('@', &top).as_bytes());
        let path = root.join("tool").display().to_string();
        let seen = tail.refusals(&policy, (&root.join("repo"), &[]), &path);
        seen.iter().map(|seen| format!("{:?}: {}", seen.act, seen.rule).replace(&top, "@")).collect()
    }

    fn check(text: &str, expected: &[&str]) {
        let found = refusals(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }

    #[test]
    fn what_the_policy_confirms_is_told_once() {
        check(
            "cat: @/other/file: No such file or directory\n".repeat(3).as_str(),
            &["Read { path: \"@/other/file\" }"],
        );
        check("cat: ../other/file: No such file or directory", &["Read { path: \"@/other/file\" }"]);
        check("sh: 1: cannot create @/other/new: Directory nonexistent", &["Write { path: \"@/other/new\" }"]);
        check("touch: cannot touch '@/tool/x': Read-only file system", &["Write { path: \"@/tool/x\" }"]);
        check("cat: @/tool/file: Permission denied", &["Hidden { path: \"@/tool/file\", hidden: \"@/tool/file\" }"]);
        check("touch: cannot touch '/usr/x': Read-only file system", &["Never { what: \"writing to /usr/x\" }"]);
        check(
            "curl: (6) Could not resolve host: x.org",
            &["Host { host: Some(\"x.org\") }: its policy opens no network"],
        );
        check(
            "curl: (7) Failed to connect to localhost port 8080: Connection refused",
            &["Host { host: Some(\"localhost:8080\") }: a cage has a loopback of its own"],
        );
        check(
            "cat: @/home/file: No such file or directory",
            &["Read { path: \"@/home/file\" }: it lies in the private home"],
        );
        check("OSError: [Errno 27] File too large", &["Limit { limit: \"disk\" }: a file may have at most 50 MiB"]);
        check("open: too many open files", &["Limit { limit: \"open-files\" }: a process may have at most 100"]);
        check("sh: 1: link: not found", &["Read { path: \"@/other/file\" }"]);
        let own = "Read { path: \"@/home/.local/bin/own\" }: it lies in the private home";
        check("sh: 1: own: not found", &[own]);
        check("sh: 1: @/home/.local/bin/own: not found", &[own]);
        check(
            "ssh: Could not resolve hostname x.org: Name or service not known",
            &["Never { what: \"reaching x.org without"],
        );
        check(
            "touch: cannot touch '@/home/.local/bin/new': No such file or directory",
            &["Write { path: \"@/home/.local/bin/new\" }"],
        );
        check("own: cannot rehash: @/tool isn't writable", &["Write { path: \"@/tool\" }"]);
    }

    #[test]
    fn what_only_stands_above_a_reason_is_told_where_reading_it_is_refused() {
        check(
            "error: @/other/file\n\nCaused by:\n  Permission denied (os error 13)",
            &["Read { path: \"@/other/file\" }"],
        );
        check("see /usr/share/doc\nPermissionError: [Errno 13] Permission denied", &[]);
        check("cannot create /usr/x\nPermission denied (os error 13)", &["Never { what: \"writing to /usr/x\" }"]);
        check("PermissionError: [Errno 13] Permission denied: '/'", &["Never { what: \"writing to /\" }"]);
    }

    #[test]
    fn the_cage_is_not_blamed_for_what_it_allows() {
        check("cat: @/other/nothing: No such file or directory", &[]);
        check("cat: @/repo/file: Permission denied", &[]);
        check("cat: repo/x/y: No such file or directory", &[]);
        check("cat: @/tool/missing: No such file or directory", &[]);
        check("sh: 1: nowhere: not found", &[]);
        check("touch: cannot touch '@/home/nothing/new': No such file or directory", &[]);
        check("touch: cannot touch '@/home/new': No such file or directory", &[]);
    }

    #[test]
    fn what_the_checkout_has_and_its_worktree_has_not_is_told_and_so_is_a_variable() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder that no private one covers");
        let root = dir.path().canonicalize().expect("it exists");
        std::fs::write(root.join("build.sh"), "").expect("a file");
        let policy = policy(&root, Worktree::Directory { at: root.clone(), path: root.join("elsewhere") });
        let seen = |text: &str| {
            let mut tail = Tail::default();
            tail.take(text.as_bytes());
            tail.refusals(&policy, (&root, &[]), "").into_iter().map(|seen| seen.act).collect::<Vec<_>>()
        };
        let told = |path: &str| vec![RefusedAct::Uncommitted { path: path.into() }];
        for text in ["sh: 1: ./build.sh: not found", "sh: 0: cannot open build.sh: No such file"] {
            assert_eq!(seen(text), told("build.sh"), "{text}");
        }
        // What of it leads to a place that nothing shows is left out of the worktree all the same.
        std::fs::create_dir_all(root.join(".venv/bin")).expect("a folder");
        std::os::unix::fs::symlink("/root/.pyenv/python", root.join(".venv/bin/python")).expect("a link");
        std::fs::write(root.join(".venv/bin/activate"), "").expect("a file");
        for folder in ["node_modules/left", "node_modules/@a/b", "node_modules/.bin"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        std::fs::write(root.join("node_modules/.bin/jest"), "").expect("a file");
        for (text, path) in [
            ("Error: Cannot find module 'left'\nRequire stack:", "node_modules/left"),
            ("Error [ERR_MODULE_NOT_FOUND]: Cannot find package '@a/b' imported from /x/y.mjs", "node_modules/@a/b"),
            ("sh: 1: jest: not found", "node_modules/.bin/jest"),
            ("cat: .venv/bin/activate: No such file or directory", ".venv/bin/activate"),
            ("sh: 1: .: cannot open .venv/bin/activate: No such file", ".venv/bin/activate"),
            ("bash: line 1: .venv/bin/python: No such file or directory", ".venv/bin/python"),
            ("FileNotFoundError: [Errno 2] No such file or directory: 'build.sh'", "build.sh"),
        ] {
            assert_eq!(seen(text), told(path), "{text}");
        }
        let mut tail = Tail::default();
        tail.lacks("./build.sh");
        assert_eq!(tail.refusals(&policy, (&root, &[]), "").len(), 1, "no shell named it");
        assert_eq!(seen("Error: Cannot find module './left'"), vec![]);
        // One that the worktree has is missed for another reason: its interpreter, or the folder it was looked for in.
        std::fs::create_dir_all(root.join("elsewhere")).expect("a folder");
        std::fs::write(root.join("elsewhere/build.sh"), "").expect("a file");
        assert_eq!(seen("sh: 1: ./build.sh: not found"), vec![]);
        assert_eq!(seen("sh: 1: ./other.sh: not found"), vec![]);
        assert_eq!(seen("sh: 1: A_B: parameter not set"), vec![RefusedAct::Unset { name: "A_B".to_owned() }]);
    }

    #[test]
    fn what_was_left_out_is_told_from_the_folders_that_the_job_went_to_and_for_what_is_written_there() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder that no private one covers");
        let root = dir.path().canonicalize().expect("it exists");
        for folder in
            ["at/web/node_modules/.bin", "at/web/app/.venv/bin", "at/target", "at/api", "tree/web/app", "tree/api"]
        {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for file in ["at/web/node_modules/.bin/jest", "at/web/app/.venv/bin/python", "at/api/x", "tree/api/x"] {
            std::fs::write(root.join(file), "").expect("a file");
        }
        let (at, tree) = (root.join("at"), root.join("tree"));
        let policy = policy(&root, Worktree::Directory { at: at.clone(), path: tree });
        let check = |script: &str, text: &str, expected: &[&str]| {
            let mut tail = Tail::default();
            tail.take(text.replace('@', &at.display().to_string()).as_bytes());
            let seen = tail.refusals(&policy, (&at, &["sh".to_owned(), "-c".to_owned(), script.to_owned()]), "");
            let acts = seen.into_iter().map(|seen| seen.act);
            let expected = expected.iter().map(|path| RefusedAct::Uncommitted { path: path.into() });
            assert_eq!(acts.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{script}: {text}");
        };
        let (jest, python) = ("web/node_modules/.bin/jest", "web/app/.venv/bin/python");
        check("cd web && npm test", "sh: 1: jest: not found", &[jest]);
        check("npm --prefix=web test", "sh: 1: jest: not found", &[jest]);
        check("./all", "make[1]: Entering directory '@/web'\nsh: 1: jest: not found", &[jest]);
        check("cd web; (cd app; ./x)", "sh: 1: .venv/bin/python: not found", &[python]);
        check("cd web/app; ./x", "bash: .venv/bin/python: No such file or directory", &[python]);
        check("cd \"web/app\"", "cat: .venv/bin/python: No such file or directory", &[python]);
        check("cd api; cd ../web; cd ../api; cd ../web/app; ./x", "sh: 1: .venv/bin/python: not found", &[python]);
        check("cd web; cd ../api; cd ../web; cd app; ./x", "sh: 1: .venv/bin/python: not found", &[python]);
        check("cp a target/b", "cp: cannot create regular file 'target/b': No such file or directory", &["target"]);
        check("echo > target/b", "sh: 1: cannot create target/b: Directory nonexistent", &["target"]);
        check("cp a target/b/c", "cp: cannot create regular file 'target/b/c': No such file or directory", &["target"]);
        check(
            "cd web; cp a node_modules/b",
            "cp: cannot create regular file 'node_modules/b': No such file",
            &["web/node_modules"],
        );
        // What the worktree has, and what is nowhere, was kept from nobody.
        check("cd api; cat x", "cat: x: No such file or directory", &[]);
        check("cd api; echo > y/z", "sh: 1: cannot create y/z: Directory nonexistent", &[]);
        check("cat target/none", "cat: target/none: No such file or directory", &[]);
        check("cd ../..; cat /etc", "cat: .venv/bin/python: No such file or directory", &[]);
    }

    #[test]
    fn a_folder_of_the_base_that_could_not_be_renamed_is_told_with_what_can_be_typed() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a folder that no private one covers");
        let root = dir.path().canonicalize().expect("it exists");
        for folder in ["at/new", "state/base/web/old", "state/upper/new"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        std::fs::write(root.join("state/base/file"), "").expect("a file");
        let at = root.join("at");
        let [upper, work] = ["upper", "work"].map(str::to_owned);
        let lowers = vec!["base".to_owned()];
        let overlay = Worktree::Overlay { at: at.clone(), state: root.join("state"), lowers, upper, work };
        let told = |worktree: Worktree, cwd: &Path, text: &str| {
            let mut tail = Tail::default();
            tail.take(text.as_bytes());
            let seen = tail.refusals(&policy(&root, worktree), (cwd, &[]), "");
            seen.into_iter().map(|seen| format!("{:?}: {}", seen.act, seen.rule)).collect::<Vec<_>>()
        };
        let (git, web) = ("fatal: renaming 'web/old' failed: Invalid cross-device link", at.join("web"));
        let python = "OSError: [Errno 18] Invalid cross-device link: 'old' -> 'x'";
        for (cwd, text) in [(&at, git), (&web, git), (&web, python), (&web, "rename old x: invalid cross-device link")]
        {
            let expected = "Never { what: \"renaming the folder web/old\" }: a folder of the base cannot be renamed in place, but \
                            copied: mv OLD NEW && git add -A";
            assert_eq!(told(overlay.clone(), cwd, text), [expected], "{text}");
        }
        // What is no folder of the base was not renamed for another reason, and a copy renames them all.
        for text in
            ["renaming 'new' failed: Invalid cross-device link", "rename file /tmp/x: invalid cross-device link"]
        {
            assert_eq!(told(overlay.clone(), &at, text), [""; 0], "{text}");
        }
        let copy = Worktree::Directory { at: at.clone(), path: at.clone() };
        assert_eq!(told(copy, &at, git), [""; 0]);
    }

    #[test]
    fn only_the_end_of_much_output_is_kept() {
        let mut tail = Tail::default();
        for piece in [10, TAIL_BYTES_MAX, 5, 3 * TAIL_BYTES_MAX, 7] {
            tail.take(&vec![b'x'; piece]);
            assert!(tail.bytes.len() <= TAIL_BYTES_MAX);
        }
        tail.take(b"end");
        assert!(tail.bytes.make_contiguous().ends_with(b"xend"));
    }
}
