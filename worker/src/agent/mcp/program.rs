//! A server of the Model Context Protocol that is a program inside the cage, spoken to over its standard streams. One that
//! hangs, dies or lies costs its calls and nothing else.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, Implementation, ProtocolVersion,
};
use rmcp::service::{Peer, RunningService};
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceError};
use swarm_protocol::toolset::{OfferedTool, ToolServer};
use swarm_protocol::{tool_answer, tool_fault, tool_pages};
use tokio::process::{ChildStdin, ChildStdout};

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
    _service: RunningService<RoleClient, ClientConfig>,
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

/// Starts a server and asks for its tools; also gives the first line of it that is no message.
///
/// # Errors
/// Why it cannot be used, for people and the model.
pub fn start(
    setting: &Setting,
    server: &ToolServer,
    argv: &[String],
    env: &[(String, String)],
    background: &Arc<Background>,
) -> Result<(Server, Vec<OfferedTool>, Option<String>), String> {
    let limit = Duration::from_millis(server.timeout_ms);
    let newest =
        ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None };
    // A server of the older kind may end when it is asked something before the handshake.
    let modes = [newest, ClientLifecycleMode::Initialize];
    let mut why = String::new();
    for mode in modes {
        let (child, complaints, pipes) = spawn(setting, server, argv, env, background)?;
        let child = Started { child: Some(child), complaints };
        let fault = Fault::default();
        let pipes = (Messages::new(pipes.0, fault.clone()), pipes.1);
        let info =
            ClientConfig::new(ClientCapabilities::default(), Implementation::new("swarm", env!("CARGO_PKG_VERSION")));
        let begun = background.wait(limit, async move {
            let service =
                info.serve_with_lifecycle(pipes, mode).await.map_err(|error| tool_fault::of_beginning(&error))?;
            let offered = tool_pages::all(service.peer()).await.map_err(|error| tool_fault::of_call(&error))?;
            Ok::<_, String>((service, offered))
        });
        match begun {
            Ok(Ok((service, offered))) => {
                let (child, complaints) = child.keep();
                let peer = service.peer().clone();
                let (name, background) = (server.name.clone(), background.clone());
                let running = Server { name, child, complaints, peer, background, limit, fault, _service: service };
                let stray = running.fault.stray();
                return Ok((running, offered, stray));
            }
            // It would say the same to another question.
            Ok(Err(_)) if let Some(what) = fault.get() => {
                return Err(format!("{what}{}", last_words(&child.complaints)));
            }
            Ok(Err(error)) => why = format!("{error}{}", last_words(&child.complaints)),
            Err(_) => {
                let words = last_words(&child.complaints);
                return Err(format!("it did not answer within {} s{words}", limit.as_secs()));
            }
        }
    }
    Err(why)
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
    setting: &Setting,
    server: &ToolServer,
    argv: &[String],
    env: &[(String, String)],
    background: &Background,
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
        let answer = self.background.wait(self.limit, async move { peer.call_tool_once(params).await });
        match answer {
            Ok(Ok(CallToolResponse::Complete(result))) => {
                let result = serde_json::to_value(&result).map_err(|error| of_server(error.to_string()))?;
                let bound = |text: String| bounded(&text, TEXT_BYTES_MAX);
                tool_answer::read(&result).map(bound).map_err(|text| CallError::Tool(Refused(bound(text))))
            }
            Ok(Ok(_)) => Err(of_server(format!("server `{}` wants what is not offered here", self.name))),
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
