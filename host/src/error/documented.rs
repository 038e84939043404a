use std::collections::BTreeMap;

use axum::http::StatusCode;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder,
        schema::{ObjectBuilder, Type},
    },
};

use super::ApiError;
use crate::{
    engine::{Failure, SubmitError},
    openai::ErrorEnvelope,
    requantize::RequantizeError,
};

/// How every route that needs a key may fail.
pub struct AnyError;

impl IntoResponses for AnyError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let message = "the server made a mistake; please report it";
        let code = Some("internal_error");
        documented([
            (
                "Keys are configured, and the request has none of them.",
                ApiError::unauthorized(),
            ),
            (
                "The server or a plugin made a mistake.",
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message),
            ),
        ])
    }
}

/// How a route that is about one model may fail besides.
pub struct ModelError;

impl IntoResponses for ModelError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([
            (
                "The request is wrong. `param` names the parameter at fault, if it is one.",
                ApiError::invalid_parameter(
                    "temperature",
                    "'temperature' must be from 0 to 2, not 3",
                ),
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
        ])
    }
}

/// How a route that reads a body may fail besides.
pub struct BodyError;

impl IntoResponses for BodyError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([
            ("The body is too long.", ApiError::too_large(32 << 20)),
            ("The body is not declared to be JSON.", ApiError::not_json()),
        ])
    }
}

/// How a route that has a model compute for a body may fail besides.
pub struct GenerationError;

impl IntoResponses for GenerationError {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let busy = documented([
            (
                "Too many requests are waiting.",
                ApiError::from(SubmitError::QueueFull {
                    retry_after_secs: 5,
                }),
            ),
            (
                "The answer took longer than the server allows.",
                ApiError::from(Failure::Overdue),
            ),
        ]);
        BodyError::responses().into_iter().chain(busy).collect()
    }
}

/// How changing a model's level may fail besides.
pub struct RequantizeFailure;

impl IntoResponses for RequantizeFailure {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented([(
            "The level of the model is being changed already, or there is no memory for the old and the new one.",
            ApiError::from(RequantizeError::Busy("SmolLM2-135M-Instruct".into())),
        )])
    }
}

/// The answers to these errors, which are the examples.
fn documented<const N: usize>(errors: [(&str, ApiError); N]) -> BTreeMap<String, RefOr<Response>> {
    let responses = errors.map(|(description, error)| {
        let status = error.status.as_u16().to_string();
        (status, response(description, error).into())
    });
    responses.into()
}

fn response(description: &str, error: ApiError) -> Response {
    let mut response = ResponseBuilder::new().description(description);
    if error.retry_after_secs.is_some() {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        let header = HeaderBuilder::new()
            .description(Some("Seconds after which to try again."))
            .schema(Some(seconds));
        response = response.header("Retry-After", header.build());
    }
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ErrorEnvelope::name())))
        .example(serde_json::to_value(error.into_envelope()).ok());
    response
        .content("application/json", content.build())
        .build()
}
