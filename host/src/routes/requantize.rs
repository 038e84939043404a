use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    answer::{answering, served},
    body::{Body, RequestBody},
    stream::{SseResult, done, event, sse},
};
use crate::{
    app::App,
    error::{AnyError, ApiError, BodyError, ModelError, RequantizeFailure},
    openai::{RequantizeProgress, RequantizeQuery, RequantizeReport, RequantizeRequest},
    plugin::ReportProgress,
    requantize::{Requantize, RequantizeError, Requantized},
};

type Changed = Result<Requantized, RequantizeError>;

/// Changes the quantization level of a model while it is being served.
///
/// The new weights are made from the model's file, beside the old ones; requests that run finish on the old, new ones go to
/// the new. The answer comes when that is done. If it fails, the model answers as before. A client that goes away does not
/// stop it.
#[utoipa::path(
    post,
    path = "/re_isq",
    tag = "Models",
    params(RequantizeQuery),
    request_body(
        content = RequantizeRequest,
        examples(
            ("Default" = (
                summary = "The default model",
                value = json!({"ggml_type": "Q4K"}),
            )),
            ("Model" = (
                summary = "A model by its name",
                value = json!({"ggml_type": "Q8_0", "model": "SmolLM2-135M-Instruct"}),
            )),
        ),
    ),
    responses(
        (
            status = 200,
            description = "The model is at the level; with `stream`, first how far it is.",
            content(
                (RequantizeReport = "application/json", example = json!({
                    "object": "requantize.report",
                    "model": "SmolLM2-135M-Instruct",
                    "from": "Q4_1",
                    "to": "Q8_0",
                    "weight_bytes_before": 96577152,
                    "weight_bytes_after": 143027328,
                    "seconds": 1.5,
                    "warnings": [
                        "the model's file is at Q4_1: Q8_0 takes more memory, but cannot restore what was lost",
                    ],
                })),
                (RequantizeProgress = "text/event-stream", example = json!({
                    "object": "requantize.progress",
                    "message": "quantizing to Q8_0",
                    "fraction": 0.25,
                })),
            ),
        ),
        AnyError,
        ModelError,
        BodyError,
        RequantizeFailure,
    ),
)]
pub async fn requantize(
    State(app): State<Arc<App>>,
    query: Result<Query<RequantizeQuery>, QueryRejection>,
    Body(request): Body<RequantizeRequest>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    let served = served(&app, request.model.as_deref())?.clone();
    let id = served.id.clone();
    let right = served.begin_change();
    let right = right.ok_or_else(|| RequantizeError::Busy(id.clone()))?;
    // Not before that: it would be the model before a change that has just ended.
    let current = answering(&served)?;
    let keep_alive = app.server.keep_alive_interval;
    let (sender, progress) = unbounded_channel();
    let tell = tell(sender, app.clone());
    let prepare = move || Requantize::prepare(app, served, right, current, &request.ggml_type);
    let change = spawn_blocking(prepare).await.map_err(panicked)??;
    // From here on it goes on without the client.
    let change = spawn_blocking(move || change.run(tell));
    match query.stream {
        true => Ok(sse(events(id, progress, change), keep_alive)),
        false => Ok(Json(report(&id, change.await)?).into_response()),
    }
}

impl RequestBody for RequantizeRequest {
    fn check(_fields: &Value) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Passes the progress on, as long as somebody listens, and stops when the server stops.
fn tell(sender: UnboundedSender<RequantizeProgress>, app: Arc<App>) -> ReportProgress {
    Box::new(move |fraction, message| {
        let _ = sender.send(RequantizeProgress {
            object: "requantize.progress",
            message: message.to_owned(),
            fraction,
        });
        !app.is_draining()
    })
}

/// How far it is, until it has ended; then what came of it.
fn events(
    id: String,
    progress: UnboundedReceiver<RequantizeProgress>,
    change: JoinHandle<Changed>,
) -> impl Stream<Item = SseResult> + Send + 'static {
    let progress = stream::unfold(progress, async |mut progress| {
        let next = progress.recv().await?;
        Some((event(next), progress))
    });
    let end = change.map(move |changed| match report(&id, changed) {
        Ok(report) => event(report),
        Err(error) => event(error.into_envelope()),
    });
    progress
        .chain(stream::once(end))
        .chain(stream::once(async { done() }))
}

fn report(
    id: &str,
    changed: Result<Changed, tokio::task::JoinError>,
) -> Result<RequantizeReport, ApiError> {
    let changed = changed.map_err(panicked)??;
    Ok(RequantizeReport {
        object: "requantize.report",
        model: id.to_owned(),
        from: changed.from,
        to: changed.to,
        weight_bytes_before: changed.weight_bytes.0,
        weight_bytes_after: changed.weight_bytes.1,
        seconds: changed.seconds,
        warnings: changed.warnings,
    })
}

fn panicked(error: tokio::task::JoinError) -> ApiError {
    ApiError::internal(format!("requantizing ended unexpectedly: {error}"))
}
