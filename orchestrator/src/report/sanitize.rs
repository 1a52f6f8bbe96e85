//! What workers wrote, made harmless. A terminal obeys what it is sent: it can be retitled, recoloured, made to answer as
//! if somebody typed, or to show a text in another order than it has. So nothing that a worker chose reaches a screen but
//! through here. Raw bytes stay in the log (`swarm logs --raw`).
//!
//! Source: ECMA-48 (control functions), Unicode UAX #9 (bidirectional controls).

/// One line of output as it may be shown: no escape sequences, no control, bidirectional or invisible characters; a tab is
/// four spaces; what is not UTF-8 becomes `U+FFFD`. Of a line that rewrites itself with carriage returns, the last
/// state stays. What a CI server would take for a command of its own is broken up.
pub fn line(bytes: &[u8]) -> String {
    shown(bytes, "    ")
}

/// The same of a log that is shown by itself, with its tabs: what it holds may be meant to be copied.
pub fn log_line(bytes: &[u8]) -> String {
    shown(bytes, "\t")
}

fn shown(bytes: &[u8], tab: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let last = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or("");
    let mut shown = String::with_capacity(last.len());
    let mut chars = last.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut chars),
            '\t' => shown.push_str(tab),
            c if is_deceptive(c) => {}
            c => shown.push(c),
        }
    }
    without_commands(shown)
}

/// JSON in which every character that a terminal obeys, or that shows a text otherwise than it is, is written as an escape. JSON
/// has those only in texts, so it says the same.
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_deceptive(c) && c != '\n' {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}"))),
            false => shown.push(c),
        }
    }
    shown
}

/// One line of a text that a person judges, a change above all: nothing of it is left out. What [`line`] would drop, and what
/// stands before a carriage return, is spelled out, because a compiler reads it; only tabs stay what they are.
pub fn whole_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let pieces: Vec<String> = text.split('\t').map(seen).collect();
    without_commands(pieces.join("\t"))
}

/// A text of several lines, each as [`whole_line`] shows it.
pub fn text(text: &str) -> String {
    text.split('\n').map(|line| whole_line(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// Commands that GitHub's runner takes from the start of a line that a step prints, behind any white space: `::error file=x::`.
/// Source: actions/runner, `ActionCommand.TryParseV2` and the commands that it registers.
const COMMANDS: &[&str] = &[
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "internal-set-repo-path",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "set-secret",
    "stop-commands",
    "warning",
];

/// What CI servers take for commands wherever it stands in a line: GitHub's older form, Azure's, TeamCity's.
const MARKS: &[&str] = &["##[", "##vso[", "##teamcity["];

/// A line in which no CI server finds a command: `: :error::` and `# #[group]` are only words.
fn without_commands(line: String) -> String {
    broken_up(line, |c| format!(" {c}"))
}

/// Where what a CI server would take for a command is broken up: before the second character of each, in order.
fn breaks(line: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let start = line.len() - line.trim_start().len();
    if let Some(rest) = line[start..].strip_prefix("::") {
        let name = rest.split([':', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        // Nobody knows what a command that stopped the others is called that lets them go on.
        if COMMANDS.contains(&name.as_str()) || rest.trim_end().ends_with("::") {
            found.push(start + 1);
        }
    }
    let bytes = line.as_bytes();
    let is_mark = |rest: &[u8]| {
        MARKS.iter().any(|mark| rest.get(..mark.len()).is_some_and(|it| it.eq_ignore_ascii_case(mark.as_bytes())))
    };
    found.extend(line.match_indices('#').filter(|(at, _)| is_mark(&bytes[*at..])).map(|(at, _)| at + 1));
    found
}

/// The line with something else for each character at [`breaks`].
fn broken_up(line: String, instead: impl Fn(char) -> String) -> String {
    let breaks = breaks(&line);
    if breaks.is_empty() {
        return line;
    }
    let (mut whole, mut from) = (String::with_capacity(line.len() + 8 * breaks.len()), 0);
    for at in breaks {
        let c = line[at..].chars().next().expect("each is before a character");
        whole.push_str(&line[from..at]);
        whole.push_str(&instead(c));
        from = at + c.len_utf8();
    }
    whole.push_str(&line[from..]);
    whole
}

/// The longest line that waits for its end, in bytes; a longer one is shown in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Output that comes in pieces, made harmless line by line.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    /// The end of what was shown of a line that is longer than waits, which may begin a command with what follows.
    held: String,
}

impl Lines {
    /// The lines that `bytes` complete, as they may be shown, each with its line feed.
    pub fn take(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut shown = String::new();
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let rest = self.pending.split_off(end + 1);
            let ended = std::mem::replace(&mut self.pending, rest);
            shown.push_str(&self.end(&ended));
            shown.push('\n');
        }
        if self.pending.len() > LINE_BYTES_MAX {
            let piece = std::mem::take(&mut self.pending);
            let mut whole = self.end(&piece);
            let longest = MARKS.iter().map(|mark| mark.len()).max().unwrap_or(0);
            let keep = whole.char_indices().rev().nth(longest).map_or(0, |(at, _)| at);
            self.held = whole.split_off(keep);
            shown.push_str(&whole);
        }
        shown
    }

    /// What never got its line feed.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        self.end(&rest)
    }

    /// The end of a line, behind what is held of its beginning.
    fn end(&mut self, bytes: &[u8]) -> String {
        without_commands(std::mem::take(&mut self.held) + &line(bytes))
    }
}

/// A name (task, path, branch) as it may be shown: what [`line`] would drop or break up is spelled out, so that two names never look
/// the same for that reason.
pub fn name(name: &str) -> String {
    broken_up(seen(name), |c| c.escape_unicode().to_string())
}

/// A text in which what nobody sees, or what acts on a screen, is spelled out.
fn seen(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_deceptive(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// A name as a word for the shell, for commands that a person may copy: the shell takes it for the very same name, and nothing
/// in it acts on the screen.
pub fn shell_word(word: &str) -> String {
    shell_bytes(word.as_bytes())
}

/// The same for a path, which need not be UTF-8.
///
/// Source: POSIX.1-2024, Shell Command Language, 2.2.4 "Dollar-Single-Quotes", as bash, zsh, ksh and busybox have them.
pub fn shell_bytes(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./=,@%+:".contains(byte);
    let acts = |text: &str| text.chars().any(is_deceptive) || !breaks(text).is_empty();
    match std::str::from_utf8(word) {
        Ok(text) if acts(text) => format!("$'{}'", spelled(word)),
        Ok(text) if !text.is_empty() && word.iter().all(plain) => text.to_owned(),
        Ok(text) => format!("'{}'", text.replace('\'', "'\\''")),
        Err(_) => format!("$'{}'", spelled(word)),
    }
}

/// A word between `$'` and `'`: what cannot be shown or is not UTF-8 byte by byte, as three octal digits, behind which a digit
/// may follow.
fn spelled(word: &[u8]) -> String {
    let octal = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let mut text = String::with_capacity(word.len() + 16);
    for chunk in word.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                // Behind the first of two, no CI server finds a command.
                c if is_deceptive(c) || c == '#' && text.ends_with('#') || c == ':' && text.ends_with(':') => {
                    text.push_str(&octal(c.encode_utf8(&mut [0; 4]).as_bytes()));
                }
                c => text.push(c),
            }
        }
        text.push_str(&octal(chunk.invalid()));
    }
    text
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// After ESC: a control sequence, a string, or a short escape (intermediates, then one final character).
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_control_sequence(chars);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            chars.next();
            skip_string(chars);
        }
        _ => {
            while chars.next_if(|c| ('\u{20}'..='\u{2f}').contains(c)).is_some() {}
            chars.next_if(|c| ('\u{30}'..='\u{7e}').contains(c));
        }
    }
}

/// Parameters and intermediates, then one final character. A sequence broken off by anything else ends there.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
    chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
}

/// Up to BEL, ST or the end of the line: an unfinished title must not swallow the next line, but may its own.
fn skip_string(chars: &mut Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

/// Characters that act on a screen instead of appearing on it, or that nobody can see.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_keeps_its_lines_and_nothing_else_that_acts() {
        assert_eq!(text("a\n\tb\u{9b}31m\u{1b}]0;x\u{7}\n"), "a\n\tb\\u{9b}31m\\u{1b}]0;x\\u{7}\n");
    }

    fn check(input: &[u8], expected: &str) {
        assert_eq!(line(input), expected, "{:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn sequences_of_terminals_disappear() {
        check(b"\x1b[31mred\x1b[0m", "red");
        check(b"\x1b]0;title\x07text", "text");
        check(b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link");
        check(b"\x1bP1$r\x1b\\a", "a");
        check(b"a\x1b(0b\x1b=c", "abc");
        check("\u{9b}2Jx".as_bytes(), "x");
        check(b"\x1b]52;c;unfinished", "");
        check(b"cut\x1b[38;5", "cut");
        check(b"bell\x07back\x08", "bellback");
    }

    #[test]
    fn a_line_that_rewrites_itself_shows_its_last_state() {
        check(b" 10%\r 50%\r100%", "100%");
        check(b"done\r\n", "done");
        check(b"\r\r", "");
    }

    #[test]
    fn commands_for_a_ci_server_are_only_words() {
        check(b"::error file=a::x", ": :error file=a::x");
        check(b"  ::Warning::x", "  : :Warning::x");
        check(b"\x1b[0m::set-output name=a::b", ": :set-output name=a::b");
        check(b"::a1b2c3::", ": :a1b2c3::");
        check(b"a ##[group]b ##VSO[task.x]", "a # #[group]b # #VSO[task.x]");
        check(b"##teamcity[x]", "# #teamcity[x]");
        check(b"::std::string x;", "::std::string x;");
        check(b"say ::error::x", "say ::error::x");
        check(b"## title [x]", "## title [x]");
    }

    #[test]
    fn names_are_no_commands_and_long_lines_are_looked_at_once() {
        assert_eq!(name("a/##VSO[x]"), "a/#\\u{23}VSO[x]");
        assert_eq!(name("::error::x"), ":\\u{3a}error::x");
        assert_eq!(name("a::b #[x] ## y"), "a::b #[x] ## y");
        assert_eq!(shell_word("##[x]"), "$'#\\043[x]'");
        assert_eq!(shell_word("::error::"), "$':\\072error:\\072'");
        let marks = "##[".repeat(1 << 20);
        let begun = std::time::Instant::now();
        assert_eq!(line(marks.as_bytes()).len(), marks.len() + (1 << 20));
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it takes time in proportion to the line");
    }

    #[test]
    fn a_command_in_two_pieces_of_a_long_line_is_none_either() {
        for cut in 0..14 {
            let mut lines = Lines::default();
            let before = vec![b'x'; LINE_BYTES_MAX + 1 - cut];
            let all = [&before[..], b"##\0teamcity[y]", &b"z".repeat(40)].concat();
            let (first, rest) = all.split_at(LINE_BYTES_MAX + 1);
            let shown = lines.take(first) + &lines.take(rest) + &lines.finish();
            assert!(
                shown.ends_with(&format!("x# #teamcity[y]{}", "z".repeat(40))),
                "{cut}: {}",
                &shown[LINE_BYTES_MAX..]
            );
        }
    }

    #[test]
    fn order_and_invisible_characters_cannot_deceive() {
        check("a\u{202e}b\u{2066}c\u{200b}d\u{feff}".as_bytes(), "abcd");
        check(b"\xff\xfe", "\u{fffd}\u{fffd}");
        check("grün 日本\tx".as_bytes(), "grün 日本    x");
        assert_eq!(log_line(b"a\t\x1b[31mb\r\n"), "a\tb");
        assert_eq!(name("a\nb\u{202e}\x1b[31m"), "a\\nb\\u{202e}\\u{1b}[31m");
    }

    #[test]
    fn who_judges_a_text_sees_all_of_it() {
        for (text, shown) in [
            ("+evil();\r+harmless();", "+evil();\\r+harmless();"),
            ("+a \u{1b}]0;; evil()\u{7} b", "+a \\u{1b}]0;; evil()\\u{7} b"),
            ("+if a\u{202e} \u{2066}// b\u{2069}", "+if a\\u{202e} \\u{2066}// b\\u{2069}"),
            ("+\tindented gr\u{fc}n", "+\tindented gr\u{fc}n"),
            (" ::error::x ##[group]", " : :error::x # #[group]"),
        ] {
            assert_eq!(whole_line(text.as_bytes()), shown);
        }
    }

    #[test]
    fn a_sequence_that_comes_in_pieces_disappears_all_the_same() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"a\x1b"), "");
        assert_eq!(lines.take(b"[31mb\nc\n\x1b]0;ti"), "ab\nc\n");
        assert_eq!(lines.take(b"tle\x07d"), "");
        assert_eq!(lines.finish(), "d");
        let shown = lines.take(&vec![b'x'; LINE_BYTES_MAX + 1]) + &lines.finish();
        assert_eq!(shown.len(), LINE_BYTES_MAX + 1);
    }

    #[test]
    fn words_for_the_shell_are_quoted_when_they_must_be() {
        assert_eq!(shell_word("build"), "build");
        assert_eq!(shell_word("build[os=a b]"), "'build[os=a b]'");
        assert_eq!(shell_word("it's"), "'it'\\''s'");
        assert_eq!(shell_word("a\n1\u{1b}'\\\u{202e}"), "$'a\\0121\\033\\'\\\\\\342\\200\\256'");
        assert_eq!(shell_bytes(b"gr\xfcn"), "$'gr\\374n'");
    }

    proptest! {
        #[test]
        fn no_bytes_get_a_control_through(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let shown = line(&bytes);
            prop_assert!(!shown.chars().any(is_deceptive), "{shown:?}");
            prop_assert_eq!(line(shown.as_bytes()), shown);
        }

        #[test]
        fn no_text_gets_a_control_through(text in "(\u{1b}|\u{9b}|\\[|\\]|;|[0-9]|m|\u{7}|\r|\u{202e}|x){0,40}") {
            prop_assert!(!line(text.as_bytes()).chars().any(is_deceptive));
        }
    }
}
