//! From an allowed host to a connection: the name is resolved once, every address is decided on, and exactly an address that
//! passed is dialled. So a name server that changes its mind between question and connection changes nothing.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_plans::HostRule;
use swarm_plans::egress::Host;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::decide::{Special, decide_address};
use super::request::Target;
use crate::lookups::Lookups;

/// How long a name server may take.
const RESOLVE_MAX: Duration = Duration::from_secs(15);
/// How long an address may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;

/// Who knows the addresses of names.
#[derive(Debug, Clone)]
pub enum Resolver {
    /// The machine's own means.
    System(Lookups),
    /// A table, for tests.
    Table(Arc<Table>),
}

/// Names and their addresses, and which names were asked for.
#[derive(Debug, Default)]
pub struct Table {
    /// The answers of a name: the first for the first question, the last for all that follow.
    pub answers: BTreeMap<String, Vec<Vec<IpAddr>>>,
    /// The questions, in order.
    pub asked: Mutex<Vec<String>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("its name cannot be resolved: {0}")]
    Resolve(#[source] Error),
    /// None of its addresses may be dialled.
    #[error("{0}, and the policy does not name that address")]
    Special(Special),
    /// Nobody answers.
    #[error("it does not answer: {0}")]
    Connect(#[source] Error),
}

impl Table {
    fn answer(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let mut asked = self.asked.lock().expect("nobody panics with it");
        let before = asked.iter().filter(|earlier| *earlier == name).count();
        asked.push(name.to_owned());
        let answers = self.answers.get(name).filter(|answers| !answers.is_empty());
        let answers = answers.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such name"))?;
        Ok(answers[before.min(answers.len() - 1)].clone())
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::System(Lookups::default())
    }
}

impl Resolver {
    /// The same with room of its own: what one job asks holds no other up.
    pub fn of_another_job(&self) -> Self {
        match self {
            Resolver::System(_) => Resolver::default(),
            Resolver::Table(table) => Resolver::Table(Arc::clone(table)),
        }
    }

    /// The addresses of a host. Neither an address nor `localhost` is a question for anybody.
    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, Error> {
        let name = match &target.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) if name.is_localhost() => {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            Host::Name(name) => name.as_str(),
        };
        match self {
            Resolver::Table(table) => table.answer(name),
            Resolver::System(lookups) => {
                let question = lookups.addresses(name, target.port);
                let found = timeout(RESOLVE_MAX, question).await.map_err(|_| Error::from(ErrorKind::TimedOut))??;
                Ok(found.iter().map(SocketAddr::ip).take(ADDRESSES_MAX).collect())
            }
        }
    }
}

/// Connects to a target that the rules allow by name.
///
/// # Errors
/// [`DialError`].
pub async fn dial(resolver: &Resolver, rules: &[HostRule], target: &Target) -> Result<TcpStream, DialError> {
    let addresses = resolver.addresses(target).await.map_err(DialError::Resolve)?;
    let mut failure = DialError::Resolve(Error::new(ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        if let Err(special) = decide_address(rules, &target.host, address, target.port) {
            // A refusal is the better answer when the allowed addresses do not answer either.
            failure = DialError::Special(special);
            continue;
        }
        match timeout(CONNECT_MAX, TcpStream::connect(SocketAddr::new(address, target.port))).await {
            Ok(Ok(stream)) => {
                // Two ends that wait for each other's small messages; a machine without the option loses only time.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => failure = DialError::Connect(error),
            Err(_) => failure = DialError::Connect(ErrorKind::TimedOut.into()),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn only_an_address_that_was_decided_on_is_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        let answers = [("allowed.test".to_owned(), vec![vec![loopback]])].into();
        let resolver = Resolver::Table(Arc::new(Table { answers, asked: Mutex::default() }));
        let dial_with = async |rules: &[&str], host: &str| {
            let rules: Vec<HostRule> = rules.iter().map(|rule| HostRule::parse(rule).expect(rule)).collect();
            let target = Target { host: Host::parse(host).expect(host), port };
            dial(&resolver, &rules, &target).await.map(drop).map_err(|error| error.to_string())
        };
        let own = format!("127.0.0.1:{port}");
        let refused = "127.0.0.1 is loopback, and the policy does not name that address";
        assert_eq!(dial_with(&["allowed.test"], "allowed.test").await, Err(refused.to_owned()));
        assert_eq!(dial_with(&["allowed.test", &own], "allowed.test").await, Ok(()));
        assert_eq!(dial_with(&["localhost"], "localhost").await, Ok(()), "localhost is no question");
        let Resolver::Table(table) = &resolver else { unreachable!("BUG: made above") };
        assert_eq!(*table.asked.lock().expect("unpoisoned"), ["allowed.test"; 2]);
    }
}
