//! What is kept of an instance that has ended, for those who build on it and for the merge train. A run may have a hundred
//! thousand, so what most of them have takes no memory of its own: no outputs, and a change without a difference.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::event::ChangeSummary;

/// Outputs by name; most instances have none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs(Option<Arc<Map<String, Value>>>);

impl From<Map<String, Value>> for Outputs {
    fn from(all: Map<String, Value>) -> Self {
        Outputs((!all.is_empty()).then(|| Arc::new(all)))
    }
}

impl Outputs {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.as_ref()?.get(name)
    }

    /// All of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// A map of its own with all of them.
    pub fn to_map(&self) -> Map<String, Value> {
        self.0.as_deref().cloned().unwrap_or_default()
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// Lets changes that are equal to the one before share its memory: those that made no difference to the same tree are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    newest: Option<Arc<ChangeSummary>>,
}

impl Changes {
    /// The change, as it is kept.
    pub fn keep(&mut self, change: &ChangeSummary) -> Arc<ChangeSummary> {
        match &self.newest {
            Some(newest) if **newest == *change => Arc::clone(newest),
            _ => Arc::clone(self.newest.insert(Arc::new(change.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(tree: &str) -> ChangeSummary {
        let [base_tree, commit, tree] = ["base", "c", tree].map(str::to_owned);
        ChangeSummary { base_tree, commit, tree, files: 0, history: None, writes: Some(vec![]) }
    }

    #[test]
    fn equal_changes_are_one_and_others_stay_what_they_are() {
        let mut changes = Changes::default();
        let [first, again, other] = ["base", "base", "t"].map(|tree| changes.keep(&change(tree)));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((&*again, &*other), (&change("base"), &change("t")));
    }

    #[test]
    fn outputs_read_as_the_map_that_they_were() {
        let map = Map::from_iter([("b".to_owned(), Value::from(1)), ("a".to_owned(), Value::from(2))]);
        let outputs = Outputs::from(map.clone());
        assert_eq!((outputs.get("a"), outputs.get("c"), outputs.to_map()), (Some(&Value::from(2)), None, map.clone()));
        assert_eq!(serde_json::to_string(&outputs).expect("plain"), r#"{"b":1,"a":2}"#);
        assert_eq!(serde_json::to_string(&Outputs::from(Map::new())).expect("plain"), "{}");
    }
}
