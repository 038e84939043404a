use serde::Serialize;
use utoipa::ToSchema;

use super::super::ChatTokenLogprob;

/// An item of a response.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// Reasoning.
    Reasoning(OutputReasoning),
    /// A message.
    Message(OutputMessage),
    /// A call of a function.
    FunctionCall(OutputFunctionCall),
    /// A call of a custom tool.
    CustomToolCall(OutputCustomCall),
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemStatus {
    /// The model writes the item.
    InProgress,
    /// The item is complete.
    Completed,
    /// The item was cut off.
    Incomplete,
}

/// Reasoning of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputReasoning {
    /// A unique id.
    pub id: String,
    /// How far the item is.
    pub status: ItemStatus,
    /// Always empty: `content` has the reasoning itself.
    pub summary: Vec<OutputPart>,
    /// The reasoning, in one part.
    pub content: Vec<OutputPart>,
    /// The reasoning, for clients that send only this back. Only if `include` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_content: Option<String>,
}

/// A message of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputMessage {
    /// A unique id.
    pub id: String,
    /// How far the item is.
    pub status: ItemStatus,
    /// Always `assistant`.
    pub role: &'static str,
    /// The text, in one part.
    pub content: Vec<OutputPart>,
}

/// A call of a function.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputFunctionCall {
    /// A unique id.
    pub id: String,
    /// How far the item is.
    pub status: ItemStatus,
    /// A unique id. The item with the result has it too.
    pub call_id: String,
    /// The namespace of the function, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One of the functions in `tools`.
    pub name: String,
    /// The arguments: JSON in a string.
    pub arguments: String,
}

/// A call of a custom tool.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OutputCustomCall {
    /// A unique id.
    pub id: String,
    /// How far the item is.
    pub status: ItemStatus,
    /// A unique id. The item with the result has it too.
    pub call_id: String,
    /// The namespace of the tool, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One of the custom tools in `tools`.
    pub name: String,
    /// The text that the tool gets.
    pub input: String,
}

/// A part of an item.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputPart {
    /// Text.
    OutputText(OutputText),
    /// Reasoning.
    ReasoningText(ReasoningText),
}

/// The text of a message.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct OutputText {
    /// The text.
    pub text: String,
    /// Always empty.
    #[schema(value_type = Vec<Object>)]
    pub annotations: [(); 0],
    /// Log-probabilities of the text's tokens. Empty unless `include` or `top_logprobs` asks for them.
    pub logprobs: Vec<ChatTokenLogprob>,
}

/// The text of reasoning.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ReasoningText {
    /// The text.
    pub text: String,
}
