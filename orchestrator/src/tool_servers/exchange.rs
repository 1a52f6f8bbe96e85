//! One request to a server of tools and what comes of it, as the library wants it: whatever is answered to a request is its answer.
//!
//! A server that cannot tell, or does not say, which request it refuses (JSON-RPC lets it leave the id out) would be heard by nobody, and
//! the caller would wait until its time is over; one that has forgotten a session often says so like that, with status 400 instead
//! of the 404 that the protocol wants.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use reqwest::Client;
use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcError, RequestId, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;

/// The longest event of a server, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 << 20;

type Failure = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;
type Events = Pin<Box<dyn futures_core::Stream<Item = Result<Sse, SseError>> + Send>>;

/// Sends requests.
#[derive(Debug, Clone)]
pub struct Exchange(pub Client);

impl StreamableHttpClient for Exchange {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        self.post_message_with_max_sse_event_size(uri, message, session, token, headers, EVENT_BYTES_MAX).await
    }

    async fn post_message_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        headers: Headers,
        event_bytes_max: usize,
    ) -> Result<StreamableHttpPostResponse, Failure> {
        let (asked, has_session) = (asked(&message), session.is_some());
        let answer =
            self.0.post_message_with_max_sse_event_size(uri, message, session, token, headers, event_bytes_max).await?;
        settle(asked, has_session, answer)
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<(), Failure> {
        self.0.delete_session(uri, session, token, headers).await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
    ) -> Result<Events, Failure> {
        self.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, EVENT_BYTES_MAX).await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        token: Option<String>,
        headers: Headers,
        event_bytes_max: usize,
    ) -> Result<Events, Failure> {
        self.0.get_stream_with_max_sse_event_size(uri, session, last_event, token, headers, event_bytes_max).await
    }
}

fn asked(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

/// What an answer is to the request with the id `asked`.
fn settle(
    asked: Option<RequestId>,
    has_session: bool,
    answer: StreamableHttpPostResponse,
) -> Result<StreamableHttpPostResponse, Failure> {
    let (Some(asked), StreamableHttpPostResponse::Json(message, session)) = (asked, &answer) else { return Ok(answer) };
    match message {
        ServerJsonRpcMessage::Error(refused) if refused.id.as_ref() != Some(&asked) => {
            // A new session is begun, and the request, which nobody has taken, sent once more.
            if has_session && refused.error.message.to_lowercase().contains("session") {
                return Err(StreamableHttpError::SessionExpired);
            }
            let told = ServerJsonRpcMessage::Error(JsonRpcError::new(Some(asked), refused.error.clone()));
            Ok(StreamableHttpPostResponse::Json(told, session.clone()))
        }
        ServerJsonRpcMessage::Response(response) if response.id != asked => {
            Err(StreamableHttpError::UnexpectedServerResponse("it answers another request than it was sent".into()))
        }
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settled(has_session: bool, answer: &Value) -> Result<Value, String> {
        let message = serde_json::from_value(answer.clone()).unwrap();
        match settle(Some(RequestId::Number(7)), has_session, StreamableHttpPostResponse::Json(message, None)) {
            Ok(StreamableHttpPostResponse::Json(message, _)) => Ok(serde_json::to_value(message).unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn what_is_answered_to_a_request_is_its_answer() {
        let error = |id: Value, text: &str| {
            let error = json!({ "code": -32000, "message": text });
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        };
        for id in [json!(null), json!("server-error"), json!(8), json!(7)] {
            assert_eq!(settled(true, &error(id, "too busy")), Ok(error(json!(7), "too busy")));
        }
        let gone = "Bad Request: No valid session ID provided";
        assert_eq!(settled(false, &error(json!(null), gone)), Ok(error(json!(7), gone)), "it has none to begin anew");
        assert_eq!(settled(true, &error(json!(7), gone)), Ok(error(json!(7), gone)), "it knows what it refuses");
        assert!(settled(true, &error(json!(null), gone)).unwrap_err().contains("Session expired"));
        let result = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "result": {} });
        assert_eq!(settled(true, &result(7)), Ok(result(7)));
        assert!(settled(true, &result(8)).unwrap_err().contains("another request"));
    }
}
