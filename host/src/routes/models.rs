use std::{sync::Arc, time::SystemTime};

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
};

use super::lookup::{loaded, may_use, served};
use crate::{
    app::App,
    error::{AnyError, ApiError, ModelError},
    layers::client::Client,
    models::{LoadedModel, ModelState, ServedModel},
    openai::{ModelEmbeddings, ModelList, ModelObject, ModelSampling, ModelStatus, unix_seconds},
};

/// Lists the models that requests can be sent to, each with its state: those that answer, those whose worker is started again, and those
/// that are loaded on demand. Models that the request's key does not allow are left out.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    responses((status = 200, description = "The models.", body = ModelList), AnyError),
)]
pub async fn list_models(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
) -> Json<ModelList> {
    let now = app.now();
    let usable = now.models.iter().filter(|served| may_use(&client, served));
    let data = usable.filter_map(|served| listed(served));
    Json(ModelList {
        object: "list",
        data: data.collect(),
    })
}

/// Describes the model with a name or alias. A model that is loaded on demand is not loaded for it.
#[utoipa::path(
    get,
    // A model's name may have slashes in it.
    path = "/v1/models/{*name}",
    tag = "Models",
    params(("name" = String, Path, description = "Name or alias of a model.")),
    responses(
        (status = 200, description = "The model.", body = ModelObject),
        AnyError,
        ModelError,
    ),
)]
pub async fn retrieve_model(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>, ApiError> {
    let Path(name) = name?;
    let served = served(&app, &client, Some(&name))?;
    if let Some(object) = listed(&served) {
        return Ok(Json(object));
    }
    let (served, model) = loaded(&app, &client, Some(&name)).await?;
    Ok(Json(of_loaded(&served, &model)))
}

/// The state of a model in the API.
pub fn status(served: &ServedModel, state: &ModelState) -> ModelStatus {
    match state {
        ModelState::Loading if served.download().is_some() => ModelStatus::Downloading,
        ModelState::Loading => ModelStatus::Loading,
        ModelState::Ready(_) => ModelStatus::Ready,
        ModelState::Unloaded(_) => ModelStatus::Unloaded,
        ModelState::Restarting(_) => ModelStatus::Restarting,
        ModelState::Failed(_) => ModelStatus::Failed,
    }
}

/// Describes a model to which requests can be sent: they are answered at once, or wait. None for any other model.
fn listed(served: &ServedModel) -> Option<ModelObject> {
    match served.state() {
        ModelState::Ready(model) => Some(of_loaded(served, &model)),
        ModelState::Failed(_) => None,
        state => {
            let takes_requests =
                served.loads_on_request() || matches!(state, ModelState::Restarting(_));
            takes_requests.then(|| object(served, status(served, &state), served.since))
        }
    }
}

/// Describes a model without the keys that only a loaded model has.
fn object(served: &ServedModel, state: ModelStatus, created: SystemTime) -> ModelObject {
    ModelObject {
        id: served.id.clone(),
        object: "model",
        created: unix_seconds(created),
        owned_by: "tenon",
        aliases: served.aliases.clone(),
        state,
        backend: None,
        architecture: None,
        parameters: None,
        quantization: None,
        requantize_levels: None,
        context_length: None,
        sampling: None,
        embeddings: None,
    }
}

fn of_loaded(served: &ServedModel, model: &LoadedModel) -> ModelObject {
    let facts = model.facts();
    let info = &facts.info;
    let embedder = facts.embedder.as_ref();
    let vectors = embedder.filter(|embedder| embedder.pair_template().is_none());
    ModelObject {
        backend: Some(model.backend().to_owned()),
        architecture: Some(info.architecture.clone()),
        parameters: Some(info.parameters),
        quantization: Some(info.quantization.clone()),
        requantize_levels: Some(info.requantize_levels.clone()),
        context_length: Some(facts.context_length()),
        sampling: Some(ModelSampling {
            temperature: info.sampling.temperature().unwrap_or(1.0),
            top_p: info.sampling.top_p().unwrap_or(1.0),
            top_k: info.sampling.top_k().unwrap_or(0),
            min_p: info.sampling.min_p().unwrap_or(0.0),
            repetition_penalty: info.sampling.repetition_penalty().unwrap_or(1.0),
        }),
        embeddings: vectors.map(|embedder| ModelEmbeddings {
            dimensions: embedder.dimensions,
            max_tokens: facts.longest_embedded(embedder),
            pooling: embedder.pooling.clone(),
        }),
        ..object(served, ModelStatus::Ready, model.created)
    }
}
