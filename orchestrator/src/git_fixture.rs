//! Real repositories for the tests of the git rooms. They are made by the git binary, so that what is tested is judged by
//! git itself; nothing of the user's configuration reaches them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use git2::Oid;

use crate::repository::Repository;

/// A repository in a temporary folder, on branch `main`.
pub struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    /// Without a commit.
    pub fn empty() -> Fixture {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().canonicalize().expect("it exists").join("repo");
        std::fs::create_dir(&path).expect("a new folder");
        git(&path, &["init", "-q", "-b", "main", "."]);
        git(&path, &["config", "user.name", "Ada"]);
        git(&path, &["config", "user.email", "ada@example.org"]);
        Fixture { _folder: folder, path }
    }

    /// With one commit of these files. A content that starts with `->` is a link's target, one that starts with `#!` makes
    /// an executable file.
    pub fn with_files(files: &[(&str, &str)]) -> Fixture {
        let fixture = Fixture::empty();
        fixture.commit(files);
        fixture
    }

    /// The checkout's canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it.
    pub fn repository(&self) -> Repository {
        Repository::open(&self.path).expect("a repository of the fixture opens")
    }

    /// Writes files, commits all and returns the commit.
    pub fn commit(&self, files: &[(&str, &str)]) -> Oid {
        for (path, content) in files {
            put(&self.path.join(path), content);
        }
        git(&self.path, &["add", "-A"]);
        git(&self.path, &["commit", "-q", "--allow-empty", "-m", "fixture"]);
        git(&self.path, &["rev-parse", "HEAD"]).trim().parse().expect("git prints an id")
    }
}

/// Writes one file as [`Fixture::with_files`] says.
pub fn put(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().expect("paths of tests have parents")).expect("a folder");
    match content.strip_prefix("->") {
        Some(target) => std::os::unix::fs::symlink(target, path).expect("a link"),
        None => {
            std::fs::write(path, content).expect("a file");
            let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        }
    }
}

/// Runs git and returns its output; a failure ends the test.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(arguments)
        .output()
        .expect("these tests need git");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}
