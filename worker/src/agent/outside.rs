//! The agent's way out of its cage: one connection to the supervisor, one question at a time. Hints of people come whenever
//! they are given and wait here until the agent looks.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use serde_json::{Map, Value};
use swarm_protocol::agent::{
    AGENT_LINE_BYTES_MAX, AgentNote, AgentSays, CallResult, Envelope, PermissionWord, ToAgent,
};
use swarm_protocol::chat::{Dialect, ModelRequest, Reply, ToolStatus};
use swarm_protocol::frame::{LINE_BYTES_MAX, decode};
use swarm_protocol::{LineBuffer, encode};

use super::tools::{Refused, ToolResult};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Hints that wait; an older one goes when there are more.
const HINTS_MAX: usize = 64;

/// Why the model did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The conversation is too long; why, for people. A shorter one may be answered.
    TooLong(String),
    /// It cannot be asked any more; why, for people.
    Gone(String),
}

/// What an agent needs from outside of its cage.
pub trait Outside {
    /// The model's answer, or why there is none.
    fn ask(&self, request: ModelRequest) -> Result<(Dialect, Reply), NoAnswer>;
    /// A person's word on a call.
    fn permission(&self, tool: &str, arguments: &Map<String, Value>, reason: &str) -> PermissionWord;
    /// A person's answer; `None` when nobody is there.
    fn question(&self, text: &str) -> Option<String>;
    /// What people said since the last call.
    fn hints(&self) -> Vec<String>;
    /// Something for the transcript.
    fn note(&self, note: AgentNote);
}

/// The connection; clones share it.
#[derive(Debug, Clone)]
pub struct Line {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    socket: OwnedFd,
    incoming: LineBuffer,
    questions: u64,
    hints: VecDeque<String>,
}

/// Whether to wait for what has not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

impl Line {
    /// Takes the job's end of the connection.
    ///
    /// # Errors
    /// The system's.
    pub fn new(channel: BorrowedFd<'_>) -> io::Result<Line> {
        let socket = rustix::io::fcntl_dupfd_cloexec(channel, 3)?;
        let incoming = LineBuffer::new(LINE_BYTES_MAX);
        let shared = Shared { socket, incoming, questions: 0, hints: VecDeque::new() };
        Ok(Line { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Calls a tool of a server that the coordinator speaks with.
    ///
    /// # Errors
    /// [`Refused`] in the server's words, or in ours when there is no answer.
    pub fn remote(&self, server: &str, tool: &str, arguments: &Map<String, Value>) -> ToolResult {
        let says = |id| AgentSays::Remote {
            id,
            server: server.to_owned(),
            tool: tool.to_owned(),
            arguments: arguments.clone(),
        };
        let answer = self.lock().answer(says);
        match answer {
            Ok(ToAgent::RemoteResult { content, status: ToolStatus::Ok, .. }) => Ok(content),
            Ok(ToAgent::RemoteResult { content, .. }) => Err(Refused(content)),
            Ok(ToAgent::Failed { why, .. }) => Err(Refused(why)),
            Ok(_) => Err(Refused::new("the answer was of another kind")),
            Err(error) => Err(Refused(error.to_string())),
        }
    }

    /// Says the last word.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn end(&self, envelope: Envelope) -> io::Result<()> {
        self.lock().say(&AgentSays::Ended { envelope })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outside for Line {
    fn ask(&self, request: ModelRequest) -> Result<(Dialect, Reply), NoAnswer> {
        match self.lock().answer(|id| AgentSays::Ask { id, request }) {
            Ok(ToAgent::Reply { dialect, reply, .. }) => Ok((dialect, reply)),
            Ok(ToAgent::TooLong { why, .. }) => Err(NoAnswer::TooLong(why)),
            Ok(ToAgent::Failed { why, .. }) => Err(NoAnswer::Gone(why)),
            Ok(_) => Err(NoAnswer::Gone("the answer was of another kind".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(NoAnswer::TooLong(error.to_string())),
            Err(error) => Err(NoAnswer::Gone(error.to_string())),
        }
    }

    fn permission(&self, tool: &str, arguments: &Map<String, Value>, reason: &str) -> PermissionWord {
        let says = |id| AgentSays::Permission {
            id,
            tool: tool.to_owned(),
            arguments: arguments.clone(),
            reason: reason.to_owned(),
        };
        let deny = |why: String| PermissionWord::Deny { why };
        match self.lock().answer(says) {
            Ok(ToAgent::Decided { word, .. }) => word,
            Ok(ToAgent::Failed { why, .. }) => deny(why),
            Ok(_) => deny("the answer was of another kind".to_owned()),
            Err(error) => deny(error.to_string()),
        }
    }

    fn question(&self, text: &str) -> Option<String> {
        match self.lock().answer(|id| AgentSays::Question { id, text: text.to_owned() }) {
            Ok(ToAgent::Answered { text, .. }) => text,
            _ => None,
        }
    }

    fn hints(&self) -> Vec<String> {
        let mut shared = self.lock();
        // What is wrong with the connection shows with the next question.
        while let Ok(Some(message)) = shared.next(Wait::No) {
            shared.keep_hint(message);
        }
        shared.hints.drain(..).collect()
    }

    fn note(&self, note: AgentNote) {
        // Nobody who listens is missed: the next question will say so.
        let _ = self.lock().say(&AgentSays::Note { note: fitting(note) });
    }
}

/// A note whose line fits; results that are too long together lose their middle.
fn fitting(note: AgentNote) -> AgentNote {
    let AgentNote::Results { results } = note else { return note };
    let most = AGENT_LINE_BYTES_MAX / 8 / results.len().max(1);
    let cut = |result: CallResult| CallResult { content: super::tools::bounded(&result.content, most), ..result };
    AgentNote::Results { results: results.into_iter().map(cut).collect() }
}

impl Shared {
    /// Asks, and waits for the answer of that number.
    fn answer(&mut self, says: impl FnOnce(u64) -> AgentSays) -> io::Result<ToAgent> {
        self.questions += 1;
        let asked = self.questions;
        self.say(&says(asked))?;
        loop {
            match self.next(Wait::Yes)? {
                Some(message) if number(&message) == Some(asked) => return Ok(message),
                Some(message) => self.keep_hint(message),
                None => {}
            }
        }
    }

    fn keep_hint(&mut self, message: ToAgent) {
        if let ToAgent::Hint { text } = message {
            self.hints.push_back(text);
            if self.hints.len() > HINTS_MAX {
                self.hints.pop_front();
            }
        }
    }

    fn say(&mut self, says: &AgentSays) -> io::Result<()> {
        let line = encode(says);
        if line.len() > AGENT_LINE_BYTES_MAX {
            let why = format!("the conversation is longer than {AGENT_LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next message; `None` when nothing came and nothing is waited for.
    fn next(&mut self, wait: Wait) -> io::Result<Option<ToAgent>> {
        loop {
            let too_long = |error| io::Error::other(format!("the coordinator does not speak as it should: {error}"));
            if let Some(line) = self.incoming.line().map_err(too_long)? {
                return decode(line).map(Some).map_err(io::Error::other);
            }
            if wait == Wait::No && !self.is_readable()? {
                return Ok(None);
            }
            let room = self.incoming.room(READ_BYTES);
            if rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, spare_capacity(room)))? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the coordinator is gone"));
            }
        }
    }

    fn is_readable(&self) -> io::Result<bool> {
        let mut wanted = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(rustix::io::retry_on_intr(|| poll(&mut wanted, Some(&now)))? > 0)
    }
}

/// The number of the question that a message answers.
fn number(message: &ToAgent) -> Option<u64> {
    match message {
        ToAgent::Reply { id, .. }
        | ToAgent::Failed { id, .. }
        | ToAgent::TooLong { id, .. }
        | ToAgent::Decided { id, .. }
        | ToAgent::Answered { id, .. }
        | ToAgent::RemoteResult { id, .. } => Some(*id),
        ToAgent::Hint { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn lines() -> (Line, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Line::new(theirs.as_fd()).unwrap(), ours)
    }

    #[test]
    fn an_answer_is_told_from_hints_and_from_answers_to_other_questions() {
        let (line, mut outside) = lines();
        let answers = [
            ToAgent::Hint { text: "h".to_owned() },
            ToAgent::Answered { id: 7, text: Some("other".to_owned()) },
            ToAgent::Answered { id: 1, text: Some("yes".to_owned()) },
            ToAgent::Hint { text: "i".to_owned() },
        ];
        answers.iter().for_each(|answer| outside.write_all(&encode(answer)).unwrap());
        assert_eq!(line.question("?"), Some("yes".to_owned()));
        assert_eq!(line.hints(), ["h", "i"]);
        let mut asked = String::new();
        BufReader::new(outside).read_line(&mut asked).unwrap();
        assert_eq!(asked, "{\"says\":\"question\",\"id\":1,\"text\":\"?\"}\n");
    }

    #[test]
    fn without_a_coordinator_nothing_is_allowed() {
        let (line, outside) = lines();
        drop(outside);
        assert!(matches!(line.permission("bash", &Map::new(), "x"), PermissionWord::Deny { .. }));
        assert_eq!(line.question("?"), None);
        assert_eq!(line.hints(), Vec::<String>::new());
    }
}
