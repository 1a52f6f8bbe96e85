//! The merge train: `cargo build --release && cargo bench -p swarm-tests --bench train -- [RESULTS [FILES]]`.
//!
//! Tasks that each edit one file, a gate that passes (`true`, so that its own time is only a caged start), everything published
//! together: the time between the last result and the landed branch is the train's own. Once more with four results
//! that turn the gate red, which have to be found. At last the same search with a gate that builds: it makes one file of each of
//! a thousand, where that is missing or older, with a program each. Once the guesses of the search find what was built on the base, once they do not,
//! because the gate throws it away first. Times are those of the run's own events.

/// Generated repositories and clocks.
mod scene;

use std::process::{Command, Stdio};

use scene::Scene;
use serde_json::Value;

/// Results that turn the gate red, in the second pass.
const CULPRITS: usize = 4;

/// Results of the pass in which the gate builds.
const BUILT_RESULTS: usize = 100;

/// What the gate does beside looking for culprits.
#[derive(Clone, Copy)]
enum Gate {
    Looks,
    /// It builds over what it finds.
    Builds,
    /// It throws away what it finds, and builds.
    BuildsAnew,
}

impl Gate {
    fn name(self) -> &'static str {
        match self {
            Gate::Looks => "looks",
            Gate::Builds => "builds",
            Gate::BuildsAnew => "builds-anew",
        }
    }

    /// Its commands, in one line.
    fn command(self) -> String {
        let build = "mkdir -p .built && for file in part_000/module_0*/*; do out=.built/${file##*/}; \
                     test -e $out && ! test $file -nt $out || cksum $file > $out; done; ";
        let before = match self {
            Gate::Looks => String::new(),
            Gate::Builds => build.to_owned(),
            Gate::BuildsAnew => format!("rm -rf .built; {build}"),
        };
        format!("{before}! grep -rqs '^bad' part_000/module_0*")
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let all_results = numbers.first().map_or(vec![10, 100, 1_000], |&only| vec![only]);
    let all_files = numbers.get(1).map_or(vec![10_000, 100_000], |&only| vec![only]);
    let Some(swarm) = scene::swarm() else { return };
    println!("from the last result to the landed branch, at -j2:");
    println!("   files  results  culprits         gate  verifications  last result to landed  ms a result");
    for &files in &all_files {
        let scene = Scene::generate(files);
        for &results in &all_results {
            for culprits in [0, CULPRITS] {
                measure(&scene, &swarm, (results, culprits), Gate::Looks);
            }
        }
        std::fs::write(scene.path().join(".git/info/exclude"), ".built\n").expect("writable");
        for gate in [Gate::BuildsAnew, Gate::Builds] {
            measure(&scene, &swarm, (BUILT_RESULTS, CULPRITS), gate);
        }
    }
}

fn measure(scene: &Scene, swarm: &std::path::Path, (results, culprits): (usize, usize), gate: Gate) {
    let name = format!("train-{results}-{culprits}-{}", gate.name());
    let plan = scene.beside(&format!("{name}.toml"));
    std::fs::write(&plan, plan_text(&name, (results, culprits), gate)).expect("writable");
    let out = Command::new(swarm)
        .current_dir(scene.path())
        .arg("run")
        .arg(&plan)
        .args(["-j2", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&out.stdout);
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
    let last = |kind| of(kind).filter_map(|event| event["at-ms"].as_u64()).max();
    let landed = of("merged").filter(|event| event["fate"]["fate"] == "landed").count();
    assert_eq!(landed, results - culprits, "{text}");
    let took = last("merged").zip(last("instance-finished")).map_or(0, |(landed, ended)| landed.saturating_sub(ended));
    let verifications = of("verified").filter(|event| event["of"]["what"] == "results").count();
    println!(
        "{:8} {results:8} {culprits:9} {:>12} {verifications:14} {took:19} ms {:12.2}",
        scene.files,
        gate.name(),
        took as f64 / results as f64
    );
}

/// Task `n` edits file `n`; the first lines of the culprits' files say so, spread over all.
fn plan_text(name: &str, (results, culprits): (usize, usize), gate: Gate) -> String {
    let every = (results / culprits.max(1)).max(1);
    // One batch: with all of them known, what is measured does not depend on when which task ends.
    format!(
        r#"version = 1
name = "{name}"

[merge]
verify = {{ run = """{gate}""", batch = {results}, retry = 0 }}

[tasks.edit]
foreach.n = {{ lines = "seq 0 {last}" }}
foreach-max = {results}
env = {{ N = "{{{{ n }}}}" }}
run = '''
folder=$((N / 100))
file=$(printf 'part_%03d/module_%02d/file_%06d.txt' $((folder / 50)) $((folder % 50)) $N)
word=edited
if test $((N / {every})) -lt {culprits} && test $((N % {every})) -eq $(({every} - 1)); then word=bad; fi
sed -i "1i $word $N" "$file"
'''
"#,
        last = results - 1,
        gate = gate.command(),
    )
}
