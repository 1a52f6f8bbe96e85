//! Which recordings a run was given, kept beside it: a run that is resumed goes on with the next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Question;

/// What was given, so that the next answer is another.
#[derive(Debug, Default)]
pub struct Given {
    pub taken: HashSet<PathBuf>,
    /// What coordinators gave that are gone, for each question in order. Whoever was cut short asks the same once more, and
    /// is to hear the same once more.
    before: HashMap<blake3::Hash, VecDeque<PathBuf>>,
    /// Where the next coordinator of the run finds it; `None` where there will be none.
    kept: Option<std::fs::File>,
}

/// A line of what is kept.
#[derive(Serialize, Deserialize)]
struct GivenLine {
    /// What the question is known by.
    question: String,
    /// The name of the recording in its folder.
    recording: String,
}

impl Given {
    /// What a run's earlier coordinators kept in `file`; this one goes on with it. A line that was torn is no line: its
    /// answer was not given.
    pub fn go_on(folder: &Path, file: &Path) -> io::Result<Given> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut given = Given::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<GivenLine>(line).ok()) {
            let Ok(question) = blake3::Hash::from_hex(&line.question) else { continue };
            let Some(name) = Path::new(&line.recording).file_name() else { continue };
            let path = folder.join(name);
            if given.taken.insert(path.clone()) {
                given.before.entry(question).or_default().push_back(path);
            }
        }
        let mut kept = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
        if !text.is_empty() && !text.ends_with('\n') {
            kept.write_all(b"\n")?;
        }
        Ok(Given { kept: Some(kept), ..given })
    }

    /// What was given for this question before, the oldest first, each once.
    pub fn once_more(&mut self, question: &Question) -> Option<PathBuf> {
        self.before.get_mut(&question.key())?.pop_front()
    }

    /// Notes that a recording is given now.
    pub fn take(&mut self, question: &Question, path: &Path) -> io::Result<()> {
        self.taken.insert(path.to_owned());
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let recording = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let line = GivenLine { question: question.key().to_hex().to_string(), recording };
        let mut line = serde_json::to_vec(&line).expect("plain data");
        line.push(b'\n');
        kept.write_all(&line)
    }
}
