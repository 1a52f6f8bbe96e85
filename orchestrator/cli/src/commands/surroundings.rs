//! What a command finds around itself, captured once: the folder, the streams and how they look, the time.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use swarm_orchestrator::apply::unlock_index;
use swarm_orchestrator::clock::Clock;
use swarm_orchestrator::journal::{JournalReader, RunRow};
use swarm_orchestrator::ownership::other_repository;
use swarm_orchestrator::policy::paths::unfit_for_state;
use swarm_orchestrator::policy::{Host, way};
use swarm_orchestrator::report::{Checkout, Style, sanitize, words};
use swarm_orchestrator::repository::Repository;
use swarm_orchestrator::repository::shared_settings::{NO_SYSTEM, SharedSettings};
use swarm_orchestrator::resume::ResumeError;
use swarm_orchestrator::state::StateDir;
use swarm_protocol::causes::causes;

use crate::commands::Global;
use crate::commands::failure::Failure;
use crate::commands::given::Given;

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set or the terminal is dumb.
    Auto,
    /// Also into files and pipes.
    Always,
    /// Never.
    Never,
}

/// Rows and columns assumed where there is no terminal to ask.
const SIZE_UNKNOWN: (u16, u16) = (24, 100);

/// What a command finds around itself.
#[derive(Debug)]
pub struct Surroundings {
    /// Where the command works; the current folder or `-C`.
    pub folder: PathBuf,
    /// `--state-dir`, absolute.
    pub state_dir: Option<PathBuf>,
    /// What the person gave in front of the command.
    pub given: Arc<Given>,
    /// Data goes here.
    pub out: Stream,
    /// Talk goes here.
    pub err: Stream,
    /// Where time comes from.
    pub clock: Clock,
}

/// A stream to a person or to a program.
#[derive(Debug, Clone)]
pub struct Stream {
    target: Target,
    /// What the person gave in front of the command.
    given: Arc<Given>,
    is_terminal: bool,
    /// Who reads it.
    pub reader: ReaderKind,
    /// How text looks there.
    pub style: Style,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Stdout,
    Stderr,
}

/// Who is at a stream's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderKind {
    /// A person at a terminal.
    Terminal,
    /// A file or a pipe.
    Other,
}

impl Stream {
    fn new(target: Target, colour: Colour, given: &Arc<Given>) -> Self {
        let terminal = match target {
            Target::Stdout => std::io::stdout().is_terminal(),
            Target::Stderr => std::io::stderr().is_terminal(),
        };
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = match colour {
            Colour::Always => Style::Coloured,
            Colour::Auto if terminal && !dumb && !set("NO_COLOR") => Style::Coloured,
            Colour::Auto | Colour::Never => Style::Plain,
        };
        let reader = if terminal && !dumb { ReaderKind::Terminal } else { ReaderKind::Other };
        Stream { target, given: Arc::clone(given), is_terminal: terminal, reader, style }
    }

    /// Writes all of `text`.
    ///
    /// # Errors
    /// [`Failure::ReaderGone`] when nobody reads the data of standard output; another failure when the disk is full. That nobody reads
    /// the talk on standard error ends nothing: what the command does and how it ends stands.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        self.write_bytes(self.legible(text).as_bytes())
    }

    /// Talk to a person names its commands as they have to be typed, and breaks between words; data is passed on as it is.
    pub fn legible<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match (self.target, self.reader) {
            (Target::Stdout, _) => text.into(),
            (Target::Stderr, ReaderKind::Other) => self.given.complete(text),
            (Target::Stderr, ReaderKind::Terminal) => {
                words::wrap(&self.given.complete(text), usize::from(self.columns())).into()
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.open().write_all(bytes).map_err(|error| Failure::of_output(&error));
        match self.target {
            Target::Stdout => written,
            Target::Stderr => Failure::unless_gone(written),
        }
    }

    /// Writes all of `bytes`, and does not wait for the end of the line.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub fn write_now(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut to = self.open();
        to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| Failure::of_output(&error))
    }

    /// The stream itself. Standard output is flushed after each line.
    pub fn open(&self) -> Box<dyn std::io::Write + Send> {
        match (self.target, self.is_terminal) {
            (Target::Stdout, false) => Box::new(std::io::stdout()),
            (Target::Stderr, false) => Box::new(std::io::stderr()),
            (Target::Stdout, true) => Box::new(Terminal(std::io::stdout())),
            (Target::Stderr, true) => Box::new(Terminal(std::io::stderr())),
        }
    }

    /// Rows and columns of the terminal; [`SIZE_UNKNOWN`] where there is none.
    pub fn size(&self) -> (u16, u16) {
        let terminal = match self.target {
            Target::Stdout => console::Term::stdout(),
            Target::Stderr => console::Term::stderr(),
        };
        match self.reader {
            ReaderKind::Terminal => terminal.size_checked().unwrap_or(SIZE_UNKNOWN),
            ReaderKind::Other => SIZE_UNKNOWN,
        }
    }

    /// Columns of the terminal.
    pub fn columns(&self) -> u16 {
        self.size().1
    }
}

impl Surroundings {
    /// Looks around once.
    ///
    /// # Errors
    /// The folder does not exist, or `SOURCE_DATE_EPOCH` is no number.
    pub fn capture(global: &Global) -> Result<Self, Failure> {
        let start = std::env::current_dir().map_err(|error| {
            let hint = "go to one that exists: cd FOLDER".to_owned();
            Failure::environment(format!("find the current folder: {error}"), hint)
        })?;
        let folder = match &global.folder {
            Some(folder) => {
                let folder = start.join(folder);
                folder
                    .canonicalize()
                    .map_err(|error| Failure::usage(format!("go to {}: {error}", folder.display()), None))?
            }
            None => start,
        };
        let settings = SharedSettings::named(|name| std::env::var_os(name), &folder).map_err(|error| {
            Failure::usage(
                format!("read {NO_SYSTEM}: {error}"),
                "write 1 for no settings of the machine, 0 for those that there are".to_owned(),
            )
        })?;
        settings.follow();
        let commit_epoch_s = match std::env::var_os("SOURCE_DATE_EPOCH") {
            None => None,
            Some(value) => Some(value.to_str().and_then(|value| value.parse().ok()).ok_or_else(|| {
                Failure::usage("read SOURCE_DATE_EPOCH", "it is a number of seconds since 1970".to_owned())
            })?),
        };
        let given = Arc::new(Given::of(global));
        let state_dir = global.state_dir.as_ref().map(|state| plain(&folder.join(state)));
        // Decided before anything is made there.
        if let Some((state, reason)) = state_dir.as_ref().and_then(|state| Some((state, unfit_for_state(state)?))) {
            let message = format!("keep state in {}: {reason}", sanitize::name(&state.to_string_lossy()));
            return Err(Failure::usage(message, "name a folder of your own, or leave --state-dir out".to_owned()));
        }
        Ok(Surroundings {
            state_dir,
            folder,
            out: Stream::new(Target::Stdout, global.color, &given),
            err: Stream::new(Target::Stderr, global.color, &given),
            given,
            clock: Clock { commit_epoch_s },
        })
    }

    /// Asks the person at the terminal; everything but a yes is a no.
    ///
    /// # Errors
    /// Nobody reads the question, or the answer cannot be read.
    pub fn agrees(&self, question: &str) -> Result<bool, Failure> {
        self.err.write(&format!("{question} [y/N] "))?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        read.map_err(|error| Failure::environment(format!("read your answer: {error}"), None))?;
        Ok(is_yes(&answer))
    }

    /// The repository around the folder, where no `swarm apply` that died keeps other gits out, and no object of it is as a power cut
    /// left it.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn repository(&self) -> Result<Repository, Failure> {
        let repository = Repository::discover(&self.folder)?;
        if unlock_index(&repository, self.clock.now_ms()) {
            self.err
                .write("note: removed the index.lock of a `swarm apply` that died; `swarm apply` completes that\n")?;
        }
        let state = self.state_of(&repository);
        // Where it never ran, the first run looks.
        if state.is_dir() {
            self.err.write(&match repository.look_after_power_cut(&state) {
                Ok(0) => String::new(),
                Ok(found) => damaged(found),
                Err(error) => format!("note: what a power cut may have left was not looked for: {}\n", causes(&error)),
            })?;
        }
        Ok(repository)
    }

    /// Whether a branch could be merged into a checkout here. Where there is no repository around, a run's own has one, as most.
    pub fn checkout(&self) -> Checkout {
        match Repository::discover(&self.folder) {
            Ok(repository) if repository.workdir().is_none() => Checkout::None,
            _ => Checkout::Here,
        }
    }

    /// The state folder; it may not exist yet.
    ///
    /// # Errors
    /// There is no repository and no `--state-dir`.
    pub fn state(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(state) => Ok(state.clone()),
            None => Ok(self.state_of(&self.repository()?)),
        }
    }

    /// The repository's state folder, or one of the user's where there is no repository; it may not exist yet.
    ///
    /// # Errors
    /// There is no home.
    pub fn state_or_own(&self) -> Result<PathBuf, Failure> {
        self.state().or_else(|_| Ok(host()?.state))
    }

    /// The state folder of a repository that is open already.
    pub fn state_of(&self, repository: &Repository) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| repository.common_dir().join("swarm"))
    }

    /// Refuses to change anything about a run of another repository that uses the same state folder.
    ///
    /// # Errors
    /// It is one, and where the command belongs.
    pub fn expect_own(&self, repository: &Repository, row: &RunRow) -> Result<(), Failure> {
        match other_repository(row, repository, &self.state_of(repository))? {
            None => Ok(()),
            Some(of) => {
                let elsewhere = ResumeError::Elsewhere { run: row.id.clone(), repository: of.to_owned() };
                Err(Failure::usage(&elsewhere, elsewhere.hint()))
            }
        }
    }

    /// The journal, to read.
    ///
    /// # Errors
    /// As [`JournalReader::open`].
    pub fn journal(&self, state: &Path) -> Result<JournalReader, Failure> {
        // Something else in its place is no folder without runs.
        if state.symlink_metadata().is_ok() && !state.is_dir() {
            let hint = StateDir::obstacle(state).unwrap_or_default();
            return Err(Failure::environment(format!("read {}", sanitize::name(&state.to_string_lossy())), hint));
        }
        Ok(JournalReader::open(state)?)
    }
}

/// What a person should know about objects that were not what their names say.
fn damaged(found: usize) -> String {
    format!(
        "note: a power cut seems to have left {} of the repository empty or cut short; what held nothing is removed, the rest lies beside \
         as tmp_obj_*, which git gc removes; `swarm resume` makes again what a run still needs\n",
        words::count(found as u64, "object file")
    )
}

/// A path without `.`; `..` is the kernel's to follow.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// This program again, even after it was replaced on disk. Source: proc(5), `/proc/self/exe`.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// The caller's home (`$HOME`, or what the machine's list of users says where that is not set), `PATH` and environment, which decide what
/// workers are shown. Links in home and `PATH` are followed here,
/// once: no cage shows a folder by way of a link. What a task may have led elsewhere is left as it is called, and not shown.
///
/// # Errors
/// Neither names an absolute folder.
pub fn host() -> Result<Host, Failure> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    let home =
        home.ok_or_else(|| Failure::environment("find the home folder", "set HOME to an absolute path".to_owned()))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = home.canonicalize().unwrap_or(home);
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut path: Vec<PathBuf> = folders.map(|folder| way::of_path(folder, &home)).collect();
    let mut seen = HashSet::new();
    path.retain(|dir| seen.insert(dir.clone()));
    let utf8 = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    Ok(Host::new(home, path, std::env::vars_os().filter_map(utf8).collect()))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// How stderr looks before there are surroundings.
pub fn stderr(colour: Colour, given: Given) -> Stream {
    Stream::new(Target::Stderr, colour, &Arc::new(given))
}

/// A stream that was a terminal when the command began. One that was closed since gives what a failing disk gives; here nobody reads any
/// more.
struct Terminal<W>(W);

impl<W> Terminal<W> {
    fn told<T>(done: std::io::Result<T>) -> std::io::Result<T> {
        done.map_err(|error| match error.raw_os_error() {
            Some(errno) if errno == Errno::IO.raw_os_error() => std::io::ErrorKind::BrokenPipe.into(),
            _ => error,
        })
    }
}

impl<W: std::io::Write> std::io::Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::told(self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Self::told(self.0.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_was_closed_is_a_reader_that_went() {
        struct Fails(Errno);
        impl std::io::Write for Fails {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Err(self.0.into())
            }
        }
        for (errno, is_gone) in [(Errno::IO, true), (Errno::NOSPC, false)] {
            let mut to = Terminal(Fails(errno));
            for written in [to.write(b"x").map(drop), to.flush()] {
                let error = Failure::of_output(&written.expect_err("it fails"));
                assert_eq!(matches!(error, Failure::ReaderGone), is_gone, "{errno}");
            }
        }
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", " Yes \n", "Y"].iter().all(|answer| is_yes(answer)));
        assert!(["", "\n", "n\n", "yep\n", "y n\n"].iter().all(|answer| !is_yes(answer)));
    }
}
