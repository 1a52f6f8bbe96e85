//! The cache against a real repository: what is kept, what is let go, what git may collect.

use super::*;
use crate::cache::key::Mix;
use crate::event::ChangeSummary;
use crate::git_fixture::{Fixture, git};

fn key(name: &str) -> Key {
    Key::for_test(Mix::new(name).done())
}

fn recorded(run: &str, commit: Option<Oid>) -> Recorded {
    Recorded {
        run: RunId(run.to_owned()),
        instance: "a".to_owned(),
        duration_ms: 7,
        start_tree: "b".repeat(40),
        change: commit.map(|commit| ChangeSummary {
            base_tree: "b".repeat(40),
            commit: commit.to_string(),
            tree: "d".repeat(40),
            files: 1,
            history: None,
            writes: None,
        }),
        outputs: serde_json::Map::from_iter([("x".to_owned(), serde_json::json!([1]))]),
        notes: vec!["it changes how things are built".to_owned()],
        artifacts: None,
    }
}

/// A commit that no ref names.
fn loose_commit(fixture: &Fixture, text: &str) -> Oid {
    let tree = git(fixture.path(), &["write-tree"]);
    let commit = git(fixture.path(), &["commit-tree", "-m", text, tree.trim()]);
    Oid::from_str(commit.trim()).expect("an id")
}

#[test]
fn what_is_recorded_is_found_again_until_it_is_forgotten() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let (repository, state) = (fixture.repository(), tempfile::tempdir().expect("a temporary folder"));
    let cache = Cache::open(state.path()).expect("a new cache");
    let commit = loose_commit(&fixture, "kept");
    let artifacts = state.path().join("artifacts");
    std::fs::create_dir(&artifacts).and_then(|()| std::fs::write(artifacts.join("f"), "1")).expect("a file");
    let with_artifacts = Recorded { artifacts: Some(("x".to_owned(), 1)), ..recorded("x-1", Some(commit)) };
    cache.record(&key("a"), &with_artifacts, &artifacts, 1).expect("recorded");
    cache.record(&key("b"), &recorded("x-1", None), &artifacts, 1).expect("recorded");
    let found = cache.find(&[key("b"), key("c"), key("a")], 2).expect("legible");
    assert_eq!(found, [Some(recorded("x-1", None)), None, Some(with_artifacts)]);
    assert!(cache.artifacts(&key("a")).join("f").exists());
    assert_eq!(cache.holdings().expect("legible"), Holdings { results: 2, artifact_bytes: 1 });
    assert_eq!(cache.forget_commit(&repository, commit).expect("forgotten"), 1);
    assert_eq!(cache.find(&[key("a")], 3).expect("legible"), [None]);
    assert!(!cache.artifacts(&key("a")).exists());
}

#[test]
fn a_result_whose_outputs_nobody_can_read_is_none() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(state.path()).expect("a new cache");
    let raw = rusqlite::Connection::open(state.path().join("results/results.sqlite")).expect("the same file");
    for column in ["outputs", "notes"] {
        cache.record(&key("a"), &recorded("x-1", None), state.path(), 1).expect("recorded");
        assert_eq!(cache.find(&[key("a")], 2).expect("legible"), [Some(recorded("x-1", None))]);
        raw.execute(&format!("UPDATE results SET {column} = '{{\"x\":'"), []).expect("a text of any kind");
        assert_eq!(cache.find(&[key("a")], 3).expect("a miss is no error"), [None], "{column}");
        // No UTF-8.
        raw.execute(&format!("UPDATE results SET {column} = CAST(x'ff' AS TEXT)"), []).expect("a text of any kind");
        assert_eq!(cache.find(&[key("a")], 3).expect("a miss is no error"), [None], "{column}");
    }
}

#[test]
fn what_is_irreproducible_is_neither_found_nor_recorded_until_all_is_forgotten() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let (repository, state) = (fixture.repository(), tempfile::tempdir().expect("a temporary folder"));
    let (cache, other) =
        (Cache::open(state.path()).expect("a new cache"), Cache::open(state.path()).expect("the same"));
    let artifacts = state.path().join("artifacts");
    std::fs::create_dir(&artifacts).and_then(|()| std::fs::write(artifacts.join("f"), "1")).expect("a file");
    let result = Recorded { artifacts: Some(("x".to_owned(), 1)), ..recorded("x-1", None) };
    let found = |name: &str| cache.find(&[key(name)], 2).expect("legible").remove(0).is_some();
    assert!(cache.record(&key("a"), &result, &artifacts, 1).expect("recorded") && found("a"));
    other.never_again(&repository, &key("a"), 2).expect("forgotten");
    assert!(!found("a") && !cache.record(&key("a"), &result, &artifacts, 3).expect("nothing is recorded"));
    assert!(!found("a") && !cache.artifacts(&key("a")).exists());
    assert!(cache.record(&key("b"), &result, &artifacts, 3).expect("recorded") && found("b"), "the control");
    cache.clear(&repository).expect("forgotten");
    assert!(cache.record(&key("a"), &result, &artifacts, 4).expect("recorded") && found("a"));
}

#[test]
fn artifacts_are_replaced_whole_or_not_at_all_and_nothing_stays_beside_them() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(state.path()).expect("a new cache");
    let record = |name: &str, digest: &str| {
        let artifacts = state.path().join(name);
        let result = Recorded { artifacts: Some((digest.to_owned(), 1)), ..recorded("x-1", None) };
        cache.record(&key("a"), &result, &artifacts, 1)
    };
    for name in ["one", "two"] {
        std::fs::create_dir(state.path().join(name)).expect("a folder");
        std::fs::write(state.path().join(name).join(name), "1").expect("a file");
    }
    let lie = || {
        let folders = std::fs::read_dir(state.path().join("results")).expect("a folder").flatten();
        let folders = folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        let files = std::fs::read_dir(cache.artifacts(&key("a"))).expect("a folder").flatten();
        (folders.count(), files.map(|entry| entry.file_name().into_string().expect("text")).collect::<Vec<_>>())
    };
    assert!(record("one", "1").expect("recorded"));
    assert!(matches!(record("none", "2"), Err(CacheError::Io { .. })), "there is no such folder");
    assert_eq!(lie(), (1, vec!["one".to_owned()]), "what was there stays");
    assert!(record("two", "3").expect("recorded"));
    assert_eq!(lie(), (1, vec!["two".to_owned()]));
}

#[test]
fn what_died_half_recorded_is_swept_unless_somebody_records() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let (repository, state) = (fixture.repository(), tempfile::tempdir().expect("a temporary folder"));
    let cache = Cache::open(state.path()).expect("a new cache");
    let artifacts = state.path().join("artifacts");
    std::fs::create_dir(&artifacts).and_then(|()| std::fs::write(artifacts.join("f"), "1")).expect("a file");
    let result = Recorded { artifacts: Some(("x".to_owned(), 1)), ..recorded("x-1", None) };
    assert!(cache.record(&key("a"), &result, &artifacts, 1).expect("recorded"));
    // In its place without a row, and not in its place yet.
    let orphans = [cache.artifacts(&key("b")), state.path().join("results").join(format!("{}+0", key("b")))];
    for orphan in &orphans {
        std::fs::create_dir(orphan).and_then(|()| std::fs::write(orphan.join("f"), "1")).expect("a file");
    }
    let settled = || {
        cache.settle(&repository, &RunId("x-1".to_owned())).expect("settled");
        let there = orphans.iter().filter(|orphan| orphan.exists()).count();
        (there, cache.artifacts(&key("a")).join("f").exists())
    };
    let other = Cache::open(state.path()).expect("the same");
    let recording = other.shelf.ready(&key("c").to_string(), &artifacts).expect("it records");
    assert_eq!(settled(), (2, true));
    drop(recording);
    assert_eq!(settled(), (0, true));
    cache.clear(&repository).expect("forgotten");
    assert!(!cache.artifacts(&key("a")).exists());
}

#[test]
fn all_who_make_the_cache_at_once_open_it() {
    for round in 0..20 {
        let state = tempfile::tempdir().expect("a temporary folder");
        let start = std::sync::Barrier::new(6);
        let open = || {
            start.wait();
            Cache::open(state.path()).map(drop).map_err(|error| error.to_string())
        };
        let opened: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        assert!(opened.iter().all(Result::is_ok), "round {round}: {opened:?}");
    }
}

#[test]
fn git_collects_a_result_only_once_it_is_forgotten() {
    let fixture = Fixture::with_files(&[("a", "1")]);
    let (repository, state) = (fixture.repository(), tempfile::tempdir().expect("a temporary folder"));
    let cache = Cache::open(state.path()).expect("a new cache");
    let (kept, dropped) = (loose_commit(&fixture, "kept"), loose_commit(&fixture, "dropped"));
    for (name, commit) in [("a", kept), ("b", dropped)] {
        cache.record(&key(name), &recorded("x-1", Some(commit)), state.path(), 1).expect("recorded");
    }
    let collect = || git(fixture.path(), &["gc", "--quiet", "--prune=now"]);
    let exists = |commit: Oid| fixture.repository().handle().expect("a handle").odb().expect("objects").exists(commit);
    cache.settle(&repository, &RunId("x-1".to_owned())).expect("kept");
    collect();
    assert_eq!((exists(kept), exists(dropped)), (true, true));
    cache.forget_commit(&repository, dropped).expect("forgotten");
    collect();
    assert_eq!((exists(kept), exists(dropped)), (true, false));
    cache.clear(&repository).expect("cleared");
    collect();
    assert!(!exists(kept));
    assert_eq!(repository.refs_below("refs/swarm/").expect("refs"), []);
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let cache = Cache::open(state.path()).expect("a new cache");
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        let result = Recorded { artifacts: Some(("x".to_owned(), 10)), ..recorded("x-1", None) };
        cache
            .record(&key(name), &result, &state.path().join("results").join("none"), at as u64)
            .expect_err("no folder");
        std::fs::create_dir_all(state.path().join("empty")).expect("a folder");
        cache.record(&key(name), &result, &state.path().join("empty"), at as u64).expect("recorded");
    }
    cache.find(&[key("a")], 9).expect("legible");
    let left = || {
        let found = cache.find(&["a", "b", "c"].map(key), 10).expect("legible");
        found.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(cache.store().prune(2, 1000).expect("pruned").len(), 1);
    assert_eq!(left(), [true, false, true]);
    assert_eq!(cache.store().prune(2, 10).expect("pruned").len(), 1);
    assert_eq!(left().iter().filter(|kept| **kept).count(), 1);
}

#[test]
fn a_newer_or_damaged_file_is_named() {
    let state = tempfile::tempdir().expect("a temporary folder");
    drop(Cache::open(state.path()).expect("a new cache"));
    let path = state.path().join("results/results.sqlite");
    let raw = rusqlite::Connection::open(&path).expect("the same file");
    raw.pragma_update(None, "user_version", 99).expect("a version of the future");
    drop(raw);
    let error = Cache::open(state.path()).expect_err("refused").to_string();
    assert!(error.contains("its format is 99"), "{error}");
    std::fs::write(&path, "x".repeat(5000)).expect("a file");
    for beside in ["-wal", "-shm"] {
        drop(std::fs::remove_file(state.path().join(format!("results/results.sqlite{beside}"))));
    }
    assert!(matches!(Cache::open(state.path()), Err(CacheError::Sql { .. })));
}
