use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::{
    body::{Body, RequestBody, read},
    lookup::{answering, served},
    sse::{SseResult, done, event, sse},
};
use crate::{
    app::App,
    error::{AdminError, AnyError, ApiError, BodyError, ModelError, RequantizeFailure},
    layers::client::Client,
    models::{LevelChange, ModelState, RequantizeError, Requantized, ServedModel},
    openai::{RequantizeProgress, RequantizeQuery, RequantizeReport, RequantizeRequest},
    plugin::ReportProgress,
};

type Changed = Result<Requantized, RequantizeError>;

/// Changes the quantization level of a model while it is being served.
///
/// By default the new weights are made from the model's file, beside the old ones. Running requests finish on the old
/// weights; later ones get the new weights. The answer comes when the change is done. If it fails, the model answers as
/// before. The change continues if the client disconnects.
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
        AdminError,
        ModelError,
        BodyError,
        RequantizeFailure,
    ),
)]
pub async fn requantize(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    query: Result<Query<RequantizeQuery>, QueryRejection>,
    Body(request): Body<RequantizeRequest>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::invalid(error.body_text()))?;
    let served = served(&app, &client, request.model.as_deref())?;
    let id = served.id.clone();
    let right = served.begin_change().await.ok_or_else(|| busy(&served))?;
    // Read only after the change was granted: before that, a change that was just ending could replace the model.
    let current = answering(&served)?;
    let keep_alive = app.now().config.server.keep_alive_interval;
    let end = app.cut_off.clone().cancelled_owned();
    let (sender, progress) = unbounded_channel();
    let (tell, metrics) = (tell(sender, app.draining.clone()), app.metrics.clone());
    let prepare = move || LevelChange::prepare(metrics, served, right, current, &request.ggml_type);
    let change = spawn_blocking(prepare).await.map_err(panicked)??;
    // From here on the change continues even without the client.
    let change = spawn_blocking(move || change.run(tell));
    match query.stream {
        true => Ok(sse(events(id, progress, change), keep_alive, end)),
        false => Ok(Json(report(&id, change.await)?).into_response()),
    }
}

/// The error for a model that another request is changing.
fn busy(served: &ServedModel) -> ApiError {
    match (served.state(), answering(served)) {
        (ModelState::Restarting(_), Err(error)) => error,
        _ => RequantizeError::Busy(served.id.clone()).into(),
    }
}

impl RequestBody for RequantizeRequest {
    fn read(fields: &Value) -> Result<Self, ApiError> {
        read(fields)
    }
}

/// Reports progress to the client, as long as it listens. Stops the change when the server stops.
fn tell(
    sender: UnboundedSender<RequantizeProgress>,
    draining: CancellationToken,
) -> ReportProgress {
    Box::new(move |fraction, message| {
        let _ = sender.send(RequantizeProgress {
            object: "requantize.progress",
            message: message.to_owned(),
            fraction,
        });
        !draining.is_cancelled()
    })
}

/// The events of a change: its progress, and at the end the report or the error.
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
