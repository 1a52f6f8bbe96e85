//! A call of a tool of a foreign server: of the coordinator's servers and of the programs inside a cage. The library takes an answer
//! for one only when it knows every part of it; here one part that is not known costs itself, and no other.

use std::pin::pin;
use std::task::{Context, Waker};

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CancelledNotification, CancelledNotificationParam, ClientRequest,
    RequestId, ServerResult,
};
use rmcp::service::{Peer, PeerRequestOptions};
use rmcp::{RoleClient, ServiceError};
use serde_json::{Value, json};

/// What a server gives for a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// The tool's result, for [`tool_answer`](crate::tool_answer).
    Result(Value),
    /// A question of its own, or a promise.
    Otherwise,
}

/// Calls a tool once. Dropped before the answer is here, it tells the server that nobody waits for it.
///
/// # Errors
/// The library's, and [`ServiceError::UnexpectedResponse`] for what is no result.
pub async fn once(peer: &Peer<RoleClient>, call: CallToolRequestParams) -> Result<Given, ServiceError> {
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(call));
    let asked = peer.send_request_with_option(request, PeerRequestOptions::no_options()).await?;
    let mut waiting = Waiting { peer, id: Some(asked.id.clone()) };
    let answer = asked.await_response().await;
    waiting.id = None;
    read(answer?).ok_or(ServiceError::UnexpectedResponse)
}

fn read(answer: ServerResult) -> Option<Given> {
    match answer {
        ServerResult::CallToolResult(result) => serde_json::to_value(result).ok().map(Given::Result),
        ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_) => Some(Given::Otherwise),
        // A tool that has nothing to say.
        ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => Some(Given::Result(json!({}))),
        ServerResult::CustomResult(result) => {
            let is_result = ["content", "structuredContent", "isError"].iter().any(|key| result.0.get(key).is_some());
            is_result.then_some(Given::Result(result.0))
        }
        _ => None,
    }
}

/// A question whose answer is waited for.
struct Waiting<'a> {
    peer: &'a Peer<RoleClient>,
    /// `None` once the answer is here.
    id: Option<RequestId>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let reason = "nobody waits for it any longer".to_owned();
            let told = CancelledNotification::new(CancelledNotificationParam::new(Some(id), Some(reason)));
            // Looked at once it is on its way, where there is room for it; nobody waits until it has arrived.
            let sent = pin!(self.peer.send_notification(told.into()));
            let _ = sent.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool_answer;

    /// An answer as the library hears it.
    fn heard(answer: Value) -> Option<Given> {
        read(serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn a_part_that_is_not_known_costs_no_other() {
        let parts = json!([{"type": "text", "text": "T"}, {"type": "future", "z": 1}]);
        for answer in [json!({"content": parts}), json!({"content": parts, "resultType": "complete"})] {
            let Some(Given::Result(result)) = heard(answer.clone()) else { panic!("{answer}") };
            assert_eq!(tool_answer::read(&result).unwrap(), "T\n[future, not shown]");
        }
    }

    #[test]
    fn nothing_is_a_result_too_and_something_else_is_none() {
        for answer in [json!({}), json!({"content": null}), json!({"resultType": "complete"})] {
            let Some(Given::Result(result)) = heard(answer.clone()) else { panic!("{answer}") };
            assert_eq!(tool_answer::read(&result).unwrap(), "");
        }
        assert_eq!(heard(json!({"hello": 1})), None);
        assert_eq!(heard(json!({"tools": []})), None);
    }
}
