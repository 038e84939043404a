use std::sync::Arc;

use axum::{
    RequestExt,
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{app::App, error::ApiError};

/// A request's JSON body, with errors that name the field.
pub struct Body<T>(pub T);

/// What can be read from a body.
pub trait RequestBody: DeserializeOwned {
    /// Checks the fields before they are read: what is refused, and what can be said more precisely than by reading all.
    fn check(fields: &Value) -> Result<(), ApiError>;
}

impl<T: RequestBody> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::not_json());
        }
        let bytes: Bytes = request
            .extract()
            .await
            .map_err(|error| unreadable(&error, app.server.max_body_bytes))?;
        let fields: Map<String, Value> = parse(&bytes)?;
        let fields = Value::Object(fields);
        T::check(&fields)?;
        read(&fields).map(Self)
    }
}

/// Reads a type, or says which field is wrong.
pub fn read<T: DeserializeOwned>(fields: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner().to_string());
        match missing_field(&error) {
            Some(field) => {
                let param = match path.as_str() {
                    "." => field.to_owned(),
                    path => format!("{path}.{field}"),
                };
                ApiError::invalid_parameter(&param, format!("'{param}' is missing"))
            }
            None => ApiError::invalid_parameter(&path, wrong_value(&path, &error)),
        }
    })
}

/// Requiring the header also keeps foreign web pages from sending requests: for JSON a browser asks the server first.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

fn unreadable(error: &BytesRejection, limit_bytes: usize) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(limit_bytes),
        _ => ApiError::invalid(format!("the body could not be read: {}", error.body_text())),
    }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            ApiError::invalid("the body must be a JSON object, such as {\"model\": \"\"}")
        }
        _ => ApiError::invalid(format!("the body is not valid JSON: {error}")),
    })
}

/// serde gives the name of a missing field only in its message.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Says what serde says, without the names of Rust's types.
fn wrong_value(path: &str, error: &str) -> String {
    let Some((found, expected)) = error.split_once("expected ") else {
        return format!("'{path}' is wrong: {error}");
    };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "i32" | "i64" => "a whole number",
        "u32" | "u64" | "usize" => "a whole number from 0 on",
        "a sequence" => "a list",
        "a map" => "an object",
        structure if structure.starts_with("struct ") => "an object",
        other => other,
    };
    let found = found.trim_end_matches(", ");
    let found = found.strip_prefix("unknown variant ").unwrap_or(found);
    match found.split_once(": ").map_or(found, |(_, found)| found) {
        "" => format!("'{path}' must be {expected}"),
        "map" => format!("'{path}' must be {expected}, not an object"),
        "sequence" => format!("'{path}' must be {expected}, not a list"),
        found => format!("'{path}' must be {expected}, not {found}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::{CompletionRequest, GenerationParameters, ResponseFormat};

    #[track_caller]
    fn check<T: DeserializeOwned>(fields: Value, expected: &str) {
        let error = read::<T>(&fields).map(drop).unwrap_err();
        assert_eq!(error.into_envelope().error.message, expected);
    }

    #[test]
    fn errors_name_no_types_of_rust() {
        for (fields, expected) in [
            (
                json!({"temperature": "hot"}),
                "'temperature' must be a number, not string \"hot\"",
            ),
            (
                json!({"max_tokens": -1}),
                "'max_tokens' must be a whole number from 0 on, not integer `-1`",
            ),
            (
                json!({"seed": {}}),
                "'seed' must be a whole number, not an object",
            ),
            (
                json!({"stream": [1]}),
                "'stream' must be a boolean, not a list",
            ),
            (
                json!({"stop": 1}),
                "'stop' must be a string or a list of strings",
            ),
            (
                json!({"logit_bias": [1]}),
                "'logit_bias' must be an object, not a list",
            ),
            (
                json!({"stream_options": 1}),
                "'stream_options' must be an object, not integer `1`",
            ),
        ] {
            check::<GenerationParameters>(fields, expected);
        }
        check::<CompletionRequest>(json!({}), "'prompt' is missing");
        check::<ResponseFormat>(
            json!({"type": "xml"}),
            "'type' must be one of `text`, `json_object`, `json_schema`, not `xml`",
        );
        check::<ResponseFormat>(
            json!({"type": "json_schema", "json_schema": {"strict": "yes"}}),
            "'json_schema.strict' must be a boolean, not string \"yes\"",
        );
    }
}
