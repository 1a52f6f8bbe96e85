//! The words that `needs.TASK.result` can be, and those a condition compares it with that it never is.

/// What became of an instance, in plans, messages and journals.
pub const RESULTS: [&str; 9] =
    ["succeeded", "flaky", "failed", "timed-out", "violation", "cancelled", "skipped", "blocked", "lost"];

/// The texts that an expression compares a `.result` with (`needs.a.result == 'sucess'`) and that no result is called.
pub(crate) fn never_a_result(expression: &str) -> Vec<&str> {
    let after = expression.match_indices(".result").map(|(at, found)| &expression[at + found.len()..]);
    after.filter_map(compared_with).filter(|word| !RESULTS.contains(word)).collect()
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
    use super::never_a_result;

    #[test]
    fn only_texts_that_no_result_is_called_are_given() {
        assert_eq!(never_a_result("needs.a.result == 'sucess'"), ["sucess"]);
        assert_eq!(never_a_result("needs.a.result!=\"passed\" and needs.b.result == 'failed'"), ["passed"]);
        assert!(
            never_a_result("needs.a.result in ['x'] or needs.a.results == 'x' or vars.result == vars.x").is_empty()
        );
    }
}
