//! Holds a document against the table of keys: unknown keys, wrong types, numbers out of range, misspelt words, and keys
//! that do not work yet. Reports everything; what it accepts, `lower` reads without asking again.

use swarm_protocol::git_dir::is_git_dir;

use crate::diagnostic::{Diagnostic, Location, nearest};
use crate::document::{Node, Table, Value};
use crate::egress::HostRule;
use crate::elsewhere::{Meant, kebab, meant};
use crate::glob;
use crate::keys::{self, Key, Kind, Since, is_name};
use crate::quantity;

/// Checks a table whose keys are `keys`; `what` names it in messages (`[tasks.build]`).
pub(crate) fn check_table(table: &Table, keys: &[Key], what: &str, diagnostics: &mut Vec<Diagnostic>) {
    for entry in &table.entries {
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) => {
                check(&entry.node, &key.kind, &entry.key, diagnostics);
                if key.since == Since::Later {
                    diagnostics.push(not_yet(&format!("`{}`", key.name), entry.key_at));
                }
            }
            None => diagnostics.push(unknown_key(&entry.key, entry.key_at, keys, what)),
        }
    }
}

fn not_yet(what: &str, at: Location) -> Diagnostic {
    Diagnostic::error(at, format!("{what} is not supported yet")).label("planned for a later version")
}

fn unknown_key(key: &str, at: Location, keys: &[Key], what: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(at, format!("unknown key `{key}` in {what}"));
    let names = || keys.iter().map(|key| key.name);
    match hint(key, keys) {
        Some(hint) => diagnostic.label("not a key").hint(hint),
        None if keys::is_of_a_policy(key) => {
            diagnostic.hint(format!("`{key}` belongs to [sandbox.NAME], which tasks name by `sandbox = \"NAME\"`"))
        }
        None if keys.len() <= 8 => {
            let all: Vec<String> = names().map(|name| format!("`{name}`")).collect();
            diagnostic.hint(format!("the keys here are {}", all.join(", ")))
        }
        None => diagnostic.hint("`swarm schema` prints every key with its meaning"),
    }
}

/// What was meant by a key that is none of `keys`: another way to write it, another tool's word, a slip.
fn hint(key: &str, keys: &[Key]) -> Option<String> {
    let names = || keys.iter().map(|key| key.name);
    let kebab = kebab(key);
    let elsewhere = || match meant(key)? {
        Meant::Keys(ours) => names().find(|name| ours.contains(name)),
        Meant::Said(_) => None,
    };
    let name = names().find(|name| *name == kebab).or_else(elsewhere).or_else(|| nearest(key, names()));
    match (name, meant(key)) {
        (Some(name), _) => Some(format!("did you mean `{name}`?")),
        // What is said in another way is of a task; other tables have little in common with other tools'.
        (None, Some(Meant::Said(words))) if names().any(|name| name == "run") => Some(words.to_owned()),
        (None, _) => None,
    }
}

/// Checks one value; `what` is the key it belongs to.
fn check(node: &Node, kind: &Kind, what: &str, diagnostics: &mut Vec<Diagnostic>) {
    if !fits(node, kind) {
        let message = format!("`{what}` has to be {}, not {}", described(kind), node.type_name());
        let diagnostic = Diagnostic::error(node.at, message);
        diagnostics.push(match conversion(node, kind, what) {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
        return;
    }
    match (kind, &node.value) {
        (Kind::Either(kinds), _) => {
            if let Some(kind) = kinds.iter().find(|kind| fits(node, kind)) {
                check(node, kind, what, diagnostics);
            }
        }
        (Kind::Filled(_), Value::List(items)) if items.is_empty() => {
            diagnostics
                .push(Diagnostic::error(node.at, format!("`{what}` is empty")).hint("leave the key out, or fill it"));
        }
        (Kind::List(kind) | Kind::Filled(kind), Value::List(items)) => {
            items.iter().for_each(|item| check(item, kind, what, diagnostics));
        }
        (Kind::Named(kind), Value::Table(table)) => check_named(table, kind, what, diagnostics),
        (Kind::Table(keys), Value::Table(table)) => check_table(table, keys, &format!("`{what}`"), diagnostics),
        (Kind::Integer(..) | Kind::Number(..) | Kind::FromZero(_), _) => {
            diagnostics.extend(check_range(node, kind, what))
        }
        (kind, Value::Text(text)) => diagnostics.extend(check_text(text, node.at, kind, what)),
        _ => {}
    }
}

/// A table with free keys.
fn check_named(table: &Table, kind: &Kind, what: &str, diagnostics: &mut Vec<Diagnostic>) {
    for entry in &table.entries {
        if !is_name(&entry.key) {
            let message = format!("`{}` is not a name", entry.key.escape_debug());
            diagnostics.push(Diagnostic::error(entry.key_at, message).hint(keys::NAMES));
        } else if entry.key.starts_with('-') {
            // It would be an option wherever a person types it.
            let message = format!("`{}` is not a name: it begins with a dash", entry.key);
            diagnostics.push(Diagnostic::error(entry.key_at, message).hint(keys::NAMES).in_new_plans());
        }
        match (kind, entry.node.table()) {
            (Kind::Table(keys), None) if keys.iter().any(|key| key.name == entry.key) => {
                let name = if what == "sandbox" { "default" } else { "NAME" };
                let message = format!("[{what}] holds tables only, and `{}` is a key of one", entry.key);
                diagnostics
                    .push(Diagnostic::error(entry.key_at, message).hint(format!("write it below [{what}.{name}]")));
            }
            (Kind::Table(keys), Some(inner)) => {
                check_table(inner, keys, &format!("[{what}.{}]", entry.key), diagnostics);
            }
            _ => check(&entry.node, kind, &entry.key, diagnostics),
        }
    }
}

/// Whether the TOML type fits; nothing inside is looked at.
fn fits(node: &Node, kind: &Kind) -> bool {
    match kind {
        Kind::Text | Kind::Line | Kind::Name | Kind::Duration | Kind::Size(_) => node.text().is_some(),
        Kind::Inside | Kind::Outside | Kind::Host | Kind::Model => node.text().is_some(),
        Kind::Choice(_) => node.text().is_some(),
        Kind::Integer(..) => node.integer().is_some(),
        Kind::Number(..) | Kind::FromZero(_) => node.number().is_some(),
        Kind::Flag => node.flag().is_some(),
        Kind::List(_) | Kind::Filled(_) => node.list().is_some(),
        Kind::Named(_) | Kind::Table(_) => node.table().is_some(),
        Kind::Either(kinds) => kinds.iter().any(|kind| fits(node, kind)),
        Kind::Any => true,
    }
}

/// A kind in a message.
fn described(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::Line | Kind::Name | Kind::Inside | Kind::Outside | Kind::Host | Kind::Model => {
            "a string".to_owned()
        }
        Kind::Choice(words) => one_of(words),
        Kind::Duration => "a duration like \"30m\"".to_owned(),
        Kind::Size(_) => "a size like \"4GiB\"".to_owned(),
        Kind::Integer(..) => "an integer".to_owned(),
        Kind::Number(..) | Kind::FromZero(_) => "a number".to_owned(),
        Kind::Flag => "true or false".to_owned(),
        Kind::List(_) | Kind::Filled(_) => "an array".to_owned(),
        Kind::Named(_) | Kind::Table(_) => "a table".to_owned(),
        Kind::Any => "a value".to_owned(),
        Kind::Either(kinds) => {
            let mut all: Vec<String> = Vec::new();
            for words in kinds.iter().map(described) {
                if !all.contains(&words) {
                    all.push(words);
                }
            }
            all.join(" or ")
        }
    }
}

fn one_of(words: &[(&str, Since)]) -> String {
    let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// What a value of the wrong type was probably meant to be.
fn conversion(node: &Node, kind: &Kind, what: &str) -> Option<String> {
    match (kind, &node.value) {
        (Kind::Duration, Value::Integer(seconds)) => {
            Some(format!("write \"{seconds}s\" for seconds or \"{seconds}m\" for minutes"))
        }
        (Kind::Size(_), Value::Integer(bytes)) => Some(format!("write \"{bytes}B\" for bytes or \"{bytes}MiB\"")),
        (Kind::Integer(..), Value::Text(text)) if text.parse::<i64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::Flag, Value::Text(text)) if text == "true" || text == "false" => {
            Some(format!("write {text} without quotes"))
        }
        (Kind::List(_) | Kind::Filled(_), Value::Text(text)) if what == "argv" => Some(as_argv(text)),
        (Kind::List(_) | Kind::Filled(_), Value::Text(text)) => Some(format!("write [{text:?}]")),
        (Kind::Line, Value::List(items)) if what == "run" && items.iter().all(|item| item.text().is_some()) => {
            let words: Vec<String> = items.iter().filter_map(Node::text).map(|word| format!("{word:?}")).collect();
            Some(format!("a program and its arguments are `argv`: argv = [{}]", words.join(", ")))
        }
        (Kind::Named(Kind::Table(_)), Value::List(_)) => {
            Some(format!("each has a name of its own: [{what}.NAME] in place of [[{what}]]"))
        }
        (Kind::Either(kinds), _) => kinds.iter().find_map(|kind| conversion(node, kind, what)),
        _ => None,
    }
}

/// A command line in the place of a program and its arguments: its words, where they are no more than that.
fn as_argv(line: &str) -> String {
    if line.contains(|c: char| "'\"\\`$|&;<>()*?#~".contains(c)) {
        return format!("a line for the shell is `run`: run = {line:?}");
    }
    let words: Vec<String> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
    format!("write [{}]", words.join(", "))
}

fn check_range(node: &Node, kind: &Kind, what: &str) -> Option<Diagnostic> {
    match *kind {
        Kind::Integer(min, max) => {
            let integer = node.integer()?;
            if min == max && integer != min {
                return Some(
                    Diagnostic::error(node.at, format!("`{what}` {integer} is unknown"))
                        .hint(format!("this program knows {what} = {min}")),
                );
            }
            let outside = !(min..=max).contains(&integer);
            outside.then(|| {
                Diagnostic::error(node.at, format!("`{what}` has to be between {min} and {max}, not {integer}"))
            })
        }
        Kind::Number(above, max) => {
            let number = node.number()?;
            let inside = number > above && number <= max;
            (!inside).then(|| {
                Diagnostic::error(node.at, format!("`{what}` has to be above {above} and at most {max}, not {number}"))
            })
        }
        Kind::FromZero(max) => {
            let number = node.number()?;
            (!(0.0..=max).contains(&number)).then(|| {
                Diagnostic::error(node.at, format!("`{what}` has to be at least 0 and at most {max}, not {number}"))
            })
        }
        _ => None,
    }
}

/// What a string says.
fn check_text(text: &str, at: Location, kind: &Kind, what: &str) -> Option<Diagnostic> {
    let misread = |result: Result<(), quantity::Misread>| {
        result.err().map(|(message, hint)| Diagnostic::error(at, message).hint(hint))
    };
    if text.contains('\0') && !matches!(kind, Kind::Any) {
        return Some(Diagnostic::error(at, format!("`{what}` contains a NUL character")));
    }
    match kind {
        Kind::Duration => misread(quantity::duration(text).map(drop)),
        Kind::Size(min) => misread(quantity::size(text).and_then(|bytes| quantity::at_least(bytes, *min, text, what))),
        Kind::Line if text.trim().is_empty() => Some(Diagnostic::error(at, format!("`{what}` is empty"))),
        Kind::Name if !is_name(text) => {
            let hint = keys::NAMES;
            Some(Diagnostic::error(at, format!("`{}` is not a name", text.escape_debug())).hint(hint))
        }
        Kind::Inside if !text.contains("{{") && !text.contains("{%") => {
            let (message, hint) = path_inside(text).err()?;
            Some(Diagnostic::error(at, message).hint(hint))
        }
        Kind::Outside if !(text.starts_with('/') || text == "~" || text.starts_with("~/")) => {
            Some(Diagnostic::error(at, format!("`{text}` is not an absolute path")).hint("start it with / or ~/"))
        }
        Kind::Host => misread(host_rule(text).map(drop)),
        Kind::Model => {
            let named =
                is_name(text) || text.split_once('/').is_some_and(|(who, which)| is_name(who) && !which.is_empty());
            let hint = "write the name of an entry of [models], or provider/model";
            (!named).then(|| Diagnostic::error(at, format!("`{}` is not a model", text.escape_debug())).hint(hint))
        }
        Kind::Choice(words) => check_word(text, at, words, what),
        _ => None,
    }
}

fn check_word(text: &str, at: Location, words: &[(&str, Since)], what: &str) -> Option<Diagnostic> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, Since::Now)) => None,
        Some((word, Since::Later)) => Some(not_yet(&format!("`{what}` \"{word}\""), at)),
        None => {
            let diagnostic = Diagnostic::error(at, format!("`{what}` has to be {}, not \"{text}\"", one_of(words)));
            Some(match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => diagnostic.hint(format!("did you mean \"{word}\"?")),
                None => diagnostic,
            })
        }
    }
}

/// A host that may be reached.
///
/// # Errors
/// The message and the advice.
pub(crate) fn host_rule(text: &str) -> Result<HostRule, quantity::Misread> {
    HostRule::parse(text).map_err(|error| (format!("`{}` is not a host: {error}", text.escape_debug()), error.hint()))
}

/// A path or glob that stays inside the tree, in its normal form (without `./` in front and `/` behind).
///
/// # Errors
/// The message and the advice, when it is absolute, climbs out, names git's own folder, or is no glob.
pub(crate) fn path_inside(text: &str) -> Result<String, quantity::Misread> {
    let refuse = |message: String, hint: &str| Err((message, hint.to_owned()));
    if text.starts_with('/') || text.starts_with('~') {
        return refuse(format!("`{text}` lies outside the tree"), "write it relative to the repository's root");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse(format!("`{text}` climbs out of the tree"), "`..` is not possible here"),
            part if is_git_dir(part.as_bytes()) => {
                return refuse(format!("`{text}` names git's own folder"), "a task's change never contains it");
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return refuse(format!("`{text}` names nothing in the tree"), "write \"**\" for all of it");
    }
    let normal = parts.join("/");
    match glob::compile(&normal) {
        Ok(_) => Ok(normal),
        Err(error) => refuse(format!("`{text}` is not a glob: {error}"), "globs know * ? ** [a-z] {a,b}"),
    }
}

/// The same of a glob: one that ends in a slash means everything below that folder.
///
/// # Errors
/// As of [`path_inside`].
pub(crate) fn glob_inside(text: &str) -> Result<String, quantity::Misread> {
    let normal = path_inside(text)?;
    Ok(if text.ends_with('/') { format!("{normal}/**") } else { normal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_that_ends_in_a_slash_is_all_below() {
        assert_eq!(glob_inside("./m/n//"), Ok("m/n/**".to_owned()));
        assert_eq!(glob_inside("m/n"), Ok("m/n".to_owned()));
        assert!(glob_inside("/").is_err());
    }

    #[test]
    fn paths_stay_inside_the_tree() {
        for (text, normal) in [("src/**", "src/**"), ("./a//b/", "a/b"), (".gitignore", ".gitignore"), ("a..b", "a..b")]
        {
            assert_eq!(path_inside(text), Ok(normal.to_owned()));
        }
        for text in ["/etc", "~/x", "../x", "a/../../b", ".git/config", "sub/.GIT", "", ".", "a[", "{a"] {
            assert!(path_inside(text).is_err(), "{text}");
        }
        for text in ["git~1/config", ".git./hooks", ".g\u{200c}it/config", ".git::$INDEX_ALLOCATION/x", "\\.git/config"]
        {
            let (message, _) = path_inside(text).unwrap_err();
            assert!(message.contains("names git's own folder"), "{message}");
        }
        let (message, _) = path_inside(&format!("{}a{}", "{".repeat(8000), "}".repeat(8000))).unwrap_err();
        assert!(message.ends_with("is not a glob: more than 16 braces lie within each other"));
    }
}
