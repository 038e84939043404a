use super::super::generation::Parameters;
use crate::{
    error::ApiError,
    openai::{GenerationParameters, Stop},
};

/// Reads the parameters that chats and completions have in common.
pub fn parameters(asked: &GenerationParameters) -> Result<Parameters, ApiError> {
    let stream = asked.stream.unwrap_or(false);
    if asked.stream_options.is_some() && !stream {
        let message = "'stream_options' is only allowed with \"stream\": true";
        return Err(ApiError::invalid_parameter("stream_options", message));
    }
    let options = asked.stream_options.unwrap_or_default();
    let newer = asked.max_completion_tokens;
    let newer = newer.map(|tokens| ("max_completion_tokens", tokens));
    let older = asked.max_tokens.map(|tokens| ("max_tokens", tokens));
    Ok(Parameters {
        stream,
        include_usage: options.include_usage.unwrap_or(false),
        max_tokens: newer.or(older),
        min_tokens: asked.min_tokens,
        ignore_eos: asked.ignore_eos.unwrap_or(false),
        temperature: asked.temperature,
        top_p: asked.top_p,
        top_k: asked.top_k,
        min_p: asked.min_p,
        typical_p: asked.typical_p,
        frequency_penalty: asked.frequency_penalty,
        presence_penalty: asked.presence_penalty,
        repetition_penalty: asked.repetition_penalty,
        dry_multiplier: asked.dry_multiplier,
        dry_base: asked.dry_base,
        dry_allowed_length: asked.dry_allowed_length,
        dry_sequence_breakers: asked.dry_sequence_breakers.clone(),
        seed: asked.seed,
        priority: asked.priority,
        cache_prompt: asked.cache_prompt,
        stop: asked.stop.clone().map(Stop::into_vec).unwrap_or_default(),
        n: asked.n,
        logit_bias: asked.logit_bias.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
pub mod tests {
    use serde_json::Value;

    use super::*;

    /// The parameters of a request with these fields. Tests of what all APIs share use them as well.
    pub fn parameters_of(fields: Value) -> Result<Parameters, ApiError> {
        parameters(&serde_json::from_value(fields).unwrap())
    }
}
