use std::sync::Arc;

use axum::{
    RequestExt,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::blocking::blocking;
use crate::{app::App, engine::Failure, error::ApiError, layers::arrival::Arrival, text::quoted};

/// Extracts a request's JSON body. Errors name the wrong field.
pub struct Body<T>(pub T);

/// A request that is read from a body.
pub trait RequestBody: Sized + Send + 'static {
    /// Reads the fields of a body. A type that contains a struct with `flatten` reads that struct separately: serde's `flatten`
    /// would copy all fields, and errors would not name the wrong field.
    fn read(fields: &Value) -> Result<Self, ApiError>;
}

impl<T: RequestBody> FromRequest<Arc<App>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::not_json());
        }
        check_encoding(request.headers())?;
        let bytes = receive(request, app).await?;
        let body = match bytes.len() > LARGE_BYTES {
            true => blocking(move || read_body(&bytes)).await?,
            false => read_body(&bytes)?,
        };
        Ok(Self(body))
    }
}

/// Size in bytes above which parsing a body would hold up other requests of the same thread.
const LARGE_BYTES: usize = 64 * 1024;

fn read_body<T: RequestBody>(bytes: &[u8]) -> Result<T, ApiError> {
    let fields: Map<String, Value> = parse(bytes)?;
    T::read(&Value::Object(fields))
}

/// Refuses a body that the router's layer could not decompress. When that layer decompresses a body, it removes the header.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            Err(ApiError::unknown_encoding(&encoding))
        }
        _ => Ok(()),
    }
}

/// Receives the whole body, unless the server stops or the request's time is over.
async fn receive(request: Request, app: &Arc<App>) -> Result<Bytes, ApiError> {
    let now = app.now();
    let server = &now.config.server;
    let (mut parts, body) = request.into_parts();
    let Ok(arrival) = Arrival::from_request_parts(&mut parts, app).await;
    let body = Request::from_parts(parts, body).extract::<Bytes, _>();
    tokio::select! {
        biased;
        bytes = body => bytes.map_err(|error| unreadable(&error, server.max_body_bytes)),
        () = app.draining.cancelled() => Err(ApiError::draining()),
        () = arrival.overdue(server.request_timeout) => Err(Failure::Overdue.into()),
        () = arrival.overdue(Some(server.body_timeout)) => Err(ApiError::too_slow(format!(
            "the body did not arrive within {:?}",
            server.body_timeout
        ))),
    }
}

/// Deserializes a value. An error names the wrong field.
pub fn read<T: DeserializeOwned>(fields: &Value) -> Result<T, ApiError> {
    read_at(".", fields)
}

/// Deserializes a value at a place of the body, such as `input[0]`. An error names the wrong field.
pub fn read_at<T: DeserializeOwned>(place: &str, fields: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner().to_string());
        let path = match (place, path.as_str()) {
            (".", _) => path,
            (place, ".") => place.to_owned(),
            (place, path) => format!("{place}.{path}"),
        };
        match missing_field(&error) {
            Some(field) => {
                let param = match path.as_str() {
                    "." => field.to_owned(),
                    path => format!("{path}.{field}"),
                };
                ApiError::invalid_parameter(&param, format!("'{param}' is missing"))
            }
            None => ApiError::invalid_parameter(&path, wrong_value(&quoted(&path), &error)),
        }
    })
}

/// Whether the body is declared to be JSON. Requiring this also keeps foreign web pages from sending requests: a browser
/// asks the server before it sends JSON.
///
/// The crate `mime` is not used: it refuses a space before a semicolon, which HTTP allows.
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
        _ if is_too_deep(&error) => ApiError::invalid(format!(
            "the body is nested too deeply: at most {MAX_DEPTH} levels are read"
        )),
        _ => ApiError::invalid(format!("the body is not valid JSON: {error}")),
    })
}

/// Most levels of lists and objects in a body, which is serde_json's limit.
const MAX_DEPTH: usize = 127;

/// Whether the body has more levels. serde_json tells this only by its message.
fn is_too_deep(error: &serde_json::Error) -> bool {
    error.to_string().starts_with("recursion limit exceeded")
}

/// The name of a missing field, which serde gives only in its message.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Rewrites serde's message without the names of Rust's types.
fn wrong_value(path: &str, error: &str) -> String {
    let Some((found, expected)) = error.split_once("expected ") else {
        return format!("'{path}' is wrong: {}", quoted(error));
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
        found => format!("'{path}' must be {expected}, not {}", quoted(found)),
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
    fn bodies_may_have_so_many_levels_and_no_more() {
        let body = |levels: usize| {
            let lists = levels - 1;
            format!("{{\"a\": {}{}}}", "[".repeat(lists), "]".repeat(lists))
        };
        assert!(parse(body(MAX_DEPTH).as_bytes()).is_ok());
        let error = parse(body(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        let expected = "the body is nested too deeply: at most 127 levels are read";
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
                json!({"min_tokens": -1}),
                "'min_tokens' must be a whole number from 0 on, not integer `-1`",
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
            "'type' must be one of `text`, `json_object`, `json_schema`, `structural_tag`, not `xml`",
        );
        check::<ResponseFormat>(
            json!({"type": "json_schema", "json_schema": {"strict": "yes"}}),
            "'json_schema.strict' must be a boolean, not string \"yes\"",
        );
    }
}
