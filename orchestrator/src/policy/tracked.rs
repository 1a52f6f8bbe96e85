//! What `hide` cannot do: the objects of the repository are readable in every cage, because a real git works there. A file that
//! git tracks is hidden as a file only; `git show HEAD:PATH` prints it.

use git2::{Odb, Oid};
use swarm_plans::SandboxPolicy;

use super::paths::Guard;
use crate::tree::{self, TreeError};

/// The entries of a policy's `hide` at which the tree `root` holds something, each with its path from the tree's root.
///
/// # Errors
/// Those of reading trees.
pub fn hidden_in_vain<'p>(
    odb: &Odb<'_>,
    root: Oid,
    policy: &'p SandboxPolicy,
    guard: Guard<'_>,
) -> Result<Vec<(&'p str, String)>, TreeError> {
    let mut found = Vec::new();
    for text in &policy.hide {
        let Some(path) = guard.in_the_worktree(text) else { continue };
        if tree::find(odb, root, path.as_bytes())?.is_some() {
            found.push((text.as_str(), path));
        }
    }
    Ok(found)
}

/// One of them in words for people.
pub fn warning(policy: &str, text: &str, path: &str) -> String {
    format!(
        "sandbox.{policy}.hide names `{text}`, which git tracks: a task can still read it with `git show HEAD:{path}`, as it can all \
         that the repository ever held"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::git_fixture::Fixture;
    use crate::policy::{Places, on_path};

    #[test]
    fn only_what_git_tracks_is_hidden_in_vain() {
        let fixture = Fixture::with_files(&[("secrets/key", "1"), ("a", "1")]);
        let repository = fixture.repository();
        let git = repository.handle().expect("a repository");
        let root = repository.tree_of(repository.resolve("HEAD").expect("a commit")).expect("a tree");
        let places = Places { worktree: fixture.path(), ..Places::nowhere() };
        let own_state = Path::new("/home/me/.cache/swarm");
        let guard = Guard { home: Path::new("/home/me"), own_state, path: &on_path::Programs::default(), places };
        let own = fixture.path().join("a").display().to_string();
        let hide =
            ["secrets/", "secrets/key", "secrets/none", ".env", "/opt/a", "~/a", own.as_str()].map(str::to_owned);
        let policy = SandboxPolicy { hide: hide.to_vec(), ..SandboxPolicy::default() };
        let found = hidden_in_vain(&git.odb().expect("objects"), root, &policy, guard).expect("it reads");
        let paths: Vec<&str> = found.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(paths, ["secrets", "secrets/key", "a"]);
    }
}
