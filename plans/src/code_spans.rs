//! What of a template is code, and whether it is more than may be compiled. minijinja reads chains of operators, and of `elif`,
//! into a tree as deep as the chain is long, and walks it by recursion: a template of 120 KB overflows the stack of a thread. So
//! the code between braces is bounded before it is compiled; texts around it, and between quotes, are as long as they like.
//!
//! The braces are found here as minijinja finds them: what it takes for code and this does not would escape the bound.
//! Source: minijinja, `compiler/lexer.rs`.

use std::ops::Range;

/// Words, signs and literals between one pair of braces, or of one expression. As many minus signs in a row, the deepest of all
/// chains, take two thirds of a thread's 2 MiB in a build that is not optimized.
const PARTS_MAX: usize = 500;

/// Brackets within each other. minijinja stops at 150, which is too late for the 2 MiB of such a build.
const NESTING_MAX: usize = 32;

/// `{% elif … %}` of one text: each lies within the one before.
const ELIFS_MAX: usize = 64;

/// Delimiters that no text contains by chance: there is no way to switch comments off.
pub(crate) const NO_COMMENT: (&str, &str) = ("{\u{1}#", "#\u{1}}");

/// What of a text is code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// What stands in braces.
    Braces,
    /// All of it.
    All,
}

/// Code that is too much: where it stands, and what to say about it.
pub(crate) struct Excess {
    /// Its bytes in the text.
    pub at: Range<usize>,
    /// What is too much of it.
    pub message: String,
}

/// The first code of a text that is more than may be compiled.
pub(crate) fn excess(text: &str, code: Code) -> Option<Excess> {
    let mut elifs = 0;
    for at in spans(text, code) {
        let Size { parts, nesting } = size_of(&text[at.clone()]);
        if parts > PARTS_MAX {
            let message = format!("this template has {parts} words and signs, and {PARTS_MAX} are possible");
            return Some(Excess { at, message });
        }
        if nesting > NESTING_MAX {
            let message = format!("brackets lie {nesting} deep in this template, and {NESTING_MAX} are possible");
            return Some(Excess { at, message });
        }
        elifs += usize::from(text[at.clone()].trim_start_matches(['-', '+']).trim_start().starts_with("elif"));
        if elifs > ELIFS_MAX {
            return Some(Excess { at, message: format!("more than {ELIFS_MAX} `elif` are not possible in one text") });
        }
    }
    None
}

/// Where code stands in a text; what is not closed goes on to the end.
pub(crate) fn spans(text: &str, code: Code) -> Vec<Range<usize>> {
    if code == Code::All {
        let whole = 0..text.len();
        return vec![whole];
    }
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some((open, kind)) = opening(text, at) {
        at = match kind {
            Opening::Comment => {
                let start = open + NO_COMMENT.0.len();
                text[start..].find(NO_COMMENT.1).map_or(text.len(), |end| start + end + NO_COMMENT.1.len())
            }
            Opening::Raw(start) => raw_end(text, start),
            Opening::Code(close) => {
                let span = open + 2..code_end(text, open + 2, close);
                let next = (span.end + close.len()).min(text.len());
                spans.push(span);
                next
            }
        };
    }
    spans
}

/// What begins with a brace.
enum Opening {
    Comment,
    /// What means nothing, from here on.
    Raw(usize),
    /// Code, up to these signs.
    Code(&'static str),
}

fn opening(text: &str, from: usize) -> Option<(usize, Opening)> {
    text[from..].match_indices('{').find_map(|(at, _)| {
        let open = from + at;
        let kind = match &text[open..] {
            rest if rest.starts_with("{{") => Opening::Code("}}"),
            rest if rest.starts_with(NO_COMMENT.0) => Opening::Comment,
            rest => {
                let behind = rest.strip_prefix("{%")?;
                let behind = behind.strip_prefix(['-', '+']).unwrap_or(behind);
                let raw = tag_end(behind, "raw").map(|rest| Opening::Raw(text.len() - rest.len()));
                raw.unwrap_or(Opening::Code("%}"))
            }
        };
        Some((open, kind))
    })
}

/// What stands behind a tag of one word.
fn tag_end<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = text.trim_start_matches(blank).strip_prefix(word)?.trim_start_matches(blank);
    rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")
}

fn raw_end(text: &str, start: usize) -> usize {
    let mut at = start;
    while let Some(open) = text[at..].find("{%") {
        at += open + 2;
        let behind = text[at..].strip_prefix(['-', '+']).unwrap_or(&text[at..]);
        if let Some(rest) = tag_end(behind, "endraw") {
            return text.len() - rest.len();
        }
    }
    text.len()
}

/// Where the signs stand that end code: outside of quotes and of all brackets.
fn code_end(text: &str, start: usize, close: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (start, 0_i64);
    while let Some(&byte) = bytes.get(at) {
        if open == 0 && bytes[at..].starts_with(close.as_bytes()) {
            return at;
        }
        match byte {
            b'"' | b'\'' => {
                at += string_bytes(&bytes[at..]);
                continue;
            }
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// How large code is; no part of its tree lies deeper than it has parts.
struct Size {
    /// Words, signs and literals.
    parts: usize,
    /// The most brackets that are open at once.
    nesting: usize,
}

fn size_of(code: &str) -> Size {
    let bytes = code.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let (mut at, mut open) = (0, 0_usize);
    let mut size = Size { parts: 0, nesting: 0 };
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' | b'\'' => string_bytes(&bytes[at..]),
            byte if is_word(byte) => bytes[at..].iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        size.nesting = size.nesting.max(open);
        size.parts += usize::from(!byte.is_ascii_whitespace());
    }
    size
}

/// The bytes of the string literal that a text begins with, quotes included; all of them where it has no end.
pub(crate) fn string_bytes(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if *byte == text[0] => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_minijinja_takes_for_it() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = spans(text, Code::Braces).into_iter().map(|span| &text[span]).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("echo ${#x} {{ a }} {%- if b -%} c {% endif %}", &[" a ", "- if b -", " endif "]);
        check("{{ '}}' ~ a }} b", &[" '}}' ~ a "]);
        check("{{ {'a': {'b': 1}} }} b", &[" {'a': {'b': 1}} "]);
        check("{% raw %}{{ a }}{% b %}{%- endraw -%}{{ c }}", &[" c "]);
        check("{%-raw%}{{ a }}", &[]);
        check("{% raws %}{{ a }}", &[" raws ", " a "]);
        check("{\u{1}# {% raw %} #\u{1}}{{ a }}", &[" a "]);
        check("{{ a 'b }} {{ c", &[" a 'b }} {{ c"]);
        check("ü{{ ü }}", &[" ü "]);
    }

    #[test]
    fn texts_are_as_long_as_they_like_and_code_is_not() {
        let check = |text: &str, expected: Option<&str>| {
            let found = excess(text, Code::Braces);
            assert_eq!(found.map(|excess| excess.message).as_deref(), expected);
        };
        let long = "a.".repeat(60_000);
        for text in [long.clone(), format!("{{% raw %}}{{{{ {long}{{% endraw %}}"), format!("{{{{ '{long}' }}}}")] {
            check(&text, None);
        }
        check(&"{{ a }}".repeat(10_000), None);
        let most = "a.".repeat(PARTS_MAX / 2);
        check(&format!("{{{{ {most} }}}}"), None);
        let over = "this template has 501 words and signs, and 500 are possible";
        for text in [format!("{{{{ {most}b }}}}"), format!("{{%{most}b%}}"), format!("x {{{{{most}b")] {
            check(&text, Some(over));
        }
        check(&format!("{{{{ '}}}}'{most} }}}}"), Some(over));
        let nested = |n| format!("{{{{ {}a{} }}}}", "(".repeat(n), ")".repeat(n));
        check(&nested(NESTING_MAX), None);
        check(&nested(33), Some("brackets lie 33 deep in this template, and 32 are possible"));
        let elifs = |n| format!("{{% if a %}}{}{{% endif %}}", "{%- elif b %}".repeat(n));
        check(&elifs(ELIFS_MAX), None);
        check(&elifs(ELIFS_MAX + 1), Some("more than 64 `elif` are not possible in one text"));
    }
}
