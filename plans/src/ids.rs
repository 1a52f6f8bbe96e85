//! Names that are not interchangeable with other strings.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A task's name as the plan writes it: `[A-Za-z0-9_-]+`, unique in its plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskName(pub String);

/// An instance's id: the task's name, or `name[key=value,…]` with the keys in the order in which the plan writes them. Copies
/// share the text: a run of a hundred thousand instances names each of them in its graph, its events and its state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub Arc<str>);

impl InstanceId {
    /// The name of the task that it is one of.
    pub fn task(&self) -> &str {
        task_in(&self.0)
    }
}

/// The task's name in the text of an instance, or of a need on one: names have no bracket, and the values of a fan-out stand in some
/// behind the name.
pub fn task_in(text: &str) -> &str {
    text.split_once('[').map_or(text, |(task, _)| task)
}

/// Whether a name is what a pattern says, in which `*` stands for any characters and everything else for itself.
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    // What stands between two `*` is taken where it comes first: that leaves the most to what follows, so nothing is tried twice.
    let (between, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inside = name.strip_prefix(first).and_then(|tail| tail.strip_suffix(last));
    let behind = |tail: &str, part: &str| tail.find(part).map(|at| at + part.len());
    inside.is_some_and(|inside| {
        between.split('*').try_fold(inside, |tail, part| behind(tail, part).map(|at| &tail[at..])).is_some()
    })
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed where the text has no escapes.
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        Ok(InstanceId(Text::deserialize(deserializer)?.0.into()))
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_says_whose_it_is() {
        let check = |id: &str, task: &str| assert_eq!(InstanceId(id.into()).task(), task, "{id}");
        check("build", "build");
        check("build[os=linux,x=[1]]", "build");
        check("split.fix[task=core]", "split.fix");
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        let check = |pattern: &str, is: &[&str], is_not: &[&str]| {
            is.iter().for_each(|name| assert!(name_matches(pattern, name), "{pattern} {name}"));
            is_not.iter().for_each(|name| assert!(!name_matches(pattern, name), "{pattern} {name}"));
        };
        check("a", &["a"], &["", "ab", "ba"]);
        check("", &[""], &["a"]);
        check("*", &["", "a", "ä[b=*]"], &[]);
        check("a*", &["a", "ab"], &["", "ba"]);
        check("*a", &["a", "aba"], &["", "ab"]);
        check("a*a", &["aa", "aba"], &["a", "ab"]);
        check("a*b*c", &["abc", "axbxbxc", "abbc"], &["ac", "acb", "bac"]);
        check("*ab*ba*", &["abba", "xabxbax"], &["aba", "ba-ab"]);
        check("a**b", &["ab", "axb"], &["a"]);
        check("b[os=*]", &["b[os=x]"], &["b", "b[os=x", "bb[os=x]"]);
        check("*ä*", &["xäy"], &["xay"]);
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer_than_its_name() {
        let name = "a".repeat(100_000);
        assert!(!name_matches(&("*a".repeat(40) + "*b"), &name));
        assert!(name_matches(&("*a".repeat(40) + "*"), &name));
    }
}
