//! What the kernel says of one process, or of one thread, in a line.
//!
//! Its second field is the program's name, which the program chooses: it may hold parentheses, spaces, line ends, and bytes that are
//! no text at all. Whoever reads the line as text loses just the processes that would rather not be found.
//!
//! Source: proc_pid_stat(5).

use std::fs;

use rustix::process::Pid;

/// The fields that somebody here asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whose child it is (field 4).
    pub parent: Pid,
    /// Threads of its process (field 20).
    pub threads: u64,
    /// Ticks between the start of the machine and its own (field 22).
    pub started: u64,
    /// Pages in memory (field 24); 0 where the thread has ended and others of its process have not.
    pub pages: u64,
}

impl Stat {
    /// Of a process, or a thread by its own number; `None` when it has ended, or when nobody may look.
    pub fn of(thread: Pid) -> Option<Self> {
        Stat::parse(&fs::read(format!("/proc/{thread}/stat")).ok()?)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let name_end = line.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> = str::from_utf8(&line[name_end + 1..]).ok()?.split_ascii_whitespace().collect();
        // The first one behind the name is the third.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Stat {
            parent: field(4)?.parse().ok().and_then(Pid::from_raw)?,
            threads: field(20)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
            pages: field(24)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_hides_nothing() {
        let rest = b" S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 500 4096 12 18446744073709551615";
        for name in [&b"sh"[..], b"a) S 1 (b", b"\xff\xfe", b"\n)", b""] {
            let line = [b"42 (", name, b")", rest].concat();
            let stat = Stat::parse(&line).expect("a whole line");
            assert_eq!((stat.parent.as_raw_nonzero().get(), stat.threads, stat.started, stat.pages), (7, 3, 500, 12));
        }
        assert_eq!((Stat::parse(b""), Stat::parse(b"42 (sh"), Stat::parse(b"42 (sh) S")), (None, None, None));
    }

    #[test]
    fn the_first_process_has_no_parent_and_we_have_one() {
        let own = Stat::of(rustix::process::getpid()).expect("our own");
        assert!(own.threads >= 1 && own.pages > 0 && own.started > 0);
        assert_eq!(Some(own.parent), rustix::process::getppid());
    }
}
