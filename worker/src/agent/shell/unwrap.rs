//! Commands inside of commands: `sudo rm`, `env X=1 rm`, `xargs rm`, `bash -c 'rm'`, `find -exec rm`, `git -c alias.x=!rm`.

use super::{Command, Word};

/// What a command runs in turn.
#[derive(Debug)]
pub enum Inner {
    /// Nothing that is known.
    Nothing,
    /// These commands.
    Commands(Vec<Command>),
    /// These scripts, each as one word.
    Scripts(Vec<Word>),
}

/// Shells, which run their argument behind `-c`, or what is piped into them.
pub const SHELLS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "rbash", "mksh", "csh", "tcsh", "yash", "posh", "lksh", "ksh93",
    "oksh", "pdksh", "rksh", "rzsh", "bosh", "sash", "osh", "hush",
];

/// A wrapper: its options whose value is a word of its own, the letters of those that may have one and then have it attached
/// (`xargs -i{}`: what follows such an option is the command), and how many words of its own come before the command.
struct Wrapper {
    name: &'static str,
    valued: &'static [&'static str],
    attached: &'static str,
    own_words: usize,
}

const fn wrapper(name: &'static str, valued: &'static [&'static str], own_words: usize) -> Wrapper {
    Wrapper { name, valued, attached: "", own_words }
}

impl Wrapper {
    const fn attaching(self, attached: &'static str) -> Wrapper {
        Wrapper { attached, ..self }
    }
}

const WRAPPERS: &[Wrapper] = &[
    wrapper(
        "sudo",
        &[
            "-u", "-g", "-h", "-p", "-C", "-T", "-r", "-t", "-D", "-R", "-U", "--user", "--group", "--host",
            "--prompt", "--chdir",
        ],
        0,
    ),
    wrapper("doas", &["-u", "-C"], 0),
    wrapper("timeout", &["-k", "-s", "--kill-after", "--signal"], 1),
    wrapper("nice", &["-n", "--adjustment"], 0),
    wrapper("ionice", &["-c", "-n", "-p", "--class", "--classdata"], 0),
    wrapper("chrt", &["-p", "-T", "-P", "-D"], 1),
    wrapper("taskset", &["-p"], 1),
    wrapper("nohup", &[], 0),
    wrapper("setsid", &[], 0),
    wrapper("stdbuf", &["-i", "-o", "-e", "--input", "--output", "--error"], 0),
    wrapper("time", &["-o", "-f", "--output", "--format"], 0),
    wrapper("command", &[], 0),
    wrapper("coproc", &[], 0),
    wrapper("builtin", &[], 0),
    wrapper("exec", &["-a"], 0),
    wrapper(
        "xargs",
        &[
            "-I",
            "-n",
            "-P",
            "-L",
            "-d",
            "-a",
            "-E",
            "-s",
            "--max-args",
            "--max-procs",
            "--delimiter",
            "--arg-file",
            "--max-chars",
            "--process-slot-var",
        ],
        0,
    )
    .attaching("eil"),
    wrapper("parallel", &["-j", "--jobs", "-n", "-N", "-I", "--joblog"], 0),
    wrapper("strace", &["-e", "-o", "-p", "-s", "-u", "-E"], 0),
    wrapper("ltrace", &["-e", "-o", "-p"], 0),
    wrapper("chroot", &[], 1),
    wrapper(
        "unshare",
        &[
            "-S",
            "-G",
            "-R",
            "-w",
            "--setuid",
            "--setgid",
            "--root",
            "--wd",
            "--map-user",
            "--map-users",
            "--map-group",
            "--map-groups",
            "--propagation",
            "--setgroups",
            "--monotonic",
            "--boottime",
        ],
        0,
    ),
    wrapper("nsenter", &["-t", "-S", "-G", "-W", "--target", "--setuid", "--setgid", "--wdns"], 0)
        .attaching("muinpUCTrw"),
    wrapper("busybox", &[], 0),
    wrapper("toybox", &[], 0),
    wrapper("caffeinate", &["-t", "-w"], 0),
    wrapper("flock", &["-w", "-E", "--wait", "--timeout", "--conflict-exit-code"], 1),
    wrapper("runuser", &["-u", "-g", "-G"], 0),
    wrapper(
        "setpriv",
        &[
            "--ambient-caps",
            "--apparmor-profile",
            "--bounding-set",
            "--egid",
            "--euid",
            "--groups",
            "--inh-caps",
            "--landlock-access",
            "--landlock-rule",
            "--pdeathsig",
            "--ptracer",
            "--regid",
            "--reuid",
            "--rgid",
            "--ruid",
            "--seccomp-filter",
            "--securebits",
            "--selinux-label",
        ],
        0,
    ),
    wrapper("systemd-run", &["-p", "-u", "-t", "--unit", "--property"], 0),
];

/// Whether what a program of that name runs is read here.
pub fn is_wrapper(name: &str) -> bool {
    WRAPPERS.iter().any(|wrapper| wrapper.name == name)
}

/// What `command` runs in turn.
pub fn inner(command: &Command) -> Inner {
    let Some(name) = command.name() else { return Inner::Nothing };
    if SHELLS.contains(&name) {
        return shell(command);
    }
    if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
        return wrapped(command, wrapper);
    }
    match name {
        "env" => env(command),
        "eval" => scripts([joined(&command.words[1..])]),
        // A dash takes back what was set.
        "trap" => {
            let script = command.words.iter().skip(1).find(|word| word.text() != "--");
            scripts(script.filter(|script| script.text() != "-").cloned())
        }
        "alias" => {
            // What stands behind the alias where it is used goes on from it.
            let bodies = command.known().filter_map(|word| word.split_once('='));
            scripts(bodies.map(|(_, body)| Word::Literal(format!("{body} $@"))))
        }
        "su" | "sg" | "script" | "runuser" | "capsh" => {
            // A shell takes what stands behind `--`.
            let rest = command.words.iter().position(|word| word.text() == "--").map(|at| &command.words[at + 1..]);
            let rest = rest.filter(|rest| !rest.is_empty());
            let mut own: Vec<Word> = behind(command, &["-c", "--command"]).into_iter().collect();
            // Behind the group, with and without `-c`.
            own.extend(command.words.get(2).filter(|_| name == "sg").cloned());
            match rest {
                Some([option, script, ..]) if option.text() == "-c" => scripts(own.into_iter().chain([script.clone()])),
                Some(rest) => scripts(own.into_iter().chain([joined(rest)])),
                None => scripts(own),
            }
        }
        // Each word of its own is a script, and so is the value of some options.
        "hyperfine" => {
            let own = command.words.iter().skip(1).filter(|word| !word.text().starts_with('-'));
            let attached = command.known().filter(|word| word.starts_with("--"));
            let attached =
                attached.filter_map(|word| word.split_once('=')).map(|(_, script)| Word::Literal(script.into()));
            scripts(own.cloned().chain(attached))
        }
        "watch" | "entr" => {
            let known = command.known().filter(|word| !word.starts_with('-'));
            scripts([Word::Literal(known.collect::<Vec<_>>().join(" "))])
        }
        "find" | "fd" | "fdfind" => exec(command),
        "git" => git(command),
        "make" | "gmake" => {
            let shells = command.known().filter_map(|word| word.strip_prefix("SHELL="));
            scripts(shells.map(|shell| Word::Literal(shell.to_owned())))
        }
        _ => Inner::Nothing,
    }
}

fn scripts(scripts: impl IntoIterator<Item = Word>) -> Inner {
    let scripts: Vec<Word> = scripts.into_iter().filter(|script| !script.text().trim().is_empty()).collect();
    if scripts.is_empty() { Inner::Nothing } else { Inner::Scripts(scripts) }
}

fn commands(of: &Command, words: &[Word]) -> Inner {
    match words {
        [] => Inner::Nothing,
        words => Inner::Commands(vec![Command { words: words.to_vec(), assigns: vec![], ..of.clone() }]),
    }
}

fn joined(words: &[Word]) -> Word {
    let text = words.iter().map(Word::text).collect::<Vec<_>>().join(" ");
    match words.iter().all(|word| word.literal().is_some()) {
        true => Word::Literal(text),
        false => Word::Unknown(text),
    }
}

/// What follows one of `options`.
fn behind(command: &Command, options: &[&str]) -> Option<Word> {
    let at = command.words.iter().position(|word| word.literal().is_some_and(|word| options.contains(&word)))?;
    command.words.get(at + 1).cloned()
}

/// Long options of bash whose value is the next word; it takes all of its long options with one dash, too.
const SHELL_VALUED: &[&str] = &["rcfile", "init-file", "init-command", "emulate"];
/// Long options of bash that hold a `c` or an `o` and mean neither.
const SHELL_LONG: &[&str] = &[
    "debugger",
    "dump-po-strings",
    "dump-strings",
    "login",
    "noediting",
    "noprofile",
    "norc",
    "posix",
    "pretty-print",
    "restricted",
    "verbose",
    "version",
    "wordexp",
];

/// `sh -c SCRIPT`: the script is the first word that is no option, behind the `c` of any cluster, wherever that stands among the
/// options (`-c -e`, `+x -c --`, `-co errexit`). Where that cannot be told, all that it may be is read.
///
/// Source: bash(1), dash(1); fish(1), where the script is the option's value.
fn shell(command: &Command) -> Inner {
    if command.name() == Some("fish") {
        return scripts(fish(command));
    }
    let (mut may_be, mut runs, mut at) = (vec![], false, 1);
    while let Some(word) = command.words.get(at) {
        at += 1;
        let Some(text) = word.literal() else {
            may_be.push(word.clone());
            continue;
        };
        if matches!(text, "-" | "--") {
            may_be.extend(command.words.get(at).cloned());
            break;
        }
        let Some(letters) = text.strip_prefix(['-', '+']) else {
            may_be.push(word.clone());
            break;
        };
        let long = letters.strip_prefix('-').unwrap_or(letters);
        if SHELL_VALUED.contains(&long) {
            at += 1;
        } else if long == "command" {
            runs = true;
        } else if !letters.starts_with('-') && !SHELL_LONG.contains(&letters) {
            runs |= letters.contains('c');
            let valued = letters.chars().filter(|letter| matches!(letter, 'o' | 'O')).count();
            // Some shells take what is attached for the value.
            if valued > 0 && !letters.ends_with(['o', 'O']) {
                may_be.extend(command.words.get(at).cloned());
            }
            at += valued;
        }
    }
    if runs { scripts(may_be) } else { Inner::Nothing }
}

/// What `fish` runs before it reads anything.
fn fish(command: &Command) -> Vec<Word> {
    let mut found = vec![];
    for (at, word) in command.words.iter().enumerate().skip(1) {
        let text = word.text();
        let long = ["--command", "--init-command"].iter().find_map(|option| text.strip_prefix(option));
        let short = text.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let attached = match (long, short.and_then(|rest| rest.split_once(['c', 'C']))) {
            (Some(long), _) => long.trim_start_matches('='),
            (None, Some((_, attached))) => attached,
            (None, None) => continue,
        };
        match (attached.is_empty(), word.literal().is_some()) {
            (true, _) => found.extend(command.words.get(at + 1).cloned()),
            (false, true) => found.push(Word::Literal(attached.to_owned())),
            (false, false) => found.push(Word::Unknown(attached.to_owned())),
        }
    }
    found
}

/// Whether an option's value is the next word: `-u X`, `-iu X`, `--unset X` and, cut short, `--uns X`, but not `-uX` or
/// `--unset=X`.
fn takes_next(option: &str, valued: &[&str], attached: &str) -> bool {
    if option.starts_with("--") {
        return option.len() > 2 && valued.iter().any(|known| known.starts_with(option));
    }
    let is_valued =
        |letter: char| valued.iter().any(|known| known.strip_prefix('-') == Some(letter.to_string().as_str()));
    // The first letter that has a value takes the rest of the word for it.
    let mut letters = option.char_indices().skip(1);
    let first = letters.find(|(_, letter)| is_valued(*letter) || attached.contains(*letter));
    first.is_some_and(|(at, letter)| is_valued(letter) && at + letter.len_utf8() == option.len())
}

fn wrapped(command: &Command, wrapper: &Wrapper) -> Inner {
    let mut at = 1;
    let mut own = wrapper.own_words;
    while let Some(word) = command.words.get(at) {
        let text = word.text();
        if text == "--" {
            at += 1;
            break;
        }
        let option = text.starts_with('-') && text.len() > 1;
        if option {
            at += 1 + usize::from(takes_next(text, wrapper.valued, wrapper.attached));
        } else if text.contains('=') && matches!(wrapper.name, "sudo" | "doas") {
            at += 1;
        } else if own > 0 {
            own -= 1;
            at += 1;
            // `flock FILE -c SCRIPT` is no command of words.
            if let ("flock", Some("-c" | "--command")) = (wrapper.name, command.words.get(at).map(Word::text)) {
                return scripts(command.words.get(at + 1).cloned());
            }
        } else {
            break;
        }
    }
    let inner = &command.words[(at + own).min(command.words.len())..];
    match wrapper.name {
        "xargs" => commands(command, &fed(command, inner)),
        "coproc" => commands(command, named_coprocess(inner)),
        _ => commands(command, inner),
    }
}

/// What `xargs` runs: its own words with those of its input behind them, or in the place of a mark.
fn fed(command: &Command, inner: &[Word]) -> Vec<Word> {
    let own = &command.words[..command.words.len() - inner.len()];
    let replaces = |word: &Word| {
        let short = |text: &str| !text.starts_with("--") && text.starts_with('-') && text.contains(['I', 'i']);
        short(word.text()) || word.text().starts_with("--replace")
    };
    if inner.is_empty() {
        return vec![];
    }
    match own.iter().skip(1).any(replaces) {
        // The mark may be any text: no word is taken for what it says where it stands apart from letters.
        true => {
            let marks: Vec<&str> = own.iter().skip(1).map(Word::text).flat_map(mark).collect();
            let holds = |word: &Word| word.text().contains("{}") || marks.iter().any(|mark| word.text().contains(mark));
            inner
                .iter()
                .map(|word| if holds(word) { Word::Fed(word.text().to_owned()) } else { word.clone() })
                .collect()
        }
        false => inner.iter().cloned().chain([Word::Fed("…".to_owned())]).collect(),
    }
}

/// What an own word of `xargs` may name as its mark: all of it, or what an option has attached.
fn mark(word: &str) -> Option<&str> {
    let mark = match word.strip_prefix("--replace=") {
        Some(mark) => mark,
        None if word.starts_with("--") => "",
        None => match word.strip_prefix('-') {
            Some(letters) => letters.split_once(['I', 'i']).map_or("", |(_, mark)| mark),
            None => word,
        },
    };
    (!mark.is_empty()).then_some(mark)
}

/// `coproc NAME { command; }`: the grammar knows no such thing and gives the words as they stand.
fn named_coprocess(inner: &[Word]) -> &[Word] {
    match inner.iter().position(|word| matches!(word.literal(), Some("{" | "("))) {
        Some(at) => &inner[at + 1..],
        None => inner,
    }
}

/// Options of `env` whose value is a word of its own.
const ENV_VALUED: &[&str] = &["-u", "-C", "-a", "--unset", "--chdir", "--argv0"];

/// `env [options] [NAME=VALUE…] command`.
fn env(command: &Command) -> Inner {
    let mut at = 1;
    let mut assigns = vec![];
    while let Some(word) = command.words.get(at) {
        let text = word.text();
        match text {
            _ if splits(text).is_some() => {
                let attached = splits(text).unwrap_or_default();
                let words: Vec<Word> = match word.literal() {
                    Some(_) => vec![Word::Literal(attached.to_owned())],
                    None => vec![Word::Unknown(attached.to_owned())],
                };
                // What it splits may begin with options of its own, and with variables.
                let own = [Word::Literal("env".to_owned())];
                return scripts([joined(&[&own, words.as_slice(), &command.words[at + 1..]].concat())]);
            }
            _ if text.starts_with('-') => at += 1 + usize::from(takes_next(text, ENV_VALUED, "S")),
            _ => match text.split_once('=') {
                Some((name, _)) => {
                    assigns.push(name.to_owned());
                    at += 1;
                }
                None => break,
            },
        }
    }
    match command.words.get(at..) {
        Some(words) if !words.is_empty() => {
            Inner::Commands(vec![Command { words: words.to_vec(), assigns, ..command.clone() }])
        }
        _ => Inner::Nothing,
    }
}

/// What is attached to an option of `env` that splits a text into words (`-S`, `-vS`, `--split-string=`, cut short, too).
fn splits(option: &str) -> Option<&str> {
    if let Some(long) = option.strip_prefix("--") {
        let (name, attached) = long.split_once('=').unwrap_or((long, ""));
        return (!name.is_empty() && "split-string".starts_with(name)).then_some(attached);
    }
    let letters = option.strip_prefix('-')?;
    let (before, attached) = letters.split_once('S')?;
    // A letter before it that has a value takes all that follows.
    (!before.contains(['u', 'C', 'a', '='])).then_some(attached)
}

/// `find … -exec command ;` and its relatives, any number of them.
fn exec(command: &Command) -> Inner {
    const EXEC: &[&str] = &["-exec", "-execdir", "-ok", "-okdir", "-x", "-X", "--exec", "--exec-batch"];
    let mut found = vec![];
    let mut words = command.words.iter().peekable();
    while let Some(word) = words.next() {
        if !word.literal().is_some_and(|word| EXEC.contains(&word)) {
            continue;
        }
        let mut inner = vec![];
        while let Some(word) = words.next_if(|word| !matches!(word.literal(), Some(";" | "+"))) {
            // Not a danger by itself: what is found lies where it was looked for.
            inner.push(if word.text().contains("{}") { Word::Fed(word.text().to_owned()) } else { word.clone() });
        }
        found.push(Command { captured: command.captured, ..Command::of(inner) });
    }
    found.retain(|command| !command.words.is_empty());
    if found.is_empty() { Inner::Nothing } else { Inner::Commands(found) }
}

/// Settings of git that are commands, given on its command line.
fn git(command: &Command) -> Inner {
    let mut found = vec![];
    let mut words = command.words.iter().skip(1);
    while let Some(word) = words.next() {
        let setting = match word.literal() {
            Some("-c" | "--config-env") => words.next().map(Word::text),
            Some(other) => other.strip_prefix("-c").filter(|rest| rest.contains('=')),
            None => None,
        };
        let Some((key, value)) = setting.and_then(|setting| setting.split_once('=')) else { continue };
        let key = key.to_lowercase();
        if let Some(script) = value.strip_prefix('!') {
            found.push(Word::Literal(script.to_owned()));
        } else if key.starts_with("alias.") {
            found.push(Word::Literal(format!("git {value}")));
        } else if GIT_COMMANDS.iter().any(|suffix| key.ends_with(suffix)) {
            found.push(Word::Literal(value.to_owned()));
        }
    }
    // A subcommand that runs a script over history.
    let known: Vec<&str> = command.known().collect();
    if known.contains(&"filter-branch")
        || known.contains(&"bisect")
        || known.contains(&"foreach")
        || known.contains(&"rebase")
    {
        for pair in known.windows(2) {
            if pair[0].ends_with("-filter") || matches!(pair[0], "--exec" | "-x" | "foreach" | "run") {
                found.push(Word::Literal(pair[1].to_owned()));
            }
        }
    }
    scripts(found)
}

/// Git's own options, before its subcommand, whose value is a word of its own.
///
/// Source: git(1), OPTIONS.
pub const GIT_VALUED: &[&str] = &[
    "-C",
    "-c",
    "--git-dir",
    "--work-tree",
    "--namespace",
    "--config-env",
    "--attr-source",
    "--super-prefix",
    "--shallow-file",
];

/// A command of git without the options between `git` and its subcommand; `None` where none stand there.
pub fn without_options_of_git(command: &Command) -> Option<Command> {
    let is_git = command.name() == Some("git");
    let mut at = 1;
    while let Some(option) = command.words.get(at).and_then(Word::literal).filter(|word| word.starts_with('-')) {
        at += 1 + usize::from(GIT_VALUED.contains(&option));
    }
    if !is_git || at == 1 {
        return None;
    }
    let words = command.words.iter().take(1).chain(command.words.iter().skip(at)).cloned().collect();
    Some(Command { words, ..command.clone() })
}

/// Keys of git's configuration whose values git runs.
pub const GIT_COMMANDS: &[&str] = &[
    "core.fsmonitor",
    "core.sshcommand",
    "core.pager",
    "core.editor",
    "core.hookspath",
    "core.askpass",
    "core.gitproxy",
    "sequence.editor",
    "diff.external",
    ".textconv",
    ".clean",
    ".smudge",
    ".process",
    ".driver",
    "credential.helper",
    "gpg.program",
    "uploadpack.packobjectshook",
    "interactive.difffilter",
    "web.browser",
    ".cmd",
    "pager.log",
];
