//! What of a template's code would let values grow that nobody sees: a rule on its words and signs, before it is compiled. What is
//! written has a bound of its own, and so has what filters make ([`crate::filters`]), but minijinja's operators have none, and a name for
//! what they gave (`{% set b = a ~ a %}`) doubles with each line. So the rule is:
//!
//! - Names are given by `for` and `set` only, a few by `set`, and never to what `~`, `+` or a list made: to a value of the plan, a part of
//!   one, what a filter makes of it, a number, or a list of literals. `+ 1` is possible, because a number is no text.
//! - Between other braces a few values are joined, each once: the result is as many times as long, and gone when it is written.
//! - Nothing is repeated by `*`, and nothing of what is written is caught in a name or a filter: no `{% set x %}…{% endset %}`.
//!
//! A text in a plan that needs more is made by the task itself.

use std::ops::Range;

use crate::code_spans::{Code, Excess, spans, string_bytes};

/// `~`, `+` and names in lists between one pair of braces.
const JOINTS_MAX: usize = 16;

/// `{% set … %}` of one text: each may hold what a filter makes of the one before.
const SETS_MAX: usize = 64;

/// Words of the language: what follows them begins a value.
const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "else", "elif", "true", "false", "none", "recursive"];

/// What a text's code would let grow, the first of it: where it stands, and what to say about it.
pub(crate) fn growth(text: &str, code: Code) -> Option<Excess> {
    let mut sets = 0;
    for span in spans(text, code) {
        let is_statement = code == Code::Braces && text[..span.start].ends_with("{%");
        let tokens = tokens(text, span.clone());
        let part = Part { text, tokens: &tokens };
        let found = match (is_statement, part.word(0)) {
            (true, "set") => {
                sets += 1;
                let many = || (span.clone(), format!("more than {SETS_MAX} `set` are not possible in one text"));
                if sets > SETS_MAX { Some(many()) } else { part.bound("set") }
            }
            (true, "for") => part.bound("for"),
            (true, "if" | "elif" | "else" | "endif" | "endfor") | (false, _) => part.shown(&span),
            // That is no statement at all: minijinja knows better what to say.
            (true, "") => None,
            (true, word) => Some((span, format!("`{{% {word} %}}` is not possible in a plan"))),
        };
        if let Some((at, message)) = found {
            return Some(Excess { at, message });
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Literal,
    Sign(u8),
}

struct Token {
    kind: Kind,
    at: Range<usize>,
}

/// As minijinja reads it: the signs that strip whitespace at both ends of a tag are none of its code.
fn tokens(text: &str, span: Range<usize>) -> Vec<Token> {
    let bytes = text.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
    let (mut at, mut tokens) = (span.start, Vec::new());
    if matches!(bytes.get(at), Some(b'-' | b'+')) && at < span.end {
        at += 1;
    }
    while at < span.end {
        let rest = &bytes[at..span.end];
        let of_word = rest.iter().take_while(|byte| is_word(**byte)).count();
        let (kind, length) = match rest[0] {
            b'"' | b'\'' => (Kind::Literal, string_bytes(rest)),
            byte if byte.is_ascii_digit() => {
                let behind = rest.get(of_word + 1).is_some_and(u8::is_ascii_digit) && rest[of_word] == b'.';
                let more = rest.iter().skip(of_word + 1).take_while(|byte| is_word(**byte)).count();
                (Kind::Number, if behind { of_word + 1 + more } else { of_word })
            }
            byte if is_word(byte) => (Kind::Word, of_word),
            sign => (Kind::Sign(sign), 1),
        };
        if !rest[0].is_ascii_whitespace() {
            tokens.push(Token { kind, at: at..at + length });
        }
        at += length;
    }
    if matches!(tokens.last(), Some(Token { kind: Kind::Sign(b'-' | b'+'), .. })) {
        tokens.pop();
    }
    tokens
}

/// An open bracket.
struct Open {
    /// A list, a table, or a tuple; else a call, a part of something, or a mere group.
    is_list: bool,
    /// Of a part (`a[1:]`), which copies a text.
    is_part: bool,
}

/// The code between one pair of braces.
struct Part<'a> {
    text: &'a str,
    tokens: &'a [Token],
}

type Found = Option<(Range<usize>, String)>;

impl Part<'_> {
    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The word at a place; empty where there is none.
    fn word(&self, at: usize) -> &str {
        match self.tokens.get(at) {
            Some(Token { kind: Kind::Word, at }) => &self.text[at.clone()],
            _ => "",
        }
    }

    fn is_name(&self, at: usize) -> bool {
        let word = self.word(at);
        let before = at.checked_sub(1).and_then(|before| self.kind(before));
        !word.is_empty()
            && !KEYWORDS.contains(&word.to_ascii_lowercase().as_str())
            && !matches!(before, Some(Kind::Sign(b'.' | b'|')))
    }

    /// What the bracket at a place opens.
    fn opens(&self, at: usize) -> Open {
        let before = at.checked_sub(1);
        let follows_value = before.is_some_and(|before| match self.tokens[before].kind {
            Kind::Word => !KEYWORDS.contains(&self.word(before)),
            Kind::Number | Kind::Literal | Kind::Sign(b')' | b']' | b'}') => true,
            Kind::Sign(_) => false,
        });
        match self.tokens[at].kind {
            Kind::Sign(b'(') => Open { is_list: !follows_value && self.holds_comma(at), is_part: false },
            Kind::Sign(b'[') => Open { is_list: !follows_value, is_part: follows_value },
            _ => Open { is_list: true, is_part: false },
        }
    }

    fn holds_comma(&self, open: usize) -> bool {
        let mut depth = 0_usize;
        for token in &self.tokens[open..] {
            match token.kind {
                Kind::Sign(b'(' | b'[' | b'{') => depth += 1,
                Kind::Sign(b')' | b']' | b'}') if depth == 1 => return false,
                Kind::Sign(b')' | b']' | b'}') => depth -= 1,
                Kind::Sign(b',') if depth == 1 => return true,
                _ => {}
            }
        }
        false
    }

    /// Whether the `+` at a place has a number beside it, and nothing makes something else of that.
    fn adds_number(&self, at: usize) -> bool {
        let is_number = |at: usize| self.kind(at) == Some(Kind::Number);
        let more = matches!(self.kind(at + 2), Some(Kind::Sign(b'|' | b'[' | b'.' | b'(')));
        let left = at > 0 && is_number(at - 1) && !(at > 1 && self.kind(at - 2) == Some(Kind::Sign(b'.')));
        left || is_number(at + 1) && !more
    }

    /// Code whose value is written, or asked whether it is true: it is gone then.
    fn shown(&self, span: &Range<usize>) -> Found {
        let (mut open, mut joints): (Vec<Open>, usize) = (Vec::new(), 0);
        for (at, token) in self.tokens.iter().enumerate() {
            match token.kind {
                Kind::Sign(b'*') => return Some((token.at.clone(), "`*` is not possible in a template".to_owned())),
                Kind::Sign(b'~' | b'+') => joints += 1,
                Kind::Sign(b'(' | b'[' | b'{') => open.push(self.opens(at)),
                Kind::Sign(b')' | b']' | b'}') => drop(open.pop()),
                Kind::Word if open.iter().any(|open| open.is_list) => joints += usize::from(self.is_name(at)),
                _ => {}
            }
        }
        let many = || format!("here are {joints} `~`, `+` and names in lists, and {JOINTS_MAX} are possible at once");
        (joints > JOINTS_MAX).then(|| (span.clone(), many()))
    }

    /// Code whose value gets a name.
    fn bound(&self, statement: &str) -> Found {
        let no = |at: usize, what: &str| {
            Some((self.tokens[at].at.clone(), format!("{what} is not possible in `{{% {statement} %}}`")))
        };
        let (is_set, last) = (statement == "set", self.tokens.len() - 1);
        let is_value =
            |at: &usize| if is_set { self.kind(*at) == Some(Kind::Sign(b'=')) } else { self.word(*at) == "in" };
        let Some(value) = (1..=last).find(is_value) else {
            return is_set.then(|| no(0, "a text up to `{% endset %}`")).flatten();
        };
        if self.word(last) == "recursive" {
            return no(last, "`recursive`");
        }
        let mut open: Vec<Open> = Vec::new();
        for (at, token) in self.tokens.iter().enumerate().skip(value + 1) {
            let lists = open.iter().filter(|open| open.is_list).count();
            match token.kind {
                Kind::Sign(b'*') => return no(at, "`*`"),
                Kind::Sign(b'~') => return no(at, "`~`"),
                Kind::Sign(b'+') if !self.adds_number(at) => return no(at, "`+` of what is no number"),
                Kind::Sign(b',') if is_set && open.is_empty() => return no(at, "a list of values"),
                Kind::Sign(b':') if is_set && open.last().is_some_and(|open| open.is_part) => return no(at, "`:`"),
                // An item of a list that is walked through is no longer than it was.
                Kind::Word if lists > usize::from(!is_set) && self.is_name(at) => return no(at, "a name in a list"),
                Kind::Sign(b'(' | b'[' | b'{') => open.push(self.opens(at)),
                Kind::Sign(b')' | b']' | b'}') => drop(open.pop()),
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(growth(text, Code::Braces).map(|found| found.message).as_deref(), expected, "{text}");
    }

    #[test]
    fn ordinary_templates_may_be_written() {
        for text in [
            "{{ vars.a }}-{{ 'x-' ~ matrix.os ~ '-' ~ n + 1 }} {{+ a +}}",
            "{% if a in ['x', 'y', b] and (c or d) %}{{ a|replace('a', 'b')|upper }}{% elif x[1:] %}{% else %}{% endif %}",
            "{%- for file in needs.survey.outputs.files|sort if file.lines > 10 -%}{{ loop.index }}{% endfor %}",
            "{% for i in range(1, n + 1) %}{% endfor %}{% for os in ['linux', vars.other] %}{% endfor %}",
            "{% for key, value in vars.table|items %}{{ key }}={{ value }}{% endfor %}{% for x in xs[1:] %}{% endfor %}",
            "{% set n = loop.index0 + 1 %}{% set name = vars.name|default('x')|lower %}{% set l = ['a', 1, true] %}",
            "{% set x = a if b == 'c' else (d or e) %}{% set half = n / 2 - 1 %}{% set first = files[0].name %}",
            "{% raw %}{% filter x %}{{ a * b }}{% endraw %}",
        ] {
            check(text, None);
        }
        let most = format!("{{{{ a{} }}}}", " ~ a".repeat(JOINTS_MAX));
        check(&most, None);
    }

    #[test]
    fn names_are_given_to_nothing_that_was_joined() {
        check("{% set b = a ~ a %}", Some("`~` is not possible in `{% set %}`"));
        check("{%- set b = (a) + a -%}", Some("`+` of what is no number is not possible in `{% set %}`"));
        check("{% set b = 1|f + a.1 + a %}", Some("`+` of what is no number is not possible in `{% set %}`"));
        check("{% set b = a + 1|f %}", Some("`+` of what is no number is not possible in `{% set %}`"));
        for list in ["[a, a]", "{'x': a}", "(a, a)", "f([a])", "[['x', [a]]]"] {
            check(&format!("{{% set b = {list} %}}"), Some("a name in a list is not possible in `{% set %}`"));
        }
        check("{% set b = a, a %}", Some("a list of values is not possible in `{% set %}`"));
        check("{% set b = a[1:] %}", Some("`:` is not possible in `{% set %}`"));
        check("{% for b in [a ~ a] %}", Some("`~` is not possible in `{% for %}`"));
        check("{% for b in [[a, a]] %}", Some("a name in a list is not possible in `{% for %}`"));
        check("{% for b in a recursive %}", Some("`recursive` is not possible in `{% for %}`"));
        check("{% set b %}", Some("a text up to `{% endset %}` is not possible in `{% set %}`"));
        check("{% set b | upper %}", Some("a text up to `{% endset %}` is not possible in `{% set %}`"));
        for word in ["with", "filter", "autoescape", "do", "macro"] {
            check(&format!("{{% {word} a %}}"), Some(&format!("`{{% {word} %}}` is not possible in a plan")));
        }
        let sets = "{% set a = b %}".repeat(SETS_MAX);
        check(&sets, None);
        check(&format!("{sets}{{% set a = b %}}"), Some("more than 64 `set` are not possible in one text"));
    }

    #[test]
    fn a_few_values_are_joined_at_once() {
        check("{{ 'a' * 9 }}", Some("`*` is not possible in a template"));
        check("{% if a ** 9 %}", Some("`*` is not possible in a template"));
        let many = "here are 17 `~`, `+` and names in lists, and 16 are possible at once";
        check(&format!("{{{{ a{} }}}}", " ~ a".repeat(17)), Some(many));
        check(&format!("{{{{ [{}] }}}}", "a,".repeat(17)), Some(many));
        check(&format!("{{{{ f(({})) }}}}", "a,".repeat(17)), Some(many));
        check(&format!("{{{{ a in ['{}'] }}}}", "','".repeat(100)), None);
    }
}
