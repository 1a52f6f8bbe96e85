//! Patches over several files, in the notation that OpenAI's models are trained on. Parsed whole before anything changes;
//! applied to texts in memory, so that a patch happens in all files or in none.
//!
//! ```text
//! *** Begin Patch
//! *** Update File: src/a.rs
//! *** Move to: src/b.rs
//! @@ fn main() {
//!      let x = 1;
//! -    let y = 2;
//! +    let y = 3;
//! *** End of File
//! *** Add File: notes.md
//! +text
//! *** Delete File: old.txt
//! *** End Patch
//! ```

use std::collections::BTreeMap;

use super::passage::{self, Rung, dominant_end, lines};
use super::placeholder;

/// What a patch does to one file. Paths are as written, relative to where the agent works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePatch {
    /// Makes a file that is not there yet.
    Add {
        /// Where.
        path: String,
        /// Its whole text.
        text: String,
    },
    /// Removes a file.
    Delete {
        /// Which.
        path: String,
    },
    /// Changes a file, and perhaps moves it.
    Update {
        /// Which.
        path: String,
        /// Where to.
        moved_to: Option<String>,
        /// In the order of the file.
        hunks: Vec<Hunk>,
    },
}

impl FilePatch {
    /// The same with every path in the form that `plain` gives it: two spellings of one file are one.
    ///
    /// # Errors
    /// Those of `plain`.
    pub fn spelled<E>(self, plain: impl Fn(&str) -> Result<String, E>) -> Result<FilePatch, E> {
        Ok(match self {
            FilePatch::Add { path, text } => FilePatch::Add { path: plain(&path)?, text },
            FilePatch::Delete { path } => FilePatch::Delete { path: plain(&path)? },
            FilePatch::Update { path, moved_to, hunks } => {
                let moved_to = moved_to.map(|path| plain(&path)).transpose()?;
                FilePatch::Update { path: plain(&path)?, moved_to, hunks }
            }
        })
    }
}

/// One changed passage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// Lines that stand somewhere above, outermost first.
    pub anchors: Vec<String>,
    /// What stands there now.
    pub old: Vec<String>,
    /// What is to stand there.
    pub new: Vec<String>,
    /// The passage is the end of the file.
    pub at_end: bool,
}

/// Why a patch is refused. The text is for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// Not a patch.
    #[error("line {line} of the patch: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A file is named twice, is there and should not be, or the other way round.
    #[error("{path}: {what}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A passage is not there.
    #[error("{path}: passage {hunk} does not occur{}; read the file again", near(.nearest))]
    NotFound {
        /// Which file.
        path: String,
        /// From 1.
        hunk: usize,
        /// The line nearest to it, from 1.
        nearest: Option<usize>,
    },
    /// A passage is there more than once.
    #[error("{path}: passage {hunk} occurs at lines {lines:?}; put a line from above it behind `@@`")]
    Ambiguous {
        /// Which file.
        path: String,
        /// From 1.
        hunk: usize,
        /// From 1.
        lines: Vec<usize>,
    },
    /// A line would stand there otherwise than all else.
    #[error("{path}: `{text}` would be indented otherwise than the file (tabs, spaces); quote the lines as they stand")]
    Indentation {
        /// Which file.
        path: String,
        /// The line.
        text: String,
    },
    /// Something is left out.
    #[error("{path}: `{text}` stands for text that is not there; write it out")]
    Placeholder {
        /// Which file.
        path: String,
        /// The line.
        text: String,
    },
}

fn near(nearest: &Option<usize>) -> String {
    nearest.map_or(String::new(), |line| format!(" (line {line} is nearest)"))
}

/// Parses a patch.
///
/// # Errors
/// [`PatchError::Syntax`].
pub fn parse(text: &str) -> Result<Vec<FilePatch>, PatchError> {
    let all: Vec<&str> = text.trim().lines().map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let error = |at: usize, what| PatchError::Syntax { line: at + 1, what };
    if all.first().is_none_or(|line| line.trim() != "*** Begin Patch") {
        return Err(error(0, "a patch begins with `*** Begin Patch`"));
    }
    if all.len() < 2 || all.last().is_none_or(|line| line.trim() != "*** End Patch") {
        return Err(error(all.len() - 1, "a patch ends with `*** End Patch`"));
    }
    let (mut at, end) = (1, all.len() - 1);
    let mut patches = vec![];
    while at < end {
        let line = all[at];
        let body = at + 1;
        let next = (body..end).find(|&at| is_file(all[at])).unwrap_or(end);
        if let Some(path) = named(line, "*** Add File: ") {
            let mut text = String::new();
            for (n, line) in all[body..next].iter().enumerate() {
                let line = line.strip_prefix('+').ok_or(error(body + n, "each line of a new file begins with `+`"))?;
                text.push_str(line);
                text.push('\n');
            }
            patches.push(FilePatch::Add { path, text });
        } else if let Some(path) = named(line, "*** Delete File: ") {
            if body != next {
                return Err(error(body, "nothing follows the name of a file to delete"));
            }
            patches.push(FilePatch::Delete { path });
        } else if let Some(path) = named(line, "*** Update File: ") {
            let moved_to = all.get(body).filter(|_| body < next).and_then(|line| named(line, "*** Move to: "));
            let first = body + usize::from(moved_to.is_some());
            let hunks = hunks(&all[first..next], first)?;
            if hunks.is_empty() && moved_to.is_none() {
                return Err(error(at, "an update changes something"));
            }
            patches.push(FilePatch::Update { path, moved_to, hunks });
        } else {
            return Err(error(at, "expected `*** Add File: `, `*** Delete File: ` or `*** Update File: `"));
        }
        at = next;
    }
    if patches.is_empty() {
        return Err(error(0, "it names no file"));
    }
    Ok(patches)
}

fn is_file(line: &str) -> bool {
    ["*** Add File: ", "*** Delete File: ", "*** Update File: "].iter().any(|head| line.starts_with(head))
}

fn named(line: &str, head: &str) -> Option<String> {
    line.strip_prefix(head).map(|path| path.trim().to_owned()).filter(|path| !path.is_empty())
}

/// The passages of one file; `first` is the number of the first line within the patch, from 0.
fn hunks(lines: &[&str], first: usize) -> Result<Vec<Hunk>, PatchError> {
    let mut hunks: Vec<Hunk> = vec![];
    let mut open: Option<Hunk> = None;
    let started = |hunk: &Hunk| !hunk.old.is_empty() || !hunk.new.is_empty();
    for (n, line) in lines.iter().enumerate() {
        if let Some(anchor) = line.strip_prefix("@@") {
            // Several in a row narrow down where one passage is.
            if open.as_ref().is_some_and(started) {
                hunks.extend(open.take());
            }
            let anchor = anchor.strip_prefix(' ').unwrap_or(anchor);
            let hunk = open.get_or_insert_default();
            if !anchor.trim().is_empty() {
                hunk.anchors.push(anchor.to_owned());
            }
            continue;
        }
        if *line == "*** End of File" {
            let Some(mut hunk) = open.take() else {
                return Err(PatchError::Syntax {
                    line: first + n + 1,
                    what: "a passage comes before the end of the file",
                });
            };
            hunk.at_end = true;
            hunks.push(hunk);
            continue;
        }
        let hunk = open.get_or_insert_default();
        let mut rest = line.chars();
        match (rest.next(), rest.as_str()) {
            // An empty line is a line of context whose space was lost.
            (None | Some(' '), rest) => {
                hunk.old.push(rest.to_owned());
                hunk.new.push(rest.to_owned());
            }
            (Some('-'), rest) => hunk.old.push(rest.to_owned()),
            (Some('+'), rest) => hunk.new.push(rest.to_owned()),
            (Some(_), _) => {
                let what = "each line of a passage begins with a space, `-` or `+`";
                return Err(PatchError::Syntax { line: first + n + 1, what });
            }
        }
    }
    hunks.extend(open.filter(started));
    Ok(hunks)
}

/// The files that patches move, with where to.
pub fn moves(patches: &[FilePatch]) -> impl Iterator<Item = (&str, &str)> {
    patches.iter().filter_map(|patch| match patch {
        FilePatch::Update { path, moved_to: Some(to), .. } => Some((path.as_str(), to.as_str())),
        FilePatch::Update { .. } | FilePatch::Add { .. } | FilePatch::Delete { .. } => None,
    })
}

/// The files after a patch: a text, or `None` for a file that is gone. `read` gives a file's text now, `None` where there
/// is none.
///
/// # Errors
/// All of [`PatchError`]; nothing is to be written then.
pub fn apply(
    patches: &[FilePatch],
    read: &mut dyn FnMut(&str) -> Option<String>,
) -> Result<BTreeMap<String, Option<String>>, PatchError> {
    let mut after: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut put = |path: &str, text: Option<String>| match after.insert(path.to_owned(), text) {
        None => Ok(()),
        Some(_) => Err(PatchError::File { path: path.to_owned(), what: "the patch names it twice" }),
    };
    for patch in patches {
        match patch {
            FilePatch::Add { path, text } => {
                if read(path).is_some() {
                    return Err(PatchError::File { path: path.clone(), what: "it exists already; update it" });
                }
                honest(path, "", text)?;
                put(path, Some(text.clone()))?;
            }
            FilePatch::Delete { path } => {
                read(path).ok_or_else(|| missing(path))?;
                put(path, None)?;
            }
            FilePatch::Update { path, moved_to, hunks } => {
                let before = read(path).ok_or_else(|| missing(path))?;
                let text = updated(path, &before, hunks)?;
                match moved_to.as_ref().filter(|to| *to != path) {
                    Some(to) if read(to).is_some() => {
                        return Err(PatchError::File { path: to.clone(), what: "it exists already; delete it first" });
                    }
                    Some(to) => {
                        put(path, None)?;
                        put(to, Some(text))?;
                    }
                    None => put(path, Some(text))?,
                }
            }
        }
    }
    Ok(after)
}

fn missing(path: &str) -> PatchError {
    PatchError::File { path: path.to_owned(), what: "there is no such file" }
}

fn honest(path: &str, old: &str, new: &str) -> Result<(), PatchError> {
    match placeholder::find(old, new) {
        Some((_, text)) => Err(PatchError::Placeholder { path: path.to_owned(), text: text.to_owned() }),
        None => Ok(()),
    }
}

fn updated(path: &str, before: &str, hunks: &[Hunk]) -> Result<String, PatchError> {
    let file = lines(before);
    let text: Vec<&str> = file.iter().map(|line| line.text).collect();
    let end = dominant_end(&file);
    let mut after = String::with_capacity(before.len());
    let mut done = 0;
    let copy = |after: &mut String, range: std::ops::Range<usize>| {
        after.extend(file[range].iter().flat_map(|line| [line.text, line.end]));
    };
    for (n, hunk) in hunks.iter().enumerate() {
        honest(path, &hunk.old.join("\n"), &hunk.new.join("\n"))?;
        let (at, rung) = place(path, &text, done, n + 1, hunk)?;
        copy(&mut after, done..at);
        let old: Vec<&str> = hunk.old.iter().map(String::as_str).collect();
        let window = at..at + old.len();
        let written: Vec<&str> = hunk.new.iter().map(String::as_str).collect();
        let new = passage::replacement(rung, &old, &text, at, &written)
            .map_err(|at| PatchError::Indentation { path: path.to_owned(), text: written[at].to_owned() })?;
        // An insertion behind a last line that has no end gives it one.
        if !after.is_empty() && !after.ends_with(&end[end.len() - 1..]) && !hunk.new.is_empty() {
            after.push_str(end);
        }
        let unended = window.end == file.len() && file.last().is_some_and(|line| line.end.is_empty());
        for (n, line) in new.iter().enumerate() {
            after.push_str(line);
            if n + 1 < hunk.new.len() || !unended || window.is_empty() {
                after.push_str(end);
            }
        }
        done = window.end;
    }
    copy(&mut after, done..file.len());
    Ok(after)
}

/// The line, from 0, where a passage begins, at `from` or behind.
fn place(path: &str, text: &[&str], from: usize, number: usize, hunk: &Hunk) -> Result<(usize, Rung), PatchError> {
    let not_found = |nearest: Option<usize>| PatchError::NotFound { path: path.to_owned(), hunk: number, nearest };
    let mut start = from;
    for anchor in &hunk.anchors {
        let found = text[start..].iter().position(|line| line.trim() == anchor.trim());
        start += found.ok_or_else(|| not_found(None))? + 1;
    }
    if hunk.old.is_empty() {
        let at = if hunk.anchors.is_empty() || hunk.at_end { text.len() } else { start };
        return Ok((at, Rung::Exact));
    }
    let old: Vec<&str> = hunk.old.iter().map(String::as_str).collect();
    if hunk.at_end && text.len() >= start + old.len() {
        let at = text.len() - old.len();
        if let Some((rung, _)) = passage::find(&text[at..], &old) {
            return Ok((at, rung));
        }
    }
    // An anchor may be the first line of its own passage.
    let found = passage::find(&text[start..], &old).map(|(rung, found)| (start, rung, found)).or_else(|| {
        let again = start.checked_sub(1).filter(|&again| again >= from && !hunk.anchors.is_empty())?;
        passage::find(&text[again..], &old).map(|(rung, found)| (again, rung, found))
    });
    let Some((start, rung, found)) = found else {
        let nearest = passage::nearest(&text[from..], &old).first().map(|at| from + at + 1);
        return Err(not_found(nearest));
    };
    match found[..] {
        [at] => Ok((start + at, rung)),
        [at, ..] if !hunk.anchors.is_empty() => Ok((start + at, rung)),
        _ => {
            let lines = found.iter().take(20).map(|at| start + at + 1).collect();
            Err(PatchError::Ambiguous { path: path.to_owned(), hunk: number, lines })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(files: &[(&str, &str)], patch: &str) -> Result<Vec<(String, Option<String>)>, PatchError> {
        let patches = parse(&format!("*** Begin Patch\n{patch}\n*** End Patch"))?;
        let mut read = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
        apply(&patches, &mut read).map(|after| after.into_iter().collect())
    }

    fn text(path: &str, text: &str) -> (String, Option<String>) {
        (path.to_owned(), Some(text.to_owned()))
    }

    const A: &str = "fn a() {\n    one();\n}\n\nfn b() {\n    one();\n}\n";

    #[test]
    fn files_are_added_changed_moved_and_removed() {
        let patch = "*** Add File: new\n+x\n+\n*** Delete File: gone\n*** Update File: a\n*** Move to: c\n@@ fn b() {\n-    one();\n+    two();";
        let after = applied(&[("a", A), ("gone", "")], patch).unwrap();
        let moved = "fn a() {\n    one();\n}\n\nfn b() {\n    two();\n}\n";
        assert_eq!(after, [("a".to_owned(), None), text("c", moved), ("gone".to_owned(), None), text("new", "x\n\n")]);
    }

    #[test]
    fn a_passage_that_occurs_twice_needs_an_anchor() {
        let error = applied(&[("a", A)], "*** Update File: a\n-    one();\n+    two();").unwrap_err();
        assert_eq!(error, PatchError::Ambiguous { path: "a".to_owned(), hunk: 1, lines: vec![2, 6] });
    }

    #[test]
    fn the_end_of_a_file_and_its_line_ends_stay() {
        let crlf = applied(&[("a", "x\r\ny")], "*** Update File: a\n@@\n x\n-y\n+z\n+w\n*** End of File").unwrap();
        assert_eq!(crlf, [text("a", "x\r\nz\r\nw")]);
        assert_eq!(applied(&[("a", "x")], "*** Update File: a\n@@\n+y").unwrap(), [text("a", "x\ny\n")]);
        assert_eq!(applied(&[("a", "x\n")], "*** Update File: a\n-x").unwrap(), [text("a", "")]);
        let old = applied(&[("a", "x\ry\rz\r")], "*** Update File: a\n@@\n-y\n+w").unwrap();
        assert_eq!(old, [text("a", "x\rw\rz\r")]);
    }

    #[test]
    fn nothing_happens_when_one_file_is_wrong() {
        let patch = "*** Update File: a\n@@ fn b() {\n-    one();\n+    two();\n*** Update File: none\n-x\n+y";
        assert_eq!(applied(&[("a", A)], patch), Err(missing("none")));
        let twice = "*** Delete File: a\n*** Add File: a\n+x";
        assert!(matches!(applied(&[("a", A)], twice), Err(PatchError::File { .. })));
    }

    #[test]
    fn what_is_no_patch_is_refused_with_its_line() {
        let line = |patch: &str| match parse(patch) {
            Err(PatchError::Syntax { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line(""), 1);
        assert_eq!(line("*** Begin Patch\n*** End Patch"), 1);
        assert_eq!(line("*** Begin Patch\n*** Add File: x\nno plus\n*** End Patch"), 3);
        assert_eq!(line("*** Begin Patch\n*** Update File: x\n@@\n?\n*** End Patch"), 4);
        assert_eq!(line("*** Begin Patch\n*** Update File: x\n@@\nü\n*** End Patch"), 4);
        assert_eq!(line("*** Begin Patch\n*** Frobnicate: x\n*** End Patch"), 2);
    }
}
