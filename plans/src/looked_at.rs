//! What a rendering looks at, summed up over the whole of it. minijinja counts its steps, but one step may look at a value of megabytes, and
//! a loop makes a hundred thousand of them: a second of steps would become hours. So each filter, test and call, and each operator that may
//! look at all of a value ([`crate::code_tree`]), is counted with the bytes and items that it is given, and there is an end to their sum.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Bytes that one rendering may look at: some tenths of a second in an optimized build.
const LOOKED_AT_BYTES_MAX: usize = 128 << 20;

/// What an item counts, and each look at anything: about as long as so many bytes of a text take.
const ITEM_BYTES: usize = 48;

/// What an item counts that is passed over.
const PASSED_BYTES: usize = 8;

/// Lists within each other; JSON that is read has no more than 128.
pub(crate) const DEPTH_MAX: usize = 200;

/// How far a filter or a test looks into what it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// At what kind of value it is, or one part of it.
    Briefly,
    /// At each letter of a text or each item of a list, but not into the items.
    Along,
    /// The same, and something is done with each.
    Each,
    /// At all that is in it.
    Through,
    /// The same, and each letter of a text becomes an item.
    EachThrough,
    /// The same, as often as sorting does.
    Sorting,
}

/// What one rendering looked at so far.
struct LookedAt {
    bytes: usize,
}

/// Counts what is looked at.
///
/// # Errors
/// Where the rendering has looked at more than it may, or lists lie too deep in each other.
pub(crate) fn count(state: &mut State<'_, '_>, values: &[Value], looks: Looks) -> Result<(), Error> {
    let looked_at = state.get_or_insert_extension(LookedAt { bytes: 0 });
    let before = LOOKED_AT_BYTES_MAX.saturating_sub(looked_at.bytes);
    let mut left = before;
    take(&mut left, ITEM_BYTES)?;
    for value in values {
        match looks {
            Looks::Briefly => {}
            Looks::Along | Looks::Each => {
                let bytes = along(value, left)?;
                take(&mut left, bytes)?;
            }
            Looks::Through | Looks::EachThrough | Looks::Sorting => through(value, &mut left, 0)?,
        }
    }
    let items = values.first().map_or(0, |value| value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len));
    match looks {
        Looks::Each => take(&mut left, items.saturating_mul(ITEM_BYTES))?,
        Looks::EachThrough if values[0].as_str().is_some() => take(&mut left, items.saturating_mul(ITEM_BYTES))?,
        Looks::Sorting => {
            let letters = if values[0].as_str().is_some() { items.saturating_mul(ITEM_BYTES) } else { 0 };
            let once = (before - left).saturating_add(letters);
            take(&mut left, once.saturating_mul(items.max(1).ilog2() as usize))?;
        }
        _ => {}
    }
    looked_at.bytes = LOOKED_AT_BYTES_MAX - left;
    Ok(())
}

fn take(left: &mut usize, bytes: usize) -> Result<(), Error> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        let message =
            format!("it looks at more than {LOOKED_AT_BYTES_MAX} bytes: let a loop in it end sooner, or look at less");
        Error::new(ErrorKind::InvalidOperation, message)
    })?;
    Ok(())
}

/// The bytes of a text, or the items of a list; of one that does not know how many it has, no more than could be paid for.
fn along(value: &Value, left: usize) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.len());
    }
    let items = match (value.kind(), value.len()) {
        (_, Some(items)) => items,
        (ValueKind::Iterable, None) => value.try_iter()?.take(left / PASSED_BYTES + 1).count(),
        (_, None) => 0,
    };
    Ok(items.saturating_mul(PASSED_BYTES))
}

fn through(value: &Value, left: &mut usize, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    take(left, value.as_str().map_or(0, str::len).saturating_add(ITEM_BYTES))?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| through(&item, left, depth + 1)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            through(&key, left, depth + 1)?;
            through(&value.get_item(&key)?, left, depth + 1)
        }),
        _ => Ok(()),
    }
}

pub(crate) fn too_deep() -> Error {
    let message = format!("its lists lie more than {DEPTH_MAX} deep in each other");
    Error::new(ErrorKind::InvalidOperation, message)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use minijinja::Value;

    use crate::diagnostic::Location;
    use crate::template::{Dialect, Engine};

    /// How long this thread was at work so far, whoever else wants the machine. Source: proc_pid_schedstat(5), its first number.
    pub(crate) fn at_work() -> Duration {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is there");
        let nanoseconds = told.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
        Duration::from_nanos(nanoseconds)
    }

    /// What a text renders to with long values: a text, a list of texts of so many letters at least, a table.
    fn rendered(source: &str, letters: usize) -> Result<String, String> {
        let mut engine = Engine::new();
        let at = Location { source: 0, start: 0, end: 0 };
        let template = engine.compile(source, at, source, Dialect::Text).map_err(|refused| refused.message)?;
        let list: Vec<String> = (0..20_000).map(|number| format!("item {number:0letters$}")).collect();
        let long = || Value::from("x".repeat(1_000_000));
        let values = BTreeMap::from([
            ("long", long()),
            ("other", long()),
            ("table", Value::from_pairs(list.iter().map(|item| (item.clone(), item.len())))),
            ("list", Value::from(list.clone())),
            ("same", Value::from(list)),
        ]);
        engine.render(&template, &values)
    }

    #[test]
    fn no_rendering_looks_at_values_without_end() {
        let bombs = [
            "long|max",
            "long|length",
            "long|count",
            "long|int(default=0)",
            "list|max",
            "table|max",
            "list|sort(attribute='x')",
            "list|unique",
            "list|map('length')",
            "list|select('eq', 'x')",
            "list|select('in', list)",
            "list|map('max')",
            "list|reverse",
            "list|groupby('x')",
            "list|join|length",
            "table|items",
            "table|dictsort",
            "long == other",
            "long != other",
            "long < other",
            "long >= other",
            "long == other == long",
            "'y' in long",
            "'y' not in long",
            "long in other",
            "i in list",
            "long in table",
            "list == same",
            "long is eq other",
            "long is in(list)",
            "[long]|select('==', other)|list",
            "i is in(list)",
            "long is startingwith(other)",
            "long is endingwith(other)",
            "long is upper",
            "long is sameas(other)",
            "(long ~ other)|length",
            "(long + other)|length",
            "(list + same)|length",
            "long[1:]",
            "list[1:]",
            "list[::2]",
            "long[i]",
            "long[-1]",
            "range(99999)[99998]",
            "range(99999)|last",
            "table[long]|default('')",
            "{long: 1}",
            "dict(a=long)",
            "loop.changed(long)",
            "loop.cycle(long, other)",
            "long|default(other)|max",
            "(long or other) == other",
            "long == (other if i else long)",
            "range(99999)|map(attribute='x', default=long)|sort|length",
            "range(99999)|map(attribute='x', default=long)|max|length",
        ];
        for bomb in bombs {
            let source = format!("{{% for i in range(99999) %}}{{% if {bomb} %}}{{% endif %}}{{% endfor %}}");
            let begun = at_work();
            let reason = rendered(&source, 500).expect_err(bomb);
            let took = at_work() - begun;
            let words = ["it looks at more than", "make more than", "becomes longer than"];
            assert!(words.iter().any(|word| reason.contains(word)), "{bomb}: {reason}");
            // An optimized build takes a twentieth of it; without an end these take minutes and hours.
            assert!(took < Duration::from_secs(10), "{bomb}: {took:?}");
        }
    }

    #[test]
    fn ordinary_templates_look_at_what_they_like() {
        let check = |source: &str, expected: &str| assert_eq!(rendered(source, 0).as_deref(), Ok(expected), "{source}");
        check(
            "{{ long|length }} {{ list|length }} {{ list|max }} {{ long == other }} {{ 'y' in long }}",
            "1000000 20000 item 9999 true false",
        );
        check(
            "{% for item in list %}{% if item == 'item 7' or item in ['item 9'] %}{{ item }}{% endif %}{% endfor %}",
            "item 7item 9",
        );
        check(
            "{% for item in list if item is endingwith('999') %}{{ item[5:] }} {% endfor %}",
            &(0..20)
                .map(|n| match n {
                    0 => "999 ".to_owned(),
                    n => format!("{n}999 "),
                })
                .collect::<String>(),
        );
        check(
            "{% for item in list[:100] %}{% if item in list[:100] %}{{ loop.index }}{% endif %}{% endfor %}",
            &(1..101).map(|n| n.to_string()).collect::<String>(),
        );
        check("{% for item in list %}{{ table[item] ~ '' if loop.last else '' }}{% endfor %}", "10");
        check(
            "{{ list|map('upper')|sort|unique|list|length }} {{ list|select('in', ['item 3'])|join }}",
            "20000 item 3",
        );
        check(
            "{% for item in list %}{% if loop.index0 == 19999 and item|length > 3 %}{{ long|length }}{% endif %}{% endfor %}",
            "1000000",
        );
        check(
            "{% for i in range(99999) %}{% if i == 3 %}{{ long|default('y')|first }}{{ list is iterable }}{% endif %}{% endfor %}",
            "xtrue",
        );
    }
}
