//! A program that runs for the coordinator outside of any cage, such as one that prints a key, and ends with it: also when the
//! coordinator is killed and can end nobody. It stays in the group of processes that the terminal speaks to, since a person may
//! have to unlock something there. What it started ends with it.
//!
//! Who holds the other end of standard input lives; nothing is read from there.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitOptions};

/// The exit status where the program does not start, as shells have it.
const NOT_STARTED: u8 = 127;
/// What an exit by a signal is added to, as shells have it.
const SIGNALLED: i32 = 128;

/// Runs a program to its end, and has its exit status; all of it is killed where standard input ends before.
pub fn run(program: &OsString, arguments: &[OsString]) -> io::Result<ExitCode> {
    // Whatever it starts is ours once its parent is gone.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
    let Ok(mut child) = child else { return Ok(ExitCode::from(NOT_STARTED)) };
    let ends: Arc<Mutex<()>> = Arc::default();
    let kills = Arc::clone(&ends);
    std::thread::spawn(move || {
        let mut ignored = [0; 64];
        while io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
        // Held until nobody is left: the end of the program itself is not yet that of what it started.
        let _kills = kills.lock();
        kill_all();
        std::process::exit(SIGNALLED + Signal::KILL.as_raw());
    });
    let status = status(&mut child);
    let _ended = ends.lock();
    status
}

fn status(child: &mut Child) -> io::Result<ExitCode> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Kills children until there is none: those of a child that was killed come to us.
fn kill_all() {
    while let Some(children) = children().filter(|children| !children.is_empty()) {
        for child in &children {
            let _ = rustix::process::kill_process(*child, Signal::KILL);
        }
        // Its turn, or nobody's: another thread may have heard of it.
        for child in &children {
            let _ = rustix::process::waitpid(Some(*child), WaitOptions::empty());
        }
    }
}

/// Source: proc_pid_task(5), `children`.
fn children() -> Option<Vec<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let lists = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let numbers: String = lists.collect();
    Some(numbers.split_whitespace().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect())
}
