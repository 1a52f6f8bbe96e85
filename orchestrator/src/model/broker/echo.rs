//! An answer without the keys that were used to get it: what a provider, or a proxy in between, repeats of them is masked
//! before a worker, a transcript, a recording or a log has it.
//!
//! Comes in: the bytes of an answer, cut anywhere. Goes out: the same bytes later, masked. A key may stand in them as it is (or
//! in one of the forms that [`Secrets`] knows), cut in two by the network; or it may be spelled by texts of several events,
//! one of which ends with its beginning. So the texts of one name at one index are read as one text over all events, wherever
//! they stand in them (a block begins in one place and goes on in another), and as they stand as well as with the escapes of
//! JSON in them read: arguments are JSON in a text. An event is held back while what its texts end with may go on to a key.
//! An event may be spread over several lines of data. An answer in one piece is masked when all of it is there. Like every
//! mask, this is a guard against accidents; what a worker gets of an answer is masked once more when it is decoded
//! ([`super::heard`]).

use std::collections::HashMap;

use serde_json::Value;

use super::heard::{mask_value, open_from, places};
use crate::secrets::{MASK, MaskedStream, Secrets};

/// As much of a key's beginning is not held back, in bytes: an answer that ends with a letter or two goes on at once, and
/// what all keys of a provider begin with is no secret.
const HELD_BYTES_MIN: usize = 4;
/// So many lines of other events are held back behind one whose text may go on to a key.
const HELD_LINES_MAX: usize = 64;
/// Texts that may go on to a key at a time; with more, none is remembered.
const PLACES_MAX: usize = 1024;
/// A longer line, or event, is passed on as it is, in bytes: no decoder reads it.
const LINE_BYTES_MAX: usize = 48 << 20;
/// What tells texts of one name apart: which block, call or part of the answer they belong to.
const INDICES: [&str; 4] = ["index", "output_index", "content_index", "summary_index"];

/// One answer on its way.
#[derive(Debug)]
pub struct Echo {
    secrets: Secrets,
    bytes: MaskedStream,
    form: Form,
}

/// How an answer comes.
#[derive(Debug)]
enum Form {
    Events(Events),
    /// In one piece, of which this has come.
    Whole(Vec<u8>),
}

/// The events of an answer.
#[derive(Debug, Default)]
struct Events {
    /// The open line.
    line: Vec<u8>,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// An event whose first line of data is no JSON by itself.
    open: Option<Spread>,
    /// Lines that are held back, in order.
    held: Vec<Line>,
    /// Lines that were passed on.
    passed: usize,
    /// By stream: what its text ends with that may go on to a key.
    ends: HashMap<String, End>,
}

/// An event over several lines.
#[derive(Debug, Default)]
struct Spread {
    /// All of its lines.
    lines: Vec<u8>,
    /// Those that are no data.
    others: Vec<u8>,
    /// What its lines of data say together.
    data: Vec<u8>,
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

/// A text of an event.
struct Text {
    /// Where it stands, as a JSON pointer.
    pointer: String,
    /// What it is a part of: its name, and the indices that it stands below.
    stream: String,
    text: String,
}

/// The end of a text that several events spell.
#[derive(Debug, Default)]
struct End {
    text: String,
    /// How many bytes at its front are masked already: a longer key may go on behind a shorter one.
    covered: usize,
    /// In order.
    parts: Vec<Part>,
}

/// What one event has of such a text.
#[derive(Debug, Clone)]
struct Part {
    /// Which line, counted over the whole answer.
    line: usize,
    /// Where in it.
    pointer: String,
    /// Where that begins in the text.
    begins: usize,
}

impl Echo {
    /// For an answer that comes as events.
    pub fn of_stream(secrets: Secrets) -> Self {
        Echo { bytes: secrets.stream(), form: Form::Events(Events::default()), secrets }
    }

    /// For an answer in one piece.
    pub fn of_whole(secrets: Secrets) -> Self {
        Echo { bytes: secrets.stream(), form: Form::Whole(Vec::new()), secrets }
    }

    /// What may be passed on now that these bytes have come.
    pub fn take(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        if self.secrets.is_empty() {
            return bytes;
        }
        match &mut self.form {
            // Events first: a mask that stands for a shorter key would hide that a longer one goes on behind it.
            Form::Events(events) => {
                let heard = events.take(&bytes, &self.secrets);
                self.bytes.take(&heard)
            }
            Form::Whole(all) => {
                all.extend(bytes);
                Vec::new()
            }
        }
    }

    /// The rest, at the end of the answer.
    pub fn finish(&mut self) -> Vec<u8> {
        let rest = match &mut self.form {
            Form::Events(events) => events.finish(&self.secrets),
            Form::Whole(all) => whole(std::mem::take(all), &self.secrets),
        };
        let mut masked = self.bytes.take(&rest);
        masked.extend(self.bytes.finish());
        masked
    }
}

/// An answer in one piece with its texts masked; one that has nothing to mask stays as it is written.
fn whole(bytes: Vec<u8>, secrets: &Secrets) -> Vec<u8> {
    let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else { return bytes };
    if mask_value(secrets, &mut json) { json.to_string().into_bytes() } else { bytes }
}

impl Events {
    fn take(&mut self, bytes: &[u8], secrets: &Secrets) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || piece.ends_with(b"\r") || self.line.len() > LINE_BYTES_MAX {
                let line = std::mem::take(&mut self.line);
                self.line(line, secrets);
                let free = self.free();
                out.extend(self.pass(free));
            }
        }
        out
    }

    fn finish(&mut self, secrets: &Secrets) -> Vec<u8> {
        let last = std::mem::take(&mut self.line);
        if !last.is_empty() {
            self.line(last, secrets);
        }
        self.close(secrets);
        self.pass(usize::MAX)
    }

    /// Takes a line in: a whole event, a part of one, or none.
    fn line(&mut self, text: Vec<u8>, secrets: &Secrets) {
        let belongs_to_cr = std::mem::replace(&mut self.after_cr, text.ends_with(b"\r")) && text == b"\n";
        if let Some(open) = &mut self.open {
            let is_blank = !belongs_to_cr && text.trim_ascii().is_empty();
            if !is_blank && open.lines.len() + text.len() <= LINE_BYTES_MAX {
                return open.take(&text);
            }
            self.close(secrets);
        }
        let event = event(&text);
        match data(&text) {
            Some(begins) if event.is_none() && begins.starts_with(b"{") => {
                self.open.insert(Spread::default()).take(&text);
            }
            _ => self.hear(text, event, secrets),
        }
    }

    /// Ends an event over several lines.
    fn close(&mut self, secrets: &Secrets) {
        let Some(Spread { lines, others, data }) = self.open.take() else { return };
        let ends = lines.len() - lines.trim_ascii_end().len();
        let behind = lines[lines.len() - ends..].to_vec();
        let json = serde_json::from_slice(&data).ok();
        let around = ([others, b"data: ".to_vec()].concat(), behind);
        self.hear(lines, json.map(|json| Event { around, json, is_changed: false }), secrets);
    }

    /// Reads a line, and masks what it completes.
    fn hear(&mut self, text: Vec<u8>, event: Option<Event>, secrets: &Secrets) {
        let line = self.passed + self.held.len();
        let mut texts = Vec::new();
        if let Some(event) = &event {
            texts_of(&event.json, "", "", "", &mut texts);
        }
        self.held.push(Line { text, event });
        for Text { pointer, stream, text } in texts {
            let mut end = self.ends.remove(&stream).unwrap_or_default();
            end.parts.push(Part { line, pointer, begins: end.text.len() });
            end.text.push_str(&text);
            for (from, to) in places(secrets, &end.text) {
                // Keys that overlap are masked once, from the first byte to the last.
                let mask = if from >= end.covered { MASK } else { "" };
                if to > end.covered {
                    self.mask(&end, (from.max(end.covered), to), mask);
                    end.covered = to;
                }
            }
            let open = open_from(secrets, &end.text);
            if open < end.text.len() {
                self.remember(stream, end.behind(open));
            }
        }
    }

    /// Keeps what the text of a stream ends with; where too many are kept, the one that was heard of longest ago is forgotten.
    fn remember(&mut self, stream: String, end: End) {
        if self.ends.len() >= PLACES_MAX {
            let oldest = self.ends.iter().min_by_key(|(name, end)| (end.heard(), *name)).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| self.ends.remove(&oldest));
        }
        self.ends.insert(stream, end);
    }

    /// Puts a mask where a text has `from..to`: into the first part of it that is still held back.
    fn mask(&mut self, end: &End, (from, to): (usize, usize), mask: &str) {
        let mut masked = false;
        for (at, part) in end.parts.iter().enumerate() {
            let ends = end.parts.get(at + 1).map_or(end.text.len(), |next| next.begins);
            let (cut_from, cut_to) = (from.max(part.begins), to.min(ends));
            if cut_from >= cut_to {
                continue;
            }
            let line = part.line.checked_sub(self.passed).and_then(|at| self.held.get_mut(at));
            let Some(event) = line.and_then(|line| line.event.as_mut()) else { continue };
            let Some(Value::String(text)) = event.json.pointer_mut(&part.pointer) else { continue };
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
            // An escape is not parted: half of one before a mask would break the JSON that it stands in.
            let is_long = end.text.len() >= HELD_BYTES_MIN || end.text.contains('\\');
            // What is masked already may go; what stands behind it may belong to a longer key.
            is_long && end.text.len() > end.covered && newest - end.heard() <= HELD_LINES_MAX
        };
        let first = self.ends.values().filter(waits).filter_map(|end| Some(end.parts.first()?.line)).min();
        first.unwrap_or(newest).saturating_sub(self.passed)
    }

    fn pass(&mut self, lines: usize) -> Vec<u8> {
        let lines = lines.min(self.held.len());
        self.passed += lines;
        self.held.drain(..lines).flat_map(Line::bytes).collect()
    }
}

impl Spread {
    fn take(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
        match data(line) {
            Some(more) => {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(more);
            }
            None => self.others.extend_from_slice(line),
        }
    }
}

impl End {
    /// The line that it was heard of last.
    fn heard(&self) -> usize {
        self.parts.last().map_or(0, |part| part.line)
    }

    /// What is left of it from a place on, which lies on a character: forms are ASCII, or whole texts.
    fn behind(self, from: usize) -> End {
        let part = |(at, part): (usize, &Part)| {
            let ends = self.parts.get(at + 1).map_or(self.text.len(), |next| next.begins);
            (ends > from).then(|| Part { begins: part.begins.saturating_sub(from), ..part.clone() })
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

/// What a line of data says, without its end.
fn data(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    Some(line.strip_prefix(b"data:")?.trim_ascii())
}

/// The event that a line is: JSON, by itself or as the data of a server-sent event.
fn event(line: &[u8]) -> Option<Event> {
    let from = line.iter().position(|byte| *byte == b'{')?;
    let before = &line[..from];
    if !matches!(before.trim_ascii(), b"" | b"data:" | b"\xef\xbb\xbfdata:" | b"\xef\xbb\xbf") {
        return None;
    }
    let to = line.len() - line.iter().rev().position(|byte| *byte == b'}')?;
    let json = serde_json::from_slice(line.get(from..to)?).ok()?;
    Some(Event { around: (before.to_vec(), line[to..].to_vec()), json, is_changed: false })
}

/// All texts of a value, with their places and streams.
fn texts_of(value: &Value, pointer: &str, name: &str, indices: &str, found: &mut Vec<Text>) {
    match value {
        Value::String(text) if !text.is_empty() => {
            let stream = format!("{name}{indices}");
            found.push(Text { pointer: pointer.to_owned(), stream, text: text.clone() });
        }
        Value::Array(items) => {
            let item = |(at, item): (usize, &Value)| texts_of(item, &format!("{pointer}/{at}"), name, indices, found);
            items.iter().enumerate().for_each(item);
        }
        Value::Object(map) => {
            let here = INDICES.iter().filter_map(|name| Some(format!("#{name}{}", map.get(*name)?.as_u64()?)));
            let indices = here.fold(indices.to_owned(), |all, here| all + &here);
            for (key, item) in map {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                texts_of(item, &pointer, key, &indices, found);
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

    /// What the texts of a stream spell, wherever they stand.
    fn all_spelled(stream: &str) -> String {
        let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut texts = vec![];
        data.for_each(|data| texts_of(&serde_json::from_str(data).unwrap(), "", "", "", &mut texts));
        texts.into_iter().map(|text| text.text).collect()
    }

    #[test]
    fn a_key_that_is_escaped_in_arguments_is_masked_wherever_it_is_cut() {
        let key = "sk/test+key=with/slashes-0123456789";
        let secrets = Secrets::new([("KEY", key)]);
        let all: String = key.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
        let twice = serde_json::to_string(&all).unwrap();
        let some = key.replace('/', "\\/").replace('+', "\\u002b").replace('=', "\\u003D");
        for written in [&some, &all, twice.trim_matches('"')] {
            let arguments = format!("{{\"path\":\"K\",\"text\":\"{written}\\n\"}}");
            for at in 0..=arguments.len() {
                let (front, back) = arguments.split_at(at);
                let one = |text: &str| format!("data: {}\n\n", json!({"index": 1, "delta": {"partial_json": text}}));
                let mut echo = Echo::of_stream(secrets.clone());
                let mut out = echo.take((one(front) + &one(back)).into_bytes());
                out.extend(echo.finish());
                let out = all_spelled(&String::from_utf8(out).unwrap());
                let (_, said) = out.split_once("\"text\":\"").unwrap();
                assert!(said.starts_with("***") || said.ends_with("***\\n\"}"), "{at}: {out}");
                assert!(said.len() <= 3 * 7 + 8 && serde_json::from_str::<Value>(&out).is_ok(), "{at}: {out}");
            }
        }
    }

    #[test]
    fn an_event_over_several_lines_is_one() {
        let (front, back) = KEY.split_at(9);
        for end in ["\n", "\r\n", "\r"] {
            let one = |text: &str| {
                format!("event: x{end}data: {{\"delta\":{end}id: 7{end}data: {{\"text\":\"{text}\"}}}}{end}{end}")
            };
            let stream = one(front) + &one(back) + &one("fine");
            for at in 0..stream.len() {
                let (one, two) = stream.as_bytes().split_at(at);
                let out = through(&[one, two]);
                assert!(!out.contains(front) && !out.contains(back) && out.contains("***"), "{at}: {out:?}");
                assert!(out.ends_with(&format!("{end}data: {{\"text\":\"fine\"}}}}{end}{end}")), "{at}: {out:?}");
            }
        }
        let cut = format!("data: {{\"delta\":\ndata: \"{KEY}");
        assert_eq!(through(&[cut.as_bytes()]), "data: {\"delta\":\ndata: \"***", "what is no JSON passes");
    }

    #[test]
    fn a_text_that_begins_in_one_place_goes_on_in_another() {
        let (front, back) = KEY.split_at(9);
        let event = |json: Value| format!("data: {json}\n\n");
        let start = event(json!({"type": "content_block_start", "index": 0, "content_block": {"text": front}}));
        let other = event(json!({"type": "content_block_delta", "index": 1, "delta": {"text": "between"}}));
        let more = event(json!({"type": "content_block_delta", "index": 0, "delta": {"text": back}}));
        let out = through(&[(start + &other + &more).as_bytes()]);
        assert!(!out.contains(front) && !out.contains(back) && out.contains("***") && out.contains("between"), "{out}");
    }

    #[test]
    fn an_answer_in_one_piece_is_masked_behind_its_escapes() {
        let inner = json!({"text": KEY}).to_string().replace("sk-", "\\u0073k-");
        let body = json!({"arguments": inner, "text": "fine"}).to_string().replace("secret", "\\u0073ecret");
        let mut echo = Echo::of_whole(secrets());
        assert!(echo.take(body.into_bytes()).is_empty());
        let out = String::from_utf8(echo.finish()).unwrap();
        assert_eq!(out, r#"{"arguments":"{\"text\":\"***\"}","text":"fine"}"#);
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
