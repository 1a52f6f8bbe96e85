//! What an attempt hands to its dependents by value: the files that the plan names under `outputs`, and the lines of
//! `$SWARM_OUTPUT`. Both were written by a worker, so they are read beneath one folder, without following links out of it,
//! without blocking and up to a bound.

use std::io::Read;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use indexmap::IndexMap;
use serde_json::{Map, Value};
use swarm_plans::OutputSource;

/// The folder that the worker gets for what it hands over, relative to the attempt's.
pub const OUT: &str = "out";
/// Below [`OUT`]: `$SWARM_ARTIFACTS`.
pub const ARTIFACTS: &str = "artifacts";
/// Below [`OUT`]: `$SWARM_OUTPUT`.
pub const OUTPUT: &str = "output";

/// The largest file that an output is read from, in bytes.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;

/// Why the outputs of an attempt cannot be used: the task's fault, and it fails for it.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A file is not there, is no regular file, or cannot be read.
    #[error("read `{file}`: {source}")]
    Read {
        /// Relative to `$SWARM_ARTIFACTS`, or `$SWARM_OUTPUT` itself.
        file: String,
        /// The file system's word.
        source: std::io::Error,
    },
    /// A file is larger than [`OUTPUT_BYTES_MAX`].
    #[error("read `{0}`: it is larger than {OUTPUT_BYTES_MAX} bytes")]
    TooLarge(String),
    /// A file is not what the plan says it is.
    #[error("understand `{file}`: {reason}")]
    Malformed {
        /// As in [`OutputError::Read`].
        file: String,
        /// Why.
        reason: String,
    },
}

/// Reads all outputs of an attempt from its [`OUT`] folder. What the plan names wins over a line of the same name.
///
/// # Errors
/// [`OutputError`] for the first file that cannot be used.
pub fn read(out: &Path, named: &IndexMap<String, OutputSource>) -> Result<Map<String, Value>, OutputError> {
    let failed = |file: &str| {
        let file = file.to_owned();
        move |source| OutputError::Read { file, source }
    };
    let out = Dir::open_ambient_dir(out, ambient_authority()).map_err(failed("$SWARM_OUTPUT"))?;
    let mut outputs = Map::new();
    match bounded(&out, OUTPUT) {
        Ok(text) => {
            let lines = parse_lines(&text);
            outputs = lines.map_err(|reason| OutputError::Malformed { file: "$SWARM_OUTPUT".to_owned(), reason })?;
        }
        Err(OutputError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Dependents get this folder shown; without it, or with a link in its place, their cages could not be made.
    if !out.symlink_metadata(ARTIFACTS).map_err(failed("$SWARM_ARTIFACTS"))?.is_dir() {
        return Err(failed("$SWARM_ARTIFACTS")(std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    if named.is_empty() {
        return Ok(outputs);
    }
    let artifacts = out.open_dir(ARTIFACTS).map_err(failed("$SWARM_ARTIFACTS"))?;
    for (name, source) in named {
        outputs.insert(name.clone(), value(&artifacts, source)?);
    }
    Ok(outputs)
}

fn value(artifacts: &Dir, source: &OutputSource) -> Result<Value, OutputError> {
    Ok(match source {
        OutputSource::Json(file) => {
            let text = bounded(artifacts, file)?;
            let malformed = |e: serde_json::Error| OutputError::Malformed { file: file.clone(), reason: e.to_string() };
            serde_json::from_str(&text).map_err(malformed)?
        }
        OutputSource::Text(file) => {
            let text = bounded(artifacts, file)?;
            Value::String(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
        OutputSource::Lines(file) => {
            Value::Array(bounded(artifacts, file)?.lines().map(|line| Value::String(line.to_owned())).collect())
        }
    })
}

/// A regular file beneath `dir` as text.
fn bounded(dir: &Dir, file: &str) -> Result<String, OutputError> {
    let failed = |source| OutputError::Read { file: file.to_owned(), source };
    // Not to hang on a FIFO that a worker left under the name.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = dir.open_with(file, OpenOptions::new().read(true).custom_flags(nonblock)).map_err(failed)?;
    if !opened.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let mut bytes = Vec::new();
    opened.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(OutputError::TooLarge(file.to_owned()));
    }
    let not_text = |_| OutputError::Malformed { file: file.to_owned(), reason: "it is not UTF-8".to_owned() };
    String::from_utf8(bytes).map_err(not_text)
}

/// Parses `key=value` lines and `key<<WORD` … `WORD` blocks, as GitHub Actions writes them.
fn parse_lines(text: &str) -> Result<Map<String, Value>, String> {
    let mut outputs = Map::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let block = line.split_once("<<").filter(|(key, _)| !key.contains('='));
        let (key, value) = match (block, line.split_once('=')) {
            (Some((key, word)), _) => {
                let mut body = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == word => break,
                        Some(line) => body.push(line),
                        None => return Err(format!("the block of `{key}` has no closing `{word}`")),
                    }
                }
                (key, body.join("\n"))
            }
            (None, Some((key, value))) => (key, value.to_owned()),
            (None, None) => return Err(format!("`{line}` is neither `key=value` nor `key<<WORD`")),
        };
        let good = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !good {
            return Err(format!("`{key}` is no name for an output: use letters, digits, `_` and `-`"));
        }
        outputs.insert(key.to_owned(), Value::String(value));
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(text: &str) -> Result<Value, String> {
        parse_lines(text).map(Value::Object)
    }

    #[test]
    fn lines_and_blocks_are_outputs() {
        assert_eq!(lines("a=1\nb=x=y\n\nc<<END\none\ntwo\nEND\n"), Ok(json!({"a": "1", "b": "x=y", "c": "one\ntwo"})));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for text in ["nothing", "=x", "a b=1", "a<<END\nnever closed"] {
            assert!(lines(text).is_err(), "{text:?}");
        }
    }

    fn out() -> tempfile::TempDir {
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir(out.path().join(ARTIFACTS)).unwrap();
        out
    }

    fn named(file: &str) -> IndexMap<String, OutputSource> {
        IndexMap::from([("x".to_owned(), OutputSource::Json(file.to_owned()))])
    }

    #[test]
    fn json_files_are_read_from_the_artifacts() {
        let out = out();
        std::fs::write(out.path().join("artifacts/x.json"), "[1]").unwrap();
        assert_eq!(Value::Object(read(out.path(), &named("x.json")).unwrap()), json!({"x": [1]}));
        assert!(matches!(read(out.path(), &named("y.json")), Err(OutputError::Read { .. })));
    }

    #[test]
    fn a_link_out_of_the_folder_and_a_fifo_are_refused() {
        let out = out();
        std::fs::write(out.path().join("secret.json"), "1").unwrap();
        std::os::unix::fs::symlink("../secret.json", out.path().join("artifacts/link.json")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", out.path().join("artifacts/absolute.json")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            out.path().join("artifacts/fifo.json"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        for file in ["link.json", "absolute.json", "fifo.json", "../secret.json"] {
            assert!(matches!(read(out.path(), &named(file)), Err(OutputError::Read { .. })), "{file}");
        }
    }

    #[test]
    fn an_artifacts_folder_that_was_replaced_is_the_tasks_fault() {
        let out = out();
        let artifacts = out.path().join(ARTIFACTS);
        assert!(read(out.path(), &IndexMap::new()).is_ok());
        std::fs::remove_dir(&artifacts).unwrap();
        assert!(matches!(read(out.path(), &IndexMap::new()), Err(OutputError::Read { .. })), "it is gone");
        std::os::unix::fs::symlink(".", &artifacts).unwrap();
        assert!(matches!(read(out.path(), &IndexMap::new()), Err(OutputError::Read { .. })), "it is a link");
    }
}
