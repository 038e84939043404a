//! The middleware around all routes: each layer handles every request before its route, and every answer after it.

mod anthropic;
pub mod arrival;
pub mod auth;
pub mod client;
mod cors;
mod limits;
mod local;
mod record;
mod request_id;
mod request_log;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, Uri},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    decompression::RequestDecompressionLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::{DefaultOnResponse, OnResponse, TraceLayer},
};
use tracing::{Level, Span, info_span};

use self::{
    anthropic::anthropic_form,
    auth::require_key,
    cors::{check_host, cors},
    record::{InAccessLog, record},
    request_id::request_id,
};
use crate::{app::App, error::ApiError, text::quoted};

/// Adds the middleware of every request, the outermost first.
pub fn surround(routes: Router<Arc<App>>, app: &Arc<App>) -> Router<Arc<App>> {
    let layers = ServiceBuilder::new()
        .layer(from_fn(arrival::note))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_response(log_answer)
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(app.clone(), record))
        .layer(from_fn(anthropic_form))
        .layer(from_fn_with_state(app.clone(), check_host))
        .layer(from_fn_with_state(app.clone(), cors))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), until_cut_off))
        .layer(from_fn_with_state(app.clone(), require_key))
        // The limit applies to the decoded body.
        .layer(from_fn_with_state(app.clone(), limit_body))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true));
    routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(layers)
}

/// Limits the body to what the configuration allows at the moment.
async fn limit_body(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    DefaultBodyLimit::max(app.now().config.server.max_body_bytes).apply(&mut request);
    next.run(request).await
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::unknown_route(uri.path())
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(method.as_str(), uri.path())
}

fn span(request: &axum::http::Request<axum::body::Body>) -> Span {
    let id = request_id(request);
    let method = quoted(request.method().as_str());
    let path = quoted(request.uri().path());
    info_span!("request", %method, path = &*path, id)
}

/// Logs an answer, unless the access log has a line about its end.
fn log_answer(answer: &Response, latency: Duration, span: &Span) {
    if answer.extensions().get::<InAccessLog>().is_none() {
        let log = DefaultOnResponse::new().level(Level::INFO);
        log.on_response(answer, latency, span);
    }
}

/// Answers a request with an error if the server ends before the answer begins.
async fn until_cut_off(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = app.cut_off.cancelled() => ApiError::cut_off().into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no message");
    tracing::error!("a request's handler panicked: {text}");
    ApiError::internal("the server made a mistake; please report it").into_response()
}
