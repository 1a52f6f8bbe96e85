//! An answer without the keys that were used to get it: what a provider, or a proxy in between, repeats of them is masked
//! before a worker, a transcript, a recording or a log has it.
//!
//! Comes in: the bytes of an answer, cut anywhere. Goes out: the same bytes later, masked. A key may stand in them as it is (or
//! in one of the forms that [`Secrets`] knows), cut in two by the network; or it may be spelled by texts of several events,
//! one of which ends with its beginning. So the texts at one place of all events are read as one text; an event is held back
//! while what its texts end with may go on to a key. Only an answer in which each event is a line of JSON is read so: any
//! other has what stands in one piece masked. Like every mask, this is a guard against accidents.

use std::collections::HashMap;

use serde_json::Value;

use crate::secrets::{MASK, MaskedStream, Secrets};

/// As much of a key's beginning is not held back, in bytes: an answer that ends with a letter or two goes on at once, and
/// what all keys of a provider begin with is no secret.
const HELD_BYTES_MIN: usize = 4;
/// So many lines of other events are held back behind one whose text may go on to a key.
const HELD_LINES_MAX: usize = 64;
/// Texts that may go on to a key at a time; with more, none is remembered.
const PLACES_MAX: usize = 1024;
/// A longer line is passed on as it is, in bytes: no decoder reads it.
const LINE_BYTES_MAX: usize = 48 << 20;

/// One answer on its way.
#[derive(Debug)]
pub struct Echo {
    secrets: Secrets,
    bytes: MaskedStream,
    /// `None` for an answer in one piece.
    events: Option<Events>,
}

/// The events of an answer.
#[derive(Debug, Default)]
struct Events {
    /// The open line.
    line: Vec<u8>,
    /// Lines that are held back, in order.
    held: Vec<Line>,
    /// Lines that were passed on.
    passed: usize,
    /// By place: what its text ends with that may go on to a key.
    ends: HashMap<String, End>,
}

/// A line, and its JSON where it is an event.
#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    event: Option<Event>,
}

#[derive(Debug)]
struct Event {
    /// What stands before the JSON, and behind it.
    around: (Vec<u8>, Vec<u8>),
    json: Value,
    is_changed: bool,
}

/// The end of a text that several events spell.
#[derive(Debug, Default)]
struct End {
    text: String,
    /// How many bytes at its front are masked already: a longer key may go on behind a shorter one.
    covered: usize,
    /// Which lines have a part of it, counted over the whole answer, and where that begins in it. In order.
    parts: Vec<(usize, usize)>,
}

impl Echo {
    /// For an answer that comes as events, a line each.
    pub fn of_stream(secrets: Secrets) -> Self {
        Echo { bytes: secrets.stream(), events: Some(Events::default()), secrets }
    }

    /// For an answer in one piece.
    pub fn of_whole(secrets: Secrets) -> Self {
        Echo { bytes: secrets.stream(), events: None, secrets }
    }

    /// What may be passed on now that these bytes have come.
    pub fn take(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.secrets.is_empty() {
            return bytes;
        }
        // Events first: a mask that stands for a shorter key would hide that a longer one goes on behind it.
        let heard = match &mut self.events {
            Some(events) => events.take(&bytes, &self.secrets),
            None => bytes,
        };
        self.bytes.take(&heard)
    }

    /// The rest, at the end of the answer.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = self.events.as_mut().map(|events| events.finish(&self.secrets)).unwrap_or_default();
        let mut masked = self.bytes.take(&rest);
        masked.extend(self.bytes.finish());
        masked
    }
}

impl Events {
    fn take(&mut self, bytes: &[u8], secrets: &Secrets) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LINE_BYTES_MAX {
                let line = std::mem::take(&mut self.line);
                self.hear(line, secrets);
                let free = self.free();
                out.extend(self.pass(free));
            }
        }
        out
    }

    fn finish(&mut self, secrets: &Secrets) -> Vec<u8> {
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            self.hear(last, secrets);
        }
        self.pass(usize::MAX)
    }

    /// Reads a line, and masks what it completes.
    fn hear(&mut self, text: Vec<u8>, secrets: &Secrets) {
        let number = self.passed + self.held.len();
        let mut texts = Vec::new();
        let event = event(&text);
        if let Some(event) = &event {
            texts_of(&event.json, String::new(), &mut texts);
        }
        self.held.push(Line { text, event });
        for (place, more) in texts {
            let mut end = self.ends.remove(&place).unwrap_or_default();
            end.parts.push((number, end.text.len()));
            end.text.push_str(&more);
            for (from, to) in secrets.places(end.text.as_bytes()) {
                // Keys that overlap are masked once, from the first byte to the last.
                let mask = if from >= end.covered { MASK } else { "" };
                if to > end.covered {
                    self.mask(&place, &end, (from.max(end.covered), to), mask);
                    end.covered = to;
                }
            }
            let open = secrets.open_from(end.text.as_bytes());
            if open < end.text.len() {
                self.remember(place, end.behind(open));
            }
        }
    }

    /// Keeps what the text of a place ends with; where too many are kept, the one that was heard of longest ago is forgotten.
    fn remember(&mut self, place: String, end: End) {
        if self.ends.len() >= PLACES_MAX {
            let heard = |end: &End| end.parts.last().map_or(0, |(number, _)| *number);
            let oldest =
                self.ends.iter().min_by_key(|(place, end)| (heard(end), *place)).map(|(place, _)| place.clone());
            oldest.and_then(|oldest| self.ends.remove(&oldest));
        }
        self.ends.insert(place, end);
    }

    /// Puts a mask where the text of a place has `from..to`: into the first part of it that is still held back.
    fn mask(&mut self, place: &str, end: &End, (from, to): (usize, usize), mask: &str) {
        let mut masked = false;
        for (at, (number, begins)) in end.parts.iter().enumerate() {
            let ends = end.parts.get(at + 1).map_or(end.text.len(), |(_, next)| *next);
            let (cut_from, cut_to) = (from.max(*begins), to.min(ends));
            if cut_from >= cut_to {
                continue;
            }
            let line = number.checked_sub(self.passed).and_then(|at| self.held.get_mut(at));
            let Some(event) = line.and_then(|line| line.event.as_mut()) else { continue };
            let Some(Value::String(text)) = event.json.pointer_mut(place) else { continue };
            // What the end knows of a text are its last bytes, and what was masked before may have changed those before them.
            let behind = ends - cut_to;
            let (Some(to), mask) = (text.len().checked_sub(behind), if masked { "" } else { mask }) else { continue };
            let Some(from) = to.checked_sub(cut_to - cut_from) else { continue };
            text.replace_range(from..to, mask);
            (event.is_changed, masked) = (true, true);
        }
    }

    /// How many of the lines that are held back may go: those before the first that may have the beginning of a key.
    fn free(&self) -> usize {
        let newest = self.passed + self.held.len();
        let waits = |end: &&End| {
            let heard = end.parts.last().map_or(0, |(number, _)| *number);
            // What is masked already may go; what stands behind it may belong to a longer key.
            end.text.len() >= HELD_BYTES_MIN && end.text.len() > end.covered && newest - heard <= HELD_LINES_MAX
        };
        let first = self.ends.values().filter(waits).filter_map(|end| Some(end.parts.first()?.0)).min();
        first.unwrap_or(newest).saturating_sub(self.passed)
    }

    fn pass(&mut self, lines: usize) -> Vec<u8> {
        let lines = lines.min(self.held.len());
        self.passed += lines;
        self.held.drain(..lines).flat_map(Line::bytes).collect()
    }
}

impl End {
    /// What is left of it from a place on, which lies on a character: forms are ASCII, or whole texts.
    fn behind(self, from: usize) -> End {
        let part = |(at, (number, begins)): (usize, &(usize, usize))| {
            let ends = self.parts.get(at + 1).map_or(self.text.len(), |(_, next)| *next);
            (ends > from).then_some((*number, begins.saturating_sub(from)))
        };
        let parts = self.parts.iter().enumerate().filter_map(part).collect();
        let covered = self.covered.saturating_sub(from);
        End { text: self.text.get(from..).unwrap_or_default().to_owned(), covered, parts }
    }
}

impl Line {
    fn bytes(self) -> Vec<u8> {
        match self.event {
            Some(Event { around: (before, behind), json, is_changed: true }) => {
                [before, json.to_string().into_bytes(), behind].concat()
            }
            _ => self.text,
        }
    }
}

/// The event that a line is: JSON, by itself or as the data of a server-sent event.
fn event(line: &[u8]) -> Option<Event> {
    let from = line.iter().position(|byte| *byte == b'{')?;
    let before = &line[..from];
    if !matches!(before.trim_ascii(), b"" | b"data:") {
        return None;
    }
    let to = line.len() - line.iter().rev().position(|byte| *byte == b'}')?;
    let json = serde_json::from_slice(line.get(from..to)?).ok()?;
    Some(Event { around: (before.to_vec(), line[to..].to_vec()), json, is_changed: false })
}

/// All texts of a value with their places, as JSON pointers.
fn texts_of(value: &Value, place: String, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if !text.is_empty() => found.push((place, text.clone())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| texts_of(item, format!("{place}/{at}"), found));
        }
        Value::Object(map) => {
            for (key, item) in map {
                texts_of(item, format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &str = "sk-very-secret-0123456789";

    fn secrets() -> Secrets {
        Secrets::new([("KEY", KEY)])
    }

    fn through(pieces: &[&[u8]]) -> String {
        let mut echo = Echo::of_stream(secrets());
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| echo.take(piece.to_vec())).collect();
        out.extend(echo.finish());
        String::from_utf8(out).unwrap()
    }

    fn sse(texts: &[&str]) -> String {
        let one = |text: &&str| format!("event: x\ndata: {}\n\n", json!({"delta": {"text": text}, "id": "mk"}));
        texts.iter().map(one).collect()
    }

    /// What the texts of a stream spell.
    fn spelled(stream: &str) -> String {
        let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let text = |data: &str| {
            serde_json::from_str::<Value>(data).unwrap()["delta"]["text"].as_str().unwrap_or_default().to_owned()
        };
        data.map(text).collect()
    }

    #[test]
    fn a_key_in_one_piece_is_masked_wherever_the_network_cuts_it() {
        let stream = sse(&["your key is ", KEY, "!"]);
        for at in 0..stream.len() {
            let (front, back) = stream.as_bytes().split_at(at);
            let out = through(&[front, back]);
            assert_eq!((out.contains(KEY), spelled(&out).as_str()), (false, "your key is ***!"), "{at}");
        }
    }

    #[test]
    fn a_key_that_several_events_spell_is_masked() {
        for at in 1..KEY.len() {
            let (front, back) = KEY.split_at(at);
            let out = spelled(&through(&[sse(&[&format!("key: {front}"), back, ", and on"]).as_bytes()]));
            assert!(!out.contains("secret") && out.ends_with("***, and on"), "{at}: {out}");
        }
        let letters: Vec<String> = KEY.chars().map(String::from).collect();
        let letters: Vec<&str> = ["a "].into_iter().chain(letters.iter().map(String::as_str)).chain([" b"]).collect();
        assert_eq!(spelled(&through(&[sse(&letters).as_bytes()])), "a sk-*** b");
        let twice = [&format!("{KEY}{}", &KEY[..9]), &KEY[9..], &KEY[..9], "no"];
        assert_eq!(spelled(&through(&[sse(&twice).as_bytes()])), format!("******{}no", &KEY[..9]));
    }

    #[test]
    fn a_key_that_begins_as_another_one_is_masked_to_its_end() {
        let long = format!("{KEY}-and-more");
        let secrets = Secrets::new([("KEY", KEY), ("LONG", long.as_str())]);
        for at in 1..long.len() {
            let (front, back) = long.split_at(at);
            let mut echo = Echo::of_stream(secrets.clone());
            let mut out = echo.take(sse(&[&format!("key: {front}"), back, ", and on"]).into_bytes());
            out.extend(echo.finish());
            let out = spelled(&String::from_utf8(out).unwrap());
            assert!(!out.contains("secret") && !out.contains("more") && out.ends_with("***, and on"), "{at}: {out}");
        }
        let mut echo = Echo::of_stream(secrets);
        let (front, back) = KEY.split_at(9);
        let mut out = echo.take(sse(&[front, back, "-and-", "less"]).into_bytes());
        out.extend(echo.finish());
        assert_eq!(spelled(&String::from_utf8(out).unwrap()), "***-and-less", "only the shorter one");
    }

    #[test]
    fn a_key_that_is_being_spelled_is_not_forgotten_for_others() {
        let (front, back) = KEY.split_at(9);
        let many: String = (0..PLACES_MAX).map(|at| format!("{{\"x{at}\":\"sk-\"}}\n")).collect();
        let lines = format!("{{\"a\":\"{front}\"}}\n{many}{{\"a\":\"{back}\"}}\n");
        let kept = format!("{many}{{\"a\":\"{front}\"}}\n{{\"y\":\"sk-\"}}\n{{\"a\":\"{back}\"}}\n");
        assert!(through(&[kept.as_bytes()]).ends_with("{\"a\":\"\"}\n"), "the oldest one goes");
        assert!(through(&[lines.as_bytes()]).contains(back), "but one that was heard of longest ago");
    }

    #[test]
    fn texts_of_other_places_and_what_is_no_event_pass_as_they_are() {
        let (front, back) = KEY.split_at(9);
        let plain =
            format!(": ping\ndata: {{\"a\": \"{front}\"}}\ndata: {{\"b\":   \"{back}\"}}\n\ndata: [DONE]\n\n<html>");
        assert_eq!(through(&[plain.as_bytes()]), plain);
        let lines = format!("{{\"a\":\"{front}\"}}\n{{\"a\":\"{back}\"}}");
        assert_eq!(through(&[lines.as_bytes()]), "{\"a\":\"***\"}\n{\"a\":\"\"}");
    }

    #[test]
    fn only_what_may_go_on_to_a_key_is_held_back_and_never_for_long() {
        let mut echo = Echo::of_stream(secrets());
        let (one, other) = (sse(&["asks"]), sse(&["it says sk-very-"]));
        assert_eq!(echo.take(one.clone().into_bytes()), one.into_bytes());
        let passed = echo.take(other.clone().into_bytes());
        assert!(passed.len() < other.len() && passed == b"event: x\n", "{passed:?}");
        let pings = ": ping\n".repeat(HELD_LINES_MAX);
        assert!(echo.take(pings.into_bytes()).starts_with(b"data: "), "others are not held up for ever");
    }

    proptest! {
        #[test]
        fn what_holds_no_key_comes_out_as_it_went_in(
            texts in proptest::collection::vec("[sk\\-very üé\"\\\\]{0,12}", 0..12), cut in 1usize..40
        ) {
            let stream = sse(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(cut).collect();
            prop_assert_eq!(through(&pieces), stream);
        }
    }
}
