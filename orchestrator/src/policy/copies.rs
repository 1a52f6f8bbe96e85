//! Folders seen copy-on-write, put together where one overlay can serve several.
//!
//! A toolchain's caches lie side by side in the home folder, and an overlay for each would be mounted for every command. One
//! overlay over a folder above them, of which a cage shows only these caches, is as good: a bind mount has no way out.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// One overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The host folder below it.
    pub path: PathBuf,
    /// The folders of it that are shown, relative to it; empty for all of it.
    pub shown: Vec<PathBuf>,
}

/// Puts folders together that lie below the same folder `above` them, as that says of each; alone stays what has none.
pub fn together(folders: &[PathBuf], above: &dyn Fn(&Path) -> Option<PathBuf>) -> Vec<Copies> {
    let mut shared: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let mut alone = Vec::new();
    for folder in folders {
        match above(folder) {
            Some(root) => shared.entry(root).or_default().push(folder.clone()),
            None => alone.push(folder.clone()),
        }
    }
    let below = |root: &Path, folder: &PathBuf| folder.strip_prefix(root).map(Path::to_owned).ok();
    let mut all = Vec::new();
    for (root, folders) in shared {
        match &*folders {
            [only] => alone.push(only.clone()),
            several => all
                .push(Copies { shown: several.iter().filter_map(|folder| below(&root, folder)).collect(), path: root }),
        }
    }
    alone.sort();
    all.extend(alone.into_iter().map(|path| Copies { path, shown: vec![] }));
    all
}

/// The folder over which a copy-on-write folder may share an overlay: the home folder, or the one in it that leads there
/// where the state lies in the home folder, because an overlay's writable layer must not lie in its lower one.
///
/// `None` where a file system is mounted in between, which an overlay would not show, and where a folder in between is not
/// the caller's, because a user namespace could not make a copy of it.
pub fn anchor(folder: &Path, home: &Path, state: &Path) -> Option<PathBuf> {
    let below = folder.strip_prefix(home).ok()?;
    let root = if state.starts_with(home) { home.join(below.components().next()?) } else { home.to_owned() };
    if state.starts_with(&root) || root == folder {
        return None;
    }
    let between = folder.ancestors().take_while(|path| path.starts_with(&root));
    let mount = mount_id(&root)?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mine = |path: &Path| {
        let own = path.symlink_metadata().is_ok_and(|at| at.is_dir() && at.uid() == user && at.gid() == group);
        own && mount_id(path) == Some(mount)
    };
    between.into_iter().all(mine).then_some(root)
}

/// `None` on kernels that do not tell.
fn mount_id(path: &Path) -> Option<u64> {
    let told = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_an_overlay_and_others_do_not() {
        let folders = ["/h/.cargo/registry", "/h/.npm/cache", "/opt/cache"].map(PathBuf::from);
        let above = |folder: &Path| folder.starts_with("/h").then(|| PathBuf::from("/h"));
        let shown = [".cargo/registry", ".npm/cache"].map(PathBuf::from).to_vec();
        let alone = |path: &str| Copies { path: path.into(), shown: vec![] };
        assert_eq!(together(&folders, &above), [Copies { path: "/h".into(), shown }, alone("/opt/cache")]);
        assert_eq!(together(&folders[1..], &above), [alone("/h/.npm/cache"), alone("/opt/cache")]);
    }

    #[test]
    fn the_state_never_lies_below_a_shared_overlay() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().canonicalize().expect("it is there");
        let registry = home.join(".cargo/registry");
        std::fs::create_dir_all(&registry).expect("a folder");
        assert_eq!(anchor(&registry, &home, Path::new("/work/state")), Some(home.clone()));
        assert_eq!(anchor(&registry, &home, &home.join("code/state")), Some(home.join(".cargo")));
        assert_eq!(anchor(&registry, &home, &home.join(".cargo/state")), None);
        assert_eq!(anchor(Path::new("/opt/cache"), &home, Path::new("/work/state")), None);
    }

    #[test]
    fn another_file_system_and_a_link_in_between_are_seen() {
        assert_eq!(anchor(Path::new("/proc/self"), Path::new("/"), Path::new("/tmp/state")), None);
        let home = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(home.path().join("real/cache")).expect("a folder");
        std::os::unix::fs::symlink("real", home.path().join("link")).expect("a link");
        assert_eq!(anchor(&home.path().join("link/cache"), home.path(), Path::new("/work/state")), None);
    }
}
