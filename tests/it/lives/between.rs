//! What a person does between two lives of a run: forgets what earlier runs recorded, takes the branch away or back to an earlier
//! commit, and gives up what had landed there. Nothing else is lost by that, and nothing given up comes back.

use super::*;

impl World {
    /// Now and then, where a person does such things.
    pub(super) fn person_cleans(&mut self, dice: &mut Dice, end: End) {
        let acts = self.given_up.is_some();
        if acts && self.records != Records::None && dice.one_in(3) {
            self.records = Records::Forgotten;
        }
        // What is to be given up, is so of a run that somebody brought to an end.
        if acts && end == End::Stopped && dice.one_in(3) {
            self.branch_goes_back(dice);
        }
    }

    /// The branch goes back behind some of what landed, or is removed; what it lost is given up.
    fn branch_goes_back(&mut self, dice: &mut Dice) {
        let on_target = self.landed().len();
        for _ in 0..dice.below(on_target + 1) {
            let tip = self.tip.take().expect("so many are on it");
            self.tip.clone_from(&self.commits[&tip].0);
        }
        let state = replay(&self.stored);
        let landed = state.instances.iter().filter_map(|(id, instance)| match instance.fate() {
            Some(Fate::Landed { commit }) => Some((id.clone(), commit.clone())),
            _ => None,
        });
        for (instance, commit) in landed.collect::<Vec<_>>() {
            if !self.holds(&commit) {
                self.given_up.get_or_insert_default().insert(instance.to_string());
                self.store(vec![RunEvent::Merged { instance, fate: Fate::Dropped { was: GivenUp::Landed } }]);
            }
        }
    }
}

/// Seeds that once came to something else.
const ONCE_WRONG: [u64; 2] = [921, 53309];

fn seeds(few: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    number("SWARM_SEED")
        .map_or_else(|| (0..number("SWARM_SEEDS").unwrap_or(few)).chain(ONCE_WRONG).collect(), |seed| vec![seed])
}

/// Tries what holds of a world for many seeds; gives the sum of what it counts.
fn of_all(few: u64, holds: impl Fn(u64) -> usize + std::panic::RefUnwindSafe) -> usize {
    let mut all = 0;
    for seed in seeds(few).into_iter().filter(|&seed| graph(seed, Records::Some).is_some()) {
        let told = std::panic::catch_unwind(|| holds(seed));
        all +=
            told.unwrap_or_else(|_| panic!("seed {seed} (the reason stands above):\n{}", random_plan(&mut Dice(seed))));
    }
    all
}

fn reused(world: &World) -> usize {
    let taken = world.stored.iter().filter_map(|recorded| match &recorded.event {
        RunEvent::Reused { instances } => Some(instances.len()),
        _ => None,
    });
    taken.sum()
}

#[test]
fn lives_that_take_results_of_earlier_runs_come_to_what_one_life_comes_to() {
    let taken = of_all(SEEDS / 3, |seed| {
        let world = || World { seed, records: Records::Some, ..World::default() };
        let (undisturbed, _) = run_in(world(), 1);
        let (disturbed, _) = run_in(world(), LIVES_MAX);
        assert_eq!(outcome(&disturbed), outcome(&undisturbed));
        reused(&disturbed)
    });
    assert!(taken > 0 || std::env::var_os("SWARM_SEED").is_some(), "something has to be taken");
}

#[test]
fn of_what_a_person_did_not_give_up_nothing_is_lost_and_what_they_did_stays_away() {
    let given_up = of_all(SEEDS / 3, |seed| {
        let given_up = Some(BTreeSet::new());
        let (world, _) = run_in(World { seed, records: Records::Some, given_up, ..World::default() }, LIVES_MAX);
        let (state, given_up) = (replay(&world.stored), world.given_up.clone().unwrap_or_default());
        let mut landed = Vec::new();
        for (id, instance) in &state.instances {
            let name = id.to_string();
            match instance.fate() {
                Some(Fate::Landed { commit }) => {
                    assert!(world.holds(commit), "{name} landed as {commit}");
                    landed.push(name.clone());
                }
                Some(Fate::Dropped { was }) => assert!(*was == GivenUp::Landed && given_up.contains(&name), "{name}"),
                Some(Fate::Parked { .. } | Fate::Empty) => {}
                None => assert!(
                    !instance.result().is_some_and(InstanceResult::passed),
                    "{name} has no fate: {}",
                    world.told()
                ),
            }
            let is_dropped = matches!(instance.fate(), Some(Fate::Dropped { .. }));
            assert_eq!(is_dropped, given_up.contains(&name), "{name} is what it was given up as");
        }
        let mut on_target = world.landed();
        on_target.sort_unstable();
        landed.sort_unstable();
        assert_eq!(on_target, landed, "once each");
        given_up.len()
    });
    assert!(given_up > 0 || std::env::var_os("SWARM_SEED").is_some(), "something has to be given up");
}
