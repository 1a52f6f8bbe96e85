//! The first message of a TLS connection, as far as it tells whom the client wants to speak with. Pure.
//!
//! A tunnel to an allowed host must not be used to reach another one behind the same address, so the server name of the
//! ClientHello has to be the tunnel's host. Whatever is unusual about it is refused: no name, two names, an encrypted inner
//! hello, bytes behind the message. A server may ask for a second ClientHello, which has to name the same host. What is said
//! afterwards is encrypted: a server that answers for several names may still be asked for another one inside.
//!
//! Source: RFC 8446, sections 4.1.2, 4.1.3, 4.2.10, 5.1 and D.4; RFC 6066, section 3; RFC 9849 (encrypted ClientHello).

use swarm_plans::egress::Host;

/// The longest ClientHello with its record headers, in bytes. One with post-quantum shares and tickets has about 4 KiB.
pub const HELLO_BYTES_MAX: usize = 32 << 10;

const RECORD_HANDSHAKE: u8 = 22;
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_CHANGE_CIPHER: u8 = 20;
const RECORD_DATA: u8 = 23;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const MESSAGE_SERVER_HELLO: u8 = 2;
/// The random value of a ServerHello that asks for another ClientHello.
const ASKS_AGAIN: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ENCRYPTED_HELLO: u16 = 0xfe0d;
/// Drafts of encrypted server names that some clients still send.
const EXTENSION_ENCRYPTED_NAME: u16 = 0xffce;
const NAME_IS_HOST: u8 = 0;

/// Why a tunnel is closed before anything went through it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHello {
    /// Not TLS, or not understood.
    #[error("what is said through the tunnel is not TLS as expected: {0}")]
    Malformed(&'static str),
    /// Longer than [`HELLO_BYTES_MAX`].
    #[error("its ClientHello is too long")]
    TooLong,
    /// The name is hidden.
    #[error("its ClientHello hides the server's name")]
    Encrypted,
    /// No name where there has to be one.
    #[error("its ClientHello names no server")]
    NoName,
    /// Another name.
    #[error("its ClientHello names another server: `{0}`")]
    OtherName(String),
}

/// Reads the ClientHello at the start of `bytes` and compares its server name with `host`; gives the length of its records, `None` as
/// long as it is not whole.
///
/// # Errors
/// [`BadHello`]; the tunnel must be closed.
pub fn check(bytes: &[u8], host: &Host) -> Result<Option<usize>, BadHello> {
    let Some((message, length)) = message(bytes)? else {
        return if bytes.len() > HELLO_BYTES_MAX { Err(BadHello::TooLong) } else { Ok(None) };
    };
    match (server_name(&message)?, host) {
        // Addresses are no server names, so a client that calls one sends none.
        (None, Host::Address(_)) => Ok(Some(length)),
        (None, Host::Name(_)) => Err(BadHello::NoName),
        (Some(name), host) => match std::str::from_utf8(&name).ok().and_then(|name| Host::parse(name).ok()) {
            Some(named) if named == *host => Ok(Some(length)),
            _ => Err(BadHello::OtherName(name.escape_ascii().to_string())),
        },
    }
}

/// Whether a server whose first words these are asks for another ClientHello; `None` as long as that cannot be told. One that cuts its
/// answer to pieces does, for all that can be told.
pub fn asks_again(bytes: &[u8]) -> Option<bool> {
    if *bytes.first()? != RECORD_HANDSHAKE {
        return Some(false);
    }
    let (header, payload) = bytes.split_first_chunk::<5>()?;
    if *payload.first()? != MESSAGE_SERVER_HELLO {
        return Some(false);
    }
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // Behind the message's header and its version.
    let random = 6..6 + ASKS_AGAIN.len();
    if length < random.end {
        return Some(true);
    }
    payload.get(random).map(|random| *random == ASKS_AGAIN)
}

/// As [`check`], of the ClientHello that a client was asked for, behind what it may have sent before it heard that: data, which the
/// server drops, and a mark.
///
/// # Errors
/// [`BadHello`]; the tunnel must be closed.
pub fn check_again(bytes: &[u8], host: &Host) -> Result<Option<usize>, BadHello> {
    let mut from = 0;
    while let Some([RECORD_CHANGE_CIPHER | RECORD_DATA, _, _, high, low, ..]) = bytes.get(from..) {
        from += 5 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    let Some(rest) = bytes.get(from..) else { return Ok(None) };
    match rest {
        // Not whole.
        [] | [RECORD_CHANGE_CIPHER | RECORD_DATA, ..] => Ok(None),
        hello => Ok(check(hello, host)?.map(|length| from + length)),
    }
}

/// Puts the handshake message together from its records; with their length.
fn message(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, BadHello> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_first_chunk::<5>() else {
            let first_is_wrong = rest.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE);
            return if first_is_wrong { Err(BadHello::Malformed("no handshake")) } else { Ok(None) };
        };
        let [kind, major, minor, high, low] = *header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != RECORD_HANDSHAKE || major != 3 || minor > 4 {
            return Err(BadHello::Malformed("no handshake"));
        }
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(BadHello::Malformed("a record's length"));
        }
        let Some((payload, after)) = after.split_at_checked(length) else { return Ok(None) };
        message.extend_from_slice(payload);
        rest = after;
        if let Some(whole) = whole_message(&message)? {
            return Ok(Some((whole.to_vec(), bytes.len() - rest.len())));
        }
    }
}

/// The body of the ClientHello, once all of it is there; it has to end where a record ends.
fn whole_message(message: &[u8]) -> Result<Option<&[u8]>, BadHello> {
    if message.first().is_some_and(|kind| *kind != MESSAGE_CLIENT_HELLO) {
        return Err(BadHello::Malformed("no ClientHello"));
    }
    let Some((header, body)) = message.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    match body.len().cmp(&length) {
        _ if length > HELLO_BYTES_MAX => Err(BadHello::TooLong),
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(body)),
        std::cmp::Ordering::Greater => Err(BadHello::Malformed("more than a ClientHello")),
    }
}

/// The host name of the server name extension.
fn server_name(hello: &[u8]) -> Result<Option<Vec<u8>>, BadHello> {
    let mut fields = Bytes(hello);
    fields.take(2 + 32)?;
    let session = fields.sized::<1>()?;
    let ciphers = fields.sized::<2>()?;
    let compressions = fields.sized::<1>()?;
    if session.len() > 32 || ciphers.is_empty() || ciphers.len() % 2 != 0 || compressions.is_empty() {
        return Err(BadHello::Malformed("its fields"));
    }
    if fields.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = Bytes(fields.sized::<2>()?);
    fields.end()?;
    let (mut name, mut seen) = (None, std::collections::HashSet::new());
    while !extensions.0.is_empty() {
        let kind = u16::from_be_bytes(extensions.array()?);
        let content = extensions.sized::<2>()?;
        if !seen.insert(kind) {
            return Err(BadHello::Malformed("an extension that comes twice"));
        }
        match kind {
            EXTENSION_SERVER_NAME => name = Some(host_name(content)?),
            EXTENSION_ENCRYPTED_HELLO | EXTENSION_ENCRYPTED_NAME => return Err(BadHello::Encrypted),
            _ => {}
        }
    }
    Ok(name)
}

/// The one name in a list of names.
fn host_name(content: &[u8]) -> Result<Vec<u8>, BadHello> {
    let mut outer = Bytes(content);
    let mut list = Bytes(outer.sized::<2>()?);
    outer.end()?;
    let [kind] = list.array()?;
    let name = list.sized::<2>()?;
    list.end()?;
    if kind == NAME_IS_HOST && !name.is_empty() { Ok(name.to_vec()) } else { Err(BadHello::Malformed("its names")) }
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadHello> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(BadHello::Malformed("its end"))?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadHello> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    /// A field behind its length of `N` bytes.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], BadHello> {
        let length = self.array::<N>()?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }

    fn end(&self) -> Result<(), BadHello> {
        if self.0.is_empty() { Ok(()) } else { Err(BadHello::Malformed("bytes behind a field")) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized<const N: usize>(content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - N..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &sized::<2>(content)].concat()
    }

    fn names(names: &[&str]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|name| [vec![0], sized::<2>(name.as_bytes())].concat()).collect();
        extension(0, &sized::<2>(&list))
    }

    fn hello_with(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &sized::<1>(&[1; 32]),
            &sized::<2>(&[0x13, 1, 0x13, 2]),
            &sized::<1>(&[0]),
            &sized::<2>(&extensions.concat()),
        ]
        .concat();
        [&[1][..], &sized::<3>(&body)].concat()
    }

    fn records(message: &[u8], pieces: usize) -> Vec<u8> {
        let size = message.len().div_ceil(pieces);
        message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &sized::<2>(piece)].concat()).collect()
    }

    /// A ClientHello for a name, in one record.
    pub(crate) fn client_hello(name: &str) -> Vec<u8> {
        records(&hello_with(&[extension(16, b"\0\x03\x02h2"), names(&[name])]), 1)
    }

    /// The words of a server that asks for another ClientHello.
    pub(crate) fn hello_retry() -> Vec<u8> {
        server_hello(&ASKS_AGAIN)
    }

    fn host() -> Host {
        Host::parse("example.org").expect("a host")
    }

    #[test]
    fn the_server_name_has_to_be_the_tunnels_host() {
        let good = client_hello("Example.ORG");
        assert_eq!(check(&good, &host()), Ok(Some(good.len())));
        assert_eq!(check(&[&good[..], b"more"].concat(), &host()), Ok(Some(good.len())));
        let bad = |extensions: &[Vec<u8>]| check(&records(&hello_with(extensions), 1), &host()).expect_err("refused");
        assert_eq!(bad(&[names(&["example.net"])]), BadHello::OtherName("example.net".to_owned()));
        assert_eq!(bad(&[names(&["example.org."])]), BadHello::OtherName("example.org.".to_owned()));
        assert_eq!(bad(&[]), BadHello::NoName);
        assert!(matches!(bad(&[names(&["example.org", "example.net"])]), BadHello::Malformed(_)));
        assert!(matches!(bad(&[names(&["example.org"]), names(&["example.net"])]), BadHello::Malformed(_)));
        assert_eq!(bad(&[names(&["example.org"]), extension(0xfe0d, b"x")]), BadHello::Encrypted);
        let address = Host::parse("10.0.0.1").expect("a host");
        assert!(matches!(check(&records(&hello_with(&[]), 1), &address), Ok(Some(_))));
        assert!(check(&client_hello("example.org"), &address).is_err());
    }

    #[test]
    fn a_hello_in_pieces_is_put_together_and_nothing_follows_it() {
        let message = hello_with(&[names(&["example.org"])]);
        let pieces = records(&message, 7);
        assert_eq!(check(&pieces, &host()), Ok(Some(pieces.len())));
        for end in 0..pieces.len() {
            assert_eq!(check(&pieces[..end], &host()), Ok(None), "{end}");
        }
        assert!(check(&records(&[message.clone(), message].concat(), 1), &host()).is_err());
        assert!(check(b"SSH-2.0-OpenSSH_9.9\r\n", &host()).is_err());
        assert!(check(b"G", &host()).is_err());
        let endless = [vec![22, 3, 1, 0x40, 0], vec![1; 0x4000]].concat();
        assert!(check(&endless, &host()).is_err());
    }

    fn server_hello(random: &[u8; 32]) -> Vec<u8> {
        let body = [&[3, 3][..], random, &sized::<1>(&[]), &[0x13, 1, 0], &sized::<2>(&[])].concat();
        records(&[&[2][..], &sized::<3>(&body)].concat(), 1)
    }

    #[test]
    fn a_second_hello_that_was_asked_for_names_the_same_host() {
        let again = server_hello(&ASKS_AGAIN);
        for end in 0..again.len() {
            assert_eq!(asks_again(&again[..end]), (end >= 43).then_some(true), "{end}");
        }
        assert_eq!(asks_again(&server_hello(&[7; 32])), Some(false));
        assert_eq!(asks_again(&[21, 3, 3, 0, 2, 2, 40]), Some(false), "an alert");
        assert_eq!(asks_again(&records(&again[5..], 40)), Some(true), "in pieces: who knows");
        let data = |kind: u8| [&[kind, 3, 3][..], &sized::<2>(&[1])].concat();
        let second = |before: &[Vec<u8>], name: &str| [before.concat(), client_hello(name)].concat();
        for before in [vec![], vec![data(20)], vec![data(20), data(23), data(23)]] {
            let good = second(&before, "example.org");
            assert_eq!(check_again(&good, &host()), Ok(Some(good.len())));
            for end in 0..good.len() {
                assert_eq!(check_again(&good[..end], &host()), Ok(None), "{end}");
            }
            let other = check_again(&second(&before, "example.net"), &host());
            assert_eq!(other, Err(BadHello::OtherName("example.net".to_owned())));
        }
        assert!(check_again(b"\x15\x03\x03\x00\x02\x02\x28", &host()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_agree(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(check(&bytes, &host()), Ok(Some(_))));
        }

        #[test]
        fn a_changed_hello_never_names_another_host(at in 0usize..300, byte: u8) {
            let mut bytes = client_hello("example.net");
            let length = bytes.len();
            bytes[at % length] = byte;
            prop_assert!(!matches!(check(&bytes, &host()), Ok(Some(_))));
        }
    }
}
