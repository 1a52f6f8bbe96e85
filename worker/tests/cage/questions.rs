//! What the evaluator answers, asked of the kernel: random policies over a small tree, a job in a real cage that tries every
//! access, and the same answers.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use swarm_protocol::Tier;
use swarm_sandbox::{Access, CopyOnWrite, Draft, PathGrant, evaluate};

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
    (grants, copies, hide).prop_map(|(grants, copies, hide)| Wishes { grants, copies, hide })
}

fn answers(tier: Tier) {
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
    let mut acts: Vec<String> = SYSTEM.iter().map(|&act| act.to_owned()).collect();
    for folder in FOLDERS.iter().map(|folder| zone.join(folder)).chain([policy.get().worktree.at().to_owned()]) {
        let file = if folder.starts_with(&zone) { "f" } else { "README" };
        acts.extend(["r", "w"].map(|kind| format!("{kind} {}", folder.join(file).display())));
        acts.push(format!("r {}", folder.display()));
        acts.push(format!("w {}", folder.join("new").display()));
    }
    acts.push(format!("w {}", cage.home().join("new").display()));
    fs::write(cage.written("acts"), acts.join("\n")).expect("the worktree's folder");
    let (_, said) = run_under(&policy, &cage, "$SELF __attack accesses").map_err(TestCaseError::fail)?;
    let told = said.lines().next().unwrap_or_default();
    prop_assert_eq!(told.len(), acts.len(), "{}", said);
    for (act, told) in acts.iter().zip(told.chars()) {
        let access = if act.starts_with('r') { Access::Read } else { Access::Write };
        let decision = evaluate(&policy, Path::new(&act[2..]), access);
        prop_assert_eq!(decision.is_allowed(), told == 'y', "{}: {:?}, the kernel says {}", act, decision, told);
    }
    Ok(())
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
