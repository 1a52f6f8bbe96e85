//! Answers on tape: `--record` keeps every answer of a run beside what was asked, and why there was none where there was none;
//! `--replay` gives them again without a socket. A recording is found by what was asked, in a form that does not depend on the order of keys; the same question
//! asked twice has two recordings, taken one after the other, an instance's own first. Ids and times find their way into what
//! is asked, through programs and tools: where nothing answers exactly that, what its instance asked alike is given, in the
//! order of then; and where nothing does that, what it asked alike with other tools at hand, since those grow with each version of
//! this program.
//! What was given is kept in the run: one that is resumed goes on with it, and hears once more what was on the way.
//!
//! A recording holds what was asked and the bytes of the answer, never a header: no key can be in it, and where an answer
//! repeats a key all the same, it is struck out before it comes here.

/// What two runs of one program have in common in what they ask.
mod alike;
/// Which recordings a run was given.
mod given;
/// What a recording says.
mod said;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use swarm_plans::InstanceId;
use swarm_protocol::chat::{Dialect, ModelRequest};

use self::alike::{alike, alike_of_agent};
use self::given::Given;
pub use self::said::{Page, Refused, Said};
use crate::state::write_whole;

/// The version of the files; since 2 they say of a call that was refused why.
const VERSION: u32 = 2;
/// The oldest version that is understood.
const VERSION_MIN: u32 = 1;
/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 60;
/// The longest recording that is read, in bytes.
const RECORDING_BYTES_MAX: u64 = 256 << 20;

/// Where answers come from.
#[derive(Debug, Default)]
pub enum Tape {
    /// From the models.
    #[default]
    Off,
    /// From the models, and every one is kept.
    Record(Recorder),
    /// From a folder of recordings; nobody is called.
    Replay(Box<Player>),
}

/// Why a folder of recordings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// It holds recordings of another run.
    #[error("record into {}: it holds recordings already; name another folder, or remove it", .0.display())]
    NotEmpty(PathBuf),
    /// It holds none at all.
    #[error("replay {}: there are no recordings in it", .0.display())]
    Empty(PathBuf),
    /// A file in it is no recording.
    #[error("read the recording {}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The file system's word.
    #[error("use the recordings in {}: {source}", path.display())]
    Io {
        /// The folder, or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PartialEq for TapeError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// A question that no recording answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no recording in {} answers {instance} asking {model}: {detail}", folder.display())]
pub struct Missing {
    /// The folder.
    pub folder: PathBuf,
    /// Who asked.
    pub instance: InstanceId,
    /// Which model, as asked for.
    pub model: String,
    /// The nearest recording and what differs first, for people.
    pub detail: String,
}

/// What was asked, so that it is found again.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Keys in order.
    request: Value,
    hash: blake3::Hash,
    /// What it has in common with the same question of another run.
    alike: blake3::Hash,
    /// The same of an agent that has other tools; `None` for a program, and for an agent without any.
    besides_tools: Option<blake3::Hash>,
}

impl Question {
    /// Of an agent: in the words of no provider, with the model as the plan names it.
    pub fn of_agent(request: &ModelRequest) -> Self {
        Question::new(serde_json::to_value(request).expect("plain data"))
    }

    /// Of a program that speaks a provider's HTTP.
    pub fn of_program(path: &str, body: &Value) -> Self {
        Question::new(Value::Object(Map::from_iter([
            ("body".to_owned(), body.clone()),
            ("path".to_owned(), path.into()),
        ])))
    }

    fn new(request: Value) -> Self {
        let request = canonical(request);
        let hash = |request: &Value| blake3::hash(request.to_string().as_bytes());
        let is_of_program = request.get("path").is_some() && request.get("body").is_some();
        let mut common = if is_of_program { alike(&request) } else { alike_of_agent(&request) };
        let alike = hash(&common);
        let tools = common.as_object_mut().filter(|_| !is_of_program).and_then(|fields| fields.remove("tools"));
        let besides_tools = tools.filter(|tools| tools.as_array().is_some_and(|all| !all.is_empty()));
        Question { hash: hash(&request), request, alike, besides_tools: besides_tools.map(|_| hash(&common)) }
    }

    /// What it is known by in another life of its run.
    fn key(&self) -> blake3::Hash {
        self.alike
    }

    /// Answers that the conversation holds already.
    fn answers(&self) -> usize {
        let messages = self.request.get("messages").and_then(Value::as_array);
        messages.map_or(0, |all| all.iter().filter(|message| message["role"] == "assistant").count())
    }

    /// The model as asked for.
    fn model(&self) -> &str {
        let places = ["/model", "/body/model", "/path"];
        places.into_iter().find_map(|place| self.request.pointer(place).and_then(Value::as_str)).unwrap_or_default()
    }
}

/// The same value with all keys in order.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> =
                map.into_iter().map(|(key, value)| (key, canonical(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        other => other,
    }
}

/// One answer on tape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recorded {
    version: u32,
    /// Who asked.
    pub instance: InstanceId,
    /// The how manieth of its question, from 1.
    occurrence: u32,
    /// The how manieth of the whole folder, from 1. Recordings of before this was kept have none.
    #[serde(default)]
    sequence: u32,
    /// The model that answered, or the first that did not, `provider/model`.
    pub model: String,
    /// The wire format of the answer.
    pub dialect: Dialect,
    /// What the answer is, as its server says: `text/event-stream`.
    pub content_type: String,
    /// What was asked, keys in order. An answer that was written by hand says nothing of it.
    #[serde(default)]
    request: Value,
    /// Of an answer that was written by hand: which answer of the conversation it is, from 1. It is given to its instance
    /// whatever that asks there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<usize>,
    #[serde(flatten)]
    body: Body,
}

/// [`Said`] in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Body {
    Answer(String),
    AnswerBase64(String),
    Refusal(Refused),
}

impl From<Said> for Body {
    fn from(said: Said) -> Self {
        match said {
            Said::Refusal(refused) => Body::Refusal(refused),
            Said::Answer(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Body::Answer(text),
                Err(error) => Body::AnswerBase64(base64::engine::general_purpose::STANDARD.encode(error.into_bytes())),
            },
        }
    }
}

impl Recorded {
    /// What came of the question.
    ///
    /// # Errors
    /// What is wrong with its bytes, for people.
    pub fn said(&self) -> Result<Said, String> {
        match &self.body {
            Body::Answer(text) => Ok(Said::Answer(text.clone().into_bytes())),
            Body::AnswerBase64(text) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                bytes.map(Said::Answer).map_err(|error| error.to_string())
            }
            Body::Refusal(refused) => Ok(Said::Refusal(refused.clone())),
        }
    }
}

/// An answer to keep, or a refusal.
#[derive(Debug)]
pub struct Heard {
    /// Who asked.
    pub instance: InstanceId,
    /// The model that answered, or the first that did not, `provider/model`.
    pub model: String,
    /// The wire format of the answer.
    pub dialect: Dialect,
    /// As its server says.
    pub content_type: String,
    /// What came.
    pub said: Said,
}

/// Keeps answers.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often each question was answered.
    each: HashMap<blake3::Hash, u32>,
    /// All answers.
    all: u32,
}

impl Recorder {
    /// Into a folder that is made, and that holds no recording yet.
    ///
    /// # Errors
    /// [`TapeError`].
    pub fn create(folder: &Path) -> Result<Self, TapeError> {
        std::fs::create_dir_all(folder).map_err(|source| TapeError::Io { path: folder.to_owned(), source })?;
        if recordings(folder)?.is_empty() {
            Ok(Recorder { folder: folder.to_owned(), counts: Mutex::default() })
        } else {
            Err(TapeError::NotEmpty(folder.to_owned()))
        }
    }

    /// Into the folder of a run that is gone on with.
    ///
    /// # Errors
    /// [`TapeError`].
    pub fn go_on(folder: &Path) -> Result<Self, TapeError> {
        std::fs::create_dir_all(folder).map_err(|source| TapeError::Io { path: folder.to_owned(), source })?;
        let mut counts = Counts::default();
        for path in recordings(folder)? {
            let recorded = read(&path)?;
            let count = counts.each.entry(Question::new(recorded.request).hash).or_default();
            *count = (*count).max(recorded.occurrence);
            counts.all = counts.all.max(recorded.sequence);
        }
        Ok(Recorder { folder: folder.to_owned(), counts: Mutex::new(counts) })
    }

    /// Keeps an answer, whole or not at all.
    ///
    /// # Errors
    /// [`TapeError::Io`].
    pub fn keep(&self, question: &Question, heard: Heard) -> Result<(), TapeError> {
        // Held until it is written: what could not be is not counted, and whoever replays misses none.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = counts.all + 1;
        let occurrence = counts.each.get(&question.hash).map_or(1, |count| count + 1);
        let recorded = Recorded {
            version: VERSION,
            instance: heard.instance,
            occurrence,
            sequence,
            model: heard.model,
            dialect: heard.dialect,
            content_type: heard.content_type,
            request: question.request.clone(),
            turn: None,
            body: heard.said.into(),
        };
        let name = format!("{}-{occurrence}", &question.hash.to_hex()[..16]);
        let (path, open) = (self.folder.join(format!("{name}.json")), self.folder.join(format!("{name}.part")));
        let text = serde_json::to_vec_pretty(&recorded).expect("plain data");
        // As whoever records wants it.
        let written = write_whole(&path, &open, 0o666, &text);
        written.map_err(|source| TapeError::Io { path, source })?;
        counts.all = sequence;
        counts.each.insert(question.hash, occurrence);
        Ok(())
    }
}

/// Gives answers again.
#[derive(Debug)]
pub struct Player {
    folder: PathBuf,
    known: HashMap<blake3::Hash, Vec<Known>>,
    /// By what their questions have in common with those of another run.
    alike: HashMap<blake3::Hash, Vec<Known>>,
    /// The same without their tools.
    besides_tools: HashMap<blake3::Hash, Vec<Known>>,
    /// Written by hand, in the order in which they are given.
    written: Vec<Known>,
    given: Mutex<Given>,
}

#[derive(Debug, Clone)]
struct Known {
    path: PathBuf,
    instance: InstanceId,
    occurrence: u32,
    sequence: u32,
    turn: Option<usize>,
}

impl Player {
    /// Of a folder with recordings.
    ///
    /// # Errors
    /// [`TapeError`].
    pub fn open(folder: &Path) -> Result<Self, TapeError> {
        let mut known: HashMap<blake3::Hash, Vec<Known>> = HashMap::new();
        let (mut alike, mut written) = (HashMap::<blake3::Hash, Vec<Known>>::new(), Vec::new());
        let mut besides_tools = HashMap::<blake3::Hash, Vec<Known>>::new();
        for path in recordings(folder)? {
            let Recorded { instance, occurrence, sequence, request, turn, .. } = read(&path)?;
            let recording = Known { path, instance, occurrence, sequence, turn };
            if request.is_null() {
                written.push(recording);
                continue;
            }
            let question = Question::new(request);
            alike.entry(question.alike).or_default().push(recording.clone());
            if let Some(rest) = question.besides_tools {
                besides_tools.entry(rest).or_default().push(recording.clone());
            }
            known.entry(question.hash).or_default().push(recording);
        }
        if known.is_empty() && written.is_empty() {
            return Err(TapeError::Empty(folder.to_owned()));
        }
        written.sort_by(|a, b| (a.occurrence, &a.path).cmp(&(b.occurrence, &b.path)));
        known.values_mut().for_each(|all| all.sort_by(|a, b| (a.occurrence, &a.path).cmp(&(b.occurrence, &b.path))));
        let in_sequence = |all: &mut Vec<Known>| all.sort_by(|a, b| (a.sequence, &a.path).cmp(&(b.sequence, &b.path)));
        alike.values_mut().chain(besides_tools.values_mut()).for_each(in_sequence);
        Ok(Player { folder: folder.to_owned(), known, alike, besides_tools, written, given: Mutex::default() })
    }

    /// Goes on where earlier coordinators of the run stopped: what was given is kept in `file`.
    ///
    /// # Errors
    /// [`TapeError::Io`].
    pub fn go_on(mut self, file: &Path) -> Result<Self, TapeError> {
        let given = Given::go_on(&self.folder, file);
        self.given = Mutex::new(given.map_err(|source| TapeError::Io { path: file.to_owned(), source })?);
        Ok(self)
    }

    /// The answer to a question, each recording once.
    ///
    /// # Errors
    /// [`Missing`]; [`TapeError`] when its file cannot be read any more.
    pub fn play(&self, instance: &InstanceId, question: &Question) -> Result<Recorded, PlayError> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = given.once_more(question) {
            return Ok(read(&path)?);
        }
        let Some(found) = self.answers(instance, question).find(|known| !given.taken.contains(&known.path)) else {
            return Err(self.missing(instance, question).into());
        };
        let answer = read(&found.path)?;
        let noted = given.take(question, &found.path);
        noted.map_err(|source| TapeError::Io { path: self.folder.clone(), source })?;
        Ok(answer)
    }

    /// What may answer a question, the best first: the same question, the instance's own before others'; a question of the
    /// instance that is alike, then one that is but for its tools; what was written by hand for the instance and the place in its
    /// conversation.
    fn answers(&self, instance: &InstanceId, question: &Question) -> impl Iterator<Item = &Known> {
        let same = || self.known.get(&question.hash).into_iter().flatten();
        let alike = self.alike.get(&question.alike).into_iter().flatten();
        let tools = question.besides_tools.and_then(|rest| self.besides_tools.get(&rest)).into_iter().flatten();
        let turn = Some(question.answers() + 1);
        let is_own = move |known: &&Known| known.instance == *instance;
        let written = self.written.iter().filter(move |known| known.turn == turn);
        same().filter(is_own).chain(same()).chain(alike.chain(tools).filter(is_own)).chain(written.filter(is_own))
    }

    fn missing(&self, instance: &InstanceId, question: &Question) -> Missing {
        let by_hand = self.written.iter().filter(|known| known.instance == *instance);
        let used: HashSet<&Path> = self.answers(instance, question).chain(by_hand).map(|known| &*known.path).collect();
        let used = used.len();
        let detail = if used > 0 {
            format!("it was asked more often than the {used} times that are recorded")
        } else {
            self.nearest(question).unwrap_or_else(|| "the recordings cannot be read any more".to_owned())
        };
        let model = question.model().to_owned();
        Missing { folder: self.folder.clone(), instance: instance.clone(), model, detail }
    }

    /// The recording whose question begins most alike, and where it differs.
    fn nearest(&self, question: &Question) -> Option<String> {
        let asked = question.request.to_string();
        let all = self.known.values().flatten().filter_map(|known| Some((known, read(&known.path).ok()?.request)));
        let alike = |recorded: &Value| {
            let text = canonical(recorded.clone()).to_string();
            text.bytes().zip(asked.bytes()).take_while(|(a, b)| a == b).count()
        };
        let (known, recorded) =
            all.max_by_key(|(known, recorded)| (alike(recorded), std::cmp::Reverse(&known.path)))?;
        let (place, was, is) = difference(&canonical(recorded), &question.request, String::new())?;
        let file = known.path.file_name().unwrap_or_default().to_string_lossy();
        let part = part(&place);
        Some(format!(
            "where {part} meant to be another, record the run anew with `--record DIR`; the nearest, {file}, differs at {place}: \
             recorded {was}, asked {is}"
        ))
    }
}

/// Why nothing is played.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PlayError {
    /// No recording answers.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Its file cannot be read.
    #[error(transparent)]
    Tape(#[from] TapeError),
}

/// What stands at a place of a question, as what is or are to be another.
fn part(place: &str) -> &'static str {
    match place.split('/').nth(1) {
        Some("system") => "its instructions are",
        Some("tools") => "its tools are",
        Some("messages") => "what it is told or its tools gave is",
        Some("model") => "its model is",
        Some("output_tokens_max" | "context_tokens") => "its sizes are",
        _ => "what is asked is",
    }
}

/// The first place at which two values differ, with both sides cut for a message.
fn difference(was: &Value, is: &Value, place: String) -> Option<(String, String, String)> {
    match (was, is) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            let null = |map: &Map<String, Value>, key: &String| map.get(key).cloned();
            keys.into_iter().find_map(|key| side(null(a, key), null(b, key), format!("{place}/{key}")))
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
            .find_map(|at| side(a.get(at).cloned(), b.get(at).cloned(), format!("{place}/{at}"))),
        (a, b) if a == b => None,
        (Value::String(a), Value::String(b)) => {
            let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
            let from = same.saturating_sub(20);
            Some((place, cut(a, from), cut(b, from)))
        }
        (a, b) => Some((place, cut(&a.to_string(), 0), cut(&b.to_string(), 0))),
    }
}

fn side(was: Option<Value>, is: Option<Value>, place: String) -> Option<(String, String, String)> {
    let nothing = || "nothing".to_owned();
    match (was, is) {
        (Some(was), Some(is)) => difference(&was, &is, place),
        (Some(was), None) => Some((place, cut(&was.to_string(), 0), nothing())),
        (None, Some(is)) => Some((place, nothing(), cut(&is.to_string(), 0))),
        (None, None) => None,
    }
}

fn cut(text: &str, from: usize) -> String {
    let shown: String = text.chars().skip(from).take(SHOWN_MAX).collect();
    let before = if from > 0 { "…" } else { "" };
    let behind = if text.chars().count() > from + SHOWN_MAX { "…" } else { "" };
    format!("{:?}", format!("{before}{shown}{behind}"))
}

/// The files of a folder that are recordings by their names, in order.
fn recordings(folder: &Path) -> Result<Vec<PathBuf>, TapeError> {
    let io = |source| TapeError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Recorded, TapeError> {
    let io = |source| TapeError::Io { path: path.to_owned(), source };
    let malformed = |detail: String| TapeError::Malformed { path: path.to_owned(), detail };
    if std::fs::metadata(path).map_err(io)?.len() > RECORDING_BYTES_MAX {
        return Err(malformed(format!("it has more than {} MiB", RECORDING_BYTES_MAX >> 20)));
    }
    let text = std::fs::read(path).map_err(io)?;
    let recorded: Recorded = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    if !(VERSION_MIN..=VERSION).contains(&recorded.version) {
        return Err(malformed(format!(
            "it has version {}, this program knows {VERSION_MIN} to {VERSION}",
            recorded.version
        )));
    }
    Ok(recorded)
}

/// A shared error.
impl From<TapeError> for super::AskError {
    fn from(error: TapeError) -> Self {
        super::AskError::Tape(Arc::new(error))
    }
}

impl From<PlayError> for super::AskError {
    fn from(error: PlayError) -> Self {
        match error {
            PlayError::Missing(missing) => super::AskError::NoRecording(missing),
            PlayError::Tape(error) => error.into(),
        }
    }
}
