//! Hears one agent and answers it: asks the broker for it, keeps the transcript, makes the log legible. Whatever the agent
//! says may be what a program made of it: it is bounded by the supervisor, one question is answered at a time, and nothing
//! that it says reaches more than a model which its task names, its own log, and the words for people.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use swarm_protocol::agent::{AGENT_LINE_BYTES_MAX, AgentNote, AgentSays, Envelope, ToAgent};
use swarm_protocol::chat::{Arguments, AssistantPart, ModelRequest, Reply, ToolStatus};
use swarm_protocol::toolset::{COORDINATOR, OfferedTool};
use tokio::sync::mpsc;

use super::attach::{Entrance, FromPerson, Heard, ToPerson};
use super::masked::masked;
use super::show;
pub use super::shown::Shown;
use super::transcript::{Entry, Recorded, Transcript};
use super::wish::{Wish, nobody, word_on};
use crate::event::Whose;
use crate::model::Delta;
use crate::model::broker::{Answer, AskError, Broker, Caller};
use crate::secrets::Secrets;
use crate::tool_servers::ToolServers;

/// Questions and hints that wait for the worker.
pub const TOLD_MAX: usize = 64;
/// Places of that queue that hints leave to answers: one is ever due to an agent of ours, and it was paid for.
const ANSWERS_ROOM: usize = 8;
/// What an agent says that waits to be heard.
pub const SAYS_MAX: usize = 16;
/// The longest question to a person, in bytes; what is longer is not read, and so not allowed.
const ASKED_BYTES_MAX: usize = 8 << 10;
/// The longest arguments of one call, in bytes; longer ones are not executed.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// The longest answer of a model, in bytes as it travels.
const ANSWER_BYTES_MAX: usize = AGENT_LINE_BYTES_MAX / 2;
/// Notes that one agent may send between two questions; one that sends more is not ours.
const NOTES_MAX: usize = 10_000;
/// Things that an agent lacks, as they are said with its end.
const LACKS_MAX: usize = 20;

/// Hears what belongs into the log, and one line of what is going on.
pub trait Ear: Send + Sync {
    /// More of the log.
    fn log(&self, text: &str);
    /// What is going on, in one line.
    fn line(&self, text: &str);
}

/// Tools that the coordinator itself runs for one agent. They may block.
pub trait OwnTools: Send + Sync {
    /// What the model is told of them.
    fn offered(&self) -> Vec<OfferedTool>;
    /// Runs one; both words are for the model.
    fn call(&self, tool: &str, arguments: &Map<String, Value>) -> Result<String, String>;
}

/// One agent's conversation.
pub struct Conversation<'a> {
    /// The way to models.
    pub broker: Arc<Broker>,
    /// Who asks.
    pub caller: Caller,
    /// Servers of tools that the coordinator speaks with.
    pub servers: Arc<ToolServers>,
    /// Those of them that the task names.
    pub servers_named: Vec<String>,
    /// Tools that the coordinator itself runs for it.
    pub own_tools: Option<Arc<dyn OwnTools>>,
    /// What was said is kept here.
    pub transcript: Arc<Mutex<Transcript>>,
    /// Answers that are given once more before a model is asked.
    pub recorded: VecDeque<Recorded>,
    /// What was decided on the calls of the answer that was given once more last.
    pub decided: Vec<Entry>,
    /// What nobody is told, models included.
    pub secrets: Secrets,
    /// Who reads along.
    pub ear: &'a dyn Ear,
    /// People who join.
    pub people: Option<Entrance>,
    /// What models say while they say it. A decoder bounds how much that is.
    pub heard: (mpsc::UnboundedSender<Delta>, mpsc::UnboundedReceiver<Delta>),
    /// What of an answer that is still arriving was shown.
    pub shown: Shown,
}

impl Held {
    /// Whose budget kept it from asking a model, where that ended it.
    pub fn spent(&self) -> Option<Whose> {
        self.unanswered.as_ref().and_then(AskError::spent)
    }
}

/// Shows what happened to a call.
pub(super) fn said(text: &str, ear: &dyn Ear) {
    ear.log(&format!("\n── {text} ──\n"));
    ear.line(text);
}

/// What a conversation came to.
#[derive(Debug, Default)]
pub struct Held {
    /// The agent's last word; `None` when it was cut short.
    pub envelope: Option<Envelope>,
    /// Why a model could not be asked, when that ended it.
    pub unanswered: Option<AskError>,
    /// Answers of models that were asked for.
    pub asked: u32,
    /// Answers that were given once more.
    pub given_again: u32,
    /// Why the transcript is not whole.
    pub transcript_lost: Option<String>,
    /// What could not be read of earlier attempts' transcripts.
    pub unread: Vec<String>,
    /// What the agent says that it was to have and has not.
    pub lacks: Vec<String>,
}

/// An answer that is on its way: of which question, and what.
type Pending = Pin<Box<dyn Future<Output = (u64, Came)> + Send>>;

/// What people do next; never, where none can join.
async fn next_of(people: &mut Option<Entrance>) -> Heard {
    match people {
        Some(people) => people.next().await,
        None => std::future::pending().await,
    }
}

/// What came.
enum Came {
    /// A model's answer.
    Model(Result<Answer, AskError>),
    /// What a tool of a foreign server gave.
    Tool(Result<String, String>),
}

impl Conversation<'_> {
    /// Holds the conversation until the agent's side is closed.
    pub async fn hold(mut self, mut says: mpsc::Receiver<AgentSays>, told: mpsc::Sender<ToAgent>) -> Held {
        let mut held = Held::default();
        let (mut pending, mut notes, mut asked) = (None::<Pending>, 0usize, None::<(u64, Wish)>);
        loop {
            tokio::select! {
                // What was said until now is shown before what follows.
                biased;
                Some(delta) = self.heard.1.recv() => self.shown.hear(delta, self.ear),
                said = says.recv() => {
                    let Some(said) = said else { return held };
                    match masked(said, &self.secrets) {
                        AgentSays::Note { note } if notes < NOTES_MAX => {
                            notes += 1;
                            self.note(note, &mut held).await;
                        }
                        AgentSays::Note { .. } => {}
                        // It is answered when the question before it is: an agent of ours waits.
                        AgentSays::Ask { id, request } if pending.is_none() => {
                            notes = 0;
                            pending = self.ask(id, request, &told, &mut held).await;
                        }
                        AgentSays::Ask { id, .. } => failed(&told, id, "one question at a time"),
                        AgentSays::Permission { id, tool, arguments, reason } => {
                            let wish = Wish::Call { tool, arguments, reason };
                            asked = self.ask_people(id, wish, asked.take(), &told, &mut held).await;
                        }
                        AgentSays::Question { id, text } => {
                            asked = self.ask_people(id, Wish::Words(text), asked.take(), &told, &mut held).await;
                        }
                        AgentSays::Remote { id, server, tool, arguments } if pending.is_none() => {
                            pending = self.remote(id, server, tool, arguments, &told);
                        }
                        AgentSays::Remote { id, .. } => failed(&told, id, "one question at a time"),
                        AgentSays::Ended { envelope } if held.envelope.is_none() => {
                            self.keep(Entry::Ended { envelope: envelope.clone() }, &mut held).await;
                            held.envelope = Some(envelope);
                        }
                        AgentSays::Ended { .. } => {}
                    }
                }
                heard = next_of(&mut self.people) => asked = self.hear(heard, asked.take(), &told, &mut held).await,
                (id, came) = answer(&mut pending) => {
                    pending = None;
                    match came {
                        Came::Model(answer) => self.answered(id, answer, &told, &mut held).await,
                        Came::Tool(given) => {
                            let status = if given.is_ok() { ToolStatus::Ok } else { ToolStatus::Error };
                            let (Ok(content) | Err(content)) = given;
                            tell(&told, ToAgent::RemoteResult { id, content, status });
                        }
                    }
                }
            }
        }
    }

    /// Asks who is joined; where nobody is, the answer is a no. A question that still waits is answered so, too: one at a time.
    async fn ask_people(
        &mut self,
        id: u64,
        wish: Wish,
        before: Option<(u64, Wish)>,
        told: &mpsc::Sender<ToAgent>,
        held: &mut Held,
    ) -> Option<(u64, Wish)> {
        if let Some(before) = before {
            self.decide(before, nobody(), told, held).await;
        }
        // The answers that are given once more presume it.
        if let Some(at) = self.decided.iter().position(|entry| wish.is_of(entry)) {
            let entry = self.decided.remove(at);
            self.settle(id, entry, told, held).await;
            return None;
        }
        let Some(people) = self.people.as_ref().filter(|people| people.is_anybody_here()) else {
            self.decide((id, wish), nobody(), told, held).await;
            return None;
        };
        let text = self.secrets.text(&wish.text()).into_owned();
        if text.len() > ASKED_BYTES_MAX {
            let why = format!("it has more than the {ASKED_BYTES_MAX} bytes that a person is asked to read");
            self.decide((id, wish), Err(why), told, held).await;
            return None;
        }
        people.ask(ToPerson::Asked { id, call: matches!(wish, Wish::Call { .. }), text });
        self.ear.line("waits for a person");
        Some((id, wish))
    }

    /// Hears a person; gives the question that is still open behind it.
    async fn hear(
        &mut self,
        heard: Heard,
        asked: Option<(u64, Wish)>,
        told: &mpsc::Sender<ToAgent>,
        held: &mut Held,
    ) -> Option<(u64, Wish)> {
        let open = match (heard, asked) {
            (Heard::Said(FromPerson::Hint { text }), asked) => {
                self.hint(text, told, held).await;
                asked
            }
            (Heard::Said(FromPerson::Answer { id, text }), Some(asked)) if id == asked.0 => {
                self.decide(asked, Ok(text), told, held).await;
                None
            }
            (_, asked) => asked,
        };
        // Whatever was heard: that somebody left is not said where too much else waits to be.
        match open {
            Some(open) if self.people.as_ref().is_none_or(Entrance::is_left) => {
                self.decide(open, nobody(), told, held).await;
                None
            }
            open => open,
        }
    }

    /// Passes a person's words on. An agent that has too many before it does not hear more, and no transcript says that it did.
    async fn hint(&mut self, text: String, told: &mpsc::Sender<ToAgent>, held: &mut Held) {
        if told.capacity() <= ANSWERS_ROOM {
            return self.ear.line("too many hints wait to be heard: the newest is dropped");
        }
        self.keep(Entry::Hint { text: text.clone() }, held).await;
        tell(told, ToAgent::Hint { text });
    }

    /// Answers the agent with a person's words, or with a no and why there are none.
    async fn decide(
        &mut self,
        (id, wish): (u64, Wish),
        words: Result<String, String>,
        told: &mpsc::Sender<ToAgent>,
        held: &mut Held,
    ) {
        if let Some(people) = &self.people {
            people.settled();
        }
        self.settle(id, wish.decided(words), told, held).await;
    }

    /// Keeps a decision, and tells the agent.
    async fn settle(&mut self, id: u64, decided: Entry, told: &mpsc::Sender<ToAgent>, held: &mut Held) {
        let word = word_on(id, &decided);
        self.keep(decided, held).await;
        word.into_iter().for_each(|word| tell(told, word));
    }

    /// Begins to ask a model, or gives a recorded answer once more.
    async fn ask(
        &mut self,
        id: u64,
        request: ModelRequest,
        told: &mpsc::Sender<ToAgent>,
        held: &mut Held,
    ) -> Option<Pending> {
        self.decided.clear();
        if let Some(why) = self.recorded.front_mut().and_then(|recorded| recorded.too_long.pop_front()) {
            self.too_long(id, why, told, held).await;
            return None;
        }
        if let Some(Recorded { by, dialect, reply, hints, decided, .. }) = self.recorded.pop_front() {
            held.given_again += 1;
            self.decided = decided;
            for text in hints {
                self.hint(text, told, held).await;
            }
            self.keep(Entry::Answer { by, dialect, reply: reply.clone() }, held).await;
            tell(told, ToAgent::Reply { id, dialect, reply });
            return None;
        }
        self.ear.line("waits for the model");
        let (broker, caller, heard) = (Arc::clone(&self.broker), self.caller.clone(), self.heard.0.clone());
        self.shown = Shown::default();
        Some(Box::pin(async move {
            // Whoever showed it is gone with the conversation.
            let mut hear = |delta| drop(heard.send(delta));
            (id, Came::Model(broker.ask(&caller, request, &mut hear).await))
        }))
    }

    /// Tells the agent that its conversation is too long: it may ask in a shorter one.
    async fn too_long(&mut self, id: u64, why: String, told: &mpsc::Sender<ToAgent>, held: &mut Held) {
        self.keep(Entry::TooLong { why: why.clone() }, held).await;
        tell(told, ToAgent::TooLong { id, why });
    }

    /// Begins to call a tool of a server that the task names; the agent's own gate has decided on the call, and is believed
    /// nothing here.
    fn remote(
        &self,
        id: u64,
        server: String,
        tool: String,
        arguments: Map<String, Value>,
        told: &mpsc::Sender<ToAgent>,
    ) -> Option<Pending> {
        if let Some(own) = self.own_tools.as_ref().filter(|_| server == COORDINATOR).map(Arc::clone) {
            let call = tokio::task::spawn_blocking(move || own.call(&tool, &arguments));
            return Some(Box::pin(async move {
                (
                    id,
                    Came::Tool(
                        call.await.unwrap_or_else(|_| Err("the tool itself failed; try another way".to_owned())),
                    ),
                )
            }));
        }
        if !self.servers_named.contains(&server) {
            failed(told, id, &format!("this task names no server `{server}`"));
            return None;
        }
        let servers = Arc::clone(&self.servers);
        Some(Box::pin(async move { (id, Came::Tool(servers.call(&server, &tool, arguments).await)) }))
    }

    async fn answered(
        &mut self,
        id: u64,
        answer: Result<Answer, AskError>,
        told: &mpsc::Sender<ToAgent>,
        held: &mut Held,
    ) {
        while let Ok(delta) = self.heard.1.try_recv() {
            self.shown.hear(delta, self.ear);
        }
        match answer.map(|answer| Answer { reply: tamed(answer.reply), ..answer }) {
            Ok(Answer { reply, .. }) if length(&reply) > ANSWER_BYTES_MAX => {
                let why = format!("the model's answer is longer than {ANSWER_BYTES_MAX} bytes");
                self.keep(Entry::Unanswered { why: why.clone() }, held).await;
                failed(told, id, &why);
            }
            Ok(Answer { dialect, reply, model, .. }) => {
                held.asked += 1;
                if let Some(call) = reply.calls().next() {
                    self.ear.line(&show::call_of(call));
                }
                self.keep(Entry::Answer { by: model, dialect, reply: reply.clone() }, held).await;
                tell(told, ToAgent::Reply { id, dialect, reply });
            }
            Err(error) if error.is_too_long() => self.too_long(id, error.to_string(), told, held).await,
            Err(error) => {
                let why = error.to_string();
                self.keep(Entry::Unanswered { why: why.clone() }, held).await;
                failed(told, id, &why);
                held.unanswered = Some(error);
            }
        }
    }

    async fn note(&mut self, note: AgentNote, held: &mut Held) {
        let entry = match note {
            AgentNote::Results { results } => Entry::Results { results },
            AgentNote::Told { text } => Entry::Told { text },
            AgentNote::Lacks { text } => {
                if held.lacks.len() < LACKS_MAX {
                    held.lacks.push(text.clone());
                }
                Entry::Told { text }
            }
            AgentNote::SummedUp { messages } => Entry::SummedUp { messages },
        };
        self.keep(entry, held).await;
    }

    /// Keeps an entry: in the transcript, on disk, and in the log.
    pub async fn keep(&mut self, entry: Entry, held: &mut Held) {
        let text = self.shown.page(&entry);
        self.ear.log(&text);
        let transcript = Arc::clone(&self.transcript);
        let kept = move || transcript.lock().unwrap_or_else(PoisonError::into_inner).keep(&entry);
        let kept = tokio::task::spawn_blocking(kept).await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        if let Err(error) = kept {
            held.transcript_lost.get_or_insert(error.to_string());
        }
    }
}

/// The answer that is on its way; never, while none is.
async fn answer(pending: &mut Option<Pending>) -> (u64, Came) {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}

fn tell(told: &mpsc::Sender<ToAgent>, message: ToAgent) {
    // Hints leave room for the one answer that is ever due; an agent whose queue is full all the same does not listen.
    let _ = told.try_send(message);
}

fn failed(told: &mpsc::Sender<ToAgent>, id: u64, why: &str) {
    tell(told, ToAgent::Failed { id, why: why.to_owned() });
}

/// An answer with no call whose arguments are longer than any tool takes: those are answered as broken, and the rest goes on.
fn tamed(mut reply: Reply) -> Reply {
    for part in &mut reply.content {
        let AssistantPart::Call(call) = part else { continue };
        let bytes = match &call.arguments {
            Arguments::Object(arguments) => Value::Object(arguments.clone()).to_string().len(),
            Arguments::Broken { text, .. } => text.len(),
        };
        if bytes > ARGUMENTS_BYTES_MAX {
            let reason = format!("the arguments have {bytes} bytes, and {ARGUMENTS_BYTES_MAX} are possible");
            call.arguments = Arguments::Broken { text: String::new(), reason };
        }
    }
    reply
}

fn length(reply: &Reply) -> usize {
    serde_json::to_vec(reply).map_or(usize::MAX, |text| text.len())
}

#[cfg(test)]
mod tests {
    use swarm_plans::{Budget, InstanceId, TaskIx};
    use swarm_protocol::agent::PermissionWord;
    use swarm_protocol::chat::{Dialect, Stop, ToolCall, Usage};

    use super::*;
    use crate::ids::Attempt;
    use crate::model::broker::accounts::Accounts;
    use crate::model::broker::catalog::Catalog;
    use crate::model::broker::keys::Keys;
    use crate::model::broker::tape::Tape;

    #[derive(Default)]
    struct Page(Mutex<String>);

    impl Ear for Page {
        fn log(&self, text: &str) {
            self.0.lock().unwrap().push_str(text);
        }

        fn line(&self, _: &str) {}
    }

    fn reply(text: &str) -> Reply {
        let call = ToolCall {
            id: "1".to_owned(),
            name: "bash".to_owned(),
            arguments: Arguments::Object(Map::from_iter([("script".to_owned(), "ls".into())])),
            proof: None,
        };
        let content = vec![AssistantPart::Text { text: text.to_owned(), proof: None }, AssistantPart::Call(call)];
        Reply { content, stop: Stop::Calls, usage: Usage::default() }
    }

    fn check(deltas: &[Delta], whole: &str, expected: &str) {
        let (page, mut shown) = (Page::default(), Shown::default());
        deltas.iter().for_each(|delta| shown.hear(delta.clone(), &page));
        page.log(&shown.rest(&reply(whole)));
        assert_eq!(page.0.into_inner().unwrap(), expected);
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    #[test]
    fn an_answer_that_was_shown_while_it_came_is_not_shown_twice() {
        check(
            &[text("\n"), text("I "), text("look."), Delta::Call { name: "bash".to_owned() }],
            "I look.",
            "\nI look.\n$ ls\n",
        );
        check(&[], "I look.", "\nI look.\n$ ls\n");
    }

    /// A conversation whose log is `page`, kept in `folder`.
    fn conversation<'a>(folder: &std::path::Path, page: &'a Page) -> Conversation<'a> {
        let accounts = Arc::new(Accounts::new(&Budget::default(), &[]));
        let (news, _) = mpsc::unbounded_channel();
        let broker = Broker::new(Catalog::default(), Tape::Off, Keys::default(), accounts, news);
        let models: Arc<[String]> = Arc::new([]);
        Conversation {
            broker: Arc::new(broker),
            caller: Caller { instance: InstanceId("a".into()), task: TaskIx(0), attempt: Attempt(1), models },
            servers: Arc::default(),
            servers_named: vec![],
            own_tools: None,
            transcript: Arc::new(Mutex::new(Transcript::create(&folder.join("t.jsonl")).unwrap())),
            recorded: VecDeque::new(),
            decided: vec![],
            secrets: Secrets::default(),
            ear: page,
            people: None,
            heard: mpsc::unbounded_channel(),
            shown: Shown::default(),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn hints_that_nobody_hears_leave_room_for_an_answer() {
        let (folder, page) = (tempfile::tempdir().unwrap(), Page::default());
        let (mut conversation, mut held) = (conversation(folder.path(), &page), Held::default());
        let (told, mut heard) = mpsc::channel(TOLD_MAX);
        for n in 0..2 * TOLD_MAX {
            conversation.hint(n.to_string(), &told, &mut held).await;
        }
        failed(&told, 7, "an answer");
        drop(told);
        let mut last = None;
        while let Some(message) = heard.recv().await {
            last = Some(message);
        }
        assert!(matches!(last, Some(ToAgent::Failed { id: 7, .. })), "{last:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_decided_stands_when_its_answer_is_given_once_more() {
        let (folder, page) = (tempfile::tempdir().unwrap(), Page::default());
        let mut conversation = conversation(folder.path(), &page);
        let (tool, arguments, reason) = ("bash".to_owned(), Map::new(), String::new());
        let yes = Entry::Permission { tool: tool.clone(), arguments: arguments.clone(), reason, denied: None };
        let (by, hints, decided) = ("a/b".to_owned(), vec![], vec![yes]);
        let (dialect, reply, too_long) = (Dialect::Ollama, reply("x"), Default::default());
        conversation.recorded.push_back(Recorded { by, dialect, reply, hints, too_long, decided });
        let ((says, said), (tell, mut told)) = (mpsc::channel(SAYS_MAX), mpsc::channel(TOLD_MAX));
        let request = ModelRequest {
            model: "main".to_owned(),
            system: String::new(),
            messages: vec![],
            tools: vec![],
            output_tokens_max: 1,
            context_tokens: None,
        };
        says.send(AgentSays::Ask { id: 1, request }).await.unwrap();
        for id in [2, 3] {
            let (tool, arguments, reason) = (tool.clone(), arguments.clone(), String::new());
            says.send(AgentSays::Permission { id, tool, arguments, reason }).await.unwrap();
        }
        drop(says);
        conversation.hold(said, tell).await;
        assert!(matches!(told.recv().await, Some(ToAgent::Reply { id: 1, .. })));
        let mut word = async || match told.recv().await {
            Some(ToAgent::Decided { id, word }) => (id, word == PermissionWord::Allow),
            other => panic!("{other:?}"),
        };
        assert_eq!((word().await, word().await), ((2, true), (3, false)), "the second was never decided");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_is_a_no_when_its_only_hearer_left_behind_more_than_is_queued() {
        use std::io::{BufRead as _, Write as _};

        let (folder, page) = (tempfile::tempdir().unwrap(), Page::default());
        let mut conversation = conversation(folder.path(), &page);
        conversation.people = Some(Entrance::open(folder.path()).unwrap());
        let (told, mut answers) = mpsc::channel(TOLD_MAX);
        let mut held = Held::default();
        let mut person = crate::agent::attach::join(folder.path()).unwrap();
        let mut lines = std::io::BufReader::new(person.try_clone().unwrap()).lines();
        assert!(lines.next().is_some(), "let in");
        let mut asked = conversation.ask_people(1, Wish::Words("?".to_owned()), None, &told, &mut held).await;
        assert!(asked.is_some() && lines.next().is_some(), "somebody is asked");
        let hint = swarm_protocol::encode(&FromPerson::Hint { text: "h".to_owned() });
        person.write_all(&hint.repeat(2 * TOLD_MAX)).unwrap();
        // Each is told when it waits to be heard; behind these there is no room.
        assert_eq!(lines.by_ref().take(TOLD_MAX).filter(Result::is_ok).count(), TOLD_MAX);
        drop((lines, person));
        let all = async {
            while asked.is_some() {
                let heard = next_of(&mut conversation.people).await;
                asked = conversation.hear(heard, asked.take(), &told, &mut held).await;
                while conversation.people.as_ref().is_some_and(Entrance::is_anybody_here) {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("it is decided");
        drop(told);
        let mut last = None;
        while let Some(message) = answers.recv().await {
            last = Some(message);
        }
        assert!(matches!(last, Some(ToAgent::Answered { id: 1, text: None })), "{last:?}");
    }

    #[test]
    fn an_answer_goes_on_behind_a_hint() {
        let (page, mut shown) = (Page::default(), Shown::default());
        shown.hear(text("I lo"), &page);
        page.log(&shown.page(&Entry::Hint { text: "quick".to_owned() }));
        shown.hear(text("ok."), &page);
        page.log(&shown.rest(&reply("I look.")));
        assert_eq!(page.0.into_inner().unwrap(), "\nI lo\n── a person says ──\n  > quick\n\nok.\n$ ls\n");
    }

    #[test]
    fn an_answer_that_began_anew_is_shown_once_more() {
        check(
            &[text("I wo"), Delta::Restarted, text("I look.")],
            "I look.",
            "\nI wo\n── the answer broke off ──\n\nI look.\n$ ls\n",
        );
        let again = Delta::Again { why: "m does not answer: x".to_owned(), wait: std::time::Duration::from_secs(2) };
        check(
            &[again.clone(), again],
            "I look.",
            "\n── m does not answer: x; asked again in 2.0s ──\n\n── the same; asked again in 2.0s ──\n\nI look.\n$ ls\n",
        );
        check(&[text("I wo")], "I look.", "\nI wo\n── the answer broke off ──\n\nI look.\n$ ls\n");
    }
}
