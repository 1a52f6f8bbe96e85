//! May this host be reached? Two pure questions: [`decide`] by name and port, before any name server is asked, and
//! [`decide_address`] for each address that the name turned out to have.

use std::fmt;
use std::net::IpAddr;

use swarm_plans::HostRule;
use swarm_plans::egress::{Host, HostPattern, Speech};

use super::address;

/// The answer to a host and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// This rule lets it through.
    Allowed {
        /// The rule; one that allows any bytes before one that does not.
        rule: &'a HostRule,
    },
    /// No rule does.
    Refused,
}

/// Decides on a host and a port by a policy's rules. Nothing is resolved: a refused name is never told to a name server.
pub fn decide<'a>(rules: &'a [HostRule], host: &Host, port: u16) -> Decision<'a> {
    let mut covering = rules.iter().filter(|rule| rule.covers(host, port));
    let raw = covering.clone().find(|rule| rule.speech == Speech::Raw);
    match raw.or_else(|| covering.next()) {
        Some(rule) => Decision::Allowed { rule },
        None => Decision::Refused,
    }
}

/// Why an address is not dialled although its name is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {what}")]
pub struct Special {
    /// The address.
    pub address: IpAddr,
    /// What it is: `private`, `loopback` …
    pub what: &'static str,
}

/// Decides on an address that an allowed host has. An ordinary address of the internet may be dialled. Any other may be
/// dialled only where the policy means it: a rule names the address and the port itself, or the host is `localhost` by its
/// name and the address is loopback.
///
/// # Errors
/// [`Special`]: what the address is.
pub fn decide_address(rules: &[HostRule], host: &Host, address: IpAddr, port: u16) -> Result<(), Special> {
    let Some(what) = address::special(address) else { return Ok(()) };
    let own_name = host.is_loopback() && address.is_loopback();
    let named = Host::address(address).is_ok_and(|itself| rules.iter().any(|rule| rule.covers(&itself, port)));
    if own_name || named { Ok(()) } else { Err(Special { address, what }) }
}

/// The entry of a policy's `network` that would let a host and a port through.
pub fn rule_for(host: &Host, port: u16, speech: Speech) -> HostRule {
    HostRule { hosts: HostPattern::Exactly(host.clone()), port: Some(port), speech }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Allowed { rule } => write!(f, "allowed by \"{rule}\""),
            Decision::Refused => f.write_str("refused: no entry of `network` names it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(texts: &[&str]) -> Vec<HostRule> {
        texts.iter().map(|text| HostRule::parse(text).expect(text)).collect()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect(text)
    }

    #[test]
    fn the_rule_that_decides_is_named() {
        let rules = rules(&["example.org", "*.example.net:443", "git.example:22", "raw:git.example:22"]);
        let check = |name: &str, port: u16, expected: Option<&str>| {
            let decided = match decide(&rules, &host(name), port) {
                Decision::Allowed { rule } => Some(rule.to_string()),
                Decision::Refused => None,
            };
            assert_eq!(decided.as_deref(), expected, "{name}:{port}");
        };
        check("example.org", 443, Some("example.org"));
        check("EXAMPLE.org", 80, Some("example.org"));
        check("example.org", 22, None);
        check("www.example.org", 443, None);
        check("a.example.net", 443, Some("*.example.net:443"));
        check("example.net", 443, None);
        check("git.example", 22, Some("raw:git.example:22"));
        check("1.1.1.1", 443, None);
    }

    #[test]
    fn an_address_that_is_not_everybodys_has_to_be_named() {
        let rules = rules(&["internal.test", "localhost:8080", "10.0.0.5:443", "127.0.0.1:9000"]);
        let may = |name: &str, address: &str, port: u16| {
            decide_address(&rules, &host(name), address.parse().expect(address), port).is_ok()
        };
        assert!(may("internal.test", "1.1.1.1", 443));
        assert!(may("internal.test", "10.0.0.5", 443), "the address has an entry of its own");
        assert!(!may("internal.test", "10.0.0.5", 80) && !may("internal.test", "10.0.0.6", 443));
        assert!(!may("internal.test", "127.0.0.1", 443) && !may("internal.test", "169.254.169.254", 80));
        assert!(may("localhost", "127.0.0.1", 8080) && may("localhost", "::1", 8080));
        assert!(!may("localhost", "10.0.0.1", 8080), "a name server that lies about localhost");
        assert!(may("127.0.0.1", "127.0.0.1", 9000) && !may("internal.test", "::ffff:127.0.0.1", 9000));
    }

    proptest! {
        #[test]
        fn what_the_rule_for_a_host_says_is_allowed_and_no_more(
            name in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", other in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}", port in 1u16..,
        ) {
            let rules = [rule_for(&host(&name), port, Speech::Checked)];
            let allows = |name: &str, port: u16| matches!(decide(&rules, &host(name), port), Decision::Allowed { .. });
            prop_assert!(allows(&name, port));
            prop_assert_eq!(allows(&other, port), name == other);
            prop_assert!(!allows(&name, port.wrapping_add(1).max(1)) || port == u16::MAX && port == 1);
        }
    }
}
