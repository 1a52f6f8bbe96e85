//! A server of the Model Context Protocol that is a program inside the cage, spoken to over its standard streams. One that
//! hangs, dies or lies costs its calls and nothing else.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{NotificationContext, Peer, RunningService};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceError};
use swarm_protocol::tool_call::{self, Given};
use swarm_protocol::tool_pages::{self, Listed};
use swarm_protocol::toolset::ToolServer;
use swarm_protocol::{tool_answer, tool_fault};
use tokio::process::{ChildStdin, ChildStdout};

use super::Lacks;
use super::probe::Probed;
use super::stream::{Fault, Messages};
use crate::agent::background::Background;
use crate::agent::programs::kill_group;
use crate::agent::setting::Setting;
use crate::agent::tools::tool::Input;
use crate::agent::tools::{Refused, TEXT_BYTES_MAX, bounded};

/// Bytes of a server's last words that are shown.
const LAST_WORDS_BYTES: u64 = 600;

/// Why a call gave nothing.
#[derive(Debug)]
pub enum CallError {
    /// The tool says so.
    Tool(Refused),
    /// The server is late, gone, or not understood.
    Server(Refused),
}

/// A server that runs.
pub struct Server {
    name: String,
    child: Child,
    complaints: PathBuf,
    peer: Peer<RoleClient>,
    background: Arc<Background>,
    limit: Duration,
    fault: Fault,
    /// Ends the conversation when dropped.
    _service: RunningService<RoleClient, Listener>,
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

/// A program that is a server, and what it is started with.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// Where.
    pub setting: &'a Setting,
    /// Its entry.
    pub server: &'a ToolServer,
    /// It and its arguments.
    pub argv: &'a [String],
    /// Beside the agent's own.
    pub env: &'a [(String, String)],
    /// What speaks with it.
    pub background: &'a Arc<Background>,
    /// Hears of what it changes.
    pub lacks: &'a Lacks,
}

/// Why a server did not start.
enum NotBegun {
    /// It would say the same to another question.
    Final(String),
    /// It may be of another kind; it is asked in another way then.
    Otherwise { why: String, next: ClientLifecycleMode },
}

impl Program<'_> {
    /// Starts it and asks for its tools; also gives the first line of it that is no message.
    ///
    /// # Errors
    /// Why it cannot be used, for people and the model.
    pub fn start(self) -> Result<(Server, Listed, Option<String>), String> {
        let first = ClientLifecycleMode::Auto { preferred_versions: newest(), legacy_version: None };
        let begun = match self.begin(first) {
            Err(NotBegun::Otherwise { next, .. }) => self.begin(next),
            begun => begun,
        };
        begun.map_err(|not| match not {
            NotBegun::Final(why) | NotBegun::Otherwise { why, .. } => why,
        })
    }

    fn begin(self, mode: ClientLifecycleMode) -> Result<(Server, Listed, Option<String>), NotBegun> {
        let limit = Duration::from_millis(self.server.timeout_ms);
        let (child, complaints, (stdout, stdin)) = spawn(self).map_err(NotBegun::Final)?;
        let child = Started { child: Some(child), complaints };
        let fault = Fault::default();
        let pipes = AsyncRwTransport::new_client(Messages::new(stdout, fault.clone()), stdin);
        let pipes = match mode {
            ClientLifecycleMode::Auto { .. } => Probed::new(pipes, limit),
            _ => Probed::patient(pipes),
        };
        let late = pipes.late();
        let listener = Listener::new(&self.server.name, self.lacks.clone());
        let changes = listener.changes.clone();
        let begun = self.background.wait(limit, async move {
            let service =
                listener.serve_with_lifecycle(pipes, mode).await.map_err(|error| tool_fault::of_beginning(&error))?;
            let listed = tool_pages::all(service.peer()).await.map_err(|error| tool_fault::of_call(&error))?;
            Ok::<_, String>((service, listed))
        });
        match begun {
            Ok(Ok((service, listed))) => {
                changes.store(true, Ordering::Relaxed);
                let (child, complaints) = child.keep();
                let peer = service.peer().clone();
                let (name, background) = (self.server.name.clone(), self.background.clone());
                let running = Server { name, child, complaints, peer, background, limit, fault, _service: service };
                let stray = running.fault.stray();
                Ok((running, listed, stray))
            }
            Ok(Err(_)) if let Some(what) = fault.get() => {
                Err(NotBegun::Final(format!("{what}{}", last_words(&child.complaints))))
            }
            Ok(Err(error)) => {
                let why = format!("{error}{}", last_words(&child.complaints));
                // One of the older kind may end when it is asked something before the handshake.
                let next = match late.came() {
                    true => ClientLifecycleMode::Discover { preferred_versions: newest() },
                    false => ClientLifecycleMode::Initialize,
                };
                Err(NotBegun::Otherwise { why, next })
            }
            Err(_) => {
                let words = last_words(&child.complaints);
                Err(NotBegun::Final(format!("it did not answer within {} s{words}", limit.as_secs())))
            }
        }
    }
}

/// The versions of the protocol that have no handshake.
fn newest() -> Vec<ProtocolVersion> {
    vec![ProtocolVersion::V_2026_07_28]
}

/// What a server is told of us, and what it says unasked.
struct Listener {
    config: ClientConfig,
    server: String,
    lacks: Lacks,
    /// Whether a change of its tools is to be told of: once, and not before they were asked for.
    changes: Arc<AtomicBool>,
}

impl Listener {
    fn new(server: &str, lacks: Lacks) -> Listener {
        let about = Implementation::new("swarm", env!("CARGO_PKG_VERSION"));
        let config = ClientConfig::new(ClientCapabilities::default(), about);
        Listener { config, server: server.to_owned(), lacks, changes: Arc::default() }
    }
}

impl ClientHandler for Listener {
    fn get_info(&self) -> ClientConfig {
        self.config.clone()
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        if self.changes.swap(false, Ordering::Relaxed) {
            (self.lacks)(format!(
                "server `{}` changes its tools while it runs: what it offers since then is not there before the next attempt",
                self.server
            ));
        }
    }
}

/// A child that is ended unless it is kept.
struct Started {
    child: Option<Child>,
    complaints: PathBuf,
}

impl Started {
    fn keep(mut self) -> (Child, PathBuf) {
        (self.child.take().expect("it is taken once"), std::mem::take(&mut self.complaints))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            kill_group(child);
            let _ = child.wait();
        }
    }
}

fn spawn(
    Program { setting, server, argv, env, background, .. }: Program<'_>,
) -> Result<(Child, PathBuf, (ChildStdout, ChildStdin)), String> {
    let (program, arguments) = argv.split_first().ok_or("it names no program")?;
    let program =
        setting.find_program(program).ok_or_else(|| format!("there is no program `{program}` in the cage"))?;
    let letters: String = server.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let complaints = setting.scratch.join(format!("mcp-{letters}.log"));
    let fail = |error: std::io::Error| error.to_string();
    let stderr = File::create(&complaints).map_err(fail)?;
    let mut command = setting.command(program);
    command.args(arguments).envs(env.iter().map(|(key, value)| (key, value)));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().map_err(fail)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let _inside = background.handle().enter();
    let pipes = stdin.zip(stdout).ok_or("its streams are gone".to_owned());
    let pipes = pipes.and_then(|(stdin, stdout)| {
        Ok((ChildStdout::from_std(stdout).map_err(fail)?, ChildStdin::from_std(stdin).map_err(fail)?))
    });
    match pipes {
        Ok(pipes) => Ok((child, complaints, pipes)),
        Err(why) => {
            kill_group(&child);
            let _ = child.wait();
            Err(why)
        }
    }
}

impl Server {
    /// Calls a tool by the server's own name of it.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, tool: &str, input: &Input) -> Result<String, CallError> {
        let of_server = |text: String| CallError::Server(Refused(text));
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(input.clone());
        let peer = self.peer.clone();
        let answer = self.background.wait(self.limit, async move { tool_call::once(&peer, params).await });
        match answer {
            Ok(Ok(Given::Result(result))) => {
                let bound = |text: String| bounded(&text, TEXT_BYTES_MAX);
                tool_answer::read(&result).map(bound).map_err(|text| CallError::Tool(Refused(bound(text))))
            }
            Ok(Ok(Given::Otherwise)) => {
                Err(of_server(format!("server `{}` wants what is not offered here", self.name)))
            }
            // The server is well: its answer is an error.
            Ok(Err(error @ ServiceError::McpError(_))) => {
                let text = format!("server `{}` failed: {}", self.name, tool_fault::of_call(&error));
                Err(CallError::Tool(Refused(bounded(&text, TEXT_BYTES_MAX))))
            }
            Ok(Err(error)) => {
                let what = self.fault.get().unwrap_or_else(|| tool_fault::of_call(&error));
                Err(of_server(format!("server `{}` failed: {what}{}", self.name, last_words(&self.complaints))))
            }
            Err(_) => {
                Err(of_server(format!("server `{}` did not answer within {} s", self.name, self.limit.as_secs())))
            }
        }
    }
}

/// The end of what a server complained of.
fn last_words(complaints: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(complaints)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = vec![];
        file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => format!("; it said: {text}"),
        _ => String::new(),
    }
}
