//! What a tree's own `.gitattributes` say of merging: which files git merges as a whole, never line by line (two changes of
//! such a file are a conflict, whatever their lines), and of which it keeps both sides' lines.
//!
//! Only files of the tree count, so the same plan gives the same tree everywhere; attributes of a machine (`info/attributes`,
//! `core.attributesFile`) and drivers that a machine's configuration names do not. Where a driver is named, lines are merged,
//! as git does where its configuration knows no such driver; what is in dispute then is a conflict.
//!
//! Source: gitattributes(5), "merge", "DEFINING MACRO ATTRIBUTES".

use std::collections::HashMap;
use std::path::Path;

use git2::{Odb, Oid};
use ignore::gitignore::GitignoreBuilder;
use swarm_protocol::glob_bounds::GLOB_BYTES_MAX;

use super::fold::FoldError;
use crate::tree::{self, Entry, Listing};

/// The file that a folder's attributes stand in.
const NAME: &[u8] = b".gitattributes";
/// A larger one is not read, and all that lies in its folder is merged as a whole. Git's own bound is 100 MiB.
const BYTES_MAX: usize = 1 << 20;

/// How a file is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By its lines, or as if.
    Lines,
    /// By its lines, and both sides' where both changed the same ones.
    Union,
    /// Not at all: two changes contradict each other.
    Whole,
}

/// How two changes of the file at `path`, from the top of `tree`, are merged.
///
/// # Errors
/// [`FoldError`] when trees or attributes cannot be read.
pub fn way(odb: &Odb<'_>, tree: Oid, path: &[u8]) -> Result<Way, FoldError> {
    let mut macros = Macros::default();
    let mut way = None;
    let (mut folder, mut rest) = (tree, path);
    loop {
        let listing = tree::list(odb, folder)?;
        match text_of(odb, &listing)? {
            Some(text) if text.len() > BYTES_MAX => way = Some(Way::Whole),
            Some(text) => {
                // Macros are only defined at the top; below they are used.
                if rest.len() == path.len() {
                    macros.define(&text);
                }
                way = last_word(&text, rest, &macros).unwrap_or(way);
            }
            None => {}
        }
        let Some(slash) = rest.iter().position(|&byte| byte == b'/') else { break };
        match tree::get(&listing, &rest[..slash]) {
            Some(below) if below.is_tree() => (folder, rest) = (below.id, &rest[slash + 1..]),
            // Ours has nothing there, so nothing of it speaks of the path.
            _ => break,
        }
    }
    Ok(way.unwrap_or(Way::Lines))
}

/// The attributes of one folder; git reads no link in their place.
fn text_of(odb: &Odb<'_>, folder: &Listing) -> Result<Option<Vec<u8>>, FoldError> {
    let is_file = |entry: &Entry| matches!(entry.canonical().mode, tree::FILE | tree::EXECUTABLE);
    let Some(entry) = tree::get(folder, NAME).filter(is_file) else { return Ok(None) };
    let read = |error| FoldError::of_read(entry.id, error);
    Ok(Some(odb.read(entry.id).map_err(read)?.data().to_vec()))
}

/// Git throws longer lines away.
const LINE_BYTES_MAX: usize = 2048;
/// What git takes for blank.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// The lines that say something: a pattern, or the name of a macro behind its mark, and words.
fn lines(text: &[u8]) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    // Git reads up to the first NUL.
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter(|line| line.len() <= LINE_BYTES_MAX).filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_start_matches(BLANK);
        let (pattern, words) = match line.strip_prefix('"').and_then(quoted_pattern) {
            Some(quoted) => quoted,
            None => {
                let end = line.find(BLANK).unwrap_or(line.len());
                (line[..end].to_owned(), &line[end..])
            }
        };
        // Git warns of a pattern that excludes, and takes it for none.
        let says = !pattern.is_empty() && !pattern.starts_with(['#', '!']);
        let words: Vec<String> = words.split(BLANK).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let is_understood = |word: &String| {
            let word = word.strip_prefix(['-', '!']).unwrap_or(word);
            is_name(word.split('=').next().unwrap_or_default())
        };
        (says && words.iter().all(is_understood)).then_some((pattern, words))
    })
}

/// Whether git takes a word for the name of an attribute; of a line with any other nothing counts.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !name.is_empty() && !name.starts_with('-') && !name.starts_with("builtin_") && name.bytes().all(is_letter)
}

/// A pattern between quotes, as a string of C, and what stands behind it; `None` where it is no such string.
fn quoted_pattern(text: &str) -> Option<(String, &str)> {
    let mut pattern = Vec::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((String::from_utf8_lossy(&pattern).into_owned(), &text[at + 1..])),
            '\\' => {
                let (at, escaped) = characters.next()?;
                pattern.push(match escaped {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => b'\n',
                    'r' => b'\r',
                    't' => b'\t',
                    'v' => 11,
                    '\\' | '"' => u8::try_from(escaped).ok()?,
                    '0'..='3' => {
                        characters.nth(1)?;
                        u8::from_str_radix(text.get(at..at + 3)?, 8).ok()?
                    }
                    _ => return None,
                });
            }
            other => pattern.extend(other.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    None
}

/// Macros by name: the words that stand for them.
struct Macros(HashMap<String, Vec<String>>);

impl Default for Macros {
    fn default() -> Self {
        Macros(HashMap::from([("binary".to_owned(), vec!["-merge".to_owned()])]))
    }
}

/// Macros in macros, so deep; git has no bound, and no use for more.
const MACRO_DEPTH_MAX: usize = 32;

impl Macros {
    /// The last of a name counts, wherever it is used.
    fn define(&mut self, text: &[u8]) {
        for (pattern, words) in lines(text) {
            if let Some(name) = pattern.strip_prefix("[attr]") {
                self.0.insert(name.to_owned(), words);
            }
        }
    }

    fn says(&self, words: &[String], depth: usize) -> Option<Option<Way>> {
        words.iter().rev().find_map(|word| match word.as_str() {
            "-merge" | "merge=binary" => Some(Some(Way::Whole)),
            "!merge" => Some(None),
            "merge" => Some(Some(Way::Lines)),
            "merge=union" => Some(Some(Way::Union)),
            word if word.starts_with("merge=") => Some(Some(Way::Lines)),
            _ if depth == MACRO_DEPTH_MAX => Some(Some(Way::Whole)),
            word => self.says(self.0.get(word)?, depth + 1),
        })
    }
}

/// What the last line that speaks of merging says of `path`, relative to the folder of the attributes: the outer `None` where
/// none does, the inner where it takes back what was said. A line of which nobody here knows whether it covers the path says
/// what loses nothing.
fn last_word(text: &[u8], path: &[u8], macros: &Macros) -> Option<Option<Way>> {
    let spoken = lines(text).filter_map(|(pattern, words)| Some((pattern, macros.says(&words, 0)?)));
    let meant = spoken.filter_map(|(pattern, said)| match covers(&pattern, path) {
        Covers::Yes => Some(said),
        Covers::No => None,
        Covers::Perhaps => Some(Some(Way::Whole)),
    });
    meant.last()
}

/// Whether a pattern of attributes covers a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Covers {
    Yes,
    No,
    Perhaps,
}

fn covers(pattern: &str, path: &[u8]) -> Covers {
    use std::os::unix::ffi::OsStrExt as _;
    let mut builder = GitignoreBuilder::new("");
    // Classes of letters by name are git's alone.
    let is_read = pattern.len() <= GLOB_BYTES_MAX && !pattern.contains("[:");
    if !is_read || builder.add_line(None, &without_braces(pattern)).is_err() {
        return Covers::Perhaps;
    }
    let Ok(rule) = builder.build() else { return Covers::Perhaps };
    let is_covered = rule.matched(Path::new(std::ffi::OsStr::from_bytes(path)), false).is_ignore();
    if is_covered { Covers::Yes } else { Covers::No }
}

/// Braces mean themselves to git, and alternatives to whoever reads the pattern here.
fn without_braces(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if matches!(character, '{' | '}') {
            plain.push('\\');
        }
        plain.push(character);
        if character == '\\' {
            plain.extend(characters.next());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, path: &str, expected: Option<Option<Way>>) {
        let mut macros = Macros::default();
        macros.define(text.as_bytes());
        assert_eq!(last_word(text.as_bytes(), path.as_bytes(), &macros), expected, "{text:?} {path}");
    }

    #[test]
    fn the_last_line_that_covers_a_path_and_speaks_of_merging_decides() {
        let (whole, lines, taken_back) = (Some(Some(Way::Whole)), Some(Some(Way::Lines)), Some(None));
        check("f -merge", "f", whole);
        check("f -merge", "g", None);
        check("*.lock binary", "a/b.lock", whole);
        check("/b.lock binary", "a/b.lock", None);
        check("a/*.lock merge=binary", "a/b.lock", whole);
        check("* -merge\nf merge", "f", lines);
        check("* -merge\nf !merge", "f", taken_back);
        check("* -merge\nf text", "f", whole);
        check("f merge=union", "f", Some(Some(Way::Union)));
        check("f merge=union\nf merge=other", "f", lines);
        check("[attr]joined merge=union\nf joined", "f", Some(Some(Way::Union)));
        check("f -merge merge", "f", lines);
        check("[attr]kept -merge -diff\nf kept", "f", whole);
        check("[attr]kept -diff\nf kept", "f", None);
        check("\"a b\" -merge", "a b", whole);
        check("# f -merge\n!f -merge\n  f -merge  \r\n", "f", whole);
        check("# f -merge\n!f -merge", "f", None);
        check("folder/ -merge", "folder/f", None);
        check("folder/** -merge", "folder/a/f", whole);
        check("{a,b} -merge", "a", None);
        check("{a,b} -merge", "{a,b}", whole);
    }

    #[test]
    fn what_git_reads_otherwise_than_it_looks_is_read_as_git_does() {
        let whole = Some(Some(Way::Whole));
        check("\u{feff}f -merge", "f", whole);
        check("[attr]a b\n[attr]b -merge\nf a", "f", whole);
        check("[attr]a a\nf a", "f", whole);
        check("[[:alpha:]] -merge", "f", whole);
        check("f -merge\n[[:alpha:]] merge", "f", whole);
        check("\"\\146\" -merge", "f", whole);
        check("\"a\\tb\" -merge", "a\tb", whole);
        check("f -merge\nf a@b merge", "f", whole);
        check("f -merge\nf builtin_x merge", "f", whole);
        check("f -merge\0x\nf merge", "f", whole);
        check(&format!("f -merge\nf merge {}", "x".repeat(2050)), "f", whole);
        check("f -merge\nf\u{b}merge", "f", whole);
    }
}
