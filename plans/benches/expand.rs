//! How long a plan of many instances takes to parse, validate and expand:
//! `cargo bench -p swarm-plans --bench expand -- [INSTANCES]`. Prints milliseconds, no verdict.

use std::fmt::Write as _;
use std::time::Instant;

use swarm_plans::{RenderContext, TaskGraph, parse};

fn main() {
    let count: usize = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(100_000);
    let numbers = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let words = (0..count).map(|n| format!("\"src/module_{n}/file.rs\"")).collect::<Vec<_>>().join(",");
    let mut tasks = String::from("version = 1\n");
    for n in 0..count {
        let _ = writeln!(tasks, "[tasks.t{n}]\nrun = \"echo {n}\"\nneeds = [\"t{}\"]", n / 2 + usize::from(n == 0));
    }
    let tasks = tasks.replace("[tasks.t0]\nrun = \"echo 0\"\nneeds = [\"t1\"]", "[tasks.t0]\nrun = \"echo 0\"");
    let matrix = format!("matrix = {{ a = [{}], b = [{}] }}", numbers(100), numbers(count / 100));
    let body = "run = \"echo {{ vars.x }}\"";
    for (name, text) in [
        ("single tasks", tasks),
        ("matrix", format!("version = 1\n[vars]\nx = 1\n[tasks.t]\n{body}\n{matrix}\n[tasks.end]\nrun = \"x\"\nneeds = [\"t\"]\n")),
        ("list", format!("version = 1\n[vars]\nx = 1\n[tasks.t]\n{body}\nforeach.f = [{words}]\n")),
        (
            "matrix, pairwise needs",
            format!("version = 1\n[vars]\nx = 1\n[tasks.t]\n{body}\n{matrix}\n[tasks.u]\n{body}\n{matrix}\nneeds = [\"t[a={{{{ matrix.a }}}},b={{{{ matrix.b }}}}]\"]\n")
                .replace(&numbers(count / 100), &numbers(count / 200)),
        ),
    ] {
        let start = Instant::now();
        let parsed = parse("speed.toml", &text, &[], &mut |_| Err("none".to_owned()));
        let parsed_ms = start.elapsed().as_secs_f64() * 1e3;
        let plan = parsed.plan.unwrap_or_else(|| panic!("{name}: {:?}", parsed.diagnostics.first()));
        let graph = TaskGraph::expand(plan).unwrap_or_else(|diagnostics| panic!("{name}: {:?}", diagnostics.first()));
        let all_ms = start.elapsed().as_secs_f64() * 1e3;
        let order = Instant::now();
        assert_eq!(graph.merge_order().len(), graph.instances().len());
        let order_ms = order.elapsed().as_secs_f64() * 1e3;
        let started = Instant::now();
        let cx = RenderContext { run_name: "r", run_id: "r", base: "b", target: None, needs: &serde_json::Value::Null, env: &|_| None, seed: None };
        let rendered = graph.merge_order().into_iter().filter_map(|ix| graph.render(ix, &cx).ok()).count();
        let render_us = started.elapsed().as_secs_f64() * 1e6 / rendered.max(1) as f64;
        println!(
            "{name:24} {:7} instances: parsed and validated {parsed_ms:7.1} ms, expanded as well {all_ms:7.1} ms, merge order {order_ms:6.1} ms, {render_us:.1} µs to render each, {} MiB resident",
            graph.instances().len(),
            resident_mib(),
        );
    }
}

/// Resident memory of this process; 0 where /proc does not say. Source: proc_pid_statm(5).
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| (pages * 4096) >> 20)
}
