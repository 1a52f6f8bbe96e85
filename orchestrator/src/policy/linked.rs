//! Programs that links in a folder of the caller's `PATH` lead to. `~/.local/bin/tool` of pipx or uv is a link into the tool's own
//! virtual environment, whose interpreter is a link again; `~/.local/bin/node` leads to where somebody unpacked it. The folder on
//! `PATH` shows the links alone, and a link that leads nowhere starts nothing.
//!
//! A link is as little of a grant as the folder that it lies in: nobody wrote down what it leads to. So it shows the program
//! itself, one file. Where that lies in the `bin` of a virtual environment (`pyvenv.cfg` beside it says so), it shows what an
//! interpreter opens there and nothing else of the folder: `bin`, `lib`, that file; and of the interpreter's own installation
//! the program and its `lib`. What no policy may name (credentials, the repository's `.git`, state) is not shown by a link either.
//!
//! A link in a project is anybody's who can change the project, and a task may have made it: where it leads out of the repository, it shows the
//! program alone, and an interpreter with the modules that it came with.
//!
//! A way to a program may lead through the repository: an activated environment in it (`.venv/bin/python3` -> `python` -> `~/…`) names
//! the interpreter at `.venv/bin/python`. What no git tracks there no worktree has, and a file that is shown there would be taken for
//! the task's own: [`super::showcase`] leaves such places out, and the program is seen where it lies.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use swarm_protocol::Access;

use super::SYSTEM;
use super::installation::{Part, Way as By, may_hold_secrets, modules_of, parts, project_of};
use super::kept;
use super::paths::Guard;
use super::running::runs_by_itself;
use super::unnamed::Look;
use super::way::{self, Way};

/// Entries of one folder that are looked at, and links in it that are followed; the others lead nowhere.
const ENTRIES_MAX: usize = 10_000;
pub const LINKS_MAX: usize = 128;

/// Links that one link may lead through.
const HOPS_MAX: usize = 8;

/// What tells a virtual environment, beside its `bin`.
const ENVIRONMENT: &str = "pyvenv.cfg";

/// The names under which an environment has its interpreter.
const INTERPRETERS: [&str; 2] = ["python3", "python"];

/// How what they came with is called in their `lib`.
const INTERPRETERS_OWN: [&str; 2] = ["python3", "libpython3"];

/// A path of the host, and the place under which it is seen.
type Seen = (PathBuf, PathBuf);

/// What links in a folder need shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// All of it, sorted.
    pub parts: Vec<Part>,
    /// Links that were not followed.
    pub more: usize,
}

/// What links in a folder need shown that lead to neither of the canonical paths `shown`; the home folder is canonical.
pub fn linked(dir: &Path, shown: &[PathBuf], guard: Guard<'_>, home: &Path) -> Linked {
    if SYSTEM.iter().any(|system| dir.starts_with(system)) {
        return Linked::default();
    }
    let entries = dir.read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let mut links: Vec<PathBuf> = links.map(|entry| entry.path()).filter(|link| leads_out(link, dir, shown)).collect();
    links.sort();
    let more = links.len().saturating_sub(LINKS_MAX);
    let mut all: Vec<Part> = links.iter().take(LINKS_MAX).flat_map(|link| program(link, guard, home)).collect();
    if let Some(prefix) = dir.parent().filter(|prefix| prefix.join(ENVIRONMENT).is_file()) {
        all.extend(environment(prefix, prefix, guard, home).into_iter().map(software));
    }
    all.sort();
    all.dedup();
    Linked { parts: all, more }
}

fn software((path, at): Seen) -> Part {
    Part { at, path, look: Look::Software }
}

/// Whether a link leads to a program that lies neither beside it, nor in what is shown anyway, nor where the system keeps them.
fn leads_out(link: &Path, dir: &Path, shown: &[PathBuf]) -> bool {
    let Ok(target) = link.canonicalize() else { return false };
    let is_program = target.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let is_shown = shown.iter().any(|shown| target.starts_with(shown));
    is_program && !is_shown && !target.starts_with(dir) && !SYSTEM.iter().any(|system| target.starts_with(system))
}

/// The program that a link leads to, by every name on the way to it, and what it needs: its environment where it lies in one, else
/// its installation.
fn program(link: &Path, guard: Guard<'_>, home: &Path) -> Vec<Part> {
    let Way { end: target, links, is_there: true } = way::to(link) else { return Vec::new() };
    if guard.check(&target, Access::Read).is_err() {
        return Vec::new();
    }
    let names = names_of(link, &target);
    if names.iter().any(|name| kept::is_credential(name)) {
        return Vec::new();
    }
    let mut seen: Vec<Part> = names.iter().map(|name| software((target.clone(), name.clone()))).collect();
    if links.iter().any(|link| leaves_project(link, &target, home)) {
        return seen;
    }
    seen.extend(modules_of(&target, home));
    let Some(programs) = target.parent() else { return seen };
    let prefix = programs.parent().filter(|prefix| programs.ends_with("bin") && prefix.join(ENVIRONMENT).is_file());
    for name in names.iter().filter_map(|name| name.parent()) {
        if name.canonicalize().is_ok_and(|name| name != programs) {
            continue;
        }
        match (prefix, name.parent()) {
            (Some(prefix), Some(at)) => seen.extend(environment(prefix, at, guard, home).into_iter().map(software)),
            _ => seen.extend(parts(name, By::Link, home)),
        }
    }
    seen
}

/// What an interpreter opens of its environment `prefix`, which is named as `at`, and of its own installation.
fn environment(prefix: &Path, at: &Path, guard: Guard<'_>, home: &Path) -> Vec<Seen> {
    let mut seen = below(prefix, at, &["bin", "lib", "lib64", ENVIRONMENT], guard, home);
    for name in INTERPRETERS {
        let link = prefix.join("bin").join(name);
        let Way { end: target, links, is_there: true } = way::to(&link) else { continue };
        if guard.check(&target, Access::Read).is_err() {
            continue;
        }
        let is_led = links.iter().any(|link| leaves_project(link, &target, home));
        for name in names_of(&link, &target).into_iter().filter(|name| !name.starts_with(prefix)) {
            let installation = |path: &Path| path.parent().and_then(Path::parent).map(Path::to_owned);
            if let (Some(own), Some(at)) = (installation(&target), installation(&name)) {
                let modules = if is_led { modules_in(&own) } else { vec!["lib".to_owned()] };
                seen.extend(below(&own, &at, &modules, guard, home));
            }
            seen.push((target.clone(), name));
        }
    }
    seen
}

/// Whether a link lies in a project and leads out of its repository. Where version keepers have theirs no task ever writes.
fn leaves_project(link: &Path, target: &Path, home: &Path) -> bool {
    let folder = link.parent().filter(|folder| !runs_by_itself(folder, home));
    folder.and_then(|folder| project_of(folder, home)).is_some_and(|root| !target.starts_with(root))
}

/// What of an installation's `lib` is an interpreter's own: its modules, and the library that it may be.
fn modules_in(installation: &Path) -> Vec<String> {
    let entries = installation.join("lib").read_dir().into_iter().flatten().flatten().take(ENTRIES_MAX);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let own = names.filter(|name| INTERPRETERS_OWN.iter().any(|start| name.starts_with(start)));
    own.map(|name| format!("lib/{name}")).collect()
}

/// What a folder has of these names, unless more of it than single files may hold secrets.
fn below(prefix: &Path, at: &Path, names: &[impl AsRef<Path>], guard: Guard<'_>, home: &Path) -> Vec<Seen> {
    let is_closed = prefix.canonicalize().is_ok_and(|real| may_hold_secrets(&real, home));
    if prefix.parent().is_none() || is_closed {
        return Vec::new();
    }
    let seen = names.iter().filter_map(|name| Some((prefix.join(name).canonicalize().ok()?, at.join(name))));
    // A link that leads elsewhere shows nothing of that.
    let own = seen.filter(|(path, _)| path.starts_with(prefix) && guard.check(path, Access::Read).is_ok());
    own.collect()
}

/// The absolute paths that a link leads through, as they are written in it, the last one canonical.
fn names_of(link: &Path, target: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut at = link.to_owned();
    for _ in 0..HOPS_MAX {
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = lexical(&at.parent().unwrap_or(Path::new("/")).join(target));
        // What is a link itself is seen as what it leads to, whoever follows it.
        names.push(at.clone());
    }
    if !names.iter().any(|name| name == target) {
        names.push(target.to_owned());
    }
    names
}

/// A path without `.` and `..`, by its words.
fn lexical(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut so_far, part| {
        match part {
            Component::ParentDir => drop(so_far.pop()),
            Component::CurDir => {}
            part => so_far.push(part),
        }
        so_far
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::policy::{Places, on_path};

    /// A home with one tool in an environment of its own, as pipx makes it, whose interpreter somebody unpacked in the home too.
    struct Home {
        _folder: tempfile::TempDir,
        home: PathBuf,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let home = folder.path().canonicalize().expect("it exists").join("home");
            let it = Home { _folder: folder, home };
            it.program("python/cpython-3.12.7/bin/python3.12");
            it.file("python/cpython-3.12.7/lib/os.py");
            it.file("python/cpython-3.12.7/private");
            it.link("cpython-3.12.7", "python/cpython-3.12");
            it.program("venvs/tool/bin/tool");
            it.file("venvs/tool/lib/tool.py");
            it.file("venvs/tool/pyvenv.cfg");
            it.file("venvs/tool/private");
            it.link(&it.at("python/cpython-3.12/bin/python3.12").display().to_string(), "venvs/tool/bin/python");
            fs::create_dir_all(it.at("bin")).expect("a folder");
            it
        }

        fn at(&self, path: &str) -> PathBuf {
            self.home.join(path)
        }

        fn file(&self, path: &str) {
            fs::create_dir_all(self.at(path).parent().expect("a folder")).expect("folders");
            fs::write(self.at(path), "").expect("a file");
        }

        fn program(&self, path: &str) {
            self.file(path);
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).expect("our own");
        }

        fn link(&self, target: &str, path: &str) {
            symlink(target, self.at(path)).expect("a link");
        }

        /// Places in the home, those that show another path with it.
        fn linked(&self, dir: &str) -> Vec<String> {
            let guard = Guard {
                home: &self.home,
                own_state: &self.at("state"),
                path: &on_path::Programs::default(),
                places: Places::nowhere(),
            };
            let short = |path: &Path| path.strip_prefix(&self.home).expect("in the home").display().to_string();
            let all = linked(&self.at(dir), &[], guard, &self.home).parts.into_iter();
            all.map(|Part { at, path, .. }| match path == at {
                true => short(&at),
                false => format!("{}={}", short(&at), short(&path)),
            })
            .collect()
        }
    }

    const TOOL: [&str; 7] = [
        "python/cpython-3.12.7/bin/python3.12",
        "python/cpython-3.12/bin/python3.12=python/cpython-3.12.7/bin/python3.12",
        "python/cpython-3.12.7/lib",
        "python/cpython-3.12/lib=python/cpython-3.12.7/lib",
        "venvs/tool/bin",
        "venvs/tool/lib",
        "venvs/tool/pyvenv.cfg",
    ];

    #[test]
    fn a_link_into_an_environment_shows_what_runs_there_and_its_interpreter() {
        let home = Home::new();
        home.link("../venvs/tool/bin/tool", "bin/tool");
        let mut all: Vec<&str> = TOOL.to_vec();
        all.push("venvs/tool/bin/tool");
        let mut found = home.linked("bin");
        all.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, all);
        let mut found = home.linked("venvs/tool/bin");
        found.retain(|at| !at.starts_with("python"));
        assert_eq!(found, ["venvs/tool/bin", "venvs/tool/lib", "venvs/tool/pyvenv.cfg"], "on PATH itself");
    }

    #[test]
    fn any_other_link_shows_one_file_and_a_secret_nothing() {
        let home = Home::new();
        home.program("work/repo/.git/hooks/run");
        home.program("work/repo/run.sh");
        home.program(".ssh/id");
        home.file("notes");
        home.program("work/.env");
        home.program("work/id_rsa");
        for (target, name) in [
            ("work/repo/run.sh", "run"),
            (".ssh/id", "key"),
            ("notes", "notes"),
            ("gone", "gone"),
            ("work/.env", "conf"),
            ("work/id_rsa", "id"),
        ] {
            home.link(&format!("../{target}"), &format!("bin/{name}"));
        }
        assert_eq!(home.linked("bin"), ["work/repo/run.sh"]);
    }

    #[test]
    fn an_environment_that_may_hold_secrets_is_not_shown() {
        let home = Home::new();
        home.link("../venvs/tool/bin/tool", "bin/tool");
        home.file("venvs/tool/.netrc");
        let found = home.linked("bin");
        assert!(found.iter().all(|at| !at.ends_with("lib") || at.starts_with("python")), "{found:?}");
        assert!(found.contains(&"venvs/tool/bin/tool".to_owned()), "{found:?}");
    }

    #[test]
    fn a_link_of_a_project_shows_no_more_than_a_program_outside_of_it() {
        let home = Home::new();
        for file in
            ["repo/.git/config", "repo/.venv/pyvenv.cfg", "private/lib/x", "python/cpython-3.12.7/lib/python3.12/os.py"]
        {
            home.file(file);
        }
        for program in ["private/bin/tool", "repo/own/bin/tool"] {
            home.program(program);
        }
        home.file("repo/own/share/x");
        for folder in ["repo/bin", "repo/.venv/bin", "tools"] {
            fs::create_dir_all(home.at(folder)).expect("a folder");
        }
        let python = home.at("python/cpython-3.12.7/bin/python3.12").display().to_string();
        for (target, link) in [
            ("../../private/bin/tool", "repo/bin/tool"),
            ("../repo/bin/tool", "tools/tool"),
            (&python, "repo/.venv/bin/python3"),
        ] {
            home.link(target, link);
        }
        assert_eq!(home.linked("repo/bin"), ["private/bin/tool"]);
        let through = home.linked("tools");
        assert!(through.iter().all(|at| at.ends_with("bin/tool") || at.contains("=private/bin/tool")), "{through:?}");
        let found = home.linked("repo/.venv/bin");
        let outside: Vec<&String> = found.iter().filter(|at| !at.starts_with("repo/")).collect();
        assert_eq!(outside, ["python/cpython-3.12.7/bin/python3.12", "python/cpython-3.12.7/lib/python3.12"]);
        // Without the project each shows its installation.
        fs::remove_dir_all(home.at("repo/.git")).expect("it is there");
        assert!(home.linked("repo/bin").contains(&"private/lib".to_owned()));
        assert!(home.linked("repo/.venv/bin").contains(&"python/cpython-3.12.7/lib".to_owned()));
    }
}
