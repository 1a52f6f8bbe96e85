//! A coordinator that dies at every effect it has, one after the other, and is resumed: the commits are those of a run that
//! nothing happened to, no attempt with an end runs twice, and everything lands once.
//!
//! Every n-th effect is tried here; `SWARM_EFFECTS=1` tries all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use swarm_tests::{Ended, Repository, Swarm};

/// Every so many effects one is tried when nobody asks for more.
const STRIDE: u64 = 47;
/// More effects than the run has; a run that has more is not tried to its end.
const EFFECTS_MAX: u64 = 2000;
/// Exit code of a program that `kill -9` ended, as the harness tells it.
const KILLED: i32 = 1009;

const FILES: [(&str, &str); 4] =
    [("a.txt", "one\n"), ("b.txt", "one\n"), ("shared.txt", "one\n"), ("turns.txt", "one\n")];

/// Twenty-three tasks: needs, a fan-out over lines, one over an output, a conflict, a failure with what it blocks, a pass on
/// retry, and two conflicts in one file that are tried once more on what landed, one of them in vain.
fn plan() -> String {
    let mut plan = String::from(
        "[tasks.list]\nrun = '''printf '[1,2,3]' > \"$SWARM_ARTIFACTS/l.json\"; echo kept > \"$SWARM_ARTIFACTS/word\"'''\n\
         outputs.all = { json = 'l.json' }\n\
         [tasks.fan]\nneeds = ['list']\nforeach.n = 'needs.list.outputs.all'\nenv = { N = '{{ n }}' }\n\
         run = 'cat \"$SWARM_NEEDS/list/word\" > \"fan$N.txt\"'\n\
         [tasks.lines]\nforeach.n = { lines = \"printf 'x\\ny\\n'\" }\nenv = { N = '{{ n }}' }\nrun = 'echo \"$N\" > \"line$N.txt\"'\n\
         [tasks.bad]\nrun = 'exit 3'\n[tasks.behind]\nneeds = ['bad']\nrun = 'true'\n\
         [tasks.flaky]\nretry = { max = 1, on = ['exit'], delay = '1ms' }\nrun = 'test \"$SWARM_ATTEMPT\" = 2; echo ok > flaky.txt'\n\
         [tasks.left]\nrun = 'echo left > shared.txt'\n[tasks.right]\nrun = 'echo right > shared.txt'\n\
         [tasks.checked]\nrun = 'echo two >> a.txt'\ncheck = [{ run = 'grep -q two a.txt', expect-fail-before = true }]\n\
         [tasks.early]\nrun = 'echo early >> turns.txt'\n\
         [tasks.again]\nretry = { max = 1, on = ['conflict'] }\nrun = 'echo again >> turns.txt'\n\
         [tasks.vain]\nretry = { max = 1, on = ['conflict'] }\nrun = 'echo vain >> turns.txt'\ncheck = '! grep early turns.txt'\n\
         [tasks.last]\nneeds = ['fan', 'lines', 'flaky']\nrun = 'cat fan*.txt line*.txt flaky.txt > all.txt'\n",
    );
    for task in 0..6 {
        let needs = if task > 0 { format!("needs = ['t{}']\n", task - 1) } else { String::new() };
        writeln!(plan, "[tasks.t{task}]\n{needs}run = 'echo {task} >> b.txt'").expect("memory");
    }
    plan
}

/// What a run leaves for its user.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    commit: Option<git2::Oid>,
    results: BTreeMap<String, String>,
    fates: BTreeMap<String, String>,
}

fn left(repository: &Repository) -> (Left, Ended) {
    let report = Swarm::new(repository, &["report", "it", "--format", "json"]).exits(0);
    let left = Left { commit: repository.commit_of("swarm/it"), results: report.results(), fates: report.fates() };
    (left, report)
}

fn start(repository: &Repository, arguments: &[&str]) -> Swarm {
    Swarm::run(repository, "it", &plan()).args(&["-j2"]).args(arguments).env("SOURCE_DATE_EPOCH", "1700000000")
}

fn undisturbed() -> Left {
    let repository = Repository::with(&FILES);
    start(&repository, &[]).exits(1);
    left(&repository).0
}

/// What the events of a run have to keep, however often it was resumed.
fn keeps_its_word(report: &Ended) {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let (mut ended, mut merged, mut reopened) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    // Changes that are put aside, each for one more attempt that says something about the work.
    let (mut aside, mut evicted) = (BTreeSet::new(), BTreeSet::new());
    for (at, event) in report.events().iter().enumerate() {
        assert_eq!(event["seq"].as_u64(), Some(at as u64 + 1), "{report}");
        let instance = text(event, "instance");
        match text(event, "event").as_str() {
            "attempt-started" => {
                let may = !ended.contains(&instance) || aside.contains(&instance);
                assert!(may, "{instance} runs again although it had ended: {report}");
            }
            "attempt-finished" if !is_lost(event) => {
                aside.remove(&instance);
            }
            "evicted" => {
                assert!(evicted.insert(instance.clone()), "{instance} is tried again twice: {report}");
                aside.insert(instance);
            }
            "instance-finished" => {
                let is_new = ended.insert(instance.clone());
                assert!(is_new || reopened.remove(&instance), "{instance} ends twice: {report}");
            }
            "reopened" => {
                for instance in event["instances"].as_array().expect("a list") {
                    ended.remove(instance.as_str().expect("a name"));
                    reopened.insert(instance.as_str().expect("a name").to_owned());
                }
            }
            "merged" => assert!(merged.insert(instance.clone()), "{instance} is merged twice: {report}"),
            _ => {}
        }
    }
}

/// Whether an attempt ended without a word on the work.
fn is_lost(event: &Value) -> bool {
    matches!(event["end"]["end"].as_str(), Some("lost" | "infra")) || event["end"].to_string().contains("cancelled")
}

/// Resumes until it ends by itself.
fn resume(repository: &Repository, code: i32) -> Ended {
    Swarm::new(repository, &["resume", "it", "--json"]).env("SOURCE_DATE_EPOCH", "1").exits(code)
}

/// Kills a run at an effect and resumes it; `false` when it has no such effect.
fn dies_at(effect: u64, expected: &Left) -> bool {
    let repository = Repository::with(&FILES);
    let ended = start(&repository, &["--fault", &format!("die@{effect}")]).end();
    if ended.code != KILLED {
        assert_eq!(ended.code, 1, "{ended}");
        return false;
    }
    let list = Swarm::new(&repository, &["list"]).exits(0);
    if !list.out.contains(" it-") {
        // It died before it had a name: a new run is the first.
        start(&repository, &[]).exits(1);
    } else {
        resume(&repository, 1);
    }
    let (left, report) = left(&repository);
    assert_eq!(&left, expected, "died at effect {effect}: {report}");
    keeps_its_word(&report);
    true
}

#[test]
fn a_coordinator_that_dies_at_any_effect_is_resumed_to_the_same_commits() {
    let stride = std::env::var("SWARM_EFFECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(STRIDE);
    let expected = undisturbed();
    let tried =
        (1..EFFECTS_MAX).step_by(stride as usize).take_while(|effect| dies_at(*effect, &expected)).count() as u64;
    println!("{tried} deaths, one every {stride} effects");
    assert!(tried * stride > 150, "a run of twenty tasks has more than {} effects", tried * stride);
}

/// What a run whose disk fails from an effect on leaves: it ends with 3, its journal can be read, the target stands where the
/// journal says; and once the disk works again the run is what it would have been. `false` when it has no such effect.
fn fails_at(error: &str, effect: u64, expected: &Left) -> bool {
    let repository = Repository::with(&FILES);
    let ended = start(&repository, &["--fault", &format!("{error}@{effect}")]).end();
    if ended.code == 1 {
        return false;
    }
    assert_eq!(ended.code, 3, "{error} at effect {effect}: {ended}");
    assert!(!ended.err.contains("panicked"), "{ended}");
    if !Swarm::new(&repository, &["list"]).exits(0).out.contains(" it-") {
        start(&repository, &[]).exits(1);
    } else {
        resume(&repository, 1);
    }
    let (left, report) = left(&repository);
    assert_eq!(&left, expected, "{error} at effect {effect}: {report}");
    keeps_its_word(&report);
    true
}

#[test]
fn a_disk_that_fails_at_any_effect_ends_the_run_with_three_and_resume_completes_it() {
    let stride = std::env::var("SWARM_EFFECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(STRIDE);
    let expected = undisturbed();
    let mut tried = 0;
    for (number, error) in ["enospc", "eio", "emfile", "erofs"].iter().enumerate() {
        // Each error begins elsewhere, so that together they see more of a run.
        let first = 1 + number as u64 * stride.div_ceil(4);
        let effects = (first..EFFECTS_MAX).step_by(4 * stride as usize);
        tried += effects.take_while(|effect| fails_at(error, *effect, &expected)).count();
    }
    assert!(tried > 3, "{tried}");
}

#[test]
fn whoever_resumes_may_die_as_well() {
    let expected = undisturbed();
    let repository = Repository::with(&FILES);
    start(&repository, &["--fault", "die@60"]).exits(KILLED);
    let mut deaths = 0;
    for effect in [3, 9, 17, 31, 45] {
        let ended = Swarm::new(&repository, &["resume", "it", "--fault", &format!("die@{effect}")]).end();
        deaths += u32::from(ended.code == KILLED);
    }
    assert!(deaths >= 4, "{deaths}");
    resume(&repository, 1);
    let (left, report) = left(&repository);
    assert_eq!(left, expected, "{report}");
    keeps_its_word(&report);
}

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    let rounds = std::env::var("SWARM_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let expected = undisturbed();
    for round in 0..rounds {
        let repository = Repository::with(&FILES);
        let mut code = KILLED;
        let mut running = Some(start(&repository, &[]).start());
        for step in 0..40 {
            // Wherever it is after so long: any moment will do.
            let bits: u64 = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), (round, step));
            let mut one = running.take().expect("one runs at a time");
            if !one.ends_within(Duration::from_millis(40 + bits % 400)) {
                one.signal(Signal::KILL);
            }
            let ended = one.end();
            code = ended.code;
            if code != KILLED {
                break;
            }
            let known = Swarm::new(&repository, &["list"]).exits(0).out.contains(" it-");
            running = Some(match known {
                true => Swarm::new(&repository, &["resume", "it"]).start(),
                false => start(&repository, &[]).start(),
            });
        }
        // On a busy machine none of them may have come to its end; the last is killed as well.
        drop(running);
        if code == KILLED {
            // All lives may have been too short for the run to begin.
            let is_known = Swarm::new(&repository, &["list"]).exits(0).out.contains(" it-");
            code = if is_known { resume(&repository, 1).code } else { start(&repository, &[]).exits(1).code };
        }
        assert_eq!(code, 1, "round {round}");
        let (left, report) = left(&repository);
        assert_eq!(left, expected, "round {round}: {report}");
        keeps_its_word(&report);
    }
}
