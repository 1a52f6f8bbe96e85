//! What a worktree lacks of the checkout because no commit has it, and what brings it there: a commit, or, where git ignores it or it
//! holds a credential, `[workspace]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use swarm_plans::place::{IsWritten, list_to_paste};

use super::credentials;
use super::word::ask_of_workspace;
use crate::report::sanitize::shell_word;
use crate::repository::{Repository, RepositoryError};

/// What is done so that workers find a file of the checkout at `worktree`; `path` is from its root.
pub fn brought_by(worktree: &Path, path: &Path) -> String {
    // A hint: where git cannot be asked it is told as most files are.
    let entry = workspace_entry(worktree, path).ok().flatten();
    let Some((key, entry)) = entry else {
        let path = shell_word(&path.to_string_lossy());
        return format!(
            "git add {path} && git commit, where it is not committed, and start the plan again: swarm run (a retry keeps the \
             run's base)"
        );
    };
    let text = entry.to_string_lossy().into_owned();
    let allow = ask_of_workspace(key, &text, worktree).map(|ask| format!(" {}", ask.flag())).unwrap_or_default();
    let again = format!("start the plan again: swarm run{allow} (a retry keeps the run's plan and base)");
    list_to_paste("workspace", IsWritten::Yes, (key, &[text]), Some(&again))
}

/// The entry of `[workspace]` that gives a path to every worktree: the topmost folder around it that git ignores, as a cache, else
/// the file itself, when git ignores that or a commit is no place for it.
fn workspace_entry<'p>(worktree: &Path, path: &'p Path) -> Result<Option<(&'static str, &'p Path)>, RepositoryError> {
    let repository = Repository::open(worktree)?;
    let git = repository.handle()?;
    let index = git.index()?;
    let mut folders: Vec<&Path> = path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    for folder in folders {
        let is_folder = worktree.join(folder).symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        // The slash matters: a rule like `target/` is about folders.
        let below = [folder.as_os_str().as_bytes(), b"/"].concat();
        let name = if is_folder { &below[..] } else { folder.as_os_str().as_bytes() };
        // A folder with tracked files is no cache.
        let is_tracked = || is_folder && index.iter().any(|entry| entry.path.starts_with(&below));
        if git.is_path_ignored(OsStr::from_bytes(name))? && !is_tracked() {
            return Ok(Some((if is_folder { "cache" } else { "copy" }, folder)));
        }
    }
    Ok(credentials::is_path(path).then_some(("copy", path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::{Fixture, put};

    #[test]
    fn what_git_ignores_comes_by_the_workspace_and_all_else_by_a_commit() {
        let ignored = "build/\n.venv\n.env\nkept/*\nsub/deep/out/\n";
        let fixture = Fixture::with_files(&[(".gitignore", ignored), ("src/a", "a")]);
        for file in ["build/x/app", ".venv/bin/python", ".env", "kept/a", "sub/deep/out/o", "new", "conf/.env.local"] {
            put(&fixture.path().join(file), "x");
        }
        let top = fixture.path().display().to_string();
        let told = |path: &str| brought_by(fixture.path(), Path::new(path)).replace(&top, "@");
        let entry = |line: &str, run: &str| {
            format!("{line}  # in [workspace], and start the plan again: {run} (a retry keeps the run's plan and base)")
        };
        for (path, line) in [
            ("build/x/app", "cache = [\"build\"]"),
            ("build", "cache = [\"build\"]"),
            (".venv/bin/python", "cache = [\".venv\"]"),
            ("sub/deep/out/o", "cache = [\"sub/deep/out\"]"),
            ("kept/a", "copy = [\"kept/a\"]"),
        ] {
            assert_eq!(told(path), entry(line, "swarm run"), "{path}");
        }
        for path in [".env", "conf/.env.local"] {
            let run = format!("swarm run --allow read=@/{path}");
            assert_eq!(told(path), entry(&format!("copy = [\"{path}\"]"), &run), "{path}");
        }
        let committed = "git add new && git commit, where it is not committed, and start the plan again: swarm run (a retry keeps the \
                         run's base)";
        assert_eq!(told("new"), committed);
    }
}
