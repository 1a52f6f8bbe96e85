//! Who does not answer at this machine itself, found in what programs print. A cage has a loopback of its own, and on that nobody
//! listens whom the job did not start. Pure: whether somebody listens outside is for the coordinator to see.

/// What programs say when nobody listens. Source: strerror(3); curl since 7.86; node's `ECONNREFUSED`.
const REASONS: &[&str] =
    &["connection refused", "econnrefused", "couldn't connect to server", "could not connect to server"];

/// How this machine is named, as printed and as a policy names it.
const NAMES: &[(&str, &str)] = &[("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")];

/// How far behind the name its port may stand, in bytes: `', port=`.
const PORT_WITHIN: usize = 16;

/// `localhost:8080`, `127.0.0.1:8080` or `[::1]:8080`, where a line in lower case says that nobody answers there.
pub fn unanswered(lower: &str) -> Option<String> {
    if !REASONS.iter().any(|words| lower.contains(words)) {
        return None;
    }
    let found =
        NAMES.iter().flat_map(|(printed, name)| lower.match_indices(printed).map(move |(at, _)| (at, *printed, *name)));
    let found = found.filter(|(at, printed, _)| stands_alone(lower, *at, printed));
    // The last one: `"localhost" (127.0.0.1), port 5432`.
    let (at, printed, name) = found.max_by_key(|(at, ..)| *at)?;
    let behind = &lower.as_bytes()[at + printed.len()..];
    let begins = behind.iter().take(PORT_WITHIN).position(u8::is_ascii_digit)?;
    let digits = behind[begins..].iter().take_while(|byte| byte.is_ascii_digit());
    let port = digits.map(|byte| char::from(*byte)).collect::<String>().parse::<u16>().ok().filter(|port| *port > 0)?;
    Some(format!("{name}:{port}"))
}

/// Whether a name is not only a part of another.
fn stands_alone(line: &str, at: usize, name: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let behind = &line[at + name.len()..];
    let goes_on = behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
        || behind.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    !line[..at].ends_with(|c: char| part(c) || c == ':' && name == "::1") && !goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_of_this_machine() {
        for (line, expected) in [
            (
                "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server",
                Some("localhost:8080"),
            ),
            ("curl: (7) Failed to connect to 127.0.0.1 port 8080: Connection refused", Some("127.0.0.1:8080")),
            (
                "connection to server at \"localhost\" (127.0.0.1), port 5432 failed: Connection refused",
                Some("127.0.0.1:5432"),
            ),
            ("HTTPConnectionPool(host='localhost', port=8080): [Errno 111] Connection refused", Some("localhost:8080")),
            ("Error: connect ECONNREFUSED ::1:3000", Some("[::1]:3000")),
            ("dial tcp [::1]:6379: connect: connection refused", Some("[::1]:6379")),
            ("Could not connect to Redis at 127.0.0.1:6379: Connection refused", Some("127.0.0.1:6379")),
            ("connect to mylocalhost port 1: Connection refused", None),
            ("connect to localhost.example.org port 1: Connection refused", None),
            ("connect to 127.0.0.10 port 1: Connection refused", None),
            ("connect to localhost: Connection refused", None),
            ("connect to localhost port 99999: Connection refused", None),
            ("listening on localhost:8080", None),
        ] {
            assert_eq!(unanswered(&line.to_ascii_lowercase()).as_deref(), expected, "{line}");
        }
    }
}
