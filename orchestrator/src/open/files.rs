//! What a task handed over in `$SWARM_ARTIFACTS`, as a folder of the person's. The task has ended, so nobody writes there any more;
//! what it left is nobody's but the worker's all the same: links are made again only where they stay inside, and never followed.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use swarm_plans::InstanceId;

use crate::collect::artifacts::copy_with_holes;
use crate::collect::display_path;
use crate::executor::outputs::{ARTIFACTS, OUT};
use crate::ids::{Attempt, RunId};
use crate::journal::{InstanceState, attempt_dir};
use crate::plain_attributes::DEPTH_MAX;

/// What was not copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Relative to the folder.
    pub path: PathBuf,
    /// Why, for people.
    pub reason: &'static str,
}

/// The folder of the newest try that has ended and handed files over, where they still are; `state` is the state folder.
pub fn handed_over(state: &Path, run: &RunId, (id, instance): (&InstanceId, &InstanceState)) -> Option<PathBuf> {
    let ended = instance.attempts.iter().rev().filter(|attempt| attempt.end().is_some());
    ended.map(|attempt| folder_of(state, run, id, attempt.attempt)).find(|folder| holds_something(folder))
}

/// The folder of one try; absolute where `state` is.
pub(crate) fn folder_of(state: &Path, run: &RunId, id: &InstanceId, attempt: Attempt) -> PathBuf {
    attempt_dir(state, run, id, attempt).join(OUT).join(ARTIFACTS)
}

/// Whether there is such a folder, with something in it. One that its worker locked is shown to nobody before it is
/// [copied](copy); it may hold something, as may any that cannot be read now.
pub(crate) fn holds_something(folder: &Path) -> bool {
    if !is_folder(folder) {
        return false;
    }
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether the folder itself is there: a worker that failed may have left a link to somewhere else in its place.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_dir())
}

/// Copies all files, folders and links of `from` into `to`, which is there and empty; gives what was left out, by path: links that
/// lead out of the folder, what is neither file, folder nor link, and what lies too deep. What a worker that failed left locked is
/// unlocked in `from`, too: only who passed has its modes [made plain](crate::plain_attributes::make_plain).
///
/// # Errors
/// The file system's, with the path. What was copied before stays. `from` is a link, or no folder.
pub fn copy(from: &Path, to: &Path) -> io::Result<Vec<LeftOut>> {
    if !is_folder(from) {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut left_out = Vec::new();
    copy_below(from, to, Path::new(""), 0, &mut left_out)?;
    left_out.sort();
    Ok(left_out)
}

/// Lets the owner of a file or folder do with it what `bits` say.
fn unlock(path: &Path, bits: u32) -> io::Result<()> {
    let mode = path.symlink_metadata()?.permissions().mode();
    if mode & bits == bits {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777 | bits))
}

fn copy_below(from: &Path, to: &Path, below: &Path, depth: usize, left_out: &mut Vec<LeftOut>) -> io::Result<()> {
    let folder = from.join(below);
    let at = |path: &Path| {
        let path = display_path(path.as_os_str().as_bytes());
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    for entry in unlock(&folder, 0o500).and_then(|()| fs::read_dir(&folder)).map_err(at(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let (source, target, kind) = (entry.path(), to.join(&path), entry.file_type()?);
        let mut leave_out = |path, reason| left_out.push(LeftOut { path, reason });
        if kind.is_dir() && depth >= DEPTH_MAX {
            leave_out(path, "too deep");
        } else if kind.is_dir() {
            fs::create_dir(&target).map_err(at(&path))?;
            copy_below(from, to, &path, depth + 1, left_out)?;
        } else if kind.is_file() {
            unlock(&source, 0o400).and_then(|()| copy_file(&source, &target)).map_err(at(&path))?;
        } else if kind.is_symlink() {
            let leads_to = fs::read_link(&source).map_err(at(&path))?;
            match stays_inside(&leads_to, depth) {
                true => std::os::unix::fs::symlink(leads_to, &target).map_err(at(&path))?,
                false => leave_out(path, "a link out of the folder"),
            }
        } else {
            leave_out(path, "neither file, folder nor link");
        }
    }
    Ok(())
}

/// Its bytes, its holes as holes, and whether it can be run; no other bit of its mode.
fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let bytes = OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(source)?;
    let metadata = bytes.metadata()?;
    let mode = if metadata.permissions().mode() & 0o100 != 0 { 0o777 } else { 0o666 };
    let copied = OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?;
    copy_with_holes(&bytes, &copied, metadata.len())
}

/// Whether a link that lies `depth` folders deep leads to something inside, whatever links lie on its way: those are such, too. A `..`
/// behind a name might be one behind a link, so it does not count as inside.
fn stays_inside(leads_to: &Path, depth: usize) -> bool {
    let mut parts = leads_to.components().filter(|part| *part != Component::CurDir).peekable();
    let mut up = 0;
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        up += 1;
    }
    up <= depth && parts.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn links_are_taken_along_only_where_they_stay_inside() {
        for (leads_to, depth, expected) in [
            ("libx.so.1", 0, true),
            ("./a/b", 0, true),
            ("../a", 1, true),
            ("..", 0, false),
            ("../../a", 1, false),
            ("a/../../b", 1, false),
            ("/etc/passwd", 3, false),
        ] {
            assert_eq!(stays_inside(Path::new(leads_to), depth), expected, "{leads_to}");
        }
    }

    #[test]
    fn what_was_handed_over_is_copied_and_what_leads_out_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("bin")).and_then(|()| fs::create_dir(&to)).expect("folders");
        fs::write(from.join("bin/app"), "x").expect("a file");
        fs::set_permissions(from.join("bin/app"), fs::Permissions::from_mode(0o4755)).expect("ours");
        for (name, leads_to) in [("app", "bin/app"), ("bin/out", "../../secret"), ("passwd", "/etc/passwd")] {
            std::os::unix::fs::symlink(leads_to, from.join(name)).expect("a link");
        }
        rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("made");
        let left_out = copy(&from, &to).expect("copied");
        let link = "a link out of the folder";
        let expected = [("bin/out", link), ("fifo", "neither file, folder nor link"), ("passwd", link)];
        assert_eq!(left_out, expected.map(|(path, reason)| LeftOut { path: path.into(), reason }));
        assert_eq!(fs::read_to_string(to.join("app")).expect("through the link"), "x");
        let mode = fs::metadata(to.join("bin/app")).expect("copied").permissions().mode();
        assert!(mode & 0o100 != 0 && mode & 0o7000 == 0, "{mode:o}");
        assert!(["bin/out", "fifo", "passwd"].iter().all(|name| to.join(name).symlink_metadata().is_err()));
        assert!(holds_something(&to) && !holds_something(&folder.path().join("none")));
    }

    #[test]
    fn a_link_in_the_folders_place_is_followed_by_nobody() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [private, from, to] = ["private", "from", "to"].map(|name| folder.path().join(name));
        fs::create_dir(&private).and_then(|()| fs::create_dir(&to)).expect("folders");
        fs::write(private.join("key"), "secret").expect("a file");
        fs::set_permissions(private.join("key"), fs::Permissions::from_mode(0o0)).expect("ours");
        std::os::unix::fs::symlink(&private, &from).expect("a link");
        assert!(!holds_something(&from));
        assert_eq!(copy(&from, &to).expect_err("a link").kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::metadata(private.join("key")).expect("there").permissions().mode() & 0o777, 0);
        assert_eq!(fs::read_dir(&to).expect("there").count(), 0);
    }

    #[test]
    fn holes_stay_holes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir(&from).and_then(|()| fs::create_dir(&to)).expect("folders");
        let sparse = File::create(from.join("sparse")).expect("a file");
        sparse.write_all_at(b"in the middle", 1 << 30).and_then(|()| sparse.set_len(100 << 30)).expect("a hole");
        copy(&from, &to).expect("copied");
        let copied = File::open(to.join("sparse")).expect("copied");
        let metadata = copied.metadata().expect("it is there");
        assert_eq!((metadata.len(), metadata.blocks() * 512 < 1 << 20), (100 << 30, true), "{metadata:?}");
        let mut middle = [0; 13];
        copied.read_exact_at(&mut middle, 1 << 30).expect("it is there");
        assert_eq!(&middle, b"in the middle");
    }

    #[test]
    fn what_was_left_locked_is_copied_and_what_lies_too_deep_is_named_as_that() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        let deepest = vec!["d"; DEPTH_MAX].join("/");
        fs::create_dir_all(from.join(&deepest).join("e")).and_then(|()| fs::create_dir(&to)).expect("folders");
        fs::create_dir(from.join("locked")).expect("a folder");
        for (name, mode) in [("locked/app", 0o100), ("none", 0)] {
            fs::write(from.join(name), "x").expect("a file");
            fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).expect("ours");
        }
        for locked in ["locked", ""] {
            fs::set_permissions(from.join(locked), fs::Permissions::from_mode(0o000)).expect("ours");
        }
        assert!(holds_something(&from));
        let left_out = copy(&from, &to).expect("copied");
        assert_eq!(left_out, [LeftOut { path: Path::new(&deepest).join("e"), reason: "too deep" }]);
        // Root reads all the same: that it was unlocked is seen by the modes.
        let mode = |name: &str| fs::metadata(from.join(name)).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(["", "locked", "locked/app", "none"].map(mode), [0o500, 0o500, 0o500, 0o400]);
        let executable = fs::metadata(to.join("locked/app")).expect("copied").permissions().mode() & 0o100;
        assert_eq!((executable, fs::read_to_string(to.join("none")).expect("copied")), (0o100, "x".to_owned()));
    }
}
