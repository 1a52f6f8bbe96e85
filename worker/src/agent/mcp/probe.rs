//! The first question to a server, `server/discover`, which is of the newest protocol only. The library waits ten seconds for an answer to
//! it before it greets the server in the older way, and a server that is silent about what it does not know would cost that each
//! time. Here it gets a shorter time; then the library is told that there is no such method.
//!
//! A server that merely takes long to start finds both questions. What it says to the first one then comes too late to be heard, but it
//! is noted that it was an answer: such a server can be asked anew, without haste.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    ClientRequest, DiscoverRequestMethod, ErrorData, JsonRpcError, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::service::TxJsonRpcMessage;
use rmcp::transport::Transport;
use tokio::time::{Instant, timeout_at};

/// The longest time that the first question may take.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// Of a server's time to start, the part that the first question may take.
const PROBE_PART: u32 = 4;

/// Whether a server did answer its first question, though too late; clones share it.
#[derive(Debug, Clone, Default)]
pub struct LateAnswer(Arc<AtomicBool>);

impl LateAnswer {
    /// It did, and not with an error: it speaks the newest protocol.
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A way to a server on which the first question does not take long.
#[derive(Debug)]
pub struct Probed<T> {
    inner: T,
    patience: Duration,
    probe: Probe,
    late: LateAnswer,
}

#[derive(Debug)]
enum Probe {
    /// Nothing of it is awaited.
    Settled,
    Asked {
        id: RequestId,
        until: Instant,
    },
    GivenUp {
        id: RequestId,
    },
}

impl<T> Probed<T> {
    /// A way to a server that is to have started within `limit`.
    pub fn new(inner: T, limit: Duration) -> Self {
        let patience = PROBE_MAX.min(limit / PROBE_PART);
        Probed { inner, patience, probe: Probe::Settled, late: LateAnswer::default() }
    }

    /// The same without haste: the first question may take as long as all others.
    pub fn patient(inner: T) -> Self {
        Probed { inner, patience: Duration::MAX, probe: Probe::Settled, late: LateAnswer::default() }
    }

    /// What is known of an answer that came too late.
    pub fn late(&self) -> LateAnswer {
        self.late.clone()
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Probed<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(asked) = &item
            && let ClientRequest::DiscoverRequest(_) = asked.request
            && let Some(until) = Instant::now().checked_add(self.patience)
        {
            self.probe = Probe::Asked { id: asked.id.clone(), until };
        }
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let message = match &self.probe {
                Probe::Asked { id, until } => match timeout_at(*until, self.inner.receive()).await {
                    Ok(message) => message?,
                    Err(_) => {
                        let id = id.clone();
                        self.probe = Probe::GivenUp { id: id.clone() };
                        let unknown = ErrorData::method_not_found::<DiscoverRequestMethod>();
                        return Some(JsonRpcMessage::Error(JsonRpcError::new(Some(id), unknown)));
                    }
                },
                Probe::GivenUp { .. } | Probe::Settled => self.inner.receive().await?,
            };
            let answered = match &message {
                JsonRpcMessage::Response(answer) => Some(&answer.id),
                JsonRpcMessage::Error(error) => error.id.as_ref(),
                JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
            };
            match &self.probe {
                // Some servers write the numbers that they were given as text.
                Probe::GivenUp { id } if answered.is_some_and(|answered| answered.to_string() == id.to_string()) => {
                    self.late.0.store(matches!(message, JsonRpcMessage::Response(_)), Ordering::Relaxed);
                    self.probe = Probe::Settled;
                }
                Probe::Asked { .. } if matches!(message, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)) => {
                    self.probe = Probe::Settled;
                    return Some(message);
                }
                _ => return Some(message),
            }
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}
