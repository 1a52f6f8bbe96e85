//! One model asked until it answers or trying again makes no sense: reserve → wait for the way → send → read → book.

use std::time::Duration;

use swarm_protocol::chat::{ModelRequest, Reply};

use super::accounts::Held;
use super::catalog::Endpoint;
use super::exchange::{self, Arrived, Http, Incoming, Outgoing, Reached};
use super::keys::{Forgotten, Secret};
use super::lanes::Pass;
use super::tape::{Heard, Question, Tape};
use super::told::Call;
use super::{Answer, AskError, Broker, Caller, is_whole};
use crate::dispatcher::random;
use crate::model::budget::Tokens;
use crate::model::failure::{Class, Failure};
use crate::model::governor::{Ended, retry_in};
use crate::model::{DecodeError, Decoder, Delta, decode_whole, encode};

/// Bytes of a request that are one token at least. Providers' tokens have about four bytes in prose and three in code; JSON and
/// scripts other than Latin come near two.
const BYTES_A_TOKEN_MIN: usize = 2;
/// Bytes of a request that are a token, roughly.
const BYTES_A_TOKEN: usize = 4;

/// The most tokens that a request of so many bytes has.
pub fn input_at_most(bytes: usize) -> u64 {
    (bytes / BYTES_A_TOKEN_MIN + 1) as u64
}

/// An answer in full.
struct Whole {
    reply: Reply,
    content_type: String,
    /// Its bytes, when they are kept.
    bytes: Vec<u8>,
}

/// A try without an answer.
#[derive(Debug)]
pub struct Broken {
    /// Why.
    pub failure: Failure,
    /// What of it is paid for.
    pub paid: Paid,
}

/// What of a try without an answer is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paid {
    /// Nothing: it was refused, or never arrived.
    Nothing,
    /// The request, and so many bytes of an answer.
    Until(u64),
}

/// A try in its midst.
pub struct Underway {
    pub held: Held,
    pub pass: Pass,
}

impl Underway {
    /// Books a try without an answer, and says what it means for the others.
    pub fn broke(self, broken: &Broken) {
        self.pass.ended(Ended::Refused(broken.failure.class), random());
        match broken.paid {
            Paid::Nothing => self.held.took_nothing(),
            Paid::Until(bytes) => self.held.broke_off(bytes),
        }
    }
}

impl Broker {
    /// Asks one model until it answers, or trying again makes no sense.
    pub(super) async fn ask_endpoint(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        request: &ModelRequest,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, AskError> {
        // Before anything is set aside for it: a machine that opens no connection has asked nobody.
        let http = self.http()?;
        let mut key = self.key_of(endpoint).await?;
        let native = native(endpoint, request);
        let body = serde_json::to_vec(&encode(endpoint.dialect, &native)).expect("plain data");
        let most = Tokens { input: input_at_most(body.len()), output: native.output_tokens_max.into() };
        let (mut tries, mut renewed, mut shown) = (0, false, false);
        loop {
            tries += 1;
            call.tries(&endpoint.name);
            let underway = self.underway(caller, endpoint, most, call).await?;
            let mut hear = |delta: Delta| {
                shown = true;
                news(delta);
            };
            let tried = tokio::select! {
                (whose, why) = underway.held.time_is_over() => {
                    underway.held.broke_off(u64::MAX);
                    return Err(AskError::Budget { whose, why });
                }
                tried = self.try_once(http, (endpoint, key.as_ref()), body.clone(), &mut hear) => tried,
            };
            let broken = match tried {
                Ok((whole, allowance)) => {
                    underway.pass.ended(Ended::Answered(allowance), random());
                    underway.held.took(&whole.reply.usage);
                    self.keep(caller, endpoint, request, &whole)?;
                    let cost = call.cost();
                    let (dialect, model) = (endpoint.dialect, endpoint.name.clone());
                    return Ok(Answer { dialect, reply: whole.reply, model, cost });
                }
                Err(broken) => broken,
            };
            underway.broke(&broken);
            if std::mem::take(&mut shown) {
                news(Delta::Restarted);
            }
            let why = format!("{} does not answer: {}", endpoint.name, self.keys.strike(&broken.failure.message));
            match self.what_next(endpoint, &mut key, broken.failure, tries, &mut renewed).await? {
                Duration::ZERO => {}
                wait => {
                    news(Delta::Again { why, wait });
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Sets the budget aside and waits for the way to be free.
    pub(super) async fn underway(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        most: Tokens,
        call: &Call,
    ) -> Result<Underway, AskError> {
        let held = self.set_aside(caller, (&endpoint.name, endpoint.prices), most, call).await?;
        // What is left at a provider is counted in tokens as they are, not at their most.
        let roughly = most.input * BYTES_A_TOKEN_MIN as u64 / BYTES_A_TOKEN as u64;
        let entered = tokio::select! {
            pass = self.lanes.enter(&endpoint.base_url, roughly) => Ok(pass),
            over = held.time_is_over() => Err(over),
        };
        match entered {
            Ok(pass) => Ok(Underway { held, pass }),
            Err((whose, why)) => {
                held.took_nothing();
                Err(AskError::Budget { whose, why })
            }
        }
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
        tries: u32,
        renewed: &mut bool,
    ) -> Result<Duration, AskError> {
        if let (Class::Key, Some(source), Some(refused), false) = (failure.class, &endpoint.key, &*key, *renewed)
            && self.keys.forget(source, refused).await == Forgotten::AskAgain
        {
            *renewed = true;
            *key = self.key_of(endpoint).await?;
            return Ok(Duration::ZERO);
        }
        let wait = retry_in(failure.class, tries, random());
        wait.ok_or_else(|| {
            let message = self.keys.strike(&failure.message);
            AskError::Refused { model: endpoint.name.clone(), failure: Failure { message, ..failure } }
        })
    }

    async fn try_once(
        &self,
        http: &Http,
        (endpoint, key): (&Endpoint, Option<&Secret>),
        body: Vec<u8>,
        hear: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<(Whole, crate::model::governor::Allowance), Broken> {
        let headers = exchange::headers(endpoint.dialect);
        let outgoing = Outgoing { url: exchange::url(endpoint), headers, body };
        let incoming = match http.send(endpoint, key, outgoing).await {
            Ok(Arrived::Answer(incoming)) => incoming,
            Ok(Arrived::Refused { failure, .. }) => return Err(Broken { failure, paid: Paid::Nothing }),
            Err((failure, Reached::No)) => return Err(Broken { failure, paid: Paid::Nothing }),
            Err((failure, Reached::Perhaps)) => return Err(Broken { failure, paid: Paid::Until(0) }),
        };
        let allowance = incoming.allowance;
        Ok((self.read(endpoint, incoming, hear).await?, allowance))
    }

    /// Reads an answer to its end.
    async fn read(
        &self,
        endpoint: &Endpoint,
        mut incoming: Incoming,
        hear: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Whole, Broken> {
        let kept = matches!(self.tape, Tape::Record(_));
        let content_type = std::mem::take(&mut incoming.content_type);
        let whole = is_whole(endpoint.dialect, &content_type);
        let (mut decoder, mut bytes, mut read) = (Decoder::new(endpoint.dialect), Vec::new(), 0u64);
        loop {
            let chunk = incoming.next().await.map_err(|failure| Broken { failure, paid: Paid::Until(read) })?;
            let Some(chunk) = chunk else { break };
            read += chunk.len() as u64;
            if !whole {
                let deltas = decoder.feed(&chunk).map_err(|error| broken(error, read))?;
                deltas.into_iter().for_each(&mut *hear);
            }
            if kept || whole {
                bytes.extend_from_slice(&chunk);
            }
        }
        let reply = if whole { decode_whole(endpoint.dialect, &bytes) } else { decoder.finish() };
        let reply = reply.map_err(|error| broken(error, read))?;
        Ok(Whole { reply, content_type, bytes })
    }

    fn keep(
        &self,
        caller: &Caller,
        endpoint: &Endpoint,
        request: &ModelRequest,
        whole: &Whole,
    ) -> Result<(), AskError> {
        let Tape::Record(recorder) = &self.tape else { return Ok(()) };
        let bytes = self.keys.strike_bytes(whole.bytes.clone());
        let heard = Heard {
            instance: &caller.instance,
            model: &endpoint.name,
            dialect: endpoint.dialect,
            content_type: &whole.content_type,
            bytes: &bytes,
        };
        Ok(recorder.keep(&Question::of_agent(request), &heard)?)
    }
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
        DecodeError::TooLarge { .. } => Failure { class: Class::Invalid, message: error.to_string(), request_id: None },
        DecodeError::Truncated | DecodeError::Malformed(_) => {
            Failure { class: Class::Transient { wait: None }, message: error.to_string(), request_id: None }
        }
    };
    Broken { failure, paid: Paid::Until(read) }
}
