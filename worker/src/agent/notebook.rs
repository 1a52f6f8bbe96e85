//! Jupyter notebooks: shown cell by cell, and changed cell by cell, everything else as it was. Pure.
//!
//! Source: the notebook format, version 4 (nbformat).

use serde::Serialize as _;
use serde_json::{Map, Value, json};

/// The longest output of a cell that is shown, in bytes.
const OUTPUT_BYTES_MAX: usize = 1000;

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
    let mut notebook = parse(text)?;
    let with_ids = notebook["nbformat_minor"].as_u64().is_some_and(|minor| minor >= 5);
    let cells = notebook["cells"].as_array_mut().ok_or_else(no_cells)?;
    let count = cells.len();
    let place = |cell: usize, most: usize| match cell.checked_sub(1).filter(|&at| at < most) {
        Some(at) => Ok(at),
        None => Err(NotebookError::NoCell { cell, count }),
    };
    let (before, after) = match change {
        Change::Replace { cell, source: new, kind } => {
            let cell = &mut cells[place(*cell, count)?];
            let before = source(cell);
            let kind = kind.map_or_else(|| cell["cell_type"].clone(), |kind| kind.name().into());
            if let Value::Object(cell) = cell {
                fill(cell, &kind, new);
            }
            (before, new.clone())
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
            cells.insert(at, Value::Object(fresh));
            (String::new(), new.clone())
        }
        Change::Delete { cell } => (source(&cells.remove(place(*cell, count)?)), String::new()),
    };
    Ok(Changed { text: write(&notebook, text), before, after })
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

/// Indented by as much as it was, with a line feed at its end if it had one.
fn write(notebook: &Value, before: &str) -> String {
    let second = before.lines().nth(1).unwrap_or(" ");
    let indent = &second[..second.len() - second.trim_start().len()];
    let mut bytes = vec![];
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    notebook.serialize(&mut serializer).expect("a value in memory can be written");
    let mut text = String::from_utf8(bytes).expect("JSON is UTF-8");
    if before.ends_with('\n') {
        text.push('\n');
    }
    text
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
    fn what_is_no_notebook_is_refused() {
        for text in ["", "[]", "{\"nbformat\":3}", "{\"nbformat\":4}"] {
            assert!(show(text).is_err(), "{text}");
        }
    }
}
