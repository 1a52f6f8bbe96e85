//! Foreign tool servers that agents reach through the coordinator (Model Context Protocol over streamable HTTP): the address
//! and the secrets stay here, an agent knows a server by its name. Who decides whether an agent may call a tool is the
//! agent's own gate inside its cage; who decides which servers a task names is the executor.
//!
//! A connection is made when a server is used first and made anew when it broke. One that hangs or lies costs its own calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use rmcp::transport::streamable_http_client::StreamableHttpError;
use serde_json::{Map, Value};
use swarm_plans::{ServerAccess, ServerReach, ToolServer, hosts_alone};
use swarm_protocol::tool_call::{self, Given};
use swarm_protocol::tool_pages::{self, Listed};
use swarm_protocol::toolset::OfferedTool;
use swarm_protocol::{tool_answer, tool_fault};
use tokio::time::timeout;

use crate::model::broker::keys::Keys;
use crate::report::sanitize;
use crate::secrets::Secrets;
use crate::state::StateDir;

mod exchange;
mod place;
/// A person signs in to a server.
pub mod sign_in;
/// What signing in brought, on disk.
pub mod tokens;

use place::Place;
use tokens::TokenFile;

/// Tools of one server that an agent is given.
const TOOLS_MAX: usize = 200;
/// The longest answer that is passed on, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarServer {
    /// Where it is.
    pub url: String,
    /// What it wants to see.
    pub access: Access,
    /// How long its start and each of its calls may take.
    pub timeout: Duration,
}

/// What a server wants to see.
#[derive(Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// A token.
    Token(String),
    /// A token that its authorization server gives for this (OAuth 2, client credentials).
    Client {
        /// Who asks.
        id: String,
        /// Its secret.
        secret: String,
        /// What is asked for.
        scopes: Vec<String>,
    },
    /// A token that a person got by signing in (OAuth 2, authorization code); it is renewed as long as the server lets it.
    SignedIn {
        /// Where it is kept.
        tokens: TokenFile,
        /// What signs in, to be typed.
        command: String,
    },
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Open => "Open",
            Access::Token(_) => "Token(…)",
            Access::Client { .. } => "Client(…)",
            Access::SignedIn { .. } => "SignedIn(…)",
        })
    }
}

impl Access {
    /// Why a server cannot be used, with what a person can do where it does not know who asks.
    fn told(&self, name: &str, failed: Failed) -> String {
        let Failed { why, is_unauthorized } = failed;
        match self {
            Access::SignedIn { command, .. } if is_unauthorized => format!("{why}; to sign in again: {command}"),
            Access::Open if is_unauthorized => {
                let (shown, typed) = (sanitize::name(name), sanitize::shell_word(name));
                format!(
                    "{why}; where people sign in to it: `login = {{}}` in [servers.{shown}], then swarm login {typed}"
                )
            }
            _ => why,
        }
    }

    fn secrets(&self) -> Vec<String> {
        match self {
            Access::Open => vec![],
            Access::Token(secret) | Access::Client { secret, .. } => vec![secret.clone()],
            Access::SignedIn { tokens, .. } => tokens.secrets(),
        }
    }
}

/// All servers of a run, by name.
#[derive(Debug, Default)]
pub struct ToolServers {
    /// How each is spoken with, or why it cannot be.
    servers: BTreeMap<String, Result<Arc<Place>, String>>,
}

impl ToolServers {
    /// Nobody is spoken to yet.
    pub fn new(servers: BTreeMap<String, Result<FarServer, String>>) -> ToolServers {
        let place = |far| Arc::new(Place::new(far));
        ToolServers { servers: servers.into_iter().map(|(name, far)| (name, far.map(place))).collect() }
    }

    /// Those of a person's configuration that are named, with their secrets; tokens of people lie in `state`.
    pub async fn of<'a>(
        named: impl Iterator<Item = (&'a String, &'a ToolServer)>,
        keys: &Keys,
        state: &StateDir,
    ) -> ToolServers {
        let mut servers = BTreeMap::new();
        for (name, server) in named {
            let ServerReach::Address { url, access } = &server.reach else { continue };
            let access =
                match access {
                    ServerAccess::Open => Ok(Access::Open),
                    ServerAccess::Token(source) => {
                        keys.get(source).await.map(|token| Access::Token(token.expose().to_owned()))
                    }
                    ServerAccess::Client { id, secret, scopes } => keys.get(secret).await.map(|secret| {
                        Access::Client { id: id.clone(), secret: secret.expose().to_owned(), scopes: scopes.clone() }
                    }),
                    ServerAccess::Login { .. } => {
                        let command = format!("swarm login {}", sanitize::shell_word(name));
                        Ok(Access::SignedIn { tokens: TokenFile::of(state, url), command })
                    }
                };
            let far = access.map(|access| FarServer { url: url.clone(), access, timeout: server.timeout });
            servers.insert(name.clone(), far);
        }
        ToolServers::new(servers)
    }

    /// What a server offers.
    ///
    /// # Errors
    /// Why it cannot be used, for people.
    pub async fn offered(&self, name: &str) -> Result<Listed, String> {
        let place = self.place(name)?;
        let (server, connection) = (&place.far, place.connection(name).await?);
        let listed = timeout(server.timeout, tool_pages::all(connection.peer())).await;
        let failed = |error| server.access.told(name, Failed::of(name, &error));
        let listed = listed.map_err(|_| late(name, server)).and_then(|listed| listed.map_err(failed));
        if listed.is_err() {
            place.forget(&connection).await;
        }
        let masked = place.mask_in_time(name).await?;
        listed
            .map(|listed| {
                let tools = listed.tools.into_iter().map(|tool| told(tool, &masked)).collect();
                Listed { tools, ..listed }
            })
            .map_err(|why| masked.text(&why).into_owned())
    }

    /// Calls a tool by the server's own name of it.
    ///
    /// # Errors
    /// What the tool says of its failure, or why there is no answer; for the model.
    pub async fn call(&self, name: &str, tool: &str, arguments: Map<String, Value>) -> Result<String, String> {
        let place = self.place(name)?;
        let asked = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let answer = match call_once(place, name, asked.clone()).await {
            // Nobody has taken the call, and a new token is to be had without anybody.
            Err(Failed { is_unauthorized: true, .. }) if matches!(place.far.access, Access::Client { .. }) => {
                call_once(place, name, asked).await
            }
            answer => answer,
        };
        let answer = answer.map_err(|failed| place.far.access.told(name, failed));
        let masked = place.mask_in_time(name).await?;
        let fit = |text: String| cut(&masked.text(&text));
        answer.map(fit).map_err(fit)
    }

    fn place(&self, name: &str) -> Result<&Arc<Place>, String> {
        let server = self.servers.get(name).ok_or_else(|| format!("there is no server `{name}`"))?;
        server.as_ref().map_err(|why| format!("server `{name}` cannot be used: {why}"))
    }
}

/// Why a call has no answer.
struct Failed {
    /// For the model.
    why: String,
    /// The server does not know who asks: a token ran out, or was taken back.
    is_unauthorized: bool,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Failed { why, is_unauthorized: false }
    }
}

async fn call_once(place: &Arc<Place>, name: &str, asked: CallToolRequestParams) -> Result<String, Failed> {
    let (server, connection) = (&place.far, place.connection(name).await?);
    // A token may be renewed while it is asked.
    place.mask_in_time(name).await?;
    let failed = match timeout(server.timeout, tool_call::once(connection.peer(), asked)).await {
        Ok(Ok(Given::Result(result))) => return Ok(tool_answer::read(&result)?),
        Ok(Ok(Given::Otherwise)) => return Err(format!("server `{name}` wants what is not offered here").into()),
        // An error of the tool is an answer; anything else may have broken the connection.
        Ok(Err(error @ rmcp::ServiceError::McpError(_))) => return Err(failed(name, &error).into()),
        Ok(Err(error)) => Failed::of(name, &error),
        Err(_) => late(name, server).into(),
    };
    place.forget(&connection).await;
    Err(failed)
}

impl Failed {
    fn of(name: &str, error: &rmcp::ServiceError) -> Failed {
        let is_unauthorized = match error {
            rmcp::ServiceError::TransportSend(error) => is_unauthorized(&*error.error),
            _ => false,
        };
        Failed { why: failed(name, error), is_unauthorized }
    }
}

/// Whether a server answered that it does not know who asks, with or without saying how to sign in.
fn is_unauthorized(error: &(dyn std::error::Error + 'static)) -> bool {
    // The library tells of the status in words alone where there is no `WWW-Authenticate`.
    match error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        Some(StreamableHttpError::AuthRequired(_)) => true,
        Some(StreamableHttpError::UnexpectedServerResponse(told)) => told.starts_with("HTTP 401"),
        _ => false,
    }
}

fn late(name: &str, server: &FarServer) -> String {
    format!("server `{name}` did not answer within {} s", server.timeout.as_secs_f32())
}

fn failed(name: &str, error: &rmcp::ServiceError) -> String {
    let text = format!("server `{name}` failed: {}", tool_fault::of_call(error));
    match error {
        rmcp::ServiceError::McpError(_) => text,
        // Its address may be named, and hold what it wants to see anywhere behind its host.
        _ => hosts_alone(&text),
    }
}

/// What a model is told of a tool, without the server's secrets.
fn told(mut tool: OfferedTool, secrets: &Secrets) -> OfferedTool {
    secrets.mask(&mut tool.name);
    secrets.mask(&mut tool.description);
    secrets.mask_value(&mut tool.schema);
    tool
}

fn cut(text: &str) -> String {
    if text.len() <= ANSWER_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(ANSWER_BYTES_MAX);
    format!("{}\n[… {} bytes left out …]", &text[..end], text.len() - end)
}

/// The tools that an agent is given of a server: those that its entry names (`*` at the end of a name stands for any rest), as
/// many as there may be. Also how many of these are left out.
pub fn given(offered: Vec<OfferedTool>, names: Option<&[String]>) -> (Vec<OfferedTool>, usize) {
    let fits = |name: &String, tool: &str| match name.strip_suffix('*') {
        Some(front) => tool.starts_with(front),
        None => name == tool,
    };
    let is_named = |tool: &OfferedTool| names.is_none_or(|names| names.iter().any(|name| fits(name, &tool.name)));
    let mut given: Vec<OfferedTool> = offered.into_iter().filter(is_named).collect();
    let left_out = given.len().saturating_sub(TOOLS_MAX);
    given.truncate(TOOLS_MAX);
    (given, left_out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// One request: its first line, its head in lower case, its body.
    pub(super) async fn request(stream: &mut TcpStream) -> Option<(String, String, String)> {
        let (mut bytes, mut piece) = (vec![], [0; 4096]);
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let lower = head.to_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    let first = head.lines().next().unwrap_or_default().to_owned();
                    return Some((first, lower, body.to_owned()));
                }
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            }
        }
    }

    pub(super) async fn respond(stream: &mut TcpStream, status: &str, body: &str) {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
        let _ = stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    }

    /// A server that wants to see `token`, and an authorization server that gives it for `secret-of-the-client`.
    async fn site(token: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let own = base.clone();
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let base = own.clone();
                tokio::spawn(async move {
                    let Some((first, head, body)) = request(&mut stream).await else { return };
                    if first.contains("/oauth-protected-resource") {
                        let about = json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]});
                        return respond(&mut stream, "200 OK", &about.to_string()).await;
                    }
                    if first.contains("/oauth-authorization-server ") {
                        let about = json!({"issuer": base, "authorization_endpoint": format!("{base}/authorize"),
                            "token_endpoint": format!("{base}/token"), "grant_types_supported": ["client_credentials"],
                            "token_endpoint_auth_methods_supported": ["client_secret_post"]});
                        return respond(&mut stream, "200 OK", &about.to_string()).await;
                    }
                    if first.starts_with("POST /token") {
                        let (status, answer) = match body.contains("secret-of-the-client") {
                            true => {
                                ("200 OK", json!({"access_token": token, "token_type": "bearer", "expires_in": 3600}))
                            }
                            false => ("401 No", json!({"error": "invalid_client"})),
                        };
                        return respond(&mut stream, status, &answer.to_string()).await;
                    }
                    if !first.starts_with("POST /mcp") {
                        return respond(&mut stream, "404 Not Found", "{}").await;
                    }
                    if !token.is_empty() && !head.contains(&format!("authorization: bearer {token}")) {
                        return respond(&mut stream, "401 Unauthorized", "{}").await;
                    }
                    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
                    let (status, answer) = answer(&asked, token);
                    if asked["params"]["name"] == "hang" {
                        return std::future::pending().await;
                    }
                    respond(&mut stream, status, &answer).await;
                });
            }
        });
        base
    }

    pub(super) fn answer(asked: &Value, token: &str) -> (&'static str, String) {
        let result = match asked["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"}}),
            Some("tools/list") => json!({"tools": [{"name": "find", "inputSchema": {"type": "object"},
                "description": format!("finds as {token}"),
                "annotations": {"readOnlyHint": true}}, {"name": "bad", "inputSchema": 7}]}),
            Some("tools/call") if asked["params"]["name"] == "fail" => {
                json!({"isError": true, "content": [{"type": "text", "text": "not found"}]})
            }
            Some("tools/call") => {
                let text = format!("found {} with {token}", asked["params"]["arguments"]["text"]);
                json!({"content": [{"type": "text", "text": text}]})
            }
            Some(method) if method.starts_with("notifications/") => return ("202 Accepted", String::new()),
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                return ("200 OK", json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}).to_string());
            }
        };
        ("200 OK", json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
    }

    fn servers(base: &str, access: Access, timeout_ms: u64) -> ToolServers {
        let server = FarServer { url: format!("{base}/mcp"), access, timeout: Duration::from_millis(timeout_ms) };
        let locked = Err("the variable T is not set".to_owned());
        ToolServers::new(BTreeMap::from([("docs".to_owned(), Ok(server)), ("locked".to_owned(), locked)]))
    }

    async fn call(servers: &ToolServers, tool: &str) -> Result<String, String> {
        servers.call("docs", tool, json!({"text": "x"}).as_object().unwrap().clone()).await
    }

    #[tokio::test]
    async fn tools_are_listed_and_called_with_a_token_that_nobody_else_sees() {
        let base = site("token-1234567").await;
        let servers = servers(&base, Access::Token("token-1234567".to_owned()), 60_000);
        let offered = servers.offered("docs").await.unwrap();
        let Listed { tools: offered, left_out: None } = offered else { panic!("{offered:?}") };
        assert_eq!((offered.len(), offered[0].name.as_str(), offered[0].reads_only), (2, "find", true));
        assert_eq!((offered[1].name.as_str(), &offered[1].schema), ("bad", &Value::Null), "its agent is told");
        assert_eq!(offered[0].description, "finds as ***");
        assert_eq!(call(&servers, "find").await.unwrap(), "found \"x\" with ***");
        assert_eq!(call(&servers, "fail").await.unwrap_err(), "not found");
        assert_eq!(servers.call("other", "x", Map::new()).await.unwrap_err(), "there is no server `other`");
        let locked = servers.offered("locked").await.unwrap_err();
        assert_eq!(locked, "server `locked` cannot be used: the variable T is not set");
        assert!(!format!("{servers:?}").contains("token-1234567"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_who_asks_is_told_of_with_the_way_to_sign_in() {
        let base = site("token-1234567").await;
        let why = servers(&base, Access::Open, 60_000).offered("docs").await.unwrap_err();
        assert!(
            why.ends_with("; where people sign in to it: `login = {}` in [servers.docs], then swarm login docs"),
            "{why}"
        );
        let why = servers(&base, Access::Token("other-token-7".to_owned()), 60_000).offered("docs").await.unwrap_err();
        assert!(why.contains("401") && !why.contains("swarm login"), "{why}");
    }

    #[tokio::test]
    async fn answers_are_asked_for_as_they_are_and_one_that_is_packed_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let Some((_, head, _)) = request(&mut stream).await else { return };
                assert!(head.contains("accept-encoding: identity"), "{head}");
                respond(&mut stream, "200 OK\r\nContent-Encoding: gzip", "\u{1f}\u{8b}\u{8}").await;
            }
        });
        let why = servers(&base, Access::Open, 60_000).offered("docs").await.unwrap_err();
        assert!(why.starts_with("server `docs` cannot be used") && why.contains("could not parse"), "{why}");
    }

    #[tokio::test]
    async fn a_token_is_got_for_a_clients_secret() {
        let base = site("token-of-oauth").await;
        let client = |secret: &str| Access::Client { id: "me".to_owned(), secret: secret.to_owned(), scopes: vec![] };
        let good = servers(&base, client("secret-of-the-client"), 60_000);
        assert_eq!(call(&good, "find").await.unwrap(), "found \"x\" with ***", "a token that was given is one, too");
        let bad = servers(&base, client("another-secret"), 60_000);
        let why = call(&bad, "find").await.unwrap_err();
        assert!(why.starts_with("server `docs` cannot be used") && !why.contains("another-secret"), "{why}");
    }

    #[tokio::test]
    async fn a_server_that_takes_no_connection_holds_no_other_up() {
        let far = |url: String| FarServer { url, access: Access::Open, timeout: Duration::from_secs(3600) };
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = far(format!("http://{}/mcp", silent.local_addr().unwrap()));
        let docs = far(format!("{}/mcp", site("").await));
        let all = ToolServers::new(BTreeMap::from([("docs".to_owned(), Ok(docs)), ("silent".to_owned(), Ok(silent))]));
        tokio::select! {
            biased;
            offered = all.offered("silent") => panic!("{offered:?}"),
            found = timeout(Duration::from_secs(60), call(&all, "find")) => assert!(found.is_ok_and(|found| found.is_ok())),
        }
    }

    /// A server that forgets its session after the first call, and says so without the id of the request, with status 400.
    async fn forgetful() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut session, mut calls) = (0, 0);
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let Some((first, head, body)) = request(&mut stream).await else { continue };
                let asked: Value = serde_json::from_str(&body).unwrap_or_default();
                let (mut status, mut text) = answer(&asked, "x");
                if asked["method"] == "initialize" {
                    session += 1;
                    status = ["200 OK\r\nMcp-Session-Id: s-1", "200 OK\r\nMcp-Session-Id: s-2"][session - 1];
                } else if !first.starts_with("POST") {
                    (status, text) = ("405 No", String::new());
                } else if asked["method"] == "tools/call" {
                    calls += 1;
                    if calls > 1 && head.contains("mcp-session-id: s-1") {
                        let error = json!({"code": -32000, "message": "Bad Request: No valid session ID provided"});
                        (status, text) = ("400 Bad", json!({"jsonrpc": "2.0", "id": null, "error": error}).to_string());
                    }
                }
                respond(&mut stream, status, &text).await;
            }
        });
        base
    }

    #[tokio::test]
    async fn a_session_that_is_forgotten_is_begun_anew_however_that_is_said() {
        let servers = servers(&forgetful().await, Access::Open, 20_000);
        for _ in 0..3 {
            assert_eq!(call(&servers, "find").await.unwrap(), "found \"x\" with x");
        }
    }

    #[tokio::test]
    async fn what_hangs_refuses_or_is_not_there_is_told() {
        let base = site("").await;
        let slow = servers(&base, Access::Open, 1500);
        assert_eq!(call(&slow, "hang").await.unwrap_err(), "server `docs` did not answer within 1.5 s");
        assert!(call(&slow, "find").await.is_ok(), "it goes on");
        let refused = servers(&site("token-1234567").await, Access::Open, 60_000);
        assert!(call(&refused, "find").await.unwrap_err().starts_with("server `docs` cannot be used"));
        let nobody = servers("http://127.0.0.1:1", Access::Open, 60_000);
        assert!(call(&nobody, "find").await.unwrap_err().starts_with("server `docs` cannot be used"));
        let plain = servers("http://example.test", Access::Token("t".to_owned()), 60_000);
        assert!(call(&plain, "find").await.unwrap_err().ends_with("a secret travels over https only"));
    }

    #[test]
    fn a_schema_without_the_secret_in_it_is_still_a_schema() {
        let secrets = Secrets::new([("TOKEN", "token-1234567"), ("PIN", "90210777")]);
        let schema = json!({ "type": "object", "maximum": 90210777, "description": "not token-1234567" });
        let tool = OfferedTool { name: "find".to_owned(), description: String::new(), schema, reads_only: true };
        let masked = json!({ "type": "object", "maximum": "***", "description": "not ***" });
        assert_eq!(told(tool, &secrets).schema, masked);
    }

    #[test]
    fn what_is_named_comes_first_and_the_rest_is_counted() {
        let tool = |n: usize| OfferedTool {
            name: format!("t{n}"),
            description: String::new(),
            schema: Value::Null,
            reads_only: true,
        };
        let all = || (0..300).map(tool).collect::<Vec<_>>();
        let (few, left_out) = given(all(), None);
        assert_eq!((few.len(), left_out), (200, 100));
        let names = ["t299", "t1*"].map(str::to_owned);
        let (named, left_out) = given(all(), Some(&names));
        assert_eq!((named.len(), named.last().map(|tool| tool.name.as_str()), left_out), (112, Some("t299"), 0));
    }
}
