use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;

use super::accept::Accepted;
use crate::{
    app::App,
    error::{AnyError, ApiError},
    keys::Account,
    layers::client::Client,
    metrics::MetricsFormat,
    models::ModelState,
    system::memory::resident_bytes,
};

/// Shows the server's metrics, in Prometheus' text format or in that of OpenMetrics, if `Accept` prefers it.
///
/// If there is a key for administration, each other key sees no metrics of other keys.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Server",
    responses(
        (
            status = 200,
            description = "The metrics.",
            content((String = "text/plain"), (String = "application/openmetrics-text")),
        ),
        AnyError,
    ),
)]
pub async fn metrics(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = format(&headers);
    refresh(&app).await;
    let account = client.account.as_deref();
    let key = account
        .and_then(Account::key)
        .filter(|key| !key.rights.is_admin);
    let key = key.filter(|_| app.now().config.keys.have_admin());
    let text = app
        .metrics
        .render(format, key.map(|key| key.name.as_str()))
        .map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(([(CONTENT_TYPE, format.content_type())], text).into_response())
}

/// Fetches the counts of the workers, and forgets models and keys that are gone.
pub async fn refresh(app: &App) {
    let now = app.now();
    join_all(now.models.iter().map(async |served| {
        let runner = match served.state() {
            // A request that holds the model keeps it loaded.
            ModelState::Ready(model) => Some(model.runner.clone()),
            _ => None,
        };
        if let Some(runner) = &runner {
            runner.refresh_metrics().await;
        }
        let bytes = runner.and_then(|runner| resident_bytes(runner.process_id()?));
        app.metrics.worker_uses(&served.id, bytes);
    }))
    .await;
    let models: Vec<_> = now.models.iter().map(|served| served.id.as_str()).collect();
    let keys: Vec<_> = now
        .config
        .keys
        .iter()
        .map(|key| key.name.as_str())
        .collect();
    app.metrics.keep(&models, &keys);
}

fn format(headers: &HeaderMap) -> MetricsFormat {
    match Accepted::new(headers).prefers_open_metrics() {
        true => MetricsFormat::OpenMetrics,
        false => MetricsFormat::Prometheus,
    }
}
