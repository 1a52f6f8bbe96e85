//! Machines that make no more processes or threads: a run under such a limit ends by itself, loses nothing, and goes on once
//! there is room again.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use swarm_tests::{Repository, Swarm, WITHOUT_NAMESPACES, user};

/// How long a run may take that cannot get on.
const END_MAX: Duration = Duration::from_secs(30);

fn through(swarm: Swarm, words: &[String], more: &[&str]) -> Swarm {
    swarm.through(&words.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
}

const EIGHT: &str = "[tasks.a]\nmatrix = { n = ['1', '2', '3', '4', '5', '6', '7', '8'] }\n\
                     run = 'echo a > \"a$SWARM_MATRIX_N\"'\n[merge]\nverify = 'true'\n";

#[test]
fn a_run_ends_by_itself_however_few_processes_there_are() {
    for (at, limit) in [60, 24, 20, 17, 15, 13, 11, 9, 7, 5, 3, 1].into_iter().enumerate() {
        let repository = Repository::with(&[("a.txt", "one\n")]);
        let Some(words) = user(61_000 + at as u32, &[], &repository) else { return };
        repository.write("p.toml", format!("version = 1\n{EIGHT}"));
        let limited = format!("--nproc={limit}:{limit}");
        let run = Swarm::new(&repository, &["run", "-j4", "p.toml"]);
        let ended = through(run, &words, &["prlimit", &limited]).end();
        assert!(matches!(ended.code, 0 | 3) && ended.took < END_MAX, "{limit}: {ended}");
        assert!(!ended.err.contains("panicked") && !ended.err.contains("is a bug"), "{limit}: {ended}");
        if ended.code == 0 {
            assert!(limit > 5, "{limit}: {ended}");
            continue;
        }
        assert!(limit < 60, "there was room: {ended}");
        assert!(ended.err.contains("ulimit -u"), "{limit}: {ended}");
        // With room again, it is as if nothing had been.
        let list = through(Swarm::new(&repository, &["list"]), &words, &[]).exits(0);
        let again: &[&str] = if list.out.contains("p-1") { &["resume", "p-1"] } else { &["run", "p.toml"] };
        let resumed = through(Swarm::new(&repository, again), &words, &[]).exits(0);
        assert!(resumed.err.contains("landed on swarm/p"), "{limit}: {resumed}");
    }
}

#[test]
fn what_a_run_needs_at_its_end_it_has_from_its_beginning() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let Some(words) = user(61_100, &[], &repository) else { return };
    // The gate takes longer than threads stay that nobody needs, and says that it has begun.
    let (place, begun) = (repository.beside("begun"), repository.beside("begun/gate"));
    std::fs::create_dir(&place).expect("space");
    std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let plan = format!(
        "version = 1\n[sandbox.default]\nwrite = [{place:?}]\n[tasks.a]\nrun = 'echo a > b.txt'\n\
         [merge]\nverify = 'test ! -e b.txt || {{ touch {}; sleep 11; }}'\n",
        begun.display()
    );
    repository.write("p.toml", plan);
    let allowed = format!("write={}", place.display());
    let run = Swarm::new(&repository, &["run", "--json", "p.toml"]).allow(&allowed);
    let mut running = through(run, &words, &[]).start();
    while !begun.exists() {
        assert!(!running.ends_within(Duration::from_millis(20)), "the gate begins");
    }
    let (pid, limit) = (running.pid().to_string(), ["prlimit", "--nproc=1:1", "--pid"]);
    let limited = Command::new(&words[0]).args(&words[1..]).args(limit).arg(pid).status();
    assert!(limited.is_ok_and(|status| status.success()), "it lives, and is the user's");
    assert!(!running.ends_within(Duration::ZERO), "it was alive then");
    let ended = running.end();
    assert!(ended.code == 0 && !ended.err.contains("panicked"), "{ended}");
    assert_eq!(ended.fate("a"), "landed");
}

/// Effects of the run below between two that are tried.
const STRIDE: usize = 5;

#[test]
fn a_part_of_the_coordinator_that_panics_ends_the_run_and_hangs_nobody() {
    let plan =
        "[tasks.a]\nrun = 'echo a > a1'\n[tasks.b]\nneeds = ['a']\nrun = 'echo b > b1'\n[merge]\nverify = 'true'\n";
    for effect in (1..400).step_by(STRIDE) {
        let repository = Repository::with(&[("a.txt", "one\n")]);
        let ended = Swarm::run(&repository, "p", plan).args(&["--fault", &format!("panic@{effect}")]).end();
        if ended.code == 0 && !ended.err.contains("panicked") {
            assert!(effect > 4 * STRIDE, "few effects: {ended}");
            return;
        }
        assert!(ended.code == 3 && ended.took < END_MAX, "{effect}: {ended}");
        // Where it had not begun, there is nothing to go on with.
        if Swarm::new(&repository, &["list"]).exits(0).out.contains("p-1") {
            let resumed = Swarm::new(&repository, &["resume", "p-1"]).exits(0);
            assert!(resumed.err.contains("landed on swarm/p"), "{effect}: {resumed}");
        }
    }
    panic!("the run has more effects than that");
}

/// A task that needs a process every twentieth of a second for ten seconds.
const FORKS: &str = "version = 1\n[tasks.a]\nrun = 'for i in $(seq 200); do sleep 0.05; done; echo a > b.txt'\n[merge]\nmode = 'train'\n";

fn room_taken_by_others(uid: u32, begin: &[&str]) {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let Some(words) = user(uid, &[], &repository) else { return };
    repository.write("p.toml", FORKS);
    let limited = [&["prlimit", "--nproc=200:200"], begin].concat();
    let run = Swarm::new(&repository, &["run", "--json", "p.toml"]);
    let mut running = through(run, &words, &limited).start();
    assert!(running.says("attempt-started"), "it runs");
    // Children of ours, so that none stays as a zombie, which counts, too, where nobody reaps strangers' orphans.
    let fill = |_| {
        let mut filler = Command::new(&words[0]);
        filler.args(&words[1..]).args(["prlimit", "--nproc=240:240", "sleep", "600"]);
        filler.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let fillers: Vec<Child> = (0..230).map(fill).collect();
    let said = running.says("attempt-finished");
    for mut filler in fillers {
        // It may have found no room itself.
        let _ = filler.kill();
        filler.wait().expect("a child of ours");
    }
    let ended = running.end();
    assert!(said && ended.code == 0, "{ended}");
    assert_eq!((ended.result("a").as_str(), ended.fate("a").as_str()), ("succeeded", "landed"), "{ended}");
    let attempts = ended.events_of("attempt-finished");
    assert!(attempts.len() >= 2 && attempts[0]["retry-in-ms"].is_u64(), "{ended}");
}

#[test]
fn a_task_whose_forks_fail_for_others_processes_is_not_blamed() {
    room_taken_by_others(61_200, &[]);
}

#[test]
fn nor_in_the_weaker_tier() {
    if Swarm::new(&Repository::with(&[("a.txt", "one\n")]), &["list"]).without_namespaces().is_some() {
        room_taken_by_others(61_201, WITHOUT_NAMESPACES);
    }
}
