//! The door in a cage's network namespace: a listening socket on the job's loopback, made by init before any job runs and
//! handed out to whoever answers behind it. The job can connect to it and nothing else about it is inside: the socket that
//! accepts lives outside, and with it every decision.
//!
//! Source: unix(7), `SCM_RIGHTS`; network_namespaces(7): a socket keeps the namespace it was made in.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use rustix::io;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, bind, listen,
    sendmsg, socket_with,
};

/// Connections that wait to be accepted; the kernel makes further ones wait.
const BACKLOG: i32 = 128;
/// The byte that carries the descriptor: a message without any is not sent.
pub(crate) const CARRIER: &[u8] = b"L";

/// Listens on `127.0.0.1:port` in the calling process's network namespace and sends the socket through `outside`, a
/// connected unix socket. The caller keeps no copy.
///
/// # Errors
/// The system's; the launch must be refused.
pub fn open(port: u16, outside: impl AsFd) -> io::Result<()> {
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    listen(&listener, BACKLOG)?;
    send(listener, outside)
}

/// Sends a descriptor through a connected unix socket.
///
/// # Errors
/// The system's.
pub fn send(descriptor: impl AsFd, through: impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let sent = [descriptor.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&sent)) {
        return Err(io::Errno::NOBUFS);
    }
    sendmsg(through, &[IoSlice::new(CARRIER)], &mut control, SendFlags::NOSIGNAL).map(drop)
}
