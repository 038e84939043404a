//! Rewrites requests so that they fit the capabilities of a chat template.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::capabilities::{ReasoningField, TemplateCapabilities};
use super::generic_tools::{compact, put_tools_into_words};
use super::render_request::RenderRequest;
use super::turns::Note;
use crate::markup::CallIds;

impl TemplateCapabilities {
    /// Rewrites a request so that the template understands it. Adds to `notes` what was changed in the messages.
    pub fn adapt(&self, request: &RenderRequest, notes: &mut Vec<Note>) -> RenderRequest {
        let mut request = request.clone();
        for message in &mut request.messages {
            self.adapt_message(message);
        }
        if self.tool_format.ids == CallIds::Numbered {
            number_ids(&mut request.messages);
        }
        request.messages = self.turns.lead(request.messages, notes);
        put_tools_into_words(&mut request, self);
        request.messages = self.turns.follow(request.messages, notes);
        if self.wants_parts {
            request.messages.iter_mut().for_each(split_content);
        }
        request
    }

    fn adapt_message(&self, message: &mut Json) {
        if message["role"] == "developer" && !self.has_developer {
            message["role"] = json!("system");
        }
        if let Some(content) = message.get_mut("content") {
            join_text_parts(content);
        }
        let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut);
        let has_calls = calls.is_some();
        for call in calls.into_iter().flatten() {
            self.adapt_call(call);
        }
        if self.reasoning != ReasoningField::ReasoningContent {
            self.adapt_reasoning(message, has_calls);
        }
        // Templates concatenate text, and null is not text.
        if message["content"].is_null() && !(has_calls && self.has_null_content) {
            message["content"] = json!("");
        }
        if self.tool_format.ids == CallIds::Short
            && let Some(id) = message.get_mut("tool_call_id")
        {
            shorten(id);
        }
    }

    /// Moves reasoning to the field that the template reads. Where the template takes either reasoning or text before calls, both are
    /// joined.
    fn adapt_reasoning(&self, message: &mut Json, has_calls: bool) {
        let of = |key: &str| message[key].as_str().filter(|text| !text.is_empty());
        let Some(reasoning) = of("thinking").or(of("reasoning_content")) else {
            return;
        };
        let beside =
            of("content").filter(|_| has_calls && self.reasoning == ReasoningField::ThinkingOrText);
        let thinking = match beside {
            Some(text) => format!("{reasoning}\n\n{text}"),
            None => reasoning.to_owned(),
        };
        if beside.is_some() {
            message["content"] = json!("");
        }
        message["thinking"] = thinking.into();
    }

    fn adapt_call(&self, call: &mut Json) {
        let arguments = &mut call["function"]["arguments"];
        match arguments {
            // Arguments that are not JSON stay as they are: a model may have written them.
            Json::String(text) if self.wants_parsed_arguments => match text.trim() {
                "" => *arguments = json!({}),
                text => *arguments = serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            },
            Json::Null => *arguments = json!({}),
            _ => {}
        }
        if !self.wants_parsed_arguments && !arguments.is_string() {
            *arguments = compact(arguments).into();
        }
        if self.tool_format.ids == CallIds::Short
            && let Some(id) = call.get_mut("id")
        {
            shorten(id);
        }
    }
}

/// Joins text parts by newlines to one string, as vLLM does, because most templates take only strings.
fn join_text_parts(content: &mut Json) {
    let text_of = |part: &Json| match part["type"].as_str() {
        Some("text") => part["text"].as_str().map(str::to_owned),
        _ => None,
    };
    if let Some(texts) = content
        .as_array()
        .and_then(|parts| parts.iter().map(text_of).collect::<Option<Vec<_>>>())
    {
        *content = texts.join("\n").into();
    }
}

fn split_content(message: &mut Json) {
    if let Some(Json::String(text)) = message.get("content") {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
}

/// Makes an id of 9 characters: Mistral's templates refuse others. Keeps the end, which differs most between ids.
fn shorten(id: &mut Json) {
    const LENGTH: usize = 9;
    let Some(text) = id.as_str() else { return };
    let letters: Vec<char> = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let last: String = letters[letters.len().saturating_sub(LENGTH)..]
        .iter()
        .collect();
    *id = format!("{last:0>LENGTH$}").into();
}

/// Gives the calls of a conversation ids with their functions' names and numbers, and the results the ids of their calls.
fn number_ids(messages: &mut [Json]) {
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut count = 0;
    for message in messages {
        let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut);
        for call in calls.into_iter().flatten() {
            let name = call["function"]["name"].as_str().unwrap_or_default();
            let id = format!("functions.{name}:{count}");
            count += 1;
            let earlier = call["id"].as_str().unwrap_or(&id).to_owned();
            ids.insert(earlier, id.clone());
            call["id"] = id.into();
        }
        let result = message.get_mut("tool_call_id");
        if let Some(id) = result
            && let Some(known) = id.as_str().and_then(|id| ids.get(id))
        {
            *id = known.clone().into();
        }
    }
}
