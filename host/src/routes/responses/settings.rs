//! Converts the parameters of a request to those of generation, and writes them into the response.

use std::time::{Instant, SystemTime};

use tenon_plugin_api::SampleParams;
use uuid::Uuid;

use super::super::{
    checks::within,
    generation::{RouteParameters, Settings, WantedGrammar, settings},
};
use crate::{
    engine::Request,
    error::ApiError,
    layers::client::Client,
    models::{LoadedModel, ServedModel},
    openai::{
        GenerationParameters, JsonSchemaFormat, ResponseFormat, ResponseKind, ToolMode,
        responses::{
            ResponseObject, ResponseRequest, ResponseStatus, ResponseToolChoice, TextFormat,
            TextOptions,
        },
        unix_seconds,
    },
};

/// The client of a response, and the response's deadline.
pub struct Asker {
    pub client: Client,
    pub deadline: Option<Instant>,
}

/// Checks the parameters of a request, and completes them with their defaults. Also returns the grammar that they ask for.
pub fn read(
    request: &ResponseRequest,
    (served, model): (&ServedModel, &LoadedModel),
    asker: Asker,
) -> Result<(Settings, Option<WantedGrammar>), ApiError> {
    let bounds = served.bounds;
    check_limit(request.max_output_tokens, bounds.max_output_tokens)?;
    let parameters = parameters(request)?;
    let own = RouteParameters {
        client: asker.client,
        deadline: asker.deadline,
        prompts: 1,
        logprobs: logprobs(request)?,
        reasoning_budget: request.reasoning.and_then(|reasoning| reasoning.max_tokens),
        ..RouteParameters::default()
    };
    let settings = Settings::new(&parameters, own, &model.facts().info, bounds)?;
    let wanted = WantedGrammar::of(&parameters)?;
    let wanted = wanted.map(|wanted| WantedGrammar {
        param: "text.format",
        ..wanted
    });
    Ok((settings, wanted))
}

/// Checks the limit of tokens. `most` is the configured one.
fn check_limit(asked: Option<i64>, most: Option<u32>) -> Result<(), ApiError> {
    const NAME: &str = "max_output_tokens";
    match (asked, most) {
        (asked, Some(most)) => within(NAME, asked, 1..=i64::from(most)).map(drop),
        (Some(..1), None) => {
            let message = format!("'{NAME}' must be at least 1");
            Err(ApiError::invalid_parameter(NAME, message))
        }
        (_, None) => Ok(()),
    }
}

/// Whether the request's `include` has this value.
pub fn includes(request: &ResponseRequest, name: &str) -> bool {
    let mut included = request.include.iter().flatten();
    included.any(|included| included == name)
}

/// The number of most likely tokens to return. None if no log-probabilities are requested.
fn logprobs(request: &ResponseRequest) -> Result<Option<u32>, ApiError> {
    let top = settings::top_logprobs("top_logprobs", request.top_logprobs)?.unwrap_or(0);
    let is_wanted = top > 0 || includes(request, "message.output_text.logprobs");
    Ok(is_wanted.then_some(top))
}

fn parameters(request: &ResponseRequest) -> Result<GenerationParameters, ApiError> {
    let format = request.text.as_ref().and_then(|text| text.format.as_ref());
    Ok(GenerationParameters {
        stream: request.stream,
        max_tokens: request.max_output_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        repetition_penalty: request.repetition_penalty,
        seed: request.seed,
        stop: request.stop.clone(),
        priority: request.priority,
        cache_prompt: request.cache_prompt,
        response_format: format.map(response_format).transpose()?,
        ..GenerationParameters::default()
    })
}

fn response_format(format: &TextFormat) -> Result<ResponseFormat, ApiError> {
    if format.kind == ResponseKind::JsonSchema && format.schema.is_none() {
        let param = "text.format.schema";
        let message = format!("'{param}' is missing");
        return Err(ApiError::invalid_parameter(param, message));
    }
    if format.kind == ResponseKind::StructuralTag {
        let param = "text.format.type";
        let message = format!("'{param}' must be 'text', 'json_object' or 'json_schema' here");
        return Err(ApiError::invalid_parameter(param, message));
    }
    let schema = JsonSchemaFormat {
        name: format.name.clone(),
        description: format.description.clone(),
        schema: format.schema.clone(),
        strict: format.strict,
    };
    Ok(ResponseFormat {
        kind: format.kind,
        json_schema: (format.kind == ResponseKind::JsonSchema).then_some(schema),
        ..ResponseFormat::of_kind(format.kind)
    })
}

/// The response before there is any output. `model` and `fingerprint` are those of the model that answers.
pub fn response(
    request: ResponseRequest,
    settings: &Settings,
    model: &str,
    fingerprint: &str,
) -> ResponseObject {
    let Request {
        params, scoring, ..
    } = &*settings.request;
    let SampleParams {
        temperature,
        top_p,
        presence_penalty,
        frequency_penalty,
        ..
    } = *params;
    let auto = ResponseToolChoice::Mode(ToolMode::Auto);
    ResponseObject {
        id: format!("resp_{}", Uuid::new_v4().simple()),
        object: "response",
        created_at: unix_seconds(SystemTime::now()),
        status: ResponseStatus::InProgress,
        completed_at: None,
        error: None,
        incomplete_details: None,
        model: model.to_owned(),
        system_fingerprint: fingerprint.to_owned(),
        output: Vec::new(),
        usage: None,
        instructions: request.instructions,
        max_output_tokens: request.max_output_tokens,
        max_tool_calls: request.max_tool_calls,
        text: text_options(request.text.unwrap_or_default()),
        tools: request.tools.unwrap_or_default(),
        tool_choice: request.tool_choice.unwrap_or(auto),
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        reasoning: request.reasoning.unwrap_or_default(),
        truncation: request.truncation.unwrap_or_default(),
        top_logprobs: scoring.as_ref().map_or(0, |scoring| scoring.top),
        temperature,
        top_p,
        presence_penalty,
        frequency_penalty,
        previous_response_id: request.previous_response_id,
        store: false,
        background: false,
        service_tier: "default",
        metadata: request.metadata.unwrap_or_default(),
        prompt_cache_key: request.prompt_cache_key,
        safety_identifier: request.safety_identifier,
        user: request.user,
        warnings: Vec::new(),
    }
}

/// The form of the text with its defaults.
fn text_options(text: TextOptions) -> TextOptions {
    let format = text.format.unwrap_or(TextFormat {
        kind: ResponseKind::Text,
        name: None,
        description: None,
        schema: None,
        strict: None,
    });
    let is_strict = format.strict.unwrap_or(false);
    TextOptions {
        format: Some(TextFormat {
            strict: (format.kind == ResponseKind::JsonSchema).then_some(is_strict),
            ..format
        }),
        verbosity: text.verbosity.or_else(|| Some("medium".to_owned())),
    }
}
