//! Tasks that mean harm to the run itself: to other tasks' work, to the coordinator, to the person who reads the result.

use swarm_tests::{Repository, Swarm};

const FILES: [(&str, &str); 3] = [("a.txt", "one\n"), ("secrets/key", "hidden\n"), (".gitignore", "build/\n")];

/// A task that has nothing to do with the others, and the last to run.
const HONEST: &str = "[tasks.z]\npriority = -1\nrun = 'echo done > z.txt'\n";

#[test]
fn who_spoils_its_own_artifacts_fails_and_stops_nobody() {
    let spoil = |name: &str, how: &str| {
        format!(
            "[tasks.{name}]\nartifacts = [\"build/**\"]\n\
             run = 'mkdir build; echo > build/x; cd \"$SWARM_ARTIFACTS\"; {how}'\n"
        )
    };
    let plan = [
        "jobs = 1\n",
        &spoil("a", "echo > build"),
        &spoil("b", "mkdir -p build/x/y"),
        &spoil("c", "ln -s / build"),
        &spoil("d", "ln -s loop build; ln -s build loop"),
        HONEST,
    ];
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &plan.concat()).exits(1);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(ended.result(name), "violation", "{name}: {ended}");
    }
    assert_eq!(ended.fate("z"), "landed", "{ended}");
}

#[test]
fn a_link_in_the_place_of_what_a_policy_hides_is_refused_and_stops_nobody() {
    let plan = format!(
        "jobs = 1\n[sandbox.blind]\nhide = [\"secrets/\"]\n\
         [tasks.a]\nrun = 'rm -r secrets; mkdir open; ln -s open secrets'\n\
         [tasks.b]\nsandbox = \"blind\"\nneeds = [\"a\"]\nmatrix = {{ n = [1, 2, 3] }}\nrun = 'true'\n\
         [tasks.c]\nsandbox = \"blind\"\nrun = '! cat secrets/key'\n{HONEST}"
    );
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", &plan).exits(1);
    assert_eq!(ended.result("a"), "violation", "{ended}");
    assert!(ended.to_string().contains("a link in the place of what a policy of the plan hides"), "{ended}");
    assert_eq!((ended.result("c").as_str(), ended.fate("z").as_str()), ("succeeded", "landed"), "{ended}");
}

#[test]
fn a_secret_in_a_changed_file_is_a_violation_that_names_the_file_and_not_the_value() {
    const TOKEN: &str = "npm_5ecret/Val=ue";
    let plan = |kind: &str| {
        format!(
            "[sandbox.default]\n{kind} = ['TOKEN']\n[merge]\nhistory = 'keep'\n\
             [tasks.a]\nrun = 'echo \"token=$TOKEN\" > .npmrc; echo ok > fine.txt'\n\
             [tasks.b]\nrun = 'echo $TOKEN > b.txt; git add b.txt; git commit -qm one; echo b > b.txt; git commit -qam two'\n"
        )
    };
    let repository = Repository::with(&FILES);
    let run = |plan: &str| Swarm::run(&repository, "it", plan).allow("env=TOKEN").env("TOKEN", TOKEN);
    let ended = run(&plan("secrets")).exits(1);
    assert_eq!((ended.result("a").as_str(), ended.fate("b").as_str()), ("violation", "landed"), "{ended}");
    assert!(ended.err.contains("it holds the value of the secret `TOKEN`") && ended.err.contains(".npmrc"), "{ended}");
    assert!(!ended.to_string().contains(TOKEN), "{ended}");
    let kept = repository.files("refs/swarm/it-1/a/1");
    assert_eq!((kept.contains_key("fine.txt"), kept.contains_key(".npmrc")), (true, false));
    let told = repository.git().odb().expect("objects").foreach(|id| {
        let object = repository.git().find_blob(*id).map(|blob| blob.content().to_vec()).unwrap_or_default();
        !object.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes())
    });
    assert!(told.is_ok(), "no object holds it, not of a commit in between either");
    // The control: what is no secret may stand there.
    run(&plan("env")).args(&["--into", "swarm/control"]).exits(0);
    assert_eq!(repository.text("swarm/control", ".npmrc"), format!("token={TOKEN}\n"));
}

#[test]
fn names_that_hide_something_land_with_a_word_about_them() {
    let plan = "[tasks.a]\nrun = '''printf x > \"$(printf 'invoice\\342\\200\\256fdp.exe')\"; echo > plain; \
                mkdir .VSCode; echo > .VSCode/tasks.json'''\n";
    let repository = Repository::with(&FILES);
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    let shown = Swarm::new(&repository, &["report"]).exits(0);
    for words in [
        "1 new name with characters that nobody sees: invoice\\u{202e}fdp.exe",
        "it changed what runs by itself outside of the cage: .VSCode/tasks.json",
    ] {
        assert!(shown.out.contains(words), "{words}: {shown}\n{ended}");
    }
}

#[test]
fn what_a_result_is_judged_by_is_named_where_it_changed_it() {
    let gate = ("ci/gate.sh", "! grep -q broken a.txt\n");
    let plan = "[merge]\nverify = 'sh ci/gate.sh'\n[tasks.a]\nrun = 'echo true > ci/gate.sh; echo broken > a.txt'\n\
                check = 'cd ci && sh ./gate.sh'\n\
                [tasks.b]\nrun = 'echo b > b.txt'\ncheck = 'grep -q b b.txt && sh ci/gate.sh'\n";
    let repository = Repository::with(&[FILES[0], gate]);
    let ended = Swarm::run(&repository, "it", plan).exits(0);
    let told = "it changed what commands of the plan run, which ran it as changed, or will: ci/gate.sh (its check, [merge] verify)";
    assert_eq!(ended.err.matches("it changed what commands of the plan run").count(), 1, "{ended}");
    assert!(ended.err.contains(&format!("a: {told}")), "{ended}");
}

#[test]
fn connections_of_some_tasks_leave_the_coordinator_the_files_that_others_need() {
    let plan = "jobs = 4\n[sandbox.net]\nnetwork = [\"example.org:443\"]\n\
         [tasks.hog]\nmatrix = { n = [1, 2, 3] }\nsandbox = \"net\"\npriority = 1\nshell = [\"bash\", \"-c\"]\n\
         run = 'p=\"${HTTP_PROXY##*:}\"; for i in $(seq 130); do exec {fd}<>\"/dev/tcp/127.0.0.1/$p\"; done; \
         echo held; sleep 4'\n\
         [tasks.honest]\nmatrix = { n = [1, 2, 3, 4, 5, 6] }\nrun = 'sleep 0.5; echo > \"$SWARM_MATRIX_N\"'\n";
    // A soft limit that the coordinator raises; a hard one that it has to live with.
    for limits in ["ulimit -Sn 200", "ulimit -n 400"] {
        let repository = Repository::with(&FILES);
        let limited = format!("{limits} && exec \"$@\"");
        let ended = Swarm::run(&repository, "it", plan).through(&["sh", "-c", &limited, "sh"]).exits(0);
        for n in 1..=6 {
            assert_eq!(ended.fate(&format!("honest[n={n}]")), "landed", "{limits}: {ended}");
        }
        let log = Swarm::new(&repository, &["logs", "hog[n=1]"]).exits(0);
        assert!(log.out.contains("held"), "the control: it had its connections, {log}");
    }
}

#[test]
fn a_plan_that_is_only_looked_at_says_nothing_to_the_terminal() {
    let repository = Repository::with(&FILES);
    let says = |text: &str| text.chars().any(|letter| letter != '\n' && letter.is_control());
    let check = |plan: &str, ways: &[&[&str]]| {
        repository.write("looked.toml", format!("version = 1\n{plan}\n[tasks.a]\nrun = 'true'\n"));
        for way in ways {
            let ended = Swarm::new(&repository, &[way, &["looked.toml"][..]].concat()).end();
            assert!(ended.to_string().contains("]0;title"), "the control: it is said, {way:?}: {ended}");
            assert!(!says(&ended.out) && !says(&ended.err), "{way:?}: {ended}");
        }
    };
    let sequence = "\\u001b]0;title\\u0007\\u009b2J";
    check(
        &format!("[tasks.b]\nforeach.x = {{ glob = \"{sequence}/*\" }}\nrun = 'true'"),
        &[
            &["graph"],
            &["graph", "--format", "mermaid"],
            &["graph", "--format", "dot"],
            &["run", "--dry-run"],
            &["run"],
        ],
    );
    for kind in ["read", "write"] {
        check(&format!("[sandbox.default]\n{kind} = [\"/opt/{sequence}\"]"), &[&["check"]]);
    }
}
