//! What an attempt hands to its dependents by value: the files that the plan names under `outputs`, and the lines of
//! `$SWARM_OUTPUT`. Both were written by a worker, so they are read beneath one folder, without following links out of it,
//! without blocking and up to bounds: of one file, of one attempt ([`OF_ATTEMPT`]) and of a run ([`OF_RUN`]). The coordinator
//! holds them parsed, in its state, in events and for each list of needs; a JSON value of two bytes takes hundreds there, so
//! values are bounded as bytes are, before they are parsed.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use indexmap::IndexMap;
use rustix::io::Errno;
use serde_json::{Map, Value};
use swarm_plans::{InstanceId, OutputSource, TaskIx};
use tokio::task::JoinError;

use super::Executor;
use super::places::Places;
use crate::dispatcher::Outputs;
use crate::plain_attributes::{NotPlain, make_plain};
use crate::secrets::Secrets;

/// The folder that the worker gets for what it hands over, relative to the attempt's.
pub const OUT: &str = "out";
/// Below [`OUT`]: `$SWARM_ARTIFACTS`.
pub const ARTIFACTS: &str = "artifacts";
/// Below [`OUT`]: `$SWARM_OUTPUT`.
pub const OUTPUT: &str = "output";

/// The largest file that an output is read from, in bytes.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;

/// How much outputs are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// JSON values, names of an object's entries among them.
    pub values: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// What one attempt may hand over.
pub const OF_ATTEMPT: Size = Size { values: 250_000, bytes: 16 << 20 };
/// What the instances of one run may have handed over together.
pub const OF_RUN: Size = Size { values: 1_000_000, bytes: 128 << 20 };

impl Size {
    /// Of a JSON text, without parsing it: never less than what it holds.
    fn of_text(text: &str) -> Size {
        let (mut values, mut quoted, mut escaped) = (1, false, false);
        for byte in text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'[' | b'{' | b',' | b':' if !quoted => values += 1,
                _ => {}
            }
        }
        Size { values, bytes: text.len() as u64 }
    }

    /// Of outputs.
    fn of_outputs<'a>(outputs: impl Iterator<Item = (&'a String, &'a Value)>) -> Size {
        let (mut size, mut open) = (Size::default(), Vec::new());
        let name = |name: &String| Size { values: 1, bytes: name.len() as u64 };
        for (output, value) in outputs {
            size.add(name(output));
            open.push(value);
        }
        while let Some(value) = open.pop() {
            size.values += 1;
            match value {
                Value::String(text) => size.bytes += text.len() as u64,
                Value::Array(items) => open.extend(items),
                Value::Object(map) => {
                    map.keys().for_each(|key| size.add(name(key)));
                    open.extend(map.values());
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        size
    }

    fn add(&mut self, more: Size) {
        self.values += more.values;
        self.bytes += more.bytes;
    }

    /// What of it exceeds a bound, for people.
    fn over(self, bound: Size) -> Option<Over> {
        match self {
            Size { values, .. } if values > bound.values => Some(Over { count: bound.values, of: "JSON values" }),
            Size { bytes, .. } if bytes > bound.bytes => Some(Over { count: bound.bytes, of: "bytes" }),
            _ => None,
        }
    }
}

/// A bound that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    count: u64,
    of: &'static str,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} {}", self.count, self.of)
    }
}

/// What the instances of a run have handed over so far.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// The newest attempt's of each instance, and all together.
    held: Mutex<(HashMap<InstanceId, Size>, Size)>,
}

impl HandedOver {
    /// What the instances of a run handed over before its coordinator died, whatever that comes to: it is there.
    pub fn of<'a>(before: impl Iterator<Item = (&'a InstanceId, &'a Outputs)>) -> Self {
        let (mut known, mut all) = (HashMap::new(), Size::default());
        for (instance, outputs) in before {
            let size = Size::of_outputs(outputs.iter());
            if size != Size::default() {
                all.add(size);
                known.insert(instance.clone(), size);
            }
        }
        HandedOver { held: Mutex::new((known, all)) }
    }

    /// Takes an attempt's outputs into the account, in the place of an earlier attempt's.
    ///
    /// # Errors
    /// [`OutputError::TooMuch`], and nothing is taken.
    pub fn book(&self, instance: &InstanceId, outputs: &Map<String, Value>) -> Result<(), OutputError> {
        let size = Size::of_outputs(outputs.iter());
        if let Some(over) = size.over(OF_ATTEMPT) {
            return Err(OutputError::TooMuch { over, who: "one attempt" });
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, all) = &mut *held;
        let before = known.get(instance).copied().unwrap_or_default();
        let mut sum = Size { values: all.values - before.values, bytes: all.bytes - before.bytes };
        sum.add(size);
        if let Some(over) = sum.over(OF_RUN) {
            return Err(OutputError::TooMuch { over, who: "all tasks of a run together" });
        }
        *all = sum;
        // Most hand over nothing, and there may be a hundred thousand of them.
        match size == Size::default() {
            true => known.remove(instance),
            false => known.insert(instance.clone(), size),
        };
        Ok(())
    }
}

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
    /// The artifacts cannot be made what others may be shown.
    #[error(transparent)]
    NotPlain(#[from] NotPlain),
    /// There is more than the coordinator keeps. Another try would hand over as much.
    #[error("hand over its outputs: {over}, which is what {who} may; write them to files in $SWARM_ARTIFACTS instead")]
    TooMuch {
        /// The bound.
        over: Over,
        /// Whose it is.
        who: &'static str,
    },
    /// A value that nobody is to read would go into the journal and into other tasks.
    #[error(
        "hand over the output `{output}`: it holds the secret `{secret}`; name that in the other task's policy instead"
    )]
    Secret {
        /// The output.
        output: String,
        /// The variable.
        secret: String,
    },
    /// A file is not what the plan says it is.
    #[error("understand `{file}`: {reason}")]
    Malformed {
        /// As in [`OutputError::Read`].
        file: String,
        /// Why.
        reason: String,
    },
}

impl OutputError {
    /// Whether the machine failed, whatever the work handed over.
    pub fn is_the_machines(&self) -> bool {
        let (OutputError::Read { source, .. } | OutputError::NotPlain(NotPlain { source, .. })) = self else {
            return false;
        };
        let machine = [Errno::MFILE, Errno::NFILE, Errno::IO, Errno::NOMEM, Errno::STALE, Errno::NODEV];
        source.raw_os_error().is_some_and(|number| machine.contains(&Errno::from_raw_os_error(number)))
    }
}

/// Takes an attempt's [`OUT`] folder over: reads all outputs, of which what the plan names wins over a line of the same name, and
/// makes plain what others will be shown.
///
/// # Errors
/// [`OutputError`] for the first file that cannot be used.
pub fn read(folder: &Path, named: &IndexMap<String, OutputSource>) -> Result<Map<String, Value>, OutputError> {
    let failed = |file: &str| {
        let file = file.to_owned();
        move |source| OutputError::Read { file, source }
    };
    let out = Dir::open_ambient_dir(folder, ambient_authority()).map_err(failed("$SWARM_OUTPUT"))?;
    let mut outputs = Map::new();
    let mut all = Size::default();
    let mut weigh = |size: Size| {
        all.add(size);
        all.over(OF_ATTEMPT).map_or(Ok(()), |over| Err(OutputError::TooMuch { over, who: "one attempt" }))
    };
    match bounded(&out, OUTPUT) {
        Ok(text) => {
            weigh(of_lines(&text))?;
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
    make_plain(&folder.join(ARTIFACTS))?;
    if named.is_empty() {
        return Ok(outputs);
    }
    let artifacts = out.open_dir(ARTIFACTS).map_err(failed("$SWARM_ARTIFACTS"))?;
    for (name, source) in named {
        outputs.insert(name.clone(), value(&artifacts, source, &mut weigh)?);
    }
    Ok(outputs)
}

/// The outputs, if no secret stands in them; else the file with the secret is removed from `out`.
///
/// # Errors
/// [`OutputError::Secret`], or [`OutputError::Read`] where that file cannot be removed.
pub fn without_secrets(
    out: &Path,
    named: &IndexMap<String, OutputSource>,
    outputs: Map<String, Value>,
    secrets: &Secrets,
) -> Result<Map<String, Value>, OutputError> {
    let found = |(output, value): (&String, &Value)| Some((output.clone(), secrets.found_in_value(value)?.to_owned()));
    let Some((output, secret)) = outputs.iter().find_map(found) else { return Ok(outputs) };
    let file = named.get(&output).map_or(OUTPUT.to_owned(), |source| {
        let (OutputSource::Json(file) | OutputSource::Text(file) | OutputSource::Lines(file)) = source;
        format!("{ARTIFACTS}/{file}")
    });
    let removed = Dir::open_ambient_dir(out, ambient_authority()).and_then(|out| remove_with_target(&out, &file));
    removed.map_err(|source| OutputError::Read { file, source })?;
    Err(OutputError::Secret { output, secret })
}

/// Removes a file beneath `out` and, where its name is a link, what that leads to.
fn remove_with_target(out: &Dir, file: &str) -> std::io::Result<()> {
    out.remove_file(out.canonicalize(file)?)?;
    match out.remove_file(file) {
        // It was no link.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Executor {
    /// What an attempt at a task hands over, without secrets.
    pub(super) async fn outputs_of(
        self: &Arc<Self>,
        task: TaskIx,
        places: &Places,
    ) -> Result<Result<Map<String, Value>, OutputError>, JoinError> {
        let (executor, out) = (Arc::clone(self), places.out());
        let reads = move || {
            let named = &executor.plan.task(task).outputs;
            read(&out, named).and_then(|outputs| without_secrets(&out, named, outputs, &executor.jobs.secrets))
        };
        tokio::task::spawn_blocking(reads).await
    }
}

fn of_lines(text: &str) -> Size {
    Size { values: text.lines().count() as u64, bytes: text.len() as u64 }
}

fn value(
    artifacts: &Dir,
    source: &OutputSource,
    weigh: &mut impl FnMut(Size) -> Result<(), OutputError>,
) -> Result<Value, OutputError> {
    Ok(match source {
        OutputSource::Json(file) => {
            let text = bounded(artifacts, file)?;
            weigh(Size::of_text(&text))?;
            let malformed = |e: serde_json::Error| OutputError::Malformed { file: file.clone(), reason: e.to_string() };
            serde_json::from_str(&text).map_err(malformed)?
        }
        OutputSource::Text(file) => {
            let text = bounded(artifacts, file)?;
            weigh(Size { values: 1, bytes: text.len() as u64 })?;
            Value::String(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
        OutputSource::Lines(file) => {
            let text = bounded(artifacts, file)?;
            weigh(of_lines(&text))?;
            Value::Array(text.lines().map(|line| Value::String(line.to_owned())).collect())
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
    use std::os::unix::fs::PermissionsExt as _;

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
    fn an_output_that_holds_a_secret_is_refused() {
        let (out, secrets) = (out(), Secrets::new([("TOKEN", "npm_1234")]));
        let check = |file: &str, text: &str| {
            std::fs::write(out.path().join(file), text).unwrap();
            let named = if file == OUTPUT { IndexMap::new() } else { named("x.json") };
            without_secrets(out.path(), &named, read(out.path(), &named).unwrap(), &secrets)
        };
        assert_eq!(check(OUTPUT, "a=npm_123\n").unwrap().len(), 1);
        for (file, text) in [(OUTPUT, "a=1\nx=say npm_1234\n"), ("artifacts/x.json", "[\"npm_1234\"]")] {
            let error = check(file, text).unwrap_err().to_string();
            assert!(error.contains("`x`") && error.contains("`TOKEN`") && !error.contains("npm_"), "{error}");
            assert!(!out.path().join(file).exists());
        }
        // The folder is handed over as a whole: the name alone would be no loss.
        std::fs::create_dir(out.path().join("artifacts/deep")).unwrap();
        std::os::unix::fs::symlink("deep/y", out.path().join("artifacts/x.json")).unwrap();
        assert!(check("artifacts/x.json", "[\"npm_1234\"]").is_err());
        for file in ["artifacts/x.json", "artifacts/deep/y"] {
            assert!(out.path().join(file).symlink_metadata().is_err(), "{file}");
        }
    }

    #[test]
    fn a_text_never_holds_more_than_it_was_weighed() {
        for text in ["1", "[]", "[[],[]]", r#"{"a": [1, "x,[\\\",{"], "b": null}"#, "\"a,b\""] {
            let outputs = Map::from_iter([("x".to_owned(), serde_json::from_str(text).unwrap())]);
            // The output's own name is no part of the text.
            let held = Size::of_outputs(outputs.iter()).values - 1;
            let weighed = Size::of_text(text).values;
            assert!(weighed >= held && weighed <= 2 * held, "{text}: {weighed} for {held}");
        }
    }

    #[test]
    fn more_than_an_attempt_may_is_refused_before_it_is_parsed() {
        let out = out();
        let check = |text: &str, named: &IndexMap<String, OutputSource>| {
            std::fs::write(out.path().join("artifacts/x.json"), text).unwrap();
            read(out.path(), named).map(drop).map_err(|error| error.to_string())
        };
        let many = |count: usize| format!("[{}[]]", "[],".repeat(count));
        let lines = IndexMap::from([("x".to_owned(), OutputSource::Lines("x.json".to_owned()))]);
        assert_eq!(check(&many(100_000), &named("x.json")), Ok(()));
        for (text, named) in [(many(300_000), &named("x.json")), ("\n".repeat(300_000), &lines)] {
            let refused = check(&text, named).unwrap_err();
            assert!(refused.contains("more than 250000 JSON values, which is what one attempt may"), "{refused}");
        }
    }

    #[test]
    fn a_run_holds_no_more_than_its_bound_and_a_retry_replaces() {
        let handed = HandedOver::default();
        let outputs = Map::from_iter([("x".to_owned(), vec![Value::Null; 200_000].into())]);
        let book = |name: &str| handed.book(&InstanceId(name.into()), &outputs);
        for name in ["a", "b", "c", "a", "a", "a", "d"] {
            assert!(book(name).is_ok(), "{name}");
        }
        let refused = book("e").unwrap_err().to_string();
        assert!(refused.contains("more than 1000000 JSON values, which is what all tasks of a run"), "{refused}");
        assert!(book("d").is_ok(), "what was refused is not held");
        let kept = Outputs::from(outputs.clone());
        let before: Vec<_> = ["a", "b", "c", "d"].map(|name| InstanceId(name.into())).into();
        let again = HandedOver::of(before.iter().map(|name| (name, &kept)));
        assert!(again.book(&InstanceId("e".into()), &outputs).is_err(), "whoever goes on holds what was held");
        assert!(again.book(&before[0], &outputs).is_ok());
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
    fn who_needs_it_sees_of_a_file_what_counts_and_no_more() {
        let out = out();
        let at = out.path().join("artifacts/x.json");
        std::fs::write(&at, "[1]").unwrap();
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o611)).unwrap();
        assert_eq!(read(out.path(), &IndexMap::new()).unwrap(), Map::new());
        assert_eq!(at.metadata().unwrap().permissions().mode() & 0o7777, 0o644);
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
