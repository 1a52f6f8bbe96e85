//! The filters and tests of templates, each with a bound: those of minijinja, asked beforehand how long their result may become, and
//! looked at afterwards. minijinja bounds steps, and the engine what is written; between them a filter may make a value as long as it likes
//! (`"x"|indent(99999999999)`), in one piece that ends the process, and look at one for as long as it likes, which [`crate::looked_at`]
//! bounds. What operators make is bounded by [`crate::growth`].

use std::fmt::Write as _;

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters, functions, tests};

use crate::looked_at::{DEPTH_MAX, Looks, count, too_deep};
use crate::template::{RENDERED_BYTES_MAX, too_long};

/// Bytes of all that the filters of one text make while it is rendered.
const MADE_BYTES_MAX: usize = 64 << 20;

/// Items that a filter makes of a text, of a number, or of several lists; as many as an attempt may hand over.
const ITEMS_MAX: usize = 250_000;

/// Bytes of one item in a list: a value of minijinja.
const ITEM_BYTES: usize = 24;

/// The filter that counts all of what an operator looks at and gives it as it is; as it stands in code, where a bracket is open.
pub(crate) const LOOKS_AT: &str = ")|swarm_looks_at)";

/// The same for one part of a value.
pub(crate) const LOOKS_INTO: &str = ")|swarm_looks_into)";

/// Under which name the state of a rendering keeps the bytes that filters made.
const MADE: &str = "swarm: bytes made";

/// How long the result may become: bytes of a text, items of a list.
type Estimate = fn(&[Value]) -> usize;

/// What a filter makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Makes {
    /// A part of what it is given, or a number.
    Part,
    /// A text, of values that are written for it.
    Text,
    /// A list of the values that it is given, or of some.
    List,
    /// A list of lists, or of all that several hold.
    Lists,
}

/// Puts a bounded one in the place of every filter, and of every test that looks at more than the kind of a value.
pub(crate) fn bound(environment: &mut Environment<'static>) {
    for (name, filter, looks, makes, estimate) in bounded_filters() {
        let bounded = move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            count(state, &args, looks)?;
            apply(state, &filter, &args, makes, estimate)
        };
        environment.add_filter(name, bounded);
    }
    for (name, test, looks) in bounded_tests() {
        let bounded = move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            count(state, &args, looks)?;
            test.call(state, &args).map(|holds| holds.is_true())
        };
        environment.add_test(name, bounded);
    }
    let counting = |looks| {
        move |state: &mut State<'_, '_>, value: Value| count(state, std::slice::from_ref(&value), looks).map(|()| value)
    };
    environment.add_filter("swarm_looks_at", counting(Looks::Through));
    environment.add_filter("swarm_looks_into", counting(Looks::Along));
    // What is assigned to may hold itself.
    environment.remove_global("namespace");
    let dict = Value::from_function(functions::dict);
    let table = move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        apply(state, &dict, &args.into_values(), Makes::Lists, |_| 0)
    };
    environment.add_function("dict", table);
}

/// Name, what minijinja has under it, how far it looks, what it makes, and how much.
#[rustfmt::skip]
fn bounded_filters() -> [(&'static str, Value, Looks, Makes, Estimate); 47] {
    use Looks::{Along, Briefly, Each, EachThrough, Sorting, Through};
    use Makes::{List, Lists, Part, Text};
    let nothing: Estimate = |_| 0;
    [
        ("default", Value::from_function(filters::default), Briefly, Part, nothing),
        ("d", Value::from_function(filters::default), Briefly, Part, nothing),
        ("bool", Value::from_function(filters::bool), Briefly, Part, nothing),
        ("abs", Value::from_function(filters::abs), Briefly, Part, nothing),
        ("round", Value::from_function(filters::round), Briefly, Part, nothing),
        ("first", Value::from_function(filters::first), Briefly, Part, nothing),
        ("last", Value::from_function(filters::last), Along, Part, nothing),
        ("length", Value::from_function(filters::length), Along, Part, nothing),
        ("count", Value::from_function(filters::length), Along, Part, nothing),
        ("int", Value::from_function(filters::int), Along, Part, nothing),
        ("float", Value::from_function(filters::float), Along, Part, nothing),
        ("attr", Value::from_function(filters::attr), Along, Part, nothing),
        ("min", Value::from_function(filters::min), EachThrough, Part, nothing),
        ("max", Value::from_function(filters::max), EachThrough, Part, nothing),
        ("safe", Value::from_function(filters::safe), Through, Text, as_given),
        ("escape", Value::from_function(filters::escape), Through, Text, as_given),
        ("e", Value::from_function(filters::escape), Through, Text, as_given),
        ("lower", Value::from_function(filters::lower), Through, Text, as_given),
        ("upper", Value::from_function(filters::upper), Through, Text, as_given),
        ("title", Value::from_function(filters::title), Through, Text, as_given),
        ("capitalize", Value::from_function(filters::capitalize), Through, Text, as_given),
        ("trim", Value::from_function(filters::trim), Through, Text, as_given),
        ("string", Value::from_function(filters::string), Through, Text, as_given),
        ("replace", Value::from_function(filters::replace), Through, Text, replaced),
        ("join", Value::from_function(filters::join), EachThrough, Text, joined),
        ("indent", Value::from_function(filters::indent), Through, Text, indented),
        ("format", Value::from_function(filters::format), Through, Text, formatted),
        ("sum", Value::from_function(filters::sum), Through, Text, as_given),
        ("pprint", Value::from_function(printed), Through, Text, as_given),
        ("lines", Value::from_function(filters::lines), Along, List, lines),
        ("split", Value::from_function(filters::split), Along, List, pieces),
        ("reverse", Value::from_function(filters::reverse), Along, List, as_given),
        ("list", Value::from_function(filters::list), Each, List, items),
        ("sort", Value::from_function(filters::sort), Sorting, List, items),
        ("unique", Value::from_function(filters::unique), Sorting, List, items),
        ("select", Value::from_function(filters::select), Each, List, items),
        ("reject", Value::from_function(filters::reject), Each, List, items),
        ("selectattr", Value::from_function(filters::selectattr), Each, List, items),
        ("rejectattr", Value::from_function(filters::rejectattr), Each, List, items),
        ("map", Value::from_function(filters::map), Each, List, items),
        ("dictsort", Value::from_function(filters::dictsort), Sorting, Lists, items),
        ("items", Value::from_function(filters::items), Each, Lists, items),
        ("groupby", Value::from_function(filters::groupby), Sorting, Lists, items),
        ("batch", Value::from_function(filters::batch), Each, Lists, counted),
        ("slice", Value::from_function(filters::slice), Each, Lists, counted),
        ("chain", Value::from_function(filters::chain), Each, Lists, together),
        ("zip", Value::from_function(filters::zip), Each, Lists, together),
    ]
}

/// The tests that look at more than the kind of a value.
fn bounded_tests() -> impl Iterator<Item = (&'static str, Value, Looks)> {
    let comparing: [(&[&'static str], Value); 8] = [
        (&["eq", "equalto", "=="], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
        (&["in"], Value::from_function(tests::is_in)),
        (&["sameas"], Value::from_function(tests::is_sameas)),
    ];
    let of_texts: [(&[&'static str], Value); 4] = [
        (&["startingwith"], Value::from_function(tests::is_startingwith)),
        (&["endingwith"], Value::from_function(tests::is_endingwith)),
        (&["lower"], Value::from_function(tests::is_lower)),
        (&["upper"], Value::from_function(tests::is_upper)),
    ];
    let named = |(names, test): (&'static [&'static str], Value), looks| {
        names.iter().map(move |name| (*name, test.clone(), looks))
    };
    let comparing = comparing.into_iter().flat_map(move |test| named(test, Looks::Through));
    comparing.chain(of_texts.into_iter().flat_map(move |test| named(test, Looks::Along)))
}

fn apply(
    state: &mut State<'_, '_>,
    filter: &Value,
    args: &[Value],
    makes: Makes,
    estimate: Estimate,
) -> Result<Value, Error> {
    if makes == Makes::Part {
        return filter.call(state, args);
    }
    if makes == Makes::Text {
        // A text is as long as it is; whatever else is written for the filter, all of it.
        args.iter().filter(|arg| arg.as_str().is_none()).try_for_each(|arg| weigh(arg).map(drop))?;
    }
    let most = if makes == Makes::Text { RENDERED_BYTES_MAX } else { ITEMS_MAX };
    if estimate(args) > most {
        return Err(too_long());
    }
    let made = filter.call(state, args)?;
    let (made, bytes) = match (makes, made.as_str()) {
        (_, Some(text)) if text.len() > RENDERED_BYTES_MAX => return Err(too_long()),
        (_, Some(text)) => (made.clone(), text.len()),
        (Makes::Lists, None) => {
            let values = weigh(&made)?;
            (as_deep_as_it_looks(state, made)?, values.saturating_mul(ITEM_BYTES))
        }
        (_, None) => {
            let items = made.len().unwrap_or(0);
            (made, items.saturating_mul(ITEM_BYTES))
        }
    };
    let before = state.get_temp(MADE).and_then(|made| made.as_usize()).unwrap_or(0);
    let all = before.saturating_add(bytes);
    if all > MADE_BYTES_MAX {
        let message = format!("its filters make more than {MADE_BYTES_MAX} bytes");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    state.set_temp(MADE, Value::from(all));
    Ok(made)
}

/// The same values, held by themselves: a chain of chains is deeper than what it gives.
fn as_deep_as_it_looks(state: &mut State<'_, '_>, made: Value) -> Result<Value, Error> {
    match made.kind() {
        ValueKind::Seq | ValueKind::Iterable => Ok(Value::from(made.try_iter()?.collect::<Vec<Value>>())),
        ValueKind::Map => Value::from_function(functions::dict).call(state, &[made]),
        _ => Ok(made),
    }
}

/// How many values a value is; an error where it would be longer, written out, than a text may be, or lies too deep.
fn weigh(value: &Value) -> Result<usize, Error> {
    let (mut left, mut values) = (RENDERED_BYTES_MAX, 0);
    weigh_within(value, (&mut left, &mut values), 0)?;
    Ok(values)
}

fn weigh_within(value: &Value, (left, values): (&mut usize, &mut usize), depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    *values += 1;
    // Anything but a text is short, and no value is shorter than what stands between two of them.
    let own = value.as_str().map_or(1, str::len).saturating_add(1);
    *left = left.checked_sub(own).ok_or_else(too_long)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter()?.try_for_each(|item| weigh_within(&item, (left, values), depth + 1))
        }
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            weigh_within(&key, (left, values), depth + 1)?;
            weigh_within(&value.get_item(&key)?, (left, values), depth + 1)
        }),
        _ => Ok(()),
    }
}

/// What a value is as a text, which was weighed.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Arguments behind the first, those with a name among them.
fn options(args: &[Value]) -> Vec<Value> {
    let named = |arg: &Value| match arg.is_kwargs() {
        true => {
            arg.try_iter().map(|names| names.filter_map(|name| arg.get_item(&name).ok()).collect()).unwrap_or_default()
        }
        false => vec![arg.clone()],
    };
    args.iter().skip(1).flat_map(named).collect()
}

/// The largest number among the options.
fn largest(args: &[Value]) -> Option<usize> {
    options(args).iter().filter_map(Value::as_usize).max()
}

/// The length of the longest text among the options.
fn longest(args: &[Value]) -> usize {
    options(args).iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0)
}

/// About as long as it is given: what it makes is looked at afterwards.
fn as_given(args: &[Value]) -> usize {
    args.first().and_then(Value::as_str).map_or(0, str::len).min(RENDERED_BYTES_MAX + 1)
}

fn replaced(args: &[Value]) -> usize {
    let [value, from, to] = [0, 1, 2].map(|at| args.get(at).map(text).unwrap_or_default());
    let growth = to.len().saturating_mul(value.matches(from.as_str()).count());
    value.len().saturating_add(growth)
}

fn joined(args: &[Value]) -> usize {
    // Not every list knows how long it is.
    let items = |value: &Value| value.as_str().map_or_else(|| weigh(value).unwrap_or(usize::MAX), str::len);
    args.first().map_or(0, items).saturating_mul(longest(args))
}

fn indented(args: &[Value]) -> usize {
    let value = args.first().map(text).unwrap_or_default();
    let lines = value.matches('\n').count() + 1;
    largest(args).unwrap_or(4).saturating_mul(lines).saturating_add(value.len())
}

/// Each place takes one value, and as many blanks or digits as a number in the text says, or one of the values (`%*d`).
fn formatted(args: &[Value]) -> usize {
    let Some(format) = args.first().and_then(Value::as_str) else { return 0 };
    let numbers = format.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let said = numbers.fold(0_usize, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(usize::MAX)));
    let value = options(args).iter().map(|value| text(value).len()).max().unwrap_or(0).max(32);
    let number = if format.contains('*') { largest(args).unwrap_or(0) } else { 0 };
    let places = format.matches('%').count();
    places.saturating_mul(value.saturating_add(number)).saturating_add(said).saturating_add(format.len())
}

/// As minijinja's own, but no longer than a text may be.
fn printed(value: &Value) -> Result<String, Error> {
    struct Short(String);
    impl std::fmt::Write for Short {
        fn write_str(&mut self, more: &str) -> std::fmt::Result {
            if self.0.len() + more.len() > RENDERED_BYTES_MAX {
                return Err(std::fmt::Error);
            }
            self.0.push_str(more);
            Ok(())
        }
    }
    let mut short = Short(String::new());
    write!(short, "{value:#?}").map_err(|_| too_long())?;
    Ok(short.0)
}

/// The items that a filter makes of a text, character by character; a list has them already.
fn items(args: &[Value]) -> usize {
    args.first().and_then(Value::as_str).map_or(0, str::len)
}

fn lines(args: &[Value]) -> usize {
    args.first().and_then(Value::as_str).map_or(0, |text| text.matches('\n').count() + 1)
}

/// Pieces of a text between what is named, or blanks.
fn pieces(args: &[Value]) -> usize {
    let Some(value) = args.first().and_then(Value::as_str) else { return 0 };
    match args.get(1).and_then(Value::as_str) {
        Some(between) => value.matches(between).count() + 1,
        None => value.split_whitespace().count(),
    }
}

/// As many lists, or blanks in the last of them, as a number says.
fn counted(args: &[Value]) -> usize {
    largest(args).unwrap_or(0).max(items(args))
}

fn together(args: &[Value]) -> usize {
    let lengths = args.iter().map(|arg| arg.as_str().map_or_else(|| arg.len().unwrap_or(0), str::len));
    lengths.fold(0, usize::saturating_add)
}
