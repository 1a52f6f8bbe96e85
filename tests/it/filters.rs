//! Files that git stores through a filter: tasks see what is stored, what they write lands as it is or not at all, and everybody is
//! told.

use swarm_tests::{Repository, Swarm};

/// A repository whose `.bin` files git stores in capitals, `.key` files encrypted, and writes out as they are stored.
fn repository(required: bool) -> Repository {
    let attributes = "*.bin filter=loud\n*.key filter=git-crypt\n";
    let repository = Repository::with(&[(".gitattributes", attributes), ("x.bin", "STORED\n"), ("plain", "p\n")]);
    let mut config = repository.git().config().expect("it has one");
    for (key, value) in [("clean", "tr a-z A-Z"), ("smudge", "cat")] {
        config.set_str(&format!("filter.loud.{key}"), value).expect("writable");
    }
    config.set_bool("filter.loud.required", required).expect("writable");
    repository
}

#[test]
fn what_a_filter_was_not_run_on_lands_as_it_is_and_is_told_of_and_git_takes_it_over() {
    let repository = repository(false);
    let plan = "[tasks.a]\nrun = 'grep -q STORED x.bin; echo new > y.bin; echo more >> plain'\n";
    let ran = Swarm::run(&repository, "it", plan).exits(0);
    assert_eq!(repository.text("swarm/it", "y.bin"), "new\n", "{ran}");
    let base = "x.bin has a filter in .gitattributes (`loud`), which swarm does not run: tasks see what git stores";
    let result =
        "y.bin is stored as the task wrote it: swarm does not run the filter (`loud`) that .gitattributes names";
    assert!(ran.err.contains(base) && ran.err.contains(result), "{ran}");
    let file = repository.beside("it.toml");
    let checked = Swarm::new(&repository, &["check", file.to_str().expect("UTF-8")]).exits(0);
    assert!(checked.err.contains(base), "{checked}");
    let refused = Swarm::new(&repository, &["apply"]).exits(1);
    assert!(refused.err.contains("git merge swarm/it"), "{refused}");
    if repository.run_git(&["merge", "-q", "swarm/it"]).is_some() {
        assert_eq!(std::fs::read_to_string(repository.path().join("y.bin")).expect("merged"), "new\n");
    }
}

#[test]
fn what_a_required_filter_or_one_that_encrypts_was_not_run_on_is_refused_and_the_way_out_works() {
    for (write, file) in [("echo new > x.bin", "x.bin"), ("echo secret > x.key", "x.key")] {
        let repository = repository(true);
        let refused = Swarm::run(&repository, "it", &format!("[tasks.a]\nrun = '{write}'\n")).exits(1);
        let said = format!("{file}: git stores it through the filter");
        assert!(refused.err.contains(&said) && refused.err.contains("$SWARM_ARTIFACTS"), "{refused}");
        assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
        let plain = format!("[tasks.a]\nrun = '{write}; echo {file} -filter >> .gitattributes'\n");
        Swarm::run(&repository, "plain", &plain).exits(0);
    }
}

#[test]
fn what_git_has_stored_moves_and_what_a_filter_made_may_be_written() {
    let repository = repository(true);
    let plan = "[tasks.a]\nrun = 'mkdir d; git mv x.bin d/y.bin; chmod +x d/y.bin; printf \"\\0GITCRYPT\\0rest\" > x.key; \
                printf \"version https://git-lfs.github.com/spec/v1\\n\" > z.bin'\n";
    let ran = Swarm::run(&repository, "it", plan).exits(0);
    assert!(!ran.err.contains("as the task wrote"), "{ran}");
    assert_eq!(repository.text("swarm/it", "d/y.bin"), "STORED\n");
}

#[test]
fn a_commit_of_the_workers_own_that_holds_what_is_to_be_encrypted_is_not_told() {
    let repository = repository(false);
    let plan = "[merge]\nhistory = 'keep'\n[tasks.a]\nrun = '''echo secret > x.key; echo 1 >> plain; git add .; git commit -qm one\n\
                git rm -q x.key; echo 2 >> plain; git commit -qam two'''\n";
    let ran = Swarm::run(&repository, "it", plan).exits(0);
    assert!(ran.err.contains("one of its commits holds x.key: git stores it through the filter"), "{ran}");
    let log = repository.run_git(&["log", "--format=%s", "-p", "HEAD..swarm/it"]).unwrap_or_default();
    assert!(!log.contains("secret"), "{log}");
}
