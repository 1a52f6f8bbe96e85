//! Addresses in texts that people see, without what nobody is to see: user and password, and what a query holds. Each letter of
//! those becomes a star, so that a caret still stands below its word. Pure.

/// The text with stars in the places of secrets in its addresses; as many bytes as before.
pub fn unsaid(text: &str) -> String {
    let mut kept = text.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = text[at..].find("://") {
        let begins = at + found + "://".len();
        let ends = text[begins..].find(ends_it).map_or(text.len(), |length| begins + length);
        let address = &text[begins..ends];
        let host_ends = address.find(['/', '?', '#']).unwrap_or(address.len());
        let query = address.find(['?', '#']).unwrap_or(address.len());
        // A password may hold a slash, though it should not.
        let user = address[..query].rfind('@').filter(|at| *at < host_ends || address[..host_ends].contains(':'));
        star(&mut kept[begins..begins + user.unwrap_or(0)]);
        let mut value = begins + query;
        for part in address[query..].split_inclusive(['&', '#', '?']) {
            let name = part.find('=').map_or(0, |equals| equals + 1);
            star(&mut kept[value + name..value + part.len()]);
            value += part.len();
        }
        at = ends;
    }
    String::from_utf8(kept).expect("stars stand in the places of whole letters")
}

/// The text with nothing of its addresses but scheme, host and port, for words that are not about the address itself: what
/// stands behind the host may be a secret as a whole. An ellipsis stands in its place.
pub fn hosts_alone(text: &str) -> String {
    let text = unsaid(text);
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(found) = rest.find("://") {
        let (front, address) = rest.split_at(found + "://".len());
        let (address, behind) = address.split_at(address.find(ends_it).unwrap_or(address.len()));
        let (host, path) = address.split_at(address.find(['/', '?', '#']).unwrap_or(address.len()));
        kept.push_str(front);
        kept.push_str(host);
        kept.push_str(if path.len() > 1 { "/…" } else { path });
        rest = behind;
    }
    kept + rest
}

fn star(secret: &mut [u8]) {
    secret.iter_mut().filter(|byte| !matches!(byte, b'&' | b'#' | b'?')).for_each(|byte| *byte = b'*');
}

/// Where an address in a text ends.
fn ends_it(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_queries_are_unsaid_and_nothing_else() {
        for (text, shown) in [
            ("base-url = 'https://me:sk-1@host/v1' # here", "base-url = 'https://*******@host/v1' # here"),
            ("https://h/mcp?key=sk-1&b=2#x", "https://h/mcp?key=****&b=*#*"),
            ("(http://h?sk-1) and \"ws://u@h:8/p\"", "(http://h?****) and \"ws://*@h:8/p\""),
            ("https://u:p/q@host/v1", "https://*****@host/v1"),
            // It could be a password with a slash.
            ("https://host:8/@scope/pkg", "https://*******@scope/pkg"),
            ("https://host/@scope/pkg a@b c?d=e", "https://host/@scope/pkg a@b c?d=e"),
            ("https://ü:ö@h", "https://*****@h"),
            ("://", "://"),
            ("", ""),
        ] {
            let said = unsaid(text);
            assert_eq!(said, shown);
            assert_eq!(said.len(), text.len());
            assert_eq!(unsaid(&said), said, "{text}");
        }
    }

    #[test]
    fn what_stands_behind_a_host_is_left_out() {
        for (text, shown) in [
            ("url (http://h:1/SECRET/mcp): refused", "url (http://h:1/…): refused"),
            ("`https://h/?k=1` and https://u:p/q@host/v1", "`https://h/…` and https://*****@host/…"),
            ("https://h and https://h/, https://h?x", "https://h and https://h/… https://h/…"),
            ("none ://", "none ://"),
        ] {
            assert_eq!(hosts_alone(text), shown);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_text_keeps_its_length_and_its_other_letters(text in "([a-z:/@?#&= 'ü]|://){0,40}") {
            let said = unsaid(&text);
            proptest::prop_assert_eq!(said.len(), text.len());
            proptest::prop_assert!(said.bytes().zip(text.bytes()).all(|(a, b)| a == b || a == b'*'));
        }
    }
}
