//! Whole-program tests on the real binary and real repositories, and the rules of the house.

/// Coding agents as tasks.
mod agent;
/// Names, lengths, budgets and keys that would end an agent without need.
mod agent_ends;
/// Keys, models and servers that keep an agent from working.
mod agent_faults;
/// The cage asked and used without a run, and machines that offer less.
mod alone;
/// People who join agents.
mod attach;
/// Repositories, plans and disks that are not as they should be.
mod bad_input;
/// The one door to models, against a server that misbehaves.
mod broker;
/// What people do by hand with a result: settle its conflict, look around where it was made.
mod by_hand;
/// Results of earlier runs instead of work.
mod cache;
/// The commands that read what a run left.
mod cli;
/// Coordinators that die, and are resumed.
mod crash;
/// The same plan gives the same commits.
mod determinism;
/// Disks and limits that really are too small.
mod disks;
/// What people give up.
mod dropped;
/// Tasks that reach a few hosts through the proxy.
mod egress;
/// Where each of the sixty ways out is tried.
mod escapes;
/// Tasks that other tasks add.
mod expansion;
/// Files that git stores through a filter.
mod filters;
/// Repositories as people set them up.
mod git_settings;
/// The guests' programs, shared with the tests of the sandbox.
#[path = "../../sandbox/tests/guests/mod.rs"]
#[expect(dead_code, reason = "some are for the tests of other rooms only")]
mod guests;
/// Commands other than a run that die or fail at each of their effects.
mod half_done;
/// Commits that workers made themselves.
mod history;
/// Tasks that mean harm to the run itself.
mod hostile;
/// Programs of the usual installers, in a task.
mod installations;
/// Workers come from a fork server.
mod launch;
/// What commands leave in folders of the person's own, and by what they would be misled later.
mod left_behind;
/// Random runs whose coordinators die, without processes.
mod lives;
/// Models that are slow, down, chatty or none at all.
mod model_faults;
/// Programs that ask models inside a task.
mod models;
/// Runs by plans that nobody may begin any more.
mod older_plans;
/// Plans that models write.
mod planner;
/// Files that a power cut left empty.
mod power_cut;
/// Plans made up at random.
mod random_plan;
/// Real source trees, edited by many tasks at once.
mod real_input;
/// What the gate found green before.
mod remembered;
/// Conflicts that the plan's resolver settles.
mod resolver;
/// Runs that were ended early, and go on.
mod resume;
/// Results that are looked at before they count.
mod review;
/// What people do to results and targets: another try, commits of their own.
mod second_word;
/// The dispatcher's decisions in random runs without processes.
mod simulation;
/// Worktrees that hold a part of the tree.
mod sparse;
/// From a plan's text to a merged branch, and everything that can go wrong on the way.
mod straight_line;
/// Machines that make no more processes or threads.
mod threads;
/// The rules of the house.
mod tidy;
/// What agents are given beside their own tools.
mod tools;
/// The merge train: its gate, what is tried with a change that does not land, when it lands.
mod train;
/// Tasks that may change the same paths, one after the other.
mod turns;
/// Git's own upkeep beside a run.
mod upkeep;
/// WebAssembly guests as tasks.
mod wasm;
/// Next commands, hints and lists.
mod words;
/// The git inside the cage, and the repository outside of it.
mod worktree;
