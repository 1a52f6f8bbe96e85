//! Scripts of `sed`, as far as it matters whether they run commands or write files. Read by the grammar of GNU's; what is not
//! understood is said to be so, and who restricts takes it for a script that runs anything. Pure.
//!
//! Source: sed(1); GNU sed manual, "Commands that require a newline"; `match_slash` and `read_text` of its `compile.c`.

/// How a delimiter in brackets is read: `s/[/]/x/`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Brackets {
    /// It is one of the letters in them: GNU's since 4.3, and busybox.
    Hold,
    /// It ends the expression.
    Part,
}

/// Whether a script plainly runs commands or writes files.
pub fn runs(script: &str) -> bool {
    [Brackets::Hold, Brackets::Part]
        .into_iter()
        .any(|brackets| Reader { rest: script, brackets }.script() == Some(true))
}

/// Whether it may: also where it is not understood.
pub fn may_run(script: &str) -> bool {
    runs(script) || Reader { rest: script, brackets: Brackets::Hold }.script().is_none()
}

struct Reader<'a> {
    rest: &'a str,
    brackets: Brackets,
}

impl Reader<'_> {
    /// Whether it runs anything; `None` where it is not understood.
    fn script(&mut self) -> Option<bool> {
        loop {
            self.skip(|c| c.is_whitespace() || c == ';');
            if self.rest.is_empty() {
                return Some(false);
            }
            self.addresses()?;
            let command = self.next()?;
            match command {
                'e' | 'w' | 'W' => return Some(true),
                '{' | '}' => {}
                '=' | 'd' | 'D' | 'g' | 'G' | 'h' | 'H' | 'n' | 'N' | 'p' | 'P' | 'x' | 'z' | 'F' => self.end()?,
                'q' | 'Q' | 'l' | 'L' | 'v' => {
                    self.skip(|c| matches!(c, ' ' | '\t' | '.') || c.is_ascii_digit());
                    self.end()?;
                }
                's' => {
                    let delimiter = self.delimiter()?;
                    self.expression(delimiter)?;
                    self.replacement(delimiter)?;
                    let flags = self.skip(|c| c.is_ascii_digit() || "gpiImMew".contains(c));
                    if flags.contains(['e', 'w']) {
                        return Some(true);
                    }
                    self.end()?;
                }
                'y' => {
                    let delimiter = self.delimiter()?;
                    self.replacement(delimiter)?;
                    self.replacement(delimiter)?;
                    self.end()?;
                }
                // A label ends where the next command begins.
                ':' | 'b' | 't' | 'T' => {
                    self.skip(|c| matches!(c, ' ' | '\t'));
                    self.skip(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
                    self.end()?;
                }
                'a' | 'i' | 'c' => self.text()?,
                'r' | 'R' | '#' => drop(self.skip(|c| c != '\n')),
                _ => return None,
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn skip(&mut self, is_one: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !is_one(c)).unwrap_or(self.rest.len());
        let (skipped, rest) = self.rest.split_at(end);
        self.rest = rest;
        skipped
    }

    /// What may stand behind a command on its line: nothing, or another one.
    fn end(&mut self) -> Option<()> {
        self.skip(|c| matches!(c, ' ' | '\t' | '\r'));
        (self.rest.is_empty() || self.rest.starts_with([';', '\n', '}', '#'])).then_some(())
    }

    /// What a command is for: a line, a range, all but those.
    fn addresses(&mut self) -> Option<()> {
        let blank = |c| matches!(c, ' ' | '\t');
        loop {
            let before = self.rest.len();
            if self.rest.starts_with('/') {
                self.next();
                self.expression('/')?;
                self.skip(|c| matches!(c, 'I' | 'M'));
            } else if self.rest.starts_with('\\') {
                self.next();
                let delimiter = self.delimiter()?;
                self.expression(delimiter)?;
                self.skip(|c| matches!(c, 'I' | 'M'));
            }
            self.skip(|c| c.is_ascii_digit() || "$+~".contains(c));
            self.skip(blank);
            self.skip(|c| c == ',' || c == '!');
            self.skip(blank);
            if self.rest.len() == before {
                return Some(());
            }
        }
    }

    fn delimiter(&mut self) -> Option<char> {
        self.next().filter(|c| !matches!(c, '\n' | '\\'))
    }

    /// A regular expression, with its end.
    fn expression(&mut self, delimiter: char) -> Option<()> {
        loop {
            match self.next()? {
                c if c == delimiter => return Some(()),
                '\\' => drop(self.next()?),
                '\n' => return None,
                '[' if self.brackets == Brackets::Hold => self.bracket()?,
                _ => {}
            }
        }
    }

    /// The rest of `[…]`. A bracket that has no end on its line is one letter as any other.
    fn bracket(&mut self) -> Option<()> {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let mut at = line.len() - line.trim_start_matches('^').len().max(line.len().saturating_sub(1));
        at += usize::from(line[at..].starts_with(']'));
        loop {
            let inner = &line[at..];
            let step = inner.find([']', '['])?;
            at += step + 1;
            if inner[step..].starts_with(']') {
                self.rest = &self.rest[at..];
                return Some(());
            }
            // A class: `[:alpha:]`, `[.x.]`, `[=x=]`.
            if let Some(mark) = line[at..].chars().next().filter(|mark| ":.=".contains(*mark)) {
                let end = format!("{mark}]");
                at += 1 + line[at + 1..].find(&end)? + end.len();
            }
        }
    }

    /// A replacement, with its end: no brackets, and a line break only behind a backslash.
    fn replacement(&mut self, delimiter: char) -> Option<()> {
        loop {
            match self.next()? {
                c if c == delimiter => return Some(()),
                '\\' => drop(self.next()?),
                '\n' => return None,
                _ => {}
            }
        }
    }

    /// Text to insert: up to the first line break that no backslash precedes; `a\` and a line break begin it. With blanks between
    /// the two GNU's reads an empty text and others do not: what follows is a command or the text.
    fn text(&mut self) -> Option<()> {
        self.skip(|c| matches!(c, ' ' | '\t'));
        if let Some(behind) = self.rest.strip_prefix('\\') {
            let blanks = behind.len() - behind.trim_start_matches(|c: char| c.is_whitespace() && c != '\n').len();
            match behind[blanks..].strip_prefix('\n') {
                Some(text) if blanks == 0 => self.rest = text,
                Some(_) => return None,
                None => {}
            }
        }
        while let Some(c) = self.next() {
            match c {
                '\\' => drop(self.next()),
                '\n' => return Some(()),
                _ => {}
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_a_command_or_writes_a_file_is_found() {
        for script in [
            "1e git push",
            "e",
            "w x",
            "/a/w x",
            "s/a/b/e",
            "s/a/b/gw x",
            "\\a.ae git push",
            "\\#.#e x",
            "\\sxse x",
            "s/[/]/x/;e x",
            "/[/]/!e x",
            "1i\\\ns/\ne x",
            "1a hi\\\n# \\\ns,\ne x",
            "s|a|b|;e x",
            "p;1,2{e x\n}",
            ":a;e x",
            "y/a/b/;e x",
            "1!{p;e x",
            "s/[/;e x",
            "s/[/\"]/;e x;s/]/x/",
            "\\:x:e x",
            "# s/\ne x",
            // An empty text for GNU's.
            "a\\ \ne git push",
            "1i \\ \t \ne git push",
            "$!c\\\r\ne git push",
        ] {
            assert!(may_run(script), "{script}");
        }
        assert!(runs("1e x") && runs("s/a/b/w f") && !runs("k"), "only what is plain");
    }

    #[test]
    fn what_is_not_understood_may_run() {
        for script in ["k", "s/a/b", "s/a\nb/c/", "s/a/b/k", "/a", "p p", "\\", "s", "1,2", "y/a/b/c"] {
            assert!(may_run(script) && !runs(script), "{script}");
        }
    }

    #[test]
    fn ordinary_scripts_run_nothing() {
        for script in [
            "",
            "p",
            "10,20p",
            "$p",
            "$!N;P;D",
            "1!G;h;$!d",
            "/^#/d",
            "/a/,/b/p",
            "0~3d",
            "1,+4p",
            "/x/I{n;s/a/b/}",
            "s/[^/]*$//",
            "s,[^,]*,x,g",
            "s/[]/]/x/",
            "s/[[:space:]/]*$//",
            "s/\\[x\\]/y/2g",
            "s|/a|/b|;s#c#d#",
            ":a;N;$!ba;s/\\n/ /g",
            "/x/{s/a/b/;t end\ns/c/d/\n:end\n}",
            "a\\\nhello \\\ne more",
            "a\\\ne more",
            "a\\  e more",
            "i hello e",
            "c text",
            "r other.txt",
            "y/abc/xyz/",
            "/a/!d",
            "s/a/b/ # says why",
            "q5",
            "s/\"/'/g",
            "n;d",
            "/^$/d;s/^ *//;p",
            "s/x/a\\\nb/",
            "1,/^$/ d",
            "\\,^/usr,d",
            "l 3",
            "/start/,/end/ { /x/d ; s/a/b/ }",
        ] {
            assert!(!may_run(script), "{script}");
        }
    }
}
