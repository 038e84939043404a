use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Log-probabilities of the tokens of a chat's answer, in the model's own distribution.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// The tokens, in order.
    pub content: Vec<ChatTokenLogprob>,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<()>,
}

/// A token of a chat's answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChatTokenLogprob {
    /// The token and its own log-probability.
    #[serde(flatten)]
    pub token: TokenLogprob,
    /// The most likely tokens at this position, the most likely first.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A token and its log-probability.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenLogprob {
    /// The token as text. Bytes that are no text are written like `\\xf0\\x9f`.
    pub token: String,
    /// Natural logarithm of the probability; -9999.0 for probability 0.
    pub logprob: f32,
    /// The token's bytes. A character may be spread over several tokens.
    pub bytes: Vec<u8>,
}

/// Log-probabilities of the tokens of a completion, in the model's own distribution. All lists are as long as `tokens`.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// The tokens as text, in order. Tokens with bytes that are no text are written like `bytes:\\xf0\\x9f`.
    pub tokens: Vec<String>,
    /// Natural logarithms of the tokens' probabilities; -9999.0 for probability 0. Null for the first token of a repeated
    /// prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// For each position, the most likely tokens and the token of the text. Null for the first token of a repeated prompt.
    #[schema(value_type = Vec<Option<std::collections::HashMap<String, f32>>>)]
    pub top_logprobs: Vec<Option<TopLogprobs>>,
    /// Number of characters of the text before each token.
    pub text_offset: Vec<usize>,
}

/// Log-probabilities by token, the most likely first. Each token occurs once.
#[derive(Clone, Debug, Default)]
pub struct TopLogprobs(Vec<(String, f32)>);

impl TopLogprobs {
    /// Adds a token, unless it already occurs.
    pub fn add(&mut self, token: String, logprob: f32) {
        if self.0.iter().all(|(other, _)| *other != token) {
            self.0.push((token, logprob));
        }
    }
}

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}
