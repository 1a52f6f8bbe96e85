//! Replacing a passage of a text that the model quotes from memory. A quotation must mean one place: what occurs twice is
//! refused with the lines, what occurs nowhere with what is nearest. Line ends, and everything else, stay as they are.

use super::passage::{self, Line, Rung, dominant_end, ends_in_cr, lines};
use super::placeholder;

/// A replacement.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// What stands there now.
    pub old: &'a str,
    /// What is to stand there.
    pub new: &'a str,
    /// Which occurrences.
    pub occurrences: Occurrences,
}

/// Which occurrences are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occurrences {
    /// The only one.
    One,
    /// All; only exact ones count.
    All,
}

/// A text after a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// How much the quotation was forgiven.
    pub rung: Rung,
    /// Places that changed.
    pub count: usize,
}

/// Why nothing was replaced. The text is for the model: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Nothing to find.
    #[error("`old` is empty: quote the lines to replace, or use `write` for a whole file")]
    Empty,
    /// Nothing to do.
    #[error("`old` and `new` are the same: nothing would change")]
    Same,
    /// Something is left out.
    #[error("line {line} of `new` stands for text that is not there: `{text}`; write it out")]
    Placeholder {
        /// From 1, in `new`.
        line: usize,
        /// The line.
        text: String,
    },
    /// More than one place.
    #[error("`old` occurs {} times, at lines {}; quote more of the lines around it{}", .lines.len(), numbers(.lines), or_all(*.rung))]
    Ambiguous {
        /// From 1; where each occurrence begins.
        lines: Vec<usize>,
        /// How much was forgiven to find them.
        rung: Rung,
    },
    /// It would stand there otherwise than all else.
    #[error(
        "`old` fits but for its indentation, and line {line} of `new` would be indented otherwise than the file (tabs, spaces): \
         `{text}`; read the lines again and quote them as they stand"
    )]
    Indentation {
        /// From 1, in `new`.
        line: usize,
        /// The line.
        text: String,
    },
    /// No place.
    #[error("`old` does not occur in the file; read it again{}", near(.nearest))]
    NotFound {
        /// What is nearest: line numbers from 1 with their text.
        nearest: Vec<(usize, String)>,
    },
}

fn numbers(lines: &[usize]) -> String {
    const SHOWN_MAX: usize = 20;
    let shown: Vec<String> = lines.iter().take(SHOWN_MAX).map(usize::to_string).collect();
    let more = if lines.len() > SHOWN_MAX { " …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn or_all(rung: Rung) -> &'static str {
    if rung == Rung::Exact { ", or replace all" } else { "" }
}

fn near(nearest: &[(usize, String)]) -> String {
    let shown: Vec<String> = nearest.iter().map(|(line, text)| format!("\n{line}: {text}")).collect();
    if shown.is_empty() { String::new() } else { format!(". Nearest:{}", shown.concat()) }
}

/// Replaces a passage.
///
/// # Errors
/// [`EditError`], and the text stays as it is.
pub fn apply(text: &str, edit: &Edit<'_>) -> Result<Edited, EditError> {
    if edit.old.is_empty() {
        return Err(EditError::Empty);
    }
    if let Some((line, text)) = placeholder::find(edit.old, edit.new) {
        return Err(EditError::Placeholder { line, text: text.to_owned() });
    }
    let file = lines(text);
    let plain = |text: &str| match ends_in_cr(text) {
        true => text.replace('\r', "\n"),
        false => text.replace("\r\n", "\n"),
    };
    let (old, new) = (plain(edit.old), plain(edit.new));
    if old == new {
        return Err(EditError::Same);
    }
    match exact(text, &old) {
        found if found.is_empty() => by_lines(&file, &old, &new),
        found if found.len() > 1 && edit.occurrences == Occurrences::One => {
            let end = if ends_in_cr(text) { '\r' } else { '\n' };
            let lines = found.iter().map(|range| 1 + text[..range.start].matches(end).count()).collect();
            Err(EditError::Ambiguous { lines, rung: Rung::Exact })
        }
        found => {
            let new = new.replace('\n', dominant_end(&file));
            let mut edited = String::with_capacity(text.len() + new.len());
            let mut end = 0;
            for range in &found {
                edited.push_str(&text[end..range.start]);
                edited.push_str(&new);
                end = range.end;
            }
            edited.push_str(&text[end..]);
            Ok(Edited { text: edited, rung: Rung::Exact, count: found.len() })
        }
    }
}

/// Where `old` stands in `text`, a line feed meaning any line end; not overlapping.
fn exact(text: &str, old: &str) -> Vec<std::ops::Range<usize>> {
    if ends_in_cr(text) {
        return text.replace('\r', "\n").match_indices(old).map(|(at, found)| at..at + found.len()).collect();
    }
    if !text.contains("\r\n") {
        return text.match_indices(old).map(|(at, found)| at..at + found.len()).collect();
    }
    // Positions in the text without its carriage returns, moved by how many were left out before them.
    let plain = text.replace("\r\n", "\n");
    let left_out: Vec<usize> = text.match_indices("\r\n").enumerate().map(|(n, (at, _))| at - n).collect();
    let back = |at: usize| at + left_out.partition_point(|&gone| gone < at);
    plain.match_indices(old).map(|(at, found)| back(at)..back(at + found.len())).collect()
}

fn by_lines(file: &[Line<'_>], old: &str, new: &str) -> Result<Edited, EditError> {
    let text: Vec<&str> = file.iter().map(|line| line.text).collect();
    let quoted: Vec<&str> = lines(old).iter().map(|line| line.text).collect();
    let Some((rung, found)) = passage::find(&text, &quoted) else {
        let nearest = passage::nearest(&text, &quoted).into_iter().map(|at| (at + 1, text[at].to_owned())).collect();
        return Err(EditError::NotFound { nearest });
    };
    let [at] = found[..] else {
        return Err(EditError::Ambiguous { lines: found.iter().map(|at| at + 1).collect(), rung });
    };
    let window = at..at + quoted.len();
    let written: Vec<&str> = lines(new).iter().map(|line| line.text).collect();
    let replacement = passage::replacement(rung, &quoted, &text, at, &written)
        .map_err(|at| EditError::Indentation { line: at + 1, text: written[at].to_owned() })?;
    let end = dominant_end(file);
    let mut edited: String = file[..at].iter().flat_map(|line| [line.text, line.end]).collect();
    edited.push_str(&replacement.join(end));
    // The end of the last quoted line stays what it was, also where the file ends without one.
    if !replacement.is_empty() {
        edited.push_str(file[window.end - 1].end);
    }
    edited.extend(file[window.end..].iter().flat_map(|line| [line.text, line.end]));
    Ok(Edited { text: edited, rung, count: 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(text: &str, old: &str, new: &str) -> Result<(String, Rung), EditError> {
        let edit = Edit { old, new, occurrences: Occurrences::One };
        apply(text, &edit).map(|edited| (edited.text, edited.rung))
    }

    fn ok(text: &str, rung: Rung) -> Result<(String, Rung), EditError> {
        Ok((text.to_owned(), rung))
    }

    #[test]
    fn a_passage_is_replaced_and_the_rest_stays() {
        assert_eq!(edited("a\nb\nc", "b", "x\ny"), ok("a\nx\ny\nc", Rung::Exact));
        assert_eq!(edited("a\nb\n", "b\n", ""), ok("a\n", Rung::Exact));
        assert_eq!(edited("  a \n  b", "  a\n  b", "  c"), ok("  c", Rung::TrailingSpace));
        assert_eq!(edited("if x:\n\ta\n\tb\n", "a\nb", "a\n\nc"), ok("if x:\n\ta\n\n\tc\n", Rung::Indent));
    }

    #[test]
    fn a_file_that_is_indented_with_tabs_stays_so() {
        let makefile = "all:\n\tif true; then \\\n\t\techo hi; \\\n\tfi\n";
        let old = "    if true; then \\\n        echo hi; \\\n    fi";
        assert_eq!(edited(makefile, old, &old.replace("hi", "ho")), ok(&makefile.replace("hi", "ho"), Rung::Indent));
        let error = edited(makefile, old, "    if true; then \\\n      echo ho; \\\n    fi").unwrap_err();
        assert_eq!(error, EditError::Indentation { line: 2, text: "      echo ho; \\".to_owned() });
    }

    #[test]
    fn line_ends_stay() {
        assert_eq!(edited("a\r\nb\r\nc\r\n", "a\nb\n", "x\ny\n"), ok("x\r\ny\r\nc\r\n", Rung::Exact));
        assert_eq!(edited("a\r\n  b  \r\nc", "  b\nc", "d\ne"), ok("a\r\nd\r\ne", Rung::TrailingSpace));
        assert_eq!(edited("a\r\nb\r\n", "b", "c"), ok("a\r\nc\r\n", Rung::Exact));
        assert_eq!(edited("a\rb\rc", "a\nb\n", "x\ny\nz\n"), ok("x\ry\rz\rc", Rung::Exact));
        assert_eq!(edited("a\r\tb\r\tb2\rc", "b \nb2", "d\ne"), ok("a\r\td\r\te\rc", Rung::Indent));
    }

    #[test]
    fn what_means_two_places_is_refused() {
        let lines = vec![1, 3];
        assert_eq!(edited("a\nb\na\n", "a", "c"), Err(EditError::Ambiguous { lines, rung: Rung::Exact }));
        let all = Edit { old: "a", new: "c", occurrences: Occurrences::All };
        assert_eq!(apply("a\nb\na\n", &all).unwrap().text, "c\nb\nc\n");
        let lines = vec![1, 3];
        assert_eq!(edited(" a\nb\n a\n", "  a\n", "c"), Err(EditError::Ambiguous { lines, rung: Rung::Indent }));
    }

    #[test]
    fn what_is_nowhere_is_refused_with_what_is_nearest() {
        let error = edited("fn alpha() {\n    run();\n}\n", "fn alfa(x: u8) {\n    walk(x);", "x").unwrap_err();
        assert_eq!(error, EditError::NotFound { nearest: vec![(1, "fn alpha() {".to_owned())] });
        assert!(error.to_string().ends_with("Nearest:\n1: fn alpha() {"));
    }

    #[test]
    fn a_last_line_that_is_quoted_in_part_is_not_replaced_as_a_whole() {
        let python = "class A:\n    if x:\n        return 1\n    return 2\n\ndef handle_all_requests():\n    pass\n";
        let old = "if x:\n    return 1\nreturn 2\n\ndef handle_all_requests";
        let error = edited(python, old, &old.replace('2', "3")).unwrap_err();
        assert!(matches!(&error, EditError::NotFound { nearest } if nearest[0].0 == 2), "{error:?}");
    }

    #[test]
    fn what_says_nothing_or_leaves_out_is_refused() {
        assert_eq!(edited("a", "", "b"), Err(EditError::Empty));
        assert_eq!(edited("a", "a", "a"), Err(EditError::Same));
        let error = edited("a", "a", "b\n// ... rest of the code\n");
        assert_eq!(error, Err(EditError::Placeholder { line: 2, text: "// ... rest of the code".to_owned() }));
    }

    proptest! {
        #[test]
        fn an_edit_and_its_opposite_give_the_text_again(
            before in "[ab \n]{0,20}", old in "[xy]{1,4}", new in "[zw]{1,4}", after in "[ab\r \n]{0,20}",
        ) {
            let text = format!("{before}{old}{after}");
            let there = edited(&text, &old, &new).unwrap().0;
            prop_assert_eq!(edited(&there, &new, &old).unwrap().0, text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a\r\n \tü]{0,30}", old in "[a\r\n \tü]{0,8}", new in "[b\r\n ]{0,8}") {
            for occurrences in [Occurrences::One, Occurrences::All] {
                let _ = apply(&text, &Edit { old: &old, new: &new, occurrences });
            }
        }
    }
}
