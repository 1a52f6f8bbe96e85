//! One call over HTTP: a request out, a refusal or an answer piece by piece in. Knows where each provider's API is and how it
//! wants its key; decides nothing about trying again.
//!
//! A call goes to the place that its model names and nowhere else: no proxy of the environment, no redirect. Everything is
//! bounded: time to connect, silence, the length of a refusal and of an answer.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, redirect};
use swarm_plans::{Provider, hosts_alone};
use swarm_protocol::chat::Dialect;
use tokio::time::Instant;

use super::catalog::Endpoint;
use super::echo::Echo;
use super::keys::Secret;
use super::limits;
use super::trial::Form;
use crate::lookups::{Lookups, Nameless};
use crate::model::ANSWER_BYTES_MAX;
use crate::model::failure::{self, Class, Failure};
use crate::model::governor::Allowance;
use crate::secrets::Secrets;

/// Time to connect, name and TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Bytes of a refusal that are read.
const REFUSAL_BYTES_MAX: usize = 256 << 10;
/// Bytes of a stream as it comes, of which what is decoded is kept: arguments of 10 MB, cut into events of a few bytes each,
/// fit.
const STREAM_BYTES_MAX: usize = 512 << 20;
/// The same of a stream that is kept as it comes, for a recording.
const RECORDED_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;
/// The version of Anthropic's API. Source: Anthropic, "Versions".
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The one client of a run.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
}

/// What is to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// The whole URL.
    pub url: String,
    /// Besides the key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub enum Arrived {
    /// A refusal.
    Refused {
        /// What it means.
        failure: Failure,
        /// The status of the answer.
        status: u16,
        /// Its text.
        body: Vec<u8>,
    },
    /// The beginning of an answer.
    Answer(Box<Incoming>),
}

/// Whether a request arrived that nobody answered: it may be paid for then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nobody was there.
    No,
    /// It was sent.
    Perhaps,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Incoming {
    response: Response,
    idle: Duration,
    read: usize,
    most: usize,
    echo: Option<Echo>,
    /// What its provider says of its limits.
    pub allowance: Allowance,
    /// As its server says; empty when it does not.
    pub content_type: String,
}

/// What is kept of an answer while it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// What it means.
    Decoded,
    /// All bytes, too: for a recording.
    AsItCame,
}

impl Http {
    /// A client that goes where it is told and nowhere else.
    ///
    /// # Errors
    /// The machine has no certificates, or no random numbers.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_MAX)
            .dns_resolver(Lookups::default())
            .user_agent(concat!("swarm/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Http { client })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// A [`Failure`] when nobody answers, and whether the request may have arrived all the same.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        key: Option<&Secret>,
        outgoing: Outgoing,
    ) -> Result<Arrived, (Failure, Reached)> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(outgoing.headers);
        // Nothing here unpacks an answer.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = key {
            let (name, value) = key_header(endpoint.provider, key);
            headers.insert(name, value);
        }
        let request = self.client.post(&outgoing.url).headers(headers).body(outgoing.body);
        let response = match tokio::time::timeout(endpoint.idle, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unreachable(&error, &hosts_alone(&endpoint.base_url))),
            Err(_) => return Err((silent(endpoint.idle), Reached::Perhaps)),
        };
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(0);
        let allowance = limits::allowance(&header, now_ms);
        let content_type = header("content-type").unwrap_or_default();
        let status = response.status();
        let packed = header("content-encoding").filter(|packed| !packed.trim().eq_ignore_ascii_case("identity"));
        if status.is_success() {
            if let Some(packed) = packed {
                return Err((packed_up(&packed, &hosts_alone(&endpoint.base_url)), Reached::Perhaps));
            }
            let (idle, read, most, echo) = (endpoint.idle, 0, ANSWER_BYTES_MAX, None);
            let incoming = Incoming { response, idle, read, most, echo, allowance, content_type };
            return Ok(Arrived::Answer(Box::new(incoming)));
        }
        if let Some(to) = header("location").filter(|_| status.is_redirection()) {
            let to = hosts_alone(&to);
            let message = format!("it redirects to {to}, which is not followed; set base-url (HTTP status {status})");
            let failure = Failure { class: Class::NotHere, message };
            return Ok(Arrived::Refused { failure, status: status.as_u16(), body: Vec::new() });
        }
        let names = ["retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id", "date"];
        let kept: Vec<(&str, String)> = names.iter().filter_map(|name| Some((*name, header(name)?))).collect();
        // Its status says what it is; what is packed says nothing more.
        let body = if packed.is_some() { Vec::new() } else { refusal(response, endpoint.idle).await };
        let header = |name: &str| kept.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let failure = failure::refused(status.as_u16(), &header, &body, now_ms);
        Ok(Arrived::Refused { failure, status: status.as_u16(), body })
    }
}

impl Incoming {
    /// The same answer without these secrets; `form` says how it comes, `kept` what is kept of it as it is.
    pub fn without(self, secrets: Secrets, form: Form, kept: Kept) -> Self {
        let content_type = secrets.text(&self.content_type).into_owned();
        let echo = match form {
            Form::Stream => Echo::of_stream(secrets),
            Form::Whole => Echo::of_whole(secrets),
        };
        let most = match (form, kept) {
            (Form::Whole, _) => ANSWER_BYTES_MAX,
            (Form::Stream, Kept::AsItCame) => RECORDED_BYTES_MAX,
            (Form::Stream, Kept::Decoded) => STREAM_BYTES_MAX,
        };
        Incoming { echo: Some(echo), content_type, most, ..self }
    }

    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// A [`Failure`] when the connection breaks, is silent for too long, or says more than is read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let chunk = self.arrives().await?;
            match (chunk, &mut self.echo) {
                (Some(chunk), Some(echo)) => match echo.take(chunk) {
                    held_back if held_back.is_empty() => {}
                    masked => return Ok(Some(masked)),
                },
                (None, Some(echo)) => {
                    let rest = echo.finish();
                    self.echo = None;
                    return Ok(Some(rest).filter(|rest| !rest.is_empty()));
                }
                (chunk, None) => return Ok(chunk),
            }
        }
    }

    async fn arrives(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let chunk = match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(transient(format!("its answer broke off: {}", cause(&error)))),
            Err(_) => return Err(silent(self.idle)),
        };
        let Some(chunk) = chunk else { return Ok(None) };
        self.read += chunk.len();
        if self.read > self.most {
            let message = format!("its answer exceeds {} MiB", self.most >> 20);
            return Err(Failure { class: Class::NotHere, message });
        }
        Ok(Some(chunk.to_vec()))
    }
}

/// The text of a refusal, as far as it can be read.
async fn refusal(mut response: Response, idle: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) = tokio::time::timeout(idle, response.chunk()).await {
        let room = REFUSAL_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == REFUSAL_BYTES_MAX {
            break;
        }
    }
    body
}

/// Where an agent's question goes.
pub fn url(endpoint: &Endpoint) -> String {
    let base = &endpoint.base_url;
    match endpoint.dialect {
        Dialect::Anthropic => format!("{base}/v1/messages"),
        Dialect::OpenaiChat => format!("{base}/chat/completions"),
        Dialect::OpenaiResponses => format!("{base}/responses"),
        Dialect::Gemini => format!("{base}/models/{}:streamGenerateContent?alt=sse", endpoint.model),
        Dialect::Ollama => format!("{base}/api/chat"),
    }
}

/// What a provider wants to read beside the key.
pub fn headers(dialect: Dialect) -> Vec<(HeaderName, HeaderValue)> {
    match dialect {
        Dialect::Anthropic => {
            vec![(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(ANTHROPIC_VERSION))]
        }
        Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::Gemini | Dialect::Ollama => Vec::new(),
    }
}

fn key_header(provider: Provider, key: &Secret) -> (HeaderName, HeaderValue) {
    let (name, text) = match provider {
        Provider::Anthropic => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
        Provider::Gemini => (HeaderName::from_static("x-goog-api-key"), key.expose().to_owned()),
        Provider::Openai | Provider::OpenaiResponses | Provider::Openrouter | Provider::Ollama => {
            (reqwest::header::AUTHORIZATION, format!("Bearer {}", key.expose()))
        }
    };
    let mut value = HeaderValue::from_str(&text).expect("a key is printable ASCII");
    value.set_sensitive(true);
    (name, value)
}

fn transient(message: String) -> Failure {
    Failure { class: Class::Transient { wait: None }, message }
}

/// An answer that was packed although none was asked for so.
fn packed_up(packed: &str, place: &str) -> Failure {
    let packed: String = packed.chars().filter(|c| !c.is_control()).take(40).collect();
    let message = format!(
        "{place} answers in `Content-Encoding: {packed}`, which was not asked for and is not read; switch that off at it, or at \
         the proxy in front of it"
    );
    Failure { class: Class::Foreign, message }
}

/// How many times as long as its silence an answer is waited for of which nothing comes but what keeps its connection open (comments,
/// pings, empty lines): a model that thinks for long says no more.
const KEPT_OPEN_FOR: u32 = 3;

/// Bytes from which on a piece of an event that is not whole yet says that the answer goes on.
const PIECE_BYTES: usize = 1 << 20;

/// Whether an answer goes on, of which something comes all the time.
#[derive(Debug)]
pub struct Alive {
    most: Duration,
    since: Instant,
    bytes: usize,
}

impl Alive {
    /// Of a model that may be silent for so long, from now on.
    pub fn new(idle: Duration, now: Instant) -> Self {
        Alive { most: idle.saturating_mul(KEPT_OPEN_FOR), since: now, bytes: 0 }
    }

    /// Hears so many bytes; `says` is whether something of the answer was among them.
    ///
    /// # Errors
    /// A [`Failure`] when nothing was for too long.
    pub fn hears(&mut self, says: bool, bytes: usize, now: Instant) -> Result<(), Failure> {
        self.bytes += bytes;
        if says || self.bytes >= PIECE_BYTES {
            (self.since, self.bytes) = (now, 0);
        }
        match now.duration_since(self.since) > self.most {
            true => Err(transient(format!(
                "it kept the connection open for {} s and said nothing",
                self.most.as_secs_f64()
            ))),
            false => Ok(()),
        }
    }
}

fn silent(idle: Duration) -> Failure {
    transient(format!("it was silent for {} s", idle.as_secs_f64()))
}

fn unreachable(error: &reqwest::Error, place: &str) -> (Failure, Reached) {
    let message = format!("{place} cannot be reached: {}", cause(error));
    if error.is_builder() {
        return (Failure { class: Class::Invalid, message }, Reached::No);
    }
    let mut causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |&error| error.source());
    let nameless = causes.any(|error| error.is::<Nameless>());
    if nameless {
        return (Failure { class: Class::Nameless, message }, Reached::No);
    }
    (transient(message), if error.is_connect() { Reached::No } else { Reached::Perhaps })
}

/// The innermost words of an error: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut text = error.to_string();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_keeps_a_connection_open_does_so_for_a_while() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut alive = Alive::new(Duration::from_secs(2), began);
        assert!((1..=6).all(|second| alive.hears(false, 20, after(second)).is_ok()));
        assert!(alive.hears(true, 20, after(7)).is_ok(), "it says something after all");
        assert!((8..=13).all(|second| alive.hears(false, 20, after(second)).is_ok()));
        let said = alive.hears(false, 20, after(14)).expect_err("too long").message;
        assert_eq!(said, "it kept the connection open for 6 s and said nothing");
        let mut large = Alive::new(Duration::from_secs(2), began);
        assert!((1..60).all(|second| large.hears(false, PIECE_BYTES / 5, after(second)).is_ok()), "one long event");
    }
}
