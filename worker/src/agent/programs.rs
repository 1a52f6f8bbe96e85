//! Small programs that are asked something: input in, bounded output out, within a time. What they leave behind is ended.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Bytes of each output that are kept.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes read or written at once.
const PIECE_BYTES: usize = 16 << 10;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub end: End,
    /// Its standard output, cut at a bound.
    pub stdout: String,
    /// It printed more than that.
    pub is_cut: bool,
    /// Its standard error, cut at a bound.
    pub stderr: String,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Killed,
    /// Its time was over.
    TimedOut,
    /// It never began.
    NotStarted,
}

impl Said {
    fn not_started(error: &io::Error) -> Said {
        Said { end: End::NotStarted, stdout: String::new(), is_cut: false, stderr: error.to_string() }
    }
}

/// Runs a program of its own process group with `input` on its standard input. It need not read it.
pub fn ask(mut command: Command, input: &[u8], limit: Duration) -> Said {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Said::not_started(&error),
    };
    let heard = Conversation::new(&mut child, input).and_then(|talk| talk.hold(&child, Instant::now() + limit));
    // Its number is nobody else's until it is waited for.
    kill_group(&child);
    let status = child.wait();
    match heard {
        Ok(heard) => {
            let end = match (heard.timed_out, status) {
                (true, _) => End::TimedOut,
                (false, Ok(status)) => end(status),
                (false, Err(_)) => End::Killed,
            };
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let is_cut = heard.stdout.len() >= OUTPUT_BYTES_MAX;
            Said { end, stdout: text(heard.stdout), is_cut, stderr: text(heard.stderr) }
        }
        Err(error) => Said { end: End::Killed, ..Said::not_started(&error) },
    }
}

/// Ends a child with all of its process group.
pub fn kill_group(child: &Child) {
    // A group that has ended already is what is wanted.
    let _ = kill_process_group(pid(child), Signal::KILL);
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).expect("a process that was started has a number")
}

fn end(status: ExitStatus) -> End {
    status.code().map_or(End::Killed, End::Exited)
}

struct Heard {
    timed_out: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Three pipes of one child, none of which is waited for alone.
struct Conversation<'a> {
    stdin: Option<File>,
    input: &'a [u8],
    outputs: [(Option<File>, Vec<u8>); 2],
}

impl<'a> Conversation<'a> {
    fn new(child: &mut Child, input: &'a [u8]) -> io::Result<Conversation<'a>> {
        fn file(pipe: Option<impl Into<OwnedFd>>) -> io::Result<Option<File>> {
            let Some(pipe) = pipe else { return Ok(None) };
            let pipe: OwnedFd = pipe.into();
            rustix::io::ioctl_fionbio(&pipe, true)?;
            Ok(Some(File::from(pipe)))
        }
        let stdin = file(child.stdin.take())?;
        let outputs = [(file(child.stdout.take())?, vec![]), (file(child.stderr.take())?, vec![])];
        Ok(Conversation { stdin, input, outputs })
    }

    /// Talks until the child ends or the time is over; who else holds its pipes is not waited for.
    fn hold(mut self, child: &Child, until: Instant) -> io::Result<Heard> {
        let pidfd = pidfd_open(pid(child), PidfdFlags::empty())?;
        let timed_out = loop {
            let left = until.saturating_duration_since(Instant::now());
            // One that never stops writing never lets poll(2) tell the time.
            if left.is_zero() {
                break true;
            }
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut wanted = vec![PollFd::new(&pidfd, PollFlags::IN)];
            wanted.extend(self.stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
            for (pipe, _) in &self.outputs {
                wanted.extend(pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            }
            match poll(&mut wanted, Some(&time)) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let ended = !wanted[0].revents().is_empty();
            drop(wanted);
            self.say();
            self.outputs.iter_mut().for_each(hear);
            if ended {
                break false;
            }
        };
        let [(_, stdout), (_, stderr)] = self.outputs;
        Ok(Heard { timed_out, stdout, stderr })
    }

    fn say(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        match pipe.write(&self.input[..self.input.len().min(PIECE_BYTES)]) {
            Ok(written) => self.input = &self.input[written..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            // It does not want to hear.
            Err(_) => self.input = &[],
        }
        if self.input.is_empty() {
            self.stdin = None;
        }
    }
}

/// Takes all that is there; what exceeds the bound is read and left out.
fn hear((pipe, heard): &mut (Option<File>, Vec<u8>)) {
    let mut piece = [0; PIECE_BYTES];
    while let Some(file) = pipe {
        match file.read(&mut piece) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                let room = OUTPUT_BYTES_MAX - heard.len();
                heard.extend_from_slice(&piece[..count.min(room)]);
                // One that never stops writing must not keep us here.
                if room < count {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => *pipe = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::setting::Setting;

    fn asked(script: &str, input: &[u8], limit: Duration) -> Said {
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let mut command = Setting { root: "/".into(), scratch: "/tmp".into(), env }.command("/bin/sh");
        command.args(["-c", script]);
        ask(command, input, limit)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn input_goes_in_and_both_outputs_come_out() {
        let said = asked("cat; echo no >&2; exit 3", &b"x".repeat(100_000), LONG);
        assert_eq!((said.end, said.stdout.len(), said.stderr.as_str()), (End::Exited(3), 100_000, "no\n"));
    }

    #[test]
    fn a_program_that_does_not_read_or_never_stops_writing_is_no_harm() {
        let said = asked("exec <&-; yes | head -c 3000000; echo end >&2", &b"x".repeat(1 << 20), LONG);
        assert_eq!((said.end, said.stdout.len(), said.stderr.as_str()), (End::Exited(0), OUTPUT_BYTES_MAX, "end\n"));
        assert!(said.is_cut && !asked("echo a", b"", LONG).is_cut);
    }

    #[test]
    fn the_time_is_over_for_one_whose_output_is_never_empty() {
        let mut command = Command::new("/bin/sleep");
        let mut child = std::os::unix::process::CommandExt::process_group(command.arg("20"), 0).spawn().unwrap();
        // What always has more to read stands for a program that writes faster than anybody reads.
        let endless = File::open("/dev/zero").unwrap();
        let talk = Conversation { stdin: None, input: b"", outputs: [(Some(endless), vec![]), (None, vec![])] };
        let heard = talk.hold(&child, Instant::now() + Duration::from_millis(100)).unwrap();
        kill_group(&child);
        child.wait().unwrap();
        assert!(heard.timed_out && heard.stdout.len() == OUTPUT_BYTES_MAX);
    }

    #[test]
    fn one_that_hangs_is_ended_with_what_it_started() {
        let began = Instant::now();
        let said = asked("echo a; sleep 60 & sleep 60", b"", Duration::from_millis(300));
        assert_eq!((said.end, said.stdout.as_str()), (End::TimedOut, "a\n"));
        assert_eq!(asked("sleep 60 & echo b", b"", LONG).stdout, "b\n");
        assert_eq!(asked("kill -9 $$", b"", LONG).end, End::Killed);
        assert!(began.elapsed() < Duration::from_secs(50));
    }

    #[test]
    fn one_that_does_not_exist_says_so() {
        assert_eq!(ask(Command::new("/no/such/program"), b"", LONG).end, End::NotStarted);
    }
}
