//! What is too large to stay in a conversation loses its middle, with a mark: an answer of ten megabytes, a hint, a summary. The
//! task never does, nor what its provider has signed. A call is run as it was written; only what the conversation keeps of it is
//! cut. Pure.

use serde_json::Value;
use swarm_protocol::chat::{Arguments, AssistantPart, Message, UserPart};

use super::compact;
use super::tools::bounded;

/// The share of the context, in percent, that one answer of the model, or one hint, may take.
const PART_PERCENT: u64 = 25;
/// The share of the context, in percent, that all together may take where the model does not take them and nothing can be summed
/// up.
const ALL_PERCENT: u64 = 60;
/// What is shorter than this stays as it is, in bytes.
const PIECE_BYTES_MIN: usize = 1 << 10;
/// Bytes of a token, roughly.
const TOKEN_BYTES: u64 = 4;

/// The longest that one part may be, in bytes.
pub fn part_bytes_max(context_tokens: u64) -> usize {
    share(context_tokens, PART_PERCENT)
}

fn share(context_tokens: u64, percent: u64) -> usize {
    let bytes = (context_tokens.saturating_mul(percent) / 100).saturating_mul(TOKEN_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Cuts an answer that is too large for its conversation; gives how many bytes went.
pub fn answer(content: &mut [AssistantPart], context_tokens: u64) -> usize {
    let mut pieces: Vec<Piece<'_>> = content.iter_mut().filter_map(Piece::of_model).collect();
    level(&mut pieces, part_bytes_max(context_tokens))
}

/// Cuts what is largest of a conversation that its model does not take, but for the task; gives how many bytes went.
pub fn all(messages: &mut [Message], context_tokens: u64) -> usize {
    let mut pieces = vec![];
    for (at, message) in messages.iter_mut().enumerate() {
        match message {
            Message::User { content } => {
                let task = usize::from(at == 0);
                pieces.extend(content.iter_mut().skip(task).map(Piece::of_user));
            }
            Message::Assistant { content, .. } => pieces.extend(content.iter_mut().filter_map(Piece::of_model)),
        }
    }
    let most = share(context_tokens, ALL_PERCENT).min(pieces.iter().map(Piece::len).sum::<usize>() / 2);
    level(&mut pieces, most)
}

/// Something that may be cut.
enum Piece<'a> {
    Text(&'a mut String),
    Arguments(&'a mut Arguments),
}

impl<'a> Piece<'a> {
    fn of_model(part: &'a mut AssistantPart) -> Option<Self> {
        match part {
            AssistantPart::Text { text, proof: None } | AssistantPart::Thinking { text, proof: None } => {
                Some(Piece::Text(text))
            }
            AssistantPart::Call(call) => Some(Piece::Arguments(&mut call.arguments)),
            AssistantPart::Text { .. } | AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => None,
        }
    }

    fn of_user(part: &'a mut UserPart) -> Self {
        match part {
            UserPart::Text { text } | UserPart::ToolResult { content: text, .. } => Piece::Text(text),
        }
    }

    fn len(&self) -> usize {
        match self {
            Piece::Text(text) => text.len(),
            Piece::Arguments(arguments) => compact::written(arguments).len(),
        }
    }

    fn cut(&mut self, most: usize) {
        match self {
            Piece::Text(text) => **text = bounded(text, most),
            Piece::Arguments(Arguments::Broken { text, .. }) => *text = bounded(text, most),
            Piece::Arguments(arguments) => {
                let Arguments::Object(object) = &mut **arguments else { return };
                object.values_mut().for_each(|value| shorten(value, most / 2));
                // Many small ones are as large as one.
                let text = Value::Object(object.clone()).to_string();
                if text.len() > most.saturating_mul(2) {
                    *object = [("cut".to_owned(), Value::String(bounded(&text, most)))].into_iter().collect();
                }
            }
        }
    }
}

fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => *text = bounded(text, most),
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, most)),
        Value::Object(object) => object.values_mut().for_each(|item| shorten(item, most)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Cuts the largest pieces down to one size, with which all together are no more than `most` bytes.
fn level(pieces: &mut [Piece<'_>], most: usize) -> usize {
    let mut sizes: Vec<usize> = pieces.iter().map(Piece::len).collect();
    let before: usize = sizes.iter().sum();
    if before <= most {
        return 0;
    }
    sizes.sort_unstable();
    let (mut left, mut size) = (most, PIECE_BYTES_MIN);
    for (at, len) in sizes.iter().enumerate() {
        size = left / (sizes.len() - at);
        if *len > size {
            break;
        }
        left -= len;
    }
    let size = size.max(PIECE_BYTES_MIN);
    pieces.iter_mut().filter(|piece| piece.len() > size).for_each(|piece| piece.cut(size));
    before.saturating_sub(pieces.iter().map(Piece::len).sum())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use swarm_protocol::chat::ToolCall;

    use super::*;

    fn text(len: usize) -> AssistantPart {
        AssistantPart::Text { text: "x".repeat(len), proof: None }
    }

    fn lengths(content: &[AssistantPart]) -> Vec<usize> {
        let len = |part: &AssistantPart| match part {
            AssistantPart::Text { text, .. } | AssistantPart::Thinking { text, .. } => text.len(),
            AssistantPart::Call(call) => compact::written(&call.arguments).len(),
            AssistantPart::Opaque { .. } => 0,
        };
        content.iter().map(len).collect()
    }

    #[test]
    fn an_answer_that_is_too_large_loses_the_middle_of_its_largest_parts() {
        let mut small = [text(9_000), text(500)];
        assert_eq!((answer(&mut small, 10_000), lengths(&small)), (0, vec![9_000, 500]));
        let mut large = [text(10 << 20), text(500), text(2_000)];
        assert!(answer(&mut large, 10_000) > 10_000_000);
        let lengths = lengths(&large);
        assert!((7_000..8_000).contains(&lengths[0]) && lengths[1..] == [500, 2_000], "{lengths:?}");
    }

    #[test]
    fn arguments_of_any_form_are_cut() {
        let many: Vec<u32> = (0..200_000).collect();
        for value in [json!("x".repeat(10 << 20)), json!([{"a": "x".repeat(1 << 20)}]), json!(many)] {
            let arguments =
                Arguments::Object(Map::from_iter([("text".to_owned(), value), ("path".to_owned(), "a".into())]));
            let call = ToolCall { id: "1".to_owned(), name: "write".to_owned(), arguments, proof: None };
            let mut content = [AssistantPart::Call(call)];
            assert!(answer(&mut content, 10_000) > 0);
            assert!(lengths(&content)[0] < 21_000, "{:?}", lengths(&content));
        }
    }

    #[test]
    fn what_is_signed_and_the_task_stay() {
        let mut signed = [AssistantPart::Thinking { text: "x".repeat(1 << 20), proof: Some(json!("p")) }];
        assert_eq!(answer(&mut signed, 10_000), 0);
        let user = |text: String| Message::User { content: vec![UserPart::Text { text }] };
        let mut messages = [user("x".repeat(100_000)), user("y".repeat(100_000))];
        assert!(all(&mut messages, 10_000) > 0);
        let lengths: Vec<usize> = messages.iter().map(|message| serde_json::to_vec(message).unwrap().len()).collect();
        assert!(lengths[0] > 100_000 && lengths[1] < 25_000, "{lengths:?}");
    }
}
