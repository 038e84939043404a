use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CompletionLogprobs, FinishReason, GenerationParameters};

/// What `POST /v1/completions` takes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// What to continue: one prompt or several. With several, the answers to the first one come first.
    pub prompt: Prompt,
    /// Whether to return the log-probabilities of all tokens, and how many of the most likely ones at each place.
    #[schema(minimum = 0, maximum = 20)]
    pub logprobs: Option<u32>,
    /// Whether to repeat the prompt before the answer; with `logprobs`, its tokens have theirs. With `max_tokens` 0 there
    /// is only the prompt. Default: false.
    pub echo: Option<bool>,
    /// Generate this many answers and return the `n` whose tokens are the most likely ones in the mean. Not for streams.
    /// Default: `n`.
    #[schema(minimum = 1, maximum = 128)]
    pub best_of: Option<u32>,
    /// What comes after the answer, for models that are trained to fill a gap.
    pub suffix: Option<String>,
    /// Everything that chat takes too.
    #[serde(flatten)]
    pub parameters: GenerationParameters,
}

/// What to continue.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of tokens or a list of lists of tokens"
)]
pub enum Prompt {
    /// A text, in which control tokens may be written.
    Text(String),
    /// Tokens of the model.
    Tokens(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// Several prompts of tokens.
    TokenLists(Vec<Vec<u32>>),
}

/// One answer, or a piece of it in a stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// What was generated.
    pub text: String,
    /// Which answer this is.
    pub index: u32,
    /// Null unless asked for.
    #[schema(required)]
    pub logprobs: Option<CompletionLogprobs>,
    /// Null in a stream before its end.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}
