use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Role;

/// A whole answer. In the first event of a stream it has no content yet.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = anthropic::Message)]
pub struct Message {
    /// Id of the answer.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Always `assistant`.
    pub role: Role,
    /// The model that answers.
    pub model: String,
    /// Reasoning, text and tool calls, in the order in which the model wrote them. Empty if the model says nothing.
    pub content: Vec<ContentBlock>,
    /// Why the answer ended. Null in the first event of a stream.
    #[schema(required)]
    pub stop_reason: Option<StopReason>,
    /// The stop sequence that ended the answer. Null if none did.
    #[schema(required)]
    pub stop_sequence: Option<String>,
    /// How many tokens the request took.
    pub usage: Usage,
}

/// A block of an answer. At its beginning in a stream it is empty.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::ContentBlock)]
pub enum ContentBlock {
    /// The model's reasoning before its answer.
    Thinking {
        /// The reasoning. Empty if the request wants it omitted.
        thinking: String,
        /// Always `unsigned`: the server takes reasoning back without checking it.
        signature: String,
    },
    /// A text.
    Text {
        /// The text.
        text: String,
    },
    /// A tool call.
    ToolUse {
        /// A unique id. The block with the result has it as `tool_use_id`.
        id: String,
        /// One of the request's `tools`.
        name: String,
        /// The arguments. If the answer was cut off within them, they are in `INVALID_JSON` as text.
        #[schema(value_type = Object)]
        input: Map<String, Value>,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = anthropic::StopReason)]
pub enum StopReason {
    /// The model ended the answer.
    EndTurn,
    /// `max_tokens` or the end of the context was reached.
    MaxTokens,
    /// One of the `stop_sequences` occurred.
    StopSequence,
    /// The model called tools.
    ToolUse,
}

/// How many tokens a request took. The prompt has `input_tokens` and `cache_read_input_tokens` together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = anthropic::Usage)]
pub struct Usage {
    /// Tokens of the prompt that were not cached.
    pub input_tokens: u32,
    /// Always 0: every prompt is cached at no cost.
    pub cache_creation_input_tokens: u32,
    /// Tokens of the prompt's cached prefix.
    pub cache_read_input_tokens: u32,
    /// Generated tokens, including those of the reasoning and of a stop sequence.
    pub output_tokens: u32,
    /// Details of the generated tokens, for models that reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens_details: Option<OutputTokensDetails>,
}

/// Details of the generated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = anthropic::OutputTokensDetails)]
pub struct OutputTokensDetails {
    /// Tokens of the reasoning.
    pub thinking_tokens: u32,
}
