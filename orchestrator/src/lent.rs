//! What a person's checkout and environment lend to a run: files of `[workspace] copy`, folders of `cache`, variables that a
//! policy or a text of the plan lets through. They are read anew by whoever resumes the run, while its plan and its base stay
//! as they were, so a run that goes on may mix results of two states. The journal keeps a digest of each from the run's start,
//! and what differs later is named.
//!
//! Nothing in a digest gives a value away: see [`of_variable`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use swarm_plans::Plan;

use crate::base::copied;
use crate::policy::{Host, word};
use crate::report::{sanitize, words};
use crate::repository::Repository;

/// Hex digits that are kept of the hash of a variable's value.
const VARIABLE_DIGITS: usize = 4;

/// Names in one note; more are counted.
const NAMED_MAX: usize = 10;

/// Digests of all that is lent, by name. What is not there has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Lent {
    /// Entries of `[workspace] copy`: their files' paths, bits and bytes.
    pub copied: BTreeMap<String, String>,
    /// Entries of `[workspace] cache`: whether there is a folder. What is in it belongs to build tools, and no result depends
    /// on it.
    pub caches: BTreeSet<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// The person's own ignore rules, which keep files out of every change; `None` of a run from before these were told, and where
    /// they cannot be read.
    pub excluded: Option<String>,
}

impl Lent {
    /// What is lent to a run of the plan that begins now. An entry that cannot be taken is left out: preparing the base refuses it.
    pub fn now(plan: &Plan, repository: &Repository, host: &Host) -> Lent {
        let policies = word::used_policies(plan).flat_map(|(_, policy)| policy.env.iter().chain(&policy.secrets));
        let names: BTreeSet<String> = policies.cloned().chain(plan.variables_named()).collect();
        let value = |name: String| host.env.get(&name).map(|value| of_variable(value)).map(|digest| (name, digest));
        let there = |entry: &&String| repository.workdir().is_some_and(|checkout| checkout.join(entry).is_dir());
        Lent {
            copied: copied::digests(repository, &plan.workspace.copy),
            caches: plan.workspace.cache.iter().filter(there).cloned().collect(),
            env: names.into_iter().filter_map(value).collect(),
            excluded: repository.exclude_files().ok().map(|files| of_rules(&files)),
        }
    }

    /// What a person should know of a run that began with `self` and goes on with `now`; `None` where nothing differs.
    pub fn note(&self, now: &Lent) -> Option<String> {
        let differing = |then: &BTreeMap<String, String>, now: &BTreeMap<String, String>| -> BTreeSet<String> {
            then.keys().chain(now.keys()).filter(|name| then.get(*name) != now.get(*name)).cloned().collect()
        };
        let copied = differing(&self.copied, &now.copied).into_iter().map(|name| (name, "copy"));
        let caches = self.caches.symmetric_difference(&now.caches).cloned().map(|name| (name, "cache"));
        let env = differing(&self.env, &now.env).into_iter().map(|name| (name, "env"));
        let rules = ("core.excludesFile or info/exclude".to_owned(), "ignore rules");
        let excluded = (self.excluded.is_some() && self.excluded != now.excluded).then_some(rules);
        let all: Vec<String> = excluded
            .into_iter()
            .chain(copied)
            .chain(caches)
            .chain(env)
            .map(|(name, key)| format!("{} ({key})", sanitize::name(&name)))
            .collect();
        let named = words::first_of(&all, NAMED_MAX);
        (!all.is_empty()).then(|| {
            format!(
                "not as the run began: {named}; results from before were made with the old, what runs from here on takes \
                 the new"
            )
        })
    }
}

/// Tells rules from others.
fn of_rules(files: &[Vec<u8>]) -> String {
    let mut digest = blake3::Hasher::new();
    for file in files {
        digest.update(&(file.len() as u64).to_le_bytes()).update(file);
    }
    digest.finalize().to_hex().to_string()
}

/// Tells a value from another, but for one in 65,536. So few digits fit countless values: who reads a journal cannot find out a
/// password by trying. No salt either: digests of the same value in many runs must not add up to more.
fn of_variable(value: &str) -> String {
    blake3::derive_key("swarm variable lent to a run", value.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()[..VARIABLE_DIGITS]
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(copied: &[(&str, &str)], caches: &[&str], env: &[(&str, &str)]) -> Lent {
        let map = |pairs: &[(&str, &str)], digest: fn(&str) -> String| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), digest(value))).collect()
        };
        Lent {
            copied: map(copied, str::to_owned),
            caches: caches.iter().map(|&name| name.to_owned()).collect(),
            env: map(env, of_variable),
            excluded: None,
        }
    }

    #[test]
    fn what_differs_is_named_once_and_never_shown() {
        let then = lent(&[(".env", "1"), ("a", "1")], &["target"], &[("A", "secret"), ("B", "b"), ("C", "c")]);
        assert_eq!(then.note(&then.clone()), None);
        let now = lent(&[(".env", "2"), ("a", "1")], &[], &[("A", "another"), ("B", "b"), ("D", "d")]);
        let note = then.note(&now).expect("a note");
        let named = "not as the run began: .env (copy), target (cache), A (env), C (env), D (env); results";
        assert!(note.starts_with(named) && !note.contains("secret") && !note.contains("another"), "{note}");
    }

    #[test]
    fn other_ignore_rules_are_named_where_those_of_the_start_are_known() {
        let with = |rules: Option<&str>| Lent {
            excluded: rules.map(|rules| of_rules(&[rules.as_bytes().to_vec(), vec![]])),
            ..Lent::default()
        };
        let note = |then, now| with(then).note(&with(now)).is_some();
        assert_eq!([note(None, Some("*.txt")), note(Some("*.txt"), Some("*.txt"))], [false, false]);
        assert_eq!([note(Some(""), Some("*.txt")), note(Some("*.txt"), None)], [true, true]);
    }

    #[test]
    fn a_digest_of_a_variable_is_too_short_to_find_its_value() {
        assert_eq!(of_variable("secret").len(), VARIABLE_DIGITS);
        assert_ne!(of_variable("secret"), of_variable("Secret"));
    }
}
