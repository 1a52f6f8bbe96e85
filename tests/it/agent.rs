//! Coding agents as tasks, with answers written by hand: what they change lands, what they must not do they cannot, every
//! call has its result, and a conversation that was cut short goes on.

use serde_json::{Value, json};
use swarm_tests::model_server::chat;
use swarm_tests::{Act, Answers, Block, Ended, ModelServer, Repository, Swarm};

/// A repository with a little of everything.
fn house() -> Repository {
    Repository::with(&[
        ("src/lib.rs", "pub fn two() -> u32 {\n    1\n}\n"),
        ("AGENTS.md", "House rule: tabs are forbidden.\n"),
        ("src/CLAUDE.md", "Below src everything is Rust.\n"),
        ("README", "base\n"),
    ])
}

fn run(repository: &Repository, plan: &str, answers: &Answers, code: i32) -> Ended {
    Swarm::run(repository, "it", plan).args(&["--replay", answers.folder()]).exits(code)
}

fn finish(status: &str, summary: &str) -> (&'static str, Value) {
    ("finish", json!({"status": status, "summary": summary, "evidence": ["cat"], "follow_ups": ["more"]}))
}

/// The entries of an attempt's transcript.
fn transcript(repository: &Repository, task: &str, attempt: u32) -> Vec<Value> {
    let runs = repository.path().join(".git/swarm/runs");
    let mut runs: Vec<_> =
        std::fs::read_dir(runs).expect("runs").map(|entry| entry.expect("an entry").path()).collect();
    runs.sort();
    let path = runs.last().expect("a run").join(task).join(attempt.to_string()).join("transcript.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
}

/// What the calls of a conversation gave: content and status, in order.
fn results(entries: &[Value]) -> Vec<(String, String)> {
    let results = entries.iter().filter(|entry| entry["entry"] == "results");
    let all = results.flat_map(|entry| entry["results"].as_array().expect("results").clone());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    all.map(|result| (text(&result["content"]), text(&result["status"]))).collect()
}

const FIX: &str = r#"
    [tasks.fix]
    agent = { prompt = "Let two() be 2." }
    writes = ["src/**"]
    check = [{ run = "grep -q 2$ src/lib.rs", expect-fail-before = true }]
"#;

fn edit(old: &str, new: &str) -> (&'static str, Value) {
    ("edit", json!({"path": "src/lib.rs", "old": old, "new": new}))
}

fn read(path: &str) -> (&'static str, Value) {
    ("read", json!({"path": path}))
}

fn bash(script: &str) -> (&'static str, Value) {
    ("bash", json!({"script": script}))
}

#[test]
fn what_an_agent_changes_is_checked_and_lands() {
    let repository = house();
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[
            ("I look at it.", &[read("src/lib.rs"), bash("cat README")]),
            ("", &[edit("    1", "    2")]),
            ("", &[finish("done", "two() is 2 now")]),
        ],
    );
    let plan = format!(
        "{FIX}\n[tasks.after]\nneeds = ['fix']\nenv = {{ SAID = '{{{{ needs.fix.outputs.agent.summary }}}}' }}\n\
         run = 'echo \"heard: $SAID\"; test -s $SWARM_NEEDS_JSON'\n"
    );
    let ended = run(&repository, &plan, &answers, 0);
    assert_eq!(repository.text("swarm/it", "src/lib.rs"), "pub fn two() -> u32 {\n    2\n}\n");
    let finished = ended.events_of("attempt-finished");
    let envelope = &finished.iter().find(|event| event["instance"] == "fix").expect("it ended")["envelope"];
    assert_eq!((&envelope["status"], &envelope["turns"]), (&json!("done"), &json!(3)), "{ended}");
    assert!(
        ended.err.contains("what agents say of their work") && ended.err.contains("left to others: more"),
        "{ended}"
    );
    let status = Swarm::new(&repository, &["status"]).exits(0).out;
    assert!(status.contains("agent: done after 3 turns: two() is 2 now"), "{status}");
    let log = Swarm::new(&repository, &["logs", "fix"]).exits(0).out;
    for line in ["I look at it.", "● read src/lib.rs", "$ cat README", "  │ base", "+    2", "── done after 3 turns ──"]
    {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
    let after = Swarm::new(&repository, &["logs", "after"]).exits(0).out;
    assert!(after.contains("heard: two() is 2 now"), "{after}");
}

#[test]
fn of_an_agent_that_changed_nothing_it_is_said_where_its_word_is_all_there_is() {
    let repository = house();
    let said = [("", &[finish("done", "all is well")][..])];
    let answers = Answers::beside(&repository, "replay").conversation("alone", &said).conversation("looked-at", &said);
    let plan = "[tasks.alone]\nagent = { prompt = 'Mend it.' }\n[tasks.looked-at]\nagent = { prompt = 'Mend it.' }\ncheck = 'test -f README'\n";
    let ended = run(&repository, plan, &answers, 0);
    let told = |task: &str| {
        ended.err.contains(&format!("{task}: its agent changed nothing, and that it is done is its own word"))
    };
    assert_eq!(["alone", "looked-at"].map(told), [true, false], "{ended}");
}

#[test]
fn the_agent_is_told_the_instructions_from_the_root_to_its_folder() {
    let repository = house();
    let answers =
        Answers::beside(&repository, "replay").conversation("fix", &[("", &[finish("blocked", "not today")])]);
    let plan = FIX.replace("2.\"", "2.\", directory = \"src\"");
    let ended = run(&repository, &plan, &answers, 1);
    assert_eq!(ended.result("fix"), "failed");
    let begun = transcript(&repository, "fix", 1).remove(0);
    let system = begun["system"].as_str().expect("text");
    let (root, below) = (system.find("tabs are forbidden"), system.find("everything is Rust"));
    assert!(root.is_some() && root < below, "{system}");
    let prompt = begun["prompt"].as_str().expect("text");
    assert!(prompt.contains("Let two() be 2.") && prompt.contains("src/**") && prompt.contains("grep -q"), "{prompt}");
    let log = Swarm::new(&repository, &["status"]).exits(0);
    assert!(format!("{log}").contains("gave up: not today"), "{log}");
}

#[test]
fn a_secret_in_a_plans_text_is_told_to_no_model_and_kept_nowhere() {
    let repository = house();
    let answers = Answers::beside(&repository, "replay").conversation("fix", &[("", &[finish("done", "done")])]);
    let plan = "[sandbox.default]\nsecrets = ['TOKEN']\n[tasks.fix]\ncheck = \"test '{{ env.TOKEN }}'\"\n\
                agent = { prompt = 'Log in with {{ env.TOKEN }}.' }\n";
    let swarm = Swarm::run(&repository, "it", plan).args(&["--replay", answers.folder()]).allow("env=TOKEN");
    let ended = swarm.env("TOKEN", "npm_0123456789").exits(0);
    let begun = transcript(&repository, "fix", 1).remove(0);
    let prompt = begun["prompt"].as_str().expect("text");
    assert!(prompt.contains("Log in with ***.") && prompt.contains("test '***'"), "{prompt}");
    let log = Swarm::new(&repository, &["logs", "fix", "--raw"]).exits(0).out;
    assert!(!format!("{begun}{log}{ended}").contains("npm_0123456789"), "{log}");
}

#[test]
fn a_hostile_model_gets_an_answer_to_every_call_and_nothing_else() {
    let repository = house();
    let big = "x".repeat(10 << 20);
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[
            ("", &[read("../README"), read("/etc/passwd"), ("write", json!({"path": ".git/config", "text": "x"}))]),
            (
                "",
                &[
                    bash("ln -s / out; echo ok"),
                    ("write", json!({"path": "out/tmp/x", "text": "x"})),
                    read("out/etc/passwd"),
                ],
            ),
            (
                "",
                &[
                    ("frobnicate", json!({})),
                    ("read", json!({"path": 7})),
                    ("write", json!({"path": "big", "text": big})),
                ],
            ),
            ("", &[bash("rm out; cat < /dev/tcp/127.0.0.1/1 2>&1 || echo no network")]),
            ("", &[read("src/lib.rs"), edit("    1", "    2")]),
            ("Done.", &[]),
        ],
    );
    run(&repository, FIX, &answers, 0);
    let results = results(&transcript(&repository, "fix", 1));
    let statuses: Vec<&str> = results.iter().map(|(_, status)| status.as_str()).collect();
    let expected = ["error", "error", "error", "ok", "error", "error", "error", "error", "error", "ok", "ok", "ok"];
    assert_eq!(statuses, expected, "{results:?}");
    assert!(results[8].0.contains("arguments have"), "{:?}", results[8]);
    assert_eq!(repository.text("swarm/it", "src/lib.rs"), "pub fn two() -> u32 {\n    2\n}\n");
}

#[test]
fn programs_that_an_agent_starts_have_no_way_to_its_connection() {
    let repository = house();
    let look = "ls -l /proc/self/fd | grep -c -- '->' ; ls -l /proc/self/fd | grep socket; echo own: $?; \
                ls -l /proc/$PPID/fd 2>&1 | grep socket; echo theirs: $?; head -c 1 /proc/$PPID/mem 2>&1 | head -1; \
                for n in 3 4 5 6 7 8; do (echo garbage >&$n) 2>/dev/null && echo wrote $n; done; echo end";
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[("", &[bash(look)]), ("", &[read("src/lib.rs"), edit("    1", "    2")]), ("Done.", &[])],
    );
    run(&repository, FIX, &answers, 0);
    let (said, _) = &results(&transcript(&repository, "fix", 1))[0];
    assert!(said.contains("own: 1") && said.contains("theirs: 1") && said.contains("end"), "{said}");
    assert!(!said.contains("socket:") && !said.contains("wrote"), "{said}");
    assert!(said.contains("ermission denied"), "its memory: {said}");
}

#[test]
fn a_failed_check_is_told_to_the_next_attempt() {
    let repository = house();
    let answers = Answers::beside(&repository, "replay")
        .conversation("fix", &[("", &[read("src/lib.rs"), edit("    1", "    3")]), ("It is 3 now.", &[])])
        .conversation("fix", &[("", &[read("src/lib.rs"), edit("    1", "    2")]), ("It is 2 now.", &[])]);
    let check = r#"check = ["grep 2$ src/lib.rs || { echo wanted 2, found:; sed -n 2p src/lib.rs; exit 1; }"]"#;
    let plan = format!(
        "[tasks.fix]\nagent = {{ prompt = 'Let two() be 2.' }}\n{check}\nretry = {{ max = 1, backoff = 'none' }}\n"
    );
    let ended = run(&repository, &plan, &answers, 0);
    assert_eq!(ended.result("fix"), "flaky");
    let first = transcript(&repository, "fix", 1).remove(0);
    assert!(!first["prompt"].as_str().expect("text").contains("It was tried before"));
    let prompt = transcript(&repository, "fix", 2).remove(0)["prompt"].as_str().expect("text").to_owned();
    assert!(prompt.contains("wanted 2, found:\n        3") && prompt.contains("It is 3 now."), "{prompt}");
}

#[test]
fn limits_and_a_missing_file_end_an_agent_clearly_and_harm_nothing_else() {
    let repository = house();
    let look: (&str, &[(&str, Value)]) = ("", &[("read", json!({"path": "README"}))]);
    let answers =
        Answers::beside(&repository, "replay").conversation("endless", &[look, look, look]).conversation("unfed", &[]);
    let plan = r#"
        [tasks.endless]
        agent = { prompt = "go on", turns = 2 }
        [tasks.lost]
        agent = { prompt-file = "no/such.md" }
        [tasks.unfed]
        agent = { prompt = "x" }
        [tasks.fine]
        run = "echo x > fine"
    "#;
    let ended = run(&repository, plan, &answers, 1);
    assert_eq!(ended.result("fine"), "succeeded");
    let said = format!("{}", Swarm::new(&repository, &["status"]).exits(0));
    for words in ["used up its turns", "no/such.md: there is no such file", "no recording in"] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
}

#[test]
fn rules_hold_and_a_question_without_a_person_is_a_no() {
    let repository = house();
    let answers = Answers::beside(&repository, "replay").conversation(
        "fix",
        &[
            (
                "",
                &[
                    bash("env X=1 git push"),
                    bash("touch asked"),
                    ("write", json!({"path": "src/new.rs", "text": "x\n"})),
                ],
            ),
            ("", &[("ask_person", json!({"question": "may I?"}))]),
            ("", &[read("src/lib.rs"), edit("    1", "    2"), finish("done", "fixed")]),
        ],
    );
    let rules =
        r#"2.", deny = ["bash(git push)", "write(src/new*)"], ask = ["bash(touch *)"], allow = ["bash(git push)"]"#;
    run(&repository, &FIX.replace("2.\"", rules), &answers, 0);
    let results = results(&transcript(&repository, "fix", 1));
    for (at, words) in [(0, "denies"), (1, "nobody is here"), (2, "denies"), (3, "nobody is here to answer")] {
        assert!(results[at].0.contains(words), "{at}: {:?}", results[at]);
    }
}

#[test]
fn an_agent_whose_coordinator_dies_at_any_moment_goes_on_with_its_conversation() {
    let mut again = 0;
    for effect in (1..200).step_by(7) {
        let repository = house();
        let answers = Answers::beside(&repository, "replay").conversation(
            "fix",
            &[
                ("", &[read("src/lib.rs")]),
                ("", &[edit("    1", "    3")]),
                ("", &[edit("    3", "    2"), bash("echo x >> src/log")]),
                ("", &[finish("done", "fixed")]),
            ],
        );
        let fault = format!("die@{effect}");
        let ended = Swarm::run(&repository, "it", FIX).args(&["--replay", answers.folder(), "--fault", &fault]).end();
        let died = ended.code != 0;
        if died {
            let resumed = Swarm::new(&repository, &["resume", "--json"]).end();
            if resumed.code == 2 {
                continue; // It died before the run had a name.
            }
            assert_eq!(resumed.code, 0, "died at {effect}: {resumed}");
            again += usize::from(resumed.out.contains("were given once more"));
        }
        assert_eq!(repository.text("swarm/it", "src/lib.rs"), "pub fn two() -> u32 {\n    2\n}\n", "died at {effect}");
        assert_eq!(
            repository.text("swarm/it", "src/log"),
            "x\n",
            "each call was carried out once in the worktree that counts"
        );
        if !died {
            break;
        }
    }
    assert!(again > 0, "no conversation was gone on with");
}

/// A run whose coordinator died while its agent had two answers, and no more: the transcript of its first attempt.
fn cut_short(answers: &mut Option<Answers>) -> (Repository, std::path::PathBuf) {
    for effect in (1..200).step_by(3) {
        let repository = house();
        let recorded = Answers::beside(&repository, "replay").conversation(
            "fix",
            &[("", &[read("src/lib.rs")]), ("", &[edit("    1", "    2")]), ("", &[finish("done", "fixed")])],
        );
        let fault = format!("die@{effect}");
        Swarm::run(&repository, "it", FIX).args(&["--replay", recorded.folder(), "--fault", &fault]).end();
        let runs = std::fs::read_dir(repository.path().join(".git/swarm/runs"));
        let run = runs.ok().and_then(|mut runs| runs.next()).map(|run| run.expect("a run").path());
        let Some(path) = run.map(|run| run.join("fix/1/transcript.jsonl")) else { continue };
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.matches("\"entry\":\"answer\"").count() == 2 && text.ends_with('\n') {
            *answers = Some(recorded);
            return (repository, path);
        }
    }
    panic!("no life ended behind the second answer");
}

#[test]
fn a_transcript_that_is_broken_or_gone_is_told_of_and_one_that_is_gone_on_with_is_forked() {
    let mut answers = None;
    for (broken, said, given) in [
        (None, "2 answers were given once more", 2),
        (Some("{\"version\":1,\"entry\":\"ans\n"), "cannot be read to its end", 2),
        (Some(""), "left a log and no transcript", 0),
        (Some("\0"), "left a log and an empty transcript", 0),
    ] {
        let (repository, first) = cut_short(&mut answers);
        let mut text = std::fs::read_to_string(&first).expect("a transcript");
        match broken {
            None => {}
            Some("") => std::fs::remove_file(&first).expect("it is removed"),
            Some("\0") => std::fs::write(&first, "").expect("it is emptied"),
            Some(line) => {
                text.push_str(line);
                std::fs::write(&first, &text).expect("it is written");
            }
        }
        let resumed = Swarm::new(&repository, &["resume", "--json"]).exits(0);
        assert!(resumed.out.contains(said), "{said}: {resumed}");
        assert_eq!(resumed.out.contains("asked, and paid, once more"), broken.is_some(), "{resumed}");
        assert_eq!(resumed.out.contains("2 answers were given once more"), given == 2, "{resumed}");
        if given == 0 {
            continue;
        }
        let second = first.with_file_name("").join("../2/transcript.jsonl");
        let second = std::fs::read_to_string(second).expect("a transcript");
        let lines = |text: &str| {
            text.lines().filter(|line| line.contains("\"entry\":\"answer\"")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            (lines(&second).len(), &lines(&second)[..2]),
            (3, &lines(&text)[..2]),
            "it begins as the first does"
        );
        assert_eq!(std::fs::read_to_string(&first).expect("a transcript"), text, "which stays as it was");
    }
}

#[test]
fn a_conversation_that_went_wrong_goes_on_from_where_a_person_says() {
    let acts = |(name, arguments): (&str, Value)| {
        Act::events(&chat(&[Block::Call(name, &arguments.to_string())], "tool_calls"))
    };
    let wrong = [read("src/lib.rs"), edit("    1", "    3"), finish("done", "it is 3")];
    let right = [edit("    1", "    2"), finish("done", "it is 2")];
    let server = ModelServer::acting(wrong.into_iter().chain(right).map(acts).collect());
    let repository = house();
    let plan = format!(
        "{FIX}\n[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{}'\nkey = {{ env = 'MY_KEY' }}\n",
        server.url()
    );
    let plan = plan.replace("prompt =", "model = 'main', prompt =");
    Swarm::run(&repository, "it", &plan).env("MY_KEY", "k").args(&["--trust-models"]).exits(1);
    let retry = |more: &[&str]| Swarm::new(&repository, &["retry"]).args(more).env("MY_KEY", "k");
    for (args, said) in [
        (&["--from-turn", "1"][..], "no single task is named"),
        (&["fix", "--from-turn", "4"], "the newest attempt of fix holds 3 answers of a model"),
    ] {
        let refused = retry(args).exits(2);
        assert!(refused.err.contains(said), "{refused}");
    }
    let first = transcript(&repository, "fix", 1);
    let ended = retry(&["fix", "--from-turn", "1", "--json"]).exits(0);
    assert!(ended.out.contains("it goes on with the conversation of attempt 1, behind answer 1"), "{ended}");
    assert_eq!(server.asked().len(), 5, "one answer is given once more");
    let second = transcript(&repository, "fix", 2);
    assert_eq!(
        (&second[0], transcript(&repository, "fix", 1)),
        (&first[0], first.clone()),
        "its words are those of the first"
    );
    let answers =
        |entries: &[Value]| entries.iter().filter(|entry| entry["entry"] == "answer").cloned().collect::<Vec<_>>();
    assert_eq!((answers(&second).len(), &answers(&second)[0]), (3, &answers(&first)[0]));
    assert!(repository.text("swarm/it", "src/lib.rs").contains("    2"));
}

#[test]
fn an_answer_is_in_the_log_while_it_still_comes() {
    let repository = house();
    let half = chat(&[Block::Text("Half of an answer"), Block::Text(", and the rest.")], "stop");
    let server = ModelServer::acting(vec![Act::events(&half).hangs_after(1)]);
    let plan = format!(
        "[models.main]\nprovider = 'openai'\nmodel = 'm'\nbase-url = '{}'\n\
         [tasks.slow]\nagent = {{ prompt = 'x' }}\ntimeout = '3s'\n",
        server.url()
    );
    let ended = Swarm::run(&repository, "it", &plan).args(&["--trust-models"]).exits(1);
    assert_eq!(ended.result("slow"), "timed-out");
    let log = Swarm::new(&repository, &["logs", "slow"]).exits(0).out;
    assert!(log.contains("\nHalf of an answer") && !log.contains("and the rest"), "{log}");
}
