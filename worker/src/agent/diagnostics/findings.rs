//! What a language server says of a file, for the model: what is new since it was told last, or all where it asks, errors
//! first. Pure.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Findings that are shown.
const SHOWN_MAX: usize = 20;
/// The longest text of a finding, in characters.
const TEXT_CHARS_MAX: usize = 400;

/// One finding, as the protocol sends it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Finding {
    range: Range,
    /// 1 error, 2 warning, 3 information, 4 hint; an error where it is left out.
    #[serde(default)]
    severity: Option<u8>,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Range {
    start: Position,
}

/// Lines and characters from 0.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Position {
    line: u32,
    character: u32,
}

impl Finding {
    fn severity(&self) -> u8 {
        self.severity.unwrap_or(1)
    }

    fn text(&self) -> String {
        self.message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS_MAX).collect()
    }
}

/// What the model was told of one file. Lines move when a file is changed, so they do not tell findings apart.
#[derive(Debug, Clone, Default)]
pub struct Told(BTreeSet<(u8, String)>);

/// What of a file's findings is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What the model was not told of before; the rest is counted.
    New,
    /// All of them: the model asks what is there, and what it was told may be cut away by now.
    All,
}

/// Words on a file's errors and warnings; `None` where there are none and none were told of before.
pub fn words(path: &str, server: &str, findings: &[Finding], told: &mut Told, shown: Shown) -> Option<String> {
    let mut grave: Vec<&Finding> = findings.iter().filter(|finding| finding.severity() <= 2).collect();
    grave.sort_by_key(|finding| (finding.severity(), finding.range.start.line, finding.range.start.character));
    let now: BTreeSet<(u8, String)> = grave.iter().map(|finding| (finding.severity(), finding.text())).collect();
    let before = std::mem::replace(&mut told.0, now);
    if grave.is_empty() {
        return (!before.is_empty()).then(|| format!("{server}: {path} has no errors or warnings any more"));
    }
    let new = |finding: &Finding| shown == Shown::All || !before.contains(&(finding.severity(), finding.text()));
    let (fresh, known): (Vec<&Finding>, Vec<&Finding>) = grave.into_iter().partition(|finding| new(finding));
    let mut text = String::new();
    for finding in fresh.iter().take(SHOWN_MAX) {
        let kind = if finding.severity() == 1 { "error" } else { "warning" };
        let (line, column) = (finding.range.start.line + 1, finding.range.start.character + 1);
        text.push_str(&format!("\n{path}:{line}:{column}: {kind}: {}", finding.text()));
    }
    let more = fresh.len().saturating_sub(SHOWN_MAX);
    let mut counts = vec![];
    if more > 0 {
        counts.push(format!("{more} more"));
    }
    if !known.is_empty() {
        counts.push(format!("{} known before", known.len()));
    }
    let counts = if counts.is_empty() { String::new() } else { format!("\n[{}]", counts.join(", ")) };
    Some(format!("{server} finds{}{text}{counts}", if fresh.is_empty() { " nothing new" } else { "" }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finding(line: u32, severity: Option<u8>, message: &str) -> Finding {
        let range = json!({"start": {"line": line, "character": 0}, "end": {"line": line, "character": 1}});
        serde_json::from_value(json!({"range": range, "severity": severity, "message": message, "code": 1})).unwrap()
    }

    #[test]
    fn what_is_new_is_shown_with_errors_first() {
        let mut told = Told::default();
        let first = [finding(5, Some(2), "unused\n x"), finding(9, None, "no such type"), finding(1, Some(4), "hint")];
        let expected = "ra finds\na.rs:10:1: error: no such type\na.rs:6:1: warning: unused x";
        assert_eq!(words("a.rs", "ra", &first, &mut told, Shown::New).unwrap(), expected);
        let moved = [finding(6, Some(2), "unused x"), finding(2, Some(1), "new one")];
        let expected = "ra finds\na.rs:3:1: error: new one\n[1 known before]";
        assert_eq!(words("a.rs", "ra", &moved, &mut told, Shown::New).unwrap(), expected);
        assert_eq!(
            words("a.rs", "ra", &[], &mut told, Shown::New).unwrap(),
            "ra: a.rs has no errors or warnings any more"
        );
        assert_eq!(words("a.rs", "ra", &[], &mut told, Shown::New), None);
    }

    #[test]
    fn who_asks_is_shown_what_was_told_before_too() {
        let mut told = Told::default();
        let findings = [finding(5, Some(2), "unused"), finding(9, Some(1), "no such type")];
        let expected = "ra finds\na.rs:10:1: error: no such type\na.rs:6:1: warning: unused";
        for shown in [Shown::New, Shown::All, Shown::All] {
            assert_eq!(words("a.rs", "ra", &findings, &mut told, shown).unwrap(), expected);
        }
        let known = "ra finds nothing new\n[2 known before]";
        assert_eq!(words("a.rs", "ra", &findings, &mut told, Shown::New).unwrap(), known);
        assert!(words("a.rs", "ra", &[], &mut told, Shown::All).unwrap().ends_with("any more"));
        assert_eq!(words("a.rs", "ra", &[], &mut told, Shown::All), None);
    }

    #[test]
    fn a_flood_is_counted() {
        let many: Vec<Finding> = (0..50).map(|line| finding(line, Some(1), &format!("e{line}"))).collect();
        let text = words("a", "x", &many, &mut Told::default(), Shown::New).unwrap();
        assert_eq!((text.lines().count(), text.ends_with("[30 more]")), (22, true));
    }
}
