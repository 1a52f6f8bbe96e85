//! What a shell script would run, found out without running it. Two readings with opposite ways to err:
//!
//! *Proving it safe* ([`Script::proof`]) accepts only lists and pipelines of plain words; anything else (an expansion, a
//! substitution, a redirection, control flow, an assignment in front, a parse error) proves nothing. *Finding danger*
//! ([`danger::find`]) looks at every command anywhere, through every wrapper that runs another command.
//!
//! Neither is a wall: the cage is. They decide what an agent does without being asked, and what a person is told.
//! Start reading at [`read`].

/// What is dangerous, and why.
pub mod danger;
/// What only reads.
pub mod safe;
/// What runs commands that nobody can read before.
pub mod unread;
/// Commands inside of commands.
mod unwrap;
/// Words of a script.
mod word;

#[cfg(test)]
mod verdicts;

use tree_sitter::{Node, Parser};

pub use unread::Unread;
pub use unwrap::without_options_of_git;
pub use word::Word;

/// The longest script that is read, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 256 << 10;
/// Scripts inside of scripts, and wrappers around wrappers.
pub const DEPTH_MAX: u32 = 8;
/// The most commands of one script.
pub const COMMANDS_MAX: usize = 4096;

/// A script as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Every command anywhere in it, wrapped ones behind their wrappers.
    pub commands: Vec<Command>,
    /// What keeps it from being proved: the first thing that is more than plain words.
    pub unproven: Option<String>,
    /// Files that it writes by redirection.
    pub writes: Vec<Word>,
    /// What the structure itself says of danger: a function that calls itself twice, a download piped into a shell.
    pub alarms: Vec<&'static str>,
    /// Commands that a program may run which finds them in its arguments or its variables. They prove and allow nothing.
    pub handed: Vec<Command>,
    /// What it runs that cannot be read before.
    pub unread: Vec<Unread>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its name and arguments; empty for assignments alone.
    pub words: Vec<Word>,
    /// Variables that are set for it, by name.
    pub assigns: Vec<String>,
    /// The command gets what another one prints.
    pub piped: bool,
}

impl Command {
    /// The program's name without its folder, when it is known.
    pub fn name(&self) -> Option<&str> {
        let name = self.words.first()?.literal()?;
        Some(name.rsplit('/').next().unwrap_or(name))
    }

    /// Its arguments; those that are not known are `None`.
    pub fn arguments(&self) -> impl DoubleEndedIterator<Item = Option<&str>> {
        self.words.iter().skip(1).map(Word::literal)
    }

    /// Its known arguments.
    pub fn known(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.arguments().flatten()
    }
}

/// What is to be thought of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Proved: it only reads.
    Reads,
    /// Every command of it is known; what they do is a matter of rules.
    Plain,
    /// It cannot be told before it runs; why.
    Opaque(String),
    /// It is dangerous; why.
    Dangerous(String),
}

/// Reads and judges a script.
pub fn judge(script: &Script) -> Reading {
    if let Some(why) = danger::find(script) {
        return Reading::Dangerous(why);
    }
    match (safe::refute(script), &script.unproven) {
        (None, _) => Reading::Reads,
        (Some(_), None) => Reading::Plain,
        (Some(_), Some(why)) => Reading::Opaque(why.clone()),
    }
}

/// Reads a script. Never fails: what is not understood is not proved.
pub fn read(text: &str) -> Script {
    let mut reader = Reader { script: Script::default(), depth: 0 };
    reader.text(text);
    reader.script
}

struct Reader {
    script: Script,
    depth: u32,
}

/// Where a node stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Behind a `|`.
    piped: bool,
}

impl Reader {
    fn text(&mut self, text: &str) {
        if self.depth > DEPTH_MAX {
            self.script.alarms.push("scripts are nested too deeply to be read");
            return self.unproven("it is nested too deeply");
        }
        if text.len() > SCRIPT_BYTES_MAX {
            self.script.alarms.push("the script is too long to be read");
            return self.unproven("it is too long");
        }
        self.script.unread.extend(unread::in_text(text));
        let strange = |c: char| {
            (c.is_control() && !matches!(c, '\n' | '\t')) || (!c.is_ascii() && c.is_whitespace()) || is_invisible(c)
        };
        if text.contains(strange) {
            self.unproven("a character that cannot be seen");
            self.script.unread.push(Unread::new("it holds a character that cannot be seen", "leave it out"));
        }
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_bash::LANGUAGE.into()).expect("the grammar fits the library it is built with");
        let Some(tree) = parser.parse(text, None) else { return self.unproven("it cannot be parsed") };
        if tree.root_node().has_error() {
            self.unproven("a syntax error");
            self.script.unread.push(Unread::new("there is a syntax error in it", "write it in plainer shell"));
            self.scan(text);
        }
        self.node(tree.root_node(), text, Place::default());
    }

    /// Takes every word of a script that cannot be parsed for a command's name, so that no danger hides behind an error.
    fn scan(&mut self, text: &str) {
        const WORDS_MAX: usize = 8;
        let edge = |c: char| c.is_whitespace() || ",;|&(){}`\"'$<>".contains(c);
        let words: Vec<&str> = text.split(edge).filter(|word| !word.is_empty()).take(COMMANDS_MAX).collect();
        for at in 0..words.len() {
            let end = words.len().min(at + WORDS_MAX);
            let words = words[at..end].iter().map(|&word| Word::Literal(word.to_owned())).collect();
            self.script.commands.push(Command { words, assigns: vec![], piped: false });
        }
    }

    fn unproven(&mut self, what: &str) {
        self.script.unproven.get_or_insert_with(|| what.to_owned());
    }

    fn node(&mut self, node: Node<'_>, text: &str, place: Place) {
        match node.kind() {
            "program" | "list" => self.children(node, text, place),
            "pipeline" => {
                let mut cursor = node.walk();
                let parts: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
                for (at, part) in parts.into_iter().enumerate() {
                    self.node(part, text, Place { piped: at > 0 || place.piped });
                }
                if has_token(node, "|&") {
                    self.unproven("`|&`");
                }
            }
            "command" => self.command(node, text, place),
            "comment" => {}
            "variable_assignment" | "variable_assignments" => {
                self.unproven("an assignment");
                self.assigned(node, text);
                self.children(node, text, place);
            }
            "redirected_statement" => {
                self.unproven("a redirection");
                self.children(node, text, place);
            }
            "file_redirect" => self.redirect(node, text),
            "heredoc_redirect" | "herestring_redirect" => {
                self.unproven("a here-document");
                self.children(node, text, place);
            }
            "declaration_command" => {
                self.unproven("a declaration");
                let mut cursor = node.walk();
                let set = node.named_children(&mut cursor).filter_map(|child| child.child_by_field_name("name"));
                let assigns = set.map(|name| text[name.byte_range()].to_owned()).collect();
                self.script.commands.push(Command { words: vec![], assigns, piped: place.piped });
                self.declared(node, text);
                self.children(node, text, place);
            }
            "function_definition" => {
                self.unproven("a function");
                self.function(node, text, place);
            }
            // Words are read with their command; here they are the patterns of a `case`, the list of a `for`.
            "word"
            | "string"
            | "raw_string"
            | "number"
            | "string_content"
            | "variable_name"
            | "special_variable_name"
            | "heredoc_start"
            | "heredoc_end"
            | "heredoc_body"
            | "heredoc_content"
            | "file_descriptor" => {
                self.children(node, text, place);
            }
            other => {
                self.unproven(construct(other));
                self.children(node, text, place);
            }
        }
        if has_token(node, "&") {
            self.unproven("`&`");
        }
        if matches!(node.kind(), "redirected_statement" | "declaration_command" | "unset_command" | "file_redirect") {
            self.gaps(node, text);
        }
    }

    /// A line break within what must be one line: everything is read once more, word by word.
    fn gaps(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
        let broken = children.windows(2).any(|pair| {
            let (end, start) = (pair[0].end_byte(), pair[1].start_byte());
            end < start && breaks_line(&text[end..start])
        });
        if broken {
            self.scan(text);
        }
    }

    fn children(&mut self, node: Node<'_>, text: &str, place: Place) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.node(child, text, place));
    }

    fn command(&mut self, node: Node<'_>, text: &str, place: Place) {
        let empty = || Command { words: vec![], assigns: vec![], piped: place.piped };
        let mut command = empty();
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let mut end = node.start_byte();
        for child in children {
            // The grammar takes some line breaks for spaces.
            if breaks_line(&text[end.min(child.start_byte())..child.start_byte()]) {
                self.unproven("a line break within a command");
                let before = std::mem::replace(&mut command, empty());
                self.take(before);
            }
            end = child.end_byte();
            match child.kind() {
                "variable_assignment" => {
                    self.unproven("an assignment in front of a command");
                    let name = child.child_by_field_name("name").map(|name| &text[name.byte_range()]);
                    command.assigns.push(name.unwrap_or_default().to_owned());
                    self.assigned(child, text);
                    self.substitutions(child, text);
                }
                "command_name" => match child.named_child(0) {
                    Some(name) => command.words.push(self.word(name, text)),
                    None => command.words.push(Word::Unknown(text[child.byte_range()].to_owned())),
                },
                "file_redirect" | "heredoc_redirect" | "herestring_redirect" => self.node(child, text, place),
                "comment" => {}
                _ => command.words.push(self.word(child, text)),
            }
        }
        self.take(command);
    }

    /// Keeps a command and reads what it runs in turn.
    fn take(&mut self, command: Command) {
        if self.script.commands.len() >= COMMANDS_MAX {
            self.script.alarms.push("the script has too many commands to be read");
            return self.unproven("it has too many commands");
        }
        if self.depth > DEPTH_MAX {
            self.script.alarms.push("commands are wrapped too deeply to be read");
            return self.unproven("it is nested too deeply");
        }
        let inner = unwrap::inner(&command);
        if !matches!(inner, unwrap::Inner::Nothing) {
            self.unproven("a command that runs another");
        }
        self.hear(unread::find(&command));
        self.script.commands.push(command);
        self.depth += 1;
        match inner {
            unwrap::Inner::Nothing => {}
            unwrap::Inner::Commands(commands) => commands.into_iter().for_each(|command| self.take(command)),
            unwrap::Inner::Scripts(scripts) => {
                for script in scripts {
                    if script.literal().is_none() {
                        self.script.unread.push(Unread::script(&script));
                    }
                    self.text(script.text());
                }
            }
        }
        self.depth -= 1;
    }

    /// Keeps what a command's arguments hand on.
    fn hear(&mut self, found: unread::Found) {
        self.script.unread.extend(found.unread);
        self.script.handed.extend(found.commands);
        for text in found.texts {
            let mut inner = Reader { script: Script::default(), depth: self.depth + 1 };
            inner.text(&text);
            let Script { commands, handed, unread, alarms, .. } = inner.script;
            self.script.handed.extend(commands.into_iter().chain(handed));
            self.script.unread.extend(unread);
            self.script.unread.extend(alarms.first().map(|alarm| Unread::new(*alarm, "write it in plainer shell")));
        }
    }

    /// A variable that is set: some of them hold commands for whoever reads them.
    fn assigned(&mut self, node: Node<'_>, text: &str) {
        let field = |name| node.child_by_field_name(name);
        let Some(name) = field("name").map(|name| &text[name.byte_range()]) else { return };
        let value = field("value").map(|value| word::read(value, text).word);
        self.hear(unread::assigned(name, &value.unwrap_or(Word::Literal(String::new()))));
    }

    /// What `export` and its like are given as words: `export "GIT_PAGER=…"`.
    fn declared(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let words = node
            .named_children(&mut cursor)
            .filter(|child| !matches!(child.kind(), "variable_assignment" | "variable_name" | "word" | "comment"));
        let words: Vec<Word> = words.map(|child| word::read(child, text).word).collect();
        words.iter().for_each(|word| self.hear(unread::declared(word)));
    }

    fn word(&mut self, node: Node<'_>, text: &str) -> Word {
        self.substitutions(node, text);
        let word = word::read(node, text);
        if let Some(what) = word.unproven {
            self.unproven(what);
        }
        word.word
    }

    /// Commands inside of a word.
    fn substitutions(&mut self, node: Node<'_>, text: &str) {
        if matches!(node.kind(), "command_substitution" | "process_substitution") {
            self.unproven("a substitution");
            self.depth += 1;
            if self.depth <= DEPTH_MAX {
                self.children(node, text, Place::default());
            } else {
                self.script.alarms.push("substitutions are nested too deeply to be read");
            }
            self.depth -= 1;
            return;
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.substitutions(child, text));
    }

    fn redirect(&mut self, node: Node<'_>, text: &str) {
        self.unproven("a redirection");
        let writes = [">", ">>", ">|", "&>", "&>>", "<>"].iter().any(|token| has_token(node, token));
        if let Some(target) = node.child_by_field_name("destination") {
            let word = self.word(target, text);
            if writes {
                self.script.writes.push(word);
            }
        }
    }

    fn function(&mut self, node: Node<'_>, text: &str, place: Place) {
        let name = node.child_by_field_name("name").map(|name| &text[name.byte_range()]).unwrap_or_default();
        let before = self.script.commands.len();
        if let Some(body) = node.child_by_field_name("body") {
            self.node(body, text, place);
        }
        let calls = self.script.commands[before..].iter().filter(|command| command.name() == Some(name)).count();
        if calls >= 2 {
            self.script.alarms.push("a function starts itself twice over: a fork bomb");
        }
    }
}

/// Whether there is a line break that no backslash takes back.
fn breaks_line(gap: &str) -> bool {
    gap.replace("\\\n", "").contains('\n')
}

/// Whether one of a node's own tokens is `token`.
fn has_token(node: Node<'_>, token: &str) -> bool {
    let mut cursor = node.walk();
    node.children(&mut cursor).any(|child| !child.is_named() && child.kind() == token)
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

fn construct(kind: &str) -> &'static str {
    match kind {
        "subshell" | "compound_statement" => "a group of commands",
        "if_statement" | "for_statement" | "c_style_for_statement" | "while_statement" | "case_statement" => {
            "control flow"
        }
        "negated_command" => "`!`",
        "test_command" => "a test",
        "unset_command" => "a declaration",
        "ERROR" => "a syntax error",
        _ => "something that is more than plain words",
    }
}
