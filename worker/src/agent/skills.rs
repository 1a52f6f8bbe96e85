//! Skills: folders with instructions for one kind of work, found in the worktree. Their names and first words are told to
//! the model; the body is loaded on use. They are files of the project, so they can widen nothing.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde::Deserialize;

use super::beneath;

/// Where skills lie, first to last; a name in an earlier folder hides it in a later one.
const FOLDERS: &[&str] = &[".swarm/skills", "skills"];
/// The longest file of a skill that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Skills that are told of.
const SKILLS_MAX: usize = 100;
/// The longest description that is told, in characters.
const DESCRIPTION_CHARS_MAX: usize = 500;

/// A skill as the model sees it before it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// Its folder's name.
    pub name: String,
    /// When to use it; one line.
    pub description: String,
    /// `SKILL.md`, relative to the worktree.
    pub file: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
struct Head {
    #[serde(default)]
    description: Option<String>,
}

/// All skills of a worktree, by name; what cannot be read is left out.
pub fn find(root: &Path) -> Vec<Skill> {
    let mut skills: Vec<Skill> = vec![];
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.chars().all(plain) || skills.iter().any(|skill| skill.name == name) {
                continue;
            }
            let file = Path::new(folder).join(&name).join("SKILL.md");
            if let Ok(text) = read(root, &file) {
                let description = description(&text);
                skills.push(Skill { name, description, file });
            }
        }
    }
    skills.sort_by(|a, b| a.name.cmp(&b.name));
    skills.truncate(SKILLS_MAX);
    skills
}

/// A skill's instructions, without its head.
///
/// # Errors
/// Those of reading the file, which a program may have changed since it was found.
pub fn body(root: &Path, skill: &Skill) -> io::Result<String> {
    Ok(split(&read(root, &skill.file)?).1.trim().to_owned())
}

/// Reads a file that no link leads to from outside of the worktree.
fn read(root: &Path, file: &Path) -> io::Result<String> {
    let root = rustix::fs::openat(CWD, root, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let opened = beneath::open(&root, &file.to_string_lossy(), OFlags::RDONLY | OFlags::NONBLOCK)?;
    let opened = std::fs::File::from(opened);
    if !opened.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    if opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
    }
    Ok(text)
}

/// The head between `---` lines, where there is one, and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return ("", text) };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return (&rest[..at], &rest[at + line.len()..]);
        }
        at += line.len();
    }
    ("", text)
}

/// What the head says, else the first line of the body that says something.
fn description(text: &str) -> String {
    let (head, body) = split(text);
    let head: Head = serde_yaml_ng::from_str(head).unwrap_or_default();
    let first = || body.lines().map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
    let words = head.description.unwrap_or_else(|| first().unwrap_or_default().to_owned());
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(DESCRIPTION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worktree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn skills_are_found_by_name_and_loaded_without_their_head() {
        let folder = worktree(&[
            ("skills/b/SKILL.md", "# Review\nlook\n"),
            ("skills/a/SKILL.md", "hidden"),
            (".swarm/skills/a/SKILL.md", "---\nname: a\ndescription: >-\n  When tests\n  fail.\n---\n\nDo this.\n"),
            ("skills/c/README.md", "none"),
        ]);
        let skills = find(folder.path());
        let told: Vec<_> = skills.iter().map(|skill| (skill.name.as_str(), skill.description.as_str())).collect();
        assert_eq!(told, [("a", "When tests fail."), ("b", "Review")]);
        assert_eq!(body(folder.path(), &skills[0]).unwrap(), "Do this.");
        assert_eq!(body(folder.path(), &skills[1]).unwrap(), "# Review\nlook");
    }

    #[test]
    fn a_link_out_of_the_worktree_is_no_skill() {
        let outside = worktree(&[("SKILL.md", "secret")]);
        let folder = worktree(&[("skills/x/other", "")]);
        std::os::unix::fs::symlink(outside.path().join("SKILL.md"), folder.path().join("skills/x/SKILL.md")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("skills/y")).unwrap();
        assert_eq!(find(folder.path()), []);
    }

    #[test]
    fn a_head_that_cannot_be_read_is_no_harm() {
        assert_eq!(description("---\n: [\n---\nbody"), "body");
        assert_eq!(description("---\nno end"), "---");
    }
}
