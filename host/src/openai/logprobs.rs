use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// How likely the tokens of a chat's answer were in the model's own distribution.
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
    /// The most likely tokens at its place, most likely first.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A token and its log-probability.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenLogprob {
    /// As text. Bytes that are no text are written as in `\\xf0\\x9f`.
    pub token: String,
    /// Natural logarithm of the probability; -9999.0 for none.
    pub logprob: f32,
    /// The token's bytes: a character may be in several tokens.
    pub bytes: Vec<u8>,
}

/// How likely the tokens of a completion were in the model's own distribution. All lists are as long as `tokens`.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// The tokens as text, in order. Tokens with bytes that are no text are written as in `bytes:\\xf0\\x9f`.
    pub tokens: Vec<String>,
    /// Natural logarithms of their probabilities, -9999.0 for none; null for the first token of a repeated prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens at each place and the one that is there; null for the first token of a repeated prompt.
    #[schema(value_type = Vec<Option<std::collections::HashMap<String, f32>>>)]
    pub top_logprobs: Vec<Option<TopLogprobs>>,
    /// Characters of the text before each.
    pub text_offset: Vec<usize>,
}

/// Log-probabilities by token, most likely first. Each token is there once.
#[derive(Clone, Debug, Default)]
pub struct TopLogprobs(Vec<(String, f32)>);

impl TopLogprobs {
    /// Adds a token, unless it is there.
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
