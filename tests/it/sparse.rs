//! `[workspace] sparse` says what is checked out, and hides nothing of what a run makes: checks, tasks behind it and the gate find
//! it wherever it lies.

use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 4] = [("in/a", "1\n"), ("out/b", "2\n"), ("out/c", "3\n"), ("top", "4\n")];

/// Runs a plan behind `sparse = ["in/**"]` in each tier that can be had.
fn each(tasks: &str, look: impl Fn(&Repository, &Ended)) {
    let plan = format!("[workspace]\nsparse = ['in/**']\n{tasks}");
    let with = |run: &dyn Fn(Swarm) -> Option<Swarm>| {
        let repository = Repository::with(&FILES);
        if let Some(swarm) = run(Swarm::run(&repository, "it", &plan)) {
            look(&repository, &swarm.end());
        }
    };
    with(&Some);
    with(&Swarm::without_namespaces);
}

#[test]
fn what_a_task_makes_outside_is_seen_by_its_check_and_by_who_needs_it() {
    let tasks = "[tasks.make]\nrun = 'test ! -e top; mkdir out; echo new > out/new; echo 22 > out/b; echo own > made'\n\
                 check = 'grep -q new out/new && grep -q 22 out/b && test ! -e out/c && test -z \"$(git status --porcelain)\"'\n\
                 [tasks.use]\nneeds = ['make']\nrun = 'cat out/new out/b made in/a > in/seen; echo 222 > out/b; rm made'\n\
                 check = 'test ! -e made; grep -q 222 out/b'\n\
                 [tasks.last]\nneeds = ['use']\nrun = 'test ! -e made; test \"$(cat out/b)\" = 222; rm -r out'\n";
    each(tasks, |repository, ended| {
        assert_eq!(ended.code, 0, "{ended}");
        let files = repository.files("swarm/it");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["in/a", "in/seen", "out/c", "top"], "{ended}");
        assert_eq!(repository.text("swarm/it", "in/seen"), "new\n22\nown\n1\n");
    });
}

#[test]
fn the_gate_and_who_makes_files_again_see_the_whole_tree() {
    let tasks = "[tasks.one]\nrun = 'echo one > in/one; echo 1 > sum'\n[tasks.two]\nrun = 'echo two > in/two; echo 2 > sum'\n\
                 [merge]\nverify = 'test -f top && test -f out/c && cat in/a out/b'\n\
                 [[merge.regenerate]]\npaths = ['sum']\nrun = 'cat in/* out/* top > sum'\n";
    each(tasks, |repository, ended| {
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(repository.text("swarm/it", "sum"), "1\none\ntwo\n2\n3\n4\n", "{ended}");
    });
}

/// `check` and the run say what a person mistyped, and what was near.
#[test]
fn what_matches_nothing_is_named_with_what_is_near() {
    let repository = Repository::with(&FILES);
    let plan = "[workspace]\nsparse = ['inn/**', 'out']\ncopy = ['.env']\ncache = ['targett']\n\
                [tasks.a]\nrun = 'true'\nwrites = ['out', 'in/new']\n\
                [tasks.b]\nforeach.file = { glob = 'outt/*' }\nrun = 'true'\n\
                [tasks.c]\nrun = 'true'\ncache = { inputs = ['src/**'] }\n\
                [sandbox.default]\nhide = ['.env.locl', 'in/a', '.env.local']\n\
                [merge]\nunion = ['topp']\nregenerate = [{ paths = ['in/*.lock'], run = 'true' }]\n";
    repository.write("target/x", "built\n");
    repository.write(".env.local", "here, and in no commit\n");
    let words = [
        "`sparse` of [workspace] names `inn/**`: no file of the base matches that; did you mean `in/**`?",
        "`sparse` of [workspace] names `out`: no file of the base matches that; did you mean `out/`?",
        "`copy` of [workspace] names `.env`: the checkout has no such path",
        "`cache` of [workspace] names `targett`: the checkout has no such path, so worktrees have none either; did you mean `target`?",
        "`writes` of task a names `out`: that is a folder, and allows no change of what lies in it; did you mean `out/`?",
        "no tracked file of the base matches its glob `outt/*`; did you mean `out/*`?",
        "`cache.inputs` of task c names `src/**`: no file of the base matches that",
        "`hide` of [sandbox.default] names `.env.locl`: neither the base nor the checkout has that, so it hides nothing; did you mean \
         `.env.local`?",
        "`union` of [merge] names `topp`: no file of the base matches that; did you mean `top`?",
        "`regenerate.paths` of [merge] names `in/*.lock`: no file of the base matches that",
    ];
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    words.iter().for_each(|word| assert!(ended.out.contains(word), "{word}: {ended}"));
    assert!(
        !ended.out.contains("names `in/a`: neither") && !ended.out.contains("names `.env.local`: neither"),
        "{ended}"
    );
    let path = repository.beside("it.toml").display().to_string();
    let checked = Swarm::new(&repository, &["check", &path]).exits(0);
    words.iter().for_each(|word| {
        assert!(checked.err.contains(&format!("note: {word}")) || checked.err.contains(word), "{word}: {checked}")
    });
}

#[test]
fn what_setup_made_lies_under_the_whole_tree_too() {
    let tasks = "[tasks.one]\nrun = 'cp made in/one'\n[merge]\nverify = 'test -f top && test -f made'\n";
    each(&format!("setup = 'ls > made'\n{tasks}"), |repository, ended| {
        assert_eq!(ended.code, 0, "{ended}");
        assert_eq!(repository.text("swarm/it", "in/one"), "in\nmade\n", "{ended}");
    });
}
