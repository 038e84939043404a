use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A tool that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
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
    /// A function of the client's.
    Function,
}

/// A function that the model may call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Function {
    /// Up to 64 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    pub name: String,
    /// What it does, for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments, which are an object. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Map<String, Value>>,
    /// Whether a schema with keywords that cannot be followed is refused. Default: false, they are ignored.
    #[serde(skip_serializing)]
    pub strict: Option<bool>,
}

/// Whether the model calls tools.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": \"…\"}}"
)]
pub enum ToolChoice {
    /// As the model likes, or not at all, or at least one.
    Mode(ToolMode),
    /// This one.
    Named(NamedTool),
}

/// Whether the model calls tools, whichever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// It does not know of them.
    None,
    /// It calls what it wants.
    Auto,
    /// It calls at least one.
    Required,
}

/// A tool that has to be called.
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
    /// One of those in `tools`.
    pub name: String,
}

/// A call in a message of the conversation.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PastToolCall {
    /// What `tool_call_id` of the result says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`.
    #[serde(rename = "type", default = "function")]
    #[schema(required = false)]
    pub kind: ToolKind,
    /// What was called.
    pub function: PastFunctionCall,
}

fn function() -> ToolKind {
    ToolKind::Function
}

/// What was called.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct PastFunctionCall {
    /// Its name.
    pub name: String,
    /// Its arguments, as the model wrote them: JSON in a string.
    #[serde(default)]
    pub arguments: String,
}

/// A call that the model makes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ToolCall {
    /// Like no other; the message with the result names it.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: ToolKind,
    /// What it calls.
    pub function: FunctionCall,
}

/// What is called.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCall {
    /// One of the functions in `tools`.
    pub name: String,
    /// Its arguments: JSON in a string.
    pub arguments: String,
}

/// A piece of a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ToolCallChunk {
    /// Which call of the answer this is a piece of.
    pub index: u32,
    /// Only in the first piece of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only in the first piece of a call: `function`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ToolKind>,
    /// What it calls.
    pub function: FunctionCallChunk,
}

/// What one piece adds to a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FunctionCallChunk {
    /// Only in the first piece of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of its arguments.
    pub arguments: String,
}
