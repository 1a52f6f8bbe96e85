//! The endpoint inside a cage for programs that speak a provider's HTTP: reached through the job's own door, with the door's
//! token in the place of a key. What it is asked goes to the models that the task names, and nowhere else; the key is put in
//! here, outside of the cage. Metered, bounded and recorded like an agent's questions. Start reading at [`Desk::serve`].

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use swarm_protocol::HomeFile;
use swarm_protocol::chat::Dialect;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::back::give;
use super::claims;
use super::relay::{Asking, Outcome};
use super::{AskError, Broker, Caller, Whose};
use crate::egress::request::{self, Afterwards, Direct, Framing, Waits};
use crate::egress::wire::{Taken, Wire};

/// How long a connection may be open without a request.
const SILENT_MAX: Duration = Duration::from_secs(120);
/// How long the next bytes of a request may keep waiting: it comes from the same machine.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// How long a program may take to say what it asks; its head, and its body.
const ASKING_MAX: Duration = Duration::from_secs(60);
/// The longest request, in bytes. Source: Anthropic, "Request size limits", Messages.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Whole requests of one job at once; further ones wait.
const REQUESTS_MAX: usize = 8;
/// Bytes of all requests of one job that are on their way, wait or are asked: twice what its requests at once may have.
const BODIES_BYTES_MAX: usize = 2 * REQUESTS_MAX * BODY_BYTES_MAX;

/// One job's way to the models of its task.
#[derive(Debug)]
pub struct Desk {
    broker: Arc<Broker>,
    caller: Caller,
    room: Semaphore,
    /// A place for each byte of a request.
    bodies: Semaphore,
    /// Whose budget refused the newest question, and why.
    spent: Mutex<Option<(Whose, String)>>,
}

/// The settings of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The variable by which it finds them.
    pub variable: &'static str,
    /// What that variable names, below the home folder: the file, or its folder.
    pub place: &'static str,
    /// The file.
    pub file: HomeFile,
}

/// Gemini's program takes a base URL for a gateway of its own kind, and refuses that kind, unless its settings say that
/// it has a key (gemini-cli 0.61).
const GEMINI_DEFAULTS: &str = "{\"security\":{\"auth\":{\"selectedType\":\"gemini-api-key\"}}}\n";

/// Codex asks its own provider whatever `OPENAI_BASE_URL` says, over a web socket first; only another provider in its
/// `config.toml` is asked elsewhere (codex 0.121 to 0.169). The key stays in its variable.
fn codex_config(port: u16, model: &str) -> String {
    format!(
        "model = {}\nmodel_provider = \"swarm\"\n\n[model_providers.swarm]\nname = \"swarm\"\n\
         base_url = \"http://127.0.0.1:{port}/v1\"\nenv_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n\
         supports_websockets = false\n",
        Value::from(model)
    )
}

/// What a path asks for.
enum Wanted {
    Ask { dialect: Dialect, model: Option<String>, action: &'static str },
    List,
    Nothing,
}

impl Desk {
    /// For one attempt.
    pub fn new(broker: Arc<Broker>, caller: Caller) -> Self {
        let (room, bodies) = (Semaphore::new(REQUESTS_MAX), Semaphore::new(BODIES_BYTES_MAX));
        Desk { broker, caller, room, bodies, spent: Mutex::default() }
    }

    /// Whose budget kept its program from asking, and why, where the newest question was refused for that.
    pub fn spent(&self) -> Option<(Whose, String)> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard(&self, error: Option<&AskError>) {
        let spent = error.and_then(|error| Some((error.spent()?, error.to_string())));
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) = spent;
    }

    /// The variables by which programs find the endpoint at this port, and the models that they may ask by default. The token
    /// stands where a key would.
    pub fn env(&self, port: u16, token: &str) -> Vec<(String, String)> {
        let place = format!("http://127.0.0.1:{port}");
        let first = |dialects: &[Dialect]| self.first(dialects);
        let mut env = Vec::new();
        let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
        if let Some(model) = first(&[Dialect::Anthropic]) {
            set("ANTHROPIC_BASE_URL", &place);
            set("ANTHROPIC_API_KEY", token);
            let names =
                ["MODEL", "SMALL_FAST_MODEL", "DEFAULT_OPUS_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_HAIKU_MODEL"];
            names.iter().for_each(|name| set(&format!("ANTHROPIC_{name}"), &model));
        }
        if let Some(model) = first(&[Dialect::OpenaiChat, Dialect::OpenaiResponses]) {
            set("OPENAI_BASE_URL", &format!("{place}/v1"));
            set("OPENAI_API_BASE", &format!("{place}/v1"));
            set("OPENAI_API_KEY", token);
            set("OPENAI_MODEL", &model);
        }
        if let Some(model) = first(&[Dialect::Gemini]) {
            set("GOOGLE_GEMINI_BASE_URL", &place);
            set("GEMINI_API_KEY", token);
            set("GEMINI_MODEL", &model);
        }
        if let Some(model) = self.caller.models.first() {
            set("SWARM_MODEL", model);
        }
        env
    }

    /// The first of the task's models that understands one of the formats, by its provider's name: programs know from it what
    /// the model can do.
    fn first(&self, dialects: &[Dialect]) -> Option<String> {
        let chain = |name: &String| {
            dialects.iter().map(|dialect| self.broker.chain_for(name, *dialect)).find(|all| !all.is_empty())
        };
        let (name, endpoint) = self.caller.models.iter().find_map(|name| Some((name, chain(name)?.swap_remove(0))))?;
        // A name that the plan gave to another of the task's models means that one.
        let is_taken = self.caller.models.contains(&endpoint.model);
        Some(if is_taken { name.clone() } else { endpoint.model })
    }

    /// Settings of programs that do not find this endpoint by variables alone.
    pub fn settings(&self, port: u16) -> Vec<Settings> {
        let codex = self.first(&[Dialect::OpenaiResponses]).map(|model| Settings {
            variable: "CODEX_HOME",
            place: ".swarm/codex",
            file: HomeFile { path: ".swarm/codex/config.toml".into(), text: codex_config(port, &model) },
        });
        let gemini = self.first(&[Dialect::Gemini]).map(|_| Settings {
            variable: "GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
            place: ".swarm/gemini.json",
            file: HomeFile { path: ".swarm/gemini.json".into(), text: GEMINI_DEFAULTS.to_owned() },
        });
        codex.into_iter().chain(gemini).collect()
    }

    /// Serves a connection to its end. `knows` says whether a word is the job's token.
    ///
    /// # Errors
    /// The stream's: the job went away, or broke its framing. Nobody needs to know.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut job: Wire<S>,
        knows: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> io::Result<()> {
        job.idle_max = Some(IDLE_MAX);
        loop {
            if job.ahead().is_empty() && timeout(SILENT_MAX, job.read_on()).await?? == 0 {
                return Ok(());
            }
            let asked = match within(job.message(request::parse_direct)).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(asked))) => asked,
                Ok(Some(Err(error))) => {
                    let no = refusal(error.status(), "invalid_request_error", &error.to_string());
                    return send(&mut job.stream, &no).await;
                }
                Err(error) => return unread(&mut job.stream, error).await,
            };
            if asked.waits == Waits::ForContinue {
                give(&mut job.stream, b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let body = match within(body(&mut job, asked.body, &self.bodies)).await {
                Ok(Some(body)) => body,
                Ok(None) => {
                    let words = format!("a request has at most {} MiB", BODY_BYTES_MAX >> 20);
                    return send(&mut job.stream, &refusal(413, "request_too_large", &words)).await;
                }
                Err(error) => return unread(&mut job.stream, error).await,
            };
            // Only what is whole has a place: one that was sent by half would keep others from theirs.
            let Ok(_place) = self.room.acquire().await else { return Ok(()) };
            if !asked.keys().any(knows) {
                let words = "the key is not the one of this task: take it from the environment";
                send(&mut job.stream, &refusal(401, "authentication_error", words)).await?;
            } else {
                self.answer(&asked, &body.bytes, &mut job.stream).await?;
            }
            if asked.afterwards == Afterwards::Closes {
                return job.stream.shutdown().await;
            }
        }
    }

    async fn answer(&self, asked: &Direct, body: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let (dialect, in_path, action) = match wanted(asked) {
            Wanted::Ask { dialect, model, action } => (dialect, model, action),
            Wanted::List => return send(to, &self.list()).await,
            Wanted::Nothing => {
                let words = format!("{} {} is not offered here", asked.method, asked.path);
                return send(to, &refusal(404, "not_found_error", &words)).await;
            }
        };
        let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(body) else {
            return send(to, &refusal(400, "invalid_request_error", "the body is not a JSON object")).await;
        };
        let claimed = claims::keep_at_home(dialect, &mut fields).and_then(|()| claims::claim(dialect, &fields));
        let claim = match claimed {
            Ok(claim) => claim,
            Err(why) => return send(to, &refusal(400, "invalid_request_error", &why)).await,
        };
        let named = in_path.or_else(|| fields.get("model").and_then(Value::as_str).map(str::to_owned));
        let (headers, query) = (claims::headers(asked.passed_on()), asked.query_passed_on());
        let unmeasured = asked.unmeasured;
        let asking = Asking { dialect, action, named, fields, claim, headers, query, unmeasured };
        match self.broker.relay(&self.caller, asking, to).await? {
            Outcome::Passed => {
                self.heard(None);
                Ok(())
            }
            Outcome::Refused { status, content_type, body } => {
                self.heard(None);
                send(to, &Page { status, content_type, body }).await
            }
            Outcome::BrokeOff(error) => {
                self.heard(Some(&error));
                Err(io::Error::other(error.to_string()))
            }
            Outcome::NotAsked(error) => {
                self.heard(Some(&error));
                let (status, kind) = meaning(&error);
                send(to, &refusal(status, kind, &error.to_string())).await
            }
        }
    }

    fn list(&self) -> Page {
        let one = |name: &String| json!({ "id": name, "object": "model", "type": "model", "owned_by": "swarm" });
        let all: Vec<Value> = self.caller.models.iter().map(one).collect();
        Page::json(200, &json!({ "object": "list", "data": all }))
    }
}

/// What a path asks for. Clients write it with and without the version in front.
fn wanted(asked: &Direct) -> Wanted {
    let path = asked.path.split('?').next().unwrap_or_default();
    let short = path.strip_prefix("/v1beta").or_else(|| path.strip_prefix("/v1")).unwrap_or(path);
    let ask = |dialect, action| Wanted::Ask { dialect, model: None, action };
    match (asked.method.as_str(), short) {
        ("POST", "/messages") => ask(Dialect::Anthropic, ""),
        ("POST", "/chat/completions") => ask(Dialect::OpenaiChat, ""),
        ("POST", "/responses") => ask(Dialect::OpenaiResponses, ""),
        ("GET", "/models") => Wanted::List,
        ("POST", path) => match path.strip_prefix("/models/").and_then(|rest| rest.rsplit_once(':')) {
            Some((model, "generateContent")) => gemini(model, "generateContent"),
            Some((model, "streamGenerateContent")) => gemini(model, "streamGenerateContent"),
            _ => Wanted::Nothing,
        },
        _ => Wanted::Nothing,
    }
}

fn gemini(model: &str, action: &'static str) -> Wanted {
    Wanted::Ask { dialect: Dialect::Gemini, model: Some(model.to_owned()), action }
}

/// What a program is told when no model was asked.
fn meaning(error: &AskError) -> (u16, &'static str) {
    match error {
        AskError::NotAllowed { .. }
        | AskError::WrongFormat { .. }
        | AskError::Unknown { .. }
        | AskError::NoRecording(_) => (404, "not_found_error"),
        AskError::NoKey { .. } => (401, "authentication_error"),
        AskError::Budget { .. } | AskError::TooSmall(_) | AskError::Unpriced { .. } => (402, "billing_error"),
        AskError::Refused { .. } | AskError::Malformed { .. } | AskError::Tape(_) | AskError::Machine(_) => {
            (502, "api_error")
        }
    }
}

/// A whole body; `None` when it is too long.
async fn body<'a, S: AsyncRead + AsyncWrite + Unpin>(
    job: &mut Wire<S>,
    framing: Framing,
    bodies: &'a Semaphore,
) -> io::Result<Option<Taken<'a>>> {
    if matches!(framing, Framing::Length(length) if length > BODY_BYTES_MAX as u64) {
        return Ok(None);
    }
    job.take_body(framing, BODY_BYTES_MAX, bodies).await
}

/// What is read within [`ASKING_MAX`].
async fn within<T>(read: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ASKING_MAX, read).await?
}

/// Answers a request that was not read to its end. Where the next one would begin, nobody knows.
async fn unread(to: &mut (impl AsyncWrite + Unpin), error: io::Error) -> io::Result<()> {
    let page = match error.kind() {
        io::ErrorKind::InvalidData => {
            refusal(400, "invalid_request_error", &format!("the request breaks its framing: {error}"))
        }
        io::ErrorKind::TimedOut => {
            let (idle, all) = (IDLE_MAX.as_secs(), ASKING_MAX.as_secs());
            let words = format!("the request did not go on for {idle} s, or was not whole after {all} s");
            refusal(408, "timeout_error", &words)
        }
        io::ErrorKind::OutOfMemory => {
            let words = format!("the requests of this task at once have {} MiB already", BODIES_BYTES_MAX >> 20);
            refusal(503, "overloaded_error", &words)
        }
        _ => return Err(error),
    };
    send(to, &page).await
}

/// An answer in one piece.
#[derive(Debug, Clone, PartialEq)]
struct Page {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Page {
    fn json(status: u16, body: &Value) -> Page {
        Page { status, content_type: "application/json".to_owned(), body: body.to_string().into_bytes() }
    }
}

/// A refusal in a form that the clients of all providers read.
fn refusal(status: u16, kind: &str, words: &str) -> Page {
    let message = format!("swarm: {words}");
    Page::json(status, &json!({ "type": "error", "error": { "type": kind, "code": kind, "message": message } }))
}

async fn send(to: &mut (impl AsyncWrite + Unpin), page: &Page) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        page.status,
        reason(page.status),
        page.content_type,
        page.body.len()
    );
    give(to, &[head.as_bytes(), &page.body].concat()).await
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}
