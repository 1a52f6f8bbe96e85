//! Programs: in the foreground with a time limit, in the background with a number. What they print is kept in a file, and
//! the model sees its head and its tail; a program that goes on behind the limit is ended with all that it started.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid};

use super::spill::{Shown, Spill};
use super::{Refused, ToolResult};
use crate::agent::setting::Setting;

/// The time limit where a call names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// The longest time limit.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The longest script, in bytes: what the system hands to a program as one argument, with the byte that ends it.
///
/// Source: execve(2), MAX_ARG_STRLEN.
const SCRIPT_BYTES_MAX: usize = (128 << 10) - 1;
/// Programs in the background at a time.
const BACKGROUND_MAX: usize = 8;
/// What an ended program's children get between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Processes of a group that are waited for at once.
const WAITED_MAX: usize = 64;

/// Runs programs for one agent.
#[derive(Debug)]
pub struct Shell {
    setting: Setting,
    next: u32,
    background: BTreeMap<u32, Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    output: Spill,
    /// How much of its output was shown.
    shown: u64,
    ended: Option<ExitStatus>,
    /// Whether nothing is left of its group, and its number is given back.
    is_waited_for: bool,
}

impl Shell {
    /// Runs programs where an agent works and keeps what they print in its scratch folder.
    pub fn new(setting: Setting) -> Shell {
        Shell { setting, next: 1, background: BTreeMap::new() }
    }

    /// Runs a script to its end, or to its time limit.
    ///
    /// # Errors
    /// [`Refused`] when it cannot be started, fails, or is ended: with what it printed.
    pub fn run(&mut self, script: &str, timeout: Option<Duration>) -> ToolResult {
        let timeout = timeout.unwrap_or(TIMEOUT_DEFAULT).min(TIMEOUT_MAX);
        let mut running = self.start(script)?;
        let ended = wait(&running.child, timeout);
        // What it left behind must not go on unseen, and it itself not where nobody can wait for it. Until it is waited for, its
        // number is nobody else's.
        end(&running.child);
        let status = running.child.wait();
        let fail = |error: std::io::Error| Refused(format!("wait for it: {error}"));
        let status = match ended.map_err(fail)? {
            Ended::Itself => Some(status.map_err(fail)?),
            Ended::Not => None,
        };
        running.output.finish();
        let shown = running.show(0)?;
        match status {
            Some(status) if status.success() => Ok(shown.text),
            Some(status) => Err(Refused(format!("{}[{status}]", shown.text))),
            None => Err(Refused(format!("{}[ended after {} s]", shown.text, timeout.as_secs()))),
        }
    }

    /// Starts a script in the background.
    ///
    /// # Errors
    /// [`Refused`] when it cannot be started, or too many run already.
    pub fn run_in_background(&mut self, script: &str) -> ToolResult {
        for running in self.background.values_mut() {
            // One that nobody has polled since may have ended.
            let _ = running.look();
        }
        if self.background.values().filter(|running| running.ended.is_none()).count() >= BACKGROUND_MAX {
            return Err(Refused::new(format!(
                "{BACKGROUND_MAX} programs run in the background already; end one first"
            )));
        }
        let number = self.next;
        let running = self.start(script)?;
        self.background.insert(number, running);
        Ok(format!("it runs in the background as number {number}"))
    }

    /// What a program in the background printed since it was asked last, and how it stands.
    ///
    /// # Errors
    /// [`Refused`] for a number that does not exist.
    pub fn poll(&mut self, number: u32) -> ToolResult {
        let running = self.background.get_mut(&number).ok_or_else(|| unknown(number))?;
        running.look().map_err(|error| Refused(format!("look at it: {error}")))?;
        if running.ended.is_some() {
            running.output.finish();
        }
        let shown = running.show(running.shown)?;
        running.shown = shown.end;
        let stands = running.ended.map_or("it still runs".to_owned(), |status| status.to_string());
        Ok(format!("{}[{stands}]", shown.text))
    }

    /// Ends a program in the background, with all that it started.
    ///
    /// # Errors
    /// [`Refused`] for a number that does not exist.
    pub fn kill(&mut self, number: u32) -> ToolResult {
        let running = self.background.get_mut(&number).ok_or_else(|| unknown(number))?;
        // What is waited for has left nothing, and its number may be somebody else's by now.
        if !running.is_waited_for {
            end(&running.child);
            running.ended = running.child.wait().ok();
            running.is_waited_for = true;
        }
        self.poll(number)
    }

    fn start(&mut self, script: &str) -> Result<Running, Refused> {
        if script.len() > SCRIPT_BYTES_MAX {
            return Err(Refused(format!(
                "the script has {} bytes, and no more than {SCRIPT_BYTES_MAX} can be handed to a shell: write it to a file and \
                 run `bash FILE`",
                script.len()
            )));
        }
        let output = self.setting.scratch.join(format!("bash-{}.log", self.next));
        let fail = |error: std::io::Error| Refused(format!("start it: {error}"));
        let (output, end) = Spill::start(output).map_err(fail)?;
        let program = self.setting.find_program("bash").unwrap_or_else(|| PathBuf::from("/bin/sh"));
        let child = self
            .setting
            .command(program)
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(end.try_clone().map_err(fail)?)
            .stderr(end)
            .spawn()
            .map_err(fail)?;
        self.next += 1;
        Ok(Running { child, output, shown: 0, ended: None, is_waited_for: false })
    }
}

impl Running {
    /// Sees whether it has ended. It is waited for only where nothing is left of its group: until then its number is nobody else's,
    /// and what is left can be ended by it.
    fn look(&mut self) -> std::io::Result<()> {
        if self.is_waited_for {
            return Ok(());
        }
        if self.ended.is_none() {
            let only_seen = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let seen = waitid(WaitId::Pid(pid(&self.child)), only_seen)?;
            self.ended = seen.map(|seen| match (seen.exit_status(), seen.terminating_signal()) {
                (Some(code), _) => ExitStatus::from_raw(code << 8),
                (None, signal) => ExitStatus::from_raw(signal.unwrap_or_default()),
            });
        }
        if self.ended.is_some() && alive_in_group(pid(&self.child)).is_empty() {
            self.ended = Some(self.child.wait()?);
            self.is_waited_for = true;
        }
        Ok(())
    }

    fn show(&self, from: u64) -> Result<Shown, Refused> {
        self.output.show(from).map_err(|error| Refused(format!("read its output: {error}")))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for running in self.background.values_mut().filter(|running| !running.is_waited_for) {
            end(&running.child);
            let _ = running.child.wait();
        }
    }
}

fn unknown(number: u32) -> Refused {
    Refused::new(format!("there is no program {number} in the background"))
}

enum Ended {
    Itself,
    Not,
}

/// Waits until a program ends or the time is over. Its output is a file, so nobody who holds on to it is waited for.
fn wait(child: &Child, timeout: Duration) -> std::io::Result<Ended> {
    let pidfd = pidfd_open(pid(child), PidfdFlags::empty())?;
    wait_for_one(&[pidfd], Instant::now() + timeout)
}

/// Waits until one of some processes has ended.
fn wait_for_one(processes: &[OwnedFd], until: Instant) -> std::io::Result<Ended> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let time = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut wanted: Vec<_> = processes.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
        match poll(&mut wanted, Some(&time)) {
            Ok(0) => return Ok(Ended::Not),
            Ok(_) => return Ok(Ended::Itself),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).expect("a process that was started has a number")
}

/// Ends a program's group: politely, then for good.
fn end(child: &Child) {
    // A group that has ended already is what is wanted.
    if kill_process_group(pid(child), Signal::TERM).is_err() {
        return;
    }
    let until = Instant::now() + GRACE;
    loop {
        // The first that ends is waited for alone: who is left then is looked up anew.
        let alive = alive_in_group(pid(child));
        if alive.is_empty() || !matches!(wait_for_one(&alive, until), Ok(Ended::Itself)) {
            break;
        }
    }
    let _ = kill_process_group(pid(child), Signal::KILL);
}

/// The processes of a group that have not ended, as far as they can be seen; the leader itself may have, and its children live.
///
/// Source: proc_pid_stat(5), the fields behind the name in parentheses.
fn alive_in_group(group: Pid) -> Vec<OwnedFd> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok().and_then(Pid::from_raw));
    let is_alive = |process: Pid| {
        // A name is no text, least of all where it was cut within a letter.
        let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
        let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = std::str::from_utf8(&stat[behind_name..]).ok()?.trim_start().split(' ');
        let state = fields.next()?;
        let its_group = fields.nth(1)?.parse::<i32>().ok()?;
        (its_group == group.as_raw_pid() && !matches!(state, "Z" | "X")).then_some(())
    };
    let alive = numbers.filter_map(|process| {
        // Opened first, so that whoever is looked at is who is waited for.
        let pidfd = pidfd_open(process, PidfdFlags::empty()).ok()?;
        is_alive(process).map(|()| pidfd)
    });
    alive.take(WAITED_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> (tempfile::TempDir, Shell) {
        let folder = tempfile::tempdir().unwrap();
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
        (folder, Shell::new(setting))
    }

    #[test]
    fn output_and_failure_are_told() {
        let (_folder, mut shell) = shell();
        assert_eq!(shell.run("echo out; echo err >&2", None).unwrap(), "out\nerr\n");
        assert_eq!(shell.run("echo x; exit 3", None).unwrap_err().0, "x\n[exit status: 3]");
        let long = shell.run("seq 1 100000", None).unwrap();
        assert!(long.starts_with("1\n2\n") && long.ends_with("100000\n") && long.contains("bytes left out"));
    }

    #[test]
    fn a_script_that_is_too_long_for_a_shell_is_refused_with_what_to_do() {
        let (_folder, mut shell) = shell();
        let script = |bytes: usize| format!("true #{}", "x".repeat(bytes - 6));
        assert!(shell.run(&script(SCRIPT_BYTES_MAX), None).is_ok());
        let refused = shell.run(&script(SCRIPT_BYTES_MAX + 1), None).unwrap_err();
        assert!(refused.0.contains("131072 bytes") && refused.0.contains("run `bash FILE`"), "{refused:?}");
    }

    #[test]
    fn the_limit_ends_all_that_was_started() {
        let (folder, mut shell) = shell();
        let script = "(sleep 2; touch late) & echo $!; sleep 60";
        let began = Instant::now();
        let told = shell.run(script, Some(Duration::from_millis(300))).unwrap_err().0;
        assert!(told.ends_with("[ended after 0 s]") && began.elapsed() < Duration::from_secs(30), "{told}");
        assert!(has_ended(told.lines().next().unwrap()), "its child still runs");
        assert!(!folder.path().join("late").exists());
    }

    /// Whether a process is gone, or dead and only not waited for; a signal takes a moment to arrive.
    fn has_ended(pid: &str) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        let dead = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
        };
        while !dead() && Instant::now() < until {
            std::thread::yield_now();
        }
        dead()
    }

    #[test]
    fn a_child_that_holds_the_output_does_not_hold_the_agent() {
        let (_folder, mut shell) = shell();
        let began = Instant::now();
        assert_eq!(shell.run("sleep 60 & echo done", None).unwrap(), "done\n");
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_a_program_leaves_behind_is_given_time_to_end() {
        let (folder, mut shell) = shell();
        let child = "trap 'echo bye > ended; exit' TERM; echo > ready; while :; do sleep 0.05; done";
        let told = shell.run(&format!("mkfifo ready; ({child}) & read line < ready; echo done"), None);
        assert!(told.unwrap().starts_with("done\n"));
        assert_eq!(std::fs::read_to_string(folder.path().join("ended")).unwrap(), "bye\n");
    }

    #[test]
    fn a_program_whose_name_is_no_text_is_given_time_to_end_too() {
        let (folder, mut shell) = shell();
        // A process is called what its thread writes here, and 15 bytes of it are kept: half a letter stands at the end.
        let name = "printf 'xxxxxxxxxxxxxx\\303\\244' > /proc/$BASHPID/comm";
        let child = format!(
            "{name}; trap 'sleep 0.2; echo bye > ended; exit' TERM; echo > ready; while :; do sleep 0.05; done"
        );
        let told = shell.run(&format!("mkfifo ready; ({child}) & read line < ready; echo done"), None);
        assert!(told.unwrap().starts_with("done\n"));
        assert_eq!(std::fs::read_to_string(folder.path().join("ended")).unwrap(), "bye\n");
    }

    #[test]
    fn a_program_keeps_its_number_until_nothing_is_left_of_it() {
        let (_folder, mut shell) = shell();
        shell.run_in_background("sleep 60 > /dev/null & echo $!; exit 3").unwrap();
        shell.run_in_background("exit 4").unwrap();
        let leaders: Vec<String> = shell.background.values().map(|running| running.child.id().to_string()).collect();
        assert!(leaders.iter().all(|leader| has_ended(leader)));
        let told = shell.poll(1).unwrap();
        assert!(told.ends_with("[exit status: 3]") && shell.poll(2).unwrap().ends_with("[exit status: 4]"), "{told}");
        let is_there = |leader: &String| std::path::Path::new(&format!("/proc/{leader}")).exists();
        assert_eq!([&leaders[0], &leaders[1]].map(is_there), [true, false], "the child of the first has its number");
        shell.kill(1).unwrap();
        assert!(has_ended(told.lines().next().unwrap()), "its child still runs");
        assert!(shell.kill(2).unwrap().ends_with("[exit status: 4]"));
        assert!(shell.background.values().all(|running| running.is_waited_for));
    }

    #[test]
    fn programs_in_the_background_are_polled_and_ended() {
        let (_folder, mut shell) = shell();
        assert_eq!(
            shell.run_in_background("echo a; read x < /dev/zero").unwrap(),
            "it runs in the background as number 1"
        );
        assert!(shell.kill(1).unwrap().ends_with(']'));
        assert!(shell.poll(7).is_err());
        for _ in 0..BACKGROUND_MAX {
            shell.run_in_background("sleep 60").unwrap();
        }
        assert!(shell.run_in_background("sleep 60").is_err());
    }

    #[test]
    fn a_program_that_ended_takes_no_place_in_the_background() {
        let (_folder, mut shell) = shell();
        for number in 1..=BACKGROUND_MAX {
            shell.run_in_background("true").unwrap();
            assert!(has_ended(&shell.background[&(number as u32)].child.id().to_string()));
        }
        assert!(shell.run_in_background("true").is_ok());
    }
}
