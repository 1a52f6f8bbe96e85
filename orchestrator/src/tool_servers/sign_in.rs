//! A person signs in to a tool server in their browser (OAuth 2, authorization code with PKCE): a page of the server's
//! authorization server asks them, and sends their browser back to a port of this machine's own loopback with a code, for
//! which a token is given. Only an answer with the word that this sign-in began with counts; whatever else knocks at the
//! port is refused and changes nothing.

use std::time::Duration;

use reqwest::Url;
use rmcp::transport::auth::{
    AuthorizationManager, AuthorizationMetadataSource, AuthorizationRequest, AuthorizationSession,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::place::guarded;
use super::tokens::TokenFile;
use crate::report::sanitize;
use swarm_protocol::causes::causes;

/// How long a person may take.
const PERSON_MAX: Duration = Duration::from_secs(600);
/// How long a request to the port may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long the authorization server may take for an answer.
const SERVER_MAX: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of a request.
const HEADERS_MAX: usize = 100;
/// Connections to the port at once.
const CONNECTIONS_MAX: usize = 16;
/// Where the browser is sent back to.
const CALLBACK: &str = "/callback";

/// Who signs in, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The server's address.
    pub url: &'a str,
    /// The client that the authorization server knows us by; without one, we introduce ourselves (RFC 7591).
    pub id: Option<&'a str>,
    /// What is asked for; empty takes what the server names.
    pub scopes: &'a [String],
}

/// A sign-in that waits for the person.
pub struct SignIn {
    session: AuthorizationSession,
    listener: TcpListener,
    /// The word that the answer has to bring back.
    state: String,
    page: String,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignIn(…)")
    }
}

/// Asks the server where to sign in, and listens for the answer.
///
/// # Errors
/// Why nobody can sign in there, for people.
pub async fn begin(wanted: Wanted<'_>, tokens: &TokenFile) -> Result<SignIn, String> {
    let url = guarded(wanted.url)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("listen on 127.0.0.1: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let session = timeout(SERVER_MAX, async {
        let mut manager = AuthorizationManager::new(url).await.map_err(|error| causes(&error))?;
        manager.set_credential_store(tokens.clone());
        let found = manager.resolve_metadata().await.map_err(|error| causes(&error))?;
        let is_guessed = found.source == AuthorizationMetadataSource::LegacyEndpointFallback;
        manager.set_metadata(found.metadata);
        let mut request = AuthorizationRequest::new(format!("http://127.0.0.1:{port}{CALLBACK}"))
            .with_client_name("swarm")
            .with_scopes(wanted.scopes.iter().cloned())
            .with_initial_scope_selection();
        if let Some(id) = wanted.id {
            request = request.with_preregistered_client(id);
        }
        AuthorizationSession::new(manager, request).await.map_err(|(_, error)| match is_guessed {
            true => format!(
                "it names no place to sign in at (OAuth), and where older servers have theirs nobody answers ({}): a server that wants no \
                 sign-in needs no `login` in config.toml",
                causes(&error)
            ),
            false => causes(&error),
        })
    });
    let session = session.await.map_err(|_| "it does not say in time where to sign in".to_owned())??;
    let page = guarded(session.get_authorization_url())?;
    let state = page.query_pairs().find(|(name, _)| name == "state").map(|(_, value)| value.into_owned());
    let state = state.filter(|state| !state.is_empty()).ok_or("the page to sign in at has no `state`")?;
    Ok(SignIn { session, listener, state, page: page.to_string() })
}

impl SignIn {
    /// The page at which the person signs in.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Waits until the person has signed in, and keeps the token.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub async fn finish(self) -> Result<(), String> {
        timeout(PERSON_MAX, self.answered()).await.unwrap_or_else(|_| Err("nobody signed in in time".to_owned()))
    }

    async fn answered(self) -> Result<(), String> {
        let (tell, mut answers) = mpsc::channel(1);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(Answer { url, mut stream }) = answers.recv() => {
                    let outcome = self.taken(&url).await;
                    let (status, text) = match &outcome {
                        Ok(()) => ("200 OK", "You have signed in. This page can be closed."),
                        Err(_) => ("400 Bad Request", "This did not work; the terminal says why."),
                    };
                    respond(&mut stream, status, text).await;
                    return outcome;
                }
                accepted = self.listener.accept() => {
                    let (stream, _) = accepted.map_err(|error| format!("listen on 127.0.0.1: {error}"))?;
                    while connections.try_join_next().is_some() {}
                    if connections.len() < CONNECTIONS_MAX {
                        connections.spawn(timeout(REQUEST_MAX, hear(stream, self.state.clone(), tell.clone())));
                    }
                }
            }
        }
    }

    /// Gives the code of an answer for a token.
    async fn taken(&self, url: &Url) -> Result<(), String> {
        let word = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| sanitize::name(&value));
        if let Some(error) = word("error") {
            let why = word("error_description").map(|why| format!(" ({why})")).unwrap_or_default();
            return Err(format!("its authorization server refused: {error}{why}"));
        }
        let given = timeout(SERVER_MAX, self.session.handle_callback_url(url.as_str())).await;
        let given = given.map_err(|_| "its authorization server gave no token in time".to_owned())?;
        given.map(drop).map_err(|error| sanitize::name(&causes(&error)))
    }
}

/// What the browser brought, and where it waits.
struct Answer {
    url: Url,
    stream: TcpStream,
}

/// Reads one request; hands it on when it is the answer.
async fn hear(mut stream: TcpStream, state: String, tell: mpsc::Sender<Answer>) {
    let mut head = Vec::new();
    let url = loop {
        let mut piece = [0; 2048];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&piece[..count]),
        }
        if let Some(url) = answer_in(&head, &state) {
            break url;
        }
        if head.len() > HEAD_BYTES_MAX {
            return;
        }
    };
    match url {
        // Only the first answer is waited for.
        Ok(url) => drop(tell.send(Answer { url, stream }).await),
        Err(status) => respond(&mut stream, status, "Nobody waits for this here.").await,
    }
}

/// The address of a request, when that is the answer, else the status that it gets; `None` while its head is not whole.
fn answer_in(head: &[u8], state: &str) -> Option<Result<Url, &'static str>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some(Err("400 Bad Request")),
    }
    let path = request.path.filter(|path| request.method == Some("GET") && path.starts_with('/'));
    let url = path.and_then(|path| Url::parse(&format!("http://127.0.0.1{path}")).ok());
    let Some(url) = url.filter(|url| url.path() == CALLBACK) else { return Some(Err("404 Not Found")) };
    let brought: Vec<_> = url.query_pairs().filter(|(name, _)| name == "state").map(|(_, value)| value).collect();
    let is_ours = matches!(brought.as_slice(), [one] if *one == state);
    Some(if is_ours { Ok(url) } else { Err("400 Bad Request") })
}

/// Who went away needs no answer.
async fn respond(stream: &mut TcpStream, status: &str, text: &str) {
    let head = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nConnection: close";
    let answer = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{text}\n", text.len() + 1);
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use serde_json::{Map, Value, json};

    use super::super::tests as fixed;
    use super::super::{Access, FarServer, ToolServers};
    use super::*;
    use crate::state::StateDir;
    use fixed::request;

    #[test]
    fn only_the_answer_with_the_right_word_counts() {
        let check = |line: &str, expected: Option<Result<(), &str>>| {
            let head = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(answer_in(head.as_bytes(), "word").map(|answer| answer.map(drop)), expected, "{line}");
        };
        check("GET /callback?code=c&state=word", Some(Ok(())));
        check("GET /callback?error=access_denied&state=word", Some(Ok(())));
        check("GET /callback?code=c&state=other", Some(Err("400 Bad Request")));
        check("GET /callback?code=c&state=other&state=word", Some(Err("400 Bad Request")));
        check("GET /callback?code=c", Some(Err("400 Bad Request")));
        check("POST /callback?code=c&state=word", Some(Err("404 Not Found")));
        check("GET /favicon.ico", Some(Err("404 Not Found")));
        check("GET http://elsewhere/callback?state=word", Some(Err("404 Not Found")));
        assert_eq!(answer_in(b"GET /callback?state=word HTTP/1.1\r\nHost", "word").map(|_| ()), None);
        assert!(answer_in(b"\0\r\n\r\n", "word").is_some_and(|answer| answer.is_err()));
    }

    /// What an authorization server was asked.
    #[derive(Default)]
    struct Asked {
        registered: u32,
        /// Bodies of requests for a token, in order.
        tokens: Vec<String>,
        /// What a renewed token is held back for.
        held: Option<Arc<tokio::sync::Notify>>,
    }

    /// A server of tools and its authorization server in one place: each token is good until the next one is given, and
    /// expires `expires_in` seconds after it was.
    async fn site(expires_in: u32) -> (String, Arc<Mutex<Asked>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Asked::default()));
        let (own, seen) = (base.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let Some((first, head, body)) = request(&mut stream).await else { continue };
                let (status, text) = reply(&own, &seen, expires_in, (&first, &head, &body));
                let held = seen.lock().unwrap().held.clone().filter(|_| body.contains("grant_type=refresh_token"));
                tokio::spawn(async move {
                    if let Some(held) = held {
                        held.notified().await;
                    }
                    fixed::respond(&mut stream, status, &text).await;
                });
            }
        });
        (base, asked)
    }

    fn reply(
        base: &str,
        asked: &Mutex<Asked>,
        expires_in: u32,
        (first, head, body): (&str, &str, &str),
    ) -> (&'static str, String) {
        let mut asked = asked.lock().unwrap();
        let words = first.split(' ').collect::<Vec<_>>();
        let answer = match words[1] {
            path if path.contains("/oauth-protected-resource") => {
                json!({"resource": format!("{base}/mcp"), "authorization_servers": [base]})
            }
            "/.well-known/oauth-authorization-server" => json!({"issuer": base,
                "authorization_endpoint": format!("{base}/authorize"), "token_endpoint": format!("{base}/token"),
                "registration_endpoint": format!("{base}/register"), "code_challenge_methods_supported": ["S256"],
                "response_types_supported": ["code"], "token_endpoint_auth_methods_supported": ["none"]}),
            "/register" => {
                asked.registered += 1;
                let wanted: Value = serde_json::from_str(body).unwrap();
                json!({"client_id": "client-1", "redirect_uris": wanted["redirect_uris"]})
            }
            // Each is good for one use.
            "/token"
                if body.contains("code=good")
                    || body.ends_with(&format!("refresh_token=refresh-number-{}", asked.tokens.len()))
                    || body.contains(&format!("refresh_token=refresh-number-{}&", asked.tokens.len())) =>
            {
                asked.tokens.push(body.to_owned());
                let count = asked.tokens.len();
                json!({"access_token": format!("token-number-{count}"), "token_type": "bearer",
                    "expires_in": expires_in, "refresh_token": format!("refresh-number-{count}")})
            }
            "/token" => return ("400 Bad Request", json!({"error": "invalid_grant"}).to_string()),
            "/mcp" if head.contains(&format!("authorization: bearer token-number-{}", asked.tokens.len())) => {
                return fixed::answer(&serde_json::from_str(body).unwrap_or_default(), "what it was told");
            }
            "/mcp" => return ("401 Unauthorized", "{}".to_owned()),
            _ => return ("404 Not Found", "{}".to_owned()),
        };
        ("200 OK", answer.to_string())
    }

    /// What a browser does at the end: asks the port for `query`, and shows what comes.
    async fn knock(page: &str, query: &str) -> String {
        let page = Url::parse(page).unwrap();
        let word = |name: &str| page.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let back = Url::parse(&word("redirect_uri")).unwrap();
        let query = query.replace("STATE", &word("state"));
        let mut stream = TcpStream::connect(("127.0.0.1", back.port().unwrap())).await.unwrap();
        stream.write_all(format!("GET {}?{query} HTTP/1.1\r\nHost: x\r\n\r\n", back.path()).as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    struct Scene {
        _folder: tempfile::TempDir,
        state: StateDir,
        base: String,
        asked: Arc<Mutex<Asked>>,
    }

    impl Scene {
        async fn new(expires_in: u32) -> Scene {
            let folder = tempfile::tempdir().unwrap();
            let (base, asked) = site(expires_in).await;
            Scene { state: StateDir::open(folder.path()).unwrap(), _folder: folder, base, asked }
        }

        fn url(&self) -> String {
            format!("{}/mcp", self.base)
        }

        fn tokens(&self) -> TokenFile {
            TokenFile::of(&self.state, &self.url())
        }

        async fn begin(&self) -> SignIn {
            let url = self.url();
            begin(Wanted { url: &url, id: None, scopes: &[] }, &self.tokens()).await.unwrap()
        }

        async fn signed_in(&self) {
            let waiting = self.begin().await;
            let page = waiting.page().to_owned();
            let (done, seen) = tokio::join!(waiting.finish(), knock(&page, "code=good&state=STATE"));
            assert!(done.is_ok() && seen.contains("You have signed in"), "{done:?}: {seen}");
        }

        async fn call(&self) -> Result<String, String> {
            self.call_within(Duration::from_secs(60)).await
        }

        async fn call_within(&self, timeout: Duration) -> Result<String, String> {
            let tokens = self.tokens();
            let access = Access::SignedIn { tokens, command: "swarm login docs".to_owned() };
            let server = FarServer { url: self.url(), access, timeout };
            let servers = ToolServers::new(BTreeMap::from([("docs".to_owned(), Ok(server))]));
            servers.call("docs", "find", Map::new()).await
        }
    }

    #[tokio::test]
    async fn who_has_signed_in_uses_the_server_in_later_runs_too() {
        let scene = Scene::new(3600).await;
        assert!(scene.call().await.unwrap_err().contains("nobody is signed in to it: swarm login docs"));
        scene.signed_in().await;
        for _ in 0..2 {
            assert!(scene.call().await.unwrap().contains("what it was told"));
        }
        let asked = scene.asked.lock().unwrap();
        assert_eq!((asked.registered, asked.tokens.len()), (1, 1));
        assert!(asked.tokens[0].contains("code_verifier="), "{}", asked.tokens[0]);
    }

    #[tokio::test]
    async fn a_token_is_for_its_owner_and_for_one_address_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let scene = Scene::new(3600).await;
        scene.signed_in().await;
        let files: Vec<_> = std::fs::read_dir(scene.state.path("tokens")).unwrap().map(|file| file.unwrap()).collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(scene.tokens().is_there().unwrap());
        let other = TokenFile::of(&scene.state, &format!("{}/other", scene.base));
        assert!(!other.is_there().unwrap());
        // Nor does a file that was put in another's place serve it.
        std::fs::rename(files[0].path(), other.path()).unwrap();
        assert!(!other.is_there().unwrap() && !scene.tokens().is_there().unwrap());
    }

    #[tokio::test]
    async fn a_token_that_is_over_is_renewed_and_the_new_one_kept() {
        let scene = Scene::new(1).await;
        scene.signed_in().await;
        assert!(scene.call().await.unwrap().contains("what it was told"));
        let renewed = scene.asked.lock().unwrap().tokens.clone();
        assert!(renewed.len() > 1 && renewed[1].contains("grant_type=refresh_token"), "{renewed:?}");
        let newest = format!("refresh-number-{}", renewed.len());
        assert!(scene.tokens().secrets().contains(&newest), "{newest} is kept");
    }

    #[tokio::test]
    async fn a_token_that_was_taken_back_is_told_of_with_the_way_to_sign_in_again() {
        let scene = Scene::new(3600).await;
        scene.signed_in().await;
        // The server gave a newer one meanwhile, and knows that alone.
        scene.asked.lock().unwrap().tokens.push(String::new());
        let why = scene.call().await.unwrap_err();
        assert!(why.contains("cannot be used") && why.ends_with("; to sign in again: swarm login docs"), "{why}");
    }

    #[tokio::test]
    async fn a_token_that_is_renewed_too_late_for_a_call_is_kept_for_the_next() {
        let scene = Scene::new(1).await;
        scene.signed_in().await;
        let held = Arc::new(tokio::sync::Notify::new());
        scene.asked.lock().unwrap().held = Some(Arc::clone(&held));
        let why = scene.call_within(Duration::from_millis(300)).await.unwrap_err();
        assert!(why.contains("did not answer within"), "{why}");
        scene.asked.lock().unwrap().held = None;
        held.notify_one();
        assert!(scene.call().await.unwrap().contains("what it was told"));
    }

    #[tokio::test]
    async fn whoever_else_knocks_changes_nothing_and_a_no_is_told() {
        let scene = Scene::new(3600).await;
        let waiting = scene.begin().await;
        let page = waiting.page().to_owned();
        let others = async {
            assert!(knock(&page, "code=good&state=guessed").await.starts_with("HTTP/1.1 400"));
            assert!(knock(&page, "error=access_denied").await.starts_with("HTTP/1.1 400"));
            knock(&page, "error=access_denied&error_description=not+you%1b%5B2J&state=STATE").await
        };
        let (done, seen) = tokio::join!(waiting.finish(), others);
        let why = done.unwrap_err();
        assert!(why.contains("access_denied (not you") && !why.contains('\u{1b}'), "{why}");
        assert!(seen.contains("the terminal says why"), "{seen}");
        assert!(!scene.tokens().is_there().unwrap());
        let waiting = scene.begin().await;
        let page = waiting.page().to_owned();
        let (done, _) = tokio::join!(waiting.finish(), knock(&page, "code=bad&state=STATE"));
        assert!(done.is_err() && !scene.tokens().is_there().unwrap(), "{done:?}");
    }

    #[tokio::test]
    async fn where_nobody_can_sign_in_the_way_without_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if request(&mut stream).await.is_some() {
                    fixed::respond(&mut stream, "404 Not Found", "{}").await;
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let tokens = TokenFile::of(&StateDir::open(folder.path()).unwrap(), &url);
        let why = begin(Wanted { url: &url, id: None, scopes: &[] }, &tokens).await.unwrap_err();
        assert!(
            why.starts_with("it names no place to sign in at (OAuth)") && why.contains("needs no `login`"),
            "{why}"
        );
    }

    #[tokio::test]
    async fn nobody_signs_in_without_encryption_far_away() {
        let scene = Scene::new(3600).await;
        let wanted = Wanted { url: "http://example.test/mcp", id: None, scopes: &[] };
        assert_eq!(begin(wanted, &scene.tokens()).await.unwrap_err(), "a secret travels over https only");
    }
}
