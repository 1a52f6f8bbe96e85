//! The words that `needs.TASK.result` can be, and those a condition compares it with that it never is.

/// What became of an instance, in plans, messages and journals.
pub const RESULTS: [&str; 9] =
    ["succeeded", "flaky", "failed", "timed-out", "violation", "cancelled", "skipped", "blocked", "lost"];

/// The texts that an expression compares a `.result` with (`needs.a.result == 'sucess'`) and that no result is called.
pub(crate) fn never_a_result(expression: &str) -> Vec<&str> {
    let after = expression.match_indices(".result").map(|(at, found)| &expression[at + found.len()..]);
    after.filter_map(compared_with).filter(|word| !RESULTS.contains(word)).collect()
}

/// The results that an `if` may find, in words for people.
pub(crate) const ASKED: &str =
    "succeeded, flaky or skipped; and of a task with `allow-failure` failed, timed-out or violation";

/// The results of a need behind which nothing runs, unless it has `allow-failure`.
const MAY_BE_ALLOWED: [&str; 3] = ["failed", "timed-out", "violation"];

/// Those behind which nothing runs: what never began is blocked by whatever failed before it, a run that is stopped starts nothing more,
/// and what was lost runs again.
const NEVER_PASSED: [&str; 3] = ["cancelled", "blocked", "lost"];

/// A need's result that is compared with words alone behind which nothing runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FallsShort<'e> {
    /// The task.
    pub need: &'e str,
    /// The first of the words.
    pub word: &'e str,
    /// With `allow-failure`, one of them may hold.
    pub may_be_allowed: bool,
}

/// All such comparisons of an expression (`needs.a.result == 'failed'`, `needs["a"].result in ['failed', 'lost']`).
pub(crate) fn falls_short(expression: &str) -> Vec<FallsShort<'_>> {
    let found = expression.match_indices(".result");
    let all = found.filter_map(|(at, found)| {
        let need = need_before(&expression[..at])?;
        let words = equal_to(&expression[at + found.len()..]);
        let may_be_allowed = words.iter().any(|word| MAY_BE_ALLOWED.contains(word));
        let is_short = |word: &&str| MAY_BE_ALLOWED.contains(word) || NEVER_PASSED.contains(word);
        let word = words.first().copied().filter(|_| words.iter().all(is_short))?;
        Some(FallsShort { need, word, may_be_allowed })
    });
    all.collect()
}

/// The task in `needs.TASK` or `needs["TASK"]` at the end of a text.
fn need_before(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_suffix(']') {
        let quote = quoted.chars().next_back().filter(|last| matches!(last, '\'' | '"'))?;
        let (before, name) = quoted[..quoted.len() - 1].rsplit_once(quote)?;
        return before.ends_with("needs[").then_some(name);
    }
    let name = text.rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
    text[..text.len() - name.len()].ends_with("needs.").then_some(name)
}

/// What a value is compared with by `==` or `in`: texts in quotes; none where it is compared otherwise.
fn equal_to(rest: &str) -> Vec<&str> {
    let rest = rest.trim_start();
    let list = rest.strip_prefix("in").and_then(|rest| rest.trim_start().strip_prefix(['[', '(']));
    if let Some((list, _)) = list.and_then(|list| list.split_once([']', ')'])) {
        return list
            .split(',')
            .map(|word| word.trim().trim_matches(['\'', '"']))
            .filter(|word| !word.is_empty())
            .collect();
    }
    if rest.starts_with("==") { compared_with(rest).into_iter().collect() } else { Vec::new() }
}

/// The text in quotes behind `==` or `!=`.
fn compared_with(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("==").or_else(|| rest.strip_prefix("!="))?.trim_start();
    let quote = rest.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
    rest[1..].split_once(quote).map(|(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::{falls_short, never_a_result};

    #[test]
    fn only_texts_that_no_result_is_called_are_given() {
        assert_eq!(never_a_result("needs.a.result == 'sucess'"), ["sucess"]);
        assert_eq!(never_a_result("needs.a.result!=\"passed\" and needs.b.result == 'failed'"), ["passed"]);
        assert!(
            never_a_result("needs.a.result in ['x'] or needs.a.results == 'x' or vars.result == vars.x").is_empty()
        );
    }

    #[test]
    fn comparisons_with_a_failure_alone_are_found_with_their_need() {
        for (expression, expected) in [
            ("needs.b.result == 'failed'", &[("b", "failed", true)][..]),
            ("vars.x and needs[\"a-b\"].result=='timed-out'", &[("a-b", "timed-out", true)]),
            ("needs.b.result in ['failed', \"lost\"]", &[("b", "failed", true)]),
            ("needs.b.result in ['blocked', 'failed']", &[("b", "blocked", true)]),
            ("needs.b.result in ['blocked', 'cancelled']", &[("b", "blocked", false)]),
            ("needs.b.result == 'lost'", &[("b", "lost", false)]),
            ("needs.b.result in ['failed', 'flaky']", &[]),
            ("needs.b.result != 'failed' or needs.b.result == 'skipped'", &[]),
            ("vars.b.result == 'failed' or x.result", &[]),
        ] {
            let found = falls_short(expression).into_iter().map(|it| (it.need, it.word, it.may_be_allowed));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{expression}");
        }
    }
}
