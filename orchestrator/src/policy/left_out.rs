//! What a worktree lacks of the checkout because no commit has it, and what brings it there: a commit, or, where git ignores it or it
//! holds a credential, `[workspace]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use swarm_plans::place::{IsWritten, list_to_paste};

use super::credentials;
use super::word::ask_of_workspace;
use crate::report::sanitize::{self, shell_word};
use crate::repository::{Repository, RepositoryError};

/// What is done so that workers find a file of the checkout at `worktree`; `path` is from its root.
pub fn brought_by(worktree: &Path, path: &Path) -> String {
    // A hint: where git cannot be asked it is told as most files are.
    let Some(Entry { key, path: entry, ignored_by }) = entry(worktree, path).ok().flatten() else {
        if is_committed(worktree, path).unwrap_or(false) {
            return "name it in `sparse` of [workspace], where that leaves it out, or start the plan again, where it was committed behind \
                    the run's base: swarm run (a retry keeps the run's plan and base)"
                .to_owned();
        }
        let path = shell_word(&path.to_string_lossy());
        return format!(
            "git add {path} && git commit, where it is not committed, and start the plan again: swarm run (a retry keeps the \
             run's base)"
        );
    };
    let text = entry.to_string_lossy().into_owned();
    let allow = ask_of_workspace(key, &text, worktree).map(|ask| format!(" {}", ask.flag())).unwrap_or_default();
    let named = match ignored_by {
        IgnoredBy::Others => String::new(),
        IgnoredBy::Itself => format!("commit a .gitignore beside it that names {}, and ", sanitize::name(&text)),
    };
    let again = format!("{named}start the plan again: swarm run{allow} (a retry keeps the run's plan and base)");
    list_to_paste("workspace", IsWritten::Yes, (key, &[text]), Some(&again))
}

/// What `[workspace]` is to name.
struct Entry<'p> {
    /// Under which key.
    key: &'static str,
    /// From the checkout's root.
    path: &'p Path,
    ignored_by: IgnoredBy,
}

/// Whose rule ignores an entry.
enum IgnoredBy {
    /// One of git's around it, or none does.
    Others,
    /// A file in it that ignores all of it and itself, as tools write it (`uv venv`): no rule that a cache goes by.
    Itself,
}

/// The entry of `[workspace]` that gives a path to every worktree: the topmost folder around it that git ignores, as a cache, else
/// the file itself, when git ignores that or a commit is no place for it.
fn entry<'p>(worktree: &Path, path: &'p Path) -> Result<Option<Entry<'p>>, RepositoryError> {
    let repository = Repository::open(worktree)?;
    let git = repository.handle()?;
    let index = git.index()?;
    let ignores = |path: &[u8]| git.is_path_ignored(OsStr::from_bytes(path));
    let mut folders: Vec<&Path> = path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    for folder in folders {
        let name = folder.as_os_str().as_bytes();
        if !worktree.join(folder).symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let ignored = ignores(name)?.then_some(Entry { key: "copy", path: folder, ignored_by: IgnoredBy::Others });
            return Ok(ignored.or_else(|| secret(path)));
        }
        // The slash matters: a rule like `target/` is about folders. One with tracked files is no cache.
        let below = [name, b"/"].concat();
        if index.iter().any(|entry| entry.path.starts_with(&below)) {
            continue;
        }
        let own = [&below, &b".gitignore"[..]].concat();
        let ignored_by = match ignores(&below)? {
            true => IgnoredBy::Others,
            false if worktree.join(OsStr::from_bytes(&own)).is_file() && ignores(&own)? => IgnoredBy::Itself,
            false => continue,
        };
        return Ok(Some(Entry { key: "cache", path: folder, ignored_by }));
    }
    Ok(None)
}

/// Whether the commit that is checked out has a path.
fn is_committed(worktree: &Path, path: &Path) -> Result<bool, RepositoryError> {
    let repository = Repository::open(worktree)?;
    let git = repository.handle()?;
    Ok(git.head()?.peel_to_tree()?.get_path(path).is_ok())
}

/// A file that is not to be committed although git would take it.
fn secret(path: &Path) -> Option<Entry<'_>> {
    let copied = Entry { key: "copy", path, ignored_by: IgnoredBy::Others };
    credentials::is_path(path).then_some(copied)
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
        put(&fixture.path().join("uv/.gitignore"), "*\n");
        put(&fixture.path().join("uv/bin/python"), "x");
        let named = "cache = [\"uv\"]  # in [workspace], and commit a .gitignore beside it that names uv, and start";
        assert!(told("uv/bin/python").starts_with(named), "{}", told("uv/bin/python"));
        for path in [".env", "conf/.env.local"] {
            let run = format!("swarm run --allow read=@/{path}");
            assert_eq!(told(path), entry(&format!("copy = [\"{path}\"]"), &run), "{path}");
        }
        let committed = "git add new && git commit, where it is not committed, and start the plan again: swarm run (a retry keeps the \
                         run's base)";
        assert_eq!(told("new"), committed);
        assert!(told("src/a").starts_with("name it in `sparse`"), "{}", told("src/a"));
    }
}
