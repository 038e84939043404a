use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    app::App,
    layers::auth::is_trusted,
    models::{ModelState, ServedModel},
};

/// Says whether the server answers requests: 200 if it does, else 503.
#[utoipa::path(
    get,
    path = "/health",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "It does.", body = Health),
        (
            status = 503,
            description = "It does not: not yet, not any more, or because no model could be loaded.",
            body = Health,
            headers(("Retry-After" = u32, description = "Seconds after which to try again.")),
        ),
    ),
)]
pub async fn health(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let health = Health::new(&app, &app.draining, is_trusted(&app, &headers));
    answer(health.status, health)
}

/// Says whether the server wants new requests: 200 if it does, else 503. For load balancers.
///
/// A server that was told to stop wants no new requests, but still answers them until `drain_delay_secs` are over.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "Server",
    security(()),
    responses(
        (status = 200, description = "It does.", body = Probe),
        (
            status = 503,
            description = "It does not: not yet, not any more, or because no model could be loaded.",
            body = Probe,
            headers(("Retry-After" = u32, description = "Seconds after which to try again.")),
        ),
    ),
)]
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let probe = Probe::new(&app);
    answer(probe.status, probe)
}

/// Says that the process serves, whatever its status.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "Server",
    security(()),
    responses((status = 200, description = "It does.", body = Probe)),
)]
pub async fn live(State(app): State<Arc<App>>) -> Json<Probe> {
    Json(Probe::new(&app))
}

/// An answer that is 200 if requests with this status are answered, else 503.
fn answer(status: Status, body: impl Serialize) -> Response {
    let body = Json(body);
    match status {
        Status::Ok | Status::Degraded => body.into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], body).into_response(),
    }
}

/// The server's health.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Status of the whole server.
    status: Status,
    /// Status of each model.
    models: Vec<ModelHealth>,
}

impl Health {
    /// The health now. The server counts as draining once `end` is cancelled.
    fn new(app: &App, end: &CancellationToken, is_trusted: bool) -> Self {
        let now = app.now();
        let models = now.models.iter();
        let models: Vec<_> = models
            .map(|model| ModelHealth::new(model, is_trusted))
            .collect();
        let phase = match end.is_cancelled() {
            true => Phase::Draining,
            false if app.started_up.load(Ordering::Relaxed) => Phase::Serving,
            false => Phase::Starting,
        };
        let status = overall(phase, &models);
        Self { status, models }
    }
}

/// The answer to a probe: only the status.
#[derive(Debug, Serialize, ToSchema)]
pub struct Probe {
    /// Status of the whole server. It is draining as soon as it was told to stop.
    status: Status,
}

impl Probe {
    fn new(app: &App) -> Self {
        let Health { status, .. } = Health::new(app, &app.stopping, false);
        Self { status }
    }
}

/// The status of the server or of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// All models answer.
    Ok,
    /// Some models answer, the others have failed or are being loaded.
    Degraded,
    /// Models are loaded for the first time since the server was started, or no model answers before it is loaded.
    Loading,
    /// No model is loaded, and no request loads one.
    Unloaded,
    /// The server is shutting down.
    Draining,
    /// No model answers.
    Failed,
}

/// The status of the server in words, and whether it is as it should be.
pub fn server_status(app: &App) -> (&'static str, bool) {
    match Probe::new(app).status {
        Status::Ok => ("answers requests", true),
        Status::Degraded => ("answers requests, but not with all models", false),
        Status::Loading => ("is loading models", true),
        Status::Unloaded => ("has no model loaded", false),
        Status::Draining => ("is shutting down", false),
        Status::Failed => ("has no model that works", false),
    }
}

/// The error of a failed model for requests without a key. The full error may name files and plugins.
const WITHOUT_KEY: &str =
    "it failed; the log says why, and so does this page to a request with a key";

/// A model's health.
#[derive(Debug, Serialize, ToSchema)]
struct ModelHealth {
    id: String,
    status: Status,
    /// Whether a request loads the model if it is not loaded.
    #[serde(skip)]
    loads_on_request: bool,
    /// Why the model failed. If keys are configured, only a request with a key is told more than that it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl ModelHealth {
    fn new(served: &ServedModel, is_trusted: bool) -> Self {
        let (status, error) = match served.state() {
            ModelState::Ready(_) => (Status::Ok, None),
            ModelState::Loading | ModelState::Restarting(_) => (Status::Loading, None),
            ModelState::Unloaded(why) => (Status::Unloaded, why),
            ModelState::Failed(why) => (Status::Failed, Some(why)),
        };
        let told = |why| match is_trusted {
            true => why,
            false => WITHOUT_KEY.to_owned(),
        };
        Self {
            id: served.id.clone(),
            status,
            loads_on_request: served.loads_on_request(),
            error: error.map(told),
        }
    }
}

impl ModelHealth {
    /// The model's status for the status of the server: a model that is loaded on demand counts as answering.
    fn counted(&self) -> Status {
        match self.status {
            Status::Unloaded | Status::Loading if self.loads_on_request => Status::Ok,
            status => status,
        }
    }
}

/// What the server does with its models.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It loads them for the first time.
    Starting,
    /// It serves them. Some may be loaded again.
    Serving,
    /// It shuts down.
    Draining,
}

fn overall(phase: Phase, models: &[ModelHealth]) -> Status {
    let statuses = || models.iter().map(ModelHealth::counted);
    let any = |status| statuses().any(|other| other == status);
    if phase == Phase::Draining {
        Status::Draining
    } else if any(Status::Loading) && (phase == Phase::Starting || !any(Status::Ok)) {
        Status::Loading
    } else if models.is_empty() {
        // A directory of models may be empty.
        Status::Ok
    } else if !any(Status::Ok) && any(Status::Unloaded) {
        Status::Unloaded
    } else if !any(Status::Ok) {
        Status::Failed
    } else if any(Status::Failed) || any(Status::Loading) {
        Status::Degraded
    } else {
        Status::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(phase: Phase, models: &[Status], expected: Status) {
        let models = models.iter().map(|&status| ModelHealth {
            id: String::new(),
            status,
            loads_on_request: false,
            error: None,
        });
        assert_eq!(overall(phase, &models.collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_model_that_requests_load_counts_as_one_that_answers() {
        for status in [Status::Unloaded, Status::Loading] {
            let model = ModelHealth {
                id: String::new(),
                status,
                loads_on_request: true,
                error: None,
            };
            assert_eq!(overall(Phase::Starting, &[model]), Status::Ok);
        }
    }

    #[test]
    fn the_whole_is_as_good_as_its_models() {
        check(Phase::Serving, &[Status::Ok, Status::Ok], Status::Ok);
        check(
            Phase::Serving,
            &[Status::Ok, Status::Failed],
            Status::Degraded,
        );
        check(Phase::Serving, &[Status::Failed], Status::Failed);
        check(Phase::Serving, &[Status::Ok, Status::Unloaded], Status::Ok);
        check(
            Phase::Serving,
            &[Status::Failed, Status::Unloaded],
            Status::Unloaded,
        );
        check(Phase::Serving, &[], Status::Ok);
        check(Phase::Draining, &[Status::Ok], Status::Draining);
    }

    #[test]
    fn a_model_that_is_loaded_again_leaves_the_server_ready_if_another_one_answers() {
        let models = [Status::Ok, Status::Loading];
        check(Phase::Starting, &models, Status::Loading);
        check(Phase::Serving, &models, Status::Degraded);
        let models = [Status::Loading, Status::Failed];
        check(Phase::Serving, &models, Status::Loading);
    }
}
