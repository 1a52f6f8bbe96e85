//! Repositories that a caged command made in a folder of the person's own. `git init` and `git clone` are honest work; a config
//! or a hook that names a program is a way out, because the person's next `git status` there runs it, and in a submodule's place
//! that of the repository around it does.
//!
//! So a new repository stays where all of it is what git itself writes, by name and by value ([`steered_by`]), and is put aside
//! under another name otherwise ([`put_aside`]). What is not known counts as steering: git learns new keys and files. All of it
//! goes by descriptors, because another command may write the folder meanwhile.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{Dir, FileType, Mode, OFlags, RenameFlags, fstat, openat, renameat, renameat_with};
use rustix::io::Errno;
use swarm_orchestrator::entry_name::is_git_dir;

use crate::commands::opened_folder::{Identity, OpenedFolder, close_to_all, has, open_to_owner};
use crate::commands::repositories::Part;

/// The largest config that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// The most entries of a repository's folder, or of its hooks.
const ENTRIES_MAX: usize = 10_000;
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
const HEAD: &str = "HEAD";
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

/// What became of a repository.
#[derive(Debug)]
pub enum Settled {
    /// It stays: all is as git writes it.
    Plain,
    /// Git obeys something in it, and finds it no more. Where each thing lay and where it lies now, below the folder: what was
    /// put aside first comes back last.
    Aside { why: String, moved: Vec<(PathBuf, PathBuf)> },
    /// Git obeys something in it, and may still find it.
    Obeyed { why: String, error: io::Error },
    /// Something else lies there than was found. That is as it was.
    Changed,
}

/// Judges a repository, and takes it out of git's sight where git would obey it. Touches nothing else, whatever is put in its
/// place meanwhile.
pub fn settle(folder: &OpenedFolder, part: &Part) -> Settled {
    let Ok(Some((above, opened))) = part.open(folder) else { return Settled::Changed };
    let Some(why) = steered_by(&opened) else { return Settled::Plain };
    match put_aside(part, above.as_ref(), &opened) {
        Ok(Some(moved)) => Settled::Aside { why, moved },
        Ok(None) => Settled::Changed,
        Err(error) => Settled::Obeyed { why, error },
    }
}

/// Puts a folder that cannot be looked through under another name, and closes it: no git goes there by itself, and who does
/// has to open it first. Where it lies now; `None` where something else lies in its place by now.
///
/// # Errors
/// The file system's: it may still be where it was.
pub fn wall_off(folder: &OpenedFolder, part: &Part) -> io::Result<Option<PathBuf>> {
    let (Some((Some(above), opened)), Some(name)) = (part.open(folder)?, part.path.file_name()) else {
        return Ok(None);
    };
    close_to_all(&opened)?;
    Ok(rename_aside(&above, name, part.identity)?.map(|free| part.path.with_file_name(free)))
}

/// Puts the file by which swarm knows its own state under another name, where a command made it. Where it lies now; `None` where
/// something else lies in its place by now.
///
/// # Errors
/// The file system's: it is still where it was.
pub fn disown(folder: &OpenedFolder, marker: &Part) -> io::Result<Option<PathBuf>> {
    let (Some((Some(above), _)), Some(name)) = (marker.open(folder)?, marker.path.file_name()) else {
        return Ok(None);
    };
    Ok(rename_aside(&above, name, marker.identity)?.map(|free| marker.path.with_file_name(free)))
}

/// What in a repository could make git run a program, or read another file as its config; `None` where all is as git writes
/// it. For people.
fn steered_by(part: &OwnedFd) -> Option<String> {
    let steered = match fstat(part) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => steered_entries(part),
        Ok(_) => return Some("a repository elsewhere".to_owned()),
        Err(error) => Err(error.into()),
    };
    // What lies around a repository without a name of its own is no part of one.
    steered.unwrap_or_else(|error| Some(format!("what cannot be read: {error}")))
}

fn steered_entries(part: &OwnedFd) -> io::Result<Option<String>> {
    for (name, kind) in entries(part, OsStr::new("."))? {
        let plain = match name.to_str() {
            Some(CONFIG) => kind.is_file(),
            Some(HOOKS) => kind.is_dir() && only_samples(part)?,
            Some(known) => PLAIN_ENTRIES.contains(&known) && !kind.is_symlink(),
            None => false,
        };
        let config = if plain && name == CONFIG { config(part)? } else { Some(Vec::new()) };
        let Some(config) = config.filter(|_| plain) else {
            return Ok(Some(format!("`{}`", name.to_string_lossy())));
        };
        if let Some(line) = steering_line(&config) {
            return Ok(Some(format!("the line `{line}` of its config")));
        }
    }
    Ok(None)
}

/// The entries of a folder in another one, or of that one by the name `.`; follows no link.
fn entries(folder: &OwnedFd, name: &OsStr) -> io::Result<Vec<(OsString, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&opened)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(&opened, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        found.push((name.to_owned(), kind));
        if found.len() > ENTRIES_MAX {
            return Err(io::Error::other("it holds too much"));
        }
    }
    Ok(found)
}

fn only_samples(part: &OwnedFd) -> io::Result<bool> {
    let sample = |name: &OsStr| name.to_str().is_some_and(|name| name.ends_with(".sample"));
    Ok(entries(part, OsStr::new(HOOKS))?.iter().all(|(name, kind)| kind.is_file() && sample(name)))
}

/// A repository's config; `None` where it is no file of a sensible size.
fn config(part: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    // A pipe would block an ordinary open.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat(part, CONFIG, flags, Mode::empty())?);
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text)?;
        return Ok((text.len() as u64 <= CONFIG_BYTES_MAX).then_some(text));
    }
    Ok(None)
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

/// Takes a repository out of git's sight, and says where it lies now; `None` where something else lies in its place by now.
/// Without its `HEAD` no folder is a repository, wherever somebody looks at it; under another name it is none for the folder
/// around it.
///
/// # Errors
/// The file system's: git may still find it.
fn put_aside(part: &Part, above: Option<&OwnedFd>, opened: &OwnedFd) -> io::Result<Option<Vec<(PathBuf, PathBuf)>>> {
    let (mut moved, mut lies) = (Vec::new(), part.path.clone());
    if let (Some(above), Some(name)) = (above, part.path.file_name())
        && is_git_dir(name.as_bytes())
    {
        let Some(free) = rename_aside(above, name, part.identity)? else { return Ok(None) };
        lies = part.path.with_file_name(free);
        moved.push((part.path.clone(), lies.clone()));
    }
    let is_folder = FileType::from_raw_mode(fstat(opened)?.st_mode).is_dir();
    if is_folder && has(opened, OsStr::new(HEAD)) {
        let renamed =
            Identity::at(opened, OsStr::new(HEAD)).and_then(|head| rename_aside(opened, OsStr::new(HEAD), head));
        match renamed {
            Ok(Some(free)) => moved.insert(0, (part.path.join(HEAD), part.path.join(free))),
            Ok(None) => return Ok(None),
            Err(error) => return Err(io::Error::other(format!("it lies at {} now: {error}", lies.display()))),
        }
    }
    Ok(Some(moved))
}

/// Renames an entry of a folder to a name that git does not know; `None` where it is another one than that.
fn rename_aside(folder: &OwnedFd, name: &OsStr, identity: Identity) -> io::Result<Option<OsString>> {
    if !Identity::at(folder, name).is_ok_and(|now| now == identity) {
        return Ok(None);
    }
    let names = (1..NAMES_MAX).map(|number| {
        let mut free = name.to_owned();
        free.push(if number == 1 { ".untrusted".to_owned() } else { format!(".untrusted-{number}") });
        free
    });
    let free = names.into_iter().find(|free| !has(folder, free)).ok_or(io::ErrorKind::AlreadyExists)?;
    let renamed = match rename(folder, name, &free) {
        // The command took the right to rename things away from the folder; it is the caller's to give.
        Err(Errno::ACCESS) => {
            open_to_owner(folder)?;
            rename(folder, name, &free)
        }
        renamed => renamed,
    };
    match renamed {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::EXIST) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if Identity::at(folder, &free)? == identity {
        return Ok(Some(free));
    }
    // No call renames what a descriptor stands for, so another entry may have come in between.
    rename(folder, &free, name)?;
    Ok(None)
}

/// Renames an entry of a folder; an existing one is not replaced.
fn rename(folder: impl AsFd, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it; the caller has looked.
        Err(Errno::INVAL) => renameat(&folder, from, &folder, to),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let opened = OpenedFolder::open(&git).and_then(|git| git.folder(Path::new(""))).expect("it opens");
        let steered = steered_by(&opened.expect("it is there"));
        assert_eq!(steered.as_deref(), expected, "{file}: {text}");
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
        std::fs::write(at("commondir"), "x").expect("a file");
        let folder = OpenedFolder::open(dir.path()).expect("it is there");
        let settled = |path: &str| {
            let identity =
                OpenedFolder::open(&at(path)).and_then(|it| Identity::of(it.folder(Path::new(""))?.expect("there")));
            match settle(&folder, &Part { path: path.into(), identity: identity.expect("it is there") }) {
                Settled::Aside { moved, .. } => moved,
                other => panic!("{other:?}"),
            }
        };
        let pair = |was: &str, is: &str| (PathBuf::from(was), PathBuf::from(is));
        let expected = [pair("a/.git/HEAD", "a/.git/HEAD.untrusted"), pair("a/.git", "a/.git.untrusted-2")];
        std::fs::write(at("a/.git/commondir"), "x").expect("a file");
        assert_eq!(settled("a/.git"), expected);
        assert!(at("a/.git.untrusted-2/HEAD.untrusted").exists());
        assert_eq!(settled(""), [pair("HEAD", "HEAD.untrusted")]);
    }
}
