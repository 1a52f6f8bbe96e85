//! What may be shown of what no policy names: folders on the caller's `PATH`, what lies beside them, what links in them lead to, and
//! homes of toolchains. Nobody wrote these down, so they are judged as a `read` would be ([`Guard::check`]), and more is withheld: each
//! repository's own folder (its config may hold a URL with a password), state folders of swarm, and files by whose names programs know
//! credentials. Comes in a canonical path, goes out what of it is to be hidden, or why none of it is shown.
//!
//! It looks at names, a folder at a time, reads what [`kept`] reads, and follows no link.

use std::io;
use std::path::{Path, PathBuf};

use swarm_protocol::{Access, Tier};

use super::credentials;
use super::kept::{self, Among, Kept};
use super::paths::{Guard, MACHINE, SHARED, is_of_git};
use super::reason::{Reason, UNREADABLE};
use crate::entry_name::{is_bare_repository, is_git_dir};
use crate::listed::listed;
use crate::state;

/// How closely a folder is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Settings of a tool, in which somebody may have written a password: file by file.
    Settings,
    /// A folder on `PATH`: it may be anything.
    Folder,
    /// A toolchain's home at a place that a variable names: the same, and usually larger.
    Home,
    /// A toolchain's home at its own place: what lies deep in it came with the software, but for what tools are configured by.
    Installations,
    /// Libraries and data beside programs: they came with the software, but for what somebody named as a credential.
    Software,
    /// A cache that a toolchain fills, with repositories of its own that it works with, and that say where they came from.
    Cache,
}

/// Levels and entries that are looked at: of what may be anything all levels, and what holds more is not shown. A bare `PATH` folder has
/// at most some thousands of entries, an environment with a large framework 100,000, which takes a tenth of a second.
const LEVELS_MAX: usize = 64;
const FOLDER_ENTRIES_MAX: usize = 20_000;
const HOME_ENTRIES_MAX: usize = 500_000;
const SOFTWARE_LEVELS_MAX: usize = 4;
const SOFTWARE_ENTRIES_MAX: usize = 20_000;
const SETTINGS_ENTRIES_MAX: usize = 500;

/// What is withheld of one folder.
const WITHHELD_MAX: usize = 256;

/// Entries of a folder beside a hidden one: the landlock tier grants each by itself. Some less than the sandbox accepts.
const NEIGHBOURS_MAX: usize = 4_000;

const TOO_MUCH: Reason = Reason::Never("it holds too much to look for state and repositories in it");

/// What of a path is to be hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withheld {
    /// All of it, topmost ones only, sorted.
    pub hidden: Vec<PathBuf>,
    /// What of it holds too much to look for credentials in it, or cannot be read to its end.
    pub unlooked: Vec<PathBuf>,
}

/// What of a canonical path is to be hidden when it is shown although no policy names it, sorted.
///
/// # Errors
/// Why it is not shown, for people.
pub fn withheld(path: &Path, look: Look, guard: Guard<'_>) -> Result<Withheld, Reason> {
    guard.check(path, Access::Read)?;
    if MACHINE.iter().any(|folder| path.starts_with(folder)) {
        return Err(Reason::Never("it belongs to the system"));
    }
    if SHARED.iter().any(|shared| path == Path::new(shared)) {
        return Err(Reason::Never("many owners share it"));
    }
    if look != Look::Cache && path.ancestors().any(is_of_git) {
        return Err(Reason::Never("git keeps its own files there"));
    }
    if look != Look::Cache && path.is_file() && kept::is_credential(path) {
        return Err(Reason::Never("it holds a credential, by its name or its words"));
    }
    if !path.is_dir() {
        return Ok(Withheld::default());
    }
    let Kept { mut found, mut unlooked } = if look == Look::Cache { Kept::default() } else { below(path, look)? };
    let kept = match look {
        Look::Folder => kept::in_folder(path, Among::Anything)?,
        Look::Home | Look::Installations => kept::in_folder(path, Among::Installations)?,
        Look::Settings => {
            Kept { found: telling_in(path, SOFTWARE_LEVELS_MAX).map_err(|_| UNREADABLE)?, ..Kept::default() }
        }
        Look::Cache => kept::in_cache(path),
        Look::Software => Kept::default(),
    };
    unlooked.extend(kept.unlooked);
    found.extend(kept.found.into_iter().chain(unlooked.iter().cloned()));
    found.sort();
    found.dedup_by(|later, earlier| later.starts_with(&*earlier));
    if found.len() > WITHHELD_MAX {
        return Err(Reason::Never("it holds too many repositories and credentials"));
    }
    Ok(Withheld { hidden: found, unlooked })
}

/// Whether a tier can hide that in a canonical path.
///
/// # Errors
/// Why not, for people.
pub fn can_hide(path: &Path, hidden: &[PathBuf], tier: Tier) -> Result<(), Reason> {
    if tier == Tier::Landlock && !ways(path, hidden).iter().all(|way| may_be_listed_one_by_one(way)) {
        return Err(Reason::Never("the landlock tier cannot hide what it holds among so many entries"));
    }
    Ok(())
}

/// Repositories' own folders and state folders below a folder, topmost ones only; of what was installed the files that somebody keeps a
/// credential in, too, and what cannot be listed.
fn below(path: &Path, look: Look) -> Result<Kept, Reason> {
    let (levels_max, entries_max) = match look {
        Look::Settings => (SOFTWARE_LEVELS_MAX, SETTINGS_ENTRIES_MAX),
        Look::Folder => (LEVELS_MAX, FOLDER_ENTRIES_MAX),
        Look::Home => (LEVELS_MAX, HOME_ENTRIES_MAX),
        Look::Installations | Look::Software | Look::Cache => (SOFTWARE_LEVELS_MAX, SOFTWARE_ENTRIES_MAX),
    };
    let is_judged_whole = matches!(look, Look::Settings | Look::Folder | Look::Home);
    let (mut level, mut entries, mut found) = (vec![path.to_owned()], 0, Kept::default());
    // Of what may be anything, file by file, [`kept`] knows more.
    let is_installed = matches!(look, Look::Home | Look::Installations | Look::Software);
    let mut bytes = kept::SOFTWARE_BYTES_MAX;
    for _ in 0..levels_max {
        for folder in std::mem::take(&mut level) {
            let Ok(listed) = Listed::of(&folder, entries_max - entries) else {
                if is_judged_whole || folder == path {
                    return Err(UNREADABLE);
                }
                found.unlooked.push(folder);
                continue;
            };
            entries += listed.entries;
            match listed.is_kept(&folder) && folder != path {
                true => found.found.push(folder),
                false => {
                    found.found.extend(listed.repositories);
                    level.extend(listed.folders);
                    let files =
                        listed.files.into_iter().filter(|file| is_installed && kept::is_somebodys(file, &mut bytes));
                    found.found.extend(files);
                }
            }
            if entries >= entries_max {
                return if is_judged_whole { Err(TOO_MUCH) } else { Ok(found) };
            }
        }
    }
    if is_judged_whole && !level.is_empty() { Err(TOO_MUCH) } else { Ok(found) }
}

/// What one folder holds, by the names in it.
#[derive(Default)]
struct Listed {
    entries: usize,
    /// What is named as a repository's own folder is.
    repositories: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    /// No links: one shows nothing that is not shown anyway.
    files: Vec<PathBuf>,
    is_repository: bool,
    has_marker: bool,
}

impl Listed {
    fn of(folder: &Path, entries_max: usize) -> io::Result<Listed> {
        let all = listed(folder, entries_max)?;
        let has = |wanted: &str| all.iter().any(|(entry, _)| entry.file_name() == wanted);
        let (is_repository, has_marker) = (is_bare_repository(has), has(state::MARKER));
        let mut it = Listed { entries: all.len(), is_repository, has_marker, ..Listed::default() };
        for (entry, kind) in all {
            match kind.is_dir() {
                true if is_git_dir(entry.file_name().as_encoded_bytes()) => it.repositories.push(entry.path()),
                true => it.folders.push(entry.path()),
                false if kind.is_file() => it.files.push(entry.path()),
                false => {}
            }
        }
        Ok(it)
    }

    /// Whether all of the folder is withheld.
    fn is_kept(&self, folder: &Path) -> bool {
        self.is_repository || self.has_marker && state::is_state(folder)
    }
}

/// The files in a folder of settings that hold credentials by their names or words. A link shows nothing that is not shown anyway.
///
/// # Errors
/// The system's: nobody knows what a folder holds.
fn telling_in(folder: &Path, levels: usize) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (entry, kind) in listed(folder, SETTINGS_ENTRIES_MAX)? {
        let path = entry.path();
        if kind.is_dir() && levels > 1 {
            found.extend(telling_in(&path, levels - 1)?);
        } else if kind.is_file() {
            let tells = credentials::is_path(Path::new(&entry.file_name())) || credentials::may_be_told_in(&path);
            found.extend(tells.then_some(path));
        }
    }
    Ok(found)
}

/// The folders from a path down to what is hidden in it.
fn ways(path: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let above = |hidden: &PathBuf| {
        let above = hidden.ancestors().skip(1).take_while(|above| above.starts_with(path));
        above.map(Path::to_owned).collect::<Vec<_>>()
    };
    let mut all: Vec<PathBuf> = hidden.iter().flat_map(above).collect();
    all.sort();
    all.dedup();
    all
}

fn may_be_listed_one_by_one(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|entries| entries.take(NEIGHBOURS_MAX).count() < NEIGHBOURS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Places, on_path};

    /// A folder with these entries (a slash behind a folder's name, `!` before a state folder), and what of it is withheld.
    fn check(entries: &[&str], look: Look, expected: Result<&[&str], &str>) {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("it is there");
        let folder = root.join("tools");
        for entry in entries {
            let (state, entry) = entry.strip_prefix('!').map_or((false, *entry), |entry| (true, entry));
            let path = folder.join(entry);
            std::fs::create_dir_all(if entry.ends_with('/') { &path } else { path.parent().expect("below") })
                .expect("a folder");
            match state {
                true => drop(state::StateDir::open(&path).expect("a state folder")),
                false if !entry.ends_with('/') => std::fs::write(path, "").expect("a file"),
                false => {}
            }
        }
        let guard = Guard {
            home: &root.join("home"),
            own_state: &root.join("own"),
            path: &on_path::Programs::default(),
            places: Places::nowhere(),
        };
        let found = withheld(&folder, look, guard);
        let short = |path: &PathBuf| path.strip_prefix(&folder).expect("below").display().to_string();
        match (found.map(|all| all.hidden.iter().map(short).collect::<Vec<_>>()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{entries:?}"),
            (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{entries:?}: {found}"),
            (found, _) => panic!("{entries:?}: {found:?}"),
        }
    }

    #[test]
    fn of_a_repository_on_path_its_files_are_shown_and_not_its_own_folder() {
        check(&["tool", ".git/config", "sub/x/.git/config", "sub/y"], Look::Folder, Ok(&[".git", "sub/x/.git"]));
        check(&["tool", "b.git/HEAD", "b.git/objects/", "b.git/refs/"], Look::Folder, Ok(&["b.git"]));
        check(&["tool", "w/HEAD", "w/commondir"], Look::Folder, Ok(&["w"]));
        check(&["tool", "b/HEAD", "b/objects", "b/refs"], Look::Folder, Ok(&["b"]));
        check(&["HEAD", "objects/", "refs/"], Look::Folder, Err("git keeps"));
    }

    #[test]
    fn state_folders_and_files_named_as_credentials_are_withheld() {
        check(&["tool", "!deep/a/b/c/d/state/"], Look::Folder, Ok(&["deep/a/b/c/d/state"]));
        check(&["tool", "!."], Look::Folder, Err("swarm's own state"));
        check(
            &["tool", ".netrc", ".env", ".aws/credentials", "lib/.env"],
            Look::Folder,
            Ok(&[".aws", ".env", ".netrc", "lib/.env"]),
        );
        check(&["lib/token.py", "cacert.pem", "x/.git/config"], Look::Software, Ok(&["x/.git"]));
        check(
            &["lib/.env", "v/.netrc", "v/x/.git/config", "v/token.py"],
            Look::Installations,
            Ok(&["lib/.env", "v/.netrc", "v/x/.git"]),
        );
        check(
            &["management/jmxremote.password", "security/java.security", "net.properties"],
            Look::Software,
            Ok(&["management/jmxremote.password"]),
        );
        check(
            &["lib/x/terraform.tfvars", "lib/y/id_rsa", "lib/y/key.js"],
            Look::Home,
            Ok(&["lib/x/terraform.tfvars", "lib/y/id_rsa"]),
        );
        check(&["db/x/HEAD", "db/x/objects/", "db/x/refs/"], Look::Cache, Ok(&[]));
    }

    #[test]
    fn what_cannot_be_listed_is_shown_to_nobody() {
        let dir = tempfile::tempdir().expect("a folder");
        crate::listed::too_long_to_list(dir.path());
        let below = |look| below(dir.path(), look).map(|kept| kept.unlooked.len());
        assert_eq!((below(Look::Folder), below(Look::Home)), (Err(UNREADABLE), Err(UNREADABLE)));
        let long = dir.path().join("n/".repeat(4096));
        assert_eq!(super::below(&long, Look::Software), Err(UNREADABLE));
        assert!(telling_in(&long, 1).is_err());
    }

    #[test]
    fn what_belongs_to_all_is_shown_to_nobody_for_the_sake_of_path() {
        let nowhere = Path::new("/nowhere");
        let guard =
            Guard { home: nowhere, own_state: nowhere, path: &on_path::Programs::default(), places: Places::nowhere() };
        for folder in ["/etc", "/etc/alternatives", "/run", "/tmp", "/dev/shm", "/proc/self", "/sys", "/"] {
            assert!(withheld(Path::new(folder), Look::Folder, guard).is_err(), "{folder}");
        }
    }
}
