//! The index of a repository that a caged command made. Git writes files where an index says, and checks a path when it comes into one,
//! not when it comes out of it: an entry `../../.bashrc` is written there by the next `git restore .`, one `.git/hooks/pre-commit` becomes a
//! hook.
//!
//! It is read more narrowly than git does. What another reader could take otherwise counts as leading astray: the parts by which an index
//! is read in another order (`EOIE`, `IEOT`), that lie in another file (`link`), or that git only writes when it is told to (`UNTR`, `FSMN`,
//! `sdir`). Source: gitformat-index(5).

use swarm_orchestrator::entry_name::{check_path, folded, is_steering_file};
use swarm_orchestrator::report::sanitize;

/// The largest index that is read, in bytes: that of a million files or more.
pub const INDEX_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a path, which is what the kernel takes; and of all paths, as long as they are: version 4 only writes what differs.
const NAME_BYTES_MAX: usize = 4_096;
const NAMES_BYTES_MAX: usize = 256 << 20;
/// Bytes of the signature, the version and the count.
const HEADER_BYTES: usize = 12;
/// Bytes of an entry in front of the object's id; its mode is among them.
const STAT_BYTES: usize = 40;
/// Bytes of an object's id; a config that asks for another width is put aside for that.
const ID_BYTES: usize = 20;
const MODE_AT: usize = 24;
/// An entry's flags: there are more of them; the name's length, where it is shorter than this.
const EXTENDED: u16 = 0x4000;
const NAME_MASK: u16 = 0x0fff;
/// Of the further flags those that are known: skip-worktree and intent-to-add.
const KNOWN_EXTENDED: u16 = 0x6000;

const LINK: u32 = 0o120_000;
const MODES: [u32; 4] = [0o100_644, 0o100_755, LINK, 0o160_000];
/// Parts behind the entries that name no path which git goes to: trees that are known already, and what a merge's sides were, whose paths git
/// checks when it takes them back.
const PARTS: [&[u8]; 2] = [b"TREE", b"REUC"];

/// What in an index leads git elsewhere than into the files of its work tree, for people.
pub fn leads_astray(index: &[u8]) -> Option<String> {
    match read(index) {
        Some(Ok(entries)) => entries.through_a_link(),
        Some(Err(why)) => Some(why),
        None => Some("what git may read as another path".to_owned()),
    }
}

/// The entries of an index. `None` where it is none that git writes by itself; else the first path that leads elsewhere.
fn read(index: &[u8]) -> Option<Result<Entries, String>> {
    let mut rest = Reader(index.get(..index.len().checked_sub(ID_BYTES)?)?);
    let header = rest.take(HEADER_BYTES)?;
    let version = number(header, 4)?;
    if !header.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let (mut entries, mut name) = (Entries::default(), Vec::new());
    for _ in 0..number(header, 8)? {
        let mode = rest.entry(version, &mut name)?;
        if check_path(&name).is_err()
            || (mode == LINK && name.rsplit(|&byte| byte == b'/').next().is_some_and(is_steering_file))
        {
            return Some(Err(format!("the path `{}`", shown(&name))));
        }
        if !MODES.contains(&mode) {
            return Some(Err(format!("the mode {mode:o} of `{}`", shown(&name))));
        }
        entries.add(&name, mode)?;
    }
    while !rest.0.is_empty() {
        let head = rest.take(8)?;
        if !PARTS.contains(&&head[..4]) {
            return None;
        }
        rest.take(number(head, 4)? as usize)?;
    }
    Some(Ok(entries))
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes up to a NUL, which is taken, too.
    fn text(&mut self) -> Option<&'a [u8]> {
        let text = self.take(self.0.iter().position(|&byte| byte == 0)?)?;
        self.take(1)?;
        Some(text)
    }

    /// One entry: turns the name of the one before it into its own, and gives its mode.
    fn entry(&mut self, version: u32, name: &mut Vec<u8>) -> Option<u32> {
        let fixed = STAT_BYTES + ID_BYTES + 2;
        let head = self.take(fixed)?;
        let flags = u16::from_be_bytes(*head.last_chunk()?);
        let mut size = fixed;
        if flags & EXTENDED != 0 {
            let more = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
            if version == 2 || more & !KNOWN_EXTENDED != 0 {
                return None;
            }
            size += 2;
        }
        if version == 4 {
            let kept = name.len().checked_sub(self.varint()?)?;
            name.truncate(kept);
            name.extend_from_slice(self.text()?);
        } else {
            name.clear();
            name.extend_from_slice(self.text()?);
            // One NUL at least, up to a multiple of eight bytes.
            let padded = (size + name.len() + 8) & !7;
            let padding = self.take(padded - size - name.len() - 1)?;
            if padding.iter().any(|&byte| byte != 0) {
                return None;
            }
        }
        let told = name.len().min(usize::from(NAME_MASK));
        (usize::from(flags & NAME_MASK) == told).then(|| number(head, MODE_AT)).flatten()
    }

    /// A number as packs write offsets.
    fn varint(&mut self) -> Option<usize> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 127);
        while byte & 128 != 0 {
            byte = self.take(1)?[0];
            value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 127))?;
        }
        Some(value)
    }
}

/// Four bytes of a header as a number.
fn number(header: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?))
}

/// What an index names, as file systems without case compare it.
#[derive(Default)]
struct Entries {
    names: Vec<Vec<u8>>,
    links: Vec<Vec<u8>>,
    /// Of all names.
    bytes: usize,
}

impl Entries {
    /// `None` where it is more than an index has that git wrote for a work tree.
    fn add(&mut self, name: &[u8], mode: u32) -> Option<()> {
        self.bytes += name.len();
        if name.len() > NAME_BYTES_MAX || self.bytes > NAMES_BYTES_MAX {
            return None;
        }
        let name = folded(name);
        if mode == LINK {
            self.links.push(name.clone());
        }
        self.names.push(name);
        Some(())
    }

    /// A link in whose place another entry has a folder.
    fn through_a_link(mut self) -> Option<String> {
        if !self.links.is_empty() {
            self.names.sort_unstable();
        }
        let is_folder = |link: &&Vec<u8>| {
            let inside = [link.as_slice(), b"/"].concat();
            let first = self.names.partition_point(|name| *name < inside);
            self.names.get(first).is_some_and(|name| name.starts_with(&inside))
        };
        self.links.iter().find(is_folder).map(|link| format!("paths through the link `{}`", shown(link)))
    }
}

fn shown(name: &[u8]) -> String {
    sanitize::name(&String::from_utf8_lossy(&name[..name.len().min(200)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u32 = 0o100_644;

    /// An index with these entries, as git writes it.
    fn index(version: u32, entries: &[(&str, u32)]) -> Vec<u8> {
        let mut index = [b"DIRC", &version.to_be_bytes()[..], &(entries.len() as u32).to_be_bytes()].concat();
        let mut before = "";
        for (name, mode) in entries {
            let start = index.len();
            index.extend([0; MODE_AT]);
            index.extend(mode.to_be_bytes());
            index.extend(vec![7; STAT_BYTES - MODE_AT - 4 + ID_BYTES]);
            index.extend((name.len().min(0xfff) as u16 | if version == 3 { EXTENDED } else { 0 }).to_be_bytes());
            if version == 3 {
                index.extend([0x20, 0]);
            }
            if version == 4 {
                let shared = name.bytes().zip(before.bytes()).take_while(|(one, other)| one == other).count();
                index.push(u8::try_from(before.len() - shared).expect("short"));
                index.extend(name[shared..].bytes().chain([0]));
                before = name;
                continue;
            }
            index.extend(name.bytes());
            let padded = (index.len() - start + 8) & !7;
            index.resize(start + padded, 0);
        }
        index.extend(vec![9; ID_BYTES]);
        index
    }

    fn told(entries: &[(&str, u32)]) -> Option<String> {
        let told: Vec<_> = [2, 3, 4].map(|version| leads_astray(&index(version, entries))).into();
        assert!(told.iter().all(|one| *one == told[0]), "{entries:?}: {told:?}");
        told[0].clone()
    }

    #[test]
    fn an_index_of_files_leads_nowhere() {
        assert_eq!(told(&[]), None);
        assert_eq!(
            told(&[("a", FILE), ("a b/..c", 0o100_755), ("l", LINK), ("sub", 0o160_000), ("z/y/x", FILE)]),
            None
        );
        let long = |bytes| leads_astray(&index(2, &[(&"n".repeat(bytes), FILE)]));
        assert_eq!((long(4_094), long(4_096), long(4_097).is_some()), (None, None, true));
    }

    #[test]
    fn a_path_out_of_the_work_tree_or_into_a_repository_is_told() {
        for path in ["../../victim/rc", ".git/hooks/x", "a/.GIT/config", "git~1/x", "/etc/x", "a//b", "a/./b", "a/", ""]
        {
            assert_eq!(told(&[("a", FILE), (path, FILE)]), Some(format!("the path `{path}`")));
        }
        assert_eq!(told(&[("d", LINK), ("d/x", FILE)]).as_deref(), Some("paths through the link `d`"));
        assert_eq!(told(&[("D/y/x", FILE), ("d", LINK)]).as_deref(), Some("paths through the link `d`"));
        assert_eq!(told(&[("x/.gitmodules", LINK)]).as_deref(), Some("the path `x/.gitmodules`"));
        assert_eq!(told(&[("d/", 0o040_000)]).as_deref(), Some("the path `d/`"));
        assert_eq!(told(&[("d", 0o104_755)]).as_deref(), Some("the mode 104755 of `d`"));
    }

    #[test]
    fn what_could_be_read_in_another_way_is_told() {
        let plain = index(2, &[("a", FILE)]);
        let with = |part: &[u8]| {
            let (entries, hash) = plain.split_at(plain.len() - 20);
            leads_astray(&[entries, part, hash].concat())
        };
        assert_eq!(with(b"TREE\0\0\0\x02xy"), None);
        for part in
            [&b"link\0\0\0\0"[..], b"IEOT\0\0\0\0", b"EOIE\0\0\0\0", b"TREE\0\0\0\x03xy", b"TRE", b"UNTR\0\0\0\0"]
        {
            assert!(with(part).is_some(), "{}", part.escape_ascii());
        }
        let mut cut = plain.clone();
        // A NUL in the middle of what its flags call a name.
        cut[HEADER_BYTES + STAT_BYTES + 20 + 1] = 3;
        assert!(leads_astray(&cut).is_some());
        assert!(leads_astray(&plain[..plain.len() - 12]).is_some() && leads_astray(b"").is_some());
        assert!((0..plain.len()).all(|end| leads_astray(&plain[..end]).is_some()));
    }
}
