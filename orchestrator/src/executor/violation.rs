//! What an attempt did that its plan does not allow, and the line of the plan that would allow it: another try of the same plan does
//! the same again.

use swarm_plans::place::{IsWritten, TRAIN, list_to_paste};
use swarm_plans::scope::is_literal;
use swarm_plans::{MergeMode, Task};

use crate::collect::{Refusal, display_path};
use crate::event::AttemptEnd;

/// Entries that a line of the plan names; whoever needs more writes a glob.
const ENTRIES_MAX: usize = 3;

/// The end of an attempt whose change is refused; `writes` are the globs that it had.
pub(super) fn violation(refusal: &Refusal, mode: MergeMode, task: &Task, writes: Option<&[String]>) -> AttemptEnd {
    let (detail, paths): (String, &[Vec<u8>]) = match refusal {
        Refusal::OutOfScope { paths, .. } if mode == MergeMode::None => {
            ("the plan's `mode = \"none\"` allows no change, and it changed".to_owned(), paths)
        }
        Refusal::OutOfScope { paths, count: 1 } => ("it changed a path outside of its `writes`".to_owned(), paths),
        Refusal::OutOfScope { paths, count } => (format!("it changed {count} paths outside of its `writes`"), paths),
        Refusal::Hostile { path, reason } => (reason.clone(), std::slice::from_ref(path)),
        Refusal::Limit { limit, max, path } => {
            (format!("what it left exceeds the limit `{limit}` of {max}"), std::slice::from_ref(path))
        }
    };
    let allow_with = match refusal {
        Refusal::OutOfScope { .. } if mode == MergeMode::None => Some(TRAIN.to_owned()),
        Refusal::OutOfScope { paths, .. } => {
            let entries = entries(writes.unwrap_or_default(), paths);
            entries.map(|(entries, and)| {
                let written = task.writes.iter().flatten().map(|glob| glob.source().to_owned());
                let all: Vec<String> = written.chain(entries).collect();
                list_to_paste(&task.table(), IsWritten::Yes, ("writes", &all), and)
            })
        }
        Refusal::Hostile { .. } | Refusal::Limit { .. } => None,
    };
    AttemptEnd::Violation { detail, paths: paths.iter().map(|path| display_path(path)).collect(), allow_with }
}

/// What `writes` would have to hold as well: the folder that it names like a file, or the path itself; and what is said of those
/// that are too many to be named. `None` where a name cannot be said in a plan.
fn entries(writes: &[String], paths: &[Vec<u8>]) -> Option<(Vec<String>, Option<&'static str>)> {
    let below = |path: &str| {
        let named = writes.iter().map(|text| text.strip_prefix("./").unwrap_or(text)).filter(|text| is_literal(text));
        named.map(|text| format!("{text}/")).find(|folder| path.starts_with(folder))
    };
    let mut entries: Vec<String> = Vec::new();
    for path in paths {
        let path =
            std::str::from_utf8(path).ok().filter(|path| is_literal(path) && !path.contains(char::is_control))?;
        let entry = below(path).unwrap_or_else(|| path.to_owned());
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    let more = (entries.len() > ENTRIES_MAX).then_some("a glob for what else it changed");
    entries.truncate(ENTRIES_MAX);
    (!entries.is_empty()).then_some((entries, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_written_like_a_file_is_named_once_with_its_slash() {
        let check = |writes: &[&str], paths: &[&str], expected: Option<&[&str]>| {
            let writes: Vec<String> = writes.iter().map(|&text| text.to_owned()).collect();
            let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
            let found = entries(&writes, &paths);
            assert_eq!(found.as_ref().map(|(_, more)| more.is_some()), expected.map(|_| paths.len() > ENTRIES_MAX));
            assert_eq!(
                found.map(|(entries, _)| entries),
                expected.map(|all| all.iter().map(|&it| it.to_owned()).collect())
            );
        };
        check(&["src"], &["src/a", "src/b", "docs/x"], Some(&["src/", "docs/x"]));
        check(&[], &["a", "b", "c", "d"], Some(&["a", "b", "c"]));
        check(&["src/*.rs"], &["src/a.py"], Some(&["src/a.py"]));
        check(&[], &["it's", "\"q\""], Some(&["it's", "\"q\""]));
        for odd in ["a\n", "a\\b", "a}"] {
            check(&[], &[odd], None);
        }
    }
}
