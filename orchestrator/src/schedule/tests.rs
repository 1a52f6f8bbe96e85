//! The schedule: orders, capacities, ends, and random graphs.

use super::*;
use proptest::prelude::*;

fn work(weight_ms: u64) -> NodeSpec {
    NodeSpec::Work { weight_ms, priority: 0, demand: vec![] }
}

fn started(schedule: &mut Schedule) -> Vec<usize> {
    std::iter::from_fn(|| schedule.start_next().map(NodeIx::index)).collect()
}

/// A run of 100,000 tasks has as many of these.
#[test]
fn a_node_takes_32_bytes_and_16_more_while_it_is_ready() {
    assert!(size_of::<Node>() <= 32, "{}", size_of::<Node>());
    assert!(size_of::<Candidate>() <= 16, "{}", size_of::<Candidate>());
}

#[test]
fn a_lane_gives_back_its_room_as_it_empties() {
    let mut s = Schedule::new(1, vec![]);
    let nodes: Vec<NodeIx> = (0..1000).map(|_| s.add(work(1), &[])).collect();
    s.seal();
    for node in &nodes[..990] {
        assert_eq!(s.start_next(), Some(*node));
        s.finish(*node, Verdict::Pass);
    }
    assert!(s.lanes[0].ready.len() == 10 && s.lanes[0].ready.capacity() <= 40, "{}", s.lanes[0].ready.capacity());
}

#[test]
fn the_longest_chain_starts_first() {
    let mut s = Schedule::new(1, vec![]);
    let short = s.add(work(50), &[]);
    let head = s.add(work(10), &[]);
    s.add(work(100), &[head]);
    s.seal();
    assert_eq!(started(&mut s), [head.index()]);
    assert_eq!(s.finish(head, Verdict::Pass), []);
    assert_eq!(started(&mut s), [2]);
    s.finish(NodeIx(2), Verdict::Pass);
    assert_eq!(started(&mut s), [short.index()]);
}

#[test]
fn priority_beats_the_critical_path() {
    let mut s = Schedule::new(1, vec![]);
    s.add(work(1000), &[]);
    let urgent = s.add(NodeSpec::Work { weight_ms: 1, priority: 1, demand: vec![] }, &[]);
    s.seal();
    assert_eq!(s.start_next(), Some(urgent));
}

#[test]
fn a_full_resource_holds_back_only_its_own_waiters() {
    let mut s = Schedule::new(8, vec![1]);
    let demand = || NodeSpec::Work { weight_ms: 9, priority: 0, demand: vec![(0, 1)] };
    let (a, b, free) = (s.add(demand(), &[]), s.add(demand(), &[]), s.add(work(1), &[]));
    s.seal();
    assert_eq!(started(&mut s), [a.index(), free.index()]);
    s.finish(a, Verdict::Pass);
    assert_eq!(started(&mut s), [b.index()]);
}

#[test]
fn failed_work_blocks_only_its_dependents_and_names_the_root() {
    let mut s = Schedule::new(8, vec![]);
    let (bad, good) = (s.add(work(1), &[]), s.add(work(1), &[]));
    let join = s.add(NodeSpec::Join, &[bad, good]);
    let after = s.add(work(1), &[join]);
    s.add(work(1), &[good]);
    s.seal();
    started(&mut s);
    let blocked = |node| Effect::Blocked { node, cause: bad };
    assert_eq!(s.finish(bad, Verdict::Fail), [], "what it needs besides may fail, too");
    assert_eq!(s.finish(good, Verdict::Pass), [blocked(join), blocked(after)]);
    assert_eq!(started(&mut s), [4]);
}

#[test]
fn of_several_failures_the_first_need_is_named_whichever_came_first() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut s = Schedule::new(8, vec![]);
        let roots: Vec<NodeIx> = (0..3).map(|_| s.add(work(1), &[])).collect();
        let join = s.add(NodeSpec::Join, &[roots[1], roots[0], roots[0]]);
        let both = s.add(work(1), &[roots[2], join]);
        s.seal();
        started(&mut s);
        let told: Vec<Effect> = order.iter().flat_map(|&at| s.finish(roots[at], Verdict::Fail)).collect();
        let blocked = |node, cause| Effect::Blocked { node, cause };
        assert_eq!(told, [blocked(join, roots[1]), blocked(both, roots[2])], "{order:?}");
        assert!(s.is_done());
    }
}

#[test]
fn what_is_doomed_waits_for_no_turn_and_when_all_stops_for_what_runs_only() {
    // All three run, or one of them has not started.
    for jobs in [3, 2] {
        let mut s = Schedule::new(jobs, vec![]);
        let [bad, slow, late] = [3, 2, 1].map(|weight_ms| s.add(work(weight_ms), &[]));
        let turn = s.add(NodeSpec::Turn, &[slow]);
        let join = s.add(NodeSpec::Join, &[slow]);
        let (next, waits) = (s.add(work(1), &[turn, bad]), s.add(work(1), &[join, late, bad]));
        let last = s.add(work(1), &[waits]);
        s.seal();
        assert_eq!(started(&mut s).len(), jobs);
        let blocked = |node, cause| Effect::Blocked { node, cause };
        assert_eq!(s.finish(bad, Verdict::Fail), [blocked(next, bad)]);
        assert_eq!(s.stop(), (vec![], if jobs == 3 { vec![turn] } else { vec![late, turn] }));
        if jobs == 3 {
            assert_eq!(s.finish(late, Verdict::Fail), []);
        }
        assert_eq!(s.finish(slow, Verdict::Fail), [blocked(join, slow), blocked(waits, slow), blocked(last, slow)]);
        assert!(s.is_done());
    }
    let mut s = Schedule::new(1, vec![]);
    let [bad, late] = [2, 1].map(|weight_ms| s.add(work(weight_ms), &[]));
    let waits = s.add(work(1), &[late, bad]);
    s.seal();
    started(&mut s);
    s.finish(bad, Verdict::Fail);
    assert_eq!(s.stop(), (vec![Effect::Blocked { node: waits, cause: bad }], vec![late]));
    assert!(s.is_done());
}

#[test]
fn a_fan_out_grows_before_its_join_ends() {
    let mut s = Schedule::new(8, vec![]);
    let fan = s.add(work(1), &[]);
    let join = s.add(NodeSpec::Join, &[fan]);
    let after = s.add(work(1), &[join]);
    s.seal();
    started(&mut s);
    let grown: Vec<NodeIx> = (0..3).map(|_| s.add(work(1), &[])).collect();
    for &node in &grown {
        s.add_need(join, node);
    }
    s.seal();
    assert_eq!(s.finish(fan, Verdict::Pass), []);
    assert_eq!(started(&mut s).len(), 3);
    s.finish(grown[0], Verdict::Pass);
    s.finish(grown[1], Verdict::Pass);
    assert_eq!(s.finish(grown[2], Verdict::Pass), [Effect::Joined(join)]);
    assert_eq!(started(&mut s), [after.index()]);
}

#[test]
fn a_turn_passes_however_its_needs_end_and_not_before() {
    let mut s = Schedule::new(8, vec![]);
    let (bad, slow) = (s.add(work(2), &[]), s.add(work(1), &[]));
    let blocked = s.add(work(1), &[bad]);
    let first = s.add(NodeSpec::Turn, &[slow]);
    let second = s.add(NodeSpec::Turn, &[first, blocked]);
    let behind = s.add(work(1), &[second]);
    s.seal();
    assert_eq!(started(&mut s), [bad.index(), slow.index()]);
    assert_eq!(s.finish(bad, Verdict::Fail), [Effect::Blocked { node: blocked, cause: bad }]);
    assert!(started(&mut s).is_empty());
    assert_eq!(s.finish(slow, Verdict::Fail), []);
    assert_eq!(started(&mut s), [behind.index()]);
    let late = s.add(NodeSpec::Turn, &[bad, slow]);
    let after = s.add(work(1), &[late]);
    s.seal();
    assert_eq!(started(&mut s), [after.index()]);
}

#[test]
fn an_empty_fan_out_joins_at_once() {
    let mut s = Schedule::new(1, vec![]);
    let join = s.add(NodeSpec::Join, &[]);
    let after = s.add(work(1), &[join]);
    assert_eq!(s.seal(), [Effect::Joined(join)]);
    assert_eq!(s.start_next(), Some(after));
}

#[test]
fn resting_work_gives_its_slot_away_and_comes_back() {
    let mut s = Schedule::new(1, vec![]);
    let (a, b) = (s.add(work(2), &[]), s.add(work(1), &[]));
    s.seal();
    assert_eq!(s.start_next(), Some(a));
    s.rest(a);
    assert_eq!(s.start_next(), Some(b));
    s.finish(b, Verdict::Pass);
    s.wake(a);
    assert_eq!(s.start_next(), Some(a));
}

#[test]
fn stop_cancels_what_has_not_started() {
    let mut s = Schedule::new(1, vec![]);
    let (a, b) = (s.add(work(2), &[]), s.add(work(1), &[]));
    let c = s.add(work(1), &[a]);
    s.seal();
    s.start_next();
    assert_eq!(s.stop(), (vec![], vec![b, c]));
    assert_eq!((s.start_next(), s.is_done()), (None, false));
    s.finish(a, Verdict::Pass);
    assert!(s.is_done());
}

/// A random graph: for each node its demand, whether it fails, and which earlier nodes it needs.
fn graphs() -> impl Strategy<Value = Vec<(u32, bool, Vec<usize>)>> {
    prop::collection::vec((0u32..3, prop::bool::weighted(0.15), prop::collection::vec(0usize..40, 0..4)), 1..40)
}

proptest! {
    #[test]
    fn every_node_ends_once_after_its_needs_within_capacity(nodes in graphs(), jobs in 1usize..5, picks in prop::collection::vec(0usize..100, 400)) {
        let mut s = Schedule::new(jobs, vec![3]);
        let needs_of = |at: usize| nodes[at].2.iter().filter(move |n| at > 0 && **n < at).copied().collect::<Vec<_>>();
        for (at, (units, ..)) in nodes.iter().enumerate() {
            let needs: Vec<NodeIx> = needs_of(at).into_iter().map(|n| NodeIx(n as u32)).collect();
            let demand = if *units == 0 { vec![] } else { vec![(0, *units)] };
            s.add(NodeSpec::Work { weight_ms: at as u64, priority: 0, demand }, &needs);
        }
        let mut ended: BTreeMap<usize, bool> = BTreeMap::new();
        prop_assert!(s.seal().is_empty());
        let mut running: Vec<NodeIx> = vec![];
        for pick in picks {
            while let Some(node) = s.start_next() {
                for need in needs_of(node.index()) { prop_assert_eq!(ended.get(&need), Some(&true)); }
                running.push(node);
            }
            let held: u32 = running.iter().map(|n| nodes[n.index()].0).sum();
            prop_assert!(running.len() <= jobs && held <= 3 && s.running() == running.len());
            if running.is_empty() { break }
            let node = running.swap_remove(pick % running.len());
            let passes = !nodes[node.index()].1;
            prop_assert_eq!(ended.insert(node.index(), passes), None);
            for effect in s.finish(node, if passes { Verdict::Pass } else { Verdict::Fail }) {
                let Effect::Blocked { node: blocked, cause } = effect else { unreachable!("no joins here") };
                prop_assert!(nodes[cause.index()].1);
                for need in needs_of(blocked.index()) { prop_assert!(ended.contains_key(&need)); }
                prop_assert_eq!(ended.insert(blocked.index(), false), None);
            }
        }
        prop_assert!(s.is_done() && ended.len() == nodes.len());
    }
}
