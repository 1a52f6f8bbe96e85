//! What a person lets plans ask for, beyond what a plan may say on its own: `--allow KEY=VALUE` on the command line, and
//! `[[allow]]` of their own configuration, where it is for one repository. What may be asked for is decided elsewhere.

use std::fmt;

use crate::diagnostic::Diagnostic;
use crate::document::{Node, Table};
use crate::egress::{HostError, HostRule};

/// One thing that policies of a plan may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// A variable of the caller, by its name.
    Env(String),
    /// A path, and all below it, to be read or seen copy-on-write; absolute or starting with `~/`.
    Read(String),
    /// A path, and all below it, to be read and written; absolute or starting with `~/`.
    Write(String),
    /// A host, exactly as `network` of a policy names it.
    Network(HostRule),
}

/// Why a text is no allowance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowanceError {
    /// Not `KEY=VALUE` with a key that there is.
    #[error("it has the form env=NAME, read=PATH, write=PATH or network=HOST")]
    Form,
    /// Neither absolute nor in one's home.
    #[error("the path has to be absolute, or start with `~/`")]
    Path,
    /// No host.
    #[error("`{text}` is no host: {error}; {}", error.hint())]
    Host {
        /// As written.
        text: String,
        /// Why.
        error: HostError,
    },
}

impl Allowance {
    /// Reads `KEY=VALUE`.
    ///
    /// # Errors
    /// [`AllowanceError`].
    pub fn parse(text: &str) -> Result<Allowance, AllowanceError> {
        let (key, value) = text.split_once('=').ok_or(AllowanceError::Form)?;
        Allowance::of(key, value)
    }

    fn of(key: &str, value: &str) -> Result<Allowance, AllowanceError> {
        let path = |value: &str| match value.starts_with('/') || value.starts_with("~/") {
            true => Ok(value.to_owned()),
            false => Err(AllowanceError::Path),
        };
        match key {
            _ if value.is_empty() => Err(AllowanceError::Form),
            "env" => Ok(Allowance::Env(value.to_owned())),
            "read" => Ok(Allowance::Read(path(value)?)),
            "write" => Ok(Allowance::Write(path(value)?)),
            "network" => HostRule::parse(value)
                .map(Allowance::Network)
                .map_err(|error| AllowanceError::Host { text: value.to_owned(), error }),
            _ => Err(AllowanceError::Form),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowance::Env(name) => write!(f, "env={name}"),
            Allowance::Read(path) => write!(f, "read={path}"),
            Allowance::Write(path) => write!(f, "write={path}"),
            Allowance::Network(rule) => write!(f, "network={rule}"),
        }
    }
}

/// What a person allows the plans of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAllowances {
    /// The repository's folder, or one that holds several; absolute or starting with `~/`.
    pub repository: String,
    /// What its plans may ask for.
    pub allowances: Vec<Allowance>,
}

/// The keys of an entry that are lists of values.
const KEYS: [&str; 4] = ["env", "read", "write", "network"];

/// The entries of `[[allow]]`.
pub(crate) fn lower(entries: &[Node], diagnostics: &mut Vec<Diagnostic>) -> Vec<RepositoryAllowances> {
    let mut all = Vec::new();
    for node in entries {
        let Some(table) = node.table() else { continue };
        let Some(repository) = table.get("repository").and_then(Node::text) else {
            let diagnostic = Diagnostic::error(node.at, "an entry of `allow` has no `repository`");
            diagnostics.push(diagnostic.hint("name the repository whose plans it is for: repository = \"~/src/shop\""));
            continue;
        };
        let allowances = KEYS.iter().flat_map(|key| of_key(table, key)).collect();
        all.push(RepositoryAllowances { repository: repository.to_owned(), allowances });
    }
    all
}

/// What is wrong with a value was said when the document was held against the table of keys.
fn of_key(table: &Table, key: &'static str) -> Vec<Allowance> {
    let items = table.get(key).and_then(Node::list).unwrap_or_default();
    items.iter().filter_map(|item| Allowance::of(key, item.text()?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::user_config;

    #[test]
    fn an_allowance_reads_as_it_is_shown() {
        for text in ["env=NPM_TOKEN", "read=~/data", "write=/scratch/a=b", "network=localhost:5432", "network=*.corp"] {
            assert_eq!(Allowance::parse(text).map(|it| it.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "env", "env=", "=x", "cow=/x", "ENV=x"] {
            assert_eq!(Allowance::parse(text), Err(AllowanceError::Form), "{text}");
        }
        for text in ["read=data", "write=~", "read=~other/x"] {
            assert_eq!(Allowance::parse(text), Err(AllowanceError::Path), "{text}");
        }
        assert!(matches!(Allowance::parse("network=http://x"), Err(AllowanceError::Host { .. })));
    }

    #[test]
    fn a_person_allows_something_for_a_repository() {
        let (config, said) = user_config("[[allow]]\nrepository = '~/shop'\nenv = ['A']\nread = ['/d']\n", 0);
        assert_eq!(said, []);
        let allowances = vec![Allowance::Env("A".to_owned()), Allowance::Read("/d".to_owned())];
        assert_eq!(config.allowed, [RepositoryAllowances { repository: "~/shop".to_owned(), allowances }]);
        let said = |text: &str| user_config(text, 0).1.into_iter().map(|it| it.message).collect::<Vec<_>>();
        assert_eq!(said("[[allow]]\nenv = ['A']\n"), ["an entry of `allow` has no `repository`"]);
        assert!(!said("[[allow]]\nrepository = 'shop'\n").is_empty());
        assert!(!said("[[allow]]\nrepository = '/a'\nnetwork = ['http://x']\n").is_empty());
        assert!(!said("[[allow]]\nrepository = '/a'\nhost-network = true\n").is_empty());
    }
}
