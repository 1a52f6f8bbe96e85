//! Streams cut into events. Server-sent events as the HTML standard writes them (CR, LF or both; a byte order mark;
//! comments; data over several lines; no space behind the colon), and JSON lines. Works on bytes, so that a character cut
//! in two is whole again before it is read; every length is bounded.
//!
//! A crate would give an async stream of owned chunks; here the caller owns the bytes and their bound.
//!
//! Source: HTML Living Standard, 9.2.6 "Interpreting an event stream".

use super::DecodeError;

/// The longest event that is read, in bytes: arguments of 10 MB, every byte escaped to three, fit.
const EVENT_BYTES_MAX: usize = super::ANSWER_BYTES_MAX;
/// How much of the beginning is kept, in bytes, to say what it was when it was no stream.
const BEGINS_BYTES_MAX: usize = 256;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Events,
    /// A JSON text a line.
    JsonLines,
}

/// Bytes on their way to events.
#[derive(Debug)]
pub struct Lines {
    framing: Framing,
    /// The open line.
    line: Vec<u8>,
    /// The open event's data.
    data: Option<String>,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    /// How the stream begins.
    begins: Vec<u8>,
}

impl Lines {
    /// Nothing read yet.
    pub fn new(framing: Framing) -> Self {
        Lines { framing, line: Vec::new(), data: None, after_cr: false, at_start: true, begins: Vec::new() }
    }

    /// Takes the next bytes and gives the data of all events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut events = Vec::new();
        let more = bytes.len().min(BEGINS_BYTES_MAX.saturating_sub(self.begins.len()));
        self.begins.extend_from_slice(&bytes[..more]);
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(rest.len());
            self.line.extend_from_slice(&rest[..taken]);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_BYTES_MAX {
                return Err(DecodeError::TooLarge { what: "bytes in one event", max: EVENT_BYTES_MAX });
            }
            let Some(end) = end else { break };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(&line)?);
        }
        Ok(events)
    }

    /// What is left at the end of the stream: servers leave the last blank line out.
    pub fn rest(&mut self) -> Result<Option<String>, DecodeError> {
        let line = std::mem::take(&mut self.line);
        // Half a last line, or half a character, is a stream that was cut off: what it is missing shows at the end of the answer.
        if std::str::from_utf8(&line).is_err_and(|error| error.error_len().is_none()) {
            return Ok(None);
        }
        let whole = if line.is_empty() { None } else { self.line(&line)? };
        let last = whole.or_else(|| self.data.take());
        Ok(last.filter(|data| data.trim() == "[DONE]" || serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok()))
    }

    /// How a stream begins that is none of this kind; `None` where it may be one that was cut off.
    pub fn is_none_of_its(&self) -> Option<String> {
        let begins = String::from_utf8_lossy(&self.begins);
        let begins = begins.trim_start_matches('\u{feff}').trim();
        let words: &[&str] = match self.framing {
            Framing::Events => &[":", "data", "event", "id", "retry", "{", "["],
            Framing::JsonLines => &["{"],
        };
        let may_be = |word: &&str| begins.starts_with(*word) || word.starts_with(begins);
        (!words.iter().any(may_be)).then(|| begins.to_owned())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<String>, DecodeError> {
        let text = std::str::from_utf8(line).map_err(|_| DecodeError::Malformed("it is not UTF-8".to_owned()))?;
        let text = if std::mem::take(&mut self.at_start) { text.trim_start_matches('\u{feff}') } else { text };
        if self.framing == Framing::JsonLines {
            return Ok((!text.trim().is_empty()).then(|| text.to_owned()));
        }
        if text.is_empty() {
            return Ok(self.data.take());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        // The type of an event is also in its data, for every provider; `id` and `retry` serve reconnecting.
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(framing: Framing, slices: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new(framing);
        let mut all: Vec<String> = slices.iter().flat_map(|slice| lines.feed(slice).unwrap()).collect();
        all.extend(lines.rest().unwrap());
        all
    }

    #[test]
    fn all_line_ends_comments_and_fields_of_the_standard() {
        let text = b"\xef\xbb\xbf: hello\r\nevent: x\rdata:1\r\ndata: [2,\ndata: 3]\nretry: 5\n\ndata: \"\xc3\xbc\"";
        assert_eq!(events(Framing::Events, &[text]), ["1\n[2,\n3]", "\"ü\""]);
        assert_eq!(events(Framing::JsonLines, &[b"{}\r\n\n{\"a\":1}"]), ["{}", "{\"a\":1}"]);
    }

    #[test]
    fn half_a_last_event_is_no_event() {
        assert_eq!(events(Framing::Events, &[b"data: {\"a\":"]), Vec::<String>::new());
        assert_eq!(events(Framing::JsonLines, &[b"{}\n{\"a"]), ["{}"]);
        assert_eq!(events(Framing::Events, &[b"data: 1\n\ndata: 2\ndata: \"\xe2\x82"]), ["1"]);
        assert_eq!(events(Framing::JsonLines, &[b"{}\n\"\xe2\x82"]), ["{}"]);
        let mut lines = Lines::new(Framing::Events);
        lines.feed(b"data: \xff\xff").unwrap();
        assert!(
            matches!(lines.rest(), Err(DecodeError::Malformed(_))),
            "what is no text at all is not called half of one"
        );
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut lines = Lines::new(Framing::Events);
        let mut fed = (0..100).map(|_| lines.feed(&vec![b'x'; 1 << 20]));
        assert!(fed.any(|result| matches!(result, Err(DecodeError::TooLarge { .. }))));
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_does_not_matter(cuts in proptest::collection::vec(0usize..70, 0..8)) {
            let text = "data: {\"ü\":1}\r\n\r\n: c\r\ndata: a\rdata: b\r\rdata: \"€𝄞\"\n\ndata: 7\n\n".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let slices: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(Framing::Events, &slices), events(Framing::Events, &[text]));
        }
    }
}
