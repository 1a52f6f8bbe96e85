//! Programs of awk without their texts and regular expressions. Where a slash divides and where it begins an expression is told
//! by what stands before it; what is not told for sure, or what the awks of this world read each in its own way, is not
//! understood. Pure.
//!
//! Source: POSIX, awk, "Lexical Conventions"; gawk(1), mawk(1).

/// What stands for a text in quotes, where those are taken out.
pub const TEXT: char = '\u{1}';

/// Words behind which an expression begins.
const BEFORE_EXPRESSION: &[&str] = &["print", "printf", "return", "in", "case", "else", "do"];
/// Words behind which both may stand.
const UNSURE: &[&str] = &["getline", "length", "next", "nextfile", "exit", "BEGIN", "END", "delete", "default"];

/// What stands before a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// A value: it divides.
    Value,
    /// Nothing, or what wants a value: an expression begins.
    Nothing,
    /// Either.
    Unsure,
}

/// A program without what stands in quotes, which comes beside it, and without comments and regular expressions; `None` where it
/// is not understood.
pub fn without_texts(program: &str) -> Option<(String, Vec<String>)> {
    let (mut out, mut texts) = (String::new(), vec![]);
    let mut rest = program;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '#' => rest = &rest[rest.find('\n').unwrap_or(rest.len())..],
            '"' => {
                texts.push(text(&mut rest)?);
                out.push(TEXT);
            }
            '\\' => rest = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n"))?,
            '/' => match before(&out) {
                Before::Value => out.push('/'),
                Before::Nothing => {
                    expression(&mut rest)?;
                    out.push('0');
                }
                // Where both readings see the same, it does not matter.
                Before::Unsure if is_the_same(rest) => out.push('/'),
                Before::Unsure => return None,
            },
            TEXT => return None,
            c => out.push(c),
        }
    }
    Some((out, texts))
}

/// The rest of a text in quotes.
fn text(rest: &mut &str) -> Option<String> {
    let (mut found, mut chars) = (String::new(), rest.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                *rest = &rest[at + 1..];
                return Some(found);
            }
            '\n' => return None,
            '\\' => {
                found.push(c);
                found.push(chars.next()?.1);
            }
            c => found.push(c),
        }
    }
    None
}

/// The rest of a regular expression. A slash in brackets ends it for some awks and not for others.
fn expression(rest: &mut &str) -> Option<()> {
    let (mut chars, mut opened) = (rest.char_indices().peekable(), None);
    while let Some((at, c)) = chars.next() {
        match (c, opened) {
            ('\n', _) => return None,
            ('\\', _) => drop(chars.next()?),
            ('/', None) => {
                *rest = &rest[at + 1..];
                return Some(());
            }
            ('/', Some(_)) => return None,
            ('[', None) => {
                chars.next_if(|(_, c)| *c == '^');
                // The first one is a letter as any other.
                chars.next_if(|(_, c)| *c == ']');
                opened = Some(at);
            }
            (']', Some(_)) => opened = None,
            ('[', Some(_)) => {
                // A class ends with its own mark: `[:alpha:]`.
                if let Some((_, mark)) = chars.next_if(|(_, c)| matches!(c, ':' | '.' | '=')) {
                    while chars.next()?.1 != mark || chars.peek()?.1 != ']' {}
                    chars.next();
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether what follows a slash has no text, comment or bracket up to the next slash of its line.
fn is_the_same(rest: &str) -> bool {
    let line = rest.split('\n').next().unwrap_or_default();
    line.split_once('/').is_none_or(|(between, _)| !between.contains(['"', '#', '\\', '[']))
}

fn before(out: &str) -> Before {
    let front = out.trim_end_matches([' ', '\t', '\r']);
    let Some(last) = front.chars().next_back() else { return Before::Nothing };
    if front.ends_with("++") || front.ends_with("--") || last == ')' {
        return Before::Unsure;
    }
    if last == TEXT || matches!(last, ']' | '$') {
        return Before::Value;
    }
    if !(last.is_alphanumeric() || matches!(last, '_' | '.')) {
        return Before::Nothing;
    }
    let word = &front[front
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
        .map_or(0, |at| at + front[at..].chars().next().map_or(1, char::len_utf8))..];
    match word {
        word if BEFORE_EXPRESSION.contains(&word) => Before::Nothing,
        word if UNSURE.contains(&word) => Before::Unsure,
        _ => Before::Value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_expressions_are_taken_out() {
        let check = |program: &str, bare: &str| {
            let (out, _) = without_texts(program).expect(program);
            assert_eq!(out.replace(TEXT, "T"), bare, "{program}");
        };
        check("{print $1 / 2 \"a|b\"}", "{print $1 / 2 T}");
        check("/a|b/ && $2 ~ /\"/ {x = y/z}", "0 && $2 ~ 0 {x = y/z}");
        check("BEGIN{print /\"/; f(\"x\")}", "BEGIN{print 0; f(T)}");
        check("{ # it\"s\nf() # \"\n}", "{ \nf() \n}");
        check("{x = 1 + /\"/; y = -/[[:space:]\"]/}", "{x = 1 + 0; y = -0}");
        check("{print (a + b) / 2, n++ / 3}", "{print (a + b) / 2, n++ / 3}");
        check("{a[1] / b / c}", "{a[1] / b / c}");
        check("x ? /\"/ : /b/", "x ? 0 : 0");
    }

    #[test]
    fn what_may_be_read_in_two_ways_is_not_understood() {
        for program in [
            "/[/\"]/ {x=1}",
            "{print \"a}",
            "/a",
            "{if (x) /\"/; f(\"\")}",
            "{n++ /\"/ 2}",
            "{getline /\"/ x \"/\"}",
            "{print \"a\nb\"}",
            "{x = \\ y}",
            "{\u{1}}",
        ] {
            assert_eq!(without_texts(program), None, "{program}");
        }
    }
}
