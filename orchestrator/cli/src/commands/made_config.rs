//! The config of a repository that a caged command made: whether it says more than where the work comes from and who does it.
//!
//! Lines are read more narrowly than git does: what continues, is quoted or stands behind a section's head counts as steering.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

/// The largest config that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;

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

/// Bytes of an object's id where a config with nothing but plain lines says so; `None` where it says two things.
pub fn id_bytes(config: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(config).to_ascii_lowercase();
    let formats = text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim() == "objectformat");
    let mut bytes = formats.map(|(_, format)| match format.trim() {
        "sha1" => Some(20),
        "sha256" => Some(32),
        _ => None,
    });
    let first = bytes.next().unwrap_or(Some(20));
    first.filter(|_| bytes.all(|other| other == first))
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
        "extensions.refstorage" | "extensions.objectformat" => is_word(value),
        _ => true,
    };
    leads_away && PLAIN_KEYS.contains(&key) && !value.contains(['"', '#', ';'])
}

/// `remote "origin"` is `remote`.
fn section_name(head: &str) -> Option<String> {
    let (name, rest) = head.split_once(' ').unwrap_or((head, "\"\""));
    let inner = rest.strip_prefix('"')?.strip_suffix('"')?;
    let plain = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    (plain(name, "") && plain(inner, "-_./")).then(|| name.to_ascii_lowercase())
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
    fn the_width_of_an_id_is_said_once() {
        for (lines, bytes) in [
            ("", Some(20)),
            ("objectformat = sha1\n", Some(20)),
            ("objectFormat = SHA256\n", Some(32)),
            ("objectformat = sha256\nobjectformat=sha1\n", None),
            ("objectformat = sha512\n", None),
        ] {
            assert_eq!(id_bytes(format!("[extensions]\n{lines}").as_bytes()), bytes, "{lines}");
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
