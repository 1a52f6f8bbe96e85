//! What git remembers of folders that hold no untracked file, as bytes: with it `git status` in a fresh worktree opens no
//! folder. That makes up for overlay, in which each lstat(2) and each listing costs more than on the file system below.
//!
//! It is believed by git alone, inside the cage, and folder by folder: git looks at each one (times, inode, size, owner) and
//! lists it again when anything about it is different. An entry that comes or goes makes the folder another one: overlay
//! copies it up, with times of its own. So does a layer above the base that holds the same folder. The root of a worktree is
//! a new folder each time, and is never remembered. Ignore files count by content. The collector reads none of this.
//!
//! Source: git's `Documentation/gitformat-index.txt`, "Untracked cache", and `validate_untracked_cache` in its `dir.c`; EWAH
//! bitmaps: `ewah/ewah_io.c`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::{ObjectType, Oid};

use super::index_file::{Index, Stat};
use crate::tree::{EXECUTABLE, FILE};

/// Folders that nobody listed yet hide nothing, and untracked folders are named without what is in them: the way in which
/// `git status` looks when it is not told otherwise (`DIR_SHOW_OTHER_DIRECTORIES | DIR_HIDE_EMPTY_DIRECTORIES`).
const FLAGS: u32 = 1 << 1 | 1 << 2;
const IGNORE_FILE: &[u8] = b".gitignore";
const ID_BYTES: usize = 20;
const STAT_BYTES: usize = 36;

/// Folders of a tree, one inside the other.
#[derive(Default)]
struct Folder<'a> {
    /// What it looks like; `None` is looked at anew by git.
    stat: Option<&'a Stat>,
    /// The content of its ignore file.
    ignore: Option<Oid>,
    /// Sorted as git searches them: byte by byte, without a slash at their end.
    below: BTreeMap<&'a [u8], Folder<'a>>,
}

/// The extension's content for a checkout that holds nothing but `index`'s files. `folders` are paths from the root, without
/// the root, and what they look like when everything is written; `place` is where git will see the worktree, and `exclude` what
/// its `info/exclude` will hold.
///
/// # Errors
/// libgit2's, of which none is known: a hash of bytes in memory.
pub fn encode(
    place: &Path,
    exclude: &[u8],
    folders: &[(Vec<u8>, Stat)],
    index: &Index,
) -> Result<Vec<u8>, git2::Error> {
    let mut root = Folder::default();
    for (path, stat) in folders {
        root.at(path).stat = Some(stat);
    }
    for entry in index.entries() {
        let (folder, name) = match entry.path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&entry.path[..slash], &entry.path[slash + 1..]),
            None => (&b""[..], &entry.path[..]),
        };
        if name == IGNORE_FILE {
            let folder = root.at(folder);
            folder.ignore = Some(entry.id);
            // Some versions of git read through a link of that name, others do not.
            folder.stat = folder.stat.filter(|_| matches!(entry.mode, FILE | EXECUTABLE));
        }
    }
    let mut listing = Listing::default();
    listing.put(b"", &root);
    let mut bytes = Vec::new();
    let identity = [b"Location ", place.as_os_str().as_bytes(), b", system Linux\0"].concat();
    put_varint(&mut bytes, identity.len());
    bytes.extend_from_slice(&identity);
    // What the two files of ignore rules looked like: git reads them again and compares their content.
    bytes.extend_from_slice(&[0; 2 * STAT_BYTES]);
    bytes.extend_from_slice(&FLAGS.to_be_bytes());
    // Git adds a line's end before it takes the hash.
    let exclude = Oid::hash_object(ObjectType::Blob, &[exclude, b"\n"].concat())?;
    bytes.extend_from_slice(exclude.as_bytes());
    // No `core.excludesFile`: the home inside a cage is new.
    bytes.extend_from_slice(&[0; ID_BYTES]);
    bytes.extend_from_slice(IGNORE_FILE);
    bytes.push(0);
    listing.append_to(&mut bytes);
    bytes.push(0);
    Ok(bytes)
}

impl<'a> Folder<'a> {
    /// The folder at a path below this one; the empty path is this one.
    fn at(&mut self, path: &'a [u8]) -> &mut Folder<'a> {
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        parts.fold(self, |folder, part| folder.below.entry(part).or_default())
    }
}

/// Folders in the order in which they are written, parents first.
#[derive(Default)]
struct Listing {
    count: usize,
    blocks: Vec<u8>,
    valid: Vec<u64>,
    with_ignore: Vec<u64>,
    stats: Vec<u8>,
    ignores: Vec<u8>,
}

impl Listing {
    fn put(&mut self, name: &[u8], folder: &Folder<'_>) {
        let number = self.count;
        self.count += 1;
        if let Some(stat) = folder.stat {
            set(&mut self.valid, number);
            let Stat { ctime, mtime, dev, ino, uid, gid, size } = *stat;
            for value in [ctime.0, ctime.1, mtime.0, mtime.1, dev, ino, uid, gid, size] {
                self.stats.extend_from_slice(&value.to_be_bytes());
            }
        }
        if let Some(id) = folder.ignore {
            set(&mut self.with_ignore, number);
            self.ignores.extend_from_slice(id.as_bytes());
        }
        // No untracked file.
        put_varint(&mut self.blocks, 0);
        put_varint(&mut self.blocks, folder.below.len());
        self.blocks.extend_from_slice(name);
        self.blocks.push(0);
        for (name, below) in &folder.below {
            self.put(name, below);
        }
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.count);
        bytes.extend_from_slice(&self.blocks);
        // In the second git would note folders that it only searched for the first file.
        for bitmap in [&self.valid, &Vec::new(), &self.with_ignore] {
            put_bitmap(bytes, bitmap);
        }
        bytes.extend_from_slice(&self.stats);
        bytes.extend_from_slice(&self.ignores);
    }
}

fn set(bitmap: &mut Vec<u64>, number: usize) {
    let word = number / 64;
    if bitmap.len() <= word {
        bitmap.resize(word + 1, 0);
    }
    bitmap[word] |= 1 << (number % 64);
}

/// An EWAH bitmap of one run: a marker without repeated words, which says how many words follow as they are.
fn put_bitmap(bytes: &mut Vec<u8>, words: &[u64]) {
    const LITERALS_SHIFT: u32 = 33;
    let bits = words.last().map_or(0, |last| words.len() * 64 - last.leading_zeros() as usize);
    bytes.extend_from_slice(&(bits as u32).to_be_bytes());
    bytes.extend_from_slice(&(words.len() as u32 + 1).to_be_bytes());
    bytes.extend_from_slice(&((words.len() as u64) << LITERALS_SHIFT).to_be_bytes());
    for word in words {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    // Where the last marker is.
    bytes.extend_from_slice(&[0; 4]);
}

/// Git's own variable width: seven bits a byte, the highest first, one less at each further byte.
fn put_varint(bytes: &mut Vec<u8>, mut value: usize) {
    let mut reversed = vec![(value & 0x7f) as u8];
    value >>= 7;
    while value > 0 {
        value -= 1;
        reversed.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    bytes.extend(reversed.iter().rev());
}

#[cfg(test)]
mod tests {
    use super::super::ObjectsAt;
    use super::super::tests::{Scene, run_in};
    use super::put_varint;
    use crate::git_fixture::{git, put};
    use crate::worktree::Backend;

    const FILES: [(&str, &str); 8] = [
        (".gitignore", "*.o\n"),
        ("README", "hello\n"),
        ("a/b/c", "1\n"),
        ("a/.gitignore", "!kept.o\n"),
        ("a-b/c", "2\n"),
        ("linked/.gitignore", "->../README"),
        ("linked/x", "3\n"),
        ("deep/er/and/deeper", "4\n"),
    ];

    /// A function of the shell: what `git status` says, which has to be the same without all that it remembers.
    const LOOK: &str = "look() { with=$(git status --porcelain); \
        without=$(GIT_DISABLE_UNTRACKED_CACHE=1 git status --porcelain); \
        [ \"$with\" = \"$without\" ] || { echo \"$1: '$with' is not '$without'\"; exit 1; }; echo \"$with\"; }; ";

    /// What a script prints in a worktree at the repository's own path, where git believes the index; `None` where nothing can
    /// be mounted.
    fn printed(scene: &Scene, copy: &[&str], commit: git2::Oid, script: &str) -> Option<String> {
        let bases = scene.bases(Backend::Overlay, |settings| {
            settings.objects = ObjectsAt::Bound("/run/swarm/objects".into());
            settings.copy = copy.iter().map(|&path| path.to_owned()).collect();
        });
        let base = bases.prepare(scene.repository.resolve("HEAD").expect("a commit")).expect("a base");
        let layers = bases.derive(&base, commit).expect("layers");
        let worktree = scene.worktree(&layers, Backend::Overlay);
        let output = run_in(&worktree, &format!("{LOOK}{script}"));
        drop(worktree.remove().expect("removed"));
        output
    }

    fn head(scene: &Scene) -> git2::Oid {
        scene.repository.resolve("HEAD").expect("a commit")
    }

    #[test]
    fn numbers_are_as_git_writes_them() {
        for (number, expected) in
            [(0, &[0][..]), (127, &[127]), (128, &[0x80, 0]), (16511, &[0xff, 0x7f]), (16512, &[0x80, 0x80, 0])]
        {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(bytes, expected, "{number}");
        }
    }

    #[test]
    fn a_first_status_lists_only_the_root() {
        if std::process::Command::new("strace").arg("-V").output().is_err() {
            swarm_protocol::skipped::say("strace is not installed");
            return;
        }
        let scene = Scene::new(&FILES);
        let script = "strace -f -e trace=openat,open -o /run/trace git status --porcelain; \
            grep -o '\"[^\"]*\", [^,)]*O_DIRECTORY' /run/trace | grep -v '\"\\.git\\|\"/' | cut -d, -f1 | sort -u; ";
        let Some(remembered) = printed(&scene, &[], head(&scene), script) else { return };
        // The ignore file that is a link: what it means is for git to say.
        assert_eq!(remembered, "\".\"\n\"linked/\"\n");
        let all = format!("export GIT_DISABLE_UNTRACKED_CACHE=1; {script}");
        let control = printed(&scene, &[], head(&scene), &all).expect("as before");
        assert!(control.contains("\"deep/er/and/\"\n"), "{control}");
    }

    #[test]
    fn what_changes_is_seen() {
        let scene = Scene::new(&FILES);
        for (change, expected) in [
            ("touch a/b/new", "?? a/b/new\n"),
            ("touch -d @1000000000 a-b/new a-b", "?? a-b/new\n"),
            ("rm a/b/c", " D a/b/c\n"),
            ("mkdir -p deep/er/new/folder; touch deep/er/new/folder/x", "?? deep/er/new/\n"),
            ("touch deep/er/x.o", "\n"),
            ("touch a/kept.o deep/kept.o", "?? a/kept.o\n"),
            ("touch deep/er/x.o; echo '# nothing' > .gitignore", " M .gitignore\n?? deep/er/x.o\n"),
            ("touch deep/er/x; echo x > deep/.gitignore", "?? deep/.gitignore\n"),
            ("touch deep/er/x; echo x >> .git/info/exclude", "\n"),
            ("touch linked/x.o", "\n"),
            ("mv a/b a/d", " D a/b/c\n?? a/d/\n"),
            ("git rm -q --cached a/b/c", "D  a/b/c\n?? a/b/\n"),
            ("rm -r deep; mkdir -p deep/er; touch deep/er/y", " D deep/er/and/deeper\n?? deep/er/y\n"),
        ] {
            for before in ["", "look before >/dev/null; "] {
                let script = format!("{before}{change}; look 'after {change}'");
                let Some(output) = printed(&scene, &[], head(&scene), &script) else { return };
                assert_eq!(output, expected, "{script}");
            }
        }
    }

    #[test]
    fn layers_above_the_base_are_seen() {
        let scene = Scene::new(&FILES);
        git(scene.fixture.path(), &["switch", "-qc", "next"]);
        git(scene.fixture.path(), &["rm", "-rq", "deep"]);
        let next = scene.fixture.commit(&[("deep/x", "5\n"), ("a-b/d", "6\n"), ("a/.gitignore", "*.c\n")]);
        git(scene.fixture.path(), &["switch", "-q", "-"]);
        put(&scene.fixture.path().join("a/b/copied"), "no rule ignores it");
        let Some(output) = printed(&scene, &["a/b/copied"], next, "look fresh") else { return };
        assert_eq!(output, "?? a/b/copied\n");
        let script = "touch a/x.c a/kept.o a-b/new deep/y; look changed";
        let output = printed(&scene, &["a/b/copied"], next, script).expect("as before");
        assert_eq!(output, "?? a-b/new\n?? a/b/copied\n?? deep/y\n");
    }
}
