//! The program to run, prepared before any process is made: what runs after the clone only passes pointers on.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::stat;
use rustix::io::Errno;

/// A program with its arguments, environment and working directory.
#[derive(Debug, Clone)]
pub struct Program {
    /// Files to try, in order: one when the name has a slash, else one for each folder of the environment's `PATH`.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: PathBuf,
}

/// Why a program cannot even be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No program was named.
    #[error("the command is empty")]
    Empty,
    /// A NUL in an argument, a variable or a path; or a variable's name that is empty or has a `=`.
    #[error("{0:?} cannot be passed to a program")]
    Unpassable(String),
    /// A relative working directory.
    #[error("the working directory {0:?} is not absolute")]
    RelativeCwd(PathBuf),
    /// A name without a slash, and no `PATH` in the environment.
    #[error("{0:?} cannot be found without PATH in the environment")]
    NoPath(String),
}

impl Program {
    /// Prepares `argv` with exactly the environment `env`, to be run in `cwd` (absolute, as the job sees it).
    ///
    /// # Errors
    /// [`ProgramError`]: the caller's command is at fault.
    pub fn new(argv: &[String], env: &[(String, String)], cwd: &Path) -> Result<Self, ProgramError> {
        let name = argv.first().filter(|name| !name.is_empty()).ok_or(ProgramError::Empty)?;
        if !cwd.is_absolute() || cwd.as_os_str().as_bytes().contains(&0) {
            return Err(ProgramError::RelativeCwd(cwd.to_owned()));
        }
        let mut variables = Vec::with_capacity(env.len());
        for (key, value) in env {
            if key.is_empty() || key.contains('=') {
                return Err(ProgramError::Unpassable(key.clone()));
            }
            variables.push(c_string(format!("{key}={value}"))?);
        }
        let argv = argv.iter().cloned().map(c_string).collect::<Result<Vec<_>, _>>()?;
        let candidates = candidates(name, env, cwd)?;
        Ok(Program { candidates, argv: argv.clone(), env: variables, cwd: cwd.to_owned() })
    }

    /// Where it runs.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Replaces the calling process. Comes back only on failure, with the error that a shell would report: a file that
    /// exists and cannot be executed beats one that does not exist.
    pub fn exec(&self) -> Errno {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        let mut verdict = Errno::NOENT;
        for candidate in &self.candidates {
            // SAFETY: both vectors end with a null pointer and point to strings that `self` keeps alive.
            unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
            match crate::mounts::last_error() {
                Errno::NOENT | Errno::NOTDIR => {}
                // A folder of PATH that may not be searched holds nothing for this job.
                Errno::ACCESS if self.candidates.len() > 1 && stat(candidate.as_c_str()).is_err() => {}
                error => verdict = error,
            }
        }
        verdict
    }
}

fn candidates(name: &str, env: &[(String, String)], cwd: &Path) -> Result<Vec<CString>, ProgramError> {
    if name.contains('/') {
        return Ok(vec![c_string(name.to_owned())?]);
    }
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value);
    let path = path.ok_or_else(|| ProgramError::NoPath(name.to_owned()))?;
    std::env::split_paths(OsStr::new(path))
        .map(|folder| {
            let file = cwd.join(folder).join(name);
            CString::new(file.into_os_string().into_encoded_bytes())
                .map_err(|_| ProgramError::Unpassable(name.to_owned()))
        })
        .collect()
}

fn c_string(text: String) -> Result<CString, ProgramError> {
    CString::new(text)
        .map_err(|error| ProgramError::Unpassable(String::from_utf8_lossy(&error.into_vec()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argv: &[&str], env: &[(&str, &str)], expected: Result<&[&str], ProgramError>) {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        let env: Vec<(String, String)> = env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let found = Program::new(&argv, &env, Path::new("/work")).map(|program| {
            program.candidates.iter().map(|file| file.to_str().expect("ASCII").to_owned()).collect::<Vec<_>>()
        });
        assert_eq!(found, expected.map(|files| files.iter().map(|&file| file.to_owned()).collect()));
    }

    #[test]
    fn a_bare_name_is_searched_in_the_cages_own_path() {
        check(&["cc"], &[("PATH", "/a:/b")], Ok(&["/a/cc", "/b/cc"]));
        check(&["cc"], &[("PATH", ":bin")], Ok(&["/work/cc", "/work/bin/cc"]));
    }

    #[test]
    fn a_name_with_a_slash_is_taken_as_it_is() {
        check(&["./run"], &[], Ok(&["./run"]));
    }

    #[test]
    fn what_no_program_can_receive_is_refused() {
        check(&[], &[], Err(ProgramError::Empty));
        check(&["cc"], &[], Err(ProgramError::NoPath("cc".to_owned())));
        check(&["/bin/cc", "a\0b"], &[], Err(ProgramError::Unpassable("a\0b".to_owned())));
        check(&["/bin/cc"], &[("A=B", "")], Err(ProgramError::Unpassable("A=B".to_owned())));
    }
}
