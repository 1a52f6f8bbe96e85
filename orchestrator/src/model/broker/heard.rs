//! A decoded answer without the keys that were used to get it: whatever its wire format, however it was cut and escaped. What
//! [`super::echo`] masks in the bytes is gone before; this stands behind all decoders, so that no worker, transcript or screen
//! depends on what a wire format may do next.

use serde_json::Value;
use swarm_protocol::chat::{Arguments, AssistantPart, Reply, Stop, ToolCall};

use super::escapes::Reading;
use crate::model::Delta;
use crate::secrets::{MASK, MaskedStream, Numbers, Secrets};

/// Where secrets stand in a text, as it is or behind escapes of JSON: from the first byte to behind the last, by the first, none
/// over another.
pub fn places(secrets: &Secrets, text: &str) -> Vec<(usize, usize)> {
    let mut places = secrets.places(text.as_bytes());
    for reading in Reading::all(text) {
        let found = secrets.places(reading.text.as_bytes()).into_iter();
        places.extend(found.map(|(from, to)| (reading.start(from), reading.start(to))));
    }
    places.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::with_capacity(places.len());
    for (from, to) in places {
        match apart.last_mut().filter(|last| from < last.1) {
            Some(last) => last.1 = last.1.max(to),
            None => apart.push((from, to)),
        }
    }
    apart
}

/// From where on a text may go on to a secret, or ends within an escape; its length where it does neither.
pub fn open_from(secrets: &Secrets, text: &str) -> usize {
    let plain = secrets.open_from(text.as_bytes());
    let open = |reading: Reading| reading.start(secrets.open_from(reading.text.as_bytes()));
    Reading::all(text).into_iter().map(open).fold(plain, usize::min)
}

/// Masks a text in place; says whether there was anything to mask.
pub fn mask_text(secrets: &Secrets, text: &mut String) -> bool {
    let found = places(secrets, text);
    found.iter().rev().for_each(|&(from, to)| text.replace_range(from..to, MASK));
    !found.is_empty()
}

/// The same for all texts of a value, names and numbers included.
pub fn mask_value(secrets: &Secrets, value: &mut Value) -> bool {
    secrets.mask_value_by(value, Numbers::Masked, &|text| mask_text(secrets, text))
}

/// Masks a whole answer; says whether there was anything to mask.
pub fn mask_reply(secrets: &Secrets, reply: &mut Reply) -> bool {
    if secrets.is_empty() {
        return false;
    }
    let proof = |proof: &mut Option<Value>| proof.as_mut().is_some_and(|proof| mask_value(secrets, proof));
    let part = |part: &mut AssistantPart| match part {
        AssistantPart::Text { text, proof: it } | AssistantPart::Thinking { text, proof: it } => {
            mask_text(secrets, text) | proof(it)
        }
        AssistantPart::Opaque { item, .. } => mask_value(secrets, item),
        AssistantPart::Call(ToolCall { id, name, arguments, proof: it }) => {
            let found = mask_text(secrets, id) | mask_text(secrets, name) | proof(it);
            found
                | match arguments {
                    Arguments::Object(map) => {
                        secrets.mask_map_by(map, Numbers::Masked, &|text| mask_text(secrets, text))
                    }
                    Arguments::Broken { text, reason } => mask_text(secrets, text) | mask_text(secrets, reason),
                }
        }
    };
    let found = reply.content.iter_mut().fold(false, |found, one| part(one) | found);
    match &mut reply.stop {
        Stop::Other(word) => mask_text(secrets, word) | found,
        _ => found,
    }
}

/// News of an answer on their way to people: a text that many deltas spell is one text.
#[derive(Debug)]
pub struct News {
    secrets: Secrets,
    open: Option<(Says, MaskedStream)>,
}

/// What a delta is more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Text,
    Thinking,
}

impl Says {
    fn delta(self, bytes: Vec<u8>) -> Option<Delta> {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (!text.is_empty()).then_some(match self {
            Says::Text => Delta::Text(text),
            Says::Thinking => Delta::Thinking(text),
        })
    }
}

impl News {
    /// Of one answer.
    pub fn new(secrets: Secrets) -> News {
        News { secrets, open: None }
    }

    /// What may be told now that this has come.
    pub fn take(&mut self, delta: Delta) -> Vec<Delta> {
        if self.secrets.is_empty() {
            return vec![delta];
        }
        let (says, text) = match delta {
            Delta::Text(text) => (Says::Text, text),
            Delta::Thinking(text) => (Says::Thinking, text),
            Delta::Call { mut name } => {
                mask_text(&self.secrets, &mut name);
                return self.finish().into_iter().chain([Delta::Call { name }]).collect();
            }
            other => return self.finish().into_iter().chain([other]).collect(),
        };
        let before = if self.open.as_ref().is_some_and(|(open, _)| *open != says) { self.finish() } else { None };
        let (_, stream) = self.open.get_or_insert_with(|| (says, self.secrets.stream()));
        let now = says.delta(stream.take(text.as_bytes()));
        before.into_iter().chain(now).collect()
    }

    /// What was held back, at the end of a text.
    pub fn finish(&mut self) -> Option<Delta> {
        let (says, mut stream) = self.open.take()?;
        says.delta(stream.finish())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use swarm_protocol::chat::{Dialect, Usage};

    use super::*;

    const KEY: &str = "sk/very+secret=0123456789";

    fn secrets() -> Secrets {
        Secrets::new([("KEY", KEY)])
    }

    #[test]
    fn no_part_of_an_answer_holds_a_key() {
        let escaped = KEY.replace('/', "\\/").replace('+', "\\u002b");
        let arguments = json!({"text": format!("x {KEY}"), "deep": [{KEY: escaped}]}).as_object().unwrap().clone();
        let call = ToolCall {
            id: KEY.to_owned(),
            name: KEY.to_owned(),
            arguments: Arguments::Object(arguments),
            proof: Some(KEY.into()),
        };
        let broken = Arguments::Broken { text: format!("{{\"a\":\"{escaped}"), reason: "cut off".to_owned() };
        let mut reply = Reply {
            content: vec![
                AssistantPart::Text { text: format!("your key: {KEY}!"), proof: None },
                AssistantPart::Thinking { text: escaped.clone(), proof: Some(json!({"s": KEY})) },
                AssistantPart::Call(ToolCall { arguments: broken, ..call.clone() }),
                AssistantPart::Call(call),
                AssistantPart::Opaque { dialect: Dialect::Gemini, item: json!([KEY]) },
            ],
            stop: Stop::Other(KEY.to_owned()),
            usage: Usage::default(),
        };
        assert!(mask_reply(&secrets(), &mut reply));
        let shown = serde_json::to_string(&reply).unwrap();
        assert!(!shown.contains("secret") && shown.contains("your key: ***!"), "{shown}");
        let clean = reply.clone();
        assert!(!mask_reply(&secrets(), &mut reply) && reply == clean);
    }

    #[test]
    fn news_spell_no_key_either() {
        let (front, back) = KEY.split_at(7);
        let mut news = News::new(secrets());
        let text = |text: &str| Delta::Text(text.to_owned());
        let call = |name: &str| Delta::Call { name: name.to_owned() };
        let told: Vec<Delta> =
            [text("it is "), text(front), text(back), Delta::Thinking(KEY.to_owned()), call(KEY), text("s")]
                .into_iter()
                .flat_map(|delta| news.take(delta))
                .collect();
        assert_eq!(told, [text("it is "), text("***"), Delta::Thinking("***".to_owned()), call("***")]);
        assert_eq!(news.finish(), Some(text("s")));
    }
}
