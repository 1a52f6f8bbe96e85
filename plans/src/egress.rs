//! Hosts that a policy lets through: how a plan writes them, and what a host's name is at all.
//!
//! A [`Host`] is the one normal form of a name or an address; what has more than one reading for different programs
//! (`0177.0.0.1`, `example.org.`, `[::ffff:127.0.0.1]`) is refused and not repaired. The egress proxy decides with the same
//! types, so a rule and a request cannot mean different hosts by the same text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in bytes. Source: RFC 1035, section 2.3.4, without the length bytes.
pub const NAME_BYTES_MAX: usize = 253;
/// The longest part between two dots in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// The ports of a rule that names none: plain and encrypted HTTP.
pub const WEB_PORTS: [u16; 2] = [80, 443];

/// A host in its one normal form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name, in lower case.
    // Invariant: passed `name`.
    Name(HostName),
    /// An address; never one that stands for another (`::ffff:127.0.0.1`).
    Address(IpAddr),
}

/// A name of letters, digits, dashes and underscores between dots, in lower case, without a dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(
    // Invariant: passed `Host::parse`.
    String,
);

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is the machine itself by its meaning, so that no name server is asked. Source: RFC 6761,
    /// section 6.3.
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing, or nothing between two dots.
    #[error("a part of it is empty")]
    Empty,
    /// A name or a part of one.
    #[error("a part of it is too long")]
    TooLong,
    /// A dot at the end.
    #[error("it ends with a dot")]
    TrailingDot,
    /// A character that no name has.
    #[error("it contains {0:?}")]
    Letter(char),
    /// A dash at the start or the end of a part.
    #[error("a part of it starts or ends with a dash")]
    Dash,
    /// A number that is no plain IPv4 address: programs read it in different ways.
    #[error("it is a number, and no address of four plain numbers")]
    Number,
    /// Not an IPv6 address in brackets.
    #[error("it is not an IPv6 address in brackets")]
    Brackets,
    /// An IPv6 address that means an IPv4 address.
    #[error("it is an IPv6 address that stands for an IPv4 address")]
    Mapped,
    /// Not a number from 1 to 65535.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// `raw:` without a port.
    #[error("`raw:` needs a port")]
    RawPort,
    /// More than a host: a scheme, a path, a user.
    #[error("it is a URL")]
    Url,
    /// A star that does not stand for everything before a dot.
    #[error("a star stands for whole parts in front only")]
    Star,
}

impl HostError {
    /// What to write instead.
    pub fn hint(self) -> String {
        match self {
            HostError::Letter(letter) if !letter.is_ascii() => "write the name's ASCII form (xn--…)".to_owned(),
            HostError::Mapped => "write the IPv4 address itself".to_owned(),
            HostError::RawPort => "write it like \"raw:example.org:22\"".to_owned(),
            HostError::Star => "write it like \"*.example.net\", and \"example.net\" for the name itself".to_owned(),
            _ => "write it like \"example.org\", \"example.org:8443\", \"*.example.net:443\" or \"[::1]:8080\""
                .to_owned(),
        }
    }
}

impl Host {
    /// Reads a host as it stands in a plan, a URL or a request: a name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`HostError`]: it is no host, or one that programs read in different ways.
    pub fn parse(text: &str) -> Result<Host, HostError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inside = rest.strip_suffix(']').ok_or(HostError::Brackets)?;
            // `from_str` takes no zone (`%eth0`) and no brackets.
            return Host::v6(inside.parse().map_err(|_| HostError::Brackets)?);
        }
        if text.len() > NAME_BYTES_MAX + 1 {
            return Err(HostError::TooLong);
        }
        let lower = text.to_ascii_lowercase();
        if lower.ends_with('.') && lower.len() > 1 {
            return Err(HostError::TrailingDot);
        }
        for label in lower.split('.') {
            check_label(label)?;
        }
        let last = lower.rsplit('.').next().unwrap_or_default();
        // What ends in a number is an address for some programs, in octal or hexadecimal for others.
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if numeric {
            return lower
                .parse::<Ipv4Addr>()
                .map(|address| Host::Address(address.into()))
                .map_err(|_| HostError::Number);
        }
        if lower.len() > NAME_BYTES_MAX { Err(HostError::TooLong) } else { Ok(Host::Name(HostName(lower))) }
    }

    /// An address from a protocol that carries it as bytes.
    ///
    /// # Errors
    /// [`HostError::Mapped`].
    pub fn address(address: IpAddr) -> Result<Host, HostError> {
        match address {
            IpAddr::V4(_) => Ok(Host::Address(address)),
            IpAddr::V6(address) => Host::v6(address),
        }
    }

    fn v6(address: Ipv6Addr) -> Result<Host, HostError> {
        // Mapped (`::ffff:a.b.c.d`) and compatible (`::a.b.c.d`) forms; `::` and `::1` are themselves.
        let embeds = address.to_ipv4().is_some() && !address.is_loopback() && !address.is_unspecified();
        if embeds { Err(HostError::Mapped) } else { Ok(Host::Address(address.into())) }
    }

    /// Whether it is the machine itself.
    pub fn is_loopback(&self) -> bool {
        match self {
            Host::Name(name) => name.is_localhost(),
            Host::Address(address) => address.is_loopback(),
        }
    }
}

fn check_label(label: &str) -> Result<(), HostError> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if let Some(letter) = label.chars().find(|letter| !allowed(*letter)) {
        return Err(HostError::Letter(letter));
    }
    match label.len() {
        0 => Err(HostError::Empty),
        length if length > LABEL_BYTES_MAX => Err(HostError::TooLong),
        _ if label.starts_with('-') || label.ends_with('-') => Err(HostError::Dash),
        _ => Ok(()),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(&name.0),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// One entry of a policy's `network`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// Which hosts.
    pub hosts: HostPattern,
    /// The port; `None` is [`WEB_PORTS`].
    pub port: Option<u16>,
    /// What may be spoken.
    pub speech: Speech,
}

/// Which hosts a rule names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This one.
    Exactly(Host),
    /// Every name below this one, at any depth, and not the name itself.
    Below(HostName),
}

/// What may be spoken with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speech {
    /// HTTP whose `Host`, or TLS whose server name, is the host that was asked for.
    Checked,
    /// Any bytes (`raw:`): the proxy sees who is called and not what is said.
    Raw,
}

impl HostRule {
    /// Reads an entry: `HOST`, `HOST:PORT`, `*.NAME`, `*.NAME:PORT` or `raw:HOST:PORT`.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn parse(text: &str) -> Result<HostRule, HostError> {
        if text.contains("://") || text.contains(['/', '@', '?', '#']) {
            return Err(HostError::Url);
        }
        let (speech, rest) = match text.strip_prefix("raw:") {
            Some(rest) => (Speech::Raw, rest),
            None => (Speech::Checked, text),
        };
        let (host, port) = split_port(rest)?;
        if speech == Speech::Raw && port.is_none() {
            return Err(HostError::RawPort);
        }
        let hosts = match host.strip_prefix("*.") {
            Some(below) => match Host::parse(below)? {
                Host::Name(name) => HostPattern::Below(name),
                Host::Address(_) => return Err(HostError::Star),
            },
            None if host.contains('*') => return Err(HostError::Star),
            None => HostPattern::Exactly(Host::parse(host)?),
        };
        Ok(HostRule { hosts, port, speech })
    }

    /// Whether the rule names this host and port.
    pub fn covers(&self, host: &Host, port: u16) -> bool {
        let named = match (&self.hosts, host) {
            (HostPattern::Exactly(exact), host) => exact == host,
            (HostPattern::Below(parent), Host::Name(name)) => {
                name.0.strip_suffix(&parent.0).is_some_and(|front| front.ends_with('.'))
            }
            (HostPattern::Below(_), Host::Address(_)) => false,
        };
        named && self.port.map_or(WEB_PORTS.contains(&port), |own| own == port)
    }
}

/// Cuts `HOST:PORT`; a port is decimal digits only, without a sign or a leading zero.
///
/// # Errors
/// [`HostError::Port`].
pub fn split_port(text: &str) -> Result<(&str, Option<u16>), HostError> {
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.find(':'),
    };
    let Some(colon) = colon else { return Ok((text, None)) };
    let digits = &text[colon + 1..];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let port = if plain { digits.parse().ok() } else { None };
    port.map(|port| (&text[..colon], Some(port))).ok_or(HostError::Port)
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.speech == Speech::Raw {
            f.write_str("raw:")?;
        }
        match &self.hosts {
            HostPattern::Exactly(host) => write!(f, "{host}")?,
            HostPattern::Below(name) => write!(f, "*.{}", name.0)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling_or_none() {
        let check = |text: &str, expected: Result<&str, HostError>| {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), expected.map(str::to_owned), "{text:?}");
        };
        check("Example.ORG", Ok("example.org"));
        check("xn--bcher-kva.example", Ok("xn--bcher-kva.example"));
        check("_dmarc.example.org", Ok("_dmarc.example.org"));
        check("127.0.0.1", Ok("127.0.0.1"));
        check("[2606:4700:0:0::1]", Ok("[2606:4700::1]"));
        check("", Err(HostError::Empty));
        check(".", Err(HostError::Empty));
        check("a..b", Err(HostError::Empty));
        check("example.org.", Err(HostError::TrailingDot));
        check("evil.test\0.example.org", Err(HostError::Letter('\0')));
        check("bücher.example", Err(HostError::Letter('ü')));
        check("a b.example", Err(HostError::Letter(' ')));
        check("user@example.org", Err(HostError::Letter('@')));
        check("example%2eorg", Err(HostError::Letter('%')));
        check("-a.example", Err(HostError::Dash));
        check("0177.0.0.1", Err(HostError::Number));
        check("0x7f.0.0.1", Err(HostError::Number));
        check("0x7f000001", Err(HostError::Number));
        check("2130706433", Err(HostError::Number));
        check("127.1", Err(HostError::Number));
        check("1.2.3.4.5", Err(HostError::Number));
        check("example.0x1", Err(HostError::Number));
        check("::1", Err(HostError::Letter(':')));
        check("[fe80::1%eth0]", Err(HostError::Brackets));
        check("[::1", Err(HostError::Brackets));
        check("[::ffff:127.0.0.1]", Err(HostError::Mapped));
        check("[::127.0.0.1]", Err(HostError::Mapped));
        check("[::1]", Ok("[::1]"));
        check(&"a".repeat(64), Err(HostError::TooLong));
        check(&"a.".repeat(130), Err(HostError::TooLong));
    }

    #[test]
    fn a_rule_prints_as_it_is_written() {
        for text in ["example.org", "example.org:8443", "*.example.net:443", "[::1]:8080", "raw:git.example:22"] {
            assert_eq!(HostRule::parse(text).map(|rule| rule.to_string()), Ok(text.to_owned()));
        }
        for (text, error) in [
            ("*", HostError::Star),
            ("a.*.b", HostError::Star),
            ("*.10.0.0.1", HostError::Star),
            ("https://example.org", HostError::Url),
            ("me@example.org", HostError::Url),
            ("example.org:0", HostError::Port),
            ("example.org:+80", HostError::Port),
            ("example.org:65536", HostError::Port),
            ("example.org:", HostError::Port),
            ("raw:example.org", HostError::RawPort),
            ("::1", HostError::Port),
        ] {
            assert_eq!(HostRule::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_star_covers_what_is_below_and_not_the_name_itself() {
        let covers = |rule: &str, host: &str, port: u16| {
            HostRule::parse(rule).expect(rule).covers(&Host::parse(host).expect(host), port)
        };
        assert!(covers("*.example.net", "a.example.net", 443) && covers("*.example.net", "a.b.example.net", 80));
        assert!(!covers("*.example.net", "example.net", 443) && !covers("*.example.net", "evilexample.net", 443));
        assert!(covers("example.org", "EXAMPLE.org", 80) && !covers("example.org", "example.org", 8443));
        assert!(covers("example.org:8443", "example.org", 8443) && !covers("example.org:8443", "example.org", 443));
        assert!(!covers("example.org", "a.example.org", 443) && !covers("example.org", "example.org.evil.test", 443));
        assert!(covers("[::1]:80", "[0:0::1]", 80) && !covers("127.0.0.1:80", "localhost", 80));
    }
}
