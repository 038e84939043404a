//! Restricts an address to administration, or to everything else.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use crate::{config::Scope, error::ApiError};

/// Middleware that serves only the routes of a scope.
pub async fn only(
    State(scope): State<Scope>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match has(scope, request.uri().path()) {
        true => Ok(next.run(request).await),
        false => Err(ApiError::unknown_route(request.uri().path())),
    }
}

fn has(scope: Scope, path: &str) -> bool {
    let is_admin = matches!(path, "/metrics" | "/status") || path.starts_with("/admin/");
    let is_common = path == "/re_isq" || path == "/health" || path.starts_with("/health/");
    match scope {
        Scope::Everything => true,
        Scope::Clients => !is_admin,
        Scope::Administration => is_admin || is_common,
    }
}
