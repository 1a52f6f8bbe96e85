//! The tape beside the loop in which everything else waits: its files are read and written by threads of their own.

use std::sync::Arc;

use swarm_plans::InstanceId;

use super::tape::{Heard, Page, Question, Recorded, Refused, Said, Tape};
use super::{AskError, Broker, Caller};

impl Broker {
    /// Keeps an answer, where answers are kept.
    pub(super) async fn keep(&self, question: Question, heard: Heard) -> Result<(), AskError> {
        if !matches!(*self.tape, Tape::Record(_)) {
            return Ok(());
        }
        let tape = Arc::clone(&self.tape);
        let kept = move || match &*tape {
            Tape::Record(recorder) => recorder.keep(&question, heard).map_err(AskError::from),
            Tape::Off | Tape::Replay(_) => Ok(()),
        };
        tokio::task::spawn_blocking(kept).await.unwrap_or_else(|panic| Err(AskError::Machine(panic.to_string())))
    }

    /// Keeps that a question was refused, where answers are kept, and what its program is given for it. Where nobody was asked there is
    /// nothing to keep: whoever asks again finds out by itself.
    pub(super) async fn keep_refusal(
        &self,
        (caller, name): (&Caller, &str),
        question: Question,
        error: &AskError,
        page: Option<Page>,
    ) -> Result<(), AskError> {
        let AskError::Refused { model, failure } = error else { return Ok(()) };
        let asked = self.catalog.chain(name).into_iter().find(|endpoint| endpoint.name == *model);
        let Some(dialect) = asked.map(|endpoint| endpoint.dialect) else { return Ok(()) };
        let (instance, model, content_type) = (caller.instance.clone(), model.clone(), "application/json".to_owned());
        let said = Said::Refusal(Refused::new(failure, page));
        self.keep(question, Heard { instance, model, dialect, content_type, said }).await
    }

    /// The recorded answer to a question.
    pub(super) async fn play(&self, instance: InstanceId, question: Question) -> Result<Recorded, AskError> {
        let tape = Arc::clone(&self.tape);
        let played = move || match &*tape {
            Tape::Replay(player) => player.play(&instance, &question).map_err(AskError::from),
            Tape::Off | Tape::Record(_) => unreachable!("BUG: nothing is given again"),
        };
        tokio::task::spawn_blocking(played).await.unwrap_or_else(|panic| Err(AskError::Machine(panic.to_string())))
    }
}
