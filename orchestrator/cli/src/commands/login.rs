//! `swarm login SERVER`: a person signs in to a server of tools in their browser.

use std::io::IsTerminal as _;

use swarm_orchestrator::report::sanitize;
use swarm_orchestrator::settings::{Settings, TapeAt};
use swarm_orchestrator::state::StateDir;
use swarm_orchestrator::threads;
use swarm_orchestrator::tool_servers::sign_in::{Wanted, begin};
use swarm_orchestrator::tool_servers::tokens::TokenFile;
use swarm_plans::{Plan, ServerAccess, ServerReach, UserConfig};

use crate::commands::failure::Failure;
use crate::commands::surroundings::{ReaderKind, Surroundings};
use crate::commands::user_config;

/// Signs in to a server of tools in your browser; agents of this repository's runs may use it then.
///
/// The server is an entry of [servers] with `login` in your own configuration. What the sign-in gives is kept in the state
/// folder, for you alone and for that server's address only, and is renewed as long as the server lets it.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// Its name.
    #[arg(value_name = "SERVER")]
    server: String,
}

/// The page to sign in at on stdout; waits until that is done.
///
/// # Errors
/// There is no such server, nobody can sign in there, or nobody did.
pub fn run(args: &Login, it: &Surroundings) -> Result<u8, Failure> {
    let user = user_config::load(it)?;
    let Some(wanted) = wanted(&user, &args.server) else {
        let hint =
            format!("in ~/.config/swarm/config.toml:\n[servers.{}]\nurl = \"https://…\"\nlogin = {{}}", args.server);
        return Err(Failure::usage(format!("sign in to {:?}: no server of yours with `login`", args.server), hint));
    };
    sign_in(&args.server, wanted, &tokens(wanted.url, it)?, it)?;
    Ok(0)
}

/// Lets a person sign in to those servers that a plan names and that nobody has signed in to.
///
/// # Errors
/// Nobody is at a terminal, or the sign-in failed: the run does not start then.
pub fn before(plan: &Plan, settings: &Settings, it: &Surroundings) -> Result<(), Failure> {
    if let TapeAt::Replay(_) = settings.tape {
        // A replay speaks with nobody.
        return Ok(());
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in plan.server_uses().map(|used| used.name.as_str()).filter(|name| seen.insert(*name)) {
        let Some(wanted) = wanted(&settings.user, name) else { continue };
        let tokens = tokens(wanted.url, it)?;
        let there = tokens.is_there();
        if there.map_err(|error| Failure::environment(format!("read the token of {name:?}: {error}"), None))? {
            continue;
        }
        if !(std::io::stdin().is_terminal() && it.err.reader == ReaderKind::Terminal) {
            let hint = format!("swarm login {}", sanitize::shell_word(name));
            return Err(Failure::usage(format!("use the server {name:?}: nobody has signed in to it"), hint));
        }
        sign_in(name, wanted, &tokens, it)?;
    }
    Ok(())
}

fn wanted<'a>(user: &'a UserConfig, name: &str) -> Option<Wanted<'a>> {
    match &user.servers.get(name)?.reach {
        ServerReach::Address { url, access: ServerAccess::Login { id, scopes } } => {
            Some(Wanted { url, id: id.as_deref(), scopes })
        }
        ServerReach::Address { .. } | ServerReach::Program { .. } => None,
    }
}

fn tokens(url: &str, it: &Surroundings) -> Result<TokenFile, Failure> {
    let path = it.state()?;
    let state = StateDir::open(&path);
    let state = state.map_err(|error| Failure::environment(format!("use {}: {error}", path.display()), None))?;
    Ok(TokenFile::of(&state, url))
}

fn sign_in(name: &str, wanted: Wanted<'_>, tokens: &TokenFile, it: &Surroundings) -> Result<(), Failure> {
    let failed = |why: String| Failure::environment(format!("sign in to {name:?}: {why}"), None);
    let runtime = threads::event_loop();
    let runtime = runtime.map_err(|error| failed(format!("start an event loop: {error}")))?;
    runtime.block_on(async {
        let waiting = begin(wanted, tokens).await.map_err(failed)?;
        it.err.write(&format!("sign in to {name:?} in a browser on this machine:\n"))?;
        it.out.write(&format!("{}\n", waiting.page()))?;
        waiting.finish().await.map_err(failed)?;
        it.err.write(&format!("signed in to {name:?}\n"))
    })
}
