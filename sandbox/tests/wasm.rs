//! Guests without a cage: what the WebAssembly wall alone holds, and that ordinary guests work.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use swarm_sandbox::Access;
use swarm_sandbox::wasm::{Guest, GuestEnd, GuestLimits, LoadError, Loaded, Metering, Preopen, Stdio, compile, engine};

/// Programs of the tests.
#[expect(dead_code, reason = "some are for the worker's tests only")]
mod guests;

use guests::{Act, BADF, Intent, NOTCAPABLE, PERM, ROFS, SUCCESS, program};

/// How a guest ended and what it wrote.
struct Ran {
    end: GuestEnd,
    stdout: String,
}

fn load(wat: &str, metering: Metering) -> Result<Loaded, LoadError> {
    let engine = engine(metering).unwrap();
    let artifact = compile(&engine, &wat::parse_str(wat).unwrap()).unwrap();
    // SAFETY: made a line ago.
    unsafe { Loaded::new(&engine, &artifact) }
}

fn run_as(wat: &str, guest: &Guest) -> Ran {
    let metering = if guest.limits.fuel.is_some() { Metering::Fuel } else { Metering::Time };
    let loaded = load(wat, metering).unwrap();
    let (mut stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let end = loaded.run(guest, &Stdio { stdin: None, stdout: stdout.as_fd(), stderr: stderr.as_fd() });
    Ran { end, stdout: text(&mut stdout) }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ended(parts: &str, body: &str, guest: &Guest) -> GuestEnd {
    run_as(&program(parts, body), guest).end
}

fn limit_of(end: &GuestEnd) -> &str {
    match end {
        GuestEnd::Limit { limit, .. } => limit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_prints_and_ends_with_its_own_status() {
    let ran = run_as(&guests::hello("hello", 7), &Guest::default());
    assert_eq!((ran.end, ran.stdout.as_str()), (GuestEnd::Exited(7), "hello"));
    assert_eq!(ended("", "", &Guest::default()), GuestEnd::Exited(0));
}

#[test]
fn each_limit_is_named() {
    let small = |limits| Guest { limits, ..Guest::default() };
    let grow = "(drop (memory.grow (i32.const 16)))";
    let limits = GuestLimits { memory_bytes: 1 << 20, ..GuestLimits::default() };
    assert_eq!(limit_of(&ended("", grow, &small(limits))), "memory");
    assert_eq!(ended("", grow, &Guest::default()), GuestEnd::Exited(0));

    let table = "(table $t 1 funcref)";
    let grow = "(drop (table.grow $t (ref.null func) (i32.const 1000)))";
    let limits = GuestLimits { table_elements: 1000, ..GuestLimits::default() };
    assert_eq!(limit_of(&ended(table, grow, &small(limits))), "table");
    assert_eq!(ended(table, grow, &Guest::default()), GuestEnd::Exited(0));

    let deep = "(func $deep (call $deep))";
    assert_eq!(limit_of(&ended(deep, "(call $deep)", &Guest::default())), "stack");

    let limits = GuestLimits { fuel: Some(10_000), ..GuestLimits::default() };
    assert_eq!(limit_of(&ended("", "(loop $l (br $l))", &small(limits))), "fuel");
    assert_eq!(ended("", "(nop)", &small(limits)), GuestEnd::Exited(0));
}

#[test]
fn a_component_of_too_many_instances_is_ended() {
    let many = |count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        format!(
            r#"(component (core module $m) {instances}
                 (core module $run (func (export "run") (result i32) (i32.const 0)))
                 (core instance $i (instantiate $run))
                 (func $f (result (result)) (canon lift (core func $i "run")))
                 (instance $c (export "run" (func $f)))
                 (export "wasi:cli/run@0.2.0" (instance $c)))"#
        )
    };
    let guest = Guest { limits: GuestLimits { instances: 5, ..GuestLimits::default() }, ..Guest::default() };
    assert_eq!(run_as(&many(2), &guest).end, GuestEnd::Exited(0));
    assert_eq!(limit_of(&run_as(&many(9), &guest).end), "instances");
}

/// A component that does this with a clock: `$sub` makes a handle of a time to wait for, `$poll` takes a list of handles.
fn waits(pages: u32, body: &str) -> String {
    format!(
        r#"(component
             (import "wasi:io/poll@0.2.0" (instance $po (export "pollable" (type $p (sub resource)))
               (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
             (alias export $po "pollable" (type $pt))
             (import "wasi:clocks/monotonic-clock@0.2.0" (instance $c
               (alias outer 1 $pt (type $p0)) (export "pollable" (type $p (eq $p0)))
               (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
             (core module $memm (memory (export "mem") {pages})
               (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16)))
             (core instance $mem (instantiate $memm))
             (core func $sub (canon lower (func $c "subscribe-duration")))
             (core func $poll (canon lower (func $po "poll")
               (memory (core memory $mem "mem")) (realloc (core func $mem "realloc"))))
             (core module $m
               (import "h" "sub" (func $sub (param i64) (result i32)))
               (import "h" "poll" (func $poll (param i32 i32 i32)))
               (func (export "run") (result i32) {body} (i32.const 0)))
             (core instance $i (instantiate $m
               (with "h" (instance (export "sub" (func $sub)) (export "poll" (func $poll))))))
             (func $run (result (result)) (canon lift (core func $i "run")))
             (instance $ri (export "run" (func $run)))
             (export "wasi:cli/run@0.2.0" (instance $ri)))"#
    )
}

#[test]
fn what_a_guest_takes_of_its_host_is_bounded_by_a_name() {
    let end = |pages, body| run_as(&waits(pages, body), &Guest::default()).end;
    assert_eq!(limit_of(&end(1, "(loop $l (drop (call $sub (i64.const 1))) (br $l))")), "handles");
    let poll = "(call $poll (i32.const 65536) (i32.const 34000000) (i32.const 16))";
    assert_eq!(limit_of(&end(2100, poll)), "host-data");
    assert_eq!(end(1, "(drop (call $sub (i64.const 1)))"), GuestEnd::Exited(0));
}

#[test]
fn a_trap_names_what_was_done() {
    let GuestEnd::Trapped(text) = ended("", "unreachable", &Guest::default()) else { panic!() };
    assert!(text.contains("unreachable"), "{text}");
}

#[test]
fn what_is_no_command_is_not_begun() {
    let check = |wat: &str, word: &str| {
        let Err(LoadError::NotACommand(reason)) = load(wat, Metering::Time) else { panic!("{wat}") };
        assert!(reason.contains(word), "{reason}");
    };
    check("(module)", "_start");
    check(r#"(module (func (export "_start") (param i32)))"#, "_start");
    check(r#"(module (import "env" "fork" (func)) (func (export "_start")))"#, "env");
    check("(component)", "wasi:cli/run");
}

fn with_folder(folder: &Path, access: Access) -> Guest {
    let preopen = |name: &str| Preopen { path: folder.to_owned(), name: name.to_owned(), access };
    Guest { preopens: vec![preopen(".")], ..Guest::default() }
}

fn opened(path: &str, intent: Intent, guest: &Guest) -> i32 {
    match run_as(&guests::open(path, intent), guest).end {
        GuestEnd::Exited(errno) => errno,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn no_path_leads_out_of_a_folder() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let inner = outer.path().join("in");
    std::fs::create_dir_all(inner.join("sub")).unwrap();
    std::fs::write(inner.join("own"), "o").unwrap();
    for (target, name) in [
        ("../secret", "up"),
        ("/etc/passwd", "absolute"),
        ("..", "parent"),
        ("sub/../../secret", "winding"),
        ("own", "fine"),
    ] {
        std::os::unix::fs::symlink(target, inner.join(name)).unwrap();
    }
    let guest = with_folder(&inner, Access::Write);
    for inside in ["own", "sub/../own", "./own", "fine"] {
        assert_eq!(opened(inside, Intent::Read, &guest), SUCCESS, "{inside}");
    }
    for outside in
        ["../secret", "sub/../../secret", "/etc/passwd", "up", "absolute", "parent/secret", "winding", "..", "sub/.."]
    {
        let expected = if outside == "sub/.." { SUCCESS } else { PERM };
        let errno = opened(outside, Intent::Read, &guest);
        assert!(errno == expected || (expected != SUCCESS && errno == NOTCAPABLE), "{outside}: {errno}");
    }
    assert!(opened("../made", Intent::Create, &guest) != SUCCESS);
    assert!(!outer.path().join("made").exists());
    assert_eq!(opened("made", Intent::Create, &guest), SUCCESS);
    assert!(inner.join("made").exists());
}

#[test]
fn a_folder_for_reading_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own"), "o").unwrap();
    let guest = with_folder(folder.path(), Access::Read);
    assert_eq!(opened("own", Intent::Read, &guest), SUCCESS);
    let errno = opened("made", Intent::Create, &guest);
    assert!([PERM, ROFS, NOTCAPABLE].contains(&errno), "{errno}");
    assert!(!folder.path().join("made").exists());
}

fn status(wat: &str, guest: &Guest) -> i32 {
    match run_as(wat, guest).end {
        GuestEnd::Exited(status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_act_reaches_a_name_outside() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("in");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let guest = with_folder(&inner, Access::Write);
    let renewed = || std::fs::write(inner.join("own"), "o").unwrap();
    for (act, first, inside, outside) in [
        (Act::MakeFolder, "", "folder", "../folder"),
        (Act::Symlink, "own", "link", "../link"),
        (Act::Link, "own", "other", "../other"),
        (Act::Rename, "own", "moved", "../moved"),
        (Act::Unlink, "", "own", "../secret"),
    ] {
        renewed();
        assert_ne!(status(&guests::act(act, first, outside), &guest), SUCCESS, "{act:?}");
        assert_eq!(status(&guests::act(act, first, inside), &guest), SUCCESS, "{act:?}");
    }
    renewed();
    for (act, first) in [(Act::Link, "../secret"), (Act::Rename, "../secret"), (Act::Symlink, "/etc/passwd")] {
        assert_ne!(status(&guests::act(act, first, "taken"), &guest), SUCCESS, "{act:?} {first}");
    }
    let mut left: Vec<_> = outer.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["in", "secret"]);
    // A relative symlink may be made; where it leads out, it is not followed.
    assert_eq!(status(&guests::act(Act::Symlink, "../secret", "out"), &guest), SUCCESS);
    assert_ne!(opened("out", Intent::Read, &guest), SUCCESS);
}

#[test]
fn a_guest_has_its_own_descriptors_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own"), "o").unwrap();
    let guest = with_folder(folder.path(), Access::Write);
    assert_eq!(status(&guests::count_descriptors(), &guest), 4);
    assert_eq!(status(&guests::count_descriptors(), &Guest::default()), 3);
    assert_ne!(status(&guests::renumber_over_folder("own"), &guest), SUCCESS);
    let ran = run_as(&guests::write_to_renumbered_folder(), &guest);
    assert_ne!(ran.end, GuestEnd::Exited(SUCCESS));
    assert_eq!(ran.stdout, "");
    assert_eq!(status(&guests::call("$fd_renumber (i32.const 3) (i32.const 40)"), &guest), BADF);
    assert_eq!(status(&guests::call("$fd_close (i32.const 40)"), &guest), BADF);
}

#[test]
fn a_folder_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let shown = run_as(&guests::list(), &with_folder(folder.path(), Access::Read)).stdout;
    assert!(shown.contains("first") && shown.contains("second"), "{shown:?}");
}

#[test]
fn there_are_no_sockets() {
    let guest = with_folder(Path::new("/"), Access::Read);
    for fd in [0, 1, 3, 4] {
        let accept = format!("$sock_accept (i32.const {fd}) (i32.const 0) (i32.const 40)");
        assert_ne!(status(&guests::call(&accept), &guest), SUCCESS);
        assert_ne!(status(&guests::call(&format!("$sock_shutdown (i32.const {fd}) (i32.const 3)")), &guest), SUCCESS);
    }
}

#[test]
fn clocks_chance_arguments_and_variables_work() {
    let env = vec![("KEY".to_owned(), "value".to_owned())];
    let guest = Guest { args: ["guest", "one"].map(str::to_owned).to_vec(), env, ..Guest::default() };
    for clock in [0, 1] {
        let time = format!("$clock_time_get (i32.const {clock}) (i64.const 1) (i32.const 40)");
        assert_eq!(status(&guests::call(&time), &guest), SUCCESS, "clock {clock}");
    }
    assert_eq!(status(&guests::call("$random_get (i32.const 64) (i32.const 1024)"), &guest), SUCCESS);
    assert_eq!(status(&guests::call("$sched_yield"), &guest), SUCCESS);
    let number = |call: &str, at: u32| {
        let body =
            format!("(drop (call {call} (i32.const 40) (i32.const 44))) (call $exit (i32.load (i32.const {at})))");
        status(&program("", &body), &guest)
    };
    assert_eq!((number("$args_sizes_get", 40), number("$args_sizes_get", 44)), (2, 10));
    assert_eq!((number("$environ_sizes_get", 40), number("$environ_sizes_get", 44)), (1, 10));
}

#[test]
fn an_address_outside_of_its_memory_gives_a_guest_an_error_and_not_the_host_a_fault() {
    let beyond = |call: &str| run_as(&guests::call(call), &Guest::default()).end;
    for call in [
        "$random_get (i32.const 65530) (i32.const 100)",
        "$random_get (i32.const -1) (i32.const -1)",
        "$random_get (i32.const 0) (i32.const 60000000)",
        "$fd_write (i32.const 1) (i32.const 65534) (i32.const 1000) (i32.const 0)",
        "$args_sizes_get (i32.const 65535) (i32.const 65535)",
    ] {
        match beyond(call) {
            GuestEnd::Exited(errno) => assert_ne!(errno, SUCCESS, "{call}"),
            GuestEnd::Trapped(_) => {}
            other => panic!("{call}: {other:?}, and it did start"),
        }
    }
}
