//! Notices a model that goes round in circles. Pure; hears every call with what it gave.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::tools::bounded;

/// The same call with the same result, so many times in a row.
const REPEATS_MAX: usize = 5;
/// The longest circle that is looked for, in calls.
const PERIOD_MAX: usize = 6;
/// How often a circle must be gone through.
const ROUNDS_MAX: usize = 3;
/// The longest part of a call's arguments that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circle {
    /// Tell the model, once.
    Warn(String),
    /// End the work.
    Stop(String),
}

/// The newest calls of an agent: what tells one from another, and as it is shown.
#[derive(Debug, Default)]
pub struct Guard {
    calls: VecDeque<(u64, String)>,
    warned: Warned,
}

/// Whether the model was warned.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Warned {
    #[default]
    Never,
    /// In what it is told next.
    JustNow,
    /// It heard it, and went on.
    Heard,
}

/// The tool that is asked again and again by what it is for.
const POLL: &str = "bash_output";

impl Guard {
    /// What is heard from now on is of another answer, before which the model was told what there was to say.
    pub fn next_answer(&mut self) {
        if self.warned == Warned::JustNow {
            self.warned = Warned::Heard;
        }
    }

    /// Hears a call; `None` while there is nothing to say.
    pub fn hear(&mut self, tool: &str, arguments: &str, result: &str) -> Option<Circle> {
        if tool == POLL {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        (tool, arguments, result).hash(&mut hasher);
        self.calls.push_back((hasher.finish(), format!("`{tool}` {}", bounded(arguments, SHOWN_BYTES_MAX))));
        if self.calls.len() > PERIOD_MAX * ROUNDS_MAX {
            self.calls.pop_front();
        }
        let period = (1..=PERIOD_MAX).find(|&period| self.repeats(period))?;
        let circle: Vec<String> = self.calls.iter().rev().take(period).rev().map(|(_, shown)| shown.clone()).collect();
        self.calls.clear();
        let what = match period {
            1 => format!("{} was called {REPEATS_MAX} times in a row, each time with the same result", circle[0]),
            n => format!(
                "the same {n} calls were made {ROUNDS_MAX} times in a row, each time with the same results: {}",
                circle.join(", then ")
            ),
        };
        match self.warned {
            Warned::JustNow => return None,
            Warned::Heard => {
                return Some(Circle::Stop(format!("{what}, after it had been warned of going round in circles")));
            }
            Warned::Never => self.warned = Warned::JustNow,
        }
        Some(Circle::Warn(format!(
            "{what}. It will not change by being repeated. Read what it said; try another tool or other arguments, or call \
                 `finish` and say what stands in the way. The next circle ends your work."
        )))
    }

    /// Whether the newest calls are a circle of this length.
    fn repeats(&self, period: usize) -> bool {
        let needed = if period == 1 { REPEATS_MAX } else { period * ROUNDS_MAX };
        let newest: Vec<u64> = self.calls.iter().rev().take(needed).map(|(call, _)| *call).collect();
        newest.len() == needed && newest.iter().zip(&newest[period..]).all(|(a, b)| a == b)
    }
}

/// How often Stop hooks send a model on that does nothing in between.
const SENT_ON_IN_A_ROW_MAX: u32 = 3;
/// How often they send it on at all.
const SENT_ON_MAX: u32 = 12;

/// How often Stop hooks sent a model on that said it was done.
#[derive(Debug, Default)]
pub struct SentOn {
    /// Since it ran a call.
    in_a_row: u32,
    in_all: u32,
}

impl SentOn {
    /// Once more.
    pub fn again(&mut self) {
        *self = SentOn { in_a_row: self.in_a_row + 1, in_all: self.in_all + 1 };
    }

    /// It ran calls.
    pub fn worked(&mut self) {
        self.in_a_row = 0;
    }

    /// Whether it was sent on before.
    pub fn before(&self) -> bool {
        self.in_all > 0
    }

    /// Why hooks are not asked any more, once they would send it on for ever; for people.
    pub fn enough(&self) -> Option<String> {
        let SentOn { in_a_row, in_all } = self;
        (*in_a_row >= SENT_ON_IN_A_ROW_MAX || *in_all >= SENT_ON_MAX).then(|| {
            format!(
                "Stop hooks sent the model on {in_all} times, at last {in_a_row} times without any work in between: they are not asked any more, and the conversation ends"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(calls: &[(&str, &str)]) -> Vec<Option<&'static str>> {
        let mut guard = Guard::default();
        let word = |circle| match circle {
            Circle::Warn(_) => "warn",
            Circle::Stop(_) => "stop",
        };
        let mut hear = |(call, result): &(&str, &str)| {
            guard.next_answer();
            guard.hear("bash", call, result).map(word)
        };
        calls.iter().map(&mut hear).collect()
    }

    #[test]
    fn nobody_is_ended_before_the_warning_was_heard_and_polls_are_no_circle() {
        let mut guard = Guard::default();
        let mut heard = |tool: &str| (0..30).filter_map(|_| guard.hear(tool, "x", "y")).collect::<Vec<_>>();
        assert!(matches!(heard("read")[..], [Circle::Warn(_)]));
        guard.next_answer();
        let mut heard = |tool: &str| (0..30).filter_map(|_| guard.hear(tool, "x", "y")).collect::<Vec<_>>();
        assert!(matches!(heard("read")[..], [Circle::Stop(_), ..]));
        assert_eq!(heard("bash_output"), []);
    }

    #[test]
    fn the_fifth_repetition_is_warned_of_and_the_next_five_end_it() {
        let heard = told(&[("ls", "x"); 10]);
        assert_eq!((heard[4], heard[9]), (Some("warn"), Some("stop")));
        assert_eq!(heard.iter().flatten().count(), 2);
    }

    #[test]
    fn a_warning_names_the_call_how_often_it_was_made_and_what_to_do() {
        let mut guard = Guard::default();
        let mut heard = (0..10).filter_map(|_| {
            guard.next_answer();
            guard.hear("bash", r#"{"script":"ls"}"#, "x")
        });
        let Some(Circle::Warn(words)) = heard.next() else { panic!("no warning") };
        assert_eq!(
            words,
            "`bash` {\"script\":\"ls\"} was called 5 times in a row, each time with the same result. It will not change by being \
             repeated. Read what it said; try another tool or other arguments, or call `finish` and say what stands in the way. \
             The next circle ends your work."
        );
        let Some(Circle::Stop(words)) = heard.next() else { panic!("no end") };
        assert!(
            words.starts_with("`bash` {\"script\":\"ls\"} was called 5 times")
                && words.ends_with("warned of going round in circles"),
            "{words}"
        );
        let mut guard = Guard::default();
        let heard = ["a", "b"].repeat(3).into_iter().find_map(|call| guard.hear("bash", call, "x"));
        assert!(matches!(heard, Some(Circle::Warn(words)) if words.contains("`bash` a, then `bash` b")));
    }

    #[test]
    fn a_circle_is_noticed_and_progress_is_not() {
        let circle: Vec<(&str, &str)> = [("a", "1"), ("b", "2"), ("c", "3")].repeat(3);
        assert_eq!(told(&circle)[8], Some("warn"));
        let polling = [("ls", "1"), ("ls", "2"), ("ls", "3"), ("ls", "4"), ("ls", "5"), ("ls", "6")];
        assert_eq!(told(&polling).iter().flatten().count(), 0);
    }
}
