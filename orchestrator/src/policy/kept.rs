//! Credentials in what is shown although no policy names it, file by file. A name tells most of them; in the settings of a package manager a
//! registry's token stands beside its address or does not, so these are read. Comes in a folder, goes out what of it is to be hidden.
//!
//! What was installed as a whole (`node_modules`, the libraries of an interpreter) is not looked through for words: its certificates and
//! the keys of its tests are nobody's. There a name counts that stands for a credential and for nothing else ([`SOMEBODYS`]), and what
//! stands in settings.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::credentials;
use super::paths::CREDENTIALS;
use super::reason::{Reason, UNREADABLE};
use crate::entry_name::is_git_dir;
use crate::listed::{listed, shows_nothing};

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
    // A Java's: of a proxy.
    "net.properties",
];

/// Names of files that somebody put there even among what was installed, and beginnings and ends of such names.
const SOMEBODYS: &[&str] = &[
    ".env",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
    "credentials.json",
    "credentials.toml",
    "client_secret.json",
    "service-account.json",
    "service_account.json",
    "settings-security.xml",
    // A Java's, whose template came with it.
    "jmxremote.password",
];
const SOMEBODYS_ENDS: &[&str] = &[".tfvars", ".tfvars.json", ".tfstate", ".keyring", ".kdbx", ".ppk"];
/// What stands behind `.env.` where the file only shows what to write into one.
const OF_SHOW: &[&str] = &["example", "sample", "template", "dist", "defaults"];
/// Settings that count there by what stands in them, beside [`SETTINGS`].
const SOMEBODYS_SETTINGS: &[&str] = &[".npmrc", ".pypirc"];

/// Where in a cache of sources a repository says from where it came, below the cache: Cargo's, with those of submodules, and Go's.
const OF_REPOSITORIES: &[&str] = &[
    "db/*/config",
    "db/*/FETCH_HEAD",
    "checkouts/*/*/.git/config",
    "checkouts/*/*/.git/FETCH_HEAD",
    "checkouts/*/*/.git/modules/*/config",
    "cache/vcs/*/config",
    "cache/vcs/*/FETCH_HEAD",
];
/// Entries of folders that are looked at for them: some thousand repositories.
const REPOSITORIES_ENTRIES_MAX: usize = 100_000;

/// A folder of such files, whatever they are called: Gradle's.
const OF_SETTINGS: &str = "init.d";

/// A file that is always one, beside [`SOMEBODYS`] and those that [`credentials`] knows by name.
const ALWAYS: &str = "credentials";

/// Folders that a package manager fills.
const PACKAGES: &[&str] = &["node_modules", "site-packages", "dist-packages"];

/// Folders of an installation in which nobody configures anything.
const PARTS: &[&str] = &[
    "lib", "lib64", "share", "include", "src", "pkg", "packages", "gems", "doc", "docs", "man", "jmods", "legal",
    "test",
];

/// Bytes that are read of settings among what was installed.
pub const SOFTWARE_BYTES_MAX: u64 = 16 << 20;

/// What is looked at: levels, entries of one part, entries of all parts, bytes that are read in all. A toolchain has some 50,000 entries, and
/// 100,000 take a tenth of a second.
const BOUNDS: Bounds = Bounds { levels: 64, part_entries: 200_000, entries: 500_000, bytes: 64 << 20 };

/// How deep in a folder its parts lie, which are looked at singly: `versions/node/v22`, `envs/x`, `toolchains/stable`.
const PARTS_DEEP: usize = 3;

/// Parts that were not looked at and are hidden one by one; where more are left, the folder is not shown at all.
const UNLOOKED_MAX: usize = 128;

const TOO_MUCH: Reason = Reason::Never("it holds too much to look for credentials in it");

/// What somebody has in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Among {
    /// Anything.
    Anything,
    /// Installations of a tool, below it or right in it.
    Installations,
}

/// What of a folder is not to be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What holds credentials, topmost ones only, sorted.
    pub found: Vec<PathBuf>,
    /// What holds too much to look for them, or cannot be read to its end, sorted.
    pub unlooked: Vec<PathBuf>,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    levels: usize,
    part_entries: usize,
    entries: usize,
    bytes: u64,
}

/// What of a folder holds credentials, and what of it nobody looked through.
///
/// # Errors
/// Nobody knows of too much of it, or of some of it and it may be anything, for people.
pub fn in_folder(folder: &Path, among: Among) -> Result<Kept, Reason> {
    within(folder, among, BOUNDS)
}

fn within(folder: &Path, among: Among, bounds: Bounds) -> Result<Kept, Reason> {
    let mut looking = Looking { folder, among, left: bounds, kept: Kept::default(), is_unreadable: false };
    looking.parts(folder, PARTS_DEEP);
    let why = if looking.is_unreadable { UNREADABLE } else { TOO_MUCH };
    let Kept { mut found, mut unlooked } = looking.kept;
    for all in [&mut found, &mut unlooked] {
        all.sort();
        all.dedup_by(|later, earlier| later.starts_with(&*earlier));
    }
    let is_whole = unlooked.first().is_some_and(|first| first == folder) || among == Among::Anything;
    if unlooked.len() > UNLOOKED_MAX || is_whole && !unlooked.is_empty() {
        Err(why)
    } else {
        Ok(Kept { found, unlooked })
    }
}

/// A folder that is looked through.
struct Looking<'a> {
    folder: &'a Path,
    among: Among,
    left: Bounds,
    kept: Kept,
    /// Whether a folder could not be listed, for no lack of rights.
    is_unreadable: bool,
}

impl Looking<'_> {
    /// Looks through a folder, each folder in it for itself as long as they lie so deep at most.
    fn parts(&mut self, at: &Path, deep: usize) {
        let Some(mut folders) = self.list(at, self.left.part_entries) else {
            self.kept.unlooked.push(at.to_owned());
            return;
        };
        folders.sort();
        for folder in folders {
            match deep {
                0 => self.part(folder),
                _ => self.parts(&folder, deep - 1),
            }
        }
    }

    /// Looks through a part as a whole; one that holds too much is not looked at.
    fn part(&mut self, part: PathBuf) {
        let (mut level, mut entries) = (vec![part.clone()], self.left.part_entries);
        for _ in 0..self.left.levels {
            for at in std::mem::take(&mut level) {
                let before = self.left.entries;
                let Some(folders) = self.list(&at, entries) else {
                    self.kept.unlooked.push(part);
                    return;
                };
                entries -= before - self.left.entries;
                level.extend(folders);
            }
        }
        if !level.is_empty() {
            self.kept.unlooked.push(part);
        }
    }

    /// Judges what lies right in a folder, and gives the folders in it that are to be looked through; `None` where that is more than so
    /// many entries, or than are left of all, or the system does not list it.
    fn list(&mut self, at: &Path, entries: usize) -> Option<Vec<PathBuf>> {
        let (mut folders, entries) = (Vec::new(), entries.min(self.left.entries));
        let Ok(listed) = listed(at, entries + 1) else {
            self.is_unreadable = true;
            return None;
        };
        self.left.entries -= listed.len().min(entries);
        for (entry, kind) in listed.iter().take(entries) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            match kind {
                // A link shows nothing that is not shown anyway.
                _ if kind.is_symlink() => {}
                _ if CREDENTIALS.contains(&&*name) => self.kept.found.push(path),
                _ if kind.is_dir() => {
                    self.kept.found.extend(of_a_home(at, &name));
                    let is_installed = PACKAGES.contains(&&*name)
                        || self.among == Among::Installations && PARTS.contains(&&*name)
                        || is_git_dir(name.as_bytes());
                    folders.extend((!is_installed).then_some(path));
                }
                _ if kind.is_file() && is_one(&path, at == self.folder, &mut self.left.bytes) => {
                    self.kept.found.push(path);
                }
                _ => {}
            }
        }
        (listed.len() <= entries).then_some(folders)
    }
}

/// Whether a file among what was installed is a credential of somebody's. `bytes` may still be read; what would have to be read beyond
/// counts as one.
pub fn is_somebodys(file: &Path, bytes: &mut u64) -> bool {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()) else { return false };
    let is_env = || name.strip_prefix(".env.").is_some_and(|rest| !OF_SHOW.contains(&rest));
    let is_setting = SETTINGS.contains(&&*name) || SOMEBODYS_SETTINGS.contains(&&*name);
    SOMEBODYS.contains(&&*name)
        || SOMEBODYS_ENDS.iter().any(|end| name.ends_with(end))
        || is_env()
        || is_setting && is_told(file, bytes)
}

/// The files of a cache of sources that name an address with a credential in it.
pub fn in_cache(folder: &Path) -> Kept {
    let (mut named, mut left, mut kept) = (Vec::new(), Some(REPOSITORIES_ENTRIES_MAX), Kept::default());
    for pattern in OF_REPOSITORIES {
        matching(folder, &pattern.split('/').collect::<Vec<_>>(), &mut left, &mut named);
    }
    kept.found = named.into_iter().filter(|file| credentials::may_be_addressed_in(file)).collect();
    kept.found.sort();
    if left.is_none() {
        kept.unlooked.push(folder.to_owned());
    }
    kept
}

/// The files below a folder at a path whose parts may be a `*`, for any name; no link is followed. `left` is how many entries may still
/// be looked at, `None` when there were more, or the system does not list one of the folders.
fn matching(at: &Path, parts: &[&str], left: &mut Option<usize>, found: &mut Vec<PathBuf>) {
    match (parts, at.symlink_metadata().map(|meta| meta.file_type())) {
        ([], Ok(kind)) if kind.is_file() => found.push(at.to_owned()),
        (["*", rest @ ..], Ok(kind)) if kind.is_dir() => {
            let Some(entries) = left.and_then(|left| listed(at, left + 1).ok()) else {
                *left = None;
                return;
            };
            *left = left.and_then(|left| left.checked_sub(entries.len()));
            entries.iter().for_each(|(entry, _)| matching(&entry.path(), rest, left, found));
        }
        ([name, rest @ ..], Ok(kind)) if kind.is_dir() => matching(&at.join(name), rest, left, found),
        (_, Err(error)) if !shows_nothing(&error) => *left = None,
        _ => {}
    }
}

/// Whether settings name a credential, as far as so many bytes may be read.
fn is_told(file: &Path, bytes: &mut u64) -> bool {
    match bytes.checked_sub(file.metadata().map_or(0, |meta| meta.len())) {
        Some(left) => {
            *bytes = left;
            credentials::may_be_told_in(file)
        }
        None => true,
    }
}

/// Whether a file holds a credential, whoever leads to it.
pub fn is_credential(file: &Path) -> bool {
    is_one(file, true, &mut BOUNDS.bytes.clone())
}

/// Whether a file holds a credential. Deep in a folder a word in a name says less than right in it. What would have to be read when no
/// bytes are left counts as one.
fn is_one(file: &Path, is_right_in_it: bool, bytes: &mut u64) -> bool {
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()) else { return false };
    let is_setting = SETTINGS.contains(&&*name);
    let tells = || is_setting || file.parent().is_some_and(|folder| folder.ends_with(OF_SETTINGS));
    let is_named = || is_right_in_it && credentials::is_path(Path::new(&name)) || credentials::is_kept(file);
    name == ALWAYS
        || SOMEBODYS.contains(&&*name)
        || tells() && is_told(file, bytes)
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
        assert!(found.unlooked.is_empty(), "{:?}", found.unlooked);
        let found: Vec<_> = found.found.iter().map(|path| path.strip_prefix(dir.path()).expect("below")).collect();
        assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>(), "{files:?}");
    }

    #[test]
    fn what_is_somebodys_among_installations_is_a_credential_everywhere() {
        let ends = SOMEBODYS_ENDS.iter().map(|end| format!("x{end}"));
        let names = SOMEBODYS.iter().chain(SOMEBODYS_SETTINGS).map(|name| (*name).to_owned());
        let unknown: Vec<_> = names.chain(ends).filter(|name| !credentials::is_path(Path::new(name))).collect();
        assert_eq!(unknown, Vec::<String>::new());
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

    #[test]
    fn names_that_stand_for_nothing_else_are_somebodys_wherever_they_lie() {
        let token = "//registry/:_authToken=npm_0123456789abcdef";
        for (name, text, expected) in [
            (".env", "", true),
            (".env.local", "", true),
            (".env.example", "", false),
            (".envrc", "", false),
            ("env", "", false),
            ("terraform.tfvars", "", true),
            ("prod.auto.tfvars.json", "", true),
            ("id_rsa", "", true),
            ("ID_ED25519", "", true),
            ("id_ed25519.pub", "", false),
            (".netrc", "", true),
            ("credentials.json", "", true),
            ("credentials.py", "", false),
            ("login.keyring", "", true),
            ("archive-keyring.gpg", "", false),
            ("cacert.pem", "", false),
            ("token.js", "", false),
            ("npmrc", token, true),
            (".npmrc", token, true),
            (".npmrc", "fund=false", false),
            ("jmxremote.password", "", true),
            ("jmxremote.password.template", "", false),
            ("net.properties", "# http.proxyPassword=x\njava.net.useSystemProxies=false\n", false),
            ("net.properties", "http.proxyHost=p\nhttp.proxyPassword=word\n", true),
            ("java.security", "keystore.password=x", false),
        ] {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::write(dir.path().join(name), text).expect("a file");
            assert_eq!(is_somebodys(&dir.path().join(name), &mut 1000), expected, "{name}: {text}");
        }
    }

    #[test]
    fn a_cache_of_sources_is_shown_without_addresses_that_hold_a_credential() {
        let dir = tempfile::tempdir().expect("a folder");
        let (plain, told) =
            ("[remote \"origin\"]\n\turl = https://example.org/tokenizers", "url = https://me:word@example.org/x");
        for (file, text) in [
            ("db/a-1/config", plain),
            ("db/b-2/config", told),
            ("db/b-2/FETCH_HEAD", told),
            ("checkouts/a/1/.git/config", "[http]\n\textraheader = AUTHORIZATION: basic x"),
            ("checkouts/a/1/config", told),
            ("checkouts/a/2/.git/modules/x/config", told),
            ("cache/vcs/0f/config", "url = https://ghp_0123456789abcdef@github.com/x"),
            ("cache/vcs/1f/config", "url = ssh://git@github.com/x\nurl = https://git@example.org/x"),
        ] {
            std::fs::create_dir_all(dir.path().join(file).parent().expect("below")).expect("a folder");
            std::fs::write(dir.path().join(file), text).expect("a file");
        }
        let found = in_cache(dir.path());
        let short: Vec<_> =
            found.found.iter().filter_map(|path| path.strip_prefix(dir.path()).ok()?.to_str()).collect();
        let expected = [
            "cache/vcs/0f/config",
            "checkouts/a/1/.git/config",
            "checkouts/a/2/.git/modules/x/config",
            "db/b-2/FETCH_HEAD",
            "db/b-2/config",
        ];
        assert_eq!((short, found.unlooked), (expected.to_vec(), vec![]));
    }

    /// What of a home with these empty files is not looked at within bounds on a part's entries, on all, and on bytes.
    fn check_bounds(files: &[&str], among: Among, bounds: (usize, usize, u64), expected: Result<&[&str], Reason>) {
        let dir = tempfile::tempdir().expect("a folder");
        for file in files {
            std::fs::create_dir_all(dir.path().join(file).parent().expect("below")).expect("a folder");
            std::fs::write(dir.path().join(file), "").expect("a file");
        }
        let (part_entries, entries, bytes) = bounds;
        let bounds = Bounds { part_entries, entries, bytes, ..BOUNDS };
        let found = within(dir.path(), among, bounds).map(|kept| kept.unlooked);
        let expected = expected.map(|all| all.iter().map(|path| dir.path().join(path)).collect::<Vec<_>>());
        assert_eq!(found, expected, "{files:?} {bounds:?}");
    }

    #[test]
    fn one_part_that_holds_too_much_hides_no_other() {
        let mut files = ["a/1/x/deep/f", "a/2/x/deep/f", "b/f"].to_vec();
        let many: Vec<String> = (0..8).map(|number| format!("a/1/x/deep/{number}")).collect();
        files.extend(many.iter().map(|file| &**file));
        let of_a_tool = Among::Installations;
        check_bounds(&files, of_a_tool, (100, 100, 0), Ok(&[]));
        check_bounds(&files, of_a_tool, (8, 100, 0), Ok(&["a/1/x/deep"]));
        check_bounds(&files, of_a_tool, (100, 8, 0), Ok(&["a/1/x/deep", "a/2", "b"]));
        check_bounds(&files, of_a_tool, (1, 100, 0), Err(TOO_MUCH));
        // Of what may be anything, all of it is looked at or none of it is shown.
        check_bounds(&files, Among::Anything, (8, 100, 0), Err(TOO_MUCH));
    }

    #[test]
    fn what_cannot_be_listed_is_not_taken_for_empty() {
        let dir = tempfile::tempdir().expect("a folder");
        let deep = dir.path().join("versions/20/x/deep");
        std::fs::create_dir_all(&deep).expect("a folder");
        crate::listed::too_long_to_list(&deep);
        let (whole, parts) = (in_folder(dir.path(), Among::Anything), in_folder(dir.path(), Among::Installations));
        assert_eq!((whole, parts.map(|kept| kept.unlooked)), (Err(UNREADABLE), Ok(vec![deep])));
        let cache = tempfile::tempdir().expect("a folder");
        let name = "n".repeat(250);
        let long = cache.path().join(vec![&*name; 16].join("/"));
        std::fs::create_dir_all(&long).expect("a folder");
        assert_eq!(in_cache(&long).unlooked, Vec::<PathBuf>::new());
        assert_eq!(in_cache(&long.join(&name)).unlooked, [long.join(&name)]);
    }

    #[test]
    fn what_would_have_to_be_read_beyond_the_bound_is_hidden() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["npmrc", ".yarnrc"] {
            std::fs::write(dir.path().join(name), "prefix=x").expect("a file");
        }
        let hidden =
            |bytes| within(dir.path(), Among::Installations, Bounds { bytes, ..BOUNDS }).map(|kept| kept.found.len());
        assert_eq!([hidden(16), hidden(8), hidden(7)], [Ok(0), Ok(1), Ok(2)]);
    }
}
