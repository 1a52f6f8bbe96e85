//! Which addresses belong to everybody. All others lead to the machine itself, to its neighbours or into a tunnel whose end
//! cannot be seen: a name that resolves to one of them is an attack or a mistake, unless a rule names the address.
//!
//! Source: the special-purpose registries of IANA (RFC 6890 and its updates), as of 2025.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of IPv4 addresses that are not everybody's: first address, bits, what they are.
const SPECIAL_V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a provider"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documents"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a tunnel"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for measurements"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documents"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documents"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Blocks of IPv6 addresses inside `2000::/3` that are not everybody's.
const SPECIAL_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "for protocols and tunnels"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documents"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a tunnel"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documents"),
];

/// Blocks outside of `2000::/3` that have a name; the rest is reserved.
const OUTSIDE_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "this host"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "an IPv4 address in disguise"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, "an IPv4 address in disguise"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// What an address is when it is not everybody's, in a word or two; `None` for an ordinary address of the internet.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let inside =
        |(first, bits, _): &&(Ipv4Addr, u32, &str)| (address.to_bits() ^ first.to_bits()).leading_zeros() >= *bits;
    SPECIAL_V4.iter().find(inside).map(|(_, _, what)| *what)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let inside =
        |(first, bits, _): &&(Ipv6Addr, u32, &str)| (address.to_bits() ^ first.to_bits()).leading_zeros() >= *bits;
    let everybodys = address.segments()[0] >> 13 == 1;
    if everybodys {
        SPECIAL_V6.iter().find(inside).map(|(_, _, what)| *what)
    } else {
        Some(OUTSIDE_V6.iter().find(inside).map_or("reserved", |(_, _, what)| *what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_and_its_neighbours_are_special() {
        for (text, what) in [
            ("0.0.0.0", "this network"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared by a provider"),
            ("100.127.255.255", "shared by a provider"),
            ("127.8.9.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("198.19.0.1", "for measurements"),
            ("224.0.0.251", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::", "this host"),
            ("::1", "loopback"),
            ("::7f00:1", "reserved"),
            ("::ffff:8.8.8.8", "an IPv4 address in disguise"),
            ("64:ff9b::a00:1", "an IPv4 address in disguise"),
            ("2001::1", "for protocols and tunnels"),
            ("2002:7f00:1::", "a tunnel"),
            ("fd00::1", "private"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(special(text.parse().expect(text)), Some(what), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_not() {
        for text in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.167.1.1", "2606:4700::1111"]
        {
            assert_eq!(special(text.parse().expect(text)), None, "{text}");
        }
    }
}
