//! All that a server of tools lists, asked for page by page: of the coordinator's servers and of the programs inside a cage.

use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerResult};
use rmcp::service::Peer;
use rmcp::{RoleClient, ServiceError};

use crate::tool_list::{self, Page};
use crate::toolset::OfferedTool;

/// Tools of one server that are listened to.
const LISTED_MAX: usize = 2000;
/// Pages that a list may have.
const PAGES_MAX: usize = 50;

/// What a server lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listed {
    /// Its tools, in its own order.
    pub tools: Vec<OfferedTool>,
    /// What of its list was not heard; for people.
    pub left_out: Option<String>,
}

/// All tools of a server; what exceeds the bounds is left out, which is said.
///
/// # Errors
/// The library's, and [`ServiceError::UnexpectedResponse`] for what is no list.
pub async fn all(peer: &Peer<RoleClient>) -> Result<Listed, ServiceError> {
    let mut list = List::default();
    loop {
        let page = PaginatedRequestParams::default().with_cursor(list.cursor().cloned());
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
        if let Some(listed) = list.hear(page) {
            return Ok(listed);
        }
    }
}

/// A list that is heard page by page.
#[derive(Debug, Default)]
struct List {
    tools: Vec<OfferedTool>,
    /// Where the pages behind the first begin; the last of them was not heard yet.
    cursors: Vec<String>,
}

impl List {
    /// Where the page begins that is to be heard next; `None` for the first.
    fn cursor(&self) -> Option<&String> {
        self.cursors.last()
    }

    /// Hears a page; gives all of them when there is no other to be heard.
    fn hear(&mut self, page: Page) -> Option<Listed> {
        self.tools.extend(page.tools);
        let left_out = match page.next {
            next if self.tools.len() > LISTED_MAX || (self.tools.len() == LISTED_MAX && next.is_some()) => {
                Some(format!("it lists more than {LISTED_MAX} tools: those behind them are left out"))
            }
            None => None,
            Some(next) if self.cursors.contains(&next) => {
                Some("its list goes round in circles: behind a page comes one that came before".to_owned())
            }
            Some(_) if self.cursors.len() + 1 == PAGES_MAX => {
                Some(format!("its list has more than {PAGES_MAX} pages: what stands behind them is left out"))
            }
            Some(next) => {
                self.cursors.push(next);
                return None;
            }
        };
        self.tools.truncate(LISTED_MAX);
        Some(Listed { tools: std::mem::take(&mut self.tools), left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left out, and after how many pages of so many tools the list was given up; `next` names what follows a page.
    fn heard(tools: usize, next: impl Fn(usize) -> Option<String>) -> (Option<String>, usize) {
        let tool = OfferedTool {
            name: "t".to_owned(),
            description: String::new(),
            schema: serde_json::json!({}),
            reads_only: false,
        };
        let mut list = List::default();
        let mut pages = (1..).map(|n| (n, list.hear(Page { tools: vec![tool.clone(); tools], next: next(n) })));
        let (n, listed) = pages.find_map(|(n, listed)| Some((n, listed?))).unwrap();
        assert_eq!(listed.tools.len(), (n * tools).min(LISTED_MAX));
        (listed.left_out, n)
    }

    #[test]
    fn what_is_left_out_of_a_list_is_said() {
        let (none, pages) = heard(3, |n| (n < 7).then(|| n.to_string()));
        assert_eq!((none, pages), (None, 7));
        let (why, pages) = heard(1, |n| Some(n.to_string()));
        assert!(why.unwrap().contains("more than 50 pages") && pages == 50);
        let (why, pages) = heard(1, |_| Some("same".to_owned()));
        assert!(why.unwrap().contains("circles") && pages == 2);
        let (why, pages) = heard(1500, |n| Some(n.to_string()));
        assert!(why.unwrap().contains("more than 2000 tools") && pages == 2);
        let (why, pages) = heard(LISTED_MAX, |_| None);
        assert_eq!((why, pages), (None, 1), "just as many as there may be");
    }
}
