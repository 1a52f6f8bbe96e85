//! What a script writes into a file and then runs: `echo 'x' > f; . ./f`. What lies in a file is not read, but this stands in the
//! script itself. Only texts that are plain there are looked at, and only the plain words that a command begins with: of anything
//! else a file holds nothing is said.

use std::collections::HashSet;

use tree_sitter::Node;

use super::files::Given;
use super::unread::{Letters, program_file, values};
use super::unwrap::SHELLS;
use super::{Command, Place, Reader, Word, redirects, word};

/// The most texts of one script that are looked at.
const TEXTS_MAX: usize = 64;

/// Texts that go into files.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// The files' names without their folders.
    places: HashSet<String>,
    /// One of them is a hook of git's.
    is_hook: bool,
    /// What may go into them.
    texts: Vec<String>,
}

impl Reader {
    /// Keeps what statements below a node write into files: all texts of a statement count for all of its files.
    pub(super) fn writes(&mut self, node: Node<'_>, text: &str) {
        if matches!(node.kind(), "redirected_statement" | "pipeline" | "command") {
            let (mut places, mut texts) = (vec![], vec![]);
            self.written_below(node, text, &mut places, &mut texts);
            if !places.is_empty() && !texts.is_empty() {
                let is_hook = places.iter().any(|place| place.contains("hooks/"));
                self.written.push(Written { places: places.iter().map(|place| name(place)).collect(), is_hook, texts });
                return;
            }
        }
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        children.into_iter().for_each(|child| self.writes(child, text));
    }

    fn written_below(&mut self, node: Node<'_>, text: &str, places: &mut Vec<String>, texts: &mut Vec<String>) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        match node.kind() {
            "file_redirect" => {
                let place = redirects::target(node).filter(|_| !text[node.byte_range()].contains('<'));
                places.extend(place.into_iter().flat_map(|place| self.names(place, text)));
            }
            "heredoc_body" => texts.push(text[node.byte_range()].to_owned()),
            "herestring_redirect" => {
                let said = children.last().map(|said| word::read(*said, text).word);
                texts.extend(said.and_then(|said| said.literal().map(str::to_owned)));
            }
            "command" => {
                let words: Vec<Node<'_>> = node.children_by_field_name("argument", &mut node.walk()).collect();
                match node.child_by_field_name("name").map(|name| &text[name.byte_range()]) {
                    Some("tee") => places.extend(words.iter().flat_map(|place| self.names(*place, text))),
                    Some("echo" | "printf") => {
                        let words = words.iter().map(|said| word::read(*said, text).word);
                        texts.push(said(&words.collect::<Vec<_>>()));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        children.into_iter().for_each(|child| self.written_below(child, text, places, texts));
    }

    /// All that a file's name may be.
    fn names(&mut self, node: Node<'_>, text: &str) -> Vec<String> {
        match self.read_word(node, text) {
            Word::Literal(name) => vec![name],
            Word::Assigned(_, names) => names,
            Word::Unknown(_) | Word::Fed(_) => vec![],
        }
    }

    /// Reads what was written into files that a shell of the script runs.
    pub(super) fn run_written(&mut self) {
        let commands = || self.script.commands.iter().chain(&self.script.handed);
        let loaded = self.loads.iter().map(|file| name(file));
        let run: HashSet<String> = commands().filter_map(run_by_a_shell).chain(loaded).collect();
        let runs_git = commands().any(|command| command.name() == Some("git"));
        let written = std::mem::take(&mut self.written);
        let runs = |one: &&Written| (one.is_hook && runs_git) || one.places.iter().any(|place| run.contains(place));
        let texts: Vec<&String> = written.iter().filter(runs).flat_map(|one| &one.texts).take(TEXTS_MAX).collect();
        let programs =
            commands().filter_map(|command| run_as_program(command, &written)).take(TEXTS_MAX).collect::<Vec<_>>();
        for program in programs {
            let mut inner = Reader { depth: self.depth + 1, is_handed: true, ..Reader::default() };
            inner.take(program);
            self.script.handed.extend(inner.script.commands.into_iter().chain(inner.script.handed));
            self.script.unread.extend(inner.script.unread);
        }
        for text in texts.into_iter().filter(|text| is_for_a_shell(text)) {
            let mut inner = Reader { depth: self.depth + 1, is_handed: true, ..Reader::default() };
            inner.text(text, Place::default());
            let commands = inner.script.commands.into_iter().chain(inner.script.handed);
            self.script.handed.extend(commands.filter(|command| !command.resolved).filter_map(plain_front));
        }
    }
}

/// `awk -f FILE` and `sed -f FILE` with the text that goes into the file in the file's place.
fn run_as_program(command: &Command, written: &[Written]) -> Option<Command> {
    let program = command.name().filter(|name| name.ends_with("awk") || name.ends_with("sed"))?;
    let letters = Letters { valued: if program.ends_with("awk") { "vFe" } else { "el" }, attached: "i" };
    let files = values(command, letters, &["-f", "--file"]);
    let is_file = |one: &&Written| files.iter().filter_map(Word::literal).any(|file| one.places.contains(&name(file)));
    let text = written.iter().find(is_file)?.texts.join("\n");
    Some(Command::of([program, "--", &text].map(|word| Word::Literal(word.to_owned())).to_vec()))
}

/// The name, without its folder, of a file that a command runs or that a shell takes in.
fn run_by_a_shell(command: &Command) -> Option<String> {
    let Given::File(file) = program_file(command) else { return None };
    let program = command.name().unwrap_or_default();
    let is_shell = SHELLS.contains(&program) || matches!(program, "." | "source");
    (is_shell || command.words.first().and_then(Word::literal) == Some(file)).then(|| name(file))
}

/// A command up to the first word that is not plain.
fn plain_front(command: Command) -> Option<Command> {
    let words: Vec<Word> = command.words.iter().take_while(|word| word.literal().is_some()).cloned().collect();
    (!words.is_empty()).then_some(Command { words, ..command })
}

fn name(place: &str) -> String {
    place.rsplit('/').next().unwrap_or(place).to_owned()
}

/// Whether a file of that text is a script of the shell's: it begins so, or does not say.
fn is_for_a_shell(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    !first.starts_with("#!") || first.ends_with("sh") || first.contains("sh ")
}

/// What `echo` or `printf` prints, as near as it matters: each `%s` is a word, `\n` a line break.
fn said(words: &[Word]) -> String {
    let mut words = words.iter().map(Word::text).filter(|word| !matches!(*word, "-n" | "-e" | "-en" | "-ne" | "--"));
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mark = ["%s", "%b"].into_iter().filter_map(|mark| out.find(mark)).min();
        match mark {
            Some(at) => out.replace_range(at..at + 2, word),
            None => out = format!("{out} {word}"),
        }
    }
    out.replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_put_together() {
        let check = |words: &[&str], expected: &str| {
            let words: Vec<Word> = words.iter().map(|word| Word::Literal((*word).to_owned())).collect();
            assert_eq!(said(&words), expected);
        };
        check(&["a b", "c"], "a b c");
        check(&["-e", "a\\nb"], "a\nb");
        check(&["%s %s\\n", "a", "b"], "a b\n");
        check(&["%s\\n", "a b"], "a b\n");
    }

    #[test]
    fn a_file_for_another_interpreter_is_none_of_the_shell() {
        assert!(
            is_for_a_shell("git push") && is_for_a_shell("#!/usr/bin/env bash\nx") && is_for_a_shell("#!/bin/sh -e\nx")
        );
        assert!(!is_for_a_shell("#!/usr/bin/env python3\nx"));
    }
}
