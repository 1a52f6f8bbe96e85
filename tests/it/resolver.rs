//! Conflicts that an agent settles: `[merge] resolver = { model, prompt }`.

use serde_json::{Value, json};
use swarm_tests::{Answers, Ended, Repository, Swarm};

const PLAN: &str = "[merge]\nresolver = { prompt = 'Both words matter.' }\n\
    [tasks.x]\nrun = 'sed -i s/two/LEFT/ a.txt'\n\
    [tasks.y]\nrun = 'sed -i s/two/RIGHT/ a.txt; echo y > y.txt'\n";

fn house() -> Repository {
    Repository::with(&[("a.txt", "one\ntwo\nthree\n"), ("b.txt", "b\n")])
}

fn read(path: &str) -> (&'static str, Value) {
    ("read", json!({"path": path}))
}

fn write(path: &str, content: &str) -> (&'static str, Value) {
    ("write", json!({"path": path, "text": content}))
}

fn finish(summary: &str) -> (&'static str, Value) {
    ("finish", json!({"status": "done", "summary": summary}))
}

fn settles(repository: &Repository, calls: &[(&'static str, Value)]) -> Answers {
    Answers::beside(repository, "replay").conversation("y", &[("", calls), ("", &[finish("both words stay")])])
}

fn run(repository: &Repository, plan: &str, answers: &Answers, code: i32) -> Ended {
    Swarm::run(repository, "it", plan).args(&["--replay", answers.folder()]).exits(code)
}

#[test]
fn an_agent_settles_a_conflict_and_knows_what_both_sides_were_to_do() {
    let repository = house();
    let look = ("bash", json!({"script": "cat $SWARM_CONFLICT/ours/a.txt $SWARM_CONFLICT/theirs/a.txt"}));
    let answers = settles(&repository, &[look, read("a.txt"), write("a.txt", "one\nLEFT RIGHT\nthree\n")]);
    let ended = run(&repository, PLAN, &answers, 0);
    assert_eq!(repository.text("swarm/it", "a.txt"), "one\nLEFT RIGHT\nthree\n", "{ended}");
    assert_eq!(repository.text("swarm/it", "y.txt"), "y\n", "what fits comes along");
    let path = repository.path().join(".git/swarm/runs/it-1/y/2/transcript.jsonl");
    let kept = std::fs::read_to_string(path).expect("a transcript");
    let words =
        ["s/two/LEFT/", "s/two/RIGHT/", "a.txt (content)", "Both words matter.", "one\\nLEFT\\nthree\\none\\nRIGHT"];
    words.iter().for_each(|words| assert!(kept.contains(words), "{words} is not in\n{kept}"));
    let said = Swarm::new(&repository, &["status"]).exits(0).out;
    assert!(said.contains("both words stay"), "{said}");
}

#[test]
fn what_an_agent_leaves_unsettled_is_parked() {
    let elsewhere = [read("a.txt"), write("a.txt", "one\nBOTH\nthree\n"), read("b.txt"), write("b.txt", "mine\n")];
    for (calls, reason) in
        [(&[read("a.txt")][..], "left conflict markers: a.txt"), (&elsewhere[..], "b.txt, which is none of its files")]
    {
        let repository = house();
        let ended = run(&repository, PLAN, &settles(&repository, calls), 5);
        assert_eq!(["x", "y"].map(|task| ended.fate(task)), ["landed", "parked"], "{ended}");
        assert!(ended.out.contains(reason), "{reason}: {ended}");
        assert_eq!(repository.text("swarm/it", "a.txt"), "one\nLEFT\nthree\n");
        assert_eq!(repository.text("refs/swarm/it-1/y/1", "a.txt"), "one\nRIGHT\nthree\n", "it is kept");
    }
    // The checks of the task judge it, too, and nobody's answer is nobody's.
    let repository = house();
    let checked = PLAN.replace("[tasks.y]\n", "[tasks.y]\ncheck = 'grep -q RIGHT a.txt'\n");
    let lost = settles(&repository, &[read("a.txt"), write("a.txt", "one\nLEFT\nthree\nfour\n")]);
    assert_eq!(run(&repository, &checked, &lost, 5).fate("y"), "parked");
    let repository = house();
    let ended = run(&repository, PLAN, &Answers::beside(&repository, "replay").conversation("x", &[("", &[])]), 5);
    assert_eq!(ended.fate("y"), "parked", "{ended}");
}

/// Every n-th effect is tried; `SWARM_EFFECTS=1` tries all of them.
#[test]
fn a_settlement_that_dies_at_any_effect_is_gone_on_with() {
    let stride = std::env::var("SWARM_EFFECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(29);
    let mut deaths = 0;
    for effect in (1..).step_by(stride) {
        let repository = house();
        let answers = settles(&repository, &[read("a.txt"), write("a.txt", "one\nLEFT RIGHT\nthree\n")]);
        let start = || Swarm::run(&repository, "it", PLAN).args(&["--replay", answers.folder()]);
        let died = start().args(&["--fault", &format!("die@{effect}")]).end();
        if died.code == 0 {
            break;
        }
        let has_a_name = Swarm::new(&repository, &["list"]).exits(0).out.contains(" it-");
        let ended = if has_a_name { Swarm::new(&repository, &["resume", "it", "--json"]) } else { start() }.exits(0);
        let told = repository.text("swarm/it", "a.txt");
        assert_eq!(told, "one\nLEFT RIGHT\nthree\n", "died at effect {effect}: {ended}");
        deaths += 1;
    }
    assert!(deaths * stride > 40, "two tasks and a settlement have more than {} effects", deaths * stride);
}
