//! What the tools of foreign servers are called: `mcp__SERVER__TOOL`, in the letters that every provider takes, at most 64 of
//! them, no two alike. Pure; a name depends on nothing but the names themselves.

use std::collections::BTreeMap;

/// What every such name begins with.
const MARK: &str = "mcp__";
/// The longest name that providers take.
pub const NAME_MAX: usize = 64;
/// Hexadecimal digits that tell apart what would be called the same.
const DIGEST_DIGITS: usize = 8;

/// The names of tools given as server and tool, in the same order.
pub fn names(tools: &[(&str, &str)]) -> Vec<String> {
    let plain: Vec<String> = tools.iter().map(|(server, tool)| plain(server, tool)).collect();
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &plain {
        *count.entry(name).or_default() += 1;
    }
    let named = plain.iter().zip(tools).map(|(name, (server, tool))| {
        // A server whose name holds the mark itself could be taken for another with a longer tool.
        let unclear = letters(server).contains("__") || letters(tool).contains("__");
        if name.len() <= NAME_MAX && count[name.as_str()] == 1 && !unclear {
            return name.clone();
        }
        let front = &name[..name.len().min(NAME_MAX - DIGEST_DIGITS - 1)];
        format!("{front}_{}", digest(server, tool))
    });
    named.collect()
}

/// Whether a word by which a person means tools, to keep them from something, means the tool that is shown as `shown`: as it is shown,
/// as it would be called alone (which another tool of the same server can change), a whole server (`mcp__SERVER`), or with a `*`
/// at the end. Of what was cut off, nothing is known: it is meant, too.
pub fn means(word: &str, shown: &str) -> bool {
    if !shown.starts_with(MARK) || !word.get(..MARK.len()).is_some_and(|mark| mark.eq_ignore_ascii_case(MARK)) {
        return false;
    }
    let (word, shown) = (word.to_ascii_lowercase(), shown.to_ascii_lowercase());
    let (word, goes_on) = word.strip_suffix('*').map_or((&*word, false), |front| (front, true));
    let word = letters(word);
    let fits = |name: &str| if goes_on { name.starts_with(&word) } else { name == word };
    let alone = without_digest(&shown);
    let is_cut = |name: &&str| name.len() == NAME_MAX - DIGEST_DIGITS - 1;
    // A server whose name holds the mark itself is shown with digits behind each of its tools.
    let is_below = shown.strip_prefix(&word).is_some_and(|rest| rest.starts_with("__"));
    let of_server = is_below && (!word[MARK.len()..].contains("__") || alone.is_some());
    fits(&shown)
        || of_server
        || alone.is_some_and(fits)
        || alone.filter(is_cut).is_some_and(|name| word.starts_with(name))
}

/// A shown name without what tells it apart, where that may be at its end.
fn without_digest(shown: &str) -> Option<&str> {
    let (front, end) = shown.rsplit_once('_')?;
    let is_digest = end.len() == DIGEST_DIGITS && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_digest.then_some(front)
}

fn plain(server: &str, tool: &str) -> String {
    format!("mcp__{}__{}", letters(server), letters(tool))
}

/// Only ASCII, so that it can be cut anywhere.
fn letters(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().map(letter).collect()
}

fn digest(server: &str, tool: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(server.len() as u64).to_le_bytes()).update(server.as_bytes()).update(tool.as_bytes());
    hasher.finalize().to_hex()[..DIGEST_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_plain() {
        assert_eq!(names(&[("docs", "find"), ("my docs", "a.b/c")]), ["mcp__docs__find", "mcp__my_docs__a_b_c"]);
    }

    #[test]
    fn what_would_be_called_the_same_is_told_apart() {
        let named = names(&[("a", "x.y"), ("a", "x/y"), ("a__b", "c"), ("a", "b__c"), ("a", "z")]);
        assert_eq!(named[4], "mcp__a__z");
        assert!(named[0].starts_with("mcp__a__x_y_") && named[0] != named[1]);
        assert_ne!(named[2], named[3]);
    }

    #[test]
    fn what_keeps_from_a_tool_is_not_undone_by_how_it_is_told_apart() {
        let long = "t".repeat(100);
        let shown =
            names(&[("s", "a.b"), ("s", "a_b"), ("s", "x__y"), ("s", &long), ("s", "z"), ("s2", "z"), ("t__u", "z")]);
        let check = |word: &str, at: &[usize]| {
            let meant: Vec<usize> = (0..shown.len()).filter(|at| means(word, &shown[*at])).collect();
            assert_eq!(meant, at, "{word}");
        };
        check("mcp__s__a_b", &[0, 1]);
        check("MCP__s__a.b", &[0, 1]);
        check("mcp__s__x__y", &[2]);
        check(&format!("mcp__s__{long}"), &[3]);
        check(&shown[0].clone(), &[0]);
        check("mcp__s__z", &[4]);
        check("mcp__s", &[0, 1, 2, 3, 4]);
        check("mcp__s__*", &[0, 1, 2, 3, 4]);
        check("mcp__s__x__*", &[2]);
        check("mcp__*", &[0, 1, 2, 3, 4, 5, 6]);
        check("mcp__t__u", &[6]);
        check("mcp__s__", &[]);
        check("s", &[]);
        check("bash", &[]);
    }

    #[test]
    fn a_name_does_not_depend_on_the_others_order() {
        let long = "t".repeat(80);
        let (one, two) = (names(&[("a", &long), ("a", "x")]), names(&[("a", "x"), ("a", &long)]));
        assert_eq!((&one[0], one[0].len()), (&two[1], NAME_MAX));
    }

    proptest! {
        #[test]
        fn no_two_are_alike_and_all_are_short(
            tools in proptest::collection::btree_set(("[a_. ü]{0,3}", "[a_./]{0,70}"), 0..20),
        ) {
            let tools: Vec<(&str, &str)> = tools.iter().map(|(server, tool)| (server.as_str(), tool.as_str())).collect();
            let named = names(&tools);
            let different: std::collections::BTreeSet<&String> = named.iter().collect();
            prop_assert_eq!(different.len(), tools.len());
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            prop_assert!(named.iter().all(|name| name.len() <= NAME_MAX && name.chars().all(letter)));
        }
    }
}
