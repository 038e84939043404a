use serde_json::Value;

use super::super::checks::{Unsupported, supported};
use crate::{error::ApiError, text::quoted};

/// The known parameters that this server does not implement. Whoever implements one deletes its line.
///
/// Parameters that may be ignored by their definition are not listed: `metadata`, `cache_control`, `context_management`,
/// `diagnostics` …
const OF_REQUESTS: &[Unsupported] = &[
    ("container", &[], "leave it out"),
    ("mcp_servers", &["[]"], "send the servers' tools as 'tools'"),
    ("inference_geo", &[], "leave it out"),
    ("speed", &[r#""standard""#], "leave it out"),
    ("thread", &[], "send the whole conversation as 'messages'"),
    ("compaction", &[], "leave it out"),
    ("fallbacks", &["[]"], "leave it out"),
    ("output_format", &[], "send 'output_config.format'"),
];

const OF_OUTPUT_CONFIG: &[Unsupported] = &[("task_budget", &[], "leave it out")];

const OF_TOOLS: &[Unsupported] = &[
    ("defer_loading", &["false"], "send only tools to show"),
    ("allowed_callers", &[r#"["direct"]"#], "leave it out"),
    ("input_examples", &["[]"], "put them into the description"),
];

/// The types of blocks that [`ContentBlockParam`](crate::anthropic::ContentBlockParam) has.
const BLOCKS: [&str; 7] = [
    "text",
    "thinking",
    "redacted_thinking",
    "image",
    "document",
    "tool_use",
    "tool_result",
];

/// Refuses parameters, options, blocks and tools that this server does not implement.
pub fn check(fields: &Value) -> Result<(), ApiError> {
    supported(fields, OF_REQUESTS)?;
    supported(&fields["output_config"], OF_OUTPUT_CONFIG)?;
    list(&fields["messages"]).try_for_each(|(message, fields)| {
        list(&fields["content"]).try_for_each(|(block, fields)| {
            check_block(&format!("messages[{message}].content[{block}]"), fields)
        })
    })?;
    list(&fields["tools"]).try_for_each(|(index, tool)| check_tool(index, tool))
}

/// The numbered items of a list. A field of another type has none.
fn list(field: &Value) -> impl Iterator<Item = (usize, &Value)> {
    field.as_array().into_iter().flatten().enumerate()
}

/// Refuses blocks that only Anthropic's server reads.
fn check_block(place: &str, block: &Value) -> Result<(), ApiError> {
    match block["type"].as_str() {
        Some(kind) if !BLOCKS.contains(&kind) => {
            let kind = quoted(kind);
            let message = format!(
                "'{place}' is of type '{kind}', which this server does not take: send its text as a block of type 'text', or leave it out"
            );
            Err(ApiError::unsupported(place, message))
        }
        _ => Ok(()),
    }
}

/// Refuses tools that Anthropic's server runs, or whose schema only its models know.
fn check_tool(index: usize, tool: &Value) -> Result<(), ApiError> {
    match tool["type"].as_str() {
        None | Some("custom") => supported(tool, OF_TOOLS),
        Some(kind) => {
            let (param, kind) = (format!("tools[{index}]"), quoted(kind));
            let message = format!(
                "'{param}' is of type '{kind}', which this server does not have: send tools with an 'input_schema' only"
            );
            Err(ApiError::unsupported(param, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::anthropic::ContentBlockParam;

    #[test]
    fn the_known_blocks_are_those_that_can_be_read() {
        let unknown = serde_json::from_value::<ContentBlockParam>(json!({"type": "?"}));
        let error = unknown.unwrap_err().to_string();
        // The error names the unknown type, then all types.
        assert_eq!(error.matches('`').count() / 2, BLOCKS.len() + 1, "{error}");
        for kind in BLOCKS {
            assert!(error.contains(&format!("`{kind}`")), "{error}");
        }
    }

    #[test]
    fn values_that_ask_for_nothing_pass() {
        for fields in [
            json!({}),
            json!({"mcp_servers": [], "speed": "standard", "container": null}),
            json!({"metadata": {"user_id": "me"}, "context_management": {"edits": []}, "unknown": 1}),
            json!({"tools": [{"name": "f", "type": "custom", "defer_loading": false}, {"name": "g"}]}),
            json!({"output_config": {"effort": "high"}, "tools": null}),
            json!({"messages": [{"content": "Hi"}, {"content": BLOCKS.map(|kind| json!({"type": kind}))}]}),
        ] {
            assert!(check(&fields).is_ok(), "{fields}");
        }
    }

    #[test]
    fn all_others_are_refused_by_name() {
        for (fields, name) in [
            (json!({"speed": "fast"}), "'speed'"),
            (json!({"thread": {"id": "x"}}), "'thread'"),
            (
                json!({"tools": [{"defer_loading": true}]}),
                "'defer_loading'",
            ),
            (
                json!({"tools": [{}, {"type": "web_search_20250305"}]}),
                "'tools[1]'",
            ),
            (
                json!({"output_config": {"task_budget": {}}}),
                "'task_budget'",
            ),
            (
                json!({"messages": [{}, {"content": [{"type": "text"}, {"type": "server_tool_use"}]}]}),
                "'messages[1].content[1]' is of type 'server_tool_use'",
            ),
        ] {
            let error = check(&fields).unwrap_err().into_envelope().error;
            assert!(error.message.starts_with(name), "{}", error.message);
        }
    }
}
