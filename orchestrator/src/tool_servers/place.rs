//! One server of tools and the connection to it: made when it is used first, kept while it is sound, and given up without harm to what
//! is under way on it.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, Url, redirect};
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, Peer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::auth::{AuthClient, AuthError, AuthorizationManager, ClientCredentialsConfig, OAuthState};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient};
use swarm_plans::hosts_alone;
use swarm_protocol::causes::causes;
use swarm_protocol::tool_fault;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::exchange::{EVENT_BYTES_MAX, Exchange};
use super::{Access, Failed, FarServer, is_unauthorized, late, tokens};
use crate::lookups::Lookups;
use crate::secrets::Secrets;

/// The shortest secret that is masked: a shorter one would be found in anything.
const SECRET_BYTES_MIN: usize = 8;
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// How much longer than anybody waits for a connection a token may take to be renewed.
const RENEWAL_MAX: Duration = Duration::from_secs(60);

type Service = RunningService<RoleClient, ClientConfig>;

type Tokens = Arc<Mutex<AuthorizationManager>>;

/// A server, and the connection to it. Each has its own: one that hangs holds nobody else up.
pub(super) struct Place {
    pub(super) far: FarServer,
    running: Mutex<Option<Arc<Connection>>>,
    /// Who holds the tokens that an authorization server gave, once there is a connection.
    tokens: Mutex<Option<Tokens>>,
    /// Every secret that was used, and what masks them: what repeats one is masked, also when another has taken its place
    /// meanwhile.
    secrets: std::sync::Mutex<(BTreeSet<String>, Secrets)>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({:?})", self.far)
    }
}

/// A connection, with who holds its tokens.
pub(super) struct Connection {
    /// `None` when it is dropped.
    service: Option<Service>,
    tokens: Option<Tokens>,
}

impl Connection {
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.as_ref().expect("BUG: it is there until it is dropped").peer()
    }

    fn is_closed(&self) -> bool {
        self.service.as_ref().is_none_or(RunningService::is_closed)
    }
}

impl Drop for Connection {
    /// Ends it, but not while a token is being renewed: the old one may be good for nothing then, and the new one is not kept yet.
    fn drop(&mut self) {
        let (Some(service), Some(tokens)) = (self.service.take(), self.tokens.take()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _renewed = tokens.lock_owned().await;
                drop(service);
            });
        }
    }
}

impl Place {
    /// Nobody is spoken to yet.
    pub(super) fn new(far: FarServer) -> Self {
        Place { far, running: Mutex::default(), tokens: Mutex::default(), secrets: Default::default() }
    }

    /// The connection, made where there is none.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) async fn connection(self: &Arc<Self>, name: &str) -> Result<Arc<Connection>, String> {
        let server = &self.far;
        // Held while a connection is made: two agents that ask at once share it.
        let mut running = self.running.lock().await;
        if let Some(connection) = running.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        // Not given up with who waits for it: a token that is being renewed is renewed, and kept.
        let place = Arc::clone(self);
        let made = tokio::spawn(async move { timeout(place.far.timeout + RENEWAL_MAX, place.connect()).await });
        let made = timeout(server.timeout, made).await.map_err(|_| late(name, server))?;
        let made = made.map_err(|error| Failed::from(error.to_string()));
        let made = made.and_then(|made| made.map_err(|_| Failed::from(late(name, server)))?);
        match made {
            Ok(connection) => Ok(Arc::clone(running.insert(Arc::new(connection)))),
            Err(failed) => {
                let why = server.access.told(name, failed);
                Err(hosts_alone(
                    &self.mask_in_time(name).await?.text(&format!("server `{name}` cannot be used: {why}")),
                ))
            }
        }
    }

    /// What masks every secret that was used until now, within the server's time: while a token is renewed, nobody can know it.
    ///
    /// # Errors
    /// It is renewed for too long, for people.
    pub(super) async fn mask_in_time(&self, name: &str) -> Result<Secrets, String> {
        timeout(self.far.timeout, self.mask()).await.map_err(|_| late(name, &self.far))
    }

    async fn mask(&self) -> Secrets {
        let given = match &*self.tokens.lock().await {
            Some(tokens) => tokens.lock().await.get_credentials().await.ok().and_then(|(_, given)| given),
            None => None,
        };
        let given = given.map(|given| tokens::secrets_of(&given)).unwrap_or_default();
        let mut known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, mask) = &mut *known;
        let before = all.len();
        all.extend(self.far.access.secrets().into_iter().chain(given));
        if all.len() > before {
            let long = all.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN);
            *mask = Secrets::new(long.map(|secret| ("secret", secret.as_str())));
        }
        mask.clone()
    }

    async fn connect(&self) -> Result<Connection, Failed> {
        // Known before anything is sent: the library may talk of what it sends.
        self.mask().await;
        let (client, config) = self.far.client()?;
        let manager = match self.far.manager().await? {
            Some(manager) => manager,
            None => {
                let service = serve(StreamableHttpClientTransport::with_client(client, config)).await?;
                return Ok(Connection { service: Some(service), tokens: None });
            }
        };
        let client = AuthClient::new(client, manager);
        let tokens = Arc::clone(&client.auth_manager);
        *self.tokens.lock().await = Some(Arc::clone(&tokens));
        self.mask().await;
        let service = serve(StreamableHttpClientTransport::with_client(client, config)).await?;
        Ok(Connection { service: Some(service), tokens: Some(tokens) })
    }

    /// A connection may be broken: the next call makes another, unless somebody did.
    pub(super) async fn forget(&self, broken: &Arc<Connection>) {
        drop(self.running.lock().await.take_if(|connection| Arc::ptr_eq(connection, broken)));
    }
}

impl FarServer {
    /// Who speaks with it, and how.
    fn client(&self) -> Result<(Exchange, StreamableHttpClientTransportConfig), String> {
        match self.access {
            Access::Open => parsed(&self.url)?,
            Access::Token(_) | Access::Client { .. } | Access::SignedIn { .. } => guarded(&self.url)?,
        };
        // The caller's proxy variables decide nothing, and nobody sends a request with a secret on to somebody else.
        // Nothing here unpacks an answer.
        let plain = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .dns_resolver(Lookups::default())
            .default_headers(plain)
            .build();
        let client = Exchange(client.map_err(|error| causes(&error))?);
        let config =
            StreamableHttpClientTransportConfig::with_uri(self.url.as_str()).max_sse_event_size(EVENT_BYTES_MAX);
        Ok(match &self.access {
            Access::Token(token) => (client, config.auth_header(token.clone())),
            _ => (client, config),
        })
    }

    /// Who holds its tokens; `None` where nobody gives any.
    async fn manager(&self) -> Result<Option<AuthorizationManager>, String> {
        match &self.access {
            Access::Open | Access::Token(_) => Ok(None),
            Access::Client { id, secret, scopes } => {
                let mut state = OAuthState::new(guarded(&self.url)?, None).await.map_err(|error| causes(&error))?;
                let credentials = ClientCredentialsConfig::ClientSecret {
                    client_id: id.clone(),
                    client_secret: secret.clone(),
                    scopes: scopes.clone(),
                    resource: Some(self.url.clone()),
                };
                state.authenticate_client_credentials(credentials).await.map_err(|error| causes(&error))?;
                state.into_authorization_manager().ok_or("it gave no token".to_owned()).map(Some)
            }
            Access::SignedIn { tokens, command } => {
                let anew = || format!("nobody is signed in to it: {command}");
                let manager = AuthorizationManager::new(guarded(&self.url)?).await;
                let mut manager = manager.map_err(|error| causes(&error))?;
                manager.set_credential_store(tokens.clone());
                if !manager.initialize_from_store().await.map_err(|error| causes(&error))? {
                    return Err(anew());
                }
                // Renewed here where it has to be, so that an end of it is known for what it is.
                match manager.get_access_token().await {
                    Err(AuthError::AuthorizationRequired) => return Err(anew()),
                    token => token.map_err(|error| causes(&error))?,
                };
                Ok(Some(manager))
            }
        }
    }
}

fn parsed(url: &str) -> Result<Url, String> {
    Url::parse(url).map_err(|error| format!("`{url}` is no address: {error}"))
}

/// An address that a secret may be sent to.
pub(super) fn guarded(url: &str) -> Result<Url, String> {
    let url = parsed(url)?;
    let near = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() == "https" || near && url.scheme() == "http" {
        return Ok(url);
    }
    Err("a secret travels over https only".to_owned())
}

async fn serve<T>(transport: T) -> Result<Service, Failed>
where
    T: rmcp::transport::Transport<RoleClient> + 'static,
    T::Error: Error + Send + Sync + 'static,
{
    let newest =
        ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None };
    let me = Implementation::new("swarm", env!("CARGO_PKG_VERSION"));
    let client = ClientConfig::new(ClientCapabilities::default(), me);
    client
        .serve_with_lifecycle(transport, newest)
        .await
        .map_err(|error| Failed { why: tool_fault::of_beginning(&error), is_unauthorized: is_refused(&error) })
}

/// Whether a server that was greeted does not know who does that.
fn is_refused(error: &ClientInitializeError) -> bool {
    match error {
        ClientInitializeError::TransportError { error, .. } => is_unauthorized(&*error.error),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => is_refused(fallback),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ToolServers;
    use super::*;

    #[tokio::test]
    async fn a_token_that_is_renewed_for_too_long_keeps_nobody_longer_than_the_server_may() {
        let timeout = Duration::from_millis(20);
        let far = FarServer { url: "http://127.0.0.1:1/mcp".to_owned(), access: Access::Open, timeout };
        let servers = ToolServers::new([("s".to_owned(), Ok(far))].into());
        let place = Arc::clone(servers.servers["s"].as_ref().expect("a server"));
        assert!(place.mask_in_time("s").await.is_ok());
        let _renewed = place.tokens.lock().await;
        for came in [servers.offered("s").await.map(drop), servers.call("s", "t", Default::default()).await.map(drop)] {
            let why = came.expect_err("nobody knows what to mask");
            assert_eq!(why, "server `s` did not answer within 0.02 s");
        }
    }
}
