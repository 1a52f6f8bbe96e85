//! A template's code as the tree that minijinja makes of it: which names of the plan it uses, and which of its operators look at values
//! that may be long. Both need the tree and not the text: what a name is depends on where `for` and `set` stand, and what an operator
//! looks at on which signs bind closer.
//!
//! minijinja counts steps, and a step may look at all of a value: `==`, `in`, `~`, a part of a text. Around what such an operator looks at,
//! a filter is written into the code that counts it ([`crate::filters`]). Where it looks no further than something short is, there is
//! nothing to count: `x == 'linux'`, `n + 1`, `os in ['a', 'b']`.
//!
//! The trees are minijinja's own (`unstable_machinery`), and may be others in another release: the workspace pins it.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use minijinja::Value;
use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Compare, Expr, ForLoop, IfCond, Stmt, WithBlock};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;

use crate::filters::{LOOKS_AT, LOOKS_INTO};

/// Bytes of a literal that is too short to be counted.
const SHORT_BYTES: usize = 64;

/// What is put before a value and behind it.
type Around = (&'static str, &'static str);

/// A filter that counts all of a value.
const THROUGH: Around = ("((", LOOKS_AT);

/// One that counts how long it is.
const ALONG: Around = ("((", LOOKS_INTO);

/// Nothing that counts: what stands behind `is eq` begins with no bracket, which would begin a list of arguments.
const BRACKETS: Around = ("(", ")");

/// What the code of a text does.
pub(crate) struct CodeTree {
    /// The dotted names that it uses and does not give itself, sorted.
    pub names: Vec<String>,
    /// The text, with filters that count around what its operators look at.
    pub counted: String,
    /// Where that is in the text as written.
    pub origin: Origin,
}

/// From [`CodeTree::counted`] back to the text as written.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Places in the text as written, and how many bytes were put in there, in its order.
    insertions: Vec<(usize, usize)>,
    /// Where parts of a value are asked for: from where to where in the text as written.
    parts: Vec<Range<usize>>,
}

impl CodeTree {
    /// # Errors
    /// minijinja's, with the range of the text that is no template.
    pub fn read(text: &str, syntax: SyntaxConfig) -> Result<Self, minijinja::Error> {
        let tree = parse(text, "<template>", syntax)?;
        let (names, given) = (BTreeSet::new(), vec![HashSet::new()]);
        let mut walk = Walk { text, names, given, insertions: Vec::new(), parts: Vec::new() };
        walk.statement(&tree);
        let Walk { names, mut insertions, parts, .. } = walk;
        // What opens at one place was met from the outside to the inside, and what closes from the inside to the outside.
        insertions.sort_by_key(|(at, _)| *at);
        let mut counted = String::with_capacity(text.len() + insertions.len() * LOOKS_AT.len());
        let mut from = 0;
        for (at, sign) in &insertions {
            counted.push_str(&text[from..*at]);
            counted.push_str(sign);
            from = *at;
        }
        counted.push_str(&text[from..]);
        let insertions = insertions.into_iter().map(|(at, sign)| (at, sign.len())).collect();
        Ok(CodeTree { names: names.into_iter().collect(), counted, origin: Origin { insertions, parts } })
    }
}

impl Origin {
    /// The code as written that stands at some bytes of [`CodeTree::counted`]; of a part of a value, all that leads to it.
    pub fn as_written(&self, range: Range<usize>) -> Range<usize> {
        let (start, end) = (self.place(range.start), self.place(range.end));
        self.parts.iter().find(|part| part.end == end && part.start <= start).cloned().unwrap_or(start..end)
    }

    fn place(&self, counted: usize) -> usize {
        let mut more = 0;
        for (at, bytes) in &self.insertions {
            if at + more + bytes > counted {
                return (counted - more).min(*at);
            }
            more += bytes;
        }
        counted - more
    }
}

struct Walk<'t> {
    text: &'t str,
    names: BTreeSet<String>,
    /// What `for` and `set` gave a value so far, the innermost loop last.
    given: Vec<HashSet<&'t str>>,
    insertions: Vec<(usize, &'static str)>,
    parts: Vec<Range<usize>>,
}

impl<'t> Walk<'t> {
    fn statement(&mut self, statement: &Stmt<'t>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(one) => self.loop_over(one),
            Stmt::IfCond(one) => self.condition(one),
            Stmt::Set(set) => {
                self.expression(&set.expr);
                self.give(&set.target);
            }
            // Plans that began earlier say these; of new ones `growth.rs` refuses them.
            Stmt::WithBlock(one) => self.with(one),
            Stmt::SetBlock(set) => {
                self.statements(&set.body);
                set.filter.iter().for_each(|filter| self.expression(filter));
                self.give(&set.target);
            }
            Stmt::AutoEscape(one) => {
                self.expression(&one.enabled);
                self.statements(&one.body);
            }
            Stmt::FilterBlock(one) => {
                self.statements(&one.body);
                self.expression(&one.filter);
            }
            Stmt::Do(one) => {
                self.expression(&one.call.expr);
                self.arguments(&one.call.args, Some(THROUGH));
            }
        }
    }

    /// Each name is given before the next value is looked at.
    fn with(&mut self, one: &WithBlock<'t>) {
        self.given.push(HashSet::new());
        for (target, value) in &one.assignments {
            self.expression(value);
            self.give(target);
        }
        self.statements(&one.body);
        self.given.pop();
    }

    fn statements(&mut self, statements: &[Stmt<'t>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn loop_over(&mut self, one: &ForLoop<'t>) {
        self.expression(&one.iter);
        self.given.push(HashSet::from(["loop"]));
        self.give(&one.target);
        one.filter_expr.iter().for_each(|expression| self.expression(expression));
        self.statements(&one.body);
        self.given.pop();
        self.given.push(HashSet::new());
        self.statements(&one.else_body);
        self.given.pop();
    }

    /// What both ways give is given behind them.
    fn condition(&mut self, one: &IfCond<'t>) {
        self.expression(&one.expr);
        let before = self.innermost().clone();
        self.statements(&one.true_body);
        let one_way = std::mem::replace(self.innermost(), before);
        self.statements(&one.false_body);
        self.innermost().retain(|name| one_way.contains(name));
    }

    fn innermost(&mut self) -> &mut HashSet<&'t str> {
        self.given.last_mut().expect("the text itself is the outermost")
    }

    fn give(&mut self, target: &Expr<'t>) {
        match target {
            Expr::Var(name) => drop(self.innermost().insert(name.id)),
            Expr::List(list) => list.items.iter().for_each(|item| self.give(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.give(item)),
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr<'t>) {
        match expression {
            Expr::Const(_) => {}
            Expr::Var(_) => self.name(expression),
            Expr::GetAttr(_) => {
                self.part(expression);
                self.name(expression);
            }
            Expr::UnaryOp(one) => self.expression(&one.expr),
            Expr::BinOp(one) => {
                let counter = looks_far(one).then_some(THROUGH);
                [&one.left, &one.right].into_iter().for_each(|side| self.operand(side, counter));
            }
            Expr::Compare(one) => self.chain(one),
            Expr::IfExpr(one) => {
                self.expression(&one.test_expr);
                self.expression(&one.true_expr);
                one.false_expr.iter().for_each(|other| self.expression(other));
            }
            Expr::Filter(one) => {
                one.expr.iter().for_each(|value| self.expression(value));
                self.arguments(&one.args, None);
            }
            Expr::Test(one) => {
                self.expression(&one.expr);
                self.arguments(&one.args, Some(BRACKETS));
            }
            Expr::GetItem(one) => {
                self.part(expression);
                self.operand(&one.expr, (!is_part_of_name(&one.subscript_expr)).then_some(ALONG));
                self.operand(&one.subscript_expr, Some(THROUGH));
            }
            Expr::Slice(one) => {
                self.operand(&one.expr, Some(ALONG));
                let ends = [&one.start, &one.stop, &one.step];
                ends.into_iter().flatten().for_each(|end| self.expression(end));
            }
            Expr::Call(one) => {
                self.expression(&one.expr);
                // Filters and tests count what they are given; whatever else may be called does not.
                self.arguments(&one.args, Some(THROUGH));
            }
            Expr::List(one) => one.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(one) => one.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(one) => {
                one.keys.iter().for_each(|key| self.operand(key, Some(THROUGH)));
                one.values.iter().for_each(|value| self.expression(value));
            }
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'t>], counter: Option<Around>) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.operand(value, counter),
                CallArg::PosSplat(value) | CallArg::KwargSplat(value) => self.operand(value, counter),
            }
        }
    }

    /// `a < b < c`: each but the first and the last is looked at twice.
    fn chain(&mut self, one: &Compare<'t>) {
        let sides = std::iter::once(&one.expr).chain(one.ops.iter().map(|op| &op.expr));
        sides.for_each(|side| self.operand(side, Some(THROUGH)));
    }

    /// What an operator looks at, and what counts it.
    fn operand(&mut self, value: &Expr<'t>, counter: Option<Around>) {
        let Some(counter) = counter.filter(|_| !is_short(value)) else { return self.expression(value) };
        match value {
            Expr::Var(_) if counter == BRACKETS => self.expression(value),
            // One of two is looked at.
            Expr::BinOp(one) if matches!(one.op, BinOpKind::ScAnd | BinOpKind::ScOr) => {
                [&one.left, &one.right].into_iter().for_each(|side| self.operand(side, Some(counter)));
            }
            Expr::IfExpr(one) => {
                self.expression(&one.test_expr);
                self.operand(&one.true_expr, Some(counter));
                one.false_expr.iter().for_each(|other| self.operand(other, Some(counter)));
            }
            _ => {
                self.insertions.push((start(self.text, value), counter.0));
                self.expression(value);
                self.insertions.push((end(value), counter.1));
            }
        }
    }

    fn part(&mut self, expression: &Expr<'t>) {
        self.parts.push(start(self.text, expression)..end(expression));
    }

    /// A name with its attributes, or attributes of something else.
    fn name(&mut self, expression: &Expr<'t>) {
        let (mut attributes, mut inner) = (Vec::new(), expression);
        while let Expr::GetAttr(one) = inner {
            attributes.push(one.name);
            inner = &one.expr;
        }
        let Expr::Var(root) = inner else { return self.expression(inner) };
        if !self.given.iter().any(|names| names.contains(root.id)) {
            let parts = std::iter::once(root.id).chain(attributes.into_iter().rev());
            self.names.insert(parts.collect::<Vec<_>>().join("."));
        }
    }
}

fn is_number(value: &Expr<'_>) -> bool {
    matches!(value, Expr::Const(one) if one.value.is_number())
}

/// A text that names an attribute: what holds it is a table, and finds it at once.
fn is_part_of_name(subscript: &Expr<'_>) -> bool {
    matches!(subscript, Expr::Const(one) if one.value.as_str().is_some())
}

/// Whether an operator may look at all of a long value. What is compared with something short is looked at no further than that is long.
fn looks_far(one: &BinOp<'_>) -> bool {
    match one.op {
        BinOpKind::Concat => true,
        BinOpKind::Add => !is_number(&one.left) && !is_number(&one.right),
        BinOpKind::In => !is_short(&one.right),
        BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => {
            !is_short(&one.left) && !is_short(&one.right)
        }
        BinOpKind::ScAnd | BinOpKind::ScOr => false,
        // Of numbers; `growth.rs` refuses the two that are more.
        BinOpKind::Sub | BinOpKind::Mul | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
            false
        }
    }
}

/// A literal, or a few, of which none is long; a number, or true or false.
fn is_short(value: &Expr<'_>) -> bool {
    fn is_short_value(value: &Value) -> bool {
        match value.as_str() {
            Some(text) => text.len() <= SHORT_BYTES,
            None => match value.try_iter() {
                Ok(mut items) => items.all(|item| is_short_value(&item)),
                Err(_) => true,
            },
        }
    }
    match value {
        Expr::Const(one) => is_short_value(&one.value),
        Expr::List(one) => one.items.iter().all(is_short),
        Expr::Tuple(one) => one.items.iter().all(is_short),
        Expr::UnaryOp(_) | Expr::Test(_) | Expr::Compare(_) => true,
        Expr::BinOp(one) => !matches!(one.op, BinOpKind::Concat | BinOpKind::Add | BinOpKind::ScAnd | BinOpKind::ScOr),
        _ => false,
    }
}

/// Where an expression begins, without brackets around it. The span that minijinja gives some of them begins elsewhere: at the name of a
/// filter, or one word before.
fn start(text: &str, expression: &Expr<'_>) -> usize {
    let own = |span: Span| span.start_offset as usize;
    match expression {
        Expr::Var(one) => own(one.span()),
        Expr::Const(one) => own(one.span()),
        Expr::List(one) => own(one.span()),
        Expr::Tuple(one) => own(one.span()),
        Expr::Map(one) => own(one.span()),
        Expr::UnaryOp(one) => {
            // The `not` of `x not in y` and `x is not y` stands within.
            let (sign, inner) = (own(one.span()), start(text, &one.expr));
            let is_before = sign < inner && (text[sign..].starts_with("not") || text[sign..].starts_with('-'));
            if is_before { sign } else { inner }
        }
        Expr::BinOp(one) => start(text, &one.left),
        Expr::Compare(one) => start(text, &one.expr),
        Expr::IfExpr(one) => start(text, &one.true_expr),
        Expr::Filter(one) => one.expr.as_ref().map_or_else(|| own(one.span()), |value| start(text, value)),
        Expr::Test(one) => start(text, &one.expr),
        Expr::GetAttr(one) => start(text, &one.expr),
        Expr::GetItem(one) => start(text, &one.expr),
        Expr::Slice(one) => start(text, &one.expr),
        Expr::Call(one) => start(text, &one.expr),
    }
}

/// Where an expression ends.
fn end(expression: &Expr<'_>) -> usize {
    let span = match expression {
        Expr::Var(one) => one.span(),
        Expr::Const(one) => one.span(),
        Expr::UnaryOp(one) => one.span(),
        Expr::List(one) => one.span(),
        Expr::Tuple(one) => one.span(),
        Expr::Map(one) => one.span(),
        Expr::BinOp(one) => one.span(),
        Expr::Compare(one) => one.span(),
        Expr::IfExpr(one) => one.span(),
        Expr::Filter(one) => one.span(),
        Expr::Test(one) => one.span(),
        Expr::GetAttr(one) => one.span(),
        Expr::GetItem(one) => one.span(),
        Expr::Slice(one) => one.span(),
        Expr::Call(one) => one.span(),
    };
    span.end_offset as usize
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, UndefinedBehavior};
    use proptest::prelude::*;

    use super::*;
    use crate::filters;

    fn read(text: &str) -> CodeTree {
        CodeTree::read(text, SyntaxConfig::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn names_are_complete_and_none_is_more() {
        let check = |text: &str, expected: &[&str]| assert_eq!(read(text).names, expected, "{text}");
        check(
            "{{ vars.l[:1] }}{{ vars.name[1:3] }}{{ needs.a.output[:10] }}",
            &["needs.a.output", "vars.l", "vars.name"],
        );
        check("{{ a[b:c:d] }}{{ a[b.c] }}{{ (a ~ e)[1:] }}", &["a", "b", "b.c", "c", "d", "e"]);
        check(
            "{% for x in a[1:] if x in b[:2] %}{{ x.y }}{{ loop.index }}{% else %}{{ x }}{% endfor %}",
            &["a", "b", "x"],
        );
        check("{% for x, (y, z) in x %}{{ x }}{{ y }}{{ z }}{% endfor %}{{ loop }}", &["loop", "x"]);
        check("{% set vars = vars.a %}{{ vars.b }}", &["vars.a"]);
        check("{% if a %}{% set x = 1 %}{% else %}{% set x = 2 %}{% endif %}{{ x }}", &["a"]);
        check("{% if a %}{% set x = 1 %}{% elif b %}{% set x = 1 %}{% endif %}{{ x }}", &["a", "b", "x"]);
        check("{% for x in a %}{% set y = x %}{% endfor %}{{ y }}", &["a", "y"]);
        check(
            "{{ f(g=a, *b)|join(d=c)|map(attribute='h') }}{{ i is eq j }}{{ i is not in(k[1:]) }}",
            &["a", "b", "c", "f", "i", "j", "k"],
        );
        check(
            "{{ {a: b}[c].d }}{{ (e if f else g).h }}{{ -i }}{{ not j.k }}{{ l['m'].n }}",
            &["a", "b", "c", "e", "f", "g", "i", "j.k", "l"],
        );
        check(
            "{% if a not in b and c is not none %}{% endif %}{{ d or e < f < g }}",
            &["a", "b", "c", "d", "e", "f", "g"],
        );
        check("{% raw %}{{ a }}{% endraw %}{{ 'b' }}{{ true }}", &[]);
    }

    #[test]
    fn what_operators_look_at_is_counted() {
        let check = |text: &str, expected: &str| {
            let counted = read(&format!("{{{{{text}}}}}")).counted;
            let short = counted.replace(LOOKS_AT, ")!)").replace(LOOKS_INTO, ")?)");
            assert_eq!(short, format!("{{{{{expected}}}}}"));
        };
        check("a == b", "((a)!) == ((b)!)");
        check("a ~ b.c|f ~ '-'", "((((a)!) ~ ((b.c|f)!))!) ~ '-'");
        check("(a ~ b) + c", "(((((a)!) ~ ((b)!))!)) + ((c)!)");
        check("a < b[1:] < c", "((a)!) < ((((b)?)[1:])!) < ((c)!)");
        check("a[i]['k'].l[0]", "((((a)?)[((i)!)]['k'].l)?)[0]");
        check("loop.changed(a, b=c)", "loop.changed(((a)!), b=((c)!))");
        check("{a: b}", "{((a)!): b}");
        check("(a or b if c == 'd' else e) in f", "(((a)!) or ((b)!) if c == 'd' else ((e)!)) in ((f)!)");
        for text in
            ["a", "a.b|f(c) is eq(d)", "a == 'linux'", "a in ['b', 'c']", "n + 1", "n - m", "a and not b", "n / 2"]
        {
            check(text, text);
        }
    }

    #[test]
    fn a_place_is_found_in_the_text_as_written() {
        let text = "{{ a ~ b }}{{ c[d] }}{{ c.e[f].g }}";
        let tree = read(text);
        for part in ["a", "b", "d", "}}{{", "f"] {
            let at = tree.counted.find(part).expect("it is there");
            assert_eq!(&text[tree.origin.as_written(at..at + part.len())], part);
        }
        let end = |sign: &str| tree.counted.find(sign).map(|at| at + sign.len()).expect("it is there");
        assert_eq!(&text[tree.origin.as_written(end("].g") - 3..end("].g"))], "c.e[f].g");
        let whole = tree.origin.as_written(0..tree.counted.len());
        assert_eq!(whole, 0..text.len());
    }

    /// Code as a person may write it, with brackets or without.
    fn code() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "t", "u", "l", "m", "n", "z", "none", "true", "'ab'", "3", "m.a", "m.b", "[n, t]",
        ]);
        name.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
            let sign = prop::sample::select(vec![
                "==",
                "!=",
                "<",
                "<=",
                "in",
                "not in",
                "~",
                "+",
                "-",
                "%",
                "and",
                "or",
                "is eq",
                "is not in",
            ]);
            let of_two = (inner.clone(), sign, inner.clone()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}"));
            let of_one = (
                inner.clone(),
                prop::sample::select(vec![
                    "(_)",
                    "not _",
                    "-(_)",
                    "_|length",
                    "_|upper",
                    "_ is defined",
                    "_[0]",
                    "_[1:]",
                    "_[-1]",
                    "(_)[:2]",
                    "_.a",
                    "[_]",
                    "{'a': _}",
                    "{_: 1}",
                    "_ if n else t",
                    "t if _ else l",
                    "t if n else _",
                    "_|default('x')",
                    "_ < n < 9",
                ]),
            );
            prop_oneof![
                of_two,
                of_one.prop_map(|(a, form)| form.replace('_', &a)),
                (inner.clone(), inner).prop_map(|(a, b)| format!("({a})[{b}]"))
            ]
        })
    }

    proptest! {
        #[test]
        fn counting_changes_no_value(code in code()) {
            let mut environment = Environment::new();
            environment.set_undefined_behavior(UndefinedBehavior::Strict);
            let mut counting = environment.clone();
            filters::bound(&mut counting);
            let text = format!("{{% if {code} %}}1{{% endif %}}{{{{ {code} }}}}");
            let values = || minijinja::context! {
                t => "text", u => "", l => vec!["ab", "c"], m => minijinja::context! { a => "ab", b => vec![1, 2] }, n => 1,
            };
            // Where `not` is no sign, minijinja takes it for a name, and a plan is refused for it.
            let is_possible = |tree: &CodeTree| tree.names.iter().all(|name| name != "not");
            if let Some(tree) = CodeTree::read(&text, SyntaxConfig::default()).ok().filter(is_possible) {
                // What is undefined is named by the code, brackets and all.
                let said = |one: Result<String, minijinja::Error>| one.map_err(|error| {
                    (error.kind(), error.detail().and_then(|detail| detail.split('`').next()).map(str::to_owned))
                });
                let plain = said(environment.render_str(&text, values()));
                prop_assert_eq!(said(counting.render_str(&tree.counted, values())), plain, "{}", tree.counted);
            }
        }
    }
}
