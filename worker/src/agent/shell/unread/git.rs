//! What git runs: settings and aliases that are given in a command, and subcommands whose options or words are commands.

use std::iter::Peekable;

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

/// Git's own commands, which no alias takes the place of; `lfs` is a program of its own that nearly everybody has.
///
/// Source: git(1), and git-config(1), `alias.*`.
const OWN: &[&str] = &[
    "add",
    "am",
    "annotate",
    "apply",
    "archive",
    "backfill",
    "bisect",
    "blame",
    "branch",
    "bugreport",
    "bundle",
    "cat-file",
    "check-attr",
    "check-ignore",
    "check-mailmap",
    "check-ref-format",
    "checkout",
    "checkout-index",
    "cherry",
    "cherry-pick",
    "clean",
    "clone",
    "column",
    "commit",
    "commit-graph",
    "commit-tree",
    "config",
    "count-objects",
    "credential",
    "credential-cache",
    "credential-store",
    "daemon",
    "describe",
    "diagnose",
    "diff",
    "diff-files",
    "diff-index",
    "diff-pairs",
    "diff-tree",
    "difftool",
    "fast-export",
    "fast-import",
    "fetch",
    "fetch-pack",
    "filter-branch",
    "fmt-merge-msg",
    "for-each-ref",
    "for-each-repo",
    "format-patch",
    "fsck",
    "fsck-objects",
    "gc",
    "get-tar-commit-id",
    "grep",
    "hash-object",
    "help",
    "hook",
    "http-backend",
    "http-fetch",
    "http-push",
    "imap-send",
    "index-pack",
    "init",
    "init-db",
    "instaweb",
    "interpret-trailers",
    "last-modified",
    "lfs",
    "log",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "mailinfo",
    "mailsplit",
    "maintenance",
    "merge",
    "merge-base",
    "merge-file",
    "merge-index",
    "merge-octopus",
    "merge-one-file",
    "merge-ours",
    "merge-recursive",
    "merge-resolve",
    "merge-subtree",
    "merge-tree",
    "mergetool",
    "mktag",
    "mktree",
    "multi-pack-index",
    "mv",
    "name-rev",
    "notes",
    "pack-objects",
    "pack-redundant",
    "pack-refs",
    "patch-id",
    "pickaxe",
    "prune",
    "prune-packed",
    "pull",
    "push",
    "quiltimport",
    "range-diff",
    "read-tree",
    "rebase",
    "receive-pack",
    "reflog",
    "refs",
    "remote",
    "remote-ext",
    "remote-fd",
    "remote-http",
    "remote-https",
    "repack",
    "replace",
    "replay",
    "repo",
    "request-pull",
    "rerere",
    "reset",
    "restore",
    "rev-list",
    "rev-parse",
    "revert",
    "rm",
    "send-email",
    "send-pack",
    "shell",
    "shortlog",
    "show",
    "show-branch",
    "show-index",
    "show-ref",
    "sparse-checkout",
    "stage",
    "stash",
    "status",
    "stripspace",
    "submodule",
    "subtree",
    "survey",
    "switch",
    "symbolic-ref",
    "tag",
    "unpack-file",
    "unpack-objects",
    "update-index",
    "update-ref",
    "update-server-info",
    "upload-archive",
    "upload-pack",
    "var",
    "verify-commit",
    "verify-pack",
    "verify-tag",
    "version",
    "whatchanged",
    "worktree",
    "write-tree",
];

/// What git's settings and its subcommands run.
pub fn find(command: &Command) -> Found {
    let mut words = command.words.iter().skip(1).peekable();
    let mut found = own_options(&mut words);
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
            let rest = [vec![Word::Literal(subcommand.to_owned())], rest.into_iter().cloned().collect()].concat();
            let rest = Command::of(rest);
            let words: Vec<Word> = operands(&rest, Letters::NONE, &["config"]).into_iter().cloned().collect();
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
        // What begins with a dash comes behind a lone `--`.
        alias if !alias.is_empty() && !alias.starts_with('-') && !OWN.contains(&alias) => {
            let what = format!("`git {alias}` is none of git's own commands and may stand for another");
            let unread = Unread { waits: true, ..Unread::new(what, "write the command that it stands for") };
            found.unread = found.unread.or(Some(unread));
        }
        _ => {
            let options =
                GIT_OPTIONS.iter().find(|(known, _)| *known == subcommand).map_or(&[][..], |(_, options)| *options);
            values(command, LETTERS, options).iter().for_each(|script| found.runs(script));
        }
    }
    found
}

/// Whether one more option may run something: one of git's own where its subcommand does not stand before it, or of a subcommand
/// that has such options.
pub fn may_run_more(command: &Command) -> bool {
    let mut words = command.words.iter().skip(1).peekable();
    own_options(&mut words);
    let subcommand = words.next().and_then(Word::literal);
    let runs = |name: &str| name == "clone" || GIT_OPTIONS.iter().any(|(known, _)| *known == name);
    subcommand.is_none_or(runs)
}

/// What git's own options run, those before its subcommand, which comes next.
fn own_options<'w>(words: &mut Peekable<impl Iterator<Item = &'w Word>>) -> Found {
    let mut found = Found::default();
    while let Some(option) = words.next_if(|word| word.text().trim_start_matches('"').starts_with('-')) {
        let text = option.text().trim_start_matches('"');
        if text.starts_with("--exec-path=") {
            found.unread = Some(Unread::new("`--exec-path` makes git run programs from elsewhere", "leave it out"));
        } else if text.starts_with("--config-env") {
            found.unread = Some(Unread::new("`--config-env` takes settings of git from variables", "leave it out"));
        } else if text == "-c" {
            words.next().into_iter().for_each(|setting| given_setting(setting, &mut found));
        } else if GIT_VALUED.contains(&text) {
            let value = words.next();
            found.of_git =
                value.filter(|_| text == "--git-dir").and_then(|place| elsewhere(text, place)).or(found.of_git);
        } else if let Some(place) = text.strip_prefix("--git-dir=") {
            let place = option.literal().map_or(Word::Unknown(place.to_owned()), |_| Word::Literal(place.to_owned()));
            found.of_git = elsewhere("--git-dir", &place).or(found.of_git);
        }
    }
    found
}

/// Where git is told to find its settings, unless that is named as a repository's own folder is.
pub fn elsewhere(name: &str, place: &Word) -> Option<Unread> {
    let bare = place.text().trim_matches('"').trim_end_matches('/');
    let is_own = match name {
        "HOME" => matches!(bare, "$HOME" | "${HOME}"),
        "XDG_CONFIG_HOME" => matches!(bare, "$XDG_CONFIG_HOME" | "${XDG_CONFIG_HOME}"),
        _ => bare.ends_with(".git"),
    };
    let what = || format!("`{name}` says where git finds settings, which may be aliases and programs");
    (!is_own).then(|| Unread::new(what(), "leave it out where git runs"))
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
