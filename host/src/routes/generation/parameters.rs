use std::collections::BTreeMap;

/// The parameters of a request of any API. None: the default.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Whether to answer with a stream.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
    /// Most tokens to generate, and the name of the parameter that says so. -1: as many as fit.
    pub max_tokens: Option<(&'static str, i64)>,
    pub min_tokens: Option<u32>,
    /// Whether the model is kept from ending an answer.
    pub ignore_eos: bool,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub dry_multiplier: Option<f32>,
    pub dry_base: Option<f32>,
    pub dry_allowed_length: Option<u32>,
    pub dry_sequence_breakers: Option<Vec<String>>,
    pub seed: Option<i64>,
    pub priority: Option<i32>,
    /// Whether to use the cached prefix of earlier prompts, and to keep this prompt for later ones.
    pub cache_prompt: Option<bool>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// How many answers to give to each prompt.
    pub n: Option<u32>,
    /// Biases, which are added to the logits of tokens, by token id.
    pub logit_bias: BTreeMap<String, f32>,
}
