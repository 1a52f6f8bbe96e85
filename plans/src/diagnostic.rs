//! What is wrong with a plan, as data: collected here, all at once, and rendered by the command line.

use std::ops::Range;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The plan cannot run.
    Error,
    /// The plan runs, perhaps not as its author thinks.
    Warning,
}

/// Which plans something is wrong in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongIn {
    /// Every one: nobody could run it.
    EveryPlan,
    /// One that is about to begin. What it says has a meaning, which an earlier version followed, and a run goes on as it began.
    NewPlans,
}

/// A text that diagnostics point into: the plan, a file it includes, or a `--set` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As shown to people: the path that was given, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A place in one of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Index into the sources.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Location {
    /// The place `span` (bytes) of source `source`.
    pub fn new(source: usize, span: Range<usize>) -> Self {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Location { source: narrow(source), start: narrow(span.start), end: narrow(span.end) }
    }

    /// The bytes it covers.
    pub fn span(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which plans it is wrong in.
    pub wrong_in: WrongIn,
    /// Index into the sources of the same parse.
    pub source: usize,
    /// The bytes it is about.
    pub span: Range<usize>,
    /// What is wrong: a lowercase sentence without a full stop.
    pub message: String,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// What to write instead.
    pub hint: Option<String>,
    /// Other places that matter: source, bytes, a few words.
    pub related: Vec<(usize, Range<usize>, String)>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(at: Location, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            wrong_in: WrongIn::EveryPlan,
            source: at.source as usize,
            span: at.span(),
            message: message.into(),
            label: None,
            hint: None,
            related: Vec::new(),
        }
    }

    /// A warning at a place.
    pub fn warning(at: Location, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(at, message) }
    }

    /// The same of plans that are about to begin alone.
    pub fn in_new_plans(mut self) -> Self {
        self.wrong_in = WrongIn::NewPlans;
        self
    }

    /// The same with words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with another place that matters.
    pub fn related(mut self, at: Location, words: impl Into<String>) -> Self {
        self.related.push((at.source as usize, at.span(), words.into()));
        self
    }
}

/// The most diagnostics one parse gives; what exceeds it is counted in a last one.
pub const DIAGNOSTICS_MAX: usize = 100;

/// The name among `known` that a mistyped `word` most likely means: at most a third of its letters differ, and among those
/// that are as near the first with the same first letter.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (edit_distance(word, name, allowed), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, name)| (*distance, name.chars().next() != word.chars().next()))
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour; anything above `enough` is given as `enough + 1`.
fn edit_distance(a: &str, b: &str, enough: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > enough {
        return enough + 1;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()].min(enough + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known = ["needs", "env", "timeout", "foreach-batch"];
        assert_eq!(nearest("need", known), Some("needs"));
        assert_eq!(nearest("tiemout", known), Some("timeout"));
        assert_eq!(nearest("foreach_batch", known), Some("foreach-batch"));
        assert_eq!(nearest("colour", known), None);
    }
}
