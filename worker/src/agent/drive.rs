//! The loop: asks the model, runs its calls, tells what came of them, until [`Turns`] says that it is over. What is
//! decided is decided there and in [`super::calls`]; here it happens. Every call gets one result, also when it is refused or
//! when a tool of ours panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use swarm_protocol::agent::{AgentJob, AgentNote, AgentStatus, CallResult, Envelope, PermissionWord};
use swarm_protocol::chat::{Arguments, Message, ModelRequest, ToolCall, ToolStatus, UserPart};

use super::calls::{self, Decided, Gate};
use super::compact::{self, Asked};
use super::guard::SentOn;
use super::hooks::Verdict;
use super::outside::{NoAnswer, Outside};
use super::permission::Decision;
use super::report::{self, Reported, words_only};
use super::tools::bounded;
use super::tools::tool::{Effect, Input as ToolInput};
use super::turns::{Ending, Input, Limits, Next, Outcome, Turns};

/// Calls that run beside each other.
const BESIDE_MAX: usize = 8;
/// The longest result that the model is told, in bytes.
const RESULT_BYTES_MAX: usize = 96 << 10;

/// An agent, ready to run.
pub struct Driver<'a, O> {
    /// What it is to do.
    pub job: &'a AgentJob,
    /// The model and people.
    pub outside: &'a O,
    /// What it can do, and what decides whether it may.
    pub gate: Gate<'a>,
    /// Where its report lies.
    pub reported: &'a Reported,
    /// What the model is told behind its task.
    pub context: &'a [String],
}

/// What running some calls came to.
#[derive(Default)]
struct Acted {
    /// Of those that were run or refused; the rest was interrupted.
    outcomes: Vec<Outcome>,
    /// A hook ends the conversation; why.
    stop: Option<String>,
    /// What hooks have to say to people.
    messages: Vec<String>,
}

impl<O: Outside> Driver<'_, O> {
    /// Runs the conversation to its end.
    pub fn drive(&self) -> Envelope {
        let begun = self.gate.hooks.session_start("startup");
        self.say(&begun.messages);
        let envelope = match begun.stop {
            Some(why) => stopped(why, 0),
            None => self.converse(&begun.context),
        };
        self.say(&self.gate.hooks.session_end(envelope.status.name()).messages);
        envelope
    }

    fn converse(&self, context: &[String]) -> Envelope {
        let limits = self.job.limits;
        let limits = Limits {
            turns: limits.turns,
            tokens: limits.tokens,
            fixed_tokens: compact::fixed(&self.job.system, &self.gate.toolbox.specs()),
            context_tokens: limits.context_tokens,
        };
        let prompt = std::iter::once(&self.job.prompt)
            .chain(self.context)
            .chain(context)
            .map(String::as_str)
            .collect::<Vec<_>>();
        let prompt = prompt.join("\n\n");
        if let Some(detail) =
            compact::unfit(&self.job.system, &self.gate.toolbox.specs(), &prompt, limits.context_tokens)
        {
            return Envelope { status: AgentStatus::Unready, detail, ..words_only(String::new(), 0) };
        }
        let mut turns = Turns::new(prompt, self.gate.toolbox.specs(), limits);
        let mut next = turns.begin();
        let (mut sent_on, mut noted) = (SentOn::default(), turns.messages().len());
        loop {
            next = match next {
                Next::Ask => {
                    let answer = self.ask(turns.messages().to_vec(), turns.answer_tokens_max());
                    turns.hear(answer)
                }
                Next::SumUp => match self.sum_up(&mut turns) {
                    Ok(next) => next,
                    Err(why) => return stopped(why, turns.turns()),
                },
                Next::Act(calls) => {
                    let acted = self.act(&calls);
                    self.say(&acted.messages);
                    let end = self.end_of(acted.stop, &acted.outcomes, &mut turns, &mut sent_on);
                    // What people say stands in the transcript already: it came through the coordinator.
                    self.outside.hints().into_iter().for_each(|hint| drop(turns.hear(Input::Hint(hint))));
                    let next = turns.hear(Input::Results(acted.outcomes));
                    if let Some(envelope) = end {
                        self.note_results(turns.messages(), &mut noted);
                        return envelope;
                    }
                    next
                }
                Next::End(Ending::Done(words)) => match self.may_end(&words, &mut sent_on) {
                    Ok(()) => return words_only(words, turns.turns()),
                    Err(why) => {
                        self.tell(&mut turns, why);
                        turns.go_on()
                    }
                },
                Next::End(ending) => return ended(ending, turns.turns()),
            }
            .expect("BUG: what was done is what the conversation waits for");
            turns.told().into_iter().for_each(|text| self.outside.note(AgentNote::Told { text }));
            self.note_results(turns.messages(), &mut noted);
        }
    }

    /// The end, where some calls came to one: a hook's, or the agent's own report, unless it is sent on.
    fn end_of(
        &self,
        stop: Option<String>,
        outcomes: &[Outcome],
        turns: &mut Turns,
        sent_on: &mut SentOn,
    ) -> Option<Envelope> {
        let report = self.report(outcomes).filter(|_| !turns.left_some_out());
        match (stop, report) {
            (Some(why), _) => Some(stopped(why, turns.turns())),
            (None, Some(report)) => match self.may_end(&report.summary, sent_on) {
                Ok(()) => Some(report::envelope(report, turns.turns())),
                Err(why) => {
                    self.tell(turns, why);
                    None
                }
            },
            (None, None) => {
                sent_on.worked();
                None
            }
        }
    }

    /// Asks the model to sum up, and once more where it does something else; the error is why a hook ends it all. A hook that
    /// refuses is heard and prevents nothing: what does not fit cannot be asked as it is.
    fn sum_up(&self, turns: &mut Turns) -> Result<Option<Next>, String> {
        let verdict = self.gate.hooks.before_compaction();
        self.say(&verdict.messages);
        if let Some(why) = verdict.stop {
            return Err(why);
        }
        if let Some(why) = verdict.refused {
            self.say(&[format!(
                "the conversation is not to be summed up: {why}. It is all the same: it would not fit"
            )]);
        }
        loop {
            let mut messages = turns.to_sum_up();
            let asked_besides = verdict.context.iter().map(|text| UserPart::Text { text: text.clone() });
            match messages.last_mut() {
                Some(Message::User { content }) => content.extend(asked_besides),
                _ => unreachable!("BUG: the request to sum up is the user's"),
            }
            let asked = turns.asked_to_sum_up();
            if asked == Some(Asked::Once) {
                self.outside.note(AgentNote::SummedUp { messages: messages.len() });
            }
            let answer = self.ask(messages, turns.answer_tokens_max());
            if let Input::Reply { reply, .. } = &answer
                && compact::summary(reply).is_none()
            {
                let what = match asked {
                    Some(Asked::Again) => {
                        "was asked once more to sum up and did not: a list of its calls stands in the summary's place"
                    }
                    _ => "was asked to sum up and did not: it is asked once more",
                };
                self.outside.note(AgentNote::Told { text: format!("the model {what}") });
            }
            if let Input::TooLong(_) = &answer {
                let text = "the conversation is too long to be summed up by its model: a list of its calls stands in the \
                            summary's place";
                self.outside.note(AgentNote::Told { text: text.to_owned() });
            }
            let next = turns.hear(answer);
            if turns.asked_to_sum_up() != Some(Asked::Again) {
                return Ok(next);
            }
        }
    }

    /// Tells the model something with its next request.
    fn tell(&self, turns: &mut Turns, text: String) {
        self.outside.note(AgentNote::Told { text: text.clone() });
        turns.hear(Input::Hint(text));
    }

    /// Notes for people what hooks have to say to them.
    fn say(&self, messages: &[String]) {
        messages.iter().for_each(|text| self.outside.note(AgentNote::Told { text: format!("a hook says: {text}") }));
    }

    /// Whether hooks let the model end its work; the error is for the model.
    fn may_end(&self, words: &str, sent_on: &mut SentOn) -> Result<(), String> {
        if let Some(text) = sent_on.enough() {
            self.outside.note(AgentNote::Lacks { text });
            return Ok(());
        }
        let verdict = self.gate.hooks.stop(words, sent_on.before());
        self.say(&verdict.messages);
        match (verdict.stop, verdict.refused) {
            (None, Some(why)) => {
                sent_on.again();
                Err(why)
            }
            _ => Ok(()),
        }
    }

    /// Asks the model; `most` bounds its answer, in tokens, where that is less than it may always say.
    fn ask(&self, messages: Vec<Message>, most: Option<u64>) -> Input {
        let most = most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX).max(1));
        let request = ModelRequest {
            model: self.job.model.clone(),
            system: self.job.system.clone(),
            messages,
            tools: self.gate.toolbox.specs(),
            output_tokens_max: self.job.limits.output_tokens.min(most),
            context_tokens: Some(u32::try_from(self.job.limits.context_tokens).unwrap_or(u32::MAX)),
        };
        match self.outside.ask(request) {
            Ok((dialect, reply)) => Input::Reply { dialect, reply },
            Err(NoAnswer::TooLong(why)) => Input::TooLong(why),
            Err(NoAnswer::Gone(why)) => Input::Broke(why),
        }
    }

    /// The report that ends the work. One beside a call that failed, or could not be run at all, is none: it was written before
    /// the failure was known.
    fn report(&self, outcomes: &[Outcome]) -> Option<super::tools::plan::Report> {
        let report = report::take(self.reported)?;
        outcomes.iter().all(|outcome| outcome.status == ToolStatus::Ok).then_some(report)
    }

    /// Runs calls in their order; neighbours that only look run beside each other. Once a hook ends it all, nothing more is run.
    fn act(&self, calls: &[ToolCall]) -> Acted {
        let mut acted = Acted::default();
        let mut looks: Vec<(&ToolCall, Decided)> = Vec::new();
        for call in calls {
            if acted.stop.is_some() {
                break;
            }
            let Arguments::Object(input) = &call.arguments else {
                acted.outcomes.push(failed(call, "the arguments are not whole".to_owned()));
                continue;
            };
            let effect = self.gate.toolbox.effect(&call.name);
            if effect == Effect::Changes {
                self.look(&mut looks, &mut acted);
                if acted.stop.is_some() {
                    break;
                }
            }
            match (self.permit(call, input, &mut acted), effect) {
                (Err(why), _) => acted.outcomes.push(failed(call, why)),
                (Ok(decided), Effect::Reads) => looks.push((call, decided)),
                (Ok(decided), Effect::Changes) => acted.take(run(&self.gate, call, &decided)),
            }
        }
        self.look(&mut looks, &mut acted);
        acted
    }

    /// Runs calls beside each other that change nothing, until a hook ends it all.
    fn look(&self, looks: &mut Vec<(&ToolCall, Decided)>, acted: &mut Acted) {
        for some in looks.chunks(BESIDE_MAX) {
            if acted.stop.is_some() {
                break;
            }
            if let [(call, decided)] = some {
                acted.take(run(&self.gate, call, decided));
                continue;
            }
            let gate = &self.gate;
            thread::scope(|scope| {
                let start = |call: &'_ ToolCall, decided| {
                    let call = call.clone();
                    thread::Builder::new().spawn_scoped(scope, move || run(gate, &call, decided))
                };
                let running: Vec<_> = some.iter().map(|(call, decided)| (call, start(call, decided))).collect();
                for (call, thread) in running {
                    let ran = thread.map_err(|error| format!("it could not be started: {error}"));
                    let ran = ran.and_then(|thread| thread.join().map_err(|_| panicked()));
                    acted.take(ran.unwrap_or_else(|why| (failed(call, why), Verdict::default())));
                }
            });
        }
        looks.clear();
    }

    /// The word of rules and hooks, or a person's where they want one; the error is for the model.
    fn permit(&self, call: &ToolCall, input: &ToolInput, acted: &mut Acted) -> Result<Decided, String> {
        let decided = calls::decide(&self.gate, &call.name, input);
        acted.hear(decided.verdict.clone());
        match &decided.decision {
            Decision::Allow => Ok(decided),
            Decision::Malformed(why) => Err(why.clone()),
            Decision::Deny(why) => Err(format!("not allowed: {why}")),
            Decision::Ask(reason) => match self.outside.permission(&call.name, &decided.input, reason) {
                PermissionWord::Allow => Ok(decided),
                PermissionWord::Deny { why } => Err(format!("not allowed: {reason}; {why}")),
            },
        }
    }

    /// Notes the results that stand in the conversation behind the first `noted` messages: those of calls that were run, and of
    /// calls that could not be.
    fn note_results(&self, messages: &[Message], noted: &mut usize) {
        for message in messages.iter().skip(*noted) {
            let Message::User { content } = message else { continue };
            let result = |part: &UserPart| match part.clone() {
                UserPart::ToolResult { call, name: tool, content, status } => {
                    Some(CallResult { call, tool, content, status })
                }
                UserPart::Text { .. } => None,
            };
            let results: Vec<CallResult> = content.iter().filter_map(result).collect();
            if !results.is_empty() {
                self.outside.note(AgentNote::Results { results });
            }
        }
        *noted = messages.len();
    }
}

impl Acted {
    fn take(&mut self, (outcome, verdict): (Outcome, Verdict)) {
        self.outcomes.push(outcome);
        self.hear(verdict);
    }

    /// Keeps what hooks said that concerns more than one call.
    fn hear(&mut self, verdict: Verdict) {
        self.stop = self.stop.take().or(verdict.stop);
        self.messages.extend(verdict.messages);
    }
}

/// Runs one call; a tool that panics has failed, and nothing else has. Also gives what hooks said behind it.
fn run(gate: &Gate<'_>, call: &ToolCall, decided: &Decided) -> (Outcome, Verdict) {
    match catch_unwind(AssertUnwindSafe(|| calls::run(gate, &call.name, decided))) {
        Ok((result, verdict)) => {
            let (text, status) = match result {
                Ok(text) => (text, ToolStatus::Ok),
                Err(refused) => (refused.0, ToolStatus::Error),
            };
            let content = bounded(&text, RESULT_BYTES_MAX);
            (Outcome { call: call.id.clone(), content, status }, verdict)
        }
        Err(_) => (failed(call, panicked()), Verdict::default()),
    }
}

fn panicked() -> String {
    "the tool itself failed, which is not your fault; try another way".to_owned()
}

fn failed(call: &ToolCall, why: String) -> Outcome {
    Outcome { call: call.id.clone(), content: bounded(&why, RESULT_BYTES_MAX), status: ToolStatus::Error }
}

fn stopped(why: String, turns: u32) -> Envelope {
    Envelope { status: AgentStatus::Stopped, detail: why, ..words_only(String::new(), turns) }
}

/// The envelope of a conversation that the model did not end.
fn ended(ending: Ending, turns: u32) -> Envelope {
    let (status, detail) = match ending {
        Ending::Done(words) => return words_only(words, turns),
        Ending::Refused(words) => {
            return Envelope { status: AgentStatus::Refused, ..words_only(words, turns) };
        }
        Ending::Limit(which) => (AgentStatus::Limit, which.to_owned()),
        Ending::Circles(what) => (AgentStatus::Circles, what),
        Ending::Broke(why) => (AgentStatus::Unanswered, why),
    };
    Envelope { status, detail, ..words_only(String::new(), turns) }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::PathBuf;
    use std::sync::Mutex;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use swarm_protocol::agent::{AgentLimits, AgentMode, AgentRules};
    use swarm_protocol::chat::{AssistantPart, Dialect, Reply, Stop, Usage};
    use swarm_protocol::toolset::{HookEvent, HookSpec, Toolset};

    use super::*;
    use crate::agent::hooks::Hooks;
    use crate::agent::permission::{Mode, Rule, Rules};
    use crate::agent::setting::Setting;
    use crate::agent::tools::tool::{Tool, spec};
    use crate::agent::tools::{Refused, Toolbox, plan};

    /// A model that says what it was told to, and people who allow every other call.
    struct Stage {
        answers: Mutex<VecDeque<Vec<AssistantPart>>>,
        asked: Mutex<Vec<Vec<Message>>>,
        permissions: Mutex<u32>,
        noted: Mutex<Vec<AgentNote>>,
    }

    impl Outside for Stage {
        fn ask(&self, request: ModelRequest) -> Result<(Dialect, Reply), NoAnswer> {
            self.asked.lock().unwrap().push(request.messages);
            let gone = || NoAnswer::Gone("the model is gone".to_owned());
            let content = self.answers.lock().unwrap().pop_front().ok_or_else(gone)?;
            Ok((Dialect::Ollama, Reply { content, stop: Stop::End, usage: Usage::default() }))
        }

        fn permission(&self, _: &str, _: &Map<String, Value>, _: &str) -> PermissionWord {
            let mut asked = self.permissions.lock().unwrap();
            *asked += 1;
            if asked.is_multiple_of(2) { PermissionWord::Allow } else { PermissionWord::Deny { why: "no".to_owned() } }
        }

        fn question(&self, _: &str) -> Option<String> {
            None
        }

        fn hints(&self) -> Vec<String> {
            if self.asked.lock().unwrap().len().is_multiple_of(3) { vec!["hint".to_owned()] } else { vec![] }
        }

        fn note(&self, note: AgentNote) {
            self.noted.lock().unwrap().push(note);
        }
    }

    fn tool(name: &str, effect: Effect) -> Tool {
        let spec = spec(name, "", json!({"how": {"type": "string"}}), &[]);
        Tool::own(spec, effect, |input: Value| match input["how"].as_str() {
            Some("panics") => std::panic::resume_unwind(Box::new(())),
            Some("fails") => Err(Refused::new("it failed")),
            _ => Ok(String::new()),
        })
    }

    fn drive(answers: Vec<Vec<AssistantPart>>, turns: u32) -> (Envelope, Stage) {
        drive_with(&Hooks::default(), answers, turns)
    }

    fn drive_with(hooks: &Hooks, answers: Vec<Vec<AssistantPart>>, turns: u32) -> (Envelope, Stage) {
        let job = AgentJob {
            worktree: PathBuf::from("/"),
            scratch: PathBuf::from("/tmp"),
            model: "main".to_owned(),
            system: String::new(),
            prompt: "task".to_owned(),
            limits: AgentLimits { turns, tokens: None, context_tokens: 2000, output_tokens: 10 },
            mode: AgentMode::WorkspaceWrite,
            rules: AgentRules::default(),
            toolset: Toolset::default(),
        };
        let (finish, reported) = plan::finish();
        let mut toolbox = Toolbox::default();
        toolbox.add([
            tool("look", Effect::Reads),
            tool("change", Effect::Changes),
            tool("mcp__asked", Effect::Reads),
            finish,
        ]);
        let rules = Rules { ask: vec![Rule::parse("mcp__asked").unwrap()], ..Rules::default() };
        let gate = Gate { toolbox: &toolbox, hooks, rules: &rules, mode: Mode::WorkspaceWrite };
        let stage = Stage {
            answers: Mutex::new(answers.into()),
            asked: Mutex::default(),
            permissions: Mutex::default(),
            noted: Mutex::default(),
        };
        let envelope = Driver { job: &job, outside: &stage, gate, reported: &reported, context: &[] }.drive();
        (envelope, stage)
    }

    fn call(id: String, name: &str, how: &str) -> AssistantPart {
        let arguments = match how {
            "broken" => Arguments::Broken { text: String::new(), reason: "cut off".to_owned() },
            how => Arguments::Object(Map::from_iter([("how".to_owned(), how.into())])),
        };
        AssistantPart::Call(ToolCall { id, name: name.to_owned(), arguments, proof: None })
    }

    fn any_answer() -> impl Strategy<Value = Vec<AssistantPart>> {
        let name = proptest::sample::select(vec!["look", "change", "mcp__asked", "unknown", "look"]);
        let how = proptest::sample::select(vec!["works", "fails", "panics", "broken"]);
        proptest::collection::vec((name, how, 0u32..1000), 0..12).prop_map(|calls| {
            let calls = calls.into_iter().enumerate();
            // Answers differ, so that nobody takes them for a circle.
            calls.map(|(at, (name, how, salt))| call(format!("{at}-{salt}"), name, how)).collect()
        })
    }

    /// Calls without exactly one result, in a conversation that was sent to a model.
    fn unanswered(messages: &[Message]) -> usize {
        let mut wrong = 0;
        for (at, message) in messages.iter().enumerate() {
            let Message::Assistant { content, .. } = message else { continue };
            let results = match messages.get(at + 1) {
                Some(Message::User { content }) => content.as_slice(),
                _ => &[],
            };
            for part in content {
                let AssistantPart::Call(called) = part else { continue };
                let fits = |part: &&UserPart| matches!(part, UserPart::ToolResult { call, .. } if *call == called.id);
                wrong += usize::from(results.iter().filter(fits).count() != 1);
            }
        }
        wrong
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_call_gets_one_result_whatever_tools_and_people_do(
            answers in proptest::collection::vec(any_answer(), 0..12), turns in 1u32..15,
        ) {
            let (envelope, stage) = drive(answers, turns);
            let asked = stage.asked.into_inner().unwrap();
            for messages in &asked {
                prop_assert_eq!(unanswered(messages), 0);
                let user = |at: usize| matches!(messages[at], Message::User { .. });
                prop_assert!((0..messages.len()).all(|at| user(at) == (at % 2 == 0)), "they alternate");
            }
            prop_assert!(envelope.turns <= turns);
        }
    }

    fn report(id: &str) -> AssistantPart {
        let arguments = json!({"status": "done", "summary": "s", "evidence": ["e"]});
        let arguments = Arguments::Object(arguments.as_object().unwrap().clone());
        AssistantPart::Call(ToolCall { id: id.to_owned(), name: "finish".to_owned(), arguments, proof: None })
    }

    /// What was noted: each result as its call's id and content, and what was told.
    fn noted(stage: Stage) -> Vec<String> {
        let noted = stage.noted.into_inner().unwrap().into_iter();
        let lines = noted.flat_map(|note| match note {
            AgentNote::Results { results } => {
                results.iter().map(|result| format!("{}: {}", result.call, result.content)).collect()
            }
            AgentNote::Told { text } | AgentNote::Lacks { text } => vec![text],
            AgentNote::SummedUp { .. } => vec![],
        });
        lines.collect()
    }

    #[test]
    fn a_report_beside_a_call_that_could_not_be_run_is_none() {
        for (name, how) in [("change", "broken"), ("unknown", "works")] {
            let beside = call("2".to_owned(), name, how);
            let (envelope, stage) = drive(vec![vec![report("1"), beside], vec![report("3")]], 10);
            assert_eq!((envelope.status, envelope.turns), (AgentStatus::Done, 2), "{name} {how}");
            let noted = noted(stage);
            assert!(noted.len() == 3 && noted[1].starts_with("2: ") && noted[2] == "3: reported", "{noted:?}");
        }
    }

    #[test]
    fn what_hooks_say_to_people_is_noted_and_an_end_of_all_ends_at_once() {
        let hook = |event, matcher: &str, run: &str| HookSpec {
            event,
            matcher: Some(matcher.to_owned()),
            run: run.to_owned(),
            timeout_ms: 20_000,
        };
        let folder = tempfile::tempdir().unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
        let end = r#"echo '{"continue":false,"stopReason":"enough","systemMessage":"look here"}'"#;
        let count = "echo x >> ran";
        for (event, first) in [(HookEvent::PreToolUse, "mcp__asked"), (HookEvent::PostToolUse, "change")] {
            let hooks = vec![hook(event, first, end), hook(HookEvent::PostToolUse, "look|change", count)];
            let calls = [("1", first), ("2", "change"), ("3", "look")];
            let calls = calls.map(|(id, name)| call(id.to_owned(), name, "works")).to_vec();
            let (envelope, stage) = drive_with(&Hooks::new(setting.clone(), hooks, vec![]), vec![calls], 10);
            assert_eq!((envelope.status, envelope.detail.as_str()), (AgentStatus::Stopped, "enough"));
            let noted = noted(stage);
            assert_eq!(noted[0], "a hook says: look here");
            assert!(noted[2..].iter().all(|line| line.contains("interrupted")) && noted.len() == 4, "{noted:?}");
        }
        let ran = std::fs::read_to_string(folder.path().join("ran")).unwrap();
        assert_eq!(ran.lines().count(), 1, "only the call that a hook stopped behind was run");
    }

    /// Hooks of one kind, in a folder of their own.
    fn hooks(run: &[(HookEvent, &str)]) -> (tempfile::TempDir, Hooks) {
        let folder = tempfile::tempdir().unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
        let spec = |(event, run): &(HookEvent, &str)| HookSpec {
            event: *event,
            matcher: None,
            run: (*run).to_owned(),
            timeout_ms: 20_000,
        };
        let hooks = Hooks::new(setting, run.iter().map(spec).collect(), vec![]);
        (folder, hooks)
    }

    #[test]
    fn a_hook_that_lets_nothing_end_is_asked_three_times_in_a_row() {
        let done = |n: usize| vec![AssistantPart::Text { text: format!("done {n}"), proof: None }];
        let (_folder, hooks) = hooks(&[(HookEvent::Stop, "echo more >&2; exit 2")]);
        let mut answers: Vec<_> = (0..2).map(done).collect();
        answers.push(vec![call("1".to_owned(), "look", "works")]);
        answers.extend((2..9).map(done));
        let (envelope, stage) = drive_with(&hooks, answers, 40);
        assert_eq!((envelope.status, envelope.summary.as_str(), envelope.turns), (AgentStatus::Done, "done 5", 7));
        let last = noted(stage).pop().unwrap();
        assert!(last.starts_with("Stop hooks sent the model on 5 times, at last 3 times without any work"), "{last}");
    }

    /// Answers that fill a context of 2000 tokens, and a summary.
    fn long_work() -> Vec<Vec<AssistantPart>> {
        let text = |text: String| AssistantPart::Text { text, proof: None };
        let looks =
            (0..6).map(|n| vec![text(format!("{n}{}", "x".repeat(1200))), call(n.to_string(), "look", "works")]);
        looks.chain([vec![text("the summary".to_owned())], vec![report("9")]]).collect()
    }

    #[test]
    fn a_hook_is_told_before_a_conversation_is_summed_up_and_heard() {
        let say = r#"cat > told; echo '{"hookSpecificOutput":{"additionalContext":"keep the numbers"}}'"#;
        let (folder, hooks) = hooks(&[(HookEvent::PreCompact, say)]);
        let (envelope, stage) = drive_with(&hooks, long_work(), 20);
        assert_eq!(envelope.status, AgentStatus::Done, "{}", envelope.detail);
        let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
        assert!(told.contains(r#""hook_event_name":"PreCompact""#) && told.contains(r#""trigger":"auto""#), "{told}");
        let asked = stage.asked.into_inner().unwrap();
        let words = |messages: &[Message]| serde_json::to_string(messages).unwrap();
        assert_eq!(asked.iter().filter(|messages| words(messages).contains("keep the numbers")).count(), 1);
        assert!(words(asked.last().unwrap()).contains("the summary"));
    }

    #[test]
    fn one_summary_is_one_compaction_however_often_it_is_asked_for() {
        let say = r#"echo x >> told; echo '{"hookSpecificOutput":{"additionalContext":"keep the numbers"}}'"#;
        let (folder, hooks) = hooks(&[(HookEvent::PreCompact, say)]);
        let mut answers = long_work();
        let at = answers.len() - 2;
        let looks = ["7", "8"].map(|id| vec![call(id.to_owned(), "look", "works")]);
        answers.splice(at..=at, looks);
        let (envelope, stage) = drive_with(&hooks, answers, 20);
        assert_eq!(envelope.status, AgentStatus::Done, "{}", envelope.detail);
        assert_eq!(std::fs::read_to_string(folder.path().join("told")).unwrap(), "x\n");
        let asked = stage.asked.lock().unwrap().clone();
        let words = |messages: &[Message]| serde_json::to_string(messages).unwrap();
        assert_eq!(asked.iter().filter(|messages| words(messages).contains("keep the numbers")).count(), 2);
        let said = noted(stage);
        let count = |text: &str| said.iter().filter(|line| line.contains(text)).count();
        assert_eq!(
            (count("did not: it is asked once more"), count("did not: a list of its calls stands")),
            (1, 1),
            "{said:?}"
        );
    }

    #[test]
    fn a_hook_that_refuses_a_summary_is_said_and_one_that_ends_it_all_does() {
        let (_folder, refuses) = hooks(&[(HookEvent::PreCompact, "echo 'not now' >&2; exit 2")]);
        let (envelope, stage) = drive_with(&refuses, long_work(), 20);
        assert_eq!(envelope.status, AgentStatus::Done);
        let said = noted(stage);
        assert!(said.iter().any(|line| line.contains("not to be summed up: not now")), "{said:?}");
        let (_folder, ends) = hooks(&[(HookEvent::PreCompact, r#"echo '{"continue":false,"stopReason":"enough"}'"#)]);
        let (envelope, _) = drive_with(&ends, long_work(), 20);
        assert_eq!((envelope.status, envelope.detail.as_str()), (AgentStatus::Stopped, "enough"));
    }

    #[test]
    fn a_report_ends_the_work_unless_a_call_beside_it_failed() {
        let (envelope, stage) = drive(
            vec![vec![call("1".to_owned(), "change", "fails"), report("2")], vec![report("3")], vec![report("4")]],
            10,
        );
        assert_eq!((envelope.status, envelope.turns, envelope.evidence.len()), (AgentStatus::Done, 2, 1));
        assert_eq!(stage.asked.into_inner().unwrap().len(), 2);
    }
}
