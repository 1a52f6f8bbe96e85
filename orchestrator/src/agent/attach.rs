//! People who join an agent while it works: a socket in the attempt's folder, which no job is shown, and a token beside it. A
//! program of a cage that keeps no pathname sockets from it could connect to the socket, and cannot read the token.
//!
//! Whoever is joined may say something at any time (the model hears it with its next request) and is asked what rules leave
//! to a person; whoever joins while a question is open is asked, too. While nobody is joined, or when the last one leaves, such
//! a question is a no.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use serde::{Deserialize, Serialize};
use swarm_protocol::{LineBuffer, encode};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::egress::door::{listen_at, token};
use crate::frames;

/// The socket's name within the attempt's folder.
const SOCKET: &str = "attach";
/// The file with the token.
const TOKEN: &str = "attach.token";
/// People who may be joined at once.
const PEOPLE_MAX: usize = 8;
/// How long after one who could not be let in the next is heard.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// What people said that waits to be heard.
const SAID_MAX: usize = 64;
/// The longest line of either side, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How long whoever connects may take to show the token.
const TOKEN_TIME_MAX: Duration = Duration::from_secs(5);

/// Person → coordinator, a line each; the token first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub enum FromPerson {
    /// Who may join.
    Token {
        /// The token.
        token: String,
    },
    /// Something that the model is to hear.
    Hint {
        /// What.
        text: String,
    },
    /// The word on what was asked: a yes or no on a call, or an answer.
    Answer {
        /// Of which question.
        id: u64,
        /// What; on a call everything but a yes is a no, and its reason.
        text: String,
    },
}

/// Coordinator → person, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case")]
pub enum ToPerson {
    /// The token is good.
    Joined,
    /// A hint was taken, or an answer.
    Heard,
    /// The agent asks.
    Asked {
        /// The number of the question.
        id: u64,
        /// Whether it is about a call: a yes or no.
        call: bool,
        /// What, for people; it holds a model's words.
        text: String,
    },
}

/// What the conversation hears of people.
#[derive(Debug)]
pub enum Heard {
    /// Somebody says something.
    Said(FromPerson),
    /// Somebody left.
    Left,
}

/// What a person says is longer than the coordinator hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is too long: {bytes} bytes, as it is sent, and {LINE_BYTES_MAX} are possible")]
pub struct TooMuch {
    bytes: usize,
}

impl FromPerson {
    /// The line that says it.
    ///
    /// # Errors
    /// [`TooMuch`]: whoever sent it all the same would be sent away.
    pub fn line(&self) -> Result<Vec<u8>, TooMuch> {
        let line = encode(self);
        let bytes = line.len() - 1;
        if bytes > LINE_BYTES_MAX { Err(TooMuch { bytes }) } else { Ok(line) }
    }
}

/// Whether an answer allows a call.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The way in for people; dropping it sends all of them away.
#[derive(Debug)]
pub struct Entrance {
    room: Arc<Room>,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
    files: [PathBuf; 2],
}

#[derive(Debug)]
struct Room {
    token: blake3::Hash,
    people: AtomicUsize,
    heard: mpsc::Sender<Heard>,
    told: broadcast::Sender<ToPerson>,
    /// What is asked and not answered yet.
    open: Mutex<Option<ToPerson>>,
}

impl Entrance {
    /// Opens it in the attempt's folder. Must be called inside a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (socket, file, secret) = (folder.join(SOCKET), folder.join(TOKEN), token()?);
        let listener = listen_at(&socket)?;
        let mut written = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&file)?;
        written.write_all(secret.as_bytes())?;
        let ((heard, said), (told, _)) = (mpsc::channel(SAID_MAX), broadcast::channel(SAID_MAX));
        let token = blake3::hash(secret.as_bytes());
        let room = Arc::new(Room { token, people: AtomicUsize::new(0), heard, told, open: Mutex::default() });
        let task = tokio::spawn(accept(listener, Arc::clone(&room)));
        Ok(Entrance { room, heard: said, task, files: [socket, file] })
    }

    /// Whether somebody is joined.
    pub fn is_anybody_here(&self) -> bool {
        self.room.people.load(Ordering::Acquire) > 0
    }

    /// Asks everybody who is joined, and whoever joins before it is [`settled`](Entrance::settled).
    pub fn ask(&self, asked: ToPerson) {
        let mut open = self.room.open();
        *open = Some(asked.clone());
        // Whoever is gone is not told.
        let _ = self.room.told.send(asked);
    }

    /// What was asked has its answer: whoever joins is not asked any more.
    pub fn settled(&self) {
        *self.room.open() = None;
    }

    /// Whether nobody is joined, and all that was said is heard. Only then is a question a no: whoever answers and leaves is heard.
    pub fn is_left(&self) -> bool {
        !self.is_anybody_here() && self.heard.is_empty()
    }

    /// What people do next.
    pub async fn next(&mut self) -> Heard {
        // The room holds a sender as long as this lives.
        self.heard.recv().await.unwrap_or(Heard::Left)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.task.abort();
        // What is left behind goes with the run's folder.
        self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

async fn accept(listener: UnixListener, room: Arc<Room>) {
    let (mut guests, places) = (JoinSet::new(), Arc::new(Semaphore::new(PEOPLE_MAX)));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!("a person was not let in to a conversation: {error}");
                        // Out of descriptors, most likely: a guest who leaves gives some back, and so does time.
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                };
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let room = Arc::clone(&room);
                guests.spawn(async move {
                    // A guest who breaks off is a guest who left.
                    let _ = host(stream, &room).await;
                    drop(place);
                });
            }
            Some(_) = guests.join_next() => {}
        }
    }
}

impl Room {
    fn open(&self) -> MutexGuard<'_, Option<ToPerson>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a person in, who hears what is asked from now on: beside that, what is open now.
    fn enter(&self) -> (Visit<'_>, broadcast::Receiver<ToPerson>, Option<ToPerson>) {
        let open = self.open();
        let told = self.told.subscribe();
        self.people.fetch_add(1, Ordering::AcqRel);
        (Visit(self), told, open.clone())
    }
}

/// Counts a person out, however the visit ends.
struct Visit<'a>(&'a Room);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.people.fetch_sub(1, Ordering::AcqRel);
        // A queue that is full is heard anyway, and whoever hears the last of it looks who is left.
        let _ = self.0.heard.try_send(Heard::Left);
    }
}

async fn host(stream: UnixStream, room: &Room) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let first = tokio::time::timeout(TOKEN_TIME_MAX, frames::next(&mut read, &mut lines)).await?;
    match first.map_err(io::Error::other)? {
        Some(FromPerson::Token { token }) if blake3::hash(token.as_bytes()) == room.token => {}
        _ => return Err(io::ErrorKind::PermissionDenied.into()),
    }
    let (_visit, mut told, open) = room.enter();
    for said in [ToPerson::Joined].into_iter().chain(open) {
        write.write_all(&encode(&said)).await?;
    }
    loop {
        tokio::select! {
            said = frames::next(&mut read, &mut lines) => {
                let Some(said) = said.map_err(io::Error::other)? else { return Ok(()) };
                if room.heard.send(Heard::Said(said)).await.is_err() {
                    return Ok(());
                }
                write.write_all(&encode(&ToPerson::Heard)).await?;
            }
            Ok(said) = told.recv() => write.write_all(&encode(&said)).await?,
        }
    }
}

/// Joins the agent of an attempt whose folder is `folder`: the connection, behind the token. It blocks.
///
/// # Errors
/// The system's; `NotFound` and `ConnectionRefused` where no agent works.
pub fn join(folder: &Path) -> io::Result<BlockingStream> {
    let mut token = String::new();
    std::fs::File::open(folder.join(TOKEN))?.take(LINE_BYTES_MAX as u64).read_to_string(&mut token)?;
    // A unix socket's address has room for 107 bytes.
    let at = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let socket = Path::new("/proc/self/fd").join(at.as_raw_fd().to_string()).join(SOCKET);
    let mut stream = BlockingStream::connect(socket)?;
    stream.write_all(&encode(&FromPerson::Token { token }))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;

    use swarm_protocol::frame::decode;

    use super::*;

    fn read(stream: &BlockingStream) -> Option<ToPerson> {
        let mut line = Vec::new();
        std::io::BufReader::with_capacity(1, stream).read_until(b'\n', &mut line).ok()?;
        decode(line.strip_suffix(b"\n")?).ok()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_person_with_the_token_is_heard_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut entrance = Entrance::open(folder.path()).unwrap();
        assert!(!entrance.is_anybody_here());
        let mut stream = join(folder.path()).unwrap();
        assert_eq!(read(&stream), Some(ToPerson::Joined));
        assert!(entrance.is_anybody_here());
        stream.write_all(&encode(&FromPerson::Hint { text: "h".to_owned() })).unwrap();
        let Heard::Said(FromPerson::Hint { text }) = entrance.next().await else { panic!("a hint") };
        assert_eq!((text.as_str(), read(&stream)), ("h", Some(ToPerson::Heard)));
        let asked = ToPerson::Asked { id: 7, call: true, text: "?".to_owned() };
        entrance.ask(asked.clone());
        assert_eq!(read(&stream), Some(asked));
        drop(stream);
        assert!(matches!(entrance.next().await, Heard::Left) && !entrance.is_anybody_here());
        drop(entrance);
        assert!(join(folder.path()).is_err(), "nothing is left to join");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_longest_line_is_heard_and_a_longer_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut entrance = Entrance::open(folder.path()).unwrap();
        let mut stream = join(folder.path()).unwrap();
        let dress = encode(&FromPerson::Hint { text: String::new() }).len() - 1;
        let hint = |bytes: usize| FromPerson::Hint { text: "x".repeat(bytes - dress) };
        let longest = hint(LINE_BYTES_MAX).line().unwrap();
        let writes = std::thread::spawn(move || stream.write_all(&longest).map(|()| stream));
        assert!(matches!(entrance.next().await, Heard::Said(said) if said == hint(LINE_BYTES_MAX)));
        drop(writes.join().unwrap().unwrap());
        let why = hint(LINE_BYTES_MAX + 1).line().unwrap_err().to_string();
        assert_eq!(why, "it is too long: 65537 bytes, as it is sent, and 65536 are possible");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_joins_is_asked_what_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let entrance = Entrance::open(folder.path()).unwrap();
        let asked = |id| ToPerson::Asked { id, call: false, text: "?".to_owned() };
        entrance.ask(asked(1));
        let late = join(folder.path()).unwrap();
        assert_eq!((read(&late), read(&late)), (Some(ToPerson::Joined), Some(asked(1))));
        entrance.settled();
        let later = join(folder.path()).unwrap();
        assert_eq!(read(&later), Some(ToPerson::Joined));
        entrance.ask(asked(2));
        assert_eq!((read(&late), read(&later)), (Some(asked(2)), Some(asked(2))), "the first is not asked again");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_line_that_comes_in_pieces_is_heard_though_something_is_asked_between_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut entrance = Entrance::open(folder.path()).unwrap();
        let mut stream = join(folder.path()).unwrap();
        assert_eq!(read(&stream), Some(ToPerson::Joined));
        let hint = encode(&FromPerson::Hint { text: "mind the gap".to_owned() });
        for (piece, id) in hint[..hint.len() - 1].chunks(9).zip(0..) {
            stream.write_all(piece).unwrap();
            let asked = ToPerson::Asked { id, call: false, text: "?".to_owned() };
            entrance.ask(asked.clone());
            assert_eq!(read(&stream), Some(asked));
        }
        stream.write_all(b"\n").unwrap();
        let Heard::Said(FromPerson::Hint { text }) = entrance.next().await else { panic!("a hint") };
        assert_eq!(text, "mind the gap");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_joins_without_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let entrance = Entrance::open(folder.path()).unwrap();
        for line in ["{\"says\":\"token\",\"token\":\"x\"}\n", "{\"says\":\"hint\",\"text\":\"h\"}\n", "\n", "x"] {
            let mut stream = BlockingStream::connect(folder.path().join(SOCKET)).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read(&stream), None, "{line}");
        }
        assert!(!entrance.is_anybody_here());
    }
}
