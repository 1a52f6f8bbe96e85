//! What tasks left in `$SWARM_ARTIFACTS`, and the command by which a person gets it.

use std::collections::HashSet;

use super::landings::Entry;
use super::sanitize;
use crate::journal::RunState;

/// Tasks whose files nobody in the run needs, so that they are for the person: in graph order.
pub fn for_the_person(state: &RunState) -> Vec<Entry<'_>> {
    let needed: HashSet<&str> =
        state.instances.values().flat_map(|instance| instance.needs()).map(String::as_str).collect();
    let is_needed = |(id, instance): &Entry<'_>| needed.contains(&*id.0) || needed.contains(instance.task());
    state.instances.iter().filter(|(_, instance)| instance.handed_files()).filter(|it| !is_needed(it)).collect()
}

/// What copies the files of an instance out; the folder is the person's choice.
pub fn command(run: &str, id: &str) -> String {
    format!("swarm open --artifacts {run} {} DIR", sanitize::shell_word(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AttemptEnd, Handed, RunEvent};
    use crate::journal::replay;
    use crate::report::story::{added, ended, recorded};

    #[test]
    fn what_nobody_in_the_run_needs_is_the_persons() {
        let handed = |name: &str| {
            let mut event = ended(name, 1, AttemptEnd::Succeeded, 1, 0);
            let RunEvent::AttemptFinished { handed, .. } = &mut event else { panic!("{event:?}") };
            *handed = Handed::Files;
            event
        };
        let names =
            added(&[("list", &[]), ("m[x=1]", &["list"]), ("m[x=2]", &["list"]), ("one", &["m[x=1]"]), ("none", &[])]);
        let all = ["list", "m[x=1]", "m[x=2]", "one"].map(handed);
        let nothing = ended("none", 1, AttemptEnd::Succeeded, 1, 0);
        let state = replay(&recorded([vec![names], all.to_vec(), vec![nothing]].concat()));
        let found: Vec<_> = for_the_person(&state).iter().map(|(id, _)| &*id.0).collect();
        assert_eq!(found, ["m[x=2]", "one"]);
        assert_eq!(command("r-1", "m[x=2]"), "swarm open --artifacts r-1 'm[x=2]' DIR");
    }
}
