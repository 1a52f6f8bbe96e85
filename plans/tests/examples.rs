//! Every example parses, expands, and looks as it did.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use swarm_plans::{Fan, Plan, RenderContext, TaskGraph, parse};

fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
}

fn plan(file: &str) -> Arc<Plan> {
    let text = std::fs::read_to_string(examples().join(file)).expect("the example exists");
    assert!(text.starts_with("#:schema ../plan.schema.json\n"), "{file} does not name its schema");
    let mut include = |name: &str| std::fs::read_to_string(examples().join(name)).map_err(|error| error.to_string());
    let parsed = parse(file, &text, &[], &mut include);
    assert!(parsed.diagnostics.is_empty(), "{file}: {:#?}", parsed.diagnostics);
    parsed.plan.expect("a plan without mistakes")
}

fn graph(file: &str) -> TaskGraph {
    TaskGraph::expand(plan(file)).unwrap_or_else(|diagnostics| panic!("{file}: {diagnostics:#?}"))
}

/// The blocks of plans in the README, as they stand there.
fn shown() -> Vec<String> {
    let text = std::fs::read_to_string(examples().join("../../README.md")).expect("the README");
    let blocks = text.split("\n```toml\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn every_block_of_the_readme_is_a_plan_or_a_part_of_one() {
    let all = shown();
    assert!(all.len() >= 4, "{}", all.len());
    for block in all {
        let version = if block.starts_with("version") { "" } else { "version = 1\n" };
        let task = if block.contains("[tasks.") { "" } else { "[tasks.any]\nrun = 'true'\n" };
        let text = format!("{version}{block}{task}");
        let parsed = parse("README.md", &text, &[], &mut |_| Err(String::new()));
        assert!(parsed.diagnostics.is_empty(), "{text}: {:#?}", parsed.diagnostics);
    }
}

#[test]
fn the_readme_shows_every_key_of_merge() {
    let schema = std::fs::read_to_string(examples().join("../plan.schema.json")).expect("the schema");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    let keys = schema.pointer("/properties/merge/properties").and_then(|keys| keys.as_object()).expect("keys");
    let block = shown().into_iter().find(|block| block.starts_with("[merge]\n")).expect("a block of it");
    let missing: Vec<&String> = keys.keys().filter(|key| !block.contains(&format!("\n{key} = "))).collect();
    assert!(keys.len() > 5 && missing.is_empty(), "{missing:?}");
}

#[test]
fn every_example_expands_to_the_same_tree() {
    let mut files: Vec<String> = std::fs::read_dir(examples())
        .expect("the folder exists")
        .map(|entry| entry.expect("it is readable").file_name().into_string().expect("a plain name"))
        .filter(|name| name.ends_with(".toml") && name != "common.toml")
        .collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    let trees: Vec<String> = files.iter().map(|file| format!("# {file}\n{}", graph(file).tree())).collect();
    insta::assert_snapshot!(trees.join("\n"));
}

#[test]
fn the_tour_grows_by_what_its_survey_finds() {
    let mut graph = graph("tour.toml");
    let pending = graph.pending();
    assert!(matches!(&pending[0].source, Fan::Output { output, .. } if output == "crates"));
    let items =
        vec![json!({"name": "swarm-plans", "dir": "plans"}), json!({"name": "swarm", "dir": "orchestrator/cli"})];
    let added = graph.supply(pending[0].task, items).expect("two items are allowed");
    assert_eq!(*graph.instance(added[1]).id.0, *"header[crate=swarm]");
    let needs = json!({
        "header": { "result": "succeeded", "outputs": {}, "instances": {
            "header[crate=swarm-plans]": { "result": "succeeded", "outputs": { "count": "19" } },
            "header[crate=swarm]": { "result": "succeeded", "outputs": { "count": "7" } },
        } },
    });
    let cx = RenderContext {
        run_name: "tour",
        run_id: "tour-1",
        base: "0",
        target: None,
        needs: &needs,
        env: &|_| None,
        seed: None,
    };
    let header = graph.render(added[1], &cx).expect("it renders");
    assert_eq!(header.writes, Some(vec!["orchestrator/cli/src/**/*.rs".to_owned()]));
    assert_eq!(header.env[0], ("DIR".to_owned(), "orchestrator/cli".to_owned()));
    let summary = graph.instance_by_id("summary").expect("it is static");
    let table = &graph.render(summary, &cx).expect("it renders").env[0].1;
    assert_eq!(
        table,
        "| crate | files |\n|---|---|\n| header[crate=swarm-plans] | 19 |\n| header[crate=swarm] | 7 |\n"
    );
}

#[test]
fn pictures_are_the_same_graph() {
    let graph = graph("conditions.toml");
    insta::assert_snapshot!(format!("{}\n{}", graph.dot(), graph.mermaid()));
}
