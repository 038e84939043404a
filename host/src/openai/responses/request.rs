use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    super::{ReasoningEffort, Stop},
    ResponseInput, ResponseTool, ResponseToolChoice, read_apart,
};

/// The request of `POST /v1/responses`. Absent and `null` are the same.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ResponseRequest {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// The conversation so far: a text of the user, or items.
    #[serde(default, deserialize_with = "read_apart")]
    #[schema(required)]
    pub input: Option<ResponseInput>,
    /// The id of an earlier response that the server keeps. Its input and output come before the input.
    pub previous_response_id: Option<String>,
    /// Whether to keep the response, for requests that continue or read it. Default: true if the server keeps any.
    pub store: Option<bool>,
    /// A system message before the input. The instructions of an earlier response are not used.
    pub instructions: Option<String>,
    /// Most tokens to generate, including those of the reasoning. Default: up to the end of the context.
    #[schema(minimum = 1)]
    pub max_output_tokens: Option<i64>,
    /// The form of the text.
    pub text: Option<TextOptions>,
    /// Tools that the model may call.
    #[serde(default, deserialize_with = "read_apart")]
    pub tools: Option<Vec<ResponseTool>>,
    /// Whether the model calls tools, and which. Default: `auto`.
    #[serde(default, deserialize_with = "read_apart")]
    pub tool_choice: Option<ResponseToolChoice>,
    /// Whether the response may have several calls. Default: true.
    pub parallel_tool_calls: Option<bool>,
    /// Accepted, of no effect: it limits calls of tools that the server itself runs, and this server runs none.
    pub max_tool_calls: Option<u64>,
    /// Whether and how much a model that can reason should do so. Default: not at all.
    pub reasoning: Option<ReasoningOptions>,
    /// `message.output_text.logprobs`: the text comes with the log-probabilities of its tokens.
    /// `reasoning.encrypted_content`: reasoning items have `encrypted_content`, for clients that send only this back. Other
    /// values of OpenAI's API belong to tools that the server itself runs, and have no effect.
    pub include: Option<Vec<String>>,
    /// How many of the most likely tokens to return for each position of the text. Default: 0.
    #[schema(minimum = 0, maximum = 20)]
    pub top_logprobs: Option<u32>,
    /// What to do with an input that is longer than the context. Default: `disabled`.
    pub truncation: Option<Truncation>,
    /// Whether to send the response in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// Options of a stream.
    pub stream_options: Option<ResponseStreamOptions>,
    /// Sampling temperature: from 0, which always takes the most likely token, to 2. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability, 0 to 1. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// How much less likely a token becomes once it is in the response, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f32>,
    /// How much less likely a token becomes with each time that it is already in the response, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f32>,
    /// Sample from this many of the most likely tokens. Only used if positive.
    pub top_k: Option<i64>,
    /// Sample from tokens at least this likely relative to the most likely one, 0 to 1. Any other value is ignored, and
    /// `warnings` says so.
    pub min_p: Option<f32>,
    /// Weakens tokens that are already in the prompt or the response, by this factor. Default: the model's own, else 1.
    #[schema(minimum = 0.01, maximum = 100)]
    pub repetition_penalty: Option<f32>,
    /// The same seed and request give the same response. Default: random.
    pub seed: Option<i64>,
    /// Stop strings: texts that end the response and are not part of it.
    pub stop: Option<Stop>,
    /// Whether a model that can reason should do so. Default: false, unless `reasoning.effort` asks for it.
    pub enable_thinking: Option<bool>,
    /// Variables for the model's chat template.
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Requests of a client with a lower priority begin first. Default: 0.
    pub priority: Option<i32>,
    /// Whether to use the cached prefix of earlier prompts, and to keep this prompt for later ones. Default: true.
    pub cache_prompt: Option<bool>,
    /// Accepted and shown in the response.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Accepted and shown in the response. Every prompt uses the cached prefix that it has in common with earlier ones.
    pub prompt_cache_key: Option<String>,
    /// Accepted and shown in the response.
    pub safety_identifier: Option<String>,
    /// Accepted and shown in the response.
    pub user: Option<String>,
    /// Accepted, of no effect.
    pub service_tier: Option<String>,
}

/// The form of a response's text.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TextOptions {
    /// Any text, or JSON. Default: any text.
    pub format: Option<TextFormat>,
    /// Accepted and shown in the response, without effect. Default: `medium`.
    pub verbosity: Option<String>,
}

/// Any text, or JSON.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct TextFormat {
    /// The kind of text.
    #[serde(rename = "type")]
    pub kind: TextKind,
    /// The name of the schema. Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the schema is for. Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema, for `json_schema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Whether to refuse a schema that cannot be followed exactly. Default: false. Then it is followed as far as possible,
    /// and `warnings` in the response says what is not certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Kinds of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// Any text.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema validates.
    JsonSchema,
}

/// Whether and how much a model reasons.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct ReasoningOptions {
    /// How much to reason. Every effort but `none` turns reasoning on, in models that can be asked for it.
    pub effort: Option<ReasoningEffort>,
    /// Most tokens of reasoning. Then its closing tag is forced, and the answer follows. A budget turns reasoning on unless it is
    /// 0, or `effort` or `enable_thinking` say otherwise. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Accepted, of no effect: reasoning items have the reasoning itself as their `content`, and no summary.
    pub summary: Option<SummaryKind>,
}

/// Kinds of summaries of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SummaryKind {
    /// Of any length.
    Auto,
    /// A short one.
    Concise,
    /// A long one.
    Detailed,
}

/// What to do with an input that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Truncation {
    /// Leave out the oldest items, after the system messages at the beginning. `warnings` in the response says how many.
    Auto,
    /// Refuse the request.
    #[default]
    Disabled,
}

/// Options of a response's stream.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct ResponseStreamOptions {
    /// Accepted without effect: events are not padded.
    pub include_obfuscation: Option<bool>,
}
