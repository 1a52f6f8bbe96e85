//! Variables that a script sets, held against those whose value some program runs. What they hold is read in
//! [`super::values`].

use tree_sitter::Node;

use super::unread::{self, Unread};
use super::{Command, Place, Reader, Word, has_token, word};

impl Reader {
    /// `export`, `declare` and their like.
    pub(super) fn declaration(&mut self, node: Node<'_>, text: &str, place: Place) {
        self.unproven("a declaration");
        self.set_besides(node, text);
        let mut cursor = node.walk();
        let set = node.named_children(&mut cursor).filter_map(|child| child.child_by_field_name("name"));
        let assigns = set.map(|name| text[name.byte_range()].to_owned()).collect();
        let (piped, captured, resolved) = (place.piped, place.captured, self.resolved);
        self.script.commands.push(Command { assigns, piped, captured, resolved, ..Command::default() });
        self.declared(node, text);
        self.children(node, text, place);
    }

    /// A variable that is set: some of them hold commands for whoever reads them.
    pub(super) fn assigned(&mut self, node: Node<'_>, text: &str) {
        let field = |name| node.child_by_field_name(name);
        let Some(name) = field("name").map(|name| &text[name.byte_range()]) else { return };
        let values = match field("value") {
            Some(value) => self.read_word(value, text),
            None => Word::Literal(String::new()),
        };
        if matches!(name, "BASH_ENV" | "ENV") {
            self.script.loads.extend(values.literal().map(str::to_owned));
        }
        let each = match values {
            Word::Assigned(_, values) => values.into_iter().map(Word::Literal).collect(),
            word => vec![word],
        };
        each.iter().for_each(|value| self.hear(unread::assigned(name, value)));
    }

    /// What `export` and its like are given as words: `export "GIT_PAGER=…"`.
    fn declared(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let is_read = |child: &Node<'_>| match child.kind() {
            "word" => word::has_braces(*child, text),
            kind => !matches!(kind, "variable_assignment" | "variable_name" | "comment"),
        };
        let mut words = vec![];
        for child in children.into_iter().filter(is_read) {
            match word::has_braces(child, text) {
                true => words.extend(self.words(child, text)),
                false => words.push(word::read(child, text).word),
            }
        }
        for word in words {
            let set = word.literal().and_then(|word| word.split_once('='));
            self.script
                .loads
                .extend(set.filter(|(name, _)| matches!(*name, "BASH_ENV" | "ENV")).map(|(_, file)| file.to_owned()));
            self.hear(unread::declared(&word));
        }
    }

    /// What sets a variable and is no assignment: the list of a `for`, `${x:=…}`.
    pub(super) fn set_besides(&mut self, node: Node<'_>, text: &str) {
        let (name, values) = match node.kind() {
            "for_statement" => {
                let mut cursor = node.walk();
                let values: Vec<Node<'_>> = node.children_by_field_name("value", &mut cursor).collect();
                (node.child_by_field_name("variable"), values)
            }
            "declaration_command" => return self.named_otherwise(node, text),
            "expansion" if has_token(node, ":=") || has_token(node, "=") => (node.named_child(0), vec![]),
            _ => return,
        };
        let Some(name) = name.map(|name| &text[name.byte_range()]).filter(|name| unread::is_special(name)) else {
            return;
        };
        if values.is_empty() {
            let what = format!("it sets `{name}`, which makes programs run something else");
            self.unread(Unread::new(what, "leave it out"));
        }
        for value in values {
            let value = word::read(value, text).word;
            self.hear(unread::assigned(name, &value));
        }
    }
    /// `declare -n x=GIT_PAGER`: what is set later is set there.
    fn named_otherwise(&mut self, node: Node<'_>, text: &str) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let raw = |node: &Node<'_>| text[node.byte_range()].to_owned();
        let is_option = |child: &Node<'_>| raw(child).strip_prefix('-').is_some_and(|letters| letters.contains('n'));
        if !children.iter().any(is_option) {
            return;
        }
        let values = children.iter().filter_map(|child| child.child_by_field_name("value"));
        let values: Vec<Word> = values.map(|value| word::read(value, text).word).collect();
        if let Some(name) = values.iter().filter_map(Word::literal).find(|name| unread::is_special(name)) {
            let what = format!("it gives `{name}`, which makes programs run something else, another name");
            self.unread(Unread::new(what, "leave it out"));
        }
    }
}
