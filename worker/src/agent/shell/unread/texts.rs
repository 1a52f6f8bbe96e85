//! Programs that are given a text of their own language, in which they may be told to run others: `awk`, `sed`, `make`.

use super::awk::{TEXT, without_texts};
use super::options::{Letters, operands, values};
use super::{FILE, Found, PLAIN, Unread, Word, is_stream};
use crate::agent::shell::Command;
use crate::agent::shell::sed;

/// `source FILE`.
pub fn sourced(command: &Command) -> Option<Unread> {
    let file = command.words.iter().skip(1).find(|word| word.text() != "--")?;
    match file.literal() {
        Some(path) if !is_stream(path) => None,
        _ => Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE)),
    }
}

/// `awk` runs commands by `system`, pipes and calls of functions whose name it makes.
///
/// Source: gawk(1), mawk(1).
pub fn awk(command: &Command) -> Found {
    const LETTERS: Letters<'static> = Letters { valued: "vFfeEilmW", attached: "dDLopx" };
    const VALUED: &[&str] = &["file", "assign", "field-separator", "source", "exec", "include", "load"];
    let is_sandboxed = |word: &Word| matches!(word.literal(), Some("--sandbox" | "-S"));
    if command.words.get(1).is_some_and(is_sandboxed) {
        return Found::default();
    }
    let mut programs = values(command, LETTERS, &["-e", "--source"]);
    let files = values(command, LETTERS, &["-f", "--file", "-E", "--exec", "-i", "--include", "-l", "--load"]);
    if programs.is_empty() && files.is_empty() {
        programs.extend(operands(command, LETTERS, VALUED).first().map(|word| (*word).clone()));
    }
    let is_flow = |file: &&Word| file.literal().is_none_or(is_stream);
    let piped = |program: &Word| program.literal().and_then(awk_pipes);
    let program = files.iter().find(is_flow).or_else(|| programs.iter().find(|program| piped(program).is_none()));
    let unread = program.map(|program| {
        let what = format!("`awk` may run commands of `{}`", program.text());
        let instead = "write a program for awk in single quotes that has no `system` and no `@`, and behind `|` a command in \
                       quotes of its own and nothing else; values go in by `-v`";
        Unread::new(what, instead)
    });
    Found { unread, texts: programs.iter().filter_map(piped).flatten().collect(), ..Found::default() }
}

/// The commands that a program of awk pipes to and from, where each is a text by itself (`print | "sort"`,
/// `("date" | getline now)`); `None` where it may run what cannot be read.
fn awk_pipes(program: &str) -> Option<Vec<String>> {
    let (bare, texts) = without_texts(program)?;
    if ["system", "@"].iter().any(|mark| bare.contains(mark)) {
        return None;
    }
    let (mut commands, mut rest) = (vec![], bare.replace("||", "  ").chars().collect::<Vec<char>>());
    rest.retain(|c| !matches!(c, ' ' | '\t'));
    // Which text a mark stands for.
    let text_at = |at: usize| texts.get(rest[..at].iter().filter(|c| **c == TEXT).count());
    for at in (0..rest.len()).filter(|at| rest[*at] == '|') {
        let reads = rest[at + 1..].starts_with(&['g', 'e', 't', 'l', 'i', 'n', 'e']);
        let (text, around) = match reads {
            true => (at.checked_sub(1)?, at.checked_sub(2).map(|before| rest[before])),
            false => (at + 1, rest.get(at + 2).copied()),
        };
        let alone = if reads { "({;\n" } else { ");}\n" };
        if rest.get(text) != Some(&TEXT) || !around.is_none_or(|c| alone.contains(c)) {
            return None;
        }
        commands.push(text_at(text).filter(|text| !text.contains('\\'))?.clone());
    }
    Some(commands)
}

/// GNU `sed` runs commands by `e`.
///
/// Source: sed(1).
pub fn sed(command: &Command) -> Option<Unread> {
    const LETTERS: Letters<'static> = Letters { valued: "efl", attached: "i" };
    if command.words.get(1).and_then(Word::literal) == Some("--sandbox") {
        return None;
    }
    let mut scripts = values(command, LETTERS, &["-e", "--expression"]);
    let files = values(command, LETTERS, &["-f", "--file"]);
    if let Some(file) = files.iter().find(|file| file.literal().is_none_or(is_stream)) {
        return Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE));
    }
    if scripts.is_empty() && files.is_empty() {
        let operands = operands(command, LETTERS, &["expression", "file", "line-length"]);
        scripts.extend(operands.first().map(|word| (*word).clone()));
    }
    // Those of several options are one script, a line each.
    let whole =
        scripts.iter().map(Word::literal).collect::<Option<Vec<_>>>().map(|lines| Word::Literal(lines.join("\n")));
    let unknown = || scripts.iter().find(|script| script.literal().is_none()).cloned();
    let script = whole.or_else(unknown).filter(|script| script.literal().is_none_or(sed::may_run))?;
    let instead = "write its script in plain quotes, with variables that are set to plain words in the same script, or give \
                   `sed` the option `--sandbox` before all others, with which it runs nothing";
    Some(Unread::new(format!("`sed` may run commands of `{}`", script.text()), instead))
}

/// Variables of `make` that its own rules run.
const MAKE_RUNS: &[&str] = &[
    "SHELL",
    "MAKE",
    "CC",
    "CXX",
    "CPP",
    "LD",
    "AR",
    "AS",
    "FC",
    "LEX",
    "YACC",
    "RM",
    "INSTALL",
    "GUILE",
    "MAKEFLAGS",
    "MAKEFILES",
    ".SHELLFLAGS",
];

/// `make` runs what its variables hold, and makefiles that are no files. Which of its variables a makefile runs is in a file; so
/// what a substitution prints is as good as that, but for a variable that make itself runs.
pub fn make(command: &Command) -> Found {
    const LETTERS: Letters<'static> = Letters { valued: "CfIoWE", attached: "jlO" };
    let files = values(command, LETTERS, &["-f", "--file", "--makefile"]);
    let texts = values(command, LETTERS, &["--eval", "-E"]);
    let flow = files.into_iter().find(|file| file.literal().is_none_or(is_stream));
    if let Some(text) = flow.or_else(|| texts.into_iter().next()) {
        return Found::unread(format!("`make` runs `{}`, which is no file", text.text()), FILE);
    }
    let mut found = Found::default();
    for word in command.words.iter().skip(1) {
        let text = word.text().trim_start_matches('"');
        let Some((name, value)) = text.split_once('=').filter(|_| !text.starts_with('-')) else { continue };
        let name = name.trim_end_matches([':', '+', '?', '!']);
        let is_function =
            |value: &str| ["shell", "eval", "guile", "file", "call"].iter().any(|part| value.contains(part));
        let is_read_by_files = !name.contains(['$', '`', '!']) && !MAKE_RUNS.contains(&name) && !is_function(value);
        match word.literal() {
            Some(_) if !value.contains(['$', '`']) => found.runs(&Word::Literal(value.to_owned())),
            None if is_read_by_files => {}
            _ => found.unread = Some(Unread::new(format!("`make` runs what `{}` holds", word.text()), PLAIN)),
        }
    }
    found
}

/// `less +COMMAND` and its relatives; a place to begin at (`+G`, `+100`, `+/text`) is none.
///
/// Source: less(1), OPTIONS.
pub fn paged(command: &Command) -> Option<Unread> {
    const LETTERS: Letters<'static> = Letters { valued: "bhjkopPtTxyzD", attached: "" };
    let begins = |word: &&Word| word.text().trim_start_matches(['"', '\'']).starts_with('+');
    let is_place = |place: &str| {
        let place = place.trim_start_matches('+');
        let finds = place.starts_with(['/', '?']) && !place.contains(char::is_control);
        finds || place.chars().all(|c| c.is_ascii_digit() || matches!(c, 'G' | 'g' | 'F' | 'f' | '%'))
    };
    let runs = |word: &&Word| word.literal().is_none_or(|text| !is_place(text));
    let keys = values(command, LETTERS, &["-k", "--lesskey-file", "--lesskey-src", "--lesskey-content"]);
    let what = command.words.iter().skip(1).filter(begins).find(runs).or_else(|| keys.first())?;
    Some(Unread::new(format!("a pager runs what `{}` tells it", what.text()), "look at the file with `cat` or `head`"))
}

/// `m4` runs what a macro tells it. Those of a file are the file's; what it is given as a definition is none where it is a plain
/// text, and its input may be anything.
///
/// Source: m4(1).
pub fn m4(name: &str, command: &Command) -> Option<Unread> {
    const LETTERS: Letters<'static> = Letters { valued: "DUIFRHLlotW", attached: "d" };
    const VALUED: &[&str] = &["define", "undefine", "include", "freeze-state", "reload-state", "debugfile", "trace"];
    let told = values(command, LETTERS, &["-D", "--define"]);
    let is_text = |word: &&Word| word.literal().is_none_or(|text| text.contains(['(', '`', '$']));
    if let Some(told) = told.iter().find(is_text) {
        return Some(Unread::new(format!("`{name}` may run what `{}` defines", told.text()), PLAIN));
    }
    let files = operands(command, LETTERS, VALUED);
    let is_flow = files.iter().any(|file| file.literal().is_none_or(is_stream));
    (files.is_empty() || is_flow).then(|| Unread::input(name))
}

/// `rpm` expands `%(…)` in what it is given to evaluate or to define.
///
/// Source: rpm(8), rpm-macros(7).
pub fn rpm(command: &Command) -> Option<Unread> {
    const LETTERS: Letters<'static> = Letters { valued: "DEr", attached: "" };
    let told = values(command, LETTERS, &["-E", "--eval", "-D", "--define", "--pipe"]);
    let what = told.iter().find(|word| word.literal().is_none_or(|text| text.contains("%(") || text.contains("%{")));
    let pipe = values(command, LETTERS, &["--pipe"]);
    let what = what.or_else(|| pipe.first())?;
    Some(Unread::new(format!("`rpm` runs what `{}` says", what.text()), PLAIN))
}

/// Programs that read what to build from a file, or from what flows through one, and some of them from an option.
pub fn built(name: &str, command: &Command) -> Found {
    const LETTERS: Letters<'static> = Letters { valued: "fCjklIdPtDS", attached: "" };
    let texts: &[&str] = match name {
        "rake" => &["-e", "--execute", "-E", "--execute-continue", "-p", "--execute-print"],
        "just" => &["--shell", "--shell-arg", "-c", "--command", "--chooser"],
        _ => &[],
    };
    let files = ["-f", "--file", "--justfile", "--rakefile", "--buildfile", "-P", "-t", "--taskfile", "--noxfile"];
    let flow = values(command, LETTERS, &files).into_iter().find(|file| file.literal().is_none_or(is_stream));
    let launcher = command.known().find(|word| {
        let key = word.split_once('=').map_or("", |(key, _)| key);
        word.starts_with("-D") && ["LAUNCHER", "RULE_", "_COMMAND", "_PROGRAM"].iter().any(|part| key.contains(part))
    });
    match (flow, values(command, LETTERS, texts).into_iter().next(), launcher) {
        (Some(text), _, _) | (None, Some(text), _) => {
            Found::unread(format!("`{name}` runs `{}`, which is no file", text.text()), FILE)
        }
        (None, None, Some(setting)) => Found::unread(format!("`{name}` runs what `{setting}` names"), "leave it out"),
        (None, None, None) => Found::default(),
    }
}
