//! What changed between two commits, as text. Made by libgit2 in process: no external diff, textconv or filter of any
//! configuration is run on what a worker wrote.

use git2::{Diff, DiffFormat, DiffOptions, DiffStatsFormat, Oid};

use super::sanitize;
use super::words::{Style, Tone};
use crate::repository::{Repository, RepositoryError};

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A program: the bytes as they are, binary files included, so that `git apply` takes them.
    Program,
    /// A person at a terminal: made harmless and nothing left out, binary files named only.
    Person(Style),
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Every changed line.
    Patch,
    /// A line a file.
    Stat {
        /// Characters a line.
        columns: u16,
    },
}

/// Writes the difference between the trees of two commits to `out`. `Ok(Err(_))` is the word of `out`: its reader is gone,
/// or the disk is full.
///
/// # Errors
/// [`RepositoryError::Git`] when a commit is missing or damaged.
pub fn write_diff(
    repository: &Repository,
    from: Oid,
    to: Oid,
    (form, reader): (Form, Reader),
    out: &mut dyn std::io::Write,
) -> Result<std::io::Result<()>, RepositoryError> {
    let git = repository.handle()?;
    let (old, new) = (git.find_commit(from)?.tree()?, git.find_commit(to)?.tree()?);
    let mut options = DiffOptions::new();
    options.show_binary(needs_binary(form, reader)).id_abbrev(10);
    let mut diff = git.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
    diff.find_similar(None)?;
    match form {
        Form::Patch => patch(&diff, reader, out),
        Form::Stat { columns } => {
            let text =
                diff.stats()?.to_buf(DiffStatsFormat::FULL | DiffStatsFormat::INCLUDE_SUMMARY, columns.into())?;
            let lines = text.split(|&byte| byte == b'\n');
            let text: String = lines.map(|line| sanitize::whole_line(line) + "\n").collect();
            Ok(out.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| out.write_all(b"\n")))
        }
    }
}

/// Whether patches of binary files are made, which are read, packed and compared whole for it.
fn needs_binary(form: Form, reader: Reader) -> bool {
    form == Form::Patch && reader == Reader::Program
}

fn patch(
    diff: &Diff<'_>,
    reader: Reader,
    out: &mut dyn std::io::Write,
) -> Result<std::io::Result<()>, RepositoryError> {
    let mut written = Ok(());
    let printed = diff.print(DiffFormat::Patch, |_, _, line| {
        let mut bytes = Vec::with_capacity(line.content().len() + 1);
        if matches!(line.origin(), '+' | '-' | ' ') {
            bytes.push(line.origin() as u8);
        }
        bytes.extend_from_slice(line.content());
        let shown = match reader {
            Reader::Program => bytes,
            Reader::Person(style) => for_a_person(&bytes, line.origin(), style).into_bytes(),
        };
        written = out.write_all(&shown);
        written.is_ok()
    });
    match (printed, &written) {
        // Stopped by us, because nobody takes it any more.
        (Err(_), Err(_)) | (Ok(()), _) => Ok(written),
        (Err(error), Ok(())) => Err(error.into()),
    }
}

/// A file's header is several lines in one piece; each is made harmless by itself.
fn for_a_person(bytes: &[u8], origin: char, style: Style) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let tone = match origin {
        '+' => Some(Tone::Good),
        '-' => Some(Tone::Bad),
        'F' => Some(Tone::Strong),
        'H' => Some(Tone::Quiet),
        _ => None,
    };
    bytes
        .split(|&byte| byte == b'\n')
        .map(|line| {
            let line = sanitize::whole_line(line);
            let line = tone.map_or_else(|| line.clone(), |tone| style.paint(tone, &line));
            line + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two commits: `a` changes, `b` goes, a hostile name comes.
    fn fixture() -> (tempfile::TempDir, Repository, Oid, Oid) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = git2::Repository::init(folder.path()).expect("a repository");
        let commit = |files: &[(&str, &[u8])], parents: &[&git2::Commit<'_>]| {
            let mut tree = git.treebuilder(None).expect("a builder");
            for (name, content) in files {
                tree.insert(*name, git.blob(content).expect("a blob"), 0o100_644).expect("a legal name");
            }
            let tree = git.find_tree(tree.write().expect("a tree")).expect("just written");
            let who = git2::Signature::new("t", "t@example.org", &git2::Time::new(1, 0)).expect("legal");
            git.commit(None, &who, &who, "m", &tree, parents).expect("a commit")
        };
        let old = commit(&[("a", b"one\n"), ("b", b"gone\n")], &[]);
        let parent = git.find_commit(old).expect("just made");
        let new = commit(&[("a", b"\x1b[31mtwo\n"), ("c\x1b[2J", b"\0binary")], &[&parent]);
        let repository = Repository::open(folder.path()).expect("a repository");
        (folder, repository, old, new)
    }

    fn check(form: Form, reader: Reader) -> String {
        let (_folder, repository, old, new) = fixture();
        let mut out = Vec::new();
        write_diff(&repository, old, new, (form, reader), &mut out).expect("both exist").expect("memory takes all");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_person_sees_no_control_characters() {
        let text = check(Form::Patch, Reader::Person(Style::Plain));
        assert!(text.contains("-one\n+\\u{1b}[31mtwo\n") && !text.contains('\u{1b}'), "{text}");
        let text = check(Form::Stat { columns: 80 }, Reader::Person(Style::Plain));
        assert!(text.contains("3 files changed") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("c\\u{1b}[2J"), "a name is shown with all that is in it: {text}");
    }

    #[test]
    fn a_program_gets_every_byte() {
        let text = check(Form::Patch, Reader::Program);
        assert!(text.contains("+\u{1b}[31mtwo\n") && text.contains("GIT binary patch"), "{text}");
    }

    #[test]
    fn a_line_a_file_costs_no_patch_of_what_is_binary() {
        let text = check(Form::Stat { columns: 80 }, Reader::Program);
        assert!(text.contains("Bin 0 -> 7 bytes") && text.contains("3 files changed"), "{text}");
        let person = Reader::Person(Style::Plain);
        let stat = Form::Stat { columns: 80 };
        let needed = [(stat, Reader::Program), (stat, person), (Form::Patch, person), (Form::Patch, Reader::Program)];
        assert_eq!(needed.map(|(form, reader)| needs_binary(form, reader)), [false, false, false, true]);
    }

    #[test]
    fn a_reader_that_left_is_an_answer_not_a_panic() {
        struct Closed;
        impl std::io::Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_folder, repository, old, new) = fixture();
        let written = write_diff(&repository, old, new, (Form::Patch, Reader::Program), &mut Closed);
        assert_eq!(written.expect("both exist").expect_err("closed").kind(), std::io::ErrorKind::BrokenPipe);
    }
}
