//! One job's way to the proxy: a listening socket and a token of its own.
//!
//! In the namespaces tier the socket is made inside the cage, on the loopback of the job's own network, and handed out through
//! a unix socket before any job runs; nobody outside that network can connect to it. In the landlock tier the coordinator
//! listens on the host's loopback, where others can connect, too: there the token alone tells jobs apart. A job has to know
//! it in both.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use swarm_plans::HostRule;
use swarm_plans::egress::{Host, HostPattern};
use swarm_protocol::{Ended, NetworkSpec, SeenRefusal, Tier};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use super::dial::Resolver;
use super::proxy::{Gate, USER, serve};
use super::refusals::Refusals;
use crate::model::broker::endpoint::{Desk, Settings};

/// The proxy's port inside a network namespace: one that no program takes by habit.
pub const PORT: u16 = 31_280;
/// Connections of one job at once, where the coordinator may hold so many; further ones wait.
pub const CONNECTIONS_MAX: usize = 256;
/// Bytes of a token before they are written in hexadecimal.
const TOKEN_BYTES: usize = 16;

/// What a policy lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowlist {
    /// The policy's name, for messages.
    pub policy: String,
    /// Its rules.
    pub rules: Arc<[HostRule]>,
}

/// What a job's door leads to.
#[derive(Debug, Clone, Default)]
pub struct Leads {
    /// To these hosts, through the proxy.
    pub hosts: Option<Allowlist>,
    /// To the models of its task.
    pub models: Option<Arc<Desk>>,
}

impl Leads {
    /// Whether there is anything behind it.
    pub fn is_nowhere(&self) -> bool {
        self.hosts.is_none() && self.models.is_none()
    }
}

/// Which network a job has beside its door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None: the door is all there is.
    Nothing,
    /// The host's.
    Host,
}

/// Opens doors for the jobs of one run.
#[derive(Debug, Clone)]
pub struct Egress {
    folder: PathBuf,
    resolver: Resolver,
    connections_max: usize,
    next: Arc<AtomicU64>,
}

/// One job's door; dropping it ends all its connections.
#[derive(Debug)]
pub struct Door {
    gate: Arc<Gate>,
    token: String,
    /// `None` beside the host's network, which stays.
    network: Option<NetworkSpec>,
    port: u16,
    /// Whether the job has a loopback of its own.
    own_loopback: bool,
    proxied: bool,
    task: JoinHandle<()>,
}

impl Egress {
    /// Doors whose unix sockets lie in `folder`, which nobody else can enter; each serves so many connections at once, and
    /// further ones wait.
    pub fn new(folder: PathBuf, resolver: Resolver, connections_max: usize) -> Self {
        Egress { folder, resolver, connections_max, next: Arc::default() }
    }

    /// A door for one job of a cage in `tier`. Must be called inside a runtime.
    ///
    /// # Errors
    /// The system's: no socket, no random bytes.
    pub fn open(&self, leads: &Leads, tier: Tier, beside: Beside) -> io::Result<Door> {
        let token = token()?;
        let hosts = leads.hosts.clone();
        let proxied = hosts.is_some();
        let Allowlist { policy, rules } =
            hosts.unwrap_or_else(|| Allowlist { policy: String::new(), rules: Arc::new([]) });
        let gate = Arc::new(Gate {
            policy,
            rules,
            desk: leads.models.clone(),
            token: blake3::hash(token.as_bytes()),
            resolver: self.resolver.of_another_job(),
            refusals: Refusals::default(),
        });
        let (port, network, task) = match (tier, beside) {
            (Tier::Namespaces, Beside::Nothing) => {
                let path = self.folder.join(format!("door-{}", self.next.fetch_add(1, Ordering::Relaxed)));
                let listener = listen_at(&path)?;
                let unlink = Unlink(path.clone());
                let (gate, connections_max) = (Arc::clone(&gate), self.connections_max);
                let task = tokio::spawn(async move {
                    let handed_over = hand_over(&listener).await;
                    drop((listener, unlink));
                    match handed_over {
                        Ok(listener) => accept(listener, gate, connections_max).await,
                        Err(error) => tracing::warn!("a job's proxy port was not handed out: {error}"),
                    }
                });
                (PORT, Some(NetworkSpec::Egress { port: PORT, door: Some(path) }), task)
            }
            (Tier::Landlock, _) | (Tier::Namespaces, Beside::Host) => {
                let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let port = listener.local_addr()?.port();
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                let task = tokio::spawn(accept(listener, Arc::clone(&gate), self.connections_max));
                let network = (beside == Beside::Nothing).then_some(NetworkSpec::Egress { port, door: None });
                (port, network, task)
            }
        };
        let own_loopback = tier == Tier::Namespaces && beside == Beside::Nothing;
        Ok(Door { gate, token, network, port, own_loopback, proxied, task })
    }
}

impl Door {
    /// What the cage has to let through; `None` leaves it the host's network.
    pub fn network(&self) -> Option<NetworkSpec> {
        self.network.clone()
    }

    /// The variables by which programs find the models of their task. They replace what the cage would have: a key of the
    /// caller's never stands where the placeholder belongs.
    pub fn models_env(&self) -> Vec<(String, String)> {
        self.gate.desk.as_ref().map(|desk| desk.env(self.port, &self.token)).unwrap_or_default()
    }

    /// Settings of programs that do not find the models of their task by variables alone.
    pub fn models_settings(&self) -> Vec<Settings> {
        self.gate.desk.as_ref().map(|desk| desk.settings(self.port)).unwrap_or_default()
    }

    /// The variables by which programs find the proxy. curl, git, cargo, pip, npm and Go read the first six; node reads them
    /// when the last one is set.
    pub fn env(&self) -> Vec<(String, String)> {
        if !self.proxied {
            return Vec::new();
        }
        let url = format!("http://{USER}:{}@{}:{}", self.token, Ipv4Addr::LOCALHOST, self.port);
        let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let mut env: Vec<(String, String)> = names.iter().map(|name| ((*name).to_owned(), url.clone())).collect();
        let direct = self.direct_hosts();
        env.extend(["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), direct.clone())));
        env.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
        env
    }

    /// The hosts that a job reaches without the proxy: its own loopback, where it has one, unless the policy means the host's
    /// by that name; and where its models are, the address of the door itself.
    fn direct_hosts(&self) -> String {
        let named = |text: &str| {
            let host = Host::parse(text).expect("written here");
            self.gate.rules.iter().any(|rule| rule.hosts == HostPattern::Exactly(host.clone()))
        };
        let own = [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")];
        let is_door = |host: &str| host == "127.0.0.1" && self.gate.desk.is_some();
        let is_direct = |host: &str| is_door(host) || (self.own_loopback && !named(host));
        let own = own.iter().filter(|(host, _)| is_direct(host)).map(|(_, text)| *text);
        own.collect::<Vec<_>>().join(",")
    }

    /// Closes the door and tells what was refused, as [`Refusals::told`].
    pub fn close(self, ended: &Ended) -> (Vec<SeenRefusal>, Vec<String>) {
        self.task.abort();
        self.gate.refusals.told(ended, &self.gate.policy)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Removes a socket's file.
#[derive(Debug)]
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        // A file that is left behind lies in the run's folder, which goes with the run.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Random bytes that nobody guesses, in hexadecimal.
pub(crate) fn token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled != TOKEN_BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A unix socket's address has room for 107 bytes, so a long path is reached through its folder's descriptor.
pub(crate) fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    UnixListener::bind(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// Waits for the worker and takes the listening socket that its init made.
async fn hand_over(door: &UnixListener) -> io::Result<TcpListener> {
    let (stream, _) = door.accept().await?;
    loop {
        stream.readable().await?;
        match stream.try_io(tokio::io::Interest::READABLE, || receive(&stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return listening(received?),
        }
    }
}

/// The descriptor that a message carries.
fn receive(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut messages = control.drain();
    let descriptors = messages.find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no socket came"))
}

/// What came is a listening socket, or nothing that we use.
fn listening(socket: OwnedFd) -> io::Result<TcpListener> {
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what came does not listen"));
    }
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves connections until the door is closed.
async fn accept(listener: TcpListener, gate: Arc<Gate>, connections_max: usize) {
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection to the proxy was not accepted: {error}");
                // Out of descriptors, most likely: those that end give some back.
                connections.join_next().await;
                continue;
            }
        };
        let gate = Arc::clone(&gate);
        connections.spawn(async move {
            drop(stream.set_nodelay(true));
            if let Err(error) = serve(stream, &gate).await {
                tracing::debug!("a connection through the proxy ended: {error}");
            }
            drop(place);
        });
    }
}
