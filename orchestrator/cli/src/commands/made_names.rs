//! Files of a repository whose lines name something that git goes to: a name that leads out of the repository makes git read, write or
//! remove another one's. `reftable/tables.list` of a repository that a caged command made may name the tables of the person's own, which
//! its next `git pack-refs` removes.
//!
//! What judges each file that `git init`, `git clone`, `git commit` and `git gc` write:
//!
//! | file | what it names | judged by |
//! |---|---|---|
//! | `config` | programs, files, remotes | `made_config` |
//! | `index` | files of the work tree | `made_index` |
//! | `HEAD`, `ORIG_HEAD` and what is called so, all below `refs` | another ref | [`Names::Ref`] |
//! | `packed-refs` | refs | [`Names::PackedRefs`] |
//! | `reftable/tables.list` | files beside it | [`Names::Tables`] |
//! | `objects/info/packs` | packs | [`Names::Packs`] |
//! | `commit-graph-chain`, `multi-pack-index-chain`, `shallow` | commits, or files by their hash | [`Names::Hashes`] |
//! | `multi-pack-index`, `*.midx` | packs | [`Names::PackIndex`] |
//! | objects, packs and what stands beside them, `graph-*`, `*.ref` | objects; paths that git checks before it writes them | git |
//! | `logs`, `description`, `COMMIT_EDITMSG`, `gc.log`, `info/exclude`, `info/refs` | nothing that git goes to | nobody |
//! | `hooks`, `branches`, `info/*` but for these, `objects/info/alternates`, `commondir`, `gitdir`, `worktrees`, `modules` | anything | their presence |

use swarm_orchestrator::entry_name::check_path;

/// The largest of these files, in bytes: a million refs.
pub const NAMES_BYTES_MAX: u64 = 64 << 20;

/// What a file's content names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A hash, or another ref behind `ref:`.
    Ref,
    /// A ref in each line, behind its hash.
    PackedRefs,
    /// A table in each line.
    Tables,
    /// A pack in each line, behind `P`.
    Packs,
    /// A hash in each line.
    Hashes,
    /// Packs, as gitformat-pack(5) says of `multi-pack-index`.
    PackIndex,
}

impl Names {
    /// What the file of a path below a repository names, if it is something that git goes to.
    pub fn of(path: &str) -> Option<Names> {
        let name = path.rsplit('/').next().unwrap_or_default();
        match path {
            "HEAD" | "AUTO_MERGE" => Some(Names::Ref),
            _ if path == name && name.ends_with("_HEAD") => Some(Names::Ref),
            "packed-refs" => Some(Names::PackedRefs),
            "shallow" => Some(Names::Hashes),
            "reftable/tables.list" => Some(Names::Tables),
            "objects/info/packs" => Some(Names::Packs),
            "objects/pack/multi-pack-index" => Some(Names::PackIndex),
            _ if path.starts_with("refs/") => Some(Names::Ref),
            _ if path.starts_with("objects/") && name.ends_with("-chain") => Some(Names::Hashes),
            _ if path.starts_with("objects/pack/") && name.ends_with(".midx") => Some(Names::PackIndex),
            _ => None,
        }
    }

    /// Whether all that it names is the repository's own, by names as git gives them.
    pub fn stay_inside(self, content: &[u8]) -> bool {
        let lines = || content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        match self {
            // No hash has a colon; what is neither is an error for git.
            Names::Ref => content.strip_prefix(b"ref:").is_none_or(|target| is_ref(target.trim_ascii())),
            Names::PackedRefs => lines().all(|line| match line.first() {
                Some(b'#' | b'^') => true,
                _ => line.iter().position(|&byte| byte == b' ').is_some_and(|space| is_ref(&line[space + 1..])),
            }),
            Names::Tables => lines().all(is_table),
            Names::Packs => lines().all(|line| line.strip_prefix(b"P ").is_some_and(|name| is_pack(name, b".pack"))),
            Names::Hashes => lines().all(is_hash),
            Names::PackIndex => {
                content.is_empty()
                    || packs_of(content).is_some_and(|packs| packs.into_iter().all(|name| is_pack(name, b".idx")))
            }
        }
    }
}

/// A ref with a name below `refs` that is one on every system.
fn is_ref(name: &[u8]) -> bool {
    name.starts_with(b"refs/")
        && check_path(name).is_ok()
        && !name.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\')
}

fn is_hex(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_hash(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// Source: reftable, "Compaction": `0x` and the first and the last update's number, a random part, `.ref`.
fn is_table(name: &[u8]) -> bool {
    let Some(parts) = name.strip_suffix(b".ref") else { return false };
    let parts: Vec<&[u8]> = parts.split(|&byte| byte == b'-').collect();
    let is_number = |part: &[u8]| part.strip_prefix(b"0x").is_some_and(is_hex);
    matches!(*parts, [first, last, random] if is_number(first) && is_number(last) && is_hex(random))
}

fn is_pack(name: &[u8], end: &[u8]) -> bool {
    let letters = name.strip_prefix(b"pack-").and_then(|name| name.strip_suffix(end));
    letters.is_some_and(is_hash)
}

/// The packs that a `multi-pack-index` names; `None` where it is none. Source: gitformat-pack(5), "multi-pack-index (MIDX) files".
fn packs_of(content: &[u8]) -> Option<Vec<&[u8]>> {
    const HEADER_BYTES: usize = 12;
    const CHUNK_BYTES: usize = 12;
    let header = content.get(..HEADER_BYTES)?;
    if !header.starts_with(b"MIDX\x01") && !header.starts_with(b"MIDX\x02") {
        return None;
    }
    let row = |number: usize| content.get(HEADER_BYTES + number * CHUNK_BYTES..)?.first_chunk::<CHUNK_BYTES>();
    let starts = |number| usize::try_from(u64::from_be_bytes(*row(number)?.last_chunk()?)).ok();
    let mut chunks =
        (0..usize::from(header[6])).filter(|&number| row(number).is_some_and(|row| row.starts_with(b"PNAM")));
    let (names, None) = (chunks.next()?, chunks.next()) else { return None };
    let names = content.get(starts(names)?..starts(names + 1)?)?;
    // Each ends with a NUL; more of them fill the chunk up to four bytes.
    Some(names.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    fn check(path: &str, content: &str, expected: bool) {
        let stays = Names::of(path).is_none_or(|names| names.stay_inside(content.as_bytes()));
        assert_eq!(stays, expected, "{path}: {content}");
    }

    #[test]
    fn refs_lead_to_refs() {
        for path in ["HEAD", "refs/heads/a/b", "ORIG_HEAD"] {
            for plain in ["", HASH, "ref: refs/heads/main\n", "ref: refs/heads/.invalid\n", "ref:refs/remotes/o/HEAD"] {
                check(path, plain, true);
            }
            for out in
                ["../../x", "refs/../../x", "refs/heads/../../config", "config", "/x", "refs/a//b", "refs/.git/x"]
            {
                check(path, &format!("ref: {out}\n"), false);
            }
        }
        check("packed-refs", &format!("# pack-refs with: peeled\n{HASH} refs/tags/v1\n^{HASH}\n"), true);
        for name in ["../x", "refs/heads/../x", "HEAD", ""] {
            check("packed-refs", &format!("{HASH} {name}\n"), false);
        }
        check("packed-refs", "refs/heads/x\n", false);
        check("logs/HEAD", "anything ../..", true);
    }

    #[test]
    fn lists_name_what_lies_beside_them() {
        let tables = "reftable/tables.list";
        check(tables, "", true);
        check(tables, "0x000000000001-0x000000000002-b54f3b59.ref\n0x00000000000a-0x00000000000a-RANDOM.ref\n", false);
        check(tables, "0x000000000001-0x000000000002-b54f3b59.ref\n", true);
        for name in [
            "../../../other/.git/reftable/0x1-0x1-ab.ref",
            "0x1-0x1-ab.ref/../x.ref",
            "x.ref",
            "0x-0x1-a.ref",
            "0x1-0x1-.ref",
        ] {
            check(tables, &format!("{name}\n"), false);
        }
        check("objects/info/packs", &format!("P pack-{HASH}.pack\n\n"), true);
        check("objects/info/packs", "P ../../x.pack\n", false);
        for chain in [
            "objects/info/commit-graphs/commit-graph-chain",
            "objects/pack/multi-pack-index.d/multi-pack-index-chain",
            "shallow",
        ] {
            check(chain, &format!("{HASH}\n"), true);
            check(chain, "../x\n", false);
        }
    }

    #[test]
    fn a_multi_pack_index_names_packs_of_its_folder() {
        let index = |names: &str| {
            let (start, end) = (36_u64, 36 + names.len() as u64);
            let table =
                [b"PNAM", &start.to_be_bytes()[..], b"OIDF", &end.to_be_bytes(), b"\0\0\0\0", &end.to_be_bytes()];
            [&b"MIDX\x01\x01\x01\0\0\0\0\x01"[..], &table.concat()[..24], names.as_bytes()].concat()
        };
        let names = Names::of("objects/pack/multi-pack-index").expect("it names packs");
        assert!(names.stay_inside(&index(&format!("pack-{HASH}.idx\0\0\0"))));
        assert!(!names.stay_inside(&index(&format!("pack-{HASH}.idx\0../../x.idx\0"))));
        assert!(names.stay_inside(b"") && !names.stay_inside(b"MIDX\x01\x01\x01\0\0\0\0\x01"));
        assert_eq!(Names::of("objects/pack/multi-pack-index.d/multi-pack-index-0a.midx"), Some(Names::PackIndex));
    }
}
