//! A conversation with a model, in the words of none of the providers: what an agent asks for and what it is answered.
//! Data only. The coordinator's model broker turns it into a provider's wire format and back.
//!
//! Some parts of an answer mean nothing to us and must still go back unchanged with the next request (signatures of
//! thinking, encrypted reasoning): they travel as `proof` and as [`AssistantPart::Opaque`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic's Messages.
    Anthropic,
    /// OpenAI's Chat Completions, which most other servers speak, too.
    OpenaiChat,
    /// OpenAI's Responses.
    OpenaiResponses,
    /// Google's `generateContent`.
    Gemini,
    /// Ollama's own chat.
    Ollama,
}

/// One call of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelRequest {
    /// The model as its provider names it.
    pub model: String,
    /// Standing instructions; empty for none.
    pub system: String,
    /// The conversation, oldest first; begins with a user's message.
    pub messages: Vec<Message>,
    /// What the model may call, in an order that never changes within a conversation: providers cache by prefix.
    pub tools: Vec<ToolSpec>,
    /// Bound of the answer, in tokens.
    pub output_tokens_max: u32,
    /// Size of the context to ask a local server for, in tokens; `None` leaves the server's own.
    pub context_tokens: Option<u32>,
}

/// A tool that a model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Letters, digits, `_` and `-`; at most 64.
    pub name: String,
    /// When to use it.
    pub description: String,
    /// JSON Schema of its arguments: an object.
    pub schema: Value,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub enum Message {
    /// What the model is told.
    User {
        /// Results of its calls first, then text.
        content: Vec<UserPart>,
    },
    /// What the model said.
    Assistant {
        /// Who said it: proofs mean nothing elsewhere.
        dialect: Dialect,
        /// In order.
        content: Vec<AssistantPart>,
    },
}

/// A part of what a model is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum UserPart {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// What a call gave.
    ToolResult {
        /// The call's id.
        call: String,
        /// The tool's name.
        name: String,
        /// What it gave, for the model; never empty.
        content: String,
        /// Whether it worked.
        status: ToolStatus,
    },
}

/// Whether a call worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolStatus {
    /// It did.
    Ok,
    /// It did not: refused, failed, cut off.
    Error,
}

/// A part of what a model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "kebab-case")]
pub enum AssistantPart {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// Goes back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<Value>,
    },
    /// Thinking that the provider shows.
    Thinking {
        /// The text; empty when only its proof was sent.
        text: String,
        /// Goes back unchanged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<Value>,
    },
    /// A call of a tool.
    Call(ToolCall),
    /// Something that only its provider understands and that goes back unchanged.
    Opaque {
        /// Whose.
        dialect: Dialect,
        /// The item.
        item: Value,
    },
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id, or one made here where it gives none; unique within an answer.
    pub id: String,
    /// The tool, as the model names it.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// Goes back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Value>,
}

/// A call's arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arguments {
    /// Whole.
    Object(Map<String, Value>),
    /// Cut off or not an object: such a call is never executed, it is answered with an error.
    Broken {
        /// What came.
        text: String,
        /// What is wrong with it, for the model.
        reason: String,
    },
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// What it said, in order.
    pub content: Vec<AssistantPart>,
    /// Why it stopped.
    pub stop: Stop,
    /// What it took.
    pub usage: Usage,
}

impl Reply {
    /// The calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|part| match part {
            AssistantPart::Call(call) => Some(call),
            AssistantPart::Text { .. } | AssistantPart::Thinking { .. } | AssistantPart::Opaque { .. } => None,
        })
    }

    /// All of its text.
    pub fn text(&self) -> String {
        let texts = self.content.iter().filter_map(|part| match part {
            AssistantPart::Text { text, .. } => Some(text.as_str()),
            AssistantPart::Thinking { .. } | AssistantPart::Call(_) | AssistantPart::Opaque { .. } => None,
        });
        texts.collect()
    }
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// It is done.
    End,
    /// It waits for the results of its calls.
    Calls,
    /// The bound of the answer was reached.
    OutputMax,
    /// A stop sequence.
    Sequence,
    /// The provider paused a long turn: send the conversation again as it is.
    Pause,
    /// It refuses.
    Refusal,
    /// The context is full.
    ContextFull,
    /// A word that is not known here.
    Other(String),
}

/// What an answer took, in tokens; `None` where the provider does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Of the request, without what came from a cache or went into one.
    pub input: Option<u64>,
    /// Of the request, read from the provider's cache.
    pub cache_read: Option<u64>,
    /// Of the request, written to the provider's cache.
    pub cache_write: Option<u64>,
    /// How much of that stays there for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<u64>,
    /// Of the answer, thinking included.
    pub output: Option<u64>,
}

impl Usage {
    /// What the request took, caches included. What providers count is a word of strangers: no sum of it goes round.
    pub fn request(&self) -> u64 {
        [self.cache_read, self.cache_write].into_iter().flatten().fold(self.input.unwrap_or(0), u64::saturating_add)
    }

    /// What request and answer took together.
    pub fn total(&self) -> u64 {
        self.request().saturating_add(self.output.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_survives_the_wire() {
        let call = ToolCall {
            id: "c1".to_owned(),
            name: "read".to_owned(),
            arguments: Arguments::Object(Map::new()),
            proof: Some(Value::from("s")),
        };
        let result = UserPart::ToolResult {
            call: "c1".to_owned(),
            name: "read".to_owned(),
            content: "ü".to_owned(),
            status: ToolStatus::Error,
        };
        let said = vec![
            Message::Assistant { dialect: Dialect::Gemini, content: vec![AssistantPart::Call(call)] },
            Message::User { content: vec![result] },
        ];
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Message>>(&text).unwrap(), said);
    }

    #[test]
    fn what_providers_count_is_added_up_to_the_most_that_there_is() {
        let usage = |input, cache_read, output| Usage { input, cache_read, output, ..Usage::default() };
        assert_eq!(usage(Some(3), Some(4), Some(5)).total(), 12);
        assert_eq!((usage(None, None, Some(5)).request(), usage(None, None, Some(5)).total()), (0, 5));
        let most = usage(Some(u64::MAX), Some(1), Some(u64::MAX));
        assert_eq!((most.request(), most.total()), (u64::MAX, u64::MAX));
    }
}
