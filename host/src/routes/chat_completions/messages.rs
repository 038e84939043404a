//! Reads the request of a chat.

use serde_json::Value;

use super::{
    super::{
        body::{RequestBody, read},
        chat::{WantedReasoning, tools::Calling, variables},
        openai::effort,
    },
    tools::calling,
    unsupported,
};
use crate::{
    conversation::{self, Call},
    error::ApiError,
    openai::{ChatCompletionRequest, Content, ContentPart, Message, PastToolCall, Role},
    prompt::{Ending, RenderRequest},
};

impl RequestBody for ChatCompletionRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        unsupported::check_chat(fields)?;
        let request: Self = read(fields)?;
        let reasoning = request.reasoning.unwrap_or_default();
        Ok(Self {
            parameters: read(fields)?,
            reasoning_effort: request.reasoning_effort.or(reasoning.effort),
            thinking_token_budget: request.thinking_token_budget.or(reasoning.max_tokens),
            ..request
        })
    }
}

/// Checks the conversation of a request, and converts it to the form that chat templates expect. Also returns the tools that
/// the answer may call.
pub fn chat(
    mut request: ChatCompletionRequest,
) -> Result<(RenderRequest, Option<Calling>), ApiError> {
    let tools = request.tools.take().unwrap_or_default();
    let is_parallel = request.parallel_tool_calls.unwrap_or(true);
    let calling = calling(tools, request.tool_choice.as_ref(), is_parallel)?;
    let chat = RenderRequest {
        ending: ending(&request)?,
        variables: variables(
            WantedReasoning {
                is_enabled: request.enable_thinking,
                effort: request.reasoning_effort.map(effort),
                budget: request.thinking_token_budget,
            },
            request.chat_template_kwargs.as_ref(),
        )?,
        tools: calling
            .as_ref()
            .map(Calling::for_template)
            .unwrap_or_default(),
        messages: for_template(request.messages)?,
    };
    Ok((chat, calling))
}

fn ending(request: &ChatCompletionRequest) -> Result<Ending, ApiError> {
    let continues = request.continue_final_message.unwrap_or(false);
    match (continues, request.add_generation_prompt) {
        (true, Some(true)) => {
            let message = "'continue_final_message' and 'add_generation_prompt' exclude each other: send one of them";
            Err(ApiError::invalid_parameter(
                "continue_final_message",
                message,
            ))
        }
        (true, _) => Ok(Ending::OpenMessage),
        (false, Some(false)) => Ok(Ending::LastMessage),
        (false, _) => Ok(Ending::GenerationPrompt),
    }
}

fn for_template(messages: Vec<Message>) -> Result<Vec<Value>, ApiError> {
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
    // Templates ask whether there are calls, not how many, so an empty list is removed.
    message.tool_calls.take_if(|calls| calls.is_empty());
    check_content(index, &message)?;
    check_calls(index, &message)?;
    let calls = message.tool_calls.unwrap_or_default();
    let message = conversation::Message {
        role: role(message.role),
        content: message.content.map(content),
        calls: calls.into_iter().map(call).collect(),
        call_id: message.tool_call_id,
        reasoning: message.reasoning_content,
        other: message.other,
    };
    Ok(message.for_template())
}

fn role(role: Role) -> conversation::Role {
    match role {
        Role::System => conversation::Role::System,
        Role::Developer => conversation::Role::Developer,
        Role::User => conversation::Role::User,
        Role::Assistant => conversation::Role::Assistant,
        Role::Tool => conversation::Role::Tool,
    }
}

/// Converts a content that was checked. A refusal of the assistant is a text.
fn content(content: Content) -> conversation::Content {
    let text = |part: ContentPart| match part.kind.as_str() {
        "refusal" => part.refusal.unwrap_or_default(),
        _ => part.text.unwrap_or_default(),
    };
    match content {
        Content::Text(text) => conversation::Content::Text(text),
        Content::Parts(parts) => {
            conversation::Content::Parts(parts.into_iter().map(text).collect())
        }
    }
}

fn call(call: PastToolCall) -> Call {
    Call {
        id: call.id,
        name: call.function.name,
        arguments: call.function.arguments.into(),
    }
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
    let text = match content.kind.as_str() {
        "text" => &content.text,
        "refusal" => &content.refusal,
        kind => {
            let message = format!("'{param}' is of type '{kind}', but this model takes text only");
            return Err(ApiError::unsupported(param, message));
        }
    };
    if text.is_none() {
        let message = format!("'{param}' has no '{}'", content.kind);
        return Err(ApiError::invalid_parameter(param, message));
    }
    Ok(())
}

fn check_calls(index: usize, message: &Message) -> Result<(), ApiError> {
    if message.tool_calls.is_some() && message.role != Role::Assistant {
        let param = format!("messages[{index}].tool_calls");
        let message =
            format!("'{param}' is in a message that is not the assistant's: leave it out");
        return Err(ApiError::invalid_parameter(param, message));
    }
    if message
        .other
        .get("function_call")
        .is_some_and(|call| !call.is_null())
    {
        let param = format!("messages[{index}].function_call");
        let message = format!("'{param}' is not supported by this server: send 'tool_calls'");
        return Err(ApiError::unsupported(param, message));
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
        let function = json!({"name": "f", "arguments": "{\"a\": 1}"});
        let messages = json!([
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "U"}], "name": "me"},
            {
                "role": "assistant",
                "content": null,
                "tool_calls": [{"id": "1", "type": "function", "function": function}],
                "reasoning_content": "hm",
            },
            {"role": "tool", "content": "T", "tool_call_id": "1"},
        ]);
        check(messages.clone(), messages);
    }

    #[test]
    fn what_says_nothing_is_left_out_and_refusals_are_text() {
        check(
            json!([{"role": "assistant", "tool_calls": []}, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]),
            json!([{"role": "assistant", "content": null}, {"role": "assistant", "content": [{"type": "text", "text": "No."}]}]),
        );
    }

    #[test]
    fn wrong_messages_are_refused_by_place() {
        let user = |content: Value| json!([{"role": "system", "content": ""}, {"role": "user", "content": content}]);
        check_refused(json!([]), "messages");
        check_refused(user(json!(null)), "messages[1].content");
        check_refused(user(json!([{"type": "text"}])), "messages[1].content[0]");
        let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
        let parts = json!([{"type": "text", "text": ""}, image]);
        check_refused(user(parts), "messages[1].content[1]");
        let call = json!({"function": {"name": "f"}});
        let calls = json!([{"role": "user", "content": "", "tool_calls": [call]}]);
        check_refused(calls, "messages[0].tool_calls");
        let call = json!([{"role": "assistant", "function_call": {"name": "f"}}]);
        check_refused(call, "messages[0].function_call");
    }

    fn render_request(fields: Value) -> Result<RenderRequest, ApiError> {
        let mut body = fields;
        body["messages"] = json!([{"role": "user", "content": "Hi"}]);
        chat(serde_json::from_value(body).unwrap()).map(|(chat, _)| chat)
    }

    #[track_caller]
    fn check_variables(fields: Value, expected: Value) {
        let variables = render_request(fields).unwrap().variables;
        assert_eq!(Value::Object(variables), expected);
    }

    #[test]
    fn thinking_is_off_unless_somebody_wants_it() {
        check_variables(json!({}), json!({"enable_thinking": false}));
        let thinking = json!({"enable_thinking": true});
        check_variables(thinking.clone(), thinking);
        for (effort, thinks) in [("low", true), ("none", false)] {
            check_variables(
                json!({"reasoning_effort": effort}),
                json!({"enable_thinking": thinks, "reasoning_effort": effort}),
            );
        }
        for (budget, effort, thinks) in
            [(9, None, true), (0, None, false), (9, Some("none"), false)]
        {
            let mut fields = json!({"thinking_token_budget": budget});
            let mut expected = json!({"enable_thinking": thinks});
            if let Some(effort) = effort {
                (fields["reasoning_effort"], expected["reasoning_effort"]) =
                    (json!(effort), json!(effort));
            }
            check_variables(fields, expected);
        }
        check_variables(
            json!({"enable_thinking": false, "chat_template_kwargs": {"enable_thinking": true, "x": [1]}}),
            json!({"enable_thinking": true, "x": [1]}),
        );
    }

    #[test]
    fn the_server_s_own_variables_cannot_be_set() {
        let error = render_request(json!({"chat_template_kwargs": {"messages": []}})).unwrap_err();
        let param = error.into_envelope().error.param;
        assert_eq!(param.as_deref(), Some("chat_template_kwargs.messages"));
    }

    #[test]
    fn a_prompt_ends_in_one_way() {
        let ending = |fields| render_request(fields).map(|request| request.ending);
        for (fields, expected) in [
            (json!({}), Ending::GenerationPrompt),
            (json!({"add_generation_prompt": false}), Ending::LastMessage),
            (json!({"continue_final_message": true}), Ending::OpenMessage),
        ] {
            assert_eq!(ending(fields).unwrap(), expected);
        }
        let both = json!({"continue_final_message": true, "add_generation_prompt": true});
        assert!(ending(both).is_err());
    }
}
