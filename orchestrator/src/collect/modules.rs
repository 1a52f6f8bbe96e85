//! What a new `.gitmodules` may say. It is content to us, but whoever clones the result with `--recurse-submodules` lets git
//! obey it: names become folders below `.git/modules`, URLs and paths become arguments of programs. What git's own fsck
//! refuses is refused here, and what only a program in a URL could mean.
//!
//! The reader follows git's; where git would stop reading, the file is refused.
//!
//! Source: git-config(1), "Syntax"; gitmodules(5); the checks that git-fsck(1) calls `gitmodulesName`, `gitmodulesUrl`,
//! `gitmodulesPath` and `gitmodulesUpdate`.

/// The largest file that is judged, in bytes; a larger one lists no submodules that anybody has.
const MODULES_BYTES_MAX: usize = 1 << 20;

const UNREADABLE: &str = "a .gitmodules that git cannot read";

/// Judges the content of a file that git takes for `.gitmodules`.
///
/// # Errors
/// The reason, for people.
pub fn check(content: &[u8]) -> Result<(), &'static str> {
    if content.len() > MODULES_BYTES_MAX {
        return Err("a .gitmodules of more than 1 MiB");
    }
    let text = std::str::from_utf8(content).map_err(|_| "a .gitmodules that is no text")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut reader = Reader { rest: &text };
    let mut module = false;
    while let Some(item) = reader.item()? {
        match item {
            Item::Section { is_module: false } => module = false,
            Item::Section { is_module: true } => module = true,
            Item::Module(name) => {
                check_name(&name)?;
                module = true;
            }
            Item::Entry { key, value } if module => check_entry(&key, &value)?,
            Item::Entry { .. } => {}
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.split(['/', '\\']).any(|part| part == "..") || name.contains(char::is_control) {
        return Err("a submodule whose name leaves .git/modules");
    }
    Ok(())
}

fn check_entry(key: &str, value: &str) -> Result<(), &'static str> {
    match key {
        "url" => check_url(value),
        "path" if value.starts_with('-') => Err("a submodule whose path is an option"),
        // Git and the folder that is made differ in what they make of one at the end.
        "path" if value.contains(char::is_control) => Err("a submodule whose path has a control character in it"),
        "path" if value.starts_with('/') || value.split(['/', '\\']).any(|part| part == "..") => {
            Err("a submodule whose path leaves the tree")
        }
        "update" if value.starts_with('!') => Err("a submodule that names a command"),
        _ => Ok(()),
    }
}

fn check_url(url: &str) -> Result<(), &'static str> {
    const BAD: &str = "a submodule whose URL is more than an address";
    let decoded = percent_decoded(url);
    if url.starts_with('-') || decoded.iter().any(u8::is_ascii_control) {
        return Err(BAD);
    }
    // `ext::COMMAND` and its like hand the rest to a program.
    let helper = url.split_once("::").map(|(helper, _)| helper);
    if helper.is_some_and(|helper| !helper.is_empty() && helper.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Err(BAD);
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let web = ["http", "https", "ftp", "ftps"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        if web && !is_whole(rest) || rest.starts_with('-') {
            return Err(BAD);
        }
    }
    let mut rest = url;
    while let Some(next) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("./")) {
        rest = next;
    }
    if rest.len() < url.len() && rest.starts_with([':', '/']) { Err(BAD) } else { Ok(()) }
}

/// Whether git can bring a web address, given behind its `://`, into the one form in which it compares them. Of one that it cannot,
/// programs that follow it may make whatever they like. Source: git's `url_normalize`, which follows RFC 3986.
fn is_whole(address: &str) -> bool {
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    let (authority, rest) = address.split_at(end);
    let (user, place) = authority.split_once('@').unwrap_or(("", authority));
    let (host, port) = match place.rfind([':', ']']).map(|at| place.split_at(at)) {
        Some((host, port)) if port.starts_with(':') => (host, Some(&port[1..])),
        _ => (place, None),
    };
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[:]".contains(&byte);
    !host.is_empty()
        && host.bytes().all(is_of_host)
        && port.is_none_or(is_port)
        && [user, rest].iter().all(|part| has_whole_escapes(part))
        && stays_below(rest.split(['?', '#']).next().unwrap_or_default())
}

/// Whether it is a port, or left out.
fn is_port(text: &str) -> bool {
    let number = text.trim_start_matches('0');
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u16>().is_ok();
    text.is_empty() || is_number
}

/// Whether behind each percent sign stand two digits of base 16.
fn has_whole_escapes(text: &str) -> bool {
    let is_code = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(is_code)
}

/// Whether no `..` of an address's path climbs above its root.
fn stays_below(path: &str) -> bool {
    let mut depth = 0_usize;
    path.strip_prefix('/').unwrap_or(path).split('/').all(|part| {
        match &*percent_decoded(part) {
            b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
        true
    })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                decoded.push(code);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// A piece of a configuration file.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    /// `[name]`, which is about submodules in the old form `[submodule.name]`.
    Section { is_module: bool },
    /// `[submodule "name"]`.
    Module(String),
    /// `key = value`; the key in small letters.
    Entry { key: String, value: String },
}

/// Reads a configuration file piece by piece.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn item(&mut self) -> Result<Option<Item>, &'static str> {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None => return Ok(None),
                Some('#' | ';') => self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest),
                Some('[') => return self.section().map(Some),
                Some(letter) if letter.is_ascii_alphabetic() => return self.entry().map(Some),
                Some(_) => return Err(UNREADABLE),
            }
        }
    }

    fn section(&mut self) -> Result<Item, &'static str> {
        let text = &self.rest[1..];
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
        let end = text.find(|letter| !plain(letter)).ok_or(UNREADABLE)?;
        let name = text[..end].to_ascii_lowercase();
        let after = &text[end..];
        if let Some(rest) = after.strip_prefix(']') {
            self.rest = rest;
            return Ok(match name.split_once('.') {
                Some(("submodule", module)) => {
                    check_name(module)?;
                    Item::Section { is_module: true }
                }
                _ => Item::Section { is_module: false },
            });
        }
        let quoted = after.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or(UNREADABLE)?;
        let mut module = String::new();
        let mut letters = quoted.chars();
        loop {
            match letters.next() {
                None | Some('\n') => return Err(UNREADABLE),
                Some('"') => break,
                Some('\\') => module.push(letters.next().filter(|&letter| letter != '\n').ok_or(UNREADABLE)?),
                Some(letter) => module.push(letter),
            }
        }
        self.rest = letters.as_str().strip_prefix(']').ok_or(UNREADABLE)?;
        Ok(if name == "submodule" { Item::Module(module) } else { Item::Section { is_module: false } })
    }

    fn entry(&mut self) -> Result<Item, &'static str> {
        let end = self.rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'));
        let (key, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let key = key.to_ascii_lowercase();
        let after = after.trim_start_matches([' ', '\t']);
        self.rest = after;
        if after.is_empty() || after.starts_with('\n') {
            return Ok(Item::Entry { key, value: String::new() });
        }
        self.rest = after.strip_prefix('=').ok_or(UNREADABLE)?.trim_start_matches([' ', '\t']);
        Ok(Item::Entry { key, value: self.value()? })
    }

    /// A value to the end of its line: quotes, escapes, comments; white space at the end goes unless it is quoted.
    fn value(&mut self) -> Result<String, &'static str> {
        let (mut value, mut kept, mut quoted) = (String::new(), 0, false);
        let mut letters = self.rest.chars();
        loop {
            match letters.next() {
                None | Some('\n') if quoted => return Err(UNREADABLE),
                None | Some('\n') => break,
                Some('"') => {
                    quoted = !quoted;
                    kept = value.len();
                }
                Some('\\') => {
                    match letters.next() {
                        Some('\n') => continue,
                        Some('t') => value.push('\t'),
                        Some('b') => value.push('\u{8}'),
                        Some('n') => value.push('\n'),
                        Some(letter @ ('\\' | '"')) => value.push(letter),
                        _ => return Err(UNREADABLE),
                    }
                    kept = value.len();
                }
                Some('#' | ';') if !quoted => {
                    letters = letters.as_str().split_once('\n').map_or("", |(_, rest)| rest).chars();
                    break;
                }
                Some(letter) => {
                    value.push(letter);
                    if quoted || !letter.is_whitespace() {
                        kept = value.len();
                    }
                }
            }
        }
        self.rest = letters.as_str();
        value.truncate(kept);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_modules_pass() {
        for text in [
            "",
            "# nothing\n",
            "[submodule \"lib/x\"]\n\tpath = lib/x\n\turl = https://example.org/x.git\n",
            "[submodule \"x\"]\r\n\tpath = \"a b\" ; said\r\n\turl = ../x.git\r\n\tupdate = rebase\r\n",
            "[submodule \"..x\"]\n\tpath = x\n\turl = git@example.org:x/y.git\n\tshallow\n",
            "[submodule \"x\"]\n\turl = https://us%40er:pw@exa_mple.org:08443/a//../b/./c%2fd?x=%20#y\n",
            "[submodule \"x\"]\n\turl = http://[::1]:80/x\n[submodule \"y\"]\n\turl = http://[::1]\n",
            "[submodule \"x\"]\n\turl = https://example.org\n[submodule \"y\"]\n\turl = ftp://example.org:/x\n",
            "[submodule \"x\"]\n\turl = ssh://git@example.org:22/x%20y\n\tbranch = main\n[core]\n\turl = -x\n",
        ] {
            assert_eq!(check(text.as_bytes()), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in ["..", "../../modules/evil", "a/../../b", "a\\\\..\\\\b", "a/..", "", "a\\\"/../b"] {
            assert!(check(format!("[submodule \"{name}\"]\n").as_bytes()).is_err(), "{name}");
        }
        assert!(check(b"[submodule.x/../y]\n").is_err() && check(b"[submodule...]\n").is_err());
    }

    #[test]
    fn values_that_are_more_than_they_seem_are_refused() {
        for entry in [
            "url = -u./payload",
            "url = \"-u./payload\"",
            "url = \\\n-u./payload",
            "URL = ext::sh -c evil",
            "url = https://example.org/%0ahost=evil.test",
            "url = \"https://example.org/\\nhost=evil.test\"",
            "url = https:///example.org/x",
            "url = ssh://-oProxyCommand=evil/x",
            "url = https://:80/x",
            "url = https://user@/x",
            "url = https://user@:80/x",
            "url = https://example.org:0/x",
            "url = https://example.org:65536/x",
            "url = https://example.org:8o/x",
            "url = https://exam ple.org/x",
            "url = https://example.org/%zz",
            "url = https://us%2@example.org/x",
            "url = HTTPS://example.org/../x",
            "url = https://example.org/a/%2e%2e/../x",
            "path = \"a\r\"",
            "path = \"a\\n\"",
            "url = ../../../../:evil",
            "url = .././/evil",
            "path = -x",
            "path = ../x",
            "path = /etc",
            "update = !evil",
            "update = \"!evil\" # quiet",
        ] {
            let text = format!("[submodule \"x\"]\n\t{entry}\n");
            assert!(check(text.as_bytes()).is_err(), "{entry}");
            assert!(check(text.replace('\n', "\r\n").as_bytes()).is_err(), "{entry}, with carriage returns");
        }
    }

    #[test]
    fn what_git_cannot_read_is_refused() {
        for text in ["[", "[submodule \"x]\n", "x = \"", "= x", "x y", "x = \\q", "[submodule \"x\" y]\n", "\u{0}"] {
            assert!(check(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(check(b"\xff").is_err() && check(&vec![b'#'; MODULES_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(pieces in prop::collection::vec(
            prop::sample::select(vec!["[", "]", "submodule", " ", "\"", "\\", "\n", "=", "url", "..", "/", "%0a", "#", "é", "-"]), 0..30,
        )) {
            let _ = check(pieces.concat().as_bytes());
        }

        /// However an evil value is quoted, if our reader takes it for harmless, it is another value.
        #[test]
        fn quotes_hide_nothing(cut in 0..10_usize, spaces in "[ \t]{0,3}") {
            let evil = "-u./payload";
            let (first, second) = evil.split_at(cut);
            let text = format!("[submodule \"x\"]\n url{spaces}={spaces}{first}\"{second}\"\n");
            prop_assert!(check(text.as_bytes()).is_err());
        }
    }
}
