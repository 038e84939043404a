use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{super::ToolMode, read_apart};

/// A tool that the model may call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseTool {
    /// A function, whose arguments are JSON.
    Function(FunctionTool),
    /// A tool that gets a text.
    Custom(CustomTool),
    /// Tools with a common name.
    Namespace(NamespaceTool),
}

/// A tool of a namespace.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolOfNamespace {
    /// A function, whose arguments are JSON.
    Function(FunctionTool),
    /// A tool that gets a text.
    Custom(CustomTool),
}

/// A function that the client runs.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct FunctionTool {
    /// Up to 64 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    pub name: String,
    /// What the function does, for the model.
    pub description: Option<String>,
    /// JSON Schema of the arguments, which are an object. Default: the function takes none.
    pub parameters: Option<Map<String, Value>>,
    /// Whether arguments follow the schema. If this is sent as true, a schema with keywords that cannot be followed is refused.
    /// Default: true, but such a schema is then followed as far as possible.
    pub strict: Option<bool>,
}

/// A tool of the client that gets a text.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct CustomTool {
    /// Up to 64 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    pub name: String,
    /// What the tool does, for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The form of the text. Default: any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<CustomToolFormat>,
}

/// The form of the text that a custom tool gets.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct CustomToolFormat {
    /// `text`: any text. `grammar`: a text that a grammar allows.
    #[serde(rename = "type")]
    pub kind: String,
    /// The notation of the grammar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syntax: Option<CustomToolSyntax>,
    /// The grammar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// Notations of a custom tool's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CustomToolSyntax {
    /// A grammar in Lark. No rule may contain itself.
    Lark,
    /// A regular expression that matches the whole text.
    Regex,
}

/// Tools with a common name. The model sees each as `NAMESPACE.TOOL`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct NamespaceTool {
    /// Up to 64 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,64}$")]
    pub name: String,
    /// What the tools are for. Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The tools.
    #[serde(default, deserialize_with = "read_apart")]
    pub tools: Vec<ToolOfNamespace>,
}

/// Whether the model calls tools, and which.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ResponseToolChoice {
    /// Whether the model may, must or must not call tools.
    Mode(ToolMode),
    /// The tools that the model may call.
    Allowed(AllowedTools),
    /// The tool that the model must call.
    Named(AllowedTool),
}

/// The tools that the model may call. It sees the others too, so that a conversation keeps its beginning.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AllowedTools {
    /// Always `allowed_tools`.
    #[serde(rename = "type")]
    #[schema(pattern = "^allowed_tools$")]
    pub kind: String,
    /// `auto` or `required`: whether the model must call one of them.
    pub mode: ToolMode,
    /// The tools.
    #[serde(default, deserialize_with = "read_apart")]
    #[schema(required)]
    pub tools: Vec<AllowedTool>,
}

/// A tool, by its name.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AllowedTool {
    /// `function` or `custom`.
    #[serde(rename = "type")]
    #[schema(pattern = "^(function|custom)$")]
    pub kind: String,
    /// The namespace of the tool, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name of one of the `tools`.
    pub name: String,
}
