//! The tools for files, searches and programs, as the model sees them. What they do stands in their own rooms; here are
//! their names, their words and the shapes of their arguments.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::bash::{Shell, TIMEOUT_DEFAULT, TIMEOUT_MAX};
use super::files::{Files, plain};
use super::search::{self, Case, Search, Show, Tree};
use super::tool::{Effect, Naming, Tool, spec};
use super::{Refused, ToolResult};
use crate::agent::beneath::led_to;
use crate::agent::edit::{Edit, Occurrences};
use crate::agent::meanwhile::Meanwhile;
use crate::agent::notebook::{Change, Kind};
use crate::agent::patch::{self, FilePatch};
use crate::agent::permission::Act;
use crate::agent::setting::Setting;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    path: String,
    first_line: Option<usize>,
    lines: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    path: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditOne {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditMany {
    path: String,
    edits: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replacement {
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GlobFor {
    pattern: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrepFor {
    pattern: String,
    files: Option<String>,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    only_files: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bash {
    script: String,
    timeout_s: Option<u64>,
    #[serde(default)]
    background: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    number: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    path: String,
    action: CellAction,
    cell: usize,
    source: Option<String>,
    kind: Option<Kind>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CellAction {
    Replace,
    Insert,
    Delete,
}

/// Words that stand behind the result of a change of these files.
pub type AfterEdit = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

/// Nothing stands behind the results of changes.
pub fn silent() -> AfterEdit {
    Arc::new(|_| String::new())
}

/// The files of one agent, shared by its tools.
#[derive(Clone)]
struct Shared {
    root: PathBuf,
    files: Arc<Mutex<Files>>,
    after_edit: AfterEdit,
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.files)
    }

    /// Changes one file and says what came of it.
    fn change(&self, path: &str, change: impl FnOnce(&mut Files) -> ToolResult) -> ToolResult {
        // The lock is not held while others are asked about the change.
        let shown = change(&mut self.files())?;
        Ok(shown + &(self.after_edit)(&[plain(&self.root, path)?]))
    }
}

/// The tools for files, searches and programs below a worktree.
///
/// # Errors
/// Those of opening the worktree.
pub fn tools(setting: &Setting, tree: &Tree, after_edit: AfterEdit) -> std::io::Result<Vec<Tool>> {
    let files = Arc::new(Mutex::new(Files::new(&setting.root)?));
    let files = Shared { root: setting.root.clone(), files, after_edit };
    let shell = Arc::new(Mutex::new(Shell::new(setting.clone())));
    let mut tools = Vec::from(read_and_write(&files));
    tools.extend(edits(&files));
    tools.push(cell_edit(&files));
    tools.extend(searches(tree));
    tools.extend(programs(&shell, Meanwhile::begin(&setting.root)));
    Ok(tools)
}

/// A call that panicked left its value whole: everything in it is replaced at once or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call on one file is about to do.
fn on_file<A: 'static>(root: &Path, path: fn(&A) -> &str, effect: Effect) -> Naming<A> {
    let root = root.to_owned();
    Box::new(move |input, each| {
        let path = plain(&root, path(input))?;
        // A link is held to the rules of what it stands for, too.
        for path in [Some(path.clone()), led_to(&root, &path)].iter().flatten() {
            each(match effect {
                Effect::Reads => Act::Read(path),
                Effect::Changes => Act::Write(path),
            });
        }
        Ok(())
    })
}

fn read_and_write(files: &Shared) -> [Tool; 2] {
    let root = &files.root;
    let read = spec(
        "read",
        "Shows a text file with line numbers. A file has to be read before it is changed. Long files come in parts.",
        json!({
            "path": {"type": "string", "description": "relative to the worktree"},
            "first_line": {"type": "integer", "minimum": 1, "description": "where to begin; 1 if left out"},
            "lines": {"type": "integer", "minimum": 1, "description": "how many to show"},
        }),
        &["path"],
    );
    let write = spec(
        "write",
        "Writes a whole text file: a new one, or one that was read before. Say everything; nothing may be left out.",
        json!({
            "path": {"type": "string", "description": "relative to the worktree"},
            "text": {"type": "string", "description": "all that the file shall hold"},
        }),
        &["path", "text"],
    );
    let (reader, writer) = (files.clone(), files.clone());
    [
        Tool::new(read, Effect::Reads, on_file(root, |input: &Read| &input.path, Effect::Reads), move |input: Read| {
            reader.files().read(&input.path, input.first_line, input.lines)
        }),
        Tool::new(
            write,
            Effect::Changes,
            on_file(root, |input: &Write| &input.path, Effect::Changes),
            move |input: Write| writer.change(&input.path, |files| files.write(&input.path, &input.text)),
        ),
    ]
}

fn edits(files: &Shared) -> [Tool; 3] {
    let root = &files.root;
    let old =
        json!({"type": "string", "description": "lines as they stand in the file, enough of them to mean one place"});
    let new = json!({"type": "string", "description": "what is to stand there, whole"});
    let all = json!({"type": "boolean", "description": "replace every occurrence"});
    let path = json!({"type": "string", "description": "relative to the worktree"});
    let one = spec(
        "edit",
        "Replaces one passage of a file that was read before. Shows what changed.",
        json!({"path": path, "old": old, "new": new, "all": all}),
        &["path", "old", "new"],
    );
    let item = json!({
        "type": "object", "properties": {"old": old, "new": new, "all": all}, "required": ["old", "new"],
        "additionalProperties": false,
    });
    let many = spec(
        "multi_edit",
        "Replaces several passages of one file that was read before, in order: all of them, or none.",
        json!({"path": path, "edits": {"type": "array", "items": item, "minItems": 1}}),
        &["path", "edits"],
    );
    let patch = spec(
        "apply_patch",
        "Changes several files at once, or none of them. The patch begins with `*** Begin Patch`, ends with `*** End Patch`, \
         and names files by `*** Add File: `, `*** Delete File: ` or `*** Update File: ` (`*** Move to: ` may follow). Changed \
         passages begin with `@@` and a line from above them; their lines begin with a space, `-` or `+`.",
        json!({"patch": {"type": "string"}}),
        &["patch"],
    );
    let (a, b, c) = (files.clone(), files.clone(), files.clone());
    [
        Tool::new(
            one,
            Effect::Changes,
            on_file(root, |input: &EditOne| &input.path, Effect::Changes),
            move |input: EditOne| {
                let edits = [edit(&input.old, &input.new, input.all)];
                a.change(&input.path, |files| files.edit(&input.path, &edits))
            },
        ),
        Tool::new(
            many,
            Effect::Changes,
            on_file(root, |input: &EditMany| &input.path, Effect::Changes),
            move |input: EditMany| {
                let edits: Vec<Edit<'_>> = input.edits.iter().map(|one| edit(&one.old, &one.new, one.all)).collect();
                b.change(&input.path, |files| files.edit(&input.path, &edits))
            },
        ),
        Tool::new(patch, Effect::Changes, on_patch(root), move |input: Patch| {
            let shown = c.files().patch(&input.patch)?;
            let paths = changed_by(&c.root, &input.patch)?;
            Ok(shown + &(c.after_edit)(&paths))
        }),
    ]
}

fn edit<'a>(old: &'a str, new: &'a str, all: bool) -> Edit<'a> {
    Edit { old, new, occurrences: if all { Occurrences::All } else { Occurrences::One } }
}

fn on_patch(root: &Path) -> Naming<Patch> {
    let root = root.to_owned();
    Box::new(move |input, each| {
        // What it changes is shown, and may be moved to where it is looked at.
        for path in looked_at_by(&root, &input.patch)? {
            [Some(&path), led_to(&root, &path).as_ref()].into_iter().flatten().for_each(|path| each(Act::Read(path)));
        }
        changed_by(&root, &input.patch)?.iter().for_each(|path| each(Act::Write(path)));
        Ok(())
    })
}

/// The files that a patch changes as they are there.
fn looked_at_by(root: &Path, patch: &str) -> Result<Vec<String>, Refused> {
    let patches = patch::parse(patch).map_err(|error| Refused(error.to_string()))?;
    let looked_at = patches.iter().filter_map(|patch| match patch {
        FilePatch::Update { path, .. } | FilePatch::Delete { path } => Some(path),
        FilePatch::Add { .. } => None,
    });
    looked_at.map(|path| plain(root, path)).collect()
}

/// The files that a patch touches.
fn changed_by(root: &Path, patch: &str) -> Result<Vec<String>, Refused> {
    let patches = patch::parse(patch).map_err(|error| Refused(error.to_string()))?;
    let touched = patches.iter().flat_map(|patch| match patch {
        FilePatch::Add { path, .. } | FilePatch::Delete { path } => [Some(path), None],
        FilePatch::Update { path, moved_to, .. } => [Some(path), moved_to.as_ref()],
    });
    touched.flatten().map(|path| plain(root, path)).collect()
}

fn cell_edit(files: &Shared) -> Tool {
    let spec = spec(
        "notebook_edit",
        "Changes one cell of a Jupyter notebook that was read before. Outputs of a changed cell are dropped.",
        json!({
            "path": {"type": "string", "description": "relative to the worktree"},
            "action": {"type": "string", "enum": ["replace", "insert", "delete"]},
            "cell": {"type": "integer", "minimum": 1, "description": "its number; a new cell gets this number"},
            "source": {"type": "string", "description": "the whole cell; not for `delete`"},
            "kind": {"type": "string", "enum": ["code", "markdown", "raw"], "description": "code for a new cell if left out"},
        }),
        &["path", "action", "cell"],
    );
    let acts = on_file(&files.root, |input: &Cell| &input.path, Effect::Changes);
    let files = files.clone();
    Tool::new(spec, Effect::Changes, acts, move |input: Cell| {
        let source = input.source.ok_or_else(|| Refused::new("`source` is missing"));
        let (cell, kind) = (input.cell, input.kind);
        let change = match input.action {
            CellAction::Replace => Change::Replace { cell, source: source?, kind },
            CellAction::Insert => Change::Insert { cell, source: source?, kind: kind.unwrap_or(Kind::Code) },
            CellAction::Delete => Change::Delete { cell },
        };
        files.change(&input.path, |files| files.notebook(&input.path, &change))
    })
}

fn searches(tree: &Tree) -> [Tool; 2] {
    let glob = spec(
        "glob",
        "Finds files by their paths, newest first. What git ignores is left out.",
        json!({"pattern": {"type": "string", "description": "such as `src/**/*.rs`; without a slash, files anywhere"}}),
        &["pattern"],
    );
    let grep = spec(
        "grep",
        "Finds lines that match a regular expression. What git ignores is left out.",
        json!({
            "pattern": {"type": "string", "description": "a regular expression over one line"},
            "files": {"type": "string", "description": "a glob: only in these files"},
            "ignore_case": {"type": "boolean"},
            "only_files": {"type": "boolean", "description": "name the files, not the lines"},
        }),
        &["pattern"],
    );
    let (here, there) = (tree.clone(), tree.clone());
    [
        Tool::new(glob, Effect::Reads, everywhere, move |input: GlobFor| search::glob(&here, &input.pattern)),
        Tool::new(grep, Effect::Reads, everywhere, move |input: GrepFor| {
            let search = Search {
                pattern: &input.pattern,
                within: input.files.as_deref(),
                case: if input.ignore_case { Case::Insensitive } else { Case::Sensitive },
                show: if input.only_files { Show::Files } else { Show::Lines },
            };
            search::grep(&there, &search)
        }),
    ]
}

/// A look at the whole worktree.
fn everywhere<A>(_: &A, each: &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> {
    each(Act::Read("."));
    Ok(())
}

fn programs(shell: &Arc<Mutex<Shell>>, meanwhile: Meanwhile) -> [Tool; 3] {
    let bash = spec(
        "bash",
        &format!(
            "Runs a script in the worktree and shows what it prints. It is ended after {} s unless `timeout_s` says otherwise. \
             With `background` it goes on beside the conversation: look at it with `bash_output`, end it with `bash_kill`. \
             Nobody can type into it.",
            TIMEOUT_DEFAULT.as_secs()
        ),
        json!({
            "script": {"type": "string"},
            "timeout_s": {"type": "integer", "minimum": 1, "maximum": TIMEOUT_MAX.as_secs()},
            "background": {"type": "boolean"},
        }),
        &["script"],
    );
    let number = json!({"number": {"type": "integer", "minimum": 1, "description": "as `bash` gave it"}});
    let output = spec(
        "bash_output",
        "Shows what a program in the background has printed since it was looked at last, and whether it still runs.",
        number.clone(),
        &["number"],
    );
    let kill = spec("bash_kill", "Ends a program in the background, with all that it started.", number, &["number"]);
    let (a, b, c) = (shell.clone(), shell.clone(), shell.clone());
    let acts = move |input: &Bash, each: &mut dyn FnMut(Act<'_>)| {
        each(Act::Run(&input.script));
        meanwhile.each(&input.script, each);
        Ok(())
    };
    let run = move |input: Bash| -> ToolResult {
        if input.background {
            return lock(&a).run_in_background(&input.script);
        }
        lock(&a).run(&input.script, input.timeout_s.map(Duration::from_secs))
    };
    [
        Tool::new(bash, Effect::Changes, acts, run),
        Tool::own(output, Effect::Reads, move |input: Number| lock(&b).poll(input.number)),
        Tool::own(kill, Effect::Changes, move |input: Number| lock(&c).kill(input.number)),
    ]
}
