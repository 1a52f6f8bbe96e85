//! What a policy may ask for, path by path: the one place that decides it. A decision is made on the canonical path, so a
//! symlink buys nothing; what is refused says why, and what is odd but harmless is a warning.

use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access as Permitted, access};
use rustix::process::geteuid;
use swarm_protocol::{Access, Tier};

use super::on_path::{OnPath, Programs};
use super::reason::{
    CLOSED, EXPOSES_STATE, HOLDS_GIT, HOLDS_PATH, LEADS_THERE, NOT_HERE, NOT_IN_THIS_TIER, PARENT, Reason,
};
use super::way::{self, Place};
use super::{Places, SYSTEM, running};
use crate::entry_name::{is_bare_repository, is_git_dir};
use crate::listed::shows_nothing;
use crate::state;

/// Folders and files of a home that hold credentials: never granted, whatever a plan asks for.
pub const CREDENTIALS: &[&str] = &[
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
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".vault-token",
    ".s3cfg",
    ".boto",
    ".oci",
    ".databrickscfg",
    ".terraform.d",
    ".terraformrc",
    ".config/rclone",
    ".config/op",
    ".config/hub",
    ".config/swarm",
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
    ".thunderbird",
    ".bash_history",
    ".zsh_history",
    ".psql_history",
    ".python_history",
];

/// How deep below a folder that a plan names, and among how many entries of it, state folders are looked for, and repositories where
/// it is to be written. A folder with more is refused.
const SEARCH_DEPTH_MAX: usize = 64;
const SEARCH_ENTRIES_MAX: usize = 500_000;

/// What of the machine holds credentials: never granted either.
const MACHINE_CREDENTIALS: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
];

/// The file systems of the kernel.
pub const KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// Folders of the machine that nothing but the machine's owner writes.
pub const MACHINE: &[&str] = &["/etc", "/boot"];

/// Folders that many owners share: a `bin` in one of them says nothing about what lies beside it.
pub const SHARED: &[&str] = &["/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/tmp"];

/// What decides about paths: the caller's home and the places that no policy may expose.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// The caller's home folder.
    pub home: &'a Path,
    /// The state folder of what belongs to no repository ([`super::Host::state`]): never written, whether it is there yet or not.
    pub own_state: &'a Path,
    /// The folders of the caller's `PATH`: what lies there runs when they type a command.
    pub path: &'a Programs,
    /// The repository's places.
    pub places: Places<'a>,
}

impl Guard<'_> {
    /// What a `read`, `write` or `cow` of a plan asks for.
    ///
    /// # Errors
    /// Why it is refused, for people; the plan has to ask for something else.
    pub fn granted(&self, text: &str, access: Access) -> Result<Place, Reason> {
        let path = expand_home(text, self.home);
        if text.starts_with('~') && !path.is_absolute() {
            return Err(Reason::Never("of home folders only one's own is known, as `~/`"));
        }
        if !path.is_absolute() {
            return Err(Reason::Never("it has to be absolute, or start with `~/`"));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(PARENT);
        }
        let place = way::place(&path, self.home);
        if !place.is_there {
            // What no machine grants is said first.
            self.shown(&place.path, access)?;
            return Err(NOT_HERE);
        }
        self.check(&place.path, access)?;
        Ok(place)
    }

    /// Whether a canonical path may be granted at all.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn check(&self, path: &Path, access: Access) -> Result<(), Reason> {
        self.shown(path, access)?;
        if access == Access::Read {
            return Ok(());
        }
        let on_path = self.path.lies(path);
        self.written(path, &on_path)?;
        match on_path {
            OnPath::Holds(_) => return Err(HOLDS_PATH),
            OnPath::Leads(_) => return Err(LEADS_THERE),
            OnPath::In | OnPath::Beside => {}
        }
        if !states_below(path)?.is_empty() {
            return Err(Reason::State);
        }
        if path.ancestors().any(is_of_git) {
            return Err(HOLDS_GIT);
        }
        let is_kept = |folder: &Path| is_repository(folder) || is_closed(folder);
        let found = state::folders_below(path, &is_kept, SEARCH_DEPTH_MAX, SEARCH_ENTRIES_MAX);
        match found? {
            found if found.is_empty() => Ok(()),
            found if found.iter().any(|folder| is_repository(folder)) => Err(HOLDS_GIT),
            _ => Err(CLOSED),
        }
    }

    /// Whether a command may get the folder that its caller stands in, canonical: to write, or as it is. Whoever opens it to be
    /// written keeps the repositories in it, and hides state folders.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn current_folder(&self, path: &Path, access: Access) -> Result<(), Reason> {
        self.shown(path, access)?;
        if access == Access::Write { self.written(path, &self.path.lies(path)) } else { Ok(()) }
    }

    /// What nobody may write who may look at it. What is not there yet counts, too: whoever makes it decides what it says.
    fn written(&self, path: &Path, on_path: &OnPath) -> Result<(), Reason> {
        let home = self.home.canonicalize().unwrap_or_else(|_| self.home.to_owned());
        if running::runs_by_itself(path, &home) || *on_path == OnPath::In {
            return Err(Reason::Never("what it holds runs by itself outside of the cage"));
        }
        let own = settled(self.own_state);
        if path.starts_with(&own) || own.starts_with(path) {
            return Err(EXPOSES_STATE);
        }
        Ok(())
    }

    fn shown(&self, path: &Path, access: Access) -> Result<(), Reason> {
        let home = self.home.canonicalize().unwrap_or_else(|_| self.home.to_owned());
        let Places { worktree, git, state } = self.places;
        let within = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        if path.parent().is_none() {
            return Err(Reason::Never("the root folder is everything; name the folders that are needed"));
        }
        if within(KERNEL) {
            return Err(Reason::Never("it belongs to the kernel"));
        }
        if home.starts_with(path) {
            return Err(Reason::Never(
                "it holds the whole home folder and with it every credential; name the folders that are needed",
            ));
        }
        if state.starts_with(path) || path.starts_with(state) {
            return Err(EXPOSES_STATE);
        }
        if path.ancestors().any(state::is_state) {
            return Err(Reason::State);
        }
        if git.starts_with(path) || path.starts_with(git) {
            return Err(Reason::Never("it would expose the repository's own `.git`"));
        }
        if path.starts_with(worktree) || worktree.starts_with(path) && access == Access::Write {
            return Err(Reason::Never("it lies in the repository, of which every task has a copy of its own"));
        }
        let of_home = |name: &&str| meets(path, &home.join(name));
        let holds = |secret: &&str| meets(path, Path::new(secret));
        if CREDENTIALS.iter().any(of_home) || MACHINE_CREDENTIALS.iter().any(holds) {
            return Err(Reason::Never("it holds credentials"));
        }
        if access == Access::Write && (within(SYSTEM) || within(MACHINE)) {
            return Err(Reason::Never("it belongs to the system, which no task may change"));
        }
        if access == Access::Write && SHARED.iter().any(|shared| path == Path::new(shared)) {
            return Err(Reason::Never("many owners share it; name the folder in it that is needed"));
        }
        Ok(())
    }

    /// The path that a `hide` asks for, as workers name it: absolute, `~/…`, or relative to the worktree.
    ///
    /// # Errors
    /// Why it cannot be hidden, for people.
    pub fn hidden(&self, text: &str, tier: Tier) -> Result<PathBuf, Reason> {
        let worktree = self.places.worktree;
        let path = self.named(text);
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(PARENT);
        }
        if worktree.starts_with(&path) {
            return Err(Reason::Never("it would hide the worktree itself"));
        }
        if path.starts_with(worktree) {
            // There, a worktree is a folder elsewhere, and Landlock takes nothing away inside of what may be written.
            return match tier {
                Tier::Landlock => Err(NOT_IN_THIS_TIER),
                _ => Ok(path),
            };
        }
        Ok(path.canonicalize().unwrap_or(path))
    }

    /// The path of a `hide` from the worktree's root, where it lies in there.
    pub fn in_the_worktree(&self, text: &str) -> Option<String> {
        let path = self.named(text);
        let inside = path.strip_prefix(self.places.worktree).ok()?;
        Some(inside.to_str().filter(|inside| !inside.is_empty())?.to_owned())
    }

    /// The path of a `hide` by its text, without the slash that a folder may end with.
    fn named(&self, text: &str) -> PathBuf {
        self.places.worktree.join(expand_home(text, self.home)).components().collect()
    }
}

/// The state folders that whoever is shown a canonical path would see in it, sorted: whoever shows it hides them, or does not show
/// it.
///
/// # Errors
/// Nobody knows, for people: it holds too much, or cannot be read.
pub fn states_below(path: &Path) -> Result<Vec<PathBuf>, Reason> {
    state::below(path, SEARCH_DEPTH_MAX, SEARCH_ENTRIES_MAX).map_err(Reason::from)
}

/// As [`states_below`], for a tier: what is to be hidden in a folder that is shown.
///
/// # Errors
/// Nobody knows, or the tier cannot hide them, for people.
pub fn states_to_hide(path: &Path, tier: Tier) -> Result<Vec<PathBuf>, Reason> {
    let states = states_below(path)?;
    if tier == Tier::Landlock && !states.is_empty() { Err(Reason::State) } else { Ok(states) }
}

/// Whether a folder is the root of a repository, of one of its worktrees, or a bare one.
fn is_repository(folder: &Path) -> bool {
    folder.join(".git").symlink_metadata().is_ok() || is_of_git(folder)
}

/// Whether git keeps its own files in a folder: a `.git`, a bare repository, or what a worktree has in one.
pub fn is_of_git(folder: &Path) -> bool {
    // What cannot be looked at may be there.
    let has = |name: &str| folder.join(name).symlink_metadata().map_or_else(|error| !shows_nothing(&error), |_| true);
    folder.file_name().is_some_and(|name| is_git_dir(name.as_encoded_bytes())) || is_bare_repository(has)
}

/// Whether a folder of the caller's own cannot be looked into: who may write around it may open it first.
fn is_closed(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = folder.symlink_metadata().is_ok_and(|meta| meta.uid() == geteuid().as_raw());
    own && access(folder, Permitted::READ_OK | Permitted::EXEC_OK).is_err()
}

/// An absolute path, canonical as far as it is there.
pub(crate) fn settled(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
    match there {
        Some((there, canonical)) => canonical.join(path.strip_prefix(there).unwrap_or(path)).components().collect(),
        None => path.to_owned(),
    }
}

/// Why no state folder may lie at an absolute path; `None` where one may. Nothing has to be there yet.
pub fn unfit_for_state(path: &Path) -> Option<Reason> {
    let path = settled(path);
    let within = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    // The one place of a repository's own folder in which git looks for nothing.
    let is_default = path.ends_with("swarm") && path.parent().is_some_and(is_of_git);
    if path.components().any(|part| part == Component::ParentDir) {
        return Some(PARENT);
    }
    if path.parent().is_none() || within(KERNEL) || within(SYSTEM) || within(MACHINE) {
        return Some(Reason::Never("it belongs to the system"));
    }
    if SHARED.iter().any(|shared| path == Path::new(shared)) {
        return Some(Reason::Never("many owners share it; name a folder in it"));
    }
    if !is_default && path.ancestors().any(is_of_git) {
        return Some(Reason::Never("git keeps its own files there"));
    }
    None
}

/// Whether a path lies in what is kept, or holds it.
fn meets(path: &Path, kept: &Path) -> bool {
    path.starts_with(kept) || (kept.starts_with(path) && kept.exists())
}

/// The path of a text in which `~/` is the caller's home.
pub fn expand_home(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if text == "~" => home.to_owned(),
        None => PathBuf::from(text),
    }
}

/// A path as a plan would write it.
pub fn as_written(path: &Path, home: &Path) -> String {
    match path.strip_prefix(home) {
        Ok(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Ok(rest) => format!("~/{}", rest.display()),
        Err(_) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(decide: impl Fn(&Guard<'_>, &str) -> Result<PathBuf, Reason>, table: &[(&str, Result<&str, &str>)]) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for sub in ["home/.ssh", "home/.config/gh", "home/data/sub", "repo/.git/swarm", "repo/src", "out"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        for sub in ["home/.local/bin", "home/.cargo", "home/.cache", "other/.git/hooks", "st/runs", "holds/a/b/runs"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        for sub in
            ["home/tools/bin", "home/.oh-my-zsh/custom", "home/.local/lib/python3.12/site-packages", "home/py/lib"]
        {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        for sub in [
            "above/a/b/c/d/deep/.git/hooks",
            "bare/x/objects",
            "bare/x/refs",
            "bare/x/HEAD",
            "bare/x/hooks",
            "wt/w/commondir",
            "wt/w/HEAD",
        ] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        for state in ["st", "holds/a/b"] {
            state::StateDir::open(&root.join(state)).unwrap();
        }
        std::fs::create_dir_all(root.join("home/led/bin")).unwrap();
        for file in ["home/.bashrc", "home/led/bin/node"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        for (link, target) in [
            ("home/data/keys", "home/.ssh"),
            ("home/data/out", "out"),
            ("home/data/repo", "repo/src"),
            ("home/tools/bin/node", "home/led/bin/node"),
        ] {
            std::os::unix::fs::symlink(root.join(target), root.join(link)).unwrap();
        }
        let (home, worktree, git) = (root.join("home"), root.join("repo"), root.join("repo/.git"));
        let places = Places { worktree: &worktree, git: &git, state: &git.join("swarm") };
        let (top, own_state) = (root.display().to_string(), home.join(".cache/swarm"));
        for (text, expected) in table {
            let path = Programs::of(&[root.join("home/tools/bin"), PathBuf::from("/usr/bin")]);
            let guard = Guard { home: &home, own_state: &own_state, path: &path, places };
            let found = decide(&guard, &text.replace('@', &top));
            let found = found.map(|path| path.display().to_string().replace(&top, "@"));
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{text}: {found}"),
                _ => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn what_may_be_granted() {
        let both: &[(&str, Result<&str, &str>)] = &[
            ("~/data/sub", Ok("@/home/data/sub")),
            ("~/data/sub/", Ok("@/home/data/sub")),
            ("~/data/out", Ok("@/out")),
            ("@/out", Ok("@/out")),
            ("", Err("has to be absolute")),
            ("relative", Err("has to be absolute")),
            ("./x", Err("has to be absolute")),
            ("~other/x", Err("only one's own is known")),
            ("~", Err("whole home folder")),
            ("@", Err("whole home folder")),
            ("/", Err("root folder is everything")),
            ("~/missing", Err("does not exist")),
            ("~/data/../.ssh", Err("`..`")),
            ("~/.ssh", Err("credentials")),
            ("~/.config", Err("credentials")),
            ("~/.config/gh", Err("credentials")),
            ("~/data/keys", Err("credentials")),
            ("@/repo/.git", Err("would expose")),
            ("@/repo", Err("would expose")),
            ("@/repo/.git/swarm", Err("state")),
            ("@/repo/src", Err("a copy of its own")),
            ("~/data/repo", Err("a copy of its own")),
            ("/etc/shadow", Err("credentials")),
            ("/etc", Err("credentials")),
            ("/proc", Err("kernel")),
            ("/dev/null", Err("kernel")),
        ];
        let granted = |guard: &Guard<'_>, text: &str, access| guard.granted(text, access).map(|place| place.path);
        check(|guard, text| granted(guard, text, Access::Read), both);
        check(|guard, text| granted(guard, text, Access::Write), both);
        check(|guard, text| granted(guard, text, Access::Read), &[("/usr", Ok("/usr"))]);
        let write: &[(&str, Result<&str, &str>)] = &[
            ("/usr/lib", Err("belongs to the system")),
            ("/var", Err("many owners")),
            ("~/.bashrc", Err("runs by itself")),
            ("~/.local", Err("runs by itself")),
            ("~/.local/bin", Err("runs by itself")),
            ("~/.cargo", Err("runs by itself")),
            ("~/tools/bin", Err("runs by itself")),
            ("~/tools", Err("a folder on your PATH")),
            ("~/led", Err("a link on your PATH")),
            ("~/led/bin/node", Err("a link on your PATH")),
            ("~/.oh-my-zsh/custom", Err("runs by itself")),
            ("~/.local/lib/python3.12/site-packages", Err("runs by itself")),
            ("~/py/lib", Ok("@/home/py/lib")),
            ("~/.cache", Err("swarm's own state")),
            ("@/st", Err("swarm's own state")),
            ("@/st/runs", Err("swarm's own state")),
            ("@/holds", Err("swarm's own state")),
            ("@/other", Err("another repository")),
            ("@/other/.git/hooks", Err("another repository")),
            ("@/above", Err("another repository")),
            ("@/bare", Err("another repository")),
            ("@/bare/x", Err("another repository")),
            ("@/bare/x/hooks", Err("another repository")),
            ("@/wt", Err("another repository")),
            ("@/wt/w", Err("another repository")),
        ];
        check(|guard, text| granted(guard, text, Access::Write), write);
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_written() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let guard = Guard {
            home: &root.join("home"),
            own_state: &root.join("own"),
            path: &Programs::default(),
            places: Places::nowhere(),
        };
        std::fs::create_dir_all(root.join("deep").join("d/".repeat(SEARCH_DEPTH_MAX + 2)).join(".git")).unwrap();
        std::fs::create_dir_all(root.join("shallow/closed")).unwrap();
        assert_eq!(guard.check(&root.join("deep"), Access::Write), Err(state::Unsearched::TooMany.into()));
        assert_eq!(guard.check(&root.join("shallow"), Access::Write), Ok(()));
        let mode = |mode| {
            std::fs::set_permissions(root.join("shallow/closed"), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o300);
        let found = guard.check(&root.join("shallow"), Access::Write);
        mode(0o700);
        match geteuid().is_root() {
            true => swarm_protocol::skipped::say("root may look into any folder"),
            false => assert_eq!(found, Err(CLOSED)),
        }
    }

    #[test]
    fn the_current_folder_is_judged_as_what_a_plan_would_write() {
        let check_as = |access, table: &[(&str, Result<&str, &str>)]| {
            check(
                |guard, text| {
                    let path = expand_home(text, guard.home).canonicalize().unwrap();
                    guard.current_folder(&path, access).map(|()| path)
                },
                table,
            );
        };
        check_as(
            Access::Write,
            &[
                ("~/.local/bin", Err("runs by itself")),
                ("~/tools/bin", Err("runs by itself")),
                // Whoever opens it says so: a project with its own `bin` is what the command is there for.
                ("~/tools", Ok("@/home/tools")),
                ("~/led", Ok("@/home/led")),
                ("~/.cargo", Err("runs by itself")),
                ("~/.cache", Err("swarm's own state")),
                ("@/st/runs", Err("swarm's own state")),
                // What is kept in it stays as it is, or is hidden.
                ("@/holds", Ok("@/holds")),
                ("/usr/share", Err("belongs to the system")),
                ("@/other", Ok("@/other")),
                ("@/out", Ok("@/out")),
            ],
        );
        check_as(
            Access::Read,
            &[
                ("~/.local/bin", Ok("@/home/.local/bin")),
                ("/usr/share", Ok("/usr/share")),
                ("@/st", Err("swarm's own state")),
                ("~/.ssh", Err("credentials")),
            ],
        );
    }

    #[test]
    fn the_state_of_nobody_lies_where_the_caller_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for sub in ["home/.cache", "elsewhere/cache"] {
            std::fs::create_dir_all(root.join(sub)).unwrap();
        }
        let (home, own_state) = (root.join("home"), root.join("elsewhere/cache/swarm"));
        let guard = Guard { home: &home, own_state: &own_state, path: &Programs::default(), places: Places::nowhere() };
        for (path, expected) in
            [("elsewhere", Err(EXPOSES_STATE)), ("elsewhere/cache", Err(EXPOSES_STATE)), ("home/.cache", Ok(()))]
        {
            assert_eq!(guard.check(&root.join(path), Access::Write), expected, "{path}");
        }
    }

    #[test]
    fn state_folders_in_what_is_shown_are_hidden_or_keep_it_from_being_shown() {
        check(
            |_, text| states_to_hide(Path::new(text), Tier::Namespaces).map(|all| all.iter().collect()),
            &[("@/holds", Ok("@/holds/a/b")), ("@/out", Ok(""))],
        );
        check(
            |_, text| states_to_hide(Path::new(text), Tier::Landlock).map(|_| PathBuf::from(text)),
            &[("@/holds", Err("swarm's own state")), ("@/out", Ok("@/out"))],
        );
    }

    #[test]
    fn where_no_state_folder_may_lie() {
        check(
            |_, text| match unfit_for_state(Path::new(text)) {
                Some(reason) => Err(reason),
                None => Ok(PathBuf::from(text)),
            },
            &[
                ("@/st", Ok("@/st")),
                ("@/new/deep", Ok("@/new/deep")),
                ("@/repo/st", Ok("@/repo/st")),
                ("@/repo/.git/swarm", Ok("@/repo/.git/swarm")),
                ("@/repo/.git", Err("git keeps")),
                ("@/repo/.git/hooks", Err("git keeps")),
                ("@/repo/.git/swarm/runs", Err("git keeps")),
                ("@/new/../repo/.git", Err("`..`")),
                ("/", Err("system")),
                ("/etc/x", Err("system")),
                ("/usr/share/x", Err("system")),
                ("/proc/x", Err("system")),
                ("/tmp", Err("many owners")),
            ],
        );
    }

    /// A path as a plan could write it, over few names so that they meet; `@` is the scene's folder.
    fn any_path() -> impl Strategy<Value = String> {
        let names =
            ["home", ".ssh", "id", "data", "keys", "repo", ".git", "swarm", "src", "out", "..", ".", "", "link"];
        let start = prop::sample::select(vec!["@/", "~/", "/", "@/home/", "@/repo/", ""]);
        (start, prop::collection::vec(prop::sample::select(names.to_vec()), 0..5))
            .prop_map(|(start, names)| format!("{start}{}", names.join("/")))
    }

    proptest! {
        /// However a path is written and whatever links lie on the way: what is granted holds nothing that is kept.
        #[test]
        fn nothing_that_is_granted_holds_what_is_kept(
            texts in prop::collection::vec(any_path(), 1..8), links in prop::collection::vec((any_path(), any_path()), 0..4)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().canonicalize().unwrap();
            for sub in ["home/.ssh", "home/data", "repo/.git/swarm", "repo/src", "out"] {
                std::fs::create_dir_all(root.join(sub)).unwrap();
            }
            let (home, worktree, git) = (root.join("home"), root.join("repo"), root.join("repo/.git"));
            let kept = [home.join(".ssh"), git.clone(), worktree.clone()];
            let top = root.display().to_string();
            let whole = |text: &str| expand_home(&text.replace('@', &top), &home);
            for (at, to) in &links {
                // Links out of the scene are not for a test to make.
                if whole(at).starts_with(&root) && !at.contains("..") {
                    drop(std::os::unix::fs::symlink(whole(to), whole(at)));
                }
            }
            let own_state = home.join(".cache/swarm");
            let guard = Guard { home: &home, own_state: &own_state, path: &Programs::default(), places: Places { worktree: &worktree, git: &git, state: &git.join("swarm") } };
            for (text, access) in texts.iter().zip([Access::Read, Access::Write].into_iter().cycle()) {
                if let Ok(Place { path: granted, .. }) = guard.granted(&text.replace('@', &top), access) {
                    prop_assert_eq!(&granted, &whole(text).canonicalize().unwrap(), "{}", text);
                    for kept in &kept {
                        let kept = kept.canonicalize().unwrap();
                        prop_assert!(!granted.starts_with(&kept) && !kept.starts_with(&granted), "{text}: {granted:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_may_be_hidden() {
        let table: &[(&str, Result<&str, &str>)] = &[
            ("secrets/", Ok("@/repo/secrets")),
            ("a/./b", Ok("@/repo/a/b")),
            ("~/data", Ok("@/home/data")),
            ("~/data/out", Ok("@/out")),
            ("/opt/x/", Ok("/opt/x")),
            ("", Err("the worktree itself")),
            (".", Err("the worktree itself")),
            ("/", Err("the worktree itself")),
            ("../x", Err("`..`")),
        ];
        check(|guard, text| guard.hidden(text, Tier::Namespaces), table);
        check(
            |guard, text| guard.hidden(text, Tier::Landlock),
            &[("secrets/", Err("landlock")), ("/opt/x", Ok("/opt/x"))],
        );
    }
}
