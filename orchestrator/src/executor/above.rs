//! What lies above a worktree of the landlock tier. Without a mount namespace a worktree is where its folder really is, mostly below
//! the checkout, and tools that look for settings folder by folder upwards (cargo for a workspace and for `.cargo/config.toml`, pytest,
//! linters) meet those of the checkout. That a file is there and cannot be opened ends them, where its absence would not.
//!
//! So what such tools look for ([`SETTINGS`]) may be read in the checkout's topmost folder where it is as the base has it: the
//! worktree's own history holds the same bytes, and nobody learns anything. What somebody has edited since stays closed, as does all
//! that was never committed and all that keeps secrets in other projects (`.env`, `.npmrc`); who needs more has `--state-dir`. The rule
//! stands on the file: what somebody writes into that very file while a task runs, the task can read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid};
use swarm_protocol::{Access, Grant};

use crate::repository::Repository;
use crate::tree;

/// What tools look for folder by folder upwards, by name; one that ends in a dot or `rc` goes on at will.
const SETTINGS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".rustfmt.toml",
    "clippy.toml",
    ".clippy.toml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tox.ini",
    "pytest.ini",
    ".pytest.ini",
    "conftest.py",
    "mypy.ini",
    ".mypy.ini",
    "ruff.toml",
    ".ruff.toml",
    ".flake8",
    ".pylintrc",
    "pylintrc",
    "pyrightconfig.json",
    ".python-version",
    "package.json",
    "pnpm-workspace.yaml",
    "lerna.json",
    "nx.json",
    "turbo.json",
    "jsconfig.json",
    "tsconfig.",
    ".eslintrc",
    "eslint.config.",
    ".prettierrc",
    "prettier.config.",
    ".babelrc",
    "babel.config.",
    "jest.config.",
    "vite.config.",
    "vitest.config.",
    ".stylelintrc",
    "biome.json",
    "deno.json",
    "deno.jsonc",
    ".browserslistrc",
    ".nvmrc",
    ".node-version",
    ".tool-versions",
    "go.mod",
    "go.work",
    ".golangci.yml",
    "Gemfile",
    ".rubocop.yml",
    ".ruby-version",
    "composer.json",
    "pom.xml",
    "settings.gradle",
    "settings.gradle.kts",
    ".clang-format",
    ".clang-tidy",
    "compile_flags.txt",
    ".editorconfig",
    ".gitignore",
    ".gitattributes",
    ".ignore",
    ".swiftlint.yml",
    "CMakePresets.json",
    "dune-project",
    "rebar.config",
    "mix.exs",
];

/// The files of cargo's own folder that are such.
const CARGO_SETTINGS: &[&str] = &["config", "config.toml"];

/// Files that are shown; each is a rule of its own.
const FILES_MAX: usize = 64;

/// Bytes of one file; nobody keeps settings in a longer one.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The folder in which cargo looks in every folder above its own.
const FOLDER_OF_SETTINGS: &[u8] = b".cargo";

/// What of the folders above a worktree may be read, of a repository whose `base` (a tree) the run stands on. What cannot be
/// looked at stays closed.
pub fn readable(repository: &Repository, base: Oid, worktree: &Path) -> Vec<Grant> {
    let main = repository.common_dir().parent();
    let mut checkouts: Vec<&Path> = repository.workdir().into_iter().chain(main).collect();
    checkouts.retain(|checkout| worktree.starts_with(checkout));
    checkouts.dedup();
    if checkouts.is_empty() {
        return Vec::new();
    }
    let committed = committed(repository, base).unwrap_or_default();
    let paths =
        checkouts.iter().flat_map(|checkout| committed.iter().map(move |(name, id)| (checkout.join(name), *id)));
    let same = paths.filter(|(path, id)| is_same(path, *id)).map(|(path, _)| path);
    same.take(FILES_MAX).map(|path| Grant { path: path.clone(), at: path, access: Access::Read }).collect()
}

/// The settings in a tree's topmost folder, and in cargo's own folder there.
fn committed(repository: &Repository, base: Oid) -> Result<Vec<(PathBuf, Oid)>, Box<dyn std::error::Error>> {
    let git = repository.handle()?;
    let odb = git.odb()?;
    let top = tree::list(&odb, base)?;
    let path = |name: &[u8]| PathBuf::from(OsStr::from_bytes(name));
    let mut found = Vec::new();
    if let Some(settings) = tree::get(&top, FOLDER_OF_SETTINGS).filter(|entry| entry.is_tree()) {
        let is_one = |name: &[u8]| CARGO_SETTINGS.iter().any(|known| known.as_bytes() == name);
        let files = tree::list(&odb, settings.id)?.into_iter();
        let files = files.filter(|(name, entry)| is_file(*entry) && is_one(name));
        found.extend(files.map(|(name, entry)| (path(FOLDER_OF_SETTINGS).join(path(&name)), entry.id)));
    }
    let settings = top.iter().filter(|(name, entry)| is_file(*entry) && is_setting(name));
    found.extend(settings.map(|(name, entry)| (path(name), entry.id)));
    Ok(found)
}

fn is_setting(name: &[u8]) -> bool {
    SETTINGS.iter().any(|known| match known.ends_with('.') || known.ends_with("rc") {
        true => name.starts_with(known.as_bytes()),
        false => name == known.as_bytes(),
    })
}

fn is_file(entry: tree::Entry) -> bool {
    matches!(entry.mode, tree::FILE | tree::EXECUTABLE)
}

/// Whether a file is there, behind no link, with these bytes.
fn is_same(path: &Path, id: Oid) -> bool {
    let is_folder = path.parent().and_then(|folder| folder.symlink_metadata().ok()).is_some_and(|it| it.is_dir());
    let is_short = |it: std::fs::Metadata| it.is_file() && it.len() <= FILE_BYTES_MAX;
    is_folder
        && path.symlink_metadata().is_ok_and(is_short)
        && Oid::hash_file(ObjectType::Blob, path).is_ok_and(|found| found == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git_fixture::Fixture;

    /// What is read above a worktree at `worktree`, of a checkout with these files committed once `edit` was made.
    fn found(worktree: &str, edit: impl FnOnce(&Path)) -> Vec<String> {
        let files = [
            ("Cargo.toml", "a"),
            (".cargo/config.toml", "b"),
            (".cargo/deep/x", "c"),
            (".cargo/credentials.toml", "c"),
            (".eslintrc.json", "c"),
            (".npmrc", "c"),
            ("src/lib.rs", "d"),
        ];
        let fixture = Fixture::with_files(&files);
        let repository = fixture.repository();
        let base = repository.tree_of(repository.resolve("HEAD").expect("a commit")).expect("its tree");
        edit(fixture.path());
        let root = repository.workdir().expect("a checkout").to_owned();
        let grants = readable(&repository, base, &root.join(worktree));
        grants.iter().map(|grant| grant.at.strip_prefix(&root).expect("in it").display().to_string()).collect()
    }

    #[test]
    fn only_what_the_base_has_too_is_read_above_a_worktree() {
        let worktree = ".git/swarm/runs/r/t/1/tree";
        let write = |name: &'static str| move |root: &Path| std::fs::write(root.join(name), "mine").expect("a file");
        assert_eq!(found(worktree, |_| {}), [".cargo/config.toml", ".eslintrc.json", "Cargo.toml"]);
        assert_eq!(found(worktree, write("Cargo.toml")), [".cargo/config.toml", ".eslintrc.json"]);
        assert_eq!(found(worktree, write(".env")), [".cargo/config.toml", ".eslintrc.json", "Cargo.toml"]);
        assert_eq!(found("/elsewhere/tree", |_| {}), Vec::<String>::new());
    }

    #[test]
    fn no_link_is_followed_to_what_lies_elsewhere() {
        let worktree = ".git/swarm/runs/r/t/1/tree";
        let by_link = |root: &Path| {
            for (name, aside) in [("Cargo.toml", "aside"), (".cargo", "settings")] {
                std::fs::rename(root.join(name), root.join(aside)).expect("it was there");
                std::os::unix::fs::symlink(aside, root.join(name)).expect("its place is free");
            }
        };
        assert_eq!(found(worktree, by_link), [".eslintrc.json"]);
    }
}
