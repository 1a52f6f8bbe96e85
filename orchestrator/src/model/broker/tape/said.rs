//! What a recording says: an answer, or that there was none and why. A refusal is kept as whoever asked heard it, behind all tries
//! and fallbacks: what it was made of on the way is not asked again.

use serde::{Deserialize, Serialize};

use crate::model::broker::AskError;
use crate::model::failure::{Class, Failure};

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The bytes of an answer, without any key.
    Answer(Vec<u8>),
    /// Nobody answered.
    Refusal(Refused),
}

/// Why nobody answered, without any key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// In the provider's words.
    why: String,
    /// Whether a shorter conversation may be answered: an agent goes on from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_too_long: bool,
    /// What a program was given, where its provider said it over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<Page>,
}

/// A refusal as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Page {
    /// The status of HTTP.
    pub status: u16,
    /// The body; what is no text in it is replaced.
    pub body: String,
}

impl Refused {
    /// From why a model did not answer, and what a program is given for it.
    pub fn new(failure: &Failure, page: Option<Page>) -> Self {
        Refused { why: failure.message.clone(), is_too_long: failure.class == Class::TooLong, page }
    }

    /// The same once more, of a model `provider/model`, and what a program is given for it.
    pub fn again(self, model: String) -> (AskError, Option<Page>) {
        let class = if self.is_too_long { Class::TooLong } else { Class::NotHere };
        (AskError::Refused { model, failure: Failure { class, message: self.why } }, self.page)
    }
}
