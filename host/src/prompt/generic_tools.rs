//! Puts tools, calls and results into words for models whose chat template does not support them.

use serde_json::{Value as Json, json};

use super::capabilities::TemplateCapabilities;
use super::jinja::json::{JsonLayout, dumps};
use super::render_request::RenderRequest;
use crate::markup::ToolFormat;

/// Rewrites what the template does not support. Tools become system text, tool calls become assistant text, and results
/// become user messages. If tools are put into words, calls and results are too, so that all have one format. Otherwise results
/// stay messages of the role `tool` if the model knows it, even if its template has no form for calls.
pub(super) fn put_tools_into_words(
    request: &mut RenderRequest,
    capabilities: &TemplateCapabilities,
) {
    let format = capabilities.tool_format;
    let tools = match capabilities.has_tools {
        true => Vec::new(),
        false => std::mem::take(&mut request.tools),
    };
    if !capabilities.has_calls || !tools.is_empty() {
        let messages = std::mem::take(&mut request.messages);
        let keeps_results = capabilities.has_results && tools.is_empty();
        request.messages = in_words(messages, format, keeps_results);
    }
    if !tools.is_empty() {
        introduce(
            &mut request.messages,
            description(&tools, format),
            capabilities,
        );
    }
}

fn in_words(messages: Vec<Json>, format: &ToolFormat, keeps_results: bool) -> Vec<Json> {
    let mut said = Vec::new();
    for mut message in messages {
        if message["role"] == "tool" && !keeps_results {
            push_result(&mut said, text_of(&message));
        } else {
            put_calls_into_words(&mut message, format);
            said.push(message);
        }
    }
    said
}

/// Adds a result. Several results become one message, because many templates require user and assistant to alternate.
fn push_result(messages: &mut Vec<Json>, result: &str) {
    let result = format!("<tool_response>\n{result}\n</tool_response>");
    match messages.last_mut() {
        Some(last) if last["role"] == "user" && text_of(last).ends_with("</tool_response>") => {
            last["content"] = format!("{}\n{result}", text_of(last)).into();
        }
        _ => messages.push(json!({"role": "user", "content": result})),
    }
}

fn put_calls_into_words(message: &mut Json, format: &ToolFormat) {
    let Some(Json::Array(calls)) = message
        .as_object_mut()
        .and_then(|m| m.shift_remove("tool_calls"))
    else {
        return;
    };
    let functions = calls.iter().map(|call| &call["function"]);
    let calls: Vec<_> = functions
        .map(|function| {
            (
                function["name"].as_str().unwrap_or_default(),
                compact(&function["arguments"]),
            )
        })
        .collect();
    let calls: Vec<_> = calls
        .iter()
        .map(|(name, arguments)| (*name, arguments.as_str()))
        .collect();
    let parts = [text_of(message), &format.write(&calls)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    message["content"] = parts.join("\n").into();
}

/// The text that tells the model about its tools and how to call them.
fn description(tools: &[Json], format: &ToolFormat) -> String {
    let tools: Vec<String> = tools.iter().map(compact).collect();
    let example = format.write(&[("NAME", r#"{"KEY": "VALUE"}"#)]);
    let example = example.replace("\"VALUE\"", "VALUE");
    format!(
        "You can call functions. These are the functions, each as a JSON object:\n<tools>\n{}\n</tools>\n\
         To call one, write its name and its arguments like this, and nothing else:\n{example}\n\
         Results come back as <tool_response>. If no function is of use, answer in plain words.",
        tools.join("\n")
    )
}

fn introduce(messages: &mut Vec<Json>, description: String, capabilities: &TemplateCapabilities) {
    let role = if capabilities.turns.system {
        "system"
    } else {
        "user"
    };
    match messages.first_mut() {
        Some(first) if first["role"] == role && first["content"].is_string() => {
            first["content"] = match role {
                "system" => format!("{}\n\n{description}", text_of(first)),
                _ => format!("{description}\n\n{}", text_of(first)),
            }
            .into();
        }
        _ => messages.insert(0, json!({"role": role, "content": description})),
    }
}

fn text_of(message: &Json) -> &str {
    message["content"].as_str().unwrap_or_default()
}

/// JSON on one line, as models write it. A string is taken for JSON text.
pub(super) fn compact(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        // The value is JSON, so only its length could be an error.
        value => dumps(value, &JsonLayout::new(None)).unwrap_or_else(|_| value.to_string()),
    }
}
