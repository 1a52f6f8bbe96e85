//! A conversation with one language server. Two threads hold it: one reads, one writes, so that neither a server that does
//! not read nor one that does not answer holds the agent. What was heard last of each file is kept here.

use std::collections::HashMap;
use std::io::{BufReader, BufWriter};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::findings::Finding;
use super::frame;
use crate::agent::programs::kill_group;
use crate::agent::setting::Setting;
use crate::agent::tools::bounded;

/// Messages that wait for a server that does not read; more make it count as gone.
const WAITING_MAX: usize = 256;
/// The longest reason that a server gives, in bytes.
const WHY_BYTES_MAX: usize = 500;
/// How long a server that does not say of which version it speaks has to find nothing: such servers say so at first, before
/// they have looked.
const SETTLE: Duration = Duration::from_secs(1);
/// Files whose findings are kept.
const FILES_MAX: usize = 2000;

/// A server that runs.
#[derive(Debug)]
pub struct Client {
    child: Child,
    /// To the writing thread.
    outgoing: SyncSender<Value>,
    heard: Arc<Heard>,
    /// Versions and contents of the files that the server was told of.
    versions: HashMap<String, (i64, blake3::Hash)>,
}

/// What a server said; woken whenever that changes.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    gone: bool,
    /// Why it went, in its own words.
    why: String,
    /// By address: the version that the findings are of, where the server says so, and the findings.
    files: HashMap<String, (Option<i64>, Vec<Finding>)>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// What is known of a file as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The server's findings.
    Found(Vec<Finding>),
    /// It has not said anything in time.
    Silent,
    /// It has ended, or refuses to begin; in its own words, where it has said any.
    Gone(String),
}

fn thread(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("diagnostics".to_owned()).spawn(work).map(drop)
}

impl Client {
    /// Starts a server and greets it, without waiting for its answer.
    ///
    /// # Errors
    /// Those of starting a program.
    pub fn start(setting: &Setting, program: &std::path::Path, arguments: &[&str]) -> std::io::Result<Client> {
        let mut command = setting.command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let heard = Arc::new(Heard::default());
        let (outgoing, waiting) = sync_channel::<Value>(WAITING_MAX);
        if let Some((stdin, stdout)) = stdin.zip(stdout) {
            let (reader, answers) = (heard.clone(), outgoing.clone());
            let writer = heard.clone();
            let started = thread(move || listen(BufReader::new(stdout), &reader, &answers))
                .and_then(|()| thread(move || speak(BufWriter::new(stdin), &waiting, &writer)));
            if let Err(error) = started {
                // It would never be heard.
                drop(child.kill().and_then(|()| child.wait()));
                return Err(error);
            }
        }
        let root = address(setting, "");
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "processId": null, "rootUri": root, "clientInfo": {"name": "swarm"},
            "workspaceFolders": [{"uri": root, "name": "worktree"}],
            "capabilities": {
                "textDocument": {
                    "publishDiagnostics": {"versionSupport": true},
                    "synchronization": {"didSave": true},
                },
                "workspace": {"configuration": true, "workspaceFolders": true},
                "window": {"workDoneProgress": true},
            },
        }});
        let client = Client { child, outgoing, heard, versions: HashMap::new() };
        client.send(hello);
        Ok(client)
    }

    /// Tells the server what a file holds now, unless it was told so already: some say nothing when nothing has changed.
    pub fn tell(&mut self, uri: &str, language: &str, text: &str) {
        let hash = blake3::hash(text.as_bytes());
        let version = match self.versions.get(uri) {
            Some((_, told)) if *told == hash => return,
            Some((version, _)) => version + 1,
            None => 1,
        };
        self.versions.insert(uri.to_owned(), (version, hash));
        // What it said of the file before counts no longer, unless it says of which version it is.
        self.heard.change(|state| {
            state.files.remove(uri);
        });
        self.send(if version == 1 {
            let document = json!({"uri": uri, "languageId": language, "version": version, "text": text});
            json!({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": {"textDocument": document}})
        } else {
            json!({"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {
                "textDocument": {"uri": uri, "version": version}, "contentChanges": [{"text": text}],
            }})
        });
        let saved = json!({"textDocument": {"uri": uri}});
        self.send(json!({"jsonrpc": "2.0", "method": "textDocument/didSave", "params": saved}));
    }

    /// Waits for what the server says of the newest version of a file, until then and no longer.
    pub fn wait(&self, uri: &str, until: Instant) -> News {
        let version = self.versions.get(uri).map(|(version, _)| *version);
        let mut state = self.heard.lock();
        let mut settled = None;
        loop {
            let found = state.files.get(uri).filter(|(of, _)| of.is_none() || *of == version);
            let now = Instant::now();
            if let Some((of, findings)) = found {
                let sure = of.is_some() || !findings.is_empty();
                if sure || now >= until.min(*settled.get_or_insert(now + SETTLE)) {
                    return News::Found(findings.clone());
                }
            }
            if state.gone {
                return News::Gone(state.why.clone());
            }
            let left = settled.unwrap_or(until).min(until).saturating_duration_since(now);
            if left.is_zero() {
                return News::Silent;
            }
            state = self.heard.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the server has answered the greeting.
    pub fn is_ready(&self, patience: Duration) -> bool {
        let state = self.heard.lock();
        let waiting = |state: &mut State| !state.ready && !state.gone;
        let waited = self.heard.changed.wait_timeout_while(state, patience, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.ready
    }

    fn send(&self, message: Value) {
        match self.outgoing.try_send(message) {
            Ok(()) => {}
            // It does not read any more.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.heard.change(|state| state.gone = true),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

/// The address of a file below the worktree; what is no plain letter is written by its number.
pub fn address(setting: &Setting, path: &str) -> String {
    let whole = setting.root.join(path);
    let mut uri = "file://".to_owned();
    for byte in whole.to_string_lossy().trim_end_matches('/').bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(byte as char),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn speak(mut stream: impl std::io::Write, waiting: &Receiver<Value>, heard: &Heard) {
    let mut held = vec![];
    let mut ready = false;
    for message in waiting {
        let is_greeting = message["method"] == "initialize";
        // Nothing may be said between the greeting and its answer.
        if !ready && !is_greeting && message["method"] != "initialized" {
            held.push(message);
            continue;
        }
        ready |= message["method"] == "initialized";
        let all = std::iter::once(message).chain(if ready { std::mem::take(&mut held) } else { vec![] });
        for message in all {
            if frame::write(&mut stream, &message).is_err() {
                return heard.change(|state| state.gone = true);
            }
        }
    }
}

fn listen(mut stream: impl std::io::BufRead, heard: &Heard, answers: &SyncSender<Value>) {
    while let Ok(Some(message)) = frame::read(&mut stream) {
        let method = message["method"].as_str();
        match (method, &message["id"]) {
            (None, id) if id == 1 && !message["error"].is_null() => {
                let why = message["error"]["message"].as_str().unwrap_or("it refuses to begin");
                return heard.change(|state| (state.gone, state.why) = (true, bounded(why, WHY_BYTES_MAX)));
            }
            (None, id) if id == 1 => {
                let _ = answers.try_send(json!({"jsonrpc": "2.0", "method": "initialized", "params": {}}));
                heard.change(|state| state.ready = true);
            }
            (Some("textDocument/publishDiagnostics"), _) => take(&message["params"], heard),
            (Some(method), id) if !id.is_null() => {
                let _ = answers.try_send(answer(method, id, &message["params"]));
            }
            _ => {}
        }
    }
    heard.change(|state| state.gone = true);
}

fn take(params: &Value, heard: &Heard) {
    let Some(uri) = params["uri"].as_str() else { return };
    let Ok(findings) = serde_json::from_value(params["diagnostics"].clone()) else { return };
    let version = params["version"].as_i64();
    heard.change(|state| {
        if state.files.len() < FILES_MAX || state.files.contains_key(uri) {
            state.files.insert(uri.to_owned(), (version, findings));
        }
    });
}

/// What a server asks for: it gets no settings, may show its progress to nobody, and register what it likes.
fn answer(method: &str, id: &Value, params: &Value) -> Value {
    let result = match method {
        "workspace/configuration" => {
            let count = params["items"].as_array().map_or(0, Vec::len);
            Value::Array(vec![Value::Null; count])
        }
        "window/workDoneProgress/create" | "client/registerCapability" | "client/unregisterCapability" => Value::Null,
        _ => {
            let error = json!({"code": -32601, "message": "not offered here"});
            return json!({"jsonrpc": "2.0", "id": id, "error": error});
        }
    };
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}
