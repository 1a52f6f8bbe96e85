//! Tools within the agent: the list of things to do, notes for later tasks, skills, and the report at the end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::tool::{Effect, Tool, spec};
use super::{Refused, TEXT_BYTES_MAX, ToolResult, bounded};
use crate::agent::setting::Setting;
use crate::agent::skills::Skill;

/// The file of notes within what a task hands over.
pub const NOTES_FILE: &str = "notes.md";
/// The most things of a list.
const ITEMS_MAX: usize = 100;
/// Bytes of notes that one task may leave.
const NOTES_BYTES_MAX: u64 = 64 << 10;
/// Bytes of all notes that a task receives.
const RECEIVED_BYTES_MAX: usize = 24 << 10;

/// How a thing to do stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stands {
    Pending,
    InProgress,
    Done,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    text: String,
    status: Stands,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Todo {
    items: Vec<Item>,
}

/// The list of things to do: written whole each time, so that the model reads it whole each time.
pub fn todo() -> Tool {
    let spec = spec(
        "todo",
        "Keeps the list of what is to be done. Give the whole list each time; at most one thing is in progress. For work of \
         three steps or more.",
        json!({"items": {"type": "array", "maxItems": ITEMS_MAX, "items": {
            "type": "object", "required": ["text", "status"], "additionalProperties": false, "properties": {
                "text": {"type": "string"},
                "status": {"type": "string", "enum": ["pending", "in_progress", "done"]},
            },
        }}}),
        &["items"],
    );
    Tool::own(spec, Effect::Changes, |input: Todo| listed(&input.items))
}

fn listed(items: &[Item]) -> ToolResult {
    if items.len() > ITEMS_MAX {
        return Err(Refused(format!("a list has at most {ITEMS_MAX} things")));
    }
    if items.iter().filter(|item| item.status == Stands::InProgress).count() > 1 {
        return Err(Refused::new("more than one thing is in progress; do one after the other"));
    }
    let line = |item: &Item| {
        let mark = match item.status {
            Stands::Pending => "[ ]",
            Stands::InProgress => "[>]",
            Stands::Done => "[x]",
        };
        format!("{mark} {}\n", item.text.replace('\n', " "))
    };
    let done = items.iter().filter(|item| item.status == Stands::Done).count();
    Ok(items.iter().map(line).chain([format!("{done} of {} done", items.len())]).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
}

/// Notes for the tasks that need this one: a file among what it hands over. `None` where nothing can be handed over.
pub fn note(setting: &Setting) -> Option<Tool> {
    let path = Path::new(setting.variable("SWARM_ARTIFACTS")?).join(NOTES_FILE);
    let spec = spec(
        "note",
        "Leaves a note to the tasks that come after this one: what they could not see from the files alone. Notes are kept in \
         order.",
        json!({"text": {"type": "string"}}),
        &["text"],
    );
    Some(Tool::own(spec, Effect::Changes, move |input: Note| add_note(&path, &input.text)))
}

fn add_note(path: &Path, text: &str) -> ToolResult {
    let fail = |error: std::io::Error| Refused(format!("keep the note: {error}"));
    let text = text.trim();
    if text.is_empty() {
        return Err(Refused::new("the note is empty"));
    }
    let mut file = std::fs::File::options().create(true).append(true).open(path).map_err(fail)?;
    let before = file.metadata().map_err(fail)?.len();
    if before + text.len() as u64 > NOTES_BYTES_MAX {
        return Err(Refused(format!("all notes together have at most {} KiB", NOTES_BYTES_MAX >> 10)));
    }
    let gap = if before == 0 { "" } else { "\n" };
    file.write_all(format!("{gap}{text}\n").as_bytes()).map_err(fail)?;
    Ok("it is kept".to_owned())
}

/// The notes that a task's needs left, by need, for its first message. They are what other agents wrote: information, not
/// orders; whoever shows them says so.
pub fn received_notes(setting: &Setting) -> Vec<(String, String)> {
    let Some(needs) = setting.variable("SWARM_NEEDS") else { return vec![] };
    let Ok(folders) = std::fs::read_dir(needs) else { return vec![] };
    let mut notes = BTreeMap::new();
    for folder in folders.flatten() {
        let path = folder.path().join(NOTES_FILE);
        let is_file = path.symlink_metadata().is_ok_and(|facts| facts.is_file() && facts.len() <= NOTES_BYTES_MAX * 2);
        if let Some(text) = is_file.then(|| std::fs::read_to_string(&path).ok()).flatten() {
            notes.insert(folder.file_name().to_string_lossy().into_owned(), text);
        }
    }
    let each = RECEIVED_BYTES_MAX / notes.len().max(1);
    notes.into_iter().map(|(need, text)| (need, bounded(text.trim(), each))).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UseSkill {
    name: String,
}

/// Skills: the model sees their names and when to use them, and loads one when it does. `None` where there are none.
pub fn skill(skills: Vec<Skill>) -> Option<Tool> {
    if skills.is_empty() {
        return None;
    }
    let listed: String = skills.iter().map(|skill| format!("\n- {}: {}", skill.name, skill.description)).collect();
    let names: Vec<&str> = skills.iter().map(|skill| skill.name.as_str()).collect();
    let spec = spec(
        "skill",
        &format!("Loads the instructions for a kind of work; do so before such work begins. There are:{listed}"),
        json!({"name": {"type": "string", "enum": names}}),
        &["name"],
    );
    Some(Tool::own(spec, Effect::Reads, move |input: UseSkill| {
        let skill = skills.iter().find(|skill| skill.name == input.name);
        let skill = skill.ok_or_else(|| Refused(format!("there is no skill `{}`", input.name)))?;
        let Skill { folder, body, .. } = skill;
        Ok(bounded(&format!("Files that it names lie in {folder}/.\n\n{body}"), TEXT_BYTES_MAX))
    }))
}

/// What an agent says of its own work. Whether it is done, checks decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// As the agent sees it.
    pub status: ReportStatus,
    /// What was done, in a few sentences.
    pub summary: String,
    /// What shows it: commands that were run and what they said, files.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// What is left to others.
    #[serde(default)]
    pub follow_ups: Vec<String>,
}

/// How an agent sees its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportStatus {
    /// All of it.
    Done,
    /// Some of it.
    Partial,
    /// It cannot go on; `summary` says why.
    Blocked,
}

/// The report at the end: the tool, and where the newest report is found once it was given.
pub fn finish() -> (Tool, Arc<Mutex<Option<Report>>>) {
    let spec = spec(
        "finish",
        "Reports on the work and ends it. Call it alone, as the last thing. Say what is so: the work is checked afterwards.",
        json!({
            "status": {"type": "string", "enum": ["done", "partial", "blocked"]},
            "summary": {"type": "string", "description": "what was done, in a few sentences"},
            "evidence": {"type": "array", "items": {"type": "string"},
                "description": "what shows it: commands that were run and what they said"},
            "follow_ups": {"type": "array", "items": {"type": "string"}, "description": "what is left to others"},
        }),
        &["status", "summary"],
    );
    let given = Arc::new(Mutex::new(None));
    let cell = given.clone();
    let tool = Tool::own(spec, Effect::Changes, move |input: Report| {
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
        Ok("reported".to_owned())
    });
    (tool.to_hand_over(), given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tools::tool::Input;

    fn input(value: serde_json::Value) -> Input {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_list_is_shown_whole_and_has_one_thing_in_progress() {
        let todo = todo();
        let items = json!({"items": [
            {"text": "a", "status": "done"}, {"text": "b", "status": "in_progress"}, {"text": "c", "status": "pending"},
        ]});
        assert_eq!(todo.run(&input(items)).unwrap(), "[x] a\n[>] b\n[ ] c\n1 of 3 done");
        let two = json!({"items": [{"text": "a", "status": "in_progress"}, {"text": "b", "status": "in_progress"}]});
        assert!(todo.run(&input(two)).is_err());
    }

    #[test]
    fn notes_reach_the_tasks_behind() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = folder.path().join("survey[os=a]");
        std::fs::create_dir(&artifacts).unwrap();
        let named = |name: &str, path: &Path| (name.to_owned(), path.to_str().unwrap().to_owned());
        let writer = Setting { env: vec![named("SWARM_ARTIFACTS", &artifacts)], ..Setting::default() };
        let note = note(&writer).unwrap();
        note.run(&input(json!({"text": "first"}))).unwrap();
        note.run(&input(json!({"text": " second\n"}))).unwrap();
        assert!(note.run(&input(json!({"text": "x".repeat(NOTES_BYTES_MAX as usize)}))).is_err());
        let reader = Setting { env: vec![named("SWARM_NEEDS", folder.path())], ..Setting::default() };
        assert_eq!(received_notes(&reader), [("survey[os=a]".to_owned(), "first\n\nsecond".to_owned())]);
        assert!(super::note(&Setting::default()).is_none());
    }

    #[test]
    fn a_report_is_kept_for_the_end() {
        let (finish, given) = finish();
        assert!(finish.run(&input(json!({"status": "perfect", "summary": "x"}))).is_err());
        finish.run(&input(json!({"status": "partial", "summary": "x", "evidence": null}))).unwrap();
        assert_eq!(given.lock().unwrap().as_ref().unwrap().status, ReportStatus::Partial);
    }
}
