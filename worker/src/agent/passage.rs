//! Lines with their ends, and where a passage of lines occurs among them. Models quote from memory: white space at the end
//! of lines is lost, whole blocks are indented differently, a word is off. Each rung of [`Rung`] forgives more than the one
//! before; the caller decides how many occurrences it accepts. What a quotation and its replacement have in common stays as the
//! text has it, however it was quoted.

use similar::{Algorithm, DiffTag, TextDiff, capture_diff_slices};

/// The longest passage that is compared by likeness, in lines.
const FUZZY_LINES_MAX: usize = 200;
/// The longest text that is searched by likeness, in lines.
const FUZZY_TEXT_LINES_MAX: usize = 20_000;
/// How alike a passage must be to count as quoted.
const FUZZY_MIN: f32 = 0.92;
/// By how much it must be more alike than any other place.
const FUZZY_LEAD: f32 = 0.05;
/// How alike each of its lines must be to its own.
const FUZZY_LINE_MIN: f32 = 0.8;
/// The shortest word that may be misspelt, in letters: of two shorter ones, both may be meant (`from`, `form`).
const MISSPELT_LETTERS_MIN: usize = 6;
/// How alike a place must be to be named as a candidate.
const NEAR_MIN: f32 = 0.6;
/// Candidates that are named.
const NEAR_MAX: usize = 3;

/// How much a quotation was forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Nothing.
    Exact,
    /// White space at the end of lines.
    TrailingSpace,
    /// The indentation of the whole passage.
    Indent,
    /// A small part of its characters.
    Fuzzy,
}

impl Rung {
    /// For the model.
    pub fn words(self) -> &'static str {
        match self {
            Rung::Exact => "exactly",
            Rung::TrailingSpace => "but for white space at the end of lines",
            Rung::Indent => "but for its indentation",
            Rung::Fuzzy => "but for a few characters",
        }
    }
}

/// A line of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Without its end.
    pub text: &'a str,
    /// `"\n"`, `"\r\n"`, `"\r"` in a text that has no other, or nothing at the end of a text.
    pub end: &'a str,
}

/// Cuts a text into lines; a text that ends with a line feed has no empty line behind it.
pub fn lines(text: &str) -> Vec<Line<'_>> {
    if ends_in_cr(text) {
        let whole = |line: &'_ str| line.strip_suffix('\r').map(str::len);
        let cut = |line| match whole(line) {
            Some(length) => Line { text: &line[..length], end: &line[length..] },
            None => Line { text: line, end: "" },
        };
        return text.split_inclusive('\r').map(cut).collect();
    }
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix("\r\n") {
            Some(text) => Line { text, end: "\r\n" },
            None => match line.strip_suffix('\n') {
                Some(text) => Line { text, end: "\n" },
                None => Line { text: line, end: "" },
            },
        })
        .collect()
}

/// Whether the lines of a text end as they once did on a Macintosh: in carriage returns and nothing else.
pub fn ends_in_cr(text: &str) -> bool {
    text.contains('\r') && !text.contains('\n')
}

/// What most lines end with; a line feed where there is no line end at all.
pub fn dominant_end(lines: &[Line<'_>]) -> &'static str {
    if lines.first().is_some_and(|line| line.end == "\r") {
        return "\r";
    }
    let crlf = lines.iter().filter(|line| line.end == "\r\n").count();
    let lf = lines.iter().filter(|line| line.end == "\n").count();
    if crlf > lf { "\r\n" } else { "\n" }
}

/// Where `passage` occurs in `text`, by the first rung that finds anything: line numbers from 0, in order. Likeness finds
/// one place or none.
pub fn find(text: &[&str], passage: &[&str]) -> Option<(Rung, Vec<usize>)> {
    for rung in [Rung::Exact, Rung::TrailingSpace, Rung::Indent] {
        let found = occurrences(text, passage, rung);
        if !found.is_empty() {
            return Some((rung, found));
        }
    }
    fuzzy(text, passage).map(|at| (Rung::Fuzzy, vec![at]))
}

/// All places where `passage` occurs under one rung.
fn occurrences(text: &[&str], passage: &[&str], rung: Rung) -> Vec<usize> {
    if passage.is_empty() || passage.len() > text.len() {
        return vec![];
    }
    let same = |at: &usize| {
        let window = &text[*at..*at + passage.len()];
        match rung {
            Rung::Exact => window == passage,
            Rung::TrailingSpace => window.iter().zip(passage).all(|(a, b)| a.trim_end() == b.trim_end()),
            Rung::Indent => {
                window.iter().zip(passage).all(|(a, b)| a.trim() == b.trim()) && is_indented_alike(passage, window)
            }
            Rung::Fuzzy => unreachable!("BUG: likeness has a search of its own"),
        }
    };
    // A passage of blank lines says nothing about where it belongs.
    if rung > Rung::Exact && passage.iter().all(|line| line.trim().is_empty()) {
        return vec![];
    }
    (0..=text.len() - passage.len()).filter(same).collect()
}

/// The only place that is alike enough, line by line, where no other comes near it.
fn fuzzy(text: &[&str], passage: &[&str]) -> Option<usize> {
    let mut scores = likeness(text, passage, FUZZY_MIN - FUZZY_LEAD);
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let is_meant = |at: usize| {
        let window = &text[at..at + passage.len()];
        window.iter().zip(passage).all(|(line, quoted)| is_line(line.trim(), quoted.trim()))
            && is_indented_alike(passage, window)
    };
    let (&(at, best), others) = scores.split_first()?;
    let rival = |other: usize| other.abs_diff(at) >= passage.len() || is_meant(other);
    let second = others.iter().find(|(other, _)| rival(*other)).map_or(0.0, |(_, score)| *score);
    (best >= FUZZY_MIN && best - second >= FUZZY_LEAD && is_meant(at)).then_some(at)
}

/// Whether the indentation of a passage differs from that of its place by one rule.
fn is_indented_alike(passage: &[&str], window: &[&str]) -> bool {
    Shift::between(passage, window).is_some() || Scale::between(passage, window).is_some()
}

/// Whether a quotation is of this line and all of it: it begins and ends so, and has its words and numbers, but for
/// misspellings. A name that differs is another name.
fn is_line(line: &str, quoted: &str) -> bool {
    let ends = |text: &str| (text.chars().next(), text.chars().next_back());
    if line == quoted {
        return true;
    }
    if ends(line) != ends(quoted) || alike(line, quoted) < FUZZY_LINE_MIN {
        return false;
    }
    let words = |text| str::split(text, |letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let (here, there) = (words(line), words(quoted));
    here.clone().count() == there.clone().count() && here.zip(there).all(|(a, b)| a == b || is_misspelt(a, b))
}

/// Whether two words are one in which neighbouring letters were exchanged, or a letter was doubled.
fn is_misspelt(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if short.len() < MISSPELT_LETTERS_MIN || !short.iter().chain(&long).all(|letter| letter.is_alphabetic()) {
        return false;
    }
    let first = short.iter().zip(&long).take_while(|(a, b)| a == b).count();
    let (short, rest) = (&short[first..], &long[first..]);
    let last = short.iter().rev().zip(rest.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&short[..short.len() - last], &rest[..rest.len() - last]) {
        ([a, b], [c, d]) => (a, b) == (d, c),
        ([], [more]) => first > 0 && long[first - 1] == *more,
        _ => false,
    }
}

/// The places most like `passage`, best first: line numbers from 0.
pub fn nearest(text: &[&str], passage: &[&str]) -> Vec<usize> {
    let mut scores = likeness(text, passage, NEAR_MIN);
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut near: Vec<usize> = vec![];
    for (at, _) in scores {
        if near.len() < NEAR_MAX && near.iter().all(|other| other.abs_diff(at) >= passage.len()) {
            near.push(at);
        }
    }
    near
}

/// Places with their likeness from 0 to 1, those below `least` left out. Nothing for what would take too long.
fn likeness(text: &[&str], passage: &[&str], least: f32) -> Vec<(usize, f32)> {
    let useful = passage.iter().any(|line| !line.trim().is_empty());
    if !useful || passage.len() > FUZZY_LINES_MAX || passage.len() > text.len() || text.len() > FUZZY_TEXT_LINES_MAX {
        return vec![];
    }
    let weight = |line: &str| line.trim().len() as f32 + 1.0;
    let total: f32 = passage.iter().map(|line| weight(line)).sum();
    let score = |at: usize| {
        let mut lost = 0.0;
        for (a, b) in text[at..].iter().zip(passage) {
            let (a, b) = (a.trim(), b.trim());
            if a != b {
                lost += (1.0 - alike(a, b)) * weight(b).max(weight(a));
            }
            if lost > total * (1.0 - least) {
                return None;
            }
        }
        Some((at, 1.0 - lost / total))
    };
    (0..=text.len() - passage.len()).filter_map(score).collect()
}

/// How alike two lines are, from 0 to 1.
fn alike(a: &str, b: &str) -> f32 {
    let (short, long) = (a.len().min(b.len()) as f32, a.len().max(b.len()) as f32);
    // Lines of very different length are not worth the comparison.
    if long == 0.0 || short / long < 0.4 {
        return 0.0;
    }
    TextDiff::from_chars(a, b).ratio()
}

/// How the indentation of a quotation differs from the text's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift<'a> {
    /// The text has this before each line of the quotation.
    Deeper(&'a str),
    /// The quotation has this before each line of the text.
    Shallower(&'a str),
}

impl<'a> Shift<'a> {
    /// The one difference that all lines share; blank lines have none.
    pub fn between(quoted: &[&'a str], text: &[&'a str]) -> Option<Shift<'a>> {
        let mut shift = None;
        for (&quoted, &text) in quoted.iter().zip(text).filter(|(quoted, _)| !quoted.trim().is_empty()) {
            let (from, to) = (indent(quoted), indent(text));
            let here = match (to.strip_suffix(from), from.strip_suffix(to)) {
                (Some(more), _) => Shift::Deeper(more),
                (None, Some(less)) => Shift::Shallower(less),
                (None, None) => return None,
            };
            if shift.is_some_and(|before| before != here) {
                return None;
            }
            shift = Some(here);
        }
        shift
    }

    /// A line of the replacement, moved as the quotation has to be.
    pub fn apply(self, line: &str) -> String {
        match self {
            _ if line.trim().is_empty() => line.to_owned(),
            Shift::Deeper(more) => format!("{more}{line}"),
            Shift::Shallower(less) => line.strip_prefix(less).unwrap_or(line.trim_start()).to_owned(),
        }
    }
}

/// The lines that stand in the place of a passage that was found at a line by a rung: those of `new`, but for the lines that
/// `new` has from the quotation, which stay as they are in `text`.
///
/// # Errors
/// Those of [`reindented`].
pub fn replacement(rung: Rung, quoted: &[&str], text: &[&str], at: usize, new: &[&str]) -> Result<Vec<String>, usize> {
    let window = &text[at..at + quoted.len()];
    let mut lines = match rung {
        Rung::Indent | Rung::Fuzzy => reindented(quoted, window, text, new)?,
        Rung::Exact | Rung::TrailingSpace => new.iter().map(|line| (*line).to_owned()).collect(),
    };
    let common = capture_diff_slices(Algorithm::Myers, quoted, new);
    for op in common.iter().filter(|op| op.tag() == DiffTag::Equal) {
        op.old_range().zip(op.new_range()).for_each(|(old, new)| lines[new] = window[old].to_owned());
    }
    Ok(lines)
}

/// The lines of a replacement as they have to stand where a quotation was forgiven its indentation: moved as the quotation would
/// have to be, or written in the file's own style where the quotation has another one (spaces for tabs, two for four). `window`
/// is what the quotation stands for, and `text` all of the file.
///
/// # Errors
/// The line, from 0, that would be indented otherwise than the file.
fn reindented(quoted: &[&str], window: &[&str], text: &[&str], new: &[&str]) -> Result<Vec<String>, usize> {
    let moved: Vec<String> = match (Shift::between(quoted, window), Scale::between(quoted, window)) {
        (Some(shift), _) => new.iter().map(|line| shift.apply(line)).collect(),
        (None, Some(scale)) => {
            let one = |(at, line): (usize, &&str)| scale.apply(line).ok_or(at);
            new.iter().enumerate().map(one).collect::<Result<_, _>>()?
        }
        (None, None) => new.iter().map(|line| (*line).to_owned()).collect(),
    };
    let here = Style::of(window).or_else(|| Style::of(text));
    let odd = moved.iter().position(|line| here.is_some_and(|style| !style.fits(line)));
    odd.map_or(Ok(moved), Err)
}

/// What lines are indented with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Tabs,
    Spaces,
}

impl Style {
    /// The one style of all lines that are indented.
    fn of(lines: &[&str]) -> Option<Style> {
        let indents = || lines.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line));
        match (indents().any(|it| it.contains('\t')), indents().any(|it| it.contains(' '))) {
            (true, false) => Some(Style::Tabs),
            (false, true) => Some(Style::Spaces),
            (true, true) | (false, false) => None,
        }
    }

    /// Whether a line may stand among others of the style. One space behind tabs is no indentation: comments begin so.
    fn fits(self, line: &str) -> bool {
        let indent = indent(line);
        line.trim().is_empty()
            || match self {
                Style::Tabs => !indent.starts_with(' ') && !indent.contains("  "),
                Style::Spaces => !indent.contains('\t'),
            }
    }

    fn letter(self) -> char {
        match self {
            Style::Tabs => '\t',
            Style::Spaces => ' ',
        }
    }
}

/// How the widths of one style become those of another: `to` for each `from`, and `more`.
#[derive(Debug, Clone, Copy)]
struct Scale {
    written: Style,
    style: Style,
    from: i64,
    to: i64,
    more: i64,
}

impl Scale {
    /// The one rule that all lines keep; `None` where they keep none, or it cannot be known.
    fn between(quoted: &[&str], window: &[&str]) -> Option<Scale> {
        let (written, style) = (Style::of(quoted)?, Style::of(window)?);
        let width = |line: &str| i64::try_from(indent(line).len()).ok();
        let lines = quoted.iter().zip(window).filter(|(quoted, _)| !quoted.trim().is_empty());
        let widths = lines.map(|(quoted, text)| Some((width(quoted)?, width(text)?))).collect::<Option<Vec<_>>>()?;
        let &(first, first_to) = widths.first()?;
        let other = widths.iter().find(|(width, _)| *width != first);
        let (from, to) = match other {
            Some((width, to)) => (width - first, to - first_to),
            None => (first, first_to),
        };
        let scale = Scale { written, style, from, to, more: 0 };
        if from == 0 || to == 0 {
            return None;
        }
        let more = first_to.checked_sub(scale.scaled(first)?)?;
        let scale = Scale { more, ..scale };
        widths.iter().all(|&(width, to)| scale.scaled(width) == Some(to)).then_some(scale)
    }

    fn scaled(self, width: i64) -> Option<i64> {
        let scaled = width.checked_mul(self.to)?;
        (scaled % self.from == 0).then(|| scaled / self.from + self.more)
    }

    /// A line in the other style; `None` where its indentation has no place in it.
    fn apply(self, line: &str) -> Option<String> {
        let before = indent(line);
        if line.trim().is_empty() || (self.written != self.style && Style::of(&[line]) == Some(self.style)) {
            return Some(line.to_owned());
        }
        if before.chars().any(|letter| letter != self.written.letter()) {
            return None;
        }
        let width = usize::try_from(self.scaled(i64::try_from(before.len()).ok()?)?).ok()?;
        let letter = self.style.letter().to_string();
        Some(letter.repeat(width) + &line[before.len()..])
    }
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[&str] = &["fn a() {", "    let x = 1;  ", "    x + 1", "}", "", "fn b() {", "    let y = 2;", "}"];

    #[test]
    fn each_rung_forgives_more() {
        assert_eq!(find(TEXT, &["    x + 1", "}"]), Some((Rung::Exact, vec![2])));
        assert_eq!(find(TEXT, &["    let x = 1;", "    x + 1"]), Some((Rung::TrailingSpace, vec![1])));
        assert_eq!(find(TEXT, &["let x = 1;", "x + 1"]), Some((Rung::Indent, vec![1])));
        assert_eq!(find(TEXT, &["fn b() -> {", "    let y = 2;", "}"]), Some((Rung::Fuzzy, vec![5])));
        assert_eq!(find(TEXT, &["fn c() {", "    other();", "}"]), None);
    }

    #[test]
    fn two_places_that_are_alike_are_no_place() {
        let text = ["let value_one = compute(1);", "x", "let value_two = compute(1);"];
        assert_eq!(find(&text, &["let value_abc = compute(1);"]), None);
        assert_eq!(nearest(&text, &["let value_abc = compute(1);"]).len(), 2);
    }

    #[test]
    fn each_quoted_line_has_to_be_like_its_own() {
        let lets: Vec<String> = (0..20).map(|n| format!("    let value_{n} = compute_something({n});")).collect();
        let lets: Vec<&str> = lets.iter().map(String::as_str).collect();
        let text = [&["fn main() {"], &lets[..], &["    drop(guard);", "}"]].concat();
        let left_out = [&["fn main() {"], &lets[..], &["}"]].concat();
        assert_eq!(find(&text, &left_out), None, "a line is missing");
        assert_eq!(find(&text, &[&text[..22], &["", "}"]].concat()), None, "a line too many");
        let [mut slip, mut moved] = [text.clone(), text.clone()];
        (slip[0], moved[3]) = ("fn  main () {", "let  value_2 = compute_something(2);");
        assert_eq!(find(&text, &slip), Some((Rung::Fuzzy, vec![0])));
        assert_eq!(find(&text, &moved), None, "one line is indented otherwise");
    }

    #[test]
    fn a_line_that_is_another_or_quoted_in_part_is_not_meant() {
        let line = "    let reply = handle_request_v1(state, received, 10);";
        let is_found = |quoted: &str| find(&["x", line, "y"], &[quoted]).is_some();
        for (quoted, expected) in [
            ("    let reply = handle_reqeust_v1(state, recceived, 10);", true),
            ("    let  reply=handle_request_v1(state,received, 10);", true),
            ("    let reply = handle_request_v2(state, received, 10);", false),
            ("    let reply = handle_request_v1(state, received, 11);", false),
            ("    let reply = handle_requests_v1(state, received, 10);", false),
            ("    let reply = handle_request_v1(state, receiver, 10);", false),
            ("    let reply = handle_request_v1(state,  received, 10)", false),
            ("    let reply =  handle_request_v1(state, received", false),
        ] {
            assert_eq!(is_found(quoted), expected, "{quoted}");
        }
    }

    #[test]
    fn what_a_replacement_keeps_of_its_quotation_stays_as_it_was() {
        let text = ["# recieved “so”", "a  ", "b = 1"];
        let quoted = ["# received \"so\"", "a", "b = 1"];
        let place = |rung, new: &[&str]| replacement(rung, &quoted, &text, 0, new).unwrap();
        assert_eq!(place(Rung::Fuzzy, &[quoted[0], "a", "b = 2"]), [text[0], "a  ", "b = 2"]);
        assert_eq!(place(Rung::Fuzzy, &["new", quoted[0], "b = 1"]), ["new", text[0], "b = 1"]);
    }

    #[test]
    fn an_indentation_must_be_the_same_for_all_lines() {
        assert_eq!(Shift::between(&["a", "", " b"], &["\ta", "", "b"]), None);
        assert_eq!(Shift::between(&["a", "", "b"], &["\ta", "", "\tb"]), Some(Shift::Deeper("\t")));
        assert_eq!(Shift::between(&["  a", "  b"], &["a", "b"]), Some(Shift::Shallower("  ")));
        assert_eq!(Shift::Shallower("    ").apply("  x"), "x");
    }

    #[test]
    fn a_replacement_is_written_in_the_style_of_the_file() {
        let text = ["all:", "\tif x; then", "\t\ty", "\tfi"];
        let moved = |quoted: &[&str], new: &[&str]| reindented(quoted, &text[1..1 + quoted.len()], &text, new);
        let quoted = ["    if x; then", "        y", "    fi"];
        let new = ["    if x; then", "        z", "", "            deep", "    fi", "top"];
        assert_eq!(moved(&quoted, &new).unwrap(), ["\tif x; then", "\t\tz", "", "\t\t\tdeep", "\tfi", "top"]);
        assert_eq!(moved(&quoted, &["    a", "      b"]), Err(1), "half a step");
        assert_eq!(moved(&quoted, &["\ta"]).unwrap(), ["\ta"]);
        assert_eq!(moved(&quoted[..1], &["    a", "        b"]).unwrap(), ["\ta", "\t\tb"]);
        assert_eq!(moved(&["if x; then"], &["a", "    b"]), Err(1), "how wide a step is, nobody said");
        let spaces = ["class A:", "  def f():", "    pass"];
        let back = reindented(&["\tdef f():", "\t\tpass"], &spaces[1..], &spaces, &["\tdef g():", "\t\treturn"]);
        assert_eq!(back.unwrap(), ["  def g():", "    return"]);
        assert_eq!(reindented(&["class B:"], &spaces[..1], &spaces, &["class B:", "\tx"]), Err(1));
    }

    #[test]
    fn line_ends_are_kept_apart() {
        let all = lines("a\r\nb\nc");
        assert_eq!(all.iter().map(|line| line.end).collect::<Vec<_>>(), ["\r\n", "\n", ""]);
        assert_eq!((dominant_end(&all), dominant_end(&all[..1])), ("\n", "\r\n"));
        let old = lines("a\rb\r\rc");
        let both = |line: &Line<'_>| format!("{}{}", line.text, line.end);
        assert_eq!(old.iter().map(both).collect::<Vec<_>>(), ["a\r", "b\r", "\r", "c"]);
        assert_eq!((dominant_end(&old), lines("a\rb\n").len()), ("\r", 1));
    }
}
