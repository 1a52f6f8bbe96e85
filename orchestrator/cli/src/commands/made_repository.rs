//! Repositories that a caged command made in a folder of the person's own. `git init` and `git clone` are honest work; a config
//! or a hook that names a program is a way out, because the person's next `git status` there runs it, and in a submodule's place
//! that of the repository around it does.
//!
//! So a new repository stays where all of it is what git itself writes, by name and by value ([`steered_by`]), and is put aside
//! under another name otherwise ([`put_aside`]). What is not known counts as steering: git learns new keys and files.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use swarm_orchestrator::entry_name::is_git_dir;

/// The largest config that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Names that are tried for what is put aside.
const NAMES_MAX: u32 = 1_000;

/// What `git init`, `git clone`, `git commit` and `git gc` leave in a repository, beside [`CONFIG`] and [`HOOKS`].
const PLAIN_ENTRIES: &[&str] = &[
    "HEAD",
    "ORIG_HEAD",
    "FETCH_HEAD",
    "COMMIT_EDITMSG",
    "description",
    "index",
    "packed-refs",
    "shallow",
    "branches",
    "info",
    "logs",
    "objects",
    "refs",
    "reftable",
    "gc.log",
];
const CONFIG: &str = "config";
/// Only the samples that git puts there, which it never runs.
const HOOKS: &str = "hooks";

/// Keys of a config that name no program and no other file, as `section.key`; of the section only its first word.
const PLAIN_KEYS: &[&str] = &[
    "core.repositoryformatversion",
    "core.filemode",
    "core.bare",
    "core.logallrefupdates",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.symlinks",
    "extensions.objectformat",
    "extensions.refstorage",
    "remote.fetch",
    "remote.url",
    "branch.remote",
    "branch.merge",
    "user.name",
    "user.email",
    "init.defaultbranch",
];
/// Beginnings of a remote's URL for which git starts nothing but its own.
const PLAIN_URLS: &[&str] = &["https://", "http://", "git://", "ssh://", "file:///", "/"];

/// What in a repository could make git run a program, or read another file as its config; `None` where all is as git writes
/// it. For people.
pub fn steered_by(part: &Path) -> Option<String> {
    let unreadable = |error: io::Error| format!("what cannot be read: {error}");
    match part.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Some("a repository elsewhere".to_owned()),
        Err(error) => return Some(unreadable(error)),
    }
    // What lies around a repository without a name of its own is no part of one.
    steered_entries(part).unwrap_or_else(|error| Some(unreadable(error)))
}

fn steered_entries(part: &Path) -> io::Result<Option<String>> {
    for entry in part.read_dir()? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let plain = match name.to_str() {
            Some(CONFIG) => kind.is_file() && entry.metadata()?.len() <= CONFIG_BYTES_MAX,
            Some(HOOKS) => kind.is_dir() && only_samples(&entry.path())?,
            Some(known) => PLAIN_ENTRIES.contains(&known) && !kind.is_symlink(),
            None => false,
        };
        if !plain {
            return Ok(Some(format!("`{}`", name.to_string_lossy())));
        }
        if name == CONFIG
            && let Some(line) = steering_line(&std::fs::read(entry.path())?)
        {
            return Ok(Some(format!("the line `{line}` of its config")));
        }
    }
    Ok(None)
}

fn only_samples(hooks: &Path) -> io::Result<bool> {
    for entry in hooks.read_dir()? {
        let entry = entry?;
        let sample = entry.file_name().to_str().is_some_and(|name| name.ends_with(".sample"));
        if !sample || !entry.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first line of a config that says more than [`PLAIN_KEYS`]. Lines are read more narrowly than git does: what continues,
/// is quoted or stands behind a section's head counts as steering.
fn steering_line(config: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(config) else { return Some("…".to_owned()) };
    let mut section = None;
    for line in text.split('\n') {
        let line = line.trim_matches([' ', '\t']);
        let told = || Some(line.chars().take(80).collect());
        if line.is_empty() {
            continue;
        }
        if line.contains(|letter: char| letter.is_control() || letter == '\\') {
            return told();
        }
        if let Some(head) = line.strip_prefix('[') {
            let Some(name) = head.strip_suffix(']').and_then(section_name) else { return told() };
            section = Some(name);
            continue;
        }
        let (Some(section), Some((key, value))) = (&section, line.split_once('=')) else { return told() };
        let key = format!("{section}.{}", key.trim().to_ascii_lowercase());
        let value = value.trim();
        let url = key != "remote.url" || PLAIN_URLS.iter().any(|start| value.starts_with(start));
        if !PLAIN_KEYS.contains(&&*key) || !url || value.contains(['"', '#', ';']) {
            return told();
        }
    }
    None
}

/// `remote "origin"` is `remote`.
fn section_name(head: &str) -> Option<String> {
    let (name, rest) = head.split_once(' ').unwrap_or((head, "\"\""));
    let inner = rest.strip_prefix('"')?.strip_suffix('"')?;
    let plain = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    (plain(name, "") && plain(inner, "-_./")).then(|| name.to_ascii_lowercase())
}

/// Takes a repository out of git's sight, and says by which commands it comes back: what was put aside first comes back last.
/// Without its `HEAD` no folder is a repository, wherever somebody looks at it; under another name it is none for the folder
/// around it.
///
/// # Errors
/// The file system's: git may still find it.
pub fn put_aside(part: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut moved = Vec::new();
    let is_folder = part.symlink_metadata()?.is_dir();
    if is_folder && part.join("HEAD").symlink_metadata().is_ok() {
        moved.push(rename_aside(&part.join("HEAD"))?);
    }
    if part.file_name().is_some_and(|name| is_git_dir(name.as_bytes())) {
        moved.push(rename_aside(part)?);
    }
    Ok(moved)
}

/// Where something lay, and where it lies now.
fn rename_aside(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut base = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    base.push(".untrusted");
    let names = (1..NAMES_MAX).map(|number| match number {
        1 => parent.join(&base),
        _ => parent.join(format!("{}-{number}", base.to_string_lossy())),
    });
    let free = names.into_iter().find(|name| name.symlink_metadata().is_err());
    let free = free.ok_or(io::ErrorKind::AlreadyExists)?;
    match std::fs::rename(path, &free) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // The command took the right to rename things away from the folder; it is the caller's to give.
            for folder in [parent, path] {
                let metadata = folder.symlink_metadata()?;
                if metadata.is_dir() {
                    let mode = metadata.permissions().mode() | 0o700;
                    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))?;
                }
            }
            std::fs::rename(path, &free)?;
        }
        renamed => renamed?,
    }
    Ok((path.to_owned(), free))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLONED: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = \
                          https://example.org/x.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"main\"]\n\tremote = \
                          origin\n\tmerge = refs/heads/main\n";

    /// A fresh repository with one more file.
    fn check(file: &str, text: &str, expected: Option<&str>) {
        let dir = tempfile::tempdir().expect("a folder");
        let git = dir.path().join(".git");
        for folder in ["objects/pack", "refs/heads", "hooks", "info"] {
            std::fs::create_dir_all(git.join(folder)).expect("a folder");
        }
        for (file, text) in [("HEAD", "ref: refs/heads/main\n"), ("hooks/x.sample", ""), (CONFIG, CLONED), (file, text)]
        {
            std::fs::create_dir_all(git.join(file).parent().expect("below")).expect("a folder");
            std::fs::write(git.join(file), text).expect("a file");
        }
        assert_eq!(steered_by(&git).as_deref(), expected, "{file}: {text}");
    }

    #[test]
    fn what_git_itself_writes_steers_nothing() {
        check("info/exclude", "x\n", None);
        check("description", "x\n", None);
        check(CONFIG, "", None);
    }

    #[test]
    fn what_could_name_a_program_is_told() {
        for line in [
            "\tfsmonitor = touch x",
            "[include]",
            "[core] fsmonitor = x",
            "[core \"x",
            "\tbare = false \\",
            "\tbare = \"false\"",
            "\thooksPath = h",
        ] {
            let told = match line {
                "[include]" => "\tpath = ../x",
                line => line,
            };
            let shown = told.trim_matches(['\t', ' ']);
            let text = if line == told { format!("[core]\n{line}\n") } else { format!("{line}\n{told}\n") };
            check(CONFIG, &text, Some(&format!("the line `{shown}` of its config")));
        }
        let ext = "[remote \"x\"]\n\turl = ext::sh -c id\n";
        check(CONFIG, ext, Some("the line `url = ext::sh -c id` of its config"));
        check("hooks/post-checkout", "", Some("`hooks`"));
        check("config.worktree", "", Some("`config.worktree`"));
        check("commondir", "x", Some("`commondir`"));
        check("modules/x/config", "", Some("`modules`"));
    }

    #[test]
    fn what_is_put_aside_is_found_by_no_git() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("a/.git")).expect("a folder");
        for file in ["a/.git/HEAD", "a/.git.untrusted", "HEAD"] {
            std::fs::write(at(file), file).expect("a file");
        }
        let moved = put_aside(&at("a/.git")).expect("it moves");
        assert_eq!(moved, [(at("a/.git/HEAD"), at("a/.git/HEAD.untrusted")), (at("a/.git"), at("a/.git.untrusted-2"))]);
        assert!(at("a/.git.untrusted-2/HEAD.untrusted").exists());
        assert_eq!(put_aside(dir.path()).expect("it moves"), [(at("HEAD"), at("HEAD.untrusted"))]);
    }
}
