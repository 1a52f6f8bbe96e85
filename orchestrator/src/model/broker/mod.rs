//! The model broker: the one door from a run's workers to models. It holds the keys, the budget, the rate limits and the
//! recordings; a worker says *which of its plan's models* it asks and *what*, and is given an answer or a reason.
//!
//! What a worker says is hostile: it never chooses a host, a key or a price. Start reading at [`Broker::ask`].

/// Who has to wait for the budget, who is refused, what is booked.
pub mod accounts;
mod back;
/// From a model's name to where it is asked.
pub mod catalog;
/// What a program may ask of a provider.
mod claims;
/// An answer without the keys that were used to get it.
mod echo;
/// The endpoint inside a cage for programs that speak a provider's HTTP.
pub mod endpoint;
/// What a text says behind the escapes of JSON.
mod escapes;
/// One call over HTTP.
mod exchange;
/// A decoded answer without the keys that were used to get it.
mod heard;
/// Keys of providers.
pub mod keys;
/// The way to each provider, shared by all workers.
mod lanes;
/// What a provider says of its limits.
mod limits;
/// A program's request passed on, its answer passed back.
mod relay;
/// Models in a row, of which one answers.
mod row;
/// Answers of an earlier run instead of calls.
pub mod tape;
/// The tape, beside the loop.
mod taped;
/// What is told of each call.
pub mod told;
/// One try of one model.
mod trial;
/// What is asked of a provider and was not asked by a program.
mod unasked;

use std::sync::{Arc, Mutex, OnceLock};

use swarm_plans::{InstanceId, TaskIx};
use swarm_protocol::chat::{Dialect, ModelRequest, Reply};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::budget::{Exhausted, NanoUsd, Prices, Tokens};
use super::failure::{Class, Failure};
use super::health::Health;
use super::{Decoder, Delta, decode_whole};
use crate::event::CallOutcome;
pub use crate::event::Whose;
use crate::ids::Attempt;
use accounts::{Accounts, Held, Receipt};
use catalog::{Catalog, Endpoint};
use exchange::Http;
use keys::Keys;
use lanes::Lanes;
use tape::{Missing, Question, Recorded, Said, Tape, TapeError};
use told::{Call, News};

/// Who asks: one attempt of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The instance.
    pub instance: InstanceId,
    /// Its task, whose budget its calls are taken from.
    pub task: TaskIx,
    /// Which try, whose budget its calls are taken from.
    pub attempt: Attempt,
    /// The models that the task names, as the plan names them: `main`, `anthropic/claude-…`. Others are refused.
    pub models: Arc<[String]>,
}

/// A model's answer to a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Who said it: goes into the conversation beside it.
    pub dialect: Dialect,
    /// What was said.
    pub reply: Reply,
    /// The model that answered, `provider/model`: the one asked for, or one of its fallbacks.
    pub model: String,
    /// What it cost, tries that failed included.
    pub cost: Cost,
}

/// What a call cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// So much.
    Usd(NanoUsd),
    /// Nobody said what the model costs.
    Unpriced,
}

/// Why there is no answer. The texts may be shown to the worker: no key is in them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AskError {
    /// The task does not name this model.
    #[error("the task may not ask the model `{model}`; it may ask: {}", .allowed.join(", "))]
    NotAllowed {
        /// What was asked for.
        model: String,
        /// What the task names.
        allowed: Arc<[String]>,
    },
    /// A program asks in a wire format that the model does not understand.
    #[error("the model `{model}` is not asked at {asked}, whose format it does not understand, but at {}", .instead.join(" or "))]
    WrongFormat {
        /// What was asked for, or the task's first.
        model: String,
        /// The path that belongs to the format.
        asked: &'static str,
        /// Those of the formats that it understands.
        instead: Vec<&'static str>,
    },
    /// No such model is described anywhere.
    #[error("there is no model `{model}`: {hint}")]
    Unknown {
        /// What was asked for.
        model: String,
        /// What to write, for people.
        hint: String,
    },
    /// The model's key is not there.
    #[error("there is no key for {model}: {detail}")]
    NoKey {
        /// The model, `provider/model`.
        model: String,
        /// Where it was looked for, for people.
        detail: String,
    },
    /// A budget has too little left.
    #[error("the budget of the {whose} is spent: {why}{}", .why.raised_by(*.whose))]
    Budget {
        /// Whose.
        whose: Whose,
        /// What is left, and what was asked.
        why: Exhausted,
    },
    /// A whole budget is less than one call may take: this call is not made, and others are.
    #[error("{0}")]
    TooSmall(Box<TooSmall>),
    /// A budget is in dollars, and nobody knows what the model costs: it alone is not asked.
    #[error(
        "{model} has no price, and the budget of the {whose} is in dollars; give it `prices`, or the {whose} a budget in tokens"
    )]
    Unpriced {
        /// The model, `provider/model`.
        model: String,
        /// Whose budget.
        whose: Whose,
    },
    /// The provider refuses, or could not be reached, after all tries that made sense.
    #[error("{model} does not answer: {failure}")]
    Refused {
        /// The model, `provider/model`.
        model: String,
        /// The last refusal.
        failure: Failure,
    },
    /// A recording is not understood.
    #[error("the recorded answer of {model} is not understood: {detail}")]
    Malformed {
        /// The model, `provider/model`.
        model: String,
        /// What is wrong with it, for people.
        detail: String,
    },
    /// The folder of recordings has no answer to this.
    #[error(transparent)]
    NoRecording(#[from] Missing),
    /// The folder of recordings cannot be used.
    #[error(transparent)]
    Tape(#[from] Arc<TapeError>),
    /// The machine offers no way to speak to anybody.
    #[error("speak to models: {0}")]
    Machine(String),
}

impl AskError {
    /// Whose budget is spent, or never was enough.
    pub fn spent(&self) -> Option<Whose> {
        match self {
            AskError::Budget { whose, .. } | AskError::Unpriced { whose, .. } => Some(*whose),
            AskError::TooSmall(it) => Some(it.whose),
            _ => None,
        }
    }

    /// Whether a shorter conversation may be answered.
    pub fn is_too_long(&self) -> bool {
        matches!(self, AskError::Refused { failure, .. } if failure.class == Class::TooLong)
    }

    /// Whether another model may answer where this one does not.
    fn is_of_this_model(&self) -> bool {
        match self {
            AskError::Refused { failure, .. } => failure.class != Class::Invalid,
            AskError::NoKey { .. } | AskError::Unpriced { .. } | AskError::TooSmall(_) => true,
            _ => false,
        }
    }

    /// The same of a row of models, others of which could not be paid for.
    fn beside(self, unpaid: &[String]) -> AskError {
        match self {
            AskError::Refused { model, failure } if !unpaid.is_empty() => {
                let message = format!("{}; nobody was asked instead: {}", failure.message, unpaid.join("; "));
                AskError::Refused { model, failure: Failure { message, ..failure } }
            }
            other => other,
        }
    }

    /// Whether it says why a model failed: one that could not be paid for says nothing of those before it.
    fn is_of_an_answer(&self) -> bool {
        !matches!(self, AskError::Unpriced { .. } | AskError::TooSmall(_))
    }
}

/// A budget that is too small for a call, whatever was spent of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TooSmall {
    /// The model, `provider/model`.
    pub model: String,
    /// Whose budget.
    pub whose: Whose,
    /// The task that asks.
    pub task: String,
    /// What it has, and what is set aside for the call.
    pub why: Exhausted,
    /// The tokens of that.
    pub most: Tokens,
}

impl std::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TooSmall { model, whose, task, why, most } = self;
        let (key, has, asked) = match *why {
            Exhausted::Usd { limit, asked, .. } => {
                ("usd", format!("${:.4}", limit.usd()), format!("${:.4}", asked.usd()))
            }
            Exhausted::Tokens { limit, asked, .. } => ("tokens", limit.to_string(), format!("{asked} tokens")),
            Exhausted::Time { .. } | Exhausted::Unpriced { .. } => unreachable!("BUG: nothing is asked of these"),
        };
        let place = match whose {
            Whose::Run => format!("`{key}` of [budget] (or --budget-{key})"),
            Whose::Task => format!("`budget.{key}` of [tasks.{task}] (for this run: swarm retry --budget-{key})"),
            Whose::Attempt => {
                format!("`budget.attempt.{key}` of [tasks.{task}] (for this run: swarm retry --budget-{key})")
            }
        };
        write!(
            f,
            "the budget of the {whose} is too small for one call: {asked} have to be set aside for one of {model} ({} tokens of the question, {} of its answer), and it has {has}; raise {place}, or lower `output-tokens` of the agent or `output-max` of the model",
            most.input, most.output
        )
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Whose::Run => "run",
            Whose::Task => "task",
            Whose::Attempt => "attempt",
        })
    }
}

/// The door to the models of one run; shared.
#[derive(Debug)]
pub struct Broker {
    catalog: Catalog,
    tape: Arc<Tape>,
    keys: Keys,
    accounts: Arc<Accounts>,
    lanes: Lanes,
    health: Mutex<Health>,
    began: Instant,
    http: OnceLock<Result<Http, String>>,
    news: mpsc::UnboundedSender<News>,
}

impl Broker {
    /// A broker for the models of `catalog`. `news` hears of every call, and when the run's budget is spent.
    pub fn new(
        catalog: Catalog,
        tape: Tape,
        keys: Keys,
        accounts: Arc<Accounts>,
        news: mpsc::UnboundedSender<News>,
    ) -> Self {
        let (lanes, health, began) = (Lanes::default(), Mutex::default(), Instant::now());
        Broker { catalog, tape: Arc::new(tape), keys, accounts, lanes, health, began, http: OnceLock::new(), news }
    }

    /// Tokens that fit into a request and its answer, and tokens of an answer, that every model holds which may answer for a
    /// name; `None` is not known.
    pub fn sizes(&self, model: &str) -> (Option<u32>, Option<u32>) {
        let chain = self.catalog.chain(model);
        let least = |size: fn(&Endpoint) -> Option<u32>| chain.iter().filter_map(size).min();
        (least(|endpoint| endpoint.context), least(|endpoint| endpoint.output_max))
    }

    /// Asks a model of the plan. `news` hears the answer while it arrives, and [`Delta::Restarted`] when what it heard is void.
    /// An answer is returned when its call is in the journal. Dropping the future ends the call; what it may have cost is
    /// booked.
    ///
    /// Where the run's own budget is spent, nothing is returned any more: the run ends, and its workers with it.
    ///
    /// # Errors
    /// [`AskError`]. Only an answer that is whole is ever returned.
    pub async fn ask(
        &self,
        caller: &Caller,
        request: ModelRequest,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, AskError> {
        if !caller.models.contains(&request.model) {
            return Err(AskError::NotAllowed { model: request.model, allowed: Arc::clone(&caller.models) });
        }
        let mut call = Call::begin(caller, &request.model, &self.news);
        let answered = match *self.tape {
            Tape::Replay(_) => self.replayed(caller, &request, &mut call, news).await,
            Tape::Off | Tape::Record(_) => self.asked(caller, &request, &mut call, news).await,
        };
        let kept = match (&answered, &*self.tape) {
            (Err(error), Tape::Record(_)) => {
                self.keep_refusal((caller, &request.model), Question::of_agent(&request), error, None).await
            }
            _ => Ok(()),
        };
        self.ended(call, kept.and(answered)).await
    }

    /// Tells of a call that ended, and waits until that is in the journal.
    async fn ended<T>(&self, call: Call, result: Result<T, AskError>) -> Result<T, AskError> {
        let outcome = match (&result, &*self.tape) {
            (Ok(_), Tape::Replay(_)) => CallOutcome::Replayed,
            (Ok(_), Tape::Off | Tape::Record(_)) => CallOutcome::Answered,
            (Err(error), _) => {
                let too_small = if let AskError::TooSmall(it) = error { Some(it.whose) } else { None };
                CallOutcome::Failed { why: error.to_string(), too_small }
            }
        };
        call.end(outcome).await;
        if let Err(AskError::Budget { whose: Whose::Run, why }) = &result
            && self.news.send(News::RunBudgetSpent(why.to_string())).is_ok()
        {
            // The run ends, and whoever asked with it: no worker fails for what a resumed run may have again.
            std::future::pending::<()>().await;
        }
        result
    }

    async fn asked(
        &self,
        caller: &Caller,
        request: &ModelRequest,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, AskError> {
        let (mut last, mut unpaid) = (None, Vec::new());
        let row = self.row(self.catalog.chain(&request.model));
        for (at, (endpoint, _)) in row.iter().enumerate() {
            let look = self.look(&row, at);
            let came = self.ask_endpoint(caller, (endpoint, look.patience), request, call, news).await;
            self.looked(look, (&row, at), came.as_ref().err(), call, news);
            match came {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_of_this_model() => {
                    if !error.is_of_an_answer() {
                        unpaid.push(error.to_string());
                    }
                    last = Some(last.filter(|_| !error.is_of_an_answer()).unwrap_or(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.map(|last| last.beside(&unpaid)).unwrap_or_else(|| {
            let hint = self.catalog.advice(&request.model);
            AskError::Unknown { model: request.model.clone(), hint }
        }))
    }

    /// The recorded answer, with the budget as if it had been given now.
    async fn replayed(
        &self,
        caller: &Caller,
        request: &ModelRequest,
        call: &mut Call,
        news: &mut (dyn FnMut(Delta) + Send),
    ) -> Result<Answer, AskError> {
        let most = |_: Option<&Endpoint>| Tokens {
            input: trial::input_at_most(request.system.len() + recorded_bytes(request)),
            output: request.output_tokens_max.into(),
        };
        let question = Question::of_agent(request);
        let (recorded, said, held) = self.played(caller, &request.model, question, most, call).await?;
        let bytes = match said {
            Said::Answer(bytes) => bytes,
            Said::Refusal(refused) => {
                held.took_nothing();
                return Err(refused.again(recorded.model).0);
            }
        };
        let malformed = |detail: String| AskError::Malformed { model: recorded.model.clone(), detail };
        let reply = decode(recorded.dialect, &recorded.content_type, &bytes, news).map_err(malformed)?;
        held.took(&reply.usage, trial::arrived(&reply));
        Ok(Answer { dialect: recorded.dialect, reply, model: recorded.model, cost: call.cost() })
    }

    /// A recorded answer with what it says, and what is set aside as if its model was asked now: `most` of what it can take. What a
    /// budget refuses nobody was asked, so nothing is recorded of it: it is refused again.
    async fn played(
        &self,
        caller: &Caller,
        name: &str,
        question: Question,
        most: impl FnOnce(Option<&Endpoint>) -> Tokens,
        call: &mut Call,
    ) -> Result<(Recorded, Said, Held), AskError> {
        let known = self.catalog.chain(name);
        let recorded = match self.play(caller.instance.clone(), question).await {
            Err(missing @ AskError::NoRecording(_)) if !known.is_empty() => {
                let (most, first) = (most(known.first()), &known[0]);
                self.set_aside(caller, (&first.name, first.prices), most, call).await?.took_nothing();
                return Err(missing);
            }
            recorded => recorded?,
        };
        let endpoint = known.iter().find(|endpoint| endpoint.name == recorded.model).or(known.first());
        let (most, prices) = (most(endpoint), endpoint.and_then(|endpoint| endpoint.prices));
        call.tries(&recorded.model);
        let held = self.set_aside(caller, (&recorded.model, prices), most, call).await?;
        match recorded.said() {
            Ok(said) => Ok((recorded, said, held)),
            Err(detail) => Err(AskError::Malformed { model: recorded.model, detail }),
        }
    }

    /// Sets the most aside that a call of a model can take.
    async fn set_aside(
        &self,
        caller: &Caller,
        (model, prices): (&str, Option<Prices>),
        most: Tokens,
        call: &Call,
    ) -> Result<Held, AskError> {
        let held = self.accounts.reserve(caller, most, prices, call.receipt()).await;
        held.map_err(|(whose, why)| match why {
            Exhausted::Unpriced { .. } => AskError::Unpriced { model: model.to_owned(), whose },
            why if why.is_for_ever() => {
                let task = caller.instance.task().to_owned();
                AskError::TooSmall(Box::new(TooSmall { model: model.to_owned(), whose, task, why, most }))
            }
            why => AskError::Budget { whose, why },
        })
    }

    fn http(&self) -> Result<&Http, AskError> {
        let http = self.http.get_or_init(|| Http::new().map_err(|error| error.to_string()));
        http.as_ref().map_err(|error| AskError::Machine(error.clone()))
    }
}

fn recorded_bytes(request: &ModelRequest) -> usize {
    serde_json::to_string(&request.messages).map_or(0, |text| text.len())
}

/// Whether an answer comes in one piece although a stream was asked for.
fn is_whole(dialect: Dialect, content_type: &str) -> bool {
    dialect != Dialect::Ollama && content_type.trim_start().to_ascii_lowercase().starts_with("application/json")
}

fn decode(
    dialect: Dialect,
    content_type: &str,
    bytes: &[u8],
    news: &mut (dyn FnMut(Delta) + Send),
) -> Result<Reply, String> {
    if is_whole(dialect, content_type) {
        return decode_whole(dialect, bytes).map_err(|error| error.to_string());
    }
    let mut decoder = Decoder::new(dialect);
    decoder.feed(bytes).map_err(|error| error.to_string())?.into_iter().for_each(news);
    decoder.finish().map_err(|error| error.to_string())
}
