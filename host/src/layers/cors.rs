//! Which web pages may use the server from a browser: the check of the Host header, and CORS.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{app::App, error::ApiError, text::quoted};

const METHODS: &str = "GET, POST, DELETE, OPTIONS";
const EXPOSED: &str = "x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";
/// Seconds for which a browser remembers the answer to a preflight request.
const MAX_AGE: &str = "3600";

/// Chrome asks with this header before a public page may reach an address in a private network.
const REQUEST_PRIVATE_NETWORK: &str = "access-control-request-private-network";
const ALLOW_PRIVATE_NETWORK: &str = "access-control-allow-private-network";

/// Middleware that refuses requests with a foreign name in the Host header. Otherwise a web page could make its own name
/// point here (DNS rebinding): for the browser the server would then be of the same origin as the page, and nothing else
/// would keep the page out.
pub async fn check_host(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let name = called(request.uri(), request.headers());
    let foreign = name.filter(|name| !app.now().config.server.hosts.allow(name));
    let Some(foreign) = foreign.map(|name| quoted(name).into_owned()) else {
        return Ok(next.run(request).await);
    };
    let message = format!(
        "this server is not called '{foreign}': name it in allowed_hosts ([server] in tenon.toml) if it is"
    );
    Err(ApiError::forbidden("unknown_host", message))
}

/// Middleware that tells a browser whether the asking page may use the server. Requests without an origin, such as those of
/// programs, pass unchanged.
pub async fn cors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(ORIGIN).cloned();
    let origin = origin.filter(|origin| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| app.now().config.server.origins.allow(origin))
    });
    let Some(origin) = origin else {
        return next.run(request).await;
    };
    let is_preflight =
        request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_preflight {
        true => preflight(headers),
        false => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    headers.append(VARY, HeaderValue::from_static("origin"));
    response
}

/// The answer to a preflight request, in which a browser asks what a page may do. Such a request has no key.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(METHODS),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    // Every header is allowed: clients send their own, and the server ignores them.
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if asked.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

/// The name by which a request addresses the server. Old clients send none.
fn called<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    // A header that is no text cannot be an allowed name either.
    let host = headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    uri.authority().map(|authority| authority.host()).or(host)
}
