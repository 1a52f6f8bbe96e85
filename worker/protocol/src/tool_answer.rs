//! What a tool of a foreign server gave, as text for the model. Pure; whoever shows it bounds it.
//!
//! Source: Model Context Protocol, `CallToolResult`.

use serde_json::Value;

/// Reads a result of `tools/call`.
///
/// # Errors
/// The same text, when the tool says that it failed.
pub fn read(result: &Value) -> Result<String, String> {
    let parts = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = parts.iter().map(part).collect::<Vec<_>>().join("\n");
    // Servers that answer in a structure are asked to repeat it as text; not all do.
    if text.trim().is_empty() && !result["structuredContent"].is_null() {
        text = result["structuredContent"].to_string();
    }
    if result["isError"].as_bool() == Some(true) { Err(text) } else { Ok(text) }
}

fn part(part: &Value) -> String {
    let word = |key: &str| part[key].as_str().unwrap_or("?");
    match part["type"].as_str() {
        Some("text") => word("text").to_owned(),
        Some(kind @ ("image" | "audio")) => {
            format!("[{kind}, {}, {} bytes of base64, not shown]", word("mimeType"), word("data").len())
        }
        Some("resource") => match part["resource"]["text"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("[{}, not text]", part["resource"]["uri"].as_str().unwrap_or("a resource")),
        },
        Some("resource_link") => format!("[{}: {}]", word("name"), word("uri")),
        Some(kind) => format!("[{kind}, not shown]"),
        None => "[something that cannot be shown]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_part_becomes_text() {
        let result = json!({"content": [
            {"type": "text", "text": "a"}, {"type": "image", "mimeType": "image/png", "data": "AAAA"},
            {"type": "resource", "resource": {"uri": "file:///x", "text": "b"}},
            {"type": "resource", "resource": {"uri": "file:///y", "blob": "AA"}},
            {"type": "resource_link", "name": "n", "uri": "u"}, {"type": "new"}, {"kind": "none"},
        ]});
        let expected = "a\n[image, image/png, 4 bytes of base64, not shown]\nb\n[file:///y, not text]\n[n: u]\n\
                        [new, not shown]\n[something that cannot be shown]";
        assert_eq!(read(&result).unwrap(), expected);
    }

    #[test]
    fn errors_structures_and_nonsense_are_told() {
        assert_eq!(read(&json!({"isError": true, "content": [{"type": "text", "text": "no"}]})).unwrap_err(), "no");
        assert_eq!(read(&json!({"content": [], "structuredContent": {"n": 1}})).unwrap(), "{\"n\":1}");
        assert_eq!(read(&json!(7)).unwrap(), "");
    }
}
