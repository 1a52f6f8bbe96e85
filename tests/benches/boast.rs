//! The demonstration: `cargo build --release && cargo bench -p swarm-tests --bench boast -- [TASKS [FILES]]`.
//!
//! 1,000 tasks on a repository of 80,000 files, each caged in a worktree of its own and editing three files, merged into
//! one branch by the real program. Prints wall time, disk and memory; the merged tree must equal one sequential edit.

/// Generated repositories and clocks.
mod scene;

use std::process::{Command, Stdio};

use scene::{Scene, disk_bytes, ms};

/// Files that one task edits.
const EDITS: usize = 3;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let tasks = numbers.first().copied().unwrap_or(1_000);
    let files = numbers.get(1).copied().unwrap_or(80_000);
    let Some(swarm) = scene::swarm() else { return };
    let scene = Scene::generate(files);
    let plan = scene.beside("boast.toml");
    std::fs::write(&plan, plan_text(tasks, files)).expect("writable");

    let objects = scene.path().join(".git");
    let before = disk_bytes(&objects);
    let mut command = Command::new(swarm);
    command.current_dir(scene.path()).arg("run").arg(&plan).args(["-j2", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(scene.beside("talk")).expect("writable"));
    let finished = scene::watch(command);
    let kept = disk_bytes(&objects) - before;
    let bases = disk_bytes(&objects.join("swarm/bases"));
    println!("{tasks} tasks on {files} files, {EDITS} files each, at -j2:");
    println!(
        "  wall time                 {:8.1} s ({:.2} ms a task)",
        ms(finished.wall) / 1e3,
        ms(finished.wall) / tasks as f64
    );
    println!("  processor time            {:8.1} s", ms(finished.cpu) / 1e3);
    println!("  shared checkout           {:8.1} MiB, once for all runs", mib(bases));
    println!(
        "  all else on disk          {:8.1} MiB ({:.1} KiB a task)",
        mib(kept - bases),
        (kept - bases) as f64 / 1024.0 / tasks as f64
    );
    println!("  coordinator's peak memory {:8.1} MiB", finished.peak_kib as f64 / 1024.0);
    let talk = std::fs::read_to_string(scene.beside("talk")).unwrap_or_default();
    assert!(finished.passed, "the run failed:\n{talk}");

    let repo = scene.open();
    let merged = repo.revparse_single("refs/heads/swarm/boast^{tree}").expect("the run made a branch").id();
    let sequential = scene.edited(&repo, 0..tasks * EDITS);
    assert_eq!(merged, sequential, "the merged tree is the tree of one sequential edit");
    println!("  merged tree               identical to one sequential edit ({merged})");
    let head = repo.head().expect("a branch").target();
    assert_eq!(head, Some(scene.commit), "the checked-out branch stayed where it was");
}

/// Task `n` edits the files `3n`, `3n + 1`, `3n + 2`, as [`Scene::edited`] does.
fn plan_text(tasks: usize, files: usize) -> String {
    assert!(tasks * EDITS <= files, "every task edits its own files");
    format!(
        r#"version = 1
name = "boast"

[tasks.edit]
foreach.n = {{ lines = "seq 0 {last}" }}
foreach-max = {tasks}
env = {{ N = "{{{{ n }}}}" }}
run = '''
for edit in 0 1 2; do
  number=$((N * {EDITS} + edit))
  folder=$((number / 100))
  file=$(printf 'part_%03d/module_%02d/file_%06d.txt' $((folder / 50)) $((folder % 50)) $number)
  sed -i "1i edited $number" "$file"
done
'''
"#,
        last = tasks - 1,
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
