//! What a source file defines and what it names, by the grammar of its language and the query that comes with it.

use std::sync::OnceLock;

use tree_sitter::{Parser, Query, QueryCursor, StreamingIterator as _};

/// Captures of one file that are looked at.
const CAPTURES_MAX: usize = 50_000;
/// The longest line that is shown, in characters.
const LINE_CHARS_MAX: usize = 160;

/// What a file defines and names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbols {
    /// In the order of the file.
    pub definitions: Vec<Definition>,
    /// Names that it uses, each as often as it does.
    pub references: Vec<String>,
}

/// One definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// From 1.
    pub line: usize,
    /// The line as it stands, without what is around it.
    pub text: String,
}

struct Language {
    endings: &'static [&'static str],
    grammar: fn() -> tree_sitter::Language,
    /// Marks definitions and references; several are joined.
    queries: &'static [&'static str],
    compiled: OnceLock<Option<Query>>,
}

static LANGUAGES: [Language; 7] = [
    Language::new(&["rs"], || tree_sitter_rust::LANGUAGE.into(), &[tree_sitter_rust::TAGS_QUERY]),
    Language::new(&["py", "pyi"], || tree_sitter_python::LANGUAGE.into(), &[tree_sitter_python::TAGS_QUERY]),
    Language::new(
        &["js", "mjs", "cjs", "jsx"],
        || tree_sitter_javascript::LANGUAGE.into(),
        &[tree_sitter_javascript::TAGS_QUERY],
    ),
    Language::new(
        &["ts", "mts", "cts"],
        || tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        &[tree_sitter_typescript::TAGS_QUERY, TYPESCRIPT],
    ),
    Language::new(
        &["tsx"],
        || tree_sitter_typescript::LANGUAGE_TSX.into(),
        &[tree_sitter_typescript::TAGS_QUERY, TYPESCRIPT],
    ),
    Language::new(&["go"], || tree_sitter_go::LANGUAGE.into(), &[tree_sitter_go::TAGS_QUERY]),
    Language::new(&["c", "h"], || tree_sitter_c::LANGUAGE.into(), &[tree_sitter_c::TAGS_QUERY]),
];

/// The grammar's own query leaves out what it shares with JavaScript.
const TYPESCRIPT: &str = "
(function_declaration name: (identifier) @name) @definition.function
(class_declaration name: (type_identifier) @name) @definition.class
(method_definition name: (property_identifier) @name) @definition.method
(type_alias_declaration name: (type_identifier) @name) @definition.type
(enum_declaration name: (identifier) @name) @definition.enum
(call_expression function: (identifier) @name) @reference.call
(call_expression function: (member_expression property: (property_identifier) @name)) @reference.call
";

impl Language {
    const fn new(
        endings: &'static [&'static str],
        grammar: fn() -> tree_sitter::Language,
        queries: &'static [&'static str],
    ) -> Language {
        Language { endings, grammar, queries, compiled: OnceLock::new() }
    }

    fn query(&self) -> Option<&Query> {
        self.compiled.get_or_init(|| Query::new(&(self.grammar)(), &self.queries.join("\n")).ok()).as_ref()
    }
}

/// Whether a file's language is known.
pub fn is_known(path: &str) -> bool {
    language(path).is_some()
}

fn language(path: &str) -> Option<&'static Language> {
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    LANGUAGES.iter().find(|language| language.endings.contains(&ending))
}

/// The symbols of a file; what cannot be parsed is passed over.
pub fn symbols(path: &str, text: &str) -> Symbols {
    let mut symbols = Symbols::default();
    let Some((language, query)) = language(path).and_then(|language| Some((language, language.query()?))) else {
        return symbols;
    };
    let mut parser = Parser::new();
    if parser.set_language(&(language.grammar)()).is_err() {
        return symbols;
    }
    let Some(tree) = parser.parse(text, None) else { return symbols };
    let names = query.capture_names();
    let mut cursor = QueryCursor::new();
    let mut matches = cursor.matches(query, tree.root_node(), text.as_bytes());
    let mut looked_at = 0;
    while let Some(found) = matches.next() {
        looked_at += 1;
        if looked_at > CAPTURES_MAX {
            break;
        }
        let named = found.captures().iter().find(|capture| names[capture.index as usize] == "name");
        let Some(node) = named.map(|capture| capture.node) else { continue };
        let Ok(name) = node.utf8_text(text.as_bytes()) else { continue };
        let kinds = found.captures().iter().map(|capture| names[capture.index as usize]);
        let is = |front: &str| kinds.clone().any(|kind| kind.starts_with(front));
        if is("definition.") {
            let line = node.start_position().row;
            let definition = Definition { name: name.to_owned(), line: line + 1, text: shown(text, line) };
            // A method is a function as well: some queries mark both.
            if !symbols.definitions.contains(&definition) {
                symbols.definitions.push(definition);
            }
        } else if is("reference.") {
            symbols.references.push(name.to_owned());
        }
    }
    symbols.definitions.sort_by(|a, b| (a.line, &a.name).cmp(&(b.line, &b.name)));
    symbols
}

fn shown(text: &str, line: usize) -> String {
    let line = text.lines().nth(line).unwrap_or_default();
    let line = line.trim().trim_end_matches(['{', ':']).trim_end();
    line.chars().take(LINE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_fits_its_grammar() {
        for language in &LANGUAGES {
            let query = Query::new(&(language.grammar)(), &language.queries.join("\n"));
            assert!(query.is_ok(), "{:?}: {:?}", language.endings, query.err());
        }
    }

    fn defined(path: &str, text: &str) -> Vec<String> {
        symbols(path, text).definitions.into_iter().map(|found| format!("{}:{}", found.line, found.name)).collect()
    }

    #[test]
    fn definitions_of_each_language_are_found() {
        let rust = "struct A;\nimpl A {\n    pub fn b(&self) {}\n}\nfn c() { d(); }\ntrait T {}\n";
        assert_eq!(defined("a.rs", rust), ["1:A", "3:b", "5:c", "6:T"]);
        assert_eq!(symbols("a.rs", rust).references, ["A", "d"]);
        assert_eq!(defined("a.py", "class A:\n    def b(self): pass\ndef c(): A()\n"), ["1:A", "2:b", "3:c"]);
        assert_eq!(
            defined("a.js", "class A { b() {} }\nfunction c() {}\nconst d = () => 1;\n"),
            ["1:A", "1:b", "2:c", "3:d"]
        );
        let ts = "interface I {}\nclass A { b(): void {} }\nfunction c() {}\ntype T = I;\nenum E {}\n";
        assert_eq!(defined("a.ts", ts), ["1:I", "2:A", "2:b", "3:c", "4:T", "5:E"]);
        assert_eq!(defined("a.tsx", ts).len(), 6);
        assert_eq!(
            defined("a.go", "package p\ntype A struct{}\nfunc (a A) B() {}\nfunc C() {}\n"),
            ["2:A", "3:B", "4:C"]
        );
        assert_eq!(defined("a.c", "struct a { int x; };\nint b(void) { return 0; }\n"), ["1:a", "2:b"]);
    }

    #[test]
    fn what_is_broken_or_unknown_gives_what_it_can() {
        assert_eq!(defined("a.rs", "fn a( {{{ \nfn b() {}\n").last().map(String::as_str), Some("2:b"));
        assert!(defined("a.xyz", "fn a() {}").is_empty() && !is_known("Makefile"));
    }
}
