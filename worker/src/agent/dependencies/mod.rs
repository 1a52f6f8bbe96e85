//! Which parts of the worktree need which, those first that need nothing: the order in which a change that touches all of
//! them is done. From code, not from words: `cargo metadata` for Rust, import statements for Python, JavaScript, TypeScript
//! and Go. The same worktree gives the same answer.

/// What a source file imports.
mod imports;
/// Packages of Rust.
mod packages;
/// From imports to files.
mod resolve;

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use serde::Deserialize;
use serde_json::json;

use super::outline::{folder_of, reads_of};
use super::permission::Act;
use super::setting::Setting;
use super::tools::search::{self, Tree};
use super::tools::tool::spec;
use super::tools::{Effect, Refused, TEXT_BYTES_MAX, Tool, ToolResult, bounded};
use imports::Language;
use resolve::{Edges, Texts};

/// Files that are shown one by one; more are shown by their folders.
const FILES_SHOWN_MAX: usize = 150;
/// Files that are parsed.
const FILES_MAX: usize = 8000;
/// The longest file that is parsed, in bytes.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Bytes that are parsed in all.
const ALL_BYTES_MAX: u64 = 32 << 20;
/// Workspaces of Rust that are asked about.
const WORKSPACES_MAX: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    folder: Option<String>,
    by: Option<By>,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    File,
    Folder,
}

/// The tool.
pub fn tool(setting: &Setting, tree: &Tree) -> Tool {
    let spec = spec(
        "dependencies",
        "Orders the packages of Rust and Go and the modules of Python, JavaScript and TypeScript by what they need of each \
         other, those first that need nothing. What is on one level can be worked on at the same time.",
        json!({
            "folder": {"type": "string", "description": "only below this folder"},
            "by": {"type": "string", "enum": ["file", "folder"], "description": "what is ordered, where files are modules"},
        }),
        &[],
    );
    let (here, there, setting) = (tree.root().to_owned(), tree.clone(), setting.clone());
    let acts = move |input: &Asked, each: &mut dyn FnMut(Act<'_>)| reads_of(&here, input.folder.as_deref(), each);
    Tool::new(spec, Effect::Reads, acts, move |input: Asked| -> ToolResult {
        let folder = input.folder.as_ref().map(|folder| folder_of(there.root(), folder)).transpose()?;
        Ok(bounded(&answer(&setting, &there, folder.as_deref().unwrap_or(""), input.by)?, TEXT_BYTES_MAX))
    })
}

/// What a worktree holds that says something of dependencies.
#[derive(Default)]
struct Found {
    texts: Texts,
    /// `Cargo.toml`, those at the top first.
    manifests: Vec<String>,
    left_out: usize,
}

fn answer(setting: &Setting, tree: &Tree, folder: &str, by: Option<By>) -> ToolResult {
    let found = find(tree, folder);
    let mut sections = rust(setting, &found.manifests);
    for (language, edges) in resolve::edges(&found.texts) {
        let by = by.unwrap_or(if edges.len() > FILES_SHOWN_MAX { By::Folder } else { By::File });
        let (what, edges) = match (language, by) {
            (Language::Go, _) => ("Go packages", edges),
            (Language::Python, By::File) => ("Python modules", edges),
            (Language::Script, By::File) => ("JavaScript and TypeScript modules", edges),
            (Language::Python, By::Folder) => ("folders of Python", by_folder(&edges)),
            (Language::Script, By::Folder) => ("folders of JavaScript and TypeScript", by_folder(&edges)),
        };
        sections.push(format!("{what}, what needs nothing first:\n{}", levels(&edges)));
    }
    if found.left_out > 0 {
        sections.push(format!("[{} files were too many or too long to look at; name a folder]\n", found.left_out));
    }
    match sections.is_empty() {
        true => Err(Refused::new("nothing here says what it needs in a way that is known; use `repo_map` and `grep`")),
        false => Ok(sections.join("\n")),
    }
}

fn find(tree: &Tree, folder: &str) -> Found {
    let (mut found, mut bytes) = (Found::default(), 0);
    search::each_file(tree, folder, &mut |path, entry| {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == "Cargo.toml" {
            found.manifests.push(path.to_owned());
        }
        let manifest = matches!(name, "go.mod" | "package.json");
        if !manifest && imports::language(path).is_none() {
            return;
        }
        let length = entry.metadata().map_or(u64::MAX, |facts| facts.len());
        if length > FILE_BYTES_MAX || bytes + length > ALL_BYTES_MAX || found.texts.sources.len() >= FILES_MAX {
            found.left_out += 1;
            return;
        }
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            bytes += length;
            let texts = if manifest { &mut found.texts.manifests } else { &mut found.texts.sources };
            texts.insert(path.to_owned(), text);
        }
    });
    found.manifests.sort_by_key(|path| (path.matches('/').count(), path.clone()));
    found
}

/// A section for each workspace; one that cargo cannot read says why.
fn rust(setting: &Setting, manifests: &[String]) -> Vec<String> {
    let (mut sections, mut known) = (Vec::new(), BTreeSet::new());
    for manifest in manifests {
        let folder = manifest.trim_end_matches("Cargo.toml").trim_end_matches('/');
        if sections.len() >= WORKSPACES_MAX || known.contains(if folder.is_empty() { "." } else { folder }) {
            continue;
        }
        sections.push(match packages::packages(setting, manifest) {
            Ok(edges) => {
                let folders = edges.keys().filter_map(|name| name.rsplit_once(" (")?.1.strip_suffix(')'));
                known.extend(folders.map(str::to_owned));
                format!("Rust packages of {manifest}, what needs nothing first:\n{}", levels(&edges))
            }
            Err(why) => format!("Rust packages of {manifest} are not known: {why}\n"),
        });
    }
    sections
}

/// The same between folders.
fn by_folder(edges: &Edges) -> Edges {
    let folder = |path: &String| match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => "./".to_owned(),
    };
    let mut folders = Edges::new();
    for (path, needed) in edges {
        let own = folder(path);
        let needed: BTreeSet<String> = needed.iter().map(folder).filter(|other| *other != own).collect();
        folders.entry(own).or_default().extend(needed);
    }
    folders
}

/// Edges as levels: what is on one needs only what is on those before. What needs each other stands together.
fn levels(edges: &Edges) -> String {
    let mut graph: DiGraph<&str, ()> = DiGraph::new();
    let nodes: BTreeMap<&str, NodeIndex> =
        edges.keys().map(|name| (name.as_str(), graph.add_node(name.as_str()))).collect();
    for (name, needed) in edges {
        for other in needed.iter().filter_map(|other| nodes.get(other.as_str())) {
            graph.add_edge(nodes[name.as_str()], *other, ());
        }
    }
    let mut level: BTreeMap<NodeIndex, usize> = BTreeMap::new();
    let mut lines: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    // Strong components come with what they need in front of them. Source: petgraph's `kosaraju_scc`, postorder.
    for component in kosaraju_scc(&graph) {
        let needed =
            component.iter().flat_map(|node| graph.neighbors(*node)).filter(|other| !component.contains(other));
        let needed: BTreeSet<NodeIndex> = needed.collect();
        let own = 1 + needed.iter().map(|other| level[other]).max().unwrap_or(0);
        level.extend(component.iter().map(|node| (*node, own)));
        lines.entry(own).or_default().push(line(&graph, &component, &needed));
    }
    let mut text = String::new();
    for (level, mut lines) in lines {
        lines.sort();
        text.push_str(&format!("level {level}\n{}", lines.concat()));
    }
    text
}

fn line(graph: &DiGraph<&str, ()>, component: &[NodeIndex], needed: &BTreeSet<NodeIndex>) -> String {
    let names = |nodes: &mut dyn Iterator<Item = NodeIndex>| {
        let mut names: Vec<&str> = nodes.map(|node| if graph[node].is_empty() { "." } else { graph[node] }).collect();
        names.sort_unstable();
        names.join(", ")
    };
    let own = names(&mut component.iter().copied());
    let together = if component.len() > 1 { " (they need each other: one task)" } else { "" };
    match needed.is_empty() {
        true => format!("  {own}{together}\n"),
        false => format!("  {own}{together}  needs {}\n", names(&mut needed.iter().copied())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worktree(files: &[(&str, &str)]) -> (tempfile::TempDir, Setting) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for (path, text) in files {
            let path = root.join("tree").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let env = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"].into_iter();
        let env = env.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
        (folder, Setting { root: root.join("tree"), scratch: root, env })
    }

    fn ask(setting: &Setting, input: serde_json::Value) -> ToolResult {
        tool(setting, &Tree::all(&setting.root)).run(input.as_object().unwrap())
    }

    #[test]
    fn modules_stand_on_levels_and_those_that_need_each_other_together() {
        let (_folder, setting) = worktree(&[
            ("a/low.py", ""),
            ("a/mid.py", "from . import low\nfrom . import twin\n"),
            ("b/top.py", "import a.mid\nimport a.low\n"),
            ("a/twin.py", "from a import mid\n"),
            ("skipped/gen.py", "import a.low\n"),
            (".gitignore", "skipped\n"),
        ]);
        let expected = "Python modules, what needs nothing first:\nlevel 1\n  a/low.py\nlevel 2\n  a/mid.py, a/twin.py (they \
                        need each other: one task)  needs a/low.py\nlevel 3\n  b/top.py  needs a/low.py, a/mid.py\n";
        assert_eq!(ask(&setting, json!({})).unwrap(), expected);
        let folders = "folders of Python, what needs nothing first:\nlevel 1\n  a/\nlevel 2\n  b/  needs a/\n";
        assert_eq!(ask(&setting, json!({"by": "folder"})).unwrap(), folders);
        assert!(ask(&setting, json!({"folder": "../x"})).is_err());
        assert!(ask(&setting, json!({"folder": "nowhere"})).is_err());
    }

    #[test]
    fn cargo_orders_the_packages_of_a_workspace() {
        let package =
            |name: &str, more: &str| format!("[package]\nname = '{name}'\nversion = '0.1.0'\nedition = '2021'\n{more}");
        let (_folder, setting) = worktree(&[
            ("Cargo.toml", "[workspace]\nmembers = ['low', 'top']\nresolver = '2'\n"),
            ("low/Cargo.toml", &package("low", "")),
            ("low/src/lib.rs", ""),
            ("top/Cargo.toml", &package("top", "[dependencies]\nlow = { path = '../low' }\n")),
            ("top/src/lib.rs", ""),
            ("odd/Cargo.toml", "[package"),
        ]);
        let said = ask(&setting, json!({})).unwrap();
        let expected = "Rust packages of Cargo.toml, what needs nothing first:\nlevel 1\n  low (low)\nlevel 2\n  top (top)  needs \
                        low (low)\n";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.contains("Rust packages of odd/Cargo.toml are not known: cargo metadata failed"), "{said}");
        assert!(!setting.root.join("Cargo.lock").exists(), "looking changes nothing");
    }
}
