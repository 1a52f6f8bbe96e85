//! How deep the parts of a script lie within each other. Whoever reads a script goes down by recursion, so what goes too deep is refused
//! before anybody does; the parser itself keeps its own stack.

use tree_sitter::{Node, Parser, Tree};

/// How many parentheses and braces of one script are open at once at most.
const OPENED_DEEP_MAX: usize = 200;
/// How deep the parts of one script lie within each other at most: whoever reads them goes down by recursion.
const NODES_DEEP_MAX: usize = 500;

/// It goes deeper than anybody reads it.
#[derive(Debug)]
pub struct TooDeep;

/// The syntax tree of a script; `None` where it cannot be parsed. The parser takes long over what never closes, so that is asked first.
///
/// # Errors
/// [`TooDeep`].
pub fn parsed(parser: &mut Parser, text: &str) -> Result<Option<Tree>, TooDeep> {
    if opened_deep(text) > OPENED_DEEP_MAX {
        return Err(TooDeep);
    }
    match parser.parse(text, None) {
        Some(tree) if nodes_deep(tree.root_node()) > NODES_DEEP_MAX => Err(TooDeep),
        tree => Ok(tree),
    }
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
