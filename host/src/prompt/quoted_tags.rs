//! Keeps an answer whole if it quotes the tags around reasoning.
//!
//! Templates of reasoning models cut an earlier answer at `</think>`, because reasoning comes before it. An answer that
//! only mentions the tag would lose text. So each quoted tag gets a character without meaning before rendering. The
//! character is removed from the prompt afterwards.

use serde_json::Value as Json;

use crate::markup::ReasoningTags;

/// Puts `veil` into tags that the assistant's messages quote.
pub fn hide(messages: &mut [Json], tags: &ReasoningTags, veil: char) {
    for message in messages.iter_mut().filter(|m| m["role"] == "assistant") {
        let reasoning = message["reasoning_content"].as_str();
        let has_reasoning = reasoning.is_some_and(|text| !text.is_empty());
        match &mut message["content"] {
            Json::String(text) => hide_in(text, tags, veil, has_reasoning),
            Json::Array(parts) => {
                for (index, part) in parts.iter_mut().enumerate() {
                    if let Some(Json::String(text)) = part.get_mut("text") {
                        hide_in(text, tags, veil, has_reasoning || index > 0);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Hides the tags in a text. Reasoning at its beginning stays as it is, unless the message has reasoning elsewhere.
fn hide_in(text: &mut String, tags: &ReasoningTags, veil: char, has_reasoning: bool) {
    let answer = match text.trim_start().starts_with(&tags.open) && !has_reasoning {
        true => text
            .find(&tags.close)
            .map_or(text.len(), |at| at + tags.close.len()),
        false => 0,
    };
    let mut hidden = text[..answer].to_owned();
    let mut quoted = text[answer..].to_owned();
    for tag in [&tags.open, &tags.close] {
        let mut characters = tag.chars();
        if let Some(first) = characters.next().filter(|_| quoted.contains(tag.as_str())) {
            quoted = quoted.replace(
                tag.as_str(),
                &format!("{first}{veil}{}", characters.as_str()),
            );
        }
    }
    hidden.push_str(&quoted);
    *text = hidden;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(mut message: Json, expected: impl Into<Json>) {
        hide(
            std::slice::from_mut(&mut message),
            &ReasoningTags::new("<think>", "</think>"),
            '·',
        );
        assert_eq!(message["content"], expected.into());
    }

    #[test]
    fn only_quoted_tags_are_hidden() {
        let assistant = |content: &str| json!({"role": "assistant", "content": content});
        check(assistant("a </think> b <think>"), "a <·/think> b <·think>");
        check(assistant(" <think>a</think>b"), " <think>a</think>b");
        check(
            assistant("<think>a</think>b </think>"),
            "<think>a</think>b <·/think>",
        );
        check(assistant("<think>a"), "<think>a");
        check(json!({"role": "user", "content": "</think>"}), "</think>");
        let apart =
            json!({"role": "assistant", "content": "<think>a</think>", "reasoning_content": "x"});
        check(apart, "<·think>a<·/think>");
        let parts =
            |text: &str| json!([{"type": "text", "text": text}, {"type": "image"}, "</think>"]);
        check(
            json!({"role": "assistant", "content": parts("</think>")}),
            parts("<·/think>"),
        );
    }
}
