//! What a project has for agents beside the words that they are told: its skills, and the programs of its hooks. Read from a
//! tree, never from a worktree: what an agent makes of them while it works, or a change that is looked at, is not the project's
//! word. Symlinks are not followed.

use std::collections::BTreeSet;

use git2::{Odb, Oid};
use swarm_protocol::toolset::{FILE_ENDS, MODULE_ENDS, ProjectProgram, SKILL_FOLDERS, SkillFile, paths_named};

use super::bootstrap::BootstrapError;
use crate::tree;

/// The longest file of a skill that is given, in bytes.
const SKILL_BYTES_MAX: usize = 256 << 10;
/// Bytes of all skills together: they travel in one message.
const SKILLS_BYTES_MAX: usize = 2 << 20;
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
        let Some(folders) = tree::find(odb, root, folder.as_bytes())?.filter(|entry| entry.is_tree()) else { continue };
        for (name, entry) in tree::list(odb, folders.id)? {
            let Some(name) = std::str::from_utf8(&name).ok().filter(|_| entry.is_tree()) else { continue };
            let Some(file) = tree::find(odb, entry.id, b"SKILL.md")?.filter(is_file) else { continue };
            if found.len() >= SKILLS_MAX {
                return Ok(found);
            }
            let most = SKILL_BYTES_MAX.min(SKILLS_BYTES_MAX - bytes);
            let text = content(odb, file.id, most)?.and_then(|bytes| String::from_utf8(bytes).ok());
            bytes += text.as_ref().map_or(0, String::len);
            found.push(SkillFile { path: format!("{folder}/{name}/SKILL.md"), text });
        }
    }
    Ok(found)
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
