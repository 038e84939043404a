use serde_json::Value;

use super::{
    super::chat::{self, tools::Calling, variables},
    tools::calling,
    turns::{say, say_system},
};
use crate::{
    anthropic::{
        self, Content, ContentBlockParam, Conversation, MessageParam, Role, TextBlockParam,
        Thinking,
    },
    conversation::{Effort, Message},
    error::ApiError,
    prompt::{Ending, RenderRequest},
};

/// Checks a conversation, and converts it to the form that chat templates expect. Also returns the tools that the answer may call.
pub fn chat(conversation: Conversation) -> Result<(RenderRequest, Option<Calling>), ApiError> {
    let effort = conversation.output_config.and_then(|config| config.effort);
    let thinks = matches!(
        conversation.thinking,
        Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. })
    );
    let tools = conversation.tools.unwrap_or_default();
    let calling = calling(tools, conversation.tool_choice.as_ref())?;
    let chat = RenderRequest {
        ending: ending(&conversation.messages)?,
        variables: variables(
            chat::WantedReasoning {
                is_enabled: Some(thinks),
                effort: effort.map(read_effort),
                budget: None,
            },
            None,
        )?,
        tools: calling
            .as_ref()
            .map(Calling::for_template)
            .unwrap_or_default(),
        messages: messages(conversation.system, conversation.messages)?,
    };
    Ok((chat, calling))
}

fn read_effort(effort: anthropic::Effort) -> Effort {
    match effort {
        anthropic::Effort::Low => Effort::Low,
        anthropic::Effort::Medium => Effort::Medium,
        anthropic::Effort::High => Effort::High,
        anthropic::Effort::Xhigh | anthropic::Effort::Max => Effort::Xhigh,
    }
}

/// The end of the prompt. If the last message is the assistant's, the answer continues it.
fn ending(messages: &[MessageParam]) -> Result<Ending, ApiError> {
    let Some((last, before)) = messages.split_last() else {
        let message = "'messages' is empty: send at least one";
        return Err(ApiError::invalid_parameter("messages", message));
    };
    if last.role != Role::Assistant {
        return Ok(Ending::GenerationPrompt);
    }
    let is_call = |block: &ContentBlockParam| matches!(block, ContentBlockParam::ToolUse { .. });
    match &last.content {
        Content::Blocks(blocks) if blocks.iter().any(is_call) => {
            let param = format!("messages[{}]", before.len());
            let message =
                format!("'{param}' is the last one and has a tool call: send its result as well");
            Err(ApiError::invalid_parameter(param, message))
        }
        _ => Ok(Ending::OpenMessage),
    }
}

fn messages(
    system: Option<Content<TextBlockParam>>,
    messages: Vec<MessageParam>,
) -> Result<Vec<Value>, ApiError> {
    let mut said = Vec::new();
    if let Some(system) = system {
        said.push(say_system(system)?);
    }
    for (index, message) in messages.into_iter().enumerate() {
        said.extend(say(index, message)?);
    }
    Ok(said.into_iter().map(Message::for_template).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut fields: Value) -> Result<RenderRequest, ApiError> {
        if fields["messages"].is_null() {
            fields["messages"] = json!([{"role": "user", "content": "Hi"}]);
        }
        let (chat, _) = chat(serde_json::from_value(fields).unwrap())?;
        Ok(chat)
    }

    #[test]
    fn the_instructions_come_first() {
        let chat = read(json!({"system": "S"})).unwrap();
        let expected =
            json!([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]);
        assert_eq!(Value::from(chat.messages), expected);
    }

    #[test]
    fn an_answer_continues_the_assistant_s_last_message() {
        let ending = |role: &str| {
            let messages =
                json!([{"role": "user", "content": "U"}, {"role": role, "content": "A"}]);
            read(json!({"messages": messages})).unwrap().ending
        };
        assert_eq!(ending("user"), Ending::GenerationPrompt);
        assert_eq!(ending("system"), Ending::GenerationPrompt);
        assert_eq!(ending("assistant"), Ending::OpenMessage);
    }

    #[test]
    fn a_conversation_without_an_end_is_refused() {
        let call = json!({"type": "tool_use", "id": "1", "name": "f", "input": {}});
        for (messages, message) in [
            (json!([]), "'messages' is empty"),
            (
                json!([{"role": "assistant", "content": [call]}]),
                "'messages[0]' is the last one and has a tool call",
            ),
        ] {
            let error = read(json!({"messages": messages})).unwrap_err();
            let error = error.into_envelope().error;
            assert!(error.message.starts_with(message), "{}", error.message);
        }
    }

    #[test]
    fn thinking_and_effort_reach_the_template() {
        let check = |fields: Value, expected: Value| {
            assert_eq!(Value::from(read(fields).unwrap().variables), expected);
        };
        check(json!({}), json!({"enable_thinking": false}));
        check(
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
            json!({"enable_thinking": true, "reasoning_effort": "xhigh"}),
        );
        check(
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
            json!({"enable_thinking": true}),
        );
        check(
            json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}),
            json!({"enable_thinking": false, "reasoning_effort": "low"}),
        );
        check(
            json!({"thinking": {"type": "between_tools"}}),
            json!({"enable_thinking": false}),
        );
    }
}
