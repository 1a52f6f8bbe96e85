//! An agent's conversation as a pure value: what came in, what to do next. No clock, no files, no network; whoever drives
//! it asks the model, runs the tools and tells what came of it. Start reading at [`Turns::hear`].
//!
//! Two rules hold at every step and are tested at random: every call of the model gets exactly one result before the model
//! is asked again, and a call that is not whole is never executed.

use swarm_protocol::chat::{
    Arguments, AssistantPart, Dialect, Message, Reply, Stop, ToolCall, ToolSpec, ToolStatus, Usage, UserPart,
};

use super::compact::{self, Asked};
use super::cut;
use super::guard::{Circle, Guard};
use super::salvage::{self, Known};
use super::tools::bounded;

/// How often a model may run into the bound of its answer, or say nothing at all, in a row.
const STUMBLES_MAX: u32 = 3;
/// How often in a row a model is asked again whose call was text that cannot be read.
const UNHEARD_MAX: u32 = 3;
/// The longest name of a tool that does not exist, as its caller is told of it, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// What part of our own estimate a provider's count is at least: a token of four times as many bytes as usual is in no text.
const MISCOUNTED: u64 = 4;
/// The shortest answer that is worth a request, in tokens: a call of a tool.
const ANSWER_TOKENS_MIN: u64 = 64;

/// What a conversation is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Answers of the model.
    pub turns: u32,
    /// Tokens in and out, summed up over all turns. What a request takes is set aside before it is sent: one for which there is no
    /// room is not sent, and no answer may be longer than what is left.
    pub tokens: Option<u64>,
    /// What every request holds besides the conversation, in tokens: instructions and tools.
    pub fixed_tokens: u64,
    /// Size of the model's context, in tokens; what comes near is summed up before.
    pub context_tokens: u64,
}

/// What comes in.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The model's answer.
    Reply {
        /// In whose words.
        dialect: Dialect,
        /// The answer.
        reply: Reply,
    },
    /// What the calls gave, in any order; what is missing was interrupted.
    Results(Vec<Outcome>),
    /// A person says something; heard with the next request.
    Hint(String),
    /// The conversation is longer than the model takes; why.
    TooLong(String),
    /// The model cannot be asked any more; why.
    Broke(String),
}

/// What one call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The call's id.
    pub call: String,
    /// For the model.
    pub content: String,
    /// Whether it worked.
    pub status: ToolStatus,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Ask the model, with [`Turns::messages`].
    Ask,
    /// Ask the model to sum up [`Turns::to_sum_up`]; its answer comes as a reply like any other.
    SumUp,
    /// Run these calls, which are whole and name tools that exist; then tell their results.
    Act(Vec<ToolCall>),
    /// Nothing more.
    End(Ending),
}

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The model says that it is done; its last words. Whether it is, checks decide.
    Done(String),
    /// The model refuses; its words.
    Refused(String),
    /// A limit was reached; which.
    Limit(&'static str),
    /// It went round in circles; which.
    Circles(String),
    /// The model cannot be asked any more; why.
    Broke(String),
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    /// The model is asked.
    Asking,
    /// The model sums up all before this message.
    SummingUp {
        keep_from: usize,
        asked: Asked,
    },
    /// Calls run; these were answered here already.
    Acting {
        calls: Vec<ToolCall>,
        answered: Vec<Outcome>,
    },
    Ended(Ending),
}

/// A conversation.
#[derive(Debug)]
pub struct Turns {
    limits: Limits,
    tools: Known,
    messages: Vec<Message>,
    state: State,
    guard: Guard,
    hints: Vec<String>,
    turns: u32,
    used: u64,
    /// Size of the conversation, in tokens: as the provider counted it at the newest answer, and an estimate of what came since.
    context: u64,
    /// It was too long for the model since the newest answer.
    too_long: bool,
    /// Since then its largest parts were cut.
    is_cut: bool,
    /// What was cut, for people.
    told: Vec<String>,
    stumbles: u32,
    /// Calls in a row that were text that cannot be read.
    unheard: u32,
    salvaged: u64,
}

impl Turns {
    /// A conversation that begins with a task. `tools` are those that exist.
    pub fn new(task: String, tools: Vec<ToolSpec>, limits: Limits) -> Self {
        Turns {
            limits,
            tools: Known::new(tools),
            turns: 0,
            messages: vec![Message::User { content: vec![UserPart::Text { text: task }] }],
            state: State::Asking,
            guard: Guard::default(),
            hints: vec![],
            used: 0,
            context: 0,
            too_long: false,
            is_cut: false,
            told: vec![],
            stumbles: 0,
            unheard: 0,
            salvaged: 0,
        }
    }

    /// What to do first.
    pub fn begin(&mut self) -> Next {
        self.ask()
    }

    /// The conversation so far; alternates, and begins with a user's message.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What is to be summed up, when [`Next::SumUp`] says so: the conversation up to where it is kept, with the request
    /// as its last words.
    pub fn to_sum_up(&self) -> Vec<Message> {
        let State::SummingUp { keep_from, asked } = self.state else { return vec![] };
        compact::request(&self.messages[..keep_from], asked)
    }

    /// How often it was asked for the summary that [`Next::SumUp`] wants; `None` where none is wanted.
    pub fn asked_to_sum_up(&self) -> Option<Asked> {
        match self.state {
            State::SummingUp { asked, .. } => Some(asked),
            _ => None,
        }
    }

    /// Whether calls run of an answer whose others could not be run: half-written ones, or of tools that do not exist.
    pub fn left_some_out(&self) -> bool {
        matches!(&self.state, State::Acting { answered, .. } if !answered.is_empty())
    }

    /// How long the next answer may be, in tokens, where all of them are bounded.
    pub fn answer_tokens_max(&self) -> Option<u64> {
        let sent = self.context.max(self.limits.fixed_tokens.saturating_add(compact::estimate(&self.messages)));
        self.limits.tokens.map(|most| most.saturating_sub(self.used.saturating_add(sent)))
    }

    /// What people should know of it since they were told last.
    pub fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// Answers of the model so far.
    pub fn turns(&self) -> u32 {
        self.turns
    }

    /// Takes what came in and says what is next. What does not fit the moment (a result nobody waits for, anything behind
    /// the end) changes nothing.
    pub fn hear(&mut self, input: Input) -> Option<Next> {
        if matches!(self.state, State::Ended(_)) {
            if let Input::Hint(hint) = input {
                self.hints.push(hint);
            }
            return None;
        }
        match (input, std::mem::replace(&mut self.state, State::Asking)) {
            (Input::Hint(hint), state) => {
                self.hints.push(hint);
                self.state = state;
                None
            }
            (Input::Broke(why), State::Acting { calls, answered }) => {
                self.answer(&calls, answered);
                Some(self.end(Ending::Broke(why)))
            }
            (Input::TooLong(why), State::Asking) => Some(self.shorten(why)),
            // What is too long to be asked about is too long to be summed up by the same model.
            (Input::TooLong(_), State::SummingUp { keep_from, .. }) => {
                let account = compact::account(&self.messages[..keep_from]);
                Some(self.summed_up(keep_from, &account))
            }
            (Input::Broke(why) | Input::TooLong(why), _) => Some(self.end(Ending::Broke(why))),
            (Input::Reply { reply, .. }, State::SummingUp { keep_from, asked }) => {
                self.count(&reply.usage);
                let summary = match (compact::summary(&reply), asked) {
                    (None, Asked::Once) => {
                        self.state = State::SummingUp { keep_from, asked: Asked::Again };
                        return Some(Next::SumUp);
                    }
                    (None, Asked::Again) => compact::account(&self.messages[..keep_from]),
                    (Some(summary), _) => summary,
                };
                Some(self.summed_up(keep_from, &summary))
            }
            (Input::Reply { dialect, reply }, State::Asking) => Some(self.replied(dialect, reply)),
            (Input::Results(results), State::Acting { calls, mut answered }) => {
                answered.extend(results);
                let circle = self.circle(&calls, &answered);
                self.answer(&calls, answered);
                match circle {
                    Some(Circle::Stop(what)) => Some(self.end(Ending::Circles(what))),
                    Some(Circle::Warn(words)) => {
                        self.hints.push(words);
                        Some(self.ask())
                    }
                    None => Some(self.ask()),
                }
            }
            (Input::Reply { .. } | Input::Results(_), state) => {
                self.state = state;
                None
            }
        }
    }

    /// Sends the model on that said it was done; `None` when it did not. What it is told was heard as a hint before.
    pub fn go_on(&mut self) -> Option<Next> {
        matches!(self.state, State::Ended(Ending::Done(_))).then(|| self.ask())
    }

    fn replied(&mut self, dialect: Dialect, reply: Reply) -> Next {
        self.turns += 1;
        (self.too_long, self.is_cut) = (false, false);
        self.count(&reply.usage);
        let words = reply.text();
        let mut content = reply.content;
        if calls(&content).next().is_none() && matches!(reply.stop, Stop::End | Stop::Sequence) {
            let found = salvage::calls(&words, &self.tools);
            if !found.is_empty() {
                content = found
                    .into_iter()
                    .map(|found| {
                        self.salvaged += 1;
                        AssistantPart::Call(ToolCall {
                            id: format!("prose_{}", self.salvaged),
                            name: found.name,
                            arguments: Arguments::Object(found.arguments),
                            proof: None,
                        })
                    })
                    .collect();
            }
        }
        let called: Vec<ToolCall> = calls(&content).cloned().collect();
        if content.is_empty() {
            // An empty message is refused by most providers; what is asked next joins the user's last one.
            return self.stumbled(reply.stop, words);
        }
        let is_the_end = called.is_empty() && reply.stop == Stop::End;
        let half = salvage::half_a_call(&words, &self.tools).filter(|_| is_the_end);
        let gone = cut::answer(&mut content, self.limits.context_tokens);
        self.messages.push(Message::Assistant { dialect, content });
        self.was_cut("an answer of the model", gone);
        if called.is_empty() {
            if let Some(why) = half {
                return self.unheard(why);
            }
            return match reply.stop {
                Stop::Refusal => self.end(Ending::Refused(words)),
                Stop::Pause => self.ask(),
                Stop::OutputMax | Stop::ContextFull | Stop::Other(_) => self.stumbled(reply.stop, words),
                Stop::End | Stop::Calls | Stop::Sequence => self.end(Ending::Done(words)),
            };
        }
        (self.stumbles, self.unheard) = (0, 0);
        self.act(called)
    }

    /// Answers at once what cannot be run, and hands the rest out.
    fn act(&mut self, called: Vec<ToolCall>) -> Next {
        let (mut whole, mut answered) = (vec![], vec![]);
        for call in &called {
            let wrong = match &call.arguments {
                Arguments::Broken { reason, .. } => {
                    Some(format!("{reason}. The call was not executed; write it again"))
                }
                Arguments::Object(_) if self.tools.has(&call.name) => None,
                Arguments::Object(_) => {
                    let called = bounded(&call.name, NAME_BYTES_MAX);
                    Some(format!("there is no tool `{called}`; there are: {}", self.tools.names()))
                }
            };
            match wrong {
                Some(content) => {
                    answered.push(Outcome { call: call.id.clone(), content, status: ToolStatus::Error });
                }
                None => whole.push(call.clone()),
            }
        }
        if whole.is_empty() {
            let circle = self.circle(&called, &answered);
            self.answer(&called, answered);
            return match circle {
                Some(Circle::Stop(what)) => self.end(Ending::Circles(what)),
                Some(Circle::Warn(words)) => {
                    self.hints.push(words);
                    self.ask()
                }
                None => self.ask(),
            };
        }
        self.state = State::Acting { calls: called, answered };
        Next::Act(whole)
    }

    /// A call that was written as text and cannot be read: asked for again, so many times in a row.
    fn unheard(&mut self, why: &str) -> Next {
        self.unheard += 1;
        if self.unheard > UNHEARD_MAX {
            let what = format!("it wrote calls as text that cannot be read, {} times in a row", self.unheard);
            return self.end(Ending::Circles(what));
        }
        self.hints.push(format!(
            "Your answer reads as a call of a tool, written as text, and nothing was run: {why}. Call the tool through the \
             interface. If you cannot, answer with nothing but {{\"name\": \"…\", \"arguments\": {{…}}}}, whole, of one of these \
             tools: {}. If you are done, say so in plain words.",
            self.tools.names()
        ));
        self.ask()
    }

    /// An answer that is none: cut off before anything was said, or empty.
    fn stumbled(&mut self, stop: Stop, words: String) -> Next {
        self.stumbles += 1;
        let spoken = matches!(self.messages.last(), Some(Message::Assistant { .. }));
        match stop {
            // Nothing to say behind results is an end like any other.
            Stop::End | Stop::Sequence if self.turns > 1 => return self.end(Ending::Done(words)),
            Stop::Refusal => return self.end(Ending::Refused(words)),
            _ if self.stumbles >= STUMBLES_MAX => return self.end(Ending::Limit("output tokens")),
            Stop::ContextFull => {
                if let Some(keep_from) = compact::keep_from(&self.messages) {
                    self.state = State::SummingUp { keep_from, asked: Asked::Once };
                    return Next::SumUp;
                }
                return self.end(Ending::Limit("context"));
            }
            _ => {}
        }
        let hint = match spoken {
            true => "Your answer was cut off at its bound. Go on where it stopped, in smaller steps.",
            false => "Your answer was empty. Go on with the task, or say that it is done.",
        };
        self.hints.push(hint.to_owned());
        self.ask()
    }

    /// The model's next turn, unless a limit is reached or the conversation must be summed up first.
    fn ask(&mut self) -> Next {
        self.take_hints();
        if self.turns >= self.limits.turns {
            return self.end(Ending::Limit("turns"));
        }
        if self.answer_tokens_max().is_some_and(|most| most < ANSWER_TOKENS_MIN) {
            return self.end(Ending::Limit("tokens"));
        }
        if compact::is_due(self.context, self.limits.context_tokens)
            && let Some(keep_from) = compact::keep_from(&self.messages)
        {
            self.state = State::SummingUp { keep_from, asked: Asked::Once };
            return Next::SumUp;
        }
        self.state = State::Asking;
        Next::Ask
    }

    fn end(&mut self, ending: Ending) -> Next {
        self.state = State::Ended(ending.clone());
        Next::End(ending)
    }

    /// The model does not take what it was to be asked: what is old is summed up, once; then what is largest is cut, once. What is
    /// still too long then stays so.
    fn shorten(&mut self, why: String) -> Next {
        match compact::keep_from(&self.messages) {
            Some(keep_from) if !self.too_long => {
                self.too_long = true;
                self.state = State::SummingUp { keep_from, asked: Asked::Once };
                Next::SumUp
            }
            _ if !self.is_cut => {
                self.is_cut = true;
                match cut::all(&mut self.messages, self.limits.context_tokens) {
                    0 => self.end(Ending::Broke(why)),
                    gone => {
                        self.was_cut("the conversation, which the model does not take", gone);
                        self.ask()
                    }
                }
            }
            _ => self.end(Ending::Broke(why)),
        }
    }

    /// Counts what was cut, and keeps words of it.
    fn was_cut(&mut self, what: &str, bytes: usize) {
        if bytes > 0 {
            self.context = self.context.min(compact::estimate(&self.messages));
            self.told.push(format!("{what} is too large for its context: {bytes} bytes are left out"));
        }
    }

    /// Goes on with a summary in the place of what stood before `keep_from`.
    fn summed_up(&mut self, keep_from: usize, summary: &str) -> Next {
        let most = cut::part_bytes_max(self.limits.context_tokens);
        compact::replace(&mut self.messages, keep_from, &bounded(summary, most));
        self.context = compact::estimate(&self.messages);
        self.ask()
    }

    /// Hints join the newest message of the user; a message of the model is never followed by another.
    fn take_hints(&mut self) {
        if self.hints.is_empty() {
            return;
        }
        let most = cut::part_bytes_max(self.limits.context_tokens) / self.hints.len();
        let parts = self.hints.drain(..).map(|text| UserPart::Text { text: bounded(&text, most) });
        match self.messages.last_mut() {
            Some(Message::User { content }) => content.extend(parts),
            _ => self.messages.push(Message::User { content: parts.collect() }),
        }
    }

    /// One result for each call, in their order; calls without one were interrupted, and those that are too long together lose
    /// their middle.
    fn answer(&mut self, calls: &[ToolCall], mut answered: Vec<Outcome>) {
        if calls.is_empty() {
            return;
        }
        let texts = answered.iter().map(|outcome| outcome.content.as_str());
        if let Some(most) = compact::result_bytes_max(texts, self.limits.context_tokens) {
            answered.iter_mut().for_each(|outcome| outcome.content = bounded(&outcome.content, most));
        }
        let results = calls.iter().map(|call| {
            let at = answered.iter().position(|outcome| outcome.call == call.id);
            let outcome = at.map(|at| answered.swap_remove(at));
            let (content, status) = match outcome {
                Some(outcome) if outcome.content.is_empty() => ("(no output)".to_owned(), outcome.status),
                Some(outcome) => (outcome.content, outcome.status),
                None => (
                    "it was interrupted before it had a result; look before you repeat it".to_owned(),
                    ToolStatus::Error,
                ),
            };
            UserPart::ToolResult { call: call.id.clone(), name: call.name.clone(), content, status }
        });
        let message = Message::User { content: results.collect() };
        self.context = self.context.saturating_add(compact::estimate(std::slice::from_ref(&message)));
        self.messages.push(message);
    }

    fn circle(&mut self, calls: &[ToolCall], answered: &[Outcome]) -> Option<Circle> {
        let mut worst = None;
        self.guard.next_answer();
        for call in calls {
            let result = answered.iter().find(|outcome| outcome.call == call.id).map_or("", |outcome| &outcome.content);
            worst = self.guard.hear(&call.name, &compact::written(&call.arguments), result).or(worst);
        }
        worst
    }

    fn count(&mut self, usage: &Usage) {
        self.used = self.used.saturating_add(usage.total());
        let estimate = compact::estimate(&self.messages);
        self.context = match usage.input {
            // Whoever counts less than any text has did not count what it was sent.
            Some(_) => usage.total().max(estimate / MISCOUNTED),
            None => estimate,
        };
    }
}

fn calls(content: &[AssistantPart]) -> impl Iterator<Item = &ToolCall> {
    content.iter().filter_map(|part| match part {
        AssistantPart::Call(call) => Some(call),
        AssistantPart::Text { .. } | AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => None,
    })
}

#[cfg(test)]
mod tests;
