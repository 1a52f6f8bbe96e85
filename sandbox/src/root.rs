//! The file tree that a job sees in the namespaces tier: an empty tmpfs, filled with exactly what it may see.
//!
//! Comes in: a [`Policy`]; the calling process owns fresh user, mount and pid namespaces. Goes out: the process's root is
//! the new tree, read-only but for what was granted, and nothing of the host's tree can be reached any more.
//!
//! The tree consists of
//! - the *system's own folders*, read-only: [`SYSTEM_FOLDERS`], of `/etc` only [`ETC_ENTRIES`] (no shadow file, no keys, no
//!   package manager's credentials), `/etc/hosts` written anew;
//! - `/proc` of the job's own pid namespace, read-only as a whole (a job of user 0 could else write `/proc/sys`);
//! - `/dev` with [`DEVICES`], a devpts of its own and `/dev/shm`;
//! - private `/tmp` (and `/var/tmp`, which leads there) and home folder, in the memory of the one tmpfs; an empty `/run`, but for
//!   another folder for temporary files where `/tmp` holds the worktree;
//! - worktree, grants and copy-on-write folders, parents before children, and the folders between them that must stay in their place;
//! - masks over hidden paths, last.
//!
//! The new root is mounted *over* the host's root. Path lookup starts at the process's root folder and not at what is
//! mounted over it, so host paths keep their meaning until `pivot_root`, while the new tree is reached through its
//! descriptor. No path of the new tree is resolved through a symlink, because the worktree's content is not trusted.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::{self, Errno};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::launch::Refused;
use crate::mounts::{
    Reach, Room, attach, attach_at, bound_tmpfs, clone_tree, clone_tree_at, new_devpts, new_proc, new_tmpfs,
    open_beneath, open_source, restrict,
};
use crate::overlay::mount_overlay;
use crate::policy::{Access, CopyOnWrite, Draft, Network, Policy, Worktree};
use crate::ways::ways;

/// Folders of the system that every job sees read-only, where the machine has them. A symlink stays one.
pub const SYSTEM_FOLDERS: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What a job sees of `/etc`: accounts, name service, the dynamic linker, certificates (not their keys), locale.
pub const ETC_ENTRIES: &[&str] = &[
    "passwd",
    "group",
    "nsswitch.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ssl/cert.pem",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/ca-trust/extracted",
    "ca-certificates/extracted",
    "crypto-policies",
    "alternatives",
    "localtime",
    "os-release",
    "debian_version",
    "services",
    "protocols",
    "mime.types",
    "fonts",
];

/// More of `/etc` for jobs that use the host's network.
pub const ETC_NETWORK_ENTRIES: &[&str] = &["resolv.conf", "hosts", "host.conf", "gai.conf"];

/// The device files of `/dev`.
pub const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// What every mount of the host's folders is inside.
const SHOWN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// How the host's devices are mounted.
const UNCHANGED_DEVICE: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC).union(MountAttrFlags::MOUNT_ATTR_RDONLY);
/// Files up to this many bytes are copied into the tree's memory: a copy costs half of a mount, here and at the end.
const COPY_BYTES_MAX: usize = 64 << 10;

/// What the smallest file that is not empty takes of a tmpfs.
const PAGE_BYTES: u64 = 4 << 10;
/// What tells of the kernel's keys, whoever's they are.
pub const KERNEL_KEYS: &[&str] = &["/proc/keys", "/proc/key-users"];
/// What the tree itself may need of its tmpfs, beside what the job puts there: copies of small files of the system.
const OWN_BYTES: u64 = 16 << 20;
/// The same, in files and folders.
const OWN_FILES: u64 = 16 << 10;

const HOSTS: &str = "127.0.0.1 localhost swarm\n::1 localhost swarm\n";

/// Makes what is the same in all trees of jobs with such a network. The calling process still sees the host's tree.
///
/// # Errors
/// [`Refused`] names the part of the tree that could not be made.
pub fn begin(network: Network) -> Result<Root, Refused> {
    let root = Root { fd: at_step("mount /", || attach_over_host_root(new_tmpfs(c"0755")?))? };
    root.system(network)?;
    root.private(Path::new("/tmp"))?;
    root.devices()?;
    Ok(root)
}

/// What the private folders may hold together: a job that fills them is told that no space is left.
fn room(draft: &Draft) -> Room {
    let limits = &draft.limits;
    // Empty files take no bytes of it, and memory of the kernel all the same. Of others no more would fit.
    let files = limits.files.into_iter().chain(limits.memory_bytes.map(|bytes| bytes / PAGE_BYTES)).min();
    Room {
        bytes: limits.memory_bytes.map(|bytes| bytes.saturating_add(OWN_BYTES)),
        files: files.map(|files| files.saturating_add(OWN_FILES)),
    }
}

/// Takes the host's root out of the calling process's mount namespace, in which it still lies over the new one, reachable
/// as `/..`; the working directory is the new root. The kernel makes the caller wait until nobody reads the mount table any
/// more, which is why this is a step of its own.
pub fn leave_host() -> io::Result<()> {
    unmount(c".", UnmountFlags::DETACH)
}

/// One mount of the job's own, sorted so that a parent is mounted before what lies in it.
enum Tree<'a> {
    Home,
    Tmp(&'a Path),
    Worktree(&'a Worktree),
    Bind { path: &'a Path, access: Access },
    Copy(&'a CopyOnWrite),
    Part { of: &'a Path, overlay: &'a OwnedFd },
    Way,
}

/// A tree that is being made.
#[derive(Debug)]
pub struct Root {
    // Invariant: the root folder of a tmpfs that is mounted in the calling process's own mount namespace.
    fd: OwnedFd,
}

impl Root {
    /// Completes the tree as `policy` describes it and moves the calling process into it. The host's tree is gone only after
    /// [`leave_host`].
    ///
    /// # Errors
    /// [`Refused`] names the part of the tree that could not be made.
    pub fn enter(&self, policy: &Policy) -> Result<(), Refused> {
        let draft = policy.get();
        at_step("bound the private folders", || bound_tmpfs(&self.fd, room(draft)))?;
        draft.tmp_beside().map_or(Ok(()), |beside| self.private(beside))?;
        self.trees(draft)?;
        at_step("make /run and /var/tmp", || {
            self.folder(Path::new("/run"))?;
            // Kept where a repository or a grant lies in it.
            made(symlinkat(c"../tmp", self.folder(Path::new("/var"))?, c"tmp"))
        })?;
        for path in &draft.hide {
            self.hide(path).map_err(|error| refused("hide", path, error))?;
        }
        at_step("pivot_root", || {
            fchdir(&self.fd)?;
            pivot_root(c".", c".")?;
            restrict(&self.fd, Reach::Single, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
            chdir(c"/")
        })
    }

    fn system(&self, network: Network) -> Result<(), Refused> {
        let is_hosts = network == Network::Host;
        let etc = ETC_ENTRIES.iter().chain(ETC_NETWORK_ENTRIES.iter().filter(|_| is_hosts));
        self.show_all(Path::new("/"), SYSTEM_FOLDERS.iter().map(|path| path.trim_start_matches('/')))?;
        self.show_all(Path::new("/etc"), etc.copied())?;
        if !is_hosts {
            at_step("write /etc/hosts", || {
                write_file(self.folder(Path::new("/etc"))?, Path::new("hosts"), HOSTS.as_bytes())
            })?;
        }
        at_step("mount /proc", || {
            attach(new_proc()?, self.folder(Path::new("/proc"))?)?;
            // The host's, whose names tell whose they are.
            KERNEL_KEYS.iter().try_for_each(|path| self.hide(Path::new(path)))
        })
    }

    /// Shows entries of a host folder read-only at the same place; those that are not there are left out.
    fn show_all<'a>(&self, folder: &Path, names: impl Iterator<Item = &'a str>) -> Result<(), Refused> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || Ok((openat(CWD, folder, flags, Mode::empty())?, self.folder(folder)?));
        let (outside, inside) = open().map_err(|error| refused("show", folder, error))?;
        for name in names {
            self.show(&outside, &inside, folder, Path::new(name))
                .map_err(|error| refused("show", &folder.join(name), error))?;
        }
        Ok(())
    }

    fn show(&self, outside: &OwnedFd, inside: &OwnedFd, folder: &Path, name: &Path) -> io::Result<()> {
        let stat = match statat(outside, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let parent;
        let (inside, last) = match name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => (inside, name),
            Some(above) => {
                parent = self.folder(&folder.join(above))?;
                (&parent, Path::new(name.file_name().ok_or(Errno::INVAL)?))
            }
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(outside, name, Vec::new())?;
                // A link whose target is not shown (a `resolv.conf` in `/run`) is replaced by what it leads to.
                if target.to_bytes().starts_with(b"/run/") || target.to_bytes().starts_with(b"../run/") {
                    return copy_file(outside, name, inside, last, COPY_BYTES_MAX);
                }
                symlinkat(target, inside, last)
            }
            FileType::RegularFile if usize::try_from(stat.st_size).is_ok_and(|size| size <= COPY_BYTES_MAX) => {
                copy_file(outside, name, inside, last, usize::try_from(stat.st_size).unwrap_or(COPY_BYTES_MAX))
            }
            kind => {
                let copy = clone_tree_at(outside, name)?;
                restrict(&copy, Reach::Tree, SHOWN | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
                make_place(inside, last, kind)?;
                attach_at(copy, inside, last)
            }
        }
    }

    /// A private writable folder for everybody, in the tree's own memory although the tree is read-only.
    fn private(&self, path: &Path) -> Result<(), Refused> {
        let make = || {
            let (parent, name) = (self.parent(path)?, name(path)?);
            make_place(&parent, name, FileType::Directory)?;
            // Nobody but this process has put anything into the tree so far: there is no link to follow.
            rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(0o1777), AtFlags::empty())?;
            attach_at(clone_tree_at(&parent, name)?, &parent, name)
        };
        make().map_err(|error| refused("mount", path, error))
    }

    fn devices(&self) -> Result<(), Refused> {
        at_step("fill /dev", || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let outside = openat(CWD, c"/dev", flags, Mode::empty())?;
            let dev = self.folder(Path::new("/dev"))?;
            for name in DEVICES.iter().map(Path::new) {
                let copy = clone_tree_at(&outside, name)?;
                // A device is written through a mount that is not; what is refused is to change its mode and times.
                restrict(&copy, Reach::Single, UNCHANGED_DEVICE)?;
                make_place(&dev, name, FileType::CharacterDevice)?;
                attach_at(copy, &dev, name)?;
            }
            make_place(&dev, Path::new("pts"), FileType::Directory)?;
            attach_at(new_devpts()?, &dev, Path::new("pts"))?;
            for (target, name) in [
                (c"pts/ptmx", c"ptmx"),
                (c"/proc/self/fd", c"fd"),
                (c"/proc/self/fd/0", c"stdin"),
                (c"/proc/self/fd/1", c"stdout"),
                (c"/proc/self/fd/2", c"stderr"),
            ] {
                symlinkat(target, &dev, name)?;
            }
            Ok(())
        })?;
        self.private(Path::new("/dev/shm"))
    }

    fn trees(&self, draft: &Draft) -> Result<(), Refused> {
        let mut trees: Vec<(&Path, Tree<'_>)> = vec![(&draft.home, Tree::Home)];
        trees.extend(draft.tmp.iter().map(|tmp| (tmp.as_path(), Tree::Tmp(tmp))));
        trees.push((draft.worktree.at(), Tree::Worktree(&draft.worktree)));
        trees.extend(
            draft.grants.iter().map(|grant| (&*grant.at, Tree::Bind { path: &grant.path, access: grant.access })),
        );
        if let Worktree::Overlay { state, .. } = &draft.worktree {
            at_step("open the state folder", || fchdir(open_source(state)?))?;
        }
        let ways = ways(draft);
        trees.extend(ways.iter().map(|way| (way.as_path(), Tree::Way)));
        let mut asides = Vec::new();
        for (number, copy) in draft.copies.iter().enumerate() {
            let aside = self.aside(copy, number);
            asides.push(aside.map_err(|error| refused("mount copy-on-write at", &copy.at, error))?);
        }
        let places: Vec<_> = draft.copies.iter().map(CopyOnWrite::places).collect();
        for ((copy, aside), places) in draft.copies.iter().zip(&asides).zip(&places) {
            match aside {
                None => trees.push((&copy.at, Tree::Copy(copy))),
                Some(overlay) => trees.extend(places.iter().map(|at| (&**at, Tree::Part { of: &copy.at, overlay }))),
            }
        }
        trees.sort_by_key(|(at, _)| at.components().count());
        trees.into_iter().try_for_each(|(at, tree)| self.tree(at, &tree))?;
        let mut asides = (0..).zip(&asides).filter_map(|(number, overlay)| Some((number, overlay.as_ref()?)));
        at_step("take overlays apart", || asides.try_for_each(|(number, overlay)| self.leave_aside(overlay, number)))
    }

    /// Mounts the overlay of which only parts will be shown where nobody looks: no job exists yet.
    fn aside(&self, copy: &CopyOnWrite, number: usize) -> io::Result<Option<OwnedFd>> {
        if copy.shown.is_empty() {
            return Ok(None);
        }
        let name = aside_name(number);
        mkdirat(&self.fd, &name, Mode::RWXU)?;
        self.overlay_of(copy, open_beneath(&self.fd, Path::new(&name), OFlags::PATH)?)?;
        // Opened again: the first descriptor is the folder below the mount.
        open_beneath(&self.fd, Path::new(&name), OFlags::PATH).map(Some)
    }

    fn leave_aside(&self, overlay: &OwnedFd, number: usize) -> io::Result<()> {
        unmount(format!("/proc/self/fd/{}", overlay.as_raw_fd()), UnmountFlags::DETACH)?;
        unlinkat(&self.fd, aside_name(number), AtFlags::REMOVEDIR)
    }

    fn tree(&self, at: &Path, tree: &Tree<'_>) -> Result<(), Refused> {
        let (step, made) = match tree {
            Tree::Home => ("make the home folder", self.folder(at).and_then(|home| attach(clone_tree(&home)?, home))),
            Tree::Tmp(path) => ("mount", self.bind_host(path, at, Access::Write)),
            Tree::Bind { path, access } => ("mount", self.bind_host(path, at, *access)),
            Tree::Worktree(Worktree::Directory { path, .. }) => {
                ("mount the worktree at", self.bind_host(path, at, Access::Write))
            }
            Tree::Worktree(Worktree::Overlay { lowers, upper, work, .. }) => {
                ("mount the worktree at", self.folder(at).and_then(|target| mount_overlay(lowers, upper, work, target)))
            }
            Tree::Copy(copy) => {
                ("mount copy-on-write at", self.folder(at).and_then(|target| self.overlay_of(copy, target)))
            }
            Tree::Part { of, overlay } => ("mount copy-on-write at", self.part(of, overlay, at)),
            Tree::Way => ("keep in its place", self.keep_in_place(at)),
        };
        made.map_err(|error| refused(step, at, error))
    }

    fn overlay_of(&self, copy: &CopyOnWrite, target: OwnedFd) -> io::Result<()> {
        let lower = open_source(&copy.path)?;
        // A descriptor needs no escaping in mount options, whatever the path is.
        let lowers = [format!("/proc/self/fd/{}", lower.as_raw_fd())];
        mount_overlay(&lowers, &copy.upper, &copy.work, target)
    }

    /// Shows one folder of an overlay that shows nothing else. Nothing leads from a bind mount to what lies beside it.
    fn part(&self, of: &Path, overlay: &OwnedFd, at: &Path) -> io::Result<()> {
        let below = at.strip_prefix(of).map_err(|_| Errno::INVAL)?;
        self.bind(open_beneath(overlay, below, OFlags::PATH | OFlags::DIRECTORY)?, at, Access::Write)
    }

    fn bind_host(&self, path: &Path, at: &Path, access: Access) -> io::Result<()> {
        self.bind(open_source(path)?, at, access)
    }

    fn bind(&self, source: OwnedFd, at: &Path, access: Access) -> io::Result<()> {
        let is_folder = FileType::from_raw_mode(fstat(&source)?.st_mode) == FileType::Directory;
        let copy = clone_tree(source)?;
        let mut attributes = SHOWN;
        if access == Access::Read {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        restrict(&copy, Reach::Tree, attributes)?;
        attach(copy, if is_folder { self.folder(at)? } else { self.file(at)? })
    }

    /// Makes a folder a mount of itself, which cannot be renamed. One that is not there leads to nothing.
    fn keep_in_place(&self, way: &Path) -> io::Result<()> {
        match open_beneath(&self.fd, inside(way)?, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(folder) => attach(clone_tree(&folder)?, folder),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Covers a path with an empty folder or file that nobody may read. A path that is not there needs no cover.
    fn hide(&self, path: &Path) -> io::Result<()> {
        let target = match open_beneath(&self.fd, inside(path)?, OFlags::PATH) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let cover = match FileType::from_raw_mode(fstat(&target)?.st_mode) {
            FileType::Directory => {
                made(mkdirat(&self.fd, c".hidden-folder", Mode::empty()))?;
                open_beneath(&self.fd, Path::new(".hidden-folder"), OFlags::PATH)?
            }
            _ => {
                let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::CLOEXEC;
                drop(openat(&self.fd, c".hidden-file", flags, Mode::empty()));
                open_beneath(&self.fd, Path::new(".hidden-file"), OFlags::PATH)?
            }
        };
        let cover = clone_tree(cover)?;
        restrict(&cover, Reach::Single, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        attach(cover, target)
    }

    /// The folder at `path`, made with its parents where it is missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let relative = inside(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let itself = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        match open_beneath(&self.fd, itself, flags) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let (parent, name) = (self.parent(path)?, name(path)?);
        make_place(&parent, name, FileType::Directory)?;
        open_beneath(&parent, name, flags)
    }

    /// The file at `path`, made empty where it is missing.
    fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        let (parent, name) = (self.parent(path)?, name(path)?);
        make_place(&parent, name, FileType::RegularFile)?;
        open_beneath(&parent, name, OFlags::PATH)
    }

    fn parent(&self, path: &Path) -> io::Result<Parent<'_>> {
        match path.parent().ok_or(Errno::INVAL)? {
            root if root == Path::new("/") => Ok(Parent::Root(&self.fd)),
            below => self.folder(below).map(Parent::Below),
        }
    }
}

/// The folder that something of the tree lies in.
enum Parent<'a> {
    Root(&'a OwnedFd),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Root(fd) => fd.as_fd(),
            Parent::Below(fd) => fd.as_fd(),
        }
    }
}

/// Makes what a mount of this kind can be put onto: an empty folder, or an empty file for everything else.
fn make_place(parent: impl AsFd, name: &Path, kind: FileType) -> io::Result<()> {
    made(match kind {
        FileType::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        _ => mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o444), 0),
    })
}

/// Copies the first `size` bytes of a file.
fn copy_file(outside: &OwnedFd, name: &Path, inside: &OwnedFd, last: &Path, size: usize) -> io::Result<()> {
    let source = match openat(outside, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(source) => source,
        // Not readable for this user outside, so not inside either.
        Err(Errno::ACCESS | Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut content = vec![0; size];
    let mut length = 0;
    while length < content.len() {
        match io::read(&source, &mut content[length..])? {
            0 => break,
            count => length += count,
        }
    }
    write_file(inside, last, &content[..length])
}

fn write_file(folder: impl AsFd, name: &Path, mut content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::from_raw_mode(0o444))?;
    while !content.is_empty() {
        content = &content[io::write(&file, content)?..];
    }
    Ok(())
}

fn attach_over_host_root(tmpfs: OwnedFd) -> io::Result<OwnedFd> {
    attach(&tmpfs, openat(CWD, c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
    Ok(tmpfs)
}

/// "It is already there" is what was wanted.
fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The same path relative to the root.
fn inside(path: &Path) -> io::Result<&Path> {
    path.strip_prefix("/").map_err(|_| Errno::INVAL)
}

fn name(path: &Path) -> io::Result<&Path> {
    path.file_name().map(Path::new).ok_or(Errno::INVAL)
}

fn refused(step: &str, path: &Path, error: Errno) -> Refused {
    let reason = match error {
        Errno::LOOP => "a symlink stands in the way".to_owned(),
        error => error.to_string(),
    };
    Refused::new(&format!("{step} {}", path.display()), reason)
}

/// Where an overlay is mounted of which only parts are shown.
fn aside_name(number: usize) -> String {
    format!(".aside-{number}")
}

fn at_step<T>(step: &str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Refused> {
    act().map_err(|error| Refused::new(step, error))
}
