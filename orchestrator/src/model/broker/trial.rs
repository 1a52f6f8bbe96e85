//! One model asked until it answers or trying again makes no sense: reserve → wait for the way → send → read → book.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use swarm_protocol::chat::{AssistantPart, ModelRequest, Reply};
use tokio::sync::watch;
use tokio::time::Instant;

use super::accounts::Held;
use super::catalog::Endpoint;
use super::claims;
use super::exchange::{self, Alive, Arrived, Incoming, Kept, Outgoing, Reached};
use super::heard::{News, mask_reply};
use super::keys::{Forgotten, Secret};
use super::lanes::{Pass, TOLD_MIN};
use super::row::Patience;
use super::tape::{Heard, Question, Said, Tape};
use super::told::{Call, JournalGone};
use super::{Answer, AskError, Broker, Caller, is_whole};
use crate::dispatcher::random;
use crate::event::WaitReason;
use crate::model::budget::{Prices, Tokens};
use crate::model::failure::{Class, Failure};
use crate::model::governor::{Ended, retry_in};
use crate::model::{DecodeError, Decoder, Delta, decode_whole, encode, foreign};

/// Bytes of a request that are one token at least. Providers' tokens have about four bytes in prose and three in code; JSON and
/// scripts other than Latin come near two.
const BYTES_A_TOKEN_MIN: usize = 2;
/// Bytes of a request that are a token, roughly.
const BYTES_A_TOKEN: usize = 4;

/// Why an answer that is masked cannot be given again.
const NOT_KEPT: &str =
    "its answer repeats the key in a form that its bytes hide: it is masked, and no recording keeps it";

/// The most tokens that a request of so many bytes has.
pub fn input_at_most(bytes: usize) -> u64 {
    (bytes / BYTES_A_TOKEN_MIN + 1) as u64
}

/// The most tokens of an answer that came; `None` where not all that it took is in it: a provider may show less thinking than
/// there was.
pub fn arrived(reply: &Reply) -> Option<u64> {
    let thinks = reply.content.iter().any(|part| matches!(part, AssistantPart::Thinking { .. }));
    let bytes = || serde_json::to_vec(&reply.content).map_or(0, |text| text.len());
    (!thinks).then(|| input_at_most(bytes()))
}

/// An answer in full.
struct Whole {
    reply: Reply,
    content_type: String,
    /// Its bytes, when they are kept; `None` where a key would be in them.
    kept: Option<Vec<u8>>,
}

/// Tries of one model by one call.
pub struct Tries {
    made: u32,
    patience: Patience,
}

impl Tries {
    /// None was made yet.
    pub fn of(patience: Patience) -> Self {
        Tries { made: 0, patience }
    }
}

/// An answer that broke off.
struct Broken {
    failure: Failure,
    /// Bytes of it that came.
    read: u64,
}

/// How an answer was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Piece by piece: what came is what was made, about.
    Stream,
    /// In one piece: all of it may have been made before the first byte comes.
    Whole,
}

/// What one model is asked, however often.
pub struct Letter {
    /// The whole URL.
    pub url: String,
    /// Besides the key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// JSON.
    pub body: Vec<u8>,
    /// Tokens that it can take at most.
    pub most: Tokens,
    /// What that costs, as it asks for it; `None` is unknown.
    pub prices: Option<Prices>,
    /// How the answer is wanted.
    pub form: Form,
    /// How often it is asked.
    pub patience: Patience,
}

/// What came of one try until the head of an answer.
pub enum Opened {
    /// An answer begins.
    Answer(Underway, Box<Incoming>),
    /// None does, and that is booked; the provider's own words, where it refuses.
    Broken(Failure, Option<Refusal>),
}

/// A refusal of a provider, as it came.
pub struct Refusal {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A try in its midst.
pub struct Underway {
    pub held: Held,
    pub pass: Pass,
    form: Form,
}

impl Underway {
    /// An answer came in one piece, whatever was asked for.
    pub fn comes_whole(&mut self) {
        self.form = Form::Whole;
    }

    /// Books a try that cost nothing, and says what it means for the others.
    fn refused(self, class: Class) {
        self.pass.ended(Ended::Refused(class), random());
        self.held.took_nothing();
    }

    /// Books a try whose answer broke off behind so many bytes, and says what it means for the others.
    pub fn broke(self, class: Class, read: u64) {
        self.pass.ended(Ended::Refused(class), random());
        match self.form {
            Form::Stream => self.held.broke_off(read),
            Form::Whole => self.held.broke_off(u64::MAX),
        }
    }

    /// Books a whole answer that cannot be read: nobody says what it took.
    pub fn unread(self, bytes: u64) {
        self.pass.ended(Ended::Refused(Class::Transient { wait: None }), random());
        self.held.broke_off(bytes);
    }

    /// Books a try that was given up: nobody knows what is made of it yet.
    fn given_up(self) {
        self.held.broke_off(u64::MAX);
    }
}

impl Broker {
    /// Asks one model until it answers, or trying again makes no sense.
    pub(super) async fn ask_endpoint(
        &self,
        caller: &Caller,
        (endpoint, patience): (&Endpoint, Patience),
        request: &ModelRequest,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, AskError> {
        // Before anything is set aside for it: a machine that opens no connection has asked nobody.
        self.http()?;
        let mut key = self.key_of(endpoint).await?;
        let letter = Letter { patience, ..letter(endpoint, request) };
        let (mut tries, mut renewed, mut shown) = (Tries::of(patience), false, false);
        loop {
            let failure = match self.opened(caller, endpoint, key.as_ref(), &letter, call, news).await? {
                Opened::Broken(failure, _) => failure,
                Opened::Answer(underway, incoming) => {
                    let mut hear = |delta: Delta| {
                        shown = true;
                        news(delta);
                    };
                    match self.heard(endpoint, underway, *incoming, &mut hear).await? {
                        Ok(whole) => {
                            let Whole { reply, content_type, kept } = whole;
                            let (instance, model) = (caller.instance.clone(), endpoint.name.clone());
                            let (dialect, cost) = (endpoint.dialect, call.cost());
                            match kept {
                                Some(bytes) => {
                                    let (model, said) = (model.clone(), Said::Answer(bytes));
                                    let heard = Heard { instance, model, dialect, content_type, said };
                                    self.keep(Question::of_agent(request), heard).await?;
                                }
                                None if matches!(*self.tape, Tape::Record(_)) => {
                                    news(Delta::Said(NOT_KEPT.to_owned()));
                                }
                                None => {}
                            }
                            return Ok(Answer { dialect, reply, model, cost });
                        }
                        Err(failure) => failure,
                    }
                }
            };
            if std::mem::take(&mut shown) {
                news(Delta::Restarted);
            }
            let why = format!("{} does not answer: {}", endpoint.name, self.keys.strike(&failure.message));
            let reason = failure.class.waits_for();
            match self.what_next(endpoint, &mut key, failure, &mut tries, &mut renewed).await? {
                Duration::ZERO => {}
                wait => {
                    news(Delta::Again { why, wait });
                    self.pause(caller, endpoint, (wait, reason), call, news).await?;
                }
            }
        }
    }

    /// One try until the head of an answer: reserve → wait for the way → send. What ends before is booked.
    pub(super) async fn opened(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        key: Option<&Secret>,
        letter: &Letter,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Opened, AskError> {
        call.is_for(&endpoint.name);
        let http = self.http()?;
        let underway = match self.underway(caller, endpoint, letter, call, news).await? {
            Ok(underway) => underway,
            Err(failure) => return Ok(Opened::Broken(failure, None)),
        };
        let Letter { url, headers, body, .. } = letter;
        let outgoing = Outgoing { url: url.clone(), headers: headers.clone(), body: body.clone() };
        let sent = tokio::select! {
            (whose, why) = underway.held.time_is_over() => {
                underway.given_up();
                return Err(AskError::Budget { whose, why });
            }
            sent = http.send(endpoint, key, outgoing) => sent,
        };
        Ok(match sent {
            Ok(Arrived::Answer(incoming)) => {
                let whole = is_whole(endpoint.dialect, &incoming.content_type);
                let form = if whole { Form::Whole } else { Form::Stream };
                let kept = if matches!(*self.tape, Tape::Record(_)) { Kept::AsItCame } else { Kept::Decoded };
                if foreign::is_page(&incoming.content_type) {
                    // A page is no model's: nothing was asked of one.
                    let message = foreign::page(endpoint.dialect, &endpoint.base_url);
                    underway.refused(Class::Foreign);
                    return Ok(Opened::Broken(Failure { class: Class::Foreign, message }, None));
                }
                Opened::Answer(underway, Box::new(incoming.without(self.keys.mask(), form, kept)))
            }
            Ok(Arrived::Refused { failure, status, body }) => {
                underway.refused(failure.class);
                Opened::Broken(failure, Some(Refusal { status, body }))
            }
            Err((failure, Reached::No)) => {
                underway.refused(failure.class);
                Opened::Broken(failure, None)
            }
            Err((failure, Reached::Perhaps)) => {
                underway.broke(failure.class, 0);
                Opened::Broken(failure, None)
            }
        })
    }

    /// Hears an answer to its end, and books it.
    async fn heard(
        &self,
        endpoint: &Endpoint,
        mut underway: Underway,
        incoming: Incoming,
        hear: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Result<Whole, Failure>, AskError> {
        let allowance = incoming.allowance;
        if is_whole(endpoint.dialect, &incoming.content_type) {
            underway.comes_whole();
        }
        let read = tokio::select! {
            over = underway.held.time_is_over() => Err(over),
            read = self.read(endpoint, incoming, hear) => Ok(read),
        };
        match read {
            Err((whose, why)) => {
                underway.given_up();
                Err(AskError::Budget { whose, why })
            }
            Ok(Err(Broken { failure, read })) => {
                underway.broke(failure.class, read);
                Ok(Err(failure))
            }
            Ok(Ok(whole)) => {
                underway.pass.ended(Ended::Answered(allowance), random());
                underway.held.took(&whole.reply.usage, arrived(&whole.reply));
                Ok(Ok(whole))
            }
        }
    }

    /// Sets the budget aside and waits for the way to be free. The inner error is that this takes longer than whoever has another model
    /// waits.
    async fn underway(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        letter: &Letter,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Result<Underway, Failure>, AskError> {
        let (most, form) = (letter.most, letter.form);
        let held = self.set_aside(caller, (&endpoint.name, letter.prices), most, call).await?;
        // What is left at a provider is counted in tokens as they are, not at their most.
        let roughly = most.input * BYTES_A_TOKEN_MIN as u64 / BYTES_A_TOKEN as u64;
        let too_long = watch::Sender::new(None);
        let mut waits = |wait, why| match letter.patience.waits_for(wait) {
            true => news(Delta::Waits(call.waits(&endpoint.name, wait, why))),
            false => drop(too_long.send_replace(Some(wait))),
        };
        let mut is_too_long = too_long.subscribe();
        let entered = tokio::select! {
            pass = self.lanes.enter(&endpoint.base_url, roughly, &mut waits) => Ok(pass),
            over = held.time_is_over() => Err(Ok(over)),
            Ok(wait) = is_too_long.wait_for(Option::is_some) => Err(Err(*wait)),
        };
        match entered {
            Ok(pass) => {
                call.tries(&endpoint.name);
                // Behind this, a coordinator that dies has it booked by the next.
                let gone = |JournalGone| AskError::Machine("the journal cannot be written".to_owned());
                call.sends(held.at_most()).await.map_err(gone)?;
                Ok(Ok(Underway { held: held.sent(), pass, form }))
            }
            Err(Ok((whose, why))) => {
                held.took_nothing();
                Err(AskError::Budget { whose, why })
            }
            Err(Err(wait)) => {
                held.took_nothing();
                let seconds = wait.unwrap_or_default().as_secs();
                let message = format!("it takes no call for {seconds} s");
                Ok(Err(Failure { class: Class::RateLimited { wait }, message }))
            }
        }
    }

    /// Waits for the next try. That is waiting for the model as well: the time of each budget goes on.
    pub(super) async fn pause(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        (wait, reason): (Duration, WaitReason),
        call: &Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<(), AskError> {
        if wait >= TOLD_MIN {
            news(Delta::Waits(call.waits(&endpoint.name, wait, reason)));
        }
        let held = self.set_aside(caller, (&endpoint.name, endpoint.prices), Tokens::default(), call).await?;
        let over = tokio::select! {
            () = tokio::time::sleep(wait) => None,
            over = held.time_is_over() => Some(over),
        };
        held.took_nothing();
        over.map_or(Ok(()), |(whose, why)| Err(AskError::Budget { whose, why }))
    }

    /// The key of a model, if it has one.
    pub(super) async fn key_of(&self, endpoint: &Endpoint) -> Result<Option<Secret>, AskError> {
        let Some(source) = &endpoint.key else { return Ok(None) };
        let key = self.keys.get(source).await;
        Ok(Some(key.map_err(|detail| AskError::NoKey { model: endpoint.name.clone(), detail })?))
    }

    /// How long to wait before the next try; the key may be another then.
    ///
    /// # Errors
    /// [`AskError::Refused`] when there is no next try.
    pub(super) async fn what_next(
        &self,
        endpoint: &Endpoint,
        key: &mut Option<Secret>,
        failure: Failure,
        tries: &mut Tries,
        renewed: &mut bool,
    ) -> Result<Duration, AskError> {
        if let (Class::Key, Some(source), Some(refused), false) = (failure.class, &endpoint.key, &*key, *renewed)
            && self.keys.forget(source, refused).await == Forgotten::AskAgain
        {
            *renewed = true;
            *key = self.key_of(endpoint).await?;
            return Ok(Duration::ZERO);
        }
        tries.made += 1;
        let goes_on = tries.patience.tries_max().is_none_or(|most| tries.made < most);
        let wait = retry_in(failure.class, tries.made, random());
        let wait = wait.filter(|wait| goes_on && tries.patience.waits_for(*wait));
        wait.ok_or_else(|| {
            let message = self.keys.strike(&failure.message);
            AskError::Refused { model: endpoint.name.clone(), failure: Failure { message, ..failure } }
        })
    }

    /// Reads an answer to its end.
    async fn read(
        &self,
        endpoint: &Endpoint,
        mut incoming: Incoming,
        hear: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Whole, Broken> {
        let kept = matches!(*self.tape, Tape::Record(_));
        let content_type = std::mem::take(&mut incoming.content_type);
        let whole = is_whole(endpoint.dialect, &content_type);
        let (mut decoder, mut bytes, mut read) = (Decoder::new(endpoint.dialect), Vec::new(), 0u64);
        let (mut news, mut alive) = (News::new(self.keys.mask()), Alive::new(endpoint.idle, Instant::now()));
        loop {
            let chunk = incoming.next().await.map_err(|failure| Broken { failure, read })?;
            let Some(chunk) = chunk else { break };
            read += chunk.len() as u64;
            let before = decoder.said();
            if !whole {
                let deltas = decoder.feed(&chunk).map_err(|error| broken(error, read))?;
                deltas.into_iter().flat_map(|delta| news.take(delta)).for_each(&mut *hear);
            }
            let says = if whole { !chunk.trim_ascii().is_empty() } else { decoder.said() > before };
            alive.hears(says, chunk.len(), Instant::now()).map_err(|failure| Broken { failure, read })?;
            if kept || whole {
                bytes.extend_from_slice(&chunk);
            }
        }
        let reply = if whole { decode_whole(endpoint.dialect, &bytes) } else { decoder.finish() };
        news.finish().into_iter().for_each(&mut *hear);
        let mut reply = reply.map_err(|error| broken(error, read))?;
        // What the mask of the bytes did not know would stand in a recording.
        let kept = if mask_reply(&self.keys.mask(), &mut reply) { None } else { Some(bytes) };
        Ok(Whole { reply, content_type, kept })
    }
}

/// What one model is asked by an agent.
fn letter(endpoint: &Endpoint, request: &ModelRequest) -> Letter {
    let native = native(endpoint, request);
    let mut body = encode(endpoint.dialect, &native);
    if let Some(fields) = body.as_object_mut() {
        claims::store_nothing(&endpoint.base_url, endpoint.dialect, fields);
    }
    let body = serde_json::to_vec(&body).expect("plain data");
    let most = Tokens { input: input_at_most(body.len()), output: native.output_tokens_max.into() };
    let (url, headers) = (exchange::url(endpoint), exchange::headers(endpoint.dialect));
    let (form, patience) = (Form::Stream, Patience::Full);
    Letter { url, headers, body, most, prices: endpoint.prices, form, patience }
}

/// A request as one model may hear it.
fn native(endpoint: &Endpoint, request: &ModelRequest) -> ModelRequest {
    let most = endpoint.output_max.unwrap_or(u32::MAX);
    ModelRequest {
        model: endpoint.model.clone(),
        output_tokens_max: request.output_tokens_max.min(most),
        context_tokens: endpoint.context.or(request.context_tokens),
        ..request.clone()
    }
}

/// An answer that cannot be used.
fn broken(error: DecodeError, read: u64) -> Broken {
    let failure = match error {
        DecodeError::Failed(failure) => failure,
        DecodeError::Foreign(message) => Failure { class: Class::Foreign, message },
        DecodeError::TooLarge { .. } => Failure { class: Class::NotHere, message: error.to_string() },
        DecodeError::Truncated | DecodeError::Malformed(_) => {
            Failure { class: Class::Transient { wait: None }, message: error.to_string() }
        }
    };
    Broken { failure, read }
}
