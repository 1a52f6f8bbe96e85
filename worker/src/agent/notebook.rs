//! Jupyter notebooks: shown cell by cell, and changed cell by cell, everything else as it was. Pure.
//!
//! Source: the notebook format, version 4 (nbformat).

use std::ops::Range;

use serde::Serialize as _;
use serde_json::{Map, Value, json};

use super::json_text;

/// The longest output of a cell that is shown, in bytes.
const OUTPUT_BYTES_MAX: usize = 1000;

/// What is written anew of a cell that changes.
const FILLED: [&str; 4] = ["cell_type", "execution_count", "outputs", "source"];

/// What is done to a notebook. Cells count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A cell gets another source; its outputs are gone.
    Replace {
        /// Which.
        cell: usize,
        /// Its source.
        source: String,
        /// Its kind, where that changes.
        kind: Option<Kind>,
    },
    /// A new cell.
    Insert {
        /// Which it is then.
        cell: usize,
        /// Its source.
        source: String,
        /// Its kind.
        kind: Kind,
    },
    /// A cell is removed.
    Delete {
        /// Which.
        cell: usize,
    },
}

/// The kinds of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Runs.
    Code,
    /// Is read.
    Markdown,
    /// Is left alone.
    Raw,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Code => "code",
            Kind::Markdown => "markdown",
            Kind::Raw => "raw",
        }
    }
}

/// Why a notebook was not changed; for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotebookError {
    /// Not a notebook.
    #[error("it is no notebook of format 4: {0}")]
    Format(String),
    /// A cell that is not there.
    #[error("there are {count} cells, and no cell {cell}")]
    NoCell {
        /// As asked for.
        cell: usize,
        /// How many there are.
        count: usize,
    },
}

/// A notebook with the text of one cell before and after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The whole file.
    pub text: String,
    /// The cell before; empty for a new one.
    pub before: String,
    /// The cell after; empty for one that is gone.
    pub after: String,
}

/// All cells, for the model.
///
/// # Errors
/// [`NotebookError::Format`].
pub fn show(text: &str) -> Result<String, NotebookError> {
    let notebook = parse(text)?;
    let mut shown = String::new();
    for (at, cell) in cells(&notebook).iter().enumerate() {
        shown.push_str(&format!("--- cell {} ({})\n", at + 1, cell["cell_type"].as_str().unwrap_or("?")));
        shown.push_str(source(cell).trim_end_matches('\n'));
        shown.push('\n');
        for output in cell["outputs"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = super::tools::bounded(&output_text(output), OUTPUT_BYTES_MAX);
            shown.push_str(&text.lines().map(|line| format!("=> {line}\n")).collect::<String>());
        }
    }
    Ok(shown)
}

/// Changes one cell.
///
/// # Errors
/// [`NotebookError`].
pub fn apply(text: &str, change: &Change) -> Result<Changed, NotebookError> {
    let notebook = parse(text)?;
    let with_ids = notebook["nbformat_minor"].as_u64().is_some_and(|minor| minor >= 5);
    let (cells, list) = (cells(&notebook), List::of(text).ok_or_else(no_cells)?);
    let count = cells.len();
    let place = |cell: usize, most: usize| match cell.checked_sub(1).filter(|&at| at < most) {
        Some(at) => Ok(at),
        None => Err(NotebookError::NoCell { cell, count }),
    };
    Ok(match change {
        Change::Replace { cell, source: new, kind } => {
            let at = place(*cell, count)?;
            let Value::Object(mut filled) = cells[at].clone() else {
                return Err(NotebookError::Format(format!("its cell {cell} is no object")));
            };
            let kind = kind.map_or_else(|| cells[at]["cell_type"].clone(), |kind| kind.name().into());
            fill(&mut filled, &kind, new);
            Changed { text: list.replace(at, &filled), before: source(&cells[at]), after: new.clone() }
        }
        Change::Insert { cell, source: new, kind } => {
            let at = place(*cell, count + 1)?;
            let mut fresh = Map::new();
            fresh.insert("cell_type".to_owned(), kind.name().into());
            if with_ids {
                let taken = |id: &str| cells.iter().any(|cell| cell["id"] == id);
                let ids = (0u32..).map(|n| blake3::hash(format!("{n}:{new}").as_bytes()).to_hex()[..8].to_owned());
                fresh.extend(ids.into_iter().find(|id| !taken(id)).map(|id| ("id".to_owned(), id.into())));
            }
            fresh.insert("metadata".to_owned(), json!({}));
            fill(&mut fresh, &kind.name().into(), new);
            Changed { text: list.insert(at, &fresh), before: String::new(), after: new.clone() }
        }
        Change::Delete { cell } => {
            let at = place(*cell, count)?;
            Changed { text: list.delete(at), before: source(&cells[at]), after: String::new() }
        }
    })
}

fn parse(text: &str) -> Result<Value, NotebookError> {
    let notebook: Value = serde_json::from_str(text).map_err(|error| NotebookError::Format(error.to_string()))?;
    if notebook["nbformat"].as_u64() != Some(4) {
        return Err(NotebookError::Format("`nbformat` is not 4".to_owned()));
    }
    notebook["cells"].is_array().then_some(()).ok_or_else(no_cells)?;
    Ok(notebook)
}

fn no_cells() -> NotebookError {
    NotebookError::Format("it has no `cells`".to_owned())
}

fn cells(notebook: &Value) -> &[Value] {
    notebook["cells"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text that the format keeps whole or as a list of lines.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

fn source(cell: &Value) -> String {
    joined(&cell["source"])
}

fn output_text(output: &Value) -> String {
    match output["output_type"].as_str() {
        Some("stream") => joined(&output["text"]),
        Some("error") => format!("{}: {}", joined(&output["ename"]), joined(&output["evalue"])),
        _ => match &output["data"]["text/plain"] {
            Value::Null => "[not text]".to_owned(),
            text => joined(text),
        },
    }
}

fn fill(cell: &mut Map<String, Value>, kind: &Value, source: &str) {
    cell.insert("cell_type".to_owned(), kind.clone());
    if kind == "code" {
        cell.insert("execution_count".to_owned(), Value::Null);
        cell.insert("outputs".to_owned(), json!([]));
    } else {
        cell.shift_remove("execution_count");
        cell.shift_remove("outputs");
    }
    let lines: Vec<&str> = source.split_inclusive('\n').collect();
    cell.insert("source".to_owned(), json!(lines));
}

/// The cells of a notebook where they stand in its text: what nobody asked to change stays byte for byte.
struct List<'a> {
    text: &'a str,
    /// The whole list.
    all: Range<usize>,
    cells: Vec<Range<usize>>,
    /// What each level is indented by.
    step: &'a str,
}

impl<'a> List<'a> {
    fn of(text: &'a str) -> Option<Self> {
        // Of two members of one name the last counts.
        let (_, all) = json_text::members(text, 0)?.into_iter().rfind(|(name, _)| name == "cells")?;
        let (_, within) = text.split_once('{')?;
        let blanks = &within[..within.len() - within.trim_start_matches(json_text::BLANKS).len()];
        let step = blanks.rsplit_once('\n').map_or(" ", |(_, step)| step);
        Some(List { text, cells: json_text::elements(text, all.start)?, all, step })
    }

    /// What stands before a value: where its line begins, and how far it is indented; no line end in a text of one line.
    fn lead(&self, at: usize) -> &'a str {
        let blanks = &self.text[self.text[..at].trim_end_matches(json_text::BLANKS).len()..at];
        let line = blanks.rfind("\r\n").or_else(|| blanks.rfind('\n'));
        &blanks[line.unwrap_or_default()..]
    }

    fn with(&self, place: Range<usize>, new: &str) -> String {
        [&self.text[..place.start], new, &self.text[place.end..]].concat()
    }

    fn replace(&self, at: usize, cell: &Map<String, Value>) -> String {
        let place = self.cells[at].clone();
        let kept = json_text::members(self.text, place.start).unwrap_or_default();
        self.with(place.clone(), &self.cell(cell, &kept, self.lead(place.start)))
    }

    fn insert(&self, at: usize, cell: &Map<String, Value>) -> String {
        if let Some(next) = self.cells.get(at) {
            let lead = self.lead(next.start);
            return self.with(next.start..next.start, &format!("{},{lead}", self.cell(cell, &[], lead)));
        }
        if let Some(last) = self.cells.last() {
            let lead = self.lead(last.start);
            return self.with(last.end..last.end, &format!(",{lead}{}", self.cell(cell, &[], lead)));
        }
        let Some((above, line)) = self.text[..self.all.start].rsplit_once('\n') else {
            return self.with(self.all.clone(), &format!("[{}]", self.cell(cell, &[], "")));
        };
        let end = if above.ends_with('\r') { "\r\n" } else { "\n" };
        let indent = &line[..line.len() - line.trim_start().len()];
        let lead = format!("{end}{indent}{}", self.step);
        self.with(self.all.clone(), &format!("[{lead}{}{end}{indent}]", self.cell(cell, &[], &lead)))
    }

    fn delete(&self, at: usize) -> String {
        let (before, place, next) = (at.checked_sub(1), &self.cells[at], self.cells.get(at + 1));
        match (before, next) {
            (_, Some(next)) => self.with(place.start..next.start, ""),
            (Some(before), None) => self.with(self.cells[before].end..place.end, ""),
            (None, None) => self.with(self.all.clone(), "[]"),
        }
    }

    /// A cell behind `lead`; what is `kept` of it is written as it was.
    fn cell(&self, cell: &Map<String, Value>, kept: &[(String, Range<usize>)], lead: &str) -> String {
        let within = format!("{lead}{}", if lead.contains('\n') { self.step } else { "" });
        let (within, colon) = if lead.contains('\n') { (within.as_str(), ": ") } else { ("", ":") };
        let members = cell.iter().map(|(name, value)| {
            let old = kept.iter().rfind(|(old, _)| old == name && !FILLED.contains(&name.as_str()));
            let value = match old {
                Some((_, place)) => self.text[place.clone()].to_owned(),
                None => self.written(value, within),
            };
            format!("{within}{}{colon}{value}", Value::from(name.as_str()))
        });
        let end = if within.is_empty() { "" } else { lead };
        format!("{{{}{end}}}", members.collect::<Vec<_>>().join(","))
    }

    /// A value behind `lead`.
    fn written(&self, value: &Value, lead: &str) -> String {
        if lead.is_empty() {
            return value.to_string();
        }
        let mut bytes = vec![];
        let formatter = serde_json::ser::PrettyFormatter::with_indent(self.step.as_bytes());
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        value.serialize(&mut serializer).expect("a value in memory can be written");
        // Within texts, JSON writes line ends by their names.
        String::from_utf8(bytes).expect("JSON is UTF-8").replace('\n', lead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = r##"{
 "cells": [
  {
   "cell_type": "markdown",
   "id": "a",
   "metadata": {},
   "source": [
    "# Ä\n",
    "b"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": 3,
   "id": "b",
   "metadata": {
    "tags": []
   },
   "outputs": [
    {
     "name": "stdout",
     "output_type": "stream",
     "text": [
      "hi\n"
     ]
    }
   ],
   "source": [
    "print('hi')"
   ]
  }
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
"##;

    #[test]
    fn cells_are_shown_with_their_outputs() {
        assert_eq!(show(BOOK).unwrap(), "--- cell 1 (markdown)\n# Ä\nb\n--- cell 2 (code)\nprint('hi')\n=> hi\n");
    }

    #[test]
    fn only_the_cell_that_is_meant_changes() {
        let change = Change::Replace { cell: 2, source: "x = 1\nx".to_owned(), kind: None };
        let changed = apply(BOOK, &change).unwrap();
        assert_eq!((changed.before.as_str(), changed.after.as_str()), ("print('hi')", "x = 1\nx"));
        let (old, new): (Vec<&str>, Vec<&str>) = (BOOK.lines().collect(), changed.text.lines().collect());
        assert_eq!(old[..10], new[..10], "the other cell is byte for byte the same");
        assert!(changed.text.contains("\"execution_count\": null") && changed.text.contains("\"outputs\": []"));
        assert!(changed.text.contains("\"x = 1\\n\",\n    \"x\"") && changed.text.ends_with("}\n"));
    }

    #[test]
    fn cells_come_and_go() {
        let insert = Change::Insert { cell: 3, source: "new".to_owned(), kind: Kind::Code };
        let longer = apply(BOOK, &insert).unwrap().text;
        assert!(show(&longer).unwrap().ends_with("--- cell 3 (code)\nnew\n"));
        let id = serde_json::from_str::<Value>(&longer).unwrap()["cells"][2]["id"].clone();
        assert_eq!(id.as_str().unwrap().len(), 8);
        assert_eq!(apply(&longer, &Change::Delete { cell: 3 }).unwrap().text, BOOK);
        assert_eq!(apply(BOOK, &Change::Delete { cell: 3 }), Err(NotebookError::NoCell { cell: 3, count: 2 }));
        assert_eq!(apply(BOOK, &Change::Delete { cell: 0 }), Err(NotebookError::NoCell { cell: 0, count: 2 }));
    }

    #[test]
    fn numbers_and_line_ends_stay_as_they_were() {
        let large = BOOK.replacen("\"metadata\": {}", "\"metadata\": {\"k\": 12345678901234567890123, \"x\":1.10}", 1);
        for book in [large.clone(), large.replace('\n', "\r\n"), format!("\n{large}\n\n")] {
            for change in [
                Change::Replace { cell: 1, source: "# Ä\nb".to_owned(), kind: None },
                Change::Replace { cell: 2, source: "print('hi')".to_owned(), kind: Some(Kind::Markdown) },
                Change::Insert { cell: 1, source: "a\nb".to_owned(), kind: Kind::Code },
                Change::Insert { cell: 3, source: String::new(), kind: Kind::Raw },
                Change::Delete { cell: 2 },
            ] {
                let text = apply(&book, &change).unwrap().text;
                assert!(text.contains("{\"k\": 12345678901234567890123, \"x\":1.10}"), "{change:?}: {text}");
                let bare = text.matches('\n').count() - text.matches("\r\n").count();
                assert!(!book.contains('\r') || bare == 0, "{change:?}: {text}");
                assert!(show(&text).is_ok(), "{change:?}: {text}");
            }
            let same = Change::Replace { cell: 1, source: "# Ä\nb".to_owned(), kind: None };
            assert_eq!(apply(&book, &same).unwrap().text, book, "not a byte else is written");
        }
    }

    #[test]
    fn a_notebook_of_one_line_stays_one_and_an_empty_one_is_filled() {
        let one = "{\"cells\":[{\"cell_type\":\"raw\",\"metadata\":{\"k\": 1.0},\"source\":[]}],\"nbformat\":4}";
        let replace = Change::Replace { cell: 1, source: "a".to_owned(), kind: None };
        assert_eq!(apply(one, &replace).unwrap().text, one.replace("[]}", "[\"a\"]}"));
        let none = apply(one, &Change::Delete { cell: 1 }).unwrap().text;
        assert_eq!(none, "{\"cells\":[],\"nbformat\":4}");
        let insert = Change::Insert { cell: 1, source: "a".to_owned(), kind: Kind::Raw };
        let fresh = "{\"cells\":[{\"cell_type\":\"raw\",\"metadata\":{},\"source\":[\"a\"]}],\"nbformat\":4}";
        assert_eq!(apply(&none, &insert).unwrap().text, fresh);
        let lines = "{\r\n  \"cells\": [],\r\n  \"nbformat\": 4\r\n}";
        let filled = "{\r\n  \"cells\": [\r\n    {\r\n      \"cell_type\": \"raw\",\r\n      \"metadata\": {},\r\n      \
                      \"source\": [\r\n        \"a\"\r\n      ]\r\n    }\r\n  ],\r\n  \"nbformat\": 4\r\n}";
        assert_eq!(apply(lines, &insert).unwrap().text, filled);
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        for text in ["", "[]", "{\"nbformat\":3}", "{\"nbformat\":4}"] {
            assert!(show(text).is_err(), "{text}");
        }
    }
}
