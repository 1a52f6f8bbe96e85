//! What a program may ask of a provider beside an answer: nothing that the provider would fetch or run for it, since its cage
//! may reach nobody, and no answer that costs more than its budget sets aside. So all that a model reads stands in the request:
//! nothing that the provider keeps (conversations, caches, files of the account) is named in one.

use serde_json::{Map, Value};
use swarm_protocol::chat::Dialect;

type Fields = Map<String, Value>;

/// How many tokens a program wants at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Of one answer; `None` when it does not say.
    pub output: Option<u64>,
    /// Answers to one request.
    pub answers: u64,
}

/// What a request asks for in tokens.
///
/// # Errors
/// What it says of them is not one whole number, for people.
pub fn claim(dialect: Dialect, fields: &Fields) -> Result<Claim, String> {
    let places = places(dialect, fields)?;
    let (bounds, answers) = match dialect {
        Dialect::Gemini => (&["maxOutputTokens", "max_output_tokens"][..], &["candidateCount", "candidate_count"][..]),
        _ => (&["max_tokens", "max_completion_tokens", "max_output_tokens"][..], &["n", "best_of"][..]),
    };
    let output = places.map(|place| number(place, bounds)).transpose()?.flatten();
    let answers = places.map(|place| number(place, answers)).transpose()?.flatten();
    if let Some(tier) = fields.get("service_tier").filter(|tier| !tier.is_null())
        && !tier.as_str().is_some_and(|tier| SERVICE_TIERS.contains(&tier))
    {
        return Err(format!("service_tier {tier} has a price that is not known here; leave it out"));
    }
    Ok(Claim { output, answers: answers.unwrap_or(1).max(1) })
}

/// Whether a request has the provider keep a part of it for an hour, which costs more than the five minutes that are usual.
///
/// Source: Anthropic, "Prompt caching", `cache_control.ttl`.
pub fn keeps_for_an_hour(fields: &Fields) -> bool {
    fn any(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().any(any),
            Value::Object(map) => {
                let ttl = map.get("cache_control").and_then(|control| control.get("ttl"));
                ttl.is_some_and(|ttl| ttl != "5m") || map.values().any(any)
            }
            _ => false,
        }
    }
    fields.get("cache_control").and_then(|control| control.get("ttl")).is_some_and(|ttl| ttl != "5m")
        || fields.values().any(any)
}

/// Those that cost no more than the price that is known.
const SERVICE_TIERS: &[&str] = &["auto", "default", "flex", "standard_only"];

/// Where numbers of tokens stand; `None` where a request says none.
fn places(dialect: Dialect, fields: &Fields) -> Result<Option<&Fields>, String> {
    if dialect != Dialect::Gemini {
        return Ok(Some(fields));
    }
    match (fields.get("generationConfig"), fields.get("generation_config")) {
        (Some(_), Some(_)) => Err("it has two generation configs".to_owned()),
        (Some(config), None) | (None, Some(config)) => {
            config.as_object().map(Some).ok_or_else(|| "its generation config is no object".to_owned())
        }
        (None, None) => Ok(None),
    }
}

/// The one of `names` that is there.
fn number(fields: &Fields, names: &[&str]) -> Result<Option<u64>, String> {
    let mut said = names.iter().filter_map(|name| Some((name, fields.get(*name).filter(|value| !value.is_null())?)));
    let Some((name, value)) = said.next() else { return Ok(None) };
    if let Some((other, _)) = said.next() {
        return Err(format!("it says both {name} and {other}; say one"));
    }
    value.as_u64().map(Some).ok_or_else(|| format!("{name} has to be a whole number, not {value}"))
}

/// Others than the model that is paid for, stored prompts with tools of their own, searches under the names that compatible hosts
/// have for them (OpenAI, DashScope, xAI, and those that follow them), containers, work that goes on when nobody listens.
const TAKEN_OUT: &[&str] = &[
    "models",
    "route",
    "plugins",
    "prompt",
    "web_search_options",
    "enable_search",
    "search_options",
    "search_parameters",
    "web_search",
    "enable_web_search",
    "container",
    "background",
];

/// Takes out of a request what the provider itself would run or look up: web searches, code, other servers' tools.
///
/// # Errors
/// It cannot be answered without what would be fetched, for people.
pub fn keep_at_home(dialect: Dialect, fields: &mut Fields) -> Result<(), String> {
    for name in ["mcp_servers", "mcpServers"] {
        if fields.contains_key(name) {
            return Err(format!(
                "{name}: a provider calls no server for a task; name it under [servers.NAME] of the plan"
            ));
        }
    }
    if let Some(name) = KEPT_THERE.iter().find(|name| fields.get(**name).is_some_and(|value| !value.is_null())) {
        return Err(format!(
            "{name}: what the provider keeps is not counted here; send the whole conversation instead"
        ));
    }
    if let Some(other) = other_than_text(dialect, fields) {
        return Err(format!(
            "{other}: only text is answered here, since the price of nothing else is known; leave it out"
        ));
    }
    TAKEN_OUT.iter().for_each(|name| drop(fields.remove(*name)));
    if let Some(tools) = fields.get_mut("tools") {
        keep_own_tools(dialect, tools);
        if tools.as_array().is_none_or(Vec::is_empty) {
            fields.remove("tools");
            fields.remove("tool_choice");
        }
    }
    let said = ["messages", "input", "contents", "system", "systemInstruction", "system_instruction"];
    match said.iter().filter_map(|name| fields.get(*name)).find_map(fetched) {
        Some(place) => Err(format!("it has the provider fetch {place}; send what is there instead")),
        None => Ok(()),
    }
}

/// Has a provider keep nothing of an answer beyond it. OpenAI keeps Responses unless it is told not to, and completions of newer
/// accounts, too; other servers may refuse a field that they do not know, and are sent it only where a program says it. What
/// thinking means comes along encrypted then, since nothing of it lies there.
///
/// Source: OpenAI, "Migrate to the Responses API", stateful context.
pub fn store_nothing(base_url: &str, dialect: Dialect, fields: &mut Fields) {
    const ENCRYPTED: &str = "reasoning.encrypted_content";
    let is_openai = || is_openai(base_url);
    match dialect {
        Dialect::OpenaiResponses => {
            fields.insert("store".to_owned(), false.into());
            let include = fields.entry("include").or_insert_with(|| Value::Array(vec![]));
            if include.is_null() {
                *include = Value::Array(vec![]);
            }
            if let Value::Array(all) = include
                && !all.iter().any(|one| one == ENCRYPTED)
            {
                all.push(ENCRYPTED.into());
            }
        }
        Dialect::OpenaiChat if fields.contains_key("store") || is_openai() => {
            fields.insert("store".to_owned(), false.into());
        }
        _ => {}
    }
}

/// Whether a host is known to keep completions and to take the field that forbids it: OpenAI's own, and Azure's.
fn is_openai(base_url: &str) -> bool {
    let host = base_url.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
    host == "api.openai.com" || host.ends_with(".api.openai.com") || host.ends_with(".openai.azure.com")
}

/// What an answer is to hold beside text, as its request says it: sound, pictures.
fn other_than_text(dialect: Dialect, fields: &Fields) -> Option<String> {
    let is_text = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("text"));
    let kinds = |key: &str, kinds: &Value| {
        let other = kinds.as_array()?.iter().find(|kind| !is_text(kind))?;
        Some(format!("{key} {other}"))
    };
    let config = ["generationConfig", "generation_config"].into_iter().find_map(|key| fields.get(key)?.as_object());
    let (place, keys, own) = match dialect {
        Dialect::Gemini => (config?, ["responseModalities", "response_modalities"], ["speechConfig", "speech_config"]),
        _ => (fields, ["modalities", "output_modalities"], ["audio", "voice"]),
    };
    let own = || own.into_iter().find(|key| place.get(*key).is_some_and(|value| !value.is_null())).map(str::to_owned);
    keys.into_iter().find_map(|key| kinds(key, place.get(key)?)).or_else(own)
}

/// Fields that name what a provider keeps: tokens that are paid for and stand in no request.
const KEPT_THERE: &[&str] = &["previous_response_id", "conversation", "cachedContent", "cached_content"];

fn keep_own_tools(dialect: Dialect, tools: &mut Value) {
    let Value::Array(all) = tools else { return *tools = Value::Null };
    if dialect == Dialect::Gemini {
        all.iter_mut().filter_map(Value::as_object_mut).for_each(|tool| {
            tool.retain(|name, _| name == "functionDeclarations" || name == "function_declarations");
        });
        return all.retain(|tool| tool.as_object().is_some_and(|tool| !tool.is_empty()));
    }
    all.retain(|tool| is_own(dialect, tool));
    for nested in all.iter_mut().filter_map(|tool| tool.get_mut("tools")) {
        keep_own_tools(dialect, nested);
    }
}

/// Whether the program itself runs a tool. Kinds that are not known are the provider's.
fn is_own(dialect: Dialect, tool: &Value) -> bool {
    let kind = match tool.get("type") {
        None | Some(Value::Null) => return dialect == Dialect::Anthropic,
        Some(kind) => kind.as_str().unwrap_or_default(),
    };
    match dialect {
        Dialect::Anthropic => {
            let prefixes = ["bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_"];
            kind == "custom" || prefixes.iter().any(|prefix| kind.starts_with(prefix))
        }
        Dialect::OpenaiResponses => ["function", "custom", "namespace", "local_shell", "apply_patch"].contains(&kind),
        _ => ["function", "custom"].contains(&kind),
    }
}

/// The first place of another machine, or thing that the provider keeps, that a part of a conversation names to it.
fn fetched(part: &Value) -> Option<&str> {
    let is_far = |url: &&str| !url.trim_start().to_ascii_lowercase().starts_with("data:");
    match part {
        Value::Array(all) => all.iter().find_map(fetched),
        Value::Object(map) => {
            let text = |name: &str| map.get(name).and_then(Value::as_str);
            let of = |name: &str, inner: &str| map.get(name)?.get(inner)?.as_str();
            let kind = text("type").unwrap_or_default();
            let named = match kind {
                // What a program's own tool is called with is the program's.
                "tool_use" | "function_call" | "custom_tool_call" => return None,
                "image" | "document" | "container_upload" => of("source", "url"),
                "image_url" => text("image_url").or(of("image_url", "url")),
                "input_image" => text("image_url"),
                "input_file" => text("file_url"),
                _ => of("fileData", "fileUri").or(of("file_data", "file_uri")).or(of("fileData", "file_uri")),
            };
            let kept = match kind {
                "image" | "document" => of("source", "file_id"),
                "container_upload" | "input_image" | "input_file" => text("file_id"),
                "file" => of("file", "file_id"),
                "item_reference" => text("id"),
                _ => None,
            };
            named.filter(is_far).or(kept).or_else(|| {
                map.iter().filter(|(name, _)| *name != "functionCall").find_map(|(_, inner)| fetched(inner))
            })
        }
        _ => None,
    }
}

/// Headers of a request for its provider: of what they ask for beside the body, only what costs no more and reaches no further.
pub fn headers(said: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let passed = |(name, value): (String, Vec<u8>)| match name.as_str() {
        "anthropic-beta" => betas(&value).map(|value| (name, value)),
        _ => Some((name, value)),
    };
    said.into_iter().filter_map(passed).collect()
}

/// What Anthropic's `anthropic-beta` may say, without its date: nothing that costs more than the price that is known (contexts
/// of a million tokens, caches of an hour, fast answers), and nothing that the provider keeps, fetches or runs.
const BETAS: [&str; 18] = [
    "adaptive-thinking",
    "advanced-tool-use",
    "claude-code",
    "computer-use",
    "context-management",
    "effort",
    "fine-grained-tool-streaming",
    "interleaved-thinking",
    "max-tokens-3-5-sonnet",
    "model-context-window-exceeded",
    "output-128k",
    "pdfs",
    "prompt-caching",
    "redact-thinking",
    "structured-outputs",
    "token-efficient-tools",
    "tool-examples",
    "tool-search-tool",
];

/// The words of an `anthropic-beta` that pass; `None` where none does.
fn betas(value: &[u8]) -> Option<Vec<u8>> {
    let words = std::str::from_utf8(value).ok()?.split(',').map(str::trim);
    let passes = |word: &&str| {
        let name = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
        BETAS.contains(&name)
    };
    let kept: Vec<&str> = words.filter(passes).collect();
    (!kept.is_empty()).then(|| kept.join(",").into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_claimed_is_one_whole_number_times_the_answers() {
        let claimed = |dialect, value| claim(dialect, &fields(value)).map(|claim| (claim.output, claim.answers));
        let chat = |value| claimed(Dialect::OpenaiChat, value);
        assert_eq!(chat(json!({})), Ok((None, 1)));
        assert_eq!(chat(json!({"max_completion_tokens": 10, "n": 128})), Ok((Some(10), 128)));
        for bad in [
            json!({"max_tokens": 10.0}),
            json!({"max_tokens": -1}),
            json!({"max_tokens": "9"}),
            json!({"max_tokens": 10, "max_output_tokens": 1}),
            json!({"n": 1.5}),
            json!({"service_tier": "priority"}),
        ] {
            assert!(chat(bad.clone()).is_err(), "{bad}");
        }
        let gemini = |value| claimed(Dialect::Gemini, value);
        assert_eq!(
            gemini(json!({"generation_config": {"max_output_tokens": 5, "candidateCount": 2}})),
            Ok((Some(5), 2))
        );
        assert!(gemini(json!({"generationConfig": {}, "generation_config": {}})).is_err());
        assert!(gemini(json!({"generationConfig": {"maxOutputTokens": 5, "max_output_tokens": 1}})).is_err());
    }

    #[test]
    fn tools_of_the_provider_are_taken_out_and_the_programs_stay() {
        let kept = |dialect, tools| {
            let mut asked = fields(json!({"tools": tools, "tool_choice": "auto"}));
            keep_at_home(dialect, &mut asked).unwrap();
            Value::Object(asked)
        };
        let nested = json!({"type": "namespace", "tools": [{"type": "function"}, {"type": "web_search"}]});
        let all =
            json!([{"type": "function"}, {"type": "web_search"}, {"type": "mcp", "server_url": "https://x"}, nested]);
        let left = json!([{"type": "function"}, {"type": "namespace", "tools": [{"type": "function"}]}]);
        assert_eq!(kept(Dialect::OpenaiResponses, all)["tools"], left);
        let all = json!([{"name": "Bash"}, {"type": "web_fetch_20250910"}, {"type": "bash_20250124"}, {"type": 7}]);
        assert_eq!(kept(Dialect::Anthropic, all)["tools"], json!([{"name": "Bash"}, {"type": "bash_20250124"}]));
        let all = json!([{"googleSearch": {}}, {"functionDeclarations": [], "urlContext": {}}]);
        assert_eq!(kept(Dialect::Gemini, all)["tools"], json!([{"functionDeclarations": []}]));
        assert_eq!(kept(Dialect::OpenaiChat, json!([{"type": "web_search"}])), json!({}));
    }

    #[test]
    fn searches_of_compatible_hosts_and_work_that_goes_on_are_taken_out() {
        for name in ["enable_search", "search_parameters", "web_search", "web_search_options", "background", "plugins"]
        {
            for dialect in [Dialect::OpenaiChat, Dialect::OpenaiResponses] {
                let mut asked = fields(json!({"model": "m", name: true}));
                assert_eq!(keep_at_home(dialect, &mut asked), Ok(()), "{name}");
                assert_eq!(Value::Object(asked), json!({"model": "m"}), "{name}");
            }
        }
    }

    #[test]
    fn what_a_provider_would_fetch_is_refused_and_what_a_tool_is_called_with_is_not() {
        let goes = |dialect, value| keep_at_home(dialect, &mut fields(value)).is_ok();
        let said = |content: Value| json!({"messages": [{"role": "user", "content": [content]}]});
        let anthropic = |content| goes(Dialect::Anthropic, said(content));
        assert!(!anthropic(json!({"type": "image", "source": {"type": "url", "url": "https://x/?d=1"}})));
        assert!(!anthropic(
            json!({"type": "tool_result", "content": [{"type": "document", "source": {"url": "http://x"}}]})
        ));
        assert!(anthropic(json!({"type": "tool_use", "name": "WebFetch", "input": {"url": "https://x"}})));
        assert!(anthropic(json!({"type": "image", "source": {"type": "base64", "data": "aa"}})));
        let chat = |url: &str| goes(Dialect::OpenaiChat, said(json!({"type": "image_url", "image_url": {"url": url}})));
        assert!(!chat("https://x") && chat("data:image/png;base64,aa"));
        let input =
            |part: Value| goes(Dialect::OpenaiResponses, json!({"input": [{"role": "user", "content": [part]}]}));
        assert!(!input(json!({"type": "input_image", "image_url": "https://x"})));
        assert!(!input(json!({"type": "input_file", "file_url": "https://x"})));
        assert!(!goes(Dialect::Gemini, json!({"contents": [{"parts": [{"fileData": {"fileUri": "https://x"}}]}]})));
        assert!(!goes(Dialect::Anthropic, json!({"mcp_servers": []})));
    }

    #[test]
    fn nothing_but_text_is_asked_for() {
        let said = |dialect, value| keep_at_home(dialect, &mut fields(value)).err().unwrap_or_default();
        let sound = said(Dialect::OpenaiChat, json!({"modalities": ["text", "audio"], "audio": {"voice": "x"}}));
        assert!(sound.starts_with("modalities \"audio\": only text is answered here"), "{sound}");
        assert!(said(Dialect::OpenaiChat, json!({"audio": {"voice": "x"}})).starts_with("audio: "));
        let picture = json!({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}});
        assert!(said(Dialect::Gemini, picture).starts_with("responseModalities \"IMAGE\": "));
        for plain in [json!({"modalities": ["text"], "audio": null}), json!({"modalities": null}), json!({})] {
            assert_eq!(said(Dialect::OpenaiChat, plain.clone()), "", "{plain}");
        }
        assert_eq!(said(Dialect::Gemini, json!({"generationConfig": {"responseModalities": ["TEXT"]}})), "");
    }

    #[test]
    fn no_provider_keeps_an_answer() {
        let sent = |base_url: &str, dialect, value| {
            let mut fields = fields(value);
            store_nothing(base_url, dialect, &mut fields);
            Value::Object(fields)
        };
        let (openai, local) = ("https://api.openai.com/v1", "http://localhost:8080/v1");
        let kept = json!({"store": false, "include": ["reasoning.encrypted_content"]});
        for said in [json!({}), json!({"store": true, "include": null}), kept.clone()] {
            assert_eq!(sent(openai, Dialect::OpenaiResponses, said), kept);
        }
        assert_eq!(sent(openai, Dialect::OpenaiChat, json!({})), json!({"store": false}));
        assert_eq!(sent(local, Dialect::OpenaiChat, json!({"store": true})), json!({"store": false}));
        for host in ["https://api.openai.com", "https://eu.api.openai.com/v1", "https://x.openai.azure.com/openai/v1"] {
            assert_eq!(sent(host, Dialect::OpenaiChat, json!({})), json!({"store": false}), "{host}");
        }
        for host in ["https://api.openai.com.example.org/v1", "https://openrouter.ai/api/v1"] {
            assert_eq!(sent(host, Dialect::OpenaiChat, json!({})), json!({}), "{host}");
        }
        for dialect in [Dialect::OpenaiChat, Dialect::Anthropic, Dialect::Gemini] {
            assert_eq!(sent(local, dialect, json!({})), json!({}));
        }
    }

    #[test]
    fn what_a_provider_keeps_is_named_in_no_request() {
        let goes = |dialect, value| keep_at_home(dialect, &mut fields(value)).is_ok();
        for name in KEPT_THERE {
            assert!(
                !goes(Dialect::OpenaiResponses, json!({*name: "x"})) && goes(Dialect::Gemini, json!({*name: null}))
            );
        }
        let said = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
        let asked = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
        let file = json!({"type": "document", "source": {"type": "file", "file_id": "f"}});
        assert!(!goes(Dialect::Anthropic, said(file)));
        assert!(!goes(Dialect::Anthropic, said(json!({"type": "container_upload", "file_id": "f"}))));
        assert!(!goes(Dialect::OpenaiChat, said(json!({"type": "file", "file": {"file_id": "f"}}))));
        assert!(
            goes(Dialect::OpenaiChat, said(json!({"type": "file", "file": {"file_data": "data:x"}}))),
            "the control"
        );
        assert!(!goes(Dialect::OpenaiResponses, asked(json!({"type": "input_file", "file_id": "f"}))));
        assert!(!goes(Dialect::OpenaiResponses, asked(json!({"type": "input_image", "file_id": "f"}))));
        assert!(!goes(Dialect::OpenaiResponses, json!({"input": [{"type": "item_reference", "id": "m"}]})));
        let call = json!({"type": "tool_use", "name": "x", "input": {"file_id": "f"}});
        assert!(goes(Dialect::Anthropic, said(call)), "what a program's own tool is called with");
    }

    #[test]
    fn betas_that_cost_more_or_reach_further_do_not_pass() {
        let check = |said: &str, passed: Option<&str>| {
            assert_eq!(betas(said.as_bytes()).as_deref(), passed.map(str::as_bytes), "{said}");
        };
        check(
            "claude-code-20250219, context-1m-2025-08-07,interleaved-thinking-2025-05-14",
            Some("claude-code-20250219,interleaved-thinking-2025-05-14"),
        );
        for one in
            ["files-api-2025-04-14", "extended-cache-ttl-2025-04-11", "fast-mode-2026-02-01", "mcp-client-2025-11-20"]
        {
            check(one, None);
        }
        check("prompt-caching-2024-07-31", Some("prompt-caching-2024-07-31"));
    }
}
