//! The words in which programs tell that something was refused, found in what they print. Pure: whether a suspicion is
//! right is for the policy to say.
//!
//! Programs print the reason of strerror(3), of their language's runtime, or of their resolver, and beside it the path or host.
//! Where the line with the reason names nothing, the lines before it are looked at: cargo and anyhow print causes below. What a
//! traceback names there is where a program was, and not what it was about.

use swarm_sandbox::limits::Limit;

use super::loopback;

/// The longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// How many lines above a reason may name what it is about.
const LINES_ABOVE: usize = 3;

/// What a line of output lets suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspicion {
    /// Something about a path.
    Path {
        /// As printed.
        path: String,
        /// The reason that was given.
        reason: Reason,
        /// Whether the words around it speak of writing.
        intent: Intent,
    },
    /// A program was not found.
    Program(String),
    /// A variable is not set.
    Variable(String),
    /// A host could not be reached.
    Host {
        /// Its name where it is printed.
        host: Option<String>,
        /// Who says so.
        asked_by: AskedBy,
    },
    /// Nobody answered at this machine itself: a name of it, and the port.
    Loopback(String),
    /// A rename found two file systems; the names beside it, as printed.
    CrossDevice(Vec<String>),
    /// A call that needs privileges.
    Call(&'static str),
    /// More than a limit gives.
    Limit(Limit),
}

/// Which program looked a host up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// ssh, for itself or for git.
    Ssh,
    /// Any other.
    Anyone,
}

/// Which error a program reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `ENOENT`: what a namespace does not show is not there.
    Missing,
    /// `EACCES` or `EPERM`.
    Denied,
    /// `EROFS`.
    ReadOnly,
}

/// What the words around a reason speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Nothing in particular.
    Unknown,
    /// Making, changing or removing.
    Write,
    /// Nothing in particular, and the path stands above the reason: what is about it may be something else.
    Above,
}

const REASONS: &[(&str, Reason)] = &[
    ("no such file or directory", Reason::Missing),
    ("directory nonexistent", Reason::Missing),
    ("enoent", Reason::Missing),
    ("filenotfounderror", Reason::Missing),
    ("permission denied", Reason::Denied),
    ("operation not permitted", Reason::Denied),
    ("eacces", Reason::Denied),
    ("eperm", Reason::Denied),
    ("read-only file system", Reason::ReadOnly),
    ("erofs", Reason::ReadOnly),
    // Said by what looks first (pyenv's shims): no call failed yet.
    ("isn't writable", Reason::ReadOnly),
    ("is not writable", Reason::ReadOnly),
];

/// What is said of a file beyond RLIMIT_FSIZE and of a descriptor beyond RLIMIT_NOFILE. Source: strerror(3), errno(3).
const LIMITS: &[(&str, Limit)] = &[
    ("file too large", Limit::Disk),
    ("efbig", Limit::Disk),
    ("too many open files", Limit::OpenFiles),
    ("emfile", Limit::OpenFiles),
];

/// What is said of `EXDEV`. Source: strerror(3); errors.html of nodejs.org.
const CROSS_DEVICE: [&str; 2] = ["cross-device link", "exdev"];

const WRITING: &[&str] = &[
    "create",
    "touch",
    "remove",
    "delete",
    "write",
    "writing",
    "mkdir",
    "unlink",
    "rename",
    "copy",
    "move",
    "save",
    "chmod",
    "chown",
    "changing",
    "setting times",
    "truncate",
    "append",
    "install",
];

/// What resolvers and sockets say, and what stands before the host's name.
const HOST_REASONS: &[&str] = &[
    "could not resolve host: ",
    "could not resolve hostname ",
    "could not resolve proxy: ",
    "unable to resolve host address ",
    "getaddrinfo enotfound ",
    "getaddrinfo eai_again ",
    "dial tcp: lookup ",
    "failed to lookup address information",
    "temporary failure in name resolution",
    "name or service not known",
    "network is unreachable",
    "nodename nor servname provided",
];

/// What `mkfifo` makes.
pub const PIPE: &str = "a named pipe in the worktree (mkfifo)";

/// Programs and calls that need what no cage gives, by a word that they print before the reason.
const CALLS: &[(&str, &str)] = &[
    ("unshare", "a namespace of its own (unshare)"),
    ("bwrap", "a namespace of its own (bwrap)"),
    ("mount", "mounting"),
    ("chroot", "a root folder of its own (chroot)"),
    ("ptrace", "tracing another process (ptrace)"),
    ("strace", "tracing another process (ptrace)"),
    ("io_uring", "io_uring"),
    ("perf_event_open", "performance counters (perf_event_open)"),
    ("mknod", "a device file (mknod)"),
    ("mkfifo", PIPE),
    ("sudo", "another user's rights (sudo)"),
];

/// Everything suspicious in `text`, in its order and with repetitions.
pub fn suspicions(text: &str) -> Vec<Suspicion> {
    let lines: Vec<&str> = text.lines().filter(|line| line.len() <= LINE_BYTES_MAX).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let lower = line.to_ascii_lowercase();
        if let Some(host) = host(line, &lower) {
            let asked_by = if lower.starts_with("ssh: ") { AskedBy::Ssh } else { AskedBy::Anyone };
            found.push(Suspicion::Host { host, asked_by });
        }
        found.extend(loopback::unanswered(&lower).map(Suspicion::Loopback));
        if let Some(program) = program(line, &lower) {
            found.push(Suspicion::Program(program.to_owned()));
        }
        let speaks_of_writing = |lower: &str| WRITING.iter().any(|word| lower.contains(word));
        let intent = if speaks_of_writing(&lower) { Intent::Write } else { Intent::Unknown };
        let relative = |path| Suspicion::Path { path, reason: Reason::Missing, intent };
        found.extend(module(line).map(|path| Suspicion::Path {
            path,
            reason: Reason::Missing,
            intent: Intent::Unknown,
        }));
        found.extend(missing(line, &lower).into_iter().map(relative));
        found.extend(variable(line).map(|name| Suspicion::Variable(name.to_owned())));
        let limit = LIMITS.iter().find(|(words, _)| lower.contains(words));
        found.extend(limit.map(|(_, limit)| Suspicion::Limit(*limit)));
        if CROSS_DEVICE.iter().any(|words| lower.contains(words)) {
            found.push(Suspicion::CrossDevice(operands(line)));
        }
        let Some(&(_, reason)) = REASONS.iter().find(|(words, _)| lower.contains(words)) else { continue };
        let call = CALLS.iter().find(|(word, _)| reason == Reason::Denied && has_word(&lower, word));
        found.extend(call.map(|(_, call)| Suspicion::Call(call)));
        let lines_above = if names_something(line) { 0 } else { LINES_ABOVE };
        let around = lines[at.saturating_sub(lines_above)..=at].iter().rev().enumerate();
        let around = around.filter(|(_, line)| !is_frame(line));
        let named = around.map(|(above, line)| (above, line, paths(line))).find(|(_, _, paths)| !paths.is_empty());
        if let Some((above, line, paths)) = named {
            let lower = line.to_ascii_lowercase();
            let intent = match above {
                _ if speaks_of_writing(&lower) => Intent::Write,
                0 => Intent::Unknown,
                _ => Intent::Above,
            };
            found.extend(paths.into_iter().map(|path| Suspicion::Path { path, reason, intent }));
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|other| other == word)
}

/// `sh: 1: tool: not found`, `bash: line 1: tool: command not found`, `env: 'tool': No such file or directory`.
fn program<'a>(line: &'a str, lower: &str) -> Option<&'a str> {
    let before = [": command not found", ": not found"].iter().find_map(|words| lower.find(words));
    let name = match before {
        Some(end) => line[..end].rsplit(": ").next()?,
        None if lower.starts_with("env: ") => line[5..].split(": ").next()?,
        None => return None,
    };
    let name = trimmed(name);
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
}

/// What node says of a package that it does not find, as the folder in which a project has it: `Cannot find module 'left/pad'`,
/// `Cannot find package '@a/b' imported from …`. Source: nodejs.org/api/errors.html, `MODULE_NOT_FOUND`, `ERR_MODULE_NOT_FOUND`.
fn module(line: &str) -> Option<String> {
    let (_, rest) =
        ["Cannot find module '", "Cannot find package '"].iter().find_map(|words| line.split_once(words))?;
    let (name, _) = rest.split_once('\'')?;
    let parts = if name.starts_with('@') { 2 } else { 1 };
    let package: Vec<&str> = name.split('/').take(parts).collect();
    let is_package = package.iter().all(|part| !part.is_empty() && !part.starts_with('.'));
    is_package.then(|| format!("node_modules/{}", package.join("/")))
}

/// What a line says is not there, by names from the folder that the program ran in: `cat: build/app: No such file or directory`,
/// `sh: 0: cannot open build.sh: No such file`, `sh: 1: cannot create build/x: Directory nonexistent`, `[Errno 2] No such file or directory: 'build/app'`, `sh: 1: .: .env: not found`.
fn missing(line: &str, lower: &str) -> Vec<String> {
    let sourced = line.split_once(": .: ").and_then(|(_, rest)| rest.strip_suffix(": not found"));
    let mut names: Vec<&str> = sourced.into_iter().collect();
    if let Some(at) = ["no such file", "directory nonexistent"].iter().find_map(|words| lower.find(words)) {
        let operand = line[..at].trim_end_matches([':', ' ', ',']).rsplit(": ").next().unwrap_or_default();
        // Behind the words of what was tried; what is quoted is found as that.
        let is_bare = !operand.contains(is_quote) && !operand.starts_with('[');
        names.extend(operand.split_whitespace().next_back().filter(|_| is_bare));
        names.extend(quoted(line));
    }
    let is_relative = |name: &&str| {
        !name.starts_with(['/', '~'])
            && !name.starts_with("../")
            && name.chars().any(|c| c != '.' && !QUOTES.contains(&c))
    };
    names.into_iter().filter(is_relative).map(str::to_owned).collect()
}

/// Whether a line with a reason says itself what it is about, by a name that is no path from the root.
fn names_something(line: &str) -> bool {
    quoted(line).next().is_some()
}

/// Whether a line names where a program was, as Python's tracebacks do: `File "/a/b.py", line 3, in f`.
fn is_frame(line: &str) -> bool {
    line.trim_start().starts_with("File \"") && line.contains("\", line ")
}

fn is_quote(letter: char) -> bool {
    "'\"`‘’“”".contains(letter)
}

/// What stands in quotes and is no talk.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    let mut parts: Vec<&str> = line.split(is_quote).skip(1).collect();
    // What is behind the last of them.
    parts.pop();
    let is_name = |part: &&str| !part.is_empty() && part.trim() == *part && !part.starts_with([':', ',', ')']);
    parts.into_iter().filter(is_name)
}

/// The names of a line that fails at two paths: what is quoted in it, else its words before a colon (`rename a b: invalid …`).
fn operands(line: &str) -> Vec<String> {
    let quoted: Vec<&str> = quoted(line).collect();
    let bare = || line.split(": ").flat_map(str::split_whitespace).map(trimmed).filter(|word| !word.is_empty());
    let names = if quoted.is_empty() { bare().collect() } else { quoted };
    names.into_iter().map(str::to_owned).collect()
}

/// What shells (`set -u`, `${NAME:?}`) and Python (`os.environ[NAME]`) say of a variable that is not set.
fn variable(line: &str) -> Option<&str> {
    let of_a_shell = [": parameter not set", ": parameter null or not set", ": unbound variable"];
    let name = match of_a_shell.iter().find_map(|words| line.find(words)) {
        Some(end) => line[..end].rsplit(": ").next()?,
        None => line.strip_prefix("KeyError: '")?.strip_suffix('\'')?,
    };
    let is_name = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit());
    (is_name && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).then_some(name)
}

fn host(line: &str, lower: &str) -> Option<Option<String>> {
    let words = HOST_REASONS.iter().find(|words| lower.contains(**words))?;
    let after = words.ends_with(' ').then(|| &line[lower.find(words).unwrap_or(0) + words.len()..]);
    let name = after.and_then(|text| {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c))).find(|part| !part.is_empty())
    });
    let name = name.map(|name| name.trim_end_matches('.').to_owned()).filter(|name| !name.is_empty());
    Some(name.or_else(|| url_host(line)).or_else(|| named_host(line)))
}

/// The host that stands behind words of curl and Python's libraries.
fn named_host(line: &str) -> Option<String> {
    let (_, rest) = ["connect to ", "host='"].iter().find_map(|words| line.split_once(words))?;
    let name = rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c))).next()?.trim_end_matches('.');
    name.contains('.').then(|| name.to_owned())
}

/// The host of the first URL of a line.
fn url_host(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("://")?;
    let authority = rest.split(|c: char| "/?#'\"` )".contains(c)).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    (plain && !host.is_empty()).then(|| host.to_owned())
}

const QUOTES: &[char] = &['\'', '"', '`', '‘', '’', '“', '”', '(', ')', '[', ']', '<', '>', ',', ';', ':', '.', '!'];

/// The absolute paths of a line, and those that climb: what lies below the worktree is never kept from a job. The root stands in quotes
/// where it is meant.
fn paths(line: &str) -> Vec<String> {
    let root = ["'/'", "\"/\"", "`/`", "‘/’", "“/”"].iter().find_map(|root| line.find(root));
    let opens = |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || is_quote(before));
    let mut found: Vec<String> = root.filter(|at| opens(*at)).map(|_| "/".to_owned()).into_iter().collect();
    let mut add = |text: &str| {
        let telling = text.len() > 1 && (text.starts_with('/') || text.starts_with("../")) && !text.starts_with("//");
        if telling && !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    };
    // Quoted ones may hold spaces.
    line.split(is_quote).filter(|part| part.contains(' ') && !part.contains(": ")).for_each(&mut add);
    for part in line.split(|c: char| c.is_whitespace() || is_quote(c)) {
        add(trimmed(part));
        // `--flag=/path`, `PATH:line`.
        if let Some((_, value)) = part.split_once('=') {
            add(trimmed(value));
        }
        if let Some((path, _)) = part.split_once(':').filter(|(path, rest)| !path.is_empty() && !rest.is_empty()) {
            add(trimmed(path));
        }
    }
    found
}

/// Without the punctuation around it; a path may begin with dots.
fn trimmed(part: &str) -> &str {
    part.trim_end_matches(QUOTES).trim_start_matches(|c: char| c != '.' && QUOTES.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let words = |suspicion: &Suspicion| match suspicion {
            Suspicion::Path { path, reason, intent } => format!("{path} {reason:?} {intent:?}"),
            Suspicion::Program(name) => format!("program {name}"),
            Suspicion::Host { host, .. } => format!("host {}", host.as_deref().unwrap_or("?")),
            Suspicion::Loopback(host) => format!("loopback {host}"),
            Suspicion::Variable(name) => format!("variable {name}"),
            Suspicion::CrossDevice(names) => format!("across devices {}", names.join("|")),
            Suspicion::Call(call) => format!("call {call}"),
            Suspicion::Limit(limit) => format!("limit {limit}"),
        };
        suspicions(text).iter().map(words).collect()
    }

    #[test]
    fn what_programs_say_of_paths() {
        for (text, expected) in [
            ("cat: /root/x: No such file or directory", "/root/x Missing Unknown"),
            ("sh: 1: cannot create /data/x: Permission denied", "/data/x Denied Write"),
            ("sh: 1: cannot create /data/x: Directory nonexistent", "/data/x Missing Write"),
            ("touch: cannot touch '/opt/a b': Read-only file system", "/opt/a b ReadOnly Write"),
            ("PermissionError: [Errno 13] Permission denied: '/root/x'", "/root/x Denied Unknown"),
            ("Error: EACCES: permission denied, open '/root/x'", "/root/x Denied Unknown"),
            ("open /root/x: permission denied", "/root/x Denied Unknown"),
            (
                "error: failed to open: /root/.cargo/x\n\nCaused by:\n  Permission denied (os error 13)",
                "/root/.cargo/x Denied Above",
            ),
            ("ls: cannot open directory '../other': Permission denied", "../other Denied Unknown"),
            ("ld: cannot open output file --out=/x/y: Read-only file system", "/x/y ReadOnly Unknown"),
            ("pyenv: cannot rehash: /root/.pyenv/shims isn't writable", "/root/.pyenv/shims ReadOnly Unknown"),
            ("/x/y.c:12: fatal: No such file or directory", "/x/y.c:12 Missing Unknown"),
            ("PermissionError: [Errno 13] Permission denied: '/'", "/ Denied Unknown"),
            ("cat: build/app: No such file or directory", "build/app Missing Unknown"),
            ("ls: cannot access 'build/my app': No such file or directory", "build/my app Missing Unknown"),
            ("sh: 1: .: cannot open .venv/bin/activate: No such file", ".venv/bin/activate Missing Unknown"),
            ("sh: 1: .: cannot open ./.env: No such file", "./.env Missing Unknown"),
            ("sh: 1: .: .env: not found", ".env Missing Unknown"),
            ("bash: line 1: .env: No such file or directory", ".env Missing Unknown"),
            ("FileNotFoundError: [Errno 2] No such file or directory: 'build/app'", "build/app Missing Unknown"),
            ("Error: ENOENT: no such file or directory, open 'build/app'", "build/app Missing Unknown"),
            ("cp: cannot create regular file 'build/x': No such file or directory", "build/x Missing Write"),
            ("sh: 1: cannot create build/x: Directory nonexistent", "build/x Missing Write"),
        ] {
            assert!(told(text).iter().any(|line| line == expected), "{text}: {:?}", told(text));
        }
    }

    #[test]
    fn what_only_stands_above_a_reason_is_told_apart() {
        let traceback = "Traceback (most recent call last):\n  File \"/root/run.py\", line 3, in <module>\n    f()\n";
        for (text, expected) in [
            ("reading /root/x\nPermission denied (os error 13)", vec!["/root/x Denied Above"]),
            ("cannot write /root/x\nPermission denied (os error 13)", vec!["/root/x Denied Write"]),
            ("reading /root/x\nPermission denied: 'build'", vec![]),
            (&format!("{traceback}PermissionError: [Errno 13] Permission denied"), vec![]),
            (
                &format!("{traceback}FileNotFoundError: [Errno 2] No such file or directory: 'a'"),
                vec!["a Missing Unknown"],
            ),
            ("joined \"a\"/\"b\": permission denied", vec![]),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn what_programs_say_of_hosts_programs_and_calls() {
        for (text, expected) in [
            ("curl: (6) Could not resolve host: example.org", "host example.org"),
            ("fatal: unable to access 'https://u@h.net:8/x/': Could not resolve host: h.net", "host h.net"),
            ("ssh: Could not resolve hostname git.io: Temporary failure in name resolution", "host git.io"),
            (
                "npm error network request to https://registry.npmjs.org/x failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org",
                "host registry.npmjs.org",
            ),
            ("dial tcp: lookup proxy.golang.org: no such host", "host proxy.golang.org"),
            ("error: https://x.io/y: failed to lookup address information: Name or service not known", "host x.io"),
            ("connect: Network is unreachable", "host ?"),
            ("sh: 1: jq: not found", "program jq"),
            ("sh: 1: ./build.sh: not found", "program ./build.sh"),
            ("curl: (7) Failed to connect to x.org port 80: Network is unreachable", "host x.org"),
            ("HTTPSConnectionPool(host='pypi.org', port=443): [Errno 101] Network is unreachable", "host pypi.org"),
            ("sh: 0: cannot open build.sh: No such file", "build.sh Missing Unknown"),
            ("bash: ci/build.sh: No such file or directory", "ci/build.sh Missing Unknown"),
            ("sh: 1: FOO_BAR: parameter not set", "variable FOO_BAR"),
            ("sh: 1: FOO_BAR: parameter not set or null", "variable FOO_BAR"),
            ("bash: line 1: FOO_BAR: unbound variable", "variable FOO_BAR"),
            ("KeyError: 'FOO_BAR'", "variable FOO_BAR"),
            ("bash: line 1: jq: command not found", "program jq"),
            ("env: 'python9': No such file or directory", "program python9"),
            ("unshare: unshare failed: Operation not permitted", "call a namespace of its own (unshare)"),
            ("fatal: renaming 'a/b' failed: Invalid cross-device link", "across devices a/b"),
            ("OSError: [Errno 18] Invalid cross-device link: 'a b' -> 'c'", "across devices a b|c"),
            ("Error: EXDEV: cross-device link not permitted, rename 'a' -> 'c'", "across devices a|c"),
            ("rename a c: invalid cross-device link", "across devices rename|a|c|invalid|cross-device|link"),
            ("OSError: [Errno 27] File too large", "limit disk"),
            ("Error: EMFILE: too many open files, open 'x'", "limit open-files"),
            ("mkfifo: cannot create fifo 'f': Permission denied", "call a named pipe in the worktree (mkfifo)"),
        ] {
            assert!(told(text).iter().any(|line| line == expected), "{text}: {:?}", told(text));
        }
    }

    #[test]
    fn ordinary_output_raises_no_suspicion() {
        for text in [
            "",
            "running 12 tests\ntest denied ... ok",
            "reading /etc/passwd",
            "error[E0425]: cannot find value `x` in this scope\n --> src/main.rs:3:5",
            "assertion failed: left == right, see /usr/share/doc",
        ] {
            assert_eq!(told(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        proptest::proptest!(|(text in "(/?[a-z:' ]{0,6}|: |permission denied|ü|could not resolve host: |\n|://|=){0,30}")| {
            suspicions(&text);
        });
    }
}
