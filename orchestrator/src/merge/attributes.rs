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
    let mut macros = HashMap::from([("binary".to_owned(), Some(Way::Whole))]);
    let mut way = None;
    let (mut folder, mut rest) = (tree, path);
    loop {
        let listing = tree::list(odb, folder)?;
        if let Some(text) = text_of(odb, &listing)? {
            if text.len() > BYTES_MAX {
                way = Some(Way::Whole);
            }
            // Macros are only defined at the top; below they are used.
            if folder == tree {
                define(&text, &mut macros);
            }
            way = last_word(&text, rest, &macros).unwrap_or(way);
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

/// The lines that say something: a pattern, or the name of a macro behind its mark, and words.
fn lines(text: &[u8]) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let (pattern, words) = match line.strip_prefix('"') {
            Some(quoted) => quoted_pattern(quoted)?,
            None => {
                let end = line.find(char::is_whitespace).unwrap_or(line.len());
                (line[..end].to_owned(), &line[end..])
            }
        };
        // Git warns of a pattern that excludes, and takes it for none.
        let says = !pattern.is_empty() && !pattern.starts_with(['#', '!']);
        says.then(|| (pattern, words.split_whitespace().map(str::to_owned).collect()))
    })
}

/// A pattern between quotes, without them, and what stands behind it.
fn quoted_pattern(text: &str) -> Option<(String, &str)> {
    let mut pattern = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((pattern, &text[at + 1..])),
            '\\' => pattern.push(characters.next()?.1),
            other => pattern.push(other),
        }
    }
    None
}

fn define(text: &[u8], macros: &mut HashMap<String, Option<Way>>) {
    for (pattern, words) in lines(text) {
        if let Some(name) = pattern.strip_prefix("[attr]") {
            let says = says(&words, macros).flatten();
            macros.insert(name.to_owned(), says);
        }
    }
}

/// What the last line that speaks of merging says of `path`, relative to the folder of the attributes: the outer `None` where
/// none does, the inner where it takes back what was said.
fn last_word(text: &[u8], path: &[u8], macros: &HashMap<String, Option<Way>>) -> Option<Option<Way>> {
    let spoken = lines(text).filter_map(|(pattern, words)| Some((pattern, says(&words, macros)?)));
    spoken.filter(|(pattern, _)| matches(pattern, path)).last().map(|(_, said)| said)
}

fn says(words: &[String], macros: &HashMap<String, Option<Way>>) -> Option<Option<Way>> {
    words.iter().rev().find_map(|word| match word.as_str() {
        "-merge" | "merge=binary" => Some(Some(Way::Whole)),
        "!merge" => Some(None),
        "merge" => Some(Some(Way::Lines)),
        "merge=union" => Some(Some(Way::Union)),
        word if word.starts_with("merge=") => Some(Some(Way::Lines)),
        word => macros.get(word).copied().flatten().map(Some),
    })
}

/// Whether a pattern of attributes covers a file. One that cannot be read covers everything: a conflict loses nothing.
fn matches(pattern: &str, path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let mut builder = GitignoreBuilder::new("");
    if pattern.len() > GLOB_BYTES_MAX || builder.add_line(None, &without_braces(pattern)).is_err() {
        return true;
    }
    let Ok(rule) = builder.build() else { return true };
    rule.matched(Path::new(std::ffi::OsStr::from_bytes(path)), false).is_ignore()
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
        let mut macros = HashMap::from([("binary".to_owned(), Some(Way::Whole))]);
        define(text.as_bytes(), &mut macros);
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
}
