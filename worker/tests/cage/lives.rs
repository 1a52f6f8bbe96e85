//! How jobs end, and what is told about it.

use std::io::Write as _;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use swarm_protocol::{Ended, Job, Start, Tier, ToWorker, encode};

use crate::fixture::{Cage, Worker, is_alive, soon};
use crate::limits::groups;
use crate::{Case, Outcome};

/// How long three hundred processes that fork and vanish may keep a worker busy: its second, and two hunts.
const RABBITS_MAX: Duration = Duration::from_secs(25);

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("an exit status is passed on", |tier| ends("exit 7", tier, &Ended::Exited { code: 7 })),
        Case::new("a deadly signal is passed on", |tier| ends("kill -SEGV $$", tier, &Ended::Signaled { signal: 11 })),
        Case::new("a missing program is a failed start", missing_program),
        Case::new("a missing working directory refuses the launch", missing_folder),
        Case::new("a job that is too slow ends as timed out", timed_out),
        Case::new("a job that ignores SIGTERM is killed after the grace", stubborn),
        Case::new("a cancelled job ends as cancelled", cancelled),
        Case::new("a cancel that came together with its start is heard", cancelled_at_once),
        Case::new("36 daemons end with their job and are counted", daemons),
        Case::new("36 a daemon whose name is no text ends with its job, too", nameless_daemon),
        Case::new("37 a grandchild that holds the output does not hold the job", held_output),
        Case::new("a thousand left processes are ended", many_orphans),
        Case::new("a job that forks and vanishes, over and over, is caught", comet),
        Case::new("three hundred that fork and vanish are caught, and their peers are not harmed", rabbits),
        Case::new("27 nothing writes to the worktree after the last word", no_late_writes),
        Case::new("what cannot be ended is not waited for in vain, and is said", held_for_ever),
        Case::new("a job ends when its coordinator closes the conversation", coordinator_gone),
        Case::new("a job ends when its worker is killed", worker_killed),
        Case::new("what a first process leaves that was killed is ended and counted", first_process_killed),
        Case::new("output is bounded, head and tail, and counted", bounded_output),
        Case::new("a second run in the same worktree finds what the first one left", second_run),
    ]
}

fn ends(script: &str, tier: Tier, expected: &Ended) {
    let ran = Cage::new(tier).run(script);
    assert_eq!(&ran.outcome().ended, expected, "{ran:?}");
    assert_eq!(ran.outcome().orphans, 0);
}

fn missing_program(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("");
    for (program, word) in [("no-such-program", "not found"), ("./README", "not executable")] {
        start.job = Job::Command { argv: vec![program.to_owned()], cwd: cage.worktree() };
        match Worker::spawn(&start).finish().outcome().ended.clone() {
            Ended::StartFailed { reason } => assert!(reason.contains(word), "{reason}"),
            ended => panic!("{program}: {ended:?}"),
        }
    }
}

fn missing_folder(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("");
    start.job = Job::Command { argv: vec!["true".to_owned()], cwd: cage.worktree().join("nowhere") };
    let ended = Worker::spawn(&start).finish().outcome().ended.clone();
    assert!(matches!(&ended, Ended::Refused(refusal) if refusal.step.contains("working directory")), "{ended:?}");
}

fn timed_out(tier: Tier) {
    let mut start = Cage::new(tier).start("");
    let cage = Cage::new(tier);
    start.clone_from(&cage.start("trap 'echo asked; exit 0' TERM; sleep 500 & wait"));
    start.timeout_ms = Some(300);
    start.grace_ms = 10_000;
    let ran = Worker::spawn(&start).finish();
    assert_eq!(ran.outcome().ended, Ended::TimedOut);
    assert_eq!(ran.stdout, "asked\n", "SIGTERM came first: {ran:?}");
}

fn stubborn(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("trap '' TERM; (trap '' TERM; sleep 500.25) & sleep 500.25; sleep 500.25");
    start.timeout_ms = Some(200);
    start.grace_ms = 100;
    let ran = Worker::spawn(&start).finish();
    assert_eq!(ran.outcome().ended, Ended::TimedOut);
    assert!(!is_alive("500.25"));
}

fn cancelled(tier: Tier) {
    let cage = Cage::new(tier);
    let mut worker = Worker::spawn(&cage.start("echo up; sleep 501.5"));
    worker.wait_for("up");
    let cancel = encode(&ToWorker::Cancel { grace_ms: 0 });
    worker.input.as_mut().expect("still open").write_all(&cancel).expect("the worker reads");
    assert_eq!(worker.finish().outcome().ended, Ended::Cancelled);
    assert!(!is_alive("501.5"));
}

fn cancelled_at_once(tier: Tier) {
    let cage = Cage::new(tier);
    let mut frames = encode(&ToWorker::Start(Box::new(cage.start("sleep 501.25"))));
    frames.extend(encode(&ToWorker::Cancel { grace_ms: 0 }));
    assert_eq!(Worker::spawn_with(&frames).finish().outcome().ended, Ended::Cancelled);
    assert!(!is_alive("501.25"));
}

fn daemons(tier: Tier) {
    let cage = Cage::new(tier);
    let daemon = "setsid sh -c 'sleep 502.5 & sleep 502.75' </dev/null >/dev/null 2>&1 &";
    // The first process ends only when all three daemons run, so that the count is exact.
    let script = format!(
        "{daemon} until test $(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '^502\\.[57]') -ge 2; do :; done"
    );
    let ran = cage.run(&script);
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
    assert!(ran.outcome().orphans >= 2, "{ran:?}");
    assert!(!is_alive("502.5") && !is_alive("502.75"));
}

fn nameless_daemon(tier: Tier) {
    let script = "n=$(printf '\\377\\376'); ln -s $(command -v sleep) ./$n; (setsid ./$n 502.125 </dev/null >/dev/null 2>&1 &); \
                  until cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -aq '^502\\.125$'; do :; done";
    let ran = Cage::new(tier).run(script);
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
    assert!(ran.outcome().orphans >= 1 && !is_alive("502.125"), "{ran:?}");
}

fn held_output(tier: Tier) {
    let ran = Cage::new(tier).run("sleep 503.5 & echo out");
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 });
    assert_eq!((ran.stdout.as_str(), ran.outcome().orphans), ("out\n", 1));
    assert!(ran.outcome().wall_ms < 10_000 && !is_alive("503.5"));
}

fn many_orphans(tier: Tier) {
    let ran = Cage::new(tier).run("i=0; while [ $i -lt 1000 ]; do sleep 504.5 & i=$((i+1)); done");
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 });
    assert_eq!(ran.outcome().orphans, 1000);
    assert!(!is_alive("504.5"));
}

/// Each process starts the next and is gone: no process id that was read is still the right one. The number of
/// generations is bounded so that a failing test ends, too.
fn comet(tier: Tier) {
    let cage = Cage::new(tier);
    let script = "printf '[ $1 -gt 5000 ] || (sh comet.sh $(($1+1)) &)' > comet.sh; sh comet.sh 1";
    let ran = cage.run(script);
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
    assert!(ran.outcome().orphans > 0 && !is_alive("comet.sh"), "{ran:?}");
}

/// Left behind by a job that has ended, and by one whose time is over, beside one that does its work.
fn rabbits(tier: Tier) -> Outcome {
    let groups = groups();
    if groups.is_empty() && rustix::process::getuid().is_root() {
        return Outcome::skipped("nothing bounds processes of root here, and they would fill the machine");
    }
    let few = |start: &mut Start| {
        start.sandbox.limits.processes = Some(512);
        start.sandbox.limits.groups = groups.to_vec();
    };
    for script in ["$SELF __attack rabbits 300 509.25", "$SELF __attack rabbits 300 509.25; sleep 60"] {
        let (cage, innocent) = (Cage::new(tier), Cage::new(tier));
        let mut start = innocent.start("for i in 1 2 3 4 5; do sleep 0.2; sh -c 'echo $0' $i; done");
        few(&mut start);
        let peer = Worker::spawn(&start);
        let mut start = cage.start(script);
        few(&mut start);
        start.timeout_ms = Some(1_000);
        start.grace_ms = 100;
        let begun = std::time::Instant::now();
        let ran = Worker::spawn(&start).finish();
        match &ran.outcome().ended {
            Ended::Exited { code: 0 } | Ended::TimedOut => {}
            Ended::Limit { limit, .. } if limit == "processes" => {}
            _ => panic!("{ran:?}"),
        }
        assert!(begun.elapsed() < RABBITS_MAX, "{:?}: {ran:?}", begun.elapsed());
        assert!(ran.outcome().left_running.is_none() && !is_alive("509.25"), "{ran:?}");
        let peer = peer.finish();
        match &peer.outcome().ended {
            Ended::Exited { code: 0 } => assert_eq!(peer.stdout, "1\n2\n3\n4\n5\n"),
            // An ordinary user's count together.
            Ended::Refused(refusal) if refusal.lacks_room && groups.is_empty() => {}
            _ => panic!("{peer:?}"),
        }
    }
    Outcome::Passed
}

fn no_late_writes(tier: Tier) {
    let cage = Cage::new(tier);
    let ran = cage.run("(setsid sh -c 'while :; do echo x >> grows; done' &) ; until test -s grows; do :; done");
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
    let size = || std::fs::metadata(cage.written("grows")).expect("it was written").len();
    let first = size();
    // A process that still ran would get the processor within this much work.
    assert!((0..20_000).all(|_| size() == first));
}

/// A process that its tracer does not let go of stands for one that hangs in the kernel: it is neither reaped nor gone.
fn held_for_ever(tier: Tier) -> Outcome {
    let cage = Cage::new(tier);
    let mut worker =
        Worker::spawn(&cage.start("trap 'exit 0' USR1; sleep 504.5 & echo up; while :; do sleep 0.1; done"));
    worker.wait_for("up");
    let mut held = None;
    assert!(
        soon(|| {
            held = pid_of("504.5");
            held.is_some()
        }),
        "it runs"
    );
    let pid = held.expect("found above");
    if !crate::raw::trace(pid) {
        let _ = kill_process(pid, Signal::KILL);
        return Outcome::skipped("no process may be traced here");
    }
    kill_process(parent_of(pid), Signal::USR1).expect("the shell waits for it");
    let ran = worker.finish();
    // Lets go of it.
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).expect("it is traced");
    let outcome = ran.outcome();
    assert!(matches!(&outcome.ended, Ended::Refused(refusal) if refusal.step == "work"), "{ran:?}");
    assert!(outcome.left_running.as_ref().is_some_and(|words| words.contains("may still run")), "{ran:?}");
    Outcome::Passed
}

fn parent_of(pid: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("proc_pid_status(5)");
    Pid::from_raw(line.trim().parse().expect("a number")).expect("a process")
}

/// A `sleep` with `word` in its arguments.
fn pid_of(word: &str) -> Option<Pid> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).find(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"sleep\0") && String::from_utf8_lossy(&words).contains(word)
    })
}

fn coordinator_gone(tier: Tier) {
    let cage = Cage::new(tier);
    let mut worker = Worker::spawn(&cage.start("(setsid sleep 505.5 &); echo up; sleep 505.5"));
    worker.wait_for("up");
    drop(worker.input.take());
    worker.process.wait();
    assert!(!is_alive("505.5"), "the worker ends after its job");
}

fn first_process_killed(tier: Tier) {
    let cage = Cage::new(tier);
    let mut worker = Worker::spawn(&cage.start("(setsid sleep 507.75 &); echo up; sleep 507.5; exit"));
    worker.wait_for("up");
    let both_run = || ["507.5", "507.75"].iter().all(|word| pid_of(word).is_some());
    assert!(soon(both_run), "they run");
    let init = parent_of(parent_of(pid_of("507.5").expect("it runs")));
    kill_process(init, Signal::KILL).expect("ours");
    let ran = worker.finish();
    assert!(matches!(&ran.outcome().ended, Ended::Refused(_)), "{ran:?}");
    assert!(!is_alive("507.5") && !is_alive("507.75"));
    // A namespace takes all along with its first process, and nobody is left to be counted.
    assert_eq!(ran.outcome().orphans > 0, tier == Tier::Landlock, "{ran:?}");
}

fn worker_killed(tier: Tier) {
    let cage = Cage::new(tier);
    let mut worker =
        Worker::spawn(&cage.start("(setsid sleep 506.5 &); (setsid setsid sleep 506.5 &) ; echo up; sleep 506.5"));
    worker.wait_for("up");
    let pid = i32::try_from(worker.process.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("our child");
    worker.process.wait();
    assert!(soon(|| !is_alive("506.5")));
}

fn bounded_output(tier: Tier) {
    let cage = Cage::new(tier);
    let mut start = cage.start("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last");
    start.output_bytes_max = 100_000;
    let ran = Worker::spawn(&start).finish();
    assert_eq!(ran.outcome().output_bytes, 5_000_012);
    assert_eq!(ran.outcome().output_bytes_dropped, 5_000_012 - 100_000);
    assert_eq!(ran.stdout.len(), 100_000);
    assert!(ran.stdout.starts_with("first\nx") && ran.stdout.ends_with("x\nlast\n"));
}

fn second_run(tier: Tier) {
    let cage = Cage::new(tier);
    cage.run("echo one > file; rm README");
    let ran = cage.run("cat file; ls");
    assert_eq!(ran.stdout, "one\nfile\n", "{ran:?}");
}
