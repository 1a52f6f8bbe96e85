//! What a plan's graph is, story by story.

use std::sync::Arc;

use serde_json::{Value, json};
use swarm_plans::{
    ExpandError, InstanceIx, MergeSlot, Need, RenderContext, RenderError, Rendered, TaskGraph, TaskIx, parse,
};

fn graph(text: &str) -> TaskGraph {
    let text = format!("version = 1\n{text}");
    let parsed = parse("plan.toml", &text, &[], &mut |_| Err("none".to_owned()));
    let plan = parsed.plan.unwrap_or_else(|| panic!("{:#?}", parsed.diagnostics));
    TaskGraph::expand(plan).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"))
}

fn task(graph: &TaskGraph, name: &str) -> TaskIx {
    graph.plan().task_by_name(name).expect("the task exists")
}

fn instance(graph: &TaskGraph, id: &str) -> InstanceIx {
    graph.instance_by_id(id).unwrap_or_else(|| panic!("no {id} in {:?}", ids(graph)))
}

fn ids(graph: &TaskGraph) -> Vec<&str> {
    graph.instances().iter().map(|instance| instance.id.0.as_ref()).collect()
}

fn needs(graph: &TaskGraph, id: &str) -> Vec<String> {
    let ix = instance(graph, id);
    let needs = graph.needs_of(graph.instance(ix).task, Some(ix));
    needs.iter().map(|need| shown(graph, need)).collect()
}

fn shown(graph: &TaskGraph, need: &Need) -> String {
    match need {
        Need::Task(task) => graph.plan().task(*task).name.0.clone(),
        Need::Instance(ix) => graph.instance(*ix).id.to_string(),
    }
}

fn order(graph: &TaskGraph) -> Vec<String> {
    let slot = |slot: &MergeSlot| match slot {
        MergeSlot::Instance(ix) => graph.instance(*ix).id.to_string(),
        MergeSlot::Awaiting(task) => format!("{}…", graph.plan().task(*task).name),
    };
    graph.merge_slots().iter().map(slot).collect()
}

fn try_render(graph: &TaskGraph, id: &str, needs: &Value) -> Result<Rendered, RenderError> {
    let env = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
    let cx = RenderContext { run_name: "r", run_id: "r-1", base: "b", target: Some("t"), needs, env: &env, seed: None };
    graph.render(instance(graph, id), &cx)
}

fn render(graph: &TaskGraph, id: &str) -> Rendered {
    try_render(graph, id, &json!({})).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_matrix_and_a_list_multiply_in_plan_order() {
    let graph = graph("[tasks.t]\nrun = 'x'\nmatrix = { os = ['b', 'a'] }\nforeach.n = [1, 2]\n");
    assert_eq!(ids(&graph), ["t[os=b,n=1]", "t[os=b,n=2]", "t[os=a,n=1]", "t[os=a,n=2]"]);
}

#[test]
fn ids_stay_unique_when_values_look_alike() {
    let graph = graph("[tasks.t]\nrun = 'x'\nforeach.v = ['1', 1, { name = '1' }, { x = 1 }, [1]]\n");
    assert_eq!(ids(&graph), ["t[v=1]", "t[v=1#2]", "t[v=1#3]", "t[v=3]", "t[v=4]"]);
}

#[test]
fn batches_are_named_after_their_ends() {
    let graph = graph(
        "[tasks.t]\nrun = 'x'\nforeach.f = ['a', 'b', 'c']\nforeach-batch = 2\nenv = { F = \"{{ f | join(' ') }}\" }\n",
    );
    assert_eq!(ids(&graph), ["t[f=a..b]", "t[f=c]"]);
    assert_eq!(render(&graph, "t[f=a..b]").env[0].1, "a b");
}

#[test]
fn what_waits_for_one_star_is_not_waited_for_by_another() {
    let text = |name: &str, needs: &str| format!("[tasks.{name}]\nrun = 'x'\nneeds = [{needs}]\n");
    let plan = [("a", "'*'"), ("b", ""), ("behind-a", "'a'"), ("c", "'*'"), ("behind-c", "'c'"), ("last", "'*', 'c'")];
    let graph = graph(&plan.map(|(name, needs)| text(name, needs)).concat());
    assert_eq!(needs(&graph, "a"), ["b"]);
    assert_eq!(needs(&graph, "c"), ["b"]);
    assert_eq!(needs(&graph, "last"), ["b", "c", "behind-c"]);
}

#[test]
fn needs_reach_tasks_instances_and_everything() {
    let graph = graph(
        r#"
        [tasks.build]
        run = "x"
        matrix = { os = ["a", "b"], profile = ["dev", "release"] }
        [tasks.test]
        run = "x"
        matrix = { os = ["a", "b"] }
        needs = ["build[os={{ matrix.os }},profile=release]"]
        [tasks.docs]
        run = "x"
        needs = ["build[profile=dev]"]
        [tasks.last]
        run = "x"
        needs = ["*"]
        [tasks.after]
        run = "x"
        needs = ["last"]
        "#,
    );
    assert_eq!(needs(&graph, "test[os=b]"), ["build[os=b,profile=release]"]);
    assert_eq!(needs(&graph, "docs"), ["build[os=a,profile=dev]", "build[os=b,profile=dev]"]);
    assert_eq!(needs(&graph, "last"), ["build", "test", "docs"]);
    assert_eq!(needs(&graph, "after"), ["last"]);
}

#[test]
fn an_instance_that_needs_itself_is_a_cycle() {
    let text = "version = 1\n[tasks.s]\nrun = 'x'\nmatrix = { i = [1, 2] }\nneeds = ['s[i=1]']\n";
    let plan = parse("p.toml", text, &[], &mut |_| Err(String::new())).plan.expect("tasks alone have no cycle");
    let diagnostics = TaskGraph::expand(plan).expect_err("instances have");
    assert_eq!(diagnostics[0].message, "tasks wait for each other: s[i=1] -> s[i=1]");
}

#[test]
fn the_graph_grows_by_outputs_and_keeps_its_order() {
    let mut graph = graph(
        r#"
        [tasks.work]
        run = "x"
        needs = ["survey"]
        foreach.c = "needs.survey.outputs.cs"
        [tasks.one]
        run = "x"
        needs = ["work[c=b]"]
        [tasks.survey]
        run = "x"
        outputs.cs = { json = "cs.json" }
        [tasks.free]
        run = "x"
        "#,
    );
    assert_eq!(order(&graph), ["survey", "work…", "one", "free"]);
    assert_eq!(needs(&graph, "one"), ["work"]);
    let work = task(&graph, "work");
    assert_eq!(graph.needs_of(work, None), [Need::Task(task(&graph, "survey"))]);
    assert_eq!(graph.pending().len(), 1);
    let added = graph.supply(work, vec![json!({"name": "a"}), json!({"name": "b"})]).expect("it grows");
    assert_eq!(graph.task_instances(work), added);
    assert_eq!(needs(&graph, "work[c=b]"), ["survey"]);
    assert_eq!(needs(&graph, "one"), ["work[c=b]"]);
    assert_eq!(order(&graph), ["survey", "work[c=a]", "work[c=b]", "one", "free"]);
    assert!(graph.pending().is_empty());
    assert_eq!(graph.supply(work, vec![]), Err(ExpandError::NotPending("work".to_owned())));
}

#[test]
fn a_refused_growth_leaves_the_graph_as_it_was() {
    let text = "[tasks.a]\nrun = 'x'\nforeach.i = { lines = 'seq 3' }\nforeach-max = 3\n[tasks.b]\nrun = 'x'\nneeds = ['a[i=2]']\n";
    let mut graph = graph(text);
    let a = task(&graph, "a");
    let refused = graph.supply(a, vec![json!("1")]);
    assert_eq!(refused, Err(ExpandError::UnknownInstance { needing: "b".to_owned(), needed: "a[i=2]".to_owned() }));
    assert!(graph.is_pending(a));
    assert_eq!(ids(&graph), ["b"]);
    let too_many = graph.supply(a, (0..4).map(Value::from).collect());
    assert_eq!(too_many, Err(ExpandError::TooManyItems { task: "a".to_owned(), items: 4, max: 3 }));
    graph.supply(a, vec![json!("1"), json!("2")]).expect("now it fits");
    assert_eq!(needs(&graph, "b"), ["a[i=2]"]);
}

#[test]
fn no_items_give_no_instances() {
    let mut graph = graph("[tasks.a]\nrun = 'x'\nforeach.f = { glob = '*.none' }\n");
    assert_eq!(graph.supply(TaskIx(0), vec![]), Ok(vec![]));
    assert_eq!(order(&graph), Vec::<String>::new());
}

#[test]
fn tasks_may_cross_as_long_as_their_instances_do_not() {
    let graph = graph(
        "[tasks.a]\nrun = 'x'\nmatrix = { i = [1, 2] }\nneeds = ['b[k=x]']\n[tasks.b]\nrun = 'x'\nmatrix = { k = ['x'] }\n[tasks.c]\nrun = 'x'\nneeds = ['a[i=2]']\n",
    );
    assert_eq!(order(&graph), ["b[k=x]", "a[i=1]", "a[i=2]", "c"]);
}

#[test]
fn a_rendered_instance_has_everything_to_start_with() {
    let graph = graph(
        r#"
        seed = 7
        [vars]
        word = "hi"
        [tasks.t]
        run = "echo {{ vars.word }} {{ matrix.os }} {{ env.HOME }} {{ run.target }} ${#x}"
        matrix = { os = ["linux"], node-version = [18] }
        env = { B = "{{ seed }}", A = "x" }
        writes = ["./out/{{ matrix.os }}/"]
        check = ["true", { argv = ["test", "-f", "{{ matrix.os }}"], expect-fail-before = true, timeout = "1s" }]
        "#,
    );
    let rendered = render(&graph, "t[os=linux,node-version=18]");
    assert_eq!(rendered.argv, ["sh", "-eu", "-c", "echo hi linux /home/ada t ${#x}"]);
    let env: Vec<String> = rendered.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        env,
        [
            "B=7",
            "A=x",
            "SWARM_TASK=t[os=linux,node-version=18]",
            "SWARM_SEED=7",
            "SWARM_MATRIX_OS=linux",
            "SWARM_MATRIX_NODE_VERSION=18"
        ]
    );
    assert_eq!(rendered.writes, Some(vec!["out/linux/**".to_owned()]));
    assert_eq!(rendered.checks[1].command.argv, ["test", "-f", "linux"]);
}

#[test]
fn what_workers_gave_cannot_widen_what_may_be_written() {
    let text = "[tasks.s]\nrun = 'x'\n[tasks.t]\nrun = 'x'\nneeds = ['s']\nwrites = ['{{ needs.s.outputs.dir }}/**']\n";
    let graph = graph(text);
    let writes = |dir: &str| {
        try_render(&graph, "t", &json!({"s": {"outputs": {"dir": dir}}})).map(|r| r.writes.unwrap_or_default())
    };
    assert_eq!(writes("src"), Ok(vec!["src/**".to_owned()]));
    assert_eq!(writes("{a,b}*"), Ok(vec!["\\{a,b\\}\\*/**".to_owned()]));
    for dir in ["..", "/etc", "", ".", "./", "a//b", "a/../..", ".git"] {
        assert!(matches!(writes(dir), Err(RenderError::Writes { .. })), "{dir:?}: {:?}", writes(dir));
    }
}

#[test]
fn names_of_files_enter_a_script_only_as_plain_words() {
    let mut graph = graph(
        "[tasks.t]\nrun = 'cat {{ f }}'\nforeach.f = { glob = '**' }\n[tasks.u]\nargv = ['cat', '{{ f }}']\nforeach.f = { glob = '**' }\n",
    );
    for name in ["t", "u"] {
        graph.supply(task(&graph, name), vec![json!("a/b-c.txt"), json!("$(reboot)")]).expect("two files");
    }
    assert_eq!(render(&graph, "t[f=a/b-c.txt]").argv[3], "cat a/b-c.txt");
    let odd = graph.instance(graph.task_instances(task(&graph, "t"))[1]).id.0.clone();
    assert!(
        matches!(try_render(&graph, &odd, &json!({})), Err(RenderError::Shell { variable, .. }) if variable == "SWARM_FOREACH_F")
    );
    let odd = graph.instance(graph.task_instances(task(&graph, "u"))[1]).id.0.clone();
    assert_eq!(render(&graph, &odd).argv, ["cat", "$(reboot)"]);
}

#[test]
fn conditions_see_results() {
    let graph = graph(
        "[tasks.a]\nrun = 'x'\n[tasks.b]\nrun = 'x'\nneeds = ['a']\nif = \"needs.a.result == 'succeeded'\"\n[tasks.c]\nrun = 'x'\nif = false\n",
    );
    let holds = |id: &str, result: &str| {
        let needs = json!({"a": {"result": result}});
        let cx = RenderContext {
            run_name: "r",
            run_id: "r",
            base: "b",
            target: None,
            needs: &needs,
            env: &|_| None,
            seed: None,
        };
        graph.condition(instance(&graph, id), &cx)
    };
    assert_eq!(holds("b", "succeeded"), Ok(true));
    assert_eq!(holds("b", "failed"), Ok(false));
    assert_eq!(holds("a", "failed"), Ok(true));
    assert_eq!(holds("c", "failed"), Ok(false));
}

#[test]
fn the_target_is_named_after_the_run() {
    let target = |text: &str| {
        let text = format!("version = 1\n[tasks.a]\nrun = 'x'\n{text}");
        let plan: Arc<_> = parse("p.toml", &text, &[], &mut |_| Err(String::new())).plan.expect("it is valid");
        let cx = RenderContext {
            run_name: "p",
            run_id: "p-1",
            base: "b",
            target: None,
            needs: &json!({}),
            env: &|_| None,
            seed: None,
        };
        plan.target(&cx).map_err(|error| error.to_string())
    };
    assert_eq!(target(""), Ok(Some("swarm/p".to_owned())));
    assert_eq!(target("[merge]\ninto = 'x/{{ run.id }}'\n"), Ok(Some("x/p-1".to_owned())));
    assert_eq!(target("[merge]\nmode = 'none'\n"), Ok(None));
    assert!(target("[merge]\ninto = '{{ run.base }}..x'\n").is_err());
}
