//! Converts the items of a request to the messages of a chat, as templates expect them.

use serde_json::Value;

use super::{custom_input, tools::visible_name};
use crate::{
    conversation::{Call, Content, Message, Role},
    error::ApiError,
    openai::responses::{
        InputContent, InputItem, InputMessage, InputPart, InputReasoning, InputRole, ResponseInput,
    },
};

/// The prefix of `encrypted_content` that this server wrote. The reasoning follows in plain text, because it stays between this
/// server and its clients.
const OWN_REASONING: &str = "tenon:";

/// Reasoning as `encrypted_content`.
pub fn encrypted(reasoning: &str) -> String {
    format!("{OWN_REASONING}{reasoning}")
}

/// The messages of a conversation: instructions, the items of an earlier response, and the input. All that the model said in one
/// turn becomes one message.
pub fn messages(
    instructions: Option<&str>,
    earlier: Vec<InputItem>,
    input: Vec<InputItem>,
) -> Result<Vec<Value>, ApiError> {
    let mut chat = ChatMessages::default();
    if let Some(text) = instructions {
        chat.push(Role::System, Content::Text(text.to_owned()));
    }
    for item in earlier {
        chat.add("previous_response_id", item)?;
    }
    for (index, item) in input.into_iter().enumerate() {
        chat.add(&format!("input[{index}]"), item)?;
    }
    let messages = chat.messages.into_iter();
    Ok(messages.map(Message::for_template).collect())
}

/// The items of an input. A text is a message of the user.
pub fn items(input: ResponseInput) -> Vec<InputItem> {
    match input {
        ResponseInput::Items(items) => items,
        ResponseInput::Text(text) => vec![InputItem::Message(InputMessage {
            role: InputRole::User,
            content: InputContent::Text(text),
        })],
    }
}

#[derive(Default)]
struct ChatMessages {
    messages: Vec<Message>,
}

impl ChatMessages {
    fn add(&mut self, place: &str, item: InputItem) -> Result<(), ApiError> {
        match item {
            InputItem::Message(InputMessage { role, content }) => {
                let content = text_of(&format!("{place}.content"), content)?;
                match role {
                    InputRole::System => self.push(Role::System, content),
                    InputRole::Developer => self.push(Role::Developer, content),
                    InputRole::User => self.push(Role::User, content),
                    InputRole::Assistant => self.say(content),
                }
            }
            InputItem::FunctionCall(call) => {
                let name = visible_name(call.namespace.as_deref(), &call.name);
                self.call(call.call_id, name, call.arguments);
            }
            InputItem::CustomToolCall(call) => {
                let name = visible_name(call.namespace.as_deref(), &call.name);
                self.call(call.call_id, name, custom_input::arguments(&call.input));
            }
            InputItem::FunctionCallOutput(result) | InputItem::CustomToolCallOutput(result) => {
                let content = text_of(&format!("{place}.output"), result.output)?;
                self.messages.push(Message {
                    call_id: Some(result.call_id),
                    ..Message::new(Role::Tool, Some(content))
                });
            }
            InputItem::Reasoning(reasoning) => self.think(&reasoning_of(reasoning)),
        }
        Ok(())
    }

    fn push(&mut self, role: Role, content: Content) {
        self.messages.push(Message::new(role, Some(content)));
    }

    /// The model's message of the current turn. A new message begins if the last one is not the model's or `is_over`.
    fn turn(&mut self, is_over: impl Fn(&Message) -> bool) -> &mut Message {
        let last = self
            .messages
            .pop_if(|last| last.role == Role::Assistant && !is_over(last));
        self.messages
            .push_mut(last.unwrap_or(Message::new(Role::Assistant, None)))
    }

    /// Adds reasoning, which comes first in a turn.
    fn think(&mut self, reasoning: &str) {
        if reasoning.is_empty() {
            return;
        }
        let turn = self.turn(|turn| turn.content.is_some() || !turn.calls.is_empty());
        let before = turn.reasoning.take();
        let before = before.map(|before| before + "\n\n").unwrap_or_default();
        turn.reasoning = Some(before + reasoning);
    }

    /// Adds text. A turn has one text, except that more may follow calls.
    fn say(&mut self, content: Content) {
        let turn = self.turn(|turn| turn.content.is_some() && turn.calls.is_empty());
        turn.content = Some(match turn.content.take() {
            None => content,
            Some(before) => Content::Parts([parts(before), parts(content)].concat()),
        });
    }

    /// Adds a call.
    fn call(&mut self, id: String, name: String, arguments: String) {
        self.turn(|_| false).calls.push(Call {
            id: Some(id),
            name,
            arguments: arguments.into(),
        });
    }
}

fn parts(content: Content) -> Vec<String> {
    match content {
        Content::Text(text) => vec![text],
        Content::Parts(parts) => parts,
    }
}

fn text_of(place: &str, content: InputContent) -> Result<Content, ApiError> {
    let parts = match content {
        InputContent::Text(text) => return Ok(Content::Text(text)),
        InputContent::Parts(parts) => parts,
    };
    let parts = parts.into_iter().enumerate();
    let parts = parts.map(|(index, part)| part_of(&format!("{place}[{index}]"), part));
    parts.collect::<Result<_, _>>().map(Content::Parts)
}

fn part_of(place: &str, part: InputPart) -> Result<String, ApiError> {
    let (field, text) = match part.kind.as_str() {
        "input_text" | "output_text" | "text" => ("text", part.text),
        "refusal" => ("refusal", part.refusal),
        kind => {
            let message = format!("'{place}' is of type '{kind}', but this model takes text only");
            return Err(ApiError::unsupported(place, message));
        }
    };
    text.ok_or_else(|| {
        let message = format!("'{place}' has no '{field}'");
        ApiError::invalid_parameter(place, message)
    })
}

/// The text of reasoning that the client sends back. A summary stands for reasoning that another server encrypted.
fn reasoning_of(item: InputReasoning) -> String {
    let texts = |parts: Option<Vec<InputPart>>| {
        let texts = parts.into_iter().flatten().filter_map(|part| part.text);
        texts.collect::<Vec<_>>().join("\n\n")
    };
    let content = texts(item.content);
    let own = item.encrypted_content.as_deref();
    match own.and_then(|text| text.strip_prefix(OWN_REASONING)) {
        _ if !content.is_empty() => content,
        Some(own) => own.to_owned(),
        None => texts(item.summary),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{super::body::RequestBody, read::ReadRequest},
        *,
    };

    fn convert(input: Value) -> Result<Vec<Value>, ApiError> {
        let read = ReadRequest::read(&json!({"input": input}))?;
        messages(None, Vec::new(), items(read.request.input.unwrap()))
    }

    #[track_caller]
    fn check(input: Value, expected: Value) {
        assert_eq!(Value::from(convert(input).unwrap()), expected);
    }

    fn call(id: &str, name: &str, arguments: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    #[test]
    fn a_text_is_the_user_s_and_instructions_come_first() {
        check(json!("Hi"), json!([{"role": "user", "content": "Hi"}]));
        let text = |text: &str| items(ResponseInput::Text(text.to_owned()));
        let all = messages(Some("S"), text("earlier"), text("now"));
        let expected = json!([
            {"role": "system", "content": "S"},
            {"role": "user", "content": "earlier"},
            {"role": "user", "content": "now"},
        ]);
        assert_eq!(Value::from(all.unwrap()), expected);
    }

    #[test]
    fn messages_may_have_parts_and_no_type() {
        let text = |text: &str| json!({"type": "text", "text": text});
        check(
            json!([
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "D"}]},
                {"role": "user", "content": "U", "id": "msg_1", "status": "completed"},
                {"type": "message", "role": "assistant", "content": [
                    {"type": "output_text", "text": "A", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."},
                ]},
            ]),
            json!([
                {"role": "developer", "content": [text("D")]},
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": [text("A"), text("No.")]},
            ]),
        );
    }

    #[test]
    fn what_the_model_said_in_a_turn_is_one_message() {
        check(
            json!([
                {"role": "user", "content": "U"},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
                {"role": "assistant", "content": "I look."},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"a\": 1}"},
                {"type": "custom_tool_call", "call_id": "2", "name": "c", "input": "a\n\"b\""},
                {"type": "function_call_output", "call_id": "1", "output": "one"},
                {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
                {"role": "assistant", "content": "Done."},
            ]),
            json!([
                {"role": "user", "content": "U"},
                {
                    "role": "assistant", "content": "I look.", "reasoning_content": "Hm.",
                    "tool_calls": [call("1", "f", "{\"a\": 1}"), call("2", "c", "{\"input\":\"a\\n\\\"b\\\"\"}")],
                },
                {"role": "tool", "content": "one", "tool_call_id": "1"},
                {"role": "tool", "content": [{"type": "text", "text": "two"}], "tool_call_id": "2"},
                {"role": "assistant", "content": "Done."},
            ]),
        );
    }

    #[test]
    fn a_turn_ends_where_another_text_or_reasoning_begins() {
        let reasoning = |text: &str| json!({"type": "reasoning", "summary": [], "encrypted_content": encrypted(text)});
        check(
            json!([
                {"role": "assistant", "content": "A"},
                {"role": "assistant", "content": "B"},
                reasoning("Hm."),
                reasoning("Ah."),
                {"type": "function_call", "call_id": "1", "namespace": "n", "name": "f", "arguments": "{}"},
                {"role": "assistant", "content": "C"},
            ]),
            json!([
                {"role": "assistant", "content": "A"},
                {"role": "assistant", "content": "B"},
                {"role": "assistant", "content": "C", "tool_calls": [call("1", "n.f", "{}")], "reasoning_content": "Hm.\n\nAh."},
            ]),
        );
    }

    #[test]
    fn reasoning_of_another_server_is_its_summary() {
        let foreign = json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}], "encrypted_content": "gAAAA"});
        check(
            json!([foreign]),
            json!([{"role": "assistant", "content": null, "reasoning_content": "S"}]),
        );
        let nothing = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"});
        check(json!([nothing]), json!([]));
    }

    #[test]
    fn what_is_no_text_is_refused_by_place() {
        for (item, param) in [
            (
                json!({"role": "user", "content": [{"type": "input_image", "image_url": "data:"}]}),
                "input[0].content[0]",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_text"}]}),
                "input[0].content[0]",
            ),
            (
                json!({"type": "function_call_output", "call_id": "1", "output": [{"type": "input_file"}]}),
                "input[0].output[0]",
            ),
        ] {
            let error = convert(json!([item])).unwrap_err().into_envelope().error;
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }
}
