//! Plans made up at random, the same for the same seed: what [`crate::simulation`] and [`crate::lives`] run.

use std::fmt::Write as _;

/// Numbers that look random and are the same for the same seed: the generator splitmix64.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`, which is at least 1.
    pub fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.0) % sides as u64) as usize
    }

    /// True once in `sides` times.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// The last step of splitmix64: every bit of the result depends on every bit of `bits`.
pub fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Up to a dozen tasks, behind what `head` says of the run and its merges; `more` gives further keys of a task. Some of these
/// plans are none: a fan-out over what is no list, for one.
pub fn random_plan(dice: &mut Dice, head: fn(&mut Dice) -> String, more: fn(&mut Dice) -> String) -> String {
    let count = 1 + dice.below(12);
    let mut plan = format!("version = 1\nname = 'sim'\n[resources]\nbench = 2\n{}", head(dice));
    for task in 0..count {
        let mut needs: Vec<usize> = (0..task).filter(|_| dice.one_in(3)).collect();
        let mut keys = more(dice);
        match dice.below(8) {
            0 if task > 0 => {
                let source = dice.below(task);
                needs.retain(|need| *need != source);
                needs.push(source);
                writeln!(keys, "foreach.it = 'needs.t{source}.outputs.all'").expect("memory");
            }
            1 => keys.push_str("foreach.it = { lines = 'ls' }\n"),
            2 => keys.push_str("matrix = { a = [1, 2], b = ['x', 'y'] }\n"),
            _ => keys.push_str("outputs.all = { json = 'l.json' }\n"),
        }
        // Only a task that is one instance has an output to fan out over; others are no source.
        let names: Vec<String> = needs.iter().map(|need| format!("'t{need}'")).collect();
        if dice.one_in(5) {
            keys.push_str("allow-failure = true\n");
        }
        if dice.one_in(8) {
            keys.push_str("if = 'false'\n");
        }
        if dice.one_in(2) {
            writeln!(keys, "writes = [{}]", ["'a'", "'b/**'", "'b/c'", "'*'", ""][dice.below(5)]).expect("memory");
        }
        if dice.one_in(4) {
            writeln!(keys, "resources = {{ bench = {} }}", dice.below(3)).expect("memory");
        }
        writeln!(plan, "[tasks.t{task}]\nrun = 'true'\nneeds = [{}]\n{keys}", names.join(", ")).expect("memory");
    }
    plan
}
