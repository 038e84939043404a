use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive};

use tenon_plugin_api::{SampleParams, SamplingDefaults, TokenBias};
use uuid::Uuid;

use super::{
    dry::{self, DrySettings},
    grammar::WantedGrammar,
};
use crate::{
    error::ApiError,
    openai::{GenerationParameters, Stop},
};

/// Most stop strings in a request.
const MAX_STOPS: usize = 4;
/// Most answers to a prompt.
const MAX_ANSWERS: u32 = 128;
/// Most log-probabilities for each token, besides its own.
const MAX_TOP_LOGPROBS: u32 = 20;

/// What to do for a request: its parameters, checked and completed.
#[derive(Debug, PartialEq)]
pub struct Settings {
    /// None: to the end of the context.
    pub max_tokens: Option<u32>,
    /// How to choose tokens.
    pub params: SampleParams,
    /// What chance depends on.
    pub seed: u64,
    /// Lower ones are begun first.
    pub priority: i32,
    /// Whether prompts that begin alike are computed once.
    pub cache_prompt: bool,
    /// Added to the logits.
    pub bias: Vec<TokenBias>,
    /// What keeps the answer from repeating itself.
    pub dry: Option<DrySettings>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// What the answer must look like. None: anything.
    pub grammar: Option<WantedGrammar>,
    /// How many answers to give to each prompt.
    pub n: u32,
    /// How many to generate for that; more than `n` only for whole answers.
    pub best_of: u32,
    /// Whether to give the log-probabilities of tokens, and of how many of the most likely ones.
    pub logprobs: Option<u32>,
    /// Whether to answer in pieces.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
}

impl Settings {
    /// Checks a request's parameters and completes them with what the model recommends.
    pub fn new(
        parameters: &GenerationParameters,
        defaults: &SamplingDefaults,
        vocab_size: u32,
    ) -> Result<Self, ApiError> {
        let stream = parameters.stream.unwrap_or(false);
        if parameters.stream_options.is_some() && !stream {
            let message = "'stream_options' is only allowed with \"stream\": true";
            return Err(ApiError::invalid_parameter("stream_options", message));
        }
        let options = parameters.stream_options.unwrap_or_default();
        let n = count("n", parameters.n)?.unwrap_or(1);
        Ok(Self {
            max_tokens: max_tokens(parameters).1,
            params: sample_params(parameters, defaults)?,
            seed: parameters.seed.map_or_else(random_seed, i64::cast_unsigned),
            priority: parameters.priority.unwrap_or(0),
            cache_prompt: parameters.cache_prompt.unwrap_or(true),
            bias: bias(parameters.logit_bias.as_ref(), vocab_size)?,
            dry: dry::settings(parameters)?,
            stop: stop(parameters.stop.clone())?,
            grammar: WantedGrammar::of(parameters)?,
            n,
            best_of: n,
            logprobs: None,
            stream,
            include_usage: options.include_usage.unwrap_or(false),
        })
    }
}

/// Refuses a request for no tokens at all.
pub fn refuse_no_tokens(parameters: &GenerationParameters) -> Result<(), ApiError> {
    match max_tokens(parameters) {
        (name, Some(0)) => Err(ApiError::invalid_parameter(
            name,
            format!("'{name}' must be at least 1"),
        )),
        _ => Ok(()),
    }
}

/// How many of something, if it is said.
pub fn count(name: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    within(name, value, 1..=MAX_ANSWERS)
}

/// How many of the most likely tokens.
pub fn top_logprobs(name: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    within(name, value, 0..=MAX_TOP_LOGPROBS)
}

/// The value, if it is in this range.
pub fn within<T: PartialOrd + Display>(
    name: &str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Result<Option<T>, ApiError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (min, max) = range.into_inner();
            let message = format!("'{name}' must be from {min} to {max}, not {value}");
            Err(ApiError::invalid_parameter(name, message))
        }
        value => Ok(value),
    }
}

fn max_tokens(parameters: &GenerationParameters) -> (&'static str, Option<u32>) {
    match parameters.max_completion_tokens {
        None => ("max_tokens", parameters.max_tokens),
        value => ("max_completion_tokens", value),
    }
}

fn bias(bias: Option<&BTreeMap<String, f32>>, vocab_size: u32) -> Result<Vec<TokenBias>, ApiError> {
    let mut known = BTreeMap::new();
    for (token, &bias) in bias.into_iter().flatten() {
        within("logit_bias", Some(bias), -100.0..=100.0)?;
        let id = token.parse().ok().filter(|&id: &u32| id < vocab_size);
        let id = id.ok_or_else(|| {
            let last = vocab_size.saturating_sub(1);
            let message =
                format!("'logit_bias' has the token '{token}'; the model's go from 0 to {last}");
            ApiError::invalid_parameter("logit_bias", message)
        })?;
        known.insert(id, bias);
    }
    let known = known.into_iter();
    Ok(known
        .map(|(token, bias)| TokenBias { token, bias })
        .collect())
}

fn sample_params(
    parameters: &GenerationParameters,
    defaults: &SamplingDefaults,
) -> Result<SampleParams, ApiError> {
    let temperature = within("temperature", parameters.temperature, 0.0..=2.0)?;
    let top_p = within("top_p", parameters.top_p, 0.0..=1.0)?;
    let typical_p = within("typical_p", parameters.typical_p, 0.0..=1.0)?;
    let frequency_penalty = parameters.frequency_penalty;
    let frequency_penalty = within("frequency_penalty", frequency_penalty, -2.0..=2.0)?;
    let presence_penalty = parameters.presence_penalty;
    let presence_penalty = within("presence_penalty", presence_penalty, -2.0..=2.0)?;
    let repetition_penalty = parameters.repetition_penalty;
    let repetition_penalty = within("repetition_penalty", repetition_penalty, 0.01..=100.0)?;
    // By their definition these two are ignored, not refused, where they make no sense.
    let top_k = parameters.top_k.map(|k| k.clamp(0, u32::MAX.into()) as u32);
    let min_p = parameters
        .min_p
        .map(|p| if (0.0..=1.0).contains(&p) { p } else { 0.0 });
    Ok(SampleParams {
        temperature: temperature.or(defaults.temperature()).unwrap_or(1.0),
        top_p: top_p.or(defaults.top_p()).unwrap_or(1.0),
        top_k: top_k.or(defaults.top_k()).unwrap_or(0),
        min_p: min_p.or(defaults.min_p()).unwrap_or(0.0),
        typical_p: typical_p.unwrap_or(1.0),
        frequency_penalty: frequency_penalty.unwrap_or(0.0),
        presence_penalty: presence_penalty.unwrap_or(0.0),
        repetition_penalty: repetition_penalty
            .or(defaults.repetition_penalty())
            .unwrap_or(1.0),
        ..SampleParams::default()
    })
}

fn stop(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = stop.map(Stop::into_vec).unwrap_or_default();
    if stops.len() > MAX_STOPS {
        let message = format!(
            "'stop' may have up to {MAX_STOPS} strings, not {}",
            stops.len()
        );
        return Err(ApiError::invalid_parameter("stop", message));
    }
    if stops.iter().any(String::is_empty) {
        let message = "'stop' has an empty string: leave it out";
        return Err(ApiError::invalid_parameter("stop", message));
    }
    Ok(stops)
}

/// A UUID has six fixed bits; folded, every bit is random.
fn random_seed() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn settings(fields: Value) -> Result<Settings, ApiError> {
        let defaults = SamplingDefaults::default().with_top_p(0.5).with_top_k(7);
        Settings::new(&serde_json::from_value(fields).unwrap(), &defaults, 10)
    }

    #[track_caller]
    fn check_refused(fields: Value, param: &str) {
        let error = settings(fields).unwrap_err().into_envelope().error;
        assert_eq!(error.param.as_deref(), Some(param));
        assert!(
            error.message.contains(&format!("'{param}'")),
            "{}",
            error.message
        );
    }

    #[test]
    fn the_model_s_recommendation_is_the_default_and_then_openai_s() {
        let params = settings(json!({})).unwrap().params;
        assert_eq!(
            (params.temperature, params.top_p, params.top_k),
            (1.0, 0.5, 7)
        );
        let params = settings(json!({"temperature": 0, "top_p": 1, "top_k": -1}))
            .unwrap()
            .params;
        assert_eq!(
            (params.temperature, params.top_p, params.top_k),
            (0.0, 1.0, 0)
        );
    }

    #[test]
    fn penalties_are_off_unless_somebody_wants_them() {
        let penalties = |fields| {
            let params = settings(fields).unwrap().params;
            let SampleParams {
                frequency_penalty,
                presence_penalty,
                repetition_penalty,
                ..
            } = params;
            (frequency_penalty, presence_penalty, repetition_penalty)
        };
        assert_eq!(penalties(json!({})), (0.0, 0.0, 1.0));
        let all =
            json!({"frequency_penalty": 1, "presence_penalty": -2, "repetition_penalty": 1.1});
        assert_eq!(penalties(all), (1.0, -2.0, 1.1));
    }

    #[test]
    fn what_makes_no_sense_is_ignored_where_the_contract_says_so() {
        for (value, expected) in [(0.1, 0.1), (1.0, 1.0), (-0.1, 0.0), (1.5, 0.0)] {
            assert_eq!(
                settings(json!({"min_p": value})).unwrap().params.min_p,
                expected
            );
        }
        for (value, expected) in [(0, 0), (-3, 0), (5, 5), (i64::MAX, u32::MAX)] {
            assert_eq!(
                settings(json!({"top_k": value})).unwrap().params.top_k,
                expected
            );
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        check_refused(json!({"temperature": 2.1}), "temperature");
        check_refused(json!({"temperature": 1e300}), "temperature");
        check_refused(json!({"top_p": -0.1}), "top_p");
        check_refused(json!({"frequency_penalty": -2.1}), "frequency_penalty");
        check_refused(json!({"presence_penalty": 2.1}), "presence_penalty");
        check_refused(json!({"repetition_penalty": 0}), "repetition_penalty");
        check_refused(json!({"typical_p": 1.1}), "typical_p");
        check_refused(json!({"n": 0}), "n");
        check_refused(json!({"n": 129}), "n");
        check_refused(json!({"logit_bias": {"1": 101}}), "logit_bias");
        check_refused(json!({"logit_bias": {"10": 1}}), "logit_bias");
        check_refused(json!({"logit_bias": {"a": 1}}), "logit_bias");
        check_refused(json!({"stop": ["a", "b", "c", "d", "e"]}), "stop");
        check_refused(json!({"stop": ""}), "stop");
        check_refused(json!({"stream_options": {}}), "stream_options");
    }

    #[test]
    fn both_names_of_max_tokens_work() {
        assert_eq!(settings(json!({})).unwrap().max_tokens, None);
        assert_eq!(
            settings(json!({"max_tokens": 3})).unwrap().max_tokens,
            Some(3)
        );
        let both = json!({"max_tokens": 3, "max_completion_tokens": 4});
        assert_eq!(settings(both).unwrap().max_tokens, Some(4));
    }

    #[test]
    fn no_tokens_are_refused_by_the_name_that_counts() {
        for (fields, name) in [
            (json!({"max_tokens": 0}), "max_tokens"),
            (
                json!({"max_tokens": 3, "max_completion_tokens": 0}),
                "max_completion_tokens",
            ),
        ] {
            let parameters = serde_json::from_value(fields).unwrap();
            let error = refuse_no_tokens(&parameters).unwrap_err();
            assert_eq!(error.into_envelope().error.param.as_deref(), Some(name));
        }
        assert!(refuse_no_tokens(&GenerationParameters::default()).is_ok());
    }

    #[test]
    fn each_token_is_biased_once() {
        let bias = settings(json!({"logit_bias": {"5": -100, "05": 1, "1": 0.5}}));
        let bias = bias.unwrap().bias;
        let tokens: Vec<u32> = bias.iter().map(|bias| bias.token).collect();
        assert_eq!(tokens, [1, 5]);
        assert_eq!(bias[0].bias, 0.5);
    }

    #[test]
    fn stop_is_one_string_or_several() {
        assert_eq!(settings(json!({"stop": "a"})).unwrap().stop, ["a"]);
        assert_eq!(
            settings(json!({"stop": ["a", "b"]})).unwrap().stop,
            ["a", "b"]
        );
        assert!(settings(json!({"stop": null})).unwrap().stop.is_empty());
    }

    #[test]
    fn a_seed_is_kept_and_none_is_random() {
        assert_eq!(settings(json!({"seed": -1})).unwrap().seed, u64::MAX);
        let random = || settings(json!({})).unwrap().seed;
        assert_ne!(random(), random());
    }

    #[test]
    fn usage_in_streams_is_on_request() {
        let stream = settings(json!({"stream": true, "stream_options": {"include_usage": true}}));
        assert!(stream.unwrap().include_usage);
        assert!(
            !settings(json!({"stream": true, "stream_options": null}))
                .unwrap()
                .include_usage
        );
    }
}
