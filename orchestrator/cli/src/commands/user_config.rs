//! A person's own configuration: `$XDG_CONFIG_HOME/swarm/config.toml`, or `~/.config/swarm/config.toml`. It names models
//! (keys themselves stand in the environment, or a program prints them), and what plans of a repository may ask for.

use std::path::PathBuf;

use swarm_orchestrator::report::exit;
use swarm_plans::{SourceFile, UserConfig};

use crate::commands::failure::Failure;
use crate::commands::plan_file::{read, render};
use crate::commands::surroundings::Surroundings;

/// The text of the configuration with its path, when there is one.
///
/// # Errors
/// It is there and cannot be read.
pub fn text() -> Result<Option<SourceFile>, Failure> {
    let Some(path) = path() else { return Ok(None) };
    if !path.exists() {
        return Ok(None);
    }
    let name = path.display().to_string();
    match read(&path) {
        Ok(text) => Ok(Some(SourceFile { name, text })),
        Err(reason) => Err(Failure::usage(format!("read {name}: {reason}"), None)),
    }
}

/// The configuration; without one nothing is configured.
///
/// # Errors
/// It has mistakes; they are all on stderr then.
pub fn load(it: &Surroundings) -> Result<UserConfig, Failure> {
    let Some(source) = text()? else { return Ok(UserConfig::default()) };
    let (config, diagnostics) = swarm_plans::models::user_config(&source.text, 0);
    if diagnostics.is_empty() {
        return Ok(config);
    }
    it.err.write(&render(&diagnostics, &[source], it.err.style, it.err.columns()))?;
    Err(Failure::Said(exit::USAGE))
}

/// Whether a source of that name is the configuration.
pub fn is(name: &str) -> bool {
    path().is_some_and(|path| path.display().to_string() == name)
}

/// Where it lies, be it there or not.
pub fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("swarm").join("config.toml"))
}
