//! What is dangerous, and why. A cage makes most of it harmless; what an agent tries all the same, a person wants to know.

use super::sed;
use super::unread::{Letters, TAR_RUNS, dashed, values};
use super::unwrap::{GIT_COMMANDS, GIT_VALUED, SHELLS};
use super::{Command, Script, Word};

/// The first reason why a script is dangerous.
pub fn find(script: &Script) -> Option<String> {
    if let Some(alarm) = script.alarms.first() {
        return Some((*alarm).to_owned());
    }
    let downloads = script.commands.iter().any(|command| matches!(command.name(), Some("curl" | "wget" | "fetch")));
    for command in &script.commands {
        if let Some(why) = of_command(command, downloads) {
            return Some(why);
        }
    }
    let place = script.writes.iter().find(|place| outside(place, Unknown::Passes))?;
    Some(format!("it writes to `{}`, outside of the worktree", place.text()))
}

fn of_command(command: &Command, downloads: bool) -> Option<String> {
    if let Some(name) = command.assigns.iter().find(|name| LOADERS.contains(&name.as_str()) || name.starts_with("LD_"))
    {
        return Some(format!("`{name}` makes programs run something else"));
    }
    let first = command.words.first()?;
    let Some(name) = command.name() else {
        return Some(format!("nobody knows what `{}` runs", first.text()));
    };
    if name.contains(['*', '?', '[']) && name != "[" && name != "[[" {
        return Some(format!("nobody knows what `{name}` runs"));
    }
    if let Some((_, why)) = NEVER.iter().find(|(never, _)| *never == name) {
        return Some(format!("`{name}` {why}"));
    }
    if SHELLS.contains(&name) || matches!(name, "python" | "python3" | "perl" | "ruby" | "node" | "php") {
        let reads_script =
            command.words.len() == 1 || command.known().all(|word| matches!(word, "-" | "-s" | "-x" | "-e"));
        if command.piped && reads_script {
            return Some(format!("`{name}` runs whatever is piped into it"));
        }
    }
    if matches!(name, "source" | "." | "bash" | "sh" | "zsh")
        && downloads
        && command.words.iter().any(|word| word.text().starts_with("<("))
    {
        return Some(format!("`{name}` runs what was downloaded"));
    }
    of_arguments(name, command)
}

/// Variables that make programs run something else.
const LOADERS: &[&str] = &[
    "PATH",
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "IFS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_EDITOR",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_DIR",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "PAGER",
    "EDITOR",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "RUBYOPT",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "DYLD_INSERT_LIBRARIES",
];

/// Commands without any good use for an agent, and what they do.
const NEVER: &[(&str, &str)] = &[
    ("sudo", "asks for another user's rights"),
    ("doas", "asks for another user's rights"),
    ("su", "asks for another user's rights"),
    ("pkexec", "asks for another user's rights"),
    ("runuser", "asks for another user's rights"),
    ("mkfs", "makes a file system"),
    ("fdisk", "changes a disk"),
    ("parted", "changes a disk"),
    ("wipefs", "changes a disk"),
    ("shutdown", "ends the machine"),
    ("reboot", "ends the machine"),
    ("halt", "ends the machine"),
    ("poweroff", "ends the machine"),
    ("init", "changes the machine's state"),
    ("telinit", "changes the machine's state"),
    ("systemctl", "changes services"),
    ("service", "changes services"),
    ("launchctl", "changes services"),
    ("systemd-run", "starts services"),
    ("crontab", "leaves something to run later"),
    ("at", "leaves something to run later"),
    ("batch", "leaves something to run later"),
    ("insmod", "changes the kernel"),
    ("modprobe", "changes the kernel"),
    ("rmmod", "changes the kernel"),
    ("sysctl", "changes the kernel"),
    ("mount", "changes mounts"),
    ("umount", "changes mounts"),
    ("chroot", "changes the root"),
    ("nsenter", "enters other namespaces"),
    ("iptables", "changes the firewall"),
    ("nft", "changes the firewall"),
    ("useradd", "changes users"),
    ("userdel", "changes users"),
    ("usermod", "changes users"),
    ("passwd", "changes users"),
    ("visudo", "changes users"),
    ("killall", "ends other programs"),
    ("pkill", "ends other programs"),
    ("terraform", "changes what runs elsewhere"),
    ("kubectl", "changes what runs elsewhere"),
    ("helm", "changes what runs elsewhere"),
    ("docker", "runs outside of the cage"),
    ("podman", "runs outside of the cage"),
    ("ssh", "runs on another machine"),
    ("scp", "copies to another machine"),
    ("sftp", "copies to another machine"),
    ("nc", "opens connections"),
    ("ncat", "opens connections"),
    ("socat", "opens connections"),
    ("telnet", "opens connections"),
    ("gh", "acts in a person's name"),
    ("shred", "destroys files"),
    ("ssh-keygen", "handles keys"),
    ("ssh-add", "handles keys"),
    ("gpg", "handles keys"),
    ("security", "handles keys"),
];

/// Programs that are dangerous only with certain arguments. Each name is known to one of the parts.
fn of_arguments(name: &str, command: &Command) -> Option<String> {
    of_files(name, command)
        .or_else(|| of_accounts(name, command))
        .or_else(|| of_interpreters(name, command))
        .or_else(|| of_the_shell(name, command))
}

fn why(name: &str, text: &str) -> String {
    format!("`{name}` {text}")
}

/// What changes files elsewhere, their rights, or whole disks.
fn of_files(name: &str, command: &Command) -> Option<String> {
    let mut known = command.known();
    match name {
        _ if name.starts_with("mkfs.") => Some(why(name, "makes a file system")),
        "rm" | "rmdir" | "unlink" => removal(command),
        "dd" => known
            .any(|word| word.strip_prefix("of=").is_some_and(is_outside))
            .then(|| why(name, "writes outside of the worktree")),
        "chmod" if known.any(sets_user) => Some(why(name, "gives a program its owner's rights")),
        "chmod" | "chown" | "chgrp" | "chattr" | "setfacl" => {
            places(command, 1).then(|| why(name, "changes rights outside of the worktree"))
        }
        "rsync" if known.any(|word| word.contains(':')) => Some(why(name, "copies to another machine")),
        "mv" | "cp" | "ln" | "install" | "tee" | "truncate" | "touch" | "mkdir" | "rsync" => {
            // These only read their first names.
            let read = if matches!(name, "cp" | "ln" | "install" | "rsync") { 1 } else { 0 };
            places(command, read).then(|| why(name, "writes outside of the worktree"))
        }
        "find" => (known.any(|word| word == "-delete") && places(command, 0))
            .then(|| "`find -delete` removes outside of the worktree".to_owned()),
        _ => None,
    }
}

/// `+s`, or four digits with a set-user or set-group bit.
fn sets_user(mode: &str) -> bool {
    mode.contains("+s") || (mode.len() == 4 && matches!(mode.as_bytes()[0], b'2' | b'4' | b'6'))
}

/// Commands of npm that speak in a person's name. It takes any beginning of a command that means only one.
const NPM_ACCOUNT_COMMANDS: [&str; 16] = [
    "publish",
    "unpublish",
    "login",
    "adduser",
    "add-user",
    "logout",
    "token",
    "owner",
    "author",
    "access",
    "deprecate",
    "undeprecate",
    "dist-tag",
    "dist-tags",
    "profile",
    "trust",
];

/// Whether npm's command may be one of these: its first word that is no option, or one behind an option, whose value it may be.
fn names_account_command(command: &Command) -> bool {
    let words: Vec<&str> = command.known().collect();
    let is_option = |at: usize| words[at].starts_with('-');
    let command_at = (0..words.len()).find(|at| !is_option(*at) && (*at == 0 || !is_option(at - 1)));
    let until = command_at.map_or(words.len(), |at| at + 1);
    let is_named = |word: &&str| word.len() >= 3 && NPM_ACCOUNT_COMMANDS.iter().any(|known| known.starts_with(*word));
    words[..until].iter().any(is_named)
}

/// What speaks to other machines in a person's name.
fn of_accounts(name: &str, command: &Command) -> Option<String> {
    let has = |words: &[&str]| command.known().any(|word| words.contains(&word));
    let acts = |words: &[&str]| has(words).then(|| why(name, "acts in a person's name"));
    match name {
        "git" => git(command),
        "npm" | "pnpm" | "yarn" => acts(&["publish", "unpublish", "login", "adduser", "token"])
            .or_else(|| names_account_command(command).then(|| why(name, "acts in a person's name"))),
        "cargo" => acts(&["publish", "login", "yank", "owner"]),
        "gem" | "twine" | "poetry" | "mvn" => acts(&["push", "upload", "publish", "deploy"]),
        "curl" | "wget" => {
            let known: Vec<&str> = command.known().collect();
            let sends = has(&["-T", "--upload-file", "-d", "--data", "--data-binary", "-F", "--form", "--post-file"])
                && known.iter().any(|word| word.contains('@') || word.starts_with("--post-file"));
            if sends {
                return Some(why(name, "sends a file away"));
            }
            let at = known.iter().position(|word| matches!(*word, "-o" | "-O" | "--output" | "--output-document"));
            at.and_then(|at| known.get(at + 1))
                .is_some_and(|place| is_outside(place))
                .then(|| why(name, "writes outside of the worktree"))
        }
        _ => None,
    }
}

/// What runs commands that stand in its own arguments.
fn of_interpreters(name: &str, command: &Command) -> Option<String> {
    let known: Vec<&str> = command.known().collect();
    let any = |parts: &[&str]| known.iter().any(|word| parts.iter().any(|part| word.contains(part)));
    match name {
        "awk" | "gawk" | "mawk" | "nawk" => any(&["system(", "system (", "| getline", "|getline", "| \"", "|\""])
            .then(|| why(name, "runs commands of its own")),
        "sed" | "gsed" => sed_runs(&known).then(|| "`sed` runs commands or writes files of its own".to_owned()),
        "vi" | "vim" | "ex" | "ed" => any(&["!"]).then(|| why(name, "runs commands of its own")),
        "less" | "more" | "most" | "zless" => any(&["+!", "+|", "+#"]).then(|| why(name, "runs commands of its own")),
        "tar" | "gtar" | "bsdtar" => {
            let dashed = dashed(name, command);
            let command = dashed.as_ref().unwrap_or(command);
            let letters = Letters { valued: "fCTXbgHKLNV", attached: "" };
            let runs = values(command, letters, TAR_RUNS).iter().any(|program| !is_compressor(program));
            let leaves = command.known().any(|word| {
                word == "--absolute-names" || (word.starts_with('-') && !word.starts_with("--") && word.contains('P'))
            });
            let elsewhere = values(command, Letters { valued: "fTXbgHKLNVIF", attached: "" }, &["-C", "--directory"]);
            let elsewhere = elsewhere.iter().any(|place| outside(place, Unknown::Passes));
            (runs || leaves || elsewhere).then(|| why(name, "runs commands or leaves the folder"))
        }
        _ => None,
    }
}

/// Whether `tar` is given one of the programs that it is given every day, and nothing more than options for it.
fn is_compressor(program: &Word) -> bool {
    const COMPRESSORS: &[&str] =
        &["gzip", "pigz", "bzip2", "pbzip2", "lbzip2", "xz", "pixz", "zstd", "zstdmt", "lz4", "lzip"];
    let mut words = program.literal().unwrap_or_default().split_whitespace();
    words.next().is_some_and(|name| COMPRESSORS.contains(&name)) && words.all(|word| word.starts_with('-'))
}

/// What the shell itself does to processes, to its history, and to what comes later.
fn of_the_shell(name: &str, command: &Command) -> Option<String> {
    let mut known = command.known();
    match name {
        "kill" => known.last().is_some_and(|word| matches!(word, "-1" | "1")).then(|| why(name, "ends everything")),
        "crontab" => Some(why(name, "leaves something to run later")),
        "history" => known.any(|word| matches!(word, "-c" | "-w")).then(|| why(name, "covers tracks")),
        "export" | "declare" | "typeset" => known
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| LOADERS.contains(key) || key.starts_with("LD_"))
            .map(|(key, _)| format!("`{key}` makes programs run something else")),
        _ => None,
    }
}

/// `rm` of anything that is not plainly a part of the worktree.
fn removal(command: &Command) -> Option<String> {
    let recursive = command.known().any(|word| {
        word.starts_with("--recursive")
            || (word.starts_with('-') && !word.starts_with("--") && word.contains(['r', 'R']))
    });
    let unknown = if recursive { Unknown::Alarms } else { Unknown::Passes };
    let place = command.words.iter().skip(1).find(|word| {
        !word.text().starts_with('-') && (outside(word, unknown) || (recursive && word.literal().is_some_and(is_whole)))
    })?;
    Some(format!("`rm` of `{}`, which is not plainly a part of the worktree", place.text()))
}

fn git(command: &Command) -> Option<String> {
    let mut words = command.known().peekable();
    while let Some(option) = words.next_if(|word| word.starts_with('-')) {
        if GIT_VALUED.contains(&option) {
            let value = words.next().unwrap_or_default().to_lowercase();
            let key = value.split('=').next().unwrap_or_default();
            if option == "-c" && (value.contains("=!") || GIT_COMMANDS.iter().any(|suffix| key.ends_with(suffix))) {
                return Some(format!("`git -c {key}` runs a command"));
            }
        }
        if option.starts_with("--exec-path=") || option.starts_with("--config-env") {
            return Some("`git` runs programs from elsewhere".to_owned());
        }
    }
    let subcommand = words.next()?;
    let rest: Vec<&str> = words.collect();
    match subcommand {
        "push" => Some("`git push` changes another repository".to_owned()),
        "send-email" | "request-pull" | "daemon" | "instaweb" | "credential" => {
            Some(format!("`git {subcommand}` reaches out"))
        }
        "config" => {
            let sets = rest.iter().any(|word| {
                GIT_COMMANDS.iter().any(|suffix| word.to_lowercase().ends_with(suffix)) || word.starts_with("alias.")
            });
            let elsewhere = rest.iter().any(|word| matches!(*word, "--global" | "--system"));
            let reads = rest.iter().any(|word| word.starts_with("--get") || matches!(*word, "-l" | "--list"));
            ((sets || elsewhere) && !reads).then(|| "`git config` changes what git runs".to_owned())
        }
        "filter-branch" | "update-ref" | "reflog"
            if rest.iter().any(|word| matches!(*word, "-d" | "--delete" | "expire" | "delete")) =>
        {
            Some(format!("`git {subcommand}` throws history away"))
        }
        "clone" | "fetch" | "pull" | "remote" | "submodule" | "ls-remote"
            if rest
                .iter()
                .any(|word| word.contains("ext::") || word.contains("file::") || word.starts_with("--upload-pack")) =>
        {
            Some(format!("`git {subcommand}` runs a command of the address"))
        }
        _ => None,
    }
}

/// Whether a script of sed runs commands (`e`) or writes files (`w`).
fn sed_runs(known: &[&str]) -> bool {
    let behind = |option: &str| known.iter().position(|word| *word == option).and_then(|at| known.get(at + 1));
    let script = behind("-e").or_else(|| known.iter().find(|word| !word.starts_with('-')));
    sed::runs(script.copied().unwrap_or_default())
}

/// Whether one of the arguments from `skip` on is a place outside.
fn places(command: &Command, skip: usize) -> bool {
    let plain = command.words.iter().skip(1).filter(|word| !word.text().starts_with('-'));
    plain.skip(skip.min(command.words.len())).any(|word| outside(word, Unknown::Passes))
}

/// What a word means whose value nobody knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Passes,
    Alarms,
}

fn outside(word: &Word, unknown: Unknown) -> bool {
    match word {
        Word::Literal(text) | Word::Fed(text) => is_outside(text),
        Word::Unknown(text) | Word::Assigned(text, _) => {
            let known_start = text.trim_start_matches('"');
            unknown == Unknown::Alarms
                || ["$HOME", "${HOME}", "~", "/etc", "/usr", "/dev/sd"]
                    .iter()
                    .any(|start| known_start.starts_with(start))
        }
    }
}

/// Whether a path is plainly outside of the worktree: absolute, but for what everybody may write, or through `..`.
pub fn is_outside(path: &str) -> bool {
    const FREE: &[&str] = &["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"];
    const FREE_FOLDERS: &[&str] = &["/dev/fd/", "/tmp/", "/dev/shm/"];
    let climbs = path.split('/').any(|part| part == "..");
    let free = FREE.contains(&path)
        || FREE_FOLDERS.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| !rest.is_empty()));
    climbs || (path.starts_with(['/', '~']) && !free)
}

/// Whether a path is the whole worktree, or its history.
fn is_whole(path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
    matches!(path, "" | "." | "*" | ".*" | ".git" | "**") || path.starts_with(".git/")
}
