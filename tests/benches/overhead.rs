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

    let spawned = timed(|| spawn_loop(tasks));
    let xargs = timed(|| xargs(tasks));
    let mut command = Command::new(swarm);
    command.current_dir(scene.path()).arg("run").arg(&plan).args(["-j2", "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let finished = scene::watch(command);
    assert!(finished.passed, "the run passes");

    let swarm = (finished.wall, finished.cpu);
    println!(
        "{tasks} tasks that do nothing, two at a time; wall and processor time a task, and against the spawn loop:"
    );
    for (name, (wall, cpu)) in [("bare spawn loop", spawned), ("xargs -P2", xargs), ("swarm run -j2", swarm)] {
        let (each, ratio) = (tasks as f64, ms(wall) / ms(spawned.0));
        println!("  {name:16} {:7.3} ms {:7.3} ms {ratio:7.2}", ms(wall) / each, ms(cpu) / each);
    }
    println!("  swarm / xargs    {:7.2}", ms(swarm.0) / ms(xargs.0));
    println!("  coordinator      {:7.1} MiB resident at its peak", finished.peak_kib as f64 / 1024.0);
}

/// Wall and processor time; where other work shares the machine, only the second can be compared between runs.
fn timed(act: impl FnOnce()) -> (Duration, Duration) {
    let (start, cpu) = (Instant::now(), scene::children_cpu());
    act();
    (start.elapsed(), scene::children_cpu() - cpu)
}

/// Two threads, each spawning one process after the other.
fn spawn_loop(tasks: usize) {
    let half = || {
        for _ in 0..tasks / 2 {
            Command::new("/bin/true").status().expect("/bin/true starts");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(half);
        scope.spawn(half);
    });
}

fn xargs(tasks: usize) {
    let script = format!("seq 1 {tasks} | xargs -P2 -n1 /bin/true");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh starts").success(), "xargs passes");
}
