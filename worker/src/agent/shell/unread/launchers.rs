//! Programs that are given a command among their arguments. Whatever words of them could begin one are taken for one, since
//! nobody knows all their options.

use super::options::{Letters, values};
use super::{Found, Word, interpreters};
use crate::agent::shell::safe::only_reads;
use crate::agent::shell::{Command, unwrap};

/// The most words of one command that are taken for the beginning of another.
const BEGINNINGS_MAX: usize = 32;

/// Programs that run the command that follows, the words behind which it does (none is all that follows), and how many plain
/// words of their own come before it.
const LAUNCHERS: &[(&str, &[&str], usize)] = &[
    ("setarch", &[], 1),
    ("linux32", &[], 0),
    ("linux64", &[], 0),
    ("prlimit", &[], 0),
    ("choom", &[], 0),
    ("numactl", &[], 0),
    ("fakeroot", &[], 0),
    ("xvfb-run", &[], 0),
    ("dbus-run-session", &[], 0),
    ("unbuffer", &[], 0),
    ("valgrind", &[], 0),
    ("rlwrap", &[], 0),
    ("bwrap", &[], 0),
    ("faketime", &[], 1),
    ("eatmydata", &[], 0),
    ("catchsegv", &[], 0),
    ("torsocks", &[], 0),
    ("proxychains", &[], 0),
    ("dotenv", &[], 0),
    ("cross-env", &[], 0),
    ("concurrently", &[], 0),
    ("tmux", &[], 1),
    ("screen", &[], 0),
    ("dtach", &[], 1),
    ("abduco", &[], 1),
    ("ssh", &[], 1),
    ("mosh", &[], 1),
    ("xterm", &["-e"], 0),
    ("proot", &[], 0),
    ("firejail", &[], 0),
    ("start-stop-daemon", &[], 0),
    ("logsave", &[], 1),
    ("perf", &[], 0),
    ("watchexec", &[], 0),
    ("nodemon", &[], 0),
    ("entr", &[], 0),
    ("cmake", &["-E"], 0),
    ("uv", &["run", "tool"], 0),
    ("uvx", &[], 0),
    ("flatpak", &["run"], 1),
    ("pipx", &["run"], 0),
    ("poetry", &["run"], 0),
    ("pipenv", &["run"], 0),
    ("pdm", &["run"], 0),
    ("hatch", &["run"], 0),
    ("rye", &["run"], 0),
    ("bundle", &["exec"], 0),
    ("npx", &[], 0),
    ("bunx", &[], 0),
    ("npm", &["exec", "x"], 0),
    ("pnpm", &["exec", "dlx"], 0),
    ("yarn", &["exec", "dlx"], 0),
    ("conda", &["run"], 0),
    ("mamba", &["run"], 0),
    ("micromamba", &["run"], 0),
    ("mise", &["exec", "x"], 0),
    ("asdf", &["exec"], 0),
    ("direnv", &["exec"], 1),
    ("rustup", &["run"], 1),
    ("go", &["run"], 0),
    ("nix", &["-c", "--command", "run"], 0),
    ("docker", &["run", "exec"], 1),
    ("podman", &["run", "exec"], 1),
    ("chronic", &[], 0),
    ("ifne", &[], 0),
    ("lckdo", &[], 1),
    ("sshpass", &[], 0),
    ("autossh", &[], 1),
    ("rsh", &[], 1),
    ("dbclient", &[], 1),
    ("plink", &[], 1),
    ("pee", &[], 0),
    ("mispipe", &[], 0),
    ("cgexec", &[], 0),
    ("cpulimit", &[], 0),
    ("gosu", &[], 1),
    ("su-exec", &[], 1),
    ("chpst", &[], 0),
    ("rr", &["record"], 0),
    ("pdsh", &[], 0),
    ("pm2", &["start"], 0),
];

/// Those that give a shell what they are told, so that one word may be a whole script.
const TELLERS: &[&str] = &[
    "tmux",
    "screen",
    "dtach",
    "ssh",
    "mosh",
    "concurrently",
    "nodemon",
    "watchexec",
    "entr",
    "sshpass",
    "autossh",
    "rsh",
    "dbclient",
    "plink",
    "pdsh",
    "pee",
    "mispipe",
    "xterm",
    "cross-env-shell",
    "fab",
    "pm2",
    "reflex",
    "onchange",
];

/// The letters of `tar` whose value is a word of its own, but for those that are looked for.
const TAR: Letters<'static> = Letters { valued: "fCTXbgHKLNV", attached: "" };
/// All of them, as they stand without a dash.
const TAR_VALUED: &str = "fCTXbgHKLNVIF";

/// Letters of programs with [`OPTIONS`], where others of them have values.
const LETTERS: &[(&str, Letters<'static>)] = &[
    ("tar", TAR),
    ("gtar", TAR),
    ("bsdtar", TAR),
    ("su", Letters { valued: "gGsTw", attached: "" }),
    ("runuser", Letters { valued: "ugGsTw", attached: "" }),
    ("strace", Letters { valued: "abeEIOpPsSuUX", attached: "" }),
    ("bpftrace", Letters { valued: "eBfIlop", attached: "" }),
    ("man", Letters { valued: "CLmMSserRpE", attached: "TXZ" }),
    ("rsync", Letters { valued: "BTfM", attached: "" }),
    ("zip", Letters { valued: "bnxit", attached: "" }),
    ("script", Letters { valued: "IOBTmEo", attached: "t" }),
    ("nc", Letters { valued: "iImMOPpqsTVwXx", attached: "" }),
    ("ncat", Letters { valued: "iImMpqswxgGd", attached: "" }),
    ("nodemon", Letters { valued: "ewdi", attached: "" }),
    ("ssh", Letters { valued: "BbcDEeFIiJLlmOPpQRSWw", attached: "" }),
    ("scp", Letters { valued: "cDFiJlPX", attached: "" }),
    ("sftp", Letters { valued: "BbcDFiJlPRsX", attached: "" }),
    ("compgen", Letters { valued: "AGPSX", attached: "" }),
    ("complete", Letters { valued: "AGPSX", attached: "" }),
];

/// The options of `tar` whose value is a command.
pub const TAR_RUNS: &[&str] = &[
    "--to-command",
    "--checkpoint-action",
    "--use-compress-program",
    "-I",
    "--info-script",
    "--new-volume-script",
    "-F",
    "--rsh-command",
];

/// Options of programs whose value is a command.
const OPTIONS: &[(&str, &[&str])] = &[
    ("tar", TAR_RUNS),
    ("gtar", TAR_RUNS),
    ("bsdtar", TAR_RUNS),
    ("cpio", &["--rsh-command"]),
    ("su", &["-c", "--command", "--session-command"]),
    ("runuser", &["-c", "--command", "--session-command"]),
    ("strace", &["-o", "--output"]),
    ("bpftrace", &["-c"]),
    ("mosh", &["--ssh", "--server", "--client"]),
    ("sshfs", &["-o"]),
    ("ack", &["--pager"]),
    ("ag", &["--pager"]),
    ("bat", &["--pager"]),
    ("batcat", &["--pager"]),
    ("delta", &["--pager"]),
    ("yt-dlp", &["--exec", "--exec-before-download"]),
    ("aria2c", &["--on-download-complete", "--on-download-start", "--on-download-error", "--on-bt-download-complete"]),
    ("ansible", &["-a", "--args"]),
    ("vagrant", &["-c", "--command"]),
    ("bazel", &["--run_under"]),
    ("restic", &["--password-command"]),
    ("rclone", &["--password-command"]),
    ("chokidar", &["-c", "--command"]),
    ("cargo-watch", &["-s", "--shell"]),
    ("forever", &["-c"]),
    ("rsync", &["-e", "--rsh", "--rsync-path"]),
    ("tcpdump", &["-z"]),
    ("nano", &["-s", "--speller"]),
    ("pico", &["-s", "--speller"]),
    ("flatpak", &["--command"]),
    ("split", &["--filter"]),
    ("sort", &["--compress-program"]),
    ("rg", &["--pre", "--hostname-bin"]),
    ("man", &["-P", "--pager", "-H", "--html"]),
    ("zip", &["-TT", "--unzip-command"]),
    ("npx", &["-c", "--call"]),
    ("npm", &["-c", "--call", "--script-shell"]),
    ("pnpm", &["-c", "--script-shell"]),
    ("yarn", &["--script-shell"]),
    ("nix-shell", &["--run", "--command"]),
    ("script", &["-c", "--command"]),
    ("go", &["-exec", "-toolexec", "-vettool"]),
    ("compgen", &["-C", "-F", "-W"]),
    ("complete", &["-C", "-W"]),
    ("ssh", &["-o"]),
    ("scp", &["-o", "-S"]),
    ("sftp", &["-o", "-S"]),
    ("dpkg-architecture", &["-c", "--command"]),
    ("rustc", &["-C", "--codegen"]),
    ("rustdoc", &["--test-runtool", "--test-builder"]),
    ("dpkg", &["--pre-invoke", "--post-invoke", "--status-logger"]),
    ("apt", &["-o", "--option"]),
    ("apt-get", &["-o", "--option"]),
    ("cc", &["-wrapper"]),
    ("wget", &["--use-askpass", "-e", "--execute"]),
    ("cargo", &["--config", "-s", "--shell"]),
    ("nc", &["-e", "-c", "--exec", "--sh-exec"]),
    ("ncat", &["-e", "-c", "--exec", "--sh-exec"]),
    ("watchexec", &["--shell"]),
    ("nodemon", &["-x", "--exec"]),
    ("java", &["-XX:OnError", "-XX:OnOutOfMemoryError"]),
    ("pip", &["--editor"]),
    ("pip3", &["--editor"]),
];

/// Whether a program has options whose value is a command, wherever they stand: what starts another program takes its own before
/// that.
pub fn has_options(name: &str) -> bool {
    let kind = if is_compiler(name) { "cc" } else { name };
    OPTIONS.iter().any(|(known, _)| *known == kind) && !LAUNCHERS.iter().any(|(known, _, _)| *known == kind)
}

/// What a command of this name hands on.
pub fn find(name: &str, command: &Command) -> Found {
    let mut found = Found::default();
    let dashed = dashed(name, command);
    let command = dashed.as_ref().unwrap_or(command);
    // A compiler for another machine or of a version says so in its name.
    let kind = if is_compiler(name) { "cc" } else { name };
    if let Some((_, options)) = OPTIONS.iter().find(|(known, _)| *known == kind) {
        let letters = LETTERS.iter().find(|(known, _)| *known == name).map_or(Letters::NONE, |(_, letters)| *letters);
        for value in values(command, letters, options) {
            match (kind, value.literal()) {
                ("cargo", Some(setting)) if setting.contains('=') => cargo_setting(setting, &mut found),
                ("rustc", Some(setting)) => {
                    let linker = setting.strip_prefix("linker=");
                    linker.into_iter().for_each(|linker| found.runs(&literal(linker)));
                }
                ("cc", Some(words)) => found.runs(&literal(&words.replace(',', " "))),
                // Both options of it: a program, or settings.
                ("wget", Some(program)) if !program.contains('=') => found.runs(&literal(program)),
                ("ssh" | "scp" | "sftp" | "sshfs" | "apt" | "apt-get" | "wget", Some(setting)) => {
                    setting_of(setting, &mut found);
                }
                // A place, unless it begins so.
                ("strace", Some(place)) => {
                    let piped = place.strip_prefix(['|', '!']);
                    piped.into_iter().for_each(|script| found.runs(&literal(script)));
                }
                ("tar" | "gtar" | "bsdtar", Some(action)) => {
                    found.runs(&Word::Literal(action.trim_start_matches("exec=").to_owned()))
                }
                _ => found.runs(&value),
            }
        }
    }
    if matches!(name, "sftp" | "scp") {
        // A program as it stands, with words of its own.
        let letters = Letters { valued: "BbcFiJlPRsXo", attached: "" };
        values(command, letters, &["-D", "-S"]).iter().for_each(|program| found.runs(program));
    }
    let is_linker = name.starts_with("ld-linux") || name.starts_with("ld-musl") || name.starts_with("ld.so");
    let launcher = LAUNCHERS.iter().find(|(known, _, _)| *known == name).map(|(_, verbs, own)| (*verbs, *own));
    match launcher.or(is_linker.then_some((&[], 0))) {
        Some((verbs, own_words)) => beginnings(command, verbs, own_words, &mut found),
        None if !only_reads(command) && !unwrap::is_wrapper(name) => found.perhaps = of_unknown(command),
        None => {}
    }
    if TELLERS.contains(&name) {
        let scripts = command.words.iter().skip(1).filter(|word| !word.text().starts_with('-'));
        for word in scripts {
            match word.literal() {
                Some(script) if script.contains(char::is_whitespace) => found.texts.push(script.to_owned()),
                _ => {}
            }
        }
    }
    if matches!(name, "parallel" | "sem" | "env_parallel") {
        // It gives a shell what it makes of its words and of its input.
        let words: Vec<&str> = command.words.iter().map(Word::text).collect();
        found.runs(&Word::Unknown(words.join(" ")));
    }
    found
}

/// `tar xIf PROGRAM ARCHIVE` as `tar -x -I PROGRAM -f ARCHIVE`; `None` where a dash stands.
///
/// Source: tar(1), Traditional usage.
pub fn dashed(name: &str, command: &Command) -> Option<Command> {
    let first = command.words.get(1)?.literal()?;
    if !matches!(name, "tar" | "gtar" | "bsdtar") || first.is_empty() || !first.chars().all(|c| c.is_ascii_alphabetic())
    {
        return None;
    }
    let mut rest = command.words.iter().skip(2).cloned();
    let mut words: Vec<Word> = command.words.iter().take(1).cloned().collect();
    for letter in first.chars() {
        words.push(literal(&format!("-{letter}")));
        words.extend(TAR_VALUED.contains(letter).then(|| rest.next()).flatten());
    }
    Some(Command { words: words.into_iter().chain(rest).collect(), ..command.clone() })
}

/// Whether a program is a compiler of GNU, by whichever of its names (`x86_64-linux-gnu-gcc-13`).
fn is_compiler(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    ["gcc", "g++", "cc", "c++", "gfortran", "gdc", "cpp"]
        .iter()
        .any(|known| plain == *known || plain.strip_suffix(known).is_some_and(|front| front.ends_with('-')))
}

/// Names of programs that start others, and are hardly ever meant where they are not.
const LAUNCH: &[&str] = &["env", "xargs", "sudo", "nice", "nohup", "setsid", "timeout", "stdbuf", "busybox"];

/// What a program that is not known may run: the words from the name of an interpreter or of another launcher on.
fn of_unknown(command: &Command) -> Vec<Command> {
    let launches = |word: &Word| {
        let Some(text) = word.literal() else { return false };
        let name = text.rsplit('/').next().unwrap_or(text);
        (text == name || text.starts_with('/')) && (interpreters::of(name).is_some() || LAUNCH.contains(&name))
    };
    let begins = |at: &usize| launches(&command.words[*at]) && at + 1 < command.words.len();
    (1..command.words.len())
        .filter(begins)
        .take(BEGINNINGS_MAX)
        .map(|at| Command::of(command.words[at..].to_vec()))
        .collect()
}

/// Each word behind the verb that may begin a command, with all that follows: a plain one anywhere, since nobody knows all
/// options; one that only shows when it runs only where no command has begun before it.
fn beginnings(command: &Command, verbs: &[&str], own_words: usize, found: &mut Found) {
    let behind = |word: &Word| word.literal().is_some_and(|word| verbs.contains(&word));
    let from = match verbs {
        [] => 1,
        _ => match command.words.iter().position(behind) {
            Some(at) => at + 1,
            None => return,
        },
    };
    let (mut plain, mut behind_option, mut is_first) = (0, false, true);
    for (at, word) in command.words.iter().enumerate().skip(from) {
        if found.commands.len() + found.perhaps.len() >= BEGINNINGS_MAX {
            break;
        }
        if word.text().starts_with('-') {
            behind_option = true;
            continue;
        }
        // No command begins with such a pattern where another word may have begun one.
        if !is_first && word.literal().is_some_and(is_pattern_of_files) {
            continue;
        }
        let beginning = Command::of(command.words[at..].to_vec());
        match plain <= own_words {
            true => {
                found.commands.extend(packaged(&beginning));
                found.commands.push(beginning);
            }
            false if word.literal().is_some() => found.perhaps.push(beginning),
            false => {}
        }
        is_first = false;
        // It may be the option's value.
        plain += usize::from(!std::mem::take(&mut behind_option));
    }
}

/// The command of a package that is named with where it comes from or with its version: `nixpkgs#git`, `git@2`, `git==2`.
fn packaged(command: &Command) -> Option<Command> {
    let written = command.words.first()?.literal().filter(|written| !written.contains(['*', '?']))?;
    let (_, behind) = written.rsplit_once('#').unwrap_or(("", written));
    let end = behind.char_indices().skip(1).find(|(_, c)| "@=<>~![;".contains(*c)).map_or(behind.len(), |(at, _)| at);
    let name = behind[..end].rsplit(['/', '.', ':']).next().filter(|name| !name.is_empty() && *name != written)?;
    let rest = command.words.iter().skip(1).skip_while(|word| word.text() == "--");
    Some(Command { words: [literal(name)].into_iter().chain(rest.cloned()).collect(), ..command.clone() })
}

/// Whether a word is a pattern for the names of files in a folder of the worktree, which a program finds them by.
fn is_pattern_of_files(text: &str) -> bool {
    let folder = text.rfind('/').map_or("", |at| &text[..at]);
    !folder.starts_with('/')
        && !folder.starts_with('~')
        && text[text.rfind('/').map_or(0, |at| at + 1)..].starts_with(['*', '?', '['])
}

/// A setting of `ssh` or `apt` whose value is a command; a program that is named where one may be, too.
///
/// Source: ssh_config(5), apt.conf(5).
fn setting_of(setting: &str, found: &mut Found) {
    const KEYS: &[&str] = &["command", "exec", "invoke", "provider", "askpass", "/"];
    let (key, value) = setting.split_once(['=', ' ']).unwrap_or((setting, setting));
    let key = key.to_lowercase();
    if KEYS.iter().any(|part| key.contains(part)) {
        found.runs(&literal(value));
    }
}

/// A setting of cargo that names a program.
fn cargo_setting(setting: &str, found: &mut Found) {
    const KEYS: &[&str] = &["runner", "linker", "wrapper", "rustc", "credential"];
    let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
    if key.trim().starts_with("alias.") {
        let bare = value.replace(['"', '\'', '[', ']', ','], " ");
        found.commands.push(Command::of(["cargo"].into_iter().chain(bare.split_whitespace()).map(literal).collect()));
    }
    if KEYS.iter().any(|part| key.contains(part)) {
        let bare = value.trim().trim_matches(|c| "\"'[] ".contains(c)).replace("\", \"", " ").replace("\",\"", " ");
        found.runs(&Word::Literal(bare));
    }
}

fn literal(word: &str) -> Word {
    Word::Literal(word.to_owned())
}
