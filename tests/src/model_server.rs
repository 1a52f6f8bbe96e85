//! A server that speaks as models' providers do and misbehaves on demand: a script says what each request is answered. Plain
//! threads and sockets; a connection carries one exchange.

use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// How often a comment comes where nothing else does.
const KEPT_OPEN_BY: Duration = Duration::from_millis(100);

/// The server; its threads end with the test's process.
#[derive(Debug)]
pub struct ModelServer {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `POST /v1/messages`.
    pub line: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body; null where there is none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Asked {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a request is answered.
#[derive(Debug, Clone)]
pub struct Act {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Vec<u8>>,
    end: End,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As HTTP wants it.
    Whole,
    /// The connection is closed before HTTP says that it is over.
    Cut,
    /// The connection is closed, which is how this answer says that it is over.
    Closed,
    /// Nothing more comes, and the connection stays open until the other side closes it.
    Hang,
    /// The same, and comments come all the time.
    KeepOpen,
}

impl Act {
    /// A stream of server-sent events.
    pub fn events(events: &[Value]) -> Act {
        let text: Vec<Vec<u8>> = events.iter().map(|event| format!("data: {event}\n\n").into_bytes()).collect();
        Act { pieces: text, ..Act::refusal(200, "") }.header("content-type", "text/event-stream")
    }

    /// An answer in one piece.
    pub fn json(body: &Value) -> Act {
        Act::refusal(200, &body.to_string())
    }

    /// A status with a body of JSON.
    pub fn refusal(status: u16, body: &str) -> Act {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Act { status, headers, pieces: vec![body.as_bytes().to_vec()], end: End::Whole }
    }

    /// With a header, in place of one of that name.
    pub fn header(mut self, name: &str, value: &str) -> Act {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With more text behind it.
    pub fn and(mut self, text: &str) -> Act {
        self.pieces.push(text.as_bytes().to_vec());
        self
    }

    /// Only the first pieces, then the connection breaks.
    pub fn cut_after(mut self, pieces: usize) -> Act {
        self.pieces.truncate(pieces);
        Act { end: End::Cut, ..self }
    }

    /// Only the first pieces, and then an end that looks like one.
    pub fn ends_after(mut self, pieces: usize) -> Act {
        self.pieces.truncate(pieces);
        Act { end: End::Closed, ..self }
    }

    /// Only the first pieces, then silence.
    pub fn hangs_after(mut self, pieces: usize) -> Act {
        self.pieces.truncate(pieces);
        Act { end: End::Hang, ..self }
    }

    /// Only the first pieces, then nothing but comments, until the other side closes the connection.
    pub fn keeps_open_after(mut self, pieces: usize) -> Act {
        self.pieces.truncate(pieces);
        Act { end: End::KeepOpen, ..self }
    }

    /// Each byte on its own.
    pub fn dripping(mut self) -> Act {
        self.pieces = self.pieces.concat().into_iter().map(|byte| vec![byte]).collect();
        self
    }

    fn perform(&self, stream: &mut TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut head = format!("HTTP/1.1 {} Scripted\r\nConnection: close\r\n", self.status);
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        let chunked = self.end != End::Closed;
        head.push_str(if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "\r\n" });
        stream.write_all(head.as_bytes())?;
        for piece in self.pieces.iter().filter(|piece| !piece.is_empty()) {
            if chunked {
                let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                stream.write_all(&framed)?;
            } else {
                stream.write_all(piece)?;
            }
        }
        match self.end {
            End::Whole => stream.write_all(b"0\r\n\r\n"),
            End::Cut | End::Closed => Ok(()),
            End::Hang => stream.read_to_end(&mut Vec::new()).map(drop),
            End::KeepOpen => loop {
                std::thread::sleep(KEPT_OPEN_BY);
                stream.write_all(b"3\r\n:\n\n\r\n")?;
            },
        }
    }
}

impl ModelServer {
    /// Answers the n-th request, from 0, with what `script` says.
    pub fn start(script: impl Fn(usize, &Asked) -> Act + Send + Sync + 'static) -> ModelServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (all, script) = (Arc::clone(&asked), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, script) = (Arc::clone(&all), Arc::clone(&script));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let Ok(request) = read(&stream) else { return };
                    let number = {
                        let mut all = all.lock().expect("unpoisoned");
                        all.push(request.clone());
                        all.len() - 1
                    };
                    // The other side may have gone away.
                    drop(script(number, &request).perform(&mut stream));
                });
            }
        });
        ModelServer { port, asked }
    }

    /// Answers requests with these acts, in order, and all that follow with the last one.
    pub fn acting(acts: Vec<Act>) -> ModelServer {
        ModelServer::start(move |number, _| acts[number.min(acts.len() - 1)].clone())
    }

    /// Where it listens, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }
}

fn read(stream: &TcpStream) -> Result<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    if first.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Asked { line, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
}

/// Anthropic's events for an answer with these blocks; a block is text, or a call with its arguments as text.
pub fn anthropic(blocks: &[Block<'_>], stop: &str) -> Vec<Value> {
    let usage = json!({ "input_tokens": 11, "output_tokens": 1 });
    let mut events = vec![json!({ "type": "message_start", "message": { "id": "m", "usage": usage } })];
    for (index, block) in blocks.iter().enumerate() {
        let (start, delta) = match block {
            Block::Text(text) => (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": text })),
            Block::Call(name, arguments) => (
                json!({ "type": "tool_use", "id": format!("call-{index}"), "name": name, "input": {} }),
                json!({ "type": "input_json_delta", "partial_json": arguments }),
            ),
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": start }));
        events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let usage = json!({ "input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 3 });
    events.push(json!({ "type": "message_delta", "delta": { "stop_reason": stop }, "usage": usage }));
    events.push(json!({ "type": "message_stop" }));
    events
}

/// The events of Chat Completions for an answer with these blocks.
pub fn chat(blocks: &[Block<'_>], finish: &str) -> Vec<Value> {
    let choice =
        |delta: Value, finish: Value| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    let mut events = vec![];
    let mut calls = 0;
    for block in blocks {
        events.push(match block {
            Block::Text(text) => choice(json!({ "content": text }), Value::Null),
            Block::Call(name, arguments) => {
                let function = json!({ "name": name, "arguments": arguments });
                let call = json!({ "index": calls, "id": format!("call-{calls}"), "function": function });
                calls += 1;
                choice(json!({ "tool_calls": [call] }), Value::Null)
            }
        });
    }
    events.push(choice(json!({}), finish.into()));
    events.push(json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7 } }));
    events
}

/// A part of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Block<'a> {
    /// Text.
    Text(&'a str),
    /// A call of a tool with its arguments as text.
    Call(&'a str, &'a str),
}
