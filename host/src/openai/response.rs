use serde::Serialize;
use utoipa::ToSchema;

// `C` is how its kind writes a choice.
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
    /// Changes when the model or the server does: the same `seed` may then give another answer.
    pub system_fingerprint: String,
    /// Answers; empty in the chunk of a stream that carries the usage.
    pub choices: Vec<C>,
    /// Absent in streams that did not ask for it; else null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// How many tokens a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens of all prompts, with what the chat template adds.
    pub prompt_tokens: u32,
    /// Tokens generated in all answers, those of stop strings included, the model's end tokens not.
    pub completion_tokens: u32,
    /// Both together.
    pub total_tokens: u32,
    /// What the prompt consisted of.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the generated tokens were, for models that think.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// What a prompt consisted of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens that an earlier prompt had in common with it, so that they did not have to be computed.
    pub cached_tokens: u32,
}

/// What the generated tokens were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Those of thoughts, with what begins and ends them.
    pub reasoning_tokens: u32,
}

impl Usage {
    /// Usage with its total.
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
    /// The model ended it, or a stop string came.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The model called tools.
    ToolCalls,
}
