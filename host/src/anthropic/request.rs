use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Content, ContentBlockParam, TextBlockParam, Tool, ToolChoice};

/// The request of `POST /v1/messages`. Absent and `null` are the same.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = anthropic::MessagesRequest)]
pub struct MessagesRequest {
    /// Most tokens to generate. A number beyond the end of the context, or beyond what the operator allows, stands for as many
    /// tokens as possible.
    #[schema(minimum = 1)]
    pub max_tokens: u32,
    /// Sampling temperature: from 0, which always takes the most likely token, to 2. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability, 0 to 1. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Sample from this many of the most likely tokens. Only used if positive.
    pub top_k: Option<i64>,
    /// Up to 64 texts that end the answer and are not part of it. The answer's `stop_sequence` says which one ended it.
    #[schema(max_items = 64)]
    pub stop_sequences: Option<Vec<String>>,
    /// Whether to send the answer in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// Accepted, of no effect.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Accepted, of no effect.
    pub service_tier: Option<String>,
    /// Accepted, of no effect: the model always gets the whole conversation.
    #[schema(value_type = Option<Object>)]
    pub context_management: Option<Map<String, Value>>,
    /// The conversation that the model answers.
    #[serde(flatten, skip_deserializing)]
    pub conversation: Conversation,
}

/// A conversation, with its tools and instructions. Also the request of `POST /v1/messages/count_tokens`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = anthropic::Conversation)]
pub struct Conversation {
    /// Name or alias of a model. Empty or absent: the server's default model.
    pub model: Option<String>,
    /// The conversation so far. If the last message is the assistant's, the answer continues its text.
    #[schema(min_items = 1)]
    pub messages: Vec<MessageParam>,
    /// Instructions for the whole conversation.
    pub system: Option<Content<TextBlockParam>>,
    /// Tools that the model may call.
    pub tools: Option<Vec<Tool>>,
    /// Whether the model calls tools. Default: `auto`.
    pub tool_choice: Option<ToolChoice>,
    /// Whether a model that can reason should do so. Default: `disabled`.
    pub thinking: Option<Thinking>,
    /// How much a model reasons, and the form of the answer.
    pub output_config: Option<OutputConfig>,
}

/// A message of the conversation.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = anthropic::MessageParam)]
pub struct MessageParam {
    /// Who says the message.
    pub role: Role,
    /// What the message says.
    pub content: Content<ContentBlockParam>,
}

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = anthropic::Role)]
pub enum Role {
    /// The person, or a tool.
    User,
    /// The model.
    Assistant,
    /// Instructions for the rest of the conversation.
    System,
}

/// Whether a model reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::Thinking)]
pub enum Thinking {
    /// The model reasons.
    Enabled {
        /// Most tokens of reasoning. Then its closing tag is forced, and the answer follows. The tokens of reasoning also count
        /// as tokens of `max_tokens`.
        budget_tokens: Option<u32>,
        /// Whether the answer shows the reasoning. Default: `summarized`.
        display: Option<ThinkingDisplay>,
    },
    /// The same as `enabled`.
    Adaptive {
        /// Whether the answer shows the reasoning. Default: `summarized`.
        display: Option<ThinkingDisplay>,
    },
    /// The model does not reason.
    Disabled,
    /// The same as `disabled`. Texts between calls of tools stay texts.
    BetweenTools,
}

/// Whether an answer shows the model's reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = anthropic::ThinkingDisplay)]
pub enum ThinkingDisplay {
    /// The whole reasoning is shown.
    Summarized,
    /// Blocks of reasoning are empty.
    Omitted,
}

/// How much a model reasons, and the form of the answer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = anthropic::OutputConfig)]
pub struct OutputConfig {
    /// How much the model reasons. The chat template gets this word, but few templates distinguish the levels.
    pub effort: Option<Effort>,
    /// The form of the answer's text. Default: any.
    pub format: Option<OutputFormat>,
}

/// How much a model reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = anthropic::Effort)]
pub enum Effort {
    /// The least.
    Low,
    /// More than `low`.
    Medium,
    /// More than `medium`.
    High,
    /// More than `high`.
    Xhigh,
    /// The most.
    Max,
}

/// The form of an answer's text.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = anthropic::OutputFormat)]
pub enum OutputFormat {
    /// JSON that follows a schema exactly. A schema with keywords that cannot be followed is refused.
    JsonSchema {
        /// The JSON Schema.
        #[schema(value_type = Object)]
        schema: Map<String, Value>,
    },
}

/// The answer of `POST /v1/messages/count_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = anthropic::InputTokens)]
pub struct InputTokens {
    /// Tokens of the prompt that `/v1/messages` would make of the request.
    pub input_tokens: u32,
}
