//! Converts the parameters of a request to those of generation, and writes them into the response.

use std::time::{Instant, SystemTime};

use tenon_plugin_api::SampleParams;
use uuid::Uuid;

use super::super::{
    checks::within,
    generation::{Parameters, RouteParameters, Settings, WantedGrammar, any_object, settings},
};
use crate::{
    engine::Request,
    error::ApiError,
    layers::client::Client,
    models::{LoadedModel, ServedModel},
    openai::{
        Stop, ToolMode,
        responses::{
            FunctionTool, ResponseObject, ResponseRequest, ResponseStatus, ResponseTool,
            ResponseToolChoice, TextFormat, TextKind, TextOptions, ToolOfNamespace,
        },
        unix_seconds,
    },
};

/// The parameter that limits the tokens of a response.
const MAX_OUTPUT_TOKENS: &str = "max_output_tokens";

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
    let parameters = parameters(request);
    let own = RouteParameters {
        client: asker.client,
        deadline: asker.deadline,
        prompts: 1,
        logprobs: logprobs(request)?,
        reasoning_budget: request.reasoning.and_then(|reasoning| reasoning.max_tokens),
        ..RouteParameters::default()
    };
    let settings = Settings::new(&parameters, own, &model.facts().info, bounds)?;
    let format = request.text.as_ref().and_then(|text| text.format.as_ref());
    Ok((settings, format.map(wanted).transpose()?.flatten()))
}

/// Checks the limit of tokens. `most` is the configured one.
fn check_limit(asked: Option<i64>, most: Option<u32>) -> Result<(), ApiError> {
    match (asked, most) {
        (asked, Some(most)) => within(MAX_OUTPUT_TOKENS, asked, 1..=i64::from(most)).map(drop),
        (Some(..1), None) => {
            let message = format!("'{MAX_OUTPUT_TOKENS}' must be at least 1");
            Err(ApiError::invalid_parameter(MAX_OUTPUT_TOKENS, message))
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

fn parameters(request: &ResponseRequest) -> Parameters {
    let limit = request.max_output_tokens;
    Parameters {
        stream: request.stream.unwrap_or(false),
        max_tokens: limit.map(|tokens| (MAX_OUTPUT_TOKENS, tokens)),
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        repetition_penalty: request.repetition_penalty,
        seed: request.seed,
        stop: request.stop.clone().map(Stop::into_vec).unwrap_or_default(),
        priority: request.priority,
        cache_prompt: request.cache_prompt,
        ..Parameters::default()
    }
}

/// The grammar of this form of text. None if any text is allowed.
fn wanted(format: &TextFormat) -> Result<Option<WantedGrammar>, ApiError> {
    let (schema, strict) = match (format.kind, &format.schema) {
        (TextKind::Text, _) => return Ok(None),
        (TextKind::JsonObject, _) => (any_object(), None),
        (TextKind::JsonSchema, Some(schema)) => (schema.clone(), format.strict),
        (TextKind::JsonSchema, None) => {
            let param = "text.format.schema";
            let message = format!("'{param}' is missing");
            return Err(ApiError::invalid_parameter(param, message));
        }
    };
    Ok(Some(WantedGrammar::of_schema(
        schema,
        strict,
        "text.format",
    )))
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
        tools: shown_tools(request.tools.unwrap_or_default()),
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
        kind: TextKind::Text,
        name: None,
        description: None,
        schema: None,
        strict: None,
    });
    let is_strict = format.strict.unwrap_or(false);
    TextOptions {
        format: Some(TextFormat {
            strict: (format.kind == TextKind::JsonSchema).then_some(is_strict),
            ..format
        }),
        verbosity: text.verbosity.or_else(|| Some("medium".to_owned())),
    }
}

/// The tools with their defaults.
fn shown_tools(mut tools: Vec<ResponseTool>) -> Vec<ResponseTool> {
    let complete = |function: &mut FunctionTool| {
        function.strict.get_or_insert(true);
    };
    for tool in &mut tools {
        match tool {
            ResponseTool::Function(function) => complete(function),
            ResponseTool::Custom(_) => {}
            ResponseTool::Namespace(space) => {
                for tool in &mut space.tools {
                    match tool {
                        ToolOfNamespace::Function(function) => complete(function),
                        ToolOfNamespace::Custom(_) => {}
                    }
                }
            }
        }
    }
    tools
}
