//! What a project has for agents beside the words that they are told: its skills, and the programs of its hooks. Read from a
//! tree, never from a worktree: what an agent makes of them while it works, or a change that is looked at, is not the project's
//! word. Symlinks are followed to skills only, and never out of the tree.

use std::collections::BTreeSet;

use git2::{Odb, Oid};
use swarm_protocol::toolset::{FILE_ENDS, MODULE_ENDS, ProjectProgram, SKILL_FOLDERS, SkillFile, paths_named};

use super::bootstrap::BootstrapError;
use crate::tree;

/// The longest file of a skill that is given, in bytes.
const SKILL_BYTES_MAX: usize = 256 << 10;
/// Bytes of all skills together: they travel in one message.
const SKILLS_BYTES_MAX: usize = 2 << 20;
/// Symlinks on the way to one skill.
const LINKS_MAX: usize = 8;
/// The longest target of a symlink, in bytes. Source: `PATH_MAX`, limits.h.
const TARGET_BYTES_MAX: usize = 4096;
/// Skills that are looked at.
const SKILLS_MAX: usize = 200;
/// The largest program of a hook, in bytes; one that is larger is not known again, so its hook never runs.
const PROGRAM_BYTES_MAX: usize = (4 << 20) - 1;
/// Files that a project's own file may name.
const PROGRAMS_MAX: usize = 200;
/// Words of it that are looked at.
const NAMES_MAX: usize = 400;
/// Folders that it may name.
const FOLDERS_MAX: usize = 12;

/// The skills of a tree, in the order of its folders.
///
/// # Errors
/// [`BootstrapError`]: the tree cannot be read.
pub fn skills(odb: &Odb<'_>, root: Oid) -> Result<Vec<SkillFile>, BootstrapError> {
    let (mut found, mut bytes) = (vec![], 0);
    for folder in SKILL_FOLDERS {
        let Some(folders) = follow(odb, root, folder)?.filter(|entry| entry.is_tree()) else { continue };
        for (name, entry) in tree::list(odb, folders.id)? {
            let Some(name) = std::str::from_utf8(&name).ok() else { continue };
            let place = format!("{folder}/{name}");
            let is_link = entry.mode == tree::SYMLINK;
            let leads_to = if is_link { follow(odb, root, &place)? } else { Some(entry) };
            if leads_to.is_some_and(|entry| !entry.is_tree()) {
                continue;
            }
            let file = follow(odb, root, &format!("{place}/SKILL.md"))?.filter(is_file);
            if found.len() >= SKILLS_MAX {
                return Ok(found);
            }
            let most = SKILL_BYTES_MAX.min(SKILLS_BYTES_MAX - bytes);
            let text = match file {
                Some(file) => content(odb, file.id, most)?.and_then(|bytes| String::from_utf8(bytes).ok()),
                // A link that leads nowhere here is told of; a folder without a skill is none.
                None if leads_to.is_none() => None,
                None => continue,
            };
            bytes += text.as_ref().map_or(0, String::len);
            found.push(SkillFile { path: format!("{place}/SKILL.md"), text });
        }
    }
    Ok(found)
}

/// What stands at a path, symlinks on the way followed; `None` when nothing does, or when they lead out of the tree.
fn follow(odb: &Odb<'_>, root: Oid, path: &str) -> Result<Option<tree::Entry>, BootstrapError> {
    let parts = |path: &str| path.split('/').rev().map(str::to_owned).collect::<Vec<_>>();
    let (mut ahead, mut at, mut links) = (parts(path), Vec::<String>::new(), 0);
    while let Some(part) = ahead.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." if at.pop().is_none() => return Ok(None),
            ".." => continue,
            _ => at.push(part),
        }
        let Some(entry) = tree::find(odb, root, at.join("/").as_bytes())? else { return Ok(None) };
        if entry.mode == tree::SYMLINK {
            links += 1;
            let target = content(odb, entry.id, TARGET_BYTES_MAX)?.and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(target) = target.filter(|target| !target.starts_with('/') && links <= LINKS_MAX) else {
                return Ok(None);
            };
            at.pop();
            ahead.extend(parts(&target));
        }
    }
    Ok(tree::find(odb, root, at.join("/").as_bytes())?)
}

/// The files of a tree that a project's own file names, whatever it names them for: by their path, by the end of an absolute
/// one, from a folder that it names as well, or as a module.
///
/// # Errors
/// [`BootstrapError`]: the tree cannot be read.
pub fn programs(odb: &Odb<'_>, root: Oid, text: &str) -> Result<Vec<ProjectProgram>, BootstrapError> {
    let names: BTreeSet<&str> = paths_named(text).take(NAMES_MAX).flat_map(ends).collect();
    let mut folders = vec![(String::new(), root)];
    for name in &names {
        if folders.len() >= FOLDERS_MAX {
            break;
        }
        let folder = tree::find(odb, root, name.as_bytes())?.filter(|entry| entry.is_tree());
        folders.extend(folder.map(|entry| (format!("{name}/"), entry.id)));
    }
    let mut found: Vec<ProjectProgram> = vec![];
    for (folder, tree) in &folders {
        for path in names.iter().flat_map(|name| forms(name)) {
            let known = format!("{folder}{path}");
            if found.len() >= PROGRAMS_MAX || found.iter().any(|program| program.path == known) {
                continue;
            }
            let Some(file) = tree::find(odb, *tree, path.as_bytes())?.filter(|entry| !entry.is_tree()) else {
                continue;
            };
            let held = if is_file(&file) { content(odb, file.id, PROGRAM_BYTES_MAX)? } else { None };
            // What is not known again is never what it was: its hook does not run.
            let digest = held.map_or(String::new(), |bytes| blake3::hash(&bytes).to_hex().to_string());
            found.push(ProjectProgram { path: known, digest });
        }
    }
    Ok(found)
}

/// A path and what it ends with, from each of its folders on; nothing that climbs.
fn ends(path: &str) -> impl Iterator<Item = &str> {
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
    let is_path = |path: &&str| !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    starts.map(|at| path[at..].trim_end_matches('/')).filter(is_path)
}

/// The files that may be meant by a name.
fn forms(name: &str) -> Vec<String> {
    let module = name.replace('.', "/");
    let files = FILE_ENDS.iter().map(|end| format!("{name}{end}"));
    files
        .chain(MODULE_ENDS.iter().map(|end| format!("{module}{end}")))
        .filter(|path| !path.starts_with('/') && !path.contains("//"))
        .collect()
}

fn is_file(entry: &tree::Entry) -> bool {
    entry.mode == tree::FILE || entry.mode == tree::EXECUTABLE
}

/// What a blob holds, unless it is longer than `most`.
fn content(odb: &Odb<'_>, id: Oid, most: usize) -> Result<Option<Vec<u8>>, BootstrapError> {
    match odb.read_header(id)? {
        (size, _) if size > most => Ok(None),
        _ => Ok(Some(odb.read(id)?.data().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_behind_links_is_found_while_they_stay_in_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init(folder.path()).unwrap();
        let tree = |entries: &[(&str, Oid, u32)]| {
            let mut tree = repository.treebuilder(None).unwrap();
            for (name, id, mode) in entries {
                tree.insert(name, *id, i32::try_from(*mode).unwrap()).unwrap();
            }
            tree.write().unwrap()
        };
        let link = |target: &str| repository.blob(target.as_bytes()).unwrap();
        let (text, odb) = (repository.blob(b"do this").unwrap(), repository.odb().unwrap());
        let skill = tree(&[("SKILL.md", text, tree::FILE)]);
        let plain = tree(&[("README", text, tree::FILE)]);
        let shared = tree(&[("a", skill, tree::DIRECTORY), ("plain", plain, tree::DIRECTORY)]);
        let linked_file = tree(&[("SKILL.md", link("../../shared/a/SKILL.md"), tree::SYMLINK)]);
        let skills = tree(&[
            ("absolute", link("/etc"), tree::SYMLINK),
            ("file", linked_file, tree::DIRECTORY),
            ("loop", link("loop"), tree::SYMLINK),
            ("near", link("../shared/./a"), tree::SYMLINK),
            ("none", link("../shared/plain"), tree::SYMLINK),
            ("out", link("../../shared/a"), tree::SYMLINK),
            ("real", skill, tree::DIRECTORY),
            ("text", link("../shared/a/SKILL.md"), tree::SYMLINK),
        ]);
        let own = tree(&[("skills", link("../shared"), tree::SYMLINK)]);
        let root = tree(&[
            (".swarm", own, tree::DIRECTORY),
            ("shared", shared, tree::DIRECTORY),
            ("skills", skills, tree::DIRECTORY),
        ]);
        let found = super::skills(&odb, root).unwrap();
        let has = |text: bool| {
            let all = found.iter().filter(|file| file.text.is_some() == text).map(|file| file.path.as_str());
            let mut all: Vec<&str> = all.collect();
            all.sort_unstable();
            all.join(" ")
        };
        assert_eq!(
            has(true),
            ".swarm/skills/a/SKILL.md skills/file/SKILL.md skills/near/SKILL.md skills/real/SKILL.md"
        );
        assert_eq!(has(false), "skills/absolute/SKILL.md skills/loop/SKILL.md skills/out/SKILL.md", "they are told of");
    }

    #[test]
    fn the_programs_of_a_project_are_known_by_whatever_it_calls_them() {
        let folder = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init(folder.path()).unwrap();
        let blob = repository.blob(b"exit 0").unwrap();
        let mut ci = repository.treebuilder(None).unwrap();
        for name in ["check", "look.py", "other"] {
            ci.insert(name, blob, 0o100_755).unwrap();
        }
        let mut root = repository.treebuilder(None).unwrap();
        root.insert("ci", ci.write().unwrap(), 0o040_000).unwrap();
        let (root, odb) = (root.write().unwrap(), repository.odb().unwrap());
        let check = |run: &str, expected: &[&str]| {
            let found = programs(&odb, root, &format!("run = \"{run}\"")).unwrap();
            let digest = blake3::hash(b"exit 0").to_hex().to_string();
            assert!(found.iter().all(|program| program.digest == digest));
            assert_eq!(found.iter().map(|program| program.path.as_str()).collect::<Vec<_>>(), expected, "{run}");
        };
        check("sh ./ci/check", &["ci/check"]);
        check("cd ci && sh ../ci/check", &["ci/check"]);
        check("cd ci; ./check", &["ci/check"]);
        check("sh /home/me/shop/ci/check && sh $PWD/ci/other", &["ci/check", "ci/other"]);
        check("python -m ci.look", &["ci/look.py"]);
        check("cd ci && python -m look", &["ci/look.py"]);
        check("echo x", &[]);
    }
}
