//! Servers that are shell scripts: good ones, and ones that hang, die and lie.

use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;

use super::*;
use crate::agent::tools::{Refused, Toolbox};

/// A server of the older lifecycle: answers `initialize`, `tools/list` and `tools/call`.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case $line in
    *'"method":"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"method":"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"echo.it","description":"d","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},{"name":"die","inputSchema":{"type":"object"}},{"name":"hang","inputSchema":{"type":"object"}},{"name":"die","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"name":"flood"'*) head -c 20000000 /dev/zero | tr '\\0' x ;;
    *'"name":"babble"'*) echo '{"answer":' ;;
    *'"name":"die"'*) echo 'last words' >&2; exit 1 ;;
    *'"name":"hang"'*) ;;
    *'"method":"tools/call"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"heard %s"}]}}\n' "$id" "$TOKEN" ;;
    *'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id" ;;
  esac
done
"#;

struct Scene {
    _folder: tempfile::TempDir,
    setting: Setting,
    background: Arc<Background>,
    /// Servers that went.
    lacks: Arc<Mutex<Vec<String>>>,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
    Scene { _folder: folder, setting, background: Arc::new(Background::start().unwrap()), lacks: Arc::default() }
}

impl Scene {
    fn connect(&self, servers: &[ToolServer]) -> (Toolbox, Vec<String>) {
        let remote: Remote = Arc::new(|server, tool, _| Ok(format!("{server} {tool} far away")));
        let lacks = self.lacks.clone();
        let lacks: Lacks = Arc::new(move |text| lacks.lock().unwrap().push(text));
        let given = connect(&self.setting, servers, &self.background, (&remote, &lacks));
        let mut toolbox = Toolbox::default();
        toolbox.add(given.tools);
        (toolbox, given.problems)
    }
}

fn program(name: &str, script: &str, timeout_ms: u64) -> ToolServer {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let reach = Reach::Program { argv, env: vec![("TOKEN".to_owned(), "t1".to_owned())] };
    ToolServer { name: name.to_owned(), reach, tools: None, timeout_ms }
}

fn call(toolbox: &Toolbox, tool: &str) -> ToolResult {
    toolbox.run(tool, json!({"text": "x"}).as_object().unwrap())
}

#[test]
fn tools_of_a_program_are_called_by_clean_names() {
    let scene = scene();
    let (toolbox, problems) = scene.connect(&[program("my docs", SERVER, 30_000)]);
    assert_eq!(toolbox.names(), ["mcp__my_docs__echo_it", "mcp__my_docs__die", "mcp__my_docs__hang"]);
    assert_eq!(problems, ["tool `die` of server `my docs`: it is offered twice"]);
    assert_eq!(call(&toolbox, "mcp__my_docs__echo_it").unwrap(), "heard t1");
    assert_eq!(toolbox.specs()[1].schema, json!({"type": "object", "properties": {}}));
}

#[test]
fn a_tool_whose_schema_is_none_is_there_and_its_schema_told_in_words() {
    let scene = scene();
    let told = "tool `bad` of server `a`: its schema is told in words: `properties` is no object";
    for (wrong, new, told, said) in [
        (r#""inputSchema":"text""#, "", None, ""),
        (r#""inputSchema":["a"]"#, r#""resultType":"complete","#, None, ""),
        (r#""title":"no schema""#, "", None, ""),
        (
            r#""inputSchema":{"properties":7}"#,
            "",
            Some(told),
            r#"Its arguments, as its server says them: {"properties":7}"#,
        ),
    ] {
        let listed = format!(r#"{new}"tools":[{{"name":"bad",{wrong}}},{{"#);
        let server = SERVER.replace(r#""tools":[{"#, &listed);
        let (toolbox, problems) = scene.connect(&[program("a", &server, 30_000)]);
        assert_eq!(toolbox.names(), ["mcp__a__bad", "mcp__a__echo_it", "mcp__a__die", "mcp__a__hang"], "{problems:?}");
        assert_eq!(problems.iter().find(|problem| problem.contains("schema")).map(String::as_str), told);
        let spec = &toolbox.specs()[0];
        assert_eq!((&spec.schema, spec.description.as_str()), (&json!({"type": "object", "properties": {}}), said));
        assert_eq!(call(&toolbox, "mcp__a__echo_it").unwrap(), "heard t1");
    }
}

/// [`SERVER`], silent about what it does not know.
fn silent() -> String {
    let told = SERVER.lines().filter(|line| !line.contains("no such method"));
    told.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_server_that_is_silent_about_what_it_does_not_know_is_greeted_soon() {
    let scene = scene();
    let began = Instant::now();
    let (toolbox, problems) = scene.connect(&[program("short", &silent(), 3_000), program("long", &silent(), 60_000)]);
    assert!(began.elapsed().as_secs() < 9, "{:?}", began.elapsed());
    assert_eq!(toolbox.names().len(), 6, "{problems:?}");
    assert_eq!(call(&toolbox, "mcp__short__echo_it").unwrap(), "heard t1");
    assert_eq!(call(&toolbox, "mcp__long__echo_it").unwrap(), "heard t1");
}

#[test]
fn a_server_that_takes_long_to_start_is_not_started_anew() {
    let scene = scene();
    let slow = |server: &str| format!("echo >> started\nsleep 1.5\n{server}");
    let starts = || std::fs::read(scene.setting.root.join("started")).unwrap().len();
    let (toolbox, problems) = scene.connect(&[program("a", &slow(SERVER), 4_000)]);
    assert_eq!(call(&toolbox, "mcp__a__echo_it").unwrap(), "heard t1", "{problems:?}");
    assert_eq!(starts(), 1);
    // One that knows no handshake is asked anew, and may take its time then.
    let discovered = r#"*'"method":"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}\n' "$id" ;;"#;
    let newest = SERVER.replace(r#""method":"initialize""#, r#""method":"none""#);
    let newest = newest.replace("case $line in", &format!("case $line in\n{discovered}"));
    let newest = newest.replace(
        r#""result":{"tools""#,
        r#""result":{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools""#,
    );
    let (toolbox, problems) = scene.connect(&[program("b", &slow(&newest), 4_000)]);
    assert_eq!(call(&toolbox, "mcp__b__echo_it").unwrap(), "heard t1", "{problems:?}");
    assert_eq!(starts(), 3);
}

#[test]
fn what_an_answer_holds_that_is_not_known_is_named_and_the_rest_shown() {
    let scene = scene();
    let server = SERVER.replace(r#""content":[{"#, r#""content":[{"type":"future","z":1},{"#);
    let (toolbox, _) = scene.connect(&[program("a", &server, 30_000)]);
    assert_eq!(call(&toolbox, "mcp__a__echo_it").unwrap(), "[future, not shown]\nheard t1");
    assert_eq!(*scene.lacks.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn a_list_without_an_end_leaves_room_for_what_others_say() {
    let scene = scene();
    let again = SERVER.replace(r#""result":{"tools":["#, r#""result":{"nextCursor":"same","tools":["#);
    let (toolbox, problems) = scene.connect(&[program("a", &again, 30_000)]);
    assert_eq!(toolbox.names(), ["mcp__a__echo_it", "mcp__a__die", "mcp__a__hang"]);
    let round = "server `a` does not list its tools to an end: its list goes round in circles: behind a page comes one that came \
                 before";
    let told = |tool: &str, times: u32| format!("tool `{tool}` of server `a`: it is offered {times} times");
    let twice = |tool: &str| format!("tool `{tool}` of server `a`: it is offered twice");
    assert_eq!(problems, [round.to_owned(), told("die", 4), twice("echo.it"), twice("hang")]);
    let tool = |n: usize| OfferedTool {
        name: format!("t{n}"),
        description: String::new(),
        schema: json!({"properties": 7}),
        reads_only: true,
    };
    let reach = Reach::Coordinator { offered: (0..PROBLEMS_MAX + 7).map(tool).collect() };
    let (_, problems) = scene.connect(&[ToolServer { reach, tools: None, name: "odd".to_owned(), timeout_ms: 1000 }]);
    assert_eq!(problems.len(), PROBLEMS_MAX + 1);
    assert_eq!(problems[PROBLEMS_MAX], "server `odd`: as much is to be said of 7 more of its tools");
}

#[test]
fn a_server_that_changes_its_tools_is_told_of_once() {
    let scene = scene();
    let changed = r#"printf '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n';"#;
    let server = SERVER.replace(r#"*'"method":"tools/call"'*)"#, &format!(r#"*'"method":"tools/call"'*) {changed}"#));
    let (toolbox, problems) = scene.connect(&[program("a", &server, 30_000)]);
    assert_eq!(problems, ["tool `die` of server `a`: it is offered twice"]);
    (0..3).for_each(|_| assert_eq!(call(&toolbox, "mcp__a__echo_it").unwrap(), "heard t1"));
    let told =
        "server `a` changes its tools while it runs: what it offers since then is not there before the next attempt";
    assert_eq!(*scene.lacks.lock().unwrap(), [told]);
}

#[test]
fn a_server_that_logs_to_its_standard_output_is_used_all_the_same() {
    let scene = scene();
    let logs = r#"printf '[]\n\n[INFO] asked\n{"level":"info"}\n'"#;
    let server = SERVER.replace("while read -r line; do", &format!("while read -r line; do {logs};"));
    let (toolbox, problems) = scene.connect(&[program("a", &server, 30_000)]);
    assert_eq!(problems[0], "server `a` writes between its messages what is none, and passed over: []");
    (0..12).for_each(|_| assert_eq!(call(&toolbox, "mcp__a__echo_it").unwrap(), "heard t1"));
}

#[test]
fn a_server_that_dies_or_hangs_in_a_call_costs_that_call() {
    let scene = scene();
    let (toolbox, _) = scene.connect(&[program("a", SERVER, 30_000), program("b", SERVER, 1_500)]);
    let began = Instant::now();
    assert_eq!(call(&toolbox, "mcp__b__hang"), Err(Refused::new("server `b` did not answer within 1 s")));
    assert_eq!(call(&toolbox, "mcp__b__echo_it").unwrap(), "heard t1", "it goes on");
    let died = call(&toolbox, "mcp__a__die").unwrap_err().0;
    assert!(died.starts_with("server `a` failed") && died.ends_with("last words"), "{died}");
    assert!(call(&toolbox, "mcp__a__echo_it").is_err());
    assert_eq!(*scene.lacks.lock().unwrap(), ["server `b` did not answer within 1 s".to_owned(), died], "each once");
    assert!(began.elapsed().as_secs() < 25, "nobody waits for the dead");
}

#[test]
fn a_server_that_floods_or_babbles_is_refused_at_once() {
    let scene = scene();
    let began = Instant::now();
    let flood = |answer: &str| format!("read -r line; {answer}; sleep 60");
    let servers = [
        program("large", &flood("head -c 20000000 /dev/zero | tr '\\0' x"), 60_000),
        program("wrong", &flood("echo '{\"answer\":'"), 60_000),
        program("random", &flood("seq 1000"), 60_000),
    ];
    let (toolbox, problems) = scene.connect(&servers);
    assert!(toolbox.names().is_empty());
    let told = |server: &str| problems.iter().find(|problem| problem.contains(server)).unwrap().clone();
    assert_eq!(told("large"), "server `large` cannot be used: it sent a message of more than 8 MiB");
    let no_message = |shown: &str| format!("it wrote what is no message of the protocol: {shown}");
    assert_eq!(told("wrong"), format!("server `wrong` cannot be used: {}", no_message("{\"answer\":")));
    assert_eq!(told("random"), format!("server `random` cannot be used: {}", no_message("21")));
    for tool in ["flood", "babble"] {
        let good = SERVER.replace(r#""name":"hang""#, &format!(r#""name":"{tool}""#));
        let (toolbox, _) = scene.connect(&[program("a", &good, 60_000)]);
        let said = call(&toolbox, &format!("mcp__a__{tool}")).unwrap_err().0;
        assert!(said.contains("more than 8 MiB") || said.contains("no message of the protocol"), "{said}");
    }
    assert!(began.elapsed().as_secs() < 50, "nobody waits for their time limit");
}

#[test]
fn servers_that_cannot_be_used_are_told_of_and_left_out() {
    let scene = scene();
    let missing = ToolServer {
        reach: Reach::Program { argv: vec!["no-such-program".to_owned()], env: vec![] },
        ..program("missing", "", 1000)
    };
    let servers = [
        missing,
        program("mute", "sleep 60", 1000),
        program("dead", "echo 'no licence' >&2; exit 1", 30_000),
        program("noisy", "while echo not json; do :; done", 1000),
        program("good", SERVER, 30_000),
    ];
    let (toolbox, problems) = scene.connect(&servers);
    assert_eq!(toolbox.names().len(), 3, "{problems:?}");
    let told = |server: &str| problems.iter().find(|problem| problem.contains(server)).unwrap().clone();
    assert_eq!(told("missing"), "server `missing` cannot be used: there is no program `no-such-program` in the cage");
    assert_eq!(told("mute"), "server `mute` cannot be used: it did not answer within 1 s");
    assert!(told("dead").ends_with("it said: no licence"), "{}", told("dead"));
    assert!(told("noisy").contains("cannot be used"));
}

#[test]
fn only_the_tools_that_are_named_are_shown_and_far_servers_are_asked_through_the_coordinator() {
    let scene = scene();
    let tool = |name: &str| OfferedTool {
        name: name.to_owned(),
        description: String::new(),
        schema: json!({}),
        reads_only: true,
    };
    let reach = Reach::Coordinator { offered: vec![tool("find"), tool("find_all"), tool("write")] };
    let tools = Some(vec!["find*".to_owned(), "other".to_owned()]);
    let far = ToolServer { name: "far".to_owned(), reach, tools, timeout_ms: 1000 };
    let (toolbox, problems) = scene.connect(&[far]);
    assert_eq!(toolbox.names(), ["mcp__far__find", "mcp__far__find_all"]);
    assert_eq!(problems, ["server `far` offers no tool `other`"]);
    assert_eq!(call(&toolbox, "mcp__far__find").unwrap(), "far find far away");
    let reach = Reach::Coordinator { offered: (0..TOOLS_MAX + 7).map(|n| tool(&format!("t{n}"))).collect() };
    let (few, problems) =
        scene.connect(&[ToolServer { reach, tools: None, name: "many".to_owned(), timeout_ms: 1000 }]);
    let why = "server `many` offers too many tools: the first 200 are there, 7 are left out; name those that are needed in its `tools`";
    assert_eq!((few.names().len(), problems), (200, vec![why.to_owned()]));
    assert_eq!(toolbox.effect("mcp__far__find"), Effect::Reads);
}

/// By hand: `SWARM_TOOL_SERVER="node …/dist/index.js stdio"` names a real server that has a tool `echo`, such as the
/// protocol's own `server-everything`.
#[test]
fn a_real_server_is_spoken_with() {
    let Ok(command) = std::env::var("SWARM_TOOL_SERVER") else {
        swarm_protocol::skipped::say("SWARM_TOOL_SERVER names no server");
        return;
    };
    let mut scene = scene();
    scene.setting.env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
    let argv = command.split_whitespace().map(str::to_owned).collect();
    let server = ToolServer {
        name: "real".to_owned(),
        reach: Reach::Program { argv, env: vec![] },
        tools: None,
        timeout_ms: 60_000,
    };
    let (toolbox, problems) = scene.connect(&[server]);
    eprintln!("{:?}\n{problems:?}", toolbox.names());
    let echo = toolbox.run("mcp__real__echo", json!({"message": "hello"}).as_object().unwrap());
    assert!(echo.is_ok_and(|text| text.contains("hello")));
}
