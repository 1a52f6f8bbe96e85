//! WebAssembly guests as tasks: what they change lands, what they must not do they cannot, and how they end is named.

use swarm_tests::{Ended, Repository, Swarm};

use crate::guests::{self, Intent};

/// The component of the example plan, made from the source beside it.
const RENAME: &[u8] = include_bytes!("../../plans/examples/wasm/rename.wasm");

fn assembled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("a module")
}

/// A repository with a guest in `tools/guest.wasm` and two files.
fn house(guest: &[u8]) -> Repository {
    Repository::with(&[
        ("tools/guest.wasm", guest),
        ("src/one.rs", b"fn old() { old_er(); old() }\n"),
        ("src/two.rs", b"// old\n"),
        ("README", b"base\n"),
    ])
}

fn run(guest: &[u8], plan: &str, code: i32) -> (Repository, Ended) {
    let repository = house(guest);
    let ended = Swarm::run(&repository, "it", plan).exits(code);
    (repository, ended)
}

/// A task `a` that runs the guest.
fn task(keys: &str) -> String {
    format!("[tasks.a]\nwasm = {{ module = \"tools/guest.wasm\" }}\n{keys}")
}

#[test]
fn a_component_refactors_files_one_instance_each() {
    let plan = r#"
        [tasks.rename]
        foreach.file = { glob = "src/*.rs" }
        wasm = { module = "tools/guest.wasm", args = ["old", "new", "{{ file }}"], fuel = 100_000_000 }
        writes = ["{{ file }}"]
    "#;
    let (repository, _) = run(RENAME, plan, 0);
    assert_eq!(repository.text("swarm/it", "src/one.rs"), "fn new() { old_er(); new() }\n");
    assert_eq!(repository.text("swarm/it", "src/two.rs"), "// new\n");
    let log = Swarm::new(&repository, &["logs", "rename[file=src/one.rs]"]).exits(0);
    assert!(log.out.contains("src/one.rs: 2"), "{log}");
}

#[test]
fn a_need_hands_over_the_module() {
    let plan = r#"
        [tasks.build]
        run = 'cp tools/guest.wasm "$SWARM_ARTIFACTS/tool.wasm"; echo made > "$SWARM_ARTIFACTS/note"'
        [tasks.use]
        needs = ["build"]
        wasm = { module = "$SWARM_NEEDS/build/tool.wasm", args = ["old", "new", "/src/two.rs"] }
        [tasks.hostile]
        run = 'ln -s /etc/passwd "$SWARM_ARTIFACTS/tool.wasm"'
        [tasks.fooled]
        needs = ["hostile"]
        wasm = "$SWARM_NEEDS/hostile/tool.wasm"
    "#;
    let (repository, ended) = run(RENAME, plan, 1);
    assert_eq!(repository.text("swarm/it", "src/two.rs"), "// new\n");
    assert_eq!((ended.result("use"), ended.result("fooled")), ("succeeded".to_owned(), "failed".to_owned()));
}

#[test]
fn a_guest_hands_over_artifacts_and_reads_those_of_its_needs() {
    let plan = r#"
        [tasks.first]
        run = 'echo "say old" > "$SWARM_ARTIFACTS/words"'
        [tasks.a]
        needs = ["first"]
        wasm = { module = "tools/guest.wasm", args = ["old", "new", "{{ seed }}"] }
        env = { X = "1" }
    "#;
    // The guest cannot change what a need handed over: its folder is for reading.
    let plan = format!("seed = 1\n{}", plan.replace("{{ seed }}", "/run/swarm/in/needs/first/words"));
    let (repository, _) = run(RENAME, &plan, 1);
    let log = Swarm::new(&repository, &["logs", "a"]).exits(0);
    assert!(log.out.contains("words: Read-only file system") || log.out.contains("not permitted"), "{log}");
}

#[test]
fn a_task_that_writes_nothing_has_its_tree_for_reading() {
    let guest = assembled(&guests::open("made", Intent::Create));
    let (repository, _) = run(&guest, &task(""), 0);
    assert!(repository.files("swarm/it").contains_key("made"), "the control");
    let (_, ended) = run(&guest, &task("writes = []"), 1);
    assert_eq!(ended.result("a"), "failed", "the guest was told, not its task convicted");
}

#[test]
fn each_way_of_attempt_60_ends_by_name() {
    for (wat, keys, result, word) in [
        (guests::grow_table(), "", "violation", "`table`"),
        (guests::recurse(), "", "violation", "`stack`"),
        (guests::spin(), "timeout = \"1s\"", "timed-out", ""),
        (guests::storm(), "timeout = \"1s\"", "timed-out", ""),
        (guests::sleep(), "timeout = \"1s\"", "timed-out", ""),
        (guests::grow_memory(), "sandbox = \"small\"\n[sandbox.small]\nmemory = \"256MiB\"", "violation", "`memory`"),
    ] {
        let (repository, ended) = run(&assembled(&wat), &task(keys), 1);
        assert_eq!(ended.result("a"), result, "{ended}");
        let report = Swarm::new(&repository, &["report"]).end();
        assert!(report.out.contains(word), "{word}: {report}");
    }
    let fuel = "[tasks.a]\nwasm = { module = \"tools/guest.wasm\", fuel = 100_000 }\n";
    let (repository, ended) = run(&assembled(&guests::spin()), fuel, 1);
    assert_eq!(ended.result("a"), "violation");
    let report = Swarm::new(&repository, &["report"]).end();
    assert!(report.out.contains("`fuel`"), "{report}");
}

#[test]
fn no_path_leads_out_of_the_tree() {
    for path in ["/etc/passwd", "../../etc/passwd", "up", "/up", "absolute"] {
        let repository = house(&assembled(&guests::open(path, Intent::Read)));
        std::os::unix::fs::symlink("../../../../../../etc/passwd", repository.path().join("up")).expect("a symlink");
        std::os::unix::fs::symlink("/etc/passwd", repository.path().join("absolute")).expect("a symlink");
        repository.commit_all("links\n");
        let ended = Swarm::run(&repository, "it", &task("")).exits(1);
        assert_eq!(ended.result("a"), "failed", "{path}: {ended}");
    }
    run(&assembled(&guests::open("README", Intent::Read)), &task(""), 0);
}

#[test]
fn a_module_that_is_none_is_said_to_be_none() {
    for (guest, plan, word) in [
        (&b"#!/bin/sh\n"[..], task(""), "neither a WebAssembly module nor a component"),
        (RENAME, "[tasks.a]\nwasm = \"tools/other.wasm\"\n".to_owned(), "no such file"),
        (RENAME, "[tasks.a]\nwasm = \"tools\"\n".to_owned(), "no plain file"),
        (RENAME, "[tasks.a]\nwasm = \"$SWARM_NEEDS/b/x.wasm\"\n".to_owned(), "none of the task's needs"),
    ] {
        let (repository, ended) = run(guest, &plan, 1);
        assert_eq!(ended.result("a"), "failed", "{ended}");
        let report = Swarm::new(&repository, &["report"]).end();
        assert!(report.out.contains(word), "{word}: {report}");
    }
}

#[test]
fn with_fuel_a_guest_meets_the_same_time_and_chance_again() {
    // Writes a time of each clock and 16 random bytes into a file of the tree.
    let guest = assembled(&guests::chance());
    let plan = |fuel: &str| format!("seed = 7\n[tasks.a]\nwasm = {{ module = \"tools/guest.wasm\"{fuel} }}\n");
    let made = |fuel: &str| run(&guest, &plan(fuel), 0).0.files("swarm/it")["chance"].clone();
    assert_eq!(made(", fuel = 1_000_000"), made(", fuel = 1_000_000"));
    assert_ne!(made(""), made(""), "the control: without fuel both differ");
}

#[test]
fn a_guest_runs_without_a_plan_with_what_the_command_line_gives_it() {
    let repository = house(RENAME);
    let folder = repository.path().display().to_string();
    let dir = format!("{folder}/src::/in");
    let wasm = |arguments: &[&str]| {
        let all: Vec<&str> = ["wasm", "--dir", &dir, "tools/guest.wasm"].iter().chain(arguments).copied().collect();
        Swarm::new(&repository, &all)
    };
    let ended = wasm(&["old", "new", "/in/one.rs"]).exits(0);
    assert_eq!(ended.out, "/in/one.rs: 2\n");
    assert_eq!(
        std::fs::read_to_string(repository.path().join("src/one.rs")).unwrap(),
        "fn new() { old_er(); new() }\n"
    );
    // A component of preview 2 can say no more than that it failed.
    wasm(&["one word"]).exits(1);
    let refused = wasm(&["base", "new", "/in/../README"]).exits(1);
    assert!(!refused.err.is_empty() && repository.text("main", "README") == "base\n", "{refused}");

    std::fs::write(repository.path().join("tools/spin.wasm"), assembled(&guests::spin())).expect("space");
    let ended = Swarm::new(&repository, &["wasm", "--fuel", "1000", "tools/spin.wasm"]).exits(134);
    assert!(ended.err.contains("`fuel`"), "{ended}");
    Swarm::new(&repository, &["wasm", "--timeout", "1", "tools/spin.wasm"]).exits(134);
    Swarm::new(&repository, &["wasm", "README"]).exits(3);
}

#[test]
fn the_example_component_is_made_from_the_source_beside_it() {
    let installed = std::process::Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .output()
        .is_ok_and(|found| std::path::Path::new(String::from_utf8_lossy(&found.stdout).trim()).exists());
    if !installed {
        swarm_protocol::skipped::say("the target wasm32-wasip2 is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("space");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../plans/examples/wasm/rename.rs");
    let made = std::process::Command::new("rustc")
        .args("--edition 2024 --target wasm32-wasip2 -C opt-level=s -C panic=abort -C strip=symbols".split(' '))
        .args([source, "-o"])
        .arg(folder.path().join("rename.wasm"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "rustc makes a component of it");
    // Another compiler makes other bytes; what they do is the same.
    let repository = house(&std::fs::read(folder.path().join("rename.wasm")).expect("it was made"));
    let plan = "[tasks.a]\nwasm = { module = \"tools/guest.wasm\", args = [\"old\", \"new\", \"src/one.rs\"] }\n";
    Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(repository.text("swarm/it", "src/one.rs"), "fn new() { old_er(); new() }\n");
}

#[test]
fn a_guest_by_hand_gets_no_folder_that_no_plan_could_have_written() {
    let repository = house(RENAME);
    let home = repository.home();
    for folder in [".local/bin", ".cache", "data"] {
        std::fs::create_dir_all(home.join(folder)).expect("a folder");
    }
    let given = |folder: std::path::PathBuf, code: i32, word: &str| {
        let dir = format!("{}::/in", folder.display());
        let command = ["wasm", "--dir", &dir, "tools/guest.wasm", "old", "new", "/in/one.rs"];
        let ended = Swarm::new(&repository, &command).exits(code);
        assert!(ended.err.contains(word), "{ended}");
    };
    std::fs::write(home.join("data/one.rs"), "old\n").expect("a file");
    given(home.join("data"), 0, "");
    given(repository.path().join("src"), 0, "");
    given(home.join(".local/bin"), 2, "runs by itself");
    given(home.join(".cache"), 2, "swarm's own state");
    given(repository.path(), 2, "swarm's own state");
    given(repository.path().join(".git/swarm/wasm/compiled"), 2, "swarm's own state");
}

#[test]
fn files_with_names_elsewhere_are_named_before_they_are_opened() {
    let repository = house(&assembled("(module (memory (export \"memory\") 1) (func (export \"_start\")))"));
    let store = repository.beside("store");
    std::fs::create_dir_all(&store).expect("a folder");
    std::fs::hard_link(repository.path().join("src/one.rs"), store.join("one")).expect("one file system");
    std::fs::hard_link(repository.path().join("src/two.rs"), repository.path().join("src/same.rs")).expect("the same");
    let dir = format!("{}::/in", repository.path().join("src").display());
    let said = Swarm::new(&repository, &["wasm", "--dir", &dir, "tools/guest.wasm"]).exits(0).err;
    assert!(said.contains("1 file has a name outside of") && said.contains(": one.rs\n"), "{said}");
    let ended = Swarm::new(&repository, &["sandbox", "--", "sh", "-c", "echo new > src/one.rs"]).end();
    if ended.code != 3 {
        assert!(ended.code == 0 && ended.err.contains("there: src/one.rs\n"), "{ended}");
        assert_eq!(
            std::fs::read_to_string(store.join("one")).expect("it is there"),
            "new\n",
            "which is why it is said"
        );
    }
    let ended = Swarm::new(&repository, &["sandbox", "--ro", "--", "true"]).exits(0);
    assert!(!ended.err.contains("outside of"), "nothing of it can be written: {ended}");
}
