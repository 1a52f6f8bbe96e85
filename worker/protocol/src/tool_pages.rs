//! All that a server of tools lists, asked for page by page: of the coordinator's servers and of the programs inside a cage.

use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerResult};
use rmcp::service::Peer;
use rmcp::{RoleClient, ServiceError};

use crate::tool_list;
use crate::toolset::OfferedTool;

/// Tools of one server that are listened to.
const LISTED_MAX: usize = 2000;
/// Pages that a list may have.
const PAGES_MAX: usize = 50;

/// All tools of a server; what exceeds the bounds is left out.
///
/// # Errors
/// The library's, and [`ServiceError::UnexpectedResponse`] for what is no list.
pub async fn all(peer: &Peer<RoleClient>) -> Result<Vec<OfferedTool>, ServiceError> {
    let (mut offered, mut cursor) = (vec![], None);
    for _ in 0..PAGES_MAX {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ClientRequest::ListToolsRequest(ListToolsRequest {
            method: Default::default(),
            params: Some(page),
            extensions: Default::default(),
        });
        // A list that the library does not take for one may hold a single tool that is wrong.
        let page = match peer.send_request(request).await? {
            ServerResult::ListToolsResult(list) => serde_json::to_value(list).ok(),
            ServerResult::CustomResult(list) => Some(list.0),
            _ => None,
        };
        let page = page.as_ref().and_then(tool_list::read).ok_or(ServiceError::UnexpectedResponse)?;
        offered.extend(page.tools);
        cursor = page.next;
        if cursor.is_none() || offered.len() >= LISTED_MAX {
            break;
        }
    }
    offered.truncate(LISTED_MAX);
    Ok(offered)
}
