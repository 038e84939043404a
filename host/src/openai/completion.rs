use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CompletionLogprobs, FinishReason, GenerationParameters};

/// The request of `POST /v1/completions`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// One or several prompts to continue. With several, the answers to the first one come first.
    pub prompt: Prompt,
    /// Return the log-probabilities of all tokens, and of this many of the most likely tokens for each position.
    #[schema(minimum = 0, maximum = 20)]
    pub logprobs: Option<u32>,
    /// Whether to repeat the prompt before the answer. With `logprobs`, the prompt's tokens get theirs too. With
    /// `max_tokens` 0 there is only the prompt. Default: false.
    pub echo: Option<bool>,
    /// Generate this many answers to each prompt, and return the `n` whose tokens are on average the most likely. Not for
    /// streams. Default: `n`.
    #[schema(minimum = 1, maximum = 128)]
    pub best_of: Option<u32>,
    /// Whether the model's special tokens, such as its begin token, are added around a text prompt. A prompt that already
    /// begins with that token gets no second one. Default: true.
    pub add_special_tokens: Option<bool>,
    /// The text after the answer, for infill: only with models that are trained to fill in the middle.
    pub suffix: Option<String>,
    /// The parameters that chats have too.
    #[serde(flatten, skip_deserializing)]
    pub parameters: GenerationParameters,
}

/// One or several prompts, as text or tokens.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of tokens or a list of lists of tokens"
)]
pub enum Prompt {
    /// A text. Control tokens that are written in it are encoded as control tokens.
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
    /// The generated text.
    pub text: String,
    /// Index of the answer.
    pub index: u32,
    /// Log-probabilities of the tokens. Null unless requested.
    #[schema(required)]
    pub logprobs: Option<CompletionLogprobs>,
    /// Why the answer ended. Null in a stream before its end.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}
