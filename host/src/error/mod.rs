//! The errors of the API. Errors become HTTP here and nowhere else, each in OpenAI's envelope. [`into_anthropic_form`] replaces
//! that envelope by Anthropic's.

mod anthropic;
mod documented;

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::rejection::PathRejection,
    http::{
        HeaderValue, StatusCode,
        header::{RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use tenon_plugin_api::{Code, Error};

use crate::{
    engine::{EmbeddingError, Failure, SubmitError},
    kept_responses::StoreError,
    keys::Exceeded,
    models::{ChangeError, PromptError, RequantizeError},
    openai::{ErrorBody, ErrorEnvelope},
    prompt::TemplateError,
    text::{quoted, shortened},
};

pub use anthropic::into_anthropic_form;
pub use documented::{
    AdminError, AnthropicError, AnyError, BodyError, ChangeFailure, ConfigFailure, GenerationError,
    ModelError, RequantizeFailure,
};

/// Seconds after which a client should try again a request that the server cannot take at the moment.
const RETRY_AFTER_SECS: u64 = 5;
/// The time after which a client should try again if too many of its requests are running.
const SOON: Duration = Duration::from_secs(1);
/// Most bytes of a message, which may quote what a client sent.
const MAX_MESSAGE: usize = 2000;

/// An error as clients see it: a status, the envelope and perhaps a `Retry-After`.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    retry_after_secs: Option<u64>,
}

impl ApiError {
    /// The kind of the error, in one word: its code, else its type.
    pub fn kind(&self) -> &'static str {
        self.body.code.unwrap_or(self.body.kind)
    }

    /// 400: the request as a whole is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, None, message)
    }

    /// 400: one parameter of the request is wrong.
    pub fn invalid_parameter(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message);
        let param: String = param.into();
        error.body.param = Some(quoted(&param).into_owned());
        error
    }

    /// 400: OpenAI's API has this parameter, and this server does not support it.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::invalid_parameter(param, message);
        error.body.code = Some("unsupported_parameter");
        error
    }

    /// 401: keys are configured, and the request has none of them.
    pub fn unauthorized() -> Self {
        let message =
            "a key is needed: send the header Authorization: Bearer KEY, or x-api-key: KEY";
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
    }

    /// 403: the request has a key, but none for administration.
    pub fn not_admin() -> Self {
        let message = "this route needs a key for administration (admin_keys of [server], or [[keys]] with admin = true, in tenon.toml): the key that was sent is none";
        Self::forbidden("admin_key_needed", message)
    }

    /// 403: without admin keys, the route answers only to requests from the server's own machine.
    pub fn not_local() -> Self {
        let message = "without admin_keys ([server] in tenon.toml), this route answers only to requests from the server's own machine that came through no proxy: set admin_keys, and send one of them";
        Self::forbidden("admin_is_local", message)
    }

    /// 403: the request's key does not allow this model, but the `available` ones.
    pub fn model_not_allowed(name: &str, available: &[&str]) -> Self {
        let name = quoted(name);
        let message = match available {
            [] => format!("this key may not use the model '{name}', nor any other that is served"),
            _ => format!(
                "this key may not use the model '{name}'; it may use: {}",
                available.join(", ")
            ),
        };
        let mut error = Self::forbidden("model_not_allowed", message);
        error.body.param = Some("model".to_owned());
        error
    }

    /// 404: no model has this name. The message names the `available` ones.
    pub fn model_not_found(name: &str, available: &[&str]) -> Self {
        let name = quoted(name);
        let message = match available {
            [] => format!("there is no model '{name}', and no other is being served"),
            _ => format!(
                "there is no model '{name}'; there is: {}",
                available.join(", ")
            ),
        };
        let mut error = Self::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
        error.body.param = Some("model".to_owned());
        error
    }

    /// 400: the prompt is longer than the context. `message` says both lengths.
    pub fn context_length_exceeded(message: impl Into<String>) -> Self {
        let code = Some("context_length_exceeded");
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404: the server has no such path.
    pub fn unknown_route(path: &str) -> Self {
        let message = format!("there is nothing at {}", quoted(path));
        Self::new(StatusCode::NOT_FOUND, Some("unknown_url"), message)
    }

    /// 404: the client has no kept response with this id. `param` is the parameter that names it.
    pub fn response_not_found(param: &str, id: &str) -> Self {
        let message = format!(
            "there is no response '{}': it was never kept, or is kept no longer",
            quoted(id)
        );
        let code = Some("response_not_found");
        let mut error = Self::new(StatusCode::NOT_FOUND, code, message);
        error.body.param = Some(param.to_owned());
        error
    }

    /// 405: the path exists, but does not take this method.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let (method, path) = (quoted(method), quoted(path));
        let message = format!("{path} does not take {method}; the header Allow says what it takes");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, Some("method_not_allowed"), message)
    }

    /// 413: the body is longer than `limit_bytes`.
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is longer than the {limit_bytes} bytes that are allowed");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Some("request_too_large"),
            message,
        )
    }

    /// 408: the request did not arrive in time.
    pub fn too_slow(message: impl Into<String>) -> Self {
        let code = Some("request_too_slow");
        Self::new(StatusCode::REQUEST_TIMEOUT, code, message)
    }

    /// 403: the request may not use this server, for example because it addresses the server by a foreign name.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Some(code), message)
    }

    /// 503: the server is shutting down and takes no new work.
    pub fn draining() -> Self {
        Self::try_later("draining", "the server is shutting down")
    }

    /// 503: the server ends before the answer is complete.
    pub fn cut_off() -> Self {
        let message =
            "the server was shut down before the answer was complete; send the request again";
        Self::try_later("draining", message)
    }

    /// 415: the body is not declared to be JSON.
    pub fn not_json() -> Self {
        let message = "the body must be JSON: send the header Content-Type: application/json";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Some("unsupported_media_type"),
            message,
        )
    }

    /// 415: the server does not support the compression of the body.
    pub fn unknown_encoding(encoding: &str) -> Self {
        let message = format!(
            "the body's Content-Encoding '{encoding}' is not supported: send it as it is, or with gzip"
        );
        let code = Some("unsupported_media_type");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, message)
    }

    /// 400: the server's configuration, read again, has mistakes.
    pub fn invalid_config(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("invalid_config"), message)
    }

    /// 409: the current state of the server does not allow the request.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, Some(code), message)
    }

    /// 503: the request cannot be answered now, but perhaps after the `Retry-After` of this error.
    pub fn try_later(code: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::unavailable(code, message);
        error.retry_after_secs = Some(RETRY_AFTER_SECS);
        error
    }

    /// 429: the client asks for too much at the same time. It may try again after the `Retry-After` of this error.
    pub fn too_many(code: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, Some(code), message);
        error.retry_after_secs = Some(RETRY_AFTER_SECS);
        error
    }

    /// 503: the request cannot be answered now, and it is unknown when it can be.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some(code), message)
    }

    /// 500: a fault of the server. Also logged, because the client cannot do anything about it.
    pub fn internal(message: impl Into<String>) -> Self {
        let message: String = message.into();
        tracing::error!("{}", shortened(&message, MAX_MESSAGE));
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Some("internal_error"),
            message,
        )
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Seconds after which to try again. None if trying again makes no sense.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after_secs
    }

    /// The envelope alone, for an error in the middle of a stream.
    pub fn into_envelope(self) -> ErrorEnvelope {
        ErrorEnvelope { error: self.body }
    }

    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            status,
            body: ErrorBody {
                message: shortened(&message, MAX_MESSAGE).into_owned(),
                kind,
                param: None,
                code,
            },
            retry_after_secs: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.retry_after_secs.map(HeaderValue::from);
        let status = self.status;
        let error = Extension(self.clone());
        let mut response = (status, error, Json(self.into_envelope())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(format!(
            "the path could not be read: {}",
            rejection.body_text()
        ))
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::EmptyPrompt => Self::invalid(message),
            SubmitError::PromptTooLong { .. } => Self::context_length_exceeded(message),
            SubmitError::QueueFull { retry_after_secs } => Self {
                retry_after_secs: Some(retry_after_secs),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message)
            },
            SubmitError::Stopped(error) if error.code == Code::DEVICE_LOST => error.into(),
            SubmitError::Stopped(_) => Self::unavailable("model_failed", message),
        }
    }
}

/// A request beyond the limits of its key.
impl From<Exceeded> for ApiError {
    fn from(exceeded: Exceeded) -> Self {
        let (limit, wait) = match exceeded {
            Exceeded::Requests(limit, wait) => (format!("{limit} requests per minute"), wait),
            Exceeded::Tokens(limit, wait) => (format!("{limit} tokens per minute"), wait),
            Exceeded::Concurrent(limit) => (format!("{limit} requests at the same time"), SOON),
        };
        let secs = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        let message = format!("this key has a limit of {limit}: try again in {secs} s");
        let (status, code) = (StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"));
        Self {
            retry_after_secs: Some(secs),
            ..Self::new(status, code, message)
        }
    }
}

impl From<EmbeddingError> for ApiError {
    fn from(error: EmbeddingError) -> Self {
        match error {
            EmbeddingError::Submit(error) => error.into(),
            EmbeddingError::Failed(failure) => failure.into(),
        }
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        let message = error.to_string();
        match error {
            PromptError::NoChat(_) | PromptError::NoPair(_) => {
                Self::invalid_parameter("model", message)
            }
            PromptError::Template(TemplateError::Syntax(_)) => Self::internal(message),
            PromptError::Template(TemplateError::NothingToContinue) => {
                Self::invalid_parameter("continue_final_message", message)
            }
            PromptError::Template(_) => Self::invalid_parameter("messages", message),
            PromptError::TooLong { .. } => Self::context_length_exceeded(message),
            PromptError::Tokenizer(error) if error.code == Code::INVALID => Self::invalid(message),
            PromptError::Tokenizer(error) if error.code == Code::DEVICE_LOST => error.into(),
            PromptError::Tokenizer(_) => Self::internal(message),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(format!("kept responses cannot be read: {error}"))
    }
}

impl From<RequantizeError> for ApiError {
    fn from(error: RequantizeError) -> Self {
        let message = error.to_string();
        match error {
            RequantizeError::Busy(_) => Self::conflict("requantize_running", message),
            RequantizeError::Memory { .. } => Self::conflict("not_enough_memory", message),
            RequantizeError::Level(_) => Self::invalid_parameter("ggml_type", message),
            RequantizeError::Failed(error) if error.code == Code::CANCELLED => {
                Self::try_later("draining", message)
            }
            RequantizeError::Failed(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Some("requantize_failed"),
                message,
            ),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let message = error.to_string();
        match error {
            ChangeError::Busy(_) => Self::conflict("model_changing", message),
            ChangeError::NotLoaded(_) => Self::conflict("model_not_loaded", message),
            ChangeError::Failed { .. } => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Some("load_failed"),
                message,
            ),
        }
    }
}

/// A request that the engine took and did not finish.
impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Backend(error) => error.into(),
            Failure::Grammar(_) => {
                Self::new(StatusCode::BAD_REQUEST, Some("grammar_failed"), message)
            }
            Failure::Displaced { retry_after_secs } => Self {
                retry_after_secs: Some(retry_after_secs),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, Some("queue_full"), message)
            },
            Failure::Overdue => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                Some("request_timeout"),
                message,
            ),
            Failure::Unread | Failure::Abandoned => {
                Self::new(StatusCode::REQUEST_TIMEOUT, Some("read_timeout"), message)
            }
        }
    }
}

/// A request on which the backend failed.
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error.code {
            // The host loads the model anew, or the KV pool has no room at the moment.
            Code::PANICKED | Code::DEVICE_LOST | Code::CANCELLED | Code::NO_KV_SPACE => {
                Self::try_later("model_unavailable", error.message)
            }
            _ => Self::internal(error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_envelope_always_has_its_four_keys() {
        let response = ApiError::from(SubmitError::PromptTooLong {
            prompt: 9,
            context: 8,
        })
        .into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({"error": {
            "message": "the prompt has 9 tokens, but the context is 8 tokens long",
            "type": "invalid_request_error",
            "param": null,
            "code": "context_length_exceeded",
        }});
        assert_eq!(body, expected);
    }

    #[track_caller]
    fn check(error: impl Into<ApiError>, status: u16, retry_after: Option<&str>) {
        let response = error.into().into_response();
        assert_eq!(response.status(), status);
        let header = response.headers().get(RETRY_AFTER);
        assert_eq!(header.map(|value| value.to_str().unwrap()), retry_after);
    }

    #[test]
    fn what_may_work_later_says_when() {
        check(
            SubmitError::QueueFull {
                retry_after_secs: 3,
            },
            429,
            Some("3"),
        );
        check(SubmitError::Stopped(Error::invalid("gone")), 503, None);
        check(Error::new(Code::PANICKED, "it panicked"), 503, Some("5"));
        check(Error::new(Code::BAD_LOGITS, "NaN"), 500, None);
        check(
            PromptError::NoChat("it has no chat template".to_owned()),
            400,
            None,
        );
    }
}
