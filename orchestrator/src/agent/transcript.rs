//! What was said, on disk: one entry a line, durable before the next step is taken. A last line that was cut off is left
//! out. The file lies beside the attempt's log, where no job can reach it.
//!
//! An attempt that was cut short is run again with its transcript: the model's recorded answers are given once more, its
//! calls are carried out once more in the fresh worktree, what people decided on them stands, and behind the last answer the
//! model itself is asked. So nothing is paid for twice, and the worktree is what the conversation says. The attempt that goes
//! on forks the conversation: it keeps a transcript of its own, which begins as the other does, and that one stays as it was.
//!
//! What of a transcript cannot be read any more is asked for once more, and people are told.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use swarm_protocol::agent::{CallResult, Envelope};
use swarm_protocol::chat::{Dialect, Reply};

/// The name of the file within the attempt's folder.
pub const FILE: &str = "transcript.jsonl";

/// The version of the format.
const VERSION: u32 = 1;
/// The longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// The longest transcript that is kept, in bytes.
const BYTES_MAX: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Line<E> {
    version: u32,
    /// From 1; lines of an older version have none.
    #[serde(default)]
    number: Option<u64>,
    #[serde(flatten)]
    entry: E,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Entry {
    /// The first entry: what the agent was told.
    Begun {
        /// The model, as the plan names it.
        model: String,
        /// Standing instructions.
        system: String,
        /// The task.
        prompt: String,
        /// Full hex id of the tree that its worktree began with; a transcript without it is of an older version.
        #[serde(default)]
        tree: String,
    },
    /// The model answered.
    Answer {
        /// Who answered, `provider/model`.
        by: String,
        /// In whose words.
        dialect: Dialect,
        /// What.
        reply: Reply,
    },
    /// What the calls of the newest answer gave.
    Results {
        /// In the order of the calls.
        results: Vec<CallResult>,
    },
    /// The model was told something besides: what a hook says.
    Told {
        /// What.
        text: String,
    },
    /// A person said something.
    Hint {
        /// What.
        text: String,
    },
    /// The conversation was summed up: the next answer is the summary.
    SummedUp {
        /// Messages that were taken away.
        messages: usize,
    },
    /// A person was asked about a call.
    Permission {
        /// The tool.
        tool: String,
        /// What it is called with.
        arguments: Map<String, Value>,
        /// Why.
        reason: String,
        /// What was decided; `None` allows it.
        denied: Option<String>,
    },
    /// A person was asked something.
    Question {
        /// What.
        text: String,
        /// The answer; `None` when nobody was there.
        answer: Option<String>,
    },
    /// The conversation was longer than the model takes; what comes next is asked of it in a shorter one.
    TooLong {
        /// The provider's words.
        why: String,
    },
    /// The model could not be asked.
    Unanswered {
        /// Why.
        why: String,
    },
    /// The last entry of a conversation that came to its end.
    Ended {
        /// What is left of it.
        envelope: Envelope,
    },
}

/// A transcript that is written.
#[derive(Debug)]
pub struct Transcript {
    file: File,
    bytes: u64,
    entries: u64,
}

impl Transcript {
    /// Begins a transcript; one that lies there already is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            crate::state::make_private_dir_all(folder)?;
        }
        let file = File::create(path)?;
        // What is kept in it is on the disk; so is that it is there.
        crate::state::sync_folder_of(path)?;
        Ok(Transcript { file, bytes: 0, entries: 0 })
    }

    /// Writes an entry and waits until it is on disk.
    ///
    /// # Errors
    /// Those of the file system, and `FileTooLarge` for a conversation without end.
    pub fn keep(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries += 1;
        let mut text = serde_json::to_vec(&Line { version: VERSION, number: Some(self.entries), entry })?;
        text.push(b'\n');
        self.bytes += text.len() as u64;
        crate::fault::point()?;
        if self.bytes > BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.file.write_all(&text)?;
        self.file.sync_data()
    }
}

/// What can be read of a transcript.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    /// Its entries, up to the first that cannot be read; without a last one that was cut off.
    pub entries: Vec<Entry>,
    /// Which entry cannot be read, and why, for people: nothing behind it counts.
    pub broken: Option<String>,
}

/// Reads a transcript; `None` when there is none.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> io::Result<Option<Kept>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut input = BufReader::new(file);
    let (mut kept, mut line) = (Kept::default(), vec![]);
    loop {
        line.clear();
        let bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if bytes == 0 || line.last() != Some(&b'\n') {
            return Ok(Some(kept));
        }
        match serde_json::from_slice::<Line<Entry>>(&line) {
            Ok(known) if known.version == VERSION && known.number.is_none_or(|number| number == next(&kept)) => {
                kept.entries.push(known.entry);
            }
            other => {
                let why = match other {
                    Ok(known) if known.version == VERSION => "it is not the one that stood there".to_owned(),
                    Ok(known) => format!("version {} is not known here", known.version),
                    Err(error) => error.to_string(),
                };
                kept.broken = Some(format!("entry {}: {why}", next(&kept)));
                return Ok(Some(kept));
            }
        }
    }
}

/// The number of the entry that comes next.
fn next(kept: &Kept) -> u64 {
    kept.entries.len() as u64 + 1
}

/// An answer of the model, to be given once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Who answered, `provider/model`.
    pub by: String,
    /// In whose words.
    pub dialect: Dialect,
    /// What.
    pub reply: Reply,
    /// What people had said until then, since the answer before.
    pub hints: Vec<String>,
    /// The model was asked this in conversations that were too long, before: that is said first, as often once more.
    pub too_long: VecDeque<String>,
    /// What was decided on its calls, in order: [`Entry::Permission`] and [`Entry::Question`].
    pub decided: Vec<Entry>,
}

/// Whether a conversation came to its end.
pub fn has_ended(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry, Entry::Ended { .. }))
}

/// What of a conversation is given once more: all of it, also where it came to its end and its attempt did not (the
/// coordinator died while the result was checked). Nothing where it began otherwise than `begun`: its words fit another tree.
pub fn recorded(entries: &[Entry], begun: &Entry) -> VecDeque<Recorded> {
    if entries.first() != Some(begun) {
        return VecDeque::new();
    }
    let (mut answers, mut hints, mut too_long) = (VecDeque::<Recorded>::new(), vec![], VecDeque::new());
    for entry in entries {
        match entry {
            Entry::Hint { text } => hints.push(text.clone()),
            Entry::TooLong { why } => too_long.push_back(why.clone()),
            Entry::Answer { by, dialect, reply } => {
                let (by, dialect, reply) = (by.clone(), *dialect, reply.clone());
                let (hints, too_long) = (std::mem::take(&mut hints), std::mem::take(&mut too_long));
                answers.push_back(Recorded { by, dialect, reply, hints, too_long, decided: vec![] });
            }
            Entry::Permission { .. } | Entry::Question { .. } => {
                answers.back_mut().into_iter().for_each(|answer| answer.decided.push(entry.clone()));
            }
            _ => {}
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use swarm_protocol::chat::{AssistantPart, Stop, Usage};

    use super::*;

    fn begun() -> Entry {
        begun_with("p", "tree")
    }

    fn begun_with(prompt: &str, tree: &str) -> Entry {
        let [model, system, prompt, tree] = ["main", "s", prompt, tree].map(str::to_owned);
        Entry::Begun { model, system, prompt, tree }
    }

    fn answer(text: &str) -> Entry {
        let content = vec![AssistantPart::Text { text: text.to_owned(), proof: None }];
        let reply = Reply { content, stop: Stop::End, usage: Usage::default() };
        Entry::Answer { by: "a/b".to_owned(), dialect: Dialect::Ollama, reply }
    }

    #[test]
    fn a_transcript_is_read_up_to_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/t.jsonl");
        assert_eq!(read(&path).unwrap(), None);
        let mut transcript = Transcript::create(&path).unwrap();
        let all = [begun(), answer("one"), Entry::Told { text: "h".to_owned() }];
        all.iter().for_each(|entry| transcript.keep(entry).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let kept = read(&path).unwrap().unwrap();
            assert_eq!((kept.entries.as_slice(), kept.broken), (&all[..lines], None), "cut at {cut}");
        }
        for text in ["hello\n", "{\"version\":9,\"entry\":\"told\",\"text\":\"\"}\n"] {
            let broken = [&whole, text.as_bytes(), &whole].concat();
            std::fs::write(&path, broken).unwrap();
            let kept = read(&path).unwrap().unwrap();
            assert_eq!(kept.entries, all, "what stands before it counts: {text}");
            assert!(kept.broken.unwrap().starts_with("entry 4: "), "{text}");
        }
    }

    #[test]
    fn a_line_that_is_missing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        let mut transcript = Transcript::create(&path).unwrap();
        let all = [begun(), answer("one"), answer("two"), answer("three")];
        all.iter().for_each(|entry| transcript.keep(entry).unwrap());
        let whole = std::fs::read_to_string(&path).unwrap();
        for gone in 0..all.len() - 1 {
            let left = whole.lines().enumerate().filter(|(at, _)| *at != gone);
            std::fs::write(&path, left.map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
            let kept = read(&path).unwrap().unwrap();
            assert_eq!(kept.entries, all[..gone]);
            assert!(kept.broken.unwrap().starts_with(&format!("entry {}: it is not the one", gone + 1)));
        }
    }

    #[test]
    fn what_was_too_long_is_so_once_more_before_its_summary_is_given() {
        let too_long = || Entry::TooLong { why: "9 > 8".to_owned() };
        let said = |entries: &[Entry]| {
            let given = recorded(entries, &begun());
            given.iter().map(|given| format!("{} {}", given.reply.text(), given.too_long.len())).collect::<Vec<_>>()
        };
        let once = [begun(), answer("one"), too_long(), answer("summary"), answer("two")];
        assert_eq!(said(&once), ["one 0", "summary 1", "two 0"]);
        let its_summary_too = [begun(), answer("one"), too_long(), too_long(), answer("two")];
        assert_eq!(said(&its_summary_too), ["one 0", "two 2"]);
    }

    #[test]
    fn a_conversation_that_was_cut_short_is_given_once_more() {
        let hint = Entry::Hint { text: "h".to_owned() };
        let decided = Entry::Question { text: "?".to_owned(), answer: None };
        let entries = [begun(), answer("one"), decided.clone(), hint.clone(), answer("two"), hint];
        let given = recorded(&entries, &begun());
        let texts: Vec<_> = given.iter().map(|given| (given.reply.text(), given.hints.len())).collect();
        assert_eq!(texts, [("one".to_owned(), 0), ("two".to_owned(), 1)]);
        assert_eq!((&given[0].decided[..], &given[1].decided[..]), (&[decided][..], &[][..]));
        for other in [begun_with("q", "tree"), begun_with("p", "another")] {
            assert!(recorded(&entries, &other).is_empty(), "{other:?}");
        }
        assert!(recorded(&[], &begun()).is_empty());
    }
}
