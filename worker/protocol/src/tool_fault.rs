//! Failures of the library that speaks with servers of tools, in words about the server: of the coordinator's servers and of the
//! programs inside a cage.

use rmcp::ServiceError;
use rmcp::service::ClientInitializeError;

use crate::causes::causes;

/// What became of a question, in words about the server: the library's are about its own parts.
pub fn of_call(error: &ServiceError) -> String {
    match error {
        ServiceError::McpError(error) => format!("it answers with error {}: {}", error.code.0, error.message),
        ServiceError::TransportClosed => "the connection is closed".to_owned(),
        ServiceError::TransportSend(error) => format!("it cannot be spoken with: {}", causes(&*error.error)),
        ServiceError::UnexpectedResponse => "what it answers is none to what it was asked".to_owned(),
        ServiceError::Cancelled { .. } => "the question was taken back".to_owned(),
        other => other.to_string(),
    }
}

/// The same of a beginning.
pub fn of_beginning(error: &ClientInitializeError) -> String {
    match error {
        ClientInitializeError::ConnectionClosed(_) => "it ended before it had answered".to_owned(),
        ClientInitializeError::TransportError { error, .. } => {
            format!("it cannot be spoken with: {}", causes(&*error.error))
        }
        ClientInitializeError::JsonRpcError(error) => {
            format!("it answers with error {}: {}", error.code.0, error.message)
        }
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => {
            "it speaks no version of the protocol that is known here".to_owned()
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => of_beginning(fallback),
        ClientInitializeError::ExpectedInitResponse(_)
        | ClientInitializeError::ExpectedInitResult(_)
        | ClientInitializeError::ConflictInitResponseId(..)
        | ClientInitializeError::UncorrelatedErrorResponse { .. } => {
            "it answers its greeting with something else".to_owned()
        }
        other => causes(other),
    }
}
