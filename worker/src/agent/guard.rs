//! Notices a model that goes round in circles. Pure; hears every call with what it gave.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The same call with the same result, so many times in a row.
const REPEATS_MAX: usize = 5;
/// The longest circle that is looked for, in calls.
const PERIOD_MAX: usize = 6;
/// How often a circle must be gone through.
const ROUNDS_MAX: usize = 3;

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circle {
    /// Tell the model, once.
    Warn(String),
    /// End the work.
    Stop(String),
}

/// The newest calls of an agent.
#[derive(Debug, Default)]
pub struct Guard {
    calls: VecDeque<u64>,
    warned: bool,
}

impl Guard {
    /// Hears a call; `None` while there is nothing to say.
    pub fn hear(&mut self, tool: &str, arguments: &str, result: &str) -> Option<Circle> {
        let mut hasher = DefaultHasher::new();
        (tool, arguments, result).hash(&mut hasher);
        self.calls.push_back(hasher.finish());
        if self.calls.len() > PERIOD_MAX * ROUNDS_MAX {
            self.calls.pop_front();
        }
        let period = (1..=PERIOD_MAX).find(|&period| self.repeats(period))?;
        self.calls.clear();
        let what = match period {
            1 => format!("`{tool}` was called {REPEATS_MAX} times with the same arguments and the same result"),
            n => format!("the same {n} calls were made {ROUNDS_MAX} times with the same results"),
        };
        match std::mem::replace(&mut self.warned, true) {
            false => Some(Circle::Warn(format!("{what}. Nothing changes by repeating it: do something else, or end."))),
            true => Some(Circle::Stop(what)),
        }
    }

    /// Whether the newest calls are a circle of this length.
    fn repeats(&self, period: usize) -> bool {
        let needed = if period == 1 { REPEATS_MAX } else { period * ROUNDS_MAX };
        let newest: Vec<u64> = self.calls.iter().rev().take(needed).copied().collect();
        newest.len() == needed && newest.iter().zip(&newest[period..]).all(|(a, b)| a == b)
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
        calls.iter().map(|(call, result)| guard.hear("bash", call, result).map(word)).collect()
    }

    #[test]
    fn the_fifth_repetition_is_warned_of_and_the_next_five_end_it() {
        let heard = told(&[("ls", "x"); 10]);
        assert_eq!((heard[4], heard[9]), (Some("warn"), Some("stop")));
        assert_eq!(heard.iter().flatten().count(), 2);
    }

    #[test]
    fn a_circle_is_noticed_and_progress_is_not() {
        let circle: Vec<(&str, &str)> = [("a", "1"), ("b", "2"), ("c", "3")].repeat(3);
        assert_eq!(told(&circle)[8], Some("warn"));
        let polling = [("ls", "1"), ("ls", "2"), ("ls", "3"), ("ls", "4"), ("ls", "5"), ("ls", "6")];
        assert_eq!(told(&polling).iter().flatten().count(), 0);
    }
}
