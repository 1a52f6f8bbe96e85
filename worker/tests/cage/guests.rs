//! WebAssembly guests in the cage: escape attempt 60, and how guests end.

use std::ffi::OsString;
use std::fs;
use std::time::SystemTime;

use swarm_protocol::{Access, Ended, Job, Start, Tier, WasmJob, WasmPreopen};

use crate::Case;
use crate::fixture::{Cage, Ran, SECRET, Worker};
use crate::programs::{self, Intent};

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a guest prints, ends with its status, and is compiled once", compiled_once),
        Case::new("60 a guest finds no path out of its folders", paths),
        Case::new("60 a guest that breaks a limit is ended, and the limit is named", limits),
        Case::new("60 a guest without end ends with its time", times),
        Case::new("60 a guest's flood of output is bounded", flood),
        Case::new("a guest does not write where its folder is for reading", read_only),
        Case::new("what is no module is a failed start, and is not kept", no_module),
        Case::new("a damaged compiled module is not run", damaged),
    ]
}

/// A `start` for a guest that has its worktree as `.`.
fn guest(cage: &Cage, wasm: &[u8]) -> Start {
    let modules = cage.path("modules");
    fs::create_dir_all(&modules).expect("a folder for modules");
    fs::write(modules.join("guest.wasm"), wasm).expect("the module");
    let mut start = cage.start("");
    start.job = Job::Wasm(WasmJob {
        module: modules.join("guest.wasm"),
        compiled: modules.join("compiled"),
        args: vec!["guest".to_owned()],
        preopens: vec![WasmPreopen { path: cage.worktree(), name: ".".to_owned(), access: Access::Write }],
        fuel: None,
        seed: 0,
    });
    start
}

fn assembled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("a module")
}

fn run(start: &Start) -> Ran {
    Worker::spawn(start).finish()
}

/// How a guest ends in a fresh cage.
fn ended(tier: Tier, wat: &str) -> Ended {
    run(&guest(&Cage::new(tier), &assembled(wat))).outcome().ended.clone()
}

/// The files that are kept, with their times; not the locks, which stay.
fn kept(cage: &Cage) -> Vec<(OsString, SystemTime)> {
    let entries = fs::read_dir(cage.path("modules/compiled")).expect("the folder of compiled modules");
    let time = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    let all = entries.flatten().map(|entry| (entry.file_name(), time(&entry)));
    all.filter(|(name, _)| !name.to_string_lossy().ends_with(".lock")).collect()
}

fn compiled_once(tier: Tier) {
    let (first, second) = (Cage::new(tier), Cage::new(tier));
    let hello = assembled(&programs::hello("hello", 7));
    let ran = run(&guest(&first, &hello));
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 7 }, "{ran:?}");
    assert_eq!(ran.stdout, "hello");
    assert!(ran.entered.expect("entered").enforced.iter().any(|held| held == "wasm"));
    let before = kept(&first);
    assert_eq!(before.len(), 1, "{before:?}");

    let mut start = guest(&second, &hello);
    fs::rename(first.path("modules/compiled"), second.path("modules/compiled")).expect("moved");
    assert_eq!(run(&start).outcome().ended, Ended::Exited { code: 7 });
    assert_eq!(kept(&second), before, "it was not compiled again");

    // Counting instructions is another kind of machine code.
    let Job::Wasm(job) = &mut start.job else { unreachable!("BUG: a guest") };
    job.fuel = Some(1_000_000);
    start.sandbox.worktree = guest(&first, &hello).sandbox.worktree;
    if tier == Tier::Landlock {
        assert_eq!(run(&start).outcome().ended, Ended::Exited { code: 7 });
        assert_eq!(kept(&second).len(), 2);
    }
}

fn paths(tier: Tier) {
    for (path, expected) in [
        ("README", &[programs::SUCCESS][..]),
        ("fine", &[programs::SUCCESS]),
        ("absolute", &[programs::PERM, programs::NOTCAPABLE]),
        ("up", &[programs::PERM, programs::NOTCAPABLE]),
        ("parent/home/.netrc", &[programs::PERM, programs::NOTCAPABLE]),
        ("../home/.netrc", &[programs::PERM, programs::NOTCAPABLE]),
        ("root/etc/passwd", &[programs::PERM, programs::NOTCAPABLE]),
        ("/etc/passwd", &[programs::PERM, programs::NOTCAPABLE]),
    ] {
        let cage = Cage::new(tier);
        let start = guest(&cage, &assembled(&programs::open(path, Intent::Read)));
        let secret = cage.path("host/home/.netrc");
        assert_eq!(fs::read_to_string(&secret).expect("the control: the host can read it"), SECRET);
        for (target, name) in [
            (secret.to_str().expect("a plain name"), "absolute"),
            ("../home/.netrc", "up"),
            ("..", "parent"),
            ("/proc/self/root", "root"),
            ("README", "fine"),
        ] {
            std::os::unix::fs::symlink(target, cage.written("").join(name)).expect("a symlink");
        }
        let host = cage.host();
        let Ended::Exited { code } = run(&start).outcome().ended else { panic!("{path}") };
        assert!(expected.contains(&code), "{path}: {code}");
        assert_eq!(cage.host(), host);
    }
}

fn limits(tier: Tier) {
    let check = |wat: &str, name: &str| match ended(tier, wat) {
        Ended::Limit { limit, .. } => assert_eq!(limit, name),
        other => panic!("{name}: {other:?}"),
    };
    check(&programs::grow_table(), "table");
    check(&programs::recurse(), "stack");

    let memory = |bytes: Option<u64>| {
        let cage = Cage::new(tier);
        let mut start = guest(&cage, &assembled(&programs::grow_memory()));
        start.sandbox.limits.memory_bytes = bytes;
        run(&start).outcome().ended.clone()
    };
    assert!(matches!(memory(Some(256 << 20)), Ended::Limit { limit, .. } if limit == "memory"));
    assert_eq!(memory(None), Ended::Exited { code: 0 }, "the control: without a limit 4 GiB are its own affair");
}

fn times(tier: Tier) {
    for wat in [programs::spin(), programs::storm(), programs::sleep()] {
        let cage = Cage::new(tier);
        let mut start = guest(&cage, &assembled(&wat));
        start.timeout_ms = Some(300);
        let ran = run(&start);
        assert_eq!(ran.outcome().ended, Ended::TimedOut);
        assert!(ran.outcome().wall_ms < 10_000, "{ran:?}");
    }
}

fn flood(tier: Tier) {
    let cage = Cage::new(tier);
    let (pages, times) = (256, 4); // 16 MiB, four times
    let ran = run(&guest(&cage, &assembled(&programs::giant_write(pages, times))));
    assert_eq!(ran.outcome().ended, Ended::Exited { code: 0 });
    let written = u64::from(pages * times) << 16;
    assert_eq!(ran.outcome().output_bytes, written);
    assert_eq!(ran.outcome().output_bytes_dropped, written - (1 << 20));
    assert_eq!(ran.stdout.len(), 1 << 20);
}

fn read_only(tier: Tier) {
    let made = |access: Access| {
        let cage = Cage::new(tier);
        let mut start = guest(&cage, &assembled(&programs::open("made", Intent::Create)));
        let Job::Wasm(job) = &mut start.job else { unreachable!("BUG: a guest") };
        job.preopens[0].access = access;
        let ended = run(&start).outcome().ended.clone();
        (ended == Ended::Exited { code: 0 }, cage.written("made").exists())
    };
    assert_eq!(made(Access::Read), (false, false));
    assert_eq!(made(Access::Write), (true, true));
}

fn no_module(tier: Tier) {
    let lone_import = assembled(r#"(module (import "env" "system" (func)) (func (export "_start")))"#);
    for (bytes, word) in [
        (&b"#!/bin/sh\nid\n"[..], "neither"),
        (b"\0asm\x01\0\0\0\x0b\xff\xff\xff\xff\xff", "guest: "),
        (&assembled("(module)"), "_start"),
        (&lone_import, "env"),
    ] {
        let cage = Cage::new(tier);
        match run(&guest(&cage, bytes)).outcome().ended.clone() {
            Ended::StartFailed { reason } => assert!(reason.contains(word), "{reason}"),
            other => panic!("{word}: {other:?}"),
        }
        let kept = kept(&cage);
        assert!(kept.iter().all(|(name, _)| !name.to_string_lossy().contains('.')), "drafts are left: {kept:?}");
    }
}

fn damaged(tier: Tier) {
    let (first, second) = (Cage::new(tier), Cage::new(tier));
    let hello = assembled(&programs::hello("hello", 0));
    run(&guest(&first, &hello));
    let (name, _) = kept(&first).pop().expect("one artifact");
    let start = guest(&second, &hello);
    fs::create_dir(second.path("modules/compiled")).expect("a folder");
    fs::write(second.path("modules/compiled").join(name), b"\x7fELF, or not").expect("damage");
    assert!(matches!(run(&start).outcome().ended, Ended::StartFailed { .. }));
}
