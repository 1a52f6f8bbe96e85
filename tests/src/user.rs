//! Another user of the machine, as whom a test runs the program.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Repository, binary};

/// Gives a repository to the user `uid`, whose processes should be nobody else's, and returns the words that run a command as that
/// user, with `more` of `setpriv`'s options; `None`, after a word, where that cannot be: the test does not run as root, the user
/// reaches neither the program nor the repository, or may not make a single process, as under a limit of the machine's own.
pub fn user(uid: u32, more: &[&str], repository: &Repository) -> Option<Vec<String>> {
    let options = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    let more = more.iter().map(|option| (*option).to_owned());
    let words: Vec<String> = std::iter::once("setpriv".to_owned()).chain(options).chain(more).collect();
    let owner = format!("{uid}:{uid}");
    let give = |path: &Path| Command::new("chown").args(["-R", &owner]).arg(path).status().is_ok_and(|s| s.success());
    let works = || {
        let mut test = Command::new(&words[0]);
        // `:` in a subshell, since a shell would not fork for its last command.
        test.args(&words[1..]).args(["sh", "-c", "(:) && test -x \"$1\" && test -x \"$2\"", "sh"]);
        test.arg(binary()).arg(repository.path()).stderr(Stdio::null());
        test.status().is_ok_and(|status| status.success())
    };
    let all = rustix::process::getuid().is_root() && give(&repository.path()) && give(&repository.home());
    if !all || !works() {
        swarm_protocol::skipped::say(format_args!("no user of its own can run {} here", binary().display()));
        return None;
    }
    Some(words)
}
