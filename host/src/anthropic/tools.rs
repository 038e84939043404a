use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A tool that the model may call, and the client runs.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = anthropic::Tool)]
pub struct Tool {
    /// Up to 128 letters, digits, `_`, `-` and `.`.
    #[schema(pattern = "^[a-zA-Z0-9_.-]{1,128}$")]
    pub name: String,
    /// What the tool does, for the model.
    pub description: Option<String>,
    /// JSON Schema of the arguments, which are an object.
    #[schema(value_type = Object)]
    pub input_schema: Map<String, Value>,
    /// Whether to refuse a schema with keywords that cannot be followed. Default: false, such keywords are ignored.
    pub strict: Option<bool>,
}

/// Whether the model calls tools, and which.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::ToolChoice)]
pub enum ToolChoice {
    /// The model decides whether to call tools.
    Auto {
        /// Whether an answer has at most one call. Default: false.
        disable_parallel_tool_use: Option<bool>,
    },
    /// The model must call at least one tool.
    Any {
        /// Whether an answer has exactly one call. Default: false.
        disable_parallel_tool_use: Option<bool>,
    },
    /// The model must call this tool, once.
    Tool {
        /// The name of one of the `tools`.
        name: String,
    },
    /// The model is not told about the tools.
    None,
}
