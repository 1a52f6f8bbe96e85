//! What a script writes into a file and then runs: `echo 'x' > f; . ./f`. Where the text stands plainly in the script it is read there,
//! and so is a file that lies there already ([`held_in`]): only the plain words that a command begins with, and of anything else
//! a file holds nothing is said. Where a file's text only shows when it was written ([`made`]), nobody can read it before it
//! is run.

use tree_sitter::Node;

use super::files::{known, of_shells};
use super::made::{self, By, Run};
use super::unread::{Letters, Unread, values};
use super::{Command, Place, Reader, Word, has_token, redirects, word};

/// The most texts of one script that are looked at.
const TEXTS_MAX: usize = 64;
/// The most files that a script runs which it may have written.
const RUNS_MAX: usize = 64;
/// How much of a file is read as one script, in bytes: files of generated shell are longer than a script may be.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// What to do about a file whose text only shows when it was written.
const NEXT_CALL: &str = "write it in one call and run it in the next, where what it holds is read";

/// Texts that go into files.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// The files, as they are named; what is not known of a name is `*`.
    places: Vec<String>,
    /// What may go into them, in the order of the script.
    texts: Vec<String>,
    /// Something goes into them that does not stand in the script.
    is_unknown: bool,
    /// It is put behind what they hold.
    appends: bool,
}

impl Reader {
    /// Keeps what statements below a node write into files: all texts of a statement count for all of its files.
    pub(super) fn writes(&mut self, node: Node<'_>, text: &str) {
        if matches!(node.kind(), "redirected_statement" | "pipeline" | "command") {
            let mut written = Written::default();
            self.written_below(node, text, &mut written);
            if !written.places.is_empty() {
                self.written.push(written);
                return;
            }
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.writes(child, text));
    }

    fn written_below(&mut self, node: Node<'_>, text: &str, found: &mut Written) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        match node.kind() {
            "file_redirect" => {
                let only_reads = (has_token(node, "<") || has_token(node, "<&")) && !has_token(node, "<>");
                let place =
                    redirects::target(node).filter(|place| !only_reads && place.kind() != "process_substitution");
                found.places.extend(place.into_iter().flat_map(|place| self.names(place, text)));
                found.appends |= has_token(node, ">>") || has_token(node, "&>>") || has_token(node, "<>");
            }
            "heredoc_redirect" => {
                let start = children.iter().find(|child| child.kind() == "heredoc_start");
                let is_quoted = start.is_some_and(|start| text[start.byte_range()].contains(['\'', '"', '\\']));
                for body in children.iter().filter(|child| child.kind() == "heredoc_body") {
                    let body = &text[body.byte_range()];
                    found.is_unknown |= !is_quoted && body.contains(['$', '`']);
                    found.texts.push(body.to_owned());
                }
            }
            "herestring_redirect" => match children.last().map(|said| word::read(*said, text).word) {
                Some(Word::Literal(said)) => found.texts.push(said + "\n"),
                _ => found.is_unknown = true,
            },
            "command" => self.printed(node, text, found),
            _ => {}
        }
        children.into_iter().for_each(|child| self.written_below(child, text, found));
    }

    /// What a command prints.
    fn printed(&mut self, node: Node<'_>, text: &str, found: &mut Written) {
        let nodes: Vec<Node<'_>> = node.children_by_field_name("argument", &mut node.walk()).collect();
        let nodes = || nodes.iter().copied();
        let name = node.child_by_field_name("name").map(|name| &text[name.byte_range()]).unwrap_or_default();
        match name {
            "tee" => {
                found.appends |= nodes().any(|word| text[word.byte_range()].starts_with("-a"));
                let places = nodes().filter(|word| !text[word.byte_range()].starts_with('-'));
                found.places.extend(places.flat_map(|place| self.names(place, text)));
            }
            "echo" | "printf" => {
                let words = nodes().map(|said| self.read_word(said, text)).collect();
                let variants = Command::of(words)
                    .variants()
                    .unwrap_or_else(|| vec![Command::of(nodes().map(|said| word::read(said, text).word).collect())]);
                for words in variants.into_iter().map(|command| command.words) {
                    let (said, is_all) = if name == "echo" { echoed(&words) } else { formatted(&words) };
                    found.is_unknown |= !is_all;
                    found.texts.push(said);
                }
            }
            "cat" if nodes().next().is_none() => {}
            ":" | "true" => {}
            _ => found.is_unknown |= !made::builds(name),
        }
    }

    /// All that a file's name may be.
    fn names(&mut self, node: Node<'_>, text: &str) -> Vec<String> {
        match self.read_word(node, text) {
            Word::Literal(name) => vec![name],
            Word::Assigned(_, names) => names,
            Word::Unknown(written) | Word::Fed(written) => vec![made::place_of(&written)],
        }
    }

    /// Reads what was written into files that a shell of the script runs.
    pub(super) fn run_written(&mut self) {
        let written = std::mem::take(&mut self.written);
        let mut runs = of_shells(&self.script);
        runs.sort_by(|one, other| (&one.file, one.by).cmp(&(&other.file, other.by)));
        // Of those by whom it is run the stricter one stays.
        runs.dedup_by(|one, other| one.file == other.file);
        self.made(&runs, &written);
        let commands = known(&self.script);
        let runs_git = commands.iter().any(|command| command.name() == Some("git"));
        let mut texts: Vec<String> = vec![];
        for run in &runs {
            let into: Vec<&Written> = written.iter().filter(|one| one.is_into(run)).collect();
            let all = into.iter().flat_map(|one| &one.texts);
            // Each by itself, as which of them is there when the file runs is not followed; and all behind each other.
            let each = all.clone().take(TEXTS_MAX).cloned().chain([all.map(String::as_str).collect()]);
            texts.extend(each.filter(|text| run.by.has_a_shell_read(text.as_bytes())));
        }
        let hooks = written.iter().filter(|one| runs_git && one.is_hook()).flat_map(|one| &one.texts);
        texts.extend(hooks.filter(|text| By::Name.has_a_shell_read(text.as_bytes())).cloned());
        texts.sort();
        texts.dedup();
        let programs: Vec<Command> =
            commands.iter().filter_map(|command| run_as_program(command, &written)).take(TEXTS_MAX).collect();
        for program in programs {
            let mut inner = Reader { depth: self.depth + 1, is_handed: true, ..Reader::default() };
            inner.take(program);
            self.script.handed.extend(inner.script.commands.into_iter().chain(inner.script.handed));
            self.script.unread.extend(inner.script.unread);
        }
        for text in texts.into_iter().take(TEXTS_MAX) {
            self.script.handed.extend(held_in(&text));
        }
    }

    /// Keeps the first file that is run and that the script may have written with a text that does not stand in it.
    fn made(&mut self, runs: &[Run], written: &[Written]) {
        if runs.len() > RUNS_MAX {
            return self
                .unread(Unread::new("it runs more files than can be followed", "write it as several shorter scripts"));
        }
        let commands = known(&self.script);
        let unread = |run: &Run| {
            let file = &run.file;
            let into: Vec<&Written> = written.iter().filter(|one| one.is_into(run)).collect();
            let texts = || into.iter().flat_map(|one| &one.texts);
            let is_joined = texts().count() > 1 && texts().any(|text| !text.ends_with('\n'));
            let goes_on = !into.is_empty() && into.iter().all(|one| one.appends);
            if is_joined || goes_on || into.iter().any(|one| one.is_unknown) {
                return Some(format!(
                    "`{file}` is run, and not all that the script writes into it stands in the script"
                ));
            }
            // What goes through `tee` was looked at here.
            let others = commands.iter().copied().filter(|one| into.is_empty() || one.name() != Some("tee"));
            let maker = run.maker(others)?;
            let words: Vec<&str> = maker.words.iter().map(Word::text).collect();
            Some(format!("`{file}` is run, and `{}` may write it before", words.join(" ")))
        };
        let runs_git = commands.iter().any(|command| command.name() == Some("git"));
        let is_unread_hook = |one: &Written| one.is_hook() && one.is_unknown;
        let hook = (runs_git && written.iter().any(is_unread_hook))
            .then(|| "git runs its hooks, and not all that the script writes into one stands in the script".to_owned());
        let found = runs.iter().find_map(unread).or(hook);
        self.script.unread.extend(found.map(|what| Unread::new(what, NEXT_CALL)));
    }
}

impl Written {
    fn is_into(&self, run: &Run) -> bool {
        self.places.iter().any(|place| run.may_be(place))
    }

    fn is_hook(&self) -> bool {
        self.places.iter().any(|place| place.contains("hooks/"))
    }
}

/// The commands that a file of that text would have a shell run, each up to the first word that is not plain.
pub fn held_in(text: &str) -> Vec<Command> {
    let mut found = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE_BYTES_MAX);
        if end < rest.len() {
            end = rest.as_bytes()[..end].iter().rposition(|byte| *byte == b'\n').map_or(end, |at| at + 1);
        }
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let mut inner = Reader { is_handed: true, ..Reader::default() };
        inner.text(&rest[..end], Place::default());
        let commands = inner.script.commands.into_iter().chain(inner.script.handed);
        found.extend(commands.filter(|command| !command.resolved).filter_map(plain_front));
        rest = &rest[end..];
    }
    found
}

/// `awk -f FILE` and `sed -f FILE` with the text that goes into the file in the file's place.
fn run_as_program(command: &Command, written: &[Written]) -> Option<Command> {
    let program = command.name().filter(|name| name.ends_with("awk") || name.ends_with("sed"))?;
    let letters = Letters { valued: if program.ends_with("awk") { "vFe" } else { "el" }, attached: "i" };
    let files = values(command, letters, &["-f", "--file"]);
    let is_file = |one: &&Written| {
        let is_it = |file: &str| one.places.iter().any(|place| made::name_of(place) == made::name_of(file));
        files.iter().filter_map(Word::literal).any(is_it)
    };
    let text = written.iter().find(is_file)?.texts.join("\n");
    Some(Command::of([program, "--", &text].map(|word| Word::Literal(word.to_owned())).to_vec()))
}

/// A command up to the first word that is not plain.
fn plain_front(command: Command) -> Option<Command> {
    let words: Vec<Word> = command.words.iter().take_while(|word| word.literal().is_some()).cloned().collect();
    (!words.is_empty()).then_some(Command { words, ..command })
}

/// Whether a file that is run by its name is a script of the shell's: it begins so, or as nothing that the kernel runs, which shells
/// take for a script of theirs.
pub fn is_for_a_shell(begins: &[u8]) -> bool {
    if is_program(begins) {
        return false;
    }
    let first = begins.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(said) = first.strip_prefix(b"#!") else { return true };
    said.split(u8::is_ascii_whitespace).any(|word| word.ends_with(b"sh"))
}

/// Whether a file begins as a program of this kind of machine does: its magic, class and order of bytes, and that it is to be run.
/// Source: elf(5), `e_ident`, `e_type`.
fn is_program(begins: &[u8]) -> bool {
    begins.starts_with(b"\x7fELF")
        && matches!(begins.get(4..6), Some([1 | 2, 1 | 2]))
        && matches!(begins.get(16..18), Some([2 | 3, 0] | [0, 2 | 3]))
}

/// What `echo` prints, and whether that is all that it may print.
fn echoed(words: &[Word]) -> (String, bool) {
    let is_option = |word: &&Word| matches!(word.text(), "-n" | "-e" | "-E" | "-en" | "-ne");
    let ends = !words.iter().take_while(is_option).any(|word| word.text().contains('n'));
    let said: Vec<&str> = words.iter().skip_while(is_option).map(Word::text).collect();
    let said = said.join(" ");
    let is_all = words.iter().all(|word| word.literal().is_some()) && only_breaks(&said);
    (said.replace("\\n", "\n") + if ends { "\n" } else { "" }, is_all)
}

/// What `printf` prints, and whether that is all that it may print. The format is used again until no word is left.
fn formatted(words: &[Word]) -> (String, bool) {
    let words = words.strip_prefix(&[Word::Literal("--".to_owned())]).unwrap_or(words);
    let Some((format, words)) = words.split_first() else { return (String::new(), true) };
    let mut is_all = format.literal().is_some() && words.iter().all(|word| word.literal().is_some_and(only_breaks));
    let mut out = String::new();
    let mut words = words.iter().map(Word::text);
    loop {
        let left = words.len();
        let mut rest = format.text();
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            match rest[at + 1..].chars().next() {
                Some('s' | 'b' | 'd') => out.push_str(words.next().unwrap_or_default()),
                Some('%') => out.push('%'),
                _ => {
                    is_all = false;
                    out.push_str(&rest[at..(at + 1)]);
                    rest = &rest[at + 1..];
                    continue;
                }
            }
            rest = &rest[at + 2..];
        }
        out.push_str(rest);
        // A format without a place for a word is used once.
        if words.len() == 0 || words.len() == left {
            break;
        }
    }
    is_all &= only_breaks(format.text());
    (out.replace("\\n", "\n"), is_all)
}

/// Whether the escapes of a text stand for nothing but breaks, blanks and signs.
fn only_breaks(text: &str) -> bool {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' && !matches!(letters.next(), None | Some('n' | 't' | '\\' | '"' | '\'' | '$' | '`' | '\n')) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_put_together() {
        let words = |words: &[&str]| words.iter().map(|word| Word::Literal((*word).to_owned())).collect::<Vec<_>>();
        let all = |said: &str| (said.to_owned(), true);
        assert_eq!(echoed(&words(&["a b", "c"])), all("a b c\n"));
        assert_eq!(echoed(&words(&["-ne", "a\\nb"])), all("a\nb"));
        assert_eq!(formatted(&words(&["%s %s\\n", "a", "b"])), all("a b\n"));
        assert_eq!(formatted(&words(&["%s\\n", "a", "b"])), all("a\nb\n"));
        assert_eq!(formatted(&words(&["%s", "tou", "ch x"])), all("touch x"));
        assert_eq!(formatted(&words(&["a\\n", "b"])), all("a\n"));
        assert!(!formatted(&words(&["%c%.3s", "a", "b"])).1 && !formatted(&words(&["\\164ouch x"])).1);
        assert!(!echoed(&words(&["-e", "\\x74ouch x"])).1);
    }

    #[test]
    fn a_file_for_another_interpreter_is_none_of_the_shell() {
        let program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
        let of_shells: [&[u8]; 6] = [
            b"git push",
            b"#!/usr/bin/env bash\nx",
            b"#!/bin/sh -e\nx",
            b"#!/bin/sh\t-e\nx",
            b"#! /bin/sh",
            b"\x7fELF\ngit push",
        ];
        for text in of_shells {
            assert!(is_for_a_shell(text), "{}", text.escape_ascii());
        }
        let of_others: [&[u8]; 2] = [b"#!/usr/bin/env python3\nx", program];
        for text in of_others {
            assert!(!is_for_a_shell(text), "{}", text.escape_ascii());
            assert!(By::Shell.has_a_shell_read(text), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_file_longer_than_a_script_is_read_to_its_end() {
        let long = format!("{}git push\n", "echo 'a line of a generated file'\n".repeat(20_000));
        let held = held_in(&long);
        assert!(held.iter().any(|command| command.known().next() == Some("push")), "{}", held.len());
    }
}
