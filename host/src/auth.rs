//! Who may ask: anybody, unless keys are configured.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::Next,
    response::Response,
};

use crate::{app::App, error::ApiError};

/// Lets in requests with one of the keys, and those for what holds no secret: whether the server is well, and how to use it.
///
/// A browser that opens the documentation has no key yet.
pub async fn require_key(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &app.server.api_keys;
    if keys.is_empty() || is_open(request.uri().path()) || has_key(request.headers(), keys) {
        Ok(next.run(request).await)
    } else {
        Err(ApiError::unauthorized())
    }
}

fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/health" | "/docs" | "/openapi.json") || path.starts_with("/docs/")
}

fn has_key(headers: &HeaderMap, keys: &[String]) -> bool {
    let value = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.split_once(' ')) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => keys
            .iter()
            .any(|known| is_same(known.as_bytes(), key.trim().as_bytes())),
        _ => false,
    }
}

/// Takes the same time wherever the first difference is, so that a key cannot be guessed byte by byte.
fn is_same(known: &[u8], given: &[u8]) -> bool {
    let difference = known.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
    known.len() == given.len() && std::hint::black_box(difference) == 0
}
