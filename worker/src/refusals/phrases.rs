//! The words in which programs tell that something was refused, found in what they print. Pure: whether a suspicion is
//! right is for the policy to say.
//!
//! Programs print the reason of strerror(3), of their language's runtime, or of their resolver, and beside it the path or host.
//! Where the line with the reason names none, the lines before it are looked at: cargo and anyhow print causes below.

use swarm_sandbox::limits::Limit;

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
    /// A host could not be reached; its name where it is printed.
    Host(Option<String>),
    /// A call that needs privileges.
    Call(&'static str),
    /// More than a limit gives.
    Limit(Limit),
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
            found.push(Suspicion::Host(host));
        }
        if let Some(program) = program(line, &lower) {
            found.push(Suspicion::Program(program.to_owned()));
        }
        found.extend(script(line, &lower));
        found.extend(variable(line).map(|name| Suspicion::Variable(name.to_owned())));
        let limit = LIMITS.iter().find(|(words, _)| lower.contains(words));
        found.extend(limit.map(|(_, limit)| Suspicion::Limit(*limit)));
        let Some(&(_, reason)) = REASONS.iter().find(|(words, _)| lower.contains(words)) else { continue };
        let call = CALLS.iter().find(|(word, _)| reason == Reason::Denied && has_word(&lower, word));
        found.extend(call.map(|(_, call)| Suspicion::Call(call)));
        let around = lines[at.saturating_sub(LINES_ABOVE)..=at].iter().rev();
        let named = around.map(|line| (line, paths(line))).find(|(_, paths)| !paths.is_empty());
        if let Some((line, paths)) = named {
            let lower = line.to_ascii_lowercase();
            let intent = if WRITING.iter().any(|word| lower.contains(word)) { Intent::Write } else { Intent::Unknown };
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

/// A script that a shell was to run, from its folder: `sh: 0: cannot open build.sh: No such file`, `bash: build.sh: No such file or
/// directory`.
fn script(line: &str, lower: &str) -> Option<Suspicion> {
    let before = &line[..lower.find(": no such file")?];
    let name = match before.split_once(": cannot open ") {
        Some((_, name)) => name,
        None => before.strip_prefix("bash: ")?,
    };
    let is_relative = !name.starts_with(['/', '.']) && !name.contains(char::is_whitespace);
    let script = || Suspicion::Path { path: name.to_owned(), reason: Reason::Missing, intent: Intent::Unknown };
    (is_relative && !name.is_empty()).then(script)
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

/// The absolute paths of a line, and those that climb: what lies below the worktree is never kept from a job.
fn paths(line: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |text: &str| {
        let telling = text.len() > 1 && (text.starts_with('/') || text.starts_with("../")) && !text.starts_with("//");
        if telling && !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    };
    // Quoted ones may hold spaces.
    let quoted = |c: char| "'\"`‘’“”".contains(c);
    line.split(quoted).filter(|part| part.contains(' ') && !part.contains(": ")).for_each(&mut add);
    for part in line.split(|c: char| c.is_whitespace() || quoted(c)) {
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
            Suspicion::Host(host) => format!("host {}", host.as_deref().unwrap_or("?")),
            Suspicion::Variable(name) => format!("variable {name}"),
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
                "/root/.cargo/x Denied Unknown",
            ),
            ("ls: cannot open directory '../other': Permission denied", "../other Denied Unknown"),
            ("ld: cannot open output file --out=/x/y: Read-only file system", "/x/y ReadOnly Unknown"),
            ("pyenv: cannot rehash: /root/.pyenv/shims isn't writable", "/root/.pyenv/shims ReadOnly Unknown"),
            ("/x/y.c:12: fatal: No such file or directory", "/x/y.c:12 Missing Unknown"),
        ] {
            assert!(told(text).iter().any(|line| line == expected), "{text}: {:?}", told(text));
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
