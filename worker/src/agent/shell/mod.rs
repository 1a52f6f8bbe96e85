//! What a shell script would run, found out without running it. Two readings with opposite ways to err:
//!
//! *Proving it safe* ([`Script::proof`]) accepts only lists and pipelines of plain words; anything else (an expansion, a
//! substitution, a redirection, control flow, an assignment in front, a parse error) proves nothing. *Finding danger*
//! ([`danger::find`]) looks at every command anywhere, through every wrapper that runs another command.
//!
//! Neither is a wall: the cage is. They decide what an agent does without being asked, and what a person is told.
//! Start reading at [`read`].

/// Several words of one: `{a,b}`.
mod braces;
/// What is dangerous, and why.
pub mod danger;
/// How deep its parts lie within each other.
mod depth;
/// What it runs from files.
pub mod files;
/// What the grammar overlooks.
mod hidden;
/// Whether it made what it runs.
pub mod made;
/// Redirections between words.
mod redirects;
/// What only reads.
pub mod safe;
/// What cannot be parsed, word by word.
mod scan;
/// Scripts of `sed`.
mod sed;
/// What runs commands that nobody can read before.
pub mod unread;
/// What nobody sees.
mod unseen;
/// Commands inside of commands.
mod unwrap;
/// What variables hold.
mod values;
/// Variables that are set.
mod variables;
/// Words of a script.
mod word;
/// What is written into a file that the script runs.
mod written;

/// Tables of scripts against one rule.
#[cfg(test)]
mod held;
#[cfg(test)]
mod verdicts;

use std::borrow::Cow;
use std::collections::HashSet;

use tree_sitter::{Node, Parser};

use hidden::Hidden;
use scan::breaks_line;
use values::{Room, VALUES_MAX, Values};
use written::Written;

pub use unread::Unread;
pub use unwrap::without_options_of_git;
pub use word::Word;
pub use written::held_in;

/// The longest script that is read, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 256 << 10;
/// Scripts inside of scripts, and wrappers around wrappers.
pub const DEPTH_MAX: u32 = 8;
/// The most commands of one script.
pub const COMMANDS_MAX: usize = 4096;
/// The most words of one script that braces make of others.
const BRACED_MAX: usize = 4096;
/// The most readings of what one command of a script may run.
const HANDED_MAX: usize = 256;

/// A script as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// Every command anywhere in it, wrapped ones behind their wrappers.
    pub commands: Vec<Command>,
    /// What keeps it from being proved: the first thing that is more than plain words.
    pub unproven: Option<String>,
    /// Files that it writes by redirection.
    pub writes: Vec<Word>,
    /// Files that it reads by redirection.
    pub reads: Vec<Word>,
    /// What the structure itself says of danger: a function that calls itself twice, a download piped into a shell.
    pub alarms: Vec<&'static str>,
    /// Commands that a program may run which finds them in its arguments or its variables. They prove and allow nothing.
    pub handed: Vec<Command>,
    /// What it runs that cannot be read before.
    pub unread: Vec<Unread>,
    /// What of it cannot be read if git runs in it.
    of_git: Option<Unread>,
    /// Files that it tells a shell to take in.
    loads: Vec<String>,
}

/// One command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Its name and arguments; empty for assignments alone.
    pub words: Vec<Word>,
    /// Variables that are set for it, by name.
    pub assigns: Vec<String>,
    /// The command gets what another one prints.
    pub piped: bool,
    /// What it prints goes to another one, into a word or into a file.
    pub captured: bool,
    /// Words of it with signs outside of quotes that the shell puts names of files for, as they are written.
    pub globs: Vec<String>,
    /// What it may be stands among the [`Script::handed`], by all that its variables may hold.
    pub resolved: bool,
}

impl Command {
    /// A command of these words.
    pub fn of(words: Vec<Word>) -> Command {
        Command { words, ..Command::default() }
    }

    /// All that it may be where words of it are variables that the script sets; `None` where none are, or too many.
    fn variants(&self) -> Option<Vec<Command>> {
        let several = |word: &Word| if let Word::Assigned(_, values) = word { values.len() } else { 1 };
        let count = self.words.iter().map(several).try_fold(1usize, usize::checked_mul)?;
        if count > VALUES_MAX || !self.words.iter().any(|word| matches!(word, Word::Assigned(..))) {
            return None;
        }
        let mut all: Vec<Vec<Word>> = vec![vec![]];
        for word in &self.words {
            let Word::Assigned(_, values) = word else {
                all.iter_mut().for_each(|front| front.push(word.clone()));
                continue;
            };
            let last = |value: &String| Word::Literal(value.clone());
            match values.as_slice() {
                [value] => all.iter_mut().for_each(|front| front.push(last(value))),
                values => {
                    let behind = |front: &Vec<Word>| {
                        values.iter().map(|value| [front.as_slice(), &[last(value)]].concat()).collect::<Vec<_>>()
                    };
                    all = all.iter().flat_map(behind).collect();
                }
            }
        }
        Some(all.into_iter().map(|words| Command { words, ..self.clone() }).collect())
    }

    /// The same, where nobody knows what a variable holds.
    fn unresolved(mut self) -> Command {
        for word in &mut self.words {
            if let Word::Assigned(written, _) = word {
                *word = Word::Unknown(std::mem::take(written));
            }
        }
        self
    }

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
    let mut reader = Reader::default();
    reader.text(text, Place::default());
    reader.run_written();
    let Reader { mut script, .. } = reader;
    let runs_git = script.commands.iter().chain(&script.handed).any(|command| command.name() == Some("git"));
    script.unread.extend(script.of_git.take().filter(|_| runs_git));
    script
}

#[derive(Default)]
struct Reader {
    script: Script,
    depth: u32,
    /// What the variables of the text hold that is read.
    values: Values,
    /// For what words with variables in them may be.
    room: Room,
    /// What is read was read already, by all that its variables may hold.
    resolved: bool,
    /// What a text around holds that something would evaluate.
    marks: unread::Marks,
    /// Where the substitutions begin that were read, in the text that is read.
    seen: HashSet<usize>,
    /// The text that is read was read word by word.
    is_scanned: bool,
    /// What is read is what a command of the script may run.
    is_handed: bool,
    /// How often it was read so far what that command may run.
    handed: usize,
    /// How many words braces made of others.
    braced: usize,
    /// What the script writes into files.
    written: Vec<Written>,
}

/// Where a node stands.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Behind a `|`.
    piped: bool,
    /// Before a `|`, in a substitution or a function, or with its output in a file.
    captured: bool,
}

impl Reader {
    fn text(&mut self, text: &str, place: Place) {
        if self.depth > DEPTH_MAX {
            return self.too_much("scripts are nested too deeply to be read");
        }
        if text.len() > SCRIPT_BYTES_MAX {
            return self.too_much("the script is too long to be read");
        }
        if unseen::holds_unseen(text) {
            self.unproven("a character that cannot be seen");
            self.unread(Unread::new("it holds a character that cannot be seen", "leave it out"));
        }
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_bash::LANGUAGE.into()).expect("the grammar fits the library it is built with");
        const TOO_DEEP: &str = "it is nested too deeply to be read";
        let Ok(tree) = depth::parsed(&mut parser, text) else { return self.too_much(TOO_DEEP) };
        let joined = match hidden::joined(&mut parser, text) {
            Ok(Some(joined)) => joined,
            Ok(None) => return self.too_much("too many of its words are parted by line breaks to be read"),
            Err(depth::TooDeep) => return self.too_much(TOO_DEEP),
        };
        let tree = match &joined {
            Cow::Borrowed(_) => Ok(tree),
            Cow::Owned(text) => depth::parsed(&mut parser, text),
        };
        let Ok(tree) = tree else { return self.too_much(TOO_DEEP) };
        let text = &*joined;
        let Some(tree) = tree else { return self.unproven("it cannot be parsed") };
        let outside_is_scanned = std::mem::take(&mut self.is_scanned);
        self.marks.find(tree.root_node(), text).into_iter().for_each(|unread| self.unread(unread));
        if let Some(odd) = redirects::odd(tree.root_node(), text) {
            self.unproven("what the shell may read otherwise");
            self.unread(odd);
            self.scan_once(text);
        }
        let inside = Values::read(tree.root_node(), text, &self.values);
        let outside = (std::mem::replace(&mut self.values, inside), std::mem::take(&mut self.seen));
        if tree.root_node().has_error() {
            self.unproven("a syntax error");
            self.unread(Unread::new("there is a syntax error in it", "write it in plainer shell"));
            self.scan_once(text);
        }
        self.node(tree.root_node(), text, place);
        self.writes(tree.root_node(), text);
        self.overlooked(tree.root_node(), text);
        for hidden in hidden::find(tree.root_node(), text) {
            self.hidden(&hidden);
        }
        (self.values, self.seen) = outside;
        self.is_scanned = outside_is_scanned;
    }

    /// More than is read: it is a danger, it proves nothing, and no rule knows what is in it.
    fn too_much(&mut self, what: &'static str) {
        self.script.alarms.push(what);
        self.unproven("more than can be read");
        self.script.unread.push(Unread::new(what, "write it as several shorter scripts, in plainer shell"));
    }

    /// Substitutions that stand where nothing else was looked for.
    fn overlooked(&mut self, node: Node<'_>, text: &str) {
        let substitutes = matches!(node.kind(), "command_substitution" | "process_substitution");
        if substitutes && !self.seen.contains(&node.start_byte()) {
            self.node(node, text, Place { captured: true, ..Place::default() });
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.overlooked(child, text));
    }

    /// A substitution that the grammar does not name.
    fn hidden(&mut self, hidden: &Hidden) {
        self.unproven("a substitution");
        if hidden.is_guess {
            let shown: String = hidden.script.trim().chars().take(60).collect();
            let what = format!("`{shown}` is substituted in a place where it cannot be read for sure");
            self.unread(Unread::new(what, "run it by itself, and set a variable to what it prints"));
            self.scan(&hidden.script);
        }
        self.depth += 1;
        self.text(&hidden.script, Place { captured: true, ..Place::default() });
        self.depth -= 1;
    }

    fn unread(&mut self, unread: Unread) {
        if !self.resolved {
            self.script.unread.push(unread);
        }
    }

    fn unproven(&mut self, what: &str) {
        self.script.unproven.get_or_insert_with(|| what.to_owned());
    }

    fn node(&mut self, node: Node<'_>, text: &str, place: Place) {
        match node.kind() {
            "program" | "list" => self.children(node, text, place),
            "pipeline" => self.pipeline(node, text, place),
            "command" => self.command(node, text, place),
            "comment" => {}
            "variable_assignment" | "variable_assignments" => {
                self.unproven("an assignment");
                self.assigned(node, text);
                self.children(node, text, place);
            }
            "for_statement" | "expansion" => {
                self.unproven(construct(node.kind()));
                self.set_besides(node, text);
                self.children(node, text, place);
            }
            "redirected_statement" => {
                self.unproven("a redirection");
                let captured = place.captured || keeps_output(node, text);
                self.children(node, text, Place { captured, ..place });
                if node.child_by_field_name("body").is_none() {
                    self.command(node, text, place);
                }
            }
            "command_substitution" | "process_substitution" => {
                self.unproven("a substitution");
                self.seen.insert(node.start_byte());
                self.children(node, text, Place { captured: true, ..place });
            }
            "file_redirect" => self.redirect(node, text),
            "heredoc_redirect" | "herestring_redirect" => {
                self.unproven("a here-document");
                self.children(node, text, place);
            }
            "declaration_command" => self.declaration(node, text, place),
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

    fn pipeline(&mut self, node: Node<'_>, text: &str, place: Place) {
        let mut cursor = node.walk();
        let parts: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let last = parts.len().saturating_sub(1);
        for (at, part) in parts.into_iter().enumerate() {
            let captured = at < last || place.captured;
            self.node(part, text, Place { piped: at > 0 || place.piped, captured });
        }
        if has_token(node, "|&") {
            self.unproven("`|&`");
        }
    }

    fn children(&mut self, node: Node<'_>, text: &str, place: Place) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.node(child, text, place));
    }

    fn command(&mut self, node: Node<'_>, text: &str, place: Place) {
        let captured = place.captured || keeps_output(node, text);
        let empty = || Command { piped: place.piped, captured, ..Command::default() };
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
                    Some(name) => command.words.extend(self.words(name, text)),
                    None => command.words.push(Word::Unknown(text[child.byte_range()].to_owned())),
                },
                "file_redirect" | "heredoc_redirect" | "herestring_redirect" => {
                    // What stands in front of a statement without a command was read with it.
                    if node.kind() == "command" {
                        self.node(child, text, place);
                    }
                    redirects::words_of(child)
                        .into_iter()
                        .for_each(|word| command.words.extend(self.words(word, text)));
                }
                "comment" => {}
                _ if redirects::is_number(child, text) => {}
                // The shell's own word, not the program's: `time (make -j4)`.
                "subshell" if command.words.iter().all(|word| matches!(word.text(), "time" | "-p")) => {
                    self.node(child, text, Place { captured, ..place });
                }
                _ => {
                    command.globs.extend(word::glob(child, text));
                    command.words.extend(self.words(child, text));
                }
            }
        }
        redirects::words_behind(node).into_iter().for_each(|word| command.words.extend(self.words(word, text)));
        if node.kind() == "command" || !command.words.is_empty() {
            self.take(command);
        }
    }

    /// Keeps a command and reads what it runs in turn. Where its variables are known, what restricts is held against all that it
    /// may be, and everything else against what is written.
    fn take(&mut self, command: Command) {
        if !self.is_handed {
            self.handed = 0;
        }
        let Some(variants) = command.variants().filter(|_| !self.resolved) else {
            return self.keep(command.unresolved());
        };
        variants.into_iter().for_each(|variant| self.hand(|inner| inner.take(variant)));
        self.resolved = true;
        self.keep(command.unresolved());
        self.resolved = false;
    }

    fn keep(&mut self, mut command: Command) {
        if self.script.commands.len() >= COMMANDS_MAX {
            return self.too_much("the script has too many commands to be read");
        }
        if self.depth > DEPTH_MAX {
            return self.too_much("commands are wrapped too deeply to be read");
        }
        let inner = unwrap::inner(&command);
        if !matches!(inner, unwrap::Inner::Nothing) {
            self.unproven("a command that runs another");
        }
        self.hear(unread::find(&command));
        let own = if self.is_handed { unread::without_appended(&command) } else { command.clone() };
        self.hear(unread::unseen_options(&own));
        let place = Place { piped: false, captured: command.captured };
        command.resolved = self.resolved;
        self.script.commands.push(command);
        self.depth += 1;
        match inner {
            unwrap::Inner::Nothing => {}
            unwrap::Inner::Commands(commands) => commands.into_iter().for_each(|command| self.take(command)),
            unwrap::Inner::Scripts(scripts) => {
                for script in scripts {
                    if script.literal().is_none() {
                        self.unread(Unread::script(&script));
                    }
                    self.text(script.text(), place);
                }
            }
        }
        self.depth -= 1;
    }

    /// Keeps what a command's arguments hand on.
    fn hear(&mut self, found: unread::Found) {
        if self.resolved {
            return;
        }
        self.script.unread.extend(found.unread);
        self.script.of_git = self.script.of_git.take().or(found.of_git);
        found.commands.into_iter().for_each(|command| self.hand(|inner| inner.take(command)));
        found.texts.iter().for_each(|text| self.hand(|inner| inner.text(text, Place::default())));
        // What may as well be no command is none for what would only wait for its input.
        for command in found.perhaps {
            let before = self.script.unread.len();
            self.hand(|inner| inner.take(command));
            let new = self.script.unread.split_off(before);
            self.script.unread.extend(new.into_iter().filter(|unread| !unread.waits));
        }
    }

    /// Reads what a program may run that finds it in its arguments: nothing is proved by it, and it is no danger by itself.
    fn hand(&mut self, read: impl FnOnce(&mut Reader)) {
        if self.handed >= HANDED_MAX {
            let what = "it may run more than can be read";
            return self.unread(Unread::new(what, "write fewer commands inside of each other"));
        }
        let (depth, values, marks, handed) = (self.depth + 1, self.values.clone(), self.marks, self.handed + 1);
        let room = std::mem::take(&mut self.room);
        let mut inner = Reader { depth, values, room, marks, handed, is_handed: true, ..Reader::default() };
        read(&mut inner);
        (self.handed, self.room) = (inner.handed, inner.room);
        let Script { commands, handed, unread, alarms, of_git, reads, loads, .. } = inner.script;
        self.script.reads.extend(reads);
        self.script.loads.extend(loads);
        self.written.extend(inner.written);
        self.script.of_git = self.script.of_git.take().or(of_git);
        self.script.handed.extend(commands.into_iter().filter(|command| !command.resolved).chain(handed));
        self.script.unread.extend(unread);
        self.script.unread.extend(alarms.first().map(|alarm| Unread::new(*alarm, "write it in plainer shell")));
    }

    fn word(&mut self, node: Node<'_>, text: &str) -> Word {
        self.substitutions(node, text);
        if let Some(what) = word::read(node, text).unproven {
            self.unproven(what);
        }
        self.read_word(node, text)
    }

    /// A word of a command: several, where braces make them of it.
    fn words(&mut self, node: Node<'_>, text: &str) -> Vec<Word> {
        let word = self.word(node, text);
        if !word::has_braces(node, text) {
            return vec![word];
        }
        let words = braces::expand(node, text).filter(|words| self.braced + words.len() <= BRACED_MAX);
        let Some(words) = words else {
            let what = format!("nobody knows what words `{}` stands for", word.text());
            self.unread(Unread::new(what, "write the words by themselves"));
            return vec![word];
        };
        self.braced += words.len();
        words
    }

    /// A word with what its variables may hold.
    fn read_word(&mut self, node: Node<'_>, text: &str) -> Word {
        match word::read(node, text).word {
            Word::Unknown(written) => match self.values.of(node, text, &mut self.room) {
                Some(values) => Word::Assigned(written, values),
                None => Word::Unknown(written),
            },
            known => known,
        }
    }

    /// Commands inside of a word.
    fn substitutions(&mut self, node: Node<'_>, text: &str) {
        if matches!(node.kind(), "command_substitution" | "process_substitution") {
            self.unproven("a substitution");
            self.seen.insert(node.start_byte());
            self.depth += 1;
            if self.depth <= DEPTH_MAX {
                self.children(node, text, Place { captured: true, ..Place::default() });
            } else {
                self.too_much("substitutions are nested too deeply to be read");
            }
            self.depth -= 1;
            return;
        }
        self.set_besides(node, text);
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.substitutions(child, text));
    }

    fn redirect(&mut self, node: Node<'_>, text: &str) {
        self.unproven("a redirection");
        let writes = [">", ">>", ">|", "&>", "&>>", "<>"].iter().any(|token| has_token(node, token));
        if let Some(target) = redirects::target(node) {
            let word = self.word(target, text);
            match writes {
                true => self.script.writes.push(word),
                false => self.script.reads.push(word),
            }
        }
    }

    fn function(&mut self, node: Node<'_>, text: &str, place: Place) {
        let name = node.child_by_field_name("name").map(|name| &text[name.byte_range()]).unwrap_or_default();
        let before = self.script.commands.len();
        if let Some(body) = node.child_by_field_name("body") {
            self.node(body, text, Place { captured: true, ..place });
        }
        let mut cursor = node.walk();
        let redirects: Vec<Node<'_>> =
            node.named_children(&mut cursor).filter(|child| child.kind().ends_with("_redirect")).collect();
        redirects.into_iter().for_each(|redirect| self.node(redirect, text, place));
        let calls = self.script.commands[before..].iter().filter(|command| command.name() == Some(name)).count();
        if calls >= 2 {
            self.script.alarms.push("a function starts itself twice over: a fork bomb");
        }
    }
}

/// Whether one of a node's own tokens is `token`.
fn has_token(node: Node<'_>, token: &str) -> bool {
    let mut cursor = node.walk();
    node.children(&mut cursor).any(|child| !child.is_named() && child.kind() == token)
}

/// Whether what a statement prints goes into a file.
fn keeps_output(node: Node<'_>, text: &str) -> bool {
    let mut cursor = node.walk();
    let is_kept = |child: Node<'_>| {
        let place = redirects::target(child).map(|place| &text[place.byte_range()]);
        child.kind() == "file_redirect" && place.is_some_and(|place| place != "/dev/null" && !is_number(place))
    };
    node.named_children(&mut cursor).any(is_kept)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
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
