//! One versioned JSON object a line: the events as they are in the journal. For programs; nothing is made pretty or
//! stripped, JSON escapes what a terminal would obey. A stream is one run, named by its first event.

use serde::Serialize;

use super::{Reporter, Sink, sanitize};
use crate::event::{EVENT_VERSION, Progress, Recorded};
use crate::journal::RunState;

/// Writes events as JSON lines.
pub struct Json {
    sink: Sink,
}

#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    #[serde(flatten)]
    recorded: &'a Recorded,
}

impl Json {
    /// Will write to `out`.
    pub fn new(out: Box<dyn std::io::Write + Send>) -> Self {
        Json { sink: Sink::new(out) }
    }
}

/// One event as its JSON line, with its line feed.
pub fn line(recorded: &Recorded) -> String {
    let line = Line { version: EVENT_VERSION, recorded };
    let text = serde_json::to_string(&line).expect("events have string keys and finite numbers only");
    let mut text = sanitize::json(&text);
    text.push('\n');
    text
}

impl Reporter for Json {
    fn event(&mut self, recorded: &Recorded, _: &RunState) {
        self.sink.write(&line(recorded));
    }

    fn progress(&mut self, _: &Progress) {}

    fn tick(&mut self, _: u64, _: &RunState) {}

    fn unwritten(&self) -> Option<&std::io::Error> {
        self.sink.unwritten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Reports, Shared, story};

    #[test]
    fn what_a_terminal_obeys_is_an_escape() {
        let text = "\u{7f}\u{9b}\u{202e}\u{e0001}ü\n";
        let shown = sanitize::json(&serde_json::to_string(text).expect("a text"));
        assert_eq!(shown, r#""\u007f\u009b\u202e\udb40\udc01ü\n""#);
        assert_eq!(serde_json::from_str::<String>(&shown).expect("the same text"), text);
    }

    #[test]
    fn every_event_is_one_line_that_reads_back() {
        let out = Shared::default();
        let mut reports = Reports::new(vec![Box::new(Json::new(Box::new(out.clone())))]);
        let events = story::recorded(story::mixed());
        events.iter().for_each(|event| reports.event(event));
        let text = out.take();
        let back: Vec<Recorded> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event and its version")).collect();
        assert_eq!(back, events);
        insta::assert_snapshot!(text.lines().take(8).collect::<Vec<_>>().join("\n"));
    }
}
