//! Tasks whose policy lists hosts: what they reach through the proxy, what they are told when they may not, and what a person
//! is told afterwards. The servers stand on this machine's loopback, which the plans name as `localhost`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use swarm_tests::{Ended, Repository, Swarm};

/// Sends the request `$1` for the host `$2` to the proxy with the task's own token (or that of `$3`, a proxy's URL) and prints
/// the answer. Needs bash and coreutils only.
const ASK: &str = r#"
ask() {
  url=${3:-$http_proxy}
  login=$(printf %s "${url#http://}" | sed 's/@.*//' | base64 -w 0)
  exec 3<>/dev/tcp/127.0.0.1/${http_proxy##*:}
  printf "$1 HTTP/1.1\r\nHost: $2\r\nProxy-Authorization: Basic $login\r\nConnection: close\r\n\r\n" >&3
  cat <&3
  exec 3>&-
}
"#;

/// An HTTP server that gives files of a folder, or says what it was asked for.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(files: &Path) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (notes, files) = (Arc::clone(&asked), files.to_owned());
        // Ends with the test's process: nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, files) = (Arc::clone(&notes), files.clone());
                std::thread::spawn(move || drop(answer(stream, &files, &notes)));
            }
        });
        Server { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

fn answer(mut stream: TcpStream, files: &Path, notes: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    notes.lock().expect("unpoisoned").push(first.clone());
    let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    let path = path.split('?').next().unwrap_or_default();
    let (status, body) = match std::fs::read(files.join(path)) {
        Ok(content) => ("200 OK", content),
        Err(_) if path.contains('.') => ("404 Not Found", Vec::new()),
        Err(_) => ("200 OK", format!("served {first}\n").into_bytes()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// Runs a bash script as the only task under a policy that lists one `host` of this machine, as a person allows.
fn task(repository: &Repository, host: &str, script: &str) -> Swarm {
    let plan = format!(
        "[sandbox.default]\nnetwork = ['{host}']\n[tasks.a]\nshell = ['bash', '-eu', '-c']\nrun = '''{ASK}\n{script}\n'''\n"
    );
    Swarm::run(repository, "it", &plan).allow(&format!("network={host}"))
}

/// What the task printed, and the notes of its attempt.
fn told(repository: &Repository, ended: &Ended) -> (String, Vec<String>) {
    let logs = Swarm::new(repository, &["logs", "a", "--raw"]).end();
    let finished = ended.events_of("attempt-finished");
    let notes = finished.iter().flat_map(|event| event["notes"].as_array().cloned().unwrap_or_default());
    (logs.out, notes.filter_map(|note| note.as_str().map(str::to_owned)).collect())
}

/// What has to hold in each tier.
fn reaches_the_listed_host_only(repository: &Repository, server: &Server, swarm: Swarm) {
    let ended = swarm.exits(0);
    let (said, notes) = told(repository, &ended);
    let port = server.port;
    assert!(said.contains("served GET /x HTTP/1.1"), "{said}");
    assert!(
        said.contains("HTTP/1.1 403 Forbidden") && said.contains(", \"evil.example:443\"]  # in [sandbox.default]"),
        "{said}"
    );
    assert!(said.contains(&format!("localhost:{} is refused", port ^ 1)), "{said}");
    assert!(said.contains("direct 1") && said.contains("resolved 2"), "only the proxy is there: {said}");
    assert_eq!(server.asked(), ["GET /x HTTP/1.1"]);
    let line = "network: evil.example:443 was refused: no entry of `network` names it; \
                \"evil.example:443\" among the `network` of [sandbox.default] would allow it";
    assert!(notes.iter().any(|note| note == line), "{notes:?}");
}

fn script(port: u16) -> String {
    let other = port ^ 1;
    format!(
        "ask 'GET http://localhost:{port}/x' localhost:{port}\nask 'CONNECT evil.example:443' evil.example:443\n\
         ask 'CONNECT localhost:{other}' localhost:{other}\n\
         (: <>/dev/tcp/127.0.0.1/{port}) 2>/dev/null || echo direct $?\ngetent hosts example.org || echo resolved $?"
    )
}

#[test]
fn a_task_reaches_the_hosts_that_its_policy_lists_and_no_others() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let server = Server::start(Path::new("/nonexistent"));
    let swarm = task(&repository, &format!("localhost:{}", server.port), &script(server.port));
    reaches_the_listed_host_only(&repository, &server, swarm);
}

#[test]
fn a_machine_without_namespaces_reaches_the_same() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let server = Server::start(Path::new("/nonexistent"));
    let swarm = task(&repository, &format!("localhost:{}", server.port), &script(server.port));
    let Some(swarm) = swarm.without_namespaces() else { return };
    let started = swarm.start();
    let ended = started.end();
    assert_eq!(ended.code, 0, "{ended}");
    let tier = &ended.events_of("run-started")[0]["enforcement"]["tier"];
    assert_eq!(tier, "landlock", "{ended}");
    let (said, notes) = told(&repository, &ended);
    assert!(said.contains("served GET /x HTTP/1.1") && said.contains("HTTP/1.1 403 Forbidden"), "{said}");
    let open = "egress: the proxy's port can be connected to on every address";
    assert!(notes.iter().any(|note| note.contains(open)), "{notes:?}");
    assert_eq!(server.asked(), ["GET /x HTTP/1.1"]);
    let started = &ended.events_of("run-started")[0]["notes"].to_string();
    assert!(started.contains(&format!("not enforced for sandbox.default: {open}")), "{started}");
    let file = repository.path().join(".git/swarm/runs/it-1/enforcement.json");
    let held: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON");
    assert!(held["policies"]["default"]["not_enforced"].to_string().contains(open), "{held}");
    assert!(!held["policies"]["default"]["enforced"].to_string().contains("no-sockets"), "{held}");
    let plan = repository.beside("it.toml").display().to_string();
    let weak = |words: &[&str]| Swarm::new(&repository, words).without_namespaces().expect("it worked above").end();
    for ended in [weak(&["explain", "--task", "a", &plan]), weak(&["doctor"])] {
        assert!(ended.out.contains(open), "{ended}");
    }
    let text = std::fs::read_to_string(&plan).expect("it was run");
    std::fs::write(&plan, text.replace("network =", "require = ['egress']\nnetwork =")).expect("space");
    let word = format!("network=localhost:{}", server.port);
    let ended = weak(&["run", &plan, "--allow", &word]);
    assert!(ended.code == 3 && ended.err.contains("requires `egress`"), "{ended}");
    Swarm::new(&repository, &["run", &plan, "--allow", &word, "--into", "strong"]).exits(0);
}

#[test]
fn the_token_of_one_task_is_worth_nothing_to_another() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let server = Server::start(Path::new("/nonexistent"));
    let plan = format!(
        "[sandbox.default]\nnetwork = ['localhost:{}']\n[defaults]\nshell = ['bash', '-eu', '-c']\n\
         [tasks.first]\nrun = 'printf %s \"$http_proxy\" > $SWARM_ARTIFACTS/url'\noutputs.url = {{ text = 'url' }}\n\
         [tasks.a]\nneeds = ['first']\nenv = {{ THEIRS = '{{{{ needs.first.outputs.url }}}}' }}\nrun = '''{ASK}\n\
         ask 'CONNECT localhost:{}' localhost:{} \"$THEIRS\"\n'''\n",
        server.port, server.port, server.port
    );
    let ended = Swarm::run(&repository, "it", &plan).allow(&format!("network=localhost:{}", server.port)).exits(0);
    let (said, notes) = told(&repository, &ended);
    assert!(said.contains("HTTP/1.1 407 "), "{said}");
    assert!(notes.iter().any(|note| note.ends_with("it carried no or a wrong token")), "{notes:?}");
}

#[test]
fn curl_and_git_find_the_proxy_by_themselves() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let folder = repository.beside("served");
    std::fs::create_dir_all(&folder).expect("space");
    let clone = ["clone", "-q", "--bare", ".", &folder.join("mine.git").display().to_string()].map(str::to_owned);
    let words: Vec<&str> = clone.iter().map(String::as_str).collect();
    let bare = folder.join("mine.git").display().to_string();
    let made = repository.run_git(&words).and_then(|_| repository.run_git(&["-C", &bare, "update-server-info"]));
    if made.is_none() || !has("curl") {
        swarm_protocol::skipped::say("no git or no curl on this machine");
        return;
    }
    let server = Server::start(&folder);
    let port = server.port;
    let script = format!(
        "curl -sS http://localhost:{port}/hello\ngit clone -q http://localhost:{port}/mine.git got\ncat got/a.txt\nrm -rf got\n\
         curl -sS http://evil.example/ | grep -q 'is refused'"
    );
    let ended = task(&repository, &format!("localhost:{port}"), &script).exits(0);
    let (said, _) = told(&repository, &ended);
    assert!(said.contains("served GET /hello HTTP/1.1") && said.ends_with("a\n"), "{said}");
}

#[test]
fn a_tunnel_carries_tls_with_the_host_it_leads_to() {
    let repository = Repository::with(&[("a.txt", "a\n")]);
    let Some(server) = TlsServer::start(&repository.beside("tls")).filter(|_| has("curl")) else {
        swarm_protocol::skipped::say("no openssl or no curl on this machine");
        return;
    };
    let port = server.port;
    let script = format!(
        "curl -sSk https://localhost:{port}/ | grep -q -i 'cipher' && echo through\n\
         curl -sSk --connect-to other.test:{port}:localhost:{port} https://other.test:{port}/ || echo closed"
    );
    let ended = task(&repository, &format!("localhost:{port}"), &script).exits(0);
    let (said, notes) = told(&repository, &ended);
    assert!(said.contains("through\n") && said.contains("closed\n"), "{said}");
    assert!(notes.iter().any(|note| note.contains("names another server: `other.test`")), "{notes:?}");
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// `openssl s_server` with a certificate of its own; ended when dropped.
struct TlsServer {
    port: u16,
    child: Child,
}

impl TlsServer {
    fn start(folder: &PathBuf) -> Option<TlsServer> {
        std::fs::create_dir_all(folder).expect("space");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(folder)
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
        let port = free.port();
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-key", "key.pem", "-cert", "cert.pem", "-www"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // It says ACCEPT when it listens.
        let (mut said, mut byte) = (String::new(), [0]);
        let out = child.stdout.as_mut().expect("piped");
        while !said.contains("ACCEPT") && out.read(&mut byte).is_ok_and(|count| count == 1) {
            said.push(char::from(byte[0]));
        }
        Some(TlsServer { port, child })
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
