//! What a source file imports, by the grammar of its language. Pure: a text in, names out, as the file writes them.

use tree_sitter::{Node, Parser};

/// Nodes of one file that are looked at.
const NODES_MAX: usize = 2_000_000;

/// A language whose imports are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Modules are files, or folders with `__init__.py`.
    Python,
    /// JavaScript and TypeScript: modules are files.
    Script,
    /// Packages are folders.
    Go,
}

/// What a file imports, as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Import {
    /// Python: dots in front (0 is absolute), the module, and the names taken from it, which may be modules themselves.
    Module {
        /// Dots in front.
        level: usize,
        /// `a.b`, or nothing.
        module: String,
        /// What is taken from it.
        names: Vec<String>,
    },
    /// A path, or the name of a package.
    Path(String),
}

/// The language of a path.
pub fn language(path: &str) -> Option<Language> {
    match path.rsplit_once('.')?.1 {
        "py" => Some(Language::Python),
        "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "cts" => Some(Language::Script),
        "go" => Some(Language::Go),
        _ => None,
    }
}

/// What the file at `path` with this text imports, in its order.
pub fn imports(path: &str, text: &str) -> Vec<Import> {
    let Some(language) = language(path) else { return vec![] };
    let grammar: tree_sitter::Language = match language {
        Language::Python => tree_sitter_python::LANGUAGE.into(),
        Language::Go => tree_sitter_go::LANGUAGE.into(),
        Language::Script if path.ends_with("ts") => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        Language::Script if path.ends_with("tsx") => tree_sitter_typescript::LANGUAGE_TSX.into(),
        Language::Script => tree_sitter_javascript::LANGUAGE.into(),
    };
    let mut parser = Parser::new();
    if parser.set_language(&grammar).is_err() {
        return vec![];
    }
    let Some(tree) = parser.parse(text, None) else { return vec![] };
    let (mut found, mut open) = (Vec::new(), vec![tree.root_node()]);
    for _ in 0..NODES_MAX {
        let Some(node) = open.pop() else { break };
        found.extend(import(node, text).map(|import| (node.start_byte(), import)));
        let mut cursor = node.walk();
        // What a parser makes of a hostile text may be deep: nothing here recurses.
        open.extend(node.named_children(&mut cursor).filter(|child| child.named_child_count() > 0));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().flat_map(|(_, imports)| imports).collect()
}

fn import(node: Node<'_>, text: &str) -> Option<Vec<Import>> {
    let path = |node: Node<'_>| Import::Path(unquoted(&text[node.byte_range()]).to_owned());
    match node.kind() {
        "import_from_statement" => Some(vec![from(node, text)?]),
        // `import x = require('y')` holds its clause.
        "import_statement" if node.child_by_field_name("source").is_none() => Some(plain(node, text)),
        "import_statement" | "import_require_clause" | "export_statement" => {
            Some(vec![path(node.child_by_field_name("source")?)])
        }
        "import_spec" => Some(vec![path(node.child_by_field_name("path")?)]),
        "call_expression" => {
            let function = node.child_by_field_name("function")?;
            let is_import = matches!(&text[function.byte_range()], "require" | "import");
            let first = node.child_by_field_name("arguments")?.named_child(0)?;
            (is_import && first.kind() == "string").then(|| vec![path(first)])
        }
        _ => None,
    }
}

/// `import a.b, c as d`
fn plain(node: Node<'_>, text: &str) -> Vec<Import> {
    let mut cursor = node.walk();
    let modules = node.children_by_field_name("name", &mut cursor).map(|child| name(child, text));
    modules.map(|module| Import::Module { level: 0, module, names: vec![] }).collect()
}

/// `from ..a import b, c as d`
fn from(node: Node<'_>, text: &str) -> Option<Import> {
    let module = &text[node.child_by_field_name("module_name")?.byte_range()];
    let level = module.chars().take_while(|c| *c == '.' || c.is_whitespace()).filter(|c| *c == '.').count();
    let mut cursor = node.walk();
    let names = node.children_by_field_name("name", &mut cursor).map(|child| name(child, text)).collect();
    let module = module.trim_start_matches(|c: char| c == '.' || c.is_whitespace()).to_owned();
    Some(Import::Module { level, module, names })
}

/// The name in front of `as`.
fn name(node: Node<'_>, text: &str) -> String {
    let node = node.child_by_field_name("name").unwrap_or(node);
    text[node.byte_range()].chars().filter(|c| !c.is_whitespace()).collect()
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(|c| matches!(c, '"' | '\'' | '`'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let shown = |import: Import| match import {
            Import::Path(path) => path,
            Import::Module { level, module, names } => format!("{}{module}:{}", ".".repeat(level), names.join(",")),
        };
        assert_eq!(imports(path, text).into_iter().map(shown).collect::<Vec<_>>(), expected, "{path}: {text}");
    }

    #[test]
    fn python_imports_modules_and_names_of_them() {
        check("a.py", "import os, a.b as c\n", &["os:", "a.b:"]);
        check("a.py", "from . import x\nfrom ..up.on import (y as z,\n  w)\n", &[".:x", "..up.on:y,w"]);
        check("a.py", "def f():\n    import late\n# import no\n'import no'\n", &["late:"]);
    }

    #[test]
    fn scripts_import_export_and_require() {
        check("a.ts", "import { x } from './b'\nimport './c'\nexport * from \"./d\"\n", &["./b", "./c", "./d"]);
        check("a.js", "const a = require('./e'); import('./f'); other('./g'); export const h = 1", &["./e", "./f"]);
        check("a.tsx", "import X from '@house/x'\nexport default () => <X a='./no'/>", &["@house/x"]);
    }

    #[test]
    fn go_imports_packages() {
        check(
            "a.go",
            "package a\nimport \"fmt\"\nimport (\n\tb \"x.org/b\"\n\t_ `x.org/c`\n)\n",
            &["fmt", "x.org/b", "x.org/c"],
        );
    }

    #[test]
    fn what_is_no_source_imports_nothing() {
        check("a.txt", "import x", &[]);
        check("a.py", &"(".repeat(100_000), &[]);
    }
}
