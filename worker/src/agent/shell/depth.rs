//! How deep the parts of a script lie within each other. Whoever reads a script goes down by recursion, so what goes too deep is refused
//! before anybody does; the parser itself keeps its own stack.

use tree_sitter::{Node, Parser};

/// How many parentheses and braces of one script are open at once at most.
const OPENED_DEEP_MAX: usize = 200;
/// How deep the parts of one script lie within each other at most: whoever reads them goes down by recursion.
const NODES_DEEP_MAX: usize = 500;

/// Whether a script goes deeper than anybody reads it. The parser takes long over what never closes, so that is asked first.
pub fn is_too_deep(parser: &mut Parser, text: &str) -> bool {
    opened_deep(text) > OPENED_DEEP_MAX || parser.parse(text, None).is_some_and(|tree| goes_too_deep(tree.root_node()))
}

/// The same of its syntax tree.
pub fn goes_too_deep(root: Node<'_>) -> bool {
    nodes_deep(root) > NODES_DEEP_MAX
}

/// How many parentheses and braces of a text are open at once at most, whatever they mean.
fn opened_deep(text: &str) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// How deep the parts of a syntax tree lie within each other, found without going down by recursion.
fn nodes_deep(root: Node<'_>) -> usize {
    let mut cursor = root.walk();
    let (mut depth, mut deepest) = (0usize, 0);
    loop {
        if cursor.goto_first_child() {
            depth += 1;
            deepest = deepest.max(depth);
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return deepest;
            }
            depth -= 1;
        }
    }
}
