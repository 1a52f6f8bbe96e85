//! One request of a program that speaks a provider's HTTP, passed on to a model of its task and its answer passed back while
//! it arrives: the same budget, the same order of calls, the same tape as an agent's. What has begun to arrive is never tried
//! again: the program has seen it.

use std::io;
use std::sync::Arc;

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use swarm_plans::Provider;
use swarm_protocol::chat::{Dialect, Reply};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::back::Back;
use super::catalog::Endpoint;
use super::claims::{self, Claim};
use super::exchange::{self, Alive, Incoming};
use super::row::Patience;
use super::tape::{Heard, Page, Question, Said, Tape};
use super::told::Call;
use super::trial::{Form, Letter, Opened, Refusal, Tries, Underway, arrived, input_at_most};
use super::unasked::{self, Unasked};
use super::{AskError, Broker, Caller, is_whole};
use crate::dispatcher::random;
use crate::egress::request::Unmeasured;
use crate::model::budget::Tokens;
use crate::model::failure::{Class, Failure};
use crate::model::governor::Ended;
use crate::model::{DecodeError, Decoder, decode_whole};

/// Tokens of an answer that are set aside when a request does not bound it.
const OUTPUT_UNSAID: u64 = 16_384;

/// How much of a recording a program is given at once.
const REPLAYED_CHUNK_BYTES: usize = 64 << 10;

/// Where programs ask, by wire format.
const PATHS: [(Dialect, &str); 4] = [
    (Dialect::Anthropic, "/v1/messages"),
    (Dialect::OpenaiChat, "/v1/chat/completions"),
    (Dialect::OpenaiResponses, "/v1/responses"),
    (Dialect::Gemini, "/v1beta/models/MODEL:generateContent"),
];

/// What a program asks.
#[derive(Debug)]
pub struct Asking {
    /// The wire format that it speaks.
    pub dialect: Dialect,
    /// Gemini's verb; empty elsewhere.
    pub action: &'static str,
    /// The model that it names.
    pub named: Option<String>,
    /// The body.
    pub fields: Map<String, Value>,
    /// What it wants in tokens.
    pub claim: Claim,
    /// Headers that go on to the provider.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What goes on of the query, without `?`.
    pub query: String,
    /// How its answer is passed back.
    pub unmeasured: Unmeasured,
}

/// What became of it.
#[derive(Debug)]
pub enum Outcome {
    /// The answer was passed back.
    Passed,
    /// The provider's refusal, as it is, without any key.
    Refused {
        /// Its status.
        status: u16,
        /// What its body is.
        content_type: String,
        /// Its body.
        body: Vec<u8>,
    },
    /// Nobody was asked, or nobody answered.
    NotAsked(AskError),
    /// An answer had begun: nothing can be said behind its head but that it is not whole, so its last chunk never comes.
    BrokeOff(AskError),
}

impl Broker {
    /// The models that answer to a name and understand a wire format, in order.
    pub(super) fn chain_for(&self, name: &str, dialect: Dialect) -> Vec<Endpoint> {
        self.catalog.chain(name).into_iter().filter(|endpoint| place(endpoint, dialect, "").is_some()).collect()
    }

    /// Passes a program's request on and the answer back.
    ///
    /// # Errors
    /// The program's stream.
    pub async fn relay(
        &self,
        caller: &Caller,
        asking: Asking,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> io::Result<Outcome> {
        let name = match self.named(caller, &asking) {
            Ok(name) => name,
            Err(error) => return Ok(Outcome::NotAsked(error)),
        };
        let mut call = Call::begin(caller, &name, &self.news);
        let question = Question::of_program(&kind(&asking), &Value::Object(asking.fields.clone()));
        let result = match *self.tape {
            Tape::Replay(_) => self.replay_to(caller, &name, &asking, question, &mut call, to).await,
            Tape::Off => self.relay_chain(caller, &name, &asking, &question, &mut call, to).await,
            Tape::Record(_) => {
                let came = self.relay_chain(caller, &name, &asking, &question, &mut call, to).await;
                self.keep_stopped((caller, &name), question, came).await
            }
        };
        let result = match result {
            Ok(()) => Ok(None),
            Err(Stopped::Refused(refusal, error)) => return self.refused(call, refusal, error).await,
            Err(Stopped::Ask(error)) => Err(error),
            Err(Stopped::Stream(error)) => return Err(error),
            Err(Stopped::Midst(error)) => {
                return Ok(match self.ended::<()>(call, Err(error)).await {
                    Ok(()) => Outcome::Passed,
                    Err(error) => Outcome::BrokeOff(error),
                });
            }
        };
        Ok(match self.ended(call, result).await {
            Ok(None::<()>) | Ok(Some(())) => Outcome::Passed,
            Err(error) => Outcome::NotAsked(error),
        })
    }

    /// Keeps what a program is told where nothing was passed back.
    async fn keep_stopped(
        &self,
        asked: (&Caller, &str),
        question: Question,
        came: Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let (error, page) = match &came {
            Err(Stopped::Refused(refusal, error)) => {
                let body = self.keys.strike_bytes(refusal.body.clone());
                let body = String::from_utf8_lossy(&body).into_owned();
                (error, Some(Page { status: refusal.status, body }))
            }
            Err(Stopped::Ask(error)) => (error, None),
            Ok(()) | Err(Stopped::Midst(_) | Stopped::Stream(_)) => return came,
        };
        self.keep_refusal(asked, question, error, page).await?;
        came
    }

    async fn refused(&self, call: Call, refusal: Refusal, error: AskError) -> io::Result<Outcome> {
        drop(self.ended::<()>(call, Err(error)).await);
        let body = self.keys.strike_bytes(refusal.body);
        Ok(Outcome::Refused { status: refusal.status, content_type: "application/json".to_owned(), body })
    }

    /// Which of the task's models a program means: one that it names as the plan or its provider does, else the first that
    /// understands it, when it names none.
    fn named(&self, caller: &Caller, asking: &Asking) -> Result<String, AskError> {
        let fits = |name: &&String| !self.chain_for(name, asking.dialect).is_empty();
        let all = || caller.models.iter().filter(fits);
        let Some(wanted) = &asking.named else {
            return all().next().cloned().ok_or_else(|| self.not_named(caller, asking));
        };
        let is_its_own = |name: &&String| {
            let first = self.chain_for(name, asking.dialect).swap_remove(0);
            first.model == *wanted || first.name == *wanted
        };
        let found = all().find(|name| *name == wanted).or_else(|| all().find(is_its_own));
        found.cloned().ok_or_else(|| self.not_named(caller, asking))
    }

    /// Why a program means none of the task's models.
    fn not_named(&self, caller: &Caller, asking: &Asking) -> AskError {
        let is_meant = |name: &&String| {
            asking.named.as_ref().is_none_or(|wanted| {
                let first = self.catalog.chain(name).into_iter().next();
                *name == wanted || first.is_some_and(|first| first.model == *wanted || first.name == *wanted)
            })
        };
        let Some(name) = caller.models.iter().find(is_meant) else {
            let model = asking.named.clone().unwrap_or_default();
            return AskError::NotAllowed { model, allowed: Arc::clone(&caller.models) };
        };
        let understands = |(dialect, _): &&(Dialect, &str)| !self.chain_for(name, *dialect).is_empty();
        AskError::WrongFormat {
            model: asking.named.clone().unwrap_or_else(|| name.clone()),
            asked: PATHS.iter().find(|(dialect, _)| *dialect == asking.dialect).map_or("", |(_, path)| path),
            instead: PATHS.iter().filter(understands).map(|(_, path)| *path).collect(),
        }
    }

    async fn relay_chain(
        &self,
        caller: &Caller,
        name: &str,
        asking: &Asking,
        question: &Question,
        call: &mut Call,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        let mut last = None;
        let row = self.row(self.chain_for(name, asking.dialect));
        for (at, (endpoint, _)) in row.iter().enumerate() {
            let look = self.look(&row, at);
            let came = self.relay_one(caller, (endpoint, look.patience), asking, question, call, to).await;
            match &came {
                Ok(()) => self.looked(look, (&row, at), None, call, &mut |_| ()),
                Err(Stopped::Ask(error) | Stopped::Refused(_, error)) => {
                    self.looked(look, (&row, at), Some(error), call, &mut |_| ());
                }
                Err(Stopped::Midst(_) | Stopped::Stream(_)) => drop(look),
            }
            match came {
                Err(Stopped::Ask(error)) if error.is_of_this_model() => {
                    last = Some(last.filter(|_| !error.is_of_an_answer()).unwrap_or(Stopped::Ask(error)));
                }
                Err(Stopped::Refused(refusal, error)) if error.is_of_this_model() => {
                    last = Some(Stopped::Refused(refusal, error));
                }
                ended => return ended,
            }
        }
        Err(last.unwrap_or_else(|| {
            Stopped::Ask(AskError::Unknown { model: name.to_owned(), hint: self.catalog.advice(name) })
        }))
    }

    async fn relay_one(
        &self,
        caller: &Caller,
        (endpoint, patience): (&Endpoint, Patience),
        asking: &Asking,
        question: &Question,
        call: &mut Call,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        // Before anything is set aside for it: a machine that opens no connection has asked nobody.
        self.http()?;
        let mut key = self.key_of(endpoint).await?;
        let bounds = if self.accounts.are_bounded(caller) { Bounds::All } else { Bounds::Said };
        let letter = Letter { patience, ..letter(endpoint, asking, bounds) };
        let (mut tries, mut renewed) = (Tries::of(patience), false);
        loop {
            let (failure, refusal) =
                match self.opened(caller, endpoint, key.as_ref(), &letter, call, &mut |_| ()).await? {
                    Opened::Answer(underway, incoming) => {
                        return self.pass(caller, endpoint, asking, question, underway, *incoming, to).await;
                    }
                    Opened::Broken(failure, refusal) => (failure, refusal),
                };
            let reason = failure.class.waits_for();
            match self.what_next(endpoint, &mut key, failure, &mut tries, &mut renewed).await {
                Ok(wait) => self.pause(caller, endpoint, (wait, reason), call, &mut |_| ()).await?,
                Err(error) => {
                    return Err(match refusal {
                        Some(refusal) => Stopped::Refused(refusal, error),
                        None => Stopped::Ask(error),
                    });
                }
            }
        }
    }

    /// Passes an answer back while it arrives, and books it.
    #[expect(clippy::too_many_arguments, reason = "who, whom, what, and both ends of the answer")]
    async fn pass(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        asking: &Asking,
        question: &Question,
        mut underway: Underway,
        mut incoming: Incoming,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        let content_type = std::mem::take(&mut incoming.content_type);
        let mut meter = Meter::new(asking.dialect, &content_type, matches!(*self.tape, Tape::Record(_)));
        if meter.whole {
            underway.comes_whole();
        }
        let mut unasked = Unasked::of(asking.dialect, &asking.fields, meter.whole);
        let passing = async {
            let mut back = Back::begin(to, &content_type, asking.unmeasured).await?;
            let mut alive = Alive::new(endpoint.idle, Instant::now());
            while let Some(chunk) = incoming.next().await.map_err(|failure| broke(endpoint, failure))? {
                let says = meter.read(&chunk);
                alive.hears(says, chunk.len(), Instant::now()).map_err(|failure| broke(endpoint, failure))?;
                back.piece(&unasked.without(&chunk)).await?;
            }
            back.piece(&unasked.rest()).await?;
            Ok::<_, Stopped>(back)
        };
        let passed = tokio::select! {
            (whose, why) = underway.held.time_is_over() => Err(Stopped::Midst(AskError::Budget { whose, why })),
            passed = passing => passed,
        };
        let read = meter.read;
        let (met, bytes) = meter.end();
        // What came is kept as it came, whatever it is.
        if !matches!(passed, Err(Stopped::Stream(_) | Stopped::Midst(AskError::Budget { .. }))) {
            let (instance, model) = (caller.instance.clone(), endpoint.name.clone());
            let said = Said::Answer(bytes);
            let heard = Heard { instance, model, dialect: asking.dialect, content_type, said };
            self.keep(question.clone(), heard).await.map_err(Stopped::Midst)?;
        }
        let back = match passed {
            Ok(back) => back,
            Err(stopped) => {
                underway.broke(Class::Transient { wait: None }, read);
                return Err(stopped);
            }
        };
        let allowance = incoming.allowance;
        match met {
            Met::Whole(reply) => {
                underway.pass.ended(Ended::Answered(allowance), random());
                underway.held.took(&reply.usage, arrived(&reply));
            }
            Met::Cut => {
                underway.broke(Class::Transient { wait: None }, read);
                return Err(broke(endpoint, cut_off()));
            }
            Met::NotUnderstood => underway.unread(read),
        }
        Ok(back.end().await?)
    }

    async fn replay_to(
        &self,
        caller: &Caller,
        name: &str,
        asking: &Asking,
        question: Question,
        call: &mut Call,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Stopped> {
        let most = |endpoint: Option<&Endpoint>| {
            endpoint.map_or_else(Tokens::default, |it| letter(it, asking, Bounds::Said).most)
        };
        let (recorded, said, held) = self.played(caller, name, question, most, call).await?;
        let bytes = match said {
            Said::Answer(bytes) => bytes,
            Said::Refusal(refused) => {
                held.took_nothing();
                return Err(match refused.again(recorded.model) {
                    (error, Some(Page { status, body })) => {
                        Stopped::Refused(Refusal { status, body: body.into_bytes() }, error)
                    }
                    (error, None) => Stopped::Ask(error),
                });
            }
        };
        let mut meter = Meter::new(recorded.dialect, &recorded.content_type, true);
        meter.read(&bytes);
        let (met, _) = meter.end();
        match &met {
            Met::Whole(reply) => held.took(&reply.usage, arrived(reply)),
            Met::Cut | Met::NotUnderstood => held.broke_off(bytes.len() as u64),
        }
        let mut back = Back::begin(to, &recorded.content_type, asking.unmeasured).await?;
        let mut unasked =
            Unasked::of(recorded.dialect, &asking.fields, is_whole(recorded.dialect, &recorded.content_type));
        for chunk in bytes.chunks(REPLAYED_CHUNK_BYTES) {
            back.piece(&unasked.without(chunk)).await?;
        }
        back.piece(&unasked.rest()).await?;
        if matches!(met, Met::Cut) {
            let model = recorded.model;
            return Err(Stopped::Midst(AskError::Refused { model, failure: cut_off() }));
        }
        Ok(back.end().await?)
    }
}

/// Why nothing was passed back, or not all of it.
enum Stopped {
    /// Nothing was.
    Ask(AskError),
    /// Nothing was, and the provider says why.
    Refused(Refusal, AskError),
    /// An answer had begun.
    Midst(AskError),
    /// The program does not take it.
    Stream(io::Error),
}

impl From<AskError> for Stopped {
    fn from(error: AskError) -> Self {
        Stopped::Ask(error)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Stopped::Stream(error)
    }
}

fn broke(endpoint: &Endpoint, failure: Failure) -> Stopped {
    Stopped::Midst(AskError::Refused { model: endpoint.name.clone(), failure })
}

/// Reads along with an answer.
struct Meter {
    decoder: Option<Decoder>,
    dialect: Dialect,
    whole: bool,
    kept: bool,
    bytes: Vec<u8>,
    read: u64,
}

impl Meter {
    fn new(dialect: Dialect, content_type: &str, kept: bool) -> Self {
        let whole = is_whole(dialect, content_type);
        Meter { decoder: Some(Decoder::new(dialect)), dialect, whole, kept, bytes: Vec::new(), read: 0 }
    }

    /// Whether something of the answer is among the bytes; of one that is not understood, anything may be.
    fn read(&mut self, chunk: &[u8]) -> bool {
        self.read += chunk.len() as u64;
        if self.whole || self.kept {
            self.bytes.extend_from_slice(chunk);
        }
        if self.whole {
            return !chunk.trim_ascii().is_empty();
        }
        let Some(decoder) = &mut self.decoder else { return true };
        let before = decoder.said();
        if decoder.feed(chunk).is_err() {
            self.decoder = None;
            return true;
        }
        decoder.said() > before
    }

    /// What it was, and its bytes where they are kept.
    fn end(self) -> (Met, Vec<u8>) {
        let reply = match (self.whole, self.decoder) {
            (true, _) => decode_whole(self.dialect, &self.bytes),
            (false, Some(decoder)) => decoder.finish(),
            (false, None) => return (Met::NotUnderstood, self.bytes),
        };
        let met = match reply {
            Ok(reply) => Met::Whole(reply),
            Err(DecodeError::Truncated) => Met::Cut,
            Err(_) => Met::NotUnderstood,
        };
        (met, self.bytes)
    }
}

/// What an answer was at its end.
enum Met {
    /// All of it.
    Whole(Reply),
    /// It ended before it was over, though its connection says nothing of that.
    Cut,
    /// Whether it is whole, nobody here can say; its program may.
    NotUnderstood,
}

fn cut_off() -> Failure {
    let message = DecodeError::Truncated.to_string();
    Failure { class: Class::Transient { wait: None }, message }
}

/// What of a request tells recordings apart beside its body.
fn kind(asking: &Asking) -> String {
    let dialect = format!("{:?}", asking.dialect);
    match &asking.named {
        Some(model) if asking.dialect == Dialect::Gemini => format!("{dialect}/{model}:{}", asking.action),
        _ => dialect,
    }
}

/// Where a model is asked in a wire format; `None` where it does not understand it.
fn place(endpoint: &Endpoint, dialect: Dialect, action: &str) -> Option<String> {
    let base = &endpoint.base_url;
    match (endpoint.provider, dialect) {
        (Provider::Anthropic, Dialect::Anthropic) => Some(format!("{base}/v1/messages")),
        (Provider::Openai | Provider::OpenaiResponses | Provider::Openrouter, Dialect::OpenaiChat) => {
            Some(format!("{base}/chat/completions"))
        }
        (Provider::Openai | Provider::OpenaiResponses, Dialect::OpenaiResponses) => Some(format!("{base}/responses")),
        // Source: Ollama, "OpenAI compatibility".
        (Provider::Ollama, Dialect::OpenaiChat) => Some(format!("{base}/v1/chat/completions")),
        (Provider::Gemini, Dialect::Gemini) => Some(format!("{base}/models/{}:{action}", endpoint.model)),
        _ => None,
    }
}

fn url(endpoint: &Endpoint, asking: &Asking) -> String {
    let place = place(endpoint, asking.dialect, asking.action).unwrap_or_default();
    if asking.query.is_empty() { place } else { format!("{place}?{}", asking.query) }
}

fn headers(asking: &Asking) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = exchange::headers(asking.dialect);
    for (name, value) in &asking.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
    }
    headers
}

/// Which answers are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    /// Those that the program, or the user's config, bounds.
    Said,
    /// The others, too, to what is set aside for them.
    All,
}

/// What one model is asked by a program.
fn letter(endpoint: &Endpoint, asking: &Asking, bounds: Bounds) -> Letter {
    let (body, output) = native(endpoint, asking, bounds);
    let most = Tokens { input: input_at_most(body.len()), output };
    let streams = match asking.dialect {
        Dialect::Gemini => asking.action == "streamGenerateContent",
        _ => asking.fields.get("stream") == Some(&Value::Bool(true)),
    };
    let form = if streams { Form::Stream } else { Form::Whole };
    let keeps_long = claims::keeps_for_an_hour(&asking.fields);
    let prices = endpoint.prices.map(|prices| if keeps_long { prices.for_an_hour() } else { prices });
    let patience = Patience::Full;
    Letter { url: url(endpoint, asking), headers: headers(asking), body, most, prices, form, patience }
}

/// The body for one model, and the most tokens that it may answer.
fn native(endpoint: &Endpoint, asking: &Asking, bounds: Bounds) -> (Vec<u8>, u64) {
    let mut fields = asking.fields.clone();
    let most = endpoint.output_max.map(u64::from);
    let Claim { output, answers } = asking.claim;
    // Whoever serves a small model refuses a bound that its context does not hold.
    let unsaid = endpoint.context.map_or(OUTPUT_UNSAID, |all| OUTPUT_UNSAID.min(u64::from(all) / 2).max(1));
    let output = match (output, most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most).or((bounds == Bounds::All).then_some(unsaid)),
    };
    if let Some(output) = output {
        bound(endpoint, asking.dialect, &mut fields, output);
    }
    if asking.dialect != Dialect::Gemini {
        fields.insert("model".to_owned(), endpoint.model.clone().into());
    }
    // Without this, a stream does not say what it took.
    unasked::ask(asking.dialect, &mut fields);
    claims::store_nothing(&endpoint.base_url, asking.dialect, &mut fields);
    let output = output.unwrap_or(unsaid).saturating_mul(answers);
    (serde_json::to_vec(&fields).expect("plain data"), output)
}

/// Writes the bound of one answer, where the program wrote it or where the format has it.
fn bound(endpoint: &Endpoint, dialect: Dialect, fields: &mut Map<String, Value>, output: u64) {
    if dialect == Dialect::Gemini {
        let name = if fields.contains_key("generation_config") { "generation_config" } else { "generationConfig" };
        let config = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(config) = config {
            config.remove("max_output_tokens");
            config.insert("maxOutputTokens".to_owned(), output.into());
        }
        return;
    }
    let own = match dialect {
        Dialect::OpenaiResponses => "max_output_tokens",
        Dialect::OpenaiChat => crate::model::chat::output_bound(&endpoint.model),
        _ => "max_tokens",
    };
    let said = ["max_tokens", "max_completion_tokens"].into_iter().find(|name| fields.contains_key(*name));
    let name = if dialect == Dialect::OpenaiChat { said.unwrap_or(own) } else { own };
    for other in ["max_tokens", "max_completion_tokens", "max_output_tokens"] {
        fields.remove(other);
    }
    fields.insert(name.to_owned(), output.into());
}
