//! Language servers that are scripts: one that answers, one that hangs, one that dies.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Answers the greeting, and one finding for each version of a file whose text holds `wrong`.
const SERVER: &str = r#"#!/usr/bin/env python3
import json, sys
def read():
    length = 0
    while True:
        line = sys.stdin.buffer.readline()
        if not line: sys.exit(0)
        if line == b"\r\n": break
        if line.lower().startswith(b"content-length:"): length = int(line.split(b":")[1])
    return json.loads(sys.stdin.buffer.read(length))
def write(message):
    body = json.dumps(dict(message, jsonrpc="2.0")).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()
greeted = False
while True:
    m = read()
    method = m.get("method")
    if method == "initialize":
        write({"id": 7, "method": "workspace/configuration", "params": {"items": [{}, {}]}})
        import os
        if os.path.exists("refuse"): write({"id": m["id"], "error": {"code": 1, "message": "no licence"}})
        else: write({"id": m["id"], "result": {"capabilities": {}}})
    elif method == "initialized": greeted = True
    elif method in ("textDocument/didOpen", "textDocument/didChange"):
        assert greeted, "spoken to before the greeting was over"
        d = m["params"]["textDocument"]
        text = d.get("text") or m["params"]["contentChanges"][0]["text"]
        found = [{"range": {"start": {"line": n, "character": 0}, "end": {"line": n, "character": 1}}, "severity": 1, "message": "this is wrong"}
                 for n, line in enumerate(text.split("\n")) if "wrong" in line]
        if "die" in text: sys.exit(1)
        write({"method": "textDocument/publishDiagnostics", "params": {"uri": d["uri"], "version": d["version"] - 1, "diagnostics": []}})
        write({"method": "textDocument/publishDiagnostics", "params": {"uri": d["uri"], "version": d["version"], "diagnostics": found}})
"#;

/// A worktree with a `zls` of its own; `None` where there is no python to run it.
fn scene(server: &str) -> Option<(tempfile::TempDir, Arc<Diagnostics>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let env = vec![("PATH".to_owned(), format!("{}/bin:{path}", folder.path().display()))];
    let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
    if server.contains("python3") && setting.find_program("python3").is_none() {
        swarm_protocol::skipped::say("there is no python3");
        return None;
    }
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    let program = folder.path().join("bin/zls");
    std::fs::write(&program, server).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some((folder, Diagnostics::new(setting)))
}

/// Long enough for any machine; what answers does so at once.
fn ask(diagnostics: &Diagnostics) -> Result<Option<String>, Refused> {
    told(diagnostics, Shown::New)
}

fn told(diagnostics: &Diagnostics, shown: Shown) -> Result<Option<String>, Refused> {
    diagnostics.ask("a.zig", Instant::now() + Duration::from_secs(60), shown)
}

#[test]
fn findings_of_the_newest_version_are_told_and_only_once() {
    let Some((folder, diagnostics)) = scene(SERVER) else { return };
    let write = |text: &str| std::fs::write(folder.path().join("a.zig"), text).unwrap();
    write("fine\nwrong\n");
    assert_eq!(ask(&diagnostics).unwrap().unwrap(), "zls finds\na.zig:2:1: error: this is wrong");
    write("fine\n\nwrong\n");
    assert_eq!(ask(&diagnostics).unwrap().unwrap(), "zls finds nothing new\n[1 known before]");
    let all = told(&diagnostics, Shown::All).unwrap().unwrap();
    assert_eq!(all, "zls finds\na.zig:3:1: error: this is wrong");
    write("fine\n");
    assert!(ask(&diagnostics).unwrap().unwrap().contains("no errors or warnings any more"));
    assert_eq!(ask(&diagnostics).unwrap(), None);
}

#[test]
fn a_server_that_dies_is_told_of_and_nothing_else_happens() {
    let Some((folder, diagnostics)) = scene(SERVER) else { return };
    std::fs::write(folder.path().join("a.zig"), "die").unwrap();
    assert!(ask(&diagnostics).unwrap_err().0.contains("has ended"));
    assert_eq!(diagnostics.after_edit(&["a.zig".to_owned(), "no.xyz".to_owned()]), "");
}

#[test]
fn a_server_that_refuses_to_begin_says_why() {
    let Some((folder, diagnostics)) = scene(SERVER) else { return };
    std::fs::write(folder.path().join("refuse"), "").unwrap();
    std::fs::write(folder.path().join("a.zig"), "x").unwrap();
    assert_eq!(ask(&diagnostics).unwrap_err().0, "zls cannot be used: no licence");
}

#[test]
fn a_server_that_hangs_or_babbles_never_holds_an_edit() {
    for server in
        ["#!/bin/sh\nsleep 100\n", "#!/bin/sh\nwhile echo babble; do :; done\n", "#!/bin/sh\nexec cat /dev/zero\n"]
    {
        let (folder, diagnostics) = scene(server).unwrap();
        std::fs::write(folder.path().join("a.zig"), "x".repeat(1 << 20)).unwrap();
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(diagnostics.after_edit(&["a.zig".to_owned()]), "", "{server}");
        }
        assert!(began.elapsed() < Duration::from_secs(40), "{server}");
    }
}

#[test]
fn addresses_are_plain_letters() {
    let setting = Setting { root: "/a b".into(), ..Setting::default() };
    assert_eq!(address(&setting, "ü.rs"), "file:///a%20b/%C3%BC.rs");
}

/// By hand: `SWARM_LANGUAGE_SERVERS=FOLDER` names a folder with `pyright-langserver` and `typescript-language-server`.
#[test]
fn real_servers_find_real_errors() {
    let Ok(folder_of_servers) = std::env::var("SWARM_LANGUAGE_SERVERS") else {
        swarm_protocol::skipped::say("SWARM_LANGUAGE_SERVERS names no folder");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let env = vec![("PATH".to_owned(), format!("{folder_of_servers}:{path}"))];
    let setting = Setting { root: folder.path().to_owned(), scratch: folder.path().to_owned(), env };
    let diagnostics = Diagnostics::new(setting);
    for (file, wrong, right) in [
        ("a.py", "x: int = 'text'\n", "x: int = 1\n"),
        ("b.ts", "const x: number = 'text';\n", "const x: number = 1;\n"),
    ] {
        let ask = |text: &str| {
            std::fs::write(folder.path().join(file), text).unwrap();
            let began = Instant::now();
            let edit = diagnostics.after_edit(&[file.to_owned()]);
            let (at_once, words) =
                (began.elapsed(), diagnostics.ask(file, Instant::now() + Duration::from_secs(60), Shown::New));
            eprintln!("{file}: an edit took {at_once:?} and said {edit:?}; asked, it said {words:?}");
            assert!(at_once < Duration::from_secs(10));
            edit + &words.unwrap().unwrap_or_default()
        };
        assert!(ask(wrong).contains(&format!("{file}:1:")));
        assert!(ask(right).contains("no errors or warnings any more"));
    }
}
