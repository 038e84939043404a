use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The input of a response.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub enum ResponseInput {
    /// A message of the user.
    Text(String),
    /// Items, the oldest first. Items of an earlier response can be sent back as they came.
    Items(Vec<InputItem>),
}

/// An item of the conversation so far.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InputItem {
    /// A message. Its `type` may be left out.
    Message(InputMessage),
    /// A call of a function by the model.
    FunctionCall(InputFunctionCall),
    /// The result of a function.
    FunctionCallOutput(InputCallOutput),
    /// A call of a custom tool by the model.
    CustomToolCall(InputCustomCall),
    /// The result of a custom tool.
    CustomToolCallOutput(InputCallOutput),
    /// Reasoning of the model.
    Reasoning(InputReasoning),
}

/// A message of the conversation.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputMessage {
    /// Who says the message.
    pub role: InputRole,
    /// The text of the message.
    pub content: InputContent,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputRole {
    /// Instructions for the whole conversation.
    System,
    /// The newer name of `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A text, whole or in parts.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string or a list of parts such as {\"type\": \"input_text\", \"text\": \"…\"}"
)]
pub enum InputContent {
    /// A text.
    Text(String),
    /// Parts that make up a text.
    Parts(Vec<InputPart>),
}

/// A part of a text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputPart {
    /// `input_text`, or in messages of the model `output_text` and `refusal`. In reasoning `reasoning_text` and
    /// `summary_text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of the part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The text of a `refusal` part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A call of a function by the model.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputFunctionCall {
    /// The id that the item with the result has too.
    pub call_id: String,
    /// The namespace of the function, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the function.
    pub name: String,
    /// The arguments, as the model wrote them: JSON in a string.
    pub arguments: String,
}

/// The result of a tool.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputCallOutput {
    /// The id of the call.
    pub call_id: String,
    /// The result.
    pub output: InputContent,
}

/// A call of a custom tool by the model.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputCustomCall {
    /// The id that the item with the result has too.
    pub call_id: String,
    /// The namespace of the tool, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of the tool.
    pub name: String,
    /// The text that the tool gets.
    pub input: String,
}

/// Reasoning of the model.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InputReasoning {
    /// The reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<InputPart>>,
    /// A summary of the reasoning. Only used if neither `content` nor `encrypted_content` has the reasoning itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Vec<InputPart>>,
    /// The reasoning as this server returned it. The encrypted reasoning of another server is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<String>,
}
