use std::sync::Arc;

use axum::{
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    error::{AnyError, ApiError},
};

/// Shows the server's metrics, in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Server",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        AnyError,
    ),
)]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let text = app
        .metrics
        .render()
        .map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
