//! Credentials in what is shown although no policy names it, file by file. A name tells most of them; in the settings of a package manager a
//! registry's token stands beside its address or does not, so these are read. Comes in a folder, goes out what of it is to be hidden.
//!
//! What was installed as a whole (`node_modules`, the libraries of an interpreter) is not looked through: its certificates and the keys of
//! its tests are nobody's.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::credentials;
use super::paths::CREDENTIALS;
use super::reason::Reason;
use crate::entry_name::is_git_dir;

/// Files in which a tool lets one write a credential, beside what it is for: what stands in them decides.
const SETTINGS: &[&str] = &[
    "npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    "pip.conf",
    "uv.toml",
    ".condarc",
    "condarc",
    "gemrc",
    ".gemrc",
    "settings.xml",
    "gradle.properties",
    "go.env",
    "gitconfig",
    ".gitconfig",
    ".curlrc",
    ".wgetrc",
    "tomcat-users.xml",
];

/// A folder of such files, whatever they are called: Gradle's.
const OF_SETTINGS: &str = "init.d";

/// Files that are always one, beside those that [`credentials`] knows by name.
const ALWAYS: &[&str] = &["settings-security.xml", "credentials", "credentials.toml"];

/// Folders that a package manager fills.
const PACKAGES: &[&str] = &["node_modules", "site-packages", "dist-packages"];

/// Folders of an installation in which nobody configures anything.
const PARTS: &[&str] = &[
    "lib", "lib64", "share", "include", "src", "pkg", "packages", "gems", "doc", "docs", "man", "jmods", "legal",
    "test",
];

/// Levels and entries that are looked at; what holds more is not shown.
const LEVELS_MAX: usize = 64;
const ENTRIES_MAX: usize = 100_000;

const TOO_MUCH: Reason = Reason::Never("it holds too much to look for credentials in it");

/// What somebody has in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Anything.
    Anything,
    /// Installations of a tool, below it or right in it.
    Installations,
}

/// What of a folder holds credentials, topmost ones only, sorted.
///
/// # Errors
/// Nobody knows, for people: it holds too much.
pub fn in_folder(folder: &Path, among: Among) -> Result<Vec<PathBuf>, Reason> {
    let (mut level, mut entries, mut found) = (vec![folder.to_owned()], 0, Vec::new());
    for _ in 0..LEVELS_MAX {
        for at in std::mem::take(&mut level) {
            // What we cannot list, nobody can in the cage.
            for entry in at.read_dir().into_iter().flatten().flatten() {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return Err(TOO_MUCH);
                }
                let (path, name, kind) = (entry.path(), entry.file_name(), entry.file_type());
                let name = name.to_string_lossy();
                match kind {
                    // A link shows nothing that is not shown anyway.
                    Ok(kind) if kind.is_symlink() => {}
                    _ if CREDENTIALS.contains(&&*name) => found.push(path),
                    Ok(kind) if kind.is_dir() => {
                        found.extend(of_a_home(&at, &name));
                        let is_installed = PACKAGES.contains(&&*name)
                            || among == Among::Installations && PARTS.contains(&&*name)
                            || is_git_dir(name.as_bytes());
                        level.extend((!is_installed).then_some(path));
                    }
                    Ok(kind) if kind.is_file() && is_one(&path, at == folder) => found.push(path),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    found.sort();
    found.dedup_by(|later, earlier| later.starts_with(&*earlier));
    if level.is_empty() { Ok(found) } else { Err(TOO_MUCH) }
}

/// Whether a file holds a credential, whoever leads to it.
pub fn is_credential(file: &Path) -> bool {
    is_one(file, true)
}

/// Whether a file holds a credential. Deep in a folder a word in a name says less than right in it.
fn is_one(file: &Path, is_right_in_it: bool) -> bool {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()) else { return false };
    let is_setting = SETTINGS.contains(&&*name);
    let tells = || is_setting || file.parent().is_some_and(|folder| folder.ends_with(OF_SETTINGS));
    let is_named = || is_right_in_it && credentials::is_path(Path::new(&name)) || credentials::is_kept(file);
    ALWAYS.contains(&&*name)
        || tells() && credentials::may_be_told_in(file)
        // A program may be called as it likes, but for what keys are called; of settings it decides what stands in them.
        || !is_setting && is_named() && (credentials::is_a_keys(&name) || !is_program(file))
}

/// What of a folder of that name is as in a home, where it holds credentials.
fn of_a_home<'a>(at: &'a Path, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let kept = CREDENTIALS.iter().filter(move |kept| kept.split_once('/').is_some_and(|(first, _)| first == name));
    kept.map(|kept| at.join(kept)).filter(|path| path.symlink_metadata().is_ok())
}

/// Whether a file says itself that it is a program, and may be run: on some disks everything may.
fn is_program(file: &Path) -> bool {
    const STARTS: [&[u8]; 7] = [
        b"#!",
        b"\x7fELF",
        b"MZ",
        b"\0asm",
        // Of a Mac: for one processor, and for several.
        b"\xcf\xfa\xed\xfe",
        b"\xce\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
    ];
    let may_run = file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let mut start = Vec::new();
    let read = may_run.then(|| std::fs::File::open(file).and_then(|file| file.take(4).read_to_end(&mut start)));
    matches!(read, Some(Ok(_))) && STARTS.iter().any(|known| start.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of a folder with these files (`NAME`, or `NAME=TEXT`), all of which may be run, is found.
    fn check(files: &[&str], among: Among, expected: &[&str]) {
        let dir = tempfile::tempdir().expect("a folder");
        for file in files {
            let (name, text) = file.split_once('=').unwrap_or((file, ""));
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a folder");
            std::fs::write(&path, text).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own");
        }
        let found = in_folder(dir.path(), among).expect("it is small");
        let found: Vec<_> = found.iter().map(|path| path.strip_prefix(dir.path()).expect("below")).collect();
        assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>(), "{files:?}");
    }

    #[test]
    fn what_may_be_run_is_no_program_for_that() {
        let all = [".env=A=1", "id_ed25519=x", "service-account.json={}", "get-token=#!/bin/sh", "aws-secret=\x7fELF"];
        check(&all, Among::Anything, &[".env", "id_ed25519", "service-account.json"]);
        check(&["my-token.json={}", "x.pem=#!/bin/sh", "tool=x"], Among::Anything, &["my-token.json", "x.pem"]);
    }

    #[test]
    fn credentials_lie_deep_too_and_what_was_installed_has_none() {
        check(
            &[
                "a/.aws/credentials",
                "a/b/.env",
                "a/.config/gh/hosts.yml",
                "a/token.py",
                "a/secrets=#!/bin/sh",
                "a/token=x",
            ],
            Among::Anything,
            &["a/.aws", "a/.config/gh", "a/b/.env", "a/token"],
        );
        check(&["node_modules/a/.env", "x/site-packages/certifi/test.key"], Among::Anything, &[]);
        check(&["lib/a.key", "v/share/.env", "v/.netrc"], Among::Installations, &["v/.netrc"]);
    }

    #[test]
    fn settings_with_a_token_are_credentials_and_others_are_not() {
        let token = "//registry/:_authToken=npm_0123456789abcdef";
        let of = |version: &str, text: &str| format!("versions/node/{version}/etc/npmrc={text}");
        check(&[&of("20", token), &of("22", "prefix=~/x")], Among::Installations, &["versions/node/20/etc/npmrc"]);
        let with = "<settings><password>x</password></settings>";
        let files = [format!("maven/3/conf/settings.xml={with}"), "maven/4/conf/settings.xml=<settings/>".to_owned()];
        check(&files.each_ref().map(|file| &**file), Among::Installations, &["maven/3/conf/settings.xml"]);
        let index = "[global]\nindex-url = https://me:word@host/simple";
        let files = [format!("pip.conf={index}"), format!("versions/3/pip.conf={index}"), "b/pip.conf=x".to_owned()];
        check(&files.each_ref().map(|file| &**file), Among::Installations, &["pip.conf", "versions/3/pip.conf"]);
        check(&["gradle/8/init.d/own.gradle=password 'x'"], Among::Installations, &["gradle/8/init.d/own.gradle"]);
    }
}
