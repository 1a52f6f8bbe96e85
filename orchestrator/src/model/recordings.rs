//! Real traffic: every recording is decoded, cut anywhere, and never believed when it ends early. The recordings lie beside
//! the tree (`shared/recordings`, or where `SWARM_RECORDINGS` says); without them these tests say so and pass.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use swarm_protocol::chat::{Arguments, Dialect, Message, ModelRequest, Reply, Stop};

use super::{DecodeError, Decoder, decode_whole, encode};

/// One request and its answer.
#[derive(Debug, Deserialize)]
struct Exchange {
    when: When,
    then: Then,
}

#[derive(Debug, Deserialize)]
struct When {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Then {
    status: u16,
    header: Vec<Header>,
    body: String,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// A recorded answer.
struct Recording {
    name: String,
    dialect: Dialect,
    streamed: bool,
    body: Vec<u8>,
}

fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/recordings");
    std::env::var_os("SWARM_RECORDINGS").map_or_else(beside, PathBuf::from)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, found),
            false if path.extension().is_some_and(|end| end == "yaml") => found.push(path),
            false => {}
        }
    }
}

fn dialect(path: &str) -> Option<Dialect> {
    let known = [
        ("/messages", Dialect::Anthropic),
        ("/chat/completions", Dialect::OpenaiChat),
        ("/responses", Dialect::OpenaiResponses),
        ("enerateContent", Dialect::Gemini),
        ("/api/chat", Dialect::Ollama),
    ];
    known.into_iter().find(|(part, _)| path.contains(part)).map(|(_, dialect)| dialect)
}

/// All recorded answers of status 200, or nothing where there are no recordings.
fn recordings() -> Vec<Recording> {
    let mut paths = Vec::new();
    files(&folder(), &mut paths);
    paths.sort();
    if paths.is_empty() {
        swarm_protocol::skipped::say(format_args!("there are no recordings in {}", folder().display()));
    }
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, document) in serde_yaml_ng::Deserializer::from_str(&text).enumerate() {
            let exchange =
                Exchange::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let Some(dialect) = dialect(&exchange.when.path) else { continue };
            let kind = exchange.then.header.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
            let kind = kind.map_or("", |header| &header.value);
            let streamed = kind.contains("event-stream") || kind.contains("ndjson");
            let name = format!("{} #{at}", path.strip_prefix(folder()).unwrap().display());
            if exchange.then.status == 200 {
                all.push(Recording { name, dialect, streamed, body: exchange.then.body.into_bytes() });
            }
        }
    }
    all
}

fn decoded<'a>(dialect: Dialect, slices: impl IntoIterator<Item = &'a [u8]>) -> Result<Reply, DecodeError> {
    let mut decoder = Decoder::new(dialect);
    for slice in slices {
        decoder.feed(slice)?;
    }
    decoder.finish()
}

fn answer(recording: &Recording) -> Result<Reply, DecodeError> {
    match recording.streamed {
        true => decoded(recording.dialect, [recording.body.as_slice()]),
        false => decode_whole(recording.dialect, &recording.body),
    }
}

#[test]
fn every_recording_is_an_answer() {
    for recording in recordings() {
        let reply = answer(&recording).unwrap_or_else(|error| panic!("{}: {error}", recording.name));
        assert!(!reply.content.is_empty() || reply.stop != Stop::Calls, "{}: {reply:?}", recording.name);
        assert!(reply.usage.output.is_some(), "{}: no usage", recording.name);
        for call in reply.calls() {
            assert!(!call.id.is_empty() && !call.name.is_empty(), "{}: {call:?}", recording.name);
            let whole = matches!(call.arguments, Arguments::Object(_));
            assert!(whole || reply.stop == Stop::OutputMax, "{}: {call:?}", recording.name);
        }
    }
}

#[test]
fn every_answer_can_be_sent_back_to_every_provider() {
    for recording in recordings() {
        let content = answer(&recording).unwrap().content;
        let request = ModelRequest {
            model: "m".to_owned(),
            system: String::new(),
            messages: vec![Message::Assistant { dialect: recording.dialect, content }],
            tools: vec![],
            output_tokens_max: 1,
            context_tokens: None,
        };
        for dialect in
            [Dialect::Anthropic, Dialect::OpenaiChat, Dialect::OpenaiResponses, Dialect::Gemini, Dialect::Ollama]
        {
            let body = encode(dialect, &request);
            assert_eq!(body.to_string(), encode(dialect, &request).to_string(), "{}", recording.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn slices_do_not_matter_and_an_early_end_is_never_believed(
        cuts in proptest::collection::vec(0.0f64..1.0, 1..40),
        end in 0.0f64..1.0,
    ) {
        for recording in recordings().iter().filter(|recording| recording.streamed) {
            let at = |share: f64| (share * recording.body.len() as f64) as usize;
            let mut cuts: Vec<usize> = cuts.iter().map(|&share| at(share)).collect();
            cuts.extend([0, recording.body.len()]);
            cuts.sort_unstable();
            let slices = cuts.windows(2).map(|pair| &recording.body[pair[0]..pair[1]]);
            let whole = answer(recording).unwrap();
            prop_assert_eq!(&decoded(recording.dialect, slices).unwrap(), &whole, "{}", &recording.name);
            match decoded(recording.dialect, [&recording.body[..at(end)]]) {
                // What came behind the answer's own end (usage, `[DONE]`) may be missing.
                Ok(early) => {
                    let (early, whole): (Vec<_>, Vec<_>) = (early.calls().collect(), whole.calls().collect());
                    prop_assert_eq!(early, whole, "{}", &recording.name);
                }
                Err(error) => prop_assert!(
                    matches!(error, DecodeError::Truncated | DecodeError::Malformed(_)),
                    "{}: {}", &recording.name, error
                ),
            }
        }
    }
}
