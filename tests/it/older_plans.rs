//! Runs that an earlier version began, by plans that are mistakes by now: they go on as they began.

use swarm_orchestrator::journal::{Journal, NewRun, NewTarget};
use swarm_orchestrator::run::{LoadedPlan, expanded_hash};
use swarm_orchestrator::settings::Asked;
use swarm_plans::{Beside, SourceFile, TaskGraph};
use swarm_tests::{Repository, Swarm};

/// Plans that nobody may begin any more; what one of them comes to is in the file `a`.
const PLANS: [(&str, &str, &str); 7] = [
    ("a template repeats", "[tasks.t]\nenv = { A = \"{{ 'ab' * 2 }}\" }\nrun = 'echo \"$A\" > a'\n", "abab\n"),
    (
        "a name is given to what was joined",
        "[vars]\nv = 'abc'\n[tasks.t]\nenv = { A = \"{% set x = vars.v ~ 'd' %}{{ x|length }}\" }\nrun = 'echo \"$A\" > a'\n",
        "4\n",
    ),
    (
        "names are given for a while",
        "[vars]\nv = 'abc'\n[tasks.t]\nenv = { A = \"{% with x = vars.v, y = x %}{{ y }}{{ vars.v }}{% endwith %}\" }\nrun = 'echo \"$A\" > a'\n",
        "abcabc\n",
    ),
    (
        "a name is given to a text",
        "[vars]\nv = 'abc'\n[tasks.t]\nenv = { A = \"{% set x | upper %}{{ vars.v }}{% endset %}{{ x }}\" }\nrun = 'echo \"$A\" > a'\n",
        "ABC\n",
    ),
    (
        "a filter is around a text",
        "[vars]\nv = 'abc'\n[tasks.t]\nenv = { A = \"{% autoescape false %}{% filter replace(vars.v, 'x') %}{{ vars.v }}d{% endfilter %}{% endautoescape %}\" }\nrun = 'echo \"$A\" > a'\n",
        "xd\n",
    ),
    ("a name begins with a dash", "[tasks.-t]\nrun = 'echo dash > a'\n", "dash\n"),
    (
        "a matrix has such a name",
        "[vars]\n-v = 'x'\n[tasks.t]\nenv = { A = \"{{ vars['-v'] }}\" }\nrun = 'echo \"$A\" > a'\n",
        "x\n",
    ),
];

/// A run that died before its first event, begun by whoever took the plan for right.
fn begun(repository: &Repository, plan: &str, target: Option<NewTarget>) {
    let sources = vec![SourceFile { name: "old".to_owned(), text: plan.to_owned() }];
    let parsed =
        swarm_plans::parse_recorded("old", plan, Beside::default(), &mut |_| Err("nothing to include".to_owned()));
    let expanded = parsed.plan.map(|plan| TaskGraph::expand(plan).expect("one task"));
    let expanded_hash = expanded.map(|graph| expanded_hash(&LoadedPlan { graph, sources })).unwrap_or_default();
    let git = repository.path().join(".git").canonicalize().expect("a repository");
    let state = git.join("swarm");
    drop(swarm_orchestrator::state::StateDir::open(&state).expect("space"));
    let new = NewRun {
        plan: "old".to_owned(),
        sources: vec![("old".to_owned(), plan.to_owned())],
        repository: git.display().to_string(),
        expanded_hash,
        base: repository.commit_of("HEAD").expect("a commit").to_string(),
        target,
        started_at_ms: 1_700_000_000_000,
        asked: Asked::default(),
    };
    drop(Journal::open(&state).and_then(|mut journal| journal.begin_run(new, |_| false)).expect("it begins"));
}

#[test]
fn what_began_by_a_plan_that_nobody_may_begin_any_more_goes_on() {
    for (what, tasks, expected) in PLANS {
        let repository = Repository::with(&[("f", "f\n")]);
        let plan = format!("version = 1\n{tasks}");
        let refused = Swarm::run(&repository, "old", tasks).exits(2);
        assert!(refused.err.contains("not possible") || refused.err.contains("not a name"), "{what}: {refused}");
        begun(&repository, &plan, Some(NewTarget::Ref("refs/heads/swarm/old".to_owned())));
        let resumed = Swarm::new(&repository, &["resume"]).exits(0);
        assert_eq!(repository.text("swarm/old", "a"), expected, "{what}: {resumed}");
        Swarm::new(&repository, &["status"]).exits(0);
        Swarm::new(&repository, &["apply"]).exits(0);
        Swarm::new(&repository, &["clean"]).exits(0);
    }
}

#[test]
fn a_batch_that_says_how_to_merge_goes_on_and_merges_nothing() {
    let repository = Repository::with(&[("f", "f\n")]);
    let tasks = "[tasks.t]\nrun = 'test -s f'\n[merge]\nmode = 'none'\nverify = 'exit 1'\nunion = ['a']\n";
    let refused = Swarm::run(&repository, "old", tasks).exits(2);
    assert!(refused.err.contains("`verify` has no place beside"), "{refused}");
    begun(&repository, &format!("version = 1\n{tasks}"), None);
    let resumed = Swarm::new(&repository, &["resume", "--json"]).exits(0);
    assert_eq!(resumed.result("t"), "succeeded", "{resumed}");
    assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
}

#[test]
fn what_no_version_of_today_goes_on_with_is_said_and_takes_nothing_with_it() {
    let repository = Repository::with(&[("f", "f\n")]);
    Swarm::run(&repository, "it", "[tasks.a]\nrun = 'echo a > a'\n").exits(0);
    begun(&repository, "version = 1\n[tasks.t]\nrum = 'true'\n", Some(NewTarget::OfRun));
    let refused = Swarm::new(&repository, &["resume"]).exits(3);
    assert!(refused.err.contains("unknown key `rum`") && refused.err.contains("start it anew"), "{refused}");
    for words in [&["status", "old-1"][..], &["list"], &["status", "it-1"], &["apply", "it-1"], &["clean"]] {
        Swarm::new(&repository, words).exits(0);
    }
    assert_eq!(std::fs::read_to_string(repository.path().join("a")).expect("applied"), "a\n");
}
