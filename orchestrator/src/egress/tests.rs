//! The proxy as a job meets it: bytes in, bytes out, over real sockets to servers on this machine, with a table of names
//! instead of a name server. What was asked of that table and what reached a server is looked at, not only the answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use proptest::prelude::*;
use swarm_plans::HostRule;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::dial::{Resolver, Table};
use super::proxy::{Gate, serve};
use super::refusals::Refusals;
use super::request::{self, Asked, BadRequest, Place, Target};
use super::tls_hello::tests::{client_hello, hello_retry};

const TOKEN: &str = "0123456789abcdef";
/// No test waits longer for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A server that notes all it hears. It answers an HTTP head with its first line, a ClientHello by asking for another one where it is
/// made to, and echoes everything else.
struct Origin {
    port: u16,
    asks_again: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Origin {
    async fn start() -> Origin {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let asks_again = Arc::new(AtomicBool::new(false));
        let is_asked = Arc::clone(&asks_again);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (notes, is_asked) = (Arc::clone(&notes), Arc::clone(&is_asked));
                tokio::spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        notes.lock().expect("unpoisoned").extend_from_slice(&bytes[..count]);
                        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                        let answer = match text.split_once(" HTTP/1.1\r\n") {
                            Some((line, _)) => {
                                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}\n", line.len() + 1)
                                    .into_bytes()
                            }
                            None if is_asked.swap(false, Ordering::Relaxed) => hello_retry(),
                            None => bytes[..count].to_vec(),
                        };
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Origin { port, asks_again, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().expect("unpoisoned")).into_owned()
    }
}

/// A proxy for one job whose policy has these rules; `PORT` in them is the origin's. Three names lead to the origin.
struct Scene {
    origin: Origin,
    table: Arc<Table>,
    gate: Arc<Gate>,
}

impl Scene {
    async fn new(rules: &[&str]) -> Scene {
        let origin = Origin::start().await;
        let loopback: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        let names = ["allowed.test", "other.test", "a.wild.test"];
        let mut answers: BTreeMap<String, Vec<Vec<IpAddr>>> =
            names.iter().map(|name| ((*name).to_owned(), vec![loopback.clone()])).collect();
        let public: IpAddr = "192.0.2.1".parse().expect("an address");
        answers.insert("rebinds.test".to_owned(), vec![vec![public], loopback.clone()]);
        answers.insert("metadata.test".to_owned(), vec![vec!["169.254.169.254".parse().expect("an address")]]);
        answers.insert("inside.test".to_owned(), vec![vec!["::ffff:127.0.0.1".parse().expect("an address")]]);
        let table = Arc::new(Table { answers, asked: Mutex::default() });
        let port = origin.port.to_string();
        let parse = |rule: &&str| HostRule::parse(&rule.replace("PORT", &port)).expect(rule);
        let gate = Arc::new(Gate {
            policy: "default".to_owned(),
            rules: rules.iter().map(parse).collect(),
            token: blake3::hash(TOKEN.as_bytes()),
            resolver: Resolver::Table(Arc::clone(&table)),
            refusals: Refusals::default(),
            desk: None,
        });
        Scene { origin, table, gate }
    }

    /// Sends bytes, with `PORT` and `AUTH` filled in, closes the sending side and gives all that comes back.
    async fn says(&self, text: &str) -> String {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("swarm:{TOKEN}"));
        let text = text.replace("PORT", &self.origin.port.to_string());
        let text = text.replace("AUTH", &format!("Proxy-Authorization: Basic {auth}"));
        String::from_utf8_lossy(&self.hears(text.as_bytes()).await).into_owned()
    }

    async fn hears(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut job, proxy) = tokio::io::duplex(256 << 10);
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move { serve(proxy, &gate).await });
        job.write_all(bytes).await.expect("the proxy listens");
        job.shutdown().await.expect("the proxy listens");
        let mut answer = Vec::new();
        timeout(ANSWER_MAX, job.read_to_end(&mut answer)).await.expect("an answer in time").expect("an answer");
        answer
    }

    fn asked(&self) -> Vec<String> {
        self.table.asked.lock().expect("unpoisoned").clone()
    }

    fn notes(&self) -> Vec<String> {
        self.gate.refusals.take().0.iter().map(|refusal| refusal.note("default")).collect()
    }
}

/// `127.0.0.1` is named because the test's servers live there; names that lead to it are then decided on by name alone.
const RULES: &[&str] = &["allowed.test:PORT", "*.wild.test:PORT", "127.0.0.1:PORT"];

/// Attempt 52: heads that programs read in different ways, and what becomes of them. None may reach anybody, and no name in
/// them may be resolved.
const DIFFERENTIALS: &[(&str, &str)] = &[
    ("403", "CONNECT other.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("400", "CONNECT other.test\0.allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT other.test%00.allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test.:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test@other.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT other.test@allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("400", "CONNECT \u{430}llowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT xn--llowed-4nf.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT [fe80::1%25eth0]:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT [::ffff:127.0.0.1]:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT [::ffff:7f00:1]:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT [::127.0.0.1]:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 0177.0.0.1:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 0x7f.0.0.1:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 0x7f000001:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 2130706433:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 127.1:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT 127.0.0.1.:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test:PORT:80 HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test:+PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test:0PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("400", "CONNECT allowed.test HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT wild.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT evilwild.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test:PORT HTTP/1.1\r\nHost: other.test:PORT\r\nAUTH\r\n\r\n"),
    ("403", "CONNECT allowed.test:PORT HTTP/1.1\r\nHost: allowed.test\r\nHost: other.test\r\nAUTH\r\n\r\n"),
    ("400", "CONNECT allowed.test:PORT HTTP/1.1\r\nContent-Length: 5\r\nAUTH\r\n\r\nhello"),
    ("400", "CONNECT allowed.test:PORT HTTP/1.1\r\nTransfer-Encoding: chunked\r\nAUTH\r\n\r\n"),
    ("403", "GET http://other.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("403", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: other.test:PORT\r\nAUTH\r\n\r\n"),
    ("403", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:81\r\nAUTH\r\n\r\n"),
    ("403", "GET http://allowed.test:PORT/ HTTP/1.1\r\nAUTH\r\n\r\n"),
    ("403", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nHost: other.test\r\nAUTH\r\n\r\n"),
    ("400", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost : allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\n x: other.test\r\nAUTH\r\n\r\n"),
    ("400", "GET http://allowed.test:PORT/ HTTP/1.1\nHost: allowed.test:PORT\nAUTH\n\n"),
    (
        "400",
        "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nX: a\rHost: other.test\r\nAUTH\r\n\r\n",
    ),
    ("403", "GET http://allowed.test:PORT\\@other.test/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("403", "GET http://user:pass@allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("403", "GET http:///allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET http://allowed.test:PORT#@other.test/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET https://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET ftp://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET / HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "GET //allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
    ("400", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (
        "400",
        "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nContent-Length: 1\r\nContent-Length: 2\r\nAUTH\r\n\r\nab",
    ),
    ("400", "GET http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nContent-Length: +1\r\nAUTH\r\n\r\na"),
    (
        "400",
        "POST http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nAUTH\r\n\r\n0\r\n\r\n",
    ),
    (
        "400",
        "POST http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nTransfer-Encoding: xchunked\r\nAUTH\r\n\r\n0\r\n\r\n",
    ),
    (
        "400",
        "POST http://allowed.test:PORT/ HTTP/1.0\r\nHost: allowed.test:PORT\r\nTransfer-Encoding: chunked\r\nAUTH\r\n\r\n0\r\n\r\n",
    ),
    ("400", "GET  http://allowed.test:PORT/ HTTP/1.1\r\nHost: allowed.test:PORT\r\nAUTH\r\n\r\n"),
];

#[tokio::test(flavor = "current_thread")]
async fn what_programs_read_in_different_ways_reaches_nobody() {
    let scene = Scene::new(RULES).await;
    for (status, head) in DIFFERENTIALS {
        let answer = scene.says(head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
    }
    assert_eq!((scene.origin.heard(), scene.asked()), (String::new(), vec![]));
    let control =
        scene.says("GET http://ALLOWED.test:PORT/x?y HTTP/1.1\r\nHost: Allowed.Test:PORT\r\nAUTH\r\n\r\n").await;
    assert!(control.ends_with("\r\n\r\nGET /x?y\n"), "{control}");
    let heard = scene.origin.heard();
    assert_eq!(
        heard,
        format!("GET /x?y HTTP/1.1\r\nHost: allowed.test:{}\r\nConnection: close\r\n\r\n", scene.origin.port)
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_refusal_names_the_host_and_the_line_that_would_allow_it() {
    let scene = Scene::new(RULES).await;
    let answer = scene.says("CONNECT evil.test:443 HTTP/1.1\r\nAUTH\r\n\r\n").await;
    let body = answer.split_once("\r\n\r\n").expect("a head").1;
    let port = scene.origin.port;
    let known = format!("\"allowed.test:{port}\", \"*.wild.test:{port}\", \"127.0.0.1:{port}\"");
    let line = format!("network = [{known}, \"evil.test:443\"]  # in [sandbox.default]\n");
    assert_eq!(
        body,
        format!(
            "swarm: evil.test:443 is refused: no entry of `network` names it\nhint: the plan allows it with\n\n    {line}"
        )
    );
    scene.says("CONNECT evil.test:443 HTTP/1.1\r\nAUTH\r\n\r\n").await;
    assert_eq!(
        scene.notes(),
        ["network: evil.test:443 was refused 2 times: no entry of `network` names it; \
          \"evil.test:443\" among the `network` of [sandbox.default] would allow it"]
    );
    assert_eq!(scene.asked(), Vec::<String>::new(), "a refused name is told to no name server");
}

#[tokio::test(flavor = "current_thread")]
async fn without_the_jobs_own_token_nothing_is_done() {
    let scene = Scene::new(RULES).await;
    let other = base64::engine::general_purpose::STANDARD.encode("swarm:fedcba9876543210");
    for auth in [
        "X: y".to_owned(),
        format!("Proxy-Authorization: Basic {other}"),
        "Proxy-Authorization: Basic".to_owned(),
        "Proxy-Authorization: Basic !!!".to_owned(),
        format!("Proxy-Authorization: Bearer {TOKEN}"),
        format!("Proxy-Authorization: {TOKEN}"),
        format!("Authorization: Basic {other}"),
    ] {
        let head = format!("CONNECT allowed.test:PORT HTTP/1.1\r\n{auth}\r\n\r\n");
        let answer = scene.says(&head).await;
        assert!(answer.starts_with("HTTP/1.1 407 "), "{auth}: {answer}");
    }
    let twice = scene.says("CONNECT allowed.test:PORT HTTP/1.1\r\nAUTH\r\nAUTH\r\n\r\n").await;
    assert!(twice.starts_with("HTTP/1.1 400 "), "{twice}");
    assert_eq!(scene.hears(b"\x05\x01\x00").await, b"\x05\xff");
    assert_eq!(scene.hears(b"\x05\x01\x02\x01\x05swarm\x03abc").await, b"\x05\x02\x01\x01");
    assert_eq!((scene.origin.heard(), scene.asked()), (String::new(), vec![]));
}

#[tokio::test(flavor = "current_thread")]
async fn who_shows_the_token_when_asked_for_it_was_refused_nothing() {
    let scene = Scene::new(RULES).await;
    let bare = "CONNECT allowed.test:PORT HTTP/1.1\r\n\r\n";
    assert!(scene.says(bare).await.starts_with("HTTP/1.1 407 "));
    assert!(scene.notes()[0].ends_with("it carried no or a wrong token"));
    assert!(scene.says(bare).await.starts_with("HTTP/1.1 407 "));
    scene.says("CONNECT allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n").await;
    assert_eq!(scene.notes(), Vec::<String>::new());
}

#[tokio::test(flavor = "current_thread")]
async fn each_request_of_a_connection_is_decided_anew() {
    let scene = Scene::new(RULES).await;
    let first =
        "POST http://allowed.test:PORT/1 HTTP/1.1\r\nHost: allowed.test:PORT\r\nContent-Length: 4\r\nAUTH\r\n\r\nbody";
    let second = "GET http://other.test:PORT/2 HTTP/1.1\r\nHost: other.test:PORT\r\nAUTH\r\n\r\n";
    let answer = scene.says(&format!("{first}{first}{second}{first}")).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "403"], "{answer}");
    let heard = scene.origin.heard();
    assert_eq!(heard.matches("POST /1").count(), 2, "{heard}");
    assert!(!heard.contains("other.test") && !heard.contains("Proxy-Authorization"), "{heard}");
    // Without the token again, the second request of a connection is nobody's.
    let bare = "GET http://allowed.test:PORT/3 HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n";
    let answer = scene.says(&format!("{first}{bare}")).await;
    assert!(answer.contains("HTTP/1.1 407 ") && !scene.origin.heard().contains("/3"), "{answer}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_follows_a_connect_is_not_a_request_to_the_proxy() {
    let scene = Scene::new(RULES).await;
    let smuggled = "CONNECT allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\nCONNECT other.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n";
    let answer = scene.says(smuggled).await;
    assert!(answer.contains("\r\n\r\nHTTP/1.1 400 ") && scene.origin.heard().is_empty(), "{answer}");
    // Plain HTTP in a tunnel has to be meant for the tunnel's host, request by request.
    let tunnel = "CONNECT allowed.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n";
    let good = "GET /in HTTP/1.1\r\nHost: allowed.test:PORT\r\n\r\n";
    let bad = "GET /out HTTP/1.1\r\nHost: other.test:PORT\r\n\r\n";
    let answer = scene.says(&format!("{tunnel}{good}{good}{bad}")).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "403"], "{answer}");
    assert!(!scene.origin.heard().contains("/out"));
}

#[tokio::test(flavor = "current_thread")]
async fn an_allowed_name_that_leads_inside_is_refused() {
    let scene = Scene::new(&["rebinds.test:PORT", "metadata.test:80", "inside.test:PORT", "other.test:PORT"]).await;
    for (host, why) in [
        ("metadata.test:80", "169.254.169.254 is link-local"),
        ("inside.test:PORT", "::ffff:127.0.0.1 is an IPv4 address in disguise"),
        ("other.test:PORT", "127.0.0.1 is loopback"),
    ] {
        let answer = scene.says(&format!("CONNECT {host} HTTP/1.1\r\nAUTH\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(why), "{answer}");
    }
    // The second answer of its name server is another one: whatever it says is what is decided on.
    for why in ["192.0.2.1 is for documents", "127.0.0.1 is loopback"] {
        let answer = scene.says("CONNECT rebinds.test:PORT HTTP/1.1\r\nAUTH\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(why), "{answer}");
    }
    assert_eq!(scene.origin.heard(), "");
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_speaks_tls_with_its_own_host_or_what_raw_allows() {
    let scene = Scene::new(RULES).await;
    let tunnel = |port: u16| {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("swarm:{TOKEN}"));
        format!("CONNECT allowed.test:{port} HTTP/1.1\r\nProxy-Authorization: Basic {auth}\r\n\r\n").into_bytes()
    };
    let through = async |scene: &Scene, words: &[u8]| {
        let answer = scene.hears(&[&tunnel(scene.origin.port), words].concat()).await;
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        answer[head..].to_vec()
    };
    let own = client_hello("allowed.test");
    assert_eq!(through(&scene, &own).await, own, "the control is echoed");
    assert_eq!(through(&scene, &client_hello("other.test")).await, b"");
    assert_eq!(through(&scene, &[&own[..], b"more"].concat()).await, [&own[..], b"more"].concat());
    assert!(!through(&scene, b"SSH-2.0-OpenSSH_9.9\r\n").await.starts_with(b"SSH"));
    assert!(!scene.origin.heard().contains("SSH"));
    let notes = scene.notes();
    assert!(notes.iter().any(|note| note.contains("names another server: `other.test`")), "{notes:?}");

    for (second, is_heard) in [("allowed.test", true), ("other.test", false)] {
        scene.origin.asks_again.store(true, Ordering::Relaxed);
        let second = client_hello(second);
        let echoed = if is_heard { second.clone() } else { vec![] };
        assert_eq!(through(&scene, &[own.clone(), second].concat()).await, [hello_retry(), echoed].concat());
    }
    assert!(!scene.origin.heard().contains("other.test"));
    assert!(scene.notes().iter().any(|note| note.contains("names another server: `other.test`")));

    let raw = Scene::new(&["raw:allowed.test:PORT", "127.0.0.1:PORT"]).await;
    assert_eq!(through(&raw, b"SSH-2.0-OpenSSH_9.9\r\n").await, b"SSH-2.0-OpenSSH_9.9\r\n");
}

#[tokio::test(flavor = "current_thread")]
async fn socks_takes_names_and_decides_alike() {
    let scene = Scene::new(RULES).await;
    let ask = async |scene: &Scene, host: &str, port: u16, words: &[u8]| {
        let login = [&b"\x05\x01\x02\x01\x05swarm\x10"[..], TOKEN.as_bytes()].concat();
        let name = [&[5, 1, 0, 3, u8::try_from(host.len()).expect("short")][..], host.as_bytes()].concat();
        let answer = scene.hears(&[&login[..], &name, &port.to_be_bytes(), words].concat()).await;
        (answer[..4] == *b"\x05\x02\x01\x00").then(|| (answer[5], answer[14..].to_vec())).expect("the token is right")
    };
    let port = scene.origin.port;
    let hello = client_hello("allowed.test");
    assert_eq!(ask(&scene, "allowed.test", port, &hello).await, (0, hello.clone()));
    assert_eq!(ask(&scene, "allowed.test", port, &client_hello("other.test")).await, (0, vec![]));
    for host in ["other.test", "allowed.test.", "0x7f000001", "a\0.wild.test"] {
        assert_eq!(ask(&scene, host, port, &hello).await, (2, vec![]), "{host:?}");
    }
    assert_eq!(scene.asked(), ["allowed.test"; 2]);
}

#[tokio::test(flavor = "current_thread")]
async fn an_endless_head_is_cut_off() {
    let scene = Scene::new(RULES).await;
    let long = format!("GET http://allowed.test:PORT/ HTTP/1.1\r\nX: {}", "x".repeat(request::HEAD_BYTES_MAX));
    assert!(scene.says(&long).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET http://allowed.test:PORT/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(request::HEADERS_MAX + 1));
    assert!(scene.says(&many).await.starts_with("HTTP/1.1 431 "));
}

/// What the proxy understood, for comparing two readings.
fn understood(bytes: &[u8]) -> Result<Option<(Target, usize)>, BadRequest> {
    Ok(request::parse(bytes, Place::Proxy)?.map(|(request, length)| (request.target, length)))
}

/// Pieces of heads that are put together in any order: nearly right ones find more than random bytes do.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET ".to_owned()),
        Just("CONNECT ".to_owned()),
        Just("http://".to_owned()),
        Just("allowed.test".to_owned()),
        Just("other.test".to_owned()),
        Just(":80".to_owned()),
        Just("/".to_owned()),
        Just("@".to_owned()),
        Just(" HTTP/1.1\r\n".to_owned()),
        Just("Host: ".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        "[ -~]{0,6}",
        "\\PC{0,3}",
        Just("\0".to_owned()),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    /// The long version: `PROPTEST_CASES=10000000 cargo test --release -p swarm-orchestrator --lib egress::tests::heads`.
    #[test]
    fn heads_are_read_in_one_way(head in any_head(), rest in any_head()) {
        // What is understood does not depend on how much arrived, and what is passed on is understood alike again.
        if let Ok(Some((target, length))) = understood(&head) {
            prop_assert!(length <= head.len());
            let more = [&head[..], &rest].concat();
            prop_assert_eq!(understood(&more).ok().flatten(), Some((target.clone(), length)));
            let (request, _) = request::parse(&head, Place::Proxy).expect("understood").expect("whole");
            if let Asked::Forward(forward) = request.asked {
                let again = request::parse(&forward.head, Place::Tunnel(&target)).expect("our own head").expect("whole");
                prop_assert_eq!(&again.0.target, &target);
                prop_assert_eq!(again.1, forward.head.len());
                match again.0.asked {
                    Asked::Forward(second) => prop_assert_eq!((second.head, second.body), (forward.head, forward.body)),
                    Asked::Connect => prop_assert!(false, "a tunnel"),
                }
            }
        }
        for end in 0..head.len().min(40) {
            drop(understood(&head[..end]));
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(understood(&bytes));
    }
}
