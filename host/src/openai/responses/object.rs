use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    OutputItem, ReasoningOptions, ResponseTool, ResponseToolChoice, TextOptions, Truncation,
};

/// A response, with the parameters that it was made with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResponseObject {
    /// A unique id.
    pub id: String,
    /// Always `response`.
    pub object: &'static str,
    /// Unix seconds.
    pub created_at: u64,
    /// How far the response is.
    pub status: ResponseStatus,
    /// Unix seconds. Null unless the status is `completed`.
    #[schema(required)]
    pub completed_at: Option<u64>,
    /// Why the response failed. Null unless the status is `failed`.
    #[schema(required)]
    pub error: Option<ResponseFailure>,
    /// Why the response was cut off. Null unless the status is `incomplete`.
    #[schema(required)]
    pub incomplete_details: Option<IncompleteDetails>,
    /// The model that answers.
    pub model: String,
    /// Changes when the model or the server changes: the same `seed` may then give another response.
    pub system_fingerprint: String,
    /// The items that the model wrote.
    pub output: Vec<OutputItem>,
    /// The usage. Null while the response is in progress.
    #[schema(required)]
    pub usage: Option<ResponseUsage>,
    /// As in the request.
    #[schema(required)]
    pub instructions: Option<String>,
    /// As in the request.
    #[schema(required)]
    pub max_output_tokens: Option<i64>,
    /// As in the request.
    #[schema(required)]
    pub max_tool_calls: Option<u64>,
    /// As in the request, with the defaults.
    pub text: TextOptions,
    /// The tools that the model could call.
    pub tools: Vec<ResponseTool>,
    /// As in the request.
    pub tool_choice: ResponseToolChoice,
    /// As in the request.
    pub parallel_tool_calls: bool,
    /// As in the request.
    pub reasoning: ReasoningOptions,
    /// As in the request.
    pub truncation: Truncation,
    /// As in the request.
    pub top_logprobs: u32,
    /// The temperature that was used.
    pub temperature: f32,
    /// The total probability of the tokens that were sampled from.
    pub top_p: f32,
    /// As in the request.
    pub presence_penalty: f32,
    /// As in the request.
    pub frequency_penalty: f32,
    /// As in the request.
    #[schema(required)]
    pub previous_response_id: Option<String>,
    /// Whether the response is kept.
    pub store: bool,
    /// Always false.
    pub background: bool,
    /// Always `default`.
    pub service_tier: &'static str,
    /// As in the request.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// As in the request.
    #[schema(required)]
    pub prompt_cache_key: Option<String>,
    /// As in the request.
    #[schema(required)]
    pub safety_identifier: Option<String>,
    /// As in the request.
    #[schema(required)]
    pub user: Option<String>,
    /// Warnings about the request or the response, a sentence each. Absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// The model writes the response.
    InProgress,
    /// The response is complete.
    Completed,
    /// The response was cut off by `max_output_tokens` or the end of the context.
    Incomplete,
    /// The response could not be completed.
    Failed,
}

/// Why a response was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IncompleteDetails {
    /// Always `max_output_tokens`. It also stands for the end of the context.
    pub reason: &'static str,
}

/// Why a response failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseFailure {
    /// `server_error`, `rate_limit_exceeded` or `invalid_prompt`. The event `error` has the exact code.
    pub code: &'static str,
    /// For people: what is wrong, and what to do.
    pub message: String,
}

/// How many tokens a response took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseUsage {
    /// Tokens of the prompt, including those that the chat template adds.
    pub input_tokens: u32,
    /// Details of the prompt's tokens.
    pub input_tokens_details: InputTokensDetails,
    /// Generated tokens, including those of stop strings, without the model's end token.
    pub output_tokens: u32,
    /// Details of the generated tokens.
    pub output_tokens_details: OutputTokensDetails,
    /// All tokens together.
    pub total_tokens: u32,
}

/// Details of a prompt's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// Tokens of the cached prefix: an earlier prompt began with them too, so they were not computed again.
    pub cached_tokens: u32,
    /// Always 0: keeping a prompt for later ones costs nothing.
    pub cache_write_tokens: u32,
}

/// Details of the generated tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Tokens of the reasoning, with those that begin and end it.
    pub reasoning_tokens: u32,
}
