//! The words that `needs.TASK.result` can be, and those a condition compares it with that it never is.

/// What became of an instance, in plans, messages and journals.
pub const RESULTS: [&str; 9] =
    ["succeeded", "flaky", "failed", "timed-out", "violation", "cancelled", "skipped", "blocked", "lost"];

/// The texts that an expression compares a `.result` with (`needs.a.result == 'sucess'`) and that no result is called.
pub(crate) fn never_a_result(expression: &str) -> Vec<&str> {
    let after = expression.match_indices(".result").map(|(at, found)| &expression[at + found.len()..]);
    after.filter_map(compared_with).filter(|word| !RESULTS.contains(word)).collect()
}

/// The results of a need behind which nothing runs, unless it has `allow-failure`.
const FALLS_SHORT: [&str; 6] = ["failed", "timed-out", "violation", "cancelled", "blocked", "lost"];

/// The comparisons of a need's result with such a word alone (`needs.a.result == 'failed'`, `needs["a"].result in ['failed', 'lost']`):
/// the need and the first word.
pub(crate) fn falls_short(expression: &str) -> Vec<(&str, &str)> {
    let found = expression.match_indices(".result");
    let all = found.filter_map(|(at, found)| {
        let need = need_before(&expression[..at])?;
        let words = equal_to(&expression[at + found.len()..]);
        let (first, short) = (words.first().copied()?, words.iter().all(|word| FALLS_SHORT.contains(word)));
        short.then_some((need, first))
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
            ("needs.b.result == 'failed'", &[("b", "failed")][..]),
            ("vars.x and needs[\"a-b\"].result=='timed-out'", &[("a-b", "timed-out")]),
            ("needs.b.result in ['failed', \"lost\"]", &[("b", "failed")]),
            ("needs.b.result in ['failed', 'flaky']", &[]),
            ("needs.b.result != 'failed' or needs.b.result == 'skipped'", &[]),
            ("vars.b.result == 'failed' or x.result", &[]),
        ] {
            assert_eq!(falls_short(expression), expected, "{expression}");
        }
    }
}
