//! The egress proxy: the only way out of a cage whose policy lists hosts.
//!
//! A job speaks HTTP (`CONNECT` or absolute-form) or SOCKS5 to a port on its loopback. The request is parsed into a host in
//! its one normal form, decided on by the policy's rules before any name server is asked, resolved, decided on again by
//! address, and dialled at exactly the address that was decided on. What is then said has to be meant for that host: TLS by
//! its server name, plain HTTP by its `Host`.
//!
//! Without ending TLS, and so without a certificate authority inside every cage, it cannot be seen what an allowed server
//! is asked for: one that answers for several names behind one address can still be asked for another (domain fronting).
//! Start reading at [`decide`](mod@decide), then [`proxy`].

/// Which addresses belong to everybody.
pub mod address;
/// The head of a server's answer.
mod answer;
/// May this host be reached; pure.
pub mod decide;
/// From an allowed host to a connection.
pub mod dial;
/// One job's way to the proxy.
pub mod door;
/// One connection, from its first byte to its last.
pub mod proxy;
/// What was refused.
pub mod refusals;
/// The head of a request; pure.
pub mod request;
/// SOCKS5; pure.
mod socks;
/// The proxy as a job meets it.
#[cfg(test)]
mod tests;
/// Whom a TLS client wants to speak with; pure.
mod tls_hello;
/// A stream, its messages and bodies.
pub(crate) mod wire;

pub use decide::{Decision, decide, decide_address};
pub use dial::{Resolver, Table};
pub use door::{Allowlist, Beside, Door, Egress, Leads};
