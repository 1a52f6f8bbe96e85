//! `sqlite3` and `psql`: what they are told in SQL concerns their database, but for the words with which they leave for a shell
//! (`.shell`, `\\!`), and what comes from their input may hold those.

use super::options::{Letters, has, operands, values};
use super::{Unread, is_stream};
use crate::agent::shell::{Command, Word};

const PLAIN_SQL: &str = "give it one plain statement of SQL as an argument, or a file of them";

/// What a client of a database is told that nobody can read.
pub fn find(name: &str, command: &Command) -> Option<Unread> {
    let texts = match name {
        "sqlite3" => sqlite(command),
        "mysql" | "mariadb" | "duckdb" => client(command),
        _ => psql(command),
    };
    let Some(texts) = texts else { return Some(Unread::input(name)) };
    if name != "psql" && has(command, Letters::NONE, &["--pager"]) {
        return Some(Unread::new(format!("`{name} --pager` runs what it names"), "leave it out"));
    }
    let leaves = |word: &&Word| word.literal().is_none_or(|text| leaves(text) || is_stream(text));
    let text = texts.iter().find(leaves)?;
    Some(Unread::new(format!("`{name}` may leave for a shell in `{}`", text.text()), PLAIN_SQL))
}

/// What `sqlite3` is told; `None` where that comes from its input.
///
/// Source: sqlite3(1).
fn sqlite(command: &Command) -> Option<Vec<Word>> {
    const VALUED: &[&str] =
        &["-cmd", "-init", "-separator", "-newline", "-nullvalue", "-mmap", "-maxsize", "-vfs", "-lookaside"];
    let own: Vec<Word> = values(command, Letters::NONE, &["-cmd", "--cmd", "-init", "--init"]);
    if has(command, Letters::NONE, &["-version", "--version", "-help", "--help"]) {
        return Some(own);
    }
    let mut plain = vec![];
    let mut words = command.words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.text() {
            option if VALUED.iter().any(|valued| option.trim_start_matches('-') == &valued[1..]) => drop(words.next()),
            option if option.starts_with('-') => {}
            _ => plain.push(word.clone()),
        }
    }
    // The first one is the database.
    (plain.len() > 1).then(|| own.into_iter().chain(plain.into_iter().skip(1)).collect())
}

/// What `psql` is told; `None` where that comes from its input.
///
/// Source: psql(1).
fn psql(command: &Command) -> Option<Vec<Word>> {
    const LETTERS: Letters<'static> = Letters { valued: "cdfhLopPRTUvF", attached: "" };
    if has(command, LETTERS, &["-l", "--list", "-V", "--version", "--help"]) {
        return Some(vec![]);
    }
    let mut told = values(command, LETTERS, &["-c", "--command", "-o", "--output"]);
    let files = values(command, LETTERS, &["-f", "--file"]);
    let given = !files.is_empty() || !values(command, LETTERS, &["-c", "--command"]).is_empty();
    told.extend(files);
    let places =
        operands(command, LETTERS, &["command", "file", "dbname", "host", "port", "username", "set", "variable"]);
    // A place may be given as settings, which name no program.
    (given && places.len() <= 2).then_some(told)
}

/// What a client is told by its options; `None` where that comes from its input.
///
/// Source: mysql(1), duckdb(1).
fn client(command: &Command) -> Option<Vec<Word>> {
    const LETTERS: Letters<'static> = Letters { valued: "hPuDSe", attached: "p" };
    let names: &[&str] = &["-e", "--execute", "-c", "-s", "-cmd", "-init", "--init-command"];
    let told = values(command, LETTERS, names);
    let is_about = has(command, LETTERS, &["--version", "--help", "-version", "-help"]);
    (is_about || !told.is_empty()).then_some(told)
}

/// Whether a text of theirs may run a program.
fn leaves(text: &str) -> bool {
    let dotted = text.lines().any(|line| line.trim_start().starts_with('.'));
    let lower = text.to_lowercase();
    dotted
        || text.starts_with('|')
        || ["\\", "program", "edit(", "load_extension", "system", "pager", "shell"]
            .iter()
            .any(|mark| lower.contains(mark))
}
