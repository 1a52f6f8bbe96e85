//! The config of a repository that a caged command made: whether it says more than where the work comes from and who does it.
//!
//! Lines are read more narrowly than git does: what continues, is quoted or stands behind a section's head counts as steering.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

/// The largest config that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;

/// Keys of a config that name no program and no other file, as `section.key`; of the section only its first word. An id of another width
/// than 20 bytes is none of them: git obeys `extensions.objectformat` in some places and not in others, and a reader that takes another
/// width than git does sees other paths in the same index.
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
/// Sections that have a name of their own: `[remote "origin"]`. In all others git takes that for another key.
const NAMED_SECTIONS: [&str; 2] = ["remote", "branch"];
/// Beginnings of a remote's URL for which git starts nothing but its own, and which lead to another machine: a push to a folder of
/// this one runs the hooks of the repository there.
const PLAIN_URLS: &[&str] = &["https://", "http://", "git://", "ssh://"];

/// A repository's config; `None` where it is no file of a sensible size.
///
/// # Errors
/// Those of openat(2) and read(2).
pub fn config_text(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    content(folder, name, CONFIG_BYTES_MAX)
}

/// What a file in a folder says; `None` where it is no file, or a larger one.
///
/// # Errors
/// Those of openat(2) and read(2).
pub fn content(folder: &OwnedFd, name: &OsStr, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    // A pipe would block an ordinary open.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat(folder, name, flags, Mode::empty())?);
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(bytes_max + 1).read_to_end(&mut text)?;
        return Ok((text.len() as u64 <= bytes_max).then_some(text));
    }
    Ok(None)
}

/// The first line of a config that says more than [`PLAIN_KEYS`], for people.
pub fn steering_line(config: &[u8]) -> Option<String> {
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
        if !is_plain(&format!("{section}.{}", key.trim().to_ascii_lowercase()), value.trim()) {
            return told();
        }
    }
    None
}

/// Whether a key is known, and its value leads nowhere on this machine.
fn is_plain(key: &str, value: &str) -> bool {
    let is_word = |value: &str| {
        value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let leads_away = match key {
        "remote.url" => PLAIN_URLS.iter().any(|start| value.starts_with(start)),
        // The name of a remote, or this repository itself; git takes anything else for a URL.
        "branch.remote" => value == "." || is_word(value),
        "core.repositoryformatversion" => matches!(value, "0" | "1"),
        "extensions.objectformat" => value == "sha1",
        "extensions.refstorage" => is_word(value),
        _ => true,
    };
    leads_away && PLAIN_KEYS.contains(&key) && !value.contains(['"', '#', ';'])
}

/// `remote "origin"` is `remote`.
fn section_name(head: &str) -> Option<String> {
    let is_plain = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let (name, inner) = head.split_once(' ').map_or((head, None), |(name, inner)| (name, Some(inner)));
    let name = Some(name.to_ascii_lowercase()).filter(|name| is_plain(name, ""))?;
    let has_own = NAMED_SECTIONS.contains(&&*name);
    let is_known = match inner {
        Some(inner) => has_own && is_plain(inner.strip_prefix('"')?.strip_suffix('"')?, "-_./"),
        None => !has_own,
    };
    is_known.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(config: &str) -> Option<String> {
        steering_line(config.as_bytes())
    }

    #[test]
    fn what_could_name_a_program_is_told() {
        for line in [
            "fsmonitor = touch x",
            "[core] fsmonitor = x",
            "[core \"x",
            "bare = false \\",
            "bare = \"false\"",
            "hooksPath = h",
            "worktree = ..",
        ] {
            assert_eq!(told(&format!("[core]\n\t{line}\n")).as_deref(), Some(line));
        }
        assert_eq!(told("[include]\n\tpath = ../x\n").as_deref(), Some("path = ../x"));
    }

    #[test]
    fn what_git_reads_by_other_rules_than_ours_is_told() {
        for (section, line, plain) in [
            ("core", "repositoryformatversion = 0", true),
            ("core", "repositoryformatversion = 1", true),
            ("core", "repositoryformatversion = -1", false),
            ("core", "repositoryformatversion = 01", false),
            ("core", "repositoryformatversion = 1k", false),
            ("extensions", "objectformat = sha1", true),
            ("extensions", "objectformat = sha256", false),
            ("extensions", "objectFormat = SHA1", false),
            ("extensions \"x\"", "objectformat = sha1", false),
            ("core \"x\"", "repositoryformatversion = 1", false),
            ("user \"x\"", "name = me", false),
            ("remote", "fetch = +refs/heads/*:refs/remotes/x/*", false),
            ("remote \"x\"", "fetch = +refs/heads/*:refs/remotes/x/*", true),
        ] {
            assert_eq!(told(&format!("[{section}]\n\t{line}\n")).is_none(), plain, "[{section}] {line}");
        }
    }

    #[test]
    fn a_remote_is_on_another_machine() {
        for (url, plain) in [
            ("https://example.org/x.git", true),
            ("ssh://git@example.org/x.git", true),
            ("/home/me/x/.git/info/e", false),
            ("file:///home/me/x", false),
            ("../x", false),
            ("ext::sh -c id", false),
        ] {
            assert_eq!(told(&format!("[remote \"x\"]\n\turl = {url}\n")).is_none(), plain, "{url}");
        }
        for (remote, plain) in
            [("origin", true), (".", true), ("..", false), ("/x", false), ("a/b", false), ("", false)]
        {
            assert_eq!(told(&format!("[branch \"x\"]\n\tremote = {remote}\n")).is_none(), plain, "{remote}");
        }
        assert!(told("[extensions]\n\trefstorage = files:///x\n").is_some());
    }
}
