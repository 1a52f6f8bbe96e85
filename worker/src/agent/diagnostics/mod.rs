//! What language servers say of files that were just changed. A server is started when the first file of its language is
//! changed, if it is installed; an edit waits for its word for a moment and never longer, and what comes later is told with
//! the next edit, or when the model asks.

/// A conversation with one server.
mod client;
/// What a server says, for the model.
mod findings;
/// Messages over a byte stream.
mod frame;
/// Which program looks after which files.
mod servers;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::beneath::led_to;
use super::permission::Act;
use super::setting::Setting;
use super::tools::files::plain;
use super::tools::tool::spec;
use super::tools::{Effect, Refused, Tool, ToolResult};
use client::{Client, News, address};
use findings::{Shown, Told, words};
use servers::{Language, language};

/// How long an edit waits for all servers together.
const EDIT_PATIENCE: Duration = Duration::from_secs(2);
/// How long the model's own question waits.
const ASKED_PATIENCE: Duration = Duration::from_secs(30);
/// The longest file that a server is told of, in bytes.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// The language servers of one agent.
#[derive(Debug)]
pub struct Diagnostics {
    setting: Setting,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By program; `None` for one that is not installed, could not be started or has ended.
    clients: HashMap<&'static str, Option<Client>>,
    told: HashMap<String, Told>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    path: String,
}

impl Diagnostics {
    /// None is started yet.
    pub fn new(setting: Setting) -> Arc<Diagnostics> {
        Arc::new(Diagnostics { setting, state: Mutex::default() })
    }

    /// Words to stand behind the result of an edit that changed `paths` below the worktree; nothing where nobody has
    /// anything to say in time.
    pub fn after_edit(&self, paths: &[String]) -> String {
        let until = Instant::now() + EDIT_PATIENCE;
        let said = paths.iter().filter_map(|path| self.ask(path, until, Shown::New).ok().flatten());
        said.map(|words| format!("\n{words}")).collect()
    }

    /// The tool by which the model asks itself; `None` where no server is installed.
    pub fn tool(self: &Arc<Self>) -> Option<Tool> {
        let installed = |language: &Language| {
            language.programs.iter().any(|program| self.setting.find_program(program[0]).is_some())
        };
        servers::LANGUAGES.iter().any(installed).then(|| self.always_tool())
    }

    fn always_tool(self: &Arc<Self>) -> Tool {
        let spec = spec(
            "diagnostics",
            "Asks the language server what is wrong with a file, and waits for its answer. Edits tell by themselves what comes \
             at once.",
            json!({"path": {"type": "string", "description": "relative to the worktree"}}),
            &["path"],
        );
        let (root, this) = (self.setting.root.clone(), self.clone());
        let run = move |input: Asked| -> ToolResult {
            let path = plain(&this.setting.root, &input.path)?;
            let said = this.ask(&path, Instant::now() + ASKED_PATIENCE, Shown::All)?;
            Ok(said.unwrap_or_else(|| format!("nothing is wrong with {path}")))
        };
        let acts = move |input: &Asked, each: &mut dyn FnMut(Act<'_>)| {
            let path = plain(&root, &input.path)?;
            each(Act::Read(&path));
            led_to(&root, &path).iter().for_each(|path| each(Act::Read(path)));
            Ok(())
        };
        Tool::new(spec, Effect::Reads, acts, run)
    }

    /// What the file's server says of it as it is now.
    fn ask(&self, path: &str, until: Instant, shown: Shown) -> Result<Option<String>, Refused> {
        let language = language(path).ok_or_else(|| Refused(format!("no language server is known for {path}")))?;
        let text = read(&self.setting.root.join(path)).map_err(|error| Refused(format!("{path}: {error}")))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { clients, told } = &mut *state;
        let server = language.programs[0][0];
        let entry = clients.entry(server).or_insert_with(|| self.start(language));
        let gone = |why: String| {
            let why = if why.is_empty() { "it is not installed, or has ended".to_owned() } else { why };
            Refused(format!("{server} cannot be used: {why}"))
        };
        let client = entry.as_mut().ok_or_else(|| gone(String::new()))?;
        let uri = address(&self.setting, path);
        client.tell(&uri, language.id, &text);
        let ready = client.is_ready(until.saturating_duration_since(Instant::now()));
        match client.wait(&uri, if ready { until } else { Instant::now() }) {
            News::Found(findings) => {
                Ok(words(path, server, &findings, told.entry(path.to_owned()).or_default(), shown))
            }
            News::Silent if ready => Err(Refused(format!("{server} has said nothing of {path} yet; ask again later"))),
            News::Silent => Err(Refused(format!("{server} is still starting; ask again later"))),
            News::Gone(why) => {
                *entry = None;
                Err(gone(why))
            }
        }
    }

    fn start(&self, language: &Language) -> Option<Client> {
        language.programs.iter().find_map(|program| {
            let found = self.setting.find_program(program[0])?;
            Client::start(&self.setting, &found, &program[1..]).ok()
        })
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // Not through a link: the file tools do not follow one out of the worktree either.
    let facts = path.symlink_metadata()?;
    if !facts.is_file() || facts.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is no file that a language server is told of"));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
mod tests;
