//! What the variables of a script hold, where that can be told without running it: plain assignments, the lists of `for`, and
//! programs whose output has a known form. Used against a script only: what a variable may hold is held against what restricts,
//! and nothing is ever proved by it.
//!
//! A variable that something else sets (`read`, `$(…)`, arithmetic of its subscript) is not known, and where a name that nobody
//! knows may be set, none is. One that the script does not set is the environment's; a word that begins with a folder which it
//! names (`"$VENV/bin/activate"`) is a path below that, and nothing else is known of it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use tree_sitter::Node;

use super::{SCRIPT_BYTES_MAX, Word, braces, has_token, redirects, word};

/// The most texts that one word, or one command, may stand for.
pub const VALUES_MAX: usize = 16;
/// How often variables are looked for in each other's values.
const ROUNDS_MAX: usize = 8;
/// The most bytes of texts that are put together for all variables of a script, and once more for all of its words.
const TEXTS_BYTES_MAX: usize = 4 * SCRIPT_BYTES_MAX;

/// How many bytes of texts may still be put together: a variable of variables holds much more than is written. Where there is no
/// room left, nothing is known.
#[derive(Debug)]
pub struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Room(TEXTS_BYTES_MAX)
    }
}

impl Room {
    fn take(&mut self, texts: &[String]) -> Option<()> {
        let bytes = texts.iter().map(|text| text.len() + 1).sum();
        self.0 = self.0.saturating_sub(bytes);
        (self.0 > 0).then_some(())
    }
}

/// What variables hold.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// By name, all that it may hold; `None` for what is set to something that nobody knows.
    set: HashMap<String, Option<Vec<String>>>,
    /// Something sets variables whose names nobody knows.
    any: bool,
    /// Names that are functions.
    functions: HashSet<String>,
    /// From this byte on, a file that was sourced may have set any of them.
    sourced: Option<usize>,
}

/// A part of a word.
enum Piece {
    /// One of these.
    Texts(Vec<String>),
    /// A variable that the script does not set.
    Environment(String),
}

/// What sets a variable.
enum Setting<'t> {
    /// An assignment, to nothing without a node.
    Value(Option<Node<'t>>),
    /// Something that nobody knows.
    Unknown,
}

impl Values {
    /// The variables of a script inside of what `outer` holds for.
    pub fn read(root: Node<'_>, text: &str, outer: &Values) -> Values {
        let mut found = Settings { values: outer.clone(), of: HashMap::new(), text, has_functions: false };
        // Where in the text around it stands nobody knows here.
        found.values.any |= root.has_error() || found.values.sourced.take().is_some();
        found.gather(root);
        let Settings { mut values, of, has_functions, .. } = found;
        values.sourced = values.sourced.map(|from| if has_functions { 0 } else { from });
        // What a name may hold outside may be what it holds inside.
        let outside = values.set.clone();
        let names: Vec<&String> = of.keys().collect();
        names.iter().for_each(|name| drop(values.set.insert((*name).clone(), None)));
        for _ in 0..ROUNDS_MAX {
            let mut room = Room::default();
            let mut all: Vec<_> =
                names.iter().map(|name| values.all(name, &of[*name], &outside, text, &mut room)).collect();
            if room.0 == 0 {
                all.fill(None);
            }
            let before = values.set.clone();
            names.iter().zip(all).for_each(|(name, all)| drop(values.set.insert((*name).clone(), all)));
            if values.set == before || room.0 == 0 {
                break;
            }
        }
        values
    }

    /// All that a name may hold.
    fn all(
        &self,
        name: &str,
        settings: &[Setting<'_>],
        outside: &HashMap<String, Option<Vec<String>>>,
        text: &str,
        room: &mut Room,
    ) -> Option<Vec<String>> {
        let mut all = outside.get(name).cloned().unwrap_or(Some(vec![]))?;
        for setting in settings {
            match setting {
                Setting::Unknown => return None,
                Setting::Value(None) => all.push(String::new()),
                Setting::Value(Some(node)) => all.extend(self.of(*node, text, room)?),
            }
        }
        all.sort();
        all.dedup();
        (all.len() <= VALUES_MAX).then_some(all)
    }

    /// All that a word may be, when that is known; a text that is longer than a script may be is not.
    pub fn of(&self, node: Node<'_>, text: &str, room: &mut Room) -> Option<Vec<String>> {
        let mut pieces = vec![];
        self.pieces(node, text, false, &mut pieces, room)?;
        let mut texts = vec![String::new()];
        for at in 0..pieces.len() {
            let next = match &pieces[at] {
                Piece::Texts(next) => Cow::Borrowed(next),
                // A folder that the environment names.
                Piece::Environment(name) => match pieces.get(at + 1) {
                    Some(Piece::Texts(behind)) if at == 0 && behind.iter().all(|text| text.starts_with('/')) => {
                        Cow::Owned(vec![format!("/{name}")])
                    }
                    _ => return None,
                },
            };
            if texts.len() * next.len() > VALUES_MAX {
                return None;
            }
            match next.as_slice() {
                [more] => texts.iter_mut().for_each(|front| front.push_str(more)),
                next => {
                    let behind =
                        |front: &String| next.iter().map(move |more| format!("{front}{more}")).collect::<Vec<_>>();
                    texts = texts.iter().flat_map(behind).collect();
                }
            }
            if texts.iter().any(|text| text.len() > SCRIPT_BYTES_MAX) {
                return None;
            }
        }
        room.take(&texts).map(|()| texts)
    }

    fn pieces(&self, node: Node<'_>, text: &str, quoted: bool, found: &mut Vec<Piece>, room: &mut Room) -> Option<()> {
        let raw = &text[node.byte_range()];
        let mut cursor = node.walk();
        match node.kind() {
            // Braces make several words of one.
            "word" | "concatenation" if word::has_braces(node, text) => return None,
            "string" => {
                let (mut at, end) = (node.start_byte() + 1, node.end_byte().checked_sub(1)?);
                for child in node.named_children(&mut cursor).filter(|child| child.kind() != "string_content") {
                    found.push(Piece::Texts(vec![word::unescaped_in_quotes(text.get(at..child.start_byte())?)]));
                    self.pieces(child, text, true, found, room)?;
                    at = child.end_byte();
                }
                found.push(Piece::Texts(vec![word::unescaped_in_quotes(text.get(at..end)?)]));
                found.retain(|piece| !matches!(piece, Piece::Texts(texts) if texts.iter().all(String::is_empty)));
            }
            "concatenation" => {
                let parts: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
                if parts.iter().map(|part| part.byte_range().len()).sum::<usize>() != raw.len() {
                    return None;
                }
                parts.into_iter().try_for_each(|part| self.pieces(part, text, quoted, found, room))?;
            }
            "simple_expansion" | "expansion" => {
                let bare = raw.strip_prefix('$')?;
                let bare = bare.strip_prefix('{').map_or(Some(bare), |bare| bare.strip_suffix('}'))?;
                let is_sourced = self.sourced.is_some_and(|from| node.start_byte() >= from);
                let held = self.variable(bare, quoted, is_sourced)?;
                if let Piece::Texts(texts) = &held {
                    room.take(texts)?;
                }
                found.push(held);
            }
            "arithmetic_expansion" => found.push(Piece::Texts(vec!["0".to_owned()])),
            "command_substitution" => found.push(Piece::Texts(vec![self.output(node, text)?.to_owned()])),
            _ => found.push(Piece::Texts(vec![word::read(node, text).word.literal()?.to_owned()])),
        }
        Some(())
    }

    fn variable(&self, name: &str, quoted: bool, is_sourced: bool) -> Option<Piece> {
        // Once it is unset, it is a variable as any other.
        let is_special = !self.set.contains_key(name);
        let numbers = is_special
            && matches!(name, "$" | "!" | "?" | "#" | "RANDOM" | "SECONDS" | "LINENO" | "UID" | "EUID" | "PPID");
        if numbers {
            return Some(Piece::Texts(vec!["0".to_owned()]));
        }
        if self.any || is_sourced || !is_name(name) {
            return None;
        }
        if name == "_" || name.starts_with("BASH_") || matches!(name, "OLDPWD" | "DIRSTACK" | "REPLY" | "FUNCNAME") {
            return None;
        }
        let places = match name {
            "HOME" => Some("/home"),
            "PWD" => Some("."),
            "TMPDIR" => Some("/tmp"),
            _ => None,
        };
        let texts = match (self.set.get(name), places) {
            (Some(known), _) => known.clone()?,
            (None, Some(place)) => vec![place.to_owned()],
            (None, None) => return Some(Piece::Environment(name.to_owned())),
        };
        // Outside of quotes it may be several words, or none.
        let is_whole = |text: &String| !text.is_empty() && !text.contains(char::is_whitespace);
        (quoted || (texts.iter().all(is_whole) && !self.set.contains_key("IFS"))).then_some(Piece::Texts(texts))
    }

    /// Something of the form that a program prints, where nothing else can come of it.
    fn output(&self, node: Node<'_>, text: &str) -> Option<&'static str> {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let [command] = children.as_slice() else { return None };
        if command.kind() != "command" || command.child_by_field_name("redirect").is_some() {
            return None;
        }
        let words = words(*command, text);
        let words: Vec<&str> = words.iter().map(Word::literal).collect::<Option<_>>()?;
        let (name, arguments) = words.split_first()?;
        let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+%:~^@{}".contains(c));
        if self.any || self.functions.contains(*name) || !arguments.iter().all(plain) {
            return None;
        }
        match (*name, arguments) {
            ("mktemp", _) => Some("/tmp/tmp.x"),
            ("pwd", []) => Some("."),
            ("git", ["rev-parse", "--show-toplevel"]) => Some("."),
            ("git", ["rev-parse", rest @ ..]) => rest.iter().all(is_commit).then_some("0a1b2c"),
            ("git", ["rev-list", "--count", ..]) | ("nproc" | "id", _) => Some("1"),
            ("date", arguments) => arguments.iter().all(|argument| is_time(argument)).then_some("1"),
            ("seq", numbers) => {
                let is_number = |text: &&str| text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.'));
                numbers.iter().all(is_number).then_some("1")
            }
            ("uname" | "arch" | "hostname" | "whoami", _) => Some("x"),
            _ => None,
        }
    }
}

/// What sets variables in a script, as it is gathered.
struct Settings<'t> {
    values: Values,
    of: HashMap<String, Vec<Setting<'t>>>,
    text: &'t str,
    /// What stands earlier may run later.
    has_functions: bool,
}

/// Builtins that set the variables which they name.
const SETTERS: &[&str] = &["read", "mapfile", "readarray", "getopts", "let", "unset", "wait"];

impl<'t> Settings<'t> {
    fn gather(&mut self, node: Node<'t>) {
        match node.kind() {
            "variable_assignment" => self.assignment(node),
            "for_statement" => self.list(node),
            "expansion" if has_token(node, ":=") || has_token(node, "=") => {
                let name = node.named_child(0).map(|name| &self.text[name.byte_range()]);
                self.unknown(name.unwrap_or_default());
            }
            "function_definition" => {
                let name = node.child_by_field_name("name").map(|name| &self.text[name.byte_range()]);
                self.values.functions.extend(name.map(str::to_owned));
                self.has_functions = true;
            }
            "declaration_command" => self.declaration(node),
            "command" => self.command(node),
            _ => {}
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'t>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.gather(child));
    }

    fn set(&mut self, name: &str, setting: Setting<'t>) {
        self.of.entry(name.to_owned()).or_default().push(setting);
    }

    /// A variable that is set to what nobody knows, by what may be its name.
    fn unknown(&mut self, name: &str) {
        let name = name.split('[').next().unwrap_or(name);
        if is_name(name) {
            self.set(name, Setting::Unknown);
        }
    }

    fn assignment(&mut self, node: Node<'t>) {
        let Some(name) = node.child_by_field_name("name") else { return };
        let written = &self.text[name.byte_range()];
        match node.child_by_field_name("value") {
            _ if name.kind() != "variable_name" || has_token(node, "+=") => self.unknown(written),
            value => self.set(written, Setting::Value(value)),
        }
    }

    fn list(&mut self, node: Node<'t>) {
        let Some(name) = node.child_by_field_name("variable") else { return };
        let name = &self.text[name.byte_range()];
        let mut cursor = node.walk();
        let items: Vec<Node<'t>> = node.children_by_field_name("value", &mut cursor).collect();
        if items.is_empty() || has_token(node, "select") {
            self.unknown(name);
        }
        items.into_iter().for_each(|item| self.set(name, Setting::Value(Some(item))));
    }

    /// `declare -n` gives one variable the name of another; what is declared as a text may be any.
    fn declaration(&mut self, node: Node<'t>) {
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if matches!(child.kind(), "variable_assignment" | "variable_name" | "comment") {
                continue;
            }
            match word::read(child, self.text).word.literal() {
                Some(option) if option.starts_with('-') => self.values.any |= alters(option),
                Some(text) => self.unknown(text.split('=').next().unwrap_or(text)),
                None => self.values.any = true,
            }
        }
    }

    fn command(&mut self, node: Node<'t>) {
        let words = words(node, self.text);
        let has = |wanted: &[&str]| words.iter().any(|word| word.literal().is_some_and(|word| wanted.contains(&word)));
        if has(SETTERS) || (has(&["printf"]) && words.iter().any(names_variable)) {
            for word in &words {
                match word.literal() {
                    Some(name) => {
                        let name = name.strip_prefix("-v").unwrap_or(name);
                        self.unknown(name.split('=').next().unwrap_or(name));
                    }
                    None => self.values.any = true,
                }
            }
        }
        // Written so that the grammar takes it for a command.
        if has(&["declare", "typeset", "local", "readonly", "export"]) {
            self.values.any |= words.iter().any(|word| word.literal().is_some_and(alters));
        }
        // They set these where no name is given.
        if has(SETTERS) {
            ["REPLY", "MAPFILE", "OPTARG"].iter().for_each(|name| self.unknown(name));
        }
        if sources(&words) {
            let from = if is_repeated(node) { 0 } else { node.end_byte() };
            self.values.sourced = Some(self.values.sourced.map_or(from, |before| before.min(from)));
        }
        if has(&["eval", "trap", "alias"]) {
            let sets = ["=", "read", "mapfile", "printf", "getopts", "let ", ". ", "source"];
            self.values.any |= words.iter().any(|word| sets.iter().any(|mark| word.text().contains(mark)));
        }
        // `env NAME=VALUE`, and whatever else may take it for that.
        for (name, _) in words.iter().filter_map(|word| word.text().trim_start_matches(['"', '\'']).split_once('=')) {
            self.unknown(name);
        }
    }
}

/// Whether an option of `declare` gives a variable another name, or other letters than those that are written.
fn alters(option: &str) -> bool {
    option.strip_prefix('-').is_some_and(|letters| !letters.starts_with('-') && letters.contains(['n', 'l', 'u', 'c']))
}

/// Whether a word of `printf` is the option that names a variable, attached or not.
fn names_variable(word: &Word) -> bool {
    word.literal().is_some_and(|word| word.starts_with("-v"))
}

/// Whether `date` prints nothing of a format but figures, and the letters that stand in times.
fn is_time(argument: &str) -> bool {
    let Some(format) = argument.strip_prefix('+') else { return argument.starts_with('-') };
    let mut parts = format.split('%');
    let plain = |text: &str| !text.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'T' | 'Z'));
    let is_plain = |part: &str| plain(part.trim_start_matches(|c: char| "-_0^#:".contains(c)).get(1..).unwrap_or(""));
    parts.next().is_none_or(plain) && parts.all(is_plain)
}

/// Whether `git rev-parse` prints a commit for it: what it does not know it prints as it is.
fn is_commit(argument: &&str) -> bool {
    match argument.strip_prefix("--") {
        Some(option) => matches!(option.split('=').next(), Some("short" | "verify" | "quiet")),
        None => argument.contains(['/', '~', '^', '@']) || matches!(*argument, "HEAD" | "main" | "master" | "-q"),
    }
}

/// Whether a command takes in a file, which may set any variable.
fn sources(words: &[Word]) -> bool {
    let mut names =
        words.iter().map(Word::literal).skip_while(|word| matches!(word, Some("command" | "builtin" | "--")));
    matches!(names.next(), Some(Some("." | "source")))
}

/// Whether what stands before a node may run behind it.
fn is_repeated(node: Node<'_>) -> bool {
    let around = std::iter::successors(node.parent(), Node::parent);
    let repeats = ["for_statement", "c_style_for_statement", "while_statement", "function_definition"];
    around.into_iter().any(|node| repeats.contains(&node.kind()))
}

/// The words of a command's node.
fn words(node: Node<'_>, text: &str) -> Vec<Word> {
    let mut cursor = node.walk();
    let children = node.named_children(&mut cursor);
    let read = |word: Node<'_>| match word::has_braces(word, text) {
        true => braces::expand(word, text).unwrap_or_else(|| vec![word::read(word, text).word]),
        false => vec![word::read(word, text).word],
    };
    let of = |child: Node<'_>| match child.kind() {
        "command_name" => child.named_child(0).map(read).unwrap_or_default(),
        "variable_assignment" | "comment" | "file_redirect" | "herestring_redirect" | "heredoc_redirect" => vec![],
        _ => read(child),
    };
    let behind = redirects::words_behind(node).into_iter().flat_map(read);
    children.flat_map(of).chain(behind).collect()
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use crate::agent::permission::{Decision, Mode};
    use crate::agent::shell::held::decide;
    use crate::agent::shell::read;

    /// How many words of a script may be one of known texts.
    fn known(script: &str) -> usize {
        read(script)
            .handed
            .iter()
            .filter(|command| command.words.len() == 2 && command.words[1].literal().is_some())
            .count()
    }

    #[test]
    fn what_variables_hold_is_bounded_in_bytes_and_not_known_beyond() {
        let long = "x".repeat(1000);
        let times = |name: &str, count: usize| format!("{name}{name}=\"{}\"; ", format!("${name}").repeat(count));
        let two = format!("a={long}; {}", times("a", 300));
        assert_eq!(["a", "aa"].map(|name| known(&format!("{two}ls \"${name}\""))), [1, 0]);
        let four = format!("a={long}; {}{}{}", times("a", 200), times("aa", 5000), times("aaaa", 5000));
        assert_eq!(["aa", "aaaa", "aaaaaaaa"].map(|name| known(&format!("{four}ls \"${name}\""))), [0, 0, 0]);
        // Each of them is short enough.
        let many: String = (0..20).map(|at| format!("v{at}=\"{}\"; ", "$a".repeat(200))).collect();
        assert_eq!(known(&format!("a={long}; {many}ls \"$v1\"")), 0);
        let words = format!("a={long}; b=\"{}\"; {}", "$a".repeat(100), "ls \"$b\"; ".repeat(1000));
        assert!((1..20).contains(&known(&words)), "{}", known(&words));
    }

    #[test]
    fn what_is_not_known_any_more_is_held_to_the_rules() {
        let script = format!("x={}; g=\"{}\"; git \"$g\"", "x".repeat(1000), "$x".repeat(1000));
        assert!(matches!(decide(&script, Mode::Full), Decision::Deny(_)));
        assert_eq!(decide("x=sta; g=\"${x}tus\"; git \"$g\"", Mode::WorkspaceWrite), Decision::Allow);
    }
}
