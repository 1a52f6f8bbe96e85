//! What only reads: commands that change nothing and run nothing else, whatever their arguments, but for those named here.

use super::{Command, Script, Word};

/// Commands that only read, with the arguments that would make them do more.
const READERS: &[(&str, &[&str])] = &[
    ("ls", &[]),
    ("cat", &[]),
    ("head", &[]),
    ("tail", &[]),
    ("wc", &[]),
    ("grep", &[]),
    ("egrep", &[]),
    ("fgrep", &[]),
    ("rg", &["--pre", "--hostname-bin", "-z", "--search-zip"]),
    ("pwd", &[]),
    ("echo", &[]),
    ("true", &[]),
    ("false", &[]),
    ("basename", &[]),
    ("dirname", &[]),
    ("realpath", &[]),
    ("readlink", &[]),
    ("stat", &[]),
    ("file", &["-C", "--compile", "-z", "-Z"]),
    ("du", &[]),
    ("df", &[]),
    ("sort", &["-o", "--output", "--compress-program", "-T", "--temporary-directory"]),
    ("cut", &[]),
    ("tr", &[]),
    ("comm", &[]),
    ("diff", &["--output"]),
    ("cmp", &[]),
    ("jq", &[]),
    // With `-R` it writes a page into each folder.
    ("tree", &["-o", "-R"]),
    ("which", &[]),
    ("type", &[]),
    ("id", &[]),
    ("whoami", &[]),
    ("uname", &[]),
    ("sha256sum", &[]),
    ("sha1sum", &[]),
    ("md5sum", &[]),
    ("b3sum", &[]),
    ("od", &[]),
    ("hexdump", &[]),
    ("strings", &[]),
    ("nl", &[]),
    ("tac", &[]),
    ("rev", &[]),
    ("fold", &[]),
    ("column", &[]),
    ("seq", &[]),
    ("expr", &[]),
    ("printenv", &[]),
    ("nproc", &[]),
    ("uptime", &[]),
    ("cksum", &[]),
    ("paste", &[]),
    ("join", &[]),
    ("ps", &[]),
];

/// Git's subcommands that only read.
const GIT_READS: &[&str] = &[
    "status",
    "log",
    "diff",
    "show",
    "rev-parse",
    "ls-files",
    "ls-tree",
    "blame",
    "describe",
    "shortlog",
    "cat-file",
    "rev-list",
    "merge-base",
    "diff-tree",
    "diff-index",
    "name-rev",
    "for-each-ref",
    "show-ref",
    "count-objects",
    "check-ignore",
    "whatchanged",
    "grep",
    "version",
];

/// Arguments that make one of [`GIT_READS`] write or run something.
const GIT_NOT: &[&str] = &["--output", "--ext-diff", "--textconv", "--open-files-in-pager", "-O", "--filters"];

/// What keeps the script from being proved to only read; `None` when it is proved.
pub fn refute(script: &Script) -> Option<String> {
    if let Some(why) = &script.unproven {
        return Some(why.clone());
    }
    if let Some(unread) = script.unread.first() {
        return Some(unread.what.clone());
    }
    let is_refuted = |command: &&Command| !only_reads(command) || names_may_do_more(command);
    script.commands.iter().find(is_refuted).map(|command| match command.words.first() {
        Some(word) if only_reads(command) => {
            format!("names of files may be options for `{}`: put `./` in front of the pattern", word.text())
        }
        Some(word) => format!("`{}` may do more than read", word.text()),
        None => "nothing is run".to_owned(),
    })
}

/// Whether a command only reads, whatever stands around it.
pub fn only_reads(command: &Command) -> bool {
    // A name with a folder may be any program; unknown words may be any option.
    let named = command.words.first().and_then(Word::literal).filter(|name| !name.contains('/'));
    let Some(name) = named else { return false };
    if command.arguments().any(|argument| argument.is_none()) {
        return false;
    }
    let arguments: Vec<&str> = command.known().collect();
    if let Some((_, refused)) = READERS.iter().find(|(reader, _)| *reader == name) {
        return !arguments.iter().any(|argument| refused.iter().any(|refused| is_option(argument, refused)));
    }
    match name {
        "git" => git(&arguments),
        "find" => !arguments.iter().any(|argument| FIND_NOT.contains(argument)),
        // A second name is where it writes.
        "uniq" | "xxd" => {
            let names = arguments.iter().filter(|argument| !argument.starts_with('-') || **argument == "-").count();
            names <= 1 && !arguments.iter().any(|argument| argument.starts_with("-r"))
        }
        "sed" => sed_prints(&arguments),
        "date" => arguments
            .iter()
            .all(|argument| argument.starts_with('+') || matches!(*argument, "-u" | "-R" | "-I" | "--utc")),
        "env" => arguments.is_empty(),
        // A variable's subscript is a sum, and runs what is substituted in it: `a[$(…)]`.
        "test" | "[" => !arguments.iter().any(|argument| matches!(*argument, "-v" | "-R") || holds_subscript(argument)),
        "printf" => !arguments.iter().any(|argument| argument.starts_with("-v")),
        "cd" => true,
        "hostname" => arguments.is_empty(),
        // Not cargo and rustc, which ask rustup, and that runs what `rust-toolchain.toml` names as a toolchain's path; nor go, which
        // changes to the one that `go.mod` names.
        // Any other word is a file that is run, and `python -v` runs what stands in the pipe.
        "node" | "npm" | "gcc" | "clang" => matches!(arguments[..], ["--version" | "-v"]),
        "python" | "python3" => matches!(arguments[..], ["--version" | "-V"]),
        "java" => matches!(arguments[..], ["--version" | "-version"]),
        _ => false,
    }
}

/// Whether a program of that name only reads and prints, whatever its arguments are.
pub fn prints_only(name: &str) -> bool {
    READERS.iter().any(|(reader, refused)| *reader == name && refused.is_empty())
}

/// Options that have no value, so that a `--` behind them is no value either.
const FLAGS: &[&str] = &[
    "--oneline",
    "--stat",
    "--numstat",
    "--shortstat",
    "--name-only",
    "--name-status",
    "--cached",
    "--staged",
    "--graph",
    "--all",
    "--patch",
    "-p",
];

/// Whether files of unlucky names would make a command do more than read: the shell puts their names for a pattern, and one of
/// them may be an option (`--output=x`), or a name more than the command reads.
fn names_may_do_more(command: &Command) -> bool {
    let name = command.name().unwrap_or_default();
    let has_no_more = READERS.iter().any(|(reader, refused)| *reader == name && refused.is_empty());
    if command.globs.is_empty() || has_no_more {
        return false;
    }
    let words: Vec<&str> = command.words.iter().map(Word::text).collect();
    // Its expression goes on behind a `--`.
    let dashes = words.iter().position(|word| *word == "--").filter(|_| !matches!(name, "find" | "test" | "["));
    let is_end = |at: &usize| !words[at - 1].starts_with('-') || FLAGS.contains(&words[at - 1]);
    let end = dashes.filter(|at| *at > 0).filter(is_end).unwrap_or(words.len());
    let may_be_option = |word: &str| word.starts_with(['*', '?', '[', '-']);
    let is_glob = |word: &&str| command.globs.iter().any(|glob| glob == word);
    match name {
        // A second name is where it writes.
        "uniq" | "xxd" => true,
        _ => words[..end].iter().skip(1).filter(|word| is_glob(word)).any(|word| may_be_option(word)),
    }
}

/// Options of `git config` beside those that make it print something, and nothing else.
const CONFIG_PLAIN: &[&str] =
    &["--local", "--global", "--system", "--worktree", "--show-origin", "--show-scope", "--name-only", "-z", "--null"];

/// Whether a text may be a variable with a subscript that runs something.
fn holds_subscript(text: &str) -> bool {
    text.contains('[') && text.contains(['$', '`'])
}

/// What makes `find` run, write or remove something.
const FIND_NOT: &[&str] = &["-exec", "-execdir", "-ok", "-okdir", "-delete", "-fprint", "-fprint0", "-fprintf", "-fls"];

/// Whether `argument` is `option`, alone, with `=value`, or (one letter) among others or with its value attached.
fn is_option(argument: &str, option: &str) -> bool {
    match option.strip_prefix("--") {
        // Long options may be cut short as long as they are clear.
        Some(long) => argument
            .strip_prefix("--")
            .map(|given| given.split('=').next().unwrap_or(given))
            .is_some_and(|given| !given.is_empty() && long.starts_with(given)),
        None => {
            let letter = option.trim_start_matches('-');
            argument.starts_with('-') && !argument.starts_with("--") && argument[1..].contains(letter)
        }
    }
}

fn git(arguments: &[&str]) -> bool {
    let mut rest = arguments;
    while let [option, tail @ ..] = rest {
        match *option {
            "--no-pager" | "-P" | "--no-optional-locks" | "--literal-pathspecs" => rest = tail,
            // Another folder may hold another repository with settings of its own.
            _ if option.starts_with('-') => return matches!(rest, ["--version"]),
            _ => break,
        }
    }
    let Some((subcommand, rest)) = rest.split_first() else { return false };
    let refused = rest.iter().any(|argument| {
        GIT_NOT.iter().any(|refused| match refused.strip_prefix("--") {
            Some(_) => is_option(argument, refused),
            None => argument.starts_with(refused),
        })
    });
    match *subcommand {
        known if GIT_READS.contains(&known) => !refused,
        "branch" => rest
            .iter()
            .all(|argument| matches!(*argument, "-a" | "-r" | "-v" | "-vv" | "--list" | "--show-current" | "--all")),
        "tag" => rest.is_empty() || rest == ["-l"] || rest == ["--list"],
        "stash" => rest == ["list"],
        "remote" => rest.is_empty() || rest == ["-v"],
        "config" => {
            let is_plain = |word: &&str| !word.starts_with('-') || CONFIG_PLAIN.contains(word);
            matches!(rest, ["--get" | "--get-all" | "--list" | "-l", ..]) && rest[1..].iter().all(is_plain)
        }
        _ => false,
    }
}

/// `sed -n '5,20p' file`: prints lines and nothing else.
fn sed_prints(arguments: &[&str]) -> bool {
    let [quiet, script, files @ ..] = arguments else { return false };
    let prints = script
        .strip_suffix('p')
        .is_some_and(|range| !range.is_empty() && range.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '$')));
    matches!(*quiet, "-n" | "--quiet" | "--silent") && prints && files.iter().all(|file| !file.starts_with('-'))
}
