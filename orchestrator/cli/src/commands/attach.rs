//! `swarm attach [RUN] TASK`: joins an agent while it works. Its conversation is shown, what is typed is heard by the model with
//! its next request, and what rules leave to a person is asked here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use swarm_orchestrator::agent::attach::{FromPerson, ToPerson, join};
use swarm_orchestrator::cancel::Coordinator;
use swarm_orchestrator::ids::RunId;
use swarm_orchestrator::journal::{RunLock, attempt_dir, log_path};
use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::threads;
use swarm_plans::InstanceId;
use swarm_protocol::frame::decode;

use crate::commands::failure::Failure;
use crate::commands::logs::{Form, Printer};
use crate::commands::select;
use crate::commands::surroundings::Surroundings;

/// Joins an agent while it works: shows its conversation, gives it hints, and answers what it asks.
///
/// What you type is a hint, or the answer when the agent asks. With --say or --answer nothing is typed.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// The run (its id or its plan's name; the newest run when left out), then the task or instance.
    #[arg(value_name = "[RUN] TASK", required = true, num_args = 1..=2)]
    words: Vec<String>,
    /// Gives this hint and leaves.
    #[arg(long, value_name = "TEXT", conflicts_with = "answer")]
    say: Option<String>,
    /// Waits until the agent asks, answers with this, and leaves; on a call everything but `yes` is a no.
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
}

/// How often the log is looked at: it grows without telling.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// What helps where there is more to be said than is heard at once.
const TOO_LONG_HINT: &str = "say it in several parts, or name a file that the agent can read";
/// How long a coordinator that is heard no more may take to be gone, if that is why.
const DYING_MAX: Duration = Duration::from_millis(500);

/// What happens while somebody is joined.
enum News {
    /// The coordinator says something.
    Told(ToPerson),
    /// The agent's work is over.
    Over,
    /// A line was typed.
    Typed(String),
    /// Nothing more will be typed.
    Closed,
}

/// The conversation on stdout, questions on stderr.
///
/// # Errors
/// There is no such run or task, or no agent of it works now.
pub fn run(args: &Attach, it: &Surroundings) -> Result<u8, Failure> {
    let folder = it.state()?;
    let (row, state, id) = select::instance(&it.journal(&folder)?, &args.words)?;
    let name = sanitize::name(&id.0);
    let nobody = || {
        let hint = format!(
            "swarm status {} shows what runs, swarm logs {} {} what was said",
            row.id,
            row.id,
            sanitize::shell_word(&id.0)
        );
        Failure::usage(format!("join {name}: no agent of it works now"), hint)
    };
    // Nobody is joined who could not be heard.
    let hint = args.say.clone().map(|text| FromPerson::Hint { text });
    let said = hint.or_else(|| args.answer.clone().map(|text| FromPerson::Answer { id: u64::MAX, text }));
    said.map(|said| line(&said)).transpose()?;
    let attempt = state.instances[&id].attempts.last().ok_or_else(nobody)?.attempt;
    // One that is out of reach, in another process namespace, is not waited for.
    let coordinator = Coordinator::of_run(&folder, &row.id).ok().flatten();
    let stream = join(&attempt_dir(&folder, &row.id, &id, attempt)).map_err(|_| nobody())?;
    let (news, heard) = mpsc::channel();
    listen(&stream, news.clone())?;
    match heard.recv() {
        Ok(News::Told(ToPerson::Joined)) => it.err.write(&format!("joined {name}, attempt {attempt}\n"))?,
        _ => return Err(nobody()),
    }
    let over = match (&args.say, &args.answer) {
        (Some(text), _) => say(&stream, text, &heard, it)?,
        (None, Some(text)) => answer(&stream, text, &heard, it)?,
        (None, None) => {
            thread("typed", move || typed(&news))?;
            let path = log_path(&folder, &row.id, &id, attempt);
            talk(&stream, Printer::new(&path, Form::Harmless, it.out.clone()), &heard, it)?
        }
    };
    match over {
        Over::Left => Ok(0),
        Over::Work(words) if is_coordinated(it, &folder, coordinator.as_ref(), (&row.id, &id))? => match words {
            None => it.err.write("its work is over\n").map(|()| 0),
            Some(words) => Err(Failure::usage(words.to_owned(), None)),
        },
        Over::Work(_) => Err(Failure::environment(
            format!("go on: the coordinator of run {} is gone", row.id),
            format!("swarm resume {} goes on with it, from what {name} has said and done", row.id),
        )),
    }
}

/// How a conversation with a person ends.
enum Over {
    /// The person has said all.
    Left,
    /// The agent says no more; with what did not come about by that.
    Work(Option<&'static str>),
}

/// Whether an agent that says no more has ended, or somebody is there to go on with it. A coordinator that dies is heard no more a
/// little before it has.
fn is_coordinated(
    it: &Surroundings,
    folder: &Path,
    joined: Option<&Coordinator>,
    (run, id): (&RunId, &InstanceId),
) -> Result<bool, Failure> {
    let has_died = joined.is_some_and(|coordinator| coordinator.ends_within(DYING_MAX));
    if !has_died && RunLock::holder_of_run(folder, run)?.is_some() {
        return Ok(true);
    }
    let (row, ..) = select::instance(&it.journal(folder)?, &[run.0.clone(), id.0.to_string()])?;
    Ok(row.exit.is_some())
}

/// Passes on what the coordinator says, from a thread of its own.
fn listen(stream: &UnixStream, news: mpsc::Sender<News>) -> Result<(), Failure> {
    let stream = stream.try_clone().map_err(|error| Failure::environment(format!("join it: {error}"), None))?;
    thread("heard", move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let Ok(told) = decode(&line) else { break };
            if news.send(News::Told(told)).is_err() {
                return;
            }
        }
        // Whoever listened may be gone.
        let _ = news.send(News::Over);
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error| Failure::environment(format!("join it: {error}"), threads::NO_MORE_HINT.to_owned());
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(failed)
}

fn typed(news: &mpsc::Sender<News>) {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if news.send(News::Typed(line)).is_err() {
            return;
        }
    }
    // Whoever listened may be gone.
    let _ = news.send(News::Closed);
}

fn send(stream: &UnixStream, said: &FromPerson) -> Result<(), Failure> {
    write(stream, &line(said)?)
}

fn line(said: &FromPerson) -> Result<Vec<u8>, Failure> {
    said.line().map_err(|why| Failure::usage(format!("be heard: {why}"), TOO_LONG_HINT.to_owned()))
}

fn write(mut stream: &UnixStream, line: &[u8]) -> Result<(), Failure> {
    stream.write_all(line).map_err(|error| Failure::environment(format!("be heard: {error}"), None))
}

fn say(stream: &UnixStream, text: &str, heard: &mpsc::Receiver<News>, it: &Surroundings) -> Result<Over, Failure> {
    send(stream, &FromPerson::Hint { text: text.to_owned() })?;
    while let Ok(News::Told(told)) = heard.recv() {
        if told == ToPerson::Heard {
            it.err.write("the model hears it with its next request\n")?;
            return Ok(Over::Left);
        }
    }
    Ok(Over::Work(Some("be heard: its work is over")))
}

fn answer(stream: &UnixStream, text: &str, heard: &mpsc::Receiver<News>, it: &Surroundings) -> Result<Over, Failure> {
    let mut answered = false;
    while let Ok(News::Told(told)) = heard.recv() {
        match told {
            ToPerson::Asked { id, text: question, .. } => {
                it.err.write(&format!("it asks: {}\n", shown(&question)))?;
                send(stream, &FromPerson::Answer { id, text: text.to_owned() })?;
                answered = true;
            }
            ToPerson::Heard if answered => return Ok(Over::Left),
            ToPerson::Heard | ToPerson::Joined => {}
        }
    }
    Ok(Over::Work(Some("answer: its work was over before it asked")))
}

/// Shows the conversation until it is over or nothing more is typed.
fn talk(
    stream: &UnixStream,
    mut printer: Printer<'_>,
    heard: &mpsc::Receiver<News>,
    it: &Surroundings,
) -> Result<Over, Failure> {
    let mut open = None;
    loop {
        printer.print()?;
        match heard.recv_timeout(LOOK_EVERY) {
            Err(mpsc::RecvTimeoutError::Timeout) | Ok(News::Told(ToPerson::Joined | ToPerson::Heard)) => {}
            Ok(News::Told(ToPerson::Asked { id, call, text })) => {
                open = Some(id);
                // What it asks of was said before.
                printer.print()?;
                let how = if call { "allow it? [y/N, or why not]" } else { "your answer:" };
                it.err.write(&format!("it asks: {}\n{how} ", shown(&text)))?;
            }
            Ok(News::Typed(text)) if open.is_none() && text.trim().is_empty() => {}
            Ok(News::Typed(text)) => {
                let said = match open {
                    Some(id) => FromPerson::Answer { id, text },
                    None => FromPerson::Hint { text },
                };
                match said.line() {
                    Ok(line) => {
                        open = None;
                        write(stream, &line)?;
                    }
                    Err(why) => it.err.write(&format!("not sent: {why}; {TOO_LONG_HINT}\n"))?,
                }
            }
            Ok(News::Over) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                printer.print()?;
                return Ok(Over::Work(None));
            }
            Ok(News::Closed) => return Ok(Over::Left),
        }
    }
}

/// What a person is to decide on: what a terminal would hide is spelled out, and whose line it is can be seen.
fn shown(text: &str) -> String {
    text.split('\n').map(sanitize::name).collect::<Vec<_>>().join("\n    ")
}
