use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::ToolMode;

/// A tool that the model may call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Tool {
    /// Only `function` is supported.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// The function.
    pub function: Function,
}

/// The kinds of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolKind {
    /// A function that the client runs.
    Function,
}

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct Function {
    /// Up to 64 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    pub name: String,
    /// What the function does, for the model.
    pub description: Option<String>,
    /// JSON Schema of the arguments, which are an object. Default: the function takes none.
    pub parameters: Option<Map<String, Value>>,
    /// Whether to refuse a schema with keywords that cannot be followed. Default: false, such keywords are ignored.
    pub strict: Option<bool>,
}

/// Whether the model calls tools, and which.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": \"…\"}}"
)]
pub enum ToolChoice {
    /// Whether the model may, must or must not call tools.
    Mode(ToolMode),
    /// The model must call this tool.
    Named(NamedTool),
}

/// A tool that the model must call.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct NamedTool {
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// The function.
    pub function: FunctionName,
}

/// A function, by its name.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct FunctionName {
    /// The name of one of the functions in `tools`.
    pub name: String,
}

/// A tool call in a message of the conversation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct PastToolCall {
    /// The id that the message with the result has as `tool_call_id`.
    pub id: Option<String>,
    /// Always `function`.
    #[serde(rename = "type", default = "function")]
    #[schema(required = false)]
    pub kind: ToolKind,
    /// The called function.
    pub function: PastFunctionCall,
}

fn function() -> ToolKind {
    ToolKind::Function
}

/// The called function, with its arguments.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct PastFunctionCall {
    /// The name of the function.
    pub name: String,
    /// The arguments, as the model wrote them: JSON in a string.
    #[serde(default)]
    pub arguments: String,
}

/// A tool call that the model makes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ToolCall {
    /// A unique id. The message with the result has it as `tool_call_id`.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// The called function.
    pub function: FunctionCall,
}

/// The called function, with its arguments.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCall {
    /// One of the functions in `tools`.
    pub name: String,
    /// The arguments: JSON in a string.
    pub arguments: String,
}

/// A piece of a tool call in a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ToolCallChunk {
    /// Index of the call in the answer.
    pub index: u32,
    /// Id of the call. Only in its first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`. Only in the first piece of a call.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolKind>,
    /// What this piece adds to the call.
    pub function: FunctionCallChunk,
}

/// What one piece adds to a tool call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCallChunk {
    /// The name of the function. Only in the first piece of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments.
    pub arguments: String,
}
