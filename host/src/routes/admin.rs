//! Administration of the models.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use tokio::spawn;

use super::{lookup::served, models::status};
use crate::{
    app::App,
    error::{AdminError, AnyError, ApiError, ChangeFailure, ModelError},
    layers::client::Client,
    models::{self, Catalog, Change, ChangeError, LoadedModel, ModelState, ServedModel},
    openai::{
        AdminChange, AdminDownload, AdminLoadedModel, AdminModel, AdminModelList, AdminOutcome,
        AdminPlugin, ModelStatus, unix_seconds,
    },
};

/// Lists all configured models, loaded or not.
#[utoipa::path(
    get,
    path = "/admin/models",
    tag = "Administration",
    responses((status = 200, description = "The models.", body = AdminModelList), AnyError, AdminError),
)]
pub async fn list_models(State(app): State<Arc<App>>) -> Json<AdminModelList> {
    let now = app.now();
    let data = now.models.iter().map(|served| described(served));
    Json(AdminModelList {
        object: "list",
        data: data.collect(),
    })
}

/// Loads a model that is not loaded.
///
/// The answer comes when the model is loaded. Loading continues if the client disconnects.
#[utoipa::path(
    post,
    // Slashes in a model's name are written %2F.
    path = "/admin/models/{name}/load",
    tag = "Administration",
    params(("name" = String, Path, description = "Name or alias of a model, with `%2F` for slashes.")),
    responses(
        (status = 200, description = "The model is loaded.", body = AdminChange, example = json!(example(AdminOutcome::Loaded))),
        AnyError,
        AdminError,
        ModelError,
        ChangeFailure,
    ),
)]
pub async fn load_model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<AdminChange>, ApiError> {
    change(app, name, async |served, catalog| {
        models::load(&served, &catalog).await
    })
    .await
}

/// Unloads a model.
///
/// Running requests finish first; then the model's memory is freed. A model that is loaded on demand is loaded again by the next
/// request for it.
#[utoipa::path(
    post,
    path = "/admin/models/{name}/unload",
    tag = "Administration",
    params(("name" = String, Path, description = "Name or alias of a model, with `%2F` for slashes.")),
    responses(
        (status = 200, description = "The model is not loaded.", body = AdminChange, example = json!(example(AdminOutcome::Unloaded))),
        AnyError,
        AdminError,
        ModelError,
        ChangeFailure,
    ),
)]
pub async fn unload_model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<AdminChange>, ApiError> {
    change(app, name, async |served, catalog| {
        models::unload(&served, &catalog).await
    })
    .await
}

/// Loads a model again while it keeps answering.
///
/// The new instance is loaded beside the old one, at the same quantization level. Once it is loaded, new requests go to it, and
/// running requests finish on the old instance. If the new instance cannot be loaded, the old one stays.
#[utoipa::path(
    post,
    path = "/admin/models/{name}/reload",
    tag = "Administration",
    params(("name" = String, Path, description = "Name or alias of a model, with `%2F` for slashes.")),
    responses(
        (status = 200, description = "The new one is loaded.", body = AdminChange, example = json!(example(AdminOutcome::Reloaded))),
        AnyError,
        AdminError,
        ModelError,
        ChangeFailure,
    ),
)]
pub async fn reload_model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<AdminChange>, ApiError> {
    change(app, name, async |served, catalog| {
        models::reload(&served, &catalog).await
    })
    .await
}

/// Makes a change in a task of its own, so that it is finished even if the client disconnects.
async fn change<Changing: Future<Output = Result<Change, ChangeError>> + Send + 'static>(
    app: Arc<App>,
    name: Result<Path<String>, PathRejection>,
    make: impl FnOnce(Arc<ServedModel>, Catalog) -> Changing,
) -> Result<Json<AdminChange>, ApiError> {
    let Path(name) = name?;
    // An administrator may change every model.
    let everyone = Client::default();
    let (served, started) = (served(&app, &everyone, Some(&name))?, Instant::now());
    let made = spawn(make(served.clone(), app.catalog.clone())).await;
    let made = made.map_err(|error| {
        ApiError::internal(format!("the change of a model ended unexpectedly: {error}"))
    });
    Ok(Json(AdminChange {
        object: "admin.change",
        outcome: outcome(made??),
        seconds: started.elapsed().as_secs_f64(),
        model: described(&served),
    }))
}

fn outcome(change: Change) -> AdminOutcome {
    match change {
        Change::Loaded => AdminOutcome::Loaded,
        Change::AlreadyLoaded => AdminOutcome::AlreadyLoaded,
        Change::Unloaded => AdminOutcome::Unloaded,
        Change::AlreadyUnloaded => AdminOutcome::AlreadyUnloaded,
        Change::Reloaded => AdminOutcome::Reloaded,
    }
}

fn described(served: &ServedModel) -> AdminModel {
    let state = served.state();
    let (error, loaded) = match &state {
        ModelState::Ready(model) => (None, Some(loaded(model))),
        ModelState::Restarting(why) | ModelState::Failed(why) => (Some(why.clone()), None),
        ModelState::Unloaded(why) => (why.clone(), None),
        ModelState::Loading => (None, None),
    };
    AdminModel {
        id: served.id.clone(),
        aliases: served.aliases.clone(),
        state: status(served, &state),
        error,
        loads_on_request: served.loads_on_request(),
        restarts: served.restarts(),
        download: served.download().map(|progress| AdminDownload {
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
        }),
        loaded,
    }
}

fn loaded(model: &LoadedModel) -> AdminLoadedModel {
    let spec = &model.spec;
    AdminLoadedModel {
        since: unix_seconds(model.created),
        process_id: model.runner.process_id(),
        memory_bytes: model.resident_bytes(),
        plugin: AdminPlugin {
            id: spec.backend.clone(),
            version: spec.plugin_version.clone(),
            path: spec.plugin_path.display().to_string(),
        },
        quantization: model.facts().info.quantization.clone(),
        sequences: model.runner.sequences(),
    }
}

/// An example of a change, for the API's documentation.
fn example(outcome: AdminOutcome) -> AdminChange {
    let is_loaded = outcome != AdminOutcome::Unloaded;
    let loaded = AdminLoadedModel {
        since: 1_764_000_000,
        process_id: Some(4711),
        memory_bytes: Some(214_958_080),
        plugin: AdminPlugin {
            id: "org.tenon.llama-cpp".to_owned(),
            version: "1.0.0".to_owned(),
            path: "/usr/lib/tenon/plugins/libtenon_plugin_llama_cpp.so".to_owned(),
        },
        quantization: "Q4_1".to_owned(),
        sequences: 0,
    };
    AdminChange {
        object: "admin.change",
        outcome,
        seconds: 0.4,
        model: AdminModel {
            id: "SmolLM2-135M-Instruct".to_owned(),
            aliases: Vec::new(),
            state: match is_loaded {
                true => ModelStatus::Ready,
                false => ModelStatus::Unloaded,
            },
            error: None,
            loads_on_request: false,
            restarts: 0,
            download: None,
            loaded: is_loaded.then_some(loaded),
        },
    }
}
