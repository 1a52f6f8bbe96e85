//! What a task handed over in `$SWARM_ARTIFACTS`, as a folder of the person's. The task has ended, so nobody writes there any more;
//! what it left is nobody's but the worker's all the same: links are made again only where they stay inside, and never followed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use swarm_plans::InstanceId;

use crate::executor::outputs::{ARTIFACTS, OUT};
use crate::ids::{Attempt, RunId};
use crate::journal::{InstanceState, attempt_dir};

/// Folders in each other; what lies deeper is left out. As deep as a collected tree may be.
const DEPTH_MAX: usize = 100;

/// The folder of the newest try that has ended and handed files over, where they still are; `state` is the state folder.
pub fn handed_over(state: &Path, run: &RunId, (id, instance): (&InstanceId, &InstanceState)) -> Option<PathBuf> {
    let ended = instance.attempts.iter().rev().filter(|attempt| attempt.end().is_some());
    ended.map(|attempt| folder_of(state, run, id, attempt.attempt)).find(|folder| holds_something(folder))
}

/// The folder of one try; absolute where `state` is.
pub(crate) fn folder_of(state: &Path, run: &RunId, id: &InstanceId, attempt: Attempt) -> PathBuf {
    attempt_dir(state, run, id, attempt).join(OUT).join(ARTIFACTS)
}

/// Whether there is such a folder, with something in it.
pub(crate) fn holds_something(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Copies all files, folders and links of `from` into `to`, which is there and empty; gives the paths that were left out, relative to
/// both: links that lead out of the folder, what is neither file, folder nor link, and what lies too deep.
///
/// # Errors
/// The file system's. What was copied before stays.
pub fn copy(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left_out = Vec::new();
    copy_below(from, to, Path::new(""), 0, &mut left_out)?;
    left_out.sort();
    Ok(left_out)
}

fn copy_below(from: &Path, to: &Path, below: &Path, depth: usize, left_out: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(from.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let (source, target, kind) = (entry.path(), to.join(&path), entry.file_type()?);
        if kind.is_dir() && depth < DEPTH_MAX {
            fs::create_dir(&target)?;
            copy_below(from, to, &path, depth + 1, left_out)?;
        } else if kind.is_file() {
            copy_file(&source, &target)?;
        } else if kind.is_symlink() {
            let leads_to = fs::read_link(&source)?;
            match stays_inside(&leads_to, depth) {
                true => std::os::unix::fs::symlink(leads_to, &target)?,
                false => left_out.push(path),
            }
        } else {
            left_out.push(path);
        }
    }
    Ok(())
}

/// Its bytes and whether it can be run; no other bit of its mode.
fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let mut bytes = File::open(source)?;
    let mode = if bytes.metadata()?.permissions().mode() & 0o100 != 0 { 0o777 } else { 0o666 };
    let mut copied = OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?;
    io::copy(&mut bytes, &mut copied).map(drop)
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
        assert_eq!(left_out, ["bin/out", "fifo", "passwd"].map(PathBuf::from));
        assert_eq!(fs::read_to_string(to.join("app")).expect("through the link"), "x");
        let mode = fs::metadata(to.join("bin/app")).expect("copied").permissions().mode();
        assert!(mode & 0o100 != 0 && mode & 0o7000 == 0, "{mode:o}");
        assert!(["bin/out", "fifo", "passwd"].iter().all(|name| to.join(name).symlink_metadata().is_err()));
        assert!(holds_something(&to) && !holds_something(&folder.path().join("none")));
    }
}
