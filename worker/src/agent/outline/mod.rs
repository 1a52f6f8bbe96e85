//! A map of the worktree within a number of tokens: which files define what, those first that the others name most. The same
//! worktree gives the same map: nothing depends on time or on the order of a folder's entries.

/// What one file defines and names.
mod language;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::permission::Act;
use super::tools::files::plain;
use super::tools::search::{self, Tree};
use super::tools::tool::spec;
use super::tools::{Effect, Refused, Tool, ToolResult};
use language::Symbols;

/// Tokens of a map where none are named.
const TOKENS_DEFAULT: usize = 2000;
/// The most tokens of a map.
const TOKENS_MAX: usize = 12_000;
/// Bytes of a token, roughly.
const TOKEN_BYTES: usize = 4;
/// Files that are parsed.
const FILES_MAX: usize = 4000;
/// The longest file that is parsed, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Bytes that are parsed in all.
const ALL_BYTES_MAX: u64 = 24 << 20;
/// A name that more files than this define says nothing about any of them.
const DEFINED_IN_MAX: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapOf {
    folder: Option<String>,
    tokens: Option<usize>,
}

/// The tool.
pub fn tool(tree: &Tree) -> Tool {
    let spec = spec(
        "repo_map",
        "Shows which files define what, the most used first. A good first look at code that is not known yet.",
        json!({
            "folder": {"type": "string", "description": "only below this folder"},
            "tokens": {"type": "integer", "minimum": 100, "maximum": TOKENS_MAX, "description": "how long it may be"},
        }),
        &[],
    );
    let (here, there) = (tree.root().to_owned(), tree.clone());
    let acts = move |input: &MapOf, each: &mut dyn FnMut(Act<'_>)| reads_of(&here, input.folder.as_deref(), each);
    Tool::new(spec, Effect::Reads, acts, move |input: MapOf| -> ToolResult {
        let folder = input.folder.as_ref().map(|folder| folder_of(there.root(), folder)).transpose()?;
        let tokens = input.tokens.unwrap_or(TOKENS_DEFAULT).min(TOKENS_MAX);
        let map = map(&there, folder.as_deref().unwrap_or(""), tokens);
        if map.is_empty() {
            return Err(Refused::new("no file of a known language is there; use `glob` and `grep`"));
        }
        Ok(map)
    })
}

/// A folder that a call names, relative to the worktree, where it leads through links; empty is all of it.
///
/// # Errors
/// [`Refused`] for one outside, and for one that leads outside or into git's own folder.
pub fn folder_of(root: &Path, folder: &str) -> Result<String, Refused> {
    if matches!(folder.trim(), "" | "." | "./") {
        return Ok(String::new());
    }
    let written = plain(root, folder)?;
    let (Ok(whole), Ok(place)) = (root.canonicalize(), root.join(&written).canonicalize()) else { return Ok(written) };
    match place.strip_prefix(&whole) {
        Ok(place) if place.as_os_str().is_empty() => Ok(String::new()),
        Ok(place) => plain(root, &place.to_string_lossy()),
        Err(_) => Err(Refused(format!("{written} leads out of the worktree"))),
    }
}

/// What looking at a folder reads: a link is held to the rules of what it stands for, too.
///
/// # Errors
/// Those of [`folder_of`].
pub fn reads_of(root: &Path, folder: Option<&str>, each: &mut dyn FnMut(Act<'_>)) -> Result<(), Refused> {
    let folder = folder.unwrap_or(".");
    let leads = folder_of(root, folder)?;
    let written = if leads.is_empty() { None } else { Some(plain(root, folder)?) };
    each(Act::Read(if leads.is_empty() { "." } else { &leads }));
    written.iter().filter(|written| **written != leads).for_each(|written| each(Act::Read(written)));
    Ok(())
}

/// A map of the files below `folder`, within so many tokens; empty where no file's language is known.
pub fn map(tree: &Tree, folder: &str, tokens: usize) -> String {
    let (mut files, mut left_out, mut bytes) = (BTreeMap::new(), 0usize, 0u64);
    search::each_file(tree, folder, &mut |path, entry| {
        if !language::is_known(path) {
            return;
        }
        let length = entry.metadata().map_or(u64::MAX, |facts| facts.len());
        if length > FILE_BYTES_MAX || bytes.saturating_add(length) > ALL_BYTES_MAX || files.len() >= FILES_MAX {
            left_out += 1;
            return;
        }
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            bytes += length;
            files.insert(path.to_owned(), language::symbols(path, &text));
        }
    });
    draw(&files, left_out, tokens * TOKEN_BYTES)
}

/// The map of files with their symbols, within so many bytes. Pure.
fn draw(files: &BTreeMap<String, Symbols>, left_out: usize, bytes_max: usize) -> String {
    let weights = weights(files);
    let mut order: Vec<(&String, &Symbols)> =
        files.iter().filter(|(_, symbols)| !symbols.definitions.is_empty()).collect();
    let weight = |path: &str, symbols: &Symbols| -> u64 {
        let known = symbols.definitions.iter().filter_map(|one| weights.get(&(path, one.name.as_str())));
        known.sum()
    };
    order.sort_by_key(|(path, symbols)| (std::cmp::Reverse(weight(path, symbols)), path.as_str()));
    let (mut chosen, mut room, mut more) = (BTreeMap::new(), bytes_max, left_out);
    for (path, symbols) in order {
        let text = entry(path, symbols, &weights, room);
        if text.is_empty() {
            more += 1;
            continue;
        }
        room = room.saturating_sub(text.len());
        chosen.insert(path, text);
    }
    let mut map: String = chosen.into_values().collect();
    if more > 0 && !map.is_empty() {
        map.push_str(&format!("[{more} files more]\n"));
    }
    map
}

/// How many other files use each definition, by file and name.
fn weights(files: &BTreeMap<String, Symbols>) -> BTreeMap<(&str, &str), u64> {
    let mut defined: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (path, symbols) in files {
        for definition in &symbols.definitions {
            defined.entry(&definition.name).or_default().insert(path);
        }
    }
    let mut weights: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (user, symbols) in files {
        let used: BTreeSet<&str> = symbols.references.iter().map(String::as_str).collect();
        for name in used {
            let Some(places) = defined.get(name).filter(|places| places.len() <= DEFINED_IN_MAX) else { continue };
            // A name that is defined here means what stands here.
            if places.contains(user.as_str()) {
                continue;
            }
            for place in places {
                *weights.entry((place, name)).or_default() += 1;
            }
        }
    }
    weights
}

/// A file with its definitions, the most used ones where not all fit; empty when not even one does.
fn entry(path: &str, symbols: &Symbols, weights: &BTreeMap<(&str, &str), u64>, room: usize) -> String {
    let head = format!("{path}\n");
    let lines: Vec<String> = symbols.definitions.iter().map(|one| format!("{:>5}  {}\n", one.line, one.text)).collect();
    let mut ranked: Vec<usize> = (0..lines.len()).collect();
    let used = |at: usize| weights.get(&(path, symbols.definitions[at].name.as_str())).copied().unwrap_or(0);
    ranked.sort_by_key(|&at| (std::cmp::Reverse(used(at)), at));
    let (mut left, mut kept) = (room.saturating_sub(head.len() + 1), BTreeSet::new());
    for at in ranked {
        if lines[at].len() <= left {
            left -= lines[at].len();
            kept.insert(at);
        }
    }
    if kept.is_empty() {
        return String::new();
    }
    head + &kept.into_iter().map(|at| lines[at].as_str()).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worktree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("src/core.rs", "pub fn shared() {}\npub fn lonely() {}\n"),
            ("src/a.rs", "fn a() { shared(); }\n"),
            ("src/b.rs", "fn b() { shared(); }\n"),
            ("web/x.py", "def x(): pass\n"),
            ("target/gen.rs", "fn generated() {}\n"),
            (".gitignore", "target\n"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_link_to_a_folder_is_held_to_the_rules_of_what_it_stands_for() {
        let folder = worktree();
        for (link, to) in [("l", "src"), ("all", "."), ("out", "/etc"), ("up", "..")] {
            std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
        }
        let reads = |of: Option<&str>| {
            let mut read = vec![];
            let mut note = |act: Act<'_>| {
                if let Act::Read(path) = act {
                    read.push(path.to_owned());
                }
            };
            reads_of(folder.path(), of, &mut note).map(|()| read)
        };
        assert_eq!(reads(Some("l")).unwrap(), ["src", "l"]);
        assert_eq!(reads(Some("src")).unwrap(), ["src"]);
        assert_eq!(reads(Some("all")).unwrap(), ["."]);
        assert_eq!(reads(None).unwrap(), ["."]);
        assert!(reads(Some("out")).is_err() && reads(Some("up")).is_err());
    }

    #[test]
    fn the_map_is_the_same_every_time_and_in_order() {
        let folder = worktree();
        let expected = "src/a.rs\n    1  fn a() { shared(); }\nsrc/b.rs\n    1  fn b() { shared(); }\nsrc/core.rs\n    \
                        1  pub fn shared() {}\n    2  pub fn lonely() {}\nweb/x.py\n    1  def x(): pass\n";
        assert_eq!(map(&Tree::all(folder.path()), "", 1000), expected);
        assert_eq!(map(&Tree::all(folder.path()), "web", 1000), "web/x.py\n    1  def x(): pass\n");
    }

    #[test]
    fn what_is_used_most_stays_when_there_is_little_room() {
        let folder = worktree();
        let small = map(&Tree::all(folder.path()), "", 12);
        assert_eq!(small, "src/core.rs\n    1  pub fn shared() {}\n[3 files more]\n");
        assert_eq!(map(&Tree::all(folder.path()), "", 1), "");
    }

    #[test]
    fn the_tool_stays_in_the_worktree() {
        let folder = worktree();
        let tool = tool(&Tree::all(folder.path()));
        let run = |value: serde_json::Value| tool.run(value.as_object().unwrap());
        assert!(run(json!({"folder": "."})).unwrap().contains("core.rs"));
        assert!(run(json!({"folder": ".."})).is_err());
        assert!(run(json!({"folder": "nowhere"})).is_err());
    }
}
