use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder,
        schema::{ObjectBuilder, Type},
    },
};

use super::ApiError;
use crate::{
    anthropic,
    engine::{Failure, SubmitError},
    models::{ChangeError, RequantizeError},
    openai::ErrorEnvelope,
};

/// The errors of every route that needs a key.
pub struct AnyError;

impl IntoResponses for AnyError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(of_any())
    }
}

/// The further errors of a route that uses a model.
pub struct ModelError;

impl IntoResponses for ModelError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(of_model())
    }
}

/// The further errors of a route that reads a body.
pub struct BodyError;

impl IntoResponses for BodyError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(of_body())
    }
}

/// The further errors of a route that reads a body and computes with a model.
pub struct GenerationError;

impl IntoResponses for GenerationError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(of_body().into_iter().chain(of_generation()))
    }
}

/// All errors of a route of Anthropic's API.
pub struct AnthropicError;

impl IntoResponses for AnthropicError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let errors = of_any().into_iter().chain(of_model());
        let errors = errors.chain(of_body()).chain(of_generation());
        let responses = errors.map(|(description, error)| {
            let status = error.anthropic_status().as_u16().to_string();
            let retry_after = error.retry_after_secs;
            let id = "0f0b6a0c-3f8e-4f0e-9a53-1d2c7f9b8a10".to_owned();
            let body = error.into_anthropic_envelope(Some(id));
            let response = response::<anthropic::ErrorEnvelope>(description, retry_after, &body);
            (status, response.into())
        });
        responses.collect()
    }
}

/// An error, and when it occurs.
type DocumentedError = (&'static str, ApiError);

fn of_any() -> [DocumentedError; 2] {
    let message = "the server made a mistake; please report it";
    let code = Some("internal_error");
    [
        (
            "Keys are configured, and the request has none of them.",
            ApiError::unauthorized(),
        ),
        (
            "The server or a plugin made a mistake.",
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message),
        ),
    ]
}

fn of_model() -> [DocumentedError; 3] {
    [
        (
            "The request is wrong. The message names the parameter at fault, if it is one.",
            ApiError::invalid_parameter("temperature", "'temperature' must be from 0 to 2, not 3"),
        ),
        (
            "There is no such model.",
            ApiError::model_not_found("gpt", &["SmolLM2-135M-Instruct"]),
        ),
        (
            "The model is loading or has failed, or the server is shutting down.",
            ApiError::try_later(
                "model_loading",
                "the model 'SmolLM2-135M-Instruct' is still loading",
            ),
        ),
    ]
}

fn of_body() -> [DocumentedError; 3] {
    [
        ("The body is too long.", ApiError::too_large(32 << 20)),
        ("The body is not declared to be JSON.", ApiError::not_json()),
        (
            "The body does not arrive in time.",
            ApiError::too_slow("the body did not arrive within 60s"),
        ),
    ]
}

fn of_generation() -> [DocumentedError; 3] {
    [
        (
            "The request's key is not for the model.",
            ApiError::model_not_allowed("SmolLM2-135M-Instruct", &["chat"]),
        ),
        (
            "Too many requests are waiting, or the limits of the request's key do not allow another one now.",
            ApiError::from(SubmitError::QueueFull {
                retry_after_secs: 5,
            }),
        ),
        (
            "The answer took longer than the server allows.",
            ApiError::from(Failure::Overdue),
        ),
    ]
}

/// The further errors of a route that may need an admin key.
pub struct AdminError;

impl IntoResponses for AdminError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([(
            "The request has no admin key; or there are none, and it does not come from the server's own machine.",
            ApiError::not_admin(),
        )])
    }
}

/// The further errors of changing a model's level.
pub struct RequantizeFailure;

impl IntoResponses for RequantizeFailure {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([(
            "The level of the model is being changed already, or there is no memory for the old and the new one.",
            ApiError::from(RequantizeError::Busy("SmolLM2-135M-Instruct".into())),
        )])
    }
}

/// The further errors of loading and unloading a model.
pub struct ChangeFailure;

impl IntoResponses for ChangeFailure {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([(
            "The model is being changed already, or there is nothing to reload.",
            ApiError::from(ChangeError::Busy("SmolLM2-135M-Instruct".into())),
        )])
    }
}

/// The further errors of reading the configuration again.
pub struct ConfigFailure;

impl IntoResponses for ConfigFailure {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([(
            "The configuration has mistakes. Nothing has changed.",
            ApiError::invalid_config(
                "/etc/tenon.toml: \"server.prot\" is no known key; did you mean \"port\"?",
            ),
        )])
    }
}

/// The API's documentation of these errors by status, each with its own body as the example.
fn documented(
    errors: impl IntoIterator<Item = DocumentedError>,
) -> BTreeMap<String, RefOr<Response>> {
    let responses = errors.into_iter().map(|(description, error)| {
        let status = error.status.as_u16().to_string();
        let retry_after = error.retry_after_secs;
        let body = error.into_envelope();
        let response = response::<ErrorEnvelope>(description, retry_after, &body);
        (status, response.into())
    });
    responses.collect()
}

fn response<Envelope: ToSchema + Serialize>(
    description: &str,
    retry_after_secs: Option<u64>,
    body: &Envelope,
) -> Response {
    let mut response = ResponseBuilder::new().description(description);
    if retry_after_secs.is_some() {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        let header = HeaderBuilder::new()
            .description(Some("Seconds after which to try again."))
            .schema(Some(seconds));
        response = response.header("Retry-After", header.build());
    }
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Envelope::name())))
        .example(serde_json::to_value(body).ok());
    response
        .content("application/json", content.build())
        .build()
}
