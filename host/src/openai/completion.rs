use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FinishReason, GenerationParameters};

/// What `POST /v1/completions` takes.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CompletionRequest {
    /// What to continue.
    pub prompt: Prompt,
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
    /// Always null.
    #[schema(required)]
    pub logprobs: Option<()>,
    /// Null in a stream before its end.
    #[schema(required)]
    pub finish_reason: Option<FinishReason>,
}
