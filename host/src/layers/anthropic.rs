//! The form of answers in Anthropic's API: errors in its envelope, and the request's id in its header.

use axum::{extract::Request, http::header::HeaderName, middleware::Next, response::Response};
use tower_http::request_id::RequestId;

use crate::error::into_anthropic_form;

/// The paths of Anthropic's API begin with this.
const PREFIX: &str = "/v1/messages";
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Middleware that gives answers at Anthropic's paths the form of its API.
pub async fn anthropic_form(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(PREFIX) {
        return next.run(request).await;
    }
    let id = request.extensions().get::<RequestId>();
    let id = id.map(|id| id.header_value().clone());
    let text = id.as_ref().and_then(|id| id.to_str().ok());
    let text = text.map(str::to_owned);
    let mut response = into_anthropic_form(next.run(request).await, text);
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
