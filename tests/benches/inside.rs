//! What work costs inside the cage, against the same work outside: `cargo build --release && cargo bench -p swarm-tests --bench inside`.
//!
//! A script times itself, so that the launch does not count: `git status` twenty times on 5,000 files, and a C compiler on
//! 3,000 functions, which is forks, reading, and writing into the worktree. Inside and outside take turns.

/// Generated repositories and clocks.
mod scene;

use std::process::{Command, Stdio};

use scene::Scene;

const ROUNDS: usize = 7;

/// Prints nanoseconds: of all `git status`, then of the compiler.
const SCRIPT: &str = r#"
git status --porcelain >/dev/null
begin=$(date +%s%N); i=0
while [ $i -lt 20 ]; do git status --porcelain >/dev/null; i=$((i + 1)); done
end=$(date +%s%N); echo $((end - begin))
awk 'BEGIN { for (i = 0; i < 3000; i++) printf "int f%d(int x) { for (int i = 0; i < x; i++) x ^= i * %d; return x; }\n", i, i }' > big.c
begin=$(date +%s%N)
cc -O1 -c big.c -o big.o
end=$(date +%s%N); echo $((end - begin))
rm -f big.c big.o
"#;

fn main() {
    let Some(swarm) = scene::swarm() else { return };
    if !scene::has_git() || Command::new("cc").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: git and cc have to be there");
        return;
    }
    let scene = Scene::generate(5_000);
    scene.run_git(&["reset", "--quiet", "--hard"]);
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut shell = Command::new("sh");
        outside.push(times(shell.args(["-euc", SCRIPT]), &scene));
        let mut caged = Command::new(&swarm);
        inside.push(times(caged.args(["exec", "--", "sh", "-euc", SCRIPT]), &scene));
    }
    println!("the same work outside and inside the cage, medians of {ROUNDS}, in milliseconds, and their ratio:");
    for (at, name) in ["git status ×20", "cc -O1"].into_iter().enumerate() {
        let (outside, inside) = (middle(&outside, at), middle(&inside, at));
        println!("  {name:16} {outside:9.1} {inside:9.1} {:7.3}", inside / outside);
    }
}

/// What the script printed, in milliseconds.
fn times(command: &mut Command, scene: &Scene) -> Vec<f64> {
    let output = command.current_dir(scene.path()).stdin(Stdio::null()).output().expect("it starts");
    // `swarm exec` keeps its stdout for what was changed.
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let times: Vec<f64> =
        text.lines().filter_map(|line| line.trim().parse::<f64>().ok()).map(|nanos| nanos / 1e6).collect();
    assert_eq!(times.len(), 2, "{text}");
    times
}

fn middle(rounds: &[Vec<f64>], at: usize) -> f64 {
    let mut times: Vec<f64> = rounds.iter().map(|round| round[at]).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
