//! Workers come from a fork server: what that changes for a run, and what it must not change.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use swarm_tests::{Repository, Swarm};

/// The fork server of a coordinator.
fn server(coordinator: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{coordinator}/task/{coordinator}/children")).ok()?;
    let is_server =
        |pid: &&str| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"--server\0"));
    Pid::from_raw(children.split_whitespace().find(is_server)?.parse().ok()?)
}

/// The session that a process belongs to. Source: proc_pid_stat(5).
fn session(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("it lives");
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).expect("the sixth field").to_owned()
}

#[test]
fn a_run_goes_on_when_its_fork_server_is_killed() {
    let repository = Repository::with(&[("a.txt", "one\n")]);
    let plan = "[tasks.a]\nrun = 'sleep 0.4; echo a > a2.txt'\n[tasks.b]\nneeds = ['a']\nrun = 'echo b > b.txt'\n";
    let mut running = Swarm::run(&repository, "it", plan).start();
    assert!(running.says("attempt-started"), "it starts");
    let server = server(running.pid()).expect("a fork server");
    assert_eq!(session(server), server.as_raw_nonzero().to_string(), "a Ctrl-C at the terminal reaches no worker");
    kill_process(server, Signal::KILL).expect("it lives");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!((ended.result("a").as_str(), ended.result("b").as_str()), ("succeeded", "succeeded"), "{ended}");
    assert!(!ended.out.contains("started directly"), "another server is started: {ended}");
}
