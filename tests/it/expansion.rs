//! Tasks that other tasks add: what a list may say, what it cannot, and that the graph grows the same way every time.

use serde_json::Value;
use swarm_tests::{Ended, Repository, Swarm};

/// A plan whose task `split` hands over `list`.
fn plan(list: &str) -> String {
    format!(
        r#"
[templates.write]
env = {{ TEXT = "{{{{ with.text }}}}" }}
writes = ["{{{{ with.file }}}}"]
run = 'echo "$TEXT" > "$(echo "$SWARM_FOREACH_TASK" | sed "s/.*\"file\":\"\\([^\"]*\\)\".*/\\1/")"'
[templates.more]
writes = []
run = '''echo '[{{"template":"write","name":"deep","with":{{"file":"deep.txt","text":"d"}}}}]' > "$SWARM_ARTIFACTS/tasks.json"'''
expands = {{ template = ["write"] }}
[tasks.split]
writes = []
expands = {{ template = ["write", "more"], max-tasks = 3, max-depth = 2 }}
run = '''echo '{list}' > "$SWARM_ARTIFACTS/tasks.json"'''
[tasks.last]
needs = ["split.write"]
writes = ["last.txt"]
run = "ls > last.txt"
"#
    )
}

fn write(name: &str, needs: &str) -> String {
    format!(
        r#"{{"template":"write","name":"{name}","with":{{"file":"{name}.txt","text":"{name}"}},"needs":[{needs}]}}"#
    )
}

fn added(ended: &Ended) -> Vec<String> {
    let events = ended.events_of("instances-added");
    let ids = |event: &Value| {
        let all = event["instances"].as_array().expect("a list").iter();
        all.map(|one| one["id"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    events.iter().flat_map(ids).collect()
}

#[test]
fn a_list_becomes_tasks_in_the_order_of_their_needs() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let list = format!("[{},{}]", write("second", "\"first\""), write("first", ""));
    let ended = Swarm::run(&repository, "it", &plan(&list)).exits(0);
    assert_eq!(added(&ended), ["split", "last", "split.write[task=first]", "split.write[task=second]"]);
    assert_eq!(repository.text("swarm/it", "last.txt"), "a.txt\nfirst.txt\nlast.txt\nsecond.txt\n");
    let needs = &ended.events_of("instances-added")[1]["instances"][1]["needs"];
    assert_eq!(needs, &serde_json::json!(["split", "split.write[task=first]"]));
}

#[test]
fn added_tasks_add_tasks_until_the_outermost_bound() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let more = |name: &str| format!(r#"{{"template":"more","name":"{name}"}}"#);
    let ended = Swarm::run(&repository, "it", &plan(&format!("[{}]", more("m")))).exits(0);
    assert!(added(&ended).contains(&"split.more.write[task=deep]".to_owned()), "{ended}");
    assert_eq!(repository.text("swarm/it", "deep.txt"), "d\n");
    let ended = Swarm::run(&repository, "it", &plan(&format!("[{},{}]", more("m"), more("n")))).exits(1);
    assert!(ended.err.contains("bring 4 tasks, and its max-tasks is 3"), "{ended}");
}

#[test]
fn a_list_that_asks_for_too_much_adds_nothing() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    for (list, says) in [
        (format!("[{},{}]", write("a", "\"b\""), write("b", "\"a\"")), "waits for itself"),
        (format!("[{},{}]", write("a", ""), r#"{"template":"split","name":"b"}"#), "is not among write, more"),
        (format!("[{},{}]", write("a", ""), r#"{"template":"more","name":"b","sandbox":"open"}"#), "is not a key"),
        ("[".to_owned(), "EOF"),
    ] {
        let ended = Swarm::run(&repository, "it", &plan(&list)).exits(1);
        assert!(ended.err.contains(says), "{says}: {ended}");
        assert!(!added(&ended).iter().any(|id| id.starts_with("split.write[")), "{ended}");
        assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
    }
}

#[test]
fn a_list_with_one_scope_outside_of_its_template_adds_nothing() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let list =
        format!("[{},{}]", write("good", ""), r#"{"template":"write","name":"x","with":{"file":"../x","text":"t"}}"#);
    let ended = Swarm::run(&repository, "it", &plan(&list)).exits(1);
    assert!(
        ended.err.contains("the new tasks are refused: task 2: ") && ended.err.contains("climbs out of the tree"),
        "{ended}"
    );
    assert_eq!(added(&ended), ["split", "last", "split.write", "split.more.write"], "{ended}");
    assert_eq!(repository.refs("refs/heads/swarm/*"), Vec::<String>::new());
}
