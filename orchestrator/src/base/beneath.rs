//! Ways below a folder that workers wrote, or that was copied from one. A link there is content, never a way: whoever
//! followed it would write and delete where it leads. Nothing may change the folder meanwhile: its process tree is dead.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What becomes of a folder on the way that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is made, with mode 0755.
    Make,
    /// The way ends before it.
    Stop,
}

/// Where a way below a folder leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Through real folders to its end, which is one, too.
    Open,
    /// To a name that stands for nothing.
    Missing,
    /// To this path (relative to the folder), which is a link, a file or no name at all.
    Blocked(PathBuf),
}

/// Goes down `path`, relative to `root`, and follows no link. The parents of `root` and `root` itself are trusted.
///
/// # Errors
/// The file system's.
pub fn walk(root: &Path, path: &Path, missing: Missing) -> io::Result<Way> {
    let mut folder: OwnedFd = File::open(root)?.into();
    let mut reached = PathBuf::new();
    for component in path.components() {
        reached.push(component);
        let Component::Normal(name) = component else { return Ok(Way::Blocked(reached)) };
        if missing == Missing::Make {
            match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(inner) => folder = inner,
            Err(Errno::NOENT) => return Ok(Way::Missing),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Way::Blocked(reached)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Way::Open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_folders_are_a_way() {
        let [top, host] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let root = top.path();
        std::fs::create_dir_all(root.join("a/b")).expect("folders");
        std::fs::write(root.join("file"), "x").expect("a file");
        std::os::unix::fs::symlink(host.path(), root.join("a/link")).expect("a link");
        let check = |path: &str, missing, way| {
            assert_eq!(walk(root, Path::new(path), missing).expect("it can be read"), way, "{path}");
        };
        check("a/b", Missing::Stop, Way::Open);
        check("a/c/d", Missing::Stop, Way::Missing);
        check("a/c/d", Missing::Make, Way::Open);
        for missing in [Missing::Stop, Missing::Make] {
            check("a/link", missing, Way::Blocked("a/link".into()));
            check("a/link/x/y", missing, Way::Blocked("a/link".into()));
            check("file/x", missing, Way::Blocked("file".into()));
            check("a/../..", missing, Way::Blocked("a/..".into()));
        }
        assert!(root.join("a/c/d").is_dir());
        assert_eq!(std::fs::read_dir(host.path()).expect("it is there").count(), 0, "nothing was made behind the link");
    }
}
