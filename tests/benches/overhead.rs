//! What a task costs that does nothing: `cargo build --release && cargo bench -p swarm-tests --bench overhead -- [TASKS]`.
//!
//! 10,000 `true` tasks through `swarm run -j2`, each caged, collected and recorded, against a loop that only spawns, and
//! `xargs -P2`, in the same run.

/// Generated repositories and clocks.
mod scene;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scene::{Scene, ms};

fn main() {
    let tasks: usize = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(10_000);
    let Some(swarm) = scene::swarm() else { return };
    let scene = Scene::generate(100);
    let plan = scene.beside("overhead.toml");
    let text = format!(
        "version = 1\nname = \"overhead\"\n[tasks.nothing]\nforeach.n = {{ lines = \"seq 1 {tasks}\" }}\nforeach-max = {tasks}\nargv = [\"true\"]\nwrites = []\n"
    );
    std::fs::write(&plan, text).expect("writable");

    let spawned = spawn_loop(tasks);
    let xargs = xargs(tasks);
    let mut command = Command::new(swarm);
    command.current_dir(scene.path()).arg("run").arg(&plan).args(["-j2", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let finished = scene::watch(command);
    assert!(finished.passed, "the run passes");

    let each = |wall: Duration| ms(wall) / tasks as f64;
    println!("{tasks} tasks that do nothing, two at a time:");
    println!("  bare spawn loop   {:7.3} ms a task", each(spawned));
    println!("  xargs -P2         {:7.3} ms a task", each(xargs));
    println!("  swarm run -j2     {:7.3} ms a task", each(finished.wall));
    println!("  swarm / spawn     {:7.2}", each(finished.wall) / each(spawned));
    println!("  swarm / xargs     {:7.2}", each(finished.wall) / each(xargs));
    println!("  coordinator       {:7.1} MiB resident at its peak", finished.peak_kib as f64 / 1024.0);
}

/// Two threads, each spawning one process after the other.
fn spawn_loop(tasks: usize) -> Duration {
    let half = || {
        for _ in 0..tasks / 2 {
            Command::new("/bin/true").status().expect("/bin/true starts");
        }
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(half);
        scope.spawn(half);
    });
    start.elapsed()
}

fn xargs(tasks: usize) -> Duration {
    let start = Instant::now();
    let script = format!("seq 1 {tasks} | xargs -P2 -n1 /bin/true");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh starts").success(), "xargs passes");
    start.elapsed()
}
