use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{GrammarRequest, ResponseFormat, Stop};

/// The parameters that chats and completions have in common. Absent and `null` are the same.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct GenerationParameters {
    /// Name or alias of a model. Empty: the server's default model.
    pub model: Option<String>,
    /// Whether to send the answer in pieces, as server-sent events.
    pub stream: Option<bool>,
    /// Options of a stream.
    pub stream_options: Option<StreamOptions>,
    /// Most tokens to generate, up to the end of the context. -1: as many as fit. 0 is only allowed with `echo`.
    #[schema(minimum = -1)]
    pub max_tokens: Option<i64>,
    /// The newer name of `max_tokens`, which it overrides.
    #[schema(minimum = -1)]
    pub max_completion_tokens: Option<i64>,
    /// The model cannot end an answer before it has this many tokens. Stop strings and a grammar can. Default: 0.
    #[schema(minimum = 0)]
    pub min_tokens: Option<u32>,
    /// Whether the model is kept from ending an answer. Stop strings and a grammar still can. Default: false.
    pub ignore_eos: Option<bool>,
    /// Sampling temperature: from 0, which always takes the most likely token, to 2. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f32>,
    /// Sample from the most likely tokens with this total probability, 0 to 1. Default: the model's own, else 1.
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f32>,
    /// Sample from this many of the most likely tokens. Only used if positive.
    pub top_k: Option<i64>,
    /// Sample from tokens at least this likely relative to the most likely one, 0 to 1. Any other value is ignored, and
    /// `warnings` says so.
    pub min_p: Option<f32>,
    /// Sample from the tokens whose surprise is closest to the expected surprise, with this total probability, 0 to 1. 1:
    /// off.
    #[schema(minimum = 0, maximum = 1)]
    pub typical_p: Option<f32>,
    /// How much less likely a token becomes with each time that it is already in the answer, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub frequency_penalty: Option<f32>,
    /// How much less likely a token becomes once it is in the answer, -2 to 2. Default: 0.
    #[schema(minimum = -2, maximum = 2)]
    pub presence_penalty: Option<f32>,
    /// Weakens tokens that are already in the prompt or the answer, by this factor. Default: the model's own, else 1.
    #[schema(minimum = 0.01, maximum = 100)]
    pub repetition_penalty: Option<f32>,
    /// Weakens each token that would continue a repeated stretch of the text (DRY). The penalty is this × `dry_base` to the
    /// power of (length of the stretch − `dry_allowed_length`). Default: 0, off.
    #[schema(minimum = 0, maximum = 100)]
    pub dry_multiplier: Option<f32>,
    /// Growth of the DRY penalty with each repeated token. Default: 1.75.
    #[schema(minimum = 1, maximum = 100)]
    pub dry_base: Option<f32>,
    /// How many tokens may be repeated without a DRY penalty. Default: 2.
    pub dry_allowed_length: Option<u32>,
    /// Texts that end a repeated stretch. Default: line break, `:`, `"` and `*`. Control tokens always end it.
    pub dry_sequence_breakers: Option<Vec<String>>,
    /// The same seed and request give the same answer. Default: random.
    pub seed: Option<i64>,
    /// Requests of a client with a lower priority begin first; those with the same one begin in the order of their arrival.
    /// Between clients the priority counts as far as the operator allows. Default: 0.
    pub priority: Option<i32>,
    /// Whether to use the cached prefix of earlier prompts, and to keep this prompt for later ones. Default: true.
    pub cache_prompt: Option<bool>,
    /// Stop strings: texts that end the answer and are not part of it.
    pub stop: Option<Stop>,
    /// A grammar that the answer follows exactly. Not together with `response_format`.
    pub grammar: Option<GrammarRequest>,
    /// The form of the answer, as in OpenAI's API. Not together with `grammar`.
    pub response_format: Option<ResponseFormat>,
    /// How many answers to give to each prompt. Default: 1.
    #[schema(minimum = 1, maximum = 128)]
    pub n: Option<u32>,
    /// Logit bias: added to the logits of tokens, by their ids. From -100, almost never, to 100, almost always.
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
