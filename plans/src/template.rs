//! Texts with `{{ }}`: minijinja, strict. Every template is compiled once when the plan is parsed, knows which names it
//! uses, and is rendered when an instance starts.
//!
//! Comments (`{# #}`) are not part of the language, because `${#name}` is a common word in shell scripts.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Output, State, UndefinedBehavior, Value, escape_formatter};

use crate::code_spans::{Code, Excess, NO_COMMENT, excess, spans};
use crate::code_tree::{CodeTree, Origin};
use crate::diagnostic::{Diagnostic, Location};
use crate::filters;
use crate::growth::growth;
use crate::words::unknown_word;

/// Steps that the rendering of one text takes at most: about 30 ns each.
const STEPS_MAX: u64 = 10_000_000;

/// Bytes that one text renders to at most; no command, variable or prompt is larger.
pub(crate) const RENDERED_BYTES_MAX: usize = 4 << 20;

/// What is said of a value that becomes longer than that.
pub(crate) fn too_long() -> minijinja::Error {
    minijinja::Error::new(
        minijinja::ErrorKind::WriteFailure,
        format!("it becomes longer than {RENDERED_BYTES_MAX} bytes"),
    )
}

/// What stands before an expression, which is compiled as a template.
const EXPRESSION_OPEN: &str = "{% if (\n";

/// Under an `if` that is no expression: the words of the language, and that equality has two signs.
const EXPRESSION_EXAMPLE: &str = "write it like: vars.deploy and needs.build.result == 'succeeded'";

/// A text of the plan: literal, or compiled into the plan's engine.
#[derive(Debug, Clone)]
pub struct Template {
    /// As written.
    source: Arc<str>,
    /// Where it is written.
    at: Location,
    /// Its place in the engine and the dotted names it uses, sorted; `None` for a literal.
    compiled: Option<Arc<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    dialect: Dialect,
    /// The name under which minijinja knows it.
    key: String,
    names: Vec<String>,
    /// Where the text that minijinja has is in the one that is written.
    origin: Origin,
}

impl Compiled {
    /// What `source`, the text as written, has in some bytes of what minijinja was given.
    fn as_written<'s>(&self, source: &'s str, range: std::ops::Range<usize>) -> Option<&'s str> {
        let before = if self.dialect == Dialect::Expression { EXPRESSION_OPEN.len() } else { 0 };
        let written = self.origin.as_written(range);
        source.get(written.start.checked_sub(before)?..written.end.checked_sub(before)?)
    }
}

/// What a text will be used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// Plain text: values are inserted as they are.
    Text,
    /// A glob: what values contain is matched literally.
    Glob,
    /// An expression without braces, for `if`; renders as `1` when true.
    Expression,
}

impl Template {
    /// A text that rendering does not change.
    pub(crate) fn literal_at(text: &str, at: Location) -> Self {
        Template { source: text.into(), at, compiled: None }
    }

    /// The text as the plan writes it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where it is written.
    pub fn at(&self) -> Location {
        self.at
    }

    /// The text, when rendering would not change it.
    pub fn literal(&self) -> Option<&str> {
        self.compiled.is_none().then_some(&*self.source)
    }

    /// The names it uses with their attributes (`needs.survey.outputs.n`), sorted.
    pub fn names(&self) -> &[String] {
        self.compiled.as_ref().map_or(&[], |compiled| &compiled.names)
    }

    /// The first parts of the names it uses; a name may come more than once.
    pub fn roots(&self) -> impl Iterator<Item = &str> {
        self.names().iter().map(|name| root(name))
    }
}

/// `needs` of `needs.survey.result`.
pub(crate) fn root(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .comment_delimiters(NO_COMMENT.0, NO_COMMENT.1)
        .keep_trailing_newline(true)
        .build()
        .expect("the delimiters differ from each other")
}

/// All compiled templates of a plan.
pub(crate) struct Engine {
    vars: Value,
    text: Environment<'static>,
    glob: Environment<'static>,
    known: HashMap<(Dialect, Arc<str>), Arc<Compiled>>,
    /// What code would let grow.
    growth: fn(&str, Code) -> Option<Excess>,
    /// A `$` before braces, which would stay.
    lone_dollar: fn(&str, Code) -> Option<Range<usize>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("templates", &self.known.len()).finish()
    }
}

impl Engine {
    /// An engine without templates.
    pub fn new() -> Self {
        let mut text = Environment::new();
        // `debug()` would show every value in scope, those from workers among them.
        text.remove_global("debug");
        text.set_undefined_behavior(UndefinedBehavior::Strict);
        text.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        // Without it an error does not know its place; failing renders are rare.
        text.set_debug(true);
        text.set_fuel(Some(STEPS_MAX));
        text.set_syntax(syntax());
        text.set_formatter(write_as_json);
        filters::bound(&mut text);
        let mut glob = text.clone();
        glob.set_formatter(write_glob_literal);
        let (vars, known) = (Value::from_pairs::<_, &str, Value>([]), HashMap::new());
        Engine { vars, text, glob, known, growth, lone_dollar }
    }

    /// One for the plan of a run that began: what its templates let grow, and what they left in a text, they did then.
    pub fn of_recorded() -> Self {
        Engine { growth: |_, _| None, lone_dollar: |_, _| None, ..Engine::new() }
    }

    /// Keeps the plan's variables in the form in which templates read them.
    pub fn set_vars(&mut self, vars: &indexmap::IndexMap<String, serde_json::Value>) {
        self.vars = Value::from_pairs(vars.iter().map(|(name, json)| (name.as_str(), Value::from(Serde(json)))));
    }

    /// The dotted names that the compiled texts use, in no order; a name may come more than once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.values().flat_map(|compiled| &compiled.names).map(String::as_str)
    }

    /// The plan's variables.
    pub fn vars(&self) -> Value {
        self.vars.clone()
    }

    /// The names that a text uses which was compiled in a dialect.
    pub fn names_of(&self, dialect: Dialect, text: &str) -> Option<&[String]> {
        self.known.get(&(dialect, Arc::from(text))).map(|compiled| compiled.names.as_slice())
    }

    /// Every compiled text with the names that it uses.
    pub fn compiled(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.known.iter().map(|((_, text), compiled)| (&**text, compiled.names.as_slice()))
    }

    /// Compiles a text of the plan.
    ///
    /// # Errors
    /// A diagnostic at the place of the syntax error, as far as it can be told; `raw` is the source's text around it.
    pub fn compile(
        &mut self,
        source: &str,
        at: Location,
        raw: &str,
        dialect: Dialect,
    ) -> Result<Template, Box<Diagnostic>> {
        let source: Arc<str> = source.into();
        if dialect != Dialect::Expression && !source.contains("{{") && !source.contains("{%") {
            return Ok(Template { source, at, compiled: None });
        }
        if let Some(compiled) = self.known.get(&(dialect, source.clone())) {
            return Ok(Template { source, at, compiled: Some(compiled.clone()) });
        }
        let compiled = Arc::new(self.compile_new(&source, at, raw, dialect)?);
        self.known.insert((dialect, source.clone()), compiled.clone());
        Ok(Template { source, at, compiled: Some(compiled) })
    }

    fn compile_new(
        &mut self,
        source: &str,
        at: Location,
        raw: &str,
        dialect: Dialect,
    ) -> Result<Compiled, Box<Diagnostic>> {
        let misread = |error: minijinja::Error| {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            let place = error.range().map_or(at, |range| inside(at, raw, source, range));
            if dialect == Dialect::Expression {
                let error = Diagnostic::error(place, format!("this expression does not parse: {detail}"));
                return Box::new(error.hint(EXPRESSION_EXAMPLE));
            }
            let error = Diagnostic::error(place, format!("this template does not parse: {detail}"));
            Box::new(error.hint("braces that are no template's stand in {% raw %}…{% endraw %}"))
        };
        let code = if dialect == Dialect::Expression { Code::All } else { Code::Braces };
        if let Some(excess) = excess(source, code).or_else(|| (self.growth)(source, code)) {
            let error = Diagnostic::error(inside(at, raw, source, excess.at), excess.message);
            return Err(Box::new(error.hint("reckon it in the task itself, and keep its template short")));
        }
        if let Some(range) = (self.lone_dollar)(source, code) {
            let written = source[range.start + 1..range.end].to_owned();
            let error =
                Diagnostic::error(inside(at, raw, source, range), "the `$` before these braces stays in the text");
            let hint = format!("write {written}; one that shall stay there is {{% raw %}}${{% endraw %}}{written}");
            return Err(Box::new(error.hint(hint)));
        }
        let key = self.known.len().to_string();
        let environment = match dialect {
            Dialect::Text | Dialect::Expression => &mut self.text,
            Dialect::Glob => &mut self.glob,
        };
        let text = if dialect == Dialect::Expression {
            environment.compile_expression(source).map_err(misread)?;
            // The parentheses keep the whole of it one condition; that it is one expression was just established.
            format!("{EXPRESSION_OPEN}{source}\n) %}}1{{% endif %}}")
        } else {
            source.to_owned()
        };
        let tree = CodeTree::read(&text, syntax()).map_err(misread)?;
        environment.add_template_owned(key.clone(), tree.counted.clone()).map_err(misread)?;
        if let Some(word) = unknown_word(environment, source, code) {
            let diagnostic = Diagnostic::error(inside(at, raw, source, word.at), word.message);
            return Err(Box::new(match word.hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            }));
        }
        let functions: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        let is_function = |name: &&String| functions.contains(&name.as_str());
        let names = tree.names.iter().filter(|name| !is_function(name)).cloned().collect();
        Ok(Compiled { dialect, key, names, origin: tree.origin })
    }

    /// Renders with the values of the roots that it uses.
    ///
    /// # Errors
    /// What minijinja says: an undefined attribute, an unknown filter, a wrong type. Or that there is no end to it.
    pub fn render(&self, template: &Template, values: &BTreeMap<&str, Value>) -> Result<String, String> {
        let Some(compiled) = &template.compiled else {
            return Ok(template.source.to_string());
        };
        let environment = match compiled.dialect {
            Dialect::Text | Dialect::Expression => &self.text,
            Dialect::Glob => &self.glob,
        };
        let written = |error: &minijinja::Error| compiled.as_written(&template.source, error.range()?);
        let reason = |error: &minijinja::Error| match error.detail() {
            _ if error.kind() == minijinja::ErrorKind::OutOfFuel => {
                format!("it takes more than {STEPS_MAX} steps: let a loop in it end sooner")
            }
            // What minijinja names by a part of the code that it shortens is not told apart from what counts there.
            Some(detail) if detail.contains("...") && detail.contains("` is undefined") => {
                let said = detail.split('`').next().unwrap_or(detail).trim_end_matches([' ', '(']);
                let code = written(error).unwrap_or(&template.source);
                if said.is_empty() { format!("{}: `{code}`", error.kind()) } else { format!("{said}: `{code}`") }
            }
            Some(detail) if error.kind() == minijinja::ErrorKind::UndefinedError => detail.to_owned(),
            Some(detail) if too_long().detail() == Some(detail) => detail.to_owned(),
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => match written(error) {
                Some(expression) => format!("{}: `{expression}`", error.kind()),
                None => error.kind().to_string(),
            },
        };
        let said = |error: minijinja::Error| match error.line() {
            Some(line) if template.source.trim_end().contains('\n') => format!("{} (line {line})", reason(&error)),
            _ => reason(&error),
        };
        let template = environment.get_template(&compiled.key).map_err(said)?;
        let mut rendered = Bounded { text: Vec::new(), is_full: false };
        let values = Value::from_pairs(values.iter().map(|(name, value)| (*name, value.clone())));
        let ended = template.render_captured_to(values, &mut rendered).map(drop);
        if rendered.is_full {
            return Err(format!("it becomes longer than {RENDERED_BYTES_MAX} bytes"));
        }
        ended.map_err(said)?;
        Ok(String::from_utf8(rendered.text).expect("templates write characters"))
    }
}

/// A text that grows up to [`RENDERED_BYTES_MAX`].
struct Bounded {
    text: Vec<u8>,
    /// Something did not fit.
    is_full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > RENDERED_BYTES_MAX {
            self.is_full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Braces with a `$` before them, as GitHub Actions writes its expressions: where they begin and end.
fn lone_dollar(text: &str, code: Code) -> Option<Range<usize>> {
    let braces = spans(text, code).into_iter().filter(|span| text[..span.start].ends_with("${{"));
    braces.map(|span| span.start - 3..(span.end + 2).min(text.len())).next()
}

/// The place of `range` (bytes of the unescaped `source`) when the text is written without escapes, else the whole value.
fn inside(at: Location, raw: &str, source: &str, range: Range<usize>) -> Location {
    match raw.find(source) {
        Some(offset) if range.end <= source.len() && range.start < range.end => {
            let base = at.start as usize + offset;
            Location::new(at.source as usize, base + range.start..base + range.end)
        }
        _ => at,
    }
}

/// What JSON is written to bit by bit: it may have no end worth holding.
struct Written<'o, 'w>(&'o mut Output<'w>);

impl std::io::Write for Written<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = std::str::from_utf8(bytes).map_err(std::io::Error::other)?;
        self.0.write_str(text).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Inserts a text as it is, and everything else as JSON has it: as the environment of a task shows it, and as its tools read it.
fn write_as_json(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::Bool | ValueKind::None | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            serde_json::to_writer(Written(out), value)
                .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Inserts a value into a glob so that it matches only itself.
fn write_glob_literal(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), minijinja::Error> {
    let text = value.to_string();
    if !text.contains(['*', '?', '[', ']', '{', '}', '!', '\\']) {
        return escape_formatter(out, state, value);
    }
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '{' | '}' | '!' | '\\') {
            out.write_str("\\").map_err(minijinja::Error::from)?;
        }
        out.write_fmt(format_args!("{letter}")).map_err(minijinja::Error::from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::looked_at::tests::at_work;

    const AT: Location = Location { source: 0, start: 0, end: 0 };

    #[test]
    fn what_is_no_text_is_written_as_json() {
        let mut engine = Engine::new();
        let source = "{{ yes }} {{ none }} {{ list }} {{ map }} {{ 1.5 }} {{ text }} {{ list[1:] }} {{ range(2) }}";
        let template = engine.compile(source, AT, source, Dialect::Text).expect("it parses");
        let json = |text: &str| Value::from(Serde(&serde_json::from_str::<serde_json::Value>(text).expect("JSON")));
        let values = [
            ("yes", "true"),
            ("none", "null"),
            ("list", r#"["a",1]"#),
            ("map", r#"{"b":false}"#),
            ("text", r#""it's""#),
        ];
        let values: BTreeMap<&str, Value> = values.into_iter().map(|(name, text)| (name, json(text))).collect();
        let rendered = engine.render(&template, &values).unwrap_or_else(|error| error);
        assert_eq!(rendered, r#"true null ["a",1] {"b":false} 1.5 it's [1] [0,1]"#);
    }

    #[test]
    fn a_dollar_before_braces_is_a_mistake_unless_it_is_raw_or_a_run_began_with_it() {
        let at = Location::new(0, 5..30);
        let raw = "env='a ${{ vars.os }}'";
        let read = |mut engine: Engine, source: &str| engine.compile(source, at, raw, Dialect::Text).map(drop);
        let error = read(Engine::new(), "a ${{ vars.os }}").expect_err("it stays there");
        assert_eq!(&raw[error.span.start - 5..error.span.end - 5], "${{ vars.os }}");
        assert_eq!(
            error.hint.as_deref(),
            Some("write {{ vars.os }}; one that shall stay there is {% raw %}${% endraw %}{{ vars.os }}")
        );
        for fine in [
            "{% raw %}${% endraw %}{{ vars.os }}",
            "$ {{ vars.os }}",
            "{% raw %}${{ x }}{% endraw %}",
            "${x} {{ vars.os }}",
        ] {
            assert!(read(Engine::new(), fine).is_ok(), "{fine}");
        }
        assert!(read(Engine::of_recorded(), "a ${{ vars.os }}").is_ok());
    }

    fn check(dialect: Dialect, source: &str, expected: &str) {
        let mut engine = Engine::new();
        let template = engine.compile(source, AT, source, dialect).expect("it parses");
        let values = BTreeMap::from([("file", Value::from("a*b")), ("n", Value::from(3))]);
        assert_eq!(engine.render(&template, &values).unwrap_or_else(|error| error), expected);
    }

    #[test]
    fn text_keeps_what_shells_write() {
        check(Dialect::Text, "echo ${#x} {{ n }}\n", "echo ${#x} 3\n");
        check(Dialect::Text, "{{ file }}", "a*b");
    }

    #[test]
    fn a_value_matches_only_itself_in_a_glob() {
        check(Dialect::Glob, "{{ file }}/**", "a\\*b/**");
    }

    #[test]
    fn undefined_is_an_error_with_its_name() {
        check(Dialect::Text, "{{ n.nothing }}", "`n.nothing` is undefined");
        check(Dialect::Text, "{{ file[9] }}", "undefined value: `file[9]`");
        check(Dialect::Text, "{{ 'a' if n == file[n].x }}", "undefined value: `file[n].x`");
        check(Dialect::Expression, "n == file[n].x", "undefined value: `file[n].x`");
        let said = "tried to use + operator on unsupported types undefined and number: `file[n] + m[n]`";
        check(Dialect::Text, "{% set m = [1, 2, 3, 4] %}{{ file[9] + m[n] }}", &said.replace("file[n]", "file[9]"));
        check(Dialect::Text, "a\n{{ n ~ file[9] }}", "undefined value: `n ~ file[9]` (line 2)");
    }

    #[test]
    fn nothing_renders_without_end() {
        let long = "it becomes longer than 4194304 bytes";
        check(Dialect::Text, "{% for i in range(99999) %}{{ 'a'|indent(4000000, true) }}{% endfor %}", long);
        check(Dialect::Text, &format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "a".repeat(100)), long);
        let nested = "one\n{% for i in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}";
        let steps = "it takes more than 10000000 steps: let a loop in it end sooner (line 2)";
        check(Dialect::Text, nested, steps);
    }

    #[test]
    fn no_chain_overflows_the_stack() {
        let refused = |dialect, source: &str| {
            let refused = Engine::new().compile(source, AT, source, dialect).map(drop);
            refused.map_err(|error| error.message)
        };
        let chains =
            ["a.", "-", "- -a", "a|e|", "1+", "a[0]~", "not ", "a and ", "a(", "a if b else ", "(", "[", "f(1)(2)."];
        for chain in chains {
            let long = format!("{}a", chain.repeat(120_000 / chain.len()));
            for message in [(Dialect::Expression, &long), (Dialect::Text, &format!("{{{{ {long} }}}}"))]
                .map(|(dialect, source)| refused(dialect, source).expect_err(chain))
            {
                assert!(message.ends_with("words and signs, and 500 are possible"), "{message}");
            }
            // Less than that is compiled, or refused for what it says, on the stack of any thread.
            for n in [50, 100, 200, 300, 499] {
                let less = format!("{}a", chain.repeat(n));
                let _ = (refused(Dialect::Expression, &less), refused(Dialect::Text, &format!("{{{{ {less} }}}}")));
            }
        }
        let elifs = format!("{{% if a %}}{}{{% endif %}}", "{%elif a%}".repeat(12_000));
        assert!(refused(Dialect::Text, &elifs).expect_err("too many").contains("`elif`"));
        let less = format!("{{% if a %}}{}{{% endif %}}", "{%elif a%}".repeat(60));
        assert_eq!(refused(Dialect::Text, &less), Ok(()));
        let _ = refused(Dialect::Text, &format!("{{% if {}", "{%if a%}".repeat(1000)));
        let _ = refused(Dialect::Text, &"{%for a in b%}".repeat(1000));
        let prompt = format!("{} {{{{ n }}}}", "Rewrite it, a.b.c|d. ".repeat(10_000));
        assert_eq!(refused(Dialect::Text, &prompt), Ok(()));
    }

    /// What a text renders to with a long one, a list and a large number, or why it does not.
    fn rendered(source: &str) -> Result<String, String> {
        let mut engine = Engine::new();
        let template = engine.compile(source, AT, source, Dialect::Text).map_err(|refused| refused.message)?;
        let list: Vec<String> = (0..1000).map(|number| format!("item {number}")).collect();
        let values = BTreeMap::from([
            ("long", Value::from("x".repeat(100_000))),
            ("list", Value::from(list)),
            ("number", Value::from(99_999_999_999_u64)),
        ]);
        engine.render(&template, &values)
    }

    #[test]
    fn no_value_grows_without_end_between_what_is_written() {
        let chain = |filter: &str| format!("{{{{ long{} }}}}", format!("|{filter}").repeat(5));
        let sets =
            |value: &str| format!("{{% set b = list %}}{}{{{{ b }}}}", format!("{{% set b = {value} %}}").repeat(40));
        let bombs = [
            "{{ 'a\n'|indent(99999999999)|length }}".to_owned(),
            "{{ 'a\n'|indent(width=number)|length }}".to_owned(),
            chain("replace('x', long)"),
            chain("replace('', long)"),
            chain("list|join(long)"),
            chain("list|join(d=long)"),
            "{{ list[1:]|join(long) }}".to_owned(),
            "{{ list|select|join(long) }}".to_owned(),
            "{{ range(99999)|join(long)|length }}".to_owned(),
            "{{ 'a\n'|indent(99999999999.0)|length }}".to_owned(),
            "{{ '%*d'|format(99999999999.0, 1)|length }}".to_owned(),
            "{% for i in list %}{{ long|split('')|length }}{% endfor %}".to_owned(),
            "{{ '%99999999999s'|format('a')|length }}".to_owned(),
            "{{ '%*d'|format(number, 1)|length }}".to_owned(),
            "{{ '%.99999999999f'|format(1.5)|length }}".to_owned(),
            "{{ ['a']|batch(number, 'x')|length }}".to_owned(),
            "{{ ['a']|slice(number)|length }}".to_owned(),
            "{{ long|map('replace', 'x', long)|list|length }}".to_owned(),
            "{% for i in list %}{% set b = long|replace('x', 'y') %}{% endfor %}".to_owned(),
            sets("b|chain(b)"),
            sets("b|zip(b)"),
            sets("b|batch(1)|batch(1)|batch(1)|batch(1)|batch(1)|batch(1)"),
            sets("dict(x=b, y=b)"),
            sets("dict(x=b, y=b)|pprint"),
            "{% set b = long ~ long %}{{ b }}".to_owned(),
            "{% set b = [long, long] %}{{ b }}".to_owned(),
            "{% set b = (long, long) %}{{ b }}".to_owned(),
            "{% set b %}{{ long }}{% endset %}{{ b }}".to_owned(),
            "{% filter upper %}{{ long }}{% endfilter %}".to_owned(),
            "{% for b in [list] recursive %}{{ loop([b ~ b]) }}{% endfor %}".to_owned(),
            "{% set b = namespace() %}{% set b.b = b %}{{ b }}".to_owned(),
            "{{ 'a' * 99999999 }}".to_owned(),
            "{{ (1, 2) * 99999999 }}".to_owned(),
            format!("{{{{ long{} }}}}", " ~ long".repeat(100)),
            "{% for i in list %}{{ [long, long, long, long] }}{% endfor %}".to_owned(),
        ];
        for bomb in bombs {
            let begun = at_work();
            let reason = rendered(&bomb).expect_err(&bomb);
            let took = at_work() - begun;
            // A build that is not optimized takes its time; without a bound these take hours, or all memory.
            assert!(took.as_secs() < 20, "{bomb}: {took:?}");
            let words = ["becomes longer than", "more than", "is not possible", "are possible at once", "is unknown"];
            assert!(words.iter().any(|word| reason.contains(word)), "{bomb}: {reason}");
        }
    }

    #[test]
    fn what_filters_make_is_as_without_a_bound() {
        let check = |source: &str, expected: &str| assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        check("{{ 'a b'|replace('a', 'c')|upper|title }} {{ 'a\nb'|indent(width=2, first=true) }}", "C B   a\n  b");
        check("{{ ['b', 'a']|sort|join(', ') }} {{ [1, 2]|join(d='-') }} {{ [2, 1]|sum }}", "a, b 1-2 3");
        check("{{ '%05.1f %s'|format(1.25, 'x') }} {{ [1]|pprint|length }}", "001.2 x 10");
        check("{{ ['a', 'b', 'c']|batch(2, 'x') }} {{ 'a b'|split|list }}", r#"[["a","b"],["c","x"]] ["a","b"]"#);
        check(
            "{{ [1]|chain([2])|list }} {{ [1]|zip([2])|list }} {{ {'a': 1}|chain({'b': 2}) }}",
            r#"[1,2] [[1,2]] {"a":1,"b":2}"#,
        );
        check("{{ dict(a=1)|items|list }} {{ ['a', 'b']|map('upper')|reverse|list }}", r#"[["a",1]] ["B","A"]"#);
        check("{% for word in list|select('in', ['item 7', 'item 8']) %}{{ word|last }}{% endfor %}", "78");
    }

    #[test]
    fn there_are_no_macros() {
        let source = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        let refused = Engine::new().compile(source, AT, source, Dialect::Text).expect_err("a syntax error");
        assert!(refused.message.contains("`{% macro %}` is not possible"), "{refused:?}");
    }

    #[test]
    fn as_much_as_a_prompt_may_hold_is_rendered() {
        let mut engine = Engine::new();
        let source = "{% for i in range(100000) %}{{ 'ten bytes!' }}{% endfor %}";
        let template = engine.compile(source, AT, source, Dialect::Text).expect("it parses");
        assert_eq!(engine.render(&template, &BTreeMap::new()).expect("it has an end").len(), 1_000_000);
    }

    #[test]
    fn an_expression_is_true_or_empty() {
        check(Dialect::Expression, "n == 3 and file", "1");
        check(Dialect::Expression, "n == 4", "");
    }

    #[test]
    fn names_come_with_their_attributes() {
        let mut engine = Engine::new();
        let template = engine.compile("{{ needs.a.outputs.b }}{{ range(2) }}", AT, "", Dialect::Text).unwrap();
        assert_eq!(template.names(), ["needs.a.outputs.b"]);
    }

    #[test]
    fn a_part_of_a_text_or_a_list_needs_no_other_name() {
        check(Dialect::Text, "{{ file[:1] }}{{ file[1:n] }}{{ file[::-1] }}", "a*bb*a");
        check(Dialect::Glob, "{{ file[1:] }}", "\\*b");
        check(Dialect::Expression, "file[:1] == 'a'", "1");
    }

    #[test]
    fn values_cannot_be_looked_at_all_at_once() {
        let mut engine = Engine::new();
        let template = engine.compile("{{ debug() }}", AT, "", Dialect::Text).unwrap();
        assert_eq!(template.names(), ["debug"]);
    }
}
