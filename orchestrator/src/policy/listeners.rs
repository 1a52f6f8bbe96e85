//! Whether somebody listens on this machine, looked up and not asked: to connect would be heard.

/// The state of a socket that listens. Source: Linux, include/net/tcp_states.h, `TCP_LISTEN`.
const LISTENS: &str = "0A";

/// Whether a program of this machine listens at a TCP port, on whichever of its addresses. Where the tables cannot be read nobody is
/// heard.
pub fn is_heard(port: u16) -> bool {
    let tables =
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().any(|table| listens(table, port))
}

/// Source: proc_pid_net(5): `sl local_address rem_address st …`, the local address as `HEX:PORT`.
fn listens(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let own =
            fields.next().and_then(|local| local.rsplit(':').next()).and_then(|hex| u16::from_str_radix(hex, 16).ok());
        own == Some(port) && fields.nth(1) == Some(LISTENS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_heard_and_who_talks_is_not() {
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000\n";
        assert_eq!([8080, 8081, 80].map(|port| listens(table, port)), [true, false, false]);
    }
}
