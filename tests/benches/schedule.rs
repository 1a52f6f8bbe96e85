//! What it costs to decide: `cargo bench -p swarm-tests --bench schedule -- [INSTANCES]`. Plans of many instances are
//! parsed, expanded, scheduled and put into merge order; no process starts.

use std::time::Instant;

use swarm_orchestrator::merge::{End, Next, Place, TaskPlace, Train};
use swarm_orchestrator::schedule::{NodeSpec, Schedule, Verdict};
use swarm_plans::{TaskGraph, parse};

fn main() {
    let count: usize = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(100_000);
    plan(count);
    for fan_in in [0, 1, 4] {
        schedule(count, fan_in);
    }
    train(count);
}

fn plan(count: usize) {
    let words = (0..count).map(|n| format!("\"src/module_{n}/file.rs\"")).collect::<Vec<_>>().join(",");
    let text = format!("version = 1\n[tasks.t]\nrun = \"echo x\"\nforeach.f = [{words}]\nforeach-max = {count}\n");
    let start = Instant::now();
    let plan = parse("many.toml", &text, &[], &mut |_| Err("no other file".to_owned())).plan.expect("a valid plan");
    let graph = TaskGraph::expand(plan).expect("an expandable plan");
    let took = start.elapsed();
    println!("{:7} instances parsed and expanded in {:.0} ms", graph.instances().len(), took.as_secs_f64() * 1e3);
}

/// Each node waits for `fan_in` nodes before it, spread over the last thousand.
fn schedule(count: usize, fan_in: usize) {
    let start = Instant::now();
    let mut schedule = Schedule::new(8, vec![2]);
    let mut nodes = Vec::with_capacity(count);
    for number in 0..count {
        let needs: Vec<_> =
            (1..=fan_in).filter_map(|need| number.checked_sub(need * 211).map(|at| nodes[at])).collect();
        let demand = if number % 10 == 0 { vec![(0, 1)] } else { vec![] };
        nodes.push(schedule.add(NodeSpec::Work { weight_ms: number as u64 % 97, priority: 0, demand }, &needs));
    }
    schedule.seal();
    let mut running = std::collections::VecDeque::new();
    while !schedule.is_done() {
        running.extend(std::iter::from_fn(|| schedule.start_next()));
        let first = running.pop_front().expect("something runs while something is open");
        schedule.finish(first, Verdict::Pass);
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{count:7} instances with {fan_in} needs scheduled at {each:.2} µs an instance");
}

fn train(count: usize) {
    let start = Instant::now();
    let mut train = Train::new();
    let place = |n: usize| Place { task: TaskPlace { level: 0, task: 0 }, instance: n as u32 };
    (0..count).for_each(|n| train.join(place(n)));
    let mut folded = 0;
    // Ends come in reverse within each hundred.
    for hundred in 0..count.div_ceil(100) {
        for n in (hundred * 100..((hundred + 1) * 100).min(count)).rev() {
            train.finished(place(n), End::Change);
            folded += std::iter::from_fn(|| train.advance(0)).filter(|next| matches!(next, Next::Fold(_))).count();
        }
    }
    assert_eq!(folded, count);
    let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("{count:7} results put into merge order at {each:.2} µs a result");
}
