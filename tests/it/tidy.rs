//! The rules of the house: which room may know which, where `unsafe` may stand, how long a file may get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use swarm_tests::{Repository, Swarm};

/// The most lines of a file that is not a test.
const FILE_LINES_MAX: usize = 700;
/// The most lines of a `main.rs`.
const MAIN_LINES_MAX: usize = 40;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the house").to_owned()
}

/// Every file of the house with an ending, by its path from the top.
fn files(ending: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                collect(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let (mut found, top) = (Vec::new(), top());
    collect(&top, ending, &mut found);
    found.sort();
    let named = |path: &Path| path.strip_prefix(&top).expect("below it").display().to_string();
    found.iter().map(|path| (named(path), fs::read_to_string(path).expect("text"))).collect()
}

/// Crate to the names of what its product (not its tests) depends on.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(top());
    let output = cargo.output().expect("cargo runs the tests, so it is there");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo speaks JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let product = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("a list").iter();
        all.filter(|dependency| dependency["kind"].is_null()).map(|dependency| text(&dependency["name"])).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), product(package))).collect()
}

fn siblings(room: &str) -> Vec<String> {
    let arrows = arrows();
    let known = arrows.get(room).unwrap_or_else(|| panic!("no room {room}: {:?}", arrows.keys()));
    known.iter().filter(|name| name.starts_with("swarm-")).cloned().collect()
}

fn nowhere(what: &str, is: impl Fn(&str, &str) -> bool) {
    let mut found = Vec::new();
    for (path, text) in files(".rs") {
        let lines = text.lines().enumerate().filter(|(_, line)| is(&path, line));
        found.extend(lines.map(|(at, line)| format!("{path}:{}: {line}", at + 1)));
    }
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

/// Whether a file is built for tests only: it stands in a tests folder, or its `mod` does behind `cfg(test)`.
fn is_test(path: &str) -> bool {
    let file = Path::new(path);
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let parent = top().join(file).with_file_name("mod.rs");
    let declared = fs::read_to_string(parent).unwrap_or_default();
    path.starts_with("tests/")
        || path.contains("/tests/")
        || name == "tests"
        || declared.contains(&format!("#[cfg(test)]\nmod {name};"))
}

#[test]
fn sandbox_and_protocol_know_no_sibling_and_plans_know_the_protocols_words() {
    for room in ["swarm-sandbox", "swarm-protocol"] {
        assert_eq!(siblings(room), Vec::<String>::new(), "{room}");
    }
    assert_eq!(siblings("swarm-plans"), ["swarm-protocol"]);
}

#[test]
fn the_coordinator_knows_plans_and_protocol_and_no_cage() {
    assert_eq!(siblings("swarm-orchestrator"), ["swarm-plans", "swarm-protocol"]);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "tree",
        "--offline",
        "--package=swarm-orchestrator",
        "--edges=normal",
        "--prefix=none",
        "--format={lib}",
    ]);
    let output = cargo.current_dir(top()).output().expect("cargo runs the tests, so it is there");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.contains("swarm_plans"), "{tree}");
    for cage in ["swarm_sandbox", "landlock", "wasmtime", "seccompiler"] {
        assert!(!tree.lines().any(|library| library.trim() == cage), "{cage}");
    }
}

#[test]
fn the_worker_knows_protocol_and_sandbox() {
    assert_eq!(siblings("swarm-worker"), ["swarm-protocol", "swarm-sandbox"]);
}

#[test]
fn the_top_of_the_house_has_these_doors_only() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "orchestrator",
        "sandbox",
        "worker",
        "plans",
        "tests",
        "README.md",
        "LICENSE",
        "target",
    ];
    let names = fs::read_dir(top()).expect("readable").map(|entry| entry.expect("readable").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let others: Vec<_> = names.filter(|name| !name.starts_with('.') && !allowed.contains(&name.as_str())).collect();
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn unsafe_stands_in_the_sandbox_and_the_launcher_each_with_its_reason() {
    for (path, text) in files(".rs") {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with("//")) {
            let forms = ["{", "fn ", "impl ", "extern "].map(|form| format!("{} {form}", "unsafe"));
            if !forms.iter().any(|form| line.contains(form.as_str())) {
                continue;
            }
            let place = ["sandbox/", "worker/src/launch", "worker/tests/"].iter().any(|place| path.starts_with(place));
            assert!(place, "{path}:{}: {line}", at + 1);
            let reasons = ["SAFETY:", "# Safety"];
            let reason = lines[at.saturating_sub(8)..=at].iter().any(|line| reasons.iter().any(|r| line.contains(r)));
            assert!(reason, "{path}:{} says no reason: {line}", at + 1);
        }
    }
}

#[test]
fn no_lint_is_switched_off_in_silence() {
    nowhere("say `expect` with a reason", |_, line| {
        line.contains(concat!("#[", "allow(")) || line.contains(concat!("#![", "allow("))
    });
}

#[test]
fn a_branch_gets_its_name_in_one_place() {
    let cut = concat!("strip_prefix(\"", "refs/heads/");
    nowhere("`ids::branch_of` does that", |path, line| path != "orchestrator/src/ids.rs" && line.contains(cut));
}

#[test]
fn a_commit_is_written_in_one_place() {
    let mut found = Vec::new();
    for (path, text) in files(".rs").into_iter().filter(|(path, _)| !is_test(path)) {
        let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        // A transaction's takes nothing, and git's the name of a ref or none.
        let calls = product.match_indices(".commit(").map(|(at, call)| (at, product[at + call.len()..].trim_start()));
        let of_git = calls.filter(|(_, rest)| rest.starts_with("None") || rest.starts_with("Some("));
        found.extend(of_git.map(|(at, _)| format!("{path}:{}", product[..at].lines().count())));
    }
    assert!(found.is_empty(), "libgit2 says that it wrote one that it did not; `commit::write_commit`: {found:?}");
}

#[test]
fn the_thread_that_decides_waits_for_no_disk() {
    // What goes to the pool has the executor by another name.
    let acts = [".discard(", ".worktree(", ".layered(", ".settle("].map(|act| format!("self.trees{act}"));
    let at_once =
        ["places.clear(&self.state)", "Transcript::create(&talk.", "self.recorded(", "self.gone(", " places.handed()"];
    nowhere("it blocks: let the pool do it", |path, line| {
        path.starts_with("orchestrator/src/executor/")
            && (acts.iter().any(|act| line.contains(act)) || at_once.iter().any(|act| line.contains(act)))
            && path != "orchestrator/src/executor/shell.rs"
    });
}

#[test]
fn nothing_waits_to_be_done() {
    let words = [concat!("to", "do!("), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimpl", "emented!(")];
    nowhere("do it or drop it", |_, line| words.iter().any(|word| line.contains(word)));
}

#[test]
fn libraries_name_their_errors() {
    nowhere("`anyhow` belongs to programs", |path, line| {
        !path.starts_with("orchestrator/cli") && !path.starts_with("tests/") && line.contains(concat!("any", "how::"))
    });
}

#[test]
fn libraries_do_not_print_nor_read_the_environment() {
    let acts = ["println!(", "eprintln!(", "env::var", "env::current_dir"];
    nowhere("the cli does that", |path, line| {
        let library =
            path.starts_with("orchestrator/src") || path.starts_with("plans/src") || path.starts_with("sandbox/src");
        // Tests stand at the end of a file, one step in.
        library && !line.starts_with("        ") && acts.iter().any(|act| line.contains(act)) && !is_test(path)
    });
}

#[test]
fn files_stay_small_and_say_what_they_are() {
    for (path, text) in files(".rs") {
        let lines = text.lines().count();
        assert!(is_test(&path) || lines <= FILE_LINES_MAX, "{path} has {lines} lines: look for the second concept");
        assert!(!path.ends_with("main.rs") || is_test(&path) || lines <= MAIN_LINES_MAX, "{path} has {lines} lines");
        assert!(text.starts_with("//!") || text.starts_with("#!["), "{path} has no head");
    }
}

#[test]
fn every_example_plan_passes_its_check() {
    let repository = Repository::with(&[("Cargo.toml", "")]);
    let plans = files(".toml")
        .into_iter()
        .filter(|(path, text)| path.starts_with("plans/examples/") && text.contains("[tasks"));
    let plans: Vec<_> = plans.map(|(path, _)| top().join(path).display().to_string()).collect();
    assert!(plans.len() >= 6, "{plans:?}");
    for plan in plans {
        Swarm::new(&repository, &["check", &plan]).exits(0);
    }
}
