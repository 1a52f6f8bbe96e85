//! Tokens that a person's sign-in brought, in the state folder: one file a server, mode 0600, in a folder that no cage shows.
//! A token belongs to the address that it was given for: under any other it is not found.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use rmcp::transport::auth::{
    AuthError, CredentialRefreshGuard, CredentialStore, OAuthTokenResponse, StoredCredentials,
};
use serde::{Deserialize, Serialize};

use crate::state::{StateDir, make_private_dir_all, write_whole};

/// The folder, relative to the state folder.
const FOLDER: &str = "tokens";
/// The version of a file.
const VERSION: u32 = 1;

/// The tokens of one server.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenFile {
    state: StateDir,
    url: String,
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFile({})", self.url)
    }
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    url: String,
    credentials: StoredCredentials,
}

impl TokenFile {
    /// The tokens that the server at `url` gave. Nothing is read yet.
    pub fn of(state: &StateDir, url: &str) -> Self {
        TokenFile { state: state.clone(), url: url.to_owned() }
    }

    /// Whether somebody has signed in.
    ///
    /// # Errors
    /// Those of the file system, and `InvalidData` for a file that is none of ours.
    pub fn is_there(&self) -> io::Result<bool> {
        Ok(self.read()?.is_some_and(|credentials| credentials.token_response.is_some()))
    }

    /// What nobody else may see; nothing where it cannot be read.
    pub(super) fn secrets(&self) -> Vec<String> {
        let response = self.read().ok().flatten().and_then(|kept| kept.token_response);
        response.map(|response| secrets_of(&response)).unwrap_or_default()
    }

    fn name(&self) -> String {
        format!("{FOLDER}/{}", &blake3::hash(self.url.as_bytes()).to_hex()[..32])
    }

    pub(super) fn path(&self) -> PathBuf {
        self.state.path(&format!("{}.json", self.name()))
    }

    fn read(&self) -> io::Result<Option<StoredCredentials>> {
        let bytes = match fs::read(self.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let kept: Kept = serde_json::from_slice(&bytes)?;
        Ok((kept.version == VERSION && kept.url == self.url).then_some(kept.credentials))
    }

    /// Replaces the file as a whole: who reads it finds the old tokens or the new.
    fn write(&self, credentials: StoredCredentials) -> io::Result<()> {
        make_private_dir_all(&self.state.path(FOLDER))?;
        let kept = Kept { version: VERSION, url: self.url.clone(), credentials };
        let new = self.state.path(&format!("{}.{}", self.name(), std::process::id()));
        write_whole(&self.path(), &new, 0o600, &serde_json::to_vec(&kept)?)
    }
}

/// What nobody else may see of what an authorization server gave.
pub(super) fn secrets_of(response: &OAuthTokenResponse) -> Vec<String> {
    let response = serde_json::to_value(response).unwrap_or_default();
    let text = |name: &str| response[name].as_str().map(str::to_owned);
    ["access_token", "refresh_token"].into_iter().filter_map(text).collect()
}

/// What the crate is told of a failure of ours.
fn failed(error: io::Error) -> AuthError {
    AuthError::CredentialStoreError(error.to_string())
}

#[async_trait]
impl CredentialStore for TokenFile {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        self.read().map_err(failed)
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        self.write(credentials).map_err(failed)
    }

    async fn clear(&self) -> Result<(), AuthError> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// A refresh token may be good for one use only: coordinators take turns.
    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        let (state, name) = (self.state.clone(), self.name());
        let lock = tokio::task::spawn_blocking(move || state.lock(&name)).await;
        let lock = lock.map_err(io::Error::other).and_then(|lock| lock).map_err(failed)?;
        Ok(Some(CredentialRefreshGuard::new(lock)))
    }
}
