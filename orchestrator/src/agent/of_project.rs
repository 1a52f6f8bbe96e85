//! What a project has for agents beside the words that they are told: its skills, and the programs of its hooks. Read from a
//! tree, never from a worktree: what an agent makes of them while it works, or a change that is looked at, is not the project's
//! word. Symlinks are not followed.

use git2::{Odb, Oid};
use swarm_protocol::toolset::{ProjectProgram, SKILL_FOLDERS, SkillFile, paths_named};

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

/// The files of a tree that a project's own file names, whatever it names them for.
///
/// # Errors
/// [`BootstrapError`]: the tree cannot be read.
pub fn programs(odb: &Odb<'_>, root: Oid, text: &str) -> Result<Vec<ProjectProgram>, BootstrapError> {
    let mut found: Vec<ProjectProgram> = vec![];
    for path in paths_named(text) {
        let is_path = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if !is_path || found.len() >= PROGRAMS_MAX || found.iter().any(|known| known.path == path) {
            continue;
        }
        let Some(file) = tree::find(odb, root, path.as_bytes())?.filter(|entry| !entry.is_tree()) else { continue };
        let held = if is_file(&file) { content(odb, file.id, PROGRAM_BYTES_MAX)? } else { None };
        // What is not known again is never what it was: its hook does not run.
        let digest = held.map_or(String::new(), |bytes| blake3::hash(&bytes).to_hex().to_string());
        found.push(ProjectProgram { path: path.to_owned(), digest });
    }
    Ok(found)
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
