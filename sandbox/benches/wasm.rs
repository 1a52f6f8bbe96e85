//! What a WebAssembly guest costs, step by step: `cargo bench -p swarm-sandbox --bench wasm`. Prints figures, judges nothing.
//!
//! One process of a job pays for the engine, for loading its machine code, and for one instance; the compiler is paid once a
//! module. The target is 50 µs for an instance that is made, run and dropped.

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use swarm_sandbox::Access;
use swarm_sandbox::wasm::{Guest, GuestEnd, Loaded, Metering, Preopen, Stdio, compile, engine};

/// An instance of each kind is run this often.
const ROUNDS: usize = 2_000;

const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (drop (call $args (i32.const 0) (i32.const 4)))))"#;

const COMPONENT: &str = r#"(component
  (core module $run (memory (export "m") 1) (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $run))
  (func $f (result (result)) (canon lift (core func $i "run")))
  (instance $c (export "run" (func $f)))
  (export "wasi:cli/run@0.2.0" (instance $c)))"#;

fn main() {
    for (name, wat) in [("module (preview 1)", MODULE), ("component (preview 2)", COMPONENT)] {
        println!("{name}");
        measure(wat);
    }
}

fn measure(wat: &str) {
    let bytes = wat::parse_str(wat).expect("it is valid");
    let (engines, engine) = each(20, || engine(Metering::Time).expect("an engine"));
    let (compiles, artifact) = each(20, || compile(&engine, &bytes).expect("it compiles"));
    // SAFETY: made a line ago.
    let (loads, loaded) = each(200, || unsafe { Loaded::new(&engine, &artifact) }.expect("it loads"));
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").expect("a device");
    let stdio = Stdio { stdin: Some(null.as_fd()), stdout: null.as_fd(), stderr: null.as_fd() };
    let preopen = |name: &str| Preopen { path: "/usr".into(), name: name.to_owned(), access: Access::Read };
    let bare = Guest { args: vec!["guest".to_owned()], ..Guest::default() };
    let usual = Guest { preopens: [".", "/", "/usr", "/tmp"].map(preopen).to_vec(), ..bare.clone() };
    println!("  engine              {:>9.1} µs", micros(median(engines)));
    println!("  compile             {:>9.1} µs", micros(median(compiles)));
    println!("  load                {:>9.1} µs", micros(median(loads)));
    for (name, guest) in [("without folders", &bare), ("with four folders", &usual)] {
        let (first, _) = each(1, || assert_eq!(loaded.run(guest, &stdio), GuestEnd::Exited(0)));
        let (rounds, ()) = each(ROUNDS, || assert_eq!(loaded.run(guest, &stdio), GuestEnd::Exited(0)));
        println!(
            "  instance, {name:<17} first {:>7.1} µs, then {:>6.1} µs",
            micros(median(first)),
            micros(median(rounds))
        );
    }
}

/// Times `count` calls and gives what the last one made.
fn each<T>(count: usize, mut act: impl FnMut() -> T) -> (Vec<Duration>, T) {
    let mut times = Vec::with_capacity(count);
    loop {
        let begun = Instant::now();
        let made = act();
        times.push(begun.elapsed());
        if times.len() == count {
            return (times, made);
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
