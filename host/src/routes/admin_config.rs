//! Administration of the configuration.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    app::App,
    error::{AdminError, AnyError, ApiError, ConfigFailure},
    models::ModelChanges,
    openai::{AdminConfig, AdminFailedModel, AdminModelChanges},
    rereading::Reread,
};

/// Reads the configuration again, and applies the settings that can change while the server runs.
///
/// API keys, limits and the list of models take effect at once. The answer comes when new models, and models with changed
/// settings, are loaded; the latter are loaded beside their old instances. A configuration with mistakes changes nothing. A
/// certificate with mistakes stays as it is, and all else takes effect.
#[utoipa::path(
    post,
    path = "/admin/config/reload",
    tag = "Administration",
    responses(
        (status = 200, description = "The configuration was read again.", body = AdminConfig, example = json!(example())),
        AnyError,
        AdminError,
        ConfigFailure,
    ),
)]
pub async fn reload_config(State(app): State<Arc<App>>) -> Result<Json<AdminConfig>, ApiError> {
    let reread = app.rereading.order().await;
    // The reader is dropped when the server ends.
    let reread = reread.map_err(|_| ApiError::draining())?;
    let reread = reread.map_err(ApiError::invalid_config)?;
    Ok(Json(told(reread)))
}

fn told(reread: Reread) -> AdminConfig {
    let ModelChanges {
        added,
        removed,
        reloaded,
        changed,
        needs_restart,
        failed,
    } = reread.models;
    let failed = failed.into_iter();
    AdminConfig {
        object: "admin.config",
        changed: reread.changed,
        needs_restart: reread.needs_restart,
        certificate_failed: reread.certificate_failed,
        models: AdminModelChanges {
            added,
            removed,
            reloaded,
            changed,
            needs_restart,
            failed: failed
                .map(|(id, error)| AdminFailedModel { id, error })
                .collect(),
        },
    }
}

/// An example of an answer, for the API's documentation.
fn example() -> AdminConfig {
    told(Reread {
        changed: vec!["server.api_keys".to_owned()],
        needs_restart: vec!["server.port".to_owned()],
        certificate_failed: None,
        models: ModelChanges {
            added: vec!["SmolLM2-360M-Instruct".to_owned()],
            reloaded: vec!["SmolLM2-135M-Instruct".to_owned()],
            ..ModelChanges::default()
        },
    })
}
