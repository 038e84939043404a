use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use tracing::info;

use crate::{
    app::App,
    error::{AdminError, AnyError},
    openai::AdminDrain,
};

/// Stops the server as SIGTERM does, for hooks that cannot send a signal.
///
/// From the first request on, `/health/ready` answers 503, while requests are still taken for `drain_delay_secs`. Then new requests
/// are refused, running ones may finish within `drain_timeout_secs`, and the process ends. Another request, or the first SIGTERM
/// after it, changes nothing.
#[utoipa::path(
    post,
    path = "/admin/drain",
    tag = "Administration",
    responses(
        (status = 202, description = "The server drains.", body = AdminDrain),
        AnyError,
        AdminError,
    ),
)]
pub async fn drain(State(app): State<Arc<App>>) -> (StatusCode, Json<AdminDrain>) {
    let begun = !app.stopping.is_cancelled();
    if begun {
        info!("stopping: an administrator drains the server");
        app.stopping.cancel();
    }
    let server = &app.now().config.server;
    let answer = AdminDrain {
        object: "admin.drain",
        begun,
        drain_delay_secs: server.drain_delay.as_secs(),
        drain_timeout_secs: server.drain_timeout.as_secs(),
    };
    (StatusCode::ACCEPTED, Json(answer))
}
