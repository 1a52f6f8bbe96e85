//! The JSON Schema of plans, for editors: printed from the same table that the parser checks against.

use serde_json::{Value, json};

use crate::keys::{Key, Kind, PLAN, Since};

/// The schema of a plan.
pub fn schema() -> Value {
    let mut schema = table(PLAN);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("swarm plan");
    schema["required"] = json!(["version"]); // A file that is included has no tasks.
    schema
}

fn table(keys: &[Key]) -> Value {
    let property = |key: &Key| {
        let mut property = of(&key.kind);
        property["description"] = match key.since {
            Since::Now => json!(key.about),
            Since::Later => json!(format!("{} (Not supported yet.)", key.about)),
        };
        (key.name.to_owned(), property)
    };
    let properties: serde_json::Map<String, Value> = keys.iter().map(property).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn of(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Line | Kind::Inside => json!({ "type": "string", "minLength": 1 }),
        Kind::Name => json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$" }),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number(above, max) => json!({ "type": "number", "exclusiveMinimum": above, "maximum": max }),
        Kind::FromZero(max) => json!({ "type": "number", "minimum": 0, "maximum": max }),
        Kind::Model => {
            json!({ "type": "string", "pattern": "^([A-Za-z0-9_-]+|[a-z-]+/.+)$", "examples": ["main", "anthropic/claude-sonnet-4-5"] })
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Duration => {
            json!({ "type": "string", "pattern": "^\\s*([0-9.]+\\s*(d|h|m|s|ms|us)\\s*)+$", "examples": ["30m", "1h 30m"] })
        }
        Kind::Size(_) => {
            json!({ "type": "string", "pattern": "^\\s*[0-9.]+\\s*([KMGT]iB|[kMGT]B|B)\\s*$", "examples": ["4GiB"] })
        }
        Kind::Outside => json!({ "type": "string", "pattern": "^(/|~$|~/)" }),
        Kind::Host => json!({ "type": "string", "minLength": 1, "examples": ["example.org", "*.example.net:443"] }),
        Kind::Choice(words) => json!({ "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() }),
        Kind::List(kind) => json!({ "type": "array", "items": of(kind) }),
        Kind::Filled(kind) => json!({ "type": "array", "items": of(kind), "minItems": 1 }),
        Kind::Named(kind) => json!({ "type": "object", "additionalProperties": of(kind) }),
        Kind::Table(keys) => table(keys),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of).collect::<Vec<_>>() }),
        Kind::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_SCHEMA=1 cargo test -p swarm-plans schema` writes it anew.
    #[test]
    fn the_committed_schema_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/plan.schema.json");
        let fresh = format!("{:#}\n", schema());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &fresh).expect("the crate's folder is writable");
        }
        let committed = std::fs::read_to_string(path).expect("the schema is committed");
        assert!(committed == fresh, "plan.schema.json is stale: run UPDATE_SCHEMA=1 cargo test -p swarm-plans schema");
    }
}
