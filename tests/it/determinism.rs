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
    left_in(jobs, &[])
}

/// The same with more variables.
fn left_in(jobs: &str, env: &[(&str, &str)]) -> Left {
    let files: Vec<_> = (0..FILES).map(|n| (format!("f{n}.txt"), format!("{n}\n"))).collect();
    let repository = Repository::with(&files);
    let run = Swarm::run(&repository, "same", &plan()).args(&["-j", jobs]).env("SOURCE_DATE_EPOCH", "1700000000");
    let run = env.iter().fold(run, |run, (name, value)| run.env(name, value));
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

#[test]
fn who_the_shell_says_makes_commits_changes_none() {
    let names = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_AUTHOR_DATE"];
    let env = names.map(|name| (name, "1600000000 +0200"));
    assert_eq!(left("8"), left_in("8", &env));
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let run = Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo b > a.txt; git commit -qam mine'\n");
    env.iter().fold(run, |run, (name, value)| run.env(name, value)).exits(0);
    let git = repository.git();
    let commit = git.find_commit(repository.commit_of("swarm/it").expect("landed")).expect("a commit");
    for who in [commit.author(), commit.committer()] {
        assert_eq!((who.name(), who.email()), (Ok("Ada"), Ok("ada@example.org")), "the repository's configuration");
    }
}
