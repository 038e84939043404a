use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tenon_plugin_api::{ModelInfo, SampleParams, SamplingDefaults, TokenBias};
use uuid::Uuid;

use super::{
    super::checks::{no_empty, within},
    dry::{self, DrySettings},
    parameters::Parameters,
};
use crate::{
    config::RequestBounds,
    engine::{Request, Scoring},
    error::ApiError,
    keys::{self, Account},
    layers::client::Client,
};

/// Most stop strings in a request.
const MAX_STOPS: usize = 4;
/// Most answers to a prompt.
const MAX_ANSWERS: u32 = 128;
/// Most log-probabilities for each position, besides that of its token.
const MAX_TOP_LOGPROBS: u32 = 20;

/// The settings of a request: its parameters, checked and with their defaults.
#[derive(Debug)]
pub struct Settings {
    /// The request's account. None if no record is kept of the request.
    pub account: Option<Arc<Account>>,
    /// The parameters that the engine needs.
    pub request: Arc<Request>,
    /// DRY, which keeps the answer from repeating itself. None if it is off.
    pub dry: Option<DrySettings>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// How many answers to give to each prompt.
    pub n: u32,
    /// How many answers to generate for each prompt. More than `n` only for whole answers.
    pub best_of: u32,
    /// Whether to return the log-probabilities of the answer's tokens.
    pub logprobs: bool,
    /// Most tokens of an answer's reasoning. None: any number.
    pub reasoning_budget: Option<u32>,
    /// Warnings about parameters without effect, a sentence each.
    pub warnings: Vec<String>,
    /// Whether to answer with a stream.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
}

impl Settings {
    /// Notes the id of the response, for the record of the request.
    pub fn note_id(&self, id: &str) {
        if let Some(account) = &self.account {
            account.answers.set_response_id(id);
        }
    }
}

/// The parameters of a request that only its route knows.
#[derive(Default)]
pub struct RouteParameters {
    /// The client that the request comes from.
    pub client: Client,
    /// The time by which the answer has to be complete. None without a limit.
    pub deadline: Option<Instant>,
    /// Number of prompts.
    pub prompts: usize,
    /// Default of `max_tokens`. None: up to the end of the context.
    pub max_tokens: Option<u32>,
    /// How many of the most likely tokens are returned for each position with their log-probabilities, besides the token
    /// itself. None: no log-probabilities.
    pub logprobs: Option<u32>,
    /// Whether to repeat the prompts before the answers.
    pub echo: bool,
    /// How many answers to generate for each prompt. None: `n`.
    pub best_of: Option<u32>,
    /// Most tokens of an answer's reasoning. None: any number.
    pub reasoning_budget: Option<u32>,
}

impl Settings {
    /// Checks a request's parameters against the limits, and completes them with the model's defaults.
    pub fn new(
        parameters: &Parameters,
        own: RouteParameters,
        info: &ModelInfo,
        bounds: RequestBounds,
    ) -> Result<Self, ApiError> {
        let n = count("n", parameters.n)?.unwrap_or(1);
        let best_of = best_of(own.best_of, n, parameters.stream)?;
        if let Some(max) = bounds.max_answers {
            check_answers(max, own.prompts, n, best_of)?;
        }
        if let Some(account) = &own.client.account {
            account.answers.set_parameters(noted(parameters));
        }
        let is_scored = own.logprobs.is_some() || best_of > n;
        Ok(Self {
            request: Arc::new(Request {
                client: own.client.id,
                priority: own.client.priority(parameters.priority),
                deadline: own.deadline,
                cache_prompt: parameters.cache_prompt.unwrap_or(true),
                max_tokens: max_tokens(parameters, &own, bounds.max_output_tokens)?,
                min_tokens: match parameters.ignore_eos {
                    true => u32::MAX,
                    false => parameters.min_tokens.unwrap_or(0),
                },
                params: sample_params(parameters, &info.sampling)?,
                seed: parameters.seed.map_or_else(random_seed, i64::cast_unsigned),
                bias: bias(&parameters.logit_bias, info.vocab_size)?,
                scoring: is_scored.then(|| Scoring {
                    top: own.logprobs.unwrap_or(0),
                    prompt: own.logprobs.is_some() && own.echo,
                }),
            }),
            account: own.client.account,
            dry: dry::settings(parameters)?,
            stop: stop(parameters.stop.clone())?,
            n,
            best_of,
            logprobs: own.logprobs.is_some(),
            reasoning_budget: own.reasoning_budget,
            warnings: min_p_warning(parameters.min_p).into_iter().collect(),
            stream: parameters.stream,
            include_usage: parameters.include_usage,
        })
    }
}

/// The parameters for the request's record.
fn noted(parameters: &Parameters) -> keys::StatedParameters {
    keys::StatedParameters {
        max_tokens: parameters.max_tokens.map(|(_, tokens)| tokens),
        temperature: parameters.temperature,
        top_p: parameters.top_p,
        top_k: parameters.top_k,
        frequency_penalty: parameters.frequency_penalty,
        presence_penalty: parameters.presence_penalty,
        seed: parameters.seed,
        answers: parameters.n,
        is_streamed: parameters.stream,
    }
}

/// Checks a number of answers.
fn count(name: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    within(name, value, 1..=MAX_ANSWERS)
}

/// Checks a number of most likely tokens.
pub fn top_logprobs(name: &str, value: Option<u32>) -> Result<Option<u32>, ApiError> {
    within(name, value, 0..=MAX_TOP_LOGPROBS)
}

/// Reads how many answers to generate for each prompt. The best `n` of them are returned.
fn best_of(asked: Option<u32>, n: u32, stream: bool) -> Result<u32, ApiError> {
    let best_of = count("best_of", asked)?.unwrap_or(n);
    let problem = match best_of {
        best_of if best_of < n => "'best_of' must be at least 'n'",
        best_of if best_of > n && stream => "'best_of' is not possible with \"stream\": true",
        _ => return Ok(best_of),
    };
    Err(ApiError::invalid_parameter("best_of", problem))
}

/// Refuses more answers than the configuration allows.
fn check_answers(max: u32, prompts: usize, n: u32, best_of: u32) -> Result<(), ApiError> {
    let answers = prompts.saturating_mul(best_of as usize);
    if answers <= max as usize {
        return Ok(());
    }
    let param = match (best_of > n, n > 1) {
        (true, _) => "best_of",
        (false, true) => "n",
        (false, false) => "prompt",
    };
    let message = format!(
        "'{param}' makes this a request for {answers} answers, but at most {max} are allowed: ask for fewer"
    );
    Err(ApiError::invalid_parameter(param, message))
}

/// Reads the limit of tokens. -1 and numbers beyond `u32` stand for as many as fit. With a configured limit `most`, larger numbers
/// are refused, and -1 stands for `most`.
fn max_tokens(
    parameters: &Parameters,
    own: &RouteParameters,
    most: Option<u32>,
) -> Result<u32, ApiError> {
    let (name, asked) = parameters.max_tokens.unzip();
    let name = name.unwrap_or("max_tokens");
    if asked == Some(0) && !own.echo {
        let message = format!("'{name}' must be at least 1");
        return Err(ApiError::invalid_parameter(name, message));
    }
    if let Some(tokens @ ..-1) = asked {
        let message = format!(
            "'{name}' must be a whole number from 0 on, or -1 for as many tokens as fit, not {tokens}"
        );
        return Err(ApiError::invalid_parameter(name, message));
    }
    if let Some(most) = most {
        within(name, asked, -1..=i64::from(most))?;
    }
    let asked = asked.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
    let wanted = asked.or(own.max_tokens).unwrap_or(u32::MAX);
    Ok(wanted.min(most.unwrap_or(u32::MAX)))
}

fn min_p_warning(min_p: Option<f32>) -> Option<String> {
    let min_p = min_p.filter(|p| !(0.0..=1.0).contains(p))?;
    Some(format!(
        "'min_p' is {min_p} and ignored: it has an effect from 0 to 1"
    ))
}

fn bias(bias: &BTreeMap<String, f32>, vocab_size: u32) -> Result<Vec<TokenBias>, ApiError> {
    let mut known = BTreeMap::new();
    for (token, &bias) in bias {
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
    asked: &Parameters,
    defaults: &SamplingDefaults,
) -> Result<SampleParams, ApiError> {
    let temperature = within("temperature", asked.temperature, 0.0..=2.0)?;
    let top_p = within("top_p", asked.top_p, 0.0..=1.0)?;
    let typical_p = within("typical_p", asked.typical_p, 0.0..=1.0)?;
    let frequency_penalty = within("frequency_penalty", asked.frequency_penalty, -2.0..=2.0)?;
    let presence_penalty = within("presence_penalty", asked.presence_penalty, -2.0..=2.0)?;
    let repetition_penalty = within("repetition_penalty", asked.repetition_penalty, 0.01..=100.0)?;
    // Values of `top_k` and `min_p` outside of their range mean that the parameter is off.
    let top_k = asked.top_k.map(|k| k.clamp(0, u32::MAX.into()) as u32);
    let sensible = |p| if (0.0..=1.0).contains(&p) { p } else { 0.0 };
    let min_p = asked.min_p.map(sensible);
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

fn stop(stops: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stops.len() > MAX_STOPS {
        let message = format!(
            "'stop' may have up to {MAX_STOPS} strings, not {}",
            stops.len()
        );
        return Err(ApiError::invalid_parameter("stop", message));
    }
    no_empty("stop", &stops)?;
    Ok(stops)
}

/// A random seed from a UUID. It has six fixed bits, but after folding every bit is random.
fn random_seed() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        keys::{Key, KeyHash, Rights},
        routes::openai::parameters::tests::parameters_of,
    };

    pub fn settings(fields: Value) -> Result<Settings, ApiError> {
        settings_of(1, fields, RequestBounds::default())
    }

    fn settings_of(
        prompts: usize,
        fields: Value,
        bounds: RequestBounds,
    ) -> Result<Settings, ApiError> {
        let own = RouteParameters {
            prompts,
            best_of: fields["best_of"].as_u64().map(|best_of| best_of as u32),
            ..RouteParameters::default()
        };
        let mut info = ModelInfo::new("test", 64, 10);
        info.sampling = SamplingDefaults::default().with_top_p(0.5).with_top_k(7);
        Settings::new(&parameters_of(fields)?, own, &info, bounds)
    }

    #[track_caller]
    fn check_refused(fields: Value, param: &str) {
        let error = settings(fields).unwrap_err().into_envelope().error;
        assert_eq!(error.param.as_deref(), Some(param));
        let message = error.message;
        assert!(message.contains(&format!("'{param}'")), "{message}");
    }

    #[test]
    fn a_key_bounds_the_priority() {
        let account = Account::default();
        let rights = Rights {
            priority_max: Some(3),
            ..Rights::default()
        };
        let key = Key::named("k".to_owned(), KeyHash::of("secret"), rights);
        account.set_key(Arc::new(key));
        let client = Client {
            account: Some(Arc::new(account)),
            ..Client::default()
        };
        for (asked, expected) in [(None, 3), (Some(-1), 3), (Some(3), 3), (Some(7), 7)] {
            assert_eq!(client.priority(asked), expected, "{asked:?}");
            assert_eq!(Client::default().priority(asked), asked.unwrap_or(0));
        }
    }

    #[test]
    fn the_model_s_recommendation_is_the_default_and_then_openai_s() {
        let chosen = |fields| {
            let params = settings(fields).unwrap().request.params;
            (params.temperature, params.top_p, params.top_k)
        };
        assert_eq!(chosen(json!({})), (1.0, 0.5, 7));
        let all = json!({"temperature": 0, "top_p": 1, "top_k": -1});
        assert_eq!(chosen(all), (0.0, 1.0, 0));
    }

    #[test]
    fn penalties_are_off_unless_somebody_wants_them() {
        let penalties = |fields| {
            let p = settings(fields).unwrap().request.params;
            (
                p.frequency_penalty,
                p.presence_penalty,
                p.repetition_penalty,
            )
        };
        assert_eq!(penalties(json!({})), (0.0, 0.0, 1.0));
        let all =
            json!({"frequency_penalty": 1, "presence_penalty": -2, "repetition_penalty": 1.1});
        assert_eq!(penalties(all), (1.0, -2.0, 1.1));
    }

    #[test]
    fn what_makes_no_sense_is_ignored_where_the_contract_says_so() {
        for (value, expected) in [(0.1, 0.1), (1.0, 1.0), (-0.1, 0.0), (1.5, 0.0)] {
            let settings = settings(json!({"min_p": value})).unwrap();
            assert_eq!(settings.request.params.min_p, expected);
            assert_eq!(settings.warnings.is_empty(), value == expected);
        }
        for (value, expected) in [(0, 0), (-3, 0), (5, 5), (i64::MAX, u32::MAX)] {
            let settings = settings(json!({"top_k": value})).unwrap();
            assert_eq!(settings.request.params.top_k, expected);
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

    fn max_tokens(fields: Value) -> u32 {
        settings(fields).unwrap().request.max_tokens
    }

    #[test]
    fn both_names_of_max_tokens_work() {
        assert_eq!(max_tokens(json!({})), u32::MAX);
        assert_eq!(max_tokens(json!({"max_tokens": 3})), 3);
        let both = json!({"max_tokens": 3, "max_completion_tokens": 4});
        assert_eq!(max_tokens(both), 4);
    }

    #[test]
    fn as_many_tokens_as_fit_may_be_wanted_by_any_large_number_or_minus_one() {
        for many in [-1, 1 << 32, i64::MAX] {
            assert_eq!(max_tokens(json!({"max_tokens": many})), u32::MAX);
        }
        check_refused(json!({"max_tokens": -2}), "max_tokens");
        let negative = json!({"max_completion_tokens": -7});
        check_refused(negative, "max_completion_tokens");
    }

    #[test]
    fn a_model_may_be_kept_from_ending_its_answer() {
        let min = |fields| settings(fields).unwrap().request.min_tokens;
        assert_eq!(min(json!({})), 0);
        assert_eq!(min(json!({"min_tokens": 5, "ignore_eos": false})), 5);
        assert_eq!(min(json!({"min_tokens": 5, "ignore_eos": true})), u32::MAX);
    }

    #[test]
    fn a_request_has_its_bounds() {
        let bounds = RequestBounds {
            max_answers: Some(4),
            max_output_tokens: Some(100),
            min_priority: 0,
        };
        let bounded = |fields: Value, prompts| {
            let settings = settings_of(prompts, fields, bounds);
            settings.map(|settings| settings.request.max_tokens)
        };
        assert_eq!(bounded(json!({}), 4).unwrap(), 100);
        assert_eq!(bounded(json!({"max_tokens": -1}), 1).unwrap(), 100);
        assert_eq!(bounded(json!({"max_tokens": 7, "n": 2}), 2).unwrap(), 7);
        let many = json!({"max_completion_tokens": 101});
        for (fields, prompts, param) in [
            (json!({"n": 5}), 1, "n"),
            (json!({"n": 2}), 3, "n"),
            (json!({}), 5, "prompt"),
            (json!({"max_tokens": 101}), 1, "max_tokens"),
            (many, 1, "max_completion_tokens"),
        ] {
            let error = bounded(fields, prompts).unwrap_err().into_envelope().error;
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }

    #[test]
    fn no_tokens_are_refused_by_the_name_that_counts() {
        check_refused(json!({"max_tokens": 0}), "max_tokens");
        let both = json!({"max_tokens": 3, "max_completion_tokens": 0});
        check_refused(both, "max_completion_tokens");
    }

    #[test]
    fn each_token_is_biased_once() {
        let bias = settings(json!({"logit_bias": {"5": -100, "05": 1, "1": 0.5}}));
        let bias = &bias.unwrap().request.bias;
        let tokens: Vec<u32> = bias.iter().map(|bias| bias.token).collect();
        assert_eq!(tokens, [1, 5]);
        assert_eq!(bias[0].bias, 0.5);
    }

    #[test]
    fn stop_is_one_string_or_several() {
        let stop = |value: Value| settings(json!({"stop": value})).unwrap().stop;
        assert_eq!(stop(json!("a")), ["a"]);
        assert_eq!(stop(json!(["a", "b"])), ["a", "b"]);
        assert!(stop(json!(null)).is_empty());
    }

    #[test]
    fn a_seed_is_kept_and_none_is_random() {
        let seed = |fields| settings(fields).unwrap().request.seed;
        assert_eq!(seed(json!({"seed": -1})), u64::MAX);
        assert_ne!(seed(json!({})), seed(json!({})));
    }

    #[test]
    fn the_best_are_chosen_from_at_least_as_many() {
        let counts = |fields| settings(fields).map(|settings| (settings.n, settings.best_of));
        for (fields, expected) in [
            (json!({}), (1, 1)),
            (json!({"n": 3}), (3, 3)),
            (json!({"n": 2, "best_of": 5}), (2, 5)),
            (json!({"best_of": 1, "stream": true}), (1, 1)),
        ] {
            assert_eq!(counts(fields).unwrap(), expected);
        }
        check_refused(json!({"n": 3, "best_of": 2}), "best_of");
        check_refused(json!({"best_of": 2, "stream": true}), "best_of");
    }

    #[test]
    fn usage_in_streams_is_on_request() {
        let include_usage = |options: Value| {
            let stream = settings(json!({"stream": true, "stream_options": options}));
            stream.unwrap().include_usage
        };
        assert!(include_usage(json!({"include_usage": true})));
        assert!(!include_usage(json!(null)));
    }
}
