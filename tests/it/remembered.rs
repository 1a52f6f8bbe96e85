//! What the gate found green before: for how long it counts, and how a person asks anew.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use swarm_tests::{Repository, Swarm};

const FOUND_RED: i32 = 6;

/// A program of the person's own on PATH that says how often it ran, and is green while a file in its folder says so.
struct Program {
    repository: Repository,
    folder: std::path::PathBuf,
}

impl Program {
    fn new() -> Program {
        let repository = Repository::with(&[("a.txt", "1\n")]);
        let it = Program { folder: repository.beside("bin"), repository };
        fs::create_dir_all(&it.folder).expect("space");
        it.is(0);
        it.says("1");
        it
    }

    /// Makes another program of it.
    fn is(&self, code: i32) {
        // Its file is another one each time, whatever the clock of the file system says.
        let (new, file) = (self.folder.join("new"), self.folder.join("gate"));
        let text = format!("#!/bin/sh\ntest $(cat {}/word) = 1 && exit {code}\n", self.folder.display());
        fs::write(&new, text).expect("space");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("ours");
        fs::rename(&new, &file).expect("ours");
    }

    /// What it looks at besides.
    fn says(&self, word: &str) {
        fs::write(self.folder.join("word"), word).expect("space");
    }

    fn run(&self, merge: &str, into: &str, args: &[&str], code: i32) {
        let plan = format!("[tasks.a]\nrun = 'echo 2 > a.txt'\n[merge]\n{merge}\n");
        let path = format!("{}:{}", self.folder.display(), std::env::var("PATH").unwrap_or_default());
        Swarm::run(&self.repository, "it", &plan).env("PATH", &path).args(&["--into", into]).args(args).exits(code);
    }
}

#[test]
fn a_green_verdict_counts_until_the_gate_is_another_program() {
    let it = Program::new();
    let merge = "verify = 'gate'";
    it.run(merge, "one", &[], 0);
    it.is(1);
    it.run(merge, "two", &[], FOUND_RED);
    it.is(0);
    it.run(merge, "three", &[], 0);
}

#[test]
fn a_green_verdict_is_asked_for_anew_by_a_flag_and_forgotten_with_the_results() {
    let it = Program::new();
    let merge = "verify = 'gate'";
    it.run(merge, "one", &[], 0);
    it.says("0");
    it.run(merge, "two", &[], 0);
    it.run(merge, "three", &["--no-cache"], FOUND_RED);
    Swarm::new(&it.repository, &["clean", "--cache", "--dry-run"]).exits(0);
    it.run(merge, "four", &[], 0);
    Swarm::new(&it.repository, &["clean", "--cache"]).exits(0);
    it.run(merge, "five", &[], FOUND_RED);
}

#[test]
fn what_the_fingerprint_of_the_gate_prints_belongs_to_its_verdicts() {
    let it = Program::new();
    let merge = |fingerprint: &str| format!("verify = {{ run = 'gate', fingerprint = '{fingerprint}' }}");
    let word = format!("cat {}/word", it.folder.display());
    it.run(&merge(&word), "one", &[], 0);
    it.run(&merge(&word), "two", &[], 0);
    it.says("0");
    it.run(&merge("echo same"), "three", &[], FOUND_RED);
    it.run(&merge(&word), "four", &[], FOUND_RED);
    it.says("1");
    it.run(&merge("echo same"), "five", &[], 0);
    it.says("0");
    it.run(&merge("echo same"), "six", &[], 0);
    // Where it fails, nothing is remembered.
    it.run(&merge("exit 1"), "seven", &[], FOUND_RED);
}
