//! Variables whose value some program runs, and what sets them.

use super::options::{Letters, values};
use super::{Found, Unread, Word, git, is_stream};
use crate::agent::shell::Command;

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
    "CVS_RSH",
    "SVN_SSH",
    "SUDO_ASKPASS",
    "FCEDIT",
    "TEXEDIT",
    "PYTHONBREAKPOINT",
    "npm_config_script_shell",
    "npm_config_shell",
    "npm_config_node_options",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTDOC",
    "BAT_PAGER",
    "DELTA_PAGER",
    "PSQL_PAGER",
    "PSQL_EDITOR",
    "SYSTEMD_PAGER",
    "SUDO_EDITOR",
    "SVN_EDITOR",
    "HGEDITOR",
    "KUBE_EDITOR",
    "RSYNC_CONNECT_PROG",
    "RSYNC_SHELL",
    "BORG_RSH",
    "BORG_PASSCOMMAND",
    "RESTIC_PASSWORD_COMMAND",
    "RCLONE_PASSWORD_COMMAND",
    "FZF_DEFAULT_COMMAND",
    "PKG_CONFIG",
    "MAKESHELL",
    "CARGO",
];
/// Beginnings of variables by which build scripts name compilers, for one machine each.
const COMPILERS: &[&str] = &["CC_", "CXX_", "AR_", "HOST_CC", "TARGET_CC"];
/// Variables whose value some program evaluates, unless it is a plain word.
const EVALUATED: &[&str] = &[
    "BASH_ENV",
    "ENV",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "MAKEFLAGS",
    "MAKEFILES",
    "GNUMAKEFLAGS",
    "MFLAGS",
    "PYTHONSTARTUP",
    "LUA_INIT",
];
/// Variables that are options of a program, with the beginnings of those that start another one or run a text. Those that
/// load a file are free, as the file is.
const OPTIONS: &[(&str, &[&str])] = &[
    ("NODE_OPTIONS", &["-e", "--eval", "-p", "--print", "-i"]),
    ("PERL5OPT", &["-d", "d"]),
    ("RUBYOPT", &["-e"]),
    ("GOFLAGS", &["-exec", "--exec", "-toolexec", "--toolexec", "-vettool", "--vettool"]),
    ("RUSTFLAGS", &["linker=", "-Clinker="]),
    ("CARGO_ENCODED_RUSTFLAGS", &["linker=", "-Clinker="]),
    ("CARGO_BUILD_RUSTFLAGS", &["linker=", "-Clinker="]),
    ("JAVA_TOOL_OPTIONS", &["-XX:On"]),
    ("_JAVA_OPTIONS", &["-XX:On"]),
    ("JDK_JAVA_OPTIONS", &["-XX:On", "@"]),
    ("TAR_OPTIONS", &["--to-c", "--checkpoint-a", "--use", "-I", "--info", "--new-volume", "-F", "--rsh"]),
    ("FZF_DEFAULT_OPTS", &["--preview", "--bind", "--listen"]),
    ("MANOPT", &["-P", "--pager", "-H", "--html"]),
    ("PYTHONINSPECT", &[""]),
    ("PERL5DB", &[""]),
    ("LD_PRELOAD", &[""]),
    ("LD_AUDIT", &[""]),
    ("GIT_EXEC_PATH", &[""]),
];
/// Beginnings of variables that put commands under other names.
const RENAMING: &[&str] = &[
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY",
    "GIT_CONFIG_VALUE",
    "GIT_CONFIG_PARAMETERS",
    "BASH_FUNC_",
    "BASH_ALIASES",
    "BASH_CMDS",
    "CARGO_ALIAS_",
];

/// Variables that say where git finds its settings.
const GIT_PLACES: &[&str] = &["HOME", "XDG_CONFIG_HOME", "GIT_DIR", "GIT_COMMON_DIR"];

/// A variable that is set to `value`.
pub fn assigned(name: &str, value: &Word) -> Found {
    let mut found = Found::default();
    // One of a list is as good as the list.
    let name = name.split('[').next().unwrap_or(name);
    let small = name.to_ascii_lowercase();
    // npm knows its own in any letters.
    let name = if small.starts_with("npm_config_") { small.as_str() } else { name };
    if COMMANDS.contains(&name)
        || COMPILERS.iter().any(|front| name.starts_with(front))
        || (name.starts_with("CARGO_")
            && ["_RUNNER", "_LINKER", "_CREDENTIAL_PROVIDER"].iter().any(|end| name.ends_with(end)))
    {
        found.runs(value);
    }
    let is_plain = value.literal().is_some_and(|text| {
        !text.contains(['$', '`'])
            && !["eval", "SHELL", "data:"].iter().any(|mark| text.contains(mark))
            && !is_stream(text)
    });
    // What `less` is told to begin with may be a command.
    let begins = matches!(name, "LESS" | "MORE") && value.literal().is_none_or(|text| text.contains('+'));
    let renames = RENAMING.iter().any(|front| name.starts_with(front));
    let steers = OPTIONS.iter().any(|(known, fronts)| *known == name && steers(name, value, fronts));
    // A file of settings may hold an alias; git's own word for none holds nothing.
    let settings = matches!(name, "GIT_CONFIG_GLOBAL" | "GIT_CONFIG_SYSTEM" | "GIT_CONFIG");
    let renames = renames || (settings && !matches!(value.literal(), Some("" | "/dev/null")));
    if GIT_PLACES.contains(&name) {
        found.of_git = git::elsewhere(name, value);
    }
    let hides = name == "PATH" && !leads_to_programs(value);
    if renames || steers || begins || hides || (EVALUATED.contains(&name) && !is_plain) {
        let what = format!("the variable `{name}` makes programs run something else");
        found.unread = Some(Unread::new(what, "leave it out"));
    }
    found
}

/// Whether a search path has the one that was there in it, or folders that are called as those of programs are and nothing else;
/// and none of the parts of git.
fn leads_to_programs(value: &Word) -> bool {
    let text = value.text().trim_matches('"');
    let goes_on = |folder: &str| folder.starts_with('$') && folder.contains("PATH") && !folder.contains('(');
    let is_own = |folder: &str| folder.trim_end_matches('/').ends_with("bin") || folder.ends_with("/games");
    let hides = ["git-core", "exec-path"].iter().any(|part| text.contains(part));
    !hides && (text.split(':').any(goes_on) || text.split(':').all(is_own))
}

/// Whether options that stand in a variable make its program run another one, a text, or what flows through something.
fn steers(name: &str, value: &Word, fronts: &[&str]) -> bool {
    // What was in it before is the environment's.
    let own = [format!("${{{name}}}"), format!("${{{name}:-}}"), format!("${name}")];
    let text = own.iter().fold(value.text().to_owned(), |text, own| text.replace(own.as_str(), ""));
    let text = text.trim_matches('"').trim();
    let marks = [";", "(", "{", "$", "`", "data:", "/dev/", "/proc/"];
    let runs = |option: &str| fronts.iter().any(|front| option.starts_with(front));
    !text.is_empty()
        && (marks.iter().any(|mark| text.contains(mark)) || text.split(['\u{1f}', ' ', '\t', '\n']).any(runs))
}

/// A word of `env` or `export`, which may set a variable.
pub fn declared(word: &Word) -> Found {
    match word.text().trim_start_matches('"').split_once('=') {
        Some((name, value)) if word.literal().is_some() => assigned(name, &Word::Literal(value.to_owned())),
        Some((name, value)) if !name.contains(['$', '`']) => assigned(name, &Word::Unknown(value.to_owned())),
        _ => Found::default(),
    }
}

/// Whether programs run what a variable of that name holds, or are made to run something else.
pub fn is_special(name: &str) -> bool {
    let known = COMMANDS.iter().chain(EVALUATED).chain(OPTIONS.iter().map(|(name, _)| name)).chain(GIT_PLACES);
    known.into_iter().any(|one| *one == name) || name == "PATH" || RENAMING.iter().any(|front| name.starts_with(front))
}

/// Builtins that set variables by name.
pub fn sets(name: &str, command: &Command) -> Found {
    if let Some(variable) = command.known().find(|word| is_special(word.split('[').next().unwrap_or(word))) {
        let what = format!("`{name}` sets `{variable}`, which makes programs run something else");
        return Found::unread(what, "leave it out");
    }
    if !matches!(name, "mapfile" | "readarray") {
        return Found::default();
    }
    let mut found = Found::default();
    values(command, Letters { valued: "dnOsuc", attached: "" }, &["-C"]).iter().for_each(|script| found.runs(script));
    found
}
