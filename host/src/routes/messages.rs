use serde_json::Value;

use crate::{
    error::ApiError,
    openai::{Content, ContentPart, Message, Role},
};

/// Checks a chat's messages and gives them as chat templates expect them.
pub fn for_template(messages: Vec<Message>) -> Result<Vec<Value>, ApiError> {
    if messages.is_empty() {
        let message = "'messages' is empty: send at least one";
        return Err(ApiError::invalid_parameter("messages", message));
    }
    let messages = messages.into_iter().enumerate();
    messages
        .map(|(index, message)| convert(index, message))
        .collect()
}

fn convert(index: usize, mut message: Message) -> Result<Value, ApiError> {
    check_content(index, &message)?;
    check_calls(index, &message)?;
    // Most templates drop a role that they do not know without a word, and all know this one.
    if message.role == Role::Developer {
        message.role = Role::System;
    }
    serde_json::to_value(message)
        .map_err(|error| ApiError::internal(format!("a message cannot be written: {error}")))
}

fn check_content(index: usize, message: &Message) -> Result<(), ApiError> {
    match &message.content {
        Some(Content::Text(_)) => Ok(()),
        Some(Content::Parts(parts)) => parts
            .iter()
            .enumerate()
            .try_for_each(|(part, content)| check_part(index, part, content)),
        None if message.role == Role::Assistant => Ok(()),
        None => {
            let param = format!("messages[{index}].content");
            let message = format!("'{param}' is missing: only the assistant's may be null");
            Err(ApiError::invalid_parameter(param, message))
        }
    }
}

fn check_part(index: usize, part: usize, content: &ContentPart) -> Result<(), ApiError> {
    let param = format!("messages[{index}].content[{part}]");
    match (content.kind.as_str(), &content.text) {
        ("text", Some(_)) => Ok(()),
        ("text", None) => {
            let message = format!("'{param}' has no 'text'");
            Err(ApiError::invalid_parameter(param, message))
        }
        (kind, _) => {
            let message = format!("'{param}' is of type '{kind}', but this model takes text only");
            Err(ApiError::unsupported(param, message))
        }
    }
}

fn check_calls(index: usize, message: &Message) -> Result<(), ApiError> {
    for name in ["tool_calls", "function_call"] {
        let asks_for_nothing = match message.other.get(name) {
            None | Some(Value::Null) => true,
            Some(calls) => calls.as_array().is_some_and(Vec::is_empty),
        };
        if !asks_for_nothing {
            let param = format!("messages[{index}].{name}");
            let message = format!("'{param}' is not supported by this server: leave it out");
            return Err(ApiError::unsupported(param, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn convert(messages: Value) -> Result<Vec<Value>, ApiError> {
        for_template(serde_json::from_value(messages).unwrap())
    }

    #[track_caller]
    fn check(messages: Value, expected: Value) {
        assert_eq!(Value::from(convert(messages).unwrap()), expected);
    }

    #[track_caller]
    fn check_refused(messages: Value, param: &str) {
        let error = convert(messages).unwrap_err().into_envelope().error;
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }

    #[test]
    fn messages_reach_the_template_as_they_were_sent() {
        let messages = json!([
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "U"}], "name": "me"},
            {"role": "assistant", "content": null, "tool_calls": []},
            {"role": "tool", "content": "T", "tool_call_id": "1"},
        ]);
        check(messages.clone(), messages);
    }

    #[test]
    fn a_developer_is_the_system_and_absent_content_is_null() {
        check(
            json!([{"role": "developer", "content": "D"}, {"role": "assistant"}]),
            json!([{"role": "system", "content": "D"}, {"role": "assistant", "content": null}]),
        );
    }

    #[test]
    fn wrong_messages_are_refused_by_place() {
        let user = |content: Value| json!([{"role": "system", "content": ""}, {"role": "user", "content": content}]);
        check_refused(json!([]), "messages");
        check_refused(user(json!(null)), "messages[1].content");
        check_refused(user(json!([{"type": "text"}])), "messages[1].content[0]");
        let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
        check_refused(
            user(json!([{"type": "text", "text": ""}, image])),
            "messages[1].content[1]",
        );
        check_refused(
            json!([{"role": "assistant", "tool_calls": [{}]}]),
            "messages[0].tool_calls",
        );
    }
}
