//! Which instances may change the same paths although none waits for the other: said before anything starts, because one
//! of two such results may have to be parked. Instances with equal scopes are compared once, and globs whose paths begin, end or
//! are called differently never, so that a hundred thousand disjoint scopes cost a sort.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::graph::{Need, TaskGraph};
use crate::instance::InstanceIx;
use crate::plan::TaskIx;
use crate::scope::{Meeting, Scope, Sense};

/// Pairs of globs that are looked at; what is beyond is said to be unknown.
const LOOKED_MAX: u64 = 20_000_000;
/// Those among them that have to be read together, because nothing tells them apart at a glance.
const COMPARED_MAX: u64 = 150_000;

/// Two tasks (or one, twice) with instances that may change the same paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The first pair of instances, in graph order.
    pub instances: [InstanceIx; 2],
    /// Where they meet.
    pub meeting: Meeting,
    /// How many pairs of instances of the two tasks meet.
    pub pairs: u64,
}

/// What is known of a plan's scopes before it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlaps {
    /// In plan order, one for each pair of tasks.
    pub found: Vec<Overlap>,
    /// Tasks of which some scope is known only while the plan runs: fan-outs without items, values of needs.
    pub later: Vec<TaskIx>,
    /// Whether there were too many scopes to compare them all.
    pub complete: Completeness,
}

/// Whether all scopes were compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Completeness {
    /// They were.
    #[default]
    All,
    /// There were more pairs than the bound.
    Bounded,
}

/// Instances that may change the same.
struct Group {
    scope: Scope,
    instances: Vec<InstanceIx>,
}

impl TaskGraph {
    /// The scopes that can meet.
    pub fn overlaps(&self) -> Overlaps {
        let mut overlaps = Overlaps::default();
        let groups = self.groups_by_scope(&mut overlaps.later);
        let waits = Waits::of(self);
        let mut found: BTreeMap<[TaskIx; 2], Overlap> = BTreeMap::new();
        let (candidates, complete) = candidates(&groups);
        overlaps.complete = complete;
        for ((one, other), globs) in candidates {
            let (scope, beside) = (&groups[one].scope, &groups[other].scope);
            let meeting = globs.iter().find_map(|(glob, its)| scope.meets_at(*glob, beside, *its, Sense::Alike));
            let Some(meeting) = meeting else { continue };
            self.count(&groups[one], &groups[other], &meeting, &waits, &mut found);
        }
        overlaps.found = found.into_values().collect();
        overlaps
    }

    fn groups_by_scope(&self, later: &mut Vec<TaskIx>) -> Vec<Group> {
        let mut known: HashMap<Option<Vec<String>>, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        later.extend(self.pending().into_iter().map(|pending| pending.task));
        for ix in (0..self.instances().len()).map(|at| InstanceIx(at as u32)) {
            match self.writes_before(ix) {
                Err(_) => later.push(self.instance(ix).task),
                // It changes nothing.
                Ok(Some(globs)) if globs.is_empty() => {}
                Ok(writes) => {
                    let at = *known.entry(writes.clone()).or_insert_with(|| {
                        groups.push(Group { scope: Scope::new(writes.as_deref()), instances: vec![] });
                        groups.len() - 1
                    });
                    groups[at].instances.push(ix);
                }
            }
        }
        later.sort_unstable();
        later.dedup();
        groups
    }

    /// Counts the pairs of two groups of which none waits for the other, by task.
    fn count(
        &self,
        one: &Group,
        other: &Group,
        meeting: &Meeting,
        waits: &Waits<'_>,
        found: &mut BTreeMap<[TaskIx; 2], Overlap>,
    ) {
        let by_task = |group: &Group| {
            let mut tasks: BTreeMap<TaskIx, Vec<InstanceIx>> = BTreeMap::new();
            for &ix in &group.instances {
                tasks.entry(self.instance(ix).task).or_default().push(ix);
            }
            tasks
        };
        let same = std::ptr::eq(one, other);
        let (of_one, of_other) = (by_task(one), by_task(other));
        for (&task, left) in &of_one {
            for (&other_task, right) in &of_other {
                if same && other_task < task || waits.ordered(task, other_task) {
                    continue;
                }
                let (all, first) = if same && task == other_task {
                    let [first, second, ..] = left.as_slice() else { continue };
                    let count = left.len() as u64;
                    (count * (count - 1) / 2, [*first, *second])
                } else {
                    (left.len() as u64 * right.len() as u64, [left[0], right[0]])
                };
                let (key, first) = if first[0] <= first[1] {
                    ([task, other_task], first)
                } else {
                    ([other_task, task], [first[1], first[0]])
                };
                let entry = found.entry(key).or_insert_with(|| Overlap {
                    instances: first,
                    meeting: meeting.clone(),
                    pairs: 0,
                });
                entry.pairs += all;
            }
        }
    }
}

/// Pairs of globs by the pair of groups that they are of.
type Candidates = BTreeMap<(usize, usize), Vec<(usize, usize)>>;

/// Pairs of groups of which some globs may meet, each with these globs; a group of several with itself, where any do.
fn candidates(groups: &[Group]) -> (Candidates, Completeness) {
    let globs: Vec<(usize, usize)> = groups
        .iter()
        .enumerate()
        .flat_map(|(at, group)| (0..group.scope.glob_count()).map(move |glob| (at, glob)))
        .collect();
    let scope = |(group, _): (usize, usize)| &groups[group].scope;
    let sorted = |of: fn(&Scope, usize) -> String| {
        let mut all: Vec<(String, usize)> =
            globs.iter().enumerate().map(|(at, glob)| (of(scope(*glob), glob.1), at)).collect();
        all.sort_unstable();
        all
    };
    // Globs differ in what their paths begin with, in what they end with, or in the name: by one of these few are left.
    let by_beginning = sorted(Scope::beginning);
    let ways = [sorted(Scope::ending_backwards), sorted(Scope::name)];
    let fewest = std::iter::once(&by_beginning).chain(&ways).min_by_key(|way| alike(way)).unwrap_or(&by_beginning);
    let several = (0..groups.len()).filter(|at| groups[*at].instances.len() > 1);
    let mut pairs: Candidates =
        several.map(|at| ((at, at), (0..groups[at].scope.glob_count()).map(|glob| (glob, glob)).collect())).collect();
    let (mut looked, mut found) = (0, 0);
    let mut add = |one: (usize, usize), other: (usize, usize)| {
        looked += 1;
        let (one, other) = (one.min(other), one.max(other));
        if one.0 != other.0 && scope(one).may_meet(one.1, scope(other), other.1) {
            found += 1;
            pairs.entry((one.0, other.0)).or_default().push((one.1, other.1));
        }
        looked <= LOOKED_MAX && found <= COMPARED_MAX
    };
    let is_all = each_alike(fewest, |one, other| add(globs[one], globs[other]))
        // A file in the place of a folder ends otherwise than what lies in that.
        && (std::ptr::eq(fewest, &by_beginning)
            || each_in_folder(&sorted(Scope::written), |file, inside| {
                !scope(globs[file]).is_file(globs[file].1) || add(globs[file], globs[inside])
            }));
    for globs in pairs.values_mut() {
        globs.sort_unstable();
        globs.dedup();
    }
    (pairs, if is_all { Completeness::All } else { Completeness::Bounded })
}

/// How many pairs there are of which one text begins with the other.
fn alike(sorted: &[(String, usize)]) -> u64 {
    let (mut open, mut pairs): (Vec<&str>, u64) = (Vec::new(), 0);
    for (text, _) in sorted {
        // Whatever begins with the last begins with all before it.
        while open.pop_if(|front| !text.starts_with(*front)).is_some() {}
        pairs += open.len() as u64;
        open.push(text);
    }
    pairs
}

/// Gives these pairs until `go_on` has enough; whether it had not.
fn each_alike(sorted: &[(String, usize)], mut go_on: impl FnMut(usize, usize) -> bool) -> bool {
    // Sorted, everything that begins with a text stands right behind it.
    sorted.iter().enumerate().all(|(at, (text, one))| {
        let behind = sorted[at + 1..].iter().take_while(|(other, _)| other.starts_with(text.as_str()));
        behind.into_iter().all(|(_, other)| go_on(*one, *other))
    })
}

/// Gives each text with all that lies in a folder of that name.
fn each_in_folder(sorted: &[(String, usize)], mut go_on: impl FnMut(usize, usize) -> bool) -> bool {
    sorted.iter().all(|(text, file)| {
        let folder = format!("{text}/");
        let from = sorted.partition_point(|(other, _)| *other < folder);
        let inside = sorted[from..].iter().take_while(|(other, _)| other.starts_with(&folder));
        inside.into_iter().all(|(_, other)| go_on(*file, *other))
    })
}

/// Which tasks wait for which, as a whole: for each that was asked about, a bit a task that it waits for.
struct Waits<'a> {
    graph: &'a TaskGraph,
    behind: std::cell::RefCell<Vec<Option<Box<[u64]>>>>,
}

impl<'a> Waits<'a> {
    fn of(graph: &'a TaskGraph) -> Self {
        Waits { graph, behind: std::cell::RefCell::new(vec![None; graph.plan().tasks.len()]) }
    }

    fn ordered(&self, one: TaskIx, other: TaskIx) -> bool {
        one != other && (self.waits(one, other) || self.waits(other, one))
    }

    fn waits(&self, task: TaskIx, need: TaskIx) -> bool {
        let mut behind = self.behind.borrow_mut();
        if behind[task.index()].is_none() {
            self.find(task, &mut behind);
        }
        behind[task.index()].as_ref().is_some_and(|all| all[need.index() / BITS] >> (need.index() % BITS) & 1 == 1)
    }

    /// Finds what a task waits for, behind what each of its needs does.
    fn find(&self, task: TaskIx, behind: &mut [Option<Box<[u64]>>]) {
        let (mut open, mut begun) = (vec![task], HashSet::new());
        while let Some(&next) = open.last() {
            if behind[next.index()].is_some() {
                open.pop();
                continue;
            }
            let needs = self.graph.needs_of(next, None);
            let needs = needs.iter().filter_map(|need| if let Need::Task(need) = need { Some(*need) } else { None });
            let needs: Vec<TaskIx> = needs.collect();
            if begun.insert(next) {
                open.extend(needs.iter().filter(|need| behind[need.index()].is_none() && !begun.contains(*need)));
                continue;
            }
            let mut all = vec![0_u64; behind.len().div_ceil(BITS)].into_boxed_slice();
            for need in needs {
                all[need.index() / BITS] |= 1 << (need.index() % BITS);
                let theirs = behind[need.index()].iter().flat_map(|theirs| theirs.iter());
                all.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours |= theirs);
            }
            behind[next.index()] = Some(all);
            open.pop();
        }
    }
}

const BITS: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(tasks: &str) -> Vec<String> {
        let text = format!("version = 1\n{tasks}");
        let parsed = crate::parse("p.toml", &text, &[], &mut |_| Err(String::new()));
        let graph = TaskGraph::expand(parsed.plan.expect("a plan")).expect("it expands");
        let all = graph.overlaps();
        let shown = |overlap: &Overlap| {
            let [one, other] = overlap.instances.map(|ix| graph.instance(ix).id.0.clone());
            format!("{one} {other} {} ×{}", overlap.meeting.path, overlap.pairs)
        };
        let later = all.later.iter().map(|task| format!("later {}", graph.plan().task(*task).name));
        all.found.iter().map(shown).chain(later).collect()
    }

    #[test]
    fn only_scopes_that_can_meet_and_are_not_ordered_are_named() {
        let tasks = "[tasks.a]\nrun = 'x'\nwrites = ['src/**']\n[tasks.b]\nrun = 'x'\nwrites = ['**/mod.rs']\n\
                     [tasks.c]\nrun = 'x'\nneeds = ['a']\nwrites = ['src/*']\n[tasks.d]\nrun = 'x'\nwrites = []\n\
                     [tasks.e]\nrun = 'x'\nwrites = ['doc/*.md']\n";
        assert_eq!(overlaps(tasks), ["a b src/mod.rs ×1", "b c src/mod.rs ×1"]);
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_named_whatever_tells_the_globs_apart() {
        for (file, inside) in [("x", "x/*.rs"), ("x", "x/*/c"), ("x", "x/a.md"), ("xé", "xé/a.md"), ("./x", "X/[ab]/y")]
        {
            let task = |name: &str, glob: &str| format!("[tasks.{name}]\nrun = 'x'\nwrites = ['{glob}']\n");
            let tasks = task("a", file) + &task("b", inside);
            assert_eq!(overlaps(&tasks).len(), 1, "{file} and {inside}: {:?}", overlaps(&tasks));
        }
    }

    #[test]
    fn instances_of_one_task_are_compared_too() {
        let task = |writes: &str| format!("[tasks.a]\nrun = 'x'\nforeach.n = [1, 2, 3]\nwrites = ['{writes}']\n");
        assert_eq!(overlaps(&task("crates/{{ n }}/**")), Vec::<String>::new());
        assert_eq!(overlaps(&task("CHANGELOG.md")), ["a[n=1] a[n=2] CHANGELOG.md ×3"]);
    }

    #[test]
    fn what_only_the_run_knows_is_named() {
        let tasks = "[tasks.l]\nrun = 'x'\nwrites = []\noutputs.all = { json = 'a' }\n[tasks.a]\nneeds = ['l']\nrun = 'x'\n\
                     foreach.n = 'needs.l.outputs.all'\nwrites = ['x{{ n }}']\n[tasks.b]\nneeds = ['l']\nrun = 'x'\nwrites = ['{{ needs.l.result }}']\n";
        assert_eq!(overlaps(tasks), ["later a", "later b"]);
    }

    #[test]
    fn who_waits_by_two_ways_waits_for_all_behind_both() {
        let task = |name: &str, needs: &str| format!("[tasks.{name}]\nrun = 'x'\nneeds = [{needs}]\n");
        let tasks = [task("a", ""), task("b", "'a'"), task("c", "'b'"), task("d", "'b', 'c'"), task("e", "'d', 'c'")];
        assert_eq!(overlaps(&tasks.concat()), Vec::<String>::new());
        assert_eq!(overlaps(&[&tasks[..3], &[task("f", "'a', 'b'")]].concat().concat()).len(), 1);
    }

    #[test]
    fn a_long_chain_is_ordered_and_looked_through_once() {
        let task = |at: usize| format!("[tasks.t{at}]\nrun = 'x'\nneeds = ['t{}']\n", at - 1);
        let chain: String = (1..3_000).map(task).collect();
        assert_eq!(overlaps(&format!("[tasks.t0]\nrun = 'x'\n{chain}")), Vec::<String>::new());
    }

    #[test]
    fn many_disjoint_scopes_are_compared_by_their_beginnings() {
        let items: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
        let text = format!("[tasks.a]\nrun = 'x'\nforeach.n = {items:?}\nwrites = ['d{{{{ n }}}}/x/**']\n");
        assert_eq!(overlaps(&text), Vec::<String>::new());
    }
}
