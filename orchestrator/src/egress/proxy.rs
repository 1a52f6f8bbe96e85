//! One connection of a job: parse → password → decide → dial → look at what is said → pass on.
//!
//! The same steps for the three ways to ask. What is refused is answered at once and noted; nothing of a refused request goes
//! anywhere, and no name server hears of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use swarm_plans::HostRule;
use swarm_plans::egress::{Host, Speech};
use swarm_plans::place::{IsWritten, list_to_paste};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{self, Answer};
use super::decide::{Decision, decide, rule_for};
use super::dial::{DialError, Resolver, dial};
use super::refusals::Refusals;
use super::request::{self, Afterwards, Asked, BadRequest, Forward, Place, Target, Waits};
use super::socks::{self, BadSocks, Reply};
use super::tls_hello;
use super::wire::Wire;
use crate::model::broker::endpoint::Desk;

/// Why a request without the job's token is refused.
const NO_TOKEN: &str = "it carried no or a wrong token";

/// The user name that belongs to every token.
pub const USER: &str = "swarm";
/// How long a job may take to say whom it wants to reach, and then to say the first words in a tunnel.
const ASKING_MAX: Duration = Duration::from_secs(60);
/// Answers of 100 to 199 before the real one.
const INTERIM_MAX: usize = 8;
/// The port on which nothing but TLS is spoken.
const HTTPS_PORT: u16 = 443;
/// The first byte of a TLS record with a handshake.
const TLS_FIRST: u8 = 22;

/// What decides for one job.
#[derive(Debug)]
pub struct Gate {
    /// The policy's name, for messages.
    pub policy: String,
    /// Its rules.
    pub rules: Arc<[HostRule]>,
    /// The hash of the job's token: hashes compare in constant time.
    pub token: blake3::Hash,
    /// Who knows addresses.
    pub resolver: Resolver,
    /// What was refused.
    pub refusals: Refusals,
    /// The job's way to models, where its task names any.
    pub desk: Option<Arc<Desk>>,
}

/// A refusal or failure, as the job gets to know it.
#[derive(Debug)]
struct No {
    status: u16,
    text: String,
}

/// Serves one connection to its end.
///
/// # Errors
/// The stream's: the job or the server went away. Nobody needs to know.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, gate: &Gate) -> io::Result<()> {
    let mut job = Wire::new(stream);
    if timeout(ASKING_MAX, job.read_on()).await?? == 0 {
        return Ok(());
    }
    if let Some(desk) = &gate.desk {
        let direct = loop {
            match request::is_direct(job.ahead()) {
                Some(direct) => break direct,
                None if timeout(ASKING_MAX, job.read_on()).await?? == 0 => return Ok(()),
                None => {}
            }
        };
        if direct {
            return desk.serve(job, &|word| gate.is_token(word)).await;
        }
    }
    match job.ahead().first() {
        Some(&socks::VERSION) => gate.serve_socks(job).await,
        _ => gate.serve_http(job).await,
    }
}

impl Gate {
    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin>(&self, mut job: Wire<S>) -> io::Result<()> {
        loop {
            let parsed = timeout(ASKING_MAX, job.message(|bytes| request::parse(bytes, Place::Proxy))).await??;
            let request = match parsed {
                None => return Ok(()),
                Some(Ok(request)) => request,
                Some(Err(error)) => return answer_no(&mut job.stream, &self.misread(&error)).await,
            };
            if !self.knows(request.credentials.as_deref()) {
                let text = format!("{}: the request carries no or a wrong token", request.target);
                self.refusals.note(&request.target.to_string(), NO_TOKEN, None);
                return answer_no(&mut job.stream, &No { status: 407, text }).await;
            }
            // Git and others show the token only when they are asked for it.
            self.refusals.settled(&request.target.to_string(), NO_TOKEN);
            let opened = self.open(&request.target).await;
            let (server, speech) = match opened {
                Ok(opened) => opened,
                Err(no) => return answer_no(&mut job.stream, &no).await,
            };
            match request.asked {
                Asked::Connect => {
                    job.stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                    return self.tunnel(job, server, &request.target, speech).await;
                }
                Asked::Forward(forward) => match self.exchange(&mut job, server, forward).await? {
                    Afterwards::Stays => {}
                    Afterwards::Closes => return job.stream.shutdown().await,
                },
            }
        }
    }

    async fn serve_socks<S: AsyncRead + AsyncWrite + Unpin>(&self, mut job: Wire<S>) -> io::Result<()> {
        match timeout(ASKING_MAX, job.message(socks::greeting)).await?? {
            Some(Ok(())) => job.stream.write_all(&socks::USE_PASSWORD).await?,
            Some(Err(BadSocks::NoPassword)) => {
                self.refusals.note("SOCKS5", "it carried no token", None);
                return job.stream.write_all(&socks::NO_METHOD).await;
            }
            Some(Err(_)) | None => return Ok(()),
        }
        let word = |bytes: &[u8]| match socks::password(bytes, USER.as_bytes()) {
            Ok(Some((password, length))) => Ok(Some((password.is_some_and(|word| self.is_token(word)), length))),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match timeout(ASKING_MAX, job.message(word)).await?? {
            Some(Ok(true)) => job.stream.write_all(&socks::PASSWORD_RIGHT).await?,
            Some(Ok(false)) => {
                self.refusals.note("SOCKS5", "it carried a wrong token", None);
                return job.stream.write_all(&socks::PASSWORD_WRONG).await;
            }
            Some(Err(_)) | None => return Ok(()),
        }
        let target = match timeout(ASKING_MAX, job.message(socks::request)).await?? {
            Some(Ok(target)) => target,
            Some(Err(BadSocks::Command)) => return job.stream.write_all(&Reply::Command.bytes()).await,
            Some(Err(error @ BadSocks::Host { .. })) => {
                self.refusals.note("SOCKS5", &error.to_string(), None);
                return job.stream.write_all(&Reply::Refused.bytes()).await;
            }
            Some(Err(_)) => return job.stream.write_all(&Reply::Address.bytes()).await,
            None => return Ok(()),
        };
        match self.open(&target).await {
            Ok((server, speech)) => {
                job.stream.write_all(&Reply::Open.bytes()).await?;
                self.tunnel(job, server, &target, speech).await
            }
            Err(No { status, .. }) => {
                let reply = if status == 403 { Reply::Refused } else { Reply::Unreachable };
                job.stream.write_all(&reply.bytes()).await
            }
        }
    }

    /// Decides by name, resolves, decides by address and dials.
    async fn open(&self, target: &Target) -> Result<(TcpStream, Speech), No> {
        let Decision::Allowed { rule } = decide(&self.rules, &target.host, target.port) else {
            let entry = rule_for(&target.host, target.port, Speech::Checked);
            return Err(self.refuse(target, "no entry of `network` names it", Some(entry.to_string())));
        };
        match dial(&self.resolver, &self.rules, target).await {
            Ok(server) => Ok((server, rule.speech)),
            Err(DialError::Special(special)) => {
                let entry = Host::address(special.address).ok().map(|host| rule_for(&host, target.port, rule.speech));
                let reason = DialError::Special(special).to_string();
                Err(self.refuse(target, &reason, entry.map(|entry| entry.to_string())))
            }
            Err(error) => {
                self.refusals.unreached(&target.to_string(), &format!("it is allowed, and {error}"));
                Err(No { status: 502, text: format!("{target} is allowed, and {error}") })
            }
        }
    }

    /// Looks at the first words in a tunnel, then passes on what follows.
    async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut job: Wire<S>,
        server: TcpStream,
        target: &Target,
        speech: Speech,
    ) -> io::Result<()> {
        if speech == Speech::Raw {
            return splice(job, server).await;
        }
        if job.ahead().is_empty() && timeout(ASKING_MAX, job.read_on()).await?? == 0 {
            return Ok(());
        }
        if target.port != HTTPS_PORT && job.ahead().first() != Some(&TLS_FIRST) {
            return self.http_in_tunnel(job, server, target).await;
        }
        let mut server = Wire::new(server);
        if !self.pass_hello(&mut job, &mut server, target, tls_hello::check).await? {
            return Ok(());
        }
        // Until it is known that no other one is asked for, nothing else of the job is passed on.
        let asks_again = loop {
            match tls_hello::asks_again(server.ahead()) {
                Some(asks_again) => break asks_again,
                None if timeout(ASKING_MAX, server.read_on()).await?? == 0 => break false,
                None => {}
            }
        };
        if asks_again {
            job.stream.write_all(server.ahead()).await?;
            server.used(server.ahead().len());
            if !self.pass_hello(&mut job, &mut server, target, tls_hello::check_again).await? {
                return Ok(());
            }
        }
        let (server, ahead) = server.into_parts();
        job.stream.write_all(&ahead).await?;
        splice(job, server).await
    }

    /// Passes on the job's next words up to the end of a ClientHello for the tunnel's host; `false` where it is for another, which
    /// is noted, or does not come.
    async fn pass_hello<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        job: &mut Wire<S>,
        server: &mut Wire<TcpStream>,
        target: &Target,
        check: fn(&[u8], &Host) -> Result<Option<usize>, tls_hello::BadHello>,
    ) -> io::Result<bool> {
        let hello = |bytes: &[u8]| {
            check(bytes, &target.host).map(|length| length.map(|length| (bytes[..length].to_vec(), length)))
        };
        match timeout(ASKING_MAX, job.message(hello)).await?? {
            Some(Ok(hello)) => server.stream.write_all(&hello).await.map(|()| true),
            Some(Err(error)) => {
                // Nothing can be answered in a tunnel: it is closed, and the note says why.
                let entry = rule_for(&target.host, target.port, Speech::Raw);
                self.refusals.note(&target.to_string(), &error.to_string(), Some(entry.to_string()));
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Plain HTTP in a tunnel: every request has to name the tunnel's host.
    async fn http_in_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut job: Wire<S>,
        server: TcpStream,
        target: &Target,
    ) -> io::Result<()> {
        let mut dialled = Some(server);
        loop {
            let parse = |bytes: &[u8]| request::parse(bytes, Place::Tunnel(target));
            let request = match timeout(ASKING_MAX, job.message(parse)).await?? {
                None => return Ok(()),
                Some(Ok(request)) => request,
                Some(Err(error)) => {
                    let entry = rule_for(&target.host, target.port, Speech::Raw);
                    self.refusals.note(&target.to_string(), &error.to_string(), Some(entry.to_string()));
                    return answer_no(&mut job.stream, &No { status: error.status(), text: error.to_string() }).await;
                }
            };
            let Asked::Forward(forward) = request.asked else {
                unreachable!("BUG: a tunnel's parser gives no tunnels")
            };
            let server = match dialled.take() {
                Some(server) => server,
                None => match self.open(target).await {
                    Ok((server, _)) => server,
                    Err(no) => return answer_no(&mut job.stream, &no).await,
                },
            };
            if self.exchange(&mut job, server, forward).await? == Afterwards::Closes {
                return job.stream.shutdown().await;
            }
        }
    }

    /// One request and its answer, over a connection of its own to the server.
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        job: &mut Wire<S>,
        server: TcpStream,
        forward: Forward,
    ) -> io::Result<Afterwards> {
        let mut server = Wire::new(server);
        if forward.waits == Waits::ForContinue {
            job.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        server.stream.write_all(&forward.head).await?;
        job.pass_body(forward.body, &mut server.stream).await?;
        for _ in 0..INTERIM_MAX {
            let parse = |bytes: &[u8]| answer::parse(bytes, forward.answer, forward.afterwards);
            match server.message(parse).await {
                Ok(Some(Ok(Answer::Interim))) => {}
                Ok(Some(Ok(Answer::Final { head, body, afterwards }))) => {
                    job.stream.write_all(&head).await?;
                    server.pass_body(body, &mut job.stream).await?;
                    job.stream.flush().await?;
                    return Ok(afterwards);
                }
                Ok(Some(Err(error))) => return self.bad_gateway(job, &error).await,
                Ok(None) => return self.bad_gateway(job, &"the server closed the connection without an answer").await,
                Err(error) => return self.bad_gateway(job, &error).await,
            }
        }
        self.bad_gateway(job, &"the server sends one interim answer after the other").await
    }

    async fn bad_gateway<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        job: &mut Wire<S>,
        why: &(dyn std::fmt::Display + Sync),
    ) -> io::Result<Afterwards> {
        answer_no(&mut job.stream, &No { status: 502, text: why.to_string() }).await?;
        Ok(Afterwards::Closes)
    }

    fn refuse(&self, target: &Target, reason: &str, entry: Option<String>) -> No {
        let mut text = format!("{target} is refused: {reason}");
        if let Some(entry) = &entry {
            let named = self.rules.iter().map(HostRule::to_string).chain([entry.clone()]);
            let named: Vec<String> = named.collect();
            let (table, list) = (format!("sandbox.{}", self.policy), ("network", named.as_slice()));
            // There is no proxy where the plan lists no hosts.
            let line = list_to_paste(&table, IsWritten::Yes, list, None);
            text.push_str(&format!("\nhint: the plan allows it with\n\n    {line}"));
        }
        self.refusals.note(&target.to_string(), reason, entry);
        No { status: 403, text }
    }

    fn misread(&self, error: &BadRequest) -> No {
        let asked = match error {
            BadRequest::Host { text, .. } => text,
            _ => "a request",
        };
        self.refusals.note(asked, &error.to_string(), None);
        No { status: error.status(), text: format!("the request is refused: {error}") }
    }

    /// Whether `Proxy-Authorization` carries the job's token.
    fn knows(&self, credentials: Option<&[u8]>) -> bool {
        let Some((scheme, word)) = credentials.and_then(|value| value.split_at_checked(6)) else { return false };
        let decoded = base64::engine::general_purpose::STANDARD.decode(word.trim_ascii()).unwrap_or_default();
        let token = decoded.strip_prefix(USER.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
        scheme.eq_ignore_ascii_case(b"basic ") && token.is_some_and(|token| self.is_token(token))
    }

    fn is_token(&self, word: &[u8]) -> bool {
        blake3::hash(word) == self.token
    }
}

/// Passes bytes on in both directions until both ends are closed.
async fn splice<S: AsyncRead + AsyncWrite + Unpin>(job: Wire<S>, mut server: TcpStream) -> io::Result<()> {
    let (mut job, ahead) = job.into_parts();
    server.write_all(&ahead).await?;
    copy_bidirectional(&mut job, &mut server).await.map(drop)
}

async fn answer_no(stream: &mut (impl AsyncWrite + Unpin), no: &No) -> io::Result<()> {
    let reason = match no.status {
        400 => "Bad Request",
        403 => "Forbidden",
        407 => "Proxy Authentication Required",
        431 => "Request Header Fields Too Large",
        _ => "Bad Gateway",
    };
    let ask = if no.status == 407 { "Proxy-Authenticate: Basic realm=\"swarm\"\r\n" } else { "" };
    let body = format!("swarm: {}\n", no.text);
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{ask}Connection: close\r\n\r\n",
        no.status,
        body.len(),
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}
