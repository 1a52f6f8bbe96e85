//! Real source trees, as cargo has downloaded them for this very build, edited by many tasks at once: the merged tree must
//! be the one that a single person working from file to file would have made.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use swarm_tests::{Answers, Repository, Swarm};

/// Crates that this house depends on; the last has a whole C library in it.
const CRATES: [&str; 7] =
    ["anyhow-", "clap_builder-", "globset-", "indexmap-", "memchr-", "serde_json-", "libgit2-sys-"];
const HEADER: &str = "// SPDX-License-Identifier: MIT\n";

/// The folders of the crates, where cargo keeps them.
fn sources() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    let folders = registries.into_iter().flatten().flatten().filter_map(|registry| fs::read_dir(registry.path()).ok());
    let mut all: Vec<PathBuf> = folders.flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    let wanted =
        |name: &str| all.iter().find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name)));
    CRATES.iter().filter_map(|name| wanted(name).cloned()).collect()
}

/// Every file below a folder, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable")) {
        let kind = entry.file_type().expect("readable");
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// A repository of real crates, a folder each, and the folders' names; `None` where cargo keeps none.
fn house_of_crates() -> Option<(Repository, Vec<String>)> {
    let sources = sources();
    if sources.len() < 2 {
        swarm_protocol::skipped::say("cargo keeps no sources here");
        return None;
    }
    let repository = Repository::empty();
    let mut names = Vec::new();
    for source in sources {
        let name = source.file_name().expect("it was listed").to_string_lossy().into_owned();
        for file in files_below(&source) {
            let below = file.strip_prefix(&source).expect("below it");
            repository.write(Path::new(&name).join(below), fs::read(&file).expect("readable"));
        }
        names.push(name);
    }
    repository.commit_all("real\n");
    Some((repository, names))
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ["rs", "c", "h"].iter().any(|known| ending == *known))
}

#[test]
fn a_header_on_every_file_equals_one_sequential_edit() {
    let Some((repository, names)) = house_of_crates() else { return };
    let plan = format!(
        "[tasks.header]\nforeach.dir = [{}]\nenv = {{ DIR = '{{{{ dir }}}}' }}\nwrites = ['{{{{ dir }}}}/**']\nrun = '''\n\
         new=$(mktemp)\nfind \"$DIR\" -type f \\( -name '*.rs' -o -name '*.c' -o -name '*.h' \\) | while read -r file; do\n\
         {{ printf '{}\\n'; cat \"$file\"; }} > \"$new\"; cat \"$new\" > \"$file\"\ndone\n'''\n",
        list(&names),
        HEADER.trim_end()
    );
    let ended = Swarm::run(&repository, "header", &plan).exits(0);
    assert!(ended.fates().values().all(|fate| fate == "landed"), "{ended}");
    for file in names.iter().flat_map(|name| files_below(&repository.path().join(name))).filter(|file| is_source(file))
    {
        let content = fs::read(&file).expect("readable");
        fs::write(&file, [HEADER.as_bytes(), &content].concat()).expect("writable");
    }
    repository.commit_all("by hand\n");
    assert_eq!(repository.tree("swarm/header"), repository.tree("main"), "{}", ended.err);
}

#[test]
fn a_rename_over_all_folders_equals_one_sequential_rename() {
    let Some((repository, names)) = house_of_crates() else { return };
    let plan = format!(
        "[tasks.rename]\nforeach.dir = [{}]\nenv = {{ DIR = '{{{{ dir }}}}' }}\nrun = 'if test -d \"$DIR/src\"; then mv \"$DIR/src\" \"$DIR/source\"; else mv \"$DIR/lib.rs\" \"$DIR/main.rs\"; fi'\n\
         [tasks.after]\nneeds = ['rename']\nrun = 'ls -d */source > folders.txt'\n",
        list(&names)
    );
    let ended = Swarm::run(&repository, "rename", &plan).exits(0);
    let mut folders = Vec::new();
    for name in &names {
        let folder = repository.path().join(name);
        let (from, to) = if folder.join("src").is_dir() { ("src", "source") } else { ("lib.rs", "main.rs") };
        fs::rename(folder.join(from), folder.join(to)).expect("writable");
        if to == "source" {
            folders.push(format!("{name}/source\n"));
        }
    }
    folders.sort();
    repository.write("folders.txt", folders.concat());
    repository.commit_all("by hand\n");
    assert_eq!(repository.tree("swarm/rename"), repository.tree("main"), "{}", ended.err);
}

#[test]
fn agents_work_at_once_in_real_crates_and_the_gate_lets_the_sound_changes_land() {
    let Some((repository, names)) = house_of_crates() else { return };
    let names: Vec<String> =
        names.into_iter().filter(|name| repository.path().join(name).join("Cargo.toml").exists()).take(4).collect();
    let broken = names.last().expect("crates have manifests").clone();
    let mut answers = Answers::beside(&repository, "replay");
    for name in &names {
        let path = format!("{name}/Cargo.toml");
        let table = if *name == broken { "[pakcage]\n" } else { "# Looked after by us.\n[package]\n" };
        let talk = [
            ("I look around.", vec![("glob", json!({"pattern": format!("{name}/**/*.toml")}))]),
            ("", vec![("read", json!({"path": path})), ("grep", json!({"pattern": "^name", "path": name}))]),
            ("", vec![("edit", json!({"path": path, "old": "[package]\n", "new": table}))]),
            ("", vec![("finish", json!({"status": "done", "summary": name, "evidence": [], "follow_ups": []}))]),
        ];
        let talk: Vec<_> = talk.iter().map(|(text, calls)| (*text, &calls[..])).collect();
        answers = answers.conversation(&format!("fix[dir={name}]"), &talk);
    }
    let plan = format!(
        "[merge]\nverify = {{ run = 'for file in */Cargo.toml; do grep -q \"^.package.$\" \"$file\"; done', retry = 0 }}\n\
         [tasks.fix]\nforeach.dir = [{}]\nagent = {{ prompt = 'Say who looks after {{{{ dir }}}}.' }}\nwrites = ['{{{{ dir }}}}/**']\n",
        list(&names)
    );
    let arguments = ["-j4", "--replay", answers.folder()];
    let ended = Swarm::run(&repository, "agents", &plan).args(&arguments).exits(5);
    for name in &names {
        let (fate, text) = (ended.fate(&format!("fix[dir={name}]")), format!("{name}/Cargo.toml"));
        let landed = repository.text("swarm/agents", &text).contains("# Looked after by us.\n[package]\n");
        assert_eq!((fate == "landed", landed), (*name != broken, *name != broken), "{name}: {fate}\n{ended}");
    }
    assert!(repository.text("swarm/agents", &format!("{broken}/Cargo.toml")).contains("\n[package]\n"), "{ended}");
}
