//! Expansions that evaluate what a variable holds: `${x@P}`, and arithmetic, which runs the substitution in a subscript
//! (`a[$(…)]`) that any text of the script may give to a variable.

use tree_sitter::Node;

use super::{PLAIN, Unread};
use crate::agent::shell::has_token;
use crate::agent::shell::redirects::words_behind;
use crate::agent::shell::word;

/// What a text, or one around it, holds that something would evaluate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    /// What arithmetic would run.
    sums: bool,
    /// What a declaration would run.
    lists: bool,
}

impl Marks {
    /// What a script evaluates, once these know it.
    pub fn find(&mut self, root: Node<'_>, text: &str) -> Vec<Unread> {
        self.sums |= is_marked(text) || has_pieces(root, text);
        self.lists |= has_lists(root, text);
        let list = if self.lists { list(root, text) } else { None };
        find(root, text, self.sums).into_iter().chain(list).collect()
    }
}

/// Whether a text holds a subscript that arithmetic would run.
fn is_marked(text: &str) -> bool {
    ["[$(", "[`", "[\\$("].iter().any(|mark| text.contains(mark))
}

/// Whether a script has the pieces of such a subscript in texts of its own: one with a `[`, one with a substitution that the
/// shell leaves as it is.
fn has_pieces(root: Node<'_>, text: &str) -> bool {
    let (mut opens, mut runs, mut left) = (false, false, vec![root]);
    while let Some(node) = left.pop() {
        let raw = &text[node.byte_range()];
        let is_text = matches!(node.kind(), "raw_string" | "ansi_c_string" | "string" | "word" | "string_content");
        opens |= is_text && raw.len() > 1 && raw.contains('[') && raw != "[[";
        runs |= match node.kind() {
            "raw_string" | "ansi_c_string" => has_substitution(raw),
            "string" | "word" => raw.contains("\\$(") || raw.contains("\\`"),
            _ => false,
        };
        let mut cursor = node.walk();
        left.extend(node.named_children(&mut cursor));
    }
    opens && runs
}

/// Whether a text has a substitution; awk's last field is none.
fn has_substitution(raw: &str) -> bool {
    raw.contains('`') || raw.split("$(").skip(1).any(|rest| !rest.starts_with("NF)") && !rest.starts_with("NF-"))
}

/// Whether a script has the pieces of a list in texts of its own, which a declaration would read as the shell reads one: one with a
/// `(`, one with a substitution that the shell leaves as it is. `declare -a "a=$x"` runs what stands in `x='($(…))'`.
///
/// Source: bash(1), `declare`: a compound assignment may stand in quotes.
fn has_lists(root: Node<'_>, text: &str) -> bool {
    let (mut opens, mut runs, mut left) = (false, false, vec![root]);
    while let Some(node) = left.pop() {
        let raw = &text[node.byte_range()];
        if matches!(node.kind(), "raw_string" | "ansi_c_string" | "string" | "word") {
            let literal = word::read(node, text).word.literal().map(str::to_owned);
            let content = literal.as_deref().unwrap_or(raw);
            opens |= content.replace("$(", "").contains('(');
            runs |= raw.contains("\\$(") || raw.contains("\\`") || (literal.is_some() && has_substitution(content));
        }
        let mut cursor = node.walk();
        left.extend(node.named_children(&mut cursor));
    }
    opens && runs
}

/// A declaration that reads a text as a list, where a script has the pieces of one.
fn list(node: Node<'_>, text: &str) -> Option<Unread> {
    const DECLARE: &[&str] = &["declare", "typeset", "local", "export", "readonly"];
    let raw = &text[node.byte_range()];
    let declares = matches!(node.kind(), "declaration_command" | "command")
        && raw.split_whitespace().take(3).any(|word| DECLARE.contains(&word));
    if declares && raw.contains(['\'', '"', '$', '\\']) {
        let shown: String = raw.chars().take(60).collect();
        return Some(Unread::new(format!("`{shown}` may read a text as a list and run what stands in it"), PLAIN));
    }
    let mut cursor = node.walk();
    let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
    children.into_iter().find_map(|child| list(child, text))
}

/// Variables that hold numbers: what they are given is a sum.
const NUMBERS: &[&str] = &["RANDOM", "SECONDS", "LINENO", "HISTCMD", "OPTIND", "SRANDOM", "EPOCHSECONDS"];

/// What evaluates a text below a node, where there is one to be evaluated.
fn find(node: Node<'_>, text: &str, marked: bool) -> Option<Unread> {
    let raw = &text[node.byte_range()];
    let prompts = node.kind() == "expansion" && raw.ends_with("@P}");
    if prompts || (marked && evaluates(node, raw, text)) {
        let shown: String = raw.chars().take(60).collect();
        return Some(Unread::new(format!("`{shown}` evaluates a text when it runs"), PLAIN));
    }
    let mut cursor = node.walk();
    let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
    children.into_iter().find_map(|child| find(child, text, marked))
}

fn evaluates(node: Node<'_>, raw: &str, text: &str) -> bool {
    let has = |marks: &[&str]| raw.split_whitespace().any(|word| marks.contains(&word));
    match node.kind() {
        "arithmetic_expansion" | "c_style_for_statement" => raw.contains(|c: char| c.is_ascii_alphabetic()),
        "compound_statement" => raw.starts_with("((") || has_token(node, "(("),
        "subscript" => true,
        // `a=([x]=1)`: what stands in the brackets is a sum.
        "array" => {
            let mut cursor = node.walk();
            node.named_children(&mut cursor).any(|item| text[item.byte_range()].starts_with('['))
        }
        "variable_assignment" => NUMBERS.iter().any(|name| raw.starts_with(name)),
        "expansion" => {
            let bare = [":-", ":+", ":=", ":?"].iter().fold(raw.to_owned(), |raw, mark| raw.replace(mark, ""));
            bare.contains(['[', '!', ':'])
        }
        "test_command" => {
            has(&["-v", "-R"]) || (raw.starts_with("[[") && has(&["-eq", "-ne", "-lt", "-le", "-gt", "-ge"]))
        }
        "declaration_command" => {
            let mut cursor = node.walk();
            let is_other = |child: Node<'_>| !matches!(child.kind(), "variable_assignment" | "variable_name");
            node.named_children(&mut cursor).any(is_other)
        }
        "command" => {
            let name = node.child_by_field_name("name").and_then(|name| name.named_child(0));
            let name =
                name.and_then(|name| word::read(name, text).word.literal().map(str::to_owned)).unwrap_or_default();
            match name.as_str() {
                "test" | "[" | "printf" => has(&["-v", "-R"]) || !words_behind(node).is_empty(),
                "command" | "builtin" => has(&["test", "[", "let", "read", "unset", "printf", "declare", "typeset"]),
                name => matches!(
                    name,
                    "declare"
                        | "typeset"
                        | "local"
                        | "export"
                        | "readonly"
                        | "let"
                        | "read"
                        | "mapfile"
                        | "readarray"
                        | "unset"
                        | "wait"
                        | "getopts"
                ),
            }
        }
        _ => false,
    }
}
