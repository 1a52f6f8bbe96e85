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
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            tail.char_indices().map(|(at, _)| at).chain([tail.len()]).any(|at| name_matches(rest, &tail[at..]))
        }),
    }
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
}
