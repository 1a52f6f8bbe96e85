//! What runs commands that nobody can read before they run: an interpreter that is given its program as an argument or on its
//! input, a text that an expansion makes, a program under another name. Rules that restrict hold for it as for what they name
//! (see [`crate::agent::restraint`]); where no rule restricts, it is of no interest.
//!
//! What lies in a file is not read here. `bash script.sh`, `python x.py`, `make` and `npm test` run what the worktree holds,
//! which any of the agent's tools may have written: that is the cage's matter.

use super::danger::sed_script_runs;
use super::unwrap::{GIT_COMMANDS, GIT_VALUED, SHELLS};
use super::{Command, Script, Word};

/// The programs that are given a program.
mod interpreters;
/// The programs that are given a command.
mod launchers;

/// Something that is run and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// What it is, as a sentence about the script.
    pub what: String,
    /// What to write instead.
    pub instead: &'static str,
}

impl Unread {
    /// Something that cannot be read.
    pub fn new(what: impl Into<String>, instead: &'static str) -> Unread {
        Unread { what: what.into(), instead }
    }

    /// A script that an expansion makes.
    pub fn script(word: &Word) -> Unread {
        Unread::new(format!("`{}` is a script that only shows when it runs", word.text()), PLAIN)
    }
}

/// What to do about a text that is made by an expansion.
const PLAIN: &str = "write the commands themselves, without variables and substitutions where they are named";
/// What to do about a program that is handed over as a text.
const FILE: &str = "write it into a file and run the file";

/// What one command hands on.
#[derive(Debug, Default)]
pub struct Found {
    /// Commands that it may run.
    pub commands: Vec<Command>,
    /// Scripts that it may run.
    pub texts: Vec<String>,
    /// What cannot be read.
    pub unread: Option<Unread>,
}

impl Found {
    fn unread(what: impl Into<String>, instead: &'static str) -> Found {
        Found { unread: Some(Unread::new(what, instead)), ..Found::default() }
    }

    /// A word that somebody runs as a script, with words of their own behind it.
    fn runs(&mut self, word: &Word) {
        match word {
            Word::Literal(text) if text.trim().is_empty() => {}
            Word::Literal(text) => self.texts.push(format!("{text} $@")),
            Word::Unknown(_) | Word::Fed(_) => self.unread = Some(Unread::script(word)),
        }
    }
}

/// What a text says by itself that no command shows: expansions that evaluate what a variable holds.
pub fn in_text(text: &str) -> Option<Unread> {
    let evaluates = ["@P}", "[$(", "[`", "[\\$("].into_iter().find(|mark| text.contains(mark))?;
    Some(Unread::new(format!("`{evaluates}` evaluates a text when it runs"), PLAIN))
}

/// The files that a script runs, as it names them: programs with a folder in their name, and what an interpreter is given.
pub fn files(script: &Script) -> Vec<&str> {
    script.commands.iter().filter_map(file).collect()
}

fn file(command: &Command) -> Option<&str> {
    let name = command.name()?;
    let given = match name {
        "source" | "." => command.words.get(1).and_then(Word::literal),
        _ => interpreters::of(name).and_then(|interpreter| interpreter.file(command)),
    };
    given.or_else(|| command.words.first().and_then(Word::literal).filter(|name| name.contains('/')))
}

/// What a command runs besides what stands plainly in it.
pub fn find(command: &Command) -> Found {
    let Some(first) = command.words.first() else { return Found::default() };
    let Some(name) = command.name() else {
        return Found::unread(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
    };
    let is_test = matches!(name, "[" | "[[");
    if first.literal().is_some_and(is_stream) || (name.contains(['*', '?', '[', '{']) && !is_test && name != "{") {
        return Found::unread(format!("nobody knows what `{}` runs", first.text()), "write the program's name");
    }
    if let Some(interpreter) = interpreters::of(name) {
        return Found { unread: interpreter.unread(command), ..Found::default() };
    }
    match name {
        "git" => git(command),
        "awk" | "gawk" | "mawk" | "nawk" | "original-awk" => Found { unread: awk(command), ..Found::default() },
        "sed" | "gsed" => Found { unread: sed(command), ..Found::default() },
        "make" | "gmake" => make(command),
        "eval" | "trap" => Found::default(),
        "source" | "." => Found { unread: sourced(command), ..Found::default() },
        "env" | "export" => {
            let found = all(command.words.iter().skip(1).map(declared));
            all([found, under_another_name(command, &["-a", "--argv0"])].into_iter())
        }
        "exec" => under_another_name(command, &["-a"]),
        "read" | "printf" | "mapfile" | "readarray" | "getopts" => sets(name, command),
        "alias" | "hash" | "enable" | "cp" | "mv" | "ln" | "link" | "install" | "dd" | "rsync" => {
            renames(name, command)
        }
        "at" | "batch" | "crontab" | "ed" | "ex" | "vi" | "vim" | "nvim" | "emacs" | "gdb" | "lldb" | "expect"
        | "m4" | "dc" | "sqlite3" | "psql" | "socat" | "fc" => {
            Found::unread(format!("`{name}` runs what it is told"), "use programs that do one thing")
        }
        _ => launchers::find(name, command),
    }
}

fn all(found: impl Iterator<Item = Found>) -> Found {
    found.fold(Found::default(), |mut all, one| {
        all.commands.extend(one.commands);
        all.texts.extend(one.texts);
        all.unread = all.unread.or(one.unread);
        all
    })
}

/// Whether a path is no file but whatever flows through it.
fn is_stream(path: &str) -> bool {
    let harmless = matches!(path, "/dev/null" | "/dev/zero" | "/dev/stdout" | "/dev/stderr" | "/dev/tty");
    !harmless
        && (path == "-"
            || path.starts_with("/dev/")
            || path.starts_with("/proc/")
            || path.ends_with("dev/stdin")
            || path.contains("/fd/")
            || path.starts_with("<("))
}

/// Variables whose value is run by some program.
const COMMANDS: &[&str] = &[
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "SSH_ASKPASS",
    "PAGER",
    "MANPAGER",
    "EDITOR",
    "VISUAL",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "CC",
    "CXX",
    "LD",
    "AR",
    "SHELL",
    "RSYNC_RSH",
    "PROMPT_COMMAND",
];
/// Variables whose value some program evaluates, unless it is a plain word.
const EVALUATED: &[&str] = &["BASH_ENV", "ENV", "PS4", "MAKEFLAGS", "GNUMAKEFLAGS", "MFLAGS", "NODE_OPTIONS"];
/// Beginnings of variables that put commands under other names.
const RENAMING: &[&str] = &[
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY",
    "GIT_CONFIG_VALUE",
    "GIT_CONFIG_PARAMETERS",
    "BASH_FUNC_",
    "BASH_ALIASES",
    "BASH_CMDS",
];

/// A variable that is set to `value`.
pub fn assigned(name: &str, value: &Word) -> Found {
    let mut found = Found::default();
    if COMMANDS.contains(&name)
        || (name.starts_with("CARGO_") && ["_RUNNER", "_LINKER"].iter().any(|end| name.ends_with(end)))
    {
        found.runs(value);
    }
    let is_plain = value.literal().is_some_and(|text| {
        !text.contains(['$', '`'])
            && !["eval", "SHELL", "data:"].iter().any(|mark| text.contains(mark))
            && !is_stream(text)
    });
    let renames = RENAMING.iter().any(|front| name.starts_with(front));
    if renames || (EVALUATED.contains(&name) && !is_plain) {
        let what = format!("the variable `{name}` makes programs run something else");
        found.unread = Some(Unread::new(what, "leave it out"));
    }
    found
}

/// A word of `env` or `export`, which may set a variable.
pub fn declared(word: &Word) -> Found {
    match word.text().trim_start_matches('"').split_once('=') {
        Some((name, value)) if word.literal().is_some() => assigned(name, &Word::Literal(value.to_owned())),
        Some((name, value)) if !name.contains(['$', '`']) => assigned(name, &Word::Unknown(value.to_owned())),
        _ => Found::default(),
    }
}

/// Builtins that set variables by name.
fn sets(name: &str, command: &Command) -> Found {
    let special = |word: &str| {
        let known = COMMANDS.iter().chain(EVALUATED).any(|special| *special == word);
        known || RENAMING.iter().any(|front| word.starts_with(front))
    };
    if let Some(variable) = command.known().find(|word| special(word)) {
        let what = format!("`{name}` sets `{variable}`, which makes programs run something else");
        return Found::unread(what, "leave it out");
    }
    let mut found = Found::default();
    values(command, &["-C"]).iter().for_each(|script| found.runs(script));
    found
}

/// `exec -a NAME`: some programs do what their name says.
fn under_another_name(command: &Command, options: &[&str]) -> Found {
    let named =
        values(command, options).into_iter().map(|word| Command { words: vec![word], assigns: vec![], piped: false });
    Found { commands: named.collect(), ..Found::default() }
}

/// What puts a program under another name. What it is given must be plain: nobody knows what else is behind it.
fn renames(name: &str, command: &Command) -> Found {
    let short =
        |letter: char| move |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    let what = match name {
        "alias" => {
            return Found {
                unread: command.words.iter().find(|word| word.literal().is_none()).map(Unread::script),
                ..Found::default()
            };
        }
        "hash" if !command.known().any(short('p')) => return Found::default(),
        "enable" if !command.known().any(short('f')) => return Found::default(),
        "hash" | "enable" => "makes a command of a file".to_owned(),
        // The last word is where it goes; `dd` names its own.
        _ => match command
            .words
            .iter()
            .skip(1)
            .rev()
            .skip(usize::from(name != "dd"))
            .find(|word| word.literal().is_none())
        {
            Some(word) => format!("may give a program another name: `{}` only shows when it runs", word.text()),
            None => return Found::default(),
        },
    };
    Found::unread(format!("`{name}` {what}"), "name the files themselves; a pattern such as *.rs is plain enough")
}

/// `source FILE`.
fn sourced(command: &Command) -> Option<Unread> {
    let file = command.words.iter().skip(1).find(|word| word.text() != "--")?;
    match file.literal() {
        Some(path) if !is_stream(path) => None,
        _ => Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE)),
    }
}

/// The values of options: `-x VALUE`, `-xVALUE`, `--long VALUE`, `--long=VALUE`.
fn values(command: &Command, options: &[&str]) -> Vec<Word> {
    let mut found = vec![];
    for (at, word) in command.words.iter().enumerate().skip(1) {
        let text = word.text().trim_start_matches('"');
        for option in options {
            let Some(rest) = text.strip_prefix(option) else { continue };
            let attached = match (option.starts_with("--"), rest.strip_prefix('=')) {
                (_, Some(value)) => value,
                (true, None) if !rest.is_empty() => continue,
                (_, None) => rest,
            };
            match (attached.is_empty(), word.literal().is_some()) {
                (true, _) => found.extend(command.words.get(at + 1).cloned()),
                (false, true) => found.push(Word::Literal(attached.to_owned())),
                (false, false) => found.push(Word::Unknown(attached.to_owned())),
            }
        }
    }
    found
}

/// `awk` runs commands by `system`, pipes and calls of functions whose name it makes.
fn awk(command: &Command) -> Option<Unread> {
    let mut words = command.words.iter().skip(1);
    let mut programs: Vec<&Word> = vec![];
    let mut from_file = false;
    while let Some(word) = words.next() {
        let text = word.text();
        match text {
            "--sandbox" | "-S" => return None,
            "-v" | "-F" | "--assign" | "--field-separator" => drop(words.next()),
            "-e" | "--source" => programs.extend(words.next()),
            "-f" | "--file" | "-E" | "--exec" => {
                from_file = true;
                programs.extend(words.next().filter(|file| file.literal().is_none_or(is_stream)));
            }
            _ if text.len() > 1 && text.starts_with('-') => {}
            _ => {
                programs.extend((!from_file && programs.is_empty()).then_some(word));
                break;
            }
        }
    }
    let runs = |program: &&&Word| program.literal().is_none_or(|text| is_stream(text) || awk_runs(text));
    let program = programs.iter().find(runs)?;
    Some(Unread::new(
        format!("`awk` may run commands of `{}`", program.text()),
        "write a program for awk in single quotes that has no `system`, no `|` and no `@`; values go in by `-v`",
    ))
}

fn awk_runs(program: &str) -> bool {
    let bare = without_awk_texts(program);
    ["system", "@"].iter().any(|mark| bare.contains(mark)) || bare.replace("||", "").contains('|')
}

/// A program of awk without what stands in quotes, and without regular expressions where nothing else can stand.
fn without_awk_texts(program: &str) -> String {
    let (mut out, mut chars) = (String::new(), program.chars());
    while let Some(c) = chars.next() {
        let starts_operand =
            out.trim_end_matches([' ', '\t']).chars().next_back().is_none_or(|c| "~(,{;!&|=\n}".contains(c));
        let end = match c {
            '"' => '"',
            '/' if starts_operand => '/',
            _ => {
                out.push(c);
                continue;
            }
        };
        while let Some(inner) = chars.next() {
            match inner {
                '\\' => drop(chars.next()),
                inner if inner == end => break,
                _ => {}
            }
        }
        out.push('0');
    }
    out
}

/// GNU `sed` runs commands by `e`.
fn sed(command: &Command) -> Option<Unread> {
    if command.known().any(|word| word == "--sandbox") {
        return None;
    }
    let instead = "write its script in plain quotes, or give `sed` the option `--sandbox`, with which it runs nothing";
    let mut scripts = values(command, &["-e", "--expression"]);
    let files = values(command, &["-f", "--file"]);
    if let Some(file) = files.iter().find(|file| file.literal().is_none_or(is_stream)) {
        return Some(Unread::new(format!("`{}` only shows when it runs", file.text()), FILE));
    }
    if scripts.is_empty() && files.is_empty() {
        scripts.extend(command.words.iter().skip(1).find(|word| !word.text().starts_with('-')).cloned());
    }
    // `-ne SCRIPT`
    let clustered = command.words.windows(2).filter(|pair| {
        pair[0].literal().is_some_and(|word| {
            word.len() > 2 && !word.starts_with("--") && word.starts_with('-') && word.ends_with('e')
        })
    });
    scripts.extend(clustered.map(|pair| pair[1].clone()));
    let script = scripts.iter().find(|script| script.literal().is_none_or(sed_script_runs))?;
    Some(Unread::new(format!("`sed` may run commands of `{}`", script.text()), instead))
}

/// `make` runs what its variables hold, and makefiles that are no files.
fn make(command: &Command) -> Found {
    let files = values(command, &["-f", "--file", "--makefile"]);
    let mut texts = values(command, &["--eval"]).into_iter().chain(values(command, &["-E"]));
    if let Some(text) = files.into_iter().find(|file| file.literal().is_none_or(is_stream)).or_else(|| texts.next()) {
        return Found::unread(format!("`make` runs `{}`, which is no file", text.text()), FILE);
    }
    let mut found = Found::default();
    for word in command.words.iter().skip(1) {
        let Some((_, value)) = word.text().split_once('=').filter(|_| !word.text().starts_with('-')) else { continue };
        match word.literal() {
            Some(_) if !value.contains(['$', '`']) => found.runs(&Word::Literal(value.to_owned())),
            _ => found.unread = Some(Unread::new(format!("`make` runs what `{}` holds", word.text()), PLAIN)),
        }
    }
    found
}

/// Options of git's subcommands whose value is a command.
const GIT_OPTIONS: &[&str] = &[
    "-x",
    "--exec",
    "--extcmd",
    "--open-files-in-pager",
    "-O",
    "--upload-pack",
    "--receive-pack",
    "-u",
    "--env-filter",
    "--tree-filter",
    "--index-filter",
    "--msg-filter",
    "--parent-filter",
    "--commit-filter",
    "--tag-name-filter",
];
/// Keys of git's configuration, beside those known elsewhere, whose values git runs.
const GIT_KEYS: &[&str] =
    &[".command", ".helper", ".uploadpack", ".receivepack", ".vcs", ".update", "trailer.", "pager."];

/// What git's settings and its subcommands run.
fn git(command: &Command) -> Found {
    let mut found = Found::default();
    let mut words = command.words.iter().skip(1).peekable();
    while let Some(option) = words.next_if(|word| word.text().trim_start_matches('"').starts_with('-')) {
        let text = option.text().trim_start_matches('"');
        if text.starts_with("--config-env") {
            found.unread = Some(Unread::new("`--config-env` takes settings of git from variables", "leave it out"));
        } else if text == "-c" {
            words.next().into_iter().for_each(|setting| given_setting(setting, &mut found));
        } else if GIT_VALUED.contains(&text) {
            words.next();
        }
    }
    let subcommand = words.next().and_then(Word::literal).unwrap_or_default();
    let rest: Vec<&Word> = words.collect();
    match subcommand {
        "config" => {
            let mut plain = rest.iter().filter(|word| !word.text().starts_with('-') && word.text() != "set");
            if let (Some(key), Some(value)) = (plain.next(), plain.next()) {
                git_setting(key.text(), value, &mut found);
            }
        }
        // They run all that follows, or give it to a shell.
        "bisect" | "submodule" => {
            let verb = rest.iter().position(|word| matches!(word.literal(), Some("run" | "foreach")));
            let words =
                rest.into_iter().skip(verb.map_or(usize::MAX, |at| at + 1)).filter(|word| word.text() != "--recursive");
            let words: Vec<Word> = words.cloned().collect();
            match words.as_slice() {
                [] => {}
                [script] => found.runs(script),
                _ => found.commands.push(Command { words, assigns: vec![], piped: false }),
            }
        }
        "rebase" | "difftool" | "grep" | "filter-branch" | "fetch" | "pull" | "clone" | "ls-remote" | "archive" => {
            values(command, GIT_OPTIONS).iter().for_each(|script| found.runs(script));
        }
        _ => {}
    }
    found
}

/// `-c KEY=VALUE`.
fn given_setting(setting: &Word, found: &mut Found) {
    let text = setting.text().trim_matches('"');
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    match setting.literal() {
        Some(_) => git_setting(key, &Word::Literal(value.to_owned()), found),
        None => git_setting(key, &Word::Unknown(value.to_owned()), found),
    }
}

/// A setting of git that is given in a command.
fn git_setting(key: &str, value: &Word, found: &mut Found) {
    let key = key.trim_matches('"').to_lowercase();
    if key.contains(['$', '`']) || key.starts_with("include") {
        found.unread = Some(Unread::new(format!("nobody knows what `{key}` sets in git"), PLAIN));
    } else if key.starts_with("alias.") {
        match value.literal().map(|text| text.strip_prefix('!').map_or_else(|| format!("git {text}"), str::to_owned)) {
            Some(text) => found.runs(&Word::Literal(text)),
            None => found.runs(value),
        }
    } else if GIT_COMMANDS
        .iter()
        .chain(GIT_KEYS)
        .any(|part| key.ends_with(part) || (part.ends_with('.') && key.starts_with(part)))
    {
        match value.literal().and_then(|text| text.strip_prefix('!')) {
            Some(script) => found.runs(&Word::Literal(script.to_owned())),
            None => found.runs(value),
        }
    }
}

/// Whether `name` is a shell, whose `-c` is read elsewhere.
fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}
