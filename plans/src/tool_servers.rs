//! What agents are given beside their own tools: `[servers.NAME]` of a plan and of a person's own configuration (Model
//! Context Protocol), and the hooks of an agent. Nothing here speaks with anybody.
//!
//! A plan's servers are programs inside the cage. A server with an address is spoken with by the coordinator, which has the
//! network and the secrets: only the person who runs a plan can name one.

use std::time::Duration;

use indexmap::IndexMap;

use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::document::{Entry, Node, Table};
use crate::lower::time;
use crate::models::{KeySource, Origin, key};
use crate::unsaid::unsaid;

/// How long a server's start and each of its calls may take, unless the plan says otherwise.
const SERVER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a hook may take, unless the plan says otherwise.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// A server of tools, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolServer {
    /// How it is reached.
    pub reach: ServerReach,
    /// Its tools that agents see, by its own names, `*` at the end for any rest; `None` is all.
    pub tools: Option<Vec<String>>,
    /// How long its start and each of its calls may take.
    pub timeout: Duration,
}

impl ToolServer {
    /// The caller's variable that holds its secret.
    pub fn secret_variable(&self) -> Option<&String> {
        match &self.reach {
            ServerReach::Address {
                access:
                    ServerAccess::Token(KeySource::Env(name)) | ServerAccess::Client { secret: KeySource::Env(name), .. },
                ..
            } => Some(name),
            ServerReach::Address { .. } | ServerReach::Program { .. } => None,
        }
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerReach {
    /// A program inside the cage.
    Program {
        /// Program and arguments; never empty.
        argv: Vec<String>,
        /// Variables beside the task's own.
        env: Vec<(String, String)>,
    },
    /// The coordinator speaks with it.
    Address {
        /// Where it is.
        url: String,
        /// What it wants to see.
        access: ServerAccess,
    },
}

/// What a server wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAccess {
    /// Nothing.
    Open,
    /// A token.
    Token(KeySource),
    /// A token that its authorization server gives for this.
    Client {
        /// Who asks.
        id: String,
        /// Its secret.
        secret: KeySource,
        /// What is asked for.
        scopes: Vec<String>,
    },
    /// A token that a person gets by signing in.
    Login {
        /// The client that the server knows; without one, it is asked to know a new one.
        id: Option<String>,
        /// What is asked for; empty takes what the server names.
        scopes: Vec<String>,
    },
}

/// A server that an agent names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUse {
    /// Where.
    pub at: Location,
    /// Its name.
    pub name: String,
}

/// A program that an agent's calls pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When, in the field's words: `PreToolUse` …
    pub event: String,
    /// For which tools, `|` between several; `None` is all.
    pub tools: Option<String>,
    /// A script for `sh -c`.
    pub run: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// The servers of a plan or of a configuration.
pub(crate) fn lower(
    entries: Vec<&Entry>,
    origin: Origin,
    diagnostics: &mut Vec<Diagnostic>,
) -> IndexMap<String, ToolServer> {
    let with_table = entries.into_iter().filter_map(|entry| Some((entry, entry.node.table()?)));
    let lowered = with_table.filter_map(|(entry, table)| {
        let server = server(entry, table, origin, diagnostics)?;
        Some((entry.key.clone(), server))
    });
    lowered.collect()
}

fn server(entry: &Entry, table: &Table, origin: Origin, diagnostics: &mut Vec<Diagnostic>) -> Option<ToolServer> {
    let reach = match (table.get("argv"), table.get("url")) {
        (Some(argv), None) => {
            for key in ["token", "client", "login"] {
                if let Some(node) = table.get(key) {
                    let message = format!("`{key}` belongs to a server with `url`");
                    let hint =
                        "a program finds in its environment what the task's policy lets through: `secrets`, `env`";
                    diagnostics.push(Diagnostic::error(node.at, message).hint(hint));
                }
            }
            let env = table.get("env").and_then(Node::table).map(|table| table.entries.iter().collect::<Vec<_>>());
            let pair = |entry: &Entry| Some((entry.key.clone(), entry.node.text()?.to_owned()));
            let env = env.unwrap_or_default().into_iter().filter_map(pair).collect();
            ServerReach::Program { argv: texts(argv), env }
        }
        (None, Some(url)) if origin == Origin::Plan => {
            let message = format!("the server `{}` has an address, and only you can name those", entry.key);
            let hint = format!("write [servers.{}] into ~/.config/swarm/config.toml, and its name here", entry.key);
            diagnostics.push(Diagnostic::error(url.at, message).hint(hint));
            return None;
        }
        (None, Some(url)) => {
            ServerReach::Address { url: address(url, diagnostics)?, access: access(table, diagnostics)? }
        }
        _ => {
            let message = format!("the server `{}` has exactly one of `argv` and `url`", entry.key);
            let hint = format!("write it like\n[servers.{}]\nargv = [\"my-server\", \"--stdio\"]", entry.key);
            diagnostics.push(Diagnostic::error(entry.key_at, message).hint(hint));
            return None;
        }
    };
    Some(ToolServer {
        reach,
        tools: table.get("tools").map(texts),
        timeout: time(table.get("timeout")).unwrap_or(SERVER_TIMEOUT),
    })
}

fn texts(node: &Node) -> Vec<String> {
    node.list().unwrap_or_default().iter().filter_map(Node::text).map(str::to_owned).collect()
}

fn address(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let text = node.text()?;
    let place = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |place: &str| !place.is_empty() && !place.starts_with('/') && !place.contains(['@', '#', ' ']);
    if place.is_some_and(plain) {
        return Some(text.to_owned());
    }
    let diagnostic = Diagnostic::error(node.at, format!("`{}` is no address of a server", unsaid(text)));
    diagnostics.push(diagnostic.hint("write it like \"https://host/mcp\": no user, no password"));
    None
}

fn access(table: &Table, diagnostics: &mut Vec<Diagnostic>) -> Option<ServerAccess> {
    if let Some(login) = table.get("login") {
        if table.get("token").or(table.get("client")).is_some() {
            let diagnostic = Diagnostic::error(login.at, "a server has one of `token`, `client` and `login`");
            diagnostics.push(diagnostic.hint("with `login`, signing in gives the token: leave the others out"));
            return None;
        }
        let login = login.table()?;
        return Some(ServerAccess::Login {
            id: login.get("id").and_then(Node::text).map(str::to_owned),
            scopes: login.get("scopes").map(texts).unwrap_or_default(),
        });
    }
    match (table.get("token"), table.get("client").and_then(Node::table)) {
        (None, None) => Some(ServerAccess::Open),
        (Some(token), None) => key(token, diagnostics).map(ServerAccess::Token),
        (None, Some(client)) => Some(ServerAccess::Client {
            id: client.get("id").and_then(Node::text).unwrap_or_default().to_owned(),
            secret: match client.get("secret") {
                Some(secret) => key(secret, diagnostics)?,
                None => {
                    let at = table.get("client").map_or(Location::new(0, 0..0), |node| node.at);
                    let diagnostic = Diagnostic::error(at, "`client` has no `secret`");
                    diagnostics.push(diagnostic.hint("write it like secret = { env = \"WIKI_SECRET\" }"));
                    return None;
                }
            },
            scopes: client.get("scopes").map(texts).unwrap_or_default(),
        }),
        (Some(token), Some(_)) => {
            let diagnostic = Diagnostic::error(token.at, "a server has one of `token` and `client`");
            diagnostics.push(diagnostic.hint("a token that you have, or an id and a secret that give one"));
            None
        }
    }
}

/// The servers that an agent names.
pub(crate) fn uses(node: &Node) -> Vec<ServerUse> {
    let items = node.list().unwrap_or_default().iter();
    items.filter_map(|item| Some(ServerUse { at: item.at, name: item.text()?.to_owned() })).collect()
}

/// The hooks of an agent.
pub(crate) fn hooks(node: &Node) -> Vec<Hook> {
    let tables = node.list().unwrap_or_default().iter().filter_map(Node::table);
    let hook = |table: &Table| {
        let text = |key: &str| table.get(key).and_then(Node::text).map(str::to_owned);
        let timeout = time(table.get("timeout")).unwrap_or(HOOK_TIMEOUT);
        Some(Hook { event: text("event")?, tools: text("tools"), run: text("run")?, timeout })
    };
    tables.filter_map(hook).collect()
}

/// A server by its name: a person's own entry wins over a plan's.
pub fn find<'a>(
    name: &str,
    plan: &'a IndexMap<String, ToolServer>,
    user: &'a IndexMap<String, ToolServer>,
) -> Option<&'a ToolServer> {
    user.get(name).or_else(|| plan.get(name))
}

/// What is wrong with names that agents use.
pub(crate) fn link<'a>(
    used: impl Iterator<Item = &'a ServerUse>,
    plan: &IndexMap<String, ToolServer>,
    user: &IndexMap<String, ToolServer>,
) -> Vec<Diagnostic> {
    let unknown = used.filter(|used| find(&used.name, plan, user).is_none());
    let diagnostic = |used: &ServerUse| {
        let hint = match nearest(&used.name, plan.keys().chain(user.keys()).map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "describe it as [servers.{0}]: a program in the plan, an address in ~/.config/swarm/config.toml",
                used.name
            ),
        };
        Diagnostic::error(used.at, format!("the server `{}` is not known", used.name)).hint(hint)
    };
    unknown.map(diagnostic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;
    use crate::models::user_config;

    const TASK: &str = "[tasks.a]\nrun = 'true'\n";

    fn plan(servers: &str) -> Result<IndexMap<String, ToolServer>, Vec<String>> {
        let parsed = parse("p.toml", &format!("version = 1\n{TASK}{servers}"), &[], &mut |_| Err("no".to_owned()));
        let told = parsed.diagnostics.iter().map(|diagnostic| diagnostic.message.clone()).collect();
        parsed.plan.map(|plan| plan.servers.clone()).ok_or(told)
    }

    #[test]
    fn a_plan_names_programs_and_a_person_addresses() {
        let servers =
            plan("[servers.docs]\nargv = ['d', '--stdio']\nenv = { A = '1' }\ntools = ['find*']\ntimeout = '5s'")
                .unwrap();
        let docs = &servers["docs"];
        let reach = ServerReach::Program {
            argv: vec!["d".to_owned(), "--stdio".to_owned()],
            env: vec![("A".to_owned(), "1".to_owned())],
        };
        assert_eq!((&docs.reach, docs.timeout), (&reach, Duration::from_secs(5)));
        let far = "[servers.wiki]\nurl = 'https://w/mcp'\ntoken = { env = 'T' }";
        assert_eq!(plan(far), Err(vec!["the server `wiki` has an address, and only you can name those".to_owned()]));
        let (config, none) = user_config(far, 0);
        assert!(none.is_empty());
        let access = ServerAccess::Token(KeySource::Env("T".to_owned()));
        let reach = ServerReach::Address { url: "https://w/mcp".to_owned(), access };
        assert_eq!(config.servers["wiki"].reach, reach);
    }

    #[test]
    fn what_is_half_or_double_is_told() {
        let told = |text: &str| plan(text).unwrap_err().join("; ");
        assert_eq!(told("[servers.a]\ntools = ['x']"), "the server `a` has exactly one of `argv` and `url`");
        assert_eq!(told("[servers.a]\nargv = ['x']\ntoken = { env = 'T' }"), "`token` belongs to a server with `url`");
        let config =
            |text: &str| user_config(text, 0).1.iter().map(|one| one.message.clone()).collect::<Vec<_>>().join("; ");
        assert_eq!(config("[servers.a]\nurl = 'https://u:p@h'"), "`https://***@h` is no address of a server");
        let both =
            "[servers.a]\nurl = 'https://h'\ntoken = { env = 'T' }\nclient = { id = 'x', secret = { env = 'S' } }";
        assert_eq!(config(both), "a server has one of `token` and `client`");
        assert_eq!(config("[servers.a]\nurl = 'https://h'\nclient = { id = 'x' }"), "`client` has no `secret`");
        assert_eq!(told("[servers.a]\nargv = ['x']\nlogin = {}"), "`login` belongs to a server with `url`");
        let both = "[servers.a]\nurl = 'https://h'\nlogin = {}\ntoken = { env = 'T' }";
        assert_eq!(config(both), "a server has one of `token`, `client` and `login`");
    }

    #[test]
    fn a_login_needs_nothing_more() {
        let (config, told) = user_config("[servers.a]\nurl = 'https://h'\nlogin = {}", 0);
        assert!(told.is_empty(), "{told:?}");
        let access = ServerAccess::Login { id: None, scopes: vec![] };
        let reach = ServerReach::Address { url: "https://h".to_owned(), access };
        assert_eq!(config.servers["a"].reach, reach);
    }
}
