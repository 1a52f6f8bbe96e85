//! The head of a request to the proxy: bytes → what is asked for, or why it is not understood. Pure.
//!
//! A proxy that reads a head in another way than the server behind it lets requests through that it never saw. So nothing
//! ambiguous is forwarded: lines end with CR LF, a head says once how long its body is and to whom it goes, and what goes on
//! to the server is written anew from what was understood.
//!
//! Source: RFC 9112 (messages, section 6 for bodies, section 11.2 for smuggling), RFC 9110 section 7.6.1 (`Connection`).

use std::fmt;

use swarm_plans::HostError;
use swarm_plans::egress::{Host, split_port};

/// The longest head in bytes.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// The most header fields of a head.
pub const HEADERS_MAX: usize = 128;
/// The port of `http:`. Source: RFC 9110, section 4.2.1.
const HTTP_PORT: u16 = 80;

/// Fields between two neighbours only. Source: RFC 9110, section 7.6.1; `Host`, the body's length and `Expect` are written
/// anew.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Who is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where a request stands, which decides how it names its target.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// At the proxy: `CONNECT host:port`, or `GET http://host/path`.
    Proxy,
    /// Inside a tunnel to this target: `GET /path`, with the target in `Host`.
    Tunnel(&'a Target),
}

/// A request that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// To whom.
    pub target: Target,
    /// What.
    pub asked: Asked,
    /// `Proxy-Authorization`, as sent.
    pub credentials: Option<Vec<u8>>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A tunnel.
    Connect,
    /// One exchange.
    Forward(Forward),
}

/// A request to pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The head for the server, with its empty line.
    pub head: Vec<u8>,
    /// What follows the head.
    pub body: Framing,
    /// Whether the answer has no body whatever its head says (`HEAD`).
    pub answer: AnswerBody,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub waits: Waits,
    /// What becomes of the client's connection.
    pub afterwards: Afterwards,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After a chunk of length 0.
    Chunked,
    /// Where the sender closes its connection; answers only.
    UntilClose,
}

/// Whether an answer may have a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerBody {
    /// As its head says.
    AsFramed,
    /// Never.
    None,
}

/// Whether the client waits before it sends the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// It sends `Expect: 100-continue`.
    ForContinue,
    /// It does not.
    No,
}

/// What becomes of a connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Another request may follow.
    Stays,
    /// It is closed.
    Closes,
}

/// How an answer whose length nobody knows before may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmeasured {
    /// In chunks.
    InChunks,
    /// When all of it is there, with its length: HTTP/1.0 knows no chunks.
    AtOnce,
}

/// A request to the door itself, not to a host behind it: `POST /path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    /// `POST`.
    pub method: String,
    /// Begins with a slash; with its query.
    pub path: String,
    /// What follows the head.
    pub body: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub waits: Waits,
    /// What becomes of the client's connection.
    pub afterwards: Afterwards,
    /// How it is answered at length.
    pub unmeasured: Unmeasured,
    /// Fields by their names in lower case, in order.
    fields: Vec<(String, Vec<u8>)>,
}

/// Fields with which clients of models' providers send their key, and what stands in front of it.
const KEY_FIELDS: [(&str, &[u8]); 3] = [("x-api-key", b""), ("x-goog-api-key", b""), ("authorization", b"bearer ")];

/// Fields that mean something to models' providers beside the key and the body.
const MODEL_FIELDS: [&str; 3] = ["anthropic-version", "anthropic-beta", "openai-beta"];

/// Parts of a query that mean something to models' providers.
const MODEL_QUERIES: [&str; 2] = ["beta=true", "alt=sse"];

impl Direct {
    /// Words that may be a key, wherever clients put one.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let in_fields = self.fields.iter().filter_map(|(name, value)| {
            let (_, scheme) = KEY_FIELDS.iter().find(|(known, _)| known == name)?;
            let (front, key) = value.split_at_checked(scheme.len())?;
            front.eq_ignore_ascii_case(scheme).then(|| key.trim_ascii())
        });
        in_fields.chain(self.query().filter_map(|part| part.strip_prefix("key=")).map(str::as_bytes))
    }

    /// Fields for the provider.
    pub fn passed_on(&self) -> Vec<(String, Vec<u8>)> {
        self.fields.iter().filter(|(name, _)| MODEL_FIELDS.contains(&name.as_str())).cloned().collect()
    }

    /// The query for the provider, without `?`.
    pub fn query_passed_on(&self) -> String {
        self.query().filter(|part| MODEL_QUERIES.contains(part)).collect::<Vec<_>>().join("&")
    }

    fn query(&self) -> impl Iterator<Item = &str> {
        self.path.split_once('?').map_or("", |(_, query)| query).split('&')
    }
}

/// Whether what begins so is a request to the door itself; `None` as long as that is open.
pub fn is_direct(bytes: &[u8]) -> Option<bool> {
    let space = bytes.iter().take(METHOD_BYTES_MAX).position(|byte| *byte == b' ');
    match space {
        Some(at) => bytes.get(at + 1).map(|byte| *byte == b'/'),
        None if bytes.len() >= METHOD_BYTES_MAX => Some(false),
        None => None,
    }
}

/// The longest method of a request to the door itself, in bytes.
const METHOD_BYTES_MAX: usize = 16;

/// Reads the head of a request to the door itself, as [`parse`] does.
///
/// # Errors
/// [`BadRequest`]; the connection is of no use afterwards.
pub fn parse_direct(bytes: &[u8]) -> Result<Option<(Direct, usize)>, BadRequest> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let Some(length) = head_length(bytes, &mut head)? else { return Ok(None) };
    let path = head.path.unwrap_or_default();
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadRequest::Unsupported("a target here is a path"));
    }
    let fields = Fields(head.headers);
    let version = head.version.unwrap_or_default();
    check_own_host(version, &fields)?;
    let direct = Direct {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        body: framing(version, &fields)?,
        waits: waits(version, &fields),
        afterwards: if version == 1 && !fields.asks_to_close() { Afterwards::Stays } else { Afterwards::Closes },
        unmeasured: if version == 1 { Unmeasured::InChunks } else { Unmeasured::AtOnce },
        fields: fields.0.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect(),
    };
    Ok(Some((direct, length)))
}

/// Why a request is not answered by anybody but the proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a head of HTTP/1.
    #[error("it is not a request of HTTP/1: {0}")]
    Malformed(&'static str),
    /// A head of more than [`HEAD_BYTES_MAX`] or [`HEADERS_MAX`].
    #[error("its head is too large")]
    TooLarge,
    /// The target is no host, or one with several readings.
    #[error("it names `{text}`, which is not a host: {error}")]
    Host {
        /// As written, harmless to print.
        text: String,
        /// Why.
        error: HostError,
    },
    /// `Host` and target differ, or there is not exactly one `Host`.
    #[error("its `Host` is not the one host that it asks for")]
    HostDiffers,
    /// A request to the door itself without exactly one `Host`, or with one that is none.
    #[error("it does not say exactly once which host it asks, in `Host`")]
    HostUnsaid,
    /// Two readings of where the body ends.
    #[error("it does not say exactly once where its body ends")]
    Framing,
    /// A target that a proxy cannot serve.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl BadRequest {
    /// The status code of the answer.
    pub fn status(&self) -> u16 {
        match self {
            BadRequest::Malformed(_) | BadRequest::HostUnsaid | BadRequest::Framing | BadRequest::Unsupported(_) => 400,
            BadRequest::TooLarge => 431,
            BadRequest::Host { .. } | BadRequest::HostDiffers => 403,
        }
    }
}

/// Reads a head at the start of `bytes`; `None` as long as it is not whole. The number is the head's length, what follows it
/// is body or the next request.
///
/// # Errors
/// [`BadRequest`]; the connection is of no use afterwards.
pub fn parse(bytes: &[u8], place: Place<'_>) -> Result<Option<(Request, usize)>, BadRequest> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let Some(length) = head_length(bytes, &mut head)? else { return Ok(None) };
    let (method, uri) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadRequest::Malformed("its target has characters that no target has"));
    }
    let fields = Fields(head.headers);
    let credentials = fields.one("proxy-authorization")?.map(<[u8]>::to_vec);
    if method == "CONNECT" {
        let target = match place {
            Place::Proxy => connect_target(uri, &fields)?,
            Place::Tunnel(_) => return Err(BadRequest::Unsupported("a tunnel leads to one host and not to a proxy")),
        };
        return Ok(Some((Request { target, asked: Asked::Connect, credentials }, length)));
    }
    let (target, path) = match place {
        Place::Proxy => absolute_target(uri)?,
        Place::Tunnel(target) if uri.starts_with('/') => (target.clone(), uri),
        Place::Tunnel(_) => return Err(BadRequest::Unsupported("inside a tunnel a target is a path")),
    };
    fields.check_host(&target)?;
    let forward = forward(method, path, head.version.unwrap_or_default(), &target, &fields)?;
    Ok(Some((Request { target, asked: Asked::Forward(forward), credentials }, length)))
}

/// Reads a head; its length in bytes, `None` as long as it is not whole.
fn head_length<'b>(bytes: &'b [u8], head: &mut httparse::Request<'_, 'b>) -> Result<Option<usize>, BadRequest> {
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => return Err(BadRequest::TooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(BadRequest::TooLarge),
        Err(error) => return Err(BadRequest::Malformed(reason(error))),
    };
    if length > HEAD_BYTES_MAX {
        return Err(BadRequest::TooLarge);
    }
    check_lines(&bytes[..length])?;
    Ok(Some(length))
}

fn framing(version: u8, fields: &Fields<'_>) -> Result<Framing, BadRequest> {
    match (fields.one("transfer-encoding")?, fields.length()?) {
        (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
        (Some(coding), None) if version == 1 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(_), _) => Err(BadRequest::Framing),
    }
}

/// Whom a request to the door itself names is all the same, but it must name one. Source: RFC 9112, section 3.2.
fn check_own_host(version: u8, fields: &Fields<'_>) -> Result<(), BadRequest> {
    let of_a_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    let host = fields.one("host").map_err(|_| BadRequest::HostUnsaid)?;
    match host {
        Some(host) if host.iter().all(of_a_host) => Ok(()),
        None if version == 0 => Ok(()),
        _ => Err(BadRequest::HostUnsaid),
    }
}

fn waits(version: u8, fields: &Fields<'_>) -> Waits {
    let waits = fields.all("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    if waits && version == 1 { Waits::ForContinue } else { Waits::No }
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field's name",
        httparse::Error::HeaderValue => "a field's value",
        httparse::Error::NewLine => "the end of a line",
        httparse::Error::Token => "the method or the target",
        httparse::Error::Version => "the version",
        httparse::Error::Status | httparse::Error::TooManyHeaders => "its first line",
    }
}

/// A line feed alone ends a line for some programs and not for others.
fn check_lines(head: &[u8]) -> Result<(), BadRequest> {
    let lone = |(at, byte): (usize, &u8)| match byte {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if head.iter().enumerate().any(lone) { Err(BadRequest::Malformed("the end of a line")) } else { Ok(()) }
}

fn connect_target(uri: &str, fields: &Fields<'_>) -> Result<Target, BadRequest> {
    let (target, port) = authority(uri)?;
    if port == Port::Implied {
        return Err(BadRequest::Unsupported("CONNECT needs a port"));
    }
    if fields.one("host")?.is_some() {
        fields.check_host(&target)?;
    }
    let empty = fields.one("transfer-encoding")?.is_none() && fields.length()?.unwrap_or(0) == 0;
    if empty { Ok(target) } else { Err(BadRequest::Framing) }
}

fn absolute_target(uri: &str) -> Result<(Target, &str), BadRequest> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(BadRequest::Unsupported("this is a proxy: a target is `http://host/path` or `CONNECT host:port`"));
    };
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(BadRequest::Unsupported("other schemes than http are reached by CONNECT"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (target, _) = authority(&rest[..end])?;
    if rest.contains('#') {
        return Err(BadRequest::Malformed("its target has a fragment"));
    }
    Ok((target, &rest[end..]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Written,
    Implied,
}

fn authority(text: &str) -> Result<(Target, Port), BadRequest> {
    let refuse = |error| BadRequest::Host { text: text.escape_default().take(300).collect(), error };
    let (host, port) = split_port(text).map_err(refuse)?;
    let host = Host::parse(host).map_err(refuse)?;
    let written = if port.is_some() { Port::Written } else { Port::Implied };
    Ok((Target { host, port: port.unwrap_or(HTTP_PORT) }, written))
}

fn forward(method: &str, path: &str, version: u8, target: &Target, fields: &Fields<'_>) -> Result<Forward, BadRequest> {
    let body = framing(version, fields)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {}", target.host).into_bytes();
    if target.port != HTTP_PORT {
        head.extend(format!(":{}", target.port).bytes());
    }
    head.extend_from_slice(b"\r\n");
    fields.pass_on(&mut head);
    match body {
        Framing::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) if fields.length()?.is_some() => {
            head.extend(format!("Content-Length: {length}\r\n").bytes());
        }
        Framing::Length(_) | Framing::UntilClose => {}
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    Ok(Forward {
        head,
        body,
        answer: if method == "HEAD" { AnswerBody::None } else { AnswerBody::AsFramed },
        waits: waits(version, fields),
        afterwards: if version == 1 && !fields.asks_to_close() { Afterwards::Stays } else { Afterwards::Closes },
    })
}

/// The fields of a head.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// All values of a field, by its name in lower case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that a head has once at most.
    ///
    /// # Errors
    /// [`BadRequest::Framing`] when it comes twice: whoever reads on would have to choose.
    pub fn one(self, name: &str) -> Result<Option<&'a [u8]>, BadRequest> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(if name == "host" { BadRequest::HostDiffers } else { BadRequest::Framing }),
        }
    }

    /// `Content-Length`: digits only.
    ///
    /// # Errors
    /// [`BadRequest::Framing`].
    pub fn length(self) -> Result<Option<u64>, BadRequest> {
        let Some(value) = self.one("content-length")? else { return Ok(None) };
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        number.map(Some).ok_or(BadRequest::Framing)
    }

    /// The words of `Connection` (and of `Proxy-Connection`, which old clients send to proxies).
    fn connection(self) -> impl Iterator<Item = &'a [u8]> {
        let values = self.all("connection").chain(self.all("proxy-connection"));
        values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// Whether the sender closes the connection afterwards.
    pub fn asks_to_close(self) -> bool {
        self.connection().any(|word| word.eq_ignore_ascii_case(b"close"))
    }

    /// Writes the fields that go on to the other side.
    pub fn pass_on(self, head: &mut Vec<u8>) {
        for field in self.0 {
            let own = NOT_PASSED_ON.iter().any(|name| field.name.eq_ignore_ascii_case(name));
            let nominated = self.connection().any(|word| word.eq_ignore_ascii_case(field.name.as_bytes()));
            if !own && !nominated {
                head.extend_from_slice(field.name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(field.value);
                head.extend_from_slice(b"\r\n");
            }
        }
    }

    fn check_host(self, target: &Target) -> Result<(), BadRequest> {
        let value = self.one("host")?.and_then(|value| std::str::from_utf8(value).ok());
        let (named, port) = authority(value.ok_or(BadRequest::HostDiffers)?)?;
        let same_port = named.port == target.port || port == Port::Implied;
        if named.host == target.host && same_port { Ok(()) } else { Err(BadRequest::HostDiffers) }
    }
}
