//! Where an agent works: its worktree, its folder for what is too long to show, and the environment of all that it starts.
//! Nothing is taken from the process's own environment: an agent's cage has one of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where an agent works.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The worktree, absolute.
    pub root: PathBuf,
    /// A private folder for outputs, absolute.
    pub scratch: PathBuf,
    /// The environment of programs, whole.
    pub env: Vec<(String, String)>,
}

impl Setting {
    /// The value of a variable; the last one counts.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A program that starts in the worktree with the agent's environment, in a process group of its own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(program);
        command.current_dir(&self.root).env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command.process_group(0);
        command
    }

    /// Where a program lies: on the agent's `PATH`, or as named where the name holds a slash.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            let path = self.root.join(name);
            return is_program(&path).then_some(path);
        }
        let folders = self.variable("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':');
        folders
            .filter(|folder| folder.starts_with('/'))
            .map(|folder| Path::new(folder).join(name))
            .find(|p| is_program(p))
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_environment_of_the_agent_and_no_other() {
        let env = [("PATH", "/nowhere:/usr/bin:/bin"), ("A", "1"), ("A", "2")];
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        let setting = Setting { root: "/".into(), scratch: "/tmp".into(), env };
        assert_eq!(setting.variable("A"), Some("2"));
        let sh = setting.find_program("sh").unwrap();
        assert!(setting.find_program("no-such-program").is_none());
        let output = setting.command(sh).args(["-c", "echo $A${HOME-}; pwd"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "2\n/\n");
    }
}
