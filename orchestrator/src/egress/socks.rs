//! SOCKS5 as far as the proxy speaks it: a name and a password, then CONNECT. Pure: bytes → messages.
//!
//! Source: RFC 1928, RFC 1929.

use std::net::{Ipv4Addr, Ipv6Addr};

use swarm_plans::HostError;
use swarm_plans::egress::Host;

use super::request::Target;

/// The first byte of every message that starts a conversation.
pub const VERSION: u8 = 5;

const METHOD_PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const COMMAND_CONNECT: u8 = 1;

/// The answer that picks the password method.
pub const USE_PASSWORD: [u8; 2] = [VERSION, METHOD_PASSWORD];
/// The answer when a client offers no method that we speak.
pub const NO_METHOD: [u8; 2] = [VERSION, 0xff];
/// The answer to a right password.
pub const PASSWORD_RIGHT: [u8; 2] = [PASSWORD_VERSION, 0];
/// The answer to a wrong one.
pub const PASSWORD_WRONG: [u8; 2] = [PASSWORD_VERSION, 1];

/// The result of a request, as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The tunnel is open.
    Open = 0,
    /// The policy refuses.
    Refused = 2,
    /// Nobody answers at the host.
    Unreachable = 4,
    /// Another command than CONNECT.
    Command = 7,
    /// An address that we do not understand.
    Address = 8,
}

impl Reply {
    /// As bytes; the bound address that follows is unspecified.
    pub fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// Not a message of SOCKS5 as we speak it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSocks {
    /// Not understood.
    #[error("it is not SOCKS5")]
    Malformed,
    /// The client offers no password.
    #[error("it offers no password")]
    NoPassword,
    /// Another command than CONNECT.
    #[error("it asks for something else than a connection")]
    Command,
    /// The target is no host.
    #[error("it names `{text}`, which is not a host: {error}")]
    Host {
        /// As sent, harmless to print.
        text: String,
        /// Why.
        error: HostError,
    },
}

/// A message at the start of some bytes, with its length; `None` as long as it is not whole.
pub type Parsed<T> = Result<Option<(T, usize)>, BadSocks>;

/// The greeting: whether the client can send a password.
///
/// # Errors
/// [`BadSocks`].
pub fn greeting(bytes: &[u8]) -> Parsed<()> {
    let [version, count, methods @ ..] = bytes else { return Ok(None) };
    let count = usize::from(*count);
    if *version != VERSION {
        return Err(BadSocks::Malformed);
    }
    let Some(methods) = methods.get(..count) else { return Ok(None) };
    if methods.contains(&METHOD_PASSWORD) { Ok(Some(((), 2 + count))) } else { Err(BadSocks::NoPassword) }
}

/// The password that belongs to a name.
///
/// # Errors
/// [`BadSocks`].
pub fn password<'a>(bytes: &'a [u8], name: &[u8]) -> Parsed<Option<&'a [u8]>> {
    let [version, count, rest @ ..] = bytes else { return Ok(None) };
    if *version != PASSWORD_VERSION {
        return Err(BadSocks::Malformed);
    }
    let Some((user, rest)) = rest.split_at_checked(usize::from(*count)) else { return Ok(None) };
    let [count, rest @ ..] = rest else { return Ok(None) };
    let Some(password) = rest.get(..usize::from(*count)) else { return Ok(None) };
    Ok(Some(((user == name).then_some(password), 3 + user.len() + password.len())))
}

/// Whom the client wants to reach.
///
/// # Errors
/// [`BadSocks`].
pub fn request(bytes: &[u8]) -> Parsed<Target> {
    let [version, command, reserved, kind, rest @ ..] = bytes else { return Ok(None) };
    if *version != VERSION || *reserved != 0 {
        return Err(BadSocks::Malformed);
    }
    if *command != COMMAND_CONNECT {
        return Err(BadSocks::Command);
    }
    let (address, sized) = match kind {
        1 => (rest.get(..4), 0),
        4 => (rest.get(..16), 0),
        3 => (rest.split_first().and_then(|(count, rest)| rest.get(..usize::from(*count))), 1),
        _ => return Err(BadSocks::Malformed),
    };
    let Some(address) = address else { return Ok(None) };
    let length = 4 + sized + address.len() + 2;
    let Some([high, low]) = bytes.get(length - 2..length) else { return Ok(None) };
    let port = u16::from_be_bytes([*high, *low]);
    let text = || address.escape_ascii().to_string();
    let host = match (kind, <[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (1, Ok(v4), _) => Host::address(Ipv4Addr::from(v4).into()),
        (4, _, Ok(v6)) => Host::address(Ipv6Addr::from(v6).into()),
        _ => std::str::from_utf8(address).map_err(|_| HostError::Letter('\u{fffd}')).and_then(Host::parse),
    };
    let host = if port == 0 { Err(HostError::Port) } else { host };
    let host = host.map_err(|error| BadSocks::Host { text: text(), error })?;
    Ok(Some((Target { host, port }, length)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(kind: u8, address: &[u8], port: u16) -> Result<String, BadSocks> {
        let bytes = [&[5, 1, 0, kind][..], address, &port.to_be_bytes()].concat();
        for end in 0..bytes.len() {
            if let Ok(whole) = request(&bytes[..end]) {
                assert_eq!(whole, None, "{end}");
            }
        }
        let (target, length) = request(&bytes)?.expect("whole");
        assert_eq!(length, bytes.len());
        Ok(target.to_string())
    }

    #[test]
    fn a_name_travels_behind_its_length() {
        assert_eq!(asked(3, b"\x0bExample.ORG", 443), Ok("example.org:443".to_owned()));
        assert_eq!(asked(1, &[127, 0, 0, 1], 80), Ok("127.0.0.1:80".to_owned()));
        assert_eq!(asked(4, &Ipv6Addr::LOCALHOST.octets(), 80), Ok("[::1]:80".to_owned()));
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        assert!(matches!(asked(4, &mapped, 80), Err(BadSocks::Host { error: HostError::Mapped, .. })));
        for name in ["\x0cexample.org.", "\x06a\0.org", "\x00", "\x0a0177.0.0.1", "\x05a@b.c"] {
            assert!(matches!(asked(3, name.as_bytes(), 80), Err(BadSocks::Host { .. })), "{name:?}");
        }
        assert!(asked(3, b"\x0bexample.org", 0).is_err());
        assert_eq!(request(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 80]), Err(BadSocks::Command));
        assert_eq!(request(&[5, 3, 0, 1, 0, 0, 0, 0, 0, 80]), Err(BadSocks::Command));
    }

    #[test]
    fn without_a_password_nothing_is_heard() {
        assert_eq!(greeting(&[5, 2, 0, 2]), Ok(Some(((), 4))));
        assert_eq!(greeting(&[5, 1, 0]), Err(BadSocks::NoPassword));
        assert_eq!(greeting(&[5, 2, 0]), Ok(None));
        assert_eq!(greeting(&[4, 1]), Err(BadSocks::Malformed));
        assert_eq!(password(b"\x01\x05swarm\x03abc", b"swarm"), Ok(Some((Some(&b"abc"[..]), 11))));
        assert_eq!(password(b"\x01\x05other\x03abc", b"swarm"), Ok(Some((None, 11))));
        assert_eq!(password(b"\x01\x05swarm\x03ab", b"swarm"), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (greeting(&bytes), password(&bytes, b"swarm"), request(&bytes));
        }
    }
}
