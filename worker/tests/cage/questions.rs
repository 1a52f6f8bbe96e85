//! What the evaluator answers, asked of the kernel: random policies over a small tree, a job in a real cage that tries every
//! access, and the same answers.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use swarm_protocol::Tier;
use swarm_sandbox::{Access, CopyOnWrite, Draft, PathGrant, Policy, evaluate, is_of_a_folder, reach};

use crate::Case;
use crate::fixture::{Cage, run_under};

/// Random policies that are tried in each tier.
const POLICIES: u32 = 60;

/// The tree that policies are about: every folder has a file `f`.
const FOLDERS: &[&str] = &["a", "a/b", "a/b/c", "a/b/d", "e", "e/g", "h"];

/// Places of the system, asked about as well: reading all of them, writing where nothing can be harmed.
const SYSTEM: &[&str] = &[
    "r /",
    "r /usr/bin/env",
    "r /etc/passwd",
    "r /etc/shadow",
    "r /etc",
    "r /proc/self/status",
    "r /sys",
    "r /run",
    "r /dev/null",
    "r /dev/fd",
    "r /dev/stdin",
    "w /dev/stdout",
    "r /proc/keys",
    "r /proc/key-users",
    "r /proc/1/environ",
    "r /proc/1/status",
    "r /proc/self/environ",
    "r /proc/1/root/etc/passwd",
    "r /proc/1/task/1/environ",
    "r /proc/1/task/1/root/etc/passwd",
    "r /proc/1/task/1/status",
    "r /proc/1/fd",
    "r /proc/1/stack",
    "r /proc/self/stack",
    "r /proc/1/task/1/stack",
    "r /proc/1/timers",
    "r /proc/self/timers",
    "r /proc/1/timerslack_ns",
    "r /proc/self/timerslack_ns",
    "r /proc/1/clear_refs",
    "r /proc/self/clear_refs",
    "w /proc/self/clear_refs",
    "r /proc/kmsg",
    "r /proc/sys/vm/drop_caches",
    "r /proc/self/cwd",
    "r /proc/self/cwd/README",
    "w /proc/self/cwd/README",
    "r /proc/thread-self/cwd",
    "r /proc/self/root",
    "r /proc/self/root/etc/passwd",
    "r /proc/self/root/etc/shadow",
    "w /proc/self/root/etc/swarm-new",
    "r /etc/ssl/",
    "r README/",
    "w README/",
    "w no-such/",
    "w /dev/null/",
    "r /usr/../etc/passwd",
    "r /usr/bin/../../etc/shadow",
    "r .",
    "r ./",
    "r ./README",
    "w ../swarm-new",
    "w README",
    "w /dev/null",
    "w /usr/swarm-new",
    "w /etc/swarm-new",
    "w /proc/self/comm",
    "w /run/swarm-new",
    "w /swarm-new",
];

/// What a policy says about folders of the tree, by their index in [`FOLDERS`].
#[derive(Debug, Clone)]
struct Wishes {
    grants: Vec<(usize, Access)>,
    copies: Vec<usize>,
    hide: Vec<(usize, bool)>,
    /// Links: the folder that each lies in, what it leads to.
    links: Vec<(LinkAt, LinkTo)>,
}

/// Where a link lies, under a name of its own.
#[derive(Debug, Clone, Copy)]
enum LinkAt {
    Folder(usize),
    Worktree,
}

/// What a link leads to.
#[derive(Debug, Clone, Copy)]
enum LinkTo {
    Folder(usize),
    File(usize),
    /// By way of the folder around.
    Beside(usize),
    Link(usize),
    Shadow,
    Passwd,
    Worktree,
}

/// All claims.
pub fn cases() -> Vec<Case> {
    vec![Case::new("the evaluator answers as the kernel does", answers)]
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let folder = || 0..FOLDERS.len();
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    let grants = prop::collection::vec((folder(), access), 0..4);
    let copies = prop::collection::vec(folder(), 0..2);
    let hide = prop::collection::vec((folder(), any::<bool>()), 0..3);
    let at = prop_oneof![3 => folder().prop_map(LinkAt::Folder), 1 => Just(LinkAt::Worktree)];
    let to = prop_oneof![
        folder().prop_map(LinkTo::Folder),
        folder().prop_map(LinkTo::File),
        folder().prop_map(LinkTo::Beside),
        (0..4_usize).prop_map(LinkTo::Link),
        Just(LinkTo::Shadow),
        Just(LinkTo::Passwd),
        Just(LinkTo::Worktree),
    ];
    let links = prop::collection::vec((at, to), 0..4);
    (grants, copies, hide, links).prop_map(|(grants, copies, hide, links)| Wishes { grants, copies, hide, links })
}

/// Makes the links, and gives the paths by which the job asks about them.
fn make_links(wishes: &Wishes, cage: &Cage, zone: &Path) -> Vec<PathBuf> {
    let folder = |at: LinkAt| match at {
        LinkAt::Folder(folder) => (zone.join(FOLDERS[folder]), zone.join(FOLDERS[folder])),
        LinkAt::Worktree => (cage.worktree(), cage.written("")),
    };
    let names: Vec<PathBuf> =
        wishes.links.iter().enumerate().map(|(n, (at, _))| folder(*at).0.join(format!("link-{n}"))).collect();
    for (number, (at, to)) in wishes.links.iter().enumerate() {
        let target = match to {
            LinkTo::Folder(folder) => zone.join(FOLDERS[*folder]),
            LinkTo::File(folder) => zone.join(FOLDERS[*folder]).join("f"),
            LinkTo::Beside(folder) => zone.join(FOLDERS[*folder]).join("../f"),
            LinkTo::Link(other) => names.get(*other).cloned().unwrap_or_else(|| "f".into()),
            LinkTo::Shadow => "/etc/shadow".into(),
            LinkTo::Passwd => "../../../../../../../../../../../../etc/passwd".into(),
            LinkTo::Worktree => cage.worktree(),
        };
        std::os::unix::fs::symlink(target, folder(*at).1.join(format!("link-{number}"))).expect("a new name");
    }
    names
}

/// What the link at a path of the job's holds.
fn link_at(cage: &Cage, path: &Path) -> Option<PathBuf> {
    match path.strip_prefix(cage.worktree()) {
        Ok(below) => fs::read_link(cage.written(".").join(below)).ok(),
        Err(_) => fs::read_link(path).ok(),
    }
}

/// What the evaluator once answered otherwise than the kernel.
fn once_wrong() -> Vec<Wishes> {
    // `..` out of a hidden folder, which nobody may walk through.
    let out_of_hidden = Wishes {
        grants: vec![(0, Access::Read)],
        copies: vec![],
        hide: vec![(3, false)],
        links: vec![(LinkAt::Folder(0), LinkTo::Beside(3))],
    };
    vec![out_of_hidden]
}

fn answers(tier: Tier) {
    for wishes in once_wrong() {
        same_answers(tier, &wishes).unwrap_or_else(|error| panic!("{wishes:?}: {error}"));
    }
    let mut runner = TestRunner::new(Config { cases: POLICIES, failure_persistence: None, ..Config::default() });
    runner.run(&wishes(), |wishes| same_answers(tier, &wishes)).unwrap_or_else(|error| panic!("{error}"));
}

/// A folder that no private `/tmp` covers: there, what is not granted is no question of the policy.
fn zone() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let parent = if target.starts_with("/tmp") { Path::new("/var/tmp") } else { target };
    tempfile::tempdir_in(parent).expect("a temporary folder")
}

fn same_answers(tier: Tier, wishes: &Wishes) -> Result<(), TestCaseError> {
    let (cage, zone) = (Cage::new(tier), zone());
    let zone = fs::canonicalize(zone.path()).expect("it exists");
    for folder in FOLDERS.iter().chain(&["anchor"]) {
        fs::create_dir_all(zone.join(folder)).expect("a folder");
        fs::write(zone.join(folder).join("f"), "").expect("a file");
    }
    let Ok(policy) = draft(&cage, tier, wishes, &zone).check() else { return Ok(()) };
    let links = make_links(wishes, &cage, &zone);
    let mut acts: Vec<String> = SYSTEM.iter().map(|&act| act.to_owned()).collect();
    for folder in FOLDERS.iter().map(|folder| zone.join(folder)).chain([policy.get().worktree.at().to_owned()]) {
        let file = if folder.starts_with(&zone) { "f" } else { "README" };
        acts.extend(["r", "w"].map(|kind| format!("{kind} {}", folder.join(file).display())));
        acts.push(format!("r {}", folder.display()));
        acts.push(format!("w {}", folder.join("new").display()));
    }
    acts.push(format!("w {}", cage.home().join("new").display()));
    acts.push(format!("r {}", cage.home().display()));
    // Reading first: what is not there yet is written.
    acts.extend(
        links.iter().flat_map(|link| [link.clone(), link.join("f")]).map(|path| format!("r {}", path.display())),
    );
    acts.extend(links.iter().map(|link| format!("w {}", link.join("f").display())));
    let expected: Vec<Option<bool>> = acts.iter().map(|act| expect(act, &policy, &cage, &links)).collect();
    fs::write(cage.written("acts"), acts.join("\n")).expect("the worktree's folder");
    let (_, said) = run_under(&policy, &cage, "$SELF __attack accesses").map_err(TestCaseError::fail)?;
    let told = said.lines().next().unwrap_or_default();
    prop_assert_eq!(told.len(), acts.len(), "{}", said);
    for ((act, expected), told) in acts.iter().zip(expected).zip(told.chars()) {
        // What is not there cannot be had, whatever the policy says.
        prop_assert_eq!(expected.unwrap_or(false), told == 'y', "{}: the kernel says {}", act, told);
    }
    Ok(())
}

/// What the evaluator says to an act; `None` where a link of the test leads to what is not there or is no folder.
fn expect(act: &str, policy: &Policy, cage: &Cage, links: &[PathBuf]) -> Option<bool> {
    let access = if act.starts_with('r') { Access::Read } else { Access::Write };
    let path = cage.worktree().join(&act[2..]);
    let reached = reach(policy, &path, &mut |path| link_at(cage, path))?;
    let host = on_host(cage, &reached);
    if is_of_a_folder(Path::new(act)) && (access == Access::Write || !host.is_dir()) {
        return Some(false);
    }
    let is_there = if access == Access::Read { host.exists() } else { is_writable(&host) };
    let by_link = links.iter().any(|link| path.starts_with(link));
    (is_there || !by_link).then(|| evaluate(policy, &reached, access).is_allowed())
}

/// Where what the job sees lies on the host.
fn on_host(cage: &Cage, path: &Path) -> PathBuf {
    let Ok(below) = path.strip_prefix(cage.worktree()) else { return path.to_owned() };
    let upper = cage.written(".").join(below);
    let lower = cage.path("state/lower").join(below);
    if cage.tier == Tier::Namespaces && !upper.exists() { lower } else { upper }
}

/// Whether a file can be opened to write there, as far as the host's tree says.
fn is_writable(path: &Path) -> bool {
    !path.is_dir() && path.parent().is_some_and(Path::is_dir)
}

fn draft(cage: &Cage, tier: Tier, wishes: &Wishes, zone: &Path) -> Draft {
    let grant = |path: PathBuf, access| PathGrant { at: path.clone(), path, access };
    let mut own = cage.draft();
    own.grants.push(grant(zone.join("anchor"), Access::Read));
    own.grants.extend(wishes.grants.iter().map(|&(folder, access)| grant(zone.join(FOLDERS[folder]), access)));
    let copy = |(number, &folder): (usize, &usize)| {
        let (upper, work) = (format!("cow-{number}/upper"), format!("cow-{number}/work"));
        fs::create_dir_all(cage.path("state").join(&upper)).expect("a layer");
        fs::create_dir_all(cage.path("state").join(&work)).expect("a layer");
        let path = zone.join(FOLDERS[folder]);
        CopyOnWrite { at: path.clone(), path, shown: vec![], upper, work }
    };
    let namespaces = tier == Tier::Namespaces;
    let hide = wishes.hide.iter().map(|&(folder, file)| zone.join(FOLDERS[folder]).join(if file { "f" } else { "" }));
    Draft {
        copies: wishes.copies.iter().filter(|_| namespaces).enumerate().map(copy).collect(),
        // Joining an empty name leaves a slash behind.
        hide: hide.map(|path| path.components().collect()).collect(),
        ..own
    }
}
