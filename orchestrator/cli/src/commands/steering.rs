//! What in a repository makes git run a program, read another file as its config, or write and remove what lies elsewhere. A
//! repository that a caged command made steers nothing where all of it is what git itself writes, by place, kind, name and value;
//! what is not known counts as steering, because git learns new keys and files.
//!
//! All of it is looked at, not only its top: `logs/HEAD` may be a link to the person's `.bashrc`, to which their next commit appends a
//! line; `objects/17` or `refs/heads` one to another repository, whose branches the next `git gc` removes; and a folder somewhere in it
//! a repository of its own, whose hooks run when a remote names it. Bounded, and by descriptors.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use crate::commands::made_config::{config_text, content, steering_line};
use crate::commands::made_index::{self, INDEX_BYTES_MAX};
use crate::commands::made_names::{NAMES_BYTES_MAX, Names};
use crate::commands::repositories::is_bare;

/// The most entries of a repository: ten times the loose objects and refs at which git packs them.
const ENTRIES_MAX: usize = 100_000;
/// Folders in one another, of which branches with `/` in their names are the deepest.
const DEPTH_MAX: usize = 32;

/// Files that `git init`, `git clone`, `git commit` and `git gc` leave at the top, and a merge that nobody ended. What a rebase leaves is
/// not among it: its list of steps may name programs.
const PLAIN_FILES: &[&str] = &[
    "HEAD",
    "ORIG_HEAD",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "COMMIT_EDITMSG",
    "TAG_EDITMSG",
    "description",
    INDEX,
    "packed-refs",
    "packed-refs.new",
    "shallow",
    "gc.log",
    "gc.pid",
    CONFIG,
];
/// Files there, and in `reftable`, whose lock a git leaves that was killed: others look at whether it is there.
const LOCKED_FILES: &[&str] =
    &["HEAD", "ORIG_HEAD", "index", "packed-refs", "shallow", "gc.pid", "tables.list", CONFIG];
const CONFIG: &str = "config";
const INDEX: &str = "index";
/// Folders there.
const PLAIN_FOLDERS: &[&str] =
    &["branches", "hooks", "info", "logs", OBJECTS, "refs", "reftable", "worktrees", WATCHER];
const OBJECTS: &str = "objects";
/// What `git fsmonitor--daemon` keeps, and the socket at which it was asked.
const WATCHER: &str = "fsmonitor--daemon";
const WATCHERS_SOCKET: &str = "fsmonitor--daemon.ipc";

/// What in a repository could make git run a program, or touch what lies elsewhere; `None` where all is as git writes it. For people.
pub fn steered_by(part: &OwnedFd) -> Option<String> {
    let steered = match fstat(part) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => steered_in(part, "", &mut 0),
        Ok(_) => return Some("a repository elsewhere".to_owned()),
        Err(error) => Err(error.into()),
    };
    // What lies around a repository without a name of its own is no part of one.
    steered.unwrap_or_else(|error| Some(format!("what cannot be read: {error}")))
}

/// Looks into a folder of a repository: `below` is its path there, with a `/` at its end, or empty.
fn steered_in(folder: &OwnedFd, below: &str, seen: &mut usize) -> io::Result<Option<String>> {
    let depth = below.matches('/').count();
    if depth > DEPTH_MAX {
        return Err(io::Error::other("it is too deep"));
    }
    if depth > 0 && is_bare(folder) {
        return Ok(Some(format!("the repository `{below}` in it")));
    }
    for (name, kind) in entries(folder, seen)? {
        let path = format!("{below}{}", name.to_string_lossy());
        let (is_folder, known) = (kind.is_dir(), name.to_str().is_some());
        if kind.is_symlink() {
            return Ok(Some(format!("the link `{path}`")));
        }
        // Git asks there what has changed where its settings say so, which those of a repository are not to.
        let is_socket = kind == FileType::Socket && path == WATCHERS_SOCKET;
        if !known || !is_socket && (!(is_folder || kind.is_file()) || !is_gits_own(&path, is_folder)) {
            return Ok(Some(format!("`{path}`")));
        }
        let steered = match is_folder {
            true => steered_in(&opened(folder, &name)?, &format!("{path}/"), seen)?,
            false => steered_by_file(folder, &name, &path)?,
        };
        if steered.is_some() {
            return Ok(steered);
        }
    }
    Ok(None)
}

/// What a file does whose name is plain. Git writes over some of them in place, and with them over whatever other name they have;
/// an object only ever gets one, from `git clone` of a folder.
fn steered_by_file(folder: &OwnedFd, name: &OsStr, path: &str) -> io::Result<Option<String>> {
    if !path.starts_with(OBJECTS) && statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_nlink > 1 {
        return Ok(Some(format!("`{path}`, which has another name elsewhere")));
    }
    match path {
        CONFIG => steered_by_config(folder),
        INDEX => steered_by_index(folder),
        _ => match Names::of(path) {
            Some(names) => {
                let stays = content(folder, name, NAMES_BYTES_MAX)?.is_some_and(|content| names.stay_inside(&content));
                Ok((!stays).then(|| format!("`{path}`, which names what lies elsewhere")))
            }
            None => Ok(None),
        },
    }
}

fn steered_by_config(top: &OwnedFd) -> io::Result<Option<String>> {
    let Some(text) = config_text(top, OsStr::new(CONFIG))? else { return Ok(Some(format!("`{CONFIG}`"))) };
    Ok(steering_line(&text).map(|line| format!("the line `{line}` of its config")))
}

/// The paths to which git writes with the next `git restore .`.
fn steered_by_index(top: &OwnedFd) -> io::Result<Option<String>> {
    let Some(index) = content(top, OsStr::new(INDEX), INDEX_BYTES_MAX)? else { return Ok(Some(format!("`{INDEX}`"))) };
    Ok(made_index::leads_astray(&index).map(|why| format!("{why} in its index")))
}

/// Whether git itself makes an entry of that path below a repository, a folder or a file.
fn is_gits_own(path: &str, is_folder: bool) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match (&*parts, is_folder) {
        ([name], false) => {
            let is_index = name.starts_with("next-index-") && name.ends_with(".lock");
            PLAIN_FILES.contains(name) || is_index || is_lock(name)
        }
        ([name], true) => PLAIN_FOLDERS.contains(name),
        // Only the samples that git puts there, which it never runs.
        (["hooks", name], false) => name.ends_with(".sample"),
        (["info", name], false) => matches!(*name, "exclude" | "refs"),
        (["reftable", name], false) => {
            *name == "tables.list" || name.ends_with(".ref") || name.contains(".ref.temp.") || is_lock(name)
        }
        (["logs" | "refs", _, ..], _) => true,
        // Which commits a worktree stood at. What says where it lies, git writes to and removes.
        (["worktrees", _], true) | (["worktrees", _, "logs"], true) | (["worktrees", _, "logs", _, ..], _) => true,
        ([WATCHER, "cookies"], true) | ([WATCHER, "cookies", _], false) => true,
        ([OBJECTS, rest @ ..], _) => is_object(rest, is_folder),
        // A file in `branches` names a remote.
        _ => false,
    }
}

fn is_lock(name: &str) -> bool {
    name.strip_suffix(".lock").is_some_and(|locked| LOCKED_FILES.contains(&locked))
}

/// Whether git itself makes an entry there in `objects`. The files by which it reads another store (`info/alternates`) are none.
fn is_object(rest: &[&str], is_folder: bool) -> bool {
    let is_hex = |name: &str| name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let begins = |name: &str, starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let is_incoming = |name: &str| begins(name, &["tmp_objdir-", "incoming-"]);
    match (rest, is_folder) {
        // Objects that were received and not accepted: a store that nobody looks into.
        ([first], true) if is_incoming(first) => true,
        ([first, rest @ ..], _) if is_incoming(first) => {
            !is_incoming(rest.first().unwrap_or(&"")) && is_object(rest, is_folder)
        }
        (["pack" | "info" | "bundles"] | ["info", "commit-graphs"] | ["pack", "multi-pack-index.d"], true) => true,
        ([first], true) => first.len() == 2 && is_hex(first),
        (["pack", name], false) => begins(name, &["pack-", "multi-pack-index", "tmp_", ".tmp-"]),
        (["pack", "multi-pack-index.d", name], false) => begins(name, &["multi-pack-index-", "tmp_"]),
        (["info", "packs" | "commit-graph" | "commit-graph.lock"], false) => true,
        (["info", "commit-graphs", "commit-graph-chain" | "commit-graph-chain.lock"], false) => true,
        (["info", "commit-graphs", name], false) => begins(name, &["graph-", "tmp_graph_"]),
        // What a clone has downloaded, and an object that was written as it came.
        (["bundles", name], false) => begins(name, &["tmp_uri_"]),
        ([name], false) if begins(name, &["tmp_obj_"]) => true,
        // What a maintenance leaves that was killed: git looks at whether it is there.
        (["maintenance.lock" | "schedule.lock"], false) => true,
        ([_, name], false) => matches!(name.len(), 38 | 62) && is_hex(name) || name.starts_with("tmp_obj_"),
        _ => false,
    }
}

fn opened(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

/// The entries of a folder, sorted by name.
fn entries(folder: &OwnedFd, seen: &mut usize) -> io::Result<Vec<(OsString, FileType)>> {
    let listed = opened(folder, OsStr::new("."))?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&listed)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(&listed, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            kind => kind,
        };
        found.push((name.to_owned(), kind));
        *seen += 1;
        if *seen > ENTRIES_MAX {
            return Err(io::Error::other("it holds too much"));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::commands::opened_folder::OpenedFolder;

    const CLONED: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[remote \"origin\"]\n\turl = \
                          https://example.org/x.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"main\"]\n\tremote = \
                          origin\n\tmerge = refs/heads/main\n";
    const HASH: &str = "0123456789abcdef0123456789abcdef012345";

    /// What steers a fresh repository in which something more was done.
    fn steers(more: impl FnOnce(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().expect("a folder");
        let git = dir.path().join(".git");
        for folder in ["objects/pack", "refs/heads", "hooks", "info", "branches", "logs/refs/heads"] {
            std::fs::create_dir_all(git.join(folder)).expect("a folder");
        }
        for (file, text) in [("HEAD", "ref: refs/heads/main\n"), ("hooks/x.sample", ""), (CONFIG, CLONED)] {
            std::fs::write(git.join(file), text).expect("a file");
        }
        more(&git);
        let opened = OpenedFolder::open(&git).and_then(|git| git.folder(Path::new(""))).expect("it opens");
        steered_by(&opened.expect("it is there"))
    }

    /// With one more file.
    fn check(file: &str, text: &str, expected: Option<&str>) {
        let steered = steers(|git| {
            std::fs::create_dir_all(git.join(file).parent().expect("below")).expect("a folder");
            std::fs::write(git.join(file), text).expect("a file");
        });
        assert_eq!(steered.as_deref(), expected, "{file}: {text}");
    }

    #[test]
    fn what_git_itself_writes_steers_nothing() {
        for file in [
            "info/exclude",
            "description",
            CONFIG,
            "refs/heads/config",
            "refs/remotes/origin/HEAD",
            "logs/HEAD",
            "logs/refs/heads/a/b/c",
            &format!("objects/17/{HASH}"),
            &format!("objects/pack/pack-{HASH}42.idx"),
            "objects/info/commit-graphs/commit-graph-chain",
            "reftable/tables.list",
        ] {
            check(file, "", None);
        }
    }

    #[test]
    fn what_a_git_leaves_that_was_killed_or_kept_more_steers_nothing() {
        for file in [
            // Received and not accepted, downloaded, half written.
            &format!("objects/tmp_objdir-incoming-Ab12Cd/17/{HASH}"),
            &format!("objects/tmp_objdir-incoming-Ab12Cd/pack/pack-{HASH}42.pack"),
            "objects/incoming-Ab12Cd/pack/tmp_pack_Ab12Cd",
            "objects/bundles/tmp_uri_Ab12Cd",
            "objects/tmp_obj_Ab12Cd",
            "objects/info/commit-graphs/tmp_graph_Ab12Cd",
            // Of packs: reverse indexes, bitmaps, times of what nobody refers to, chains.
            &format!("objects/pack/pack-{HASH}42.mtimes"),
            &format!("objects/pack/pack-{HASH}42.bitmap"),
            &format!("objects/pack/multi-pack-index-{HASH}42.bitmap"),
            "objects/pack/multi-pack-index.d/multi-pack-index-chain",
            &format!("objects/pack/multi-pack-index.d/multi-pack-index-{HASH}42.midx"),
            // Refs in tables, and a worktree's log.
            "reftable/0x000000000001-0x000000000002-0a1b2c3d.ref",
            "reftable/tables.list.lock",
            "worktrees/w/logs/HEAD",
            // A merge that waits, locks, and what watched the files.
            "MERGE_HEAD",
            "AUTO_MERGE",
            "gc.pid",
            "index.lock",
            "fsmonitor--daemon/cookies/17-1",
        ] {
            check(file, "", None);
        }
        let socket =
            |git: &Path| drop(std::os::unix::net::UnixListener::bind(git.join(WATCHERS_SOCKET)).expect("a socket"));
        assert_eq!(steers(socket), None);
        let elsewhere =
            |git: &Path| drop(std::os::unix::net::UnixListener::bind(git.join("logs/HEAD")).expect("a socket"));
        assert_eq!(steers(elsewhere).as_deref(), Some("`logs/HEAD`"));
    }

    #[test]
    fn what_could_name_a_program_is_told() {
        check(CONFIG, "[core]\n\tfsmonitor = x\n", Some("the line `fsmonitor = x` of its config"));
        check("modules/x/config", "", Some("`modules`"));
        for file in [
            "hooks/post-checkout",
            "hooks/x.sample/y",
            "config.worktree",
            "commondir",
            "branches/origin",
            "info/attributes",
            "objects/info/alternates",
            "objects/info/http-alternates",
            "objects/17/HEAD",
            "objects/pack/HEAD",
            "objects/tmp_objdir-incoming-Ab12Cd/info/alternates",
            "objects/tmp_objdir-incoming-Ab12Cd/tmp_objdir-x/17/x",
            "objects/pack/multi-pack-index.d/HEAD",
            "worktrees/w/gitdir",
            "worktrees/w/commondir",
            "rebase-merge/git-rebase-todo",
            "sequencer/todo",
            "hooks.lock",
            "fsmonitor--daemon/hook",
        ] {
            let told = match file {
                "hooks/x.sample/y" => "hooks/x.sample",
                "objects/tmp_objdir-incoming-Ab12Cd/tmp_objdir-x/17/x" => {
                    "objects/tmp_objdir-incoming-Ab12Cd/tmp_objdir-x"
                }
                "rebase-merge/git-rebase-todo" => "rebase-merge",
                "sequencer/todo" => "sequencer",
                told => told,
            };
            let made = steers(|git| {
                drop(std::fs::remove_file(git.join("hooks/x.sample")));
                std::fs::create_dir_all(git.join(file).parent().expect("below")).expect("a folder");
                std::fs::write(git.join(file), "x").expect("a file");
            });
            assert_eq!(made, Some(format!("`{told}`")), "{file}");
        }
    }

    #[test]
    fn an_index_is_read() {
        let index =
            b"DIRC\0\0\0\x02\0\0\0\0\x39\xd8\x90\x13\x9e\xe5\x35\x6c\x7e\xf5\x72\x21\x6c\xeb\xcd\x27\xaa\x41\xf9\xdf";
        let steered =
            |file: &str, content: &[u8]| steers(|git| std::fs::write(git.join(file), content).expect("a file"));
        assert_eq!(steered("index", index), None);
        assert_eq!(steered("index", b"DIRC").as_deref(), Some("what git may read as another path in its index"));
    }

    #[test]
    fn what_names_files_names_its_own() {
        for (file, text) in [
            ("reftable/tables.list", "../../../other/.git/reftable/0x1-0x1-ab.ref\n"),
            ("HEAD", "ref: ../../other/.git/refs/heads/main\n"),
            ("refs/heads/x", "ref: refs/../config\n"),
            ("packed-refs", "0123 ../config\n"),
            ("objects/pack/multi-pack-index", "x"),
            ("objects/info/packs", "P ../x.pack\n"),
        ] {
            check(file, text, Some(&format!("`{file}`, which names what lies elsewhere")));
        }
    }

    #[test]
    fn a_link_anywhere_in_it_leads_git_elsewhere() {
        for place in ["logs/HEAD", "objects/17", "refs/heads/x", "objects/pack/pack-x.pack", "info/exclude", "index"] {
            let made = steers(|git| symlink("/nowhere", git.join(place)).expect("a link"));
            assert_eq!(made, Some(format!("the link `{place}`")));
        }
        let hard = steers(|git| {
            std::fs::write(git.with_file_name("other"), "x").expect("a file");
            std::fs::hard_link(git.with_file_name("other"), git.join("logs/HEAD")).expect("one disk");
        });
        assert_eq!(hard.as_deref(), Some("`logs/HEAD`, which has another name elsewhere"));
        let pipe = |git: &Path| {
            let mode = Mode::RUSR | Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, git.join("logs/HEAD"), FileType::Fifo, mode, 0).expect("a pipe");
        };
        assert_eq!(steers(pipe).as_deref(), Some("`logs/HEAD`"));
    }

    #[test]
    fn a_repository_in_it_and_one_without_an_end_are_told() {
        for more in [&["HEAD", "objects", "refs"][..], &["HEAD", "commondir"]] {
            let made = steers(|git| {
                for name in more {
                    std::fs::write(git.join("refs/heads").join(name), "").expect("a file");
                }
            });
            assert_eq!(made.as_deref(), Some("the repository `refs/heads/` in it"), "{more:?}");
        }
        let deep = steers(|git| std::fs::create_dir_all(git.join("refs").join("a/".repeat(40))).expect("folders"));
        assert_eq!(deep.as_deref(), Some("what cannot be read: it is too deep"));
    }
}
