//! From what files import to the files of the worktree that are meant. What lies outside of it is nobody's dependency here.
//! Pure: the texts of all files in, edges out.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{Import, Language, imports, language};

/// Files, or folders of Go, with what each needs.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Endings of scripts, in the order in which they are tried.
const SCRIPTS: [&str; 8] = [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs"];

/// The texts that say how files of a worktree are called by others, by path.
#[derive(Debug, Default)]
pub struct Texts {
    /// Sources.
    pub sources: BTreeMap<String, String>,
    /// `go.mod` and `package.json`.
    pub manifests: BTreeMap<String, String>,
}

/// What each source needs, by language.
pub fn edges(texts: &Texts) -> BTreeMap<Language, Edges> {
    let (modules, packages) = (go_modules(texts), script_packages(texts));
    let mut all: BTreeMap<Language, Edges> = BTreeMap::new();
    for (path, text) in &texts.sources {
        let Some(language) = language(path) else { continue };
        // Tests of Go packages may import what imports these packages.
        if path.ends_with("_test.go") {
            continue;
        }
        let unit = if language == Language::Go { folder(path).to_owned() } else { path.clone() };
        let mut needed = BTreeSet::new();
        for import in imports(path, text) {
            match (&import, language) {
                (Import::Module { level, module, names }, _) => {
                    python(texts, path, (*level, module, names), &mut needed)
                }
                (Import::Path(name), Language::Go) => needed.extend(go(texts, &modules, name)),
                (Import::Path(name), _) => needed.extend(script(texts, &packages, path, name)),
            }
        }
        needed.remove(&unit);
        all.entry(language).or_default().entry(unit).or_default().extend(needed);
    }
    all
}

/// The folder of a path; empty at the top.
fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn joined(folder: &str, rest: &str) -> String {
    if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") }
}

/// A relative path from a folder; `None` where it leaves the worktree.
fn relative(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folders in which an absolute module may begin: those above the file, the nearest first, and `src`.
fn python(texts: &Texts, path: &str, (level, module, names): (usize, &str, &[String]), needed: &mut BTreeSet<String>) {
    let module = module.replace('.', "/");
    let starts: Vec<&str> = match level {
        0 => std::iter::successors(Some(folder(path)), |at| (!at.is_empty()).then(|| folder(at)))
            .chain(["src"])
            .collect(),
        level => std::iter::successors(Some(folder(path)), |at| (!at.is_empty()).then(|| folder(at)))
            .skip(level - 1)
            .take(1)
            .collect(),
    };
    for start in starts {
        let base = if module.is_empty() { start.to_owned() } else { joined(start, &module) };
        let own = python_file(texts, &base);
        let taken: Vec<String> = names.iter().filter_map(|name| python_file(texts, &joined(&base, name))).collect();
        if own.is_some() || !taken.is_empty() {
            // A package that only holds the modules that are taken is not what is needed.
            needed.extend(own.filter(|_| taken.len() < names.len().max(1)));
            needed.extend(taken);
            return;
        }
    }
}

fn python_file(texts: &Texts, base: &str) -> Option<String> {
    [format!("{base}.py"), joined(base, "__init__.py")].into_iter().find(|path| texts.sources.contains_key(path))
}

fn script(texts: &Texts, packages: &BTreeMap<String, String>, path: &str, name: &str) -> Option<String> {
    if name.starts_with('.') {
        return script_file(texts, &relative(folder(path), name)?);
    }
    let (package, at) = packages.iter().rev().find(|(package, _)| {
        name.strip_prefix(package.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })?;
    let rest = name[package.len()..].trim_start_matches('/');
    let bases = [joined(at, rest), joined(&joined(at, "src"), rest)];
    bases.iter().find_map(|base| script_file(texts, base.trim_end_matches('/')))
}

fn script_file(texts: &Texts, base: &str) -> Option<String> {
    // TypeScript writes `./x.js` for what is `./x.ts` here.
    let stem = SCRIPTS.iter().find_map(|ending| base.strip_suffix(ending)).unwrap_or(base);
    let endings = |stem: String| SCRIPTS.iter().map(move |ending| format!("{stem}{ending}"));
    let all = std::iter::once(base.to_owned())
        .chain(endings(base.to_owned()))
        .chain(endings(stem.to_owned()))
        .chain(endings(joined(base, "index")));
    all.into_iter().find(|path| texts.sources.contains_key(path))
}

/// Names of packages of scripts, with their folders.
fn script_packages(texts: &Texts) -> BTreeMap<String, String> {
    let all = texts.manifests.iter().filter(|(path, _)| path.ends_with("package.json"));
    all.filter_map(|(path, text)| {
        let manifest: serde_json::Value = serde_json::from_str(text).ok()?;
        Some((manifest["name"].as_str().filter(|name| !name.is_empty())?.to_owned(), folder(path).to_owned()))
    })
    .collect()
}

/// Paths of Go modules, with their folders.
fn go_modules(texts: &Texts) -> BTreeMap<String, String> {
    let all = texts.manifests.iter().filter(|(path, _)| path.ends_with("go.mod"));
    all.filter_map(|(path, text)| {
        let name = text.lines().find_map(|line| line.trim().strip_prefix("module "))?;
        Some((name.split("//").next()?.trim().trim_matches('"').to_owned(), folder(path).to_owned()))
    })
    .collect()
}

fn go(texts: &Texts, modules: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let (module, at) = modules.iter().rev().find(|(module, _)| {
        name.strip_prefix(module.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })?;
    let package = joined(at, name[module.len()..].trim_start_matches('/'));
    let package = package.trim_end_matches('/');
    texts.sources.keys().any(|path| path.ends_with(".go") && folder(path) == package).then(|| package.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], language: Language, expected: &[(&str, &str)]) {
        let mut texts = Texts::default();
        for (path, text) in files {
            let manifest = path.ends_with("go.mod") || path.ends_with("package.json");
            let place = if manifest { &mut texts.manifests } else { &mut texts.sources };
            place.insert((*path).to_owned(), (*text).to_owned());
        }
        let edges = edges(&texts).remove(&language).unwrap_or_default();
        let found: Vec<(String, String)> =
            edges.into_iter().map(|(path, needed)| (path, needed.into_iter().collect::<Vec<_>>().join(" "))).collect();
        let expected: Vec<_> =
            expected.iter().map(|(path, needed)| ((*path).to_owned(), (*needed).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn python_finds_modules_above_the_file_and_below_src() {
        check(
            &[
                ("src/app/__init__.py", ""),
                ("src/app/core.py", "import os\n"),
                ("src/app/ui.py", "from . import core\nfrom .core import go\n"),
                ("src/app/deep/x.py", "from ..ui import show\nimport app.core\n"),
                ("tests/test_ui.py", "from app import ui, VERSION\nimport app.core as c\n"),
            ],
            Language::Python,
            &[
                ("src/app/__init__.py", ""),
                ("src/app/core.py", ""),
                ("src/app/deep/x.py", "src/app/core.py src/app/ui.py"),
                ("src/app/ui.py", "src/app/core.py"),
                ("tests/test_ui.py", "src/app/__init__.py src/app/core.py src/app/ui.py"),
            ],
        );
    }

    #[test]
    fn scripts_find_files_folders_and_packages_of_the_house() {
        check(
            &[
                ("a/index.ts", "import './x.js'\nimport '../../outside'\nimport 'react'\n"),
                ("a/x.ts", "import { b } from '@house/b'\nimport '@house/b/deep'\n"),
                ("b/package.json", "{\"name\": \"@house/b\"}"),
                ("b/src/index.ts", ""),
                ("b/deep.js", "require('../a')"),
            ],
            Language::Script,
            &[
                ("a/index.ts", "a/x.ts"),
                ("a/x.ts", "b/deep.js b/src/index.ts"),
                ("b/deep.js", "a/index.ts"),
                ("b/src/index.ts", ""),
            ],
        );
    }

    #[test]
    fn go_finds_packages_of_its_modules() {
        check(
            &[
                ("go.mod", "module x.org/house // ours\n"),
                ("main.go", "package main\nimport (\"fmt\"; \"x.org/house/core\"; \"x.org/household\")\n"),
                ("core/a.go", "package core\nimport \"x.org/house/core/base\"\n"),
                ("core/a_test.go", "package core_test\nimport \"x.org/house\"\n"),
                ("core/base/b.go", "package base\n"),
            ],
            Language::Go,
            &[("", "core"), ("core", "core/base"), ("core/base", "")],
        );
    }
}
