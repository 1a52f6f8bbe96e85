//! What a server of tools lists, read tool by tool: one that cannot be used costs itself, and no other. Pure.
//!
//! Source: Model Context Protocol, `ListToolsResult`.

use serde_json::Value;

use crate::toolset::OfferedTool;

/// One page of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Its tools, in the server's order. One whose schema is none has `null` there, and is not for use.
    pub tools: Vec<OfferedTool>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// Reads a result of `tools/list`; `None` where it holds no list.
pub fn read(result: &Value) -> Option<Page> {
    let tools = result["tools"].as_array()?.iter().map(tool).collect();
    Some(Page { tools, next: result["nextCursor"].as_str().map(str::to_owned) })
}

fn tool(tool: &Value) -> OfferedTool {
    let word = |key: &str| tool[key].as_str().unwrap_or_default().to_owned();
    // Nobody can call what has no name.
    let schema = tool["inputSchema"].clone();
    let is_usable = schema.is_object() && tool["name"].is_string();
    OfferedTool {
        name: word("name"),
        description: word("description"),
        schema: if is_usable { schema } else { Value::Null },
        reads_only: tool["annotations"]["readOnlyHint"].as_bool().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_that_cannot_be_used_costs_no_other() {
        let good = json!({"name": "a", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
        let bad =
            [json!({"name": "b", "inputSchema": "x"}), json!({"name": "c"}), json!({"inputSchema": {}}), json!(7)];
        let tools = [[good].as_slice(), &bad].concat();
        let page = read(&json!({"tools": tools, "nextCursor": "2"})).unwrap();
        let usable: Vec<(&str, bool)> =
            page.tools.iter().map(|tool| (tool.name.as_str(), tool.schema.is_object())).collect();
        assert_eq!(usable, [("a", true), ("b", false), ("c", false), ("", false), ("", false)]);
        assert_eq!((page.tools[0].reads_only, page.next.as_deref()), (true, Some("2")));
        assert_eq!(read(&json!({"tools": {}})), None);
    }
}
