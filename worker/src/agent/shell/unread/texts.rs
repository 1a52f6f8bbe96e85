//! Programs that are given a text of their own language, in which they may be told to run others: `awk`, `sed`, `make`.

use super::{FILE, Found, PLAIN, Unread, Word, is_stream, values};
use crate::agent::shell::Command;
use crate::agent::shell::danger::sed_script_runs;

/// `source FILE`.
pub fn sourced(command: &Command) -> Option<Unread> {
    let file = command.words.iter().skip(1).find(|word| word.text() != "--")?;
    match file.literal() {
        Some(path) if !is_stream(path) => None,
        _ => Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE)),
    }
}

/// `awk` runs commands by `system`, pipes and calls of functions whose name it makes.
pub fn awk(command: &Command) -> Option<Unread> {
    let mut words = command.words.iter().skip(1);
    let mut programs: Vec<&Word> = vec![];
    let mut from_file = false;
    while let Some(word) = words.next() {
        let text = word.text();
        match text {
            "--sandbox" | "-S" => return None,
            "-v" | "-F" | "--assign" | "--field-separator" => drop(words.next()),
            "-e" | "--source" => programs.extend(words.next()),
            "-f" | "--file" | "-E" | "--exec" => {
                from_file = true;
                programs.extend(words.next().filter(|file| file.literal().is_none_or(is_stream)));
            }
            _ if text.len() > 1 && text.starts_with('-') => {}
            _ => {
                programs.extend((!from_file && programs.is_empty()).then_some(word));
                break;
            }
        }
    }
    let runs = |program: &&&Word| program.literal().is_none_or(|text| is_stream(text) || awk_runs(text));
    let program = programs.iter().find(runs)?;
    Some(Unread::new(
        format!("`awk` may run commands of `{}`", program.text()),
        "write a program for awk in single quotes that has no `system`, no `|` and no `@`; values go in by `-v`",
    ))
}

fn awk_runs(program: &str) -> bool {
    let bare = without_awk_texts(program);
    ["system", "@"].iter().any(|mark| bare.contains(mark)) || bare.replace("||", "").contains('|')
}

/// A program of awk without what stands in quotes, and without regular expressions where nothing else can stand.
fn without_awk_texts(program: &str) -> String {
    let (mut out, mut chars) = (String::new(), program.chars());
    while let Some(c) = chars.next() {
        let starts_operand =
            out.trim_end_matches([' ', '\t']).chars().next_back().is_none_or(|c| "~(,{;!&|=\n}".contains(c));
        let end = match c {
            '"' => '"',
            '/' if starts_operand => '/',
            _ => {
                out.push(c);
                continue;
            }
        };
        while let Some(inner) = chars.next() {
            match inner {
                '\\' => drop(chars.next()),
                inner if inner == end => break,
                _ => {}
            }
        }
        out.push('0');
    }
    out
}

/// GNU `sed` runs commands by `e`.
pub fn sed(command: &Command) -> Option<Unread> {
    if command.known().any(|word| word == "--sandbox") {
        return None;
    }
    let instead = "write its script in plain quotes, or give `sed` the option `--sandbox`, with which it runs nothing";
    let mut scripts = values(command, &["-e", "--expression"]);
    let files = values(command, &["-f", "--file"]);
    if let Some(file) = files.iter().find(|file| file.literal().is_none_or(is_stream)) {
        return Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE));
    }
    if scripts.is_empty() && files.is_empty() {
        scripts.extend(command.words.iter().skip(1).find(|word| !word.text().starts_with('-')).cloned());
    }
    // `-ne SCRIPT`
    let clustered = command.words.windows(2).filter(|pair| {
        pair[0].literal().is_some_and(|word| {
            word.len() > 2 && !word.starts_with("--") && word.starts_with('-') && word.ends_with('e')
        })
    });
    scripts.extend(clustered.map(|pair| pair[1].clone()));
    let script = scripts.iter().find(|script| script.literal().is_none_or(sed_script_runs))?;
    Some(Unread::new(format!("`sed` may run commands of `{}`", script.text()), instead))
}

/// `make` runs what its variables hold, and makefiles that are no files.
pub fn make(command: &Command) -> Found {
    let files = values(command, &["-f", "--file", "--makefile"]);
    let mut texts = values(command, &["--eval"]).into_iter().chain(values(command, &["-E"]));
    if let Some(text) = files.into_iter().find(|file| file.literal().is_none_or(is_stream)).or_else(|| texts.next()) {
        return Found::unread(format!("`make` runs `{}`, which is no file", text.text()), FILE);
    }
    let mut found = Found::default();
    for word in command.words.iter().skip(1) {
        let Some((_, value)) = word.text().split_once('=').filter(|_| !word.text().starts_with('-')) else { continue };
        match word.literal() {
            Some(_) if !value.contains(['$', '`']) => found.runs(&Word::Literal(value.to_owned())),
            _ => found.unread = Some(Unread::new(format!("`make` runs what `{}` holds", word.text()), PLAIN)),
        }
    }
    found
}
