//! Which files of settings count beside a repository's own. Git lets variables name others than the person's and the machine's, of
//! which libgit2 knows nothing; whoever reads the environment says here what they name, once, and it holds for the whole process, as
//! it does for a git. Whom a repository of somebody else may be opened by (`safe.directory`) libgit2 looks for in the usual files only.
//!
//! Source: git(1), "Environment Variables": `GIT_CONFIG_GLOBAL`, `GIT_CONFIG_SYSTEM`, `GIT_CONFIG_NOSYSTEM`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use git2::{Config, ConfigLevel};

/// The variable by which no settings of the machine count.
pub const NO_SYSTEM: &str = "GIT_CONFIG_NOSYSTEM";

/// Stands for settings that do not count.
const NO_SETTINGS: &str = "/dev/null";

/// Files that count in place of the usual ones. They need not be there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedSettings {
    /// In place of the person's, both `~/.gitconfig` and the one below `$XDG_CONFIG_HOME`; absolute.
    pub global: Option<PathBuf>,
    /// In place of the machine's; absolute.
    pub system: Option<PathBuf>,
}

static NAMED: OnceLock<SharedSettings> = OnceLock::new();

impl SharedSettings {
    /// Those that variables name, relative paths from `folder`.
    ///
    /// # Errors
    /// [`NO_SYSTEM`] is neither yes nor no; git, too, ends there.
    pub fn named(variable: impl Fn(&str) -> Option<OsString>, folder: &Path) -> Result<Self, git2::Error> {
        // An empty one names no file.
        let file = |name: OsString| if name.is_empty() { PathBuf::from(NO_SETTINGS) } else { folder.join(name) };
        let without = variable(NO_SYSTEM).unwrap_or_default();
        let without = !without.is_empty() && Config::parse_bool(without.to_string_lossy().as_ref())?;
        let system = if without { Some(PathBuf::from(NO_SETTINGS)) } else { variable("GIT_CONFIG_SYSTEM").map(file) };
        Ok(SharedSettings { global: variable("GIT_CONFIG_GLOBAL").map(file), system })
    }

    /// Makes them count for all repositories that this process opens from here on.
    pub fn follow(self) {
        NAMED.get_or_init(|| self);
    }
}

/// Opens the repository at exactly this path, with the settings that count.
pub(crate) fn open(path: &Path) -> Result<git2::Repository, git2::Error> {
    let git = git2::Repository::open(path)?;
    count_in(&git)?;
    Ok(git)
}

/// Makes the settings count in a repository that was just opened: a file takes the place of what its level held.
pub(super) fn count_in(git: &git2::Repository) -> Result<(), git2::Error> {
    let Some(SharedSettings { global, system }) = NAMED.get() else { return Ok(()) };
    if let Some(global) = global {
        let mut config = git.config()?;
        config.add_file(global, ConfigLevel::Global, true)?;
        config.add_file(Path::new(NO_SETTINGS), ConfigLevel::XDG, true)?;
    }
    if let Some(system) = system {
        git.config()?.add_file(system, ConfigLevel::System, true)?;
    }
    Ok(())
}

/// The files that count, those that there are, in rising precedence.
pub(super) fn files() -> Vec<PathBuf> {
    let SharedSettings { global, system } = NAMED.get().cloned().unwrap_or_default();
    let system = system.or_else(|| Config::find_system().ok());
    let own = match global {
        Some(global) => [None, Some(global)],
        None => [Config::find_xdg().ok(), Config::find_global().ok()],
    };
    system.into_iter().chain(own.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_name_files_as_they_do_for_git() {
        let named = |variables: &[(&str, &str)]| {
            let value = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into());
            SharedSettings::named(value, Path::new("/at"))
        };
        let check = |variables: &[(&str, &str)], global: Option<&str>, system: Option<&str>| {
            let expected = SharedSettings { global: global.map(PathBuf::from), system: system.map(PathBuf::from) };
            assert_eq!(named(variables).expect("legible"), expected, "{variables:?}");
        };
        check(&[], None, None);
        check(&[("GIT_CONFIG_GLOBAL", "own")], Some("/at/own"), None);
        check(&[("GIT_CONFIG_GLOBAL", "")], Some(NO_SETTINGS), None);
        check(&[("GIT_CONFIG_SYSTEM", "/x"), (NO_SYSTEM, "no")], None, Some("/x"));
        check(&[("GIT_CONFIG_SYSTEM", "/x"), (NO_SYSTEM, "1")], None, Some(NO_SETTINGS));
        check(&[(NO_SYSTEM, "")], None, None);
        assert!(named(&[(NO_SYSTEM, "perhaps")]).is_err());
    }
}
