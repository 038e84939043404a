//! Errors in the form of Anthropic's API.

use axum::{
    Json,
    http::{StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
};

use super::ApiError;
use crate::anthropic::{ErrorBody, ErrorEnvelope};

/// The status by which Anthropic's API says that it cannot take a request at the moment.
const OVERLOADED: u16 = 529;
/// The words by which agents recognize that they have to shorten the conversation.
const TOO_LONG: &str = "prompt is too long";

impl ApiError {
    /// The status in Anthropic's API.
    pub(super) fn anthropic_status(&self) -> StatusCode {
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                StatusCode::from_u16(OVERLOADED).unwrap_or(self.status)
            }
            status => status,
        }
    }

    /// The envelope of Anthropic's API. Errors in the middle of a stream have no id of the request.
    pub fn into_anthropic_envelope(self, request_id: Option<String>) -> ErrorEnvelope {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            StatusCode::GATEWAY_TIMEOUT => "timeout_error",
            status if status.is_server_error() => "api_error",
            _ => "invalid_request_error",
        };
        let message = match self.body.code {
            Some("context_length_exceeded") => format!("{TOO_LONG}: {}", self.body.message),
            _ => self.body.message,
        };
        ErrorEnvelope {
            kind: "error",
            error: ErrorBody { kind, message },
            request_id,
        }
    }
}

/// Puts a response that is an error into the form of Anthropic's API. Its headers stay.
pub fn into_anthropic_form(mut response: Response, request_id: Option<String>) -> Response {
    if let Some(error) = response.extensions().get::<ApiError>().cloned() {
        *response.status_mut() = error.anthropic_status();
        let envelope = Json(error.into_anthropic_envelope(request_id));
        *response.body_mut() = envelope.into_response().into_body();
        // The length of the former body.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn an_error_keeps_its_message_and_its_headers() {
        let response = ApiError::try_later("draining", "the server is shutting down");
        let response = into_anthropic_form(response.into_response(), Some("id".to_owned()));
        assert_eq!(response.status().as_u16(), 529);
        assert_eq!(response.headers()["retry-after"], "5");
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let error = json!({"type": "overloaded_error", "message": "the server is shutting down"});
        let expected = json!({"type": "error", "error": error, "request_id": "id"});
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }

    #[test]
    fn each_status_has_its_kind() {
        for (error, kind) in [
            (ApiError::invalid("?"), "invalid_request_error"),
            (ApiError::not_json(), "invalid_request_error"),
            (ApiError::unauthorized(), "authentication_error"),
            (ApiError::forbidden("unknown_host", "?"), "permission_error"),
            (ApiError::unknown_route("/x"), "not_found_error"),
            (ApiError::too_large(1), "request_too_large"),
            (ApiError::internal("?"), "api_error"),
        ] {
            let status = error.status();
            let envelope = error.into_anthropic_envelope(None);
            assert_eq!(envelope.error.kind, kind, "{status}");
        }
    }

    #[test]
    fn a_prompt_that_is_too_long_is_called_so() {
        let error = ApiError::context_length_exceeded("9 tokens, but 8 fit");
        let envelope = error.into_anthropic_envelope(None);
        assert_eq!(
            envelope.error.message,
            "prompt is too long: 9 tokens, but 8 fit"
        );
    }

    #[test]
    fn what_is_no_error_stays_as_it_is() {
        let response = into_anthropic_form("text".into_response(), None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
    }
}
