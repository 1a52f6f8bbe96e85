//! Events onto the disk. One thread owns the connection; whoever has events hands over a batch and is answered when the
//! batch is durable. While one transaction is being synced the next batches queue up, and all of them go into the next
//! transaction: a sync costs half a millisecond whether it carries one event or a hundred, so the rate of tasks does not
//! depend on the disk's rate of syncs. This is the group commit of databases, one level up.
//!
//! After a failed commit the writer stops for good: a later batch must never be stored without the earlier one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use indexmap::IndexMap;
use rusqlite::{Connection, TransactionBehavior, params};

use super::checksum::checksum;
use super::lock::run_dir;
use super::run_row::{self, Values};
use super::schema::{journal_path, open_to_write};
use super::tally::Tally;
use super::{JournalError, RunLock};
use crate::event::{AttemptEnd, GateVerdict, Recorded, RunEvent};
use crate::fault;
use crate::ids::{RunId, encode_component};
use crate::settings::Asked;
use crate::threads::SMALL_STACK_BYTES;

/// Batches that may wait for the disk; whoever appends one more waits with them.
const QUEUED_BATCHES_MAX: usize = 4096;

/// Batches in one transaction, so that a flood cannot put off its first answer for ever.
const COMMITTED_BATCHES_MAX: usize = 1024;

/// Durations kept a task until the run ends; more say nothing new about a median.
const DURATION_SAMPLES_MAX: usize = 101;

/// The journal of a state folder, open for writing.
#[derive(Debug)]
pub struct Journal {
    state: PathBuf,
    connection: Connection,
}

/// What a run is, before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The plan's name.
    pub plan: String,
    /// Name and text of the plan and of what it includes, as they were read; the plan first.
    pub sources: Vec<(String, String)>,
    /// The common git folder of the repository that it works on.
    pub repository: String,
    /// Hex hash of the expanded plan.
    pub expanded_hash: String,
    /// Full hex id of the base commit.
    pub base: String,
    /// The target branch.
    pub target: Option<NewTarget>,
    /// Milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// What else decides it.
    pub asked: Asked,
}

/// The branch that receives a run's work, before the run has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewTarget {
    /// By its full ref name.
    Ref(String),
    /// One of the run's own: `swarm/` and its id.
    OfRun,
}

impl NewTarget {
    /// The full ref name, once the run has its id.
    pub fn of(&self, run: &RunId) -> String {
        match self {
            NewTarget::Ref(name) => name.clone(),
            NewTarget::OfRun => format!("refs/heads/swarm/{run}"),
        }
    }
}

/// Appends the events of one run, and holds its lock. Dropping it waits until all that was handed over is stored.
#[derive(Debug)]
pub struct RunWriter {
    run: RunId,
    batches: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
    _locks: [RunLock; 2],
}

/// Called on the writer's thread when a batch is durable, or cannot become so.
type Answer = Box<dyn FnOnce(Result<Vec<Recorded>, JournalError>) + Send>;

struct Batch {
    at_ms: u64,
    events: Vec<RunEvent>,
    answer: Answer,
}

impl Journal {
    /// Opens the journal of a state folder, making both as needed.
    ///
    /// # Errors
    /// All but [`JournalError::Stopped`].
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        Ok(Journal { state: state.to_owned(), connection: open_to_write(state)? })
    }

    /// Gives a new run the next free id `<plan>-<n>`, takes its lock and opens its writer. `is_taken` says which ids are
    /// in use outside the journal, such as under `refs/swarm/`.
    ///
    /// # Errors
    /// All but [`JournalError::Stopped`]; nothing was stored then.
    pub fn begin_run(
        &mut self,
        new: NewRun,
        mut is_taken: impl FnMut(&RunId) -> bool,
    ) -> Result<RunWriter, JournalError> {
        let path = journal_path(&self.state);
        let sql = |error| JournalError::from_sql(&path, error);
        let lock = |error| JournalError::Lock(Arc::new(error));
        // Outside the transaction: this waits for a cleaner, which may wait for the journal.
        let of_state = RunLock::of_state(&self.state).map_err(lock)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let last: i64 = transaction
            .query_row("SELECT coalesce(max(last_number), 0) FROM plans WHERE name = ?1", [&new.plan], |row| row.get(0))
            .map_err(sql)?;
        let stem = encode_component(&new.plan);
        let (number, run) = (last + 1..)
            .map(|number| (number, RunId(format!("{stem}-{number}"))))
            .find(|(_, run)| !is_taken(run) && !run_dir(&self.state, run).exists())
            .expect("there are more numbers than runs");
        // Before the commit makes the name known, so that nobody ever sees this run without its holder.
        let of_run = RunLock::of_run(&self.state, &run, new.started_at_ms).map_err(lock)?;
        transaction
            .execute("INSERT OR REPLACE INTO plans (name, last_number) VALUES (?1, ?2)", params![new.plan, number])
            .map_err(sql)?;
        let row = Values::new(&run, number, &new);
        row.insert(&transaction).map_err(sql)?;
        let key = transaction.last_insert_rowid();
        for (position, (name, text)) in new.sources.iter().enumerate() {
            transaction
                .execute("INSERT INTO sources VALUES (?1, ?2, ?3, ?4)", params![key, position as i64, name, text])
                .map_err(sql)?;
        }
        fault::point().map_err(|error| JournalError::from_io(&path, error))?;
        transaction.commit().map_err(sql)?;
        let store = Store::new(&self.state, key, new.plan, row)?;
        RunWriter::start(&self.state, run, store, [of_run, of_state])
    }

    /// Goes on with a run whose lock the caller holds: the next event follows the last that is stored.
    ///
    /// # Errors
    /// All but [`JournalError::Stopped`]; nothing was stored then.
    pub fn resume_run(&mut self, run: &RunId, of_run: RunLock) -> Result<RunWriter, JournalError> {
        let sql = |error| JournalError::from_sql(&journal_path(&self.state), error);
        let of_state = RunLock::of_state(&self.state).map_err(|error| JournalError::Lock(Arc::new(error)))?;
        let path = journal_path(&self.state);
        let columns = run_row::columns(|_| Ok(true))?;
        let known = format!(
            "SELECT {columns}, key, (SELECT coalesce(max(seq), 0) FROM events WHERE run = key) AS seq FROM runs WHERE id = ?1"
        );
        let read = |row: &rusqlite::Row<'_>| {
            Ok((run_row::read(&path, row)?, row.get::<_, i64>("key")?, row.get::<_, i64>("seq")?))
        };
        let (found, key, seq) = self.connection.query_row(&known, [&run.0], read).map_err(sql)?;
        let (values, row) = found?;
        let mut store = Store::new(&self.state, key, row.plan, values)?;
        store.seq = seq as u64;
        // The first event of whoever resumes brings the true counts.
        store.tally = row.tally;
        RunWriter::start(&self.state, run.clone(), store, [of_run, of_state])
    }

    /// Forgets a run and its events. Its number is never given again.
    ///
    /// # Errors
    /// All but [`JournalError::Stopped`].
    pub fn forget(&mut self, run: &RunId) -> Result<(), JournalError> {
        let sql = |error| JournalError::from_sql(&journal_path(&self.state), error);
        self.connection.execute("DELETE FROM runs WHERE id = ?1", [&run.0]).map_err(sql)?;
        Ok(())
    }

    /// Forgets which trees passed which gate: they are verified again.
    ///
    /// # Errors
    /// All but [`JournalError::Stopped`].
    pub fn forget_verdicts(&mut self) -> Result<(), JournalError> {
        let sql = |error| JournalError::from_sql(&journal_path(&self.state), error);
        self.connection.execute("DELETE FROM verdicts", []).map_err(sql)?;
        Ok(())
    }
}

impl RunWriter {
    fn start(state: &Path, run: RunId, store: Store, locks: [RunLock; 2]) -> Result<Self, JournalError> {
        let (batches, queue) = sync_channel(QUEUED_BATCHES_MAX);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .stack_size(SMALL_STACK_BYTES)
            .spawn(move || serve(store, &queue))
            .map_err(|source| JournalError::Io { path: state.to_owned(), source: Arc::new(source) })?;
        Ok(RunWriter { run, batches: Some(batches), thread: Some(thread), _locks: locks })
    }

    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Stores a batch and waits until it is durable. Not for async code: it blocks.
    ///
    /// # Errors
    /// All of [`JournalError`]; nothing of the batch may be announced then.
    pub fn append(&self, at_ms: u64, events: Vec<RunEvent>) -> Result<Vec<Recorded>, JournalError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        // The receiver outlives the call, so the answer is always taken.
        self.append_then(at_ms, events, move |answer| drop(sender.send(answer)));
        receiver.recv().unwrap_or(Err(JournalError::Stopped))
    }

    /// Hands over a batch; the answer comes when it is durable. Batches are stored in the order in which they are handed
    /// over. Blocks only while [`QUEUED_BATCHES_MAX`] batches wait already.
    pub fn append_async(
        &self,
        at_ms: u64,
        events: Vec<RunEvent>,
    ) -> tokio::sync::oneshot::Receiver<Result<Vec<Recorded>, JournalError>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Whoever stopped listening does not need the answer.
        self.append_then(at_ms, events, move |answer| drop(sender.send(answer)));
        receiver
    }

    /// Hands over a batch; `answer` is called on the writer's thread, in order, and must not block.
    pub fn append_then(
        &self,
        at_ms: u64,
        events: Vec<RunEvent>,
        answer: impl FnOnce(Result<Vec<Recorded>, JournalError>) + Send + 'static,
    ) {
        let batch = Batch { at_ms, events, answer: Box::new(answer) };
        let batches = self.batches.as_ref().expect("taken only when dropped");
        if let Err(refused) = batches.send(batch) {
            (refused.0.answer)(Err(JournalError::Stopped));
        }
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed by its hook; all callers got no answer, which they treat as stopped.
            drop(thread.join());
        }
    }
}

/// The writer's thread: takes all that waits, stores it with one sync, answers.
fn serve(mut store: Store, queue: &Receiver<Batch>) {
    let mut failure: Option<JournalError> = None;
    while let Ok(first) = queue.recv() {
        let mut batches = vec![first];
        while batches.len() < COMMITTED_BATCHES_MAX {
            match queue.try_recv() {
                Ok(batch) => batches.push(batch),
                Err(_) => break,
            }
        }
        if failure.is_none() {
            match store.commit(&mut batches) {
                Ok(recorded) => {
                    for (batch, recorded) in batches.into_iter().zip(recorded) {
                        (batch.answer)(Ok(recorded));
                    }
                    continue;
                }
                Err(error) => failure = Some(error),
            }
        }
        let error = failure.as_ref().expect("set above");
        for batch in batches {
            (batch.answer)(Err(error.clone()));
        }
    }
}

/// What the writer's thread owns.
struct Store {
    path: PathBuf,
    connection: Connection,
    /// The run's row, and what it holds.
    key: i64,
    row: Values,
    plan: String,
    /// The number of the newest stored event.
    seq: u64,
    tally: Tally,
    /// Successful attempts' durations by task, in milliseconds.
    durations: IndexMap<String, Vec<u64>>,
}

impl Store {
    fn new(state: &Path, key: i64, plan: String, row: Values) -> Result<Self, JournalError> {
        Ok(Store {
            path: journal_path(state),
            connection: open_to_write(state)?,
            key,
            row,
            plan,
            seq: 0,
            tally: Tally::default(),
            durations: IndexMap::new(),
        })
    }

    /// One transaction for all batches; gives the numbered events of each.
    fn commit(&mut self, batches: &mut [Batch]) -> Result<Vec<Vec<Recorded>>, JournalError> {
        let path = self.path.clone();
        let sql = |error| JournalError::from_sql(&path, error);
        let mut all = Vec::with_capacity(batches.len());
        for batch in batches {
            let recorded: Vec<Recorded> = std::mem::take(&mut batch.events)
                .into_iter()
                .map(|event| {
                    self.seq += 1;
                    self.observe(&event);
                    Recorded { seq: self.seq, at_ms: batch.at_ms, event }
                })
                .collect();
            all.push(recorded);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let row = "INSERT INTO events (run, seq, at_ms, json, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = transaction.prepare(row).map_err(sql)?;
        for recorded in all.iter().flatten() {
            let json = serde_json::to_string(&recorded.event).expect("events have string keys and finite numbers only");
            let sum = checksum(recorded.seq, recorded.at_ms, &json);
            insert.execute(params![self.key, recorded.seq as i64, recorded.at_ms as i64, json, sum]).map_err(sql)?;
            if let RunEvent::RunResumed { .. } = recorded.event {
                self.row.set_end(None);
            }
            if let RunEvent::Verified { tree, gate, verdict: GateVerdict::Green, duration_ms, .. } = &recorded.event {
                let values = params![gate, tree, recorded.at_ms as i64];
                // One that was known before is as old as it was.
                let statement = match duration_ms {
                    0 => "INSERT OR IGNORE INTO verdicts VALUES (?1, ?2, ?3)",
                    _ => "INSERT OR REPLACE INTO verdicts VALUES (?1, ?2, ?3)",
                };
                transaction.execute(statement, values).map_err(sql)?;
            }
            if let RunEvent::RunFinished { exit, .. } = recorded.event {
                self.row.set_end(Some((recorded.at_ms, exit)));
                for (task, samples) in &self.durations {
                    store_duration(&transaction, &self.plan, task, samples).map_err(sql)?;
                }
            }
        }
        drop(insert);
        self.row.set_tally(&self.tally);
        self.row.update(&transaction, self.key).map_err(sql)?;
        fault::point().map_err(|error| JournalError::from_io(&path, error))?;
        transaction.commit().map_err(sql)?;
        fault::point().map_err(|error| JournalError::from_io(&path, error))?;
        Ok(all)
    }

    /// Keeps the counts and durations that are stored beside the events.
    fn observe(&mut self, event: &RunEvent) {
        self.tally.count(event);
        if let RunEvent::AttemptFinished { instance, end: AttemptEnd::Succeeded, duration_ms, .. } = event {
            let task = instance.task();
            if !self.durations.contains_key(task) {
                self.durations.insert(task.to_owned(), Vec::new());
            }
            let samples = &mut self.durations[task];
            if samples.len() < DURATION_SAMPLES_MAX {
                samples.push(*duration_ms);
            }
        }
    }
}

fn store_duration(
    transaction: &rusqlite::Transaction<'_>,
    plan: &str,
    task: &str,
    samples: &[u64],
) -> rusqlite::Result<()> {
    let Some(&last) = samples.last() else { return Ok(()) };
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    transaction.execute(
        "INSERT OR REPLACE INTO durations (plan, task, median_ms, last_ms, samples) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![plan, task, sorted[sorted.len() / 2] as i64, last as i64, samples.len() as i64],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{JournalReader, replay};
    use crate::report::story;

    fn new_run(plan: &str) -> NewRun {
        NewRun {
            plan: plan.to_owned(),
            sources: vec![("plan.toml".to_owned(), "version = 1\n".to_owned())],
            repository: String::new(),
            expanded_hash: "0".repeat(64),
            base: "a".repeat(40),
            target: None,
            started_at_ms: story::START_MS,
            asked: Asked::default(),
        }
    }

    fn begin(state: &Path, plan: &str) -> RunWriter {
        Journal::open(state).expect("a journal").begin_run(new_run(plan), |_| false).expect("a run")
    }

    #[test]
    fn replay_of_the_journal_equals_the_live_state() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = begin(folder.path(), "tour");
        let mut live = crate::journal::RunState::default();
        let events = story::mixed();
        for (n, batch) in events.chunks(3).enumerate() {
            for recorded in writer.append(story::START_MS + n as u64, batch.to_vec()).expect("space") {
                live.apply(&recorded);
            }
        }
        let reader = JournalReader::open(folder.path()).expect("a journal");
        let stored = reader.events(writer.run(), 0).expect("events");
        assert_eq!(stored.iter().map(|r| r.seq).collect::<Vec<_>>(), (1..=events.len() as u64).collect::<Vec<_>>());
        assert_eq!(replay(&stored), live);
        let row = reader.newest().expect("legible").expect("a run");
        assert_eq!((row.tally, row.exit), (live.tally, Some(1)));
        assert_eq!(reader.events(writer.run(), 20).expect("events"), stored[20..]);
    }

    #[test]
    fn ids_count_on_and_never_come_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut journal = Journal::open(folder.path()).expect("a journal");
        let mut next = |taken: &[&str]| {
            let taken = |run: &RunId| taken.contains(&run.0.as_str());
            journal.begin_run(new_run("a"), taken).expect("a run").run().clone()
        };
        assert_eq!(next(&[]).0, "a-1");
        assert_eq!(next(&["a-2", "a-3"]).0, "a-4");
        let run = next(&[]);
        assert_eq!(run.0, "a-5");
        std::fs::remove_dir_all(folder.path().join("runs")).expect("a folder");
        journal.forget(&run).expect("legible");
        assert_eq!(journal.begin_run(new_run("a"), |_| false).expect("a run").run().0, "a-6");
    }

    #[test]
    fn a_full_disk_is_named_and_nothing_after_it_is_stored() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(folder.path()).expect("a journal");
        let store = test_store(folder.path());
        store.connection.pragma_update(None, "max_page_count", 20).expect("a bound in pages");
        let big =
            RunEvent::RunFinished { exit: 0, tip: None, cause: Some("x".repeat(200_000)), lost: None, way_back: None };
        let (batches, queue) = sync_channel(4);
        let (answers, answered) = std::sync::mpsc::channel();
        for event in [big, story::attempt("a", 1)] {
            let answers = answers.clone();
            let answer: Answer = Box::new(move |answer| answers.send(answer).expect("the test listens"));
            batches.send(Batch { at_ms: 1, events: vec![event], answer }).expect("room");
        }
        drop((batches, answers));
        serve(store, &queue);
        let answers: Vec<_> = answered.iter().collect();
        assert_eq!(answers.len(), 2);
        for answer in answers {
            assert!(matches!(answer, Err(JournalError::DiskFull { .. })), "{answer:?}");
        }
        let count: i64 =
            journal.connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).expect("legible");
        assert_eq!(count, 0);
    }

    fn test_store(state: &Path) -> Store {
        let connection = open_to_write(state).expect("a journal");
        let row = Values::new(&RunId("a-1".to_owned()), 1, &new_run("a"));
        row.insert(&connection).expect("a row");
        Store {
            path: journal_path(state),
            key: connection.last_insert_rowid(),
            row,
            connection,
            plan: "a".to_owned(),
            seq: 0,
            tally: Tally::default(),
            durations: IndexMap::new(),
        }
    }

    #[test]
    fn durations_of_successes_are_learned_when_the_run_ends() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = begin(folder.path(), "tour");
        let reader = JournalReader::open(folder.path()).expect("a journal");
        writer
            .append(
                1,
                vec![
                    story::ended("build[os=a]", 1, AttemptEnd::Succeeded, 30, 0),
                    story::ended("build[os=b]", 1, AttemptEnd::Succeeded, 10, 0),
                    story::ended("build[os=c]", 1, AttemptEnd::Succeeded, 20, 0),
                    story::ended("test", 1, story::exited(1), 5_000, 0),
                ],
            )
            .expect("space");
        assert_eq!(reader.durations("tour").expect("legible"), []);
        writer.append(2, vec![story::finished(1, None)]).expect("space");
        let learned = reader.durations("tour").expect("legible");
        assert_eq!(learned.len(), 1);
        assert_eq!((learned[0].task.as_str(), learned[0].median_ms, learned[0].last_ms), ("build", 20, 20));
    }

    #[test]
    fn batches_that_wait_share_a_commit_and_keep_their_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = begin(folder.path(), "many");
        let (answers, answered) = std::sync::mpsc::channel();
        for n in 0..2_000 {
            let answers = answers.clone();
            writer.append_then(n, vec![story::attempt("a", 1)], move |answer| {
                answers.send(answer.expect("space")[0].seq).expect("the test listens");
            });
        }
        drop(writer);
        drop(answers);
        assert_eq!(answered.iter().collect::<Vec<u64>>(), (1..=2_000).collect::<Vec<u64>>());
    }

    #[test]
    fn two_coordinators_write_into_one_journal() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (begin(folder.path(), "a"), begin(folder.path(), "b"));
        std::thread::scope(|scope| {
            for writer in [&a, &b] {
                scope.spawn(move || {
                    for n in 0..100 {
                        writer.append(n, vec![story::attempt("x", 1)]).expect("both get their turn");
                    }
                });
            }
        });
        let reader = JournalReader::open(folder.path()).expect("a journal");
        for writer in [a, b] {
            assert_eq!(reader.events(writer.run(), 0).expect("legible").len(), 100);
        }
    }
}
