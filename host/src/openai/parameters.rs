use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{GrammarRequest, ResponseFormat};

/// What chat and plain completions have in common. Absent and `null` are the same.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct GenerationParameters {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// Whether to send the answer in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// Options of a stream.
    pub stream_options: Option<StreamOptions>,
    /// Most tokens to generate. 0 only where the prompt is repeated.
    #[schema(minimum = 0)]
    pub max_tokens: Option<u32>,
    /// The newer name of `max_tokens`, which it overrides.
    #[schema(minimum = 0)]
    pub max_completion_tokens: Option<u32>,
    /// From 0, always the most likely token, to 2. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability, 0 to 1. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Sample from this many most likely tokens. Only relevant if positive.
    pub top_k: Option<i64>,
    /// Sample from tokens at least this likely relative to the most likely one. Only relevant from 0 to 1.
    pub min_p: Option<f32>,
    /// Sample from the tokens closest to what the model expects to say next, with this total probability, from 0 to 1. 1: off.
    #[schema(minimum = 0, maximum = 1)]
    pub typical_p: Option<f32>,
    /// How much less likely a token becomes with each time that it is in the answer already, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f32>,
    /// How much less likely a token becomes once it is in the answer, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f32>,
    /// Weakens tokens that are in the prompt or the answer already, by this factor. Default: the model's own, else 1.
    #[schema(minimum = 0.01, maximum = 100)]
    pub repetition_penalty: Option<f32>,
    /// Weakens tokens that would repeat a stretch of the text, by this times `dry_base` to the power of how much longer than
    /// `dry_allowed_length` the stretch is. Default: 0, off.
    #[schema(minimum = 0, maximum = 100)]
    pub dry_multiplier: Option<f32>,
    /// Default: 1.75.
    #[schema(minimum = 1, maximum = 100)]
    pub dry_base: Option<f32>,
    /// How many tokens may be repeated. Default: 2.
    pub dry_allowed_length: Option<u32>,
    /// Texts that no repeated stretch goes across. Default: line break, `:`, `"` and `*`. Control tokens always are.
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// The same seed and request give the same answer. Default: random.
    pub seed: Option<i64>,
    /// Requests with a lower one are begun first; those with the same in the order of their arrival. Default: 0.
    pub priority: Option<i32>,
    /// Whether to use what is stored of earlier prompts that begin alike, and to store this one. Default: true.
    pub cache_prompt: Option<bool>,
    /// Texts that end the answer, and are not part of it.
    pub stop: Option<Stop>,
    /// What the answer must look like, exactly. Not together with `response_format`.
    pub grammar: Option<GrammarRequest>,
    /// What the answer must look like, as OpenAI has it.
    pub response_format: Option<ResponseFormat>,
    /// How many answers to give to each prompt. Default: 1.
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<u32>,
    /// Added to the logits of tokens, by their ids: -100, almost never, to 100, almost always.
    pub logit_bias: Option<BTreeMap<String, f32>>,
    /// Accepted, of no effect.
    pub user: Option<String>,
    /// Accepted, of no effect: nothing is stored.
    pub store: Option<bool>,
    /// Accepted, of no effect.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Accepted, of no effect.
    pub service_tier: Option<String>,
}

/// Options of a stream.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Whether to send the usage in one more chunk at the end.
    pub include_usage: Option<bool>,
}

/// Texts that end an answer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Stop {
    /// A single one.
    One(String),
    /// Up to four.
    Many(Vec<String>),
}

impl Stop {
    /// The texts as a list.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}
