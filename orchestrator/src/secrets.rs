//! Values that policies let through and that nobody is to read afterwards (`[sandbox.NAME] secrets`): whatever workers
//! print or tell is masked before it reaches a log, an event or a screen.
//!
//! Comes in: the values of a run's secrets, once. Goes out: texts and streams in which `***` stands wherever one of them
//! stood, as it is or in a form that programs print by themselves: base64 (also inside a longer text, as in an
//! `Authorization` header), percent-encoding, hexadecimal, the escapes of JSON, the lines of a value of several.
//!
//! A secret is found through what a screen does not show: with colours or invisible characters between its letters it would
//! stand in plain once they are taken out ([`beheld`]).
//!
//! A mask is a guard against accidents. A program that means to show a secret can turn it round; what keeps it inside then
//! is the cage's network, not this room.

/// What a screen shows of a text.
mod beheld;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use beheld::{Beheld, Eye, Reading};

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// The shortest value that can be masked, in bytes: shorter ones stand in every other word.
pub const SECRET_BYTES_MIN: usize = 4;

/// The shortest form of a value that is looked for, in bytes; shorter pieces are found by chance.
const FORM_BYTES_MIN: usize = 6;

/// The shortest line of a value of several that is looked for by itself, in bytes: keys have longer ones, and `}` is none.
const LINE_BYTES_MIN: usize = 8;

/// The most bytes that are held back because nobody sees them and they may stand in the midst of a secret: a few hundred colours.
const UNSEEN_BYTES_MAX: usize = 4 << 10;

/// How much of a stream is looked at at once, in bytes.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// What becomes of numbers that hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// They become a text.
    Masked,
    /// They stay: whoever reads the value needs them as what they are.
    Kept,
}

/// Every mask that somebody holds, for [`in_all_masks`]. A process has one standard error, so there is one list of them.
static HELD: Mutex<Vec<Weak<Forms>>> = Mutex::new(Vec::new());

/// The secrets of a run. A clone is the same mask.
#[derive(Clone, Default)]
pub struct Secrets {
    /// `None` where there is nothing to mask, which then costs nothing.
    forms: Option<Arc<Forms>>,
}

struct Forms {
    finder: AhoCorasick,
    /// Each form, in the finder's order, with the name of its variable.
    all: Vec<(Vec<u8>, String)>,
    longest: usize,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.forms.is_some() { "Secrets(***)" } else { "Secrets()" })
    }
}

impl Secrets {
    /// A mask for values by the names of their variables. Values shorter than [`SECRET_BYTES_MIN`] are not looked for:
    /// policies with such are refused.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut all: Vec<(Vec<u8>, String)> = Vec::new();
        for (name, value) in values.into_iter().filter(|(_, value)| value.len() >= SECRET_BYTES_MIN) {
            all.extend(forms(value).into_iter().map(|form| (form, name.to_owned())));
        }
        all.sort();
        all.dedup_by(|next, kept| next.0 == kept.0);
        let Some(longest) = all.iter().map(|(form, _)| form.len()).max() else { return Secrets::default() };
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            // The kind that is taken for few patterns is built in the square of one that repeats itself.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(all.iter().map(|(form, _)| form))
            .expect("variables are smaller than the finder's bound of 2 GiB");
        let forms = Arc::new(Forms { finder, all, longest });
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|forms| forms.strong_count() > 0);
        held.push(Arc::downgrade(&forms));
        Secrets { forms: Some(forms) }
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.forms.is_none()
    }

    /// The name of a secret that stands in these bytes.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let forms = self.forms.as_deref()?;
        let first = forms.finder.find_overlapping_iter(bytes).next()?;
        Some(&forms.all[first.pattern().as_usize()].1)
    }

    /// The name of a secret that stands in these bytes, and not in what was there `before`.
    pub fn new_in(&self, bytes: &[u8], before: &[u8]) -> Option<&str> {
        let names_in = |bytes| -> BTreeSet<&str> {
            let forms = self.forms.as_deref().into_iter();
            let found = forms.flat_map(|forms| {
                forms.finder.find_overlapping_iter(bytes).map(|it| &forms.all[it.pattern().as_usize()].1)
            });
            found.map(String::as_str).collect()
        };
        let now = names_in(bytes);
        if now.is_empty() {
            return None;
        }
        let before = names_in(before);
        now.into_iter().find(|name| !before.contains(name))
    }

    /// The name of a secret that stands in a key or text of `value`.
    pub fn found_in_value(&self, value: &Value) -> Option<&str> {
        match value {
            Value::String(text) => self.found_in(text.as_bytes()),
            Value::Array(items) => items.iter().find_map(|item| self.found_in_value(item)),
            Value::Object(entries) => entries
                .iter()
                .find_map(|(key, item)| self.found_in(key.as_bytes()).or_else(|| self.found_in_value(item))),
            // A secret of digits can be handed over as a number.
            Value::Number(number) => self.found_in(number.to_string().as_bytes()),
            Value::Null | Value::Bool(_) => None,
        }
    }

    /// Where secrets stand in these bytes, from the first byte to behind the last, by the first; they may overlap.
    pub fn places(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        self.forms.as_deref().map_or(vec![], |forms| forms.places(bytes, &views(Eye::default(), bytes)))
    }

    /// From where on these bytes may go on to a secret; their length where they cannot.
    pub fn open_from(&self, bytes: &[u8]) -> usize {
        let open = |forms: &Forms| forms.first_open(bytes, &views(Eye::default(), bytes));
        self.forms.as_deref().map_or(bytes.len(), open)
    }

    /// A text without the secrets in it.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let places = self.places(text.as_bytes());
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = Vec::with_capacity(text.len());
        let covered = mask(text.as_bytes(), &places, (0, text.len()), &mut masked);
        masked.extend_from_slice(&text.as_bytes()[covered..]);
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// The same, in place; says whether there was anything to mask.
    pub fn mask(&self, text: &mut String) -> bool {
        let Cow::Owned(masked) = self.text(text) else { return false };
        *text = masked;
        true
    }

    /// Masks all texts of a value in place, names and numbers included: a secret of digits can be handed over as a number, and
    /// becomes a text. Says whether there was anything to mask.
    pub fn mask_value(&self, value: &mut Value) -> bool {
        self.mask_value_by(value, Numbers::Masked, &|text| self.mask(text))
    }

    /// The same by what masks a text, which says whether there was anything to mask.
    pub fn mask_value_by(&self, value: &mut Value, numbers: Numbers, text: &dyn Fn(&mut String) -> bool) -> bool {
        match value {
            Value::String(words) => text(words),
            Value::Array(items) => {
                items.iter_mut().fold(false, |found, item| self.mask_value_by(item, numbers, text) | found)
            }
            Value::Object(map) => self.mask_map_by(map, numbers, text),
            Value::Number(number)
                if numbers == Numbers::Masked && self.found_in(number.to_string().as_bytes()).is_some() =>
            {
                *value = MASK.into();
                true
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The same of all names and values of a table, whose order stays.
    pub fn mask_map_by(
        &self,
        map: &mut Map<String, Value>,
        numbers: Numbers,
        text: &dyn Fn(&mut String) -> bool,
    ) -> bool {
        let mut found = map.values_mut().fold(false, |found, item| self.mask_value_by(item, numbers, text) | found);
        if map.keys().any(|name| text(&mut name.clone())) {
            let renamed = std::mem::take(map).into_iter().map(|(mut name, item)| {
                text(&mut name);
                (name, item)
            });
            *map = renamed.collect();
            found = true;
        }
        found
    }

    /// A mask for bytes that come in pieces of any size.
    pub fn stream(&self) -> MaskedStream {
        MaskedStream { secrets: self.clone(), held: Vec::new(), covered: 0, eye: Eye::default() }
    }
}

/// A text without any secret that a mask somewhere in this process knows: for what libraries say of their own doings, who are
/// handed no mask.
pub fn in_all_masks(mut text: String) -> String {
    let held: Vec<_> = {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter_map(Weak::upgrade).collect()
    };
    held.into_iter().for_each(|forms| {
        Secrets { forms: Some(forms) }.mask(&mut text);
    });
    text
}

/// One stream of output. Bytes that may be the beginning of a secret are held back until it is known.
#[derive(Debug)]
pub struct MaskedStream {
    secrets: Secrets,
    /// What is not passed on yet.
    held: Vec<u8>,
    /// How many bytes at the front of `held` belong to a secret whose mask has been passed on.
    covered: usize,
    /// Where in a sequence the front of `held` stands.
    eye: Eye,
}

impl MaskedStream {
    /// What may be shown now that these bytes have come.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let secrets = self.secrets.clone();
        let Some(forms) = secrets.forms.as_deref() else { return bytes.to_vec() };
        let mut shown = Vec::with_capacity(bytes.len());
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            self.held.extend_from_slice(piece);
            // Of a letter that is not whole nobody knows whether it is seen.
            let whole = &self.held[..beheld::whole_letters(&self.held)];
            let views = views(self.eye, whole);
            let safe = forms.first_open(whole, &views);
            self.pass(forms, &views, safe, &mut shown);
        }
        shown
    }

    /// The rest, when nothing more will come.
    pub fn finish(&mut self) -> Vec<u8> {
        let secrets = self.secrets.clone();
        let Some(forms) = secrets.forms.as_deref() else { return Vec::new() };
        let mut shown = Vec::with_capacity(self.held.len());
        self.pass(forms, &views(self.eye, &self.held), self.held.len(), &mut shown);
        shown
    }

    /// Passes on the first `safe` bytes of what is held.
    fn pass(&mut self, forms: &Forms, views: &[Beheld], safe: usize, shown: &mut Vec<u8>) {
        let covered = mask(&self.held, &forms.places(&self.held, views), (self.covered, safe), shown);
        if covered < safe {
            shown.extend_from_slice(&self.held[covered..safe]);
        }
        self.covered = covered.saturating_sub(safe);
        self.eye.pass(&self.held[..safe]);
        self.held.drain(..safe);
    }
}

/// Shows what stands from `covered` on and before those of the places that begin before `safe`, and a mask for each. Forms that
/// overlap are masked once, from the first byte to the last. Gives what is covered now.
fn mask(bytes: &[u8], places: &[(usize, usize)], (mut covered, safe): (usize, usize), shown: &mut Vec<u8>) -> usize {
    for &(start, end) in places.iter().take_while(|(start, _)| *start < safe) {
        if start >= covered {
            shown.extend_from_slice(&bytes[covered..start]);
            shown.extend_from_slice(MASK.as_bytes());
        }
        covered = covered.max(end);
    }
    covered
}

/// What is seen of a text in every reading, where that is less than all of it.
fn views(mut eye: Eye, bytes: &[u8]) -> Vec<Beheld> {
    match eye.is_outside() && beheld::is_plain(bytes) {
        true => vec![],
        false => [Reading::Letters, Reading::Sequences].map(|reading| eye.behold(bytes, reading)).into(),
    }
}

impl Forms {
    /// Where forms stand, as they are or as they are seen, first and behind the last byte, by the first; they may overlap.
    fn places(&self, bytes: &[u8], views: &[Beheld]) -> Vec<(usize, usize)> {
        let found = |bytes: &[u8]| {
            self.finder.find_overlapping_iter(bytes).map(|found| (found.start(), found.end())).collect::<Vec<_>>()
        };
        let mut places = found(bytes);
        for view in views {
            places.extend(found(&view.bytes).into_iter().map(|range| view.range(range)));
        }
        places.sort_unstable();
        places
    }

    /// The first place from which on all bytes, or all that are seen of them, could become a form if more came; the length where
    /// there is none.
    fn first_open(&self, bytes: &[u8], views: &[Beheld]) -> usize {
        let seen = views.iter().map(|view| view.place(self.open_in(&view.bytes), bytes.len())).min();
        let bound = bytes.len().saturating_sub(self.longest + UNSEEN_BYTES_MAX);
        self.open_in(bytes).min(seen.unwrap_or(bytes.len()).max(bound))
    }

    /// The first place from which on all bytes could become a form if more came; the length where there is none.
    fn open_in(&self, bytes: &[u8]) -> usize {
        let window = bytes.len().saturating_sub(self.longest - 1);
        let open = |at: &usize| {
            let tail = &bytes[*at..];
            // The forms are sorted: those that start with `tail` follow the place where it would stand itself.
            let next = self.all.partition_point(|(form, _)| form.as_slice() <= tail);
            self.all.get(next).is_some_and(|(form, _)| form.starts_with(tail))
        };
        (window..bytes.len()).find(open).unwrap_or(bytes.len())
    }
}

/// What programs make of a value by themselves, the value first.
fn forms(value: &str) -> BTreeSet<Vec<u8>> {
    let whole = [value, value.trim()].into_iter().filter(|text| text.len() >= SECRET_BYTES_MIN);
    let mut all: BTreeSet<Vec<u8>> = whole.map(|text| text.as_bytes().to_vec()).collect();
    let mut add = |form: String| {
        if form.len() >= FORM_BYTES_MIN {
            all.insert(form.into_bytes());
        }
    };
    let json = serde_json::to_string(value).expect("a string");
    add(json[1..json.len() - 1].to_owned());
    add(value.replace('\'', "'\\''"));
    add(value.replace('\n', "\r\n"));
    add(STANDARD.encode(value));
    for before in 0..3 {
        add(inner_base64(&STANDARD_NO_PAD, value, before));
        add(inner_base64(&URL_SAFE_NO_PAD, value, before));
    }
    for kept in ["-_.~", "-_.!~*'()", "-_.*"] {
        let upper = percent_encoded(value, kept);
        add(upper.replace("%20", "+"));
        add(percent_encoded_lower(&upper));
        add(upper);
    }
    let hex = value.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    add(hex.to_uppercase());
    add(hex);
    value.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN).for_each(|line| add(line.to_owned()));
    all
}

/// The part of the base64 text that is the same whatever stands around `value`, when `before` bytes more than a multiple of
/// three come first: 2 or 3 characters in front, and one behind, mix with their neighbours.
fn inner_base64(engine: &impl base64::Engine, value: &str, before: usize) -> String {
    let bytes: Vec<u8> = std::iter::repeat_n(0, before).chain(value.bytes()).collect();
    let text = engine.encode(&bytes);
    let front = [0, 2, 3][before];
    let behind = usize::from(!bytes.len().is_multiple_of(3));
    text.get(front..text.len().saturating_sub(behind)).unwrap_or_default().to_owned()
}

/// Percent-encoding with capital digits, in which letters, digits and `kept` stay.
///
/// Source: RFC 3986, section 2.
fn percent_encoded(value: &str, kept: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match char::from(byte) {
            plain if byte.is_ascii_alphanumeric() || kept.contains(plain) => text.push(plain),
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

/// The same with small digits.
fn percent_encoded_lower(upper: &str) -> String {
    let mut digits = 0;
    let lowered = upper.chars().map(|letter| match letter {
        '%' => {
            digits = 2;
            letter
        }
        _ if digits > 0 => {
            digits -= 1;
            letter.to_ascii_lowercase()
        }
        _ => letter,
    });
    lowered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &str = "npm_a?b/c+d e&f='9'";

    fn secrets() -> Secrets {
        Secrets::new([("TOKEN", TOKEN), ("KEY", "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n")])
    }

    fn streamed(secrets: &Secrets, pieces: &[&[u8]]) -> String {
        let mut stream = secrets.stream();
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| stream.take(piece)).collect();
        shown.extend(stream.finish());
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn a_value_is_masked_in_every_form_that_programs_print() {
        let check = |text: String| assert_eq!(secrets().text(&format!("a {text} b")), "a *** b", "{text}");
        check(TOKEN.to_owned());
        check(STANDARD.encode(TOKEN));
        check("npm_a%3Fb%2Fc%2Bd%20e%26f%3D%279%27".to_owned());
        check("npm_a%3fb%2fc%2bd%20e%26f%3d%279%27".to_owned());
        check("npm_a%3Fb%2Fc%2Bd+e%26f%3D%279%27".to_owned());
        check("6e706d5f613f622f632b64206526663d273927".to_owned());
        check("MIIEvQIBADANBg".to_owned());
        check(r"-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n".to_owned());
    }

    #[test]
    fn a_value_inside_a_longer_base64_text_is_masked() {
        for user in ["", "x", "me", "you"] {
            let header = STANDARD.encode(format!("{user}:{TOKEN}:{user}"));
            let masked = secrets().text(&header).into_owned();
            assert!(masked.contains(MASK) && masked.len() <= user.len() * 3 + 3 + 12, "{user}: {masked}");
        }
    }

    #[test]
    fn a_value_in_json_is_masked_as_text_as_name_and_as_number() {
        let secrets = Secrets::new([("TOKEN", TOKEN), ("PIN", "90210777")]);
        let mut value = serde_json::json!({ "a": [TOKEN, 90210777, 1], TOKEN: { "n": 1.5 }, "pin": "is 90210777!" });
        assert!(secrets.mask_value(&mut value));
        let expected = serde_json::json!({ "a": ["***", "***", 1], "***": { "n": 1.5 }, "pin": "is ***!" });
        assert_eq!(value, expected);
        assert!(!secrets.mask_value(&mut value));
        let mut number = serde_json::json!([90210777]);
        assert!(!secrets.mask_value_by(&mut number, Numbers::Kept, &|_| false));
    }

    #[test]
    fn a_value_that_comes_in_pieces_is_masked() {
        let text = format!("say {TOKEN}, again {TOKEN}!");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(streamed(&secrets(), &bytes), "say ***, again ***!");
        assert_eq!(streamed(&secrets(), &[b"npm_a?b"]), "npm_a?b", "only its beginning");
    }

    #[test]
    fn a_value_with_what_nobody_sees_between_its_letters_is_masked() {
        let marks = [
            "\u{200b}",
            "\u{feff}",
            "\u{ad}",
            "\u{202e}",
            "\u{e0061}",
            "\u{1b}[0m",
            "\u{1b}[01;31m\u{1b}[K",
            "\u{9b}0m",
            "\u{1b}]0;x\u{7}",
            "\0",
            "\u{8}",
            "\u{7}",
            "\u{7f}",
            "\r",
            "\u{1b}",
        ];
        for mark in marks {
            let all: String = TOKEN.chars().flat_map(|letter| [letter.to_string(), mark.to_owned()]).collect();
            let one = format!("{}{mark}{}{mark}", &TOKEN[..5], &TOKEN[5..]);
            for text in [all, one] {
                let expected = format!("a ***{mark} b");
                assert_eq!(secrets().text(&format!("a {text} b")), expected, "{mark:?}");
                for size in [1, 2, 3, 7] {
                    let bytes = format!("a {text} b");
                    let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(size).collect();
                    assert_eq!(streamed(&secrets(), &pieces), expected, "{mark:?} by {size}");
                }
            }
        }
    }

    #[test]
    fn what_nobody_sees_is_not_held_back_without_end() {
        let mut stream = secrets().stream();
        let mut held = 4;
        stream.take(b"npm_");
        for _ in 0..1000 {
            held = held + 1000 - stream.take(&[0; 1000]).len();
            assert!(held <= 6000, "{held}");
        }
        let begun = std::time::Instant::now();
        let (noise, mut stream) = (b"n\x1b[0m".repeat(1 << 20), secrets().stream());
        noise.chunks(4096).for_each(|piece| drop(stream.take(piece)));
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }

    #[test]
    fn only_what_may_become_a_secret_is_held_back() {
        let mut stream = secrets().stream();
        assert_eq!(stream.take(b"50 % done, then np"), b"50 % done, then ");
        assert_eq!(stream.take(b"x"), b"npx");
        assert_eq!(Secrets::default().stream().take(b"np"), b"np");
    }

    #[test]
    fn a_secret_that_stood_there_before_is_no_new_one() {
        let secrets = Secrets::new([("A", "hunter22"), ("B", "correct-horse")]);
        let new = |bytes: &str, before: &str| secrets.new_in(bytes.as_bytes(), before.as_bytes()).map(str::to_owned);
        assert_eq!(new("pass=hunter22", "pass=").as_deref(), Some("A"));
        assert_eq!(new("pass=hunter22\nmore", "pass=hunter22"), None);
        assert_eq!(new("pass=hunter22 correct-horse", "pass=hunter22").as_deref(), Some("B"));
        assert_eq!(new("nothing", "hunter22"), None);
    }

    #[test]
    fn values_that_overlap_are_masked_as_one() {
        let secrets = Secrets::new([("A", "abcdef"), ("B", "efghij"), ("C", "aaaa")]);
        assert_eq!(secrets.text("x abcdefghij y"), "x *** y");
        let piece = [b'a'; 1000];
        assert_eq!(streamed(&secrets, &[&piece, &piece, b"b"]), "***b");
    }

    #[test]
    fn the_longest_value_of_equal_letters_is_masked_without_delay() {
        let value = "k".repeat(16 << 10);
        let began = std::time::Instant::now();
        let secrets = Secrets::new([("K", value.as_str())]);
        assert_eq!(secrets.text(&format!("a {value} b")), "a *** b");
        assert!(began.elapsed().as_secs() < 30, "it took minutes once");
    }

    #[test]
    fn what_nobody_masks_by_itself_passes_every_mask_that_is_held() {
        let one = Secrets::new([("A", "held-by-one")]);
        let other = Secrets::new([("B", "held-by-the-other")]);
        let told = || in_all_masks("held-by-one held-by-the-other".to_owned());
        assert_eq!(told(), "*** ***");
        drop(other);
        assert_eq!(told(), "*** held-by-the-other", "nobody keeps what nobody holds");
        drop(one);
    }

    #[test]
    fn a_secret_in_a_value_is_named() {
        let found = |value: Value| secrets().found_in_value(&value).map(str::to_owned);
        assert_eq!(found(serde_json::json!({"x": [1, TOKEN]})).as_deref(), Some("TOKEN"));
        assert_eq!(found(serde_json::json!({TOKEN: true})).as_deref(), Some("TOKEN"));
        assert_eq!(found(serde_json::json!({"x": "TOKEN"})), None);
        assert!(!format!("{:?}", secrets()).contains("npm"));
    }

    proptest! {
        #[test]
        fn no_piece_shows_a_secret_and_nothing_else_is_lost(
            values in prop::collection::vec("[ab]{4,9}", 1..4), text in "[abc]{0,60}", cuts in prop::collection::vec(0..60_usize, 0..6)
        ) {
            let secrets = Secrets::new(values.iter().map(|value| ("X", value.as_str())));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let mut from = 0;
            let pieces: Vec<&[u8]> = cuts.iter().map(|&cut| &text.as_bytes()[std::mem::replace(&mut from, cut)..cut]).collect();
            let shown = streamed(&secrets, &pieces);
            prop_assert_eq!(&shown, &*secrets.text(&text));
            prop_assert!(values.iter().all(|value| !shown.contains(value)));
            prop_assert_eq!(shown.contains('c'), text.contains('c'));
            if !values.iter().any(|value| text.contains(value)) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}
