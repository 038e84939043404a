//! The chat page. Browsers get it at `/`, where other clients get the server's health. Its files are in `host/page`.

mod files;

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
            REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};

use self::files::{File, INDEX, file};
use super::{
    accept::Accepted,
    health::{Health, health},
};
use crate::{app::App, error::ApiError, openai::ErrorEnvelope};

/// With this policy the browser itself makes sure that the page loads nothing from other hosts and runs no text of a model.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of the page itself.
const PAGE_HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "accept"),
];

/// The same as /health. Browsers, whose `Accept` prefers `text/html`, get a page to chat on instead.
#[utoipa::path(
    get,
    path = "/",
    tag = "Server",
    security(()),
    responses(
        (
            status = 200,
            description = "The server answers requests.",
            content((Health = "application/json"), (String = "text/html")),
        ),
        (status = 304, description = "The browser has this page already."),
        (status = 503, description = "The server does not answer requests.", body = Health),
    ),
)]
pub async fn root(app: State<Arc<App>>, headers: HeaderMap) -> Response {
    match Accepted::new(&headers).prefers_html() {
        true => (PAGE_HEADERS, send(&INDEX, &headers)).into_response(),
        false => health(app, headers).await,
    }
}

/// Sends a file of the chat page.
#[utoipa::path(
    get,
    path = "/page/{asset}",
    tag = "Server",
    security(()),
    params(("asset" = String, Path, description = "Its name.", example = "app.js")),
    responses(
        (status = 200, description = "The file.", body = String, content_type = "*/*"),
        (status = 304, description = "The browser has this file already."),
        (status = 400, description = "The path is wrong.", body = ErrorEnvelope),
        (status = 404, description = "There is no such file.", body = ErrorEnvelope),
    ),
)]
pub async fn asset(
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(name) = name?;
    match file(&name) {
        Some(file) => Ok(send(file, &headers)),
        None => Err(ApiError::unknown_route(&format!("/page/{name}"))),
    }
}

/// Sends a file, or 304 if the browser has it already. The browser revalidates each file, so it never mixes files of two versions.
fn send(file: &File, headers: &HeaderMap) -> Response {
    let caching = [(ETAG, file.etag.as_str()), (CACHE_CONTROL, "no-cache")];
    if has_current(headers, &file.etag) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind = [
        (CONTENT_TYPE, file.content_type()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (caching, kind, file.content).into_response()
}

/// Whether `If-None-Match` names this tag.
fn has_current(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tags.any(|tag| [etag, "*"].contains(&tag.trim()))
}
