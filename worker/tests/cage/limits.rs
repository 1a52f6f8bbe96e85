//! Limits hold: each is broken beside an innocent job, by every means that this machine has, and the outcome names it.
//! Numbers are those of the list of escapes.

use std::sync::OnceLock;

use swarm_protocol::{ControllerSpec, Ended, GroupSpec, LimitsSpec, Probe, Tier};

use crate::fixture::{Cage, Ran, Worker, is_alive};
use crate::raw::{DONE, REFUSED};
use crate::{Case, Outcome};

/// All claims.
pub fn cases() -> Vec<Case> {
    let case = |name: &str, limit: &'static str, script: &'static str, set: Set| {
        Case::new(name, move |tier| broken(tier, limit, script, set))
    };
    vec![
        case(
            "38 a job that forks without end breaks its limit",
            "processes",
            "$SELF __attack forks 700",
            few_processes,
        ),
        case("38 a job of too many threads breaks its limit", "processes", "$SELF __attack threads 700", few_processes),
        case("38 a job that eats memory breaks its limit", "memory", "$SELF __attack memory 400", little_memory),
        case(
            "38 a child that eats memory breaks the job's limit, whatever the job makes of it",
            "memory",
            "$SELF __attack memory 400 || true; sleep 1",
            little_memory,
        ),
        case("38 a name that is no text hides no memory", "memory", NAMELESS_EATER, little_memory),
        case("38 a name that is no text hides no processes", "processes", NAMELESS_FORKS, few_processes),
        case("38 many small eaters break the limit together", "memory", MANY_EATERS, little_memory),
        case(
            "28 many files break the limit",
            "files",
            "i=0; while [ $i -lt 3000 ]; do : > f$i; i=$((i+1)); done; sleep 3",
            few_files,
        ),
        case(
            "28 folders in folders break the limit",
            "files",
            "i=0; while [ $i -lt 600 ]; do mkdir d; cd d; i=$((i+1)); done; sleep 3",
            few_files,
        ),
        case("28 one large file breaks the limit", "disk", "head -c 60000000 /dev/zero > f", small_disk),
        case("28 a sparse file breaks the limit", "disk", "truncate -s 1T f", small_disk),
        case("28 many files break the limit together", "disk", MANY_WRITERS, small_disk),
        case("28 files without names break the limit", "disk", "$SELF __attack unnamed 60", small_disk),
        case("28 little by little they break it, too", "disk", "$SELF __attack creeping 48", small_disk),
        case(
            "28 files without names that are only mapped break the limit",
            "disk",
            "$SELF __attack mapped 60",
            small_disk,
        ),
        case("28 folders without permissions hide nothing", "disk", DARK, small_disk),
        case("38 a flood of output breaks the limit", "output", "yes", little_output),
        Case::new("38 memory that no process maps is counted, or cannot be had", unmapped),
        Case::new("38 memory in sockets is bounded where groups count it", in_sockets),
        Case::new("38 memory that two processes have is no more than it is", memory_of_two),
        Case::new("38 open files are bounded", open_files),
        Case::new("38 a bounded number of processes can be had, and is noted when it was reached", coped),
        Case::new("38 what a group above refuses breaks no limit of the job", crowded_from_above),
        Case::new("31 a job is the first to go when memory is short, and cannot change that", volunteers),
        Case::new("each limit names what holds it", named),
        Case::new("the groups of a job are gone with it, and those of the dead are swept", swept),
    ]
}

type Set = fn(&mut LimitsSpec);

const MANY_EATERS: &str = "for i in 1 2 3 4 5 6 7 8; do $SELF __attack memory 40 & done; wait; sleep 1";
const NAMELESS_EATER: &str = "n=$(printf '\\377'); ln -sf $SELF ./$n; ./$n __attack memory 400";
const NAMELESS_FORKS: &str = "n=$(printf '\\377'); ln -sf $SELF ./$n; ./$n __attack forks 700";
const MANY_WRITERS: &str = "i=0; while [ $i -lt 12 ]; do head -c 5000000 /dev/zero > f$i; i=$((i+1)); done; sleep 3";
const DARK: &str =
    "mkdir d; i=0; while [ $i -lt 12 ]; do head -c 5000000 /dev/zero > d/f$i; i=$((i+1)); done; chmod 0 d; sleep 3";

fn few_processes(limits: &mut LimitsSpec) {
    limits.processes = Some(64);
}

fn little_memory(limits: &mut LimitsSpec) {
    limits.memory_bytes = Some(100 << 20);
}

fn small_disk(limits: &mut LimitsSpec) {
    limits.disk_bytes = Some(30 << 20);
}

fn few_files(limits: &mut LimitsSpec) {
    limits.files = Some(500);
}

fn little_output(limits: &mut LimitsSpec) {
    limits.output_bytes = Some(10 << 20);
}

/// Where groups can be made, as the worker itself finds out.
pub fn groups() -> &'static [GroupSpec] {
    static GROUPS: OnceLock<Vec<GroupSpec>> = OnceLock::new();
    GROUPS.get_or_init(|| probe().groups)
}

fn probe() -> Probe {
    let state = Cage::new(Tier::Landlock);
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([swarm_worker::SUBCOMMAND, "--probe", "each", "--state"])
        .arg(state.path("state"))
        .output()
        .expect("a worker starts");
    swarm_protocol::frame::decode(&output.stdout).expect("a probe")
}

/// Every way to hold limits: with the machine's groups, if any, and without.
fn ways() -> Vec<Vec<GroupSpec>> {
    let found = groups().to_vec();
    if found.is_empty() { vec![found] } else { vec![found, Vec::new()] }
}

/// The landlock tier's job without a network has no sockets at all.
fn in_sockets(tier: Tier) {
    let script = "$SELF __attack sockets 120";
    for groups in ways() {
        let free = limited(tier, script, &groups, |limits| limits.memory_bytes = Some(1 << 30));
        assert_eq!(free.stdout.contains(DONE), tier == Tier::Namespaces, "{free:?}");
        let is_counted = groups.iter().any(|group| group.controllers.contains(&ControllerSpec::Memory));
        let bounded = limited(tier, script, &groups, little_memory);
        assert!(!is_counted || !bounded.stdout.contains(DONE), "{bounded:?}");
    }
}

fn limited(tier: Tier, script: &str, groups: &[GroupSpec], set: Set) -> Ran {
    let cage = Cage::new(tier);
    let mut start = cage.start(script);
    start.sandbox.limits.groups = groups.to_vec();
    start.timeout_ms = Some(60_000);
    set(&mut start.sandbox.limits);
    Worker::spawn(&start).finish()
}

fn broken(tier: Tier, limit: &str, script: &str, set: Set) {
    let marker = format!("{}.125", std::process::id());
    for groups in ways() {
        let control = limited(tier, &script.replace("yes", "yes | head -c 20000000"), &groups, |_| {});
        assert_eq!(control.outcome().ended, Ended::Exited { code: 0 }, "the control passes: {control:?}");

        let innocent = Cage::new(tier);
        let mut start = innocent.start("for i in 1 2 3; do head -c 100000 /dev/zero > f; sh -c 'sleep 0.1'; done");
        start.sandbox.limits.groups.clone_from(&groups);
        set(&mut start.sandbox.limits);
        let innocent = Worker::spawn(&start);
        let ran = limited(tier, &format!("(sleep {marker} &); {script}"), &groups, set);
        match &ran.outcome().ended {
            Ended::Limit { limit: named, detail } => assert_eq!((named.as_str(), detail.is_empty()), (limit, false)),
            ended => panic!("{limit} with {groups:?}: {ended:?}: {ran:?}"),
        }
        assert!(!is_alive(&marker), "nothing of it is left");
        let innocent = innocent.finish();
        assert_eq!(innocent.outcome().ended, Ended::Exited { code: 0 }, "the peer is unharmed: {innocent:?}");
    }
}

fn unmapped(tier: Tier) {
    for groups in ways() {
        for script in ["$SELF __attack files-in-memory 300", "$SELF __attack segments 80 4096"] {
            // Without namespaces segments are refused to every job.
            if tier == Tier::Namespaces || script.contains("files") {
                let free = limited(tier, script, &groups, |_| {});
                assert!(free.stdout.contains(DONE), "{script}: {free:?}");
            }
            let ran = limited(tier, script, &groups, little_memory);
            let counted = matches!(&ran.outcome().ended, Ended::Limit { limit, .. } if limit == "memory");
            let refused = ran.stdout.contains(REFUSED) && groups.is_empty() | script.contains("segments");
            assert!((counted || refused) && !ran.stdout.contains(DONE), "{script} with {groups:?}: {ran:?}");
        }
        if tier == Tier::Namespaces {
            let small = limited(tier, "$SELF __attack segments 3 8", &groups, little_memory);
            assert!(small.stdout.contains(DONE), "a lock needs no memory: {small:?}");
        }
        // What is named as not counted is not, and is named only where the kernel does not count.
        for (script, phrase, is_counted) in [
            ("$SELF __attack pipes 100", "memory of the kernel for page tables, pipes", false),
            ("$SELF __attack shared 300", "shared memory of which", !groups.is_empty()),
        ] {
            let ran = limited(tier, script, &groups, little_memory);
            let report = ran.entered.as_ref().expect("it ran");
            let open = report.not_enforced.iter().any(|line| line.starts_with(phrase));
            assert_eq!(open, report.limits.contains(&"memory: watchdog".to_owned()), "{report:?}");
            assert_eq!(ran.stdout.contains(DONE), !is_counted, "{ran:?}");
            let is_named = matches!(&ran.outcome().ended, Ended::Limit { limit, .. } if limit == "memory");
            assert_eq!(is_named, is_counted, "{ran:?}");
        }
    }
}

fn memory_of_two(tier: Tier) {
    for groups in ways() {
        let ran = limited(tier, "$SELF __attack memory-of-two 60", &groups, little_memory);
        assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 }, "{ran:?}");
        assert!(ran.stdout.contains(DONE), "{ran:?}");
    }
}

fn open_files(tier: Tier) {
    let pipes = |set: Set| limited(tier, "$SELF __attack pipes 100", &[], set).stdout;
    assert!(pipes(|limits| limits.open_files = Some(500)).contains(DONE));
    let refused = pipes(|limits| limits.open_files = Some(100));
    assert!(refused.contains(REFUSED) && refused.contains("os error 24"), "{refused}");
}

/// Without a group the kernel counts nothing, so the note is only promised with one.
fn coped(tier: Tier) {
    // Refused again and again for some looks of the watchdog; the shell forks nothing for that.
    let wait = "while [ ! -e full ]; do :; done; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let script = format!("$SELF __attack forks 20; ($SELF __attack forks 700 & {wait}; kill -9 $!); true");
    // At the very end, and what reached the limit outlives the first process.
    let left = "$SELF __attack forks 700 & while [ ! -e full ]; do :; done; exit 0";
    for groups in ways() {
        let ran = limited(tier, "$SELF __attack forks 20", &groups, few_processes);
        assert_eq!(
            (ran.outcome().ended.clone(), ran.outcome().limit_reached.clone()),
            (Ended::Exited { code: 0 }, None)
        );
        let scripts: &[&str] = if groups.is_empty() { &[] } else { &[&script, left] };
        for script in scripts {
            let ran = limited(tier, script, &groups, few_processes);
            let said = match (&ran.outcome().ended, &ran.outcome().limit_reached) {
                (Ended::Exited { code: 0 }, Some(reached)) => reached.clone(),
                (Ended::Limit { limit, .. }, None) => limit.clone(),
                other => panic!("{other:?}"),
            };
            assert!(said.contains("processes"), "{said}");
        }
    }
}

/// In a full group that is not its own a job lacks room, as at its user's limit; the control has as many processes and room for them.
fn crowded_from_above(tier: Tier) -> Outcome {
    let counts = |place: &&GroupSpec| place.version == 1 && place.controllers.contains(&ControllerSpec::Processes);
    let Some(place) = groups().iter().find(counts) else {
        return Outcome::skipped("no control group of version 1 counts processes here");
    };
    let name = format!("around-{}-{tier:?}", std::process::id());
    let around = GroupSpec { folder: place.folder.join(name), ..place.clone() };
    std::fs::create_dir(&around.folder).expect("groups can be made there");
    let script = "sleep 1 & w=$!; $SELF __attack forks 50 & wait $w; exit 3";
    let ends: Vec<Ended> = ["max", "30"]
        .into_iter()
        .map(|bound| {
            std::fs::write(around.folder.join("pids.max"), bound).expect("it is ours");
            limited(tier, script, std::slice::from_ref(&around), few_processes).outcome().ended.clone()
        })
        .collect();
    std::fs::remove_dir(&around.folder).expect("all in it are gone");
    let [Ended::Exited { code: 3 }, Ended::Refused(refusal)] = &*ends else { panic!("{ends:?}") };
    assert!(refusal.lacks_room && refusal.reason.contains("pids.max"), "{refusal:?}");
    Outcome::Passed
}

fn volunteers(tier: Tier) {
    let script = "cat /proc/self/oom_score_adj; (echo -1000 > /proc/self/oom_score_adj) 2>/dev/null; cat /proc/self/oom_score_adj";
    let ran = limited(tier, script, &[], |_| {});
    assert_eq!(ran.stdout, "500\n500\n", "{ran:?}");
}

fn named(tier: Tier) {
    let all: Set = |limits| {
        few_processes(limits);
        little_memory(limits);
        small_disk(limits);
        few_files(limits);
        limits.open_files = Some(500);
        limits.cpu = Some(1.5);
    };
    for groups in ways() {
        let ran = limited(tier, "true", &groups, all);
        let report = ran.entered.expect("it ran");
        for limit in ["memory", "processes", "cpu", "open-files", "disk", "files", "output"] {
            let held = report.limits.iter().find_map(|line| line.strip_prefix(&format!("{limit}: ")));
            let held = held.unwrap_or_else(|| panic!("{limit} is not in {:?}", report.limits));
            let enforced = report.enforced.iter().any(|word| word == limit);
            assert_eq!(enforced, held != "nothing", "{limit}: {report:?}");
            let listed = report.not_enforced.iter().any(|line| line.starts_with(&format!("{limit}:")));
            assert_eq!(listed, held == "nothing", "{limit}: {report:?}");
            let by_group = held.starts_with("cgroup");
            assert!(!by_group || !groups.is_empty(), "{limit}: {held}");
        }
    }
}

fn swept(tier: Tier) -> Outcome {
    let Some(place) = groups().first() else {
        return Outcome::skipped("no control group can be made here");
    };
    let ours = || {
        let entries = std::fs::read_dir(&place.folder).expect("it was found").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("swarm-")).collect::<Vec<_>>()
    };
    let cage = Cage::new(tier);
    let mut start = cage.start("echo up; sleep 600");
    start.sandbox.limits = LimitsSpec {
        memory_bytes: Some(1 << 28),
        processes: Some(50),
        groups: groups().to_vec(),
        ..LimitsSpec::default()
    };
    // Of this process: whoever was killed is dead when it was waited for, and not when a fork server looks for it.
    let mut worker = Worker::start(&start);
    worker.wait_for("up");
    let of_worker = format!("-{}-0", worker.process.id());
    let name = ours().into_iter().find(|name| name.ends_with(&of_worker)).expect("it has a group");
    // One of another pid namespace may be about to be entered.
    let other = place.folder.join("swarm-1-4194303-0");
    std::fs::create_dir(&other).expect("a group");
    worker.process.kill();
    worker.process.wait();
    assert!(crate::fixture::soon(|| {
        probe();
        !ours().contains(&name)
    }));
    std::fs::remove_dir(&other).expect("nobody took it away");
    Outcome::Passed
}
