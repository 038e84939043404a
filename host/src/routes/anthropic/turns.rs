use crate::{
    anthropic::{Content, ContentBlockParam, MessageParam, Role, TextBlockParam, ToolResult},
    conversation::{self, Call, Message},
    error::ApiError,
    text::quoted,
};

/// The text before the result of a tool that failed. Chat templates have no other way to say so.
const FAILED: &str = "Error:";

/// Converts the instructions of a conversation.
pub fn say_system(system: Content<TextBlockParam>) -> Result<Message, ApiError> {
    let texts = texts("system", system)?;
    Ok(Message::new(
        conversation::Role::System,
        Some(content(texts)),
    ))
}

/// Converts a message. The results of tools become messages of their own, before the user's text beside
/// them.
pub fn say(index: usize, message: MessageParam) -> Result<Vec<Message>, ApiError> {
    let blocks = match message.content {
        Content::Text(text) => vec![ContentBlockParam::Text { text }],
        Content::Blocks(blocks) => blocks,
    };
    let mut turn = Turn::default();
    for (block, content) in blocks.into_iter().enumerate() {
        let place = format!("messages[{index}].content[{block}]");
        turn.add(message.role, &place, content)?;
    }
    Ok(turn.say(message.role))
}

/// The blocks of a message, by kind.
#[derive(Default)]
struct Turn {
    texts: Vec<String>,
    reasoning: String,
    calls: Vec<Call>,
    /// Messages with the results of tools.
    results: Vec<Message>,
}

impl Turn {
    fn add(&mut self, role: Role, place: &str, block: ContentBlockParam) -> Result<(), ApiError> {
        use ContentBlockParam as Block;
        match (role, block) {
            (_, Block::Text { text }) => self.texts.push(text),
            (Role::Assistant, Block::Thinking { thinking, .. }) => self.reasoning += &thinking,
            (Role::Assistant, Block::ToolUse { id, name, input }) => {
                self.calls.push(Call {
                    id: Some(id),
                    name,
                    arguments: input.into(),
                });
            }
            (Role::User, Block::ToolResult(result)) => {
                self.results.push(say_result(place, result)?)
            }
            (Role::Assistant, Block::RedactedThinking) => {}
            (_, Block::Image) => return Err(no_text(place, "image")),
            (_, Block::Document) => return Err(no_text(place, "document")),
            (_, Block::ToolResult(_)) => return Err(misplaced(place, "tool_result", "user")),
            (_, Block::ToolUse { .. }) => return Err(misplaced(place, "tool_use", "assistant")),
            (_, Block::Thinking { .. }) => return Err(misplaced(place, "thinking", "assistant")),
            (_, Block::RedactedThinking) => {
                return Err(misplaced(place, "redacted_thinking", "assistant"));
            }
        }
        Ok(())
    }

    fn say(self, role: Role) -> Vec<Message> {
        let mut said = self.results;
        if !said.is_empty() && self.texts.is_empty() {
            return said;
        }
        let has_text = !self.texts.is_empty() || self.calls.is_empty();
        let content = has_text.then(|| content(self.texts));
        said.push(Message {
            calls: self.calls,
            reasoning: Some(self.reasoning).filter(|reasoning| !reasoning.is_empty()),
            ..Message::new(read_role(role), content)
        });
        said
    }
}

fn read_role(role: Role) -> conversation::Role {
    match role {
        Role::User => conversation::Role::User,
        Role::Assistant => conversation::Role::Assistant,
        Role::System => conversation::Role::System,
    }
}

fn say_result(place: &str, result: ToolResult) -> Result<Message, ApiError> {
    let said = result.content.unwrap_or(Content::Blocks(Vec::new()));
    let mut texts = texts(&format!("{place}.content"), said)?;
    if result.is_error == Some(true) {
        texts.insert(0, FAILED.to_owned());
    }
    Ok(Message {
        call_id: Some(result.tool_use_id),
        ..Message::new(conversation::Role::Tool, Some(content(texts)))
    })
}

fn misplaced(place: &str, kind: &str, role: &str) -> ApiError {
    let message =
        format!("'{place}' is of type '{kind}', which only messages of the role '{role}' may have");
    ApiError::invalid_parameter(place, message)
}

fn no_text(place: &str, kind: &str) -> ApiError {
    let message = format!("'{place}' is of type '{kind}', but this model takes text only");
    ApiError::unsupported(place, message)
}

/// The texts of a content that has nothing else.
fn texts(place: &str, content: Content<TextBlockParam>) -> Result<Vec<String>, ApiError> {
    let blocks = match content {
        Content::Text(text) => return Ok(vec![text]),
        Content::Blocks(blocks) => blocks.into_iter().enumerate(),
    };
    let text = |(index, block): (usize, TextBlockParam)| match (block.kind.as_str(), block.text) {
        ("text", Some(text)) => Ok(text),
        ("text", None) => {
            let param = format!("{place}[{index}].text");
            let message = format!("'{param}' is missing");
            Err(ApiError::invalid_parameter(param, message))
        }
        (kind, _) => {
            let (param, kind) = (format!("{place}[{index}]"), quoted(kind));
            let message = format!(
                "'{param}' is of type '{kind}', but only text is possible there: send 'text'"
            );
            Err(ApiError::unsupported(param, message))
        }
    };
    blocks.map(text).collect()
}

/// The content of a message that has these texts.
fn content(mut texts: Vec<String>) -> conversation::Content {
    match texts.len() {
        0 | 1 => conversation::Content::Text(texts.pop().unwrap_or_default()),
        _ => conversation::Content::Parts(texts),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(messages: Value) -> Result<Vec<Value>, ApiError> {
        let messages: Vec<MessageParam> = serde_json::from_value(messages).unwrap();
        let mut said = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            said.extend(say(index, message)?);
        }
        Ok(said.into_iter().map(Message::for_template).collect())
    }

    #[track_caller]
    fn check(messages: Value, expected: Value) {
        assert_eq!(Value::from(said(messages).unwrap()), expected);
    }

    #[track_caller]
    fn check_refused(error: ApiError, message: &str) {
        let error = error.into_envelope().error;
        assert!(error.message.starts_with(message), "{}", error.message);
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn texts_stay_where_they_are() {
        check(
            json!([
                {"role": "user", "content": "U"},
                {"role": "system", "content": [text("V")]},
                {"role": "assistant", "content": [text("A")]},
                {"role": "user", "content": [text("W"), text("X")]},
            ]),
            json!([
                {"role": "user", "content": "U"},
                {"role": "system", "content": "V"},
                {"role": "assistant", "content": "A"},
                {"role": "user", "content": [text("W"), text("X")]},
            ]),
        );
        let system = json!([text("S"), text("T")]);
        let said = say_system(serde_json::from_value(system.clone()).unwrap()).unwrap();
        let expected = json!({"role": "system", "content": system});
        assert_eq!(said.for_template(), expected);
    }

    #[test]
    fn calls_and_reasoning_are_in_the_assistant_s_message() {
        let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"b": 1, "a": [2]}});
        let written = |id: &str| {
            let function = json!({"name": "f", "arguments": {"b": 1, "a": [2]}});
            json!({"id": id, "type": "function", "function": function})
        };
        let thinking = json!({"type": "thinking", "thinking": "Hm.", "signature": "?"});
        let redacted = json!({"type": "redacted_thinking", "data": "gAAAA"});
        check(
            json!([
                {"role": "assistant", "content": [thinking, redacted, text("A"), call("1"), call("2")]},
                {"role": "assistant", "content": [call("3")]},
            ]),
            json!([
                {
                    "role": "assistant", "content": "A", "tool_calls": [written("1"), written("2")],
                    "reasoning_content": "Hm.",
                },
                {"role": "assistant", "content": null, "tool_calls": [written("3")]},
            ]),
        );
    }

    #[test]
    fn results_are_messages_of_their_own_before_the_user_s_text() {
        let result = |id: &str, content: Value, is_error: bool| json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error});
        let told = |id: &str, content: Value| json!({"role": "tool", "content": content, "tool_call_id": id});
        check(
            json!([{"role": "user", "content": [
                text("Go on."),
                result("1", json!("R"), false),
                result("2", json!([text("no such file")]), true),
                result("3", json!(null), false),
            ]}]),
            json!([
                told("1", json!("R")),
                told("2", json!([text("Error:"), text("no such file")])),
                told("3", json!("")),
                {"role": "user", "content": "Go on."},
            ]),
        );
        let only = json!([{"role": "user", "content": [result("1", json!("R"), false)]}]);
        check(only, json!([told("1", json!("R"))]));
    }

    #[test]
    fn what_cannot_be_rendered_is_refused_by_place() {
        let call = json!({"type": "tool_use", "id": "1", "name": "f", "input": {}});
        let image = json!([text("a"), {"type": "image", "source": {}}]);
        let result = json!({"type": "tool_result", "tool_use_id": "1", "content": image});
        for (role, block, message) in [
            (
                "user",
                &call,
                "'messages[0].content[0]' is of type 'tool_use'",
            ),
            (
                "assistant",
                &result,
                "'messages[0].content[0]' is of type 'tool_result'",
            ),
            (
                "user",
                &result,
                "'messages[0].content[0].content[1]' is of type 'image'",
            ),
            (
                "user",
                &json!({"type": "image", "source": {}}),
                "'messages[0].content[0]' is of type 'image', but this model takes text only",
            ),
        ] {
            let error = said(json!([{"role": role, "content": [block]}])).unwrap_err();
            check_refused(error, message);
        }
        let system = serde_json::from_value(json!([{"type": "text"}])).unwrap();
        check_refused(
            say_system(system).unwrap_err(),
            "'system[0].text' is missing",
        );
    }
}
