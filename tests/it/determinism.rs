//! The same plan gives the same commits, whatever finished first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use swarm_tests::{Repository, Swarm};

const FILES: usize = 12;

/// Twenty tasks with needs, conflicts and a fan-out, whose durations are thrown anew in each run.
fn plan() -> String {
    let mut plan = String::from("[defaults]\nretry = { max = 0 }\n");
    let nap = "sleep 0.0$(($(od -An -N1 -tu1 /dev/urandom) % 10))";
    for task in 0..17 {
        let file = (task * 7) % FILES;
        let needs = if task % 4 == 3 { format!("needs = ['t{}', 't{}']\n", task - 1, task - 3) } else { String::new() };
        // Tasks 5 and 13 write the same line of a file that others leave alone.
        let act =
            if task % 8 == 5 { format!("echo {task} > shared.txt") } else { format!("echo {task} >> f{file}.txt") };
        writeln!(plan, "[tasks.t{task}]\n{needs}run = '{nap}; {act}; echo {task} > new{task}.txt'").expect("memory");
    }
    plan + &format!(
        "[tasks.list]\nrun = '''{nap}; printf '[1,2,3,4]' > \"$SWARM_ARTIFACTS/l.json\"'''\noutputs.all = {{ json = 'l.json' }}\n\
         [tasks.fan]\nneeds = ['list']\nforeach.n = 'needs.list.outputs.all'\nenv = {{ N = '{{{{ n }}}}' }}\n\
         run = '{nap}; echo \"$N\" > \"fan$N.txt\"'\n[tasks.last]\nneeds = ['fan', 't16']\nrun = 'cat fan*.txt > all.txt'\n"
    )
}

/// What a run left: every ref with its commit, and what became of every change.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    refs: BTreeMap<String, Option<git2::Oid>>,
    fates: BTreeMap<String, String>,
}

fn left(jobs: &str) -> Left {
    let files: Vec<_> = (0..FILES).map(|n| (format!("f{n}.txt"), format!("{n}\n"))).collect();
    let repository = Repository::with(&files);
    let run = Swarm::run(&repository, "same", &plan()).args(&["-j", jobs]).env("SOURCE_DATE_EPOCH", "1700000000");
    let ended = run.exits(5);
    let names = repository.refs("refs/*");
    let refs = names.into_iter().map(|name| (name.clone(), repository.commit_of(&name))).collect();
    Left { refs, fates: ended.fates() }
}

#[test]
fn one_worker_and_eight_give_the_same_commits() {
    let first = left("1");
    assert!(first.refs.len() > 20 && first.fates.values().any(|fate| fate == "parked"), "{first:?}");
    for _ in 0..2 {
        assert_eq!(first, left("8"));
    }
}
