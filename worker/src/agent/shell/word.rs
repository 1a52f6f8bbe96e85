//! Words of a script: what they are once quotes are gone, or that nobody knows before it runs.

use tree_sitter::Node;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Exactly this.
    Literal(String),
    /// Something that depends on what runs; as it is written.
    Unknown(String),
    /// One of several that the script itself gives a variable: as it is written, and all that it may be.
    Assigned(String, Vec<String>),
    /// Words that come from a list when it runs: what `xargs` appends, the `{}` of `find`; as it is written.
    Fed(String),
}

impl Word {
    /// The word, when it is known.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Word::Literal(text) => Some(text),
            Word::Unknown(_) | Word::Assigned(..) | Word::Fed(_) => None,
        }
    }

    /// Whether it is exactly one word whatever it holds: plain, or an expansion in quotes that is no list.
    pub fn is_one(&self) -> bool {
        match self {
            Word::Literal(_) | Word::Assigned(..) => true,
            Word::Unknown(text) => {
                let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                inside.is_some_and(|inside| !inside.contains(['"', '@']))
            }
            Word::Fed(_) => false,
        }
    }

    /// As it is known or written.
    pub fn text(&self) -> &str {
        match self {
            Word::Literal(text) | Word::Unknown(text) | Word::Assigned(text, _) | Word::Fed(text) => text,
        }
    }
}

/// A word with what keeps it from being plain.
pub struct Read {
    pub word: Word,
    pub unproven: Option<&'static str>,
}

/// Reads the word at `node`.
pub fn read(node: Node<'_>, text: &str) -> Read {
    let mut unproven = None;
    let raw = &text[node.byte_range()];
    let word = match literal(node, text, &mut unproven) {
        // Braces make several words of one, so none of them is what is written.
        Some(_) if node.kind() != "raw_string" && node.kind() != "string" && has_braces(node, text) => {
            unproven = Some("a brace expansion");
            Word::Unknown(raw.to_owned())
        }
        Some(literal) => Word::Literal(literal),
        None => {
            unproven.get_or_insert("an expansion");
            Word::Unknown(raw.to_owned())
        }
    };
    Read { word, unproven }
}

fn literal(node: Node<'_>, text: &str, unproven: &mut Option<&'static str>) -> Option<String> {
    let raw = &text[node.byte_range()];
    match node.kind() {
        "word" | "number" => {
            if node.named_child_count() > 0 {
                return None;
            }
            if raw.contains('\\') {
                *unproven = Some("a backslash");
            }
            Some(unescaped(raw))
        }
        "raw_string" => Some(raw.strip_prefix('\'')?.strip_suffix('\'')?.to_owned()),
        "ansi_c_string" => {
            *unproven = Some("a string with escapes");
            ansi_c(raw.strip_prefix("$'")?.strip_suffix('\'')?)
        }
        "string" => {
            let mut cursor = node.walk();
            if node.named_children(&mut cursor).any(|child| child.kind() != "string_content") {
                return None;
            }
            let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
            if inner.contains('\\') {
                *unproven = Some("a backslash");
            }
            Some(unescaped_in_quotes(inner))
        }
        "concatenation" => {
            let mut cursor = node.walk();
            let parts: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
            // What lies between the parts is quoting that is not understood.
            let covered: usize = parts.iter().map(|part| part.byte_range().len()).sum();
            if covered != raw.len() {
                return None;
            }
            parts.into_iter().map(|part| literal(part, text, unproven)).collect()
        }
        _ => None,
    }
}

/// `{a,b}` and `{1..3}` outside of quotes.
pub fn has_braces(node: Node<'_>, text: &str) -> bool {
    match node.kind() {
        "word" | "number" | "brace_expression" => {
            let raw = &text[node.byte_range()];
            raw.contains('{') && (raw.contains(',') || raw.contains(".."))
        }
        "concatenation" => {
            let mut cursor = node.walk();
            let bare: String = node
                .named_children(&mut cursor)
                .filter(|part| matches!(part.kind(), "word" | "number" | "brace_expression"))
                .map(|part| &text[part.byte_range()])
                .collect();
            bare.contains('{') && (bare.contains(',') || bare.contains(".."))
        }
        _ => false,
    }
}

/// A word in which the shell puts names of files for signs outside of quotes: `*.rs`, `[ab]?`.
pub fn glob(node: Node<'_>, text: &str) -> Option<String> {
    let is_bare = |part: Node<'_>| {
        let raw = text[part.byte_range()].replace("\\*", "").replace("\\?", "").replace("\\[", "");
        matches!(part.kind(), "word" | "extglob_pattern") && raw.contains(['*', '?', '['])
    };
    let mut cursor = node.walk();
    let has_glob = match node.kind() {
        "concatenation" => node.named_children(&mut cursor).any(is_bare),
        _ => is_bare(node),
    };
    let word = has_glob.then(|| literal(node, text, &mut None)).flatten()?;
    Some(word)
}

fn unescaped(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(next) => out.push(next),
            },
            other => out.push(other),
        }
    }
    out
}

pub fn unescaped_in_quotes(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('\n')) => {
                chars.next();
            }
            ('\\', Some(next @ ('$' | '`' | '"' | '\\'))) => {
                out.push(*next);
                chars.next();
            }
            (other, _) => out.push(other),
        }
    }
    out
}

/// The inside of `$'…'`; `None` for escapes that are not understood.
fn ansi_c(raw: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let code = rest.chars().next()?;
        rest = &rest[code.len_utf8()..];
        let digits = |rest: &str, radix: u32, max: usize| {
            rest.bytes().take(max).take_while(|byte| char::from(*byte).is_digit(radix)).count()
        };
        match code {
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            'r' => out.push(b'\r'),
            'a' => out.push(7),
            'b' => out.push(8),
            'e' | 'E' => out.push(27),
            'f' => out.push(12),
            'v' => out.push(11),
            '\\' | '\'' | '"' | '?' => out.push(code as u8),
            'x' => {
                let n = digits(rest, 16, 2);
                out.push(u8::from_str_radix(&rest[..n], 16).ok()?);
                rest = &rest[n..];
            }
            'u' | 'U' => {
                let n = digits(rest, 16, if code == 'u' { 4 } else { 8 });
                let c = char::from_u32(u32::from_str_radix(&rest[..n], 16).ok()?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[n..];
            }
            '0'..='7' => {
                let n = digits(rest, 8, 2);
                let octal = format!("{code}{}", &rest[..n]);
                out.push((u32::from_str_radix(&octal, 8).ok()? & 0xff) as u8);
                rest = &rest[n..];
            }
            _ => return None,
        }
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).ok()
}
