//! Where instances may start that waited until their needs contradicted each other no longer, and of whose needs all had landed
//! by then (`dispatcher/core/contradicted.rs`).

use swarm_plans::InstanceId;

use super::{History, Past};

/// Where an instance may start of whose needs all has landed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ground {
    /// Full hex id of a commit of the target.
    commit: Box<str>,
    /// How many had turned by then, as [`Past::saw_a_change_of`] counts them.
    turned: u32,
}

impl Past {
    /// Whether it waits no longer, and had a commit to start from then.
    pub fn has_ground(&self) -> bool {
        self.ground.is_some()
    }

    /// Full hex id of the commit of the target that its newest attempt started from, where it did not start from the run's base with
    /// the changes of its needs.
    pub fn started_on(&self) -> Option<&str> {
        self.ground.as_ref().filter(|_| self.stands_on_landed).map(|ground| &*ground.commit)
    }
}

impl History {
    /// An instance waits no longer.
    pub(super) fn settle(&mut self, id: &InstanceId, on: Option<&str>) {
        let ground = on.map(|commit| Box::new(Ground { commit: commit.into(), turned: self.turned }));
        let past = self.past(id);
        (past.is_contradicted, past.ground) = (false, ground);
    }

    /// Takes the places to start from that are no longer there: who waited for one waits anew.
    ///
    /// # Errors
    /// Those of whoever is asked.
    pub fn lose_grounds<E>(&mut self, is_there: impl Fn(&str) -> Result<bool, E>) -> Result<(), E> {
        for past in self.instances.values_mut() {
            if let Some(ground) = &past.ground
                && !is_there(&ground.commit)?
            {
                past.ground = None;
            }
        }
        Ok(())
    }

    /// Full hex id of the commit that an instance may start from, however the changes of its `needs` contradict each other on the run's
    /// base: all of them were there when it waited no longer, and none is made again since. What had landed stays what it is,
    /// whoever makes it again.
    pub fn ground_of<'a, 'n>(past: &'a Past, mut needs: impl Iterator<Item = &'n Past>) -> Option<&'a str> {
        let ground = past.ground.as_ref()?;
        needs.all(|need| need.remade <= ground.turned).then_some(&*ground.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{InstanceResult, RunEvent};
    use crate::report::story;

    /// Where `last` may start that needs `a`: told behind `before`, and asked behind `after`, too.
    fn ground(before: &[RunEvent], after: &[RunEvent]) -> Option<String> {
        let told = RunEvent::NeedsSettled { instances: vec![story::id("last")], on: Some("tip".to_owned()) };
        let history = History::of(before.iter().chain([&told]).chain(after));
        let past = |name: &str| history.instance(&story::id(name));
        History::ground_of(past("last")?, past("a").into_iter()).map(str::to_owned)
    }

    fn again(name: &str) -> RunEvent {
        RunEvent::Reopened { instances: vec![story::id(name)] }
    }

    #[test]
    fn what_landed_or_is_nobodys_need_may_be_made_again_behind_the_ground() {
        let passed = ["a", "other"].map(|name| story::result(name, InstanceResult::Succeeded, None));
        assert_eq!(ground(&passed, &[again("other")]).as_deref(), Some("tip"));
        let landed = [passed.as_slice(), &[story::landed("a")]].concat();
        assert_eq!(ground(&landed, &[again("a")]).as_deref(), Some("tip"));
    }

    #[test]
    fn a_need_that_is_held_and_made_again_takes_the_ground_away() {
        let passed = [story::result("a", InstanceResult::Succeeded, None)];
        assert_eq!(ground(&passed, &[again("a")]), None);
        let before = [passed.as_slice(), &[again("a")]].concat();
        assert_eq!(ground(&before, &[]).as_deref(), Some("tip"), "what is told behind it holds");
        assert_eq!(ground(&passed, &[again("a"), story::landed("a")]), None, "as in the life before");
    }
}
