//! A plan with ten mistakes shows ten, each with its place and a hint. The snapshots are what `swarm check` has to say.

use swarm_plans::{Diagnostic, Parsed, Severity, TaskGraph, parse};

fn parse_with(text: &str, common: &str) -> Parsed {
    parse("plan.toml", text, &[], &mut |name| match name {
        "common.toml" => Ok(common.to_owned()),
        name => Err(format!("there is no {name}")),
    })
}

/// `file:line:column: error: message (label)` with the line, carets, and a hint.
fn shown(parsed: &Parsed, diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let source = &parsed.sources[diagnostic.source];
        let before = &source.text[..diagnostic.span.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = source.text[line_start..].lines().next().unwrap_or("");
        let column = before.len() - line_start;
        let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
        let width = diagnostic.span.len().clamp(1, line.len().saturating_sub(column).max(1));
        text.push_str(&format!(
            "{}:{}:{}: {severity}: {}\n  {line}\n  {}{} {}\n",
            source.name,
            before.matches('\n').count() + 1,
            column + 1,
            diagnostic.message,
            " ".repeat(column),
            "^".repeat(width),
            diagnostic.label.as_deref().unwrap_or(""),
        ));
        for (source, span, words) in &diagnostic.related {
            let source = &parsed.sources[*source];
            let line = source.text[..span.start].matches('\n').count() + 1;
            text.push_str(&format!("  {}:{line}: {words}\n", source.name));
        }
        if let Some(hint) = &diagnostic.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn check(text: &str) -> String {
    let parsed = parse_with(text, "");
    assert!(parsed.plan.is_none(), "the plan was accepted");
    shown(&parsed, &parsed.diagnostics)
}

fn check_expansion(text: &str) -> String {
    let parsed = parse_with(text, "");
    let plan = parsed.plan.clone().unwrap_or_else(|| panic!("{}", shown(&parsed, &parsed.diagnostics)));
    let diagnostics = TaskGraph::expand(plan).expect_err("the graph was accepted");
    shown(&parsed, &diagnostics)
}

#[test]
fn ten_mistakes_show_ten() {
    let text = r#"version = 1
jbos = 4
deadline = 30

[resources]
gpu = 1

[defaults]
timeout = "5 parsecs"

[tasks.build]
runn = "make"
argv = ["make"]
needs = ["lint", "tets"]

[tasks.lint]
run = "lint {{ matrix.os }}"
needs = ["build"]
resources = { gpu = 2 }
writes = ["../outside/**"]

[tasks.test]
run = "test {{ needs.build.outputs.x }}"
argv = ["test"]
sandbox = "tight"
"#;
    let shown = check(text);
    assert!(shown.matches(": error: ").count() >= 10, "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn what_workers_gave_cannot_become_a_command() {
    insta::assert_snapshot!(check(
        r#"version = 1
[tasks.survey]
run = "true"
outputs.crates = { json = "crates.json" }
[tasks.work]
needs = ["survey"]
foreach.crate = "needs.survey.outputs.crates"
run = "cd {{ crate.dir }}"
check = ["test {{ needs.survey.result }}", { argv = ["x", "{{ crate }}"] }]
"#
    ));
}

#[test]
fn a_host_that_may_be_reached_is_a_host() {
    insta::assert_snapshot!(check(
        r#"version = 1
[sandbox.net]
network = ["https://example.org/", "example.org:99999", "*", "bücher.example", "raw:example.org", "127.1", 3]
[sandbox.other]
network = "example.org"
[tasks.a]
run = "true"
"#
    ));
}

#[test]
fn later_keys_answer_by_name() {
    insta::assert_snapshot!(check(
        r#"version = 1
[sandbox.net]
network = ["example.org:443"]
secrets = ["TOKEN"]
tier = "wasm"
[tasks.a]
agent = { prompt = "do it" }
[tasks.b]
wasm = "b.wasm"
[tasks.c]
run = "true"
attempts = { best-of = 4 }
[merge]
verify = "cargo test"
on-conflict = ["rerun", "park"]
publish = "all-or-nothing"
into = "a..b"
[select.winner]
from = "c"
"#
    ));
}

#[test]
fn a_repetition_says_when_it_is_enough() {
    let said = check("version = 1\n[tasks.a]\nagent = { prompt = \"do it\" }\nuntil = { max = 2 }\n");
    assert!(said.contains("`until` does not say when it is enough") && said.contains("write until ="), "{said}");
}

#[test]
fn a_result_that_the_network_had_a_part_in_is_not_reused() {
    insta::assert_snapshot!(check(
        r#"version = 1
[sandbox.open]
network = "host"
[defaults]
cache = { inputs = ["src/**"], fingerprint = "rustc {{ nothing }}" }
[tasks.a]
run = "true"
sandbox = "open"
cache = true
[tasks.b]
run = "true"
sandbox = "open"
cache = false
[tasks.c]
run = "true"
cache = { input = ["x"] }
"#
    ));
}

#[test]
fn fan_outs_and_matrices_are_checked_before_anything_runs() {
    insta::assert_snapshot!(check(
        r#"version = 1
[tasks.a]
run = "echo {{ matrix.osx }} {{ item }}"
matrix = { os = ["a", "b", "a"], node-version = [1] }
matrix-exclude = [{ os = "c" }, { arch = "x" }]
[tasks.b]
run = "true"
foreach.x = { glob = "src/[" }
foreach.y = { lines = "git ls-files" }
foreach-batch = 2
[tasks.c]
run = "echo {{ matrix.node-version }}"
matrix = { node-version = [1] }
foreach.needs = [1]
foreach.z = "needs.a.outputs.z"
[tasks.d]
run = "true"
foreach.i = [1, 2, 3]
foreach-max = 2
env = { "a-b" = "1", SWARM_TASK = "x", LIST = "{{ [i] | jion(',') }}" }
if = "{{ i == 1 }}"
"#
    ));
}

#[test]
fn names_given_twice_over_includes_are_shown_with_both_places() {
    let text = "version = 1\ninclude = [\"common.toml\", \"gone.toml\"]\n[vars]\nx = 1\n[tasks.a]\nuse = \"wirte\"\n";
    let parsed = parse_with(
        text,
        "[vars]\nx = 2\n[templates.write]\nrun = \"echo {{ oops\"\nuse = \"other\"\n[tasks.b]\nrun = \"x\"\n",
    );
    insta::assert_snapshot!(shown(&parsed, &parsed.diagnostics));
}

#[test]
fn cycles_are_shown_as_cycles() {
    insta::assert_snapshot!(check(
        "version = 1\n[tasks.a]\nrun = 'x'\nneeds = ['c']\n[tasks.b]\nrun = 'x'\nneeds = ['a']\n[tasks.c]\nrun = 'x'\nneeds = ['b']\n[tasks.d]\nrun = 'x'\nneeds = ['d']\n"
    ));
}

#[test]
fn cycles_of_instances_are_found_when_the_graph_is_built() {
    insta::assert_snapshot!(check_expansion(
        r#"version = 1
[tasks.a]
run = "x"
matrix = { i = [1, 2] }
needs = ["b[i={{ matrix.i }}]"]
[tasks.b]
run = "x"
matrix = { i = [1, 2] }
needs = ["a[i=2]"]
"#
    ));
}

#[test]
fn a_need_on_an_instance_that_does_not_exist_names_the_nearest() {
    insta::assert_snapshot!(check_expansion(
        "version = 1\n[tasks.a]\nrun = 'x'\nmatrix = { profile = ['dev', 'release'] }\n[tasks.b]\nrun = 'x'\nneeds = ['a[profile=relase]']\n"
    ));
}

#[test]
fn empty_and_broken_plans_are_answered() {
    let mut all = String::new();
    for text in [
        "",
        "version = 2\n[tasks.a]\nrun = 'x'\n",
        "version = 1\n",
        "version = 1\n[tasks]\n",
        "version = 1\n[tasks.a\n",
        "version = 1\ntasks = 3\n[tasks2]\n",
        "version = 1\n[tasks.a]\n[tasks.'b c']\nrun = ''\n",
    ] {
        all.push_str(&format!("--- {text:?}\n{}\n", check(text)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_need_on_an_instance_that_is_not_there_is_shown() {
    let text = "version = 1\n[tasks.a]\nrun = 'true'\nmatrix = { n = ['1', '2'] }\n\
        [tasks.b]\nrun = 'true'\nneeds = ['a[n=3]', 'a[n=4]']\n[tasks.c]\nrun = 'true'\nneeds = ['a[n=5]']\n";
    let shown = check_expansion(text);
    let found: Vec<bool> = ["`a[n=3]`", "`a[n=4]`", "`a[n=5]`"].iter().map(|need| shown.contains(need)).collect();
    assert_eq!((found, shown.matches("which does not exist").count()), (vec![true; 3], 3), "{shown}");
}

#[test]
fn a_need_that_names_no_instance_is_told_before_a_fan_out_has_any() {
    let text = "version = 1\n[tasks.split]\nrun = 'true'\noutputs.l = { json = 'l.json' }\n\
        [tasks.fan]\nrun = 'true'\nneeds = ['split']\nforeach.d = 'needs.split.outputs.l'\n\
        [tasks.c]\nrun = 'true'\nneeds = ['fan[*]']\n[tasks.d]\nrun = 'true'\nneeds = ['fan[d=x]']\n";
    let shown = check_expansion(text);
    assert!(shown.contains("`c` needs `fan[*]`, which does not exist") && !shown.contains("`d` needs"), "{shown}");
    assert!(shown.contains("hint: `fan` alone means all of its instances"), "{shown}");
}

#[test]
fn a_need_on_an_instance_of_a_task_without_any_names_no_other_task() {
    let text = "version = 1\n[tasks.a]\nrun = 'true'\n[tasks.c]\nrun = 'true'\nmatrix = { x = [1] }\n\
        [tasks.b]\nrun = 'true'\nneeds = ['a[x=1]']\n";
    let shown = check_expansion(text);
    assert!(shown.contains("hint: `a` is a task without instances of its own: write \"a\""), "{shown}");
}

#[test]
fn values_that_a_template_does_not_use_and_those_it_lacks_are_told_with_the_task() {
    let template = "version = 1\n[templates.x]\nrun = 'echo \"$A\"'\nenv = { A = '{{ with.dir }}' }\n";
    let unused = parse_with(&format!("{template}[tasks.a]\nuse = 'x'\nwith = {{ dir = 'q', dri = 'z' }}\n"), "");
    assert!(unused.plan.is_some(), "it is a warning");
    let said = shown(&unused, &unused.diagnostics);
    assert!(said.contains("warning: task `a` gives `with.dri`, which its template does not use"), "{said}");
    assert!(said.contains("hint: did you mean `dir`?"), "{said}");
    let lacks = check(&format!("{template}[tasks.b]\nuse = 'x'\n[tasks.c]\nuse = 'x'\nwith = {{ dir = 'q' }}\n"));
    assert!(lacks.contains("`with.dir` is not defined for task `b`") && !lacks.contains("task `c`"), "{lacks}");
    assert!(lacks.contains("hint: give it in [tasks.b]: with = { dir = \"…\" }"), "{lacks}");
}

#[test]
fn a_name_whose_source_is_wrong_is_still_a_name() {
    let said = check("version = 1\ntasks.a = { run = \"echo {{ f }}\", foreach.f = \"vars.none\" }\n");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
}
