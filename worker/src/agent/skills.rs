//! Skills: folders with instructions for one kind of work. Their names and first words are told to the model; the body is
//! loaded on use. They are files of the project, so they can widen nothing.
//!
//! The coordinator sends them as they stood before the work, as it does with the project's own file: neither what this agent
//! makes of them nor a change that it looks at is told to it as the project's word.

use serde::Deserialize;
use swarm_protocol::toolset::{SKILL_FOLDERS, SkillFile};

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
    /// Its folder, relative to the worktree.
    pub folder: String,
    /// Its instructions, without their head.
    pub body: String,
}

#[derive(Debug, Default, Deserialize)]
struct Head {
    #[serde(default)]
    description: Option<String>,
}

/// All skills, by name, and what is wrong with the others.
pub fn of(files: &[SkillFile]) -> (Vec<Skill>, Vec<String>) {
    let (mut skills, mut problems): (Vec<Skill>, Vec<String>) = (vec![], vec![]);
    for folder in SKILL_FOLDERS {
        for file in files {
            let name = file.path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            let Some(name) = name.and_then(|rest| rest.strip_suffix("/SKILL.md")) else { continue };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !name.chars().all(plain) {
                continue;
            }
            if let Some(before) = skills.iter().find(|skill| skill.name == name) {
                let hidden =
                    format!("the skill {} is hidden by {}/SKILL.md, which has its name", file.path, before.folder);
                problems.push(hidden);
                continue;
            }
            match &file.text {
                Some(text) => {
                    let description = description(text).unwrap_or_else(|instead| {
                        problems.push(format!(
                            "the head of the skill {} is no YAML and has no line `description: …`: its description is `{instead}`",
                            file.path
                        ));
                        instead
                    });
                    skills.push(Skill {
                        name: name.to_owned(),
                        description,
                        folder: format!("{folder}/{name}"),
                        body: split(text).1.trim().to_owned(),
                    });
                }
                None => problems.push(format!(
                    "the skill {} is too long, no text, or behind a link that leads out of the repository or nowhere",
                    file.path
                )),
            }
        }
    }
    skills.sort_by(|a, b| a.name.cmp(&b.name));
    skills.truncate(SKILLS_MAX);
    (skills, problems)
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

/// What the head says, else the first line of the body that says something. A head that is no YAML, often for a colon in its
/// words, is read for the one line that begins with `description:`.
///
/// # Errors
/// The body's line, where the head cannot be read in either way.
fn description(text: &str) -> Result<String, String> {
    let (head, body) = split(text);
    let first = || body.lines().map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
    let of_body = || one_line(first().unwrap_or_default());
    if head.trim().is_empty() {
        return Ok(of_body());
    }
    match serde_yaml_ng::from_str::<Head>(head) {
        Ok(head) => Ok(head.description.map_or_else(of_body, |words| one_line(&words))),
        Err(_) => {
            let line = head.lines().find_map(|line| line.strip_prefix("description:")).map(one_line);
            line.filter(|line| !line.is_empty()).ok_or_else(of_body)
        }
    }
}

fn one_line(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(DESCRIPTION_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skills_are_found_by_name_and_given_without_their_head() {
        let file =
            |(path, text): &(&str, Option<&str>)| SkillFile { path: (*path).to_owned(), text: text.map(str::to_owned) };
        let files = [
            ("skills/b/SKILL.md", Some("# Review\nlook\n")),
            ("skills/a/SKILL.md", Some("hidden")),
            (
                ".swarm/skills/a/SKILL.md",
                Some("---\nname: a\ndescription: >-\n  When tests\n  fail.\n---\n\nDo this.\n"),
            ),
            ("skills/c/README.md", Some("none")),
            ("skills/d/SKILL.md", None),
        ];
        let (skills, problems) = of(&files.iter().map(file).collect::<Vec<_>>());
        let told: Vec<_> = skills.iter().map(|skill| (skill.name.as_str(), skill.description.as_str())).collect();
        assert_eq!(told, [("a", "When tests fail."), ("b", "Review")]);
        assert_eq!((skills[0].body.as_str(), skills[0].folder.as_str()), ("Do this.", ".swarm/skills/a"));
        assert_eq!(skills[1].body, "# Review\nlook");
        let hidden = "the skill skills/a/SKILL.md is hidden by .swarm/skills/a/SKILL.md, which has its name";
        assert_eq!(problems.len(), 2);
        assert!(problems[0] == hidden && problems[1].starts_with("the skill skills/d/SKILL.md is too long, no text"));
    }

    #[test]
    fn a_head_that_cannot_be_read_is_no_harm() {
        assert_eq!(description("---\n: [\n---\nbody"), Err("body".to_owned()));
        assert_eq!(description("---\nno end"), Ok("---".to_owned()));
        let file = SkillFile { path: "skills/a/SKILL.md".to_owned(), text: Some("---\n: [\n---\nbody".to_owned()) };
        let (skills, problems) = of(&[file]);
        assert!(skills.len() == 1 && problems[0].contains("skills/a/SKILL.md is no YAML"), "{problems:?}");
    }

    #[test]
    fn a_head_that_is_no_strict_yaml_still_says_what_the_skill_is_for() {
        let said = |line: &str| description(&format!("---\nname: a\n{line}\n---\nbody"));
        let colon = "Use when: the user says: x";
        assert_eq!(said(&format!("description: {colon}")), Ok(colon.to_owned()));
        assert_eq!(said("description: [draft] a skill\r"), Ok("[draft] a skill".to_owned()));
        assert_eq!(said("description: a \u{1b}b"), Ok("a b".to_owned()));
        assert_eq!(said("license: MIT"), Ok("body".to_owned()));
    }
}
