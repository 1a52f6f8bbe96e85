//! Whether what restricts commands may speak of a script. Pure.
//!
//! A rule that allows has to be proved to fit; a rule that denies or asks has to be proved *not* to. So whatever cannot be read
//! before it runs falls under the strictest rule there is for `bash`, whichever command that rule names: an interpreter that is
//! given its program on its input or as an argument (`sh <<< …`, `python -c …`, `. <(…)`), a script that an expansion makes
//! (`eval "$(…)"`, `$g push`), arguments that come from a list (`xargs git`), a program under another name (`cp $(which git) x`,
//! `hash -p`), settings that make one program run another (`GIT_CONFIG_COUNT`, `git -c alias.x=…`). The model is told what it
//! is and what to write instead; where no rule restricts `bash`, all of it is as free as ever.
//!
//! A variable that the script itself sets to plain words is each of them (`script=ci/build.sh; bash "$script"`), and held against
//! the rules as such; a folder that the environment names begins a path. Copies and links under names that nobody knows are free,
//! unless something in the script says that they are of a program which a rule names. A program that is not known here and is
//! given an interpreter's or a launcher's name with more words is taken for one that runs them.
//!
//! A command of git that is none of git's own may be an alias of whatever wrote git's settings, so nobody knows what it runs, and
//! where git is told to find those (`HOME`, `GIT_DIR`) neither.
//!
//! What a script writes into a file and has a shell run is read where it stands in the script, and a file that anything of the agent's
//! work wrote before is read as it lies there when the call comes: both as far as they are plain. A file that the same script may
//! write with anything else (through a pipe, by a copy, a link, an archive, by any program that is given its name or a folder around
//! it) is not run in that script; in the next call it is ([`super::shell::made`]). So ordinary builds go on: what builds, tests or
//! fetches by the worktree's own files could run a command itself, and what it makes (`./configure`, `./target/x`) is not followed.
//! What a program in the background does to a file between its reading and its run nobody sees.
//!
//! What each program takes for a program is a table of those that are known (`shell/unread`), not a proof for all there are; how
//! their options may be written is read in one place (`unread/options`). An expansion outside of quotes may be such an option; one
//! in quotes, and a word that comes from a list, is taken for a name. Two things more are not promised. What lies in a file of the
//! base, and in one for anything but a shell, is not read: `python x.py` and `make` run what the worktree holds, and a rule that has to
//! hold for those is the cage's: no network, no credentials, `writes`. And a rule speaks of the command it names, not of what
//! else has the same effect (`git send-pack` is no `git push`).

use globset::Glob;
use swarm_protocol::glob_bounds;

use super::permission::{Match, Rule};
use super::shell::danger::is_outside;
use super::shell::safe::only_reads;
use super::shell::{Command, Script, Word, without_options_of_git};

/// What a rule has to do with a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hit {
    /// The rule speaks of a command of it.
    Speaks(String),
    /// Nobody can tell that it does not; why, and what to write instead.
    MaySpeak(String),
}

/// What `rules` have to do with a script; the surest hit of all of them, `None` when none speaks of it.
pub fn find(script: &Script, rules: &[Rule]) -> Option<Hit> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.names("bash")).collect();
    let mut may = None;
    for rule in &rules {
        let Some(pattern) = rule.command() else {
            return Some(Hit::Speaks(format!("rule `{}` speaks of all commands", rule.written())));
        };
        for command in script.commands.iter().filter(|command| !command.resolved) {
            match restrains(pattern, command) {
                Match::Yes => {
                    return Some(Hit::Speaks(format!("rule `{}` speaks of `{}`", rule.written(), words(command))));
                }
                Match::Maybe => may.get_or_insert_with(|| {
                    let instead = "write its words out, without variables and patterns";
                    format!(
                        "it cannot be told before it runs whether rule `{}` speaks of `{}`: {instead}",
                        rule.written(),
                        words(command)
                    )
                }),
                Match::No => continue,
            };
        }
        if let Some(command) = handed(pattern, script) {
            let instead = "run that command by itself, or another";
            let text = format!("`{command}` may run what rule `{}` speaks of: {instead}", rule.written());
            may.get_or_insert(text);
        }
    }
    let unread = |rule: &&Rule| {
        let unread = script.unread.first()?;
        Some(format!("{}, and rule `{}` restricts what may run: {}", unread.what, rule.written(), unread.instead))
    };
    may.or_else(|| rules.first().and_then(unread)).map(Hit::MaySpeak)
}

/// Why `rules` may speak of a file that a shell runs: of one of the commands that it holds, or since nobody can read it.
pub fn find_in_file(path: &str, held: Option<&[Command]>, rules: &[Rule]) -> Option<String> {
    let mut rules = rules.iter().filter(|rule| rule.names("bash"));
    let Some(held) = held else {
        let what = format!("`{path}` was written meanwhile and is too long to be read");
        return rules.next().map(|rule| {
            format!("{what}, and rule `{}` restricts what may run: run its commands by themselves", rule.written())
        });
    };
    rules.find_map(|rule| {
        let command =
            held.iter().find(|command| restrains(rule.command().unwrap_or_default(), command) != Match::No)?;
        Some(format!(
            "`{path}`, which was written meanwhile, runs `{}`, and rule `{}` speaks of that: leave it out",
            words(command),
            rule.written()
        ))
    })
}

/// Whether a pattern speaks of a command in any of the ways to write it.
fn restrains(pattern: &[String], command: &Command) -> Match {
    let by_file = command.name().and_then(|name| name.strip_prefix("git-")).map(|subcommand| {
        let own = ["git", subcommand].map(|word| Word::Literal(word.to_owned()));
        Command { words: own.into_iter().chain(command.words.iter().skip(1).cloned()).collect(), ..command.clone() }
    });
    let ways = [without_options_of_git(command), by_file, without_options(pattern, command)];
    let other = ways.iter().flatten().map(|command| matches(pattern, &command.words)).max();
    matches(pattern, &command.words).max(other.unwrap_or(Match::No))
}

/// A command without the options between its program and the word that the pattern names next (`cargo --locked publish`).
/// Which options have a value nobody knows here, so all up to that word goes. Git's own are known.
fn without_options(pattern: &[String], command: &Command) -> Option<Command> {
    let next = pattern.get(1).filter(|next| !next.starts_with(['-', '*']))?;
    let is_option = |word: &Word| word.literal().is_some_and(|word| word.starts_with(['-', '+']));
    if command.name() == Some("git") || !command.words.get(1).is_some_and(is_option) {
        return None;
    }
    let at = command
        .words
        .iter()
        .skip(2)
        .position(|word| matches(std::slice::from_ref(next), std::slice::from_ref(word)) != Match::No)?;
    let words = command.words.iter().take(1).chain(&command.words[at + 2..]).cloned().collect();
    Some(Command { words, ..command.clone() })
}

/// The command that may run what a pattern names, in its own arguments, or under another name.
fn handed(pattern: &[String], script: &Script) -> Option<String> {
    if let Some(command) = script.handed.iter().find(|command| restrains(pattern, command) != Match::No) {
        return Some(words(command));
    }
    let is_copy =
        |command: &Command| matches!(command.name(), Some("cp" | "mv" | "ln" | "link" | "install" | "dd" | "rsync"));
    let program = pattern.first()?;
    let names = |word: &Word| {
        let text = word.text();
        let file = text.trim_matches('"').rsplit(['/', '=']).next().unwrap_or(text);
        fits(program, file) != Match::No || (program == "git" && file.starts_with("git-"))
    };
    let all = || script.commands.iter().chain(&script.handed);
    let makes_file = all().any(is_copy)
        || script.writes.iter().any(|place| !place.literal().is_some_and(|place| place.starts_with("/dev/")));
    let suspicious = |command: &&Command| {
        let mut arguments = command.words.iter().skip(1);
        let finders = ["which", "type", "command", "whereis", "hash", "locate", "realpath"];
        let looks_up = command.captured && command.name().is_some_and(|name| finders.contains(&name));
        let given = pattern.len() > 1 && !only_reads(command) && {
            (1..command.words.len()).any(|at| matches(pattern, &command.words[at..]) == Match::Yes)
        };
        given
            || (is_copy(command) && arguments.clone().any(names))
            || (makes_file && looks_up && arguments.clone().any(names))
            || ((makes_file || !only_reads(command)) && arguments.any(|word| names_elsewhere(word) && names(word)))
    };
    // A program is read as a file where it is copied.
    let read =
        script.reads.iter().find(|file| names_elsewhere(file) && names(file)).map(|file| format!("< {}", file.text()));
    all().filter(|command| !command.resolved).find(suspicious).map(words).or(read)
}

fn names_elsewhere(word: &Word) -> bool {
    word.literal().is_some_and(|text| is_outside(text.rsplit('=').next().unwrap_or(text)))
}

/// Whether a pattern, the beginning of a command, fits words that are not all known; `*` as a word is any words, within a word
/// any letters.
pub fn matches(pattern: &[String], words: &[Word]) -> Match {
    let mut sure = Match::Yes;
    for (at, pattern) in pattern.iter().enumerate() {
        if pattern == "*" {
            return sure;
        }
        let Some(word) = words.get(at) else { return Match::No };
        let Some(text) = word.literal() else {
            // It may be several words, or none.
            if !word.is_one() {
                return Match::Maybe;
            }
            sure = Match::Maybe;
            continue;
        };
        // A program is the same wherever it lies.
        let text = if at == 0 { text.rsplit('/').next().unwrap_or(text) } else { text };
        match fits(pattern, text) {
            Match::Yes => {}
            other => return other,
        }
    }
    sure
}

/// Whether a word of a pattern fits one of a command, or a file whose name that stands for.
fn fits(pattern: &str, text: &str) -> Match {
    let is_plain = !pattern.contains(['*', '?', '[', '{', '\\']);
    if pattern == text || (!is_plain && Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(text))) {
        return Match::Yes;
    }
    let Some(front) = text.find(['*', '?', '[']).map(|at| &text[..at]) else { return Match::No };
    let stands_for = match pattern.find(['*', '?', '[', '{']).map(|at| &pattern[..at]) {
        None if glob_bounds::check(text).is_err() => true,
        None => Glob::new(text).map_or(true, |glob| glob.compile_matcher().is_match(pattern)),
        Some(own) => own.starts_with(front) || front.starts_with(own),
    };
    if stands_for { Match::Maybe } else { Match::No }
}

fn words(command: &Command) -> String {
    command.words.iter().map(Word::text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
