//! `history = "keep"`: a worker's own commits on the target, told again by us; one commit where they do not hold.

use swarm_tests::{Ended, Repository, Swarm};

const FILES: [(&str, &str); 2] = [("a.txt", "one\n"), ("dir/b.txt", "b\n")];

const KEEP: &str = "[merge]\nhistory = 'keep'\n";

fn run(plan: &str, code: i32) -> (Repository, Ended) {
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", plan).env("SOURCE_DATE_EPOCH", "1700000000").exits(code);
    (repository, ended)
}

/// The commits of the target without the base, the oldest first: `AUTHOR|COMMITTER|SUBJECT`.
fn log(repository: &Repository) -> Vec<String> {
    let git = repository.git();
    let mut at = git.find_commit(repository.commit_of("swarm/it").expect("it landed")).expect("a commit");
    let mut all = Vec::new();
    while at.parent_count() > 0 {
        let name = |who: git2::Signature<'_>| String::from_utf8_lossy(who.name_bytes()).into_owned();
        let subject = String::from_utf8_lossy(at.message_bytes()).lines().next().unwrap_or_default().to_owned();
        all.push(format!("{}|{}|{subject}", name(at.author()), name(at.committer())));
        assert_eq!((at.time().seconds(), at.author().when().seconds()), (1_700_000_000, 1_700_000_000));
        at = at.parent(0).expect("it has one");
    }
    all.reverse();
    all
}

/// A task of this script, with an identity of its own.
fn task(name: &str, keys: &str, script: &str) -> String {
    let who = "git config user.name Eve; git config user.email eve@example.org";
    format!("[tasks.{name}]\n{keys}run = '''\n{who}\n{script}'''\n")
}

const TWO: &str = "echo two >> a.txt; git commit -qam 'first step'\necho x > x.txt; git add x.txt\n\
                   git commit -qm 'second step' -m 'Swarm-Task: somebody else'\n";

#[test]
fn the_commits_of_a_worker_land_as_its_own() {
    let rest = format!("{TWO}echo rest > rest.txt\n");
    let (repository, ended) = run(&format!("{KEEP}{}", task("t", "", &rest)), 0);
    assert_eq!(log(&repository), ["Eve|Ada|first step", "Eve|Ada|second step", "Ada|Ada|it: t"], "{ended}");
    let told = "its commits name other authors than you, which is its own word: Eve <eve@example.org>";
    assert!(ended.err.contains(told), "{ended}");
    assert_eq!(repository.text("swarm/it", "rest.txt"), "rest\n");
    assert_eq!(repository.text("swarm/it~2", "a.txt"), "one\ntwo\n");
    assert!(!repository.files("swarm/it~2").contains_key("x.txt"));
    let git = repository.git();
    let second = git.find_commit(repository.commit_of("swarm/it~1").expect("it landed")).expect("a commit");
    let message = String::from_utf8_lossy(second.message_bytes()).into_owned();
    assert_eq!(message, "second step\n\nSwarm-Plan: it\nSwarm-Task: t\n");
    Swarm::new(&repository, &["clean"]).exits(0);
    assert_eq!(repository.refs("refs/swarm/*"), Vec::<String>::new(), "what landed is kept by its branch");
    let (repository, _) = run(&task("t", "", &rest), 0);
    assert_eq!(log(&repository), ["Ada|Ada|it: t"], "one commit without the key");
}

#[test]
fn commits_of_several_tasks_are_folded_one_by_one_and_the_same_at_any_number_of_workers() {
    let script = |n: usize| {
        format!(
            "sleep 0.0{}\necho {n} > t{n}.txt; git add .; git commit -qm 'add {n}'\n\
                 echo more >> t{n}.txt; git commit -qam 'more {n}'\n",
            (n * 7) % 5
        )
    };
    let tasks: String = (0..4).map(|n| task(&format!("t{n}"), "", &script(n))).collect();
    let tasks =
        format!("{KEEP}{tasks}{}", task("last", "needs = ['t0', 't1']\n", "echo l > l; git add l; git commit -qm l\n"));
    let tip = |jobs: &str| {
        let repository = Repository::with(&FILES);
        let swarm = Swarm::run(&repository, "it", &tasks).args(&[jobs]).env("SOURCE_DATE_EPOCH", "1700000000");
        let ended = swarm.exits(0);
        assert_eq!(log(&repository).len(), 9, "{ended}");
        repository.commit_of("swarm/it")
    };
    assert_eq!(tip("-j1"), tip("-j8"));
}

#[test]
fn what_one_line_of_commits_does_not_say_of_a_workers_own_is_said() {
    let merge = "git checkout -qb side; echo 2 > b.txt; git add b.txt; git commit -qm 'on the side'\n\
                 git checkout -q -; echo two >> a.txt; git commit -qam first\n\
                 git merge -q --no-ff -m merged side; git commit -q --allow-empty -m 'only words'\n";
    let (repository, ended) = run(&format!("{KEEP}{}", task("t", "", merge)), 0);
    assert_eq!(log(&repository), ["Eve|Ada|first", "Eve|Ada|merged"], "{ended}");
    let said = "its commits are one line: 1 merge told as a commit, without what was merged, 1 commit left out that changes nothing";
    assert!(ended.out.contains(said), "{ended}");
    let words = "git commit -q --allow-empty -m one; git commit -q --allow-empty -m two; echo two >> a.txt\n";
    let (repository, ended) = run(&format!("{KEEP}{}", task("t", "", words)), 0);
    assert_eq!(log(&repository), ["Ada|Ada|it: t"], "{ended}");
    assert!(ended.out.contains("its commits are one line: 2 commits left out that change nothing"), "{ended}");
    let (_, ended) = run(&format!("{KEEP}{}", task("t", "", TWO)), 0);
    assert!(!ended.out.contains("one line"), "{ended}");
}

/// A commit with a million million files in a few small objects, and one that takes them away again.
const BOMB: &str = "echo 2 >> a.txt; git add a.txt; t=$(git write-tree)\n\
    b=$(printf '100644 blob %s\\tf\\n' $(echo x | git hash-object -w --stdin) | git mktree)\n\
    for i in 1 2 3 4 5 6 7 8 9 10 11 12; do\n\
    b=$(for j in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\td%s\\n' $b $j; done | git mktree)\ndone\n\
    c=$(git commit-tree $b -p HEAD -m bomb); git reset -q --soft $(git commit-tree $t -p $c -m back)\n";

#[test]
fn a_history_that_does_not_hold_is_one_commit_and_says_why() {
    for (keys, script, reason) in [
        (
            "writes = ['a.txt']\n",
            "echo 2 >> a.txt; echo out > out.txt; git add .; git commit -qm one; git rm -q out.txt; git commit -qm two\n",
            "changes out.txt, which is outside of its `writes`",
        ),
        ("", "echo 2 >> a.txt; git commit -qam one; git gc -q\n", "or packed"),
        ("", "git checkout -q --orphan other; echo 2 >> a.txt; git commit -qam one\n", "do not stem from"),
        (
            "",
            "ln -s /etc/passwd l; echo 2 >> a.txt; git add .; git commit -qm one; git rm -q l; git commit -qm two\n",
            "a link to an absolute path",
        ),
        (
            "",
            "echo x > 'b\\s'; echo 2 >> a.txt; git add .; git commit -qm one; git rm -q 'b*'; git commit -qm two\n",
            "a backslash in it",
        ),
        (
            "",
            "echo 2 >> a.txt; git commit -qam one; rm .git/HEAD; ln -s /etc/passwd .git/HEAD\n",
            "HEAD cannot be opened",
        ),
        ("", "echo 2 >> a.txt; git commit -qam one; echo 'ref: ../../x' > .git/HEAD\n", "names no branch"),
        (
            "",
            "echo 2 >> a.txt; git commit -qam one; o=.git/objects/$(git rev-parse HEAD | sed 's,..,&/,')\n\
             chmod u+w $o; echo garbage > $o\n",
            "is damaged",
        ),
        (
            "",
            "echo 2 >> a.txt; git commit -qam \"$(head -c 4000 /dev/urandom | base64)\"\n\
             o=.git/objects/$(git rev-parse HEAD | sed 's,..,&/,'); chmod u+w $o; truncate -s 2000 $o\n",
            "is damaged",
        ),
        (
            "",
            "echo 2 >> a.txt; git commit -qam one; rm -rf .git/objects; ln -s /tmp .git/objects\n",
            "cannot be opened",
        ),
        (
            "",
            "head -c 40000000 /dev/zero > big; echo 2 >> a.txt; git add .; git commit -qm one; git rm -q big; git commit -qm two\n",
            "holds big, which is larger than 32 MiB",
        ),
        ("", BOMB, "too much to look at"),
    ] {
        let (repository, ended) = run(&format!("{KEEP}{}", task("t", keys, script)), 0);
        assert_eq!(log(&repository), ["Ada|Ada|it: t"], "{reason}: {ended}");
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\n2\n");
        assert!(ended.out.contains("told as one") && ended.out.contains(reason), "{reason}: {ended}");
    }
}

#[test]
fn a_large_file_of_the_change_itself_is_no_reason_to_tell_its_commits_as_one() {
    let script =
        "head -c 40000000 /dev/zero > big; git add .; git commit -qm one; echo 2 >> a.txt; git commit -qam two\n";
    let (repository, ended) = run(&format!("{KEEP}{}", task("t", "", script)), 0);
    assert_eq!(log(&repository), ["Eve|Ada|one", "Eve|Ada|two"], "{ended}");
}

#[test]
fn steps_that_do_not_fit_though_the_whole_does_land_as_one() {
    let back = "echo mine > a.txt; git commit -qam 'a detour'\necho one > a.txt; echo z > z.txt; git add .; git commit -qm back\n";
    let plan = format!("{KEEP}{}{}", task("s", "", "echo two >> a.txt; git commit -qam s\n"), task("t", "", back));
    let (repository, ended) = run(&plan, 0);
    assert_eq!(log(&repository), ["Eve|Ada|s", "Ada|Ada|it: t"], "{ended}");
    let git = repository.git();
    let last = git.find_commit(repository.commit_of("swarm/it").expect("it landed")).expect("a commit");
    let kept = repository.commit_of("refs/swarm/it-1/t/1+history").expect("it is kept");
    assert!(String::from_utf8_lossy(last.message_bytes()).contains(&format!("Swarm-History: {kept}")));
}
