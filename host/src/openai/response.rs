use serde::Serialize;
use utoipa::ToSchema;

// `C` is the choice of a chat or a completion, whole or as a chunk.
/// An answer, or one chunk of a streamed one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Completion<C> {
    /// The same in all chunks of an answer.
    pub id: String,
    /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
    pub object: &'static str,
    /// Unix seconds; the same in all chunks of an answer.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Changes when the model or the server changes: the same `seed` may then give another answer.
    pub system_fingerprint: String,
    /// The answers. Empty in the chunk of a stream that carries the usage.
    pub choices: Vec<C>,
    /// The usage. Absent in streams that did not ask for it; else null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
    /// Warnings about the request or the answers, a sentence each. Absent if there are none. In streams they are in the last
    /// chunk of each answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How many tokens a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens of all prompts, including those that the chat template adds.
    pub prompt_tokens: u32,
    /// Generated tokens of all answers, including those of stop strings, without the model's end tokens.
    pub completion_tokens: u32,
    /// Prompt and completion tokens together.
    pub total_tokens: u32,
    /// Details of the prompt tokens.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Details of the generated tokens, for models that reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// Details of the prompt tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens of the cached prefix: an earlier prompt began with them too, so they were not computed again.
    pub cached_tokens: u32,
}

/// Details of the generated tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens of the reasoning, with those that begin and end it.
    pub reasoning_tokens: u32,
}

impl Usage {
    /// Makes the usage, with its total.
    pub fn new(prompt_tokens: u32, cached_tokens: u32, completion_tokens: u32) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
            completion_tokens_details: None,
        }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended the answer, or a stop string occurred.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
}
