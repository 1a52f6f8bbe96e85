//! The reading commands as a person uses them: the real program, a real repository, a journal written by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use git2::{Oid, Repository, Signature, Time};
use swarm_orchestrator::commit::{attempt_ref, base_ref};
use swarm_orchestrator::event::{
    AddedInstance, AttemptEnd, ChangeSummary, Fate, Handed, InstanceResult, Merge, OnFailure, ParkedBy, RunEvent,
};
use swarm_orchestrator::ids::{Attempt, RunId};
use swarm_orchestrator::journal::{Journal, LogWriter, NewRun, NewTarget, RunWriter, log_path};
use swarm_plans::InstanceId;
use swarm_protocol::{Ended, EnforcementReport, Tier};

const TARGET: &str = "refs/heads/swarm/demo";

/// A repository in which run `demo-1` landed `edit`, parked `clash` and saw `test[os=a]` fail.
struct House {
    folder: tempfile::TempDir,
    base: Oid,
    tip: Oid,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = Repository::init(folder.path()).expect("a repository");
        let base = commit(&git, &[("a.txt", "one\n")], &[]);
        git.reference("refs/heads/main", base, true, "").expect("a ref");
        git.set_head("refs/heads/main").expect("a branch");
        git.checkout_head(Some(git2::build::CheckoutBuilder::new().force())).expect("a checkout");
        let tip = commit(&git, &[("a.txt", "one\n"), ("b.txt", "landed\n")], &[base]);
        git.reference(TARGET, tip, true, "").expect("a ref");
        House { folder, base, tip }
    }

    fn with_run() -> (Self, RunWriter) {
        let house = House::new();
        let writer = house.write_run();
        (house, writer)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> PathBuf {
        self.path().join(".git/swarm")
    }

    fn new_run(&self) -> NewRun {
        NewRun {
            plan: "demo".to_owned(),
            sources: vec![("demo.toml".to_owned(), "version = 1\n".to_owned())],
            repository: String::new(),
            expanded_hash: String::new(),
            base: self.base.to_string(),
            target: Some(NewTarget::Ref(TARGET.to_owned())),
            started_at_ms: 1_700_000_000_000,
            asked: swarm_orchestrator::settings::Asked::default(),
        }
    }

    fn write_run(&self) -> RunWriter {
        let mut journal = Journal::open(&self.state()).expect("a journal");
        let writer = journal.begin_run(self.new_run(), |_| false).expect("a run");
        let git = Repository::open(self.path()).expect("a repository");
        git.reference(&base_ref(writer.run()), self.base, true, "").expect("a ref");
        let mut events = vec![self.started(writer.run()), added(&["edit", "clash", "test[os=a]", "test[os=b]"])];
        for (name, content) in [("edit", "landed\n"), ("clash", "other\n")] {
            let result = commit(&git, &[("a.txt", "one\n"), ("b.txt", content)], &[self.base]);
            git.reference(&attempt_ref(writer.run(), &id(name), Attempt(1)), result, true, "").expect("a ref");
            let change = self.change(&git, result);
            events.extend(attempt(name, AttemptEnd::Succeeded, Some(change), InstanceResult::Succeeded));
        }
        events.push(merged("edit", Fate::Landed { commit: self.tip.to_string() }));
        let paths = vec!["b.txt".to_owned()];
        let (reason, by) = ("conflicts with edit".to_owned(), ParkedBy::Conflict);
        events.push(merged("clash", Fate::Parked { reason, paths, by, verification: None }));
        let red = AttemptEnd::Work { ended: Ended::Exited { code: 101 } };
        events.extend(attempt("test[os=a]", red, None, InstanceResult::Failed));
        events.extend(attempt("test[os=b]", AttemptEnd::Succeeded, None, InstanceResult::Succeeded));
        let path = log_path(&self.state(), writer.run(), &id("test[os=a]"), Attempt(1));
        let mut log = LogWriter::new(path, u64::MAX);
        log.write(b"\x1b[31mred\x1b[0m\x1b]0;title\x07 words\n");
        for n in 0..5_000 {
            log.write(format!("line {n}\n").as_bytes());
        }
        log.finish().expect("space");
        writer.append(1_700_000_009_000, events).expect("space");
        writer
    }

    fn started(&self, run: &RunId) -> RunEvent {
        RunEvent::RunStarted {
            run: run.clone(),
            plan: "demo".to_owned(),
            base: self.base.to_string(),
            target: Some(TARGET.to_owned()),
            jobs: 2,
            backend: "overlay".to_owned(),
            enforcement: EnforcementReport {
                tier: Tier::Namespaces,
                landlock_abi: 7,
                enforced: vec!["landlock".to_owned()],
                not_enforced: Vec::new(),
                limits: Vec::new(),
            },
            notes: Vec::new(),
        }
    }

    fn change(&self, git: &Repository, result: Oid) -> ChangeSummary {
        let tree = |commit: Oid| git.find_commit(commit).expect("just made").tree_id().to_string();
        ChangeSummary {
            base_tree: tree(self.base),
            commit: result.to_string(),
            tree: tree(result),
            files: 1,
            history: None,
            writes: None,
        }
    }

    fn swarm(&self, line: &str) -> Output {
        command(self.path(), line).output().expect("the program starts")
    }

    /// Runs a command that must succeed; gives stdout and stderr.
    fn good(&self, line: &str) -> (String, String) {
        let output = self.swarm(line);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "swarm {line}: {:?}\n{out}{err}", output.status);
        (out, err)
    }

    /// Runs a command that must be refused with `code`; gives stderr.
    fn refused(&self, line: &str, code: i32) -> String {
        let output = self.swarm(line);
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "swarm {line}:\n{out}{err}");
        assert!(err.starts_with("error: "), "{err}");
        err
    }
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.current_dir(folder).args(line.split_whitespace()).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env_remove("SOURCE_DATE_EPOCH");
    command
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&output.stdout), text(&output.stderr))
}

fn commit(git: &Repository, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
    let mut tree = git.treebuilder(None).expect("a builder");
    for (name, content) in files {
        tree.insert(*name, git.blob(content.as_bytes()).expect("a blob"), 0o100_644).expect("a legal name");
    }
    let tree = git.find_tree(tree.write().expect("a tree")).expect("just written");
    let who = Signature::new("t", "t@example.org", &Time::new(1, 0)).expect("legal");
    let parents: Vec<_> = parents.iter().map(|id| git.find_commit(*id).expect("exists")).collect();
    git.commit(None, &who, &who, "m", &tree, &parents.iter().collect::<Vec<_>>()).expect("a commit")
}

fn id(name: &str) -> InstanceId {
    InstanceId(name.into())
}

fn added(names: &[&str]) -> RunEvent {
    let instance = |name: &&str| AddedInstance {
        id: id(name),
        task: swarm_plans::task_in(name).to_owned(),
        needs: Vec::new(),
        on_failure: OnFailure::Fail,
    };
    RunEvent::InstancesAdded { instances: names.iter().map(instance).collect() }
}

fn attempt(name: &str, end: AttemptEnd, change: Option<ChangeSummary>, result: InstanceResult) -> [RunEvent; 3] {
    [
        RunEvent::AttemptStarted { instance: id(name), attempt: Attempt(1), on: None },
        RunEvent::AttemptFinished {
            instance: id(name),
            attempt: Attempt(1),
            end,
            duration_ms: 1_200,
            change,
            outputs: serde_json::Map::new(),
            handed: Handed::Unknown,
            notes: Vec::new(),
            refusals: Vec::new(),
            envelope: None,
            retry_in_ms: None,
        },
        RunEvent::InstanceFinished { instance: id(name), result, cause: None },
    ]
}

fn merged(name: &str, fate: Fate) -> RunEvent {
    RunEvent::Merged { instance: id(name), fate }
}

fn finish(house: &House, writer: RunWriter) {
    let tip = Some(house.tip.to_string());
    writer
        .append(
            1_700_000_010_000,
            vec![RunEvent::RunFinished { exit: 1, tip, cause: None, lost: None, way_back: None }],
        )
        .expect("space");
}

#[test]
fn a_run_reads_as_running_then_dead_or_finished() {
    let (house, writer) = House::with_run();
    assert!(house.good("list").0.contains("running in process"));
    assert!(house.good("status").0.contains("running for"));
    drop(writer);
    assert!(house.good("list").0.contains("interrupted, can be resumed"));
    assert!(house.good("status demo-1").0.contains("interrupted"));
    finish(&house, house.write_run());
    let (list, _) = house.good("list");
    assert!(
        list.lines().next().is_some_and(|line| line.contains("demo-2") && line.contains("a task failed")),
        "{list}"
    );
    let (status, _) = house.good("status");
    assert!(status.contains("exit code 1") && status.contains("parked: conflicts with edit"), "{status}");
}

#[test]
fn logs_are_harmless_unless_raw_bytes_are_asked_for() {
    let (house, _writer) = House::with_run();
    let (text, _) = house.good("logs test[os=a]");
    assert!(text.starts_with("red words\nline 0\n") && text.ends_with("line 4999\n"));
    assert!(house.good("logs demo-1 test[os=a] --raw").0.starts_with("\u{1b}[31mred"));
    assert!(house.good("logs edit").1.contains("left no log"));
    assert!(house.refused("logs test", 2).contains("'test[os=a]', 'test[os=b]'"));
    assert!(house.refused("logs edti", 2).contains("did you mean edit?"));
    assert!(house.refused("logs edit --attempt 2", 2).contains("has 1 attempt"));
}

#[test]
fn a_followed_log_ends_with_its_attempt() {
    let (house, _writer) = House::with_run();
    assert!(house.good("logs test[os=a] --follow").0.ends_with("line 4999\n"));
}

#[test]
fn a_piped_diff_is_a_patch_that_applies() {
    let (house, _writer) = House::with_run();
    let (patch, _) = house.good("diff clash");
    assert!(patch.contains("+++ b/b.txt") && patch.contains("+other"), "{patch}");
    let git = Repository::open(house.path()).expect("a repository");
    let diff = git2::Diff::from_buffer(patch.as_bytes()).expect("a patch");
    git.apply(&diff, git2::ApplyLocation::WorkDir, None).expect("applies");
    assert_eq!(std::fs::read_to_string(house.path().join("b.txt")).expect("made"), "other\n");
    assert!(house.good("diff edit --stat").0.contains("1 file changed"));
    assert!(house.good("diff test[os=b]").1.contains("changed nothing"));
    assert!(house.good("diff edit --attempt 1").0.contains("+++ b/b.txt"));
    let refused = house.refused("diff edit --attempt 7", 2);
    assert!(refused.contains("edit has 1 attempt\n") && refused.contains("hint: swarm status demo-1"), "{refused}");
}

#[test]
fn apply_then_clean_leaves_only_what_no_branch_has() {
    let (house, writer) = House::with_run();
    finish(&house, writer);
    assert!(house.good("diff").0.contains("+landed"));
    assert!(house.good("apply").1.contains("moved forward to swarm/demo"));
    assert_eq!(std::fs::read_to_string(house.path().join("b.txt")).expect("checked out"), "landed\n");
    assert!(house.good("apply").1.contains("already"));
    let (_, said) = house.good("clean --dry-run");
    assert!(said.contains("would free") && said.contains("parked: conflicts with edit"), "{said}");
    assert!(said.contains("demo-1: the logs of 1 failed task would go"), "{said}");
    assert!(said.contains("to drop a kept result for good: swarm drop demo-1 clash"), "{said}");
    house.good("clean");
    let git = Repository::open(house.path()).expect("a repository");
    let refs = git.references_glob("refs/swarm/*").expect("refs");
    let names: Vec<String> = refs.map(|r| r.expect("a ref").name().expect("text").to_owned()).collect();
    assert_eq!(names, ["refs/swarm/demo-1/+base", "refs/swarm/demo-1/clash/1"]);
    assert!(house.good("diff clash").0.contains("+other"));
    assert!(house.good("status").0.contains("parked"));
}

#[test]
fn a_result_opens_as_a_folder() {
    let (house, _writer) = House::with_run();
    let at = house.path().join("opened");
    let (out, _) = house.good("open clash opened");
    assert_eq!(out.trim_end(), at.display().to_string());
    assert_eq!(std::fs::read_to_string(at.join("b.txt")).expect("checked out"), "other\n");
    assert!(house.refused("open clash opened", 2).contains("it exists"));
    assert!(house.refused("open test[os=b] other", 2).contains("changed nothing"));
}

#[test]
fn a_report_says_what_the_end_said() {
    let (house, writer) = House::with_run();
    finish(&house, writer);
    let (text, _) = house.good("report");
    assert!(text.contains("test[os=a]: exited with 101") && text.contains("| line 4999"), "{text}");
    let (events, _) = house.good("report demo-1 --format json");
    assert!(events.lines().all(|line| line.starts_with("{\"version\":1,\"seq\":")));
    assert!(events.lines().last().is_some_and(|line| line.contains("\"event\":\"run-finished\"")));
}

#[test]
fn a_reader_that_leaves_early_ends_a_command_in_silence() {
    let (house, _writer) = House::with_run();
    for line in
        ["logs test[os=a]", "logs test[os=a] --raw", "list", "status", "schema", "report", "--help", "completions bash"]
    {
        let (reader, stdout) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(house.path(), line).stdout(stdout).output().expect("the program starts");
        let (_, err) = texts(&output);
        assert!(output.status.success() && err.is_empty(), "{line}: {:?} {err}", output.status);
    }
}

#[test]
fn bad_places_have_clear_answers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |path: &Path, line: &str| texts(&command(path, line).output().expect("the program starts")).1;
    assert!(at(folder.path(), "list").contains("find a git repository at"));
    assert!(at(folder.path(), "-C nowhere list").contains("failed to go to"));
    Repository::init(folder.path()).expect("a repository");
    assert!(at(folder.path(), "list").contains("no runs yet"));
    assert!(at(folder.path(), "logs x").contains("there is none yet"));
    assert!(!folder.path().join(".git/swarm").exists(), "reading makes no state");
    let (house, writer) = House::with_run();
    drop(writer);
    std::fs::write(house.state().join("journal.sqlite"), "x".repeat(4096)).expect("a file");
    assert!(house.refused("list", 3).contains("it is damaged"));
}

#[test]
fn colour_is_asked_for_or_absent() {
    let (house, _writer) = House::with_run();
    assert!(!house.good("status").0.contains('\u{1b}'));
    assert!(house.good("status --color always").0.contains('\u{1b}'));
}

#[test]
fn exec_shows_a_change_and_keeps_it_only_when_asked() {
    let house = House::new();
    if !house.swarm("doctor").status.success() {
        swarm_protocol::skipped::say("this machine offers no cage, see `swarm doctor`");
        return;
    }
    assert!(house.good("doctor").0.contains("a default task sees"));
    let git = Repository::open(house.path()).expect("a repository");
    let refs = || git.references().expect("refs").count();
    let before = refs();
    let script = "echo changed > a.txt && printf '%s' \"$1\" > '{{ b }}' && echo said";
    let exec = |keep: &[&str]| {
        let mut command = command(house.path(), "exec");
        command.args(keep).args(["--", "sh", "-c", script, "sh", "{% raw %}"]).output().expect("the program starts")
    };
    let (out, err) = texts(&exec(&[]));
    assert!(out.contains("+changed") && out.contains("+{% raw %}") && out.contains("{{ b }}"), "{out}{err}");
    assert!(err.contains("said\n"), "{err}");
    assert_eq!(refs(), before);
    assert_eq!(std::fs::read_to_string(house.path().join("a.txt")).expect("a file"), "one\n");
    assert!(texts(&exec(&["--keep"])).1.contains("kept as swarm/exec-2"));
    assert!(git.find_branch("swarm/exec-2", git2::BranchType::Local).is_ok());
    let red = command(house.path(), "exec -- false").output().expect("the program starts");
    assert_eq!((red.status.code(), texts(&red).1.as_str()), (Some(1), "the command exited with 1\n"));
}

#[test]
fn what_a_run_had_moved_when_it_died_is_applied_and_what_it_had_not_is_not() {
    for (branch_moved, code) in [(true, 0), (false, 2)] {
        let house = House::new();
        let git = Repository::open(house.path()).expect("a repository");
        if !branch_moved {
            git.reference(TARGET, house.base, true, "").expect("a ref");
        }
        let mut journal = Journal::open(&house.state()).expect("a journal");
        let writer = journal.begin_run(house.new_run(), |_| false).expect("a run");
        let fate = Fate::Landed { commit: house.tip.to_string() };
        let mut events = vec![house.started(writer.run()), added(&["edit"])];
        let change = house.change(&git, house.tip);
        events.extend(attempt("edit", AttemptEnd::Succeeded, Some(change), InstanceResult::Succeeded));
        let merges = vec![Merge { instance: id("edit"), fate }];
        events.push(RunEvent::Landing { from: None, to: house.tip.to_string(), merges });
        writer.append(1_700_000_009_000, events).expect("space");
        drop((writer, journal));
        let output = house.swarm("apply");
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        let says = if branch_moved { "moved forward to swarm/demo" } else { "nothing of it has landed" };
        assert!(err.contains(says), "{err}");
    }
}
