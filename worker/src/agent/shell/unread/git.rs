//! What git runs: settings and aliases that are given in a command, and subcommands whose options or words are commands.

use super::options::{Letters, operands, values};
use super::{Found, PLAIN, Unread, Word};
use crate::agent::shell::Command;
use crate::agent::shell::unwrap::{GIT_COMMANDS, GIT_VALUED};

/// Options of git's subcommands whose value is a command.
const GIT_OPTIONS: &[(&str, &[&str])] = &[
    ("rebase", &["-x", "--exec"]),
    ("difftool", &["-x", "--extcmd"]),
    ("grep", &["-O", "--open-files-in-pager"]),
    ("send-email", &["--sendmail-cmd", "--to-cmd", "--cc-cmd", "--header-cmd", "--smtp-server"]),
    ("daemon", &["--access-hook"]),
    ("instaweb", &["-d", "--httpd", "-b", "--browser"]),
    ("fetch", &["--upload-pack"]),
    ("pull", &["--upload-pack"]),
    ("ls-remote", &["--upload-pack", "--exec"]),
    ("fetch-pack", &["--upload-pack", "--exec"]),
    ("archive", &["--exec"]),
    ("push", &["--receive-pack", "--exec"]),
    ("send-pack", &["--receive-pack", "--exec"]),
    (
        "filter-branch",
        &[
            "--setup",
            "--env-filter",
            "--tree-filter",
            "--index-filter",
            "--msg-filter",
            "--parent-filter",
            "--commit-filter",
            "--tag-name-filter",
        ],
    ),
];
/// What is known of the letters of those.
const LETTERS: Letters<'static> = Letters { valued: "bojcCsfAB", attached: "SX" };
/// Keys of git's configuration, beside those known elsewhere, whose values git runs.
const GIT_KEYS: &[&str] = &[
    "defaultkeycommand",
    "alternaterefscommand",
    "sendmailcmd",
    ".command",
    ".helper",
    ".uploadpack",
    ".receivepack",
    ".vcs",
    ".update",
    ".program",
    ".tunnel",
    ".httpd",
    ".path",
    "trailer.",
    "pager.",
    "sendemail.",
    "lfs.customtransfer.",
];

/// Options of `git config` whose value is a word of its own.
///
/// Source: git-config(1).
const CONFIG_VALUED: &[&str] = &["file", "blob", "type", "default", "value", "comment", "url"];

/// What git's settings and its subcommands run.
pub fn find(command: &Command) -> Found {
    let mut found = Found::default();
    let mut words = command.words.iter().skip(1).peekable();
    while let Some(option) = words.next_if(|word| word.text().trim_start_matches('"').starts_with('-')) {
        let text = option.text().trim_start_matches('"');
        if text.starts_with("--exec-path=") {
            found.unread = Some(Unread::new("`--exec-path` makes git run programs from elsewhere", "leave it out"));
        } else if text.starts_with("--config-env") {
            found.unread = Some(Unread::new("`--config-env` takes settings of git from variables", "leave it out"));
        } else if text == "-c" {
            words.next().into_iter().for_each(|setting| given_setting(setting, &mut found));
        } else if GIT_VALUED.contains(&text) {
            words.next();
        }
    }
    // An address may be a command, wherever it stands.
    let addresses = command.words.iter().filter_map(|word| word.text().split_once("ext::"));
    addresses.for_each(|(_, script)| found.runs(&Word::Literal(script.to_owned())));
    let subcommand = words.next().and_then(Word::literal).unwrap_or_default();
    let rest: Vec<&Word> = words.collect();
    match subcommand {
        "config" => {
            let config = [vec![Word::Literal("config".to_owned())], rest.into_iter().cloned().collect()].concat();
            let config = Command::of(config);
            let plain = operands(&config, Letters { valued: "f", attached: "" }, CONFIG_VALUED);
            let mut plain = plain.into_iter().filter(|word| word.text() != "set");
            if let (Some(key), Some(value)) = (plain.next(), plain.next()) {
                git_setting(key.text(), value, &mut found);
            }
        }
        "clone" => {
            let given = values(command, LETTERS, &["-c", "--config"]);
            given.iter().for_each(|setting| given_setting(setting, &mut found));
            values(command, LETTERS, &["-u", "--upload-pack"]).iter().for_each(|script| found.runs(script));
        }
        // Its words are those of another command of git, or of a program.
        "for-each-repo" | "merge-index" => {
            let own = if subcommand == "for-each-repo" { vec![Word::Literal("git".to_owned())] } else { vec![] };
            let words: Vec<Word> = rest.into_iter().filter(|word| !word.text().starts_with('-')).cloned().collect();
            found.commands.push(Command::of([own, words].concat()));
        }
        "remote-ext" => rest.iter().for_each(|script| found.runs(script)),
        // They run all that follows, or give it to a shell.
        "bisect" | "submodule" => {
            let verb = rest.iter().position(|word| matches!(word.literal(), Some("run" | "foreach")));
            let words =
                rest.into_iter().skip(verb.map_or(usize::MAX, |at| at + 1)).filter(|word| word.text() != "--recursive");
            let words: Vec<Word> = words.cloned().collect();
            match words.as_slice() {
                [] => {}
                [script] => found.runs(script),
                _ => found.commands.push(Command::of(words)),
            }
        }
        _ => {
            let options =
                GIT_OPTIONS.iter().find(|(known, _)| *known == subcommand).map_or(&[][..], |(_, options)| *options);
            values(command, LETTERS, options).iter().for_each(|script| found.runs(script));
        }
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
    if key == "help.autocorrect" {
        found.unread = Some(Unread::new("`help.autocorrect` runs another command than is written", "leave it out"));
    } else if key.contains(['$', '`']) || key.starts_with("include") {
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
